//! Searches for files of an earlier run that are not at their path any more: renamed out of the patterns, copied, or
//! compressed.
//!
//! Guarantees: a file is found by its inode, or else by its content: it begins like the missing file and has the same bytes
//! before the position. An archive is found by the beginning of its content; the bytes before the position are compared when
//! it is read. What cannot be opened counts as neither found nor gone. Opens a limited number of files, in the directory where the file was. Runs where blocking is allowed, and
//! changes nothing.

use super::archive::{self, Archive, Format};
use super::content::Content;
use super::discover::is_absent;
use super::follow::Span;
use super::identify::{Opened, marker_at, read_exactly, spans_of};
use super::identity::{Descriptor, HEAD_BYTES, Head, Inode, PROOF_BYTES, Version};
use crate::codec::framing::Rules;
use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::{Disk, File, FileKind, Open, Stat, Timestamp};
use tailwater_shards::wal::SourceState;

/// Maximum number of files that are opened to read their beginning, and of compressed bytes that are read for it.
const HEADS_MAX: usize = 4096;
const HEADS_INPUT_BYTES: u64 = 128 * 1024 * 1024;

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

/// An archive that may hold the searched file.
pub struct Candidate<F> {
    /// Its path.
    pub path: PathBuf,
    /// Its content.
    pub file: Arc<Content<F>>,
    /// Its metadata.
    pub stat: Stat,
}

/// The result of a search.
pub enum Found<F> {
    /// The file, or a copy of it.
    File(PathBuf, Box<Opened<Content<F>>>),
    /// Archives that begin like it, most likely first.
    Archives(Vec<Candidate<F>>),
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
struct Listing {
    files: Vec<Listed>,
    /// Why some or all of them are not known.
    failed: Option<io::Error>,
}

struct Listed {
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
    input_bytes: u64,
    archives: HashMap<Version, Begin>,
}

/// Searches for files and returns the results in the same order. Files with the inodes in `followed` do not count as copies.
/// Blocks.
pub fn seek<D: Disk>(disk: &D, all: &[Sought], followed: &HashSet<Inode>, rules: Rules) -> Vec<Found<D::File>> {
    let mut directories: HashMap<PathBuf, Listing> = HashMap::new();
    let mut heads = Heads { files: HEADS_MAX, input_bytes: HEADS_INPUT_BYTES, archives: HashMap::new() };
    let mut one = |sought: &Sought| {
        let path = sought.path();
        let Some(parent) = path.parent() else { return Found::Nothing };
        let listed = directories.entry(parent.to_path_buf()).or_insert_with(|| list(disk, parent));
        if let Some(error) = &listed.failed
            && let Some(found) = in_closed_directory(disk, sought, error, rules)
        {
            return found;
        }
        let device = sought.descriptor.identity.inode.device;
        let is_there = disk.stat(parent).is_ok_and(|stat| stat.device == device) || !listed.files.is_empty();
        if !is_there || listed.failed.is_some() && listed.files.is_empty() {
            return Found::Unreachable;
        }
        by_inode(disk, sought, &listed.files, rules)
            .or_else(|| by_content(disk, sought, &mut listed.files, followed, rules, &mut heads))
            .unwrap_or(Found::Nothing)
    };
    all.iter().map(&mut one).collect()
}

fn list<D: Disk>(disk: &D, directory: &Path) -> Listing {
    let (mut files, mut failed) = (Vec::new(), None);
    let entries = disk.list(directory).unwrap_or_else(|error| {
        failed = Some(error);
        Vec::new()
    });
    for entry in entries.into_iter().filter(|entry| !entry.directory) {
        let path = directory.join(entry.name);
        match disk.stat(&path) {
            Ok(stat) if stat.kind == FileKind::Regular => files.push(Listed { path, stat, begin: None }),
            Err(error) if !is_absent(&error) => failed = Some(error),
            _ => {}
        }
    }
    // Most recent first: the archive that was compressed last is the most likely one.
    files.sort_by_key(|one| std::cmp::Reverse(one.stat.modified));
    Listing { files, failed }
}

/// The file at its path, although the names beside it are not known; none if its path leads to nothing.
fn in_closed_directory<D: Disk>(disk: &D, sought: &Sought, error: &io::Error, rules: Rules) -> Option<Found<D::File>> {
    let (path, inode) = (sought.path(), sought.descriptor.identity.inode);
    let again = || error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
    match disk.stat(&path) {
        Ok(stat) if Inode::of(&stat).may_be(inode) => match open_if_same(disk, sought, &path, Some(inode), rules) {
            Err(error) if !is_absent(&error) => Some(Found::Closed(path, error)),
            found => found.ok().flatten(),
        },
        Err(why) if !is_absent(&why) => Some(Found::Closed(path, again())),
        _ => None,
    }
}

fn by_inode<D: Disk>(disk: &D, sought: &Sought, listed: &[Listed], rules: Rules) -> Option<Found<D::File>> {
    let inode = sought.descriptor.identity.inode;
    let same = listed.iter().filter(|one| Inode::of(&one.stat).may_be(inode) && one.stat.device == inode.device);
    let mut closed = None;
    for one in same {
        match open_if_same(disk, sought, &one.path, Some(inode), rules) {
            Ok(Some(found)) => return Some(found),
            Err(error) if !is_absent(&error) => closed = Some(Found::Closed(one.path.clone(), error)),
            _ => {}
        }
    }
    closed
}

/// Opens a file if it has the content that was read, and, if `inode` is given, only if it has this inode.
fn open_if_same<D: Disk>(
    disk: &D,
    sought: &Sought,
    path: &Path,
    inode: Option<Inode>,
    rules: Rules,
) -> io::Result<Option<Found<D::File>>> {
    let file = disk.open(path, Open::Read)?;
    let stat = file.stat()?;
    let (state, end) = (&sought.state, sought.state.end());
    let head = read_exactly(&file, 0, HEAD_BYTES)?;
    let is_same = stat.kind == FileKind::Regular
        && inode.is_none_or(|inode| Inode::of(&stat).may_be(inode))
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
        spans: spans_of(&file, state, rules)?,
        left_out: None,
        copy: false,
        file: Some(Arc::new(Content::Plain(file))),
    };
    Ok(Some(Found::File(path.to_path_buf(), Box::new(opened))))
}

