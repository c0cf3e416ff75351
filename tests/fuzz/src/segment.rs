//! Target `segment`: bytes as the segments of a log that recovery finds.
//!
//! ```text
//! flags u8 (1 repair checksums, 2 the second segment is missing) · per segment: bytes u16 · bytes, zero to the segment's end
//! ```
//!
//! Promises: recovery ends, gives the same result twice, and rejects only unknown versions. Every frame that it accepts has a
//! valid checksum. Damage is inside its segment. A WAL that was accepted can be opened for writing, read to its end, and
//! opened again without losing an event.

use crate::Verdict;
use crate::script::Script;
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::env::{Env, ShardId};
use tailwater_shards::sim::{Crash, SimDisk, SimEnv, Simulation};
use tailwater_shards::wal::cursor::Cursor;
use tailwater_shards::wal::frame::{FrameHeader, FrameKind, checksum, checksum_holds};
use tailwater_shards::wal::log::Log;
use tailwater_shards::wal::recovery::{RecoveredLog, scan_log};
use tailwater_shards::wal::segment::{SEGMENT_HEADER_BYTES, segment_name};
use tailwater_shards::wal::writer::Writer;
use tailwater_shards::wal::{LogId, Position, Sequence, SyncPolicy, WalError, WalOptions, WalType};

const SEGMENT_BYTES: usize = 4096;
const SEGMENTS: usize = 3;
const DIRECTORY: &str = "/data/wal/log-00000001";
const LOG: LogId = LogId(1);

/// Makes checksums valid, as far as the lengths lead, so that the bytes after them are checked.
fn repair(bytes: &mut [u8]) {
    let (mut start, mut end) = (0, SEGMENT_HEADER_BYTES);
    while end <= bytes.len() && end - start >= 12 {
        let right = checksum(&bytes[start..end]);
        bytes[start + 4..start + 8].copy_from_slice(&right.to_le_bytes());
        let Some(head) = bytes.get(end..end + 12) else { break };
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        (start, end) = (end, end.saturating_add(length as usize));
    }
}

/// See the module.
pub fn check(data: &[u8]) -> Verdict {
    let mut simulation = Simulation::new(1);
    let outside = simulation.disk().outside();
    outside.create_dir_all(DIRECTORY).expect("an empty disk takes a directory");
    let mut script = Script::new(data);
    let flags = script.byte();
    for number in 1..=SEGMENTS as u64 {
        let length = script.short().min(SEGMENT_BYTES);
        let mut bytes = script.bytes(length).to_vec();
        if bytes.is_empty() || (flags & 2 != 0 && number == 2) {
            continue;
        }
        bytes.resize(SEGMENT_BYTES, 0);
        if flags & 1 != 0 {
            repair(&mut bytes);
        }
        outside.write(path(number), &bytes).expect("an empty disk takes a file");
    }
    outside.sync_all();
    let found = match scan(&mut simulation) {
        Ok(found) => found,
        Err(WalError::Unusable { path, reason }) => {
            assert!(path.starts_with(DIRECTORY) && reason.contains("version"), "{}: {reason}", path.display());
            return Verdict::Refused;
        }
        Err(error) => panic!("recovery failed: {error}"),
    };
    let told = tell(&found);
    match scan(&mut simulation) {
        Ok(again) => assert_eq!(tell(&again), told, "recovery finds twice the same"),
        Err(error) => panic!("recovery refuses what it accepted: {error}"),
    }
    accepted_frames(&found);
    let events = found.events;
    go_on(&mut simulation, found);
    Verdict::accepted(events > 0)
}

fn path(number: u64) -> String {
    format!("{DIRECTORY}/{}", segment_name(number))
}

fn scan(simulation: &mut Simulation) -> Result<RecoveredLog<SimDisk>, WalError> {
    let env = simulation.env(ShardId(0));
    scan_log(env.disk(), Path::new(DIRECTORY), LOG, None)
}

fn tell(found: &RecoveredLog<SimDisk>) -> String {
    let counts = (found.last, found.epoch, found.synced, found.events, found.outputs_used, found.tail);
    format!("{} {counts:?} {:?} {:?}", found.ended_by, found.damage, found.state)
}

/// Walks the accepted frames like a reader.
fn accepted_frames(found: &RecoveredLog<SimDisk>) {
    let Some(tail) = found.tail else { return };
    let (mut events, mut open) = (0, 0);
    let mut expected = 0;
    for segment in &found.segments {
        open = if segment.number == expected { open } else { 0 };
        expected = segment.number + 1;
        let gaps: Vec<_> = segment.gaps.clone();
        assert!(gaps.iter().all(|gap| gap.0 < gap.1 && gap.1 <= segment.bytes()), "damage outside: {gaps:?}");
        let mut offset = SEGMENT_HEADER_BYTES as u64;
        let end = if segment.number == tail.segment { tail.offset } else { segment.bytes() };
        while offset < end {
            if let Some(behind) = segment.gap_end(offset) {
                // What came before damage stays, including a group without its end: its positions are read again.
                (offset, open) = (behind, 0);
                continue;
            }
            let Ok(header) = FrameHeader::decode(&segment.read(offset, 96)) else {
                panic!("no frame at {offset} of segment {}, before the tail {tail:?}: {gaps:?}", segment.number)
            };
            let bytes = segment.read(offset, header.length as usize);
            assert!(checksum_holds(&bytes), "a frame with a wrong checksum was accepted at {offset}");
            assert_eq!(bytes[4..8], checksum(&bytes).to_le_bytes());
            if header.kind == FrameKind::Events {
                events += u64::from(header.events);
                open = if header.has(1) { open + 1 } else { 0 };
            }
            offset += u64::from(header.length);
            if header.kind == FrameKind::Seal {
                break;
            }
        }
    }
    assert_eq!(events, found.events, "recovery counts the events that are there");
    assert_eq!(open, 0, "the log ends inside of a group");
}

fn open(simulation: &mut Simulation, found: RecoveredLog<SimDisk>) -> Result<Writer<SimEnv>, WalError> {
    let segment_bytes = SEGMENT_BYTES as u64;
    let log_bytes = segment_bytes * 8;
    let options = WalOptions { kind: WalType::Disk, sync: SyncPolicy::EveryBatch, segment_bytes, log_bytes };
    let state = found.state.clone();
    Writer::open(simulation.env(ShardId(0)), options, found, state, Sequence(0))
}

/// Number of events that a reader gets; damage is skipped.
fn readable(log: &Arc<Log<SimDisk>>) -> u64 {
    let mut cursor = Cursor::open(log.clone(), Position::default());
    let mut events = 0;
    loop {
        match cursor.next() {
            Ok(Some(frame)) => events += frame.view().map_or(0, |view| u64::from(view.header().events)),
            Ok(None) => return events,
            Err(_) => drop(cursor.skip_damage()),
        }
    }
}

fn go_on(simulation: &mut Simulation, found: RecoveredLog<SimDisk>) {
    let events = found.events;
    let writer = match open(simulation, found) {
        Ok(writer) => writer,
        // Hostile bytes may fill half a segment with sources, or use the highest of all numbers.
        Err(WalError::Unusable { reason, .. }) => return assert!(reason.len() > 20),
        Err(error) => panic!("a log that was recovered cannot be opened: {error}"),
    };
    assert_eq!(readable(writer.log()), events, "a reader gets what recovery counted");
    drop(writer);
    simulation.crash(Crash::Process);
    match scan(simulation) {
        Ok(again) => assert_eq!(again.events, events, "the next start finds the same events"),
        Err(error) => panic!("the next start cannot read what this one wrote: {error}"),
    }
}
