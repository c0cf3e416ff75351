//! A cursor: reads a log frame by frame, directly from the mapped segments.
//!
//! Guarantees: sees only whole groups. Frames of segments that are no longer written are verified with their checksum, because
//! their bytes may come from the disk. Damage is an error with its location, and skipping it reports which sequences are lost.
//! Costs one header decode per frame, no allocation, and no lock except between two segments.

use super::frame::{FLAG_MASKS, FLAG_TIMESTAMPS, FRAME_HEADER_BYTES, FrameError, FrameHeader, FrameKind, FrameView};
use super::log::{Log, Place};
use super::pages::{ColdPages, Pages};
use super::recent::Recent;
use super::scan::{find_frame, is_sound};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::{Damage, OutputNumber, Position, Sequence, WalError};
use crate::env::Disk;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;

/// A frame in a mapped segment. Prevents the segment from being recycled.
pub struct Frame<D: Disk> {
    segment: Arc<Segment<D>>,
    offset: u64,
    header: FrameHeader,
    first_event: u32,
    /// The frame's bytes as they were built, if they are still in memory.
    recent: Option<Rc<Vec<u8>>>,
}

impl<D: Disk> Clone for Frame<D> {
    fn clone(&self) -> Frame<D> {
        Frame { segment: self.segment.clone(), recent: self.recent.clone(), ..*self }
    }
}

impl<D: Disk> Frame<D> {
    /// The header.
    pub fn header(&self) -> &FrameHeader {
        &self.header
    }

    /// The lines, or the record.
    pub fn payload(&self) -> Cow<'_, [u8]> {
        self.part(FRAME_HEADER_BYTES as u64, self.header.payload_bytes as usize)
    }

    /// Four little-endian bytes for each event: the length of its line.
    pub fn lengths(&self) -> Cow<'_, [u8]> {
        self.part(self.header.layout().lengths, self.header.events as usize * 4)
    }

    /// Eight little-endian bytes for each event: its timestamp. None if all have the header's timestamp.
    pub fn timestamps(&self) -> Option<Cow<'_, [u8]>> {
        let wanted = self.header.has(FLAG_TIMESTAMPS);
        wanted.then(|| self.part(self.header.layout().timestamps, self.header.events as usize * 8))
    }

    /// Eight little-endian bytes for each event: the outputs that get it. None if all go to the header's outputs.
    pub fn masks(&self) -> Option<Cow<'_, [u8]>> {
        let wanted = self.header.has(FLAG_MASKS);
        wanted.then(|| self.part(self.header.layout().masks, self.header.events as usize * 8))
    }

    fn part(&self, start: u64, length: usize) -> Cow<'_, [u8]> {
        match &self.recent {
            Some(bytes) => Cow::Borrowed(&bytes[start as usize..start as usize + length]),
            None => self.segment.read(self.offset + start, length),
        }
    }

    /// The whole frame with its parts checked. Events below [`Frame::first_event`] have already been passed.
    pub fn view(&self) -> Result<FrameView<'_>, WalError> {
        let bytes = self.part(0, self.header.length as usize);
        FrameView::new(bytes).map_err(|error| self.damaged(error))
    }

    /// Converts an error in the content into one that contains the location.
    pub fn damaged(&self, error: FrameError) -> WalError {
        damaged(&self.segment, self.offset, &error)
    }

    /// First event that the cursor had not passed.
    pub fn first_event(&self) -> u32 {
        self.first_event
    }

    /// The position before the frame's first event that has not been passed.
    pub fn before(&self) -> Position {
        Position { sequence: self.header.sequence, event: self.first_event }
    }

    /// The position after the frame.
    pub fn after(&self) -> Position {
        Position { sequence: Sequence(self.header.sequence.0 + 1), event: 0 }
    }

    /// Whether it is read from the mapping of its segment.
    pub fn is_mapped(&self) -> bool {
        self.recent.is_none()
    }

    /// Its location.
    pub fn place(&self) -> Place {
        Place { segment: self.segment.number, offset: self.offset }
    }

    /// Releases the pages of its segment from `from` up to the frame. Their bytes stay readable.
    pub fn release_pages_from(&self, from: u64) {
        use crate::env::Map as _;
        self.segment.map.release(from as usize, (self.offset - from) as usize);
    }
}

/// What was lost by skipping damage: the sequences between the two, both excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The last frame read before it.
    pub after: Sequence,
    /// The first frame after it.
    pub before: Sequence,
    /// The minimum number of frames: a start of the log between the two skips sequences.
    pub frames: u64,
}

/// See the module.
pub struct Cursor<D: Disk> {
    log: Arc<Log<D>>,
    segment: Option<Arc<Segment<D>>>,
    /// The last segment that was read to its end. Zero for none.
    passed: u64,
    offset: u64,
    position: Position,
    last: Sequence,
    epoch: u32,
    all: bool,
    /// Whether checksums of cold bytes are verified.
    verifies: bool,
    /// The frames that the writer appended last, for a cursor on its shard.
    recent: Option<Rc<Recent>>,
    /// Which pages are in memory, for a cursor that must not wait for the disk.
    pages: Option<Pages>,
}

