//! Source tables: which bytes of which sources are covered.
//!
//! Guarantees: the intervals of a source are sorted, disjoint and not adjacent. Inserting or merging in any order gives the
//! same intervals. The gaps between them ([`holes`]) were never in a log and are read again. Does not know files.

use super::SourceState;
use crate::batch::{Source, SourceKey, SourceRange};
use crate::env::Timestamp;
use crate::limits::TOMBSTONE_SECONDS;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The sources of one or several logs. Ordered by key, so that equal tables produce equal snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTable {
    sources: BTreeMap<SourceKey, SourceState>,
}

/// When something was recorded about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The start of the engine.
    pub epoch: u32,
    /// The time.
    pub at: Timestamp,
}

/// Sources that were removed because a snapshot had no space for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shed {
    pub(crate) gone: usize,
    pub(crate) existing: usize,
}

/// Adds `from..to` to sorted, disjoint intervals.
pub fn insert_interval(intervals: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    if from >= to {
        return;
    }
    // Nearly always the range continues where the last one ended.
    if let Some(last) = intervals.last_mut()
        && last.0 <= from
        && from <= last.1
    {
        last.1 = last.1.max(to);
        return;
    }
    let first = intervals.partition_point(|interval| interval.1 < from);
    let end = intervals.partition_point(|interval| interval.0 <= to);
    if first == end {
        intervals.insert(first, (from, to));
        return;
    }
    let merged = (from.min(intervals[first].0), to.max(intervals[end - 1].1));
    intervals.splice(first..end, [merged]);
}

/// The gaps before the highest covered byte.
pub fn holes(intervals: &[(u64, u64)]) -> impl Iterator<Item = (u64, u64)> + '_ {
    let starts = std::iter::once(0).chain(intervals.iter().map(|interval| interval.1));
    starts.zip(intervals.iter().map(|interval| interval.0)).filter(|(from, to)| from < to)
}

impl SourceTable {
    /// An empty table.
    pub fn new() -> SourceTable {
        SourceTable::default()
    }

    /// Number of sources.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether no source is known.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// One source.
    pub fn get(&self, key: SourceKey) -> Option<&SourceState> {
        self.sources.get(&key)
    }

    /// All sources, by key.
    pub fn iter(&self) -> impl Iterator<Item = &SourceState> {
        self.sources.values()
    }

    /// The sources for which `wanted` returns true.
    pub fn only(&self, wanted: impl Fn(&SourceState) -> bool) -> SourceTable {
        let wanted = self.sources.iter().filter(|(_, state)| wanted(state));
        SourceTable { sources: wanted.map(|(key, state)| (*key, state.clone())).collect() }
    }

    /// Converts the table to its states.
    pub fn into_states(self) -> impl Iterator<Item = SourceState> {
        self.sources.into_values()
    }

    /// Covers `range` of `source`.
    pub fn insert(&mut self, source: &Arc<Source>, range: &SourceRange, gone: Option<Timestamp>, when: Recorded) {
        match self.sources.entry(source.key) {
            Entry::Occupied(entry) => {
                let state = entry.into_mut();
                if !Arc::ptr_eq(&state.source, source) {
                    state.source = source.clone();
                }
                account(state, range, gone, when);
            }
            Entry::Vacant(entry) => {
                let empty = SourceState {
                    source: source.clone(),
                    intervals: Vec::new(),
                    marker: range.marker,
                    gone,
                    told: when.epoch,
                    recorded: when.at,
                };
                account(entry.insert(empty), range, gone, when);
            }
        }
    }

    /// Covers `range` of a known source. Returns false if the source is unknown.
    pub fn extend(&mut self, key: SourceKey, range: &SourceRange, gone: Option<Timestamp>, when: Recorded) -> bool {
        let known = self.sources.get_mut(&key);
        known.map(|state| account(state, range, gone, when)).is_some()
    }

    /// Adds knowledge from elsewhere: the union of the intervals, and everything else from the side that has read further. If
    /// both have read equally far, the later information (`state`) counts.
    pub fn absorb(&mut self, state: SourceState) {
        match self.sources.entry(state.key()) {
            Entry::Vacant(entry) => {
                entry.insert(state);
            }
            Entry::Occupied(mut entry) => {
                let mine = entry.get_mut();
                let theirs_is_ahead = state.end() >= mine.end();
                for (from, to) in &state.intervals {
                    insert_interval(&mut mine.intervals, *from, *to);
                }
                mine.recorded = mine.recorded.max(state.recorded);
                if theirs_is_ahead {
                    mine.source = state.source;
                    mine.marker = state.marker;
                    mine.gone = state.gone;
                    mine.told = state.told;
                }
            }
        }
    }

