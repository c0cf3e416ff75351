//! Files and directories of the real machine.
//!
//! Guarantees: descriptors are closed on exec and never become a controlling terminal. Opening for reading never blocks on a
//! named pipe, and does not change access times where that is permitted. Creating never follows a symbolic link as last
//! component. A full disk is an error of [`File::allocate`], never a signal later. Errors are those of the kernel, unchanged,
//! so that the caller can distinguish a full disk from a broken one.
//!
//! [`RealDisk::memory`] keeps names and bytes in memory, with the same file type. Syncing them does nothing.
//!
//! Has no retries and no timeouts: a call on a dead network mount blocks as long as the kernel does.

mod facts;
mod syncs;

use super::located::RealLocated;
use super::locks;
use super::{kernel_error, map::RealMap, memory::MemoryNames};
use crate::env::located::ByPath;
use crate::env::{Access, DirEntry, Disk, File, Link, Open, Stat, is_exhausted};
pub(super) use facts::file_system;
use facts::{available_memory, free_bytes, group_number, is_remote, stat_of};
use glommio::io::BufferedFile;
use std::ffi::CString;
use std::fs;
use std::future::Future;
use std::io::{self, IoSlice};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, DirEntryExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Maximum parts of one write. The kernel accepts at most 1,024.
const PARTS_MAX: usize = 64;

/// Zeros per write where space is reserved by writing zeros.
const FILL_BYTES: usize = 256 * 1024;

/// The owner may read and write, the group may read: logs may contain what their sources keep from other users.
const FILE_MODE: u32 = 0o640;

/// Only the owner reads and writes.
const FILE_MODE_PRIVATE: u32 = 0o600;

/// The same for directories.
const DIRECTORY_MODE: u32 = 0o750;

/// Calls that found no descriptor left. Descriptors belong to the process, not to one disk.
static EXHAUSTED: AtomicU64 = AtomicU64::new(0);

/// Counts a call that found no descriptor left.
pub(super) fn counted<T>(result: io::Result<T>) -> io::Result<T> {
    if result.as_ref().is_err_and(is_exhausted) {
        EXHAUSTED.fetch_add(1, Ordering::Relaxed);
    }
    result
}

/// Files of the kernel, or names kept in memory. See the module documentation.
#[derive(Clone, Default)]
pub struct RealDisk {
    memory: Option<Arc<MemoryNames>>,
}

impl RealDisk {
    /// The machine's file systems.
    pub fn new() -> RealDisk {
        RealDisk::default()
    }

    /// An empty disk in memory. Clones share it. It is gone with the last clone and its open files.
    pub fn memory() -> RealDisk {
        RealDisk { memory: Some(Arc::new(MemoryNames::default())) }
    }
}

/// An open file.
pub struct RealFile {
    file: fs::File,
    /// The file system has no non-blocking reads.
    nowait_unknown: AtomicBool,
    /// In memory: there is nothing to make durable, and no read waits.
    volatile: bool,
    remote: bool,
}

impl RealFile {
    pub(super) fn new(file: fs::File, volatile: bool) -> RealFile {
        let remote = !volatile && is_remote(&file);
        RealFile { file, nowait_unknown: AtomicBool::new(false), volatile, remote }
    }

    /// Its descriptor, for tests.
    #[cfg(test)]
    pub(super) fn descriptor(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }

    pub(super) fn share(&self) -> io::Result<RealFile> {
        Ok(RealFile::new(self.file.try_clone()?, self.volatile))
    }
}

/// A new anonymous file of the kernel, named after `path` in mappings.
pub(super) fn memory_file(path: &Path) -> io::Result<RealFile> {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the name ends in zero. At most 249 bytes are allowed, and longer names are refused with an error.
    let descriptor = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(RealFile::new(unsafe { fs::File::from_raw_fd(descriptor) }, true))
}

/// Holds an advisory lock until it is dropped.
pub struct RealLock {
    _file: fs::File,
}

impl Disk for RealDisk {
    type File = RealFile;
    type Map = RealMap;
    type Lock = RealLock;
    type Located = RealLocated;

