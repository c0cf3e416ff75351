//! Intake: takes batches out of a shard's lanes, makes frames of them and appends these to the shard's log.
//!
//! Guarantees: batches of one lane are appended in their order (invariant E3), none is skipped; when the log is full the
//! lanes are not emptied, apart from what their policy drops, so memory stays bounded (invariant E4); a ticket is acknowledged
//! when its frames are durable (invariant E1). What became a dead letter is in the queue of these before the batch it was in is
//! appended: a crash in between reads the batch again. Lines that a processor makes though no batch comes are appended when they
//! are due, and the last ones before the end. Does not read sources and does not deliver.

use crate::batch::{Batch, Source, SourceRange};
use crate::counters::{Discard, Discarded};
use crate::dlq::clerk::Clerk;
use crate::dlq::{ComponentKind, DeadLetter, Letters};
use crate::env::{Disk as _, Env, Sabotage, Timestamp};
use crate::keeper::Keeper;
use crate::lane::{Dropped, LaneReceiver};
use crate::limits::{OUTPUTS_MAX, line_bytes_fitting};
use crate::pipeline::{InputPath, record};
use crate::signal::Signal;
use crate::stop::{Phase, Stop};
use crate::wal::builder::Group;
use crate::wal::frame::FrameKind;
use crate::wal::{Sequence, WalError};
use crate::withheld::{Released, Withheld};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// One lane that ends here.
pub struct IntakeLane {
    /// Its end.
    pub receiver: LaneReceiver,
    /// The input it comes from: an index into the paths.
    pub path: usize,
}

/// Bytes that readers bring in a turn where they have more to bring.
const GATHERED_BYTES: u64 = 32 * 1024;

/// Frames in ten that an output with the policy `sample` still gets from a log under pressure.
const SAMPLED_IN: u64 = 10;

/// How long the wait for lines that are due is: a clock that is set must not make it endless, nor many.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_secs(60);

/// Ranges that are recorded together once they are no longer withheld.
const RANGES_A_GROUP: usize = 16;

/// Ranges of dropped batches that wait for room in the log. Those of a source that is spread over shards never meet, so there
/// is one for each batch; with so many nothing more is dropped, and the lane stops its reader.
pub(crate) const OWED_MAX: usize = 1024;

/// See the module.
pub struct Intake<E: Env> {
    env: E,
    lanes: Vec<IntakeLane>,
    /// Ranges of batches dropped at the sender's wish while the log was full: at most one for each run of a source's bytes, and
    /// at most [`OWED_MAX`].
    owed: VecDeque<(usize, Dropped)>,
    paths: Vec<InputPath>,
    /// What is not yet recorded of each path's batches.
    withheld: Vec<Withheld>,
    keeper: Rc<Keeper<E>>,
    clerk: Rc<Clerk<E>>,
    letters: Letters,
    group: Group,
    ready: Arc<Signal>,
    stop: Stop,
    /// Outputs that lose frames, not stop the intake, when the log fills up.
    sampled_outputs: u64,
    /// Frames for each of them, by output number, that met a log which fills up.
    sampled: [u64; OUTPUTS_MAX],
    /// Events that such outputs lost, by output number.
    wal_full: Arc<[Discarded]>,
}

/// What an intake is made of.
pub struct IntakeParts<E: Env> {
    /// The world.
    pub env: E,
    /// The lanes that end here.
    pub lanes: Vec<IntakeLane>,
    /// The way of each input.
    pub paths: Vec<InputPath>,
    /// The log.
    pub keeper: Rc<Keeper<E>>,
    /// The dead letter queue.
    pub clerk: Rc<Clerk<E>>,
    /// Raised by the lanes.
    pub ready: Arc<Signal>,
    /// The end.
    pub stop: Stop,
    /// Mask of the outputs whose policy is `sample`.
    pub sampled_outputs: u64,
    /// Discards by output number, for those.
    pub wal_full: Arc<[Discarded]>,
}

impl<E: Env> Intake<E> {
    /// An intake; [`Intake::run`] does the work.
    pub fn new(parts: IntakeParts<E>) -> Intake<E> {
        let IntakeParts { env, lanes, paths, keeper, clerk, ready, stop, sampled_outputs, wal_full } = parts;
        stop.tell(ready.clone());
        let segment_bytes = keeper.segment_bytes();
        Intake {
            env,
            lanes,
            owed: VecDeque::new(),
            withheld: paths.iter().map(|_| Withheld::default()).collect(),
            paths,
            keeper,
            clerk,
            letters: Letters::new(),
            group: Group::for_segments(segment_bytes),
            ready,
            stop,
            sampled_outputs,
            sampled: [0; OUTPUTS_MAX],
            wal_full,
        }
    }

