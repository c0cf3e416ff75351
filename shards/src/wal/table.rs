//! The decision table of recovery: what is done about what is found, every combination once.
//!
//! Legend. *Segment* and *frame* say what is at the place where the log should go on. *Proved*: a good frame further on says
//! by its `synced` field that what should be here had been durable. *Last*: no segment file with a higher number is there.
//! *Open group*: the frames before announced that their group goes on. Guarantees: exactly one row matches any finding.

/// What the segment at hand is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SegmentState {
    /// Its header is right.
    Good,
    /// Its header is damaged, or is another segment's: a recycled file under an old name.
    Bad,
    /// Its file is not there.
    Missing,
    /// Its header is whole and of another version.
    Foreign,
}

/// What is at the place where a frame should begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameState {
    /// The next frame.
    Good,
    /// The next frame, which ends the segment.
    Seal,
    /// No frame: zero, or stale bytes inside of an old frame.
    Absent,
    /// A frame whose checksum does not hold.
    BadChecksum,
    /// Something that calls itself a frame and cannot be one.
    ImpossibleLength,
    /// A whole frame of another version that would be the next.
    ForeignVersion,
    /// A whole frame out of order: stale, or behind a lost one.
    WrongSequence,
    /// A whole frame of an earlier start of the log.
    LowerEpoch,
    /// A whole frame of another log.
    WrongLog,
}

/// What is known at one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Finding {
    /// The segment.
    pub segment: SegmentState,
    /// The frame; means nothing unless the segment is good.
    pub frame: FrameState,
    /// Whether what should be here is known to have been durable.
    pub proved: bool,
    /// Whether no later segment exists.
    pub last: bool,
    /// Whether a group is open.
    pub open_group: bool,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Take the frame.
    Accept,
    /// Go on in the next segment.
    NextSegment,
    /// The log ends here, and nothing speaks of a loss.
    End,
    /// The log ends here; what follows was never durable and is discarded.
    Cut,
    /// The log ends where the open group began.
    CutGroup,
    /// Damage: copy it aside, report it, go on behind it.
    Quarantine,
    /// Touch nothing; a person has to act.
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
    /// What is done.
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
    /// Whether the row is for this finding.
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
        for segment in [S::Good, S::Bad, S::Missing, S::Foreign] {
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
