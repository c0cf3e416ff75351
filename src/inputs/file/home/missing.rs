//! Files of an earlier run that no path under the patterns leads to: searched elsewhere and read to their end, or reported as
//! lost.
//!
//! Guarantees: if a file was followed and bytes were seen but not read, these bytes are read if the file is still in its
//! directory (or in that of its target, if its path is a link), under any name, or if a copy of it exists that can be
//! decompressed. Otherwise they are counted as lost with a reason, and reported. A file that may appear later, for example on a
//! file system that is not mounted yet, is waited for. A file that is there and cannot be opened is kept, and found under any
//! name when it can be opened.
//! Each shard reads one archive at a time.

use super::super::content::FileOf;
use super::super::discover::Named;
use super::super::follow::{Farewell, Span, unread_spans};
use super::super::identify::Opened;
use super::super::identity::{Descriptor, Inode};
use super::super::notes::Note;
use super::super::patience::{HANGS, Work};
use super::super::post::{FileId, ToOwner};
use super::super::seek::{self, Candidate, Found, Sought};
use super::Home;
use crate::config::room::Site;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::{Source, SourceKey, SourceRange};
use tailwater_shards::counted::counted;
use tailwater_shards::counters::Lost;
use tailwater_shards::env::{Disk, Env, Stat, Timestamp, is_exhausted};
use tailwater_shards::wal::SourceState;

/// Number of ticks after which files that could not be opened are searched again. Those under the patterns are opened as soon
/// as that is possible.
const CLOSED_TICKS: u64 = 10;

/// Maximum number of archives that are open in place of missing files. The others are opened when these are read.
pub const ARCHIVES_MAX: usize = if cfg!(test) { 8 } else { 128 };

/// How long a source of an earlier run waits for its file before its position may be dropped.
const MISSING_WAIT: Duration = Duration::from_secs(60);

type FoundOf<E> = Found<<<E as Env>::Disk as Disk>::File>;

fn no_answer() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer")
}

/// A file of an earlier run that is not followed yet.
pub(super) struct Missing {
    sought: Sought,
    /// Bytes of it that were seen.
    seen_length: u64,
    /// Its note, if there is one.
    note: Option<Note>,
    /// Whether it was there at the last look, and could not be opened.
    closed: bool,
}

/// Inodes by their numbers.
pub(super) struct Inodes(HashMap<u64, Vec<Inode>>);

impl Inodes {
    pub(super) fn of(all: impl Iterator<Item = Inode>) -> Inodes {
        let mut by_number: HashMap<u64, Vec<Inode>> = HashMap::new();
        all.for_each(|inode| by_number.entry(inode.number).or_default().push(inode));
        Inodes(by_number)
    }

    pub(super) fn may_have(&self, inode: Inode) -> bool {
        self.0.get(&inode.number).is_some_and(|all| all.iter().any(|other| other.may_be(inode)))
    }
}

impl Missing {
    fn key(&self) -> SourceKey {
        self.sought.state.key()
    }

    /// Number of bytes that were seen but not read.
    fn unread(&self) -> u64 {
        let read: u64 = self.sought.state.intervals.iter().map(|(from, to)| to - from).sum();
        self.seen_length.saturating_sub(read)
    }

    /// Whether the WAL has a position for it.
    fn is_recorded(&self) -> bool {
        !self.sought.state.intervals.is_empty()
    }
}

/// The archive that is read in place of a missing file, and the other archives that it may be.
pub(super) struct Archived {
    missing: Missing,
    others: Vec<Candidate>,
    /// Whether it turned out not to be the archive of this file.
    pub(super) refused: bool,
}

