//! How an executor is driven: start, heartbeat, watchdog, stop.
//!
//! Guarantees: each shard is one thread on its own cpu; a shard that parks although a task could run is found and woken within
//! about half a second while it is active, two while it is idle; two idle shards together cost less than half a millisecond
//! of cpu a second.
//!
//! Why it is needed. The executor parks without a look at its run queue when a completion that wakes no task (above all its
//! preemption timer) arrives between polling and running. So the timer is long (2 s, with turns taken by the tasks instead),
//! a tick shows that the shard lives, and a thread compares the beats and kicks a shard that stopped beating: first through a
//! signal, which wakes it like any message from outside, then through the waker of a task of that shard. A kick to a shard
//! that is merely slow does no harm.
//!
//! Does not survive a machine that delays every system call by more than the timer: then shards stall for as long as that lasts.

use super::{GlommioEnv, abort, guard, probe};
use crate::env::{Monotonic, ShardId, Timestamp};
use crate::signal::Signal;
use event_listener::Event;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than any slice: tasks give turns themselves, so preemption is only the last resort.
const PREEMPT_TIMER: Duration = Duration::from_secs(2);
/// Registered buffers serve direct I/O, which is not used; less of the user's locked-memory limit is taken.
const REGISTERED_BYTES: usize = 64 * 1024;
const TICK_ACTIVE: Duration = Duration::from_millis(100);
const TICK_IDLE: Duration = Duration::from_secs(1);
/// A shard that was touched this recently counts as active.
const ACTIVE_FOR: Duration = Duration::from_secs(1);
const WATCH_ACTIVE: Duration = Duration::from_millis(500);
const WATCH_IDLE: Duration = Duration::from_secs(2);
/// Between the first kicks of one stall. One kick nearly always suffices; later ones come at the pace of an active shard.
const WATCH_STALLED: Duration = Duration::from_millis(100);
const KICKS_FAST: u32 = 10;
/// Age of a beat that is a stall. Below the watch interval, so that one interval without a beat is enough.
const STALL_ACTIVE: Duration = Duration::from_millis(450);
const STALL_IDLE: Duration = Duration::from_millis(1800);
/// Each kick through the waker holds a reference of its task until the shard runs; their count is 15 bits wide.
const KICKS_PER_STALL_MAX: u32 = 1000;

/// Why no shard runs.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refuses io_uring; the refusal says why and what helps.
    #[error("{0}")]
    Forbidden(#[from] probe::Refusal),
    /// An executor or a thread could not be made.
    #[error("cannot start shard {shard}: {reason}")]
    Start {
        /// The shard.
        shard: u16,
        /// What the system said.
        reason: String,
    },
}

/// Asks every shard of one launch to end. Cheap to clone, may be sent to any thread.
#[derive(Clone)]
pub struct Stopper {
    state: Arc<(AtomicBool, Event)>,
}

impl Stopper {
    fn new() -> Stopper {
        Stopper { state: Arc::new((AtomicBool::new(false), Event::new())) }
    }

    /// Completes [`GlommioEnv::stopped`] on every shard. What a shard does then is up to its main future.
    pub fn stop(&self) {
        let (stopped, event) = &*self.state;
        stopped.store(true, Ordering::Release);
        event.notify(usize::MAX);
    }

    /// Whether [`Stopper::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.state.0.load(Ordering::Acquire)
    }

    pub(super) async fn stopped(&self) {
        loop {
            let listener = self.state.1.listen();
            if self.is_stopped() {
                return;
            }
            listener.await;
        }
    }
}

/// What the watchdog knows of one shard, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PulseReading {
    /// Ticks since the start.
    pub beats: u64,
    /// Times that the shard stopped beating.
    pub stalls: u64,
    /// Kicks that the watchdog gave.
    pub kicks: u64,
    /// Whether the shard has had nothing to do for a second.
    pub idle: bool,
    /// The shard's thread, zero before it runs.
    pub thread: i32,
}

/// The life sign of one shard, shared with the watchdog.
pub(super) struct Pulse {
    beats: AtomicU64,
    stalls: AtomicU64,
    kicks: AtomicU64,
    idle: AtomicBool,
    ended: AtomicBool,
    thread: AtomicI32,
    touched: AtomicU64,
    tick: Signal,
    kick: Signal,
    waker: Mutex<Option<Waker>>,
    bell: Arc<Bell>,
}

