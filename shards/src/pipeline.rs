//! Pipeline: from a batch to the frames that hold its events.
//!
//! Guarantees: the events of a batch and its position go into one group, so that a crash keeps both or neither; a batch that
//! feeds several pipelines makes one frame (or more, when it is long) for each, the position is in the last; it is left out
//! while the batch lives on in lines that are not made yet. Allocates nothing
//! per event once the buffers have grown. Does not append: the intake does.

use crate::batch::{Batch, Source, SourceRange};
use crate::counters::{Discard, PipelineCounters, Tally};
use crate::dlq::Letters;
use crate::env::Timestamp;
use crate::plugin::{Frames, Processor};
use crate::wal::builder::{FrameBuilder, Group};
use crate::wal::frame::FrameKind;
use std::sync::Arc;

/// A pipeline as seen from one of its inputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipelineRef {
    /// Its number in the configuration.
    pub number: u32,
    /// Its name.
    pub name: Arc<str>,
    /// The masks of its outputs, in the order of the configuration.
    pub targets: Vec<u64>,
}

impl PipelineRef {
    /// Its outputs.
    pub fn outputs(&self) -> u64 {
        self.targets.iter().fold(0, |all, target| all | target)
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// What was done to the events, over all pipelines.
    pub tally: Tally,
    /// Its position is not in the group.
    pub withheld: bool,
}

/// The way of one input's batches into frames.
pub struct InputPath {
    processor: Box<dyn Processor>,
    pipelines: Vec<PipelineRef>,
    /// Events that each of them holds for this input.
    held: Vec<u64>,
    /// Of all pipelines of the shard, by their numbers.
    counters: Arc<[PipelineCounters]>,
    /// Dead letters of the last batch: those that no pipeline got, and those of each pipeline.
    unread: u64,
    given_up: Vec<u64>,
}

impl InputPath {
    /// The way through `pipelines`, with lines made by `processor`; `counters` are those of all pipelines of the shard.
    pub fn new(
        processor: Box<dyn Processor>,
        pipelines: Vec<PipelineRef>,
        counters: Arc<[PipelineCounters]>,
    ) -> InputPath {
        assert!(!pipelines.is_empty(), "an input without a pipeline is not started");
        let (held, given_up) = (vec![0; pipelines.len()], vec![0; pipelines.len()]);
        InputPath { processor, pipelines, held, counters, unread: 0, given_up }
    }

    /// Outputs of all its pipelines.
    pub fn outputs(&self) -> u64 {
        self.pipelines.iter().fold(0, |all, pipeline| all | pipeline.outputs())
    }

    /// Fills the empty `group` with the frames of `batch`. Outputs in `skipped` get none of its events. With `introduce` the
    /// source's record is written along. The position is left out with `withhold`, or if events of the batch are counted in lines
    /// that are not made yet. What cannot become lines goes into `letters`.
    pub fn encode(
        &mut self,
        batch: &Batch,
        skipped: u64,
        introduce: bool,
        withhold: bool,
        group: &mut Group,
        letters: &mut Letters,
    ) -> Encoded {
        letters.begin(batch.received);
        self.processor.begin(batch);
        self.processor.dead_letters(batch, letters);
        self.unread = letters.count();
        let mut all = Tally::default();
        let last = self.pipelines.len() - 1;
        for (place, pipeline) in self.pipelines.iter().enumerate() {
            let outputs = pipeline.outputs() & !skipped;
            let before = letters.count();
            if outputs == 0 {
                group.frame(FrameKind::Events, pipeline.number, 0);
            } else {
                let mut frames = Frames::new(group, pipeline.number, outputs, &pipeline.targets, letters);
                self.processor.process(batch, place, &mut frames);
                let tally = self.processor.take_tally();
                let (counters, events) = (&self.counters[pipeline.number as usize], batch.events.len() as u64);
                count(counters, events - self.unread, &tally, &mut self.held[place]);
                all.replaced += tally.replaced;
                all.unparsed += tally.unparsed;
            }
            self.given_up[place] = letters.count() - before;
            if place < last {
                group.last().expect("a pipeline makes a frame").finish();
            }
        }
        let withheld = withhold || self.processor.holds();
        if let Some(last) = group.last() {
            if !withheld {
                record(last, &batch.source, &batch.settled, &batch.range, introduce, batch.gone);
                last.discard(batch.dropped_events);
            }
            // Recovery takes it for the time at which the source was gone.
            last.set_timestamp(batch.received);
            last.finish();
        }
        Encoded { tally: all, withheld }
    }

    /// Whether events are counted in lines that are not made yet, and would be lost with them.
    pub fn holds(&self) -> bool {
        self.processor.holds()
    }

    /// When there are lines to make though no batch comes.
    pub fn due(&self) -> Option<Timestamp> {
        self.processor.due()
    }

