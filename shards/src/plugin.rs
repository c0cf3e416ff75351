//! The contracts between the engine and what plugs into it: inputs, processors, outputs.
//!
//! A plugin comes as a *spec*: validated settings, `Send + Sync`, the only thing that travels to the cores. Opened on a
//! shard it becomes that shard's own instance, which never leaves it.
//!
//! Guarantees to plugins: batching, retries, cursors, acknowledgement and shutdown are the engine's; a panic in a plugin
//! restarts that plugin from its last ticket or commit and nothing else. Duties of plugins: nothing blocks the executor,
//! queues are bounded, a task that works longer than a slice gives the reactor its turn.
//!
//! Parsers and transforms are a processor's own affair: the engine sees a batch go in and lines come out.

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
    /// What the logs know of this input's sources, by key: every instance gets all of them.
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

// ------------------------------------------------------------------------------------------------------------ processors

/// Validated settings of a processor: how the events of an input become lines, for each pipeline that it feeds.
pub trait ProcessorSpec: Send + Sync + 'static {
    /// One shard's own instance.
    fn open(&self, shard: ShardId) -> Box<dyn Processor>;
}

/// Parses and transforms events and makes their lines. Hot: called a few times a batch, allocates nothing per event in steady
/// state.
pub trait Processor {
    /// Prepares for the events of a batch: what all pipelines share, such as parsing, is done once.
    fn begin(&mut self, batch: &Batch);
    /// Adds the events of the batch that [`Processor::begin`] found no pipeline can have. They are durable in the dead letter
    /// queue before the batch is appended, and [`Processor::process`] makes no line of them.
    fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        let _ = (batch, letters);
    }
    /// Appends the lines of the batch for the pipeline at `place` among those that the input feeds. A line is a JSON object that
    /// holds no newline but its last byte.
    fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>);
    /// When it has lines of its own to make though no batch comes: asked often.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// Appends lines that are due at `now` for the pipeline at `place`; with `last` all lines that it will ever have. No more than
    /// about a frame at a time: true if it has to be called again. Never between [`Processor::begin`] and the pipelines of a batch,
    /// and no batch comes before it says false. Of an input whose order counts, the lines keep their order with those of batches.
    fn tick(&mut self, now: Timestamp, last: bool, place: usize, frames: &mut Frames<'_>) -> bool {
        let _ = (now, last, place, frames);
        false
    }
    /// The lowest position of a source whose events are in lines that are not made yet and must not be lost with them; where the
    /// batch began that brought the first of them is good enough. None if there is no such event. What the source has from there
    /// on is not recorded as read, so that a crash has it read again; what it has before that is recorded.
    ///
    /// Asked of the batch's source after each batch, and of every source that is not recorded after [`Processor::tick`] and
    /// whenever [`Processor::let_go`] has changed. After a call with `last` that left nothing to be made it holds nothing: what
    /// it still claims to hold then is reported as an error of the input, and stays unrecorded.
    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let _ = source;
        None
    }
    /// A number that changes when it stops holding events of another source than that of the batch at hand, outside of
    /// [`Processor::tick`].
    fn let_go(&self) -> u64 {
        0
    }
    /// What was done since the last call of this: asked after each pipeline.
    fn take_tally(&mut self) -> Tally {
        Tally::default()
    }
}

// --------------------------------------------------------------------------------------------------------------- outputs

/// Validated settings of an output.
pub trait OutputSpec<E: Env>: Send + Sync + 'static {
    /// On which shards it runs. With [`Placement::One`] one instance reads the logs of all shards.
    fn placement(&self) -> Placement;
    /// Opens an instance, which goes on from its own last durable commit: see [`Resume`].
    ///
    /// An instance is known by the log that it writes to. With [`Placement::Every`] each gets back its own state and never
    /// another one's: that of an instance whose log is adopted, because there are fewer shards, is given to nobody, although
    /// its cursors count for whoever reads that log. With more shards again, an instance whose log still exists gets the state
    /// that it had, and another one may have delivered from that log meanwhile. So such a state may be older than the cursors.
    fn open(&self, context: OutputContext<E>, resume: Resume) -> LocalFuture<'static, OpenResult>;
}

