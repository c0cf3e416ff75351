//! The oracle compares what was promised with what was delivered, as plain data.
//!
//! Guarantees, for every recorded history:
//!
//! - *Delivered or accounted for.* An acknowledged event was delivered by each of its outputs, or is a dead letter, or is
//!   covered by a count of discards with a reason, or waited for an output that was removed, or its bytes were destroyed by the
//!   world and reported. The same applies to an unacknowledged event that the logs vouch for.
//! - *Equal.* Everything that is delivered was given to the engine for that output before, with the same payload.
//! - *Order.* Two rules, for each source. Within a run of an instance (from its opening until it goes back) ordinals only grow.
//!   Over all instances and starts, no event is first delivered after a later event, unless it had been given up: then a
//!   discard was counted for it, or it was rejected or a dead letter. Spread sources have no order.
//! - *Repeats.* Only events in flight are delivered twice, once for each time they were: after the last commit that survived,
//!   in a failed delivery that had sent them, or unacknowledged before a power loss.
//! - *Counts.* In starts whose end leaves no decision open, no more discards are counted than events are absent.
//! - *Bounds.* Every measured queue is within its limit.
//! - *Damage.* Everything that the world destroyed is reported, and nothing else is.
//!
//! Counts every violation and names the first few. Does not look inside the engine, so it can also check kill loops and load
//! tests.

mod report;
#[cfg(test)]
mod tests;

pub use report::{Report, Violation};

use std::collections::{BTreeMap, BTreeSet};

/// Number of an output in the order given to [`Oracle::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputIndex(pub u8);

impl OutputIndex {
    fn bit(self) -> u64 {
        1 << self.0
    }
}

/// The bits of some outputs.
pub fn mask(outputs: &[usize]) -> u64 {
    outputs.iter().fold(0, |mask, output| mask | 1 << output)
}

/// One event, as a test knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The source, for example a file through all its renames.
    pub source: u64,
    /// The number of the event in its source, counted from zero.
    pub ordinal: u64,
    /// Hash of the expected payload.
    pub payload: u64,
}

/// The result of a correct history, per output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events given to the engine for it.
    pub offered: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Of the offered, delivered at least once.
    pub delivered: u64,
    /// Deliveries beyond the first of an event.
    pub repeats: u64,
    /// Events delivered after later ones of their source because they had been given up before.
    pub late: u64,
    /// Discards by reason, named and counted.
    pub discarded: BTreeMap<String, u64>,
    /// How many of the counted discards must refer to events that were never delivered.
    pub final_discards: u64,
}

/// What happened to one event. The masks have a bit for each output.
#[derive(Clone, Default)]
struct Fate {
    payload: u64,
    /// Its outputs, for each time it was given to the engine.
    offers: Vec<u64>,
    acknowledged: u64,
    came: u64,
    /// Discarded by name, or waiting when the output was removed.
    settled: u64,
    /// Rejected by the output, or found in the dead letter queue.
    refused: u64,
    /// Discarded permanently with a removed output.
    barred: u64,
    may_repeat: u64,
    /// It was in flight and has not been delivered again since: it may be discarded although it was delivered.
    doubtful: u64,
    /// The outputs that had delivered it each time it was given to the engine again: it may be discarded that often although it
    /// was delivered.
    again: Vec<u64>,
    /// Power losses before it was acknowledged: each may cause one repeat.
    losses: u32,
    /// The log may have only a part of its batch: until everything is acknowledged, a restart reads it again.
    parted: bool,
    /// Its bytes, or the log's knowledge of its position, were destroyed.
    destroyed: bool,
}

#[derive(Clone, Default)]
struct Source {
    fates: Vec<Fate>,
    /// Its batches go to several shards.
    unordered: bool,
    /// Some of its lines are held back: a restart reads again from there, and repeats what came in between.
    read_again: bool,
    /// Its reader has seen that the logs cover all of it.
    vouched: bool,
    /// The logs' knowledge about it was destroyed once.
    forgotten: bool,
}

