//! Watches on the simulated disk, awaited by tasks of the executor.

use super::*;
use crate::env::{Env, ShardId};
use crate::sim::{Outcome, Simulation};
use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A task that collects the events of `/logs`.
fn collect(simulation: &mut Simulation) -> Rc<RefCell<Vec<WatchEvent>>> {
    let env = simulation.env(ShardId(0));
    let watch = env.watch().unwrap();
    assert_eq!(watch.add(Path::new("/logs")).unwrap(), watch.add(Path::new("/logs")).unwrap());
    let events = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&events);
    env.spawn("watcher", async move {
        let mut batch = Vec::new();
        while watch.next(&mut batch).await.is_ok() {
            seen.borrow_mut().append(&mut batch);
        }
    });
    events
}

fn told(events: &Rc<RefCell<Vec<WatchEvent>>>) -> Vec<(WatchKind, String)> {
    events.take().into_iter().map(|event| (event.kind, event.name.to_string_lossy().into_owned())).collect()
}

#[test]
fn a_watch_tells_what_happens_in_its_directory() {
    use WatchKind::{Appeared, Gone, Modified, Vanished};
    let mut simulation = Simulation::new(1);
    let outside = simulation.disk().outside();
    outside.create_dir_all("/logs/inner").unwrap();
    let events = collect(&mut simulation);
    outside.append("/logs/a", b"one\n").unwrap();
    outside.append("/logs/a", b"two\n").unwrap();
    outside.write("/logs/inner/unseen", b"x").unwrap();
    outside.rename("/logs/a", "/logs/a.1").unwrap();
    outside.truncate("/logs/a.1", 0).unwrap();
    outside.remove("/logs/a.1").unwrap();
    assert_eq!(simulation.run_for(SECOND), Outcome::Stuck);
    let name = |name: &str| name.to_string();
    let expected = [
        (Appeared, name("a")),
        (Modified, name("a")),
        (Vanished, name("a")),
        (Appeared, name("a.1")),
        (Modified, name("a.1")),
        (Vanished, name("a.1")),
    ];
    assert_eq!(told(&events), expected);
    outside.remove_dir_all("/logs").unwrap();
    simulation.run_for(SECOND);
    assert_eq!(told(&events), [(Vanished, name("inner")), (Gone, name(""))]);
}

#[test]
fn a_removed_directory_is_watched_no_more() {
    let mut simulation = Simulation::new(1);
    simulation.disk().outside().create_dir_all("/logs").unwrap();
    let watch = simulation.env(ShardId(0)).watch().unwrap();
    let id = watch.add(Path::new("/logs")).unwrap();
    watch.remove(id);
    assert_eq!(watch.add(Path::new("/logs")).unwrap(), WatchId(id.0 + 1));
    assert!(watch.add(Path::new("/absent")).is_err());
}

#[test]
fn lost_watch_events_are_told_as_an_overflow() {
    let overflows = |seed, one_in: u64, files: u32| {
        let mut simulation = Simulation::new(seed);
        let outside = simulation.disk().outside();
        outside.create_dir_all("/logs").unwrap();
        simulation.disk().set_watch_overflow(one_in);
        let events = collect(&mut simulation);
        for number in 0..files {
            outside.write(format!("/logs/{number}"), b"").unwrap();
        }
        simulation.run_for(SECOND);
        let events = events.take();
        assert!(events.len() <= 1025, "{}", events.len());
        let names = events.iter().filter(|event| event.name != *OsStr::new("")).count();
        (events.iter().filter(|event| event.kind == WatchKind::Overflow).count(), names)
    };
    assert_eq!(overflows(1, 0, 100), (0, 100));
    assert_eq!(overflows(1, 0, 3000), (1, 1024));
    let (lost, named) = overflows(1, 10, 100);
    assert!(lost > 0 && named < 100 && named > 50, "{lost} overflows, {named} names");
    assert_eq!(overflows(1, 10, 100), (lost, named));
}

#[test]
fn a_silent_watch_tells_nothing() {
    let mut simulation = Simulation::new(1);
    let outside = simulation.disk().outside();
    outside.create_dir_all("/logs").unwrap();
    simulation.disk().set_watch_silent(true);
    let events = collect(&mut simulation);
    outside.append("/logs/a", b"one\n").unwrap();
    simulation.run_for(SECOND);
    assert!(events.borrow().is_empty());
}
