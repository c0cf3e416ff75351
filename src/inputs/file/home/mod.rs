//! The home shard: finds files, identifies them and assigns each to the least loaded shard.
//!
//! Guarantees: an inode is followed once, however many paths lead to it. A file keeps its number when it is renamed. Released
//! files are remembered, so a file that comes back under another name is not read twice. Watches only shorten the delay:
//! every directory is checked every second, or every four seconds if nothing has changed for ten seconds. Does not read
//! lines.

mod admission;
mod backups;
mod crowd;
mod directories;
pub mod files;
mod generations;
mod links;
mod missing;
mod packed;
mod replaced;

use super::content::FileOf;
use super::discover::{Names, Stamp};
use super::follow::Followed;
use super::identity::{Inode, Memory};
use super::owner::{Options, Owner};
use super::patterns::Patterns;
use super::post::{FileId, Post, ToHome, ToOwner};
use super::recency::Recency;
use super::watcher::Watcher;
use crate::config::room::{Claim, Held};
use admission::Queue;
use crowd::Crowd;
use futures_lite::future::or;
use missing::{Archived, Missing};
use packed::Packed;
use replaced::Touched;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::{Disk, Env, FileKind, Monotonic, ShardId, Timestamp};
use tailwater_shards::limits::TOMBSTONES_MIN;
use tailwater_shards::plugin::{InputContext, PluginError};
use tailwater_shards::wal::SourceState;

/// How often directories and active files are checked while something changes.
const TICK: Duration = Duration::from_secs(1);

/// How long the other shards have to say hello before files are assigned to those that did.
const HELLO_WAIT: Duration = Duration::from_secs(1);

/// Paths of which an error was told that are remembered. Beyond, some are told again.
const TOLD_MAX: usize = 16 * 1024;

/// Names in a directory that are checked every second, because they cannot be read yet. The others wait like names without room.
const RETRIED_MAX: usize = if cfg!(test) { 100 } else { 4096 };

/// A file on its way to the shard that will follow it.
pub struct Assignment<F> {
    /// Its number.
    pub id: FileId,
    /// The file.
    pub followed: Box<Followed<F>>,
    /// Files that must be read before it.
    pub before: Vec<FileId>,
    /// Whether it can be opened again under its path.
    pub has_path: bool,
}

/// Runs everything except reading: discovery on the home shard, the handling of messages on the others. Runs until it is
/// dropped.
pub async fn control<E: Env>(
    context: &InputContext<E>,
    owner: Rc<Owner<E>>,
    patterns: Arc<Patterns>,
    options: Rc<Options>,
    post: Rc<Post>,
) -> Result<(), PluginError> {
    if context.env.shard() == ShardId(0) {
        Home::new(context, owner, patterns, options, post).run().await
    } else {
        super::away::run(context, owner, post).await
    }
}

/// A file that a shard follows.
struct Known {
    shard: ShardId,
    inode: Inode,
    key: SourceKey,
    path: PathBuf,
    paths: BTreeSet<PathBuf>,
    away: bool,
    /// The room that it uses while it has no path.
    claim: Option<Claim>,
    /// Number of files that took its path and may have the same content. Until that is decided, this file is not away.
    replacing: usize,
}

/// A file that was found and is not followed yet.
struct Unknown {
    path: PathBuf,
    inode: Inode,
    modified: Timestamp,
    /// The user that owns it.
    owner: u32,
    /// The followed file whose path it took.
    replaces: Option<FileId>,
    /// Whether it was there when the input began to look.
    first: bool,
}

#[derive(Default)]
struct Directory {
    stamp: Option<Stamp>,
    /// What each wanted name leads to, as far as there is room.
    names: Arc<Names>,
    /// Subdirectories that are scanned.
    below: Arc<HashSet<OsString>>,
    /// Number of names and subdirectories that wait for room.
    crowded: u64,
    /// Number of new names that the next look at it skips.
    skip: u64,
    /// Whether a look at it found something to follow, since it was begun to be looked at from its beginning.
    advances: bool,
    /// Its room among the directories.
    claim: Option<Claim>,
    links: HashSet<OsString>,
    /// Names that are not read because of links, as far as they are looked at again.
    refused: HashSet<OsString>,
    /// Number of others that are not.
    refused_more: u64,
    /// Number of symbolic links that would be wanted if links were followed.
    links_seen: u64,
    /// Names that must be checked again.
    retry: HashSet<OsString>,
    /// The directory where it was found; none if an include pattern begins here, in which case it is waited for when it is
    /// missing.
    found_under: Option<PathBuf>,
}

