//! E1, E2: starts after which something is different: a power loss during a start, a removed output, less space.

use super::*;
use crate::lane::WhenFull;
use crate::limits::lane_batches;
use crate::plugin::Placement;
use crate::sim::oracle::OutputIndex;
use crate::sim::script::{InputSetup, OutputKind, OutputSetup};
use crate::wal::SyncPolicy;

/// The first shard's log takes over the positions of all logs. A power loss at any moment of a start must not keep a position
/// whose events it removes.
#[test]
fn e1_a_start_that_is_cut_short_keeps_no_position_without_its_events() {
    for operations in 0..90 {
        let mut setup = Setup::plain(operations);
        setup.shards = (3, 3);
        setup.inputs[0].placement = Placement::Every;
        setup.inputs[0].sources = 4;
        setup.wal.sync = SyncPolicy::Never;
        let mut cluster = started(setup, 3);
        kill_outputs(&cluster);
        work(&mut cluster, 6, 8);
        cluster.crash(Crash::Process);
        cluster.simulation.disk().crash_after(operations);
        if cluster.start(3).is_ok() {
            cluster.run_for(SECOND / 10);
        }
        cluster.crash(Crash::Power);
        cluster.finish();
    }
}

/// A segment is freed only when the commit that releases it is durable, also under the policy `never`. Otherwise a power loss
/// would take an exact output back to a commit whose events no longer exist.
#[test]
fn e1_a_segment_outlives_the_commit_that_passed_it() {
    for seed in 0..40 {
        let mut setup = Setup::plain(seed);
        setup.wal.sync = SyncPolicy::Never;
        setup.wal.log_bytes = 3 * setup.wal.segment_bytes;
        setup.outputs[0].kind = OutputKind::Exact;
        let mut cluster = started(setup, 1);
        for _ in 0..4 {
            work(&mut cluster, 20, 30);
            // It commits and releases, and nothing afterwards requests a sync.
            cluster.run_for(SECOND * 3);
            cluster.crash(Crash::Power);
            cluster.start(1).expect("a crash leaves a directory that can be opened");
        }
        cluster.crash(Crash::Power);
        cluster.finish();
    }
}

/// An output is removed while a log without a writer is adopted, and is added again: it starts at the end of all logs.
#[test]
fn e2_an_output_that_comes_back_gets_nothing_that_was_discarded_when_it_left() {
    let mut discarded = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 2);
        setup.inputs[0].placement = Placement::Every;
        setup.outputs.push(OutputSetup { kind: OutputKind::One, ..setup.outputs[0] });
        setup.pipelines[0].1.push(1);
        let mut cluster = started(setup.clone(), 2);
        kill_outputs(&cluster);
        work(&mut cluster, 10, 8);
        cluster.crash(Crash::Process);
        cluster.setup.outputs[1].present = false;
        cluster.setup.pipelines[0].1.pop();
        cluster.start(1).expect("a kill leaves a directory that can be opened");
        work(&mut cluster, 10, 2);
        cluster.crash(Crash::Process);
        cluster.setup = setup;
        let before = cluster.ledger.state().oracle.deliveries(OutputIndex(1));
        cluster.finish();
        let summary = cluster.ledger.check().expect("the judge was content a moment ago").swap_remove(1);
        discarded += summary.discarded.get("output_removed").copied().unwrap_or(0);
        assert!(summary.delivered > before, "seed {seed}: nothing new reached the output that came back");
    }
    assert!(discarded > 100, "{discarded} events waited for the output that left");
}

/// The start without an output fails somewhere: the next start counts what waited for it, or delivers it if the output is back.
#[test]
fn e2_an_output_has_not_left_before_a_start_without_it_succeeds() {
    let mut refused = 0;
    for operations in 0..60 {
        let mut setup = Setup::plain(operations);
        setup.outputs.push(OutputSetup { kind: OutputKind::One, ..setup.outputs[0] });
        setup.pipelines[0].1.push(1);
        setup.wal.sync = SyncPolicy::EveryBatch;
        let mut cluster = started(setup.clone(), 1);
        kill_outputs(&cluster);
        work(&mut cluster, 10, 8);
        cluster.crash(Crash::Process);
        cluster.setup.outputs[1].present = false;
        cluster.setup.pipelines[0].1.pop();
        cluster.simulation.disk().crash_after(operations / 2);
        match cluster.start(1) {
            Ok(()) => _ = cluster.run_for(SECOND / 10),
            Err(_) => refused += 1,
        }
        cluster.crash(Crash::Process);
        if operations % 2 == 0 {
            cluster.setup = setup;
        }
        cluster.finish();
    }
    assert!(refused > 4, "{refused} starts were refused");
}

/// Fewer shards, and no new events: the logs without a shard are removed anyway, also those without events for an output. The
/// output commits once that it has passed them, and then writes no more commits.
#[test]
fn e4_adopted_logs_go_although_an_output_gets_no_events() {
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.shards = (1, 3);
        setup.inputs[0].placement = Placement::Every;
        setup.inputs[0].sources = 6;
        setup.inputs.push(InputSetup { sources: 1, ..setup.inputs[0] });
        setup.outputs.push(OutputSetup { kind: OutputKind::Every, ..setup.outputs[0] });
        setup.pipelines.push((vec![1], vec![1]));
        let mut cluster = started(setup, 3);
        for slice in 0..20 {
            (0..6).for_each(|source| cluster.make(source, 40 + slice));
            cluster.run_for(SECOND / 20);
        }
        let caught_up = cluster.caught_up();
        cluster.simulation.must("all is read", caught_up, SECOND * 60);
        // A kill leaves a mark or a commit at the end of the logs, a drain a mark.
        match seed % 2 {
            0 => cluster.drain(SECOND * 60),
            _ => cluster.crash(Crash::Process),
        }
        assert_eq!(cluster.log_files().len(), 3);
        cluster.start(1).expect("a stop leaves a directory that can be opened");
        cluster.run_for(SECOND * 10);
        assert_eq!(cluster.log_files().len(), 1, "seed {seed}: {:?}", cluster.log_files());
        let meters = cluster.alive().meters.clone();
        let commits = || -> Vec<u64> { meters.outputs.iter().map(|meter| meter.counters.commits.get()).collect() };
        let before = commits();
        cluster.run_for(SECOND * 60);
        assert_eq!(commits(), before, "seed {seed}: an idle engine commits nothing");
        drop(meters);
        cluster.drain(SECOND * 60);
        cluster.finish();
    }
}

