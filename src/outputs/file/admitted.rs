//! How many files events may lead to: `max_paths`.
//!
//! Guarantees: in a day, no more than this many different values of the fields, or combinations of them, get new files. Those that had
//! one in the last day keep it whatever comes, and a file that is there needs no place. Dates around now do not count: each value may
//! have its files of every hour. Any other date is chosen by an event ([`is_chosen`]): no more than as many paths with such a date get
//! new files, and they take no place of values. The paths of one directory get no more places than they leave to all others, and the
//! first path of a directory gets one as long as there is one. Outlives the openings of an output. Memory is bounded by the setting:
//! two hashes for each place, and one for each file that has none. Does not look at files, and starts again at zero with the process.

use ring::digest::{SHA256, digest};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tailwater_shards::env::{Monotonic, Timestamp};

/// A value that has not occurred for this long gives its place to another one, up to twice as long after.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Dates that are older or newer than now by more than this are chosen by events. What waited for a week is as good as new.
const OLD_AFTER: Duration = Duration::from_secs(7 * 24 * 3600);
const AHEAD_AFTER: Duration = Duration::from_secs(24 * 3600);

type Hash = [u8; 16];

/// What an event needs a place for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The value of the first directory that depends on fields.
    pub(super) directory: &'a [u8],
    /// All values, or the path if its date counts.
    pub(super) name: &'a [u8],
    pub(super) is_dated: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admitted {
    values: Mutex<Places>,
    dated: Mutex<Places>,
}

/// Whether only an event can have this date, `now`.
pub(super) fn is_chosen(date: Timestamp, now: Timestamp) -> bool {
    let nanos = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    let (oldest, newest) = (now.0.saturating_sub(nanos(OLD_AFTER)), now.0.saturating_add(nanos(AHEAD_AFTER)));
    !(oldest..=newest).contains(&date.0)
}

impl Admitted {
    /// Nothing yet, of at most `max`.
    pub(super) fn new(max: usize) -> Admitted {
        Admitted { values: Mutex::new(Places::new(max)), dated: Mutex::new(Places::new(max)) }
    }

