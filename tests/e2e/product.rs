//! The product as a child process: start, signals, exit, and its log.
//!
//! Guarantees: the process is killed by its id when the case ends, however it ends. When it ends, its log is checked: a WARN
//! or ERROR line that was not announced with [`Product::expect`] fails the case.

use crate::case::Case;
use crate::lines::{LineCount, arrived};
use crate::wait::wait_for;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The user of unprivileged runs: nobody.
pub const NOBODY: u32 = 65534;

/// Messages that are allowed in every case: those of the watchdog on a busy machine, and of a start on a small one.
const BUSY_MACHINE: [&str; 3] =
    ["shard has stopped responding", "the shard is running again", "this machine may not have enough resources"];

/// The signals that the product handles, and their numbers.
const HANDLED: [(&str, u32); 5] = [("HUP", 1), ("INT", 2), ("USR1", 10), ("USR2", 12), ("TERM", 15)];

static STARTS: AtomicUsize = AtomicUsize::new(0);

/// The binary under test.
pub fn binary() -> PathBuf {
    match std::env::var_os("TAILWATER_BIN") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(env!("CARGO_BIN_EXE_tailwater")),
    }
}

/// Runs a command to its end. For commands that end by themselves.
pub fn run_to_end(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().expect("the product starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// A command to which permissions apply: root runs it as nobody, from a copy that nobody can read.
pub fn unprivileged(case: &Case) -> Command {
    if !is_root() {
        return Command::new(binary());
    }
    let copy = case.path("tailwater");
    if !copy.exists() {
        fs::copy(binary(), &copy).expect("a copy of the binary");
    }
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={NOBODY}"), &format!("--regid={NOBODY}"), "--clear-groups", "--"]).arg(copy);
    command
}

/// Makes the user of [`unprivileged`] runs the owner of a path.
pub fn give_away(path: &Path) {
    if is_root() {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("a new owner");
    }
}

/// Whether a process has a handler for this signal, or has ended.
fn handles(process: u32, signal: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    let caught = u64::from_str_radix(&line("SigCgt:"), 16).unwrap_or(0);
    caught & (1 << (signal - 1)) != 0 || status.is_empty() || line("State:").starts_with('Z')
}

/// A running product.
pub struct Product {
    child: Child,
    log: PathBuf,
    expected: Vec<&'static str>,
    ended: bool,
}

impl Product {
    /// Starts `run -c CONFIG`.
    pub fn start(case: &Case, config: &Path) -> Product {
        Product::start_with(case, Command::new(binary()).arg("run").arg("-c").arg(config).stdin(Stdio::null()))
    }

    /// Starts `run -c CONFIG` with a pipe as standard input.
    pub fn start_piped(case: &Case, config: &Path) -> (Product, ChildStdin) {
        let mut command = Command::new(binary());
        let mut product = Product::start_with(case, command.arg("run").arg("-c").arg(config).stdin(Stdio::piped()));
        let input = product.child.stdin.take().expect("a pipe");
        (product, input)
    }

    /// Starts `command`, which must run the product.
    pub fn start_with(case: &Case, command: &mut Command) -> Product {
        let output = case.path(&format!("product-{}.out", STARTS.fetch_add(1, Ordering::Relaxed)));
        Product::start_writing_to(case, command, File::create(output).expect("an output file").into())
    }

    /// Like [`Product::start_with`], with this as standard output.
    pub fn start_writing_to(case: &Case, command: &mut Command, output: Stdio) -> Product {
        let number = STARTS.fetch_add(1, Ordering::Relaxed);
        let log = case.path(&format!("product-{number}.log"));
        let errors = File::create(&log).expect("a log file");
        // Cases look at descriptors and counters of the process, which only root may otherwise.
        if !is_root() && command.get_envs().all(|(name, _)| name != "TAILWATER_CORE_DUMPS") {
            command.env("TAILWATER_CORE_DUMPS", "1");
        }
        let child = command.stdout(output).stderr(errors).spawn().expect("the product starts");
        Product { child, log, expected: BUSY_MACHINE.to_vec(), ended: false }
    }

    /// Announces that the log may contain WARN and ERROR lines with this text.
    pub fn expect(&mut self, part: &'static str) {
        self.expected.push(part);
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> String {
        text(&fs::read(&self.log).expect("the product's log"))
    }

    /// Waits until a line of the log contains all of `parts`, ignoring case.
    pub fn wait_for_log(&mut self, parts: &[&str]) {
        wait_for(&format!("a log line with {parts:?}"), || {
            let log = self.log();
            let found =
                log.lines().any(|line| parts.iter().all(|part| line.to_lowercase().contains(&part.to_lowercase())));
            if found { Ok(()) } else { Err(self.state()) }
        });
    }

    /// Whether it is still running, and the end of its log.
    pub fn state(&mut self) -> String {
        let status = match self.child.try_wait() {
            Ok(None) => "running".to_owned(),
            Ok(Some(status)) => format!("ended: {status}"),
            Err(error) => error.to_string(),
        };
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(15).collect();
        format!("{status}; log:\n{}", lines.into_iter().rev().collect::<Vec<_>>().join("\n"))
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal with the shell's `kill`, which every system has. One that the product handles is not sent before it
    /// does: a process that has only just begun would be ended by it.
    pub fn signal(&self, name: &str) {
        if let Some((_, number)) = HANDLED.iter().find(|(handled, _)| *handled == name) {
            wait_for(&format!("a process that handles SIG{name}"), || match handles(self.id(), *number) {
                true => Ok(()),
                false => Err(self.log()),
            });
        }
        let status = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.id())).status().expect("sh");
        assert!(status.success(), "kill -{name} failed");
    }

    /// Waits until the process has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for("the product's end", || match self.child.try_wait().expect("a child") {
            Some(status) => Ok(status),
            None => Err(format!("running; log:\n{}", self.log())),
        });
        self.ended = true;
        self.check_log();
        status
    }

    /// SIGTERM: it drains and exits with 0.
    pub fn terminate(mut self) {
        self.signal("TERM");
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{}", self.state());
    }

    /// SIGKILL: it ends at once.
    pub fn kill(mut self) {
        assert!(self.is_running(), "it ended before it was killed: {}", self.state());
        self.child.kill().expect("a signal");
        let status = self.child.wait().expect("a child");
        assert_eq!(status.signal(), Some(9));
        self.ended = true;
        self.check_log();
    }

    /// Waits until `output` has this many lines, ends the product like [`Product::terminate`], and checks that each line
    /// arrived once and nothing else did.
    pub fn finish(mut self, output: &Path, lines: u64) {
        LineCount::of(output.to_owned()).wait(lines, &mut self);
        self.terminate();
        arrived(output, lines).assert_exactly_once();
    }

    fn check_log(&self) {
        let log = self.log();
        let unlisted: Vec<&str> = log
            .lines()
            // Warnings of the configuration are the case's own choice.
            .filter(|line| !line.contains("\"target\":\"tailwater::configuration\""))
            .filter(|line| is_alarming(line) && !self.expected.iter().any(|part| line.contains(part)))
            .collect();
        assert!(unlisted.is_empty(), "unexpected in the product's log:\n{}", unlisted.join("\n"));
    }
}

