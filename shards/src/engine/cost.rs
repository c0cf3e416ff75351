//! What damage that a start has found may have cost an output.
//!
//! Guarantees: each damage counts once, at the start that finds it first, and for outputs that had not delivered what was there: its
//! frames, since nobody knows what they held, or one where their number is not known. Deliveries go around what a start has found, so they
//! count none of it again.

use super::Layout;
use crate::env::Env;
use crate::wal::{Damage, LogId, OutputNumber, Position, Sequence};

/// Frames of damage in one log that were told of now.
pub(super) struct Loss {
    pub(super) log: LogId,
    between: Option<(Sequence, Sequence)>,
}

impl Loss {
    /// The losses that no earlier start has told of.
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
    /// Frames that the output may have lost in the log.
    pub(super) fn frames_lost(&self, number: OutputNumber, log: LogId) -> u64 {
        if self.fresh.contains(&number) {
            return 0;
        }
        let position = self.merged.commits.position(number, log).unwrap_or_default();
        self.losses.iter().filter(|loss| loss.log == log).map(|loss| loss.frames_from(position)).sum()
    }

    /// The same of the logs of which nothing is there.
    pub(super) fn frames_lost_with_logs(&self, number: OutputNumber, there: &[LogId]) -> u64 {
        let mut gone: Vec<LogId> = self.losses.iter().map(|loss| loss.log).filter(|log| !there.contains(log)).collect();
        gone.dedup();
        gone.into_iter().map(|log| self.frames_lost(number, log)).sum()
    }
}
