//! The whole engine on simulated machines: every seed crashes, loses power, fails and recovers, and every promise is
//! judged at its end.
//!
//! `SEEDS=1000 cargo test --test sim` runs more of them, `SEED=17` one; a failure prints its seed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use tailwater_shards::sim::script::{Told, crash_and_recover};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

#[test]
fn every_seed_crashes_and_recovers() {
    if let Some(seed) = number("SEED") {
        println!("seed {seed}: {:?}", crash_and_recover(seed));
        return;
    }
    let seeds = number("SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64).min(seeds);
    let run = |first: u64| {
        let mut sum = Told::default();
        let mut failed = Vec::new();
        for seed in (first..seeds).step_by(threads as usize) {
            match catch_unwind(AssertUnwindSafe(|| crash_and_recover(seed))) {
                Ok(told) => sum.add(&told),
                Err(_) => failed.push(seed),
            }
        }
        (sum, failed)
    };
    let mut sum = Told::default();
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        for worker in workers {
            let (told, bad) = worker.join().expect("a worker catches what its seeds do");
            sum.add(&told);
            failed.extend(bad);
        }
    });
    failed.sort_unstable();
    println!("{seeds} seeds: {sum:?}");
    assert!(failed.is_empty(), "{} of {seeds} seeds failed; run one with SEED=n: {failed:?}", failed.len());
    if seeds >= SEEDS {
        let all = [sum.crashes, sum.power_losses, sum.failures, sum.drains];
        assert!(all.iter().all(|&count| count >= 10), "some way to end never happened: {sum:?}");
    }
}
