//! Bytes that a start does not remove, because they will not be delivered again or belong to another program.

use super::output::{Fixture, constant};
use super::*;
use std::time::Duration;
use tailwater_shards::plugin::Resume;
use tailwater_shards::sim::Crash;

/// What the last process recorded about its writes. Without it, nothing is known, as after the machine was switched off.
const EXTENTS: &str = "/data/outputs/1.extents";

/// Older positions, a WAL that is lost or kept in memory, or a line from another program: there is more after the commit than
/// will be delivered again.
#[test]
fn no_more_is_removed_than_will_be_delivered_again() {
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

/// What is not complete yet is not incomplete.
#[test]
fn line_that_another_program_is_just_writing_is_not_cut() {
    for is_known in [true, false] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.pass(Duration::from_secs(4));
        fixture.delivered(&["{\"a\":2}"]);
        if !is_known {
            fixture.disk().remove(EXTENTS).expect("it is there");
        }
        fixture.disk().begin_append("/out/x.log", b"the", b"irs\n").expect("it is there");
        fixture.resume(Resume { state, again_bytes: None }).expect("nothing is in the way");
        fixture.delivered(&["{\"a\":3}"]);
        let expected = "{\"a\":1}\n{\"a\":2}\ntheirs\n{\"a\":3}\n";
        assert_eq!(fixture.text("/out/x.log"), expected, "known: {is_known}");
    }
}

/// A start finds that not everything comes again, and ends before its first commit. Then more has been read, and a later start is
/// told of more bytes that come again than the file has after the commit: they are other ones.
#[test]
fn what_a_start_kept_is_not_removed_by_a_later_one() {
    for (first, crash) in
        [(Some(14), Crash::Process), (None, Crash::Process), (Some(14), Crash::Power), (None, Crash::Power)]
    {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.pass(Duration::from_secs(4));
        fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
        fixture.disk().sync_all();
        let kept = "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n";
        fixture.resume(Resume { state: state.clone(), again_bytes: first }).expect("nothing is in the way");
        assert_eq!(fixture.text("/out/x.log"), kept);
        fixture.simulation.crash(crash);
        fixture.resume(Resume { state, again_bytes: Some(1000) }).expect("nothing is in the way");
        assert_eq!(fixture.text("/out/x.log"), kept, "{first:?}, {crash:?}");
    }
}

/// The WAL lost its last frames in a power loss: their events are read from the sources again, not from the WAL.
#[test]
fn bytes_from_before_the_next_commit_are_removed_unless_the_run_ended_in_order() {
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
fn incomplete_line_is_removed_only_after_the_commit() {
    for (length, kept) in [(20, "{\"a\":2}\n"), (12, "")] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
        fixture.disk().truncate("/out/x.log", length).expect("it is there");
        fixture.resume(Resume { state, again_bytes: None }).expect("nothing is in the way");
        assert_eq!(fixture.text("/out/x.log"), format!("{{\"a\":1}}\n{kept}"));
    }
}

