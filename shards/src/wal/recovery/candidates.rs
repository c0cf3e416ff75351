//! The files of a log, as recovery finds them.
//!
//! Guarantees: nothing is mapped beyond the end of its file. Evaluates headers, but not frames.

use crate::env::{Disk, File as _, Map as _, Open};
use crate::wal::frame::FRAME_HEADER_BYTES;
use crate::wal::segment::{
    HeaderFound, SEGMENT_HEADER_BYTES, Segment, SegmentHeader, io_error, segment_name, segment_number, standby_number,
};
use crate::wal::table::SegmentState;
use crate::wal::{LogId, Sequence, WalError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A file with the name of a segment.
pub(super) struct Candidate<D: Disk> {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) state: SegmentState,
    pub(super) version: u8,
    pub(super) first_sequence: Sequence,
    /// The value in the header, or its own number if there is no header.
    pub(super) previous: u64,
    /// Bytes that the file lacks according to its header: a segment has its full length before it has a name.
    pub(super) lacking: u64,
    /// None if the file is too short to be read.
    pub(super) segment: Option<Segment<D>>,
}

pub(super) type Candidates<D> = (Vec<Candidate<D>>, Vec<PathBuf>);

pub(super) fn open_candidates<D: Disk>(disk: &D, directory: &Path, id: LogId) -> Result<Candidates<D>, WalError> {
    let mut candidates = Vec::new();
    let mut standbys = Vec::new();
    for entry in disk.list(directory).map_err(io_error(directory))? {
        let Some(name) = entry.name.to_str() else { continue };
        let path = directory.join(name);
        // Only the canonical name counts: another spelling of the same number would be a second file for it.
        if let Some(number) = segment_number(name).filter(|number| segment_name(*number) == name) {
            candidates.push(open_candidate(disk, path, number, id)?);
        } else if standby_number(name).is_some() {
            standbys.push(path);
        }
    }
    candidates.sort_by_key(|candidate| candidate.number);
    standbys.sort();
    Ok((candidates, standbys))
}

fn open_candidate<D: Disk>(disk: &D, path: PathBuf, number: u64, id: LogId) -> Result<Candidate<D>, WalError> {
    let file = disk.open(&path, Open::Write).map_err(io_error(&path))?;
    let length = file.stat().map_err(io_error(&path))?.length.min(crate::limits::SEGMENT_BYTES_MAX);
    let length = length - length % 8;
    let mut candidate = Candidate {
        number,
        path: path.clone(),
        state: SegmentState::Bad,
        version: 0,
        first_sequence: Sequence(0),
        previous: number,
        lacking: 0,
        segment: None,
    };
    if length < (SEGMENT_HEADER_BYTES + FRAME_HEADER_BYTES) as u64 {
        return Ok(candidate);
    }
    let map = disk.map(&file, length).map_err(io_error(&path))?;
    let header = SegmentHeader::decode(&map.bytes(0, SEGMENT_HEADER_BYTES));
    match header {
        HeaderFound::Good(header) if header.number == number && header.log == id => {
            candidate.state = SegmentState::Good;
            candidate.first_sequence = header.first_sequence;
            candidate.previous = header.previous;
            candidate.lacking = header.segment_bytes.saturating_sub(length);
        }
        HeaderFound::Foreign(version) => (candidate.state, candidate.version) = (SegmentState::Foreign, version),
        _ => {}
    }
    let (first_sequence, previous) = (candidate.first_sequence, candidate.previous);
    // Without a valid header, its content is unknown.
    let holds_events = AtomicBool::new(candidate.state != SegmentState::Good);
    let (file, gaps) = (Arc::new(file), Vec::new());
    candidate.segment = Some(Segment { number, path, file, map, first_sequence, previous, holds_events, gaps });
    Ok(candidate)
}
