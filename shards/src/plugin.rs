//! The contracts between the engine and what plugs into it: inputs, encoders, outputs.
//!
//! A plugin comes as a *spec*: validated settings, `Send + Sync`, the only thing that travels to the cores. Opened on a
//! shard it becomes that shard's own instance, which never leaves it.
//!
//! Guarantees to plugins: batching, retries, cursors, acknowledgement and shutdown are the engine's; a panic in a plugin
//! restarts that plugin from its last ticket or commit and nothing else. Duties of plugins: nothing blocks the executor,
//! queues are bounded, a task that works longer than a slice gives the reactor its turn.
//!
//! Parsers and transforms join here with the first of each; until then an input's encoder makes an event's line of its bytes.

use crate::batch::{Batch, Source, SourceKey};
use crate::counters::{InputCounters, OutputCounters};
use crate::env::{Env, ShardId, Timestamp};
use crate::lane::LaneSender;
use crate::ring::{Consumer, Producer};
use crate::signal::Signal;
use crate::stop::Stop;
use crate::wal::positions::SourceTable;
use crate::wal::{OutputNumber, SourceState};
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A boxed future of one shard.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// On which shards a plugin runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// On one shard, which the engine chooses.
    One,
    /// On every shard.
    Every,
}

/// What a plugin failed with, by what the engine does next.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It may work later: it is opened again after a backoff.
    #[error("{0}")]
    Retry(String),
    /// A person has to act: the engine stops with this message.
    #[error("{0}")]
    Fatal(String),
}

// ---------------------------------------------------------------------------------------------------------------- inputs

/// Validated settings of an input.
pub trait InputSpec<E: Env>: Send + Sync + 'static {
    /// On which shards it runs.
    fn placement(&self) -> Placement;
    /// Runs an instance until its source ends or the drain begins ([`Stop::reached`]). Before it returns it has sent all that
    /// it took from a source that cannot repeat.
    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>>;
}

/// What an instance of an input works with. Clones share it.
#[derive(Clone)]
pub struct InputContext<E: Env> {
    /// The world.
    pub env: E,
    /// The configured name.
    pub name: Arc<str>,
    /// Shards that run instances of this input, this one included.
    pub shards: usize,
    /// How many outputs fed by this input have their one instance on each shard: they deliver what all shards read.
    pub deliverers: Arc<[u64]>,
    /// What the logs know of this input's sources: every instance gets all of them.
    pub resume: Arc<Vec<SourceState>>,
    /// The way to the shards.
    pub lanes: Rc<Lanes<E>>,
    /// The way to the instances on the other shards; each instance receives in one task only.
    pub peers: Rc<Peers>,
    /// The end.
    pub stop: Stop,
    /// What this instance counts.
    pub counters: Arc<InputCounters>,
}

impl<E: Env> InputContext<E> {
    /// A key for a source that was never seen before.
    pub fn new_key(&self) -> SourceKey {
        SourceKey(u128::from(self.env.random()) << 64 | u128::from(self.env.random()))
    }

    /// Counts and reports an error of a source; the input goes on.
    pub fn error(&self, message: &str) {
        self.counters.errors.add(1);
        tracing::warn!(component_id = %self.name, component_kind = "input", "{message}");
    }
}

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

/// A message between instances of one input on different shards.
pub type PeerMessage = Box<dyn Any + Send>;

/// The mailboxes of one input on one shard.
pub struct Peers {
    /// To each shard; none to itself.
    to: RefCell<Vec<Option<Producer<PeerMessage>>>>,
    from: RefCell<Vec<Option<Consumer<PeerMessage>>>>,
    arrived: Arc<Signal>,
    arrived_at: Vec<Arc<Signal>>,
    shard: ShardId,
}

/// Messages that fit into one mailbox.
const PEER_SLOTS: usize = 1024;

