//! The changes on disk after recovery has decided.
//!
//! Guarantees: rewritten bytes are unchanged. All functions block.

use super::RecoveredLog;
use crate::env::{Disk, File as _, Map as _};
use crate::wal::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameKind};
use crate::wal::log::{Log, LogStart};
use crate::wal::segment::{SEGMENT_HEADER_BYTES, Segment, Standby, io_error, standby_number};
use crate::wal::{Position, Sequence, WalError};
use std::sync::Arc;

impl<D: Disk> RecoveredLog<D> {
    /// Makes everything up to the tail durable. A page may be clean in the cache without being on the disk, if a sync failed in
    /// an earlier start. Everything that is not known to be durable is therefore written again, with the same bytes, and
    /// synced. Does nothing if this has already been done. Blocks.
    pub fn harden(&mut self, disk: &D) -> Result<(), WalError> {
        // No frame records its own durability, so only a call of this function makes it certain.
        let Some(tail) = self.tail.filter(|_| self.synced < self.last) else { return Ok(()) };
        for (index, segment) in self.segments.iter().enumerate() {
            let behind = self.segments.get(index + 1);
            if behind.is_some_and(|behind| behind.first_sequence.0 <= self.synced.0 + 1) {
                continue;
            }
            let end = if segment.number == tail.segment { tail.offset } else { segment.bytes() };
            rewrite(segment, self.synced, end).and_then(|()| segment.file.sync()).map_err(io_error(&segment.path))?;
            segment.map.release(0, segment.map.length());
        }
        disk.sync_dir(&self.directory).map_err(io_error(&self.directory))?;
        self.synced = self.last;
        Ok(())
    }

    /// Removes what was never durable and keeps up to `keep` files for reuse. Blocks.
    pub(crate) fn clear_leftovers(
        &self,
        disk: &D,
        segment_bytes: u64,
        keep: usize,
    ) -> Result<Vec<Standby<D>>, WalError> {
        for path in &self.discarded {
            disk.remove(path).map_err(io_error(path))?;
        }
        let mut standbys = Vec::new();
        for path in &self.standbys {
            let number = path.file_name().and_then(|name| name.to_str()).and_then(standby_number);
            match number {
                Some(number) if standbys.len() < keep => {
                    match Standby::prepare(disk, &self.directory, number, segment_bytes) {
                        // Continues without this file. The writer reports an error if it needs it.
                        Err(error) if error.is_no_room() => {}
                        standby => standbys.push(standby?),
                    }
                }
                _ => disk.remove(path).map_err(io_error(path))?,
            }
        }
        Ok(standbys)
    }

    /// Creates standby files until there are `wanted`, or fewer on a full disk. Returns the first free file number. Blocks.
    pub(crate) fn stock(
        &self,
        disk: &D,
        segment_bytes: u64,
        wanted: usize,
        standbys: &mut Vec<Standby<D>>,
    ) -> Result<u64, WalError> {
        let mut number = standbys.iter().map(|standby| standby.number + 1).max().unwrap_or(0);
        while standbys.len() < wanted {
            match Standby::prepare(disk, &self.directory, number, segment_bytes) {
                // The content of the log can be delivered nevertheless, which frees space.
                Err(error) if error.is_no_room() && !(self.segments.is_empty() && standbys.is_empty()) => break,
                standby => standbys.push(standby?),
            }
            number += 1;
        }
        Ok(number)
    }

    /// The first position after everything that was found.
    pub fn end(&self) -> Position {
        Position { sequence: Sequence(self.last.0 + 1), event: 0 }
    }

    /// The log for inspection, while nothing writes it.
    pub fn reader(&self, disk: D) -> Arc<Log<D>> {
        let bytes = self.segments.first().map_or(0, |segment| segment.bytes());
        let tail = self.tail.unwrap_or_default();
        let start = LogStart { segments: self.segments.clone(), tail, last: self.last, synced: self.last };
        Arc::new(Log::new(self.id, self.directory.clone(), disk, bytes, start))
    }

    /// The log for readers only: the log of a shard that no longer exists, to be drained. Blocks.
    pub fn into_log(mut self, disk: D) -> Result<Arc<Log<D>>, WalError> {
        self.harden(&disk)?;
        Ok(self.reader(disk))
    }
}

fn rewrite<D: Disk>(segment: &Segment<D>, synced: Sequence, end: u64) -> std::io::Result<()> {
    let again = |offset: u64, length: usize| segment.file.write_at(&segment.read(offset, length), offset);
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    if segment.first_sequence > synced {
        again(0, SEGMENT_HEADER_BYTES)?;
    }
    while offset < end {
        if let Some(behind) = segment.gap_end(offset) {
            offset = behind;
            continue;
        }
        let Ok(header) = FrameHeader::decode(&segment.read(offset, FRAME_HEADER_BYTES)) else { break };
        if header.sequence > synced {
            again(offset, header.length as usize)?;
        }
        offset += u64::from(header.length);
        if header.kind == FrameKind::Seal {
            break;
        }
    }
    Ok(())
}
