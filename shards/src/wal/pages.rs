//! Pages of a log that may not be in memory: which a reader has to bring in before it goes on.
//!
//! Guarantees: a reader that keeps up with the writer asks nothing; one that lags asks once for each stretch, and what is not in
//! memory is read where it may block. Does not keep pages in memory: a system that is short of it takes them back at any time, and
//! the reader waits for the disk then.

use super::log::Place;
use super::segment::Segment;
use crate::env::{Disk, Map as _};
use std::cell::Cell;
use std::sync::Arc;

/// Bytes before the tail that count as just written.
const HOT_BYTES: u64 = 4 * 1024 * 1024;

/// Bytes that are brought in at once. Many outputs may lag, and resident pages count as memory of the process.
const STRETCH_BYTES: u64 = 2 * 1024 * 1024;

/// What one cursor knows of the pages in front of it.
pub(super) struct Pages {
    /// The tail when the cursor was made: what lies behind it was written since.
    written_from: Place,
    /// The end of the stretch that is in memory.
    until: Cell<Place>,
    /// The stretch that is wanted: its start, and the end of it.
    wanted: Cell<Option<(Place, u64)>>,
}

impl Pages {
    pub(super) fn new(tail: Place) -> Pages {
        Pages { written_from: tail, until: Cell::default(), wanted: Cell::default() }
    }

    /// Whether `length` bytes at `place` may be read at once. If not, they are wanted.
    pub(super) fn allow(&self, place: Place, length: u64, tail: Place) -> bool {
        let just_written = place.segment == tail.segment && place.offset + HOT_BYTES >= tail.offset;
        let until = self.until.get();
        if just_written && place >= self.written_from
            || place.segment == until.segment && place.offset + length <= until.offset
        {
            return true;
        }
        let end = place.offset + length.max(STRETCH_BYTES);
        // Nothing was written behind the tail: bringing that in would only make pages of zeros.
        let end = if place.segment == tail.segment { end.min(tail.offset.max(place.offset + length)) } else { end };
        self.wanted.set(Some((place, end)));
        false
    }

    /// The stretch of `segment` that is wanted.
    pub(super) fn wanted<D: Disk>(&self, segment: &Arc<Segment<D>>) -> Option<ColdPages<D>> {
        let (place, end) = self.wanted.get()?;
        let end = end.min(segment.bytes());
        Some(ColdPages { segment: segment.clone(), offset: place.offset, end })
    }

    /// Says that what was wanted is in memory.
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
    /// Whether it is in memory after all. Does not block.
    pub fn are_resident(&self) -> bool {
        self.segment.map.is_resident(self.offset as usize, self.length())
    }

    /// Brings it in. Blocks.
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
