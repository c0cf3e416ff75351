//! Opens files that were just found and finds out who they are.
//!
//! Guarantees: what is said of a file is read through its open descriptor, so that a rename in between confuses nothing; a
//! file that an earlier life read goes on where that ended. Runs where it may block, and changes nothing.

use super::StartAt;
use super::follow::{Span, unread_spans};
use super::gzip;
use super::identity::{HEAD_BYTES, Head, Inode, Memory, Sighting, TAIL_BYTES, tail_marker};
use super::nuls;
use crate::codec::framing::{Place, Rules};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tailwater_shards::env::{Disk, File, FileKind, Open, Stat};
use tailwater_shards::wal::SourceState;

/// A path that was found.
pub struct Candidate {
    /// The path.
    pub path: PathBuf,
    /// Whether its name is that of a copy of a followed file.
    pub may_be_copy: bool,
    /// Whether it may be looked at later, when the file that it is a copy of has ended.
    pub may_wait: bool,
    /// Whether the descriptor is handed on; else the owner opens the file when there is something to read.
    pub keep_open: bool,
}

/// What the search for earlier lives needs.
pub struct Knowledge {
    /// What earlier lives read.
    pub memory: Arc<Memory>,
    /// How lines are cut.
    pub rules: Rules,
    /// Where to start in a file that no earlier life read.
    pub start_at: StartAt,
}

/// A file that is to be followed.
pub struct Opened<F> {
    /// The descriptor, if it is kept.
    pub file: Option<Arc<F>>,
    /// What the file is.
    pub stat: Stat,
    /// How much of it is known to be lines or may be: nothing where a hole comes first.
    pub seen_length: u64,
    /// How it begins.
    pub head: Head,
    /// The source that it continues.
    pub state: Option<SourceState>,
    /// What is to be read.
    pub spans: VecDeque<Span>,
    /// Bytes at the beginning that are left out on purpose, and the marker of their end.
    pub left_out: Option<(u64, u64)>,
}

impl<F> Opened<F> {
    /// Leaves out the bytes up to `end`, whose marker is `marker`.
    fn leave_out(&mut self, end: u64, marker: u64) {
        self.spans = VecDeque::from([Span { from: end, to: None, marker: Some(marker), place: Place::LineStart }]);
        self.left_out = Some((end, marker));
    }
}

/// What became of a candidate.
pub enum Identified<F> {
    /// A file to be followed.
    Opened(Box<Opened<F>>),
    /// A compressed copy of a file that was read.
    KnownCopy,
    /// A compressed file that was never seen as a live one.
    ForeignCopy,
    /// A compressed file that is too short yet to be told.
    UnfinishedCopy,
    /// It may be a copy of a file that has not ended yet, or become one: to be looked at again soon.
    Awaited,
    /// Not a regular file.
    Other,
    /// It cannot be opened or read.
    Failed(io::Error),
}

/// Identifies candidates. Blocks.
pub fn identify<D: Disk>(disk: &D, candidates: &[Candidate], knowledge: &Knowledge) -> Vec<Identified<D::File>> {
    let one = |candidate| identify_one(disk, candidate, knowledge).unwrap_or_else(Identified::Failed);
    candidates.iter().map(one).collect()
}

