//! NULs in followed files: holes before a line are skipped, and space at the end of a file waits until something is written
//! there.

use super::*;

const PATH: &str = "/log/app.log";

fn lost(world: &World) -> u64 {
    world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get())
}

fn unread(world: &World) -> u64 {
    world.sum(|counters| counters.unread_bytes.get())
}

/// A writer that keeps its own offset.
struct Writer {
    offset: u64,
}

impl Writer {
    fn write(&mut self, world: &World, text: &str) {
        world.outside.overwrite(PATH, self.offset, text.as_bytes()).expect("written");
        self.offset += text.len() as u64;
    }
}

fn writer(world: &World) -> Writer {
    world.append(PATH, "");
    Writer { offset: 0 }
}

/// The lines that were read, in order.
#[track_caller]
fn assert_lines(world: &World, lines: &[&str]) {
    assert_eq!(world.log.borrow().lines, lines, "seed {}", world.simulation.seed());
}

/// Ticks need some polls per second; a reader that does not pause needs thousands.
fn assert_rests(world: &mut World) {
    let before = world.simulation.steps();
    world.wait(20);
    let polls = world.simulation.steps() - before;
    assert!(polls < 2000, "seed {}: {polls} polls in 20 seconds", world.simulation.seed());
}

#[test]
fn hole_after_a_truncation_is_not_part_of_the_next_line() {
    check(&[PATH], |world| {
        let mut writer = writer(world);
        world.start();
        let mut all = Vec::new();
        for round in 0..4 {
            let lines = numbered(round * 100_000, round * 100_000 + [60_000, 5, 20_000, 1][round]);
            let (first, rest) = lines.split_at(lines.len() / 2);
            writer.write(world, &text(first));
            world.simulation.run_for(Duration::from_millis(3));
            writer.write(world, &text(rest));
            all.extend(lines);
            world.wait_for(all.len());
            world.wait(round as u64);
            world.outside.truncate(PATH, 0).expect("truncated");
            world.wait(round as u64 % 2);
            if round == 1 {
                world.kill();
                world.start();
            }
        }
        world.wait(3);
        world.expect(&all);
        assert_eq!((lost(world), unread(world)), (0, 0));
        let log = world.log.borrow();
        assert!(log.sources.values().all(|kept| kept.intervals.len() == 1 && kept.intervals[0].0 == 0));
    });
}