/// A log with more segments than a new configuration allows still accepts commits, because otherwise it would never shrink.
#[test]
fn e4_a_log_that_was_larger_gets_as_small_as_it_may_be() {
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.wal.log_bytes = 8 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 1);
        kill_outputs(&cluster);
        work(&mut cluster, 100, 40);
        cluster.crash(some_crash_of(seed));
        assert!(cluster.log_files()[0].0 > 5, "seed {seed}: {:?}", cluster.log_files());
        cluster.setup.wal.log_bytes = 3 * cluster.setup.wal.segment_bytes;
        cluster.finish();
        assert!(cluster.log_files()[0].0 <= 5, "seed {seed}: {:?}", cluster.log_files());
    }
}

fn some_crash_of(seed: u64) -> Crash {
    if seed.is_multiple_of(2) { Crash::Power } else { Crash::Process }
}

/// An input dies repeatedly while it holds a batch: the lane replaces each.
#[test]
fn e4_batches_that_died_with_their_input_are_replaced() {
    let mut setup = Setup::plain(1);
    setup.inputs[0].lane.when_full = WhenFull::Block;
    let mut cluster = started(setup, 1);
    let shard = cluster.alive().meters.shards[0].clone();
    cluster.ledger.state().inputs = Mood { panic: 1000, ..Mood::default() };
    cluster.make_some(20);
    let died = || shard.plugin_panics.get() > lane_batches(cluster.setup.inputs[0].lane.bytes) as u64 + 4;
    cluster.simulation.must("more deaths than a lane has batches", died, SECOND * 4000);
    cluster.ledger.state().inputs = Mood::default();
    let caught_up = cluster.caught_up();
    cluster.simulation.must("all was read", caught_up, SECOND * 200);
    cluster.drain(SECOND * 200);
    cluster.finish();
}

/// Segments are removed from the lowest, even if one cannot be removed for a while: a gap would look like a loss.
#[test]
fn e6_a_segment_that_cannot_be_removed_goes_before_any_later_one() {
    let log = std::path::Path::new("/data/wal/log-00000001");
    let mut outlived = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.wal.log_bytes = 8 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 1);
        let disk = cluster.simulation.disk().clone();
        kill_outputs(&cluster);
        work(&mut cluster, 40, 40);
        let before = cluster.log_files()[0].0;
        disk.deny(log, true).expect("the log is there");
        cluster.heal();
        cluster.run_for(SECOND * 5);
        assert_eq!(cluster.log_files()[0].0, before, "seed {seed}: nothing could be removed");
        disk.deny(log, false).expect("the log is there");
        cluster.run_for(SECOND * (seed as u32 % 3));
        // If the log needed a new segment at that time, the engine has ended, as it should.
        outlived += u64::from(cluster.alive().stop.failure().is_none());
        cluster.crash(some_crash_of(seed));
        cluster.finish();
    }
    assert!(outlived > 10, "only {outlived} of 20 engines outlived it");
}

/// A directory whose sync failed is as uncertain as a file whose sync failed.
#[test]
fn e7_failed_sync_of_names_poisons() {
    for seed in 0..20 {
        let mut cluster = started(Setup::plain(seed), 1);
        work(&mut cluster, 10, 30);
        cluster.simulation.disk().fail_directory_syncs(1);
        let stop = cluster.alive().stop.clone();
        for _ in 0..20 {
            if stop.failure().is_none() {
                cluster.make_some(60);
                cluster.run_for(SECOND);
            }
        }
        let failure = stop.failure().unwrap_or_default();
        assert!(failure.starts_with("sync of /data/wal/log-00000001"), "seed {seed}: {failure}");
        cluster.heal();
        cluster.crash(some_crash_of(seed));
        cluster.finish();
    }
}

/// If space is reserved by writing zeros, a disk that fills up half-way is handled like any full disk.
#[test]
fn log_starts_and_rolls_where_space_is_reserved_by_writing() {
    for seed in 0..20 {
        let mut cluster = Cluster::new(Setup::plain(seed));
        let disk = cluster.simulation.disk().clone();
        disk.set_allocates(false);
        cluster.start(1).expect("an empty directory is a good start");
        work(&mut cluster, 10, 60);
        // Less than a segment, more than nothing.
        disk.set_free_bytes(Some(20 * 1024));
        work(&mut cluster, 30, 60);
        assert!(cluster.alive().stop.failure().is_none(), "seed {seed}: {:?}", cluster.alive().stop.failure());
        disk.set_free_bytes(None);
        let caught_up = cluster.caught_up();
        cluster.simulation.must("all is read", caught_up, SECOND * 60);
        let crash = some_crash(&mut cluster);
        cluster.crash(crash);
        cluster.finish();
    }
}
