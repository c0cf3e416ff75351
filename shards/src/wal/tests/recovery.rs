//! Recovery: torn tails, damage, missing and unknown segments.

use super::*;
use crate::wal::frame::{FRAME_HEADER_BYTES, FrameHeader};
use crate::wal::manifest::KnownLogs;
use crate::wal::segment::SEGMENT_HEADER_BYTES;

const SMALL: u64 = 4096;

/// Offsets of the frames of a segment, in order.
fn frames(disk: &SimDisk, segment: u64) -> Vec<(u64, FrameHeader)> {
    let bytes = disk.outside().read(Machine::segment_path(segment)).unwrap();
    let mut frames = Vec::new();
    let mut offset = SEGMENT_HEADER_BYTES;
    let mut last = 0;
    while let Ok(header) = FrameHeader::decode(&bytes[offset.min(bytes.len())..]) {
        if header.sequence.0 <= last {
            break;
        }
        last = header.sequence.0;
        frames.push((offset as u64, header));
        offset += header.length as usize;
    }
    frames
}

fn flip(disk: &SimDisk, segment: u64, offset: u64) {
    let path = Machine::segment_path(segment);
    let byte = disk.outside().read(&path).unwrap()[offset as usize];
    disk.outside().overwrite(&path, offset, &[byte ^ 0x40]).unwrap();
}

/// Single-event groups `0..events`, synced after each event that `synced` selects. Then the process dies.
fn written(machine: &mut Machine, events: u64, synced: impl Fn(u64) -> bool) {
    let disk = machine.disk();
    let mut writer = machine.open();
    let source = source();
    for ordinal in 0..events {
        loop {
            match writer.append(&mut group(&writer, &source, ordinal, &[1], 40)) {
                Ok(_) => break,
                Err(WalError::Full) => assert!(maintain(&mut writer).unwrap()),
                Err(error) => panic!("{error}"),
            }
        }
        if synced(ordinal) {
            sync(&mut writer, &disk).unwrap();
        }
    }
    drop(writer);
    machine.simulation.crash(Crash::Process);
}

#[test]
fn torn_tail_is_cut_and_written_over() {
    let mut machine = Machine::new(20, 64 * 1024, 4);
    written(&mut machine, 5, |_| false);
    let disk = machine.disk();
    let (offset, header) = frames(&disk, 1)[4];
    assert_eq!(header.kind, FrameKind::Events);
    flip(&disk, 1, offset + FRAME_HEADER_BYTES as u64 + 3);
    let recovered = machine.scan().unwrap();
    assert_eq!((recovered.ended_by, recovered.damage.len()), ("torn_tail", 0));
    assert_eq!(recovered.tail.unwrap().offset, offset);
    assert_eq!(recovered.highest_seen, Sequence(6), "the frame behind it was seen");
    assert!(recovered.reached < recovered.highest_seen, "and it lies behind what was not whole");
    assert_eq!(recovered.state.sources.get(SourceKey(7)).unwrap().intervals, [(0, 3)]);
    let mut writer = machine.open();
    writer.append(&mut group(&writer, &source(), 3, &[2], 40)).unwrap();
    assert_eq!(read(writer.log(), Position::default()), [0, 1, 2, 3, 4]);
    drop(writer);
    machine.simulation.crash(Crash::Process);
    assert_eq!(read(machine.open().log(), Position::default()), [0, 1, 2, 3, 4]);
}

#[test]
fn damage_below_the_synced_frontier_is_quarantined_and_its_range_is_a_hole() {
    let mut machine = Machine::new(21, 64 * 1024, 4);
    written(&mut machine, 6, |_| true);
    let disk = machine.disk();
    let (offset, header) = frames(&disk, 1)[3];
    flip(&disk, 1, offset + FRAME_HEADER_BYTES as u64 + 3);
    let original = disk.outside().read(Machine::segment_path(1)).unwrap();
    let recovered = machine.scan().unwrap();
    assert_eq!(recovered.damage.len(), 1);
    let damage = &recovered.damage[0];
    assert_eq!((damage.segment, damage.offset, damage.bytes), (1, offset, u64::from(header.length)));
    let kept = disk.outside().read(damage.quarantined.as_ref().unwrap()).unwrap();
    assert_eq!(kept, original[offset as usize..][..header.length as usize]);
    assert!(!damage.known, "news is told as such");
    // Without space for a copy, the existing one is used.
    disk.set_free_bytes(Some(0));
    assert!(machine.scan().unwrap().damage[0].known, "what was told before is not told as news");
    disk.set_free_bytes(None);
    disk.outside().write(damage.quarantined.as_ref().unwrap(), b"other").unwrap();
    assert!(!machine.scan().unwrap().damage[0].known);
    assert_eq!(damage.between, Some((Sequence(header.sequence.0 - 1), Sequence(header.sequence.0 + 1))));
    assert_eq!(recovered.state.sources.get(SourceKey(7)).unwrap().intervals, [(0, 2), (3, 6)]);
    let writer = machine.open();
    assert_eq!(read(writer.log(), Position::default()), [0, 1, 3, 4, 5]);
}

