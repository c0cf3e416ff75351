//! E1, E2, E4 for sources whose batches go to all shards in turn: no log has a complete source, yet none keeps a range per
//! batch, none forgets too much, and each start gives all of them the common knowledge.

use super::*;
use crate::env::Disk as _;
use crate::limits::{SPREAD_RANGES_FREE, spread_ranges_max};
use crate::plugin::Placement;
use crate::route::ShardBy;
use crate::sim::SimDisk;
use crate::wal::recovery::{RecoveredLog, scan_log};
use crate::wal::{LogId, SourceState, SyncPolicy};
use std::path::Path;

/// Sources with constant traffic. Those after them appear and disappear.
const TRICKLING: usize = 4;

fn setup(seed: u64, shards: u64, sources: usize) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.shards = (shards, shards);
    setup.inputs[0].shard_by = ShardBy::Spread;
    setup.inputs[0].sources = sources;
    setup.inputs[0].placement = [Placement::One, Placement::Every][seed as usize % 2];
    setup.batch_events_max = 2;
    setup
}

/// What every log on the disk records, in the order of their ids.
fn logs(cluster: &Cluster) -> Vec<RecoveredLog<SimDisk>> {
    let disk = cluster.simulation.disk().of_this_process();
    let mut entries = disk.list(Path::new("/data/wal")).expect("there are logs");
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let scan = |name: &str| {
        let id = LogId(name[4..].parse().expect("a log's name has its number"));
        scan_log(&disk, &Path::new("/data/wal").join(name), id, None).expect("no bytes stop a scan")
    };
    entries.iter().map(|entry| scan(entry.name.to_str().expect("names are text"))).collect()
}

fn sources(log: &RecoveredLog<SimDisk>) -> Vec<SourceState> {
    log.state.sources.iter().cloned().collect()
}

/// Three hours of single events and bursts, of files that appear and disappear, of kills and power losses, in segments whose
/// snapshots have space for 2,000 ranges: at the end the snapshots are as large as at the beginning.
#[test]
fn e4_snapshots_stay_flat_whatever_time_passes() {
    for (seed, shards, sync) in [(0, 2, SECOND / 10), (1, 3, SECOND * 20), (2, 4, SECOND)] {
        let (lives, minutes) = (6, 30);
        let mut setup = setup(seed, shards, TRICKLING + (lives * minutes) as usize);
        setup.wal.sync = SyncPolicy::Interval(sync);
        let instances = if setup.inputs[0].placement == Placement::One { 1 } else { shards as usize };
        let apart = instances * (spread_ranges_max(setup.wal.segment_bytes, instances) + SPREAD_RANGES_FREE + 1);
        let mut cluster = Cluster::new(setup);
        let mut largest = Vec::new();
        for life in 0..lives {
            cluster.start(shards as usize).expect("a crash leaves a directory that can be opened");
            cluster.ledger.state().rests = true;
            for minute in 0..minutes {
                let file = TRICKLING + (life * minutes + minute) as usize;
                live_a_minute(&mut cluster, file);
                cluster.end(file);
            }
            cluster.run_for(SECOND * 60);
            let board = cluster.alive().meters.board.clone();
            let all = (0..shards).filter_map(|shard| board.get(crate::env::ShardId(shard as u16)));
            let most = all.map(|log| (log.counters.snapshot_bytes.get(), log.counters.snapshot_ranges.get()));
            largest.push(most.max().expect("the shards are up"));
            cluster.crash(some_crash_of(life));
            for log in logs(&cluster) {
                let existing = log.state.sources.iter().filter(|state| state.gone.is_none()).count();
                assert!(
                    existing <= TRICKLING + 2,
                    "seed {seed}, life {life}: {existing} sources exist in {:?}",
                    log.id
                );
                let ranges: usize = log.state.sources.iter().map(|state| state.intervals.len()).sum();
                let all = log.state.sources.len();
                assert!(
                    ranges <= all * (SPREAD_RANGES_FREE + 1) + apart,
                    "seed {seed}: {ranges} ranges of {all} sources"
                );
            }
            // Files of the previous life are no longer remembered.
            let wall = cluster.simulation.wall();
            let days = (crate::limits::TOMBSTONE_SECONDS + 3600) * 1_000_000_000;
            cluster.simulation.disk().set_wall(crate::env::Timestamp(wall.0 + days));
        }
        let (first, last) = (largest[1].0, largest.iter().map(|most| most.0).max().unwrap_or(0));
        assert!(
            last <= first + first / 4,
            "seed {seed}: bytes and ranges of the largest snapshot by life: {largest:?}"
        );
        println!("seed {seed}: bytes and ranges of the largest snapshot by life: {largest:?}");
        cluster.ledger.state().rests = false;
        cluster.finish();
    }
}

