//! Reading lines as they arrive, long lines, errors of files and directories, fairness and limits.

use super::*;

#[test]
fn lines_are_read_once_as_they_arrive() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 3000);
        world.append("/log/app.log", &text(&lines[..1000]));
        world.start();
        world.wait_for(1000);
        for piece in lines[1000..].chunks(77) {
            world.append("/log/app.log", &text(piece));
            world.simulation.run_for(Duration::from_millis(3));
        }
        world.wait_for(3000);
        world.wait(20);
        assert_eq!(world.log.borrow().lines, lines);
        assert_eq!(world.sum(|counters| counters.unread_bytes.get()), 0);
        assert_eq!(world.sum(|counters| counters.files.get()), 1);
        world.drain();
    });
}

#[test]
fn lines_in_quick_succession_are_read_together_and_soon() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*.log"]);
        world.append("/log/a.log", "0\n");
        world.start();
        world.wait_for(1);
        world.wait(1);
        // A single line is read as soon as one that others follow.
        for gap_us in [50_000, 100] {
            let before = (world.log.borrow().batches, world.log.borrow().lines.len());
            for n in 0..200 {
                world.append("/log/a.log", &format!("{n}\n"));
                world.simulation.run_for(Duration::from_micros(gap_us));
                let unread = n + 1 - (world.log.borrow().lines.len() - before.1);
                assert!(unread <= 100, "seed {seed}: {unread} lines wait");
            }
            world.wait_for(before.1 + 200);
            let batches = world.log.borrow().batches - before.0;
            match gap_us {
                100 => assert!(batches <= 80, "seed {seed}: {batches} batches"),
                _ => assert!(batches >= 180, "seed {seed}: {batches} batches: lines far apart are read one by one"),
            }
        }
    }
}

#[test]
fn half_a_line_waits_for_its_end() {
    check(&["/log/app.log"], |world| {
        world.settings.skip_empty = false;
        world.start();
        world.append("/log/app.log", "one\ntw");
        world.wait_for(1);
        world.wait(20);
        assert_eq!(world.log.borrow().lines, ["one"]);
        assert_eq!(world.sum(|counters| counters.unread_bytes.get()), 2);
        world.append("/log/app.log", "o\n\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["one", "two", ""]);
    });
}

#[test]
fn endless_line_is_truncated_and_the_next_one_is_read() {
    for policy in [LineTooLong::Truncate, LineTooLong::Discard, LineTooLong::Split] {
        for seed in 0..3 {
            let mut world = World::new(seed, &["/log/app.log"]);
            world.settings.line_too_long = policy;
            world.append("/log/app.log", "before\n");
            world.append("/log/app.log", &"x".repeat(50 << 20));
            world.append("/log/app.log", "\nafter\n");
            world.start();
            let lines = match policy {
                LineTooLong::Truncate => 3,
                LineTooLong::Discard => 2,
                LineTooLong::Split => 202,
            };
            world.wait_for(lines);
            let log = world.log.borrow();
            assert_eq!(log.lines.len(), lines);
            assert_eq!((&*log.lines[0], &*log.lines[lines - 1]), ("before", "after"));
            assert!(log.lines[1..lines - 1].iter().all(|line| line.len() == 256 << 10));
            drop(log);
            let truncated = world.sum(|counters| counters.truncated_events.get());
            let discarded = world.sum(|counters| counters.discarded.get(Discard::LineTooLong));
            assert_eq!(
                (truncated, discarded),
                match policy {
                    LineTooLong::Truncate => (1, 0),
                    LineTooLong::Discard => (0, 1),
                    LineTooLong::Split => (0, 0),
                }
            );
        }
    }
}

#[test]
fn line_longer_than_a_chunk_is_whole() {
    check(&["/log/app.log"], |world| {
        let long = "y".repeat(200_000);
        world.start();
        world.append("/log/app.log", "a\n");
        for piece in long.as_bytes().chunks(30_000) {
            world.outside.append("/log/app.log", piece).expect("appended");
            world.simulation.run_for(Duration::from_millis(2));
        }
        world.append("/log/app.log", "\nb\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["a", &*long, "b"]);
    });
}

#[test]
fn unreadable_file_is_reported_once_and_read_when_possible() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "good\n");
        world.append("/log/b.log", "locked\n");
        world.simulation.disk().deny(Path::new("/log/b.log"), true).expect("denied");
        world.start();
        world.wait_for(1);
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1);
        world.simulation.disk().deny(Path::new("/log/b.log"), false).expect("allowed");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["good", "locked"]);
    });
}

