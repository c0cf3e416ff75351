//! How much is read of files that others can write to, to find the end of what is complete in them.
//!
//! Guarantees: of one file at most [`FILE_BYTES_MAX`], and of all files of an owner at most [`OWNER_BYTES_MAX`] in a while, with and
//! without compression, so that neither a start nor the files of others wait for long. What is beyond counts as unreadable. Files that
//! only this user and root can write to are read to their end.

use super::judge::Writers;
use super::whole::{Whole, whole_bytes};
use super::*;

/// Bytes that are read of one file.
pub(super) const FILE_BYTES_MAX: u64 = 64 << 20;

/// Bytes that are read of all files of the same writers, until [`super::blocked`] forgets it.
pub(super) const OWNER_BYTES_MAX: u64 = 512 << 20;

impl<D: Disk> Writer<D> {
    /// How much is complete between `from`, where a line or member begins, and `length`, the end of a file that these can write to.
    pub(super) fn whole(
        &self,
        file: &D::File,
        (from, length): (u64, u64),
        compression: Compression,
        writers: Writers,
    ) -> io::Result<Whole> {
        if writers == Writers::Nobody {
            let mut all = u64::MAX;
            return whole_bytes(file, from, length, compression, &mut all);
        }
        let read = self.blocked.read(writers, self.moment);
        let most = OWNER_BYTES_MAX.saturating_sub(read).min(FILE_BYTES_MAX);
        let mut room = most;
        let whole = whole_bytes(file, from, length, compression, &mut room);
        self.blocked.add_read(writers, most - room, self.moment);
        whole
    }
}
