//! Where a processor puts the lines of a batch: the frames of one pipeline's part of a group.
//!
//! Guarantees: a frame is closed and the next one begun when its payload has reached its target, so that a frame never grows
//! with the batch. A line that was begun but not ended is not kept. Does not append to the WAL: the intake does.

use crate::dlq::{DeadLetter, Letters};
use crate::env::Timestamp;
use crate::wal::builder::{FrameBuilder, Group};
use crate::wal::frame::FrameKind;

/// The frames of one pipeline. The last one is left open, because the group's last frame contains the positions.
pub struct Frames<'a> {
    group: &'a mut Group,
    pipeline: u32,
    outputs: u64,
    targets: &'a [u64],
    letters: &'a mut Letters,
}

impl<'a> Frames<'a> {
    /// Begins with an empty frame for `pipeline`. Its events go to `outputs`, unless an event specifies others. `targets` are
    /// the masks of the pipeline's outputs in the order of its configuration. `letters` receives events that the pipeline
    /// cannot process.
    pub fn new(
        group: &'a mut Group,
        pipeline: u32,
        outputs: u64,
        targets: &'a [u64],
        letters: &'a mut Letters,
    ) -> Frames<'a> {
        group.frame(FrameKind::Events, pipeline, outputs);
        Frames { group, pipeline, outputs, targets, letters }
    }

    /// The buffer to which the line of an event is appended, including its newline. Completed with [`Frames::end_event`] or
    /// removed with [`Frames::abandon_event`].
    pub fn line(&mut self) -> &mut Vec<u8> {
        let target = self.group.payload_target_bytes();
        if self.frame().payload_bytes() >= target {
            self.frame().finish();
            self.group.frame(FrameKind::Events, self.pipeline, self.outputs);
        }
        self.frame().payload()
    }

    /// Ends the line for all outputs of the pipeline.
    pub fn end_event(&mut self, timestamp: Timestamp) {
        self.frame().end_event(timestamp, None);
    }

    /// Ends the line for the outputs of `mask`, which consists of [`Frames::target`] masks. The event is not kept if it has no
    /// output.
    pub fn end_event_for(&mut self, timestamp: Timestamp, mask: u64) {
        let mask = mask & self.outputs;
        match mask {
            0 => self.frame().abandon_event(),
            mask => self.frame().end_event(timestamp, Some(mask)),
        }
    }

    /// Removes what was appended since the last event ended.
    pub fn abandon_event(&mut self) {
        self.frame().abandon_event();
    }

    /// Makes the event a dead letter, which is durable in the dead letter queue before the batch is appended. A line that was
    /// begun for it must be abandoned.
    pub fn dead_letter(&mut self, letter: &DeadLetter<'_>) {
        self.letters.push(letter);
    }

    /// The mask of the pipeline's output at `place` in its configuration.
    pub fn target(&self, place: usize) -> u64 {
        self.targets.get(place).copied().unwrap_or(0)
    }

    /// Outputs that currently get events: those of the pipeline without those that lose this batch.
    pub fn outputs(&self) -> u64 {
        self.outputs
    }

    fn frame(&mut self) -> &mut FrameBuilder {
        self.group.last().expect("frames are begun with one")
    }
}
