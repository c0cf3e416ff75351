//! Target `checkpoint`: the records of progress: snapshots, commits, positions, and the identity of a file.
//!
//! Promises: what is decoded encodes to the same bytes; intervals are sorted, disjoint and not empty; nothing larger than the
//! input is allocated.

use crate::Verdict;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use tailwater::inputs::file::identity::{Descriptor, HEAD_BYTES};
use tailwater_shards::batch::Source;
use tailwater_shards::wal::Commit;
use tailwater_shards::wal::frame::{
    FRAME_HEADER_BYTES, FRAME_VERSION, FRAME_VERSION_OLDEST, FrameHeader, FrameKind, FrameView,
};
use tailwater_shards::wal::positions::holes;
use tailwater_shards::wal::record::{
    PositionEntry, Snapshot, decode_commit, decode_snapshot, encode_commit, encode_position, encode_snapshot,
};

/// Versions of the format that can be read.
const VERSIONS: std::ops::RangeInclusive<u8> = FRAME_VERSION_OLDEST..=FRAME_VERSION;

/// The first byte selects the record.
pub fn check(data: &[u8]) -> Verdict {
    let Some((which, rest)) = data.split_first() else { return Verdict::Refused };
    Verdict::accepted(match which % 4 {
        0 => snapshot(rest),
        1 => commit(rest),
        2 => positions(rest),
        _ => descriptor(rest),
    })
}

/// Whether the bytes are a snapshot of a known version.
pub fn snapshot(payload: &[u8]) -> bool {
    let snapshots = VERSIONS.filter_map(|version| decode_snapshot(payload, version).ok());
    snapshots.map(|snapshot| one_snapshot(payload, &snapshot)).count() > 0
}

fn one_snapshot(payload: &[u8], snapshot: &Snapshot) {
    let things = snapshot.registry.len() + snapshot.sources.len() + snapshot.commits.len();
    assert!(things * 4 <= payload.len(), "{things} things of {} bytes", payload.len());
    for source in &snapshot.sources {
        assert!(source.intervals.iter().all(|(from, to)| from < to), "an interval is empty");
        assert!(source.intervals.windows(2).all(|pair| pair[0].1 < pair[1].0), "intervals touch or are out of order");
        assert!(holes(&source.intervals).count() <= source.intervals.len());
        descriptor(&source.source.descriptor);
    }
    let mut again = Vec::new();
    encode_snapshot(&mut again, &snapshot.registry, snapshot.sources.iter(), snapshot.commits.iter());
    assert_eq!(
        decode_snapshot(&again, FRAME_VERSION).as_ref(),
        Ok(snapshot),
        "a snapshot comes back as it was written"
    );
}

/// Whether the bytes are a commit of a known version.
pub fn commit(payload: &[u8]) -> bool {
    let commits = VERSIONS.filter_map(|version| Some((version, decode_commit(payload, version).ok()?)));
    commits.map(|(version, commit)| one_commit(payload, version, &commit)).count() > 0
}

fn one_commit(payload: &[u8], version: u8, commit: &Commit) {
    let head = if version == 1 { 24 } else { 32 };
    assert_eq!(head + commit.cursors.len() * 24 + commit.state_bytes(), payload.len());
    let mut again = Vec::new();
    encode_commit(&mut again, commit);
    assert_eq!(decode_commit(&again, FRAME_VERSION).as_ref(), Ok(commit), "a commit comes back as it was written");
    if let Some(state) = &commit.state {
        crate::outputs::state(state);
    }
}

/// Encodes the position section of a frame again.
pub fn position(entry: &PositionEntry<'_>) {
    let record = entry.record.map(|record| record.to_source(entry.key));
    let source = record.as_deref().cloned().unwrap_or_else(|| Source {
        key: entry.key,
        input: "".into(),
        name: Vec::new(),
        descriptor: Vec::new(),
        repeatable: true,
    });
    let mut again = Vec::new();
    encode_position(&mut again, &entry.range, &source, record.is_some(), entry.gone);
    let framed = framed(&again);
    let Ok(view) = FrameView::new(framed.into()) else { panic!("a frame of one position is none") };
    let read: Vec<_> = view.positions().collect();
    assert_eq!(read, [Ok(*entry)], "a position comes back as it was written");
}

/// A frame that contains only positions.
fn framed(section: &[u8]) -> Vec<u8> {
    let length = FRAME_HEADER_BYTES + section.len().next_multiple_of(8);
    let header = FrameHeader {
        length: length as u32,
        position_bytes: section.len() as u32,
        ..FrameHeader::empty(FrameKind::Events)
    };
    let mut bytes = vec![0; length];
    if let Some(head) = bytes.first_chunk_mut::<FRAME_HEADER_BYTES>() {
        header.encode(head);
    }
    bytes[FRAME_HEADER_BYTES..][..section.len()].copy_from_slice(section);
    bytes
}

fn positions(section: &[u8]) -> bool {
    let framed = framed(section);
    let Ok(view) = FrameView::new(framed.into()) else { panic!("a frame of positions is none") };
    let mut good = true;
    for entry in view.positions() {
        match entry {
            Ok(entry) => position(&entry),
            Err(_) => good = false,
        }
    }
    good
}

fn descriptor(bytes: &[u8]) -> bool {
    let Some(descriptor) = Descriptor::decode(bytes) else { return false };
    assert!(usize::from(descriptor.identity.head.length) <= HEAD_BYTES);
    let path = OsStr::from_bytes(&descriptor.path);
    let again = Descriptor::encode(&descriptor.identity, path.as_ref());
    match bytes[0] == again[0] {
        true => assert_eq!(again, bytes, "a descriptor comes back as it was"),
        // An earlier version with fewer fields.
        false => assert_eq!(Descriptor::decode(&again), Some(descriptor), "a descriptor means what it meant"),
    }
    true
}
