//! `try` with the lines of a file.

use crate::trying::blocks;
use crate::{command, tailwater, text, written};
use std::path::Path;

fn page() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trying.md")).expect("the page")
}

#[test]
fn lines_of_a_file_are_shown_as_those_of_a_stream() {
    let (page, directory) = (page(), tempfile::tempdir().expect("a directory"));
    let config = written(directory.path(), "shop.yaml", blocks(&page, "yaml")[0]);
    let lines = written(directory.path(), "sample.log", blocks(&page, "text")[0]);
    let of_file = tailwater(&["try", "-c", &config, "--file", &lines]);
    let mut stream = command(&["try", "-c", &config]);
    let of_stream = stream.stdin(std::fs::File::open(&lines).expect("the lines")).output().expect("the binary runs");
    assert_eq!(of_file.status.code(), Some(0), "{}", text(&of_file.stderr));
    assert_eq!(text(&of_file.stdout), text(&of_stream.stdout));
    assert!(text(&of_file.stdout).contains("event 3"), "{}", text(&of_file.stdout));
}

#[test]
fn events_of_a_file_name_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "inputs: {a: {type: file, include: [/a/*.log]}}\npipelines: {main: {inputs: [a], outputs: [out]}}\n\
                  outputs: {out: {type: blackhole}}\n";
    let config = written(directory.path(), "c.yaml", config);
    written(directory.path(), "sample.log", "one\n");
    let mut shown = command(&["try", "-c", &config, "--file", "sample.log"]);
    let shown = shown.current_dir(directory.path()).output().expect("the binary runs");
    let whole = directory.path().join("sample.log").display().to_string();
    assert!(
        text(&shown.stdout).contains(&format!("\"file\":\"{whole}\"")),
        "{}{}",
        text(&shown.stdout),
        text(&shown.stderr)
    );
}

#[test]
fn file_that_cannot_be_read_is_named() {
    let (page, directory) = (page(), tempfile::tempdir().expect("a directory"));
    let config = written(directory.path(), "shop.yaml", blocks(&page, "yaml")[0]);
    for (path, why) in [("/nonexistent.log", "No such file"), ("/tmp", "it is a directory; name one of the files")] {
        let output = tailwater(&["try", "-c", &config, "--file", path]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&format!("error: --file {path}: ")) && said.contains(why), "{said}");
    }
}
