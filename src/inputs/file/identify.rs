//! Opens newly found files and identifies them.
//!
//! Guarantees: everything reported about a file is read through its open descriptor, so a rename in between causes no
//! confusion. A file that an earlier run read continues where that run ended. Reads a limited number of bytes of each file, and
//! decompresses nothing. Runs where blocking is allowed, and changes nothing.

use super::StartAt;
use super::archive::{self, Format};
use super::backwards::{Backwards, FIRST_BYTES};
use super::content::Content;
use super::copies::backups;
use super::follow::{Beginning, Span, unread_spans};
use super::identity::{
    HEAD_BYTES, Head, Inode, Memory, PROOF_BYTES, Remembered, Sighting, TAIL_BYTES, Version, tail_marker,
};
use super::neighbours::Neighbours;
use super::own::refuse_content;
use super::patience::Work;
use super::patterns::Patterns;
use super::place::find_beginning;
use super::post::FileId;
use super::scout::Scout;
use crate::codec::encoding::Encoding;
use crate::codec::framing::Rules;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tailwater_shards::env::located::Located;
use tailwater_shards::env::{Disk, File, FileKind, Open, Stat, Timestamp};
use tailwater_shards::wal::SourceState;

/// A path that was found.
pub struct Candidate {
    /// The path.
    pub path: PathBuf,
    /// The user that owns it.
    pub owner: u32,
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
    /// Whether it was there at the first scan: reading starts where the settings say, and it may continue a file of an earlier
    /// run that is gone.
    pub first: bool,
    /// Whether a file was known under its path before, which may be a backup now.
    pub may_have_backup: bool,
    /// The inode of the file that was followed under its path before.
    pub predecessor: Option<Inode>,
}

/// What is needed to recognise files of earlier runs.
pub struct Knowledge {
    /// What earlier runs read.
    pub memory: Arc<Memory>,
    /// What of that is still there under another name.
    pub neighbours: Arc<Neighbours>,
    /// How lines are split.
    pub rules: Rules,
    /// Where to start in a file that no earlier run read and that was there at the first scan.
    pub start_at: StartAt,
    /// Files that no earlier run knows and that were modified before this time count as read.
    pub ignored_before: Option<Timestamp>,
    /// This input. Files of other inputs are continued under new keys.
    pub input: Arc<str>,
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
    /// The file that was read under its path before, if that has the name of a backup now.
    pub backup: Option<Inode>,
}

impl<F> Opened<F> {
    /// Skips the bytes up to `end`; `marker` is its tail marker.
    pub fn leave_out(&mut self, end: u64, marker: u64) {
        self.spans = VecDeque::from([Span { from: end, marker: Some(marker), ..Span::WHOLE }]);
        self.left_out = Some((end, marker));
    }
}

/// The result for a candidate.
pub enum Identified<F> {
    /// A file to be followed.
    Opened(Box<Opened<F>>),
    /// A compressed file that can be read. Whether it is a copy of a file that was read is not known yet.
    Archive(Format, Version),
    /// A compressed file that cannot be read.
    ForeignCopy(Format),
    /// A compressed file that is too short to be recognised.
    UnfinishedCopy,
    /// It seems to be UTF-16, which this input is not configured to read.
    WrongEncoding(Encoding),
    /// It may be, or become, a copy of a file that has not ended yet: check again soon.
    Awaited,
    /// A segment of Tailwater's.
    Segment(io::Error),
    /// Not a regular file.
    Other,
    /// It cannot be opened or read.
    Failed(io::Error),
}

/// What a candidate was found to be.
pub type Judged<D> = (Candidate, Identified<Content<<D as Disk>::File>>);

