//! The intake receives batches from a shard's lanes, converts them to frames and appends these to the shard's WAL.
//!
//! Guarantees: batches of one lane are appended in their order (invariant E3), and none is skipped. When the WAL is full, the
//! lanes are not emptied, except for what their policy drops, so memory stays bounded (invariant E4). A ticket is acknowledged
//! when its frames are durable (invariant E1). A dead letter is in the dead letter queue before the batch of its event is
//! appended: after a crash in between, the batch is read again. Only the lane with the letter waits for it, and if the queue has
//! no space for it, only the source with the letter, as far as [`yard`] can tell sources apart: its further batches step aside
//! unread. A lane with many letters continues until its yard is full, so that the letters of many batches share a sync. Lines
//! that a processor produces without a batch are appended when they are due, and the last ones before the shutdown. Does not
//! read sources and does not deliver.

mod full;
mod oversized;
mod owed;
mod release;
mod yard;

use crate::batch::{Batch, Source};
use crate::counters::{Discard, Discarded};
use crate::dlq::clerk::Clerk;
use crate::env::{Disk as _, Env, Sabotage};
use crate::keeper::Keeper;
use crate::lane::{Dropped, LaneReceiver};
use crate::limits::OUTPUTS_MAX;
use crate::pipeline::{InputPath, end_group};
use crate::signal::Signal;
use crate::spell::{SPELL, Spell};
use crate::stop::{Phase, Stop};
use crate::wal::builder::Group;
use crate::wal::{Sequence, WalError};
use crate::withheld::{Account, Range, Withheld};
use release::PathState;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use yard::{Origin, Slot, Yard};

pub(crate) use owed::OWED_MAX;

/// One lane that ends at this intake.
pub struct IntakeLane {
    /// Its receiver.
    pub receiver: LaneReceiver,
    /// The input it comes from: an index into the paths.
    pub path: usize,
}

/// Bytes that readers should deliver in a turn if they have more data.
const GATHERED_BYTES: u64 = 32 * 1024;

/// Out of this many frames, an output with the policy `sample` still gets one from a WAL under pressure.
const SAMPLED_IN: u64 = 10;

/// How long a log must be full before this is reported.
const FULL_TOLD_AFTER: Duration = Duration::from_secs(10);

/// The minimum wait for lines that are due: a change of the clock must cause neither an endless wait nor a busy loop.
const TICK_MIN: Duration = Duration::from_millis(1);
const TICK_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub struct Intake<E: Env> {
    env: E,
    lanes: Vec<IntakeLane>,
    /// Groups that wait for dead letters: one yard for each lane, then one for the due lines of each path with several lanes.
    yards: Vec<Yard>,
    /// Ranges of batches dropped at the sender's request: at most one for each run of a source's bytes, and at most
    /// [`OWED_MAX`].
    owed: VecDeque<(usize, Dropped)>,
    paths: Vec<InputPath>,
    states: Vec<PathState>,
    /// What is not yet recorded of each lane's batches.
    withheld: Vec<Withheld>,
    /// Ranges that are about to be added to a group.
    ranges: Vec<Range>,
    /// The slot for the next batch, whose buffers are in the cache.
    hand: Option<Slot>,
    /// The last appended sequence.
    appended: Sequence,
    keeper: Rc<Keeper<E>>,
    clerk: Rc<Clerk<E>>,
    ready: Arc<Signal>,
    stop: Stop,
    /// Outputs that lose frames, instead of stopping the intake, when the log fills up.
    sampled_outputs: u64,
    /// Number of frames for each of them, by output number, while the log filled up.
    sampled: [u64; OUTPUTS_MAX],
    /// Events that such outputs lost, by output number.
    wal_full: Arc<[Discarded]>,
    /// The period in which they lose events.
    sampling: Spell,
}

