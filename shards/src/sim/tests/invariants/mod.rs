//! The engine's invariants, each as a test that carries its name, with the whole engine under simulation.

mod balance;
mod bounds;
mod cold;
mod damage;
mod durable;
mod held;
mod hours;
mod hung;
mod lanes;
mod letters;
mod losses;
mod registry;
mod retries;
mod spread;
mod starts;

use crate::sim::script::{Cluster, Mood, Setup};
use crate::sim::{Crash, Outcome};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn started(setup: Setup, shards: usize) -> Cluster {
    let mut cluster = Cluster::new(setup);
    cluster.start(shards).expect("an empty directory is a good start");
    cluster
}

/// Makes every output reject everything.
fn kill_outputs(cluster: &Cluster) {
    for record in &mut cluster.ledger.state().outputs {
        record.mood = Mood { retry: 1000, ..Mood::default() };
    }
}

/// Creates events and lets time pass, this many times.
fn work(cluster: &mut Cluster, slices: u64, events: u64) {
    for _ in 0..slices {
        cluster.make_some(events);
        let slice = Duration::from_micros(cluster.chance.between(100, 100_000));
        assert!(!matches!(cluster.run_for(slice), Outcome::StepLimit | Outcome::Stuck));
    }
}

fn some_crash(cluster: &mut Cluster) -> Crash {
    if cluster.chance.one_in(2) { Crash::Power } else { Crash::Process }
}
