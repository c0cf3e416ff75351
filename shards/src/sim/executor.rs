//! The simulator's executor: all shards on one thread, the next task drawn from the seed, time that only moves by itself.
//!
//! Guarantees: the order of polls is a function of the seed and of what the tasks do; a timer never fires early; a run ends
//! with an outcome that names a livelock (step limit) and a deadlock (nothing ready, no timer) instead of hanging. Does not run
//! shards in parallel and does not interrupt a poll, except where the disk stops the process between two of its calls.

use super::disk::{Crash, SimDisk};
use super::env::SimEnv;
use super::prng::{Prng, mix};
use super::stream::Pipe;
use crate::env::{Monotonic, ShardId, Timestamp};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Polls after which a run counts as a livelock, unless [`Simulation::set_step_limit`] says otherwise.
const STEP_LIMIT_DEFAULT: u64 = 10_000_000;
/// A poll takes this much virtual time at most, so that busy tasks race with timers.
const POLL_NANOS_MAX: u64 = 4_000;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The condition held.
    Reached,
    /// The virtual time was used up.
    TimeOut,
    /// Nothing was ready and no timer was set: a deadlock, or all tasks ended.
    Stuck,
    /// The step limit was used up: a livelock.
    StepLimit,
    /// The disk stopped the process at the operation that [`SimDisk::crash_after`] named.
    Crashed,
}

struct TaskEntry {
    shard: ShardId,
    name: &'static str,
    future: Option<Task>,
    waker: Waker,
}

#[derive(Default)]
struct ReadyQueue {
    tasks: Mutex<Vec<u64>>,
}

impl ReadyQueue {
    fn push(&self, task: u64) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
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

/// What the environments of all shards share.
pub(super) struct Core {
    pub(super) seed: u64,
    pub(super) disk: SimDisk,
    pub(super) pipe: Rc<RefCell<Pipe>>,
    /// Draws of the environments: delays, used slices.
    pub(super) chance: RefCell<Prng>,
    /// What [`crate::env::Env::random`] hands out, per shard.
    pub(super) random: RefCell<BTreeMap<ShardId, Prng>>,
    /// The life of the process; an environment of an earlier one is void.
    pub(super) process: Cell<u64>,
    now: Cell<u64>,
    next_task: Cell<u64>,
    next_timer: Cell<u64>,
    tasks: RefCell<BTreeMap<u64, TaskEntry>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    ready: Arc<ReadyQueue>,
}

impl Core {
    pub(super) fn now(&self) -> Monotonic {
        Monotonic(self.now.get())
    }

