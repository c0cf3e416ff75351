//! The dead letter queue: events that could not be processed or delivered, kept on disk with the reason until a person decides.
//!
//! Guarantees: a stored letter survives the death of the process and a power loss, whatever `wal.sync` says. The queue is
//! bounded, and what its policy drops is counted. No component and no source of one can use all of it ([`shares`]). Damage is
//! reported with its location and skipped. A torn tail is truncated.
//! A letter may exist twice if the process died between storing it and passing its event. Does not decide which events become
//! letters, and does not deliver any.
//!
//! # Directory
//!
//! ```text
//! data_dir/dlq/
//! └── shard-0000/                   letters that this shard stored
//!     ├── 1795392754000000.seg      sealed: never written again; commands may rename or remove it
//!     ├── 1795392760000000.open     being written by a running engine, or left by one that died
//!     ├── 1795392750000000.torn     bytes that were cut from a segment because they are no letter; read by nobody, may be removed
//!     └── seal                      created by a command that needs the open one sealed; the engine removes it afterwards
//! ```
//!
//! The name of a segment is the time when it was begun, in microseconds since 1970, or later. Names only grow and are never reused.
//!
//! # Segment
//!
//! All integers are little-endian, all letters start at a multiple of 8 bytes.
//!
//! ```text
//! header, 64 bytes: magic "TWDS" u32 · crc32c u32 of the bytes 8..64 · version u8 · 7 zero bytes · shard u64 · number u64 ·
//!                   zero to 64
//! then letters, one after the other, to the end of the file
//! ```
//!
//! # Letter, version 1
//!
//! ```text
//! offset bytes field
//!      0     4 magic "TWL1"
//!      4     4 crc32c (Castagnoli) of the bytes 8..length
//!      8     4 length of the whole letter, a multiple of 8
//!     12     1 version (1)
//!     13     1 kind of the component: 1 input, 2 pipeline, 3 output
//!     14     2 zero
//!     16     8 when the letter was made, ns since 1970
//!     24     8 timestamp of the event, ns since 1970
//!     32     4 delivery attempts; 0 if there was none
//!     36     2 bytes of the component's name
//!     38     2 bytes of the place in it
//!     40     2 bytes of the source's name
//!     42     2 bytes of the reason
//!     44     4 bytes of the original
//!     48     8 bytes of this segment that were durable when the letter was written
//!     56     - component, place, source, reason, original; zero to the length
//! ```
//!
//! Bytes after the last byte that a letter proves to have been durable may be torn. An engine that finds an open segment sets
//! bytes there that are not a letter aside, and seals the rest. In a sealed segment, bytes that are not a letter are damage.

pub mod clerk;
mod drops;
pub mod letter;
mod parcel;
pub mod segment;
pub mod settle;
pub mod shares;
pub mod store;
#[cfg(test)]
mod tests;

pub use letter::{ComponentKind, DeadLetter, KeptLetter, Letters};
pub use parcel::Parcel;

use crate::env::ShardId;
use std::path::{Path, PathBuf};

/// What happens to a letter when the queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The owner of the letter waits until there is space: nothing is lost.
    #[default]
    Block,
    /// The letter is dropped and counted.
    DropNewest,
    /// The segment with the oldest letters is removed, and its letters are counted.
    DropOldest,
}

/// Settings of the queue of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Maximum bytes of all its segments.
    pub bytes_max: u64,
    /// Bytes after which a segment is sealed. A single letter may be larger.
    pub segment_bytes: u64,
    /// What happens when it is full.
    pub when_full: WhenFull,
}

/// The folder of the queue in a data directory.
pub fn folder(data_dir: &Path) -> PathBuf {
    data_dir.join("dlq")
}

/// The folder of one shard's letters.
pub fn shard_folder(data_dir: &Path, shard: ShardId) -> PathBuf {
    folder(data_dir).join(format!("shard-{:04}", shard.0))
}

/// The shard that a folder's name refers to.
pub fn shard_of(name: &str) -> Option<ShardId> {
    let number = name.strip_prefix("shard-").filter(|digits| digits.len() == 4)?.parse().ok()?;
    Some(ShardId(number))
}
