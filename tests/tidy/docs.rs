//! Documents: valid links, line widths, one title per page, and the files that a project needs.

use crate::source::{Finding, Source, check, check_rule, files, finding, root, sources};

const LINE_WIDTH_MAX: usize = 140;

/// Files that readers look for.
const EXPECTED: [&str; 9] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "deny.toml",
    "rust-toolchain.toml",
    ".ci/run",
    "tests/run.sh",
];

/// Targets of the links on a page that must be files in the repository.
fn link_targets(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fenced = false;
    for (index, line) in text.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            let target = line[at + 2..].split(')').next().unwrap_or("");
            let file = target.split('#').next().unwrap_or("").split(' ').next().unwrap_or("");
            if !(file.is_empty() || file.contains("://") || file.starts_with("mailto:")) {
                found.push((index + 1, file.to_owned()));
            }
        }
    }
    found
}

fn broken_links(path: &str, text: &str) -> Vec<Finding> {
    let page = root().join(path);
    let folder = page.parent().expect("a file has a folder");
    let missing = link_targets(text).into_iter().filter(|(_, target)| !folder.join(target).exists());
    missing.map(|(line, target)| finding(path, line, format!("`{target}` does not exist"))).collect()
}

/// Source files that a page names, as the place of a test or of a mechanism, and that are not there.
fn missing_sources(all: &[String], path: &str, text: &str) -> Vec<Finding> {
    let is_there = |name: &str| all.iter().any(|file| file == name || file.ends_with(&format!("/{name}")));
    let is_name =
        |code: &str| code.ends_with(".rs") && code.chars().all(|c| c.is_ascii_alphanumeric() || "_/.".contains(c));
    let named = text.lines().enumerate().flat_map(|(index, line)| line.split('`').map(move |code| (index + 1, code)));
    let missing = named.filter(|(_, code)| is_name(code) && !is_there(code));
    missing.map(|(line, code)| finding(path, line, format!("there is no `{code}`"))).collect()
}

/// What a table names in a last column `test`, and is none: neither one file with tests, nor a folder, nor a test (or the beginnings of
/// several, as `e8_*`).
fn missing_tests(all: &[Source], path: &str, text: &str) -> Vec<Finding> {
    let has_test = |source: &&Source| source.text.contains("#[test]");
    let tests_in = |name: &str| {
        let named = all.iter().filter(|file| file.path == name || file.path.ends_with(&format!("/{name}")));
        named.filter(has_test).count()
    };
    let is_test = |code: &str| match () {
        () if code.ends_with(".rs") => tests_in(code) == 1,
        () if code.contains('/') => root().join(code).is_dir(),
        () => all.iter().any(|file| file.text.contains(&format!("fn {}", code.trim_end_matches('*')))),
    };
    let (mut is_column, mut findings) = (false, Vec::new());
    for (index, line) in text.lines().enumerate() {
        let cell = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        is_column = line.starts_with('|') && (is_column || cell == "test");
        let named = cell.split('`').skip(1).step_by(2).filter(|_| is_column);
        findings.extend(named.filter(|code| !is_test(code)).map(|code| {
            finding(path, index + 1, format!("`{code}` is neither one file with tests nor a test: name what shows it"))
        }));
    }
    findings
}

fn wide_lines(path: &str, text: &str) -> Vec<Finding> {
    let wide = |line: &str| line.chars().count() > LINE_WIDTH_MAX && !line.contains("](http") && !line.starts_with('|');
    let hits = text.lines().enumerate().filter(|(_, line)| wide(line));
    hits.map(|(index, _)| finding(path, index + 1, format!("wider than {LINE_WIDTH_MAX}: break the line"))).collect()
}

fn one_title(path: &str, text: &str) -> Vec<Finding> {
    let mut fenced = false;
    let titles = text.lines().filter(|line| {
        fenced ^= line.starts_with("```");
        !fenced && line.starts_with("# ")
    });
    let count = titles.count();
    let what = format!("{count} titles: a page has one `# `");
    if count == 1 { Vec::new() } else { vec![finding(path, 1, what)] }
}

fn ragged(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    // `lines` would hide a carriage return.
    for (index, line) in text.split('\n').enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            findings.push(finding(path, index + 1, "white space at the end of the line"));
        }
    }
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        findings.push(finding(path, text.lines().count(), "a file ends with one newline"));
    }
    findings
}

#[test]
fn links_of_the_documents_resolve() {
    check(&["md"], broken_links);
}

#[test]
fn sources_that_the_documents_name_exist() {
    let all = files();
    check(&["md"], |path, text| missing_sources(&all, path, text));
}

#[test]
fn tests_that_the_documents_name_are_tests() {
    let all = sources(&["rs"]);
    check(&["md"], |path, text| missing_tests(&all, path, text));
}

#[test]
fn lines_of_the_documents_fit() {
    check(&["md"], wide_lines);
}

#[test]
fn pages_have_one_title() {
    check(&["md"], one_title);
}

#[test]
fn no_line_ends_in_white_space() {
    check(&["rs", "md", "toml", "sh", "yaml", "yml", "service"], ragged);
}

#[test]
fn files_that_readers_expect_exist() {
    let files = files();
    let missing: Vec<&str> = EXPECTED.into_iter().filter(|name| !files.iter().any(|file| file == name)).collect();
    assert!(missing.is_empty(), "missing: {missing:?}");
}

#[test]
fn top_level_has_no_unexpected_files() {
    const FOLDERS: [&str; 9] = ["src", "shards", "bench", "perf", "tests", "deploy", "docs", ".ci", ".github"];
    let strange: Vec<String> = files()
        .into_iter()
        .filter(|file| file.split_once('/').is_some_and(|(top, _)| !FOLDERS.contains(&top)))
        .collect();
    assert!(strange.is_empty(), "top-level folders are fixed ({FOLDERS:?}); outside them: {strange:?}");
}

#[test]
fn rules_of_this_file_find_what_is_wrong() {
    let good = ["[a](LICENSE) [b](https://example.org/x) [c](#part)\n", "```\n[x](nowhere)\n```\n"];
    check_rule("README.md", &good, &["[a](nowhere.md)\n", "[a](nowhere.md#part)\n"], broken_links);
    let all = files();
    let sources = |path: &str, text: &str| missing_sources(&all, path, text);
    check_rule(
        "README.md",
        &["in `tidy/docs.rs`, or docs.rs\n", "`*.rs`"],
        &["`nowhere.rs`", "`tidy/doc.rs`"],
        sources,
    );
    let all = crate::source::sources(&["rs"]);
    let table = |cell: &str| format!("| a | test |\n|---|---|\n| `x.rs` | {cell} |\n\n| `y.rs` |\n");
    let tests = |path: &str, text: &str| missing_tests(&all, path, text);
    let good = table("`tidy/docs.rs` (all), `tests/config`, `pages_have_*`");
    let bad =
        ["`tidy/source.rs`", "`tidy/docs.rs`, `nowhere.rs`", "`tests.rs`", "`tests/nowhere`", "`e99_*`"].map(table);
    check_rule("README.md", &[&good, "| `x.rs` |\n"], &bad.each_ref().map(String::as_str), tests);
    check_rule("README.md", &[&"x".repeat(140)], &[&"x".repeat(141)], wide_lines);
    check_rule("README.md", &["# A\n## B\n```\n# comment\n```\n"], &["## B\n", "# A\n# B\n"], one_title);
    check_rule("README.md", &["a\n", ""], &["a \n", "a\r\n", "a", "a\n\n"], ragged);
}
