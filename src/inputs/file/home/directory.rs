//! What is known of a directory that is scanned.
//!
//! Guarantees: each list in it is bounded, by the room for what is followed or by a number of names. Names that are looked at again
//! have room in all directories together as well, which is shared like that of files. What is beyond is counted, so that it is found
//! again.

use super::super::discover::{Names, REFUSED_MAX, Stamp};
use super::crowd::Again;
use crate::config::room::Claim;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Names in a directory that are checked every second, because they cannot be read yet. The others wait like names without room.
const RETRIED_MAX: usize = if cfg!(test) { 100 } else { 4096 };

#[derive(Default)]
pub(super) struct Directory {
    pub(super) stamp: Option<Stamp>,
    /// What each wanted name leads to, as far as there is room.
    pub(super) names: Arc<Names>,
    /// Subdirectories that are scanned.
    pub(super) below: Arc<HashSet<OsString>>,
    /// Number of names and subdirectories that wait for room.
    pub(super) crowded: u64,
    /// Number of new names that the next look at it skips.
    pub(super) skip: u64,
    /// Whether a look at it found something to follow, since it was begun to be looked at from its beginning.
    pub(super) advances: bool,
    /// Its own length when it was found.
    pub(super) bytes: u64,
    /// Its room among the directories.
    pub(super) claim: Option<Claim>,
    pub(super) links: HashSet<OsString>,
    /// Names that are not read because of links, as far as they are looked at again.
    pub(super) refused: HashSet<OsString>,
    /// Number of others that are not.
    pub(super) refused_more: u64,
    /// Number of symbolic links that would be wanted if links were followed.
    pub(super) links_seen: u64,
    /// Whether what is found in it counts as found by the first look, because it did not answer then, or had too many names.
    pub(super) is_first: bool,
    /// How often what was found in it was applied.
    pub(super) looks: u64,
    /// The user that owns it; root where a pattern begins.
    pub(super) owner: u32,
    /// The room of the names that are looked at again, and of some that no longer are.
    pub(super) again: Vec<Claim>,
    /// Names that must be checked again.
    pub(super) retry: HashSet<OsString>,
    /// The directory where it was found; none if an include pattern begins here, in which case it is waited for when it is
    /// missing.
    pub(super) found_under: Option<PathBuf>,
}

impl Directory {
    /// Number of names in it.
    pub(super) fn size(&self) -> u64 {
        self.names.len() as u64 + self.crowded
    }

    /// Checks a name every second until it can be read. `path` is that of the directory.
    pub(super) fn retry_later(&mut self, path: &Path, name: &OsStr, room: &mut Again) {
        if self.retry.contains(name) {
            return;
        }
        match self.retry.len() < RETRIED_MAX && self.has_room(path, room) {
            true => {
                self.retry.insert(name.to_os_string());
            }
            false => self.crowded += 1,
        }
    }

    /// Remembers a name that is not read.
    pub(super) fn refuse(&mut self, path: &Path, name: OsString, room: &mut Again) {
        if self.refused.contains(&name) {
            return;
        }
        // They are remembered, so that they are read as soon as the reason is gone.
        match self.refused.len() < REFUSED_MAX as usize && self.has_room(path, room) {
            true => {
                self.refused.insert(name);
            }
            false => self.refused_more += 1,
        }
    }

    fn has_room(&mut self, path: &Path, room: &mut Again) -> bool {
        if self.again.len() <= self.retry.len() + self.refused.len() {
            self.again.extend(room.claim(path, self.owner));
        }
        self.again.len() > self.retry.len() + self.refused.len()
    }

    /// Releases the room of names that are no longer looked at.
    pub(super) fn release_unused(&mut self, room: &mut Again) {
        let used = self.retry.len() + self.refused.len();
        self.again.drain(used.min(self.again.len())..).for_each(|claim| room.release(claim));
    }
}