fn deny_list(world: &World, denied: bool) {
    world.simulation.disk().deny(Path::new("/log"), denied).expect("it is there");
}

/// The directory may be searched but not read. No watch is possible, so the file is polled.
#[test]
fn files_named_without_wildcards_are_followed_in_a_directory_that_cannot_be_listed() {
    check(&["/log/a.log", "/log/b.log"], |world| {
        world.append("/log/a.log", "one\n");
        deny_list(world, true);
        world.start();
        world.wait_for(1);
        world.append("/log/a.log", "two\n");
        world.wait_for(2);
        deny_list(world, false);
        world.rename("/log/a.log", "/log/a.log.1");
        world.append("/log/a.log", "three\n");
        world.append("/log/b.log", "four\n");
        deny_list(world, true);
        world.wait_for(4);
        world.wait(5);
        world.end();
        world.append("/log/a.log", "five\n");
        world.start();
        world.wait_for(5);
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 0);
        world.expect(&["one", "two", "three", "four", "five"].map(str::to_owned));
    });
}

/// Wildcards need the list, so it is reported that they match nothing.
#[test]
fn directory_that_cannot_be_listed_is_reported_if_wildcards_need_it() {
    check(&["/log/a.log", "/log/*.txt"], |world| {
        world.append("/log/a.log", "one\n");
        deny_list(world, true);
        world.start();
        world.wait_for(1);
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 2, "the directory, and the pattern");
    });
}

#[test]
fn failing_reads_are_reported_once_and_retried() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "one\n");
        world.start();
        world.wait_for(1);
        world.simulation.disk().fail_reads(Path::new("/log/a.log"), true).expect("there");
        world.append("/log/a.log", "two\n");
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1);
        world.simulation.disk().fail_reads(Path::new("/log/a.log"), false).expect("there");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
    });
}

#[test]
fn directory_may_appear_later_vanish_and_come_back() {
    check(&["/srv/app/*/x.log"], |world| {
        world.start();
        world.wait(3);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1, "an include without a file is told once");
        world.outside.create_dir_all("/srv/app/one").expect("made");
        world.append("/srv/app/one/x.log", "first\n");
        world.wait_for(1);
        world.append("/srv/app/one/x.log", "second\n");
        world.outside.remove_dir_all("/srv/app").expect("removed");
        world.wait_for(2);
        world.outside.create_dir_all("/srv/app/one").expect("made");
        world.append("/srv/app/one/x.log", "third\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["first", "second", "third"]);
    });
}

#[test]
fn pattern_whose_files_cannot_be_read_is_not_said_to_match_none() {
    check_some(2, &["/log/*.log"], |world| {
        world.append("/log/app.log", "one\n");
        world.simulation.disk().deny(Path::new("/log/app.log"), true).expect("it is there");
        world.start();
        world.simulation.run_for(Duration::from_secs(3));
        assert_eq!(world.sum(|counters| counters.errors.get()), 1, "the file, and not the pattern");
        world.simulation.disk().deny(Path::new("/log/app.log"), false).expect("it is there");
        world.wait_for(1);
    });
}

