//! Files that were just found: opened, recognised, and given to a shard.
//!
//! Guarantees: a file that an earlier life read goes on where that ended, under the same key; what cannot be opened is told
//! once and tried again each second; compressed files are never followed.

use super::super::StartAt;
use super::super::copies::originals;
use super::super::follow::{Farewell, Followed, Span, new_source, unread_spans};
use super::super::identify::{Candidate, Identified, Knowledge, Opened, identify};
use super::super::identity::{Identity, Inode};
use super::super::post::ToOwner;
use super::{Assignment, FileOf, Home, Known, TICK};
use std::collections::{BTreeSet, HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::{SourceKey, SourceRange};
use tailwater_shards::env::{Disk, Env, ShardId, is_exhausted};

/// Files that are opened in one go, so that the first are read while the others are still being opened.
pub const IDENTIFY_FILES: usize = if cfg!(test) { 8 } else { 128 };

/// Descriptors handed out with files before owners are left to open the rest themselves.
pub const HANDED_FILES_MAX: usize = if cfg!(test) { 16 } else { 512 };

/// How long a source of an earlier life waits for its file before its position may be given up.
const MISSING_WAIT: Duration = Duration::from_secs(60);

/// What it costs to read a file into the log, and to deliver what it holds to a local output: measured, in proportion. An output
/// with one instance delivers for all shards, so its shard has that much less time to read.
const READING: u64 = 10;
const DELIVERING: u64 = 9;

/// How long a file that may be a copy waits for the end of what it is a copy of: a truncation is seen within a second.
const COPY_WAIT: Duration = Duration::from_secs(3);

/// Files that wait so at most; beyond them each waits longer.
const AWAITED_MAX: usize = 1024;

impl<E: Env> Home<'_, E> {
    pub(super) async fn follow_unknown(&mut self) {
        self.unknown.sort_unstable();
        self.unknown.dedup();
        while !self.unknown.is_empty() {
            let rest = self.unknown.split_off(self.unknown.len().min(IDENTIFY_FILES));
            let paths = std::mem::replace(&mut self.unknown, rest);
            let keep_open = self.handed < HANDED_FILES_MAX || self.scanned;
            let candidates: Vec<Candidate> = paths.into_iter().map(|path| self.candidate(path, keep_open)).collect();
            let start_at = if self.first_life && !self.scanned { self.options.start_at } else { StartAt::Beginning };
            let knowledge = Knowledge { memory: self.memory.clone(), rules: self.options.rules, start_at };
            let disk = self.context.env.disk().clone();
            let work = move || (identify(&disk, &candidates, &knowledge), candidates);
            let (identified, candidates) = self.context.env.blocking(work).await;
            self.read_mail();
            for (candidate, identified) in candidates.into_iter().zip(identified) {
                self.take_in(candidate.path, identified);
            }
        }
    }

    fn candidate(&self, path: PathBuf, keep_open: bool) -> Candidate {
        let now = self.context.env.now();
        let may_wait = self.awaited.get(&path).is_none_or(|since| now.since(*since) < COPY_WAIT);
        let is_followed = |name: &OsString| {
            let directory = path.parent().and_then(|parent| self.directories.get(parent));
            directory.is_some_and(|directory| directory.names.contains_key(name))
        };
        let may_be_copy = path.file_name().is_some_and(|name| originals(name).any(|name| is_followed(&name)));
        Candidate { path, may_be_copy, may_wait, keep_open }
    }

    fn take_in(&mut self, path: PathBuf, identified: Identified<FileOf<E>>) {
        match identified {
            Identified::Opened(opened) => {
                self.told.remove(&path);
                self.awaited.remove(&path);
                self.take_in_file(path, *opened);
            }
            Identified::KnownCopy => tracing::debug!("{}: a compressed copy of a file that was read", path.display()),
            Identified::ForeignCopy => self.skip_copy(&path),
            Identified::UnfinishedCopy => self.skip_short_copy(&path),
            Identified::Awaited => {
                if self.awaited.len() >= AWAITED_MAX {
                    self.awaited.clear();
                }
                self.look_again(&path);
                self.awaited.entry(path).or_insert(self.context.env.now());
            }
            Identified::Other => {
                let error = io::Error::other("not a regular file");
                self.tell_once(&path, &error, "it is not followed", "exclude it, or read it with another input");
            }
            Identified::Failed(error) if error.kind() == io::ErrorKind::NotFound => self.look_again(&path),
            Identified::Failed(error) => {
                self.tell_once(&path, &error, "it cannot be opened", advice(&error));
                self.look_again(&path);
            }
        }
    }

    /// Has every shard close some files once a call has found no descriptor left: these files are opened again when they grow,
    /// which the log and the outputs cannot do without theirs.
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

    fn skip_copy(&self, path: &Path) {
        tracing::info!(
            component_id = %self.context.name,
            "{}: skipped: compressed, and never seen as a live file; read it with another input, or exclude it",
            path.display()
        );
    }

    /// A short compressed file may still be being written.
    fn skip_short_copy(&mut self, path: &Path) {
        let since = self.context.env.now().since(self.started);
        if self.told.contains_key(path) || !self.scanned && since < TICK {
            self.told.insert(path.to_path_buf(), io::ErrorKind::Other);
            return self.skip_copy(path);
        }
        self.told.insert(path.to_path_buf(), io::ErrorKind::Other);
        self.look_again(path);
    }

    fn take_in_file(&mut self, path: PathBuf, opened: Opened<FileOf<E>>) {
        let inode = Inode::of(&opened.stat);
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Some(directory) = self.directories.get_mut(parent)
        {
            // Renamed since it was looked at: what was opened is the truth, the next look finds the other.
            if directory.names.insert(name.to_os_string(), inode) != Some(inode) {
                directory.stamp = None;
            }
        }
        if self.by_inode.contains_key(&inode) {
            self.context.env.discard(opened);
            self.attach(path, inode);
            return self.say_changes();
        }
        let id = self.next_id;
        self.next_id += 1;
        let shard = self.least_loaded();
        if let Some(load) = &mut self.loads[shard.index()] {
            *load += 1;
        }
        self.handed += usize::from(opened.file.is_some());
        let followed = self.followed(&path, opened);
        Arc::make_mut(&mut self.memory).add_head(followed.identity.head);
        self.by_inode.insert(inode, id);
        self.watcher.name(&path, id, shard);
        let paths = BTreeSet::from([path.clone()]);
        self.files.insert(id, Known { shard, inode, key: followed.source.key, path, paths, away: false });
        self.files_max = self.files_max.max(self.files.len());
        self.tell(shard, ToOwner::Assign(Box::new(Assignment { id, followed: Box::new(followed) })));
    }

    fn followed(&self, path: &Path, opened: Opened<FileOf<E>>) -> Followed<FileOf<E>> {
        let Opened { file, stat, seen_length, head, state, spans, left_out } = opened;
        let identity = Identity { inode: Inode::of(&stat), head };
        // The same content under the same inode number on two devices is two files, whatever the log remembers of one.
        let state = state.filter(|state| !self.files.values().any(|known| known.key == state.key()));
        let fresh = || new_source(self.context.new_key(), self.context.name.clone(), &identity, path);
        let mut followed = Followed {
            spans: match &state {
                None if left_out.is_none() => VecDeque::from([Span::WHOLE]),
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
            grown_at: self.context.env.now(),
            farewells: VecDeque::new(),
            failure: None,
        };
        if state.is_some() {
            followed.set_head(head);
        }
        if let Some((to, marker)) = left_out {
            let range = SourceRange { from: 0, to, marker };
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

    /// Gives up the positions of earlier lives whose files did not appear. They stay remembered.
    pub(super) fn give_up_missing(&mut self) {
        if self.missing_said || self.context.env.now().since(self.started) < MISSING_WAIT {
            return;
        }
        self.missing_said = true;
        let followed: HashSet<SourceKey> = self.files.values().map(|known| known.key).collect();
        let missing = self.context.resume.iter().filter(|state| {
            state.gone.is_none() && !followed.contains(&state.key()) && !self.released.contains(&state.key())
        });
        for state in missing {
            let last = unread_spans(state).back().copied().unwrap_or(Span::WHOLE);
            let range = SourceRange { from: last.from, to: last.from, marker: state.marker };
            self.owner.say_farewell(Farewell { source: state.source.clone(), range, gone: true });
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "give the user of this process the right to read it; it is tried again each second"
        }
        _ if is_exhausted(error) => {
            "raise the limit of open files (ulimit -n); quiet files are closed and it is tried again"
        }
        _ => "it is tried again each second",
    }
}
