//! Symbolic and hard links that a stranger may have made, and those that are followed.

use super::*;
use crate::inputs::file::own::{Own, is_own};
use crate::inputs::file::patterns::{HardLinks, LinkRules, Patterns};
use crate::inputs::file::scout::{Refusal, Scout};
use tailwater_shards::sim::SimDisk;

fn skipped(world: &World) -> u64 {
    world.sum(|counters| counters.links_skipped.get())
}

fn lines(all: &[&str]) -> Vec<String> {
    all.iter().map(|&line| line.to_owned()).collect()
}

/// A directory that only root may read, beside the logs.
fn make_secret(world: &World) {
    world.outside.create_dir_all("/secret/private").expect("made");
    world.append("/secret/shadow.log", "secret\n");
    world.append("/secret/private/shadow.log", "secret\n");
}

/// Starts, and reads these lines and no others.
fn reads(world: &mut World, expected: &[&str]) {
    world.start();
    world.wait_for(expected.len());
    world.wait(15);
    world.expect(&lines(expected));
}

#[test]
fn links_below_the_fixed_part_of_a_pattern_are_not_followed() {
    check(&["/entry/**/*.log", "/plain/app.log"], |world| {
        make_secret(world);
        world.outside.create_dir_all("/log/deep").expect("made");
        world.outside.create_dir_all("/plain").expect("made");
        world.outside.symlink("/log", "/entry").expect("linked");
        world.outside.symlink("/secret/shadow.log", "/log/file.log").expect("linked");
        world.outside.symlink("/secret/shadow.log", "/log/deep/file.log").expect("linked");
        world.outside.symlink("/secret", "/log/directory").expect("linked");
        world.outside.symlink("/secret/shadow.log", "/plain/app.log").expect("linked");
        world.append("/log/deep/good.log", "one\n");
        reads(world, &["one"]);
        assert_eq!(skipped(world), 4);
        // What takes the place of a link is read.
        world.outside.remove("/log/file.log").expect("removed");
        world.append("/log/file.log", "two\n");
        world.wait_for(2);
        world.wait(3);
        assert_eq!(skipped(world), 3);
        // What was followed is not read on through a link.
        world.rename("/log/deep/good.log", "/log/moved");
        world.outside.symlink("/secret/shadow.log", "/log/deep/good.log").expect("linked");
        world.wait(20);
        world.expect(&lines(&["one", "two"]));
        assert_eq!(skipped(world), 4);
    });
}

#[test]
fn links_lead_only_where_the_settings_say() {
    check(&["/log/**/*.log"], |world| {
        make_secret(world);
        world.settings.exclude = vec!["private".to_owned(), "/log/closed/**".to_owned()];
        world.follow_links_to(&["/pods"]);
        for directory in ["/pods/a/private", "/log/closed", "/log/real"] {
            world.outside.create_dir_all(directory).expect("made");
        }
        for (path, link) in [
            ("/secret/shadow.log", "/log/file.log"),
            ("/secret", "/log/directory"),
            ("/secret/private", "/log/other"),
            ("/pods/a/private/0", "/log/excluded.log"),
            ("/pods/a/private", "/log/hidden"),
            ("/log/closed/x.log", "/log/inside.log"),
            ("/pods/a/0", "/log/allowed.log"),
            ("/log/real/x", "/log/near.log"),
        ] {
            world.outside.symlink(path, link).expect("linked");
        }
        for path in ["/pods/a/private/0", "/pods/a/private/1.log", "/log/closed/x.log"] {
            world.append(path, "excluded\n");
        }
        world.append("/pods/a/0", "one\n");
        world.append("/log/real/x", "two\n");
        world.start();
        world.wait_for(2);
        world.wait(20);
        world.expect(&lines(&["one", "two"]));
        assert_eq!(skipped(world), 6);
        // The reason is gone.
        world.outside.symlink("/pods/a/1", "/log/file.log").expect("linked");
        world.append("/pods/a/1", "three\n");
        world.wait_for(3);
        world.wait(3);
        assert_eq!(skipped(world), 5);
    });
}

/// The pattern begins at a link, so `exclude` names the target by another path than the kernel does.
#[test]
fn exclude_applies_to_targets_by_the_path_of_the_pattern() {
    check(&["/entry/**/*.log"], |world| {
        world.settings.exclude = vec!["/entry/private/**".to_owned()];
        world.follow_links_to(&[]);
        world.outside.create_dir_all("/log/private").expect("made");
        world.outside.symlink("/log", "/entry").expect("linked");
        world.append("/log/private/shadow", "excluded\n");
        world.outside.symlink("/log/private/shadow", "/log/file.log").expect("linked");
        world.append("/log/good.log", "one\n");
        reads(world, &["one"]);
        assert_eq!(skipped(world), 1);
    });
}

