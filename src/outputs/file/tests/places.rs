//! Places of strangers that fail in ways that a broken disk does as well: only the events for them are affected.

use super::output::Fixture;
use super::*;
use crate::outputs::encoding::testing::delivery;
use std::time::Duration;
use tailwater_shards::plugin::{Outcome, Resume};

const STRANGER: u32 = 65_534;

/// Longer than an output waits for its files.
const LONG: Duration = Duration::from_secs(11);

/// Numbers of Linux: EIO, EBUSY, EROFS, and ENOKEY, that of an encrypted directory.
const NUMBERS: [i32; 4] = [5, 16, 30, 126];

/// A stranger's file and one of root, both with a committed line, and the state of the commit.
fn with_files(owner: u32) -> (Fixture, Vec<u8>) {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log"}));
    fixture.delivered(&["{\"h\":\"web\",\"n\":0}", "{\"h\":\"ours\",\"n\":0}"]);
    let state = fixture.commit().expect("it commits");
    fixture.disk().set_owner("/out/web/x.log", owner).expect("it is there");
    (fixture, state)
}

/// Delivers a line for each file and commits, as the engine does it, for at most as long as an output goes back to its last commit
/// because of one file. Returns what was rejected and why the output went back.
fn settled(fixture: &mut Fixture, state: &[u8]) -> (Vec<u64>, Vec<String>) {
    let mut whys = Vec::new();
    while whys.len() < 6 {
        let lines = ["{\"h\":\"web\",\"n\":1}\n", "{\"h\":\"ours\",\"n\":1}\n"].map(str::to_owned);
        let events = match fixture.deliver(delivery(&lines, 0)) {
            Outcome::Delivered => Ok(Vec::new()),
            Outcome::Rejected(events) => Ok(events.into_iter().map(|(index, _)| index).collect()),
            Outcome::Retry { error, .. } | Outcome::Reopen(error) => Err(error),
        };
        let committed = events.and_then(|events| {
            fixture.sync().map_err(|error| error.to_string())?;
            fixture.commit().map(|_| events).map_err(|error| error.to_string())
        });
        match committed {
            Ok(events) => return (events, whys),
            Err(why) => whys.push(why),
        }
        fixture.pass(LONG);
        fixture.resume(Resume::whole(state.to_vec())).unwrap_or_else(|error| panic!("{error}; {whys:?}"));
    }
    panic!("the other file waits: {whys:?}");
}

fn of_root(lines: u64) -> String {
    (0..lines).map(|number| format!("{{\"h\":\"ours\",\"n\":{number}}}\n")).collect()
}

#[test]
fn file_of_a_stranger_that_takes_no_bytes_concerns_only_its_events_whatever_it_says() {
    for number in NUMBERS {
        let (mut fixture, state) = with_files(STRANGER);
        let disk = fixture.simulation.disk().clone();
        disk.refuse_growth(Path::new("/out/web/x.log"), Some(number)).expect("it is there");
        let (events, whys) = settled(&mut fixture, &state);
        assert_eq!(events, [0], "{number}: {whys:?}");
        assert_eq!(fixture.text("/out/ours/x.log"), of_root(2), "{number}");
        disk.refuse_growth(Path::new("/out/web/x.log"), None).expect("it is there");
        fixture.delivered(&["{\"h\":\"web\",\"n\":1}"]);
    }
}

/// A server that tells only then that a quota is used up, for example.
#[test]
fn file_of_a_stranger_that_cannot_be_made_durable_concerns_only_its_events() {
    for number in NUMBERS.into_iter().chain([122]) {
        let (mut fixture, state) = with_files(STRANGER);
        let disk = fixture.simulation.disk().clone();
        disk.refuse_syncs(Path::new("/out/web/x.log"), Some(number)).expect("it is there");
        let (events, whys) = settled(&mut fixture, &state);
        assert_eq!(events, [0], "{number}: {whys:?}");
        assert!(whys.iter().all(|why| why.contains("cannot make durable /out/web/x.log")), "{whys:?}");
        assert_eq!(fixture.text("/out/ours/x.log"), of_root(2), "{number}");
    }
}

#[test]
fn file_of_a_stranger_that_cannot_be_read_concerns_only_its_events() {
    for is_open in [true, false] {
        let (mut fixture, state) = with_files(STRANGER);
        fixture.simulation.disk().fail_reads(Path::new("/out/web/x.log"), true).expect("it is there");
        if !is_open {
            fixture.resume(Resume::whole(state.clone())).expect("the other file is restored");
        }
        let (events, whys) = settled(&mut fixture, &state);
        assert_eq!(events, [0], "{is_open}: {whys:?}");
        assert_eq!(fixture.text("/out/ours/x.log"), of_root(2), "{is_open}");
    }
}

/// A line for a file that is not open needs another one to be closed, and that must be durable first.
#[test]
fn lines_for_very_many_files_wait_for_the_disk_a_few_times() {
    const FILES: u64 = 640;
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}.log"}));
    let disk = fixture.simulation.disk().clone();
    let lines: Vec<String> = (0..FILES).map(|number| format!("{{\"h\":\"{number}\"}}\n")).collect();
    for round in 1..=2 {
        let before = disk.sync_waits();
        assert!(matches!(fixture.deliver(delivery(&lines, 0)), Outcome::Delivered));
        let waits = disk.sync_waits() - before;
        assert!(waits < FILES / 8, "{waits}");
        let before = disk.sync_waits();
        fixture.commit().expect("it commits");
        let waits = disk.sync_waits() - before;
        assert!(waits < 10, "{waits}");
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(fixture.text(&format!("/out/{number}.log")), line.repeat(round));
        }
    }
}

/// The administrator's: nothing is given up until he has acted.
#[test]
fn file_of_root_that_cannot_be_made_durable_is_waited_for() {
    let (mut fixture, state) = with_files(0);
    for is_refused in [true, true, true, true, false] {
        let number = is_refused.then_some(5);
        fixture.delivered(&["{\"h\":\"web\",\"n\":1}"]);
        fixture.simulation.disk().refuse_syncs(Path::new("/out/web/x.log"), number).expect("it is there");
        fixture.sync().expect("the commit reports it");
        match fixture.commit() {
            Err(error) => assert!(is_refused && error.to_string().contains("cannot make durable"), "{error}"),
            Ok(_) => return assert!(!is_refused, "it was not made durable"),
        }
        fixture.pass(LONG);
        fixture.simulation.disk().refuse_syncs(Path::new("/out/web/x.log"), None).expect("it is there");
        fixture.resume(Resume::whole(state.clone())).expect("nothing is in the way");
    }
    panic!("it was never committed");
}
