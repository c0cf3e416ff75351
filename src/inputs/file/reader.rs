//! Reads files in turn and sends their lines.
//!
//! Guarantees: the bytes just before a position are read again together with the bytes after it, so a file with replaced
//! content is detected before any of it is taken for a continuation. A file gets at most [`ROUND_CHUNKS`] chunks and one step
//! of a search before the next file has its turn. A full lane stops the reader. A file whose dead letters wait for space is not
//! read meanwhile. A file on which a call takes long makes the others wait for at most a second (see [`crew`]). In the steady state a
//! read costs one system call, or two at the end of the file, and allocates nothing.

mod archive;
mod calls;
mod converted;
mod crew;
mod fill;
mod replace;
mod search;

use super::archive::Format;
use super::content::{Content, FileOf};
use super::copies::End;
use super::discover::is_absent;
use super::follow::{Beginning, Farewell, Followed, Span};
use super::identify::wrong_encoding;
use super::identity::{HEAD_BYTES, Head, TAIL_BYTES};
use super::nuls::marker_behind;
use super::owner::{Outcome, Owner, Taken};
use super::post::{FileId, ToHome};
use super::scout::{self, Refusal};
use crate::codec::encoding::Encoding;
use crate::codec::framing::{self, Ending};
use crate::codec::nuls::leading;
use crew::{Crew, Held};
use fill::Filled;
use futures_lite::future::or;
use std::cell::Cell;
use std::io;
use std::sync::Arc;
use tailwater_shards::batch::{Batch, SourceRange};
use tailwater_shards::counted::counted;
use tailwater_shards::counters::{Discard, Lost};
use tailwater_shards::env::{Env, File, Stat};
use tailwater_shards::limits::CHUNK_BYTES;
use tailwater_shards::plugin::{InputContext, PluginError, Ticket};
use tailwater_shards::stop::Phase;

/// While the position is before this, longer heads are taken. Longer than [`HEAD_BYTES`], because preallocated space delays
/// the head.
const HEAD_NEAR_BYTES: u64 = 1024 * 1024;

/// Chunks that one file may use in its turn.
const ROUND_CHUNKS: usize = 4;

/// Reads until the drain begins.
pub async fn run<E: Env>(context: &InputContext<E>, owner: &Owner<E>) -> Result<(), PluginError> {
    let crew = Crew::default();
    let next = || {
        let reader = Reader { context, owner, crew: &crew, id: Cell::new(None), is_aside: Cell::new(false) };
        Box::pin(reader.read()) as crew::Member<'_>
    };
    crew.work(next, || context.stop.is_asked()).await;
    or(context.lanes.settle(), context.stop.reached(Phase::Forced)).await;
    Ok(())
}

struct Reader<'a, E: Env> {
    context: &'a InputContext<E>,
    owner: &'a Owner<E>,
    crew: &'a Crew,
    /// The file that it has.
    id: Cell<Option<FileId>>,
    /// Whether another reader has the next files.
    is_aside: Cell<bool>,
}

/// Why a read cannot be used.
enum Misfit {
    /// The file is binary or has another encoding. It was too short for this to be detected when it was found, so it is
    /// identified again.
    Other,
    /// The archive belongs to another file.
    OtherArchive,
    /// The content is not the content that was read before.
    Replaced,
    /// The file system reports inconsistent lengths: retried later, not at once.
    Unsure,
}

impl<'a, E: Env> Reader<'a, E> {
    /// Reads files until the drain begins, or until it has stepped aside.
    async fn read(self) {
        let (context, owner) = (self.context, self.owner);
        while !context.stop.is_asked() && !self.is_aside.get() {
            if let Some(farewell) = owner.next_farewell() {
                let _ = self.end(farewell).await;
            } else if let Some((id, taken)) = owner.take() {
                self.id.set(Some(id));
                self.give_turn(id, taken).await;
            } else {
                let settled = async {
                    context.lanes.settle().await;
                    std::future::pending().await
                };
                or(or(settled, owner.ready.wait()), context.stop.reached(Phase::Draining)).await;
            }
        }
    }

