//! The state that the output stores with each commit: its open files.
//!
//! ```text
//! state    version (2) 1 byte | last journal number 8 | made 8 | files 4 | per file:
//!          device 8 | inode 8 | created 8 | length 8 | marker 8 | first write 8 | generation 4 | compression 1 | path bytes 2 | path
//! ```
//! All numbers are little-endian. `created` is 0 if the file system does not record it; `made` is in ns since 1970. Version 1
//! has neither `made`, `created`, `marker` nor `compression`. Guarantees: decoding returns what was encoded, or nothing.

use super::compress::Compression;
use std::io;
use tailwater_shards::env::{File, Stat};
use xxhash_rust::xxh3::xxh3_64;

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    pub device: u64,
    pub inode: u64,
    /// Creation time of the inode, ns since 1970; 0 if it is unknown.
    pub created: i64,
}

impl Identity {
    /// The identity in the metadata of a file.
    pub fn of(stat: &Stat) -> Identity {
        let created = stat.created.map_or(0, |created| created.0);
        Identity { device: stat.device, inode: stat.inode, created }
    }

    /// Whether both are the same file. The device number may change when a file system is mounted again, and inode numbers repeat
    /// on each of them, so another device takes proof: the creation time to the nanosecond, which nobody can choose.
    pub fn fits(&self, other: &Identity) -> bool {
        let is_known = self.created != 0 && other.created != 0;
        let is_same = match is_known {
            true => self.created == other.created,
            false => self.device == other.device,
        };
        self.inode == other.inode && is_same
    }
}

/// A file in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub path: Vec<u8>,
    pub identity: Identity,
    pub length: u64,
    /// The marker of the bytes before `length`: see [`marker_of`].
    pub marker: u64,
    /// When its first byte was written, ns since 1970.
    pub first_write: i64,
    /// How often the file at this path was found shorter than expected.
    pub generation: u32,
    /// None if the state's version does not have it.
    pub compression: Option<Compression>,
}

/// Everything that a commit stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last journal record when the commit was made.
    pub journal: u64,
    /// When the commit was made, ns since 1970; 0 if it is unknown.
    pub made: i64,
    pub files: Vec<Committed>,
}

/// Bytes of a state without its files.
pub const STATE_HEAD_BYTES: usize = 21;

const STATE_VERSION: u8 = 2;

/// No record ever reaches this number: a higher one is damage.
pub(super) const NUMBER_MAX: u64 = 1 << 60;

/// Number of bytes that a marker covers.
const MARKER_BYTES: u64 = 64;

/// A hash of the last bytes of a file before `length`, which shows whether the file was rewritten. Zero if there are none.
pub fn marker_of(file: &impl File, length: u64) -> io::Result<u64> {
    let count = length.min(MARKER_BYTES);
    let mut bytes = vec![0; count as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], length - count + filled as u64)? {
            0 => return Ok(0),
            read => filled += read,
        }
    }
    Ok(if bytes.is_empty() { 0 } else { xxh3_64(&bytes).max(1) })
}

impl Committed {
    /// Bytes that it occupies in a state.
    pub fn bytes(path: &[u8]) -> usize {
        55 + path.len()
    }
}

const COMPRESSIONS: [Option<Compression>; 4] =
    [Some(Compression::None), Some(Compression::Gzip), Some(Compression::Zstd), None];

pub(super) fn compression_byte(compression: Option<Compression>) -> u8 {
    COMPRESSIONS.iter().position(|known| *known == compression).unwrap_or(3) as u8
}

/// None if the byte has no meaning.
pub(super) fn compression_of(byte: u8) -> Option<Option<Compression>> {
    COMPRESSIONS.get(usize::from(byte)).copied()
}

impl State {
    /// Appends the encoded state.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(STATE_VERSION);
        out.extend_from_slice(&self.journal.to_le_bytes());
        out.extend_from_slice(&self.made.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            let Identity { device, inode, created } = file.identity;
            for number in [device, inode, created as u64, file.length, file.marker, file.first_write as u64] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            out.extend_from_slice(&file.generation.to_le_bytes());
            out.push(compression_byte(file.compression));
            out.extend_from_slice(&(file.path.len() as u16).to_le_bytes());
            out.extend_from_slice(&file.path);
        }
    }

    /// Decodes a state; none if the bytes are invalid or of an unknown version.
    pub fn decode(bytes: &[u8]) -> Option<State> {
        let mut rest = Bytes(bytes);
        let version = rest.take(1)?[0];
        if !(1..=STATE_VERSION).contains(&version) {
            return None;
        }
        let journal = rest.number().filter(|number| *number <= NUMBER_MAX)?;
        let made = if version == 1 { 0 } else { rest.number()? as i64 };
        let count = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
        let mut files = Vec::new();
        for _ in 0..count {
            let identity = rest.identity(version)?;
            let length = rest.number()?;
            let marker = if version == 1 { 0 } else { rest.number()? };
            let first_write = rest.number()? as i64;
            let generation = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
            let compression = if version == 1 { None } else { compression_of(rest.take(1)?[0])? };
            let path_bytes = u16::from_le_bytes(rest.take(2)?.try_into().ok()?);
            let path = rest.take(usize::from(path_bytes))?.to_vec();
            files.push(Committed { path, identity, length, marker, first_write, generation, compression });
        }
        rest.0.is_empty().then_some(State { journal, made, files })
    }
}

pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn number(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub(super) fn identity(&mut self, version: u8) -> Option<Identity> {
        let (device, inode) = (self.number()?, self.number()?);
        let created = if version == 1 { 0 } else { self.number()? as i64 };
        Some(Identity { device, inode, created })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_decodes_to_itself_and_damage_is_rejected() {
        let identity = Identity { device: 1, inode: 2, created: -3 };
        let compression = Some(Compression::Zstd);
        let file = Committed {
            path: b"/a".to_vec(),
            identity,
            length: 3,
            marker: 9,
            first_write: -4,
            generation: 5,
            compression,
        };
        let state = State { journal: 9, made: -8, files: vec![file.clone(), Committed { path: Vec::new(), ..file }] };
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(State::decode(&bytes), Some(state));
        assert_eq!(bytes.len(), STATE_HEAD_BYTES + Committed::bytes(b"/a") + Committed::bytes(b""));
        for length in 0..bytes.len() {
            assert_eq!(State::decode(&bytes[..length]), None);
        }
        bytes[0] = 3;
        assert_eq!(State::decode(&bytes), None);
    }
}