#[test]
fn kill_in_a_hole_or_after_it_repeats_and_loses_nothing() {
    check(&[PATH], |world| {
        if world.simulation.seed() % 2 == 1 {
            world.simulation.disk().set_short_reads(3);
            world.simulation.disk().set_would_block(3);
        }
        let mut prng = world.simulation.prng("kills");
        let mut writer = writer(world);
        let mut all = Vec::new();
        for round in 0..12 {
            world.start();
            let lines = numbered(round * 10_000, round * 10_000 + 4000);
            writer.offset += prng.between(0, 3_000_000);
            writer.write(world, &text(&lines[..2000]));
            writer.offset += prng.between(0, 200);
            let rest = text(&lines[2000..]);
            let cut = prng.between(0, rest.len() as u64) as usize;
            writer.write(world, &rest[..cut]);
            world.simulation.run_for(Duration::from_micros(prng.between(0, 20_000)));
            writer.write(world, &rest[cut..]);
            all.extend(lines);
            world.simulation.run_for(Duration::from_micros(prng.between(0, 20_000)));
            world.kill();
        }
        world.start();
        world.wait_for(all.len());
        world.wait(3);
        world.expect(&all);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

#[test]
fn unfinished_line_after_a_hole_waits_and_is_counted_when_truncated() {
    check(&[PATH], |world| {
        let mut writer = writer(world);
        world.start();
        writer.offset = 2_000_000;
        writer.write(world, "begun");
        world.wait(5);
        assert_eq!(unread(world), 5);
        assert_rests(world);
        world.outside.truncate(PATH, 0).expect("truncated");
        writer.write(world, ", and goes on\n");
        world.wait_for(1);
        assert_lines(world, &[", and goes on"]);
        assert_eq!(lost(world), 5);
        writer.write(world, "half");
        world.wait(3);
        world.kill();
        world.start();
        world.wait(3);
        writer.write(world, " a line\n");
        world.wait_for(2);
        assert_lines(world, &[", and goes on", "half a line"]);
        assert_eq!(lost(world), 0, "of the second life");
        world.outside.truncate(PATH, 0).expect("truncated");
        writer.write(world, "begun");
        world.wait(3);
        world.kill();
        // The hole is wider now, and nothing else shows the truncation.
        world.outside.truncate(PATH, 0).expect("truncated");
        writer.write(world, " and ended\n");
        world.start();
        world.wait_for(3);
        assert_lines(world, &[", and goes on", "half a line", " and ended"]);
    });
}

#[test]
fn hole_that_was_never_read_is_not_counted_as_lost() {
    check(&[PATH], |world| {
        let first = text(&numbered(0, 200_000));
        world.append(PATH, &first);
        world.blocked.set(true);
        world.start();
        world.wait(3);
        for generation in 0..3 {
            world.outside.truncate(PATH, 0).expect("truncated");
            world.wait(2);
            world.outside.overwrite(PATH, 50_000_000 + generation, b"the line behind the hole\n").expect("written");
            world.wait(2);
        }
        world.blocked.set(false);
        let log = world.log.clone();
        let read = || log.borrow().lines.last().is_some_and(|line| line == "the line behind the hole");
        world.simulation.must("the new content is read", read, LONG);
        let delivered: usize = world.log.borrow().lines.iter().map(|line| line.len() + 1).sum();
        let missing = first.len() - (delivered - "the line behind the hole\n".len());
        assert_eq!(lost(world), missing as u64);
        world.outside.truncate(PATH, 0).expect("truncated");
        world.outside.overwrite(PATH, 60_000_000, b"last\n").expect("written");
        let read = || log.borrow().lines.last().is_some_and(|line| line == "last");
        world.simulation.must("the new content is read", read, LONG);
        assert_eq!(lost(world), missing as u64);
    });
}

#[test]
fn hole_at_the_start_of_a_waiting_file_is_not_counted_as_lost() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*"]);
        world.shards = 1;
        world.append(PATH, "");
        world.start();
        world.wait(2);
        world.blocked.set(true);
        world.append("/log/other.log", &text(&numbered(0, 200_000)));
        world.wait(2);
        world.outside.overwrite(PATH, 10_000_000, b"gone\n").expect("written");
        world.wait(15);
        world.outside.truncate(PATH, 0).expect("truncated");
        world.wait(3);
        world.blocked.set(false);
        world.append(PATH, "new\n");
        world.wait_for(200_001);
        assert_eq!(lost(&world), 0);
    }
}

/// Preallocated space that is filled from its beginning; some of it is larger than one read or one search.
#[test]
fn preallocated_space_is_read_as_it_is_filled() {
    for room in [100, 60_000, 100_000, 2_000_000] {
        check(&[PATH], |world| {
            let mut writer = writer(world);
            world.start();
            let lines = numbered(0, 3000);
            for (round, piece) in lines.chunks(300).enumerate() {
                let length = world.outside.read(PATH).expect("there").len() as u64;
                if length < writer.offset + room {
                    world.outside.truncate(PATH, writer.offset + room).expect("longer");
                }
                let piece = text(piece);
                // Half lines are written too.
                let cut = piece.len() - 5;
                writer.write(world, &piece[..cut]);
                world.simulation.run_for(Duration::from_millis(round as u64 % 3 * 700));
                writer.write(world, &piece[cut..]);
                if round == 5 {
                    world.kill();
                    world.start();
                }
            }
            world.wait_for(lines.len());
            world.expect(&lines);
            world.wait(20);
            assert_eq!(unread(world), 0);
            assert_rests(world);
            // The writer frees the rest of the space.
            world.outside.truncate(PATH, writer.offset).expect("shorter");
            world.wait(5);
            writer.write(world, "more\n");
            world.wait_for(lines.len() + 1);
            assert_eq!((lost(world), unread(world)), (0, 0));
            assert_eq!(world.log.borrow().sources.len(), 1);
        });
    }
}

#[test]
fn line_after_the_zeros_of_a_power_loss_is_read_without_them() {
    for zeros in [1, 4096, 300_000, 3_000_000] {
        check(&[PATH], |world| {
            world.append(PATH, "before\n");
            world.append(PATH, &"\0".repeat(zeros));
            world.start();
            world.wait(15);
            assert_lines(world, &["before"]);
            world.append(PATH, "after\nand more\n");
            world.wait_for(3);
            world.wait(2);
            assert_lines(world, &["before", "after", "and more"]);
            assert_eq!((lost(world), unread(world)), (0, 0));
        });
    }
}

#[test]
fn nuls_inside_a_line_are_kept() {
    for (policy, zeros) in [
        (LineTooLong::Truncate, 1000),
        (LineTooLong::Truncate, 100_000),
        (LineTooLong::Split, 100_000),
        (LineTooLong::Truncate, 3_000_000),
        (LineTooLong::Split, 3_000_000),
        (LineTooLong::Discard, 3_000_000),
    ] {
        for seed in 0..4 {
            let mut world = World::new(seed, &[PATH]);
            world.settings.line_too_long = policy;
            let line = format!("begin{}end\0", "\0".repeat(zeros));
            world.start();
            world.append(PATH, &format!("{line}\nnext\n"));
            let whole: Vec<String> = match policy {
                _ if line.len() < 256 << 10 => vec![line],
                LineTooLong::Truncate => vec![line[..256 << 10].to_owned()],
                LineTooLong::Discard => Vec::new(),
                LineTooLong::Split => {
                    line.as_bytes().chunks(256 << 10).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
                }
            };
            let expected = [whole, vec!["next".to_owned()]].concat();
            world.wait_for(expected.len());
            world.wait(3);
            assert!(world.log.borrow().lines == expected, "{policy:?}, {zeros} NULs");
        }
    }
}

#[test]
fn space_after_a_skipped_line_is_not_skipped_with_it() {
    check(&[PATH], |world| {
        world.settings.max_line_bytes = ByteSize(100);
        let mut writer = writer(world);
        world.outside.truncate(PATH, 1_000_000).expect("longer");
        world.start();
        writer.write(world, &"z".repeat(150));
        world.wait(15);
        writer.write(world, &"z".repeat(150));
        world.wait(15);
        writer.write(world, "z\nnext\n");
        world.wait_for(2);
        world.wait(2);
        assert_lines(world, &[&"z".repeat(100), "next"]);
        assert_eq!(world.sum(|counters| counters.truncated_events.get()), 1);
    });
}

#[test]
fn rotated_file_with_space_at_its_end_is_closed() {
    for room in [10, 100_000, 2_000_000] {
        check(&[PATH], |world| {
            world.append(PATH, &format!("one\nlast{}", "\0".repeat(room)));
            world.start();
            world.wait_for(1);
            world.outside.remove(PATH).expect("removed");
            world.wait_for(2);
            world.wait(15);
            assert_lines(world, &["one", "last"]);
            assert_eq!(world.sum(|counters| counters.files.get()), 0);
            assert!(world.log.borrow().sources.values().all(|kept| kept.gone));
        });
    }
}

#[test]
fn last_line_after_a_hole_is_not_taken_for_a_long_one_at_the_next_start() {
    check(&["/log/app.log*"], |world| {
        world.settings.max_line_bytes = ByteSize(100);
        let mut writer = writer(world);
        writer.offset = 700_000;
        writer.write(world, "last");
        world.start();
        world.wait(2);
        world.rename(PATH, "/log/app.log.old");
        world.wait_for(1);
        world.kill();
        world.append("/log/app.log.old", " or not\nnext\n");
        world.start();
        world.wait_for(3);
        assert_lines(world, &["last", " or not", "next"]);
    });
}

/// All files then begin alike, and there may be a hole before the position in each of them.
#[test]
fn copies_of_files_with_holes_are_read_from_where_the_truncated_file_was_read_to() {
    check(&["/log/app.log*"], |world| {
        let mut writer = writer(world);
        writer.offset = 100_000;
        world.start();
        let mut lines = Vec::new();
        for round in 0..8 {
            let more = numbered(round * 10_000, round * 10_000 + [1, 40, 900, 5000][round % 4]);
            writer.write(world, &text(&more));
            lines.extend(more);
            world.wait_for(lines.len());
            let late = format!("late {round}");
            if round % 2 == 0 {
                // The end of the line is seen only in the copy before it is gone.
                writer.write(world, &late);
                world.wait(3);
                writer.write(world, "\n");
                lines.push(late);
            }
            let content = world.outside.read(PATH).expect("there");
            world.outside.truncate(PATH, 0).expect("truncated");
            world.outside.write(format!("/log/app.log.{round}"), &content).expect("written");
            world.wait(round as u64 % 3 * 3);
        }
        world.wait(10);
        world.expect(&lines);
    });
}

#[test]
fn start_at_the_end_begins_before_preallocated_space() {
    for room in [10, 2_000_000] {
        check(&[PATH], |world| {
            world.settings.start_at = StartAt::End;
            let mut writer = writer(world);
            writer.write(world, "old\nhal");
            world.outside.truncate(PATH, room).expect("longer");
            world.start();
            world.wait(15);
            writer.write(world, "f\nnew\n");
            world.wait_for(2);
            assert_lines(world, &["half", "new"]);
        });
    }
}

/// A part of the file is not in the WAL, and that part begins with a hole.
#[test]
fn hole_in_a_gap_of_the_wal_is_skipped() {
    for hole in [10, 100_000, 2_000_000] {
        check(&[PATH], |world| {
            let mut writer = writer(world);
            writer.write(world, "one\n");
            world.start();
            world.wait_for(1);
            writer.offset += hole;
            writer.write(world, "two\n");
            world.wait_for(2);
            let second = writer.offset;
            writer.write(world, "three\n");
            world.wait_for(3);
            world.kill();
            for kept in world.log.borrow_mut().sources.values_mut() {
                kept.intervals = vec![(0, 4), (second, writer.offset)];
            }
            world.start();
            world.wait_for(4);
            world.wait(3);
            assert_lines(world, &["one", "two", "three", "two"]);
        });
    }
}

/// Zeros that were written, not holes. They fill several searches, all of which would fit in one turn.
const ZEROS: usize = 1 << 20;

/// Number of such files. With one more, they are found together.
const HOLLOW: usize = 7;

fn zeros_and(line: &str) -> Vec<u8> {
    [vec![0; ZEROS], line.as_bytes().to_vec()].concat()
}

/// Files that must be searched share one turn: a file that was found after all of them is read before most of them.
#[test]
fn any_number_of_files_full_of_nuls_delays_others_by_one_search() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*"]);
        world.shards = 1;
        for file in 0..HOLLOW {
            world.outside.write(format!("/log/{file}.log"), &zeros_and("hollow\n")).expect("written");
        }
        world.append("/log/z.log", "other\n");
        world.start();
        world.wait_for(HOLLOW + 1);
        let other = world.log.borrow().lines.iter().position(|line| line == "other");
        // Until its turn, there is one search for each of the others, and each of them needs two.
        assert!(other.is_some_and(|other| other <= 4), "seed {seed}: {other:?}");
        world.wait(15);
        assert_eq!(world.log.borrow().lines.len(), HOLLOW + 1);
    }
}

