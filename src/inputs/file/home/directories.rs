//! What follows from a look at a directory.
//!
//! Guarantees: a subdirectory that may hold matches is scanned once, as far as it has room. If another directory is at a path now,
//! it is watched in place of the old one. A directory that is gone takes its names along. Does not decide which directory is looked
//! at (see [`super::sweep`]).

use super::super::discover::{Below, Found, Listed, Request, Scope, Stamp};
use super::super::scout::Refusal;
use super::Home;
use super::directory::Directory;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::Env;

/// Number of files that wait to be followed up to which the rest of a large directory is looked at without a pause.
const QUEUED_MAX: usize = 4 * 1024;

impl<E: Env> Home<'_, E> {
    pub(super) async fn apply(&mut self, request: Request, found: Found, more: &mut Vec<PathBuf>) {
        let directory = self.directories.get_mut(&request.directory);
        let is_late = directory.is_some_and(|directory| {
            directory.looks += 1;
            std::mem::take(&mut directory.is_first)
        });
        self.finds_first = is_late || !self.scanned;
        let (path, held_back) = (request.directory.clone(), self.first.held_back());
        self.apply_found(request, found, more).await;
        self.let_go_behind(held_back, &path);
    }

    async fn apply_found(&mut self, request: Request, found: Found, more: &mut Vec<PathBuf>) {
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
                self.apply_entries(&path, entries, &names).await;
            }
            Found::Named { entries, error } => {
                match error {
                    Some(error) => {
                        let what = "the directory cannot be read, so wildcards match nothing in it";
                        self.tell_once(&path, &error, what, "check its permissions");
                    }
                    None => {
                        self.told.forget(&path);
                    }
                }
                if let Some(directory) = self.directories.get_mut(&path) {
                    directory.stamp = None;
                }
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                self.apply_entries(&path, entries, &names).await;
            }
            Found::Looked { entries, gone, directories } => {
                for below in directories {
                    self.add_directory(below, &path, more);
                }
                let looked = entries.iter().map(|entry| entry.name.clone()).chain(gone).collect();
                self.apply_entries(&path, entries, &looked).await;
            }
            Found::Listed(listed) => {
                self.apply_listed(path.clone(), request.scope, *listed, more).await;
                // What was left out is found when it answers, although nothing changes here.
                if let Some(directory) = self.directories.get_mut(&path).filter(|_| !request.aside.is_empty()) {
                    directory.stamp = directory.stamp.map(Stamp::unsettled);
                }
            }
        }
    }

    async fn apply_listed(&mut self, path: PathBuf, scope: Scope, listed: Listed, more: &mut Vec<PathBuf>) {
        let Listed { stamp, gone, entries, directories, links, failed, more: others, more_refused, next } = listed;
        self.told.forget(&path);
        if let Some((below, error)) = &failed {
            self.tell_once(below, error, "the directory cannot be looked at", "check its file system; retrying");
        }
        self.note_links(&path, links, more_refused);
        self.renew_watch(&path, stamp);
        let is_scanned = self.directories.contains_key(&path);
        if is_scanned {
            self.inodes.is_at(stamp.inode(), &path);
        }
        let Some(directory) = self.directories.get_mut(&path) else { return };
        // All that wait are found again.
        directory.crowded = others;
        directory.skip = next.unwrap_or(0);
        if scope == Scope::All {
            directory.stamp = Some(if failed.is_some() { stamp.unsettled() } else { stamp });
        }
        let (before, is_first) = ((directory.names.len(), directory.below.len()), self.finds_first);
        for below in directories {
            self.add_directory(below, &path, more);
        }
        let looked = entries.iter().map(|entry| entry.name.clone()).chain(gone).collect();
        self.apply_entries(&path, entries, &looked).await;
        let Some(directory) = self.directories.get_mut(&path) else { return };
        directory.advances |= before != (directory.names.len(), directory.below.len());
        // More may have room. If none of all had, they wait until room is released.
        if others > 0 && (next.is_some() || std::mem::take(&mut directory.advances)) {
            directory.stamp = directory.stamp.map(Stamp::unsettled);
            // What the first look found too much of was there as well.
            directory.is_first |= is_first;
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
            self.watcher.want(path);
        }
    }

    fn add_directory(&mut self, below: Below, above: &Path, more: &mut Vec<PathBuf>) {
        let Below { path, link, owner, bytes } = below;
        if self.directories.contains_key(&path) {
            return;
        }
        // A link to a directory that is already scanned would lead in a circle.
        if link.is_some_and(|inode| self.inodes.has(inode)) {
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
        let (found_under, is_first) = (Some(above.to_path_buf()), self.scanned && self.finds_first);
        self.directories
            .insert(path.clone(), Directory { found_under, claim, is_first, bytes, owner, ..Directory::default() });
        more.push(path);
    }

    fn directory_missing(&mut self, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        let names = std::mem::take(&mut directory.names);
        let names = Arc::try_unwrap(names).unwrap_or_else(|names| (*names).clone());
        directory.stamp = None;
        let links = std::mem::take(&mut directory.links);
        directory.retry.clear();
        directory.refused.clear();
        directory.release_unused(&mut self.crowd.again);
        (directory.refused_more, directory.links_seen, directory.crowded) = (0, 0, 0);
        directory.skip = 0;
        let is_base = directory.found_under.is_none();
        for (name, named) in names {
            self.detach(&path.join(name), named);
        }
        links.iter().for_each(|name| self.watcher.forget_link(&path.join(name)));
        self.watcher.forget(path);
        if is_base {
            self.watcher.await_directory(path);
        } else if let Some(Directory { claim, found_under, .. }) = self.directories.remove(path) {
            self.inodes.is_gone(path);
            claim.into_iter().for_each(|claim| self.crowd.release_directory(claim));
            if let (Some(name), Some(parent)) = (path.file_name(), found_under)
                && let Some(parent) = self.directories.get_mut(&parent)
            {
                Arc::make_mut(&mut parent.below).remove(name);
            }
        }
    }
}
