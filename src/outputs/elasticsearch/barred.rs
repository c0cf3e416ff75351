//! Indexes for which the server accepts nothing for now, although it accepts events of others: closed, blocked, missing, or forbidden to
//! the output's user.
//!
//! Guarantees: if events choose the index, the output waits for such indexes for [`WAIT`] in [`WAIT_AGAIN`] at most, all of them together.
//! Then their events are dead letters until the index accepts one again. An index is given up only if the server accepts others: one
//! since it was refused first, or one before, if it never accepted any itself. So a server that accepts nothing any more makes the output
//! wait, whatever it says about each index. Memory is bounded by [`INDEXES_MAX`] and [`GOOD_MAX`].
//!
//! Does not read responses, and does not know which indexes events choose.

use std::collections::HashMap;
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How long an output waits for such indexes: somebody may be about to open, to make or to allow one.
pub const WAIT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(30) };

/// How long it does not wait again after that, and how long an index without events is remembered.
pub const WAIT_AGAIN: Duration = Duration::from_secs(600);

/// Maximum number of indexes that are remembered to be refused. There are no more in an output, unless it has several in turn.
const INDEXES_MAX: usize = 1024;

/// How many of those that accepted events are remembered: the last ones.
const GOOD_MAX: usize = 256;

/// What happens to events of an index that is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// They are sent again.
    Again,
    /// They become dead letters.
    Rejected {
        /// Whether that is so from now on.
        is_news: bool,
    },
}

/// An index that is refused.
struct Refused {
    since: Monotonic,
    seen: Monotonic,
    /// Whether it accepted events before.
    was_good: bool,
    is_given_up: bool,
}

/// See the module. A key stands for an index.
#[derive(Default)]
pub struct Barred {
    waits_since: Option<Monotonic>,
    refused: HashMap<Vec<u8>, Refused>,
    /// When each of the others accepted something last.
    good: HashMap<Vec<u8>, Monotonic>,
}

impl Barred {
    /// Records that an index accepted an event. Returns whether its events were dead letters before.
    pub fn accepted(&mut self, key: &[u8], now: Monotonic) -> bool {
        if let Some(last) = self.good.get_mut(key) {
            *last = now;
            return false;
        }
        if self.good.len() >= GOOD_MAX
            && let Some(oldest) = self.good.iter().min_by_key(|(_, last)| **last).map(|(key, _)| key.clone())
        {
            self.good.remove(&oldest);
        }
        self.good.insert(key.to_vec(), now);
        self.refused.remove(key).is_some_and(|refused| refused.is_given_up)
    }

    /// Records that the server refused an event because of its index, and decides what happens to it.
    pub fn refused(&mut self, key: &[u8], now: Monotonic) -> Fate {
        let was_good = self.good.remove(key).is_some();
        if self.refused.len() >= INDEXES_MAX && !self.refused.contains_key(key) {
            self.refused.retain(|_, refused| now.since(refused.seen) < WAIT_AGAIN);
        }
        let may_wait = self.may_wait(now);
        if self.refused.len() >= INDEXES_MAX && !self.refused.contains_key(key) {
            let must_wait = may_wait || was_good || self.good.is_empty();
            return if must_wait { Fate::Again } else { Fate::Rejected { is_news: false } };
        }
        let new = Refused { since: now, seen: now, was_good, is_given_up: false };
        let refused = self.refused.entry(key.to_vec()).or_insert(new);
        if now.since(refused.seen) >= WAIT_AGAIN {
            *refused = Refused { since: now, seen: now, is_given_up: false, ..*refused };
        }
        refused.seen = now;
        if refused.is_given_up {
            return Fate::Rejected { is_news: false };
        }
        let others_do =
            self.good.values().any(|last| *last >= refused.since) || (!refused.was_good && !self.good.is_empty());
        if may_wait || !others_do {
            return Fate::Again;
        }
        refused.is_given_up = true;
        Fate::Rejected { is_news: true }
    }

    /// Whether the output may wait for an index now. Begins the wait if none began lately.
    fn may_wait(&mut self, now: Monotonic) -> bool {
        match self.waits_since.map(|since| now.since(since)) {
            Some(waited) if waited < WAIT_AGAIN => waited < WAIT,
            _ => {
                self.waits_since = Some(now);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Monotonic = Monotonic(1_000_000_000);
    const NEWS: Fate = Fate::Rejected { is_news: true };

    fn after(waits: u32) -> Monotonic {
        NOW.after(WAIT * waits)
    }

    #[test]
    fn index_that_never_accepted_an_event_is_given_up_when_others_did() {
        let mut barred = Barred::default();
        assert!(!barred.accepted(b"good", NOW));
        assert_eq!(barred.refused(b"evil", NOW), Fate::Again);
        assert_eq!(barred.refused(b"evil", after(1)), NEWS);
        assert_eq!(barred.refused(b"evil", after(1)), Fate::Rejected { is_news: false });
        assert_eq!(barred.refused(b"evil too", after(1)), NEWS, "no further wait soon");
        assert!(barred.accepted(b"evil", after(2)) && !barred.accepted(b"evil", after(2)));
        assert_eq!(barred.refused(b"other", NOW.after(WAIT_AGAIN)), Fate::Again, "but later");
    }

    #[test]
    fn server_that_accepts_nothing_any_more_makes_the_output_wait() {
        let mut barred = Barred::default();
        for key in [b"a", b"b", b"c"] {
            barred.accepted(key, NOW);
        }
        for round in 0..50 {
            for key in [b"a", b"b", b"c"] {
                assert_eq!(barred.refused(key, after(round)), Fate::Again, "{round}");
            }
            assert_eq!(barred.refused(b"new", after(round)), Fate::Again, "{round}");
        }
        // One of them accepts events again, so the others are not refused because of the server.
        barred.accepted(b"a", after(50));
        assert_eq!(barred.refused(b"b", after(50)), Fate::Rejected { is_news: true });
    }

    #[test]
    fn server_that_never_accepted_anything_makes_the_output_wait() {
        let mut barred = Barred::default();
        for round in 0..50 {
            assert_eq!(barred.refused(b"a", after(round)), Fate::Again);
            assert_eq!(barred.refused(b"b", after(round)), Fate::Again);
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut barred = Barred::default();
        for number in 0..5000_u64 {
            barred.accepted(&number.to_le_bytes(), NOW.after(Duration::from_nanos(number)));
        }
        assert_eq!(barred.good.len(), GOOD_MAX);
        assert!(barred.good.contains_key(&4999_u64.to_le_bytes()[..]));
        for number in 10_000..20_000_u64 {
            barred.refused(&number.to_le_bytes(), after(1));
        }
        assert_eq!(barred.refused.len(), INDEXES_MAX);
        barred.refused(b"new", NOW.after(WAIT_AGAIN * 2));
        assert_eq!(barred.refused.len(), 1, "those without events are forgotten");
    }
}
