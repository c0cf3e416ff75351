//! E2: missing parts of the logs are reported, and outputs undo no more than is delivered again.

use super::*;
use crate::env::Env as _;
use crate::sim::oracle::Report;
use crate::sim::script::{OutputKind, Vanishing};

fn exact(seed: u64, shards: u64) -> Setup {
    let mut setup = Setup::plain(seed);
    setup.outputs[0].kind = OutputKind::Exact;
    setup.shards = (shards, shards);
    setup.inputs[0].placement = crate::plugin::Placement::Every;
    setup
}

/// A life that is killed between two commits of its output. Returns the bytes of its file, and the committed ones.
fn killed_before_a_commit(cluster: &mut Cluster) -> (u64, u64) {
    loop {
        work(cluster, 1, 5);
        let record = &cluster.ledger.state().outputs[0];
        let (bytes, committed) = (record.file_bytes, record.synced_bytes);
        if committed > 0 && bytes > committed {
            break;
        }
    }
    // The synced bytes are those of a commit that may not be in the log yet.
    cluster.crash(Crash::Process);
    let record = &cluster.ledger.state().outputs[0];
    (record.file_bytes, record.synced_bytes)
}

fn again_bytes(cluster: &mut Cluster) -> Option<u64> {
    cluster.ledger.state().outputs[0].again_bytes = Some(u64::MAX);
    cluster.run_for(SECOND);
    cluster.ledger.state().outputs[0].again_bytes
}

fn breaches(cluster: &Cluster) -> Option<Report> {
    cluster.ledger.state().oracle.breaches().err()
}

