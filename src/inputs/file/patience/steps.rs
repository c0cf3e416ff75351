//! Where a job is that may hang.
//!
//! Guarantees: another thread can ask at any time. Saying it allocates only if the directory is another one.

use super::lock;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Where a job is.
#[derive(Default)]
pub struct Steps(Mutex<At>);

#[derive(Default)]
struct At {
    count: u64,
    directory: PathBuf,
    name: OsString,
}

impl Steps {
    /// The next call is about this name in this directory; without a name, about the directory itself.
    pub fn at(&self, directory: &Path, name: &OsStr) {
        let mut at = lock(&self.0);
        at.count += 1;
        if at.directory != directory {
            at.directory = directory.to_path_buf();
        }
        at.name.clear();
        at.name.push(name);
    }

    /// The next call is about this path.
    pub fn at_path(&self, path: &Path) {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.at(parent, name),
            _ => self.at(path, OsStr::new("")),
        }
    }

    /// A call about the current name is over, and another one follows.
    pub fn goes_on(&self) {
        lock(&self.0).count += 1;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        lock(&self.0).count
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        let at = lock(&self.0);
        if at.name.is_empty() { at.directory.clone() } else { at.directory.join(&at.name) }
    }
}
