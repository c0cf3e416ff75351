//! Floors: a module imports only modules of lower floors, in the engine and in the product.
//!
//! The tables below are ordered lists: a module may import itself and those listed before it. They match the table in
//! `shards/src/lib.rs` and the order of the product's directories. Test code may also use the simulator and the real
//! environment.

use crate::source::{Finding, check, check_rule, finding, lines, root};
use std::fs;

/// The engine, floor by floor; within a floor the order is finer.
const ENGINE: [(u8, &str); 29] = [
    (0, "limits"),
    (0, "env"),
    (0, "batch"),
    (0, "scan"),
    (0, "shape"),
    (0, "record"),
    (0, "counters"),
    (0, "signal"),
    (0, "stop"),
    (0, "retry"),
    (0, "spell"),
    (0, "counted"),
    (1, "ring"),
    (1, "route"),
    (1, "lane"),
    (1, "wal"),
    (2, "dlq"),
    (3, "plugin"),
    (4, "keeper"),
    (4, "withheld"),
    (4, "pipeline"),
    (4, "intake"),
    (4, "delivery"),
    (5, "mesh"),
    (5, "service"),
    (5, "shard"),
    (6, "engine"),
    (7, "glommio_env"),
    (7, "sim"),
];

/// The product. A row may name a nested module if it is on another floor than its parent.
const PRODUCT: [(u8, &str); 29] = [
    (0, "codec::marked"),
    (0, "codec::visible"),
    (0, "codec::zone"),
    (0, "config::timezone"),
    (0, "config::literal"),
    (0, "config::types"),
    (0, "config::nearest"),
    (0, "config::migrating"),
    (0, "config::env"),
    (0, "config::problem"),
    (0, "config::node"),
    (0, "config::de"),
    (0, "config::claims"),
    (0, "config::room"),
    (0, "config::facts"),
    (1, "codec"),
    (1, "net"),
    (2, "expr"),
    (2, "parsers"),
    (2, "config::component"),
    (2, "telemetry"),
    (3, "inputs"),
    (3, "outputs"),
    (3, "transforms"),
    (3, "process"),
    (4, "config"),
    (5, "app"),
    (6, "cli"),
    (7, "main"),
];

/// The environments that test code may use, whatever its floor.
const WORLDS: [&str; 2] = ["sim", "glommio_env"];

