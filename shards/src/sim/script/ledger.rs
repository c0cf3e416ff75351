//! The ledger: what the scripts of one cluster made, saw acknowledged and delivered, over all lives of the process.
//!
//! Guarantees: one oracle for each output, so that each has its own bound of repeats; what is told is told at the moment
//! it happens. Shared by all scripts of a cluster; survives every crash.

use super::payload;
use crate::env::Monotonic;
use crate::sim::oracle::{Event, Limits, Oracle, OutputIndex, Report, Summary, payload_hash};
use crate::sim::prng::mix;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an output may have delivered without a durable commit: the commit interval, the sync, and what a slow
/// destination and a slow disk add.
const UNCOMMITTED_MAX: Duration = Duration::from_secs(8);

/// Chances in a thousand that a script misbehaves at a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// A delivery asks to be tried again; half of them after a part went out. An input ends with an error.
    pub retry: u64,
    /// A delivery takes long.
    pub slow: u64,
    /// A delivery does not return until the output is well again.
    pub hang: u64,
    /// The plugin panics.
    pub panic: u64,
}

impl Mood {
    /// Whether something with this many chances in a thousand happens; `random` are 64 random bits.
    pub fn strikes(chances: u64, random: u64) -> bool {
        random % 1000 < chances
    }
}

/// A source: numbered events of known length.
pub struct SourceScript {
    /// Which input reads it.
    pub input: usize,
    /// Whether it can be read again from a position.
    pub repeatable: bool,
    /// Where each event starts, and the end of the last.
    pub offsets: Vec<u64>,
    /// Bytes of each event's payload.
    pub lengths: Vec<usize>,
    /// One past the highest event that was ever read.
    pub read: u64,
    /// Where its reader stands in the present life.
    pub next: u64,
}

impl SourceScript {
    /// Events it has.
    pub fn events(&self) -> u64 {
        self.lengths.len() as u64
    }

    /// The event at the byte `offset`.
    pub fn event_at(&self, offset: u64) -> u64 {
        self.offsets.partition_point(|&start| start < offset) as u64
    }
}

/// What is known of one output.
pub struct OutputRecord {
    /// The judge of what it got.
    pub oracle: Oracle,
    /// How it behaves.
    pub mood: Mood,
    /// Whether it refuses some events, the same each time they come.
    pub rejects: bool,
    /// Events whose delivery it said was done, in the present life.
    pub accepted: u64,
    /// Events it refused, in the present life.
    pub refused: u64,
    /// The last event it took, unless it has gone back since.
    pub last: Option<Event>,
    /// Recent deliveries: when and how many events.
    recent: Vec<(Monotonic, u64)>,
    /// Repeats that crashes and failures so far may cause.
    repeats_allowed: u64,
    /// Most repeats, whatever happens; none where they depend on what happens.
    pub repeats_max: Option<u64>,
    /// Bytes that an exact output says its file has.
    pub file_bytes: u64,
}

/// All of it.
pub struct State {
    /// By number.
    pub sources: Vec<SourceScript>,
    /// By number.
    pub outputs: Vec<OutputRecord>,
    /// How inputs behave.
    pub inputs: Mood,
    /// Whether acknowledgements are promises: not under the policy `never` when power may go.
    pub believes: bool,
    /// Changes with each life: which shard reads which source.
    pub placement: u64,
    /// Acknowledged tickets seen in the present life.
    pub acknowledged: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    /// A ledger of these sources (input, repeatable) and of outputs with these bounds of repeats.
    pub fn new(sources: &[(usize, bool)], outputs: &[Option<u64>], believes: bool) -> Ledger {
        let source = |&(input, repeatable): &(usize, bool)| SourceScript {
            input,
            repeatable,
            offsets: vec![0],
            lengths: Vec::new(),
            read: 0,
            next: 0,
        };
        let output = |(index, &repeats_max): (usize, &Option<u64>)| OutputRecord {
            oracle: Oracle::new(&[&format!("output {index}")]),
            mood: Mood::default(),
            rejects: false,
            accepted: 0,
            refused: 0,
            last: None,
            recent: Vec::new(),
            repeats_allowed: 0,
            repeats_max,
            file_bytes: 0,
        };
        Ledger(Arc::new(Mutex::new(State {
            sources: sources.iter().map(source).collect(),
            outputs: outputs.iter().enumerate().map(output).collect(),
            inputs: Mood::default(),
            believes,
            placement: 0,
            acknowledged: 0,
        })))
    }

