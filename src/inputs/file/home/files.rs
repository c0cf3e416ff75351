//! Newly found files: opened, recognised, and assigned to a shard.
//!
//! Guarantees: a file that an earlier run read continues where that run ended, under the same key. If a file cannot be
//! opened, this is reported once and retried every second. A compressed file is never followed as text.

use super::super::StartAt;
use super::super::copies::originals;
use super::super::discover::Named;
use super::super::follow::{Beginning, Farewell, Followed, Span, new_source};
use super::super::identify::{Candidate, Identified, Judged, Knowledge, Opened, identify};
use super::super::identity::{Descriptor, Identity, Inode};
use super::super::own::is_own;
use super::super::patience::{BRIEF, Late, Limit, Reply, SLOW, Work};
use super::super::post::{FileId, ToOwner};
use super::super::scout::Refusal;
use super::late::Answer;
use super::{Assignment, FileOf, Home, Known, TICK, Unknown};
use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::SourceRange;
use tailwater_shards::env::{Disk, Env, ShardId, Timestamp, is_exhausted};
use tailwater_shards::wal::SourceState;

/// Number of files that are opened in one batch, so that the first ones are read while the others are still being opened.
pub const IDENTIFY_FILES: usize = if cfg!(test) { 8 } else { 128 };

/// Number of files in trees that are slow that are opened, one after the other, before other work is done.
const SLOW_FILES_MAX: usize = 16;

/// Number of open files that are handed to owners before owners have to open the rest themselves.
const HANDED_FILES_MAX: usize = if cfg!(test) { 16 } else { 512 };

/// Relative costs of reading a file into the WAL and of delivering its content to a local output, as measured. If an output
/// has one instance, it delivers for all shards, so its shard has less time to read.
const READING: u64 = 10;
const DELIVERING: u64 = 9;

/// How long a file that may be a copy waits for its original to end. A truncation is detected within a second.
const COPY_WAIT: Duration = Duration::from_secs(3);

