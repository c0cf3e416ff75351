//! An in-memory disk that fails the way disks fail.
//!
//! Guarantees: what the process sees and what survives are separate (page cache and platter, names and durable names), so that
//! [`SimDisk::crash`] can lose exactly what no sync has covered. All of it is a function of the seed and the calls. The disk
//! outlives shards and processes. A test changes and reads it from outside through [`SimDisk::outside`]. Does not model
//! devices, quotas or more than one file system.

mod content;
mod faults;
mod file;
mod outside;
mod power;
#[cfg(test)]
mod tests;
mod tree;

pub use faults::Struck;
pub use file::{SimFile, SimLock, SimMap};
pub use outside::Outside;

use crate::env::located::ByPath;
use crate::env::{DirEntry, Disk, File, FileKind, Link, Monotonic, Open, Sabotage, Stat, Timestamp};
use faults::{dead, due};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tree::{Directory, Node, Place, State, error};

/// The wall clock when the monotonic clock is at zero: 2026-01-01T00:00:00Z.
const WALL_START_NANOS: i64 = 1_767_225_600_000_000_000;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Killed: the page cache and all names survive.
    Process,
    /// The machine loses its power: any part of what no sync covered may survive.
    Power,
}

pub(super) struct Shared {
    state: Mutex<State>,
    now: AtomicU64,
    wall_offset: AtomicI64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic of a test leaves the state consistent, because the steps of a change do not panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in a job of a process because `path` is slow.
    fn wait(&self, nanos: u64, process: Option<u64>, path: &Path) -> io::Result<()> {
        let end = self.now.load(Ordering::Relaxed) + nanos;
        while process.is_some() && self.now.load(Ordering::Relaxed) < end {
            super::hanging::wait(path)?;
        }
        Ok(())
    }
}

/// A handle on the disk. Cheap to clone.
#[derive(Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    /// The process that this handle belongs to. None for a handle that outlives every process.
    process: Option<u64>,
}

impl SimDisk {
    /// An empty disk.
    pub fn new(seed: u64) -> SimDisk {
        let state = Mutex::new(State::new(seed));
        let shared = Shared { state, now: AtomicU64::new(0), wall_offset: AtomicI64::new(WALL_START_NANOS) };
        let disk = SimDisk { shared: Arc::new(shared), process: None };
        disk.set_now(Monotonic(0));
        disk
    }

    /// A handle that dies with the current process: its calls fail after [`SimDisk::crash`].
    pub fn of_this_process(&self) -> SimDisk {
        let process = Some(self.state().process);
        SimDisk { shared: Arc::clone(&self.shared), process }
    }

    /// The disk as other programs see it: never stopped by a crash, and its changes do not count as operations of the process.
    pub fn outside(&self) -> Outside {
        Outside::new(SimDisk { shared: Arc::clone(&self.shared), process: None })
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        let now = self.shared.now.load(Ordering::Relaxed);
        Timestamp(self.shared.wall_offset.load(Ordering::Relaxed).saturating_add_unsigned(now))
    }

    /// Sets the wall clock, forwards or backwards.
    pub fn set_wall(&self, wall: Timestamp) {
        let now = self.shared.now.load(Ordering::Relaxed);
        self.shared.wall_offset.store(wall.0.saturating_sub_unsigned(now), Ordering::Relaxed);
        self.state().wall = wall;
    }

    /// Sets the monotonic clock that timestamps files. The executor of a simulation calls it.
    pub fn set_now(&self, now: Monotonic) {
        self.shared.now.store(now.0, Ordering::Relaxed);
        let wall = self.wall();
        self.state().wall = wall;
    }

    /// A hash of all changes so far, in their order.
    pub fn trace_hash(&self) -> u64 {
        self.state().trace
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    pub(super) fn sync_delay(&self) -> Duration {
        let mut state = self.state();
        let (least, most) = state.faults.sync_delay_micros;
        Duration::from_micros(state.prng.between(least, most.max(least)))
    }

    /// How often a blocking sync waited for the disk: files and directories that are synced together count once.
    pub fn sync_waits(&self) -> u64 {
        self.state().sync_waits
    }

    /// Counts the syncs of `work` as one.
    fn as_one_wait<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.sync_waits();
        let done = work();
        let mut state = self.state();
        state.sync_waits = state.sync_waits.min(before + 1);
        done
    }

