//! The engine's limits: each is used where it applies.

use crate::source::{Finding, finding, is_test_path, lines, report, sources};

const LIMITS: &str = "shards/src/limits.rs";

/// Names of the constants and functions in a file of limits, with their lines.
fn bounds(text: &str) -> Vec<(usize, &str)> {
    let named = lines(LIMITS, text).into_iter().filter_map(|line| {
        let rest = line.text.strip_prefix("pub const ")?;
        let rest = rest.strip_prefix("fn ").unwrap_or(rest);
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
        Some((line.number, &rest[..end]))
    });
    named.collect()
}

/// Limits that no code uses: `texts` are the other files, with their paths.
fn unused(limits: &str, texts: &[(&str, &str)]) -> Vec<Finding> {
    let mut used = std::collections::HashSet::new();
    for (path, text) in texts {
        for line in lines(path, text).into_iter().filter(|line| !line.test) {
            used.extend(line.code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
        }
    }
    let without_use = bounds(limits).into_iter().filter(|(_, name)| !used.contains(name));
    without_use
        .map(|(line, name)| finding(LIMITS, line, format!("nothing holds to `{name}`: enforce it or remove it")))
        .collect()
}

#[test]
fn every_limit_is_used_where_it_applies() {
    let sources = sources(&["rs"]);
    let limits = sources.iter().find(|source| source.path == LIMITS).expect("the limits of the engine");
    let others = sources.iter().filter(|source| {
        let product = source.path.starts_with("src/") || source.path.starts_with("shards/src/");
        product && !source.path.starts_with("shards/src/limits") && !is_test_path(&source.path)
    });
    let texts: Vec<(&str, &str)> = others.map(|source| (source.path.as_str(), source.text.as_str())).collect();
    assert!(bounds(&limits.text).len() > 30, "the bounds are not found: the rule is blind");
    report(unused(&limits.text, &texts));
}

#[test]
fn a_limit_that_only_comments_and_tests_name_is_found() {
    let limits = "pub const A_MAX: usize = 1;\npub const fn b_max(a: usize) -> usize {\n    a\n}\nconst C: u8 = 1;\n";
    let used = ("shards/src/a.rs", "use crate::limits::{A_MAX, b_max};\n");
    let named =
        ("shards/src/a.rs", "/// At most [`A_MAX`].\nfn f() {}\n#[cfg(test)]\nmod tests {\n    b_max(A_MAX)\n}\n");
    assert_eq!(unused(limits, &[used]), []);
    assert_eq!(unused(limits, &[named]).len(), 2);
}
