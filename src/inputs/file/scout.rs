//! Looks at what names lead to, and says what may be read of it.
//!
//! Guarantees: everything is judged by what was found, through a descriptor that only points at it, and exactly that is opened
//! later. So nothing is gained by exchanging a file or directory for a link between two looks. A symbolic link below the fixed part
//! of a pattern is refused, or with `follow_links` judged by where it leads: its target must lie below the fixed part of a pattern
//! or below a link target. Whatever is behind a link, however far, is excluded by its real path like any other file. A file with
//! several names is refused where others than its owner and root could have made one of them, and remains so with one name.
//!
//! Links in the fixed part of a pattern are the administrator's, as far as [`super::fixed`] says. Keeps one directory open at a time.

use super::fixed;
use super::identity::Inode;
use super::patience::Steps;
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
    /// The fixed part of its pattern passes a link that a stranger made to something that is not his.
    Stranger {
        /// The link.
        link: PathBuf,
        /// Who owns it.
        owner: u32,
    },
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
                "if only users whom you trust make links there, set `follow_links: true`, and in `link_targets` where they may lead: \
                 whoever makes a link chooses which file is read under its name"
            }
            Refusal::Stranger { .. } => {
                "if it is to be read, name the target of the link in `include`, or let root make the link"
            }
            Refusal::Outside(_) => {
                "if only users whom you trust make links there, add the directory of its target to `link_targets`"
            }
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
            Refusal::Stranger { link, owner } => write!(
                out,
                "{} is a symbolic link of the user with the number {owner} to something that is not his",
                link.display()
            ),
            Refusal::Outside(target) => {
                write!(out, "a symbolic link to {}, outside of the patterns and of `link_targets`", target.display())
            }
            Refusal::Excluded(target) => {
                write!(out, "a symbolic link, or behind one, to {}, which is excluded", target.display())
            }
            Refusal::HardLink(_) => {
                write!(
                    out,
                    "it has or had several names (hard links), and others than its owner can make names in this directory"
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
    let found = fixed::locate(disk, patterns.base_of(path), path, links).map_err(refused)?;
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
    /// Whether that is another path than the one that led here.
    is_behind_link: bool,
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
    /// The directories in exclude patterns that have another path too.
    excluded: OnceCell<Vec<Root>>,
    /// Whether the names of files are judged by the exclude patterns.
    excludes_names: bool,
    /// Where the job says what it looks at next.
    steps: Option<&'a Steps>,
    last: RefCell<Last<D::Located>>,
}

impl<'a, D: Disk> Scout<'a, D> {
    /// Has looked at nothing yet.
    pub fn new(disk: &'a D, patterns: &'a Patterns) -> Scout<'a, D> {
        let (roots, excluded, last) = (OnceCell::new(), OnceCell::new(), RefCell::new(None));
        Scout { disk, patterns, roots, excluded, excludes_names: true, steps: None, last }
    }

    /// For a job that may hang.
    pub fn with_steps(self, steps: &'a Steps) -> Scout<'a, D> {
        Scout { steps: Some(steps), ..self }
    }

    /// The next calls are about this name in this directory, or without a name about the directory itself.
    pub fn step(&self, directory: &Path, name: &OsStr) {
        self.steps.into_iter().for_each(|steps| steps.at(directory, name));
    }

    /// The next call is about the same name.
    pub fn goes_on(&self) {
        self.steps.into_iter().for_each(Steps::goes_on);
    }

    /// For a search of what became of a file that was read: its copies and archives may have names that are excluded. What they are is
    /// shown by their content.
    pub fn for_copies(disk: &'a D, patterns: &'a Patterns) -> Scout<'a, D> {
        Scout { excludes_names: false, ..Scout::new(disk, patterns) }
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
        let handle = fixed::locate(self.disk, base, path, self.links()).map_err(refused)?;
        let (stat, real) = (handle.stat()?, handle.path()?);
        if stat.kind != FileKind::Directory {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let is_behind_link = real != path;
        if is_behind_link && (self.patterns.links.follow || !self.patterns.excludes.are_none()) {
            self.judge(&real)?;
        }
        self.patterns.own.refuse_directory(&real, &stat)?;
        let place = Rc::new(Place { handle, stat, real, is_behind_link });
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
        let path = real.join(name);
        if place.is_behind_link && self.excludes_names && !self.patterns.excludes.are_none() {
            self.judge(&path)?;
        }
        let is_trusted = || {
            let is_owners = directory.owner == 0 || directory.owner == stat.owner;
            is_owners && directory.mode & OTHERS_WRITE == 0
        };
        if self.patterns.links.hard == HardLinks::Trusted && !is_trusted() {
            if stat.links > 1 {
                self.patterns.suspects.note(stat);
            }
            if stat.links > 1 || self.patterns.suspects.has(stat) {
                return Err(Refusal::HardLink(*stat).into());
            }
        }
        self.patterns.own.refuse(&path, stat)
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
        let named = self.excluded.get_or_init(|| {
            self.resolved(self.patterns.excludes.directories().collect(), |path| self.disk.canonical(path))
        });
        let others = self.roots().iter().chain(named).filter(|root| root.written != root.real);
        let excludes = &self.patterns.excludes;
        excludes.match_path(real) || others.filter_map(written).any(|path| excludes.match_path(&path))
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
            // What a stranger's link leads to is no place for other links to lead to.
            self.resolved(bases.chain(targets).collect(), |path| fixed::resolve(self.disk, path))
        })
    }

    fn resolved(&self, mut written: Vec<&PathBuf>, resolve: impl Fn(&Path) -> io::Result<PathBuf>) -> Vec<Root> {
        written.sort_unstable();
        written.dedup();
        let root = |path: &PathBuf| Some(Root { real: resolve(path).ok()?, written: path.clone() });
        written.into_iter().filter_map(root).collect()
    }
}
