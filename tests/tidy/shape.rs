//! The shape of the code: how files begin, how long files and functions are, which dependencies are used.
//!
//! The length of functions is a ratchet: listed functions may get shorter but not longer, and none is added unnoticed.

use crate::source::{Finding, check, check_rule, finding, lines, report, root, sources};
use std::fs;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 600;
const FILE_BYTES_MAX: u64 = 512 << 10;

/// Functions that are longer, with their current length: `("path", "name", lines)`. Lower the number when the function gets
/// shorter.
const LONG_FUNCTIONS: [(&str, &str, usize); 0] = [];

/// Files that are longer, with their current length: `("path", lines)`. The same ratchet.
const LONG_FILES: [(&str, usize); 0] = [];

fn opens_with_its_purpose(path: &str, text: &str) -> Vec<Finding> {
    let opens = text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > 12);
    if opens {
        Vec::new()
    } else {
        vec![finding(path, 1, "a file opens with `//!`: what it is and what it guarantees")]
    }
}

fn function_name(code: &str) -> Option<&str> {
    let start = code.trim_start();
    let at = start.find("fn ").filter(|at| {
        start[..*at].split_whitespace().all(|word| {
            word.starts_with("pub") || matches!(word, "async" | "const" | "unsafe" | "extern" | "\"C\"" | "default")
        })
    })?;
    let rest = &start[at + 3..];
    let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    Some(&rest[..end])
}

/// Functions of a file with their first line and length. rustfmt closes a body at the indentation of its `fn`.
fn functions(path: &str, text: &str) -> Vec<(String, usize, usize)> {
    let all = lines(path, text);
    let mut found = Vec::new();
    for (index, line) in all.iter().enumerate() {
        let Some(name) = function_name(line.code) else { continue };
        let indent = line.code.len() - line.code.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let semicolon = all[index..].iter().position(|line| line.code.ends_with(';'));
        let body = all[index..].iter().position(|line| line.code.ends_with('{') || line.code.ends_with('}'));
        // A declaration ends before a body begins.
        let Some(body) = body.filter(|body| semicolon.is_none_or(|semicolon| *body <= semicolon)) else { continue };
        let one_line = all[index + body].code.ends_with('}');
        let length =
            if one_line { body } else { all[index..].iter().position(|line| line.text == close).unwrap_or(body) };
        found.push((name.to_owned(), line.number, length + 1));
    }
    found
}

fn long_functions(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, line, length) in functions(path, text) {
        let listed = LONG_FUNCTIONS.iter().find(|(file, function, _)| *file == path && *function == name);
        let most = listed.map_or(FUNCTION_LINES_MAX, |(_, _, most)| *most);
        if length > most {
            findings.push(finding(
                path,
                line,
                format!("`{name}` has {length} lines, at most {most}: give its parts names"),
            ));
        }
    }
    findings
}

fn long_file(path: &str, text: &str) -> Vec<Finding> {
    let length = text.lines().count();
    let most = LONG_FILES.iter().find(|(file, _)| *file == path).map_or(FILE_LINES_MAX, |(_, most)| *most);
    let what = format!("{length} lines, at most {most}: make a folder of it");
    if length > most { vec![finding(path, 1, what)] } else { Vec::new() }
}

/// The names of the dependencies in a manifest, as they are written in code.
fn dependencies(manifest: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        if line.starts_with('[') {
            inside = line.contains("dependencies") && !line.contains("workspace.");
        } else if let Some((name, _)) = line.split_once('=').filter(|_| inside && !line.starts_with(['#', ' '])) {
            found.push((index + 1, name.trim().replace('-', "_").split('.').next().unwrap_or("").to_owned()));
        }
    }
    found
}

/// Dependencies of a manifest that no line of `code` names.
fn unused(path: &str, manifest: &str, code: &str) -> Vec<Finding> {
    let names = |name: &str| {
        let path = format!("{name}::");
        let bare = [format!("use {name};"), format!("extern crate {name}"), format!("use {name} as")];
        code.contains(&path) || bare.iter().any(|word| code.contains(word))
    };
    let missing = dependencies(manifest).into_iter().filter(|(_, name)| !names(name));
    missing
        .map(|(line, name)| finding(path, line, format!("no source names `{name}`: remove the dependency")))
        .collect()
}

