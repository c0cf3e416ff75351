//! Files and archives that hold next to nothing and would take hours to read: no other file waits for them.

use crate::case::Case;
use crate::lines::{block, line};
use crate::running::{Running, append};
use crate::wait::pause;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// The largest length that the file system allows, of these.
const LENGTHS: [u64; 3] = [15 << 40, 1 << 40, 64 << 30];

fn hole(path: &Path) {
    let file = File::create(path).expect("a file");
    let made = LENGTHS.iter().any(|length| file.set_len(*length).is_ok());
    assert!(made, "no file system without holes is known");
}

/// A position behind a hole: whether a line begins there is asked at each start.
#[test]
fn hole_of_terabytes_before_a_position_delays_nobody_at_a_start() {
    let case = Case::new("hollow-start");
    let (hollow, other) = (case.path("logs/a.log"), case.path("logs/b.log"));
    hole(&hollow);
    let whole = line(1);
    let (begin, rest) = whole.split_at(10);
    append(&hollow, begin.as_bytes());
    append(&other, &block(2, 10));
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(9);
    pause(Duration::from_secs(2));
    let stopped = running.terminate();
    append(&hollow, format!("{rest}\n").as_bytes());
    append(&other, &block(11, 20));
    let mut running = stopped.start();
    running.wait(20);
    running.finish(20);
}

/// Where reading starts in a file that is not read from its beginning.
#[test]
fn hole_of_terabytes_that_counts_as_read_delays_nobody() {
    for (name, settings) in [("hollow-end", ", start_at: end"), ("hollow-older", ", ignore_older: 1h")] {
        let case = Case::new(name);
        let (hollow, other) = (case.path("logs/a.log"), case.path("logs/b.log"));
        hole(&hollow);
        append(&hollow, b"x");
        let old = SystemTime::now() - Duration::from_secs(7200);
        File::options().append(true).open(&hollow).and_then(|file| file.set_modified(old)).expect("an old file");
        append(&other, b"");
        let mut running = Running::start(case, "logs/*.log", settings);
        running.wait_for_files(2);
        append(&other, &block(1, 10));
        running.wait(10);
        append(&hollow, &[b"\n", &block(11, 20)[..]].concat());
        running.wait(20);
        running.finish(20);
    }
}

/// An archive that consists of empty blocks, under many names.
#[test]
fn archive_of_nothing_under_many_names_is_looked_into_once() {
    const NAMES: usize = 60;
    const ARCHIVE_BYTES: usize = 16 << 20;
    let case = Case::new("hollow-archive");
    let first = case.path("logs/0.log");
    let blocks = [0, 0, 0, 0xff, 0xff].repeat(ARCHIVE_BYTES / 5);
    fs::write(&first, [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &blocks].concat()).expect("written");
    for name in 1..NAMES {
        fs::hard_link(&first, case.path(&format!("logs/{name}.log"))).expect("a link");
    }
    append(&case.path("logs/z.log"), &block(1, 10));
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(10);
    running.product.wait_for_log(&["skipped: compressed"]);
    append(&running.case.path("logs/z.log"), &block(11, 20));
    running.wait(20);
    let io = fs::read_to_string(format!("/proc/{}/io", running.product.id())).expect("the process runs");
    let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("a number");
    let read: usize = read.parse().expect("a number");
    assert!(read < ARCHIVE_BYTES, "{read} bytes were read");
    running.finish(20);
}
