//! Room for what is followed: which names that were found may be followed, and what waits until there is room.
//!
//! Guarantees: what is followed fits into the write-ahead log with all positions (see [`crate::config::room`]), so nobody who makes
//! files pushes out the positions of others, and what all of it uses in memory is bounded. A file that an earlier run followed has
//! its room before any new one, until it is followed or recorded as gone. A file that is renamed keeps its room, and its new name
//! waits only if it is longer or is found while the old one is there, and room is scarce. What has no room is not followed: it is
//! counted, told at most once a minute, and found again within seconds when room is released. Its name is not kept. Files that are
//! held open until they are compared with another one have a bound too, and so have names that are looked at until they can be read.

use super::super::discover::DIRECTORIES_MAX;
use super::super::identity::Inode;
use super::super::patterns::Patterns;
use super::super::post::FileId;
use super::directory::Directory;
use super::{Home, Known};
use crate::config::room::{Claim, Held, Place, Room, Site};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::env::{Env, Monotonic, Stat};
use tailwater_shards::limits::FOLLOWED_POSITION_BYTES_MIN;

/// Bytes of a position in a snapshot, without its path: the key, times, one range, and what identifies the file.
const POSITION_BYTES: usize = 128;

/// Number of files that may be held open to be compared with another one. No user gets all of them. The others are read from their
/// beginning.
pub const OFFERED_MAX: u64 = if cfg!(test) { 20 } else { 1024 };

/// Number of files that may wait because they may be copies of files that are about to end. No user gets all of them. The others are
/// followed at once.
pub const AWAITED_MAX: u64 = if cfg!(test) { 20 } else { 1024 };

/// Number of names that cannot be read and are looked at every second, or in turn, until they can. No user gets all of them. The others
/// wait like names without room.
pub const AGAIN_MAX: u64 = if cfg!(test) { 400 } else { 16 * 1024 };

/// How long a wait counts that nothing has ended: the file may be gone.
const WAIT_MAX: Duration = Duration::from_secs(60);

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

/// Room for names that are looked at again, in all directories.
pub(super) struct Again {
    held: Held,
    patterns: Arc<Patterns>,
}

impl Again {
    /// Nothing is looked at yet.
    pub(super) fn new(patterns: Arc<Patterns>) -> Again {
        Again { held: Held::in_room(Arc::new(Room::of(AGAIN_MAX))), patterns }
    }

    /// Room for a name in a directory of this user, if there is any.
    pub(super) fn claim(&mut self, directory: &Path, owner: u32) -> Option<Claim> {
        let site = self.held.room().site(&self.patterns.tree_of_directory(directory), directory);
        self.held.claim(Place { owner, site }, 1)
    }

    pub(super) fn release(&mut self, claim: Claim) {
        self.held.release(claim);
    }
}

/// See the module.
pub(super) struct Crowd {
    held: Held,
    /// Room for directories, each of which counts as one.
    directories: Held,
    /// Room for files of an earlier run that are not followed yet, by inode number.
    earlier: HashMap<u64, Earlier>,
    /// Room for files that are held open, and what they use of it.
    held_open: Held,
    offers: HashMap<Inode, Claim>,
    /// Room for files that wait because they may be copies, since when they wait, and what they use of it.
    room_to_wait: Held,
    waits: HashMap<PathBuf, (Monotonic, Claim)>,
    /// Room for names that cannot be read yet.
    pub(super) again: Again,
    /// The rooms' numbers of releases at the last attempt to follow what waits.
    released: [u64; 3],
    /// Whether a file has lost its last name since then: one that waits may be its new name.
    has_moved: bool,
    told: Option<Monotonic>,
    /// One of those that wait.
    example: Option<PathBuf>,
}

impl Crowd {
    pub(super) fn new(held: Held, patterns: Arc<Patterns>) -> Crowd {
        let directories = Held::in_room(Arc::new(Room::of(DIRECTORIES_MAX)));
        Crowd {
            held,
            directories,
            held_open: Held::in_room(Arc::new(Room::of(OFFERED_MAX))),
            offers: HashMap::new(),
            room_to_wait: Held::in_room(Arc::new(Room::of(AWAITED_MAX))),
            waits: HashMap::new(),
            again: Again::new(patterns),
            earlier: HashMap::new(),
            released: [0; 3],
            has_moved: false,
            told: None,
            example: None,
        }
    }

