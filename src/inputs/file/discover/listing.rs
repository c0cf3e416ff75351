//! The names of a directory, while they are listed.
//!
//! Guarantees: what is kept is bounded by the names that are known, by the number of new names that one look checks and returns,
//! and by limits per user. What is beyond is counted, and returned by later looks.

use super::super::identity::{Inode, Memory};
use super::super::scout::{Place, Scout, Spot};
use super::{Below, Entry, Found, LinksSeen, Listed, REFUSED_MAX, Request, Scope, Stamp, entry};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{DirEntry, Disk, FileKind, Stat};

/// Number of new names in a directory that are checked in one look; what is behind them, in the next one.
const CHECKED_MAX: u64 = if cfg!(test) { 100 } else { 64 * 1024 };

/// Number of new names that one look at a directory returns, and how many of them may belong to one user.
const NEW_MAX: usize = if cfg!(test) { 80 } else { 16 * 1024 };
const NEW_OF_OWNER_MAX: u64 = if cfg!(test) { 40 } else { 4 * 1024 };

/// See the module.
pub(super) struct Listing<'a, D: Disk> {
    scout: &'a Scout<'a, D>,
    request: &'a Request,
    place: &'a Place<D::Located>,
    memory: Option<&'a Memory>,
    /// Names that are known or were requested.
    seen: HashSet<OsString>,
    entries: Vec<Entry>,
    directories: Vec<Below>,
    links: LinksSeen,
    /// Number of new names and subdirectories of each user.
    owners: HashMap<u32, u64>,
    pub(super) visited: usize,
    /// Number of wanted names that are not known, and of those that were checked.
    new: u64,
    checked: u64,
    more: u64,
    refused: u64,
}

impl<'a, D: Disk> Listing<'a, D> {
    pub(super) fn new(
        scout: &'a Scout<'a, D>,
        request: &'a Request,
        place: &'a Place<D::Located>,
        memory: Option<&'a Memory>,
    ) -> Listing<'a, D> {
        Listing {
            scout,
            request,
            place,
            memory,
            seen: HashSet::new(),
            entries: Vec::new(),
            directories: Vec::new(),
            links: LinksSeen::default(),
            owners: HashMap::new(),
            visited: 0,
            new: 0,
            checked: 0,
            more: 0,
            refused: 0,
        }
    }

    pub(super) fn visit(&mut self, found: DirEntry) {
        self.visited += 1;
        let (scout, request) = (self.scout, self.request);
        let path = request.directory.join(&found.name);
        let (as_file, as_directory) = (scout.patterns.wants_file(&path), scout.patterns.wants_directory(&path));
        if found.directory {
            if as_directory && !request.below.contains(&found.name) {
                self.visit_directory(path, &found.name);
            }
            return;
        }
        if !(as_file || found.link && as_directory) {
            return;
        }
        if found.link && !scout.patterns.links.follow {
            return self.links.add(found.name);
        }
        if found.link
            && as_directory
            && let Ok(Spot { stat, .. }) = scout.find_in(self.place, &found.name)
            && stat.kind == FileKind::Directory
        {
            self.add_directory(Below { path, link: Some(Inode::of(&stat)), owner: stat.owner });
            return;
        }
        self.visit_file(found, as_file);
    }

    fn visit_file(&mut self, found: DirEntry, as_file: bool) {
        let request = self.request;
        let (known, is_requested) = (request.known.get(&found.name), request.names.contains(&found.name));
        let is_new = known.is_none() && !is_requested;
        if !is_new {
            self.seen.insert(found.name.clone());
        } else if !self.is_checked() {
            self.more += 1;
            return;
        }
        if known.is_some() && !is_requested && request.scope == Scope::New {
            return;
        }
        let entry = entry(self.scout, self.place, found.name, Some(found.link));
        // A link that only a directory could be wanted for, and that leads to none.
        if !as_file && entry.refusal().is_none() {
            return;
        }
        if is_new && entry.refusal().is_some() {
            self.refused += 1;
            if self.refused <= REFUSED_MAX {
                self.entries.push(entry);
            }
            return;
        }
        let is_same = |stat: &Stat| known.is_some_and(|known| known.inode == Inode::of(stat));
        if !is_requested && entry.target.is_none() && entry.stat.as_ref().is_ok_and(is_same) {
            return;
        }
        let is_remembered = |stat: &Stat| self.memory.is_some_and(|memory| memory.has_inode(stat.inode));
        if is_new
            && let Ok(stat) = &entry.stat
            && !is_remembered(stat)
            && !self.is_within_limit(stat.owner)
        {
            self.more += 1;
            return;
        }
        self.entries.push(entry);
    }

    /// Whether the next new name is to be checked: they are checked in turns if there are too many.
    fn is_checked(&mut self) -> bool {
        self.new += 1;
        // At a start, what an earlier run read is not known before it was checked.
        let is_first = self.memory.is_some();
        let is_checked = is_first || self.new > self.request.skip && self.checked < CHECKED_MAX;
        self.checked += u64::from(is_checked);
        is_checked
    }

    /// Counts a new name of a user. Returns whether it may be one of those that are returned.
    fn is_within_limit(&mut self, owner: u32) -> bool {
        if self.entries.len() + self.directories.len() >= NEW_MAX || self.owners.len() >= NEW_MAX {
            return false;
        }
        let of_owner = self.owners.entry(owner).or_default();
        *of_owner += 1;
        *of_owner <= NEW_OF_OWNER_MAX
    }

    fn visit_directory(&mut self, path: PathBuf, name: &OsStr) {
        if !self.is_checked() {
            self.more += 1;
        } else if let Ok(stat) = self.place.handle.stat_name(name)
            && stat.kind == FileKind::Directory
        {
            self.add_directory(Below { path, link: None, owner: stat.owner });
        }
    }

    fn add_directory(&mut self, below: Below) {
        if self.request.below.contains(below.path.file_name().unwrap_or_default()) {
            return;
        }
        match self.is_within_limit(below.owner) {
            true => self.directories.push(below),
            false => self.more += 1,
        }
    }

    pub(super) fn end(self, stamp: Stamp) -> Found {
        let (request, seen) = (self.request, self.seen);
        let gone = request.known.keys().chain(&request.names).filter(|name| !seen.contains(*name)).cloned().collect();
        let last = request.skip + self.checked;
        Found::Listed(Box::new(Listed {
            stamp,
            gone,
            entries: self.entries,
            directories: self.directories,
            links: self.links,
            more: self.more,
            more_refused: self.refused.saturating_sub(REFUSED_MAX),
            next: (last < self.new).then_some(last),
        }))
    }
}
