//! Fixtures: the bytes that each version of the format wrote stay readable, and their corrupt variants end as recorded.
//!
//! `tests/fixtures/wal-vN/expected.txt` has a line for each file: name, then the result of recovery, and after `read` what a
//! cursor returns: the number of events, and a hash of their positions, timestamps, outputs and bytes. What is written today is
//! byte for byte the same, so a change of the format is detected too. To create the files of a new version, run this test with
//! `TAILWATER_WRITE_FIXTURES=1`. Those of released versions are never written again.

use super::*;
use crate::wal::frame::{FRAME_VERSION, FrameHeader, checksum};
use std::path::PathBuf;

const SEGMENT_BYTES: u64 = 4096;

fn folder(version: u8) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../tests/fixtures/wal-v{version}"))
}

/// A segment with everything that the format supports: records, columns, a group, a commit. Also returns where its frames
/// begin.
fn written() -> (Vec<u8>, Vec<usize>) {
    let mut machine = Machine::new(1, SEGMENT_BYTES, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    writer.set_registry(vec![RegistryEntry { number: OutputNumber(0), name: "es".into(), removed: false }]).unwrap();
    let mut columns = Group::new();
    let frame = columns.frame(FrameKind::Events, 3, ALL);
    for ordinal in 0..3 {
        frame.payload().extend_from_slice(line(ordinal, 8).as_bytes());
        frame.end_event(Timestamp(ordinal as i64 * 1_000), Some(1 << ordinal));
    }
    frame.position(&SourceRange { from: 0, to: 3, marker: 30 }, &source(), true, false);
    frame.finish();
    writer.append(&mut columns).unwrap();
    sync(&mut writer, &disk).unwrap();
    writer.append(&mut group(&writer, &source(), 3, &[1, 2], 8)).unwrap();
    sync(&mut writer, &disk).unwrap();
    let position = Position { sequence: Sequence(3), event: 1 };
    writer.commit(&commit_of(1, position)).unwrap();
    let bytes = disk.outside().read(Machine::segment_path(1)).unwrap();
    let mut starts = vec![crate::wal::segment::SEGMENT_HEADER_BYTES];
    while let Ok(header) = FrameHeader::decode(&bytes[*starts.last().unwrap()..]) {
        starts.push(starts.last().unwrap() + header.length as usize);
    }
    (bytes, starts)
}

/// A segment that was written in two lives. The second one's snapshot repeats the knowledge of the first, including a missing
/// source and a gap in another. Also returns where the first frame of the second life begins.
fn two_lives() -> (Vec<u8>, usize) {
    let mut machine = Machine::new(1, SEGMENT_BYTES, 4);
    let disk = machine.disk();
    let mut writer = machine.open();
    let registry = [("es", false), ("old", true)].into_iter().enumerate();
    let entry = |(number, (name, removed)): (usize, (&str, bool))| RegistryEntry {
        number: OutputNumber(number as u8),
        name: name.into(),
        removed,
    };
    writer.set_registry(registry.map(entry).collect()).unwrap();
    writer.append(&mut group(&writer, &source(), 0, &[2], 8)).unwrap();
    writer.append(&mut group(&writer, &source(), 5, &[1], 8)).unwrap();
    let gone = Source { key: SourceKey(8), name: b"/var/log/gone.log".to_vec(), ..(*source()).clone() };
    let mut farewell = Group::new();
    let frame = farewell.frame(FrameKind::Events, 0, ALL);
    frame.position(&SourceRange { from: 0, to: 9, marker: 90 }, &Arc::new(gone), true, true);
    frame.set_timestamp(machine.simulation.wall());
    frame.finish();
    writer.append(&mut farewell).unwrap();
    writer.commit(&commit_of(1, Position { sequence: Sequence(3), event: 1 })).unwrap();
    sync(&mut writer, &disk).unwrap();
    drop(writer);
    machine.simulation.crash(Crash::Process);
    let end = machine.scan().unwrap().tail.unwrap().offset as usize;
    let mut writer = machine.open();
    writer.append(&mut group(&writer, &source(), 6, &[1], 8)).unwrap();
    sync(&mut writer, &disk).unwrap();
    writer.commit(&commit_of(2, Position { sequence: Sequence(3), event: 2 })).unwrap();
    (disk.outside().read(Machine::segment_path(1)).unwrap(), end)
}

fn twins() -> Vec<(&'static str, Vec<u8>)> {
    let (good, starts) = written();
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let frame = |number: usize| starts[number]..starts[number + 1];
    let commit = starts.len() - 2;
    let (lives, second) = two_lives();
    let mut only_second = lives.clone();
    only_second[crate::wal::segment::SEGMENT_HEADER_BYTES..second].fill(0);
    vec![
        ("good.seg", good.clone()),
        ("damaged-frame.seg", changed(&|bytes| bytes[frame(2).start + 100] ^= 1)),
        ("impossible-length.seg", changed(&|bytes| bytes[frame(2).start + 10] = 0xff)),
        ("torn-commit.seg", changed(&|bytes| bytes[frame(commit)].fill(0))),
        ("half-group.seg", changed(&|bytes| bytes[frame(commit - 1).start..].fill(0))),
        ("bad-header.seg", changed(&|bytes| bytes[30] ^= 1)),
        (
            "foreign-frame.seg",
            changed(&|bytes| {
                let frame = &mut bytes[frame(2)];
                frame[12] = 0xff;
                let checksum = checksum(frame);
                frame[4..8].copy_from_slice(&checksum.to_le_bytes());
            }),
        ),
        ("two-lives.seg", lives),
        // The knowledge is then what the snapshot of the second life contains.
        ("first-life-damaged.seg", only_second),
        ("short.seg", good[..frame(3).end].to_vec()),
    ]
}

/// Everything that a cursor returns from the log, with damage skipped: the number of events, and a hash of everything known
/// about them.
fn handed_out(writer: &TestWriter) -> String {
    let mut cursor = Cursor::open(writer.log().clone(), Position::default());
    let (mut events, mut known) = (0, Vec::new());
    loop {
        match cursor.next() {
            Ok(Some(frame)) => {
                let view = frame.view().unwrap();
                for line in view.lines(frame.first_event()).unwrap() {
                    events += 1;
                    known.extend_from_slice(&frame.header().sequence.0.to_le_bytes());
                    known.extend_from_slice(&line.index.to_le_bytes());
                    known.extend_from_slice(&line.timestamp.0.to_le_bytes());
                    known.extend_from_slice(&line.mask.to_le_bytes());
                    known.extend_from_slice(line.bytes);
                }
            }
            Ok(None) => break,
            Err(_) if cursor.skip_damage().is_some() => {}
            Err(_) => break,
        }
    }
    format!("read {events} {:016x}", xxhash_rust::xxh3::xxh3_64(&known))
}

/// The result of recovery for a file, in one line.
fn outcome(bytes: &[u8]) -> String {
    let mut machine = Machine::new(1, SEGMENT_BYTES, 4);
    machine.disk().outside().write(Machine::segment_path(1), bytes).unwrap();
    match machine.scan() {
        Err(WalError::Unusable { .. }) => "refused".to_owned(),
        Err(error) => panic!("{error}"),
        Ok(recovered) => {
            let damage: u64 = recovered.damage.iter().map(|damage| damage.bytes).sum();
            let ranges = recovered.state.sources.get(SourceKey(7)).map_or(Vec::new(), |state| state.intervals.clone());
            let gone = recovered.state.sources.iter().filter(|state| state.gone.is_some()).count();
            let commits: Vec<_> = recovered.state.commits.values().map(|commit| commit.number).collect();
            let said = format!(
                "{} last {} events {} damaged {damage} ranges {ranges:?} gone {gone} commits {commits:?} outputs {}",
                recovered.ended_by,
                recovered.last.0,
                recovered.events,
                recovered.state.registry.len()
            );
            format!("{said} {}", handed_out(&machine.open()))
        }
    }
}

fn end_as_recorded(version: u8) {
    let folder = folder(version);
    let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
    assert!(expected.lines().count() >= 8);
    let files = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(files, expected.lines().count() + 1, "each file is looked at");
    for line in expected.lines() {
        let (name, wanted) = line.split_once(' ').unwrap();
        assert_eq!(outcome(&std::fs::read(folder.join(name)).unwrap()), wanted, "version {version}: {name}");
    }
}

#[test]
fn version_1_stays_readable_and_its_corrupt_twins_end_as_recorded() {
    end_as_recorded(1);
}

#[test]
fn version_2_stays_readable_and_its_corrupt_twins_end_as_recorded() {
    end_as_recorded(2);
}

#[test]
fn version_3_stays_readable_and_its_corrupt_twins_end_as_recorded() {
    if std::env::var_os("TAILWATER_WRITE_FIXTURES").is_some() {
        let folder = folder(FRAME_VERSION);
        std::fs::create_dir_all(&folder).unwrap();
        let mut expected = String::new();
        for (name, bytes) in twins() {
            expected.push_str(&format!("{name} {}\n", outcome(&bytes)));
            std::fs::write(folder.join(name), bytes).unwrap();
        }
        std::fs::write(folder.join("expected.txt"), expected).unwrap();
    }
    end_as_recorded(3);
}

/// A segment without the fields that record how far syncs had come and when a frame was written, which depend on the moment of
/// writing and not on the format.
fn without_moments(mut bytes: Vec<u8>) -> Vec<u8> {
    const MOMENTS: [std::ops::Range<usize>; 2] = [40..48, 88..96];
    let mut start = crate::wal::segment::SEGMENT_HEADER_BYTES;
    while let Ok(header) = FrameHeader::decode(&bytes[start..]) {
        let frame = &mut bytes[start..start + header.length as usize];
        MOMENTS.into_iter().for_each(|moment| frame[moment].fill(0));
        let checksum = checksum(frame);
        frame[4..8].copy_from_slice(&checksum.to_le_bytes());
        assert_eq!(FrameHeader::decode(frame).unwrap(), FrameHeader { synced: Sequence(0), written: None, ..header });
        start += header.length as usize;
    }
    bytes
}

/// The other files are these two with damage.
#[test]
fn version_3_is_written_byte_for_byte_as_it_was() {
    let kept = |name: &str| std::fs::read(folder(FRAME_VERSION).join(name)).unwrap();
    let same = |name: &str, kept: &[u8], written: &[u8]| {
        let differs = kept.iter().zip(written).position(|(kept, written)| kept != written);
        assert_eq!((differs, written.len()), (None, kept.len()), "{name}: the first byte that differs, and the length");
    };
    same("two-lives.seg", &without_moments(kept("two-lives.seg")), &without_moments(two_lives().0));
    same("good.seg", &without_moments(kept("good.seg")), &without_moments(written().0));
}