impl<E: Env> Home<'_, E> {
    /// Follows a number of the files that wait for it. Others are looked for in between.
    pub(super) async fn follow_some(&mut self) {
        if !self.unknown.is_empty() {
            let batch = self.unknown.take(IDENTIFY_FILES);
            let batch = self.leave_slow(batch);
            if !batch.is_empty() {
                self.follow(SLOW, batch).await;
            }
        }
        if self.first_look && self.scanned && !self.unknown.has_first() {
            self.first_look_is_over().await;
            self.tell_idle_patterns().await;
            self.first_look = false;
        }
        if self.unknown.is_empty() {
            self.tell_of_adopted();
        }
    }

    pub(super) fn take_in_all(&mut self, all: Vec<Judged<E::Disk>>) {
        for (candidate, identified) in all {
            self.take_in(candidate, identified);
        }
        self.say_changes();
        self.carry_if_found();
    }

    /// Files in trees that are slow are opened beside everything else. Returns the others.
    fn leave_slow(&mut self, batch: Vec<Unknown>) -> Vec<Unknown> {
        let (slow, others): (Vec<Unknown>, Vec<Unknown>) =
            batch.into_iter().partition(|one| self.owner.patience.was_slow(&one.path));
        for unknown in slow {
            let path = unknown.path.clone();
            let tree = self.patterns.tree_of_directory(path.parent().unwrap_or(Path::new("/")));
            let twice = self.slow.add(tree, path, unknown);
            self.is_no_replacement(twice.and_then(|one| one.replaces));
        }
        others
    }

    /// Follows files in trees that are slow, one in each, until one of them takes a while.
    pub(super) async fn follow_slow(&mut self) {
        for _ in 0..SLOW_FILES_MAX {
            let patience = self.owner.patience.clone();
            let Some((_, unknown)) = self.slow.take(|path| patience.is_slow(path)) else { return };
            self.follow(BRIEF, vec![unknown]).await;
        }
    }

    /// Whether such a file can be opened now.
    pub(super) fn has_slow(&mut self) -> bool {
        let patience = &self.owner.patience;
        self.slow.has_next(|path| patience.is_slow(path))
    }

    /// Opens files and follows them. If one takes long, the others wait again.
    async fn follow(&mut self, limit: Limit, batch: Vec<Unknown>) {
        let candidates: Vec<Candidate> = batch.iter().map(|one| self.candidate(one)).collect();
        let knowledge = self.knowledge();
        let (disk, patterns) = (self.context.env.disk().clone(), self.patterns.clone());
        let work = move |work: &Work<_>| identify(&disk, &patterns, candidates, &knowledge, work);
        let (done, late) = self.owner.patience.attend(limit, work).await;
        self.read_mail();
        let mut left = batch.into_iter().skip(done.len());
        if let Some(late) = late
            && let Some(slow) = left.next()
        {
            self.leave_file(slow, late);
        }
        left.for_each(|unknown| self.must_follow(unknown));
        self.take_in_all(done);
    }

    /// A file takes long to open. Others are followed meanwhile.
    fn leave_file(&mut self, slow: Unknown, job: Late<Judged<E::Disk>>) {
        let (answers, path, mut replaces, mut hung) = (self.answers.clone(), slow.path, slow.replaces, false);
        self.owner.patience.leave(path, job, move |reply| match reply {
            // The other file does not wait for it.
            Reply::Hangs => {
                hung = true;
                replaces.take().into_iter().for_each(|id| answers.push(Answer::NoFile(id)));
            }
            Reply::Answered((mut candidate, identified)) => {
                if hung {
                    (candidate.replaces, candidate.took_path_of) = (None, None);
                }
                answers.push(Answer::File(Box::new((candidate, identified))));
            }
        });
    }

    pub(super) fn knowledge(&self) -> Knowledge {
        let wall = self.context.env.wall();
        let ignored_before = self.options.ignore_older.map(|age| {
            let nanos = i64::try_from(age.as_nanos()).unwrap_or(i64::MAX);
            Timestamp(wall.0.saturating_sub(nanos))
        });
        Knowledge {
            memory: self.memory.clone(),
            neighbours: self.neighbours.clone(),
            rules: self.options.rules,
            start_at: if self.first_run { self.options.start_at } else { StartAt::Beginning },
            ignored_before,
            input: self.context.name.clone(),
        }
    }

    fn candidate(&mut self, unknown: &Unknown) -> Candidate {
        let replaces = self.replaces(unknown);
        let keep_open = if unknown.first { self.handed < HANDED_FILES_MAX } else { !self.is_handing_much() };
        let Unknown { path, replaces: told, first, .. } = unknown.clone();
        let now = self.context.env.now();
        let may_wait = match self.crowd.waits_since(&path) {
            Some(since) => now.since(since) < COPY_WAIT,
            None => self.may_begin_to_wait(&path, unknown.owner),
        };
        let is_followed = |name: &OsString| {
            let directory = path.parent().and_then(|parent| self.directories.get(parent));
            directory.is_some_and(|directory| directory.names.contains_key(name))
        };
        let may_be_copy = path.file_name().is_some_and(|name| originals(name).any(|name| is_followed(&name)));
        let keep_open = keep_open || replaces.is_some();
        let (may_have_backup, predecessor) = self.before(&path, told);
        Candidate {
            path,
            owner: unknown.owner,
            may_be_copy,
            may_wait,
            keep_open,
            replaces,
            took_path_of: told,
            first,
            may_have_backup,
            predecessor,
        }
    }

    /// Whether so many open files are on their way to owners that these should open the next ones themselves.
    fn is_handing_much(&self) -> bool {
        self.post.is_waiting() || self.owner.has_many_open()
    }

    fn take_in(&mut self, candidate: Candidate, identified: Identified<FileOf<E>>) {
        let Candidate { path, owner, replaces, took_path_of, .. } = candidate;
        match identified {
            Identified::Opened(opened) => {
                self.told.forget(&path);
                self.crowd.ends_wait(&path);
                let inode = Inode::of(&opened.stat);
                if self.offered.contains_key(&inode) {
                    // Its owner is about to say what it is. It is followed under this name then.
                    self.is_no_replacement(took_path_of);
                    self.context.env.discard(opened);
                    return self.look_again(&path);
                }
                let backup = self.followed_backup(&opened);
                let may_continue = opened.state.is_none() && !self.by_inode.contains_key(&inode);
                let replaces = replaces.filter(|_| backup.is_none() && may_continue);
                // Without room to hold it open, it is read from its beginning.
                let is_held = (backup.is_some() || replaces.is_some()) && self.admit_offer(&path, &opened.stat);
                match (backup.filter(|_| is_held), replaces.filter(|_| is_held)) {
                    (Some(backup), _) => {
                        self.is_no_replacement(took_path_of);
                        self.compare(backup, path, *opened);
                    }
                    (None, Some(id)) => self.offer(id, path, *opened),
                    (None, None) => {
                        self.is_no_replacement(took_path_of);
                        self.take_in_file(path, *opened);
                    }
                }
                return;
            }
            Identified::Archive(format, version) => self.is_packed(path, format, version),
            Identified::ForeignCopy(format) => self.skip_copy(&path, format.name()),
            Identified::WrongEncoding(seen) => {
                let error = io::Error::other(format!("its encoding seems to be {}", seen.name()));
                let next = format!("use a separate input with `encoding: {}` for it, or exclude it", seen.name());
                self.tell_once(&path, &error, "it is not read", &next);
            }
            Identified::UnfinishedCopy => self.skip_short_copy(&path),
            Identified::Awaited => {
                self.look_again(&path);
                self.begins_to_wait(&path, owner);
            }
            Identified::Segment(error) => self.tell_once(&path, &error, "it is never read", "exclude it"),
            Identified::Other => {
                let error = io::Error::other("not a regular file");
                self.tell_once(&path, &error, "it is not followed", "exclude it, or use another input for it");
            }
            Identified::Failed(error) if error.kind() == io::ErrorKind::NotFound => self.look_again(&path),
            Identified::Failed(error) if is_own(&error) || Refusal::of(&error).is_some() => {
                // Exchanged since it was listed. The next look at its name says what it is now.
                self.look_again(&path);
            }
            Identified::Failed(error) => {
                self.tell_once(&path, &error, "it cannot be opened", advice(&error));
                self.look_again(&path);
            }
        }
        self.is_no_replacement(took_path_of);
    }

    /// If a call found no free descriptor, tells every shard to close some files. These are opened again when they grow; the
    /// WAL and the outputs cannot do without their descriptors.
    pub(super) fn shed_if_exhausted(&mut self) {
        let exhausted = self.context.env.disk().exhausted();
        if std::mem::replace(&mut self.exhausted, exhausted) == exhausted {
            return;
        }
        self.owner.shed();
        for shard in 1..self.loads.len() {
            self.tell(ShardId(shard as u16), ToOwner::Shed);
        }
    }

    pub(super) fn skip_copy(&self, path: &Path, format: &str) {
        tracing::info!(
            component_id = %self.context.name,
            "{}: skipped: compressed ({format}) and not a known copy of a file that was read; exclude it, or decompress it to have \
             it read",
            path.display()
        );
    }

    /// A short compressed file may still be in the process of being written.
    pub(super) fn skip_short_copy(&mut self, path: &Path) {
        let since = self.context.env.now().since(self.started);
        if self.told.has(path) || self.first_look && since < TICK {
            self.told.is_new(path, io::ErrorKind::Other);
            return self.skip_copy(path, "unfinished");
        }
        self.told.is_new(path, io::ErrorKind::Other);
        self.look_again(path);
    }

    pub(super) fn take_in_file(&mut self, path: PathBuf, opened: Opened<FileOf<E>>) {
        let inode = Inode::of(&opened.stat);
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Some(directory) = self.directories.get_mut(parent)
        {
            // Renamed since it was listed. The opened file counts, and the next scan finds the other one.
            match directory.names.get(name) {
                Some(named) if named.inode == inode => {}
                Some(named) => {
                    let named = Named { inode, ..*named };
                    Arc::make_mut(&mut directory.names).insert(name.to_os_string(), named);
                    directory.stamp = None;
                }
                None => {
                    directory.stamp = None;
                    directory.retry_later(parent, name, &mut self.crowd.again);
                }
            }
        }
        if let Some(&id) = self.by_inode.get(&inode) {
            self.context.env.discard(opened);
            return self.is_followed_at(id, inode, path);
        }
        self.is_found(&opened);
        let continued = opened.state.as_ref().and_then(|state| end_of_replaced(state, inode));
        let mut followed = self.followed(&path, opened);
        if let Some(end) = continued.filter(|end| followed.last().from == *end) {
            followed.record_place();
            tracing::info!(
                component_id = %self.context.name,
                "{}: replaced while this process was stopped, by a file that begins with the same content; its first {end} bytes \
                 count as read", path.display()
            );
        }
        let id = self.give_away(inode, &path, followed, self.leads_to(&path, inode));
        self.by_inode.insert(inode, id);
        self.is_followed_at(id, inode, path);
    }

    /// A file is followed that was opened at this path. If the path does not lead there any more, which no scan would tell, the file
    /// has no path until it is found under one.
    pub(super) fn is_followed_at(&mut self, id: FileId, inode: Inode, path: PathBuf) {
        let leads_there = self.leads_to(&path, inode);
        let Some(known) = self.files.get_mut(&id) else { return };
        if leads_there {
            self.watcher.name(&path, id, known.shard);
            Self::has_room_by_name(&mut self.crowd, known);
            known.paths.insert(path);
        }
        self.changed.insert(id);
        self.say_changes();
    }

    /// Assigns a file to a shard. `has_path` says whether it can be opened again under its path.
    pub(super) fn give_away(
        &mut self,
        inode: Inode,
        path: &Path,
        followed: Followed<FileOf<E>>,
        has_path: bool,
    ) -> FileId {
        let id = self.next_id;
        self.next_id += 1;
        let (before, beside) = self.generations_before(id, path, followed.owner);
        let with = beside.and_then(|id| self.files.get(&id)).map(|known| known.shard);
        let shard = with.unwrap_or_else(|| self.least_loaded());
        if let Some(load) = &mut self.loads[shard.index()] {
            *load += 1;
        }
        self.handed += usize::from(followed.file.is_some());
        Arc::make_mut(&mut self.memory).add_head(followed.identity.head);
        let (path, paths) = (path.to_path_buf(), BTreeSet::new());
        let key = followed.source.key;
        self.by_key.insert(key, id);
        self.files.insert(id, Known { shard, inode, key, path, paths, away: false, claim: None, replacing: 0 });
        self.files_max = self.files_max.max(self.files.len());
        self.tell(shard, ToOwner::Assign(Box::new(Assignment { id, followed: Box::new(followed), before, has_path })));
        id
    }

    pub(super) fn followed(&mut self, path: &Path, opened: Opened<FileOf<E>>) -> Followed<FileOf<E>> {
        let Opened { file, stat, seen_length, head, state, spans, left_out, .. } = opened;
        let identity = Identity { inode: Inode::of(&stat), head };
        let left_out = left_out.map(|(to, marker)| SourceRange { from: 0, to, marker });
        let mut left_out: Vec<SourceRange> = left_out.into_iter().collect();
        // The same content under the same inode number on two devices is two files, even if the WAL knows one of them.
        let state = state.filter(|state| !self.by_key.contains_key(&state.key()));
        let (state, adopted) = self.adopt(state);
        left_out.extend(adopted);
        let is_last_line = spans.iter().any(|span| span.beginning == Beginning::LastLine);
        let fresh = || new_source(self.context.new_key(), self.context.name.clone(), &identity, path);
        let mut followed = Followed {
            owner: stat.owner,
            spans: match &state {
                None if left_out.is_empty() && !is_last_line => VecDeque::from([Span::WHOLE]),
                _ => spans,
            },
            source: state.as_ref().map_or_else(fresh, |state| state.source.clone()),
            identity,
            path: path.to_path_buf(),
            file,
            seen_length,
            seen_modified: stat.modified,
            unfinished: 0,
            nuls: Default::default(),
            before: Default::default(),
            grown_at: self.context.env.now(),
            farewells: VecDeque::new(),
            failure: None,
            sent: None,
        };
        if state.is_some() {
            followed.set_head(head);
        }
        for range in left_out {
            followed.farewells.push_back(Farewell { source: followed.source.clone(), range, gone: false });
        }
        followed
    }

    fn least_loaded(&self) -> ShardId {
        let all: u64 = self.loads.iter().flatten().sum();
        let loads = self.loads.iter().enumerate().filter_map(|(shard, load)| {
            let delivers = self.context.deliverers.get(shard).copied().unwrap_or_default() * all;
            Some(((*load)? * READING + delivers * DELIVERING, shard))
        });
        loads.min().map_or(ShardId(0), |(_, shard)| ShardId(shard as u16))
    }
}

/// If this file takes the place of the file of a source, returns how far that was read.
fn end_of_replaced(state: &SourceState, inode: Inode) -> Option<u64> {
    let old = Descriptor::decode(&state.source.descriptor)?.identity.inode;
    (!old.may_be(inode)).then(|| state.end())
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "grant the user of this process read permission; retrying every second",
        _ if is_exhausted(error) => "raise the limit of open files (ulimit -n); closing quiet files and retrying",
        _ => "retrying every second",
    }
}
