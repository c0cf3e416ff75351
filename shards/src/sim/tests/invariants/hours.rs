//! E4 over hours with the smallest possible log: outputs that block, that drop and that cannot be opened fill it together,
//! again and again. When all are healthy, everything advances.

use super::*;
use crate::delivery::OutputFull;
use crate::sim::script::{OutputKind, OutputSetup};
use crate::wal::SyncPolicy;

/// Outputs of every policy on the smallest log.
fn smallest(seed: u64) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.shards = (1 + seed % 3, 1 + seed % 3);
    setup.wal.segment_bytes = crate::limits::SEGMENT_BYTES_MIN;
    setup.wal.log_bytes = crate::limits::SEGMENTS_MIN * setup.wal.segment_bytes;
    setup.wal.sync = [SyncPolicy::Interval(SECOND / 10), SyncPolicy::EveryBatch, SyncPolicy::Never][seed as usize % 3];
    setup.inputs[0].placement = crate::plugin::Placement::Every;
    let output = |kind, when_full| {
        let mut output = OutputSetup { kind, ..setup.outputs[0] };
        output.options.when_full = when_full;
        output
    };
    setup.outputs = vec![
        output(OutputKind::One, OutputFull::Block),
        output(OutputKind::Every, OutputFull::Block),
        output(OutputKind::Exact, OutputFull::Block),
        output(OutputKind::One, OutputFull::DropOldest),
        output(OutputKind::Every, OutputFull::Sample),
    ];
    setup.pipelines = vec![(vec![0], vec![0, 1, 2, 3, 4])];
    setup
}

/// Each output is healthy for a while, fails for a while, hangs for a while.
fn change_moods(cluster: &mut Cluster) {
    let outputs = cluster.ledger.state().outputs.len();
    for output in 0..outputs {
        let mood = match cluster.chance.below(8) {
            0..=2 => Mood { retry: 1000, ..Mood::default() },
            3 => Mood { hang: 500, ..Mood::default() },
            4 => Mood { retry: 300, slow: 300, unsure: 300, large: 100, wild: 100, ..Mood::default() },
            _ => Mood::default(),
        };
        cluster.ledger.state().outputs[output].mood = mood;
    }
}

#[test]
fn e4_a_full_log_of_the_smallest_size_heals_after_hours() {
    let mut full = 0;
    for seed in 0..3 {
        let mut cluster = started(smallest(seed), 1 + seed as usize % 3);
        cluster.ledger.state().rests = true;
        for _ in 0..60 {
            change_moods(&mut cluster);
            let events = cluster.chance.below(400);
            cluster.make_some(events);
            let slice = Duration::from_secs(cluster.chance.between(5, 300));
            assert!(!matches!(cluster.run_for(slice), Outcome::StepLimit | Outcome::Stuck), "seed {seed}");
        }
        full += cluster.alive().meters.shards.iter().map(|shard| shard.wal_full.get()).sum::<u64>();
        assert!(cluster.go_on(), "seed {seed}: {:?}", cluster.ledger.state().oracle.breaches());
        if seed % 2 == 0 {
            let crash = some_crash(&mut cluster);
            cluster.crash(crash);
        } else {
            cluster.drain(SECOND * 300);
        }
        cluster.finish();
    }
    assert!(full > 40, "the logs were full only {full} times");
}