    /// Fills the empty `group` with lines that are due at `now`, or with all there are if `last` says so. What cannot become lines
    /// goes into `letters`. True if there are more.
    pub fn tick(&mut self, now: Timestamp, last: bool, group: &mut Group, letters: &mut Letters) -> bool {
        letters.begin(now);
        self.unread = 0;
        let mut more = false;
        for (place, pipeline) in self.pipelines.iter().enumerate() {
            let before = letters.count();
            let mut frames = Frames::new(group, pipeline.number, pipeline.outputs(), &pipeline.targets, letters);
            more |= self.processor.tick(now, last, place, &mut frames);
            let tally = self.processor.take_tally();
            count(&self.counters[pipeline.number as usize], 0, &tally, &mut self.held[place]);
            self.given_up[place] = letters.count() - before;
            group.last().expect("a pipeline makes a frame").finish();
        }
        more
    }

    /// The pipeline with this number, if it is one of them.
    pub fn pipeline(&self, number: u32) -> Option<&PipelineRef> {
        self.pipelines.iter().find(|pipeline| pipeline.number == number)
    }

    /// Counts events that a pipeline had made lines of and that the log cannot hold.
    pub fn count_oversized(&self, number: u32, kept: u64, dropped: u64) {
        let counters = &self.counters[number as usize];
        counters.dead_lettered_events.add(kept);
        counters.discarded.add(Discard::DeadLettersFull, dropped);
    }

    /// Counts the dead letters of the last batch, of which `dropped` found no room. Which ones is not known: those of the input
    /// come first. Returns how many of the input's were kept, and how many were not.
    pub fn count_letters(&self, mut dropped: u64) -> (u64, u64) {
        let lost = dropped.min(self.unread);
        dropped -= lost;
        for (pipeline, given_up) in self.pipelines.iter().zip(&self.given_up) {
            let lost = dropped.min(*given_up);
            dropped -= lost;
            let counters = &self.counters[pipeline.number as usize];
            counters.dead_lettered_events.add(given_up - lost);
            counters.discarded.add(Discard::DeadLettersFull, lost);
        }
        (self.unread - lost, lost)
    }
}

/// Records a range of a source, and before it what of the source is settled, if anything is said of that.
pub(crate) fn record(
    frame: &mut FrameBuilder,
    source: &Arc<Source>,
    settled: &SourceRange,
    range: &SourceRange,
    introduce: bool,
    gone: bool,
) {
    let is_said = settled.from < settled.to;
    if is_said {
        frame.position(settled, source, introduce, false);
    }
    frame.position(range, source, introduce && !is_said, gone);
}

fn count(counters: &PipelineCounters, events: u64, tally: &Tally, held: &mut u64) {
    counters.received_events.add(events);
    if tally.held != *held {
        counters.held_events.set(counters.held_events.get() - *held + tally.held);
        *held = tally.held;
    }
    if tally.made > 0 {
        counters.made_events.add(tally.made);
    }
    for (reason, events) in [
        (Discard::Filtered, tally.filtered),
        (Discard::Unparsed, tally.unparsed_dropped),
        (Discard::Oversized, tally.oversized),
        (Discard::Aggregated, tally.aggregated),
    ] {
        if events > 0 {
            counters.discarded.add(reason, events);
        }
    }
    if tally.failures > 0 {
        counters.failures.add(tally.failures);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{EventSpan, SourceKey};

    /// Each event as it is, a second after the epoch.
    struct Plain;

    impl Processor for Plain {
        fn begin(&mut self, _: &Batch) {}

        fn process(&mut self, batch: &Batch, _: usize, frames: &mut Frames<'_>) {
            for index in 0..batch.events.len() {
                let line = frames.line();
                line.extend_from_slice(batch.event(index));
                line.push(b'\n');
                frames.end_event(Timestamp(1_000_000_000));
            }
        }
    }

    #[test]
    fn range_without_events_is_dated_by_its_batch() {
        let source = Source {
            key: SourceKey(7),
            input: "app".into(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: true,
        };
        let mut batch = Batch::new(64, Arc::new(source));
        batch.range = SourceRange { from: 5, to: 5, marker: 1 };
        batch.received = Timestamp(99);
        batch.gone = true;
        let mut path = InputPath::new(
            Box::new(Plain),
            vec![PipelineRef { number: 0, name: "main".into(), targets: vec![1] }],
            [PipelineCounters::default()].into(),
        );
        let (mut group, mut letters) = (Group::new(), Letters::new());
        path.encode(&batch, 0, true, false, &mut group, &mut letters);
        assert_eq!(group.last().map(|frame| frame.timestamp()), Some(Timestamp(99)));
        batch.events.push(EventSpan { start: 0, end: 0 });
        group.clear();
        path.encode(&batch, 0, true, false, &mut group, &mut letters);
        assert_eq!(group.last().map(|frame| frame.timestamp()), Some(Timestamp(1_000_000_000)));
    }
}
