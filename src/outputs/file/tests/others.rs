//! Other programs write to, truncate and replace the files of an output while it runs.

use super::output::{Fixture, constant};
use super::*;
use tailwater_shards::counters::Interference;
use tailwater_shards::plugin::Outcome;

fn compressed(how: &str) -> serde_json::Value {
    serde_json::json!({"path": "/out/x.log", "compression": how})
}

fn changes(fixture: &Fixture, kind: Interference) -> u64 {
    fixture.counters.interferences[kind as usize].get()
}

#[test]
fn lines_of_other_programs_stay_whole_and_the_output_continues_after_them() {
    let mut fixture = Fixture::new(constant());
    let mut expected = String::new();
    for (round, theirs) in ["theirs\n", "", "two\nlines\n", "no end"].iter().enumerate() {
        let line = format!("{{\"round\":{round}}}");
        fixture.delivered(&[&line]);
        fixture.disk().append("/out/x.log", theirs.as_bytes()).expect("it is there");
        expected.push_str(&format!("{line}\n{theirs}"));
    }
    fixture.delivered(&["{}"]);
    fixture.commit().expect("it commits");
    // A line is never appended to half a line.
    assert_eq!(fixture.text("/out/x.log"), format!("{expected}\n{{}}\n"));
    assert_eq!(changes(&fixture, Interference::Written), 3);
}

#[test]
fn lines_of_other_programs_are_kept_after_a_crash() {
    for is_noticed in [false, true] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("it commits");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.disk().append("/out/x.log", b"theirs\n").expect("it is there");
        if is_noticed {
            fixture.delivered(&["{\"a\":3}"]);
        } else {
            fixture.close();
        }
        // Everything that was delivered will be delivered again, and more.
        let resume = tailwater_shards::plugin::Resume { state, again_bytes: Some(1000) };
        fixture.resume(resume).expect("nothing is in the way");
        let before = "{\"a\":1}\n{\"a\":2}\ntheirs\n";
        assert_eq!(fixture.text("/out/x.log"), before, "noticed: {is_noticed}");
        fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
        assert_eq!(fixture.text("/out/x.log"), format!("{before}{{\"a\":2}}\n{{\"a\":3}}\n"));
    }
}

#[test]
fn after_an_orderly_end_and_a_crash_nothing_is_repeated() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("it commits");
    fixture.close();
    fixture.open(Some(state.clone())).unwrap_or_else(|error| panic!("{error}"));
    fixture.delivered(&["{\"a\":2}"]);
    fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n", "what comes again is cut");
}

/// The kernel shows the length of a file while a write to it is under way, page by page.
#[test]
fn line_that_another_program_is_just_writing_is_not_taken_for_half_a_line() {
    for is_open in [true, false] {
        let mut fixture = Fixture::new(constant());
        fixture.delivered(&["{\"a\":1}"]);
        if !is_open {
            fixture.close();
        }
        fixture.disk().begin_append("/out/x.log", b"the", b"irs\n").expect("it is there");
        if !is_open {
            fixture.open(None).unwrap_or_else(|error| panic!("{error}"));
        }
        fixture.delivered(&["{\"a\":2}"]);
        assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\ntheirs\n{\"a\":2}\n", "open: {is_open}");
        // Half a line of a program that does no more.
        fixture.disk().append("/out/x.log", b"half").expect("it is there");
        fixture.delivered(&["{\"a\":3}"]);
        assert!(fixture.text("/out/x.log").ends_with("{\"a\":2}\nhalf\n{\"a\":3}\n"), "open: {is_open}");
    }
}

/// logrotate's `copytruncate` on the output: no hole of NULs, no line twice after a crash.
#[test]
fn truncated_file_has_no_hole_and_nothing_is_repeated_after_a_crash() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("it commits");
    fixture.disk().truncate("/out/x.log", 0).expect("it is there");
    fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":2}\n{\"a\":3}\n");
    assert_eq!(changes(&fixture, Interference::Truncated), 1);
    fixture.open(Some(state)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(fixture.text("/out/x.log"), "", "all of it comes again");
    fixture.delivered(&["{\"a\":2}", "{\"a\":3}"]);
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":2}\n{\"a\":3}\n");
}

#[test]
fn replaced_file_is_not_changed_and_the_output_continues_in_the_new_one() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().write("/out/new", b"theirs\n").expect("it is new");
    fixture.disk().rename("/out/new", "/out/x.log").expect("it is there");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.commit().expect("it commits");
    assert_eq!(fixture.text("/out/x.log"), "theirs\n{\"a\":2}\n");
    assert_eq!(changes(&fixture, Interference::Moved), 1);
}

