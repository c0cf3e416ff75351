//! Reading archives: moving to the position, and reporting a damaged end.
//!
//! Guarantees: the position in an archive is reached in steps, each in a turn for searches, so that other files get theirs.
//! The bytes before it are compared as in any file, and an archive of another file is released unread. Does not choose
//! archives: the home shard does.

use super::super::content::FileOf;
use super::super::owner::{Outcome, Taken};
use super::{Lost, Reader};
use crate::codec::framing::Place;
use std::sync::Arc;
use tailwater_shards::counted::counted;
use tailwater_shards::env::Env;

impl<E: Env> Reader<'_, E> {
    /// Moves towards the position. Returns none when it is reached.
    pub(super) async fn unpack(&self, taken: &mut Taken<FileOf<E>>, file: &Arc<FileOf<E>>) -> Option<Outcome> {
        if self.owner.unpacking.get().is_some_and(|other| other != taken.id && self.owner.follows(other)) {
            return Some(Outcome::Searching);
        }
        self.owner.unpacking.set(Some(taken.id));
        let span = taken.followed.span();
        file.archive()?.forget_before(span.offset());
        if !file.archive()?.is_at(span.offset()) && !self.may_search(taken) {
            return Some(Outcome::Searching);
        }
        let begun = self.context.env.now();
        let skipped = file.clone();
        let work = move || {
            skipped.archive().map_or(Ok((true, 0)), |archive| {
                let there = archive.skip_to(span.offset())?;
                let mut before = [b'\n'];
                let known = there && span.from > 0;
                let read = if known { archive.read_at(&mut before, span.from - 1)? } else { 0 };
                Ok::<_, std::io::Error>((there, if read == 1 { before[0] } else { b'\n' }))
            })
        };
        let moved = self.call(&taken.followed.path, work).await;
        if !matches!(moved, Ok((true, _))) {
            self.searched(taken, self.context.env.now().since(begun));
        }
        match moved {
            Ok((true, before)) => {
                let open = taken.followed.spans.front_mut()?;
                if open.place == Place::LineStart && before != b'\n' && before != 0 {
                    open.place = Place::Inside;
                }
                None
            }
            Ok((false, _)) => Some(Outcome::Searching),
            Err(error) => {
                self.tell_once(&mut taken.followed, &error, "decompressing it failed", "retrying every second");
                Some(Outcome::Failed)
            }
        }
    }

    /// The archive is damaged after `end`: the bytes that were known to follow are lost, and at least one unknown byte.
    pub(super) fn tell_of_damage(&self, taken: &mut Taken<FileOf<E>>, end: u64) {
        let followed = &mut *taken.followed;
        if followed.failure.replace(std::io::ErrorKind::InvalidData) == Some(std::io::ErrorKind::InvalidData) {
            return;
        }
        let lost = followed.seen_length.saturating_sub(end).max(1);
        followed.seen_length = followed.seen_length.min(end);
        self.context.counters.lose(Lost::Compressed, lost);
        let (path, lost) = (followed.path.display(), counted(lost, "byte"));
        tracing::error!(
            component_id = %self.context.name,
            "{path}: damaged or truncated after byte {end} of its content: at least {lost} after it cannot be read"
        );
    }
}
