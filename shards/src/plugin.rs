//! The contracts between the engine and its plugins: inputs, processors, outputs.
//!
//! A plugin is defined by a *spec*: validated settings, `Send + Sync`, the only part that is sent to the cores. Opened on a
//! shard, it becomes that shard's own instance, which never leaves the shard.
//!
//! Guarantees to plugins: the engine handles batching, retries, cursors, acknowledgement and shutdown. A panic in a plugin
//! restarts only that plugin, from its last ticket or commit. Duties of plugins: nothing blocks the executor, queues are
//! bounded, and a task that works longer than a slice gives the reactor a turn.
//!
//! Parsers and transforms are internal to a processor: the engine passes a batch in and receives lines.

mod frames;
mod lanes;
mod mailbox;
mod piece;
mod spread;

pub use frames::Frames;
pub use lanes::{Lanes, Ticket};
pub use mailbox::{PeerMessage, Peers, PeersSeed, peers};
pub use piece::{Column, Delivery, Event, Piece, PieceParts};

use crate::batch::{Batch, SourceKey};
use crate::counters::{InputCounters, OutputCounters, Tally};
use crate::dlq::Letters;
use crate::env::{Env, ShardId, Timestamp};
use crate::stop::Stop;
use crate::wal::{OutputNumber, SourceState};
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
    /// On one shard, chosen by the engine.
    One,
    /// On every shard.
    Every,
}

/// The failure of a plugin, by what the engine does next.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// It may work later: the plugin is opened again after a backoff.
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
    /// Runs an instance until its source ends or the drain begins ([`Stop::reached`]). Before it returns, it must have sent
    /// everything that it read from a source that cannot repeat.
    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>>;
}

/// The context of an input's instance. Clones share it.
#[derive(Clone)]
pub struct InputContext<E: Env> {
    /// The environment.
    pub env: E,
    /// The configured name.
    pub name: Arc<str>,
    /// Shards that run instances of this input, this one included.
    pub shards: usize,
    /// For each shard, the number of outputs fed by this input that have their only instance there. They deliver what all
    /// shards read.
    pub deliverers: Arc<[u64]>,
    /// What the WALs know about this input's sources, by key. Every instance gets all of it.
    pub resume: Arc<Vec<SourceState>>,
    /// What they know of the sources of inputs that are not configured any more: this input may be one of them under another name.
    pub orphans: Arc<Vec<SourceState>>,
    /// The data directory. What an input keeps beside the log is in files `inputs/NAME.*` there.
    pub data_dir: Arc<PathBuf>,
    /// The lanes to the shards.
    pub lanes: Rc<Lanes<E>>,
    /// The mailboxes of the instances on the other shards. Only one task of each instance receives.
    pub peers: Rc<Peers>,
    /// The shutdown control.
    pub stop: Stop,
    /// The counters of this instance.
    pub counters: Arc<InputCounters>,
}

impl<E: Env> InputContext<E> {
    /// A key for a source that has never been seen before.
    pub fn new_key(&self) -> SourceKey {
        SourceKey(u128::from(self.env.random()) << 64 | u128::from(self.env.random()))
    }

    /// Counts and reports an error of a source. The input continues.
    pub fn error(&self, message: &str) {
        self.counters.errors.add(1);
        tracing::warn!(component_id = %self.name, component_kind = "input", "{message}");
    }
}

// ------------------------------------------------------------------------------------------------------------ processors

/// Validated settings of a processor: how the events of an input are converted to lines, for each pipeline that it feeds.
pub trait ProcessorSpec: Send + Sync + 'static {
    /// One shard's own instance.
    fn open(&self, shard: ShardId) -> Box<dyn Processor>;
}

/// Parses and transforms events and produces their lines. Hot: called a few times per batch, allocates nothing per event in
/// steady state.
pub trait Processor {
    /// Prepares for the events of a batch. Work that all pipelines share, such as parsing, is done here once.
    fn begin(&mut self, batch: &Batch);
    /// Adds letters for the events that no pipeline can receive, as found by [`Processor::begin`]. The letters are durable in
    /// the dead letter queue before the batch is appended, and [`Processor::process`] produces no line for these events.
    fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        let _ = (batch, letters);
    }
    /// Appends the lines of the batch for the pipeline at index `place` among those that the input feeds. A line is a JSON
    /// object whose only newline is its last byte.
    fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>);
    /// When it has lines to produce without a batch. Called often.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// Appends lines that are due at `now` for the pipeline at `place`, or with `last` all lines that it will ever have.
    /// Produces at most about a frame per call, and returns true if it must be called again. Never called between
    /// [`Processor::begin`] and the pipelines of a batch, and no batch arrives before it returns false. If the input keeps
    /// order, these lines keep their order relative to those of batches.
    fn tick(&mut self, now: Timestamp, last: bool, place: usize, frames: &mut Frames<'_>) -> bool {
        let _ = (now, last, place, frames);
        false
    }
    /// The lowest position of a source whose events are held for lines that do not exist yet, and that must not be lost with
    /// them. The start of the batch that contained the first of them is precise enough. None if there is no such event. From
    /// this position on, nothing of the source is recorded as read, so it is read again after a crash. Everything before it is
    /// recorded.
    ///
    /// Called for the batch's source after each batch, and for every source with unrecorded positions after [`Processor::tick`]
    /// and whenever [`Processor::let_go`] has changed. After a call with `last` that left nothing to produce, it must hold
    /// nothing. If it still claims to hold events then, that is reported as an error of the input, and they stay unrecorded.
    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let _ = source;
        None
    }
    /// A number that changes when the processor stops holding events of a source other than that of the current batch, outside
    /// of [`Processor::tick`].
    fn let_go(&self) -> u64 {
        0
    }
    /// What was done since the last call. Called after each pipeline.
    fn take_tally(&mut self) -> Tally {
        Tally::default()
    }
}

