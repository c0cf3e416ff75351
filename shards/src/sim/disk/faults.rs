//! The faults of the disk that a test can request.
//!
//! Guarantees: a fault that was not requested never happens. Requested faults happen by count or by seed, never by time.

use super::tree::error;
use super::{Crash, SimDisk};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::Duration;

/// How often faults of the disk occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// Changes for which there was no space.
    pub full: u64,
    /// Syncs of files that failed.
    pub syncs: u64,
    /// Syncs of directories that failed.
    pub directory_syncs: u64,
    /// Writes that failed.
    pub writes: u64,
    /// Renames for which there was no space.
    pub renames: u64,
    /// Calls that found no descriptor left.
    pub exhausted: u64,
}

/// The active faults.
pub(super) struct Faults {
    pub(super) capacity_bytes: Option<u64>,
    pub(super) syncs_to_fail: u32,
    pub(super) directory_syncs_to_fail: u32,
    pub(super) directory_syncs_to_refuse: u32,
    pub(super) writes_to_fail: u32,
    pub(super) renames_to_refuse: u32,
    pub(super) descriptors_max: Option<u64>,
    pub(super) sync_delay_micros: (u64, u64),
    pub(super) would_block_one_in: u64,
    pub(super) short_read_one_in: u64,
    pub(super) torn_sectors: bool,
    pub(super) inode_reuse: bool,
    pub(super) remote: bool,
    pub(super) allocates: bool,
    pub(super) operations_left: Option<u64>,
    pub(super) struck: Struck,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults {
            capacity_bytes: None,
            syncs_to_fail: 0,
            directory_syncs_to_fail: 0,
            directory_syncs_to_refuse: 0,
            writes_to_fail: 0,
            renames_to_refuse: 0,
            descriptors_max: None,
            sync_delay_micros: (20, 5_000),
            would_block_one_in: 8,
            short_read_one_in: 8,
            torn_sectors: true,
            inode_reuse: false,
            remote: false,
            allocates: true,
            operations_left: None,
            struck: Struck::default(),
        }
    }
}

/// Decrements a number of pending failures. Returns whether there was one.
pub(super) fn due(failures: &mut u32) -> bool {
    let due = *failures > 0;
    *failures = failures.saturating_sub(1);
    due
}

