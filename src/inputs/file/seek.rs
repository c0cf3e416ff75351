//! Searches for files of an earlier run that are not at their path any more: renamed out of the patterns, copied, or
//! compressed.
//!
//! Guarantees: a file is found by its inode, or else by its content: it begins like the missing file and has the same bytes
//! before the position. An archive is found by the beginning of its content; the bytes before the position are compared when
//! it is read. What cannot be opened counts as neither found nor gone. Looks in the directory where the file was and, if its path is a
//! link that is followed, in the directory of the target. How many names are looked at, and how many files are opened because they may
//! be copies or archives, is limited for each directory and for all; archives are not kept open. Passes no other links. Runs where
//! blocking is allowed, and changes nothing.

use super::archive::{self, Archive, Format};
use super::content::Content;
use super::discover::is_absent;
use super::follow::Span;
use super::identify::{Opened, marker_at, read_exactly, spans_of};
use super::identity::{Descriptor, HEAD_BYTES, Head, Inode, PROOF_BYTES, Version};
use super::patience::Work;
use super::patterns::Patterns;
use super::scout::{Place, Refusal, Scout};
use crate::codec::framing::Rules;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{DirEntry, Disk, File, FileKind, Open, Stat, Timestamp};
use tailwater_shards::wal::SourceState;

/// Maximum number of files that are opened to read their beginning, and of compressed bytes that are read for it.
const HEADS_MAX: usize = 4096;
const HEADS_INPUT_BYTES: u64 = 128 * 1024 * 1024;

/// Maximum number of files that are opened because they begin like a missing one, and may be copies or archives of it.
const ALIKE_MAX: usize = 128 * 1024;

/// Number of files in a directory that are considered as copies and archives, and in all directories of a search. Each directory has a
/// share of what those before it left, so one with very many names takes nothing from others.
const FILES_MAX: usize = if cfg!(test) { 64 } else { 64 * 1024 };
const ALL_FILES_MAX: usize = if cfg!(test) { 200 } else { 256 * 1024 };

/// Number of names of a missing file that are looked at beyond that, in all directories: it may have any number of them.
const NAMES_OF_ONE_MAX: u8 = 8;

/// Maximum number of names in one directory that are compared with the names of missing files. Strangers decide how many names
/// there are and how many files are missing.
const COMPARISONS_MAX: usize = 1_000_000;

/// A file that is searched.
#[derive(Clone)]
pub struct Sought {
    /// Its state in the WAL.
    pub state: SourceState,
    /// Its identity and path.
    pub descriptor: Descriptor,
}

impl Sought {
    /// Its path.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(std::ffi::OsString::from_vec(self.descriptor.path.clone()))
    }
}

/// An archive that may hold the searched file. Not open: there may be many.
#[derive(Clone)]
pub struct Candidate {
    /// Its path.
    pub path: PathBuf,
    /// Whether the path has no links.
    real: bool,
    /// Its metadata.
    pub stat: Stat,
    format: Format,
}

