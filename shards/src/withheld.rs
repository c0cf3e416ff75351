//! Withheld positions: positions of batches whose events are partly counted in lines that a processor still has to produce.
//!
//! Guarantees: the recorded positions of a source never cover events that a crash would lose together with those lines: they
//! are read again. Positions before these events are released, as precisely as batches are tracked: if a source has sent many
//! batches, adjacent ones are merged into one run. Tickets are returned in the order of their lane, so that a ticket still
//! means durable (invariant E1). What waits is bounded (invariant E4): beyond the limit, lines are produced early. Does not
//! append: the intake does.

use crate::batch::{Batch, Source, SourceKey, SourceRange};
use crate::env::Timestamp;
use crate::limits::{WITHHELD_MAX, WITHHELD_OF_SOURCE_MAX, WITHHELD_RUN_BYTES};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// What a batch covers, after its chunk has been returned.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its source.
    pub source: Arc<Source>,
    /// The covered bytes.
    pub range: SourceRange,
    /// The settled range of the source, as stated by the batch.
    pub settled: SourceRange,
    /// Whether the source is gone.
    pub gone: bool,
    /// When the bytes were read.
    pub received: Timestamp,
    /// Its events.
    pub events: u64,
    /// Events that the lane's policy dropped from the range.
    pub dropped_events: u64,
    /// Its ticket.
    pub ticket: u64,
}

impl Account {
    /// The account of a batch.
    pub fn of(batch: &Batch) -> Account {
        Account {
            source: batch.source.clone(),
            range: batch.range,
            settled: batch.settled,
            gone: batch.gone,
            received: batch.received,
            events: batch.events.len() as u64,
            dropped_events: batch.dropped_events,
            ticket: batch.ticket,
        }
    }
}

/// A range that may be recorded now.
#[derive(Clone, Debug)]
pub struct Range {
    /// Its source.
    pub source: Arc<Source>,
    /// The covered bytes.
    pub range: SourceRange,
    /// What was settled of the source when the last of them arrived. It is durable, so it may be recorded at any time.
    pub settled: SourceRange,
    /// Whether the source is gone.
    pub gone: bool,
    /// Events that the lane's policy dropped from it.
    pub discarded: u64,
}

/// The number of runs to which all are reduced when there are too many. With more than this, lines are produced early.
const ENOUGH: usize = WITHHELD_MAX / 4 * 3;

/// Adjacent batches of a source.
#[derive(Clone, Copy, Debug)]
struct Run {
    range: SourceRange,
    settled: SourceRange,
    gone: bool,
    discarded: u64,
    /// The ticket of the first batch.
    ticket: u64,
    /// None of it is held any more: see [`Withheld::mark`].
    free: bool,
}

/// A growing queue doubles.
const _: () = assert!(2 * size_of::<Run>() <= WITHHELD_RUN_BYTES);

impl Run {
    fn is_followed_by(&self, next: &Run) -> bool {
        self.range.to == next.range.from && !self.gone
    }

    fn join(&mut self, next: &Run) {
        self.range = SourceRange { from: self.range.from, ..next.range };
        if next.settled.from < next.settled.to {
            self.settled = next.settled;
        }
        self.gone = next.gone;
        self.discarded += next.discarded;
        self.free &= next.free;
    }
}

/// The waiting runs of one source.
struct Runs {
    source: Arc<Source>,
    runs: VecDeque<Run>,
    /// At this number, some adjacent runs are merged.
    squeeze_at: usize,
}

impl Runs {
    /// Merges adjacent runs, the shortest first, until `most` are left or none can be merged. Batches are then tracked evenly.
    fn squeeze(&mut self, most: usize) {
        while self.runs.len() > most {
            let pairs = (1..self.runs.len()).filter(|at| self.runs[at - 1].is_followed_by(&self.runs[*at]));
            let shortest = pairs.min_by_key(|at| self.runs[*at].range.to - self.runs[at - 1].range.from);
            let Some(at) = shortest else { break };
            if let Some(next) = self.runs.remove(at) {
                self.runs[at - 1].join(&next);
            }
        }
        // Runs of a spread source are never adjacent, so they are not checked again each time.
        self.squeeze_at = if self.runs.len() > most { 2 * self.runs.len() } else { 0 };
    }
}

