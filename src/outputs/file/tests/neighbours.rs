//! What a stranger does to his own files changes nothing about the files of the others.

use super::output::Fixture;
use std::time::Duration;
use tailwater_shards::plugin::Resume;

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