impl Candidate {
    /// Opens it, unless it has changed. Blocks.
    pub fn open<D: Disk>(&self, disk: &D, patterns: &Patterns) -> io::Result<Content<D::File>> {
        let scout = Scout::for_copies(disk, patterns);
        let at = Where { directory: self.path.parent().unwrap_or(Path::new("/")).to_path_buf(), real: self.real };
        let spot = scout.find_in(&*at.place(&scout)?, self.path.file_name().unwrap_or_default())?;
        let file = spot.handle.open(Open::Read)?;
        let stat = file.stat()?;
        match Version::of(&stat) == Version::of(&self.stat) {
            true => Ok(Content::Archive(Box::new(Archive::new(Arc::new(file), stat, self.format)))),
            false => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The result of a search.
pub enum Found<F> {
    /// The file, or a copy of it.
    File(PathBuf, Box<Opened<Content<F>>>),
    /// Archives that begin like it, most likely first.
    Archives(Vec<Candidate>),
    /// An archive whose content was read to its end.
    Read,
    /// An archive with its name, in a format that cannot be read.
    Unreadable(PathBuf, Format),
    /// Nothing.
    Nothing,
    /// It, or what may be it, is here and cannot be opened or read.
    Closed(PathBuf, io::Error),
    /// Its directory does not exist, or is on another file system: the right one may be mounted later.
    Unreachable,
}

/// The files in a directory.
struct Listed {
    at: Where,
    /// Of the directory, if that is there.
    device: Option<u64>,
    files: Vec<Seen>,
    /// Where those with an inode number are among the files.
    by_inode: HashMap<u64, Vec<usize>>,
    /// Names that may still be compared with the name of a missing file.
    comparisons: usize,
    /// Why some or all of them are not known.
    failed: Option<io::Error>,
}

impl Listed {
    fn new(at: Where, device: Option<u64>, files: Vec<Seen>, failed: Option<io::Error>) -> Listed {
        let mut by_inode: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, one) in files.iter().enumerate() {
            by_inode.entry(one.stat.inode).or_default().push(at);
        }
        Listed { at, device, files, by_inode, comparisons: COMPARISONS_MAX, failed }
    }
}

struct Seen {
    name: OsString,
    path: PathBuf,
    stat: Stat,
    /// Its format and head, once they were read.
    begin: Option<Begin>,
}

#[derive(Clone)]
struct Begin {
    format: Option<Format>,
    head: Vec<u8>,
}

/// What may still be read of the beginnings of files, and the beginnings of archives that were read: one may have many names.
struct Heads {
    files: usize,
    alike: usize,
    input_bytes: u64,
    archives: HashMap<Version, Begin>,
}

/// Searches for files. Files with the inodes in `followed` do not count as copies. Blocks.
pub fn seek<D: Disk>(
    disk: &D,
    patterns: &Patterns,
    all: &[Sought],
    followed: &HashSet<Inode>,
    rules: Rules,
    work: &Work<Found<D::File>>,
) {
    let heads = Heads { files: HEADS_MAX, alike: ALIKE_MAX, input_bytes: HEADS_INPUT_BYTES, archives: HashMap::new() };
    let mut by_number: HashMap<u64, Vec<&Sought>> = HashMap::new();
    for sought in all {
        by_number.entry(sought.descriptor.identity.inode.number).or_default().push(sought);
    }
    let scout = Scout::for_copies(disk, patterns).with_steps(&work.steps);
    let places: HashSet<PathBuf> =
        all.iter().filter_map(|sought| Some(sought.path().parent()?.to_path_buf())).collect();
    let left = RefCell::new(Left { files: ALL_FILES_MAX, directories: places.len(), names: HashMap::new() });
    let search = Search { scout, followed, by_number, rules, heads: RefCell::new(heads), left };
    let mut directories: HashMap<PathBuf, Listed> = HashMap::new();
    let mut one = |sought: &Sought| {
        let mut reachable = false;
        for (at, name) in search.places(&sought.path()) {
            let listed = directories.entry(at.directory.clone()).or_insert_with(|| search.list(at));
            if let Some(error) = &listed.failed
                && let Some(found) = search.in_closed_directory(sought, listed, &name, error)
            {
                return found;
            }
            let is_there = listed.device == Some(sought.descriptor.identity.inode.device);
            if listed.files.is_empty() && (!is_there || listed.failed.is_some()) {
                continue;
            }
            reachable = true;
            let found = search.by_inode(sought, listed).or_else(|| search.by_content(sought, &name, listed));
            if let Some(found) = found {
                return found;
            }
        }
        if reachable { Found::Nothing } else { Found::Unreachable }
    };
    for sought in all {
        work.steps.at(sought.path().parent().unwrap_or(Path::new("/")), OsStr::new(""));
        if !work.done(one(sought)) {
            break;
        }
    }
}

/// Where a file may be.
struct Where {
    directory: PathBuf,
    /// Whether its path has no links, because it was found at the end of one.
    real: bool,
}

impl Where {
    fn place<D: Disk>(&self, scout: &Scout<'_, D>) -> io::Result<Rc<Place<D::Located>>> {
        match self.real {
            true => scout.real_directory(&self.directory),
            false => scout.directory(scout.patterns.base_of_directory(&self.directory), &self.directory),
        }
    }
}

/// One search, for several files.
struct Search<'a, D: Disk> {
    scout: Scout<'a, D>,
    followed: &'a HashSet<Inode>,
    /// All files that are searched, by the numbers of their inodes.
    by_number: HashMap<u64, Vec<&'a Sought>>,
    rules: Rules,
    heads: RefCell<Heads>,
    left: RefCell<Left>,
}

/// What a search may still look at. Strangers decide how many names there are, and in how many directories files are missing.
struct Left {
    /// Files that may be copies or archives.
    files: usize,
    /// Directories that were not listed yet.
    directories: usize,
    /// Names that were looked at of each file that is searched, by the number of its inode.
    names: HashMap<u64, u8>,
}

impl Left {
    /// The share of the next directory.
    fn share(&mut self) -> usize {
        let share = self.files.div_ceil(self.directories.max(1)).min(FILES_MAX);
        self.directories = self.directories.saturating_sub(1);
        share
    }

