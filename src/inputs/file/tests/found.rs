//! Files that were followed and are not at their path at the next start: renamed, copied, compressed, or gone.

use super::*;
use std::io::Write;
use tailwater_shards::env::Disk;

const PATH: &str = "/log/app.log";

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("memory");
    encoder.finish().expect("memory")
}

fn zstd(text: &str) -> Vec<u8> {
    zstd::encode_all(text.as_bytes(), 1).expect("memory")
}

/// Writes a file with these bytes, compressed or as they are.
fn put(world: &World, path: &str, bytes: &[u8]) {
    world.outside.write(path, bytes).expect("written");
}

/// An earlier run has read these lines.
fn read_before(world: &mut World, lines: &[String]) {
    world.append(PATH, &text(lines));
    world.start();
    world.wait_for(lines.len());
    world.wait(3);
    world.end();
}

/// The lanes are full and files with unread bytes were renamed out of the pattern when the process ends. The next start reads
/// them, oldest first.
#[test]
fn files_that_were_renamed_with_unread_bytes_are_found_by_the_next_start() {
    check(&[PATH], |world| {
        let lines = numbered(0, 240_000);
        world.start();
        world.wait(1);
        world.blocked.set(true);
        for (generation, piece) in lines.chunks(60_000).enumerate() {
            world.append(PATH, &text(piece));
            world.wait(3);
            world.rename(PATH, &format!("{PATH}.{generation}"));
        }
        world.wait(3);
        world.end();
        world.start();
        world.wait_for(lines.len());
        world.wait(10);
        if world.shards == 1 {
            world.assert_order(&lines);
        } else {
            world.expect(&lines);
        }
        assert_eq!((world.lost(Lost::Deleted), world.lost(Lost::Truncated)), (0, 0));
        assert_eq!(
            world.simulation.disk().outside().read("/data/inputs/app.0").map_err(|error| error.kind()),
            Err(std::io::ErrorKind::NotFound)
        );
    });
}

/// A way to rotate the file, which contains this text.
type Rotate = fn(&World, &str);

/// While the process is down, the file is rotated in one of many ways. Its unread bytes are read at the next start.
#[test]
fn what_was_written_before_a_rotation_while_the_process_was_down_is_read() {
    let ways: [(&str, Rotate); 6] = [
        ("renamed", |world, _| world.rename(PATH, "/log/app.log.1")),
        ("dated", |world, _| world.rename(PATH, "/log/app-2026-11-29.log")),
        ("copied and truncated", |world, all| {
            put(world, "/log/app.log.1", all.as_bytes());
            world.outside.truncate(PATH, 0).expect("truncated");
        }),
        ("compressed by gzip", |world, all| {
            put(world, "/log/app.log.1.gz", &gzip(all));
            world.outside.remove(PATH).expect("removed");
        }),
        ("compressed by zstd", |world, all| {
            put(world, "/log/app.log-20261129.zst", &zstd(all));
            world.outside.remove(PATH).expect("removed");
        }),
        ("copied, compressed and truncated", |world, all| {
            put(world, "/log/app.log.1.gz", &gzip(all));
            world.outside.truncate(PATH, 0).expect("truncated");
        }),
    ];
    for include in ["/log/app.log", "/log/app*"] {
        for (name, rotate) in ways {
            for seed in 0..4 {
                let mut world = World::new(seed, &[include]);
                let lines = numbered(0, 12_000);
                read_before(&mut world, &lines[..5_000]);
                world.append(PATH, &text(&lines[5_000..9_000]));
                rotate(&world, &text(&lines[..9_000]));
                world.append(PATH, &text(&lines[9_000..]));
                world.start();
                let log = world.log.clone();
                world.simulation.run_until(|| log.borrow().lines.len() >= lines.len(), LONG);
                world.wait(10);
                println!("{include}, {name}, seed {seed}");
                world.expect(&lines);
                assert_eq!((world.lost(Lost::Deleted), world.lost(Lost::Truncated)), (0, 0), "{include}, {name}");
            }
        }
    }
}

