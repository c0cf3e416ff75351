//! The simulator: the second implementation of the seam, on a seed.
//!
//! Guarantees: the engine runs on it unchanged, all shards on one thread, and a run is a function of its seed: the
//! same tasks in the same order, the same delays, the same losses at a crash. [`Simulation`] drives it, [`SimDisk`]
//! outlives crashes, [`World`] is all that is not the process, [`oracle`] judges what came out. Does not speed up
//! real time, talk to a kernel, or know what an input or output is.
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
