//! Lane: the way of batches from an input to a shard's intake, on the same core or another.
//!
//! ```text
//!          ring of batches ────────────────>
//!  sender                                     receiver
//!          <──────────── ring of used batches
//!          <──────────── acknowledged ticket (a watermark)
//! ```
//!
//! Guarantees: the memory of a lane is bounded (invariant E4): at most its bytes of chunks plus one are on their way, beyond
//! them its policy applies; a full lane with the policy `block` stops its reader; what a policy drops is counted, and its
//! range travels on, so that a restart does not read it again; only owned batches cross (invariant E5). Tickets are counted
//! from one per lane and acknowledged in order. Does not know where the batches go after the receiver.

use crate::batch::{Batch, Source, SourceRange};
use crate::counters::{Discard, InputCounters, LaneCounters};
use crate::limits::{CHUNK_BYTES, LANE_BATCHES, LANE_BYTES_DEFAULT, LANE_SLOTS};
use crate::ring::{Consumer, Producer, ring};
use crate::signal::Signal;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What happens to a batch that meets a full lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The sender waits, so the source is not read on.
    #[default]
    Block,
    /// The batch's events are dropped.
    DropNewest,
    /// Events that wait longest are dropped to make room.
    DropOldest,
    /// One event of [`SAMPLE_KEEPS_ONE_IN`] is kept above half of the bytes; a full lane drops the batch.
    Sample,
}

/// How many events `sample` drops for each one it keeps, plus one.
pub const SAMPLE_KEEPS_ONE_IN: usize = 10;

/// Bytes and policy of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Bytes of chunks on their way before the policy applies.
    pub bytes: usize,
    /// The policy.
    pub when_full: WhenFull,
}

impl Default for LaneOptions {
    fn default() -> LaneOptions {
        LaneOptions { bytes: LANE_BYTES_DEFAULT, when_full: WhenFull::Block }
    }
}

struct Shared {
    /// The highest acknowledged ticket.
    acknowledged: AtomicU64,
    /// Bytes the sender asks the receiver to drop, ever.
    drop_asked: AtomicU64,
    /// The sender has ended.
    finished: AtomicBool,
    /// Something came back: room, a used batch or an acknowledgement.
    returned: Signal,
    /// Something was sent or asked; one signal serves all lanes of a receiver.
    ready: Arc<Signal>,
    counters: LaneCounters,
}

/// The input's end. Used by the tasks of one shard; no borrow outlives a call's synchronous part.
pub struct LaneSender {
    forward: RefCell<Producer<Box<Batch>>>,
    home: RefCell<Consumer<Box<Batch>>>,
    #[expect(clippy::vec_box, reason = "a batch travels in its box, which is kept with it")]
    spare: RefCell<Vec<Box<Batch>>>,
    /// Ranges of dropped batches that still have to be recorded; merged per source, so bounded by the sources in one burst.
    owed: RefCell<VecDeque<Box<Batch>>>,
    /// Batches that exist, large ones apart.
    made: Cell<usize>,
    large_out: Cell<usize>,
    ticket: Cell<u64>,
    sampled: Cell<usize>,
    options: LaneOptions,
    shared: Arc<Shared>,
    counters: Arc<InputCounters>,
}

/// The intake's end.
pub struct LaneReceiver {
    forward: Consumer<Box<Batch>>,
    home: Producer<Box<Batch>>,
    shared: Arc<Shared>,
}

/// Read access to a lane's counters from any thread.
#[derive(Clone)]
pub struct LaneMeter(Arc<Shared>);

impl LaneMeter {
    /// The lane's counters.
    pub fn counters(&self) -> &LaneCounters {
        &self.0.counters
    }
}

/// Large batches of one lane that may exist at a time.
const LARGE_BATCHES: usize = 2;

/// A lane that reports to `counters` and raises `ready` when the receiver has something to do.
pub fn lane(
    options: LaneOptions,
    ready: Arc<Signal>,
    counters: Arc<InputCounters>,
) -> (LaneSender, LaneReceiver, LaneMeter) {
    let (forward, forward_out) = ring(LANE_SLOTS);
    // Every batch that can be out fits the way home, so returning one never fails.
    let (home_in, home) = ring((LANE_BATCHES + LARGE_BATCHES).next_power_of_two());
    let shared = Arc::new(Shared {
        acknowledged: AtomicU64::new(0),
        drop_asked: AtomicU64::new(0),
        finished: AtomicBool::new(false),
        returned: Signal::new(),
        ready,
        counters: LaneCounters::default(),
    });
    let sender = LaneSender {
        forward: RefCell::new(forward),
        home: RefCell::new(home),
        spare: RefCell::default(),
        owed: RefCell::default(),
        made: Cell::new(0),
        large_out: Cell::new(0),
        ticket: Cell::new(0),
        sampled: Cell::new(0),
        options,
        shared: shared.clone(),
        counters,
    };
    let meter = LaneMeter(shared.clone());
    (sender, LaneReceiver { forward: forward_out, home: home_in, shared }, meter)
}

