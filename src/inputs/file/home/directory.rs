//! What is known of a directory that is scanned.
//!
//! Guarantees: each list in it is bounded, by the room for what is followed or by a number of names. What is beyond is counted, so
//! that it is found again.

use super::super::discover::{Names, REFUSED_MAX, Stamp};
use crate::config::room::Claim;
use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
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

    /// Checks a name every second until it can be read.
    pub(super) fn retry_later(&mut self, name: &OsStr) {
        if self.retry.len() < RETRIED_MAX || self.retry.contains(name) {
            self.retry.insert(name.to_os_string());
        } else {
            self.crowded += 1;
        }
    }

    /// Remembers a name that is not read.
    pub(super) fn refuse(&mut self, name: OsString) {
        // They are remembered, so that they are read as soon as the reason is gone.
        if self.refused.len() < REFUSED_MAX as usize {
            self.refused.insert(name);
        } else if !self.refused.contains(&name) {
            self.refused_more += 1;
        }
    }
}
