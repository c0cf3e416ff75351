//! Delivery: passes events from the WALs to one output and moves the output's cursors.
//!
//! Guarantees: a cursor is committed only past events that the output has delivered and made durable, that are in the dead
//! letter queue, or that were counted as discarded with a reason (invariant E2). Events of one WAL are delivered in its order.
//! Of several WALs, events of earlier starts of the engine go first, across all instances of the output ([`gate`]), so that a
//! source that moved between shards keeps its order (invariant E3). There is one delivery at a time, so the batch limits also
//! limit memory (invariant E4). After a panic, the output returns to its last commit. A slow or dead output affects only itself
//! until the WAL is full.
//!
//! Does not know protocols, and does not append events: its commits go through the keeper.

use crate::counters::Discard;
use crate::dlq::clerk::Clerk;
use crate::env::{Disk as _, Env, Monotonic, Sabotage, Timestamp};
use crate::keeper::Keeper;
use crate::plugin::{Delivery, Outcome, Output, OutputContext, OutputSpec, PluginError, Resume};
use crate::retry::Backoff;
use crate::signal::Signal;
use crate::spell::Spell;
use crate::stop::{Countdown, Phase, Stop};
use crate::wal::{Commit, LogId, Position, WalError};
use full::GIVE_WAY_INTERVAL;
use futures_lite::FutureExt;
use futures_lite::future::or;
use gate::Gatekeeper;
use source::{LogReader, Taken};
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

mod commits;
mod full;
pub mod gate;
mod letters;
mod options;
mod pages;
mod retries;
pub mod source;
pub use options::{BatchOptions, DeliveryOptions, OutputFull};

/// Maximum time between a delivery and the commit that covers it.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The same for a delivery that has left a segment: the sooner the log overwrites the segment's pages, the more of them are
/// still in memory.
const COMMIT_SEGMENT_INTERVAL: Duration = Duration::from_millis(20);

/// Such a commit is due only after this many times the duration of the last one, so that a slow output does not commit after
/// every delivery.
const COMMIT_REST: u32 = 8;

/// How often an output's tick runs while nothing is delivered, and when nothing has been delivered for long.
const TICK: Duration = Duration::from_secs(1);
const TICK_QUIET: Duration = Duration::from_secs(4);
const QUIET_AFTER: Duration = Duration::from_secs(10);

/// Frames that one delivery combines while they arrive one by one: fewer, larger writes.
const FRAMES_TOGETHER: usize = 4;

/// How long a delivery that has nothing else to do waits after the log refused its commit.
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// The parts of a delivery.
pub struct DeliveryParts<E: Env> {
    /// The output.
    pub spec: Arc<dyn OutputSpec<E>>,
    /// The context of its instance.
    pub context: OutputContext<E>,
    /// Limits and policies.
    pub options: DeliveryOptions,
    /// The WALs to read.
    pub readers: Vec<LogReader<E::Disk>>,
    /// The keeper whose log stores the commits.
    pub keeper: Rc<Keeper<E>>,
    /// The dead letter queue.
    pub clerk: Rc<Clerk<E>>,
    /// Which instance the commits belong to: see [`Commit::instance`].
    pub instance: Option<LogId>,
    /// The last commit of this output over all WALs. The layout creates one for a new output.
    pub resume: Commit,
    /// See [`Resume::again_bytes`].
    pub again_bytes: Option<u64>,
    /// Raised when a log has new frames.
    pub news: Arc<Signal>,
    /// Whether every shard's intake has ended, so that nothing more will be appended.
    pub intakes: Arc<Countdown>,
    /// The gate at which it waits for the output's other instances.
    pub gate: Gatekeeper,
}

/// The result of [`Output::begin_sync`], when its task has finished. The inner option is none after a panic.
type Syncing = Rc<RefCell<Option<Option<Result<(), PluginError>>>>>;