// --------------------------------------------------------------------------------------------------------------- outputs

/// Validated settings of an output.
pub trait OutputSpec<E: Env>: Send + Sync + 'static {
    /// On which shards it runs. With [`Placement::One`], one instance reads the WALs of all shards.
    fn placement(&self) -> Placement;
    /// Opens an instance, which continues from its own last durable commit: see [`Resume`].
    ///
    /// An instance is identified by the WAL that it writes to. With [`Placement::Every`], each instance gets back its own state
    /// and never another one's. If a WAL is adopted because there are fewer shards, the state of its instance is given to no
    /// instance, although its cursors count for the instance that reads that WAL. With more shards again, an instance whose WAL
    /// still exists gets its old state back, but in the meantime another instance may have delivered from that WAL. Such a
    /// state may therefore be older than the cursors.
    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult>;
    /// Appends what tells whose event it is, for the shares of the dead letter queue: letters of equal names share one. Nothing by
    /// default: then only the share of the output counts. Called only for events that become dead letters.
    fn owner_of(&self, event: &Event<'_>, out: &mut Vec<u8>) {
        let _ = (event, out);
    }
}

/// From where an instance of an output continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The state in its last durable commit. Empty if that commit came before anything was delivered, if the output has commits
    /// but this instance has none, or if damage has destroyed it.
    pub state: Vec<u8>,
    /// Maximum bytes of the lines that are delivered again, which include everything delivered after that commit. An output
    /// that can undo writes removes what it wrote beyond the commit, but only if that is no more than this number: anything
    /// more was not written by this output. None if not everything is delivered again, because damage has destroyed some of it
    /// or the commit itself, or because the log has dropped it: then nothing is undone.
    pub again_bytes: Option<u64>,
}

impl Resume {
    /// For an instance that gets everything again that it received after the commit with `state`.
    pub fn whole(state: Vec<u8>) -> Resume {
        Resume { state, again_bytes: Some(u64::MAX) }
    }
}

/// An opened output, or the reason why it could not be opened.
pub type OpenResult = Result<Box<dyn Output>, PluginError>;

/// The context of an output's instance.
#[derive(Clone)]
pub struct OutputContext<E: Env> {
    /// The environment.
    pub env: E,
    /// The configured name.
    pub name: Arc<str>,
    /// Its number in the WAL.
    pub number: OutputNumber,
    /// The data directory. Files that an output keeps beside the WAL are named `outputs/NUMBER.*` there. They are removed
    /// before another output gets the number.
    pub data_dir: Arc<PathBuf>,
    /// Maximum bytes of state in a commit. A commit with more is refused, and the instance is opened again.
    pub state_bytes_max: usize,
    /// The shutdown control.
    pub stop: Stop,
    /// The counters of this instance. The engine counts `sent` and `discarded`.
    pub counters: Arc<OutputCounters>,
}

/// The result of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// The destination has all of it, or [`Output::commit`] will make it durable there.
    Delivered,
    /// Nothing of it counts. It is retried after the backoff, but not before `after`. The next call of [`Output::deliver`] on
    /// this instance has the same events and a higher [`Delivery::attempt`], or other events and attempt zero if these were
    /// abandoned.
    Retry {
        /// The delay that the destination requested, if any.
        after: Option<Duration>,
        /// What failed, for the operator.
        error: String,
    },
    /// Nothing of it counts, and what was delivered since the last commit may be lost: the instance is dropped and opened again
    /// from that commit. Contains the reason, for the operator.
    Reopen(String),
    /// Delivered, except for events that the destination rejects permanently: (index in the delivery, reason). They are in the
    /// dead letter queue before the cursor passes them.
    Rejected(Vec<(u64, String)>),
}

/// What the destination has not accepted of an abandoned delivery.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Untaken {
    /// Events that would have been retried, by their index in the delivery.
    pub left: Vec<u64>,
    /// Events that it has rejected permanently, and why.
    pub refused: Vec<(u64, String)>,
}

/// One open output.
pub trait Output {
    /// Delivers a batch of at least one event. Not called again before it returns. May be called again with the same events
    /// after [`Outcome::Retry`].
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome>;

    /// Whether the destination accepted or rejected part of the delivery in the attempt that ended with [`Outcome::Retry`]. The
    /// next attempt then waits no longer than the first one did.
    fn has_progressed(&self) -> bool {
        false
    }

    /// Called when a delivery that should be retried is abandoned. Returns what the destination has not accepted. None means
    /// all of it.
    fn give_up(&mut self) -> Option<Untaken> {
        None
    }

    /// Starts to make durable what was delivered so far, so that little is left for the following commit. Deliveries continue
    /// while the future runs. After an error, the instance is dropped and opened again from its last commit.
    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes everything that was delivered durable at the destination and appends to `state` what [`OutputSpec::open`] needs to
    /// continue from here: at most [`crate::limits::commit_state_bytes_max`] bytes, which is less than
    /// [`crate::limits::COMMIT_STATE_BYTES_MAX`] if segments are small or outputs many. A longer state is refused, as if this
    /// call had failed. The engine commits the cursor together with the state. After an error, the instance is dropped and
    /// opened again from its last commit.
    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        let _ = state;
        Box::pin(async { Ok(()) })
    }

    /// Runs about once per second while nothing is delivered, and every few seconds after nothing has been delivered for long:
    /// rotation by age, idle connections.
    fn tick(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Ends the instance after its last commit, which covers everything that it delivered. Not called if the shutdown is
    /// forced.
    fn close(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}
