//! What strangers choose (events, names of files) shown on a real terminal: it arrives spelled out, and unchanged in a pipe.

use crate::{command, text, written};
use std::path::Path;
use std::process::{Command, Stdio};

/// Sets the title of a terminal, clears it with a C1 character, and turns text around.
const HOSTILE: &str = "a\u{1b}]0;owned\u{7}\u{9b}2J\u{202e}b";

/// The same in JSON of an attacker who leaves out what JSON must escape.
const EVENT: &str = "{\"message\":\"a\\u001b]0;owned\\u0007\u{9b}2J\u{202e}b\"}\n";

/// Runs the command on a terminal and returns what the terminal receives.
fn on_a_terminal(directory: &Path, line: &str) -> String {
    let line = format!("{} {line}", env!("CARGO_BIN_EXE_tailwater"));
    let mut command = Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).current_dir(directory).stdin(Stdio::null());
    command.env("NO_COLOR", "1").env_remove("TAILWATER_CONFIG").env_remove("TAILWATER_LOG");
    text(&command.output().expect("`script` is there: it belongs to every Linux").stdout)
}

fn assert_harmless(what: &str, shown: &str) {
    let steers = |c: &char| c.is_control() && !matches!(c, '\r' | '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(c);
    assert_eq!(shown.chars().find(steers), None, "{what}: {shown:?}");
    // The parser of arguments removes whole sequences.
    assert!(shown.contains("owned") || shown.contains("\\u{202e}b"), "{what} shows it: {shown:?}");
}

fn config(directory: &Path, encode: &str, parse: &str) -> String {
    let config = format!(
        "data_dir: {}/data\nadmin: false\ninputs: {{in: {{type: stdin{parse}}}}}\n\
         pipelines: {{main: {{inputs: [in], outputs: [out]}}}}\n\
         outputs: {{out: {{type: console{encode}}}}}\n",
        directory.display()
    );
    written(directory, "c.yaml", &config)
}

#[test]
fn console_and_the_commands_that_print_events_cannot_be_used_against_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    written(here, "events", EVENT);
    written(here, "lines", &format!("{HOSTILE}\n"));
    config(here, "", ", parse: json");
    assert_harmless("run, JSON", &on_a_terminal(here, "run -c c.yaml < events"));
    assert_harmless("wal cat", &on_a_terminal(here, "wal cat -c c.yaml"));
    assert_harmless("try", &on_a_terminal(here, "try -c c.yaml < events"));
    config(here, ", encode: text, newlines: keep", "");
    assert_harmless("run, text", &on_a_terminal(here, "run -c c.yaml < lines"));
    let output = command(&["run", "-c", "c.yaml"])
        .current_dir(here)
        .stdin(std::fs::File::open(here.join("lines")).expect("it is there"))
        .output()
        .expect("the binary runs");
    assert_eq!(text(&output.stdout), format!("{HOSTILE}\n"), "a pipe gets it unchanged");
}

#[test]
fn names_of_files_cannot_be_used_against_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path();
    written(here, &format!("{HOSTILE}.yaml"), "inputs: 7\n");
    for line in
        ["validate -c a*.yaml", "run -c a*.yaml", "test -c a*.yaml", "validate a*.yaml", "wal ls --data-dir a*.yaml"]
    {
        assert_harmless(line, &on_a_terminal(here, line));
    }
    let data = here.join("data");
    let config = format!(
        "data_dir: {}\nadmin: false\ninputs: {{in: {{type: file, include: [\"{}/*.log\"]}}, last: {{type: stdin}}}}\n\
         pipelines: {{main: {{inputs: [in, last], outputs: [out]}}}}\noutputs: {{out: {{type: blackhole}}}}\n",
        data.display(),
        here.display()
    );
    written(here, "c.yaml", &config);
    written(here, &format!("{HOSTILE}.log"), "a line\n");
    for format in ["text", "json"] {
        let run = format!("run -c {format}.yaml");
        written(
            here,
            &format!("{format}.yaml"),
            &format!("log: {{format: {format}, level: debug}}\ndrain_timeout: 1s\n{config}"),
        );
        let stopped = on_a_terminal(
            here,
            &format!("validate -c c.yaml >/dev/null; timeout -s INT 3 {} {run}", env!("CARGO_BIN_EXE_tailwater")),
        );
        assert_harmless(format, &stopped);
    }
}
