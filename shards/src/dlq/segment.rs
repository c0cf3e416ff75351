//! Segments of letters: their names, their headers and their content.
//!
//! Guarantees: every returned letter has a valid checksum. Bytes that are not a letter are reported with their location, and
//! the letters after them are found. A segment of any size is read in bounded memory: one window, or the current letter, whose
//! length is bounded whatever its bytes claim. Does not decide what happens to a segment.

use super::letter::{self, KeptLetter, LETTER_HEADER_BYTES, LETTER_MAGIC};
use crate::env::{Disk, File, Open};
use crate::wal::frame::checksum;
use crate::wal::segment::{HeaderFound, SegmentHeader};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes before the first letter.
pub const HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"TWDS");
const VERSION: u8 = 1;

/// Bytes of a segment that are read at once.
pub const WINDOW_BYTES: usize = 256 * 1024;

/// Minimum bytes that a file uses on most file systems.
const BLOCK_BYTES: u64 = 4096;

/// The header of a segment.
pub fn header(shard: u64, number: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[8] = VERSION;
    bytes[16..24].copy_from_slice(&shard.to_le_bytes());
    bytes[24..32].copy_from_slice(&number.to_le_bytes());
    let checksum = checksum(&bytes);
    bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// One segment in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Whether nothing writes it any more.
    pub sealed: bool,
    /// Where it is.
    pub path: PathBuf,
}

/// The name of a segment.
pub fn file_name(number: u64, sealed: bool) -> String {
    format!("{number:016}.{}", if sealed { "seg" } else { "open" })
}

/// The segments in a folder, in order. Empty if the folder does not exist. Blocks.
pub fn list<D: Disk>(disk: &D, folder: &Path) -> io::Result<Vec<Entry>> {
    let names = match disk.list(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        names => names?,
    };
    let entry = |name: &str| {
        let (digits, ending) = name.split_once('.')?;
        let number = digits.parse().ok()?;
        let sealed = ending == "seg";
        (file_name(number, sealed) == name).then(|| Entry { number, sealed, path: folder.join(name) })
    };
    let mut entries: Vec<Entry> = names.iter().filter_map(|found| entry(found.name.to_str()?)).collect();
    entries.sort();
    Ok(entries)
}

/// How much a segment of this length counts toward the queue's limit.
pub fn cost(length: u64) -> u64 {
    length.next_multiple_of(BLOCK_BYTES)
}