    /// The state. Scripts never hold it over an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A scripted panic happens while nothing is borrowed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an event of `bytes` to a source; `outputs` are those that it goes to.
    pub fn make(&self, source: usize, bytes: usize, outputs: &[usize]) {
        let mut state = self.state();
        let script = &mut state.sources[source];
        let ordinal = script.events();
        let length = super::raw_line(source as u64, ordinal, bytes).len() as u64 + 1;
        script.lengths.push(bytes);
        let end = script.offsets.last().copied().unwrap_or(0) + length;
        script.offsets.push(end);
        let event =
            Event { source: source as u64, ordinal, payload: payload_hash(&payload(source as u64, ordinal, bytes)) };
        for &output in outputs {
            state.outputs[output].oracle.issued(event);
        }
    }

    /// The events `first..end` of a source are acknowledged.
    pub fn acknowledged(&self, source: u64, first: u64, end: u64, outputs: &[usize]) {
        let mut state = self.state();
        state.acknowledged += 1;
        if !state.believes {
            return;
        }
        for &output in outputs {
            for ordinal in first..end {
                state.outputs[output].oracle.acknowledged(source, ordinal);
            }
        }
    }

    /// Events came out of an output that counts each delivery.
    pub fn delivered(&self, output: usize, now: Monotonic, events: &[Event]) {
        let mut state = self.state();
        let record = &mut state.outputs[output];
        record.recent.retain(|(when, _)| now.since(*when) < UNCOMMITTED_MAX);
        record.recent.push((now, events.len() as u64));
        events.iter().for_each(|event| record.oracle.delivered(OutputIndex(0), *event));
    }

    /// Events went out although the delivery as a whole failed: they will come again.
    pub fn partly_delivered(&self, output: usize, now: Monotonic, events: &[Event]) {
        self.state().outputs[output].repeats_allowed += events.len() as u64;
        self.delivered(output, now, events);
    }

    /// An output went back to its last commit.
    pub fn went_back(&self, output: usize, now: Monotonic) {
        let mut state = self.state();
        let record = &mut state.outputs[output];
        record.last = None;
        let recent = record.recent.iter().filter(|(when, _)| now.since(*when) < UNCOMMITTED_MAX);
        record.repeats_allowed += recent.map(|(_, events)| events).sum::<u64>();
    }

    /// The process ended and starts again.
    pub fn restarted(&self, now: Monotonic) {
        let outputs = self.state().outputs.len();
        (0..outputs).for_each(|output| self.went_back(output, now));
        let mut state = self.state();
        state.placement = mix(state.placement.wrapping_add(1));
        state.acknowledged = 0;
        for source in &mut state.sources {
            source.next = 0;
        }
        for record in &mut state.outputs {
            record.oracle.restarted();
            (record.accepted, record.refused) = (0, 0);
        }
    }

    /// The shard that reads a source in the present life.
    pub fn owner(&self, source: usize, shards: usize) -> usize {
        let placement = self.state().placement;
        (mix(source as u64 ^ placement) % shards.max(1) as u64) as usize
    }

    /// Judges one output.
    pub fn check(&self, output: usize) -> Result<Summary, Report> {
        let state = self.state();
        let record = &state.outputs[output];
        let bound = record.repeats_max.unwrap_or(record.repeats_allowed);
        let limits = Limits { repeats_per_restart: bound, repeats_without_restart: bound };
        let mut summaries = record.oracle.check(&limits)?;
        Ok(summaries.swap_remove(0))
    }
}