    fn open(&self, path: &Path, how: Open) -> io::Result<RealFile> {
        if let Some(memory) = &self.memory {
            return counted(memory.open(path, how));
        }
        let mut options = fs::OpenOptions::new();
        options.read(true);
        let file = match how {
            Open::Read => {
                let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
                match options.custom_flags(flags | libc::O_NOATIME).open(path) {
                    // Only the owner of a file may read it without updating its access time.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => options.custom_flags(flags).open(path),
                    other => other,
                }
            }
            Open::Write => options.write(true).custom_flags(libc::O_NOCTTY).open(path),
            Open::Create | Open::CreatePrivate => {
                let flags = libc::O_NOCTTY | libc::O_NOFOLLOW;
                options.write(true).create(true).mode(creation_mode(how)).custom_flags(flags).open(path)
            }
        };
        counted(file).map(|file| RealFile::new(file, false))
    }

    fn directory(&self, path: &Path) -> io::Result<RealLocated> {
        match &self.memory {
            Some(_) => ByPath::directory(self.clone(), path).map(RealLocated::memory),
            None => RealLocated::directory(path),
        }
    }

    fn map(&self, file: &RealFile, length: u64) -> io::Result<RealMap> {
        RealMap::new(&file.file, length)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        match &self.memory {
            Some(memory) => memory.stat(path),
            None => Ok(stat_of(&fs::metadata(path)?)),
        }
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        match &self.memory {
            Some(memory) => memory.stat(path).map(|_| false),
            None => Ok(fs::symlink_metadata(path)?.is_symlink()),
        }
    }

    fn link(&self, path: &Path) -> io::Result<Option<Link>> {
        if self.memory.is_some() {
            return Ok(None);
        }
        let found = fs::symlink_metadata(path)?;
        match found.is_symlink() {
            true => Ok(Some(Link { target: fs::read_link(path)?, owner: found.uid() })),
            false => Ok(None),
        }
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        group_number(name)
    }

    fn user(&self) -> u32 {
        // SAFETY: takes nothing, returns a number, and cannot fail.
        unsafe { libc::geteuid() }
    }

