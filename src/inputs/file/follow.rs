//! One followed file: which of its bytes are still unread, and its identity.
//!
//! Guarantees: the position of a file is the start of its first unread line, so no partial line is carried from read to read.
//! A range in the middle that a crash left unread is read before the end. A file whose bytes before the position have changed
//! becomes a new source and is read from its beginning. Pure: the reader supplies the bytes.

use super::backwards::Backwards;
use super::identity::{Descriptor, Head, Identity, TAIL_BYTES, tail_marker};
use super::nuls::Nuls;
use crate::codec::framing::Place;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tailwater_shards::batch::{Source, SourceKey, SourceRange};
use tailwater_shards::env::{Monotonic, Stat, Timestamp};
use tailwater_shards::plugin::Ticket;
use tailwater_shards::wal::SourceState;

/// A range of bytes to read: up to `to`, or to the end of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first unread byte.
    pub from: u64,
    /// One past the last byte; none for the end of the file, wherever it moves.
    pub to: Option<u64>,
    /// The tail marker of `from`, if it is known.
    pub marker: Option<u64>,
    /// Whether `from` is at the start of a line or inside one.
    pub place: Place,
    /// What must be found out before it is read.
    pub beginning: Beginning,
}

/// What is known about where a span begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Everything.
    Known,
    /// Only the position: many NULs are before it, and what is before them is not known yet.
    Unplaced,
    /// Nothing: the bytes before `from` are skipped on purpose, except an unfinished line at their end.
    LastLine,
}

impl Span {
    /// The whole file.
    pub const WHOLE: Span =
        Span { from: 0, to: None, marker: None, place: Place::LineStart, beginning: Beginning::Known };

    /// Number of bytes before `from` that are read again to check that they are unchanged.
    pub fn lead(&self) -> usize {
        self.from.min(TAIL_BYTES as u64) as usize
    }

    /// The offset where the read begins.
    pub fn offset(&self) -> u64 {
        self.from - self.lead() as u64
    }

    /// Whether the bytes before `from` are those that were read earlier. `bytes` begins at [`Span::offset`].
    pub fn continues(&self, bytes: &[u8]) -> bool {
        self.marker.is_none_or(|marker| bytes.get(..self.lead()).is_some_and(|lead| tail_marker(lead) == marker))
    }
}

/// The unread ranges of a source, given what is in the WAL. The last one is open-ended.
pub fn unread_spans(state: &SourceState) -> VecDeque<Span> {
    let mut spans = VecDeque::new();
    let mut from = 0;
    for &(start, end) in &state.intervals {
        if start > from {
            spans.push_back(Span { from, to: Some(start), ..Span::WHOLE });
        }
        from = end;
    }
    spans.push_back(Span { from, to: None, marker: (from > 0).then_some(state.marker), ..Span::WHOLE });
    spans
}

/// A record about a source without lines: that the source ended, or that bytes were skipped on purpose.
pub struct Farewell {
    /// The source.
    pub source: Arc<Source>,
    /// The last position as an empty range, or the skipped bytes.
    pub range: SourceRange,
    /// Whether the source is gone.
    pub gone: bool,
}

/// A followed file. `F` is the type of the open file.
pub struct Followed<F> {
    /// The source that its events belong to.
    pub source: Arc<Source>,
    /// Its identity.
    pub identity: Identity,
    /// Its last known path.
    pub path: PathBuf,
    /// The user that owned it when it was found.
    pub owner: u32,
    /// The open file; none while a quiet file is kept closed.
    pub file: Option<Arc<F>>,
    /// The ranges to read. Never empty, and the last one is open-ended.
    pub spans: VecDeque<Span>,
    /// The greatest length seen in this generation.
    pub seen_length: u64,
    /// The last modification time seen.
    pub seen_modified: Timestamp,
    /// Bytes after the position that are known to contain no newline.
    pub unfinished: u64,
    /// What is known about NULs in it.
    pub nuls: Nuls,
    /// The search for the beginning of the next span.
    pub before: Backwards,
    /// When it last grew.
    pub grown_at: Monotonic,
    /// Records about ended generations that are still to be sent.
    pub farewells: VecDeque<Farewell>,
    /// The last reported failure, so that it is reported once.
    pub failure: Option<std::io::ErrorKind>,
    /// The last batch that was sent from it.
    pub sent: Option<Ticket>,
}

impl<F> Followed<F> {
    /// The range to read next.
    pub fn span(&self) -> Span {
        *self.spans.front().expect("a followed file has an open span")
    }

    /// The open-ended range. It starts after the last byte that is accounted for.
    pub fn last(&self) -> Span {
        *self.spans.back().expect("a followed file has an open span")
    }

