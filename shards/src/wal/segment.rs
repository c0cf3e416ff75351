//! Segments: the header of the file, and an open segment.
//!
//! Guarantees: a file is a segment only if its header and its name have the same number. A file is allocated and mapped before
//! it is used. A segment is synced through the descriptor that writes it, opened before its first write. Does not decide when a
//! segment begins or ends.

use super::bytes::Reader;
use super::{LogId, Sequence, WalError};
use crate::env::{Disk, File as _, Map as _, Open};
use crate::limits::{EPOCH_MAX, SEGMENT_NUMBER_MAX, SEQUENCE_MAX};
use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// "TWSG", little-endian.
pub const SEGMENT_MAGIC: u32 = u32::from_le_bytes(*b"TWSG");
/// The version that this code writes.
pub const SEGMENT_VERSION: u8 = 2;
/// The oldest version that this code reads.
pub const SEGMENT_VERSION_OLDEST: u8 = 1;

/// The fields of a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The log it belongs to.
    pub log: LogId,
    /// Its number in the log.
    pub number: u64,
    /// Sequence of its first frame.
    pub first_sequence: Sequence,
    /// The start of the log that created it.
    pub epoch: u32,
    /// Bytes of the file.
    pub segment_bytes: u64,
    /// The last segment before it that contains events. This segment does not need those in between.
    pub previous: u64,
}

/// What the first bytes of a segment file contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderFound {
    /// A header of this version.
    Good(SegmentHeader),
    /// No header, or a wrong checksum.
    Bad,
    /// An intact header of another version.
    Foreign(u8),
}

impl SegmentHeader {
    /// The header as bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut out = [0; SEGMENT_HEADER_BYTES];
        out[0..4].copy_from_slice(&SEGMENT_MAGIC.to_le_bytes());
        out[8] = SEGMENT_VERSION;
        out[16..24].copy_from_slice(&self.log.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.number.to_le_bytes());
        out[32..40].copy_from_slice(&self.first_sequence.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[56..64].copy_from_slice(&self.previous.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&out[8..]);
        out[4..8].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Decodes a header. Another version is distinguished from damage by its checksum, which is at the same offset in every
    /// version.
    pub fn decode(bytes: &[u8]) -> HeaderFound {
        let Some(bytes) = bytes.first_chunk::<SEGMENT_HEADER_BYTES>() else {
            return HeaderFound::Bad;
        };
        if bytes[0..4] != SEGMENT_MAGIC.to_le_bytes() || bytes[4..8] != crc_fast::crc32_iscsi(&bytes[8..]).to_le_bytes()
        {
            return HeaderFound::Bad;
        }
        let version = bytes[8];
        if !(SEGMENT_VERSION_OLDEST..=SEGMENT_VERSION).contains(&version) {
            return HeaderFound::Foreign(version);
        }
        let possible = |header: &SegmentHeader| {
            header.first_sequence.0 <= SEQUENCE_MAX && header.epoch <= EPOCH_MAX && header.previous <= header.number
        };
        SegmentHeader::fields(&bytes[16..], version).ok().filter(possible).map_or(HeaderFound::Bad, HeaderFound::Good)
    }

    fn fields(bytes: &[u8], version: u8) -> Result<SegmentHeader, super::bytes::Malformed> {
        let mut reader = Reader::new(bytes);
        let log = LogId(reader.u64()?);
        let number = reader.u64()?;
        let first_sequence = Sequence(reader.u64()?);
        let epoch = reader.u32()?;
        reader.take(4)?;
        let segment_bytes = reader.u64()?;
        let previous = if version >= 2 { reader.u64()? } else { number.saturating_sub(1) };
        Ok(SegmentHeader { log, number, first_sequence, epoch, segment_bytes, previous })
    }
}

/// Name of a segment's file.
pub fn segment_name(number: u64) -> String {
    format!("{number:016}.seg")
}

/// The number in a segment file's name.
pub fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    let number =
        (digits.len() >= 16 && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?;
    number.filter(|number| *number <= SEGMENT_NUMBER_MAX)
}

/// Name of a standby file, which waits to become a segment.
pub fn standby_name(number: u64) -> String {
    format!("standby-{number}.seg")
}

/// The number in a standby file's name.
pub fn standby_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("standby-")?.strip_suffix(".seg")?.parse().ok();
    number.filter(|number| *number <= SEGMENT_NUMBER_MAX)
}

