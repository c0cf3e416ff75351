//! One seed from the first start to the judgement: lives that crash, stop, fail and start again with other shards.

use super::{Cluster, Mood, Setup};
use crate::sim::{Crash, Outcome};
use crate::stop::Phase;
use std::time::Duration;

/// What a seed did, so that a test can see that all of it happened in some.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    /// Lives of the process.
    pub lives: u64,
    /// Of these, ended by a crash of the process.
    pub crashes: u64,
    /// Ended by a loss of power.
    pub power_losses: u64,
    /// Ended by the engine itself after a failed sync.
    pub failures: u64,
    /// Ended in order.
    pub drains: u64,
    /// Events made.
    pub events: u64,
    /// Polls of the executor.
    pub steps: u64,
}

impl Told {
    /// Adds what another seed did.
    pub fn add(&mut self, other: &Told) {
        self.lives += other.lives;
        self.crashes += other.crashes;
        self.power_losses += other.power_losses;
        self.failures += other.failures;
        self.drains += other.drains;
        self.events += other.events;
        self.steps += other.steps;
    }
}

/// Runs the cluster of `seed` through its lives and judges it. Panics with the seed when a promise is broken.
pub fn crash_and_recover(seed: u64) -> Told {
    let mut cluster = Cluster::new(Setup::draw(seed));
    let mut told = Told::default();
    let lives = cluster.chance.between(1, 5);
    for record in &mut cluster.ledger.state().outputs {
        record.rejects = cluster.chance.one_in(6);
    }
    for _ in 0..lives {
        told.lives += 1;
        set_moods(&mut cluster);
        live(&mut cluster, &mut told);
    }
    cluster.finish();
    told.events = cluster.ledger.state().sources.iter().map(super::SourceScript::events).sum();
    told.steps = cluster.simulation.steps();
    told
}

fn set_moods(cluster: &mut Cluster) {
    let chance = &mut cluster.chance;
    let mut state = cluster.ledger.state();
    let some = |chance: &mut crate::sim::Prng, one_in: u64, most: u64| match chance.one_in(one_in) {
        true => chance.between(1, most),
        false => 0,
    };
    state.inputs = Mood { retry: some(chance, 6, 20), panic: some(chance, 8, 5), ..Mood::default() };
    for record in &mut state.outputs {
        record.mood = Mood {
            retry: if chance.one_in(6) { 1000 } else { some(chance, 3, 300) },
            slow: some(chance, 3, 200),
            hang: some(chance, 10, 20),
            panic: some(chance, 8, 30),
        };
    }
}

/// One life, by any end.
fn live(cluster: &mut Cluster, told: &mut Told) {
    let disk = cluster.simulation.disk().clone();
    let dies_in_operation = cluster.chance.one_in(5);
    if dies_in_operation {
        disk.crash_after(cluster.chance.between(1, 600));
    }
    disk.set_torn_sectors(cluster.chance.one_in(2));
    let slow = [5_000, 5_000, 50_000, 400_000][cluster.chance.index(4)];
    disk.set_sync_delay(Duration::from_micros(20), Duration::from_micros(slow));
    let (least, most) = cluster.setup.shards;
    let shards = cluster.chance.between(least, most) as usize;
    if let Err(error) = cluster.start(shards) {
        assert!(disk.crashed(), "seed {}: the start failed: {error}", cluster.setup.seed);
        return end_with_a_crash(cluster, told);
    }
    let mut sync_fails = false;
    for _ in 0..cluster.chance.between(1, 25) {
        let events = match cluster.chance.below(12) {
            0 => cluster.chance.between(50, 150),
            1..=4 => 0,
            _ => cluster.chance.between(1, 12),
        };
        cluster.make_some(events);
        if cluster.chance.one_in(20) {
            disk.set_free_bytes(Some(cluster.chance.below(100_000)));
        } else if cluster.chance.one_in(3) {
            disk.set_free_bytes(None);
        }
        if cluster.chance.one_in(80) {
            disk.fail_syncs(1);
            sync_fails = true;
        }
        let slice = Duration::from_micros(cluster.chance.between(100, 300_000));
        let outcome = cluster.run_for(slice);
        assert_ne!(outcome, Outcome::StepLimit, "seed {}: a livelock", cluster.setup.seed);
        if outcome == Outcome::Crashed || cluster.alive().stop.failure().is_some() {
            break;
        }
    }
    disk.set_free_bytes(None);
    end(cluster, told, sync_fails);
}

fn end(cluster: &mut Cluster, told: &mut Told, sync_fails: bool) {
    let disk = cluster.simulation.disk().clone();
    let seed = cluster.setup.seed;
    if disk.crashed() {
        return end_with_a_crash(cluster, told);
    }
    if let Some(failure) = cluster.alive().stop.failure() {
        let expected = sync_fails || failure.contains("panicked on shard") || failure.contains("No space");
        assert!(expected, "seed {seed}: the engine gave up: {failure}");
        told.failures += 1;
        disk.fail_syncs(0);
        let end = cluster.alive().end();
        let outcome = cluster.simulation.run_until(end, Duration::from_secs(120));
        assert!(
            outcome == Outcome::Reached || outcome == Outcome::Crashed,
            "seed {seed}: the failed engine does not end: {outcome:?}, {:?}",
            cluster.simulation.tasks()
        );
        return end_with_a_crash(cluster, told);
    }
    disk.fail_syncs(0);
    if cluster.chance.one_in(4) {
        return end_in_order(cluster, told);
    }
    end_with_a_crash(cluster, told);
}

/// A drain while outputs may be sick: they get a while, then the end is forced, as a second signal does.
fn end_in_order(cluster: &mut Cluster, told: &mut Told) {
    told.drains += 1;
    let seed = cluster.setup.seed;
    cluster.alive().stop.enter(Phase::Draining);
    let end = cluster.alive().end();
    let patience = Duration::from_millis(cluster.chance.between(1, 20_000));
    let outcome = cluster.simulation.run_until(&end, patience);
    if outcome == Outcome::TimeOut {
        cluster.alive().stop.enter(Phase::Forced);
        let outcome = cluster.simulation.run_until(&end, Duration::from_secs(120));
        assert!(
            outcome == Outcome::Reached || outcome == Outcome::Crashed,
            "seed {seed}: forced and still running: {outcome:?}, {:?}",
            cluster.simulation.tasks()
        );
    } else {
        assert!(
            outcome == Outcome::Reached || outcome == Outcome::Crashed,
            "seed {seed}: the drain is stuck: {outcome:?}, {:?}",
            cluster.simulation.tasks()
        );
    }
    end_with_a_crash(cluster, told);
}

fn end_with_a_crash(cluster: &mut Cluster, told: &mut Told) {
    let power = cluster.setup.power && cluster.chance.percent(45);
    if power {
        told.power_losses += 1;
    } else {
        told.crashes += 1;
    }
    cluster.simulation.disk().fail_syncs(0);
    cluster.crash(if power { Crash::Power } else { Crash::Process });
}
