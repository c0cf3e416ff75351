//! The ledger: what the scripts of one cluster made, saw acknowledged and delivered, over all lives of the process.
//!
//! Guarantees: what is told is told to the [`Oracle`] at the moment it happens, and the last of it is in the [`Story`]. Shared
//! by all scripts of a cluster; survives every crash. Judges nothing itself.

use super::{Told, payload};
use crate::env::Monotonic;
use crate::sim::Story;
use crate::sim::oracle::{Event, Oracle, OutputIndex, Report, Summary, mask, payload_hash};
use crate::sim::prng::mix;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long an output that runs on every shard may have delivered without a durable commit: of its instances only the last
/// commit over all of them comes back, so how far each was is known by time alone. Commit interval, slow destination, slow
/// disk, and a disk that is full for a while.
const UNCOMMITTED_MAX: Duration = Duration::from_secs(20);

/// Chances in a thousand that a script misbehaves at a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mood {
    /// A delivery asks to be tried again; half of them after a part went out. An input ends with an error.
    pub retry: u64,
    /// A delivery takes long.
    pub slow: u64,
    /// A delivery does not return until the output is well again.
    pub hang: u64,
    /// The plugin panics. An input does so in the middle of filling a batch.
    pub panic: u64,
    /// A commit takes long.
    pub late: u64,
    /// A commit fails, and the output goes back.
    pub unsure: u64,
    /// A delivery answers what no output may: it refuses events that were not in it, and one of them twice.
    pub wild: u64,
    /// A commit attaches more than any may.
    pub large: u64,
    /// Deliveries with events of this source are slow.
    pub slow_source: Option<u64>,
    /// How long a delivery that asks to be tried again wants to be left alone.
    pub after: Option<Duration>,
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
    /// Nothing more comes of it: its reader says that it is gone.
    pub ended: bool,
    /// That was acknowledged, so that the log may have forgotten it.
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

/// What is known of one output.
#[derive(Default)]
pub struct OutputRecord {
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
    /// Whether it runs on every shard; then, of the present life: how many deliveries there had been at its begin, the instances
    /// that delivered, and for each commit of one when it was and how many deliveries there had been.
    everywhere: bool,
    begin: u64,
    instances: BTreeSet<u16>,
    /// The instances that are open or were, in the present life, and whether one began again after it had been open.
    open: BTreeSet<u16>,
    began_again: bool,
    commits: Vec<(u16, Monotonic, u64)>,
    /// By who made it: the instance that was opened with a state in the present life.
    states: BTreeMap<u64, u16>,
    /// Deliveries made when it last joined the configuration: what it may go back to at most.
    pub joined: u64,
    /// By source: the highest event that an exact output has written in the present life.
    pub written: BTreeMap<u64, u64>,
    /// Bytes that an exact output says its file has.
    pub file_bytes: u64,
    /// Of these, those that are durable.
    pub synced_bytes: u64,
    /// How many bytes were to come again when an exact output was opened last; none where not all came again.
    pub again_bytes: Option<u64>,
    /// Events that were in the durable part of its file when something of the logs vanished: they stay there.
    pub kept: Vec<Event>,
}

impl OutputRecord {
    /// Whether what its instances have discarded in the present life is decided once, as soon as it is committed.
    pub fn decides_once(&self, instances: usize) -> bool {
        self.open.len() == instances && !self.began_again
    }

    /// Of an output on every shard: deliveries that every instance had committed so long ago that it has become durable.
    fn surely_committed(&self, now: Monotonic) -> u64 {
        let old = |commit: &&(u16, Monotonic, u64)| now.since(commit.1) >= UNCOMMITTED_MAX;
        let of = |instance: &u16| {
            let mut mine = self.commits.iter().filter(|commit| commit.0 == *instance);
            mine.rfind(old).map_or(self.begin, |commit| commit.2)
        };
        self.instances.iter().map(of).min().unwrap_or(self.begin)
    }
}

/// An acknowledgement that a loss of power may take back, as the sync policy `never` has it.
struct Tentative {
    life: u64,
    source: u64,
    first: u64,
    end: u64,
    mask: u64,
}

/// Discards of a life that ended by a kill: final once a start has made durable what it found.
struct TentativeCount {
    life: u64,
    output: OutputIndex,
    undoubted: u64,
}