/// A kill at any moment while an archive is read: the next start continues in it.
#[test]
fn kill_while_an_archive_is_read_repeats_and_loses_nothing() {
    check(&[PATH], |world| {
        let lines = numbered(0, 60_000);
        read_before(world, &lines[..10_000]);
        put(world, "/log/app.log.2.gz", &gzip(&text(&lines)));
        world.outside.remove(PATH).expect("removed");
        let mut prng = world.simulation.prng("kills");
        for _ in 0..6 {
            world.start();
            world.simulation.run_for(Duration::from_micros(prng.between(0, 1_200_000)));
            world.kill();
        }
        world.start();
        world.wait_for(lines.len());
        world.wait(10);
        world.expect(&lines);
    });
}

/// Bytes that can no longer be read are counted, never as zero.
#[test]
fn unread_bytes_of_a_file_that_is_found_nowhere_are_lost() {
    check(&[PATH], |world| {
        let lines = numbered(0, 100_000);
        world.start();
        world.wait(1);
        world.blocked.set(true);
        world.append(PATH, &text(&lines));
        world.wait(4);
        world.end();
        let bytes = text(&lines).len() as u64;
        let have = text(&world.log.borrow().lines).len() as u64;
        match world.simulation.seed() % 3 {
            0 => world.outside.remove(PATH).expect("removed"),
            1 => {
                put(world, "/log/app.log.1.xz", b"\xfd7zXZ\0\0\x04 and so on");
                world.outside.remove(PATH).expect("removed");
            }
            _ => {
                world.outside.truncate(PATH, 0).expect("truncated");
                world.append(PATH, "other\n");
            }
        }
        world.start();
        world.wait(5);
        let lost = [Lost::Deleted, Lost::Compressed, Lost::Truncated].map(|reason| world.lost(reason));
        let mut expected = [0; 3];
        expected[(world.simulation.seed() % 3) as usize] = bytes - have;
        assert_eq!(lost, expected, "seed {}", world.simulation.seed());
        world.wait(70);
        assert_eq!(
            lost,
            [Lost::Deleted, Lost::Compressed, Lost::Truncated].map(|reason| world.lost(reason)),
            "counted once"
        );
        world.end();
        world.start();
        world.wait(5);
        assert_eq!(
            world.lost(Lost::Deleted) + world.lost(Lost::Compressed) + world.lost(Lost::Truncated),
            0,
            "told once"
        );
    });
}

#[test]
fn damaged_archive_is_read_as_far_as_it_goes_and_the_rest_is_lost() {
    check(&[PATH], |world| {
        let lines = numbered(0, 50_000);
        read_before(world, &lines[..1_000]);
        let whole = gzip(&text(&lines));
        put(world, "/log/app.log.1.gz", &whole[..whole.len() / 2]);
        world.outside.remove(PATH).expect("removed");
        world.start();
        world.wait(10);
        let log = world.log.borrow();
        assert!(log.lines.len() > 1_000 && log.lines.len() < 50_000, "{}", log.lines.len());
        assert!(world.lost(Lost::Compressed) > 0);
    });
}

/// An archive of another log in the same directory, with the same header, is not mistaken for the searched one.
#[test]
fn archive_of_another_file_with_the_same_header_is_not_read() {
    check(&["/log/*.csv"], |world| {
        let header = "time,level,message\n".repeat(100);
        world.append("/log/app.csv", &format!("{header}one\n"));
        world.start();
        world.wait_for(101);
        world.wait(2);
        world.end();
        put(world, "/log/app.csv.1.gz", &gzip(&format!("{header}another\nfile\n")));
        put(world, "/log/app.csv.2.gz", &gzip(&format!("{header}one\ntwo\n")));
        world.outside.remove("/log/app.csv").expect("removed");
        world.start();
        world.wait_for(102);
        world.wait(10);
        assert_eq!(world.log.borrow().lines[101..], ["two"]);
    });
}

