//! A scripted processor: produces the lines of scripted events, at once or later, and makes some events dead letters.
//!
//! Guarantees: what happens to an event is a function of its bytes, the same each time it is read. Held lines belong to
//! adjacent windows, or to events that wait for the next batch of their source, or are never released, as a test configures.

use super::encode_line;
use crate::batch::{Batch, SourceKey};
use crate::dlq::{ComponentKind, DeadLetter, Letters};
use crate::env::{ShardId, Timestamp};
use crate::plugin::{Frames, Processor, ProcessorSpec};
use crate::sim::oracle::payload_hash;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which lines are held back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Holding {
    /// Nothing.
    #[default]
    None,
    /// Each event is counted in one of these windows, whose lines are produced when it has been open for this long.
    Windows(Vec<Duration>),
    /// The last event of a batch is held until the next batch of its source arrives, like a processor that joins lines. It is
    /// never due.
    Joins,
    /// Nothing is held, but the processor claims to hold everything: a contract violation.
    Clings,
}

/// Produces the lines that [`super::decode_line`] reads.
pub struct ScriptEncoder {
    /// Which lines it holds back.
    pub holding: Holding,
    /// Whether some events become dead letters instead, the same each time they are read.
    pub dead_letters: bool,
    /// The name of the only source whose events do, if not all do.
    pub dead_letters_of: Option<Vec<u8>>,
}

/// Lines that are produced later.
struct Held {
    length: Duration,
    since: Option<Timestamp>,
    /// By pipeline.
    lines: Vec<Vec<Vec<u8>>>,
    /// Where the first batch of each source began.
    from: BTreeMap<SourceKey, u64>,
}

impl Held {
    fn new(length: Duration) -> Held {
        Held { length, since: None, lines: Vec::new(), from: BTreeMap::new() }
    }

    fn due(&self) -> Option<Timestamp> {
        Some(Timestamp(self.since?.0.saturating_add(self.length.as_nanos() as i64)))
    }

    fn hold(&mut self, batch: &Batch, place: usize, line: Vec<u8>) {
        self.since.get_or_insert(batch.received);
        self.from.entry(batch.source.key).or_insert(batch.range.from);
        if self.lines.len() <= place {
            self.lines.resize_with(place + 1, Vec::new);
        }
        self.lines[place].push(line);
    }

    fn make(&mut self, now: Timestamp, place: usize, frames: &mut Frames<'_>) {
        for line in self.lines.get_mut(place).into_iter().flat_map(|lines| lines.drain(..)) {
            frames.line().extend_from_slice(&line);
            frames.end_event(now);
        }
        if self.lines.iter().all(Vec::is_empty) {
            self.since = None;
            self.from.clear();
        }
    }
}

struct Lines {
    dead_letters: bool,
    dead_letters_of: Option<Vec<u8>>,
    source: Vec<u8>,
    received: Timestamp,
    clings: bool,
    windows: Vec<Held>,
    /// The last event of each source, if lines are joined.
    joins: Option<BTreeMap<SourceKey, Held>>,
}

/// What happens to a line if some are dead letters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    Unread,
    GivenUp,
}

fn fate_of(raw: &[u8]) -> Fate {
    match payload_hash(raw) % 13 {
        0 => Fate::Unread,
        1 => Fate::GivenUp,
        _ => Fate::Lives,
    }
}

impl ProcessorSpec for ScriptEncoder {
    fn open(&self, _: ShardId) -> Box<dyn Processor> {
        let windows = match &self.holding {
            Holding::Windows(lengths) => lengths.iter().map(|length| Held::new(*length)).collect(),
            _ => Vec::new(),
        };
        Box::new(Lines {
            dead_letters: self.dead_letters,
            dead_letters_of: self.dead_letters_of.clone(),
            source: Vec::new(),
            received: Timestamp(0),
            clings: self.holding == Holding::Clings,
            windows,
            joins: (self.holding == Holding::Joins).then(BTreeMap::new),
        })
    }
}

impl Processor for Lines {
    fn begin(&mut self, batch: &Batch) {
        self.source.clone_from(&batch.source.name);
        self.received = batch.received;
    }

    fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        for index in (0..batch.events.len()).filter(|index| self.fate(batch, *index) == Fate::Unread) {
            letters.push(&self.letter(batch, index, ComponentKind::Input));
        }
    }

    fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>) {
        if let Some(before) = self.joins.as_mut().and_then(|joins| joins.get_mut(&batch.source.key)) {
            before.make(self.received, place, frames);
        }
        for index in 0..batch.events.len() {
            match self.fate(batch, index) {
                Fate::Unread => {}
                Fate::GivenUp => {
                    // Like a transform that fails half-way.
                    frames.line().extend_from_slice(b"{\"half");
                    frames.abandon_event();
                    frames.dead_letter(&self.letter(batch, index, ComponentKind::Pipeline));
                }
                Fate::Lives => {
                    let mut line = Vec::new();
                    encode_line(&self.source, batch.event(index), &mut line);
                    if let Some(line) = self.hold(batch, index, place, line) {
                        frames.line().extend_from_slice(&line);
                        frames.end_event(self.received);
                    }
                }
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        self.windows.iter().filter_map(Held::due).min()
    }

    fn tick(&mut self, now: Timestamp, last: bool, place: usize, frames: &mut Frames<'_>) -> bool {
        for window in &mut self.windows {
            if last || window.due().is_some_and(|due| due <= now) {
                window.make(now, place, frames);
            }
        }
        for held in self.joins.iter_mut().flat_map(|joins| joins.values_mut()).filter(|_| last) {
            held.make(now, place, frames);
        }
        false
    }

    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let joined = self.joins.as_ref().and_then(|joins| joins.get(&source));
        let held = self.windows.iter().chain(joined).filter_map(|held| held.from.get(&source).copied());
        held.chain(self.clings.then_some(0)).min()
    }
}

impl Lines {
    /// Keeps a line that is produced later. Returns one that is not.
    fn hold(&mut self, batch: &Batch, index: usize, place: usize, line: Vec<u8>) -> Option<Vec<u8>> {
        if let Some(joins) = &mut self.joins {
            if index + 1 < batch.events.len() {
                return Some(line);
            }
            let held = joins.entry(batch.source.key).or_insert_with(|| Held::new(Duration::MAX));
            held.hold(batch, place, line);
            return None;
        }
        let count = self.windows.len().max(1) as u64;
        match self.windows.get_mut((payload_hash(batch.event(index)) % count) as usize) {
            Some(window) => {
                window.hold(batch, place, line);
                None
            }
            None => Some(line),
        }
    }

    fn fate(&self, batch: &Batch, index: usize) -> Fate {
        let may_die = self.dead_letters && self.dead_letters_of.as_ref().is_none_or(|only| *only == batch.source.name);
        if may_die { fate_of(batch.event(index)) } else { Fate::Lives }
    }

    fn letter<'a>(&'a self, batch: &'a Batch, index: usize, kind: ComponentKind) -> DeadLetter<'a> {
        DeadLetter {
            kind,
            component: &batch.source.input,
            place: "script",
            source: &self.source,
            reason: "scripted",
            attempts: 0,
            timestamp: self.received,
            original: batch.event(index),
        }
    }
}
