//! How an executor is driven: start, heartbeat, watchdog, stop.
//!
//! Guarantees: each shard is one thread on its own CPU. A shard that went to sleep although a task is ready is detected and
//! woken within about half a second while it is active, two seconds while it is idle, and four seconds after it has been idle
//! for ten. Two idle shards together use less than half a millisecond of CPU per second.
//!
//! Why this is needed: the executor goes to sleep without checking its run queue when a completion that wakes no task (most
//! often its preemption timer) arrives between polling and running. Therefore the timer is long (2 s, and tasks take turns
//! instead), a tick shows that the shard is alive, and a thread compares the beats and kicks a shard that stopped beating:
//! first through a signal, which wakes it like any message from outside, then through the waker of a task of that shard. A kick
//! to a shard that is merely slow does no harm.
//!
//! Does not help on a machine that delays every system call by more than the timer: shards then stall for as long as that
//! lasts.

use super::jobs::Jobs;
use super::jobs::names::Names;
use super::pulse::{Bell, Pulse, PulseReading, watch};
use super::system::prepare_process;
use super::{GlommioEnv, abort, guard, probe};
use crate::env::ShardId;
use event_listener::Event;
use glommio::timer::Timer;
use glommio::{LocalExecutorBuilder, Placement};
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than any slice: tasks take turns themselves, so preemption is only the last resort.
const PREEMPT_TIMER: Duration = Duration::from_secs(2);
/// Registered buffers are for direct I/O, which is not used. A small size uses less of the user's locked-memory limit.
const REGISTERED_BYTES: usize = 64 * 1024;

/// Why the shards could not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The kernel refuses io_uring. The refusal contains the reason and the remedy.
    #[error("{0}")]
    Forbidden(#[from] probe::Refusal),
    /// An executor or a thread could not be created.
    #[error("cannot start shard {shard}: {reason}")]
    Start {
        /// The shard.
        shard: u16,
        /// The error from the system.
        reason: String,
    },
}

/// Requests every shard of one launch to stop. Cheap to clone, can be sent to any thread.
#[derive(Clone)]
pub struct Stopper {
    state: Arc<(AtomicBool, Event)>,
}

impl Stopper {
    fn new() -> Stopper {
        Stopper { state: Arc::new((AtomicBool::new(false), Event::new())) }
    }

    /// Completes [`GlommioEnv::stopped`] on every shard. The main future of a shard decides what to do then.
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

/// The running shards of one launch. Dropping it stops them and waits for them.
#[must_use = "shards run until `wait`"]
pub struct Drivers {
    threads: Vec<JoinHandle<()>>,
    pulses: Arc<Vec<Arc<Pulse>>>,
    watchdog: Option<JoinHandle<()>>,
    bell: Arc<Bell>,
    stopper: Stopper,
    names: Arc<Names>,
}

impl Drivers {
    /// A handle that requests the shards to stop.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The watchdog's readings, one for each shard. Can be called from any thread while the shards run.
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
        self.bell.stop();
        if let Some(watchdog) = self.watchdog.take() {
            let _ = watchdog.join();
        }
    }
}

impl Drop for Drivers {
    /// If a launch is abandoned (a later shard did not start), the running shards are stopped and joined.
    fn drop(&mut self) {
        self.stopper.stop();
        self.join();
    }
}

/// Starts a shard for each entry of `cpus`, pinned to that CPU (`None` leaves it to the scheduler), and runs `main` on it.
/// Shards are numbered in the order of `cpus`. Returns when every executor has been created.
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
        names: Names::start().map_err(|error| start_error(0, &error))?,
    };
    // All executors exist before the first main future starts, so that a failed launch has run nothing.
    let mut gates = Vec::with_capacity(cpus.len());
    let mut making = Vec::with_capacity(cpus.len());
    for (index, cpu) in cpus.iter().enumerate() {
        let shard = u16::try_from(index).map_err(|_| start_error(u16::MAX, &"too many shards"))?;
        let (thread, gate, made) = start_shard(ShardId(shard), *cpu, Arc::clone(&main), &drivers)?;
        drivers.threads.push(thread);
        gates.push(gate);
        making.push((shard, made));
    }
    for (shard, made) in making {
        match made.recv() {
            Ok(Ok(())) => {}
            Ok(Err(reason)) => return Err(start_error(shard, &reason)),
            Err(_) => return Err(start_error(shard, &"its thread ended early")),
        }
    }
    let (watched, bell) = (Arc::clone(&drivers.pulses), Arc::clone(&drivers.bell));
    let watchdog = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&watched, &bell));
    drivers.watchdog = Some(watchdog.map_err(|error| start_error(0, &error))?);
    for gate in gates {
        // A shard whose thread has ended would have aborted the process.
        let _ = gate.send(());
    }
    Ok(drivers)
}

