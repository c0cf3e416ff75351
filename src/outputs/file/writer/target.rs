//! One open file of an output: where its next byte goes, and what a failed write leaves.
//!
//! Guarantees: what a failed write left is no part of the file. Does not decide when a file is rotated or synced.

use super::*;

/// One open file.
pub struct Target<D: Disk> {
    pub(super) file: Arc<D::File>,
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) generation: u32,
    /// Where the next byte goes.
    pub(super) length: u64,
    /// One past the last byte that may have been touched: beyond `length` lies what a failed write left.
    pub(super) touched: u64,
    pub(super) first_write: i64,
    pub(super) member: Option<Member>,
    /// Most bytes the file can have once the member has ended: how much lies in the compressor is not known.
    pub(super) bound: u64,
    /// Compressed bytes that are not written yet.
    pub(super) out: Vec<u8>,
    pub(super) dirty: bool,
    pub(super) used: u64,
}

impl<D: Disk> Target<D> {
    /// Writes at the end. What a failure leaves is no part of the file.
    pub fn append(&mut self, bytes: &[u8], now: Timestamp) -> io::Result<()> {
        if self.length == 0 {
            self.first_write = now.0;
        }
        self.touched = self.touched.max(self.length + bytes.len() as u64);
        self.dirty = true;
        self.file.write_at(bytes, self.length)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Where the next byte goes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Whether no name leads to the file any more, wherever it was moved.
    pub(super) fn is_removed(&self) -> bool {
        self.file.stat().is_ok_and(|stat| stat.links == 0)
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
        if self.touched > self.length {
            self.file.truncate(self.length)?;
            self.touched = self.length;
        }
        Ok(())
    }
}
