//! What a stranger does to his own files changes nothing about the files of the others.

use super::output::Fixture;
use super::strangers::rejected;
use super::*;
use crate::outputs::encoding::testing::delivery;
use std::time::Duration;
use tailwater_shards::env::{Disk, File, Open};
use tailwater_shards::plugin::{Outcome, Resume};
use tailwater_shards::sim::SimFile;

const STRANGER: u32 = 65_534;

/// What the last process recorded about its writes. Without it, nothing is known, as after the machine was switched off.
const EXTENTS: &str = "/data/outputs/1.extents";

fn by_field() -> serde_json::Value {
    serde_json::json!({"path": "/out/{{ h }}/x.log"})
}

const WEB: &str = "{\"h\":\"web\"}";
const OTHER: &str = "{\"h\":\"other\"}";

/// The bytes of one line for each.
const BOTH: u64 = (WEB.len() + OTHER.len() + 2) as u64;

/// A commit with one line in each file, and one line in each after it that is late for the next commit.
fn killed() -> (Fixture, Vec<u8>) {
    let mut fixture = Fixture::new(by_field());
    fixture.delivered(&[WEB, OTHER]);
    let state = fixture.commit().expect("it commits");
    fixture.pass(Duration::from_secs(4));
    fixture.delivered(&[WEB, OTHER]);
    (fixture, state)
}

#[test]
fn bytes_that_a_stranger_appends_to_his_file_keep_no_other_file_from_its_commit() {
    for is_his in [true, false] {
        let (mut fixture, state) = killed();
        if is_his {
            fixture.disk().set_owner("/out/web/x.log", STRANGER).expect("it is there");
        }
        fixture.disk().append("/out/web/x.log", &b"mine\n".repeat(100)).expect("it is there");
        fixture.disk().remove(EXTENTS).expect("it is there");
        fixture.resume(Resume { state, again_bytes: Some(BOTH) }).expect("nothing is in the way");
        let lines = if is_his { 1 } else { 2 };
        assert_eq!(fixture.text("/out/other/x.log"), format!("{OTHER}\n").repeat(lines), "{is_his}");
        assert_eq!(fixture.text("/out/web/x.log").lines().count(), 102, "nobody knows whose they are");
    }
}

/// After the machine was switched off. On a disk it has no size, and may have terabytes.
#[test]
fn file_of_a_stranger_without_lines_is_not_searched_to_its_beginning() {
    let (mut fixture, state) = killed();
    fixture.disk().set_owner("/out/web/x.log", STRANGER).expect("it is there");
    fixture.disk().append("/out/web/x.log", &vec![0; 65 << 20]).expect("it is there");
    fixture.disk().remove(EXTENTS).expect("it is there");
    fixture.resume(Resume { state, again_bytes: Some(BOTH) }).expect("nothing is in the way");
    assert!(fixture.disk().stat("/out/web/x.log.aside-1").expect("it was set aside").length > 65 << 20);
    fixture.delivered(&[WEB, OTHER]);
    assert_eq!(fixture.text("/out/web/x.log"), format!("{WEB}\n"));
    assert_eq!(fixture.text("/out/other/x.log"), format!("{OTHER}\n").repeat(2));
}

/// A file that was hidden at one start, and comes back at the next: its end was written again meanwhile, into another file.
#[test]
fn file_that_comes_back_keeps_no_other_file_from_its_commit() {
    let (mut fixture, state) = killed();
    let disk = fixture.disk();
    disk.create_dir_all("/away").expect("it is new");
    disk.rename("/out/web/x.log", "/away/x.log").expect("it is there");
    let resume = Resume { state, again_bytes: Some(BOTH) };
    fixture.resume(resume.clone()).expect("nothing is in the way");
    fixture.pass(Duration::from_secs(4));
    fixture.delivered(&[WEB, OTHER]);
    disk.rename("/out/web/x.log", "/out/web/new").expect("it is there");
    disk.rename("/away/x.log", "/out/web/x.log").expect("it is there");
    fixture.resume(resume).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/other/x.log"), format!("{OTHER}\n"));
    assert_eq!(fixture.text("/out/web/x.log"), format!("{WEB}\n{WEB}\n"), "it was given up when it was hidden");
}

/// Somebody holds the lock of a file.
fn hold(disk: &SimDisk, path: &str) -> SimFile {
    let file = disk.open(Path::new(path), Open::Create).expect("it opens");
    file.try_lock().expect("nobody has it");
    file
}

