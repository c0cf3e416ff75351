//! How many different names events may lead to: a bound on what one template makes in a server or on a disk.
//!
//! Guarantees: in a day, no more than this many names are admitted. Those that occurred in the last day stay admitted whatever comes. The
//! names of one group get no more places than they leave to all others, and the first name of a group gets one as long as there is one.
//! What is there anyway is admitted without a place. Memory is bounded by the number of names: two hashes for each, at most as much for
//! its group, and one for each name without a place.
//!
//! Does not know what a name stands for, and starts again at zero with the process.

use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::time::Duration;
use tailwater_shards::env::{Monotonic, Timestamp};

/// A name that has not occurred for this long gives its place to another one, up to twice as long after.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Dates that are older or newer than now by more than this count. What waited for a week is as good as new.
const OLD_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
const AHEAD_AFTER: Duration = Duration::from_secs(24 * 3600);

type Hash = [u8; 16];

/// See the module.
#[derive(Debug)]
pub struct Distinct {
    max: usize,
    /// Hashes of the names that occurred since `turned`, and of those that occurred only before, with those of their groups, or none
    /// if they have no place.
    recent: HashMap<Hash, Option<Hash>>,
    earlier: HashMap<Hash, Option<Hash>>,
    /// How many places each group has.
    held: HashMap<Hash, usize>,
    /// How many places are taken, and how many names have none.
    taken: usize,
    without: usize,
    turned: Option<Monotonic>,
    told: bool,
}

/// Whether a date counts, `now`: events choose it, and no event of these days has it.
pub fn is_date_counted(date: Timestamp, now: Timestamp) -> bool {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let (oldest, newest) = (now.0.saturating_sub(nanos(OLD_AFTER)), now.0.saturating_add(nanos(AHEAD_AFTER)));
    !(oldest..=newest).contains(&date.0)
}

/// Strangers choose what is hashed, so nobody can make two of these equal.
fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    hash
}

