//! Advisory locks of single files, and who holds them.
//!
//! Guarantees: a lock belongs to the open file description: it goes with the last descriptor of it, is not lost when another
//! descriptor of the same file is closed, stays over a rename, and is not inherited by programs that are started, since
//! descriptors are closed on exec. Only a process that may write to the file can hold it against others: it is a write lock of
//! `fcntl`, which needs a descriptor for writing, and locks for reading are not respected. Another process that asks with flock sees
//! that the file is in use. Never waits for a holder. Does not lock where the server would keep readers away.

use super::disk::file_system;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

/// File systems that make a lock mandatory: nobody else could read the file (SMB, CIFS).
const MANDATORY: [u32; 3] = [0x517b, 0xfe53_4d42, 0xff53_4d42];

/// Takes the lock of a file, or says why not. See [`crate::env::File::try_lock`].
pub(super) fn try_lock(file: &fs::File, is_remote: bool) -> io::Result<()> {
    if file_system(file).is_some_and(|kind| MANDATORY.contains(&kind)) {
        return Err(io::ErrorKind::Unsupported.into());
    }
    match fcntl(file, libc::F_OFD_SETLK, libc::F_WRLCK) {
        Ok(_) => {
            // Only shows that the file is in use, and by whom: whoever may read the file can take it as well. A server may
            // confuse it with the other lock.
            if !is_remote {
                let _ = file.try_lock();
            }
            Ok(())
        }
        Err(error) => match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EACCES) => held(file),
            // A mount without a lock server, or a file system that knows no locks.
            Some(libc::ENOLCK | libc::ENOSYS | libc::EOPNOTSUPP | libc::EINVAL) => {
                Err(io::Error::new(io::ErrorKind::Unsupported, error))
            }
            _ => Err(error),
        },
    }
}

/// Gives back what [`try_lock`] took. What cannot be unlocked is so when it is closed.
pub(super) fn unlock(file: &fs::File) {
    let _ = fcntl(file, libc::F_OFD_SETLK, libc::F_UNLCK);
    let _ = file.unlock();
}

/// The error for a file whose lock is not free.
fn held(file: &fs::File) -> io::Result<()> {
    let found = fcntl(file, libc::F_OFD_GETLK, libc::F_WRLCK)?;
    match libc::c_int::from(found.l_type) {
        libc::F_RDLCK => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("{} has locked it for reading", holder(file, found.l_pid)),
        )),
        // The next attempt takes it if it has become free.
        _ => Err(io::Error::new(io::ErrorKind::WouldBlock, holder(file, found.l_pid))),
    }
}

/// Asks about, takes, or gives back a lock of the whole file.
fn fcntl(file: &fs::File, what: libc::c_int, kind: libc::c_int) -> io::Result<libc::flock> {
    // SAFETY: an all-zero `flock` is a valid value of plain numbers.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    (lock.l_type, lock.l_whence) = (kind as libc::c_short, libc::SEEK_SET as libc::c_short);
    // SAFETY: the descriptor is open; `lock` is a valid place to read and write, and lives through the call.
    match unsafe { libc::fcntl(file.as_raw_fd(), what, &raw mut lock) } {
        0 => Ok(lock),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who holds a lock of a file, in words, as far as the kernel says it: `process` is a positive number if it knows.
fn holder(file: &fs::File, process: libc::pid_t) -> String {
    let inode = file.metadata().map(|metadata| metadata.ino()).unwrap_or_default();
    let locks = || fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = u32::try_from(process).ok().filter(|process| *process > 0);
    match process.or_else(|| locks().lines().find_map(|line| process_of(line, inode))) {
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
    let [_, "FLOCK", _, "WRITE", process, place, ..] = words.as_slice() else { return None };
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
        assert_eq!(process_of("3: FLOCK  ADVISORY  READ 4711 fd:01:1310720 0 EOF", 1_310_720), None);
        assert_eq!(process_of("3: POSIX  ADVISORY  WRITE 4711 fd:01:1310720 0 EOF", 1_310_720), None);
        assert_eq!(process_of("3: FLOCK  ADVISORY  WRITE -1 fd:01:1310720 0 EOF", 1_310_720), None);
        assert_eq!(process_of("3: -> FLOCK  ADVISORY  WRITE 4711 fd:01:1310720 0 EOF", 1_310_720), None);
    }

    #[test]
    fn only_who_may_write_to_a_file_holds_it() {
        let path = std::env::temp_dir().join(format!("tailwater-locks-{}", std::process::id()));
        let ours =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).expect("a file");
        let (writer, reader) =
            (fs::OpenOptions::new().write(true).open(&path), fs::File::open(&path).expect("it is there"));
        let writer = writer.expect("it is there");
        // Neither a lock of flock nor one for reading keeps anybody from writing.
        reader.lock().expect("nobody has it");
        try_lock(&ours, false).expect("a reader keeps nobody away");
        assert_eq!(try_lock(&writer, false).expect_err("it is held").kind(), io::ErrorKind::WouldBlock);
        assert!(fcntl(&reader, libc::F_OFD_SETLK, libc::F_WRLCK).is_err(), "a reader cannot take it");
        unlock(&ours);
        fcntl(&reader, libc::F_OFD_SETLK, libc::F_RDLCK).expect("nobody has it");
        let error = try_lock(&ours, false).expect_err("it cannot be taken");
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(error.to_string().ends_with("has locked it for reading"), "{error}");
        drop(reader);
        try_lock(&writer, false).expect("it is free");
        assert!(try_lock(&ours, false).expect_err("it is held").to_string().contains("this process"));
        fs::remove_file(&path).expect("it is there");
    }
}
