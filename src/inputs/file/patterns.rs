//! The globs of an input: which paths it wants, where the search begins, and which rules links have to keep.
//!
//! Guarantees: the part of an include pattern before its first wildcard is the administrator's, and only that part. Does no I/O.

use super::excludes::{Excludes, moved};
use super::own::Own;
use super::suspects::Suspects;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Whether files with several names are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HardLinks {
    /// Only where nobody but the owner of the file and root can create names: the directory belongs to one of them, and neither
    /// its group nor others may write to it.
    #[default]
    Trusted,
    /// Everywhere.
    Any,
}

/// Where links may lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkRules {
    /// Whether symbolic links below the fixed part of a pattern are followed.
    pub follow: bool,
    /// The directories to which they may lead, in addition to the fixed parts of the patterns.
    pub targets: Vec<PathBuf>,
    /// Which files with several names are read.
    pub hard: HardLinks,
}

/// The compiled globs of an input.
pub struct Patterns {
    include: GlobSet,
    /// What is not read, whatever leads to it.
    pub excludes: Excludes,
    /// Directories that may hold matches.
    directories: GlobSet,
    /// For each include pattern: its text and the directory where the search begins.
    pub bases: Vec<(String, PathBuf)>,
    /// Where links may lead.
    pub links: LinkRules,
    /// Files of which a stranger may have made a name.
    pub suspects: Suspects,
    /// Files that are never read.
    pub own: Own,
}

/// Checks whether a glob is valid. Returns the reason if it is not.
pub fn check_glob(glob: &str) -> Result<(), String> {
    if glob.is_empty() {
        return Err("an empty pattern matches nothing".to_owned());
    }
    compile(glob).map(|_| ())
}

/// Compiles a glob whose wildcards match no `/`.
pub fn compile(glob: &str) -> Result<globset::Glob, String> {
    let built = GlobBuilder::new(glob).literal_separator(true).backslash_escape(true).build();
    built.map_err(|error| format!("{glob:?} is not a valid glob: {}", error.kind()))
}

/// Whether this is a path without wildcards.
pub fn is_literal(part: &str) -> bool {
    !part.contains(['*', '?', '[', '{', '\\'])
}

/// An absolute form of a glob; `base` is the start of relative ones.
pub fn absolute(glob: &str, base: &Path) -> String {
    if glob.starts_with('/') {
        return glob.to_owned();
    }
    let base = globset::escape(base.to_string_lossy().trim_end_matches('/'));
    format!("{base}/{}", glob.trim_start_matches("./"))
}

impl Patterns {
    /// Compiles the globs. Relative ones begin at `base`, except names to exclude.
    pub fn new(include: &[String], exclude: &[String], base: &Path) -> Result<Patterns, String> {
        let (mut files, mut directories) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        let mut bases = Vec::new();
        for glob in include {
            let glob = absolute(glob, base);
            files.add(compile(&glob)?);
            bases.push((glob.clone(), add_directories(&glob, &mut directories)?));
        }
        let build = |set: &GlobSetBuilder| set.build().map_err(|error| error.to_string());
        Ok(Patterns {
            include: build(&files)?,
            excludes: Excludes::new(exclude, base)?,
            directories: build(&directories)?,
            bases,
            links: LinkRules::default(),
            suspects: Suspects::default(),
            own: Own::default(),
        })
    }

    /// The same patterns with these rules for links, and without these files.
    pub fn with(self, links: LinkRules, own: Own) -> Patterns {
        Patterns { links, own, ..self }
    }

    /// The directory whose links are the administrator's, for a file with this path: where the search of the longest pattern
    /// that wants it begins. The root if no pattern wants it.
    pub fn base_of(&self, path: &Path) -> &Path {
        longest(self.include.matches(path).into_iter().map(|index| self.bases[index].1.as_path()))
    }

    /// The top directory of the tree in which a directory is: directly below where the search begins.
    pub fn tree_of_directory(&self, directory: &Path) -> PathBuf {
        tree(self.base_of_directory(directory), directory)
    }

    /// Where the search for a directory begins that is scanned, or that holds files of an earlier run.
    pub fn base_of_directory(&self, directory: &Path) -> &Path {
        longest(self.bases.iter().map(|base| base.1.as_path()).filter(|base| directory.starts_with(base)))
    }