/// All of it.
pub struct State {
    /// By number.
    pub sources: Vec<SourceScript>,
    /// By number.
    pub outputs: Vec<OutputRecord>,
    /// The judge.
    pub oracle: Oracle,
    /// What happened last.
    pub story: Story,
    /// How often scripts misbehaved.
    pub told: Told,
    /// How inputs behave.
    pub inputs: Mood,
    /// Whether inputs need not look for events as often as else, since none are made.
    pub rests: bool,
    /// Whether events may come twice in the present life, since they were read again.
    pub reads_again: bool,
    /// Whether the log acknowledges what is not durable in the present life.
    pub never_syncs: bool,
    tentative: Vec<Tentative>,
    tentative_counts: Vec<TentativeCount>,
    /// Power was lost, or something of the logs rotted or vanished: their ends need not be whole.
    pub torn: bool,
    /// Lives so far.
    pub life: u64,
    /// Changes with each life: which shard reads which source.
    pub placement: u64,
    /// Acknowledged tickets seen in the present life.
    pub acknowledged: u64,
}

/// See the module.
#[derive(Clone)]
pub struct Ledger(Arc<Mutex<State>>);

impl Ledger {
    /// A ledger of these sources (input, repeatable) and of so many outputs.
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

    /// The state. Scripts never hold it over an await.
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

    /// The events `first..end` of a source are about to be given to the engine, for these outputs.
    pub fn offered(&self, now: Monotonic, source: u64, first: u64, end: u64, outputs: &[usize]) {
        let mut state = self.state();
        state.story.tell(now, format!("source {source}: {first}..{end} are read for outputs {outputs:?}"));
        (first..end).for_each(|ordinal| state.oracle.offered(source, ordinal, mask(outputs)));
    }

    /// The log may take the events `first..end` of a source in parts.
    pub fn parted(&self, source: u64, first: u64, end: u64) {
        (first..end).for_each(|ordinal| self.state().oracle.parted(source, ordinal));
    }

    /// The events `first..end` of a source are acknowledged.
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

    /// Events came out of an instance of an output that counts each delivery.
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

    /// Events went out although the delivery as a whole failed: they will come again.
    pub fn partly_delivered(&self, output: usize, instance: u16, now: Monotonic, events: &[Event]) {
        self.state().told.parts += u64::from(!events.is_empty());
        let before = self.state().oracle.deliveries(OutputIndex(output as u8));
        self.delivered(output, instance, now, events);
        self.state().oracle.goes_back(OutputIndex(output as u8), instance, before);
    }

    /// An instance commits; how many deliveries of its output that covers.
    pub fn commits(&self, output: usize, instance: u16, now: Monotonic) -> u64 {
        let mut state = self.state();
        let State { outputs, oracle, story, .. } = &mut *state;
        let covered = oracle.deliveries(OutputIndex(output as u8));
        outputs[output].commits.push((instance, now, covered));
        story.tell(now, format!("output {output} on shard {instance}: commits {covered}"));
        covered
    }

    /// An instance is opened with the state that was made in some life by some instance: that is for no other one in this life,
    /// though the log of a shard may be another shard's after a start.
    pub fn goes_on_with(&self, output: usize, instance: u16, made: u64) {
        let mut state = self.state();
        let first = *state.outputs[output].states.entry(made).or_insert(instance);
        if first != instance {
            let what = format!("instances {first} and {instance} are opened with the same state");
            state.oracle.garbled(OutputIndex(output as u8), &what);
        }
    }

    /// An output is opened with the state that was made by an instance of some output: it has to be the same.
    pub fn knows(&self, output: usize, made: u64) {
        let maker = made >> 48;
        if maker != output as u64 {
            let what = format!("the state of output {maker}");
            self.state().oracle.garbled(OutputIndex(output as u8), &what);
        }
    }

    /// An instance is asked to open.
    pub fn opens(&self, output: usize, instance: u16) {
        let record = &mut self.state().outputs[output];
        record.began_again |= record.open.contains(&instance);
    }

    /// An instance is open.
    pub fn is_open(&self, output: usize, instance: u16) {
        self.state().outputs[output].open.insert(instance);
    }

    /// A life at its end had counted so many discards for an output that it does not decide again; `durable` says that no loss of
    /// power changes that.
    pub fn discards(&self, output: OutputIndex, counted: u64, durable: bool) {
        let mut state = self.state();
        let undoubted = state.oracle.undoubted(output, counted);
        if durable {
            return state.oracle.discarded_finally(output, undoubted);
        }
        let life = state.life;
        state.tentative_counts.push(TentativeCount { life, output, undoubted });
    }

    /// An instance begins again; `covered` is what its last commit says it had delivered, where that is known.
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

    /// The process ended and starts again. `up` says whether all shards had made durable what they found.
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

    /// The shard that reads a source in the present life.
    pub fn owner(&self, source: usize, shards: usize) -> usize {
        let placement = self.state().placement;
        (mix(source as u64 ^ placement) % shards.max(1) as u64) as usize
    }

    /// Judges all that happened.
    pub fn check(&self) -> Result<Vec<Summary>, Report> {
        self.state().oracle.check()
    }
}
