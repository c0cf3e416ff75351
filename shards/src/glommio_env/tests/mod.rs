//! Tests on real executors and the real kernel. Each waits for a condition with a deadline. A shard that hangs ends the run
//! with a message, because the executor's thread cannot be stopped from outside.

mod drive;
mod files;
mod io;
mod jobs;
mod located;

use super::{GlommioEnv, allowed_cpus, launch};
use futures_lite::FutureExt;
use std::future::Future;
use std::io::Write;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Far above the duration of anything here, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);
/// Names the case that a child process runs.
const CHILD: &str = "TAILWATER_TEST_CHILD";

fn cpus(shards: usize) -> Vec<Option<usize>> {
    let allowed = allowed_cpus();
    (0..shards).map(|shard| Some(allowed[shard % allowed.len()])).collect()
}

/// Runs `main` on as many shards and returns what it returned, by shard. A panic in it is the caller's.
fn run<T, Fut>(shards: usize, main: impl Fn(GlommioEnv) -> Fut + Send + Sync + 'static) -> Vec<T>
where
    T: Send + 'static,
    Fut: Future<Output = T> + 'static,
{
    let (sender, receiver) = mpsc::channel();
    let drivers = launch(&cpus(shards), move |env| {
        let (sender, shard) = (sender.clone(), crate::env::Env::shard(&env));
        let future = main(env);
        async move {
            let outcome = AssertUnwindSafe(future).catch_unwind().await;
            sender.send((shard, outcome)).expect("the test waits for every shard");
        }
    });
    let drivers = drivers.expect("the shards start");
    let mut outcomes: Vec<_> = (0..shards).map(|_| receive(&receiver)).collect();
    drivers.wait();
    outcomes.sort_by_key(|(shard, _)| *shard);
    outcomes.into_iter().map(|(_, outcome)| outcome.unwrap_or_else(|panic| resume_unwind(panic))).collect()
}

fn run_one<T: Send + 'static, Fut: Future<Output = T> + 'static>(
    main: impl Fn(GlommioEnv) -> Fut + Send + Sync + 'static,
) -> T {
    run(1, main).remove(0)
}

fn receive<T>(receiver: &mpsc::Receiver<T>) -> T {
    receiver.recv_timeout(DEADLINE).unwrap_or_else(|_| {
        say(&format!("test {:?} hangs", std::thread::current().name()));
        std::process::abort();
    })
}

/// Writes to standard error, bypassing the test runner, which withholds the output of a process that aborts.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "glommio_env: {text}");
}

#[expect(clippy::disallowed_methods, reason = "it polls for the condition, with a deadline")]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < DEADLINE, "{what} does not come true");
        std::thread::yield_now();
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether this process is the child that runs the case `name`.
fn is_child(name: &str) -> bool {
    std::env::var(CHILD).is_ok_and(|case| case == name)
}

/// A command that runs the test `name` of module `module` in a separate process, started through `wrapper`.
fn child(wrapper: &[&str], module: &str, name: &str) -> Command {
    let program = std::env::current_exe().expect("the test knows its program");
    let mut words = wrapper.iter().map(std::ffi::OsString::from).chain([program.into_os_string()]);
    let mut command = Command::new(words.next().expect("the program is one word"));
    command.args(words).args(["--exact", "--nocapture", "--test-threads=1"]);
    command.arg(format!("glommio_env::tests::{module}::{name}")).env(CHILD, name);
    command
}
