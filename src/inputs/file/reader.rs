//! Reads the files that have their turn and sends what is in them.
//!
//! Guarantees: the bytes just before a position are read again with what follows them, so a file whose content was replaced is
//! noticed before a byte of it is taken for a continuation; one file has at most [`ROUND_CHUNKS`] chunks before the next one
//! has its turn; a full lane stops the reader. In steady state a read costs one system call, or two at the end of the file,
//! and allocates nothing.

mod search;

use super::copies::End;
use super::follow::{Farewell, Followed, Span};
use super::identity::{HEAD_BYTES, Head, Inode, TAIL_BYTES};
use super::nuls::marker_behind;
use super::owner::{Outcome, Owner, Taken};
use super::post::ToHome;
use crate::codec::framing::{self, Ending};
use crate::codec::nuls::leading;
use futures_lite::future::or;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use tailwater_shards::batch::{Batch, SourceRange};
use tailwater_shards::counters::{Discard, Lost};
use tailwater_shards::env::{Disk, Env, File, Open, Stat};
use tailwater_shards::limits::CHUNK_BYTES;
use tailwater_shards::plugin::{InputContext, PluginError};
use tailwater_shards::stop::Phase;

/// Chunks that one file may have in its turn.
const ROUND_CHUNKS: usize = 4;

type FileOf<E> = <<E as Env>::Disk as Disk>::File;

/// Reads until the drain begins.
pub async fn run<E: Env>(context: &InputContext<E>, owner: &Owner<E>) -> Result<(), PluginError> {
    let reader = Reader { context, owner };
    while !context.stop.is_asked() {
        if let Some(farewell) = owner.next_farewell() {
            reader.end(farewell).await;
        } else if let Some((id, mut taken)) = owner.take() {
            let outcome = reader.serve(&mut taken).await;
            owner.put_back(id, taken.followed, outcome);
            if outcome == Outcome::Failed {
                context.env.turn().await;
            }
        } else {
            let settled = async {
                context.lanes.settle().await;
                std::future::pending().await
            };
            or(or(settled, owner.ready.wait()), context.stop.reached(Phase::Draining)).await;
        }
    }
    or(context.lanes.settle(), context.stop.reached(Phase::Forced)).await;
    Ok(())
}

struct Reader<'a, E: Env> {
    context: &'a InputContext<E>,
    owner: &'a Owner<E>,
}

/// The last bytes of a read, to be read once more with those that follow.
struct Seam {
    bytes: [u8; TAIL_BYTES],
    length: usize,
}

impl Seam {
    /// The seam behind `length` bytes of `buffer`.
    fn at(buffer: &[u8], length: usize) -> Seam {
        let mut seam = Seam { bytes: [0; TAIL_BYTES], length: length.min(TAIL_BYTES) };
        seam.bytes[..seam.length].copy_from_slice(&buffer[length - seam.length..length]);
        seam
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// Whether a read into `window` of `buffer` began with the seam; else the seam is put back in its place.
    fn holds(&self, buffer: &mut [u8], window: Range<usize>) -> bool {
        let place = window.start..window.start + self.length;
        let holds = window.end >= place.end && &buffer[place.clone()] == self.bytes();
        if !holds {
            buffer[place].copy_from_slice(self.bytes());
        }
        holds
    }
}

/// What a read brought.
struct Filled {
    batch: Box<Batch>,
    /// Bytes read, the ones before the position included.
    length: usize,
    /// What the file is, where the read ended before it was full.
    stat: Option<Stat>,
}

impl<E: Env> Reader<'_, E> {
    /// One turn of a file.
    async fn serve(&self, taken: &mut Taken<FileOf<E>>) -> Outcome {
        let mut outcome = Outcome::More;
        for _ in 0..ROUND_CHUNKS {
            while let Some(farewell) = taken.followed.farewells.pop_front() {
                self.end(farewell).await;
            }
            outcome = self.step(taken).await;
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
            if outcome != Outcome::More || self.context.stop.is_asked() {
                break;
            }
        }
        if outcome == Outcome::Finished && taken.away {
            self.end(taken.followed.farewell()).await;
        }
        outcome
    }