#[test]
fn without_watches_everything_is_found_all_the_same() {
    check(&["/log/**/*.log"], |world| {
        world.simulation.disk().set_watch_silent(true);
        world.start();
        world.outside.create_dir_all("/log/a/b").expect("made");
        world.append("/log/a/b/c.log", "one\n");
        world.wait_for(1);
        world.append("/log/a/b/c.log", "two\n");
        world.wait_for(2);
        world.rename("/log/a/b/c.log", "/log/a/b/c.old");
        world.append("/log/a/b/c.old", "three\n");
        world.append("/log/a/b/c.log", "four\n");
        world.wait_for(4);
        world.wait(40);
        world.append("/log/a/b/c.log", "five\n");
        world.wait_for(5);
        world.expect(&["one", "two", "three", "four", "five"].map(str::to_owned));
    });
}

#[test]
fn overflowing_watches_lose_nothing() {
    check(&["/log/*.log*"], |world| {
        world.simulation.disk().set_watch_overflow(3);
        let lines = numbered(0, 200);
        world.start();
        for (round, piece) in lines.chunks(10).enumerate() {
            world.append("/log/a.log", &text(piece));
            world.simulation.run_for(Duration::from_millis(20));
            world.rename("/log/a.log", &format!("/log/a.log.{round}"));
        }
        world.wait_for(200);
        world.wait(10);
        world.expect(&lines);
    });
}

/// `renew` creates the directory of a followed file again. Then `lines` are read, and the next line is read at once.
fn check_watched_again(lines: usize, renew: impl Fn(&mut World)) {
    check(&["/log/*/*.log"], |world| {
        world.outside.create_dir_all("/log/sub").expect("made");
        world.append("/log/sub/a.log", "one\n");
        world.start();
        world.wait_for(1);
        world.wait(20);
        renew(world);
        world.wait_for(lines);
        world.wait(25);
        // Without a watch event, a quiet file would not be checked at once.
        world.append("/log/sub/a.log", "told\n");
        let log = world.log.clone();
        let read = || log.borrow().lines.len() == lines + 1;
        world.simulation.must("the line is read at once", read, Duration::from_millis(900));
    });
}

#[test]
fn directory_recreated_during_an_overflow_is_watched_again() {
    check_watched_again(2, |world| {
        // Events are not taken meanwhile, so the removal of the directory is not among those that are kept.
        for noise in 0..3000 {
            let path = format!("/log/sub/noise.{noise}");
            world.append(&path, "");
            world.outside.remove(&path).expect("removed");
        }
        world.outside.remove_dir_all("/log/sub").expect("removed");
        world.outside.create_dir_all("/log/sub").expect("made");
        world.append("/log/sub/a.log", "two\n");
    });
}

#[test]
fn new_directory_with_the_old_files_is_watched_as_before() {
    check_watched_again(1, |world| {
        world.rename("/log/sub/a.log", "/kept");
        world.outside.remove_dir_all("/log/sub").expect("removed");
        world.outside.create_dir_all("/log/sub").expect("made");
        world.rename("/kept", "/log/sub/a.log");
    });
}

#[test]
fn full_lane_stops_the_reader_and_nothing_is_missed_meanwhile() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 200_000);
        world.blocked.set(true);
        world.start();
        for (round, piece) in lines.chunks(40_000).enumerate() {
            world.append("/log/app.log", &text(piece));
            world.wait(1);
            world.rename("/log/app.log", &format!("/log/app.log.{round}"));
            world.wait(1);
        }
        assert!(world.log.borrow().lines.is_empty());
        world.blocked.set(false);
        world.wait_for(200_000);
        world.expect(&lines);
    });
}

#[test]
fn hot_file_starves_no_other() {
    check(&["/log/*.log"], |world| {
        world.shards = 1;
        let hot = text(&numbered(0, 200_000));
        world.append("/log/a.log", &hot);
        world.append("/log/b.log", "quiet\n");
        world.start();
        let log = world.log.clone();
        world.simulation.must("the quiet file is read", || log.borrow().lines.iter().any(|line| line == "quiet"), LONG);
        let before = world.log.borrow().lines.iter().position(|line| line == "quiet");
        assert!(before.is_some_and(|before| before < 50_000), "{before:?} lines of the hot file came first");
    });
}