    /// Keeps room for a file of an earlier run.
    pub(super) fn reserve(&mut self, inode: Inode, site: Site, path: &Path) {
        let claim = self.held.reserve(site, bytes_of(path.as_os_str().len()));
        self.earlier.entry(inode.number).or_default().claims.push(claim);
    }

    /// A name leads to this inode. If it is that of a file of an earlier run, the name gets what was kept for it, and more if it is
    /// longer and there is room.
    fn claim_earlier(&mut self, inode: Inode, place: Place, bytes: u32) -> Option<Claim> {
        let earlier = self.earlier.get_mut(&inode.number)?;
        let old = earlier.claims.pop()?;
        let Some(claim) = self.held.claim_in_place_of(old, place, bytes) else {
            earlier.claims.push(old);
            return None;
        };
        earlier.named += 1;
        self.held.release(old);
        Some(claim)
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

    /// A file is no longer held open to be compared.
    pub(super) fn release_offer(&mut self, inode: &Inode) {
        self.offers.remove(inode).into_iter().for_each(|claim| self.held_open.release(claim));
    }

    /// Since when a file waits; none if it does not.
    pub(super) fn waits_since(&self, path: &Path) -> Option<Monotonic> {
        self.waits.get(path).map(|wait| wait.0)
    }

    /// A file does not wait any more.
    pub(super) fn ends_wait(&mut self, path: &Path) {
        let wait = self.waits.remove(path);
        wait.into_iter().for_each(|wait| self.room_to_wait.release(wait.1));
    }

    /// Forgets waits of files that are gone.
    fn forget_waits(&mut self, now: Monotonic) {
        let old: Vec<PathBuf> =
            self.waits.iter().filter(|wait| now.since(wait.1.0) >= WAIT_MAX).map(|wait| wait.0.clone()).collect();
        old.iter().for_each(|path| self.ends_wait(path));
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

    /// Room for a name that was found; none if it has to wait. `takes_place` says whether another file was followed under it.
    pub(super) fn admit(&mut self, site: Site, path: &Path, stat: &Stat, takes_place: bool) -> Option<Claim> {
        let inode = Inode::of(stat);
        let place = Place { owner: stat.owner, site };
        let bytes = bytes_of(path.as_os_str().len());
        if let Some(claim) = self.crowd.claim_earlier(inode, place, bytes) {
            return Some(claim);
        }
        let known = self.by_inode.get(&inode).and_then(|id| self.files.get(id));
        match known.map(|known| known.claim) {
            // Its last name is gone, so it was renamed.
            Some(Some(old)) => self.crowd.held.claim_in_place_of(old, place, bytes),
            // It is being renamed, or has several names.
            Some(None) => self.crowd.held.claim_again(place, bytes),
            None if takes_place || self.offered.contains_key(&inode) => self.crowd.held.claim_again(place, bytes),
            None => self.crowd.held.claim(place, bytes),
        }
    }

    /// Room to hold a file open until its owner has compared it with another one. Returns whether there is any.
    pub(super) fn admit_offer(&mut self, path: &Path, stat: &Stat) -> bool {
        let site = self.site(path.parent().unwrap_or(Path::new("/")));
        let claim = self.crowd.held_open.claim(Place { owner: stat.owner, site }, 1);
        let is_admitted = claim.is_some();
        let earlier = claim.and_then(|claim| self.crowd.offers.insert(Inode::of(stat), claim));
        earlier.into_iter().for_each(|claim| self.crowd.held_open.release(claim));
        is_admitted
    }

    /// Whether a file of this user may begin to wait because it may be a copy.
    pub(super) fn may_begin_to_wait(&mut self, path: &Path, owner: u32) -> bool {
        let claim = self.claim_wait(path, owner);
        claim.into_iter().map(|claim| self.crowd.room_to_wait.release(claim)).count() > 0
    }

    /// It waits from now on, if it may.
    pub(super) fn begins_to_wait(&mut self, path: &Path, owner: u32) {
        if !self.crowd.waits.contains_key(path)
            && let Some(claim) = self.claim_wait(path, owner)
        {
            self.crowd.waits.insert(path.to_path_buf(), (self.context.env.now(), claim));
        }
    }

    fn claim_wait(&mut self, path: &Path, owner: u32) -> Option<Claim> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let site = self.crowd.room_to_wait.room().site(&self.patterns.tree_of_directory(directory), directory);
        self.crowd.room_to_wait.claim(Place { owner, site }, 1)
    }

    /// Room for a directory that was found; none if it has to wait.
    pub(super) fn admit_directory(&mut self, path: &Path, owner: u32) -> Option<Claim> {
        let (tree, directory) = (self.patterns.tree_of_directory(path), path.parent().unwrap_or(Path::new("/")));
        let site = self.crowd.directories.room().site(&tree, directory);
        self.crowd.directories.claim(Place { owner, site }, 1)
    }

    /// A name that was found has no room.
    pub(super) fn wait_for_room(&mut self, directory: &mut Directory, name: &OsStr, path: PathBuf) {
        directory.crowded += 1;
        if directory.links.remove(name) {
            self.watcher.forget_link(&path);
        }
        self.crowd.is_waiting(path);
    }

    /// Looks again for what waits if room was released.
    pub(super) fn retry_crowded(&mut self) {
        self.crowd.forget_waits(self.context.env.now());
        let rooms = [&self.crowd.held, &self.crowd.directories, &self.crowd.again.held];
        let released = rooms.map(|held| held.room().released());
        let is_changed = released != self.crowd.released || self.crowd.has_moved;
        if !is_changed || !self.ticks.is_multiple_of(RETRY_TICKS) {
            return;
        }
        (self.crowd.released, self.crowd.has_moved) = (released, false);
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
            Some(known) => {
                self.crowd.has_moved = true;
                known.claim.replace(claim)
            }
            None => Some(claim),
        };
        released.into_iter().for_each(|claim| self.crowd.release(claim));
    }

