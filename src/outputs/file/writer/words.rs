//! Error messages for files that cannot be used.
//!
//! Guarantees: each message says what failed, where, why, and what to do. Decides only whether the cause lies in the path itself.

use super::places::is_refused;
use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::is_exhausted;

/// What to do if no descriptor is left.
const NO_DESCRIPTORS: &str =
    "raise the limit of open files (ulimit -n, LimitNOFILE), or lower `max_open_files` of the outputs";

/// An error together with the path that it is about.
#[derive(Debug)]
struct Named {
    text: String,
    is_exhausted: bool,
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Named {}

/// Adds the path to an error.
pub(super) fn naming(path: &Path, error: io::Error) -> io::Error {
    let text = format!("{}: {error}", path.display());
    io::Error::new(error.kind(), Named { text, is_exhausted: is_exhausted(&error) })
}

/// A symbolic link that was not followed.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) at: PathBuf,
    /// The directory up to which links are followed.
    pub(super) base: PathBuf,
    /// It is where a directory of the path should be.
    pub(super) is_directory: bool,
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (at, base) = (self.at.display(), self.base.display());
        match self.is_directory {
            true => write!(f, "its directory {at} is a symbolic link, which is not followed below {base}"),
            false => f.write_str("it is a symbolic link, which is not followed"),
        }
    }
}

impl std::error::Error for Link {}

/// The error for a link.
pub(super) fn link(link: Link) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, link)
}

/// What to do about a link.
fn instead_of(link: &Link) -> &'static str {
    match link.is_directory {
        true => "mount its target there (`mount --bind`), or name its target in `path`",
        false => "use the path of the file itself, or an output of type `console` for standard output",
    }
}

/// Something that is no file of this output and does not become one by itself.
#[derive(Debug)]
struct Unusable(String);

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unusable {}

/// A setting that the process has no right to apply.
#[derive(Debug)]
pub(super) struct Setting(pub(super) String);

impl std::fmt::Display for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Setting {}

/// The error for something that no file can be written at.
pub(super) fn unusable(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, Unusable(why.into()))
}

/// Whether an error lies in the path: it lasts until somebody changes what is there, and other paths are not affected.
pub(super) fn is_of_path(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, IsADirectory, NotADirectory};
    match error.get_ref() {
        Some(inner) => inner.is::<Link>() || inner.is::<Unusable>(),
        None => is_refused(error) || matches!(error.kind(), InvalidFilename | IsADirectory | NotADirectory),
    }
}

/// What to do if files cannot be restored.
pub fn advice(error: &io::Error) -> &'static str {
    let named = error.get_ref().and_then(|inner| inner.downcast_ref::<Named>());
    match error.kind() {
        io::ErrorKind::WouldBlock => "use separate files for each output and process; retrying",
        _ if is_exhausted(error) || named.is_some_and(|named| named.is_exhausted) => NO_DESCRIPTORS,
        _ => "check the disk, and the permissions of its directories and of the data directory",
    }
}

/// Describes what failed, where, why, and what to do.
pub fn explain(what: &str, path: &Path, error: &io::Error) -> String {
    use io::ErrorKind;
    let link = error.get_ref().and_then(|inner| inner.downcast_ref::<Link>());
    let hint = match error.kind() {
        _ if let Some(link) = link => instead_of(link),
        ErrorKind::PermissionDenied => "grant the user that runs tailwater write permission there",
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "free space there, or keep fewer or smaller files (`rotate`)"
        }
        ErrorKind::FileTooLarge => "raise the limit of file sizes (ulimit -f, LimitFSIZE), or lower `rotate.bytes`",
        ErrorKind::ReadOnlyFilesystem => "mount the file system writable, or choose another `path`",
        ErrorKind::WouldBlock => "use separate files for each output and process; retrying",
        ErrorKind::IsADirectory | ErrorKind::DirectoryNotEmpty | ErrorKind::ResourceBusy if what == "rotate" => {
            "move away what is at the path of the rotated file"
        }
        _ if is_exhausted(error) => NO_DESCRIPTORS,
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            "a part of the path is a file where a directory is needed"
        }
        ErrorKind::IsADirectory | ErrorKind::InvalidInput => "choose a `path` that is a regular file",
        _ => "check the disk, and that the directory exists",
    };
    format!("cannot {what} {}: {error}; {hint}. Its events wait in the write-ahead log", path.display())
}

/// Why the events of a path, whose file has this `owner`, are dead letters after a failure to `what` it, and what to do.
pub(super) fn refusal(what: &str, path: &Path, owner: Option<u32>, error: &io::Error) -> String {
    let shown = path.display();
    let link = error.get_ref().and_then(|inner| inner.downcast_ref::<Link>());
    match is_of_path(error) {
        true => {
            let next = link.map_or("move away what is there, or choose another `path`", instead_of);
            format!("cannot create a file at {shown}: {error}; {next}")
        }
        false => {
            let owner =
                owner.map_or(String::new(), |owner| format!(" (the file belongs to the user with the number {owner})"));
            format!("cannot {what} {shown}: {error}; others can write there{owner}: take that right from them")
        }
    }
}

/// Why the events of a path are dead letters whose file cannot be rotated, because something has the name of a rotated one.
pub(super) fn blocked(path: &Path, error: &io::Error) -> String {
    format!("cannot rotate {}: {error}; move away what is at the path of the rotated file", path.display())
}

/// Why the events of a path are dead letters that somebody keeps changing.
pub(super) fn barred(path: &Path) -> String {
    format!(
        "cannot write to {}: other programs changed or removed it, or files beside it, too often while they were written; take the \
         right to write there from them",
        path.display()
    )
}