/// Files of a stranger and of root.
fn with_files(files: &[(&str, u32)]) -> Fixture {
    let fixture = Fixture::new(by_field());
    for (name, owner) in files {
        fixture.disk().create_dir_all(format!("/out/{name}")).expect("it is new");
        fixture.disk().write(format!("/out/{name}/x.log"), b"").expect("it is new");
        fixture.disk().set_owner(format!("/out/{name}/x.log"), *owner).expect("it is there");
    }
    fixture
}

/// Longer than an output waits for its files.
const LONG: Duration = Duration::from_secs(11);

#[test]
fn file_that_a_stranger_holds_is_waited_for_once_and_then_concerns_only_its_events() {
    let mut fixture = with_files(&[("web", STRANGER), ("two", STRANGER), ("ours", 0)]);
    let disk = fixture.simulation.disk().clone();
    let held = [hold(&disk, "/out/web/x.log"), hold(&disk, "/out/two/x.log")];
    let error = fixture.refused(&[WEB, OTHER]);
    assert!(error.contains("cannot open /out/web/x.log: another process has it open for writing"), "{error}");
    fixture.pass(LONG);
    let events = rejected(&mut fixture, &["web", "other"]);
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0]);
    let expected = "another process has it open for writing; others can write there (the file belongs to the user with the number 65534)";
    assert!(events[0].1.contains(expected), "{events:?}");
    // The wait was for all of them.
    assert_eq!(rejected(&mut fixture, &["two", "other", "web"]).len(), 2);
    assert_eq!(fixture.counters.unusable_files.get(), 2);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/other/x.log"), format!("{OTHER}\n").repeat(2));
    drop(held);
    fixture.delivered(&[WEB]);
    fixture.tick();
    assert_eq!((fixture.text("/out/web/x.log"), fixture.counters.unusable_files.get()), (format!("{WEB}\n"), 1));
    fixture.pass(Duration::from_secs(601));
    fixture.tick();
    assert_eq!(fixture.counters.unusable_files.get(), 0, "nobody asks for it any more");
}

/// Only a process of this user or root can have it: another Tailwater, which is waited for.
#[test]
fn file_that_no_stranger_can_write_to_is_waited_for_as_long_as_it_is_held() {
    let mut fixture = with_files(&[("ours", 0)]);
    let held = hold(&fixture.simulation.disk().clone(), "/out/ours/x.log");
    for _ in 0..3 {
        assert!(fixture.refused(&["{\"h\":\"ours\"}"]).contains("has it open for writing"));
        fixture.pass(LONG);
    }
    drop(held);
    fixture.delivered(&["{\"h\":\"ours\"}"]);
    assert_eq!(fixture.counters.unusable_files.get(), 0);
}

#[test]
fn file_or_directory_of_a_stranger_without_permissions_concerns_only_its_events() {
    for (name, owner, denied, is_alone) in [
        ("/out/web/x.log", STRANGER, "/out/web/x.log", true),
        ("/out/web", STRANGER, "/out/web/x.log", true),
        ("/out/web", STRANGER, "/out/web", true),
        // Whoever may change that is the administrator: nothing is given up until he has.
        ("/out/web", 0, "/out/web", false),
        ("/out/web", 0, "/out", false),
    ] {
        let mut fixture = with_files(&[("web", 0), ("other", 0)]);
        let disk = fixture.simulation.disk().clone();
        if denied == "/out/web" {
            fixture.disk().remove("/out/web/x.log").expect("it is there");
        }
        if denied == "/out" {
            fixture.disk().remove_dir_all("/out/web").expect("it is there");
            fixture.disk().create_dir_all("/out/web-was").expect("it is new");
        } else {
            fixture.disk().set_owner(name, owner).expect("it is there");
        }
        disk.deny(Path::new(denied), true).expect("it is there");
        assert!(fixture.refused(&[WEB, OTHER]).contains("Permission denied"));
        fixture.pass(LONG);
        if is_alone {
            assert_eq!(rejected(&mut fixture, &["web", "other"]).len(), 1, "{name} {denied}");
        } else {
            assert!(fixture.refused(&[WEB, OTHER]).contains("Permission denied"), "{name} {denied}");
        }
        disk.deny(Path::new(denied), false).expect("it is there");
        fixture.delivered(&[WEB]);
    }
}

