//! The home shard: finds files, tells them apart and gives each to the least loaded shard.
//!
//! Guarantees: one inode is followed once, however many paths lead to it; a file keeps its number over renames; what an owner
//! released is remembered, so that a file which comes back under another name is not read twice. Watches only shorten the
//! wait: every directory is looked at each second. Does not read lines.

use super::StartAt;
use super::discover::{self, Entry, Found, Patterns, Request, Stamp};
use super::follow::{Farewell, Followed, new_source, unread_spans};
use super::identify::{Candidate, Identified, Knowledge, Opened, identify};
use super::identity::{Identity, Memory};
use super::owner::{Options, Owner};
use super::post::{FileId, Post, ToHome, ToOwner};
use super::watcher::Watcher;
use futures_lite::future::or;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::{SourceKey, SourceRange};
use tailwater_shards::env::{Disk, Env, Monotonic, ShardId};
use tailwater_shards::plugin::{InputContext, PluginError};
use tailwater_shards::wal::SourceState;

/// How often directories and active files are looked at.
const TICK: Duration = Duration::from_secs(1);

/// How long the other shards have to say hello before files are given to those that did.
const HELLO_WAIT: Duration = Duration::from_secs(1);

/// Files that are opened in one go, so that the first are read while the others are still being opened.
const IDENTIFY_FILES: usize = if cfg!(test) { 8 } else { 128 };

/// Descriptors handed out with files before owners are left to open the rest themselves.
const HANDED_FILES_MAX: usize = if cfg!(test) { 16 } else { 512 };

/// Symbolic links that are looked at each second; with more than that, each is looked at every ten seconds.
const LINKS_EACH_TICK: usize = 100;

/// Sources remembered beyond those that followed files have.
const REMEMBERED_MAX: usize = 100_000;

/// How long a source of an earlier life waits for its file before its position may be given up.
const MISSING_WAIT: Duration = Duration::from_secs(60);

/// A file on its way to the shard that follows it.
pub struct Assignment<F> {
    /// Its number.
    pub id: FileId,
    /// The file.
    pub followed: Box<Followed<F>>,
}

type FileOf<E> = <<E as Env>::Disk as Disk>::File;
type Inode = (u64, u64);

/// Whether an error means that the process or the system has no descriptors left.
pub fn is_exhausted(error: &io::Error) -> bool {
    // EMFILE and ENFILE, which have no kind of their own.
    matches!(error.raw_os_error(), Some(24 | 23))
}

/// Runs what is not reading: on the home shard discovery, on the others the mail. Never returns before it is dropped.
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

/// A file that some shard follows.
struct Known {
    shard: ShardId,
    inode: Inode,
    key: SourceKey,
    path: PathBuf,
    paths: BTreeSet<PathBuf>,
    away: bool,
}

#[derive(Default)]
struct Directory {
    stamp: Option<Stamp>,
    /// What each wanted name leads to.
    names: HashMap<OsString, Inode>,
    links: HashSet<OsString>,
    /// Names that have to be looked at again.
    retry: HashSet<OsString>,
    /// Whether only the retried names have to be looked at, because nothing else can have changed.
    found_under: Option<PathBuf>,
}

