//! The intake's end of a lane: takes batches, drops the oldest when asked to, sends used ones home and acknowledges tickets.
//!
//! Guarantees: batches come in the order in which they were sent; returning one never fails. Does not decide what is dropped: the
//! sender asks.

use super::Shared;
use crate::batch::{Batch, Source, SourceRange};
use crate::counters::Tally;
use crate::ring::{Consumer, Producer};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The intake's end.
pub struct LaneReceiver {
    forward: Consumer<Box<Batch>>,
    home: Producer<Box<Batch>>,
    shared: Arc<Shared>,
}

impl LaneReceiver {
    pub(super) fn new(forward: Consumer<Box<Batch>>, home: Producer<Box<Batch>>, shared: Arc<Shared>) -> LaneReceiver {
        LaneReceiver { forward, home, shared }
    }

    /// The oldest batch. Its events count as waiting until [`LaneReceiver::count_taken`].
    pub fn pop(&mut self) -> Option<Box<Batch>> {
        let batch = self.forward.pop()?;
        self.shared.counters.taken_batches.add(1);
        Some(batch)
    }

    /// Counts the events of a batch as taken: they are about to be in the log.
    pub fn count_taken(&self, events: u64) {
        self.shared.counters.taken_events.add(events);
    }

    /// Counts a breach of the contract by the input's processor.
    pub fn count_breach(&self) {
        self.shared.counters.breaches.add(1);
    }

    /// Drops the oldest batch if the sender asks for it. Its range still has to be recorded, after all earlier tickets.
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

    /// Sends a batch home, to be used again.
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

    /// Counts dead letters of the input, and those for which there was no room.
    pub fn count_dead_letters(&self, kept: u64, dropped: u64) {
        let counters = &self.shared.counters;
        counters.dead_lettered_events.add(kept);
        counters.dlq_full_events.add(dropped);
    }

    /// A handle that acknowledges tickets of this lane.
    pub fn acknowledger(&self) -> LaneAcknowledger {
        LaneAcknowledger(self.shared.clone())
    }

    /// Whether the sender waits until everything is durable; the next time only if it still does.
    pub fn take_settle_asked(&self) -> bool {
        self.shared.settle_asked.load(Ordering::Relaxed) && self.shared.settle_asked.swap(false, Ordering::AcqRel)
    }

    /// Whether the sender has ended and nothing is left.
    pub fn is_finished(&mut self) -> bool {
        // The flag before the ring: a batch sent just before the end is then seen.
        self.shared.finished.load(Ordering::Acquire) && self.forward.is_empty()
    }
}

/// Acknowledges the tickets of one lane; only from the receiver's shard.
pub struct LaneAcknowledger(Arc<Shared>);

impl LaneAcknowledger {
    /// Says that every ticket up to this one is durable, as the sync policy defines it.
    pub fn acknowledge(&self, ticket: u64) {
        if self.0.acknowledged.load(Ordering::Relaxed) < ticket {
            self.0.acknowledged.store(ticket, Ordering::Release);
            self.0.returned.notify();
        }
    }

    /// Says that a ticket may be acknowledged before it would survive a loss of power: what does is said by
    /// [`LaneAcknowledger::harden`] from now on. Before any ticket is acknowledged.
    pub fn acknowledges_early(&self) {
        self.0.early.store(true, Ordering::Relaxed);
    }

    /// The highest ticket that was acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.0.acknowledged.load(Ordering::Relaxed)
    }

    /// Says that every ticket up to this one survives a loss of power.
    pub fn harden(&self, ticket: u64) {
        self.0.hardened.store(ticket, Ordering::Release);
    }
}

/// What is left of a batch that was dropped on the sender's request.
pub struct Dropped {
    /// Where it came from.
    pub source: Arc<Source>,
    /// The bytes it accounted for.
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
    /// Whether `next` continues this range, so that one record says both.
    pub fn is_followed_by(&self, next: &Dropped) -> bool {
        !self.gone && (self.range.to == next.range.from || !next.source.repeatable)
    }
}
