//! Frames: round trips and hostile bytes.

use super::*;
use crate::wal::builder::{FrameBuilder, Stamp};
use crate::wal::frame::{FLAG_MASKS, FLAG_TIMESTAMPS, FrameError, FrameHeader, FrameView, checksum_holds};
use crate::wal::record::{decode_commit, encode_commit};
use crate::wal::segment::{HeaderFound, SegmentHeader, segment_number, standby_number};
use proptest::prelude::*;
use std::borrow::Cow;

fn stamp() -> Stamp {
    Stamp {
        written: Timestamp(1_700_000_000_000_000_000),
        log: LOG,
        epoch: 3,
        shard: 2,
        sequence: Sequence(77),
        synced: Sequence(70),
        more: false,
        starts_epoch: false,
    }
}

fn sample() -> Vec<u8> {
    let mut frame = FrameBuilder::new();
    frame.begin(FrameKind::Events, 4, ALL);
    for ordinal in 0..3 {
        frame.payload().extend_from_slice(line(ordinal, ordinal as usize).as_bytes());
        frame.end_event(Timestamp(ordinal as i64), Some(ordinal));
    }
    frame.position(&SourceRange { from: 1, to: 2, marker: 3 }, &source(), true, false);
    frame.discard(5);
    frame.finish();
    frame.stamp(&stamp()).to_vec()
}

#[test]
fn frame_round_trip() {
    let bytes = sample();
    assert!(checksum_holds(&bytes));
    let view = FrameView::new(Cow::Borrowed(&bytes)).unwrap();
    let header = view.header();
    assert_eq!((header.sequence, header.synced, header.log), (Sequence(77), Sequence(70), LOG));
    assert_eq!((header.epoch, header.shard, header.pipeline, header.discarded), (3, 2, 4, 5));
    let lines: Vec<_> =
        view.lines(1).unwrap().map(|line| (ordinal_of(line.bytes), line.timestamp.0, line.mask)).collect();
    assert_eq!(lines, [(1, 1, 1), (2, 2, 2)]);
    let positions: Vec<_> = view.positions().collect::<Result<_, _>>().unwrap();
    assert_eq!(positions[0].range, SourceRange { from: 1, to: 2, marker: 3 });
    assert_eq!(*positions[0].record.unwrap().to_source(SourceKey(7)), *source());
}

#[test]
fn uniform_events_cost_four_bytes_of_index() {
    let mut frame = FrameBuilder::new();
    frame.begin(FrameKind::Events, 0, ALL);
    for _ in 0..8 {
        frame.payload().extend_from_slice(b"1234567\n");
        frame.end_event(Timestamp(9), Some(1));
    }
    frame.finish();
    assert_eq!(frame.length(), 96 + 64 + 32);
    let bytes = frame.stamp(&stamp()).to_vec();
    let header = FrameHeader::decode(&bytes).unwrap();
    assert!(!header.has(FLAG_MASKS) && !header.has(FLAG_TIMESTAMPS));
    assert_eq!((header.outputs, header.timestamp), (1, Timestamp(9)));
}

#[test]
fn any_corrupted_byte_is_detected() {
    let bytes = sample();
    for at in 0..bytes.len() {
        let mut corrupt = bytes.clone();
        corrupt[at] ^= 0x10;
        let view = FrameView::new(Cow::Borrowed(&corrupt));
        assert!(view.is_err() || !checksum_holds(&corrupt), "byte {at}");
    }
}

#[test]
fn positions_of_a_source_that_cannot_be_read_again_are_not_kept() {
    let mut frame = FrameBuilder::new();
    let once = Arc::new(Source { repeatable: false, ..(*source()).clone() });
    frame.begin(FrameKind::Events, 0, ALL);
    frame.position(&SourceRange { from: 0, to: 9, marker: 0 }, &once, true, false);
    assert!(frame.is_empty());
}

#[test]
fn commit_and_snapshot_round_trip() {
    let commit = commit_of(4, Position { sequence: Sequence(5), event: 6 });
    let lost = Commit { output: OutputNumber(1), state: None, ..commit.clone() };
    let mut state = LogState::default();
    state.commits.take(commit.clone());
    state.commits.take(lost.clone());
    state.registry.push(RegistryEntry { number: OutputNumber(3), name: "es".into(), removed: true });
    let ranges = [(0, 5), (7, 9)];
    let when = crate::wal::positions::Recorded { epoch: 3, at: Timestamp(9) };
    for (from, to) in ranges {
        state.sources.insert(&source(), &SourceRange { from, to, marker: to }, Some(Timestamp(8)), when);
    }
    let mut group = Group::new();
    let directory = Path::new(DIRECTORY);
    crate::wal::snapshot::build_snapshot(&mut group, &mut state, Timestamp(1), 1 << 20, directory).unwrap();
    let bytes = group.frames_mut()[0].stamp(&stamp()).to_vec();
    let view = FrameView::new(Cow::Borrowed(&bytes)).unwrap();
    let snapshot = crate::wal::record::decode_snapshot(view.payload(), view.header().version).unwrap();
    assert_eq!(snapshot.registry, state.registry);
    assert_eq!(snapshot.commits, [commit, lost]);
    assert_eq!(&snapshot.sources[0], state.sources.get(SourceKey(7)).unwrap());
    assert_eq!(snapshot.sources[0].intervals, ranges);
}

