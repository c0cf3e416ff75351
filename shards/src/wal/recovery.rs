//! Recovery: from the bytes found to a log that can be read and continued.
//!
//! Guarantees: a pure function of the bytes (invariant E6). Every decision is a row of [`super::table`]. Nothing that is known
//! to have been durable is ever truncated. Damage is copied to the quarantine and reported. The scan itself changes no segment:
//! [`RecoveredLog::harden`] and the opening writer do, when the caller has decided to continue.

mod aside;
mod candidates;
mod repair;
mod state;

use super::frame::{FLAG_EPOCH, FLAG_MORE, FRAME_HEADER_BYTES, FrameError, FrameKind, Standing};
use super::log::Place;
use super::scan::{find_frame, frame_at};
use super::segment::{SEGMENT_HEADER_BYTES, Segment};
use super::table::{Finding, FrameState, Outcome, Row, SegmentState, decide};
use super::writer::LogState;
use super::{Damage, LogId, Sequence, WalError};
use crate::env::{Disk, Map as _};
use candidates::{Candidate, open_candidates};
use state::apply;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What recovery found in one log.
pub struct RecoveredLog<D: Disk> {
    /// The log.
    pub id: LogId,
    /// Where its files are.
    pub directory: PathBuf,
    /// Segments up to the tail, lowest first.
    pub segments: Vec<Arc<Segment<D>>>,
    /// Where the log continues. None if no frame was found.
    pub tail: Option<Place>,
    /// Whether the tail's segment ended with a seal.
    pub sealed: bool,
    /// Number of the first segment if there is none.
    pub next_segment: u64,
    /// The last frame.
    pub last: Sequence,
    /// Highest sequence of any intact frame, including discarded ones.
    pub highest_seen: Sequence,
    /// The last frame before the place where the log is truncated. Beyond [`RecoveredLog::last`] if that place is inside a
    /// group.
    pub reached: Sequence,
    /// The last start of the log.
    pub epoch: u32,
    /// Everything up to here was durable, according to the frames.
    pub synced: Sequence,
    /// Positions, outputs and commits.
    pub state: LogState,
    /// The start whose snapshot named the outputs of `state`: an earlier one than `epoch` if the snapshot of that is damaged.
    pub named_in: u32,
    /// Union of the masks of all event frames: the output numbers in use.
    pub outputs_used: u64,
    /// Events in the log.
    pub events: u64,
    /// The damage found.
    pub damage: Vec<Damage>,
    /// The row of the table that ended the scan.
    pub ended_by: &'static str,
    /// Segments after the tail: never durable, to be removed.
    discarded: Vec<PathBuf>,
    standbys: Vec<PathBuf>,
}

/// Scans one log. Damaged bytes are copied to `quarantine`. Without it, they are only reported.
pub fn scan_log<D: Disk>(
    disk: &D,
    directory: &Path,
    id: LogId,
    quarantine: Option<&Path>,
) -> Result<RecoveredLog<D>, WalError> {
    let (candidates, standbys) = open_candidates(disk, directory, id)?;
    let expected = candidates.first().map_or(1, |candidate| candidate.number);
    let mut scan = Scan {
        disk,
        directory,
        id,
        quarantine,
        candidates,
        index: 0,
        expected,
        offset: 0,
        last: Sequence(0),
        started: false,
        resync: false,
        broken: None,
        skipped_to: Sequence(0),
        epoch: 0,
        synced: Sequence(0),
        highest_seen: Sequence(0),
        reached: Sequence(0),
        tail: None,
        sealed: false,
        group: None,
        state: LogState::default(),
        named_in: 0,
        outputs_used: 0,
        events: 0,
        damage: Vec::new(),
    };
    let row = scan.run()?;
    Ok(scan.finish(row, standbys))
}

/// Where the open group began, and what preceded it.
struct OpenGroup {
    place: Place,
    last: Sequence,
    events: u64,
    /// Frames with positions, by candidate and offset. Their ranges are in the log only if the group is complete.
    positions: Vec<(usize, u64)>,
}

struct Scan<'a, D: Disk> {
    disk: &'a D,
    directory: &'a Path,
    id: LogId,
    quarantine: Option<&'a Path>,
    candidates: Vec<Candidate<D>>,
    /// The current candidate, or the next one if `expected` is missing.
    index: usize,
    /// Number of the current segment.
    expected: u64,
    /// Offset in it. Zero before its header was checked.
    offset: u64,
    last: Sequence,
    /// Whether a frame was accepted.
    started: bool,
    /// There was damage before: the sequence may jump once.
    resync: bool,
    /// The first damage after the last frame, and whether that frame is known.
    broken: Option<(usize, bool)>,
    /// Optional segments were skipped: the sequence may jump to this one.
    skipped_to: Sequence,
    epoch: u32,
    synced: Sequence,
    highest_seen: Sequence,
    reached: Sequence,
    tail: Option<Place>,
    sealed: bool,
    group: Option<OpenGroup>,
    state: LogState,
    named_in: u32,
    outputs_used: u64,
    events: u64,
    damage: Vec<Damage>,
}