/// The mailboxes of one input: for each of `shards` shards its own.
pub fn peers(shards: usize) -> Vec<PeersSeed> {
    let signals: Vec<Arc<Signal>> = (0..shards).map(|_| Arc::new(Signal::new())).collect();
    let mut all: Vec<PeersSeed> =
        (0..shards).map(|_| PeersSeed { to: Vec::new(), from: Vec::new(), arrived_at: signals.clone() }).collect();
    for from in 0..shards {
        for to in 0..shards {
            let (producer, consumer) = match from == to {
                true => (None, None),
                false => {
                    let (producer, consumer) = crate::ring::ring(PEER_SLOTS);
                    (Some(producer), Some(consumer))
                }
            };
            all[from].to.push(producer);
            all[to].from.push(consumer);
        }
    }
    all
}

/// Mailboxes on their way to their shard.
pub struct PeersSeed {
    to: Vec<Option<Producer<PeerMessage>>>,
    from: Vec<Option<Consumer<PeerMessage>>>,
    arrived_at: Vec<Arc<Signal>>,
}

impl PeersSeed {
    /// The mailboxes, on their shard.
    pub fn open(self, shard: ShardId) -> Peers {
        let arrived = self.arrived_at[shard.index()].clone();
        Peers { to: self.to.into(), from: self.from.into(), arrived, arrived_at: self.arrived_at, shard }
    }
}

impl Peers {
    /// Puts a message into another shard's mailbox, or gives it back when that is full or the shard is this one.
    pub fn send(&self, to: ShardId, message: PeerMessage) -> Result<(), PeerMessage> {
        match self.to.borrow_mut()[to.index()].as_mut() {
            None => return Err(message),
            Some(producer) => producer.push(message)?,
        }
        self.arrived_at[to.index()].notify();
        Ok(())
    }

    /// A message that has arrived.
    pub fn try_receive(&self) -> Option<(ShardId, PeerMessage)> {
        let mut from = self.from.borrow_mut();
        from.iter_mut().enumerate().find_map(|(index, consumer)| {
            let message = consumer.as_mut()?.pop()?;
            Some((ShardId(u16::try_from(index).ok()?), message))
        })
    }

    /// Waits for a message. Only one task of an instance waits.
    pub async fn receive(&self) -> (ShardId, PeerMessage) {
        loop {
            if let Some(message) = self.try_receive() {
                return message;
            }
            self.arrived.wait().await;
        }
    }

    /// The shard these mailboxes belong to.
    pub fn shard(&self) -> ShardId {
        self.shard
    }
}

// -------------------------------------------------------------------------------------------------------------- encoders

/// Validated settings of an encoder: how the events of an input become lines.
pub trait EncoderSpec: Send + Sync + 'static {
    /// One shard's own instance.
    fn open(&self) -> Box<dyn Encoder>;
}

/// Makes lines of events. Hot: called once an event, allocates nothing in steady state.
pub trait Encoder {
    /// Prepares for the events of a batch: what is the same for all of them is made once.
    fn begin(&mut self, batch: &Batch);
    /// Appends the line of one event, newline included, and says when the event happened. The line holds no other newline.
    fn event(&mut self, batch: &Batch, index: usize, line: &mut Vec<u8>) -> Timestamp;
    /// Events since the last call of this that held bytes which no string can, and hold a replacement character instead.
    fn take_replaced(&mut self) -> u64 {
        0
    }
}

// --------------------------------------------------------------------------------------------------------------- outputs

/// Validated settings of an output.
pub trait OutputSpec<E: Env>: Send + Sync + 'static {
    /// On which shards it runs. With [`Placement::One`] one instance reads the logs of all shards.
    fn placement(&self) -> Placement;
    /// Opens an instance; `state` is what its last durable commit carried, empty if that was before anything was delivered.
    /// What an earlier life wrote beyond that commit is undone here, by outputs that can.
    fn open(&self, context: OutputContext<E>, state: Option<Vec<u8>>) -> LocalFuture<'static, OpenResult>;
}

/// An opened output, or why it could not be opened.
pub type OpenResult = Result<Box<dyn Output>, PluginError>;

/// What an instance of an output works with.
#[derive(Clone)]
pub struct OutputContext<E: Env> {
    /// The world.
    pub env: E,
    /// The configured name.
    pub name: Arc<str>,
    /// Its number in the log.
    pub number: OutputNumber,
    /// The data directory. What an output keeps beside the log is in files `outputs/NUMBER.*` there; they are removed before
    /// the number goes to another output.
    pub data_dir: Arc<PathBuf>,
    /// The end.
    pub stop: Stop,
    /// What this instance counts; `sent` and `discarded` are the engine's.
    pub counters: Arc<OutputCounters>,
}