/// Where a position behind NULs is in its line is found in steps after a restart, while others are read.
#[test]
fn restart_behind_nuls_delays_others_by_one_step_and_repeats_nothing() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*"]);
        world.shards = 1;
        world.append("/log/z.log", "one\n");
        for file in 0..HOLLOW {
            world.outside.write(format!("/log/{file}.log"), &zeros_and("half")).expect("written");
        }
        world.start();
        world.wait_for(1);
        // Renamed, so that half a line counts as complete and the position is behind it.
        (0..HOLLOW).for_each(|file| world.rename(&format!("/log/{file}.log"), &format!("/log/{file}.old")));
        world.wait_for(HOLLOW + 1);
        world.wait(10);
        world.kill();
        (0..HOLLOW).for_each(|file| world.append(&format!("/log/{file}.old"), " and the rest\n"));
        world.append("/log/z.log", "two\n");
        world.start();
        world.wait_for(2 * HOLLOW + 2);
        world.wait(10);
        let log = world.log.borrow();
        assert_eq!(log.lines[HOLLOW + 1], "two", "seed {seed}");
        let count = |wanted: &str| log.lines.iter().filter(|line| *line == wanted).count();
        assert_eq!((log.lines.len(), count("half"), count(" and the rest")), (2 * HOLLOW + 2, HOLLOW, HOLLOW));
    }
}

/// The place where reading starts is found in steps too, and what was skipped on purpose stays skipped.
#[test]
fn start_at_the_end_of_files_full_of_nuls_is_found_in_steps() {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, &["/log/*"]);
        world.settings.start_at = StartAt::End;
        world.shards = 1;
        for file in 0..10 {
            world.append(&format!("/log/{file}.log"), "old\nhal");
            world.append(&format!("/log/{file}.log"), &"\0".repeat(ZEROS));
        }
        world.append("/log/z.log", "old\n");
        world.start();
        world.wait(5);
        world.append("/log/z.log", "new\n");
        (0..10).for_each(|file| world.append(&format!("/log/{file}.log"), "f\nnext\n"));
        world.wait_for(21);
        world.wait(15);
        world.kill();
        world.start();
        world.wait(5);
        let log = world.log.borrow();
        let count = |wanted: &str| log.lines.iter().filter(|line| line.replace('\0', "") == wanted).count();
        let counts = (log.lines.len(), count("new"), count("hal"), count("next"));
        assert_eq!(counts, (21, 1, 10, 10), "seed {seed}");
        assert!(log.sources.values().all(|kept| kept.intervals.len() == 1 && kept.intervals[0].0 == 0));
    }
}
