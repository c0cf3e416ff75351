//! What the disk of a cluster does wrong in a life, and what of its log rots between two.
//!
//! Guarantees: a function of the seed; rot hits only frames that a later frame proves to have been durable, since what nothing
//! proves is cut as a torn tail and no promise covers that; which events are in the bytes is told to the oracle.

use super::setup::DATA_DIR;
use super::{Cluster, decode_line};
use crate::sim::{Outside, Prng};
use crate::wal::Damage;
use crate::wal::frame::{FLAG_MORE, FRAME_HEADER_BYTES, FrameHeader, FrameKind, FrameView, checksum_holds};
use crate::wal::segment::SEGMENT_HEADER_BYTES;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A byte of a log that the world has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotten {
    log: u64,
    segment: u64,
    /// Where its frame begins.
    offset: u64,
}

impl Rotten {
    fn is_in(&self, damage: &Damage) -> bool {
        let inside = damage.offset <= self.offset && self.offset < damage.offset + damage.bytes;
        damage.log.0 == self.log && damage.segment == self.segment && inside
    }
}

/// The disk before a life begins.
pub(super) fn begin(cluster: &mut Cluster) {
    let disk = cluster.simulation.disk().clone();
    let chance = &mut cluster.chance;
    if chance.one_in(5) {
        disk.crash_after(chance.between(1, 600));
    }
    disk.set_torn_sectors(chance.one_in(2));
    let slow = [5_000, 5_000, 50_000, 400_000][chance.index(4)];
    disk.set_sync_delay(Duration::from_micros(20), Duration::from_micros(slow));
    if chance.one_in(12) {
        disk.set_free_bytes(Some(chance.below(400_000)));
    }
    if chance.one_in(12) {
        let wall = disk.wall();
        let hours = chance.below(48) as i64 - 24;
        disk.set_wall(crate::env::Timestamp(wall.0 + hours * 3_600_000_000_000));
    }
    if chance.one_in(40) {
        disk.fail_syncs(1);
        cluster.note("the next sync fails".to_owned());
    }
}

/// The disk before a slice of a life.
pub(super) fn change(cluster: &mut Cluster) {
    let disk = cluster.simulation.disk().clone();
    let chance = &mut cluster.chance;
    if chance.one_in(20) {
        let bytes = chance.below(100_000);
        disk.set_free_bytes(Some(bytes));
        cluster.note(format!("the disk has {bytes} bytes left"));
    } else if chance.one_in(3) {
        disk.set_free_bytes(None);
    }
    let what = match cluster.chance.below(240) {
        0..=2 => {
            disk.fail_syncs(1);
            "sync"
        }
        3 => {
            disk.fail_directory_syncs(1);
            "sync of a directory"
        }
        4 => {
            disk.fail_writes(1);
            "write"
        }
        _ => return,
    };
    cluster.note(format!("the next {what} fails"));
}

/// Takes every fault of the disk away.
pub(super) fn end(cluster: &Cluster) {
    let disk = cluster.simulation.disk();
    disk.set_free_bytes(None);
    disk.fail_syncs(0);
    disk.fail_directory_syncs(0);
    disk.fail_writes(0);
}

/// A frame of a log as it lies on the disk.
struct Found {
    path: PathBuf,
    segment: u64,
    offset: u64,
    header: FrameHeader,
    bytes: Vec<u8>,
}

/// The frames of a log, as far as they are whole and in order.
fn frames(outside: &Outside, directory: &Path) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    for name in outside.list(directory).unwrap_or_default() {
        let path = directory.join(&name);
        let Some(segment) = name.to_str().and_then(|name| name.strip_suffix(".seg")?.parse().ok()) else { continue };
        let bytes = outside.read(&path).unwrap_or_default();
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(header) = bytes.get(offset..).and_then(|rest| FrameHeader::decode(rest).ok()) {
            let Some(frame) = bytes.get(offset..offset + header.length as usize) else { break };
            if !checksum_holds(frame) || found.last().is_some_and(|last| last.header.sequence >= header.sequence) {
                break;
            }
            let bytes = frame.to_vec();
            found.push(Found { path: path.clone(), segment, offset: offset as u64, header, bytes });
            offset += header.length as usize;
        }
    }
    found
}

