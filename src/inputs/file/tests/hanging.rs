//! Directories and files that hang, as on a dead file server: what is beside them is read.

use super::super::patience::LEFT_MAX;
use super::*;
use tailwater_shards::env::Pool;

/// More than what one path and another one in the same tree may keep.
const STUCK_MAX: usize = 7;

pub(super) fn hang(world: &World, path: &str, hanging: bool) {
    world.simulation.disk().hang(Path::new(path), hanging);
}

pub(super) fn make(world: &World, directories: &[&str]) {
    directories.iter().for_each(|directory| world.outside.create_dir_all(directory).expect("made"));
}

/// Appends a line to a file of its own and waits until it is read.
pub(super) fn goes_on(world: &mut World, number: usize, within: Duration) {
    let line = format!("other {number}");
    world.append(&format!("/log/app/{number}.log"), &format!("{line}\n"));
    let log = world.log.clone();
    world.simulation.must(&line, || log.borrow().lines.contains(&line), within);
}

pub(super) fn hanging_paths(world: &World) -> u64 {
    world.sum(|counters| counters.files_hanging.get())
}

pub(super) fn stuck(world: &World) -> usize {
    (0..world.shards).map(|shard| world.simulation.stuck_jobs(ShardId(shard), Pool::Files)).sum()
}

pub(super) fn has(world: &World, line: &str) -> bool {
    world.log.borrow().lines.iter().any(|have| have == line)
}

#[test]
fn directory_that_hangs_delays_no_other_and_is_read_when_it_answers() {
    check(&["/log/**/*.log"], |world| {
        make(world, &["/log/app", "/log/dead/deep"]);
        world.append("/log/dead/dead.log", "late\n");
        world.append("/log/dead/deep/deep.log", "deep\n");
        hang(world, "/log/dead", true);
        world.start();
        goes_on(world, 1, Duration::from_secs(8));
        world.wait(20);
        assert_eq!(hanging_paths(world), 1);
        goes_on(world, 2, Duration::from_secs(5));
        make(world, &["/log/new/below"]);
        world.append("/log/new/below/new.log", "new\n");
        world.wait(5);
        assert!(has(world, "new"));
        world.wait(1200);
        assert!((1..=3).contains(&stuck(world)), "{}", stuck(world));
        goes_on(world, 3, Duration::from_secs(5));
        hang(world, "/log/dead", false);
        world.wait(90);
        assert!(has(world, "late") && has(world, "deep"), "seed {}", world.simulation.seed());
        assert_eq!((hanging_paths(world), stuck(world)), (0, 0));
        assert_eq!(world.log.borrow().lines.len(), 6, "each was read once");
    });
}

/// A stranger makes a directory so large that listing it takes a second, and changes it all the time.
#[test]
fn directory_with_many_names_is_listed_while_others_are_looked_at() {
    check(&["/log/**/*.log"], |world| {
        make(world, &["/log/app", "/log/eve"]);
        (0..200).for_each(|number| world.append(&format!("/log/eve/{number}.log"), "one of many\n"));
        world.start();
        world.wait(10);
        for round in 0..3 {
            let late = [format!("before {round}"), format!("meanwhile {round}")];
            world.append(&format!("/log/eve/before-{round}.log"), &format!("{}\n", late[0]));
            let log = world.log.clone();
            world.simulation.must(&late[0], || log.borrow().lines.contains(&late[0]), Duration::from_secs(1));
            let disk = world.simulation.disk().clone();
            disk.hang_lists(Path::new("/log/eve"), true);
            let is_listed = (0..500).any(|_| {
                world.simulation.run_for(Duration::from_millis(10));
                stuck(world) > 0
            });
            assert!(is_listed, "seed {}", world.simulation.seed());
            world.append(&format!("/log/eve/meanwhile-{round}.log"), &format!("{}\n", late[1]));
            goes_on(world, round, Duration::from_millis(500));
            disk.hang_lists(Path::new("/log/eve"), false);
            world.wait(3);
            assert!(has(world, &late[1]), "seed {}", world.simulation.seed());
        }
        assert_eq!((hanging_paths(world), stuck(world)), (0, 0));
        assert_eq!(world.log.borrow().lines.len(), 209, "each was read once");
    });
}

#[test]
fn base_that_hangs_delays_no_other() {
    check(&["/log/app/*.log", "/dead/logs/*.log", "/log/**/*.txt"], |world| {
        make(world, &["/log/app", "/dead/logs"]);
        world.append("/dead/logs/a.log", "late\n");
        hang(world, "/dead", true);
        world.start();
        world.wait(30);
        goes_on(world, 1, Duration::from_secs(5));
        hang(world, "/dead", false);
        world.wait(90);
        assert!(has(world, "late"));
    });
}