/// A symbolic link to a hard link: the directory of the target counts, not that of the link.
#[test]
fn link_to_a_hard_link_that_a_stranger_may_have_made_is_not_read() {
    check(&["/log/*.log"], |world| {
        make_secret(world);
        world.follow_links_to(&["/pods"]);
        for directory in ["/pods/eve", "/pods/root"] {
            world.outside.create_dir_all(directory).expect("made");
        }
        world.outside.set_owner("/pods/eve", 1000).expect("given");
        world.outside.hard_link("/secret/shadow.log", "/pods/eve/0").expect("linked");
        world.outside.symlink("/pods/eve/0", "/log/file.log").expect("linked");
        world.append("/pods/root/0", "one\n");
        world.outside.hard_link("/pods/root/0", "/pods/root/1").expect("linked");
        world.outside.symlink("/pods/root/0", "/log/good.log").expect("linked");
        reads(world, &["one"]);
        assert_eq!(skipped(world), 1);
    });
}

/// A name that was listed as a plain file may be something else when it is opened.
#[test]
fn what_is_about_to_be_opened_is_judged_again() {
    let disk = SimDisk::new(1);
    let outside = disk.outside();
    for directory in ["/log", "/secret", "/data"] {
        outside.create_dir_all(directory).expect("made");
    }
    outside.set_owner("/log", 1000).expect("given");
    for path in ["/secret/shadow", "/log/good.log", "/data/own.log"] {
        outside.write(path, b"line\n").expect("written");
    }
    outside.hard_link("/secret/shadow", "/log/hard.log").expect("linked");
    outside.symlink("/secret/shadow", "/log/soft.log").expect("linked");
    let own = Own::default().with_process(&disk, Path::new("/data"));
    for follow in [false, true] {
        let include = ["/log/*.log".to_owned(), "/data/*.log".to_owned()];
        let patterns = Patterns::new(&include, &[], Path::new("/")).expect("valid");
        let patterns = patterns.with(LinkRules { follow, ..LinkRules::default() }, own.clone());
        let scout = Scout::new(&disk, &patterns);
        let refusal = |path: &str| scout.find(Path::new(path)).map(drop).expect_err(path);
        assert!(scout.find(Path::new("/log/good.log")).is_ok());
        assert!(matches!(Refusal::of(&refusal("/log/hard.log")), Some(Refusal::HardLink(_))));
        let soft = Refusal::of(&refusal("/log/soft.log")).cloned();
        assert!(matches!(soft, Some(Refusal::Outside(_)) if follow) || soft == Some(Refusal::Link) && !follow);
        assert!(is_own(&refusal("/data/own.log")));
    }
}

#[test]
fn hard_link_that_a_stranger_may_have_made_is_not_read() {
    check(&["/log/*/*.log"], |world| {
        make_secret(world);
        for (directory, owner) in [("/log/eve", 1000), ("/log/root", 0)] {
            world.outside.create_dir_all(directory).expect("made");
            world.outside.set_owner(directory, owner).expect("given");
        }
        world.outside.hard_link("/secret/shadow.log", "/log/eve/a.log").expect("linked");
        for number in 0..20 {
            world.outside.hard_link("/secret/shadow.log", format!("/log/eve/{number}.log")).expect("linked");
        }
        // Eve's own file, and one that root linked.
        world.append("/log/eve/own.log", "one\n");
        world.outside.set_owner("/log/eve/own.log", 1000).expect("given");
        world.outside.hard_link("/log/eve/own.log", "/log/eve/own.log.1").expect("linked");
        world.append("/log/root/x.log", "two\n");
        world.outside.hard_link("/log/root/x.log", "/log/root/x.log.1").expect("linked");
        reads(world, &["one", "two"]);
        assert_eq!(skipped(world), 21);
        world.settings.hard_links = HardLinks::Any;
        world.kill();
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.expect(&lines(&["one", "two", "secret"]));
        assert_eq!(skipped(world), 0);
    });
}

