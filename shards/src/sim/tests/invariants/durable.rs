//! E1, E3, E6, E7: what is acknowledged stays, in order, whatever happens; and the consequences of a failed sync.

use super::*;
use crate::env::Disk as _;
use crate::sim::SimDisk;
use crate::sim::script::OutputKind;
use crate::wal::recovery::{RecoveredLog, scan_log};
use crate::wal::{LogId, SyncPolicy};
use std::path::{Path, PathBuf};

/// If outputs accept nothing, everything that was acknowledged must be in the log after any crash.
#[test]
fn e1_acknowledged_means_durable() {
    let mut acknowledged = 0;
    for seed in 0..60 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 2);
        // Events that can be read again would hide a loss.
        setup.inputs[0].repeatable = false;
        setup.wal.sync = [SyncPolicy::EveryBatch, SyncPolicy::Interval(SECOND / 20)][seed as usize % 2];
        let shards = 1 + seed as usize % 2;
        let mut cluster = started(setup, shards);
        for _ in 0..3 {
            kill_outputs(&cluster);
            work(&mut cluster, 12, 5);
            acknowledged += cluster.ledger.state().acknowledged;
            let crash = some_crash(&mut cluster);
            cluster.crash(crash);
            cluster.start(shards).expect("a crash leaves a directory that can be opened");
        }
        cluster.crash(Crash::Power);
        cluster.finish();
    }
    assert!(acknowledged > 1000, "only {acknowledged} batches were acknowledged");
}

/// No ticket is returned before the end of a sync that began after the append.
#[test]
fn e1_nothing_is_acknowledged_before_its_sync() {
    for policy in [SyncPolicy::EveryBatch, SyncPolicy::Interval(SECOND / 20)] {
        let mut setup = Setup::plain(5);
        setup.wal.sync = policy;
        let mut cluster = started(setup, 1);
        cluster.run_for(SECOND);
        cluster.simulation.disk().set_sync_delay(SECOND * 10, SECOND * 10);
        cluster.make_some(20);
        cluster.run_for(SECOND * 9);
        let log = cluster.alive().meters.board.get(crate::env::ShardId(0)).expect("the shard is up");
        assert!(log.counters.events.get() >= 20, "the events are in the log");
        assert_eq!(cluster.ledger.state().acknowledged, 0, "{policy:?}");
        cluster.run_for(SECOND * 30);
        assert!(cluster.ledger.state().acknowledged > 0, "{policy:?}");
    }
}

/// Sources move between shards at each start while outputs hardly deliver, so that several logs hold parts of them.
#[test]
fn e3_order_holds_per_source() {
    for seed in 0..60 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 3);
        setup.inputs[0].placement = crate::plugin::Placement::Every;
        setup.outputs[0].kind = [OutputKind::One, OutputKind::Every][seed as usize % 2];
        setup.wal.log_bytes = 12 * setup.wal.segment_bytes;
        let mut cluster = Cluster::new(setup);
        for _ in 0..4 {
            let shards = cluster.chance.between(1, 3) as usize;
            cluster.start(shards).expect("a crash leaves a directory that can be opened");
            let retry = cluster.chance.between(500, 1000);
            for record in &mut cluster.ledger.state().outputs {
                record.mood = Mood { retry, ..Mood::default() };
            }
            work(&mut cluster, 8, 6);
            let crash = some_crash(&mut cluster);
            cluster.crash(crash);
        }
        cluster.finish();
    }
}

fn copy_of(disk: &SimDisk, seed: u64) -> SimDisk {
    fn copy(from: &crate::sim::Outside, to: &crate::sim::Outside, directory: &Path) {
        to.create_dir_all(directory).unwrap();
        for name in from.list(directory).unwrap() {
            let path = directory.join(name);
            match from.read(&path) {
                Ok(bytes) => to.write(&path, &bytes).unwrap(),
                Err(_) => copy(from, to, &path),
            }
        }
    }
    let other = SimDisk::new(seed);
    copy(&disk.outside(), &other.outside(), Path::new("/data"));
    other
}

/// Everything that recovery reports about a log.
fn findings(log: &RecoveredLog<SimDisk>) -> String {
    let segments: Vec<_> = log.segments.iter().map(|segment| (segment.number, segment.first_sequence)).collect();
    format!(
        "{:?} {segments:?} {:?} {} {} {:?} {:?} {} {:?} {:?} {} {} {:?} {}",
        log.id,
        log.tail,
        log.sealed,
        log.next_segment,
        log.last,
        log.highest_seen,
        log.epoch,
        log.synced,
        log.state,
        log.outputs_used,
        log.events,
        log.damage,
        log.ended_by
    )
}

