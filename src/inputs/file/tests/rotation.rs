//! Files that are renamed, truncated, deleted, linked elsewhere or compressed while they are followed.

use super::*;
use tailwater_shards::env::Disk;

#[test]
fn rotations_in_quick_succession_lose_nothing() {
    for include in ["/log/app.log", "/log/app.log*"] {
        check(&[include], |world| {
            let lines = numbered(0, 500);
            world.start();
            world.wait(2);
            for (round, piece) in lines.chunks(100).enumerate() {
                world.append("/log/app.log", &text(&piece[..99]));
                world.simulation.run_for(Duration::from_millis(15));
                for older in (0..round).rev() {
                    world.rename(&format!("/log/app.log.{older}"), &format!("/log/app.log.{}", older + 1));
                }
                world.rename("/log/app.log", "/log/app.log.0");
                world.append("/log/app.log.0", &text(&piece[99..]));
            }
            world.wait(20);
            world.expect(&lines);
        });
    }
}

#[test]
fn late_lines_are_read_and_the_last_one_needs_no_newline() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.rename("/log/app.log", "/log/old");
        world.append("/log/app.log", "new\n");
        world.wait_for(2);
        world.wait(2);
        world.append("/log/old", "late\nlast words");
        world.wait_for(3);
        world.wait(2);
        assert_eq!(world.log.borrow().lines, ["one", "new", "late"]);
        world.wait_for(4);
        world.wait(10);
        assert_eq!(world.log.borrow().lines, ["one", "new", "late", "last words"]);
        let log = world.log.borrow();
        assert!(log.sources[&log.source_of("one")].gone);
        assert!(!log.sources[&log.source_of("new")].gone);
        drop(log);
        assert_eq!(world.sum(|counters| counters.files.get()), 1);
    });
}

#[test]
fn copytruncate_after_all_was_read_loses_nothing() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 300);
        world.start();
        for piece in lines.chunks(100) {
            world.append("/log/app.log", &text(piece));
            let count = world.log.borrow().lines.len() + 100;
            world.wait_for(count);
            world.simulation.run_for(Duration::from_millis(20));
            world.outside.truncate("/log/app.log", 0).expect("truncated");
            world.wait(2);
        }
        world.expect(&lines);
        assert_eq!(world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get()), 0);
    });
}

#[test]
fn file_that_grew_past_the_old_offset_after_a_truncation_is_read_again() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", &text(&numbered(0, 10)));
        world.start();
        world.wait_for(10);
        world.wait(15);
        world.outside.write("/log/app.log", text(&numbered(100, 150)).as_bytes()).expect("written");
        world.wait_for(60);
        world.wait(3);
        world.expect(&[numbered(0, 10), numbered(100, 150)].concat());
        let log = world.log.borrow();
        assert_ne!(log.source_of("line 00000000"), log.source_of("line 00000100"));
    });
}

#[test]
fn bytes_lost_to_a_truncation_are_counted() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", "one\nunfinished");
        world.start();
        world.wait_for(1);
        world.wait(3);
        world.outside.write("/log/app.log", b"two\n").expect("written");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
        assert_eq!(world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get()), 10);
    });
}

#[test]
fn deleted_file_is_read_to_its_end() {
    check(&["/log/*.log"], |world| {
        let lines = numbered(0, 20_000);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(1);
        world.outside.remove("/log/app.log").expect("removed");
        world.wait_for(20_000);
        world.wait(10);
        assert_eq!(world.log.borrow().lines, lines);
        assert!(world.log.borrow().sources.values().all(|kept| kept.gone));
        assert_eq!(world.sum(|counters| counters.files.get()), 0);
    });
}

#[test]
fn reused_inode_is_a_new_file() {
    check(&["/log/*.log"], |world| {
        world.simulation.disk().set_inode_reuse(true);
        world.append("/log/a.log", "same header\nfirst\n");
        world.start();
        world.wait_for(2);
        let inode = world.outside.stat("/log/a.log").expect("there").inode;
        world.outside.remove("/log/a.log").expect("removed");
        world.wait(20);
        world.append("/log/b.log", "same header\nsecond, and longer\n");
        assert_eq!(world.outside.stat("/log/b.log").expect("there").inode, inode);
        world.wait_for(4);
        world.wait(3);
        assert_eq!(world.log.borrow().lines, ["same header", "first", "same header", "second, and longer"]);
    });
}

#[test]
fn inode_reused_while_the_process_was_down_is_a_new_file() {
    check(&["/log/*.log"], |world| {
        world.simulation.disk().set_inode_reuse(true);
        world.append("/log/a.log", "same header\nfirst\n");
        world.start();
        world.wait_for(2);
        world.kill();
        world.outside.remove("/log/a.log").expect("removed");
        world.append("/log/a.log", "same header\nsecond, and longer\n");
        world.start();
        world.wait_for(4);
        world.wait(3);
        assert_eq!(world.log.borrow().lines, ["same header", "first", "same header", "second, and longer"]);
    });
}

