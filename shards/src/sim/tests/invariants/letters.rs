//! Dead letters on their way to the queue: what waits for them, and for how long.

use super::*;
use crate::counters::Discard;
use crate::delivery::OutputFull;
use crate::dlq;
use crate::lane::WhenFull;
use crate::limits::{CHUNK_BYTES, SPREAD_RANGES_FREE};
use crate::route::ShardBy;
use crate::sim::script::Holding;
use crate::wal::SyncPolicy;

/// Two inputs on one shard, of which the first has letters.
fn setup(seed: u64, when_full: dlq::WhenFull) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.inputs.push(setup.inputs[0]);
    setup.pipelines = vec![(vec![0, 1], vec![0])];
    setup.unreadable = true;
    setup.unreadable_input = Some(0);
    setup.dead_letters.when_full = when_full;
    setup
}

fn small_queue(setup: &mut Setup) {
    (setup.dead_letters.bytes_max, setup.dead_letters.segment_bytes) = (8 * 1024, 4 * 1024);
}

/// Number of unread events of an input.
fn unread(cluster: &Cluster, input: usize) -> u64 {
    let state = cluster.ledger.state();
    let of = |source: &&crate::sim::script::SourceScript| source.input == input;
    state.sources.iter().filter(of).map(|source| source.events() - source.next).sum()
}

/// After a crash there is space in the queue, and everything ends well.
fn finish_with_space(mut cluster: Cluster) {
    let crash = some_crash(&mut cluster);
    cluster.crash(crash);
    cluster.setup.dead_letters.bytes_max = 64 * 1024 * 1024;
    cluster.finish();
}

#[test]
fn full_queue_of_letters_stops_only_the_lane_that_has_them() {
    for seed in 0..16 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        small_queue(&mut setup);
        let mut cluster = started(setup, 1);
        for _ in 0..150 {
            cluster.make_some(60);
            cluster.run_for(SECOND / 5);
        }
        cluster.run_for(SECOND * 20);
        let lanes: Vec<_> =
            cluster.alive().meters.inputs.iter().map(|input| input.lanes[0].counters().sent_events.get()).collect();
        let (stopped, other) = (unread(&cluster, 0), unread(&cluster, 1));
        assert!(stopped > 100 && other == 0, "seed {seed}: {stopped} and {other} are unread, sent {lanes:?}");
        finish_with_space(cluster);
    }
}

/// Events of one lane that are not on their way to the log yet.
fn parked(cluster: &Cluster, input: usize) -> u64 {
    let meters = &cluster.alive().meters;
    let lane = meters.inputs[input].lanes[0].counters();
    lane.sent_events.get() - lane.taken_events.get()
}

fn delivered(cluster: &Cluster) -> u64 {
    cluster.alive().meters.outputs.iter().map(|output| output.counters.sent_events.get()).sum()
}

/// Creates events in the first sources of a cluster until its queue of letters has no space for them.
fn flood(cluster: &mut Cluster, sources: usize) {
    for _ in 0..150 {
        for source in 0..sources {
            (0..60 / sources).for_each(|at| cluster.make(source, 20 + 7 * at));
        }
        cluster.run_for(SECOND / 5);
    }
    cluster.run_for(SECOND * 5);
}

#[test]
fn component_that_has_used_up_its_share_leaves_space_for_the_letters_of_others() {
    for seed in 0..8 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        setup.unreadable_input = None;
        (setup.dead_letters.bytes_max, setup.dead_letters.segment_bytes) = (64 * 1024, 4 * 1024);
        let mut cluster = started(setup, 1);
        flood(&mut cluster, 3);
        assert!(unread(&cluster, 0) > 100 && parked(&cluster, 0) > 0, "seed {seed}: the first input waits");
        let letters = cluster.alive().meters.shards[0].dead_letters.get();
        for _ in 0..10 {
            (3..6).for_each(|source| (0..4).for_each(|at| cluster.make(source, 20 + 11 * at)));
            cluster.run_for(SECOND);
        }
        cluster.run_for(SECOND * 5);
        assert_eq!((unread(&cluster, 1), parked(&cluster, 1)), (0, 0), "seed {seed}: the second one does not");
        let shard = cluster.alive().meters.shards[0].clone();
        assert!(shard.dead_letters.get() > letters, "seed {seed}: letters of the second one are stored");
        let waits: Vec<_> = shard.letter_holders.get().into_iter().map(|of| (of.name, of.waits.is_some())).collect();
        assert!(waits.contains(&("input 0".to_owned(), true)), "seed {seed}: {waits:?}");
        assert!(waits.contains(&("input 1".to_owned(), false)), "seed {seed}: {waits:?}");
        finish_with_space(cluster);
    }
}

