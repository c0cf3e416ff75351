//! Whoever owns a directory of the output exchanges what is in it: nothing outside of it is cut, written, or made.

use super::super::record::Identity;
use super::output::{Fixture, constant};
use super::*;
use crate::outputs::encoding::testing::delivery;
use tailwater_shards::plugin::{Outcome, Resume};

const BY_FIELD: &str = "/out/{{ h }}/x.log";

fn by_field() -> serde_json::Value {
    serde_json::json!({"path": BY_FIELD})
}

fn of(h: &str) -> String {
    format!("{{\"h\":\"{h}\"}}")
}

/// Delivers one event for each of these, and returns what was said of those that were rejected.
pub(super) fn rejected(fixture: &mut Fixture, names: &[&str]) -> Vec<(u64, String)> {
    let lines: Vec<String> = names.iter().map(|h| of(h) + "\n").collect();
    match fixture.deliver(delivery(&lines, 0)) {
        Outcome::Delivered => Vec::new(),
        Outcome::Rejected(events) => events,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn linked_directory_below_the_fixed_part_rejects_only_its_events() {
    let mut fixture = Fixture::new(by_field());
    let disk = fixture.disk();
    disk.create_dir_all("/victim").expect("it is new");
    disk.write("/victim/x.log", b"theirs\n").expect("it is new");
    disk.symlink("/victim", "/out/evil").expect("it is new");
    let events = rejected(&mut fixture, &["a", "evil", "b"]);
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
    let expected =
        "its directory /out/evil is a symbolic link, which is not followed below /out; mount its target there";
    assert!(events[0].1.contains(expected), "{events:?}");
    assert_eq!((fixture.text("/out/a/x.log"), fixture.text("/victim/x.log")), (of("a") + "\n", "theirs\n".to_owned()));
    assert_eq!(disk.list("/victim").expect("it is there"), ["x.log"]);
}

/// The administrator's link is above the first date, and the stranger's is below.
#[test]
fn links_are_followed_up_to_the_first_date_and_not_below() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/link/logs/%Y/x.log"}));
    let disk = fixture.disk();
    disk.create_dir_all("/real/logs").expect("it is new");
    disk.create_dir_all("/elsewhere").expect("it is new");
    disk.symlink("/real", "/link").expect("it is new");
    fixture.delivered(&["{}"]);
    assert_eq!(fixture.text("/real/logs/2026/x.log"), "{}\n");
    fixture.commit().expect("it commits");
    disk.rename("/real/logs/2026", "/real/logs/old").expect("it is there");
    disk.symlink("/elsewhere", "/real/logs/2026").expect("it is new");
    fixture.pass(std::time::Duration::from_secs(3));
    let error = fixture.refused(&["{}"]);
    assert!(
        error.contains("its directory /link/logs/2026 is a symbolic link, which is not followed below /link/logs"),
        "{error}"
    );
    assert_eq!(disk.list("/elsewhere").expect("it is there").len(), 0);
}

/// Both files are there, so nothing is missing: only their identities tell.
#[test]
fn file_that_was_exchanged_is_neither_written_further_nor_rotated() {
    for rotate in [serde_json::json!(null), serde_json::json!({"bytes": 20, "keep": 2})] {
        let mut settings = by_field();
        if !rotate.is_null() {
            settings["rotate"] = rotate.clone();
        }
        let mut fixture = Fixture::new(settings);
        fixture.delivered(&[&of("web")]);
        fixture.disk().rename("/out/web/x.log", "/out/web/away").expect("it is there");
        fixture.disk().write("/out/web/x.log", b"theirs\n").expect("it is new");
        if rotate.is_null() {
            fixture.pass(std::time::Duration::from_secs(3));
        }
        fixture.delivered(&[&of("web")]);
        assert_eq!(fixture.text("/out/web/away"), of("web") + "\n", "{rotate}");
        assert_eq!(fixture.text("/out/web/x.log"), "theirs\n".to_owned() + &of("web") + "\n", "{rotate}");
        assert_eq!(fixture.disk().list("/out/web").expect("it is there").len(), 2, "{rotate}");
    }
}

/// What a restart would cut, if it went by names: the file that the commit names, moved out of the directory and linked to.
fn restarted_after(settings: serde_json::Value, path: &str, exchange: impl Fn(&Outside)) -> Fixture {
    let mut fixture = Fixture::new(settings);
    fixture.disk().create_dir_all("/victim").expect("it is new");
    fixture.delivered(&[&of("web"), &of("other")]);
    let state = fixture.commit().expect("it commits");
    fixture.delivered(&[&of("web"), &of("other")]);
    assert_eq!(fixture.text(path).lines().filter(|line| line.contains("web")).count(), 2);
    exchange(&fixture.disk());
    fixture.resume(Resume::whole(state)).expect("the other files are restored");
    fixture
}

#[test]
fn restart_cuts_nothing_through_a_linked_directory() {
    let mut fixture = restarted_after(by_field(), "/out/web/x.log", |disk| {
        disk.rename("/out/web", "/victim/web").expect("it is there");
        disk.symlink("/victim/web", "/out/web").expect("it is new");
    });
    assert_eq!(fixture.text("/victim/web/x.log"), (of("web") + "\n").repeat(2));
    assert_eq!(fixture.text("/out/other/x.log"), of("other") + "\n", "this one is cut to its commit");
    assert_eq!(rejected(&mut fixture, &["web", "other"]).len(), 1);
    assert_eq!(fixture.text("/victim/web/x.log"), (of("web") + "\n").repeat(2));
}

#[test]
fn restart_cuts_nothing_through_a_link_in_place_of_the_file() {
    for target in ["/victim/secret", "/out/web/secret"] {
        let mut fixture = restarted_after(by_field(), "/out/web/x.log", |disk| {
            disk.rename("/out/web/x.log", "/victim/secret").expect("it is there");
            disk.symlink("/victim/secret", "/out/web/x.log").expect("it is new");
        });
        assert_eq!(fixture.text("/victim/secret"), (of("web") + "\n").repeat(2), "{target}");
        assert!(
            rejected(&mut fixture, &["web"])[0]
                .1
                .contains("/out/web/x.log: it is a symbolic link, which is not followed")
        );
        assert_eq!(fixture.text("/victim/secret"), (of("web") + "\n").repeat(2), "{target}");
    }
}

#[test]
fn file_with_a_second_name_is_neither_cut_nor_written() {
    let mut fixture = restarted_after(by_field(), "/out/web/x.log", |disk| {
        disk.hard_link("/out/web/x.log", "/victim/secret").expect("it is new");
    });
    let both = (of("web") + "\n").repeat(2);
    assert_eq!(fixture.text("/victim/secret"), both);
    let events = rejected(&mut fixture, &["web", "other"]);
    assert!(events.len() == 1 && events[0].1.contains("it has 2 names (hard links)"), "{events:?}");
    assert_eq!(fixture.text("/victim/secret"), both);
    fixture.disk().remove("/victim/secret").expect("it is there");
    assert_eq!(rejected(&mut fixture, &["web"]), []);
    assert_eq!(fixture.text("/out/web/x.log"), both + &of("web") + "\n");
}

#[test]
fn file_with_a_second_name_stops_an_output_with_one_path() {
    let mut fixture = Fixture::new(constant());
    fixture.disk().write("/secret", b"theirs\n").expect("it is new");
    fixture.disk().hard_link("/secret", "/out/x.log").expect("it is new");
    let error = fixture.refused(&["{}"]);
    assert!(error.contains("cannot open /out/x.log: it has 2 names (hard links)"), "{error}");
    assert_eq!(fixture.text("/secret"), "theirs\n");
}

#[test]
fn file_of_another_device_with_the_same_number_is_not_cut() {
    let same = Identity { device: 1, inode: 7, created: 5 };
    assert!(same.fits(&Identity { device: 2, ..same }), "the creation time shows that it was mounted again");
    assert!(!same.fits(&Identity { created: 6, ..same }));
    assert!(same.fits(&Identity { created: 0, ..same }));
    assert!(!same.fits(&Identity { device: 2, created: 0, ..same }), "nothing shows it");
    let mut fixture = Fixture::new(constant());
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("it commits");
    fixture.delivered(&["{\"a\":2}"]);
    let mut state = State::decode(&state).expect("a state");
    for file in &mut state.files {
        (file.identity.device, file.identity.created) = (file.identity.device + 1, 0);
    }
    let mut encoded = Vec::new();
    state.encode(&mut encoded);
    fixture.resume(Resume::whole(encoded)).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log"), "{\"a\":1}\n{\"a\":2}\n");
}

#[test]
fn another_file_under_the_name_is_left_alone_at_a_restart() {
    let fixture = restarted_after(by_field(), "/out/web/x.log", |disk| {
        disk.rename("/out/web/x.log", "/victim/moved").expect("it is there");
        disk.pipe("/out/web/x.log").expect("it is new");
    });
    assert_eq!(fixture.text("/victim/moved"), (of("web") + "\n").repeat(2));
}

/// Its number says nothing: only the identity tells which of the rotated files the commit means.
#[test]
fn file_that_was_rotated_twice_since_the_commit_is_found_and_cut() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": {"bytes": 20, "keep": 5}}));
    let event = |number: u32| format!("{{\"a\":{number}}}");
    fixture.delivered(&[&event(1)]);
    let state = fixture.commit().expect("it commits");
    (2..=5).for_each(|number| fixture.delivered(&[&event(number)]));
    assert_eq!(fixture.text("/out/x.log.2"), event(1) + "\n" + &event(2) + "\n", "two to a file");
    fixture.resume(Resume::whole(state)).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log.2"), event(1) + "\n");
    (2..=5).for_each(|number| fixture.delivered(&[&event(number)]));
    let all: String = (1..=5).map(|number| event(number) + "\n").collect();
    assert_eq!(content(&fixture.disk(), "/out/x.log", Compression::None), all, "nothing is repeated or lost");
}