/// At a start, after a crash.
#[test]
fn file_that_cannot_be_restored_is_left_and_the_others_are_restored() {
    for is_held in [true, false] {
        let disk = SimDisk::new(1);
        for path in ["/out/web", "/out/other", "/data"] {
            disk.outside().create_dir_all(path).expect("it is new");
        }
        let options = Options { blames_events: true, ..options() };
        let mut writer = open(&disk, &options, State::default()).expect("it opens");
        let lines = |line: &str| vec![group("/out/web/x", line), group("/out/other/x", line)];
        writer.accept(lines("1\n"), now(1)).expect("nothing is in the way");
        let state = writer.commit(now(2)).expect("it commits");
        writer.accept(lines("2\n"), now(3)).expect("nothing is in the way");
        drop(writer);
        disk.crash(Crash::Process);
        disk.outside().set_owner("/out/web/x", STRANGER).expect("it is there");
        let held = is_held.then(|| hold(&disk, "/out/web/x"));
        disk.deny(Path::new("/out/web/x"), !is_held).expect("it is there");
        let strict = Options { blames_events: false, ..options.clone() };
        assert!(open(&disk, &strict, state.clone()).is_err(), "one path: its output waits");
        let mut writer = open(&disk, &options, state).expect("the other file is restored");
        let text = |path: &str| String::from_utf8(disk.outside().read(path).expect("it is there")).expect("text");
        disk.deny(Path::new("/out/web/x"), false).expect("it is there");
        assert_eq!((text("/out/web/x").as_str(), text("/out/other/x").as_str()), ("1\n2\n", "1\n"));
        drop(held);
        writer.accept(lines("2\n"), now(4)).expect("nothing is in the way");
        writer.commit(now(5)).expect("it commits");
        assert_eq!((text("/out/web/x").as_str(), text("/out/other/x").as_str()), ("1\n2\n2\n", "1\n2\n"));
    }
}

/// Each time, the bytes since the last commit are cut and written again, in all files.
#[test]
fn file_that_interrupts_the_output_again_and_again_is_left_out() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log", "compression": "gzip"}));
    let mut state = fixture.commit().expect("it commits");
    let mut interrupted = 0;
    while rejected(&mut fixture, &["web", "other"]).is_empty() {
        fixture.disk().append("/out/web/x.log", b"mine").expect("it is there");
        assert!(fixture.commit().is_err(), "the member is not whole");
        interrupted += 1;
        assert!(interrupted <= 3, "it is left out by then");
        fixture.resume(Resume::whole(state.clone())).expect("nothing is in the way");
    }
    state = fixture.commit().expect("it commits");
    assert_eq!(content(&fixture.disk(), "/out/other/x.log", Compression::Gzip), format!("{OTHER}\n"));
    fixture.resume(Resume::whole(state)).expect("nothing is in the way");
    assert_eq!(rejected(&mut fixture, &["web"]).len(), 1, "this is not forgotten with the opening");
    fixture.pass(Duration::from_secs(601));
    fixture.tick();
    fixture.delivered(&[WEB]);
}

/// Error numbers of Linux: EDQUOT, and ENOSPC, with which some file systems say the same.
const QUOTA: [i32; 2] = [122, 28];

/// What is in a compressor is written when a commit finishes the member.
#[test]
fn member_whose_end_a_quota_refuses_concerns_only_its_events() {
    for number in QUOTA {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log", "compression": "gzip"}));
        fixture.delivered(&[WEB, OTHER]);
        let state = fixture.commit().expect("it commits");
        fixture.disk().set_owner("/out/web", STRANGER).expect("it is there");
        let disk = fixture.simulation.disk().clone();
        let quota = |number| disk.refuse_growth(Path::new("/out/web/x.log"), number).expect("it is there");
        let mut failed = 0;
        while rejected(&mut fixture, &["web", "other"]).is_empty() {
            quota(Some(number));
            let error = fixture.commit().expect_err("the member has no end").to_string();
            assert!(error.contains("cannot write"), "{error}");
            failed += 1;
            assert!(failed <= 4, "{number}: it is waited for once, and then left out after the third time");
            fixture.pass(LONG);
            fixture.resume(Resume::whole(state.clone())).expect("nothing is in the way");
            quota(None);
        }
        fixture.commit().expect("it commits");
        let text = |path: &str| content(&fixture.disk(), path, Compression::Gzip);
        assert_eq!(text("/out/other/x.log"), format!("{OTHER}\n").repeat(2), "{number}");
        assert_eq!(text("/out/web/x.log"), format!("{WEB}\n"), "{number}");
    }
}