#[test]
fn after_foreign_bytes_a_compressed_file_is_replaced_by_a_new_one() {
    for how in ["gzip", "zstd"] {
        let compression = serde_json::from_value(how.into()).expect("a compression");
        let mut fixture = Fixture::new(compressed(how));
        fixture.delivered(&["{\"a\":1}"]);
        fixture.commit().expect("it commits");
        let mut theirs = fixture.disk().read("/out/x.log").expect("it is there");
        theirs.extend_from_slice(b"theirs\n");
        fixture.disk().append("/out/x.log", b"theirs\n").expect("it is there");
        // Between two members: their bytes interrupt nothing that was delivered.
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("it commits");
        assert_eq!(fixture.disk().read("/out/x.log.aside-1").expect("it is there"), theirs, "{how}");
        assert_eq!(content(&fixture.disk(), "/out/x.log", compression), "{\"a\":2}\n", "{how}");
    }
}

#[test]
fn interrupted_member_is_written_again_and_foreign_bytes_stay() {
    for how in ["gzip", "zstd"] {
        let compression = serde_json::from_value(how.into()).expect("a compression");
        let mut fixture = Fixture::new(compressed(how));
        fixture.delivered(&["{\"a\":1}"]);
        let state = fixture.commit().expect("it commits");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.disk().append("/out/x.log", b"theirs\n").expect("it is there");
        let Err(error) = fixture.commit() else { panic!("{how}: the member is not whole") };
        assert!(format!("{error:?}").contains("another program wrote 7 bytes to /out/x.log"), "{how}: {error:?}");
        let resume = tailwater_shards::plugin::Resume { state, again_bytes: Some(1000) };
        fixture.resume(resume).expect("nothing is in the way");
        fixture.delivered(&["{\"a\":2}"]);
        fixture.commit().expect("it commits");
        let aside = fixture.disk().read("/out/x.log.aside-1").expect("it is there");
        assert!(aside.ends_with(b"theirs\n"), "{how}");
        assert_eq!(content(&fixture.disk(), "/out/x.log", compression), "{\"a\":2}\n", "{how}");
    }
}

#[test]
fn bytes_of_a_failed_write_are_removed_unless_others_follow_them() {
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    // Space for a part of the line, which therefore stays in the file.
    fixture.simulation.disk().set_free_bytes(Some(4096));
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(20_000));
    assert!(fixture.refused(&[&long]).contains("cannot write /out/x.log"));
    fixture.simulation.disk().set_free_bytes(None);
    fixture.delivered(&["{\"a\":2}"]);
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n{\"a\":2}\n");
    fixture.simulation.disk().set_free_bytes(Some(4096));
    assert!(fixture.refused(&[&long]).contains("cannot write /out/x.log"));
    fixture.simulation.disk().set_free_bytes(None);
    let behind = "y".repeat(30_000) + "\n";
    fixture.disk().append("/out/x.log", behind.as_bytes()).expect("it is there");
    fixture.delivered(&["{\"a\":3}"]);
    let text = fixture.text("/out/x.log");
    assert!(text.ends_with(&format!("{behind}{{\"a\":3}}\n")), "theirs is whole, and ours behind it");
}

#[test]
fn pipes_links_and_directories_reject_only_the_event_that_leads_to_them() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}"}));
    let disk = fixture.disk();
    disk.pipe("/out/pipe").expect("it is new");
    disk.create_dir_all("/out/dir").expect("it is new");
    disk.write("/out/other", b"").expect("it is new");
    disk.symlink("/out/other", "/out/link").expect("it is new");
    disk.symlink("/out/nowhere", "/out/dangling").expect("it is new");
    let names = ["a", "pipe", "dir", "link", "dangling", "b"];
    let lines: Vec<String> = names.iter().map(|h| format!("{{\"h\":\"{h}\"}}\n")).collect();
    let Outcome::Rejected(events) = fixture.deliver(crate::outputs::encoding::testing::delivery(&lines, 0)) else {
        panic!("all were taken")
    };
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(events[0].1.contains("/out/pipe: it is a named pipe"), "{events:?}");
    assert!(events[2].1.contains("/out/link: it is a symbolic link"), "{events:?}");
    fixture.commit().expect("it commits");
    assert_eq!((fixture.text("/out/a"), fixture.text("/out/b")), (lines[0].clone(), lines[5].clone()));
    assert_eq!(fixture.text("/out/other"), "");
}

