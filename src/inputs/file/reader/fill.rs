//! One read: as much as fits in a batch, starting just before the position.
//!
//! Guarantees: if a read continues an earlier one, the two overlap, so that both are of the same content. Bytes that are not
//! in the page cache are read where blocking is allowed. In the steady state a read costs one system call, or two at the end
//! of the file.

use super::super::content::FileOf;
use super::super::follow::Followed;
use super::super::identify::read_whole;
use super::super::identity::TAIL_BYTES;
use super::Reader;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::batch::Batch;
use tailwater_shards::env::{Env, File, Stat};
use tailwater_shards::limits::CHUNK_BYTES;

/// Largest buffer that is kept for the next read that blocks: enough for a chunk.
const KEPT_BYTES_MAX: usize = 2 * CHUNK_BYTES;

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
            let read = match file.read_nowait(&mut batch.chunk.spare()[from..want], offset + from as u64) {
                // The file has more, but the page cache ends here. The next attempt would begin before that end and find the
                // same bytes again without blocking, so this one blocks.
                Ok(more) if again && from + more <= length => {
                    self.fill_blocking(&followed.path, file, &mut batch, offset, from..want).await
                }
                Ok(more) => Ok(from + more),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(length),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.fill_blocking(&followed.path, file, &mut batch, offset, from..want).await
                }
                Err(error) => Err(error),
            };
            let reached = match read {
                Ok(reached) => reached,
                Err(error) => {
                    self.context.lanes.put_back(batch);
                    return Err(error);
                }
            };
            if !seam.holds(batch.chunk.spare(), from..reached) {
                break;
            }
            length = reached;
            if length == want {
                break;
            }
            // A short read is not the end of the file: the rest may not be in the page cache.
            match self.stat(&followed.path, file).await {
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

    /// Reads into a window of the batch, where blocking is allowed. Returns where it ends. The thread does not get the batch: it may
    /// never give it back.
    async fn fill_blocking(
        &self,
        path: &Path,
        file: &Arc<FileOf<E>>,
        batch: &mut Batch,
        offset: u64,
        window: Range<usize>,
    ) -> io::Result<usize> {
        let (file, mut bytes, from) = (file.clone(), self.buffer.take(), offset + window.start as u64);
        if bytes.len() < window.len() {
            bytes.resize(window.len(), 0);
        }
        let most = window.len();
        let read = move || Ok((read_whole(&*file, from, &mut bytes[..most]), bytes));
        let (length, bytes) = self.call(path, read).await?;
        let length = length?;
        batch.chunk.spare()[window.start..window.start + length].copy_from_slice(&bytes[..length]);
        if bytes.len() <= KEPT_BYTES_MAX {
            self.buffer.replace(bytes);
        }
        Ok(window.start + length)
    }
}
