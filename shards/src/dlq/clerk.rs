//! The clerk: stores the dead letters of one shard's tasks.
//!
//! Guarantees: when [`Clerk::keep`] returns, or a submitted parcel is settled, each letter is in the store, or was dropped by
//! its policy and counted, or was abandoned by its caller. Letters that are submitted while the store is busy are stored
//! together with the next sync. If the disk fails, the clerk retries, and the owner of the letters waits. Letters for which the
//! store has no space wait aside: they delay no letter of another owner. Nothing blocks the executor.
//!
//! Does not open the store before a task needs it: a queue that cannot be opened affects no task without letters.

use super::drops::Drops;
use super::letter::{self, ComponentKind, Letters};
use super::shares::Holder;
use super::store::{Appended, Holding, ParcelEnd, Store};
use super::{Options, Parcel, WhenFull};
use crate::counters::{LetterHolder, ShardCounters, Waits};
use crate::env::{Env, Monotonic, Pool};
use crate::limits::LETTER_GROUP_BYTES;
use crate::signal::Signal;
use event_listener::Event;
use futures_lite::future::or;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often to retry after a disk error or while the queue is full.
const RETRY: Duration = Duration::from_secs(1);

/// How often to maintain an open segment, and the time left if none is open.
const TEND: Duration = Duration::from_secs(1);
const TEND_SEALED: Duration = Duration::from_secs(30);

/// An open segment that has received nothing for this long is sealed, so that it needs no more maintenance.
const IDLE: Duration = Duration::from_secs(60);

/// The parts of a clerk.
pub struct ClerkParts<E: Env> {
    /// The environment.
    pub env: E,
    /// The data directory.
    pub data_dir: Arc<PathBuf>,
    /// Shards of the process.
    pub shards: usize,
    /// Settings.
    pub options: Options,
    /// The shard's counters.
    pub counters: Arc<ShardCounters>,
}

/// What happened to letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Letters in the store.
    pub stored: u64,
    /// Letters that were dropped because the queue is full.
    pub dropped: u64,
    /// Letters for which the caller stopped waiting.
    pub left: u64,
}

/// A parcel, and the signal to raise when it is settled.
type Waiting = (Rc<Parcel>, Option<Arc<Signal>>);

/// A component whose letters wait for space.
type Stuck = (ComponentKind, String, Waits);

/// The most bytes of a source's name that are told.
const SOURCE_BYTES_MAX: usize = 512;

/// The store, once it has been opened.
type Shelf<E> = Arc<Mutex<Option<Store<<E as Env>::Disk>>>>;

/// See the module. Shared by the tasks of one shard.
pub struct Clerk<E: Env> {
    env: E,
    data_dir: Arc<PathBuf>,
    shards: usize,
    options: Options,
    counters: Arc<ShardCounters>,
    /// Locked only off the executor.
    shelf: Shelf<E>,
    news: Signal,
    last: Cell<Monotonic>,
    closing: Cell<bool>,
    /// The submitted parcels, and those that the store is working on.
    waiting: RefCell<VecDeque<Waiting>>,
    in_hand: RefCell<Vec<Waiting>>,
    /// Those for which the store had no space, when they are tried again, and how many of them are due now.
    aside: RefCell<VecDeque<Waiting>>,
    again_at: Cell<Monotonic>,
    due: Cell<usize>,
    handed_in: Signal,
    /// The store has finished an attempt, and how many it has finished.
    answered: Event,
    attempts: Cell<u64>,
    /// The components with letters in the store, those whose letters wait for space, and those whose letters are dropped.
    holders: RefCell<Vec<Holder>>,
    stuck: RefCell<Vec<Stuck>>,
    drops: RefCell<Drops>,
}

impl<E: Env> Clerk<E> {
    /// Creates a clerk, the task that stores letters and the task that seals segments.
    pub fn start(parts: ClerkParts<E>) -> Rc<Clerk<E>> {
        let ClerkParts { env, data_dir, shards, options, counters } = parts;
        let last = Cell::new(env.now());
        let again_at = last.clone();
        let clerk = Rc::new(Clerk {
            env,
            data_dir,
            shards,
            options,
            counters,
            shelf: Arc::default(),
            news: Signal::new(),
            last,
            closing: Cell::new(false),
            waiting: RefCell::default(),
            in_hand: RefCell::default(),
            aside: RefCell::default(),
            again_at,
            due: Cell::new(0),
            handed_in: Signal::new(),
            answered: Event::new(),
            attempts: Cell::new(0),
            holders: RefCell::default(),
            stuck: RefCell::default(),
            drops: RefCell::default(),
        });
        let (storing, tending) = (clerk.clone(), clerk.clone());
        clerk.env.spawn("dead letter writes", async move { storing.store_all().await });
        clerk.env.spawn("dead letters", async move { tending.tend().await });
        clerk
    }

