//! E4, E8: queues stay within their limits, and no task of a shard waits for a disk.

use super::*;
use crate::env::ShardId;
use crate::intake::OWED_MAX;
use crate::keeper::WAITING_MAX;
use crate::lane::{LaneOptions, WhenFull};
use crate::limits::{CHUNK_BYTES, LANE_SLOTS, SPREAD_RANGES_FREE, lane_batches, spread_ranges_max};
use crate::plugin::Placement;
use crate::route::ShardBy;
use crate::wal::SyncPolicy;

/// Files that a log may have in addition to its allowed segments: the standby files.
const STANDBYS: u64 = 2;

/// A flood of events while outputs accept nothing: the lane, its batches, the log and everything that waits stay within their
/// limits.
#[test]
fn e4_queues_stay_within_limits() {
    let policies = [WhenFull::Block, WhenFull::DropNewest, WhenFull::DropOldest, WhenFull::Sample];
    let mut full = 0;
    for seed in 0..24 {
        let mut setup = Setup::plain(seed);
        setup.inputs[0].lane.when_full = policies[seed as usize % 4];
        setup.inputs[0].lane.bytes = (1 + seed as usize % 3 * 8) * CHUNK_BYTES;
        // Acknowledgements wait for a long time, so that their queue would grow.
        setup.wal.sync = SyncPolicy::Interval(SECOND * 30);
        setup.wal.log_bytes = setup.wal.segment_bytes * (3 + seed % 4);
        let limits = setup.clone();
        let mut cluster = started(setup, 1);
        kill_outputs(&cluster);
        for _ in 0..120 {
            cluster.make_some(30);
            cluster.simulation.run_steps(cluster.chance.between(1, 400));
            check_bounds(&cluster, &limits, seed);
        }
        full += u64::from(cluster.alive().meters.shards[0].wal_full.get() > 0);
    }
    assert!(full >= 20, "the log was full on {full} of 24 seeds");
}

fn check_bounds(cluster: &Cluster, limits: &Setup, seed: u64) {
    let meters = &cluster.alive().meters;
    let lane = meters.inputs[0].lanes[0].counters();
    let out = lane.sent_bytes.get() - lane.taken_bytes.get();
    assert!(out <= limits.inputs[0].lane.bytes.max(CHUNK_BYTES) as u64, "seed {seed}: {out} bytes in a lane");
    let most = lane_batches(limits.inputs[0].lane.bytes) as u64;
    assert!(lane.made_batches.get() <= most, "seed {seed}: {} batches", lane.made_batches.get());
    let shard = &meters.shards[0];
    assert!(shard.waiting_acknowledgements.get() <= WAITING_MAX as u64 + 1, "seed {seed}");
    // One run of bytes for each source, and what a restart may have left out of it: nothing here.
    let sources = limits.inputs[0].sources as u64;
    assert!(shard.owed_ranges.get() <= sources, "seed {seed}: {} ranges owed", shard.owed_ranges.get());
    let allowed = limits.wal.log_bytes / limits.wal.segment_bytes;
    if let Some(log) = meters.board.get(ShardId(0)) {
        assert!(log.counters.segments.get() <= allowed, "seed {seed}: {} segments", log.counters.segments.get());
    }
    for (files, bytes) in cluster.log_files() {
        assert!(files as u64 <= allowed + STANDBYS, "seed {seed}: {files} files, {allowed} allowed");
        assert!(bytes <= (allowed + STANDBYS) * limits.wal.segment_bytes, "seed {seed}: {bytes} bytes");
    }
}

/// Batches of a spread source are never adjacent on a shard, so dropped ranges never merge.
#[test]
fn e4_ranges_of_a_spread_source_that_are_owed_are_bounded() {
    let mut setup = Setup::plain(77);
    setup.inputs[0].lane = LaneOptions { bytes: CHUNK_BYTES, when_full: WhenFull::DropOldest };
    setup.inputs[0].shard_by = ShardBy::Spread;
    setup.batch_events_max = 1;
    let mut cluster = started(setup, 2);
    kill_outputs(&cluster);
    for _ in 0..600 {
        (0..40).for_each(|event| cluster.make(event % 3, 60));
        cluster.simulation.run_steps(400);
    }
    let owed: Vec<u64> = cluster.alive().meters.shards.iter().map(|shard| shard.owed_ranges.get()).collect();
    let limit = (OWED_MAX as u64).min(spread_ranges_max(cluster.setup.wal.segment_bytes, 1) as u64);
    assert!(owed.iter().all(|&owed| owed > 0), "what was dropped is owed: {owed:?}");
    assert!(owed.iter().sum::<u64>() <= limit + 4 * (SPREAD_RANGES_FREE as u64 + 1), "{owed:?}");
}