fn damaged<D: Disk>(segment: &Segment<D>, offset: u64, finding: &dyn std::fmt::Display) -> WalError {
    WalError::Damaged { path: segment.path.clone(), offset, finding: finding.to_string() }
}

impl<D: Disk> Cursor<D> {
    /// A cursor that returns event frames from `from` on. The reader must be registered before, so that no segment is recycled
    /// in the meantime.
    pub fn open(log: Arc<Log<D>>, from: Position) -> Cursor<D> {
        let mut cursor = Cursor {
            log,
            segment: None,
            passed: 0,
            offset: SEGMENT_HEADER_BYTES as u64,
            position: from,
            last: Sequence(0),
            epoch: 0,
            all: false,
            verifies: true,
            recent: None,
            pages: None,
        };
        cursor.skip_to(from);
        cursor
    }

    /// Reads frames from memory if the writer of the log still has them there.
    pub fn with_recent(mut self, recent: Option<Rc<Recent>>) -> Cursor<D> {
        self.recent = recent;
        self
    }

    /// Stops before frames whose pages may not be in memory, until [`Cursor::pages_are_in`] is called: see
    /// [`Cursor::cold_pages`].
    pub fn without_waiting(mut self) -> Cursor<D> {
        self.pages = Some(Pages::new(self.log.tail()));
        self
    }

    /// If [`Cursor::next`] found no frame because pages are not in memory: the pages to load before it can continue.
    pub fn cold_pages(&self) -> Option<ColdPages<D>> {
        self.pages.as_ref()?.wanted(self.segment.as_ref()?)
    }

    /// Records that the pages from [`Cursor::cold_pages`] are in memory.
    pub fn pages_are_in(&self) {
        self.pages.iter().for_each(Pages::are_in);
    }

    /// Makes it return frames of every kind.
    pub fn all_kinds(mut self) -> Cursor<D> {
        self.all = true;
        self
    }

    /// The log it reads.
    pub fn log(&self) -> &Arc<Log<D>> {
        &self.log
    }

    /// The first event that has not been passed.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Moves to `position`, forward or back.
    pub fn skip_to(&mut self, position: Position) {
        self.position = position;
        let target = self.log.segment_of(position);
        let same = match (&target, &self.segment) {
            (Some(target), Some(current)) => target.number == current.number,
            _ => false,
        };
        if !same || position.sequence <= self.last {
            (self.segment, self.passed) = (target, 0);
            self.offset = SEGMENT_HEADER_BYTES as u64;
            (self.last, self.epoch) = (Sequence(0), 0);
        }
    }

    /// The next event frame. None at the tail and before cold pages. After an error the cursor is before the damage.
    #[allow(clippy::should_implement_trait, reason = "an iterator ends permanently, but the tail of a log moves on")]
    pub fn next(&mut self) -> Result<Option<Frame<D>>, WalError> {
        let tail = self.log.tail();
        loop {
            let Some(segment) = &self.segment else {
                // A log without a writer may end with a seal: nothing follows it, and nothing new appears before it.
                self.segment = match self.passed {
                    0 => self.log.segment_of(self.position),
                    passed => self.log.segment_from(passed + 1),
                };
                if self.segment.is_none() {
                    return Ok(None);
                }
                continue;
            };
            if (Place { segment: segment.number, offset: self.offset }) >= tail {
                return Ok(None);
            }
            if let Some(end) = segment.gap_end(self.offset) {
                self.offset = end;
                continue;
            }
            if self.offset + FRAME_HEADER_BYTES as u64 > segment.bytes() {
                self.next_segment();
                continue;
            }
            let place = Place { segment: segment.number, offset: self.offset };
            let recent = self.recent.as_ref().and_then(|recent| recent.find(place));
            let is_in =
                |length| recent.is_some() || self.pages.as_ref().is_none_or(|all| all.allow(place, length, tail));
            if !is_in(FRAME_HEADER_BYTES as u64) {
                return Ok(None);
            }
            let header = self.decode(segment, tail, recent.as_ref().map(|bytes| bytes.as_slice()))?;
            if !is_in(u64::from(header.length)) {
                return Ok(None);
            }
            if recent.is_none() {
                self.verify(segment, tail, &header)?;
            }
            let offset = self.offset;
            (self.last, self.epoch) = (header.sequence, header.epoch);
            self.offset += u64::from(header.length);
            let wanted = self.all || header.kind == FrameKind::Events;
            if !wanted || header.sequence < self.position.sequence {
                if header.kind == FrameKind::Seal {
                    self.next_segment();
                }
                continue;
            }
            let segment = segment.clone();
            if header.kind == FrameKind::Seal {
                self.next_segment();
            }
            let same = header.sequence == self.position.sequence;
            let first_event = if same { self.position.event } else { 0 };
            let frame = Frame { segment, offset, header, first_event, recent };
            self.position = frame.after();
            return Ok(Some(frame));
        }
    }

