//! Finds files: compiles the globs and lists the directories that may hold matches.
//!
//! Guarantees: a directory is listed again if its modification time changed, and for some time after a change, because the
//! clock behind that time is coarse. Symbolic links are followed, but not in a cycle. Listing runs where blocking is allowed.
//! Does not open files and keeps no state: the home shard does.

use super::identity::Inode;
use super::own::Own;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::HashSet;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use tailwater_shards::env::{Disk, FileKind, Stat, Timestamp};

/// Maximum number of directories that one input scans.
pub const DIRECTORIES_MAX: usize = 10_000;

/// A directory that changed less than this before it was listed is listed again: a later change may not alter its
/// modification time.
const SETTLED_NANOS: i64 = 2_000_000_000;

/// The compiled globs of an input.
pub struct Patterns {
    include: GlobSet,
    exclude: GlobSet,
    /// Directories that may hold matches.
    directories: GlobSet,
    /// For each include pattern: its text and the directory where the search begins.
    pub bases: Vec<(String, PathBuf)>,
    own: Own,
}

/// Checks whether a glob is valid. Returns the reason if it is not.
pub fn check_glob(glob: &str) -> Result<(), String> {
    if glob.is_empty() {
        return Err("an empty pattern matches nothing".to_owned());
    }
    compile(glob).map(|_| ())
}

fn compile(glob: &str) -> Result<globset::Glob, String> {
    let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
    built.map_err(|error| format!("{glob:?} is not a valid glob: {}", error.kind()))
}

fn is_literal(part: &str) -> bool {
    !part.contains(['*', '?', '[', '{', '\\'])
}

/// An absolute form of a glob; `base` is the start of relative ones.
fn absolute(glob: &str, base: &Path) -> String {
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    let base = globset::escape(base.to_string_lossy().trim_end_matches('/'));
    format!("{base}/{}", glob.trim_start_matches("./"))
}

impl Patterns {
    /// Compiles the globs; relative ones begin at `base`.
    pub fn new(include: &[String], exclude: &[String], base: &Path) -> Result<Patterns, String> {
        let (mut files, mut directories, mut excluded) =
            (GlobSetBuilder::new(), GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut bases = Vec::new();
        for glob in include {
            let glob = absolute(glob, base);
            files.add(compile(&glob)?);
            bases.push((glob.clone(), add_directories(&glob, &mut directories)?));
        }
        for glob in exclude {
            excluded.add(compile(&absolute(glob, base))?);
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| error.to_string());
        Ok(Patterns {
            include: build(&files)?,
            exclude: build(&excluded)?,
            directories: build(&directories)?,
            bases,
            own: Own::default(),
        })
    }

    /// The same patterns without the files that this input's own outputs write.
    pub fn without_own(self, own: Own) -> Patterns {
        Patterns { own, ..self }
    }

    /// Whether a path is excluded.
    pub fn excludes(&self, path: &Path) -> bool {
        self.exclude.is_match(path)
    }

    /// Whether a file with this path is wanted.
    pub fn wants_file(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.exclude.is_match(path)
    }

    /// Whether a directory with this path may hold wanted files.
    pub fn wants_directory(&self, path: &Path) -> bool {
        self.directories.is_match(path) && !self.exclude.is_match(path)
    }

    /// Whether pattern number `index` matches a path.
    pub fn matches(&self, index: usize, path: &Path) -> bool {
        self.include.matches(path).contains(&index)
    }
}

/// Adds the globs of the directories on the way to the files of `glob`, and returns where the search begins.
fn add_directories(glob: &str, directories: &mut GlobSetBuilder) -> Result<PathBuf, String> {
    let parts: Vec<&str> = glob.split('/').skip(1).collect();
    let parents = &parts[..parts.len().saturating_sub(1)];
    let literal = parents.iter().take_while(|part| is_literal(part)).count();
    let base = PathBuf::from(format!("/{}", parents[..literal].join("/")));
    let mut prefix = String::new();
    for part in parents {
        // Alternatives may contain separators. Then every directory below may hold matches, as with `**`.
        let open = part.matches('{').count() != part.matches('}').count();
        if *part == "**" || open {
            directories.add(compile(&format!("{prefix}/**"))?);
            break;
        }
        prefix = format!("{prefix}/{part}");
        directories.add(compile(&prefix)?);
    }
    Ok(base)
}

/// Shows whether a directory has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    inode: Inode,
    modified: Timestamp,
    /// Whether the modification time was old enough to be trusted.
    settled: bool,
}

impl Stamp {
    /// The same stamp, but the directory is listed again whatever its modification time is.
    pub fn unsettled(self) -> Stamp {
        Stamp { settled: false, ..self }
    }

    /// Whether this is the stamp of the directory with this inode.
    pub fn is(&self, inode: Inode) -> bool {
        self.inode == inode
    }

    /// Whether the directory had not changed for a while.
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Whether both are stamps of the same directory.
    pub fn is_same_directory(&self, other: &Stamp) -> bool {
        other.is(self.inode)
    }
}

/// A request to check one directory.
pub struct Request {
    /// The directory.
    pub directory: PathBuf,
    /// The stamp of the last check; none to list the directory in any case.
    pub stamp: Option<Stamp>,
    /// Names to check even if the directory is unchanged: links, names that failed before, names from watch events.
    pub names: HashSet<OsString>,
    /// If set, only `names` and names that are not in this set are checked.
    pub known: Option<HashSet<OsString>>,
}

/// A wanted name in a directory.
pub struct Entry {
    /// The name.
    pub name: OsString,
    /// The target of a symbolic link.
    pub target: Option<PathBuf>,
    /// The metadata of the file it leads to.
    pub stat: io::Result<Stat>,
}

