//! Frames: the header, the checksum and the checked view of a frame's bytes.
//!
//! Guarantees: decoding never panics and never reads outside of the given bytes, whatever they contain. A view exists only for
//! a frame whose parts are consistent. Does not verify checksums itself ([`checksum_holds`] does), because that is useless for
//! bytes that this process has just written.

use super::bytes::{Malformed, Reader, padded};
use super::record::{PositionEntry, decode_position};
use super::{LogId, Sequence};
use crate::env::Timestamp;
use crate::limits::{EPOCH_MAX, FRAME_BYTES_MAX, SEQUENCE_MAX};
use std::borrow::Cow;

/// Bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 96;
/// "TWF1", little-endian.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"TWF1");
/// The version that this code writes.
pub const FRAME_VERSION: u8 = 3;
/// The oldest version that this code reads.
pub const FRAME_VERSION_OLDEST: u8 = 1;

/// The frame's group continues in the next frame.
pub const FLAG_MORE: u16 = 1;
/// Each event has its own timestamp.
pub const FLAG_TIMESTAMPS: u16 = 2;
/// Each event has its own mask.
pub const FLAG_MASKS: u16 = 4;
/// First frame after a start of the log.
pub const FLAG_EPOCH: u16 = 8;
const FLAGS_KNOWN: u16 = FLAG_MORE | FLAG_TIMESTAMPS | FLAG_MASKS | FLAG_EPOCH;

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// Lines of events.
    Events = 1,
    /// Registry, sources and commits at this point, or a part of them.
    Snapshot = 2,
    /// The cursor of one output.
    Commit = 3,
    /// The end of a segment.
    Seal = 4,
    /// Only what every header contains: how much was durable when it was written.
    Mark = 5,
}

impl FrameKind {
    fn from_byte(byte: u8) -> Option<FrameKind> {
        Some(match byte {
            1 => FrameKind::Events,
            2 => FrameKind::Snapshot,
            3 => FrameKind::Commit,
            4 => FrameKind::Seal,
            5 => FrameKind::Mark,
            _ => return None,
        })
    }
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame begins here.
    #[error("no frame begins here")]
    Absent,
    /// The length is impossible, or does not match the parts.
    #[error("the header's lengths are impossible")]
    Length,
    /// The version is unknown.
    #[error("frame version {0} is unknown to this program")]
    Version(u8),
    /// Kind or flags are unknown.
    #[error("unknown kind {0} or flags {1:#x}")]
    Kind(u8, u16),
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// The index or a record inside contradicts the header.
    #[error("the frame's content is malformed")]
    Malformed,
}

impl From<Malformed> for FrameError {
    fn from(_: Malformed) -> FrameError {
        FrameError::Malformed
    }
}

/// The fields of a frame's header, except for the checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Bytes of the whole frame, a multiple of 8.
    pub length: u32,
    /// The version of the format in which it was written.
    pub version: u8,
    /// Its content.
    pub kind: FrameKind,
    /// `FLAG_*`.
    pub flags: u16,
    /// The log it belongs to.
    pub log: LogId,
    /// The start of the log that wrote it.
    pub epoch: u32,
    /// The shard that wrote it. Only for people.
    pub shard: u32,
    /// Its number in the log.
    pub sequence: Sequence,
    /// What was durable when it was written.
    pub synced: Sequence,
    /// The pipeline that the events went through.
    pub pipeline: u32,
    /// Number of events.
    pub events: u32,
    /// The outputs of all events; with `FLAG_MASKS` the union of their masks.
    pub outputs: u64,
    /// Timestamp of all events; with `FLAG_TIMESTAMPS` that of the first.
    pub timestamp: Timestamp,
    /// Bytes of the lines, or of the record.
    pub payload_bytes: u32,
    /// Bytes of the position section.
    pub position_bytes: u32,
    /// Events discarded before the log for the ranges recorded here.
    pub discarded: u64,
    /// When it was written; none for a frame of a program that did not say so.
    pub written: Option<Timestamp>,
}

/// The part of a header that has the same location in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) log: LogId,
    pub(crate) epoch: u32,
    pub(crate) sequence: Sequence,
}

impl Standing {
    /// Reads it from the header of a frame of any version. None if there are too few bytes.
    pub(crate) fn of_any_version(header: &[u8]) -> Option<Standing> {
        let mut reader = Reader::new(header.get(16..40)?);
        let (log, epoch, _shard) = (LogId(reader.u64().ok()?), reader.u32().ok()?, reader.u32().ok()?);
        Some(Standing { log, epoch, sequence: Sequence(reader.u64().ok()?) })
    }
}

impl FrameHeader {
    /// This part of the header.
    pub(crate) fn standing(&self) -> Standing {
        Standing { log: self.log, epoch: self.epoch, sequence: self.sequence }
    }

