//! The write-ahead log (WAL): the format, and the types that the rest of the engine uses.
//!
//! Guarantees: what the [`writer::Writer`] published survives the death of the process. Everything up to the synced sequence
//! survives a power loss. Recovery is a pure function of the bytes found (invariant E6). Damage is quarantined and reported,
//! never skipped silently. Does not know what an event means: a payload is lines of bytes.
//!
//! # Directory
//!
//! ```text
//! data_dir/
//! ├── lock                          held with flock while an engine runs; its owner's alone
//! ├── manifest                      text: format version, next log id, logs, numbers of outputs, checksum (written to a new file, synced, renamed)
//! ├── quarantine/                   copies of damaged bytes: log-ID-segment-N-offset-O.bin; log-ID-segment-N-missing, empty,
//! │                                 records that this was reported
//! └── wal/log-00000001/             one log; its id is never reused
//!     ├── 0000000000000001.seg      segments, numbered from 1; the lowest are removed first, those without events before older ones
//!     └── standby-0.seg             preallocated or recycled files waiting to become the next segment
//! ```
//!
//! # Segment
//!
//! A file of exactly `segment_bytes`, allocated before use. All integers are little-endian, all records start at a multiple
//! of 8 bytes.
//!
//! ```text
//! 0        64                                                                          segment_bytes
//! ┌────────┬──────────────────┬────────┬────────┬───┬────────┬──────────┬──────────────┐
//! │ header │ frame (snapshot) │ frame  │ frame  │...│ frame  │ seal     │ stale bytes  │
//! └────────┴──────────────────┴────────┴────────┴───┴────────┴──────────┴──────────────┘
//! header: magic "TWSG" u32 · crc32c u32 of the bytes 8..64 · version u8 · 7 zero bytes · log u64 · segment number u64 ·
//!         first sequence u64 · epoch u32 · 4 zero bytes · segment_bytes u64 · previous u64
//! ```
//!
//! `previous` is the last segment before this one that contains events. Segments between the two contain nothing that is not also
//! in the snapshot at the beginning of this one. They are removed as soon as it is durable, although older segments stay. Commits
//! therefore always have space in a log that is full of events. Version 1 had no such field: there every segment needs the
//! previous one.
//!
//! The first frames are a snapshot (several independent frames if it is long), so that recycling an older segment loses
//! neither positions nor cursors nor the registry. A full segment ends with a seal, a frame without payload. A mark, also
//! without payload, follows a sync after which nothing was appended: its header says that everything before it was durable,
//! as the header of any later frame does. After the last frame follow zeros or stale bytes: a recycled file keeps its old
//! bytes, which have lower sequences and are never taken for current ones.
//!
//! Segments are removed one by one, each durably before the next. The header of a standby file that an earlier start left behind
//! is erased before the file is used, so that its old bytes cannot come back under a new name.
//!
//! # Frame, version 3
//!
//! Version 2 differs in the payload of snapshots, version 1 also in that of commits, as noted there.
//!
//! ```text
//! offset bytes field
//!      0     4 magic "TWF1"
//!      4     4 crc32c (Castagnoli) of the bytes 8..length
//!      8     4 length of the whole frame, a multiple of 8
//!     12     1 version (3)
//!     13     1 kind: 1 events, 2 snapshot, 3 commit, 4 seal, 5 mark (not in version 1)
//!     14     2 flags: 1 MORE, 2 TIMESTAMPS, 4 MASKS, 8 EPOCH
//!     16     8 log id
//!     24     4 epoch: grows at each start of the log
//!     28     4 shard that wrote it (for people)
//!     32     8 sequence: grows by one with each frame; may jump only where EPOCH is set
//!     40     8 synced: every sequence up to this one was durable when the frame was written
//!     48     4 pipeline
//!     52     4 event count
//!     56     8 outputs: bit n set means output number n gets the events (events without MASKS)
//!     64     8 timestamp, ns since 1970 (events without TIMESTAMPS; wall clock of the writer for a frame without events)
//!     72     4 payload bytes
//!     76     4 position section bytes
//!     80     8 events discarded before the log for the ranges recorded here (lane policy, filters), for accounting
//!     88     8 when it was written, wall clock, ns since 1970; zero in frames of programs before this field was used
//!     96     - payload: event lines, each with its newline; padded with zero to 8
//!      -     - index: u32 length of each line; padded to 8; then i64 timestamp of each event if TIMESTAMPS; then u64 mask of
//!              each event if MASKS
//!      -     - position section, padded to 8
//! ```
//!
//! `MORE` marks a frame whose group continues in the next frame. A group is valid only with its last frame, which contains the
//! position of its batch. Positions that were withheld may be in frames beside it, and none counts before the group is complete.
//! Recovery removes an incomplete group, and readers see a group only when it is complete. A batch of more than half a segment is
//! split into several groups, with its position in the last. A group may cross into
//! the next segment; seal and snapshot frames in between do not end it.
//! `EPOCH` marks the first frame after a start of the log, which has a higher epoch and whose sequence may jump: a snapshot, or
//! the seal of the segment when the snapshot has to open the next one.
//! A sequence or commit number above 2^60, an epoch above 2^30 and a segment number from 2^36 on are damage, whatever the checksum.
//! With MASKS `outputs` is the union of the masks; with TIMESTAMPS `timestamp` is that of the first event. Later versions keep
//! magic, checksum, length and version at the same offsets, in frames and in segment headers, so that they can be distinguished
//! from damage. In frames they also keep log, epoch and sequence, so that they can be distinguished from stale bytes.
//!
//! Position section, one entry after the other: source key u128 · from u64 · to u64 · marker u64 · flags u16 (1 a source
//! record follows, 2 the source is gone) · 6 zero bytes. A source record: input name length u16 · name length u16 ·
//! descriptor length u32 · the three byte strings · zero to 8. The record is present when the source is new in this segment
//! or has changed.
//!
//! Snapshot payload: registry, sources, commits, each a u32 count and its entries.
//! Registry entry: number u8 · flags u8 (1 removed) · name length u16 · name.
//! Source entry: key u128 · gone since i64 (ns, 0 while it exists) · marker u64 · interval count u32 · epoch u32 in which it was
//! last updated (not in version 1) · when it was last recorded i64 (ns; since version 3) · (from u64, to u64) each · source
//! record. In versions 1 and 2 this is the record of a position section. Since version 3 it is: input u32 · directory u32 ·
//! length u16 of the rest of the name · flags u16 (1 the descriptor ends with the name, which is left out there) · length u32 of
//! what is stored of the descriptor · new strings · rest of the name · descriptor · zero to 8. Input and directory are numbers of
//! strings of this frame, counted from 0 in the order in which they first occur. The next number stores its string here: length
//! u16 · bytes. The directory is the name up to its last slash. Commit entry: as the payload of a commit frame, preceded by its
//! length u32.
//!
//! Commit payload: output number u8 · flags u8 (1 the state was lost to damage) · 2 zero bytes · state length u32 · commit
//! number u64 · cursor count u32 · 4 zero bytes · instance u64 (the log that the output's instance writes to, 0 for an output
//! with one instance; not in version 1) · (log u64, sequence u64, event u32, 4 zero bytes) each · state bytes. A cursor names
//! the first event not yet delivered. Of each instance the commit with the highest number wins, in whichever log it is found;
//! of the cursors of all instances of an output the furthest counts. Bits 40 and up of the number grow with each owner of the
//! output's number: commits of an earlier owner do not count.
//!
//! # Recovery
//!
//! [`recovery`] scans each log in order. A frame counts if its checksum and its log are correct, its sequence is the next one
//! (or EPOCH allows the jump) and its epoch is not lower. Otherwise, a table decides. If the `synced` field of a later frame
//! proves that this frame was durable, it is damage: it is quarantined and reported, and the log continues after it. If not, it
//! is the torn tail: the log is truncated there and later frames are discarded. An unknown version is never changed: the start
//! is refused.