impl SimDisk {
    /// Limits the free space to this many bytes from now on, or removes the limit if none. Writes that do not fit fail with
    /// ENOSPC, after the part that fits was written.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        let mut state = self.state();
        state.faults.capacity_bytes = bytes.map(|bytes| bytes + state.used_bytes);
    }

    /// The next `count` file syncs fail with EIO. Their pages count as clean and are not durable.
    pub fn fail_syncs(&self, count: u32) {
        self.state().faults.syncs_to_fail = count;
    }

    /// The next `count` directory syncs fail with EIO.
    pub fn fail_directory_syncs(&self, count: u32) {
        self.state().faults.directory_syncs_to_fail = count;
    }

    /// The next `count` directory syncs do not happen, because no descriptor is left (EMFILE).
    pub fn refuse_directory_syncs(&self, count: u32) {
        self.state().faults.directory_syncs_to_refuse = count;
    }

    /// So many files can be open at a time, the next one finds no descriptor left (EMFILE).
    pub fn set_descriptors_max(&self, count: Option<u64>) {
        self.state().faults.descriptors_max = count;
    }

    /// The next `count` writes fail with EIO, having written nothing.
    pub fn fail_writes(&self, count: u32) {
        self.state().faults.writes_to_fail = count;
    }

    /// The next `count` renames do not happen, because there is no space for a name (ENOSPC).
    pub fn refuse_renames(&self, count: u32) {
        self.state().faults.renames_to_refuse = count;
    }

    /// Makes reads of a file fail with EIO, or work again.
    pub fn fail_reads(&self, path: &Path, failing: bool) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id)?.read_fails = failing;
        Ok(())
    }

    /// Writes that make this file longer fail with this error number, such as that of a quota, having written nothing.
    pub fn refuse_growth(&self, path: &Path, number: Option<i32>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id)?.growth_fails = number;
        Ok(())
    }

    /// Syncs of this file fail with this error number, such as that of a quota of a server. Its pages count as clean and are not
    /// durable.
    pub fn refuse_syncs(&self, path: &Path, number: Option<i32>) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id)?.syncs_fail = number;
        Ok(())
    }

    /// Denies opening, listing and changing what `path` leads to (EACCES), or allows it again.
    pub fn deny(&self, path: &Path, denied: bool) -> io::Result<()> {
        let mut state = self.state();
        let id = state.find(path)?;
        state.inode(id)?.denied = denied;
        Ok(())
    }

    /// Calls of jobs that pass this path wait, like those on a file server that is gone, until it answers again. Reads of open files
    /// there wait too. A task that makes such a call itself panics: it would stop its shard.
    pub fn hang(&self, path: &Path, hanging: bool) {
        let mut state = self.state();
        state.hanging_changes += 1;
        match hanging {
            true => state.hanging.insert(path.to_path_buf()),
            false => state.hanging.remove(path),
        };
    }

    /// The same only for listing the names in this directory: as if they were very many.
    pub fn hang_lists(&self, directory: &Path, hanging: bool) {
        let mut state = self.state();
        state.hanging_changes += 1;
        match hanging {
            true => state.unlisted.insert(directory.to_path_buf()),
            false => state.unlisted.remove(directory),
        };
    }

    /// Each call of a job at this path or below, and each read of an open file there, takes so long. No time at all is as before.
    pub fn slow(&self, path: &Path, takes: Duration) {
        let mut state = self.state();
        state.hanging_changes += 1;
        match takes.is_zero() {
            true => state.slow.remove(path),
            false => state.slow.insert(path.to_path_buf(), takes),
        };
    }

    /// Whether anything is slow.
    pub(in super::super) fn is_slow(&self) -> bool {
        !self.state().slow.is_empty()
    }

    /// Lets one of the lists that hang go on: as if each took until then.
    pub fn let_a_list_pass(&self) {
        let mut state = self.state();
        state.hanging_changes += 1;
        state.lists_let_pass = 1;
    }

    /// Tasks that closed a file which hangs.
    pub fn closed_in_tasks(&self) -> BTreeSet<String> {
        self.state().closed_in_tasks.clone()
    }

    /// How often what hangs has changed.
    pub(in super::super) fn hanging_changes(&self) -> u64 {
        self.state().hanging_changes
    }

    /// How long a sync through the environment takes in virtual time.
    pub fn set_sync_delay(&self, least: Duration, most: Duration) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.state().faults.sync_delay_micros = (micros(least), micros(most));
    }

    /// Makes one in `times` non-blocking reads fail with `WouldBlock`. Zero means never.
    pub fn set_would_block(&self, times: u64) {
        self.state().faults.would_block_one_in = times;
    }

    /// Makes one in `times` non-blocking reads return less than there is. Zero means never.
    pub fn set_short_reads(&self, times: u64) {
        self.state().faults.short_read_one_in = times;
    }

    /// Whether a power loss may tear a page at its sectors.
    pub fn set_torn_sectors(&self, torn: bool) {
        self.state().faults.torn_sectors = torn;
    }

    /// Whether a new file gets the inode number of the last deleted file.
    pub fn set_inode_reuse(&self, reuse: bool) {
        self.state().faults.inode_reuse = reuse;
    }

    /// Whether files are on a server that may not answer: non-blocking reads always fail with `WouldBlock`, and a stat of a
    /// file blocks.
    pub fn set_remote(&self, remote: bool) {
        self.state().faults.remote = remote;
    }

    /// Whether the file system has a call that reserves space. If not, space is reserved by writing zeros.
    pub fn set_allocates(&self, allocates: bool) {
        self.state().faults.allocates = allocates;
    }

    /// Makes one in `times` watch events an overflow. Zero means never.
    pub fn set_watch_overflow(&self, times: u64) {
        self.state().watchers.overflow_one_in = times;
    }

    /// Whether watches deliver nothing at all, as on a network file system.
    pub fn set_watch_silent(&self, silent: bool) {
        self.state().watchers.silent = silent;
    }

    /// Allows the process `operations` more changes to the disk and stops it at the next one. A write stops half-way. From then
    /// on every call of the process fails, until [`SimDisk::crash`] decides what is left.
    pub fn crash_after(&self, operations: u64) {
        self.state().faults.operations_left = Some(operations);
    }

    /// Cancels [`SimDisk::crash_after`].
    pub fn crash_never(&self) {
        self.state().faults.operations_left = None;
    }

    /// The faults that have occurred so far.
    pub fn struck(&self) -> Struck {
        self.state().faults.struck
    }

    /// Whether the process was stopped by [`SimDisk::crash_after`].
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// From now on, records calls that may block if a shard's task makes them directly and not through
    /// [`crate::env::Env::blocking`].
    pub fn forbid_blocking(&self, forbidden: bool) {
        self.state().blocking_forbidden = forbidden;
    }

    /// The blocking calls that shards' tasks made while that was forbidden: "task: call".
    pub fn blocked(&self) -> Vec<String> {
        self.state().blocked.iter().cloned().collect()
    }

    /// Evicts the pages of all files from memory: reading one through a view then waits for the disk.
    pub fn evict_pages(&self) {
        let mut state = self.state();
        let pages = |(id, inode): (&super::tree::Id, &super::tree::Inode)| {
            let length = match &inode.node {
                super::tree::Node::File(content) => content.length(),
                _ => 0,
            };
            let id = *id;
            (0..length.div_ceil(super::content::PAGE_BYTES)).map(move |page| (id, page))
        };
        state.absent = state.inodes.iter().flat_map(pages).collect();
    }

    /// Pages that are not in memory.
    pub fn absent_pages(&self) -> usize {
        self.state().absent.len()
    }

    /// Sets which task of a shard is being polled, if any. Returns the previous one.
    pub(in super::super) fn polls(&self, task: Option<&'static str>) -> Option<&'static str> {
        std::mem::replace(&mut self.state().polled, task)
    }

    /// The process ends without any cleanup. Its handles and locks become invalid. Faults stay as they were set.
    pub fn crash(&self, kind: Crash) {
        let mut state = self.state();
        state.note("crash", 0, u64::from(kind == Crash::Power), 0);
        state.process += 1;
        state.crashed = false;
        state.faults.operations_left = None;
        state.locks.clear();
        state.watchers.clear();
        if kind == Crash::Power {
            state.lose_power();
        }
    }
}

