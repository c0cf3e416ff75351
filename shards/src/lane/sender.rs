//! The input's end of a lane: provides empty batches, sends, and applies the policy of a full lane.
//!
//! Guarantees: no more batches are created than a lane may have. What a policy drops is counted, and its range is owed until it
//! has been sent. Does not wait for durability unless asked to.

use super::{LaneOptions, SAMPLE_KEEPS_ONE_IN, Shared, WhenFull};
use crate::batch::{Batch, Source, SourceKey, SourceRange};
use crate::counters::{Discard, InputCounters};
use crate::limits::{CHUNK_BYTES, LANE_LARGE_BATCHES, LANE_SLOTS, lane_batches};
use crate::ring::{Consumer, Producer};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The part of a lane that is used while sources wait at the receiver: a quarter.
const IN_TRANSIT_PART: u64 = 4;

/// A range in transit, or in a log that could still lose it.
pub struct Sent {
    /// Its ticket.
    pub ticket: u64,
    /// The source.
    pub source: SourceKey,
    /// Its bytes.
    pub range: SourceRange,
}

/// The input's end. Used by the tasks of one shard. No borrow outlives the synchronous part of a call.
pub struct LaneSender {
    forward: RefCell<Producer<Box<Batch>>>,
    home: RefCell<Consumer<Box<Batch>>>,
    #[expect(clippy::vec_box, reason = "a batch is sent in its box, which is reused with it")]
    spare: RefCell<Vec<Box<Batch>>>,
    /// Ranges of dropped batches that still have to be recorded. Merged per source, so limited by the number of sources in one
    /// burst.
    owed: RefCell<VecDeque<Box<Batch>>>,
    /// Existing batches, not counting large ones.
    pub(super) made: Cell<usize>,
    large_out: Cell<usize>,
    ticket: Cell<u64>,
    sampled: Cell<usize>,
    /// Ranges of repeatable sources that are not known to be durable, in the order of their tickets. Kept only if requested.
    in_flight: RefCell<VecDeque<Sent>>,
    tracks: Cell<bool>,
    options: LaneOptions,
    shared: Arc<Shared>,
    counters: Arc<InputCounters>,
}

impl LaneSender {
    pub(super) fn new(
        forward: Producer<Box<Batch>>,
        home: Consumer<Box<Batch>>,
        options: LaneOptions,
        shared: Arc<Shared>,
        counters: Arc<InputCounters>,
    ) -> LaneSender {
        LaneSender {
            forward: RefCell::new(forward),
            home: RefCell::new(home),
            spare: RefCell::default(),
            owed: RefCell::default(),
            made: Cell::new(0),
            large_out: Cell::new(0),
            ticket: Cell::new(0),
            sampled: Cell::new(0),
            in_flight: RefCell::default(),
            tracks: Cell::new(false),
            options,
            shared,
            counters,
        }
    }

    /// An empty batch of [`CHUNK_BYTES`] for `source`. If all batches are in use, waits until one is returned.
    pub async fn batch(&self, source: &Arc<Source>) -> Box<Batch> {
        loop {
            // Owed ranges hold batches, and nothing else sends them while the input waits here.
            self.settle();
            if let Some(batch) = self.try_batch(source) {
                return batch;
            }
            self.shared.returned.wait().await;
        }
    }

    /// As [`LaneSender::batch`], without waiting.
    pub fn try_batch(&self, source: &Arc<Source>) -> Option<Box<Batch>> {
        self.collect();
        if let Some(mut batch) = self.spare.borrow_mut().pop() {
            batch.reset(source);
            return Some(batch);
        }
        if self.made.get() == lane_batches(self.options.bytes) {
            return None;
        }
        self.made.set(self.made.get() + 1);
        self.shared.counters.made_batches.set(self.made.get() as u64);
        Some(Box::new(Batch::new(CHUNK_BYTES, source.clone())))
    }

    /// An empty batch of `bytes` for a line that fits in no ordinary chunk. At most [`LANE_LARGE_BATCHES`] exist at a time,
    /// without those that stepped aside.
    pub async fn large_batch(&self, source: &Arc<Source>, bytes: usize) -> Box<Batch> {
        loop {
            self.settle();
            let aside = self.shared.counters.aside_large_batches.get() as usize;
            if self.large_out.get() < LANE_LARGE_BATCHES + aside {
                self.large_out.set(self.large_out.get() + 1);
                return Box::new(Batch::new(bytes.max(CHUNK_BYTES + 1), source.clone()));
            }
            self.shared.returned.wait().await;
        }
    }

