//! The ledger: what the scripts of one cluster created, saw acknowledged and delivered, over all lives of the process.
//!
//! Guarantees: everything is reported to the [`Oracle`] when it happens, and the most recent part is in the [`Story`]. Shared
//! by all scripts of a cluster. Survives every crash. Checks nothing itself.

use super::{Told, payload};
use crate::env::Monotonic;
use crate::sim::Story;
use crate::sim::oracle::{Event, Oracle, OutputIndex, Report, Summary, mask, payload_hash};
use crate::sim::prng::mix;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Maximum time for which an output that runs on every shard may have delivered without a durable commit. Only the last commit
/// over all of its instances is returned, so only the time tells how far each one was. Covers the commit interval, a slow
/// destination, a slow disk, and a disk that is full for a while.
const UNCOMMITTED_MAX: Duration = Duration::from_secs(20);

/// Per-mille probabilities that a script misbehaves in a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// A delivery requests a retry, half of them after a part was delivered. An input ends with an error.
    pub retry: u64,
    /// A delivery takes long.
    pub slow: u64,
    /// A delivery does not return until the output is healthy again.
    pub hang: u64,
    /// The plugin panics. An input panics while filling a batch.
    pub panic: u64,
    /// A commit takes long.
    pub late: u64,
    /// A commit fails, and the output goes back.
    pub unsure: u64,
    /// A delivery returns an invalid answer: it rejects events that were not in it, and one of them twice.
    pub wild: u64,
    /// A commit returns more state than allowed.
    pub large: u64,
    /// Deliveries with events of this source are slow.
    pub slow_source: Option<u64>,
    /// How long a delivery that asks to be tried again wants to be left alone.
    pub after: Option<Duration>,
}

impl Mood {
    /// Whether something with this per-mille probability happens; `random` are 64 random bits.
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
    /// The position of its reader in the current life.
    pub next: u64,
    /// Nothing more comes from it: its reader reports that it is gone.
    pub ended: bool,
    /// This was acknowledged, so the log may have dropped it.
    pub gone: bool,
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

/// The record of one output.
#[derive(Default)]
pub struct OutputRecord {
    /// Its mood.
    pub mood: Mood,
    /// Whether it rejects some events, the same each time they are delivered.
    pub rejects: bool,
    /// Events that it reported as delivered, in the current life.
    pub accepted: u64,
    /// Events that it rejected, in the current life.
    pub refused: u64,
    /// The last event that it accepted, unless it has gone back since.
    pub last: Option<Event>,
    /// Whether it runs on every shard. If so, for the current life: the number of deliveries at its start, the instances that
    /// delivered, and for each commit of one its time and the number of deliveries at that time.
    everywhere: bool,
    begin: u64,
    instances: BTreeSet<u16>,
    /// The instances that are or were open in the current life, and whether one started over after it had been open.
    open: BTreeSet<u16>,
    began_again: bool,
    commits: Vec<(u16, Monotonic, u64)>,
    /// By creator: the instance that was opened with a state in the current life.
    states: BTreeMap<u64, u16>,
    /// Deliveries made when it was last added to the configuration: the earliest point to which it may go back.
    pub joined: u64,
    /// By source: the highest event that an exact output has written in the current life.
    pub written: BTreeMap<u64, u64>,
    /// Bytes of its file, as reported by an exact output.
    pub file_bytes: u64,
    /// The durable part of these bytes.
    pub synced_bytes: u64,
    /// How much of its file an exact output has kept because not all came again. It remembers that itself, durably: a later
    /// start may be told of more bytes that come again, but those are others.
    pub kept_bytes: u64,
    /// How many bytes were to be delivered again when an exact output was last opened. None if not all were.
    pub again_bytes: Option<u64>,
    /// Events in the durable part of its file when something of the logs disappeared: they stay there.
    pub kept: Vec<Event>,
}

impl OutputRecord {
    /// Whether what its instances have discarded in the current life is final as soon as it is committed.
    pub fn decides_once(&self, instances: usize) -> bool {
        self.open.len() == instances && !self.began_again
    }