struct Home<'a, E: Env> {
    context: &'a InputContext<E>,
    owner: Rc<Owner<E>>,
    patterns: Arc<Patterns>,
    options: Rc<Options>,
    post: Rc<Post>,
    watcher: Watcher<E>,
    directories: HashMap<PathBuf, Directory>,
    files: HashMap<FileId, Known>,
    by_inode: HashMap<Inode, FileId>,
    memory: Arc<Memory>,
    released: VecDeque<SourceKey>,
    unknown: Vec<PathBuf>,
    changed: BTreeSet<FileId>,
    loads: Vec<Option<u64>>,
    told: HashMap<PathBuf, io::ErrorKind>,
    next_id: FileId,
    handed: usize,
    first_life: bool,
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
        context.resume.iter().cloned().for_each(|state| memory.insert(state));
        let mut loads = vec![None; context.shards];
        loads[0] = Some(0);
        Home {
            watcher: Watcher::start(&context.env, owner.clone(), post.clone()),
            first_life: memory.is_empty(),
            context,
            owner,
            patterns,
            options,
            post,
            directories: HashMap::new(),
            files: HashMap::new(),
            by_inode: HashMap::new(),
            memory: Arc::new(memory),
            released: VecDeque::new(),
            unknown: Vec::new(),
            changed: BTreeSet::new(),
            loads,
            told: HashMap::new(),
            next_id: 1,
            handed: 0,
            scanned: false,
            missing_said: false,
            started: context.env.now(),
            ticks: 0,
        }
    }

    async fn run(&mut self) -> Result<(), PluginError> {
        for shard in 1..self.context.shards {
            self.post.send(ShardId(shard as u16), ToOwner::<FileOf<E>>::SayHello);
        }
        self.wait_for_hellos().await;
        let mut tick_at = self.context.env.now();
        loop {
            self.read_mail();
            self.post.flush();
            let now = self.context.env.now();
            if now >= tick_at {
                tick_at = now.after(TICK);
                self.ticks += 1;
                self.owner.tick().await;
                self.rescan().await;
                self.give_up_missing();
            }
            self.look_at_events().await;
            let rest =
                if self.post.is_waiting() { Duration::from_millis(10) } else { tick_at.since(self.context.env.now()) };
            let mail = async {
                let (from, message) = self.context.peers.receive().await;
                Some((from, message))
            };
            let nothing = async {
                or(self.watcher.raised(), self.context.env.sleep(rest)).await;
                None
            };
            if let Some((from, message)) = or(mail, nothing).await {
                self.open_mail(from, message);
            }
        }
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

    // ---------------------------------------------------------------------------------------------------------- mail

    fn read_mail(&mut self) {
        while let Some((from, message)) = self.context.peers.try_receive() {
            self.open_mail(from, message);
        }
        for message in self.owner.messages_to_home() {
            self.hear(ShardId(0), message);
        }
    }

    fn open_mail(&mut self, from: ShardId, message: tailwater_shards::plugin::PeerMessage) {
        if let Ok(message) = message.downcast::<ToHome>() {
            self.hear(from, *message);
        }
    }

    fn hear(&mut self, from: ShardId, message: ToHome) {
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
            }
            ToHome::Head(head) => Arc::make_mut(&mut self.memory).add_head(head),
        }
    }

    fn remember(&mut self, state: SourceState, released: bool) {
        let key = state.key();
        let memory = Arc::make_mut(&mut self.memory);
        memory.insert(state);
        if released {
            self.released.push_back(key);
            if memory.len() > REMEMBERED_MAX
                && let Some(oldest) = self.released.pop_front()
            {
                memory.remove(oldest);
            }
        }
    }

    /// The instance on a shard is a new one: its files have to be found and given away again.
    fn forget_files_of(&mut self, shard: ShardId) {
        let of_shard: Vec<FileId> = self.files.iter().filter(|one| one.1.shard == shard).map(|one| *one.0).collect();
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
        self.by_inode.remove(&known.inode);
        if let Some(load) = &mut self.loads[known.shard.index()] {
            *load = load.saturating_sub(1);
        }
    }

    fn look_again(&mut self, path: &Path) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return };
        if let Some(directory) = self.directories.get_mut(parent) {
            directory.names.remove(name);
            directory.retry.insert(name.to_os_string());
        }
    }

    // --------------------------------------------------------------------------------------------------- directories

    /// Looks at all directories, as far as they may have changed.
    async fn rescan(&mut self) {
        let bases: Vec<PathBuf> = self.patterns.bases.iter().map(|base| base.1.clone()).collect();
        for base in bases {
            self.directories.entry(base).or_default();
        }
        let all: Vec<PathBuf> = self.directories.keys().cloned().collect();
        let tick = self.ticks;
        let requests = all.into_iter().map(|path| {
            let directory = &self.directories[&path];
            let links = directory.links.iter().enumerate();
            let due =
                |number: usize| directory.links.len() <= LINKS_EACH_TICK || (number as u64 + tick).is_multiple_of(10);
            let mut names: HashSet<OsString> =
                links.filter(|(number, _)| due(*number)).map(|(_, name)| name.clone()).collect();
            names.extend(directory.retry.iter().cloned());
            Request { stamp: directory.stamp, directory: path, names, known: None }
        });
        let requests = requests.collect();
        self.look(requests).await;
        if !self.scanned {
            self.scanned = true;
            self.tell_empty_patterns();
        }
    }

    async fn look_at_events(&mut self) {
        let events = self.watcher.take();
        if events.overflow {
            self.directories.values_mut().for_each(|directory| directory.stamp = None);
            self.rescan().await;
            return;
        }
        if events.ancestors || !events.gone.is_empty() {
            for path in events.gone {
                if let Some(directory) = self.directories.get_mut(&path) {
                    directory.stamp = None;
                }
            }
            self.rescan().await;
        }
        let requests = events.names.into_iter().filter_map(|(path, names)| {
            let directory = self.directories.get(&path)?;
            Some(Request {
                known: Some(directory.names.keys().cloned().collect()),
                stamp: None,
                directory: path,
                names,
            })
        });
        let requests: Vec<Request> = requests.collect();
        if !requests.is_empty() {
            self.look(requests).await;
        }
    }

    /// Looks at directories and then at those found in them, and follows what is new.
    async fn look(&mut self, mut requests: Vec<Request>) {
        while !requests.is_empty() {
            for request in &requests {
                // Watched before it is listed: a file that comes in between is then in one of both.
                self.watcher.watch(&request.directory);
            }
            let disk = self.context.env.disk().clone();
            let patterns = self.patterns.clone();
            let wall = self.context.env.wall();
            let work = move || (discover::look(&disk, &patterns, &requests, wall), requests);
            let (found, asked) = self.context.env.blocking(work).await;
            requests = Vec::new();
            // A file that was let go may have left its inode number to one that was just found.
            self.read_mail();
            for (request, found) in asked.into_iter().zip(found) {
                self.apply(request, found, &mut requests);
            }
            self.say_changes();
            self.follow_unknown().await;
        }
    }

    fn apply(&mut self, request: Request, found: Found, more: &mut Vec<Request>) {
        let path = request.directory;
        match found {
            Found::Missing => self.directory_missing(&path),
            Found::Failed(error) => {
                self.tell_once(&path, &error, "the directory cannot be read", "check its permissions");
            }
            Found::Same(entries) => {
                let names = entries.iter().map(|entry| entry.name.clone()).collect();
                self.apply_entries(&path, entries, &names, None);
            }
            Found::Listed { stamp, present, entries, directories } => {
                self.told.remove(&path);
                self.renew_watch(&path, stamp);
                for (below, identity) in directories {
                    self.add_directory(below, identity, &path, more);
                }
                let looked: HashSet<OsString> = match request.known {
                    Some(_) => request.names.into_iter().chain(entries.iter().map(|one| one.name.clone())).collect(),
                    None => {
                        if let Some(directory) = self.directories.get_mut(&path) {
                            directory.stamp = Some(stamp);
                        }
                        let known = self.directories.get(&path).into_iter().flat_map(|one| one.names.keys().cloned());
                        known.chain(present.iter().cloned()).collect()
                    }
                };
                self.apply_entries(&path, entries, &looked, Some(&present));
            }
        }
    }

    /// Another directory may be at the path of an old one, whose watch went with it.
    fn renew_watch(&mut self, path: &Path, stamp: Stamp) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        if directory.stamp.is_some_and(|last| !last.is_same_directory(&stamp)) {
            directory.stamp = None;
            self.watcher.forget(path);
            self.watcher.watch(path);
        }
    }

    fn add_directory(&mut self, path: PathBuf, link: Option<Inode>, above: &Path, more: &mut Vec<Request>) {
        if self.directories.contains_key(&path) {
            return;
        }
        // A link to a directory that is already looked at would lead in circles.
        let seen = |inode: Inode| self.directories.values().any(|one| one.stamp.is_some_and(|stamp| stamp.is(inode)));
        if link.is_some_and(seen) {
            return;
        }
        if self.directories.len() >= discover::DIRECTORIES_MAX {
            let error = io::Error::other(format!("more than {} directories match", discover::DIRECTORIES_MAX));
            return self.tell_once(&path, &error, "it is not looked at", "make the include patterns narrower");
        }
        self.directories
            .insert(path.clone(), Directory { found_under: Some(above.to_path_buf()), ..Directory::default() });
        more.push(Request { directory: path, stamp: None, names: HashSet::new(), known: None });
    }

    fn directory_missing(&mut self, path: &Path) {
        let Some(directory) = self.directories.get_mut(path) else { return };
        let names = std::mem::take(&mut directory.names);
        directory.stamp = None;
        directory.links.clear();
        directory.retry.clear();
        let is_base = directory.found_under.is_none();
        for (name, inode) in names {
            self.detach(&path.join(name), inode);
        }
        self.watcher.forget(path);
        if is_base {
            self.watcher.await_directory(path);
        } else {
            self.directories.remove(path);
        }
    }

    /// Takes in what names lead to now. `looked` names those that were looked at; what is not there is gone.
    fn apply_entries(
        &mut self,
        path: &Path,
        entries: Vec<Entry>,
        looked: &HashSet<OsString>,
        present: Option<&HashSet<OsString>>,
    ) {
        let Some(mut directory) = self.directories.remove(path) else { return };
        let mut now: HashMap<OsString, Inode> = HashMap::new();
        if let Some(present) = present {
            directory.retry.retain(|name| present.contains(name));
            directory.links.retain(|name| present.contains(name));
        }
        for entry in entries {
            directory.retry.remove(&entry.name);
            let full = path.join(&entry.name);
            match &entry.target {
                Some(target) => {
                    directory.links.insert(entry.name.clone());
                    self.watcher.name_target(target, &full);
                }
                None => {
                    directory.links.remove(&entry.name);
                }
            }
            match entry.stat {
                Ok(stat) => {
                    now.insert(entry.name, (stat.device, stat.inode));
                }
                Err(error) => {
                    // A dangling link may come to lead somewhere without a change here.
                    if present.is_none_or(|present| present.contains(&entry.name)) {
                        directory.retry.insert(entry.name);
                    }
                    if !discover::is_absent(&error) {
                        self.tell_once(&full, &error, "it cannot be looked at", "it is tried again each second");
                    }
                }
            }
        }
        for name in looked {
            let (old, new) = (directory.names.get(name).copied(), now.get(name).copied());
            let skipped = present.is_some_and(|present| present.contains(name))
                && new.is_none()
                && !directory.retry.contains(name);
            if old == new || skipped {
                continue;
            }
            let full = path.join(name);
            if let Some(old) = old {
                directory.names.remove(name);
                self.detach(&full, old);
            }
            if let Some(new) = new {
                directory.names.insert(name.clone(), new);
                self.attach(full, new);
            }
        }
        self.directories.insert(path.to_path_buf(), directory);
    }

    fn detach(&mut self, path: &Path, inode: Inode) {
        self.watcher.unname(path);
        self.told.remove(path);
        if let Some(&id) = self.by_inode.get(&inode)
            && let Some(known) = self.files.get_mut(&id)
        {
            known.paths.remove(path);
            self.changed.insert(id);
        }
    }

    fn attach(&mut self, path: PathBuf, inode: Inode) {
        match self.by_inode.get(&inode) {
            Some(&id) => {
                if let Some(known) = self.files.get_mut(&id) {
                    self.watcher.name(&path, id, known.shard);
                    known.paths.insert(path);
                    self.changed.insert(id);
                }
            }
            None => self.unknown.push(path),
        }
    }

    /// Tells the owners whose files are found elsewhere or nowhere.
    fn say_changes(&mut self) {
        for id in std::mem::take(&mut self.changed) {
            let Some(known) = self.files.get_mut(&id) else { continue };
            let message = match known.paths.first() {
                None if known.away => continue,
                None => {
                    known.away = true;
                    self.watcher.add_away(id, known.shard);
                    ToOwner::Away(id)
                }
                Some(_) if !known.away && known.paths.contains(&known.path) => continue,
                Some(path) => {
                    known.away = false;
                    known.path.clone_from(path);
                    ToOwner::Moved(id, path.clone())
                }
            };
            let shard = known.shard;
            self.tell(shard, message);
        }
    }

    fn tell(&self, shard: ShardId, message: ToOwner<FileOf<E>>) {
        match shard {
            ShardId(0) => super::away::obey(&self.owner, message),
            shard => self.post.send(shard, message),
        }
    }

    // --------------------------------------------------------------------------------------------------------- files

    async fn follow_unknown(&mut self) {
        self.unknown.sort_unstable();
        self.unknown.dedup();
        while !self.unknown.is_empty() {
            let rest = self.unknown.split_off(self.unknown.len().min(IDENTIFY_FILES));
            let paths = std::mem::replace(&mut self.unknown, rest);
            let keep_open = self.handed < HANDED_FILES_MAX || self.scanned;
            let candidates: Vec<Candidate> = paths.into_iter().map(|path| Candidate { path, keep_open }).collect();
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

    fn take_in(&mut self, path: PathBuf, identified: Identified<FileOf<E>>) {
        match identified {
            Identified::Opened(opened) => {
                self.told.remove(&path);
                self.take_in_file(path, *opened);
            }
            Identified::KnownCopy => tracing::debug!("{}: a compressed copy of a file that was read", path.display()),
            Identified::ForeignCopy => self.skip_copy(&path),
            Identified::UnfinishedCopy => self.skip_short_copy(&path),
            Identified::Other => {
                let error = io::Error::other("not a regular file");
                self.tell_once(&path, &error, "it is not followed", "exclude it, or read it with another input");
            }
            Identified::Failed(error) if error.kind() == io::ErrorKind::NotFound => self.look_again(&path),
            Identified::Failed(error) => {
                if is_exhausted(&error) {
                    self.owner.shed();
                    for shard in 1..self.loads.len() {
                        self.tell(ShardId(shard as u16), ToOwner::Shed);
                    }
                }
                self.tell_once(&path, &error, "it cannot be opened", advice(&error));
                self.look_again(&path);
            }
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
        let inode = (opened.stat.device, opened.stat.inode);
        if let (Some(parent), Some(name)) = (path.parent(), path.file_name())
            && let Some(directory) = self.directories.get_mut(parent)
        {
            // Renamed since it was looked at: what was opened is the truth, the next look finds the other.
            if directory.names.insert(name.to_os_string(), inode) != Some(inode) {
                directory.stamp = None;
            }
        }
        if self.by_inode.contains_key(&inode) {
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
        self.tell(shard, ToOwner::Assign(Box::new(Assignment { id, followed: Box::new(followed) })));
    }

    fn followed(&self, path: &Path, opened: Opened<FileOf<E>>) -> Followed<FileOf<E>> {
        let Opened { file, stat, head, state, spans, left_out } = opened;
        let identity = Identity { device: stat.device, inode: stat.inode, head };
        // The same content under the same inode number on two devices is two files, whatever the log remembers of one.
        let state = state.filter(|state| !self.files.values().any(|known| known.key == state.key()));
        let fresh = || new_source(self.context.new_key(), self.context.name.clone(), &identity, path);
        let mut followed = Followed {
            spans: match &state {
                None if left_out.is_none() => VecDeque::from([super::follow::Span::WHOLE]),
                _ => spans,
            },
            source: state.as_ref().map_or_else(fresh, |state| state.source.clone()),
            identity,
            path: path.to_path_buf(),
            file,
            seen_length: stat.length,
            seen_modified: stat.modified,
            unfinished: 0,
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
        let loads = self.loads.iter().enumerate().filter_map(|(shard, load)| Some(((*load)?, shard)));
        loads.min().map_or(ShardId(0), |(_, shard)| ShardId(shard as u16))
    }

    /// Gives up the positions of earlier lives whose files did not appear. They stay remembered.
    fn give_up_missing(&mut self) {
        if self.missing_said || self.context.env.now().since(self.started) < MISSING_WAIT {
            return;
        }
        self.missing_said = true;
        let followed: HashSet<SourceKey> = self.files.values().map(|known| known.key).collect();
        let released: HashSet<SourceKey> = self.released.iter().copied().collect();
        let missing = self.context.resume.iter().filter(|state| {
            state.gone.is_none() && !followed.contains(&state.key()) && !released.contains(&state.key())
        });
        for state in missing {
            let last = unread_spans(state).back().copied().unwrap_or(super::follow::Span::WHOLE);
            let range = SourceRange { from: last.from, to: last.from, marker: state.marker };
            self.owner.say_farewell(Farewell { source: state.source.clone(), range, gone: true });
        }
    }

    // ------------------------------------------------------------------------------------------------------ messages

    fn tell_empty_patterns(&self) {
        for (index, (glob, base)) in self.patterns.bases.iter().enumerate() {
            let paths = self.files.values().flat_map(|known| known.paths.iter());
            if paths.into_iter().any(|path| self.patterns.matches(index, path)) {
                continue;
            }
            let stamp = self.directories.get(base).and_then(|directory| directory.stamp);
            let cause = match stamp {
                Some(_) => "no file there matches it",
                None => "its directory does not exist or cannot be read",
            };
            self.owner.error(&format!("include {glob}: nothing to follow yet, {cause}; it is looked for each second"));
        }
    }

    fn tell_once(&mut self, path: &Path, error: &io::Error, what: &str, next: &str) {
        if self.told.insert(path.to_path_buf(), error.kind()) != Some(error.kind()) {
            self.owner.error(&format!("{}: {what}: {error}; {next}", path.display()));
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
