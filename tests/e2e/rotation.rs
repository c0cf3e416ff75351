//! Rotation that is faster than anyone would configure it, and slower rotation under load.

use crate::case::Case;
use crate::lines::LineWriter;
use crate::running::Running;
use crate::wait::pause;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Maximum number of names that a rotation leaves behind: `app.log.1` and so on.
const KEPT: usize = 40;

/// Renames the rotated files to the next number, as `logrotate` does, and the live one to `app.log.1`.
fn shift(case: &Case, writer: &mut LineWriter, kept: usize) {
    let name = |number: usize| case.path(&format!("logs/app.log.{number}"));
    for number in (1..kept).rev() {
        move_if_there(&name(number), &name(number + 1));
    }
    writer.rename(&name(1));
}

fn move_if_there(from: &Path, to: &Path) {
    if let Err(error) = fs::rename(from, to) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}: {error}", from.display());
    }
}

/// Bursts of three rotations 15 ms apart. After each rename some lines are still written to the renamed file.
fn three_rotations(name: &str, kept: usize) {
    const BURSTS: u64 = 10;
    let mut case = Case::new(name);
    case.shards = 2;
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let mut running = Running::start(case, "logs/app.log*", "");
    let mut generations = Vec::new();
    for _ in 0..BURSTS {
        for _ in 0..3 {
            writer.burst_to(writer.next() + 200);
            shift(&running.case, &mut writer, kept);
            writer.burst_to(writer.next() + 20);
            writer.reopen();
            generations.push(writer.next());
            pause(Duration::from_millis(15));
        }
        writer.burst_to(writer.next() + 10);
        // The files that the next rotations delete have been read.
        running.wait(writer.next() - 1);
    }
    let (_, all) = running.finish(writer.next() - 1);
    all.assert_in_order_within(|line| generations.partition_point(|first| *first <= line));
}

#[test]
fn three_rotations_15_ms_apart_under_a_glob_that_covers_the_rotated_names() {
    three_rotations("three", KEPT);
}

#[test]
fn three_rotations_15_ms_apart_keep_only_three_names() {
    three_rotations("three-kept", 3);
}

/// Each rotation has its own name, as with `dateext`, and the new file exists before the writer uses it.
#[test]
fn three_dated_rotations_15_ms_apart_with_a_late_writer() {
    let mut case = Case::new("dated");
    case.shards = 2;
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let mut running = Running::start(case, "logs/app.log*", "");
    let mut generations = Vec::new();
    for burst in 0..10 {
        for turn in 0..3 {
            writer.burst_to(writer.next() + 200);
            writer.rename(&running.case.path(&format!("logs/app.log-20261123-{burst}{turn}")));
            drop(writer.create_next());
            writer.burst_to(writer.next() + 20);
            writer.reopen();
            generations.push(writer.next());
            pause(Duration::from_millis(15));
        }
        running.wait(writer.next() - 60);
    }
    let (_, all) = running.finish(writer.next() - 1);
    all.assert_in_order_within(|line| generations.partition_point(|first| *first <= line));
}

/// `copytruncate` with a glob that matches the copies: they are not read as files of their own.
#[test]
fn copies_that_the_glob_matches_are_not_read_again() {
    let mut case = Case::new("copies");
    case.shards = 2;
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let mut running = Running::start(case, "logs/app.log*", "");
    for turn in 1..=12 {
        // Some copies are shorter than the bytes that identify a file, some are longer than a read.
        writer.burst_to(writer.next() + [1, 30, 2000][turn % 3]);
        running.wait(writer.next() - 1);
        let name = |number: usize| running.case.path(&format!("logs/app.log.{number}"));
        for number in (1..turn).rev() {
            move_if_there(&name(number), &name(number + 1));
        }
        writer.copy_and_truncate(&name(1));
        pause(Duration::from_millis(15));
    }
    writer.burst_to(writer.next() + 100);
    running.wait(writer.next() - 1);
    let stopped = running.terminate();
    // The next run sees all the copies at once.
    let mut running = stopped.start();
    writer.burst_to(writer.next() + 100);
    running.wait(writer.next() - 1);
    let (_, all) = running.finish(writer.next() - 1);
    all.assert_in_order();
}

/// One rotation per second for 30 s under load. `TAILWATER_ROTATIONS` makes it longer.
#[test]
fn one_rotation_per_second_under_load() {
    const LINES_A_SECOND: u64 = 10_000;
    let turns: u64 = std::env::var("TAILWATER_ROTATIONS").ok().and_then(|turns| turns.parse().ok()).unwrap_or(30);
    let mut case = Case::new("each-second");
    case.shards = 2;
    let mut writer = LineWriter::create(case.path("logs/app.log")).with_pace(LINES_A_SECOND);
    let running = Running::start(case, "logs/app.log*", "");
    for turn in 1..=turns {
        writer.write_to(turn * LINES_A_SECOND - 100);
        shift(&running.case, &mut writer, turns as usize + 1);
        writer.write_to(turn * LINES_A_SECOND);
        writer.reopen();
    }
    let lines = writer.next() - 1;
    let (_, all) = running.finish(lines);
    all.assert_in_order_within(|line| ((line - 1) / LINES_A_SECOND) as usize);
}