#[test]
fn source_whose_letters_have_no_space_stops_no_other_source_of_its_input() {
    for seed in 0..16 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        setup.unreadable_source = Some(0);
        small_queue(&mut setup);
        let mut cluster = started(setup, 1);
        flood(&mut cluster, 1);
        assert!(unread(&cluster, 0) > 100, "seed {seed}: it waits");
        let (before, waits) = (delivered(&cluster), parked(&cluster, 0));
        for _ in 0..20 {
            (1..3).for_each(|source| (0..40).for_each(|_| cluster.make(source, 100)));
            cluster.run_for(SECOND / 2);
        }
        cluster.run_for(SECOND * 5);
        assert_eq!(delivered(&cluster) - before, 1600, "seed {seed}: the other sources are delivered");
        assert_eq!(parked(&cluster, 0), waits, "seed {seed}");
        finish_with_space(cluster);
    }
}

/// Many times more than a lane and what waits beside it can hold is there before the first letter is refused.
#[test]
fn burst_of_lines_without_space_for_their_letters_stops_no_other_source() {
    for seed in 0..24 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        setup.unreadable_source = Some(0);
        setup.inputs[0].lane.bytes = [1, 4, 16, 64][seed as usize % 4] * CHUNK_BYTES;
        // Of a spread source, a few ranges may be unknown to be durable while another source waits, and not more.
        let events = if seed % 3 == 0 { SPREAD_RANGES_FREE as u64 / 2 } else { 800 };
        if seed % 3 == 0 {
            (setup.shards, setup.inputs[0].shard_by) = ((2, 2), ShardBy::Spread);
            setup.inputs[0].lane.bytes = 4 * CHUNK_BYTES;
            setup.wal.segment_bytes = 512 * 1024;
            setup.wal.log_bytes = 8 * setup.wal.segment_bytes;
        }
        setup.batch_events_max = 2;
        small_queue(&mut setup);
        let shards = setup.shards.0 as usize;
        let mut cluster = started(setup, shards);
        (0..4000).for_each(|at| cluster.make(0, 100 + at % 7));
        cluster.run_for(SECOND * 5);
        assert!(unread(&cluster, 0) > 100, "seed {seed}: it waits");
        let before = delivered(&cluster);
        for _ in 0..8 {
            (1..3).for_each(|source| (0..events / 8).for_each(|_| cluster.make(source, 100)));
            cluster.run_for(SECOND / 2);
        }
        cluster.run_for(SECOND * 5);
        assert_eq!(delivered(&cluster) - before, 2 * events, "seed {seed}: the other sources are delivered");
        finish_with_space(cluster);
    }
}

/// Lines that hold events of several sources pass no group that may contain some of them.
#[test]
fn source_whose_letters_have_no_space_costs_no_held_line() {
    for seed in 0..60 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        setup.unreadable_source = Some(0);
        small_queue(&mut setup);
        setup.batch_events_max = 6;
        setup.holding = match seed % 3 {
            0 => Holding::None,
            1 => Holding::Joins,
            _ => Holding::Windows(vec![SECOND / 5, SECOND]),
        };
        let mut cluster = started(setup, 1);
        for round in 0..6 {
            for _ in 0..20 {
                cluster.make_some(30);
                cluster.run_for(SECOND / 7);
            }
            let crash = some_crash(&mut cluster);
            cluster.crash(crash);
            // Some space comes back.
            cluster.setup.dead_letters.bytes_max += 2048 * round;
            cluster.start(1).expect("the directory can be opened");
        }
        cluster.crash(Crash::Power);
        cluster.setup.dead_letters.bytes_max = 64 * 1024 * 1024;
        cluster.finish();
    }
}

