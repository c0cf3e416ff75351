//! Tracks how much of each spread source is durable, and which WALs still have to record it.
//!
//! The WAL of a shard records the ranges of the batches that it received. If a source goes to the shards in turn, no two of
//! these ranges are adjacent, so each WAL would keep one range per batch, in every snapshot, forever. Therefore each batch also
//! says how much of its source is already durable, in all WALs together ([`Batch::settled`]), and its WAL records that too: the
//! ranges below it merge into one.
//!
//! ```text
//! source   0        X                                       settled: 0..X
//!          ├────────┼──B──┬──A──┬──B──┬──A──┤               A, B: the WALs to which batches went
//! log A    ├────────┤     ├─────┤     ├─────┤               at most the ranges above X are separate
//! ```
//!
//! Guarantees: what is reported as durable is in a WAL and survives a power loss. A WAL that counts a range of another WAL as
//! done must not outlive it, because the range would be neither delivered nor read again. Under the sync policy `never` a
//! ticket is acknowledged before that, so the durable mark of the lane counts here ([`LaneSender::take_durable`]). The separate
//! ranges in any WAL are limited: [`SPREAD_RANGES_FREE`] for each source, and for all sources with more than that together, the
//! limit with which the tracker is created. At that limit the input waits. A missing source is marked as gone in every WAL, not
//! only in the one that received its last batch. Allocates nothing per batch after its buffers have grown. Does not send:
//! [`super::Lanes`] does.
//!
//! [`LaneSender::take_durable`]: crate::lane::LaneSender::take_durable

#[cfg(test)]
mod tests;

use crate::batch::{Batch, Source, SourceKey, SourceRange};
use crate::env::Timestamp;
use crate::lane::Sent;
use crate::limits::SPREAD_RANGES_FREE;
use crate::wal::SourceState;
use crate::wal::positions::{Recorded, SourceTable};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A notice to a WAL about a source, separate from its batches.
pub(super) struct Notice {
    /// The source.
    pub(super) source: Arc<Source>,
    /// An empty range at the end of the settled part.
    pub(super) range: SourceRange,
    /// What is durable.
    pub(super) settled: SourceRange,
    /// Whether the source is gone.
    pub(super) gone: bool,
}

/// See the module. One for each instance of an input that spreads.
pub(super) struct Spread {
    sources: BTreeMap<SourceKey, Tracked>,
    /// What the WALs knew at the start, by key. All of it is durable, and every WAL has it.
    resume: Arc<Vec<SourceState>>,
    ranges_max: usize,
    /// Number of ranges that may be separate in a WAL, of sources with more than [`SPREAD_RANGES_FREE`] and of those that are
    /// gone.
    ranges: usize,
    /// These sources.
    wide: VecDeque<SourceKey>,
}

/// The state of one source.
struct Tracked {
    source: Arc<Source>,
    /// Durable in some WAL: sorted, disjoint, not adjacent.
    durable: Vec<SourceRange>,
    /// Sent and not known to be durable yet, by their first bytes.
    pending: VecDeque<(u64, u64)>,
    /// One past the highest byte that was sent, and its marker.
    end: u64,
    marker: u64,
    gone: Option<Timestamp>,
    /// Maximum number of ranges above the settled part when a batch was sent, since all WALs were last notified. No WAL has
    /// more.
    apart: usize,
    /// The same since the current notification began.
    apart_since: usize,
    /// The lane that is notified next, while a notification is running.
    telling: Option<usize>,
    /// Nothing was sent since the last check.
    quiet: bool,
    /// It is in the list of wide sources.
    queued: bool,
    /// Its contribution to the total there.
    counted: usize,
}

impl Spread {
    /// A tracker that knows `resume`, by key, and allows about `ranges_max` separate ranges.
    pub(super) fn new(resume: Arc<Vec<SourceState>>, ranges_max: usize) -> Spread {
        debug_assert!(resume.is_sorted_by_key(SourceState::key), "a source is found by its key");
        Spread { sources: BTreeMap::new(), resume, ranges_max, ranges: 0, wide: VecDeque::new() }
    }

    /// Whether the input must wait before it sends more.
    pub(super) fn is_full(&self) -> bool {
        self.ranges >= self.ranges_max
    }