/// Rotation by links: the file is linked to its new name before the old one is removed.
#[test]
fn rotation_by_links_is_followed_where_it_is_not_trusted() {
    check(&["/log/app.log"], |world| {
        world.outside.set_owner("/log", 1000).expect("given");
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.outside.hard_link("/log/app.log", "/log/app.log.1").expect("linked");
        world.wait(20);
        world.append("/log/app.log", "two\n");
        world.wait_for(2);
        world.wait(3);
        world.outside.remove("/log/app.log").expect("removed");
        world.append("/log/app.log", "three\n");
        world.append("/log/app.log.1", "late\n");
        world.wait_for(4);
        world.wait(3);
        world.expect(&lines(&["one", "two", "three", "late"]));
    });
}

/// The pattern matches both names, so the new one is refused until it is the only one.
#[test]
fn second_name_of_a_followed_file_is_read_when_it_is_the_only_one() {
    check(&["/log/app.log*"], |world| {
        world.outside.set_owner("/log", 1000).expect("given");
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.outside.hard_link("/log/app.log", "/log/app.log.1").expect("linked");
        world.wait(5);
        assert_eq!(skipped(world), 1);
        world.outside.remove("/log/app.log").expect("removed");
        world.append("/log/app.log", "two\n");
        world.wait(60);
        world.append("/log/app.log.1", "late\n");
        world.wait_for(3);
        world.expect(&lines(&["one", "two", "late"]));
        assert_eq!(skipped(world), 0);
    });
}

/// The owner removes his name. What is left is the stranger's, in a directory of his own or in one where everybody may write.
#[test]
fn hard_link_that_was_refused_is_not_read_when_it_is_the_only_name() {
    check(&["/log/*/*.log"], |world| {
        for (directory, owner) in [("/log/eve", 1000), ("/log/all", 0)] {
            world.outside.create_dir_all(directory).expect("made");
            world.outside.set_owner(directory, owner).expect("given");
        }
        world.outside.set_mode("/log/all", 0o1777).expect("set");
        for name in ["eve", "all"] {
            let (original, link) = (format!("/private-{name}"), format!("/log/{name}/grab.log"));
            world.append(&original, "secret\n");
            world.outside.set_owner(&original, 1001).expect("given");
            world.outside.hard_link(&original, link).expect("linked");
        }
        world.append("/log/eve/good.log", "one\n");
        world.start();
        world.wait_for(1);
        world.wait(5);
        assert_eq!(skipped(world), 2);
        for original in ["/private-eve", "/private-all"] {
            world.append(original, "more\n");
            world.outside.remove(original).expect("removed");
        }
        world.wait(30);
        world.expect(&lines(&["one"]));
        assert_eq!(skipped(world), 2);
        // Many files of the stranger's own push out none of another owner.
        for number in 0..100 {
            let path = format!("/own-{number}");
            world.append(&path, "own\n");
            world.outside.set_owner(&path, 1000).expect("given");
            world.outside.hard_link(&path, format!("/log/all/{number}.log")).expect("linked");
        }
        world.wait(30);
        world.rename("/log/eve/grab.log", "/log/eve/other.log");
        world.wait(30);
        world.expect(&lines(&["one"]));
    });
}

/// The directory itself is not excluded, only what is in it: the path that leads there has another name than the pattern.
#[test]
fn exclude_applies_to_everything_behind_a_link_to_a_directory() {
    for exclude in [
        "/pods/closed/*",
        "/pods/closed/**",
        "/pods/closed/",
        "/pods/closed/0.log",
        "/pods//closed/./*",
        "/alias/closed/*",
        "/alias/closed/0.log",
        "closed/",
        "/pods/*/0.log",
    ] {
        check(&["/log/**"], |world| {
            world.settings.exclude = vec![exclude.to_owned()];
            world.follow_links_to(&["/pods"]);
            for directory in ["/pods/closed/deep", "/pods/open", "/log/eve"] {
                world.outside.create_dir_all(directory).expect("made");
            }
            world.outside.symlink("/pods", "/alias").expect("linked");
            world.append("/pods/closed/0.log", "secret\n");
            world.append("/pods/open/1.log", "one\n");
            world.outside.symlink("/pods", "/log/eve/x").expect("linked");
            world.outside.symlink("/pods/closed", "/log/eve/y").expect("linked");
            world.outside.symlink("/alias/closed/0.log", "/log/eve/z.log").expect("linked");
            world.start();
            world.wait_for(1);
            world.wait(15);
            // While it is listed already.
            world.append("/pods/closed/0.log", "secret\n");
            world.wait(15);
            world.expect(&lines(&["one"]));
        });
    }
}

