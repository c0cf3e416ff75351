//! A server as a process: its ports, its log, its end.
//!
//! Guarantees: the process ends when its value is dropped, and when the process that started it ends in any way: a guard
//! waits until the other end of a pipe closes. Nothing is ever ended by name.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Maximum wait for a server to start; a busy machine needs a quarter of it.
pub const START_DEADLINE: Duration = Duration::from_secs(180);
/// How long a server may take to end on request before it is killed.
const END_DEADLINE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Sleeps for about `duration`. Nothing depends on how long that really was.
pub fn pause(duration: Duration) {
    std::thread::park_timeout(duration);
}

/// A running server.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    guard: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command whose output is appended to `log`. `folder` is removed if this process dies before the server ends.
    pub fn start(name: &'static str, command: &mut Command, log: &Path, folder: &Path) -> Process {
        let output = File::options().create(true).append(true).open(log);
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let errors = output.try_clone().expect("a second descriptor");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {command:?}: {error}"));
        let guard = guard(&child, folder);
        Process { name, child, guard, log: log.to_owned() }
    }

    /// The process, for tests that stop and continue it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` succeeds. Its last error is part of the message if the server died or the time is over.
    pub fn wait_until(&mut self, mut ready: impl FnMut() -> Result<(), String>) {
        let begun = Instant::now();
        loop {
            let Err(state) = ready() else { return };
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!(
                    "{} ended with {status} instead of getting ready; the end of its log:\n{}",
                    self.name,
                    self.log_tail()
                );
            }
            if begun.elapsed() > START_DEADLINE {
                let log = self.log_tail();
                panic!("{} is not ready after {START_DEADLINE:?}: {state}; the end of its log:\n{log}", self.name);
            }
            pause(LOOK);
        }
    }

    /// The last lines of its output.
    pub fn log_tail(&self) -> String {
        let text = std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let text = text.unwrap_or_else(|error| format!("{}: {error}", self.log.display()));
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("at ")).collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Asks it to end, and kills it if it does not.
    pub fn stop(mut self) -> ExitStatus {
        self.end(Signal::SIGTERM)
    }

    /// Ends it at once, in the middle of anything.
    pub fn kill(mut self) -> ExitStatus {
        self.end(Signal::SIGKILL)
    }

    fn end(&mut self, signal: Signal) -> ExitStatus {
        let ended = |child: &mut Child| child.try_wait().expect("the server is a child of this process");
        let status = ended(&mut self.child).unwrap_or_else(|| {
            // It was not waited for yet, so the number still belongs to it.
            kill(Pid::from_raw(self.child.id() as i32), signal).expect("the server can be signalled");
            let begun = Instant::now();
            loop {
                if let Some(status) = ended(&mut self.child) {
                    return status;
                }
                if begun.elapsed() > END_DEADLINE {
                    self.child.kill().expect("the server can be killed");
                }
                pause(LOOK);
            }
        });
        self.release_guard();
        status
    }

    fn release_guard(&mut self) {
        if let Some(mut pipe) = self.guard.stdin.take() {
            // A guard that has ended has nothing to guard.
            let _ = pipe.write_all(b"\n");
        }
        let _ = self.guard.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.guard.stdin.is_some() {
            self.end(Signal::SIGKILL);
        }
    }
}

/// Kills the server and removes its directory when this process is gone: then the pipe closes without a line. Values in a
/// `static` are never dropped, so a server that a whole test binary shares always ends this way.
fn guard(child: &Child, folder: &Path) -> Child {
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "read -r line || { kill -KILL \"$1\"; sleep 0.3; rm -rf \"$2\"; }",
        "guard",
        &child.id().to_string(),
    ]);
    // Its own process group: an interrupt from the keyboard must not end it before the tests.
    command.arg(folder).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().unwrap_or_else(|error| panic!("sh: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(pid: u32) -> bool {
        let begun = Instant::now();
        // A zombie has no command line.
        while std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty()) {
            if begun.elapsed() > Duration::from_secs(20) {
                return false;
            }
            pause(LOOK);
        }
        true
    }

    fn sleeper(folder: &Path) -> Process {
        Process::start("sleeper", Command::new("sleep").arg("1000"), &folder.join("log"), folder)
    }

    #[test]
    fn dropped_server_ends_and_leaves_its_directory_to_its_owner() {
        let folder = tempfile::tempdir().expect("a folder");
        let process = sleeper(folder.path());
        let pid = process.id();
        drop(process);
        assert!(ends(pid));
        assert!(folder.path().is_dir());
    }

    #[test]
    fn a_server_ends_with_the_process_that_started_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = sleeper(folder.path());
        let pid = process.id();
        // This closes the pipe like the death of this process.
        drop(process.guard.stdin.take());
        assert!(ends(pid));
        process.guard.wait().expect("the guard ends");
        assert!(!folder.path().exists());
        process.child.wait().expect("the server has ended");
    }

    #[test]
    fn a_server_that_dies_at_its_start_is_reported_with_its_log() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        let command = command.args(["-c", "echo no such luck; exit 3"]);
        let mut process = Process::start("unlucky", command, &folder.path().join("log"), folder.path());
        let waited = std::panic::AssertUnwindSafe(|| process.wait_until(|| Err("not yet".to_owned())));
        let panic = std::panic::catch_unwind(waited).expect_err("it is not ready");
        let message = panic.downcast_ref::<String>().expect("a message");
        assert!(message.contains("exit status: 3") && message.contains("no such luck"), "{message}");
    }
}
