//! How many files events may lead to: `max_paths`.
//!
//! Guarantees: in a day, no more than this many different values of the fields, or combinations of them, get new files. Those that had
//! one in the last day keep it whatever comes, and a file that is there needs no place. Dates around now do not count: each value may
//! have its files of every hour. Any other date is chosen by an event: no more than as many paths with such a date get
//! new files, and they take no place of values. First directories, or the values of `share_by`, share the places as the groups of
//! [`Distinct`] do. Outlives the openings of an output. Does not look at files, and starts again at zero with the process.
//! That no file is at a refused path is remembered for [`MISSING_FOR`], for [`MISSING_MAX`] paths, so that a flood of events for one does
//! not look for it each time.

use crate::outputs::distinct::Distinct;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How long a file that is not there is not looked for again, so that one that somebody makes is used soon.
const MISSING_FOR: Duration = Duration::from_secs(10);

/// Maximum number of such files.
const MISSING_MAX: usize = 4096;

/// What an event needs a place for.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// With whom it shares the places: the value of the first directory that depends on fields, or whose event it is.
    pub(super) group: &'a [u8],
    /// All values, or the path if its date counts.
    pub(super) name: &'a [u8],
    pub(super) is_dated: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Admitted {
    values: Mutex<Distinct>,
    dated: Mutex<Distinct>,
    /// When the files of refused paths were looked for.
    missing: Mutex<HashMap<Vec<u8>, Monotonic>>,
}

impl Admitted {
    /// Nothing yet, of at most `max`.
    pub(super) fn new(max: usize) -> Admitted {
        let places = || Mutex::new(Distinct::new(max));
        Admitted { values: places(), dated: places(), missing: Mutex::default() }
    }

    fn places<T>(&self, is_dated: bool, ask: impl FnOnce(&mut Distinct) -> T) -> T {
        let places = if is_dated { &self.dated } else { &self.values };
        // A poisoned lock is safe to use: no step of a change panics.
        ask(&mut places.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this may have a new file.
    pub(super) fn admit(&self, wanted: Wanted<'_>, now: Monotonic) -> bool {
        self.places(wanted.is_dated, |places| places.admit(wanted.group, wanted.name, now))
    }

    /// Notes that something without a place has a file, so that it may have the next one, of another date, as well.
    pub(super) fn has_file(&self, wanted: Wanted<'_>) {
        self.places(wanted.is_dated, |places| places.is_there(wanted.name));
    }

    fn missing(&self) -> MutexGuard<'_, HashMap<Vec<u8>, Monotonic>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is known that no file is at a refused path.
    pub(super) fn is_missing(&self, path: &[u8], now: Monotonic) -> bool {
        self.missing().get(path).is_some_and(|looked| now.since(*looked) < MISSING_FOR)
    }

    /// Notes that no file is at a refused path.
    pub(super) fn note_missing(&self, path: &[u8], now: Monotonic) {
        let mut missing = self.missing();
        // Whoever fills it has each of its paths looked for as often as without it.
        if missing.len() >= MISSING_MAX {
            missing.clear();
        }
        missing.insert(path.to_vec(), now);
    }

    /// Why the events of others are dead letters, and whether this is said for the first time in a while.
    pub(super) fn refusal(&self, is_dated: bool) -> (String, bool) {
        let (max, is_first) = self.places(is_dated, |places| (places.max(), places.is_news()));
        let why = match is_dated {
            true => format!(
                "`max_paths` ({max}) is reached: within a day, events with dates of more than 7 days ago, or more than a day ahead, led \
                 to too many different paths; raise it while you read old logs"
            ),
            false => format!(
                "`max_paths` ({max}) is reached: within a day, the fields of events led to too many different paths, or those of \
                 one first directory, or one value of `share_by`, to more than it leaves to the others; raise it, or use fields with \
                 fewer values in `path`"
            ),
        };
        (why, is_first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(name: &[u8]) -> Wanted<'_> {
        Wanted { group: name, name, is_dated: false }
    }

    #[test]
    fn dates_that_events_choose_take_no_places_of_values() {
        let admitted = Admitted::new(2);
        let dated = |name| Wanted { is_dated: true, ..value(name) };
        let all: [&[u8]; 3] = [b"1", b"2", b"3"];
        let now = Monotonic(0);
        assert_eq!(all.into_iter().filter(|name| admitted.admit(dated(name), now)).count(), 2);
        assert_eq!(all.into_iter().filter(|name| admitted.admit(value(name), now)).count(), 2);
        assert!(admitted.refusal(false).1 && !admitted.refusal(false).1 && admitted.refusal(true).1);
    }

    #[test]
    fn files_that_are_there_are_known_without_a_place() {
        let (admitted, now) = (Admitted::new(1), Monotonic(0));
        assert!(admitted.admit(value(b"a"), now) && !admitted.admit(value(b"b"), now));
        admitted.has_file(value(b"b"));
        assert!(admitted.admit(value(b"b"), now));
    }

    #[test]
    fn files_that_are_not_there_are_remembered_for_a_while_and_no_more_than_are_bounded() {
        let (admitted, now) = (Admitted::new(1), Monotonic(0));
        assert!(!admitted.is_missing(b"a", now));
        admitted.note_missing(b"a", now);
        assert!(admitted.is_missing(b"a", now) && !admitted.is_missing(b"b", now));
        assert!(!admitted.is_missing(b"a", now.after(MISSING_FOR)));
        (0..10 * MISSING_MAX).for_each(|number| admitted.note_missing(&number.to_le_bytes(), now));
        assert!(admitted.missing().len() <= MISSING_MAX);
    }

    #[test]
    fn directory_takes_no_more_places_than_it_leaves() {
        let (admitted, now) = (Admitted::new(4), Monotonic(0));
        let admit = |name: &[u8]| admitted.admit(Wanted { group: b"d", name, is_dated: false }, now);
        assert!(admit(b"1") && admit(b"2") && !admit(b"3"));
        assert!(admitted.admit(value(b"e"), now));
    }
}
