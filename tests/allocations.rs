//! Allocations: none per event in steady state, counted by the allocator of this test's own process.
//!
//! Guarantees: every step that an event passes is run on warm buffers and allocates nothing at all; the product itself, on real
//! files and the real executor, allocates for time that passes and not for events that pass. One test, since the count is of
//! the process: nothing else may run beside it, the thread that started it included.
#![forbid(unsafe_code)]

#[path = "allocations/pipelines.rs"]
mod pipelines;
#[path = "allocations/product.rs"]
mod product;
#[path = "allocations/steps.rs"]
mod steps;
#[path = "allocations/verbs.rs"]
mod verbs;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls to the allocator for memory while `work` runs, by any thread.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// Waits until the thread that runs tests sleeps: it allocates for itself when it has just started one, and then waits for it.
fn wait_for_the_runner() {
    let path = format!("/proc/self/task/{}/stat", std::process::id());
    let begun = Instant::now();
    loop {
        let stat = std::fs::read_to_string(&path).expect("the first thread is there");
        let (_, rest) = stat.rsplit_once(") ").expect("a name in brackets, then the state");
        if rest.starts_with('S') {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "the runner does not sleep: {stat}");
        std::thread::yield_now();
    }
}

#[test]
fn steady_state_allocates_nothing_per_event() {
    wait_for_the_runner();
    assert!(allocations(|| drop(std::hint::black_box(Box::new(7)))) > 0, "the count counts nothing");
    steps::every_step_allocates_nothing();
    product::blackhole_takes_events_without_allocations();
    product::files_take_events_without_allocations();
}
