//! Which directories are looked at next: those that a scan has not reached yet, and those with events.
//!
//! Guarantees: a directory is watched before it is listed. A scan that has begun reaches every directory, in parts between which
//! other work is done. Trees take turns, and so do the directories with events: those with few names come first, so nobody waits for
//! the many names or directories of somebody else. Directories with many names, and slow ones, are listed one at a time in each tree while
//! everything else goes on.
//! Does not say how the first scan proceeds (see [`super::first`]), and does not apply what was found (see [`super::directories`]).

use super::super::discover::{self, Checked, Look, Request, Scope, Stamp};
use super::super::patience::{BRIEF, Limit, SLOW, Work};
use super::super::watcher::{self, Wanted};
use super::Home;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Env;

/// Number of links that are checked in a directory every second. If there are more, they are checked in turn, each at most every
/// ten seconds.
const LINKS_EACH_TICK: usize = 100;

/// Number of names in a directory, and of directories with events, up to which each directory with an event is listed. Beyond, only
/// the names in the events are looked at.
const LISTED_NAMES_MAX: usize = if cfg!(test) { 64 } else { 1024 };
const LISTED_DIRECTORIES_MAX: usize = 64;

/// Number of directories that are checked before other work is done, and of those with many names.
pub(super) const SWEEP_MAX: usize = 250;
const LARGE_MAX: usize = 16;

/// Number of directories that are checked first after events were lost. The rest of each turn is for a scan that goes on.
const FIRST_MAX: usize = SWEEP_MAX / 4;

