//! The fixed part of a pattern: the directories before its first wildcard, which the administrator named.
//!
//! Guarantees: a symbolic link there is followed if root or the user of this process made it, or if its maker owns the directory
//! that it leads to. So a stranger who may write to one of these directories cannot make the input read what only Tailwater may
//! read. Links are resolved here, one by one, and the path without links that results is opened without passing any.
//!
//! Below `/proc`, where only the kernel makes links, the kernel follows them.

use super::scout::Refusal;
use std::io;
use std::path::{Component, Path, PathBuf};
use tailwater_shards::env::located::{Links, Located, is_link_refused};
use tailwater_shards::env::{Disk, Link};

/// How many links one path may pass, as in the kernel.
const LINKS_MAX: usize = 40;

const KERNELS: &str = "/proc";

/// What `path` leads to, which begins with the directory `base`: links of `base` are followed as the module says, those below as
/// `links` says.
pub fn locate<D: Disk>(disk: &D, base: &Path, path: &Path, links: Links) -> io::Result<D::Located> {
    let below = path.strip_prefix(base).map_err(|_| io::ErrorKind::InvalidInput)?;
    open(disk, base)?.locate(below, links)
}

fn open<D: Disk>(disk: &D, base: &Path) -> io::Result<D::Located> {
    let root = Path::new("/");
    match disk.locate(root, base, Links::Refuse) {
        Err(error) if is_link_refused(&error) && base.starts_with(KERNELS) => disk.directory(base),
        Err(error) if is_link_refused(&error) => disk.locate(root, &resolve(disk, base)?, Links::Refuse),
        found => found,
    }
}

/// The path without links, if all of them are followed.
pub fn resolve<D: Disk>(disk: &D, path: &Path) -> io::Result<PathBuf> {
    if path.starts_with(KERNELS) {
        return disk.canonical(path);
    }
    let mut left = LINKS_MAX;
    let real = walk(disk, PathBuf::from("/"), path, &mut left)?;
    disk.stat(&real).map(|_| real)
}

fn walk<D: Disk>(disk: &D, mut at: PathBuf, path: &Path, left: &mut usize) -> io::Result<PathBuf> {
    for component in path.components() {
        match component {
            Component::RootDir | Component::Prefix(_) => at = PathBuf::from("/"),
            Component::CurDir => {}
            Component::ParentDir => {
                at.pop();
            }
            Component::Normal(name) => {
                let next = at.join(name);
                at = match disk.link(&next)? {
                    None => next,
                    Some(link) => follow(disk, at, next, link, left)?,
                };
            }
        }
    }
    Ok(at)
}

fn follow<D: Disk>(disk: &D, at: PathBuf, name: PathBuf, link: Link, left: &mut usize) -> io::Result<PathBuf> {
    *left = left.checked_sub(1).ok_or_else(|| io::Error::other("too many symbolic links"))?;
    let target = walk(disk, at, &link.target, left)?;
    let is_trusted = link.owner == 0 || link.owner == disk.user();
    match is_trusted || disk.stat(&target)?.owner == link.owner {
        true => Ok(target),
        false => Err(Refusal::Stranger { link: name, owner: link.owner }.into()),
    }
}
