//! Directory watches: wake the right task when something changes in a watched directory.
//!
//! Guarantees: a change to a followed file wakes its owner at once; if changes follow each other closely, they are collected
//! for half a millisecond. All other events wait for the home shard and are merged, so their number is limited by the names
//! in the watched directories. Watches only reduce the delay: without them, the periodic scan finds the same changes a little
//! later. Holds no lane, because the task that waits for events cannot be stopped.

use super::content::FileOf;
use super::owner::Owner;
use super::patience::Work;
use super::post::{FileId, Post, ToOwner};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::time::Duration;
use tailwater_shards::env::{Adder, Env, ShardId, Watch, WatchEvent, WatchId, WatchKind};
use tailwater_shards::signal::Signal;

/// Maximum number of changed names that wait for the home shard. If there are more, all directories are scanned.
const NAMES_WAITING_MAX: usize = 16 * 1024;

/// Number of names in a directory that are taken at once, so that the names in other directories do not wait for them.
const NAMES_TAKEN_MAX: usize = if cfg!(test) { 32 } else { 2 * 1024 };

/// Number of files without a path that are woken by changes under unknown names. If there are more, the ticks find the changes:
/// strangers decide how many files are away, and how often something changes.
const AWAY_WOKEN_MAX: usize = if cfg!(test) { 32 } else { 1024 };

/// How long changes are collected if they follow each other closely: each wake costs as much as many lines.
const GATHER: Duration = Duration::from_micros(500);

/// The consequence of a missing watch.
const WITHOUT: &str = "changes are found by polling, in quiet files within ten seconds";

/// Events since the last scan.
#[derive(Default)]
pub struct Events {
    /// Everything must be scanned.
    pub overflow: bool,
    /// A missing directory that is waited for may have appeared.
    pub ancestors: bool,
    /// Directories that are gone.
    pub gone: HashSet<PathBuf>,
    /// Names that appeared or vanished, by directory.
    pub names: HashMap<PathBuf, HashSet<OsString>>,
    /// Paths that vanished, even if only for a moment.
    pub vanished: HashSet<PathBuf>,
    waiting: usize,
}

#[derive(Default)]
struct Watched {
    /// Paths of the directory; more than one if links lead to it.
    paths: Vec<PathBuf>,
    /// Whether a missing directory may appear below it.
    ancestor: bool,
    /// Followed files by name.
    files: HashMap<OsString, Followed>,
    /// Links elsewhere with a target in this directory, by the name of the target.
    links: HashMap<OsString, HashSet<PathBuf>>,
}

/// A followed file in a watched directory.
struct Followed {
    id: FileId,
    shard: ShardId,
    /// Whether it is followed under this name, and not only through links.
    by_name: bool,
}

/// What is to be watched in addition to the directories that are looked at.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// A directory.
    Directory(PathBuf),
    /// The nearest existing directory above this missing one.
    Above(PathBuf),
}

impl Wanted {
    /// The path.
    pub fn path(&self) -> &Path {
        match self {
            Wanted::Directory(path) | Wanted::Above(path) => path,
        }
    }
}

/// What was wanted, which directory was added for it, and the result.
pub type AddedFor = (Wanted, PathBuf, io::Result<WatchId>);

/// Watches what is wanted. Blocks.
pub fn add_all(add: &Adder, all: Vec<Wanted>, work: &Work<AddedFor>) {
    for wanted in all {
        let mut result = (wanted.path().to_path_buf(), Err(io::ErrorKind::NotFound.into()));
        let (path, above, most) = match &wanted {
            Wanted::Directory(path) => (path, 0, 1),
            Wanted::Above(path) => (path, 1, usize::MAX),
        };
        for directory in path.ancestors().skip(above).take(most) {
            work.steps.at(directory, OsStr::new(""));
            result = (directory.to_path_buf(), add(directory));
            if result.1.is_ok() {
                break;
            }
        }
        if !work.done((wanted, result.0, result.1)) {
            return;
        }
    }
}

#[derive(Default)]
struct Table {
    watched: HashMap<WatchId, Watched>,
    by_path: HashMap<PathBuf, WatchId>,
    /// The targets of links.
    targets: HashMap<PathBuf, PathBuf>,
    away: HashMap<FileId, ShardId>,
    events: Events,
    /// What is to be watched.
    wanted: HashSet<Wanted>,
    /// Whether waiting for events has failed.
    dead: bool,
}

struct Shared<E: Env> {
    table: RefCell<Table>,
    raised: Signal,
    owner: Rc<Owner<E>>,
    post: Rc<Post>,
}