impl Directory {
    /// Checks a name every second until it can be read.
    fn retry_later(&mut self, name: &OsStr) {
        if self.retry.len() < RETRIED_MAX || self.retry.contains(name) {
            self.retry.insert(name.to_os_string());
        } else {
            self.crowded += 1;
        }
    }
}

struct Home<'a, E: Env> {
    context: &'a InputContext<E>,
    owner: Rc<Owner<E>>,
    patterns: Arc<Patterns>,
    options: Rc<Options>,
    post: Rc<Post>,
    watcher: Watcher<E>,
    directories: HashMap<PathBuf, Directory>,
    /// Directories that are still to be checked in this scan.
    sweep: VecDeque<PathBuf>,
    /// Whether all are to be checked after that.
    sweep_again: bool,
    files: HashMap<FileId, Known>,
    by_inode: HashMap<Inode, FileId>,
    by_key: HashMap<SourceKey, FileId>,
    memory: Arc<Memory>,
    released: Recency<SourceKey>,
    /// Highest number of files that were followed at the same time.
    files_max: usize,
    unknown: Queue,
    crowd: Crowd,
    /// Names that changed and names that vanished since the last scan.
    touched: Touched,
    /// Files of which an owner decides whether they continue another file.
    offered: HashMap<Inode, FileId>,
    /// Files of earlier runs that are being searched.
    missing: BTreeMap<SourceKey, Missing>,
    /// Whether one was found whose note is still carried.
    carry_later: bool,
    /// Archives that are read in place of missing files.
    archives: HashMap<FileId, Archived<<E::Disk as Disk>::File>>,
    /// Compressed files that were found.
    packed: Packed,
    /// The latest generation of each log.
    latest: HashMap<PathBuf, FileId>,
    /// The same among the files of each user.
    latest_of: HashMap<(PathBuf, u32), FileId>,
    changed: BTreeSet<FileId>,
    loads: Vec<Option<u64>>,
    told: HashMap<PathBuf, io::ErrorKind>,
    told_of_links: links::Told,
    /// Files that may be copies of files that are about to end, and since when they wait.
    awaited: HashMap<PathBuf, Monotonic>,
    next_id: FileId,
    handed: usize,
    /// Number of calls in this process that had found no free descriptor at the last check.
    exhausted: u64,
    first_run: bool,
    /// Whether files that were there at the beginning are still to be followed.
    first_look: bool,
    /// Number of files that continue after an input that is no longer configured, and that were not reported yet.
    adopted: BTreeMap<Arc<str>, usize>,
    scanned: bool,
    missing_said: bool,
    started: Monotonic,
    ticks: u64,
}

