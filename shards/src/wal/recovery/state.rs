//! What frames record about positions, outputs and commits.
//!
//! Guarantees: applying frames in order gives the state of their writer.

use super::RecoveredLog;
use crate::env::Disk;
use crate::wal::frame::{FrameError, FrameKind, FrameView};
use crate::wal::positions::Recorded;
use crate::wal::record::{decode_commit, decode_snapshot};
use crate::wal::scan::frame_at;
use crate::wal::segment::SEGMENT_HEADER_BYTES;
use crate::wal::writer::LogState;

impl<D: Disk> RecoveredLog<D> {
    /// What the log knew about outputs when its first segment began.
    pub fn head(&self) -> LogState {
        let mut state = LogState::default();
        if let Some(Ok(view)) = self.segments.first().map(|first| frame_at(first, SEGMENT_HEADER_BYTES as u64))
            && view.header().kind == FrameKind::Snapshot
        {
            // Unreadable parts are ignored.
            let _ = apply(&mut state, &mut 0, &view);
        }
        state
    }
}

/// Adds a frame to the state of the log. `named_in` becomes the start whose snapshot names the outputs.
pub(super) fn apply(state: &mut LogState, named_in: &mut u32, view: &FrameView<'_>) -> Result<(), FrameError> {
    let header = view.header();
    match header.kind {
        FrameKind::Events => {
            let when = Recorded { epoch: header.epoch, at: header.written.unwrap_or(header.timestamp) };
            for position in view.positions() {
                let position = position?;
                let gone = position.gone.then_some(header.timestamp);
                match position.record {
                    Some(record) => state.sources.insert(&record.to_source(position.key), &position.range, gone, when),
                    // Its record was in the damaged part. The bytes are read again.
                    None => drop(state.sources.extend(position.key, &position.range, gone, when)),
                }
            }
        }
        FrameKind::Snapshot => {
            let snapshot = decode_snapshot(view.payload(), header.version)?;
            // The first part of a snapshot has all of it: what an earlier one named besides was let go of.
            if !snapshot.registry.is_empty() {
                (state.registry, *named_in) = (snapshot.registry, header.epoch);
            }
            snapshot.sources.into_iter().for_each(|source| state.sources.absorb(source));
            snapshot.commits.into_iter().for_each(|commit| state.commits.take(commit));
        }
        FrameKind::Commit => state.commits.take(decode_commit(view.payload(), header.version)?),
        FrameKind::Seal | FrameKind::Mark => {}
    }
    Ok(())
}