#[test]
fn quiet_files_are_closed_and_read_when_they_grow() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.log"]);
        world.start_over_quiet_files();
        for path in quiet_files() {
            world.append(&path, "second\n");
        }
        world.wait_for(400);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 400);
        for path in quiet_files() {
            // Truncated while closed: the file that is opened then has different bytes before the position.
            world.outside.write(path, b"third, and a longer one\n").expect("written");
        }
        world.wait_for(600);
        assert_eq!(world.sum(|counters| counters.files.get()), 200);
        assert_eq!(world.sum(|counters| counters.errors.get()), 0);
    }
}

/// No call on the executor may wait for a server; files are read, rotated, truncated and deleted all the same.
#[test]
fn remote_files_are_read_where_blocking_is_allowed() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*.log"]);
        world.simulation.disk().set_remote(true);
        world.start();
        world.wait(1);
        world.simulation.disk().forbid_blocking(true);
        for round in 0..20 {
            world.append("/log/a.log", &format!("line {round}\n"));
            world.append("/log/b.log", &format!("other {round} {}\n", "long ".repeat(300)));
            world.wait(round % 3);
        }
        world.wait_for(40);
        world.outside.write("/log/b.log", b"anew\n").expect("truncated");
        world.wait_for(41);
        world.rename("/log/a.log", "/log/a.log.1");
        world.append("/log/a.log", "the next\n");
        world.wait_for(42);
        world.outside.remove("/log/a.log").expect("removed");
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 42);
        assert_eq!(world.simulation.disk().blocked(), Vec::<String>::new(), "seed {seed}: task and call");
    }
}

#[test]
fn settings_are_checked() {
    let good = settings(&["/var/log/*.log"]);
    assert_eq!(good.check(), []);
    assert_eq!(good.rotate_wait, Period(Duration::from_secs(5)));
    let key = |settings: Settings| settings.check().remove(0).key;
    assert_eq!(key(Settings { include: Vec::new(), ..good.clone() }), "include");
    assert_eq!(key(Settings { exclude: vec!["ok".to_owned(), "[".to_owned()], ..good.clone() }), "exclude.1");
    assert_eq!(key(Settings { max_line_bytes: ByteSize(1), ..good.clone() }), "max_line_bytes");
    assert_eq!(key(Settings { max_line_bytes: ByteSize(1 << 40), ..good }), "max_line_bytes");
    let example: Result<serde_json::Value, _> = serde_saphyr::from_str(Settings::EXAMPLE);
    assert!(example.is_ok_and(|example| example["type"] == Settings::NAME));
    assert!(serde_saphyr::from_str::<Settings>("include: [a]\ninclud: [b]\n").is_err());
}

/// The first file stays on the shard of its output; of many files, few go there.
#[test]
fn a_shard_that_delivers_for_all_follows_fewer_files() {
    for (files, expected) in [(1, [1, 0, 0]), (30, [1, 15, 14])] {
        let mut world = World::new(2, &["/log/*"]);
        world.deliverers = vec![1, 0, 0];
        for file in 0..files {
            world.append(&format!("/log/{file}"), &format!("line {file}\n"));
        }
        world.start();
        world.wait_for(files);
        let followed: Vec<u64> = world.counters.iter().map(|counters| counters.files.get()).collect();
        assert_eq!(followed, expected);
    }
}

/// Files that have been quiet for long are checked all the same: watches may report nothing.
#[test]
fn changes_without_watch_events_are_found_after_a_long_quiet_time() {
    check(&["/log/*.log"], |world| {
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.simulation.disk().set_watch_silent(true);
        world.wait(300);
        world.append("/log/app.log", "two\n");
        world.append("/log/new.log", "three\n");
        // Names within four seconds, and quiet files within ten, at the next tick.
        world.wait(16);
        assert_eq!(world.log.borrow().lines.len(), 3);
    });
}