    /// Runs until every lane is finished or the end is forced. What is left in the lanes then was never acknowledged.
    pub async fn run(mut self) {
        let mut seen = 0;
        while self.stop.phase() < Phase::Forced {
            if self.tick(false).await.is_err() {
                return;
            }
            let mut idle = true;
            for lane in 0..self.lanes.len() {
                if let Some(batch) = self.lanes[lane].receiver.pop() {
                    idle = false;
                    if self.take(lane, batch).await.is_err() {
                        return;
                    }
                }
            }
            if idle && self.keeper.has_staged() {
                // While readers bring much, they are let bring more: few large writes cost less than many.
                let bytes = self.keeper.log().counters.bytes.get();
                if bytes - std::mem::replace(&mut seen, bytes) >= GATHERED_BYTES {
                    futures_lite::future::yield_now().await;
                } else if self.keeper.flush().is_err() {
                    return;
                }
            } else if idle {
                if self.lanes.iter_mut().all(|lane| lane.receiver.is_finished()) {
                    let _ended = self.tick(true).await;
                    return;
                }
                if self.stop.is_asked() && self.tick(true).await.is_err() {
                    return;
                }
                // Of a lane whose processor has lines to make, the tick has taken it.
                let asked = self.lanes.iter().filter(|lane| lane.receiver.take_settle_asked()).count();
                if asked > 0 {
                    self.keeper.hurry();
                }
                if !self.keeper.has_staged() {
                    self.wait().await;
                }
            } else if self.env.slice_used() {
                self.env.turn().await;
            }
        }
    }

    /// Waits for batches, or until lines are due.
    async fn wait(&self) {
        match self.paths.iter().filter_map(InputPath::due).min() {
            None => self.ready.wait().await,
            Some(due) => {
                let nanos = u64::try_from(due.0.saturating_sub(self.env.wall().0)).unwrap_or(0);
                let left = Duration::from_nanos(nanos).clamp(TICK_MIN, TICK_MAX);
                futures_lite::future::or(self.ready.wait(), self.env.sleep(left)).await;
            }
        }
    }

    /// Appends the lines that processors have due, or all that they have if it is the last time.
    async fn tick(&mut self, last: bool) -> Result<(), ()> {
        for path in 0..self.paths.len() {
            let Some(due) = self.paths[path].due() else { continue };
            let mut of_path = self.lanes.iter().filter(|lane| lane.path == path);
            let last = last || of_path.any(|lane| lane.receiver.take_settle_asked());
            if last || due <= self.env.wall() {
                self.make(path, last).await?;
            }
        }
        Ok(())
    }

