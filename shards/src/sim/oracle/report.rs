//! The violations found in a history, by name and as text.
//!
//! Guarantees: every violation is counted, and the first ones are named. Checks nothing itself.

use super::{Event, OutputIndex};
use std::fmt;

/// Number of violations that a report names. The others are only counted.
pub(super) const NAMED_MAX: usize = 12;

/// A violation of a guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A promised event was not delivered, and no discard covers it.
    Lost {
        /// The output that lacks it.
        output: OutputIndex,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
    },
    /// An event was delivered that had not been given to the engine for this output before.
    Unknown {
        /// The output that got it.
        output: OutputIndex,
        /// What was delivered.
        event: Event,
    },
    /// Something was delivered that nobody can have produced.
    Garbled {
        /// The output that got it.
        output: OutputIndex,
        /// What was wrong with it.
        what: String,
    },
    /// An event was delivered with another payload.
    Payload {
        /// The output that got it.
        output: OutputIndex,
        /// What was delivered.
        event: Event,
        /// The payload that was issued.
        issued: u64,
    },
    /// An event was delivered for the first time after a later one of its source.
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
    /// An instance that did not go back received an event after a later one, or twice.
    Run {
        /// The output that got it.
        output: OutputIndex,
        /// The instance.
        instance: u16,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
        /// The ordinal before it.
        after: u64,
    },
    /// An event was delivered again although it was not in flight.
    Repeat {
        /// The output that got it.
        output: OutputIndex,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
    },
    /// More discards were counted than events are missing: a count without a loss is wrong too.
    Overcounted {
        /// The output for which they were counted.
        output: OutputIndex,
        /// Discards counted without naming events.
        counted: u64,
        /// Events given to the engine that did not come out.
        missing: u64,
    },
    /// Fewer events were counted as waiting for a removed output than it should have received.
    Undercounted {
        /// The output.
        output: OutputIndex,
        /// What was counted.
        counted: u64,
        /// How many it should have received.
        waiting: u64,
    },
    /// An acknowledgement for an event that was not given to the engine before, or a discard of one.
    NeverIssued {
        /// The source named.
        source: u64,
        /// The ordinal named.
        ordinal: u64,
    },
    /// An event that was created after all faults were removed was not delivered.
    Stuck {
        /// The output that lacks it.
        output: OutputIndex,
        /// Its source.
        source: u64,
        /// Its ordinal.
        ordinal: u64,
    },
    /// Events did not reach an output although all faults were removed.
    LeftWaiting {
        /// The output that lacks them.
        output: OutputIndex,
        /// How many events the engine reports as waiting. Negative if it reports that more left than arrived.
        events: i64,
    },
    /// A queue was longer than its limit.
    Bound {
        /// The queue.
        what: &'static str,
        /// Its length.
        value: u64,
        /// Its maximum length.
        limit: u64,
    },
    /// Damage that was not reported, or reported but not present.
    Damage {
        /// Which.
        what: String,
    },
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The first breaches found.
    pub violations: Vec<Violation>,
    /// All of them.
    pub total: u64,
    names: Vec<String>,
}

impl Report {
    pub(super) fn new(names: Vec<String>) -> Report {
        Report { violations: Vec::new(), total: 0, names }
    }

    pub(super) fn add(&mut self, violation: Violation) {
        self.total += 1;
        if self.violations.len() < NAMED_MAX {
            self.violations.push(violation);
        }
    }

    fn name(&self, output: OutputIndex) -> &str {
        self.names.get(usize::from(output.0)).map_or("?", String::as_str)
    }

    fn say(&self, violation: &Violation, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match violation {
            Violation::Lost { output, source, ordinal } => {
                write!(f, "lost: {source}/{ordinal} was promised and never reached {}", self.name(*output))
            }
            Violation::Unknown { output, event: Event { source, ordinal, .. } } => {
                write!(f, "unknown: {} got {source}/{ordinal}, never given for it", self.name(*output))
            }
            Violation::Garbled { output, what } => write!(f, "garbled: {} got {what}", self.name(*output)),
            Violation::Payload { output, event: Event { source, ordinal, payload }, issued } => {
                write!(
                    f,
                    "payload: {} got {source}/{ordinal} as {payload:016x}, issued as {issued:016x}",
                    self.name(*output)
                )
            }
            Violation::Order { output, source, ordinal, after } => {
                write!(f, "order: {} got {source}/{ordinal} first after {source}/{after}", self.name(*output))
            }
            Violation::Run { output, instance, source, ordinal, after } => {
                let name = self.name(*output);
                write!(f, "order: {name} on shard {instance} got {source}/{ordinal} after {source}/{after} in one run")
            }
            Violation::Repeat { output, source, ordinal } => {
                write!(f, "repeat: {} got {source}/{ordinal} again, it had not been in flight", self.name(*output))
            }
            Violation::Overcounted { output, counted, missing } => {
                write!(f, "discards: {counted} counted for {}, {missing} events are missing", self.name(*output))
            }
            Violation::Undercounted { output, counted, waiting } => {
                let name = self.name(*output);
                write!(f, "discards: {counted} counted as {name} was removed, at least {waiting} waited for it")
            }
            Violation::NeverIssued { source, ordinal } => {
                write!(f, "acknowledged or discarded without being given: {source}/{ordinal}")
            }
            Violation::Stuck { output, source, ordinal } => {
                write!(f, "stuck: {} never got {source}/{ordinal}, made when all was well", self.name(*output))
            }
            Violation::LeftWaiting { output, events } => {
                write!(
                    f,
                    "stuck: {events} events still wait for {} when all has been well for long",
                    self.name(*output)
                )
            }
            Violation::Bound { what, value, limit } => write!(f, "bound: {what}: {value}, at most {limit} may be"),
            Violation::Damage { what } => write!(f, "damage: {what}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} violations", self.total)?;
        for violation in &self.violations {
            f.write_str("\n  ")?;
            self.say(violation, f)?;
        }
        if self.total > self.violations.len() as u64 {
            write!(f, "\n  and {} more", self.total - self.violations.len() as u64)?;
        }
        Ok(())
    }
}
