//! Where the files of an output are: below the fixed directory of its path, which the administrator names. Whoever may write
//! below it is a stranger.
//!
//! Guarantees: links lead anywhere in the fixed directory's own path, and nowhere below it. Each call resolves a name once and
//! works with what it found, so an exchange of names between two steps of a call changes nothing. Opens regular files only, and
//! neither a pipe, nor a device, nor a lease makes it wait. What is created is new: permissions are never set on a file that was
//! there.
//!
//! Does not look at who owns a file or how many names it has: [`super::hold`] does, when the file is open.

mod probe;

use super::judge::Writers;
use super::words::Link;
use super::*;
use std::ffi::OsString;
use tailwater_shards::env::located::{Links, Located, is_link_refused};

/// Permissions of new directories, less the process's mask: as for files, others do not read what may be secret.
const DIRECTORY_MODE: u32 = 0o750;

/// How often an open is repeated while somebody removes and creates the file.
const EXCHANGES_MAX: usize = 8;

/// See the module.
pub(super) struct Places<D: Disk> {
    disk: D,
    fixed: PathBuf,
    probe: probe::Probe,
}

/// A name in a directory that was found.
pub(super) struct Place<D: Disk> {
    pub(super) directory: D::Located,
    pub(super) name: OsString,
}

/// Whether an error means that nothing of this output can be at a path.
pub(super) fn is_gone(error: &io::Error) -> bool {
    is_refused(error) || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Whether an error is a link that was not followed.
pub(super) fn is_refused(error: &io::Error) -> bool {
    is_link_refused(error) || error.get_ref().is_some_and(|inner| inner.is::<Link>())
}

/// The permissions of a directory in which files with these can be used by whoever may use the files.
fn of_directory(access: Access) -> Access {
    Access { mode: access.mode.map(|mode| mode | (mode & 0o444) >> 2), ..access }
}

impl<D: Disk> Place<D> {
    /// Where it is, without links.
    pub(super) fn path(&self) -> io::Result<PathBuf> {
        Ok(self.directory.path()?.join(&self.name))
    }
}

impl<D: Disk> Places<D> {
    /// The places below `fixed`, for the output `name`.
    pub(super) fn new(disk: D, fixed: PathBuf, claims: Arc<Claims>, name: Arc<str>) -> Places<D> {
        Places { disk, fixed, probe: probe::Probe::new(claims, name) }
    }

    /// From where on links are refused on the way to `path`. An earlier configuration may have written elsewhere: then it is where
    /// both ways part.
    fn base<'a>(&self, path: &'a Path) -> &'a Path {
        path.ancestors().find(|above| self.fixed.starts_with(above)).unwrap_or(path)
    }

    /// Whether the fixed directory is there. Otherwise no event is to blame.
    pub(super) fn is_ready(&self) -> bool {
        self.disk.directory(&self.fixed).is_ok()
    }

    /// A directory of this output.
    pub(super) fn directory(&self, directory: &Path) -> io::Result<D::Located> {
        let found = self.disk.locate(self.base(directory), directory, Links::Refuse);
        found.map_err(|error| self.naming_link(directory, true, error))
    }

    /// The directory of a file, and its name there.
    pub(super) fn place(&self, path: &Path) -> io::Result<Place<D>> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        Ok(Place { directory: self.directory(parent(path))?, name })
    }

    /// What has this name: a link is what it is, not what it leads to.
    pub(super) fn stat(&self, path: &Path) -> io::Result<Stat> {
        let place = self.place(path)?;
        place.directory.stat_name(&place.name)
    }

    /// Who can write to a file besides this process.
    pub(super) fn writers(&self, stat: &Stat) -> Writers {
        Writers::of(stat, self.disk.user())
    }

    /// Whether others can write to the file at a path, or to a directory below the fixed one on the way to it.
    pub(super) fn is_among_others(&self, path: &Path) -> bool {
        self.tree_of_others(path).is_some()
    }

    /// The first of the directories below the fixed one on the way to a path, or the file itself, that others can write to. They can
    /// make any number of files and directories in it, but no further tree.
    pub(super) fn tree_of_others<'a>(&self, path: &'a Path) -> Option<&'a Path> {
        let base = self.base(path);
        let mut below: Vec<&Path> = path.ancestors().take_while(|above| *above != base).collect();
        below.reverse();
        below.into_iter().find(|at| {
            let Ok(place) = self.place(at) else { return false };
            match place.directory.stat_name(&place.name) {
                Ok(stat) => self.writers(&stat) != Writers::Nobody,
                // The directory can be searched, so what is in it refuses even root: a file system that a user mounted (FUSE).
                Err(error) => {
                    let here = || place.directory.locate(Path::new("."), Links::Refuse);
                    error.kind() == io::ErrorKind::PermissionDenied && here().is_ok()
                }
            }
        })
    }

    /// Whether a file is at its path.
    pub(super) fn is_at(&self, path: &Path, identity: &Identity) -> io::Result<bool> {
        self.stat(path).map(|stat| (stat.device, stat.inode) == (identity.device, identity.inode))
    }

    /// What has this name, if it is no link.
    pub(super) fn find(&self, path: &Path) -> io::Result<D::Located> {
        self.find_at(&self.place(path)?, path)
    }

    fn find_at(&self, place: &Place<D>, path: &Path) -> io::Result<D::Located> {
        let found = place.directory.locate(Path::new(&place.name), Links::Refuse);
        found.map_err(|error| self.naming_link(path, false, error))
    }

    /// Opens a file that exists.
    pub(super) fn open(&self, path: &Path, how: Open) -> io::Result<D::File> {
        self.open_at(&self.place(path)?, path, how)
    }

    fn open_at(&self, place: &Place<D>, path: &Path, how: Open) -> io::Result<D::File> {
        let found = self.find_at(place, path)?;
        match found.stat()?.kind {
            FileKind::Regular => {}
            FileKind::Directory => return Err(io::ErrorKind::IsADirectory.into()),
            FileKind::Other => return Err(words::unusable("it is a named pipe, a socket or a device")),
        }
        found.open(how).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => hold::held("another process, through a lease (fcntl F_SETLEASE),"),
            _ => error,
        })
    }

    /// Opens the file at `place`, which is that of `path`, for writing, and creates it with this `access` if it is missing.
    pub(super) fn open_or_create(&self, place: &Place<D>, path: &Path, access: Access) -> io::Result<D::File> {
        for _ in 0..EXCHANGES_MAX {
            let opened = match self.open_at(place, path, Open::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => create(place, access),
                opened => opened,
            };
            match opened {
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
                opened => return opened,
            }
        }
        Err(io::Error::new(io::ErrorKind::WouldBlock, "it is being replaced"))
    }

    /// Makes the missing parts of a directory, and returns the directories with entries that are not durable.
    pub(super) fn make_directories(&self, directory: &Path, access: Access) -> io::Result<BTreeSet<PathBuf>> {
        let mut touched = BTreeSet::from([directory.to_owned()]);
        let mut missing = Vec::new();
        let mut found = None;
        for above in directory.ancestors() {
            touched.insert(above.to_owned());
            match self.directory(above) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(above),
                other => {
                    found = Some(other?);
                    break;
                }
            }
        }
        let mut at = found.ok_or(io::ErrorKind::NotFound)?;
        let access = of_directory(access);
        for path in missing.into_iter().rev() {
            let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
            let is_new = match at.make_dir(name, DIRECTORY_MODE) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
                made => made.map(|()| true)?,
            };
            at = at.locate(Path::new(name), Links::Refuse).map_err(|error| self.naming_link(path, true, error))?;
            if is_new && access != Access::default() {
                at.set_access(access).map_err(|error| cannot_set(&error))?;
            }
        }
        Ok(touched)
    }

    /// Makes the content of files durable, and returns the results in their order.
    pub(super) fn sync_files(&self, files: &[Arc<D::File>]) -> Vec<io::Result<()>> {
        self.disk.sync_files(files)
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_names(&self, directory: &Path) -> io::Result<()> {
        self.directory(directory)?.sync_names()
    }

    /// Names the link on the way to `path`, a directory or a file, that was refused.
    fn naming_link(&self, path: &Path, is_directory: bool, error: io::Error) -> io::Error {
        if !is_link_refused(&error) {
            return error;
        }
        let base = self.base(path);
        let mut parts: Vec<&Path> = path.ancestors().take_while(|above| *above != base).collect();
        parts.reverse();
        let is_link =
            |part: &&Path| self.disk.locate(base, part, Links::Refuse).is_err_and(|error| is_link_refused(&error));
        let at = parts.iter().copied().find(is_link).unwrap_or(path);
        let is_directory = is_directory || at != path;
        words::link(Link { at: at.to_owned(), base: base.to_owned(), is_directory })
    }
}

/// Creates a file that is not there, with its permissions.
fn create<D: Disk>(place: &Place<D>, access: Access) -> io::Result<D::File> {
    if access == Access::default() {
        return place.directory.create_new(&place.name, Open::Create);
    }
    let file = place.directory.create_new(&place.name, Open::CreatePrivate)?;
    if let Err(error) = file.set_access(access) {
        // Otherwise the next attempt would find the file and keep its permissions, as if someone had chosen them.
        if file.stat().is_ok_and(|stat| stat.length == 0) {
            let _ = place.directory.remove(&place.name);
        }
        return Err(cannot_set(&error));
    }
    Ok(file)
}

fn cannot_set(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), words::Setting(format!("its `mode` or `group` cannot be set: {error}")))
}