#[test]
fn every_file_opens_with_its_purpose() {
    check(&["rs"], opens_with_its_purpose);
}

#[test]
fn functions_fit_a_screen() {
    check(&["rs"], long_functions);
}

#[test]
fn lists_of_long_functions_and_files_are_exact() {
    let sources = sources(&["rs"]);
    for (path, most) in LONG_FILES {
        let length = sources.iter().find(|source| source.path == path).map(|source| source.text.lines().count());
        assert_eq!(length, Some(most), "{path} is listed with {most} lines; list what it has now, or unlist it");
        assert!(most > FILE_LINES_MAX, "{path} fits: unlist it");
    }
    for (path, name, most) in LONG_FUNCTIONS {
        let source = sources
            .iter()
            .find(|source| source.path == path)
            .unwrap_or_else(|| panic!("{path} is gone: unlist `{name}`"));
        let length = functions(path, &source.text)
            .into_iter()
            .filter(|(found, _, _)| found == name)
            .map(|(_, _, length)| length)
            .max();
        assert_eq!(
            length,
            Some(most),
            "{path}: `{name}` is listed with {most} lines; list what it has now, or unlist it"
        );
        assert!(most > FUNCTION_LINES_MAX, "{path}: `{name}` fits: unlist it");
    }
}

#[test]
fn files_stay_readable() {
    check(&["rs"], long_file);
}

#[test]
fn no_file_is_a_blob() {
    let large = crate::source::files().into_iter().filter_map(|path| {
        let bytes = fs::metadata(root().join(&path)).map_or(0, |metadata| metadata.len());
        let what = format!("{bytes} bytes, at most {FILE_BYTES_MAX}: make it when it is needed");
        (bytes > FILE_BYTES_MAX).then(|| finding(&path, 1, what))
    });
    report(large.collect());
}

#[test]
fn every_dependency_is_used() {
    let sources = sources(&["rs"]);
    let mut findings = Vec::new();
    for (manifest, homes) in [
        ("Cargo.toml", ["src/", "tests/"].as_slice()),
        ("shards/Cargo.toml", &["shards/"]),
        ("bench/Cargo.toml", &["bench/"]),
        ("perf/Cargo.toml", &["perf/"]),
    ] {
        let text = fs::read_to_string(root().join(manifest)).unwrap_or_else(|error| panic!("{manifest}: {error}"));
        let ours = sources.iter().filter(|source| homes.iter().any(|home| source.path.starts_with(home)));
        let ours = ours.filter(|source| !source.path.starts_with("tests/tidy"));
        let code: String = ours.map(|source| source.text.as_str()).collect();
        findings.extend(unused(manifest, &text, &code));
    }
    report(findings);
}

#[test]
fn rules_of_this_file_find_what_is_wrong() {
    check_rule(
        "src/a.rs",
        &["//! What this file is.\n"],
        &["", "use std::io;\n", "//!\n", "//! x\n"],
        opens_with_its_purpose,
    );
    let long = |name: &str, lines: usize| {
        format!("    pub fn {name}(&self) {{\n{}    }}\n", "        x();\n".repeat(lines - 2))
    };
    check_rule("src/a.rs", &[&long("f", 70), "fn f();\n", "fn f() {}\n"], &[&long("f", 71)], long_functions);
    check_rule("src/a.rs", &[&"x\n".repeat(600)], &[&"x\n".repeat(601)], long_file);
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nserde-json = \"1\"\nlibc = { workspace = true }\n";
    assert_eq!(unused("Cargo.toml", manifest, "use libc::c_int;\nuse serde_json::Value;\n"), []);
    let found = unused("Cargo.toml", manifest, "serde_json::to_string(x)");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].line, 5);
}
