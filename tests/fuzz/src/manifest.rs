//! Target `manifest`: bytes as the manifest of a data directory with logs.
//!
//! Promises: an error names the file and the reason. An accepted manifest returns a log id that no log in the directory has
//! and that the next start does not return again. What was opened can be opened again.
//! and that the next start does not give again; what was opened can be opened again.

use crate::Verdict;
use std::path::Path;
use tailwater_shards::sim::SimDisk;
use tailwater_shards::wal::manifest::DataDirectory;
use tailwater_shards::wal::{LogId, WalError};

/// The first byte says which logs exist.
pub fn check(data: &[u8]) -> Verdict {
    let Some((logs, text)) = data.split_first() else { return Verdict::Refused };
    let disk = SimDisk::new(1);
    let root = Path::new("/data");
    disk.outside().create_dir_all("/data/wal").expect("an empty disk takes a directory");
    disk.outside().write("/data/manifest", text).expect("an empty disk takes a file");
    for log in (1..=8).filter(|log| logs >> (log - 1) & 1 == 1) {
        disk.outside().create_dir_all(format!("/data/wal/log-{log:08}")).expect("an empty disk takes a directory");
    }
    let looked =
        DataDirectory::inspect(disk.clone(), root).map(|directory| directory.logs().map_or(0, |logs| logs.len()));
    let opened = DataDirectory::open(disk.clone(), root);
    assert!(looked.is_ok() || opened.is_err(), "what cannot be looked at is not opened");
    let mut directory = match opened {
        Ok(directory) => directory,
        Err(error) => return refused(&error),
    };
    let before = directory.logs().expect("a directory that opened can be listed");
    assert_eq!(before.len(), logs.count_ones() as usize);
    let first = match directory.new_log() {
        Ok(first) => first,
        Err(error) => return refused(&error),
    };
    assert!(before.iter().all(|log| *log < first), "{first:?} was given although there are {before:?}");
    drop(directory);
    let mut directory = DataDirectory::open(disk, root).expect("what was opened opens again");
    let second = directory.new_log().map_or(LogId(u64::MAX), |log| log);
    assert!(second > first, "{second:?} was given after {first:?}");
    Verdict::Accepted
}

fn refused(error: &WalError) -> Verdict {
    let WalError::Unusable { path, reason } = error else { panic!("the wrong kind of error: {error}") };
    assert!(path.ends_with("manifest"), "the error is about {}", path.display());
    assert!(reason.len() > 20, "the reason is {reason:?}");
    Verdict::Refused
}