    /// Returns a batch that is not sent.
    pub fn put_back(&self, batch: Box<Batch>) {
        if batch.chunk.capacity() > CHUNK_BYTES {
            self.large_out.set(self.large_out.get() - 1);
        } else {
            self.spare.borrow_mut().push(batch);
        }
    }

    /// Sends a batch. A full lane applies its policy. Returns the batch's ticket, or none if its events were dropped.
    pub async fn send(&self, mut batch: Box<Batch>) -> Option<u64> {
        self.counters.received_events.add(batch.events.len() as u64);
        self.counters.received_bytes.add(batch.range.to.saturating_sub(batch.range.from));
        self.settle();
        if self.options.when_full == WhenFull::Sample && self.bytes_out() * 2 > self.options.bytes as u64 {
            self.thin(&mut batch);
        }
        let bytes = batch.chunk.capacity() as u64;
        while !self.has_room(bytes) || !self.owed.borrow().is_empty() {
            match self.options.when_full {
                WhenFull::Block => {}
                WhenFull::DropOldest => self.ask_to_drop(bytes),
                WhenFull::DropNewest | WhenFull::Sample => {
                    self.shared.counters.full.add(1);
                    self.owe(batch);
                    return None;
                }
            }
            self.shared.counters.full.add(1);
            self.shared.returned.wait().await;
            self.collect();
            self.settle();
        }
        if self.options.when_full == WhenFull::DropOldest {
            // There is space now, whatever freed it: nothing more must be dropped for this batch.
            let dropped = self.shared.counters.dropped_bytes.get();
            self.shared.drop_asked.fetch_min(dropped, Ordering::AcqRel);
        }
        Some(self.push(batch))
    }

    /// Sends owed ranges of dropped batches, if there is space. An input calls it when it is idle and before it ends.
    pub fn settle(&self) {
        loop {
            self.collect();
            let Some(batch) = self.owed.borrow_mut().pop_front() else { return };
            if !self.has_room(batch.chunk.capacity() as u64) {
                self.owed.borrow_mut().push_front(batch);
                return;
            }
            self.push(batch);
        }
    }

    /// Sends a batch without events, filled by `fill`, if there is space for it at once. Returns whether there was.
    pub fn try_tell(&self, source: &Arc<Source>, fill: impl FnOnce(&mut Batch)) -> bool {
        self.settle();
        if self.owes() || !self.has_room(CHUNK_BYTES as u64) {
            return false;
        }
        let Some(mut batch) = self.try_batch(source) else { return false };
        fill(&mut batch);
        self.push(batch);
        true
    }

    /// Starts recording what is sent, for [`LaneSender::take_durable`].
    pub fn track(&self) {
        self.tracks.set(true);
    }

    /// Removes from the ranges in flight those that a power loss can no longer remove.
    pub fn take_durable(&self, mut take: impl FnMut(&Sent)) {
        let mut in_flight = self.in_flight.borrow_mut();
        if in_flight.is_empty() {
            return;
        }
        let durable = self.durable();
        while let Some(sent) = in_flight.pop_front_if(|sent| sent.ticket <= durable) {
            take(&sent);
        }
    }

    /// Calls `look` with the ranges in flight.
    pub fn with_in_flight(&self, look: impl FnOnce(&VecDeque<Sent>)) {
        look(&self.in_flight.borrow());
    }

    /// Counts the batches again after a plugin died while holding some. Call only when everything that was sent is settled:
    /// batches that have not been returned by then are lost.
    pub fn recount(&self) {
        self.collect();
        self.made.set(self.spare.borrow().len());
        self.shared.counters.made_batches.set(self.made.get() as u64);
        self.large_out.set(0);
    }

    /// Whether ranges of dropped batches still have to be recorded.
    pub fn owes(&self) -> bool {
        !self.owed.borrow().is_empty()
    }

    /// Whether a source should not be read for now: see [`super::LaneReceiver::rest`]. Never if the lane drops rather than that
    /// it stops its reader.
    pub fn rests(&self, source: SourceKey) -> bool {
        self.options.when_full == WhenFull::Block && self.shared.resting.has(source)
    }