/// See the module.
pub struct Watcher<E: Env> {
    watch: Option<Rc<E::Watch>>,
    shared: Rc<Shared<E>>,
    told: RefCell<bool>,
}

impl<E: Env> Watcher<E> {
    /// Starts the task that waits for events.
    pub fn start(env: &E, owner: Rc<Owner<E>>, post: Rc<Post>) -> Watcher<E> {
        let shared = Rc::new(Shared { table: RefCell::default(), raised: Signal::new(), owner, post });
        let watch = match env.watch() {
            Ok(watch) => Some(Rc::new(watch)),
            Err(error) => {
                let fix = "raise fs.inotify.max_user_instances for less delay";
                shared.owner.error(&format!("directories cannot be watched: {error}; {WITHOUT}; {fix}"));
                None
            }
        };
        if let Some(watch) = &watch {
            env.spawn("file watch", wait_for_events(env.clone(), watch.clone(), Rc::downgrade(&shared)));
        }
        Watcher { watch, shared, told: RefCell::new(false) }
    }

    /// Completes when events are available.
    pub async fn raised(&self) {
        self.shared.raised.wait().await;
    }

    /// Takes the events since the last call, with a limited number of names in each directory. The others are taken next. Names in
    /// directories that are busy stay for a later call.
    pub fn take(&self, is_busy: impl Fn(&Path) -> bool) -> Events {
        let mut table = self.shared.table.borrow_mut();
        let events = table.take();
        if table.events.waiting > 0 {
            self.shared.raised.notify();
        }
        table.keep_back(events, is_busy)
    }

    /// Whether events wait.
    pub fn has_events(&self) -> bool {
        self.shared.table.borrow().events.waiting > 0
    }

    /// Whether a change of this path is waiting, and whether the path vanished.
    pub fn waiting(&self, path: &Path) -> (bool, bool) {
        let table = self.shared.table.borrow();
        let names = path.parent().and_then(|directory| table.events.names.get(directory));
        let told = names.zip(path.file_name()).is_some_and(|(names, name)| names.contains(name));
        (told, table.events.overflow || table.events.vanished.contains(path))
    }

    /// Adds directories where blocking is allowed; none if nothing can be watched.
    pub fn adder(&self) -> Option<Adder> {
        self.watch.as_ref().map(|watch| watch.adder())
    }

