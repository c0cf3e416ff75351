//! Lines of a file that is not encoded in UTF-8.
//!
//! Guarantees: positions and markers refer to the bytes of the file. Lines that do not fit in the batch after the conversion
//! to UTF-8 are read again.

use super::super::content::FileOf;
use super::super::follow::Followed;
use super::super::identity::tail_marker;
use super::Reader;
use super::crew::Held;
use crate::codec::framing::{self, Cut};
use tailwater_shards::batch::SourceRange;
use tailwater_shards::env::Env;

impl<E: Env> Reader<'_, E> {
    /// Converts and sends the lines of a batch, which is followed by `nuls` NULs that count as read.
    pub(super) async fn send_converted(
        &self,
        followed: &mut Followed<FileOf<E>>,
        mut batch: Held<'_>,
        cut: Cut,
        nuls: u64,
    ) {
        let (span, rules) = (followed.span(), self.owner.options.rules);
        let bytes = batch.chunk.bytes().to_vec();
        let made = framing::finish(&mut batch, rules, cut.truncated);
        let (consumed, place) = match made.left {
            Some(left) => (left, framing::place_at(&bytes, left, span.place, rules)),
            None => (cut.consumed, cut.place),
        };
        let to = span.offset() + consumed as u64;
        let marker = tail_marker(&bytes[..consumed]);
        batch.range = SourceRange { from: span.from, to, marker };
        batch.dropped_events = cut.discarded + made.discarded;
        batch.source.clone_from(&followed.source);
        let is_whole = made.left.is_none() && batch.events.len() < tailwater_shards::limits::BATCH_EVENTS_MAX;
        followed.advance(to, marker, place);
        followed.unfinished = if is_whole { (bytes.len() - consumed) as u64 + nuls } else { 0 };
        self.count(made.truncated, cut.discarded + made.discarded);
        if let Some(sent) = self.send(batch).await {
            followed.sent = Some(sent);
        }
    }
}
