//! The configurations that are shipped: files of examples, and blocks of the documentation.
//!
//! Guarantees: the real `validate` accepts each of them, as a file that everybody can read, and warns of nothing that the page does
//! not show. A block that is only a part, a component or transforms, is completed first. Does not depend on the directories of this
//! machine: those of the examples are below a temporary one.

use crate::trying::blocks;
use crate::{command, tailwater, text, written};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

/// The directories that shipped configurations write to.
const DIRECTORIES: [&str; 3] = ["/srv/logs", "/var/lib/tailwater", "/var/log"];

/// The keys of a whole configuration that may stand alone in a block.
const TOP: [&str; 8] = ["data_dir", "admin", "wal", "dlq", "log", "inputs", "outputs", "transforms"];

/// The sections that a configuration needs.
const SECTIONS: [(&str, &str); 2] =
    [("inputs", "inputs:\n  lines: {type: stdin}\n"), ("outputs", "outputs:\n  none: {type: blackhole}\n")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files in a directory of the repository with this ending, and in the directories below it.
fn files(below: &str, ending: &str) -> Vec<PathBuf> {
    let (mut found, mut directories) = (Vec::new(), vec![root().join(below)]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(end) if end == ending => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// What `validate` says of a configuration with the variables that it names.
fn validated(content: &str, more: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path().to_str().expect("UTF-8");
    let content =
        DIRECTORIES.iter().fold(content.to_owned(), |text, path| text.replace(path, &format!("{base}{path}")));
    let path = written(directory.path(), "shipped.yaml", &content);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("permissions");
    let mut command = command(&["validate", "-c", &path]);
    for name in content.split("${").skip(1).filter_map(|rest| rest.split(['}', ':']).next()) {
        let value = match name {
            "PWD" | "PERF_DIRECTORY" => base,
            "PERF_ADMIN" | "PERF_SINK" => "127.0.0.1:9600",
            "PERF_SHARDS" => "1",
            _ => "a value that is only an example",
        };
        command.env(name, value);
    }
    command.args(more).output().expect("the binary runs")
}

/// Fails for an error, and for a warning that is not in `page`.
fn is_fine(what: &str, output: &Output, page: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{what}\n{said}");
    let warnings = said.lines().filter_map(|line| line.split_once("warning: ")).map(|(_, warning)| warning);
    for warning in warnings {
        assert!(page.contains(warning), "{what}\nwarns of something that its page does not show:\n{said}");
    }
}

/// The whole configurations that a block may be a part of: one of them has to be accepted.
fn completed(block: &str) -> Vec<String> {
    let indent = |text: &str, by: usize| -> String {
        text.lines().map(|line| format!("{:by$}{line}\n", "").trim_end().to_owned() + "\n").collect()
    };
    let lowest = block.lines().filter(|line| !line.trim().is_empty()).map(|line| line.len() - line.trim_start().len());
    let by = lowest.min().unwrap_or(0);
    let block: String = block.lines().map(|line| format!("{}\n", line.get(by..).unwrap_or_default())).collect();
    let has = |section: &str| block.lines().any(|line| line.starts_with(&format!("{section}:")));
    let rest = |sections: &[&str]| -> String {
        SECTIONS.iter().filter(|(name, _)| sections.contains(name)).map(|(_, text)| *text).collect()
    };
    let pipeline = |inputs: &str, outputs: &str| {
        format!("pipelines:\n  main:\n    inputs: [{inputs}]\n    outputs: [{outputs}]\n")
    };
    match block.as_str() {
        _ if has("pipelines") || has("scrape_configs") => vec![block],
        // Settings of an input.
        text if !has("type") && !text.starts_with("- ") && !TOP.iter().any(|key| has(key)) => {
            completed(&format!("type: stdin\n{text}"))
        }
        text if has("type") => {
            let input = format!("inputs:\n  shown:\n{}", indent(text, 4));
            let output = format!("outputs:\n  shown:\n{}", indent(text, 4));
            vec![
                input + &rest(&["outputs"]) + &pipeline("shown", "none"),
                output + &rest(&["inputs"]) + &pipeline("lines", "shown"),
            ]
        }
        text if text.starts_with("- ") || has("transforms") => {
            let list = if has("transforms") { text.to_owned() } else { format!("transforms:\n{}", indent(text, 2)) };
            vec![rest(&["inputs", "outputs"]) + &pipeline("lines", "none") + &indent(&list, 4)]
        }
        text => {
            let names = |section: &str, else_: &str| -> String {
                let lines = text.lines().skip_while(|line| !line.starts_with(&format!("{section}:"))).skip(1);
                let own = lines.take_while(|line| line.starts_with(' ') || line.is_empty());
                let names = own.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with([' ', '#'])));
                let names: Vec<&str> =
                    names.filter_map(|line| line.split(':').next()).filter(|name| !name.is_empty()).collect();
                if names.is_empty() { else_.to_owned() } else { names.join(", ") }
            };
            let missing: Vec<&str> = ["inputs", "outputs"].into_iter().filter(|section| !has(section)).collect();
            let (inputs, outputs) = (names("inputs", "lines"), names("outputs", "none"));
            vec![text.to_owned() + &rest(&missing) + &pipeline(&inputs, &outputs)]
        }
    }
}

#[test]
fn files_of_examples_are_accepted_without_a_warning() {
    let examples = files("deploy", "yaml");
    let scenarios = files("perf/scenarios", "yaml").into_iter().filter(|path| path.ends_with("tailwater.yaml"));
    let all: Vec<PathBuf> = examples.into_iter().chain(scenarios).collect();
    assert!(all.len() >= 12, "{all:?}");
    for path in all {
        let content = fs::read_to_string(&path).expect("an example");
        is_fine(&path.display().to_string(), &validated(&content, &[]), "");
    }
}

/// What an event says of itself, and the name of its file, lead to no other user's file.
#[test]
fn example_for_a_shared_host_files_events_by_the_directory_of_their_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let logs = directory.path().join("var/log/apps/ann");
    fs::create_dir_all(&logs).expect("directories");
    let example = fs::read_to_string(root().join("deploy/examples/shared-host.yaml")).expect("the example");
    let base = directory.path().display().to_string();
    let config = written(directory.path(), "c.yaml", &example.replace("/var/log", &format!("{base}/var/log")));
    for name in ["app.log", "a\nb.log"] {
        let file = logs.join(name);
        fs::write(&file, "{\"user\":\"root\",\"file\":\"/var/log/apps/bob/x.log\",\"message\":\"hi\"}\n")
            .expect("written");
        let file = file.to_str().expect("UTF-8");
        let shown = tailwater(&["try", "-c", &config, "--json", "--input", "users", "--file", file]);
        let shown = text(&shown.stdout) + &text(&shown.stderr);
        assert!(shown.contains("\"user\":\"ann\"") && shown.contains("\"users\""), "{shown}");
    }
}