/// Any of the archives may hold any of the files.
#[test]
fn archives_that_may_hold_many_missing_files_are_not_all_open() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.csv"]);
        let header = "time,level,message\n".repeat(100);
        let (files, path) = (16, |file: usize| format!("/log/app.{file:02}.csv"));
        for file in 0..files {
            world.append(&path(file), &format!("{header}{file}\n"));
        }
        world.start();
        world.wait_for(files * 101);
        world.wait(3);
        world.end();
        for file in 0..files {
            put(&world, &format!("{}.1.gz", path(file)), &gzip(&format!("{header}{file}\nmore {file}\n")));
            world.outside.remove(path(file)).expect("removed");
        }
        world.simulation.disk().set_descriptors_max(Some(140));
        world.start();
        world.wait_for(files * 102);
        world.wait(10);
        assert_eq!(world.simulation.disk().exhausted(), 0, "seed {seed}");
        let log = world.log.borrow();
        let mut more: Vec<&String> = log.lines.iter().filter(|line| line.starts_with("more")).collect();
        more.sort_unstable();
        more.dedup();
        assert_eq!((log.lines.len(), more.len()), (files * 102, files), "seed {seed}");
    }
}

#[test]
fn renamed_file_is_found_among_very_many_others() {
    check(&[PATH], |world| {
        let lines = numbered(0, 200);
        for other in 0..300 {
            world.append(&format!("/log/{other}"), "other\n");
        }
        read_before(world, &lines[..100]);
        world.append(PATH, &text(&lines[100..]));
        world.rename(PATH, "/log/zzz");
        world.start();
        world.wait_for(200);
        world.wait(3);
        world.expect(&lines);
    });
}

#[test]
fn generations_are_read_oldest_first() {
    check(&["/log/app.log*"], |world| {
        world.shards = 1 + (world.simulation.seed() % 2) as u16;
        let lines = numbered(0, 80_000);
        read_before(world, &lines[..100]);
        world.append(PATH, &text(&lines[100..20_000]));
        world.rename(PATH, "/log/app.log.3");
        for (generation, piece) in lines[20_000..60_000].chunks(20_000).enumerate() {
            world.wait(1);
            world.append(PATH, &text(piece));
            world.rename(PATH, &format!("/log/app.log.{}", 2 - generation));
        }
        world.wait(1);
        world.append(PATH, &text(&lines[60_000..]));
        world.start();
        world.wait_for(lines.len());
        world.wait(5);
        world.expect(&lines);
        let log = world.log.borrow();
        let firsts: Vec<usize> = [100, 20_000, 40_000, 60_000]
            .iter()
            .map(|first| log.lines.iter().position(|line| *line == lines[*first]).expect("read"))
            .collect();
        assert!(firsts.is_sorted(), "seed {}: {firsts:?}", world.simulation.seed());
        world_order(&log.lines, &lines);
    });
}

/// With one shard the order is that of writing; batches of several lanes meet only in the collector of their shard.
fn world_order(have: &[String], lines: &[String]) {
    assert_eq!(have.iter().zip(lines).position(|(have, want)| have != want), None);
}

#[test]
fn renamed_input_continues_where_the_old_one_ended() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "one\ntwo\n");
        world.append("/log/b.log", "three\n");
        world.start();
        world.wait_for(3);
        world.wait(2);
        world.end();
        let old: Vec<SourceState> = world.log.borrow().states();
        let renamed = old.into_iter().map(|state| {
            let source = Source { input: "old".into(), ..Source::clone(&state.source) };
            SourceState { source: Arc::new(source), ..state }
        });
        world.orphans = Arc::new(renamed.collect());
        world.log.borrow_mut().sources.clear();
        world.append("/log/a.log", "four\n");
        world.append("/log/c.log", "five\n");
        world.start();
        world.wait_for(5);
        world.wait(3);
        world.expect(&["one", "two", "three", "four", "five"].map(str::to_owned));
        // From now on they belong to this input, whatever happens to the old ones.
        world.end();
        world.orphans = Arc::default();
        world.append("/log/b.log", "six\n");
        world.start();
        world.wait_for(6);
        world.wait(3);
        assert_eq!(world.log.borrow().lines.len(), 6);
    });
}

