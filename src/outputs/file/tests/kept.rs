//! What a start does not cut, since it does not come again or is somebody else's.

use super::output::{Fixture, constant};
use super::*;
use std::time::Duration;
use tailwater_shards::plugin::Resume;

/// Older positions, a log that is lost or kept in memory, a line that somebody appended: what lies behind the commit is more than
/// what comes again.
#[test]
fn no_more_is_cut_than_comes_again() {
    for (again_bytes, cut) in [(Some(0), false), (Some(14), false), (Some(16), true), (Some(99), true), (None, false)] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.pass(Duration::from_secs(4));
        fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
        fixture.resume(Resume { state, again_bytes }).expect("nothing is in the way");
        let expected = if cut { "{\"a\":1}\n" } else { "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n" };
        assert_eq!(fixture.text("/out/x.log"), expected, "{again_bytes:?}");
        fixture.delivered(&["{\"a\":4}"]);
        assert_eq!(fixture.text("/out/x.log"), format!("{expected}{{\"a\":4}}\n"), "{again_bytes:?}");
    }
}

/// The log lost its last frames with the power: what was in them comes again from its sources, and not from the log.
#[test]
fn what_was_written_before_the_next_commit_was_due_is_cut_unless_the_start_ended_in_order() {
    for is_closed in [false, true] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.pass(Duration::from_secs(1));
        if is_closed {
            fixture.close();
            fixture.disk().append("/out/x.log", b"{\"a\":2}\n").expect("it is there");
        } else {
            fixture.delivered(&["{\"a\":2}"]);
        }
        for _ in 0..2 {
            fixture.resume(Resume { state: state.clone(), again_bytes: Some(0) }).expect("nothing is in the way");
            let expected = if is_closed { "{\"a\":1}\n{\"a\":2}\n" } else { "{\"a\":1}\n" };
            assert_eq!(fixture.text("/out/x.log"), expected);
            fixture.close();
        }
    }
}

#[test]
fn a_line_that_is_not_whole_is_cut_behind_the_commit_only() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("all is well");
    for (behind, kept) in [("{\"a\":2}\n{\"a\"", "{\"a\":2}\n"), ("{\"a\"", "")] {
        fixture.disk().truncate("/out/x.log", 8).expect("it is there");
        fixture.disk().append("/out/x.log", behind.as_bytes()).expect("it is there");
        fixture.resume(Resume { state: state.clone(), again_bytes: None }).expect("nothing is in the way");
        assert_eq!(fixture.text("/out/x.log"), format!("{{\"a\":1}}\n{kept}"));
    }
}

#[test]
fn what_others_wrote_is_not_cut() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("all is well");
    // Written anew under the same number, and longer than what was committed.
    fixture.disk().truncate("/out/x.log", 0).expect("it is there");
    fixture.disk().append("/out/x.log", b"notes of somebody else, without an end").expect("it is there");
    fixture.open(Some(state.clone())).expect("nothing is in the way");
    fixture.delivered(&["{\"a\":2}"]);
    assert_eq!(fixture.text("/out/x.log"), "notes of somebody else, without an end\n{\"a\":2}\n");
    // Another file under the number of one that is gone.
    let mut fixture = Fixture::new(constant());
    fixture.simulation.disk().set_inode_reuse(true);
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().remove("/out/x.log").expect("it is there");
    fixture.pass(Duration::from_secs(1));
    fixture.disk().write("/out/notes.txt", &[b'n'; 100]).expect("there is room");
    fixture.open(Some(Vec::new())).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/notes.txt").len(), 100);
}

#[test]
fn without_its_last_commit_an_output_leaves_files_of_any_format_as_they_are() {
    for (before, after) in [("none", "gzip"), ("gzip", "zstd"), ("gzip", "none"), ("zstd", "zstd")] {
        let settings = |how: &str| serde_json::json!({"path": "/out/x.log", "compression": how});
        let mut fixture = Fixture::new(settings(before));
        let lines: Vec<String> = (0..200).map(|n| format!("{{\"n\":{n}}}")).collect();
        for part in lines.chunks(50) {
            fixture.delivered(&part.iter().map(String::as_str).collect::<Vec<_>>());
            fixture.commit().expect("all is well");
        }
        let mut bytes = fixture.disk().read("/out/x.log").expect("it is there");
        // Rot at the beginning of what is compressed, months ago.
        let is_rotten = before == after;
        bytes[0] ^= u8::from(is_rotten) << 6;
        fixture.disk().truncate("/out/x.log", 0).expect("it is there");
        fixture.disk().append("/out/x.log", &bytes).expect("there is room");
        fixture.settings = serde_json::from_value(settings(after)).expect("settings");
        fixture.open(None).expect("nothing is in the way");
        assert_eq!(fixture.disk().read("/out/x.log").expect("it is there"), bytes, "{before} {after}");
        fixture.delivered(&["{}"]);
        fixture.commit().expect("all is well");
        assert_eq!(fixture.disk().read("/out/x.log.aside-1").expect("it is there"), bytes, "{before} {after}");
        let how = serde_json::from_value(after.into()).expect("a compression");
        assert_eq!(content(&fixture.disk(), "/out/x.log", how), "{}\n", "{before} {after}");
    }
}

#[test]
fn a_member_that_an_earlier_owner_left_unfinished_is_set_aside() {
    for (how, is_whole) in [("gzip", false), ("zstd", false), ("gzip", true)] {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": how}));
        fixture.delivered(&["{\"a\":1}"]);
        fixture.commit().expect("all is well");
        let bytes = fixture.disk().read("/out/x.log").expect("it is there");
        let left = &bytes[..if is_whole { bytes.len() } else { bytes.len() - 1 }];
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": how}));
        fixture.disk().write("/out/x.log", left).expect("there is room");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("all is well");
        let how = serde_json::from_value(how.into()).expect("a compression");
        let before = if is_whole { "{\"a\":1}\n" } else { "" };
        assert_eq!(content(&fixture.disk(), "/out/x.log", how), format!("{before}{{\"a\":2}}\n"));
        assert_eq!(fixture.disk().exists("/out/x.log.aside-1"), !is_whole);
    }
}

#[test]
fn with_a_damaged_journal_nothing_is_cut() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}.log"}));
    fixture.delivered(&["{\"h\":\"a\"}"]);
    let state = fixture.commit().expect("all is well");
    for name in ["b", "c", "a"] {
        fixture.delivered(&[&format!("{{\"h\":\"{name}\"}}")]);
    }
    let journal = "/data/outputs/1.journal";
    let mut bytes = fixture.disk().read(journal).expect("it is there");
    let record = memchr::memmem::find(&bytes, b"/out/b.log").expect("it is recorded");
    bytes[record] ^= 1;
    fixture.disk().write(journal, &bytes).expect("there is room");
    fixture.open(Some(state)).expect("nothing is in the way");
    for (name, lines) in [("a", 2), ("b", 1), ("c", 1)] {
        assert_eq!(fixture.text(&format!("/out/{name}.log")), format!("{{\"h\":\"{name}\"}}\n").repeat(lines));
    }
}
