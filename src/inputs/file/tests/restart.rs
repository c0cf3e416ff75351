//! The process is killed and resumes from what is in the WAL.

use super::*;

#[test]
fn files_with_identical_headers_are_distinguished_over_a_restart() {
    check(&["/log/*.csv"], |world| {
        let header = "time,level,message\n".repeat(100);
        for file in 0..10 {
            world.append(&format!("/log/{file}.csv"), &header);
        }
        world.start();
        world.wait_for(1000);
        world.kill();
        for file in 0..10 {
            world.append(&format!("/log/{file}.csv"), &format!("{file}\n"));
        }
        world.start();
        world.wait_for(1010);
        world.wait(3);
        assert_eq!(world.log.borrow().lines.len(), 1010);
        assert_eq!(world.log.borrow().sources.len(), 10);
        assert!(world.log.borrow().sources.values().all(|kept| kept.lines.len() == 101));
    });
}

#[test]
fn file_that_outgrows_the_head_window_stays_the_same_file() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 200);
        for (round, piece) in lines.chunks(20).enumerate() {
            world.append("/log/app.log", &text(piece));
            if round % 2 == 0 {
                world.start();
            }
            world.wait_for((round + 1) * 20);
            if round % 2 == 1 {
                world.kill();
            }
        }
        assert_eq!(world.log.borrow().lines, lines);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

#[test]
fn restart_inside_a_skipped_line_continues_skipping() {
    check(&["/log/app.log"], |world| {
        world.settings.max_line_bytes = ByteSize(100);
        world.append("/log/app.log", &"z".repeat(300_000));
        world.start();
        world.wait_for(1);
        world.wait(2);
        world.kill();
        world.append("/log/app.log", &format!("{}\nnext\n", "z".repeat(1000)));
        world.start();
        world.wait_for(2);
        world.wait(2);
        assert_eq!(world.log.borrow().lines, ["z".repeat(100), "next".to_owned()]);
    });
}

#[test]
fn kill_at_any_moment_repeats_and_loses_nothing() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 30_000);
        let mut prng = world.simulation.prng("kills");
        world.start();
        for (round, piece) in lines.chunks(3000).enumerate() {
            world.append("/log/app.log", &text(piece));
            world.simulation.run_for(Duration::from_micros(prng.between(0, 30_000)));
            if round % 3 == 2 {
                world.rename("/log/app.log", &format!("/log/app.log.{round}"));
            }
            if prng.percent(60) {
                world.kill();
                world.shards = prng.between(1, 3) as u16;
                world.start();
            }
        }
        world.wait_for(30_000);
        world.wait(10);
        world.expect(&lines);
    });
}

#[test]
fn holes_are_filled_after_a_restart() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 9000);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(9000);
        world.kill();
        {
            // As if the WAL of another shard, with the middle third, had been lost with an unsynced page.
            let mut log = world.log.borrow_mut();
            let length = text(&lines[..3000]).len() as u64;
            let kept = log.sources.values_mut().next().expect("one source");
            kept.intervals = vec![(0, length), (2 * length, 3 * length)];
            log.lines.drain(3000..6000);
        }
        world.start();
        world.wait_for(9000);
        world.wait(3);
        world.expect(&lines);
    });
}

/// Several looks are needed for directories with many names. Each directory is looked at before anything is followed.
#[test]
fn first_look_reaches_every_directory() {
    check(&["/log/*/*.log"], |world| {
        world.settings.start_at = StartAt::End;
        for directory in 0..6 {
            world.outside.create_dir_all(format!("/log/{directory}")).expect("made");
            (0..30).for_each(|file| world.append(&format!("/log/{directory}/{file}.log"), "old\n"));
        }
        world.start();
        world.wait(10);
        world.append("/log/0/new.log", "new\n");
        world.wait_for(1);
        world.wait(3);
        world.expect(&["new".to_owned()]);
    });
}

#[test]
fn start_at_end_never_reads_what_existed() {
    check(&["/log/*.log"], |world| {
        world.settings.start_at = StartAt::End;
        world.append("/log/old.log", "old\nunfi");
        world.start();
        world.wait(2);
        world.append("/log/old.log", "nished\n");
        world.append("/log/new.log", "new\n");
        world.wait_for(2);
        world.wait(2);
        world.kill();
        world.append("/log/old.log", "more\n");
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.expect(&["unfinished", "new", "more"].map(str::to_owned));
    });
}
