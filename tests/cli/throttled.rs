//! What `throttle` drops is lost, and must be told: a backlog that was written slowly is read at once.

use crate::{command, tailwater, text, written};
use std::fs;
use std::path::Path;
use std::process::Output;

const LINES: u64 = 5_000;
const BURST: u64 = 20;

/// Runs a backlog of [`LINES`] through these transforms.
fn run(directory: &Path, transforms: &str) -> Output {
    let config = format!(
        "data_dir: {0}/data\nadmin: false\nshards: 1\nwal: {{max_bytes: 32MiB}}\ninputs: {{lines: {{type: stdin}}}}\n\
         pipelines: {{main: {{inputs: [lines], transforms: {transforms}, outputs: [out]}}}}\n\
         outputs: {{out: {{type: file, path: {0}/out.log}}}}\n",
        directory.display()
    );
    let path = written(directory, "c.yaml", &config);
    let backlog = written(directory, "backlog", &"a line\n".repeat(LINES as usize));
    let mut run = command(&["run", "-c", &path]);
    run.stdin(fs::File::open(backlog).expect("the backlog")).output().expect("the binary runs")
}

/// The lines of the application log with this text.
fn said(output: &Output, part: &str) -> Vec<serde_json::Value> {
    let lines = text(&output.stderr);
    let lines = lines.lines().filter(|line| line.contains(part));
    lines.map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn what_a_rate_drops_of_a_backlog_is_told_with_its_count() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = run(directory.path(), &format!("[{{throttle: {{rate: 1, per: 1h, burst: {BURST}}}}}]"));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let told = said(&output, "throttle dropped events");
    // One at once, and one at the end; no further one in a minute.
    assert!((1..=2).contains(&told.len()), "{}", text(&output.stderr));
    assert!(told.iter().all(|line| line["level"] == "warn" && line["component_id"] == "main"), "{told:?}");
    assert!(told[0]["message"].as_str().is_some_and(|message| message.contains("raise `burst`")), "{told:?}");
    assert_eq!(told.iter().filter_map(|line| line["events"].as_u64()).sum::<u64>(), LINES - BURST);
    let ended = said(&output, "\"ended\"").remove(0);
    let counts = ["received", "delivered", "discarded", "dead_lettered"].map(|name| ended[name].as_u64());
    assert_eq!(counts, [LINES, BURST, LINES - BURST, 0].map(Some), "{ended}");
}

#[test]
fn what_a_filter_drops_is_no_warning() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = run(directory.path(), "[{drop: \"true\"}]");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(said(&output, "dropped events").len(), 0, "{}", text(&output.stderr));
    assert_eq!(said(&output, "\"ended\"").remove(0)["discarded"].as_u64(), Some(LINES));
}

/// A user who writes as many lines as the unit of the example's rate allows in a quarter of an hour loses none of them.
#[test]
fn example_for_a_shared_host_passes_a_backlog_of_many_minutes() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples/shared-host.yaml");
    let example = fs::read_to_string(example).expect("the example");
    let number = |key: &str| -> u64 {
        let after = example.split(&format!(" {key}: ")).nth(1).expect("it is set");
        after.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    };
    assert!(number("burst") >= number("rate") * 900, "a pause of a quarter of an hour");
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", &example);
    assert_eq!(tailwater(&["validate", "--no-files", "-c", &path]).status.code(), Some(0));
}
