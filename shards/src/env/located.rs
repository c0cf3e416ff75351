//! Files and directories found by names that a stranger may have written.
//!
//! Guarantees: what was found stays what it is, whatever its name is exchanged for later. Looking opens nothing for reading, so a
//! device or a pipe notices nothing. With [`Links::Refuse`], no symbolic link below the first directory is passed, and no name
//! leads out of it.
//!
//! Does not decide who may own what: callers look at [`Located::stat`] and [`Located::path`] before they open.

use super::{Access, DirEntry, Disk, File, FileKind, Open, Stat};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Whether a look below a directory passes symbolic links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Links {
    /// A link anywhere below the directory, or a name that leads out of it, is an error that [`is_link_refused`] knows.
    Refuse,
    /// Links lead anywhere: the caller judges the path of what was found. Links that the kernel makes up (`/proc/self/fd`) are
    /// refused.
    Follow,
}

/// Whether an error means that a symbolic link was met where [`Links::Refuse`] was said, or a name that leads out.
pub fn is_link_refused(error: &io::Error) -> bool {
    // The standard library has no error kinds for these that are stable.
    matches!(error.raw_os_error(), Some(libc::ELOOP | libc::EXDEV))
}

/// A file or directory that was found by its name. All calls may block.
pub trait Located: Sized + Send + 'static {
    /// An open file.
    type File: File;

    /// What it is.
    fn stat(&self) -> io::Result<Stat>;
    /// Where it is now, from the root and without links.
    fn path(&self) -> io::Result<PathBuf>;
    /// Opens it, if it is a regular file: `InvalidInput` otherwise. `WouldBlock` if a lease on it is in the way.
    fn open(&self, how: Open) -> io::Result<Self::File>;

    /// What `below` leads to, from this directory. An empty path is the directory itself.
    fn locate(&self, below: &Path, links: Links) -> io::Result<Self>;
    /// The metadata of a name in this directory, of the link itself if it is one. One system call.
    fn stat_name(&self, name: &OsStr) -> io::Result<Stat>;
    /// The names in this directory, in no order.
    fn list(&self) -> io::Result<Vec<DirEntry>> {
        self.list_some(usize::MAX)
    }
    /// `most` of the names in this directory, in no order. Takes memory for no more.
    fn list_some(&self, most: usize) -> io::Result<Vec<DirEntry>>;
    /// Visits the names in this directory, in no order. On a real disk, only one of them is in memory at a time.
    fn each(&self, visit: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        self.list()?.into_iter().for_each(visit);
        Ok(())
    }
    /// Opens a name in this directory for reading and writing, and creates it if it is missing. A symbolic link is refused, and so
    /// is everything that is not a regular file. `WouldBlock` if a lease on it is in the way.
    fn create(&self, name: &OsStr, how: Open) -> io::Result<Self::File>;
    /// Creates a file in this directory: `AlreadyExists` if the name is there, whatever has it.
    fn create_new(&self, name: &OsStr, how: Open) -> io::Result<Self::File>;
    /// Says who may do what with it.
    fn set_access(&self, access: Access) -> io::Result<()>;
    /// Makes a directory in this one, with these permission bits less the process's mask.
    fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<()>;
    /// Gives a name in this directory to another one, perhaps in another directory, and replaces what has that one.
    fn rename(&self, from: &OsStr, directory: &Self, to: &OsStr) -> io::Result<()>;
    /// The same, but replaces nothing: `AlreadyExists` if something has that name. Where the file system cannot do both in one
    /// step, something may take the name in between.
    fn rename_new(&self, from: &OsStr, directory: &Self, to: &OsStr) -> io::Result<()> {
        rename_if_free(self, from, directory, to)
    }
    /// Removes a name that is no directory from this directory.
    fn remove(&self, name: &OsStr) -> io::Result<()>;
    /// Makes the names in this directory durable.
    fn sync_names(&self) -> io::Result<()>;
}

/// [`Located::rename_new`] in two steps.
pub fn rename_if_free<L: Located>(old: &L, from: &OsStr, new: &L, to: &OsStr) -> io::Result<()> {
    match new.stat_name(to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => old.rename(from, new, to),
        found => found.and(Err(io::ErrorKind::AlreadyExists.into())),
    }
}

