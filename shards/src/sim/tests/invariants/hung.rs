//! E8, for jobs that never end: they block neither the log nor a forced shutdown.

use super::*;
use crate::env::{Env, Pool, ShardId};
use crate::limits::PLUGIN_THREADS;
use crate::sim::script::{OutputKind, OutputSetup};
use crate::stop::Phase;

/// More jobs than a run ever makes.
const ALL: u64 = u64::MAX;

/// Every job of a plugin hangs, more jobs than there are threads: segments are prepared, synced and recycled as before.
#[test]
fn e8_log_goes_on_while_every_job_of_the_plugins_hangs() {
    for seed in 0..20 {
        let mut cluster = started(Setup::plain(seed), 1);
        cluster.simulation.hang_jobs(Pool::Plugins, ALL);
        let env = cluster.simulation.env(ShardId(0));
        for _ in 0..2 * PLUGIN_THREADS {
            env.spawn("stuck", env.blocking(|| ()));
        }
        work(&mut cluster, 60, 60);
        let caught_up = cluster.caught_up();
        cluster.simulation.must("all is delivered", caught_up, SECOND * 60);
        let log = cluster.alive().meters.board.get(ShardId(0)).expect("it is up");
        assert!(log.tail().segment > 6, "seed {seed}: segment {} is the last", log.tail().segment);
        cluster.crash(Crash::Process);
        cluster.finish();
    }
}

/// No blocking job ever ends, and no sync: a forced shutdown completes anyway, and the next start finds everything.
#[test]
fn e8_forced_end_waits_for_no_job_and_no_sync() {
    for seed in 0..40 {
        let mut setup = Setup::plain(seed);
        setup.shards = (2, 2);
        let options = setup.outputs[0].options;
        setup.outputs.push(OutputSetup { kind: OutputKind::Exact, options, present: true });
        setup.pipelines[0].1.push(1);
        let mut cluster = started(setup, 2);
        // Some letters are with the clerk when it begins.
        cluster.ledger.state().outputs[0].rejects = true;
        // A start that hangs has nothing to do but wait.
        while !cluster.alive().is_up() {
            assert!(!matches!(cluster.run_for(SECOND / 100), Outcome::Stuck | Outcome::StepLimit));
        }
        work(&mut cluster, seed % 8, 40);
        let hour = SECOND * 3600;
        let disk = cluster.simulation.disk().clone();
        cluster.simulation.hang_jobs(Pool::Plugins, ALL);
        cluster.simulation.hang_jobs(Pool::Log, ALL);
        disk.set_sync_delay(hour * 24, hour * 25);
        work(&mut cluster, 10, 40);
        let stop = cluster.alive().stop.clone();
        stop.enter(Phase::Draining);
        assert!(!matches!(cluster.run_for(SECOND), Outcome::Stuck | Outcome::StepLimit));
        stop.enter(Phase::Forced);
        let end = cluster.alive().end();
        cluster.simulation.must("the forced end", end, SECOND);
        cluster.simulation.hang_jobs(Pool::Plugins, 0);
        cluster.simulation.hang_jobs(Pool::Log, 0);
        disk.set_sync_delay(Duration::from_micros(20), Duration::from_millis(5));
        cluster.crash(if seed % 2 == 0 { Crash::Power } else { Crash::Process });
        cluster.finish();
    }
}