    /// A directory was added, or could not be. Returns whether the watch is new: then the followed files in the directory must be
    /// named.
    pub fn added(&self, directory: &Path, added: io::Result<WatchId>) -> bool {
        let id = match added {
            Ok(id) => id,
            Err(error) => {
                // The server of its file system went, or it cannot be read: that is told where it is listed.
                let is_told = matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ConnectionAborted | io::ErrorKind::NotConnected
                );
                let expected = super::discover::is_absent(&error) || is_told;
                if !expected && !self.told.replace(true) {
                    let fix = "raise fs.inotify.max_user_watches for less delay";
                    let directory = directory.display();
                    self.shared.owner.error(&format!("{directory}: cannot be watched: {error}; {WITHOUT}; {fix}"));
                }
                return false;
            }
        };
        let mut table = self.shared.table.borrow_mut();
        if table.by_path.contains_key(directory) {
            return false;
        }
        table.by_path.insert(directory.to_path_buf(), id);
        table.watched.entry(id).or_default().paths.push(directory.to_path_buf());
        true
    }

    /// This directory is to be watched.
    pub fn want(&self, directory: &Path) {
        self.want_again(Wanted::Directory(directory.to_path_buf()));
    }

    /// The same for one that was taken and is not watched yet.
    pub fn want_again(&self, wanted: Wanted) {
        if self.watch.is_some() {
            self.shared.table.borrow_mut().wanted.insert(wanted);
        }
    }

    /// Takes what is to be watched, except what must not be tried now.
    pub fn take_wanted(&self, must_not: impl Fn(&Path) -> bool) -> Vec<Wanted> {
        let mut table = self.shared.table.borrow_mut();
        let Table { wanted, by_path, .. } = &mut *table;
        wanted.retain(|one| !matches!(one, Wanted::Directory(path) if by_path.contains_key(path)));
        wanted.extract_if(|one| !must_not(one.path())).collect()
    }

    /// A wanted directory was added. Returns the links whose files must be named.
    pub fn added_wanted(&self, wanted: &Wanted, directory: &Path, added: io::Result<WatchId>) -> Vec<PathBuf> {
        let id = added.as_ref().ok().copied();
        let is_new = self.added(directory, added);
        let mut table = self.shared.table.borrow_mut();
        let is_ancestor = matches!(wanted, Wanted::Above(_));
        if let Some(watched) = id.and_then(|id| table.watched.get_mut(&id)) {
            watched.ancestor |= is_ancestor;
        }
        if !is_new {
            return Vec::new();
        }
        let here = table.targets.iter().filter(|(_, target)| target.parent() == Some(directory));
        let here: Vec<(PathBuf, PathBuf)> = here.map(|(link, target)| (link.clone(), target.clone())).collect();
        for (link, target) in &here {
            table.link(link, target);
        }
        here.into_iter().map(|one| one.0).collect()
    }

    /// Whether changes in a directory are reported.
    pub fn is_watching(&self, directory: &Path) -> bool {
        let table = self.shared.table.borrow();
        !table.dead && table.by_path.contains_key(directory)
    }

    /// Whether a directory was added.
    pub fn is_known(&self, directory: &Path) -> bool {
        self.shared.table.borrow().by_path.contains_key(directory)
    }

    /// The directory is gone, or another one is at its path.
    pub fn forget(&self, directory: &Path) {
        let mut table = self.shared.table.borrow_mut();
        let Some(id) = table.by_path.remove(directory) else { return };
        let Some(watched) = table.watched.get_mut(&id) else { return };
        watched.paths.retain(|path| path != directory);
        if watched.paths.is_empty() {
            table.watched.remove(&id);
            if let Some(watch) = &self.watch {
                watch.remove(id);
            }
        }
    }

    /// The nearest existing directory above a missing one is to be watched.
    pub fn await_directory(&self, directory: &Path) {
        self.want_again(Wanted::Above(directory.to_path_buf()));
    }

    /// A path leads to a followed file.
    pub fn name(&self, path: &Path, id: FileId, shard: ShardId) {
        let mut table = self.shared.table.borrow_mut();
        table.away.remove(&id);
        let target = table.targets.get(path).cloned();
        let is_link = target.is_some();
        if let Some((watched, name)) = table.place(&target.unwrap_or_else(|| path.to_path_buf())) {
            let by_name = !is_link || watched.files.get(&name).is_some_and(|file| file.by_name && file.id == id);
            watched.files.insert(name, Followed { id, shard, by_name });
        }
    }

    /// A path no longer leads to a followed file. What is known of a link stays until [`Watcher::forget_link`].
    pub fn unname(&self, path: &Path) {
        let mut table = self.shared.table.borrow_mut();
        if table.targets.contains_key(path) {
            return;
        }
        if let Some((watched, name)) = table.place(path) {
            if let Some(file) = watched.files.get_mut(&name) {
                file.by_name = false;
            }
            watched.forget_unless_named(&name);
        }
    }

    /// A symbolic link has the target `target`: changes there count for the link. Returns whether the file must be named there,
    /// because the target is new.
    pub fn name_target(&self, target: &Path, link: &Path) -> bool {
        let is_other = self.shared.table.borrow().targets.get(link).is_none_or(|earlier| earlier != target);
        if is_other {
            self.forget_link(link);
        }
        let parent = target.parent().filter(|parent| !self.is_known(parent));
        parent.into_iter().for_each(|parent| self.want(parent));
        let mut table = self.shared.table.borrow_mut();
        if is_other {
            table.targets.insert(link.to_path_buf(), target.to_path_buf());
        }
        table.link(link, target);
        is_other
    }

    /// There is no symbolic link at this path any more, or it is not followed.
    pub fn forget_link(&self, link: &Path) {
        let mut table = self.shared.table.borrow_mut();
        let Some(target) = table.targets.remove(link) else { return };
        if let Some((watched, name)) = table.place(&target) {
            if let Some(links) = watched.links.get_mut(&name) {
                links.remove(link);
                if links.is_empty() {
                    watched.links.remove(&name);
                }
            }
            watched.forget_unless_named(&name);
        }
    }

    /// No path leads to the file: changes under unknown names may be changes to it.
    pub fn add_away(&self, id: FileId, shard: ShardId) {
        self.shared.table.borrow_mut().away.insert(id, shard);
    }

    /// The file is no longer followed.
    pub fn release(&self, id: FileId) {
        self.shared.table.borrow_mut().away.remove(&id);
    }
}

