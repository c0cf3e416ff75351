//! Files that had several names where a stranger could have made one of them.
//!
//! Guarantees: such a file is not read when it has one name again: its owner may have removed his, and the stranger's is left. What
//! is remembered of the files of each owner is bounded, so the files that one user links push out none of another user. Forgets all
//! when the process ends.

use super::identity::Inode;
use super::recency::Recency;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tailwater_shards::env::Stat;

/// Number of owners whose files are remembered, and of files of each.
const OWNERS_MAX: usize = 1024;
const FILES_MAX: usize = if cfg!(test) { 32 } else { 1024 };

/// See the module.
#[derive(Default)]
pub struct Suspects(Mutex<HashMap<u32, Recency<Inode>>>);

impl Suspects {
    fn all(&self) -> MutexGuard<'_, HashMap<u32, Recency<Inode>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a file.
    pub fn note(&self, stat: &Stat) {
        let mut all = self.all();
        if all.len() < OWNERS_MAX || all.contains_key(&stat.owner) {
            let of_owner = all.entry(stat.owner).or_default();
            of_owner.see(Inode::of(stat));
            of_owner.evict_beyond(FILES_MAX);
        }
    }

    /// Whether it is one of them.
    pub fn has(&self, stat: &Stat) -> bool {
        self.all().get(&stat.owner).is_some_and(|of_owner| of_owner.contains(&Inode::of(stat)))
    }

    /// Forgets a file: it was read before it got another name.
    pub fn clear(&self, stat: &Stat) {
        if let Some(of_owner) = self.all().get_mut(&stat.owner) {
            of_owner.remove(&Inode::of(stat));
        }
    }
}
