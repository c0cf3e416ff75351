//! One seed from the first start to the final check: lives that crash, stop, fail and restart with a different setup.

use super::{Cluster, Holding, Ledger, Mood, Setup, Told, draw, faults, rot};
use crate::sim::oracle::{Report, Violation};
use crate::sim::{Crash, Outcome};
use crate::stop::Phase;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// A seed that violated a guarantee.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The seed. The same program repeats the failure with it.
    pub seed: u64,
    /// What was violated.
    pub what: String,
    /// The first violations that the oracle named. Empty if something panicked before.
    pub violations: Vec<Violation>,
    /// What happened before: the last part, or everything with `STORY=all` in the environment.
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SEED={} fails:\n{}\nits story:\n{}", self.seed, self.what, self.story)
    }
}

/// Runs the cluster of `seed` through its lives and checks it. Panics if a guarantee is violated.
pub fn crash_and_recover(seed: u64) -> Told {
    match run_seed(seed) {
        Ok(told) => told,
        Err(failure) => panic!("{failure}"),
    }
}

/// Runs the cluster of `seed` through its lives and checks it.
pub fn run_seed(seed: u64) -> Result<Told, Failure> {
    let setup = Setup::draw(seed);
    let mut ledger = None;
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut cluster = Cluster::new(setup);
        ledger = Some(cluster.ledger.clone());
        run(&mut cluster)
    }));
    let (what, violations) = match ran {
        Ok(Ok(told)) => return Ok(told),
        Ok(Err(report)) => (report.to_string(), report.violations),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let what = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            (what.unwrap_or_else(|| "a panic without words".to_owned()), Vec::new())
        }
    };
    let all = std::env::var_os("STORY").is_some();
    let tell = |ledger: &Ledger| {
        let state = ledger.state();
        if all { format!("{:#}", state.story) } else { state.story.to_string() }
    };
    Err(Failure { seed, what, violations, story: ledger.as_ref().map(tell).unwrap_or_default() })
}

fn run(cluster: &mut Cluster) -> Result<Told, Report> {
    let mut told = Told::default();
    let lives = cluster.chance.between(1, 5);
    for record in &mut cluster.ledger.state().outputs {
        record.rejects = cluster.chance.one_in(6);
    }
    for life in 0..lives {
        told.lives += 1;
        if life > 0 {
            cluster.setup.redraw(&mut cluster.chance, false);
        }
        draw::moods(&mut cluster.chance, &mut cluster.ledger.state());
        if cluster.setup.holding == Holding::Clings {
            // A failed input restarts when everything that it sent is acknowledged, which never happens here.
            cluster.ledger.state().inputs = Mood::default();
        }
        live(cluster, &mut told)?;
        if cluster.chance.one_in(6) {
            rot::rot(cluster);
        } else if cluster.chance.one_in(16) {
            rot::vanish(cluster);
        }
    }
    cluster.setup.redraw(&mut cluster.chance, true);
    cluster.conclude()?;
    told.events = cluster.ledger.state().sources.iter().map(super::SourceScript::events).sum();
    cluster.ledger.check()?.iter().for_each(|summary| told.add_summary(summary));
    told.add(&cluster.ledger.state().told);
    told.add_struck(cluster.simulation.disk().struck());
    told.steps = cluster.simulation.steps();
    Ok(told)
}

/// One life, with any kind of end.
fn live(cluster: &mut Cluster, told: &mut Told) -> Result<(), Report> {
    let disk = cluster.simulation.disk().clone();
    faults::begin(cluster);
    let (least, most) = cluster.setup.shards;
    let shards = cluster.chance.between(least, most) as usize;
    if let Err(error) = cluster.start(shards) {
        assert!(disk.crashed() || faults::explains(&error), "the start failed: {error}");
        cluster.note(format!("the start is refused: {error}"));
        told.refused += 1;
        end_with_a_crash(cluster, told);
        return Ok(());
    }
    if cluster.chance.one_in(6) {
        let sources = cluster.ledger.state().sources.len();
        let source = cluster.chance.index(sources);
        cluster.end(source);
        told.ended_sources += 1;
    }
    for _ in 0..cluster.chance.between(1, 25) {
        let events = faults::events(&mut cluster.chance);
        cluster.make_some(events);
        faults::change(cluster);
        let slice = Duration::from_micros(cluster.chance.between(100, 300_000));
        let outcome = cluster.run_for(slice);
        assert_ne!(outcome, Outcome::StepLimit, "a livelock");
        cluster.ledger.state().oracle.breaches()?;
        if outcome == Outcome::Crashed || cluster.alive().stop.failure().is_some() {
            break;
        }
    }
    if cluster.chance.one_in(3) && may_go_on(cluster) {
        told.went_on += u64::from(cluster.go_on());
        cluster.ledger.state().oracle.breaches()?;
    }
    end(cluster, told);
    Ok(())
}

/// A contract violation may make an input wait forever, and loses nothing.
fn may_go_on(cluster: &Cluster) -> bool {
    cluster.setup.holding != Holding::Clings
        && !cluster.simulation.disk().crashed()
        && cluster.alive().stop.failure().is_none()
}

fn end(cluster: &mut Cluster, told: &mut Told) {
    let disk = cluster.simulation.disk().clone();
    disk.set_free_bytes(None);
    if disk.crashed() {
        told.cut_short += 1;
        return end_with_a_crash(cluster, told);
    }
    if let Some(failure) = cluster.alive().stop.failure() {
        assert!(faults::explains(&failure), "the engine gave up: {failure}");
        cluster.note(format!("the engine gives up: {failure}"));
        told.failures += 1;
        faults::end(cluster);
        must_end(cluster, "failed");
        return end_with_a_crash(cluster, told);
    }
    faults::end(cluster);
    if cluster.chance.one_in(4) {
        return end_in_order(cluster, told);
    }
    end_with_a_crash(cluster, told);
}

/// A drain while outputs may be faulty: they get some time, then the shutdown is forced, as by a second signal.
fn end_in_order(cluster: &mut Cluster, told: &mut Told) {
    told.drains += 1;
    cluster.note("the drain begins".to_owned());
    cluster.alive().stop.enter(Phase::Draining);
    let end = cluster.alive().end();
    let patience = Duration::from_millis(cluster.chance.between(1, 20_000));
    if cluster.simulation.run_until(&end, patience) == Outcome::TimeOut {
        cluster.note("the end is forced".to_owned());
        told.forced += 1;
        cluster.alive().stop.enter(Phase::Forced);
    }
    must_end(cluster, "forced or drained");
    end_with_a_crash(cluster, told);
}

fn must_end(cluster: &mut Cluster, how: &str) {
    let end = cluster.alive().end();
    let outcome = cluster.simulation.run_until(end, Duration::from_secs(120));
    let ended = outcome == Outcome::Reached || outcome == Outcome::Crashed;
    assert!(ended, "{how} and still running: {outcome:?}, {:?}", cluster.simulation.tasks());
}

fn end_with_a_crash(cluster: &mut Cluster, told: &mut Told) {
    let power = cluster.chance.percent(45);
    if power {
        told.power_losses += 1;
    } else {
        told.crashes += 1;
    }
    faults::end(cluster);
    cluster.crash(if power { Crash::Power } else { Crash::Process });
}