async fn wait_for_events<E: Env>(env: E, watch: Rc<E::Watch>, shared: Weak<Shared<E>>) {
    let mut events = Vec::new();
    let mut told_at = env.now();
    loop {
        let result = watch.next(&mut events).await;
        let now = env.now();
        let close = now.since(told_at) < GATHER * 3 / 2;
        told_at = now;
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = result {
            shared.table.borrow_mut().dead = true;
            shared.owner.error(&format!("watching directories failed: {error}; {WITHOUT}"));
            return;
        }
        shared.dispatch(&events);
        events.clear();
        drop(shared);
        if close {
            env.sleep(GATHER).await;
        }
    }
}

impl<E: Env> Shared<E> {
    fn dispatch(&self, events: &[WatchEvent]) {
        let mut remote: HashMap<ShardId, HashSet<FileId>> = HashMap::new();
        let mut table = self.table.borrow_mut();
        let mut may_be_away = false;
        for event in events {
            if event.kind != WatchKind::Modified {
                table.note(event);
                self.raised.notify();
                continue;
            }
            match table.watched.get(&event.directory).and_then(|watched| watched.files.get(&event.name)) {
                Some(&Followed { id, shard: ShardId(0), .. }) => self.owner.wake(id),
                Some(&Followed { id, shard, .. }) => {
                    remote.entry(shard).or_default().insert(id);
                }
                None => may_be_away = true,
            }
        }
        // Once for all events, whose number strangers decide.
        let away = if may_be_away { table.away_to_wake() } else { Vec::new() };
        for (id, shard) in away {
            match shard {
                ShardId(0) => self.owner.wake(id),
                shard => {
                    remote.entry(shard).or_default().insert(id);
                }
            }
        }
        for (shard, ids) in remote {
            self.post.send(shard, ToOwner::<FileOf<E>>::Modified(ids.into_iter().collect()));
        }
    }
}

impl Watched {
    /// Forgets the file with this name if neither the name nor a link leads to it.
    fn forget_unless_named(&mut self, name: &OsStr) {
        if !self.links.contains_key(name) && self.files.get(name).is_some_and(|file| !file.by_name) {
            self.files.remove(name);
        }
    }
}

impl Table {
    /// The watched directory of a path, and its name there.
    fn place(&mut self, path: &Path) -> Option<(&mut Watched, OsString)> {
        let id = *self.by_path.get(path.parent()?)?;
        Some((self.watched.get_mut(&id)?, path.file_name()?.to_os_string()))
    }

    /// Takes the events, with a limited number of names in each directory.
    fn take(&mut self) -> Events {
        let mut events = std::mem::take(&mut self.events);
        let Events { names: all, vanished, .. } = &mut events;
        for (directory, names) in all.iter_mut().filter(|one| one.1.len() > NAMES_TAKEN_MAX) {
            // What vanished comes last, so a file that was renamed is never without a path: it could not be opened any more.
            let mut order: Vec<(bool, OsString)> = std::mem::take(names)
                .into_iter()
                .map(|name| (vanished.contains(&directory.join(&name)), name))
                .collect();
            order.sort_unstable_by_key(|one| one.0);
            let rest = order.split_off(NAMES_TAKEN_MAX);
            names.extend(order.into_iter().map(|one| one.1));
            let late = rest.iter().filter(|one| one.0).map(|one| directory.join(&one.1));
            self.events.vanished.extend(late);
            self.events.waiting += rest.len();
            self.events.names.insert(directory.clone(), rest.into_iter().map(|one| one.1).collect());
        }
        events
    }

    /// Puts back what happened in directories that are busy, and returns the rest.
    fn keep_back(&mut self, mut events: Events, is_busy: impl Fn(&Path) -> bool) -> Events {
        let busy: Vec<PathBuf> = events.names.keys().filter(|directory| is_busy(directory)).cloned().collect();
        for directory in busy {
            let names = events.names.remove(&directory).unwrap_or_default();
            let vanished = names.iter().map(|name| directory.join(name)).filter(|path| events.vanished.contains(path));
            let vanished: Vec<PathBuf> = vanished.collect();
            for path in vanished {
                events.vanished.remove(&path);
                self.events.vanished.insert(path);
            }
            self.events.waiting += names.len();
            self.events.names.entry(directory).or_default().extend(names);
        }
        events
    }

    /// The files without a path that may be those that changed; none if there are too many.
    fn away_to_wake(&self) -> Vec<(FileId, ShardId)> {
        let is_few = self.away.len() <= AWAY_WOKEN_MAX;
        self.away.iter().filter(|_| is_few).map(|(id, shard)| (*id, *shard)).collect()
    }

