//! From a batch to the frames with its events, for each pipeline.
//!
//! Guarantees: the events of a batch and its position go into one group, so that a crash keeps both or neither. A batch that
//! feeds several pipelines produces at least one frame for each, and the position is in the last frame. The position is omitted
//! while events of the batch are held for lines that do not exist yet. Every event is counted, including dead letters for which
//! there was no space. Allocates nothing per event after the buffers have grown. Does not append: the intake does.

use crate::batch::{Batch, Source, SourceKey, SourceRange};
use crate::counters::{Discard, PipelineCounters, Tally};
use crate::dlq::Letters;
use crate::env::Timestamp;
use crate::plugin::{Frames, Processor};
use crate::wal::builder::{FrameBuilder, Group};
use crate::wal::frame::FrameKind;
use crate::withheld::Account;
use std::sync::Arc;

/// A pipeline, as one of its inputs sees it.
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

/// What happened to the events of a batch, or of due lines. Counted when they are about to be written to the log.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that the pipelines received.
    events: u64,
    /// What was done to the events, over all pipelines.
    tally: Tally,
    /// Dead letters of the input. They come before all others.
    unread: u64,
    /// What each pipeline did. The dead letters of each follow those of the previous one.
    places: Vec<PlaceCounts>,
}

#[derive(Debug, Default)]
struct PlaceCounts {
    /// Whether it processed the events.
    worked: bool,
    tally: Tally,
    given_up: u64,
}

/// Events that no pipeline could receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Those whose letters were stored.
    pub kept: u64,
    /// Those whose letters were dropped for lack of space.
    pub lost: u64,
}

impl Counts {
    fn begin(&mut self, events: u64) {
        self.places.clear();
        (self.events, self.tally, self.unread) = (events, Tally::default(), 0);
    }

    /// What was done to the events, over all pipelines.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }
}

/// The path of one input's batches to frames.
pub struct InputPath {
    processor: Box<dyn Processor>,
    pipelines: Vec<PipelineRef>,
    /// Events that each pipeline holds for this input.
    held: Vec<u64>,
    /// Counters of all pipelines of the shard, by their numbers.
    counters: Arc<[PipelineCounters]>,
}

impl InputPath {
    /// The path through `pipelines`, with lines produced by `processor`. `counters` are those of all pipelines of the shard.
    pub fn new(
        processor: Box<dyn Processor>,
        pipelines: Vec<PipelineRef>,
        counters: Arc<[PipelineCounters]>,
    ) -> InputPath {
        assert!(!pipelines.is_empty(), "an input without a pipeline is not started");
        let held = vec![0; pipelines.len()];
        InputPath { processor, pipelines, held, counters }
    }

    /// Outputs of all its pipelines.
    pub fn outputs(&self) -> u64 {
        self.pipelines.iter().fold(0, |all, pipeline| all | pipeline.outputs())
    }

    /// Fills `group` with the frames of `batch`. The last one is left open for the position: see [`end_group`]. Outputs in
    /// `skipped` get none of its events. Events that cannot become lines are added to `letters`, and the counts of all events
    /// to `counts`.
    pub fn encode(
        &mut self,
        batch: &Batch,
        skipped: u64,
        group: &mut Group,
        letters: &mut Letters,
        counts: &mut Counts,
    ) {
        group.clear();
        letters.begin(batch.received);
        self.processor.begin(batch);
        self.processor.dead_letters(batch, letters);
        counts.begin(batch.events.len() as u64);
        counts.unread = letters.count();
        let last = self.pipelines.len() - 1;
        for (place, pipeline) in self.pipelines.iter().enumerate() {
            let outputs = pipeline.outputs() & !skipped;
            let (before, worked) = (letters.count(), outputs != 0);
            let mut tally = Tally::default();
            if worked {
                let mut frames = Frames::new(group, pipeline.number, outputs, &pipeline.targets, letters);
                self.processor.process(batch, place, &mut frames);
                tally = self.processor.take_tally();
                counts.tally.replaced += tally.replaced;
                counts.tally.unparsed += tally.unparsed;
                show_held(&self.counters[pipeline.number as usize], &tally, &mut self.held[place]);
            } else {
                group.frame(FrameKind::Events, pipeline.number, 0);
            }
            counts.places.push(PlaceCounts { worked, tally, given_up: letters.count() - before });
            if place < last {
                group.last().expect("a pipeline makes a frame").finish();
            }
        }
    }

