//! Bytes that a truncation destroys are counted exactly if they were seen, never too high, and contents are never mixed.

use super::*;

fn lost(world: &World) -> u64 {
    world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get())
}

#[test]
fn growth_that_was_seen_while_the_lane_was_full_counts_when_it_is_truncated() {
    check(&["/log/app.log"], |world| {
        let first = text(&numbered(0, 200_000));
        world.append("/log/app.log", &first);
        world.blocked.set(true);
        world.start();
        world.wait(3);
        let more = text(&numbered(200_000, 250_000));
        world.append("/log/app.log", &more);
        world.wait(3);
        let written = (first.len() + more.len()) as u64;
        assert!(
            world.sum(|counters| counters.unread_bytes.get()) > more.len() as u64,
            "seed {}",
            world.simulation.seed()
        );
        world.outside.write("/log/app.log", b"second generation\n").expect("written");
        world.wait(3);
        world.blocked.set(false);
        let log = world.log.clone();
        let read = || log.borrow().lines.last().is_some_and(|line| line == "second generation");
        world.simulation.must("the new content is read", read, LONG);
        let delivered: usize = world.log.borrow().lines.iter().map(|line| line.len() + 1).sum();
        assert_eq!(lost(world), written - (delivered - "second generation\n".len()) as u64);
    });
}

#[test]
fn longer_new_content_is_not_counted_as_lost() {
    check(&["/log/app.log"], |world| {
        // The growth is then found by polling, which cannot tell which content it belongs to.
        world.simulation.disk().set_watch_silent(true);
        world.append("/log/app.log", "first\n");
        world.start();
        world.wait_for(1);
        for generation in 1..4 {
            world.wait(15);
            let content = text(&numbered(generation * 1000, generation * 1000 + 100 * generation));
            let before = world.log.borrow().lines.len();
            world.outside.write("/log/app.log", content.as_bytes()).expect("written");
            world.wait_for(before + 100 * generation);
        }
        assert_eq!(lost(world), 0);
    });
}

#[test]
fn new_content_of_closed_files_is_not_counted_as_lost() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.log"]);
        world.start_over_quiet_files();
        for path in quiet_files() {
            world.outside.write(path, b"second, and a longer one\n").expect("written");
        }
        world.wait_for(400);
        assert_eq!(lost(&world), 0);
    }
}

/// Bytes that were not read before the truncation are read from the copy.
#[test]
fn copies_under_the_glob_are_read_from_where_the_truncated_file_was_read_to() {
    check(&["/log/app.log*"], |world| {
        world.start();
        let mut lines = Vec::new();
        for round in 0..12 {
            let more = numbered(round * 10_000, round * 10_000 + [1, 40, 900, 9000][round % 4]);
            world.append("/log/app.log", &text(&more));
            lines.extend(more);
            world.wait_for(lines.len());
            let content = world.outside.read("/log/app.log").expect("there");
            // A short file is copied in one step.
            let half = if content.len() > 4096 { content.len() / 2 } else { 0 };
            let copy = format!("/log/app.log.{round}");
            world.outside.write(&copy, &content[..half]).expect("written");
            world.simulation.run_for(Duration::from_millis(300));
            world.outside.append(&copy, &content[half..]).expect("written");
            if round % 3 == 0 {
                // The line is seen only in the copy before it is gone.
                world.append(&copy, "late\n");
                lines.push("late".to_owned());
            }
            world.outside.truncate("/log/app.log", 0).expect("truncated");
            world.wait(if round % 2 == 0 { 6 } else { 1 });
        }
        world.wait(10);
        world.expect(&lines);
        // A copy that is written to is a normal file from there on.
        world.append("/log/app.log.11", "more\n");
        lines.push("more".to_owned());
        world.wait_for(lines.len());
        world.kill();
        world.start();
        world.wait(10);
        world.expect(&lines);
    });
}

#[test]
fn copy_made_while_the_process_was_down_is_read_from_where_the_original_was_read_to() {
    for lines_each in [3, 400] {
        check(&["/log/app.log*"], |world| {
            world.append("/log/app.log", &text(&numbered(0, lines_each)));
            world.start();
            world.wait_for(lines_each);
            world.kill();
            let all = [numbered(0, lines_each), numbered(10_000, 10_000 + lines_each / 3)].concat();
            world.outside.write("/log/app.log.1", text(&all).as_bytes()).expect("written");
            world.outside.write("/log/app.log", text(&numbered(20_000, 20_100)).as_bytes()).expect("written");
            world.start();
            world.wait(15);
            world.expect(&[all, numbered(20_000, 20_100)].concat());
        });
    }
}

#[test]
fn file_with_the_name_of_a_copy_and_its_own_content_is_read() {
    check(&["/log/app.log*"], |world| {
        let header = "# a header that is the same in all files\n".repeat(100);
        let lines = |file: &str| (0..100).map(|number| format!("{file} {number}\n")).collect::<String>();
        world.append("/log/app.log", &format!("{header}{}", lines("live")));
        world.start();
        world.wait_for(200);
        world.append("/log/app.log.1", &format!("{header}{}", lines("one")));
        world.append("/log/app.log.err", &format!("{header}{}", lines("live")));
        world.append("/log/app.log.2", "");
        world.wait_for(600);
        world.append("/log/app.log.2", &lines("two"));
        world.wait_for(700);
        world.wait(5);
        assert_eq!(world.log.borrow().lines.len(), 700);
    });
}

/// Short reads are continued, and the content may be replaced between two reads.
#[test]
fn reads_in_pieces_never_join_two_contents() {
    for seed in 0..60 {
        let mut world = World::new(seed, &["/log/app.log"]);
        world.simulation.disk().set_short_reads(2);
        world.simulation.disk().set_would_block(2);
        let mut prng = world.simulation.prng("contents");
        world.outside.write("/log/app.log", b"").expect("written");
        world.start();
        world.wait(2);
        let mut written = Vec::new();
        for generation in 0..60u64 {
            let lines = prng.between(1, 400);
            // A line of one generation is never a line of another one, wherever it is split.
            let letter = char::from(b'a' + (generation % 26) as u8);
            let line = |number: u64| format!("{generation}-{number}-{}", letter.to_string().repeat(40));
            let content: Vec<String> = (0..lines).map(line).collect();
            world.outside.write("/log/app.log", text(&content).as_bytes()).expect("written");
            written.push(content);
            world.simulation.run_for(Duration::from_micros(prng.between(0, 400)));
        }
        world.wait_for(1);
        world.wait(15);
        let log = world.log.borrow();
        let mut have = log.lines.iter();
        let mut next = have.next();
        for content in &written {
            for line in content {
                if next != Some(line) {
                    break;
                }
                next = have.next();
            }
        }
        assert_eq!(next, None, "seed {seed}: a line that no generation accounts for");
        let all = written.iter().flatten().map(|line| line.len() as u64 + 1).sum::<u64>();
        let delivered = log.lines.iter().map(|line| line.len() as u64 + 1).sum::<u64>();
        assert!(delivered + lost(&world) <= all, "seed {seed}: {delivered} delivered, {} lost of {all}", lost(&world));
    }
}