impl<'a, E: Env> Home<'a, E> {
    fn new(
        context: &'a InputContext<E>,
        owner: Rc<Owner<E>>,
        patterns: Arc<Patterns>,
        options: Rc<Options>,
        post: Rc<Post>,
    ) -> Home<'a, E> {
        let mut memory = Memory::default();
        context.orphans.iter().chain(context.resume.iter()).cloned().for_each(|state| memory.insert(state));
        memory.index_paths();
        let mut loads = vec![None; context.shards];
        loads[0] = Some(0);
        Home {
            watcher: Watcher::start(&context.env, owner.clone(), post.clone()),
            first_run: memory.is_empty(),
            context,
            owner,
            patterns,
            post,
            directories: HashMap::new(),
            sweep: VecDeque::new(),
            sweep_again: false,
            files: HashMap::new(),
            by_inode: HashMap::new(),
            by_key: HashMap::new(),
            memory: Arc::new(memory),
            released: Recency::default(),
            files_max: 0,
            unknown: Queue::default(),
            crowd: Crowd::new(Held::in_room(options.room.clone())),
            touched: Touched::default(),
            offered: HashMap::new(),
            missing: BTreeMap::new(),
            carry_later: false,
            archives: HashMap::new(),
            packed: Packed::default(),
            latest: HashMap::new(),
            latest_of: HashMap::new(),
            adopted: BTreeMap::new(),
            changed: BTreeSet::new(),
            loads,
            told: HashMap::new(),
            told_of_links: links::Told::default(),
            awaited: HashMap::new(),
            next_id: 1,
            first_look: true,
            handed: 0,
            exhausted: context.env.disk().exhausted(),
            scanned: false,
            missing_said: false,
            started: context.env.now(),
            ticks: 0,
            options,
        }
    }

    async fn run(&mut self) -> Result<(), PluginError> {
        self.recall().await;
        for shard in 1..self.context.shards {
            self.post.send(ShardId(shard as u16), ToOwner::<FileOf<E>>::SayHello);
        }
        self.wait_for_hellos().await;
        let mut tick_at = self.context.env.now();
        loop {
            self.read_mail();
            self.take_verdict();
            self.post.flush();
            let now = self.context.env.now();
            if now >= tick_at {
                self.ticks += 1;
                self.shed_if_exhausted();
                self.retry_crowded();
                self.owner.tick().await;
                self.rescan().await;
                self.give_up_missing().await;
                self.owner.notebook.write_soon(self.owner.notes(&self.context.lanes));
                tick_at = self.owner.next_tick(now, self.is_quiet());
            }
            self.look_at_events().await;
            self.sweep_some().await;
            self.follow_some().await;
            let now = self.context.env.now();
            tick_at = tick_at.min(self.owner.next_tick(now, self.is_quiet()));
            let rest = match () {
                () if !self.unknown.is_empty() || !self.sweep.is_empty() || self.sweep_again => Duration::ZERO,
                () if self.post.is_waiting() => Duration::from_millis(10),
                () => tick_at.since(now),
            };
            let mail = async {
                let (from, message) = self.context.peers.receive().await;
                Some((from, message))
            };
            let nothing = async {
                let raised = or(self.watcher.raised(), self.packed.done.wait());
                or(or(raised, self.owner.stirred()), self.context.env.sleep(rest)).await;
                None
            };
            if let Some((from, message)) = or(mail, nothing).await {
                self.open_mail(from, message);
            }
        }
    }

    /// Whether only watches can bring changes soon: every directory is watched and has not changed for a while, and no name
    /// in it must be checked repeatedly.
    fn is_quiet(&self) -> bool {
        let is_still = |(path, one): (&PathBuf, &Directory)| {
            let settled = one.stamp.is_some_and(|stamp| stamp.is_settled());
            settled && one.links.is_empty() && one.retry.is_empty() && self.watcher.is_watching(path)
        };
        self.scanned && self.sweep.is_empty() && self.unknown.is_empty() && self.directories.iter().all(is_still)
    }

    async fn wait_for_hellos(&mut self) {
        let end = self.context.env.now().after(HELLO_WAIT);
        while self.loads.iter().any(Option::is_none) && self.context.env.now() < end {
            let rest = end.since(self.context.env.now());
            let mail = async { Some(self.context.peers.receive().await) };
            let timeout = async {
                self.context.env.sleep(rest).await;
                None
            };
            if let Some((from, message)) = or(mail, timeout).await {
                self.open_mail(from, message);
            }
        }
    }

    fn read_mail(&mut self) {
        while let Some((from, message)) = self.context.peers.try_receive() {
            self.open_mail(from, message);
        }
        for message in self.owner.messages_to_home() {
            self.hear(ShardId(0), message);
        }
    }

    fn open_mail(&mut self, from: ShardId, message: tailwater_shards::plugin::PeerMessage) {
        if let Ok(message) = message.downcast::<ToHome<FileOf<E>>>() {
            self.hear(from, *message);
        }
    }

    fn hear(&mut self, from: ShardId, message: ToHome<FileOf<E>>) {
        match message {
            ToHome::Hello(states) => {
                self.forget_files_of(from);
                states.iter().for_each(|state| self.remember(state.clone(), false));
                self.loads[from.index()] = Some(0);
                self.post.send(from, ToOwner::<FileOf<E>>::Welcome);
            }
            ToHome::Released(id, state) => {
                self.remember(*state, true);
                if let Some(known) = self.files.remove(&id) {
                    self.drop_known(id, &known);
                    known.paths.iter().for_each(|path| self.look_again(path));
                }
                self.archive_is_closed(id);
            }
            ToHome::Head(head) => Arc::make_mut(&mut self.memory).add_head(head),
            ToHome::Ended(head, end) => Arc::make_mut(&mut self.memory).add_end(head, end),
            ToHome::Replaced(id, inode, path) => self.replaced(id, inode, path),
            ToHome::NotReplaced(id, replacement) => self.not_replaced(id, *replacement),
            ToHome::Compared(successor) => self.compared(*successor),
            ToHome::NotArchive(id) => {
                if let Some(archived) = self.archives.get_mut(&id) {
                    archived.refused = true;
                }
            }
        }
    }

    fn remember(&mut self, state: SourceState, released: bool) {
        let key = state.key();
        let memory = Arc::make_mut(&mut self.memory);
        memory.insert(state);
        if released {
            self.released.see(key);
            if let Some(oldest) = self.released.evict_beyond(self.files_max.max(TOMBSTONES_MIN)) {
                memory.remove(oldest);
            }
        }
    }

    /// The instance on a shard is new: its files must be found and assigned again.
    fn forget_files_of(&mut self, shard: ShardId) {
        let of_shard: Vec<FileId> = self.files.iter().filter(|one| one.1.shard == shard).map(|one| *one.0).collect();
        self.forget_offered(&of_shard);
        for id in of_shard {
            if let Some(known) = self.files.remove(&id) {
                self.drop_known(id, &known);
                for path in &known.paths {
                    self.look_again(path);
                }
            }
        }
    }

    fn drop_known(&mut self, id: FileId, known: &Known) {
        self.watcher.release(id);
        known.claim.into_iter().for_each(|claim| self.crowd.release(claim));
        if self.by_key.get(&known.key) == Some(&id) {
            self.by_key.remove(&known.key);
        }
        // An archive that is read in place of a file is known by its path only.
        if self.by_inode.get(&known.inode) == Some(&id) {
            self.by_inode.remove(&known.inode);
        }
        if let Some(load) = &mut self.loads[known.shard.index()] {
            *load = load.saturating_sub(1);
        }
    }

    fn look_again(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Some(directory) = self.directories.get_mut(parent) {
            directory.retry_later(name);
            Arc::make_mut(&mut directory.names)
                .remove(name)
                .into_iter()
                .for_each(|named| self.crowd.release(named.claim));
        }
    }

    /// Reports the patterns that match nothing at the start.
    async fn tell_idle_patterns(&self) {
        let (disk, patterns) = (self.context.env.disk().clone(), self.patterns.clone());
        let look = move || patterns.idle(|path| disk.canonical(path).ok());
        for glob in self.context.env.blocking(look).await {
            self.owner.error(&format!(
                "exclude {glob}: it can match nothing that `include` matches or links may lead to; begin it as the pattern of \
                 `include`, or exclude a name in every directory, as in `*.gz`"
            ));
        }
        let offered = self.offered_paths();
        let followed = self.files.values().flat_map(|known| known.paths.iter());
        let paths: Vec<&PathBuf> = followed.chain(&offered).collect();
        let is_empty = |index: &usize| !paths.iter().any(|path| self.patterns.matches(*index, path));
        for index in (0..self.patterns.bases.len()).filter(is_empty) {
            let (glob, base) = &self.patterns.bases[index];
            let (disk, path) = (self.context.env.disk().clone(), PathBuf::from(glob));
            let look = move || (disk.stat(&path), disk.is_link(&path).unwrap_or(false));
            let (stat, is_link) = self.context.env.blocking(look).await;
            let is_link = is_link && !self.patterns.links.follow;
            if stat.is_ok_and(|stat| stat.kind == FileKind::Directory) {
                let files = glob.trim_end_matches('/');
                self.owner.error(&format!("include {glob}: nothing to follow: it is a directory; write {files}/*"));
                continue;
            }
            let stamp = self.directories.get(base).and_then(|directory| directory.stamp);
            let cause = match stamp {
                Some(_) if is_link => "it is a symbolic link, and `follow_links` is false",
                Some(_) => "no file there matches",
                None => "its directory does not exist or cannot be read",
            };
            self.owner.error(&format!("include {glob}: nothing to follow yet: {cause}; checking every second"));
        }
    }

    fn tell_once(&mut self, path: &Path, error: &io::Error, what: &str, next: &str) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        if self.told.insert(path.to_path_buf(), error.kind()) != Some(error.kind()) {
            self.owner.error(&format!("{}: {what}: {error}; {next}", path.display()));
        }
    }
}
