//! How much of the machine this process may use.
//!
//! Guarantees: reports the tightest visible limit. None if no limit is set or none can be read. Changes nothing.

use super::probe::limit;
use std::fs;
use std::path::{Path, PathBuf};

/// What this process may use. None means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Open files, up to which the limit can be raised.
    pub open_files: Option<u64>,
    /// Bytes of memory: those of the machine, or fewer in a control group.
    pub memory_bytes: Option<u64>,
    /// Bytes of address space. Mapped files count toward it.
    pub address_bytes: Option<u64>,
}

/// Asks the kernel.
pub fn resources() -> Resources {
    let hard = |resource| limit(resource).map(|(_, hard)| hard).filter(|hard| *hard != libc::RLIM_INFINITY);
    let soft = |resource| limit(resource).map(|(soft, _)| soft).filter(|soft| *soft != libc::RLIM_INFINITY);
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let in_groups =
        limit_files(&groups).into_iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| machine_bytes(&text));
    Resources {
        open_files: hard(libc::RLIMIT_NOFILE),
        memory_bytes: in_groups.chain(machine).min(),
        address_bytes: soft(libc::RLIMIT_AS),
    }
}

/// The files that may contain a memory limit for the groups in `/proc/self/cgroup`. A group is also subject to the limits of
/// its parents. In a container, the path is that of the host, and the root of the mount is the group itself.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(number), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers.split(',').any(|name| name == "memory") {
            true => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            false if number == "0" => ("/sys/fs/cgroup", "memory.max"),
            false => continue,
        };
        let above = Path::new(path.trim_start_matches('/')).ancestors();
        files.extend(above.map(|group| Path::new(root).join(group).join(file)));
    }
    files
}

/// The machine's memory according to `/proc/meminfo`.
fn machine_bytes(text: &str) -> Option<u64> {
    let kibibytes = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?;
    kibibytes.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_a_group_and_of_those_above_it_count() {
        let new = limit_files("0::/system.slice/a.service\n");
        let root = Path::new("/sys/fs/cgroup");
        assert_eq!(
            new,
            [
                root.join("system.slice/a.service/memory.max"),
                root.join("system.slice/memory.max"),
                root.join("memory.max")
            ]
        );
        let old = limit_files("9:name=systemd:/\n4:memory,hugetlb:/a\n");
        assert_eq!(old[0], Path::new("/sys/fs/cgroup/memory/a/memory.limit_in_bytes"));
        assert_eq!(old.len(), 2);
        assert!(limit_files("nonsense\n1:cpu:/\n").is_empty());
    }

    #[test]
    fn the_memory_of_the_machine_is_read_in_kibibytes() {
        assert_eq!(machine_bytes("MemTotal:       24567 kB\nMemFree: 1 kB\n"), Some(24_567 * 1024));
        assert_eq!(machine_bytes("MemFree: 1 kB\n"), None);
        assert!(resources().memory_bytes.is_some_and(|bytes| bytes > 1 << 20));
    }
}
