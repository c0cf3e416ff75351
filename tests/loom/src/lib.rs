//! The ring, the signal and the shared log of the engine, compiled from their own files on loom's atomics and locks, and models of
//! how they are used.
//!
//! Guarantees: what is checked is the code that ships; a model fails for a data race on a slot or a frame, an item or a frame
//! lost, repeated, leaked or out of order, a segment taken from a reader that claims it, and a task that sleeps for ever, in
//! interleavings with at most [`models::PREEMPTIONS`] preemptions (`LOOM_MAX_PREEMPTIONS=n` asks for more). Models know
//! capacities of one or two: a ring has no other cases. A log has up to three segments of three frames.
//!
//! The log's surroundings are small: [`env`] and [`wal`] hold what its file imports, and a writer and a cursor that make the
//! calls of the engine's own in the same order. Whoever changes that order there changes it here. The waker cell that the signal
//! takes from a crate is modelled in [`waker`]: that crate does not build on loom.
//!
//! Loom's locks order more than those of the standard library do: a mistake that shows only without that is not found.
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
