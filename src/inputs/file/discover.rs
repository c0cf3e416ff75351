//! Finds files: lists the directories that may hold matches.
//!
//! Guarantees: a directory is listed again if its modification time changed, and for some time after a change, because the
//! clock behind that time is coarse. What is listed is the directory that the rules for links allow. A directory that has not
//! changed costs one system call. Listing runs where blocking is allowed, and keeps and returns a limited number of names that are
//! not known, at least some of each user; the others are counted, and returned by later looks. Does not open files and keeps no
//! state: the home shard does.

mod listing;

use super::identity::{Inode, Memory};
use super::own::is_own;
use super::patience::Work;
use super::patterns::Patterns;
use super::scout::{Place, Refusal, Scout, Spot};
use crate::config::room::Claim;
use listing::Listing;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tailwater_shards::env::located::{Links, Located, is_link_refused};
use tailwater_shards::env::{Adder, Disk, FileKind, Stat, Timestamp, WatchId};

/// Maximum number of directories that one input scans. No user gets all of them (see [`crate::config::room`]).
pub const DIRECTORIES_MAX: u64 = if cfg!(test) { 100 } else { 10_000 };

/// Number of names after which other work is done before the next directory is looked at.
const LOOK_NAMES_MAX: usize = if cfg!(test) { 100 } else { 8 * 1024 };

/// Number of new names in a directory that are returned although they are not read because of links.
pub const REFUSED_MAX: u64 = if cfg!(test) { 8 } else { 1000 };

/// A directory that changed less than this before it was listed is listed again: a later change may not alter its
/// modification time.
const SETTLED_NANOS: i64 = 2_000_000_000;

/// Shows whether a directory has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: Inode,
    modified: Timestamp,
    /// Whether the modification time was old enough to be trusted.
    settled: bool,
}

impl Stamp {
    /// The same stamp, but the directory is listed again whatever its modification time is.
    pub fn unsettled(self) -> Stamp {
        Stamp { settled: false, ..self }
    }

    /// Whether this is the stamp of the directory with this inode.
    pub fn is(&self, inode: Inode) -> bool {
        self.inode == inode
    }

    /// The directory.
    pub fn inode(&self) -> Inode {
        self.inode
    }

    /// Whether the directory had not changed for a while.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether both are stamps of the same directory.
    pub fn is_same_directory(&self, other: &Stamp) -> bool {
        other.is(self.inode)
    }
}

/// What each wanted name in a directory leads to.
pub type Names = HashMap<OsString, Named>;

/// A wanted name.
#[derive(Clone, Copy)]
pub struct Named {
    /// What it leads to.
    pub inode: Inode,
    /// The room that it uses.
    pub claim: Claim,
}

/// A request to check one directory.
pub struct Request {
    /// The directory.
    pub directory: PathBuf,
    /// The stamp of the last check; none to list the directory in any case.
    pub stamp: Option<Stamp>,
    /// Names to check even if the directory is unchanged: links, names that failed before, names from watch events.
    pub names: HashSet<OsString>,
    /// The names that are known.
    pub known: Arc<Names>,
    /// Its subdirectories that are known.
    pub below: Arc<HashSet<OsString>>,
    /// Which names are checked.
    pub scope: Scope,
    /// Number of names that are not known and have been counted only by the last check.
    pub skip: u64,
    /// Names that hang, and are left alone.
    pub aside: HashSet<OsString>,
    /// Whether it is to be watched before it is listed.
    pub watch: bool,
}

/// A directory that was checked.
pub struct Checked {
    /// What was asked, without what was known.
    pub request: Request,
    /// Its watch, if one was wanted.
    pub watch: Option<io::Result<WatchId>>,
    /// What was found.
    pub found: Found,
}

/// The directories that are checked in one job.
pub struct Look {
    /// Which, and what is known of them.
    pub requests: Vec<Request>,
    /// The wall clock.
    pub wall: Timestamp,
    /// What earlier runs read, during the first look.
    pub memory: Option<Arc<Memory>>,
    /// Watches directories.
    pub adder: Option<Adder>,
}

/// Which names of a directory are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// The requested ones, and those that are not known.
    New,
    /// The requested ones: the directory is not listed, however many names it has.
    Named,
}

/// A subdirectory that may hold matches.
pub struct Below {
    /// Its path.
    pub path: PathBuf,
    /// Its inode, if its name is a link.
    pub link: Option<Inode>,
    /// The user that owns it.
    pub owner: u32,
    /// Its own length, which grows with the number of names in it.
    pub bytes: u64,
}

