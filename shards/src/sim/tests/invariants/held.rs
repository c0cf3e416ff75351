//! E1, E2, E3 for events that are held for lines which do not exist yet: after a crash they are read again, at a shutdown the
//! lines are produced.

use super::*;
use crate::plugin::Placement;
use crate::route::ShardBy;
use crate::sim::script::{Holding, OutputKind};
use crate::wal::SyncPolicy;

fn setup(seed: u64) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.holding = Holding::Windows(vec![Duration::from_millis(5 + seed * 37 % 900)]);
    setup.shards = (1, 3);
    // All lines of a while are one frame.
    setup.wal.segment_bytes = 1 << 20;
    setup.wal.log_bytes = 8 << 20;
    setup.inputs[0].placement = [Placement::One, Placement::Every][seed as usize % 2];
    setup.inputs[0].shard_by = if seed.is_multiple_of(5) { ShardBy::Spread } else { ShardBy::Source };
    setup.inputs[0].repeatable = !seed.is_multiple_of(3);
    setup.outputs[0].kind = [OutputKind::One, OutputKind::Every, OutputKind::Exact][seed as usize / 2 % 3];
    setup
}

/// Inputs fail and panic in the meantime: they continue from what the lines cover.
#[test]
fn held_events_survive_crashes_and_come_once() {
    let mut delivered = 0;
    for seed in 0..120 {
        let mut cluster = Cluster::new(setup(seed));
        for life in 0..4 {
            let shards = cluster.chance.between(1, 3) as usize;
            cluster.start(shards).expect("a crash leaves a directory that can be opened");
            if life % 2 == 1 {
                // One that runs on several shards ends the engine when it panics.
                let panic = if cluster.setup.inputs[0].placement == Placement::One { 4 } else { 0 };
                cluster.ledger.state().inputs = Mood { retry: 20, panic, ..Mood::default() };
            }
            work(&mut cluster, 12, 6);
            let crash = some_crash(&mut cluster);
            cluster.crash(crash);
        }
        cluster.ledger.state().inputs = Mood::default();
        cluster.finish();
        let summaries = cluster.ledger.check().expect("it was judged before");
        delivered += summaries.iter().map(|summary| summary.delivered).sum::<u64>();
    }
    assert!(delivered > 10_000, "only {delivered} events were delivered");
}

/// Lines that are due in a day are sent at once when the engine drains.
#[test]
fn drain_waits_for_no_line_that_is_due_later() {
    for seed in 0..20 {
        let mut setup = setup(seed);
        setup.holding = Holding::Windows(vec![SECOND * 86_400]);
        let mut cluster = started(setup, 1);
        cluster.make_some(50);
        cluster.run_for(SECOND * 5);
        let log = cluster.alive().meters.board.get(crate::env::ShardId(0)).expect("the shard is up");
        assert_eq!(log.counters.events.get(), 0, "the lines are held");
        cluster.alive().stop.enter(crate::stop::Phase::Draining);
        let end = cluster.alive().end();
        assert_eq!(cluster.simulation.run_until(&end, SECOND * 60), Outcome::Reached);
        assert_eq!(log.counters.events.get(), 50);
    }
}

/// The lines of a window are more than a log may hold, and nothing commits in it: the appended part is made durable anyway,
/// because otherwise no segment would ever be freed for the rest.
#[test]
fn lines_of_a_window_that_fill_a_log_are_appended_to_their_end() {
    for seed in 0..12 {
        let mut setup = Setup::plain(seed);
        setup.holding = Holding::Windows(vec![SECOND * 86_400]);
        setup.shards = (2, 2);
        setup.inputs[0].placement = Placement::Every;
        let mut cluster = started(setup, 2);
        for source in 0..3 {
            (0..500).for_each(|_| cluster.make(source, 150));
        }
        cluster.run_for(SECOND * 5);
        cluster.drain(SECOND * 120);
        cluster.finish();
    }
}

