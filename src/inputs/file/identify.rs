//! Opens newly found files and identifies them.
//!
//! Guarantees: everything reported about a file is read through its open descriptor, so a rename in between causes no
//! confusion. A file that an earlier run read continues where that run ended. Runs where blocking is allowed, and changes
//! nothing.

use super::StartAt;
use super::archive::{self, Format};
use super::content::Content;
use super::follow::{Span, unread_spans};
use super::identity::{HEAD_BYTES, Head, Inode, Memory, Remembered, Sighting, TAIL_BYTES, tail_marker};
use super::nuls;
use super::patterns::Patterns;
use super::post::FileId;
use super::scout::Scout;
use crate::codec::encoding::Encoding;
use crate::codec::framing::{Place, Rules};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{Disk, File, FileKind, Open, Stat, Timestamp};
use tailwater_shards::wal::SourceState;

/// A path that was found.
pub struct Candidate {
    /// The path.
    pub path: PathBuf,
    /// Whether its name is the name of a followed file plus a number or date.
    pub may_be_copy: bool,
    /// Whether identification may be postponed until the file that it may be a copy of has ended.
    pub may_wait: bool,
    /// Whether the open file is kept. If not, the owner opens it when there is something to read.
    pub keep_open: bool,
    /// The followed file that it may continue.
    pub replaces: Option<FileId>,
    /// The file that was followed under its path before, wherever it is now.
    pub took_path_of: Option<FileId>,
}

/// What is needed to recognise files of earlier runs.
pub struct Knowledge {
    /// What earlier runs read.
    pub memory: Arc<Memory>,
    /// How lines are split.
    pub rules: Rules,
    /// Where to start in a file that no earlier run read.
    pub start_at: StartAt,
    /// Files that no earlier run knows and that were modified before this time count as read.
    pub ignored_before: Option<Timestamp>,
    /// This input. Files of other inputs are continued under new keys.
    pub input: Arc<str>,
    /// Whether this is the first scan, in which a file at a known path may continue a file that is gone.
    pub restart: bool,
}

impl Knowledge {
    fn ignores(&self, stat: &Stat) -> bool {
        self.ignored_before.is_some_and(|before| stat.modified < before)
    }
}

/// A file to be followed.
pub struct Opened<F> {
    /// The descriptor, if it is kept.
    pub file: Option<Arc<F>>,
    /// Its metadata.
    pub stat: Stat,
    /// How many of its bytes may be lines: none if the file begins with a hole.
    pub seen_length: u64,
    /// Its head.
    pub head: Head,
    /// The source that it continues.
    pub state: Option<SourceState>,
    /// The ranges to read.
    pub spans: VecDeque<Span>,
    /// Bytes at the beginning that are skipped on purpose: their end and its tail marker.
    pub left_out: Option<(u64, u64)>,
    /// Whether they are skipped because the file is a copy of a file that was read.
    pub copy: bool,
}

impl<F> Opened<F> {
    /// Skips the bytes up to `end`; `marker` is its tail marker.
    fn leave_out(&mut self, end: u64, marker: u64) {
        self.spans = VecDeque::from([Span { from: end, to: None, marker: Some(marker), place: Place::LineStart }]);
        self.left_out = Some((end, marker));
    }
}

/// The result for a candidate.
pub enum Identified<F> {
    /// A file to be followed.
    Opened(Box<Opened<F>>),
    /// A compressed copy of a file that was read.
    KnownCopy,
    /// A compressed file that is not a copy of a known file.
    ForeignCopy(Format),
    /// A compressed file that is too short to be recognised.
    UnfinishedCopy,
    /// It seems to be UTF-16, which this input is not configured to read.
    WrongEncoding(Encoding),
    /// It may be, or become, a copy of a file that has not ended yet: check again soon.
    Awaited,
    /// Not a regular file.
    Other,
    /// It cannot be opened or read.
    Failed(io::Error),
}

/// Identifies candidates. Blocks.
pub fn identify<D: Disk>(
    disk: &D,
    patterns: &Patterns,
    candidates: &[Candidate],
    knowledge: &Knowledge,
) -> Vec<Identified<Content<D::File>>> {
    let scout = Scout::new(disk, patterns);
    let one = |candidate| identify_one(&scout, candidate, knowledge).unwrap_or_else(Identified::Failed);
    candidates.iter().map(one).collect()
}

