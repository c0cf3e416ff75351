//! The clerk: keeps the letters of one shard's tasks.
//!
//! Guarantees: when [`Clerk::keep`] returns, each letter is in the store, or was dropped by its policy and is counted, or is one
//! that its caller gave up; a disk that refuses is tried again, and whoever has the letters waits; nothing blocks the executor. Does not
//! open the store before somebody can wait for it: a queue that cannot be opened stops nobody who has no letters.

use super::letter::Letters;
use super::store::{Appended, Holding, Store};
use super::{Options, WhenFull};
use crate::counters::ShardCounters;
use crate::env::{Env, Monotonic, Pool};
use crate::signal::Signal;
use futures_lite::future::or;
use std::cell::Cell;
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
}

impl<E: Env> Clerk<E> {
    /// A clerk, and the task that seals segments.
    pub fn start(parts: ClerkParts<E>) -> Rc<Clerk<E>> {
        let ClerkParts { env, data_dir, shards, options, counters } = parts;
        let last = Cell::new(env.now());
        let (news, closing) = (Signal::new(), Cell::new(false));
        let clerk =
            Rc::new(Clerk { env, data_dir, shards, options, counters, shelf: Arc::default(), news, last, closing });
        let tending = clerk.clone();
        clerk.env.spawn("dead letters", async move { tending.tend().await });
        clerk
    }

    /// Keeps `letters`, which are none afterwards. Waits as long as the disk refuses or the policy says, or until `enough`
    /// completes.
    pub async fn keep(&self, letters: &mut Letters, enough: impl Future<Output = ()>) -> Kept {
        let (mut enough, all) = (std::pin::pin!(enough), letters.count());
        let bytes = Arc::new(letters.take_bytes());
        let (mut kept, mut from, mut told) = (Kept::default(), 0, false);
        let sealed = self.counters.dead_letters_open.get() == 0;
        while from < bytes.len() {
            let (rest, now) = (bytes.clone(), self.env.wall());
            match self.with_store(move |store| store.append(&rest[from..], now)).await {
                Ok(done) => {
                    from += done.bytes;
                    kept.stored += done.stored;
                    kept.dropped += done.dropped;
                    self.count(&done, &mut told);
                    if !done.full {
                        break;
                    }
                }
                Err(error) => tracing::warn!(%error, "a dead letter cannot be stored: what it was made of waits"),
            }
            let pause = async {
                self.env.sleep(RETRY).await;
                false
            };
            let ended = async {
                enough.as_mut().await;
                true
            };
            if or(pause, ended).await {
                kept.left = all - kept.stored - kept.dropped;
                break;
            }
        }
        self.last.set(self.env.now());
        if sealed {
            self.news.notify();
        }
        kept
    }

    fn count(&self, done: &Appended, told: &mut bool) {
        self.counters.dead_letters.add(done.stored);
        self.counters.dead_letters_dropped.add(done.removed + done.dropped);
        if done.full {
            self.counters.dead_letters_full.add(1);
        }
        let lost = done.removed + done.dropped;
        if lost > 0 {
            let policy = if self.options.when_full == WhenFull::DropOldest { "drop_oldest" } else { "drop_newest" };
            tracing::warn!(letters = lost, policy, "the dead letter queue is full: letters are dropped");
        } else if done.full && !std::mem::replace(told, true) {
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

    /// Seals what is open and ends the task. After it nothing more is kept.
    pub async fn close(&self) {
        self.closing.set(true);
        self.news.notify();
        if let Err(error) = self.with_store(move |store| store.seal()).await {
            tracing::warn!(%error, "the open segment of the dead letter queue is sealed by the next start");
        }
    }
}
