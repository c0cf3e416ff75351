//! More files than there is room for, most of them of one user.

use super::*;

fn eve(world: &World, files: std::ops::Range<usize>) {
    ["/log/eve", "/log/app", "/log/new"]
        .iter()
        .for_each(|directory| world.outside.create_dir_all(directory).expect("made"));
    for file in files {
        let path = format!("/log/eve/{file}.log");
        world.append(&path, &format!("eve {file}\n"));
        world.outside.set_owner(&path, 1000).expect("given");
    }
}

/// The files of Eve of which something was read, in order.
fn read_of_eve(world: &World) -> Vec<usize> {
    let log = world.log.borrow();
    let numbers = log.lines.iter().filter_map(|line| line.strip_prefix("eve ")?.parse().ok());
    numbers.collect()
}

/// More files of Eve than there is room for. Returns those that were read.
fn crowded(world: &mut World, files: usize) -> Vec<usize> {
    world.room = 20_000;
    eve(world, 0..files);
    world.start();
    world.wait(5);
    read_of_eve(world)
}

fn wait_for_line(world: &mut World, line: &str) {
    let log = world.log.clone();
    world.simulation.must(line, || log.borrow().lines.iter().any(|have| have == line), LONG);
}

#[test]
fn files_of_one_user_leave_room_for_others_and_come_when_there_is_room() {
    check(&["/log/*/*.log"], |world| {
        world.room = 20_000;
        eve(world, 0..150);
        world.append("/log/app/app.log", "first\n");
        world.start();
        wait_for_line(world, "first");
        world.wait(3);
        let first = read_of_eve(world);
        assert!((50..=64).contains(&first.len()), "{}", first.len());
        assert_eq!(world.sum(|counters| counters.files_waiting.get()), 150 - first.len() as u64);
        // What an earlier run followed has its room before anything new.
        world.kill();
        eve(world, 150..200);
        world.append("/log/app/app.log", "second\n");
        world.append("/log/new/new.log", "third\n");
        world.start();
        wait_for_line(world, "second");
        wait_for_line(world, "third");
        world.wait(3);
        assert_eq!(read_of_eve(world).len(), first.len(), "no other file of Eve has room");
        for _ in 0..20 {
            for file in read_of_eve(world) {
                let _ = world.outside.remove(format!("/log/eve/{file}.log"));
            }
            world.wait(12);
        }
        let mut all = read_of_eve(world);
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>(), "each one was read once");
        assert_eq!(world.sum(|counters| counters.files_waiting.get()), 0);
        let log = world.log.borrow();
        assert_eq!(log.lines.iter().filter(|line| !line.starts_with("eve")).count(), 3);
    });
}

#[test]
fn a_directory_that_goes_during_a_start_keeps_its_room_until_its_files_are_recorded_as_gone() {
    check(&["/log/*/*.log"], |world| {
        let first = crowded(world, 100).len();
        world.kill();
        for file in 100..200 {
            let path = format!("/log/new/{file}.log");
            world.append(&path, &format!("eve {file}\n"));
            world.outside.set_owner(&path, 1000).expect("given");
        }
        world.start();
        world.simulation.run_for(Duration::from_millis(world.simulation.seed()));
        world.outside.remove_dir_all("/log/eve").expect("removed");
        world.wait(90);
        let others = read_of_eve(world).iter().filter(|&&file| file >= 100).count();
        assert!(others > first / 2, "others use the room in the end: {others} after {first}");
    });
}

#[test]
fn rotated_files_keep_their_room() {
    check(&["/log/*/*.log*"], |world| {
        let before = crowded(world, 150);
        for file in before.clone() {
            world.append(&format!("/log/eve/{file}.log"), &format!("eve {}\n", 1000 + file));
            world.rename(&format!("/log/eve/{file}.log"), &format!("/log/eve/{file}.log.old"));
        }
        world.wait(20);
        let mut after = read_of_eve(world);
        after.sort_unstable();
        let mut want: Vec<usize> = before.iter().copied().chain(before.iter().map(|file| 1000 + file)).collect();
        want.sort_unstable();
        assert_eq!(after, want, "nothing is read twice, and nothing else has room");
        // The room that is left is as large as before: nothing was counted twice.
        world.append("/log/app/app.log", "other\n");
        wait_for_line(world, "other");
        for file in before {
            world.outside.remove(format!("/log/eve/{file}.log.old")).expect("removed");
        }
        world.wait(20);
        let now = read_of_eve(world).len();
        assert!(now >= want.len() + 50, "all of it is free again: {now} after {}", want.len());
    });
}

