//! Handles on the simulated disk: open files, views of them, locks.
//!
//! Guarantees: an open file stays usable after it was unlinked or renamed. A handle of a dead process, or of a machine that
//! lost its power, changes nothing. A view shows what reads show. Reading it past the end of the file panics where real
//! hardware would raise SIGBUS.

use super::content::{SyncTicket, whole_pages};
use super::faults::{dead, due};
use super::tree::{Id, State, error};
use super::{Shared, SimDisk};
use crate::env::{Access, File, Map, Stat};
use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

/// An open file.
pub struct SimFile {
    pub(super) shared: Arc<Shared>,
    pub(super) id: Id,
    process: Option<u64>,
    boot: u64,
    /// Its lock, if it has one: zero stands for none.
    token: AtomicU64,
}

/// A read-only view of a file.
pub struct SimMap {
    file: SimFile,
    length: usize,
}

/// An advisory lock.
pub struct SimLock {
    shared: Arc<Shared>,
    id: Id,
    token: u64,
}

impl SimFile {
    pub(super) fn new(disk: &SimDisk, state: &mut State, id: Id) -> SimFile {
        if let Some(inode) = state.inodes.get_mut(&id) {
            inode.opens += 1;
        }
        let token = AtomicU64::new(0);
        SimFile { shared: Arc::clone(&disk.shared), id, process: disk.process, boot: state.boot, token }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }

    /// The state, if this handle is still valid.
    fn live(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        if state.boot != self.boot {
            return Err(dead());
        }
        state.alive(self.process)?;
        Ok(state)
    }

    /// Waits as long as the file is where nothing answers.
    fn pass(&self) -> io::Result<()> {
        let takes = self.live()?.file_takes(self.id);
        self.shared.wait(takes.as_nanos() as u64, self.process, Path::new("an open file"))?;
        while self.process.is_some() && self.live()?.file_hangs(self.id) {
            super::super::hanging::wait(Path::new("an open file"))?;
        }
        Ok(())
    }

    fn read(&self, buffer: &mut [u8], offset: u64, nowait: bool) -> io::Result<usize> {
        let mut state = self.live()?;
        let state = &mut *state;
        if state.inode(self.id)?.read_fails {
            return Err(error(libc::EIO));
        }
        if nowait
            && (state.faults.remote || state.file_hangs(self.id) || state.prng.one_in(state.faults.would_block_one_in))
        {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = state.content(self.id)?.read(buffer, offset);
        if nowait && length > 1 && state.prng.one_in(state.faults.short_read_one_in) {
            return Ok(state.prng.between(1, length as u64) as usize);
        }
        Ok(length)
    }

    /// Begins a sync: later writes are not covered by it.
    pub(in super::super) fn begin_sync(&self) -> io::Result<SyncTicket> {
        let mut state = self.live()?;
        state.admit_whole(self.process)?;
        state.note("sync begins", self.id, 0, 0);
        Ok(state.content(self.id)?.begin_sync())
    }

    pub(in super::super) fn finish_sync(&self, begun: io::Result<SyncTicket>) -> io::Result<()> {
        let ticket = begun?;
        let mut state = self.live()?;
        let state = &mut *state;
        let fails = state.inode(self.id)?.syncs_fail;
        let fails = fails.or(due(&mut state.faults.syncs_to_fail).then_some(libc::EIO));
        let failed = fails.is_some();
        state.faults.struck.syncs += u64::from(failed);
        state.note("sync ends", self.id, u64::from(failed), 0);
        // Draws the numbers from a copy, because the content and the state cannot be borrowed at the same time.
        let mut prng = state.prng.clone();
        state.content(self.id)?.finish_sync(ticket, failed, &mut prng);
        state.prng = prng;
        fails.map_or(Ok(()), |number| Err(error(number)))
    }
}

impl File for SimFile {
    fn is_remote(&self) -> bool {
        self.state().faults.remote
    }

    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.read(buffer, offset, true)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.state().may_block(self.process, "read_at");
        self.pass()?;
        self.read(buffer, offset, false)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.live()?;
        let whole = state.admit(self.process)?;
        if due(&mut state.faults.writes_to_fail) {
            state.faults.struck.writes += 1;
            return Err(error(libc::EIO));
        }
        if whole {
            return state.write(self.id, bytes, offset);
        }
        let part = state.prng.below(bytes.len() as u64 + 1) as usize;
        state.write(self.id, &bytes[..part], offset)?;
        Err(dead())
    }