#[test]
fn old_files_count_as_read_until_they_grow() {
    check(&["/log/*.log"], |world| {
        world.settings.ignore_older = Some(Period(Duration::from_secs(3600)));
        world.append("/log/known.log", "known\n");
        world.start();
        world.wait_for(1);
        world.wait(2);
        world.end();
        world.append("/log/known.log", "unread\n");
        world.append("/log/old.log", "old\n");
        let disk = world.simulation.disk();
        disk.set_wall(Timestamp(disk.wall().0 + 7_200_000_000_000));
        world.append("/log/new.log", "new\n");
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.append("/log/old.log", "grown\n");
        world.wait_for(4);
        world.wait(3);
        world.end();
        world.start();
        world.wait(5);
        world.expect(&["known", "unread", "new", "grown"].map(str::to_owned));
    });
}

/// Formats that are only recognised, found while they are still empty, as `xz -c >FILE` creates them.
#[test]
fn archives_are_never_read_as_text() {
    check(&["/log/*"], |world| {
        world.start();
        world.wait(1);
        let magics: [&[u8]; 4] = [b"\xfd7zXZ\0\0\x04", b"BZh91AY&SY", b"\x28\xb5\x2f\xfd\x04", b"\x1f\x8b\x08\0"];
        for (number, magic) in magics.iter().enumerate() {
            for ending in ["", ".xz", ".zst"] {
                let path = format!("/log/app.{number}{ending}");
                world.append(&path, "");
                world.wait(2);
                world.outside.append(&path, &[magic, &b"\nbinary\nlines\n"[..]].concat()).expect("appended");
            }
        }
        world.append("/log/text", "text\n");
        world.wait_for(1);
        world.wait(10);
        world.expect(&["text".to_owned()]);
    });
}

/// What makes a file unreadable, or readable again.
type Close = fn(&World, &str, bool);

/// Compressed files are looked into where blocking is allowed, on a shard that does nothing else meanwhile.
#[test]
fn compressed_files_are_never_looked_into_on_the_executor() {
    check(&["/log/*"], |world| {
        world.start();
        world.wait(1);
        world.simulation.disk().forbid_blocking(true);
        for number in 0..20 {
            put(world, &format!("/log/{number}.log"), &gzip(&text(&numbered(number * 1000, number * 1000 + 500))));
        }
        world.append(PATH, "one\n");
        world.wait_for(1);
        world.wait(20);
        assert_eq!(world.log.borrow().lines, ["one"]);
        let blocked = world.simulation.disk().blocked();
        assert_eq!(blocked, Vec::<String>::new(), "seed {}: task and call", world.simulation.seed());
    });
}

/// A file that cannot be opened at the start is neither gone nor lost: it is read on when it can be opened, also under a name
/// that it got meanwhile.
#[test]
fn file_that_cannot_be_opened_at_a_start_is_read_on_when_it_can() {
    let ways: [Close; 2] = [
        |world, path, closed| world.simulation.disk().deny(Path::new(path), closed).expect("there"),
        |world, path, closed| world.simulation.disk().fail_reads(Path::new(path), closed).expect("there"),
    ];
    for (way, waits, new) in [(0, 5, "/log/old"), (0, 90, "/log/old"), (0, 5, PATH), (1, 5, "/log/old"), (1, 90, PATH)]
    {
        check(&[PATH], |world| {
            let lines = numbered(0, 150);
            read_before(world, &lines[..100]);
            world.append(PATH, &text(&lines[100..]));
            ways[way](world, PATH, true);
            world.start();
            world.wait(waits);
            assert!(world.log.borrow().sources.values().all(|kept| !kept.gone), "it is not gone");
            if new != PATH {
                world.rename(PATH, new);
            }
            world.wait(15);
            ways[way](world, new, false);
            world.wait_for(150);
            world.wait(5);
            world.expect(&lines);
            assert_eq!(world.lost(Lost::Deleted), 0);
            assert_eq!(world.log.borrow().sources.len(), 1);
        });
    }
}

