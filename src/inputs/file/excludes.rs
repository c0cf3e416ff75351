//! The exclude patterns of an input.
//!
//! Guarantees: a pattern that ends in `/` excludes a directory with everything below it. A name without a directory is excluded in
//! every directory, as in `.gitignore`. Empty components and `.` mean nothing. Does not look at the disk: whoever has resolved a path
//! asks for each name that it has.

use super::patterns::{absolute, compile, fixed_parts, is_literal};
use globset::{GlobSet, GlobSetBuilder};
use std::path::{Path, PathBuf};

/// See the module.
pub struct Excludes {
    set: GlobSet,
    all: Vec<Exclude>,
}

struct Exclude {
    /// As it was written.
    written: String,
    /// The absolute patterns that it stands for.
    globs: Vec<String>,
    /// The directory in which the first of its components with a wildcard is looked for, or its last component.
    fixed: PathBuf,
}

impl Excludes {
    /// Compiles the patterns. Relative ones begin at `base`, except names.
    pub fn new(globs: &[String], base: &Path) -> Result<Excludes, String> {
        let mut set = GlobSetBuilder::new();
        let mut all = Vec::new();
        for written in globs {
            let glob = absolute_exclude(written, base);
            let fixed = fixed_parts(&glob);
            let below = written.ends_with('/').then(|| format!("{}/**", glob.trim_end_matches('/')));
            let globs: Vec<String> = std::iter::once(glob).chain(below).collect();
            for glob in &globs {
                set.add(compile(glob)?);
            }
            all.push(Exclude { written: written.clone(), globs, fixed });
        }
        Ok(Excludes { set: set.build().map_err(|error| error.to_string())?, all })
    }

    /// Whether there are none.
    pub fn are_none(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a path matches one of them.
    pub fn match_path(&self, path: &Path) -> bool {
        self.set.is_match(path)
    }

    /// The directories that they name, which may be known by other paths too.
    pub fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        self.all.iter().map(|one| &one.fixed).filter(|fixed| fixed.parent().is_some())
    }

    /// Those that can match nothing in the places that these absolute patterns stand for. `real` resolves the links of a directory.
    pub fn idle(&self, searched: &[String], real: impl Fn(&Path) -> Option<PathBuf>) -> Vec<String> {
        let is_idle = |one: &&Exclude| {
            let resolved = one.globs.iter().filter_map(|glob| moved(glob, &one.fixed, &real(&one.fixed)?));
            let mut names = one.globs.iter().cloned().chain(resolved);
            !names.any(|name| searched.iter().any(|include| may_meet(include, &name)))
        };
        self.all.iter().filter(is_idle).map(|one| one.written.clone()).collect()
    }
}

/// The pattern with another directory in the place of `from`, with which it begins.
pub fn moved(glob: &str, from: &Path, to: &Path) -> Option<String> {
    let rest = glob.strip_prefix(from.to_str()?.trim_end_matches('/'))?;
    Some(format!("{}{rest}", globset::escape(to.to_str()?.trim_end_matches('/'))))
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

/// The absolute form, without what means nothing.
fn absolute_exclude(glob: &str, base: &Path) -> String {
    let is_anywhere = glob.starts_with("**/");
    let is_path = glob.starts_with('/') || glob.trim_end_matches('/').contains('/');
    let parts: Vec<&str> = glob.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let parts = parts.join("/");
    match glob.starts_with('/') || is_anywhere {
        true => format!("/{parts}"),
        false if is_path => absolute(&parts, base),
        false => format!("/**/{parts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::patterns::{LinkRules, patterns};
    use super::*;

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
    fn directory_with_a_slash_is_excluded_with_everything_below() {
        for exclude in ["/pods/secret/", "secret/", "/pods//secret/", "/pods/./secret/", "**/secret/", "../x/", "/"] {
            let patterns = patterns(&["/pods/**", "/pods/secret/0.log"], &[exclude]);
            let is_other = exclude == "../x/";
            for path in ["/pods/secret/0.log", "/pods/secret/deep/er/0.log", "/pods/secret"] {
                assert_eq!(patterns.wants_file(Path::new(path)), is_other, "{exclude}: {path}");
            }
            assert_eq!(patterns.wants_directory(Path::new("/pods/secret")), is_other, "{exclude}");
            assert_eq!(patterns.wants_file(Path::new("/pods/secrets/0.log")), exclude != "/", "{exclude}");
        }
        assert!(!patterns(&["/pods/**"], &["/pods//secret/./*"]).wants_file(Path::new("/pods/secret/0.log")));
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
            ("/var/log/a/x", "/var/log/a/", false),
            ("sub/*.gz", "sub/a.gz", false),
        ] {
            let idle = patterns(&[include], &[exclude]).idle(|path| Some(path.to_path_buf()));
            assert_eq!(!idle.is_empty(), is_idle, "{include} {exclude}");
        }
    }

    /// What links may lead to is excluded too, by any name that a directory has.
    #[test]
    fn excludes_of_what_links_lead_to_are_not_idle() {
        let real = |path: &Path| match path.to_str()? {
            "/entry" => Some("/disk/logs".into()),
            "/alias/secret" => Some("/pods/secret".into()),
            _ => Some(path.to_path_buf()),
        };
        for (follow, exclude, is_idle) in [
            (true, "/pods/secret/*", false),
            (true, "/alias/secret/*", false),
            (true, "/entry/deep/x", false),
            (true, "/disk/logs/deep/x", false),
            (true, "/srv/*", true),
            (false, "/pods/secret/*", true),
            (false, "/entry/x", false),
            (false, "/disk/logs/x", false),
            (false, "/disk/other/x", true),
        ] {
            let rules = LinkRules { follow, targets: vec!["/pods".into()], ..LinkRules::default() };
            let patterns = patterns(&["/entry/*"], &[exclude]).with(rules, Default::default());
            assert_eq!(!patterns.idle(real).is_empty(), is_idle, "{follow} {exclude}");
        }
    }
}