    /// One turn of a file, with the files that took its path.
    async fn give_turn(&self, id: FileId, mut taken: Taken<FileOf<E>>) {
        let owner = self.owner;
        let mut outcome = self.serve(&mut taken).await;
        let is_read = !outcome.goes_on() && outcome != Outcome::Rests && outcome != Outcome::NotIt;
        if is_read && let Some(replacement) = owner.next_replacement(id) {
            outcome = self.replace(&mut taken, replacement).await;
        } else if is_read && let Some(successor) = owner.next_successor(id) {
            self.compare(&taken, successor, outcome == Outcome::Finished).await;
        }
        if !outcome.goes_on() && owner.unpacking.get() == Some(id) {
            owner.unpacking.set(None);
        }
        if self.is_aside.get() {
            owner.is_no_longer_slow(id);
        }
        owner.put_back(id, taken.followed, outcome);
        if outcome == Outcome::Failed || outcome == Outcome::Rests {
            self.context.env.turn().await;
        }
    }

    /// One turn of a file.
    async fn serve(&self, taken: &mut Taken<FileOf<E>>) -> Outcome {
        let mut outcome = Outcome::More;
        for _ in 0..ROUND_CHUNKS {
            if self.context.lanes.rests(taken.followed.source.key) {
                return Outcome::Rests;
            }
            while let Some(farewell) = taken.followed.farewells.pop_front() {
                let sent = self.end(farewell).await;
                taken.followed.sent = sent.or(taken.followed.sent);
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
            let sent = self.end(taken.followed.farewell()).await;
            taken.followed.sent = sent.or(taken.followed.sent);
        }
        outcome
    }

    /// One read of a file.
    async fn step(&self, taken: &mut Taken<FileOf<E>>) -> Outcome {
        // It hangs, or is where something hangs.
        if self.owner.patience.is_aside(&taken.followed.path) {
            return Outcome::Failed;
        }
        let file = match self.open(taken).await {
            Ok(file) => file,
            Err(outcome) => return outcome,
        };
        if file.archive().is_some()
            && let Some(outcome) = self.unpack(taken, &file).await
        {
            return outcome;
        }
        if taken.followed.span().beginning != Beginning::Known {
            return self.find_beginning(taken, &file).await;
        }
        let followed = &mut *taken.followed;
        if let Err(error) = self.owner.options.patterns.own.refuse_inode(&followed.identity.inode) {
            self.tell_once(followed, &error, "it is no longer read", "change the output, or `exclude` the file");
            return Outcome::Failed;
        }
        let begun = self.context.env.now();
        match self.fill(followed, &file).await {
            // The drain begins.
            Ok(None) => Outcome::More,
            Ok(Some(filled)) => {
                followed.failure = None;
                if filled.length <= followed.span().lead() && file.archive().is_some_and(|archive| archive.is_paused())
                {
                    self.put_back(filled.batch);
                    self.searched(taken, self.context.env.now().since(begun));
                    return Outcome::Searching;
                }
                self.digest(taken, &file, filled).await
            }
            Err(error) => {
                self.tell_once(followed, &error, "reading it failed", "retrying every second");
                Outcome::Failed
            }
        }
    }

    /// A batch with enough room; none when the drain begins. It is returned or sent before anything else is waited for.
    async fn batch(&self, followed: &Followed<FileOf<E>>) -> Option<Held<'a>> {
        let lanes = &self.context.lanes;
        let source = &followed.source;
        let batch = async {
            let turn = self.crew.turn().await;
            // A line that did not fit in a chunk needs a larger batch. The extra bytes show its line ending.
            let room = CHUNK_BYTES - TAIL_BYTES;
            if followed.unfinished >= room as u64 && followed.is_in_line() {
                let rules = self.owner.options.rules;
                let line = rules.encoding.line_bytes_max(rules.line_bytes_max) + 4;
                return Some(Held { batch: lanes.large_batch(source, TAIL_BYTES + line).await, turn });
            }
            Some(Held { batch: lanes.batch(source).await, turn })
        };
        let stop = async {
            self.context.stop.reached(Phase::Draining).await;
            None
        };
        or(batch, stop).await
    }

    fn put_back(&self, held: Held<'_>) {
        self.context.lanes.put_back(held.batch);
    }