/// [`Located`] on a disk that only knows paths. What a name leads to now is compared with what was found at each use: something
/// else is an error.
pub struct ByPath<D> {
    disk: D,
    path: PathBuf,
    found: Stat,
}

impl<D: Disk> ByPath<D> {
    /// The directory at `path`.
    pub fn directory(disk: D, path: &Path) -> io::Result<ByPath<D>> {
        let found = ByPath::new(disk, path.to_path_buf())?;
        match found.found.kind {
            FileKind::Directory => Ok(found),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn new(disk: D, path: PathBuf) -> io::Result<ByPath<D>> {
        let found = disk.stat(&path)?;
        Ok(ByPath { disk, path, found })
    }

    /// The path, if it still leads to what was found.
    fn same(&self) -> io::Result<&Path> {
        let now = self.disk.stat(&self.path)?;
        let is_same = (now.device, now.inode, now.created) == (self.found.device, self.found.inode, self.found.created);
        if is_same { Ok(&self.path) } else { Err(io::Error::from_raw_os_error(libc::ESTALE)) }
    }

    fn named(&self, name: &OsStr) -> io::Result<PathBuf> {
        Ok(self.same()?.join(single(name)?))
    }
}

/// A name of one component that does not lead out of its directory.
pub fn single(name: &OsStr) -> io::Result<&OsStr> {
    let mut parts = Path::new(name).components();
    match (parts.next(), parts.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(name),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    }
}

impl<D: Disk> Located for ByPath<D> {
    type File = D::File;

    fn stat(&self) -> io::Result<Stat> {
        self.disk.stat(self.same()?)
    }

    fn path(&self) -> io::Result<PathBuf> {
        self.disk.canonical(self.same()?)
    }

    fn open(&self, how: Open) -> io::Result<D::File> {
        match self.found.kind {
            FileKind::Regular => self.disk.open(self.same()?, how),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn locate(&self, below: &Path, links: Links) -> io::Result<ByPath<D>> {
        let mut path = self.same()?.to_path_buf();
        for component in below.components() {
            match (component, links) {
                (Component::CurDir, _) => continue,
                (Component::Normal(_), Links::Refuse) => {
                    path.push(component);
                    if self.disk.is_link(&path)? {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                }
                (_, Links::Refuse) => return Err(io::Error::from_raw_os_error(libc::EXDEV)),
                (_, Links::Follow) => path.push(component),
            }
        }
        ByPath::new(self.disk.clone(), path)
    }

    fn stat_name(&self, name: &OsStr) -> io::Result<Stat> {
        let path = self.named(name)?;
        let is_link = self.disk.is_link(&path)?;
        match self.disk.stat(&path) {
            Ok(stat) if is_link => Ok(Stat { kind: FileKind::Other, ..stat }),
            other => other,
        }
    }

    fn list_some(&self, most: usize) -> io::Result<Vec<DirEntry>> {
        let mut names = self.disk.list(self.same()?)?;
        names.truncate(most);
        Ok(names)
    }

    fn create(&self, name: &OsStr, how: Open) -> io::Result<D::File> {
        let path = self.named(name)?;
        let file = self.disk.open(&path, if how == Open::CreatePrivate { how } else { Open::Create })?;
        match file.stat()?.kind {
            FileKind::Regular => Ok(file),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn create_new(&self, name: &OsStr, how: Open) -> io::Result<D::File> {
        match self.disk.is_link(&self.named(name)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create(name, how),
            found => found.and(Err(io::ErrorKind::AlreadyExists.into())),
        }
    }

    fn set_access(&self, access: Access) -> io::Result<()> {
        self.disk.open(self.same()?, Open::Read)?.set_access(access)
    }

    fn make_dir(&self, name: &OsStr, _mode: u32) -> io::Result<()> {
        let path = self.named(name)?;
        match self.disk.stat(&path) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => self.disk.create_dir_all(&path),
        }
    }

    fn rename(&self, from: &OsStr, directory: &ByPath<D>, to: &OsStr) -> io::Result<()> {
        self.disk.rename(&self.named(from)?, &directory.named(to)?)
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        self.disk.remove(&self.named(name)?)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_dir(self.same()?)
    }
}
