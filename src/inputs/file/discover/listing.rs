//! The names of a directory, while they are listed.
//!
//! Guarantees: what is kept is bounded by the names that are known, by the number of new names that one look checks and returns,
//! and by limits per user. What is beyond is counted, and returned by later looks. Outside of these limits is one new name for each
//! file that is known under another name or from an earlier run, so files that are renamed are seen to be gone and found in the same
//! look, however many they are.

use super::super::identity::{Inode, Memory};
use super::super::scout::{Place, Scout, Spot};
use super::{Below, Entry, Found, LinksSeen, Listed, REFUSED_MAX, Request, Scope, Stamp, entry, is_absent};
use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{DirEntry, Disk, FileKind, Stat};

/// Number of new names in a directory that are checked in one look; what is behind them, in the next one.
const CHECKED_MAX: u64 = if cfg!(test) { 100 } else { 16 * 1024 };

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
    /// The inode numbers of the names that are known, once a new name was seen.
    known: OnceCell<HashSet<u64>>,
    /// Those of files that continue under a new name.
    continued: HashSet<u64>,
    entries: Vec<Entry>,
    directories: Vec<Below>,
    links: LinksSeen,
    /// A subdirectory that cannot be looked at now.
    failed: Option<(PathBuf, io::Error)>,
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
            known: OnceCell::new(),
            continued: HashSet::new(),
            entries: Vec::new(),
            directories: Vec::new(),
            links: LinksSeen::default(),
            failed: None,
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
        if self.request.aside.contains(&found.name) {
            self.seen.insert(found.name);
            return;
        }
        self.visit_name(found);
        // The next name comes from the directory.
        self.scout.step(&self.request.directory, OsStr::new(""));
    }

    fn visit_name(&mut self, found: DirEntry) {
        let (scout, request) = (self.scout, self.request);
        if found.directory {
            if !request.below.contains(&found.name) {
                self.visit_directory(&found.name);
            }
            return;
        }
        // What is known is wanted, and comparing names with patterns costs more than all the rest.
        if !found.link && request.known.contains_key(&found.name) {
            return self.visit_file(found, true);
        }
        let path = request.directory.join(&found.name);
        let as_directory = found.link && scout.patterns.wants_directory(&path);
        let as_file = scout.patterns.wants_file(&path);
        if !as_file && !as_directory {
            return;
        }
        if found.link && !scout.patterns.links.follow {
            return self.links.add(found.name);
        }
        scout.step(&request.directory, &found.name);
        if as_directory
            && let Ok(Spot { stat, .. }) = scout.find_in(self.place, &found.name)
            && stat.kind == FileKind::Directory
        {
            self.add_directory(Below::new(path, Some(Inode::of(&stat)), &stat));
            return;
        }
        self.visit_file(found, as_file);
    }

    fn visit_file(&mut self, found: DirEntry, as_file: bool) {
        let request = self.request;
        let (known, is_requested) = (request.known.get(&found.name), request.names.contains(&found.name));
        let is_new = known.is_none() && !is_requested;
        let is_continued = is_new && self.is_continued(found.inode);
        if !is_new {
            self.seen.insert(found.name.clone());
        } else if !is_continued && !self.is_checked() {
            self.more += 1;
            return;
        }
        if known.is_some() && !is_requested && request.scope == Scope::New {
            return;
        }
        let entry = entry(self.scout, request, self.place, found.name, Some(found.link));
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
        if is_new
            && !is_continued
            && let Ok(stat) = &entry.stat
            && !(entry.target.is_some() && self.is_continued(stat.inode))
            && !self.is_within_limit(stat.owner)
        {
            self.more += 1;
            return;
        }
        self.entries.push(entry);
    }

    /// Whether a file with this inode number is known under another name or from an earlier run. Only its first new name counts:
    /// a file can have any number of them.
    fn is_continued(&mut self, inode: u64) -> bool {
        let request = self.request;
        let known = self.known.get_or_init(|| request.known.values().map(|named| named.inode.number).collect());
        let is_known = known.contains(&inode) || self.memory.is_some_and(|memory| memory.has_inode(inode));
        is_known && self.continued.insert(inode)
    }

    /// Whether the next new name is to be checked: they are checked in turns if there are too many.
    fn is_checked(&mut self) -> bool {
        self.new += 1;
        let is_checked = self.new > self.request.skip && self.checked < CHECKED_MAX;
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

    fn visit_directory(&mut self, name: &OsStr) {
        let path = self.request.directory.join(name);
        if !self.scout.patterns.wants_directory(&path) {
            return;
        }
        if !self.is_checked() {
            self.more += 1;
            return;
        }
        self.scout.step(&self.request.directory, name);
        match self.place.handle.stat_name(name) {
            Ok(stat) if stat.kind == FileKind::Directory => {
                self.add_directory(Below::new(path, None, &stat));
            }
            Err(error) if !is_absent(&error) => self.failed = Some((path, error)),
            _ => {}
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
            failed: self.failed,
            more: self.more,
            more_refused: self.refused.saturating_sub(REFUSED_MAX),
            next: (last < self.new).then_some(last),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::patience::work_through;
    use super::super::super::patterns::Patterns;
    use super::super::{Checked, Look, Named, Names};
    use super::*;
    use crate::config::room::{Held, Place as Room};
    use std::path::Path;
    use std::sync::Arc;
    use tailwater_shards::env::Timestamp;
    use tailwater_shards::sim::SimDisk;

    #[test]
    fn files_that_are_renamed_are_gone_and_found_in_one_look() {
        let disk = SimDisk::new(1);
        let outside = disk.outside();
        outside.create_dir_all("/log").expect("made");
        let mut held = Held::in_room(Arc::default());
        let place = Room { owner: 0, site: held.room().site(Path::new("/log"), Path::new("/log")) };
        let mut known = Names::new();
        for number in 0..300 {
            let path = format!("/log/{number}");
            outside.write(&path, b"line\n").expect("written");
            let inode = Inode::of(&outside.stat(&path).expect("there"));
            known.insert(number.to_string().into(), Named { inode, claim: held.reserve(place.site, 1) });
            outside.rename(&path, format!("/log/new-{number}")).expect("renamed");
            // Others wait behind the limits.
            outside.write(format!("/log/other-{number}"), b"line\n").expect("written");
        }
        let patterns = Patterns::new(&["/log/*".to_owned()], &[], Path::new("/")).expect("a glob");
        let request = Request {
            directory: "/log".into(),
            stamp: None,
            names: HashSet::new(),
            known: Arc::new(known),
            below: Arc::default(),
            scope: Scope::All,
            skip: 0,
            aside: HashSet::new(),
            watch: false,
        };
        let look = Look { requests: vec![request], wall: Timestamp(0), memory: None, adder: None };
        let found = work_through(|work| super::super::look(&disk, &patterns, look, work)).pop();
        let Some(Checked { found: Found::Listed(listed), .. }) = found else { panic!("it was listed") };
        let renamed = listed.entries.iter().filter(|entry| entry.name.to_string_lossy().starts_with("new-")).count();
        assert_eq!((renamed, listed.gone.len()), (300, 300));
        assert!(listed.entries.len() - renamed <= NEW_OF_OWNER_MAX as usize && listed.more >= 200, "{}", listed.more);
    }

    fn request(directory: &str, skip: u64) -> Request {
        Request {
            stamp: None,
            directory: directory.into(),
            names: HashSet::new(),
            known: Arc::default(),
            below: Arc::default(),
            scope: Scope::All,
            skip,
            aside: HashSet::new(),
            watch: false,
        }
    }

    fn looked(disk: &SimDisk, requests: Vec<Request>) -> Vec<Listed> {
        let patterns = Patterns::new(&["/log/**".to_owned()], &[], Path::new("/")).expect("a glob");
        let look = Look { requests, wall: Timestamp(0), memory: None, adder: None };
        let all = work_through(|work| super::super::look(disk, &patterns, look, work));
        let listed = |checked| match checked {
            Checked { found: Found::Listed(listed), .. } => *listed,
            _ => panic!("it was listed"),
        };
        all.into_iter().map(listed).collect()
    }

    fn crowd(directory: &str, files: usize, owners: u32) -> SimDisk {
        let disk = SimDisk::new(1);
        disk.outside().create_dir_all(directory).expect("made");
        for number in 0..files {
            let path = format!("{directory}/{number}");
            disk.outside().write(&path, b"line\n").expect("written");
            disk.outside().set_owner(&path, number as u32 % owners).expect("given");
        }
        disk
    }

    #[test]
    fn a_look_ends_after_a_number_of_names() {
        let disk = crowd("/log/a", 80, 4);
        let requests = || (0..5).map(|_| request("/log/a", 0)).collect();
        assert_eq!(looked(&disk, requests()).len(), 2, "the first that exceeds it is the last");
        let few = crowd("/log/a", 10, 4);
        assert_eq!(looked(&few, requests()).len(), 5);
    }

    #[test]
    fn new_names_of_one_user_leave_some_of_those_that_are_returned_to_others() {
        let disk = crowd("/log/a", 0, 1);
        for (owner, names) in [(7, 0..85), (8, 90..95)] {
            for number in names {
                let path = format!("/log/a/{number:02}");
                disk.outside().write(&path, b"line\n").expect("written");
                disk.outside().set_owner(&path, owner).expect("given");
            }
        }
        let listed = looked(&disk, vec![request("/log/a", 0)]).pop().expect("one");
        let of = |user: u32| {
            listed.entries.iter().filter(|one| one.stat.as_ref().is_ok_and(|stat| stat.owner == user)).count()
        };
        assert_eq!((of(7) as u64, of(8), listed.more), (NEW_OF_OWNER_MAX, 5, 85 - NEW_OF_OWNER_MAX));
    }

    #[test]
    fn new_names_of_a_directory_are_checked_in_parts() {
        let disk = crowd("/log/a", 250, 1000);
        let mut skip = 0;
        for next in [Some(CHECKED_MAX), Some(2 * CHECKED_MAX), None] {
            let listed = looked(&disk, vec![request("/log/a", skip)]).pop().expect("one");
            assert_eq!(listed.next, next);
            assert!(listed.entries.len() <= NEW_MAX, "{}", listed.entries.len());
            assert_eq!(listed.entries.len() as u64 + listed.more, 250, "the others are counted");
            skip = next.unwrap_or(0);
        }
        assert!(NEW_MAX < CHECKED_MAX as usize, "both limits are reached");
    }
}
