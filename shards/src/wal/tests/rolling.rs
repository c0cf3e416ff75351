//! The running log: appending, rolling, recycling, fullness, poison.

use super::*;

const SMALL: u64 = 4096;

#[test]
fn what_is_appended_is_read() {
    let mut machine = Machine::new(1, 64 * 1024, 4);
    let mut writer = machine.open();
    let log = writer.log().clone();
    let mut cursor = Cursor::open(log.clone(), log.end());
    assert!(cursor.next().unwrap().is_none());
    let sequence = writer.append(&mut group(&writer, &source(), 0, &[2, 1], 3)).unwrap();
    assert_eq!(log.last(), sequence);
    let frame = cursor.next().unwrap().unwrap();
    assert_eq!((frame.header().events, frame.after().sequence), (2, sequence));
    let second = cursor.next().unwrap().unwrap();
    assert_eq!(second.header().sequence, sequence);
    assert!(cursor.next().unwrap().is_none());
    let middle = Position { sequence: frame.header().sequence, event: 1 };
    assert_eq!(read(&log, middle), [1, 2]);
    assert_eq!(log.appended(OutputNumber(1)), 3);
    assert_eq!(crate::wal::cursor::events_after(&log, middle, OutputNumber(0)).events, 2);
}

/// Groups of one frame and of three, small and larger than a block, end anywhere in a block.
#[test]
fn staged_groups_are_published_whole_and_written_as_if_appended() {
    let bytes_of = |staged: bool| {
        let mut machine = Machine::new(1, 16 * 1024, 64);
        let (mut writer, source) = (machine.open(), source());
        let log = writer.log().clone();
        let (mut next, mut ends, mut waited) = (0, vec![0], 0);
        for turn in 0..200 {
            let frames: &[u64] = if turn % 3 == 0 { &[1, 2, 1] } else { &[1] };
            let mut group = group(&writer, &source, next, frames, [3, 40, 400, 1_300][turn % 4]);
            next += frames.iter().sum::<u64>();
            ends.push(next);
            if staged {
                writer.stage(&mut group).unwrap();
            } else {
                writer.append(&mut group).unwrap();
            }
            let seen = read(&log, Position::default());
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
            assert!(ends.contains(&(seen.len() as u64)), "a reader sees whole groups");
            assert_eq!(writer.has_staged(), seen.len() as u64 != next);
            assert_eq!(log.counters.events.get(), seen.len() as u64, "what is only in memory does not count");
            assert!(next - seen.len() as u64 <= 40, "what is not published is less than a block and a group");
            waited = waited.max(next - seen.len() as u64);
            while log.counters.standbys.get() < 3 && maintain(&mut writer).unwrap() {}
            if ends.len() % 50 == 0 {
                writer.flush().unwrap();
                assert_eq!(read(&log, Position::default()).len() as u64, next);
            }
        }
        assert_eq!(waited > 0, staged);
        writer.flush().unwrap();
        let disk = machine.disk();
        log.segments().iter().map(|segment| disk.outside().read(&segment.path).unwrap()).collect::<Vec<_>>()
    };
    assert!(bytes_of(true) == bytes_of(false), "the same bytes");
}

#[test]
fn publishing_wakes_a_reader() {
    let mut machine = Machine::new(1, 64 * 1024, 4);
    let mut writer = machine.open();
    let signal = Arc::new(crate::signal::Signal::new());
    let reader = writer.log().register(writer.log().end(), signal.clone());
    writer.append(&mut group(&writer, &source(), 0, &[1], 3)).unwrap();
    assert!(signal.take());
    writer.log().unregister(&reader);
    writer.append(&mut group(&writer, &source(), 1, &[1], 3)).unwrap();
    assert!(!signal.take());
}

