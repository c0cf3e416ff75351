//! The number of concurrent requests: additive increase, multiplicative decrease.
//!
//! Guarantees: the limit is between one and the configured maximum. It grows by one per round trip while full requests take
//! at most about twice the best known time, shrinks by a tenth when they take longer, and halves when the server reports
//! overload, at most once per round trip. A request that ran alone shows how fast the server is without load, so its time
//! becomes the best known time. So a server that is slow for other reasons than load (a longer route, delayed
//! acknowledgements) does not keep the limit at one. Small requests do not count for times. Does not wait or send.

use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How much the best time may rise with each response, so that a permanently slower server is learnt.
const FORGET: f64 = 1.02;

/// A response that takes this many times the best time is slow.
const SLOW: f64 = 2.0;

/// Smaller differences are noise.
const GRACE_SECONDS: f64 = 0.005;

/// See the module.
#[derive(Clone, Debug)]
pub struct Limit {
    now: f64,
    max: f64,
    best_seconds: Option<f64>,
    cut: Monotonic,
}

impl Limit {
    /// Starts with two requests, if the maximum allows it.
    pub fn new(max: u32) -> Limit {
        let max = f64::from(max.max(1));
        Limit { now: max.min(2.0), max, best_seconds: None, cut: Monotonic(0) }
    }

    /// Number of requests that may be concurrent.
    pub fn requests(&self) -> usize {
        self.now as usize
    }

    /// A full request succeeded, `took` after it began.
    pub fn answered(&mut self, at: Monotonic, took: Duration) {
        let seconds = took.as_secs_f64();
        let is_alone = self.requests() == 1 && at.since(self.cut) >= took;
        let best = match self.best_seconds {
            Some(best) if !is_alone => (best * FORGET).min(seconds),
            _ => seconds,
        };
        self.best_seconds = Some(best);
        if seconds > best * SLOW + GRACE_SECONDS {
            self.shrink(at, took, 0.9);
        } else {
            self.now = (self.now + 1.0 / self.now).min(self.max);
        }
    }

    /// A request was rejected because of overload, or had no response in time.
    pub fn refused(&mut self, at: Monotonic, took: Duration) {
        self.shrink(at, took, 0.5);
    }

    fn shrink(&mut self, at: Monotonic, took: Duration, factor: f64) {
        // A request that began before the last cut is not affected by the cut.
        if at.since(self.cut) >= took {
            self.now = (self.now * factor).max(1.0);
            self.cut = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Run {
        limit: Limit,
        millis: u64,
    }

    impl Run {
        fn new(max: u32) -> Run {
            Run { limit: Limit::new(max), millis: 1000 }
        }

        fn rounds(&mut self, count: usize) {
            for _ in 0..count {
                self.round(20, false);
            }
        }

        /// A round trip of as many requests as are allowed.
        fn round(&mut self, took_ms: u64, refused: bool) -> usize {
            self.millis += took_ms;
            let (at, took) = (Monotonic(self.millis * 1_000_000), Duration::from_millis(took_ms));
            for _ in 0..self.limit.requests() {
                if refused { self.limit.refused(at, took) } else { self.limit.answered(at, took) }
            }
            self.limit.requests()
        }
    }

    #[test]
    fn fast_responses_raise_the_limit_to_its_maximum() {
        let mut run = Run::new(8);
        assert_eq!(run.limit.requests(), 2);
        let rounds: Vec<usize> = (0..20).map(|_| run.round(20, false)).collect();
        assert!(rounds.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= pair[0] + 1), "{rounds:?}");
        assert_eq!(rounds.last(), Some(&8));
    }

    #[test]
    fn slow_responses_lower_the_limit_once_per_round_trip() {
        let mut run = Run::new(8);
        run.rounds(20);
        assert_eq!(run.round(200, false), 7);
        assert_eq!((0..20).map(|_| run.round(200, false)).min(), Some(1));
    }

    #[test]
    fn overload_halves_the_limit_down_to_one() {
        let mut run = Run::new(8);
        run.rounds(20);
        let rounds: Vec<usize> = (0..5).map(|_| run.round(20, true)).collect();
        assert_eq!(rounds, [4, 2, 1, 1, 1]);
    }

    #[test]
    fn permanently_slower_server_is_learnt() {
        let mut run = Run::new(8);
        run.rounds(20);
        let rounds: Vec<usize> = (0..60).map(|_| run.round(200, false)).collect();
        assert_eq!(rounds.last(), Some(&8));
    }

    #[test]
    fn longer_route_does_not_keep_the_limit_at_one() {
        let mut run = Run::new(4);
        // The first responses of a connection are acknowledged at once, later ones after 40 ms.
        assert_eq!((0..6).map(|_| run.round(1, false)).last(), Some(4));
        let rounds: Vec<usize> = (0..40).map(|_| run.round(42, false)).collect();
        let at_one = rounds.iter().filter(|requests| **requests == 1).count();
        assert!(at_one <= 1 && rounds.last() == Some(&4), "{rounds:?}");
    }

    #[test]
    fn maximum_of_one_stays_one() {
        let mut run = Run::new(1);
        assert_eq!((run.round(20, false), run.round(500, true)), (1, 1));
    }
}
