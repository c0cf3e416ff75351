//! The oracle: what was promised against what came out, as plain data.
//!
//! Guarantees, for every history it is told: an acknowledged event was delivered to each of its outputs, or set
//! aside, or is covered by a discard with a reason; a delivered event had been issued for that output before, with
//! the same payload; order holds per source, repeats aside; repeats are counted per life of the process and bounded.
//! Every breach is counted, the first few are named. Does not look inside the engine, so that it judges the
//! simulator, kill loops and load tests alike.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Breaches that a report names; the others are only counted.
const NAMED_MAX: usize = 12;

/// Number of an output in the order given to [`Oracle::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OutputIndex(pub u8);

/// One event as a test knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The source, for instance a file through all its renames.
    pub source: u64,
    /// Grows from event to event of its source.
    pub ordinal: u64,
    /// Hash of the payload as it must come out.
    pub payload: u64,
}

/// What a history may contain and still be right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Repeats to one output in a life that began with a restart: what may be in flight when the process dies.
    pub repeats_per_restart: u64,
    /// Repeats to one output in the first life: what an output that fails half-way gets again.
    pub repeats_without_restart: u64,
}

/// One breach of the promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// An acknowledged event never came out and no discard covers it.
    Lost {
        /// The output that lacks it.
        output: OutputIndex,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
    },
    /// An event came out that was not issued for this output before.
    Unknown {
        /// The output that got it.
        output: OutputIndex,
        /// What came.
        event: Event,
    },
    /// An event came out with another payload.
    Payload {
        /// The output that got it.
        output: OutputIndex,
        /// What came.
        event: Event,
        /// The payload that was issued.
        issued: u64,
    },
    /// An event came for the first time after a later one of its source.
    Order {
        /// The output that got it.
        output: OutputIndex,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
        /// The highest ordinal before it.
        after: u64,
    },
    /// More repeats in one life of the process than may be in flight.
    Repeats {
        /// The output that got them.
        output: OutputIndex,
        /// The life, from zero.
        life: usize,
        /// How many came.
        count: u64,
        /// How many may come.
        bound: u64,
    },
    /// More discards were counted than events are missing: a count that hides nothing is wrong too.
    Overcounted {
        /// The output they were counted for.
        output: OutputIndex,
        /// Discards counted without naming events.
        counted: u64,
        /// Events issued that did not come out.
        missing: u64,
    },
    /// An acknowledgement for an event that was not issued before, or a discard of one.
    NeverIssued {
        /// The source named.
        source: u64,
        /// The ordinal named.
        ordinal: u64,
    },
}

/// What a right history amounts to, per output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Events issued for it.
    pub issued: u64,
    /// Of these, acknowledged.
    pub acknowledged: u64,
    /// Of the issued, delivered at least once.
    pub delivered: u64,
    /// Deliveries beyond the first of an event.
    pub repeats: u64,
    /// Discards by reason, named and counted.
    pub discarded: BTreeMap<String, u64>,
}

/// What is wrong with a history.
#[derive(Clone, Debug)]
pub struct Report {
    /// The first breaches found.
    pub violations: Vec<Violation>,
    /// All of them.
    pub total: u64,
    names: Vec<String>,
}

#[derive(Clone, Copy)]
struct Issued {
    payload: u64,
    outputs: u64,
    acknowledged: bool,
}

#[derive(Default)]
struct OutputState {
    name: String,
    first_deliveries: BTreeMap<u64, BTreeSet<u64>>,
    settled: BTreeSet<(u64, u64)>,
    repeats_by_life: Vec<u64>,
    discarded: BTreeMap<String, u64>,
    counted: u64,
    unordered: bool,
}

/// A history, told as it happens.
pub struct Oracle {
    issued: BTreeMap<u64, BTreeMap<u64, Issued>>,
    outputs: Vec<OutputState>,
    life: usize,
    violations: Vec<Violation>,
    total: u64,
}

/// The payload's hash, as [`Event`] wants it.
pub fn payload_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

impl Oracle {
    /// An empty history of these outputs, at most 64.
    pub fn new(outputs: &[&str]) -> Oracle {
        assert!((1..=64).contains(&outputs.len()), "an oracle judges 1 to 64 outputs, not {}", outputs.len());
        let output =
            |name: &&str| OutputState { name: (*name).to_string(), repeats_by_life: vec![0], ..OutputState::default() };
        let outputs = outputs.iter().map(output).collect();
        Oracle { issued: BTreeMap::new(), outputs, life: 0, violations: Vec::new(), total: 0 }
    }

    /// Order is promised for none of the outputs: what is spread over shards comes as it comes.
    pub fn unordered(&mut self) {
        self.outputs.iter_mut().for_each(|output| output.unordered = true);
    }

