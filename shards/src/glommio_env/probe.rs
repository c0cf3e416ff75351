//! Checks what the machine allows before the executor library is used, because the library panics where io_uring is forbidden.
//!
//! Guarantees: nothing here panics, changes a setting or needs a privilege. Each finding contains what was found and how to fix
//! it.
//!
//! Does not print: the command line does.

use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd};

/// Locked memory that one executor needs. The library refuses to start below it.
const MEMLOCK_BYTES_PER_SHARD: u64 = 512 * 1024;
/// With fewer open files, a few hundred followed files use up all descriptors.
const OPEN_FILES_ADVISED: u64 = 4096;
/// One watch for each directory of a large machine, in addition to those of desktop programs.
const WATCHES_ADVISED: u64 = 8192;
/// The oldest kernel with all operations that the executor uses.
const KERNEL_OLDEST: (u32, u32) = (5, 8);

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Works, but may reach a limit.
    Warning,
    /// Does not work.
    Problem,
}

/// The result of checking one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// The result.
    pub state: State,
    /// What was found.
    pub detail: String,
    /// What to do. Empty if nothing.
    pub fix: String,
}

/// The results of all checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// All findings, in order of importance.
    pub findings: Vec<Finding>,
    /// CPUs on which this process may run.
    pub cpus: Vec<usize>,
}

impl Probe {
    /// The worst of the findings.
    pub fn state(&self) -> State {
        let has = |state| self.findings.iter().any(|finding| finding.state == state);
        if has(State::Problem) {
            State::Problem
        } else if has(State::Warning) {
            State::Warning
        } else {
            State::Ok
        }
    }
}

/// Why the kernel refuses io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The setting `kernel.io_uring_disabled` has this value, which forbids io_uring for this process.
    Setting(u8),
    /// A seccomp filter: container runtimes forbid io_uring by default.
    Filter,
    /// The kernel does not support it.
    Unknown,
    /// Too little memory can be locked.
    LockedMemory,
    /// Any other error number.
    Other(i32),
}

/// io_uring is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("io_uring cannot be used: {}. {}", self.detail(), self.fix())]
pub struct Refusal {
    /// Why.
    pub cause: Cause,
}

impl Refusal {
    /// What was found.
    pub fn detail(&self) -> String {
        match self.cause {
            Cause::Setting(value) => format!("the setting kernel.io_uring_disabled = {value} forbids it"),
            Cause::Filter => "a seccomp filter forbids it (the default of Docker and containerd)".to_owned(),
            Cause::Unknown => "this kernel does not support it, or a seccomp filter hides it".to_owned(),
            Cause::LockedMemory => {
                format!("the limit of locked memory is below {} KiB per shard", MEMLOCK_BYTES_PER_SHARD / 1024)
            }
            Cause::Other(number) => io::Error::from_raw_os_error(number).to_string(),
        }
    }

    /// What to do.
    pub fn fix(&self) -> String {
        let text = match self.cause {
            Cause::Setting(1) => {
                "Run `sysctl kernel.io_uring_disabled=0`, or start Tailwater as root or in the group of kernel.io_uring_group"
            }
            Cause::Setting(_) => "Run `sysctl kernel.io_uring_disabled=0` on the host",
            Cause::Filter => {
                "Start the container with a seccomp profile that allows io_uring_setup, io_uring_enter and io_uring_register"
            }
            Cause::Unknown => "Use Linux 5.8 or newer, and in a container a seccomp profile that allows io_uring_setup",
            Cause::LockedMemory => {
                "Raise the limit: `LimitMEMLOCK=infinity` for systemd, `ulimit -l unlimited` in a shell"
            }
            Cause::Other(_) => "See io_uring_setup(2) for this error",
        };
        text.to_owned()
    }
}

/// Whether this process may use io_uring. Creates a small ring and closes it.
pub fn io_uring_allowed() -> Result<(), Refusal> {
    // The hard limit counts: starting raises the soft one to it.
    if limit(libc::RLIMIT_MEMLOCK).is_some_and(|(_, hard)| hard < MEMLOCK_BYTES_PER_SHARD) {
        return Err(Refusal { cause: Cause::LockedMemory });
    }
    /// The size of `io_uring_params`. All zeros request a ring without extras.
    const PARAMETER_BYTES: usize = 120;
    let mut parameters = [0u64; PARAMETER_BYTES / 8];
    // SAFETY: the kernel reads and writes 120 bytes at the pointer, which is aligned for them.
    let answer = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4u32, parameters.as_mut_ptr()) };
    if answer >= 0 {
        // SAFETY: the kernel has just made this descriptor, nobody else owns it.
        drop(unsafe { OwnedFd::from_raw_fd(answer as i32) });
        return Ok(());
    }
    let number = io::Error::last_os_error().raw_os_error().unwrap_or(0);
    Err(Refusal { cause: cause_of(number, read_number("/proc/sys/kernel/io_uring_disabled")) })
}

/// Why `io_uring_setup` returned `number`, given the current setting (`None` on kernels without it).
fn cause_of(number: i32, setting: Option<u64>) -> Cause {
    match (number, setting) {
        (libc::EPERM, Some(value @ 1..=2)) => Cause::Setting(value as u8),
        (libc::EPERM, _) => Cause::Filter,
        (libc::ENOSYS, _) => Cause::Unknown,
        (libc::ENOMEM, _) => Cause::LockedMemory,
        (other, _) => Cause::Other(other),
    }
}

/// Checks everything that `shards` executors need of this machine.
pub fn probe(shards: usize) -> Probe {
    let cpus = allowed_cpus();
    let findings = vec![
        kernel(),
        io_uring(),
        locked_memory(shards as u64),
        processors(shards, &cpus),
        open_files(),
        watches(),
        watch_instances(shards as u64),
        watch_queue(),
    ];
    Probe { findings, cpus }
}

