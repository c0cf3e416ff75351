//! Reads the bytes of a segment: what is at a place, and where the next intact frame is.
//!
//! Guarantees: every returned frame has a correct checksum and belongs to the right log. Does not check order.

use super::LogId;
use super::Sequence;
use super::frame::{FRAME_HEADER_BYTES, FRAME_MAGIC, FrameError, FrameHeader, FrameView, checksum_holds};
use super::segment::Segment;
use crate::env::{Disk, File as _, Sabotage};

/// Bytes searched at once.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Whether the checksum of a whole frame is correct.
pub(crate) fn is_sound<D: Disk>(frame: &[u8]) -> bool {
    checksum_holds(frame) || D::sabotaged(Sabotage::SkipChecksum)
}

/// The whole frame at `offset`, with its checksum verified. An unknown version is reported only if its checksum is correct:
/// otherwise it is damage.
pub(crate) fn frame_at<D: Disk>(segment: &Segment<D>, offset: u64) -> Result<FrameView<'_>, FrameError> {
    let head = segment.read(offset, FRAME_HEADER_BYTES);
    let length = match FrameHeader::decode(&head) {
        Ok(header) => header.length,
        Err(FrameError::Version(version)) => {
            let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
            let bytes = segment.read(offset, length as usize);
            let whole = bytes.len() == length as usize && is_sound::<D>(&bytes);
            return Err(if whole { FrameError::Version(version) } else { FrameError::Checksum });
        }
        Err(error) => return Err(error),
    };
    let bytes = segment.read(offset, length as usize);
    if bytes.len() < length as usize {
        return Err(FrameError::Length);
    }
    if !is_sound::<D>(&bytes) {
        return Err(FrameError::Checksum);
    }
    FrameView::new(bytes)
}

/// The next intact frame of `log` at or after `from` with a sequence above `after` and an epoch of at least `epoch`.
pub(crate) fn find_frame<D: Disk>(
    segment: &Segment<D>,
    log: LogId,
    from: u64,
    after: Sequence,
    epoch: u32,
) -> Option<(u64, FrameHeader)> {
    let finder = memchr::memmem::Finder::new(&FRAME_MAGIC.to_le_bytes()).into_owned();
    let mut start = from.next_multiple_of(8);
    while start + FRAME_HEADER_BYTES as u64 <= segment.bytes() {
        // Allocated space that was never written is zero, and reading it would fill memory with zeros.
        start = match segment.file.next_data(start) {
            Ok(Some(data)) => data.max(start) / 8 * 8,
            Ok(None) => return None,
            Err(_) => start,
        };
        // Frames and windows begin at multiples of 8, so no magic number is split between two windows.
        let window = segment.read(start, WINDOW_BYTES);
        for at in finder.find_iter(&window) {
            let offset = start + at as u64;
            if !offset.is_multiple_of(8) {
                continue;
            }
            let Ok(header) = FrameHeader::decode(&segment.read(offset, FRAME_HEADER_BYTES)) else {
                continue;
            };
            // Stale frames are recognized by their numbers, before a checksum is computed.
            if header.log == log
                && header.sequence > after
                && header.epoch >= epoch
                && frame_at(segment, offset).is_ok()
            {
                return Some((offset, header));
            }
        }
        start += WINDOW_BYTES as u64;
    }
    None
}
