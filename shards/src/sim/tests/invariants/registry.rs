//! E1, E2: which output has which number, through starts that die while they change it, and after damage.

use super::*;
use crate::engine::{Plan, StartError, Waiting};
use crate::env::Env as _;
use crate::sim::oracle::Violation;
use crate::sim::script::{OutputKind, OutputSetup, Vanishing};

/// The next life ends at some operation of its start.
fn dies_in_its_start(cluster: &mut Cluster, operations: u64) {
    cluster.simulation.disk().crash_after(operations);
    if cluster.start(1).is_ok() {
        cluster.run_for(SECOND / 10);
    }
    let crash = if operations.is_multiple_of(2) { Crash::Power } else { Crash::Process };
    cluster.crash(crash);
}

/// An output is removed, and the start that would record this dies: a later start counts the events that waited for it.
#[test]
fn e2_events_of_an_output_that_leaves_are_counted_although_a_start_dies() {
    for operations in 0..60 {
        let mut setup = Setup::plain(operations);
        setup.outputs.push(OutputSetup { kind: OutputKind::One, ..setup.outputs[0] });
        setup.pipelines[0].1.push(1);
        let mut cluster = started(setup, 1);
        kill_outputs(&cluster);
        work(&mut cluster, 10, 8);
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        cluster.setup.outputs[0].present = false;
        cluster.setup.pipelines[0].1 = vec![1];
        dies_in_its_start(&mut cluster, operations);
        cluster.finish();
        let summary = cluster.ledger.check().expect("the judge was content a moment ago").swap_remove(0);
        let counted = summary.discarded.get("output_removed").copied().unwrap_or(0);
        assert!(counted >= summary.acknowledged, "operation {operations}: {counted} of {}", summary.acknowledged);
    }
}