fn identify_one<D: Disk>(disk: &D, candidate: &Candidate, knowledge: &Knowledge) -> io::Result<Identified<D::File>> {
    // Opening a device can have effects of its own.
    if disk.stat(&candidate.path)?.kind != FileKind::Regular {
        return Ok(Identified::Other);
    }
    let file = disk.open(&candidate.path, Open::Read)?;
    let stat = file.stat()?;
    if stat.kind != FileKind::Regular {
        return Ok(Identified::Other);
    }
    if gzip::is_gzip(&candidate.path) {
        let head = gzip::head(&file)?;
        return Ok(match knowledge.memory.knows_head(&head) {
            true => Identified::KnownCopy,
            false if head.len() < HEAD_BYTES => Identified::UnfinishedCopy,
            false => Identified::ForeignCopy,
        });
    }
    let mut opened = recognise(&file, stat, knowledge)?;
    if candidate.may_be_copy && opened.state.is_none() {
        let head = read_exactly(&file, 0, HEAD_BYTES)?;
        match knowledge.memory.end_of_copy(&head, stat.length, |end| marker_at(&file, end).ok()) {
            Some(end) => opened.leave_out(end.position, end.marker),
            None if candidate.may_wait && (head.is_empty() || knowledge.memory.knows_beginning(&head)) => {
                return Ok(Identified::Awaited);
            }
            None => {}
        }
    }
    if candidate.keep_open {
        opened.file = Some(Arc::new(file));
    }
    Ok(Identified::Opened(Box::new(opened)))
}

fn recognise<F: File>(file: &F, stat: Stat, knowledge: &Knowledge) -> io::Result<Opened<F>> {
    let head = read_exactly(file, 0, HEAD_BYTES)?;
    let sighting = Sighting { inode: Inode::of(&stat), length: stat.length, head: &head };
    let known = knowledge.memory.recognise(&sighting, |end| marker_at(file, end).ok());
    let mut opened = Opened {
        file: None,
        stat,
        seen_length: if head.first() == Some(&0) { 0 } else { stat.length },
        head: Head::of(&head),
        state: None,
        spans: VecDeque::from([Span::WHOLE]),
        left_out: None,
    };
    if let Some(known) = known {
        opened.seen_length = stat.length;
        opened.spans = unread_spans(&known.state);
        for span in &mut opened.spans {
            span.place = place_of(file, span.from, knowledge.rules)?;
        }
        opened.state = Some(known.state.clone());
    } else if knowledge.start_at == StartAt::End && stat.length > 0 {
        let from = last_line_start(file, stat.length, knowledge.rules)?;
        let place = place_of(file, from, knowledge.rules)?;
        let marker = marker_at(file, from)?;
        opened.spans = VecDeque::from([Span { from, to: None, marker: Some(marker), place }]);
        opened.left_out = (from > 0).then_some((from, marker));
    }
    Ok(opened)
}

fn marker_at<F: File>(file: &F, end: u64) -> io::Result<u64> {
    let length = end.min(TAIL_BYTES as u64);
    Ok(tail_marker(&read_exactly(file, end - length, length as usize)?))
}

/// Reads `length` bytes, or what there is.
fn read_exactly<F: File>(file: &F, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let filled = read_whole(file, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Fills `bytes`, as far as the file goes. Returns how many were read.
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

/// Where a crash left `position`. In a line whose rest was being skipped at least as many bytes as a line may have precede it
/// without a newline, those NULs not counted that the line begins with. Anything shorter was an unfinished last line that
/// somebody completed.
fn place_of<F: File>(file: &F, position: u64, rules: Rules) -> io::Result<Place> {
    let is_line_start = |at: u64| Ok::<_, io::Error>(at == 0 || read_exactly(file, at - 1, 1)? == b"\n");
    if is_line_start(position)? || is_line_start(nuls::begin_before(file, position)?)? {
        return Ok(Place::LineStart);
    }
    // A cut that spares a character may be shorter by three bytes.
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

/// Where the last unfinished line begins; when there is none, or when it is too long, the end of what is written: NULs behind
/// that may be room for what comes.
fn last_line_start<F: File>(file: &F, length: u64, rules: Rules) -> io::Result<u64> {
    let length = nuls::begin_before(file, length)?;
    let window = length.min(rules.line_bytes_max as u64 + 1);
    let bytes = read_exactly(file, length - window, window as usize)?;
    Ok(match memchr::memrchr(b'\n', &bytes) {
        Some(newline) => length - window + newline as u64 + 1,
        None if window == length => 0,
        None => length,
    })
}
