//! The machine under the simulated shards: tasks, ready list, timers, clock.
//!
//! Guarantees: wakers are ordinary ones, may be stored and woken anywhere, and wake nothing after their task is gone. A timer
//! is identified by its deadline and its creation order, so that equal deadlines fire in a defined order. Does not choose which
//! task runs: the executor does.

use super::disk::SimDisk;
use super::prng::Prng;
use super::stream::Pipe;
use crate::env::{Monotonic, Pool, ShardId};
use crate::limits::{FILE_THREADS, LOG_THREADS, PLUGIN_THREADS};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

type Task = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct TaskEntry {
    /// The shard on which it runs. None for a task of the world, which outlives the process.
    pub(super) shard: Option<ShardId>,
    pub(super) name: &'static str,
    /// None while it is polled.
    pub(super) future: Option<Task>,
    pub(super) waker: Waker,
}

#[derive(Default)]
struct ReadyQueue {
    tasks: Mutex<Vec<u64>>,
}

impl ReadyQueue {
    fn tasks(&self) -> MutexGuard<'_, Vec<u64>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, task: u64) {
        let mut tasks = self.tasks();
        if !tasks.contains(&task) {
            tasks.push(task);
        }
    }
}

struct TaskWaker {
    task: u64,
    ready: Arc<ReadyQueue>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.task);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self.task);
    }
}

/// State shared by the environments of all shards.
pub(super) struct Core {
    pub(super) seed: u64,
    pub(super) disk: SimDisk,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    /// Random numbers of the environments: delays, used slices.
    pub(super) chance: RefCell<Prng>,
    /// The numbers returned by [`crate::env::Env::random`], per shard.
    pub(super) random: RefCell<BTreeMap<ShardId, Prng>>,
    /// The number of the current process. Environments of earlier processes are invalid.
    pub(super) process: Cell<u64>,
    now: Cell<u64>,
    next_task: Cell<u64>,
    next_timer: Cell<u64>,
    pub(super) tasks: RefCell<BTreeMap<u64, TaskEntry>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    ready: Arc<ReadyQueue>,
    /// Number of jobs of each pool that will still hang.
    hanging: RefCell<BTreeMap<Pool, u64>>,
    /// Number of threads that such jobs occupy, by process.
    kept: RefCell<BTreeMap<(u64, ShardId, Pool), usize>>,
    /// The same for jobs that wait for a part of the disk that hangs.
    stuck: RefCell<BTreeMap<(u64, ShardId, Pool), usize>>,
}

fn threads_of(pool: Pool) -> usize {
    match pool {
        Pool::Log => LOG_THREADS,
        Pool::Plugins => PLUGIN_THREADS,
        Pool::Files => FILE_THREADS,
    }
}

impl Core {
    pub(super) fn new(seed: u64, disk: SimDisk) -> Core {
        let core = Core {
            seed,
            disk,
            pipe: Rc::default(),
            chance: RefCell::new(Prng::new(seed, "environment")),
            random: RefCell::default(),
            process: Cell::new(0),
            now: Cell::new(0),
            next_task: Cell::new(0),
            next_timer: Cell::new(0),
            tasks: RefCell::default(),
            timers: RefCell::default(),
            ready: Arc::default(),
            hanging: RefCell::default(),
            kept: RefCell::default(),
            stuck: RefCell::default(),
        };
        core.set_now(1_000_000_000);
        core
    }

    pub(super) fn now(&self) -> Monotonic {
        Monotonic(self.now.get())
    }

    pub(super) fn spawn(&self, shard: Option<ShardId>, name: &'static str, future: Task) {
        let task = self.next_task.get();
        self.next_task.set(task + 1);
        let waker = Waker::from(Arc::new(TaskWaker { task, ready: Arc::clone(&self.ready) }));
        self.tasks.borrow_mut().insert(task, TaskEntry { shard, name, future: Some(future), waker });
        self.ready.push(task);
    }

    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        let timer = self.next_timer.get();
        self.next_timer.set(timer + 1);
        Sleep { core: Rc::clone(self), key: (self.now().after(duration).0, timer) }
    }

    /// Makes the next `count` jobs of `pool` hang.
    pub(super) fn hang_jobs(&self, pool: Pool, count: u64) {
        self.hanging.borrow_mut().insert(pool, count);
    }

    /// Whether the next job never ends: it hangs, or hanging jobs occupy all threads of its pool.
    pub(super) fn hangs(&self, shard: ShardId, pool: Pool) -> bool {
        let threads = threads_of(pool);
        let mut kept = self.kept.borrow_mut();
        let kept = kept.entry((self.process.get(), shard, pool)).or_default();
        if *kept == threads {
            return true;
        }
        let mut hanging = self.hanging.borrow_mut();
        let left = hanging.entry(pool).or_default();
        let hangs = *left > 0;
        *left = left.saturating_sub(1);
        *kept += usize::from(hangs);
        hangs
    }

    /// Whether jobs that wait for the disk occupy all threads of a pool.
    pub(super) fn is_stuck(&self, shard: ShardId, pool: Pool) -> bool {
        self.stuck_jobs(shard, pool) >= threads_of(pool)
    }

    /// Number of jobs of a pool that wait for a part of the disk that hangs.
    pub(super) fn stuck_jobs(&self, shard: ShardId, pool: Pool) -> usize {
        self.stuck.borrow().get(&(self.process.get(), shard, pool)).copied().unwrap_or(0)
    }

    pub(super) fn count_stuck(&self, shard: ShardId, pool: Pool, count: impl FnOnce(&mut usize)) {
        count(self.stuck.borrow_mut().entry((self.process.get(), shard, pool)).or_default());
    }

    pub(super) fn set_now(&self, nanos: u64) {
        self.now.set(nanos);
        self.disk.set_now(Monotonic(nanos));
    }

    /// The tasks that may run, without those that are gone.
    pub(super) fn ready(&self) -> MutexGuard<'_, Vec<u64>> {
        let mut ready = self.ready.tasks();
        let tasks = self.tasks.borrow();
        ready.retain(|task| tasks.contains_key(task));
        ready
    }

    /// The deadline of the next timer.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.timers.borrow().keys().next().map(|key| key.0)
    }

    /// Drops the tasks that `which` selects.
    pub(super) fn drop_tasks(&self, which: impl Fn(&TaskEntry) -> bool) {
        // Destructors may wake tasks and end timers, so the lists must not be borrowed.
        let dropped: Vec<TaskEntry> =
            self.tasks.borrow_mut().extract_if(.., |_, entry| which(entry)).map(|(_, entry)| entry).collect();
        drop(dropped);
    }

    pub(super) fn fire_timers(&self) {
        loop {
            let due = {
                let mut timers = self.timers.borrow_mut();
                match timers.first_entry() {
                    Some(first) if first.key().0 <= self.now.get() => Some(first.remove()),
                    _ => None,
                }
            };
            match due {
                Some(waker) => waker.wake(),
                None => return,
            }
        }
    }
}

/// Completes at a virtual moment.
pub(super) struct Sleep {
    core: Rc<Core>,
    key: (u64, u64),
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.core.now.get() >= self.key.0 {
            return Poll::Ready(());
        }
        self.core.timers.borrow_mut().insert(self.key, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.core.timers.borrow_mut().remove(&self.key);
    }
}
