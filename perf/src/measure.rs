//! Measures one process from its start to its exit.
//!
//! Guarantees: the CPU time covers the whole life of the process and all its threads, start and exit included, in microseconds,
//! as the kernel reports it to a parent (`getrusage` before and after the child is reaped). Nothing is subtracted. The peak of
//! resident memory includes mapped files.
//!
//! Work that the kernel does for a process in its own threads (writeback of dirty pages) is charged to no process.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant, SystemTime};

/// A process under measurement. It is killed if it is dropped before it has ended.
pub struct Metered {
    child: Child,
    begun: Instant,
    begun_wall: SystemTime,
    ended: bool,
}

/// What is known about a process that has ended.
pub struct Ended {
    /// User and system time from start to exit.
    pub cpu_seconds: f64,
    /// How it ended.
    pub status: ExitStatus,
}

/// Ticks per second in /proc's times. Linux fixes it at 100 in its interface to programs, whatever the kernel's own rate.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often a running process is checked.
const LOOK: Duration = Duration::from_millis(10);
/// A process counts as idle when it has used no tick for this long.
const RESTING: Duration = Duration::from_millis(30);
/// How often an idle process is asked whether it is done.
const ASK_RESTING: Duration = Duration::from_millis(50);
const END_WITHIN: Duration = Duration::from_secs(60);

impl Metered {
    /// Starts `command` on the processors `cpus`.
    pub fn start(command: &mut Command, cpus: &[usize]) -> Result<Metered, String> {
        let before = affinity()?;
        // The child inherits it, so no launcher is needed whose own work would be counted.
        pin(cpus)?;
        let (begun, begun_wall) = (Instant::now(), SystemTime::now());
        let child = command.spawn().map_err(|error| format!("{:?}: {error}", command.get_program()));
        sched_setaffinity(Pid::from_raw(0), &before).map_err(|error| format!("sched_setaffinity: {error}"))?;
        Ok(Metered { child: child?, begun, begun_wall, ended: false })
    }

    /// Seconds from the start to the last change of a file.
    pub fn until_change_of(&self, path: &Path) -> Result<f64, String> {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let changed = fs::metadata(path).and_then(|metadata| metadata.modified()).map_err(fail)?;
        Ok(changed.duration_since(self.begun_wall).map_or(0.0, |duration| duration.as_secs_f64()))
    }

    /// When it was started.
    pub fn begun(&self) -> Instant {
        self.begun
    }

    /// Waits until `done` returns true and returns the seconds from the start to the last moment at which the process was seen
    /// working. `done` is called when the process is idle, and otherwise only every `ask`, because asking may cost the process
    /// time.
    pub fn until(
        &self,
        within: Duration,
        ask: Duration,
        mut done: impl FnMut() -> Result<bool, String>,
    ) -> Result<f64, String> {
        let (mut ticks, mut worked_at, mut asked_at) = (0.0, self.begun, self.begun);
        loop {
            let stat = self.stat()?;
            let now = Instant::now();
            if stat.cpu_seconds > ticks {
                (ticks, worked_at) = (stat.cpu_seconds, now);
            }
            let rests = now - worked_at >= RESTING && now - asked_at >= ASK_RESTING;
            if rests || now - asked_at >= ask {
                asked_at = now;
                if done()? {
                    // The answer may have taken long, and the process may have worked in the meantime.
                    if self.stat()?.cpu_seconds > ticks {
                        worked_at = Instant::now();
                    }
                    return Ok((worked_at - self.begun).as_secs_f64());
                }
            }
            if stat.state == "Z" {
                return Err("the process ended before its work was done".into());
            }
            if self.begun.elapsed() > within {
                return Err(format!("not done within {} seconds", within.as_secs()));
            }
            pause(LOOK);
        }
    }

    /// Ends it with SIGTERM and reads its CPU time.
    pub fn end(self) -> Result<Ended, String> {
        self.end_by(Signal::SIGTERM)
    }

    /// Ends it with SIGKILL and reads its CPU time.
    pub fn kill(self) -> Result<Ended, String> {
        self.end_by(Signal::SIGKILL)
    }

    fn end_by(mut self, signal: Signal) -> Result<Ended, String> {
        kill(Pid::from_raw(self.child.id() as i32), signal).map_err(|error| format!("{signal}: {error}"))?;
        let asked = Instant::now();
        loop {
            let before = children_cpu_seconds()?;
            if let Some(status) = self.child.try_wait().map_err(|error| format!("wait: {error}"))? {
                self.ended = true;
                return Ok(Ended { cpu_seconds: children_cpu_seconds()? - before, status });
            }
            if asked.elapsed() > END_WITHIN {
                return Err(format!("did not end within {} seconds of {signal}", END_WITHIN.as_secs()));
            }
            pause(Duration::from_millis(2));
        }
    }