impl Drop for Product {
    fn drop(&mut self) {
        if !self.ended {
            // The process may have ended already; in any case it is gone afterwards.
            let _ = self.child.kill();
            let _ = self.child.wait();
            if std::thread::panicking() {
                eprintln!("{}", self.state());
            } else {
                panic!("a case ends its product itself, so that the log is checked");
            }
        }
    }
}

/// Whether a log line needs attention: JSON by its level, text by its words.
fn is_alarming(line: &str) -> bool {
    match serde_json::from_str::<serde_json::Value>(line) {
        Ok(value) => value.get("level").and_then(|level| level.as_str()).is_some_and(is_alarm),
        Err(_) => line.contains("panicked at") || line.split_whitespace().take(3).any(is_alarm),
    }
}

fn is_alarm(level: &str) -> bool {
    ["warn", "error"].iter().any(|alarm| level.trim_end_matches(':').eq_ignore_ascii_case(alarm))
}

#[test]
fn alarming_lines_are_recognised() {
    assert!(is_alarming(r#"{"timestamp":"x","level":"WARN","message":"y"}"#));
    assert!(is_alarming(r#"{"level":"error"}"#));
    assert!(is_alarming("2026-01-01T00:00:00Z ERROR wal: damaged"));
    assert!(is_alarming("thread 'main' panicked at src/main.rs:1:1:"));
    assert!(!is_alarming(r#"{"level":"INFO","message":"no ERROR here"}"#));
    assert!(!is_alarming("2026-01-01T00:00:00Z INFO started without WARN"));
}

#[test]
fn process_that_knows_no_signal_yet_is_not_asked_to_end() {
    let mut child = Command::new("sleep").arg("1000").spawn().expect("sleep");
    assert!(!handles(child.id(), 15));
    child.kill().expect("a signal");
    // It has ended, and nobody has waited for it.
    wait_for("its end", || if handles(child.id(), 15) { Ok(()) } else { Err("it runs".to_owned()) });
    child.wait().expect("a child");
    let mut child = Command::new("sh").args(["-c", "trap : TERM; while :; do sleep 1; done"]).spawn().expect("sh");
    wait_for("its handler", || if handles(child.id(), 15) { Ok(()) } else { Err("no handler".to_owned()) });
    assert!(child.try_wait().expect("a child").is_none() && !handles(child.id(), 1));
    child.kill().expect("a signal");
    child.wait().expect("a child");
}