/// Positions do not grow with the number of names, but what is counted does.
/// In a directory where everybody may write.
#[test]
fn files_of_one_user_leave_room_for_those_of_others_in_the_same_directory() {
    check(&["/log/*/*.log*"], |world| {
        world.room = 100_000;
        eve(world, 0..450);
        world.start();
        world.wait(5);
        // While they are renamed, they may use more.
        for file in read_of_eve(world) {
            let path = format!("/log/eve/{file}.log");
            world.rename(&path, &format!("{path}.{}", "9".repeat(200)));
        }
        world.wait(5);
        world.append("/log/eve/ann.log", "first\n");
        world.outside.set_owner("/log/eve/ann.log", 1001).expect("given");
        wait_for_line(world, "first");
        world.rename("/log/eve/ann.log", "/log/eve/ann.log.1");
        world.append("/log/eve/ann.log", "second\n");
        world.outside.set_owner("/log/eve/ann.log", 1001).expect("given");
        wait_for_line(world, "second");
    });
}

#[test]
fn more_names_of_followed_files_leave_room_for_others() {
    check(&["/log/*/*.log"], |world| {
        let before = crowded(world, 150);
        for (file, name) in before.iter().flat_map(|file| (0..3).map(move |name| (file, name))) {
            let (file, name) = (format!("/log/eve/{file}.log"), format!("/log/eve/{file}.{name}.log"));
            world.outside.hard_link(file, name).expect("linked");
        }
        world.wait(10);
        world.append("/log/app/app.log", "other\n");
        wait_for_line(world, "other");
        world.wait(10);
        assert_eq!(read_of_eve(world), before, "no other file of Eve has room");
    });
}

#[test]
fn longer_names_of_followed_files_leave_room_for_others() {
    check(&["/log/*/*.log"], |world| {
        let before = crowded(world, 150);
        let long = |file: &usize| format!("/log/eve/{}{file}.log", "x".repeat(220));
        for file in &before {
            world.rename(&format!("/log/eve/{file}.log"), &long(file));
            world.append(&long(file), &format!("eve {}\n", 1000 + file));
        }
        world.wait(20);
        world.append("/log/app/app.log", "other\n");
        wait_for_line(world, "other");
        for file in (0..150).filter(|file| !before.contains(file)) {
            let _ = world.outside.remove(format!("/log/eve/{file}.log"));
        }
        for file in &before[20..] {
            world.outside.remove(long(file)).expect("removed");
        }
        world.wait(60);
        for file in &before[..20] {
            world.append(&long(file), &format!("eve {}\n", 2000 + file));
        }
        world.wait(20);
        let read = read_of_eve(world);
        let count = |number: usize| read.iter().filter(|have| **have == number).count();
        for file in &before {
            assert!(count(*file) == 1 && count(1000 + file) <= 1, "seed {}: {file}", world.simulation.seed());
        }
        for file in &before[..20] {
            let counts = (count(1000 + file), count(2000 + file));
            assert_eq!(counts, (1, 1), "seed {}: {file}", world.simulation.seed());
        }
    });
}

#[test]
fn many_directories_of_one_user_leave_room_for_others_and_come_when_there_is_room() {
    check(&["/log/**/*.log"], |world| {
        for number in 0..200 {
            let directory = format!("/log/eve/{}/{number}", number % 5);
            world.outside.create_dir_all(&directory).expect("made");
            world.append(&format!("{directory}/a.log"), &format!("eve {number}\n"));
        }
        for directory in std::iter::once("/log/eve".to_owned())
            .chain((0..5).map(|number| format!("/log/eve/{number}")))
            .chain((0..200).map(|number| format!("/log/eve/{}/{number}", number % 5)))
        {
            world.outside.set_owner(&directory, 1000).expect("given");
        }
        world.start();
        world.wait(5);
        let first = read_of_eve(world);
        assert!((60..90).contains(&first.len()), "{}", first.len());
        assert!(world.sum(|counters| counters.files_waiting.get()) > 100);
        world.outside.create_dir_all("/log/app/deep").expect("made");
        world.append("/log/app/deep/app.log", "other\n");
        wait_for_line(world, "other");
        for _ in 0..8 {
            for number in read_of_eve(world) {
                let _ = world.outside.remove_dir_all(format!("/log/eve/{}/{number}", number % 5));
            }
            world.wait(12);
        }
        let mut all = read_of_eve(world);
        all.sort_unstable();
        assert_eq!(all, (0..200).collect::<Vec<_>>(), "each one was read once");
        assert_eq!(world.sum(|counters| counters.files_waiting.get()), 0);
    });
}