/// See the module documentation. One for each lane of an intake: a source comes through one lane.
#[derive(Default)]
pub struct Withheld {
    sources: BTreeMap<SourceKey, Runs>,
    /// Number of runs of all sources.
    runs: usize,
    /// The ticket of each source's first run.
    firsts: BTreeSet<(u64, SourceKey)>,
    /// Sources with runs that are free.
    marked: Vec<SourceKey>,
    /// The highest ticket of the lane that was seen, and the highest that was returned.
    highest: u64,
    given: u64,
    /// The first ticket that is never returned, because its processor violated its contract.
    lost: Option<u64>,
    is_full: bool,
    /// How many times the maximum number of runs per source was halved.
    coarser: u32,
}

impl Withheld {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether so much waits that lines must be produced early.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// Number of waiting runs.
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// Whether anything of a source waits.
    pub fn has(&self, source: SourceKey) -> bool {
        self.sources.contains_key(&source)
    }

    /// Records that the batch with this ticket is recorded.
    pub fn pass(&mut self, ticket: u64) {
        self.highest = self.highest.max(ticket);
    }

    /// The highest ticket that can be returned now, if it has not been yet: only one before `before`, if that is given.
    pub fn take_ticket(&mut self, before: Option<u64>) -> Option<u64> {
        let first = self.firsts.first().map(|(ticket, _)| *ticket).into_iter().chain(self.lost).chain(before).min();
        let last = first.map_or(self.highest, |first| first.saturating_sub(1).min(self.highest));
        (last > self.given).then(|| {
            self.given = last;
            last
        })
    }

    /// Adds the account of a batch.
    pub fn add(&mut self, account: &Account) {
        self.pass(account.ticket);
        let Account { source, range, settled, gone, dropped_events, ticket, .. } = account;
        let (range, settled, gone) = (*range, *settled, *gone);
        let run = Run { range, settled, gone, discarded: *dropped_events, ticket: *ticket, free: false };
        let of = self.sources.entry(source.key).or_insert_with(|| {
            self.firsts.insert((*ticket, source.key));
            Runs { source: source.clone(), runs: VecDeque::new(), squeeze_at: 0 }
        });
        if !Arc::ptr_eq(&of.source, source) {
            of.source = source.clone();
        }
        match of.runs.back_mut().filter(|last| last.is_followed_by(&run) && range.from == range.to) {
            Some(last) => last.join(&run),
            None => {
                of.runs.push_back(run);
                self.runs += 1;
            }
        }
        let most = WITHHELD_OF_SOURCE_MAX >> self.coarser;
        if of.runs.len() > most && of.runs.len() >= of.squeeze_at {
            let before = of.runs.len();
            of.squeeze(most);
            self.runs -= before - of.runs.len();
        }
        if self.runs >= WITHHELD_MAX && !self.is_full {
            self.squeeze();
        }
    }

    /// Tracks the batches of all sources less precisely.
    fn squeeze(&mut self) {
        while self.runs > ENOUGH && WITHHELD_OF_SOURCE_MAX >> self.coarser > 1 {
            self.coarser += 1;
            let most = WITHHELD_OF_SOURCE_MAX >> self.coarser;
            let few = |of: &&mut Runs| of.runs.len() <= 2 * most;
            self.sources.values_mut().filter(few).for_each(|of| of.squeeze(most));
            self.count();
        }
        self.count();
    }

    fn count(&mut self) {
        self.runs = self.sources.values().map(|of| of.runs.len()).sum();
        self.is_full = self.runs > ENOUGH;
    }

    /// Finds what is no longer held. `held_from` returns for a source from which position it is held. [`Withheld::take_free`]
    /// takes the result. Returns whether there is any.
    pub fn mark(&mut self, held_from: impl Fn(SourceKey) -> Option<u64>) -> bool {
        for (key, of) in &mut self.sources {
            let held = held_from(*key);
            for run in of.runs.iter_mut().take_while(|run| is_free(run, held)) {
                run.free = true;
            }
            if of.runs.front().is_some_and(|run| run.free) {
                self.marked.push(*key);
            }
        }
        !self.marked.is_empty()
    }