proptest! {
    #[test]
    fn any_frame_round_trips(
        events in proptest::collection::vec(("[a-z]{0,40}", any::<i8>(), any::<Option<u64>>()), 0..40),
        range in any::<(u32, u32)>(),
        record in any::<bool>(),
    ) {
        let mut frame = FrameBuilder::new();
        frame.begin(FrameKind::Events, 1, ALL);
        for (text, timestamp, mask) in &events {
            frame.payload().extend_from_slice(text.as_bytes());
            frame.payload().push(b'\n');
            frame.end_event(Timestamp(i64::from(*timestamp)), *mask);
        }
        let range = SourceRange { from: range.0.into(), to: u64::from(range.0) + u64::from(range.1), marker: 1 };
        frame.position(&range, &source(), record, !record);
        frame.finish();
        let bytes = frame.stamp(&stamp()).to_vec();
        prop_assert!(checksum_holds(&bytes));
        let view = FrameView::new(Cow::Borrowed(&bytes)).unwrap();
        let lines: Vec<_> = view.lines(0).unwrap().collect();
        prop_assert_eq!(lines.len(), events.len());
        for (line, (text, timestamp, mask)) in lines.iter().zip(&events) {
            prop_assert_eq!(str::from_utf8(line.bytes).unwrap(), format!("{text}\n"));
            prop_assert_eq!(line.timestamp.0, i64::from(*timestamp));
            prop_assert_eq!(line.mask, mask.unwrap_or(ALL));
        }
        let position = view.positions().next().unwrap().unwrap();
        prop_assert_eq!((position.range, position.record.is_some(), position.gone), (range, record, !record));
    }

    #[test]
    fn hostile_bytes_never_panic(at in 8usize..300, values in proptest::collection::vec(any::<u8>(), 1..12)) {
        let mut bytes = sample();
        for (place, value) in bytes.iter_mut().skip(at).zip(values) {
            *place = value;
        }
        // Skips the checksum on purpose: the content itself must not be trusted.
        if let Ok(view) = FrameView::new(Cow::Borrowed(&bytes)) {
            if let Ok(lines) = view.lines(1) {
                lines.for_each(drop);
            }
            view.positions().for_each(drop);
            let _ = crate::wal::record::decode_snapshot(view.payload(), view.header().version);
            let _ = crate::wal::record::decode_commit(view.payload(), view.header().version);
        }
    }

    #[test]
    fn intervals_are_the_union_in_any_order(ranges in proptest::collection::vec((0u64..60, 0u64..12), 0..20)) {
        let mut intervals = Vec::new();
        let mut covered = [false; 80];
        for (from, length) in ranges {
            crate::wal::positions::insert_interval(&mut intervals, from, from + length);
            covered[from as usize..(from + length) as usize].fill(true);
        }
        prop_assert!(intervals.windows(2).all(|pair| pair[0].1 < pair[1].0));
        let holds = |at: usize| intervals.iter().any(|interval| interval.0 <= at as u64 && (at as u64) < interval.1);
        for (at, covered) in covered.iter().enumerate() {
            prop_assert_eq!(holds(at), *covered);
        }
        let missing: u64 = crate::wal::positions::holes(&intervals).map(|(from, to)| to - from).sum();
        let end = intervals.last().map_or(0, |interval| interval.1);
        prop_assert_eq!(missing, covered[..end as usize].iter().filter(|covered| !**covered).count() as u64);
    }
}

#[test]
fn numbers_that_no_log_reaches_are_damage() {
    let mut bytes = sample();
    for place in [32, 40] {
        let kept: Vec<u8> = bytes[place..place + 8].to_vec();
        bytes[place..place + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(FrameHeader::decode(&bytes), Err(FrameError::Malformed)));
        bytes[place..place + 8].copy_from_slice(&kept);
    }
    bytes[24..28].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(FrameHeader::decode(&bytes), Err(FrameError::Malformed)));
    let mut commit = commit_of(1, Position { sequence: Sequence(u64::MAX), event: 0 });
    let decoded = |commit: &Commit| {
        let mut out = Vec::new();
        encode_commit(&mut out, commit);
        decode_commit(&out, crate::wal::frame::FRAME_VERSION)
    };
    assert!(decoded(&commit).is_err());
    commit.cursors.clear();
    assert_eq!(decoded(&commit).as_ref(), Ok(&commit));
    commit.number = u64::MAX;
    assert!(decoded(&commit).is_err());
    for name in ["9999999999999999.seg", "standby-18446744073709551615.seg"] {
        assert_eq!(segment_number(name).or(standby_number(name)), None);
    }
    assert_eq!(segment_number("0000000000000012.seg"), Some(12));
}

#[test]
fn a_segment_whose_first_sequence_no_log_reaches_is_bad() {
    let header = |first, epoch| {
        let header = SegmentHeader {
            log: LOG,
            number: 1,
            first_sequence: Sequence(first),
            epoch,
            segment_bytes: 4096,
            previous: 0,
        };
        SegmentHeader::decode(&header.encode())
    };
    assert!(matches!(header(1, 1), HeaderFound::Good(_)));
    assert_eq!([header(u64::MAX, 1), header(1, u32::MAX)], [HeaderFound::Bad; 2]);
}
