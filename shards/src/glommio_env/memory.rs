//! File names kept in memory, for a write-ahead log without a disk.
//!
//! Guarantees: the same calls, errors and file type as on a disk. A file exists while it has a name or an open handle. Its
//! bytes are in anonymous files of the kernel, so that reading, writing, mapping and locking use the same code.
//!
//! Does not support links and permissions, and nothing of it survives the process. A relative path starts in a directory that
//! exists, whatever the working directory of the process is.

use super::disk::{RealFile, memory_file};
use crate::env::{DirEntry, File, FileKind, Open, Stat, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Default)]
pub(super) struct MemoryNames {
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    files: BTreeMap<PathBuf, RealFile>,
    directories: BTreeSet<PathBuf>,
}

impl Names {
    fn has_directory(&self, path: &Path) -> bool {
        let begins = path.parent().is_none() || path.as_os_str().is_empty() || path == Path::new(".");
        begins || self.directories.contains(path)
    }

    fn need_parent(&self, path: &Path) -> io::Result<()> {
        match path.parent() {
            Some(parent) if self.has_directory(parent) => Ok(()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn is_empty(&self, directory: &Path) -> bool {
        let inside = |path: &PathBuf| path.parent() == Some(directory);
        !self.files.keys().any(inside) && !self.directories.iter().any(inside)
    }
}

impl MemoryNames {
    fn names(&self) -> MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<RealFile> {
        let mut names = self.names();
        if names.has_directory(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if let Some(file) = names.files.get(path) {
            return file.share();
        }
        if matches!(how, Open::Read | Open::Write) {
            return Err(io::ErrorKind::NotFound.into());
        }
        names.need_parent(path)?;
        let file = memory_file(path)?;
        let shared = file.share()?;
        names.files.insert(path.to_path_buf(), file);
        Ok(shared)
    }

    pub(super) fn stat(&self, path: &Path) -> io::Result<Stat> {
        let names = self.names();
        if let Some(file) = names.files.get(path) {
            return file.stat();
        }
        if !names.has_directory(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let kind = FileKind::Directory;
        let (modified, created) = (Timestamp(0), None);
        Ok(Stat { kind, device: 0, inode: 0, length: 0, modified, created, links: 1, owner: 0, mode: 0o750 })
    }

    pub(super) fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        let names = self.names();
        if !names.has_directory(directory) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let files = names.files.keys().map(|path| (path, false));
        let directories = names.directories.iter().map(|path| (path, true));
        let inside = files.chain(directories).filter(|(path, _)| path.parent() == Some(directory));
        let entries = inside.filter_map(|(path, directory)| {
            path.file_name().map(|name| DirEntry { name: name.to_owned(), directory, link: false, inode: 0 })
        });
        Ok(entries.collect())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        names.need_parent(to)?;
        if names.has_directory(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let file = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_path_buf(), file);
        Ok(())
    }

    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.names().files.remove(path).map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        if !names.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if !names.is_empty(path) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        names.directories.remove(path);
        Ok(())
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut names = self.names();
        for ancestor in path.ancestors() {
            if names.files.contains_key(ancestor) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            if !names.has_directory(ancestor) {
                names.directories.insert(ancestor.to_path_buf());
            }
        }
        Ok(())
    }
}
