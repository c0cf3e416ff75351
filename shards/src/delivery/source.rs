//! What a delivery reads: one WAL, its cursor, and how much of it has been delivered.
//!
//! Guarantees: frames come in the order of the WAL, none twice unless the reader goes back. Frames without events for the
//! output are skipped. Does not commit: the delivery does.

use crate::env::{Disk, Timestamp};
use crate::keeper::Release;
use crate::plugin::{Column, Piece, PieceParts};
use crate::wal::cursor::{Cursor, Frame};
use crate::wal::log::{Log, Place, Reader};
use crate::wal::pages::ColdPages;
use crate::wal::recent::Recent;
use crate::wal::{LogId, OutputNumber, Position, Sequence};
use std::rc::Rc;
use std::sync::Arc;

/// Bytes of delivered frames that may stay resident for each WAL.
const RESIDENT_BYTES: u64 = 1024 * 1024;

/// A WAL as one output reads it.
pub struct LogReader<D: Disk> {
    log: Arc<Log<D>>,
    cursor: Cursor<D>,
    recent: Option<Rc<Recent>>,
    claim: Arc<Reader>,
    /// Whether nothing writes this WAL any more. It is removed when every output has passed its end.
    adopted: bool,
    /// Whether this output has passed its end with a commit, or such a commit is being written.
    end_released: bool,
    /// The first frame after the damage that was counted last.
    damaged: Sequence,
    /// Segment of the last released position.
    released: u64,
    number: OutputNumber,
    /// The first event not yet delivered.
    delivered: Position,
    /// Where pages before the delivered position are still resident.
    resident: Place,
    /// Whether pages before it were read at all.
    touched: bool,
    /// The end of the log when no more frames were found. Everything before it has been taken or has no events for the output.
    seen: Option<Position>,
    /// The next frame, and the next event in it: either read ahead or partly taken.
    next: Option<(Frame<D>, u32)>,
}

/// A part of a frame that is being delivered.
pub struct Taken<D: Disk> {
    /// Index of its reader.
    pub reader: usize,
    frame: Frame<D>,
    first: u32,
    end: u32,
}

/// Frames that cannot be read.
pub struct Unreadable {
    /// How many sequences are lost.
    pub frames: u64,
    /// What was found, where, and what to do about it.
    pub message: String,
}

impl<D: Disk> LogReader<D> {
    /// A reader of `log` for one output, starting at `position`, which `claim` protects.
    pub fn new(log: Arc<Log<D>>, claim: Arc<Reader>, number: OutputNumber, position: Position) -> LogReader<D> {
        let cursor = Cursor::open(log.clone(), position).without_waiting();
        let released = segment_of(&log, position);
        let resident = Place::default();
        LogReader {
            log,
            cursor,
            recent: None,
            claim,
            adopted: false,
            end_released: false,
            damaged: Sequence(0),
            released,
            number,
            delivered: position,
            resident,
            touched: false,
            seen: None,
            next: None,
        }
    }

    /// Marks the log as adopted: nothing writes it any more.
    pub fn of_adopted(mut self) -> LogReader<D> {
        self.adopted = true;
        self.end_released = self.is_at_the_end();
        self
    }

    /// Lets it read frames from memory while they are available, for a log that this shard writes.
    pub fn read_recent(&mut self, recent: Rc<Recent>) {
        self.cursor = self.cursor_at(self.delivered).with_recent(Some(recent.clone()));
        self.recent = Some(recent);
    }

    /// The log's identity.
    pub fn log_id(&self) -> LogId {
        self.log.id()
    }

    /// The first event not yet delivered.
    pub fn position(&self) -> Position {
        self.delivered
    }

    /// The value that lets the log reuse space up to `position`, once a commit of it is durable.
    pub fn release(&self, position: Position) -> Release<D> {
        Release { log: self.log.clone(), reader: self.claim.clone(), position }
    }

    /// Records that a commit of `position` is being written.
    pub fn released(&mut self, position: Position) {
        self.released = segment_of(&self.log, position);
        self.end_released |= self.adopted && position.sequence > self.log.last();
    }

    fn is_at_the_end(&self) -> bool {
        self.delivered.sequence > self.log.last()
    }

    /// Events for the output that this process has appended to the log.
    pub fn appended(&self) -> u64 {
        self.log.appended(self.number)
    }

    /// Whether the log's writer waits for a free segment.
    pub fn log_is_full(&self) -> bool {
        self.log.is_full()
    }

    /// Whether a commit of what is delivered would free a segment.
    pub fn has_left_a_segment(&self) -> bool {
        self.resident.segment > self.released || segment_of(&self.log, self.delivered) > self.released
    }

    /// Pages that must be in memory before [`LogReader::next_epoch`] can return what follows.
    pub fn cold_pages(&self) -> Option<ColdPages<D>> {
        self.cursor.cold_pages()
    }

    /// Records that these pages are in memory.
    pub fn pages_are_in(&self) {
        self.cursor.pages_are_in();
    }

    /// The start of the engine that wrote the next frame with events for the output. None if there is no such frame yet, or if
    /// it is not in memory.
    pub fn next_epoch(&mut self) -> Result<Option<u32>, Unreadable> {
        if self.next.is_none()
            && let Some(frame) = self.next_frame()?
        {
            let first = frame.first_event();
            self.next = Some((frame, first));
        }
        Ok(self.next.as_ref().map(|(frame, _)| frame.header().epoch))
    }