    /// Accepts a parcel, which is stored together with others. `told` is raised after each attempt to store it. If its owner
    /// drops the parcel in the meantime, it may be stored or not.
    pub fn hand_in(&self, parcel: &Rc<Parcel>, told: &Arc<Signal>) {
        parcel.hand_in();
        if !parcel.is_settled() {
            self.waiting.borrow_mut().push_back((parcel.clone(), Some(told.clone())));
            self.handed_in.notify();
        }
    }

    /// Stores `letters`, which is empty afterwards. Waits for as long as the disk fails or the policy requires it, but then
    /// only until `enough` completes. The policy is `when_full`, or else that of the queue.
    pub async fn keep(
        &self,
        letters: &mut Letters,
        when_full: Option<WhenFull>,
        enough: impl Future<Output = ()>,
    ) -> Kept {
        let parcel = Rc::new(Parcel::default());
        parcel.set_when_full(when_full);
        std::mem::swap(&mut *parcel.letters(), letters);
        parcel.hand_in();
        if !parcel.is_settled() {
            self.waiting.borrow_mut().push_back((parcel.clone(), None));
            self.handed_in.notify();
        }
        let settled = self.ended_attempt(|| parcel.is_settled());
        let tired = async {
            self.ended_attempt(|| parcel.is_tried()).await;
            enough.await;
        };
        or(settled, tired).await;
        if !parcel.is_settled() {
            parcel.withdraw();
            // Letters that the store is working on cannot be withdrawn.
            let in_hand = |(mine, _): &Waiting| Rc::ptr_eq(mine, &parcel);
            self.ended_attempt(|| !self.in_hand.borrow().iter().any(in_hand)).await;
            self.waiting.borrow_mut().retain(|waiting| !in_hand(waiting));
            self.aside.borrow_mut().retain(|waiting| !in_hand(waiting));
            self.look_who_is_stuck();
        }
        let dropped = parcel.dropped().len() as u64;
        Kept { stored: parcel.stored(), dropped, left: parcel.left() }
    }

    /// How many attempts to store letters have ended: as long as this does not change, nothing changes in any parcel.
    pub fn attempts(&self) -> u64 {
        self.attempts.get()
    }

