//! The input of the rules: the repository's files, findings, and which parts of a Rust file are code.
//!
//! Guarantees: files that are not in git (build output, editors' files) are ignored.

use std::fs;
use std::path::{Path, PathBuf};

/// One file: its path from the repository root, with `/`, and its text.
pub struct Source {
    pub path: String,
    pub text: String,
}

/// A violation of a rule: where, and what to do instead.
#[derive(Debug, PartialEq)]
pub struct Finding {
    pub path: String,
    pub line: usize,
    pub what: String,
}

pub fn finding(path: &str, line: usize, what: impl Into<String>) -> Finding {
    Finding { path: path.to_owned(), line, what: what.into() }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Paths of all files, from the root.
pub fn files() -> Vec<String> {
    let mut found = Vec::new();
    walk(root(), &mut found);
    assert!(found.len() > 20, "the repository has only {} files: the walk is broken", found.len());
    found.sort();
    found
}

fn walk(directory: &Path, found: &mut Vec<String>) {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    for entry in entries {
        let path: PathBuf = entry.expect("a directory entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).expect("names are UTF-8");
        let skipped =
            matches!(name, ".git" | "target" | "proptest-regressions") || name.ends_with('~') || name.ends_with(".swp");
        if skipped {
            continue;
        }
        if path.is_dir() {
            walk(&path, found);
        } else {
            let relative = path.strip_prefix(root()).expect("below the root");
            found.push(relative.to_str().expect("names are UTF-8").to_owned());
        }
    }
}

/// Files with one of the extensions.
pub fn sources(extensions: &[&str]) -> Vec<Source> {
    let wanted = |path: &String| extensions.iter().any(|extension| path.rsplit('.').next() == Some(extension));
    files()
        .into_iter()
        .filter(wanted)
        .map(|path| {
            let bytes = fs::read(root().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
            // Some fixtures are broken on purpose.
            Source { path, text: String::from_utf8_lossy(&bytes).into_owned() }
        })
        .collect()
}

/// Fails with every finding of `rule` in the files.
pub fn check(extensions: &[&str], rule: impl Fn(&str, &str) -> Vec<Finding>) {
    let sources = sources(extensions);
    assert!(!sources.is_empty(), "no file ends in {extensions:?}");
    report(sources.iter().flat_map(|source| rule(&source.path, &source.text)).collect());
}

pub fn report(findings: Vec<Finding>) {
    let lines: Vec<String> = findings.iter().map(|f| format!("{}:{}: {}", f.path, f.line, f.what)).collect();
    assert!(lines.is_empty(), "\n{}\n", lines.join("\n"));
}

/// The test of a rule: no finding in `good`, at least one in each of `bad`.
pub fn check_rule(path: &str, good: &[&str], bad: &[&str], rule: impl Fn(&str, &str) -> Vec<Finding>) {
    for text in good {
        assert_eq!(rule(path, text), [], "good text: {text}");
    }
    for text in bad {
        assert!(!rule(path, text).is_empty(), "nothing found in: {text}");
    }
}

/// One line of a Rust file as the rules see it.
pub struct Line<'a> {
    pub number: usize,
    pub text: &'a str,
    /// The line without its comment; empty if the whole line is a comment.
    pub code: &'a str,
    /// Whether it is inside `mod tests` of the file, or in a file of tests.
    pub test: bool,
}

pub fn is_test_path(path: &str) -> bool {
    path.starts_with("tests/") || path.contains("/tests/") || path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

/// The lines of a Rust file. `mod tests` always comes last in a file, so everything below it is test code.
pub fn lines<'a>(path: &str, text: &'a str) -> Vec<Line<'a>> {
    let mut test = is_test_path(path);
    let mut lines = Vec::new();
    let mut cfg_test = false;
    for (index, text) in text.lines().enumerate() {
        let code = match text.find("//") {
            Some(at) if !text[..at].ends_with(':') && text[..at].matches('"').count() % 2 == 0 => text[..at].trim_end(),
            _ => text,
        };
        test |= cfg_test && code.starts_with("mod ") && code.ends_with('{');
        cfg_test = code.starts_with("#[cfg(") && code.contains("test") || cfg_test && code.starts_with('#');
        cfg_test |= code.starts_with("#[cfg(") && code.contains("loom") && !code.contains("not");
        lines.push(Line { number: index + 1, text, code, test });
    }
    lines
}