    /// Whether WALs must be notified of something, now or later.
    pub(super) fn has_wide(&self) -> bool {
        !self.wide.is_empty()
    }

    /// Called before a batch is sent: writes the settled range into it.
    pub(super) fn sends(&mut self, batch: &mut Batch) {
        let Spread { sources, resume, .. } = self;
        let tracked = sources
            .entry(batch.source.key)
            .or_insert_with(|| Tracked::new(&batch.source, known(resume, &batch.source)));
        tracked.sends(batch);
        self.count(batch.source.key);
    }

    /// Records that something that was sent is now durable.
    pub(super) fn is_durable(&mut self, sent: &Sent) {
        if let Some(tracked) = self.sources.get_mut(&sent.source) {
            tracked.is_durable(sent.range);
        }
    }

    /// Forgets pending ranges, because batches may have been lost with the input before they were sent. [`Spread::wait_for`]
    /// adds those that are in flight again.
    pub(super) fn forget_pending(&mut self) {
        self.sources.values_mut().for_each(|tracked| tracked.pending.clear());
    }

    /// Adds a sent range to the pending ones.
    pub(super) fn wait_for(&mut self, sent: &Sent) {
        if let Some(tracked) = self.sources.get_mut(&sent.source) {
            tracked.wait_for(sent.range);
        }
    }

    /// Everything that was sent, whether durable or pending.
    pub(super) fn positions(&self) -> SourceTable {
        let mut table = SourceTable::new();
        let latest = Recorded { epoch: u32::MAX, at: Timestamp(0) };
        for tracked in self.sources.values() {
            let Tracked { source, end, marker, gone, .. } = tracked;
            let pending = tracked.pending.iter().map(|&(from, to)| SourceRange { from, to, marker: *marker });
            for range in tracked.durable.iter().copied().chain(pending) {
                table.insert(source, &range, None, latest);
            }
            // No WAL has later information about it.
            table.insert(source, &SourceRange { from: *end, to: *end, marker: *marker }, *gone, latest);
        }
        table
    }

    /// Notifies `lanes` WALs of sources that have separate ranges in them, if all of these are durable and nothing was sent for
    /// a while, and of sources that are gone. If the input is `waiting`, half of them is enough. `send` returns whether a lane
    /// had space. At the first one without, the rest is left for the next time.
    pub(super) fn tell(&mut self, waiting: bool, lanes: usize, mut send: impl FnMut(usize, Notice) -> bool) {
        for _ in 0..self.wide.len() {
            let Some(key) = self.wide.pop_front() else { return };
            let Some(tracked) = self.sources.get_mut(&key) else { continue };
            if tracked.counted == 0 {
                tracked.queued = false;
                continue;
            }
            if tracked.telling.is_none() && !tracked.begins_telling(waiting) {
                self.wide.push_back(key);
                continue;
            }
            while let Some(lane) = tracked.telling.filter(|lane| *lane < lanes) {
                if !send(lane, tracked.notice()) {
                    self.wide.push_front(key);
                    return;
                }
                tracked.telling = Some(lane + 1);
            }
            tracked.telling = None;
            tracked.queued = false;
            if tracked.gone.is_some() {
                self.ranges -= tracked.counted;
                self.sources.remove(&key);
            } else {
                tracked.apart = tracked.apart_since;
                self.count(key);
            }
        }
    }

    /// Updates the number of separate ranges of a source.
    fn count(&mut self, key: SourceKey) {
        let Some(tracked) = self.sources.get_mut(&key) else { return };
        let counted = match tracked.gone {
            Some(_) => tracked.apart.max(SPREAD_RANGES_FREE),
            None if tracked.apart > SPREAD_RANGES_FREE => tracked.apart,
            None => 0,
        };
        self.ranges = self.ranges - tracked.counted + counted;
        tracked.counted = counted;
        if counted > 0 && !std::mem::replace(&mut tracked.queued, true) {
            self.wide.push_back(key);
        }
    }
}

fn known<'a>(resume: &'a [SourceState], source: &Source) -> Option<&'a SourceState> {
    let at = resume.binary_search_by_key(&source.key, SourceState::key).ok()?;
    Some(&resume[at])
}

