//! Looks at what names lead to, and says what may be read of it.
//!
//! Guarantees: everything is judged by what was found, through a descriptor that only points at it, and exactly that is opened
//! later. So nothing is gained by exchanging a file or directory for a link between two looks. A symbolic link below the fixed part
//! of a pattern is refused, or with `follow_links` judged by where it leads: its target must lie below the fixed part of a pattern
//! or below a link target, and is excluded like any other path. A file with several names is refused where others than its owner and
//! root could have made one of them.
//!
//! Links in the fixed part of a pattern are the administrator's and are followed. Keeps one directory open at a time.

use super::identity::Inode;
use super::patterns::{HardLinks, Patterns};
use std::cell::{OnceCell, RefCell};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tailwater_shards::env::located::{Links, Located, is_link_refused};
use tailwater_shards::env::{Disk, FileKind, Open, Stat};

/// Permission bits that let the group or others create names in a directory.
const OTHERS_WRITE: u32 = 0o022;

/// Why a link is not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A symbolic link, or one on the way, and links are not followed.
    Link,
    /// It leads to this path, where links must not lead.
    Outside(PathBuf),
    /// It leads to this path, which is excluded.
    Excluded(PathBuf),
    /// It is this file with several names, and others than its owner could have made one.
    HardLink(Stat),
}

impl Refusal {
    /// The refusal that an error stands for.
    pub fn of(error: &io::Error) -> Option<&Refusal> {
        error.get_ref()?.downcast_ref()
    }

    /// What to do to read it nevertheless.
    pub fn help(&self) -> &'static str {
        match self {
            Refusal::Link => {
                "to read through links, set `follow_links: true`, and in `link_targets` where they may lead"
            }
            Refusal::Outside(_) => "if it is to be read, add the directory of its target to `link_targets`",
            Refusal::Excluded(_) => "if it is to be read, change `exclude`",
            Refusal::HardLink(_) => {
                "if it is to be read, let only its owner write to the directory, or set `hard_links: any`"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Link => write!(out, "a symbolic link, or behind one"),
            Refusal::Outside(target) => {
                write!(out, "a symbolic link to {}, outside of the patterns and of `link_targets`", target.display())
            }
            Refusal::Excluded(target) => write!(out, "a symbolic link to {}, which is excluded", target.display()),
            Refusal::HardLink(_) => {
                write!(
                    out,
                    "it has several names (hard links), and others than its owner can make names in this directory"
                )
            }
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> io::Error {
        io::Error::other(refusal)
    }
}

/// Opens a file that was followed already, if it is still at its path: it was judged when it was found, so its inode is enough.
/// Blocks.
pub fn reopen<D: Disk>(disk: &D, patterns: &Patterns, path: &Path, inode: Inode) -> io::Result<Option<D::File>> {
    let links = if patterns.links.follow { Links::Follow } else { Links::Refuse };
    let found = disk.locate(patterns.base_of(path), path, links).map_err(refused)?;
    if Inode::of(&found.stat()?) != inode {
        return Ok(None);
    }
    found.open(Open::Read).map(Some)
}

fn refused(error: io::Error) -> io::Error {
    if is_link_refused(&error) { Refusal::Link.into() } else { error }
}

/// A directory that may be read.
pub struct Place<L> {
    /// The directory.
    pub handle: L,
    /// Its metadata.
    pub stat: Stat,
    /// Its path without links.
    real: PathBuf,
}

/// Something in a directory that may be read if it is a file.
pub struct Spot<L> {
    /// What was found.
    pub handle: L,
    /// Its metadata.
    pub stat: Stat,
    /// Its path without links, if its name is a symbolic link.
    pub target: Option<PathBuf>,
}

/// A directory below which links may lead.
struct Root {
    written: PathBuf,
    real: PathBuf,
}

/// The last directory: the base from which it was found, its path, and what is there.
type Last<L> = Option<(PathBuf, PathBuf, Rc<Place<L>>)>;

/// See the module. Made for one job, so that what it knows is not old.
pub struct Scout<'a, D: Disk> {
    /// The disk.
    pub disk: &'a D,
    /// What is wanted.
    pub patterns: &'a Patterns,
    roots: OnceCell<Vec<Root>>,
    last: RefCell<Last<D::Located>>,
}

impl<'a, D: Disk> Scout<'a, D> {
    /// Has looked at nothing yet.
    pub fn new(disk: &'a D, patterns: &'a Patterns) -> Scout<'a, D> {
        Scout { disk, patterns, roots: OnceCell::new(), last: RefCell::new(None) }
    }

    fn links(&self) -> Links {
        if self.patterns.links.follow { Links::Follow } else { Links::Refuse }
    }