/// More names than are listed to find a file.
#[test]
fn rotated_file_is_found_among_any_number_of_similar_names() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "rotate": {"bytes": 20, "keep": 5}}));
    fixture.delivered(&["{\"a\":1}"]);
    let state = fixture.commit().expect("it commits");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.delivered(&["{\"a\":3}"]);
    for number in 0..10_000 {
        fixture.disk().write(format!("/out/x.log.0-{number}"), b"").expect("it is new");
    }
    fixture.resume(Resume::whole(state)).expect("nothing is in the way");
    assert_eq!(fixture.text("/out/x.log.1"), "{\"a\":1}\n");
}

/// What cannot be continued is renamed, but not what has its name by now.
#[test]
fn file_in_the_place_of_one_that_cannot_be_continued_stays() {
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/x.log", "compression": "gzip"}));
    fixture.delivered(&["{\"a\":1}"]);
    fixture.commit().expect("it commits");
    let readable = fixture.disk().read("/out/x.log").expect("it is there");
    fixture.disk().rename("/out/x.log", "/out/away").expect("it is there");
    fixture.disk().append("/out/away", b"theirs\n").expect("it is there");
    fixture.disk().write("/out/x.log", &readable).expect("it is new");
    fixture.delivered(&["{\"a\":2}"]);
    fixture.commit().expect("it commits");
    assert_eq!(content(&fixture.disk(), "/out/x.log", Compression::Gzip), "{\"a\":1}\n{\"a\":2}\n");
    assert_eq!(fixture.disk().list("/out").expect("it is there"), ["away", "x.log"]);
}

