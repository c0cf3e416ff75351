//! Files that cannot be used although nothing is wrong with their paths: somebody holds them, withdrew permissions, or changes them
//! all the time. Each concerns one file, and the other files of the output must not wait for it.
//!
//! Guarantees: an output whose paths come from events waits for such files for [`WAIT`] in [`WAIT_AGAIN`] at most, all of them
//! together. A file that interrupted the output [`OFFENCES_MAX`] times is left out until it has not done so for [`WAIT_AGAIN`], and so
//! are all files of a tree of others that did [`OFFENCES_OF_TREE_MAX`] times: whoever has one file may have thousands. What is
//! remembered is bounded by [`FILES_MAX`], and survives that the output goes back to its last commit. Does not decide what concerns
//! one file only.

use super::judge::Writers;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tailwater_shards::env::Monotonic;

/// How long an output waits for its files: whoever holds one may be about to end.
pub(super) const WAIT: Duration = Duration::from_secs(10);

/// How long it does not wait again after that, and how long a file is remembered.
pub(super) const WAIT_AGAIN: Duration = Duration::from_secs(600);

/// How often a file may interrupt the output.
pub(super) const OFFENCES_MAX: u32 = 3;

/// How often the files of one tree may, all together.
pub(super) const OFFENCES_OF_TREE_MAX: u32 = 12;

/// Maximum number of files that are remembered, and of trees.
const FILES_MAX: usize = 1024;

/// What one output knows about its files.
#[derive(Debug, Default)]
pub struct Blocked(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    waits_since: Option<Monotonic>,
    files: BTreeMap<Vec<u8>, File>,
    trees: BTreeMap<PathBuf, Offences>,
    reads: BTreeMap<Writers, Read>,
}

/// How much was read of the files of an owner, and since when.
#[derive(Debug)]
struct Read {
    bytes: u64,
    since: Monotonic,
}

/// How often the output went back to its last commit because of something, and when it did last.
#[derive(Clone, Copy, Debug)]
struct Offences {
    count: u32,
    last: Monotonic,
}

impl Offences {
    fn one_more(self, now: Monotonic) -> Offences {
        Offences { count: self.count.saturating_add(1), last: now }
    }

    fn are_long_ago(&self, now: Monotonic) -> bool {
        now.since(self.last) >= WAIT_AGAIN
    }
}

#[derive(Debug)]
struct File {
    /// Its last event.
    seen: Monotonic,
    offences: Option<Offences>,
    /// Its events are dead letters.
    is_refused: bool,
}

impl Inner {
    /// The entry of a file, unless there are too many.
    fn file(&mut self, path: &[u8], now: Monotonic) -> Option<&mut File> {
        if self.files.len() >= FILES_MAX && !self.files.contains_key(path) {
            return None;
        }
        let file = self.files.entry(path.to_vec()).or_insert(File { seen: now, offences: None, is_refused: false });
        file.seen = now;
        Some(file)
    }

    /// Under whose name it is noted what is read: those without a place share one, because a user may have very many numbers (user
    /// namespaces).
    fn reader(&self, writers: Writers) -> Writers {
        if self.reads.len() < FILES_MAX || self.reads.contains_key(&writers) { writers } else { Writers::Nobody }
    }

