//! Advisory locks of single files, and who holds them.
//!
//! Guarantees: a lock belongs to the open file description: it goes with the last descriptor of it, is not lost when another
//! descriptor of the same file is closed, stays over a rename, and is not inherited by programs that are started, since
//! descriptors are closed on exec. Another process that asks with flock sees it. Never waits for a holder. Does not lock where
//! the server would keep readers away.

use super::disk::file_system;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// File systems that make a lock mandatory: nobody else could read the file (SMB, CIFS).
const MANDATORY: [u32; 3] = [0x517b, 0xfe53_4d42, 0xff53_4d42];

/// Takes the lock of a file, or says why not. See [`crate::env::File::try_lock`].
pub(super) fn try_lock(file: &fs::File) -> io::Result<()> {
    if file_system(file).is_some_and(|kind| MANDATORY.contains(&kind)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::WouldBlock, holder(file))),
        // A mount without a lock server, or a file system that knows no locks.
        Err(fs::TryLockError::Error(error)) => match error.raw_os_error() {
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, error))
            }
            _ => Err(error),
        },
    }
}

/// Who holds the lock of a file, in words, as far as the kernel says it.
fn holder(file: &fs::File) -> String {
    let inode = file.metadata().map(|metadata| metadata.ino()).unwrap_or_default();
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    match locks.lines().find_map(|line| process_of(line, inode)) {
        Some(process) if process == std::process::id() => "this process".to_owned(),
        Some(process) => {
            let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
            match name.trim() {
                "" => format!("process {process}"),
                name => format!("process {process} ({name})"),
            }
        }
        None => "another process".to_owned(),
    }
}

/// The process of a line of `/proc/locks`, if it is about this inode: `1: FLOCK ADVISORY WRITE 4711 fd:01:1310 0 EOF`.
fn process_of(line: &str, inode: u64) -> Option<u32> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, "FLOCK", _, _, process, place, ..] = words.as_slice() else { return None };
    let is_it = place.rsplit(':').next().and_then(|number| number.parse().ok()) == Some(inode);
    // Zero or less stands for a process that is not seen from here.
    process.parse().ok().filter(|process| is_it && *process > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holder_is_read_from_what_the_kernel_says() {
        let line = "3: FLOCK  ADVISORY  WRITE 4711 fd:01:1310720 0 EOF";
        assert_eq!(process_of(line, 1_310_720), Some(4711));
        assert_eq!(process_of(line, 1_310_721), None);
        assert_eq!(process_of("3: POSIX  ADVISORY  WRITE 4711 fd:01:1310720 0 EOF", 1_310_720), None);
        assert_eq!(process_of("3: FLOCK  ADVISORY  WRITE -1 fd:01:1310720 0 EOF", 1_310_720), None);
        assert_eq!(process_of("3: -> FLOCK  ADVISORY  WRITE 4711 fd:01:1310720 0 EOF", 1_310_720), None);
    }
}
