//! What is missing from the WALs, and what that means for outputs that undo writes.
//!
//! Guarantees: a WAL that was drained, or whose first segment was not created yet, does not count as lost. What is reported as
//! missing is certainly missing. If that cannot be determined, an output just keeps what it has. Writes nothing.

use crate::env::Disk;
use crate::wal::manifest::KnownLogs;
use crate::wal::recovery::RecoveredLog;
use crate::wal::{Damage, LogId, OutputNumber, Position, RegistryEntry, Sequence};

/// The damage reports for WALs that an earlier start wrote and that have no segments any more.
pub fn lost_logs<D: Disk>(known: &KnownLogs, logs: &[RecoveredLog<D>]) -> Vec<Damage> {
    lost_log_ids(known, logs).into_iter().map(lost_log).collect()
}

/// The WALs that an earlier start wrote and that have no segments any more.
pub(super) fn lost_log_ids<D: Disk>(known: &KnownLogs, logs: &[RecoveredLog<D>]) -> Vec<LogId> {
    let is_there = |id: LogId| logs.iter().any(|log| log.id == id);
    let is_whole = |id: LogId| logs.iter().any(|log| log.id == id && !log.segments.is_empty());
    let pending = is_pending(known, logs);
    // What has a segment is in the other list before anybody reads it.
    let begun = known.begun.iter().filter(|id| !is_there(**id));
    let told = known.lost.iter().filter(|_| pending);
    // One that no list names is on its way out, or was made by a start that came no further.
    let all = known.written.iter().chain(begun).chain(told);
    let mut lost: Vec<LogId> = all.copied().filter(|id| !is_whole(*id)).collect();
    lost.sort();
    lost.dedup();
    lost
}

/// Whether no WAL has been written since the start that found WALs to be lost. That start may not have reported it.
fn is_pending<D: Disk>(known: &KnownLogs, logs: &[RecoveredLog<D>]) -> bool {
    logs.iter().all(|log| log.epoch < known.lost_epoch)
}

/// The WALs as the manifest names them from now on. This start writes the epoch after the highest of `logs`.
pub(super) fn to_be_known<D: Disk>(before: &KnownLogs, lost: &[LogId], logs: &[RecoveredLog<D>]) -> KnownLogs {
    let (written, empty): (Vec<_>, Vec<_>) = logs.iter().partition(|log| !log.segments.is_empty());
    // Of those that are to be written again nothing was yet.
    let told = before.lost.iter().filter(|id| empty.iter().any(|log| log.id == **id));
    let mut all_lost: Vec<LogId> = lost.iter().chain(told).copied().collect();
    all_lost.sort();
    all_lost.dedup();
    let next_epoch = logs.iter().map(|log| log.epoch).max().unwrap_or(0) + 1;
    let lost_epoch = match (lost.is_empty(), all_lost.is_empty()) {
        (_, true) => 0,
        (true, false) => before.lost_epoch,
        (false, false) => next_epoch,
    };
    let ids = |logs: Vec<&RecoveredLog<D>>| logs.iter().map(|log| log.id).collect::<Vec<_>>();
    let begun = ids(empty).into_iter().filter(|id| !all_lost.contains(id)).collect();
    KnownLogs { written: ids(written), begun, lost: all_lost, lost_epoch }
}

/// The damage report for a lost WAL.
pub(super) fn lost_log(log: LogId) -> Damage {
    missing(log, 0, "the log or all of its segments are missing".to_owned())
}

/// The damage report for a WAL whose oldest segments are missing, with events that some outputs have not received.
pub(super) fn lost_head(begin: &Begin, outputs: &[&RegistryEntry]) -> Damage {
    let names: Vec<&str> = outputs.iter().map(|output| output.name.as_str()).collect();
    let first = begin.first.map_or(0, |first| first.number);
    let finding = format!(
        "the segments before {first} are missing, and with them events that were not delivered yet to: {}",
        names.join(", ")
    );
    missing(begin.log, begin.first.map_or(0, |first| first.previous), finding)
}

fn missing(log: LogId, segment: u64, finding: String) -> Damage {
    Damage {
        log,
        segment,
        offset: 0,
        bytes: 0,
        quarantined: None,
        uncopied: None,
        between: None,
        known: false,
        finding,
    }
}

/// Where a WAL begins.
pub(super) struct Begin {
    pub(super) log: LogId,
    /// None if it has no frame.
    first: Option<First>,
    /// The positions in it of the outputs that were configured when its first segment began.
    own: Vec<(OutputNumber, Position)>,
}

/// The lowest segment of a WAL.
#[derive(Clone, Copy)]
struct First {
    number: u64,
    sequence: Sequence,
    previous: u64,
}

/// What a cursor before the first segment of a WAL says about the segments that were before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// They contained nothing that the output has not received.
    Passed,
    /// They may have contained nothing, or events that are lost.
    Unknown,
    /// They contained events, and are not removed before all outputs have received these.
    Lost,
}

impl Begin {
    pub(super) fn of<D: Disk>(log: &RecoveredLog<D>) -> Begin {
        let first = log.segments.first().map(|segment| First {
            number: segment.number,
            sequence: segment.first_sequence,
            previous: segment.previous,
        });
        let head = log.head();
        let present = head.registry.iter().filter(|entry| !entry.removed).map(|entry| entry.number);
        let own = present.filter_map(|output| Some((output, head.commits.position(output, log.id)?)));
        Begin { log: log.id, first, own: own.collect() }
    }

    #[cfg(test)]
    pub(super) fn with_first(log: LogId, number: u64, sequence: Sequence, previous: u64) -> Begin {
        Begin { log, first: Some(First { number, sequence, previous }), own: Vec::new() }
    }

    /// The position before everything that exists.
    pub(super) fn start(&self) -> Position {
        Position { sequence: self.first.map_or(Sequence(0), |first| first.sequence), event: 0 }
    }

    /// Whether an output at `position` protected the segments before the first one when that one began.
    pub(super) fn held(&self, output: OutputNumber, position: Position) -> bool {
        self.own.iter().any(|(of, at)| *of == output && *at <= position)
    }

    /// What was before the first segment, for an output with its cursor at `position`.
    ///
    /// A segment with events is removed when every cursor is durable in a later one, and a segment without events as soon as
    /// the next one is durable. The header of the first segment names the last segment before it that contained events and
    /// still existed. If that is the immediately preceding one, a cursor that allowed its removal would be in the first
    /// segment. If segments without events were in between, the cursor may have been in one of them.
    pub(super) fn before(&self, position: Position) -> Before {
        match self.first {
            Some(First { number, sequence, previous }) if position.sequence < sequence => {
                if number == 1 || previous == 0 {
                    Before::Passed
                } else if previous + 1 == number {
                    Before::Lost
                } else {
                    Before::Unknown
                }
            }
            _ => Before::Passed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_before_the_first_segment_is_no_loss_where_nothing_need_be_there() {
        let before = |number, previous, cursor| {
            Begin::with_first(LogId(2), number, Sequence(43_692), previous)
                .before(Position { sequence: Sequence(cursor), event: 0 })
        };
        assert_eq!(before(1, 0, 1), Before::Passed, "a new output in a new log");
        assert_eq!(before(7, 0, 300), Before::Passed, "only segments without events went");
        assert_eq!(before(7, 6, 43_692), Before::Passed);
        assert_eq!(before(7, 6, 43_691), Before::Lost);
        assert_eq!(before(7, 4, 43_691), Before::Unknown);
    }
}
