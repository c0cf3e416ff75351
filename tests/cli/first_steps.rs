//! The page of first steps: every command on it works in an empty directory and prints what the page shows.
//!
//! Supports only the forms that the page uses: a shell command, a collector in the background, and its end.

use crate::trying::blocks;
use crate::{text, written};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long the collector may take to deliver a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// A shell in the reader's directory, with the binary in its `PATH`.
struct Reader<'a> {
    directory: &'a Path,
    /// The collector in the background.
    collector: Option<Child>,
}

impl Reader<'_> {
    fn shell(&self, line: &str) -> Command {
        let folder = Path::new(env!("CARGO_BIN_EXE_tailwater")).parent().expect("the binary is in a folder");
        let others = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.directory).stdin(Stdio::null()).stderr(Stdio::piped());
        command.env("PATH", format!("{}:{others}", folder.display())).env("PWD", self.directory);
        command.env_remove("TAILWATER_CONFIG").env_remove("TAILWATER_LOG");
        command
    }

    /// Runs a command. A `cat` is repeated until it prints what the page shows.
    #[expect(clippy::disallowed_methods, reason = "polls a file that the collector writes")]
    fn foreground(&self, line: &str, shown: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.shell(line).stdout(Stdio::piped()).output().expect("a shell");
            let printed = text(&output.stdout);
            // The page does not show what differs between machines.
            let as_shown = shown.is_empty() || printed.trim_end() == shown.trim_end();
            if output.status.success() && as_shown {
                return;
            }
            let waits = line.starts_with("cat ") && Instant::now() < deadline;
            assert!(waits, "{line}\nprinted:\n{printed}\nthe page shows:\n{shown}\n{}", text(&output.stderr));
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs one line of the page.
    fn step(&mut self, line: &str, shown: &str) {
        match line {
            "kill -9 $!" => {
                let mut collector = self.collector.take().expect("a collector in the background");
                collector.kill().expect("it runs");
                collector.wait().expect("it ends");
            }
            "kill $!" => {
                let mut collector = self.collector.take().expect("a collector in the background");
                let id = i32::try_from(collector.id()).expect("an id");
                // The shell replaced itself with the collector, so this is its id.
                let status = Command::new("kill").arg(id.to_string()).status().expect("kill");
                assert!(status.success());
                assert_eq!(collector.wait().expect("it ends").code(), Some(0));
            }
            _ => match line.strip_suffix(" &") {
                Some(line) => {
                    let mut shell = self.shell(&format!("exec {line}"));
                    self.collector = Some(shell.spawn().expect("a shell"));
                }
                None => self.foreground(line, shown),
            },
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(collector) = &mut self.collector {
            let _ = collector.kill();
            let _ = collector.wait();
        }
    }
}

#[test]
fn every_command_of_the_first_steps_works_in_an_empty_directory() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-steps.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let directory = tempfile::tempdir().expect("a directory");
    for (name, content) in ["hello.yaml", "first.yaml"].into_iter().zip(blocks(&page, "yaml")) {
        written(directory.path(), name, content);
    }
    let mut reader = Reader { directory: directory.path(), collector: None };
    for block in blocks(&page, "console") {
        for part in block.split("$ ").skip(1).collect::<Vec<_>>() {
            let (line, shown) = part.split_once('\n').expect("a command and what it prints");
            reader.step(line, shown);
        }
    }
}