    /// One read of a file.
    async fn step(&self, taken: &mut Taken<FileOf<E>>) -> Outcome {
        let file = match self.open(taken).await {
            Ok(file) => file,
            Err(outcome) => return outcome,
        };
        let followed = &mut *taken.followed;
        if let Err(error) = self.owner.options.own.refuse_inode(&followed.identity.inode) {
            self.tell_once(followed, &error, "it is read no more", "write it elsewhere, or name it in `exclude`");
            return Outcome::Failed;
        }
        let Some(batch) = self.batch(followed).await else { return Outcome::More };
        match self.fill(followed, &file, batch).await {
            Ok(filled) => {
                followed.failure = None;
                self.digest(taken, &file, filled).await
            }
            Err(error) => {
                self.tell_once(followed, &error, "reading it failed", "it is tried again each second");
                Outcome::Failed
            }
        }
    }

    /// A batch that holds what has to be read; none when the drain begins.
    async fn batch(&self, followed: &Followed<FileOf<E>>) -> Option<Box<Batch>> {
        let lanes = &self.context.lanes;
        let source = &followed.source;
        let batch = async {
            // A line that a chunk did not hold needs more at once; two bytes more show its line end.
            let room = CHUNK_BYTES - TAIL_BYTES;
            if followed.unfinished >= room as u64 && followed.is_in_line() {
                let line = self.owner.options.rules.line_bytes_max + 2;
                return Some(lanes.large_batch(source, TAIL_BYTES + line).await);
            }
            Some(lanes.batch(source).await)
        };
        let stop = async {
            self.context.stop.reached(Phase::Draining).await;
            None
        };
        or(batch, stop).await
    }

