//! The clerk: keeps the letters of one shard's tasks.
//!
//! Guarantees: when [`Clerk::keep`] returns, or a parcel that was handed in is settled, each letter is in the store, or was
//! dropped by its policy and is counted, or is one that its caller gave up; letters that are handed in while the store is at work
//! are stored together with one sync next; a disk that refuses is tried again, and whoever has the letters waits; nothing
//! blocks the executor. Does not open the store before somebody can wait for it: a queue that cannot be opened stops nobody who
//! has no letters.

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

/// How often what a disk refused or a full queue has no room for is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often an open segment is looked after, and what is left when none is open.
const TEND: Duration = Duration::from_secs(1);
const TEND_SEALED: Duration = Duration::from_secs(30);

/// An open segment to which nothing came for so long is sealed, so that it need not be looked after.
const IDLE: Duration = Duration::from_secs(60);

/// What a clerk is made of.
pub struct ClerkParts<E: Env> {
    /// The world.
    pub env: E,
    /// The data directory.
    pub data_dir: Arc<PathBuf>,
    /// Shards of the process.
    pub shards: usize,
    /// Settings.
    pub options: Options,
    /// What the shard counts.
    pub counters: Arc<ShardCounters>,
}

/// What became of letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Letters in the store.
    pub stored: u64,
    /// Letters that were dropped since the queue is full.
    pub dropped: u64,
    /// Letters that the caller did not want to wait for.
    pub left: u64,
}

/// A parcel, and whom to tell when it is settled.
type Waiting = (Rc<Parcel>, Option<Arc<Signal>>);

/// The store, once it could be opened.
type Shelf<E> = Arc<Mutex<Option<Store<<E as Env>::Disk>>>>;

/// See the module. Shared by the tasks of one shard.
pub struct Clerk<E: Env> {
    env: E,
    data_dir: Arc<PathBuf>,
    shards: usize,
    options: Options,
    counters: Arc<ShardCounters>,
    /// Locked off the executor only.
    shelf: Shelf<E>,
    news: Signal,
    last: Cell<Monotonic>,
    closing: Cell<bool>,
    /// What was handed in, and what of it the store works on now.
    waiting: RefCell<VecDeque<Waiting>>,
    in_hand: RefCell<Vec<Waiting>>,
    handed_in: Signal,
    /// The store has answered.
    answered: Event,
    /// Whether it was said that the queue is full.
    told: Cell<bool>,
}

impl<E: Env> Clerk<E> {
    /// A clerk, the task that stores letters and the one that seals segments.
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

    /// Takes a parcel, to be stored together with what others hand in; `told` is raised when it is settled. One that its owner
    /// drops meanwhile may be stored or not.
    pub fn hand_in(&self, parcel: &Rc<Parcel>, told: &Arc<Signal>) {
        parcel.hand_in();
        if !parcel.is_settled() {
            self.waiting.borrow_mut().push_back((parcel.clone(), Some(told.clone())));
            self.handed_in.notify();
        }
    }

    /// Keeps `letters`, which are none afterwards. Waits as long as the disk refuses or the policy says, or, once that is so,
    /// until `enough` completes.
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
            // What is on its way to the store cannot be called back.
            let in_hand = |(mine, _): &Waiting| Rc::ptr_eq(mine, &parcel);
            self.ended_attempt(|| !self.in_hand.borrow().iter().any(in_hand)).await;
            self.waiting.borrow_mut().retain(|waiting| !in_hand(waiting));
        }
        let dropped = parcel.dropped().len() as u64;
        Kept { stored: parcel.stored(), dropped, left: parcel.left() }
    }

    /// Waits until `condition` holds, which is looked at when the store has answered.
    async fn ended_attempt(&self, condition: impl Fn() -> bool) {
        while !condition() {
            self.answered.listen().await;
        }
    }

    /// Stores what is handed in. What comes while a sync runs shares the next one.
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
                    tracing::warn!(%error, "a dead letter cannot be stored: what it was made of waits");
                    true
                }
            };
            self.answer();
            if refused {
                or(self.env.sleep(RETRY), self.handed_in.wait()).await;
            }
        }
    }

    /// Takes parcels in hand whose letters are stored together next. Whether there is one.
    fn gather(&self, letters: &mut Vec<u8>, ends: &mut Vec<usize>) -> bool {
        letters.clear();
        ends.clear();
        let (mut waiting, mut in_hand) = (self.waiting.borrow_mut(), self.in_hand.borrow_mut());
        while let Some((parcel, told)) = waiting.pop_front() {
            // Nobody waits for what its owner has dropped.
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

    /// Tells the parcels in hand what became of their letters.
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

    /// Gives parcels that are settled back to their owners; the others wait again, in front.
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
                "the dead letter queue is full: what has dead letters waits; replay or purge some (tailwater dlq), raise \
                 dlq.max_bytes, or choose another dlq.when_full"
            );
        }
    }

    /// Runs `work` on the store where it may block, and shows what the store holds then.
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
                    tracing::warn!(%error, "the dead letter queue cannot be looked after");
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

    /// Seals what is open and ends the tasks. After it nothing more is kept.
    pub async fn close(&self) {
        self.closing.set(true);
        self.news.notify();
        self.handed_in.notify();
        if let Err(error) = self.with_store(move |store| store.seal()).await {
            tracing::warn!(%error, "the open segment of the dead letter queue is sealed by the next start");
        }
    }
}
