//! The faults of a cluster's disk during a life.
//!
//! Guarantees: a function of the seed. The table in [`crate::sim`] lists which faults are possible.

use super::Cluster;
use crate::sim::Prng;
use std::time::Duration;

/// Sets the faults before a life begins.
pub(super) fn begin(cluster: &mut Cluster) {
    let disk = cluster.simulation.disk().clone();
    let chance = &mut cluster.chance;
    if chance.one_in(5) {
        disk.crash_after(chance.between(1, 600));
    }
    disk.set_torn_sectors(chance.one_in(2));
    let slow = [5_000, 5_000, 50_000, 400_000][chance.index(4)];
    disk.set_sync_delay(Duration::from_micros(20), Duration::from_micros(slow));
    if chance.one_in(12) {
        disk.set_free_bytes(Some(chance.below(400_000)));
    }
    if chance.one_in(12) {
        let wall = disk.wall();
        let hours = chance.below(48) as i64 - 24;
        disk.set_wall(crate::env::Timestamp(wall.0 + hours * 3_600_000_000_000));
    }
    if chance.one_in(40) {
        disk.fail_syncs(1);
        cluster.note("the next sync fails".to_owned());
    }
}

/// Changes the faults before a slice of a life.
pub(super) fn change(cluster: &mut Cluster) {
    let disk = cluster.simulation.disk().clone();
    let chance = &mut cluster.chance;
    if chance.one_in(20) {
        let bytes = chance.below(100_000);
        disk.set_free_bytes(Some(bytes));
        cluster.note(format!("the disk has {bytes} bytes left"));
    } else if chance.one_in(3) {
        disk.set_free_bytes(None);
    }
    let what = match cluster.chance.below(240) {
        0..=2 => {
            disk.fail_syncs(1);
            "sync"
        }
        3 => {
            disk.fail_directory_syncs(1);
            "sync of a directory"
        }
        4 => {
            disk.fail_writes(1);
            "write"
        }
        5..=8 => {
            disk.refuse_renames(cluster.chance.between(1, 3) as u32);
            "rename"
        }
        _ => return,
    };
    cluster.note(format!("the next {what} fails"));
}

/// Removes all faults of the disk.
pub(super) fn end(cluster: &Cluster) {
    let disk = cluster.simulation.disk();
    disk.set_free_bytes(None);
    disk.fail_syncs(0);
    disk.fail_directory_syncs(0);
    disk.fail_writes(0);
    disk.refuse_renames(0);
}

/// Whether one of these causes explains a failure of the engine.
pub(super) fn explains(failure: &str) -> bool {
    ["Input/output error", "No space left", "no space for the segment", "panicked on shard"]
        .iter()
        .any(|cause| failure.contains(cause))
}

/// The number of events for a slice: mostly few, sometimes none, sometimes a flood.
pub(super) fn events(chance: &mut Prng) -> u64 {
    match chance.below(60) {
        0 => chance.between(200, 400),
        1..=4 => chance.between(50, 150),
        5..=24 => 0,
        _ => chance.between(1, 12),
    }
}