#[test]
fn damage_that_cannot_be_copied_is_reported_and_stays_where_it_is() {
    let mut machine = Machine::new(21, 64 * 1024, 4);
    written(&mut machine, 6, |_| true);
    let disk = machine.disk();
    let (offset, header) = frames(&disk, 1)[3];
    flip(&disk, 1, offset + FRAME_HEADER_BYTES as u64 + 3);
    let there = disk.outside().read(Machine::segment_path(1)).unwrap();
    let uncopied = |machine: &mut Machine| {
        let damage = machine.scan().unwrap().damage.swap_remove(0);
        assert_eq!((damage.known, damage.quarantined), (false, None));
        damage.uncopied.expect("it is said why")
    };
    disk.outside().create_dir_all(QUARANTINE).unwrap();
    let name = format!("{QUARANTINE}/log-00000001-segment-1-offset-{offset}.bin");
    disk.outside().write(&name, b"an earlier copy").unwrap();
    disk.set_free_bytes(Some(0));
    assert!(uncopied(&mut machine).contains(QUARANTINE));
    assert_eq!(disk.outside().list(QUARANTINE).unwrap().len(), 1, "half a copy is none");
    assert_eq!(disk.outside().read(&name).unwrap(), b"an earlier copy");
    disk.set_free_bytes(None);
    disk.outside().remove_dir_all(QUARANTINE).unwrap();
    disk.outside().write(QUARANTINE, b"a file").unwrap();
    assert!(uncopied(&mut machine).contains(QUARANTINE));
    let writer = machine.open();
    assert_eq!(read(writer.log(), Position::default()), [0, 1, 3, 4, 5]);
    drop(writer);
    machine.simulation.crash(Crash::Process);
    let range = offset as usize..offset as usize + header.length as usize;
    assert_eq!(disk.outside().read(Machine::segment_path(1)).unwrap()[range.clone()], there[range.clone()]);
    disk.outside().remove(QUARANTINE).unwrap();
    let copied = machine.scan().unwrap().damage.swap_remove(0);
    assert_eq!(disk.outside().read(copied.quarantined.unwrap()).unwrap(), there[range]);
}

#[test]
fn every_byte_of_a_durable_log_is_found_damaged_or_does_not_matter() {
    let mut machine = Machine::new(22, 64 * 1024, 4);
    written(&mut machine, 4, |_| true);
    let disk = machine.disk();
    let all = frames(&disk, 1);
    // Only later frames could prove the last ones. Up to here there is proof.
    let end = all.iter().rev().find(|(_, header)| header.synced.0 > 0).map(|(_, header)| header.synced.0).unwrap();
    for (offset, header) in all.iter().filter(|(_, header)| header.sequence.0 <= end) {
        for at in (0..u64::from(header.length)).step_by(5) {
            flip(&disk, 1, offset + at);
            let recovered = machine.scan().unwrap();
            assert_eq!(recovered.damage.len(), 1, "byte {at} of sequence {}", header.sequence.0);
            assert_eq!(recovered.last, all.last().unwrap().1.sequence);
            flip(&disk, 1, offset + at);
        }
    }
}