    /// For an output on every shard: deliveries that every instance committed so long ago that the commits are durable.
    fn surely_committed(&self, now: Monotonic) -> u64 {
        let old = |commit: &&(u16, Monotonic, u64)| now.since(commit.1) >= UNCOMMITTED_MAX;
        let of = |instance: &u16| {
            let mut mine = self.commits.iter().filter(|commit| commit.0 == *instance);
            mine.rfind(old).map_or(self.begin, |commit| commit.2)
        };
        self.instances.iter().map(of).min().unwrap_or(self.begin)
    }
}

/// An acknowledgement that a power loss may revoke, with the sync policy `never`.
struct Tentative {
    life: u64,
    source: u64,
    first: u64,
    end: u64,
    mask: u64,
}

/// Discards of a life that was killed: final when a start has made durable what it found.
struct TentativeCount {
    life: u64,
    output: OutputIndex,
    undoubted: u64,
}

/// The state of a ledger.
pub struct State {
    /// By number.
    pub sources: Vec<SourceScript>,
    /// By number.
    pub outputs: Vec<OutputRecord>,
    /// The oracle.
    pub oracle: Oracle,
    /// The most recent events.
    pub story: Story,
    /// How often scripts misbehaved.
    pub told: Told,
    /// How inputs behave.
    pub inputs: Mood,
    /// Whether inputs need to check for events less often, because none are created.
    pub rests: bool,
    /// Whether events may be delivered twice in the current life, because they were read again.
    pub reads_again: bool,
    /// Whether the log acknowledges events in the current life that are not durable.
    pub never_syncs: bool,
    tentative: Vec<Tentative>,
    tentative_counts: Vec<TentativeCount>,
    /// Power was lost, or something of the logs rotted or disappeared: their ends may be incomplete.
    pub torn: bool,
    /// Lives so far.
    pub life: u64,
    /// Changes with each life: which shard reads which source.
    pub placement: u64,
    /// Acknowledged tickets seen in the current life.
    pub acknowledged: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    /// A ledger for these sources (input, repeatable) and this many outputs.
    pub fn new(sources: &[(usize, bool)], outputs: usize) -> Ledger {
        let source = |&(input, repeatable): &(usize, bool)| SourceScript {
            input,
            repeatable,
            offsets: vec![0],
            lengths: Vec::new(),
            read: 0,
            next: 0,
            ended: false,
            gone: false,
        };
        let names: Vec<String> = (0..outputs).map(|output| format!("output {output}")).collect();
        Ledger(Arc::new(Mutex::new(State {
            sources: sources.iter().map(source).collect(),
            outputs: (0..outputs).map(|_| OutputRecord::default()).collect(),
            oracle: Oracle::new(&names.iter().map(String::as_str).collect::<Vec<_>>()),
            story: Story::default(),
            told: Told::default(),
            inputs: Mood::default(),
            rests: false,
            reads_again: false,
            never_syncs: false,
            tentative: Vec::new(),
            tentative_counts: Vec::new(),
            torn: false,
            life: 0,
            placement: 0,
            acknowledged: 0,
        })))
    }

    /// The state. Scripts never hold it across an await.
    pub fn state(&self) -> MutexGuard<'_, State> {
        // A scripted panic happens while nothing is borrowed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the story.
    pub fn tell(&self, now: Monotonic, line: String) {
        self.state().story.tell(now, line);
    }

    /// Adds an event of `bytes` to a source.
    pub fn make(&self, source: usize, bytes: usize) {
        let mut state = self.state();
        let script = &mut state.sources[source];
        let ordinal = script.events();
        let length = super::raw_line(source as u64, ordinal, bytes).len() as u64 + 1;
        script.lengths.push(bytes);
        let end = script.offsets.last().copied().unwrap_or(0) + length;
        script.offsets.push(end);
        let payload = payload_hash(&payload(source as u64, ordinal, bytes));
        state.oracle.issued(Event { source: source as u64, ordinal, payload });
    }

    /// Records that the events `first..end` of a source are about to be given to the engine, for these outputs.
    pub fn offered(&self, now: Monotonic, source: u64, first: u64, end: u64, outputs: &[usize]) {
        let mut state = self.state();
        state.story.tell(now, format!("source {source}: {first}..{end} are read for outputs {outputs:?}"));
        (first..end).for_each(|ordinal| state.oracle.offered(source, ordinal, mask(outputs)));
    }

    /// Records that the log may accept the events `first..end` of a source in parts.
    pub fn parted(&self, source: u64, first: u64, end: u64) {
        (first..end).for_each(|ordinal| self.state().oracle.parted(source, ordinal));
    }

    /// Records that the events `first..end` of a source are acknowledged.
    pub fn acknowledged(&self, now: Monotonic, source: u64, first: u64, end: u64, outputs: &[usize]) {
        let mut state = self.state();
        state.acknowledged += 1;
        state.story.tell(now, format!("source {source}: {first}..{end} are acknowledged"));
        let mask = mask(outputs);
        if first == end {
            state.sources[source as usize].gone = !state.never_syncs;
            return;
        }
        if state.never_syncs {
            let life = state.life;
            return state.tentative.push(Tentative { life, source, first, end, mask });
        }
        (first..end).for_each(|ordinal| state.oracle.acknowledged(source, ordinal, mask));
    }

    /// Records deliveries of an instance of an output that counts each delivery.
    pub fn delivered(&self, output: usize, instance: u16, now: Monotonic, events: &[Event]) {
        let Some(last) = events.last() else { return };
        let mut state = self.state();
        let State { outputs, oracle, story, .. } = &mut *state;
        let index = OutputIndex(output as u8);
        outputs[output].instances.insert(instance);
        let many = events.len();
        let Event { source, ordinal, .. } = events[0];
        let (to, through) = (last.source, last.ordinal);
        story.tell(
            now,
            format!("output {output} on shard {instance}: {many} came, {source}/{ordinal} to {to}/{through}"),
        );
        events.iter().for_each(|event| oracle.delivered(index, instance, *event));
    }

