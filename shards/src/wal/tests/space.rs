//! Disks without space, and maintenance that fails half-way.

use super::*;

const SMALL: u64 = 4096;

/// Appends single-event groups until the log refuses. Returns the number of the next event.
fn fill(writer: &mut TestWriter, first: u64) -> u64 {
    let source = source();
    let mut next = first;
    loop {
        match writer.append(&mut group(writer, &source, next, &[1], 100)) {
            Ok(_) => next += 1,
            Err(WalError::Full) => return next,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Names in the log's directory with this prefix.
fn names(disk: &SimDisk, beginning: &str) -> usize {
    let entries = disk.of_this_process().list(Path::new(DIRECTORY)).unwrap();
    entries.iter().filter(|entry| entry.name.to_str().unwrap().starts_with(beginning)).count()
}

#[test]
fn start_on_a_full_disk_reads_and_commits_what_is_there() {
    let mut machine = Machine::new(1, SMALL, 16);
    let disk = machine.disk();
    let mut writer = machine.open();
    disk.set_free_bytes(Some(0));
    let next = fill(&mut writer, 0);
    assert!(maintain(&mut writer).is_err());
    sync(&mut writer, &disk).unwrap();
    drop(writer);
    for start in 1..=5 {
        machine.simulation.crash(if start % 2 == 0 { Crash::Power } else { Crash::Process });
        let mut writer = machine.open();
        let log = writer.log().clone();
        assert_eq!(read(&log, Position::default()), (0..next).collect::<Vec<_>>());
        writer.commit(&commit_of(start, Position::default())).unwrap();
        sync(&mut writer, &disk).unwrap();
    }
    machine.simulation.crash(Crash::Process);
    let mut writer = machine.open();
    let log = writer.log().clone();
    let reader = log.register(Position::default(), Arc::default());
    log.allow_recycling();
    writer.commit(&commit_of(6, log.end())).unwrap();
    sync(&mut writer, &disk).unwrap();
    log.release(&reader, log.end());
    maintain(&mut writer).unwrap();
    assert!(fill(&mut writer, next) > next, "what was delivered makes room on a full disk");
}

#[test]
fn first_start_without_room_says_so() {
    let mut machine = Machine::new(2, SMALL, 16);
    machine.disk().set_free_bytes(Some(100));
    let error = machine.try_open().err().unwrap();
    assert!(error.is_no_room(), "{error}");
    assert!(error.to_string().contains("free space on that disk"), "{error}");
    machine.disk().set_free_bytes(None);
    machine.open();
}

#[test]
fn upkeep_that_fails_half_way_loses_track_of_nothing() {
    let mut machine = Machine::new(3, SMALL, 8);
    let disk = machine.disk();
    let mut writer = machine.open();
    let log = writer.log().clone();
    log.allow_recycling();
    let reader = log.register(Position::default(), Arc::default());
    let mut next = 0;
    for round in 0..12 {
        while log.segments().len() < 6 {
            next = fill(&mut writer, next);
            sync(&mut writer, &disk).unwrap();
            maintain(&mut writer).unwrap();
        }
        writer.commit(&commit_of(round, log.end())).unwrap();
        sync(&mut writer, &disk).unwrap();
        log.release(&reader, log.end());
        disk.refuse_directory_syncs(1 + round as u32 % 3);
        for _ in 0..=round % 3 {
            assert!(maintain(&mut writer).is_err(), "the directory cannot be opened");
            assert_eq!(names(&disk, "0"), log.segments().len(), "round {round}: a segment is in no table");
        }
        while maintain(&mut writer).unwrap() {}
        assert_eq!(log.segments().len(), 1, "round {round}: segments that nobody needs are kept");
        assert_eq!(names(&disk, "0"), 1);
        assert_eq!(names(&disk, "standby") as u64, log.counters.standbys.get(), "round {round}: a standby is lost");
    }
    machine.simulation.crash(Crash::Power);
    drop(writer);
    assert_eq!(machine.scan().unwrap().damage, []);
}

#[test]
fn failed_preparation_of_a_segment_leaves_no_file() {
    let mut machine = Machine::new(4, SMALL, 8);
    let disk = machine.disk();
    let mut writer = machine.open();
    let next = fill(&mut writer, 0);
    let before = names(&disk, "standby");
    for _ in 0..5 {
        disk.fail_syncs(u32::MAX);
        assert!(maintain(&mut writer).is_err());
        assert_eq!(names(&disk, "standby"), before);
    }
    disk.fail_syncs(0);
    maintain(&mut writer).unwrap();
    assert!(fill(&mut writer, next) > next);
}
