//! A cursor: one reader's way through a log, frame by frame, straight from the mapped segments.
//!
//! Guarantees: sees only whole groups; frames of segments that are no longer written are checked against their checksum,
//! since their bytes may come from the disk; damage is an error with its place, and going on behind it says which
//! sequences are lost. Costs a header decode per frame, no allocation and no lock except from one segment to the next.

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

/// A frame in a mapped segment. Keeps the segment from being recycled.
pub struct Frame<D: Disk> {
    segment: Arc<Segment<D>>,
    offset: u64,
    header: FrameHeader,
    first_event: u32,
    /// The frame's bytes, where they are still in memory as they were built.
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

    /// Eight little-endian bytes for each event: when it happened. None when all happened at the header's time.
    pub fn timestamps(&self) -> Option<Cow<'_, [u8]>> {
        let wanted = self.header.has(FLAG_TIMESTAMPS);
        wanted.then(|| self.part(self.header.layout().timestamps, self.header.events as usize * 8))
    }

    /// Eight little-endian bytes for each event: the outputs that get it. None when all go to the header's outputs.
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

    /// The whole frame, its parts checked. Events below [`Frame::first_event`] are passed already.
    pub fn view(&self) -> Result<FrameView<'_>, WalError> {
        let bytes = self.part(0, self.header.length as usize);
        FrameView::new(bytes).map_err(|error| self.damaged(error))
    }

    /// Turns a finding about the content into an error that names the place.
    pub fn damaged(&self, error: FrameError) -> WalError {
        damaged(&self.segment, self.offset, &error)
    }

    /// First event that the cursor had not passed.
    pub fn first_event(&self) -> u32 {
        self.first_event
    }

    /// The position before the frame's first event not yet passed.
    pub fn before(&self) -> Position {
        Position { sequence: self.header.sequence, event: self.first_event }
    }

    /// The position behind the frame.
    pub fn after(&self) -> Position {
        Position { sequence: Sequence(self.header.sequence.0 + 1), event: 0 }
    }

    /// Whether it is read from the mapping of its segment.
    pub fn is_mapped(&self) -> bool {
        self.recent.is_none()
    }

    /// Where it lies.
    pub fn place(&self) -> Place {
        Place { segment: self.segment.number, offset: self.offset }
    }

    /// Gives the pages of its segment from `from` up to the frame back to the system; their bytes stay readable.
    pub fn release_pages_from(&self, from: u64) {
        use crate::env::Map as _;
        self.segment.map.release(from as usize, (self.offset - from) as usize);
    }
}

/// What was lost by going on behind damage: sequences between the two, both excluded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The last frame read before it.
    pub after: Sequence,
    /// The first one behind it.
    pub before: Sequence,
    /// How many at least: a start of the log between the two skips sequences.
    pub frames: u64,
}

/// See the module.
pub struct Cursor<D: Disk> {
    log: Arc<Log<D>>,
    segment: Option<Arc<Segment<D>>>,
    /// The last segment that was read to its end; zero for none.
    passed: u64,
    offset: u64,
    position: Position,
    last: Sequence,
    epoch: u32,
    all: bool,
    /// Whether checksums of cold bytes are computed.
    verifies: bool,
    /// What the writer appended last, for a cursor on its shard.
    recent: Option<Rc<Recent>>,
    /// Which pages are in memory, for a cursor that must not wait for the disk.
    pages: Option<Pages>,
}

fn damaged<D: Disk>(segment: &Segment<D>, offset: u64, finding: &dyn std::fmt::Display) -> WalError {
    WalError::Damaged { path: segment.path.clone(), offset, finding: finding.to_string() }
}

impl<D: Disk> Cursor<D> {
    /// A cursor that returns event frames from `from` on. The reader has registered before, so that nothing goes meanwhile.
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

    /// Takes frames that the writer of the log still has in memory from there.
    pub fn with_recent(mut self, recent: Option<Rc<Recent>>) -> Cursor<D> {
        self.recent = recent;
        self
    }

    /// Stops before frames whose pages may not be in memory, until it is told that they are: [`Cursor::cold_pages`].
    pub fn without_waiting(mut self) -> Cursor<D> {
        self.pages = Some(Pages::new(self.log.tail()));
        self
    }

    /// What has to be brought in before [`Cursor::next`] goes on, where it found no frame because of that.
    pub fn cold_pages(&self) -> Option<ColdPages<D>> {
        self.pages.as_ref()?.wanted(self.segment.as_ref()?)
    }

    /// Says that the pages which [`Cursor::cold_pages`] named are in memory.
    pub fn pages_are_in(&self) {
        self.pages.iter().for_each(Pages::are_in);
    }

    /// Returns frames of every kind from now on.
    pub fn all_kinds(mut self) -> Cursor<D> {
        self.all = true;
        self
    }

    /// The log it reads.
    pub fn log(&self) -> &Arc<Log<D>> {
        &self.log
    }

    /// The first event not yet passed.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Goes to `position`, forward or back.
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

    /// The next event frame, or none at the tail and before cold pages. After an error the cursor stands before the damage.
    #[allow(clippy::should_implement_trait, reason = "an iterator ends for good; the tail of a log moves on")]
    pub fn next(&mut self) -> Result<Option<Frame<D>>, WalError> {
        let tail = self.log.tail();
        loop {
            let Some(segment) = &self.segment else {
                // A log that nobody writes may end with a seal: behind it there is nothing, and before it nothing new.
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
            return Err(fail(&"a frame of another time or log"));
        }
        let limit = if segment.number == tail.segment { tail.offset } else { segment.bytes() };
        if self.offset + u64::from(header.length) > limit {
            return Err(fail(&FrameError::Length));
        }
        Ok(header)
    }

    fn verify(&self, segment: &Segment<D>, tail: Place, header: &FrameHeader) -> Result<(), WalError> {
        // Bytes that nobody writes any more may have been read back from the disk.
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

    /// Goes on behind the damage that [`Cursor::next`] has just reported; which sequences are lost by it. None when nothing
    /// readable follows yet; the cursor then stands at the tail.
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

/// What a log holds for an output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owed {
    /// Events.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

/// What `output` gets at or behind `position`: what recovery owes it. Damage is passed over, since it is reported elsewhere.
pub fn events_after<D: Disk>(log: &Arc<Log<D>>, position: Position, output: OutputNumber) -> Owed {
    let mut cursor = Cursor::open(log.clone(), position);
    // Recovery has just computed every checksum.
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

/// Whether nothing at or behind `position` was in damaged bytes: a frame before it lies behind them, or the very next one does.
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
