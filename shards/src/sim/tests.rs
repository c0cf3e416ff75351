//! The executor, the clock, the environment and the watch of the simulator, each with seeds that are fixed.

mod invariants;
mod log;

use super::*;
use crate::env::{Disk, Env, File, Monotonic, Open, ShardId, Stream};
use crate::signal::Signal;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Three shards that sleep, take turns, write and sync; returns the order of their steps and the trace.
fn busy_world(seed: u64) -> (Vec<(u16, u32)>, u64) {
    let mut simulation = Simulation::new(seed);
    let order = Rc::new(RefCell::new(Vec::new()));
    for shard in 0..3 {
        let env = simulation.env(ShardId(shard));
        let order = Rc::clone(&order);
        env.clone().spawn("worker", async move {
            let path = format!("/{shard}");
            let file = Arc::new(env.disk().open(Path::new(&path), Open::Create).unwrap());
            for step in 0..20 {
                order.borrow_mut().push((shard, step));
                file.write_at(&env.random().to_le_bytes(), u64::from(step) * 8).unwrap();
                env.turn().await;
                if env.slice_used() {
                    env.sync(&file).await.unwrap();
                    env.sleep(Duration::from_micros(env.random() % 500)).await;
                }
            }
        });
    }
    let steps = Rc::clone(&order);
    simulation.must("all steps", || steps.borrow().len() == 60, SECOND * 60);
    let trace = simulation.trace_hash();
    drop(simulation);
    (order.take(), trace)
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..20 {
        assert_eq!(busy_world(seed), busy_world(seed), "seed {seed}");
    }
}

#[test]
fn different_seeds_give_different_interleavings() {
    let orders: BTreeSet<Vec<(u16, u32)>> = (0..20).map(|seed| busy_world(seed).0).collect();
    let traces: BTreeSet<u64> = (0..20).map(|seed| busy_world(seed).1).collect();
    assert_eq!((orders.len(), traces.len()), (20, 20));
}

#[test]
fn a_sleep_ends_on_time_and_never_before() {
    let mut simulation = Simulation::new(1);
    let env = simulation.env(ShardId(0));
    let woken = Rc::new(RefCell::new(Vec::new()));
    for (number, micros) in [900_u64, 5, 300, 0].into_iter().enumerate() {
        let (clock, woken) = (env.clone(), Rc::clone(&woken));
        env.spawn("sleeper", async move {
            let start = clock.now();
            clock.sleep(Duration::from_micros(micros)).await;
            let slept = clock.now().since(start);
            assert!(slept >= Duration::from_micros(micros), "slept {slept:?}");
            assert!(slept < Duration::from_micros(micros + 50), "slept {slept:?}");
            woken.borrow_mut().push(number);
        });
    }
    simulation.must("all awake", || woken.borrow().len() == 4, SECOND);
    assert_eq!(woken.borrow()[2..], [2, 0]);
}