    /// Waits until `condition` is true. It is checked after each attempt of the store.
    async fn ended_attempt(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.answered.listen().await;
        }
    }

    /// Stores submitted letters. Letters that arrive during a sync share the next one.
    async fn store_all(&self) {
        let (mut letters, mut ends) = (Vec::new(), Vec::new());
        while !self.closing.get() {
            if !self.gather(&mut letters, &mut ends) {
                self.wait_for_letters().await;
                continue;
            }
            let (sealed, now) = (self.counters.dead_letters_open.get() == 0, self.env.wall());
            let group = (std::mem::take(&mut letters), std::mem::take(&mut ends));
            let work = move |store: &mut Store<E::Disk>| Ok((store.append(&group.0, &group.1, now), group));
            let answer = self.with_store(work).await;
            self.last.set(self.env.now());
            if sealed {
                self.news.notify();
            }
            let failed = match answer {
                Ok((Ok(done), group)) => {
                    (letters, ends) = group;
                    self.count(&letters, &done);
                    self.deal(&letters, &done);
                    false
                }
                Ok((Err(error), _)) | Err(error) => {
                    tracing::warn!(%error, "a dead letter cannot be stored: its event waits, and storing is retried");
                    true
                }
            };
            self.answer(failed);
            self.look_who_is_stuck();
            if failed {
                or(self.env.sleep(RETRY), self.handed_in.wait()).await;
            }
        }
    }

    /// Waits for a parcel, or until those without space are tried again.
    async fn wait_for_letters(&self) {
        if self.aside.borrow().is_empty() {
            return self.handed_in.wait().await;
        }
        let left = self.again_at.get().since(self.env.now());
        or(self.env.sleep(left.max(Duration::from_millis(1))), self.handed_in.wait()).await;
    }

    /// Collects parcels whose letters are stored together next. Returns whether there is any.
    fn gather(&self, letters: &mut Vec<u8>, ends: &mut Vec<ParcelEnd>) -> bool {
        letters.clear();
        ends.clear();
        let (mut waiting, mut aside) = (self.waiting.borrow_mut(), self.aside.borrow_mut());
        let now = self.env.now();
        if self.due.get() == 0 && self.again_at.get() <= now {
            self.due.set(aside.len());
            self.again_at.set(now.after(RETRY));
        }
        let mut in_hand = self.in_hand.borrow_mut();
        loop {
            self.due.set(self.due.get().min(aside.len()));
            let is_due = self.due.get() > 0;
            let Some((parcel, told)) = (if is_due { aside.pop_front() } else { waiting.pop_front() }) else { break };
            // The owner has dropped it, so nothing waits for it.
            let is_wanted = Rc::strong_count(&parcel) > 1 && !parcel.is_withdrawn();
            if is_wanted && !letters.is_empty() && letters.len() + parcel.rest().len() > LETTER_GROUP_BYTES {
                if is_due {
                    aside.push_front((parcel, told))
                } else {
                    waiting.push_front((parcel, told))
                }
                break;
            }
            self.due.set(self.due.get() - usize::from(is_due));
            if is_wanted {
                letters.extend_from_slice(&parcel.rest());
                ends.push(ParcelEnd { at: letters.len(), when_full: parcel.when_full() });
                in_hand.push((parcel, told));
            }
        }
        !letters.is_empty()
    }

    /// Records in the collected parcels what happened to their letters.
    fn deal(&self, letters: &[u8], done: &Appended) {
        let (mut dropped, mut waiting) = (done.dropped.iter().peekable(), done.waiting.iter().peekable());
        let mut at = 0;
        for (parcel, _) in self.in_hand.borrow().iter() {
            let end = at + parcel.rest().len();
            let stop = waiting.next_if(|stop| **stop < end).copied().unwrap_or(end);
            while at < stop
                && let Ok(length) = letter::length(&letters[at..])
            {
                parcel.deal(length, dropped.next_if(|dropped| **dropped == at).is_some());
                at += length;
            }
            at = end;
        }
    }

    /// Returns settled parcels to their owners. The others wait: all of them in front if the disk failed, else aside until there
    /// may be space.
    fn answer(&self, failed: bool) {
        let mut waiting = self.waiting.borrow_mut();
        let mut in_hand = self.in_hand.borrow_mut();
        if !failed {
            in_hand.reverse();
        }
        while let Some((parcel, told)) = in_hand.pop() {
            parcel.end_attempt();
            if let Some(told) = &told {
                told.notify();
            }
            match parcel.is_settled() {
                true => {}
                false if failed => waiting.push_front((parcel, told)),
                false => self.aside.borrow_mut().push_back((parcel, told)),
            }
        }
        drop(waiting);
        self.attempts.set(self.attempts.get() + 1);
        self.answered.notify(usize::MAX);
    }

    fn count(&self, letters: &[u8], done: &Appended) {
        let dropped = done.dropped.len() as u64;
        self.counters.dead_letter_syncs.add(1);
        self.counters.dead_letters.add(done.stored);
        self.counters.dead_letters_dropped.add(done.removed + dropped);
        if !done.waiting.is_empty() {
            self.counters.dead_letters_full.add(1);
        }
        if done.removed > 0 {
            tracing::warn!(letters = done.removed, "the dead letter queue is full: its oldest letters are removed");
        }
        let now = self.env.wall();
        for at in &done.dropped {
            if let Ok((kind, component, _)) = letter::owner(&letters[*at..]) {
                self.drops.borrow_mut().add(kind, component, now);
            }
        }
        self.report_drops();
    }

    fn report_drops(&self) {
        if self.drops.borrow_mut().report(self.env.now()) {
            self.publish();
        }
    }

    /// Finds out whose letters wait for space, reports when that begins and ends, and publishes it.
    fn look_who_is_stuck(&self) {
        let mut stuck = self.stuck.borrow_mut();
        let now = self.env.wall();
        let before = std::mem::take(&mut *stuck);
        for (parcel, _) in self.aside.borrow().iter().filter(|(parcel, _)| !parcel.is_withdrawn()) {
            let rest = parcel.rest();
            let Ok((kind, component, source)) = letter::owner(&rest) else { continue };
            let same = |one: &&Stuck| one.0 == kind && one.1 == component;
            if stuck.iter().any(|one| same(&one)) {
                continue;
            }
            if let Some(waits) = before.iter().find(same) {
                stuck.push(waits.clone());
                continue;
            }
            let source = String::from_utf8_lossy(&source[..source.len().min(SOURCE_BYTES_MAX)]).into_owned();
            let kind_name = kind.name();
            let of_source =
                if source.is_empty() { String::new() } else { format!(" or for one of its sources, {source}") };
            tracing::warn!(
                component_id = component,
                component_kind = kind_name,
                source,
                "the {kind_name} `{component}` waits: the dead letter queue has no more space for this component{of_source}; its events \
                 wait, those of others do not. Replay or purge letters (tailwater dlq), raise dlq.max_bytes, or change dlq.when_full"
            );
            stuck.push((kind, component.to_owned(), Waits { since: now, source }));
        }
        for (kind, component, _) in &before {
            if !stuck.iter().any(|one| one.0 == *kind && one.1 == *component) {
                let kind = kind.name();
                tracing::info!(
                    component_id = component,
                    component_kind = kind,
                    "no dead letter of the {kind} `{component}` waits any more"
                );
            }
        }
        let is_same = *stuck == before;
        drop(stuck);
        if !is_same {
            self.publish();
        }
    }

    /// Publishes who holds letters, whose letters wait, and whose are dropped.
    fn publish(&self) {
        let (holders, stuck, drops) = (self.holders.borrow(), self.stuck.borrow(), self.drops.borrow());
        let waits = |kind: ComponentKind, name: &str| {
            stuck.iter().find(|one| one.0 == kind && one.1 == name).map(|(.., waits)| waits.clone())
        };
        let dropped_since = |kind: ComponentKind, name: &str| {
            drops.iter().find(|one| one.0 == kind && one.1 == name).map(|(.., since)| since)
        };
        let holder = |of: &Holder| LetterHolder {
            kind: of.kind.name(),
            name: of.name.to_string(),
            bytes: of.bytes,
            waits: waits(of.kind, &of.name),
            drops_since: dropped_since(of.kind, &of.name),
        };
        let mut all: Vec<LetterHolder> = holders.iter().map(holder).collect();
        let troubled = stuck.iter().map(|(kind, name, _)| (*kind, name.as_str()));
        for (kind, name) in troubled.chain(drops.iter().map(|(kind, name, _)| (kind, name))) {
            if !all.iter().any(|of| of.kind == kind.name() && of.name == name) {
                let (waits, drops_since) = (waits(kind, name), dropped_since(kind, name));
                let (kind, name) = (kind.name(), name.to_owned());
                all.push(LetterHolder { kind, name, bytes: 0, waits, drops_since });
            }
        }
        self.counters.letter_holders.set(all);
    }

    /// Runs `work` on the store where blocking is allowed, and then publishes what the store holds.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Store<E::Disk>) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let (shelf, disk, data_dir) = (self.shelf.clone(), self.env.disk().clone(), self.data_dir.clone());
        let (shard, shards, options) = (self.env.shard(), self.shards, self.options);
        let done = self.env.blocking_in(Pool::Log, move || -> io::Result<(T, Holding)> {
            let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
            let store = match &mut *shelf {
                Some(store) => store,
                none => none.insert(Store::open(disk, &data_dir, shard, shards, options)?),
            };
            let result = work(store)?;
            Ok((result, store.holding()))
        });
        let (result, Holding { bytes, open, holders, lost }) = done.await?;
        self.counters.dead_letters_lost.set(lost);
        self.counters.dead_letter_bytes.set(bytes);
        self.counters.dead_letters_open.set(u64::from(open));
        if *self.holders.borrow() != holders {
            self.holders.replace(holders);
            self.publish();
        }
        Ok(result)
    }

    async fn tend(&self) {
        while !self.closing.get() {
            self.report_drops();
            let idle = self.env.now().since(self.last.get()) >= IDLE;
            let period = match self.with_store(move |store| store.tend(idle)).await {
                Ok(_) if self.counters.dead_letters_open.get() > 0 => Some(TEND),
                Ok(_) if self.counters.dead_letter_bytes.get() > 0 => Some(TEND_SEALED),
                // It is still to be reported that no more letters are dropped.
                Ok(_) if self.drops.borrow().iter().next().is_some() => Some(TEND_SEALED),
                Ok(_) => None,
                Err(error) => {
                    tracing::warn!(%error, "maintenance of the dead letter queue failed and is retried");
                    Some(TEND_SEALED)
                }
            };
            let pause = async {
                match period {
                    Some(period) => self.env.sleep(self.env.now().until_next(period)).await,
                    None => std::future::pending().await,
                }
            };
            or(self.news.wait(), pause).await;
        }
    }

    /// Seals the open segment and ends the tasks. Afterwards nothing more is stored.
    pub async fn close(&self) {
        self.closing.set(true);
        self.news.notify();
        self.handed_in.notify();
        if let Err(error) = self.with_store(move |store| store.seal()).await {
            tracing::warn!(%error, "the open segment of the dead letter queue could not be sealed; the next start seals it");
        }
    }
}
