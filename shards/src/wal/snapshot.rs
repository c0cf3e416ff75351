//! Snapshots: everything that a log knows, as frames for the beginning of a segment.
//!
//! Guarantees: the frames leave half of a segment free, whoever made how many sources. If there are too many for that, those that
//! have been gone for the longest time are dropped, then those about which nothing was recorded for the longest time. The caller
//! is told how many. Registry and commits are never dropped: only if these alone have no space, that is an error.

use super::builder::Group;
use super::frame::FrameKind;
use super::positions::Shed;
use super::record::{commit_bytes, encode_snapshot, source_state_bytes};
use super::writer::LogState;
use super::{Commit, SourceState, WalError};
use crate::env::Timestamp;
use crate::limits::FRAME_PAYLOAD_TARGET_BYTES;
use std::path::Path;

/// Fills `group` with finished snapshot frames of at most `room` bytes in total. Returns which sources had to be dropped for that.
pub(crate) fn build_snapshot(
    group: &mut Group,
    state: &mut LogState,
    now: Timestamp,
    room: u64,
    directory: &Path,
) -> Result<Shed, WalError> {
    let mut shed = Shed::default();
    loop {
        fill(group, state, now);
        let bytes = group.frame_bytes();
        if bytes <= room {
            return Ok(shed);
        }
        if state.sources.is_empty() {
            let reason = format!(
                "the outputs and their cursors take {bytes} bytes, but half a segment has {room}: raise wal.segment_bytes or use \
                 fewer outputs"
            );
            return Err(WalError::Unusable { path: directory.to_path_buf(), reason });
        }
        // A sixteenth of the room is left free, so that the table is not encoded and sorted for each source that is new.
        let more = state.sources.shed((bytes - room + room / 16) as usize, source_state_bytes);
        shed.gone += more.gone;
        shed.existing += more.existing;
    }
}

fn fill(group: &mut Group, state: &LogState, now: Timestamp) {
    group.clear();
    let commits: Vec<&Commit> = state.commits.values().collect();
    let mut part: Vec<&SourceState> = Vec::new();
    let mut bytes = commits.iter().map(|commit| commit_bytes(commit)).sum::<usize>();
    let mut first = true;
    for source in state.sources.iter() {
        let more = source_state_bytes(source);
        if bytes + more > FRAME_PAYLOAD_TARGET_BYTES && !part.is_empty() {
            encode_part(group, state, &part, if first { &commits } else { &[] }, first, now);
            first = false;
            part.clear();
            bytes = 0;
        }
        bytes += more;
        part.push(source);
    }
    encode_part(group, state, &part, if first { &commits } else { &[] }, first, now);
}

fn encode_part(
    group: &mut Group,
    state: &LogState,
    sources: &[&SourceState],
    commits: &[&Commit],
    first: bool,
    now: Timestamp,
) {
    let frame = group.frame(FrameKind::Snapshot, 0, 0);
    frame.set_timestamp(now);
    let registry = if first { state.registry.as_slice() } else { &[] };
    encode_snapshot(frame.payload(), registry, sources.iter().copied(), commits.iter().copied());
    frame.finish();
}