/// A link in the fixed part is the administrator's, and what he excludes may be named by the path that it leads to.
#[test]
fn exclude_applies_behind_a_link_in_the_fixed_part() {
    check(&["/entry/*/*.log"], |world| {
        world.settings.exclude = vec!["/log/closed/*".to_owned()];
        world.outside.create_dir_all("/log/closed").expect("made");
        world.outside.create_dir_all("/log/open").expect("made");
        world.outside.symlink("/log", "/entry").expect("linked");
        world.append("/log/closed/0.log", "secret\n");
        world.append("/log/open/0.log", "one\n");
        reads(world, &["one"]);
    });
}

#[test]
fn data_directory_is_not_read() {
    check(&["/log/*", "/**/wal.log"], |world| {
        world.outside.create_dir_all("/data/deep").expect("made");
        world.append("/data/deep/wal.log", "own\n");
        world.follow_links_to(&["/"]);
        world.outside.symlink("/data/deep/wal.log", "/log/link").expect("linked");
        world.outside.symlink("/data", "/log/wal.log").expect("linked");
        world.append("/log/good", "one\n");
        reads(world, &["one"]);
    });
}

/// The target is rotated while nothing runs: its last lines are in the directory of the target, not in that of the link.
#[test]
fn target_that_was_rotated_while_the_process_was_down_is_read_to_its_end() {
    for compressed in [false, true] {
        check(&["/log/containers/*.log"], |world| {
            // That is said of names to be followed, not of what became of a file that was.
            world.settings.exclude = vec!["*.gz".to_owned(), "/docker/1/*.1".to_owned()];
            world.follow_links_to(&["/log/pods", "/docker"]);
            for directory in ["/log/containers", "/log/pods/a", "/docker/1"] {
                world.outside.create_dir_all(directory).expect("made");
            }
            world.outside.symlink("/docker/1/1-json.log", "/log/pods/a/0.log").expect("linked");
            world.outside.symlink("/log/pods/a/0.log", "/log/containers/a.log").expect("linked");
            let all = numbered(0, 3_000);
            world.append("/docker/1/1-json.log", &text(&all[..1_000]));
            world.start();
            world.wait_for(1_000);
            world.wait(2);
            world.kill();
            world.append("/docker/1/1-json.log", &text(&all[1_000..2_000]));
            world.rename("/docker/1/1-json.log", "/docker/1/1-json.log.1");
            if compressed {
                let whole = world.outside.read("/docker/1/1-json.log.1").expect("there");
                world.outside.write("/docker/1/1-json.log.1.gz", &gzip(&whole)).expect("written");
                world.outside.remove("/docker/1/1-json.log.1").expect("removed");
            }
            world.append("/docker/1/1-json.log", &text(&all[2_000..]));
            world.start();
            world.wait_for(all.len());
            world.wait(10);
            world.expect(&all);
            assert_eq!(world.lost(Lost::Deleted), 0);
        });
    }
}

/// What became of a file that was read is shown by its content, so its name may be excluded, also behind a link.
#[test]
fn archive_behind_a_link_is_found_although_its_name_is_excluded() {
    check(&["/entry/*"], |world| {
        world.settings.exclude = vec!["*.gz".to_owned()];
        world.outside.symlink("/log", "/entry").expect("linked");
        let all = numbered(0, 2_000);
        world.append("/log/app.log", &text(&all[..1_000]));
        world.start();
        world.wait_for(1_000);
        world.wait(2);
        world.kill();
        world.append("/log/app.log", &text(&all[1_000..]));
        let whole = world.outside.read("/log/app.log").expect("there");
        world.outside.write("/log/app.log.1.gz", &gzip(&whole)).expect("written");
        world.outside.remove("/log/app.log").expect("removed");
        world.start();
        world.wait_for(all.len());
        world.expect(&all);
    });
}