#[test]
fn a_dropped_sleep_leaves_no_timer() {
    let mut simulation = Simulation::new(1);
    let env = simulation.env(ShardId(0));
    let mut sleep = Box::pin(env.sleep(SECOND));
    env.spawn("impatient", async move {
        poll_fn(|context| {
            assert!(sleep.as_mut().poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
    });
    assert_eq!(simulation.run_for(SECOND * 10), Outcome::Stuck);
    assert!(simulation.now().since(Monotonic(1_000_000_000)) < SECOND);
}

#[test]
fn a_deadlock_is_stuck_and_a_livelock_meets_the_step_limit() {
    let mut simulation = Simulation::new(1);
    let env = simulation.env(ShardId(0));
    let never = Signal::new();
    env.spawn("waits for nothing", async move { never.wait().await });
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    assert_eq!(simulation.tasks(), [(Some(ShardId(0)), "waits for nothing")]);

    let busy = env.clone();
    env.spawn("spins", async move {
        loop {
            busy.turn().await;
        }
    });
    simulation.set_step_limit(1000);
    assert_eq!(simulation.run_for(SECOND * 3600), Outcome::StepLimit);
}

#[test]
fn time_that_is_up_ends_the_run_at_that_moment() {
    let mut simulation = Simulation::new(1);
    let env = simulation.env(ShardId(0));
    env.spawn("sleeper", env.sleep(SECOND * 3));
    let start = simulation.now();
    assert_eq!(simulation.run_for(SECOND), Outcome::TimeOut);
    assert_eq!(simulation.now(), start.after(SECOND));
    assert_eq!(simulation.run_for(SECOND * 5), Outcome::Stuck);
}

#[test]
fn every_ready_task_is_reached_although_shards_are_starved() {
    let mut simulation = Simulation::new(3);
    let counts = Rc::new(RefCell::new(vec![0_u32; 4]));
    for shard in 0..4_u16 {
        let (env, counts) = (simulation.env(ShardId(shard)), Rc::clone(&counts));
        env.clone().spawn("spins", async move {
            loop {
                counts.borrow_mut()[usize::from(shard)] += 1;
                env.turn().await;
            }
        });
    }
    assert_eq!(simulation.run_steps(4000), Outcome::Reached);
    assert!(counts.borrow().iter().all(|&count| count > 500), "{:?}", counts.borrow());
}

#[test]
fn signals_wake_across_shards() {
    for seed in 0..50 {
        let mut simulation = Simulation::new(seed);
        let (ping, pong) = (Arc::new(Signal::new()), Arc::new(Signal::new()));
        let rounds = Rc::new(Cell::new(0));
        let (left, right) = (simulation.env(ShardId(0)), simulation.env(ShardId(1)));
        let (hear, say) = (Arc::clone(&ping), Arc::clone(&pong));
        right.spawn("echo", async move {
            loop {
                hear.wait().await;
                say.notify();
            }
        });
        let count = Rc::clone(&rounds);
        left.spawn("caller", async move {
            for _ in 0..100 {
                ping.notify();
                pong.wait().await;
                count.set(count.get() + 1);
            }
        });
        simulation.must("a hundred rounds", || rounds.get() == 100, SECOND);
    }
}

#[test]
fn blocking_work_runs_later_and_whole_even_when_nobody_waits() {
    let mut simulation = Simulation::new(5);
    let env = simulation.env(ShardId(0));
    let sum = Rc::new(Cell::new(0));
    let (asks, result) = (env.clone(), Rc::clone(&sum));
    env.spawn("asks", async move {
        let start = asks.now();
        result.set(asks.blocking(|| (1..=10).sum::<u32>()).await);
        assert!(asks.now() > start);
        let disk = asks.disk().clone();
        drop(asks.blocking(move || disk.create_dir_all(Path::new("/made")).unwrap()));
    });
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    assert_eq!(sum.get(), 55);
    assert!(simulation.disk().outside().exists("/made"));
}

#[test]
fn a_panic_in_blocking_work_is_resumed_in_the_caller() {
    use std::panic::{AssertUnwindSafe, resume_unwind};
    let mut simulation = Simulation::new(5);
    let env = simulation.env(ShardId(0));
    let caught = Rc::new(Cell::new(false));
    let (asks, seen) = (env.clone(), Rc::clone(&caught));
    env.spawn("asks", async move {
        let mut work = Box::pin(asks.blocking(|| resume_unwind(Box::new("broken"))));
        poll_fn(|context| match std::panic::catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(()),
            Err(panic) => {
                seen.set(panic.downcast_ref::<&str>() == Some(&"broken"));
                Poll::Ready(())
            }
        })
        .await;
    });
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    assert!(caught.get());
}

#[test]
fn a_sync_covers_what_was_written_before_it_and_nothing_later() {
    let mut lost_the_later_write = 0;
    for seed in 0..40 {
        let mut simulation = Simulation::new(seed);
        simulation.disk().outside().write("/log", &[]).unwrap();
        simulation.disk().outside().sync_all();
        let env = simulation.env(ShardId(0));
        let synced = Rc::new(Cell::new(false));
        let done = Rc::clone(&synced);
        env.clone().spawn("writer", async move {
            let file = Arc::new(env.disk().open(Path::new("/log"), Open::Write).unwrap());
            file.write_at(&[1; 4096], 0).unwrap();
            let sync = env.sync(&file);
            file.write_at(&[2; 4096], 4096).unwrap();
            sync.await.unwrap();
            done.set(true);
        });
        simulation.must("the sync", || synced.get(), SECOND);
        simulation.crash(Crash::Power);
        let bytes = simulation.disk().outside().read("/log").unwrap();
        assert_eq!(bytes[..4096], [1; 4096], "seed {seed}");
        lost_the_later_write += u32::from(bytes.len() < 8192 || bytes[4096..].contains(&0));
    }
    assert!((10..40).contains(&lost_the_later_write), "{lost_the_later_write}");
}

#[test]
fn a_crash_drops_all_tasks_and_nothing_they_do_then_reaches_the_disk() {
    struct Meddler(SimEnv);
    impl Drop for Meddler {
        fn drop(&mut self) {
            assert!(self.0.disk().remove(Path::new("/kept")).is_err());
            let env = self.0.clone();
            self.0.spawn("too late", async move { env.disk().remove(Path::new("/kept")).unwrap() });
        }
    }
    let mut simulation = Simulation::new(1);
    simulation.disk().outside().write("/kept", b"x").unwrap();
    let env = simulation.env(ShardId(0));
    let meddler = Meddler(env.clone());
    env.clone().spawn("meddler", async move {
        meddler.0.sleep(SECOND * 60).await;
    });
    assert_eq!(simulation.run_for(SECOND), Outcome::TimeOut);
    simulation.crash_shards();
    assert!(simulation.tasks().is_empty());
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    assert!(simulation.disk().outside().exists("/kept"));
    assert!(env.disk().stat(Path::new("/kept")).is_err());
    assert!(simulation.env(ShardId(0)).disk().stat(Path::new("/kept")).is_ok());
}

#[test]
fn the_world_goes_on_when_the_process_dies() {
    let mut simulation = Simulation::new(1);
    let world = simulation.world();
    world.clone().spawn("application", async move {
        for line in 0..10 {
            world.disk().append("/app.log", format!("{line}\n").as_bytes()).unwrap();
            world.sleep(SECOND).await;
        }
    });
    simulation.env(ShardId(0)).spawn("waits for ever", std::future::pending());
    simulation.disk().crash_after(0);
    assert_eq!(simulation.run_for(SECOND * 2), Outcome::TimeOut);
    simulation.crash(Crash::Process);
    assert_eq!(simulation.tasks(), [(None, "application")]);
    assert_eq!(simulation.run_for(SECOND * 60), Outcome::Stuck);
    assert_eq!(simulation.disk().outside().read("/app.log").unwrap(), b"0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n");
}

#[test]
fn a_panic_fails_the_run_unless_the_disk_had_stopped_the_process() {
    let run = |operations: Option<u64>| {
        let mut simulation = Simulation::new(1);
        if let Some(operations) = operations {
            simulation.disk().crash_after(operations);
        }
        let env = simulation.env(ShardId(0));
        env.clone().spawn("gives up", async move {
            if env.disk().open(Path::new("/log"), Open::Create).is_err() || operations.is_none() {
                std::panic::resume_unwind(Box::new("gave up"));
            }
        });
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| simulation.run_for(SECOND)))
            .map_err(|panic| panic.downcast_ref::<&str>() == Some(&"gave up"))
    };
    assert_eq!(run(Some(0)), Ok(Outcome::Crashed));
    assert_eq!(run(Some(1)), Ok(Outcome::Stuck));
    assert_eq!(run(None), Err(true));
}