impl Source {
    fn without_fates(&self) -> Source {
        let Source { unordered, read_again, vouched, forgotten, .. } = *self;
        Source { fates: Vec::new(), unordered, read_again, vouched, forgotten }
    }
}

#[derive(Default)]
struct OutputState {
    /// Every delivery in order: source and ordinal.
    journal: Vec<(u64, u64)>,
    /// By source: the highest delivered ordinal.
    highest: BTreeMap<u64, u64>,
    /// By instance and source: the last ordinal in its current run.
    runs: BTreeMap<(u16, u64), u64>,
    /// Repeats after power losses, by source and ordinal.
    regained: BTreeMap<(u64, u64), u32>,
    late: Vec<Violation>,
    /// Events in the dead letter queue.
    letters: BTreeSet<(u64, u64)>,
    repeats: u64,
    discarded: BTreeMap<String, u64>,
    counted: u64,
    /// How many of the counted discards no later start can decide again, and the starts that had some.
    final_counts: u64,
    final_lives: u64,
}

/// A history, recorded as it happens.
pub struct Oracle {
    sources: BTreeMap<u64, Source>,
    outputs: Vec<OutputState>,
    restarts: u64,
    report: Report,
}

/// The payload's hash, for [`Event`].
pub fn payload_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

// ------------------------------------------------------------------------------------------------------- what went in

impl Oracle {
    /// An empty history of these outputs, at most 64.
    pub fn new(outputs: &[&str]) -> Oracle {
        assert!((1..=64).contains(&outputs.len()), "an oracle judges 1 to 64 outputs, not {}", outputs.len());
        let names = outputs.iter().map(|name| (*name).to_string()).collect();
        Oracle {
            sources: BTreeMap::new(),
            outputs: outputs.iter().map(|_| OutputState::default()).collect(),
            restarts: 0,
            report: Report::new(names),
        }
    }

    /// Records that an event exists in the world.
    pub fn issued(&mut self, event: Event) {
        let fates = &mut self.sources.entry(event.source).or_default().fates;
        assert_eq!(fates.len() as u64, event.ordinal, "test error: {event:?} is not the next of its source");
        fates.push(Fate { payload: event.payload, ..Fate::default() });
    }

