//! Threads for what may block: a pool for the log, one for the plugins, and a single thread that closes files.
//!
//! Guarantees: a job of one pool waits for none of another; threads and jobs are bounded ([`crate::limits`]), and what has no place
//! in the queue waits with its caller; threads are made when they are needed and end when they are not, but for one of each pool
//! that rests and costs nothing. A job that hangs keeps its thread and nothing else: neither the end of the shard nor that of the
//! process waits for it.
//!
//! Answers come back through one task of the shard, whose waker the threads share under a lock. It is taken away before the
//! executor goes, so that a job that ends late wakes nothing. Wakes from many answers are one.
//!
//! Does not end a job: the kernel knows no way to. What is discarded waits behind a file that cannot be closed, with its descriptor.

use super::system::lock;
use crate::env::{Pool, ShardId};
use crate::limits::{JOBS_MAX, LOG_THREADS, PLUGIN_THREADS};
use event_listener::Event;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::{Future, poll_fn};
use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// A thread that had nothing to do for so long ends, unless no other rests.
const REST: Duration = Duration::from_secs(10);

/// What a thread runs.
type Job = Box<dyn FnOnce() + Send>;

/// The job's number, for its answer; none where nobody waits for one.
type Numbered = (Option<u64>, Job);

/// A bounded number of threads that run jobs in the order they came.
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

    /// Queues a job, or gives it back where there is no place for it.
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
            // Where the system gives no more threads, those that there are take the job.
            let _ = self.add_thread();
        }
        Ok(())
    }

    fn work(&self) {
        let mut state = lock(&self.state);
        loop {
            if let Some((number, job)) = state.queue.pop_front() {
                drop(state);
                // What its caller left behind is dropped here too.
                let _ = catch_unwind(AssertUnwindSafe(job));
                lock(&self.state).jobs -= 1;
                // Only now: who hears of it finds room for another.
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

    /// Waits for a job; whether that was in vain.
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

    /// Lets the threads end once the queue is empty.
    fn close(&self) {
        lock(&self.state).closed = true;
        self.changed.notify_all();
    }
}

/// Numbers of jobs that have ended, on their way to the shard.
#[derive(Default)]
struct Answers(Mutex<AnswersState>);

#[derive(Default)]
struct AnswersState {
    ready: Vec<u64>,
    /// The task that takes them.
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

    /// Takes what is there; none once they are closed.
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

/// A job that somebody waits for.
enum Waiting {
    Unanswered(Option<Waker>),
    Answered,
}

/// The threads of one shard, as its tasks use them. See the module.
pub(super) struct Jobs {
    log: Arc<Threads>,
    plugins: Arc<Threads>,
    closing: Arc<Threads>,
    answers: Arc<Answers>,
    next: Cell<u64>,
    waiting: RefCell<HashMap<u64, Waiting>>,
    /// A job ended, so that another has a place.
    room: Event,
}

impl Jobs {
    /// The first thread of each pool. They run where the calling thread may.
    pub(super) fn start(shard: ShardId) -> io::Result<Rc<Jobs>> {
        let answers = Arc::<Answers>::default();
        let name = |pool| format!("shard{}-{pool}", shard.0);
        Ok(Rc::new(Jobs {
            log: Threads::start(name("log"), LOG_THREADS, JOBS_MAX, &answers)?,
            plugins: Threads::start(name("jobs"), PLUGIN_THREADS, JOBS_MAX, &answers)?,
            // What waits here holds descriptors, and the system bounds those.
            closing: Threads::start(name("close"), 1, usize::MAX, &answers)?,
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
        // A panic that leaves the closure would end its thread and leave the caller waiting for ever.
        let job = Box::new(move || *lock(&fill) = Some(catch_unwind(AssertUnwindSafe(work))));
        let threads = match pool {
            Pool::Log => self.log.clone(),
            Pool::Plugins => self.plugins.clone(),
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

    /// Drops `thing` on the thread that closes.
    pub(super) fn discard(&self, thing: impl Send + 'static) {
        let queued = self.closing.push((None, Box::new(move || drop(thing))));
        assert!(queued.is_ok(), "nothing that is discarded is refused");
    }

    /// Hands answers to those who wait until [`Jobs::end`]; `on_turn` is told each time that the reactor brought some.
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

    /// Says that nobody waits any more. Jobs that run end by themselves, if they ever do.
    pub(super) fn end(&self) {
        self.answers.close();
        [&self.log, &self.plugins, &self.closing].into_iter().for_each(|threads| threads.close());
    }
}

/// The place of somebody who waits for a job.
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