    /// The directory at `path`. The links of `base`, with which `path` begins, are the administrator's.
    pub fn directory(&self, base: &Path, path: &Path) -> io::Result<Rc<Place<D::Located>>> {
        if let Some((from, to, place)) = &*self.last.borrow()
            && from == base
            && to == path
        {
            return Ok(place.clone());
        }
        let handle = self.disk.locate(base, path, self.links()).map_err(refused)?;
        let (stat, real) = (handle.stat()?, handle.path()?);
        if stat.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if self.patterns.links.follow && real != path {
            self.judge(&real)?;
        }
        self.patterns.own.refuse_directory(&real, &stat)?;
        let place = Rc::new(Place { handle, stat, real });
        *self.last.borrow_mut() = Some((base.to_path_buf(), path.to_path_buf(), place.clone()));
        Ok(place)
    }

    /// What a wanted path leads to.
    pub fn find(&self, path: &Path) -> io::Result<Spot<D::Located>> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        self.find_in(&*self.directory(self.patterns.base_of(path), parent)?, name)
    }

    /// What a name in a directory leads to.
    pub fn find_in(&self, place: &Place<D::Located>, name: &OsStr) -> io::Result<Spot<D::Located>> {
        match place.handle.locate(Path::new(name), Links::Refuse) {
            Ok(handle) => {
                let stat = handle.stat()?;
                self.admit(place, name, &stat)?;
                Ok(Spot { handle, stat, target: None })
            }
            Err(error) if is_link_refused(&error) && self.patterns.links.follow => {
                self.behind(place.handle.locate(Path::new(name), Links::Follow)?)
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Judges what a symbolic link leads to.
    fn behind(&self, handle: D::Located) -> io::Result<Spot<D::Located>> {
        let (stat, real) = (handle.stat()?, handle.path()?);
        self.judge(&real)?;
        if stat.kind == FileKind::Directory {
            self.patterns.own.refuse_directory(&real, &stat)?;
        } else if let (Some(parent), Some(name)) = (real.parent(), real.file_name()) {
            let place = self.real_directory(parent)?;
            // Who can make names there counts only if the target is there.
            let there = place.handle.stat_name(name)?;
            if (there.device, there.inode) != (stat.device, stat.inode) {
                return Err(io::ErrorKind::NotFound.into());
            }
            self.admit(&place, name, &stat)?;
        }
        Ok(Spot { handle, stat, target: Some(real) })
    }

    /// A directory below one of the roots, by a path without links.
    pub fn real_directory(&self, real: &Path) -> io::Result<Rc<Place<D::Located>>> {
        let Some(root) = self.root_of(real) else { return Err(Refusal::Outside(real.to_path_buf()).into()) };
        self.directory(&root.real, real)
    }

    /// Whether a name in a directory, which is no symbolic link, may be read.
    pub fn admit(&self, place: &Place<D::Located>, name: &OsStr, stat: &Stat) -> io::Result<()> {
        if stat.kind != FileKind::Regular {
            return Ok(());
        }
        let Place { stat: directory, real, .. } = place;
        let is_trusted = || {
            let is_owners = directory.owner == 0 || directory.owner == stat.owner;
            is_owners && directory.mode & OTHERS_WRITE == 0
        };
        if stat.links > 1 && self.patterns.links.hard == HardLinks::Trusted && !is_trusted() {
            return Err(Refusal::HardLink(*stat).into());
        }
        self.patterns.own.refuse(&real.join(name), stat)
    }

    /// Whether links may lead to this path, which has none.
    fn judge(&self, real: &Path) -> io::Result<()> {
        let Some(root) = self.root_of(real) else { return Err(Refusal::Outside(real.to_path_buf()).into()) };
        let below = real.ancestors().take_while(|above| *above != root.real);
        if below.into_iter().any(|path| self.is_excluded(path)) {
            return Err(Refusal::Excluded(real.to_path_buf()).into());
        }
        Ok(())
    }

    /// Whether a path without links is excluded, by this name or by one under which a pattern knows it.
    fn is_excluded(&self, real: &Path) -> bool {
        let written = |root: &Root| Some(root.written.join(real.strip_prefix(&root.real).ok()?));
        self.patterns.excludes(real)
            || self.roots().iter().filter_map(written).any(|path| self.patterns.excludes(&path))
    }

    /// The outermost root above a path without links.
    fn root_of(&self, real: &Path) -> Option<&Root> {
        let above = self.roots().iter().filter(|root| real.starts_with(&root.real));
        above.min_by_key(|root| root.real.as_os_str().len())
    }

    fn roots(&self) -> &[Root] {
        self.roots.get_or_init(|| {
            let bases = self.patterns.bases.iter().map(|base| &base.1);
            let targets = self.patterns.links.targets.iter().filter(|_| self.patterns.links.follow);
            let mut written: Vec<&PathBuf> = bases.chain(targets).collect();
            written.sort_unstable();
            written.dedup();
            let root = |path: &PathBuf| Some(Root { real: self.disk.canonical(path).ok()?, written: path.clone() });
            written.into_iter().filter_map(root).collect()
        })
    }
}