impl Below {
    fn new(path: PathBuf, link: Option<Inode>, stat: &Stat) -> Below {
        Below { path, link, owner: stat.owner, bytes: stat.length }
    }
}

/// A wanted name in a directory.
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// The target of a symbolic link.
    pub target: Option<PathBuf>,
    /// The metadata of the file it leads to.
    pub stat: io::Result<Stat>,
}

/// The result of checking a directory.
pub enum Found {
    /// The directory does not exist.
    Missing,
    /// It cannot be read.
    Failed(io::Error),
    /// The way to it is a stranger's.
    Refused(io::Error),
    /// It has not changed; only the requested names were checked.
    Same(Vec<Entry>),
    /// Only the requested names were checked.
    Looked {
        /// Those that are there.
        entries: Vec<Entry>,
        /// Those that are not.
        gone: Vec<OsString>,
        /// Those that are directories which may hold matches.
        directories: Vec<Below>,
    },
    /// It cannot be listed. The files in it whose paths are patterns were checked.
    Named {
        /// These files.
        entries: Vec<Entry>,
        /// Why it cannot be listed, if other patterns need that.
        error: Option<io::Error>,
    },
    /// The directory was listed.
    Listed(Box<Listed>),
}

/// What is in a directory that was listed.
pub struct Listed {
    /// The stamp from just before it was listed.
    pub stamp: Stamp,
    /// Names that are known or were requested, and are not there.
    pub gone: HashSet<OsString>,
    /// The wanted names that were checked and are new, changed or requested.
    pub entries: Vec<Entry>,
    /// Subdirectories that are new.
    pub directories: Vec<Below>,
    /// Links that are not followed.
    pub links: LinksSeen,
    /// A subdirectory that cannot be looked at now, for example because its file server is gone. Nothing changes here when it can.
    pub failed: Option<(PathBuf, io::Error)>,
    /// Number of names and of subdirectories that are new and not among these, because there are too many.
    pub more: u64,
    /// The same of names that are refused because of links.
    pub more_refused: u64,
    /// How many new names the next check should skip, because this one has only counted those behind them.
    pub next: Option<u64>,
}

/// Names that would be wanted if they were not symbolic links.
#[derive(Default)]
pub struct LinksSeen {
    /// How many there are.
    pub count: u64,
    /// One of them.
    pub example: Option<OsString>,
}

impl LinksSeen {
    fn add(&mut self, name: OsString) {
        self.count += 1;
        self.example.get_or_insert(name);
    }
}

impl Entry {
    /// Why it is not read, if links are the reason.
    pub fn refusal(&self) -> Option<&Refusal> {
        self.stat.as_ref().err().and_then(Refusal::of)
    }
}

/// Checks directories, and stops after the first one with which [`LOOK_NAMES_MAX`] names were seen. Blocks.
pub fn look<D: Disk>(disk: &D, patterns: &Patterns, look: Look, work: &Work<Checked>) {
    let Look { requests, wall, memory, adder } = look;
    let scout = Scout::new(disk, patterns).with_steps(&work.steps);
    let mut seen = 0;
    for mut request in requests {
        scout.step(&request.directory, OsStr::new(""));
        // A file that is created in between then shows up in at least one of the two.
        let watch = adder.as_ref().filter(|_| request.watch).map(|add| add(&request.directory));
        let found = look_at(&scout, &request, wall, memory.as_deref(), &mut seen);
        // What is known may be changed again.
        (request.known, request.below) = Default::default();
        if !work.done(Checked { request, watch, found }) || seen >= LOOK_NAMES_MAX {
            break;
        }
    }
}

