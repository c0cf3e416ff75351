//! Tests of the keeper alone, on the simulated machine.

use super::*;
use crate::batch::{Source, SourceKey, SourceRange};
use crate::counters::InputCounters;
use crate::env::ShardId;
use crate::lane::{LaneOptions, lane};
use crate::sim::Simulation;
use crate::wal::LogId;
use crate::wal::frame::FrameKind;
use crate::wal::recovery::scan_log;
use std::path::Path;

const DIRECTORY: &str = "/data/wal/log-00000001";

/// A group with the position of a source and no event.
fn position() -> Group {
    let mut group = Group::new();
    let source = Source {
        key: SourceKey(7),
        input: "app".into(),
        name: b"/var/log/app.log".to_vec(),
        descriptor: Vec::new(),
        repeatable: true,
    };
    let frame = group.frame(FrameKind::Events, 0, 0);
    frame.position(&SourceRange { from: 0, to: 8, marker: 1 }, &Arc::new(source), true, false);
    frame.finish();
    group
}

#[test]
fn a_ticket_that_comes_after_the_sync_is_given_back_at_once() {
    for sync in [SyncPolicy::EveryBatch, SyncPolicy::Interval(Duration::from_millis(20)), SyncPolicy::Never] {
        let mut simulation = Simulation::new(1);
        simulation.disk().outside().create_dir_all(DIRECTORY).expect("there is space");
        simulation.disk().outside().sync_all();
        let env = simulation.env(ShardId(0));
        let options = WalOptions { kind: WalType::Disk, sync, segment_bytes: 64 << 10, log_bytes: 512 << 10 };
        let recovered = scan_log(env.disk(), Path::new(DIRECTORY), LogId(1), None).expect("an empty directory");
        let state = recovered.state.clone();
        let writer = Writer::open(env.clone(), options.clone(), recovered, state, Sequence(0)).expect("a new log");
        let (_sender, receiver, _) = lane(LaneOptions::default(), Arc::default(), Arc::<InputCounters>::default());
        let (acknowledgers, counters) = (vec![receiver.acknowledger()], Arc::default());
        let keeper = Keeper::new(KeeperParts { env, writer, options, acknowledgers, stop: Stop::new(), counters });
        keeper.start();
        let sequence = keeper.append(&mut position()).expect("there is space");
        keeper.flush().expect("the disk is well");
        let log = keeper.log().clone();
        let durable = move || sync == SyncPolicy::Never || log.synced() >= sequence;
        simulation.must("a sync", durable, Duration::from_secs(1));
        keeper.acknowledge_later(sequence, 0, 3);
        assert_eq!(receiver.acknowledger().acknowledged(), 3, "{sync:?}: no sync comes any more that would do it");
    }
}