/// The page names each setting of the example that holds back neighbours, with its value.
#[test]
fn page_about_security_explains_the_example_for_a_shared_host() {
    let read = |path: &str| fs::read_to_string(root().join(path)).expect("a file");
    let (page, example) = (read("docs/security.md"), read("deploy/examples/shared-host.yaml"));
    let section = page.split("## A host that many users share").nth(1).expect("the section");
    let section = section.split("\n## ").next().expect("it ends");
    let mut explained = 0;
    for row in section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| setting")) {
        let setting = row.trim_start_matches("| ").split(" | ").next().expect("a cell");
        for quoted in setting.split('`').skip(1).step_by(2) {
            let key = quoted.split([':', '.']).next().expect("a key");
            assert!(example.contains(&format!("{key}:")), "the example has no `{quoted}`");
            if let Some((_, value)) = quoted.split_once(": ") {
                assert!(example.contains(value), "the example says something else than `{quoted}`");
            }
            explained += 1;
        }
    }
    assert!(explained >= 15, "{explained} settings");
}

#[test]
fn blocks_of_the_documentation_are_accepted_without_a_warning_that_they_do_not_show() {
    let top = ["README.md", "CONTRIBUTING.md", "SECURITY.md"].map(|name| root().join(name));
    let mut seen = 0;
    for path in files("docs", "md").into_iter().chain(top) {
        let page = fs::read_to_string(&path).expect("a page");
        for block in blocks(&page, "yaml").into_iter().filter(|block| !block.starts_with("scrape_configs:")) {
            let what = format!("{}:\n{block}", path.display());
            let tried: Vec<Output> = completed(block).iter().map(|whole| validated(whole, &["--no-files"])).collect();
            let accepted: Vec<&Output> = tried.iter().filter(|output| output.status.code() == Some(0)).collect();
            let said: String = tried.iter().map(|output| text(&output.stderr)).collect();
            assert!(!accepted.is_empty(), "{what}\n{said}");
            accepted.iter().for_each(|output| is_fine(&what, output, &page));
            seen += 1;
        }
    }
    assert!(seen >= 45, "{seen} blocks");
}

/// The rule itself finds what it is for.
#[test]
fn literal_secrets_and_unused_outputs_in_an_example_are_found() {
    let example = fs::read_to_string(root().join("deploy/examples/json-to-elasticsearch.yaml")).expect("an example");
    let secret = example.replace("    index: logs", "    auth: {api_key: hunter2}\n    index: logs");
    let unused =
        example.replace("      - {to: errors, when: level == \"error\"}\n", "").replace("[search, errors]", "search");
    for (changed, warning) in
        [(secret, "a secret is written in a file that every user can read"), (unused, "is in no pipeline")]
    {
        assert_ne!(changed, example);
        let output = validated(&changed, &[]);
        let said = text(&output.stderr);
        assert!(said.contains(warning), "{said}");
        let found = std::panic::catch_unwind(|| is_fine("an example", &output, "")).is_err();
        assert!(found, "{said}");
        is_fine("an example", &output, &said);
    }
}
