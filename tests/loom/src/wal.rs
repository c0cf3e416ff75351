//! The engine's shared log, compiled from its own file, with a minimal writer and cursor.
//!
//! Guarantees: writer and cursor make the same calls as those of the engine in the same order (`wal/writer.rs`: `roll`,
//! `publish`, `wake_readers`, `synced`; `wal/cursor.rs`: `next`, `next_segment`). There are no bytes: a frame is a slot, and
//! a segment has a few of them.

#[allow(dead_code, reason = "the models use a part of it")]
#[path = "../../../shards/src/wal/log.rs"]
pub mod log;

use crate::env::{FRAME_BYTES, Frame, Kind, Memory};
use crate::signal::Signal;
use log::{Log, LogStart, Place};
use loom::sync::Arc;
use segment::Segment;
use std::path::PathBuf;

/// See the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId(pub u64);

/// See the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sequence(pub u64);

/// See the engine's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub sequence: Sequence,
    pub event: u32,
}

/// See the engine's own.
#[derive(Clone, Copy)]
pub struct OutputNumber(pub u8);

/// The position before the frame with this sequence.
pub fn at(sequence: u64) -> Position {
    Position { sequence: Sequence(sequence), event: 0 }
}

/// Minimal segments.
pub mod segment {
    use crate::env::{Disk, Map as _, Slots};
    use crate::wal::Sequence;
    use std::cell::Cell;

    /// See the engine's own. Only the writer asks whether it has events.
    pub struct Segment<D: Disk> {
        pub number: u64,
        pub map: D::Map,
        pub first_sequence: Sequence,
        pub previous: u64,
        holds_events: Cell<bool>,
    }

    impl<D: Disk<Map = Slots>> Segment<D> {
        pub fn new(number: u64, first_sequence: Sequence, previous: u64) -> Segment<D> {
            Segment { number, map: Slots::new(), first_sequence, previous, holds_events: Cell::new(false) }
        }
    }

    impl<D: Disk> Segment<D> {
        pub fn take_events(&self) {
            self.holds_events.set(true);
        }

        pub fn holds_events(&self) -> bool {
            self.holds_events.get()
        }

        pub fn bytes(&self) -> u64 {
            self.map.length() as u64
        }
    }
}

/// The only writer of a log.
pub struct Writer {
    pub log: Arc<Log<Memory>>,
    active: Arc<Segment<Memory>>,
    offset: u64,
    next: u64,
    /// Sealed segments that are not known to be durable, with the sequence of their seal.
    sealed: Vec<(u64, Arc<Segment<Memory>>)>,
    signals: Vec<Arc<Signal>>,
    generation: u64,
}

impl Writer {
    /// The writer of a log without frames: one empty segment, number 1. The next sequence is 1.
    pub fn open() -> Writer {
        let active = Arc::new(Segment::new(1, Sequence(1), 0));
        let start = LogStart {
            segments: vec![active.clone()],
            tail: Place { segment: 1, offset: 0 },
            last: Sequence(0),
            synced: Sequence(0),
        };
        let bytes = active.bytes();
        let log = Arc::new(Log::new(LogId(1), PathBuf::new(), Memory, bytes, start));
        log.allow_recycling();
        Writer { log, active, offset: 0, next: 1, sealed: Vec::new(), signals: Vec::new(), generation: u64::MAX }
    }

    /// Writes a frame that is not published yet.
    pub fn write(&mut self, kind: Kind) {
        if kind == Kind::Events {
            self.active.take_events();
        }
        self.active.map.write(self.offset, Some(Frame { sequence: self.next, kind }));
        self.offset += FRAME_BYTES;
        self.next += 1;
    }

    /// Ends the active segment and starts the next one with a snapshot.
    pub fn roll(&mut self) {
        self.roll_behind(|writer| writer.log.last_with_events());
    }