fn identify_one<D: Disk>(
    scout: &Scout<'_, D>,
    candidate: &Candidate,
    knowledge: &Knowledge,
) -> io::Result<Identified<Content<D::File>>> {
    let spot = scout.find(&candidate.path)?;
    // Opening a device can have side effects.
    if spot.stat.kind != FileKind::Regular {
        return Ok(Identified::Other);
    }
    let file = spot.handle.open(Open::Read)?;
    let stat = file.stat()?;
    let begin = read_exactly(&file, 0, HEAD_BYTES)?;
    if let Some(format) = Format::of(&begin) {
        return identify_archive(file, format, knowledge);
    }
    if let Some(seen) = wrong_encoding(&begin, knowledge.rules.encoding) {
        return Ok(Identified::WrongEncoding(seen));
    }
    if begin.len() < archive::MAGIC_BYTES && archive::has_archive_extension(&candidate.path) {
        return Ok(Identified::UnfinishedCopy);
    }
    let mut opened = recognise(&file, stat, knowledge)?;
    if opened.state.is_none() && knowledge.restart {
        opened.state = replaced(scout, &file, candidate, &opened, knowledge)?;
        if let Some(state) = &opened.state {
            opened.spans = spans_of(&file, state, knowledge.rules)?;
            opened.left_out = None;
        }
    }
    if candidate.may_be_copy && opened.state.is_none() {
        let head = read_exactly(&file, 0, HEAD_BYTES)?;
        match knowledge.memory.end_of_copy(&head, stat.length, |end| marker_at(&file, end).ok()) {
            Some(end) => {
                opened.leave_out(end.position, end.marker);
                opened.copy = true;
            }
            None if candidate.may_wait && (head.is_empty() || knowledge.memory.knows_beginning(&head)) => {
                return Ok(Identified::Awaited);
            }
            None => {}
        }
    }
    let Opened { stat, seen_length, head, state, spans, left_out, copy, .. } = opened;
    let file = candidate.keep_open.then(|| Arc::new(Content::Plain(file)));
    Ok(Identified::Opened(Box::new(Opened { file, stat, seen_length, head, state, spans, left_out, copy })))
}

/// The UTF-16 encoding that a file seems to have, if that is not the configured encoding.
pub fn wrong_encoding(head: &[u8], encoding: Encoding) -> Option<Encoding> {
    Encoding::seen_in(head).filter(|seen| *seen != encoding)
}

fn identify_archive<F: File>(file: F, format: Format, knowledge: &Knowledge) -> io::Result<Identified<Content<F>>> {
    if !format.is_read() {
        return Ok(Identified::ForeignCopy(format));
    }
    let head = archive::head(&Arc::new(file), format)?;
    Ok(match knowledge.memory.knows_head(&head) {
        true => Identified::KnownCopy,
        false if head.len() < HEAD_BYTES => Identified::UnfinishedCopy,
        false => Identified::ForeignCopy(format),
    })
}

/// The source that continues in this file. The file is at the path of the source, while the source's own inode is nowhere in
/// the directory: the file was replaced by another one with the same beginning.
fn replaced<D: Disk>(
    scout: &Scout<'_, D>,
    file: &D::File,
    candidate: &Candidate,
    opened: &Opened<D::File>,
    knowledge: &Knowledge,
) -> io::Result<Option<SourceState>> {
    let head = read_exactly(file, 0, HEAD_BYTES)?;
    let Some(known) =
        knowledge.memory.same_content_at(&candidate.path, opened.stat.length, &head, |end| marker_at(file, end).ok())
    else {
        return Ok(None);
    };
    if is_written_again(known, &opened.stat) {
        return Ok(None);
    }
    let found = match find_inode(scout, &candidate.path, known.descriptor.identity.inode) {
        // Where the old file is cannot be found out, so this may be a different one.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        found => found?,
    };
    Ok((!found).then(|| known.state.clone()))
}

/// Whether a file with exactly the content that was read was written by a program that does the same again: it was created
/// later and then written. A mirror does not copy what has not changed, and copies that keep times are older than their
/// inode.
fn is_written_again(known: &Remembered, stat: &Stat) -> bool {
    let old = known.descriptor.identity.inode.created;
    let is_new = old.zip(stat.created).is_some_and(|(old, new)| new > old && stat.modified >= new);
    is_new && stat.length == known.state.end()
}

