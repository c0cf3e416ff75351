//! Finds files: lists the directories that may hold matches.
//!
//! Guarantees: a directory is listed again if its modification time changed, and for some time after a change, because the
//! clock behind that time is coarse. What is listed is the directory that the rules for links allow. A directory that has not
//! changed costs one system call. Listing runs where blocking is allowed. Does not open files and keeps no state: the home shard
//! does.

use super::identity::Inode;
use super::own::is_own;
use super::patterns::Patterns;
use super::scout::{Place, Refusal, Scout};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use tailwater_shards::env::located::{Links, Located, is_link_refused};
use tailwater_shards::env::{DirEntry, Disk, FileKind, Stat, Timestamp};

/// Maximum number of directories that one input scans.
pub const DIRECTORIES_MAX: usize = 10_000;

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

    /// Whether the directory had not changed for a while.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether both are stamps of the same directory.
    pub fn is_same_directory(&self, other: &Stamp) -> bool {
        other.is(self.inode)
    }
}

/// A request to check one directory.
pub struct Request {
    /// The directory.
    pub directory: PathBuf,
    /// The stamp of the last check; none to list the directory in any case.
    pub stamp: Option<Stamp>,
    /// Names to check even if the directory is unchanged: links, names that failed before, names from watch events.
    pub names: HashSet<OsString>,
    /// If set, only `names` and names that are not in this set are checked.
    pub known: Option<HashSet<OsString>>,
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
    /// It has not changed; only the requested names were checked.
    Same(Vec<Entry>),
    /// It cannot be listed. The files in it whose paths are patterns were checked.
    Named {
        /// These files.
        entries: Vec<Entry>,
        /// Why it cannot be listed, if other patterns need that.
        error: Option<io::Error>,
    },
    /// The directory was listed.
    Listed {
        /// The stamp from just before it was listed.
        stamp: Stamp,
        /// All wanted names in it.
        present: HashSet<OsString>,
        /// The names that were checked.
        entries: Vec<Entry>,
        /// Subdirectories that may hold matches; with the inode if it is a link.
        directories: Vec<(PathBuf, Option<Inode>)>,
        /// Links that are not followed.
        links: LinksSeen,
    },
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

/// Checks directories. Blocks.
pub fn look<D: Disk>(disk: &D, patterns: &Patterns, requests: &[Request], wall: Timestamp) -> Vec<Found> {
    let scout = Scout::new(disk, patterns);
    requests.iter().map(|request| look_at(&scout, request, wall)).collect()
}

fn look_at<D: Disk>(scout: &Scout<'_, D>, request: &Request, wall: Timestamp) -> Found {
    // Nothing is judged by this look, which passes links: it only shows that nothing has changed.
    let stat = match scout.disk.stat(&request.directory) {
        Ok(stat) if stat.kind == FileKind::Directory => stat,
        Ok(_) => return Found::Missing,
        Err(error) => return missing_or_failed(error),
    };
    let last = request.stamp.filter(|last| request.known.is_none() && last.settled && *last == stamp_of(&stat, wall));
    if last.is_some() && request.names.is_empty() {
        return Found::Same(Vec::new());
    }
    let base = scout.patterns.base_of_directory(&request.directory);
    let place = match scout.directory(base, &request.directory) {
        Ok(place) => place,
        // Where it was listed, it is a link now, which is told there.
        Err(error) if Refusal::of(&error).is_some() || is_own(&error) => return Found::Missing,
        Err(error) => return missing_or_failed(error),
    };
    let stamp = stamp_of(&place.stat, wall);
    if last == Some(stamp) {
        return Found::Same(request.names.iter().map(|name| entry(scout, &place, name.clone(), None)).collect());
    }
    match place.handle.list() {
        Ok(names) => listed(scout, request, &place, stamp, names),
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
    let names = patterns.plain_names(&request.directory);
    let is_directory = |entry: &Entry| entry.stat.as_ref().is_ok_and(|stat| stat.kind == FileKind::Directory);
    let entries = names.into_iter().map(|name| entry(scout, place, name, None));
    let entries: Vec<Entry> = entries.filter(|entry| !is_directory(entry)).collect();
    let is_closed = |entry: &Entry| matches!(&entry.stat, Err(why) if why.kind() == io::ErrorKind::PermissionDenied);
    if entries.iter().all(is_closed) {
        return Found::Failed(error);
    }
    Found::Named { entries, error: patterns.needs_list(&request.directory).then_some(error) }
}

fn listed<D: Disk>(
    scout: &Scout<'_, D>,
    request: &Request,
    place: &Place<D::Located>,
    stamp: Stamp,
    names: Vec<DirEntry>,
) -> Found {
    let patterns = scout.patterns;
    let (mut present, mut entries, mut directories) = (HashSet::new(), Vec::new(), Vec::new());
    let mut links = LinksSeen::default();
    for found in names {
        let path = request.directory.join(&found.name);
        let (as_file, as_directory) = (patterns.wants_file(&path), patterns.wants_directory(&path));
        if found.directory {
            if as_directory {
                directories.push((path, None));
            }
            continue;
        }
        if found.link && !patterns.links.follow {
            if as_file || as_directory {
                links.add(found.name);
            }
            continue;
        }
        if found.link
            && as_directory
            && let Ok(spot) = scout.find_in(place, &found.name)
            && spot.stat.kind == FileKind::Directory
        {
            directories.push((path, Some(Inode::of(&spot.stat))));
            continue;
        }
        if as_file || found.link && as_directory {
            let skip = request.known.as_ref().is_some_and(|known| known.contains(&found.name));
            if !skip || request.names.contains(&found.name) {
                let entry = entry(scout, place, found.name.clone(), Some(found.link));
                // A link that only a directory could be wanted for, and that leads to none.
                if !as_file && entry.refusal().is_none() {
                    continue;
                }
                entries.push(entry);
            }
            present.insert(found.name);
        }
    }
    Found::Listed { stamp, present, entries, directories, links }
}

/// A name in a directory. `link` says whether it is a symbolic link, if that is known.
fn entry<D: Disk>(scout: &Scout<'_, D>, place: &Place<D::Located>, name: OsString, link: Option<bool>) -> Entry {
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
