//! The decision table of recovery: what is done about each finding, with every combination exactly once.
//!
//! Legend. *Segment* and *frame* describe what is at the place where the log should continue. *Proved*: the `synced` field of a
//! later valid frame says that what should be here was durable. *Last*: there is no segment file with a higher number. *Open
//! group*: the previous frame announced that its group continues. Guarantees: exactly one row matches any finding.

/// The state of the current segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentState {
    /// Its header is correct.
    Good,
    /// Its header is damaged, or belongs to another segment: a recycled file under an old name.
    Bad,
    /// Its file is missing.
    Missing,
    /// Its file is missing, and may be: the header of the next one says that it contained no events.
    Passed,
    /// Its header is intact and has an unknown version.
    Foreign,
}

/// What is at the place where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameState {
    /// The next frame.
    Good,
    /// The next frame, which ends the segment.
    Seal,
    /// No frame: zeros, or stale bytes from the inside of an old frame.
    Absent,
    /// A frame with a wrong checksum.
    BadChecksum,
    /// Bytes that look like a frame but have an impossible length.
    ImpossibleLength,
    /// An intact frame of an unknown version that would be the next one.
    ForeignVersion,
    /// An intact frame out of order: stale, or after a lost one.
    WrongSequence,
    /// An intact frame of an earlier start of the log.
    LowerEpoch,
    /// An intact frame of another log.
    WrongLog,
}

/// The finding at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The segment.
    pub segment: SegmentState,
    /// The frame. Has no meaning unless the segment is good.
    pub frame: FrameState,
    /// Whether what should be here is known to have been durable.
    pub proved: bool,
    /// Whether no later segment exists.
    pub last: bool,
    /// Whether a group is open.
    pub open_group: bool,
}

/// The action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Accept the frame.
    Accept,
    /// Continue in the next segment.
    NextSegment,
    /// Continue at the beginning of the next existing segment: those in between contained no events.
    Skip,
    /// The log ends here, and there is no sign of a loss.
    End,
    /// The log ends here. What follows was never durable and is discarded.
    Cut,
    /// The log ends where the open group began.
    CutGroup,
    /// Damage: copy it, report it, continue after it.
    Quarantine,
    /// Change nothing. A person must act.
    Refuse,
}

/// One row.
#[derive(Debug)]
pub struct Row {
    /// Its name, for reports and tests.
    pub name: &'static str,
    segment: &'static [SegmentState],
    frame: &'static [FrameState],
    proved: Option<bool>,
    last: Option<bool>,
    open_group: Option<bool>,
    /// The action.
    pub outcome: Outcome,
}

use FrameState as F;
use SegmentState as S;

const ANY: &[FrameState] = &[
    F::Good,
    F::Seal,
    F::Absent,
    F::BadChecksum,
    F::ImpossibleLength,
    F::ForeignVersion,
    F::WrongSequence,
    F::LowerEpoch,
    F::WrongLog,
];
const QUIET: &[FrameState] = &[F::Absent, F::WrongSequence, F::LowerEpoch];
const TORN: &[FrameState] = &[F::BadChecksum, F::ImpossibleLength, F::WrongLog];
const NO_FRAME: &[FrameState] =
    &[F::Absent, F::WrongSequence, F::LowerEpoch, F::BadChecksum, F::ImpossibleLength, F::WrongLog];

const fn row(
    name: &'static str,
    segment: &'static [SegmentState],
    frame: &'static [FrameState],
    conditions: [Option<bool>; 3],
    outcome: Outcome,
) -> Row {
    let [proved, last, open_group] = conditions;
    Row { name, segment, frame, proved, last, open_group, outcome }
}

const YES: Option<bool> = Some(true);
const NO: Option<bool> = Some(false);

/// The table. Conditions in brackets: proved, last, open group.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row("foreign_segment",     &[S::Foreign],           ANY,                  [None, None, None], Outcome::Refuse),
    row("passed_segment",      &[S::Passed],            ANY,                  [None, None, None], Outcome::Skip),
    row("lost_segment",        &[S::Bad, S::Missing],   ANY,                  [YES, None, None],  Outcome::Quarantine),
    row("group_without_end",   &[S::Bad, S::Missing],   ANY,                  [NO, None, YES],    Outcome::CutGroup),
    row("segment_not_begun",   &[S::Bad, S::Missing],   ANY,                  [NO, YES, NO],      Outcome::End),
    row("segment_not_durable", &[S::Bad, S::Missing],   ANY,                  [NO, NO, NO],       Outcome::Cut),
    row("foreign_frame",       &[S::Good],              &[F::ForeignVersion], [None, None, None], Outcome::Refuse),
    row("good_frame",          &[S::Good],              &[F::Good],           [None, None, None], Outcome::Accept),
    row("end_of_segment",      &[S::Good],              &[F::Seal],           [None, None, None], Outcome::NextSegment),
    row("damage",              &[S::Good],              NO_FRAME,             [YES, None, None],  Outcome::Quarantine),
    row("torn_group",          &[S::Good],              NO_FRAME,             [NO, None, YES],    Outcome::CutGroup),
    row("torn_tail",           &[S::Good],              TORN,                 [NO, None, NO],     Outcome::Cut),
    row("clean_tail",          &[S::Good],              QUIET,                [NO, YES, NO],      Outcome::End),
    row("tail_before_segment", &[S::Good],              QUIET,                [NO, NO, NO],       Outcome::Cut),
];

impl Row {
    /// Whether the row matches this finding.
    pub fn matches(&self, finding: &Finding) -> bool {
        let holds = |wanted: Option<bool>, is: bool| wanted.is_none_or(|wanted| wanted == is);
        self.segment.contains(&finding.segment)
            && self.frame.contains(&finding.frame)
            && holds(self.proved, finding.proved)
            && holds(self.last, finding.last)
            && holds(self.open_group, finding.open_group)
    }
}

/// The row for a finding.
pub fn decide(finding: &Finding) -> &'static Row {
    ROWS.iter().find(|row| row.matches(finding)).expect("the table covers every combination, as its test proves")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_has_exactly_one_row() {
        let mut used = std::collections::HashSet::new();
        let flags = [false, true];
        for segment in [S::Good, S::Bad, S::Missing, S::Passed, S::Foreign] {
            for &frame in ANY {
                for (proved, last, open_group) in
                    flags.into_iter().flat_map(|a| flags.into_iter().flat_map(move |b| flags.map(|c| (a, b, c))))
                {
                    let finding = Finding { segment, frame, proved, last, open_group };
                    let rows: Vec<_> = ROWS.iter().filter(|row| row.matches(&finding)).map(|row| row.name).collect();
                    assert_eq!(rows.len(), 1, "{finding:?} matches {rows:?}");
                    used.insert(rows[0]);
                }
            }
        }
        assert_eq!(used.len(), ROWS.len(), "every row is reached");
    }

    #[test]
    fn durable_bytes_are_never_cut_and_foreign_ones_never_touched() {
        for row in ROWS {
            let cuts = matches!(row.outcome, Outcome::Cut | Outcome::CutGroup | Outcome::End);
            assert!(!cuts || row.proved == NO, "{} cuts what may have been durable", row.name);
            let foreign = row.segment == [S::Foreign] || row.frame == [F::ForeignVersion];
            assert_eq!(foreign, row.outcome == Outcome::Refuse, "{}", row.name);
        }
    }
}
