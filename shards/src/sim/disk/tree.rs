//! The state of the simulated disk: inodes, names, and the journal of names that are not durable yet.
//!
//! Guarantees: a name changes at once for every process and becomes durable with a sync of its directory. A power loss keeps
//! either a prefix of the open changes, as a journaling file system does, or any subset of them, as POSIX allows, but a rename
//! never leaves one file under both names. Models no permissions except "denied".

use super::super::prng::{Prng, mix};
use super::super::watch::Watchers;
use super::content::{Content, whole_pages};
use super::faults::Faults;
use crate::env::{Access, FileKind, Stat, Timestamp, WatchKind};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Maximum symbolic links followed in one path, as in Linux.
const LINKS_MAX: usize = 40;
/// The device number of the disk.
const DEVICE: u64 = 0x5117;

/// Length of a directory with few names. With more, it grows.
const DIRECTORY_BYTES: u64 = 4096;

/// Identity of an inode inside the simulator; never reused, unlike its number.
pub(in super::super) type Id = u64;
pub(in super::super) const ROOT: Id = 0;

/// The kind of an inode.
pub(super) enum Node {
    File(Content),
    Directory(Directory),
    Link(PathBuf),
    /// A named pipe that nobody writes.
    Pipe,
}

#[derive(Default)]
pub(super) struct Directory {
    pub(super) names: BTreeMap<OsString, Id>,
    pub(super) durable: BTreeMap<OsString, Id>,
}

pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) number: u64,
    pub(super) links: u64,
    pub(super) opens: u64,
    pub(super) modified: Timestamp,
    pub(super) created: Timestamp,
    pub(super) read_fails: bool,
    /// What a write that makes it longer fails with.
    pub(super) growth_fails: Option<i32>,
    /// What each sync of it fails with.
    pub(super) syncs_fail: Option<i32>,
    pub(super) denied: bool,
    pub(super) owner: u32,
    pub(super) access: Access,
}

/// A name that now leads to another inode, or to none.
pub(super) struct Change {
    pub(super) directory: Id,
    pub(super) name: OsString,
    pub(super) to: Option<Id>,
}

/// The target of a path: the directory, the name in it, and the inode if the name exists.
pub(super) struct Place {
    pub(super) directory: Id,
    pub(super) name: OsString,
    pub(super) id: Option<Id>,
}

pub(in super::super) struct State {
    pub(in super::super) prng: Prng,
    pub(in super::super) watchers: Watchers,
    pub(super) faults: Faults,
    pub(super) inodes: BTreeMap<Id, Inode>,
    pub(super) locks: BTreeMap<Id, u64>,
    /// What writes of other programs have not written yet.
    pub(super) under_way: Vec<(Id, Vec<u8>)>,
    /// See [`super::SimDisk::sync_waits`].
    pub(super) sync_waits: u64,
    pub(super) last_token: u64,
    /// Number of the current process, and of the machine's current power-on period.
    pub(super) process: u64,
    pub(super) boot: u64,
    pub(super) crashed: bool,
    pub(super) used_bytes: u64,
    pub(super) trace: u64,
    /// The task that the executor is polling, and the blocking calls that such tasks made.
    pub(super) polled: Option<&'static str>,
    pub(super) blocking_forbidden: bool,
    pub(super) blocked: BTreeSet<String>,
    /// Paths that calls do not pass, and how often these changed.
    pub(super) hanging: BTreeSet<PathBuf>,
    /// Directories whose names are not listed for now.
    pub(super) unlisted: BTreeSet<PathBuf>,
    /// How many of them may be listed nevertheless.
    pub(super) lists_let_pass: u64,
    pub(super) hanging_changes: u64,
    /// Paths at which each call takes so long.
    pub(super) slow: BTreeMap<PathBuf, Duration>,
    pub(super) closed_in_tasks: BTreeSet<String>,
    /// Pages that are not in memory.
    pub(super) absent: BTreeSet<(Id, u64)>,
    pub(super) wall: Timestamp,
    pub(super) journal: Vec<Vec<Change>>,
    next_id: Id,
    pub(super) next_number: u64,
    pub(super) free_numbers: Vec<u64>,
}