/// A lane that waits for its letters drops what its policy requires, and dropped events are not read again.
#[test]
fn lane_that_waits_for_letters_drops_its_oldest() {
    for seed in 0..16 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        small_queue(&mut setup);
        setup.inputs[0].lane.when_full = WhenFull::DropOldest;
        setup.inputs[0].lane.bytes = 128 * 1024;
        let mut cluster = started(setup, 1);
        for _ in 0..150 {
            cluster.make_some(60);
            cluster.run_for(SECOND / 5);
        }
        cluster.run_for(SECOND * 20);
        assert_eq!((unread(&cluster, 0), unread(&cluster, 1)), (0, 0), "seed {seed}: nobody is stopped");
        let dropped = cluster.alive().meters.inputs[0].lanes[0].counters().dropped_events.get();
        assert!(dropped > 100, "seed {seed}: {dropped} events were dropped");
        finish_with_space(cluster);
    }
}

#[test]
fn letters_of_many_batches_share_a_sync() {
    for seed in 0..8 {
        let mut setup = setup(seed, dlq::WhenFull::Block);
        setup.batch_events_max = 12;
        setup.wal.sync = SyncPolicy::Interval(SECOND / 10);
        let mut cluster = started(setup, 1);
        cluster.make_some(6000);
        let caught_up = cluster.caught_up();
        cluster.simulation.must("all is read", caught_up, SECOND * 600);
        cluster.run_for(SECOND * 5);
        let meters = &cluster.alive().meters;
        let batches = meters.inputs[0].lanes[0].counters().taken_batches.get();
        let (syncs, letters) = (meters.shards[0].dead_letter_syncs.get(), meters.shards[0].dead_letters.get());
        assert!(letters > batches / 2, "seed {seed}: {letters} letters in {batches} batches");
        assert!(batches >= syncs * 4, "seed {seed}: {syncs} syncs for {letters} letters in {batches} batches");
        cluster.crash(Crash::Power);
        cluster.finish();
    }
}

/// Segments have become smaller, but the active one is still large: of a batch for two pipelines the first frame fits, and the
/// second one will fit in no segment. Events that are already in the log do not become dead letters too.
#[test]
fn only_the_part_of_a_batch_that_the_log_cannot_hold_becomes_dead_letters() {
    let mut setup = Setup::plain(1);
    setup.long_lines = true;
    setup.outputs.push(setup.outputs[0]);
    setup.pipelines = vec![(vec![0], vec![0]), (vec![0], vec![1])];
    setup.wal.segment_bytes = 256 * 1024;
    setup.wal.log_bytes = 4 * 256 * 1024;
    let mut cluster = started(setup, 1);
    cluster.make_some(10);
    cluster.drain(SECOND * 60);
    cluster.setup.wal.segment_bytes = 64 * 1024;
    cluster.start(1).expect("the log can be opened");
    (0..4).for_each(|_| cluster.make(0, 70_000));
    cluster.run_for(SECOND * 5);
    let pipelines = &cluster.alive().meters.pipelines[0];
    let letters: Vec<u64> = pipelines.iter().map(|counters| counters.dead_lettered_events.get()).collect();
    assert_eq!(letters, [2, 3], "two frames of the one pipeline and one of the other fit the large segment");
    cluster.crash(Crash::Process);
    cluster.finish();
}