/// Wakes the watchdog before its interval is over.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
    stopped: AtomicBool,
}

impl Bell {
    fn ring(&self) {
        *lock(&self.rung) = true;
        self.changed.notify_one();
    }

    /// Waits for a ring, at most for `timeout`, and clears it.
    fn wait(&self, timeout: Duration) {
        let waited = self.changed.wait_timeout_while(lock(&self.rung), timeout, |rung| !*rung);
        let (mut rung, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *rung = false;
    }
}

impl Pulse {
    fn new(bell: Arc<Bell>) -> Pulse {
        Pulse {
            beats: AtomicU64::new(0),
            stalls: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            idle: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            thread: AtomicI32::new(0),
            touched: AtomicU64::new(monotonic().0),
            tick: Signal::new(),
            kick: Signal::new(),
            waker: Mutex::new(None),
            bell,
        }
    }

    fn reading(&self) -> PulseReading {
        PulseReading {
            beats: self.beats.load(Ordering::Relaxed),
            stalls: self.stalls.load(Ordering::Relaxed),
            kicks: self.kicks.load(Ordering::Relaxed),
            idle: self.idle.load(Ordering::Relaxed),
            thread: self.thread.load(Ordering::Relaxed),
        }
    }

    pub(super) fn touch(&self) {
        self.touched.store(monotonic().0, Ordering::Relaxed);
        if self.idle.load(Ordering::Relaxed) && self.idle.swap(false, Ordering::AcqRel) {
            self.tick.notify();
            self.bell.ring();
        }
    }

    /// Beats until the shard ends, and tells `env` each time that the reactor has just turned.
    async fn run_tick(&self, env: GlommioEnv) {
        while !self.ended.load(Ordering::Acquire) {
            self.beats.fetch_add(1, Ordering::Relaxed);
            let active = monotonic().since(Monotonic(self.touched.load(Ordering::Relaxed))) < ACTIVE_FOR;
            self.idle.store(!active, Ordering::Release);
            let interval = if active { TICK_ACTIVE } else { TICK_IDLE };
            futures_lite::future::or(self.tick.wait(), async {
                Timer::new(interval).await;
                env.mark_reactor_turn();
            })
            .await;
        }
    }

    /// What the watchdog kicks. Being woken is all that it does.
    async fn run_kicked(&self) {
        poll_fn(|context| {
            *lock(&self.waker) = Some(context.waker().clone());
            Poll::Ready(())
        })
        .await;
        while !self.ended.load(Ordering::Acquire) {
            self.kick.wait().await;
        }
        // The last waker must not be dropped by another thread while the task goes.
        *lock(&self.waker) = None;
    }

    fn kick(&self, nth: u32) {
        self.kicks.fetch_add(1, Ordering::Relaxed);
        self.kick.notify();
        if nth > 1
            && let Some(waker) = &*lock(&self.waker)
        {
            waker.wake_by_ref();
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.tick.notify();
        self.kick.notify();
    }
}

/// The running shards of one launch. Dropping it stops them and waits for them.
#[must_use = "shards run until `wait`"]
pub struct Drivers {
    threads: Vec<JoinHandle<()>>,
    pulses: Arc<Vec<Arc<Pulse>>>,
    watchdog: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
    stopper: Stopper,
}

impl Drivers {
    /// A handle that asks the shards to end.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// What the watchdog knows, a reading for each shard; callable from any thread while the shards run.
    pub fn pulses(&self) -> impl Fn() -> Vec<PulseReading> + Clone + Send + Sync + 'static {
        let pulses = Arc::clone(&self.pulses);
        move || pulses.iter().map(|pulse| pulse.reading()).collect()
    }

    /// Waits until the main future of every shard has ended, then ends the watchdog.
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic of a shard's thread aborts the process in that thread.
            let _ = thread.join();
        }
        self.bell.stopped.store(true, Ordering::Release);
        self.bell.ring();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }
}

impl Drop for Drivers {
    /// A launch that is given up (a later shard did not start) stops and joins what runs.
    fn drop(&mut self) {
        self.stopper.stop();
        self.join();
    }
}