/// Appends one-frame groups until the log refuses. Returns the number of events in it.
fn fill(writer: &mut TestWriter, disk: &SimDisk, first: u64) -> u64 {
    let source = source();
    let mut next = first;
    loop {
        let mut group = group(writer, &source, next, &[1], 100);
        match writer.append(&mut group) {
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

#[test]
fn full_log_refuses_data_takes_commits_and_gets_room_back() {
    let mut machine = Machine::new(2, SMALL, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    let log = writer.log().clone();
    let reader = log.register(Position::default(), Arc::default());
    let next = fill(&mut writer, &disk, 0);
    assert_eq!(read(&log, Position::default()), (0..next).collect::<Vec<_>>());
    assert!(log.disk_bytes() <= machine.options.log_bytes);
    let mut commits = 0;
    let segments = log.counters.segments.get();
    while log.counters.segments.get() == segments {
        commits += 1;
        writer.commit(&commit_of(commits, log.end())).unwrap();
    }
    assert!(matches!(writer.append(&mut group(&writer, &source(), next, &[1], 9)), Err(WalError::Full)));
    sync(&mut writer, &disk).unwrap();
    log.recycled.take();
    log.housekeeping.take();
    log.allow_recycling();
    log.release(&reader, log.end());
    assert!(log.housekeeping.take());
    assert!(maintain(&mut writer).unwrap());
    assert!(log.recycled.take(), "a refused writer is told of room");
    let begun = log.end();
    let end = fill(&mut writer, &disk, next);
    assert!(end > next);
    assert_eq!(read(&log, begun), (next..end).collect::<Vec<_>>());
    assert!(log.disk_bytes() <= machine.options.log_bytes);
}

#[test]
fn recycling_loses_no_position_and_stale_bytes_are_never_read() {
    let mut machine = Machine::new(3, SMALL, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    let log = writer.log().clone();
    let quiet = Arc::new(Source { key: SourceKey(99), ..(*source()).clone() });
    let mut only = Group::new();
    let frame = only.frame(FrameKind::Events, 0, 0);
    frame.position(&SourceRange { from: 5, to: 8, marker: 2 }, &quiet, true, false);
    frame.finish();
    writer.append(&mut only).unwrap();
    let reader = log.register(Position::default(), Arc::default());
    let mut next = 0;
    log.allow_recycling();
    for _ in 0..12 {
        next = fill(&mut writer, &disk, next);
        writer.commit(&commit_of(next, log.end())).unwrap();
        sync(&mut writer, &disk).unwrap();
        log.release(&reader, log.end());
        maintain(&mut writer).unwrap();
    }
    assert!(!disk.outside().exists(Machine::segment_path(1)), "the first segment was recycled");
    let commits = writer.state().commits.clone();
    drop(writer);
    machine.simulation.crash(Crash::Process);
    let recovered = machine.scan().unwrap();
    assert_eq!(recovered.damage, []);
    assert_eq!(recovered.state.commits, commits);
    assert_eq!(recovered.state.sources.get(SourceKey(99)).unwrap().intervals, [(5, 8)]);
    assert_eq!(recovered.state.sources.get(SourceKey(7)).unwrap().intervals, [(0, next)]);
    let writer = machine.open();
    let held = read(writer.log(), Position::default());
    assert!(held.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{held:?}");
}

/// The power failed before the next segment had its name.
#[test]
fn a_log_that_ends_with_a_seal_is_read_once() {
    let mut machine = Machine::new(7, SMALL, 4);
    let mut writer = machine.open();
    let mut next = 0;
    while writer.log().segments().len() == 1 {
        writer.append(&mut group(&writer, &source(), next, &[1], 200)).unwrap();
        next += 1;
    }
    drop(writer);
    machine.simulation.crash(Crash::Process);
    machine.disk().outside().remove(Machine::segment_path(2)).unwrap();
    let recovered = machine.scan().unwrap();
    assert!(recovered.sealed && recovered.damage.is_empty(), "{:?}", recovered.ended_by);
    let log = recovered.reader(machine.disk());
    let mut cursor = Cursor::open(log.clone(), Position::default());
    let mut seen = 0;
    while let Some(frame) = cursor.next().unwrap() {
        seen += u64::from(frame.header().events);
    }
    assert_eq!(seen, next - 1, "the last event had made the log roll");
    assert!(cursor.next().unwrap().is_none());
    assert_eq!(crate::wal::cursor::events_after(&log, Position::default(), OutputNumber(0)).events, seen);
}

#[test]
fn a_reader_floor_and_an_unsynced_segment_keep_segments() {
    let mut machine = Machine::new(4, SMALL, 4);
    let mut writer = machine.open();
    let log = writer.log().clone();
    let first = log.segments()[0].number;
    log.allow_recycling();
    let mut next = 0;
    while log.segments().len() == 1 {
        writer.append(&mut group(&writer, &source(), next, &[1], 200)).unwrap();
        next += 1;
    }
    let reader = log.register(Position::default(), Arc::default());
    log.release(&reader, log.end());
    maintain(&mut writer).unwrap();
    assert_eq!(log.segments()[0].number, first, "its successor's snapshot is not durable");
    let late = log.register(Position::default(), Arc::default());
    sync(&mut writer, &machine.disk()).unwrap();
    maintain(&mut writer).unwrap();
    assert_eq!(log.segments()[0].number, first, "a reader needs it");
    log.unregister(&late);
    maintain(&mut writer).unwrap();
    assert_ne!(log.segments()[0].number, first);
}

#[test]
fn full_disk_is_full_and_ends() {
    let mut machine = Machine::new(5, SMALL, 16);
    let disk = machine.disk();
    let mut writer = machine.open();
    disk.set_free_bytes(Some(100));
    let source = source();
    let mut next = 0;
    let refused = loop {
        match writer.append(&mut group(&writer, &source, next, &[1], 100)) {
            Ok(_) => next += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, WalError::Full), "{refused}");
    assert!(matches!(maintain(&mut writer), Err(WalError::Io { .. })));
    writer.commit(&commit_of(1, Position::default())).unwrap();
    assert!(matches!(writer.append(&mut group(&writer, &source, next, &[1], 100)), Err(WalError::Full)));
    disk.set_free_bytes(None);
    assert!(maintain(&mut writer).unwrap());
    writer.append(&mut group(&writer, &source, next, &[1], 100)).unwrap();
    assert_eq!(read(writer.log(), Position::default()).len() as u64, next + 1);
}

#[test]
fn a_group_that_can_never_fit_is_refused_for_good() {
    let mut machine = Machine::new(6, SMALL, 4);
    let mut writer = machine.open();
    let refused = writer.append(&mut group(&writer, &source(), 0, &[1], SMALL as usize));
    assert!(matches!(refused, Err(WalError::TooLarge { .. })));
    writer.append(&mut group(&writer, &source(), 0, &[1], 10)).unwrap();
    assert_eq!(read(writer.log(), Position::default()), [0]);
}

#[test]
fn failed_sync_poisons_and_is_never_retried() {
    let mut machine = Machine::new(7, 64 * 1024, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    writer.append(&mut group(&writer, &source(), 0, &[1], 10)).unwrap();
    let before = writer.acknowledged();
    disk.fail_syncs(1);
    assert!(matches!(sync(&mut writer, &disk), Err(WalError::Poisoned { what: "sync", .. })));
    let appended = writer.append(&mut group(&writer, &source(), 1, &[1], 10));
    assert!(matches!(appended, Err(WalError::Poisoned { .. })));
    assert!(matches!(writer.commit(&commit_of(1, Position::default())), Err(WalError::Poisoned { .. })));
    assert!(writer.sync_target().is_none() && writer.take_maintenance().is_none());
    assert_eq!(writer.acknowledged(), before);
}

#[test]
fn pages_that_a_failed_sync_left_clean_are_written_again() {
    let mut machine = Machine::new(8, 64 * 1024, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    sync(&mut writer, &disk).unwrap();
    writer.append(&mut group(&writer, &source(), 0, &[3], 10)).unwrap();
    disk.fail_syncs(1);
    assert!(sync(&mut writer, &disk).is_err());
    drop(writer);
    // The process dies because of it; the cache still shows what may not be on the disk.
    machine.simulation.crash(Crash::Process);
    let writer = machine.open();
    assert!(writer.acknowledged() >= Sequence(2));
    drop(writer);
    machine.simulation.crash(Crash::Power);
    let writer = machine.open();
    assert_eq!(read(writer.log(), Position::default()), [0, 1, 2]);
}

#[test]
fn failed_write_poisons() {
    let mut machine = Machine::new(9, 64 * 1024, 4);
    let mut writer = machine.open();
    machine.disk().fail_writes(1);
    let failed = writer.append(&mut group(&writer, &source(), 0, &[1], 10));
    assert!(matches!(failed, Err(WalError::Poisoned { what: "write", .. })));
    let failed = writer.append(&mut group(&writer, &source(), 0, &[1], 10));
    assert!(matches!(failed, Err(WalError::Poisoned { what: "write", .. })));
}

#[test]
fn policies_acknowledge_what_they_promise() {
    for (sync_policy, at_once) in [(SyncPolicy::Never, true), (SyncPolicy::EveryBatch, false)] {
        let mut machine = Machine::new(10, 64 * 1024, 4);
        machine.options.sync = sync_policy;
        let mut writer = machine.open();
        let sequence = writer.append(&mut group(&writer, &source(), 0, &[1], 10)).unwrap();
        assert_eq!(writer.acknowledged() >= sequence, at_once);
        sync(&mut writer, &machine.disk()).unwrap();
        assert!(writer.acknowledged() >= sequence);
    }
}

#[test]
fn epoch_jump_leaves_every_earlier_sequence_behind() {
    let mut machine = Machine::new(11, 64 * 1024, 4);
    let mut writer = machine.open();
    let last = writer.append(&mut group(&writer, &source(), 0, &[1], 10)).unwrap();
    drop(writer);
    machine.simulation.crash(Crash::Process);
    let mut writer = machine.open();
    assert_eq!(writer.epoch(), 2);
    let next = writer.append(&mut group(&writer, &source(), 1, &[1], 10)).unwrap();
    assert!(next.0 > last.0 + machine.options.log_bytes / 96);
    assert_eq!(read(writer.log(), Position::default()), [0, 1]);
    assert_eq!(read(writer.log(), Position { sequence: Sequence(last.0 + 5), event: 3 }), [1]);
}

#[test]
fn maintenance_runs_off_the_executor() {
    let mut machine = Machine::new(12, SMALL, 6);
    let mut writer = machine.open();
    let mut next = 0;
    while writer.append(&mut group(&writer, &source(), next, &[1], 100)).is_ok() {
        next += 1;
    }
    let env = machine.simulation.env(ShardId(0));
    let writer = std::rc::Rc::new(std::cell::RefCell::new(writer));
    let shared = writer.clone();
    env.clone()
        .spawn("maintenance", async move { while crate::wal::writer::maintain(&env, &shared).await.unwrap() {} });
    let told = || writer.borrow().log().recycled.take();
    machine.simulation.must("a standby is made", told, std::time::Duration::from_secs(5));
    let mut more = group(&writer.borrow(), &source(), next, &[1], 100);
    writer.borrow_mut().append(&mut more).unwrap();
}