/// See the module.
pub struct Deliverer<E: Env> {
    spec: Arc<dyn OutputSpec<E>>,
    context: OutputContext<E>,
    options: DeliveryOptions,
    readers: Vec<LogReader<E::Disk>>,
    keeper: Rc<Keeper<E>>,
    clerk: Rc<Clerk<E>>,
    news: Arc<Signal>,
    intakes: Arc<Countdown>,
    gate: Gatekeeper,
    stop: Stop,
    instance: Option<LogId>,
    commit_number: u64,
    /// State of the last commit, and the readers' positions at that time: where a restarted output continues.
    committed_state: Option<Vec<u8>>,
    /// See [`Resume::again_bytes`].
    again_bytes: Option<u64>,
    committed: Vec<Position>,
    syncing: Option<Syncing>,
    last_commit: Monotonic,
    /// When this delivery started: what waits in frames that do not say since when has waited longer.
    begun: Timestamp,
    /// When the last sync began, and how long it took from then to the end of its commit.
    sync_begun: Monotonic,
    commit_took: Duration,
    last_delivery: Monotonic,
    /// The period in which events are dropped because the log is full, and which log it was.
    dropping: Spell,
    dropped_from: Cell<Option<LogId>>,
    uncommitted: bool,
    /// Events delivered or discarded: in total, and at the last commit.
    passed: u64,
    passed_committed: u64,
    /// The reader that is asked first, so that a busy log does not starve the others.
    turn: usize,
}

/// How much a delivery may still take.
struct Room {
    bytes: u64,
    events: u64,
}

/// Why a delivery loop ends.
enum End {
    /// Everything that can be delivered has been delivered.
    Drained,
    /// The shutdown is forced.
    Forced,
    /// The output panicked, or its state is uncertain: it is opened again from its last commit.
    Reopen(String),
}

impl<E: Env> Deliverer<E> {
    /// Creates a delivery. [`Deliverer::run`] runs it.
    pub fn new(parts: DeliveryParts<E>) -> Deliverer<E> {
        let DeliveryParts {
            spec,
            context,
            options,
            mut readers,
            keeper,
            clerk,
            instance,
            resume,
            again_bytes,
            news,
            intakes,
            gate,
        } = parts;
        let recent = keeper.with_writer(|writer| writer.recent().clone());
        let own = |reader: &&mut LogReader<_>| reader.log_id() == keeper.log().id();
        readers.iter_mut().filter(own).for_each(|reader| reader.read_recent(recent.clone()));
        intakes.tell(news.clone());
        gate.tell(news.clone());
        Deliverer {
            stop: context.stop.clone(),
            last_commit: context.env.now(),
            begun: context.env.wall(),
            sync_begun: context.env.now(),
            commit_took: Duration::ZERO,
            last_delivery: context.env.now(),
            dropping: Spell::default(),
            dropped_from: Cell::new(None),
            instance,
            commit_number: resume.number,
            committed: readers.iter().map(LogReader::position).collect(),
            committed_state: resume.state,
            again_bytes,
            syncing: None,
            uncommitted: false,
            passed: 0,
            passed_committed: 0,
            turn: 0,
            spec,
            context,
            options,
            readers,
            keeper,
            clerk,
            news,
            intakes,
            gate,
        }
    }

    /// Runs until everything is delivered after the intakes have ended, or until the shutdown is forced.
    pub async fn run(mut self) {
        self.run_to_the_end().await;
        self.gate.leave();
    }

    async fn run_to_the_end(&mut self) {
        // Before opening: if it has nothing to deliver first, it must not delay another instance.
        self.pass_gate().await;
        let mut backoff = Backoff::new(self.options.retry);
        loop {
            let Some(mut output) = self.open(&mut backoff).await else { return };
            let commits = self.commit_number;
            match self.deliver_all(output.as_mut()).await {
                End::Reopen(reason) => {
                    if self.commit_number > commits {
                        // It has worked meanwhile, so this is the first failure of another series.
                        backoff = Backoff::new(self.options.retry);
                    }
                    self.go_back();
                    let wait = backoff.next(self.context.env.random(), None);
                    self.fails(&reason, wait);
                    if self.pause_closed(wait).await {
                        return;
                    }
                }
                // The events delivered since the last commit are not committed.
                End::Forced => return,
                End::Drained => {
                    let closed = AssertUnwindSafe(output.close()).catch_unwind();
                    let _ = or(async { Some(closed.await) }, async {
                        self.stop.reached(Phase::Forced).await;
                        None
                    })
                    .await;
                    return;
                }
            }
        }
    }