    /// Records that nothing more is sent.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.ready.notify();
    }

    /// Asks the receiver to withhold nothing that could be durable.
    pub fn ask_to_settle(&self) {
        self.shared.settle_asked.store(true, Ordering::Release);
        self.shared.ready.notify();
    }

    /// Whether everything that was sent has been received.
    pub fn is_drained(&self) -> bool {
        self.ticket.get() == self.shared.counters.taken_batches.get()
    }

    /// Whether everything that was sent is durable, as the sync policy defines it, and no range is owed.
    pub fn is_settled(&self) -> bool {
        self.acknowledged() == self.ticket.get() && !self.owes()
    }

    /// The highest ticket whose events are durable, as the sync policy defines it.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Acquire)
    }

    /// The highest ticket whose events survive a power loss.
    fn durable(&self) -> u64 {
        // Must be read in this order: the other mark is valid from before the first ticket is acknowledged.
        let acknowledged = self.acknowledged();
        if self.shared.early.load(Ordering::Relaxed) {
            self.shared.hardened.load(Ordering::Acquire)
        } else {
            acknowledged
        }
    }

    /// Waits until `ticket` is acknowledged. Only one task of an input waits on a lane at a time.
    pub async fn acknowledge_of(&self, ticket: u64) {
        while self.acknowledged() < ticket {
            self.shared.returned.wait().await;
        }
    }

    fn push(&self, mut batch: Box<Batch>) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        batch.ticket = ticket;
        if self.tracks.get() && batch.source.repeatable && batch.range.from < batch.range.to {
            self.in_flight.borrow_mut().push_back(Sent { ticket, source: batch.source.key, range: batch.range });
        }
        self.shared.counters.sent_events.add(batch.events.len() as u64);
        self.shared.counters.sent_bytes.add(batch.chunk.capacity() as u64);
        let refused = self.forward.borrow_mut().push(batch);
        assert!(refused.is_ok(), "a lane found no slot for a batch although it had room for its bytes");
        self.shared.ready.notify();
        ticket
    }

    fn bytes_out(&self) -> u64 {
        self.shared.counters.sent_bytes.get() - self.shared.counters.taken_bytes.get()
    }

    /// Whether a batch of `bytes` may be sent. An empty lane accepts any batch, otherwise a large one would wait forever.
    fn has_room(&self, bytes: u64) -> bool {
        let out = self.bytes_out();
        let in_ring = self.ticket.get() - self.shared.counters.taken_batches.get();
        in_ring < LANE_SLOTS as u64 && (out == 0 || out + bytes <= self.bytes_max())
    }

    /// While sources wait at the receiver, less is in transit: what another one has in the lane when it must wait too has to step
    /// aside.
    fn bytes_max(&self) -> u64 {
        let waits = self.options.when_full == WhenFull::Block && self.shared.resting.count.load(Ordering::Relaxed) > 0;
        if waits { self.options.bytes as u64 / IN_TRANSIT_PART } else { self.options.bytes as u64 }
    }

    fn collect(&self) {
        while let Some(batch) = self.home.borrow_mut().pop() {
            self.put_back(batch);
        }
    }

    fn ask_to_drop(&self, bytes: u64) {
        // Only once for each batch without space: the receiver may be waiting for the log while the rest is still in the ring.
        let asked = self.shared.drop_asked.load(Ordering::Relaxed);
        if asked <= self.shared.counters.dropped_bytes.get() {
            self.shared.drop_asked.store(asked + bytes, Ordering::Release);
            self.shared.ready.notify();
        }
    }

    fn thin(&self, batch: &mut Batch) {
        let before = batch.events.len();
        let mut seen = self.sampled.get();
        batch.retain_events(|| {
            seen += 1;
            seen % SAMPLE_KEEPS_ONE_IN == 1
        });
        self.sampled.set(seen % SAMPLE_KEEPS_ONE_IN);
        self.count_dropped(batch, before - batch.events.len());
    }

    fn owe(&self, mut batch: Box<Batch>) {
        let events = batch.events.len();
        batch.events.clear();
        self.count_dropped(&mut batch, events);
        let mut owed = self.owed.borrow_mut();
        let same = owed.iter_mut().rfind(|earlier| earlier.source.key == batch.source.key);
        if let Some(earlier) = same.filter(|earlier| earlier.range.to == batch.range.from) {
            earlier.range = SourceRange { from: earlier.range.from, ..batch.range };
            earlier.dropped_events += batch.dropped_events;
            // The later information about the source counts: whether and when it is gone, and its current name.
            earlier.gone = batch.gone;
            earlier.received = batch.received;
            earlier.settled = batch.settled;
            earlier.source = batch.source.clone();
            drop(owed);
            self.put_back(batch);
            return;
        }
        // The chunk is kept with the range only because a range is sent in a batch. It belongs to the lane.
        owed.push_back(batch);
    }

    fn count_dropped(&self, batch: &mut Batch, events: usize) {
        batch.dropped_events += events as u64;
        self.counters.discarded.add(Discard::RingFull, events as u64);
    }
}