impl<E: Env> Home<'_, E> {
    /// Checks all directories that may have changed.
    pub(super) fn rescan(&mut self) {
        let bases: Vec<PathBuf> = self.patterns.bases.iter().map(|base| base.1.clone()).collect();
        for base in bases {
            self.directories.entry(base).or_default();
        }
        self.sweep_again = true;
    }

    /// Checks a number of the directories that are still to be checked.
    pub(super) async fn sweep_some(&mut self) {
        // A scan that has begun goes on to its end, so that no directory is always among those that are left.
        if self.sweep.is_empty() && std::mem::take(&mut self.sweep_again) {
            let all = self.directories.iter().map(|(path, one)| (one.size(), path.as_path())).collect();
            self.sweep = in_turns(all, |path| self.patterns.tree_of_directory(path));
        }
        let some = self.sweep.len().min(SWEEP_MAX);
        let all: Vec<PathBuf> = self.sweep.drain(..some).collect();
        let (large, others): (Vec<PathBuf>, Vec<PathBuf>) = all.into_iter().partition(|path| self.is_large(path));
        for path in large {
            self.look_beside(path);
        }
        self.look_at_all(others).await;
    }

    pub(super) async fn look_at_all(&mut self, all: Vec<PathBuf>) {
        let requests: Vec<Request> = all.into_iter().filter_map(|path| self.request(path)).collect();
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// Whether listing a directory may take so long that others do not wait for it.
    fn is_large(&self, path: &Path) -> bool {
        let has_many = || self.directories.get(path).is_some_and(|one| one.size() > LISTED_NAMES_MAX as u64);
        has_many() || self.owner.patience.was_slow(path)
    }

    /// Later checks a directory in any case, beside everything else.
    fn look_later(&mut self, path: PathBuf) {
        if let Some(directory) = self.directories.get_mut(&path) {
            directory.stamp = None;
            self.look_beside(path);
        }
    }

    pub(super) fn look_beside(&mut self, path: PathBuf) {
        if let Some(directory) = self.directories.get_mut(&path) {
            directory.is_first |= !self.scanned;
        }
        let tree = self.patterns.tree_of_directory(&path);
        let _ = self.large.add(tree, path, ());
    }

    /// Checks directories with many names, or that are slow, one in each tree, until one of them takes a while.
    pub(super) async fn look_at_large(&mut self) {
        for _ in 0..LARGE_MAX {
            let patience = self.owner.patience.clone();
            let Some((path, ())) = self.large.take(|path| patience.is_slow(path)) else { return };
            if let Some(request) = self.request(path) {
                self.look_within(BRIEF, vec![request]).await;
            }
        }
    }

    /// Whether such directories can be checked now.
    pub(super) fn has_large(&mut self) -> bool {
        let patience = &self.owner.patience;
        self.large.has_next(|path| patience.is_slow(path))
    }

    /// A look at a directory, as far as it has changed.
    fn request(&self, path: PathBuf) -> Option<Request> {
        let (directory, tick) = (self.directories.get(&path)?, self.ticks);
        if self.owner.patience.is_aside(&path) {
            return None;
        }
        let count = directory.links.len() + directory.refused.len();
        let links = directory.links.iter().chain(&directory.refused).enumerate();
        let every = count.div_ceil(LINKS_EACH_TICK).max(10) as u64;
        let due = |number: usize| count <= LINKS_EACH_TICK || (number as u64 + tick).is_multiple_of(every);
        let mut names: HashSet<OsString> =
            links.filter(|(number, _)| due(*number)).map(|(_, name)| name.clone()).collect();
        names.extend(directory.retry.iter().cloned());
        let aside = self.owner.patience.names_aside(&path);
        names.retain(|name| !aside.contains(name));
        Some(Request {
            stamp: directory.stamp,
            watch: !self.watcher.is_known(&path),
            directory: path,
            names,
            aside,
            known: directory.names.clone(),
            below: directory.below.clone(),
            scope: Scope::All,
            skip: directory.skip,
        })
    }

    pub(super) async fn look_at_events(&mut self) {
        // What is being listed is not looked at meanwhile. Its events wait for the end.
        let patience = self.owner.patience.clone();
        let mut events = self.watcher.take(|path| patience.is_slow(path));
        self.touched.note(&mut events);
        if events.overflow {
            tracing::info!(component_id = %self.context.name, "watches overflowed: scanning all directories");
            for directory in self.directories.values_mut() {
                directory.stamp = directory.stamp.map(Stamp::unsettled);
            }
            self.sweep_again = true;
            self.sweep_small_first();
            return;
        }
        if events.ancestors || !events.gone.is_empty() {
            for path in events.gone {
                if let Some(directory) = self.directories.get_mut(&path) {
                    directory.stamp = None;
                }
            }
            self.sweep_again = true;
        }
        let are_many = events.names.len() > LISTED_DIRECTORIES_MAX;
        let requests = events.names.into_iter().filter_map(|(path, mut names)| {
            let directory = self.directories.get_mut(&path)?;
            if self.owner.patience.is_aside(&path) {
                directory.stamp = None;
                return None;
            }
            let aside = self.owner.patience.names_aside(&path);
            names.retain(|name| !aside.contains(name));
            let is_large = are_many || directory.names.len() + names.len() > LISTED_NAMES_MAX || directory.crowded > 0;
            Some(Request {
                stamp: None,
                watch: !self.watcher.is_known(&path),
                directory: path,
                names,
                aside,
                known: directory.names.clone(),
                below: directory.below.clone(),
                scope: if is_large { Scope::Named } else { Scope::New },
                skip: 0,
            })
        });
        let mut requests: Vec<Request> = requests.collect();
        requests.sort_by_key(|request| request.names.len());
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// Events of all were lost, but most are of those who make many: the first directories of each tree are checked before what is left
    /// of a scan.
    fn sweep_small_first(&mut self) {
        let small = self.directories.iter().filter(|one| one.1.size() <= LISTED_NAMES_MAX as u64);
        let all = small.map(|(path, one)| (one.size(), path.as_path())).collect();
        put_first(&mut self.sweep, in_turns(all, |path| self.patterns.tree_of_directory(path)));
    }

    /// Checks directories, as many as are few enough names together, and follows new files. The others are checked next, and
    /// directories that were found last.
    async fn look(&mut self, requests: Vec<Request>) {
        let (slow, others): (Vec<Request>, Vec<Request>) =
            requests.into_iter().partition(|request| self.owner.patience.was_slow(&request.directory));
        if !others.is_empty() {
            self.look_within(SLOW, others).await;
        }
        for request in slow {
            match self.owner.patience.is_tree_busy(&request.directory) {
                true => self.look_later(request.directory),
                false => self.look_within(BRIEF, vec![request]).await,
            }
        }
    }

    async fn look_within(&mut self, limit: Limit, requests: Vec<Request>) {
        let paths: Vec<PathBuf> = requests.iter().map(|request| request.directory.clone()).collect();
        let (disk, patterns) = (self.context.env.disk().clone(), self.patterns.clone());
        let memory = Some(self.memory.clone()).filter(|_| !self.scanned);
        let adder = if requests.iter().any(|request| request.watch) { self.watcher.adder() } else { None };
        let look = Look { requests, wall: self.context.env.wall(), memory, adder };
        let work = move |work: &Work<Checked>| discover::look(&disk, &patterns, look, work);
        let (done, late) = self.owner.patience.attend(limit, work).await;
        // A look also ends after a number of names: then nothing of it is late, and all that is left is checked next.
        let mut left = paths.into_iter().skip(done.len());
        if let Some(late) = late
            && let Some(slow) = left.next()
        {
            self.leave_directory(slow, late);
        }
        let left = left.collect();
        self.conclude(done, left).await;
    }

    /// Applies what was found. `left` is checked next.
    pub(super) async fn conclude(&mut self, all: Vec<Checked>, left: Vec<PathBuf>) {
        // A file that was released may have freed its inode number for one that was just found.
        self.read_mail();
        let mut more = Vec::new();
        for Checked { request, watch, found } in all {
            if let Some(watch) = watch
                && self.watcher.added(&request.directory, watch)
            {
                self.name_files(&request.directory);
            }
            self.apply(request, found, &mut more).await;
        }
        left.into_iter().rev().for_each(|path| self.sweep.push_front(path));
        match self.scanned {
            true => self.sweep.extend(more),
            false => self.scan_also(more),
        }
        self.watch_wanted().await;
        self.say_changes();
        if self.scanned {
            self.follow_some().await;
        }
        self.count_links();
        self.count_crowded();
        // Files that took the path of another one are followed first, but there may be many of them.
        if self.unknown.is_empty() && self.sweep.is_empty() && !self.watcher.has_events() || self.touched.is_full() {
            self.touched.clear();
        }
    }

    /// Watches what is to be watched in addition to the directories that are looked at.
    async fn watch_wanted(&mut self) {
        let wanted = self.watcher.take_wanted(|path| self.owner.patience.is_aside(path));
        if wanted.is_empty() {
            return;
        }
        let patience = self.owner.patience.clone();
        let (slow, others): (Vec<Wanted>, Vec<Wanted>) =
            wanted.into_iter().partition(|wanted| patience.was_slow(wanted.path()));
        if !others.is_empty() {
            self.watch_within(SLOW, others).await;
        }
        for wanted in slow {
            match patience.is_tree_busy(wanted.path()) {
                true => self.watcher.want_again(wanted),
                false => self.watch_within(BRIEF, vec![wanted]).await,
            }
        }
    }

    async fn watch_within(&mut self, limit: Limit, wanted: Vec<Wanted>) {
        let Some(adder) = self.watcher.adder() else { return };
        let paths = wanted.clone();
        let work = move |work: &Work<_>| watcher::add_all(&adder, paths, work);
        let (done, late) = self.owner.patience.attend(limit, work).await;
        let mut left = wanted.into_iter().skip(done.len());
        if let Some(late) = late
            && let Some(slow) = left.next()
        {
            // Without the watch, changes there are found by polling.
            self.owner.patience.leave(slow.path().to_path_buf(), late, |_| {});
        }
        left.for_each(|wanted| self.watcher.want_again(wanted));
        for (wanted, directory, added) in done {
            for path in self.watcher.added_wanted(&wanted, &directory, added) {
                self.name_link(&path);
            }
        }
    }
}

/// Directories with their numbers of names, in the order in which they are checked: one of each tree, then the next one of each,
/// and those with few names first.
pub(super) fn in_turns(mut all: Vec<(u64, &Path)>, tree: impl Fn(&Path) -> PathBuf) -> VecDeque<PathBuf> {
    all.sort_unstable();
    let mut trees: HashMap<PathBuf, usize> = HashMap::new();
    let mut turns: Vec<(usize, &Path)> = Vec::with_capacity(all.len());
    for (_, path) in all {
        let taken = trees.entry(tree(path)).or_default();
        turns.push((*taken, path));
        *taken += 1;
    }
    turns.sort_by_key(|turn| turn.0);
    turns.into_iter().map(|(_, path)| path.to_path_buf()).collect()
}

/// Puts the first few of these directories before those that are to be checked.
fn put_first(sweep: &mut VecDeque<PathBuf>, first: VecDeque<PathBuf>) {
    first.into_iter().take(FIRST_MAX).rev().for_each(|path| sweep.push_front(path));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_of_each_tree_comes_before_the_rest_of_a_scan_that_still_goes_on() {
        let many: Vec<PathBuf> = (0..1000).map(|number| PathBuf::from(format!("/log/eve/{number:03}"))).collect();
        let mut sweep: VecDeque<PathBuf> = many.iter().skip(400).cloned().collect();
        for turn in 0..8 {
            let mut all: Vec<(u64, &Path)> = many.iter().map(|path| (1, path.as_path())).collect();
            all.push((10, Path::new("/log/app")));
            put_first(&mut sweep, in_turns(all, |path| path.iter().take(3).collect()));
            let checked: Vec<PathBuf> = sweep.drain(..SWEEP_MAX.min(sweep.len())).collect();
            assert!(checked.iter().take(2).any(|path| path == Path::new("/log/app")), "turn {turn}");
        }
        assert!(sweep.is_empty(), "{} are left although events were lost each time", sweep.len());
    }

    #[test]
    fn trees_take_turns_and_directories_with_few_names_come_first() {
        let many: Vec<PathBuf> = (0..100).map(|number| PathBuf::from(format!("/log/eve/{number:02}"))).collect();
        let mut all: Vec<(u64, &Path)> = many.iter().map(|path| (1, path.as_path())).collect();
        all.insert(50, (10, Path::new("/log/app")));
        all.insert(0, (1000, Path::new("/log/eve")));
        let turns = in_turns(all, |path| path.iter().take(3).collect());
        assert_eq!(turns.len(), 102);
        assert!(turns.iter().take(2).any(|path| path == Path::new("/log/app")), "{turns:?}");
        assert_eq!(turns.back().map(PathBuf::as_path), Some(Path::new("/log/eve")));
    }
}