    /// Adds another log's table. Of two logs that have read equally far, the one that was updated in a later start counts: the
    /// other has an old copy, and does not know, for example, that the source is gone. If both were updated in the same start,
    /// neither is later, and a source that still exists wins.
    pub fn merge(&mut self, other: SourceTable) {
        for state in other.sources.into_values() {
            let Some(mine) = self.sources.get_mut(&state.key()) else {
                self.sources.insert(state.key(), state);
                continue;
            };
            let word = |state: &SourceState| (state.end(), state.told, state.gone.is_none(), state.gone);
            let theirs_holds = word(&state) >= word(mine);
            for (from, to) in &state.intervals {
                insert_interval(&mut mine.intervals, *from, *to);
            }
            mine.recorded = mine.recorded.max(state.recorded);
            if theirs_holds {
                let (intervals, recorded) = (std::mem::take(&mut mine.intervals), mine.recorded);
                *mine = SourceState { intervals, recorded, ..state };
            }
        }
    }

    /// Moves the sources of the input `was` to the input `name`, as recorded by the start `told` of the engine. Returns their number.
    pub(crate) fn rename(&mut self, was: &str, name: &Arc<str>, told: u32) -> usize {
        let mine = self.sources.values_mut().filter(|state| *state.source.input == *was);
        mine.map(|state| {
            state.source = Arc::new(Source { input: name.clone(), ..(*state.source).clone() });
            state.told = told;
        })
        .count()
    }

    /// Removes the sources of an input.
    pub(crate) fn forget(&mut self, input: &str) {
        self.sources.retain(|_, state| *state.source.input != *input);
    }

    /// Removes sources that have been gone for longer than they are kept. Returns their number.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let before = self.sources.len();
        let oldest = now.0.saturating_sub(TOMBSTONE_SECONDS * 1_000_000_000);
        self.sources.retain(|_, state| state.gone.is_none_or(|gone| gone.0 >= oldest));
        before - self.sources.len()
    }

    /// Number of sources that exist, or existed at `since`.
    pub(crate) fn existing(&self, since: Timestamp) -> usize {
        self.sources.values().filter(|state| state.gone.is_none_or(|gone| gone.0 >= since.0)).count()
    }

    /// Number of sources that are gone.
    pub(crate) fn gone(&self) -> usize {
        self.sources.values().filter(|state| state.gone.is_some()).count()
    }

    /// Removes the sources that have been gone for the longest time, until `kept` of them are left. Scans the whole table.
    pub(crate) fn keep_gone(&mut self, kept: usize) {
        let mut gone: Vec<_> = self.sources.values().filter_map(|state| Some((state.gone?, state.key()))).collect();
        gone.sort_unstable();
        for (_, key) in &gone[..gone.len().saturating_sub(kept)] {
            self.sources.remove(key);
        }
    }

    /// Removes sources until those removed have at least `bytes`, according to `size`: first those that have been gone for the
    /// longest time, then those about which nothing was recorded for the longest time. Scans and sorts the whole table.
    pub(crate) fn shed(&mut self, bytes: usize, size: impl Fn(&SourceState) -> usize) -> Shed {
        let rank = |state: &SourceState| (state.gone.is_none(), state.gone.unwrap_or(state.recorded), state.key());
        let mut all: Vec<_> = self.sources.values().map(|state| (rank(state), size(state))).collect();
        all.sort_unstable();
        let (mut shed, mut removed) = (Shed::default(), 0);
        for ((exists, _, key), size) in all {
            if removed >= bytes {
                break;
            }
            self.sources.remove(&key);
            removed += size;
            shed.existing += usize::from(exists);
            shed.gone += usize::from(!exists);
        }
        shed
    }
}