    /// Like [`Writer::roll`], with another value for the segments that the new one needs.
    pub fn roll_behind(&mut self, previous: impl FnOnce(&Writer) -> u64) {
        self.write(Kind::Seal);
        let next = Arc::new(Segment::new(self.active.number + 1, Sequence(self.next), previous(self)));
        let old = std::mem::replace(&mut self.active, next);
        self.sealed.push((self.next - 1, old));
        self.offset = 0;
        self.log.add_segment(self.active.clone());
        self.log.housekeeping.notify();
        self.write(Kind::Snapshot);
    }

    /// Publishes everything that was written, and wakes the readers.
    pub fn publish(&mut self) {
        let tail = Place { segment: self.active.number, offset: self.offset };
        self.log.publish(tail, Sequence(self.next - 1));
        self.wake_readers();
    }

    /// Finds no segment for more frames.
    pub fn refuse(&mut self) {
        self.log.set_full(true);
        self.wake_readers();
    }

    fn wake_readers(&mut self) {
        let generation = self.log.readers_generation();
        if generation != self.generation {
            self.signals = self.log.reader_signals();
            self.generation = generation;
        }
        self.signals.iter().for_each(|signal| signal.notify());
    }

    /// Everything up to `sequence` is durable.
    pub fn synced(&mut self, sequence: u64) {
        self.sealed.retain(|(seal, _)| *seal > sequence);
        self.log.set_synced(Sequence(sequence).max(self.log.synced()));
        self.log.housekeeping.notify();
    }

    /// Takes the segments that are no longer needed and overwrites them, as the next segment would. Returns their numbers.
    pub fn recycle(&self) -> Vec<u64> {
        let taken = self.log.take_consumed(self.active.number);
        for segment in &taken {
            (0..segment.bytes()).step_by(FRAME_BYTES as usize).for_each(|offset| segment.map.write(offset, None));
        }
        taken.iter().map(|segment| segment.number).collect()
    }
}

/// A reader's cursor in a log.
pub struct Cursor {
    log: Arc<Log<Memory>>,
    segment: Option<Arc<Segment<Memory>>>,
    passed: u64,
    offset: u64,
    position: Position,
    last: u64,
}

impl Cursor {
    /// A cursor that returns frames with events from `position` on.
    pub fn open(log: Arc<Log<Memory>>, position: Position) -> Cursor {
        let segment = log.segment_of(position);
        Cursor { log, segment, passed: 0, offset: 0, position, last: 0 }
    }

    /// The next frame with events and the number of its segment, or none at the tail.
    pub fn next(&mut self) -> Option<(u64, u64)> {
        let tail = self.log.tail();
        loop {
            let Some(segment) = &self.segment else {
                self.segment = match self.passed {
                    0 => self.log.segment_of(self.position),
                    passed => self.log.segment_from(passed + 1),
                };
                self.segment.as_ref()?;
                continue;
            };
            let place = Place { segment: segment.number, offset: self.offset };
            if place >= tail {
                return None;
            }
            if self.offset >= segment.bytes() {
                self.next_segment();
                continue;
            }
            let frame = segment.map.read(self.offset).expect("below the tail there are frames");
            assert!(frame.sequence > self.last, "{frame:?} behind {}", self.last);
            self.last = frame.sequence;
            self.offset += FRAME_BYTES;
            if frame.kind == Kind::Seal {
                self.next_segment();
            }
            if frame.kind == Kind::Events && frame.sequence >= self.position.sequence.0 {
                self.position = at(frame.sequence + 1);
                return Some((frame.sequence, place.segment));
            }
        }
    }

    /// The rest of what is published.
    pub fn rest(&mut self) -> Vec<u64> {
        std::iter::from_fn(|| self.next()).map(|(sequence, _)| sequence).collect()
    }

    fn next_segment(&mut self) {
        self.passed = self.segment.as_ref().map_or(self.passed, |segment| segment.number);
        self.segment = self.log.segment_from(self.passed + 1);
        self.offset = 0;
    }
}