    /// Takes what [`Withheld::mark`] found, at most `most` ranges. Returns whether there are more.
    pub fn take_free(&mut self, most: usize, out: &mut Vec<Range>) -> bool {
        while let Some(key) = self.marked.last().copied() {
            if out.len() >= most {
                return true;
            }
            if !self.take(key, |run| run.free, most, out) {
                self.marked.pop();
            }
        }
        false
    }

    /// Takes what a source has before `held`, at most `most` ranges. Returns whether there are more.
    pub fn take_of(&mut self, source: SourceKey, held: Option<u64>, most: usize, out: &mut Vec<Range>) -> bool {
        self.take(source, |run| is_free(run, held), most, out)
    }

    fn take(&mut self, key: SourceKey, wanted: impl Fn(&Run) -> bool, most: usize, out: &mut Vec<Range>) -> bool {
        let Some(of) = self.sources.get_mut(&key) else { return false };
        let Some(first) = of.runs.front().map(|run| run.ticket) else { return false };
        let before = of.runs.len();
        while out.len() < most
            && let Some(mut run) = of.runs.pop_front_if(|run| wanted(run))
        {
            while let Some(next) = of.runs.pop_front_if(|next| wanted(next) && run.is_followed_by(next)) {
                run.join(&next);
            }
            let Run { range, settled, gone, discarded, .. } = run;
            out.push(Range { source: of.source.clone(), range, settled, gone, discarded });
        }
        self.runs -= before - of.runs.len();
        let next = of.runs.front().map(|run| (run.ticket, wanted(run)));
        if next.is_none_or(|(ticket, _)| ticket != first) {
            self.firsts.remove(&(first, key));
        }
        match next {
            None => _ = self.sources.remove(&key),
            Some((ticket, _)) => _ = self.firsts.insert((ticket, key)),
        }
        self.is_full &= self.runs > ENOUGH;
        if self.runs < ENOUGH / 4 {
            self.coarser = 0;
        }
        next.is_some_and(|(_, wanted)| wanted)
    }

    /// Drops sources that are still held although all lines should have been produced: they stay unrecorded, and their tickets
    /// are never returned. Returns one of them, if there is any.
    pub fn break_off(&mut self, held_from: impl Fn(SourceKey) -> Option<u64>) -> Option<Arc<Source>> {
        let mut broken = None;
        for (key, of) in self.sources.extract_if(.., |key, _| held_from(*key).is_some()) {
            let first = of.runs.front().map(|run| run.ticket);
            self.firsts.retain(|(_, of)| *of != key);
            self.lost = self.lost.into_iter().chain(first).min();
            broken = Some(of.source);
        }
        if broken.is_some() {
            self.count();
        }
        broken
    }
}