pub mod builder;
pub mod bytes;
pub mod commits;
pub mod cursor;
pub mod frame;
pub mod log;
pub mod manifest;
pub mod pages;
pub mod positions;
pub mod recent;
pub mod record;
pub mod recovery;
mod scan;
pub mod segment;
mod snapshot;
pub mod standby;
pub mod table;
#[cfg(test)]
mod tests;
pub mod writer;

use crate::batch::{Source, SourceKey};
use crate::env::{Timestamp, is_exhausted};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Identity of a log in its data directory; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogId(pub u64);

/// Position of a frame in its log. Zero is before the first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Sequence(pub u64);

/// A position in a log: the first event that has not been passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Position {
    /// The frame.
    pub sequence: Sequence,
    /// The event in it. Events before it have been passed.
    pub event: u32,
}

/// Number of an output: its bit in a frame's mask, below [`crate::limits::OUTPUTS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputNumber(pub u8);

impl OutputNumber {
    /// The output's bit in a mask.
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

/// When an append counts as durable and is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// After a sync that was started for it.
    EveryBatch,
    /// After the next sync on this interval.
    Interval(Duration),
    /// At once. The system writes back whenever it chooses.
    Never,
}

/// Where the segments are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalType {
    /// In files that outlive the process.
    Disk,
    /// In anonymous memory: the same code, but nothing survives.
    Memory,
}

/// Settings of the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalOptions {
    /// Where the segments are stored.
    pub kind: WalType,
    /// When an append counts as durable.
    pub sync: SyncPolicy,
    /// Bytes of one segment.
    pub segment_bytes: u64,
    /// Bytes of all segments of one log; at least [`crate::limits::SEGMENTS_MIN`] segments.
    pub log_bytes: u64,
}

/// An output, as the log knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryEntry {
    /// Its bit.
    pub number: OutputNumber,
    /// Its configured name.
    pub name: String,
    /// Whether it was removed from the configuration. Its number is free when no frame on disk refers to it.
    pub removed: bool,
}

