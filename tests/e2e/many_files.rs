//! Ten thousand files, some of which grow: read completely, with limited descriptors and memory, and over a restart.

use crate::case::Case;
use crate::lines::block;
use crate::running::{Running, append};
use std::fs;
use std::path::PathBuf;

const FILES: u64 = 10_000;
const ACTIVE: u64 = 500;
const DIRECTORIES: u64 = 50;
/// Lines that each file begins with, and lines that an active one gets in each round.
const FIRST_LINES: u64 = 3;
const ROUND_LINES: u64 = 2;
const ROUNDS: u64 = 40;
/// Number of files that a shard keeps open, and the other descriptors of a process.
const DESCRIPTORS_MAX: usize = 2 * 1024 + 200;
const RESIDENT_KIB_MAX: u64 = 200 << 10;

fn path(case: &Case, file: u64) -> PathBuf {
    case.path(&format!("logs/{}/{file:05}.log", file % DIRECTORIES))
}

#[test]
fn ten_thousand_files_of_which_five_hundred_grow() {
    let mut case = Case::new("many");
    case.shards = 2;
    for directory in 0..DIRECTORIES {
        fs::create_dir(case.path(&format!("logs/{directory}"))).expect("a directory");
    }
    let mut streams = vec![0];
    let mut next = 1;
    for file in 0..FILES {
        fs::write(path(&case, file), block(next, next + FIRST_LINES - 1)).expect("a file");
        streams.extend((0..FIRST_LINES).map(|_| file as usize));
        next += FIRST_LINES;
    }
    let mut running = Running::start(case, "logs/*/*.log", "");
    for round in 0..ROUNDS {
        for active in 0..ACTIVE {
            let file = active * (FILES / ACTIVE) + round % 2;
            append(&path(&running.case, file), &block(next, next + ROUND_LINES - 1));
            streams.extend((0..ROUND_LINES).map(|_| file as usize));
            next += ROUND_LINES;
        }
        match round {
            // While most files have not been found yet, and while all are followed.
            2 => running = running.kill().start(),
            10 => {
                running.wait(next - 1);
                check_bounds(&running);
            }
            15 => running = running.terminate().start(),
            25 => running = running.kill().start(),
            _ => {}
        }
    }
    running.wait(next - 1);
    check_bounds(&running);
    let (_, all) = running.finish(next - 1);
    all.assert_in_order_within(|line| streams[line as usize]);
}

fn check_bounds(running: &Running) {
    let process = format!("/proc/{}", running.product.id());
    let descriptors = fs::read_dir(format!("{process}/fd")).expect("descriptors").count();
    assert!(descriptors <= DESCRIPTORS_MAX, "{descriptors} descriptors");
    let status = fs::read_to_string(format!("{process}/status")).expect("a status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the resident memory");
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    assert!(kib <= RESIDENT_KIB_MAX, "{kib} KiB resident");
    eprintln!("{descriptors} descriptors, {kib} KiB resident");
}