/// A new output gets the number of a removed one, and the start that assigns it dies: it begins without the commits of the old
/// one.
#[test]
fn e2_a_new_output_gets_nothing_of_the_one_whose_number_it_has() {
    for operations in 0..60 {
        let mut setup = Setup::plain(operations);
        setup.wal.log_bytes = 3 * setup.wal.segment_bytes;
        setup.outputs.push(OutputSetup { kind: OutputKind::One, ..setup.outputs[0] });
        setup.outputs.push(OutputSetup { present: false, ..setup.outputs[0] });
        setup.pipelines[0].1 = vec![0, 1];
        let mut cluster = started(setup, 1);
        work(&mut cluster, 20, 8);
        cluster.drain(SECOND * 60);
        cluster.setup.outputs[0].present = false;
        cluster.setup.pipelines[0].1 = vec![1];
        cluster.start(1).expect("a drain leaves a directory that can be opened");
        work(&mut cluster, 60, 30);
        cluster.drain(SECOND * 60);
        cluster.setup.outputs[2].present = true;
        cluster.setup.pipelines[0].1 = vec![1, 2];
        dies_in_its_start(&mut cluster, operations);
        cluster.start(1).expect("a crash leaves a directory that can be opened");
        let output = cluster.alive().meters.outputs.iter().find(|meter| meter.output == 1).expect("it is configured");
        assert_eq!(output.number.0, 0, "operation {operations}: the number is not given again");
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

/// An output leaves, another one has its number and leaves too, and then it comes back, while a log of more shards is still drained that
/// knows it under that number: it begins anew, and what the other one kept beside the log goes.
#[test]
fn e2_an_output_that_comes_back_is_not_taken_for_the_one_that_an_old_log_knows() {
    let mut setup = Setup::plain(1);
    setup.shards = (1, 2);
    setup.inputs[0].placement = crate::plugin::Placement::Every;
    setup.outputs = vec![setup.outputs[0]; 3];
    setup.outputs[2].present = false;
    setup.pipelines = vec![(vec![0], vec![1]), (Vec::new(), vec![0])];
    let mut cluster = started(setup, 2);
    cluster.ledger.state().outputs[1].mood = Mood { retry: 1000, ..Mood::default() };
    work(&mut cluster, 20, 8);
    cluster.run_for(SECOND * 3);
    // The second log is drained from now on, and waits for output 1.
    for present in [&[1, 2][..], &[1], &[0, 1]] {
        cluster.crash(Crash::Process);
        (0..3).for_each(|output| cluster.setup.outputs[output].present = present.contains(&output));
        let others = present.iter().copied().filter(|output| *output != 1).collect();
        cluster.setup.pipelines = vec![(vec![0], vec![1]), (Vec::new(), others)];
        cluster.start(1).expect("a kill leaves a directory that can be opened");
        let number = |index: usize| {
            let at = present.iter().position(|output| *output == index)?;
            cluster.alive().meters.outputs.iter().find(|meter| meter.output == at).map(|meter| meter.number.0)
        };
        let outside = cluster.simulation.disk().outside();
        match (number(2), number(0)) {
            (Some(0), None) => {
                outside.create_dir_all("/data/outputs").expect("there is room");
                outside.write("/data/outputs/0.state", b"of another").expect("there is room");
            }
            (None, None) => {}
            (None, Some(0)) => {
                assert!(outside.read("/data/outputs/0.state").is_err(), "it finds what another one kept")
            }
            other => panic!("the numbers are {other:?}"),
        }
        assert!(cluster.alive().meters.adopted.len() == 1, "the other log is still there");
        cluster.run_for(SECOND * 3);
    }
    cluster.crash(Crash::Process);
    cluster.finish();
}

/// An output for which events wait leaves: the start is refused with their number until they are given up, and an output that has another
/// name now gets them.
#[test]
fn e2_a_start_is_refused_while_events_wait_for_an_output_that_left() {
    for renamed in [false, true] {
        let mut setup = Setup::plain(3);
        setup.outputs = vec![setup.outputs[0]; 2];
        setup.pipelines[0].1 = vec![0, 1];
        let mut cluster = started(setup, 1);
        cluster.ledger.state().outputs[0].mood = Mood { retry: 1000, ..Mood::default() };
        work(&mut cluster, 10, 8);
        cluster.run_for(SECOND * 2);
        cluster.crash(Crash::Process);
        let prepare = |cluster: &mut Cluster| {
            let (disk, wall) =
                (cluster.simulation.env(crate::env::ShardId(0)).disk().clone(), cluster.simulation.wall());
            let plan = Plan { given_up: Vec::new(), ..cluster.setup.plan(1, &cluster.ledger) };
            crate::engine::prepare::<crate::sim::SimEnv>(&disk, plan, wall, crate::stop::Stop::new())
        };
        cluster.setup.outputs[0].present = false;
        cluster.setup.pipelines[0].1 = vec![1];
        let all: u64 = cluster.ledger.state().sources.iter().map(|source| source.events()).sum();
        for _ in 0..2 {
            let refused = prepare(&mut cluster).err().expect("events wait");
            let StartError::Waiting(waiting, _) = refused else { panic!("{refused}") };
            assert_eq!(waiting, [Waiting { output: "output 0".into(), events: all }], "nothing was changed before");
        }
        if renamed {
            cluster.setup.outputs[0].present = true;
            cluster.setup.outputs[0].name = 7;
            cluster.setup.pipelines[0].1 = vec![0, 1];
            let engine = prepare(&mut cluster).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((engine.removed.len(), engine.renamed.len()), (0, 1));
        } else {
            cluster.start(1).expect("it is given up");
            cluster.run_for(SECOND);
            cluster.crash(Crash::Process);
            assert_eq!(prepare(&mut cluster).err().map(|error| error.to_string()), None, "nothing waits any more");
        }
        cluster.finish();
        let summary = cluster.ledger.check().expect("the judge was content a moment ago").swap_remove(0);
        let discarded = summary.discarded.get("output_removed").copied().unwrap_or(0);
        assert_eq!((summary.delivered > 0, discarded), if renamed { (true, 0) } else { (false, all) });
    }
}

/// An output has got another name twice, and what the logs said of the second one is damaged or missing: its events are neither given up
/// nor another's.
#[test]
fn e2_an_output_keeps_its_events_although_the_logs_have_lost_its_name() {
    for missing in [false, true] {
        let mut setup = Setup::plain(4);
        setup.shards = (1, 2);
        let mut cluster = started(setup, 2);
        kill_outputs(&cluster);
        work(&mut cluster, 10, 8);
        cluster.run_for(SECOND);
        for name in [1, 2] {
            cluster.crash(Crash::Process);
            cluster.setup.outputs[0].name = name;
            cluster.start(1).expect("the output has another name");
            kill_outputs(&cluster);
            work(&mut cluster, 10, 8);
            cluster.run_for(SECOND);
        }
        cluster.crash(Crash::Process);
        if missing {
            assert!(cluster.vanish(1, Vanishing::Segments), "it has segments");
        } else {
            assert!(cluster.rot_snapshots(1) > 1, "each start has one");
        }
        cluster.setup.outputs[0].name = 3;
        cluster.start(1).expect("nothing waits for an output that left");
        assert_eq!(cluster.ledger.state().told.renamed, 3);
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

/// The last commit of an output is damaged, and the log has freed what was before it: if the output went back to the previous
/// commit, what it undoes could not be delivered again.
#[test]
fn e2_what_an_output_would_undo_is_still_in_the_log() {
    let mut older = 0;
    for seed in 0..20 {
        let mut setup = Setup::plain(seed);
        setup.outputs[0].kind = OutputKind::Exact;
        setup.wal.log_bytes = 3 * setup.wal.segment_bytes;
        let mut cluster = started(setup, 1);
        work(&mut cluster, 20, 30);
        cluster.run_for(SECOND * 3);
        kill_outputs(&cluster);
        work(&mut cluster, 5, 8);
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        let lost = cluster.rot_commits();
        older += u64::from(lost > 0);
        cluster.finish();
        let summary = cluster.ledger.check().expect("the judge was content a moment ago").swap_remove(0);
        assert_eq!(summary.delivered, summary.offered, "seed {seed}");
    }
    assert!(older > 10, "only {older} of 20 logs had a commit to lose");
}

/// The files of a log disappear between two lives, with or without their directory: the next start reports it, once, and
/// continues.
#[test]
fn e2_a_log_that_is_missing_is_reported() {
    for seed in 0..12 {
        let mut setup = Setup::plain(seed);
        setup.shards = (2, 2);
        setup.inputs[0].placement = crate::plugin::Placement::Every;
        let mut cluster = started(setup, 2);
        work(&mut cluster, 10, 8);
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        cluster.start(2).expect("a kill leaves a directory that can be opened");
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        let outside = cluster.simulation.disk().outside();
        let log = format!("/data/wal/log-0000000{}", 1 + seed % 2);
        for name in outside.list(&log).expect("the log is there") {
            outside.remove(std::path::Path::new(&log).join(name)).expect("the file is there");
        }
        if seed % 4 < 2 {
            outside.remove_dir_all(&log).expect("it is there");
        }
        cluster.start(2).expect("a log that is lost keeps no engine from starting");
        let report = cluster.ledger.state().oracle.breaches().expect_err("it is reported");
        assert!(report.total == 1 && report.to_string().contains("segments are missing"), "seed {seed}: {report}");
        cluster.run_for(SECOND);
        cluster.crash(Crash::Process);
        cluster.start(2).expect("a kill leaves a directory that can be opened");
        let report = cluster.ledger.state().oracle.breaches().expect_err("it was reported");
        let told = |violation: &&Violation| matches!(violation, Violation::Damage { .. });
        assert_eq!(report.violations.iter().filter(told).count(), 1, "seed {seed}: {report}");
    }
}
