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

/// Waits until all other threads sleep. A thread that has just been started, or has just started another one, allocates for
/// itself before it waits for the first time. On a busy machine, that may be much later.
fn wait_for_other_threads() {
    let begun = Instant::now();
    // A thread may start another one between the look at the one and at the other.
    let mut quiet = 0;
    while quiet < 2 {
        match busy_thread() {
            None => quiet += 1,
            Some(stat) => {
                quiet = 0;
                assert!(begun.elapsed() < Duration::from_secs(60), "a thread does not sleep: {stat}");
                std::thread::yield_now();
            }
        }
    }
}

/// What the kernel says about another thread that does not sleep.
fn busy_thread() -> Option<String> {
    let own = std::fs::read_link("/proc/thread-self").expect("the link to this thread");
    let threads = std::fs::read_dir("/proc/self/task").expect("the threads of this process");
    let others = threads.flatten().filter(|thread| Some(&*thread.file_name()) != own.file_name());
    // A thread that has ended meanwhile has no state.
    let mut stats = others.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    stats.find(|stat| stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with('S')))
}

#[test]
fn steady_state_allocates_nothing_per_event() {
    wait_for_other_threads();
    assert!(allocations(|| drop(std::hint::black_box(Box::new(7)))) > 0, "the count counts nothing");
    steps::every_step_allocates_nothing();
    product::blackhole_takes_events_without_allocations();
    product::files_take_events_without_allocations();
}