/// Flips bits in a frame of events that is known to be durable, if there is one.
pub(super) fn rot(cluster: &mut Cluster) {
    let outside = cluster.simulation.disk().outside();
    let wal = Path::new(DATA_DIR).join("wal");
    let logs = outside.list(&wal).unwrap_or_default();
    if logs.is_empty() {
        return;
    }
    let name = &logs[cluster.chance.index(logs.len())];
    let Some(log) = name.to_str().and_then(|name| name.strip_prefix("log-")?.parse().ok()) else { return };
    let found = frames(&outside, &wal.join(name));
    // The proof is durable too, or the next loss of power takes it.
    let synced = found.last().map_or(0, |last| last.header.synced.0);
    let proofs = found.iter().filter(|found| found.header.sequence.0 <= synced);
    let proved = proofs.map(|found| found.header.synced.0).max().unwrap_or(0);
    // Without events it has nothing that says whose place in the source it keeps.
    let durable = |found: &Found| found.header.events > 0 && found.header.sequence.0 <= proved;
    let candidates: Vec<usize> = (0..found.len()).filter(|at| durable(&found[*at])).collect();
    if candidates.is_empty() {
        return;
    }
    let at = candidates[cluster.chance.index(candidates.len())];
    tell_what_is_lost(cluster, &found, at);
    let frame = &found[at];
    let byte = frame.offset + cluster.chance.below(u64::from(frame.header.length));
    let bits = cluster.chance.between(1, 255) as u8;
    outside.rot(&frame.path, byte, bits).expect("the file was just read");
    let sequence = frame.header.sequence.0;
    cluster.note(format!("rot in log {log}, segment {}, frame {sequence}, byte {byte}", frame.segment));
    let rotten = Rotten { log, segment: frame.segment, offset: frame.offset };
    cluster.rotten.push(rotten);
    cluster.unreported.push(rotten);
}

/// The group of the frame stands and falls with its positions: what they cover is read again, what a lane had dropped of it
/// too; and what is not introduced any more is read again from its beginning.
fn tell_what_is_lost(cluster: &Cluster, found: &[Found], at: usize) {
    let events: Vec<&Found> = found.iter().filter(|found| found.header.kind == FrameKind::Events).collect();
    let at = events.iter().position(|event| event.header.sequence == found[at].header.sequence).unwrap_or(0);
    let open = |event: &Found| event.header.flags & FLAG_MORE != 0;
    let first = (0..at).rev().find(|before| !open(events[*before])).map_or(0, |before| before + 1);
    let last = (at..events.len()).find(|at| !open(events[*at])).unwrap_or(events.len() - 1);
    let mut state = cluster.ledger.state();
    let lines = |found: &Found| {
        let payload = &found.bytes[FRAME_HEADER_BYTES..FRAME_HEADER_BYTES + found.header.payload_bytes as usize];
        payload.split_inclusive(|&byte| byte == b'\n').filter_map(decode_line).collect::<Vec<_>>()
    };
    let source = lines(events[at]).first().map(|event| event.source);
    for frame in &events[first..=last] {
        let Ok(view) = FrameView::new(std::borrow::Cow::Borrowed(frame.bytes.as_slice())) else { continue };
        let introduces = view.positions().flatten().any(|position| position.record.is_some());
        // A group is made of one batch, which is of one source.
        let covered: Vec<u64> = source.map_or(Vec::new(), |source| {
            let ordinal = |offset| state.sources[source as usize].event_at(offset);
            let all: Vec<_> = view.positions().flatten().map(|position| (position.key, position.range)).collect();
            // What was settled before a range is in other frames, or in other logs: they still say so.
            let settled = |at: usize| {
                let (key, range) = all[at];
                all.get(at + 1).is_some_and(|(next, behind)| *next == key && range.to <= behind.from)
            };
            let own = (0..all.len()).filter(|at| !settled(*at)).map(|at| all[at].1);
            own.flat_map(|range| ordinal(range.from)..ordinal(range.to)).collect()
        });
        source.into_iter().for_each(|source| covered.iter().for_each(|at| state.oracle.destroyed(source, *at)));
        for event in lines(frame) {
            state.oracle.destroyed(event.source, event.ordinal);
            let all = if introduces { state.sources[event.source as usize].events() } else { 0 };
            (0..all).for_each(|ordinal| state.oracle.destroyed(event.source, ordinal));
        }
    }
}

/// What a start reports as damaged against what the world has damaged.
pub(super) fn judge(cluster: &mut Cluster, reported: &[Damage]) {
    let mut state = cluster.ledger.state();
    for damage in reported.iter().filter(|damage| !cluster.rotten.iter().any(|rotten| rotten.is_in(damage))) {
        state.oracle.damage(&format!("reported, and nobody did it: {damage:?}"));
    }
    for rotten in std::mem::take(&mut cluster.unreported) {
        if !reported.iter().any(|damage| rotten.is_in(damage)) {
            state.oracle.damage(&format!("not reported: {rotten:?}"));
        }
    }
}

/// Whether a failure of the engine has one of these causes.
pub(super) fn explains(failure: &str) -> bool {
    ["Input/output error", "No space left", "no room for the segment", "panicked on shard"]
        .iter()
        .any(|cause| failure.contains(cause))
}

/// A number of events for a slice: mostly few, at times none, at times a flood.
pub(super) fn events(chance: &mut Prng) -> u64 {
    match chance.below(60) {
        0 => chance.between(200, 400),
        1..=4 => chance.between(50, 150),
        5..=24 => 0,
        _ => chance.between(1, 12),
    }
}
