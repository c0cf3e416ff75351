//! The simulator's executor: all shards run on one thread, the seed selects the next task, and time only moves when the
//! executor moves it.
//!
//! Guarantees: the order of polls is a function of the seed and of what the tasks do. A timer never fires early. A run ends
//! with an outcome that reports a livelock (step limit) or a deadlock (nothing ready, no timer) instead of hanging. Does not
//! run shards in parallel and does not interrupt a poll, except where the disk stops the process between two of its calls.

use super::core::Core;
use super::disk::{Crash, SimDisk};
use super::env::SimEnv;
use super::prng::{Prng, mix};
use super::world::World;
use crate::env::{Monotonic, Pool, ShardId, Timestamp};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Number of polls after which a run counts as a livelock, unless [`Simulation::set_step_limit`] sets another.
const STEP_LIMIT_DEFAULT: u64 = 10_000_000;
/// Maximum virtual time of a poll, so that busy tasks race with timers.
const POLL_NANOS_MAX: u64 = 4_000;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The condition became true.
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

/// A simulated machine: shards, clock and disk, all a function of one seed.
pub struct Simulation {
    core: Rc<Core>,
    schedule: Prng,
    /// The shard that is skipped while others have work, and for how many more polls.
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

    /// A machine with a disk that was used before.
    pub fn with_disk(seed: u64, disk: SimDisk) -> Simulation {
        Simulation {
            core: Rc::new(Core::new(seed, disk)),
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

    /// The environment of a shard in the current process.
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

    /// Sets the number of polls after which a run counts as a livelock.
    pub fn set_step_limit(&mut self, steps: u64) {
        self.step_limit = steps;
    }

    /// A stream of random numbers from this seed, for a test's own purpose.
    pub fn prng(&self, salt: &str) -> Prng {
        Prng::new(self.core.seed, salt)
    }

    /// A hash of everything that happened, in order: equal for equal seeds and programs.
    pub fn trace_hash(&self) -> u64 {
        mix(self.trace ^ self.core.disk.trace_hash())
    }

    /// Makes the next `count` jobs of `pool` never end, as on a disk or a server that is gone. Each occupies a thread of its
    /// shard for as long as the process lives. When all threads of a pool are occupied, every later job of the pool waits
    /// forever.
    pub fn hang_jobs(&self, pool: Pool, count: u64) {
        self.core.hang_jobs(pool, count);
    }

    /// Number of jobs of a pool that wait for a part of the disk that hangs (see [`SimDisk::hang`]).
    pub fn stuck_jobs(&self, shard: ShardId, pool: Pool) -> usize {
        self.core.stuck_jobs(shard, pool)
    }

    /// The world around the process.
    pub fn world(&self) -> World {
        World::new(Rc::clone(&self.core))
    }

    /// The existing tasks, for the message of a failure: shard (none for the world) and name.
    pub fn tasks(&self) -> Vec<(Option<ShardId>, &'static str)> {
        self.core.tasks.borrow().values().map(|entry| (entry.shard, entry.name)).collect()
    }

    /// Runs until `condition` is true, for at most `virtual_time`. Checks it after each poll.
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
            if self.core.now().0 >= end {
                return Outcome::TimeOut;
            }
            if let Some(outcome) = self.step(end) {
                return outcome;
            }
        }
    }

    /// Runs for this virtual time.
    pub fn run_for(&mut self, virtual_time: Duration) -> Outcome {
        self.run_until(|| false, virtual_time)
    }

    /// Runs like [`Simulation::run_until`], and panics with the seed if the condition does not become true.
    pub fn must(&mut self, what: &str, condition: impl FnMut() -> bool, virtual_time: Duration) {
        let outcome = self.run_until(condition, virtual_time);
        assert!(
            outcome == Outcome::Reached,
            "seed {}: not reached: {what}: {outcome:?} at {:?} after {} polls; tasks: {:?}",
            self.core.seed,
            Duration::from_nanos(self.core.now().0),
            self.steps,
            self.tasks()
        );
    }

    /// Polls at most `count` tasks, fewer if nothing is left to do.
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

    /// The process dies at once: all its tasks are dropped, those of the world continue, and `kind` decides what the disk
    /// keeps. Nothing that a task's destructor does reaches the disk. Earlier environments become invalid: get new ones.
    pub fn crash(&mut self, kind: Crash) {
        self.core.process.set(self.core.process.get() + 1);
        self.core.disk.crash(kind);
        self.core.drop_tasks(|entry| entry.shard.is_some());
        self.core.pipe.borrow_mut().forget_reader();
        self.trace = mix(self.trace ^ 0xc7a5);
    }

    /// The process is killed; the page cache survives.
    pub fn crash_shards(&mut self) {
        self.crash(Crash::Process);
    }

    /// One poll, or one jump of the clock, at most to `end`.
    fn step(&mut self, end: u64) -> Option<Outcome> {
        self.core.fire_timers();
        let Some(task) = self.draw() else {
            return match self.core.next_deadline() {
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

    /// The next ready task, selected by the seed.
    fn draw(&mut self) -> Option<u64> {
        let mut ready = self.core.ready();
        let tasks = self.core.tasks.borrow();
        if ready.is_empty() {
            return None;
        }
        if self.starved.1 == 0 && self.schedule.one_in(200) {
            let shard = ShardId(self.schedule.below(u64::from(self.shards_max)) as u16);
            self.starved = (shard, self.schedule.below(200));
        }
        self.starved.1 = self.starved.1.saturating_sub(1);
        let starved = (self.starved.1 > 0).then_some(self.starved.0);
        let eligible =
            |task: &u64| tasks.get(task).is_some_and(|entry| entry.shard.is_none() || entry.shard != starved);
        let candidates: Vec<usize> = (0..ready.len()).filter(|&at| eligible(&ready[at])).collect();
        let at = match candidates.len() {
            0 => self.schedule.index(ready.len()),
            length => candidates[self.schedule.index(length)],
        };
        Some(ready.swap_remove(at))
    }

    fn poll(&mut self, task: u64) {
        let Some((mut future, waker, shard, name)) = self.core.tasks.borrow_mut().get_mut(&task).and_then(|entry| {
            let future = entry.future.take()?;
            Some((future, entry.waker.clone(), entry.shard, Some(entry.name)))
        }) else {
            return;
        };
        self.steps += 1;
        self.core.set_now(self.core.now().0 + self.schedule.between(200, POLL_NANOS_MAX));
        self.trace = mix(self.trace
            ^ mix(task)
            ^ self.core.now().0
            ^ (u64::from(shard.map_or(u16::MAX, |shard| shard.0)) << 48));
        self.core.disk.polls(shard.and(name));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        self.core.disk.polls(None);
        let polled = match polled {
            Ok(polled) => polled,
            // A panic of a process that the disk has stopped is ignored. Any other panic fails the test.
            Err(_) if self.core.disk.crashed() && shard.is_some() => Poll::Ready(()),
            Err(panic) => resume_unwind(panic),
        };
        match polled {
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
        // Tasks hold environments, and environments hold the core: this reference cycle must be broken explicitly.
        self.core.process.set(self.core.process.get() + 1);
        self.core.disk.crash(Crash::Process);
        self.core.drop_tasks(|_| true);
    }
}