    /// When the frame that [`LogReader::next_epoch`] found came into the log; `unknown` where it does not say so.
    pub fn waits_since(&self, unknown: Timestamp) -> Option<Timestamp> {
        self.next.as_ref().map(|(frame, _)| frame.header().written.unwrap_or(unknown))
    }

    /// Takes the frame that [`LogReader::next_epoch`] found, or the part of it with at most `events_max` events.
    pub fn take(&mut self, index: usize, events_max: u64) -> Option<Taken<D>> {
        let (frame, first) = self.next.take()?;
        let events = frame.header().events;
        let end = u32::try_from(events_max).map_or(events, |most| events.min(first.saturating_add(most)));
        if end < events {
            self.next = Some((frame.clone(), end));
        }
        Some(Taken { reader: index, frame, first, end })
    }

    fn next_frame(&mut self) -> Result<Option<Frame<D>>, Unreadable> {
        self.seen = None;
        loop {
            // Must be read before the cursor: frames that are published in between are found next time.
            let end = self.log.end();
            match self.cursor.next() {
                // A frame that contains only positions has the outputs of its pipeline in its mask too.
                Ok(Some(frame)) if frame.header().events > 0 && frame.header().outputs & self.number.bit() != 0 => {
                    return Ok(Some(frame));
                }
                Ok(Some(_)) => {}
                Ok(None) => {
                    self.seen = self.cursor.cold_pages().is_none().then_some(end);
                    return Ok(None);
                }
                Err(error) => {
                    // The number of events in a lost frame is unknown: at least one.
                    let lost = self.cursor.skip_damage();
                    let behind = lost.map_or(self.damaged, |lost| lost.before);
                    let frames = lost.map_or(1, |lost| lost.frames);
                    // A reader that went back finds the same damage again.
                    let known = behind <= self.damaged && lost.is_some();
                    self.damaged = self.damaged.max(behind);
                    return Err(Unreadable { frames: if known { 0 } else { frames }, message: error.to_string() });
                }
            }
        }
    }

    /// Records that everything up to the end of `part` is delivered. Its pages count as resident memory of the process, so they
    /// are released, in stretches, because each release is a system call.
    pub fn delivered(&mut self, part: &Taken<D>) {
        self.delivered = part.after();
        let place = part.frame.place();
        if place.segment != self.resident.segment {
            if std::mem::take(&mut self.touched) {
                self.log.release_pages(self.resident.segment);
            }
            self.resident = Place { segment: place.segment, offset: 0 };
        } else if place.offset >= self.resident.offset + RESIDENT_BYTES {
            if std::mem::take(&mut self.touched) {
                part.frame.release_pages_from(self.resident.offset);
            }
            self.resident.offset = place.offset;
        }
        self.touched |= part.frame.is_mapped();
    }

    /// Moves the position past frames without events for the output. Call only when nothing taken is undelivered. Returns
    /// whether a commit is worth a frame: the position moved to another segment, or frees an adopted log.
    pub fn pass_over(&mut self) -> bool {
        let Some(seen) = self.seen else { return false };
        let before = segment_of(&self.log, self.delivered);
        self.delivered = self.delivered.max(seen);
        let lets_log_go = self.adopted && !self.end_released && self.is_at_the_end();
        lets_log_go || segment_of(&self.log, self.delivered) > before
    }

    /// Reads again from `position`.
    pub fn go_back(&mut self, position: Position) {
        self.next = None;
        self.seen = None;
        self.delivered = position;
        self.resident = Place::default();
        self.cursor = self.cursor_at(position).with_recent(self.recent.clone());
    }

    fn cursor_at(&self, position: Position) -> Cursor<D> {
        Cursor::open(self.log.clone(), position).without_waiting()
    }
}

fn segment_of<D: Disk>(log: &Log<D>, position: Position) -> u64 {
    log.segment_of(position).map_or(0, |segment| segment.number)
}

impl<D: Disk> Taken<D> {
    /// Number of events in it, including those for other outputs.
    pub fn events(&self) -> u64 {
        u64::from(self.end - self.first)
    }

    /// Bytes of its frame's lines, which count toward the batch limit.
    pub fn bytes(&self) -> u64 {
        u64::from(self.frame.header().payload_bytes) * self.events() / u64::from(self.frame.header().events.max(1))
    }

    /// Bytes of the lines that it keeps in memory: those of its whole frame.
    pub fn held_bytes(&self) -> u64 {
        u64::from(self.frame.header().payload_bytes)
    }

    /// When its frame came into the log; `unknown` where it does not say so.
    pub fn waits_since(&self, unknown: Timestamp) -> Timestamp {
        self.frame.header().written.unwrap_or(unknown)
    }

    /// The position after it.
    pub fn after(&self) -> Position {
        let header = self.frame.header();
        match self.end == header.events {
            true => Position { sequence: Sequence(header.sequence.0 + 1), event: 0 },
            false => Position { sequence: header.sequence, event: self.end },
        }
    }

    /// Its events for the output with mask `bit`, unchanged as they are in the log.
    pub fn piece(&self, bit: u64) -> Piece<'_> {
        let header = self.frame.header();
        let parts = PieceParts {
            payload: self.frame.payload(),
            lengths: self.frame.lengths(),
            timestamps: self.frame.timestamps().map_or(Column::Same(header.timestamp.0 as u64), Column::Each),
            masks: self.frame.masks().map_or(Column::Same(header.outputs), Column::Each),
        };
        Piece::new(parts, bit, self.first, self.end)
    }
}