    /// Number of bytes that exist and are unread, without NULs that hold no line.
    pub fn unread(&self) -> u64 {
        let holes: u64 = self.spans.iter().filter_map(|span| Some(span.to? - span.from)).sum();
        holes + self.unread_behind(self.last().from)
    }

    /// Number of these bytes after `from`.
    pub fn unread_behind(&self, from: u64) -> u64 {
        self.seen_length.saturating_sub(from) - self.nuls.within(from, self.seen_length)
    }

    /// Whether everything was read except an unfinished line.
    pub fn is_read(&self) -> bool {
        self.spans.len() == 1 && self.seen_length <= self.last().from + self.unfinished && self.farewells.is_empty()
    }

    /// Where the preallocated space at the end of the file begins, if the file ends in NULs.
    pub fn room_begin(&self) -> Option<u64> {
        self.nuls.begin_at_end(self.last().from, self.seen_length)
    }

    /// The file was truncated at `end`, which is after the position.
    pub fn cut_at(&mut self, end: u64) {
        self.seen_length = end;
        self.nuls = Nuls::default();
    }

    /// Whether the unfinished bytes are part of a line that is wanted.
    pub fn is_in_line(&self) -> bool {
        let Span { from, place, .. } = self.span();
        let are_nuls = || self.nuls.within(from, from + self.unfinished) == self.unfinished;
        match place {
            Place::LineStart => !are_nuls(),
            Place::Inside => true,
            Place::Skipping => false,
        }
    }

    /// The next span begins here. Bytes before it that are skipped on purpose are recorded.
    pub fn begins(&mut self, span: Span) {
        self.before = Backwards::default();
        let next = self.spans.front_mut().expect("a followed file has an open span");
        let skips = next.beginning == Beginning::LastLine;
        *next = span;
        if let Some(marker) = span.marker.filter(|_| skips && span.from > 0) {
            let range = SourceRange { from: 0, to: span.from, marker };
            self.farewells.push_back(Farewell { source: self.source.clone(), range, gone: false });
        }
    }

    /// Marks the bytes up to `to` as accounted for; `marker` is the tail marker of `to`.
    pub fn advance(&mut self, to: u64, marker: u64, place: Place) {
        let span = self.spans.front_mut().expect("a followed file has an open span");
        *span = Span { from: to, to: span.to, marker: Some(marker), place, ..Span::WHOLE };
        if span.to.is_some_and(|end| to >= end) {
            self.spans.pop_front();
        }
        self.unfinished = 0;
    }

    /// Records the metadata of the file. Returns whether there may be work: growth, a shorter file, or changed content.
    pub fn look(&mut self, stat: &Stat, now: Monotonic) -> bool {
        let changed = stat.length != self.seen_length || stat.modified != self.seen_modified;
        if stat.length > self.seen_length {
            self.grown_at = now;
        }
        // If the file got shorter, the greatest length is kept until the reader has counted the loss.
        self.seen_length = self.seen_length.max(stat.length);
        self.seen_modified = stat.modified;
        changed
    }

    /// Starts a new generation, because the content is not the content that was read. Returns the number of bytes that are
    /// lost unread.
    pub fn start_generation(&mut self, key: SourceKey, length: u64) -> u64 {
        let lost = self.unread();
        self.farewells.push_back(self.farewell());
        self.identity.head = Head::default();
        self.source = new_source(key, self.source.input.clone(), &self.identity, &self.path);
        self.spans = VecDeque::from([Span::WHOLE]);
        self.seen_length = length;
        self.unfinished = 0;
        self.nuls = Nuls::default();
        lost
    }

    /// The record that the current source has ended.
    pub fn farewell(&self) -> Farewell {
        let last = self.last();
        let range = SourceRange { from: last.from, to: last.from, marker: last.marker.unwrap_or_default() };
        Farewell { source: self.source.clone(), range, gone: true }
    }

    /// Stores a longer head. The source stays the same; only its descriptor changes.
    pub fn set_head(&mut self, head: Head) {
        self.identity.head = head;
        let descriptor = Descriptor::encode(&self.identity, &self.path);
        self.source = Arc::new(Source { descriptor, ..Source::clone(&self.source) });
    }

    /// The same content continues at the same position in another file, which has `length` bytes. The new path is recorded at
    /// once, because the old one is gone.
    pub fn continue_as(&mut self, identity: Identity, path: &Path, length: u64, modified: Timestamp) {
        self.path = path.to_path_buf();
        self.identity.inode = identity.inode;
        self.set_head(identity.head);
        (self.seen_length, self.seen_modified) = (length, modified);
        (self.unfinished, self.nuls) = (0, Nuls::default());
        self.record_place();
    }

