//! A file of any length that consists of holes and a few pieces, and counts what is read from it.

use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use tailwater_shards::env::{Access, File, FileKind, Stat, Timestamp};

/// The unit in which a file system stores data.
const BLOCK: u64 = 4096;

pub struct Sparse {
    length: u64,
    /// By offset.
    pieces: Vec<(u64, Vec<u8>)>,
    reports_holes: bool,
    read_bytes: AtomicU64,
    requests: AtomicU64,
}

impl Sparse {
    pub fn new(length: u64, pieces: Vec<(u64, Vec<u8>)>) -> Sparse {
        let (read_bytes, requests) = Default::default();
        Sparse { length, pieces, reports_holes: true, read_bytes, requests }
    }

    /// The same on a file system that reports holes, or on one that does not.
    pub fn reporting(self, reports_holes: bool) -> Sparse {
        Sparse { reports_holes, ..self }
    }

    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// How often it was asked where data is.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(ErrorKind::Unsupported.into())
}

impl File for Sparse {
    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read_at(buffer, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX));
        let end = offset + length as u64;
        buffer[..length].fill(0);
        for (at, bytes) in &self.pieces {
            let (from, to) = (offset.max(*at), end.min(at + bytes.len() as u64));
            if from < to {
                let piece = &bytes[(from - at) as usize..(to - at) as usize];
                buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
            }
        }
        self.read_bytes.fetch_add(length as u64, Ordering::Relaxed);
        Ok(length)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        read_only()
    }

    fn append_parts(&self, _: &[IoSlice<'_>]) -> io::Result<u64> {
        read_only()
    }

    fn try_lock(&self) -> io::Result<()> {
        read_only()
    }

    fn unlock(&self) {}

    fn set_access(&self, _: Access) -> io::Result<()> {
        read_only()
    }

    fn allocate(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn stat(&self) -> io::Result<Stat> {
        let modified = Timestamp(0);
        Ok(Stat {
            kind: FileKind::Regular,
            device: 1,
            inode: 2,
            length: self.length,
            modified,
            owner: 0,
            mode: 0o640,
            created: None,
            links: 1,
        })
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if !self.reports_holes {
            return Ok(Some(offset).filter(|offset| *offset < self.length));
        }
        let blocks = self.pieces.iter().map(|(at, bytes)| {
            (at / BLOCK * BLOCK, (at + bytes.len() as u64).next_multiple_of(BLOCK).min(self.length))
        });
        Ok(blocks.filter(|(_, end)| *end > offset).map(|(begin, _)| begin.max(offset)).min())
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }
}