#[test]
fn e2_an_output_is_told_how_many_bytes_come_again() {
    for seed in 0..20 {
        let mut cluster = started(exact(seed, 1 + seed % 2), 1 + seed as usize % 2);
        let (bytes, committed) = killed_before_a_commit(&mut cluster);
        cluster.heal();
        cluster.start(1 + seed as usize % 2).expect("a kill leaves a directory that can be opened");
        let again = again_bytes(&mut cluster).expect("nothing is damaged");
        assert!((bytes - committed..=bytes).contains(&again), "seed {seed}: {again} of {bytes}, {committed} committed");
        cluster.run_for(SECOND * 5);
        cluster.drain(SECOND * 60);
        cluster.start(1 + seed as usize % 2).expect("a drain leaves a directory that can be opened");
        assert_eq!(again_bytes(&mut cluster), Some(0), "seed {seed}: all was committed");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

#[test]
fn e2_nothing_is_undone_that_damage_keeps_from_coming_again() {
    for seed in 0..20 {
        let mut cluster = started(exact(seed, 1), 1);
        work(&mut cluster, 10, 5);
        cluster.run_for(SECOND * 3);
        kill_outputs(&cluster);
        work(&mut cluster, 5, 5);
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        assert!(cluster.rot_last_events(), "seed {seed}");
        cluster.heal();
        cluster.start(1).expect("damage keeps no engine from starting");
        assert_eq!(again_bytes(&mut cluster), None, "seed {seed}");
        cluster.run_for(SECOND * 5);
        cluster.crash(Crash::Process);
        cluster.start(1).expect("damage keeps no engine from starting");
        assert!(again_bytes(&mut cluster).is_some(), "seed {seed}: the damage lies behind what was committed");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

#[test]
fn e2_a_log_that_is_lost_in_its_first_life_is_reported_once_and_nothing_is_undone() {
    for seed in 0..12 {
        let mut cluster = started(exact(seed, 2), 2);
        killed_before_a_commit(&mut cluster);
        let file = cluster.ledger.state().outputs[0].file_bytes;
        // The output commits to the first shard's log and refers to the other one.
        let what = if seed % 3 == 0 { Vanishing::Segments } else { Vanishing::Directory };
        let log = if what == Vanishing::Segments { 2 } else { 1 + seed % 2 };
        assert!(cluster.vanish(log, what), "seed {seed}");
        // A start that dies before it is recorded in any log has reported nothing.
        cluster.simulation.disk().crash_after(seed % 7);
        if cluster.start(2).is_ok() {
            cluster.run_for(SECOND / 100);
        }
        cluster.crash(Crash::Process);
        for start in 0..2 {
            cluster.start(2).expect("a log that is lost keeps no engine from starting");
            assert_eq!(again_bytes(&mut cluster).is_none(), start == 0, "seed {seed}, start {start}");
            cluster.run_for(SECOND * 5);
            let left = cluster.ledger.state().outputs[0].file_bytes;
            assert!(left >= file, "seed {seed}: {file} bytes were delivered, {left} are left");
            cluster.crash(Crash::Process);
        }
        assert_eq!(breaches(&cluster).map(|report| report.to_string()), None, "seed {seed}");
        cluster.finish();
    }
}

#[test]
fn e2_a_log_of_which_no_segment_was_made_is_not_said_to_be_lost() {
    for operations in 0..80 {
        let mut setup = exact(operations, 2);
        setup.shards = (1, 3);
        let mut cluster = Cluster::new(setup);
        if operations % 2 == 0 {
            cluster.start(1).expect("an empty directory is a good start");
            work(&mut cluster, 5, 5);
            cluster.crash(Crash::Process);
        }
        cluster.simulation.disk().crash_after(operations);
        if cluster.start(3).is_ok() {
            cluster.run_for(SECOND / 10);
        }
        let crash = some_crash(&mut cluster);
        cluster.crash(crash);
        cluster.finish();
    }
}

#[test]
fn e2_events_that_go_with_the_first_segment_are_reported_missing() {
    let mut reported = 0;
    for seed in 0..12 {
        let mut setup = exact(seed, 1);
        setup.wal.log_bytes = 8 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 1);
        if seed % 2 == 0 {
            kill_outputs(&cluster);
        }
        work(&mut cluster, 40, 30);
        cluster.run_for(SECOND * 3);
        cluster.crash(Crash::Process);
        let more = cluster.log_files()[0].0 > 4;
        assert!(cluster.vanish(1, Vanishing::First), "seed {seed}");
        let disk = cluster.simulation.env(crate::env::ShardId(0)).disk().clone();
        let plan = cluster.setup.plan(1, &cluster.ledger);
        let wall = cluster.simulation.wall();
        let engine = crate::engine::prepare::<crate::sim::SimEnv>(&disk, plan, wall, crate::stop::Stop::new());
        let damage = engine.expect("it starts").damage;
        if seed % 2 == 0 && more {
            assert_eq!(damage.len(), 1, "seed {seed}: {damage:?}");
            assert!(damage[0].finding.contains("not delivered yet to: output 0"), "seed {seed}: {damage:?}");
            reported += 1;
            // Until the output commits again, no start may let it undo anything.
            for start in 0..3 {
                cluster.start(1).expect("it starts");
                assert_eq!(again_bytes(&mut cluster), None, "seed {seed}, start {start}");
                cluster.crash(Crash::Process);
            }
        }
        cluster.finish();
    }
    assert!(reported > 3, "{reported}");
}

#[test]
fn e2_a_log_is_recorded_in_the_manifest_once_the_disk_has_space_for_that() {
    let mut delayed = 0;
    for pages in 0..80 {
        let setup = exact(pages, 2);
        let room = 4 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 2);
        let disk = cluster.simulation.env(crate::env::ShardId(0)).disk().clone();
        // The segments fit, and the manifest may not.
        disk.set_free_bytes(Some(room + pages * 4096));
        cluster.run_for(SECOND / 2);
        let recorded = |cluster: &Cluster| [1, 2].iter().filter(|log| cluster.is_recorded(**log)).count();
        let before = recorded(&cluster);
        disk.set_free_bytes(None);
        cluster.run_for(SECOND * 3);
        let has_failed = !cluster.alive().is_up();
        delayed += u64::from(before < 2 && !has_failed);
        assert!(has_failed || recorded(&cluster) == 2, "{pages} pages: {before} before");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
    assert!(delayed > 0);
}