fn start_error(shard: u16, reason: &impl std::fmt::Display) -> LaunchError {
    LaunchError::Start { shard, reason: reason.to_string() }
}

/// The thread of a shard, the gate that lets its main future start, and whether its executor could be created. Dropping the
/// gate ends the thread.
type Started = (JoinHandle<()>, mpsc::Sender<()>, mpsc::Receiver<Result<(), String>>);

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
    let names = Arc::clone(&drivers.names);
    let (made, wait_made) = mpsc::channel::<Result<(), String>>();
    let (gate, wait_gate) = mpsc::channel::<()>();
    let body = move || {
        // After the executor, which pins this thread, so that jobs run on the same CPU as their shard.
        let made_all = make_executor(cpu).and_then(|executor| {
            Ok((executor, Jobs::start(shard, names).map_err(|error| format!("no thread: {error}"))?))
        });
        let (executor, jobs) = match made_all {
            Ok(made_all) => made_all,
            Err(reason) => return drop(made.send(Err(reason))),
        };
        // If the launcher is gone, it has dropped the gate as well.
        let _ = made.send(Ok(()));
        if wait_gate.recv().is_err() {
            return;
        }
        let life = catch_unwind(AssertUnwindSafe(|| executor.run(live(shard, pulse, stopper, jobs, &*main))));
        match life {
            Ok(Ok(())) => {}
            Ok(Err(error)) => abort(&format!("shard {} (no random bytes from the kernel: {error})", shard.0)),
            Err(_) => abort(&format!("the executor of shard {}", shard.0)),
        }
    };
    let thread = std::thread::Builder::new().name(format!("shard{}", shard.0)).spawn(body);
    thread.map(|thread| (thread, gate, wait_made)).map_err(|error| start_error(shard.0, &error))
}

fn make_executor(cpu: Option<usize>) -> Result<glommio::LocalExecutor, String> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    let builder =
        LocalExecutorBuilder::new(placement).io_memory(REGISTERED_BYTES).preempt_timer(PREEMPT_TIMER).name("shard");
    // The library panics where the kernel refuses one of its calls.
    match catch_unwind(AssertUnwindSafe(|| builder.make())) {
        Ok(Ok(executor)) => Ok(executor),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => {
            Err("the executor cannot be created on this machine; run `tailwater doctor` to see what is missing"
                .to_owned())
        }
    }
}

/// Runs one shard: its main future and the housekeeping around it.
async fn live<F, Fut>(shard: ShardId, pulse: Arc<Pulse>, stopper: Stopper, jobs: Rc<Jobs>, main: &F) -> io::Result<()>
where
    F: Fn(GlommioEnv) -> Fut,
    Fut: Future<Output = ()> + 'static,
{
    let env = GlommioEnv::new(shard, Arc::clone(&pulse), stopper, Rc::clone(&jobs))?;
    pulse.begin();
    let (answering, turning) = (Rc::clone(&jobs), env.clone());
    let answering = glommio::spawn_local(async move {
        guard("answers", answering.run_answers(|| turning.mark_reactor_turn())).await;
    });
    let (ticking, ticked, kicked) = (env.clone(), Arc::clone(&pulse), Arc::clone(&pulse));
    let tick = glommio::spawn_local(async move { guard("tick", ticked.run_tick(ticking)).await });
    let kicked = glommio::spawn_local(async move { guard("kicked", kicked.run_kicked()).await });
    guard("main", main(env.clone())).await;
    pulse.end();
    tick.await;
    kicked.await;
    // Waits for no job: a task that needs the result of a job has awaited it, and a job that hangs would never end.
    jobs.end();
    answering.await;
    // Descriptors dropped in the last moments are closed by the ring in this turn.
    Timer::new(super::TURN).await;
    Ok(())
}
