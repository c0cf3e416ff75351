//! The implementation of the `env` interface on a real machine: an io_uring executor per shard, the kernel's clocks, files and
//! watches.
//!
//! Guarantees: types of the executor library stay inside this folder. Nothing here blocks the executor except what the
//! interface allows. An accept, a read or a sync that has been submitted is never cancelled by this code.
//!
//! Each shard has its own threads for work that may block (`jobs`). A job that waits for long (a dead network mount, a terminal
//! that reads nothing) occupies a thread of its pool. If all threads for plugins are occupied, other jobs of plugins wait, and
//! the WAL continues. Neither a name that hangs nor a server that does not accept occupies one of them: names have threads of
//! their own, and connects need none.
//!
//! Does not restart anything: a panic that reaches this module aborts the process, and recovery from disk follows.

#[allow(unsafe_code, reason = "descriptors, mappings and system calls that the standard library does not provide")]
mod disk;
mod drive;
#[allow(unsafe_code, reason = "a mapped page that cannot be read raises a signal")]
mod fault;
mod jobs;
#[allow(unsafe_code, reason = "names are resolved by calls that the standard library does not have")]
mod located;
#[allow(unsafe_code, reason = "locks that only writers can hold are a bare system call")]
mod locks;
#[allow(unsafe_code, reason = "a mapping is memory that the kernel fills")]
mod map;
mod memory;
#[allow(unsafe_code, reason = "sockets change their owner by descriptor")]
mod net;
#[allow(unsafe_code, reason = "the probe asks the kernel directly, before the executor library may panic")]
mod probe;
mod pulse;
mod resources;
#[allow(unsafe_code, reason = "reads a descriptor that it does not own")]
mod stream;
#[allow(unsafe_code, reason = "clocks, random bits and limits are bare system calls")]
mod system;
#[cfg(test)]
mod tests;
#[allow(unsafe_code, reason = "reads the watch's descriptor through the ring")]
mod watch;

pub use disk::{RealDisk, RealFile, RealLock};
pub use drive::{Drivers, LaunchError, Stopper, launch};
pub use fault::install as install_map_fault_handler;
pub use located::RealLocated;
pub use map::RealMap;
pub use net::{Closer, Connection, Listener};
pub use probe::{Cause, Finding, Probe, Refusal, State, allowed_cpus, io_uring_allowed, probe};
pub use pulse::PulseReading;
pub use resources::{Resources, resources};
pub use stream::DescriptorStream;
pub use system::{keep_memory_private, raise_open_files, user_and_group};
pub use watch::DirectoryWatch;

use crate::env::{Env, Monotonic, Pool, ShardId, Timestamp};
use crate::limits;
use futures_lite::FutureExt;
use glommio::timer::Timer;
use jobs::Jobs;
use pulse::Pulse;
use std::cell::Cell;
use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// The shortest timer that gives the reactor a turn. A timer of zero expires before it reaches the reactor and starves it.
const TURN: Duration = Duration::from_micros(1);

/// Long sleeps end on whole milliseconds. Sleeps that end at about the same time then wake the executor once, which costs about
/// as much as a hundred microseconds of work.
const LONG_SLEEP: Duration = Duration::from_millis(100);
const GRID: Duration = Duration::from_millis(1);

/// `duration`, or slightly more, so that it ends together with others.
fn together(duration: Duration) -> Duration {
    if duration < LONG_SLEEP {
        return duration;
    }
    let end = system::monotonic().after(duration);
    duration + end.until_next(GRID)
}

/// One shard's access to the real machine. Created by [`launch`], one for each executor.
#[derive(Clone)]
pub struct GlommioEnv {
    inner: Rc<Inner>,
}

struct Inner {
    shard: ShardId,
    disk: RealDisk,
    random: Cell<u64>,
    reactor_turn: Cell<Monotonic>,
    pulse: Arc<Pulse>,
    stopper: Stopper,
    jobs: Rc<Jobs>,
}