    /// Why a read cannot be a continuation of what was read before, if it cannot.
    fn misfit(
        &self,
        followed: &Followed<FileOf<E>>,
        file: &FileOf<E>,
        batch: &Batch,
        stat: Option<Stat>,
    ) -> Option<Misfit> {
        let (span, bytes) = (followed.span(), batch.chunk.bytes());
        let (length, is_archive) = (bytes.len(), file.archive().is_some());
        let replaced = length >= span.lead() && !span.continues(bytes)
            || self.owner.options.rules.skip_nuls && search::is_hollow(followed, bytes);
        let shrunk = length <= span.lead() && stat.is_some_and(|stat| stat.length < followed.last().from);
        let claims_more = stat.is_some_and(|stat| stat.length > span.offset() + length as u64);
        match () {
            () if span.from == 0 && !is_archive && self.is_other(bytes) => Some(Misfit::Other),
            () if is_archive && (replaced || length < span.lead()) => Some(Misfit::OtherArchive),
            () if replaced || shrunk => Some(Misfit::Replaced),
            () if length < span.lead() || length == span.lead() && claims_more => Some(Misfit::Unsure),
            () => None,
        }
    }

    async fn refuse(&self, taken: &mut Taken<FileOf<E>>, file: &Arc<FileOf<E>>, misfit: Misfit) -> Outcome {
        match misfit {
            Misfit::Other => Outcome::NotIt,
            Misfit::OtherArchive => {
                self.owner.tell_home(ToHome::NotArchive(taken.id));
                Outcome::NotIt
            }
            Misfit::Replaced => {
                let followed = &mut *taken.followed;
                followed.seen_length = followed.seen_length.max(self.owner.seen_meanwhile(taken.id));
                self.owner.forget_seen(taken.id);
                self.start_generation(followed, file).await
            }
            Misfit::Unsure => Outcome::Failed,
        }
    }

    /// Sends the lines from a read, unless the file is not what it was.
    async fn digest(&self, taken: &mut Taken<FileOf<E>>, file: &Arc<FileOf<E>>, filled: Filled<'_>) -> Outcome {
        let Filled { batch, length, stat } = filled;
        let followed = &mut *taken.followed;
        let span = followed.span();
        let seen_before = followed.seen_length;
        let end = span.offset() + length as u64;
        if let Some(misfit) = self.misfit(followed, file, &batch, stat) {
            self.put_back(batch);
            return self.refuse(taken, file, misfit).await;
        }
        let skips_nuls = self.owner.options.rules.skip_nuls;
        let ends_in_nul =
            skips_nuls && length > span.lead() && batch.chunk.bytes()[length - 1] == 0 && span.to != Some(end);
        // A read that may block has requested it already.
        let stat = if ends_in_nul && stat.is_none() && !file.is_remote() { file.stat().ok() } else { stat };
        // NULs that are known to reach the end of the file count as read.
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
            // Nothing is written into an archive.
            () if ends_in_nul && file.archive().is_some() => Ending::Followed,
            () if ends_in_nul && followed.nuls.are_followed(span.from, span.place, end) => Ending::Followed,
            () => Ending::Open,
        };
        let head_waits = !self.renew_head(followed, file, &batch);
        if let Some(archive) = file.archive().filter(|archive| archive.is_damaged()) {
            self.tell_of_damage(taken, archive.stat().length);
        }
        let followed = &mut *taken.followed;
        if span.to.is_none() && stat.is_some_and(|stat| stat.length <= end) {
            let seen_length = followed.seen_length.max(self.owner.seen_meanwhile(taken.id));
            self.cut_at(taken, end, seen_length);
        }
        let followed = &mut *taken.followed;
        self.send_lines(followed, batch, ending, read_to - end).await;
        if head_waits && let Ok((window, length)) = self.peek::<HEAD_BYTES>(&followed.path, file).await {
            self.take_head(followed, Head::of(&window[..length]));
        }
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

    /// Whether a file that begins with `bytes` is binary or has an encoding that this input does not read.
    fn is_other(&self, bytes: &[u8]) -> bool {
        Format::of(bytes).is_some() || wrong_encoding(bytes, self.owner.options.rules.encoding).is_some()
    }

