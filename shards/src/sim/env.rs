//! The implementation of the `env` interface from a seed: the environment of one simulated shard.
//!
//! Guarantees: every delay, every used slice and every random number is a function of the seed. Work passed to
//! [`Env::blocking`] runs completely at a later virtual time, whether or not something still waits for it, unless
//! [`super::Simulation::hang_jobs`] or a part of the disk makes it hang. A sync covers exactly what was written before it was called. An environment
//! of a process that died does nothing any more.

use super::core::Core;
use super::disk::{SimDisk, SimFile};
use super::hanging::HangingJob;
use super::prng::Prng;
use super::stream::SimStream;
use super::watch::SimWatch;
use crate::env::{Env, Monotonic, Pool, ShardId, Timestamp};
use futures_lite::io::{AsyncRead, AsyncWrite};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Maximum time that work waits for a thread, in microseconds of virtual time.
const BLOCKING_MICROS_MAX: u64 = 2_000;

/// How often a job that hangs looks whether it may go on.
const HANGING: Duration = Duration::from_millis(50);

/// A connection of the simulated world, in which nothing listens: every attempt is refused, so no value exists.
pub enum SimConnection {}

impl AsyncRead for SimConnection {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut [u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }
}

impl AsyncWrite for SimConnection {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match *self {}
    }
}

/// One shard's environment in the simulated world.
#[derive(Clone)]
pub struct SimEnv {
    core: Rc<Core>,
    shard: ShardId,
    disk: SimDisk,
    process: u64,
}

/// A result that a job passes to the task that waits for it.
struct Slot<T> {
    value: Option<T>,
    waiter: Option<Waker>,
}

impl SimEnv {
    pub(super) fn new(core: Rc<Core>, shard: ShardId) -> SimEnv {
        let disk = core.disk.of_this_process();
        let process = core.process.get();
        SimEnv { core, shard, disk, process }
    }

    fn alive(&self) -> bool {
        self.process == self.core.process.get()
    }

    /// Runs `finish` after `delay`, whether or not something still waits, and completes with its value.
    fn later<T: 'static>(
        &self,
        name: &'static str,
        delay: Duration,
        finish: impl FnOnce() -> T + 'static,
    ) -> impl Future<Output = T> + 'static {
        self.later_async(name, delay, async move { finish() })
    }

    fn later_async<T: 'static>(
        &self,
        name: &'static str,
        delay: Duration,
        finish: impl Future<Output = T> + 'static,
    ) -> impl Future<Output = T> + 'static {
        let slot = Rc::new(RefCell::new(Slot { value: None, waiter: None }));
        let result = Rc::clone(&slot);
        let sleep = self.core.sleep(delay);
        self.spawn(name, async move {
            sleep.await;
            let value = finish.await;
            let mut slot = slot.borrow_mut();
            slot.value = Some(value);
            if let Some(waiter) = slot.waiter.take() {
                waiter.wake();
            }
        });
        poll_fn(move |context| {
            let mut slot = result.borrow_mut();
            match slot.value.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.waiter = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
    }

    /// Runs a job, for as long as what it waits for hangs.
    async fn run_job<T: Send + 'static>(
        self,
        pool: Pool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> std::thread::Result<T> {
        let run = move || catch_unwind(AssertUnwindSafe(work));
        if self.disk.hanging_changes() == 0 {
            let task = self.disk.polls(None);
            let result = run();
            self.disk.polls(task);
            return result;
        }
        while self.core.is_stuck(self.shard, pool) {
            self.core.sleep(HANGING).await;
        }
        let outcome = Arc::new(Mutex::new(None));
        let fill = outcome.clone();
        let job = HangingJob::new(move || *fill.lock().expect("nobody else has it") = Some(run()));
        let mut is_counted = false;
        loop {
            let task = self.disk.polls(None);
            let is_over = job.run();
            self.disk.polls(task);
            if is_over {
                break;
            }
            if !std::mem::replace(&mut is_counted, true) {
                self.core.count_stuck(self.shard, pool, |stuck| *stuck += 1);
            }
            let before = self.disk.hanging_changes();
            self.core.sleep(HANGING).await;
            while self.disk.hanging_changes() == before && !self.disk.is_slow() {
                self.core.sleep(HANGING).await;
            }
        }
        if is_counted {
            self.core.count_stuck(self.shard, pool, |stuck| *stuck -= 1);
        }
        let result = outcome.lock().expect("the job is over").take();
        result.expect("a job that is over has a result")
    }
}

