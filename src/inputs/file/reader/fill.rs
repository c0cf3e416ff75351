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
use super::crew::Held;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
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
pub(super) struct Filled<'a> {
    pub(super) batch: Held<'a>,
    /// Number of bytes read, including those before the position.
    pub(super) length: usize,
    /// The metadata of the file, if the read ended before the batch was full.
    pub(super) stat: Option<Stat>,
}

/// How far a read came, and the metadata of the file if it is at its end.
type Reached = (usize, Option<Stat>);

impl<'a, E: Env> Reader<'a, E> {
    /// Reads as much as fits in a batch, starting just before the position. None if the drain begins.
    pub(super) async fn fill(
        &self,
        followed: &Followed<FileOf<E>>,
        file: &Arc<FileOf<E>>,
    ) -> io::Result<Option<Filled<'a>>> {
        let span = followed.span();
        let offset = span.offset();
        let Some(mut batch) = self.batch(followed).await else { return Ok(None) };
        let capacity = batch.chunk.capacity();
        let want = span.to.map_or(capacity, |to| capacity.min(usize::try_from(to - offset).unwrap_or(usize::MAX)));
        let nowait =
            if file.is_remote() { Ok(None) } else { fill_nowait(&**file, &mut batch.chunk.spare()[..want], offset) };
        let (length, stat) = match nowait {
            Ok(Some(reached)) => reached,
            Ok(None) => {
                // Others read meanwhile.
                self.put_back(batch);
                let (bytes, (length, stat)) =
                    self.fill_blocking(&followed.path, file, offset, want, span.lead()).await?;
                let Some(new) = self.batch(followed).await else { return Ok(None) };
                batch = new;
                batch.chunk.spare()[..length].copy_from_slice(&bytes[..length]);
                if bytes.len() <= KEPT_BYTES_MAX {
                    self.crew.buffer.replace(bytes);
                }
                (length, stat)
            }
            Err(error) => {
                self.put_back(batch);
                return Err(error);
            }
        };
        batch.chunk.set_length(length);
        batch.chunk_offset = offset;
        batch.received = self.context.env.wall();
        Ok(Some(Filled { batch, length, stat }))
    }

    /// Reads where blocking is allowed. The thread does not get the batch: it may never give it back.
    async fn fill_blocking(
        &self,
        path: &Path,
        file: &Arc<FileOf<E>>,
        offset: u64,
        want: usize,
        lead: usize,
    ) -> io::Result<(Vec<u8>, Reached)> {
        let (file, mut bytes) = (file.clone(), self.crew.buffer.take());
        if bytes.len() < want {
            bytes.resize(want, 0);
        }
        let read = move || Ok((read_to_end(&*file, &mut bytes[..want], offset, lead), bytes));
        let (reached, bytes) = self.call(path, read).await?;
        Ok((bytes, reached?))
    }
}

/// Reads what is in the page cache. None if the rest is not.
fn fill_nowait<F: File>(file: &F, buffer: &mut [u8], offset: u64) -> io::Result<Option<Reached>> {
    let (want, mut length, mut stat) = (buffer.len(), 0, None);
    for again in [false, true] {
        // If a second read follows the first, both must be of the same content.
        let seam = Seam::at(buffer, length);
        let from = length - seam.bytes().len();
        let reached = match file.read_nowait(&mut buffer[from..], offset + from as u64) {
            // The file has more, but the page cache ends here.
            Ok(more) if again && from + more <= length => return Ok(None),
            Ok(more) => from + more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if !seam.holds(buffer, from..reached) {
            break;
        }
        length = reached;
        if length == want {
            break;
        }
        // A short read is not the end of the file: the rest may not be in the page cache.
        let now = file.stat()?;
        stat = Some(now);
        if now.length <= offset + length as u64 {
            break;
        }
    }
    Ok(Some((length, stat)))
}

/// Reads where blocking is allowed. If there was nothing behind the first `lead` bytes and there is now, reads again.
fn read_to_end<F: File>(file: &F, buffer: &mut [u8], offset: u64, lead: usize) -> io::Result<Reached> {
    let (want, mut length, mut stat) = (buffer.len(), 0, None);
    for _ in 0..2 {
        length = read_whole(file, offset, buffer)?;
        if length == want && buffer.last() != Some(&0) {
            return Ok((length, None));
        }
        let now = file.stat()?;
        stat = Some(now);
        if length > lead || now.length <= offset + length as u64 {
            break;
        }
    }
    Ok((length, stat))
}