#[test]
fn files_that_go_during_a_start_are_read_or_counted_as_lost() {
    check(&["/log/*/*.log"], |world| {
        world.room = 100_000;
        world.blocked.set(true);
        eve(world, 0..200);
        world.start();
        world.wait(5);
        world.kill();
        world.blocked.set(false);
        world.start();
        world.simulation.run_for(Duration::from_millis(world.simulation.seed()));
        world.outside.remove_dir_all("/log/eve").expect("removed");
        world.wait(90);
        let bytes = |file: usize| format!("eve {file}\n").len() as u64;
        let read: u64 = read_of_eve(world).into_iter().map(bytes).sum();
        let all: u64 = (0..200).map(bytes).sum();
        let lost = (world.lost(Lost::Deleted), world.lost(Lost::Truncated));
        assert_eq!(lost, (all - read, 0), "seed {}: {read} bytes were read", world.simulation.seed());
    });
}

/// Each of them waits until it is known whether it is a copy.
#[test]
fn files_of_one_user_that_may_be_copies_do_not_keep_others_waiting() {
    check(&["/log/*/*"], |world| {
        eve(world, 0..1);
        world.append("/log/app/app.log", "first\n");
        world.start();
        world.wait_for(2);
        world.append("/log/app/app.log.1", "first\nnot a copy\n");
        for second in 0..12 {
            for number in 0..40 {
                let name = |second: usize| format!("/log/eve/0.log.{}", 1000 * second + number);
                world.append(&name(second), "");
                world.outside.set_owner(name(second), 1000).expect("given");
                let _ = second.checked_sub(1).map(|earlier| world.outside.remove(name(earlier)));
            }
            world.wait(1);
        }
        let is_read = world.log.borrow().lines.iter().any(|line| line == "not a copy");
        assert!(is_read, "seed {}", world.simulation.seed());
    });
}

/// A file is a copy until its original is truncated. If it may not wait for that, its lines are read twice.
#[test]
fn copy_of_one_user_waits_although_very_many_files_of_another_may_be_copies() {
    check(&["/log/*/*"], |world| {
        eve(world, 0..1);
        world.append("/log/app/app.log", "first\n");
        world.start();
        world.wait_for(2);
        let name = |file: usize| format!("/log/eve/0.log.{file}");
        for file in 0..200 {
            world.append(&name(file), "");
            world.outside.set_owner(name(file), 1000).expect("given");
            let _ = file.checked_sub(60).map(|earlier| world.outside.remove(name(earlier)));
            world.simulation.run_for(Duration::from_millis(50));
            match file {
                100 => world.append("/log/app/app.log.1", "first\n"),
                140 => world.outside.write("/log/app/app.log", b"").expect("truncated"),
                180 => world.append("/log/app/app.log", "second\n"),
                _ => {}
            }
        }
        world.wait(10);
        let log = world.log.borrow();
        let lines: Vec<&String> = log.lines.iter().filter(|line| !line.starts_with("eve")).collect();
        assert_eq!(lines, ["first", "second"], "seed {}", world.simulation.seed());
    });
}

/// Each is longer than a turn of the reader, so it is not read when the next one is opened.
#[test]
fn many_unread_files_of_one_user_leave_descriptors_to_others() {
    for seed in 0..3 {
        let mut world = World::new(seed, &["/log/*/*.log"]);
        world.shards = 1;
        let line = format!("{}\n", "x".repeat(10_000));
        for file in 0..60 {
            eve(&world, file..file + 1);
            world.append(&format!("/log/eve/{file}.log"), &line.repeat(40));
        }
        // What a shard may have open, and some that are about to be.
        world.simulation.disk().set_descriptors_max(Some(42));
        // All of them are found before any is read to its end.
        world.blocked.set(true);
        world.start();
        world.append("/log/app/app.log", "other\n");
        world.wait(10);
        world.blocked.set(false);
        world.wait_for(60 * 41 + 1);
        assert_eq!(world.simulation.disk().struck().exhausted, 0, "seed {seed}");
    }
}