/// The parts of an intake.
pub struct IntakeParts<E: Env> {
    /// The environment.
    pub env: E,
    /// The lanes that end here.
    pub lanes: Vec<IntakeLane>,
    /// The path of each input.
    pub paths: Vec<InputPath>,
    /// The log.
    pub keeper: Rc<Keeper<E>>,
    /// The dead letter queue.
    pub clerk: Rc<Clerk<E>>,
    /// Raised by the lanes.
    pub ready: Arc<Signal>,
    /// The shutdown control.
    pub stop: Stop,
    /// Mask of the outputs whose policy is `sample`.
    pub sampled_outputs: u64,
    /// Discards by output number, for those.
    pub wal_full: Arc<[Discarded]>,
}

impl<E: Env> Intake<E> {
    /// Creates an intake. [`Intake::run`] runs it.
    pub fn new(parts: IntakeParts<E>) -> Intake<E> {
        let IntakeParts { env, lanes, paths, keeper, clerk, ready, stop, sampled_outputs, wal_full } = parts;
        stop.tell(ready.clone());
        let of_lanes: Vec<usize> = lanes.iter().map(|lane| lane.path).collect();
        let (states, yards) = release::states(&of_lanes, paths.len());
        let segment_bytes = keeper.segment_bytes();
        Intake {
            env,
            yards: (0..yards).map(|_| Yard::for_segments(segment_bytes)).collect(),
            owed: VecDeque::new(),
            withheld: lanes.iter().map(|_| Withheld::default()).collect(),
            lanes,
            states,
            paths,
            ranges: Vec::new(),
            hand: None,
            appended: Sequence(0),
            keeper,
            clerk,
            ready,
            stop,
            sampled_outputs,
            sampled: [0; OUTPUTS_MAX],
            wal_full,
            sampling: Spell::default(),
        }
    }

    /// Runs until every lane is finished or the shutdown is forced. What is then left in the lanes was never acknowledged.
    pub async fn run(mut self) {
        // It ends if the log cannot accept more or the shutdown is forced. The cause has already been reported.
        let _ended = self.work().await;
    }

    async fn work(&mut self) -> Result<(), ()> {
        let mut seen = 0;
        while self.stop.phase() < Phase::Forced {
            self.unpark().await?;
            self.tick(false).await?;
            let mut idle = true;
            for lane in 0..self.lanes.len() {
                if !self.may_take(lane) {
                    self.drop_oldest_of(lane);
                } else if let Some(batch) = self.lanes[lane].receiver.pop(|source| self.yards[lane].refuses(source)) {
                    idle = false;
                    self.take(lane, batch).await?;
                }
            }
            idle &= !self.record_owed().await?;
            if idle && self.keeper.has_staged() {
                // While readers deliver much, waits for more: few large writes cost less than many small ones.
                let bytes = self.keeper.log().counters.bytes.get();
                if bytes - std::mem::replace(&mut seen, bytes) >= GATHERED_BYTES {
                    futures_lite::future::yield_now().await;
                } else if self.keeper.flush().is_err() {
                    return Err(());
                }
            } else if idle {
                let finished = self.lanes.iter_mut().all(|lane| lane.receiver.is_finished()) && self.is_clear();
                if finished || self.stop.is_asked() {
                    self.tick(true).await?;
                }
                if finished && self.is_clear() {
                    return Ok(());
                }
                // If the lane's processor has due lines, the tick has already handled the request.
                let asked = self.lanes.iter().filter(|lane| lane.receiver.take_settle_asked()).count();
                if asked > 0 {
                    self.keeper.hurry();
                }
                if !self.keeper.has_staged() {
                    self.tell_of_sampling();
                    self.wait().await;
                }
            } else if self.env.slice_used() {
                self.env.turn().await;
            }
        }
        Ok(())
    }

    /// Whether nothing waits for dead letters or for space in a yard.
    fn is_clear(&self) -> bool {
        self.yards.iter().all(Yard::is_empty) && self.owed.is_empty() && self.states.iter().all(PathState::is_idle)
    }

    /// Whether the next batch of a lane can be processed.
    fn may_take(&self, lane: usize) -> bool {
        self.yards[lane].has_room()
            && self.states[self.lanes[lane].path].is_idle()
            && !self.withheld[lane].is_full()
            // Dropped ranges must be recorded before it.
            && (self.owed.is_empty() || self.owed.iter().all(|(owed, _)| *owed != lane))
    }

