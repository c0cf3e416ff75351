//! Descriptors that only point at a file or a directory (`O_PATH`), and the calls that start from one.
//!
//! Guarantees: names are resolved by the kernel in one step (`openat2`), so nothing can be exchanged for a link between a check and
//! the opening. What is opened is what the descriptor points at. A lease never blocks: it is an error.
//!
//! Needs a mounted `/proc`, through which such a descriptor is opened. Does not close on its own thread: these descriptors keep
//! no disk waiting.

use super::disk::{RealDisk, RealFile, counted};
use crate::env::located::{ByPath, Links, Located, rename_if_free, single};
use crate::env::{Access, DirEntry, FileKind, Open, Stat, Timestamp};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// How often a look is repeated that a rename elsewhere has disturbed.
const ATTEMPTS: usize = 64;

/// A file or directory of the kernel, or a name kept in memory.
pub struct RealLocated(Inner);

enum Inner {
    Handle(OwnedFd),
    Memory(ByPath<RealDisk>),
}

impl RealLocated {
    pub(super) fn memory(place: ByPath<RealDisk>) -> RealLocated {
        RealLocated(Inner::Memory(place))
    }

    /// The directory at `path`, whose links are followed.
    pub(super) fn directory(path: &Path) -> io::Result<RealLocated> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        counted(open_at(libc::AT_FDCWD, path, flags, 0)).map(|handle| RealLocated(Inner::Handle(handle)))
    }
}