fn account(state: &mut SourceState, range: &SourceRange, gone: Option<Timestamp>, when: Recorded) {
    let is_last = range.to >= state.end();
    if is_last {
        state.marker = range.marker;
    }
    // An earlier batch may be recorded after the one that reported that the source is gone.
    if is_last || gone.is_some() || when.epoch > state.told {
        state.gone = gone;
    }
    insert_interval(&mut state.intervals, range.from, range.to);
    (state.told, state.recorded) = (when.epoch, when.at.max(state.recorded));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(epoch: u32) -> Recorded {
        Recorded { epoch, at: Timestamp(0) }
    }

    fn table(gone: impl IntoIterator<Item = Option<i64>>) -> SourceTable {
        let mut table = SourceTable::new();
        for (key, gone) in gone.into_iter().enumerate() {
            let source = Arc::new(Source {
                key: SourceKey(key as u128),
                input: "app".into(),
                name: Vec::new(),
                descriptor: Vec::new(),
                repeatable: true,
            });
            table.insert(&source, &SourceRange { from: 0, to: 1, marker: 0 }, gone.map(Timestamp), start(1));
        }
        table
    }

    fn told(end: u64, gone: Option<i64>, epoch: u32) -> SourceTable {
        let mut all = table([None]);
        let source = all.get(SourceKey(0)).expect("one source").source.clone();
        all.insert(&source, &SourceRange { from: 0, to: end, marker: end }, gone.map(Timestamp), start(epoch));
        all
    }

    #[test]
    fn whoever_has_read_further_or_was_told_later_says_whether_a_source_is_gone() {
        let cases = [
            // (end, gone, epoch) of two logs, and what holds of both.
            ((10, None, 3), (20, Some(7), 2), Some(7)),
            ((20, None, 2), (10, Some(7), 3), None),
            ((10, None, 2), (10, Some(7), 3), Some(7)),
            ((10, Some(7), 2), (10, None, 3), None),
            ((10, Some(7), 3), (10, None, 3), None),
        ];
        for ((end, gone, epoch), (other_end, other_gone, other_epoch), holds) in cases {
            let (one, other) = (told(end, gone, epoch), told(other_end, other_gone, other_epoch));
            let mut merged = one.clone();
            merged.merge(other.clone());
            let mut turned = other;
            turned.merge(one);
            assert_eq!(merged, turned, "the order of the logs means nothing");
            let state = merged.get(SourceKey(0)).expect("one source");
            assert_eq!((state.gone, state.end()), (holds.map(Timestamp), end.max(other_end)));
            assert_eq!(state.marker, state.end(), "the marker is that of the end");
        }
    }

    #[test]
    fn a_batch_that_comes_late_does_not_bring_a_source_back() {
        let range = |from, to| SourceRange { from, to, marker: to };
        let mut sources = told(10, None, 1);
        let source = sources.get(SourceKey(0)).expect("one source").source.clone();
        let gone = |sources: &SourceTable| sources.get(SourceKey(0)).and_then(|state| state.gone);
        sources.insert(&source, &range(20, 30), Some(Timestamp(7)), start(1));
        sources.insert(&source, &range(10, 20), None, start(1));
        assert_eq!(
            gone(&sources),
            Some(Timestamp(7)),
            "what was read before the end says nothing of what came after it"
        );
        sources.insert(&source, &range(10, 20), None, start(2));
        assert_eq!(gone(&sources), None, "read in a later start, so it is there");
        sources.insert(&source, &range(20, 25), Some(Timestamp(9)), start(2));
        assert_eq!(gone(&sources), Some(Timestamp(9)), "whoever says that it is gone knows");
        sources.insert(&source, &range(30, 30), None, start(2));
        assert_eq!(gone(&sources), None, "it goes on where it had ended");
    }

    /// The first log takes over a source at each start and is told nothing of it, the second one is told that it is gone. What the
    /// first carries over would say at every later start that the source exists.
    #[test]
    fn a_copy_that_was_carried_over_does_not_bring_a_source_back() {
        let (mut first, mut second) = (told(10, None, 1), told(10, None, 1));
        for epoch in 2..6 {
            let source = second.get(SourceKey(0)).expect("one source").source.clone();
            if epoch == 2 {
                second.insert(&source, &SourceRange { from: 10, to: 10, marker: 10 }, Some(Timestamp(7)), start(epoch));
            }
            let mut merged = first.clone();
            merged.merge(second.clone());
            assert_eq!(merged.get(SourceKey(0)).and_then(|state| state.gone), Some(Timestamp(7)), "start {epoch}");
            first = merged;
        }
    }

    #[test]
    fn of_sources_that_are_gone_the_latest_are_kept() {
        let mut sources = table((0..100).map(|second| (second % 2 == 0).then_some(1_000 - second)));
        assert_eq!((sources.existing(Timestamp(1_000)), sources.existing(Timestamp(990))), (51, 56));
        assert_eq!(sources.gone(), 50);
        sources.keep_gone(60);
        assert_eq!(sources.len(), 100);
        sources.keep_gone(10);
        let gone: Vec<i64> = sources.iter().filter_map(|state| Some(state.gone?.0)).collect();
        assert_eq!((gone, sources.len()), ((0..10).map(|n| 1_000 - 2 * n).collect(), 60));
    }

    #[test]
    fn what_is_shed_was_gone_first_and_then_recorded_least_recently() {
        let mut sources = table([None, Some(5), None, Some(3), None, None]);
        let touch = |sources: &mut SourceTable, key: u128, at: i64| {
            let range = SourceRange { from: 0, to: 1, marker: 0 };
            assert!(sources.extend(SourceKey(key), &range, None, Recorded { epoch: 1, at: Timestamp(at) }));
        };
        for (key, at) in [(0, 40), (2, 10), (4, 30), (5, 20)] {
            touch(&mut sources, key, at);
        }
        let mut left = |bytes| {
            let shed = sources.shed(bytes, |_| 10);
            ((shed.gone, shed.existing), sources.iter().map(|state| state.key().0).collect::<Vec<u128>>())
        };
        assert_eq!(left(0), ((0, 0), vec![0, 1, 2, 3, 4, 5]));
        assert_eq!(left(1), ((1, 0), vec![0, 1, 2, 4, 5]), "gone for the longest time");
        assert_eq!(left(30), ((1, 2), vec![0, 4]));
        assert_eq!(left(1_000), ((0, 2), vec![]));
    }
}
