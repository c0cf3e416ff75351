//! E2, for damage that a start finds: it is reported and counted, and prevents nothing else from being delivered.

use super::*;
use crate::counters::Discard;

/// A log with undelivered events, the last frame of which rots.
fn damaged(seed: u64) -> Cluster {
    let mut setup = Setup::plain(seed);
    setup.inputs[0].repeatable = false;
    let mut cluster = started(setup, 1);
    kill_outputs(&cluster);
    for _ in 0..5 {
        cluster.make_some(10);
        cluster.run_for(SECOND);
    }
    cluster.crash(Crash::Process);
    assert!(cluster.rot_last_events(), "seed {seed}: no event is known to be durable");
    cluster
}

fn counted(cluster: &Cluster) -> u64 {
    cluster.alive().meters.outputs.iter().map(|meter| meter.counters.discarded.get(Discard::Damaged)).sum()
}

/// The damaged bytes cannot be copied. The intact part is delivered, which frees space.
#[test]
fn e2_damage_on_a_full_disk_keeps_no_engine_from_starting() {
    for seed in 0..10 {
        let mut cluster = damaged(seed);
        let made: u64 = cluster.ledger.state().sources.iter().map(|source| source.events()).sum();
        match seed % 2 {
            0 => cluster.simulation.disk().set_free_bytes(Some(0)),
            _ => cluster.simulation.disk().outside().write("/data/quarantine", b"a file").expect("nothing is there"),
        }
        cluster.heal();
        cluster.simulation.disk().set_free_bytes((seed % 2 == 0).then_some(0));
        cluster.start(1).expect("damage keeps no engine from starting");
        cluster.run_for(SECOND * 30);
        let came = cluster.ledger.state().oracle.deliveries(crate::sim::oracle::OutputIndex(0));
        assert!(came > 0 && came < made, "seed {seed}: {came} of {made} events");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

/// Deliveries skip what a start has found, so the start counts it: not again at the next start, and not for an output that had
/// delivered it.
#[test]
fn e2_damage_found_at_a_start_is_counted_once() {
    for seed in 0..10 {
        let mut cluster = damaged(seed);
        for expected in [1, 0] {
            cluster.start(1).expect("damage keeps no engine from starting");
            cluster.run_for(SECOND * 5);
            assert_eq!(counted(&cluster), expected, "seed {seed}: one frame rotted");
            cluster.crash(Crash::Process);
        }
        cluster.heal();
        cluster.start(1).expect("damage keeps no engine from starting");
        cluster.run_for(SECOND * 30);
        assert_eq!(counted(&cluster), 0, "seed {seed}: no delivery counts it");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

#[test]
fn e2_damage_of_delivered_events_is_not_counted() {
    for seed in 0..10 {
        let mut cluster = started(Setup::plain(seed), 1);
        for _ in 0..5 {
            cluster.make_some(10);
            cluster.run_for(SECOND * 3);
        }
        cluster.crash(Crash::Process);
        assert!(cluster.rot_last_events(), "seed {seed}: no event is known to be durable");
        cluster.start(1).expect("damage keeps no engine from starting");
        cluster.run_for(SECOND * 5);
        assert_eq!(counted(&cluster), 0, "seed {seed}");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}