/// Searches for a copy, plain or compressed, among files with a similar name.
fn by_content<D: Disk>(
    disk: &D,
    sought: &Sought,
    listed: &mut [Listed],
    followed: &HashSet<Inode>,
    rules: Rules,
    heads: &mut Heads,
) -> Option<Found<D::File>> {
    let path = sought.path();
    let stem = stem(path.file_name()?).to_vec();
    let (known, end) = (sought.descriptor.identity.head, sought.state.end());
    let (mut archives, mut unreadable) = (Vec::new(), None);
    for one in listed {
        let name = one.path.file_name().unwrap_or_default().as_bytes().to_vec();
        if memchr::memmem::find(&name, &stem).is_none() {
            continue;
        }
        let Some(begin) = one.begin(disk, heads) else { continue };
        let begins_alike = known.length > 0 && known.is_head_of(&begin.head);
        match begin.format {
            Some(format) if format.is_read() && begins_alike => {
                if format == Format::Gzip && is_read_to_end(disk, &one.path, end) {
                    return Some(Found::Read);
                }
                archives.extend(open_archive(disk, &one.path, format).ok());
            }
            Some(format)
                if !format.is_read() && unreadable.is_none() && name.starts_with(path.file_name()?.as_bytes()) =>
            {
                unreadable = Some(Found::Unreadable(one.path.clone(), format));
            }
            // Many files share a short beginning.
            None if begins_alike && end.max(u64::from(known.length)) >= PROOF_BYTES => {
                let is_followed = followed.contains(&Inode::of(&one.stat));
                if !is_followed && let Ok(Some(found)) = open_if_same(disk, sought, &one.path, None, rules) {
                    return Some(found);
                }
            }
            _ => {}
        }
    }
    if archives.is_empty() { unreadable } else { Some(Found::Archives(archives)) }
}

impl Listed {
    fn begin<D: Disk>(&mut self, disk: &D, heads: &mut Heads) -> Option<&Begin> {
        if self.begin.is_none() {
            let known = heads.archives.get(&Version::of(&self.stat)).cloned();
            heads.files = heads.files.checked_sub(1)?;
            let read = || begin(disk, &self.path, heads).unwrap_or(Begin { format: None, head: Vec::new() });
            self.begin = Some(known.unwrap_or_else(read));
        }
        self.begin.as_ref()
    }
}

fn begin<D: Disk>(disk: &D, path: &Path, heads: &mut Heads) -> io::Result<Begin> {
    let file = Arc::new(disk.open(path, Open::Read)?);
    let head = read_exactly(&*file, 0, HEAD_BYTES)?;
    let Some(format) = Format::of(&head).filter(|format| format.is_read()) else {
        return Ok(Begin { format: Format::of(&head), head });
    };
    let head = archive::head(&file, format, &mut heads.input_bytes)?;
    let begin = Begin { format: Some(format), head };
    heads.archives.insert(Version::of(&file.stat()?), begin.clone());
    Ok(begin)
}

fn open_archive<D: Disk>(disk: &D, path: &Path, format: Format) -> io::Result<Candidate<D::File>> {
    let file = disk.open(path, Open::Read)?;
    let stat = file.stat()?;
    let content = Content::Archive(Box::new(Archive::new(Arc::new(file), stat, format)));
    Ok(Candidate { path: path.to_path_buf(), file: Arc::new(content), stat })
}

/// Whether the trailer of a gzip file says that its content ends at `end`. With several members it describes only the last
/// one; then the file is read.
fn is_read_to_end<D: Disk>(disk: &D, path: &Path, end: u64) -> bool {
    let length = disk.open(path, Open::Read).and_then(|file| archive::gzip_length(&file));
    end > 0 && length.is_ok_and(|length| length == Some(end as u32))
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
