//! What damage that a start has found may have cost an output.
//!
//! Guarantees: each damage counts once, at the start that finds it first, and only for outputs that had not delivered the
//! damaged part. It counts in frames, because nobody knows what they contained, or as one if the number of frames is unknown.
//! Deliveries skip what a start has found, so they do not count it again.

use super::Layout;
use crate::env::Env;
use crate::wal::{Damage, LogId, OutputNumber, Position, Sequence};

/// Frames of newly reported damage in one WAL.
pub(super) struct Loss {
    pub(super) log: LogId,
    between: Option<(Sequence, Sequence)>,
}

impl Loss {
    /// The losses that no earlier start has reported.
    pub(super) fn all(damage: &[Damage]) -> Vec<Loss> {
        let news = damage.iter().filter(|damage| !damage.known);
        news.map(|damage| Loss { log: damage.log, between: damage.between }).collect()
    }

    /// Frames of it that an output at `position` had not delivered.
    fn frames_from(&self, position: Position) -> u64 {
        match self.between {
            Some((after, before)) => before.0.saturating_sub(position.sequence.0.max(after.0 + 1)),
            None => 1,
        }
    }
}

impl<E: Env> Layout<E> {
    /// Frames that the output may have lost in the WAL.
    pub(super) fn frames_lost(&self, number: OutputNumber, log: LogId) -> u64 {
        if self.fresh.contains(&number) {
            return 0;
        }
        let position = self.merged.commits.position(number, log).unwrap_or_default();
        self.losses.iter().filter(|loss| loss.log == log).map(|loss| loss.frames_from(position)).sum()
    }

    /// The same for WALs of which nothing exists any more.
    pub(super) fn frames_lost_with_logs(&self, number: OutputNumber, there: &[LogId]) -> u64 {
        let mut gone: Vec<LogId> = self.losses.iter().map(|loss| loss.log).filter(|log| !there.contains(log)).collect();
        gone.dedup();
        gone.into_iter().map(|log| self.frames_lost(number, log)).sum()
    }
}