impl super::tree::State {
    /// Admits one change by a process. Returns false if the process dies in it.
    pub(super) fn admit(&mut self, process: Option<u64>) -> io::Result<bool> {
        self.alive(process)?;
        match &mut self.faults.operations_left {
            Some(0) => {
                self.crashed = true;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    /// Admits one change that happens completely or not at all.
    pub(super) fn admit_whole(&mut self, process: Option<u64>) -> io::Result<()> {
        if self.admit(process)? { Ok(()) } else { Err(dead()) }
    }

    /// Records that a process makes a call that may block.
    pub(super) fn may_block(&mut self, process: Option<u64>, call: &str) {
        if let (true, Some(task), Some(_)) = (self.blocking_forbidden, self.polled, process) {
            self.blocked.insert(format!("{task}: {call}"));
        }
    }

    /// Checks that a file which hangs is closed by no task: closing it may wait as well.
    pub(super) fn may_close(&mut self, process: Option<u64>, id: super::tree::Id) {
        if let (Some(task), Some(_)) = (self.polled, process)
            && self.file_hangs(id)
        {
            self.closed_in_tasks.insert(task.to_owned());
        }
    }

    /// Pages of a range that are not in memory.
    pub(super) fn absent(&self, id: super::tree::Id, offset: u64, length: u64) -> Vec<(super::tree::Id, u64)> {
        if self.absent.is_empty() || length == 0 {
            return Vec::new();
        }
        let page = super::content::PAGE_BYTES;
        self.absent.range((id, offset / page)..=(id, (offset + length - 1) / page)).copied().collect()
    }

    /// Loads a range into memory. Returns whether that had to wait for the disk.
    pub(super) fn bring_in(&mut self, id: super::tree::Id, offset: u64, length: u64) -> bool {
        let absent = self.absent(id, offset, length);
        if absent.is_empty() {
            return false;
        }
        self.absent.retain(|page| !absent.contains(page));
        true
    }

    pub(super) fn alive(&self, process: Option<u64>) -> io::Result<()> {
        if self.crashed || process.is_some_and(|process| process != self.process) { Err(dead()) } else { Ok(()) }
    }

    pub(super) fn permitted(&mut self, id: super::tree::Id) -> io::Result<()> {
        if self.inode(id)?.denied { Err(error(libc::EACCES)) } else { Ok(()) }
    }
}

pub(super) fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}