/// A stranger's file system answers where it likes.
#[test]
fn any_number_of_paths_that_hang_keep_few_threads() {
    check(&["/log/**/*.log"], |world| {
        make(world, &["/log/app"]);
        for number in 0..60 {
            make(world, &[&format!("/log/eve/{number}")]);
            let path = format!("/log/eve/{number}/a.log");
            world.append(&path, "never\n");
            hang(world, if number % 2 == 0 { &path[..path.len() - 6] } else { &path }, true);
        }
        world.start();
        world.wait(60);
        goes_on(world, 1, Duration::from_secs(5));
        world.wait(1200);
        let kept = stuck(world);
        assert!((1..=STUCK_MAX).contains(&kept), "seed {}: {kept}", world.simulation.seed());
        goes_on(world, 2, Duration::from_secs(5));
    });
}

#[test]
fn files_that_hang_when_they_are_opened_or_read_delay_no_other() {
    check(&["/log/**/*.log"], |world| {
        world.simulation.disk().set_remote(true);
        make(world, &["/log/app", "/log/dead"]);
        for number in 0..5 {
            world.append(&format!("/log/dead/{number}.log"), &format!("first {number}\n"));
        }
        hang(world, "/log/dead/0.log", true);
        world.start();
        goes_on(world, 1, Duration::from_secs(20));
        world.wait(30);
        assert!((1..5).all(|number| has(world, &format!("first {number}"))));
        for number in 1..5 {
            hang(world, &format!("/log/dead/{number}.log"), true);
            world.append(&format!("/log/dead/{number}.log"), &format!("second {number}\n"));
        }
        world.wait(60);
        goes_on(world, 2, Duration::from_secs(20));
        assert!(stuck(world) <= STUCK_MAX, "{}", stuck(world));
        (0..5).for_each(|number| hang(world, &format!("/log/dead/{number}.log"), false));
        world.wait(150);
        let lines = (0..5).map(|number| format!("first {number}"));
        let more = (1..5).map(|number| format!("second {number}"));
        let other = (1..3).map(|number| format!("other {number}"));
        world.expect(&lines.chain(more).chain(other).collect::<Vec<_>>());
    });
}

#[test]
fn stop_ends_although_something_hangs() {
    check(&["/log/**/*.log"], |world| {
        world.simulation.disk().set_remote(true);
        make(world, &["/log/app", "/log/dead"]);
        world.append("/log/app/0.log", "first\n");
        world.append("/log/dead/a.log", "first\n");
        world.start();
        world.wait_for(2);
        hang(world, "/log/dead", true);
        world.append("/log/dead/a.log", "second\n");
        world.simulation.run_for(Duration::from_millis(700 * world.simulation.seed()));
        let begun = world.simulation.now();
        world.drain();
        let took = world.simulation.now().since(begun);
        assert!(took < Duration::from_secs(5), "seed {}: {took:?}", world.simulation.seed());
    });
}

#[test]
fn files_of_an_earlier_run_in_a_directory_that_hangs_continue_when_it_answers() {
    check(&["/log/**/*.log"], |world| {
        make(world, &["/log/app", "/log/dead"]);
        for number in 0..5 {
            world.append(&format!("/log/dead/{number}.log"), &format!("first {number}\n"));
        }
        world.start();
        world.wait_for(5);
        world.kill();
        for number in 0..5 {
            let (old, new) = (format!("/log/dead/{number}.log"), format!("/log/dead/{number}.old"));
            world.append(&old, &format!("second {number}\n"));
            if number % 2 == 0 {
                world.rename(&old, &new);
            }
        }
        hang(world, "/log/dead", true);
        world.start();
        goes_on(world, 1, Duration::from_secs(30));
        world.wait(200);
        goes_on(world, 2, Duration::from_secs(5));
        hang(world, "/log/dead", false);
        world.wait(150);
        let lines = (0..5).flat_map(|number| [format!("first {number}"), format!("second {number}")]);
        let other = (1..3).map(|number| format!("other {number}"));
        world.expect(&lines.chain(other).collect::<Vec<_>>());
        assert_eq!(world.lost(Lost::Deleted), 0);
    });
}

