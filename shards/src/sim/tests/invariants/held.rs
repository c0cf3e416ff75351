//! E1, E2, E3 for events that live on in lines which are yet to be made: a crash has them read again, a stop makes the lines.

use super::*;
use crate::plugin::Placement;
use crate::route::ShardBy;
use crate::sim::script::OutputKind;

fn setup(seed: u64) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.held = Some(Duration::from_millis(5 + seed * 37 % 900));
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

/// With inputs that fail and panic meanwhile: what they read on from is then what the lines account for.
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

/// Lines that are due in a day leave at once when the engine drains.
#[test]
fn drain_waits_for_no_line_that_is_due_later() {
    for seed in 0..20 {
        let mut setup = setup(seed);
        setup.held = Some(SECOND * 86_400);
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
