//! Withheld: positions of batches whose events are, in part, only counted in lines that a processor has yet to make.
//!
//! Guarantees: what is recorded of a source never covers events that a crash would lose with those lines: they are read again.
//! Positions and tickets wait together, so that a ticket still means durable (invariant E1); ranges that meet become one, and
//! what waits is bounded (invariant E4): beyond that the lines are made early. Does not append: the intake does.

use crate::batch::{Batch, Source, SourceRange};
use crate::wal::positions::SourceTable;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Ranges that wait. Those of a source that is spread over shards never meet, so there is one for each batch of it.
pub(crate) const WITHHELD_MAX: usize = 16 * 1024;

/// A range that may be recorded now.
pub struct Range {
    /// Where it is.
    pub source: Arc<Source>,
    /// Which bytes.
    pub range: SourceRange,
    /// Whether the source is gone.
    pub gone: bool,
}

/// See the module. One for each input of an intake.
#[derive(Default)]
pub struct Withheld {
    table: SourceTable,
    ranges: usize,
    /// Events that were left out of these ranges by a lane's policy.
    discarded: u64,
    /// The highest ticket of each lane.
    tickets: BTreeMap<usize, u64>,
}

/// What is let go of at once.
pub struct Released {
    /// The ranges, those of a source side by side and the highest first: its marker belongs to that.
    pub ranges: Vec<Range>,
    /// Events that were left out of them.
    pub discarded: u64,
    /// The highest ticket of each lane.
    pub tickets: BTreeMap<usize, u64>,
}

impl Withheld {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Whether so much waits that the lines have to be made early.
    pub fn is_full(&self) -> bool {
        self.ranges >= WITHHELD_MAX
    }

    /// Adds what a batch accounts for.
    pub fn add(&mut self, lane: usize, batch: &Batch) {
        self.add_ticket(lane, batch.ticket);
        self.discarded += batch.dropped_events;
        if !batch.source.repeatable {
            return;
        }
        let count = |table: &SourceTable| table.get(batch.source.key).map_or(0, |state| state.intervals.len());
        let before = count(&self.table);
        // What is settled may be recorded at any time, and joins what waits of a source that is spread over shards.
        if batch.settled.from < batch.settled.to {
            self.table.insert(&batch.source, &batch.settled, None, 0);
        }
        self.table.insert(&batch.source, &batch.range, batch.gone.then_some(batch.received), 0);
        // An empty range, which says that a source is gone, is none of the intervals.
        self.ranges = self.ranges + count(&self.table).max(1) - before;
    }

    /// Adds a ticket that must not be given back before the others of its lane.
    pub fn add_ticket(&mut self, lane: usize, ticket: u64) {
        let highest = self.tickets.entry(lane).or_insert(ticket);
        *highest = ticket.max(*highest);
    }

    /// Lets go of everything.
    pub fn release(&mut self) -> Released {
        let Withheld { table, discarded, tickets, .. } = std::mem::take(self);
        let mut ranges = Vec::new();
        for state in table.into_states() {
            let end = state.end();
            if state.intervals.is_empty() {
                let range = SourceRange { from: end, to: end, marker: state.marker };
                ranges.push(Range { source: state.source.clone(), range, gone: state.gone.is_some() });
            }
            ranges.extend(state.intervals.iter().rev().map(|(from, to)| Range {
                source: state.source.clone(),
                range: SourceRange { from: *from, to: *to, marker: state.marker },
                gone: state.gone.is_some() && *to == end,
            }));
        }
        Released { ranges, discarded, tickets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::SourceKey;
    use crate::env::Timestamp;

    fn batch(key: u128, from: u64, to: u64, ticket: u64) -> Batch {
        let (input, repeatable) = ("app".into(), key != 0);
        let source = Source { key: SourceKey(key), input, name: Vec::new(), descriptor: Vec::new(), repeatable };
        let mut batch = Batch::new(64, Arc::new(source));
        batch.range = SourceRange { from, to, marker: to + 7 };
        batch.ticket = ticket;
        batch.received = Timestamp(5);
        batch
    }

    #[test]
    fn ranges_that_meet_become_one_and_tickets_wait_with_them() {
        let mut withheld = Withheld::default();
        assert!(withheld.is_empty());
        for (lane, batch) in [
            (0, batch(1, 0, 10, 1)),
            (0, batch(1, 10, 30, 2)),
            (1, batch(1, 50, 60, 1)),
            (0, batch(2, 5, 6, 3)),
            (1, batch(0, 0, 9, 2)),
        ] {
            withheld.add(lane, &batch);
        }
        assert!(!withheld.is_empty() && withheld.ranges == 3);
        let released = withheld.release();
        let ranges: Vec<_> = released
            .ranges
            .iter()
            .map(|one| (one.source.key.0, one.range.from, one.range.to, one.range.marker))
            .collect();
        assert_eq!(ranges, [(1, 50, 60, 67), (1, 0, 30, 67), (2, 5, 6, 13)]);
        assert_eq!(released.tickets, [(0, 3), (1, 2)].into());
        assert!(withheld.is_empty() && withheld.ranges == 0);
    }

    #[test]
    fn source_that_is_gone_stays_gone() {
        let mut withheld = Withheld::default();
        withheld.add(0, &batch(1, 0, 10, 1));
        let mut last = batch(1, 10, 10, 2);
        last.gone = true;
        withheld.add(0, &last);
        let mut other = batch(2, 4, 4, 3);
        other.gone = true;
        withheld.add(0, &other);
        let released = withheld.release();
        assert_eq!(released.ranges.len(), 2);
        assert!(released.ranges.iter().all(|range| range.gone));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut withheld = Withheld::default();
        let many = WITHHELD_MAX as u64;
        (0..many).for_each(|n| withheld.add(0, &batch(1, n * 10, n * 10 + 5, n)));
        assert!(withheld.is_full());
    }
}