/// The log fills up and spares an output most events, among them lines that no segment can hold and the full queue of dead letters does
/// not take: each counts once.
#[test]
fn an_event_that_an_output_was_spared_and_the_log_cannot_hold_counts_once() {
    let mut setup = Setup::plain(1);
    setup.long_lines = true;
    setup.batch_events_max = 4;
    setup.outputs = vec![setup.outputs[0]; 2];
    setup.outputs[1].options.when_full = OutputFull::Sample;
    setup.pipelines[0].1 = vec![0, 1];
    setup.dead_letters =
        dlq::Options { bytes_max: 8 * 1024, segment_bytes: 4 * 1024, when_full: dlq::WhenFull::DropNewest };
    let mut cluster = started(setup, 1);
    kill_outputs(&cluster);
    for _ in 0..150 {
        (0..10).for_each(|_| cluster.make(0, 200));
        cluster.make(0, 70_000);
        cluster.run_for(SECOND / 20);
    }
    let meters = cluster.alive().meters.clone();
    let (spared, dropped) = (&meters.wal_full[0][1], &meters.pipelines[0][0].discarded);
    let both = (spared.get(Discard::WalFull), dropped.get(Discard::DeadLettersFull));
    assert!(both.0 > 0 && both.1 > 0, "both happen: {both:?}");
    cluster.heal();
    let caught_up = cluster.caught_up();
    cluster.simulation.must("all is read", caught_up, SECOND * 600);
    cluster.drain(SECOND * 60);
    cluster.finish();
}

/// An output rejects every seventh event, and nobody makes space for their letters. With a policy of its own it drops them, whatever the
/// policy of the queue is, and delivers all others. Without one it waits, and so do the inputs once the log is full.
#[test]
fn output_that_drops_letters_waits_for_no_space() {
    const EVENTS: u64 = 3000;
    for seed in 0..16 {
        let own = [None, Some(dlq::WhenFull::DropNewest)][seed as usize % 2];
        let mut setup = Setup::plain(seed);
        small_queue(&mut setup);
        setup.outputs[0].options.letters_full = own;
        let mut cluster = started(setup, 1);
        cluster.ledger.state().outputs[0].rejects = true;
        for at in 0..EVENTS as usize {
            cluster.make(at % 3, 300 + at % 7);
        }
        cluster.run_for(SECOND * 60);
        let counters = cluster.alive().meters.outputs[0].counters.clone();
        let (sent, dropped) = (counters.sent_events.get(), counters.discarded.get(Discard::DeadLettersFull));
        let passed = sent + counters.dead_lettered_total() + dropped;
        let holders = cluster.alive().meters.shards[0].letter_holders.get();
        let troubles = (holders[0].waits.is_some(), holders[0].drops_since.is_some());
        if own.is_some() {
            assert_eq!((passed, unread(&cluster, 0)), (EVENTS, 0), "seed {seed}: all events are decided");
            assert!(counters.dead_lettered_total() > 0 && dropped > 0, "seed {seed}: {dropped} dropped");
            assert_eq!(troubles, (false, true), "seed {seed}");
        } else {
            assert!(dropped == 0 && unread(&cluster, 0) > 100, "seed {seed}: {passed} passed, {dropped} dropped");
            assert_eq!(troubles, (true, false), "seed {seed}");
        }
        finish_with_space(cluster);
    }
}

/// Letters that no segment can hold are dropped while the queue is empty. That they are is over a minute after the last of them.
#[test]
fn drops_are_over_a_minute_after_the_last_one_also_in_an_empty_queue() {
    for seed in 0..4 {
        let mut setup = setup(seed, dlq::WhenFull::DropNewest);
        (setup.dead_letters.bytes_max, setup.dead_letters.segment_bytes) = (64, 64);
        let mut cluster = started(setup, 1);
        work(&mut cluster, 10, 40);
        cluster.run_for(SECOND * 5);
        let shard = cluster.alive().meters.shards[0].clone();
        let dropping = || shard.letter_holders.get().iter().filter(|of| of.drops_since.is_some()).count();
        assert!(dropping() > 0 && shard.dead_letter_bytes.get() == 0, "seed {seed}");
        cluster.run_for(SECOND * 120);
        assert_eq!(dropping(), 0, "seed {seed}");
        finish_with_space(cluster);
    }
}
