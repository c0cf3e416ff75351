//! Bytes of the active segment that wait to be written: frames are collected, so that the file gets few large writes.
//!
//! Guarantees: bytes are written to the file in order and once. After a write, less than [`BLOCK_BYTES`] remain, even if a
//! frame added more. Large frames are not copied, and buffers are reused. For writes that begin and end between blocks, the
//! page cache uses large folios, which cost half as much as single pages. Does not know what the bytes mean: the writer
//! publishes a group only when all of it is in the file.

use crate::env::File;
use crate::wal::recent::Recent;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;

/// Bytes of a block. A write contains as many whole blocks as there are. Small in tests, so that each test reaches it.
const BLOCK_BYTES: u64 = if cfg!(test) { 1024 } else { 256 * 1024 };

/// Smaller frames are copied together: a part of a write costs as much as copying some bytes.
const SHARED_BYTES_MIN: usize = if cfg!(test) { 256 } else { 8 * 1024 };

/// Maximum parts of one write.
const PARTS_MAX: usize = 64;

/// Waiting bytes, in one buffer.
struct Part {
    bytes: Rc<Vec<u8>>,
    /// Whether the buffer has no other owner, so that small frames may be added.
    own: bool,
}

/// See the module.
#[derive(Default)]
pub(super) struct Staging {
    parts: VecDeque<Part>,
    /// Bytes of the first part that have been written.
    skip: usize,
    /// Bytes of all parts that have not been written.
    length: usize,
    /// Where the first of these belongs in the file.
    from: u64,
}

impl Staging {
    /// An empty one, for a file that is written from this offset on.
    pub(super) fn at(from: u64) -> Staging {
        Staging { from, ..Staging::default() }
    }

    /// Switches to another file, which is written from `from` on.
    pub(super) fn restart(&mut self, from: u64) {
        assert!(self.length == 0, "bytes of one segment are not for the next");
        self.from = from;
    }

    /// Up to which offset the file has been written.
    pub(super) fn written(&self) -> u64 {
        self.from
    }

    /// Adds the bytes of a frame that nothing else keeps.
    pub(super) fn push(&mut self, frame: &[u8], recent: &Recent) {
        self.length += frame.len();
        if let Some(last) = self.parts.back_mut().filter(|part| part.own)
            && let Some(bytes) = Rc::get_mut(&mut last.bytes)
        {
            bytes.extend_from_slice(frame);
            return;
        }
        let mut bytes = recent.buffer();
        if let Some(bytes) = Rc::get_mut(&mut bytes) {
            bytes.clear();
            bytes.extend_from_slice(frame);
        }
        self.parts.push_back(Part { bytes, own: true });
    }

    /// Adds a frame that readers use too.
    pub(super) fn push_shared(&mut self, frame: Rc<Vec<u8>>, recent: &Recent) {
        if frame.len() < SHARED_BYTES_MIN {
            return self.push(&frame, recent);
        }
        self.length += frame.len();
        self.parts.push_back(Part { bytes: frame, own: false });
    }

    /// Writes everything before a frame that is too large to be kept, and the frame.
    pub(super) fn write_through(&mut self, frame: &[u8], file: &impl File, recent: &Recent) -> io::Result<()> {
        self.write_all(file, recent)?;
        file.write_at(frame, self.from)?;
        self.from += frame.len() as u64;
        Ok(())
    }

    /// Writes whole blocks, if there are any.
    pub(super) fn write_blocks(&mut self, file: &impl File, recent: &Recent) -> io::Result<()> {
        let end = self.from + self.length as u64;
        let whole = (end - end % BLOCK_BYTES).saturating_sub(self.from) as usize;
        let whole = if self.parts.len() >= PARTS_MAX { self.length } else { whole };
        self.write(whole, file, recent)
    }

    /// Writes the rest.
    pub(super) fn write_all(&mut self, file: &impl File, recent: &Recent) -> io::Result<()> {
        self.write(self.length, file, recent)
    }

    fn write(&mut self, length: usize, file: &impl File, recent: &Recent) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        let (mut used, mut rest, mut skip) = (0, length, self.skip);
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            let bytes = &part.bytes[skip..];
            let bytes = &bytes[..bytes.len().min(rest)];
            if bytes.is_empty() {
                break;
            }
            *slice = IoSlice::new(bytes);
            (used, rest, skip) = (used + 1, rest - bytes.len(), 0);
        }
        assert!(rest == 0, "the parts of a write are bounded");
        if used > 0 {
            file.write_parts_at(&slices[..used], self.from)?;
        }
        self.from += length as u64;
        self.length -= length;
        self.forget(length, recent);
        Ok(())
    }

    /// Returns the buffers of written bytes.
    fn forget(&mut self, length: usize, recent: &Recent) {
        self.skip += length;
        while let Some(first) = self.parts.front().filter(|part| part.bytes.len() <= self.skip) {
            self.skip -= first.bytes.len();
            recent.take_back(self.parts.pop_front().map(|part| part.bytes));
        }
    }
}