type Table = [(u8, &'static str)];

/// The modules of a file below `src`: `wal/frame.rs` is `["wal", "frame"]`, `wal/mod.rs` is `["wal"]`.
fn modules(below: &str) -> Vec<String> {
    let mut parts: Vec<String> = below.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// The most specific row for a module path.
fn row(table: &Table, path: &[String]) -> Option<usize> {
    let joined = path.join("::");
    let covers = |name: &str| joined == name || joined.starts_with(&format!("{name}::"));
    let rows = table.iter().enumerate().filter(|(_, (_, name))| covers(name));
    rows.max_by_key(|(_, (_, name))| name.len()).map(|(index, _)| index)
}

/// Paths in a line of code, from the crate root. `depth` is the nesting depth of the line's module.
fn references(code: &str, own: &[String], depth: usize) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (start, _) in code.match_indices("crate::").filter(|(start, _)| !is_word_before(code, *start)) {
        found.extend(expand(&code[start + "crate::".len()..], &[]));
    }
    for (start, _) in code.match_indices("super::").filter(|(start, _)| !is_word_before(code, *start)) {
        let before = &code[..start];
        if before.ends_with("super::") {
            continue;
        }
        let mut rest = &code[start..];
        let mut up = 0usize;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            up += 1;
        }
        // More levels than the file has come from an inline module, whose first step up is the file.
        let climbed = up.saturating_sub(depth - own.len());
        let kept = own.len().saturating_sub(climbed);
        if climbed > 0 {
            found.extend(expand(rest, &own[..kept]));
        }
    }
    found
}

fn is_word_before(code: &str, at: usize) -> bool {
    code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$')
}

/// `a::b` and one level of `{a, b::c}`, as paths below `base`.
fn expand(rest: &str, base: &[String]) -> Vec<Vec<String>> {
    let path = |text: &str| -> Vec<String> {
        let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
        base.iter().cloned().chain(text[..end].split("::").filter(|part| !part.is_empty()).map(str::to_owned)).collect()
    };
    match rest.strip_prefix('{') {
        Some(group) => group.split('}').next().unwrap_or("").split(',').map(|item| path(item.trim())).collect(),
        None => vec![path(rest)],
    }
}

fn check_floors(table: &Table, source: &str, path: &str, text: &str) -> Vec<Finding> {
    let Some(below) = path.strip_prefix(source) else { return Vec::new() };
    if below == "lib.rs" {
        return Vec::new();
    }
    let own = modules(below);
    let Some(own_row) = row(table, &own) else {
        return vec![finding(path, 1, format!("`{}` has no floor: add it to tests/tidy/floors.rs", own.join("::")))];
    };
    let mut findings = Vec::new();
    for line in lines(path, text) {
        let depth = own.len() + usize::from(line.test && !crate::source::is_test_path(path));
        for target in references(line.code, &own, depth) {
            let Some(target_row) = row(table, &target) else { continue };
            let world = line.test && target.first().is_some_and(|first| WORLDS.contains(&first.as_str()));
            if target_row > own_row && !world {
                let ((from_floor, from), (to_floor, to)) = (table[own_row], table[target_row]);
                let what =
                    format!("`{from}` (floor {from_floor}) imports `{to}` (floor {to_floor}): {}", line.code.trim());
                findings.push(finding(path, line.number, what));
            }
        }
    }
    findings
}

fn engine(path: &str, text: &str) -> Vec<Finding> {
    check_floors(&ENGINE, "shards/src/", path, text)
}

fn product(path: &str, text: &str) -> Vec<Finding> {
    check_floors(&PRODUCT, "src/", path, text)
}

/// Which files may name the executor's driver: it must stay replaceable.
fn replaceable(path: &str, text: &str) -> Vec<Finding> {
    let product = path.starts_with("src/");
    let engine =
        path.starts_with("shards/src/") && !path.starts_with("shards/src/glommio_env/") && path != "shards/src/lib.rs";
    let home = ["src/net/", "src/app", "src/cli/"].iter().any(|home| path.starts_with(home));
    // Only the real environment serves the admin endpoint: it may name our side of the interface, not what is behind it.
    let our_side = path.starts_with("src/telemetry/");
    if !(product || engine) || home {
        return Vec::new();
    }
    let names = |code: &str| {
        let code = code.replace("glommio_env", "");
        code.contains("glommio::") || code.contains("use glommio") || code.contains("io_uring::")
    };
    lines(path, text)
        .iter()
        .filter(|line| names(line.code) || (product && !our_side && !line.test && line.code.contains("glommio_env")))
        .map(|line| {
            finding(path, line.number, "glommio is named only in shards/src/glommio_env and src/net: use `Env`")
        })
        .collect()
}

#[test]
fn engine_modules_import_only_lower_floors() {
    check(&["rs"], engine);
}

#[test]
fn product_modules_import_only_lower_floors() {
    check(&["rs"], product);
}

#[test]
fn what_drives_the_executor_stays_behind_the_seam() {
    check(&["rs"], replaceable);
}

#[test]
fn floor_table_is_the_documented_one() {
    let text = fs::read_to_string(root().join("shards/src/lib.rs")).expect("shards/src/lib.rs");
    let mut documented = Vec::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let Some((floor, names)) = line.split_once('|') else { continue };
        let Ok(floor) = floor.trim().parse::<u8>() else { continue };
        documented.extend(names.split('`').skip(1).step_by(2).map(|name| (floor, name.to_owned())));
    }
    documented.sort();
    let mut table: Vec<(u8, String)> = ENGINE.iter().map(|(floor, name)| (*floor, (*name).to_owned())).collect();
    table.sort();
    assert_eq!(documented, table, "the table in shards/src/lib.rs and the one in tests/tidy/floors.rs differ");
}

#[test]
fn engine_crate_names_only_its_own_modules() {
    check(&["rs"], |path, text| {
        let inside = path.starts_with("shards/");
        let bad = |line: &&crate::source::Line<'_>| inside && line.code.contains("tailwater::");
        let what = "the engine never names the product";
        lines(path, text).iter().filter(bad).map(|line| finding(path, line.number, what)).collect()
    });
}

#[test]
fn rules_of_this_file_find_what_is_wrong() {
    let good = [
        "use crate::env::Env;\n",
        "use super::frame::Frame;\nuse crate::{batch, limits::X};\n",
        "//! [`crate::engine`]\n",
        "#[cfg(test)]\nmod tests {\n    use super::*;\n    use crate::sim::Sim;\n}\n",
    ];
    let bad = [
        "use crate::engine::Engine;\n",
        "    let x = crate::plugin::y();\n",
        "use crate::{env::Env, shard};\n",
        "use super::super::delivery::X;\n",
        "use crate::sim::Sim;\n",
    ];
    check_rule("shards/src/wal/frame.rs", &good, &bad, engine);
    check_rule("shards/src/ring.rs", &["use super::env::X;\n"], &["use super::lane::Lane;\n"], engine);
    check_rule("shards/src/nowhere.rs", &[], &["//! x\n"], engine);
    check_rule(
        "src/inputs/file.rs",
        &["use crate::config::types::ByteSize;\n"],
        &["use crate::config::plan::Plan;\n"],
        product,
    );
    check_rule(
        "src/inputs/file.rs",
        &["use std::io;\n"],
        &["use glommio::Task;\n", "use tailwater_shards::glommio_env::X;\n"],
        replaceable,
    );
    check_rule("shards/src/shard.rs", &["use crate::env::Env;\n"], &["glommio::spawn_local(x);\n"], replaceable);
}
