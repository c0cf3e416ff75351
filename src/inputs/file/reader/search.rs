//! Reads that end in NULs, and positions behind NULs.
//!
//! Guarantees: a search runs where blocking is allowed and in steps, each in a turn for searches. A search for the end of NULs
//! follows a read from the position, so a truncation in the meantime is detected as usual. It moves no position: the next read
//! does, with the result of the search.

use super::super::backwards::STEP_BYTES;
use super::super::follow::Followed;
use super::super::nuls::{self, Found};
use super::super::owner::{Outcome, Taken};
use super::super::place::find_beginning;
use super::{FileOf, Reader};
use crate::codec::framing::Place;
use std::io;
use std::sync::Arc;
use std::time::Duration;
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
        let span = taken.followed.span();
        let begun = self.context.env.now();
        let Some(from) = taken.followed.nuls.search_from(span.from, end, modified, begun) else {
            return Outcome::Read;
        };
        if !self.may_search(taken) {
            return Outcome::Searching;
        }
        let searched = file.clone();
        let found = self.call(&taken.followed.path, move || {
            let found = nuls::search(&*searched, from, span.to)?;
            Ok::<_, io::Error>((found, searched.stat()?.length))
        });
        let (found, length) = match found.await {
            Ok(found) => found,
            Err(error) => {
                self.tell_once(&mut taken.followed, &error, "reading it failed", "retrying every second");
                return Outcome::Failed;
            }
        };
        let now = self.context.env.now();
        let spent = now.since(begun);
        taken.followed.nuls.take(found, spent, now);
        self.searched(taken, spent);
        let Found::End(to) = found else { return Outcome::More };
        if span.to.is_some() {
            // Bytes after it had been read: the file was just truncated.
            return Outcome::Failed;
        }
        if length <= to {
            let seen_length = taken.followed.seen_length;
            self.cut_at(taken, to, seen_length);
        }
        let followed = &mut *taken.followed;
        followed.seen_length = followed.seen_length.max(to);
        followed.unfinished = to - span.from;
        if taken.finish { Outcome::More } else { Outcome::Read }
    }

    /// Whether the file has the turn for a step of a search.
    pub(super) fn may_search(&self, taken: &Taken<FileOf<E>>) -> bool {
        taken.searches || self.owner.is_search_free()
    }

    /// A step of a search took this long; the next one needs another turn.
    pub(super) fn searched(&self, taken: &mut Taken<FileOf<E>>, spent: Duration) {
        taken.searches = false;
        self.owner.searched(spent);
    }

    /// One step towards the beginning of the next span, which is behind NULs.
    pub(super) async fn find_beginning(&self, taken: &mut Taken<FileOf<E>>, file: &Arc<FileOf<E>>) -> Outcome {
        if !self.may_search(taken) {
            return Outcome::Searching;
        }
        let followed = &mut *taken.followed;
        let (span, rules, searched) = (followed.span(), self.owner.options.rules, file.clone());
        let (begun, mut before) = (self.context.env.now(), std::mem::take(&mut followed.before));
        let step = move || {
            before.allow(STEP_BYTES);
            Ok((find_beginning(&*searched, span, rules, &mut before), before))
        };
        let found = match self.call(&followed.path, step).await {
            Ok((found, before)) => {
                followed.before = before;
                found
            }
            Err(error) => Err(error),
        };
        self.searched(taken, self.context.env.now().since(begun));
        match found {
            // What is skipped is recorded before anything is read.
            Ok(Some(span)) => {
                taken.followed.begins(span);
                Outcome::More
            }
            Ok(None) => Outcome::Searching,
            Err(error) => {
                self.tell_once(&mut taken.followed, &error, "reading it failed", "retrying every second");
                Outcome::Failed
            }
        }
    }
}
