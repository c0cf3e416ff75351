//! Files that cannot be used although nothing is wrong with their paths: somebody holds them, withdrew permissions, or changes them
//! all the time. Each concerns one file, and the other files of the output must not wait for it.
//!
//! Guarantees: an output whose paths come from events waits for such files for [`WAIT`] in [`WAIT_AGAIN`] at most, all of them
//! together. A file that interrupted the output [`OFFENCES_MAX`] times is left out for [`WAIT_AGAIN`]. What is remembered is bounded by
//! [`FILES_MAX`], and survives that the output goes back to its last commit. Does not decide what concerns one file only.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How long an output waits for its files: whoever holds one may be about to end.
pub(super) const WAIT: Duration = Duration::from_secs(10);

/// How long it does not wait again after that, and how long a file is remembered.
pub(super) const WAIT_AGAIN: Duration = Duration::from_secs(600);

/// How often a file may interrupt the output.
pub(super) const OFFENCES_MAX: u32 = 3;

/// Maximum number of files that are remembered.
const FILES_MAX: usize = 1024;

/// What one output knows about its files.
#[derive(Debug, Default)]
pub struct Blocked(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waits_since: Option<Monotonic>,
    files: BTreeMap<Vec<u8>, File>,
}

#[derive(Debug)]
struct File {
    /// Its last event or offence.
    seen: Monotonic,
    offences: u32,
    /// Its events are dead letters.
    is_refused: bool,
}

impl Inner {
    /// The entry of a file, unless there are too many.
    fn file(&mut self, path: &[u8], now: Monotonic) -> Option<&mut File> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(path) {
            return None;
        }
        let file = self.files.entry(path.to_vec()).or_insert(File { seen: now, offences: 0, is_refused: false });
        file.seen = now;
        Some(file)
    }
}

impl Blocked {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A poisoned lock is safe to use: no step of a change panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the output may wait for a file now. Begins the wait if none began lately.
    pub(super) fn may_wait(&self, now: Monotonic) -> bool {
        let mut inner = self.inner();
        match inner.waits_since.map(|since| now.since(since)) {
            Some(waited) if waited < WAIT_AGAIN => waited < WAIT,
            _ => {
                inner.waits_since = Some(now);
                true
            }
        }
    }

    /// Notes that events of a file are dead letters. Returns whether that is new.
    pub(super) fn refuse(&self, path: &[u8], now: Monotonic) -> bool {
        self.inner().file(path, now).is_some_and(|file| !std::mem::replace(&mut file.is_refused, true))
    }

    /// Notes that a file is used again.
    pub(super) fn clear(&self, path: &[u8]) {
        let mut inner = self.inner();
        let is_forgotten = inner.files.get_mut(path).is_some_and(|file| {
            file.is_refused = false;
            file.offences == 0
        });
        if is_forgotten {
            inner.files.remove(path);
        }
    }

    /// Notes that a file made the output go back to its last commit.
    pub(super) fn offend(&self, path: &[u8], now: Monotonic) {
        if let Some(file) = self.inner().file(path, now) {
            file.offences += 1;
        }
    }

    /// Whether a file did that so often that it is left out.
    pub(super) fn is_barred(&self, path: &[u8]) -> bool {
        self.inner().files.get(path).is_some_and(|file| file.offences >= OFFENCES_MAX)
    }

    /// Forgets what is long ago, and returns how many files are refused.
    pub(super) fn count(&self, now: Monotonic) -> usize {
        let mut inner = self.inner();
        inner.files.retain(|_, file| now.since(file.seen) < WAIT_AGAIN);
        inner.files.values().filter(|file| file.is_refused).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: Duration) -> Monotonic {
        Monotonic(0).after(time)
    }

    #[test]
    fn output_waits_once_in_a_while_for_all_files_together() {
        let blocked = Blocked::default();
        let second = Duration::from_secs(1);
        for (time, may_wait) in [
            (Duration::ZERO, true),
            (WAIT - second, true),
            (WAIT, false),
            (WAIT_AGAIN - second, false),
            (WAIT_AGAIN, true),
            (WAIT_AGAIN + WAIT, false),
        ] {
            assert_eq!(blocked.may_wait(at(time)), may_wait, "{time:?}");
        }
    }

    #[test]
    fn file_that_interrupts_too_often_is_left_out_for_a_while() {
        let blocked = Blocked::default();
        for times in 1..=OFFENCES_MAX {
            assert!(!blocked.is_barred(b"x"));
            blocked.offend(b"x", at(Duration::from_secs(u64::from(times))));
            blocked.clear(b"x");
        }
        assert!(blocked.is_barred(b"x") && !blocked.is_barred(b"y"));
        blocked.count(at(WAIT_AGAIN));
        assert!(blocked.is_barred(b"x"));
        blocked.count(at(WAIT_AGAIN * 2));
        assert!(!blocked.is_barred(b"x"));
    }

    #[test]
    fn no_more_is_remembered_than_is_bounded_and_each_file_is_new_once() {
        let blocked = Blocked::default();
        let now = at(Duration::ZERO);
        assert!(blocked.refuse(b"x", now) && !blocked.refuse(b"x", now));
        blocked.clear(b"x");
        assert_eq!(blocked.count(now), 0);
        let new = (0..3000).filter(|number: &u32| blocked.refuse(&number.to_le_bytes(), now)).count();
        assert_eq!((new, blocked.count(now)), (FILES_MAX, FILES_MAX));
        assert_eq!(blocked.count(at(WAIT_AGAIN)), 0);
    }
}
