//! The home shard: finds files, identifies them and assigns each to the least loaded shard.
//!
//! Guarantees: an inode is followed once, however many paths lead to it. A file keeps its number when it is renamed. Released
//! files are remembered, so a file that comes back under another name is not read twice. Watches only shorten the delay:
//! every directory is checked every second, or every four seconds if nothing has changed for ten seconds. Does not read
//! lines.

mod admission;
mod backups;
mod circles;
pub mod crowd;
mod directories;
mod directory;
pub mod files;
mod first;
mod generations;
mod late;
mod links;
mod mail;
pub mod missing;
mod names;
mod packed;
mod replaced;
mod sweep;
mod told;

use super::by_tree::ByTree;
use super::content::FileOf;
use super::follow::Followed;
use super::identity::{Inode, Memory};
use super::neighbours::Neighbours;
use super::owner::{Options, Owner};
use super::patterns::Patterns;
use super::post::{FileId, Post, ToOwner};
use super::recency::Recency;
use super::seek::Candidate;
use super::watcher::Watcher;
use crate::config::room::{Claim, Held};
use admission::Queue;
use crowd::Crowd;
use directory::Directory;
use futures_lite::future::or;
use late::Answers;
use missing::{Archived, Missing};
use packed::Packed;
use replaced::Touched;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::{Disk, Env, Monotonic, ShardId, Timestamp};
use tailwater_shards::plugin::{InputContext, PluginError};

/// How often directories and active files are checked while something changes.
const TICK: Duration = Duration::from_secs(1);

/// How long the other shards have to say hello before files are assigned to those that did.
const HELLO_WAIT: Duration = Duration::from_secs(1);

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
#[derive(Clone)]
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

struct Home<'a, E: Env> {
    context: &'a InputContext<E>,
    owner: Rc<Owner<E>>,
    patterns: Arc<Patterns>,
    options: Rc<Options>,
    post: Rc<Post>,
    watcher: Watcher<E>,
    directories: HashMap<PathBuf, Directory>,
    /// Their inodes.
    inodes: circles::Scanned,
    /// Directories that are still to be checked in this scan.
    sweep: VecDeque<PathBuf>,
    /// Whether all are to be checked after that.
    sweep_again: bool,
    /// What the first scan needs, until it is over.
    first: first::First,
    /// Directories with many names, or that are slow, that are to be checked.
    large: ByTree<()>,
    /// Files in trees that are slow, which wait to be opened.
    slow: ByTree<Unknown>,
    files: HashMap<FileId, Known>,
    by_inode: HashMap<Inode, FileId>,
    by_key: HashMap<SourceKey, FileId>,
    memory: Arc<Memory>,
    /// Which files of an earlier run are still in a directory, until the first look is over.
    neighbours: Arc<Neighbours>,
    released: Recency<SourceKey>,
    /// Highest number of files that were followed at the same time.
    files_max: usize,
    unknown: Queue,
    crowd: Crowd,
    /// What answers late.
    answers: Answers<E>,
    /// Whether what is being applied counts as found by the first look.
    finds_first: bool,
    /// Names that changed and names that vanished since the last scan.
    touched: Touched,
    /// Files of which an owner decides whether they continue another file.
    offered: HashMap<Inode, FileId>,
    /// Files of earlier runs that are being searched.
    missing: BTreeMap<SourceKey, Missing>,
    /// Files of an earlier run of which nothing was read, by inode number. Some of them may not be missing any more.
    noted: HashMap<u64, SourceKey>,
    /// Whether one was found whose note is still carried.
    carry_later: bool,
    /// Archives that are read in place of missing files.
    archives: HashMap<FileId, Archived>,
    /// Missing files whose archives are still to be read, the last one first.
    packed_in: VecDeque<(Missing, Vec<Candidate>)>,
    /// Compressed files that were found.
    packed: Packed,
    /// The latest generation of each log.
    latest: HashMap<PathBuf, FileId>,
    /// The same among the files of each user.
    latest_of: HashMap<(PathBuf, u32), FileId>,
    changed: BTreeSet<FileId>,
    loads: Vec<Option<u64>>,
    told: told::Told,
    told_of_links: links::Told,
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
        let crowd = Crowd::new(Held::in_room(options.room.clone()), patterns.clone());
        Home {
            watcher: Watcher::start(&context.env, owner.clone(), post.clone()),
            first_run: memory.is_empty(),
            context,
            owner,
            patterns,
            post,
            directories: HashMap::new(),
            inodes: circles::Scanned::default(),
            sweep: VecDeque::new(),
            sweep_again: false,
            first: first::First::default(),
            large: ByTree::default(),
            slow: ByTree::default(),
            files: HashMap::new(),
            by_inode: HashMap::new(),
            by_key: HashMap::new(),
            memory: Arc::new(memory),
            neighbours: Arc::default(),
            released: Recency::default(),
            files_max: 0,
            unknown: Queue::default(),
            crowd,
            answers: Answers::new(),
            finds_first: true,
            touched: Touched::default(),
            offered: HashMap::new(),
            missing: BTreeMap::new(),
            noted: HashMap::new(),
            carry_later: false,
            archives: HashMap::new(),
            packed_in: VecDeque::new(),
            packed: Packed::default(),
            latest: HashMap::new(),
            latest_of: HashMap::new(),
            adopted: BTreeMap::new(),
            changed: BTreeSet::new(),
            loads,
            told: told::Told::default(),
            told_of_links: links::Told::default(),
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
                self.rescan();
                self.give_up_missing().await;
                self.owner.notebook.write_soon(self.owner.notes(&self.context.lanes));
                tick_at = self.owner.next_tick(now, self.is_quiet());
            }
            self.take_answers().await;
            match self.scanned {
                true => self.look_at_changes().await,
                false => self.scan_first().await,
            }
            self.follow_some().await;
            self.follow_slow().await;
            let now = self.context.env.now();
            tick_at = tick_at.min(self.owner.next_tick(now, self.is_quiet()));
            let rest = match () {
                () if !self.unknown.is_empty() || !self.sweep.is_empty() || self.sweep_again => Duration::ZERO,
                () if self.has_large() || self.has_slow() => Duration::ZERO,
                () if self.post.is_waiting() => Duration::from_millis(10),
                () => tick_at.since(now),
            };
            let mail = async {
                let (from, message) = self.context.peers.receive().await;
                Some((from, message))
            };
            let nothing = async {
                let raised = or(or(self.watcher.raised(), self.answers.raised()), self.packed.done.wait());
                or(or(raised, self.owner.stirred()), self.context.env.sleep(rest)).await;
                None
            };
            if let Some((from, message)) = or(mail, nothing).await {
                self.open_mail(from, message);
            }
        }
    }

    async fn look_at_changes(&mut self) {
        self.look_at_events().await;
        self.sweep_some().await;
        self.look_at_large().await;
        self.read_archives().await;
    }

    /// Whether only watches can bring changes soon: every directory is watched and has not changed for a while, and no name
    /// in it must be checked repeatedly.
    fn is_quiet(&self) -> bool {
        let is_still = |(path, one): (&PathBuf, &Directory)| {
            let settled = one.stamp.is_some_and(|stamp| stamp.is_settled());
            settled && one.links.is_empty() && one.retry.is_empty() && self.watcher.is_watching(path)
        };
        self.scanned
            && self.sweep.is_empty()
            && self.large.is_empty()
            && self.unknown.is_empty()
            && self.slow.is_empty()
            && self.directories.iter().all(is_still)
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
}