#[test]
fn the_disk_stops_the_process_between_any_two_changes() {
    let mut lengths = BTreeSet::new();
    for operations in 0..12 {
        let mut simulation = Simulation::new(9);
        simulation.disk().crash_after(operations);
        let env = simulation.env(ShardId(0));
        env.clone().spawn("writer", async move {
            let Ok(file) = env.disk().open(Path::new("/log"), Open::Create) else { return };
            for at in 0..10 {
                if file.write_at(&[7; 100], at * 100).is_err() {
                    return;
                }
            }
            env.sleep(SECOND).await;
        });
        let outcome = simulation.run_for(SECOND / 2);
        assert_eq!(outcome, if operations < 11 { Outcome::Crashed } else { Outcome::TimeOut });
        simulation.crash(Crash::Process);
        let length = simulation.disk().outside().read("/log").map_or(0, |bytes| bytes.len() as u64);
        let whole = operations.saturating_sub(1).min(10) * 100;
        assert!((whole..=whole + 100).contains(&length), "{operations} operations, {length} bytes");
        lengths.insert(length);
    }
    assert!(lengths.iter().any(|length| length % 100 != 0), "no write was cut: {lengths:?}");
}

#[test]
fn standard_input_arrives_in_order_in_pieces_and_ends() {
    let mut simulation = Simulation::new(2);
    let env = simulation.env(ShardId(0));
    let (heard, pieces) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(0)));
    let ended = Rc::new(Cell::new(false));
    let (bytes, count, end) = (Rc::clone(&heard), Rc::clone(&pieces), Rc::clone(&ended));
    let mut stream = env.stdin().unwrap();
    env.spawn("reader", async move {
        let mut buffer = [0; 64];
        loop {
            let length = stream.read(&mut buffer).await.unwrap();
            if length == 0 {
                break;
            }
            bytes.borrow_mut().extend_from_slice(&buffer[..length]);
            count.set(count.get() + 1);
        }
        end.set(true);
    });
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    let sent: Vec<u8> = (0..=255).collect();
    simulation.world().stdin_write(&sent);
    simulation.must("all bytes", || heard.borrow().len() == 256, SECOND);
    assert!(!ended.get());
    simulation.world().stdin_close();
    simulation.must("the end", || ended.get(), SECOND);
    assert_eq!(*heard.borrow(), sent);
    assert!(pieces.get() > 4, "{} pieces", pieces.get());
}

