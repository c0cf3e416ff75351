//! Tracks the length of a file while it is not being read: this is the length that counts if a truncation destroys unread
//! bytes.
//!
//! Guarantees: a length is accepted only while the bytes before the position are unchanged, so data written after a
//! truncation is never counted as lost by it. Costs a read of a few bytes if the file grew since the last check. Does not
//! decide what happened to a file: the reader does.

use super::follow::{Followed, Span};
use super::identity::TAIL_BYTES;
use std::sync::Arc;
use tailwater_shards::env::{File, Monotonic, Stat};

/// Whether a file begins with a line. NULs from a hole at its beginning are not in the page cache before they are read.
fn begins_with_line<F: File>(file: &F) -> bool {
    let mut byte = [0];
    file.read_nowait(&mut byte, 0).is_ok_and(|length| length == 1 && byte[0] != 0)
}

/// Whether the bytes before `span` are unchanged. If nothing was read yet: whether there is a line at all, so that a hole is
/// never counted as lines.
fn is_continued<F: File>(file: &F, span: &Span) -> bool {
    let mut bytes = [0; TAIL_BYTES];
    let lead = &mut bytes[..span.lead()];
    if lead.is_empty() {
        return begins_with_line(file);
    }
    file.read_nowait(lead, span.offset()).is_ok_and(|length| length == lead.len()) && span.continues(lead)
}

/// Checks a file that the reader does not hold and that is not remote. Returns whether there may be work.
pub fn look<F: File>(followed: &mut Followed<F>, now: Monotonic) -> bool {
    let Some(file) = followed.file.clone() else { return false };
    let Ok(stat) = file.stat() else { return false };
    if stat.length > followed.seen_length && !is_continued(&*file, &followed.last()) {
        return look_from_afar(followed, &stat, now);
    }
    let is_filled = is_filled(followed, &*file);
    if is_filled {
        followed.nuls.forget_end();
    }
    followed.look(&stat, now) || is_filled
}

/// Whether preallocated space at the end of the file has been written. If a program writes through a memory map, neither the
/// length nor the modification time need change.
fn is_filled<F: File>(followed: &Followed<F>, file: &F) -> bool {
    let Some(at) = followed.room_begin() else { return false };
    let mut byte = [0];
    file.read_nowait(&mut byte, at).is_ok_and(|length| length == 1 && byte[0] != 0)
}

/// Records metadata of a file whose content was not checked: the reader must confirm growth first.
pub fn look_from_afar<F>(followed: &mut Followed<F>, stat: &Stat, now: Monotonic) -> bool {
    let grown = stat.length > followed.seen_length;
    let known = Stat { length: stat.length.min(followed.seen_length), ..*stat };
    followed.look(&known, now) || grown
}

/// A file that the reader holds, possibly for a long time because the lane is full.
pub struct Glimpse<F> {
    file: Arc<F>,
    span: Span,
    seen_length: u64,
}

impl<F: File> Glimpse<F> {
    /// Something to check while the reader holds the file; none if the file is closed, or is where a check may block.
    pub fn of(followed: &Followed<F>) -> Option<Glimpse<F>> {
        let file = followed.file.clone().filter(|file| !file.is_remote())?;
        Some(Glimpse { file, span: followed.last(), seen_length: followed.seen_length })
    }

    /// Checks the file. Returns by how many bytes it grew.
    pub fn look(&mut self) -> u64 {
        let length = self.file.stat().map_or(0, |stat| stat.length);
        if length <= self.seen_length || !is_continued(&*self.file, &self.span) {
            return 0;
        }
        let growth = length - self.seen_length;
        self.seen_length = length;
        growth
    }

    /// The file.
    pub fn file(&self) -> &F {
        &self.file
    }

    /// The greatest length seen.
    pub fn seen_length(&self) -> u64 {
        self.seen_length
    }
}