    /// Whether a name counts as one of a file that is searched.
    fn is_name_of(&mut self, number: u64) -> bool {
        let names = self.names.entry(number).or_default();
        *names = names.saturating_add(1);
        *names <= NAMES_OF_ONE_MAX
    }
}

impl<D: Disk> Search<'_, D> {
    /// The directory of the path, and if that is a link that is followed, the one of its target, because rotation renames files
    /// there. With the name that the file had in each.
    fn places(&self, path: &Path) -> Vec<(Where, OsString)> {
        let place = |path: &Path, real| {
            Some((Where { directory: path.parent()?.to_path_buf(), real }, path.file_name()?.to_owned()))
        };
        let behind = self.scout.find(path).ok().and_then(|spot| spot.target);
        place(path, false).into_iter().chain(behind.and_then(|target| place(&target, true))).collect()
    }

    /// The files in a directory: those with the number of a missing one, and some others. No other name is looked at.
    fn list(&self, at: Where) -> Listed {
        let place = match at.place(&self.scout) {
            Ok(place) => place,
            Err(error) => return Listed::new(at, None, Vec::new(), Some(error)),
        };
        let (mut files, mut failed) = (Vec::new(), None);
        let follow = self.scout.patterns.links.follow;
        let left = &mut *self.left.borrow_mut();
        let mut others = left.share();
        let mut visit = |entry: DirEntry| {
            if entry.directory || entry.link && !follow {
                return;
            }
            let is_sought = self.by_number.contains_key(&entry.inode) && left.is_name_of(entry.inode);
            if !is_sought {
                let Some(fewer) = others.checked_sub(1) else { return };
                others = fewer;
                left.files = left.files.saturating_sub(1);
            }
            self.scout.step(&at.directory, OsStr::new(""));
            let stat = match entry.link {
                true => self.scout.find_in(&place, &entry.name).map(|spot| spot.stat),
                false => place.handle.stat_name(&entry.name),
            };
            match stat {
                Ok(stat) if stat.kind == FileKind::Regular => {
                    let path = at.directory.join(&entry.name);
                    files.push(Seen { path, name: entry.name, stat, begin: None });
                }
                Err(error) if is_closed(&error) => failed = Some(error),
                _ => {}
            }
        };
        let listed = place.handle.each(&mut visit);
        failed = failed.or(listed.err());
        // Most recent first: the archive that was compressed last is the most likely one.
        files.sort_by_key(|one| std::cmp::Reverse(one.stat.modified));
        Listed::new(at, Some(place.stat.device), files, failed)
    }

