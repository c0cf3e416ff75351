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
    /// Exclude patterns that can match nothing under the include patterns.
    pub idle: Vec<String>,
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

/// Whether an exclude pattern may match a file or directory that is found under an include pattern. Both are absolute.
fn may_meet(include: &str, exclude: &str) -> bool {
    let (mut include, mut exclude) = (include.split('/'), exclude.split('/'));
    loop {
        match (include.next(), exclude.next()) {
            (Some(one), Some(other)) if !is_literal(one) || !is_literal(other) => return true,
            (Some(one), Some(other)) if one == other => {}
            // Where the search begins is not checked.
            (one, other) => return one.is_none() && other.is_none(),
        }
    }
}

/// The absolute form of an exclude pattern: a name without a directory is excluded everywhere, as in `.gitignore`.
fn absolute_exclude(glob: &str, base: &Path) -> String {
    if glob.starts_with("**/") {
        return format!("/{glob}");
    }
    match glob.contains('/') {
        true => absolute(glob, base),
        false => format!("/**/{glob}"),
    }
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
    /// Compiles the globs. Relative ones begin at `base`, except names to exclude.
    pub fn new(include: &[String], exclude: &[String], base: &Path) -> Result<Patterns, String> {
        let (mut files, mut directories, mut excluded) =
            (GlobSetBuilder::new(), GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut bases = Vec::new();
        for glob in include {
            let glob = absolute(glob, base);
            files.add(compile(&glob)?);
            bases.push((glob.clone(), add_directories(&glob, &mut directories)?));
        }
        let mut idle = Vec::new();
        for glob in exclude {
            let whole = absolute_exclude(glob, base);
            excluded.add(compile(&whole)?);
            if !bases.iter().any(|(include, _)| may_meet(include, &whole)) {
                idle.push(glob.clone());
            }
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| error.to_string());
        Ok(Patterns {
            include: build(&files)?,
            exclude: build(&excluded)?,
            directories: build(&directories)?,
            bases,
            idle,
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

    /// The names of the files in this directory whose paths are patterns.
    fn plain_names(&self, directory: &Path) -> Vec<OsString> {
        let plain =
            self.bases.iter().filter(|(glob, base)| base == directory && is_literal(glob) && !glob.ends_with('/'));
        let paths = plain.map(|(glob, _)| Path::new(glob)).filter(|path| self.wants_file(path));
        paths.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect()
    }

    /// Whether a pattern with wildcards may match files in this directory or below it.
    fn needs_list(&self, directory: &Path) -> bool {
        self.bases.iter().any(|(glob, base)| !is_literal(glob) && directory.starts_with(base))
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
    /// It cannot be listed. The files in it whose paths are patterns were checked.
    Named {
        /// These files.
        entries: Vec<Entry>,
        /// Why it cannot be listed, if other patterns need that.
        error: Option<io::Error>,
    },
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
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => named(disk, patterns, request, error),
        Err(error) => Found::Failed(error),
    }
}

/// Opening a file needs less than finding it: the right to search its directory, not the right to read it.
fn named<D: Disk>(disk: &D, patterns: &Patterns, request: &Request, error: io::Error) -> Found {
    let names = patterns.plain_names(&request.directory);
    let check = |name: OsString| {
        let is_link = disk.is_link(&request.directory.join(&name)).unwrap_or(false);
        entry(disk, patterns, &request.directory, name, is_link)
    };
    let is_directory = |entry: &Entry| entry.stat.as_ref().is_ok_and(|stat| stat.kind == FileKind::Directory);
    let entries: Vec<Entry> = names.into_iter().map(check).filter(|entry| !is_directory(entry)).collect();
    let is_closed = |entry: &Entry| matches!(&entry.stat, Err(why) if why.kind() == io::ErrorKind::PermissionDenied);
    if entries.iter().all(is_closed) {
        return Found::Failed(error);
    }
    Found::Named { entries, error: patterns.needs_list(&request.directory).then_some(error) }
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

    /// A name to exclude is excluded in every directory, as in `.gitignore`. A path is relative to the working directory.
    #[test]
    fn names_are_excluded_at_any_depth() {
        let patterns =
            patterns(&["/var/log/**/*", "*.txt"], &["*.log", "archive", "here/*", "./there.txt", "**/x/*.gz"]);
        for (path, wanted) in [
            ("/var/log/a.log", false),
            ("/var/log/deep/er/a.log", false),
            ("/var/log/a.log.1", true),
            ("/var/log/archive", false),
            ("/var/log/here/x", true),
            ("/var/log/x/1.gz", false),
            ("/work/a.txt", true),
            ("/work/there.txt", false),
            ("/elsewhere/a.txt", false),
        ] {
            assert_eq!(patterns.wants_file(Path::new(path)), wanted, "{path}");
        }
        assert!(!patterns.wants_directory(Path::new("/var/log/archive")));
        assert!(patterns.wants_directory(Path::new("/var/log/here")));
    }

    #[test]
    fn excludes_that_can_match_nothing_are_known() {
        for (include, exclude, is_idle) in [
            ("/var/log/*", "*.gz", false),
            ("/var/log/*", "sub/*.gz", true),
            ("/var/log/*", "./**/*.gz", true),
            ("/var/log/*", "**/sub/*.gz", false),
            ("/var/log/*", "/srv/**", true),
            ("/var/log/*", "/var/log/x", false),
            ("/var/log/*", "/var/*/x", false),
            ("/var/log/**/*", "/var/log/a/b/c", false),
            ("/var/log/**/*", "/var/log", true),
            ("/var/log/*", "/var/log/", false),
            ("/var/log/x", "/var/log/x", false),
            ("/var/log/x", "/var/log/x/y", true),
            ("sub/*.gz", "sub/a.gz", false),
        ] {
            assert_eq!(!patterns(&[include], &[exclude]).idle.is_empty(), is_idle, "{include} {exclude}");
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