impl Distinct {
    /// No names yet, of at most `max`.
    pub fn new(max: usize) -> Distinct {
        let (recent, earlier, held) = (HashMap::new(), HashMap::new(), HashMap::new());
        Distinct { max, recent, earlier, held, taken: 0, without: 0, turned: None, told: false }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Whether events may lead to this name of a group.
    pub fn admit(&mut self, group: &[u8], name: &[u8], now: Monotonic) -> bool {
        if now.since(*self.turned.get_or_insert(now)) >= FORGOTTEN_AFTER {
            self.turn(now);
        }
        let name = hash(name);
        if self.recent.contains_key(&name) {
            return true;
        }
        if let Some(group) = self.earlier.remove(&name) {
            self.recent.insert(name, group);
            return true;
        }
        let group = hash(group);
        let free = self.max.saturating_sub(self.taken);
        let held = self.held.get(&group).copied().unwrap_or(0);
        let is_admitted = free > 0 && (held == 0 || held < free);
        if is_admitted {
            self.recent.insert(name, Some(group));
            self.held.insert(group, held + 1);
            self.taken += 1;
        }
        is_admitted
    }

    /// Notes that a name without a place is there, so that it is admitted from now on.
    pub fn is_there(&mut self, name: &[u8]) {
        let name = hash(name);
        // It may have got a place since it was asked for.
        let is_known = self.recent.contains_key(&name) || self.earlier.contains_key(&name);
        if !is_known && self.without < self.max {
            self.recent.insert(name, None);
            self.without += 1;
        }
    }

    /// Forgets what did not occur since the last time.
    fn turn(&mut self, now: Monotonic) {
        let forgotten = std::mem::replace(&mut self.earlier, std::mem::take(&mut self.recent));
        for group in forgotten.into_values() {
            let Some(group) = group else {
                self.without -= 1;
                continue;
            };
            self.taken -= 1;
            if let Some(held) = self.held.get_mut(&group) {
                *held -= 1;
            }
        }
        self.held.retain(|_, held| *held > 0);
        (self.turned, self.told) = (Some(now), false);
    }

    /// Whether it is to be said that a name was not admitted: for the first time in a while.
    pub fn is_news(&mut self) -> bool {
        !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64) -> Monotonic {
        Monotonic(0).after(FORGOTTEN_AFTER * day as u32)
    }

    #[test]
    fn names_of_the_last_day_stay_and_others_take_the_free_places() {
        let mut places = Distinct::new(2);
        let mut admit = |name: &[u8], day| places.admit(name, name, day);
        assert!(admit(b"a", day(0)) && admit(b"b", day(0)) && admit(b"a", day(0)));
        assert!(!admit(b"c", day(0)));
        // A day later both are known still, and `a` occurs again.
        assert!(admit(b"a", day(1)) && !admit(b"c", day(1)));
        // `b` has not occurred for a whole day.
        assert!(admit(b"c", day(2)) && admit(b"a", day(2)) && !admit(b"b", day(2)));
    }

    #[test]
    fn names_that_are_there_are_known_without_a_place_and_are_bounded() {
        let mut names = Distinct::new(2);
        assert!(names.admit(b"a", b"a", day(0)) && names.admit(b"b", b"b", day(0)));
        for name in [b"c", b"d", b"e"] {
            assert!(!names.admit(name, name, day(0)));
            names.is_there(name);
        }
        let mut known = |day| [b"c", b"d", b"e"].map(|name| names.admit(name, name, day));
        assert_eq!((known(day(0)), known(day(1))), ([true, true, false], [true, true, false]));
        assert_eq!(known(day(3)), [true; 3], "the third one takes a place that is free by then");
    }

    #[test]
    fn name_that_has_a_place_keeps_it_when_it_is_there() {
        let mut names = Distinct::new(1);
        assert!(names.admit(b"a", b"a", day(0)));
        names.is_there(b"a");
        assert!(!names.admit(b"b", b"b", day(0)));
        assert!(!names.admit(b"b", b"b", day(1)), "`a` is known for a day at least");
        names.is_there(b"a");
        assert!(names.admit(b"b", b"b", day(2)), "the place is free again");
    }

    #[test]
    fn it_is_said_once_in_a_while_that_no_place_is_left() {
        let mut names = Distinct::new(1);
        names.admit(b"a", b"a", day(0));
        assert!(names.is_news() && !names.is_news());
        names.admit(b"a", b"a", day(1));
        assert!(names.is_news());
    }

    #[test]
    fn group_with_very_many_names_leaves_places_to_others() {
        const MAX: usize = 1000;
        let mut names = Distinct::new(MAX);
        let mut all_of = |group: u64, day| {
            let name = |number: u64| [group.to_le_bytes(), number.to_le_bytes()].concat();
            let admit = |number: &u64| names.admit(&group.to_le_bytes(), &name(*number), day);
            (0..5000).filter(admit).count()
        };
        assert_eq!((all_of(0, day(0)), all_of(1, day(0)), all_of(2, day(0))), (500, 250, 125));
        assert_eq!((all_of(0, day(0)), all_of(3, day(0))), (500, 63), "those that it has stay");
        let rest: usize = (10..100).map(|group| all_of(group, day(0))).sum();
        assert_eq!(rest, MAX - 500 - 250 - 125 - 63, "all are used when there are enough groups");
        // Two days later, nothing is known any more.
        assert_eq!((all_of(0, day(1)) + all_of(1, day(2)), all_of(5, day(3))), (500 + 250, 375));
    }

    #[test]
    fn dates_count_that_are_old_or_ahead() {
        const DAY: i64 = 24 * 3600 * 1_000_000_000;
        let now = Timestamp(30 * DAY);
        for (date, counts) in [(30, false), (23, false), (22, true), (31, false), (32, true), (-100_000, true)] {
            assert_eq!(is_date_counted(Timestamp(date * DAY), now), counts, "{date}");
        }
        assert!(is_date_counted(Timestamp(i64::MAX), now) && is_date_counted(Timestamp(i64::MIN), now));
    }
}