/// CPUs on which this process may run. A container or a service manager may forbid some. Empty if the kernel does not tell.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is a valid, empty set.
    let mut set: libc::cpu_set_t = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: the size is that of `set`, a valid place to write.
    if unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) } != 0 {
        return Vec::new();
    }
    // SAFETY: every index is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &set) }).collect()
}

fn finding(name: &'static str, state: State, detail: String, fix: &str) -> Finding {
    let fix = if state == State::Ok { String::new() } else { fix.to_owned() };
    Finding { name, state, detail, fix }
}

fn good_or(bad: State, good: bool) -> State {
    if good { State::Ok } else { bad }
}

fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    let fix = "Use Linux 5.8 or newer";
    match version_of(release) {
        Some(version) => {
            let state = good_or(State::Problem, version >= KERNEL_OLDEST);
            finding("kernel", state, format!("Linux {release}"), fix)
        }
        None => finding("kernel", State::Warning, format!("unknown version `{release}`"), fix),
    }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn io_uring() -> Finding {
    match io_uring_allowed() {
        Ok(()) => finding("io_uring", State::Ok, "allowed".to_owned(), ""),
        Err(refusal) => finding("io_uring", State::Problem, refusal.detail(), &refusal.fix()),
    }
}

/// The soft and the hard limit; `u64::MAX` means none.
pub(super) fn limit(resource: libc::__rlimit_resource_t) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write.
    (unsafe { libc::getrlimit(resource, &mut limit) } == 0).then_some((limit.rlim_cur, limit.rlim_max))
}

fn locked_memory(shards: u64) -> Finding {
    let fix = "Raise it: `LimitMEMLOCK=infinity` for systemd, `ulimit -l unlimited` in a shell";
    let Some((_, hard)) = limit(libc::RLIMIT_MEMLOCK) else {
        return finding("locked memory", State::Warning, "unknown limit".to_owned(), fix);
    };
    if hard == libc::RLIM_INFINITY {
        return finding("locked memory", State::Ok, "no limit".to_owned(), fix);
    }
    let state = if hard < MEMLOCK_BYTES_PER_SHARD {
        State::Problem
    } else {
        good_or(State::Warning, hard >= MEMLOCK_BYTES_PER_SHARD.saturating_mul(shards))
    };
    let need = MEMLOCK_BYTES_PER_SHARD / 1024;
    finding("locked memory", state, format!("{} KiB allowed, {need} KiB per shard needed", hard / 1024), fix)
}

fn processors(shards: usize, cpus: &[usize]) -> Finding {
    let fix = "Use fewer shards, or allow more cpus (cpuset, CPUAffinity, taskset)";
    let detail = format!("{} allowed, {shards} shards", cpus.len());
    finding("cpus", good_or(State::Warning, !cpus.is_empty() && shards <= cpus.len()), detail, fix)
}

fn open_files() -> Finding {
    let fix = "Raise it: `LimitNOFILE=65536` for systemd, `ulimit -n 65536` in a shell";
    match limit(libc::RLIMIT_NOFILE) {
        Some((soft, hard)) => {
            let detail = format!("{soft} allowed, can be raised to {hard}");
            finding("open files", good_or(State::Warning, soft >= OPEN_FILES_ADVISED), detail, fix)
        }
        None => finding("open files", State::Warning, "unknown limit".to_owned(), fix),
    }
}

fn inotify(name: &'static str, file: &str, advised: u64) -> Finding {
    let fix = format!(
        "Run `sysctl fs.inotify.{file}={advised}`; without it, the rescan finds new files up to a second later"
    );
    match read_number(&format!("/proc/sys/fs/inotify/{file}")) {
        Some(value) => {
            let detail = format!("fs.inotify.{file} is {value}");
            finding(name, good_or(State::Warning, value >= advised), detail, &fix)
        }
        None => finding(name, State::Warning, format!("fs.inotify.{file} cannot be read"), &fix),
    }
}

fn watches() -> Finding {
    inotify("watched directories", "max_user_watches", WATCHES_ADVISED)
}

fn watch_instances(shards: u64) -> Finding {
    inotify("directory watches", "max_user_instances", shards.saturating_add(16))
}

fn watch_queue() -> Finding {
    inotify("queued watch events", "max_queued_events", 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(cause_of(libc::EPERM, Some(2)), Cause::Setting(2));
        assert_eq!(cause_of(libc::EPERM, Some(0)), Cause::Filter);
        assert_eq!(cause_of(libc::EPERM, None), Cause::Filter);
        assert_eq!(cause_of(libc::ENOSYS, None), Cause::Unknown);
        assert_eq!(cause_of(libc::ENOMEM, Some(0)), Cause::LockedMemory);
        assert_eq!(cause_of(libc::EINVAL, Some(0)), Cause::Other(libc::EINVAL));
    }

    #[test]
    fn kernel_versions_are_compared_by_number() {
        assert_eq!(version_of("6.18.44-fc-v657"), Some((6, 18)));
        assert_eq!(version_of("5.10+"), Some((5, 10)));
        assert_eq!(version_of(""), None);
        assert!(version_of("5.10.0") >= Some(KERNEL_OLDEST));
        assert!(version_of("5.4.0") < Some(KERNEL_OLDEST));
    }

    #[test]
    fn this_machine_runs_shards() {
        let seen = probe(1);
        let problems: Vec<_> = seen.findings.iter().filter(|finding| finding.state == State::Problem).collect();
        assert!(problems.is_empty(), "the tests need a machine that allows io_uring: {problems:?}");
        assert!(!seen.cpus.is_empty());
        assert_eq!(io_uring_allowed(), Ok(()));
    }
}
