//! Room for what is followed: which names that were found may be followed, and what waits until there is room.
//!
//! Guarantees: what is followed fits into the write-ahead log with all positions (see [`crate::config::room`]), so nobody who makes
//! files pushes out the positions of others, and what all of it uses in memory is bounded. A file that an earlier run followed has
//! its room before any new one, until it is followed or recorded as gone. A file that is renamed keeps its room. What has no room is not followed: it is counted, told at most
//! once a minute, and found again within seconds when room is released. Its name is not kept.

use super::super::discover::DIRECTORIES_MAX;
use super::super::identity::Inode;
use super::super::post::FileId;
use super::directory::Directory;
use super::{Home, Known};
use crate::config::room::{Claim, Held, Place, Room, Site};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic, Stat};
use tailwater_shards::limits::FOLLOWED_POSITION_BYTES_MIN;

/// Bytes of a position in a snapshot, without its path: the key, times, one range, and what identifies the file.
const POSITION_BYTES: usize = 128;

/// Names of one followed file that have room whatever else there is: that of a file that is being renamed must not wait.
const NAMES_OF_FILE_MAX: usize = 4;

/// Ticks between two attempts to follow what waits.
const RETRY_TICKS: u64 = 3;

/// How long nothing is told again.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// Room for files of an earlier run with the same inode number.
#[derive(Default)]
struct Earlier {
    /// Room of those that were not found yet.
    claims: Vec<Claim>,
    /// Number of those that were found and are not followed yet: their names have the room.
    named: usize,
}

/// See the module.
pub(super) struct Crowd {
    held: Held,
    /// Room for directories, each of which counts as one.
    directories: Held,
    /// Room for files of an earlier run that are not followed yet, by inode number.
    earlier: HashMap<u64, Earlier>,
    /// The room's number of releases at the last attempt to follow what waits.
    released: (u64, u64),
    told: Option<Monotonic>,
    /// One of those that wait.
    example: Option<PathBuf>,
}

impl Crowd {
    pub(super) fn new(held: Held) -> Crowd {
        let directories = Held::in_room(Arc::new(Room::of(DIRECTORIES_MAX)));
        Crowd { held, directories, earlier: HashMap::new(), released: (0, 0), told: None, example: None }
    }

    /// Keeps room for a file of an earlier run.
    pub(super) fn reserve(&mut self, inode: Inode, site: Site, path: &Path) {
        let claim = self.held.reserve(site, bytes_of(path.as_os_str().len()));
        self.earlier.entry(inode.number).or_default().claims.push(claim);
    }

    /// A name leads to this inode. If it is that of a file of an earlier run, the name gets its room. Returns whether it is.
    fn is_of_earlier_run(&mut self, inode: Inode) -> bool {
        let Some(earlier) = self.earlier.get_mut(&inode.number) else { return false };
        let Some(claim) = earlier.claims.pop() else { return false };
        earlier.named += 1;
        self.held.release(claim);
        true
    }

    /// A name that led to this inode is gone before the file was followed. A file of an earlier run keeps the room: its position
    /// is recorded until it is known that the file is gone.
    pub(super) fn lost_name(&mut self, inode: Inode, claim: Claim) {
        match self.earlier.get_mut(&inode.number) {
            Some(earlier) if earlier.named > 0 => {
                earlier.named -= 1;
                earlier.claims.push(claim);
            }
            _ => self.held.release(claim),
        }
    }

    /// A file of an earlier run is followed now, or recorded as gone. Returns its room, unless a name has it.
    pub(super) fn settle(&mut self, inode: Inode) -> Option<Claim> {
        let earlier = self.earlier.get_mut(&inode.number)?;
        let claim = match earlier.named {
            0 => earlier.claims.pop(),
            _ => {
                earlier.named -= 1;
                None
            }
        };
        if earlier.named == 0 && earlier.claims.is_empty() {
            self.earlier.remove(&inode.number);
        }
        claim
    }

    pub(super) fn release(&mut self, claim: Claim) {
        self.held.release(claim);
    }

    /// One of those that wait, which is told.
    pub(super) fn is_waiting(&mut self, path: PathBuf) {
        self.example.get_or_insert(path);
    }