    /// The file has a path again, whose room counts.
    pub(super) fn has_room_by_name(crowd: &mut Crowd, known: &mut Known) {
        known.claim.take().into_iter().for_each(|claim| crowd.release(claim));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cannot_be_read_are_bounded_over_all_directories_and_leave_room_to_others() {
        let patterns = Arc::new(Patterns::new(&["/log/**".to_owned()], &[], Path::new("/")).expect("a glob"));
        let mut room = Again::new(patterns);
        let fill = |owner: u32, path: &Path, room: &mut Again| {
            let mut directory = Directory { owner, ..Directory::default() };
            for number in 0..1000 {
                directory.retry_later(path, OsStr::new(&format!("{number}")), room);
                directory.refuse(path, format!("link {number}").into(), room);
            }
            assert_eq!(directory.retry.len() as u64 + directory.crowded, 1000, "what is beyond is counted");
            assert_eq!(directory.refused.len() as u64 + directory.refused_more, 1000);
            directory
        };
        let kept = |all: &[Directory]| -> usize { all.iter().map(|one| one.retry.len() + one.refused.len()).sum() };
        let path = |number: u32| PathBuf::from(format!("/log/eve-{number}/{number}"));
        let mut eve: Vec<Directory> = (0..100).map(|number| fill(7, &path(number), &mut room)).collect();
        let of_eve = kept(&eve);
        assert!((100..AGAIN_MAX as usize).contains(&of_eve), "{of_eve}");
        let ann = [fill(8, Path::new("/log/ann"), &mut room)];
        assert!(kept(&ann) >= 20, "{}", kept(&ann));
        assert!(kept(&eve) + kept(&ann) <= AGAIN_MAX as usize);
        for directory in &mut eve {
            directory.retry.clear();
            directory.refused.clear();
            directory.release_unused(&mut room);
        }
        assert_eq!(room.held.room().level().0 as usize, kept(&ann), "all of it is free again");
    }
}
