//! The scan of directories, and what follows from its results.
//!
//! Guarantees: a directory is watched before it is listed. If a name leads to a different inode than before, one file is gone
//! and another was found. An inode with two names is one file. Does not open files.

use super::super::away;
use super::super::content::FileOf;
use super::super::discover::{self, Below, Entry, Found, Listed, Named, Request, Scope, Stamp};
use super::super::identity::Inode;
use super::super::own::is_own;
use super::super::post::{FileId, ToOwner};
use super::super::scout::Refusal;
use super::{Directory, Home, Unknown};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Env, ShardId, Stat};

/// Number of links that are checked in a directory every second. If there are more, they are checked in turn, each at most every
/// ten seconds.
const LINKS_EACH_TICK: usize = 100;

/// Number of names in a directory, and of directories with events, up to which each directory with an event is listed. Beyond, only
/// the names in the events are looked at.
const LISTED_NAMES_MAX: usize = if cfg!(test) { 64 } else { 1024 };
const LISTED_DIRECTORIES_MAX: usize = 64;

/// Number of files that wait to be followed up to which the rest of a large directory is looked at without a pause.
const QUEUED_MAX: usize = 4 * 1024;

/// Number of directories that are checked before other work is done.
const SWEEP_MAX: usize = 1000;

impl<E: Env> Home<'_, E> {
    /// Checks all directories that may have changed.
    pub(super) async fn rescan(&mut self) {
        let bases: Vec<PathBuf> = self.patterns.bases.iter().map(|base| base.1.clone()).collect();
        for base in bases {
            self.directories.entry(base).or_default();
        }
        self.sweep_again = true;
        if !self.scanned {
            self.sweep_some().await;
            while !self.sweep.is_empty() {
                self.sweep_some().await;
            }
            self.find_missing().await;
            self.scanned = true;
        }
    }

    /// Checks a number of the directories that are still to be checked.
    pub(super) async fn sweep_some(&mut self) {
        // A scan that has begun goes on to its end, so that no directory is always among those that are left.
        if self.sweep.is_empty() && std::mem::take(&mut self.sweep_again) {
            self.sweep.extend(self.directories.keys().cloned());
        }
        let some = self.sweep.len().min(SWEEP_MAX);
        let all: Vec<PathBuf> = self.sweep.drain(..some).collect();
        let requests: Vec<Request> = all.into_iter().filter_map(|path| self.request(path)).collect();
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// A look at a directory, as far as it has changed.
    fn request(&self, path: PathBuf) -> Option<Request> {
        let (directory, tick) = (self.directories.get(&path)?, self.ticks);
        let count = directory.links.len() + directory.refused.len();
        let links = directory.links.iter().chain(&directory.refused).enumerate();
        let every = count.div_ceil(LINKS_EACH_TICK).max(10) as u64;
        let due = |number: usize| count <= LINKS_EACH_TICK || (number as u64 + tick).is_multiple_of(every);
        let mut names: HashSet<OsString> =
            links.filter(|(number, _)| due(*number)).map(|(_, name)| name.clone()).collect();
        names.extend(directory.retry.iter().cloned());
        Some(Request {
            stamp: directory.stamp,
            directory: path,
            names,
            known: directory.names.clone(),
            below: directory.below.clone(),
            scope: Scope::All,
            skip: directory.skip,
        })
    }

    pub(super) async fn look_at_events(&mut self) {
        let mut events = self.watcher.take();
        self.touched.note(&mut events);
        if events.overflow {
            tracing::info!(component_id = %self.context.name, "watches overflowed: scanning all directories");
            for directory in self.directories.values_mut() {
                directory.stamp = directory.stamp.map(Stamp::unsettled);
            }
            self.sweep_again = true;
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
        let requests = events.names.into_iter().filter_map(|(path, names)| {
            let directory = self.directories.get(&path)?;
            let is_large = are_many || directory.names.len() > LISTED_NAMES_MAX || directory.crowded > 0;
            Some(Request {
                stamp: None,
                directory: path,
                names,
                known: directory.names.clone(),
                below: directory.below.clone(),
                scope: if is_large { Scope::Named } else { Scope::New },
                skip: 0,
            })
        });
        let requests: Vec<Request> = requests.collect();
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// Checks directories, as many as are few enough names together, and follows new files. The others, and directories found in
    /// them, are checked next.
    async fn look(&mut self, mut requests: Vec<Request>) {
        for request in &requests {
            // Watched before it is listed: a file that is created in between then shows up in at least one of the two.
            if self.watcher.watch(&request.directory) {
                self.name_files(&request.directory);
            }
        }
        let disk = self.context.env.disk().clone();
        let patterns = self.patterns.clone();
        let wall = self.context.env.wall();
        let memory = Some(self.memory.clone()).filter(|_| !self.scanned);
        let work = move || {
            let found = discover::look(&disk, &patterns, &requests, wall, memory.as_deref());
            // What is known may be changed again.
            requests.iter_mut().for_each(|request| (request.known, request.below) = Default::default());
            (found, requests)
        };
        let (found, asked) = self.context.env.blocking(work).await;
        // A file that was released may have freed its inode number for one that was just found.
        self.read_mail();
        let (mut asked, mut more) = (asked.into_iter(), Vec::new());
        for found in found {
            if let Some(request) = asked.next() {
                self.apply(request, found, &mut more);
            }
        }
        more.extend(asked.map(|request| request.directory));
        more.into_iter().rev().for_each(|path| self.sweep.push_front(path));
        self.say_changes();
        if self.scanned {
            self.follow_some().await;
        }
        self.count_links();
        self.count_crowded();
        // Files that took the path of another one are followed first, but there may be many of them.
        if self.unknown.is_empty() && self.sweep.is_empty() || self.touched.is_full() {
            self.touched.clear();
        }
    }

    fn apply(&mut self, request: Request, found: Found, more: &mut Vec<PathBuf>) {
        let path = request.directory;
        match found {
            Found::Missing => self.directory_missing(&path),
            Found::Refused(error) => {
                let is_base = self.directories.get(&path).is_some_and(|directory| directory.found_under.is_none());
                if let Some(refusal) = Refusal::of(&error).filter(|_| is_base) {
                    self.tell_once(&path, &error, "nothing is read there", refusal.help());
                }
                self.directory_missing(&path);
            }
            Found::Failed(error) => {
                self.tell_once(&path, &error, "the directory cannot be read", "check its permissions");
            }
            Found::Same(entries) => {
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                self.apply_entries(&path, entries, &names);
            }
            Found::Named { entries, error } => {
                match error {
                    Some(error) => {
                        let what = "the directory cannot be read, so wildcards match nothing in it";
                        self.tell_once(&path, &error, what, "check its permissions");
                    }
                    None => {
                        self.told.remove(&path);
                    }
                }
                if let Some(directory) = self.directories.get_mut(&path) {
                    directory.stamp = None;
                }
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                self.apply_entries(&path, entries, &names);
            }
            Found::Looked { entries, gone, directories } => {
                for below in directories {
                    self.add_directory(below, &path, more);
                }
                let looked = entries.iter().map(|entry| entry.name.clone()).chain(gone).collect();
                self.apply_entries(&path, entries, &looked);
            }
            Found::Listed(listed) => self.apply_listed(path, request.scope, *listed, more),
        }
    }

    fn apply_listed(&mut self, path: PathBuf, scope: Scope, listed: Listed, more: &mut Vec<PathBuf>) {
        let Listed { stamp, gone, entries, directories, links, more: others, more_refused, next } = listed;
        self.told.remove(&path);
        self.note_links(&path, links, more_refused);
        self.renew_watch(&path, stamp);
        let Some(directory) = self.directories.get_mut(&path) else { return };
        // All that wait are found again.
        directory.crowded = others;
        directory.skip = next.unwrap_or(0);
        if scope == Scope::All {
            directory.stamp = Some(stamp);
        }
        let before = (directory.names.len(), directory.below.len());
        for below in directories {
            self.add_directory(below, &path, more);
        }
        let looked = entries.iter().map(|entry| entry.name.clone()).chain(gone).collect();
        self.apply_entries(&path, entries, &looked);
        let Some(directory) = self.directories.get_mut(&path) else { return };
        directory.advances |= before != (directory.names.len(), directory.below.len());
        // More may have room. If none of all had, they wait until room is released.
        if others > 0 && (next.is_some() || std::mem::take(&mut directory.advances)) {
            directory.stamp = directory.stamp.map(Stamp::unsettled);
            if self.scanned && self.unknown.len() < QUEUED_MAX {
                self.sweep.push_back(path);
            }
        }
    }

    /// If another directory is now at this path, the watch is gone with the old one.
    fn renew_watch(&mut self, path: &Path, stamp: Stamp) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        if directory.stamp.is_some_and(|last| !last.is_same_directory(&stamp)) {
            directory.stamp = None;
            self.watcher.forget(path);
            if self.watcher.watch(path) {
                self.name_files(path);
            }
        }
    }

    /// Tells a new watch which followed files are in its directory.
    fn name_files(&self, path: &Path) {
        let names = self.directories.get(path).into_iter().flat_map(|directory| directory.names.iter());
        for (name, named) in names {
            self.name_file(&path.join(name), named.inode);
        }
    }

    fn name_file(&self, path: &Path, inode: Inode) {
        if let Some(&id) = self.by_inode.get(&inode)
            && let Some(known) = self.files.get(&id)
        {
            self.watcher.name(path, id, known.shard);
        }
    }

    fn add_directory(&mut self, below: Below, above: &Path, more: &mut Vec<PathBuf>) {
        let Below { path, link, owner } = below;
        if self.directories.contains_key(&path) {
            return;
        }
        // A link to a directory that is already scanned would lead in a circle.
        let seen = |inode: Inode| self.directories.values().any(|one| one.stamp.is_some_and(|stamp| stamp.is(inode)));
        if link.is_some_and(seen) {
            return;
        }
        let claim = self.admit_directory(&path, owner);
        let Some(parent) = self.directories.get_mut(above) else {
            claim.into_iter().for_each(|claim| self.crowd.release_directory(claim));
            return;
        };
        if claim.is_none() {
            parent.crowded += 1;
            return self.crowd.is_waiting(path);
        }
        Arc::make_mut(&mut parent.below).extend(path.file_name().map(OsStr::to_os_string));
        let found_under = Some(above.to_path_buf());
        self.directories.insert(path.clone(), Directory { found_under, claim, ..Directory::default() });
        more.push(path);
    }

    fn directory_missing(&mut self, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        let names = std::mem::take(&mut directory.names);
        let names = Arc::try_unwrap(names).unwrap_or_else(|names| (*names).clone());
        directory.stamp = None;
        directory.links.clear();
        directory.retry.clear();
        directory.refused.clear();
        (directory.refused_more, directory.links_seen, directory.crowded) = (0, 0, 0);
        directory.skip = 0;
        let is_base = directory.found_under.is_none();
        for (name, named) in names {
            self.detach(&path.join(name), named);
        }
        self.watcher.forget(path);
        if is_base {
            self.watcher.await_directory(path);
        } else if let Some(Directory { claim, found_under, .. }) = self.directories.remove(path) {
            claim.into_iter().for_each(|claim| self.crowd.release_directory(claim));
            if let (Some(name), Some(parent)) = (path.file_name(), found_under)
                && let Some(parent) = self.directories.get_mut(&parent)
            {
                Arc::make_mut(&mut parent.below).remove(name);
            }
        }
    }

    /// Applies the current inodes of names. `looked` holds the names that were checked; a name without an entry is gone.
    fn apply_entries(&mut self, path: &Path, entries: Vec<Entry>, looked: &HashSet<OsString>) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        let mut seen: HashMap<OsString, Stat> = HashMap::new();
        for name in looked {
            directory.retry.remove(name);
            directory.links.remove(name);
            directory.refused.remove(name);
        }
        for entry in entries {
            self.take_entry(path, &mut directory, entry, &mut seen);
        }
        for name in looked {
            let (old, found) = (directory.names.get(name).copied(), seen.get(name));
            let new = found.map(Inode::of);
            if old.map(|named| named.inode) == new {
                continue;
            }
            let full = path.join(name);
            let mut replaces = None;
            if let Some(old) = old {
                Arc::make_mut(&mut directory.names).remove(name);
                // To change what a link leads to, the link itself is changed.
                replaces = self.detach(&full, old).filter(|_| !directory.links.contains(name));
            }
            if let (Some(new), Some(stat)) = (new, found) {
                match self.admit(&full, stat) {
                    Some(claim) => {
                        Arc::make_mut(&mut directory.names).insert(name.clone(), Named { inode: new, claim });
                        self.attach(full, stat, replaces);
                    }
                    None => self.wait_for_room(&mut directory, full),
                }
            }
        }
        self.directories.insert(path.to_path_buf(), directory);
    }

    /// Notes what a name leads to now.
    fn take_entry(&mut self, path: &Path, directory: &mut Directory, entry: Entry, seen: &mut HashMap<OsString, Stat>) {
        directory.retry.remove(&entry.name);
        directory.refused.remove(&entry.name);
        let full = path.join(&entry.name);
        match &entry.target {
            Some(target) => {
                directory.links.insert(entry.name.clone());
                let new = self.watcher.name_target(target, &full);
                if let Some(named) = directory.names.get(&entry.name).filter(|_| new) {
                    self.name_file(&full, named.inode);
                }
            }
            None => {
                directory.links.remove(&entry.name);
            }
        }
        let is_followed = |stat: &Stat| {
            let inode = Inode::of(stat);
            directory.names.get(&entry.name).is_some_and(|named| named.inode == inode)
                && self.by_inode.contains_key(&inode)
        };
        if let Some(Refusal::HardLink(stat)) = entry.refusal()
            && self.by_inode.contains_key(&Inode::of(stat))
        {
            // It was read before it got another name, so that name may be its only one later.
            self.patterns.suspects.clear(stat);
        }
        match entry.stat {
            Ok(stat) => {
                seen.insert(entry.name, stat);
            }
            Err(error) => match Refusal::of(&error) {
                // It got another name, and is read on under this one.
                Some(Refusal::HardLink(stat)) if is_followed(stat) => {
                    seen.insert(entry.name, *stat);
                }
                Some(refusal) => {
                    self.tell_of_link(&full, refusal);
                    directory.refuse(entry.name);
                }
                None => {
                    // A dangling link may get a target without a change in this directory.
                    directory.retry_later(&entry.name);
                    if is_own(&error) {
                        let next = "`exclude` it, or let the output write to another file";
                        self.tell_once(&full, &error, "it is skipped", next);
                    } else if !discover::is_absent(&error) {
                        self.tell_once(&full, &error, "its metadata cannot be read", "retrying every second");
                    }
                }
            },
        }
    }

    /// A path no longer leads to this inode. Returns the file that was followed under it.
    fn detach(&mut self, path: &Path, named: Named) -> Option<FileId> {
        let Named { inode, claim } = named;
        self.watcher.unname(path);
        self.told.remove(path);
        self.awaited.remove(path);
        let id = self.by_inode.get(&inode).or_else(|| self.offered.get(&inode)).copied();
        match id.and_then(|id| self.files.get_mut(&id)) {
            Some(known) => known.paths.remove(path),
            None => {
                self.crowd.release(claim);
                return None;
            }
        };
        let id = id?;
        self.keep_room(id, claim);
        self.changed.insert(id);
        Some(id)
    }

    pub(super) fn attach(&mut self, path: PathBuf, stat: &Stat, replaces: Option<FileId>) {
        let inode = Inode::of(stat);
        match self.by_inode.get(&inode) {
            Some(&id) => {
                if let Some(known) = self.files.get_mut(&id) {
                    self.watcher.name(&path, id, known.shard);
                    Self::has_room_by_name(&mut self.crowd, known);
                    known.paths.insert(path);
                    self.changed.insert(id);
                }
            }
            None => {
                if let Some(known) = replaces.and_then(|id| self.files.get_mut(&id)) {
                    known.replacing += 1;
                }
                let (modified, owner, first) = (stat.modified, stat.owner, !self.scanned);
                let twice = self.unknown.push(Unknown { path, inode, modified, owner, replaces, first });
                self.is_no_replacement(twice.and_then(|one| one.replaces));
            }
        }
    }

    /// Informs the owners of files whose path changed or that have no path any more.
    pub(super) fn say_changes(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            let Some(known) = self.files.get_mut(&id) else { continue };
            let message = match known.paths.first() {
                None if known.away || known.replacing > 0 => continue,
                None => {
                    known.away = true;
                    self.watcher.add_away(id, known.shard);
                    ToOwner::Away(id)
                }
                Some(_) if !known.away && known.paths.contains(&known.path) => continue,
                Some(path) => {
                    known.away = false;
                    known.path.clone_from(path);
                    ToOwner::Moved(id, path.clone())
                }
            };
            let shard = known.shard;
            self.tell(shard, message);
        }
    }

    pub(super) fn tell(&self, shard: ShardId, message: ToOwner<FileOf<E>>) {
        match shard {
            ShardId(0) => away::obey(&self.owner, message),
            shard => self.post.send(shard, message),
        }
    }
}