/// What became of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// All of it is with the destination, or will be made durable there by [`Output::commit`].
    Delivered,
    /// Nothing of it counts; it is tried again after the backoff, not before `after`.
    Retry {
        /// The destination's own wish, if it said one.
        after: Option<Duration>,
        /// What failed, for the operator.
        error: String,
    },
    /// Nothing of it counts, and what was delivered since the last commit may be lost: the instance is dropped and opened
    /// again from that commit. Says why, for the operator.
    Reopen(String),
    /// Delivered, apart from events that the destination refuses for good: (index in the delivery, reason).
    Rejected(Vec<(u64, String)>),
}

/// One open output.
pub trait Output {
    /// Delivers a batch of events. Not called again before it returns; may be called again with the same events after
    /// [`Outcome::Retry`].
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome>;

    /// Starts to make durable what was delivered so far, so that the commit that follows finds little to do. Deliveries go on
    /// while the future runs. After an error the instance is dropped and opened again from its last commit.
    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes all that was delivered durable at the destination and appends to `state` what [`OutputSpec::open`] needs to
    /// continue from here (at most [`crate::limits::COMMIT_STATE_BYTES_MAX`] bytes). The engine then commits the cursor
    /// together with the state. After an error the instance is dropped and opened again from its last commit.
    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        let _ = state;
        Box::pin(async { Ok(()) })
    }

    /// Runs about once a second while nothing is delivered, every few seconds once nothing was delivered for long: rotation by
    /// age, idle connections.
    fn tick(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Ends the instance after its last commit.
    fn close(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A batch of events for one output: pieces of frames, in order.
#[derive(Default)]
pub struct Delivery<'a> {
    /// The pieces; none is empty.
    pub pieces: Vec<Piece<'a>>,
    /// Events in all pieces.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
}

impl<'a> Delivery<'a> {
    /// An empty delivery with room for so many pieces.
    pub fn with_room(pieces: usize) -> Delivery<'a> {
        Delivery { pieces: Vec::with_capacity(pieces), events: 0, bytes: 0 }
    }

    /// Adds a piece, unless it holds nothing.
    pub fn push(&mut self, piece: Piece<'a>) {
        if piece.events > 0 {
            self.events += piece.events;
            self.bytes += piece.bytes;
            self.pieces.push(piece);
        }
    }

    /// All events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        self.pieces.iter().flat_map(Piece::iter)
    }
}

/// One event as it lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// A JSON object, and its newline at the end.
    pub line: &'a [u8],
    /// When it happened.
    pub timestamp: Timestamp,
}

/// Where a piece's timestamps or masks are.
#[derive(Clone)]
pub enum Column<'a> {
    /// The same for every event.
    Same(u64),
    /// Eight little-endian bytes for each event of the frame.
    Each(Cow<'a, [u8]>),
}

impl Column<'_> {
    fn get(&self, index: usize) -> u64 {
        match self {
            Column::Same(value) => *value,
            Column::Each(bytes) => {
                bytes.get(index * 8..index * 8 + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
            }
        }
    }
}

/// The events of one frame that an output gets: a part of the log's mapping, not a copy.
pub struct Piece<'a> {
    payload: Cow<'a, [u8]>,
    lengths: Cow<'a, [u8]>,
    timestamps: Column<'a>,
    masks: Column<'a>,
    bit: u64,
    first: usize,
    end: usize,
    events: u64,
    bytes: u64,
}

/// The parts of a frame that make a piece.
pub struct PieceParts<'a> {
    /// All lines of the frame.
    pub payload: Cow<'a, [u8]>,
    /// Four little-endian bytes for each event: the length of its line.
    pub lengths: Cow<'a, [u8]>,
    /// When each event happened, ns since 1970.
    pub timestamps: Column<'a>,
    /// Which outputs get each event.
    pub masks: Column<'a>,
}