/// A durable cursor of one output over all logs it reads, and the output's own state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The output.
    pub output: OutputNumber,
    /// The owner of the state: if the output runs on every shard, the log of the instance's shard. None if the output has one
    /// instance, and in commits written by the layout.
    pub instance: Option<LogId>,
    /// Grows with each commit of the output.
    pub number: u64,
    /// The first event not yet delivered, per log.
    pub cursors: Vec<(LogId, Position)>,
    /// The output's state, opaque. None if damage has destroyed it.
    pub state: Option<Vec<u8>>,
}

impl Commit {
    /// Bytes of its state.
    pub fn state_bytes(&self) -> usize {
        self.state.as_ref().map_or(0, Vec::len)
    }
}

/// What is known about one source: which of its bytes are in logs or were deliberately omitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// The source itself.
    pub source: Arc<Source>,
    /// Covered bytes: sorted, disjoint, not adjacent.
    pub intervals: Vec<(u64, u64)>,
    /// The marker of the highest covered byte.
    pub marker: u64,
    /// When the source was found to be missing.
    pub gone: Option<Timestamp>,
    /// The start of the engine in which a log last recorded something about the source. Copies of this state keep the value.
    pub told: u32,
    /// When a log last recorded something about the source. Zero if it was only in a snapshot of a version that did not say so.
    pub recorded: Timestamp,
}

impl SourceState {
    /// The source's permanent identity.
    pub fn key(&self) -> SourceKey {
        self.source.key
    }

    /// One past the highest covered byte.
    pub fn end(&self) -> u64 {
        self.intervals.last().map_or(0, |interval| interval.1)
    }
}

/// Damage that recovery found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The log.
    pub log: LogId,
    /// The segment's number.
    pub segment: u64,
    /// First damaged byte.
    pub offset: u64,
    /// Damaged bytes.
    pub bytes: u64,
    /// The path of the copy. None if the segment is missing altogether, or if the bytes could not be copied.
    pub quarantined: Option<PathBuf>,
    /// Why they could not be copied. They stay in place until their segment is delivered.
    pub uncopied: Option<String>,
    /// The last frame before the damage and the first one after it, if the log was not started in between: the frames between
    /// the two are lost. If several damages are adjacent, the first one carries the loss, and the others carry none.
    pub between: Option<(Sequence, Sequence)>,
    /// Whether an earlier start found it too, and copied the same bytes or recorded what is missing.
    pub known: bool,
    /// What was found, as text.
    pub finding: String,
}

impl Damage {
    /// Whether a whole log is missing.
    pub fn is_whole_log(&self) -> bool {
        self.segment == 0
    }

    /// How many frames are lost with it, including those without events, if that is known.
    pub fn frames(&self) -> Option<u64> {
        self.between.map(|(after, before)| before.0.saturating_sub(after.0 + 1))
    }
}

/// The failure of a log, by what the caller does next.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// No segment is available now. Wait until one is recycled or disk space becomes available.
    #[error("the write-ahead log is full")]
    Full,
    /// A sync or write failed: bytes may be lost, so nothing more can be guaranteed. The process must stop, and recovery
    /// follows.
    #[error(
        "{what} of {path} failed: {source}{}; nothing was acknowledged that is not durable: check the disk and restart", next_step(.source)
    )]
    Poisoned {
        /// The call that failed.
        what: &'static str,
        /// The segment.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The data directory cannot be used in its current state. A person must act.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// A group that fits in no segment. Waiting does not help.
    #[error("a frame of {bytes} bytes does not fit: a segment of the write-ahead log has space for {room}")]
    TooLarge {
        /// Bytes of the frame or group.
        bytes: u64,
        /// Available bytes.
        room: u64,
    },
    /// A commit whose state does not fit in the snapshot of each segment.
    #[error("a commit with {bytes} bytes of state: at most {most} are allowed")]
    StateTooLarge {
        /// Bytes of the state.
        bytes: usize,
        /// The maximum.
        most: usize,
    },
    /// A reader found a frame that differs from what was written. The reader may skip it.
    #[error("{path}: damaged at byte {offset}: {finding}")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where the frame should begin.
        offset: u64,
        /// What is wrong with it.
        finding: String,
    },
    /// The disk returned an error for a call that may succeed later.
    #[error("{path}: {source}{}", next_step(.source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl WalError {
    /// Whether the disk has no space: existing data can still be read, and space may become available.
    pub fn is_no_room(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, WalError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }
}

/// What a person can do about an error of the disk.
fn next_step(error: &std::io::Error) -> &'static str {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded => "; free space on that disk, or lower wal.max_bytes",
        FileTooLarge => "; raise the limit of file sizes (ulimit -f, LimitFSIZE), or lower wal.segment_bytes",
        _ if is_exhausted(error) => "; raise the limit of open files (ulimit -n, LimitNOFILE)",
        _ => "",
    }
}