/// Of a file that was never read, only a note is known. It outlives starts that cannot open the file.
#[test]
fn note_on_a_file_that_cannot_be_opened_is_kept_over_starts() {
    check(&[PATH], |world| {
        let lines = numbered(0, 100);
        world.blocked.set(true);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait(5);
        world.end();
        world.rename(PATH, "/log/old");
        world.simulation.disk().deny(Path::new("/log/old"), true).expect("there");
        world.log.borrow_mut().lines.clear();
        world.log.borrow_mut().sources.clear();
        for _ in 0..3 {
            world.start();
            world.wait(5);
            world.kill();
        }
        world.simulation.disk().deny(Path::new("/log/old"), false).expect("there");
        world.start();
        world.wait_for(100);
        world.wait(5);
        world.expect(&lines);
    });
}

/// The names beside it are not known, but its own is.
#[test]
fn file_in_a_directory_that_cannot_be_listed_at_a_start_is_read_on() {
    check(&["/log/*.log"], |world| {
        let lines = numbered(0, 150);
        read_before(world, &lines[..100]);
        world.append(PATH, &text(&lines[100..]));
        world.simulation.disk().deny(Path::new("/log"), true).expect("there");
        world.start();
        world.wait_for(150);
        world.wait(90);
        world.simulation.disk().deny(Path::new("/log"), false).expect("there");
        world.wait(5);
        world.append(PATH, "more\n");
        world.wait_for(151);
        world.wait(5);
        world.expect(&[&lines[..], &["more".to_owned()]].concat());
        assert_eq!(world.lost(Lost::Deleted), 0);
    });
}

/// Whether the old file is still there cannot be found out, so what begins like it is a file of its own.
#[test]
fn successor_in_a_directory_that_cannot_be_listed_is_read_from_its_beginning() {
    check(&[PATH], |world| {
        let lines = numbered(0, 110);
        read_before(world, &lines[..100]);
        world.rename(PATH, "/log/elsewhere");
        world.append(PATH, &text(&lines));
        world.simulation.disk().deny(Path::new("/log"), true).expect("there");
        world.start();
        world.wait_for(210);
        world.wait(3);
        world.expect(&[&lines[..100], &lines].concat());
    });
}

/// The first look consists of parts: it ends after a number of names, and has a limit for those of one user in a directory.
#[test]
fn files_that_are_there_at_the_first_start_are_first_however_many_there_are() {
    check(&["/log/*/*.log"], |world| {
        world.settings.start_at = StartAt::End;
        let files = [("a", 30), ("b", 35), ("c", 36), ("d", 38), ("e", 35), ("many", 150)];
        for (directory, count) in files {
            world.outside.create_dir_all(format!("/log/{directory}")).expect("made");
            (0..count).for_each(|file| world.append(&format!("/log/{directory}/{file}.log"), "old\n"));
        }
        world.start();
        world.wait(20);
        assert_eq!(world.log.borrow().lines, Vec::<String>::new(), "seed {}", world.simulation.seed());
        for (directory, count) in files {
            (0..count).for_each(|file| world.append(&format!("/log/{directory}/{file}.log"), "new\n"));
        }
        world.append("/log/many/later.log", "new\n");
        let all: usize = files.iter().map(|one| one.1).sum();
        world.wait_for(all + 1);
        world.wait(5);
        world.expect(&vec!["new".to_owned(); all + 1]);
    });
}
