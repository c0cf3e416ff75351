//! The simulator: the second implementation of the `env` interface, driven by a seed.
//!
//! Guarantees: the engine runs on it unchanged, all shards on one thread, and a run is a function of its seed: the
//! same tasks in the same order, the same delays, the same losses at a crash. [`Simulation`] drives it, [`SimDisk`]
//! outlives crashes, [`World`] is everything outside the process, [`oracle`] checks what was delivered. Does not speed up
//! real time, call a kernel, or know what an input or output is.
//!
//! # What can fail here
//!
//! | Part | What happens to it, and through what | What cannot happen yet, and why |
//! |---|---|---|
//! | Process | Killed at any poll, and between any two changes of the disk, also half-way through a write ([`SimDisk::crash_after`]); panics of inputs and outputs | A panic of the engine itself: it ends the process, which a kill does too |
//! | Power | Lost at any time: any page and any name that no sync covers may survive or not, pages may be torn at sectors ([`Crash::Power`]) | A disk that reports a sync that did not happen: no log survives that |
//! | Syncs | Of files and directories: take long, fail once and leave the pages clean; find no free descriptor | A sync that never ends: tests of hanging jobs cover it on a real kernel |
//! | Writes | Fail, or stop half-way for lack of space | Writes to the wrong place: a frame's checksum covers its location |
//! | Space | None for data, none for a name; becomes available again; reserved by writing zeros | Quotas and inodes: they look like a lack of space |
//! | Descriptors | None left, for syncs of directories | For everything else: tests of the product cover it |
//! | Paths | Calls that pass a directory or a file wait until it answers ([`SimDisk::hang`]) | A call of a task that hangs: it is a defect, and panics |
//! | Bytes at rest | One byte of a durable frame of any kind, or of the header of a segment, changes between two starts; a log disappears, or all of its segments, or the first | The manifest and the files of outputs: a start refuses the former, separate tests cover the latter. The last segments of a log: without them it looks like a log that ended earlier. All segments of a new log while the disk is too full to record it in the manifest: it looks like a log that was never written |
//! | Bytes in memory | Pages of the log are not in memory, and loading them waits | Bytes that differ from what was written: nothing would detect it |
//! | Time | The wall clock jumps by a day in either direction; every delay is random; hours pass with the smallest log | A monotonic clock that goes back: no kernel allows it |
//! | Tasks | Run in any order between awaits, on all shards in turn | Two shards at the same instant: loom models cover the memory that they share |
//! | Inputs | Fail, panic in the middle of a batch, end sources, return on another shard, are spread over all shards; lines that fit in no segment | Input over a network: to the log it is the same as a source that cannot be read again |
//! | Processors | Adjacent windows, joined lines, dead letters that depend on the settings; a processor that claims to hold everything forever | A processor that panics: it ends the process |
//! | Outputs | Fail, accept a part, hang, panic, are slow for one source, refuse to open, reject events, commit late or not at all; answer with events that do not exist; return too much state | An output that falsely reports a delivery: nothing could detect it |
//! | Settings | Shards, sizes, policies, placements, pipelines, outputs that are removed and added again, between starts | Two processes on one directory: tests of the product cover the lock |
//!
//! ```
//! use std::cell::Cell;
//! use std::rc::Rc;
//! use std::time::Duration;
//! use tailwater_shards::env::{Env, ShardId};
//! use tailwater_shards::sim::Simulation;
//!
//! let mut simulation = Simulation::new(7);
//! let env = simulation.env(ShardId(0));
//! let done = Rc::new(Cell::new(false));
//! env.spawn("sleeper", {
//!     let (env, done) = (env.clone(), Rc::clone(&done));
//!     async move {
//!         env.sleep(Duration::from_secs(3600)).await;
//!         done.set(true);
//!     }
//! });
//! simulation.must("an hour passes", || done.get(), Duration::from_secs(4000));
//! ```

mod core;
mod disk;
mod env;
mod executor;
mod hanging;
pub mod oracle;
mod prng;
pub mod sabotage;
pub mod script;
mod story;
mod stream;
#[cfg(test)]
mod tests;
mod watch;
mod world;

pub use disk::{Crash, Outside, SimDisk, SimFile, SimLock, SimMap, Struck};
pub use env::{SimConnection, SimEnv};
pub use executor::{Outcome, Simulation};
pub use prng::Prng;
pub use story::Story;
pub use stream::SimStream;
pub use watch::SimWatch;
pub use world::World;