impl Env for SimEnv {
    type Disk = SimDisk;
    type Watch = SimWatch;
    type Stream = SimStream;
    type Connection = SimConnection;

    fn shard(&self) -> ShardId {
        self.shard
    }

    fn disk(&self) -> &SimDisk {
        &self.disk
    }

    fn now(&self) -> Monotonic {
        self.core.now()
    }

    fn wall(&self) -> Timestamp {
        self.core.disk.wall()
    }

    fn random(&self) -> u64 {
        let mut streams = self.core.random.borrow_mut();
        let seed = self.core.seed;
        streams.entry(self.shard).or_insert_with(|| Prng::new(seed, &format!("random {}", self.shard.0))).draw()
    }

    fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        if self.alive() {
            self.core.spawn(Some(self.shard), name, Box::pin(future));
        }
    }

    fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.core.sleep(duration)
    }

    fn slice_used(&self) -> bool {
        self.core.chance.borrow_mut().one_in(8)
    }

    fn turn(&self) -> impl Future<Output = ()> + 'static {
        let mut yielded = false;
        poll_fn(move |context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
    }

    fn touch(&self) {}

    fn blocking_in<T: Send + 'static>(
        &self,
        pool: Pool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let result = if self.core.hangs(self.shard, pool) {
            // The hanging thread keeps its arguments.
            self.spawn("hung job", async move {
                let _held = work;
                std::future::pending().await
            });
            None
        } else {
            let micros = self.core.chance.borrow_mut().between(1, BLOCKING_MICROS_MAX);
            Some(self.later_async("blocking", Duration::from_micros(micros), self.clone().run_job(pool, work)))
        };
        async move {
            match result {
                Some(result) => result.await.unwrap_or_else(|panic| resume_unwind(panic)),
                None => std::future::pending().await,
            }
        }
    }

    fn discard(&self, thing: impl Send + 'static) {
        let micros = self.core.chance.borrow_mut().between(1, BLOCKING_MICROS_MAX);
        let disk = self.disk.clone();
        drop(self.later("discard", Duration::from_micros(micros), move || {
            let task = disk.polls(None);
            drop(thing);
            disk.polls(task);
        }));
    }

    fn sync(&self, file: &Arc<SimFile>) -> impl Future<Output = io::Result<()>> + 'static {
        let delay = self.disk.sync_delay();
        let begun = file.begin_sync();
        let file = Arc::clone(file);
        self.later("sync", delay, move || file.finish_sync(begun))
    }

    fn watch(&self) -> io::Result<SimWatch> {
        Ok(SimWatch::new(self.disk.clone()))
    }

    fn stdin(&self) -> io::Result<SimStream> {
        Ok(SimStream::new(Rc::clone(&self.core.pipe), Prng::new(self.random(), "pipe")))
    }

    fn resolve(&self, name: &str, _: Duration) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static {
        let unknown = self.core.sleep(Duration::from_micros(100));
        let error = io::Error::new(io::ErrorKind::NotFound, format!("the simulated world has no name `{name}`"));
        async move {
            unknown.await;
            Err(error)
        }
    }

    fn connect(&self, _: SocketAddr, _: Duration) -> impl Future<Output = io::Result<SimConnection>> + 'static {
        let refused = self.core.sleep(Duration::from_micros(100));
        async move {
            refused.await;
            Err(io::ErrorKind::ConnectionRefused.into())
        }
    }
}
