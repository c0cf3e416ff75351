//! One open file of an output: where its next byte goes, and what is in the compressor.
//!
//! Guarantees: the bytes of a failed write do not count as part of the file. No byte of another program is overwritten. Knows
//! neither commits nor other files.

use super::*;

/// Compressors add less than one byte per this many incompressible bytes.
pub(super) const RAW_STEP: u64 = 128;

/// One open file.
pub struct Target<D: Disk> {
    pub(super) file: Arc<D::File>,
    /// Releases the file when the target is dropped.
    pub(super) hold: Hold<D>,
    /// Where its writes are recorded.
    pub(super) note: Note<D>,
    pub(super) identity: Identity,
    pub(super) generation: u32,
    /// Where the next byte goes.
    pub(super) length: u64,
    /// One past the last byte that may have been written: bytes after `length` come from a failed write.
    pub(super) touched: u64,
    /// The length in the last commit.
    pub(super) committed: Option<u64>,
    /// Another program wrote in between: where this output had stopped, and where its own bytes continue.
    pub(super) gap: Option<(u64, u64)>,
    pub(super) first_write: i64,
    /// The file ends in an incomplete line that is not ours: the next line begins with a newline.
    pub(super) within_line: bool,
    pub(super) member: Option<Member>,
    /// Maximum length of the file after the member is finished: how much is in the compressor is unknown.
    pub(super) bound: u64,
    /// Compressed bytes that are not written yet.
    pub(super) out: Vec<u8>,
    pub(super) dirty: bool,
    /// A write failed for a reason other than a full disk: the descriptor may belong to a disk that is gone.
    pub(super) broken: bool,
    pub(super) used: u64,
}

impl<D: Disk> Target<D> {
    /// Writes at the end. If it fails, the bytes do not count as part of the file.
    pub fn append(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        self.append_parts(&[io::IoSlice::new(bytes)], now)
    }

    /// Writes all `parts` at the end, or none. If another program has written there meanwhile, its bytes stay, and this is
    /// recorded as a gap.
    pub fn append_parts(&mut self, parts: &[io::IoSlice<'_>], now: Timestamp) -> io::Result<()> {
        if self.length == 0 {
            self.first_write = now.0;
        }
        if self.within_line {
            self.append_raw(&[io::IoSlice::new(b"\n")])?;
            self.within_line = false;
        }
        self.append_raw(parts)
    }

    fn append_raw(&mut self, parts: &[io::IoSlice<'_>]) -> io::Result<()> {
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        self.touched = self.touched.max(self.length + bytes);
        self.dirty = true;
        self.note.note(self.length, parts);
        let end = match self.file.append_parts(parts) {
            Ok(end) => end,
            Err(error) => {
                self.broken |= !is_no_room(&error);
                return Err(error);
            }
        };
        let began = end.saturating_sub(bytes);
        if began != self.length {
            let left = self.gap.map_or(self.length, |(left, _)| left);
            self.gap = Some((left, began));
        }
        (self.length, self.touched) = (end, end);
        Ok(())
    }

    /// Whether the file is as this output left it, according to `stat`.
    pub(super) fn is_as_left(&self, stat: &Stat) -> bool {
        stat.links > 0 && stat.length == self.length && self.touched == self.length && self.gap.is_none()
    }

    /// Whether some accepted bytes are not in the file yet.
    pub(super) fn holds_more(&self) -> bool {
        self.member.is_some() || !self.out.is_empty()
    }

    /// Where the next byte goes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Compresses whole lines of `rest`, whose first line has `line` bytes, as many as fit within `limit` in any case.
    /// Returns the number of their bytes, or 0 if the member must be finished first so that the file's length is known.
    pub(super) fn compress(
        &mut self,
        rest: &[u8],
        line: usize,
        how: Compression,
        limit: Option<u64>,
    ) -> io::Result<usize> {
        if self.member.is_none() {
            self.bound = self.length + compressed_at_most(0);
        }
        let room = limit.map_or(u64::MAX, |limit| limit.saturating_sub(self.bound) / RAW_STEP * (RAW_STEP - 1));
        let mut count = whole_lines(rest, usize::try_from(room).unwrap_or(usize::MAX));
        if count == 0 && self.member.is_some() {
            return Ok(0);
        }
        count = count.max(line);
        let mut member = match self.member.take() {
            Some(member) => member,
            None => Member::begin(how)?.ok_or_else(|| io::Error::other("no compression"))?,
        };
        // Writes to memory, so it can fail only if memory runs out.
        member.push(&rest[..count], &mut self.out)?;
        self.member = Some(member);
        self.bound += compressed_at_most(count as u64) - compressed_at_most(0);
        Ok(count)
    }

    /// Undoes what was appended since the file had this length.
    pub fn roll_back(&mut self, length: u64) {
        self.length = length;
    }

    pub(super) fn flush(&mut self, now: Timestamp) -> io::Result<()> {
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let result = self.append(&out, now);
            if result.is_err() {
                self.out = out;
            }
            return result;
        }
        Ok(())
    }

    /// Finishes the member, and leaves exactly the file's own bytes in the file.
    pub(super) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        if let Some(member) = self.member.take() {
            member.end(&mut self.out)?;
        }
        self.flush(now)?;
        if self.touched > self.length { self.remove_touched() } else { Ok(()) }
    }

    /// Removes the bytes of a failed write, unless another program has written after them.
    pub(super) fn remove_touched(&mut self) -> io::Result<()> {
        let has = self.file.stat()?.length;
        if self.gap.is_some() || has > self.touched {
            return Ok(());
        }
        if has > self.length
            && let Err(error) = self.file.truncate(self.length)
        {
            self.broken = true;
            return Err(error);
        }
        self.touched = self.length;
        self.note.note(self.length, &[]);
        Ok(())
    }
}

/// The target for a file of this length that was opened and acquired.
pub(super) fn target<D: Disk>(hold: Hold<D>, note: Note<D>, identity: Identity, length: u64) -> Target<D> {
    Target {
        file: hold.file.clone(),
        hold,
        note,
        identity,
        generation: 0,
        length,
        touched: length,
        committed: None,
        gap: None,
        first_write: 0,
        within_line: false,
        member: None,
        bound: 0,
        out: Vec::new(),
        dirty: false,
        broken: false,
        used: 0,
    }
}

/// Number of bytes of the whole lines that fit into `room`.
pub(super) fn whole_lines(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    memchr::memrchr(b'\n', &bytes[..room]).map_or(0, |at| at + 1)
}

/// Maximum size of a member with `raw` bytes: incompressible data is stored as it is, with a header per block.
pub(super) fn compressed_at_most(raw: u64) -> u64 {
    raw + raw.div_ceil(RAW_STEP) + 32
}
