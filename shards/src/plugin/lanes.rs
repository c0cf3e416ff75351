//! The lanes of an input's batches to the shards: a single lane, or several in turn.
//!
//! Guarantees: a single lane keeps the order of each source. If batches go to several shards, each batch says how much is
//! durable (see [`super::spread`]), because no single WAL knows it, and the input waits while too much is not durable. Does not
//! drop anything itself: each lane has its policy.

use super::spread::{Notice, Spread};
use crate::batch::{Batch, Source, SourceKey};
use crate::env::{Disk as _, Env, Sabotage};
use crate::lane::{LaneSender, Sent};
use crate::limits::SPREAD_RANGES_FREE;
use crate::signal::Signal;
use crate::wal::SourceState;
use crate::wal::positions::SourceTable;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// How often to check whether WALs must be notified about sources with unmerged ranges.
const TELL_INTERVAL: Duration = Duration::from_secs(1);

/// The lanes of one input on one shard: one lane to each shard to which its batches may go.
pub struct Lanes<E: Env> {
    env: E,
    lanes: Vec<LaneSender>,
    next: Cell<usize>,
    /// What is sent to several shards. None with a single lane.
    spread: Option<RefCell<Spread>>,
    /// WALs must be notified of something.
    to_tell: Signal,
    finished: Cell<bool>,
}

impl<E: Env> Lanes<E> {
    /// Lanes that are used in turn. A single lane to the own shard keeps the order of each source.
    pub fn new(env: E, lanes: Vec<LaneSender>) -> Lanes<E> {
        Lanes::tracking(env, lanes, Arc::default(), SPREAD_RANGES_FREE)
    }

    /// As [`Lanes::new`], with what the WALs knew about the sources when they were opened (`resume`, by key). At most about
    /// `ranges_max` ranges stay unmerged in them. With more than one lane, a task maintains this until [`Lanes::finish`].
    pub fn over_logs(env: E, lanes: Vec<LaneSender>, resume: Arc<Vec<SourceState>>, ranges_max: usize) -> Rc<Lanes<E>> {
        let lanes = Rc::new(Lanes::tracking(env.clone(), lanes, resume, ranges_max));
        if lanes.spread.is_some() {
            let lanes = lanes.clone();
            env.spawn("spread sources", async move { lanes.tell_all().await });
        }
        lanes
    }

    fn tracking(env: E, lanes: Vec<LaneSender>, resume: Arc<Vec<SourceState>>, ranges_max: usize) -> Lanes<E> {
        assert!(!lanes.is_empty(), "an input without a lane");
        let spread = (lanes.len() > 1).then(|| RefCell::new(Spread::new(resume, ranges_max)));
        if spread.is_some() {
            lanes.iter().for_each(LaneSender::track);
        }
        let (next, finished) = (Cell::new(0), Cell::new(false));
        Lanes { env, lanes, next, spread, to_tell: Signal::new(), finished }
    }

    /// An empty batch. Waits while all batches are in use, which is how a full log or a slow pipeline stops the reader. The
    /// batch must be sent or returned before the next one is requested.
    pub async fn batch(&self, source: &Arc<Source>) -> Box<Batch> {
        self.lane().batch(source).await
    }

    /// An empty batch for a line of up to `bytes` that fits in no ordinary chunk.
    pub async fn large_batch(&self, source: &Arc<Source>, bytes: usize) -> Box<Batch> {
        self.lane().large_batch(source, bytes).await
    }

    /// Whether a source should not be read for now, because its dead letters wait for space: its batches would use the memory that
    /// other sources of the input need. An input that reads several sources asks before it reads one, and again about every
    /// second.
    pub fn rests(&self, source: SourceKey) -> bool {
        self.lanes.iter().any(|lane| lane.rests(source))
    }

    /// Returns a batch that is not sent.
    pub fn put_back(&self, batch: Box<Batch>) {
        self.lane().put_back(batch);
    }

    /// Sends a batch. The lane counts what its policy drops. The range of a dropped batch is recorded anyway. Returns the lane
    /// and the ticket, or none if the batch was dropped.
    pub async fn send(&self, mut batch: Box<Batch>) -> Option<Ticket> {
        let lane = self.next.get();
        self.next.set((lane + 1) % self.lanes.len());
        self.env.touch();
        if let Some(spread) = self.spread.as_ref().filter(|_| batch.source.repeatable) {
            self.make_way(spread).await;
            spread.borrow_mut().sends(&mut batch);
            if E::Disk::sabotaged(Sabotage::SettleEarly) {
                spread.borrow_mut().is_durable(&Sent { ticket: 0, source: batch.source.key, range: batch.range });
            }
            if spread.borrow().has_wide() {
                self.to_tell.notify();
            }
        }
        let number = self.lanes[lane].send(batch).await?;
        if self.spread.is_none() {
            // Lets the intake run next, while the chunk is in this core's cache.
            futures_lite::future::yield_now().await;
        }
        Some(Ticket { lane, number })
    }

