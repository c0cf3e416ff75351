//! What truncations destroy is counted to the byte where it was seen, never above, and contents are never mixed.

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
fn new_content_that_is_longer_is_not_counted_as_lost() {
    check(&["/log/app.log"], |world| {
        // Growth is then seen by looking, which cannot tell whose it is.
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
        for file in 0..200 {
            world.append(&format!("/log/{file:03}.log"), "first\n");
        }
        world.start();
        world.wait_for(200);
        world.wait(20);
        for file in 0..200 {
            world.outside.write(format!("/log/{file:03}.log"), b"second, and a longer one\n").expect("written");
        }
        world.wait_for(400);
        assert_eq!(lost(&world), 0);
    }
}

/// Reads that end early are continued, and between two reads the content may become another one.
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
            // A line of one generation is not a line of another one, whatever is cut out of it.
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