    /// The file at its path, although the names beside it are not known; none if its path leads to nothing.
    fn in_closed_directory(
        &self,
        sought: &Sought,
        listed: &Listed,
        name: &OsStr,
        error: &io::Error,
    ) -> Option<Found<D::File>> {
        let (path, inode) = (listed.at.directory.join(name), sought.descriptor.identity.inode);
        let again = || error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
        match listed.at.place(&self.scout).and_then(|place| self.scout.find_in(&place, name)) {
            Ok(spot) if Inode::of(&spot.stat).may_be(inode) => {
                let one = Seen { name: name.to_owned(), path: path.clone(), stat: spot.stat, begin: None };
                match self.open_if_same(sought, listed, &one, Some(inode)) {
                    Err(error) if is_closed(&error) => Some(Found::Closed(path, error)),
                    found => found.ok().flatten(),
                }
            }
            Err(why) if is_closed(&why) => Some(Found::Closed(path, again())),
            _ => None,
        }
    }

    fn by_inode(&self, sought: &Sought, listed: &Listed) -> Option<Found<D::File>> {
        let inode = sought.descriptor.identity.inode;
        let is_same = |one: &&Seen| Inode::of(&one.stat).may_be(inode) && one.stat.device == inode.device;
        let mut closed = None;
        let here = listed.by_inode.get(&inode.number).into_iter().flatten();
        for one in here.map(|at| &listed.files[*at]).filter(is_same) {
            match self.open_if_same(sought, listed, one, Some(inode)) {
                Ok(Some(found)) => return Some(found),
                Err(error) if is_closed(&error) => closed = Some(Found::Closed(one.path.clone(), error)),
                _ => {}
            }
        }
        closed
    }

    fn open(&self, listed: &Listed, one: &Seen) -> io::Result<D::File> {
        self.scout.step(&listed.at.directory, OsStr::new(""));
        self.scout.find_in(&*listed.at.place(&self.scout)?, &one.name)?.handle.open(Open::Read)
    }

    /// Opens a file if it has the content that was read, and, if `inode` is given, only if it has this inode.
    fn open_if_same(
        &self,
        sought: &Sought,
        listed: &Listed,
        one: &Seen,
        inode: Option<Inode>,
    ) -> io::Result<Option<Found<D::File>>> {
        let file = self.open(listed, one)?;
        let stat = file.stat()?;
        let (state, end) = (&sought.state, sought.state.end());
        let head = read_exactly(&file, 0, HEAD_BYTES)?;
        let is_same = inode.is_none_or(|inode| Inode::of(&stat).may_be(inode))
            && end <= stat.length
            && sought.descriptor.identity.head.is_head_of(&head)
            && (end == 0 || marker_at(&file, end)? == state.marker);
        if !is_same || Format::of(&head).is_some() {
            return Ok(None);
        }
        let opened = Opened {
            stat,
            seen_length: stat.length,
            head: Head::of(&head),
            state: Some(state.clone()),
            spans: spans_of(&file, state, self.rules)?,
            left_out: None,
            copy: false,
            backup: None,
            file: Some(Arc::new(Content::Plain(file))),
        };
        Ok(Some(Found::File(one.path.clone(), Box::new(opened))))
    }

    /// Searches for a copy, plain or compressed, among files with a name similar to `name`.
    fn by_content(&self, sought: &Sought, name: &OsStr, listed: &mut Listed) -> Option<Found<D::File>> {
        let stem = stem(name);
        let (known, end) = (sought.descriptor.identity.head, sought.state.end());
        let (mut archives, mut unreadable) = (Vec::new(), None);
        listed.comparisons = listed.comparisons.checked_sub(listed.files.len())?;
        for at in 0..listed.files.len() {
            let file_name = listed.files[at].name.as_bytes();
            if memchr::memmem::find(file_name, stem).is_none() {
                continue;
            }
            let starts_alike = file_name.starts_with(name.as_bytes());
            self.look_into(listed, at);
            let one = &listed.files[at];
            let Some(begin) = &one.begin else { continue };
            let begins_alike = known.length > 0 && known.is_head_of(&begin.head) && self.may_open_alike();
            match begin.format {
                Some(format) if format.is_read() && begins_alike => {
                    if format == Format::Gzip && self.is_read_to_end(listed, one, end) {
                        return Some(Found::Read);
                    }
                    archives.push(Candidate { path: one.path.clone(), real: listed.at.real, stat: one.stat, format });
                }
                Some(format) if !format.is_read() && unreadable.is_none() && starts_alike => {
                    unreadable = Some(Found::Unreadable(one.path.clone(), format));
                }
                // Many files share a short beginning.
                None if begins_alike && end.max(u64::from(known.length)) >= PROOF_BYTES => {
                    let is_other =
                        self.followed.contains(&Inode::of(&one.stat)) || self.is_other_sought(sought, listed, one);
                    if !is_other && let Ok(Some(found)) = self.open_if_same(sought, listed, one, None) {
                        return Some(found);
                    }
                }
                _ => {}
            }
        }
        if archives.is_empty() { unreadable } else { Some(Found::Archives(archives)) }
    }

