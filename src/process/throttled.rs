//! Tells of the events that `throttle` drops in a pipeline: it loses them for lack of speed, and nobody chose which.
//!
//! Guarantees: the first ones are told at once, further ones at most every [`TOLD_EVERY_S`] seconds and at the end, each in one count.
//! A process that is killed does not tell the last ones. Counts nothing for metrics.

use std::sync::Arc;
use tailwater_shards::env::Timestamp;

/// The least time between two lines, in seconds.
const TOLD_EVERY_S: i64 = 60;

/// What one pipeline on one shard dropped of one input.
pub struct Throttled {
    pipeline: Arc<str>,
    /// Dropped events that no line has told.
    untold: u64,
    told_at: Option<Timestamp>,
}

impl Throttled {
    /// Of the pipeline with this name; nothing yet.
    pub fn new(pipeline: Arc<str>) -> Throttled {
        Throttled { pipeline, untold: 0, told_at: None }
    }

    /// So many events more were dropped. Called once for each batch.
    #[inline]
    pub fn tell(&mut self, dropped: u64, now: Timestamp) {
        self.untold += dropped;
        if self.untold > 0 && self.is_due(now) {
            self.told_at = Some(now);
            self.say();
        }
    }

    fn is_due(&self, now: Timestamp) -> bool {
        // A clock that was set back delays no line.
        self.told_at.is_none_or(|told| !(0..TOLD_EVERY_S * 1_000_000_000).contains(&(now.0 - told.0)))
    }

    #[cold]
    fn say(&mut self) {
        // Not in the line itself, which is not evaluated where warnings are off.
        let events = std::mem::take(&mut self.untold);
        tracing::warn!(
            component_id = %self.pipeline,
            component_kind = "pipeline",
            events,
            "throttle dropped events, which are lost: they were read faster than its rate, also if they were written slowly before \
             the start; raise `burst` to the largest backlog that must not be lost, or raise `rate`"
        );
    }
}

impl Drop for Throttled {
    fn drop(&mut self) {
        if self.untold > 0 {
            self.say();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp(1_795_429_230_000_000_000 + seconds * 1_000_000_000)
    }

    #[test]
    fn first_events_are_told_at_once_and_the_others_from_time_to_time() {
        let mut throttled = Throttled::new("main".into());
        let mut untold = |dropped, seconds| {
            throttled.tell(dropped, at(seconds));
            throttled.untold
        };
        assert_eq!([untold(0, 0), untold(7, 1), untold(5, 2), untold(0, 60), untold(1, 60)], [0, 0, 5, 5, 6]);
        assert_eq!([untold(0, 61), untold(2, 62), untold(2, 120)], [0, 2, 4], "later ones without a new one");
        assert_eq!([untold(1, 50)], [0], "the clock was set back");
    }
}
