//! Tailwater's engine: it moves bytes and keeps the delivery guarantees. It knows neither formats nor protocols.
//!
//! ```text
//!  input task ── batch ──> lane (ring) ──> intake: pipeline ── frame group ──> write-ahead log ──> tail
//!      ^  chunks, acknowledged tickets  |                                        |  sync by policy
//!      └────────────────────────────────┘                     delivery per output: cursor ── batch ──> output
//! ```
//!
//! Each core runs one shard: its inputs, its lanes, its write-ahead log, its deliveries. Cores share no mutable state.
//!
//! Invariants. Each has a test that carries its name:
//! - E1 acknowledged means durable, as the sync policy defines it.
//! - E2 delivered, dead-lettered or counted as discarded with a reason: `received + recovered = delivered + discarded +
//!   dead_lettered + buffered` at every scrape.
//! - E3 order holds per source, repeats aside.
//! - E4 every queue is bounded, and its limit is in [`limits`].
//! - E5 only owned batches cross a lane: no `Rc`, no lock.
//! - E6 recovery is a pure function of the bytes on disk.
//! - E7 a failed sync poisons the log: it is never retried until it succeeds.
//! - E8 nothing blocks the executor thread.
//!
//! Floors: a module uses only modules of lower floors (the workspace's `tests/tidy.rs` enforces it).
//!
//! | floor | modules |
//! |---|---|
//! | 0 | `limits`, `batch`, `scan`, `shape`, `record`, `counters`, `env`, `signal`, `stop`, `retry`, `spell`, `counted` |
//! | 1 | `ring`, `lane`, `route`, `wal` |
//! | 2 | `dlq` |
//! | 3 | `plugin` |
//! | 4 | `keeper`, `withheld`, `pipeline`, `intake`, `delivery` |
//! | 5 | `mesh`, `service`, `shard` |
//! | 6 | `engine` |
//! | 7 | `glommio_env`, `sim` |
#![deny(unsafe_code)]
#![deny(missing_docs)]

pub mod batch;
pub mod counted;
pub mod counters;
pub mod delivery;
pub mod dlq;
pub mod engine;
pub mod env;
pub mod glommio_env;
pub mod intake;
pub mod keeper;
pub mod lane;
pub mod limits;
pub mod mesh;
pub mod pipeline;
pub mod plugin;
pub mod record;
pub mod retry;
pub mod ring;
pub mod route;
#[allow(unsafe_code, reason = "vector instructions load and store through pointers")]
pub mod scan;
pub mod service;
pub mod shape;
pub mod shard;
pub mod signal;
pub mod sim;
pub mod spell;
pub mod stop;
pub mod wal;
pub mod withheld;
