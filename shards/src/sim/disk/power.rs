//! What a power loss leaves of names and inodes.
//!
//! Guarantees: either a prefix of the open changes survives, as on a journaling file system, or any subset of them, as POSIX
//! allows, but a rename never leaves one file under both names. What is not reachable from the root is gone, whether open or
//! not. The content of a file decides about its bytes.

use super::tree::{Id, Node, ROOT, State, apply};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

impl State {
    /// Simulates a power loss and the restart of the machine.
    pub(super) fn lose_power(&mut self) {
        self.lose_names();
        let survive_percent = [0, 50, 50, 90, 100][self.prng.index(5)];
        let torn = self.faults.torn_sectors;
        for inode in self.inodes.values_mut() {
            inode.opens = 0;
            if let Node::File(content) = &mut inode.node {
                content.lose_power(survive_percent, torn, &mut self.prng);
            }
        }
        self.boot += 1;
        self.recount();
    }

    fn lose_names(&mut self) {
        let journal = std::mem::take(&mut self.journal);
        let prefix = self.prng.one_in(2).then(|| self.prng.below(journal.len() as u64 + 1) as usize);
        let survive_percent = [10, 50, 90][self.prng.index(3)];
        let mut last: BTreeMap<Id, (Id, OsString)> = BTreeMap::new();
        for (number, entry) in journal.iter().enumerate() {
            let kept = prefix.map_or_else(|| self.prng.percent(survive_percent), |prefix| number < prefix);
            if !kept {
                continue;
            }
            for change in entry {
                apply(&mut self.inodes, change);
                if let Some(id) = change.to {
                    last.insert(id, (change.directory, change.name.clone()));
                }
            }
        }
        for (&at, inode) in &mut self.inodes {
            if let Node::Directory(directory) = &mut inode.node {
                // A subset of renames must not leave one file under two names.
                directory
                    .durable
                    .retain(|name, id| last.get(id).is_none_or(|(place, kept)| *place == at && kept == name));
                directory.names = directory.durable.clone();
            }
        }
    }

    /// Recomputes links, space and numbers, and drops what is not reachable from the root.
    fn recount(&mut self) {
        let mut links: BTreeMap<Id, u64> = BTreeMap::from([(ROOT, 1)]);
        let mut open = vec![ROOT];
        while let Some(at) = open.pop() {
            let Ok(directory) = self.directory(at) else { continue };
            for &id in directory.names.values() {
                let count = links.entry(id).or_insert(0);
                *count += 1;
                if *count == 1 {
                    open.push(id);
                }
            }
        }
        self.inodes.retain(|id, _| links.contains_key(id));
        self.used_bytes = 0;
        let mut numbers = BTreeSet::new();
        // The most recent inode keeps a number that was reused before the deletion of its first owner was durable.
        for (id, inode) in self.inodes.iter_mut().rev() {
            inode.links = links.get(id).copied().unwrap_or(0);
            if let Node::File(content) = &inode.node {
                self.used_bytes += content.allocated;
            }
            if !numbers.insert(inode.number) {
                self.next_number += 1;
                inode.number = self.next_number;
                numbers.insert(inode.number);
            }
        }
        self.free_numbers.retain(|number| !numbers.contains(number));
    }
}
