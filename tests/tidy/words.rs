//! Banned words, each with a replacement, and the islands of `unsafe`.
//!
//! The files of these rules are excluded: they contain what they ban.

use crate::source::{Finding, Line, Source, check, check_rule, finding, is_test_path, lines, sources};

/// A banned word: the text, where it is banned, what to do instead.
struct Ban {
    word: &'static str,
    applies: fn(&str, &Line<'_>) -> bool,
    instead: &'static str,
}

fn anywhere(_: &str, _: &Line<'_>) -> bool {
    true
}

fn outside_clocks(path: &str, line: &Line<'_>) -> bool {
    const HOMES: [&str; 7] =
        ["shards/src/glommio_env/", "shards/src/sim/", "src/telemetry", "src/cli", "src/app", "bench/", "perf/"];
    !line.test && !is_test_path(path) && !HOMES.iter().any(|home| path.starts_with(home))
}

fn in_plugins(path: &str, line: &Line<'_>) -> bool {
    !line.test && ["src/inputs/", "src/outputs/", "src/codec/"].iter().any(|home| path.starts_with(home))
}

fn in_product_plugins_or_engine(path: &str, line: &Line<'_>) -> bool {
    const SEAMS: [&str; 2] = ["shards/src/glommio_env/", "shards/src/sim/"];
    let here = path.starts_with("shards/src/") || in_plugins(path, line);
    !line.test && !is_test_path(path) && here && !SEAMS.iter().any(|home| path.starts_with(home))
}

const BANS: [Ban; 16] = [
    Ban { word: "todo!(", applies: anywhere, instead: "write it, or leave the feature out and say so in the docs" },
    Ban { word: "unimplemented!(", applies: anywhere, instead: "write it, or make the case impossible by type" },
    Ban { word: "dbg!(", applies: anywhere, instead: "tracing, if it is worth keeping" },
    Ban { word: "FIXME", applies: anywhere, instead: "fix it, or describe the limit in the `//!`" },
    Ban { word: "XXX", applies: anywhere, instead: "say what is meant" },
    Ban { word: "HACK", applies: anywhere, instead: "say why it has to be so" },
    Ban { word: "Instant::now", applies: outside_clocks, instead: "Env::now, so that the simulator owns time" },
    Ban { word: "SystemTime::now", applies: outside_clocks, instead: "Env::wall, so that the simulator owns time" },
    Ban {
        word: "std::fs",
        applies: in_product_plugins_or_engine,
        instead: "Env::disk, so that the case runs in the simulator",
    },
    Ban { word: "File::open(", applies: in_plugins, instead: "Disk::open" },
    Ban { word: "std::thread::spawn", applies: in_product_plugins_or_engine, instead: "Env::spawn or Env::blocking" },
    Ban { word: "#[ignore", applies: anywhere, instead: "fix the test or delete it" },
    Ban {
        word: "should_panic",
        applies: anywhere,
        instead: "assert on the error, or catch_unwind around the one call",
    },
    Ban { word: "filter(|_| false)", applies: anywhere, instead: "take it out: nothing passes" },
    Ban { word: "if false", applies: anywhere, instead: "take it out: it never runs" },
    Ban { word: "println!(", applies: in_product_plugins_or_engine, instead: "tracing" },
];

/// Whether the hit is a whole word: `eprintln!` is not `println!`, and a word in capitals is not part of a longer one.
fn whole(code: &str, at: usize, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let before = code[..at].chars().next_back().is_some_and(part);
    let after = word.ends_with(char::is_alphanumeric) && code[at + word.len()..].starts_with(part);
    !before && !after
}

fn banned(path: &str, text: &str) -> Vec<Finding> {
    if path.starts_with("tests/tidy") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for line in lines(path, text) {
        for ban in &BANS {
            // Left-over marks are in comments; the other words are code.
            let looked_at = if ban.word.chars().all(char::is_uppercase) { line.text } else { line.code };
            let hit = looked_at.match_indices(ban.word).any(|(at, word)| whole(looked_at, at, word));
            if hit && (ban.applies)(path, &line) {
                findings.push(finding(path, line.number, format!("`{}`: {}", ban.word, ban.instead)));
            }
        }
    }
    findings
}

/// Nothing may depend on sleeping: neither an order in a test nor a state in the product. A poll between two checks of a
/// condition, or a thread that may block, gives its reason in the attribute that clippy requires anyway.
fn sleeping(path: &str, text: &str) -> Vec<Finding> {
    let all = lines(path, text);
    let excused =
        |index: usize| all[..index].iter().rev().take(40).any(|line| line.code.contains("clippy::disallowed_methods"));
    let hits = all.iter().enumerate().filter(|(index, line)| line.code.contains("thread::sleep") && !excused(*index));
    let what = "`thread::sleep`: await Env::sleep; in a test wait for the condition with a deadline. Where it only polls, say so \
                in `#[expect(clippy::disallowed_methods, reason = ...)]` on the function";
    hits.filter(|_| !path.starts_with("tests/tidy")).map(|(_, line)| finding(path, line.number, what)).collect()
}

/// `allow` and `expect` of lints have a reason, possibly on a later line of the attribute.
fn reasonless(path: &str, text: &str) -> Vec<Finding> {
    let all = lines(path, text);
    let opens = |code: &str| {
        ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
            .iter()
            .any(|attribute| code.trim_start().starts_with(attribute))
    };
    let mut findings = Vec::new();
    for (index, line) in all.iter().enumerate().filter(|(_, line)| opens(line.code)) {
        let attribute: Vec<&str> = all[index..]
            .iter()
            .map(|line| line.code)
            .scan(false, |done, code| {
                let more = !*done;
                *done |= code.trim_end().ends_with(")]");
                more.then_some(code)
            })
            .collect();
        if !attribute.join(" ").contains("reason =") && !path.starts_with("tests/tidy") {
            findings.push(finding(path, line.number, "a lint is switched off without `reason = \"...\"`"));
        }
    }
    findings
}

const ISLANDS: [&str; 4] =
    ["shards/src/ring.rs", "shards/src/scan/escape.rs", "shards/src/scan/json/", "shards/src/glommio_env/"];

fn is_unsafe(code: &str) -> bool {
    code.match_indices("unsafe").any(|(at, word)| whole(code, at, word) && !code[..at].contains('"'))
        && !code.contains("unsafe_")
}

fn islands(path: &str, text: &str) -> Vec<Finding> {
    let inside = ISLANDS.iter().any(|island| path.starts_with(island)) || path.starts_with("tests/tidy");
    let hits = lines(path, text).into_iter().filter(|line| !inside && is_unsafe(line.code));
    hits.map(|line| finding(path, line.number, "`unsafe` outside the islands: use a safe crate, or record a decision"))
        .collect()
}

fn argued(path: &str, text: &str) -> Vec<Finding> {
    if path.starts_with("tests/tidy") {
        return Vec::new();
    }
    let all = lines(path, text);
    let mut findings = Vec::new();
    for (index, line) in all.iter().enumerate() {
        let opens = ["unsafe {", "unsafe impl"].iter().any(|word| line.code.contains(word));
        let near = &all[index.saturating_sub(6)..=index];
        if opens && !near.iter().any(|line| line.text.contains("// SAFETY:")) {
            findings.push(finding(path, line.number, "`unsafe` without `// SAFETY:` in the six lines above"));
        }
    }
    findings
}

/// English that readers stumble over, each with the usual words. Only phrases without another use are banned.
const ODD: [(&str, &str); 7] = [
    ("lets events go", "drops events"),
    ("they are let go", "they are dropped"),
    ("none of its concern", "it is ignored"),
    ("none of a verb's concern", "the transform does nothing"),
    ("object of JSON", "JSON object"),
    ("objects of JSON", "JSON objects"),
    ("small letters", "lowercase"),
];

fn odd_english(path: &str, text: &str) -> Vec<Finding> {
    if path.starts_with("tests/tidy") {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for line in lines(path, text) {
        let lower = line.text.to_lowercase();
        for (phrase, instead) in ODD.iter().filter(|(phrase, _)| lower.contains(&phrase.to_lowercase())) {
            findings.push(finding(path, line.number, format!("`{phrase}`: write {instead}")));
        }
    }
    findings
}

/// Names from a developer's machine. Examples use /var, /srv and /etc; patterns in a Rust file's own tests are only text.
fn machine_names(path: &str, text: &str) -> Vec<Finding> {
    const NAMES: [&str; 5] = ["/work/", "/root/", "/home/", "index.crates.io", "rsproxy"];
    if path.starts_with("tests/tidy") || path == "Cargo.lock" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for line in lines(path, text).iter().filter(|line| !(path.ends_with(".rs") && line.test)) {
        findings.extend(NAMES.iter().filter(|name| line.text.contains(*name)).map(|name| {
            finding(path, line.number, format!("`{name}` belongs to one machine: take it from the environment"))
        }));
    }
    findings
}

#[test]
fn banned_words_are_absent() {
    check(&["rs"], banned);
}

#[test]
fn the_english_is_plain() {
    check(&["rs", "md", "toml", "sh", "yaml", "yml", "service"], odd_english);
}

#[test]
fn nothing_sleeps_to_get_the_right_order() {
    check(&["rs"], sleeping);
}

#[test]
fn lints_are_disabled_only_with_a_reason() {
    check(&["rs"], reasonless);
}

#[test]
fn unsafe_stays_on_its_islands() {
    check(&["rs"], islands);
}

/// An island without `unsafe` is no island: the next `unsafe` there needs a new decision.
#[test]
fn every_island_contains_unsafe() {
    for island in ISLANDS {
        let is_one = |source: &Source| {
            source.path.starts_with(island) && lines(&source.path, &source.text).iter().any(|line| is_unsafe(line.code))
        };
        assert!(
            sources(&["rs"]).iter().any(is_one),
            "{island} has no `unsafe`: take it from the list and from docs/unsafe.md"
        );
    }
}

#[test]
fn every_unsafe_has_its_argument() {
    check(&["rs"], argued);
}

#[test]
fn nothing_names_a_developers_machine() {
    check(&["rs", "md", "toml", "sh", "yaml", "yml", "service"], machine_names);
}

#[test]
fn rules_of_this_file_find_what_is_wrong() {
    let good = ["fn f() {}\n", "let due = env.now();\n", "eprint(x);\n"];
    let bad = [
        "todo!()",
        "unimplemented!()",
        "dbg!(x)",
        "// FIXME x",
        "// XXX",
        "// HACK",
        "Instant::now()",
        "SystemTime::now()",
        "use std::fs;",
        "File::open(p)",
        "std::thread::spawn(f)",
        "#[ignore]",
        "#[should_panic]",
        "items.filter(|_| false)",
        "if false {",
        "println!(\"x\")",
    ];
    assert_eq!(bad.len(), BANS.len(), "each ban has its bad snippet");
    check_rule("src/inputs/file.rs", &good, &bad, banned);
    check_rule(
        "src/cli/run.rs",
        &["Instant::now()", "println!(\"x\")", "#[cfg(test)]\nmod tests {\nuse std::fs;\n}"],
        &[],
        banned,
    );
    let polls = "#[expect(clippy::disallowed_methods, reason = \"polls\")]\nfn f() {\n    std::thread::sleep(d)\n}";
    check_rule("src/app.rs", &[polls], &["std::thread::sleep(d)"], sleeping);
    let reason = "#[allow(\n    unsafe_code,\n    reason = \"x\"\n)]\nmod a;";
    check_rule("src/app.rs", &[reason], &["#[allow(dead_code)]\nfn f() {}", "#![expect(unused)]"], reasonless);
    check_rule("src/app.rs", &["#![forbid(unsafe_code)]"], &["unsafe { x() }", "unsafe fn f() {}"], islands);
    check_rule(
        "shards/src/ring.rs",
        &["// SAFETY: x\nunsafe { x() }"],
        &["unsafe { x() }", "unsafe impl Send for X {}"],
        argued,
    );
    let odd: Vec<String> = ODD.iter().map(|(phrase, _)| format!("// {phrase}.\n")).collect();
    let odd: Vec<&str> = odd.iter().map(String::as_str).collect();
    check_rule("README.md", &["a JSON object, in lowercase\n"], &odd, odd_english);
    check_rule("README.md", &["/var/log/app"], &["see /work/x", "/root/.cargo"], machine_names);
}