impl LaneSender {
    /// An empty batch of [`CHUNK_BYTES`] for `source`; waits until one comes home when all are out.
    pub async fn batch(&self, source: &Arc<Source>) -> Box<Batch> {
        loop {
            // What is owed holds batches, and nobody else sends it while the input waits here.
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
        if self.made.get() == LANE_BATCHES {
            return None;
        }
        self.made.set(self.made.get() + 1);
        self.shared.counters.made_batches.set(self.made.get() as u64);
        Some(Box::new(Batch::new(CHUNK_BYTES, source.clone())))
    }

    /// An empty batch of `bytes` for a line that no ordinary chunk holds. At most [`LARGE_BATCHES`] exist at a time.
    pub async fn large_batch(&self, source: &Arc<Source>, bytes: usize) -> Box<Batch> {
        loop {
            self.settle();
            if self.large_out.get() < LARGE_BATCHES {
                self.large_out.set(self.large_out.get() + 1);
                return Box::new(Batch::new(bytes.max(CHUNK_BYTES + 1), source.clone()));
            }
            self.shared.returned.wait().await;
        }
    }

    /// Gives back a batch that is not sent.
    pub fn put_back(&self, batch: Box<Batch>) {
        if batch.chunk.capacity() > CHUNK_BYTES {
            self.large_out.set(self.large_out.get() - 1);
        } else {
            self.spare.borrow_mut().push(batch);
        }
    }

    /// Sends a batch; a full lane applies its policy. Returns the batch's ticket, or none when its events were dropped.
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
            // There is room now, however it came: nothing more has to be dropped for this batch.
            let dropped = self.shared.counters.dropped_bytes.get();
            self.shared.drop_asked.fetch_min(dropped, Ordering::AcqRel);
        }
        Some(self.push(batch))
    }

    /// Sends what is still owed of dropped batches, if there is room. An input calls it when it is idle and before it ends.
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

    /// Counts the batches anew after a plugin has died with some in its hands. Only when everything that was sent is settled:
    /// what is not at home then is gone.
    pub fn recount(&self) {
        self.collect();
        self.made.set(self.spare.borrow().len());
        self.shared.counters.made_batches.set(self.made.get() as u64);
        self.large_out.set(0);
    }

    /// Whether ranges of dropped batches wait to be recorded.
    pub fn owes(&self) -> bool {
        !self.owed.borrow().is_empty()
    }

    /// Says that nothing more is sent.
    pub fn finish(&self) {
        self.shared.finished.store(true, Ordering::Release);
        self.shared.ready.notify();
    }

    /// Whether everything that was sent has been taken.
    pub fn is_drained(&self) -> bool {
        self.ticket.get() == self.shared.counters.taken_batches.get()
    }

    /// Whether everything that was sent is durable, as the sync policy defines it, and nothing is owed.
    pub fn is_settled(&self) -> bool {
        self.acknowledged() == self.ticket.get() && !self.owes()
    }

    /// The highest ticket whose events are durable, as the sync policy defines it.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Acquire)
    }

    /// Waits until `ticket` is acknowledged. One task of an input waits on a lane at a time.
    pub async fn acknowledge_of(&self, ticket: u64) {
        while self.acknowledged() < ticket {
            self.shared.returned.wait().await;
        }
    }

    fn push(&self, mut batch: Box<Batch>) -> u64 {
        let ticket = self.ticket.get() + 1;
        self.ticket.set(ticket);
        batch.ticket = ticket;
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

    /// Whether a batch of `bytes` may go. A lane that is empty takes any batch, or a large one would wait for ever.
    fn has_room(&self, bytes: u64) -> bool {
        let out = self.bytes_out();
        let in_ring = self.ticket.get() - self.shared.counters.taken_batches.get();
        in_ring < LANE_SLOTS as u64 && (out == 0 || out + bytes <= self.options.bytes as u64)
    }

    fn collect(&self) {
        while let Some(batch) = self.home.borrow_mut().pop() {
            self.put_back(batch);
        }
    }

    fn ask_to_drop(&self, bytes: u64) {
        // Once for each batch that finds no room: the receiver may be waiting for the log with the rest still in the ring.
        let asked = self.shared.drop_asked.load(Ordering::Relaxed);
        if asked <= self.shared.counters.dropped_bytes.get() {
            self.shared.drop_asked.store(asked + bytes, Ordering::Release);
            self.shared.ready.notify();
        }
    }

    fn thin(&self, batch: &mut Batch) {
        let before = batch.events.len();
        let mut seen = self.sampled.get();
        batch.events.retain(|_| {
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
            drop(owed);
            self.put_back(batch);
            return;
        }
        // The chunk is kept with the range only because a batch is what travels; it is one of the lane's own.
        owed.push_back(batch);
    }

    fn count_dropped(&self, batch: &mut Batch, events: usize) {
        batch.dropped_events += events as u64;
        self.counters.discarded.add(Discard::RingFull, events as u64);
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
}

/// What is left of a batch that was dropped on the sender's request.
pub struct Dropped {
    /// Where it came from.
    pub source: Arc<Source>,
    /// The bytes it accounted for.
    pub range: SourceRange,
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

impl LaneReceiver {
    /// The oldest batch.
    pub fn pop(&mut self) -> Option<Box<Batch>> {
        let batch = self.forward.pop()?;
        self.shared.counters.taken_batches.add(1);
        self.shared.counters.taken_events.add(batch.events.len() as u64);
        Some(batch)
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

    /// Counts events in which bytes were replaced.
    pub fn count_replaced(&self, events: u64) {
        if events > 0 {
            self.shared.counters.replaced_events.add(events);
        }
    }

    /// A handle that acknowledges tickets of this lane.
    pub fn acknowledger(&self) -> LaneAcknowledger {
        LaneAcknowledger(self.shared.clone())
    }

    /// Whether the sender has ended and nothing is left.
    pub fn is_finished(&mut self) -> bool {
        // The flag before the ring: a batch sent just before the end is then seen.
        self.shared.finished.load(Ordering::Acquire) && self.forward.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{EventSpan, SourceKey};
    use futures_lite::future::{block_on, poll_once};

    fn source() -> Arc<Source> {
        Arc::new(Source {
            key: SourceKey(7),
            input: "app".into(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: true,
        })
    }

    struct Fixture {
        sender: LaneSender,
        receiver: LaneReceiver,
        meter: LaneMeter,
        counters: Arc<InputCounters>,
        source: Arc<Source>,
        at: u64,
    }

    impl Fixture {
        fn new(bytes: usize, when_full: WhenFull) -> Fixture {
            let counters = Arc::new(InputCounters::default());
            let options = LaneOptions { bytes, when_full };
            let (sender, receiver, meter) = lane(options, Arc::new(Signal::new()), counters.clone());
            Fixture { sender, receiver, meter, counters, source: source(), at: 0 }
        }

        /// Sends a batch of ten events of one byte each; whether it went in at once, and its ticket.
        fn send(&mut self) -> Option<Option<u64>> {
            let mut batch = block_on(self.sender.batch(&self.source));
            batch.events.extend((0..10).map(|i| EventSpan { start: i, end: i + 1 }));
            batch.chunk.set_length(10);
            batch.range = SourceRange { from: self.at, to: self.at + 10, marker: 0 };
            self.at += 10;
            block_on(poll_once(self.sender.send(batch)))
        }
    }

    #[test]
    fn full_lane_stops_reading() {
        let mut lane = Fixture::new(3 * CHUNK_BYTES, WhenFull::Block);
        for ticket in 1..=3 {
            assert_eq!(lane.send(), Some(Some(ticket)));
        }
        assert_eq!(lane.send(), None, "a fourth batch waits");
        let batch = lane.receiver.pop().expect("a batch was sent");
        assert_eq!(batch.ticket, 1);
        lane.receiver.give_back(batch);
        assert_eq!(lane.send(), Some(Some(4)));
        assert_eq!(lane.counters.discarded.total(), 0);
    }

    #[test]
    fn dropped_newest_is_counted_and_its_range_travels_on() {
        let mut lane = Fixture::new(2 * CHUNK_BYTES, WhenFull::DropNewest);
        lane.send();
        lane.send();
        for _ in 0..3 {
            assert_eq!(lane.send(), Some(None));
        }
        assert_eq!(lane.counters.discarded.get(Discard::RingFull), 30);
        for _ in 0..2 {
            let batch = lane.receiver.pop().expect("two were sent");
            lane.receiver.give_back(batch);
        }
        lane.sender.settle();
        let owed = lane.receiver.pop().expect("the range of the dropped ones");
        assert_eq!((owed.range.from, owed.range.to, owed.dropped_events), (20, 50, 30));
        assert!(owed.events.is_empty());
        assert!(!lane.sender.owes());
    }

    #[test]
    fn dropped_ranges_do_not_keep_their_batches_from_the_input() {
        let mut lane = Fixture::new(CHUNK_BYTES, WhenFull::DropNewest);
        lane.send();
        let large = |lane: &Fixture| block_on(poll_once(lane.sender.large_batch(&lane.source, 2 * CHUNK_BYTES)));
        for at in [100, 200] {
            let mut batch = large(&lane).expect("two large batches may exist");
            batch.range = SourceRange { from: at, to: at + 10, marker: 0 };
            assert_eq!(block_on(poll_once(lane.sender.send(batch))), Some(None), "the lane is full");
        }
        assert!(large(&lane).is_none(), "both hold ranges that are owed");
        for _ in 0..2 {
            let batch = lane.receiver.pop().expect("what is owed is sent as soon as there is room");
            lane.receiver.give_back(batch);
            large(&lane).into_iter().for_each(|batch| lane.sender.put_back(batch));
        }
        assert!(large(&lane).is_some(), "the first came home");

        let mut lane = Fixture::new(CHUNK_BYTES, WhenFull::DropNewest);
        for at in 0..LANE_BATCHES as u64 {
            let mut batch = block_on(lane.sender.batch(&lane.source));
            batch.range = SourceRange { from: at * 20, to: at * 20 + 10, marker: 0 };
            block_on(poll_once(lane.sender.send(batch)));
        }
        assert!(block_on(poll_once(lane.sender.batch(&lane.source))).is_none(), "all are on their way or owed");
        let batch = lane.receiver.pop().expect("one is on its way");
        lane.receiver.give_back(batch);
        assert!(block_on(poll_once(lane.sender.batch(&lane.source))).is_some(), "it came home");
    }

    #[test]
    fn dropped_oldest_makes_room_and_keeps_its_range() {
        let mut lane = Fixture::new(2 * CHUNK_BYTES, WhenFull::DropOldest);
        lane.send();
        lane.send();
        assert_eq!(lane.send(), None, "it asks and waits");
        let dropped = lane.receiver.drop_oldest().expect("the sender asked");
        assert_eq!((dropped.range.from, dropped.range.to, dropped.events, dropped.ticket), (0, 10, 10, 1));
        assert!(lane.receiver.drop_oldest().is_none(), "one batch was enough");
        assert_eq!(lane.meter.counters().dropped_events.get(), 10);
        assert_eq!(lane.send(), Some(Some(3)));
        assert_eq!(lane.receiver.pop().map(|batch| batch.ticket), Some(2));
    }

    #[test]
    fn sampling_keeps_one_in_ten_above_half() {
        let mut lane = Fixture::new(4 * CHUNK_BYTES, WhenFull::Sample);
        for _ in 0..3 {
            lane.send();
        }
        lane.send();
        let kept: Vec<usize> = std::iter::from_fn(|| lane.receiver.pop()).map(|batch| batch.events.len()).collect();
        assert_eq!(kept, [10, 10, 10, 1]);
        assert_eq!(lane.counters.discarded.get(Discard::RingFull), 9);
    }

    #[test]
    fn memory_stays_within_its_bound() {
        let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
        for _ in 0..LANE_SLOTS {
            assert!(lane.send().is_some());
        }
        assert_eq!(lane.send(), None, "no slot is left");
        assert!(lane.sender.made.get() <= LANE_BATCHES);
    }

    #[test]
    fn tickets_are_acknowledged_in_order() {
        let mut lane = Fixture::new(usize::MAX, WhenFull::Block);
        let ticket = lane.send().flatten().expect("it has room");
        assert!(block_on(poll_once(lane.sender.acknowledge_of(ticket))).is_none());
        lane.receiver.acknowledger().acknowledge(ticket);
        assert!(block_on(poll_once(lane.sender.acknowledge_of(ticket))).is_some());
    }
}
