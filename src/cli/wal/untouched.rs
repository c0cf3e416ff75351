//! A read-only disk: code that runs on it cannot change anything.

use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{DirEntry, Disk, Open, Stat};
use tailwater_shards::glommio_env::RealDisk;

/// The disk of the machine, without its write operations.
#[derive(Clone)]
pub struct Untouched(pub RealDisk);

fn refused<T>() -> io::Result<T> {
    Err(io::Error::new(io::ErrorKind::PermissionDenied, "this command only reads"))
}

impl Disk for Untouched {
    type File = <RealDisk as Disk>::File;
    type Map = <RealDisk as Disk>::Map;
    type Lock = <RealDisk as Disk>::Lock;
    type Located = <RealDisk as Disk>::Located;

    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File> {
        match how {
            Open::Read | Open::Write => self.0.open(path, Open::Read),
            Open::Create | Open::CreatePrivate => refused(),
        }
    }

    fn directory(&self, _: &Path) -> io::Result<Self::Located> {
        refused()
    }

    fn map(&self, file: &Self::File, length: u64) -> io::Result<Self::Map> {
        self.0.map(file, length)
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        self.0.stat(path)
    }

    fn is_link(&self, path: &Path) -> io::Result<bool> {
        self.0.is_link(path)
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        self.0.group(name)
    }

    fn check_writable(&self, path: &Path) -> io::Result<()> {
        self.0.check_writable(path)
    }

    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        self.0.canonical(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<DirEntry>> {
        self.0.list(directory)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn lock(&self, _: &Path) -> io::Result<Self::Lock> {
        refused()
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.0.free_bytes(path)
    }

    fn exhausted(&self) -> u64 {
        self.0.exhausted()
    }
}
