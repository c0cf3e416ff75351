//! Names in directories, and the followed files that they lead to.
//!
//! Guarantees: if a name leads to a different inode than before, one file is gone and another was found. An inode with two names is
//! one file. The owner of a file is told when its path changes or none is left. Does not open files.

use super::super::away;
use super::super::content::FileOf;
use super::super::discover::{self, Entry, Named};
use super::super::identity::Inode;
use super::super::own::is_own;
use super::super::post::{FileId, ToOwner};
use super::super::scout::Refusal;
use super::directory::Directory;
use super::{Home, Unknown};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Env, ShardId, Stat};

/// Number of names after which files that are followed are read before the next names are applied.
const APPLIED_AT_ONCE: usize = if cfg!(test) { 16 } else { 256 };

/// Gives the reader a turn after a number of names: strangers decide how many there are.
async fn pause_after(number: usize) {
    if number % APPLIED_AT_ONCE == APPLIED_AT_ONCE - 1 {
        futures_lite::future::yield_now().await;
    }
}

impl<E: Env> Home<'_, E> {
    /// Tells a new watch which followed files are in its directory.
    pub(super) fn name_files(&self, path: &Path) {
        let names = self.directories.get(path).into_iter().flat_map(|directory| directory.names.iter());
        for (name, named) in names {
            self.name_file(&path.join(name), named.inode);
        }
    }

    /// Tells a new watch of the directory where a link leads which followed file that is.
    pub(super) fn name_link(&self, link: &Path) {
        let directory = link.parent().and_then(|directory| self.directories.get(directory));
        let named = directory.zip(link.file_name()).and_then(|(directory, name)| directory.names.get(name));
        named.into_iter().for_each(|named| self.name_file(link, named.inode));
    }

    fn name_file(&self, path: &Path, inode: Inode) {
        if let Some(&id) = self.by_inode.get(&inode)
            && let Some(known) = self.files.get(&id)
        {
            self.watcher.name(path, id, known.shard);
        }
    }

    /// Applies the current inodes of names. `looked` holds the names that were checked; a name without an entry is gone.
    pub(super) async fn apply_entries(&mut self, path: &Path, entries: Vec<Entry>, looked: &HashSet<OsString>) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        let site = self.site(path);
        let mut seen: HashMap<OsString, Stat> = HashMap::new();
        let mut links = Vec::new();
        for name in looked {
            directory.retry.remove(name);
            links.extend(directory.links.take(name));
            directory.refused.remove(name);
        }
        for (number, entry) in entries.into_iter().enumerate() {
            pause_after(number).await;
            self.take_entry(path, &mut directory, entry, &mut seen);
        }
        for name in links.iter().filter(|name| !directory.links.contains(*name)) {
            self.watcher.forget_link(&path.join(name));
        }
        // A file that was renamed takes the room of its old name along.
        let (there, gone): (Vec<_>, Vec<_>) = looked.iter().partition(|name| seen.contains_key(*name));
        for (number, name) in gone.into_iter().chain(there).enumerate() {
            pause_after(number).await;
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
                match self.admit(site, &full, stat, replaces.is_some()) {
                    Some(claim) => {
                        Arc::make_mut(&mut directory.names).insert(name.clone(), Named { inode: new, claim });
                        self.attach(full, stat, replaces);
                    }
                    None => self.wait_for_room(&mut directory, name, full),
                }
            }
        }
        directory.release_unused(&mut self.crowd.again);
        self.directories.insert(path.to_path_buf(), directory);
    }

    /// Notes what a name leads to now.
    fn take_entry(&mut self, path: &Path, directory: &mut Directory, entry: Entry, seen: &mut HashMap<OsString, Stat>) {
        directory.retry.remove(&entry.name);
        directory.refused.remove(&entry.name);
        let full = path.join(&entry.name);
        if let Some(target) = &entry.target {
            directory.links.insert(entry.name.clone());
            let new = self.watcher.name_target(target, &full);
            let is_same = |named: &&Named| entry.stat.as_ref().is_ok_and(|stat| named.inode == Inode::of(stat));
            if let Some(named) = directory.names.get(&entry.name).filter(is_same).filter(|_| new) {
                self.name_file(&full, named.inode);
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
                    directory.refuse(path, entry.name, &mut self.crowd.again);
                }
                None => {
                    // A dangling link may get a target without a change in this directory.
                    directory.retry_later(path, &entry.name, &mut self.crowd.again);
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
    pub(super) fn detach(&mut self, path: &Path, named: Named) -> Option<FileId> {
        let Named { inode, claim } = named;
        self.watcher.unname(path);
        self.told.forget(path);
        self.crowd.ends_wait(path);
        let id = self.by_inode.get(&inode).or_else(|| self.offered.get(&inode)).copied();
        match id.and_then(|id| self.files.get_mut(&id)) {
            Some(known) => known.paths.remove(path),
            None => {
                self.crowd.lost_name(inode, claim);
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
                let (modified, owner, first) = (stat.modified, stat.owner, self.finds_first);
                self.found_unknown(Unknown { path, inode, modified, owner, replaces, first });
            }
        }
    }

    /// A file waits to be followed.
    pub(super) fn must_follow(&mut self, unknown: Unknown) {
        let twice = self.unknown.push(unknown);
        self.is_no_replacement(twice.and_then(|one| one.replaces));
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
