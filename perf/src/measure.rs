//! The meter: one process from its start to its end, priced.
//!
//! Guarantees: the CPU time is that of the whole life of the process, all threads, start and end included, as the kernel
//! accounts it; nothing is subtracted. It is read when the process has ended and before it is reaped. The clock of the
//! kernel's account ticks in hundredths of a second. The peak of resident memory counts mapped files too.
//!
//! Work that the kernel does for a process in its own threads (writing dirty pages back) is in nobody's account.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// What a run cost.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// User and system time of the process.
    pub cpu_seconds: f64,
    /// From the start of the process until its work was seen to be done.
    pub wall_seconds: f64,
    /// Highest resident memory.
    pub resident_peak_bytes: u64,
}

/// A process under measurement; killed if it is dropped before its end.
pub struct Metered {
    child: Child,
    begun: Instant,
    ended: bool,
}

/// Ticks a second of /proc's times: fixed at 100 in Linux's interface to programs, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often a running process is looked at.
pub const POLL: Duration = Duration::from_millis(50);
const END_WITHIN: Duration = Duration::from_secs(60);

impl Metered {
    /// Starts `command`.
    pub fn start(command: &mut Command) -> Result<Metered, String> {
        let begun = Instant::now();
        let child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()))?;
        Ok(Metered { child, begun, ended: false })
    }

    /// Polls `done` until it says yes, then ends the process with SIGTERM and reads its account.
    pub fn finish(mut self, within: Duration, mut done: impl FnMut() -> Result<bool, String>) -> Result<Usage, String> {
        let mut resident_peak_bytes = 0;
        while !done()? {
            resident_peak_bytes = resident_peak_bytes.max(self.resident_peak());
            if self.stat()?.state == "Z" {
                return Err("the process ended before its work was done".into());
            }
            if self.begun.elapsed() > within {
                return Err(format!("not done within {} seconds", within.as_secs()));
            }
            pause(POLL);
        }
        let wall_seconds = self.begun.elapsed().as_secs_f64();
        resident_peak_bytes = resident_peak_bytes.max(self.resident_peak());
        let cpu_seconds = self.end()?;
        Ok(Usage { cpu_seconds, wall_seconds, resident_peak_bytes })
    }

    fn end(&mut self) -> Result<f64, String> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().map_err(|error| format!("kill: {error}"))?;
        if !sent.success() {
            return Err("SIGTERM could not be sent".into());
        }
        let asked = Instant::now();
        let mut stat = self.stat()?;
        // The leader is a zombie as soon as it has ended; the account is complete when it is the last thread.
        while stat.state != "Z" || self.threads() > 1 {
            if asked.elapsed() > END_WITHIN {
                return Err(format!("did not end within {} seconds of SIGTERM", END_WITHIN.as_secs()));
            }
            pause(Duration::from_millis(2));
            stat = self.stat()?;
        }
        let stat = self.stat()?;
        self.ended = true;
        let status = self.child.wait().map_err(|error| format!("wait: {error}"))?;
        if status.success() { Ok(stat.cpu_seconds) } else { Err(format!("ended with {status}")) }
    }

    fn stat(&self) -> Result<Stat, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Stat::parse(&text).ok_or_else(|| format!("{path}: unexpected content"))
    }

    fn threads(&self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.child.id())).map_or(0, Iterator::count)
    }

    fn resident_peak(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kibibytes.unwrap_or(0) << 10
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself; either way it is gone afterwards.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The two facts of /proc/PID/stat that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    state: String,
    cpu_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name of the program stands in parentheses and may contain anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Stat { state, cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND })
    }
}

#[expect(clippy::disallowed_methods, reason = "a poll between two looks at another process, on a thread of its own")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Makes `path` an empty directory.
pub fn clear_directory(path: &Path) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.exists() {
        fs::remove_dir_all(path).map_err(fail)?;
    }
    fs::create_dir_all(path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_whatever_the_program_is_called() {
        let text = "7 (a) b) Z 1 7 7 0 -1 4194560 1 0 0 0 120 34 0 0 20 0 1 0 5 0 0\n";
        assert_eq!(Stat::parse(text), Some(Stat { state: "Z".into(), cpu_seconds: 1.54 }));
        assert_eq!(Stat::parse("7 (x"), None);
    }

    #[test]
    fn account_covers_the_life_of_a_process() {
        let burn =
            "trap 'exit 0' TERM; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; while :; do sleep 0.05; done";
        let metered = Metered::start(Command::new("sh").args(["-c", burn])).unwrap();
        let id = metered.child.id();
        let used = || Stat::parse(&fs::read_to_string(format!("/proc/{id}/stat")).unwrap()).unwrap().cpu_seconds;
        let usage = metered.finish(Duration::from_secs(60), || Ok(used() >= 0.05)).unwrap();
        assert!(usage.cpu_seconds >= 0.05, "{usage:?}");
        assert!(usage.resident_peak_bytes > 100 << 10, "{usage:?}");
    }

    #[test]
    fn early_end_is_an_error() {
        let metered = Metered::start(&mut Command::new("true")).unwrap();
        let error = metered.finish(Duration::from_secs(60), || Ok(false)).unwrap_err();
        assert!(error.contains("before its work was done"), "{error}");
    }
}