#[test]
fn rotation_that_a_stranger_blocks_rejects_only_the_events_of_that_file() {
    let settings = serde_json::json!({"path": BY_FIELD, "rotate": {"bytes": 20, "keep": 2}});
    let mut fixture = Fixture::new(settings);
    fixture.delivered(&[&of("web")]);
    for number in [1, 2] {
        fixture.disk().create_dir_all(format!("/out/web/x.log.{number}/in-use")).expect("it is new");
    }
    let events = rejected(&mut fixture, &["web", "other"]);
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].1.contains("cannot rotate /out/web/x.log"), "{events:?}");
    assert_eq!(fixture.text("/out/other/x.log"), of("other") + "\n");
}

#[test]
fn new_directories_are_closed_to_others_unless_the_mode_opens_the_files() {
    let access = |settings: serde_json::Value| {
        let mut fixture = Fixture::new(settings);
        fixture.disk().create_dir_all("/out/there").expect("it is new");
        fixture.delivered(&[&of("new"), &of("there")]);
        let of = |path: &str| fixture.disk().access(path).expect("it is there");
        (of("/out/new"), of("/out/there"))
    };
    let (new, there) = access(serde_json::json!({"path": BY_FIELD, "mode": "0644", "group": "17"}));
    assert_eq!((new, there), (Access { mode: Some(0o755), group: Some(17) }, Access::default()));
    let (new, _) = access(serde_json::json!({"path": BY_FIELD, "mode": "0600"}));
    assert_eq!(new, Access { mode: Some(0o700), group: None });
}