/// Starts a shard for each entry of `cpus`, pinned to that cpu (`None` leaves it to the scheduler), and runs `main` on it.
/// Shards are numbered in the order of `cpus`. Returns when every executor is made.
pub fn launch<F, Fut>(cpus: &[Option<usize>], main: F) -> Result<Drivers, LaunchError>
where
    F: Fn(GlommioEnv) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    prepare_process();
    probe::io_uring_allowed()?;
    let main = Arc::new(main);
    let bell = Arc::new(Bell::default());
    let pulses: Vec<_> = cpus.iter().map(|_| Arc::new(Pulse::new(Arc::clone(&bell)))).collect();
    let mut drivers = Drivers {
        threads: Vec::with_capacity(cpus.len()),
        pulses: Arc::new(pulses),
        watchdog: None,
        bell,
        stopper: Stopper::new(),
    };
    // All executors exist before the first main future starts, so that a failed launch has run nothing.
    let mut gates = Vec::with_capacity(cpus.len());
    for (index, cpu) in cpus.iter().enumerate() {
        let shard = u16::try_from(index).map_err(|_| start_error(u16::MAX, &"too many shards"))?;
        let (thread, gate) = start_shard(ShardId(shard), *cpu, Arc::clone(&main), &drivers)?;
        drivers.threads.push(thread);
        gates.push(gate);
    }
    let (watched, bell) = (Arc::clone(&drivers.pulses), Arc::clone(&drivers.bell));
    let watchdog = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&watched, &bell));
    drivers.watchdog = Some(watchdog.map_err(|error| start_error(0, &error))?);
    for gate in gates {
        // A shard that is gone has aborted the process.
        let _ = gate.send(());
    }
    Ok(drivers)
}

fn start_error(shard: u16, reason: &impl std::fmt::Display) -> LaunchError {
    LaunchError::Start { shard, reason: reason.to_string() }
}

/// The thread of a shard, and the gate that lets its main future start. Dropping the gate ends the thread.
type Started = (JoinHandle<()>, mpsc::Sender<()>);

fn start_shard<F, Fut>(
    shard: ShardId,
    cpu: Option<usize>,
    main: Arc<F>,
    drivers: &Drivers,
) -> Result<Started, LaunchError>
where
    F: Fn(GlommioEnv) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let (pulse, stopper) = (Arc::clone(&drivers.pulses[shard.index()]), drivers.stopper.clone());
    let (made, wait_made) = mpsc::channel::<Result<(), String>>();
    let (gate, wait_gate) = mpsc::channel::<()>();
    let body = move || {
        let executor = match make_executor(cpu) {
            Ok(executor) => executor,
            Err(reason) => return drop(made.send(Err(reason))),
        };
        // A launcher that is gone drops the gate as well.
        let _ = made.send(Ok(()));
        if wait_gate.recv().is_err() {
            return;
        }
        let life = catch_unwind(AssertUnwindSafe(|| executor.run(live(shard, pulse, stopper, &*main))));
        match life {
            Ok(Ok(())) => {}
            Ok(Err(error)) => abort(&format!("shard {} (no random bytes from the kernel: {error})", shard.0)),
            Err(_) => abort(&format!("the executor of shard {}", shard.0)),
        }
    };
    let thread = std::thread::Builder::new().name(format!("shard{}", shard.0)).spawn(body);
    let thread = thread.map_err(|error| start_error(shard.0, &error))?;
    match wait_made.recv() {
        Ok(Ok(())) => Ok((thread, gate)),
        Ok(Err(reason)) => Err(start_error(shard.0, &reason)),
        Err(_) => Err(start_error(shard.0, &"its thread ended early")),
    }
}

fn make_executor(cpu: Option<usize>) -> Result<glommio::LocalExecutor, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder =
        LocalExecutorBuilder::new(placement).io_memory(REGISTERED_BYTES).preempt_timer(PREEMPT_TIMER).name("shard");
    // The library panics where the kernel refuses one of its calls.
    match catch_unwind(AssertUnwindSafe(|| builder.make())) {
        Ok(Ok(executor)) => Ok(executor),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the executor cannot be made here; `tailwater doctor` says what is missing".to_owned()),
    }
}