#[test]
fn reused_inode_with_the_very_same_content_is_a_new_file() {
    for down in [false, true] {
        check(&["/log/*.log"], |world| {
            world.simulation.disk().set_inode_reuse(true);
            world.append("/log/a.log", "started\n");
            let inode = world.outside.stat("/log/a.log").expect("there").inode;
            world.start();
            world.wait_for(1);
            world.wait(3);
            for life in 1..4 {
                if down {
                    world.kill();
                }
                world.outside.remove("/log/a.log").expect("removed");
                world.wait(20);
                world.append("/log/a.log", "started\n");
                assert_eq!(world.outside.stat("/log/a.log").expect("there").inode, inode);
                if down {
                    world.start();
                }
                world.wait_for(life + 1);
                world.wait(3);
            }
            assert_eq!(world.log.borrow().lines, ["started"; 4]);
        });
    }
}

/// A file that was closed because it is quiet does not keep its inode number from being reused.
#[test]
fn inode_of_a_closed_file_that_is_reused_is_a_new_file() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.log"]);
        world.simulation.disk().set_inode_reuse(true);
        world.start_over_quiet_files();
        for path in quiet_files() {
            world.outside.remove(&path).expect("removed");
            world.append(&path, "first\nsecond\n");
        }
        world.wait_for(600);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 600);
        assert_eq!(world.sum(|counters| counters.files.get()), 200);
    }
}

#[test]
fn switched_link_is_followed_and_the_old_target_is_finished() {
    check(&["/log/current"], |world| {
        world.follow_links_to(&["/target"]);
        world.outside.create_dir_all("/target").expect("made");
        world.append("/target/1", "one\n");
        world.outside.symlink("/target/1", "/log/current").expect("linked");
        world.start();
        world.wait_for(1);
        world.append("/target/1", "two\n");
        world.append("/target/2", "three\n");
        world.outside.symlink("/target/2", "/log/current").expect("linked");
        world.wait_for(3);
        world.append("/target/1", "four\n");
        world.append("/target/2", "five\n");
        world.wait_for(5);
        world.wait(10);
        world.append("/target/1", "nobody listens\n");
        world.append("/target/2", "six\n");
        world.wait_for(6);
        world.wait(5);
        world.expect(&["one", "two", "three", "four", "five", "six"].map(str::to_owned));
    });
}

#[test]
fn rotated_target_of_a_link_is_detected() {
    check(&["/log/current"], |world| {
        world.follow_links_to(&["/target"]);
        world.outside.create_dir_all("/target").expect("made");
        world.append("/target/app", "one\n");
        world.outside.symlink("/target/app", "/log/current").expect("linked");
        world.start();
        world.wait_for(1);
        world.rename("/target/app", "/target/app.1");
        world.append("/target/app", "two\n");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
    });
}

#[test]
fn file_renamed_while_down_is_recognised() {
    check(&["/log/app.log*"], |world| {
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.kill();
        world.append("/log/app.log", "two\n");
        world.rename("/log/app.log", "/log/app.log.1");
        world.append("/log/app.log", "three\n");
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.expect(&["one", "two", "three"].map(str::to_owned));
        assert_eq!(world.log.borrow().source_of("one"), world.log.borrow().source_of("two"));
    });
}

#[test]
fn compressed_copies_are_not_read() {
    use std::io::Write;
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 500);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(500);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text(&lines).as_bytes()).expect("into memory");
        let compressed = encoder.finish().expect("into memory");
        world.rename("/log/app.log", "/log/app.log.1");
        world.outside.write("/log/app.log.1.gz", &compressed).expect("written");
        world.outside.remove("/log/app.log.1").expect("removed");
        world.outside.write("/log/app.log.7.gz", b"\x1f\x8bnot really").expect("written");
        world.append("/log/app.log", "new\n");
        world.wait_for(501);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 501);
        assert_eq!(world.sum(|counters| counters.errors.get()), 0);
    });
}

#[test]
fn rotation_every_second_beside_quiet_files() {
    for seed in 0..3 {
        let mut world = World::new(seed, &["/log/*.log*"]);
        for file in 0..300 {
            world.append(&format!("/log/quiet{file}.log"), &format!("quiet {file}\n"));
        }
        world.start();
        world.wait_for(300);
        let lines = numbered(0, 3000);
        for (round, piece) in lines.chunks(100).enumerate() {
            world.append("/log/hot.log", &text(piece));
            world.wait(1);
            world.rename("/log/hot.log", &format!("/log/hot.log.{round}"));
        }
        world.wait_for(3300);
        world.append("/log/quiet7.log", "awake\n");
        world.wait_for(3301);
        world.wait(3);
        assert_eq!(world.log.borrow().lines.len(), 3301);
    }
}

