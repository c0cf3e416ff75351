//! The ring and the signal of the engine, compiled from their own files on loom's atomics, and models of how they are used.
//!
//! Guarantees: what is checked is the code that ships; a model fails for a data race on a slot, an item lost, repeated, leaked or
//! out of order, and a task that sleeps for ever, in any interleaving with at most [`models::PREEMPTIONS`] preemptions
//! (`LOOM_MAX_PREEMPTIONS=n` asks for more). Models know capacities of one or two: a ring has no other cases.
//!
//! The waker cell that the signal takes from a crate is modelled in [`waker`]: that crate does not build on loom.
#![deny(unsafe_code)]

#[cfg(test)]
mod models;
#[path = "../../../shards/src/ring.rs"]
pub mod ring;
#[path = "../../../shards/src/signal.rs"]
pub mod signal;
pub mod waker;
