//! Starting, driving, stalling, stopping.

use super::{DEADLINE, child, cpus, is_child, run, run_one, say, wait_until};
use crate::env::Env;
use crate::glommio_env::{GlommioEnv, LaunchError, Listener, launch};
use crate::signal::Signal;
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::panic::AssertUnwindSafe;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn spin(duration: Duration) {
    let start = Instant::now();
    while start.elapsed() < duration {
        std::hint::spin_loop();
    }
}

async fn echo(mut connection: crate::glommio_env::Connection, env: GlommioEnv) {
    let mut buffer = [0u8; 64];
    loop {
        match connection.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => connection.write_all(&buffer[..length]).await.expect("the client reads"),
        }
        env.touch();
    }
}

/// Round-trip times of `count` small messages to `address`.
fn round_trips(address: std::net::SocketAddr, count: usize) -> Vec<Duration> {
    let mut client = std::net::TcpStream::connect(address).expect("the shard listens");
    client.set_nodelay(true).expect("a socket option");
    client.set_read_timeout(Some(DEADLINE)).expect("a socket option");
    let mut buffer = [7u8; 64];
    let trips = (0..count).map(|_| {
        let start = Instant::now();
        client.write_all(&buffer).expect("the shard reads");
        client.read_exact(&mut buffer).expect("the shard answers");
        start.elapsed()
    });
    let mut trips: Vec<_> = trips.collect();
    trips.sort_unstable();
    trips
}

#[test]
fn busy_shard_still_answers() {
    let trips = run_one(|env| async move {
        let listener = Listener::bind(&env, LOCAL.into()).expect("a free port");
        let done = Rc::new(Cell::new(false));
        let (busy, stop) = (env.clone(), Rc::clone(&done));
        env.spawn("busy", async move {
            while !stop.get() {
                spin(Duration::from_micros(100));
                busy.touch();
                if busy.slice_used() {
                    busy.turn().await;
                } else {
                    futures_lite::future::yield_now().await;
                }
            }
        });
        let address = listener.local_address();
        let (client, result) = std::sync::mpsc::channel();
        std::thread::spawn(move || client.send(round_trips(address, 300)));
        let connection = listener.accept().await.expect("the client comes");
        echo(connection, env.clone()).await;
        done.set(true);
        env.blocking(move || super::receive(&result)).await
    });
    let (median, worst) = (trips[trips.len() / 2], trips[trips.len() - 1]);
    say(&format!("echo beside a busy task: median {median:?}, worst {worst:?}"));
    assert!(median < Duration::from_secs(5), "I/O starves beside a busy task: {median:?}");
}

/// The typical work of a shard, in small: timers, jobs off the executor, signals across shards.
fn ping_pong(rounds: usize) {
    let signals = Arc::new([Signal::new(), Signal::new()]);
    run(2, move |env| {
        let signals = Arc::clone(&signals);
        async move {
            let me = env.shard().index();
            let (yielding, ended) = (env.clone(), Rc::new(Cell::new(false)));
            let end = Rc::clone(&ended);
            env.spawn("yielding", async move {
                // Leaves ready tasks whenever the executor does not check its queue.
                while !end.get() {
                    for _ in 0..20 {
                        futures_lite::future::yield_now().await;
                    }
                    yielding.turn().await;
                }
            });
            for round in 0..rounds {
                if me == 0 {
                    signals[1].notify();
                    signals[0].wait().await;
                } else {
                    signals[1].wait().await;
                    signals[0].notify();
                }
                env.touch();
                match round % 64 {
                    0 => env.sleep(Duration::from_micros(200)).await,
                    1 => assert_eq!(env.blocking(move || round).await, round),
                    2 => env.turn().await,
                    _ => {}
                }
            }
            ended.set(true);
        }
    });
}

#[test]
fn twenty_short_runs_end() {
    for _ in 0..20 {
        ping_pong(300);
    }
}

#[test]
fn delayed_kernel_calls_do_not_park_a_shard_for_good() {
    const NAME: &str = "delayed_kernel_calls_do_not_park_a_shard_for_good";
    if is_child(NAME) {
        return ping_pong(40);
    }
    if Command::new("strace").arg("-V").output().is_err() {
        return say("NOT RUN, strace is missing: delayed_kernel_calls_do_not_park_a_shard_for_good");
    }
    let inject = "inject=io_uring_enter:delay_exit=120000:when=60+2";
    let wrapper = ["timeout", "300", "strace", "-f", "-o", "/dev/null", "-e", "trace=io_uring_enter", "-e", inject];
    let start = Instant::now();
    let output = child(&wrapper, "drive", NAME).output().expect("strace starts");
    let text = String::from_utf8_lossy(&output.stderr);
    if text.contains("PTRACE") || text.contains("ptrace") {
        return say(&format!("NOT RUN, tracing is forbidden here: {}", text.trim()));
    }
    assert!(output.status.success(), "shards under delay: {}\n{text}", output.status);
    say(&format!("40 rounds with every second io_uring_enter delayed by 120 ms: {:?}", start.elapsed()));
}

#[test]
fn blocked_shard_is_noticed_and_kicked() {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let drivers = launch(&cpus(1), move |env| {
        let released = Arc::clone(&released);
        async move {
            env.touch();
            while !released.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            env.turn().await;
        }
    });
    let drivers = drivers.expect("the shard starts");
    let pulses = drivers.pulses();
    wait_until("a stall with several kicks", || pulses()[0].stalls == 1 && pulses()[0].kicks >= 3);
    release.store(true, Ordering::Release);
    drivers.wait();
}

