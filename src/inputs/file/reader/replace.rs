//! A file that took the path of a followed one: the same content, or different content.
//!
//! Guarantees: it counts as the same content only if it begins as the old file began and the bytes before the position are
//! the same. Then reading continues at the position, under the same source, so nothing is read twice. A file that was not put
//! there in one step needs more matching bytes, because programs that start a new file often begin it with the same bytes.
//! Without proof, the file is read from its beginning.

use super::super::content::FileOf;
use super::super::identify::{marker_at, read_exactly};
use super::super::identity::{HEAD_BYTES, Head, Identity, Inode, PROOF_BYTES};
use super::super::owner::{Outcome, Taken};
use super::super::post::Replacement;
use super::Reader;
use std::io;
use std::sync::Arc;
use tailwater_shards::env::Env;

impl<E: Env> Reader<'_, E> {
    /// Continues in the file that took the path of this one, if it has the same content.
    pub(super) async fn replace(
        &self,
        taken: &mut Taken<FileOf<E>>,
        replacement: Box<Replacement<FileOf<E>>>,
    ) -> Outcome {
        let Some(head) = self.same_content(taken, &replacement).await else {
            self.owner.refuse(taken.id, replacement);
            return Outcome::More;
        };
        let Replacement { path, opened, .. } = *replacement;
        let followed = &mut *taken.followed;
        match opened.file {
            Some(file) => {
                if let Some(old) = followed.file.replace(file) {
                    self.context.env.discard(old);
                } else {
                    self.owner.opened(followed.owner);
                }
            }
            None => {
                if let Some(old) = followed.file.take() {
                    self.context.env.discard(old);
                    self.owner.closed(followed.owner);
                }
            }
        }
        let inode = Inode::of(&opened.stat);
        followed.continue_as(Identity { inode, head }, &path, opened.stat.length, opened.stat.modified);
        (taken.away, taken.finish) = (false, false);
        let from = followed.last().from;
        tracing::info!(
            component_id = %self.context.name,
            "{}: replaced by a file that begins with the same content; continuing at byte {from}", path.display()
        );
        self.owner.continues_at(taken.id, inode, path);
        Outcome::More
    }

    /// The head of the new file, if the file has the same content up to the position.
    async fn same_content(&self, taken: &Taken<FileOf<E>>, replacement: &Replacement<FileOf<E>>) -> Option<Head> {
        let followed = &*taken.followed;
        let (last, known) = (followed.last(), followed.identity.head);
        let marker = last.marker.filter(|_| followed.spans.len() == 1 && last.from > 0 && known.length > 0)?;
        if !replacement.in_one_step && last.from < PROOF_BYTES {
            return None;
        }
        let file: Arc<FileOf<E>> = replacement.opened.file.clone()?;
        let read = move || {
            let head = read_exactly(&*file, 0, HEAD_BYTES)?;
            Ok::<_, io::Error>((marker_at(&*file, last.from)?, head))
        };
        let (found, head) = self.context.env.blocking(read).await.ok()?;
        let is_same = replacement.opened.stat.length >= last.from && known.is_head_of(&head) && found == marker;
        is_same.then(|| Head::of(&head))
    }
}