#[test]
fn truncated_unfinished_line_is_counted_and_the_next_is_read() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", "one\nunfinished");
        world.start();
        world.wait_for(1);
        world.wait(3);
        world.outside.truncate("/log/app.log", 4).expect("truncated");
        world.wait(3);
        world.append("/log/app.log", "two\n");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
        assert_eq!(world.log.borrow().sources.len(), 1);
        assert_eq!(world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get()), 10);
    });
}

#[test]
fn file_that_comes_back_under_another_name_is_not_read_twice() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "one\n");
        world.start();
        world.wait_for(1);
        world.rename("/log/a.log", "/log/a.off");
        world.wait(20);
        assert_eq!(world.sum(|counters| counters.files.get()), 0);
        world.append("/log/a.off", "two\n");
        world.rename("/log/a.off", "/log/b.log");
        world.wait_for(2);
        world.wait(3);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
        assert_eq!(world.log.borrow().sources.len(), 1);
        assert!(world.log.borrow().sources.values().all(|kept| !kept.gone));
    });
}

#[test]
fn most_recent_missing_files_are_remembered() {
    let mut world = World::new(1, &["/log/*.log"]);
    world.start();
    let (round, rounds) = (200, 7);
    for begin in (0..rounds).map(|number| number * round) {
        for file in begin..begin + round {
            world.append(&format!("/log/{file}.log"), &format!("{file}\n"));
        }
        world.wait_for(begin + round);
        for file in begin..begin + round {
            world.rename(&format!("/log/{file}.log"), &format!("/log/{file}.off"));
        }
        world.wait(20);
        assert_eq!(world.sum(|counters| counters.files.get()), 0);
    }
    let (lost, kept) = (0, round * rounds - 1);
    for file in [lost, kept] {
        world.append(&format!("/log/{file}.off"), &format!("more of {file}\n"));
        world.rename(&format!("/log/{file}.off"), &format!("/log/{file}.log"));
    }
    world.wait_for(round * rounds + 3);
    world.wait(3);
    let mut new = world.log.borrow().lines[round * rounds..].to_vec();
    new.sort_unstable();
    assert_eq!(new, [lost.to_string(), format!("more of {lost}"), format!("more of {kept}")]);
}

/// Whoever renames many files all the time does not keep them all open: outputs and the WAL need descriptors too.
#[test]
fn files_that_are_renamed_again_and_again_do_not_stay_open() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.log", "/log/*.old"]);
        world.start_over_quiet_files();
        world.simulation.disk().set_descriptors_max(Some(140));
        for round in 0..6 {
            for path in quiet_files() {
                let (from, to) = (path.clone(), path.replace(".log", ".old"));
                let (from, to) = if round % 2 == 0 { (from, to) } else { (to, from) };
                world.rename(&from, &to);
            }
            world.wait(1);
        }
        assert_eq!(world.simulation.disk().exhausted(), 0, "seed {seed}");
        for path in quiet_files() {
            world.append(&path, "second\n");
        }
        world.wait_for(400);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 400, "seed {seed}");
    }
}

/// In a directory where everybody may write, a stranger makes an older generation of somebody's log, and it takes long.
#[test]
fn generation_of_a_stranger_is_not_waited_for() {
    for (owner, waits) in [(1000, false), (1001, true), (0, true)] {
        check(&["/log/*"], |world| {
            let mut all: Vec<String> = (0..5_000).map(|number| format!("{number:01000}")).collect();
            world.append("/log/app.log.1", &text(&all));
            world.append("/log/app.log", "newer\n");
            world.outside.set_owner("/log/app.log.1", owner).expect("given");
            world.outside.set_owner("/log/app.log", 1001).expect("given");
            world.start();
            world.wait_for(all.len() + 1);
            let is_last = world.log.borrow().lines.last().is_some_and(|line| line == "newer");
            assert_eq!(is_last, waits, "owner {owner}");
            all.push("newer".to_owned());
            world.expect(&all);
        });
    }
}

/// No output makes progress, so what is deleted is still to be read, and its space is not free.
#[test]
fn unread_bytes_of_deleted_files_are_shown() {
    check(&["/log/*.log"], |world| {
        let shown = |world: &World| world.sum(|counters| counters.unread_deleted_bytes.get());
        let lines = numbered(0, 300_000);
        world.start();
        world.wait(1);
        world.blocked.set(true);
        world.append("/log/app.log", &text(&lines));
        world.wait(4);
        assert_eq!(shown(world), 0);
        world.outside.remove("/log/app.log").expect("removed");
        world.wait(10);
        let unread = world.sum(|counters| counters.unread_bytes.get());
        assert!(unread > 0 && shown(world) == unread, "{} of {unread}", shown(world));
        world.blocked.set(false);
        world.wait_for(lines.len());
        world.wait(15);
        assert_eq!(shown(world), 0);
    });
}
