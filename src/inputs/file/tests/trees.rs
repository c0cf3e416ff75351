//! Several trees that hang, as with many mounts of one file server: what is beside them is read.

use super::hanging::{goes_on, hang, hanging_paths, has, make, stuck};
use super::*;

/// With few seeds, because much time passes.
fn check_few(include: &[&str], case: impl Fn(&mut World)) {
    (0..3).for_each(|seed| case(&mut World::new(seed, include)));
}

/// Each of these paths keeps one call, and is tried again as long as few hang.
#[test]
fn many_trees_that_hang_delay_no_other() {
    const DEAD: usize = 14;
    check_few(&["/log/*/*.log"], |world| {
        make(world, &["/log/app"]);
        for number in 0..DEAD {
            make(world, &[&format!("/log/dead-{number}")]);
            world.append(&format!("/log/dead-{number}/a.log"), &format!("late {number}\n"));
            hang(world, &format!("/log/dead-{number}"), true);
        }
        world.append("/log/app/old.log", "first\n");
        world.start();
        // Each of them takes a few seconds.
        goes_on(world, 1, Duration::from_secs(100));
        // Another one after the attempts that follow.
        for number in 2..4 {
            world.wait(700);
            assert_eq!(hanging_paths(world), DEAD as u64, "seed {}", world.simulation.seed());
            let line = format!("more {number}");
            world.append("/log/app/old.log", &format!("{line}\n"));
            goes_on(world, number, Duration::from_secs(5));
            make(world, &[&format!("/log/new-{number}")]);
            world.append(&format!("/log/new-{number}/new.log"), &format!("new {number}\n"));
            world.wait(5);
            assert!(has(world, &line) && has(world, &format!("new {number}")));
        }
        (0..DEAD).for_each(|number| hang(world, &format!("/log/dead-{number}"), false));
        world.wait(90);
        assert!((0..DEAD).all(|number| has(world, &format!("late {number}"))));
        assert_eq!((hanging_paths(world), stuck(world)), (0, 0));
    });
}

/// Patterns have nothing in common above their fixed parts.
#[test]
fn fixed_parts_that_hang_delay_no_fixed_part_beside_them() {
    let globs = ["/srv/app/*.log", "/srv/a/*.log", "/srv/b/*.log", "/srv/c/*.log", "/srv/d/*.log", "/srv/e/*.log"];
    check(&globs, |world| {
        make(world, &["/srv/app", "/srv/a", "/srv/b", "/srv/c", "/srv/d", "/srv/e"]);
        world.append("/srv/app/app.log", "first\n");
        world.start();
        world.wait_for(1);
        for name in ["a", "b", "c", "d", "e"] {
            hang(world, &format!("/srv/{name}"), true);
        }
        world.wait(60);
        world.append("/srv/app/app.log", "second\n");
        world.append("/srv/app/new.log", "third\n");
        world.wait(5);
        assert!(has(world, "second") && has(world, "third"), "seed {}", world.simulation.seed());
    });
}

/// If all of a fixed part is dead, it does not keep a call for each of its trees.
#[test]
fn fixed_part_that_hangs_with_many_trees_is_set_aside_as_a_whole() {
    const TREES: usize = 40;
    check_few(&["/dead/*/*.log", "/log/app/*.log"], |world| {
        make(world, &["/log/app"]);
        for number in 0..TREES {
            make(world, &[&format!("/dead/{number}")]);
            world.append(&format!("/dead/{number}/a.log"), &format!("first {number}\n"));
        }
        world.start();
        world.wait_for(TREES);
        // The server still answers for its root, as a cache may.
        (0..TREES).for_each(|number| hang(world, &format!("/dead/{number}"), true));
        world.wait(15);
        hang(world, "/dead", true);
        world.wait(60);
        goes_on(world, 1, Duration::from_secs(5));
        world.wait(1200);
        goes_on(world, 2, Duration::from_secs(5));
        assert!(stuck(world) < 30, "seed {}: {}", world.simulation.seed(), stuck(world));
        (0..TREES).for_each(|number| hang(world, &format!("/dead/{number}"), false));
        hang(world, "/dead", false);
        (0..TREES).for_each(|number| world.append(&format!("/dead/{number}/a.log"), &format!("second {number}\n")));
        world.wait(150);
        assert!((0..TREES).all(|number| has(world, &format!("second {number}"))), "{:?}", world.log.borrow().lines);
    });
}

/// Closing a file may hang like opening it, also when it answered late.
#[test]
fn files_that_hang_are_closed_by_no_task() {
    check_few(&["/log/*/*.log"], |world| {
        world.shards = 1;
        world.simulation.disk().set_remote(true);
        make(world, &["/log/app", "/log/dead"]);
        for file in 0..40 {
            world.append(&format!("/log/app/{file}.log"), "other\n");
        }
        world.start();
        world.wait_for(40);
        // So many are open that it is closed again, and opened when it grows.
        world.append("/log/dead/a.log", "first\n");
        world.wait_for(41);
        world.wait(20);
        hang(world, "/log/dead/a.log", true);
        world.append("/log/dead/a.log", "second\n");
        let begins = (0..500).any(|_| {
            world.simulation.run_for(Duration::from_millis(100));
            stuck(world) > 0
        });
        assert!(begins, "seed {}", world.simulation.seed());
        // Longer than anything waits for it, and shorter than until it is set aside.
        world.simulation.run_for(Duration::from_millis(5500));
        hang(world, "/log/dead/a.log", false);
        let answers = (0..100_000).any(|_| {
            world.simulation.run_steps(1);
            stuck(world) == 0
        });
        assert!(answers, "seed {}", world.simulation.seed());
        hang(world, "/log/dead/a.log", true);
        world.wait(10);
        // With files that are open at the end.
        hang(world, "/log/app", true);
        world.drain();
        let closed = world.simulation.disk().closed_in_tasks();
        assert!(closed.is_empty(), "seed {}: {closed:?}", world.simulation.seed());
    });
}