    /// Opens the output, and retries while the error says that this may help. None if the engine ends before it opened.
    async fn open(&mut self, backoff: &mut Backoff) -> Option<Box<dyn Output>> {
        loop {
            self.give_way().await;
            let opening = self.spec.open(self.context.clone(), self.resume());
            let mut opening = std::pin::pin!(AssertUnwindSafe(opening).catch_unwind());
            let opened = loop {
                let env = self.context.env.clone();
                let waited = or(async { Some(opening.as_mut().await) }, async {
                    env.sleep(GIVE_WAY_INTERVAL).await;
                    None
                });
                match self.unless_forced(waited).await {
                    Err(_) => return None,
                    Ok(Some(opened)) => break opened,
                    Ok(None) if self.is_needless().await => return None,
                    Ok(None) => self.give_way().await,
                }
            };
            let message = match opened {
                Ok(Ok(output)) => {
                    self.again_bytes = self.again_bytes.map(|_| 0);
                    self.recovers("is open");
                    return Some(output);
                }
                Ok(Err(PluginError::Fatal(message))) => {
                    self.stop.fail(format!("output {}: {message}", self.context.name));
                    return None;
                }
                Ok(Err(PluginError::Retry(message))) => message,
                Err(_) => "the output panicked while it was opened".to_owned(),
            };
            let wait = backoff.next(self.context.env.random(), None);
            self.fails(&message, wait);
            self.show_oldest().await;
            // Otherwise it keeps trying until the shutdown is forced.
            if self.pause_closed(wait).await {
                return None;
            }
        }
    }

    /// Whether an output that is not open need not be opened: nothing waits for it, and nothing more comes.
    async fn is_needless(&mut self) -> bool {
        // Must be read before the logs: an intake that ends in between has appended before.
        self.intakes.all_ended() && self.find_next().await.is_none()
    }

    fn resume(&self) -> Resume {
        let again_bytes = self.committed_state.as_ref().and(self.again_bytes);
        Resume { state: self.committed_state.clone().unwrap_or_default(), again_bytes }
    }

