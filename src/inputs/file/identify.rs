//! Opens files that were just found and finds out who they are.
//!
//! Guarantees: what is said of a file is read through its open descriptor, so that a rename in between confuses nothing; a
//! file that an earlier life read goes on where that ended. Runs where it may block, and changes nothing.

use super::StartAt;
use super::follow::{Span, unread_spans};
use super::gzip;
use super::identity::{HEAD_BYTES, Head, Inode, Memory, Sighting, TAIL_BYTES, tail_marker};
use crate::codec::framing::Rules;
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
        self.spans = VecDeque::from([Span { from: end, to: None, marker: Some(marker), skipping: false }]);
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
        head: Head::of(&head),
        state: None,
        spans: VecDeque::from([Span::WHOLE]),
        left_out: None,
    };
    if let Some(known) = known {
        opened.spans = unread_spans(&known.state);
        for span in &mut opened.spans {
            span.skipping = is_inside_long_line(file, span.from, knowledge.rules)?;
        }
        opened.state = Some(known.state.clone());
    } else if knowledge.start_at == StartAt::End && stat.length > 0 {
        let from = last_line_start(file, stat.length, knowledge.rules)?;
        let skipping = is_inside_long_line(file, from, knowledge.rules)?;
        let marker = marker_at(file, from)?;
        opened.spans = VecDeque::from([Span { from, to: None, marker: Some(marker), skipping }]);
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
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether a crash left `position` inside a line whose rest was being skipped: then at least as many bytes as a line may
/// have precede it without a newline. Anything shorter was an unfinished last line that somebody completed.
fn is_inside_long_line<F: File>(file: &F, position: u64, rules: Rules) -> io::Result<bool> {
    if position == 0 || rules.too_long == super::LineTooLong::Split {
        return Ok(false);
    }
    if read_exactly(file, position - 1, 1)? == b"\n" {
        return Ok(false);
    }
    // A cut that spares a character may be shorter by three bytes.
    let length = position.min(rules.line_bytes_max as u64 - 3);
    let before = read_exactly(file, position - length, length as usize)?;
    Ok(length + 3 >= rules.line_bytes_max as u64 && !before.contains(&b'\n'))
}

/// Where the last unfinished line begins; the end of the file when there is none, or when it is too long.
fn last_line_start<F: File>(file: &F, length: u64, rules: Rules) -> io::Result<u64> {
    let window = length.min(rules.line_bytes_max as u64 + 1);
    let bytes = read_exactly(file, length - window, window as usize)?;
    Ok(match memchr::memrchr(b'\n', &bytes) {
        Some(newline) => length - window + newline as u64 + 1,
        None if window == length => 0,
        None => length,
    })
}