    /// A directory is not scanned any more.
    pub(super) fn release_directory(&mut self, claim: Claim) {
        self.directories.release(claim);
    }
}

/// What a name uses of the room.
fn bytes_of(path_bytes: usize) -> u32 {
    (POSITION_BYTES + path_bytes).max(FOLLOWED_POSITION_BYTES_MIN) as u32
}

impl<E: Env> Home<'_, E> {
    /// Where the files of a directory count.
    pub(super) fn site(&self, directory: &Path) -> Site {
        self.crowd.held.room().site(&self.patterns.tree_of_directory(directory), directory)
    }

    /// Room for a name that was found; none if it has to wait.
    pub(super) fn admit(&mut self, site: Site, path: &Path, stat: &Stat) -> Option<Claim> {
        let inode = Inode::of(stat);
        let is_renamed = |id: &FileId| self.files.get(id).is_some_and(|known| known.paths.len() < NAMES_OF_FILE_MAX);
        let is_followed = self.by_inode.get(&inode).or_else(|| self.offered.get(&inode)).is_some_and(is_renamed);
        let is_known = self.crowd.is_of_earlier_run(inode) || is_followed;
        let place = Place { owner: stat.owner, site };
        let bytes = bytes_of(path.as_os_str().len());
        match is_known {
            true => Some(self.crowd.held.claim_known(place, bytes)),
            false => self.crowd.held.claim(place, bytes),
        }
    }

    /// Room for a directory that was found; none if it has to wait.
    pub(super) fn admit_directory(&mut self, path: &Path, owner: u32) -> Option<Claim> {
        let (tree, directory) = (self.patterns.tree_of_directory(path), path.parent().unwrap_or(Path::new("/")));
        let site = self.crowd.directories.room().site(&tree, directory);
        self.crowd.directories.claim(Place { owner, site }, 1)
    }

    /// A name that was found has no room.
    pub(super) fn wait_for_room(&mut self, directory: &mut Directory, path: PathBuf) {
        directory.crowded += 1;
        self.crowd.is_waiting(path);
    }

    /// Looks again for what waits if room was released.
    pub(super) fn retry_crowded(&mut self) {
        let released = (self.crowd.held.room().released(), self.crowd.directories.room().released());
        if released == self.crowd.released || !self.ticks.is_multiple_of(RETRY_TICKS) {
            return;
        }
        self.crowd.released = released;
        for directory in self.directories.values_mut().filter(|directory| directory.crowded > 0) {
            directory.stamp = directory.stamp.map(|stamp| stamp.unsettled());
        }
    }

    /// Shows how many names wait for room, and tells of them.
    pub(super) fn count_crowded(&mut self) {
        let waiting: u64 = self.directories.values().map(|directory| directory.crowded).sum();
        self.context.counters.files_waiting.set(waiting);
        if waiting == 0 {
            self.crowd.example = None;
        }
        let now = self.context.env.now();
        let is_due = self.crowd.told.is_none_or(|told| now.since(told) >= TELL_AGAIN);
        let Some(example) = self.crowd.example.take_if(|_| is_due && waiting > 0) else { return };
        self.crowd.told = Some(now);
        let (used, capacity) = self.crowd.held.room().level();
        tracing::warn!(
            component_id = %self.context.name, component_kind = "input",
            "{}: not followed yet, like {waiting} files and directories in total: positions use {used} of {capacity} bytes, {} of \
             {DIRECTORIES_MAX} directories are scanned, and no user, tree or directory gets all of that. What waits is followed as \
             soon as there is room. Delete files, narrow `include`, or raise wal.segment_bytes",
            example.display(),
            self.directories.len()
        );
    }

    /// A path does not lead to the file any more. Its room stays in use until it is released, if this was its last path.
    pub(super) fn keep_room(&mut self, id: FileId, claim: Claim) {
        let known = self.files.get_mut(&id).filter(|known| known.paths.is_empty());
        let released = match known {
            Some(known) => known.claim.replace(claim),
            None => Some(claim),
        };
        released.into_iter().for_each(|claim| self.crowd.release(claim));
    }

    /// The file has a path again, whose room counts.
    pub(super) fn has_room_by_name(crowd: &mut Crowd, known: &mut Known) {
        known.claim.take().into_iter().for_each(|claim| crowd.release(claim));
    }
}