    /// Appends the lines that the processor of a path has due, or all that it has. When none is left that batches are counted in,
    /// what was withheld of these is recorded with the last lines.
    async fn make(&mut self, path: usize, last: bool) -> Result<(), ()> {
        let now = self.env.wall();
        loop {
            self.group.clear();
            let more = self.paths[path].tick(now, last, &mut self.group, &mut self.letters);
            if !self.letters.is_empty()
                && let Some(lane) = self.lanes.iter().position(|lane| lane.path == path)
            {
                self.keep_letters(lane).await?;
            }
            if !more && !self.paths[path].holds() && !self.withheld[path].is_empty() {
                return self.release(path, now).await;
            }
            if self.group.frames().iter().any(|frame| frame.event_count() > 0) {
                self.append().await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Appends the group together with the ranges that were withheld; with more of them, further groups.
    async fn release(&mut self, path: usize, now: Timestamp) -> Result<(), ()> {
        let Released { ranges, discarded, tickets } = self.withheld[path].release();
        if discarded > 0 {
            let frame = self.group.frame(FrameKind::Events, 0, 0);
            frame.discard(discarded);
            frame.set_timestamp(now);
            frame.finish();
        }
        let mut groups = ranges.chunks(RANGES_A_GROUP);
        let mut next = groups.next();
        let last = loop {
            for range in next.unwrap_or_default() {
                let introduce = introduces(&self.keeper, &range.source);
                let frame = self.group.frame(FrameKind::Events, 0, 0);
                frame.position(&range.range, &range.source, introduce, range.gone);
                frame.set_timestamp(now);
                frame.finish();
            }
            let sequence = self.append().await?;
            self.group.clear();
            next = groups.next();
            if next.is_none() {
                break sequence;
            }
        };
        for (lane, ticket) in tickets {
            self.keeper.acknowledge_later(last, lane, ticket);
        }
        Ok(())
    }

    async fn take(&mut self, lane: usize, batch: Box<Batch>) -> Result<(), ()> {
        let (number, withheld) = (self.lanes[lane].path, !self.withheld[self.lanes[lane].path].is_empty());
        let path = &mut self.paths[number];
        let skipped = sampled_out(&self.keeper, self.sampled_outputs & path.outputs(), &mut self.sampled);
        count_skipped(&self.wal_full, skipped, batch.events.len() as u64);
        let introduce = introduces(&self.keeper, &batch.source);
        self.group.clear();
        let (group, letters) = (&mut self.group, &mut self.letters);
        let encoded = path.encode(&batch, skipped, introduce, withheld, group, letters);
        self.lanes[lane].receiver.count(&encoded.tally);
        if encoded.withheld {
            self.withheld[number].add(lane, &batch);
        }
        let ticket = batch.ticket;
        // The frames hold all that is needed: the chunk goes home while it is still in the cache.
        self.lanes[lane].receiver.give_back(batch);
        if E::Disk::sabotaged(Sabotage::AcknowledgeEarly) {
            self.keeper.acknowledge_early(lane, ticket);
        }
        if !self.letters.is_empty() {
            self.keep_letters(lane).await?;
        }
        if !encoded.withheld {
            let sequence = self.append().await?;
            self.keeper.acknowledge_later(sequence, lane, ticket);
        } else {
            if self.group.frames().iter().any(|frame| frame.event_count() > 0) {
                self.append().await?;
            }
            if self.withheld[number].is_full() {
                self.make(number, true).await?;
            }
        }
        if !self.owed.is_empty() {
            self.record_owed().await?;
        }
        Ok(())
    }

    /// Keeps the letters of a batch, waiting as long as the queue of them has no room. Fails when the engine ends.
    async fn keep_letters(&mut self, lane: usize) -> Result<(), ()> {
        let (clerk, mut letters) = (self.clerk.clone(), std::mem::take(&mut self.letters));
        let mut keeping = std::pin::pin!(async {
            let kept = clerk.keep(&mut letters, std::future::pending()).await;
            (kept, letters)
        });
        let kept = loop {
            let waited = futures_lite::future::or(async { Some(keeping.as_mut().await) }, async {
                self.ready.wait().await;
                None
            });
            if let Some((kept, letters)) = waited.await {
                self.letters = letters;
                break kept;
            }
            if self.stop.phase() == Phase::Forced {
                return Err(());
            }
            self.drop_oldest();
        };
        let (unread, lost) = self.paths[self.lanes[lane].path].count_letters(kept.dropped);
        self.lanes[lane].receiver.count_dead_letters(unread, lost);
        Ok(())
    }

    /// Drops from the lanes what their policies say, while nothing is taken out of them.
    fn drop_oldest(&mut self) {
        for lane in 0..self.lanes.len() {
            while self.owed.len() < OWED_MAX
                && let Some(dropped) = self.lanes[lane].receiver.drop_oldest()
            {
                self.owe(lane, dropped);
            }
        }
    }

    /// Records what is owed. Merged ranges are out of the order of their tickets, so tickets go back when all are recorded.
    async fn record_owed(&mut self) -> Result<(), ()> {
        let mut tickets = BTreeMap::new();
        let mut last = Sequence(0);
        while let Some((lane, dropped)) = self.owed.pop_front() {
            last = self.record(&dropped).await?;
            let highest = tickets.entry(lane).or_insert(dropped.ticket);
            *highest = dropped.ticket.max(*highest);
        }
        self.keeper.count_owed(0);
        for (lane, ticket) in tickets {
            let withheld = &mut self.withheld[self.lanes[lane].path];
            match withheld.is_empty() {
                true => self.keeper.acknowledge_later(last, lane, ticket),
                // Those of its lane that came before wait.
                false => withheld.add_ticket(lane, ticket),
            }
        }
        Ok(())
    }

    /// Records the range of batches whose events were dropped.
    async fn record(&mut self, dropped: &Dropped) -> Result<Sequence, ()> {
        let introduce = introduces(&self.keeper, &dropped.source);
        self.group.clear();
        let frame = self.group.frame(FrameKind::Events, 0, 0);
        record(frame, &dropped.source, &dropped.settled, &dropped.range, introduce, dropped.gone);
        frame.discard(dropped.events);
        frame.set_timestamp(self.env.wall());
        frame.finish();
        self.append().await
    }

    /// Keeps a dropped range until the log has room, merged with the one before it of its source: a log that stays full must
    /// not make the queue grow with every batch that is dropped.
    fn owe(&mut self, lane: usize, dropped: Dropped) {
        let same = self.owed.iter_mut().rfind(|(at, earlier)| *at == lane && earlier.source.key == dropped.source.key);
        if let Some((_, earlier)) = same.filter(|(_, earlier)| earlier.is_followed_by(&dropped)) {
            let range = SourceRange { from: earlier.range.from, ..dropped.range };
            *earlier = Dropped { range, events: earlier.events + dropped.events, ..dropped };
            return;
        }
        self.owed.push_back((lane, dropped));
        self.keeper.count_owed(self.owed.len());
    }

    /// Appends the group, waiting for room. Fails when the engine ends.
    async fn append(&mut self) -> Result<Sequence, ()> {
        let mut waited = false;
        loop {
            match self.keeper.append(&mut self.group) {
                Ok(sequence) => return Ok(sequence),
                Err(WalError::Full) if !std::mem::replace(&mut waited, true) => self.keeper.count_full(),
                Err(WalError::Full) => {}
                Err(error @ WalError::TooLarge { .. }) => {
                    self.shed_large(&error).await?;
                    continue;
                }
                Err(_) => return Err(()),
            }
            if self.stop.phase() == Phase::Forced {
                return Err(());
            }
            self.drop_oldest();
            futures_lite::future::or(self.keeper.room(), self.ready.wait()).await;
        }
    }

    /// Makes dead letters of events that no segment of the log can hold.
    async fn shed_large(&mut self, error: &WalError) -> Result<(), ()> {
        let (reason, now) = (error.to_string(), self.env.wall());
        let longest = line_bytes_fitting(self.keeper.segment_bytes());
        let mut all = 0;
        for frame in self.group.frames_mut() {
            let number = frame.pipeline();
            let Some(path) = self.paths.iter().find(|path| path.pipeline(number).is_some()) else { continue };
            let name = path.pipeline(number).map_or("", |pipeline| &pipeline.name);
            let mut letters = Letters::new();
            letters.begin(now);
            frame.shed(longest, |line, timestamp| {
                letters.push(&DeadLetter {
                    kind: ComponentKind::Pipeline,
                    component: name,
                    place: "log",
                    source: b"",
                    reason: &reason,
                    attempts: 0,
                    timestamp,
                    original: line,
                });
            });
            if letters.is_empty() {
                continue;
            }
            all += letters.count();
            let forced = self.stop.reached(Phase::Forced);
            let kept = self.clerk.keep(&mut letters, forced).await;
            if kept.left > 0 {
                return Err(());
            }
            path.count_oversized(number, kept.stored, kept.dropped);
        }
        if all == 0 {
            // Without a long line there is nothing that could be left out.
            self.stop.fail(reason);
            return Err(());
        }
        tracing::warn!(events = all, %reason, "events that the log cannot hold are dead letters now: raise wal.segment_bytes");
        Ok(())
    }
}

fn introduces<E: Env>(keeper: &Keeper<E>, source: &Arc<Source>) -> bool {
    source.repeatable && !keeper.with_writer(|writer| writer.knows(source))
}

/// The outputs among `candidates` that lose the next frame because the log fills up.
fn sampled_out<E: Env>(keeper: &Keeper<E>, candidates: u64, sampled: &mut [u64; OUTPUTS_MAX]) -> u64 {
    if candidates == 0 || !keeper.is_under_pressure() { 0 } else { thinned(candidates, sampled) }
}

/// Each output counts for itself: with one count for all, an output whose frames come in step with another's gets none.
fn thinned(candidates: u64, sampled: &mut [u64; OUTPUTS_MAX]) -> u64 {
    let mut lost = 0;
    for (number, seen) in sampled.iter_mut().enumerate().filter(|(number, _)| candidates & (1 << number) != 0) {
        *seen += 1;
        lost |= u64::from(*seen % SAMPLED_IN != 1) << number;
    }
    lost
}

fn count_skipped(wal_full: &[Discarded], skipped: u64, events: u64) {
    for (number, discarded) in wal_full.iter().enumerate() {
        if skipped & (1 << number) != 0 {
            discarded.add(Discard::WalFull, events);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_keeps_one_frame_in_ten_whatever_others_get() {
        let mut sampled = [0; OUTPUTS_MAX];
        let mut kept = [0; 2];
        for _ in 0..50 {
            for (output, kept) in kept.iter_mut().enumerate() {
                *kept += u64::from(thinned(1 << output, &mut sampled) == 0);
            }
        }
        assert_eq!(kept, [5, 5], "frames of two outputs come in turn");
        let (first, second) = (thinned(0b11, &mut sampled), thinned(0b101, &mut sampled));
        assert_eq!((first, second), (0, 0b001), "a frame for several is judged for each");
    }
}