#[test]
fn job_that_hangs_delays_no_other_and_goes_on_when_its_path_answers() {
    for seed in 0..20 {
        let mut simulation = Simulation::new(seed);
        let disk = simulation.disk().clone();
        disk.outside().create_dir_all("/dead/below").unwrap();
        disk.hang(Path::new("/dead"), true);
        let env = simulation.env(ShardId(0));
        let done = Rc::new(RefCell::new(Vec::new()));
        for path in ["/dead/below", "/"] {
            let (job, done) = (env.disk().clone(), Rc::clone(&done));
            let job = env.blocking(move || job.stat(Path::new(path)).map(|stat| stat.inode));
            env.spawn("job", async move {
                let inode = job.await.unwrap();
                done.borrow_mut().push((path, inode));
            });
        }
        simulation.run_for(SECOND * 100);
        assert_eq!(done.borrow().iter().map(|one| one.0).collect::<Vec<_>>(), ["/"], "seed {seed}");
        assert_eq!(simulation.stuck_jobs(ShardId(0), crate::env::Pool::Plugins), 1);
        if seed % 2 == 0 {
            simulation.crash_shards();
            simulation.run_for(SECOND);
            assert_eq!(done.borrow().len(), 1);
            continue;
        }
        disk.hang(Path::new("/dead"), false);
        simulation.run_for(SECOND);
        assert_eq!(done.borrow().len(), 2);
        assert_eq!(simulation.stuck_jobs(ShardId(0), crate::env::Pool::Plugins), 0);
    }
}

#[test]
fn task_that_waits_for_a_path_that_hangs_is_found() {
    let run = || {
        let mut simulation = Simulation::new(1);
        simulation.disk().hang(Path::new("/"), true);
        let env = simulation.env(ShardId(0));
        env.clone().spawn("careless", async move { drop(env.disk().stat(Path::new("/"))) });
        simulation.run_for(SECOND);
    };
    let panic = std::panic::catch_unwind(run).expect_err("it is found");
    assert!(panic.downcast_ref::<String>().is_some_and(|text| text.contains("hangs, and a task waits for it")));
}