fn look_at<D: Disk>(
    scout: &Scout<'_, D>,
    request: &Request,
    wall: Timestamp,
    memory: Option<&Memory>,
    seen: &mut usize,
) -> Found {
    // Nothing is judged by this look, which passes links: it only shows that nothing has changed.
    let stat = match scout.disk.stat(&request.directory) {
        Ok(stat) if stat.kind == FileKind::Directory => stat,
        Ok(_) => return Found::Missing,
        Err(error) => return missing_or_failed(error),
    };
    let last =
        request.stamp.filter(|last| request.scope == Scope::All && last.settled && *last == stamp_of(&stat, wall));
    if last.is_some() && request.names.is_empty() {
        return Found::Same(Vec::new());
    }
    let base = scout.patterns.base_of_directory(&request.directory);
    let place = match scout.directory(base, &request.directory) {
        Ok(place) => place,
        Err(error) if matches!(Refusal::of(&error), Some(Refusal::Stranger { .. })) => return Found::Refused(error),
        // Where it was listed, it is a link now, which is told there.
        Err(error) if Refusal::of(&error).is_some() || is_own(&error) => return Found::Missing,
        Err(error) => return missing_or_failed(error),
    };
    let stamp = stamp_of(&place.stat, wall);
    if last == Some(stamp) {
        return Found::Same(
            request.names.iter().map(|name| entry(scout, request, &place, name.clone(), None)).collect(),
        );
    }
    if request.scope == Scope::Named {
        *seen += request.names.len();
        return looked(scout, request, &place);
    }
    let mut listing = Listing::new(scout, request, &place, memory);
    match place.handle.each(&mut |entry| listing.visit(entry)) {
        Ok(()) => {
            *seen += listing.visited;
            listing.end(stamp)
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => named(scout, request, &place, error),
        Err(error) => missing_or_failed(error),
    }
}

fn stamp_of(stat: &Stat, wall: Timestamp) -> Stamp {
    let settled = wall.0.saturating_sub(stat.modified.0) > SETTLED_NANOS;
    Stamp { inode: Inode::of(stat), modified: stat.modified, settled }
}

fn missing_or_failed(error: io::Error) -> Found {
    if is_absent(&error) { Found::Missing } else { Found::Failed(error) }
}

/// Opening a file needs less than finding it: the right to search its directory, not the right to read it.
fn named<D: Disk>(scout: &Scout<'_, D>, request: &Request, place: &Place<D::Located>, error: io::Error) -> Found {
    let patterns = scout.patterns;
    let mut names = patterns.plain_names(&request.directory);
    names.retain(|name| !request.aside.contains(name));
    let is_directory = |entry: &Entry| entry.stat.as_ref().is_ok_and(|stat| stat.kind == FileKind::Directory);
    let entries = names.into_iter().map(|name| entry(scout, request, place, name, None));
    let entries: Vec<Entry> = entries.filter(|entry| !is_directory(entry)).collect();
    let is_closed = |entry: &Entry| matches!(&entry.stat, Err(why) if why.kind() == io::ErrorKind::PermissionDenied);
    if entries.iter().all(is_closed) {
        return Found::Failed(error);
    }
    Found::Named { entries, error: patterns.needs_list(&request.directory).then_some(error) }
}

/// Checks the requested names only.
fn looked<D: Disk>(scout: &Scout<'_, D>, request: &Request, place: &Place<D::Located>) -> Found {
    let patterns = scout.patterns;
    let (mut entries, mut gone, mut directories) = (Vec::new(), Vec::new(), Vec::new());
    for name in &request.names {
        let path = request.directory.join(name);
        let (as_file, as_directory) = (patterns.wants_file(&path), patterns.wants_directory(&path));
        if !as_file && !as_directory {
            continue;
        }
        scout.step(&request.directory, name);
        match place.handle.stat_name(name) {
            Err(error) if is_absent(&error) => gone.push(name.clone()),
            Ok(stat) if stat.kind == FileKind::Directory => {
                if as_directory {
                    directories.push(Below::new(path, None, &stat));
                }
            }
            _ => {
                let found = if as_directory { scout.find_in(place, name).ok() } else { None };
                match found.filter(|spot| spot.stat.kind == FileKind::Directory) {
                    Some(Spot { stat, .. }) => {
                        directories.push(Below::new(path, Some(Inode::of(&stat)), &stat));
                    }
                    None if as_file => entries.push(entry(scout, request, place, name.clone(), None)),
                    None => {}
                }
            }
        }
    }
    Found::Looked { entries, gone, directories }
}

/// A name in a directory. `link` says whether it is a symbolic link, if that is known.
fn entry<D: Disk>(
    scout: &Scout<'_, D>,
    request: &Request,
    place: &Place<D::Located>,
    name: OsString,
    link: Option<bool>,
) -> Entry {
    scout.step(&request.directory, &name);
    let is_link = |stat: &Stat| {
        link.unwrap_or_else(|| {
            let look = || place.handle.locate(name.as_ref(), Links::Refuse);
            stat.kind == FileKind::Other && look().is_err_and(|error| is_link_refused(&error))
        })
    };
    let found = place.handle.stat_name(&name).and_then(|stat| {
        if is_link(&stat) {
            let spot = scout.find_in(place, &name)?;
            return Ok((spot.stat, spot.target));
        }
        scout.admit(place, &name, &stat)?;
        Ok((stat, None))
    });
    match found {
        Ok((stat, target)) => Entry { name, target, stat: Ok(stat) },
        Err(error) => Entry { name, target: None, stat: Err(error) },
    }
}

/// Whether an error means that the path does not exist.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