/// Whether a name in the directory of `path` leads to this inode.
fn find_inode<D: Disk>(scout: &Scout<'_, D>, path: &Path, inode: Inode) -> io::Result<bool> {
    let Some(directory) = path.parent() else { return Ok(false) };
    let place = scout.directory(scout.patterns.base_of(path), directory)?;
    for entry in place.handle.list()?.into_iter().filter(|entry| !entry.directory) {
        let stat = match entry.link {
            true => scout.find_in(&place, &entry.name).map(|spot| spot.stat),
            false => place.handle.stat_name(&entry.name),
        };
        // Removed since the directory was listed.
        let Ok(stat) = stat else { continue };
        if Inode::of(&stat).may_be(inode) && stat.device == inode.device {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The ranges to read in a file that continues this source.
pub fn spans_of<F: File>(file: &F, state: &SourceState, rules: Rules) -> io::Result<VecDeque<Span>> {
    let mut spans = unread_spans(state);
    for span in &mut spans {
        span.place = place_of(file, span.from, rules)?;
    }
    Ok(spans)
}

fn recognise<F: File>(file: &F, stat: Stat, knowledge: &Knowledge) -> io::Result<Opened<F>> {
    let head = read_exactly(file, 0, HEAD_BYTES)?;
    let sighting = Sighting { inode: Inode::of(&stat), length: stat.length, head: &head };
    let known = knowledge.memory.recognise(&sighting, &knowledge.input, |end| marker_at(file, end).ok());
    let mut opened = Opened {
        file: None,
        stat,
        seen_length: if knowledge.rules.skip_nuls && head.first() == Some(&0) { 0 } else { stat.length },
        head: Head::of(&head),
        state: None,
        spans: VecDeque::from([Span::WHOLE]),
        left_out: None,
        copy: false,
    };
    if let Some(known) = known {
        opened.seen_length = stat.length;
        opened.spans = spans_of(file, &known.state, knowledge.rules)?;
        opened.state = Some(known.state.clone());
    } else if stat.length > 0 && (knowledge.start_at == StartAt::End || knowledge.ignores(&stat)) {
        let from = last_line_start(file, stat.length, knowledge.rules)?;
        let place = place_of(file, from, knowledge.rules)?;
        let marker = marker_at(file, from)?;
        opened.spans = VecDeque::from([Span { from, to: None, marker: Some(marker), place }]);
        opened.left_out = (from > 0).then_some((from, marker));
    }
    Ok(opened)
}

/// The tail marker of the position `end`.
pub fn marker_at<F: File>(file: &F, end: u64) -> io::Result<u64> {
    let length = end.min(TAIL_BYTES as u64);
    Ok(tail_marker(&read_exactly(file, end - length, length as usize)?))
}

/// Reads `length` bytes, or as many as there are.
pub fn read_exactly<F: File>(file: &F, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let filled = read_whole(file, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Fills `bytes` as far as the file goes. Returns the number of bytes read.
pub fn read_whole<F: File>(file: &F, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Where in a line a crash left `position`. If the rest of a line was being skipped, at least as many bytes as a line may
/// have come before the position without a newline, not counting NULs at the beginning of the line. Anything shorter was an
/// unfinished last line that has been completed.
fn place_of<F: File>(file: &F, position: u64, rules: Rules) -> io::Result<Place> {
    let newline = rules.encoding.newline();
    let width = newline.len() as u64;
    let is_line_start =
        |at: u64| Ok::<_, io::Error>(at < width || read_exactly(file, at - width, newline.len())? == newline);
    if is_line_start(position)? || rules.skip_nuls && is_line_start(nuls::begin_before(file, position)?)? {
        return Ok(Place::LineStart);
    }
    if rules.encoding.is_wide() {
        return wide_place_of(file, position, rules);
    }
    // If the limit falls inside a character, the line is cut up to three bytes earlier.
    let least = rules.line_bytes_max as u64 - 3;
    if rules.too_long == super::LineTooLong::Split || position < least {
        return Ok(Place::Inside);
    }
    let begin = position - least;
    let before = read_exactly(file, begin, least as usize)?;
    let too_long = before.len() as u64 == least
        && !before.contains(&b'\n')
        && (before[0] != 0 || !is_line_start(nuls::begin_before(file, begin)?)?);
    Ok(if too_long { Place::Skipping } else { Place::Inside })
}

/// The same for UTF-16. A line that is too long only when converted to UTF-8 counts as an unfinished line that has been
/// completed.
fn wide_place_of<F: File>(file: &F, position: u64, rules: Rules) -> io::Result<Place> {
    let least = rules.encoding.line_bytes_max(rules.line_bytes_max) as u64;
    if rules.too_long == super::LineTooLong::Split || position < least {
        return Ok(Place::Inside);
    }
    let before = read_exactly(file, position - least, least as usize)?;
    let is_newline = before.chunks_exact(2).any(|unit| unit == rules.encoding.newline());
    Ok(if is_newline { Place::Inside } else { Place::Skipping })
}

/// Where the last, unfinished line begins. If there is none, or if it is too long: the end of the data, because NULs after it
/// may be preallocated space.
fn last_line_start<F: File>(file: &F, length: u64, rules: Rules) -> io::Result<u64> {
    let length = if rules.skip_nuls { nuls::begin_before(file, length)? } else { length / 2 * 2 };
    let longest = rules.encoding.line_bytes_max(rules.line_bytes_max) as u64;
    let window = length.min(longest / 2 * 2 + 2);
    let bytes = read_exactly(file, length - window, window as usize)?;
    if rules.encoding.is_wide() {
        let newline = bytes.chunks_exact(2).rposition(|unit| unit == rules.encoding.newline());
        return Ok(match newline {
            Some(unit) => length - window + 2 * unit as u64 + 2,
            None if window == length => 0,
            None => length,
        });
    }
    Ok(match memchr::memrchr(b'\n', &bytes) {
        Some(newline) => length - window + newline as u64 + 1,
        None if window == length => 0,
        None => length,
    })
}