/// The life of one shard: the housekeeping around its main future.
async fn live<F, Fut>(shard: ShardId, pulse: Arc<Pulse>, stopper: Stopper, main: &F) -> io::Result<()>
where
    F: Fn(GlommioEnv) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let env = GlommioEnv::new(shard, Arc::clone(&pulse), stopper)?;
    pulse.thread.store(thread_number(), Ordering::Relaxed);
    let (ticking, ticked, kicked) = (env.clone(), Arc::clone(&pulse), Arc::clone(&pulse));
    let tick = glommio::spawn_local(async move { guard("tick", ticked.run_tick(ticking)).await });
    let kicked = glommio::spawn_local(async move { guard("kicked", kicked.run_kicked()).await });
    guard("main", main(env)).await;
    pulse.end();
    tick.await;
    kicked.await;
    // Descriptors dropped in the last moments are closed by the ring in this turn.
    Timer::new(super::TURN).await;
    Ok(())
}

/// What the watchdog remembers of one shard between two looks.
#[derive(Clone, Copy)]
struct Look {
    beats: u64,
    since: Monotonic,
    kicks: u32,
}

fn watch(pulses: &[Arc<Pulse>], bell: &Bell) {
    let mut looks = vec![Look { beats: 0, since: monotonic(), kicks: 0 }; pulses.len()];
    while !bell.stopped.load(Ordering::Acquire) {
        let stalled = looks.iter().any(|look| (1..KICKS_FAST).contains(&look.kicks));
        let kicked = looks.iter().any(|look| look.kicks > 0);
        let idle = pulses.iter().all(|pulse| pulse.idle.load(Ordering::Acquire));
        bell.wait(if stalled {
            WATCH_STALLED
        } else if idle && !kicked {
            WATCH_IDLE
        } else {
            WATCH_ACTIVE
        });
        for (index, pulse) in pulses.iter().enumerate() {
            look_at(index, pulse, &mut looks[index]);
        }
    }
}

fn look_at(shard: usize, pulse: &Pulse, look: &mut Look) {
    let now = monotonic();
    let beats = pulse.beats.load(Ordering::Relaxed);
    if beats != look.beats || pulse.ended.load(Ordering::Acquire) {
        if look.kicks > 0 {
            let stalled_ms = now.since(look.since).as_millis() as u64;
            tracing::warn!(shard, stalled_ms, kicks = look.kicks, "shard runs again");
        }
        *look = Look { beats, since: now, kicks: 0 };
        return;
    }
    // A shard that was touched a moment ago beats as soon as it runs; until then its last beat may be an idle one.
    let touched = now.since(Monotonic(pulse.touched.load(Ordering::Relaxed)));
    let idle = pulse.idle.load(Ordering::Acquire) || touched < STALL_ACTIVE;
    let age = now.since(look.since);
    if age < if idle { STALL_IDLE } else { STALL_ACTIVE } || look.kicks >= KICKS_PER_STALL_MAX {
        return;
    }
    if look.kicks == 0 {
        pulse.stalls.fetch_add(1, Ordering::Relaxed);
        let age_ms = age.as_millis() as u64;
        tracing::warn!(shard, age_ms, "shard has not turned: starved of cpu, blocked, or parked too early; waking it");
    }
    look.kicks += 1;
    pulse.kick(look.kicks);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Process-wide settings that the executors rely on. Repeating them is harmless.
fn prepare_process() {
    const MEMBARRIER_REGISTER_PRIVATE_EXPEDITED: i32 = 1 << 4;
    // SAFETY: takes two numbers and touches no memory. A refusal only makes the first park slower.
    unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_REGISTER_PRIVATE_EXPEDITED, 0, 0) };
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place for the kernel to write and to read.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit);
        }
    }
}

fn thread_number() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

pub(super) fn monotonic() -> Monotonic {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write; this clock exists on every kernel.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Monotonic(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

pub(super) fn wall() -> Timestamp {
    let nanos = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_nanos()),
        Err(before) => i64::try_from(before.duration().as_nanos()).map(|nanos| -nanos),
    };
    Timestamp(nanos.unwrap_or(i64::MAX))
}

/// Eight random bytes of the kernel.
pub(super) fn seed() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and the length describe `bytes`. Requests this small are never cut short.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize { Ok(u64::from_ne_bytes(bytes)) } else { Err(io::Error::last_os_error()) }
}
