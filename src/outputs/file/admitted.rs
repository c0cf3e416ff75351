//! How many files the fields of events may lead to: `max_paths`.
//!
//! Guarantees: in a day, no more than this many different values, or combinations of them, get files. Those that had one in the last
//! day keep it whatever comes. Dates do not count: each value may have its files of every hour. Memory is bounded by the setting: 16
//! bytes for each. Does not look at files, and starts again at zero with the process.

use ring::digest::{SHA256, digest};
use std::collections::HashSet;
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// A value that has not occurred for this long gives its place to another one, up to twice as long after.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// See the module.
pub(super) struct Admitted {
    max: usize,
    /// Hashes of the values that occurred since `turned`, and of those that occurred only before.
    recent: HashSet<[u8; 16]>,
    earlier: HashSet<[u8; 16]>,
    turned: Monotonic,
    told: bool,
}

impl Admitted {
    /// Nothing yet, of at most `max`.
    pub(super) fn new(max: usize, now: Monotonic) -> Admitted {
        Admitted { max, recent: HashSet::new(), earlier: HashSet::new(), turned: now, told: false }
    }

    /// Whether these values may have files. Strangers choose the values, so their hash is one that nobody can make equal.
    pub(super) fn admit(&mut self, values: &[u8], now: Monotonic) -> bool {
        if now.since(self.turned) >= FORGOTTEN_AFTER {
            self.earlier = std::mem::take(&mut self.recent);
            (self.turned, self.told) = (now, false);
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest(&SHA256, values).as_ref()[..16]);
        if self.recent.contains(&hash) {
            return true;
        }
        let is_known = self.earlier.remove(&hash);
        let is_admitted = is_known || self.recent.len() + self.earlier.len() < self.max;
        if is_admitted {
            self.recent.insert(hash);
        }
        is_admitted
    }

    /// Why the events of other values are dead letters, and whether this is said for the first time in a while.
    pub(super) fn refusal(&mut self) -> (String, bool) {
        let why = format!(
            "`max_paths` is reached: the fields of events led to {} different paths within a day, dates left aside; raise it, or use \
             fields with fewer values in `path`",
            self.max
        );
        (why, !std::mem::replace(&mut self.told, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_the_last_day_keep_their_files_and_others_take_the_free_places() {
        let day = |day: u64| Monotonic(0).after(FORGOTTEN_AFTER * day as u32);
        let mut admitted = Admitted::new(2, day(0));
        assert!(admitted.admit(b"a", day(0)) && admitted.admit(b"b", day(0)) && admitted.admit(b"a", day(0)));
        assert!(!admitted.admit(b"c", day(0)) && admitted.refusal().1 && !admitted.refusal().1);
        // A day later both are known still, and `a` occurs again.
        assert!(admitted.admit(b"a", day(1)) && !admitted.admit(b"c", day(1)) && admitted.refusal().1);
        // `b` has not occurred for a whole day.
        assert!(admitted.admit(b"c", day(2)) && admitted.admit(b"a", day(2)) && !admitted.admit(b"b", day(2)));
    }
}
