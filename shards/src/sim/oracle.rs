//! The oracle: what was promised against what came out, as plain data.
//!
//! Guarantees, for every history it is told:
//!
//! - *Delivered or accounted for.* An acknowledged event came out of each output that it was for, or is a dead letter, or
//!   is covered by a count of discards with a reason, or waited for an output that was removed, or its bytes were destroyed by
//!   the world and reported. An event that the logs vouch for without an acknowledgement is held to the same.
//! - *Equal.* What comes out had been given to the engine for that output before, with the same payload.
//! - *Order.* Two rules, for each source. Within a run of an instance (from its opening to the next time it goes back)
//!   ordinals only grow. Over all instances and lives nothing comes for the first time behind a later event, unless it had
//!   been given up: then a discard was counted for it, or it was refused or a dead letter. Sources that are spread over shards have no order, by their setting.
//! - *Repeats.* Only what was in flight comes twice, once for each time it was: what went out after the last commit that
//!   survived, what a failed delivery had already sent, and what was not yet acknowledged when the power went.
//! - *Counts.* Within one life, and in lives whose end leaves no decision open, no more is counted as discarded than is absent: a
//!   count that hides nothing would excuse a loss.
//! - *Bounds.* Every queue that is measured is within its limit.
//! - *Damage.* What the world destroyed is reported, and nothing else is.
//!
//! Every breach is counted, the first few are named. Does not look inside the engine, so that it judges the simulator, kill
//! loops and load tests alike.

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

/// One event as a test knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The source, for instance a file through all its renames.
    pub source: u64,
    /// Counts the events of its source from zero.
    pub ordinal: u64,
    /// Hash of the payload as it must come out.
    pub payload: u64,
}

/// What a right history amounts to, per output.
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
    /// Events that came behind later ones of their source since they had been given up before.
    pub late: u64,
    /// Discards by reason, named and counted.
    pub discarded: BTreeMap<String, u64>,
    /// Of the counted, those that must be of events which never came.
    pub final_discards: u64,
}

/// What became of one event. The masks have a bit for each output.
#[derive(Clone, Default)]
struct Fate {
    payload: u64,
    /// The outputs it was for, each time it was given to the engine.
    offers: Vec<u64>,
    acknowledged: u64,
    came: u64,
    /// Set aside by name, or waiting when the output was removed.
    settled: u64,
    /// Refused by the output, or found in the dead letter queue.
    refused: u64,
    /// Discarded for good with an output that left.
    barred: u64,
    may_repeat: u64,
    /// It was in flight and has not come again since: it may be discarded although it came.
    doubtful: u64,
    /// The outputs it had come to, each time it was given to the engine again: it may be discarded that often although it came.
    again: Vec<u64>,
    /// Losses of power before it was acknowledged: each may bring it once more.
    losses: u32,
    /// The log may have a part of what came with it: until all is acknowledged, a restart reads it again.
    parted: bool,
    /// Its bytes, or what the log knew of its place, were destroyed.
    destroyed: bool,
}

#[derive(Clone, Default)]
struct Source {
    fates: Vec<Fate>,
    /// Its batches go to several shards.
    unordered: bool,
    /// What makes its lines holds some of them back: a restart reads again from there, and repeats what was between.
    read_again: bool,
    /// Its reader has seen all of it accounted for in the logs.
    vouched: bool,
    /// What the logs knew of it was destroyed once.
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
    /// Every delivery in its order: source and ordinal.
    journal: Vec<(u64, u64)>,
    /// By source: the highest ordinal that came.
    highest: BTreeMap<u64, u64>,
    /// By instance and source: the last ordinal in its present run.
    runs: BTreeMap<(u16, u64), u64>,
    /// Repeats after losses of power, by source and ordinal.
    regained: BTreeMap<(u64, u64), u32>,
    late: Vec<Violation>,
    /// Events in the dead letter queue.
    letters: BTreeSet<(u64, u64)>,
    repeats: u64,
    discarded: BTreeMap<String, u64>,
    counted: u64,
    /// Of the counted, those that no later life can decide again; and lives in which there were some.
    final_counts: u64,
    final_lives: u64,
}

/// A history, told as it happens.
pub struct Oracle {
    sources: BTreeMap<u64, Source>,
    outputs: Vec<OutputState>,
    restarts: u64,
    report: Report,
}