/// What was found at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A letter.
    Letter(KeptLetter<'a>),
    /// Bytes that are not a letter.
    Damage {
        /// The first of them.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It can be read.
    Known,
    /// Written by another version: its letters must not be touched.
    Foreign(u8),
    /// Missing or damaged. Letters after it can still be found.
    Damaged,
}

/// A segment that is open for reading.
pub struct Segment<F> {
    file: F,
    length: u64,
    header: Header,
}

impl<F: File> Segment<F> {
    /// Opens a segment and reads its header. Bytes that are written later are not seen. Blocks.
    pub fn open<D: Disk<File = F>>(disk: &D, path: &Path) -> io::Result<Segment<F>> {
        let file = disk.open(path, Open::Read)?;
        let length = file.stat()?.length;
        let mut window = Window { bytes: Vec::new(), start: 0 };
        window.reach(&file, 0, HEADER_BYTES, length)?;
        Ok(Segment { header: header_of(&window.bytes), file, length })
    }

    /// What its header says.
    pub fn header(&self) -> Header {
        self.header
    }

    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The letters and the damage between them, in order. A segment of another version counts as damage from end to end.
    pub fn walk(&self) -> Walk<'_, F> {
        Walk { segment: self, at: 0, state: Position::default() }
    }

    /// Number of letters in it. Blocks.
    pub fn letters(&self) -> io::Result<u64> {
        let (mut walk, mut count) = (self.walk(), 0);
        while let Some(found) = walk.next()? {
            count += u64::from(matches!(found, Found::Letter(_)));
        }
        Ok(count)
    }

    /// Passes the letters from `place` on to `take`, those in about this many bytes. Returns whether there may be more. Blocks.
    pub fn letters_from(
        &self,
        place: &mut Position,
        bytes: u64,
        mut take: impl FnMut(&KeptLetter<'_>),
    ) -> io::Result<bool> {
        let begin = place.at;
        let mut walk = Walk { segment: self, at: place.at, state: std::mem::take(place) };
        let mut more = true;
        while more && walk.at - begin < bytes {
            match walk.next()? {
                Some(Found::Letter(kept)) => take(&kept),
                Some(Found::Damage { .. }) => {}
                None => more = false,
            }
        }
        let at = walk.at;
        *place = walk.state;
        place.at = at;
        Ok(more)
    }

    /// Whether these bytes are all zero.
    pub(super) fn is_blank(&self, from: u64, to: u64) -> io::Result<bool> {
        let mut window = Window { bytes: Vec::new(), start: from };
        let mut at = from;
        while at < to {
            let wanted = (to - at).min(WINDOW_BYTES as u64) as usize;
            let there = window.reach(&self.file, at, wanted, to)?.min(wanted);
            if there == 0 {
                break;
            }
            if window.at(at)[..there].iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            at += there as u64;
        }
        Ok(true)
    }

    /// Copies bytes of it to another file.
    pub(super) fn copy(&self, from: u64, to: u64, out: &mut Sealed<F>) -> io::Result<()> {
        let mut window = Window { bytes: Vec::new(), start: from };
        let mut at = from;
        while at < to {
            let wanted = (to - at).min(WINDOW_BYTES as u64) as usize;
            if window.reach(&self.file, at, wanted, to)? < wanted {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            out.write(&window.at(at)[..wanted])?;
            at += wanted as u64;
        }
        Ok(())
    }
}

/// Whether a file that begins like this is a segment of letters or of a write-ahead log, of whatever version.
pub fn is_segment(begin: &[u8]) -> bool {
    SegmentHeader::decode(begin) != HeaderFound::Bad || !matches!(header_of(begin), Header::Damaged)
}

fn header_of(bytes: &[u8]) -> Header {
    let Some(header) = bytes.get(..HEADER_BYTES) else { return Header::Damaged };
    let sound = header[..4] == MAGIC.to_le_bytes() && header[4..8] == checksum(header).to_le_bytes();
    match header[8] {
        _ if !sound => Header::Damaged,
        VERSION => Header::Known,
        version => Header::Foreign(version),
    }
}

/// The part of a file that is in memory.
#[derive(Debug, Default)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// The bytes from `offset` on.
    fn at(&self, offset: u64) -> &[u8] {
        let skipped = offset.saturating_sub(self.start) as usize;
        self.bytes.get(skipped..).unwrap_or_default()
    }

    /// Makes `wanted` bytes from `offset` on readable, if the file has that many before `end`, and returns how many there are.
    /// Bytes before `offset` are released.
    fn reach(&mut self, file: &impl File, offset: u64, wanted: usize, end: u64) -> io::Result<usize> {
        let there = self.at(offset).len();
        if there >= wanted || self.start + self.bytes.len() as u64 >= end && offset >= self.start {
            return Ok(there);
        }
        let skipped = ((offset - self.start) as usize).min(self.bytes.len());
        self.bytes.drain(..skipped);
        self.start = offset;
        // The buffer must not keep the size of a long letter.
        self.bytes.shrink_to(wanted.max(WINDOW_BYTES));
        let most = (end - offset).min(wanted.max(WINDOW_BYTES) as u64) as usize;
        let mut length = self.bytes.len();
        self.bytes.reserve_exact(most.saturating_sub(length));
        self.bytes.resize(most, 0);
        while length < most {
            match file.read_at(&mut self.bytes[length..], offset + length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        self.bytes.truncate(length);
        Ok(length)
    }
}

/// The position of a walk, with what it has read ahead.
#[derive(Debug, Default)]
pub struct Position {
    at: u64,
    window: Window,
}

/// A walk through a segment. It keeps at most [`WINDOW_BYTES`] or the current letter in memory, whichever is larger.
pub struct Walk<'a, F> {
    segment: &'a Segment<F>,
    at: u64,
    state: Position,
}

impl<F: File> Walk<'_, F> {
    /// One past the end of the last result.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that it keeps in memory.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.state.window.bytes.capacity()
    }

    /// The next result. None at the end. Blocks.
    #[expect(clippy::should_implement_trait, reason = "what is found lies in the window, which the next call moves")]
    pub fn next(&mut self) -> io::Result<Option<Found<'_>>> {
        let from = self.at;
        if from >= self.segment.length {
            return Ok(None);
        }
        let damaged_until = match (from, self.segment.header) {
            (0, Header::Known) => {
                self.at = HEADER_BYTES as u64;
                return self.next();
            }
            (0, Header::Foreign(_)) => self.segment.length,
            (0, Header::Damaged) => match self.next_letter(0)? {
                0 => {
                    self.at = 0;
                    return self.letter_at(0);
                }
                next => next,
            },
            _ if self.is_letter(from)? => return self.letter_at(from),
            _ => self.next_letter(from + 8)?,
        };
        self.at = damaged_until;
        Ok(Some(Found::Damage { offset: from, bytes: damaged_until - from }))
    }

    fn letter_at(&mut self, from: u64) -> io::Result<Option<Found<'_>>> {
        match letter::decode(self.state.window.at(from)) {
            Ok((letter, length)) => {
                self.at = from + length as u64;
                Ok(Some(Found::Letter(letter)))
            }
            Err(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Whether a whole letter is at this place. If so, it is in the window.
    fn is_letter(&mut self, at: u64) -> io::Result<bool> {
        let Segment { file, length, .. } = self.segment;
        let window = &mut self.state.window;
        if window.reach(file, at, LETTER_HEADER_BYTES, *length)? < LETTER_HEADER_BYTES {
            return Ok(false);
        }
        // A length that a flipped bit made too large is not read: it is limited by the maximum and by the file.
        let Ok(claimed) = letter::claimed_length(window.at(at)) else { return Ok(false) };
        if claimed as u64 > length - at || window.reach(file, at, claimed, *length)? < claimed {
            return Ok(false);
        }
        Ok(letter::decode(window.at(at)).is_ok())
    }

    /// The position of the next whole letter at or after `from`, or the end.
    fn next_letter(&mut self, from: u64) -> io::Result<u64> {
        let magic = LETTER_MAGIC.to_le_bytes();
        let end = self.segment.length;
        let mut at = from.next_multiple_of(8);
        while at < end {
            let window = &mut self.state.window;
            window.reach(&self.segment.file, at, magic.len(), end)?;
            let ahead = window.at(at);
            if ahead.is_empty() {
                break;
            }
            match (0..ahead.len()).step_by(8).find(|skipped| ahead[*skipped..].starts_with(&magic)) {
                Some(skipped) => {
                    at += skipped as u64;
                    if self.is_letter(at)? {
                        return Ok(at);
                    }
                    at += 8;
                }
                None => at += ahead.len().next_multiple_of(8) as u64,
            }
        }
        Ok(end)
    }
}

/// A sealed segment under construction. It becomes visible as a whole or not at all.
pub struct Sealed<F> {
    file: F,
    aside: PathBuf,
    path: PathBuf,
    buffer: Vec<u8>,
    written: u64,
}

impl<F: File> Sealed<F> {
    /// Begins an empty one. Blocks.
    pub fn begin<D: Disk<File = F>>(disk: &D, path: &Path) -> io::Result<Sealed<F>> {
        let aside = path.with_extension("new");
        let file = disk.open(&aside, Open::Create)?;
        file.truncate(0)?;
        Ok(Sealed { file, aside, path: path.to_path_buf(), buffer: Vec::new(), written: 0 })
    }

    /// Adds bytes. Blocks.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WINDOW_BYTES { self.flush() } else { Ok(()) }
    }

    /// Adds a letter that was stored before. Blocks.
    pub fn keep(&mut self, kept: &KeptLetter<'_>) -> io::Result<()> {
        let start = self.buffer.len();
        letter::encode(&mut self.buffer, kept.time, &kept.letter);
        letter::stamp(&mut self.buffer[start..], 0);
        if self.buffer.len() >= WINDOW_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes it durable under its name. Blocks.
    pub fn finish<D: Disk<File = F>>(mut self, disk: &D) -> io::Result<()> {
        self.flush()?;
        self.file.sync()?;
        disk.rename(&self.aside, &self.path)?;
        self.path.parent().map_or(Ok(()), |folder| disk.sync_dir(folder))
    }
}