impl GlommioEnv {
    fn new(shard: ShardId, pulse: Arc<Pulse>, stopper: Stopper, jobs: Rc<Jobs>) -> io::Result<GlommioEnv> {
        Ok(GlommioEnv {
            inner: Rc::new(Inner {
                shard,
                disk: RealDisk::new(),
                random: Cell::new(system::seed()?),
                reactor_turn: Cell::new(system::monotonic()),
                pulse,
                stopper,
                jobs,
            }),
        })
    }

    /// Completes after [`Stopper::stop`] was called.
    pub fn stopped(&self) -> impl Future<Output = ()> + 'static {
        let stopper = self.inner.stopper.clone();
        async move { stopper.stopped().await }
    }

    /// Records that the reactor has just had a turn: it completed what the current task waited for.
    fn mark_reactor_turn(&self) {
        self.inner.reactor_turn.set(system::monotonic());
    }
}

impl Env for GlommioEnv {
    type Disk = RealDisk;
    type Watch = DirectoryWatch;
    type Stream = DescriptorStream;
    type Connection = Connection;

    fn shard(&self) -> ShardId {
        self.inner.shard
    }

    fn disk(&self) -> &RealDisk {
        &self.inner.disk
    }

    fn now(&self) -> Monotonic {
        system::monotonic()
    }

    fn wall(&self) -> Timestamp {
        system::wall()
    }

    fn random(&self) -> u64 {
        // SplitMix64: one addition of state, every value once in a period of 2^64.
        let state = self.inner.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.inner.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        let task = async move {
            // The executor polls a new task inside the call, but the interface promises that the caller yields first.
            futures_lite::future::yield_now().await;
            guard(name, future).await;
        };
        glommio::spawn_local(task).detach();
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        let env = self.clone();
        async move {
            Timer::new(together(duration).max(TURN)).await;
            env.mark_reactor_turn();
        }
    }

    fn slice_used(&self) -> bool {
        let worked = system::monotonic().since(self.inner.reactor_turn.get());
        worked > Duration::from_micros(limits::SLICE_MICROS)
    }

    fn turn(&self) -> impl Future<Output = ()> + 'static {
        self.sleep(TURN)
    }

    fn touch(&self) {
        self.inner.pulse.touch();
    }

    fn blocking_in<T: Send + 'static>(
        &self,
        pool: Pool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.inner.jobs.run(pool, work)
    }

    fn discard(&self, thing: impl Send + 'static) {
        self.inner.jobs.discard(thing);
    }

    fn sync(&self, file: &Arc<RealFile>) -> impl Future<Output = io::Result<()>> + 'static {
        let env = self.clone();
        let sync = disk::sync_through_ring(Arc::clone(file));
        async move {
            let outcome = sync.await;
            env.mark_reactor_turn();
            outcome
        }
    }

    fn watch(&self) -> io::Result<DirectoryWatch> {
        DirectoryWatch::new()
    }

    fn stdin(&self) -> io::Result<DescriptorStream> {
        DescriptorStream::new(io::stdin())
    }

    fn resolve(&self, name: &str, timeout: Duration) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static {
        let late = format!("no name server has answered for `{name}` within {timeout:?}; check /etc/resolv.conf");
        let (looked_up, over) = (self.inner.jobs.look_up(name), self.sleep(timeout));
        looked_up.or(async {
            over.await;
            Err(io::Error::new(io::ErrorKind::TimedOut, late))
        })
    }

    fn connect(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = io::Result<Connection>> + 'static {
        net::connect(self.clone(), address, timeout)
    }
}

/// Runs `future`; a panic in it names the task and ends the process.
async fn guard<T>(name: &str, future: impl Future<Output = T>) -> T {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(value) => value,
        Err(_) => abort(&format!("task `{name}`")),
    }
}

/// Ends the process after a panic. The panic hook has already reported what happened. This reports where.
fn abort(place: &str) -> ! {
    // If standard error cannot be written, nothing can be done.
    let _ = writeln!(
        io::stderr(),
        "tailwater: a panic in {place} ends the process; the next start recovers from the write-ahead log"
    );
    std::process::abort();
}

/// The library's error as an error of the kernel, with its number if it has one.
fn kernel_error<T>(error: glommio::GlommioError<T>) -> io::Error {
    match error.raw_os_error() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::from(error),
    }
}