    fn decode(&self, segment: &Segment<D>, tail: Place, recent: Option<&[u8]>) -> Result<FrameHeader, WalError> {
        let fail = |finding: &dyn std::fmt::Display| damaged(segment, self.offset, finding);
        let head = match recent {
            Some(bytes) => Cow::Borrowed(&bytes[..FRAME_HEADER_BYTES]),
            None => segment.read(self.offset, FRAME_HEADER_BYTES),
        };
        let header = FrameHeader::decode(&head).map_err(|error| fail(&error))?;
        if header.log != self.log.id() || header.sequence <= self.last || header.epoch < self.epoch {
            return Err(fail(&"a frame of another start or log"));
        }
        let limit = if segment.number == tail.segment { tail.offset } else { segment.bytes() };
        if self.offset + u64::from(header.length) > limit {
            return Err(fail(&FrameError::Length));
        }
        Ok(header)
    }

    fn verify(&self, segment: &Segment<D>, tail: Place, header: &FrameHeader) -> Result<(), WalError> {
        // Bytes of a segment that is no longer written may have been read back from the disk.
        let cold = self.verifies && segment.number != tail.segment && header.sequence >= self.position.sequence;
        if cold && !is_sound::<D>(&segment.read(self.offset, header.length as usize)) {
            return Err(damaged(segment, self.offset, &FrameError::Checksum));
        }
        Ok(())
    }

    fn next_segment(&mut self) {
        self.passed = self.segment.as_ref().map_or(self.passed, |segment| segment.number);
        self.segment = self.log.segment_from(self.passed + 1);
        self.offset = SEGMENT_HEADER_BYTES as u64;
    }

    /// Skips the damage that [`Cursor::next`] has just reported, and returns which sequences are lost. None if nothing readable
    /// follows yet; the cursor is then at the tail.
    pub fn skip_damage(&mut self) -> Option<Lost> {
        let tail = self.log.tail();
        let after = self.last;
        let mut from = self.offset + 8;
        while let Some(segment) = self.segment.clone() {
            let found = find_frame(&segment, self.log.id(), from, after, self.epoch);
            let found = found.filter(|(offset, _)| Place { segment: segment.number, offset: *offset } < tail);
            if let Some((offset, header)) = found {
                self.offset = offset;
                let frames = if header.epoch == self.epoch { header.sequence.0 - after.0 - 1 } else { 1 };
                return Some(Lost { after, before: header.sequence, frames });
            }
            if segment.number >= tail.segment {
                self.offset = tail.offset;
                return None;
            }
            self.next_segment();
            from = self.offset;
        }
        None
    }
}

/// What a log contains for an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Events.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// What `output` gets at or after `position`: what it still has to deliver after recovery. Damage is skipped, because it is
/// reported elsewhere.
pub fn events_after<D: Disk>(log: &Arc<Log<D>>, position: Position, output: OutputNumber) -> Owed {
    let mut cursor = Cursor::open(log.clone(), position);
    // Recovery has just verified every checksum.
    cursor.verifies = false;
    let (mut owed, mut segment) = (Owed::default(), 0);
    loop {
        match cursor.next() {
            Ok(Some(frame)) => {
                let Owed { events, bytes } = frame_events(&frame, output.bit());
                owed = Owed { events: owed.events + events, bytes: owed.bytes + bytes };
                if segment != frame.place().segment {
                    log.release_pages(segment);
                    segment = frame.place().segment;
                }
            }
            Ok(None) => {
                log.release_pages(segment);
                return owed;
            }
            Err(_) => {
                cursor.skip_damage();
            }
        }
    }
}

fn frame_events<D: Disk>(frame: &Frame<D>, bit: u64) -> Owed {
    let header = frame.header();
    if header.outputs & bit == 0 {
        return Owed::default();
    }
    if !header.has(super::frame::FLAG_MASKS) && frame.first_event() == 0 {
        return Owed { events: u64::from(header.events), bytes: u64::from(header.payload_bytes) };
    }
    let Ok(view) = frame.view() else { return Owed::default() };
    let Ok(lines) = view.lines(frame.first_event()) else { return Owed::default() };
    let mine = lines.filter(|line| line.mask & bit != 0);
    mine.fold(Owed::default(), |sum, line| Owed { events: sum.events + 1, bytes: sum.bytes + line.bytes.len() as u64 })
}

/// Whether nothing at or after `position` was in damaged bytes: a frame before it comes after them, or the very next one does.
pub fn has_passed<D: Disk>(log: &Arc<Log<D>>, position: Position, damage: &Damage) -> bool {
    let Some(segment) = log.segment_of(position) else { return false };
    if segment.number != damage.segment {
        return segment.number > damage.segment;
    }
    let from = Position { sequence: segment.first_sequence, event: 0 };
    let mut cursor = Cursor::open(log.clone(), from).all_kinds();
    cursor.verifies = false;
    loop {
        let frame = match cursor.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return false,
            Err(_) if cursor.skip_damage().is_some() => continue,
            Err(_) => return false,
        };
        let (sequence, place) = (frame.header().sequence, frame.place());
        if place.segment != damage.segment || sequence > position.sequence {
            return false;
        }
        let end = if sequence < position.sequence { damage.offset } else { damage.offset + damage.bytes };
        if place.offset >= end {
            return true;
        }
    }
}
