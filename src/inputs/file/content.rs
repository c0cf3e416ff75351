//! What is read from a followed file: its bytes, or the decompressed content of an archive.
//!
//! Guarantees: the reader treats both alike, and a plain file costs one extra branch per call. Does not write.

use super::archive::Archive;
use std::io::{self, ErrorKind, IoSlice};
use tailwater_shards::env::{Access, Disk, Env, File, Stat};

/// The type of followed files in an environment.
pub type FileOf<E> = Content<<<E as Env>::Disk as Disk>::File>;

/// See the module.
pub enum Content<F> {
    /// The file itself.
    Plain(F),
    /// The decompressed content.
    Archive(Box<Archive<F>>),
}

impl<F> Content<F> {
    /// The archive, if it is one.
    pub fn archive(&self) -> Option<&Archive<F>> {
        match self {
            Content::Plain(_) => None,
            Content::Archive(archive) => Some(archive),
        }
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::Error::new(ErrorKind::Unsupported, "followed files are read-only"))
}

impl<F: File> File for Content<F> {
    fn is_remote(&self) -> bool {
        match self {
            Content::Plain(file) => file.is_remote(),
            Content::Archive(_) => false,
        }
    }

    #[inline]
    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read_nowait(buffer, offset),
            Content::Archive(_) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Content::Plain(file) => file.read_at(buffer, offset),
            Content::Archive(archive) => archive.read_at(buffer, offset),
        }
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

    #[inline]
    fn stat(&self) -> io::Result<Stat> {
        match self {
            Content::Plain(file) => file.stat(),
            Content::Archive(archive) => Ok(archive.stat()),
        }
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        match self {
            Content::Plain(file) => file.next_data(offset),
            Content::Archive(_) => Ok(Some(offset)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        read_only()
    }
}