impl<D: Disk> Scan<'_, D> {
    fn run(&mut self) -> Result<&'static Row, WalError> {
        loop {
            self.reached = self.last;
            let (finding, words) = self.look();
            let row = decide(&finding);
            match row.outcome {
                Outcome::Accept => self.accept(),
                Outcome::NextSegment => {
                    self.accept();
                    self.sealed = true;
                    self.next_segment();
                }
                Outcome::Skip => self.skip(),
                Outcome::End | Outcome::Cut => return Ok(row),
                Outcome::CutGroup => {
                    if let Some(group) = self.group.take() {
                        (self.tail, self.last, self.sealed) = (Some(group.place), group.last, false);
                        self.events = group.events;
                    }
                    return Ok(row);
                }
                Outcome::Quarantine => self.set_aside(finding.segment, words),
                Outcome::Refuse => return Err(self.refuse(words)),
            }
        }
    }

    /// What is at the place where the log should continue, for the table and as text.
    fn look(&mut self) -> (Finding, String) {
        let last = self.index + 1 >= self.candidates.len();
        let mut finding = Finding {
            segment: SegmentState::Missing,
            frame: FrameState::Absent,
            proved: false,
            last,
            open_group: self.group.is_some(),
        };
        let Some(candidate) = self.candidates.get(self.index).filter(|found| found.number == self.expected) else {
            if self.is_passed() {
                finding.segment = SegmentState::Passed;
                return (finding, String::new());
            }
            finding.last = self.index >= self.candidates.len();
            finding.proved = self.is_proved();
            return (finding, "the segment is missing".to_owned());
        };
        if self.offset == 0 {
            finding.segment = candidate.state;
            if candidate.state != SegmentState::Good {
                let words = match candidate.state {
                    SegmentState::Foreign => {
                        format!("segment version {} is unknown to this program", candidate.version)
                    }
                    _ => "the header of the segment is damaged".to_owned(),
                };
                finding.proved = candidate.state != SegmentState::Foreign && self.is_proved();
                return (finding, words);
            }
            if !self.started && !self.resync {
                self.last = Sequence(candidate.first_sequence.0.saturating_sub(1));
            }
            self.offset = SEGMENT_HEADER_BYTES as u64;
            if candidate.lacking > 0 {
                let offset = candidate.segment.as_ref().map_or(0, Segment::bytes);
                self.damage.push(Damage {
                    log: self.id,
                    segment: self.expected,
                    offset,
                    bytes: candidate.lacking,
                    quarantined: None,
                    known: false,
                    finding: format!(
                        "the file ends at byte {offset}: its last {} bytes are missing",
                        candidate.lacking
                    ),
                    uncopied: None,
                    between: None,
                });
            }
        }
        finding.segment = SegmentState::Good;
        let (frame, words) = self.classify();
        finding.frame = frame;
        let found = matches!(frame, FrameState::Good | FrameState::Seal | FrameState::ForeignVersion);
        finding.proved = !found && self.is_proved();
        (finding, words)
    }

    fn segment(&self) -> Option<&Segment<D>> {
        self.candidates.get(self.index).and_then(|candidate| candidate.segment.as_ref())
    }

    fn classify(&self) -> (FrameState, String) {
        let Some(segment) = self.segment() else {
            return (FrameState::Absent, "the segment is too short".to_owned());
        };
        match frame_at(segment, self.offset) {
            Ok(view) => {
                let header = view.header();
                let next = if header.kind == FrameKind::Seal { FrameState::Seal } else { FrameState::Good };
                let out_of_order = self.out_of_order(header.standing(), header.has(FLAG_EPOCH));
                out_of_order.unwrap_or((next, String::new()))
            }
            Err(error @ FrameError::Version(_)) => {
                // Stale bytes of another version that wrote here earlier are no reason to refuse. Only that version knows which
                // of its frames are the first of a start.
                let standing = Standing::of_any_version(&segment.read(self.offset, FRAME_HEADER_BYTES));
                let out_of_order = standing.and_then(|standing| self.out_of_order(standing, true));
                out_of_order.unwrap_or((FrameState::ForeignVersion, error.to_string()))
            }
            Err(error) => {
                let state = match error {
                    FrameError::Absent => FrameState::Absent,
                    FrameError::Checksum => FrameState::BadChecksum,
                    _ => FrameState::ImpossibleLength,
                };
                (state, error.to_string())
            }
        }
    }

    /// Why an intact frame is not the next one, if it is not. `begins` means that it may be the first of a start of the log.
    fn out_of_order(&self, frame: Standing, begins: bool) -> Option<(FrameState, String)> {
        let Standing { log, epoch, sequence } = frame;
        if log != self.id {
            return Some((FrameState::WrongLog, format!("a frame of log {}", log.0)));
        }
        if epoch < self.epoch {
            return Some((FrameState::LowerEpoch, format!("a frame of epoch {epoch} after epoch {}", self.epoch)));
        }
        let follows = sequence.0 == self.last.0 + 1;
        let may_jump = self.resync || (begins && epoch > self.epoch) || sequence == self.skipped_to;
        let jumps = sequence > self.last && may_jump;
        if follows || jumps {
            return None;
        }
        Some((FrameState::WrongSequence, format!("sequence {} after {}", sequence.0, self.last.0)))
    }

    /// Whether a later valid frame proves that what should be here was durable.
    fn is_proved(&mut self) -> bool {
        let mut from = if self.offset == 0 { SEGMENT_HEADER_BYTES as u64 } else { self.offset + 8 };
        let mut proved = false;
        for candidate in &self.candidates[self.index.min(self.candidates.len())..] {
            let Some(segment) = &candidate.segment else { continue };
            if candidate.number != self.expected {
                from = SEGMENT_HEADER_BYTES as u64;
            }
            while let Some((offset, header)) = find_frame(segment, self.id, from, self.last, self.epoch) {
                self.highest_seen = self.highest_seen.max(header.sequence);
                proved |= header.synced > self.last;
                from = offset + u64::from(header.length);
                if proved {
                    return true;
                }
            }
        }
        proved
    }

    fn accept(&mut self) {
        let Some(candidate) = self.candidates.get(self.index) else { return };
        let Some(segment) = &candidate.segment else { return };
        let Ok(view) = frame_at(segment, self.offset) else { return };
        let header = *view.header();
        let place = Place { segment: self.expected, offset: self.offset };
        let mut waited = Ok(());
        if header.kind == FrameKind::Events {
            segment.take_events();
            if !header.has(FLAG_MORE) {
                for (index, offset) in self.group.take().map_or(Vec::new(), |group| group.positions) {
                    let segment = self.candidates.get(index).and_then(|candidate| candidate.segment.as_ref());
                    if let Some(Ok(view)) = segment.map(|segment| frame_at(segment, offset)) {
                        waited = waited.and(apply(&mut self.state, &mut self.named_in, &view));
                    }
                }
            } else if self.group.is_none() {
                self.group = Some(OpenGroup { place, last: self.last, events: self.events, positions: Vec::new() });
            }
        }
        let applied = match &mut self.group {
            Some(_) if header.kind == FrameKind::Events && header.position_bytes == 0 => Ok(()),
            Some(group) if header.kind == FrameKind::Events => {
                group.positions.push((self.index, self.offset));
                Ok(())
            }
            _ => waited.and(apply(&mut self.state, &mut self.named_in, &view)),
        };
        if header.kind == FrameKind::Events {
            self.outputs_used |= header.outputs;
            self.events += u64::from(header.events);
        }
        if let Err(error) = applied {
            self.damage.push(Damage {
                log: self.id,
                segment: self.expected,
                offset: self.offset,
                bytes: u64::from(header.length),
                quarantined: None,
                uncopied: None,
                between: Some((header.sequence, Sequence(header.sequence.0 + 1))),
                known: false,
                finding: format!("sequence {}: {error}", header.sequence.0),
            });
        }
        if let Some((first, true)) = self.broken.take()
            && header.epoch == self.epoch
        {
            self.damage[first].between = Some((self.last, header.sequence));
        }
        self.last = header.sequence;
        self.epoch = header.epoch;
        self.synced = self.synced.max(header.synced);
        self.highest_seen = self.highest_seen.max(header.sequence);
        (self.started, self.resync, self.sealed) = (true, false, false);
        self.offset += u64::from(header.length);
        self.tail = Some(Place { segment: self.expected, offset: self.offset });
    }

    /// Whether the current segment may be missing.
    fn is_passed(&self) -> bool {
        let next = self.candidates.get(self.index);
        next.is_some_and(|next| next.state == SegmentState::Good && next.previous < self.expected)
    }

    fn skip(&mut self) {
        if let Some(next) = self.candidates.get(self.index) {
            (self.expected, self.skipped_to) = (next.number, next.first_sequence);
        }
        self.offset = 0;
    }

    fn next_segment(&mut self) {
        if let Some(segment) = self.segment() {
            // Scanned pages count as resident until they are released.
            segment.map.release(0, segment.map.length());
        }
        self.index += 1;
        self.expected += 1;
        self.offset = 0;
    }

    /// Handles damage: copies it, reports it and continues at the next intact frame.
    fn set_aside(&mut self, state: SegmentState, finding: String) {
        self.resync = true;
        self.group = None;
        // Frames that are lost with the previous damage are reported there.
        let between = self.broken.map(|_| (self.last, Sequence(self.last.0 + 1)));
        self.broken = self.broken.or(Some((self.damage.len(), self.started)));
        let mut damage = Damage {
            log: self.id,
            segment: self.expected,
            offset: self.offset,
            bytes: 0,
            quarantined: None,
            uncopied: None,
            between,
            known: false,
            finding,
        };
        if state == SegmentState::Missing {
            let next = self.candidates[self.index].number;
            if next > self.expected + 1 {
                damage.finding = format!("the segments {} to {} are missing", self.expected, next - 1);
            }
            self.report(damage, None);
            self.expected = next;
            self.offset = 0;
            return;
        }
        let from = self.offset.max(SEGMENT_HEADER_BYTES as u64);
        let from = if self.offset == 0 { from } else { from + 8 };
        let (id, last, epoch) = (self.id, self.last, self.epoch);
        let Some(segment) = self.candidates[self.index].segment.as_mut() else {
            self.report(damage, None);
            return self.next_segment();
        };
        let found = find_frame(segment, id, from, last, epoch);
        if segment.first_sequence == Sequence(0) {
            // If the first frame is intact, the frames before it cannot be in this segment.
            let whole = found.filter(|(offset, _)| *offset == SEGMENT_HEADER_BYTES as u64);
            segment.first_sequence = whole.map_or(Sequence(last.0 + 1), |(_, header)| header.sequence);
        }
        let found = found.map(|(offset, _)| offset);
        let end = found.unwrap_or(segment.bytes());
        damage.bytes = end - self.offset;
        segment.gaps.push((self.offset, end));
        // Nobody knows what was there, so it counts as having events.
        segment.take_events();
        self.report(damage, Some(self.index));
        // The tail moves too, so that nothing is ever written over the damage.
        self.tail = Some(Place { segment: self.expected, offset: end });
        match found {
            Some(offset) => self.offset = offset,
            None => {
                self.sealed = true;
                self.next_segment();
            }
        }
    }

    /// Copies the bytes of the candidate at `index`.
    fn report(&mut self, mut damage: Damage, index: Option<usize>) {
        let segment = index.and_then(|index| self.candidates[index].segment.as_ref());
        if let Some(directory) = self.quarantine {
            let bytes = segment.map(|segment| segment.read(damage.offset, damage.bytes as usize));
            aside::keep(self.disk, directory, &mut damage, &bytes.unwrap_or_default());
        }
        self.damage.push(damage);
    }

    fn refuse(&self, words: String) -> WalError {
        let path = self.candidates.get(self.index).map_or(self.directory, |candidate| &candidate.path).to_path_buf();
        let reason = format!(
            "{words}; it was written by another version of Tailwater: start that version to drain the log, or move the \
             data directory away"
        );
        WalError::Unusable { path, reason }
    }

    fn finish(self, row: &'static Row, standbys: Vec<PathBuf>) -> RecoveredLog<D> {
        let last_segment = self.tail.map_or(0, |tail| tail.segment);
        let mut segments = Vec::new();
        let mut discarded = Vec::new();
        for candidate in self.candidates {
            let kept = candidate.number <= last_segment;
            match candidate.segment {
                Some(segment) if kept => {
                    segment.map.release(0, segment.map.length());
                    segments.push(Arc::new(segment));
                }
                _ if kept => {}
                _ => discarded.push(candidate.path),
            }
        }
        RecoveredLog {
            id: self.id,
            directory: self.directory.to_path_buf(),
            segments,
            tail: self.tail,
            sealed: self.sealed,
            next_segment: self.expected,
            last: self.last,
            highest_seen: self.highest_seen.max(self.last),
            reached: self.reached,
            epoch: self.epoch,
            synced: self.synced.min(self.last),
            state: self.state,
            named_in: self.named_in,
            outputs_used: self.outputs_used,
            events: self.events,
            damage: self.damage,
            ended_by: row.name,
            discarded,
            standbys,
        }
    }
}