    /// Records that the file was read up to `end`, and its metadata if they were requested.
    fn note_read(&self, followed: &mut Followed<FileOf<E>>, stat: Option<Stat>, end: u64) {
        let now = self.context.env.now();
        let seen_before = followed.seen_length;
        if let Some(stat) = stat {
            // Bytes after those that were read may already be different content: they count when they are read.
            followed.look(&Stat { length: stat.length.min(end), ..stat }, now);
        }
        if end > seen_before {
            followed.seen_length = followed.seen_length.max(end);
            followed.grown_at = now;
        }
    }

    /// Counts the loss if the file ends at `end`, which is after the position, and `seen_length` bytes of it were seen.
    fn cut_at(&self, taken: &mut Taken<FileOf<E>>, end: u64, seen_length: u64) {
        if seen_length > end {
            let followed = &mut *taken.followed;
            followed.seen_length = seen_length;
            self.lose(followed, followed.unread_behind(end));
            self.owner.forget_seen(taken.id);
            followed.cut_at(end);
        }
    }

    /// Splits a batch into lines and sends it, unless nothing in it is complete. The batch is followed by `nuls` NULs that
    /// count as read.
    async fn send_lines(&self, followed: &mut Followed<FileOf<E>>, mut batch: Held<'_>, ending: Ending, nuls: u64) {
        let span = followed.span();
        let lead = span.lead();
        let Batch { chunk, events, .. } = &mut *batch.batch;
        let rules = self.owner.options.rules;
        let cut = framing::cut(chunk.bytes(), lead, span.place, rules, ending, events);
        if rules.encoding != Encoding::Utf8 && !batch.events.is_empty() {
            return self.send_converted(followed, batch, cut, nuls).await;
        }
        let bytes = batch.chunk.bytes();
        let end = span.offset() + bytes.len() as u64;
        if cut.nuls > 0 {
            followed.nuls.note(end - cut.nuls as u64..end);
        }
        let rest = (bytes.len() - cut.consumed) as u64 + nuls;
        if cut.consumed == lead {
            followed.unfinished = rest;
            self.put_back(batch);
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
        if cut.truncated > 0 || span.from == 0 {
            framing::finish(&mut batch, rules, cut.truncated);
        }
        let full = batch.events.len() >= tailwater_shards::limits::BATCH_EVENTS_MAX;
        followed.advance(to, marker, cut.place);
        followed.unfinished = if full { 0 } else { rest };
        self.count(cut.truncated, cut.discarded);
        if let Some(sent) = self.send(batch).await {
            followed.sent = Some(sent);
        }
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

    async fn send(&self, held: Held<'_>) -> Option<Ticket> {
        let Held { batch, turn } = held;
        let forced = async {
            self.context.stop.reached(Phase::Forced).await;
            None
        };
        // If the end is forced, the next start reads again what was not sent.
        let sent = or(self.context.lanes.send(batch), forced).await;
        drop(turn);
        sent
    }

    /// Stores a longer head when the file has outgrown the known one. Returns false if reading it may block.
    fn renew_head(&self, followed: &mut Followed<FileOf<E>>, file: &Arc<FileOf<E>>, batch: &Batch) -> bool {
        let is_near = batch.chunk_offset < HEAD_NEAR_BYTES || followed.identity.head.length == 0;
        if !is_near || !followed.identity.head.is_outgrown_by(followed.seen_length) {
            return true;
        }
        if batch.chunk_offset == 0 {
            self.take_head(followed, Head::of(batch.chunk.bytes()));
            return true;
        }
        let mut window = [0; HEAD_BYTES];
        match file.read_nowait(&mut window, 0) {
            Ok(length) => self.take_head(followed, Head::of(&window[..length])),
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
        true
    }

    fn take_head(&self, followed: &mut Followed<FileOf<E>>, head: Head) {
        let known = followed.identity.head;
        let is_better = match head.is_hollow() {
            true => head.length > known.length,
            false => known.is_outgrown_by(u64::from(head.length)),
        };
        if is_better {
            followed.set_head(head);
            self.owner.tell_home(ToHome::Head(head));
        }
    }

    /// The content is not what was read: a new generation begins at its first byte.
    async fn start_generation(&self, followed: &mut Followed<FileOf<E>>, file: &Arc<FileOf<E>>) -> Outcome {
        let stat = match self.stat(&followed.path, file).await {
            Ok(stat) => stat,
            Err(error) => {
                self.tell_once(followed, &error, "its metadata cannot be read", "retrying every second");
                return Outcome::Failed;
            }
        };
        if let Span { from: position, marker: Some(marker), .. } = followed.last() {
            // This is how copies of it are recognised.
            self.owner.tell_home(ToHome::Ended(followed.identity.head, End { position, marker }));
        }
        // Whether the length includes a hole is found out when the file is read.
        let has_holes = self.owner.options.rules.skip_nuls;
        let begins = !has_holes
            || self.peek::<1>(&followed.path, file).await.is_ok_and(|(first, length)| length == 1 && first[0] != 0);
        let length = if begins { stat.length } else { 0 };
        let lost = followed.start_generation(self.context.new_key(), length);
        followed.seen_modified = stat.modified;
        if lost > 0 {
            self.lose(followed, lost);
        } else {
            let path = followed.path.display();
            tracing::info!(component_id = %self.context.name, "{path}: truncated; reading it from its beginning");
        }
        Outcome::More
    }

    /// Counts and reports bytes that a truncation destroyed.
    fn lose(&self, followed: &Followed<FileOf<E>>, lost: u64) {
        if lost == 0 {
            return;
        }
        self.context.counters.lose(Lost::Truncated, lost);
        let path = followed.path.display();
        let lost = counted(lost, "unread byte");
        tracing::error!(component_id = %self.context.name, "{path}: truncated; {lost} lost");
    }

    /// The open file. Opens it if it was closed: because it was quiet, or because too many were open.
    async fn open(&self, taken: &mut Taken<FileOf<E>>) -> Result<Arc<FileOf<E>>, Outcome> {
        if let Some(file) = &taken.followed.file {
            return Ok(file.clone());
        }
        let (disk, patterns) = (self.context.env.disk().clone(), self.owner.options.patterns.clone());
        let (path, inode) = (taken.followed.path.clone(), taken.followed.identity.inode);
        let at = path.clone();
        let opened = self.call(&at, move || scout::reopen(&disk, &patterns, &path, inode));
        let followed = &mut *taken.followed;
        match opened.await {
            Ok(Some(file)) => {
                let file = Arc::new(Content::Plain(file));
                followed.file = Some(file.clone());
                self.owner.opened(followed.owner);
                Ok(file)
            }
            // Another file is at its path: the home shard will report soon where this one is.
            Ok(None) if !taken.away => Err(Outcome::Failed),
            Err(error) if !taken.away || !is_absent(&error) => {
                // The home shard tells of links.
                if !is_absent(&error) && Refusal::of(&error).is_none() {
                    self.tell_once(followed, &error, "it cannot be opened", "retrying every second");
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

    /// Sends the record that a source ended or that bytes were skipped.
    async fn end(&self, farewell: Farewell) -> Option<Ticket> {
        let lanes = &self.context.lanes;
        let batch = async {
            let turn = self.crew.turn().await;
            Some(Held { batch: lanes.batch(&farewell.source).await, turn })
        };
        let stop = async {
            self.context.stop.reached(Phase::Forced).await;
            None
        };
        let mut batch = or(batch, stop).await?;
        batch.range = farewell.range;
        batch.gone = farewell.gone;
        batch.received = self.context.env.wall();
        self.send(batch).await
    }

    fn tell_once(&self, followed: &mut Followed<FileOf<E>>, error: &io::Error, what: &str, next: &str) {
        // What hangs is told where it is set aside. An error of the system with this kind has a number.
        let is_told = error.kind() == io::ErrorKind::TimedOut && error.raw_os_error().is_none();
        if followed.failure.replace(error.kind()) != Some(error.kind()) && !is_told {
            self.owner.error(&format!("{}: {what}: {error}; {next}", followed.path.display()));
        }
    }
}