/// A stranger mounts a file system that takes its time for each of his directories, and always answers.
#[test]
fn tree_that_is_slow_delays_no_other() {
    check(&["/log/**/*.log"], |world| {
        let slow: Vec<String> = (0..12).map(|number| format!("/log/eve/{number}")).collect();
        slow.iter().for_each(|directory| make(world, &[directory]));
        make(world, &["/log/app"]);
        world.start();
        world.wait(5);
        let disk = world.simulation.disk().clone();
        slow.iter().for_each(|directory| disk.hang_lists(Path::new(directory), true));
        let log = world.log.clone();
        for round in 0..20 {
            slow.iter().for_each(|directory| world.append(&format!("{directory}/{round}.log"), "slow\n"));
            let line = format!("other {round}");
            world.append(&format!("/log/app/{round}.log"), &format!("{line}\n"));
            let waited = (0..60).find(|step| {
                world.simulation.run_for(Duration::from_millis(500));
                if step % 3 == 2 {
                    disk.let_a_list_pass();
                }
                log.borrow().lines.contains(&line)
            });
            let most = if round < 5 { 20 } else { 3 };
            assert!(
                waited.is_some_and(|steps| steps <= most),
                "seed {}, round {round}: {waited:?}",
                world.simulation.seed()
            );
        }
        slow.iter().for_each(|directory| disk.hang_lists(Path::new(directory), false));
        world.wait(30);
        let read = log.borrow().lines.iter().filter(|line| *line == "slow").count();
        assert_eq!(read, 12 * 20, "seed {}", world.simulation.seed());
    });
}

/// Appends a line to an old and to a new file, and waits until both are read.
fn lines_and_new_files_are_read(world: &mut World, round: usize, within: Duration) {
    let lines = [format!("new {round}"), format!("more {round}")];
    world.append(&format!("/log/app/new-{round}.log"), &format!("{}\n", lines[0]));
    world.append("/log/app/app.log", &format!("{}\n", lines[1]));
    let log = world.log.clone();
    let what = format!("both lines of round {round}");
    world.simulation.must(&what, || lines.iter().all(|line| log.borrow().lines.contains(line)), within);
}

/// A stranger mounts a file system each of whose calls takes a while.
fn slow_file_system_delays_no_other(takes: Duration) {
    check_some(4, &["/log/**/*.log"], |world| {
        world.simulation.disk().set_remote(true);
        make(world, &["/log/app", "/log/eve/0", "/log/eve/1"]);
        world.append("/log/app/app.log", "app\n");
        let files: Vec<String> = (0..4).map(|number| format!("/log/eve/{}/{number}.log", number % 2)).collect();
        files.iter().for_each(|file| world.append(file, "slow\n"));
        world.start();
        world.wait_for(5);
        let disk = world.simulation.disk().clone();
        disk.slow(Path::new("/log/eve"), takes);
        let mut written = files.len();
        for round in 0..30 {
            if round % 10 == 0 {
                files.iter().for_each(|file| world.append(file, "slow\n"));
                world.append(&format!("/log/eve/0/new-{round}.log"), "slow\n");
                written += files.len() + 1;
            }
            let within = Duration::from_secs(if round < 4 { 6 } else { 2 });
            lines_and_new_files_are_read(world, round, within);
            world.simulation.run_for(Duration::from_secs(1));
        }
        let log = world.log.clone();
        let slow = || log.borrow().lines.iter().filter(|line| *line == "slow").count();
        world.simulation.must("the slow files are read", || slow() == written, Duration::from_secs(1800));
        let left = Duration::from_secs(20);
        files.iter().for_each(|file| world.append(file, "slow\n"));
        world.simulation.run_for(left);
        let begun = world.simulation.now();
        world.drain();
        let took = world.simulation.now().since(begun);
        assert!(took < Duration::from_secs(3), "seed {}: {took:?}", world.simulation.seed());
        assert!(slow() <= written + files.len(), "none was read twice");
        assert_eq!(world.lost(Lost::Deleted) + world.lost(Lost::Truncated), 0);
    });
}

#[test]
fn file_system_whose_calls_take_a_second_and_a_half_delays_no_other() {
    slow_file_system_delays_no_other(Duration::from_millis(1500));
}

#[test]
fn file_system_whose_calls_take_four_seconds_delays_no_other() {
    slow_file_system_delays_no_other(Duration::from_secs(4));
}

#[test]
fn file_system_whose_calls_take_eight_seconds_delays_no_other() {
    slow_file_system_delays_no_other(Duration::from_secs(8));
}

/// All calls that may be left alone are.
#[test]
fn input_that_waits_for_too_many_calls_says_so_and_goes_on_when_one_returns() {
    check_some(2, &["/log/**/*.log"], |world| {
        let trees: Vec<String> = (0..LEFT_MAX + 4).map(|number| format!("/log/dead{number:02}")).collect();
        trees.iter().for_each(|tree| make(world, &[tree]));
        make(world, &["/log/zoe"]);
        trees.iter().for_each(|tree| hang(world, tree, true));
        world.start();
        world.wait(150);
        let told = world.sum(|counters| counters.errors.get());
        let each = LEFT_MAX as u64;
        assert_eq!(told, each + 2, "each call that was left alone, that no more may be, and that nothing is followed");
        world.append("/log/zoe/0.log", "late\n");
        world.wait(20);
        assert!(!has(world, "late"), "it waits");
        trees.iter().for_each(|tree| hang(world, tree, false));
        world.wait_for(1);
    });
}