/// The same bytes on another machine, listed in another order, at another time give the same findings. A second scan finds the
/// same as the first.
#[test]
fn e6_recovery_is_a_pure_function_of_bytes() {
    let mut logs = 0;
    for seed in 0..40 {
        let mut setup = Setup::draw(seed);
        setup.shards = (2, 2);
        let mut cluster = started(setup, 2);
        work(&mut cluster, 15, 6);
        let crash = some_crash(&mut cluster);
        cluster.crash(crash);
        let disk = cluster.simulation.disk().of_this_process();
        let other = copy_of(&disk, seed + 1000);
        for entry in disk.list(Path::new("/data/wal")).unwrap() {
            let path = PathBuf::from("/data/wal").join(&entry.name);
            let id = LogId(entry.name.to_str().unwrap()[4..].parse().unwrap());
            let scan = |disk: &SimDisk| findings(&scan_log(disk, &path, id, None).expect("no bytes stop a scan"));
            let first = scan(&disk);
            assert_eq!(first, scan(&other), "seed {seed}");
            assert_eq!(first, scan(&disk), "seed {seed}");
            logs += 1;
        }
    }
    assert!(logs >= 60, "{logs} logs were scanned");
}

/// A failed sync ends the engine: nothing is acknowledged after it, no sync succeeds after it, and a restart keeps every
/// guarantee, even if the power fails next.
#[test]
fn e7_failed_sync_poisons() {
    for seed in 0..40 {
        let mut setup = Setup::plain(seed);
        setup.wal.sync = [SyncPolicy::EveryBatch, SyncPolicy::Interval(SECOND / 20)][seed as usize % 2];
        let mut cluster = started(setup, 1);
        kill_outputs(&cluster);
        work(&mut cluster, 6, 5);
        cluster.simulation.must("the shard is up", || true, SECOND);
        let disk = cluster.simulation.disk().clone();
        disk.fail_syncs(1);
        cluster.make_some(5);
        let stop = cluster.alive().stop.clone();
        let failed = || stop.failure().is_some();
        cluster.simulation.must("the failed sync ends the engine", failed, SECOND * 10);
        let failure = cluster.alive().stop.failure().unwrap_or_default();
        assert!(failure.starts_with("sync of"), "seed {seed}: {failure}");
        let syncs = cluster.alive().meters.shards[0].syncs.get();
        let acknowledged = cluster.ledger.state().acknowledged;
        let end = cluster.alive().end();
        cluster.simulation.must("the engine has ended", end, SECOND * 60);
        cluster.run_for(SECOND * 5);
        assert_eq!(cluster.alive().meters.shards[0].syncs.get(), syncs, "seed {seed}: a sync after the failure");
        assert_eq!(cluster.ledger.state().acknowledged, acknowledged, "seed {seed}: a promise after the failure");
        cluster.crash(Crash::Process);
        cluster.start(1).expect("recovery is the cure");
        work(&mut cluster, 4, 5);
        cluster.crash(Crash::Power);
        cluster.finish();
    }
}

/// The snapshot at the beginning of the only segment rots, and with it what the log records about outputs and cursors.
#[test]
fn e2_events_behind_a_damaged_snapshot_are_delivered() {
    for seed in 0..10 {
        let mut setup = Setup::plain(seed);
        setup.inputs[0].repeatable = seed % 2 == 0;
        let mut cluster = started(setup, 1);
        kill_outputs(&cluster);
        for _ in 0..10 {
            cluster.make_some(10);
            cluster.run_for(SECOND);
        }
        cluster.crash(Crash::Process);
        let outside = cluster.simulation.disk().outside();
        let header = crate::wal::segment::SEGMENT_HEADER_BYTES as u64;
        outside.rot("/data/wal/log-00000001/0000000000000001.seg", header + 60, 1).expect("the segment is there");
        let made: u64 = cluster.ledger.state().sources.iter().map(|source| source.events()).sum();
        cluster.heal();
        cluster.start(1).expect("damage keeps no engine from starting");
        cluster.run_for(SECOND * 30);
        let came = cluster.ledger.state().oracle.deliveries(crate::sim::oracle::OutputIndex(0));
        assert!(came >= made, "seed {seed}: {made} events were acknowledged, {came} delivered");
    }
}

/// Nothing is appended after the last events, which have long been durable: if they rot, that is not a torn tail. If their
/// source is spread over logs, nothing would read them again.
#[test]
fn e2_damage_of_the_last_events_of_a_log_is_reported() {
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.inputs[0].repeatable = seed % 2 == 0;
        if seed % 4 < 2 {
            setup.shards = (2, 2);
            setup.inputs[0].shard_by = crate::route::ShardBy::Spread;
        }
        let shards = setup.shards.0 as usize;
        let mut cluster = started(setup, shards);
        kill_outputs(&cluster);
        for _ in 0..5 {
            cluster.make_some(10);
            cluster.run_for(SECOND);
        }
        if seed % 3 == 0 {
            cluster.alive().stop.enter(crate::stop::Phase::Draining);
            cluster.run_for(SECOND);
            cluster.alive().stop.enter(crate::stop::Phase::Forced);
            cluster.run_for(SECOND);
        }
        cluster.crash(Crash::Process);
        assert!(cluster.rot_last_events(), "seed {seed}: no event is known to be durable");
        cluster.finish();
    }
}