    /// Waits until a ticket is durable, as the sync policy defines it. Only one task of an input may wait on its lanes at a
    /// time: a task that sends and one that waits for tickets would consume each other's wake-ups.
    pub async fn acknowledged(&self, ticket: Ticket) {
        self.lanes[ticket.lane].acknowledge_of(ticket.number).await;
    }

    /// Whether a ticket is durable, as the sync policy defines it.
    pub fn is_acknowledged(&self, ticket: Ticket) -> bool {
        self.lanes[ticket.lane].acknowledged() >= ticket.number
    }

    /// Waits until the ranges of dropped batches have been sent.
    pub async fn settle(&self) {
        for lane in &self.lanes {
            while lane.owes() {
                lane.settle();
                self.env.sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Records that nothing more is sent.
    pub fn finish(&self) {
        self.finished.set(true);
        self.to_tell.notify();
        self.lanes.iter().for_each(LaneSender::finish);
    }

    /// Waits until everything that was sent has been received.
    pub async fn drained(&self) {
        while !self.lanes.iter().all(LaneSender::is_drained) {
            self.env.sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until everything that was sent is durable, as the sync policy defines it. Only then does the WAL know every
    /// position.
    pub async fn settled(&self) {
        for lane in &self.lanes {
            while !lane.is_settled() {
                lane.settle();
                lane.ask_to_settle();
                self.env.sleep(Duration::from_millis(1)).await;
            }
        }
    }

    /// Replaces batches that a plugin held when it died. Call only after [`Lanes::settled`] has returned.
    pub fn recount(&self) {
        self.lanes.iter().for_each(LaneSender::recount);
        let Some(spread) = &self.spread else { return };
        let mut spread = spread.borrow_mut();
        spread.forget_pending();
        for lane in &self.lanes {
            lane.with_in_flight(|in_flight| in_flight.iter().for_each(|sent| spread.wait_for(sent)));
        }
    }

    /// The positions of what went to several shards. They are recorded in the WALs of these shards after [`Lanes::settled`] has
    /// returned.
    pub fn spread_positions(&self) -> SourceTable {
        self.spread.as_ref().map_or(SourceTable::new(), |spread| spread.borrow().positions())
    }

    /// Processes what has become durable, and waits while too many ranges are unmerged. Also waits for a lane that drops,
    /// because what it drops has a range too.
    async fn make_way(&self, spread: &RefCell<Spread>) {
        self.look_at_durable(spread);
        while spread.borrow().is_full() {
            for lane in &self.lanes {
                lane.settle();
                lane.ask_to_settle();
            }
            self.env.sleep(Duration::from_millis(1)).await;
            self.look_at_durable(spread);
            self.tell(spread, true);
        }
    }

    fn look_at_durable(&self, spread: &RefCell<Spread>) {
        let mut spread = spread.borrow_mut();
        self.lanes.iter().for_each(|lane| lane.take_durable(|sent| spread.is_durable(sent)));
    }

    fn tell(&self, spread: &RefCell<Spread>, waiting: bool) {
        spread.borrow_mut().tell(waiting, self.lanes.len(), |lane, notice| {
            let Notice { source, range, settled, gone } = notice;
            self.lanes[lane].try_tell(&source, |batch| {
                (batch.range, batch.settled, batch.gone) = (range, settled, gone);
                batch.received = self.env.wall();
            })
        });
    }

    /// Notifies WALs of sources that are gone or quiet until the input ends. The next start handles what is left then.
    async fn tell_all(&self) {
        let Some(spread) = &self.spread else { return };
        while !self.finished.get() {
            self.to_tell.wait().await;
            while !self.finished.get() && spread.borrow().has_wide() {
                self.env.sleep(TELL_INTERVAL).await;
                if !self.finished.get() {
                    self.look_at_durable(spread);
                    self.tell(spread, false);
                }
            }
        }
    }

    fn lane(&self) -> &LaneSender {
        &self.lanes[self.next.get()]
    }
}

/// A batch in transit. It is acknowledged when it is durable, as the sync policy defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    lane: usize,
    number: u64,
}