/// Identifies candidates. Blocks.
pub fn identify<D: Disk>(
    disk: &D,
    patterns: &Patterns,
    candidates: Vec<Candidate>,
    knowledge: &Knowledge,
    work: &Work<Judged<D>>,
) {
    let scout = Scout::new(disk, patterns).with_steps(&work.steps);
    for candidate in candidates {
        work.steps.at_path(&candidate.path);
        let identified = identify_one(&scout, &candidate, knowledge).unwrap_or_else(Identified::Failed);
        if !work.done((candidate, identified)) {
            break;
        }
    }
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
    scout.goes_on();
    let file = spot.handle.open(Open::Read)?;
    scout.goes_on();
    let stat = file.stat()?;
    scout.goes_on();
    let begin = read_exactly(&file, 0, HEAD_BYTES)?;
    scout.goes_on();
    if let Some(format) = Format::of(&begin) {
        return Ok(match format.is_read() {
            true => Identified::Archive(format, Version::of(&stat)),
            false => Identified::ForeignCopy(format),
        });
    }
    if let Err(error) = refuse_content(&begin) {
        return Ok(Identified::Segment(error));
    }
    if let Some(seen) = wrong_encoding(&begin, knowledge.rules.encoding) {
        return Ok(Identified::WrongEncoding(seen));
    }
    if begin.len() < archive::MAGIC_BYTES && archive::has_archive_extension(&candidate.path) {
        return Ok(Identified::UnfinishedCopy);
    }
    let mut opened = recognise(&file, stat, knowledge, candidate.first)?;
    if opened.state.is_none() && candidate.first {
        opened.state = replaced(scout, &file, candidate, &opened, knowledge)?;
        if let Some(state) = &opened.state {
            opened.spans = spans_of(&file, state, knowledge.rules)?;
            opened.left_out = None;
        }
    }
    if opened.state.is_none() && spot.target.is_none() {
        opened.backup = backup(scout, candidate, knowledge);
    }
    // If the original is still followed, its owner compares them.
    let is_copy_of_backup = opened.backup.is_some() && opened.backup != candidate.predecessor;
    if (candidate.may_be_copy || is_copy_of_backup) && opened.state.is_none() {
        let head = read_exactly(&file, 0, HEAD_BYTES)?;
        match knowledge.memory.end_of_copy(&head, stat.length, |end| marker_at(&file, end).ok()) {
            Some(end) if is_copy_of_backup && end.position < PROOF_BYTES => {}
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
    let Opened { stat, seen_length, head, state, spans, left_out, copy, backup, .. } = opened;
    let file = (candidate.keep_open || backup.is_some()).then(|| Arc::new(Content::Plain(file)));
    Ok(Identified::Opened(Box::new(Opened { file, stat, seen_length, head, state, spans, left_out, copy, backup })))
}

/// The file that was read under this path before, if it has the name of a backup now.
fn backup<D: Disk>(scout: &Scout<'_, D>, candidate: &Candidate, knowledge: &Knowledge) -> Option<Inode> {
    let (parent, name) = (candidate.path.parent()?, candidate.path.file_name()?);
    let place = match candidate.may_have_backup {
        true => scout.directory(scout.patterns.base_of(&candidate.path), parent).ok()?,
        false => return None,
    };
    backups(name).find_map(|name| {
        let stat = place.handle.stat_name(&name).ok().filter(|stat| stat.kind == FileKind::Regular)?;
        let inode = Inode::of(&stat);
        (candidate.predecessor == Some(inode) || knowledge.memory.knows_inode(inode)).then_some(inode)
    })
}

/// The UTF-16 encoding that a file seems to have, if that is not the configured encoding.
pub fn wrong_encoding(head: &[u8], encoding: Encoding) -> Option<Encoding> {
    Encoding::seen_in(head).filter(|seen| *seen != encoding)
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
    let found =
        match knowledge.neighbours.has(scout, &candidate.path, known.descriptor.identity.inode, &knowledge.memory) {
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

/// The ranges to read in a file that continues this source. Where so many NULs precede a range that this look is too short
/// to tell whether a line begins there, the reader finds out.
pub fn spans_of<F: File>(file: &F, state: &SourceState, rules: Rules) -> io::Result<VecDeque<Span>> {
    let mut spans = unread_spans(state);
    let mut nuls = Backwards::within(FIRST_BYTES);
    for span in &mut spans {
        *span = begin_or_later(file, Span { beginning: Beginning::Unplaced, ..*span }, rules, &mut nuls)?;
    }
    Ok(spans)
}

fn begin_or_later<F: File>(file: &F, span: Span, rules: Rules, nuls: &mut Backwards) -> io::Result<Span> {
    Ok(find_beginning(file, span, rules, nuls)?.unwrap_or(span))
}

fn recognise<F: File>(file: &F, stat: Stat, knowledge: &Knowledge, first: bool) -> io::Result<Opened<F>> {
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
        backup: None,
    };
    if let Some(known) = known {
        opened.seen_length = stat.length;
        opened.spans = spans_of(file, &known.state, knowledge.rules)?;
        opened.state = Some(known.state.clone());
    } else if stat.length > 0 && (first && knowledge.start_at == StartAt::End || knowledge.ignores(&stat)) {
        let last = Span { from: stat.length, beginning: Beginning::LastLine, ..Span::WHOLE };
        let span = begin_or_later(file, last, knowledge.rules, &mut Backwards::within(FIRST_BYTES))?;
        opened.left_out = span.marker.filter(|_| span.from > 0).map(|marker| (span.from, marker));
        opened.spans = VecDeque::from([span]);
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
