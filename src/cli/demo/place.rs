//! The directory of the demo.
//!
//! Guarantees: it is new, and only its owner can look into it. A file, directory or link that another user has put in its place is
//! never used: creating it fails where something exists, and the next attempt has another name that nobody can predict.

use anyhow::Context;
use std::fs::DirBuilder;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Only the owner reads, writes and enters.
const MODE: u32 = 0o700;

/// Names that are tried before the demo gives up.
const ATTEMPTS: usize = 16;

/// Creates the directory below `parent`.
pub fn create(parent: &Path) -> anyhow::Result<PathBuf> {
    let names = || format!("tailwater-demo-{:012x}", RandomState::new().build_hasher().finish() >> 16);
    first_new(parent, names).with_context(|| {
        format!("cannot create a directory in {}: set TMPDIR to a directory that you can write to", parent.display())
    })
}

/// The first of the names that does not exist yet, as a new directory.
fn first_new(parent: &Path, mut name: impl FnMut() -> String) -> io::Result<PathBuf> {
    let mut builder = DirBuilder::new();
    builder.mode(MODE);
    for _ in 0..ATTEMPTS {
        let path = parent.join(name());
        match builder.create(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn directory_is_new_private_and_unpredictable() {
        let parent = tempfile::tempdir().expect("a directory");
        let one = create(parent.path()).expect("the first");
        let two = create(parent.path()).expect("the second");
        assert_ne!(one, two);
        assert_eq!(fs::metadata(&one).expect("made").permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn what_others_have_put_there_is_never_used() {
        let parent = tempfile::tempdir().expect("a directory");
        let target = parent.path().join("target");
        fs::create_dir(&target).expect("made");
        symlink(&target, parent.path().join("link")).expect("made");
        symlink(parent.path().join("nowhere"), parent.path().join("dangling")).expect("made");
        fs::write(parent.path().join("file"), "theirs").expect("written");
        let mut names = ["target", "link", "dangling", "file", "free"].into_iter().map(str::to_owned);
        let made = first_new(parent.path(), || names.next().expect("a name")).expect("made");
        assert_eq!(made, parent.path().join("free"));
        assert!(!parent.path().join("nowhere").exists());
        let error = first_new(parent.path(), || "link".to_owned()).expect_err("it exists");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read_dir(&target).expect("theirs").count(), 0);
    }
}
