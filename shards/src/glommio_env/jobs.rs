//! Threads for work that may block: a pool for the WAL, one for plugins, one for looks at files of others, and a single thread
//! that closes files. Names are
//! looked up on threads that all shards share ([`names`]).
//!
//! Guarantees: a job of one pool never waits for a job of another. Threads and jobs are bounded ([`crate::limits`]); a job for
//! which the queue has no place waits with its caller. Threads are created when they are needed and end when they are not,
//! except for one idle thread of each pool, which costs nothing. A job that hangs blocks only its own thread: neither the
//! shutdown of the shard nor that of the process waits for it.
//!
//! Results come back through one task of the shard, whose waker the threads share under a lock. The waker is removed before the
//! executor ends, so that a job that ends late wakes nothing. Several results cause one wake-up.
//!
//! Does not cancel a job, because the kernel offers no way to. Discarded files wait behind a file that cannot be closed, and
//! their descriptors stay open.

pub(super) mod names;

use super::system::lock;
use crate::env::{Pool, ShardId};
use crate::limits::{FILE_THREADS, JOBS_MAX, LOG_THREADS, PLUGIN_THREADS};
use event_listener::Event;
use names::{Names, Slot, Waiter};
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A thread that has been idle for this long ends, unless it is the only idle one.
const REST: Duration = Duration::from_secs(10);

/// What a thread runs.
type Job = Box<dyn FnOnce() + Send>;

/// The job's number, for its result. None if nothing waits for it.
type Numbered = (Option<u64>, Job);

/// A bounded number of threads that run jobs in the order in which they were submitted.
struct Threads {
    name: String,
    threads_max: usize,
    jobs_max: usize,
    state: Mutex<ThreadsState>,
    changed: Condvar,
    answers: Arc<Answers>,
}

#[derive(Default)]
struct ThreadsState {
    queue: VecDeque<Numbered>,
    /// Jobs queued or running.
    jobs: usize,
    threads: usize,
    idle: usize,
    closed: bool,
}

impl Threads {
    /// A pool with its first thread.
    fn start(name: String, threads_max: usize, jobs_max: usize, answers: &Arc<Answers>) -> io::Result<Arc<Threads>> {
        let (state, changed, answers) = (Mutex::default(), Condvar::new(), answers.clone());
        let pool = Arc::new(Threads { name, threads_max, jobs_max, state, changed, answers });
        pool.add_thread()?;
        Ok(pool)
    }

    fn add_thread(self: &Arc<Self>) -> io::Result<()> {
        lock(&self.state).threads += 1;
        let pool = self.clone();
        let started = std::thread::Builder::new().name(self.name.clone()).spawn(move || pool.work());
        if started.is_err() {
            lock(&self.state).threads -= 1;
        }
        started.map(drop)
    }

    /// Queues a job, or returns it if there is no place.
    fn push(self: &Arc<Self>, job: Numbered) -> Result<(), Numbered> {
        let mut state = lock(&self.state);
        if state.jobs >= self.jobs_max {
            return Err(job);
        }
        state.jobs += 1;
        state.queue.push_back(job);
        let (waiting, idle, threads) = (state.queue.len(), state.idle, state.threads);
        drop(state);
        if waiting <= idle {
            self.changed.notify_one();
        } else if threads < self.threads_max {
            // If the system provides no more threads, the existing ones run the job.
            let _ = self.add_thread();
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some((number, job)) = state.queue.pop_front() {
                drop(state);
                // Values that its caller left behind are dropped here too.
                let _ = catch_unwind(AssertUnwindSafe(job));
                lock(&self.state).jobs -= 1;
                // Reported only now, so that the caller finds room for another job.
                if let Some(number) = number {
                    self.answers.push(number);
                }
                state = lock(&self.state);
                continue;
            }
            if state.closed {
                break;
            }
            state.idle += 1;
            let has_rested;
            (state, has_rested) = self.rest(state);
            state.idle -= 1;
            if has_rested && state.queue.is_empty() && state.idle > 0 {
                break;
            }
        }
        state.threads -= 1;
    }