    fn places<T>(&self, is_dated: bool, ask: impl FnOnce(&mut Places) -> T) -> T {
        let places = if is_dated { &self.dated } else { &self.values };
        // A poisoned lock is safe to use: no step of a change panics.
        ask(&mut places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this may have a new file.
    pub(super) fn admit(&self, wanted: Wanted<'_>, now: Monotonic) -> bool {
        self.places(wanted.is_dated, |places| places.admit(wanted, now))
    }

    /// Notes that something without a place has a file, so that it may have the next one, of another date, as well.
    pub(super) fn has_file(&self, wanted: Wanted<'_>) {
        self.places(wanted.is_dated, |places| places.has_file(wanted));
    }

    /// Why the events of others are dead letters, and whether this is said for the first time in a while.
    pub(super) fn refusal(&self, is_dated: bool) -> (String, bool) {
        let (max, is_first) = self.places(is_dated, |places| (places.max, !std::mem::replace(&mut places.told, true)));
        let why = match is_dated {
            true => format!(
                "`max_paths` ({max}) is reached: within a day, events with dates of more than 7 days ago, or more than a day ahead, led \
                 to too many different paths; raise it while you read old logs"
            ),
            false => format!(
                "`max_paths` ({max}) is reached: within a day, the fields of events led to too many different paths, or those of \
                 one first directory to more than it leaves to the others; raise it, or use fields with fewer values in `path`"
            ),
        };
        (why, is_first)
    }
}

/// The places of one kind.
#[derive(Debug)]
struct Places {
    max: usize,
    /// Hashes of what occurred since `turned`, and of what occurred only before, each with that of its directory, or none if it
    /// has a file without a place.
    recent: HashMap<Hash, Option<Hash>>,
    earlier: HashMap<Hash, Option<Hash>>,
    /// How many places each directory has.
    held: HashMap<Hash, usize>,
    /// How many places are taken, and how many files have none.
    taken: usize,
    without: usize,
    turned: Option<Monotonic>,
    told: bool,
}

/// Strangers choose what is hashed, so nobody can make two of these equal.
fn hash(bytes: &[u8]) -> Hash {
    let mut hash = [0; 16];
    hash.copy_from_slice(&digest(&SHA256, bytes).as_ref()[..16]);
    hash
}

impl Places {
    fn new(max: usize) -> Places {
        let (recent, earlier, held) = (HashMap::new(), HashMap::new(), HashMap::new());
        Places { max, recent, earlier, held, taken: 0, without: 0, turned: None, told: false }
    }

    fn admit(&mut self, wanted: Wanted<'_>, now: Monotonic) -> bool {
        if now.since(*self.turned.get_or_insert(now)) >= FORGOTTEN_AFTER {
            self.turn(now);
        }
        let name = hash(wanted.name);
        if self.recent.contains_key(&name) {
            return true;
        }
        if let Some(place) = self.earlier.remove(&name) {
            self.recent.insert(name, place);
            return true;
        }
        let directory = hash(wanted.directory);
        let free = self.max.saturating_sub(self.taken);
        let held = self.held.get(&directory).copied().unwrap_or(0);
        let is_admitted = free > 0 && (held == 0 || held < free);
        if is_admitted {
            self.recent.insert(name, Some(directory));
            self.held.insert(directory, held + 1);
            self.taken += 1;
        }
        is_admitted
    }

    fn has_file(&mut self, wanted: Wanted<'_>) {
        if self.without < self.max && self.recent.insert(hash(wanted.name), None).is_none() {
            self.without += 1;
        }
    }

    /// Forgets what did not occur since the last time.
    fn turn(&mut self, now: Monotonic) {
        let forgotten = std::mem::replace(&mut self.earlier, std::mem::take(&mut self.recent));
        for place in forgotten.into_values() {
            let Some(directory) = place else {
                self.without -= 1;
                continue;
            };
            self.taken -= 1;
            if let Some(held) = self.held.get_mut(&directory) {
                *held -= 1;
            }
        }
        self.held.retain(|_, held| *held > 0);
        (self.turned, self.told) = (Some(now), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: u64) -> Monotonic {
        Monotonic(0).after(FORGOTTEN_AFTER * day as u32)
    }

    fn value(name: &[u8]) -> Wanted<'_> {
        Wanted { directory: name, name, is_dated: false }
    }

    #[test]
    fn values_of_the_last_day_keep_their_files_and_others_take_the_free_places() {
        let admitted = Admitted::new(2);
        let admit = |name: &[u8], day| admitted.admit(value(name), day);
        assert!(admit(b"a", day(0)) && admit(b"b", day(0)) && admit(b"a", day(0)));
        assert!(!admit(b"c", day(0)) && admitted.refusal(false).1 && !admitted.refusal(false).1);
        // A day later both are known still, and `a` occurs again.
        assert!(admit(b"a", day(1)) && !admit(b"c", day(1)) && admitted.refusal(false).1);
        // `b` has not occurred for a whole day.
        assert!(admit(b"c", day(2)) && admit(b"a", day(2)) && !admit(b"b", day(2)));
    }

    #[test]
    fn directory_with_very_many_paths_leaves_places_to_others() {
        const MAX: usize = 1000;
        let admitted = Admitted::new(MAX);
        let all_of = |directory: u64, day| {
            let directory = directory.to_le_bytes();
            let admit = |number: &u64| {
                let name = [directory, number.to_le_bytes()].concat();
                admitted.admit(Wanted { directory: &directory, name: &name, is_dated: false }, day)
            };
            (0..5000).filter(admit).count()
        };
        assert_eq!((all_of(0, day(0)), all_of(1, day(0)), all_of(2, day(0))), (500, 250, 125));
        assert_eq!((all_of(0, day(0)), all_of(3, day(0))), (500, 63), "those that it has stay");
        let rest: usize = (10..100).map(|directory| all_of(directory, day(0))).sum();
        assert_eq!(rest, MAX - 500 - 250 - 125 - 63, "all are used when there are enough directories");
        // Those of two directories occur again, and the others give their places back.
        assert_eq!((all_of(0, day(1)), all_of(1, day(1))), (500, 250));
        assert_eq!(all_of(5, day(2)), 125);
        assert_eq!(all_of(6, day(4)), 438, "of what was there before, only the last 125 are known");
    }

    #[test]
    fn dates_that_events_choose_take_no_places_of_values() {
        let admitted = Admitted::new(2);
        let dated = |name| Wanted { is_dated: true, ..value(name) };
        let all: [&[u8]; 3] = [b"1", b"2", b"3"];
        assert_eq!(all.into_iter().filter(|name| admitted.admit(dated(name), day(0))).count(), 2);
        assert_eq!(all.into_iter().filter(|name| admitted.admit(value(name), day(0))).count(), 2);
    }

    #[test]
    fn files_that_are_there_are_known_without_a_place_and_are_bounded() {
        let admitted = Admitted::new(2);
        assert!(admitted.admit(value(b"a"), day(0)) && admitted.admit(value(b"b"), day(0)));
        for name in [b"c", b"d", b"e"] {
            assert!(!admitted.admit(value(name), day(0)));
            admitted.has_file(value(name));
        }
        let known = |day| [b"c", b"d", b"e"].map(|name| admitted.admit(value(name), day));
        assert_eq!((known(day(0)), known(day(1))), ([true, true, false], [true, true, false]));
        assert_eq!(known(day(3)), [true; 3], "the third one takes a place that is free by then");
    }

    #[test]
    fn dates_are_chosen_by_events_if_they_are_old_or_ahead() {
        const DAY: i64 = 24 * 3600 * 1_000_000_000;
        let now = Timestamp(30 * DAY);
        for (date, expected) in [(30, false), (23, false), (22, true), (31, false), (32, true), (-100_000, true)] {
            assert_eq!(is_chosen(Timestamp(date * DAY), now), expected, "{date}");
        }
        assert!(is_chosen(Timestamp(i64::MAX), now) && is_chosen(Timestamp(i64::MIN), now));
    }
}