impl Tracked {
    fn new(source: &Arc<Source>, known: Option<&SourceState>) -> Tracked {
        let marker = known.map_or(0, |known| known.marker);
        let ranges = known.into_iter().flat_map(|known| &known.intervals);
        Tracked {
            source: source.clone(),
            // The markers of the lower ranges are unknown, and not needed while there is a higher one.
            durable: ranges.map(|&(from, to)| SourceRange { from, to, marker }).collect(),
            pending: VecDeque::new(),
            end: known.map_or(0, SourceState::end),
            marker,
            gone: None,
            apart: 0,
            apart_since: 0,
            telling: None,
            quiet: false,
            queued: false,
            counted: 0,
        }
    }

    fn sends(&mut self, batch: &mut Batch) {
        if !Arc::ptr_eq(&self.source, &batch.source) {
            self.source = batch.source.clone();
        }
        let range = batch.range;
        self.wait_for(range);
        if range.to >= self.end {
            (self.end, self.marker) = (range.to, range.marker);
        }
        let gone = batch.gone.then_some(batch.received);
        if gone.is_some() || self.gone.is_some() {
            // All WALs must be notified, including those that already were.
            self.telling = None;
        }
        self.gone = gone;
        self.quiet = false;
        batch.settled = self.settled(range.from);
        let apart = self.apart();
        self.apart = self.apart.max(apart);
        self.apart_since = self.apart_since.max(apart);
    }

    /// An empty range is durable as soon as it is recorded, so it is not tracked.
    fn wait_for(&mut self, range: SourceRange) {
        if range.from < range.to {
            let at = self.pending.partition_point(|&(from, _)| from < range.from);
            self.pending.insert(at, (range.from, range.to));
        }
    }

    fn is_durable(&mut self, range: SourceRange) {
        // A range that a lane dropped is sent later, merged with its neighbors.
        let first = self.pending.partition_point(|&(from, _)| from < range.from);
        let count = self.pending.range(first..).take_while(|&&(_, to)| to <= range.to).count();
        self.pending.drain(first..first + count);
        join(&mut self.durable, range);
    }

    /// The durable range below everything that is pending, or below `before` if nothing is. Empty if there is none.
    fn settled(&self, before: u64) -> SourceRange {
        let lowest = self.pending.front().map_or(before, |&(from, _)| from);
        let above = self.durable.partition_point(|range| range.from <= lowest);
        above.checked_sub(1).map_or(SourceRange::default(), |at| self.durable[at])
    }

    /// Number of pending ranges, and of durable ones above the first of them.
    fn apart(&self) -> usize {
        let lowest = self.pending.front().map_or(self.end, |&(from, _)| from);
        let below = self.durable.partition_point(|range| range.from <= lowest);
        self.pending.len() + self.durable.len() - below
    }

    fn begins_telling(&mut self, waiting: bool) -> bool {
        let ready = match (self.gone, waiting) {
            (Some(_), _) => self.pending.is_empty(),
            (None, true) => self.apart() * 2 <= self.apart,
            (None, false) => self.pending.is_empty() && std::mem::replace(&mut self.quiet, true),
        };
        if ready {
            self.telling = Some(0);
            self.apart_since = self.apart();
        }
        ready
    }

    fn notice(&self) -> Notice {
        let settled = self.settled(self.end);
        let (at, marker) = match self.gone {
            Some(_) => (self.end, self.marker),
            None => (settled.to, settled.marker),
        };
        let range = SourceRange { from: at, to: at, marker };
        Notice { source: self.source.clone(), range, settled, gone: self.gone.is_some() }
    }
}

/// Adds a range to sorted, disjoint ranges. The marker is that of the higher end.
fn join(ranges: &mut Vec<SourceRange>, range: SourceRange) {
    if range.from >= range.to {
        return;
    }
    let first = ranges.partition_point(|one| one.to < range.from);
    let end = ranges.partition_point(|one| one.from <= range.to);
    if first == end {
        return ranges.insert(first, range);
    }
    let highest = ranges[end - 1];
    let (to, marker) = if range.to >= highest.to { (range.to, range.marker) } else { (highest.to, highest.marker) };
    ranges[first] = SourceRange { from: range.from.min(ranges[first].from), to, marker };
    ranges.drain(first + 1..end);
}