/// At a start, what is beside them does not wait until the many names of somebody else are listed, as if that took long.
#[test]
fn file_that_grew_is_read_at_a_start_before_directories_with_many_names_are_listed() {
    check(&["/log/**/*.log"], |world| {
        let many: Vec<String> = (0..4).map(|number| format!("/log/a-eve/{number}")).collect();
        world.outside.create_dir_all("/log/app/below").expect("made");
        for directory in &many {
            world.outside.create_dir_all(directory).expect("made");
            (0..150).for_each(|file| world.append(&format!("{directory}/{file}.log"), "eve\n"));
        }
        (0..20).for_each(|file| world.append(&format!("/log/app/below/{file}.log"), "app\n"));
        world.start();
        world.wait_for(620);
        world.wait(3);
        world.kill();
        world.append("/log/app/below/7.log", "second\n");
        world.append("/log/app/below/new.log", "third\n");
        let disk = world.simulation.disk().clone();
        many.iter().for_each(|directory| disk.hang_lists(Path::new(directory), true));
        world.start();
        let log = world.log.clone();
        let has = |line: &str| log.borrow().lines.iter().any(|have| have == line);
        world.simulation.must("lines of the others", || has("second") && has("third"), Duration::from_secs(1));
        many.iter().for_each(|directory| disk.hang_lists(Path::new(directory), false));
        many.iter().for_each(|directory| world.append(&format!("{directory}/9.log"), "eve again\n"));
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 626, "each was read once");
    });
}

/// What is missing in a directory may have older lines: then the rest there waits for the end of the scan.
#[test]
fn file_that_was_rotated_while_nothing_ran_is_read_before_the_one_that_took_its_path() {
    check(&["/log/**/*.log"], |world| {
        ["/log/a-eve", "/log/app"].iter().for_each(|directory| world.outside.create_dir_all(directory).expect("made"));
        (0..150).for_each(|file| world.append(&format!("/log/a-eve/{file}.log"), "many\n"));
        world.append("/log/app/app.log", "first\n");
        world.start();
        world.wait_for(151);
        world.wait(3);
        world.kill();
        world.append("/log/app/app.log", "second\n");
        world.rename("/log/app/app.log", "/log/app/app.old");
        world.append("/log/app/app.log", "third\n");
        world.start();
        world.wait(10);
        let log = world.log.borrow();
        let lines: Vec<&String> = log.lines.iter().filter(|line| *line != "many").collect();
        assert_eq!(lines, ["first", "second", "third"]);
    });
}

/// Files of others that cannot be opened are looked at every second: as few of Eve's as leave room for them.
#[test]
fn files_without_number_that_cannot_be_read_are_read_when_they_can_and_delay_no_other() {
    check(&["/log/*/*.log"], |world| {
        let all: Vec<String> =
            (0..8).flat_map(|directory| (0..90).map(move |file| format!("/log/{directory}/{file}.log"))).collect();
        let disk = world.simulation.disk().clone();
        for path in all.iter().map(String::as_str).chain(["/log/app/app.log"]) {
            world.outside.create_dir_all(Path::new(path).parent().expect("a directory")).expect("made");
            world.append(path, "line\n");
            disk.deny(Path::new(path), true).expect("denied");
        }
        (0..8).for_each(|number| world.outside.set_owner(format!("/log/{number}"), 1000).expect("given"));
        world.start();
        world.wait(30);
        disk.deny(Path::new("/log/app/app.log"), false).expect("allowed");
        world.wait(5);
        assert_eq!(world.log.borrow().lines.len(), 1, "it is looked at again");
        all.iter().for_each(|path| disk.deny(Path::new(path), false).expect("allowed"));
        world.wait(60);
        assert_eq!(world.log.borrow().lines.len(), all.len() + 1, "none is forgotten");
    });
}
