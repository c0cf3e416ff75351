//! The snapshots of a writer: what they contain, and what is reported when something has no space in them.
//!
//! Guarantees: positions of existing sources that are dropped are counted, and reported at most twice a minute. Does not decide
//! which ones these are.

use super::*;
use crate::limits::TOMBSTONES_MIN;
use crate::spell::News;
use crate::wal::positions::Shed;
use crate::wal::snapshot::build_snapshot;

impl<E: Env> Writer<E> {
    pub(super) fn build_snapshot(&mut self) -> Result<(), WalError> {
        let room = self.frame_bytes_max();
        // Every source is visited here anyway.
        let (now, sources) = (self.env.wall(), &mut self.state.sources);
        sources.expire(now);
        self.sources_max = self.sources_max.max(sources.existing(now));
        // Twice as many, so that a component that reports a returned source has dropped it first.
        let kept = 2 * self.sources_max.max(TOMBSTONES_MIN);
        // Not one by one, because each time sorts all missing sources.
        if sources.gone() > kept + kept / 8 {
            sources.keep_gone(kept);
        }
        if E::Disk::sabotaged(Sabotage::ForgetStates) {
            self.state.commits.forget_states();
        }
        let shed = build_snapshot(&mut self.snapshot, &mut self.state, now, room, self.log.directory())?;
        self.tell_shed(shed);
        self.log.counters.snapshot_bytes.set(self.snapshot.frame_bytes());
        let ranges = self.state.sources.iter().map(|source| source.intervals.len() as u64).sum();
        self.log.counters.snapshot_ranges.set(ranges);
        Ok(())
    }

    /// Counts and reports the positions of existing sources that did not fit.
    fn tell_shed(&mut self, shed: Shed) {
        let dropped = &self.log.counters.positions_dropped;
        dropped.add(shed.existing as u64);
        let news = self.crowded.look(dropped.get(), self.env.now());
        if !matches!(news, Some(News::Begins | News::Lasts(_))) {
            return;
        }
        tracing::warn!(
            "the positions of {} sources fill half a segment of the write-ahead log: dropped {} that were recorded least \
             recently ({} so far); after a restart these sources are read again. Raise wal.segment_bytes or follow fewer files",
            self.state.sources.len(),
            shed.existing,
            dropped.get()
        );
    }

    pub(super) fn write_snapshot(&mut self) -> Result<(), WalError> {
        let mut snapshot = std::mem::take(&mut self.snapshot);
        let written = snapshot.frames_mut().iter_mut().try_for_each(|frame| self.write(frame, false));
        self.snapshot = snapshot;
        written
    }
}