/// An open segment.
pub struct Segment<D: Disk> {
    /// Its number in the log.
    pub number: u64,
    /// Its file.
    pub path: PathBuf,
    /// The file, open for writing unless the log is only read.
    pub file: Arc<D::File>,
    /// Its bytes.
    pub map: D::Map,
    /// Sequence of its first frame.
    pub first_sequence: Sequence,
    /// The last segment before it that contains events: see [`SegmentHeader::previous`].
    pub previous: u64,
    /// Whether it may contain events. A segment without events is not needed after the next one is durable.
    pub(crate) holds_events: AtomicBool,
    /// Damaged ranges found by recovery: sorted, disjoint. A reader skips them.
    pub gaps: Vec<(u64, u64)>,
}

impl<D: Disk> Segment<D> {
    /// Records that it may contain events. Only the writer of the log calls this.
    pub(crate) fn take_events(&self) {
        self.holds_events.store(true, Ordering::Relaxed);
    }

    pub(crate) fn holds_events(&self) -> bool {
        self.holds_events.load(Ordering::Relaxed)
    }

    /// Bytes of the segment.
    pub fn bytes(&self) -> u64 {
        self.map.length() as u64
    }

    /// The end of the damaged range that contains `offset`.
    pub fn gap_end(&self, offset: u64) -> Option<u64> {
        self.gaps.iter().find(|gap| gap.0 <= offset && offset < gap.1).map(|gap| gap.1)
    }

    /// Up to `length` bytes at `offset`; fewer at the end of the segment.
    pub fn read(&self, offset: u64, length: usize) -> Cow<'_, [u8]> {
        let length = self.bytes().saturating_sub(offset).min(length as u64) as usize;
        if length == 0 { Cow::Borrowed(&[]) } else { self.map.bytes(offset as usize, length) }
    }
}

/// A file that is ready to become a segment: allocated, mapped, with a synced name.
pub struct Standby<D: Disk> {
    pub(crate) number: u64,
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<D::File>,
    pub(crate) map: D::Map,
}

pub(crate) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> WalError + '_ {
    move |source| WalError::Io { path: path.to_path_buf(), source }
}

impl<D: Disk> Standby<D> {
    /// Prepares a file, or one that an earlier start left behind. Blocks.
    pub(crate) fn prepare(disk: &D, directory: &Path, number: u64, bytes: u64) -> Result<Standby<D>, WalError> {
        let path = directory.join(standby_name(number));
        match Standby::fill(disk, &path, bytes) {
            Ok((file, map)) => Ok(Standby { number, path, file: Arc::new(file), map }),
            Err(source) => {
                // The file may occupy part of the last free space, which others may need in order to free more.
                let _ = disk.remove(&path);
                Err(WalError::Io { path, source })
            }
        }
    }

    fn fill(disk: &D, path: &Path, bytes: u64) -> io::Result<(D::File, D::Map)> {
        let file = disk.open(path, Open::Create)?;
        if file.stat()?.length > bytes {
            file.truncate(bytes)?;
        }
        file.allocate(bytes)?;
        // A file of an earlier start may have lost its name as a segment and kept its bytes. If it got a name again and a power
        // loss removed the new header, those bytes would be taken for current ones. The old header is therefore erased durably
        // first.
        file.write_at(&[0; SEGMENT_HEADER_BYTES], 0)?;
        // The length is metadata. Making it durable here avoids slowing down the first sync of data.
        file.sync()?;
        let map = disk.map(&file, bytes)?;
        Ok((file, map))
    }

    /// Gives the file the name of a segment, before it has a segment header. Returns whether the name was new. Without the
    /// header, recovery does not treat it as a segment. The name is durable after the directory is synced.
    pub(crate) fn name(&mut self, disk: &D, number: u64) -> Result<bool, WalError> {
        let path = self.path.with_file_name(segment_name(number));
        if path == self.path {
            return Ok(false);
        }
        disk.rename(&self.path, &path).map_err(io_error(&path))?;
        self.path = path;
        Ok(true)
    }

    /// Gives the file its header and, if it has none yet, its name. The name is durable after the directory is synced.
    pub(crate) fn begin(self, disk: &D, header: &SegmentHeader) -> Result<Segment<D>, WalError> {
        let poisoned = |what, path: &Path| {
            let path = path.to_path_buf();
            move |source| WalError::Poisoned { what, path, source }
        };
        self.file.write_at(&header.encode(), 0).map_err(poisoned("write", &self.path))?;
        let path = self.path.with_file_name(segment_name(header.number));
        if path != self.path {
            disk.rename(&self.path, &path).map_err(poisoned("rename", &path))?;
        }
        Ok(Segment {
            number: header.number,
            path,
            file: self.file,
            map: self.map,
            first_sequence: header.first_sequence,
            previous: header.previous,
            holds_events: AtomicBool::new(false),
            gaps: Vec::new(),
        })
    }
}
