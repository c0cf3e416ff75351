//! Snapshots: everything that a log knows, as frames for the beginning of a segment.
//!
//! Guarantees: the frames together contain everything, and leave half of a segment free. If there are too many sources for
//! that, those that have been gone for the longest time are dropped. If all sources exist, that is an error that says so.

use super::builder::Group;
use super::frame::FrameKind;
use super::record::{commit_bytes, encode_snapshot, source_state_bytes};
use super::writer::LogState;
use super::{Commit, SourceState, WalError};
use crate::env::Timestamp;
use crate::limits::FRAME_PAYLOAD_TARGET_BYTES;
use std::path::Path;

/// Fills `group` with finished snapshot frames of at most `room` bytes in total.
pub(crate) fn build_snapshot(
    group: &mut Group,
    state: &mut LogState,
    now: Timestamp,
    room: u64,
    directory: &Path,
) -> Result<(), WalError> {
    loop {
        fill(group, state, now);
        let bytes: u64 = group.frames().iter().map(|frame| frame.length() as u64).sum();
        if bytes <= room {
            return Ok(());
        }
        // Drops a sixteenth at a time, so that the table is not encoded once for each dropped tombstone.
        let gone = state.sources.gone();
        state.sources.keep_gone(gone.saturating_sub(state.sources.len().div_ceil(16)));
        if gone == 0 {
            let reason = format!(
                "the positions of {} sources and the cursors take {bytes} bytes, but half a segment has {room}: \
                 raise the segment size of the write-ahead log or follow fewer files",
                state.sources.len()
            );
            return Err(WalError::Unusable { path: directory.to_path_buf(), reason });
        }
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
