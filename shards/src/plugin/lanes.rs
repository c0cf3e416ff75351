//! The way of an input's batches to the shards: one lane, or several in turn.
//!
//! Guarantees: a single lane keeps the order of each source; what went to several shards is remembered, since no single log
//! knows it. Does not drop anything itself: each lane has its policy.

use crate::batch::{Batch, Source};
use crate::env::Env;
use crate::lane::LaneSender;
use crate::wal::positions::SourceTable;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

/// The lanes of one input on one shard: one to each shard that its batches may go to.
pub struct Lanes<E: Env> {
    env: E,
    lanes: Vec<LaneSender>,
    next: Cell<usize>,
    local: bool,
    /// What was sent to several shards: no single log knows it, and an input that starts again needs it.
    spread: RefCell<SourceTable>,
}

impl<E: Env> Lanes<E> {
    /// Lanes to go to in turn; a single one to the own shard keeps the order of each source.
    pub fn new(env: E, lanes: Vec<LaneSender>) -> Lanes<E> {
        assert!(!lanes.is_empty(), "an input without a lane");
        Lanes { env, local: lanes.len() == 1, lanes, next: Cell::new(0), spread: RefCell::default() }
    }

    /// An empty batch; waits while all are out, which is how a full log or a slow pipeline stops the reader. The batch must
    /// be sent or put back before the next one is asked for.
    pub async fn batch(&self, source: &Arc<Source>) -> Box<Batch> {
        self.lane().batch(source).await
    }

    /// An empty batch for a line of up to `bytes` that no ordinary chunk holds.
    pub async fn large_batch(&self, source: &Arc<Source>, bytes: usize) -> Box<Batch> {
        self.lane().large_batch(source, bytes).await
    }

    /// Gives back a batch that is not sent.
    pub fn put_back(&self, batch: Box<Batch>) {
        self.lane().put_back(batch);
    }

    /// Sends a batch. What the policy drops is counted by the lane; the range of a dropped batch is recorded all the same.
    /// Returns where it went and its ticket there, or none if it was dropped.
    pub async fn send(&self, batch: Box<Batch>) -> Option<Ticket> {
        let lane = self.next.get();
        self.next.set((lane + 1) % self.lanes.len());
        self.env.touch();
        if !self.local && batch.source.repeatable {
            let gone = batch.gone.then(|| self.env.wall());
            self.spread.borrow_mut().insert(&batch.source, &batch.range, gone);
        }
        let number = self.lanes[lane].send(batch).await?;
        if self.local {
            // The intake runs next, while the chunk is in this core's cache.
            futures_lite::future::yield_now().await;
        }
        Some(Ticket { lane, number })
    }

    /// Waits until a ticket is durable, as the sync policy defines it. One task of an input waits on its lanes at a time:
    /// one that sends and one that waits for tickets would take each other's wake-ups.
    pub async fn acknowledged(&self, ticket: Ticket) {
        self.lanes[ticket.lane].acknowledge_of(ticket.number).await;
    }

    /// Waits until the ranges of dropped batches are on their way.
    pub async fn settle(&self) {
        for lane in &self.lanes {
            while lane.owes() {
                lane.settle();
                self.env.sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Says that nothing more is sent.
    pub fn finish(&self) {
        self.lanes.iter().for_each(LaneSender::finish);
    }

    /// Waits until all that was sent has been taken.
    pub async fn drained(&self) {
        while !self.lanes.iter().all(LaneSender::is_drained) {
            self.env.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until all that was sent is durable, as the sync policy defines it: only then does the log know every position.
    pub async fn settled(&self) {
        for lane in &self.lanes {
            while !lane.is_settled() {
                lane.settle();
                lane.ask_to_settle();
                self.env.sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Makes up for batches that a plugin had in its hands when it died. Only when [`Lanes::settled`] has returned.
    pub fn recount(&self) {
        self.lanes.iter().for_each(LaneSender::recount);
    }

    /// The positions of what went to several shards. Recorded in their logs once [`Lanes::settled`] has returned.
    pub fn spread_positions(&self) -> SourceTable {
        self.spread.borrow().clone()
    }

    fn lane(&self) -> &LaneSender {
        &self.lanes[self.next.get()]
    }
}

/// A batch on its way: acknowledged once it is durable, as the sync policy defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    lane: usize,
    number: u64,
}