#[test]
fn values_beyond_the_most_paths_become_dead_letters_and_are_counted_once() {
    let mut fixture = Fixture::new(serde_json::json!({"path": BY_FIELD, "max_paths": 2}));
    let events = rejected(&mut fixture, &["a", "b", "c", "a", "d", "c"]);
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2, 4, 5]);
    assert!(
        events[0].1.contains("`max_paths` (2) is reached: within a day, the fields of events led to too"),
        "{events:?}"
    );
    assert_eq!(fixture.counters.excess_path_events.get(), 3);
    assert_eq!(fixture.disk().list("/out").expect("it is there"), ["a", "b"]);
    let mut again = delivery(&[of("c") + "\n"], 0);
    again.attempt = 1;
    assert!(matches!(fixture.deliver(again), Outcome::Rejected(_)));
    assert_eq!(fixture.counters.excess_path_events.get(), 3, "counted when it was sent first");
}

/// He makes the output go back to its last commit, or waits for a restart.
#[test]
fn places_are_not_given_again_with_an_opening_and_files_that_are_there_need_none() {
    let mut fixture = Fixture::new(serde_json::json!({"path": BY_FIELD, "max_paths": 2}));
    assert_eq!(rejected(&mut fixture, &["a", "b", "c"]).len(), 1);
    let state = fixture.commit().expect("it commits");
    fixture.resume(Resume::whole(state.clone())).expect("nothing is in the way");
    assert_eq!(rejected(&mut fixture, &["c", "a"]).len(), 1);
    // As a new process.
    fixture.settings.max_open_files += 1;
    fixture.resume(Resume::whole(state)).expect("nothing is in the way");
    let events = rejected(&mut fixture, &["c", "d", "e", "a", "b"]);
    assert_eq!(events.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2], "{events:?}");
    assert_eq!(fixture.text("/out/a/x.log"), (of("a") + "\n").repeat(2));
    fixture.disk().remove("/out/b/x.log").expect("it is there");
    assert_eq!(rejected(&mut fixture, &["b", "f"]).len(), 1, "what was known is known, and others are too many");
}

/// Each look is a call to the file system.
#[test]
fn file_of_a_refused_path_is_looked_for_once_in_a_while() {
    let mut fixture = Fixture::new(serde_json::json!({"path": BY_FIELD, "max_paths": 1}));
    assert_eq!(rejected(&mut fixture, &["a", "b"]).len(), 1);
    fixture.disk().create_dir_all("/out/b").expect("it is new");
    fixture.disk().write("/out/b/x.log", b"").expect("it is new");
    assert_eq!(rejected(&mut fixture, &["b", "a"]).len(), 1, "it was looked for just now");
    fixture.pass(std::time::Duration::from_secs(11));
    assert_eq!(rejected(&mut fixture, &["b", "a"]).len(), 0);
    assert_eq!(fixture.text("/out/b/x.log"), of("b") + "\n");
}