/// What an instance of an output goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// What its last durable commit carried. Empty where that commit came before anything was delivered, where the output has
    /// commits and this instance has none, and where damage has taken it.
    pub state: Vec<u8>,
    /// Bytes of the lines that come again: at most so many, and all that was delivered after that commit are among them. What was
    /// written beyond the commit is undone by outputs that can, if it is no more than that: what is more is not theirs. None where
    /// not all comes again, since damage has taken some of it or the commit itself, or the log has let go of it: then nothing is
    /// undone.
    pub again_bytes: Option<u64>,
}

impl Resume {
    /// Of an instance that gets again whatever it was given after the commit that carried `state`.
    pub fn whole(state: Vec<u8>) -> Resume {
        Resume { state, again_bytes: Some(u64::MAX) }
    }
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
    /// Most bytes that a commit may carry of its state. A larger one is refused, and the instance is opened again.
    pub state_bytes_max: usize,
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
    /// Nothing of it counts; it is tried again after the backoff, not before `after`. The next call of [`Output::deliver`] on
    /// this instance has the same events and a higher [`Delivery::attempt`], or others and attempt zero if these were given up.
    Retry {
        /// The destination's own wish, if it said one.
        after: Option<Duration>,
        /// What failed, for the operator.
        error: String,
    },
    /// Nothing of it counts, and what was delivered since the last commit may be lost: the instance is dropped and opened
    /// again from that commit. Says why, for the operator.
    Reopen(String),
    /// Delivered, apart from events that the destination refuses for good: (index in the delivery, reason). They are in the
    /// dead letter queue before the cursor passes them.
    Rejected(Vec<(u64, String)>),
}

/// What the destination has not taken of a delivery that is given up.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Untaken {
    /// Events that would have been tried again, by their index in the delivery.
    pub left: Vec<u64>,
    /// Events that it has refused for good, and why.
    pub refused: Vec<(u64, String)>,
}

/// One open output.
pub trait Output {
    /// Delivers a batch of events, at least one. Not called again before it returns; may be called again with the same events after
    /// [`Outcome::Retry`].
    fn deliver<'a>(&'a mut self, delivery: &'a Delivery<'a>) -> LocalFuture<'a, Outcome>;

    /// Whether the attempt that ended with [`Outcome::Retry`] got some of the delivery taken or refused: then the next one does
    /// not wait longer than the first did.
    fn has_progressed(&self) -> bool {
        false
    }

    /// The delivery that was to be tried again is given up: what the destination has not taken of it. None: all of it.
    fn give_up(&mut self) -> Option<Untaken> {
        None
    }

    /// Starts to make durable what was delivered so far, so that the commit that follows finds little to do. Deliveries go on
    /// while the future runs. After an error the instance is dropped and opened again from its last commit.
    fn begin_sync(&mut self) -> LocalFuture<'static, Result<(), PluginError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes all that was delivered durable at the destination and appends to `state` what [`OutputSpec::open`] needs to
    /// continue from here: at most [`crate::limits::commit_state_bytes_max`] bytes, which is less than
    /// [`crate::limits::COMMIT_STATE_BYTES_MAX`] where segments are small or outputs many. A longer state is refused, as if this
    /// had failed. The engine commits the cursor together with the state. After an error the instance is dropped and opened again from its last commit.
    fn commit<'a>(&'a mut self, state: &'a mut Vec<u8>) -> LocalFuture<'a, Result<(), PluginError>> {
        let _ = state;
        Box::pin(async { Ok(()) })
    }

    /// Runs about once a second while nothing is delivered, every few seconds once nothing was delivered for long: rotation by
    /// age, idle connections.
    fn tick(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Ends the instance after its last commit, which covers all that it delivered. Not called where the end is forced.
    fn close(&mut self) -> LocalFuture<'_, ()> {
        Box::pin(async {})
    }
}