    fn forget(&mut self, now: Monotonic) {
        self.reads.retain(|_, read| now.since(read.since) < WAIT_AGAIN);
        self.trees.retain(|_, offences| !offences.are_long_ago(now));
        self.files.retain(|_, file| {
            // Events alone do not keep a file out.
            file.offences = file.offences.filter(|offences| !offences.are_long_ago(now));
            file.offences.is_some() || now.since(file.seen) < WAIT_AGAIN
        });
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
            file.offences.is_none()
        });
        if is_forgotten {
            inner.files.remove(path);
        }
    }

    /// Notes that a file, in a tree of others if there is one, made the output go back to its last commit.
    pub(super) fn offend(&self, path: &[u8], tree: Option<&Path>, now: Monotonic) {
        let mut inner = self.inner();
        let first = Offences { count: 0, last: now };
        if let Some(file) = inner.file(path, now) {
            file.offences = Some(file.offences.unwrap_or(first).one_more(now));
        }
        let Some(tree) = tree else { return };
        if inner.trees.len() < FILES_MAX || inner.trees.contains_key(tree) {
            let known = inner.trees.entry(tree.to_owned()).or_insert(first);
            *known = known.one_more(now);
        }
    }

    /// Whether a file did that so often that it is left out, or the files of its tree together. `tree` is only asked if any did.
    pub(super) fn is_barred<'a>(&self, path: &[u8], tree: impl FnOnce() -> Option<&'a Path>) -> bool {
        let has = |offences: Option<&Offences>, max: u32| offences.is_some_and(|offences| offences.count >= max);
        let (is_file, any_tree) = {
            let inner = self.inner();
            let file = inner.files.get(path).and_then(|file| file.offences.as_ref());
            let mut trees = inner.trees.values();
            (has(file, OFFENCES_MAX), trees.any(|tree| has(Some(tree), OFFENCES_OF_TREE_MAX)))
        };
        // The lock is free while the disk is asked.
        is_file || any_tree && tree().is_some_and(|tree| has(self.inner().trees.get(tree), OFFENCES_OF_TREE_MAX))
    }

    /// How many bytes of the files that these can write to were read lately.
    pub(super) fn read(&self, writers: Writers, now: Monotonic) -> u64 {
        let mut inner = self.inner();
        inner.forget(now);
        inner.reads.get(&inner.reader(writers)).map_or(0, |read| read.bytes)
    }

    /// Notes that more of them were read.
    pub(super) fn add_read(&self, writers: Writers, bytes: u64, now: Monotonic) {
        let mut inner = self.inner();
        let reader = inner.reader(writers);
        let read = inner.reads.entry(reader).or_insert(Read { bytes: 0, since: now });
        read.bytes = read.bytes.saturating_add(bytes);
    }

    /// Forgets what is long ago, and returns how many files are refused.
    pub(super) fn count(&self, now: Monotonic) -> usize {
        let mut inner = self.inner();
        inner.forget(now);
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

    /// Events for the file keep coming all the time.
    #[test]
    fn file_that_interrupts_too_often_is_left_out_for_a_while() {
        let blocked = Blocked::default();
        let is_barred = |path: &[u8]| blocked.is_barred(path, || None);
        for times in 1..=OFFENCES_MAX {
            assert!(!is_barred(b"x"));
            blocked.offend(b"x", None, at(Duration::from_secs(u64::from(times))));
            blocked.clear(b"x");
        }
        assert!(is_barred(b"x") && !is_barred(b"y"));
        for time in [WAIT_AGAIN / 2, WAIT_AGAIN] {
            blocked.refuse(b"x", at(time));
            blocked.count(at(time));
            assert!(is_barred(b"x"));
        }
        let later = at(WAIT_AGAIN + Duration::from_secs(u64::from(OFFENCES_MAX)));
        blocked.refuse(b"x", later);
        assert_eq!(blocked.count(later), 1);
        assert!(!is_barred(b"x"), "it is tried again");
    }

    #[test]
    fn what_was_read_of_an_owner_counts_for_a_while() {
        let blocked = Blocked::default();
        let (one, other) = (Writers::Others { owner: 8, bits: 0 }, Writers::Others { owner: 9, bits: 0 });
        let (now, soon) = (at(Duration::ZERO), at(WAIT_AGAIN - Duration::from_secs(1)));
        blocked.add_read(one, 5, now);
        blocked.add_read(one, 6, soon);
        assert_eq!((blocked.read(one, soon), blocked.read(other, soon)), (11, 0));
        assert_eq!(blocked.read(one, at(WAIT_AGAIN)), 0);
    }

    #[test]
    fn what_was_read_of_very_many_owners_is_bounded() {
        let blocked = Blocked::default();
        let now = at(Duration::ZERO);
        let owner = |number: usize| Writers::Others { owner: number as u32, bits: 0 };
        (0..2 * FILES_MAX).for_each(|number| blocked.add_read(owner(number), 1, now));
        assert!(blocked.inner().reads.len() <= FILES_MAX + 1);
        let read = [0, FILES_MAX, 3 * FILES_MAX].map(|number| blocked.read(owner(number), now));
        assert_eq!(read, [1, FILES_MAX as u64, FILES_MAX as u64], "those without a place share one");
    }

    /// Also if so many files are refused that no further one is remembered.
    #[test]
    fn files_of_a_tree_are_left_out_together() {
        let blocked = Blocked::default();
        let now = at(Duration::ZERO);
        let (his, other) = (Path::new("/out/his"), Path::new("/out/other"));
        for number in 0..FILES_MAX as u32 {
            blocked.refuse(&number.to_le_bytes(), now);
        }
        for number in 0..OFFENCES_OF_TREE_MAX {
            assert!(!blocked.is_barred(b"/out/his/new", || Some(his)), "{number}");
            blocked.offend(format!("/out/his/{number}").as_bytes(), Some(his), now);
        }
        assert!(blocked.is_barred(b"/out/his/new", || Some(his)));
        assert!(!blocked.is_barred(b"/out/other/x", || Some(other)) && !blocked.is_barred(b"/out/x", || None));
        blocked.count(at(WAIT_AGAIN));
        assert!(!blocked.is_barred(b"/out/his/new", || Some(his)));
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
