//! One read: as much as fits in a batch, starting just before the position.
//!
//! Guarantees: if a read continues an earlier one, the two overlap, so that both are of the same content. Bytes that are not
//! in the page cache are read where blocking is allowed. In the steady state a read costs one system call, or two at the end
//! of the file.

use super::super::content::FileOf;
use super::super::follow::Followed;
use super::super::identity::TAIL_BYTES;
use super::Reader;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tailwater_shards::batch::Batch;
use tailwater_shards::env::{Env, File, Stat};

/// The last bytes of a read, which are read again together with the bytes after them.
struct Seam {
    bytes: [u8; TAIL_BYTES],
    length: usize,
}

impl Seam {
    /// The seam at the end of the first `length` bytes of `buffer`.
    fn at(buffer: &[u8], length: usize) -> Seam {
        let mut seam = Seam { bytes: [0; TAIL_BYTES], length: length.min(TAIL_BYTES) };
        seam.bytes[..seam.length].copy_from_slice(&buffer[length - seam.length..length]);
        seam
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether a read into `window` of `buffer` began with the seam. If not, the seam is restored there.
    fn holds(&self, buffer: &mut [u8], window: Range<usize>) -> bool {
        let place = window.start..window.start + self.length;
        let holds = window.end >= place.end && &buffer[place.clone()] == self.bytes();
        if !holds {
            buffer[place].copy_from_slice(self.bytes());
        }
        holds
    }
}

/// The result of a read.
pub(super) struct Filled {
    pub(super) batch: Box<Batch>,
    /// Number of bytes read, including those before the position.
    pub(super) length: usize,
    /// The metadata of the file, if the read ended before the batch was full.
    pub(super) stat: Option<Stat>,
}

impl<E: Env> Reader<'_, E> {
    /// Reads as much as fits in the batch, starting just before the position.
    pub(super) async fn fill(
        &self,
        followed: &Followed<FileOf<E>>,
        file: &Arc<FileOf<E>>,
        mut batch: Box<Batch>,
    ) -> io::Result<Filled> {
        let span = followed.span();
        let offset = span.offset();
        let capacity = batch.chunk.capacity();
        let want = span.to.map_or(capacity, |to| capacity.min(usize::try_from(to - offset).unwrap_or(usize::MAX)));
        let mut length = 0;
        let mut stat = None;
        for again in [false, true] {
            // If a second read follows the first, both must be of the same content.
            let seam = Seam::at(batch.chunk.spare(), length);
            let from = length - seam.bytes().len();
            let mut reached = length;
            match file.read_nowait(&mut batch.chunk.spare()[from..want], offset + from as u64) {
                // The file has more, but the page cache ends here. The next attempt would begin before that end and find the
                // same bytes again without blocking, so this one blocks.
                Ok(more) if again && from + more <= length => {
                    (batch, reached) = self.fill_blocking(file, batch, offset, from..want).await?;
                }
                Ok(more) => reached = from + more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (batch, reached) = self.fill_blocking(file, batch, offset, from..want).await?;
                }
                Err(error) => {
                    self.context.lanes.put_back(batch);
                    return Err(error);
                }
            }
            if !seam.holds(batch.chunk.spare(), from..reached) {
                break;
            }
            length = reached;
            if length == want {
                break;
            }
            // A short read is not the end of the file: the rest may not be in the page cache.
            match self.stat(file).await {
                Ok(now) => stat = Some(now),
                Err(error) => {
                    self.context.lanes.put_back(batch);
                    return Err(error);
                }
            }
            if stat.is_some_and(|stat| stat.length <= offset + length as u64) {
                break;
            }
        }
        batch.chunk.set_length(length);
        batch.chunk_offset = offset;
        batch.received = self.context.env.wall();
        Ok(Filled { batch, length, stat })
    }

    async fn fill_blocking(
        &self,
        file: &Arc<FileOf<E>>,
        mut batch: Box<Batch>,
        offset: u64,
        window: Range<usize>,
    ) -> io::Result<(Box<Batch>, usize)> {
        let file = file.clone();
        let work = move || {
            let mut length = window.start;
            let result = loop {
                match file.read_at(&mut batch.chunk.spare()[length..window.end], offset + length as u64) {
                    Ok(0) => break Ok(length),
                    Ok(more) => length += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
                if length == window.end {
                    break Ok(length);
                }
            };
            (batch, result)
        };
        let (batch, result) = self.context.env.blocking(work).await;
        match result {
            Ok(length) => Ok((batch, length)),
            Err(error) => {
                self.context.lanes.put_back(batch);
                Err(error)
            }
        }
    }
}