impl<E: Env> Home<'_, E> {
    /// Finds out which files were followed when the process ended.
    pub(super) async fn recall(&mut self) {
        let notes = self.owner.notebook.take_over(&self.context.data_dir, &self.context.name).await;
        self.first_run &= notes.is_empty();
        let mut all: BTreeMap<SourceKey, Missing> = BTreeMap::new();
        for state in self.context.orphans.iter().chain(self.context.resume.iter()) {
            let Some(descriptor) = Descriptor::decode(&state.source.descriptor) else { continue };
            let sought = Sought { state: state.clone(), descriptor };
            let is_own = *state.source.input == *self.context.name || self.patterns.wants_file(&sought.path());
            if state.gone.is_none() && is_own {
                let seen_length = state.end();
                all.insert(state.key(), Missing { sought, seen_length, note: None, closed: false });
            }
        }
        let known: HashSet<SourceKey> = self.context.resume.iter().map(SourceState::key).collect();
        for note in notes {
            let Some(descriptor) = Descriptor::decode(&note.descriptor) else { continue };
            match all.get_mut(&note.key) {
                Some(missing) => {
                    missing.seen_length = missing.seen_length.max(note.seen_length);
                    if descriptor.identity.head.length > missing.sought.descriptor.identity.head.length {
                        missing.sought.descriptor = descriptor;
                    }
                    missing.note = Some(note);
                }
                // The WAL already records that the file is gone.
                None if known.contains(&note.key) => {}
                None => {
                    all.insert(note.key, self.unrecorded(note, descriptor));
                }
            }
        }
        let mut sites: HashMap<PathBuf, Site> = HashMap::new();
        for missing in all.values() {
            let (inode, path) = (missing.sought.descriptor.identity.inode, missing.sought.path());
            let directory = path.parent().unwrap_or(Path::new("/"));
            let site = sites.get(directory).copied().unwrap_or_else(|| self.site(directory));
            sites.insert(directory.to_path_buf(), site);
            self.crowd.reserve(inode, site, &path);
            self.first.expect(directory, inode);
            if !missing.is_recorded() {
                self.noted.insert(inode.number, missing.key());
            }
        }
        self.missing = all;
        self.carry();
    }

    /// A file that is not in the WAL, because nothing of it was read.
    fn unrecorded(&self, note: Note, descriptor: Descriptor) -> Missing {
        let source = Arc::new(Source {
            key: note.key,
            input: self.context.name.clone(),
            name: descriptor.path.clone(),
            descriptor: note.descriptor.clone(),
            repeatable: true,
        });
        let state =
            SourceState { source, intervals: Vec::new(), marker: 0, gone: None, told: 0, recorded: Timestamp(0) };
        Missing { sought: Sought { state, descriptor }, seen_length: note.seen_length, note: Some(note), closed: false }
    }

    /// Keeps the notes of files that are not found yet for the next start.
    fn carry(&mut self) {
        self.carry_later = false;
        let waiting = self.missing.values().chain(self.packed_in.iter().map(|one| &one.0));
        let notes = waiting.filter_map(|missing| missing.note.clone()).collect();
        self.owner.carried.replace(notes);
    }

    /// The same, if a file was found since then.
    pub(super) fn carry_if_found(&mut self) {
        if self.carry_later {
            self.carry();
        }
    }

    fn keep_missing(&mut self, all: Vec<Missing>) {
        self.missing.extend(all.into_iter().map(|missing| (missing.key(), missing)));
    }

    fn take_missing(&mut self) -> Vec<Missing> {
        std::mem::take(&mut self.missing).into_values().collect()
    }

    fn names(&self) -> impl Iterator<Item = &Named> {
        self.directories.values().flat_map(|directory| directory.names.values())
    }

    /// The inodes that wanted names lead to.
    fn inodes_present(&self) -> Inodes {
        Inodes::of(self.names().map(|named| named.inode))
    }

    /// A file is followed now: neither its source nor a source of which it is a copy is searched any more.
    pub(super) fn is_found(&mut self, opened: &Opened<FileOf<E>>) {
        if self.missing.is_empty() {
            self.noted.clear();
            return;
        }
        let key = opened.state.as_ref().map(SourceState::key).or_else(|| self.noted(opened));
        let found = key.and_then(|key| self.missing.remove(&key));
        found.iter().for_each(|missing| self.release_room_of(missing));
        let before = self.missing.len();
        if opened.copy {
            let end = |missing: &Missing| (missing.sought.state.end(), missing.sought.state.marker);
            self.missing.retain(|_, missing| opened.left_out != Some(end(missing)));
        }
        // Not now, because that visits all that are still missing.
        self.carry_later |= found.is_some_and(|missing| missing.note.is_some()) || self.missing.len() != before;
    }

    /// Searches for the files that no path under the patterns leads to. This comes before other files are followed, because
    /// these files have the older lines.
    pub(super) async fn find_missing(&mut self) {
        let present = self.inodes_present();
        let all = self.take_missing();
        let (here, gone): (Vec<Missing>, Vec<Missing>) =
            all.into_iter().partition(|missing| present.may_have(missing.sought.descriptor.identity.inode));
        self.keep_missing(here);
        // A file that is not found may continue in the file that took its path.
        let left = self.look_for(gone, false).await;
        self.keep_missing(left);
        self.carry();
    }

    /// Files that were not recognised at their path are searched once more among copies and archives. If that fails, their
    /// bytes are lost.
    pub(super) async fn first_look_is_over(&mut self) {
        Arc::make_mut(&mut self.memory).forget_paths();
        self.neighbours = Arc::default();
        let all = self.take_missing();
        let names = self.names().map(|named| named.inode);
        let unopened = Inodes::of(names.filter(|inode| !self.by_inode.contains_key(inode)));
        let (waiting, now): (Vec<Missing>, Vec<Missing>) =
            all.into_iter().partition(|missing| self.is_unopened(missing, &unopened));
        self.keep_missing(waiting);
        let left = self.look_for(now, true).await;
        self.keep_missing(left);
        self.carry();
    }

    /// Whether the file, or the one at its path, exists but could not be opened yet.
    fn is_unopened(&self, missing: &Missing, unopened: &Inodes) -> bool {
        let (inode, path) = (missing.sought.descriptor.identity.inode, missing.sought.path());
        let directory = path.parent().and_then(|directory| self.directories.get(directory));
        let at_path = directory.zip(path.file_name()).and_then(|(directory, name)| directory.names.get(name));
        at_path.is_some_and(|named| !self.by_inode.contains_key(&named.inode)) || unopened.may_have(inode)
    }

    /// Searches for files and follows those that are found. If `give_up` is set, the others are lost. Returns those that may
    /// still appear.
    async fn look_for(&mut self, missing: Vec<Missing>, give_up: bool) -> Vec<Missing> {
        if missing.is_empty() {
            return missing;
        }
        let found = self.seek(missing.iter().map(|missing| missing.sought.clone()).collect()).await;
        let mut all: Vec<(Missing, FoundOf<E>)> = missing.into_iter().zip(found).collect();
        // Archives before files that were only renamed; within each kind the oldest first.
        all.sort_by_key(|(_, found)| (matches!(found, Found::File(..)), seek::modified(found)));
        let (mut waiting, mut read) = (Vec::new(), 0);
        let opened = Inodes::of(self.by_inode.keys().copied().filter(|_| give_up));
        for (mut missing, found) in all {
            missing.closed = matches!(found, Found::Closed(..));
            match found {
                Found::Closed(path, error) => {
                    self.tell_once(&path, &error, "it cannot be opened", "its position is kept; retrying");
                    waiting.push(missing);
                }
                Found::File(path, opened) => self.read_on(missing, path, *opened),
                Found::Archives(mut candidates) => {
                    candidates.reverse();
                    self.packed_in.push_back((missing, candidates));
                    self.read_archives().await;
                }
                Found::Read => {
                    read += 1;
                    self.record_gone(&missing);
                }
                Found::Unreadable(path, format) if give_up => {
                    let what = format!("it was compressed to {}, and {} cannot be read", path.display(), format.name());
                    self.lose(&missing, Lost::Compressed, &what);
                }
                Found::Nothing if give_up && missing.unread() > 0 => {
                    let inode = missing.sought.descriptor.identity.inode;
                    let (reason, what) = match opened.may_have(inode) {
                        true => (Lost::Truncated, "it was overwritten while this process was stopped"),
                        false => (Lost::Deleted, "neither the file nor a copy of it is in its directory"),
                    };
                    self.lose(&missing, reason, what);
                }
                Found::Nothing if give_up => {
                    read += 1;
                    self.record_gone(&missing);
                }
                _ => waiting.push(missing),
            }
        }
        if read > 0 {
            tracing::info!(
                component_id = %self.context.name,
                "no longer there: {}, of which everything that was seen had been read",
                tailwater_shards::counted::counted(read, "followed file")
            );
        }
        waiting
    }

    /// Searches for files. Those in a directory that hangs are there and cannot be opened, as far as is known.
    async fn seek(&self, mut all: Vec<Sought>) -> Vec<FoundOf<E>> {
        let patience = &self.owner.patience;
        let mut found = Vec::new();
        let followed: Arc<HashSet<Inode>> = Arc::new(self.names().map(|named| named.inode).collect());
        let mut hanging: HashSet<PathBuf> = HashSet::new();
        loop {
            let is_aside = |sought: &&Sought| {
                let path = sought.path();
                patience.is_aside(&path) || path.parent().is_some_and(|directory| hanging.contains(directory))
            };
            let aside = all.iter().take_while(is_aside).count();
            found.extend(all.drain(..aside).map(|sought| Found::Closed(sought.path(), no_answer())));
            let next = all.iter().take_while(|sought| !is_aside(sought)).count();
            if next == 0 {
                return found;
            }
            let (some, followed) = (all[..next].to_vec(), followed.clone());
            let (disk, patterns, rules) = (self.context.env.disk().clone(), self.patterns.clone(), self.options.rules);
            let work = move |work: &Work<_>| seek::seek(&disk, &patterns, &some, &followed, rules, work);
            let (done, late) = patience.attend(HANGS, work).await;
            all.drain(..done.len());
            found.extend(done);
            if let (Some(late), Some(sought)) = (late, all.first()) {
                // With all that is searched in its directory.
                let directory = sought.path().parent().unwrap_or(Path::new("/")).to_path_buf();
                hanging.insert(directory.clone());
                patience.leave_unused(directory, late);
            }
        }
    }

    /// Follows a file that no path under the patterns leads to until its end, like a file that was renamed.
    fn read_on(&mut self, missing: Missing, path: PathBuf, opened: Opened<FileOf<E>>) {
        let inode = Inode::of(&opened.stat);
        if self.by_inode.contains_key(&inode) || self.patterns.own.refuse_inode(&inode).is_err() {
            // Without a position it is followed as a new one.
            if !missing.is_recorded() {
                self.release_room_of(&missing);
            }
            return;
        }
        tracing::info!(
            component_id = %self.context.name,
            "{}: found as {}, continuing at byte {}",
            missing.sought.path().display(), path.display(), missing.sought.state.end()
        );
        let followed = self.followed(&path, opened);
        let id = self.give_away(inode, &missing.sought.path(), followed, false);
        self.by_inode.insert(inode, id);
        self.keeps_room_of(id, &missing);
        self.is_away(id);
    }

    /// Reads the archives of missing files, as many as may be open at a time.
    pub(super) async fn read_archives(&mut self) {
        while self.archives.len() < ARCHIVES_MAX
            && let Some((missing, mut candidates)) = self.packed_in.pop_front()
        {
            let Some(candidate) = candidates.pop() else {
                let what = "archives that begin like it have different content";
                self.lose(&missing, Lost::Deleted, what);
                continue;
            };
            // Found otherwise while it waited.
            if self.by_key.contains_key(&missing.key()) {
                continue;
            }
            let (disk, patterns, one) = (self.context.env.disk().clone(), self.patterns.clone(), candidate.clone());
            let opened = self.owner.patience.once(&candidate.path, move || one.open(&disk, &patterns)).await;
            match opened.unwrap_or_else(|| Err(no_answer())) {
                Ok(file) => {
                    self.carry_later |= missing.note.is_some();
                    self.read_archive(missing, candidate, file, candidates);
                }
                Err(error) if is_exhausted(&error) => {
                    candidates.push(candidate);
                    return self.packed_in.push_front((missing, candidates));
                }
                Err(_) => self.packed_in.push_front((missing, candidates)),
            }
        }
    }

    /// Reads an archive in place of a missing file.
    fn read_archive(&mut self, missing: Missing, candidate: Candidate, file: FileOf<E>, others: Vec<Candidate>) {
        let Candidate { path, stat, .. } = candidate;
        let original = missing.sought.path();
        tracing::info!(
            component_id = %self.context.name,
            "{}: found as {}, decompressing it and continuing at byte {}",
            original.display(), path.display(), missing.sought.state.end()
        );
        let identity = missing.sought.descriptor.identity;
        let opened = Opened {
            file: Some(Arc::new(file)),
            // The source stays the source of the file.
            stat: Stat {
                device: identity.inode.device,
                inode: identity.inode.number,
                created: identity.inode.created,
                ..stat
            },
            seen_length: missing.seen_length,
            head: identity.head,
            state: Some(missing.sought.state.clone()),
            spans: seek::spans_in_archive(&missing.sought.state),
            left_out: None,
            copy: false,
            backup: None,
        };
        let mut followed = self.followed(&original, opened);
        followed.path = path;
        let id = self.give_away(Inode::of(&stat), &original, followed, false);
        self.keeps_room_of(id, &missing);
        self.archives.insert(id, Archived { missing, others, refused: false });
        self.is_away(id);
    }

    /// An archive is closed. If it was not the archive of the file, the next one is read.
    pub(super) fn archive_is_closed(&mut self, id: FileId) {
        if let Some(Archived { missing, others, refused: true }) = self.archives.remove(&id) {
            self.packed_in.push_front((missing, others));
        }
    }

    /// The source of an earlier run of which nothing was read, if this is its file. It has no position, so the file is read from its
    /// beginning under a new key.
    fn noted(&mut self, opened: &Opened<FileOf<E>>) -> Option<SourceKey> {
        let key = *self.noted.get(&opened.stat.inode)?;
        let missing = self.missing.get(&key)?;
        let identity = missing.sought.descriptor.identity;
        let is_same = identity.inode.may_be(Inode::of(&opened.stat))
            && (identity.head.length == 0 || identity.head == opened.head)
            && missing.seen_length <= opened.stat.length;
        is_same.then(|| self.noted.remove(&opened.stat.inode)).flatten()
    }

    /// Nothing is waited for any more: what is followed has room of its own.
    fn release_room_of(&mut self, missing: &Missing) {
        let claim = self.crowd.settle(missing.sought.descriptor.identity.inode);
        claim.into_iter().for_each(|claim| self.crowd.release(claim));
    }

    /// The file is read on without a path, in the room that it had.
    fn keeps_room_of(&mut self, id: FileId, missing: &Missing) {
        let claim = self.crowd.settle(missing.sought.descriptor.identity.inode);
        let known = self.files.get_mut(&id);
        let (claim, before) = match known {
            Some(known) => (None, std::mem::replace(&mut known.claim, claim)),
            None => (claim, None),
        };
        claim.into_iter().chain(before).for_each(|claim| self.crowd.release(claim));
    }

    fn is_away(&mut self, id: FileId) {
        if let Some(known) = self.files.get_mut(&id) {
            known.away = true;
            let shard = known.shard;
            self.watcher.add_away(id, shard);
            self.tell(shard, ToOwner::Away(id));
        }
    }

    /// Counts and reports the lost bytes of a file.
    fn lose(&mut self, missing: &Missing, reason: Lost, what: &str) {
        let (lost, path) = (missing.unread(), missing.sought.path());
        if lost > 0 {
            self.context.counters.lose(reason, lost);
            tracing::error!(
                component_id = %self.context.name,
                "{}: lost {} that were not read before the last stop: {what}", path.display(), counted(lost, "byte")
            );
        } else {
            tracing::warn!(
                component_id = %self.context.name,
                "{}: anything that was written to it after byte {} is not read: {what}",
                path.display(), missing.sought.state.end()
            );
        }
        self.record_gone(missing);
    }

    /// Records that the file is gone for good. Its position is remembered for a while.
    fn record_gone(&mut self, missing: &Missing) {
        self.release_room_of(missing);
        if missing.is_recorded() {
            let state = &missing.sought.state;
            let last = unread_spans(state).back().copied().unwrap_or(Span::WHOLE);
            let range = SourceRange { from: last.from, to: last.from, marker: state.marker };
            self.owner.say_farewell(Farewell { source: state.source.clone(), range, gone: true });
        }
    }

    /// Searches again for files that could not be opened. Their names may have changed.
    async fn look_at_closed(&mut self) {
        if !self.ticks.is_multiple_of(CLOSED_TICKS) || !self.missing.values().any(|missing| missing.closed) {
            return;
        }
        let (closed, waiting): (Vec<Missing>, Vec<Missing>) =
            self.take_missing().into_iter().partition(|missing| missing.closed);
        self.keep_missing(waiting);
        let left = self.look_for(closed, self.missing_said).await;
        self.keep_missing(left);
        self.carry();
    }

    /// Drops the positions of files from earlier runs that did not appear. They are remembered for a while.
    pub(super) async fn give_up_missing(&mut self) {
        self.look_at_closed().await;
        let is_early = self.first_look || self.context.env.now().since(self.started) < MISSING_WAIT;
        if self.missing_said || is_early {
            return;
        }
        self.missing_said = true;
        let all = self.take_missing();
        let left = self.look_for(all, true).await;
        let present = self.inodes_present();
        let (closed, left): (Vec<Missing>, Vec<Missing>) = left.into_iter().partition(|missing| missing.closed);
        self.keep_missing(closed);
        for missing in left {
            let inode = missing.sought.descriptor.identity.inode;
            // A file that exists but could not be opened yet continues when it can be opened.
            if missing.unread() > 0 && !present.may_have(inode) {
                self.lose(
                    &missing,
                    Lost::Deleted,
                    "its directory does not exist, or another file system is mounted there",
                );
            } else {
                self.record_gone(&missing);
            }
        }
        self.carry();
    }
}