    /// A header of `kind` without content. The writer fills in the rest.
    pub fn empty(kind: FrameKind) -> FrameHeader {
        FrameHeader {
            length: FRAME_HEADER_BYTES as u32,
            version: FRAME_VERSION,
            kind,
            flags: 0,
            log: LogId(0),
            epoch: 0,
            shard: 0,
            sequence: Sequence(0),
            synced: Sequence(0),
            pipeline: 0,
            events: 0,
            outputs: 0,
            timestamp: Timestamp(0),
            payload_bytes: 0,
            position_bytes: 0,
            discarded: 0,
            written: None,
        }
    }

    /// Whether `flag` is set.
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Reads a header from the first bytes of a frame.
    pub fn decode(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
        let Some(fields) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else {
            return Err(FrameError::Absent);
        };
        let mut reader = Reader::new(fields);
        if reader.u32()? != FRAME_MAGIC {
            return Err(FrameError::Absent);
        }
        reader.u32()?;
        let length = reader.u32()?;
        if !length_possible(length) {
            return Err(FrameError::Length);
        }
        let version = reader.u8()?;
        if !(FRAME_VERSION_OLDEST..=FRAME_VERSION).contains(&version) {
            return Err(FrameError::Version(version));
        }
        let kind_byte = reader.u8()?;
        let flags = reader.u16()?;
        let Some(kind) = FrameKind::from_byte(kind_byte).filter(|_| flags & !FLAGS_KNOWN == 0) else {
            return Err(FrameError::Kind(kind_byte, flags));
        };
        let header = FrameHeader {
            length,
            version,
            kind,
            flags,
            log: LogId(reader.u64()?),
            epoch: reader.u32()?,
            shard: reader.u32()?,
            sequence: Sequence(reader.u64()?),
            synced: Sequence(reader.u64()?),
            pipeline: reader.u32()?,
            events: reader.u32()?,
            outputs: reader.u64()?,
            timestamp: Timestamp(reader.i64()?),
            payload_bytes: reader.u32()?,
            position_bytes: reader.u32()?,
            discarded: reader.u64()?,
            written: Some(Timestamp(reader.i64()?)).filter(|written| written.0 != 0),
        };
        if header.sequence.0.max(header.synced.0) > SEQUENCE_MAX || header.epoch > EPOCH_MAX {
            return Err(FrameError::Malformed);
        }
        if header.layout().end != u64::from(length) { Err(FrameError::Length) } else { Ok(header) }
    }

    /// Writes all fields, with a checksum of zero.
    pub fn encode(&self, out: &mut [u8; FRAME_HEADER_BYTES]) {
        *out = [0; FRAME_HEADER_BYTES];
        out[0..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        out[8..12].copy_from_slice(&self.length.to_le_bytes());
        out[12] = self.version;
        out[13] = self.kind as u8;
        out[14..16].copy_from_slice(&self.flags.to_le_bytes());
        out[16..24].copy_from_slice(&self.log.0.to_le_bytes());
        out[24..28].copy_from_slice(&self.epoch.to_le_bytes());
        out[28..32].copy_from_slice(&self.shard.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.synced.0.to_le_bytes());
        out[48..52].copy_from_slice(&self.pipeline.to_le_bytes());
        out[52..56].copy_from_slice(&self.events.to_le_bytes());
        out[56..64].copy_from_slice(&self.outputs.to_le_bytes());
        out[64..72].copy_from_slice(&self.timestamp.0.to_le_bytes());
        out[72..76].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[76..80].copy_from_slice(&self.position_bytes.to_le_bytes());
        out[80..88].copy_from_slice(&self.discarded.to_le_bytes());
        out[88..96].copy_from_slice(&self.written.map_or(0, |written| written.0).to_le_bytes());
    }

    pub(crate) fn layout(&self) -> Layout {
        // Computed in 64 bits, so that hostile fields cannot cause an overflow.
        let pad = |length: u64| length.next_multiple_of(8);
        let events = u64::from(self.events);
        let lengths = FRAME_HEADER_BYTES as u64 + pad(u64::from(self.payload_bytes));
        let timestamps = lengths + pad(events * 4);
        let masks = timestamps + if self.has(FLAG_TIMESTAMPS) { events * 8 } else { 0 };
        let positions = masks + if self.has(FLAG_MASKS) { events * 8 } else { 0 };
        let end = positions + pad(u64::from(self.position_bytes));
        Layout { lengths, timestamps, masks, positions, end }
    }
}

/// Where the parts of a frame begin.
pub(crate) struct Layout {
    pub(crate) lengths: u64,
    pub(crate) timestamps: u64,
    pub(crate) masks: u64,
    positions: u64,
    end: u64,
}

/// Whether a frame can have this length at all.
pub(crate) fn length_possible(length: u32) -> bool {
    let length = length as usize;
    (FRAME_HEADER_BYTES..=FRAME_BYTES_MAX).contains(&length) && length.is_multiple_of(8)
}

/// The checksum of a whole frame.
pub fn checksum(frame: &[u8]) -> u32 {
    // Dispatches at run time to VPCLMULQDQ, PCLMULQDQ or the SSE 4.2 instruction.
    crc_fast::crc32_iscsi(&frame[8..])
}

/// Whether the checksum of a whole frame is correct.
pub fn checksum_holds(frame: &[u8]) -> bool {
    frame.len() >= FRAME_HEADER_BYTES && frame[4..8] == checksum(frame).to_le_bytes()
}

/// A whole frame whose parts were checked against each other.
pub struct FrameView<'a> {
    header: FrameHeader,
    bytes: Cow<'a, [u8]>,
}