/// The result of checking a directory.
pub enum Found {
    /// The directory does not exist.
    Missing,
    /// It cannot be read.
    Failed(io::Error),
    /// It has not changed; only the requested names were checked.
    Same(Vec<Entry>),
    /// The directory was listed.
    Listed {
        /// The stamp from just before it was listed.
        stamp: Stamp,
        /// All wanted names in it.
        present: HashSet<OsString>,
        /// The names that were checked.
        entries: Vec<Entry>,
        /// Subdirectories that may hold matches; with the inode if it is a link.
        directories: Vec<(PathBuf, Option<Inode>)>,
    },
}

/// Checks directories. Blocks.
pub fn look<D: Disk>(disk: &D, patterns: &Patterns, requests: &[Request], wall: Timestamp) -> Vec<Found> {
    requests.iter().map(|request| look_at(disk, patterns, request, wall)).collect()
}

fn look_at<D: Disk>(disk: &D, patterns: &Patterns, request: &Request, wall: Timestamp) -> Found {
    let stat = match disk.stat(&request.directory) {
        Ok(stat) if stat.kind == FileKind::Directory => stat,
        Ok(_) => return Found::Missing,
        Err(error) if is_absent(&error) => return Found::Missing,
        Err(error) => return Found::Failed(error),
    };
    let settled = wall.0.saturating_sub(stat.modified.0) > SETTLED_NANOS;
    let stamp = Stamp { inode: Inode::of(&stat), modified: stat.modified, settled };
    if request.known.is_none() && request.stamp.is_some_and(|last| last.settled && last == stamp) {
        let entries = request.names.iter().map(|name| entry(disk, patterns, &request.directory, name.clone(), true));
        return Found::Same(entries.collect());
    }
    match disk.list(&request.directory) {
        Ok(names) => listed(disk, patterns, request, stamp, names),
        Err(error) if is_absent(&error) => Found::Missing,
        Err(error) => Found::Failed(error),
    }
}

fn listed<D: Disk>(
    disk: &D,
    patterns: &Patterns,
    request: &Request,
    stamp: Stamp,
    names: Vec<tailwater_shards::env::DirEntry>,
) -> Found {
    let (mut present, mut entries, mut directories) = (HashSet::new(), Vec::new(), Vec::new());
    for found in names {
        let path = request.directory.join(&found.name);
        if found.directory || found.link && patterns.wants_directory(&path) {
            let stat = if found.link { disk.stat(&path).ok() } else { None };
            let is_directory = found.directory || stat.is_some_and(|stat| stat.kind == FileKind::Directory);
            if is_directory {
                if patterns.wants_directory(&path) {
                    directories.push((path, stat.map(|stat| Inode::of(&stat))));
                }
                continue;
            }
        }
        if patterns.wants_file(&path) {
            let skip = request.known.as_ref().is_some_and(|known| known.contains(&found.name));
            if !skip || request.names.contains(&found.name) {
                entries.push(entry(disk, patterns, &request.directory, found.name.clone(), found.link));
            }
            present.insert(found.name);
        }
    }
    Found::Listed { stamp, present, entries, directories }
}

fn entry<D: Disk>(disk: &D, patterns: &Patterns, directory: &Path, name: OsString, link: bool) -> Entry {
    let path = directory.join(&name);
    let target = if link { disk.canonical(&path).ok().filter(|target| *target != path) } else { None };
    let stat = disk.stat(&path).and_then(|stat| {
        patterns.own.refuse(target.as_deref().unwrap_or(&path), &stat)?;
        Ok(stat)
    });
    Entry { stat, name, target }
}

/// Whether an error means that the path does not exist.
pub fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
        let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
        Patterns::new(&owned(include), &owned(exclude), Path::new("/work")).expect("valid globs")
    }

    #[test]
    fn globs_select_files() {
        let patterns = patterns(&["/var/log/*.log", "/srv/**/out.txt", "here/*"], &["/var/log/debug*"]);
        for (path, wanted) in [
            ("/var/log/a.log", true),
            ("/var/log/debug.log", false),
            ("/var/log/sub/a.log", false),
            ("/srv/out.txt", true),
            ("/srv/a/b/out.txt", true),
            ("/work/here/x", true),
            ("/elsewhere/here/x", false),
        ] {
            assert_eq!(patterns.wants_file(Path::new(path)), wanted, "{path}");
        }
    }

    #[test]
    fn only_directories_that_may_hold_matches_are_entered() {
        let patterns = patterns(&["/var/log/*/app/*.log", "/srv/**/x", "/a/{b,c/d}/e"], &[]);
        for (path, wanted) in [
            ("/var/log/one", true),
            ("/var/log/one/app", true),
            ("/var/log/one/other", false),
            ("/var/log/one/app/deeper", false),
            ("/srv/any/depth", true),
            ("/home", false),
            ("/a/c/d", true),
        ] {
            assert_eq!(patterns.wants_directory(Path::new(path)), wanted, "{path}");
        }
        let bases: Vec<&Path> = patterns.bases.iter().map(|base| base.1.as_path()).collect();
        assert_eq!(bases, [Path::new("/var/log"), Path::new("/srv"), Path::new("/a")]);
    }

    #[test]
    fn bad_globs_are_explained() {
        assert!(check_glob("/var/log/*.log").is_ok());
        assert!(check_glob("/var/log/[a").is_err_and(|why| why.contains("/var/log/[a")));
        assert!(check_glob("").is_err());
    }
}