    /// Counts a file that is opened because it begins like a missing one. Strangers decide how many there are.
    fn may_open_alike(&self) -> bool {
        let alike = &mut self.heads.borrow_mut().alike;
        let left = alike.checked_sub(1);
        *alike = left.unwrap_or(0);
        left.is_some()
    }

    /// Whether this is another file that is searched, which is found by its inode. What that has in common with this one was read
    /// twice before, or left out.
    fn is_other_sought(&self, sought: &Sought, listed: &Listed, one: &Seen) -> bool {
        let inode = Inode::of(&one.stat);
        let same_number = self.by_number.get(&inode.number).into_iter().flatten();
        let others = same_number.filter(|other| other.state.key() != sought.state.key());
        let is_it = |other: &&Sought| {
            self.may_open_alike()
                && matches!(self.open_if_same(other, listed, one, Some(other.descriptor.identity.inode)), Ok(Some(_)))
        };
        others.copied().any(|other| is_it(&other))
    }

    /// Reads how a file begins, unless that is known or too many were read.
    fn look_into(&self, listed: &mut Listed, at: usize) {
        if listed.files[at].begin.is_some() {
            return;
        }
        let heads = &mut *self.heads.borrow_mut();
        let known = heads.archives.get(&Version::of(&listed.files[at].stat)).cloned();
        let Some(left) = heads.files.checked_sub(1) else { return };
        heads.files = left;
        let read = || self.begin(listed, &listed.files[at], heads).unwrap_or(Begin { format: None, head: Vec::new() });
        listed.files[at].begin = Some(known.unwrap_or_else(read));
    }

    fn begin(&self, listed: &Listed, one: &Seen, heads: &mut Heads) -> io::Result<Begin> {
        let file = Arc::new(self.open(listed, one)?);
        let head = read_exactly(&*file, 0, HEAD_BYTES)?;
        let Some(format) = Format::of(&head).filter(|format| format.is_read()) else {
            return Ok(Begin { format: Format::of(&head), head });
        };
        let head = archive::head(&file, format, &mut heads.input_bytes)?;
        let begin = Begin { format: Some(format), head };
        heads.archives.insert(Version::of(&file.stat()?), begin.clone());
        Ok(begin)
    }

    /// Whether the trailer of a gzip file says that its content ends at `end`. With several members it describes only the last
    /// one; then the file is read.
    fn is_read_to_end(&self, listed: &Listed, one: &Seen, end: u64) -> bool {
        let length = self.open(listed, one).and_then(|file| archive::gzip_length(&file));
        end > 0 && length.is_ok_and(|length| length == Some(end as u32))
    }
}

/// Whether an error means that something is there and cannot be read now. A link that is refused is nothing.
fn is_closed(error: &io::Error) -> bool {
    !is_absent(error) && Refusal::of(error).is_none()
}

/// The part of a name that rotation does not change: up to the first separator.
fn stem(name: &OsStr) -> &[u8] {
    let bytes = name.as_bytes();
    let end = bytes.iter().skip(1).position(|byte| b".-_".contains(byte)).map_or(bytes.len(), |at| at + 1);
    &bytes[..end]
}