    /// Waits for a job. Returns whether the wait ended without one.
    fn rest<'a>(
        &'a self,
        state: std::sync::MutexGuard<'a, ThreadsState>,
    ) -> (std::sync::MutexGuard<'a, ThreadsState>, bool) {
        let idle = |state: &mut ThreadsState| state.queue.is_empty() && !state.closed;
        if state.idle == 1 {
            return (self.changed.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner), false);
        }
        let waited = self.changed.wait_timeout_while(state, REST, idle);
        let (state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        (state, timeout.timed_out())
    }

    /// Lets the threads end when the queue is empty.
    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

/// Numbers of finished jobs, on their way to the shard.
#[derive(Default)]
struct Answers(Mutex<AnswersState>);

#[derive(Default)]
struct AnswersState {
    ready: Vec<u64>,
    /// The task that receives them.
    waker: Option<Waker>,
    closed: bool,
}

impl Answers {
    fn push(&self, number: u64) {
        let mut state = lock(&self.0);
        if state.closed {
            return;
        }
        state.ready.push(number);
        // Under the lock, and by reference: no thread ever holds, or drops, a waker of an executor that may be gone.
        if let ([_], Some(waker)) = (&*state.ready, &state.waker) {
            waker.wake_by_ref();
        }
    }

    /// Takes the available numbers. None after the pool is closed.
    fn poll_take(&self, context: &Context<'_>) -> Poll<Option<Vec<u64>>> {
        let mut state = lock(&self.0);
        if state.closed {
            return Poll::Ready(None);
        }
        if !state.ready.is_empty() {
            return Poll::Ready(Some(mem::take(&mut state.ready)));
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        Poll::Pending
    }

    fn close(&self) {
        let mut state = lock(&self.0);
        state.closed = true;
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
    }
}

/// A job whose result something waits for.
enum Waiting {
    Unanswered(Option<Waker>),
    Answered,
}

/// The threads of one shard, as its tasks use them. See the module documentation.
pub(super) struct Jobs {
    log: Arc<Threads>,
    plugins: Arc<Threads>,
    files: Arc<Threads>,
    closing: Arc<Threads>,
    names: Arc<Names>,
    answers: Arc<Answers>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    /// A job has ended, so there is a place for another.
    room: Event,
}

impl Jobs {
    /// Starts the first thread of each pool. They run on the CPUs that the calling thread may use.
    pub(super) fn start(shard: ShardId, names: Arc<Names>) -> io::Result<Rc<Jobs>> {
        let answers = Arc::<Answers>::default();
        let name = |pool| format!("shard{}-{pool}", shard.0);
        Ok(Rc::new(Jobs {
            log: Threads::start(name("log"), LOG_THREADS, JOBS_MAX, &answers)?,
            plugins: Threads::start(name("jobs"), PLUGIN_THREADS, JOBS_MAX, &answers)?,
            files: Threads::start(name("files"), FILE_THREADS, JOBS_MAX, &answers)?,
            // Everything that waits here holds a descriptor, and the system limits those.
            closing: Threads::start(name("close"), 1, usize::MAX, &answers)?,
            names,
            answers,
            next: Cell::new(0),
            waiting: RefCell::default(),
            room: Event::new(),
        }))
    }

    /// Runs `work` on a thread of `pool`.
    pub(super) fn run<T: Send + 'static>(
        self: &Rc<Self>,
        pool: Pool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + 'static {
        let outcome = Arc::new(Mutex::new(None));
        let fill = outcome.clone();
        // A panic that leaves the closure would end its thread and make the caller wait forever.
        let job = Box::new(move || *lock(&fill) = Some(catch_unwind(AssertUnwindSafe(work))));
        let threads = match pool {
            Pool::Log => self.log.clone(),
            Pool::Plugins => self.plugins.clone(),
            Pool::Files => self.files.clone(),
        };
        let ticket = Ticket::new(self.clone());
        let mut refused = threads.push((Some(ticket.number), job)).err();
        async move {
            while let Some(job) = refused.take() {
                let room = ticket.jobs.room.listen();
                if let Err(job) = threads.push(job) {
                    room.await;
                    refused = Some(job);
                }
            }
            poll_fn(|context| ticket.poll(context)).await;
            let outcome = lock(&outcome).take().expect("a job is answered when it has ended");
            outcome.unwrap_or_else(|panic| resume_unwind(panic))
        }
    }