    /// The directory that `path` leads to, for a watch.
    pub(super) fn watchable(&self, path: &Path) -> io::Result<u64> {
        let mut state = self.passing("watch", path)?;
        let id = state.find(path)?;
        state.directory(id)?;
        state.permitted(id)?;
        Ok(id)
    }

    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        state.alive(self.process)?;
        Ok(state)
    }

    /// The state for a call that may block.
    fn blocking(&self, call: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.live()?;
        state.may_block(self.process, call);
        Ok(state)
    }

    /// The same for a call that passes `path`, which may hang.
    fn passing(&self, call: &str, path: &Path) -> io::Result<MutexGuard<'_, State>> {
        self.passing_unless(call, path, State::hangs)
    }

    fn passing_unless(
        &self,
        call: &str,
        path: &Path,
        hangs: fn(&State, &Path) -> bool,
    ) -> io::Result<MutexGuard<'_, State>> {
        let takes = self.state().takes(path);
        self.shared.wait(takes.as_nanos() as u64, self.process, path)?;
        loop {
            let state = self.blocking(call)?;
            if self.process.is_none() || !hangs(&state, path) {
                return Ok(state);
            }
            drop(state);
            super::hanging::wait(path)?;
        }
    }

    /// The state for one change by the process.
    fn changing(&self, call: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.blocking(call)?;
        state.admit_whole(self.process)?;
        Ok(state)
    }
}

/// The directory and the name of a path that is about to change.
fn named(state: &mut State, path: &Path) -> io::Result<Place> {
    let (place, _) = state.place(path, false)?;
    if place.name.is_empty() {
        return Err(error(libc::EBUSY));
    }
    state.permitted(place.directory)?;
    Ok(place)
}

fn make_file(state: &mut State, place: &Place) -> io::Result<u64> {
    state.permitted(place.directory)?;
    let id = state.add(Node::File(content::Content::default()));
    state.change(vec![(place.directory, &place.name, Some(id))]);
    Ok(id)
}

impl Disk for SimDisk {
    type File = SimFile;
    type Map = SimMap;
    type Lock = SimLock;
    type Located = ByPath<SimDisk>;

    fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let mut state = self.passing("open", path)?;
        let creates = matches!(how, Open::Create | Open::CreatePrivate);
        let (place, _) = state.place(path, !creates)?;
        let id = match (place.id, creates) {
            (Some(id), _) => id,
            (None, true) => {
                if !state.admit(self.process)? {
                    return Err(dead());
                }
                make_file(&mut state, &place)?
            }
            (None, false) => return Err(error(libc::ENOENT)),
        };
        state.permitted(id)?;
        let opens = |state: &State| state.inodes.values().map(|inode| inode.opens).sum::<u64>();
        if state.faults.descriptors_max.is_some_and(|most| opens(&state) >= most) {
            state.faults.struck.exhausted += 1;
            return Err(error(libc::EMFILE));
        }
        match &state.inode(id)?.node {
            Node::Link(_) => Err(error(libc::ELOOP)),
            Node::Directory(_) if how != Open::Read => Err(error(libc::EISDIR)),
            _ => Ok(SimFile::new(self, &mut state, id)),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<ByPath<SimDisk>> {
        ByPath::directory(self.clone(), path)
    }

    fn map(&self, file: &SimFile, length: u64) -> io::Result<SimMap> {
        let mut state = self.blocking("map")?;
        if state.content(file.id)?.length() < length {
            return Err(error(libc::EINVAL));
        }
        let view = SimFile::new(self, &mut state, file.id);
        Ok(SimMap::new(view, length as usize))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        let mut state = self.passing("stat", path)?;
        let id = state.find(path)?;
        state.stat(id)
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.passing("is_link", path)?;
        let id = state.place(path, false)?.0.id.ok_or_else(|| error(libc::ENOENT))?;
        Ok(matches!(state.inode(id)?.node, Node::Link(_)))
    }

    fn link(&self, path: &Path) -> io::Result<Option<Link>> {
        let mut state = self.passing("link", path)?;
        let id = state.place(path, false)?.0.id.ok_or_else(|| error(libc::ENOENT))?;
        let inode = state.inode(id)?;
        Ok(match &inode.node {
            Node::Link(target) => Some(Link { target: target.clone(), owner: inode.owner }),
            _ => None,
        })
    }

    /// Groups have numbers only.
    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(name.parse().ok())
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        let (place, canonical) = self.passing("canonical", path)?.place(path, true)?;
        place.id.map(|_| canonical).ok_or_else(|| error(libc::ENOENT))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        let hangs =
            |state: &State, path: &Path| state.hangs(path) || (state.list_hangs(path) && state.lists_let_pass == 0);
        let mut state = self.passing_unless("list", directory, hangs)?;
        if self.process.is_some() && state.list_hangs(directory) {
            state.lists_let_pass -= 1;
        }
        let id = state.find(directory)?;
        state.permitted(id)?;
        let names = state.directory(id)?.names.clone();
        let mut entries = Vec::with_capacity(names.len());
        for (name, id) in names {
            let inode = state.inode(id)?;
            let (directory, link) = (matches!(inode.node, Node::Directory(_)), matches!(inode.node, Node::Link(_)));
            entries.push(DirEntry { name, directory, link, inode: inode.number });
        }
        for at in (1..entries.len()).rev() {
            let other = state.prng.index(at + 1);
            entries.swap(at, other);
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.changing("rename")?;
        if due(&mut state.faults.renames_to_refuse) {
            state.faults.struck.renames += 1;
            return Err(error(libc::ENOSPC));
        }
        outside::rename(&mut state, from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing("remove")?;
        outside::remove(&mut state, path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing("remove_dir")?;
        let place = named(&mut state, path)?;
        let id = place.id.ok_or_else(|| error(libc::ENOENT))?;
        if !state.directory(id)?.names.is_empty() {
            return Err(error(libc::ENOTEMPTY));
        }
        state.change(vec![(place.directory, &place.name, None)]);
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.changing("create_dir_all")?;
        make_directories(&mut state, path)
    }

    fn sync_files(&self, files: &[Arc<SimFile>]) -> Vec<io::Result<()>> {
        self.as_one_wait(|| files.iter().map(|file| file.sync()).collect())
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        let mut state = self.changing("sync_dir")?;
        state.sync_waits += 1;
        let id = state.find(directory)?;
        if due(&mut state.faults.directory_syncs_to_refuse) {
            state.faults.struck.exhausted += 1;
            return Err(error(libc::EMFILE));
        }
        let failed = due(&mut state.faults.directory_syncs_to_fail);
        state.faults.struck.directory_syncs += u64::from(failed);
        state.note("sync directory", id, u64::from(failed), 0);
        if failed {
            return Err(error(libc::EIO));
        }
        state.sync_dir(id)
    }

    fn lock(&self, path: &Path) -> io::Result<SimLock> {
        let file = self.open(path, Open::Create)?;
        SimLock::take(self, &mut self.state(), file.id)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let state = self.blocking("free_bytes")?;
        state.find(path)?;
        Ok(state.free_bytes())
    }

    fn exhausted(&self) -> u64 {
        self.state().faults.struck.exhausted
    }

    fn boot(&self) -> io::Result<Option<u128>> {
        Ok(Some(u128::from(self.blocking("boot")?.boot) + 1))
    }

    fn sabotaged(sabotage: Sabotage) -> bool {
        super::sabotage::is_made(sabotage)
    }
}

/// Makes every missing directory of a path.
fn make_directories(state: &mut State, path: &Path) -> io::Result<()> {
    let mut at = PathBuf::new();
    for component in path.components() {
        at.push(component);
        let (place, _) = state.place(&at, true)?;
        match place.id {
            Some(id) => {
                if state.stat(id)?.kind != FileKind::Directory {
                    return Err(error(libc::EEXIST));
                }
            }
            None => {
                state.permitted(place.directory)?;
                let id = state.add(Node::Directory(Directory::default()));
                state.change(vec![(place.directory, &place.name, Some(id))]);
            }
        }
    }
    Ok(())
}