    /// Waits for batches, for letters that become durable, or until lines are due.
    async fn wait(&self) {
        let may_tick = |(path, state): (&InputPath, &PathState)| {
            path.due().filter(|_| state.yard.is_some_and(|yard| self.yards[yard].has_room()))
        };
        let due = self.paths.iter().zip(&self.states).filter_map(may_tick).min().map(|due| {
            let nanos = u64::try_from(due.0.saturating_sub(self.env.wall().0)).unwrap_or(0);
            Duration::from_nanos(nanos).clamp(TICK_MIN, TICK_MAX)
        });
        match due.or(self.sampling.lasts().then_some(SPELL)) {
            None => self.ready.wait().await,
            Some(left) => futures_lite::future::or(self.ready.wait(), self.env.sleep(left)).await,
        }
    }

    /// Converts a batch to frames. They are appended, or wait in a yard until its letters are durable.
    async fn take(&mut self, lane: usize, batch: Box<Batch>) -> Result<(), ()> {
        let number = self.lanes[lane].path;
        let was_plain = self.is_plain(number);
        let path = &mut self.paths[number];
        let skipped = sampled_out(&self.keeper, self.sampled_outputs & path.outputs(), &mut self.sampled);
        let mut slot = self.hand.take().unwrap_or_else(|| self.yards[lane].slot());
        path.encode(&batch, skipped, &mut slot.group, &mut slot.parcel.letters(), &mut slot.counts);
        let held = path.held_from(batch.source.key).filter(|_| !E::Disk::sabotaged(Sabotage::ReleaseHeld));
        slot.alone = was_plain && held.is_none() && path.due().is_none();
        slot.origin = Some(Origin { account: Account::of(&batch), held, skipped });
        let ticket = batch.ticket;
        // The frames contain everything needed, so the chunk is returned while it is still in the cache.
        self.lanes[lane].receiver.give_back(batch);
        if E::Disk::sabotaged(Sabotage::AcknowledgeEarly) {
            self.keeper.acknowledge_early(lane, ticket);
        }
        if slot.parcel.count() > 0 || !self.yards[lane].is_empty() {
            self.park(lane, slot);
        } else {
            self.settle(lane, &mut slot).await?;
            slot.reset();
            self.hand = Some(slot);
        }
        self.look_if_let_go(number).await?;
        if self.withheld[lane].is_full() { self.make(number, true).await } else { Ok(()) }
    }

    /// Whether the processor of a path holds nothing, and nothing that waits contains lines of other batches.
    fn is_plain(&self, path: usize) -> bool {
        let state = &self.states[path];
        self.paths[path].due().is_none()
            && state.yard.is_none_or(|yard| self.yards[yard].is_plain())
            && state.lanes.iter().all(|lane| self.withheld[*lane].is_empty() && self.yards[*lane].is_plain())
    }

    /// Makes a group wait until its letters are durable.
    fn park(&mut self, yard: usize, slot: Slot) {
        self.clerk.hand_in(&slot.parcel, &self.ready);
        self.yards[yard].enter(slot);
        self.count_waiting();
    }

    /// Appends groups that no longer wait for letters.
    async fn unpark(&mut self) -> Result<(), ()> {
        for yard in 0..self.yards.len() {
            let (mut path, attempts) = (None, self.clerk.attempts());
            while let Some(mut slot) = self.yards[yard].leave(attempts) {
                self.settle(yard, &mut slot).await?;
                self.yards[yard].put_back(slot);
                path = Some(self.path_of(yard));
            }
            if let Some(path) = path {
                self.count_waiting();
                self.look(path, &mut Group::new()).await?;
                if self.withheld.get(yard).is_some_and(Withheld::is_full) {
                    self.make(path, true).await?;
                }
            }
            let lane = self.lanes.get(yard).map(|lane| &lane.receiver);
            let is_tight = lane.is_some_and(LaneReceiver::is_aside_tight);
            if let Some(sources) = self.yards[yard].take_resting(attempts, is_tight)
                && let Some(lane) = lane
            {
                lane.rest(sources);
            }
        }
        Ok(())
    }

