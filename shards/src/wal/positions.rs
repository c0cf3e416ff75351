//! Source tables: which bytes of which sources are accounted for.
//!
//! Guarantees: the intervals of a source are sorted, disjoint and not touching; inserting or merging in any order gives
//! the same intervals. What is missing between them ([`holes`]) was never in a log and is read again. Does not know files.

use super::SourceState;
use crate::batch::{Source, SourceKey, SourceRange};
use crate::env::Timestamp;
use crate::limits::TOMBSTONE_SECONDS;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// The sources of a log or of several. Ordered by key, so that equal tables make equal snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceTable {
    sources: BTreeMap<SourceKey, SourceState>,
}

/// Adds `from..to` to sorted, disjoint intervals.
pub fn insert_interval(intervals: &mut Vec<(u64, u64)>, from: u64, to: u64) {
    if from >= to {
        return;
    }
    // Nearly always the range goes on where the last one ended.
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

/// The gaps before the highest accounted byte.
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

    /// Takes the states out.
    pub fn into_states(self) -> impl Iterator<Item = SourceState> {
        self.sources.into_values()
    }

    /// Accounts for `range` of `source`.
    pub fn insert(&mut self, source: &Arc<Source>, range: &SourceRange, gone: Option<Timestamp>) {
        match self.sources.entry(source.key) {
            Entry::Occupied(entry) => {
                let state = entry.into_mut();
                if !Arc::ptr_eq(&state.source, source) {
                    state.source = source.clone();
                }
                account(state, range, gone);
            }
            Entry::Vacant(entry) => {
                let empty = SourceState { source: source.clone(), intervals: Vec::new(), marker: range.marker, gone };
                account(entry.insert(empty), range, gone);
            }
        }
    }

    /// Accounts for `range` of a source that was introduced before; false if it is not known.
    pub fn extend(&mut self, key: SourceKey, range: &SourceRange, gone: Option<Timestamp>) -> bool {
        let known = self.sources.get_mut(&key);
        known.map(|state| account(state, range, gone)).is_some()
    }

    /// Adds what is known from elsewhere: the union of the intervals, everything else from whoever has read further. Of two
    /// that are equally far, the later word (`state`) holds.
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
                if theirs_is_ahead {
                    mine.source = state.source;
                    mine.marker = state.marker;
                    mine.gone = state.gone;
                }
            }
        }
    }

    /// Adds another log's table. Neither is later than the other: of two that are equally far, one that still exists wins.
    pub fn merge(&mut self, other: SourceTable) {
        for mut state in other.sources.into_values() {
            if let Some(mine) = self.sources.get(&state.key())
                && mine.end() == state.end()
                && mine.gone.is_none()
            {
                state.gone = None;
            }
            self.absorb(state);
        }
    }

    /// Forgets sources that have been gone for longer than they are kept; how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let before = self.sources.len();
        let oldest = now.0.saturating_sub(TOMBSTONE_SECONDS * 1_000_000_000);
        self.sources.retain(|_, state| state.gone.is_none_or(|gone| gone.0 >= oldest));
        before - self.sources.len()
    }

    /// Sources that exist, or did at `since`.
    pub(crate) fn existing(&self, since: Timestamp) -> usize {
        self.sources.values().filter(|state| state.gone.is_none_or(|gone| gone.0 >= since.0)).count()
    }

    /// Sources that are gone.
    pub(crate) fn gone(&self) -> usize {
        self.sources.values().filter(|state| state.gone.is_some()).count()
    }

    /// Forgets those that have been gone the longest, but for `kept` of them. Looks at the whole table.
    pub(crate) fn keep_gone(&mut self, kept: usize) {
        let mut gone: Vec<_> = self.sources.values().filter_map(|state| Some((state.gone?, state.key()))).collect();
        gone.sort_unstable();
        for (_, key) in &gone[..gone.len().saturating_sub(kept)] {
            self.sources.remove(key);
        }
    }
}

fn account(state: &mut SourceState, range: &SourceRange, gone: Option<Timestamp>) {
    if range.to >= state.end() {
        state.marker = range.marker;
    }
    insert_interval(&mut state.intervals, range.from, range.to);
    state.gone = gone;
}

#[cfg(test)]
mod tests {
    use super::*;

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
            table.insert(&source, &SourceRange { from: 0, to: 1, marker: 0 }, gone.map(Timestamp));
        }
        table
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
}
