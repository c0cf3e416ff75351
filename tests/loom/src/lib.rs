//! The engine's ring, signal and shared log, compiled from their own files with loom's atomics and locks, and models of their
//! use.
//!
//! Guarantees: the checked code is the code that ships. A model fails for a data race on a slot or a frame; for an item or a
//! frame that is lost, repeated, leaked or out of order; for a segment that is recycled while a reader claims it; and for a
//! task that sleeps forever. It covers interleavings with at most [`models::PREEMPTIONS`] preemptions
//! (`LOOM_MAX_PREEMPTIONS=n` sets more). Models use capacities of one or two: a ring has no other cases. A log has up to
//! three segments of three frames.
//!
//! The surroundings of the log are small: [`env`] and [`wal`] contain what its file imports, and a writer and a cursor that
//! make the same calls as those of the engine in the same order. Whoever changes that order there must change it here. The
//! waker cell, which the signal takes from a crate, is modelled in [`waker`], because that crate does not build with loom.
//!
//! Loom's locks order more than those of the standard library: an error that appears only without that is not found.
#![deny(unsafe_code)]

#[cfg(test)]
mod env;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod models;
#[path = "../../../shards/src/ring.rs"]
pub mod ring;
#[path = "../../../shards/src/signal.rs"]
pub mod signal;
pub mod waker;
#[cfg(test)]
mod wal;