    pub(super) fn spawn(&self, shard: ShardId, name: &'static str, future: Task) {
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

    fn set_now(&self, nanos: u64) {
        self.now.set(nanos);
        self.disk.set_now(Monotonic(nanos));
    }

    fn fire_timers(&self) {
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

/// A simulated machine: shards, clock and disk, all a function of one seed.
pub struct Simulation {
    core: Rc<Core>,
    schedule: Prng,
    /// The shard passed over while others have work, and for how many more polls.
    starved: (ShardId, u64),
    shards_max: u16,
    steps: u64,
    step_limit: u64,
    trace: u64,
}

impl Simulation {
    /// A machine with an empty disk.
    pub fn new(seed: u64) -> Simulation {
        Simulation::with_disk(seed, SimDisk::new(seed))
    }

    /// A machine with a disk that has seen something before.
    pub fn with_disk(seed: u64, disk: SimDisk) -> Simulation {
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
        };
        core.set_now(1_000_000_000);
        Simulation {
            core: Rc::new(core),
            schedule: Prng::new(seed, "schedule"),
            starved: (ShardId(0), 0),
            shards_max: 1,
            steps: 0,
            step_limit: STEP_LIMIT_DEFAULT,
            trace: 0,
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.core.seed
    }

    /// The environment of a shard, of the present life of the process.
    pub fn env(&mut self, shard: ShardId) -> SimEnv {
        self.shards_max = self.shards_max.max(shard.0 + 1);
        SimEnv::new(Rc::clone(&self.core), shard)
    }

    /// The disk as a test sees it: it outlives every crash.
    pub fn disk(&self) -> &SimDisk {
        &self.core.disk
    }

    /// The virtual time.
    pub fn now(&self) -> Monotonic {
        self.core.now()
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        self.core.disk.wall()
    }

    /// Polls so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Polls after which a run counts as a livelock.
    pub fn set_step_limit(&mut self, steps: u64) {
        self.step_limit = steps;
    }

    /// A stream of random numbers of this seed for a test's own purpose.
    pub fn prng(&self, salt: &str) -> Prng {
        Prng::new(self.core.seed, salt)
    }

    /// A hash of everything that happened in its order: equal for equal seeds and programs.
    pub fn trace_hash(&self) -> u64 {
        mix(self.trace ^ self.core.disk.trace_hash())
    }

    /// Writes to the standard input of the process.
    pub fn stdin_write(&self, bytes: &[u8]) {
        self.core.pipe.borrow_mut().write(bytes);
    }

    /// Closes the writing end of the standard input.
    pub fn stdin_close(&self) {
        self.core.pipe.borrow_mut().close();
    }

    /// The tasks that exist, for a failure's message: shard and name.
    pub fn tasks(&self) -> Vec<(ShardId, &'static str)> {
        self.core.tasks.borrow().values().map(|entry| (entry.shard, entry.name)).collect()
    }

    /// Runs until `condition` holds, looking after each poll, for at most `virtual_time`.
    pub fn run_until(&mut self, mut condition: impl FnMut() -> bool, virtual_time: Duration) -> Outcome {
        let end = self.now().after(virtual_time).0;
        let first_step = self.steps;
        loop {
            if self.core.disk.crashed() {
                return Outcome::Crashed;
            }
            if condition() {
                return Outcome::Reached;
            }
            if self.steps - first_step >= self.step_limit {
                return Outcome::StepLimit;
            }
            if self.core.now.get() >= end {
                return Outcome::TimeOut;
            }
            if let Some(outcome) = self.step(end) {
                return outcome;
            }
        }
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, virtual_time: Duration) -> Outcome {
        self.run_until(|| false, virtual_time)
    }

    /// Runs as [`Simulation::run_until`] does, and panics with the seed where the condition is not reached.
    pub fn must(&mut self, what: &str, condition: impl FnMut() -> bool, virtual_time: Duration) {
        let outcome = self.run_until(condition, virtual_time);
        assert!(
            outcome == Outcome::Reached,
            "seed {}: not reached: {what}: {outcome:?} at {:?} after {} polls; tasks: {:?}",
            self.core.seed,
            Duration::from_nanos(self.core.now.get()),
            self.steps,
            self.tasks()
        );
    }

    /// Polls at most `count` tasks; fewer when nothing is left to do.
    pub fn run_steps(&mut self, count: u64) -> Outcome {
        for _ in 0..count {
            if self.core.disk.crashed() {
                return Outcome::Crashed;
            }
            if let Some(outcome) = self.step(u64::MAX) {
                return outcome;
            }
        }
        Outcome::Reached
    }

    /// The process dies at once: all tasks are gone, what the disk keeps is decided by `kind`. Nothing that a task's
    /// destructor does reaches the disk. Environments from before are void; take new ones.
    pub fn crash(&mut self, kind: Crash) {
        self.core.process.set(self.core.process.get() + 1);
        self.core.disk.crash(kind);
        // Destructors may spawn and wake: they find the lists unborrowed, and what they add is dropped in the next round.
        loop {
            let tasks = self.core.tasks.take();
            let timers = self.core.timers.take();
            if tasks.is_empty() && timers.is_empty() {
                break;
            }
            drop(tasks);
            drop(timers);
        }
        self.core.ready.tasks.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.core.pipe.borrow_mut().forget_reader();
        self.trace = mix(self.trace ^ 0xc7a5);
    }

    /// The process is killed; the page cache survives.
    pub fn crash_shards(&mut self) {
        self.crash(Crash::Process);
    }

    /// One poll, or one jump of the clock that goes no further than `end`.
    fn step(&mut self, end: u64) -> Option<Outcome> {
        self.core.fire_timers();
        let Some(task) = self.draw() else {
            let next = self.core.timers.borrow().keys().next().map(|key| key.0);
            return match next {
                Some(deadline) if deadline > end => {
                    self.core.set_now(end);
                    Some(Outcome::TimeOut)
                }
                Some(deadline) => {
                    self.core.set_now(deadline);
                    None
                }
                None => Some(Outcome::Stuck),
            };
        };
        self.poll(task);
        None
    }

    /// The next ready task, drawn from the seed.
    fn draw(&mut self) -> Option<u64> {
        let mut ready = self.core.ready.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        let tasks = self.core.tasks.borrow();
        ready.retain(|task| tasks.contains_key(task));
        if ready.is_empty() {
            return None;
        }
        if self.starved.1 == 0 && self.schedule.one_in(200) {
            let shard = ShardId(self.schedule.below(u64::from(self.shards_max)) as u16);
            self.starved = (shard, self.schedule.below(200));
        }
        self.starved.1 = self.starved.1.saturating_sub(1);
        let starved = (self.starved.1 > 0).then_some(self.starved.0);
        let eligible = |task: &u64| tasks.get(task).is_some_and(|entry| Some(entry.shard) != starved);
        let candidates: Vec<usize> = (0..ready.len()).filter(|&at| eligible(&ready[at])).collect();
        let at = match candidates.len() {
            0 => self.schedule.index(ready.len()),
            length => candidates[self.schedule.index(length)],
        };
        Some(ready.swap_remove(at))
    }

    fn poll(&mut self, task: u64) {
        let Some((mut future, waker, shard)) = self.core.tasks.borrow_mut().get_mut(&task).and_then(|entry| {
            let future = entry.future.take()?;
            Some((future, entry.waker.clone(), entry.shard))
        }) else {
            return;
        };
        self.steps += 1;
        self.core.set_now(self.core.now.get() + self.schedule.between(200, POLL_NANOS_MAX));
        self.trace = mix(self.trace ^ mix(task) ^ self.core.now.get() ^ (u64::from(shard.0) << 48));
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(()) => {
                let entry = self.core.tasks.borrow_mut().remove(&task);
                drop(future);
                drop(entry);
            }
            Poll::Pending => {
                if let Some(entry) = self.core.tasks.borrow_mut().get_mut(&task) {
                    entry.future = Some(future);
                }
            }
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the simulation that failed: seed {}, {} polls", self.core.seed, self.steps);
            return;
        }
        // Tasks hold environments and those hold the core: the circle has to be cut by hand.
        self.crash(Crash::Process);
    }
}
