//! A file that took the path of a followed one: the same content, or different content.
//!
//! Guarantees: it counts as the same content only if it begins as the old file began and the bytes before the position are
//! the same. Then reading continues at the position, under the same source, so nothing is read twice. A file that was not put
//! there in one step needs more matching bytes, because programs that start a new file often begin it with the same bytes.
//! Without proof, the file is read from its beginning.
//!
//! If the old file has the name of a backup, both are followed, and what the new one has in common with it counts as read. Only the
//! head and the bytes before that end are compared. It must be at least half of what was read, because programs that rotate to such
//! a name may begin each file alike.

use super::super::content::FileOf;
use super::super::follow::Followed;
use super::super::identify::{Opened, marker_at, read_exactly};
use super::super::identity::{HEAD_BYTES, Head, Identity, Inode, PROOF_BYTES};
use super::super::owner::{Outcome, Taken};
use super::super::post::{Replacement, Successor};
use super::Reader;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, File, Stat};

/// How long a copy that does not grow may still be being written.
const COPY_WAIT: Duration = Duration::from_secs(3);

/// How a file begins.
struct Beginning {
    stat: Stat,
    head: Head,
    /// Whether its first byte is NUL.
    is_hollow: bool,
    /// Whether it has nothing but the beginning of what was read, so it may still be being written.
    is_copy_so_far: bool,
    /// The end of the lines that both have, and its tail marker; none if these are too few to prove a copy.
    copied: Option<(u64, u64)>,
}

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

    /// Finds out how much of a file is a copy of this one, which has the name of a backup now. That much counts as read. A file that
    /// is shorter than what was read may still be being written, unless this is the `last` chance.
    pub(super) async fn compare(&self, taken: &Taken<FileOf<E>>, mut successor: Box<Successor<FileOf<E>>>, last: bool) {
        let now = self.context.env.now();
        if let Some(found) = self.common_beginning(&taken.followed, &successor.opened).await {
            let opened = &mut successor.opened;
            if found.stat.length != opened.stat.length {
                successor.grown_at = now;
            }
            (opened.stat, opened.head) = (found.stat, found.head);
            if !found.is_hollow {
                opened.seen_length = found.stat.length;
            }
            if found.is_copy_so_far && !last && now.since(successor.grown_at) < COPY_WAIT {
                return self.owner.compare_later(taken.id, successor);
            }
            if let Some((end, marker)) = found.copied {
                opened.leave_out(end, marker);
                tracing::info!(
                    component_id = %self.context.name,
                    "{}: replaced by a file that begins with the same content as its backup; its first {end} bytes count as read",
                    successor.path.display()
                );
            }
        }
        self.owner.compared(taken.id, successor);
    }

    /// How a file begins, compared with this one; none if there is nothing to compare.
    async fn common_beginning(&self, followed: &Followed<FileOf<E>>, opened: &Opened<FileOf<E>>) -> Option<Beginning> {
        let (last, known) = (followed.last(), followed.identity.head);
        let marker = last.marker.filter(|_| followed.spans.len() == 1 && known.length > 0)?;
        let goal = Some(last.from).filter(|from| *from >= PROOF_BYTES)?;
        let (old, new) = (followed.file.clone(), opened.file.clone()?);
        let rules = self.owner.options.rules;
        let read = move || {
            let (stat, first) = (new.stat()?, read_exactly(&*new, 0, HEAD_BYTES)?);
            let whole = stat.length >= goal && known.is_head_of(&first) && marker_at(&*new, goal)? == marker;
            let common = match old {
                _ if whole => goal,
                Some(old) if !rules.encoding.is_wide() => common_bytes(&*old, &*new, stat.length.min(goal))?,
                _ => 0,
            };
            let is_copy_so_far = common == stat.length && common < goal;
            let end = if whole { goal } else { line_start(&*new, common, rules.line_bytes_max)? };
            let marker = if whole { marker } else { marker_at(&*new, end)? };
            let is_enough = end >= PROOF_BYTES.max(goal / 2);
            let copied = is_enough.then_some((end, marker));
            let (head, is_hollow) = (Head::of(&first), first.first() == Some(&0));
            Ok::<_, io::Error>(Beginning { stat, head, is_hollow, is_copy_so_far, copied })
        };
        self.call(&followed.path, read).await.ok()
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
        let (found, head) = self.call(&followed.path, read).await.ok()?;
        let is_same = replacement.opened.stat.length >= last.from && known.is_head_of(&head) && found == marker;
        is_same.then(|| Head::of(&head))
    }
}

/// How many of the first `most` bytes two files have in common. Each step compares the bytes just before a position.
fn common_bytes<F: File>(one: &F, other: &F, most: u64) -> io::Result<u64> {
    let is_same = |end: u64| Ok::<_, io::Error>(marker_at(one, end)? == marker_at(other, end)?);
    let (mut same, mut different) = (0, most + 1);
    let mut next = most;
    while different - same > 1 {
        if is_same(next)? {
            same = next;
        } else {
            different = next;
        }
        next = same + (different - same) / 2;
    }
    Ok(same)
}

/// The begin of the line that `position` is in; zero if that line is too long.
fn line_start<F: File>(file: &F, position: u64, line_bytes_max: usize) -> io::Result<u64> {
    let window = position.min(line_bytes_max as u64 + 1);
    let bytes = read_exactly(file, position - window, window as usize)?;
    Ok(memchr::memrchr(b'\n', &bytes).map_or(0, |newline| position - window + newline as u64 + 1))
}