/// The ranges to read in an archive of this source. Whether they start in a line is found out when it is decompressed.
pub fn spans_in_archive(state: &SourceState) -> VecDeque<Span> {
    super::follow::unread_spans(state)
}

/// When the content was last written, which gives the order of generations.
pub fn modified<F>(found: &Found<F>) -> Option<Timestamp> {
    match found {
        Found::File(_, opened) => Some(opened.stat.modified),
        Found::Archives(all) => all.first().map(|one| one.stat.modified),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::identity::{Descriptor, Identity};
    use super::super::patience::work_through;
    use super::*;
    use crate::codec::framing::LineTooLong;
    use tailwater_shards::batch::{Source, SourceKey};
    use tailwater_shards::sim::SimDisk;

    fn rules() -> Rules {
        Rules {
            line_bytes_max: 1000,
            too_long: LineTooLong::Truncate,
            keep_cr: false,
            skip_nuls: true,
            skip_empty: true,
            encoding: Default::default(),
        }
    }

    /// A file of which all was read, and which is gone from its path.
    fn sought(disk: &SimDisk, path: &str, key: u128) -> Sought {
        let (outside, bytes) = (disk.outside(), [b'x'; 400]);
        outside.write(path, &bytes).expect("written");
        let inode = Inode::of(&outside.stat(path).expect("there"));
        let identity = Identity { inode, head: Head::of(&bytes) };
        let descriptor = Descriptor::encode(&identity, Path::new(path));
        let file = disk.open(Path::new(path), Open::Read).expect("there");
        let marker = marker_at(&file, 400).expect("read");
        let decoded = Descriptor::decode(&descriptor).expect("whole");
        let source =
            Source { key: SourceKey(key), input: "app".into(), name: Vec::new(), descriptor, repeatable: true };
        let recorded = Timestamp(0);
        let state =
            SourceState { source: Arc::new(source), intervals: vec![(0, 400)], marker, gone: None, told: 0, recorded };
        outside.rename(path, format!("{path}.old")).expect("renamed");
        Sought { state, descriptor: decoded }
    }

    /// A stranger has a missing file in each of many directories, and very many other names there.
    #[test]
    fn names_beside_missing_files_are_looked_at_up_to_a_limit_and_the_files_are_found() {
        let disk = SimDisk::new(1);
        let mut all = Vec::new();
        for directory in 0..8 {
            disk.outside().create_dir_all(format!("/log/{directory}")).expect("made");
            let path = format!("/log/{directory}/app.log");
            let one = sought(&disk, &path, directory);
            for name in 0..300 {
                let path = format!("/log/{directory}/{name}");
                match name % 2 {
                    0 => disk.outside().write(path, b"other\n").expect("written"),
                    _ => disk.outside().hard_link(format!("/log/{directory}/app.log.old"), path).expect("linked"),
                }
            }
            all.push(one);
        }
        // Listed last, and small.
        disk.outside().create_dir_all("/log/small").expect("made");
        all.push(sought(&disk, "/log/small/app.log", 99));
        disk.outside().rename("/log/small/app.log.old", "/elsewhere").expect("renamed");
        disk.outside().write("/log/small/app.log.1", &[b'x'; 500]).expect("a copy");
        let patterns = Patterns::new(&["/log/*/*.log".to_owned()], &[], Path::new("/")).expect("a glob");
        let mut looks = 0;
        let found = work_through(|work| {
            seek(&disk, &patterns, &all, &HashSet::new(), rules(), work);
            looks = work.steps.count();
        });
        let is_file = |found: &Found<_>| matches!(found, Found::File(..));
        assert_eq!(found.iter().take(8).filter(|one| is_file(one)).count(), 8);
        assert!(is_file(&found[8]), "its copy is found");
        // Each that is found is opened, and each search is a step of its own.
        assert!(looks <= (ALL_FILES_MAX + 8 * usize::from(NAMES_OF_ONE_MAX) + 4 * all.len()) as u64, "{looks}");
    }
}