impl<'a> Piece<'a> {
    /// The events `first..end` of a frame that the output with mask `bit` gets.
    pub fn new(parts: PieceParts<'a>, bit: u64, first: u32, end: u32) -> Piece<'a> {
        let PieceParts { payload, lengths, timestamps, masks } = parts;
        let (first, end) = (first as usize, (end as usize).min(lengths.len() / 4));
        let mut piece = Piece { payload, lengths, timestamps, masks, bit, first, end, events: 0, bytes: 0 };
        if piece.is_whole_frame() {
            piece.events = piece.end as u64;
            piece.bytes = piece.payload.len() as u64;
        } else {
            let (events, bytes) =
                piece.iter().fold((0, 0), |(events, bytes), event| (events + 1, bytes + event.line.len() as u64));
            piece.events = events;
            piece.bytes = bytes;
        }
        piece
    }

    /// Events in the piece.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of their lines.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lines of all its events, if they lie side by side; true of nearly every piece.
    pub fn lines(&self) -> Option<&[u8]> {
        self.is_whole_frame().then_some(&self.payload)
    }

    /// Its events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        let mut offset = (0..self.first).map(|index| self.length(index)).sum::<usize>();
        (self.first..self.end).filter_map(move |index| {
            let from = offset;
            offset += self.length(index);
            let line = self.payload.get(from..offset)?;
            let wanted = self.masks.get(index) & self.bit != 0;
            wanted.then_some(Event { line, timestamp: Timestamp(self.timestamps.get(index) as i64) })
        })
    }

    /// The last event's time.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.timestamps.get(self.end.saturating_sub(1)) as i64)
    }

    fn length(&self, index: usize) -> usize {
        let bytes = &self.lengths[index * 4..index * 4 + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }

    fn is_whole_frame(&self) -> bool {
        let every_event = matches!(self.masks, Column::Same(mask) if mask & self.bit != 0);
        every_event && self.first == 0 && self.end == self.lengths.len() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lines: &[&str], masks: Column<'static>) -> PieceParts<'static> {
        PieceParts {
            payload: Cow::Owned(lines.concat().into_bytes()),
            lengths: Cow::Owned(lines.iter().flat_map(|line| (line.len() as u32).to_le_bytes()).collect()),
            timestamps: Column::Same(5),
            masks,
        }
    }

    #[test]
    fn whole_frame_is_one_slice() {
        let piece = Piece::new(parts(&["a\n", "bb\n"], Column::Same(6)), 2, 0, 2);
        assert_eq!(piece.lines(), Some(&b"a\nbb\n"[..]));
        assert_eq!((piece.events(), piece.bytes()), (2, 5));
        assert_eq!(Piece::new(parts(&["a\n"], Column::Same(6)), 1, 0, 1).events(), 0);
    }

    #[test]
    fn part_of_a_frame_starts_at_its_event() {
        let piece = Piece::new(parts(&["a\n", "bb\n", "ccc\n"], Column::Same(1)), 1, 1, 3);
        assert_eq!(piece.lines(), None);
        let lines: Vec<&[u8]> = piece.iter().map(|event| event.line).collect();
        assert_eq!(lines, [&b"bb\n"[..], b"ccc\n"]);
        assert_eq!((piece.events(), piece.bytes()), (2, 7));
    }

    #[test]
    fn masks_choose_events() {
        let masks = [1u64, 2, 3].iter().flat_map(|mask| mask.to_le_bytes()).collect();
        let piece = Piece::new(parts(&["a\n", "b\n", "c\n"], Column::Each(Cow::Owned(masks))), 2, 0, 3);
        let lines: Vec<&[u8]> = piece.iter().map(|event| event.line).collect();
        assert_eq!(lines, [b"b\n", b"c\n"]);
    }

    #[test]
    fn messages_reach_the_right_shard() {
        let mut seeds = peers(3);
        let last = seeds.pop().expect("three").open(ShardId(2));
        let first = seeds.swap_remove(0).open(ShardId(0));
        assert!(first.send(ShardId(2), Box::new(7u32)).is_ok());
        assert!(first.send(ShardId(0), Box::new(8u32)).is_err());
        let (from, message) = last.try_receive().expect("one was sent");
        assert_eq!(from, ShardId(0));
        assert_eq!(message.downcast_ref::<u32>(), Some(&7));
        assert!(last.try_receive().is_none());
    }
}
