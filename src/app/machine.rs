//! Checks whether this machine has the resources that a plan may need.
//!
//! Guarantees: each message says what, where, why and how to fix it. Changes nothing and does not prevent the start, because a
//! plan rarely needs its maximum. Does not consider what other processes use, nor the memory for as many files as there is room to
//! follow: hardly any host has so many, and a warning at each start would say nothing about the others.

use crate::config::sums::rounded;
use std::path::Path;
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::{RealDisk, Resources};
use tailwater_shards::limits::sums::{FOLLOWED_FILES, Share, Sums, total};

/// Whether files may be open in greater number than the limit: what may happen, and what to do.
pub fn open_files(sums: &Sums, has: &Resources) -> Option<(String, &'static str)> {
    let files = total(&sums.descriptors);
    let limit = has.open_files.filter(|limit| *limit < files)?;
    let what = format!(
        "up to {files} files may be open ({}), and the limit is {limit}: above it, files are not read until others are closed, and \
         segments of the WAL cannot be created",
        largest(&sums.descriptors, |amount| amount.to_string())
    );
    Some((what, "raise the limit of open files (ulimit -n, LimitNOFILE)"))
}

/// The resources that may not suffice, one message each.
pub fn shortages(sums: &Sums, has: &Resources, data_dir: &Path, disk_bytes: Option<u64>) -> Vec<String> {
    let loaded: Vec<Share> = sums.memory.iter().filter(|share| share.consumer != FOLLOWED_FILES).copied().collect();
    let (memory, disk) = (total(&loaded), total(&sums.disk));
    let bytes = |amount: u64| rounded(amount).to_string();
    let less = |limit: Option<u64>, needed: u64| limit.filter(|limit| *limit < needed);
    let mut short: Vec<String> =
        open_files(sums, has).map(|(what, help)| format!("{what}; {help}")).into_iter().collect();
    if let Some(limit) = less(has.memory_bytes, memory) {
        short.push(format!(
            "up to {} of memory may be used ({}), and this process may have {}: at worst it is killed and continues after a \
             restart; give it more memory, or lower `shards`, `max_line_bytes` or `concurrency`",
            bytes(memory),
            largest(&loaded, bytes),
            bytes(limit)
        ));
    }
    if let Some(limit) = less(has.address_bytes, memory.saturating_add(sums.mapped_bytes)) {
        short.push(format!(
            "the WAL maps up to {} into memory, and the limit of address space is {}: above it, segments cannot be created; raise \
             the limit (ulimit -v, LimitAS), or lower `wal.max_bytes`",
            bytes(sums.mapped_bytes),
            bytes(limit)
        ));
    }
    if let Some(free) = less(disk_bytes, disk) {
        short.push(format!(
            "the WAL and dead letters may need {} of disk space ({}), and {} has room for {}: on a full disk inputs stop before \
             `wal.max_bytes` is reached; free disk space, move `data_dir`, or lower `wal.max_bytes` and `dlq.max_bytes`",
            bytes(disk),
            largest(&sums.disk, bytes),
            data_dir.display(),
            bytes(free)
        ));
    }
    short
}

/// The consumer that needs most.
fn largest(shares: &[Share], shown: impl Fn(u64) -> String) -> String {
    let most = shares.iter().max_by_key(|share| share.amount);
    most.map_or(String::new(), |share| format!("most of it {}, {}", share.consumer, shown(share.amount)))
}

/// The bytes that the data directory can grow to: free space plus the size of its existing files.
pub fn disk_bytes(disk: &RealDisk, data_dir: &Path) -> Option<u64> {
    let nearest = data_dir.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("."));
    let free = disk.free_bytes(nearest).ok()?;
    Some(free.saturating_add(used_bytes(data_dir)))
}

fn used_bytes(directory: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(directory) else { return 0 };
    let used = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => used_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    used.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums() -> Sums {
        Sums {
            memory: vec![
                Share { consumer: "lanes", amount: 300 << 20 },
                Share { consumer: "frames", amount: 100 << 20 },
                Share { consumer: FOLLOWED_FILES, amount: 1 << 30 },
            ],
            descriptors: vec![Share { consumer: "inputs", amount: 2000 }],
            disk: vec![Share { consumer: "log", amount: 4 << 30 }],
            mapped_bytes: 4 << 30,
        }
    }

    fn told(has: Resources, disk_bytes: Option<u64>) -> Vec<String> {
        shortages(&sums(), &has, Path::new("/srv/tw"), disk_bytes)
    }

    #[test]
    fn what_the_machine_may_be_short_of_is_told_with_what_helps() {
        let plenty = Resources { open_files: Some(2000), memory_bytes: Some(400 << 20), address_bytes: None };
        assert!(told(plenty, Some(4 << 30)).is_empty());
        assert!(told(Resources { open_files: None, memory_bytes: None, address_bytes: None }, None).is_empty());
        for (has, disk, parts) in [
            (Resources { open_files: Some(1999), ..plenty }, None, ["2000 files", "inputs", "ulimit -n"]),
            (
                Resources { memory_bytes: Some((400 << 20) - 1), ..plenty },
                None,
                ["400MiB", "lanes, 300MiB", "`shards`"],
            ),
            (
                Resources { address_bytes: Some(4 << 30), ..plenty },
                None,
                ["maps up to 4GiB", "ulimit -v", "`wal.max_bytes`"],
            ),
            (plenty, Some((4 << 30) - 1), ["need 4GiB", "/srv/tw", "`data_dir`"]),
        ] {
            let told = told(has, disk);
            let [only] = &told[..] else { panic!("{told:?}") };
            assert!(parts.iter().all(|part| only.contains(part)), "{only}");
        }
    }

    #[test]
    fn what_a_data_directory_has_already_counts_as_its_own() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("wal")).expect("made");
        std::fs::write(directory.path().join("wal/a"), [0; 1000]).expect("written");
        assert_eq!(used_bytes(directory.path()), 1000);
        let missing = directory.path().join("not/yet");
        assert!(disk_bytes(&RealDisk::new(), &missing).is_some_and(|bytes| bytes > 0));
    }
}