    fn append_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<u64> {
        self.live()?.end_writes(self.id)?;
        for part in parts {
            let end = self.live()?.content(self.id)?.length();
            self.write_at(part, end)?;
        }
        self.live()?.content(self.id).map(|content| content.length())
    }

    fn await_writes(&self) -> io::Result<()> {
        let mut state = self.live()?;
        state.may_block(self.process, "await_writes");
        state.end_writes(self.id)
    }

    fn try_lock(&self) -> io::Result<()> {
        let mut state = self.live()?;
        state.may_block(self.process, "try_lock");
        match state.lock(self.id) {
            _ if self.token.load(Ordering::Relaxed) != 0 => Ok(()),
            Some(token) => {
                self.token.store(token, Ordering::Relaxed);
                Ok(())
            }
            None => Err(io::Error::new(io::ErrorKind::WouldBlock, "another process")),
        }
    }

    fn unlock(&self) {
        self.state().unlock(self.id, self.token.swap(0, Ordering::Relaxed));
    }

    fn set_access(&self, access: Access) -> io::Result<()> {
        let mut state = self.live()?;
        state.may_block(self.process, "set_access");
        state.inode(self.id)?.access = access;
        Ok(())
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let mut state = self.live()?;
        state.may_block(self.process, "allocate");
        state.admit_whole(self.process)?;
        state.note("allocate", self.id, length, 0);
        let old = state.content(self.id)?.length();
        if length <= old {
            return Ok(());
        }
        if !state.faults.allocates {
            return state.write(self.id, &vec![0; (length - old) as usize], old);
        }
        if !state.reserve(self.id, length) {
            return Err(error(libc::ENOSPC));
        }
        state.content(self.id)?.set_length(length);
        state.modified(self.id);
        Ok(())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.live()?;
        state.may_block(self.process, "truncate");
        state.admit_whole(self.process)?;
        state.truncate(self.id, length)
    }

    fn stat(&self) -> io::Result<Stat> {
        let is_remote = self.live()?.faults.remote;
        if is_remote {
            self.state().may_block(self.process, "stat of a remote file");
            self.pass()?;
        }
        self.live()?.stat(self.id)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.may_block(self.process, "sync");
        state.sync_waits += 1;
        drop(state);
        self.finish_sync(self.begin_sync())
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        let mut state = self.state();
        if state.boot != self.boot {
            return;
        }
        state.may_close(self.process, self.id);
        state.unlock(self.id, self.token.load(Ordering::Relaxed));
        if let Some(inode) = state.inodes.get_mut(&self.id) {
            inode.opens -= 1;
        }
        state.release(self.id);
    }
}

impl State {
    /// Takes the lock of a file, unless it is taken. A token is never zero.
    fn lock(&mut self, id: Id) -> Option<u64> {
        if self.locks.contains_key(&id) {
            return None;
        }
        self.last_token += 1;
        self.locks.insert(id, self.last_token);
        Some(self.last_token)
    }

    fn unlock(&mut self, id: Id, token: u64) {
        if self.locks.get(&id) == Some(&token) {
            self.locks.remove(&id);
        }
    }

    /// Ends the writes of other programs to a file that are under way.
    fn end_writes(&mut self, id: Id) -> io::Result<()> {
        let (ending, others) = std::mem::take(&mut self.under_way).into_iter().partition(|(of, _)| *of == id);
        self.under_way = others;
        let ending: Vec<(Id, Vec<u8>)> = ending;
        ending.iter().try_for_each(|(id, rest)| {
            let end = self.content(*id)?.length();
            self.write(*id, rest, end)
        })
    }

