//! Files that are replaced by files with the same beginning, and files whose beginning changes.

use super::*;
use crate::inputs::file::home;

const PATH: &str = "/log/app.log";

/// Replaces the file by one with this content in one step, as editors, `sed -i` and mirrors do.
fn replace(world: &World, content: &str) {
    world.outside.write("/draft", content.as_bytes()).expect("written");
    world.rename("/draft", PATH);
}

#[test]
fn file_replaced_by_one_that_begins_with_it_continues() {
    check(&[PATH], |world| {
        world.start();
        let lines = numbered(0, 300);
        for end in [1, 2, 5, 60, 61, 300] {
            replace(world, &text(&lines[..end]));
            world.wait_for(end);
            world.wait(2);
        }
        // Lines that are written through the new file are followed too.
        world.append(PATH, "more\n");
        world.wait_for(301);
        world.wait(10);
        let all = [&lines[..], &["more".to_owned()]].concat();
        world.assert_order(&all);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

#[test]
fn file_replaced_while_the_process_is_down_continues() {
    check(&[PATH], |world| {
        let lines = numbered(0, 300);
        for end in [10, 20, 150, 300] {
            replace(world, &text(&lines[..end]));
            world.start();
            world.wait_for(end);
            world.wait(2);
            world.end();
        }
        world.start();
        world.wait(5);
        world.assert_order(&lines);
    });
}

/// A job that writes the same text each time: its file is created and written while the process is down.
#[test]
fn file_written_again_while_the_process_is_down_is_read_again() {
    check(&[PATH], |world| {
        let lines = numbered(0, 10);
        let mut all = Vec::new();
        for _ in 0..4 {
            world.append(PATH, &text(&lines));
            all.extend(lines.clone());
            world.start();
            world.wait_for(all.len());
            world.wait(2);
            world.end();
            world.outside.remove(PATH).expect("removed");
            world.wait(1);
        }
        world.assert_order(&all);
        assert_eq!(world.lost(Lost::Deleted), 0);
    });
}

/// What took the place of the file is recorded even if nothing was read from it: later it is found under any name.
#[test]
fn file_that_took_the_place_of_another_is_found_again() {
    check(&[PATH], |world| {
        // The head is complete, so that the notes know nothing that the WAL does not.
        let lines = numbered(0, 100);
        replace(world, &text(&lines));
        world.start();
        world.wait_for(100);
        world.wait(2);
        world.end();
        replace(world, &format!("{}unfinished", text(&lines)));
        world.start();
        world.wait(3);
        world.end();
        world.rename(PATH, "/log/other");
        world.append("/log/other", " no more\n");
        world.start();
        world.wait_for(101);
        world.wait(2);
        world.assert_order(&[&lines[..], &["unfinished no more".to_owned()]].concat());
    });
}

#[test]
fn file_replaced_by_different_content_is_read_from_its_beginning() {
    check(&[PATH], |world| {
        world.start();
        let mut all = Vec::new();
        for round in 0..4 {
            let lines = numbered(round * 1000, round * 1000 + 100);
            replace(world, &format!("header\n{}", text(&lines)));
            all.push("header".to_owned());
            all.extend(lines);
            world.wait_for(all.len());
            world.wait(round as u64);
        }
        world.wait(10);
        world.expect(&all);
    });
}

/// A program that starts a new file writes the same first lines again: it is a different file.
#[test]
fn successor_of_a_deleted_file_that_begins_alike_is_a_new_file() {
    check(&[PATH], |world| {
        world.start();
        for round in 1..=4 {
            world.append(PATH, "started\nready\n");
            world.wait_for(2 * round);
            world.wait(round as u64 % 2);
            world.outside.remove(PATH).expect("removed");
        }
        world.wait(10);
        assert_eq!(world.log.borrow().lines.len(), 8);
    });
}

/// Rotated by a rename out of the pattern. The next file has the same header and nothing else.
#[test]
fn successor_of_a_rotated_file_with_the_same_header_is_a_new_file() {
    check(&[PATH], |world| {
        let header = "time,level,message\n".repeat(20);
        world.start();
        for round in 1..=4 {
            world.append(PATH, &header);
            world.wait_for(20 * round);
            world.wait(round as u64 % 2);
            world.rename(PATH, &format!("/elsewhere.{round}"));
        }
        world.wait(10);
        assert_eq!(world.log.borrow().lines.len(), 80);
    });
}

/// A writer preallocates space and fills it: the beginning of the file changes, but it stays the same file over restarts.
#[test]
fn file_whose_preallocated_space_is_filled_is_read_once_over_restarts() {
    check(&[PATH], |world| {
        let lines = numbered(0, 200);
        world.outside.write(PATH, &vec![0; 1 << 20]).expect("reserved");
        let mut offset = 0;
        for (round, piece) in lines.chunks(10).enumerate() {
            world.start();
            world.wait(1);
            world.outside.overwrite(PATH, offset, text(piece).as_bytes()).expect("written");
            offset += text(piece).len() as u64;
            world.wait_for(10 * (round + 1));
            world.wait(1);
            world.end();
        }
        world.start();
        world.wait(5);
        world.assert_order(&lines);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

/// The writer maps the file: neither a watch nor the modification time shows its lines.
#[test]
fn space_that_is_filled_through_a_map_is_read_within_seconds() {
    for room in [8_000, 1 << 20] {
        check(&[PATH], |world| {
            let lines = numbered(0, 100);
            world.outside.write(PATH, &vec![0; room]).expect("reserved");
            world.start();
            world.wait(30);
            let mut offset = 0;
            for (round, piece) in lines.chunks(10).enumerate() {
                world.outside.overwrite_mapped(PATH, offset, text(piece).as_bytes()).expect("written");
                offset += text(piece).len() as u64;
                world.wait(if round % 3 == 0 { 25 } else { 12 });
                assert_eq!(world.log.borrow().lines.len(), 10 * (round + 1), "seed {}", world.simulation.seed());
            }
            world.assert_order(&lines);
        });
    }
}

/// Editors keep what they replace under another name: `mv app.log app.log~; cp app.log~ app.log`. The copy may take a while.
#[test]
fn file_replaced_by_a_copy_of_its_backup_continues() {
    for (include, ending) in [(PATH, "~"), ("/log/*", "~"), (PATH, ".bak"), ("/log/app.log*", ".orig")] {
        for down in [false, true] {
            check(&[include], |world| {
                let (seed, backup) = (world.simulation.seed(), format!("{PATH}{ending}"));
                let mut lines = numbered(0, 200);
                world.append(PATH, &text(&lines));
                world.start();
                world.wait_for(200);
                world.wait(seed % 4);
                if down {
                    world.end();
                }
                world.rename(PATH, &backup);
                world.simulation.run_for(Duration::from_millis(seed % 3 * 700));
                let copy = text(&lines);
                for piece in copy.as_bytes().chunks(if seed % 2 == 0 { copy.len() } else { 1000 }) {
                    world.outside.append(PATH, piece).expect("copied");
                    world.simulation.run_for(Duration::from_millis(seed % 5 * 100));
                }
                if down {
                    world.start();
                }
                world.wait(seed % 3);
                world.append(PATH, "more\n");
                // Whoever has the backup open.
                world.append(&backup, "late\n");
                world.wait_for(202);
                world.wait(12);
                lines.extend(["more".to_owned(), "late".to_owned()]);
                world.expect(&lines);
                assert_eq!(world.lost(Lost::Deleted), 0);
            });
        }
    }
}

/// What begins otherwise, or was rotated, is a different file, and is read while it is short too.
#[test]
fn successor_of_a_backup_with_different_content_is_read_from_its_beginning() {
    for (ending, content) in [("~", "other\n"), (".1", "one\n"), (".bak", "")] {
        check(&[PATH], |world| {
            let lines = if ending == ".1" { vec!["one".to_owned(); 40] } else { numbered(0, 40) };
            world.append(PATH, &text(&lines));
            world.start();
            world.wait_for(40);
            world.wait(2);
            world.rename(PATH, &format!("{PATH}{ending}"));
            let begun = match ending {
                ".1" => lines.clone(),
                _ => content.lines().map(str::to_owned).collect(),
            };
            world.append(PATH, &text(&begun));
            world.wait(world.simulation.seed() % 6);
            world.append(PATH, "next\n");
            world.wait_for(lines.len() + begun.len() + 1);
            world.wait(10);
            world.expect(&[lines, begun, vec!["next".to_owned()]].concat());
        });
    }
}

/// A file becomes a backup, and one that begins like it is written in its place. Returns the lines of the first one.
fn begun_again(world: &mut World) -> Vec<String> {
    let lines = numbered(0, 200);
    world.append(PATH, &text(&lines));
    world.start();
    world.wait_for(200);
    world.wait(2);
    world.rename(PATH, "/log/app.log~");
    world.append(PATH, &text(&lines[..100]));
    world.wait(2);
    lines
}

/// A copy that is still being written is renamed out of the pattern, or the process is killed then.
#[test]
fn copy_of_a_backup_that_is_moved_before_it_was_compared_is_not_lost() {
    for kill in [false, true] {
        check(&[PATH], |world| {
            begun_again(world);
            if kill {
                world.kill();
            }
            world.rename(PATH, "/log/elsewhere");
            world.append("/log/elsewhere", "and more\n");
            if kill {
                world.start();
            }
            world.wait_for(201);
            world.wait(20);
            let log = world.log.borrow();
            assert!(log.lines.contains(&"and more".to_owned()), "seed {}", world.simulation.seed());
            assert!(kill || log.lines.len() == 201, "seed {}: {}", world.simulation.seed(), log.lines.len());
        });
    }
}

/// The scan no longer reports a file that vanished while its owner compared it.
#[test]
fn copy_of_a_backup_that_is_deleted_before_it_was_compared_is_closed() {
    check(&[PATH], |world| {
        let lines = begun_again(world);
        world.outside.remove(PATH).expect("removed");
        world.wait(30);
        assert_eq!(world.sum(|counters| counters.files.get()), 0, "seed {}", world.simulation.seed());
        world.append(PATH, "next\n");
        world.wait_for(201);
        world.wait(10);
        world.expect(&[lines, vec!["next".to_owned()]].concat());
    });
}

/// The old file is read slowly, and whoever replaces it does so again and again: each one that waits is open.
#[test]
fn files_that_wait_to_be_compared_are_bounded() {
    check(&[PATH], |world| {
        let mut lines = numbered(0, 200_000);
        world.blocked.set(true);
        world.append(PATH, &text(&lines));
        world.start();
        world.wait(3);
        for version in 0..24 {
            lines.push(format!("version {version}"));
            replace(world, &format!("version {version}\n"));
            world.wait(2);
        }
        let followed = world.sum(|counters| counters.files.get());
        assert!(followed > 24 - home::crowd::OFFERED_MAX, "seed {}: {followed}", world.simulation.seed());
        world.blocked.set(false);
        world.wait_for(lines.len());
        world.wait(15);
        world.expect(&lines);
    });
}
