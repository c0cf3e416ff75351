//! Error messages for files that cannot be used.
//!
//! Guarantees: each message says what failed, where, why, and what to do. Decides nothing.

use std::io;
use std::path::Path;
use tailwater_shards::env::is_exhausted;

/// The error number of Linux for a symbolic link that is not followed. The standard library has no stable name for it.
const LOOP: i32 = 40;

/// Describes what failed, where, why, and what to do.
pub fn explain(what: &str, path: &Path, error: &io::Error) -> String {
    use io::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => "grant the user that runs tailwater write permission there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "free space there, or lower `rotate.keep`",
        ErrorKind::FileTooLarge => "raise the limit of file sizes (ulimit -f, LimitFSIZE), or lower `rotate.bytes`",
        ErrorKind::ReadOnlyFilesystem => "mount the file system writable, or choose another `path`",
        ErrorKind::WouldBlock => "use separate files for each output and process; retrying",
        ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty if what == "rotate" => {
            "move away what is at the path of the rotated file"
        }
        _ if is_exhausted(error) => {
            "raise the limit of open files (ulimit -n, LimitNOFILE), or lower `max_open_files` of the outputs"
        }
        _ if error.raw_os_error() == Some(LOOP) => {
            return format!(
                "cannot {what} {}: it is a symbolic link, which is not followed; use the path of the file itself, or an output \
                 of type `console` for standard output. Its events wait in the write-ahead log",
                path.display()
            );
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of the path is a file where a directory is needed"
        }
        ErrorKind::IsADirectory | ErrorKind::InvalidInput => "choose a `path` that is a regular file",
        _ => "check the disk, and that the directory exists",
    };
    format!("cannot {what} {}: {error}; {hint}. Its events wait in the write-ahead log", path.display())
}