    /// The first position of a source whose events are held for lines that do not exist yet: see [`Processor::held_from`].
    pub fn held_from(&self, source: SourceKey) -> Option<u64> {
        self.processor.held_from(source)
    }

    /// See [`Processor::let_go`].
    pub fn let_go(&self) -> u64 {
        self.processor.let_go()
    }

    /// When lines are due without a batch.
    pub fn due(&self) -> Option<Timestamp> {
        self.processor.due()
    }

    /// Fills `group` with lines that are due at `now`, or with all remaining lines if `last` is set. Events that cannot become
    /// lines are added to `letters`, and the counts of all events to `counts`. Returns true if there are more.
    pub fn tick(
        &mut self,
        now: Timestamp,
        last: bool,
        group: &mut Group,
        letters: &mut Letters,
        counts: &mut Counts,
    ) -> bool {
        group.clear();
        letters.begin(now);
        counts.begin(0);
        let mut more = false;
        for (place, pipeline) in self.pipelines.iter().enumerate() {
            let before = letters.count();
            let mut frames = Frames::new(group, pipeline.number, pipeline.outputs(), &pipeline.targets, letters);
            more |= self.processor.tick(now, last, place, &mut frames);
            let tally = self.processor.take_tally();
            show_held(&self.counters[pipeline.number as usize], &tally, &mut self.held[place]);
            counts.places.push(PlaceCounts { worked: true, tally, given_up: letters.count() - before });
            group.last().expect("a pipeline makes a frame").finish();
        }
        more
    }

    /// What outputs in `skipped` did not receive of a batch of `events`, by the outputs of each pipeline: the lines that others
    /// received, if the pipeline made any. These may include lines of earlier events, and the last events may have no lines
    /// yet.
    pub fn skipped(
        &self,
        skipped: u64,
        group: &Group,
        counts: &Counts,
        events: u64,
    ) -> impl Iterator<Item = (u64, u64)> {
        let unmade = events.saturating_sub(counts.unread);
        let of = move |(place, pipeline): (usize, &PipelineRef)| {
            let made = group.frames().iter().filter(|frame| frame.pipeline() == pipeline.number);
            let worked = counts.places.get(place).is_some_and(|counts| counts.worked);
            let events = if worked { made.map(|frame| frame.event_count() as u64).sum() } else { unmade };
            (pipeline.outputs() & skipped, events)
        };
        self.pipelines.iter().enumerate().map(of).filter(|(outputs, _)| *outputs != 0)
    }

    /// The pipeline with this number, if it is one of these.
    pub fn pipeline(&self, number: u32) -> Option<&PipelineRef> {
        self.pipelines.iter().find(|pipeline| pipeline.number == number)
    }

    /// Counts events of which a pipeline had made lines that do not fit in the log.
    pub fn count_oversized(&self, number: u32, kept: u64, dropped: u64) {
        let counters = &self.counters[number as usize];
        counters.dead_lettered_events.add(kept);
        counters.discarded.add(Discard::DeadLettersFull, dropped);
    }

    /// Counts what happened to a batch, or to due lines. `dropped` are the indices, among all its letters, of those for which
    /// there was no space.
    pub fn count(&self, counts: &Counts, dropped: &[u64]) -> Unread {
        let among = |from: u64, letters: u64| {
            dropped.iter().filter(|place| (from..from + letters).contains(place)).count() as u64
        };
        let lost = among(0, counts.unread);
        let mut from = counts.unread;
        for (pipeline, place) in self.pipelines.iter().zip(&counts.places) {
            let counters = &self.counters[pipeline.number as usize];
            if place.worked {
                // The pipeline received the events of due lines earlier.
                count(counters, counts.events.saturating_sub(counts.unread), &place.tally);
            }
            if place.given_up > 0 {
                let lost = among(from, place.given_up);
                from += place.given_up;
                counters.dead_lettered_events.add(place.given_up - lost);
                counters.discarded.add(Discard::DeadLettersFull, lost);
            }
        }
        Unread { kept: counts.unread - lost, lost }
    }
}

/// Records a range of a source. If a settled range is given, records that before it.
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

