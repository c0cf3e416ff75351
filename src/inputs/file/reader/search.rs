//! Reads that end in NULs.
//!
//! Guarantees: a search runs where blocking is allowed and in steps, each after a read from the position, so a truncation in
//! the meantime is detected as usual. Moves no position: the next read does, with the result of the search.

use super::super::follow::Followed;
use super::super::nuls::{self, Found};
use super::super::owner::{Outcome, Taken};
use super::{FileOf, Reader};
use crate::codec::framing::Place;
use std::io;
use std::sync::Arc;
use tailwater_shards::env::{Env, File, Timestamp};

/// Whether NULs are now at the start of a line that followed a hole: the hole is a different one.
pub fn is_hollow<F>(followed: &Followed<F>, bytes: &[u8]) -> bool {
    let span = followed.span();
    let behind_hole = span.place == Place::LineStart && span.lead() > 0 && bytes.get(span.lead() - 1) == Some(&0);
    behind_hole
        && followed.unfinished > 0
        && bytes.get(span.lead()) == Some(&0)
        && followed.nuls.within(span.from, span.from + 1) == 0
}

impl<E: Env> Reader<'_, E> {
    /// After a read that ended with NULs, searches for what follows them. The read is then repeated with the result.
    pub(super) async fn search(
        &self,
        taken: &mut Taken<FileOf<E>>,
        file: &Arc<FileOf<E>>,
        end: u64,
        modified: Timestamp,
    ) -> Outcome {
        let followed = &mut *taken.followed;
        let span = followed.span();
        let begun = self.context.env.now();
        let Some(from) = followed.nuls.search_from(span.from, end, modified, begun) else { return Outcome::Read };
        let searched = file.clone();
        let found = self.context.env.blocking(move || {
            let found = nuls::search(&*searched, from, span.to)?;
            Ok::<_, io::Error>((found, searched.stat()?.length))
        });
        let (found, length) = match found.await {
            Ok(found) => found,
            Err(error) => {
                self.tell_once(followed, &error, "reading it failed", "retrying every second");
                return Outcome::Failed;
            }
        };
        let now = self.context.env.now();
        followed.nuls.take(found, now.since(begun), now);
        let Found::End(to) = found else { return Outcome::More };
        if span.to.is_some() {
            // Bytes after it had been read: the file was just truncated.
            return Outcome::Failed;
        }
        if length <= to {
            let seen_length = followed.seen_length;
            self.cut_at(taken, to, seen_length);
        }
        let followed = &mut *taken.followed;
        followed.seen_length = followed.seen_length.max(to);
        followed.unfinished = to - span.from;
        if taken.finish { Outcome::More } else { Outcome::Read }
    }
}
