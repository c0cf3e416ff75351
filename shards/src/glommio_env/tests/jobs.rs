//! Jobs that hang block only their own threads. Each is held by a channel until the test releases it.

use super::{receive, run_one, say};
use crate::env::{Env, Pool};
use crate::glommio_env::GlommioEnv;
use crate::limits::{FILE_THREADS, JOBS_MAX, LOG_THREADS, PLUGIN_THREADS};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};

/// Holds all returned jobs until it is dropped.
struct Hold {
    end: mpsc::Sender<()>,
    held: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Hold {
    fn new() -> Hold {
        let (end, held) = mpsc::channel();
        Hold { end, held: Arc::new(Mutex::new(held)) }
    }

    /// Work that hangs.
    fn work(&self) -> impl FnOnce() + Send + 'static {
        let held = self.held.clone();
        move || wait_for(&held)
    }

    fn let_go(self) {
        drop(self.end);
    }
}

fn wait_for(held: &Mutex<mpsc::Receiver<()>>) {
    // Later jobs find the channel closed as well.
    let _ = held.lock().unwrap().recv();
}

fn hung_jobs(env: &GlommioEnv, pool: Pool, hold: &Hold, count: usize) -> Vec<Pin<Box<dyn Future<Output = ()>>>> {
    (0..count).map(|_| Box::pin(env.blocking_in(pool, hold.work())) as Pin<Box<dyn Future<Output = ()>>>).collect()
}

#[test]
fn hung_jobs_of_plugins_leave_the_log_its_threads() {
    run_one(|env| async move {
        let hold = Hold::new();
        let jobs = hung_jobs(&env, Pool::Plugins, &hold, 3 * PLUGIN_THREADS);
        for number in 0..100 {
            assert_eq!(env.blocking_in(Pool::Log, move || number).await, number);
        }
        hold.let_go();
        for job in jobs {
            job.await;
        }
        assert_eq!(env.blocking(|| 5).await, 5);
    });
}

/// Dropping it hangs, like closing a file whose server is gone.
struct Stuck {
    held: Arc<Mutex<mpsc::Receiver<()>>>,
    dropped: Arc<AtomicUsize>,
}

impl Drop for Stuck {
    fn drop(&mut self) {
        wait_for(&self.held);
        self.dropped.fetch_add(1, Ordering::AcqRel);
    }
}

#[test]
fn hung_closes_share_a_thread() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let seen = dropped.clone();
    run_one(move |env| {
        let dropped = seen.clone();
        async move {
            let hold = Hold::new();
            for _ in 0..100 {
                env.discard(Stuck { held: hold.held.clone(), dropped: dropped.clone() });
            }
            let both = [Pool::Plugins, Pool::Log];
            for number in 0..50 {
                assert_eq!(env.blocking_in(both[number % 2], move || number).await, number);
            }
            assert_eq!(dropped.load(Ordering::Acquire), 0);
            hold.let_go();
            while dropped.load(Ordering::Acquire) < 100 {
                env.turn().await;
            }
        }
    });
}

/// So many that all threads are occupied, twice if the queue has room for them.
fn jobs_for(threads: usize) -> usize {
    (2 * threads).min(JOBS_MAX / 2)
}

/// Every pool is full of hanging jobs: the shard ends, and jobs that end afterwards wake nothing.
#[test]
fn end_of_a_shard_waits_for_no_job() {
    let hold = Arc::new(Hold::new());
    let (held, ended) = (hold.clone(), Arc::new(AtomicUsize::new(0)));
    let count = ended.clone();
    let (said, told) = mpsc::channel();
    std::thread::spawn(move || {
        run_one(move |env| {
            let (hold, ended) = (held.clone(), count.clone());
            async move {
                for (pool, threads) in
                    [(Pool::Log, LOG_THREADS), (Pool::Plugins, PLUGIN_THREADS), (Pool::Files, FILE_THREADS)]
                {
                    for _ in 0..jobs_for(threads) {
                        let (work, ended) = (hold.work(), ended.clone());
                        let job = env.blocking_in(pool, move || {
                            work();
                            ended.fetch_add(1, Ordering::AcqRel);
                        });
                        // One that somebody waits for, and one that nobody does.
                        env.spawn("waiting", job);
                        drop(env.blocking_in(pool, hold.work()));
                    }
                }
                env.discard(Stuck { held: hold.held.clone(), dropped: ended });
                env.turn().await;
            }
        });
        said.send(()).expect("the test waits");
    });
    receive(&told);
    assert_eq!(ended.load(Ordering::Acquire), 0, "the end waited for a job");
    Arc::into_inner(hold).expect("the shard has ended").let_go();
    let all = [LOG_THREADS, PLUGIN_THREADS, FILE_THREADS].map(jobs_for).iter().sum::<usize>() + 1;
    super::wait_until("the late end of every job", || ended.load(Ordering::Acquire) == all);
    say("jobs ended after their shard");
}

#[test]
fn jobs_beyond_the_bound_wait_with_their_caller() {
    run_one(|env| async move {
        let hold = Hold::new();
        let jobs = hung_jobs(&env, Pool::Plugins, &hold, JOBS_MAX);
        let token = Arc::new(());
        let (given_up, kept) = (token.clone(), token.clone());
        let mut beyond = Box::pin(env.blocking(move || drop(given_up)));
        assert!(beyond.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(Arc::strong_count(&token), 3);
        drop(beyond);
        assert_eq!(Arc::strong_count(&token), 2, "its work is still queued");
        let last = env.blocking(move || drop(kept));
        hold.let_go();
        last.await;
        for job in jobs {
            job.await;
        }
        assert_eq!(Arc::strong_count(&token), 1);
    });
}