    /// Records the identity and the path although nothing was read.
    pub fn record_place(&mut self) {
        let place = self.farewell();
        self.farewells.push_back(Farewell { gone: false, ..place });
    }

    /// The state that a restart would find in the WAL.
    pub fn state(&self) -> SourceState {
        let mut intervals = Vec::new();
        let mut from = 0;
        for span in &self.spans {
            if span.from > from {
                intervals.push((from, span.from));
            }
            from = span.to.unwrap_or(span.from);
        }
        let marker = self.last().marker.unwrap_or_default();
        SourceState { source: self.source.clone(), intervals, marker, gone: None, told: 0, recorded: Timestamp(0) }
    }
}

/// A source for a file that was never read. Its name stays the path where it was found, because lines that are read after a
/// rotation were written to that path.
pub fn new_source(key: SourceKey, input: Arc<str>, identity: &Identity, path: &Path) -> Arc<Source> {
    use std::os::unix::ffi::OsStrExt;
    let name = path.as_os_str().as_bytes().to_vec();
    Arc::new(Source { key, input, name, descriptor: Descriptor::encode(identity, path), repeatable: true })
}

#[cfg(test)]
mod tests {
    use super::super::identity::Inode;
    use super::*;
    use tailwater_shards::env::FileKind;

    fn followed(intervals: Vec<(u64, u64)>, seen_length: u64) -> Followed<()> {
        let inode = Inode { device: 1, number: 2, created: None };
        let identity = Identity { inode, head: Head::of(b"a\n") };
        let path = PathBuf::from("/log/a");
        let source = new_source(SourceKey(9), "app".into(), &identity, &path);
        let state =
            SourceState { source: source.clone(), intervals, marker: 77, gone: None, told: 0, recorded: Timestamp(0) };
        Followed {
            source,
            identity,
            path,
            owner: 0,
            file: None,
            spans: unread_spans(&state),
            seen_length,
            seen_modified: Timestamp(0),
            unfinished: 0,
            nuls: Nuls::default(),
            before: Backwards::default(),
            grown_at: Monotonic(0),
            farewells: VecDeque::new(),
            failure: None,
            sent: None,
        }
    }

    #[test]
    fn unread_ranges_in_the_middle_are_read_before_the_end() {
        let mut file = followed(vec![(10, 20), (30, 40)], 100);
        assert_eq!(file.unread(), 10 + 10 + 60);
        let mut order = Vec::new();
        for step in [5, 10, 25, 30, 100] {
            order.push((file.span().from, file.span().to));
            file.advance(step, 1, Place::LineStart);
        }
        assert_eq!(order, [(0, Some(10)), (5, Some(10)), (20, Some(30)), (25, Some(30)), (40, None)]);
        assert!(file.is_read());
        assert_eq!(file.unread(), 0);
    }

    #[test]
    fn state_is_what_the_wal_would_hold() {
        for intervals in [vec![], vec![(0, 5)], vec![(10, 20), (30, 40)], vec![(0, 20), (30, 40)]] {
            assert_eq!(followed(intervals.clone(), 100).state().intervals, intervals);
        }
    }

    #[test]
    fn changed_bytes_before_the_position_are_detected() {
        let span = Span { from: 6, to: None, marker: Some(tail_marker(b"first\n")), ..Span::WHOLE };
        assert!(span.continues(b"first\nsecond\n"));
        assert!(!span.continues(b"other\nsecond\n"));
        assert!(!span.continues(b"firs"));
        assert!(Span::WHOLE.continues(b""));
        assert_eq!(Span { from: 1000, ..Span::WHOLE }.offset(), 1000 - TAIL_BYTES as u64);
    }

    #[test]
    fn new_generation_counts_unread_bytes() {
        let mut file = followed(vec![(0, 40)], 100);
        let (modified, created) = (Timestamp(1), None);
        let stat = Stat {
            kind: FileKind::Regular,
            device: 1,
            inode: 2,
            length: 7,
            modified,
            created,
            links: 1,
            owner: 0,
            mode: 0o640,
        };
        assert!(file.look(&stat, Monotonic(5)));
        assert_eq!(file.start_generation(SourceKey(10), stat.length), 60);
        assert_eq!((file.source.key, file.span(), file.unread()), (SourceKey(10), Span::WHOLE, 7));
        assert_eq!(file.farewells.front().map(|end| (end.source.key, end.range.to)), Some((SourceKey(9), 40)));
        assert_eq!(file.source.name, b"/log/a");
    }
}
