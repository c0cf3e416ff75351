//! How many requests are under way at a time: additive increase, multiplicative decrease.
//!
//! Guarantees: between one and the configured bound. It grows by one a round trip while answers to full requests take no longer than
//! about twice the best time known, shrinks by a tenth when they do, and halves when the server says that it is too much; once a
//! round trip at most. A request that was under way alone shows what the server takes without any crowd, so that its time is the
//! best known from then on: a server that is slow for another reason than the number of requests (a longer way, delayed
//! acknowledgements) keeps nobody at one request. Small requests say nothing about time. Does not wait or send.

use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How much the best time is allowed to rise with each answer, so that a server that became slower for good is learnt.
const FORGET: f64 = 1.02;

/// An answer that takes this much longer than the best is slow.
const SLOW: f64 = 2.0;

/// Differences below this are noise.
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
    /// Starts with two requests, if so many are allowed.
    pub fn new(max: u32) -> Limit {
        let max = f64::from(max.max(1));
        Limit { now: max.min(2.0), max, best_seconds: None, cut: Monotonic(0) }
    }

    /// Requests that may be under way.
    pub fn requests(&self) -> usize {
        self.now as usize
    }

    /// A full request was answered well, `took` after it began.
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

    /// A request was refused because there are too many, or not answered in time.
    pub fn refused(&mut self, at: Monotonic, took: Duration) {
        self.shrink(at, took, 0.5);
    }

    fn shrink(&mut self, at: Monotonic, took: Duration, factor: f64) {
        // One that began before the last cut says nothing about what the cut changed.
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
    fn quick_answers_raise_the_limit_to_its_bound() {
        let mut run = Run::new(8);
        assert_eq!(run.limit.requests(), 2);
        let rounds: Vec<usize> = (0..20).map(|_| run.round(20, false)).collect();
        assert!(rounds.windows(2).all(|pair| pair[0] <= pair[1] && pair[1] <= pair[0] + 1), "{rounds:?}");
        assert_eq!(rounds.last(), Some(&8));
    }

    #[test]
    fn slow_answers_lower_it_once_a_round_trip() {
        let mut run = Run::new(8);
        run.rounds(20);
        assert_eq!(run.round(200, false), 7);
        assert_eq!((0..20).map(|_| run.round(200, false)).min(), Some(1));
    }

    #[test]
    fn refusal_halves_it_and_it_never_ends() {
        let mut run = Run::new(8);
        run.rounds(20);
        let rounds: Vec<usize> = (0..5).map(|_| run.round(20, true)).collect();
        assert_eq!(rounds, [4, 2, 1, 1, 1]);
    }

    #[test]
    fn server_that_is_slower_for_good_is_learnt() {
        let mut run = Run::new(8);
        run.rounds(20);
        let rounds: Vec<usize> = (0..60).map(|_| run.round(200, false)).collect();
        assert_eq!(rounds.last(), Some(&8));
    }

    #[test]
    fn way_that_becomes_longer_leaves_nobody_at_one_request() {
        let mut run = Run::new(4);
        // The first answers of a connection are acknowledged at once, later ones after 40 ms.
        assert_eq!((0..6).map(|_| run.round(1, false)).last(), Some(4));
        let rounds: Vec<usize> = (0..40).map(|_| run.round(42, false)).collect();
        let at_one = rounds.iter().filter(|requests| **requests == 1).count();
        assert!(at_one <= 1 && rounds.last() == Some(&4), "{rounds:?}");
    }

    #[test]
    fn bound_of_one_stays_one() {
        let mut run = Run::new(1);
        assert_eq!((run.round(20, false), run.round(500, true)), (1, 1));
    }
}