#[test]
fn rotation_names_what_blocks_it_and_works_when_that_is_gone() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": {"bytes": 20, "keep": 2}}));
    fixture.delivered(&["{\"a\":1}"]);
    fixture.disk().create_dir_all("/out/x.log.1/in-use").expect("it is new");
    fixture.disk().create_dir_all("/out/x.log.2/in-use").expect("it is new");
    let error = fixture.refused(&["{\"a\":\"0123456789\"}"]);
    assert!(error.contains("cannot rotate /out/x.log: /out/x.log.1 cannot be renamed to /out/x.log.2"), "{error}");
    assert!(error.contains("move away what is at the path of the rotated file"), "{error}");
    fixture.disk().remove_dir_all("/out/x.log.1").expect("it is there");
    fixture.disk().remove_dir_all("/out/x.log.2").expect("it is there");
    fixture.delivered(&["{\"a\":\"0123456789\"}"]);
    assert_eq!(fixture.text("/out/x.log.1"), "{\"a\":1}\n");
}

#[test]
fn without_descriptors_an_output_closes_idle_files_and_continues() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}"}));
    let open = |fixture: &mut Fixture, from: u64, to: u64| {
        for h in from..to {
            fixture.delivered(&[&format!("{{\"h\":{h}}}")]);
        }
    };
    open(&mut fixture, 0, 30);
    fixture.simulation.disk().set_descriptors_max(Some(31));
    open(&mut fixture, 20, 90);
    // Not even enough to make the directory durable.
    fixture.simulation.disk().refuse_directory_syncs(1);
    fixture.commit().expect("it commits");
    for h in 0..90 {
        let lines = if (20..30).contains(&h) { 2 } else { 1 };
        assert_eq!(fixture.text(&format!("/out/{h}")), format!("{{\"h\":{h}}}\n").repeat(lines), "{h}");
    }
}

#[test]
fn new_files_get_the_mode_and_group_and_existing_files_keep_theirs() {
    let settings = serde_json::json!({"path": "/out/{{ h }}", "mode": "0604", "group": "17"});
    let mut fixture = Fixture::new(settings);
    fixture.disk().write("/out/there", b"").expect("it is new");
    fixture.delivered(&["{\"h\":\"new\"}", "{\"h\":\"there\"}"]);
    let access = Access { mode: Some(0o604), group: Some(17) };
    assert_eq!(fixture.disk().access("/out/new").expect("it is there"), access);
    assert_eq!(fixture.disk().access("/out/there").expect("it is there"), Access::default());
}

#[test]
fn group_alone_may_read_new_files() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}", "group": "17"}));
    fixture.delivered(&["{\"h\":\"new\"}"]);
    let access = Access { mode: Some(0o640), group: Some(17) };
    assert_eq!(fixture.disk().access("/out/new").expect("it is there"), access);
}

#[test]
fn without_mode_and_group_nothing_is_set() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/x"}));
    fixture.delivered(&["{\"h\":\"new\"}"]);
    for made in ["/out/new", "/out/new/x"] {
        assert_eq!(fixture.disk().access(made).expect("it is there"), Access::default(), "{made}");
    }
}

#[test]
fn events_without_a_field_of_the_path_are_counted_unless_it_has_a_default() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}-{{ a | default('none') }}"}));
    fixture.delivered(&["{\"h\":\"unknown\"}", "{}", "{\"a\":1}"]);
    assert_eq!(fixture.text("/out/unknown-none"), "{\"h\":\"unknown\"}\n{}\n");
    assert_eq!(fixture.counters.unnamed_events.get(), 2);
}

#[test]
fn event_without_several_fields_is_counted_once_however_often_it_is_sent() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}-{{ a }}"}));
    fixture.delivered(&["{}"]);
    assert_eq!(fixture.counters.unnamed_events.get(), 1);
    let long = format!("{{\"text\":\"{}\"}}", "x".repeat(20_000));
    fixture.simulation.disk().set_free_bytes(Some(4096));
    fixture.refused(&[&long]);
    fixture.simulation.disk().set_free_bytes(None);
    let mut again = crate::outputs::encoding::testing::delivery(&[format!("{long}\n")], 0);
    again.attempt = 1;
    assert!(matches!(fixture.deliver(again), Outcome::Delivered));
    assert_eq!(fixture.text("/out/unknown-unknown"), format!("{{}}\n{long}\n"));
    assert_eq!(fixture.counters.unnamed_events.get(), 2);
}