/// Ends the last frame of a group that [`InputPath::encode`] filled, with the position of the batch if it is to be recorded.
/// With `introduce`, also writes the source's record.
pub fn end_group(group: &mut Group, account: &Account, recorded: bool, introduce: bool) {
    let Some(last) = group.last() else { return };
    if recorded {
        record(last, &account.source, &account.settled, &account.range, introduce, account.gone);
        last.discard(account.dropped_events);
    }
    // Recovery uses this timestamp as the time when the source disappeared.
    last.set_timestamp(account.received);
    last.finish();
}

/// Publishes how many events a pipeline holds for the input.
fn show_held(counters: &PipelineCounters, tally: &Tally, held: &mut u64) {
    if tally.held != *held {
        counters.held_events.set(counters.held_events.get() - *held + tally.held);
        *held = tally.held;
    }
}

fn count(counters: &PipelineCounters, events: u64, tally: &Tally) {
    counters.received_events.add(events);
    if tally.made > 0 {
        counters.made_events.add(tally.made);
    }
    for (reason, events) in [
        (Discard::Filtered, tally.filtered),
        (Discard::Unparsed, tally.unparsed_dropped),
        (Discard::Aggregated, tally.aggregated),
        (Discard::Throttled, tally.throttled),
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
    use crate::batch::EventSpan;
    use crate::dlq::{ComponentKind, DeadLetter};

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

    /// Two letters of the input, and then as many of each pipeline as its place says.
    struct GivesUp;

    impl GivesUp {
        fn letter(batch: &Batch) -> DeadLetter<'_> {
            DeadLetter {
                kind: ComponentKind::Pipeline,
                component: "all",
                place: "verb",
                source: b"",
                reason: "scripted",
                attempts: 0,
                timestamp: batch.received,
                original: b"x",
            }
        }
    }

    impl Processor for GivesUp {
        fn begin(&mut self, _: &Batch) {}

        fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
            (0..2).for_each(|_| letters.push(&GivesUp::letter(batch)));
        }

        fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>) {
            (0..=place).for_each(|_| frames.dead_letter(&GivesUp::letter(batch)));
        }
    }

    fn source() -> Arc<Source> {
        let (name, descriptor) = (Vec::new(), Vec::new());
        Arc::new(Source { key: SourceKey(7), input: "app".into(), name, descriptor, repeatable: true })
    }

    #[test]
    fn letters_that_found_no_room_are_counted_where_they_came_from() {
        let counters: Arc<[PipelineCounters]> = (0..3).map(|_| PipelineCounters::default()).collect();
        let pipeline = |number| PipelineRef { number, name: "main".into(), targets: vec![1 << number] };
        let mut path = InputPath::new(Box::new(GivesUp), (0..3).map(pipeline).collect(), counters.clone());
        let (mut group, mut letters, mut counts) = (Group::new(), Letters::new(), Counts::default());
        let batch = Batch::new(64, source());
        path.encode(&batch, 0, &mut group, &mut letters, &mut counts);
        assert_eq!(letters.count(), 2 + 1 + 2 + 3);
        // The second of the input, the first of the second pipeline, and all of the third.
        assert_eq!(path.count(&counts, &[1, 3, 5, 6, 7]), Unread { kept: 1, lost: 1 });
        let shown: Vec<_> = counters
            .iter()
            .map(|counters| (counters.dead_lettered_events.get(), counters.discarded.get(Discard::DeadLettersFull)))
            .collect();
        assert_eq!(shown, [(1, 0), (1, 1), (0, 3)]);
    }

    #[test]
    fn range_without_events_is_dated_by_its_batch() {
        let mut batch = Batch::new(64, source());
        batch.range = SourceRange { from: 5, to: 5, marker: 1 };
        batch.received = Timestamp(99);
        batch.gone = true;
        let mut path = InputPath::new(
            Box::new(Plain),
            vec![PipelineRef { number: 0, name: "main".into(), targets: vec![1] }],
            [PipelineCounters::default()].into(),
        );
        let (mut group, mut letters, mut counts) = (Group::new(), Letters::new(), Counts::default());
        path.encode(&batch, 0, &mut group, &mut letters, &mut counts);
        end_group(&mut group, &Account::of(&batch), true, true);
        assert_eq!(group.last().map(|frame| frame.timestamp()), Some(Timestamp(99)));
        batch.events.push(EventSpan { start: 0, end: 0 });
        path.encode(&batch, 0, &mut group, &mut letters, &mut counts);
        end_group(&mut group, &Account::of(&batch), true, true);
        assert_eq!(group.last().map(|frame| frame.timestamp()), Some(Timestamp(1_000_000_000)));
    }
}
