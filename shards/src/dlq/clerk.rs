//! The clerk: stores the dead letters of one shard's tasks.
//!
//! Guarantees: when [`Clerk::keep`] returns, or a submitted parcel is settled, each letter is in the store, or was dropped by
//! its policy and counted, or was abandoned by its caller. Letters that are submitted while the store is busy are stored
//! together with the next sync. If the disk fails, the clerk retries, and the owner of the letters waits. Nothing blocks the
//! executor.
//!
//! Does not open the store before a task needs it: a queue that cannot be opened affects no task without letters.

use super::letter::{self, Letters};
use super::store::{Appended, Holding, Store};
use super::{Options, Parcel, WhenFull};
use crate::counters::ShardCounters;
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
    handed_in: Signal,
    /// The store has finished an attempt.
    answered: Event,
    /// Whether the log message that the queue is full has been written.
    told: Cell<bool>,
}

impl<E: Env> Clerk<E> {
    /// Creates a clerk, the task that stores letters and the task that seals segments.
    pub fn start(parts: ClerkParts<E>) -> Rc<Clerk<E>> {
        let ClerkParts { env, data_dir, shards, options, counters } = parts;
        let last = Cell::new(env.now());
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
            handed_in: Signal::new(),
            answered: Event::new(),
            told: Cell::new(false),
        });
        let (storing, tending) = (clerk.clone(), clerk.clone());
        clerk.env.spawn("dead letter writes", async move { storing.store_all().await });
        clerk.env.spawn("dead letters", async move { tending.tend().await });
        clerk
    }

    /// Accepts a parcel, which is stored together with others. `told` is raised when it is settled. If its owner drops the
    /// parcel in the meantime, it may be stored or not.
    pub fn hand_in(&self, parcel: &Rc<Parcel>, told: &Arc<Signal>) {
        parcel.hand_in();
        if !parcel.is_settled() {
            self.waiting.borrow_mut().push_back((parcel.clone(), Some(told.clone())));
            self.handed_in.notify();
        }
    }

    /// Stores `letters`, which is empty afterwards. Waits for as long as the disk fails or the policy requires it, but then
    /// only until `enough` completes.
    pub async fn keep(&self, letters: &mut Letters, enough: impl Future<Output = ()>) -> Kept {
        let parcel = Rc::new(Parcel::default());
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
        }
        let dropped = parcel.dropped().len() as u64;
        Kept { stored: parcel.stored(), dropped, left: parcel.left() }
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
                self.handed_in.wait().await;
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
            let refused = match answer {
                Ok((Ok(done), group)) => {
                    (letters, ends) = group;
                    self.count(&done);
                    self.deal(&letters, &done);
                    !done.waiting.is_empty()
                }
                Ok((Err(error), _)) | Err(error) => {
                    tracing::warn!(%error, "a dead letter cannot be stored: its event waits, and storing is retried");
                    true
                }
            };
            self.answer();
            if refused {
                or(self.env.sleep(RETRY), self.handed_in.wait()).await;
            }
        }
    }

    /// Collects parcels whose letters are stored together next. Returns whether there is any.
    fn gather(&self, letters: &mut Vec<u8>, ends: &mut Vec<usize>) -> bool {
        letters.clear();
        ends.clear();
        let (mut waiting, mut in_hand) = (self.waiting.borrow_mut(), self.in_hand.borrow_mut());
        while let Some((parcel, told)) = waiting.pop_front() {
            // The owner has dropped it, so nothing waits for it.
            if Rc::strong_count(&parcel) == 1 || parcel.is_withdrawn() {
                continue;
            }
            if !letters.is_empty() && letters.len() + parcel.rest().len() > LETTER_GROUP_BYTES {
                waiting.push_front((parcel, told));
                break;
            }
            letters.extend_from_slice(&parcel.rest());
            ends.push(letters.len());
            in_hand.push((parcel, told));
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

    /// Returns settled parcels to their owners. The others wait again, at the front.
    fn answer(&self) {
        let mut waiting = self.waiting.borrow_mut();
        for (parcel, told) in self.in_hand.borrow_mut().drain(..).rev() {
            parcel.end_attempt();
            if !parcel.is_settled() {
                waiting.push_front((parcel, told));
            } else if let Some(told) = told {
                told.notify();
            }
        }
        drop(waiting);
        self.answered.notify(usize::MAX);
    }

    fn count(&self, done: &Appended) {
        let dropped = done.dropped.len() as u64;
        self.counters.dead_letter_syncs.add(1);
        self.counters.dead_letters.add(done.stored);
        self.counters.dead_letters_dropped.add(done.removed + dropped);
        let is_full = !done.waiting.is_empty();
        if is_full {
            self.counters.dead_letters_full.add(1);
        }
        let lost = done.removed + dropped;
        let told = self.told.replace(is_full);
        if lost > 0 {
            let policy = if self.options.when_full == WhenFull::DropOldest { "drop_oldest" } else { "drop_newest" };
            tracing::warn!(letters = lost, policy, "the dead letter queue is full: letters are dropped");
        } else if is_full && !told {
            tracing::warn!(
                "the dead letter queue is full: inputs and outputs with dead letters wait; replay or purge letters (tailwater \
                 dlq), raise dlq.max_bytes, or change dlq.when_full"
            );
        }
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
        let (result, Holding { bytes, open }) = done.await?;
        self.counters.dead_letter_bytes.set(bytes);
        self.counters.dead_letters_open.set(u64::from(open));
        Ok(result)
    }

    async fn tend(&self) {
        while !self.closing.get() {
            let idle = self.env.now().since(self.last.get()) >= IDLE;
            let period = match self.with_store(move |store| store.tend(idle)).await {
                Ok(_) if self.counters.dead_letters_open.get() > 0 => Some(TEND),
                Ok(_) if self.counters.dead_letter_bytes.get() > 0 => Some(TEND_SEALED),
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
