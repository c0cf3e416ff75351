//! Pages of a log that may not be in memory, and that a reader must load before it continues.
//!
//! Guarantees: a reader that keeps up with the writer makes no calls. One that lags behind makes one call for each stretch, and
//! pages that are not in memory are read where blocking is allowed. Does not lock pages in memory: a system that is short of
//! memory takes them back at any time, and the reader then waits for the disk.

use super::log::Place;
use super::segment::Segment;
use crate::env::{Disk, Map as _};
use std::cell::Cell;
use std::sync::Arc;

/// Bytes before the tail that count as recently written.
const HOT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes that are loaded at once. Many outputs may lag behind, and resident pages count as memory of the process.
const STRETCH_BYTES: u64 = 2 * 1024 * 1024;

/// What one cursor knows about the pages ahead of it.
pub(super) struct Pages {
    /// The tail when the cursor was created: everything after it was written later.
    written_from: Place,
    /// The end of the stretch that is in memory.
    until: Cell<Place>,
    /// The required stretch: its start and its end.
    wanted: Cell<Option<(Place, u64)>>,
}

impl Pages {
    pub(super) fn new(tail: Place) -> Pages {
        Pages { written_from: tail, until: Cell::default(), wanted: Cell::default() }
    }

    /// Whether `length` bytes at `place` may be read at once. If not, they become the required stretch.
    pub(super) fn allow(&self, place: Place, length: u64, tail: Place) -> bool {
        let just_written = place.segment == tail.segment && place.offset + HOT_BYTES >= tail.offset;
        let until = self.until.get();
        if just_written && place >= self.written_from
            || place.segment == until.segment && place.offset + length <= until.offset
        {
            return true;
        }
        let end = place.offset + length.max(STRETCH_BYTES);
        // Nothing was written after the tail: loading that would only create pages of zeros.
        let end = if place.segment == tail.segment { end.min(tail.offset.max(place.offset + length)) } else { end };
        self.wanted.set(Some((place, end)));
        false
    }

    /// The required stretch of `segment`.
    pub(super) fn wanted<D: Disk>(&self, segment: &Arc<Segment<D>>) -> Option<ColdPages<D>> {
        let (place, end) = self.wanted.get()?;
        let end = end.min(segment.bytes());
        Some(ColdPages { segment: segment.clone(), offset: place.offset, end })
    }

    /// Records that the required stretch is in memory.
    pub(super) fn are_in(&self) {
        if let Some((place, end)) = self.wanted.take() {
            self.until.set(Place { segment: place.segment, offset: end });
        }
    }
}

/// A stretch of a segment that may not be in memory.
pub struct ColdPages<D: Disk> {
    segment: Arc<Segment<D>>,
    offset: u64,
    end: u64,
}

impl<D: Disk> ColdPages<D> {
    /// Whether it already is in memory. Does not block.
    pub fn are_resident(&self) -> bool {
        self.segment.map.is_resident(self.offset as usize, self.length())
    }

    /// Loads it. Blocks.
    pub fn read_in(&self) {
        self.segment.map.populate(self.offset as usize, self.length());
    }

    fn length(&self) -> usize {
        self.end.saturating_sub(self.offset) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(segment: u64, offset: u64) -> Place {
        Place { segment, offset }
    }

    #[test]
    fn nothing_behind_the_tail_is_brought_in() {
        let tail = place(3, 4096);
        let pages = Pages::new(tail);
        assert!(!pages.allow(place(3, 64), 96, tail));
        assert_eq!(pages.wanted.get(), Some((place(3, 64), 4096)));
        pages.are_in();
        assert!(pages.allow(place(3, 160), 3936, tail));
        assert!(!pages.allow(place(2, 64), 96, tail), "a whole stretch of a segment before");
        assert_eq!(pages.wanted.get(), Some((place(2, 64), 64 + STRETCH_BYTES)));
    }
}
