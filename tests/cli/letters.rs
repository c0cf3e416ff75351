//! The page about dead letters: its commands print what it shows.

use crate::trying::blocks;
use crate::{command, text, written};
use std::path::Path;
use std::process::Stdio;

/// Times differ from day to day, so all digits are ignored.
fn shape(shown: &str) -> String {
    shown.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

#[test]
fn page_about_dead_letters_shows_the_real_output() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/dead-letters.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path(), "letters.yaml", blocks(&page, "yaml")[0]);
    written(directory.path(), "lines.log", blocks(&page, "text")[0]);
    let session = blocks(&page, "console")[0];
    let commands: Vec<&str> = session.split("$ tailwater ").skip(1).collect();
    assert_eq!(commands.len(), 3);
    for part in commands {
        let (line, shown) = part.split_once('\n').expect("a command and what it prints");
        let (words, original_only) = match line.strip_suffix(" | jq -r .original") {
            Some(words) => (words, true),
            None => (line, false),
        };
        let (words, lines) = match words.strip_suffix(" < lines.log") {
            Some(words) => (words, std::fs::File::open(directory.path().join("lines.log")).expect("the lines").into()),
            None => (words, Stdio::null()),
        };
        let arguments: Vec<&str> = words.split(' ').collect();
        let mut command = command(&arguments);
        let output = command.current_dir(directory.path()).stdin(lines).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
        let printed = match original_only {
            true => {
                let letter: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one letter");
                format!("{}\n", letter["original"].as_str().expect("a text"))
            }
            false => text(&output.stdout),
        };
        assert_eq!(shape(&printed), shape(shown), "{line}");
    }
}