    /// Changes of the target count for the link.
    fn link(&mut self, link: &Path, target: &Path) {
        if let Some((watched, name)) = self.place(target) {
            watched.links.entry(name).or_default().insert(link.to_path_buf());
        }
    }

    /// Records an event for the home shard.
    fn note(&mut self, event: &WatchEvent) {
        if event.kind == WatchKind::Overflow || self.events.waiting >= NAMES_WAITING_MAX {
            self.events = Events { overflow: true, ..Events::default() };
            return;
        }
        if event.kind == WatchKind::Gone {
            if let Some(watched) = self.watched.remove(&event.directory) {
                for path in watched.paths {
                    self.by_path.remove(&path);
                    self.events.gone.insert(path);
                }
            }
            return;
        }
        let Some(watched) = self.watched.get(&event.directory) else { return };
        self.events.ancestors |= watched.ancestor && event.kind == WatchKind::Appeared;
        let links = watched.links.get(&event.name).into_iter().flatten();
        let here = watched.paths.iter().map(|path| (path.as_path(), event.name.as_os_str()));
        let linked = links.filter_map(|link| Some((link.parent()?, link.file_name()?)));
        let found: Vec<(&Path, &OsStr)> = here.chain(linked).collect();
        for (directory, name) in found {
            self.events.waiting += 1;
            if event.kind == WatchKind::Vanished {
                self.events.vanished.insert(directory.join(name));
            }
            self.events.names.entry(directory.to_path_buf()).or_default().insert(name.to_os_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(directory: i32, kind: WatchKind, name: &str) -> WatchEvent {
        WatchEvent { directory: WatchId(directory), kind, name: name.into() }
    }

    fn table() -> Table {
        let mut table = Table::default();
        for (number, path) in [(1, "/log/eve"), (2, "/log/app")] {
            table.by_path.insert(path.into(), WatchId(number));
            table.watched.insert(WatchId(number), Watched { paths: vec![path.into()], ..Watched::default() });
        }
        table
    }

    #[test]
    fn names_in_a_busy_directory_stay_and_others_do_not_wait_for_them() {
        let mut table = table();
        table.note(&event(1, WatchKind::Vanished, "old.log"));
        table.note(&event(2, WatchKind::Vanished, "app.log"));
        let events = table.take();
        let events = table.keep_back(events, |path| path == Path::new("/log/eve"));
        assert_eq!(events.vanished, HashSet::from([PathBuf::from("/log/app/app.log")]));
        assert_eq!(events.names.len(), 1);
        assert_eq!(table.events.waiting, 1);
        let events = table.take();
        let events = table.keep_back(events, |_| false);
        assert_eq!(events.vanished, HashSet::from([PathBuf::from("/log/eve/old.log")]));
        assert_eq!((events.names.len(), table.events.waiting), (1, 0));
    }

    #[test]
    fn names_of_a_directory_are_taken_in_parts_and_those_that_vanished_last() {
        let mut table = table();
        for number in 0..3 * NAMES_TAKEN_MAX {
            table.note(&event(1, WatchKind::Vanished, &format!("old-{number}")));
            table.note(&event(1, WatchKind::Appeared, &format!("new-{number}")));
        }
        table.note(&event(2, WatchKind::Appeared, "app.log"));
        let (mut taken, mut first) = (Vec::new(), true);
        while table.events.waiting > 0 {
            let mut events = table.take();
            assert_eq!(events.names.contains_key(Path::new("/log/app")), first, "others do not wait");
            first = false;
            let names = events.names.remove(Path::new("/log/eve")).expect("some");
            assert!(names.len() <= NAMES_TAKEN_MAX, "{}", names.len());
            taken.extend(names.into_iter().map(|name| name.to_string_lossy().starts_with("old")));
        }
        assert_eq!(taken.len(), 6 * NAMES_TAKEN_MAX, "each is taken once");
        assert!(taken.is_sorted(), "what vanished comes last");
    }

    #[test]
    fn so_many_files_without_a_path_that_waking_them_costs_much_are_left_to_the_ticks() {
        let mut table = table();
        table.away.extend((0..AWAY_WOKEN_MAX as u64).map(|id| (id, ShardId(0))));
        assert_eq!(table.away_to_wake().len(), AWAY_WOKEN_MAX);
        table.away.insert(AWAY_WOKEN_MAX as u64, ShardId(1));
        assert!(table.away_to_wake().is_empty());
    }
}