/// A user's events carry a date for each line. The other ones are of now.
#[test]
fn dates_that_events_choose_count_and_leave_places_to_others() {
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    let mut fixture = Fixture::new(serde_json::json!({"path": "/out/{{ h }}/%F.log", "max_paths": 8}));
    let now = 1_795_392_754_000_000_000;
    fixture.simulation.disk().set_wall(Timestamp(now as i64));
    let mut deliver = |h: &str, days: u64| {
        let outcome = fixture.deliver(delivery(&[of(h) + "\n"], now - days * DAY));
        assert!(matches!(outcome, Outcome::Delivered | Outcome::Rejected(_)), "{outcome:?}");
        matches!(outcome, Outcome::Delivered)
    };
    assert_eq!((100..200).filter(|days| deliver("web", *days)).count(), 4);
    assert!(deliver("web", 100) && !deliver("web", 150), "what has a file keeps it");
    assert_eq!((0..7).filter(|days| deliver("web", *days)).count(), 7, "dates of the last days do not count");
    assert!(deliver("third", 0) && deliver("third", 100));
    assert_eq!((0..20).filter(|number| deliver(&format!("new-{number}"), 0)).count(), 6, "nor do they take places");
}

/// He writes the first value of the path of somebody else.
#[test]
fn values_of_one_owner_leave_paths_to_others() {
    let letters = serde_json::json!({"when_full": "drop_newest", "share_by": "{{ user }}"});
    let path = "/out/{{ h }}/{{ a }}.log";
    let mut fixture = Fixture::new(serde_json::json!({"path": path, "max_paths": 8, "dead_letters": letters}));
    let line = |user: &str, a: &str| format!("{{\"user\":\"{user}\",\"h\":\"web\",\"a\":\"{a}\"}}\n");
    let mut rejected = |lines: &[String]| match fixture.deliver(delivery(lines, 0)) {
        Outcome::Delivered => Vec::new(),
        Outcome::Rejected(events) => events.into_iter().map(|(index, _)| index).collect(),
        other => panic!("{other:?}"),
    };
    let evil: Vec<String> = (0..20).map(|number| line("evil", &number.to_string())).collect();
    assert_eq!(rejected(&evil), (4..20).collect::<Vec<_>>(), "half of all");
    let both = [line("evil", "new"), line("good", "new"), line("evil", "new"), line("evil", "other")];
    assert_eq!(rejected(&both), [0, 3], "what was refused for one is not refused for the other");
    assert_eq!(fixture.text("/out/web/new.log"), line("good", "new") + &line("evil", "new"));
}

/// An exchange between the acceptance of some groups and the opening of the next ones.
#[test]
fn group_that_was_accepted_is_not_forgotten_when_its_directory_is_exchanged() {
    let disk = SimDisk::new(1);
    let outside = disk.outside();
    outside.create_dir_all("/out/b").expect("it is new");
    outside.create_dir_all("/data").expect("it is new");
    outside.create_dir_all("/victim").expect("it is new");
    let options = Options { blames_events: true, ..options() };
    let mut writer = open(&disk, &options, State::default()).expect("it opens");
    writer.accept(vec![group("/out/a/x", "1\n")], now(1)).expect("nothing is in the way");
    disk.set_free_bytes(Some(0));
    let big = "x".repeat(9000) + "\n";
    let groups = vec![group("/out/a/x", "2\n"), group("/out/b/x", &big)];
    assert_eq!(writer.accept(groups, now(2)), Ok(Vec::new()), "the first is written, and the second waits");
    disk.set_free_bytes(None);
    outside.remove_dir_all("/out/b").expect("it is there");
    outside.symlink("/victim", "/out/b").expect("it is new");
    let error = writer.flush(now(3)).expect_err("it is a link by now");
    assert!(error.contains("what was written since the last commit is written again"), "{error}");
    assert!(writer.has_lost(&error));
    assert_eq!(outside.list("/victim").expect("it is there").len(), 0);
}