/// A frame holds the events of two pipelines and is taken in parts, some of which have no events for an output. The scripted
/// outputs report a delivery without events as an error.
#[test]
fn e4_a_delivery_holds_events_though_a_frame_is_taken_in_parts() {
    let mut setup = Setup::plain(5);
    setup.outputs[0].options.batch.events_max = 3;
    setup.outputs.push(setup.outputs[0]);
    setup.pipelines = vec![(vec![0], vec![0]), (vec![0], vec![1])];
    let mut cluster = started(setup, 1);
    work(&mut cluster, 20, 30);
    cluster.crash(Crash::Process);
    cluster.finish();
}

/// A thousand small batches between two syncs: each waits for its acknowledgement, up to the limit.
#[test]
fn e4_waiting_acknowledgements_are_merged() {
    let mut setup = Setup::plain(1);
    setup.batch_events_max = 1;
    setup.wal.sync = SyncPolicy::Interval(SECOND * 30);
    setup.wal.segment_bytes = 4 * 1024 * 1024;
    setup.wal.log_bytes = 4 * setup.wal.segment_bytes;
    let mut cluster = started(setup, 1);
    let sources = cluster.setup.inputs[0].sources;
    for event in 0..WAITING_MAX + LANE_SLOTS {
        cluster.make(event % sources, 1);
    }
    let caught_up = cluster.caught_up();
    cluster.simulation.must("all was read", caught_up, SECOND * 20);
    let counters = cluster.alive().meters.shards[0].clone();
    assert_eq!(counters.waiting_acknowledgements.get(), WAITING_MAX as u64);
    cluster.run_for(SECOND * 60);
    assert_eq!(counters.waiting_acknowledgements.get(), 0);
    cluster.crash(Crash::Process);
    cluster.finish();
}

/// The only exception: the append that begins a segment renames it, once per segment.
const BEGINS_SEGMENT: &str = ": rename";

/// From the moment when the shards are up, every call that may wait for a disk goes through `blocking`: while segments roll and
/// are recycled, adopted logs are removed, and outputs open, commit and are restarted.
#[test]
fn e8_nothing_blocks_the_executor() {
    let mut rolls = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 3);
        setup.inputs[0].placement = Placement::Every;
        let exact = crate::sim::script::OutputSetup { kind: crate::sim::script::OutputKind::Exact, ..setup.outputs[0] };
        setup.outputs.push(exact);
        setup.pipelines[0].1.push(1);
        let mut cluster = Cluster::new(setup);
        let disk = cluster.simulation.disk().clone();
        for life in 0..3 {
            let shards = cluster.chance.between(1, 3) as usize;
            cluster.start(shards).expect("a crash leaves a directory that can be opened");
            for record in &mut cluster.ledger.state().outputs {
                record.mood = Mood { retry: 100, panic: 20, ..Mood::default() };
            }
            let up = (0..shards).map(|shard| ShardId(shard as u16)).collect::<Vec<_>>();
            let board = cluster.alive().meters.board.clone();
            cluster.simulation.must("the shards are up", || up.iter().all(|s| board.get(*s).is_some()), SECOND * 60);
            disk.forbid_blocking(true);
            work(&mut cluster, 30, 40);
            for shard in up {
                rolls += board.get(shard).map_or(0, |log| log.counters.segments.get());
            }
            if life == 2 {
                cluster.heal();
                cluster.drain(SECOND * 600);
            }
            disk.forbid_blocking(false);
            if life < 2 {
                cluster.crash(Crash::Process);
            }
        }
        let blocked: Vec<String> = disk.blocked().into_iter().filter(|call| !call.ends_with(BEGINS_SEGMENT)).collect();
        assert_eq!(blocked, Vec::<String>::new(), "seed {seed}: task and call");
    }
    assert!(rolls > 100, "segments rolled: {rolls}");
}