    /// Reads from just before the position as much as the batch holds.
    async fn fill(
        &self,
        followed: &Followed<FileOf<E>>,
        file: &Arc<FileOf<E>>,
        mut batch: Box<Batch>,
    ) -> io::Result<Filled> {
        let span = followed.span();
        let offset = span.offset();
        let capacity = batch.chunk.capacity();
        let want = span.to.map_or(capacity, |to| capacity.min(usize::try_from(to - offset).unwrap_or(usize::MAX)));
        let mut length = 0;
        let mut stat = None;
        for again in [false, true] {
            // Where a second read follows the first, both must be of the same content.
            let seam = Seam::at(batch.chunk.spare(), length);
            let from = length - seam.bytes().len();
            let mut reached = length;
            match file.read_nowait(&mut batch.chunk.spare()[from..want], offset + from as u64) {
                // The file has more, and what is in memory ends here. The next try would begin before that end, find
                // what this one found, and never be told to wait: so it is waited for now.
                Ok(more) if again && from + more <= length => {
                    (batch, reached) = self.fill_blocking(file, batch, offset, from..want).await?;
                }
                Ok(more) => reached = from + more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    (batch, reached) = self.fill_blocking(file, batch, offset, from..want).await?;
                }
                Err(error) => {
                    self.context.lanes.put_back(batch);
                    return Err(error);
                }
            }
            if !seam.holds(batch.chunk.spare(), from..reached) {
                break;
            }
            length = reached;
            if length == want {
                break;
            }
            // Less than asked for is not the end: the rest may not be in memory.
            match self.stat(file).await {
                Ok(now) => stat = Some(now),
                Err(error) => {
                    self.context.lanes.put_back(batch);
                    return Err(error);
                }
            }
            if stat.is_some_and(|stat| stat.length <= offset + length as u64) {
                break;
            }
        }
        batch.chunk.set_length(length);
        batch.chunk_offset = offset;
        batch.received = self.context.env.wall();
        Ok(Filled { batch, length, stat })
    }

    async fn fill_blocking(
        &self,
        file: &Arc<FileOf<E>>,
        mut batch: Box<Batch>,
        offset: u64,
        window: Range<usize>,
    ) -> io::Result<(Box<Batch>, usize)> {
        let file = file.clone();
        let work = move || {
            let mut length = window.start;
            let result = loop {
                match file.read_at(&mut batch.chunk.spare()[length..window.end], offset + length as u64) {
                    Ok(0) => break Ok(length),
                    Ok(more) => length += more,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => break Err(error),
                }
                if length == window.end {
                    break Ok(length);
                }
            };
            (batch, result)
        };
        let (batch, result) = self.context.env.blocking(work).await;
        match result {
            Ok(length) => Ok((batch, length)),
            Err(error) => {
                self.context.lanes.put_back(batch);
                Err(error)
            }
        }
    }

    /// Sends what a read brought, unless the file is not what it was.
    async fn digest(&self, taken: &mut Taken<FileOf<E>>, file: &Arc<FileOf<E>>, filled: Filled) -> Outcome {
        let Filled { batch, length, stat } = filled;
        let followed = &mut *taken.followed;
        let span = followed.span();
        let seen_before = followed.seen_length;
        let end = span.offset() + length as u64;
        let replaced = length >= span.lead() && !span.continues(batch.chunk.bytes())
            || search::is_hollow(followed, batch.chunk.bytes());
        let shrunk = length <= span.lead() && stat.is_some_and(|stat| stat.length < followed.last().from);
        if replaced || shrunk {
            self.context.lanes.put_back(batch);
            followed.seen_length = followed.seen_length.max(self.owner.seen_meanwhile(taken.id));
            self.owner.forget_seen(taken.id);
            return self.start_anew(followed, file).await;
        }
        let claims_more = stat.is_some_and(|stat| stat.length > end);
        if length < span.lead() || length == span.lead() && claims_more {
            // A file system that is not sure of its own lengths: asked again later, not at once.
            self.context.lanes.put_back(batch);
            return Outcome::Failed;
        }
        let ends_in_nul = length > span.lead() && batch.chunk.bytes()[length - 1] == 0 && span.to != Some(end);
        let stat = if ends_in_nul && stat.is_none() { self.stat(file).await.ok() } else { stat };
        // NULs that are known to reach the end of the file are as good as read.
        let known = stat.filter(|_| ends_in_nul && span.to.is_none()).and_then(|stat| followed.nuls.to_end(end, &stat));
        let read_to = known.unwrap_or(end);
        let claims_more = stat.is_some_and(|stat| stat.length > read_to);
        self.note_read(followed, stat, read_to);
        let last_read = taken.finish
            && span.to.is_none()
            && !claims_more
            && read_to <= seen_before
            && read_to >= followed.seen_length;
        let ending = match () {
            () if span.to == Some(end) => Ending::Closed,
            () if last_read => Ending::Final,
            () if ends_in_nul && followed.nuls.are_followed(span.from, span.place, end) => Ending::Followed,
            () => Ending::Open,
        };
        self.renew_head(followed, file, &batch).await;
        if span.to.is_none() && stat.is_some_and(|stat| stat.length <= end) {
            let seen_length = followed.seen_length.max(self.owner.seen_meanwhile(taken.id));
            self.cut_at(taken, end, seen_length);
        }
        let followed = &mut *taken.followed;
        self.send_lines(followed, batch, ending, read_to - end).await;
        if ends_in_nul && ending == Ending::Open && claims_more && followed.span() == span {
            let modified = stat.map_or(followed.seen_modified, |stat| stat.modified);
            return self.search(taken, file, end, modified).await;
        }
        let after = followed.last();
        if followed.spans.len() > 1 || claims_more || followed.seen_length > after.from + followed.unfinished {
            return Outcome::More;
        }
        if stat.is_some_and(|stat| stat.length < after.from) || stat.is_none() {
            return Outcome::More;
        }
        if last_read { Outcome::Finished } else { Outcome::Read }
    }

    /// Notes that the file was read up to `end`, and what it is where that was asked.
    fn note_read(&self, followed: &mut Followed<FileOf<E>>, stat: Option<Stat>, end: u64) {
        let now = self.context.env.now();
        let seen_before = followed.seen_length;
        if let Some(stat) = stat {
            // More than was read may be of another content already: it is believed when it is read.
            followed.look(&Stat { length: stat.length.min(end), ..stat }, now);
        }
        if end > seen_before {
            followed.seen_length = followed.seen_length.max(end);
            followed.grown_at = now;
        }
    }

    /// Counts what is gone if the file, of which `seen_length` bytes were seen, ends at `end` now, behind what was read.
    fn cut_at(&self, taken: &mut Taken<FileOf<E>>, end: u64, seen_length: u64) {
        if seen_length > end {
            let followed = &mut *taken.followed;
            followed.seen_length = seen_length;
            self.lose(followed, followed.unread_behind(end));
            self.owner.forget_seen(taken.id);
            followed.cut_at(end);
        }
    }

    /// Cuts the lines of a batch and sends it, if anything in it is dealt with. The batch is followed by `nuls` NULs that are
    /// as good as read.
    async fn send_lines(&self, followed: &mut Followed<FileOf<E>>, mut batch: Box<Batch>, ending: Ending, nuls: u64) {
        let span = followed.span();
        let lead = span.lead();
        let Batch { chunk, events, .. } = &mut *batch;
        let cut = framing::cut(chunk.bytes(), lead, span.place, self.owner.options.rules, ending, events);
        let bytes = batch.chunk.bytes();
        let end = span.offset() + bytes.len() as u64;
        if cut.nuls > 0 {
            followed.nuls.note(end - cut.nuls as u64..end);
        }
        let rest = (bytes.len() - cut.consumed) as u64 + nuls;
        if cut.consumed == lead {
            followed.unfinished = rest;
            self.context.lanes.put_back(batch);
            return;
        }
        let mut to = span.offset() + cut.consumed as u64;
        if ending == Ending::Followed
            && leading(&bytes[lead..]) == bytes.len() - lead
            && let Some(data) = followed.nuls.jump(span.from, end)
        {
            to = data;
            followed.seen_length = followed.seen_length.max(to);
        }
        let marker = marker_behind(&bytes[..cut.consumed], to.saturating_sub(end));
        batch.range = SourceRange { from: span.from, to, marker };
        batch.dropped_events = cut.discarded;
        batch.source.clone_from(&followed.source);
        let full = batch.events.len() >= tailwater_shards::limits::BATCH_EVENTS_MAX;
        followed.advance(to, marker, cut.place);
        followed.unfinished = if full { 0 } else { rest };
        self.count(cut.truncated, cut.discarded);
        self.send(batch).await;
    }

    fn count(&self, truncated: u64, discarded: u64) {
        let counters = &self.context.counters;
        if truncated > 0 {
            counters.truncated_events.add(truncated);
        }
        if discarded > 0 {
            counters.received_events.add(discarded);
            counters.discarded.add(Discard::LineTooLong, discarded);
        }
    }

    async fn send(&self, batch: Box<Batch>) {
        let sent = async {
            self.context.lanes.send(batch).await;
        };
        // What is not sent when the end is forced is read again by the next start.
        or(sent, self.context.stop.reached(Phase::Forced)).await;
    }

    /// Takes a longer head as the file grows out of the one that is known.
    async fn renew_head(&self, followed: &mut Followed<FileOf<E>>, file: &Arc<FileOf<E>>, batch: &Batch) {
        if !followed.identity.head.is_outgrown_by(followed.seen_length) {
            return;
        }
        let head = if batch.chunk_offset == 0 {
            Head::of(batch.chunk.bytes())
        } else {
            match self.peek::<HEAD_BYTES>(file).await {
                Ok((window, length)) => Head::of(&window[..length]),
                // The next read tries again.
                Err(_) => return,
            }
        };
        if head.length > followed.identity.head.length {
            followed.set_head(head);
            self.owner.tell_home(ToHome::Head(head));
        }
    }

    /// The content is not what was read: a new generation begins at its first byte.
    async fn start_anew(&self, followed: &mut Followed<FileOf<E>>, file: &Arc<FileOf<E>>) -> Outcome {
        let stat = match self.stat(file).await {
            Ok(stat) => stat,
            Err(error) => {
                self.tell_once(followed, &error, "it cannot be looked at", "it is tried again each second");
                return Outcome::Failed;
            }
        };
        if let Span { from: position, marker: Some(marker), .. } = followed.last() {
            // Copies of it are known by that.
            self.owner.tell_home(ToHome::Ended(followed.identity.head, End { position, marker }));
        }
        // Whether a hole is part of its length is seen when it is read.
        let begins = self.peek::<1>(file).await.is_ok_and(|(first, length)| length == 1 && first[0] != 0);
        let length = if begins { stat.length } else { 0 };
        let lost = followed.start_anew(self.context.new_key(), length);
        followed.seen_modified = stat.modified;
        if lost > 0 {
            self.lose(followed, lost);
        } else {
            let path = followed.path.display();
            tracing::info!(component_id = %self.context.name, "{path}: truncated; reading from its beginning");
        }
        Outcome::More
    }

    /// What is known of a file, asked where that may block if it has to.
    async fn stat(&self, file: &Arc<FileOf<E>>) -> io::Result<Stat> {
        if !file.is_remote() {
            return file.stat();
        }
        let file = file.clone();
        self.context.env.blocking(move || file.stat()).await
    }

    /// The first bytes of a file and how many there were, read where that may block if it has to.
    async fn peek<const N: usize>(&self, file: &Arc<FileOf<E>>) -> io::Result<([u8; N], usize)> {
        let mut window = [0; N];
        match file.read_nowait(&mut window, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let file = file.clone();
                let read = move || file.read_at(&mut window, 0).map(|length| (window, length));
                self.context.env.blocking(read).await
            }
            read => read.map(|length| (window, length)),
        }
    }

    /// Counts and reports what a truncation destroyed.
    fn lose(&self, followed: &Followed<FileOf<E>>, lost: u64) {
        if lost == 0 {
            return;
        }
        self.context.counters.lose(Lost::Truncated, lost);
        let path = followed.path.display();
        tracing::error!(component_id = %self.context.name, "{path}: truncated with {lost} bytes unread: they are lost");
    }

    /// The open file; opens it where it was closed for being quiet.
    async fn open(&self, taken: &mut Taken<FileOf<E>>) -> Result<Arc<FileOf<E>>, Outcome> {
        if let Some(file) = &taken.followed.file {
            return Ok(file.clone());
        }
        let disk = self.context.env.disk().clone();
        let (path, inode) = (taken.followed.path.clone(), taken.followed.identity.inode);
        let opened = self.context.env.blocking(move || {
            let file = disk.open(&path, Open::Read)?;
            let stat = file.stat()?;
            Ok::<_, io::Error>((Inode::of(&stat) == inode).then_some(file))
        });
        let followed = &mut *taken.followed;
        match opened.await {
            Ok(Some(file)) => {
                let file = Arc::new(file);
                followed.file = Some(file.clone());
                self.owner.opened(1);
                Ok(file)
            }
            // Another file is at its path: the home shard is about to say where this one went.
            Ok(None) if !taken.away => Err(Outcome::Failed),
            Err(error) if !taken.away => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.tell_once(followed, &error, "it cannot be opened", "it is tried again each second");
                }
                Err(Outcome::Failed)
            }
            Ok(None) | Err(_) => {
                let lost = followed.unread();
                if lost > 0 {
                    self.context.counters.lose(Lost::Deleted, lost);
                }
                Err(Outcome::Finished)
            }
        }
    }

    /// Records that a source has ended.
    async fn end(&self, farewell: Farewell) {
        let lanes = &self.context.lanes;
        let batch = async { Some(lanes.batch(&farewell.source).await) };
        let stop = async {
            self.context.stop.reached(Phase::Forced).await;
            None
        };
        let Some(mut batch) = or(batch, stop).await else { return };
        batch.range = farewell.range;
        batch.gone = farewell.gone;
        batch.received = self.context.env.wall();
        self.send(batch).await;
    }

    fn tell_once(&self, followed: &mut Followed<FileOf<E>>, error: &io::Error, what: &str, next: &str) {
        if followed.failure.replace(error.kind()) != Some(error.kind()) {
            self.owner.error(&format!("{}: {what}: {error}; {next}", followed.path.display()));
        }
    }
}
