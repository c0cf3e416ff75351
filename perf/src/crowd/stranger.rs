//! The user who makes very many files and directories.
//!
//! Guarantees: with root's rights, everything is made with the rights of `nobody`, by threads that have no other. Names are long, so
//! that their positions use more than the least room.

use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

/// The user `nobody` and his group.
const NOBODY: u32 = 65_534;
/// Bytes of a name before its number.
const NAME: usize = 200;

/// Gives a directory to the stranger. Returns it opened: he need not be able to reach it by its path.
pub(super) fn give(directory: &Path) -> Result<File, String> {
    let fail = |error: io::Error| format!("{}: {error}", directory.display());
    if geteuid().is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).map_err(fail)?;
    }
    File::open(directory).map_err(fail)
}

/// Makes files with a line each.
pub(super) fn make_files(crowd: &File, files: u64) -> Result<(), String> {
    as_stranger(crowd, |crowd| (0..files).try_for_each(|number| fs::write(crowd.join(name(number)), line(number))))
}

/// Makes directories with a file each, and a line in it.
pub(super) fn make_directories(crowd: &File, directories: u64) -> Result<(), String> {
    as_stranger(crowd, |crowd| {
        let above = crowd.join("directories");
        fs::create_dir(&above)?;
        (0..directories).try_for_each(|number| {
            let directory = above.join(name(number));
            fs::create_dir(&directory)?;
            fs::write(directory.join("a.log"), line(number))
        })
    })
}

/// Gives files another name.
pub(super) fn rename(crowd: &File, files: u64) -> Result<(), String> {
    as_stranger(crowd, |crowd| {
        (0..files)
            .try_for_each(|number| fs::rename(crowd.join(name(number)), crowd.join(format!("renamed-{number}.log"))))
    })
}

/// Deletes everything.
pub(super) fn delete(crowd: &File) -> Result<(), String> {
    as_stranger(crowd, |crowd| {
        for entry in fs::read_dir(crowd)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => fs::remove_dir_all(entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    })
}

/// Runs on a thread of its own, whose rights end with it.
fn as_stranger(crowd: &File, work: impl FnOnce(&Path) -> io::Result<()> + Send) -> Result<(), String> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", crowd.as_raw_fd()));
    let worker = move || {
        if geteuid().is_root() {
            // They return the earlier value, also if they fail: files that belong to root show it.
            setfsgid(Gid::from_raw(NOBODY));
            setfsuid(Uid::from_raw(NOBODY));
        }
        work(&path).map_err(|error| format!("the files of the crowd: {error}"))
    };
    std::thread::scope(|scope| scope.spawn(worker).join()).map_err(|_| "the stranger failed".to_owned())?
}

fn name(number: u64) -> String {
    format!("{}{number}.log", "n".repeat(NAME))
}

fn line(number: u64) -> String {
    format!("line of file {number}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_the_stranger_makes_belongs_to_him_wherever_it_is() {
        // Nobody but its owner may search the directory above it.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let crowd = give(folder.path()).expect("given");
        make_files(&crowd, 3).expect("files");
        make_directories(&crowd, 2).expect("directories");
        rename(&crowd, 1).expect("renamed");
        let renamed = fs::metadata(folder.path().join("renamed-0.log")).expect("it is there");
        let owner = if geteuid().is_root() { NOBODY } else { geteuid().as_raw() };
        assert_eq!(renamed.uid(), owner);
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 4);
        delete(&crowd).expect("deleted");
        assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 0);
    }
}
