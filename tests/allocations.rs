//! Allocations: none per event in the steady state, counted by the allocator of this test's process.
//!
//! Guarantees: each step that an event passes runs on warm buffers and allocates nothing. The product itself, with real files
//! and the real executor, allocates for elapsed time but not for events. There is only one test, because the count covers the
//! whole process: nothing else may run at the same time, including the thread that started the test.
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

/// Number of calls for memory while `work` runs, by any thread.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

/// Waits until the test runner's thread sleeps: after it starts a thread it allocates for itself, and then waits.
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