    async fn deliver_all(&mut self, output: &mut dyn Output) -> End {
        loop {
            if self.stop.phase() == Phase::Forced {
                return End::Forced;
            }
            self.tell_of_drops();
            // Must be read before the logs: an intake that ends in between has appended before.
            let nothing_comes = self.intakes.all_ended();
            let taken = self.gather().await;
            if !taken.is_empty() {
                self.context.counters.held_bytes.set(taken.iter().map(Taken::held_bytes).sum());
                let delivered = self.deliver(output, taken).await;
                self.context.counters.held_bytes.set(0);
                if let Err(end) = delivered {
                    return end;
                }
            } else if self.pass_gate().await {
                continue;
            } else if nothing_comes && self.syncing.is_none() && !self.waits_at_gate().await {
                // A running sync may report a failure, so the commit waits for its result.
                if !self.uncommitted {
                    return End::Drained;
                }
                if let Err(end) = self.commit_at_the_end(output).await {
                    return end;
                }
            } else if let Err(end) = self.idle(output).await {
                return end;
            }
            if let Err(end) = self.advance_commit(output).await {
                return end;
            }
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
    }

    /// Takes what fits in one delivery. If there is something, waits a little for more.
    async fn gather(&mut self) -> Vec<Taken<E::Disk>> {
        let mut taken = Vec::new();
        let mut room = Room { bytes: self.options.batch.bytes_max, events: self.options.batch.events_max };
        self.take_into(&mut taken, &mut room).await;
        // A shard that is reading adds frames in the meantime. An idle one adds none.
        let mut before = 0;
        while taken.len() > before && taken.len() < FRAMES_TOGETHER && room.bytes > 0 && room.events > 0 {
            before = taken.len();
            futures_lite::future::yield_now().await;
            self.take_into(&mut taken, &mut room).await;
        }
        if taken.is_empty() || self.options.batch.age_max.is_zero() || self.stop.is_asked() {
            return taken;
        }
        let env = self.context.env.clone();
        let deadline = env.now().after(self.options.batch.age_max);
        // A full log gets no more frames until something of it is delivered.
        while room.bytes > 0 && room.events > 0 && !self.stop.is_asked() && !self.a_log_is_full() {
            let left = deadline.since(env.now());
            if left.is_zero() {
                break;
            }
            or(self.news.wait(), env.sleep(left)).await;
            self.take_into(&mut taken, &mut room).await;
        }
        taken
    }

    async fn take_into(&mut self, taken: &mut Vec<Taken<E::Disk>>, room: &mut Room) {
        while room.bytes > 0 && room.events > 0 {
            let Some(index) = self.next_reader().await else { return };
            let Some(part) = self.readers[index].take(index, room.events) else { return };
            room.events = room.events.saturating_sub(part.events());
            room.bytes = room.bytes.saturating_sub(part.bytes());
            taken.push(part);
        }
    }

    /// The reader to take from: the one with frames of the earliest start of the engine, because a source may have moved
    /// between shards at a start. Among equals, each in turn.
    async fn next_reader(&mut self) -> Option<usize> {
        let (epoch, index) = self.find_next().await?;
        if self.gate.holds(epoch) && !E::Disk::sabotaged(Sabotage::PassGate) {
            return None;
        }
        self.turn = (index + 1) % self.readers.len();
        Some(index)
    }

    async fn find_next(&mut self) -> Option<(u32, usize)> {
        let count = self.readers.len();
        let mut first: Option<(u32, usize)> = None;
        for distance in 0..count {
            let index = (self.turn + distance) % count;
            let epoch = loop {
                match self.readers[index].next_epoch() {
                    Ok(None) if self.brings_in(index).await => {}
                    Ok(epoch) => break epoch,
                    Err(damage) => {
                        self.context.counters.discarded.add(Discard::Damaged, damage.frames);
                        self.report(&damage.message);
                    }
                }
            };
            if let Some(epoch) = epoch
                && first.is_none_or(|(least, _)| epoch < least)
            {
                first = Some((epoch, index));
            }
        }
        first
    }

    /// Reports to the gate what is delivered next here. Call only when nothing taken is undelivered. Returns whether that moved
    /// the front.
    async fn pass_gate(&mut self) -> bool {
        if self.gate.is_past() {
            return false;
        }
        let oldest = self.find_next().await.map(|(epoch, _)| epoch);
        // After a forced shutdown, pages may not have been loaded, so the oldest frame is unknown.
        self.stop.phase() < Phase::Forced && self.gate.advance(oldest)
    }

    /// Whether there is something to deliver after other instances have delivered older events.
    async fn waits_at_gate(&mut self) -> bool {
        let held = self.find_next().await.is_some_and(|(epoch, _)| self.gate.holds(epoch));
        held && !self.gate.is_abandoned()
    }

    /// Publishes how long the oldest unhandled event has been waiting.
    async fn show_oldest(&mut self) {
        self.find_next().await;
        let oldest = self.readers.iter().filter_map(|reader| reader.waits_since(self.begun)).min();
        self.context.counters.oldest_unacked.set(oldest.map_or(0, |since| since.0));
    }

    async fn deliver(&mut self, output: &mut dyn Output, taken: Vec<Taken<E::Disk>>) -> Result<(), End> {
        let bit = self.context.number.bit();
        let mut delivery = Delivery::with_room(taken.len());
        for part in &taken {
            delivery.push(part.piece(bit));
        }
        let counters = self.context.counters.clone();
        let oldest = taken.iter().map(|part| part.waits_since(self.begun)).min();
        counters.oldest_unacked.set(oldest.map_or(0, |since| since.0));
        let env = self.context.env.clone();
        let (begun, mut backoff) = (env.now(), Backoff::new(self.options.retry));
        if E::Disk::sabotaged(Sabotage::CommitEarly) {
            taken.iter().for_each(|part| self.readers[part.reader].delivered(part));
            let _ = self.record(self.committed_state.clone());
        }
        self.again_bytes = self.again_bytes.map(|bytes| bytes.saturating_add(delivery.bytes));
        // If a frame is taken in parts, one part may have no events for this output.
        while delivery.events > 0 {
            let deliver = AssertUnwindSafe(output.deliver(&delivery)).catch_unwind();
            let decided = async { deliver.await.map(Some) };
            let outcome = match self.unless_forced(or(decided, self.held_up(&taken))).await? {
                Ok(Some(outcome)) => outcome,
                Ok(None) => return Err(End::Reopen("the output hangs while the write-ahead log is full".to_owned())),
                Err(_) => return Err(panicked()),
            };
            match outcome {
                Outcome::Delivered => {
                    self.recovers("delivers");
                    counters.sent_events.add(delivery.events);
                    counters.sent_bytes.add(delivery.bytes);
                    break;
                }
                Outcome::Rejected(events) => {
                    self.recovers("delivers");
                    self.reject(&delivery, events, &taken).await?;
                    break;
                }
                Outcome::Reopen(reason) => return Err(End::Reopen(reason)),
                Outcome::Retry { after, error } => {
                    if output.has_progressed() {
                        backoff = Backoff::new(self.options.retry);
                    }
                    if let Some(ended) = self.retry(&mut backoff, after, &error, begun, &taken).await? {
                        self.give_up(output, &delivery, &error, &taken, ended).await?;
                        break;
                    }
                    delivery.attempt = delivery.attempt.saturating_add(1);
                }
            }
        }
        for part in &taken {
            self.readers[part.reader].delivered(part);
        }
        self.passed += delivery.events;
        self.uncommitted = true;
        self.last_delivery = env.now();
        self.show_oldest().await;
        // Needed here too: a delivery that is never idle must not hold the segments of a log that has no events for it.
        self.pass_over();
        Ok(())
    }

    /// Waits for new frames, for a commit that is due, or for the output's tick.
    async fn idle(&mut self, output: &mut dyn Output) -> Result<(), End> {
        self.pass_over();
        if self.waits_at_gate().await && self.drop_oldest().await > 0 {
            self.uncommitted = true;
            return Ok(());
        }
        let env = self.context.env.clone();
        let now = env.now();
        let wait = match self.uncommitted && self.syncing.is_none() {
            true => COMMIT_INTERVAL.saturating_sub(now.since(self.last_commit)).max(Duration::from_millis(1)),
            false if now.since(self.last_delivery) < QUIET_AFTER => now.until_next(TICK),
            false => now.until_next(TICK_QUIET),
        };
        let news = async {
            self.news.wait().await;
            false
        };
        let quiet = async {
            env.sleep(wait).await;
            true
        };
        if or(news, quiet).await {
            let tick = AssertUnwindSafe(output.tick()).catch_unwind();
            if self.unless_forced(tick).await?.is_err() {
                return Err(panicked());
            }
        }
        Ok(())
    }

    fn failed(&self, error: PluginError) -> End {
        match error {
            PluginError::Retry(message) => End::Reopen(message),
            PluginError::Fatal(message) => {
                self.stop.fail(format!("output {}: {message}", self.context.name));
                End::Forced
            }
        }
    }

    /// Moves the cursors past frames without events for this output, so that they do not hold their segments.
    fn pass_over(&mut self) {
        for reader in &mut self.readers {
            if reader.pass_over() {
                self.uncommitted = true;
            }
        }
    }

    fn go_back(&mut self) {
        self.syncing = None;
        self.uncommitted = false;
        // They are delivered once more, so they count as waiting once more. Otherwise the counters would not balance.
        self.context.counters.recovered_events.add(self.passed - self.passed_committed);
        self.passed = self.passed_committed;
        for (reader, position) in self.readers.iter_mut().zip(&self.committed) {
            reader.go_back(*position);
        }
    }

    async fn unless_forced<T>(&self, work: impl Future<Output = T>) -> Result<T, End> {
        or(async { Ok(work.await) }, async {
            self.stop.reached(Phase::Forced).await;
            Err(End::Forced)
        })
        .await
    }

    fn report(&self, message: &str) {
        self.context.counters.errors.add(1);
        tracing::warn!(component_id = %self.context.name, component_kind = "output", "{message}");
    }
}

fn panicked() -> End {
    End::Reopen("the output panicked and continues from its last commit".to_owned())
}
