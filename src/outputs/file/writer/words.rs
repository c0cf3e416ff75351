//! What is said when a file cannot be had.
//!
//! Guarantees: each text has what, where, why, and what to do. Decides nothing.

use std::io;
use std::path::Path;
use tailwater_shards::env::is_exhausted;

/// What Linux says of a symbolic link that is not followed; the standard library has no stable name for it.
const LOOP: i32 = 40;

/// What, where, why, and what to do.
pub fn explain(what: &str, path: &Path, error: &io::Error) -> String {
    use io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "give the user that runs tailwater the right to write there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space there, or let `rotate` keep less",
        ErrorKind::FileTooLarge => {
            "raise the limit of file sizes (ulimit -f, LimitFSIZE), or let `rotate` begin a new file earlier"
        }
        ErrorKind::ReadOnlyFilesystem => "mount the file system writable, or choose another `path`",
        ErrorKind::WouldBlock => "give each output, and each process, files of its own; it is asked for again",
        ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty if what == "rotate" => {
            "move away what is in the place of the rotated file"
        }
        _ if is_exhausted(error) => {
            "raise the limit of open files (ulimit -n, LimitNOFILE), or lower `max_open_files` of the outputs"
        }
        _ if error.raw_os_error() == Some(LOOP) => {
            "the path ends in a symbolic link, which is refused: name the file itself"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of the path is a file where a directory is needed"
        }
        ErrorKind::IsADirectory | ErrorKind::InvalidInput => "choose a `path` that is a regular file",
        _ => "check the disk, and that the directory exists",
    };
    format!("cannot {what} {}: {error}; {hint}. Its events wait in the log", path.display())
}