    /// User and system time so far, in hundredths of a second.
    pub fn cpu_seconds(&self) -> Result<f64, String> {
        Ok(self.stat()?.cpu_seconds)
    }

    /// Time on a processor of the living threads, in nanoseconds.
    pub fn threads_cpu_ns(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/task", self.child.id());
        let entries = fs::read_dir(&path).map_err(|error| format!("{path}: {error}"))?;
        // A thread that ends between two calls has no file any more.
        let texts = entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("schedstat")).ok());
        Ok(texts.filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok()).sum())
    }

    /// Resident memory now.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The highest resident memory so far.
    pub fn resident_peak_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Open descriptors, and directories or files that they watch.
    pub fn descriptors(&self) -> (usize, usize) {
        let infos = fs::read_dir(format!("/proc/{}/fdinfo", self.child.id()));
        // A descriptor that is closed between two calls has no file any more.
        let texts = infos.into_iter().flatten().flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        let watches = |text: &str| text.lines().filter(|line| line.starts_with("inotify wd")).count();
        // A queue of events has all of its watches under each of its descriptors.
        texts.fold((0, 0), |(all, most), text| (all + 1, most.max(watches(&text))))
    }

    fn status_bytes(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kibibytes = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
        kibibytes.unwrap_or(0) << 10
    }

    fn stat(&self) -> Result<Stat, String> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Stat::parse(&text).ok_or_else(|| format!("{path}: unexpected content"))
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if !self.ended {
            // It may have ended by itself. In both cases it is gone afterwards.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// User and system time of all children that have been reaped so far.
fn children_cpu_seconds() -> Result<f64, String> {
    cpu_seconds_of(UsageWho::RUSAGE_CHILDREN)
}

/// User and system time of the measuring process so far.
pub fn own_cpu_seconds() -> Result<f64, String> {
    cpu_seconds_of(UsageWho::RUSAGE_SELF)
}

fn cpu_seconds_of(who: UsageWho) -> Result<f64, String> {
    let usage = getrusage(who).map_err(|error| format!("getrusage: {error}"))?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

/// Memory that programs can allocate without evicting others.
pub fn available_memory_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn affinity() -> Result<CpuSet, String> {
    sched_getaffinity(Pid::from_raw(0)).map_err(|error| format!("sched_getaffinity: {error}"))
}

/// The processors that this process may use, lowest first.
pub fn allowed_cpus() -> Result<Vec<usize>, String> {
    let set = affinity()?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu) == Ok(true)).collect())
}

/// Pins this thread, and its children, to processors.
pub fn pin(cpus: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    let chosen = cpus.iter().try_for_each(|cpu| set.set(*cpu));
    chosen
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .map_err(|error| format!("processors {cpus:?}: {error}"))
}

/// The two values of /proc/PID/stat that matter here.
#[derive(Debug, PartialEq)]
struct Stat {
    state: String,
    cpu_seconds: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Stat> {
        // The name of the program is in parentheses and may contain anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.to_owned();
        let user: u64 = fields.nth(10)?.parse().ok()?;
        let system: u64 = fields.next()?.parse().ok()?;
        Some(Stat { state, cpu_seconds: (user + system) as f64 / TICKS_PER_SECOND })
    }
}

/// Waits. The result does not depend on how long.
#[expect(clippy::disallowed_methods, reason = "a pause between two checks of another process, on a separate thread")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Calls `done` until it returns true.
pub fn wait_for(
    what: &str,
    within: Duration,
    each: Duration,
    mut done: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > within {
            return Err(format!("{what}: not within {} seconds", within.as_secs()));
        }
        pause(each);
    }
    Ok(())
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
        let cpus = allowed_cpus().unwrap();
        let metered = Metered::start(Command::new("sh").args(["-c", burn]), &cpus[cpus.len() - 1..]).unwrap();
        let used = || Ok(metered.cpu_seconds()? >= 0.05);
        let wall = metered.until(Duration::from_secs(60), Duration::from_millis(20), used).unwrap();
        assert!(wall > 0.0);
        assert!(metered.resident_peak_bytes() > 100 << 10);
        let ended = metered.end().unwrap();
        assert!(ended.status.success() && ended.cpu_seconds >= 0.05, "{} {}", ended.status, ended.cpu_seconds);
        assert_eq!(allowed_cpus().unwrap(), cpus, "the processors of this process are unchanged");
    }

    #[test]
    fn early_end_is_an_error() {
        let metered = Metered::start(&mut Command::new("true"), &allowed_cpus().unwrap()).unwrap();
        let error = metered.until(Duration::from_secs(60), Duration::from_secs(1), || Ok(false)).unwrap_err();
        assert!(error.contains("before its work was done"), "{error}");
    }
}