    /// Records that an event was given to the engine for the outputs of `mask`: from now on they may deliver it.
    pub fn offered(&mut self, source: u64, ordinal: u64, mask: u64) {
        match self.fate(source, ordinal) {
            Some(fate) => {
                fate.barred &= !mask;
                fate.again.extend(Some(fate.came & mask).filter(|came| *came != 0));
                if fate.offers.last() != Some(&mask) {
                    fate.offers.push(mask);
                }
            }
            None => self.report.add(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// Records that the engine promised to keep an event for the outputs of `mask`.
    pub fn acknowledged(&mut self, source: u64, ordinal: u64, mask: u64) {
        match self.fate(source, ordinal) {
            Some(fate) if fate.offers.iter().any(|offer| offer & mask == mask) => fate.acknowledged |= mask,
            _ => self.report.add(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// Records that an event was given to the engine in a batch that the log may accept in parts.
    pub fn parted(&mut self, source: u64, ordinal: u64) {
        if let Some(fate) = self.fate(source, ordinal) {
            fate.parted = true;
        }
    }

    /// Records that the logs cover every event of a source, whether acknowledged or not.
    pub fn vouched(&mut self, source: u64) {
        self.sources.entry(source).or_default().vouched = true;
    }

    /// Records that the batches of a source go to several shards, so it has no order.
    pub fn unordered(&mut self, source: u64) {
        self.sources.entry(source).or_default().unordered = true;
    }

    /// Records that some lines of a source are held back: what came in between is read again after a restart. Such repeats are
    /// counted but are no violation: the test decides how many are allowed.
    pub fn read_again(&mut self, source: u64) {
        self.sources.entry(source).or_default().read_again = true;
    }
}

// ------------------------------------------------------------------------------------------------------ what came out

impl Oracle {
    /// Records that an instance of an output delivered an event.
    pub fn delivered(&mut self, output: OutputIndex, instance: u16, event: Event) {
        let Event { source, ordinal, payload } = event;
        let Source { unordered, read_again, forgotten, .. } =
            self.sources.get(&source).map_or_else(Source::default, Source::without_fates);
        let Some(fate) = self.fate(source, ordinal).filter(|fate| fate.may_come(output)) else {
            return self.report.add(Violation::Unknown { output, event });
        };
        if fate.payload != payload {
            let issued = fate.payload;
            return self.report.add(Violation::Payload { output, event, issued });
        }
        let first = fate.came & output.bit() == 0;
        let permitted = fate.may_repeat & output.bit() != 0 || fate.destroyed;
        let losses = fate.losses;
        // If its rejection was not committed, the next start may have accepted it.
        let given_up = (fate.refused | if forgotten { fate.settled } else { 0 }) & output.bit() != 0;
        let ordered = !unordered && !fate.destroyed;
        // The part that the log had accepted is delivered, and then the whole batch that was read again.
        let parted = fate.parted && losses > 0;
        // An event that was read only for other outputs may now be for this one when it is read again.
        let rerouted = forgotten && fate.offers.iter().any(|offer| offer & output.bit() == 0);
        fate.came |= output.bit();
        fate.doubtful &= !output.bit();
        if !first {
            fate.may_repeat &= !output.bit();
        }
        let state = &mut self.outputs[usize::from(output.0)];
        state.journal.push((source, ordinal));
        let last = state.runs.insert((instance, source), ordinal);
        let highest = state.highest.entry(source).or_insert(ordinal);
        let before = *highest;
        *highest = before.max(ordinal);
        if let Some(after) = last.filter(|last| ordered && !read_again && !parted && *last >= ordinal) {
            state.runs.insert((instance, source), after);
            self.report.add(Violation::Run { output, instance, source, ordinal, after });
        } else if first && ordered && before > ordinal && !given_up && !rerouted {
            state.late.push(Violation::Order { output, source, ordinal, after: before });
        }
        if !first {
            state.repeats += 1;
            let regained = state.regained.entry((source, ordinal)).or_default();
            *regained += u32::from(!permitted);
            if *regained > losses && !read_again {
                self.report.add(Violation::Repeat { output, source, ordinal });
            }
        }
    }

    /// Records that something delivered cannot be decoded as events.
    pub fn garbled(&mut self, output: OutputIndex, what: &str) {
        self.report.add(Violation::Garbled { output, what: what.to_string() });
    }

    /// Number of deliveries of an output so far, including repeats: what a commit covers.
    pub fn deliveries(&self, output: OutputIndex) -> u64 {
        self.outputs[usize::from(output.0)].journal.len() as u64
    }

    /// Records that an instance starts over, and that everything after the first `covered` deliveries of its output was in
    /// flight.
    pub fn goes_back(&mut self, output: OutputIndex, instance: u16, covered: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        state.runs.retain(|(of, _), _| *of != instance);
        let covered = usize::try_from(covered).unwrap_or(usize::MAX).min(state.journal.len());
        for &(source, ordinal) in &state.journal[covered..] {
            if let Some(fate) = fate_of(&mut self.sources, source, ordinal) {
                fate.may_repeat |= output.bit();
                fate.doubtful |= output.bit();
            }
        }
    }

    /// Records that the process died and is restarted.
    pub fn restarted(&mut self) {
        self.restarts += 1;
        self.outputs.iter_mut().for_each(|output| output.runs.clear());
        self.sources.values_mut().flat_map(|source| &mut source.fates).filter(|fate| fate.parted).for_each(Fate::lose);
    }

    /// Records a power loss: everything that the engine had not promised to keep is given to it once more.
    pub fn power_lost(&mut self) {
        self.sources.values_mut().flat_map(|source| &mut source.fates).for_each(Fate::lose);
    }
}

// --------------------------------------------------------------------------------------------------- what need not come

impl Oracle {
    /// Records that an output rejected an event: it may become a dead letter.
    pub fn refused(&mut self, output: OutputIndex, source: u64, ordinal: u64) {
        match self.fate(source, ordinal) {
            Some(fate) => fate.refused |= output.bit(),
            None => self.report.add(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// Records that an event is in the dead letter queue: it need not be delivered. With `refused`, the output must have
    /// rejected it before.
    pub fn dead_letter(&mut self, output: OutputIndex, why: &str, event: Event, refused: bool) {
        let Event { source, ordinal, payload } = event;
        match self.fate(source, ordinal) {
            Some(fate) if fate.payload != payload => {
                let issued = fate.payload;
                self.report.add(Violation::Payload { output, event, issued });
            }
            Some(fate) if !refused || fate.refused & output.bit() != 0 => {
                fate.settled |= output.bit();
                fate.refused |= output.bit();
                let state = &mut self.outputs[usize::from(output.0)];
                if state.letters.insert((source, ordinal)) {
                    *state.discarded.entry(why.to_string()).or_default() += 1;
                }
            }
            _ => self.garbled(output, &format!("a dead letter of {source}/{ordinal}, which it did not refuse")),
        }
    }

    /// Records that an event was discarded by name: it need not be delivered.
    pub fn discarded(&mut self, output: OutputIndex, reason: &str, source: u64, ordinal: u64) {
        let Some(fate) = self.fate(source, ordinal) else {
            return self.report.add(Violation::NeverIssued { source, ordinal });
        };
        fate.settled |= output.bit();
        *self.outputs[usize::from(output.0)].discarded.entry(reason.to_string()).or_default() += 1;
    }

    /// Records that this many more events, unknown which, were counted as discarded for an output.
    pub fn discarded_count(&mut self, output: OutputIndex, reason: &str, count: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        *state.discarded.entry(reason.to_string()).or_default() += count;
        state.counted += count;
    }

    /// Of this many counted discards of a start, those that must refer to events that were never delivered.
    pub fn undoubted(&self, output: OutputIndex, counted: u64) -> u64 {
        let doubtful = self.fates().filter(|fate| fate.doubtful & output.bit() != 0).count() as u64;
        counted.saturating_sub(doubtful)
    }

    /// Records that the start which discarded them left nothing to decide again: this many events are never delivered.
    pub fn discarded_finally(&mut self, output: OutputIndex, undoubted: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        state.final_counts += undoubted;
        state.final_lives += u64::from(undoubted > 0);
    }

    /// Records that everything in flight to an output was delivered or is discarded permanently.
    pub fn nothing_in_flight(&mut self, output: OutputIndex) {
        for fate in self.sources.values_mut().flat_map(|source| &mut source.fates) {
            fate.doubtful &= !output.bit();
        }
    }

    /// Records that an output was removed and that the engine counted `counted` events as waiting for it: at least those that
    /// it had promised to keep. They need not be delivered any more.
    pub fn removed(&mut self, output: OutputIndex, counted: u64) {
        let waiting = self.missing(output).len() as u64;
        let state = &mut self.outputs[usize::from(output.0)];
        *state.discarded.entry("output_removed".to_string()).or_default() += counted;
        if waiting > counted + state.counted {
            self.report.add(Violation::Undercounted { output, counted, waiting });
        }
        for fate in self.sources.values_mut().flat_map(|source| &mut source.fates) {
            if fate.was_offered(output) && fate.came & output.bit() == 0 {
                fate.settled |= output.bit();
            }
        }
    }

    /// Records that a start without an output became durable: what waited for it is discarded permanently and not delivered any
    /// more.
    pub fn gone(&mut self, output: OutputIndex) {
        for fate in self.sources.values_mut().flat_map(|source| &mut source.fates) {
            if fate.settled & output.bit() != 0 && fate.came & output.bit() == 0 {
                fate.barred |= output.bit();
            }
        }
    }

    /// Records that the world destroyed the bytes of an event in the log, or its position in its source: it may be missing,
    /// late or repeated.
    pub fn destroyed(&mut self, source: u64, ordinal: u64) {
        if let Some(fate) = self.fate(source, ordinal) {
            fate.destroyed = true;
        }
    }

    /// Records that the world destroyed what the logs knew about a source apart from its events, or how far outputs had come:
    /// all of it may be delivered again, or be discarded again after each start. None of it may be missing.
    pub fn forgotten(&mut self, source: u64) {
        let source = self.sources.entry(source).or_default();
        (source.read_again, source.forgotten) = (true, true);
        // The removal of an output may be forgotten too.
        source.fates.iter_mut().for_each(|fate| fate.barred = 0);
    }

    /// Records a place that the world destroyed and the engine did not report, or the opposite.
    pub fn damage(&mut self, what: &str) {
        self.report.add(Violation::Damage { what: what.to_string() });
    }

    /// Records the measurement of a queue.
    pub fn measured(&mut self, what: &'static str, value: u64, limit: u64) {
        if value > limit {
            self.report.add(Violation::Bound { what, value, limit });
        }
    }

    /// These events (source, ordinal) were created after all faults were removed: all of them must have been delivered, or at
    /// least one if a policy may thin them out. `seen` knows of events that were delivered but are not recorded here yet.
    pub fn fresh(&mut self, output: OutputIndex, events: &[(u64, u64)], all: bool, seen: impl Fn(u64, u64) -> bool) {
        let came = |fate: &Fate| (fate.came | fate.settled) & output.bit() != 0;
        let mut absent = Vec::new();
        for &(source, ordinal) in events {
            if self.fate(source, ordinal).is_none_or(|fate| !came(fate)) && !seen(source, ordinal) {
                absent.push(Violation::Stuck { output, source, ordinal });
            }
        }
        if all || absent.len() == events.len() {
            absent.into_iter().for_each(|violation| self.report.add(violation));
        }
    }

    /// Records that, long after all faults were removed, an event could still not reach an output.
    pub fn stuck(&mut self, output: OutputIndex, source: u64, ordinal: u64) {
        self.report.add(Violation::Stuck { output, source, ordinal });
    }

    /// Records that, long after all faults were removed, this many events still wait for an output, or this many more left than
    /// arrived.
    pub fn left_waiting(&mut self, output: OutputIndex, events: i64) {
        self.report.add(Violation::LeftWaiting { output, events });
    }
}

// -------------------------------------------------------------------------------------------------------- the judgement

impl Oracle {
    /// Whether nothing recorded so far is a violation by itself.
    pub fn is_content(&self) -> bool {
        self.report.total == 0
    }

    /// The violations that later events cannot repair. Undelivered events are not among them.
    pub fn breaches(&self) -> Result<(), Report> {
        if self.is_content() { Ok(()) } else { Err(self.report.clone()) }
    }

    /// Checks the history so far.
    pub fn check(&self) -> Result<Vec<Summary>, Report> {
        let mut report = self.report.clone();
        for output in self.indices() {
            self.check_output(output, &mut report);
        }
        if report.total > 0 { Err(report) } else { Ok(self.indices().map(|output| self.summary(output)).collect()) }
    }

    /// It is unknown which of the missing or late events a counted discard covers, so the first ones are assumed.
    fn check_output(&self, output: OutputIndex, report: &mut Report) {
        let state = &self.outputs[usize::from(output.0)];
        let missing = self.missing(output);
        let lost = missing.iter().map(|&(source, ordinal)| Violation::Lost { output, source, ordinal });
        // Events in the dead letter queue had been given up, even if the queue is read only later.
        let is_letter = |late: &&Violation| match late {
            Violation::Order { source, ordinal, .. } => state.letters.contains(&(*source, *ordinal)),
            _ => false,
        };
        let late = state.late.iter().filter(|late| !is_letter(late)).cloned();
        let unpaid = lost.chain(late).skip(usize::try_from(state.counted).unwrap_or(usize::MAX));
        unpaid.for_each(|violation| report.add(violation));
        // A restart may decide the same discard twice. Within one start, a count must be backed by events.
        let absent = self.absent(output);
        if self.restarts == 0 && state.counted > absent {
            report.add(Violation::Overcounted { output, counted: state.counted, missing: absent });
        }
        let missing = self.never_came(output);
        if state.final_counts > missing {
            report.add(Violation::Overcounted { output, counted: state.final_counts, missing });
        }
    }

    /// Events given to the engine for an output that it never delivered, including rejected ones, and those delivered before a
    /// power loss made the engine read them again. What the world destroyed may have been discarded again after each start.
    fn never_came(&self, output: OutputIndex) -> u64 {
        let lives = self.outputs[usize::from(output.0)].final_lives;
        let weigh = |forgotten: bool, fate: &Fate| match fate.came & output.bit() {
            _ if !fate.was_offered(output) => 0,
            _ if fate.destroyed || forgotten => lives,
            0 => 1,
            bit => fate.again.iter().filter(|came| *came & bit != 0).count() as u64,
        };
        let of = |source: &Source| source.fates.iter().map(|fate| weigh(source.forgotten, fate)).sum::<u64>();
        self.sources.values().map(of).sum()
    }

    /// Events promised to an output that were neither delivered nor discarded.
    fn missing(&self, output: OutputIndex) -> Vec<(u64, u64)> {
        let mut missing = Vec::new();
        for (&number, source) in &self.sources {
            for (ordinal, fate) in source.fates.iter().enumerate() {
                if !fate.destroyed && fate.owed(source.vouched) & output.bit() != 0 {
                    missing.push((number, ordinal as u64));
                }
            }
        }
        missing
    }

    /// Events given to the engine for an output that it did not deliver.
    fn absent(&self, output: OutputIndex) -> u64 {
        let absent = |fate: &&Fate| fate.was_offered(output) && (fate.came | fate.settled) & output.bit() == 0;
        self.fates().filter(absent).count() as u64
    }

    fn summary(&self, output: OutputIndex) -> Summary {
        let state = &self.outputs[usize::from(output.0)];
        let count = |holds: &dyn Fn(&Fate) -> bool| self.fates().filter(|fate| holds(fate)).count() as u64;
        Summary {
            offered: count(&|fate| fate.was_offered(output)),
            acknowledged: count(&|fate| fate.acknowledged & output.bit() != 0),
            delivered: count(&|fate| fate.came & output.bit() != 0),
            repeats: state.repeats,
            late: state.late.len() as u64,
            discarded: state.discarded.clone(),
            final_discards: state.final_counts,
        }
    }

    fn fates(&self) -> impl Iterator<Item = &Fate> {
        self.sources.values().flat_map(|source| &source.fates)
    }

    fn indices(&self) -> impl Iterator<Item = OutputIndex> + use<> {
        (0..self.outputs.len()).map(|at| OutputIndex(at as u8))
    }

    fn fate(&mut self, source: u64, ordinal: u64) -> Option<&mut Fate> {
        fate_of(&mut self.sources, source, ordinal)
    }
}

fn fate_of(sources: &mut BTreeMap<u64, Source>, source: u64, ordinal: u64) -> Option<&mut Fate> {
    sources.get_mut(&source)?.fates.get_mut(usize::try_from(ordinal).ok()?)
}

impl Fate {
    /// Allows unacknowledged events to be given to the engine once more.
    fn lose(&mut self) {
        let offered = self.offers.iter().fold(0, |all, offer| all | offer);
        self.losses += u32::from(offered & !self.acknowledged != 0);
        self.doubtful |= offered & !self.acknowledged;
    }

    fn was_offered(&self, output: OutputIndex) -> bool {
        self.offers.iter().any(|offer| offer & output.bit() != 0)
    }

    fn may_come(&self, output: OutputIndex) -> bool {
        self.was_offered(output) && self.barred & output.bit() == 0
    }

    /// The outputs that still must receive it. An event that was never acknowledged but is vouched for is in the logs as it was
    /// offered last: it would not have been read again if an earlier version had survived.
    fn owed(&self, vouched: bool) -> u64 {
        let open = |outputs: u64| outputs & !self.came & !self.settled;
        let owed = open(self.acknowledged);
        if !vouched || self.acknowledged != 0 {
            return owed;
        }
        self.offers.last().map_or(0, |offer| open(*offer))
    }
}
