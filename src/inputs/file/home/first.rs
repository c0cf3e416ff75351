//! The first scan: which directories it looks at next, and which of the files that it finds are followed before it is over.
//!
//! Guarantees: directories with few names come first, in turns of the trees; each one with many names is looked at by itself, after
//! some of the files that were found by then were followed. So whoever has few files at a start does not wait until the many
//! names of somebody else were listed and applied. A directory from which a file of an earlier run is missing is the exception:
//! what is in it is followed when the scan is over, because the missing file may have been moved anywhere, and may have older
//! lines or be the original of a copy.
//!
//! Does not look for what is missing (see [`super::missing`]).

use super::super::identity::Inode;
use super::missing::Inodes;
use super::sweep::{SWEEP_MAX, in_turns};
use super::{Home, Unknown};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use tailwater_shards::env::Env;

/// Length of a directory above which it may have many names.
const LARGE_BYTES: u64 = if cfg!(test) { 4096 } else { 32 * 1024 };

/// Batches of files that are followed before each look at a directory with many names.
const BATCHES: usize = 8;

/// See the module.
#[derive(Default)]
pub(super) struct First {
    /// Files of an earlier run, by the directories where they were last seen.
    expected: HashMap<PathBuf, Vec<Inode>>,
    /// What was found where one of them is missing.
    held_back: Vec<Unknown>,
    /// Batches that were followed since the last look at a directory with many names.
    batches: usize,
}

impl First {
    /// A file was in this directory when an earlier run ended.
    pub(super) fn expect(&mut self, directory: &Path, inode: Inode) {
        match self.expected.get_mut(directory) {
            Some(all) => all.push(inode),
            None => {
                self.expected.insert(directory.to_path_buf(), vec![inode]);
            }
        }
    }

    /// Number of files that are held back.
    pub(super) fn held_back(&self) -> usize {
        self.held_back.len()
    }

    /// Whether files that were found are followed before the next directory with many names.
    fn lets_files_pass(&mut self) -> bool {
        self.batches = (self.batches + 1) % (BATCHES + 1);
        self.batches != 0
    }
}

impl<E: Env> Home<'_, E> {
    /// Goes on with the first scan.
    pub(super) async fn scan_first(&mut self) {
        if self.sweep.is_empty() {
            self.sweep_again = false;
            self.scan_also(self.directories.keys().cloned().collect());
        }
        let small = self.sweep.iter().take(SWEEP_MAX).take_while(|path| !self.may_have_many(path)).count();
        if small == 0 && !self.unknown.is_empty() && self.first.lets_files_pass() {
            return;
        }
        let some: Vec<PathBuf> = self.sweep.drain(..small.max(1).min(self.sweep.len())).collect();
        let (slow, some): (Vec<PathBuf>, Vec<PathBuf>) =
            some.into_iter().partition(|path| self.owner.patience.was_slow(path));
        slow.into_iter().for_each(|path| self.look_beside(path));
        self.look_at_all(some).await;
        if self.sweep.is_empty() {
            self.find_missing().await;
            self.scanned = true;
            let held_back = std::mem::take(&mut self.first).held_back;
            held_back.into_iter().for_each(|unknown| self.must_follow(unknown));
        }
    }

    /// The first scan also looks at these directories.
    pub(super) fn scan_also(&mut self, more: Vec<PathBuf>) {
        if more.is_empty() {
            return;
        }
        let all: Vec<PathBuf> = self.sweep.drain(..).chain(more).collect();
        let (large, small): (Vec<&PathBuf>, Vec<&PathBuf>) = all.iter().partition(|path| self.may_have_many(path));
        let bytes = |path: &Path| self.directories.get(path).map_or(0, |one| one.bytes);
        let turns = |some: Vec<&PathBuf>| -> VecDeque<PathBuf> {
            let some = some.into_iter().map(|path| (bytes(path), path.as_path())).collect();
            in_turns(some, |path| self.patterns.tree_of_directory(path))
        };
        let turns = turns(small).into_iter().chain(turns(large)).collect();
        self.sweep = turns;
    }

    fn may_have_many(&self, path: &Path) -> bool {
        self.directories.get(path).is_some_and(|one| one.bytes > LARGE_BYTES)
    }

    /// A file was found that nobody follows.
    pub(super) fn found_unknown(&mut self, unknown: Unknown) {
        match self.scanned {
            true => self.must_follow(unknown),
            false => self.first.held_back.push(unknown),
        }
    }

    /// A directory was looked at. What was found there since so many were held back is followed now, unless a file of an earlier run
    /// is missing there.
    pub(super) fn let_go_behind(&mut self, held_back: usize, directory: &Path) {
        if !self.scanned && !self.lacks_a_file(directory) {
            let found = self.first.held_back.split_off(held_back);
            found.into_iter().for_each(|unknown| self.must_follow(unknown));
        }
    }

    fn lacks_a_file(&self, directory: &Path) -> bool {
        let Some(expected) = self.first.expected.get(directory) else { return false };
        let names = self.directories.get(directory).into_iter().flat_map(|directory| directory.names.values());
        let present = Inodes::of(names.map(|named| named.inode));
        expected.iter().any(|inode| !present.may_have(*inode))
    }
}