    /// Whether an event has come out.
    pub fn came(&self, output: OutputIndex, source: u64, ordinal: u64) -> bool {
        let seen = self.outputs[usize::from(output.0)].first_deliveries.get(&source);
        seen.is_some_and(|seen| seen.contains(&ordinal))
    }

    /// An event was given to the system, for every output.
    pub fn issued(&mut self, event: Event) {
        let outputs: Vec<OutputIndex> = (0..self.outputs.len()).map(|at| OutputIndex(at as u8)).collect();
        self.issued_to(event, &outputs);
    }

    /// An event was given to the system, for these outputs.
    pub fn issued_to(&mut self, event: Event, outputs: &[OutputIndex]) {
        let outputs = outputs.iter().fold(0, |mask, output| mask | 1 << output.0);
        let known = self.issued.entry(event.source).or_default();
        let last = known.last_key_value().map(|entry| *entry.0);
        assert!(last.is_none_or(|last| last < event.ordinal), "test error: {event:?} issued after ordinal {last:?}");
        known.insert(event.ordinal, Issued { payload: event.payload, outputs, acknowledged: false });
    }

    /// The system promised to keep an event.
    pub fn acknowledged(&mut self, source: u64, ordinal: u64) {
        match self.issued.get_mut(&source).and_then(|known| known.get_mut(&ordinal)) {
            Some(issued) => issued.acknowledged = true,
            None => self.violate(Violation::NeverIssued { source, ordinal }),
        }
    }

    /// The system promised to keep all events of a source up to and with this one.
    pub fn acknowledged_through(&mut self, source: u64, ordinal: u64) {
        for (_, issued) in self.issued.entry(source).or_default().range_mut(..=ordinal) {
            issued.acknowledged = true;
        }
        self.acknowledged(source, ordinal);
    }

    /// The process died and was started again.
    pub fn restarted(&mut self) {
        self.life += 1;
        for output in &mut self.outputs {
            output.repeats_by_life.push(0);
        }
    }

    /// An event came out.
    pub fn delivered(&mut self, output: OutputIndex, event: Event) {
        let Event { source, ordinal, payload } = event;
        match self.lookup(output, source, ordinal) {
            None => return self.violate(Violation::Unknown { output, event }),
            Some(issued) if issued.payload != payload => {
                return self.violate(Violation::Payload { output, event, issued: issued.payload });
            }
            Some(_) => {}
        }
        let state = &mut self.outputs[usize::from(output.0)];
        let ordered = !state.unordered;
        let seen = state.first_deliveries.entry(source).or_default();
        let highest = seen.last().copied();
        if !seen.insert(ordinal) {
            state.repeats_by_life[self.life] += 1;
        } else if let Some(after) = highest.filter(|&highest| ordered && highest > ordinal) {
            self.violate(Violation::Order { output, source, ordinal, after });
        }
    }

    /// An event was discarded for an output, or written to its dead letters: it need not come out.
    pub fn discarded(&mut self, output: OutputIndex, reason: &str, source: u64, ordinal: u64) {
        if self.lookup(output, source, ordinal).is_none() {
            return self.violate(Violation::NeverIssued { source, ordinal });
        }
        let state = &mut self.outputs[usize::from(output.0)];
        *state.discarded.entry(reason.to_string()).or_default() += 1;
        state.settled.insert((source, ordinal));
    }

    /// This many more events were counted as discarded for an output, which ones is not known.
    pub fn discarded_count(&mut self, output: OutputIndex, reason: &str, count: u64) {
        let state = &mut self.outputs[usize::from(output.0)];
        *state.discarded.entry(reason.to_string()).or_default() += count;
        state.counted += count;
    }

    /// Acknowledged events that have not come out and were not discarded by name; zero means that a test may stop
    /// waiting.
    pub fn outstanding(&self) -> u64 {
        self.indices().map(|output| self.missing(output, true).len() as u64).sum()
    }

    /// Judges the history so far.
    pub fn check(&self, limits: &Limits) -> Result<Vec<Summary>, Report> {
        let mut report = Report {
            violations: self.violations.clone(),
            total: self.total,
            names: self.outputs.iter().map(|output| output.name.clone()).collect(),
        };
        for output in self.indices() {
            self.check_losses(output, &mut report);
            self.check_repeats(output, limits, &mut report);
        }
        if report.total > 0 { Err(report) } else { Ok(self.indices().map(|output| self.summary(output)).collect()) }
    }