/// The fixed part passes a link. Who made it, and whose the directory is that it leads to, decides.
#[test]
fn link_in_the_fixed_part_is_followed_if_its_maker_owns_what_it_leads_to() {
    for (maker, owner, is_read) in
        [(0, 1000, true), (0, 0, true), (1000, 1000, true), (1000, 0, false), (1000, 1001, false)]
    {
        for chain in [false, true] {
            check(&["/home/eve/logs/*.log", "/log/*.log"], |world| {
                world.outside.create_dir_all("/home/eve").expect("made");
                world.outside.create_dir_all("/target").expect("made");
                world.outside.set_owner("/target", owner).expect("given");
                world.append("/target/app.log", "behind\n");
                world.append("/log/app.log", "one\n");
                world.outside.symlink("../../target", "/home/eve/link").expect("linked");
                world.outside.set_link_owner("/home/eve/link", maker).expect("given");
                // Root's link to it proves nothing.
                match chain {
                    true => world.outside.symlink("/home/eve/link", "/home/eve/logs").expect("linked"),
                    false => world.rename("/home/eve/link", "/home/eve/logs"),
                }
                world.start();
                world.wait_for(1 + usize::from(is_read));
                world.wait(15);
                let all = if is_read { lines(&["one", "behind"]) } else { lines(&["one"]) };
                world.expect(&all);
            });
        }
    }
}

/// Files are followed, and then their directory becomes a link. What a link below may lead to is not extended by that.
#[test]
fn fixed_part_that_becomes_a_link_of_a_stranger_is_left_alone() {
    check(&["/home/eve/logs/*.log"], |world| {
        make_secret(world);
        world.follow_links_to(&["/home/eve/pods"]);
        for directory in ["/home/eve/logs", "/log/aside"] {
            world.outside.create_dir_all(directory).expect("made");
            world.outside.set_owner(directory, 1000).expect("given");
        }
        world.append("/home/eve/logs/shadow.log", "one\n");
        world.outside.symlink("/secret", "/home/eve/pods").expect("linked");
        world.outside.set_link_owner("/home/eve/pods", 1000).expect("given");
        world.outside.symlink("/secret/shadow.log", "/home/eve/logs/soft.log").expect("linked");
        world.start();
        world.wait_for(1);
        world.wait(15);
        world.rename("/home/eve/logs", "/home/eve/old");
        world.outside.symlink("/secret", "/home/eve/logs").expect("linked");
        world.outside.set_link_owner("/home/eve/logs", 1000).expect("given");
        world.wait(30);
        world.append("/secret/shadow.log", "secret\n");
        world.wait(30);
        world.outside.remove("/home/eve/logs").expect("removed");
        world.rename("/home/eve/old", "/home/eve/logs");
        world.append("/home/eve/logs/shadow.log", "two\n");
        world.wait_for(2);
        world.wait(3);
        world.expect(&lines(&["one", "two"]));
    });
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// A quiet file without a watch is looked at every ten seconds.
#[test]
fn lines_behind_a_link_are_read_at_once_whatever_it_led_to_before() {
    check(&["/log/*.log"], |world| {
        world.follow_links_to(&["/behind"]);
        world.outside.create_dir_all("/behind").expect("made");
        world.append("/behind/one", "one\n");
        world.append("/behind/two", "two\n");
        world.append("/log/own.log", "own\n");
        world.outside.symlink("/behind/one", "/log/app.log").expect("linked");
        world.outside.symlink("/log/own.log", "/log/other.log").expect("linked");
        world.start();
        world.wait_for(2);
        world.wait(20);
        world.outside.remove("/log/app.log").expect("removed");
        world.outside.symlink("/behind/two", "/log/app.log").expect("linked");
        world.outside.remove("/log/other.log").expect("removed");
        world.wait_for(3);
        world.wait(40);
        for (path, line) in [("/behind/two", "late"), ("/log/own.log", "later")] {
            world.append(path, &format!("{line}\n"));
            world.simulation.run_for(Duration::from_millis(200));
            let log = world.log.borrow();
            assert!(log.lines.iter().any(|have| have == line), "seed {}: {line}", world.simulation.seed());
        }
    });
}

#[test]
fn links_without_room_are_counted_once_and_not_kept() {
    check(&["/log/*/*.log"], |world| {
        world.follow_links_to(&["/behind"]);
        world.room = 20_000;
        for directory in ["/behind", "/log/eve"] {
            world.outside.create_dir_all(directory).expect("made");
        }
        for file in 0..150 {
            world.append(&format!("/behind/{file}"), &format!("{file}\n"));
            world.outside.symlink(format!("/behind/{file}"), format!("/log/eve/{file}.log")).expect("linked");
        }
        world.start();
        world.wait(40);
        let followed = world.sum(|counters| counters.files.get());
        assert!((50..=64).contains(&followed), "{followed}");
        assert_eq!(world.sum(|counters| counters.files_waiting.get()), 150 - followed);
    });
}