pub(super) fn error(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl State {
    pub(super) fn new(seed: u64) -> State {
        let mut state = State {
            prng: Prng::new(seed, "disk"),
            watchers: Watchers::default(),
            faults: Faults::default(),
            inodes: BTreeMap::new(),
            locks: BTreeMap::new(),
            under_way: Vec::new(),
            last_token: 0,
            sync_waits: 0,
            process: 0,
            boot: 0,
            crashed: false,
            used_bytes: 0,
            trace: 0,
            polled: None,
            blocking_forbidden: false,
            blocked: BTreeSet::new(),
            hanging: BTreeSet::new(),
            unlisted: BTreeSet::new(),
            lists_let_pass: 0,
            hanging_changes: 0,
            slow: BTreeMap::new(),
            closed_in_tasks: BTreeSet::new(),
            absent: BTreeSet::new(),
            wall: Timestamp(0),
            journal: Vec::new(),
            next_id: ROOT,
            next_number: 2,
            free_numbers: Vec::new(),
        };
        let root = state.add(Node::Directory(Directory::default()));
        assert_eq!(root, ROOT, "the first inode is the root");
        state
    }

    pub(super) fn note(&mut self, operation: &str, id: Id, a: u64, b: u64) {
        let word = operation.bytes().fold(0, |word, byte| mix(word ^ u64::from(byte)));
        self.trace = mix(self.trace ^ word ^ mix(id) ^ mix(a).rotate_left(1) ^ mix(b).rotate_left(2));
    }

    pub(super) fn add(&mut self, node: Node) -> Id {
        let id = self.next_id;
        self.next_id += 1;
        let reused = if self.faults.inode_reuse { self.free_numbers.pop() } else { None };
        let number = reused.unwrap_or_else(|| {
            self.next_number += 1;
            self.next_number
        });
        let modified = self.coarse_wall();
        let inode = Inode {
            node,
            number,
            links: 0,
            opens: 0,
            modified,
            created: modified,
            read_fails: false,
            growth_fails: None,
            syncs_fail: None,
            denied: false,
            owner: 0,
            access: Access::default(),
        };
        self.inodes.insert(id, inode);
        id
    }

    pub(super) fn inode(&mut self, id: Id) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| error(libc::ENOENT))
    }

    pub(super) fn content(&mut self, id: Id) -> io::Result<&mut Content> {
        match &mut self.inode(id)?.node {
            Node::File(content) => Ok(content),
            Node::Directory(_) => Err(error(libc::EISDIR)),
            Node::Link(_) => Err(error(libc::ELOOP)),
            Node::Pipe => Err(error(libc::ESPIPE)),
        }
    }

    pub(super) fn directory(&self, id: Id) -> io::Result<&Directory> {
        match self.inodes.get(&id).map(|inode| &inode.node) {
            Some(Node::Directory(directory)) => Ok(directory),
            Some(_) => Err(error(libc::ENOTDIR)),
            None => Err(error(libc::ENOENT)),
        }
    }

    pub(super) fn stat(&mut self, id: Id) -> io::Result<Stat> {
        let inode = self.inode(id)?;
        let (kind, length) = match &inode.node {
            Node::File(content) => (FileKind::Regular, content.length()),
            Node::Directory(directory) => {
                (FileKind::Directory, DIRECTORY_BYTES * (1 + directory.names.len() as u64 / 64))
            }
            Node::Link(target) => (FileKind::Other, target.as_os_str().len() as u64),
            Node::Pipe => (FileKind::Other, 0),
        };
        let (number, modified, created, links) = (inode.number, inode.modified, Some(inode.created), inode.links);
        let (owner, mode) = (inode.owner, inode.access.mode.unwrap_or(0o640));
        Ok(Stat { kind, device: DEVICE, inode: number, length, modified, created, links, owner, mode })
    }

    /// Resolves a path. The last component may be missing. It is followed if it is a link and `follow` is set.
    pub(super) fn place(&self, path: &Path, follow: bool) -> io::Result<(Place, PathBuf)> {
        let mut links = 0;
        self.walk(ROOT, PathBuf::from("/"), path, follow, &mut links)
    }

    fn walk(
        &self,
        mut at: Id,
        mut canonical: PathBuf,
        path: &Path,
        follow: bool,
        links: &mut usize,
    ) -> io::Result<(Place, PathBuf)> {
        let mut components = path.components().peekable();
        let mut place = Place { directory: at, name: OsString::new(), id: Some(at) };
        while let Some(component) = components.next() {
            match component {
                Component::RootDir | Component::Prefix(_) => (at, canonical) = (ROOT, PathBuf::from("/")),
                Component::CurDir => {}
                Component::ParentDir => {
                    canonical.pop();
                    at = self.walk(ROOT, PathBuf::from("/"), &canonical, true, links)?.0.id.unwrap_or(ROOT);
                }
                Component::Normal(name) => {
                    let last = components.peek().is_none();
                    let id = self.directory(at)?.names.get(name).copied();
                    let node = id.and_then(|id| self.inodes.get(&id)).map(|inode| &inode.node);
                    if let (Some(Node::Link(target)), true) = (node, !last || follow) {
                        *links += 1;
                        if *links > LINKS_MAX {
                            return Err(error(libc::ELOOP));
                        }
                        let (reached, real) = self.walk(at, canonical, target, true, links)?;
                        if last {
                            return Ok((reached, real));
                        }
                        (at, canonical) = (reached.id.ok_or_else(|| error(libc::ENOENT))?, real);
                        continue;
                    }
                    canonical.push(name);
                    place = Place { directory: at, name: name.to_os_string(), id };
                    if last {
                        return Ok((place, canonical));
                    }
                    at = id.ok_or_else(|| error(libc::ENOENT))?;
                }
            }
            place = Place { directory: at, name: OsString::new(), id: Some(at) };
        }
        Ok((place, canonical))
    }

    /// The inode to which `path` leads. Links are followed.
    pub(super) fn find(&self, path: &Path) -> io::Result<Id> {
        self.place(path, true)?.0.id.ok_or_else(|| error(libc::ENOENT))
    }

    /// Whether a call that passes `path` waits.
    pub(super) fn hangs(&self, path: &Path) -> bool {
        let is_below = |path: &Path| self.hanging.iter().any(|hanging| path.starts_with(hanging));
        !self.hanging.is_empty() && (is_below(path) || self.place(path, true).is_ok_and(|(_, real)| is_below(&real)))
    }

    /// How long a call at `path` takes.
    pub(super) fn takes(&self, path: &Path) -> Duration {
        self.slow.iter().find(|slow| path.starts_with(slow.0)).map_or(Duration::ZERO, |slow| *slow.1)
    }

    /// How long a call on an open file takes.
    pub(super) fn file_takes(&self, id: Id) -> Duration {
        let is_below = |path: &Path| self.find(path).is_ok_and(|slow| self.leads_to(slow, id));
        self.slow.iter().find(|slow| is_below(slow.0)).map_or(Duration::ZERO, |slow| *slow.1)
    }

    /// Whether listing the names in `path` waits.
    pub(super) fn list_hangs(&self, path: &Path) -> bool {
        let is_it =
            |unlisted: &PathBuf| self.find(unlisted).is_ok_and(|one| self.find(path).is_ok_and(|other| one == other));
        self.unlisted.iter().any(is_it)
    }

    /// Whether a call on an open file waits.
    pub(super) fn file_hangs(&self, id: Id) -> bool {
        self.hanging.iter().any(|path| self.find(path).is_ok_and(|hanging| self.leads_to(hanging, id)))
    }

    fn leads_to(&self, from: Id, id: Id) -> bool {
        let below = self.directory(from).ok().into_iter().flat_map(|directory| directory.names.values());
        from == id || below.into_iter().any(|below| self.leads_to(*below, id))
    }

    /// Changes names: one atomic step for every process, and one entry in the journal.
    pub(super) fn change(&mut self, changes: Vec<(Id, &OsStr, Option<Id>)>) {
        let mut entry = Vec::with_capacity(changes.len());
        // A renamed inode gets its new name before it loses the old one, so that it never counts as deleted.
        for inode_id in changes.iter().filter_map(|change| change.2) {
            if let Some(inode) = self.inodes.get_mut(&inode_id) {
                inode.links += 1;
            }
        }
        for (directory, name, to) in changes {
            let old = match self.inodes.get_mut(&directory).map(|inode| &mut inode.node) {
                Some(Node::Directory(directory)) => match to {
                    Some(id) => directory.names.insert(name.to_os_string(), id),
                    None => directory.names.remove(name),
                },
                _ => None,
            };
            if let Some(old) = old {
                self.unlinked(old);
            }
            let kind = if to.is_some() { WatchKind::Appeared } else { WatchKind::Vanished };
            self.note("name", directory, to.unwrap_or(u64::MAX), name.len() as u64);
            self.watchers.emit(directory, kind, name, &mut self.prng);
            entry.push(Change { directory, name: name.to_os_string(), to });
        }
        let modified = self.coarse_wall();
        for change in &entry {
            if let Some(inode) = self.inodes.get_mut(&change.directory) {
                inode.modified = modified;
            }
        }
        self.journal.push(entry);
    }

    fn unlinked(&mut self, id: Id) {
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.links -= 1;
            if inode.links == 0 && matches!(inode.node, Node::Directory(_)) {
                self.watchers.gone(id);
            }
        }
        self.release(id);
    }

    /// Frees the space of a file when nothing leads to it any more. Its durable names may still bring it back after a power
    /// loss.
    pub(super) fn release(&mut self, id: Id) {
        let Some(inode) = self.inodes.get_mut(&id) else { return };
        if inode.links > 0 || inode.opens > 0 {
            return;
        }
        let number = inode.number;
        if let Node::File(content) = &mut inode.node {
            self.used_bytes -= std::mem::take(&mut content.allocated);
        }
        if !self.free_numbers.contains(&number) {
            self.free_numbers.push(number);
        }
    }

    /// Sets the space reserved for a file. Returns false if the disk has less space left.
    pub(super) fn reserve(&mut self, id: Id, length: u64) -> bool {
        let free = self.free_bytes();
        let Ok(content) = self.content(id) else { return false };
        let wanted = whole_pages(length);
        let grown = wanted.saturating_sub(content.allocated);
        if grown > free {
            self.faults.struck.full += 1;
            return false;
        }
        let shrunk = content.allocated.saturating_sub(wanted);
        content.allocated = wanted;
        self.used_bytes = self.used_bytes + grown - shrunk;
        true
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.faults.capacity_bytes.map_or(1 << 40, |capacity| capacity.saturating_sub(self.used_bytes))
    }

    /// Notes that the content of a file changed.
    pub(super) fn modified(&mut self, id: Id) {
        let modified = self.coarse_wall();
        if let Some(inode) = self.inodes.get_mut(&id) {
            inode.modified = modified;
        }
        for directory in self.watchers.directories() {
            let Ok(listing) = self.directory(directory) else { continue };
            let names: Vec<OsString> =
                listing.names.iter().filter(|entry| *entry.1 == id).map(|entry| entry.0.clone()).collect();
            for name in names {
                self.watchers.emit(directory, WatchKind::Modified, &name, &mut self.prng);
            }
        }
    }

    /// The wall clock for inodes: Linux timestamps them with the time of its last tick.
    fn coarse_wall(&self) -> Timestamp {
        Timestamp(self.wall.0 - self.wall.0.rem_euclid(4_000_000))
    }

    pub(super) fn sync_dir(&mut self, directory: Id) -> io::Result<()> {
        self.directory(directory)?;
        for entry in &mut self.journal {
            for change in entry.extract_if(.., |change| change.directory == directory) {
                apply(&mut self.inodes, &change);
            }
        }
        self.journal.retain(|entry| !entry.is_empty());
        self.sweep();
        Ok(())
    }

    /// Makes everything durable, as `sync` does.
    pub(super) fn sync_all(&mut self) {
        for entry in self.journal.drain(..) {
            for change in &entry {
                apply(&mut self.inodes, change);
            }
        }
        for inode in self.inodes.values_mut() {
            if let Node::File(content) = &mut inode.node {
                let ticket = content.begin_sync();
                content.finish_sync(ticket, false, &mut self.prng);
            }
        }
        self.sweep();
    }

    /// Drops inodes that nothing can ever lead to again.
    fn sweep(&mut self) {
        let mut reachable: BTreeSet<Id> = BTreeSet::from([ROOT]);
        for inode in self.inodes.values() {
            if let Node::Directory(directory) = &inode.node {
                reachable.extend(directory.names.values().chain(directory.durable.values()));
            }
        }
        reachable.extend(self.journal.iter().flatten().filter_map(|change| change.to));
        self.inodes.retain(|id, inode| inode.opens > 0 || reachable.contains(id));
    }
}

/// Makes a change durable.
pub(super) fn apply(inodes: &mut BTreeMap<Id, Inode>, change: &Change) {
    if let Some(Node::Directory(directory)) = inodes.get_mut(&change.directory).map(|inode| &mut inode.node) {
        match change.to {
            Some(id) => directory.durable.insert(change.name.clone(), id),
            None => directory.durable.remove(&change.name),
        };
    }
}