    /// Exclude patterns that can match nothing. `real` resolves the links of a directory.
    pub fn idle(&self, real: impl Fn(&Path) -> Option<PathBuf>) -> Vec<String> {
        let mut searched = Vec::new();
        for (glob, base) in &self.bases {
            let resolved = real(base).filter(|real| real != base);
            searched.extend(resolved.and_then(|real| moved(glob, base, &real)));
            searched.push(glob.clone());
        }
        if self.links.follow {
            let roots = self.bases.iter().map(|base| &base.1).chain(&self.links.targets);
            let names = roots.flat_map(|root| [Some(root.clone()), real(root)]).flatten();
            searched.extend(names.filter_map(|root| Some(format!("{}/**", root.to_str()?.trim_end_matches('/')))));
        }
        self.excludes.idle(&searched, real)
    }

    /// Whether a file with this path is wanted.
    pub fn wants_file(&self, path: &Path) -> bool {
        self.include.is_match(path) && !self.excludes.match_path(path)
    }

    /// Whether a directory with this path may hold wanted files.
    pub fn wants_directory(&self, path: &Path) -> bool {
        self.directories.is_match(path) && !self.excludes.match_path(path)
    }

    /// The names of the files in this directory whose paths are patterns.
    pub fn plain_names(&self, directory: &Path) -> Vec<OsString> {
        let plain =
            self.bases.iter().filter(|(glob, base)| base == directory && is_literal(glob) && !glob.ends_with('/'));
        let paths = plain.map(|(glob, _)| Path::new(glob)).filter(|path| self.wants_file(path));
        paths.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect()
    }

    /// Whether a pattern with wildcards may match files in this directory or below it.
    pub fn needs_list(&self, directory: &Path) -> bool {
        self.bases.iter().any(|(glob, base)| !is_literal(glob) && directory.starts_with(base))
    }

    /// Whether pattern number `index` matches a path.
    pub fn matches(&self, index: usize, path: &Path) -> bool {
        self.include.matches(path).contains(&index)
    }
}

/// The directory directly below `base` that has or is `directory`.
fn tree(base: &Path, directory: &Path) -> PathBuf {
    let below = directory.strip_prefix(base).ok();
    below.and_then(|below| below.components().next()).map_or_else(|| base.to_path_buf(), |top| base.join(top))
}

fn longest<'a>(bases: impl Iterator<Item = &'a Path>) -> &'a Path {
    bases.max_by_key(|base| base.as_os_str().len()).unwrap_or(Path::new("/"))
}

/// The directory that an absolute glob begins with, before its first component with a wildcard or its last one.
pub fn fixed_parts(glob: &str) -> PathBuf {
    let parts: Vec<&str> = glob.split('/').skip(1).collect();
    let parents = &parts[..parts.len().saturating_sub(1)];
    let literal = parents.iter().take_while(|part| is_literal(part)).count();
    PathBuf::from(format!("/{}", parents[..literal].join("/")))
}

/// Adds the globs of the directories on the way to the files of `glob`, and returns where the search begins.
fn add_directories(glob: &str, directories: &mut GlobSetBuilder) -> Result<PathBuf, String> {
    let parts: Vec<&str> = glob.split('/').skip(1).collect();
    let parents = &parts[..parts.len().saturating_sub(1)];
    let base = fixed_parts(glob);
    let mut prefix = String::new();
    // A `**` at the end matches the files in every directory.
    for part in parents.iter().chain(parts.last().filter(|last| **last == "**")) {
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

/// Patterns of a working directory. For tests.
#[cfg(test)]
pub fn patterns(include: &[&str], exclude: &[&str]) -> Patterns {
    let owned = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect::<Vec<_>>();
    Patterns::new(&owned(include), &owned(exclude), Path::new("/work")).expect("valid globs")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let patterns = patterns(&["/var/log/*/app/*.log", "/srv/**/x", "/a/{b,c/d}/e", "/all/**"], &[]);
        for (path, wanted) in [
            ("/var/log/one", true),
            ("/var/log/one/app", true),
            ("/var/log/one/other", false),
            ("/var/log/one/app/deeper", false),
            ("/srv/any/depth", true),
            ("/home", false),
            ("/all/any/depth", true),
            ("/a/c/d", true),
        ] {
            assert_eq!(patterns.wants_directory(Path::new(path)), wanted, "{path}");
        }
        let bases: Vec<&Path> = patterns.bases.iter().map(|base| base.1.as_path()).collect();
        assert_eq!(bases, [Path::new("/var/log"), Path::new("/srv"), Path::new("/a"), Path::new("/all")]);
    }

    #[test]
    fn bad_globs_are_explained() {
        assert!(check_glob("/var/log/*.log").is_ok());
        assert!(check_glob("/var/log/[a").is_err_and(|why| why.contains("/var/log/[a")));
        assert!(check_glob("").is_err());
    }
}
