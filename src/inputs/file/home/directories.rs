//! The scan of directories, and what follows from its results.
//!
//! Guarantees: a directory is watched before it is listed. If a name leads to a different inode than before, one file is gone
//! and another was found. An inode with two names is one file. Does not open files.

use super::super::away;
use super::super::content::FileOf;
use super::super::discover::{self, Entry, Found, Request, Stamp};
use super::super::identity::Inode;
use super::super::own::is_own;
use super::super::post::{FileId, ToOwner};
use super::super::scout::Refusal;
use super::{Directory, Home, Unknown};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{Env, ShardId, Stat};

/// Number of links that are checked in a directory every second. If there are more, they are checked in turn, each at most every
/// ten seconds.
const LINKS_EACH_TICK: usize = 100;

/// What was seen of the names in a directory.
#[derive(Default)]
struct Seen {
    /// What they lead to.
    now: HashMap<OsString, Stat>,
    /// Those that are not read because of links.
    refused: HashSet<OsString>,
}

impl<E: Env> Home<'_, E> {
    /// Checks all directories that may have changed.
    pub(super) async fn rescan(&mut self) {
        let bases: Vec<PathBuf> = self.patterns.bases.iter().map(|base| base.1.clone()).collect();
        for base in bases {
            self.directories.entry(base).or_default();
        }
        let all: Vec<PathBuf> = self.directories.keys().cloned().collect();
        let tick = self.ticks;
        let requests = all.into_iter().map(|path| {
            let directory = &self.directories[&path];
            let count = directory.links.len() + directory.refused.len();
            let links = directory.links.iter().chain(&directory.refused).enumerate();
            let every = count.div_ceil(LINKS_EACH_TICK).max(10) as u64;
            let due = |number: usize| count <= LINKS_EACH_TICK || (number as u64 + tick).is_multiple_of(every);
            let mut names: HashSet<OsString> =
                links.filter(|(number, _)| due(*number)).map(|(_, name)| name.clone()).collect();
            names.extend(directory.retry.iter().cloned());
            Request { stamp: directory.stamp, directory: path, names, known: None }
        });
        let requests = requests.collect();
        self.look(requests).await;
        if !self.scanned {
            self.find_missing().await;
            self.scanned = true;
        }
    }

    pub(super) async fn look_at_events(&mut self) {
        let mut events = self.watcher.take();
        self.touched.note(&mut events);
        if events.overflow {
            tracing::info!(component_id = %self.context.name, "watches overflowed: scanning all directories");
            for directory in self.directories.values_mut() {
                directory.stamp = directory.stamp.map(Stamp::unsettled);
            }
            self.rescan().await;
            return;
        }
        if events.ancestors || !events.gone.is_empty() {
            for path in events.gone {
                if let Some(directory) = self.directories.get_mut(&path) {
                    directory.stamp = None;
                }
            }
            self.rescan().await;
        }
        let requests = events.names.into_iter().filter_map(|(path, names)| {
            let directory = self.directories.get(&path)?;
            Some(Request {
                known: Some(directory.names.keys().cloned().collect()),
                stamp: None,
                directory: path,
                names,
            })
        });
        let requests: Vec<Request> = requests.collect();
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// Checks directories, then the directories found in them, and follows new files.
    async fn look(&mut self, mut requests: Vec<Request>) {
        while !requests.is_empty() {
            for request in &requests {
                // Watched before it is listed: a file that is created in between then shows up in at least one of the two.
                if self.watcher.watch(&request.directory) {
                    self.name_files(&request.directory);
                }
            }
            let disk = self.context.env.disk().clone();
            let patterns = self.patterns.clone();
            let wall = self.context.env.wall();
            let work = move || (discover::look(&disk, &patterns, &requests, wall), requests);
            let (found, asked) = self.context.env.blocking(work).await;
            requests = Vec::new();
            // A file that was released may have freed its inode number for one that was just found.
            self.read_mail();
            for (request, found) in asked.into_iter().zip(found) {
                self.apply(request, found, &mut requests);
            }
            self.say_changes();
            if self.scanned {
                self.follow_some().await;
            }
        }
        self.count_links();
        // Files that took the path of another one are followed first, but there may be many of them.
        if self.unknown.is_empty() || self.touched.is_full() {
            self.touched.clear();
        }
    }

    fn apply(&mut self, request: Request, found: Found, more: &mut Vec<Request>) {
        let path = request.directory;
        match found {
            Found::Missing => self.directory_missing(&path),
            Found::Failed(error) => {
                self.tell_once(&path, &error, "the directory cannot be read", "check its permissions");
            }
            Found::Same(entries) => {
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                self.apply_entries(&path, entries, &names, None);
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
                self.apply_entries(&path, entries, &names, None);
            }
            Found::Listed { stamp, present, entries, directories, links } => {
                self.told.remove(&path);
                self.note_links(&path, links, request.known.is_none());
                self.renew_watch(&path, stamp);
                for (below, identity) in directories {
                    self.add_directory(below, identity, &path, more);
                }
                let looked: HashSet<OsString> = match request.known {
                    Some(_) => request.names.into_iter().chain(entries.iter().map(|one| one.name.clone())).collect(),
                    None => {
                        if let Some(directory) = self.directories.get_mut(&path) {
                            directory.stamp = Some(stamp);
                        }
                        let known = self.directories.get(&path).into_iter().flat_map(|one| one.names.keys().cloned());
                        known.chain(present.iter().cloned()).collect()
                    }
                };
                self.apply_entries(&path, entries, &looked, Some(&present));
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
        let names = self.directories.get(path).into_iter().flat_map(|directory| &directory.names);
        for (name, inode) in names {
            self.name_file(&path.join(name), *inode);
        }
    }

    fn name_file(&self, path: &Path, inode: Inode) {
        if let Some(&id) = self.by_inode.get(&inode)
            && let Some(known) = self.files.get(&id)
        {
            self.watcher.name(path, id, known.shard);
        }
    }

    fn add_directory(&mut self, path: PathBuf, link: Option<Inode>, above: &Path, more: &mut Vec<Request>) {
        if self.directories.contains_key(&path) {
            return;
        }
        // A link to a directory that is already scanned would lead in a circle.
        let seen = |inode: Inode| self.directories.values().any(|one| one.stamp.is_some_and(|stamp| stamp.is(inode)));
        if link.is_some_and(seen) {
            return;
        }
        if self.directories.len() >= discover::DIRECTORIES_MAX {
            let error = io::Error::other(format!("more than {} directories match", discover::DIRECTORIES_MAX));
            return self.tell_once(&path, &error, "this directory is skipped", "use narrower include patterns");
        }
        self.directories
            .insert(path.clone(), Directory { found_under: Some(above.to_path_buf()), ..Directory::default() });
        more.push(Request { directory: path, stamp: None, names: HashSet::new(), known: None });
    }

    fn directory_missing(&mut self, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        let names = std::mem::take(&mut directory.names);
        directory.stamp = None;
        directory.links.clear();
        directory.retry.clear();
        directory.refused.clear();
        (directory.refused_more, directory.links_seen) = (0, 0);
        let is_base = directory.found_under.is_none();
        for (name, inode) in names {
            self.detach(&path.join(name), inode);
        }
        self.watcher.forget(path);
        if is_base {
            self.watcher.await_directory(path);
        } else {
            self.directories.remove(path);
        }
    }

    /// Applies the current inodes of names. `looked` holds the names that were checked; a name without an entry is gone.
    fn apply_entries(
        &mut self,
        path: &Path,
        entries: Vec<Entry>,
        looked: &HashSet<OsString>,
        present: Option<&HashSet<OsString>>,
    ) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        let mut seen = Seen::default();
        if let Some(present) = present {
            directory.retry.retain(|name| present.contains(name));
            directory.links.retain(|name| present.contains(name));
            directory.refused.retain(|name| present.contains(name));
        }
        for entry in entries {
            self.take_entry(path, &mut directory, entry, present, &mut seen);
        }
        for name in looked {
            let (old, found) = (directory.names.get(name).copied(), seen.now.get(name));
            let new = found.map(Inode::of);
            let skipped = present.is_some_and(|present| present.contains(name))
                && new.is_none()
                && !directory.retry.contains(name)
                && !seen.refused.contains(name);
            if old == new || skipped {
                continue;
            }
            let full = path.join(name);
            let mut replaces = None;
            if let Some(old) = old {
                directory.names.remove(name);
                // To change what a link leads to, the link itself is changed.
                replaces = self.detach(&full, old).filter(|_| !directory.links.contains(name));
            }
            if let (Some(new), Some(stat)) = (new, found) {
                directory.names.insert(name.clone(), new);
                self.attach(full, stat, replaces);
            }
        }
        self.directories.insert(path.to_path_buf(), directory);
    }

    /// Notes what a name leads to now.
    fn take_entry(
        &mut self,
        path: &Path,
        directory: &mut Directory,
        entry: Entry,
        present: Option<&HashSet<OsString>>,
        seen: &mut Seen,
    ) {
        directory.retry.remove(&entry.name);
        directory.refused.remove(&entry.name);
        let full = path.join(&entry.name);
        match &entry.target {
            Some(target) => {
                directory.links.insert(entry.name.clone());
                let new = self.watcher.name_target(target, &full);
                if let Some(&inode) = directory.names.get(&entry.name).filter(|_| new) {
                    self.name_file(&full, inode);
                }
            }
            None => {
                directory.links.remove(&entry.name);
            }
        }
        let is_followed = |stat: &Stat| {
            let inode = Inode::of(stat);
            directory.names.get(&entry.name) == Some(&inode) && self.by_inode.contains_key(&inode)
        };
        match entry.stat {
            Ok(stat) => {
                seen.now.insert(entry.name, stat);
            }
            Err(error) => match Refusal::of(&error) {
                // It got another name, and is read on under this one.
                Some(Refusal::HardLink(stat)) if is_followed(stat) => {
                    seen.now.insert(entry.name, *stat);
                }
                Some(refusal) => {
                    self.tell_of_link(&full, refusal);
                    seen.refused.insert(entry.name.clone());
                    directory.refuse(entry.name);
                }
                None => {
                    // A dangling link may get a target without a change in this directory.
                    if present.is_none_or(|present| present.contains(&entry.name)) {
                        directory.retry.insert(entry.name);
                    }
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
    fn detach(&mut self, path: &Path, inode: Inode) -> Option<FileId> {
        self.watcher.unname(path);
        self.told.remove(path);
        self.awaited.remove(path);
        let id = *self.by_inode.get(&inode).or_else(|| self.offered.get(&inode))?;
        let known = self.files.get_mut(&id)?;
        known.paths.remove(path);
        self.changed.insert(id);
        Some(id)
    }

    pub(super) fn attach(&mut self, path: PathBuf, stat: &Stat, replaces: Option<FileId>) {
        let inode = Inode::of(stat);
        match self.by_inode.get(&inode) {
            Some(&id) => {
                if let Some(known) = self.files.get_mut(&id) {
                    self.watcher.name(&path, id, known.shard);
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