#[test]
fn an_incomplete_group_is_cut() {
    for (before, frames_in_group, padding) in [(3, 3, 40), (10, 2, 700)] {
        let mut machine = Machine::new(23, SMALL, 6);
        written(&mut machine, before, |_| true);
        let mut writer = machine.open();
        writer.append(&mut group(&writer, &source(), before, &vec![1; frames_in_group], padding)).unwrap();
        let crossed = writer.log().tail().segment > 1;
        assert_eq!(crossed, padding == 700, "the long group crosses into the next segment");
        let tail = writer.log().tail();
        assert_eq!(read(writer.log(), Position::default()).len(), before as usize + frames_in_group);
        drop(writer);
        machine.simulation.crash(Crash::Process);
        let disk = machine.disk();
        let (last, header) = *frames(&disk, tail.segment).last().unwrap();
        assert_eq!((header.kind, last + u64::from(header.length)), (FrameKind::Events, tail.offset));
        flip(&disk, tail.segment, last + 100);
        let recovered = machine.scan().unwrap();
        assert_eq!((recovered.ended_by, recovered.tail.unwrap().segment), ("torn_group", 1));
        assert_eq!(recovered.state.sources.get(SourceKey(7)).unwrap().intervals, [(0, before)]);
        let mut writer = machine.open();
        assert_eq!(read(writer.log(), Position::default()), (0..before).collect::<Vec<_>>());
        writer.append(&mut group(&writer, &source(), before, &[1, 1], padding)).unwrap();
        drop(writer);
        machine.simulation.crash(Crash::Process);
        assert_eq!(read(machine.open().log(), Position::default()), (0..before + 2).collect::<Vec<_>>());
    }
}

#[test]
fn a_missing_segment_is_damage_when_it_was_durable() {
    let mut machine = Machine::new(24, SMALL, 16);
    written(&mut machine, 60, |_| true);
    let disk = machine.disk();
    assert!(disk.outside().exists(Machine::segment_path(4)));
    disk.outside().remove(Machine::segment_path(2)).unwrap();
    let recovered = machine.scan().unwrap();
    assert_eq!((recovered.damage.len(), recovered.damage[0].segment), (1, 2));
    assert_eq!((&recovered.damage[0].quarantined, recovered.damage[0].known), (&None, false));
    let (after, before) = recovered.damage[0].between.unwrap();
    let lost = before.0 - after.0 - 1;
    assert!(lost > 1, "{lost} frames were in it");
    assert!(machine.scan().unwrap().damage[0].known, "what was told before is not told as news");
    let held = read(machine.open().log(), Position::default());
    assert_eq!((held[0], *held.last().unwrap()), (0, 59));
    assert!(held.len() < 60);
}