/// One event of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Its index in the frame.
    pub index: u32,
    /// The line, including its newline.
    pub bytes: &'a [u8],
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The outputs that get it.
    pub mask: u64,
}

impl<'a> FrameView<'a> {
    /// Checks that `bytes` are one whole frame, except for the checksum.
    pub fn new(bytes: Cow<'a, [u8]>) -> Result<FrameView<'a>, FrameError> {
        let header = FrameHeader::decode(&bytes)?;
        if bytes.len() != header.length as usize {
            return Err(FrameError::Length);
        }
        Ok(FrameView { header, bytes })
    }

    /// The header.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The lines, or the record.
    pub fn payload(&self) -> &[u8] {
        &self.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + self.header.payload_bytes as usize]
    }

    /// The events from `first` on. One pass over the index proves that the lines fill the payload. Nothing is copied.
    pub fn lines(&self, first: u32) -> Result<Lines<'_>, FrameError> {
        let layout = self.header.layout();
        let events = self.header.events as usize;
        let part = |start: u64, length: usize| &self.bytes[start as usize..start as usize + length];
        let (lengths, _) = part(layout.lengths, events * 4).as_chunks::<4>();
        let length_of = |bytes: &[u8; 4]| u64::from(u32::from_le_bytes(*bytes));
        let total: u64 = lengths.iter().map(length_of).sum();
        if total != u64::from(self.header.payload_bytes) {
            return Err(FrameError::Malformed);
        }
        let first = (first as usize).min(events);
        let skipped: u64 = lengths[..first].iter().map(length_of).sum();
        let column = |flag: u16, start: u64| {
            if self.header.has(flag) { part(start, events * 8).as_chunks::<8>().0 } else { &[] }
        };
        Ok(Lines {
            rest: &self.payload()[skipped as usize..],
            next: first,
            lengths,
            timestamps: column(FLAG_TIMESTAMPS, layout.timestamps),
            masks: column(FLAG_MASKS, layout.masks),
            timestamp: self.header.timestamp,
            mask: self.header.outputs,
        })
    }

    /// The source positions.
    pub fn positions(&self) -> Positions<'_> {
        let start = self.header.layout().positions as usize;
        Positions { reader: Reader::new(&self.bytes[start..start + self.header.position_bytes as usize]) }
    }
}

/// Iterator over the events of a frame.
pub struct Lines<'a> {
    rest: &'a [u8],
    next: usize,
    lengths: &'a [[u8; 4]],
    timestamps: &'a [[u8; 8]],
    masks: &'a [[u8; 8]],
    timestamp: Timestamp,
    mask: u64,
}

impl<'a> Iterator for Lines<'a> {
    type Item = Line<'a>;

    #[inline]
    fn next(&mut self) -> Option<Line<'a>> {
        let length = u32::from_le_bytes(*self.lengths.get(self.next)?) as usize;
        let (bytes, rest) = self.rest.split_at(length);
        let line = Line {
            index: self.next as u32,
            bytes,
            timestamp: self.timestamps.get(self.next).map_or(self.timestamp, |t| Timestamp(i64::from_le_bytes(*t))),
            mask: self.masks.get(self.next).map_or(self.mask, |m| u64::from_le_bytes(*m)),
        };
        self.rest = rest;
        self.next += 1;
        Some(line)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.lengths.len() - self.next;
        (left, Some(left))
    }
}

/// Iterator over the source positions of a frame. Ends after the first malformed one.
pub struct Positions<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Positions<'a> {
    type Item = Result<PositionEntry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.is_empty() {
            return None;
        }
        let entry = decode_position(&mut self.reader);
        if entry.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(entry)
    }
}

/// Size in bytes of a frame with these parts.
pub(crate) fn frame_bytes(payload: usize, index: usize, positions: usize) -> usize {
    FRAME_HEADER_BYTES + padded(payload) + index + padded(positions)
}
