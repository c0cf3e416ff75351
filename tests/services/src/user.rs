//! The user of a server: never root. Root starts it as nobody, with a directory that belongs to nobody, from a place that
//! nobody can read.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// The user of servers if root runs the tests: nobody.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command that runs this program as the server's user.
pub fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]).arg(program);
    command
}

/// Makes the server's user the owner of a path.
pub fn give(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).expect("a new owner");
    }
}

/// The installation itself, or a copy in the server's directory if its user cannot read the first, for example below root's
/// home.
pub fn reachable(home: PathBuf, folder: &Path) -> PathBuf {
    let open = |path: &Path| fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o001 != 0);
    if !is_root() || home.ancestors().all(open) {
        return home;
    }
    let copy = folder.join("home");
    copy_tree(&home, &copy).unwrap_or_else(|error| panic!("{} to {}: {error}", home.display(), copy.display()));
    copy
}

/// Copies a file or a directory, with hard links if both are on one file system.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    if !from.is_dir() {
        return fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(drop));
    }
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        copy_tree(&entry.path(), &to.join(entry.file_name()))?;
    }
    Ok(())
}