/// Windows of two lengths, each begun when the previous one ends: some window is always open.
fn staggered(seed: u64) -> Setup {
    let mut setup = setup(seed);
    setup.holding = Holding::Windows(vec![Duration::from_millis(300), Duration::from_millis(1_100 + seed * 7 % 400)]);
    setup.inputs[0].repeatable = true;
    setup.inputs[0].shard_by = ShardBy::Source;
    setup.inputs[0].placement = Placement::One;
    setup.shards = (1, 1);
    // Events counted in a longer window are delivered after events that were read later.
    setup.outputs[0].kind = OutputKind::One;
    setup.wal.sync = SyncPolicy::EveryBatch;
    setup
}

/// Positions advance although some window is always open: a kill repeats no more than the longest window contained.
#[test]
fn kill_repeats_what_the_longest_open_window_held_whatever_other_windows_there_are() {
    for seed in 0..12 {
        let mut cluster = Cluster::new(staggered(seed));
        let (lives, slices) = (4, 100);
        for _ in 0..lives {
            cluster.start(1).expect("a kill leaves a directory that can be opened");
            for _ in 0..slices {
                cluster.make_some(4);
                cluster.run_for(SECOND / 10);
            }
            cluster.crash(Crash::Process);
        }
        cluster.finish();
        let summary = &cluster.ledger.check().expect("it was judged before")[0];
        // Fifteen slices for the longest window, plus a batch and a sync in progress.
        let most = lives * 4 * (15 + 3);
        assert_eq!(summary.delivered, lives * slices * 4 + 3, "seed {seed}");
        assert!(summary.repeats <= most, "seed {seed}: {} repeats of {}", summary.repeats, summary.delivered);
    }
}

/// A processor that joins lines ends an event inside a later batch and is never due: what it has ended is acknowledged.
#[test]
fn batches_whose_lines_were_joined_are_acknowledged_without_a_tick() {
    for seed in 0..20 {
        let mut setup = setup(seed);
        setup.holding = Holding::Joins;
        setup.unreadable = seed % 2 == 1;
        setup.inputs[0].shard_by = ShardBy::Source;
        let mut cluster = started(setup, 1);
        for _ in 0..20 {
            cluster.make_some(9);
            cluster.run_for(SECOND / 4);
        }
        let acknowledged = cluster.ledger.state().acknowledged;
        assert!(acknowledged >= 40, "seed {seed}: {acknowledged} batches are acknowledged");
        let crash = some_crash(&mut cluster);
        cluster.crash(crash);
        cluster.finish();
    }
}

/// A processor that keeps holding events although all lines must be produced violates its contract: that is counted once, none
/// of these events is recorded, and the drain ends.
#[test]
fn drain_ends_though_a_processor_never_lets_go() {
    for seed in 0..10 {
        let mut setup = setup(seed);
        setup.holding = Holding::Clings;
        setup.inputs_answer = false;
        setup.inputs[0].repeatable = true;
        setup.shards = (1, 1);
        let mut cluster = started(setup.clone(), 1);
        cluster.make_some(50);
        cluster.run_for(SECOND * 5);
        let meters = cluster.alive().meters.clone();
        let breaches = || -> u64 {
            let lanes = meters.inputs.iter().flat_map(|input| &input.lanes);
            lanes.map(|lane| lane.counters().breaches.get()).sum()
        };
        assert_eq!((breaches(), cluster.ledger.state().acknowledged), (0, 0), "seed {seed}");
        cluster.drain(SECOND * 60);
        assert_eq!(breaches(), 1, "seed {seed}");
        // They are read again, by a processor that keeps the contract.
        cluster.setup.holding = Holding::None;
        cluster.setup.inputs_answer = true;
        cluster.finish();
        let summary = &cluster.ledger.check().expect("it was judged before")[0];
        assert_eq!(summary.repeats, 50, "seed {seed}");
    }
}
