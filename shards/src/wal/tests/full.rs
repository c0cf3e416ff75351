//! A log that is full of events always accepts commits, and can always be emptied.

use super::*;
use crate::limits::SEGMENTS_RESERVED;

const SMALL: u64 = 4096;
const SEGMENTS: u64 = 5;

/// Appends events until the log is full and nothing can be freed. Returns the number of the next event.
fn fill(writer: &mut TestWriter, disk: &SimDisk, first: u64) -> u64 {
    let source = source();
    let mut next = first;
    loop {
        match writer.append(&mut group(writer, &source, next, &[1], 100)) {
            Ok(_) => next += 1,
            Err(WalError::Full) => {
                sync(writer, disk).unwrap();
                if !maintain(writer).unwrap() {
                    return next;
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn commit_of_output(output: u8, number: u64, position: Position) -> Commit {
    Commit { output: OutputNumber(output), ..commit_of(number, position) }
}

/// Commits, with the maintenance for which a refused commit waits.
fn commit(writer: &mut TestWriter, disk: &SimDisk, commit: &Commit) -> Result<Sequence, WalError> {
    for _ in 0..3 {
        match writer.commit(commit) {
            Err(WalError::Full) => {
                sync(writer, disk)?;
                maintain(writer)?;
            }
            result => return result,
        }
    }
    writer.commit(commit)
}

#[test]
fn full_log_wakes_a_reader_that_came_after_the_last_publication() {
    let mut machine = Machine::new(1, SMALL, SEGMENTS);
    let disk = machine.disk();
    let mut writer = machine.open();
    let next = fill(&mut writer, &disk, 0);
    let signal = Arc::new(crate::signal::Signal::new());
    let reader = writer.log().register(Position::default(), signal.clone());
    assert!(matches!(writer.append(&mut group(&writer, &source(), next, &[1], 100)), Err(WalError::Full)));
    assert!(signal.take(), "it may be the one that has to give way");
    writer.log().unregister(&reader);
}

fn files(disk: &SimDisk) -> u64 {
    disk.of_this_process().list(Path::new(DIRECTORY)).unwrap().len() as u64
}

#[test]
fn commits_that_let_go_of_nothing_never_fill_a_full_log() {
    let mut machine = Machine::new(1, SMALL, SEGMENTS);
    let disk = machine.disk();
    let mut writer = machine.open();
    let log = writer.log().clone();
    let stuck = log.register(Position::default(), Arc::default());
    let busy = log.register(Position::default(), Arc::default());
    log.allow_recycling();
    let next = fill(&mut writer, &disk, 0);
    assert_eq!(log.counters.segments.get(), SEGMENTS - SEGMENTS_RESERVED);
    // Nothing more can be allocated either, but what commits need exists.
    disk.set_free_bytes(Some(0));
    for number in 1..=2_000 {
        let position = Position { sequence: Sequence(2 + number % 3), event: 0 };
        commit(&mut writer, &disk, &commit_of_output(1, number, position)).unwrap();
        log.release(&busy, position);
        assert!(files(&disk) <= SEGMENTS, "{} files after {number} commits", files(&disk));
    }
    assert_eq!(read(&log, Position::default()), (0..next).collect::<Vec<_>>(), "no event has gone");

    // The one commit that frees everything.
    commit(&mut writer, &disk, &commit_of_output(0, 1, log.end())).unwrap();
    sync(&mut writer, &disk).unwrap();
    log.release(&stuck, log.end());
    log.release(&busy, log.end());
    while maintain(&mut writer).unwrap() {}
    assert!(fill(&mut writer, &disk, next) > next, "there is room again");
}

/// Stops the process between any two changes of the disk, by a kill or a power loss, and opens the log again.
#[test]
fn a_full_log_survives_crashes_while_commits_come_and_go() {
    for seed in 0..60 {
        let mut machine = Machine::new(seed, SMALL, SEGMENTS);
        let disk = machine.disk();
        let mut chance = machine.simulation.prng("full");
        let mut writer = machine.open();
        let next = fill(&mut writer, &disk, 0);
        sync(&mut writer, &disk).unwrap();
        drop(writer);
        let (mut number, mut durable) = (0, 0);
        for _ in 0..6 {
            let power = chance.one_in(2);
            machine.simulation.crash(if power { Crash::Power } else { Crash::Process });
            let mut writer = machine.open();
            let log = writer.log().clone();
            log.allow_recycling();
            let known = writer.state().commits.values().map(|commit| commit.number).max().unwrap_or(0);
            assert!((durable..=number).contains(&known), "seed {seed}: commit {known} of {durable} to {number}");
            let stuck = log.register(Position::default(), Arc::default());
            assert_eq!(read(&log, Position::default()), (0..next).collect::<Vec<_>>(), "seed {seed}");
            assert_eq!(writer.state().sources.get(SourceKey(7)).unwrap().intervals, [(0, next)], "seed {seed}");
            disk.crash_after(chance.between(1, 200));
            while commit(&mut writer, &disk, &commit_of_output(1, number + 1, Position::default())).is_ok() {
                number += 1;
                if chance.one_in(8) && sync(&mut writer, &disk).is_ok() {
                    durable = number;
                    let _ = maintain(&mut writer);
                }
            }
            // The failed commit may nevertheless exist.
            number += 1;
            log.unregister(&stuck);
        }
    }
}