    /// Writes as much as fits. Returns ENOSPC if that is not everything.
    pub(super) fn write(&mut self, id: Id, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.note("write", id, offset, bytes.len() as u64);
        self.bring_in(id, offset, bytes.len() as u64);
        let end = offset + bytes.len() as u64;
        if let Some(number) = self.inode(id)?.growth_fails.filter(|_| !bytes.is_empty())
            && end > self.content(id)?.length()
        {
            return Err(error(number));
        }
        let allocated = self.content(id)?.allocated;
        let mut fitting = bytes.len();
        if end > allocated && !self.reserve(id, end) {
            let room = allocated + self.free_bytes() / super::content::PAGE_BYTES * super::content::PAGE_BYTES;
            fitting = room.saturating_sub(offset).min(bytes.len() as u64) as usize;
            if fitting > 0 {
                assert!(self.reserve(id, offset + fitting as u64), "the part that fits was computed from what is free");
            }
        }
        let mut prng = self.prng.clone();
        self.content(id)?.write(&bytes[..fitting], offset, &mut prng);
        self.prng = prng;
        if fitting > 0 {
            self.modified(id);
        }
        if fitting < bytes.len() { Err(error(libc::ENOSPC)) } else { Ok(()) }
    }

    pub(super) fn truncate(&mut self, id: Id, length: u64) -> io::Result<()> {
        self.note("truncate", id, length, 0);
        // Growing creates a hole, which uses no space. But the simulator counts whole files, and therefore reserves it.
        let allocated = self.content(id)?.allocated;
        if (length < self.content(id)?.length() || whole_pages(length) > allocated) && !self.reserve(id, length) {
            return Err(error(libc::ENOSPC));
        }
        self.content(id)?.set_length(length);
        self.modified(id);
        Ok(())
    }
}

impl SimMap {
    pub(super) fn new(file: SimFile, length: usize) -> SimMap {
        SimMap { file, length }
    }

    /// Waits for the pages of a range that are not in memory.
    fn bring_in(&self, offset: usize, length: usize, call: &str) {
        let mut state = self.file.state();
        if state.bring_in(self.file.id, offset as u64, length as u64) {
            state.may_block(self.file.process, call);
        }
    }
}

impl Map for SimMap {
    fn length(&self) -> usize {
        self.length
    }

    fn bytes(&self, offset: usize, length: usize) -> Cow<'_, [u8]> {
        assert!(
            offset.checked_add(length).is_some_and(|end| end <= self.length),
            "read of {length} bytes at {offset} of a view of {} bytes",
            self.length
        );
        let mut bytes = vec![0; length];
        self.bring_in(offset, length, "page fault");
        // A view stays readable while its process dies, but a file never shrinks under it.
        let mut state = self.file.state();
        if state.boot == self.file.boot
            && let Ok(content) = state.content(self.file.id)
        {
            let mapped = whole_pages(content.length()) as usize;
            assert!(offset + length <= mapped, "SIGBUS: read at {offset}+{length}, the file was cut to {mapped}");
            content.read(&mut bytes, offset as u64);
        }
        Cow::Owned(bytes)
    }

    fn is_resident(&self, offset: usize, length: usize) -> bool {
        self.file.state().absent(self.file.id, offset as u64, length as u64).is_empty()
    }

    fn populate(&self, offset: usize, length: usize) {
        self.file.state().may_block(self.file.process, "populate");
        self.bring_in(offset, length, "populate");
    }

    fn release(&self, _offset: usize, _length: usize) {}
}

impl SimLock {
    pub(super) fn take(disk: &SimDisk, state: &mut State, id: Id) -> io::Result<SimLock> {
        let token = state.lock(id).ok_or(io::ErrorKind::WouldBlock)?;
        Ok(SimLock { shared: Arc::clone(&disk.shared), id, token })
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.state().unlock(self.id, self.token);
    }
}
