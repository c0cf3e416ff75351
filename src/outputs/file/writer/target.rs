//! One open file of an output: where its next byte goes, and what lies in the compressor.
//!
//! Guarantees: what a failed write left is no part of the file; no byte that somebody else wrote is overwritten. Knows neither commits nor other files.

use super::*;

/// Compressors add less than one byte to as many that they cannot make smaller.
pub(super) const RAW_STEP: u64 = 128;

/// One open file.
pub struct Target<D: Disk> {
    pub(super) file: Arc<D::File>,
    /// Gives the file back when the target goes.
    pub(super) hold: Hold<D>,
    pub(super) identity: Identity,
    pub(super) generation: u32,
    /// Where the next byte goes.
    pub(super) length: u64,
    /// One past the last byte that may have been touched: beyond `length` lies what a failed write left.
    pub(super) touched: u64,
    /// The length in the last commit.
    pub(super) committed: Option<u64>,
    /// Somebody else wrote in between: where this output had left the file, and where its own bytes go on.
    pub(super) gap: Option<(u64, u64)>,
    pub(super) first_write: i64,
    /// The file ends in a line without its end, which is no part of ours: the next one begins on a line of its own.
    pub(super) within_line: bool,
    pub(super) member: Option<Member>,
    /// Most bytes the file can have once the member has ended: how much lies in the compressor is not known.
    pub(super) bound: u64,
    /// Compressed bytes that are not written yet.
    pub(super) out: Vec<u8>,
    pub(super) dirty: bool,
    /// A write failed for more than want of room: the descriptor may belong to a disk that is gone.
    pub(super) broken: bool,
    pub(super) used: u64,
}

impl<D: Disk> Target<D> {
    /// Writes at the end. What a failure leaves is no part of the file.
    pub fn append(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        self.append_parts(&[io::IoSlice::new(bytes)], now)
    }

    /// Writes `parts` at the end, all or none. What somebody else wrote there meanwhile stays, and is a gap.
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

    /// Whether the file is as this output left it, by what `stat` says.
    pub(super) fn is_as_left(&self, stat: &Stat) -> bool {
        stat.links > 0 && stat.length == self.length && self.touched == self.length && self.gap.is_none()
    }

    /// Whether what was taken is not all in the file.
    pub(super) fn holds_more(&self) -> bool {
        self.member.is_some() || !self.out.is_empty()
    }

    /// Where the next byte goes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Compresses whole lines of `rest`, the first of which has `line` bytes, as many as cannot make the file larger than
    /// `limit`. Returns their bytes; none if the member has to end first, so that the file's length is known.
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
        // Into memory: it does not fail for want of anything but memory.
        member.push(&rest[..count], &mut self.out)?;
        self.member = Some(member);
        self.bound += compressed_at_most(count as u64) - compressed_at_most(0);
        Ok(count)
    }

    /// Takes back what was appended since the file had this length.
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

    /// Ends the member and leaves exactly the file's bytes in it.
    pub(super) fn finish(&mut self, now: Timestamp) -> io::Result<()> {
        if let Some(member) = self.member.take() {
            member.end(&mut self.out)?;
        }
        self.flush(now)?;
        if self.touched > self.length { self.cut_touched() } else { Ok(()) }
    }

    /// Cuts what a failed write left, unless somebody has written behind it.
    pub(super) fn cut_touched(&mut self) -> io::Result<()> {
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
        Ok(())
    }
}

/// A file that was opened and taken, of this length.
pub(super) fn target<D: Disk>(hold: Hold<D>, identity: Identity, length: u64) -> Target<D> {
    Target {
        file: hold.file.clone(),
        hold,
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

/// Bytes of the whole lines that fit into `room`.
pub(super) fn whole_lines(bytes: &[u8], room: usize) -> usize {
    if bytes.len() <= room {
        return bytes.len();
    }
    memchr::memrchr(b'\n', &bytes[..room]).map_or(0, |at| at + 1)
}

/// Most bytes of a member of `raw` ones: noise is stored as it is, with a little around each block.
pub(super) fn compressed_at_most(raw: u64) -> u64 {
    raw + raw.div_ceil(RAW_STEP) + 32
}