    /// Looks `name` up. The addresses have port 0.
    pub(super) fn look_up(self: &Rc<Self>, name: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + 'static {
        let (ticket, slot) = (Ticket::new(self.clone()), Slot::default());
        let waiter = Waiter { answers: self.answers.clone(), number: ticket.number, slot: slot.clone() };
        let asked = self.names.ask(name, waiter);
        async move {
            asked?;
            poll_fn(|context| ticket.poll(context)).await;
            let found = lock(&slot).take().expect("a look-up is answered when it has ended");
            found.map_err(|(kind, text)| io::Error::new(kind, text))
        }
    }

    /// Drops `thing` on the closing thread.
    pub(super) fn discard(&self, thing: impl Send + 'static) {
        let queued = self.closing.push((None, Box::new(move || drop(thing))));
        assert!(queued.is_ok(), "nothing that is discarded is refused");
    }

    /// Passes results to the waiting tasks until [`Jobs::end`]. Calls `on_turn` each time the reactor delivered some.
    pub(super) async fn run_answers(&self, on_turn: impl Fn()) {
        while let Some(numbers) = poll_fn(|context| self.answers.poll_take(context)).await {
            on_turn();
            let ended = numbers.len();
            for number in numbers {
                let waiter = match self.waiting.borrow_mut().get_mut(&number) {
                    Some(waiting) => mem::replace(waiting, Waiting::Answered),
                    None => continue,
                };
                if let Waiting::Unanswered(Some(waker)) = waiter {
                    waker.wake();
                }
            }
            self.room.notify(ended);
        }
    }

    /// Records that nothing waits any more. Running jobs end by themselves, if they ever do.
    pub(super) fn end(&self) {
        self.answers.close();
        [&self.log, &self.plugins, &self.files, &self.closing].into_iter().for_each(|threads| threads.close());
    }
}

/// The registration of a task that waits for a job.
struct Ticket {
    jobs: Rc<Jobs>,
    number: u64,
}

impl Ticket {
    fn new(jobs: Rc<Jobs>) -> Ticket {
        let number = jobs.next.get();
        jobs.next.set(number + 1);
        jobs.waiting.borrow_mut().insert(number, Waiting::Unanswered(None));
        Ticket { jobs, number }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        match self.jobs.waiting.borrow_mut().get_mut(&self.number) {
            Some(Waiting::Unanswered(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            Some(Waiting::Answered) | None => Poll::Ready(()),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.jobs.waiting.borrow_mut().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn threads_and_jobs_of_a_pool_are_bounded() {
        let pool = Threads::start("bounded".to_owned(), 3, 5, &Arc::default()).expect("a thread");
        let (begun, begins) = mpsc::channel();
        let (end, held) = mpsc::channel::<()>();
        let held = Arc::new(Mutex::new(held));
        let job = || -> Numbered {
            let (begun, held) = (begun.clone(), held.clone());
            let work = move || {
                begun.send(()).expect("the test looks");
                let _ = lock(&held).recv();
            };
            (None, Box::new(work))
        };
        let taken = (0..7).filter(|_| pool.push(job()).is_ok()).count();
        assert_eq!(taken, 5);
        // Each thread has begun one, and holds it.
        (0..3).for_each(|_| begins.recv().expect("a job begins"));
        let state = lock(&pool.state);
        assert_eq!((state.threads, state.queue.len()), (3, 2));
        drop(state);
        drop(end);
        (0..2).for_each(|_| begins.recv().expect("the others follow"));
        pool.close();
    }
}