    /// Records events that were delivered although the delivery as a whole failed: they will be delivered again.
    pub fn partly_delivered(&self, output: usize, instance: u16, now: Monotonic, events: &[Event]) {
        self.state().told.parts += u64::from(!events.is_empty());
        let before = self.state().oracle.deliveries(OutputIndex(output as u8));
        self.delivered(output, instance, now, events);
        self.state().oracle.goes_back(OutputIndex(output as u8), instance, before);
    }

    /// Records that an instance commits. Returns how many deliveries of its output that covers.
    pub fn commits(&self, output: usize, instance: u16, now: Monotonic) -> u64 {
        let mut state = self.state();
        let State { outputs, oracle, story, .. } = &mut *state;
        let covered = oracle.deliveries(OutputIndex(output as u8));
        outputs[output].commits.push((instance, now, covered));
        story.tell(now, format!("output {output} on shard {instance}: commits {covered}"));
        covered
    }

    /// Records that an instance is opened with the state that some instance created in some life. No other instance may get
    /// that state in this life, although the log of a shard may belong to another shard after a start.
    pub fn goes_on_with(&self, output: usize, instance: u16, made: u64) {
        let mut state = self.state();
        let first = *state.outputs[output].states.entry(made).or_insert(instance);
        if first != instance {
            let what = format!("instances {first} and {instance} are opened with the same state");
            state.oracle.garbled(OutputIndex(output as u8), &what);
        }
    }

    /// Records that an output is opened with the state that an instance of some output created: it must be the same output.
    pub fn knows(&self, output: usize, made: u64) {
        let maker = made >> 48;
        if maker != output as u64 {
            let what = format!("the state of output {maker}");
            self.state().oracle.garbled(OutputIndex(output as u8), &what);
        }
    }

    /// Records that an instance is being opened.
    pub fn opens(&self, output: usize, instance: u16) {
        let record = &mut self.state().outputs[output];
        record.began_again |= record.open.contains(&instance);
    }

    /// Records that an instance is open.
    pub fn is_open(&self, output: usize, instance: u16) {
        self.state().outputs[output].open.insert(instance);
    }

    /// Records that at its end a life had counted this many discards for an output that it does not decide again. `durable`
    /// means that no power loss changes that.
    pub fn discards(&self, output: OutputIndex, counted: u64, durable: bool) {
        let mut state = self.state();
        let undoubted = state.oracle.undoubted(output, counted);
        if durable {
            return state.oracle.discarded_finally(output, undoubted);
        }
        let life = state.life;
        state.tentative_counts.push(TentativeCount { life, output, undoubted });
    }

    /// Records that an instance starts over. `covered` is what it had delivered according to its last commit, if known.
    pub fn opened(&self, output: usize, instance: u16, now: Monotonic, covered: Option<u64>) {
        let mut state = self.state();
        let State { outputs, oracle, story, .. } = &mut *state;
        let record = &mut outputs[output];
        record.last = None;
        record.everywhere = covered.is_none();
        let all = oracle.deliveries(OutputIndex(output as u8));
        let covered = covered.unwrap_or_else(|| record.surely_committed(now));
        story.tell(now, format!("output {output} on shard {instance}: opened, goes on from {covered} of {all}"));
        oracle.goes_back(OutputIndex(output as u8), instance, covered);
    }

    /// Records that the process ended and restarts. `up` means that all shards had made durable what they found.
    pub fn restarted(&self, now: Monotonic, power: bool, up: bool) {
        let mut state = self.state();
        let State { outputs, oracle, story, tentative, tentative_counts, torn, life, .. } = &mut *state;
        *torn |= power;
        story.tell(now, format!("life {life} ends by {}", if power { "a loss of power" } else { "a kill" }));
        for promise in tentative.extract_if(.., |promise| up && promise.life < *life) {
            let Tentative { source, first, end, mask, .. } = promise;
            (first..end).for_each(|ordinal| oracle.acknowledged(source, ordinal, mask));
        }
        for count in tentative_counts.extract_if(.., |count| up && count.life < *life) {
            oracle.discarded_finally(count.output, count.undoubted);
        }
        if power {
            tentative.clear();
            tentative_counts.clear();
            oracle.power_lost();
        }
        oracle.restarted();
        for (output, record) in outputs.iter_mut().enumerate() {
            let index = OutputIndex(output as u8);
            if record.everywhere && !record.instances.is_empty() {
                oracle.goes_back(index, u16::MAX, record.surely_committed(now));
            }
            record.begin = oracle.deliveries(index);
            record.instances.clear();
            record.open.clear();
            record.began_again = false;
            record.commits.clear();
            record.states.clear();
            record.written.clear();
            (record.accepted, record.refused, record.last) = (0, 0, None);
        }
        *life += 1;
        state.placement = mix(state.placement.wrapping_add(1));
        state.acknowledged = 0;
        state.sources.iter_mut().for_each(|source| source.next = 0);
    }

    /// The shard that reads a source in the current life.
    pub fn owner(&self, source: usize, shards: usize) -> usize {
        let placement = self.state().placement;
        (mix(source as u64 ^ placement) % shards.max(1) as u64) as usize
    }

    /// Checks everything that happened.
    pub fn check(&self) -> Result<Vec<Summary>, Report> {
        self.state().oracle.check()
    }
}
