//! What the system knows of files: metadata, groups, free space, and whether a file system may not answer.
//!
//! Guarantees: changes nothing. Errors are those of the kernel, unchanged. Any call may block.
//!
//! Does not follow names by itself: what is asked is an open file, a path that the caller chose, or the machine.

use crate::env::{FileKind, Stat, Timestamp};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// Longest answer of the system about a group.
const GROUP_BYTES: usize = 64 * 1024;

/// Asks the system, which may ask a directory server.
pub(super) fn group_number(name: &str) -> io::Result<Option<u32>> {
    let name = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut room = vec![0u8; GROUP_BYTES];
    // SAFETY: an all-zero `group` is a valid value of numbers and null pointers.
    let mut group: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: the name ends in zero; `group`, `room` and `found` are valid places to write for the call, `room` of the length told.
    let code = unsafe { libc::getgrnam_r(name.as_ptr(), &mut group, room.as_mut_ptr().cast(), room.len(), &mut found) };
    match code {
        0 => Ok((!found.is_null()).then_some(group.gr_gid)),
        // Some systems say so of a group that there is none of.
        libc::ENOENT | libc::ESRCH => Ok(None),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// File systems that depend on a server or a program that may not answer: NFS, SMB, CIFS, FUSE, 9P, Ceph, AFS, Lustre, Coda.
const REMOTE: [u32; 10] = [
    0x6969,
    0x517b,
    0xfe53_4d42,
    0xff53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x00c3_6400,
    0x5346_414f,
    0x0bd0_0bd3,
    0x7375_7245,
];

/// Whether a file is on one of them.
pub(super) fn is_remote(file: &fs::File) -> bool {
    file_system(file).is_some_and(|kind| REMOTE.contains(&kind))
}

/// The kernel's number of the kind of file system that a file lies on.
pub(in super::super) fn file_system(file: &fs::File) -> Option<u32> {
    // SAFETY: an all-zero `statfs` is a valid value of plain numbers.
    let mut answer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open, `answer` is a valid place to write.
    let known = unsafe { libc::fstatfs(file.as_raw_fd(), &mut answer) } == 0;
    known.then_some(answer.f_type as u32)
}

/// The metadata of a file, as the type of the interface.
pub(super) fn stat_of(metadata: &fs::Metadata) -> Stat {
    let kind = if metadata.is_file() {
        FileKind::Regular
    } else if metadata.is_dir() {
        FileKind::Directory
    } else {
        FileKind::Other
    };
    Stat {
        kind,
        device: metadata.dev(),
        inode: metadata.ino(),
        length: metadata.len(),
        modified: Timestamp(metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec())),
        created: metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map(nanos_of),
        links: metadata.nlink(),
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
    }
}

fn nanos_of(since_epoch: Duration) -> Timestamp {
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
}

pub(super) fn free_bytes(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: an all-zero `statvfs` is a valid value of plain numbers.
    let mut answer: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends in zero, `answer` is a valid place to write.
    if unsafe { libc::statvfs(path.as_ptr(), &mut answer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

pub(super) fn available_memory() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.map(|value| value * 1024).ok_or_else(|| io::ErrorKind::Unsupported.into())
}
