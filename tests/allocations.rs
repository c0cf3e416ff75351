//! Allocations: none per event in steady state, counted by the allocator of this test's own process.
//!
//! Guarantees: every step that an event passes is run on warm buffers and allocates nothing at all; the product itself, on real
//! files and the real executor, allocates for time that passes and not for events that pass. One test, since the count is of
//! the process: nothing else may run beside it.
#![forbid(unsafe_code)]

#[path = "allocations/product.rs"]
mod product;
#[path = "allocations/steps.rs"]
mod steps;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls to the allocator for memory while `work` runs, by any thread.
fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn steady_state_allocates_nothing_per_event() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(7)))) > 0, "the count counts nothing");
    steps::every_step_allocates_nothing();
    product::blackhole_takes_events_without_allocations();
    product::files_take_events_without_allocations();
}
