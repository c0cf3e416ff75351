//! The servers for requests, in turn; servers that fail are skipped for a while.
//!
//! Guarantees: a server that failed gets no request until its pause is over. If all servers are paused, the one whose pause
//! ends first gets it. Pauses double up to [`REST_MAX`] and end with the first response. Sends nothing.

use std::time::Duration;
use tailwater_shards::env::Monotonic;

const REST_FIRST: Duration = Duration::from_secs(1);

/// The longest pause.
pub const REST_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Clone, Debug)]
pub struct Targets {
    health: Vec<Health>,
    next: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Health {
    rests_until: Monotonic,
    failures: u32,
}

impl Targets {
    /// This many servers, at least one, all healthy.
    pub fn new(count: usize) -> Targets {
        Targets { health: vec![Health::default(); count.max(1)], next: 0 }
    }

    /// The server for the next request.
    pub fn choose(&mut self, now: Monotonic) -> usize {
        let count = self.health.len();
        let turns = (0..count).map(|distance| (self.next + distance) % count);
        // Among several that are healthy, or whose pauses end at the same time, the first in turn.
        let chosen = turns.min_by_key(|index| self.health[*index].rests_until.max(now)).unwrap_or(0);
        self.next = (chosen + 1) % count;
        chosen
    }

    /// The server responded.
    pub fn answered(&mut self, target: usize) {
        self.health[target] = Health::default();
    }

    /// The server cannot be reached, or reports that it cannot work.
    pub fn failed(&mut self, target: usize, now: Monotonic) {
        let health = &mut self.health[target];
        let rest = REST_FIRST.saturating_mul(1 << health.failures.min(5)).min(REST_MAX);
        // Concurrent requests fail together and count once.
        if health.rests_until <= now {
            health.failures += 1;
            health.rests_until = now.after(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: u64) -> Monotonic {
        Monotonic(seconds * 1_000_000_000)
    }

    fn chosen(targets: &mut Targets, at: u64) -> Vec<usize> {
        (0..4).map(|_| targets.choose(second(at))).collect()
    }

    #[test]
    fn servers_take_turns() {
        assert_eq!(chosen(&mut Targets::new(3), 1), [0, 1, 2, 0]);
    }

    #[test]
    fn failed_server_is_paused_and_comes_back() {
        let mut targets = Targets::new(3);
        targets.failed(1, second(10));
        assert_eq!(chosen(&mut targets, 10), [0, 2, 0, 2]);
        assert!(chosen(&mut targets, 12).contains(&1));
        targets.failed(1, second(12));
        assert!(!chosen(&mut targets, 13).contains(&1), "its second rest is longer");
        targets.answered(1);
        assert!(chosen(&mut targets, 13).contains(&1));
    }

    #[test]
    fn if_all_are_paused_the_first_to_end_is_used() {
        let mut targets = Targets::new(2);
        targets.failed(1, second(10));
        targets.failed(0, second(10).after(Duration::from_millis(100)));
        assert_eq!(chosen(&mut targets, 10), [1, 1, 1, 1]);
    }

    #[test]
    fn pauses_are_bounded() {
        let mut targets = Targets::new(2);
        let mut at = 0;
        for _ in 0..70 {
            targets.failed(0, second(at));
            at += 60;
            assert!(chosen(&mut targets, at).contains(&0));
        }
    }
}