/// The payload's hash, as [`Event`] wants it.
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

    /// An event exists in the world.
    pub fn issued(&mut self, event: Event) {
        let fates = &mut self.sources.entry(event.source).or_default().fates;
        assert_eq!(fates.len() as u64, event.ordinal, "test error: {event:?} is not the next of its source");
        fates.push(Fate { payload: event.payload, ..Fate::default() });
    }

    /// An event was given to the engine for the outputs of `mask`: from now on it may come out of them.
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

    /// The engine promised to keep an event for the outputs of `mask`.
    pub fn acknowledged(&mut self, source: u64, ordinal: u64, mask: u64) {
        match self.fate(source, ordinal) {
            Some(fate) if fate.offers.iter().any(|offer| offer & mask == mask) => fate.acknowledged |= mask,
            _ => self.report.add(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// An event was given to the engine in a batch that the log may take in parts.
    pub fn parted(&mut self, source: u64, ordinal: u64) {
        if let Some(fate) = self.fate(source, ordinal) {
            fate.parted = true;
        }
    }

    /// The logs say that every event of a source is accounted for, acknowledged or not.
    pub fn vouched(&mut self, source: u64) {
        self.sources.entry(source).or_default().vouched = true;
    }

    /// The batches of a source go to several shards: it has no order.
    pub fn unordered(&mut self, source: u64) {
        self.sources.entry(source).or_default().unordered = true;
    }

    /// What makes the lines of a source holds some of them back: what came in between is read again after a restart. Such repeats
    /// are counted and no breach: how many there may be is for the test to say.
    pub fn read_again(&mut self, source: u64) {
        self.sources.entry(source).or_default().read_again = true;
    }
}

// ------------------------------------------------------------------------------------------------------ what came out

impl Oracle {
    /// An event came out of an instance of an output.
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
        // Where its refusal was not committed, the next life may have taken it.
        let given_up = (fate.refused | if forgotten { fate.settled } else { 0 }) & output.bit() != 0;
        let ordered = !unordered && !fate.destroyed;
        // A part that the log had taken comes, and then the whole that was read again.
        let parted = fate.parted && losses > 0;
        // What was read for other outputs only, and is read again, may be for this one now.
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

    /// What came out of an output cannot be read as events.
    pub fn garbled(&mut self, output: OutputIndex, what: &str) {
        self.report.add(Violation::Garbled { output, what: what.to_string() });
    }

    /// How many deliveries an output has made so far, repeats included: what a commit covers.
    pub fn deliveries(&self, output: OutputIndex) -> u64 {
        self.outputs[usize::from(output.0)].journal.len() as u64
    }

    /// An instance begins again, and everything after the first `covered` deliveries of its output was in flight.
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

    /// The process died and is started again.
    pub fn restarted(&mut self) {
        self.restarts += 1;
        self.outputs.iter_mut().for_each(|output| output.runs.clear());
        self.sources.values_mut().flat_map(|source| &mut source.fates).filter(|fate| fate.parted).for_each(Fate::lose);
    }

    /// The power went: what the engine had not yet promised to keep is given to it once more.
    pub fn power_lost(&mut self) {
        self.sources.values_mut().flat_map(|source| &mut source.fates).for_each(Fate::lose);
    }
}

// --------------------------------------------------------------------------------------------------- what need not come

impl Oracle {
    /// An output refused an event: it may become a dead letter.
    pub fn refused(&mut self, output: OutputIndex, source: u64, ordinal: u64) {
        match self.fate(source, ordinal) {
            Some(fate) => fate.refused |= output.bit(),
            None => self.report.add(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// An event lies in the dead letter queue: it need not come out. With `refused` the output had to refuse it first.
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

    /// An event was set aside by name: it need not come out.
    pub fn discarded(&mut self, output: OutputIndex, reason: &str, source: u64, ordinal: u64) {
        let Some(fate) = self.fate(source, ordinal) else {
            return self.report.add(Violation::NeverIssued { source, ordinal });
        };
        fate.settled |= output.bit();
        *self.outputs[usize::from(output.0)].discarded.entry(reason.to_string()).or_default() += 1;
    }

    /// This many more events were counted as discarded for an output, which ones is not known.
    pub fn discarded_count(&mut self, output: OutputIndex, reason: &str, count: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        *state.discarded.entry(reason.to_string()).or_default() += count;
        state.counted += count;
    }

    /// Of so many discards that were counted in a life, those that must be of events which never came.
    pub fn undoubted(&self, output: OutputIndex, counted: u64) -> u64 {
        let doubtful = self.fates().filter(|fate| fate.doubtful & output.bit() != 0).count() as u64;
        counted.saturating_sub(doubtful)
    }

    /// The life that discarded them left nothing to decide again: so many events never come.
    pub fn discarded_finally(&mut self, output: OutputIndex, undoubted: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        state.final_counts += undoubted;
        state.final_lives += u64::from(undoubted > 0);
    }

    /// All that was in flight to an output has come or is discarded for good.
    pub fn nothing_in_flight(&mut self, output: OutputIndex) {
        for fate in self.sources.values_mut().flat_map(|source| &mut source.fates) {
            fate.doubtful &= !output.bit();
        }
    }

    /// An output left the configuration and the engine counted `counted` events that waited for it: at least those that it
    /// had promised to keep. They need not come any more.
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

    /// A start without an output became durable: what waited for it is discarded for good, and does not come any more.
    pub fn gone(&mut self, output: OutputIndex) {
        for fate in self.sources.values_mut().flat_map(|source| &mut source.fates) {
            if fate.settled & output.bit() != 0 && fate.came & output.bit() == 0 {
                fate.barred |= output.bit();
            }
        }
    }

    /// The world destroyed the bytes of an event in the log, or its place in its source: it may be gone, late or repeated.
    pub fn destroyed(&mut self, source: u64, ordinal: u64) {
        if let Some(fate) = self.fate(source, ordinal) {
            fate.destroyed = true;
        }
    }

    /// The world destroyed what the logs knew of a source beside its events, or how far outputs had come: all of it may come again, or
    /// be discarded again in each life. Nothing of it may be missing.
    pub fn forgotten(&mut self, source: u64) {
        let source = self.sources.entry(source).or_default();
        (source.read_again, source.forgotten) = (true, true);
        // That an output had left may be forgotten too.
        source.fates.iter_mut().for_each(|fate| fate.barred = 0);
    }

    /// Places that the world destroyed and the engine did not report, or the other way round.
    pub fn damage(&mut self, what: &str) {
        self.report.add(Violation::Damage { what: what.to_string() });
    }

    /// A queue was looked at.
    pub fn measured(&mut self, what: &'static str, value: u64, limit: u64) {
        if value > limit {
            self.report.add(Violation::Bound { what, value, limit });
        }
    }

    /// These events (source, ordinal) were made when all was well: all of them have to be there, or at least one where a
    /// policy may thin them out. `seen` knows of events that have come without being told here yet.
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

    /// All has been well for long, and an event has not come so far that it could reach an output.
    pub fn stuck(&mut self, output: OutputIndex, source: u64, ordinal: u64) {
        self.report.add(Violation::Stuck { output, source, ordinal });
    }

    /// All has been well for long, and so many events still wait for an output, or so many more went than came.
    pub fn left_waiting(&mut self, output: OutputIndex, events: i64) {
        self.report.add(Violation::LeftWaiting { output, events });
    }
}

// -------------------------------------------------------------------------------------------------------- the judgement

impl Oracle {
    /// Whether nothing that was told so far is a breach by itself.
    pub fn is_content(&self) -> bool {
        self.report.total == 0
    }

    /// The breaches that are ones whatever comes later: what has not come yet is none.
    pub fn breaches(&self) -> Result<(), Report> {
        if self.is_content() { Ok(()) } else { Err(self.report.clone()) }
    }

    /// Judges the history so far.
    pub fn check(&self) -> Result<Vec<Summary>, Report> {
        let mut report = self.report.clone();
        for output in self.indices() {
            self.check_output(output, &mut report);
        }
        if report.total > 0 { Err(report) } else { Ok(self.indices().map(|output| self.summary(output)).collect()) }
    }

    /// Of the events that are missing or came late, which ones a counted discard covers is not known: the first ones are as
    /// good as any.
    fn check_output(&self, output: OutputIndex, report: &mut Report) {
        let state = &self.outputs[usize::from(output.0)];
        let missing = self.missing(output);
        let lost = missing.iter().map(|&(source, ordinal)| Violation::Lost { output, source, ordinal });
        // What lies in the dead letter queue had been given up, also where that is read only later.
        let is_letter = |late: &&Violation| match late {
            Violation::Order { source, ordinal, .. } => state.letters.contains(&(*source, *ordinal)),
            _ => false,
        };
        let late = state.late.iter().filter(|late| !is_letter(late)).cloned();
        let unpaid = lost.chain(late).skip(usize::try_from(state.counted).unwrap_or(usize::MAX));
        unpaid.for_each(|violation| report.add(violation));
        // A restart may decide the same discard twice; within one life a count must be backed by events.
        let absent = self.absent(output);
        if self.restarts == 0 && state.counted > absent {
            report.add(Violation::Overcounted { output, counted: state.counted, missing: absent });
        }
        let missing = self.never_came(output);
        if state.final_counts > missing {
            report.add(Violation::Overcounted { output, counted: state.final_counts, missing });
        }
    }

    /// Events given to the engine for an output that never came out of it, refused ones among them, and those that came before a
    /// loss of power made the engine read them again. What the world destroyed may have been discarded in each life anew.
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

    /// Events promised to an output that neither came out nor were set aside.
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

    /// Events given to the engine for an output that did not come out of it.
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
    /// What was not acknowledged may be given to the engine once more.
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

    /// The outputs that still have to get it. What was never acknowledged but is vouched for is in the logs the way it was
    /// offered last: it would not have been read again had an earlier way lasted.
    fn owed(&self, vouched: bool) -> u64 {
        let open = |outputs: u64| outputs & !self.came & !self.settled;
        let owed = open(self.acknowledged);
        if !vouched || self.acknowledged != 0 {
            return owed;
        }
        self.offers.last().map_or(0, |offer| open(*offer))
    }
}