    fn check_losses(&self, output: OutputIndex, report: &mut Report) {
        let counted = self.outputs[usize::from(output.0)].counted;
        let lost = self.missing(output, true);
        // Which of the missing events a counted discard covers is not known: the first ones are as good as any.
        for &(source, ordinal) in lost.iter().skip(usize::try_from(counted).unwrap_or(usize::MAX)) {
            report.add(Violation::Lost { output, source, ordinal });
        }
        let missing = self.missing(output, false).len() as u64;
        // A restart may decide the same discard twice; within one life a count must be backed by events.
        if self.life == 0 && counted > missing {
            report.add(Violation::Overcounted { output, counted, missing });
        }
    }

    fn check_repeats(&self, output: OutputIndex, limits: &Limits, report: &mut Report) {
        for (life, &count) in self.outputs[usize::from(output.0)].repeats_by_life.iter().enumerate() {
            let bound = if life == 0 { limits.repeats_without_restart } else { limits.repeats_per_restart };
            if count > bound {
                report.add(Violation::Repeats { output, life, count, bound });
            }
        }
    }

    fn indices(&self) -> impl Iterator<Item = OutputIndex> {
        (0..self.outputs.len()).map(|at| OutputIndex(at as u8))
    }

    fn lookup(&self, output: OutputIndex, source: u64, ordinal: u64) -> Option<Issued> {
        let issued = self.issued.get(&source)?.get(&ordinal)?;
        (issued.outputs & 1 << output.0 != 0).then_some(*issued)
    }

    /// Events of an output that neither came out nor were set aside by name.
    fn missing(&self, output: OutputIndex, acknowledged_only: bool) -> Vec<(u64, u64)> {
        let state = &self.outputs[usize::from(output.0)];
        let mut missing = Vec::new();
        for (&source, known) in &self.issued {
            let seen = state.first_deliveries.get(&source);
            for (&ordinal, issued) in known {
                let owed = issued.outputs & 1 << output.0 != 0 && (issued.acknowledged || !acknowledged_only);
                let came = seen.is_some_and(|seen| seen.contains(&ordinal));
                if owed && !came && !state.settled.contains(&(source, ordinal)) {
                    missing.push((source, ordinal));
                }
            }
        }
        missing
    }

    fn summary(&self, output: OutputIndex) -> Summary {
        let state = &self.outputs[usize::from(output.0)];
        let mine =
            || self.issued.values().flat_map(BTreeMap::values).filter(|issued| issued.outputs & 1 << output.0 != 0);
        Summary {
            issued: mine().count() as u64,
            acknowledged: mine().filter(|issued| issued.acknowledged).count() as u64,
            delivered: state.first_deliveries.values().map(|seen| seen.len() as u64).sum(),
            repeats: state.repeats_by_life.iter().sum(),
            discarded: state.discarded.clone(),
        }
    }

    fn violate(&mut self, violation: Violation) {
        self.total += 1;
        if self.violations.len() < NAMED_MAX {
            self.violations.push(violation);
        }
    }
}

impl Report {
    fn add(&mut self, violation: Violation) {
        self.total += 1;
        if self.violations.len() < NAMED_MAX {
            self.violations.push(violation);
        }
    }

    fn name(&self, output: OutputIndex) -> &str {
        self.names.get(usize::from(output.0)).map_or("?", String::as_str)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations", self.total)?;
        for violation in &self.violations {
            f.write_str("\n  ")?;
            match violation {
                Violation::Lost { output, source, ordinal } => {
                    write!(f, "lost: {source}/{ordinal} was acknowledged and never reached {}", self.name(*output))
                }
                Violation::Unknown { output, event } => {
                    write!(
                        f,
                        "unknown: {} got {}/{}, never issued for it",
                        self.name(*output),
                        event.source,
                        event.ordinal
                    )
                }
                Violation::Payload { output, event, issued } => write!(
                    f,
                    "payload: {} got {}/{} as {:016x}, issued as {issued:016x}",
                    self.name(*output),
                    event.source,
                    event.ordinal,
                    event.payload
                ),
                Violation::Order { output, source, ordinal, after } => {
                    write!(f, "order: {} got {source}/{ordinal} first after {source}/{after}", self.name(*output))
                }
                Violation::Repeats { output, life, count, bound } => {
                    write!(f, "repeats: {} got {count} in life {life}, at most {bound} may come", self.name(*output))
                }
                Violation::Overcounted { output, counted, missing } => {
                    write!(f, "discards: {counted} counted for {}, {missing} events are missing", self.name(*output))
                }
                Violation::NeverIssued { source, ordinal } => {
                    write!(f, "acknowledged or discarded without being issued: {source}/{ordinal}")
                }
            }?;
        }
        if self.total > self.violations.len() as u64 {
            write!(f, "\n  and {} more", self.total - self.violations.len() as u64)?;
        }
        Ok(())
    }
}