fn text(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn open_at(directory: RawFd, path: &Path, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let path = text(path)?;
    // SAFETY: the path ends in zero and lives through the call; the rest are numbers.
    let descriptor = unsafe { libc::openat(directory, path.as_ptr(), flags, mode) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Resolves `below` from `directory` in one step.
fn resolve(directory: RawFd, below: &Path, links: Links) -> io::Result<OwnedFd> {
    let path = if below.as_os_str().is_empty() { text(Path::new("."))? } else { text(below)? };
    // SAFETY: an all-zero `open_how` is a valid value of plain numbers.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    how.resolve = libc::RESOLVE_NO_MAGICLINKS
        | match links {
            Links::Refuse => libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS,
            Links::Follow => 0,
        };
    for _ in 0..ATTEMPTS {
        // SAFETY: the path ends in zero, `how` has the size that is passed; both live through the call.
        let descriptor = unsafe {
            libc::syscall(libc::SYS_openat2, directory, path.as_ptr(), &raw const how, std::mem::size_of_val(&how))
        };
        match i32::try_from(descriptor) {
            // SAFETY: the kernel has just created this descriptor, and nothing else owns it.
            Ok(descriptor) if descriptor >= 0 => return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
            _ => match io::Error::last_os_error() {
                error if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
                error => return Err(error),
            },
        }
    }
    Err(io::Error::from_raw_os_error(libc::EAGAIN))
}

/// The metadata of a name, or with an empty one of `directory` itself. Links are not followed.
fn stat_at(directory: RawFd, name: &Path) -> io::Result<Stat> {
    let (name, empty) = (text(name)?, if name.as_os_str().is_empty() { libc::AT_EMPTY_PATH } else { 0 });
    // SAFETY: an all-zero `statx` is a valid value of plain numbers.
    let mut answer: libc::statx = unsafe { std::mem::zeroed() };
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT | empty;
    let wanted = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: the name ends in zero, `answer` is a valid place to write; both live through the call.
    if unsafe { libc::statx(directory, name.as_ptr(), flags, wanted, &mut answer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let nanos = |at: libc::statx_timestamp| {
        Timestamp(at.tv_sec.saturating_mul(1_000_000_000).saturating_add(i64::from(at.tv_nsec)))
    };
    Ok(Stat {
        kind: match u32::from(answer.stx_mode) & libc::S_IFMT {
            libc::S_IFREG => FileKind::Regular,
            libc::S_IFDIR => FileKind::Directory,
            _ => FileKind::Other,
        },
        device: libc::makedev(answer.stx_dev_major, answer.stx_dev_minor),
        inode: answer.stx_ino,
        length: answer.stx_size,
        modified: nanos(answer.stx_mtime),
        created: (answer.stx_mask & libc::STATX_BTIME != 0).then(|| nanos(answer.stx_btime)),
        links: u64::from(answer.stx_nlink),
        owner: answer.stx_uid,
        mode: u32::from(answer.stx_mode) & 0o7777,
    })
}

/// Lets later calls on `file` wait as usual: the flag was only for the opening.
fn may_wait(file: RawFd) -> io::Result<()> {
    // SAFETY: takes a descriptor that is open, and numbers.
    let flags = unsafe { libc::fcntl(file, libc::F_GETFL) };
    // SAFETY: the same.
    if flags < 0 || unsafe { libc::fcntl(file, libc::F_SETFL, flags & !libc::O_NONBLOCK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Renames in one step, if nothing has the new name.
fn rename_at(old: &OwnedFd, from: &CString, new: &OwnedFd, to: &CString) -> io::Result<()> {
    let (old, new, flags) = (old.as_raw_fd(), new.as_raw_fd(), libc::RENAME_NOREPLACE);
    // SAFETY: the names end in zero and live through the call; the descriptors are open.
    let outcome = unsafe { libc::syscall(libc::SYS_renameat2, old, from.as_ptr(), new, to.as_ptr(), flags) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn done(outcome: libc::c_int) -> io::Result<()> {
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name through which the kernel opens what a descriptor points at.
fn behind(handle: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()))
}

/// Opens what a descriptor points at.
fn reopen(handle: &OwnedFd, how: Open) -> io::Result<RealFile> {
    if stat_at(handle.as_raw_fd(), Path::new(""))?.kind != FileKind::Regular {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let mut options = fs::OpenOptions::new();
    options.read(true);
    let path = behind(handle);
    let file = match how {
        Open::Read => match options.custom_flags(flags | libc::O_NOATIME).open(&path) {
            // Only the owner of a file may read it without updating its access time.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => options.custom_flags(flags).open(&path)?,
            other => other?,
        },
        Open::Write | Open::Create | Open::CreatePrivate => options.write(true).custom_flags(flags).open(&path)?,
    };
    if how != Open::Read {
        may_wait(file.as_raw_fd())?;
    }
    Ok(RealFile::new(file, false))
}

/// Opens a regular file for reading and writing, and creates it if it is missing.
fn create_at(directory: &OwnedFd, name: &OsStr, how: Open, unless: i32) -> io::Result<RealFile> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    let mode = super::disk::creation_mode(how);
    let file = open_at(directory.as_raw_fd(), Path::new(single(name)?), flags | unless, mode)?;
    if stat_at(file.as_raw_fd(), Path::new(""))?.kind != FileKind::Regular {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    may_wait(file.as_raw_fd())?;
    Ok(RealFile::new(file.into(), false))
}

impl Located for RealLocated {
    type File = RealFile;

    fn stat(&self) -> io::Result<Stat> {
        match &self.0 {
            Inner::Handle(handle) => stat_at(handle.as_raw_fd(), Path::new("")),
            Inner::Memory(place) => place.stat(),
        }
    }

    fn path(&self) -> io::Result<PathBuf> {
        match &self.0 {
            Inner::Handle(handle) => fs::read_link(behind(handle)),
            Inner::Memory(place) => place.path(),
        }
    }

    fn open(&self, how: Open) -> io::Result<RealFile> {
        match &self.0 {
            Inner::Handle(handle) => counted(reopen(handle, how)),
            Inner::Memory(place) => place.open(how),
        }
    }

    fn locate(&self, below: &Path, links: Links) -> io::Result<RealLocated> {
        match &self.0 {
            Inner::Handle(handle) => {
                counted(resolve(handle.as_raw_fd(), below, links)).map(|found| RealLocated(Inner::Handle(found)))
            }
            Inner::Memory(place) => place.locate(below, links).map(RealLocated::memory),
        }
    }

    fn stat_name(&self, name: &OsStr) -> io::Result<Stat> {
        match &self.0 {
            Inner::Handle(handle) => stat_at(handle.as_raw_fd(), Path::new(single(name)?)),
            Inner::Memory(place) => place.stat_name(name),
        }
    }

    fn list_some(&self, most: usize) -> io::Result<Vec<DirEntry>> {
        match &self.0 {
            Inner::Handle(handle) => super::disk::list(&behind(handle), most),
            Inner::Memory(place) => place.list_some(most),
        }
    }

    fn each(&self, visit: &mut dyn FnMut(DirEntry)) -> io::Result<()> {
        match &self.0 {
            Inner::Handle(handle) => super::disk::each(&behind(handle), usize::MAX, visit),
            Inner::Memory(place) => place.each(visit),
        }
    }

    fn create(&self, name: &OsStr, how: Open) -> io::Result<RealFile> {
        match &self.0 {
            Inner::Handle(handle) => counted(create_at(handle, name, how, libc::O_NOFOLLOW)),
            Inner::Memory(place) => place.create(name, how),
        }
    }

    fn create_new(&self, name: &OsStr, how: Open) -> io::Result<RealFile> {
        match &self.0 {
            Inner::Handle(handle) => counted(create_at(handle, name, how, libc::O_EXCL)),
            Inner::Memory(place) => place.create_new(name, how),
        }
    }

    fn set_access(&self, access: Access) -> io::Result<()> {
        let handle = match &self.0 {
            Inner::Handle(handle) => handle,
            Inner::Memory(place) => return place.set_access(access),
        };
        if access.group.is_some() {
            std::os::unix::fs::chown(behind(handle), None, access.group)?;
        }
        match access.mode {
            Some(mode) => fs::set_permissions(behind(handle), fs::Permissions::from_mode(mode)),
            None => Ok(()),
        }
    }

    fn make_dir(&self, name: &OsStr, mode: u32) -> io::Result<()> {
        let handle = match &self.0 {
            Inner::Handle(handle) => handle,
            Inner::Memory(place) => return place.make_dir(name, mode),
        };
        let name = text(Path::new(single(name)?))?;
        // SAFETY: the name ends in zero and lives through the call; the descriptor is open.
        done(unsafe { libc::mkdirat(handle.as_raw_fd(), name.as_ptr(), mode) })
    }

    fn rename(&self, from: &OsStr, directory: &RealLocated, to: &OsStr) -> io::Result<()> {
        match (&self.0, &directory.0) {
            (Inner::Handle(old), Inner::Handle(new)) => {
                let (from, to) = (text(Path::new(single(from)?))?, text(Path::new(single(to)?))?);
                // SAFETY: the names end in zero and live through the call; the descriptors are open.
                done(unsafe { libc::renameat(old.as_raw_fd(), from.as_ptr(), new.as_raw_fd(), to.as_ptr()) })
            }
            (Inner::Memory(old), Inner::Memory(new)) => old.rename(from, new, to),
            _ => Err(io::Error::from_raw_os_error(libc::EXDEV)),
        }
    }

    fn rename_new(&self, from: &OsStr, directory: &RealLocated, to: &OsStr) -> io::Result<()> {
        let (Inner::Handle(old), Inner::Handle(new)) = (&self.0, &directory.0) else {
            return rename_if_free(self, from, directory, to);
        };
        match rename_at(old, &text(Path::new(single(from)?))?, new, &text(Path::new(single(to)?))?) {
            // The file system cannot do it in one step (NFS), or the kernel.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS)) => {
                rename_if_free(self, from, directory, to)
            }
            outcome => outcome,
        }
    }

    fn remove(&self, name: &OsStr) -> io::Result<()> {
        let handle = match &self.0 {
            Inner::Handle(handle) => handle,
            Inner::Memory(place) => return place.remove(name),
        };
        let name = text(Path::new(single(name)?))?;
        // SAFETY: the name ends in zero and lives through the call; the descriptor is open.
        done(unsafe { libc::unlinkat(handle.as_raw_fd(), name.as_ptr(), 0) })
    }

    fn sync_names(&self) -> io::Result<()> {
        match &self.0 {
            Inner::Handle(handle) => counted(fs::File::open(behind(handle)))?.sync_all(),
            Inner::Memory(place) => place.sync_names(),
        }
    }
}