#[test]
fn a_damaged_segment_header_loses_no_frame() {
    let mut machine = Machine::new(25, SMALL, 16);
    written(&mut machine, 60, |_| true);
    flip(&machine.disk(), 2, 20);
    let recovered = machine.scan().unwrap();
    assert_eq!((recovered.damage.len(), recovered.damage[0].bytes), (1, SEGMENT_HEADER_BYTES as u64));
    assert_eq!(read(machine.open().log(), Position::default()), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_segment_that_never_was_durable_is_discarded() {
    let mut machine = Machine::new(26, SMALL, 16);
    written(&mut machine, 60, |_| false);
    let disk = machine.disk();
    disk.outside().remove(Machine::segment_path(2)).unwrap();
    let recovered = machine.scan().unwrap();
    assert_eq!((recovered.ended_by, recovered.damage.len(), recovered.sealed), ("segment_not_durable", 0, true));
    drop(recovered);
    let writer = machine.open();
    let held = read(writer.log(), Position::default());
    assert_eq!(held, (0..held.len() as u64).collect::<Vec<_>>());
    assert!(!held.is_empty() && held.len() < 60);
    assert!(!disk.outside().exists(Machine::segment_path(4)));
}

#[test]
fn a_foreign_version_is_refused_and_not_touched() {
    let mut machine = Machine::new(27, 64 * 1024, 4);
    written(&mut machine, 3, |_| true);
    let disk = machine.disk();
    let path = Machine::segment_path(1);
    let good = disk.outside().read(&path).unwrap();
    let (offset, header) = frames(&disk, 1)[2];
    let mut foreign_frame = good.clone();
    make_foreign(&mut foreign_frame[offset as usize..offset as usize + header.length as usize]);
    let mut foreign_segment = good.clone();
    foreign_segment[8] = 9;
    let checksum = crc_fast::crc32_iscsi(&foreign_segment[8..64]);
    foreign_segment[4..8].copy_from_slice(&checksum.to_le_bytes());
    for bytes in [foreign_frame, foreign_segment] {
        disk.outside().overwrite(&path, 0, &bytes).unwrap();
        let Err(WalError::Unusable { reason, .. }) = machine.try_open() else { panic!("accepted") };
        assert!(reason.contains("version 9"), "{reason}");
        assert_eq!(disk.outside().read(&path).unwrap(), bytes);
    }
}

/// Turns an intact frame into one of a future version.
fn make_foreign(frame: &mut [u8]) {
    frame[12] = 9;
    let checksum = crate::wal::frame::checksum(frame);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
}

/// A future version wrote this segment, and the program that rewrote it since ended exactly where one of the old frames begins.
#[test]
fn stale_frames_of_a_foreign_version_end_the_log_and_do_not_refuse_it() {
    // The header at the place of the fifth frame: a different log, epoch and sequence, and nothing else.
    let cases = [
        (16, &4_242_u64.to_le_bytes()[..], false),
        (24, &0_u32.to_le_bytes()[..], false),
        (32, &2_u64.to_le_bytes()[..], false),
        (32, &60_u64.to_le_bytes()[..], false),
        (16, &[][..], true),
    ];
    for (at, value, refused) in cases {
        let mut machine = Machine::new(29, 64 * 1024, 4);
        written(&mut machine, 6, |_| true);
        let disk = machine.disk();
        let path = Machine::segment_path(1);
        let mut bytes = disk.outside().read(&path).unwrap();
        let (offset, header) = frames(&disk, 1)[4];
        let frame = &mut bytes[offset as usize..offset as usize + header.length as usize];
        frame[at..at + value.len()].copy_from_slice(value);
        make_foreign(frame);
        // What followed it is gone: nothing proves that a durable frame was there.
        bytes[offset as usize + header.length as usize..].fill(0);
        disk.outside().overwrite(&path, 0, &bytes).unwrap();
        match machine.scan() {
            Err(WalError::Unusable { reason, .. }) => {
                assert!(refused && reason.contains("version 9"), "{at}: {reason}")
            }
            Err(error) => panic!("{at}: {error}"),
            Ok(found) => {
                assert!(!refused, "{at}: accepted");
                assert_eq!((found.damage.len(), found.tail.unwrap().offset), (0, offset), "{at}: {value:?}");
            }
        }
    }
}

#[test]
fn a_cursor_reports_damage_and_goes_on_behind_it() {
    let mut machine = Machine::new(28, SMALL, 16);
    let disk = machine.disk();
    let mut writer = machine.open();
    let source = source();
    let mut next = 0;
    while writer.log().tail().segment == 1 {
        writer.append(&mut group(&writer, &source, next, &[1], 40)).unwrap();
        next += 1;
    }
    let (offset, header) = frames(&disk, 1)[3];
    flip(&disk, 1, offset + 100);
    let mut cursor = Cursor::open(writer.log().clone(), Position::default());
    let mut ordinals = Vec::new();
    let mut lost = Vec::new();
    loop {
        match cursor.next() {
            Ok(Some(frame)) => ordinals.push(ordinal_of(&frame.payload())),
            Ok(None) => break,
            Err(WalError::Damaged { offset: at, .. }) => {
                assert_eq!(at, offset);
                lost.push(cursor.skip_damage().unwrap());
            }
            Err(error) => panic!("{error}"),
        }
    }
    let sequence = header.sequence.0;
    assert_eq!((lost[0].after, lost[0].before), (Sequence(sequence - 1), Sequence(sequence + 1)));
    assert_eq!(lost.len(), 1);
    assert_eq!(ordinals, (0..next).filter(|ordinal| *ordinal != 2).collect::<Vec<_>>());
}

#[test]
fn recovery_is_a_pure_function_of_the_bytes() {
    let mut machine = Machine::new(29, SMALL, 16);
    written(&mut machine, 60, |ordinal| ordinal % 7 == 0);
    let disk = machine.disk();
    flip(&disk, 2, 600);
    flip(&disk, 3, 30);
    let summary = |recovered: RecoveredLog<SimDisk>| {
        let RecoveredLog {
            tail, sealed, last, highest_seen, epoch, synced, state, mut damage, ended_by, events, ..
        } = recovered;
        // The copies of the first scan are on the disk too.
        damage.iter_mut().for_each(|damage| damage.known = false);
        let segments: Vec<_> =
            recovered.segments.iter().map(|segment| (segment.number, segment.gaps.clone())).collect();
        (tail, sealed, last, highest_seen, epoch, synced, state, damage, (ended_by, events, segments))
    };
    let first = summary(machine.scan().unwrap());
    let second = summary(machine.scan().unwrap());
    assert!(!first.7.is_empty());
    assert_eq!(first, second);
}

#[test]
fn the_data_directory_gives_no_log_id_twice_and_is_locked() {
    let mut machine = Machine::new(30, SMALL, 4);
    let env = machine.simulation.env(ShardId(0));
    let root = Path::new("/elsewhere");
    let open = || crate::wal::manifest::DataDirectory::open(env.disk().clone(), root);
    let mut directory = open().unwrap();
    let first = directory.new_log().unwrap();
    assert!(matches!(open(), Err(WalError::Unusable { reason, .. }) if reason.contains("another Tailwater")));
    directory.remove_log(first).unwrap();
    drop(directory);
    let mut directory = open().unwrap();
    let second = directory.new_log().unwrap();
    assert!(second > first);
    assert_eq!(directory.logs().unwrap(), [second]);
    drop(directory);
    machine.disk().outside().remove("/elsewhere/manifest").unwrap();
    assert!(matches!(open(), Err(WalError::Unusable { reason, .. }) if reason.contains("restore")));
    machine.disk().outside().write("/elsewhere/manifest", b"tailwater-data 3\nnext_log 9\n").unwrap();
    assert!(matches!(open(), Err(WalError::Unusable { reason, .. }) if reason.contains("format 3")));
}

/// At whatever moment the power fails while a drained log is removed: the log has a segment, or the manifest does not name it.
#[test]
fn a_drained_log_is_not_taken_for_lost() {
    for operations in 0..30 {
        let mut machine = Machine::new(operations, SMALL, 4);
        let root = Path::new("/elsewhere");
        let mut directory =
            crate::wal::manifest::DataDirectory::open(machine.simulation.env(ShardId(0)).disk().clone(), root).unwrap();
        let log = directory.new_log().unwrap();
        let path = directory.log_path(log);
        let outside = machine.disk().outside();
        for name in ["0000000000000004.seg", "0000000000000005.seg", "standby-7.seg"] {
            outside.write(path.join(name), b"x").unwrap();
        }
        outside.sync_all();
        directory.set_contents(&[], KnownLogs { written: vec![log], ..KnownLogs::default() }).unwrap();
        machine.disk().crash_after(operations);
        let _ = directory.remove_log(log);
        drop(directory);
        machine.simulation.crash(if operations % 3 == 0 { Crash::Process } else { Crash::Power });
        let disk = machine.simulation.env(ShardId(0)).disk().clone();
        let directory = crate::wal::manifest::DataDirectory::open(disk, root).unwrap();
        let is_there = outside.stat(path.join("0000000000000005.seg")).is_ok();
        let is_named = directory.written_logs().contains(&log);
        assert!(is_there || !is_named, "operation {operations}");
    }
}

/// A segment has its full length before it has a name: bytes that are cut off its end did exist.
#[test]
fn a_segment_that_is_too_short_is_damage() {
    let mut machine = Machine::new(41, SMALL, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    for first in 0..20 {
        writer.append(&mut group(&writer, &source(), first, &[1], 8)).unwrap();
    }
    sync(&mut writer, &disk).unwrap();
    drop(writer);
    assert_eq!(machine.scan().unwrap().damage, []);
    let path = Machine::segment_path(1);
    disk.outside().truncate(&path, 2048).unwrap();
    let recovered = machine.scan().unwrap();
    let told = &recovered.damage[0];
    assert_eq!((told.segment, told.offset, told.bytes), (1, 2048, SMALL - 2048));
    assert!(recovered.events < 20);
    let log = recovered.reader(disk);
    let has_passed = |sequence| {
        let position = Position { sequence: Sequence(sequence), event: 0 };
        crate::wal::cursor::has_passed(&log, position, told)
    };
    assert!(!has_passed(1) && !has_passed(log.end().sequence.0), "what was delivered behind it does not come again");
}

#[test]
fn a_manifest_that_would_give_an_id_again_is_refused() {
    let mut machine = Machine::new(31, SMALL, 4);
    let env = machine.simulation.env(ShardId(0));
    let root = Path::new("/elsewhere");
    let open = || crate::wal::manifest::DataDirectory::open(env.disk().clone(), root);
    let outside = machine.disk().outside();
    for log in ["log-00000001", "log-00000007", "log-+9", "log-12"] {
        outside.create_dir_all(format!("/elsewhere/wal/{log}")).unwrap();
    }
    let manifest =
        |next: u64| outside.write("/elsewhere/manifest", format!("tailwater-data 1\nnext_log {next}\n").as_bytes());
    manifest(7).unwrap();
    assert!(matches!(open(), Err(WalError::Unusable { reason, .. }) if reason.contains("older than the logs")));
    manifest(8).unwrap();
    assert_eq!(open().unwrap().logs().unwrap(), [LogId(1), LogId(7)]);
    manifest(u64::MAX).unwrap();
    assert!(matches!(open().unwrap().new_log(), Err(WalError::Unusable { path, .. }) if path.ends_with("manifest")));
}

#[test]
fn a_log_near_the_end_of_its_numbers_is_not_written_to() {
    let mut machine = Machine::new(32, SMALL, 4);
    written(&mut machine, 3, |_| true);
    let recovered = machine.scan().unwrap();
    let env = machine.simulation.env(ShardId(0));
    let state = recovered.state.clone();
    let floor = Sequence(crate::limits::SEQUENCE_MAX);
    let refused = Writer::open(env, machine.options.clone(), recovered, state, floor);
    assert!(matches!(refused, Err(WalError::Unusable { reason, .. }) if reason.contains("near their end")));
}

#[test]
fn names_that_an_earlier_start_made_are_durable_once_the_directory_is_open() {
    let mut machine = Machine::new(33, SMALL, 4);
    let root = Path::new("/new/elsewhere");
    for operations in 1..40 {
        machine.disk().crash_after(operations);
        let env = machine.simulation.env(ShardId(0));
        let _ = crate::wal::manifest::DataDirectory::open(env.disk().clone(), root).and_then(|mut open| open.new_log());
        machine.simulation.crash(Crash::Process);
        let env = machine.simulation.env(ShardId(0));
        let directory = crate::wal::manifest::DataDirectory::open(env.disk().clone(), root).unwrap();
        let logs = directory.logs().unwrap();
        drop(directory);
        machine.simulation.crash(Crash::Power);
        let env = machine.simulation.env(ShardId(0));
        let directory = crate::wal::manifest::DataDirectory::open(env.disk().clone(), root).unwrap();
        assert_eq!(directory.logs().unwrap(), logs, "a death after {operations} operations");
        drop(directory);
        machine.disk().outside().remove_dir_all("/new").unwrap();
        machine.disk().outside().sync_all();
    }
}

/// A group whose frames each have positions, as written when the positions of many batches wait for lines.
#[test]
fn positions_of_an_incomplete_group_are_not_taken() {
    let mut machine = Machine::new(29, SMALL, 6);
    let mut writer = machine.open();
    let mut group = Group::new();
    for ordinal in 0..3 {
        let frame = group.frame(FrameKind::Events, 0, ALL);
        frame.payload().extend_from_slice(line(ordinal, 8).as_bytes());
        frame.end_event(Timestamp(5), None);
        frame.position(&SourceRange { from: ordinal, to: ordinal + 1, marker: 0 }, &source(), ordinal == 0, false);
        frame.finish();
    }
    writer.append(&mut group).unwrap();
    drop(writer);
    machine.simulation.crash(Crash::Process);
    assert_eq!(machine.scan().unwrap().state.sources.get(SourceKey(7)).unwrap().intervals, [(0, 3)]);
    let disk = machine.disk();
    let (last, _) = *frames(&disk, 1).last().unwrap();
    flip(&disk, 1, last + 100);
    let recovered = machine.scan().unwrap();
    assert_eq!((recovered.ended_by, recovered.events), ("torn_group", 0));
    assert_eq!(recovered.reached, recovered.highest_seen, "nothing lies behind the group");
    assert!(recovered.state.sources.get(SourceKey(7)).is_none(), "none of its events is in the log");
}

#[test]
fn what_is_set_aside_is_durable_under_its_name() {
    let mut machine = Machine::new(34, SMALL, 4);
    machine.disk().outside().create_dir_all("/data").unwrap();
    written(&mut machine, 6, |_| true);
    let disk = machine.disk();
    let (offset, _) = frames(&disk, 1)[2];
    flip(&disk, 1, offset + 100);
    let recovered = machine.scan().unwrap();
    let path = recovered.damage[0].quarantined.clone().unwrap();
    machine.simulation.crash(Crash::Power);
    assert!(machine.disk().outside().exists(&path), "its directory had its name too");
}