/// Constant traffic from every source, so that none is ever quiet: each batch must state what is settled.
#[test]
fn e4_sources_that_never_rest_do_not_fill_snapshots() {
    // Must not divide the number of sources, otherwise each source would use the same lane each time.
    const SHARDS: u64 = 3;
    let mut setup = setup(0, SHARDS, TRICKLING);
    setup.inputs[0].lane.bytes = 1 << 20;
    let mut cluster = started(setup, SHARDS as usize);
    let mut most = 0;
    for slice in 0..2_000 {
        (0..TRICKLING).for_each(|source| cluster.make(source, 40));
        assert!(!matches!(cluster.run_for(SECOND / 10), Outcome::StepLimit | Outcome::Stuck), "slice {slice}");
        let board = cluster.alive().meters.board.clone();
        let logs = (0..SHARDS).filter_map(|shard| board.get(crate::env::ShardId(shard as u16)));
        most = logs.map(|log| log.counters.snapshot_ranges.get()).max().unwrap_or(0).max(most);
    }
    assert!((1..=40).contains(&most), "{most} ranges of {TRICKLING} sources");
    cluster.crash(Crash::Process);
    cluster.finish();
}

/// A minute of four sources, a burst in one of them, and a file.
fn live_a_minute(cluster: &mut Cluster, file: usize) {
    let burst = cluster.chance.index(TRICKLING);
    for second in 0..12 {
        (0..TRICKLING).for_each(|source| cluster.make(source, 40));
        if second == 6 {
            (0..40).for_each(|_| cluster.make(burst, 40));
        }
        cluster.make(file, 100);
        assert!(!matches!(cluster.run_for(SECOND * 5), Outcome::StepLimit | Outcome::Stuck));
    }
}

fn some_crash_of(life: u64) -> Crash {
    if life.is_multiple_of(2) { Crash::Power } else { Crash::Process }
}

/// What is in the logs of several shards is one table in all of them as soon as these are up.
#[test]
fn e1_every_log_begins_with_what_all_logs_know() {
    for seed in 0..20 {
        let shards = 2 + seed % 3;
        let mut cluster = started(setup(seed, shards, 3), shards as usize);
        kill_outputs(&cluster);
        work(&mut cluster, 20, 4);
        let crash = some_crash(&mut cluster);
        cluster.crash(crash);
        let before = logs(&cluster);
        assert!(before.iter().any(|log| sources(log) != sources(&before[0])), "seed {seed}: each log knows a part");
        cluster.start(shards as usize).expect("a crash leaves a directory that can be opened");
        let up = || cluster.life.as_ref().is_some_and(crate::sim::script::Life::is_up);
        while !up() {
            cluster.simulation.run_steps(1);
        }
        cluster.crash(Crash::Process);
        let mut merged = crate::wal::positions::SourceTable::new();
        before.iter().for_each(|log| merged.merge(log.state.sources.clone()));
        for log in logs(&cluster) {
            for state in merged.iter() {
                let mine = log.state.sources.get(state.key());
                let covers = |interval: &(u64, u64)| {
                    let holds = |mine: &&(u64, u64)| mine.0 <= interval.0 && interval.1 <= mine.1;
                    mine.is_some_and(|mine| mine.intervals.iter().any(|mine| holds(&mine)))
                };
                assert!(state.intervals.iter().all(covers), "seed {seed}: {:?} lacks {state:?}", log.id);
            }
        }
        cluster.finish();
    }
}

/// A shard acknowledges what it has appended, and a power loss removes it. If another log had recorded it as settled, it would
/// never be read again.
#[test]
fn e1_what_one_log_calls_settled_is_durable_in_the_other() {
    let mut repeats = 0;
    for seed in 0..60 {
        let shards = 2 + seed % 2;
        let mut setup = setup(seed, shards, 3);
        setup.wal.sync = [SyncPolicy::Never, SyncPolicy::Interval(SECOND / 20)][seed as usize / 2 % 2];
        let mut cluster = Cluster::new(setup);
        for _ in 0..4 {
            cluster.start(shards as usize).expect("a crash leaves a directory that can be opened");
            kill_outputs(&cluster);
            work(&mut cluster, 25, 6);
            cluster.crash(Crash::Power);
        }
        cluster.finish();
        repeats += cluster.ledger.check().expect("it was judged").iter().map(|summary| summary.offered).sum::<u64>();
    }
    assert!(repeats > 5_000, "only {repeats} events were offered");
}