    fn check_writable(&self, path: &Path) -> io::Result<()> {
        if let Some(memory) = &self.memory {
            return memory.stat(path).map(drop);
        }
        let directory = fs::metadata(path)?.is_dir();
        let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let rights = libc::W_OK | if directory { libc::X_OK } else { 0 };
        // SAFETY: the name ends in zero and lives through the call, which writes nothing.
        match unsafe { libc::faccessat(libc::AT_FDCWD, name.as_ptr(), rights, libc::AT_EACCESS) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        match &self.memory {
            Some(memory) => memory.stat(path).map(|_| path.to_path_buf()),
            None => fs::canonicalize(path),
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        match &self.memory {
            Some(memory) => memory.list(directory),
            None => list(directory, usize::MAX),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        match &self.memory {
            Some(memory) => memory.rename(from, to),
            None => fs::rename(from, to),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match &self.memory {
            Some(memory) => memory.remove(path),
            None => fs::remove_file(path),
        }
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        match &self.memory {
            Some(memory) => memory.remove_dir(path),
            None => fs::remove_dir(path),
        }
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        match &self.memory {
            Some(memory) => memory.create_dir_all(path),
            None => fs::DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path),
        }
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        match &self.memory {
            Some(memory) => memory.stat(directory).map(drop),
            None => counted(fs::File::open(directory))?.sync_all(),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<RealLock> {
        let mut file = self.open(path, Open::CreatePrivate)?.file;
        match self.memory.is_some() {
            // Handles of one name share their lock. A newly opened handle has its own, as on a disk.
            true => file = fs::File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))?,
            false => self.keep_from_others(&file),
        }
        // SAFETY: takes a descriptor that `file` keeps open.
        let outcome = unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if outcome == 0 { Ok(RealLock { _file: file }) } else { Err(io::Error::last_os_error()) }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        match &self.memory {
            Some(_) => available_memory(),
            None => free_bytes(path),
        }
    }

    fn sync_files(&self, files: &[Arc<RealFile>]) -> Vec<io::Result<()>> {
        match &self.memory {
            Some(_) => files.iter().map(|file| file.sync()).collect(),
            None => syncs::together(files),
        }
    }

    fn exhausted(&self) -> u64 {
        EXHAUSTED.load(Ordering::Relaxed)
    }

    fn boot(&self) -> io::Result<Option<u128>> {
        match counted(fs::read_to_string("/proc/sys/kernel/random/boot_id")) {
            Ok(text) => Ok(u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()),
            Err(error) if is_exhausted(&error) => Err(error),
            // A container without /proc.
            Err(_) => Ok(None),
        }
    }
}

impl File for RealFile {
    fn is_remote(&self) -> bool {
        self.remote
    }

    fn read_nowait(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.volatile {
            return File::read_at(self, buffer, offset);
        }
        if self.nowait_unknown.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let offset_signed = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        loop {
            // SAFETY: `part` describes `buffer`, which is borrowed for the call; the descriptor is open.
            let got = unsafe { libc::preadv2(self.file.as_raw_fd(), &part, 1, offset_signed, libc::RWF_NOWAIT) };
            if got >= 0 {
                return Ok(got as usize);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                // Such a file system may always wait, so its reads run where blocking is allowed.
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => {
                    self.nowait_unknown.store(true, Ordering::Relaxed);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                _ => return Err(error),
            }
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn write_parts_at(&self, parts: &[IoSlice<'_>], mut offset: u64) -> io::Result<()> {
        for parts in parts.chunks(PARTS_MAX) {
            let bytes: usize = parts.iter().map(|part| part.len()).sum();
            let start = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
            // SAFETY: an `IoSlice` is an `iovec`; the parts are borrowed for the call, and the descriptor is open.
            let done = unsafe {
                libc::pwritev(self.file.as_raw_fd(), parts.as_ptr().cast(), parts.len() as libc::c_int, start)
            };
            // After a failure or a short write, writes the parts one by one: that returns the error, or continues.
            let mut skip = usize::try_from(done).unwrap_or(0);
            let mut at = offset + skip as u64;
            for part in if skip < bytes { parts } else { &[] } {
                let rest = &part[skip.min(part.len())..];
                skip -= part.len() - rest.len();
                self.write_at(rest, at)?;
                at += rest.len() as u64;
            }
            offset += bytes as u64;
        }
        Ok(())
    }

    fn append_parts(&self, parts: &[IoSlice<'_>]) -> io::Result<u64> {
        for parts in parts.chunks(PARTS_MAX) {
            let mut left: usize = parts.iter().map(|part| part.len()).sum();
            let mut rest: Vec<IoSlice<'_>>;
            let mut now = parts;
            while left > 0 {
                // SAFETY: an `IoSlice` is an `iovec`; the parts are borrowed for the call, and the descriptor is open.
                let done = unsafe {
                    libc::pwritev2(
                        self.file.as_raw_fd(),
                        now.as_ptr().cast(),
                        now.len() as libc::c_int,
                        // The descriptor's own position, which follows what was appended.
                        -1,
                        libc::RWF_APPEND,
                    )
                };
                match usize::try_from(done) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(done) => left -= done,
                    Err(_) => match io::Error::last_os_error() {
                        error if error.kind() == io::ErrorKind::Interrupted => {}
                        error => return Err(error),
                    },
                }
                rest = behind(parts, left);
                now = &rest;
            }
        }
        position(&self.file)
    }

    fn await_writes(&self) -> io::Result<()> {
        // The kernel lets one write at a time into a file, and this one too waits for its turn.
        io::Write::write(&mut &self.file, &[])?;
        // XFS has nothing to wait for where nothing is written, but no read runs beside a write.
        self.file.read_at(&mut [0], 0).map(drop)
    }

    fn try_lock(&self) -> io::Result<()> {
        match self.volatile {
            true => Ok(()),
            false => locks::try_lock(&self.file, self.remote),
        }
    }

    fn unlock(&self) {
        locks::unlock(&self.file);
    }

    fn set_access(&self, access: Access) -> io::Result<()> {
        if access.group.is_some() {
            std::os::unix::fs::fchown(&self.file, None, access.group)?;
        }
        match access.mode {
            Some(mode) => self.file.set_permissions(fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    fn allocate(&self, length: u64) -> io::Result<()> {
        let length = i64::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        loop {
            // SAFETY: takes a descriptor that is open, and numbers.
            if unsafe { libc::fallocate(self.file.as_raw_fd(), 0, 0, length) } == 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EOPNOTSUPP | libc::ENOSYS) => return fill_holes(&self.file, length as u64),
                _ => return Err(error),
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn stat(&self) -> io::Result<Stat> {
        Ok(stat_of(&self.file.metadata()?))
    }

    fn next_data(&self, offset: u64) -> io::Result<Option<u64>> {
        let signed = i64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: takes a descriptor that is open, and numbers. It moves the descriptor's own position, which nobody uses.
        let found = unsafe { libc::lseek64(self.file.as_raw_fd(), signed, libc::SEEK_DATA) };
        match u64::try_from(found) {
            Ok(found) => Ok(Some(found)),
            Err(_) => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENXIO) => Ok(None),
                error => Err(error),
            },
        }
    }

    fn sync(&self) -> io::Result<()> {
        if self.volatile { Ok(()) } else { self.file.sync_data() }
    }
}

impl RealDisk {
    /// Withdraws all permissions of others to a file of this user. Whoever can open it, if only for reading, can hold its lock.
    fn keep_from_others(&self, file: &fs::File) {
        let found = file.metadata().ok().filter(|found| found.uid() == self.user() && found.mode() & 0o077 != 0);
        if found.is_some() {
            // A file system without permissions keeps nobody away.
            let _ = file.set_permissions(fs::Permissions::from_mode(FILE_MODE_PRIVATE));
        }
    }
}

/// Permission bits of a file that is made.
pub(super) fn creation_mode(how: Open) -> u32 {
    if how == Open::CreatePrivate { FILE_MODE_PRIVATE } else { FILE_MODE }
}

/// `most` of the names in a directory.
pub(super) fn list(directory: &Path, most: usize) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    each(directory, most, &mut |entry| entries.push(entry))?;
    Ok(entries)
}

/// Visits `most` of the names in a directory.
pub(super) fn each(directory: &Path, most: usize, visit: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
    for entry in counted(fs::read_dir(directory))?.take(most) {
        let entry = entry?;
        let (directory, link) = match entry.file_type() {
            Ok(kind) => (kind.is_dir(), kind.is_symlink()),
            // Deleted between listing and stat, on file systems that store no type beside the name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        visit(DirEntry { name: entry.file_name(), directory, link, inode: entry.ino() });
    }
    Ok(())
}

/// The last `left` bytes of `parts`.
fn behind<'a>(parts: &'a [IoSlice<'_>], mut left: usize) -> Vec<IoSlice<'a>> {
    let mut last = Vec::new();
    for part in parts.iter().rev() {
        if left == 0 {
            break;
        }
        let count = part.len().min(left);
        last.push(IoSlice::new(&part[part.len() - count..]));
        left -= count;
    }
    last.reverse();
    last
}

/// Where the descriptor's own position is.
fn position(mut file: &fs::File) -> io::Result<u64> {
    io::Seek::stream_position(&mut file)
}

/// Reserves space if the file system has no call for it: writes zeros after the end, and to blocks that may be holes, so that a
/// full disk is detected now.
fn fill_holes(file: &fs::File, length: u64) -> io::Result<()> {
    let (block, zeros) = (file.metadata()?.blksize().max(512), vec![0; FILL_BYTES]);
    let end = file.metadata()?.len().min(length);
    // Rewriting one byte of each block unchanged allocates blocks for holes and changes nothing.
    for at in (0..end).step_by(block as usize) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at)?;
        file.write_all_at(&byte, at)?;
    }
    let mut at = end;
    while at < length {
        let part = (length - at).min(FILL_BYTES as u64);
        file.write_all_at(&zeros[..part as usize], at)?;
        at += part;
    }
    // Some file systems allocate the space only at writeback.
    file.sync_data()
}

/// Makes the file durable with an io_uring request of the executor that polls this.
pub(super) fn sync_through_ring(file: Arc<RealFile>) -> impl Future<Output = io::Result<()>> + 'static {
    let mut hold = Hold { file: Some(file) };
    async move {
        let outcome = match &hold.file {
            Some(file) if !file.volatile => {
                // SAFETY: the descriptor is open, and stays so until this ends: `hold` keeps the file.
                let borrowed = unsafe { BufferedFile::from_raw_fd(file.file.as_raw_fd()) };
                // It does not own the descriptor, so it must not close it.
                ManuallyDrop::new(borrowed).fdatasync().await.map_err(kernel_error)
            }
            _ => Ok(()),
        };
        drop(hold.file.take());
        outcome
    }
}

/// Keeps the file of a running sync open. If the sync is abandoned, the file stays open permanently: its number may wait in the
/// ring, and must not refer to another file.
struct Hold {
    file: Option<Arc<RealFile>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        std::mem::forget(self.file.take());
    }
}