/// A file that is changed for the first time is not the same as one that is changed again and again.
#[test]
fn stranger_with_very_many_files_interrupts_the_output_no_longer_than_one_with_a_few() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/{{ n }}.log", "compression": "gzip"}));
    fixture.disk().create_dir_all("/out/web").expect("it is new");
    fixture.disk().set_owner("/out/web", STRANGER).expect("it is there");
    let state = fixture.commit().expect("it commits");
    let mut interrupted = 0;
    let rejected = loop {
        let lines = [format!("{{\"h\":\"web\",\"n\":{interrupted}}}\n"), "{\"h\":\"other\",\"n\":0}\n".to_owned()];
        match fixture.deliver(delivery(&lines, 0)) {
            Outcome::Delivered => {}
            Outcome::Rejected(events) => break events,
            outcome => panic!("{outcome:?}"),
        }
        fixture.disk().append(format!("/out/web/{interrupted}.log"), b"mine").expect("it is there");
        assert!(fixture.commit().is_err(), "the member is not whole");
        interrupted += 1;
        assert!(interrupted <= 12, "his files are left out by then");
        fixture.resume(Resume::whole(state.clone())).expect("nothing is in the way");
    };
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0], "{rejected:?}");
    fixture.commit().expect("it commits");
    assert_eq!(content(&fixture.disk(), "/out/other/0.log", Compression::Gzip), "{\"h\":\"other\",\"n\":0}\n");
}

/// Nothing can be appended to the file, and all names that it could get are taken.
#[test]
fn file_that_cannot_be_set_aside_concerns_only_its_events() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log", "compression": "gzip"}));
    fixture.delivered(&[WEB, OTHER]);
    fixture.commit().expect("it commits");
    for number in 1..1000 {
        fixture.disk().write(format!("/out/web/x.log.aside-{number}"), b"").expect("it is new");
    }
    fixture.disk().append("/out/web/x.log", b"mine").expect("it is there");
    assert_eq!(rejected(&mut fixture, &["web", "other"]).len(), 1);
    fixture.commit().expect("it commits");
    assert_eq!(content(&fixture.disk(), "/out/other/x.log", Compression::Gzip), format!("{OTHER}\n").repeat(2));
}

/// The first file cannot be rotated for now; the second one must not wait for it.
#[test]
fn look_at_one_file_that_fails_keeps_no_other_file_from_its_look() {
    let settings = serde_json::json!({"path": "/out/{{ h }}/x.log", "rotate": {"age": "5s", "keep": 2}});
    let mut fixture = Fixture::new(settings);
    fixture.delivered(&[OTHER, WEB]);
    fixture.pass(Duration::from_secs(6));
    fixture.simulation.disk().refuse_renames(1);
    fixture.tick();
    assert!(fixture.disk().exists("/out/other/x.log") && !fixture.disk().exists("/out/other/x.log.1"));
    assert_eq!(fixture.text("/out/web/x.log.1"), format!("{WEB}\n"));
}

#[test]
fn directory_that_a_stranger_closes_fails_neither_a_commit_nor_a_rotation_of_others() {
    let mut fixture =
        Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x.log", "rotate": {"bytes": 20, "keep": 2}}));
    let disk = fixture.simulation.disk().clone();
    fixture.delivered(&[WEB, OTHER]);
    fixture.disk().set_owner("/out/web", STRANGER).expect("it is there");
    disk.deny(Path::new("/out/web"), true).expect("it is there");
    fixture.commit().expect("the names of the others are durable");
    assert!(fixture.refused(&[WEB, OTHER]).contains("cannot rotate /out/web/x.log"));
    fixture.pass(LONG);
    assert_eq!(rejected(&mut fixture, &["web", "other"]).len(), 1);
    assert_eq!(fixture.text("/out/other/x.log.1"), format!("{OTHER}\n"));
    // It is not at its path any more, and nobody may look for it.
    let state = fixture.commit().expect("it commits");
    disk.deny(Path::new("/out/web"), false).expect("it is there");
    fixture.disk().rename("/out/web/x.log", "/out/web/y").expect("it is there");
    disk.deny(Path::new("/out/web"), true).expect("it is there");
    fixture.resume(Resume::whole(state)).expect("the other files are restored");
    assert_eq!(rejected(&mut fixture, &["web", "other"]).len(), 1);
}