#[test]
fn touch_puts_an_idle_shard_on_the_short_tick() {
    let work = Arc::new(Signal::new());
    let worker = Arc::clone(&work);
    let drivers = launch(&cpus(1), move |env| {
        let worker = Arc::clone(&worker);
        async move {
            worker.wait().await;
            env.touch();
            env.stopped().await;
        }
    });
    let drivers = drivers.expect("the shard starts");
    let (pulses, stopper) = (drivers.pulses(), drivers.stopper());
    wait_until("an idle shard", || pulses()[0].idle);
    let (beats, start) = (pulses()[0].beats, Instant::now());
    work.notify();
    wait_until("eight more beats", || pulses()[0].beats >= beats + 8);
    // On the long tick eight beats take eight seconds, on the short one less than one.
    assert!(start.elapsed() < Duration::from_secs(6), "eight beats took {:?}", start.elapsed());
    stopper.stop();
    drivers.wait();
}

#[test]
fn two_idle_shards_cost_next_to_nothing() {
    const NAME: &str = "two_idle_shards_cost_next_to_nothing";
    // Runs in a separate process, in which no other test has shards.
    if !is_child(NAME) {
        let output = child(&[], "drive", NAME).output().expect("the test starts itself");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
        return text.lines().filter(|line| line.starts_with("glommio_env: ")).for_each(|line| say(&line[13..]));
    }
    let drivers = launch(&cpus(2), |env| async move { env.stopped().await }).expect("the shards start");
    let (pulses, stopper) = (drivers.pulses(), drivers.stopper());
    wait_until("idle shards", || pulses().iter().all(|pulse| pulse.idle));
    let beats = pulses()[0].beats;
    let (start, before) = (Instant::now(), cpu_nanos());
    wait_until("six beats", || pulses()[0].beats >= beats + 6);
    let (after, seconds) = (cpu_nanos(), start.elapsed().as_secs_f64());
    let per_second = (after - before) as f64 / 1e6 / seconds;
    stopper.stop();
    drivers.wait();
    say(&format!("two idle shards: {per_second:.3} ms of cpu a second"));
    assert!(per_second < 5.0, "idle shards do not rest: {per_second:.3} ms of cpu a second");
}

/// Cpu time of the threads that this process has because of its shards.
fn cpu_nanos() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").expect("proc is mounted");
    let spent = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        if !["shard", "watchdog", "iou-"].iter().any(|start| name.starts_with(start)) {
            return None;
        }
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    });
    spent.sum()
}

#[test]
fn panic_in_blocking_resumes_in_the_caller() {
    let message = run_one(|env| async move {
        let failing = AssertUnwindSafe(env.blocking(|| -> u32 { panic!("off the executor") }));
        let panic = failing.catch_unwind().await.expect_err("the caller sees the panic");
        // Every thread for such work still responds.
        for number in 0..32 {
            assert_eq!(env.blocking(move || number).await, number);
        }
        *panic.downcast::<&str>().expect("the panic's own value")
    });
    assert_eq!(message, "off the executor");
}

#[test]
fn stuck_blocking_work_does_not_hold_up_the_rest() {
    run_one(|env| async move {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let stuck = env.blocking(move || held.recv().is_ok());
        // Like a stopped terminal: the work ends only after the other work is done.
        assert_eq!(env.blocking(|| 5).await, 5);
        release.send(()).expect("the stuck work waits");
        assert!(stuck.await);
    });
}

#[test]
fn panic_in_a_task_names_it_and_ends_the_process() {
    const NAME: &str = "panic_in_a_task_names_it_and_ends_the_process";
    if is_child(NAME) {
        return run_one(|env| async move {
            env.spawn("collapsing", async { panic!("on purpose") });
            env.stopped().await;
        });
    }
    let output = child(&[], "drive", NAME).output().expect("the test starts itself");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("task `collapsing`"), "{text}");
}

#[test]
fn spawned_task_starts_after_the_caller_yields() {
    let order = run_one(|env| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let held = order.borrow_mut();
        let task = Rc::clone(&order);
        // Polling the task here would panic on the second borrow.
        env.spawn("second", async move { task.borrow_mut().push(2) });
        drop(held);
        order.borrow_mut().push(1);
        // Which turn it gets is the executor's choice.
        while order.borrow().len() < 2 {
            env.turn().await;
        }
        order.take()
    });
    assert_eq!(order, [1, 2]);
}

#[test]
fn sleep_never_ends_early_and_clocks_advance() {
    run_one(|env| async move {
        let wanted = Duration::from_millis(20);
        let (start, wall) = (env.now(), env.wall());
        env.sleep(wanted).await;
        assert!(env.now().since(start) >= wanted);
        assert!(env.wall() > wall);
        env.sleep(Duration::ZERO).await;
        assert_ne!(env.random(), env.random());
    });
}

#[test]
fn stop_reaches_every_shard() {
    let drivers = launch(&cpus(2), |env| async move { env.stopped().await }).expect("the shards start");
    let stopper = drivers.stopper();
    assert!(!stopper.is_stopped());
    stopper.stop();
    drivers.wait();
    assert!(stopper.is_stopped());
}

#[test]
fn failed_launch_says_which_shard_and_runs_nothing() {
    let ran = Arc::new(AtomicBool::new(false));
    let main_ran = Arc::clone(&ran);
    let nowhere = [cpus(1)[0], Some(100_000)];
    let launched = launch(&nowhere, move |_| {
        main_ran.store(true, Ordering::Release);
        async {}
    });
    let error = launched.err().expect("no machine has that cpu");
    assert!(matches!(error, LaunchError::Start { shard: 1, .. }), "{error}");
    assert!(!ran.load(Ordering::Acquire));
}
