//! The intake's end of a lane: receives batches, drops the oldest when asked to, returns used ones and acknowledges tickets.
//!
//! Guarantees: batches of a source arrive in the order in which they were sent, and those of sources that do not wait before
//! those of sources that do. Returning one never fails. Does not decide what is dropped, because the sender asks, nor who waits:
//! the intake does.

use super::Shared;
use crate::batch::{Batch, Source, SourceKey, SourceRange};
use crate::counters::Tally;
use crate::limits::{CHUNK_BYTES, LANE_LARGE_ASIDE_MAX};
use crate::ring::{Consumer, Producer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The intake's end.
pub struct LaneReceiver {
    forward: Consumer<Box<Batch>>,
    home: Producer<Box<Batch>>,
    /// Batches of sources that wait, in their order.
    aside: VecDeque<Box<Batch>>,
    aside_max: usize,
    shared: Arc<Shared>,
}

impl LaneReceiver {
    pub(super) fn new(
        forward: Consumer<Box<Batch>>,
        home: Producer<Box<Batch>>,
        shared: Arc<Shared>,
        aside_max: usize,
    ) -> LaneReceiver {
        LaneReceiver { forward, home, aside: VecDeque::new(), aside_max, shared }
    }

    /// The oldest batch of a source for which `waits` is false. Batches of the others step aside, as long as there is space for
    /// them. Its events count as waiting until [`LaneReceiver::count_taken`].
    pub fn pop(&mut self, waits: impl Fn(SourceKey) -> bool) -> Option<Box<Batch>> {
        if let Some(at) = self.aside.iter().position(|batch| !waits(batch.source.key)) {
            let batch = self.aside.remove(at)?;
            // It counts again until it is returned.
            let bytes = &self.shared.counters.taken_bytes;
            bytes.set(bytes.get() - batch.chunk.capacity() as u64);
            self.count_aside();
            return Some(batch);
        }
        loop {
            if !self.aside.is_empty() && !self.may_step_aside() {
                return None;
            }
            let batch = self.forward.pop()?;
            self.shared.counters.taken_batches.add(1);
            // What is aside waits, so a later batch of the same source does too.
            if self.aside_max == 0 || !waits(batch.source.key) {
                return Some(batch);
            }
            self.step_aside(batch);
        }
    }

    fn may_step_aside(&self) -> bool {
        let large = self.shared.counters.aside_large_batches.get() as usize;
        self.aside.len() < self.aside_max && large < LANE_LARGE_ASIDE_MAX
    }

    fn step_aside(&mut self, batch: Box<Batch>) {
        self.shared.counters.taken_bytes.add(batch.chunk.capacity() as u64);
        self.aside.push_back(batch);
        self.count_aside();
        self.shared.returned.notify();
    }

    fn count_aside(&self) {
        let large = self.aside.iter().filter(|batch| batch.chunk.capacity() > CHUNK_BYTES).count();
        self.shared.counters.aside_batches.set(self.aside.len() as u64);
        self.shared.counters.aside_large_batches.set(large as u64);
    }

    /// Whether so many batches stepped aside that their sources should not send more.
    pub fn is_aside_tight(&self) -> bool {
        let large = self.shared.counters.aside_large_batches.get() as usize;
        self.aside.len() > self.aside_max / 2 || large >= LANE_LARGE_ASIDE_MAX / 2
    }

    /// The first ticket of the batches that stepped aside.
    pub fn first_aside(&self) -> Option<u64> {
        self.aside.iter().map(|batch| batch.ticket).min()
    }

    /// Counts the events of a batch as received: they are about to be written to the log.
    pub fn count_taken(&self, events: u64) {
        self.shared.counters.taken_events.add(events);
    }

    /// Counts a contract violation by the input's processor.
    pub fn count_breach(&self) {
        self.shared.counters.breaches.add(1);
    }

    /// Drops the oldest batch if the sender requests it. Its range must still be recorded, after all earlier tickets.
    pub fn drop_oldest(&mut self) -> Option<Dropped> {
        if self.shared.drop_asked.load(Ordering::Acquire) <= self.shared.counters.dropped_bytes.get() {
            return None;
        }
        let batch = self.forward.pop()?;
        let events = batch.events.len() as u64;
        let counters = &self.shared.counters;
        counters.taken_batches.add(1);
        counters.dropped_bytes.add(batch.chunk.capacity() as u64);
        counters.dropped_events.add(events);
        counters.taken_events.add(events);
        let dropped = Dropped {
            source: batch.source.clone(),
            range: batch.range,
            settled: batch.settled,
            events: events + batch.dropped_events,
            ticket: batch.ticket,
            gone: batch.gone,
        };
        self.give_back(batch);
        Some(dropped)
    }

    /// Returns a batch to the sender for reuse.
    pub fn give_back(&mut self, batch: Box<Batch>) {
        let bytes = batch.chunk.capacity() as u64;
        let refused = self.home.push(batch);
        assert!(refused.is_ok(), "more batches came home than a lane has");
        self.shared.counters.taken_bytes.add(bytes);
        self.shared.returned.notify();
    }

    /// Counts events in which bytes were replaced, and those that could not be parsed.
    pub fn count(&self, tally: &Tally) {
        let counters = &self.shared.counters;
        for (counter, events) in
            [(&counters.replaced_events, tally.replaced), (&counters.unparsed_events, tally.unparsed)]
        {
            if events > 0 {
                counter.add(events);
            }
        }
    }

    /// Counts dead letters of the input, and those for which there was no space.
    pub fn count_dead_letters(&self, kept: u64, dropped: u64) {
        let counters = &self.shared.counters;
        counters.dead_lettered_events.add(kept);
        counters.dlq_full_events.add(dropped);
    }

    /// Asks the sender to read other sources than these, which replace those of the last call.
    pub fn rest(&self, sources: &[SourceKey]) {
        self.shared.resting.set(sources);
    }

    /// A handle that acknowledges tickets of this lane.
    pub fn acknowledger(&self) -> LaneAcknowledger {
        LaneAcknowledger(self.shared.clone())
    }

    /// Whether the sender waits until everything is durable. Returns true again only if the sender asks again.
    pub fn take_settle_asked(&self) -> bool {
        self.shared.settle_asked.load(Ordering::Relaxed) && self.shared.settle_asked.swap(false, Ordering::AcqRel)
    }

    /// Whether the sender has ended and no batch is left.
    pub fn is_finished(&mut self) -> bool {
        // The flag must be read before the ring, so that a batch sent just before the end is seen.
        self.shared.finished.load(Ordering::Acquire) && self.forward.is_empty() && self.aside.is_empty()
    }
}

/// Acknowledges the tickets of one lane. Only for the receiver's shard.
pub struct LaneAcknowledger(Arc<Shared>);

impl LaneAcknowledger {
    /// Records that every ticket up to this one is durable, as the sync policy defines it.
    pub fn acknowledge(&self, ticket: u64) {
        if self.0.acknowledged.load(Ordering::Relaxed) < ticket {
            self.0.acknowledged.store(ticket, Ordering::Release);
            self.0.returned.notify();
        }
    }

    /// Records that a ticket may be acknowledged before it would survive a power loss. [`LaneAcknowledger::harden`] then
    /// reports which tickets would survive. Must be called before any ticket is acknowledged.
    pub fn acknowledges_early(&self) {
        self.0.early.store(true, Ordering::Relaxed);
    }

    /// The highest ticket that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.0.acknowledged.load(Ordering::Relaxed)
    }

    /// Records that every ticket up to this one survives a power loss.
    pub fn harden(&self, ticket: u64) {
        self.0.hardened.store(ticket, Ordering::Release);
    }
}

/// What remains of a batch that was dropped at the sender's request.
pub struct Dropped {
    /// Its source.
    pub source: Arc<Source>,
    /// The bytes that it covered.
    pub range: SourceRange,
    /// What was settled of its source when it was sent.
    pub settled: SourceRange,
    /// Its events.
    pub events: u64,
    /// Its ticket.
    pub ticket: u64,
    /// Whether the source is gone.
    pub gone: bool,
}

impl Dropped {
    /// Whether `next` continues this range, so that one record covers both.
    pub fn is_followed_by(&self, next: &Dropped) -> bool {
        !self.gone && (self.range.to == next.range.from || !next.source.repeatable)
    }
}
