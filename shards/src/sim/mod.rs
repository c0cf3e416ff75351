//! The simulator: the second implementation of the seam, on a seed.
//!
//! Guarantees: the engine runs on it unchanged, all shards on one thread, and a run is a function of its seed: the
//! same tasks in the same order, the same delays, the same losses at a crash. [`Simulation`] drives it, [`SimDisk`]
//! outlives crashes, [`World`] is all that is not the process, [`oracle`] judges what came out. Does not speed up
//! real time, talk to a kernel, or know what an input or output is.
//!
//! # What can fail here
//!
//! | Part | What happens to it, and who says so | What cannot happen yet, and why |
//! |---|---|---|
//! | Process | Killed at any poll, and between any two changes of the disk, a write half done ([`SimDisk::crash_after`]); panics of inputs and outputs | A panic of the engine itself: it ends the process, which a kill does too |
//! | Power | Lost at any time: of what no sync covers any page and any name survives or not, pages torn at sectors ([`Crash::Power`]) | A disk that says it has synced and has not: no log survives that |
//! | Syncs | Of files and directories: take long, fail once and keep the pages clean; find no descriptor | A sync that never ends: the tests of jobs that hang do it on a real kernel |
//! | Writes | Fail, or stop half way for want of room | Writes that end in the wrong place: the checksum of a frame has its place in it |
//! | Room | None for data, none for a name; comes back; space reserved by writing zeros | Quotas and inodes: they look like no room |
//! | Descriptors | None left, for syncs of directories | For everything else: the tests of the product do it |
//! | Bytes at rest | One byte of a durable frame of any kind, or of the header of a segment, changes between two lives; a log vanishes, all of its segments, or the first | The manifest and the files of outputs: a start refuses the one, tests of their own know the others. The last segments of a log: without them it is a log that ended earlier |
//! | Bytes in memory | Pages of the log are out of memory, and come back with a wait | Other bytes than were written: nothing would notice it |
//! | Time | The wall clock jumps by a day either way; every delay is drawn; hours pass on the smallest log | The monotonic clock never goes back: no kernel lets it |
//! | Tasks | Run in any order between awaits, on all shards in turn | Two shards at the same instant: what they share in memory is modelled under loom |
//! | Inputs | Fail, panic in the middle of a batch, end sources, come back on another shard, are spread over all; lines that no segment holds | Input over a network: one that cannot be read again is the same to the log |
//! | Processors | Windows side by side, joined lines, dead letters that come and go with the settings; one that claims to hold all for ever | One that panics: it ends the process |
//! | Outputs | Fail, take a part, hang, panic, are slow for one source, refuse to open, refuse events, commit late or not at all; answer with events that were not there; attach more than they may | An output that says delivered and has not: nobody could know |
//! | Settings | Shards, sizes, policies, placements, pipelines, outputs that leave and come back, from life to life | Two processes on one directory: a lock that the tests of the product hold |
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
