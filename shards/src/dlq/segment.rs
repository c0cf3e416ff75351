//! Segments of letters: their names, their headers, and what is in them.
//!
//! Guarantees: what is handed out as a letter has a checksum that holds; what is none is reported with its place, and the
//! letters behind it are found. Writes nothing.

use super::letter::{self, KeptLetter, LETTER_MAGIC};
use crate::env::{Disk, File as _, Open};
use crate::wal::frame::checksum;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes before the first letter.
pub const HEADER_BYTES: usize = 64;

const MAGIC: u32 = u32::from_le_bytes(*b"TWDS");
const VERSION: u8 = 1;

/// Bytes a file takes at least on most file systems.
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
    /// Whether nobody writes it any more.
    pub sealed: bool,
    /// Where it is.
    pub path: PathBuf,
}

/// The name of a segment.
pub fn file_name(number: u64, sealed: bool) -> String {
    format!("{number:016}.{}", if sealed { "seg" } else { "open" })
}

/// The segments in a folder, in order; none where there is no folder. Blocks.
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

/// What a segment of so many bytes counts for in the bound of the queue.
pub fn cost(length: u64) -> u64 {
    length.next_multiple_of(BLOCK_BYTES)
}

/// What is at a place of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// A letter.
    Letter(KeptLetter<'a>),
    /// Bytes that are no letter.
    Damage {
        /// The first of them.
        offset: u64,
        /// How many.
        bytes: u64,
    },
}

/// The bytes of a segment.
pub struct Segment {
    bytes: Vec<u8>,
}

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It can be read.
    Known,
    /// It was written by another version: its letters are not ours to touch.
    Foreign(u8),
    /// It is not there or damaged; letters behind it can still be found.
    Damaged,
}

impl Segment {
    /// Reads a segment. Blocks, and takes as much memory as the segment has bytes.
    pub fn read<D: Disk>(disk: &D, path: &Path) -> io::Result<Segment> {
        let file = disk.open(path, Open::Read)?;
        let mut bytes = vec![0; usize::try_from(file.stat()?.length).unwrap_or(usize::MAX)];
        let mut length = 0;
        while length < bytes.len() {
            match file.read_at(&mut bytes[length..], length as u64)? {
                0 => break,
                read => length += read,
            }
        }
        bytes.truncate(length);
        Ok(Segment { bytes })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What its header says.
    pub fn header(&self) -> Header {
        let Some(header) = self.bytes.get(..HEADER_BYTES) else { return Header::Damaged };
        let sound = header[..4] == MAGIC.to_le_bytes() && header[4..8] == checksum(header).to_le_bytes();
        match header[8] {
            _ if !sound => Header::Damaged,
            VERSION => Header::Known,
            version => Header::Foreign(version),
        }
    }

    /// The letters, and the damage between them, in order. A segment of another version is damage from end to end.
    pub fn walk(&self) -> Walk<'_> {
        Walk { segment: self, at: 0 }
    }

    /// Letters in it.
    pub fn letters(&self) -> u64 {
        self.walk().filter(|found| matches!(found, Found::Letter(_))).count() as u64
    }

    /// The next whole letter at or behind `from`, or the end.
    fn next_letter(&self, from: usize) -> usize {
        let magic = LETTER_MAGIC.to_le_bytes();
        let is_letter =
            |at: &usize| self.bytes[*at..].starts_with(&magic) && letter::decode(&self.bytes[*at..]).is_ok();
        let end = self.bytes.len();
        (from.next_multiple_of(8)..end).step_by(8).find(is_letter).unwrap_or(end)
    }
}

/// The way through a segment.
pub struct Walk<'a> {
    segment: &'a Segment,
    at: usize,
}

impl Walk<'_> {
    /// One past what was found last.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let segment = self.segment;
        if self.at == 0 {
            self.at = match segment.header() {
                Header::Known => HEADER_BYTES,
                Header::Foreign(_) => segment.bytes.len(),
                Header::Damaged => segment.next_letter(0),
            };
            if self.at == 0 || segment.header() != Header::Known {
                return (self.at > 0).then_some(Found::Damage { offset: 0, bytes: self.at as u64 });
            }
        }
        let from = self.at;
        let rest = segment.bytes.get(from..).filter(|rest| !rest.is_empty())?;
        if let Ok((letter, length)) = letter::decode(rest) {
            self.at += length;
            return Some(Found::Letter(letter));
        }
        self.at = segment.next_letter(from + 8);
        Some(Found::Damage { offset: from as u64, bytes: (self.at - from) as u64 })
    }
}
