//! How long a file is while nobody reads it: the length that counts when a truncation destroys what was not read yet.
//!
//! Guarantees: a length is believed only while the bytes before the position are still those that were read, so that the
//! length of what came after a truncation is never taken for what it destroyed. Costs a read of a few bytes for a file that
//! grew since the last look. Does not say what became of a file: the reader finds out.

use super::follow::{Followed, Span};
use super::identity::TAIL_BYTES;
use std::sync::Arc;
use tailwater_shards::env::{File, Monotonic, Stat};

/// Whether a file that has bytes begins with a line. A hole in front of it is not in memory before it is read.
fn begins_with_line<F: File>(file: &F) -> bool {
    let mut byte = [0];
    file.read_nowait(&mut byte, 0).is_ok_and(|length| length == 1 && byte[0] != 0)
}

/// Whether the bytes before `span` are still those that were read; where nothing was read, whether there is a line at all, so
/// that the length of a hole is never taken for that of lines.
fn is_continued<F: File>(file: &F, span: &Span) -> bool {
    let mut bytes = [0; TAIL_BYTES];
    let lead = &mut bytes[..span.lead()];
    if lead.is_empty() {
        return begins_with_line(file);
    }
    file.read_nowait(lead, span.offset()).is_ok_and(|length| length == lead.len()) && span.continues(lead)
}

/// Looks at a file that is in nobody's hands and not remote. Whether that may mean work.
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

/// Whether room that was reserved at the end of the file is written now. Who maps the file is not seen otherwise: neither its
/// length nor its time of modification need change.
fn is_filled<F: File>(followed: &Followed<F>, file: &F) -> bool {
    let Some(at) = followed.room_begin() else { return false };
    let mut byte = [0];
    file.read_nowait(&mut byte, at).is_ok_and(|length| length == 1 && byte[0] != 0)
}

/// Notes what a look at a file showed whose content cannot be told: growth has to be believed by the reader first.
pub fn look_from_afar<F>(followed: &mut Followed<F>, stat: &Stat, now: Monotonic) -> bool {
    let grown = stat.length > followed.seen_length;
    let known = Stat { length: stat.length.min(followed.seen_length), ..*stat };
    followed.look(&known, now) || grown
}

/// A file that the reader holds, perhaps for long because the lane is full.
pub struct Glimpse<F> {
    file: Arc<F>,
    span: Span,
    seen_length: u64,
}

impl<F: File> Glimpse<F> {
    /// What can be looked at while the reader holds the file; none while it is closed, or lies where a look may block.
    pub fn of(followed: &Followed<F>) -> Option<Glimpse<F>> {
        let file = followed.file.clone().filter(|file| !file.is_remote())?;
        Some(Glimpse { file, span: followed.last(), seen_length: followed.seen_length })
    }

    /// Looks at the file. Returns by how much it grew.
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