#[test]
fn bytes_of_other_programs_are_not_removed() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("all is well");
    // Rewritten with the same inode number, and longer than the committed length.
    fixture.disk().truncate("/out/x.log", 0).expect("it is there");
    fixture.disk().append("/out/x.log", b"notes of somebody else, without an end").expect("it is there");
    fixture.open(Some(state.clone())).expect("nothing is in the way");
    fixture.delivered(&["{\"a\":2}"]);
    assert_eq!(fixture.text("/out/x.log"), "notes of somebody else, without an end\n{\"a\":2}\n");
    // Another file with the inode number of a removed one.
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
fn without_its_last_commit_an_output_does_not_change_files_of_any_format() {
    for (before, after) in [("none", "gzip"), ("gzip", "zstd"), ("gzip", "none"), ("zstd", "zstd")] {
        let settings = |how: &str| serde_json::json!({"path": "/out/x.log", "compression": how});
        let mut fixture = Fixture::new(settings(before));
        let lines: Vec<String> = (0..200).map(|n| format!("{{\"n\":{n}}}")).collect();
        for part in lines.chunks(50) {
            fixture.delivered(&part.iter().map(String::as_str).collect::<Vec<_>>());
            fixture.commit().expect("all is well");
        }
        let mut bytes = fixture.disk().read("/out/x.log").expect("it is there");
        // Damage at the beginning of compressed content, months ago, behind the bytes that name the format.
        let is_rotten = before == after;
        bytes[4] ^= u8::from(is_rotten) << 6;
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
fn unfinished_member_of_an_earlier_owner_is_set_aside() {
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
fn compressed_file_that_lost_its_end_is_set_aside() {
    for how in ["gzip", "zstd"] {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": how}));
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        let bytes = fixture.disk().read("/out/x.log").expect("it is there");
        let left = &bytes[..bytes.len() - 1];
        fixture.disk().truncate("/out/x.log", left.len() as u64).expect("it is there");
        fixture.open(Some(state)).expect("nothing is in the way");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("all is well");
        assert_eq!(fixture.disk().read("/out/x.log.aside-1").expect("it is there"), left, "{how}");
        let how = serde_json::from_value(how.into()).expect("a compression");
        assert_eq!(content(&fixture.disk(), "/out/x.log", how), "{\"a\":2}\n");
    }
}

#[test]
fn unreadable_bytes_after_the_commit_are_set_aside_if_they_will_not_be_delivered_again() {
    for how in ["gzip", "zstd"] {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": how}));
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        fixture.disk().append("/out/x.log", b"neither a member nor a frame\n").expect("it is there");
        fixture.disk().remove(EXTENTS).expect("it is there");
        let bytes = fixture.disk().read("/out/x.log").expect("it is there");
        fixture.resume(Resume { state, again_bytes: None }).expect("nothing is in the way");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("all is well");
        assert_eq!(fixture.disk().read("/out/x.log.aside-1").expect("it is there"), bytes, "{how}");
        let how = serde_json::from_value(how.into()).expect("a compression");
        assert_eq!(content(&fixture.disk(), "/out/x.log", how), "{\"a\":2}\n");
    }
}

#[test]
fn file_of_the_last_commit_in_another_format_is_set_aside() {
    for (before, after) in [("none", "gzip"), ("gzip", "zstd"), ("zstd", "none")] {
        let settings = |how: &str| serde_json::json!({"path": "/out/x.log", "compression": how});
        let mut fixture = Fixture::new(settings(before));
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        let bytes = fixture.disk().read("/out/x.log").expect("it is there");
        fixture.settings = serde_json::from_value(settings(after)).expect("settings");
        fixture.open(Some(state)).expect("nothing is in the way");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("all is well");
        assert_eq!(fixture.disk().read("/out/x.log.aside-1").expect("it is there"), bytes, "{before} {after}");
        let how = serde_json::from_value(after.into()).expect("a compression");
        assert_eq!(content(&fixture.disk(), "/out/x.log", how), "{\"a\":2}\n", "{before} {after}");
    }
}

/// Who wrote to a file is unknown after the machine was switched off, but its content shows that it was rewritten.
#[test]
fn file_rewritten_by_another_program_is_not_changed_whatever_is_known_of_the_last_writes() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("all is well");
    fixture.disk().truncate("/out/x.log", 0).expect("it is there");
    fixture.disk().append("/out/x.log", b"notes of somebody else\n").expect("it is there");
    fixture.disk().remove(EXTENTS).expect("it is there");
    fixture.open(Some(state)).expect("nothing is in the way");
    fixture.delivered(&["{\"a\":2}"]);
    assert_eq!(fixture.text("/out/x.log"), "notes of somebody else\n{\"a\":2}\n");
}

#[test]
fn with_a_damaged_journal_nothing_is_removed() {
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

/// All of a process is gone by then, so nothing but the file shows who wrote to it.
#[test]
fn lines_that_another_program_wrote_while_the_output_was_down_are_kept() {
    for (uncommitted, again_bytes) in [("", 0), ("", 1000), ("{\"a\":2}\n", 8), ("{\"a\":2}\n", 1000)] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("all is well");
        if !uncommitted.is_empty() {
            fixture.delivered(&["{\"a\":2}"]);
        }
        fixture.disk().append("/out/x.log", b"theirs\n").expect("it is there");
        for _ in 0..2 {
            let resume = Resume { state: state.clone(), again_bytes: Some(again_bytes) };
            fixture.resume(resume).expect("nothing is in the way");
        }
        let before = format!("{{\"a\":1}}\n{uncommitted}theirs\n");
        assert_eq!(fixture.text("/out/x.log"), before, "{again_bytes}");
        fixture.delivered(&["{\"a\":3}"]);
        assert_eq!(fixture.text("/out/x.log"), format!("{before}{{\"a\":3}}\n"), "{again_bytes}");
    }
}

#[test]
fn files_opened_since_the_last_commit_are_restored_with_few_descriptors() {
    for committed in [0, 40] {
        let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}"}));
        let lines: Vec<String> = (0..100).map(|h| format!("{{\"h\":{h}}}")).collect();
        let all: Vec<&str> = lines.iter().map(String::as_str).collect();
        let mut state = Vec::new();
        if committed > 0 {
            fixture.delivered(&all[..committed]);
            state = fixture.commit().expect("all is well");
        }
        fixture.delivered(&all);
        fixture.disk().append("/out/50", b"").expect("it is there");
        fixture.simulation.disk().set_descriptors_max(Some(25));
        fixture.resume(Resume { state, again_bytes: Some(10_000) }).unwrap_or_else(|error| panic!("{error}"));
        for (h, line) in lines.iter().enumerate() {
            let expected = if h < committed { format!("{line}\n") } else { String::new() };
            assert_eq!(fixture.text(&format!("/out/{h}")), expected, "{h}");
        }
        fixture.delivered(&all);
        fixture.commit().expect("all is well");
        assert_eq!(fixture.text("/out/99"), "{\"h\":99}\n");
    }
}

#[test]
fn without_any_descriptor_the_limit_is_named() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    for descriptors in 0..3 {
        fixture.simulation.disk().set_descriptors_max(Some(descriptors));
        let error = fixture.resume(Resume { state: Vec::new(), again_bytes: Some(99) }).expect_err("none is left");
        assert!(error.to_string().contains("raise the limit of open files (ulimit -n"), "{descriptors}: {error}");
    }
}
