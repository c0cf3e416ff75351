//! Waits between attempts: how long they may be, when they end, and what is said of them.

use super::*;
use crate::counters::OutputCounters;
use crate::stop::Phase;
use std::sync::Arc;

fn setup(seed: u64, age_max: Option<Duration>) -> Setup {
    let mut setup = Setup::plain(seed);
    let retry = &mut setup.outputs[0].options.retry;
    (retry.initial, retry.max, retry.after_max, retry.age_max) = (SECOND * 30, SECOND * 30, SECOND * 60, age_max);
    setup
}

/// A cluster whose output is open.
fn open(setup: Setup) -> Cluster {
    let mut cluster = started(setup, 1);
    cluster.run_for(SECOND);
    cluster
}

fn counters(cluster: &Cluster) -> Arc<OutputCounters> {
    cluster.alive().meters.outputs[0].counters.clone()
}

fn is_dead(cluster: &Cluster, after: Option<Duration>) {
    cluster.ledger.state().outputs[0].mood = Mood { retry: 1000, after, ..Mood::default() };
}

fn is_well(cluster: &Cluster) {
    cluster.ledger.state().outputs[0].mood = Mood::default();
}

/// A wait that is drawn up to 30 seconds, and one of a minute that the destination asked for, end with the age of the delivery: when
/// the output is well again just behind it, what was tried is a dead letter and not delivered.
#[test]
fn no_attempt_begins_later_than_the_age_of_its_delivery_allows() {
    for seed in 0..24 {
        let mut cluster = open(setup(seed, Some(SECOND * 2)));
        is_dead(&cluster, (seed % 2 == 0).then_some(SECOND * 50));
        cluster.make(0, 60);
        cluster.run_for(SECOND + SECOND / 2);
        let counters = counters(&cluster);
        let early = counters.dead_lettered_total();
        assert_eq!((early, counters.sent_events.get()), (0, 0), "seed {seed}: it is not given up before its age");
        is_well(&cluster);
        // A wait that was drawn shorter has its attempt within the age.
        cluster.run_for(SECOND / 4);
        let delivered = counters.sent_events.get();
        cluster.run_for(SECOND * 120);
        let dead = counters.dead_lettered_total();
        assert!(delivered + dead == 1 && counters.sent_events.get() == delivered, "seed {seed}: {delivered}, {dead}");
        assert!(seed % 2 == 1 || dead == 1, "seed {seed}: it was asked to wait for longer");
        assert!(counters.retries.get() <= 3, "seed {seed}: {} attempts failed", counters.retries.get());
    }
}

#[test]
fn destination_is_left_alone_for_as_long_as_it_asks_within_the_bound() {
    for (wish, waited) in [(SECOND * 45, SECOND * 45), (SECOND * 3600, SECOND * 60)] {
        let mut cluster = open(setup(7, None));
        is_dead(&cluster, Some(wish));
        cluster.make(0, 60);
        cluster.run_for(SECOND);
        is_well(&cluster);
        cluster.run_for(waited - SECOND * 2);
        assert_eq!(counters(&cluster).sent_events.get(), 0, "{wish:?}");
        cluster.run_for(SECOND * 2);
        assert_eq!(counters(&cluster).sent_events.get(), 1, "{wish:?}");
    }
}

/// An output that gives way in a full log looks at the log meanwhile, and is still no more impatient than it was asked to be.
#[test]
fn output_that_gives_way_leaves_its_destination_alone_while_the_log_has_room() {
    let mut setup = setup(3, None);
    setup.outputs[0].options.when_full = crate::delivery::OutputFull::DropOldest;
    let mut cluster = open(setup);
    is_dead(&cluster, Some(SECOND * 50));
    cluster.make_some(5);
    cluster.run_for(SECOND * 40);
    assert_eq!(counters(&cluster).retries.get(), 1);
    for _ in 0..200 {
        cluster.make_some(60);
        cluster.run_for(SECOND / 5);
    }
    assert!(counters(&cluster).retries.get() > 1, "the log is full");
}

#[test]
fn trouble_is_there_since_its_first_attempt_until_a_delivery_succeeds() {
    let mut setup = setup(5, None);
    (setup.outputs[0].options.retry.initial, setup.outputs[0].options.retry.max) = (SECOND, SECOND * 2);
    let mut cluster = open(setup);
    cluster.make_some(5);
    cluster.run_for(SECOND);
    assert_eq!(counters(&cluster).trouble.get(), None);
    is_dead(&cluster, None);
    cluster.make_some(5);
    cluster.run_for(SECOND * 10);
    let first = counters(&cluster).trouble.get().expect("it fails");
    cluster.run_for(SECOND * 20);
    let second = counters(&cluster).trouble.get().expect("it fails");
    assert_eq!((second.since, &second.error), (first.since, &first.error));
    assert!(second.attempts > first.attempts && first.attempts >= 1 && second.error.contains("scripted failure"));
    is_well(&cluster);
    cluster.run_for(SECOND * 5);
    assert_eq!(counters(&cluster).trouble.get(), None);
}

/// An output that cannot be opened waits for long between its attempts. A stop waits for it only if it has something to deliver.
#[test]
fn stop_does_not_wait_for_a_closed_output_without_events() {
    for seed in 0..24 {
        let mut cluster = started(setup(seed, None), 1);
        is_dead(&cluster, None);
        cluster.run_for(SECOND);
        if seed % 3 == 0 {
            cluster.make(0, 60);
            cluster.run_for(SECOND);
            cluster.alive().stop.enter(Phase::Draining);
            cluster.run_for(SECOND * 5);
            assert!(!cluster.alive().end()(), "seed {seed}: the stop waits for what was not delivered");
            is_well(&cluster);
            cluster.drain(SECOND * 60);
        } else {
            cluster.drain(SECOND);
        }
        is_well(&cluster);
        cluster.finish();
    }
}

/// Failures that are far apart are not one series: an output that fails now and then for a year must not wait for an hour.
#[test]
fn output_that_has_worked_since_it_failed_is_opened_again_at_once() {
    let mut setup = Setup::plain(11);
    let retry = &mut setup.outputs[0].options.retry;
    (retry.initial, retry.max) = (SECOND / 10, SECOND * 3600);
    let mut cluster = started(setup, 1);
    for round in 0..20 {
        cluster.ledger.state().outputs[0].mood = Mood { unsure: 1000, ..Mood::default() };
        cluster.make_some(5);
        cluster.run_for(SECOND * 2);
        is_well(&cluster);
        let commits = counters(&cluster).commits.get();
        cluster.make_some(5);
        cluster.run_for(SECOND * 60);
        assert!(counters(&cluster).commits.get() > commits, "round {round}");
    }
    assert!(counters(&cluster).errors.get() >= 20, "it failed in each round");
}