    fn count_waiting(&self) {
        let of = |all: (usize, usize), yard: &Yard| {
            let (batches, bytes) = yard.holding();
            (all.0 + batches, all.1 + bytes)
        };
        let (batches, bytes) = self.yards.iter().fold((0, 0), of);
        self.keeper.count_waiting(batches, bytes, self.withheld.iter().map(Withheld::runs).sum());
    }

    /// Counts the events of a group whose letters are durable, and appends the group.
    async fn settle(&mut self, yard: usize, slot: &mut Slot) -> Result<(), ()> {
        let path = self.path_of(yard);
        let unread = self.paths[path].count(&slot.counts, &slot.parcel.dropped());
        let Some(Origin { account, held, skipped }) = slot.origin.take() else {
            return if slot.has_events() { self.append(&mut slot.group).await.map(|_| ()) } else { Ok(()) };
        };
        let receiver = &self.lanes[yard].receiver;
        receiver.count_taken(account.events);
        receiver.count(slot.counts.tally());
        receiver.count_dead_letters(unread.kept, unread.lost);
        let recorded = self.withhold(yard, &account, held);
        let introduce = recorded && introduces(&self.keeper, &account.source);
        end_group(&mut slot.group, &account, recorded, introduce);
        self.add_ranges(&mut slot.group);
        if recorded || says_something(&slot.group) {
            self.append(&mut slot.group).await?;
        }
        // Without the lines that did not fit: their pipeline counts them for all of its outputs.
        let (group, counts) = (&slot.group, &slot.counts);
        for (outputs, events) in self.paths[path].skipped(skipped, group, counts, account.events) {
            count_skipped(&self.wal_full, outputs, events);
        }
        if skipped != 0 || self.sampling.lasts() {
            self.tell_of_sampling();
        }
        self.acknowledge(yard);
        Ok(())
    }

    /// Appends a group, waiting for space. Fails when the engine ends.
    async fn append(&mut self, group: &mut Group) -> Result<Sequence, ()> {
        let (mut waited, begun, mut told) = (false, self.env.now(), false);
        loop {
            match self.keeper.append(group) {
                Ok(sequence) => {
                    self.appended = sequence;
                    if told {
                        tracing::info!("the write-ahead log has space again, and the intake continues");
                    }
                    return Ok(sequence);
                }
                Err(WalError::Full) if !std::mem::replace(&mut waited, true) => self.keeper.count_full(),
                Err(WalError::Full) => {}
                Err(error @ WalError::TooLarge { .. }) => {
                    self.shed_large(group, &error).await?;
                    continue;
                }
                Err(_) => return Err(()),
            }
            if self.stop.phase() == Phase::Forced {
                return Err(());
            }
            if !told && self.env.now().since(begun) >= FULL_TOLD_AFTER {
                told = true;
                self.tell_of_full_log();
            }
            (0..self.lanes.len()).for_each(|lane| self.drop_oldest_of(lane));
            futures_lite::future::or(self.keeper.room(), self.ready.wait()).await;
        }
    }
}

/// Whether there is a reason to append a group.
fn says_something(group: &Group) -> bool {
    group.frames().iter().any(|frame| !frame.is_empty() || frame.discarded() > 0)
}

fn introduces<E: Env>(keeper: &Keeper<E>, source: &Arc<Source>) -> bool {
    source.repeatable && !keeper.with_writer(|writer| writer.knows(source))
}

/// The outputs among `candidates` that lose the next frame because the log fills up.
fn sampled_out<E: Env>(keeper: &Keeper<E>, candidates: u64, sampled: &mut [u64; OUTPUTS_MAX]) -> u64 {
    if candidates == 0 || !keeper.is_under_pressure() { 0 } else { thinned(candidates, sampled) }
}

/// Each output has its own count. With one count for all, an output whose frames always coincide with another's would get none.
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