fn is_free(run: &Run, held: Option<u64>) -> bool {
    held.is_none_or(|held| run.range.to <= held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(key: u128, from: u64, to: u64, ticket: u64) -> Account {
        let (input, repeatable) = ("app".into(), key != 0);
        let source = Source { key: SourceKey(key), input, name: Vec::new(), descriptor: Vec::new(), repeatable };
        Account {
            source: Arc::new(source),
            range: SourceRange { from, to, marker: to + 7 },
            settled: SourceRange::default(),
            gone: false,
            received: Timestamp(5),
            events: 1,
            dropped_events: 1,
            ticket,
        }
    }

    fn taken(withheld: &mut Withheld) -> Vec<(u128, u64, u64, u64)> {
        let mut ranges = Vec::new();
        assert!(!withheld.take_free(usize::MAX, &mut ranges));
        let shown = |one: &Range| (one.source.key.0, one.range.from, one.range.to, one.range.marker);
        ranges.iter().map(shown).collect()
    }

    #[test]
    fn what_is_before_the_first_held_event_is_let_go_of_and_its_tickets_in_order() {
        let mut withheld = Withheld::default();
        for account in [account(1, 0, 10, 1), account(2, 0, 5, 2), account(1, 10, 30, 3), account(1, 30, 40, 4)] {
            withheld.add(&account);
        }
        assert_eq!(withheld.take_ticket(None), None);
        withheld.mark(|key| Some(if key.0 == 1 { 30 } else { 0 }));
        assert_eq!(taken(&mut withheld), [(1, 0, 30, 37)], "ranges side by side are one, up to where events are held");
        assert_eq!(withheld.take_ticket(None), Some(1), "the second batch still waits");
        withheld.pass(5);
        withheld.mark(|key| (key.0 == 1).then_some(30));
        assert_eq!(taken(&mut withheld), [(2, 0, 5, 12)]);
        assert_eq!(withheld.take_ticket(None), Some(3));
        withheld.mark(|_| None);
        assert_eq!(taken(&mut withheld), [(1, 30, 40, 47)]);
        assert_eq!((withheld.take_ticket(None), withheld.take_ticket(None)), (Some(5), None));
        assert!(withheld.is_empty() && withheld.runs() == 0);
    }

    #[test]
    fn source_that_is_gone_is_so_with_its_last_range() {
        let mut withheld = Withheld::default();
        withheld.add(&account(1, 0, 10, 1));
        withheld.add(&Account { gone: true, ..account(1, 10, 10, 2) });
        withheld.add(&Account { gone: true, ..account(2, 4, 4, 3) });
        withheld.add(&account(3, 0, 5, 4));
        withheld.add(&Account { gone: true, ..account(3, 9, 9, 5) });
        withheld.mark(|_| None);
        let mut ranges = Vec::new();
        withheld.take_free(usize::MAX, &mut ranges);
        let shown: Vec<_> = ranges.iter().map(|range| (range.range.from, range.range.to, range.gone)).collect();
        assert_eq!(shown, [(0, 5, false), (9, 9, true), (4, 4, true), (0, 10, true)]);
        assert_eq!(ranges.iter().map(|range| range.discarded).sum::<u64>(), 5);
    }

    #[test]
    fn many_batches_are_told_apart_less_finely_and_evenly() {
        for sources in [1, 1000] {
            let mut withheld = Withheld::default();
            for number in 0..100_000 / sources {
                for key in 1..=sources {
                    let ticket = number * sources + key;
                    withheld.add(&account(u128::from(key), number * 10, number * 10 + 10, ticket));
                    let most = if sources == 1 { WITHHELD_OF_SOURCE_MAX } else { WITHHELD_MAX };
                    assert!(withheld.runs() <= most && !withheld.is_full());
                }
            }
            let end = 1_000_000 / sources;
            withheld.mark(|_| Some(end / 2));
            let lowest = taken(&mut withheld).iter().map(|range| range.2).min().unwrap();
            assert!(lowest > end / 3, "{sources} sources: {lowest} of {end}");
        }
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut withheld = Withheld::default();
        let mut many = 0;
        while !withheld.is_full() {
            withheld.add(&account(many % 5 + 1, many as u64 * 10, many as u64 * 10 + 5, many as u64 + 1));
            many += 1;
            assert!(withheld.runs() <= WITHHELD_MAX);
        }
        assert!(many as usize >= WITHHELD_MAX, "ranges that do not meet stay apart");
        withheld.mark(|_| None);
        assert_eq!(taken(&mut withheld).len(), many as usize);
        assert!(!withheld.is_full());
        assert_eq!(withheld.take_ticket(None), Some(many as u64));
    }

    #[test]
    fn what_is_held_beyond_the_last_call_stays_unrecorded_with_its_tickets() {
        let mut withheld = Withheld::default();
        (1..=3).for_each(|number| withheld.add(&account(u128::from(number), 0, 10, number)));
        let held = |key: SourceKey| (key.0 == 2).then_some(0);
        assert_eq!(withheld.break_off(held).map(|source| source.key), Some(SourceKey(2)));
        withheld.mark(held);
        assert_eq!(taken(&mut withheld).len(), 2);
        withheld.pass(9);
        assert_eq!(withheld.take_ticket(None), Some(1));
        assert!(withheld.is_empty() && withheld.take_ticket(None).is_none());
    }
}
