//! A shard: everything that runs on one core, how it is connected, and the order of its shutdown.
//!
//! Guarantees: the shutdown follows the life of an event: inputs stop, lanes empty into the WAL, the WAL is synced, deliveries
//! drain and commit, the WAL is synced and closed. Each step waits for the previous one. A forced shutdown takes the same steps
//! but waits for no disk: what is in the WAL stays there. After a panic, an input restarts from what its shard has recorded.
//! Does not choose what runs where: [`crate::engine`] does.

use crate::counters::{Discarded, OutputCounters, PipelineCounters, ShardCounters};
use crate::delivery::gate::Gatekeeper;
use crate::delivery::source::LogReader;
use crate::delivery::{Deliverer, DeliveryOptions, DeliveryParts, OutputFull};
use crate::dlq;
use crate::dlq::clerk::{Clerk, ClerkParts};
use crate::env::{Disk, Env, Pool, Sabotage, ShardId};
use crate::intake::{Intake, IntakeLane, IntakeParts};
use crate::keeper::{Keeper, KeeperParts};
use crate::mesh::{InputEnds, ShardEnds};
use crate::pipeline::{InputPath, PipelineRef};
use crate::plugin::{InputContext, InputSpec, Lanes, OutputContext, OutputSpec, Placement, PluginError, ProcessorSpec};
use crate::retry::{Backoff, RetryOptions};
use crate::service::{Service, Services};
use crate::signal::Signal;
use crate::stop::{Countdown, Phase, Stop};
use crate::wal::log::{Log, Reader};
use crate::wal::manifest::DataDirectory;
use crate::wal::positions::SourceTable;
use crate::wal::recovery::RecoveredLog;
use crate::wal::writer::{LogState, Writer};
use crate::wal::{Commit, LogId, OutputNumber, Position, Sequence, SourceState, WalError, WalOptions};
use event_listener::Event;
use futures_lite::FutureExt;
use futures_lite::future::or;
use std::cell::Cell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An input, as every shard knows it.
pub struct ShardInput<E: Env> {
    /// Its configured name.
    pub name: Arc<str>,
    /// The input's specification.
    pub spec: Arc<dyn InputSpec<E>>,
    /// How its events are converted to lines.
    pub processor: Arc<dyn ProcessorSpec>,
    /// The pipelines it feeds.
    pub pipelines: Vec<PipelineRef>,
    /// For each shard, the number of outputs fed by it that have their only instance there.
    pub deliverers: Arc<[u64]>,
    /// What the WALs know about its sources.
    pub resume: Arc<Vec<SourceState>>,
    /// What they know of the sources of inputs that are not configured any more.
    pub orphans: Arc<Vec<SourceState>>,
}

/// A WAL that an output reads.
pub enum ReadLog<D: Disk> {
    /// The WAL that a shard writes.
    Active(ShardId),
    /// A WAL without a writer, and the output's claim on it. The claim is made before any shard runs, so that no shard removes
    /// the WAL before another has begun to read it.
    Adopted(Arc<Log<D>>, Arc<Reader>),
}

/// Where the shards publish the WALs that they have opened.
pub struct LogBoard<D: Disk> {
    /// Number of outputs of the plan. One instance of each output reads every WAL.
    outputs: usize,
    logs: Mutex<Vec<Option<Arc<Log<D>>>>>,
    posted: Event,
}

impl<D: Disk> LogBoard<D> {
    /// A board for this many shards and outputs.
    pub fn new(shards: usize, outputs: usize) -> LogBoard<D> {
        LogBoard { outputs, logs: Mutex::new(vec![None; shards]), posted: Event::new() }
    }

    /// The WAL of a shard, after the shard has opened it.
    pub fn get(&self, shard: ShardId) -> Option<Arc<Log<D>>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)[shard.index()].clone()
    }

    fn post(&self, shard: ShardId, log: Arc<Log<D>>) {
        self.recycle_if_complete(&log);
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)[shard.index()] = Some(log);
        self.posted.notify(usize::MAX);
    }

    /// Segments are recycled after every output has registered its claim.
    fn recycle_if_complete(&self, log: &Log<D>) {
        if log.reader_count() >= self.outputs {
            log.allow_recycling();
        }
    }

    async fn wait_for_all(&self, shards: usize) {
        for shard in 0..shards {
            self.wait_for(ShardId(u16::try_from(shard).expect("the number of shards is capped"))).await;
        }
    }

    async fn wait_for(&self, shard: ShardId) -> Arc<Log<D>> {
        loop {
            let listener = self.posted.listen();
            if let Some(log) = self.get(shard) {
                return log;
            }
            listener.await;
        }
    }
}

/// How a shard opens its WAL.
pub struct WriterSeed<D: Disk> {
    /// Where its files are.
    pub disk: D,
    /// Settings.
    pub options: WalOptions,
    /// What recovery found in it.
    pub recovered: RecoveredLog<D>,
    /// The state with which it continues.
    pub state: LogState,
    /// A sequence up to which earlier starts may have assigned numbers.
    pub floor: Sequence,
}

/// An instance of an output that has not been opened on its shard yet.
pub struct ShardOutput<E: Env> {
    /// Its configured name.
    pub name: Arc<str>,
    /// Its number in the WAL.
    pub number: OutputNumber,
    /// The output's specification.
    pub spec: Arc<dyn OutputSpec<E>>,
    /// Limits and policies.
    pub options: DeliveryOptions,
    /// The WALs and the first undelivered event in each. Adopted WALs come first.
    pub logs: Vec<(ReadLog<E::Disk>, Position)>,
    /// Its last commit: with the highest number of all instances, and its own state.
    pub resume: Commit,
    /// See [`crate::plugin::Resume::again_bytes`].
    pub again_bytes: Option<u64>,
    /// Its counters.
    pub counters: Arc<OutputCounters>,
    /// The gate at which its instances wait for each other.
    pub gate: Gatekeeper,
}

/// The parts of one shard, before it starts on its core.
pub struct ShardSeed<E: Env> {
    /// Which shard.
    pub shard: ShardId,
    /// Number of shards of the process.
    pub shards: usize,
    /// Its WAL.
    pub writer: WriterSeed<E::Disk>,
    /// The WALs of all shards.
    pub board: Arc<LogBoard<E::Disk>>,
    /// All inputs. A lane refers to its input by the index here.
    pub inputs: Arc<Vec<ShardInput<E>>>,
    /// The lanes and the instances of inputs that run here.
    pub ends: ShardEnds,
    /// The instances of outputs that run here.
    pub outputs: Vec<ShardOutput<E>>,
    /// The data directory, locked.
    pub directory: Arc<DataDirectory<E::Disk>>,
    /// Adopted WALs that this shard removes when they are delivered.
    pub adopted: Vec<Arc<Log<E::Disk>>>,
    /// Services that run here.
    pub services: Vec<Arc<dyn Service<E>>>,
    /// Running inputs of all shards.
    pub inputs_running: Arc<Countdown>,
    /// Running intakes of all shards.
    pub intakes_running: Arc<Countdown>,
    /// Events that outputs with the policy `sample` lost here, by output number.
    pub wal_full: Arc<[Discarded]>,
    /// The counters of each pipeline on this shard.
    pub pipelines: Arc<[PipelineCounters]>,
    /// The shard's counters.
    pub counters: Arc<ShardCounters>,
    /// The data directory.
    pub data_dir: Arc<PathBuf>,
    /// Settings of the dead letter queue.
    pub dead_letters: dlq::Options,
    /// The shutdown control.
    pub stop: Stop,
}

/// How a failed input is restarted.
const INPUT_RETRY: RetryOptions = RetryOptions {
    initial: Duration::from_millis(500),
    max: Duration::from_secs(30),
    after_max: Duration::ZERO,
    age_max: None,
};

/// How often adopted WALs are checked.
const RETIRE_INTERVAL: Duration = Duration::from_secs(1);

impl<E: Env> ShardSeed<E> {
    /// Runs the shard to its end.
    pub async fn run(self, env: E) {
        let ShardSeed { shard, shards, writer, inputs, ends, outputs, adopted, services, .. } = self;
        let (stop, counters) = (self.stop, self.counters);
        let ShardEnds { inputs: instances, lanes, ready } = ends;
        let keeper = match open_log(&env, writer, &lanes, &stop, &counters) {
            Ok(keeper) => keeper,
            Err(error) => return stop.fail(error.to_string()),
        };
        // Frames that earlier starts left unsynced count as durable only after this, and adopted logs may be removed only after
        // it.
        if !unless_forced(&stop, settle(&env, &keeper, &self.directory, &stop)).await {
            return;
        }
        keeper.start();
        self.board.post(shard, keeper.log().clone());

        let clerk = open_queue(&env, &self.data_dir, shards, self.dead_letters, &counters);
        let sampled = outputs.iter().filter(|output| output.options.when_full == OutputFull::Sample);
        let sampled_outputs = sampled.fold(0, |mask, output| mask | output.number.bit());
        let delivering = Rc::new(Delivering { left: Cell::new(outputs.len()), ended: Signal::new() });
        let starter = OutputStarter {
            env: &env,
            keeper: &keeper,
            clerk: &clerk,
            board: &self.board,
            intakes: &self.intakes_running,
            data_dir: &self.data_dir,
            stop: &stop,
        };
        for output in outputs {
            starter.start(output, &delivering);
        }
        retire_adopted(&env, adopted, &self.board, &self.directory, &stop);
        let starter = InputStarter {
            env: &env,
            shards,
            keeper: &keeper,
            board: &self.board,
            stop: &stop,
            running: &self.inputs_running,
        };
        for ends in instances {
            starter.start(&inputs, ends, &counters, &self.data_dir);
        }
        let services = Services::start(&env, &stop, &services);

        let open = |input: &ShardInput<E>| {
            InputPath::new(input.processor.open(shard), input.pipelines.clone(), self.pipelines.clone())
        };
        let intake = Intake::new(IntakeParts {
            env: env.clone(),
            lanes,
            paths: inputs.iter().map(open).collect(),
            keeper: keeper.clone(),
            clerk: clerk.clone(),
            ready,
            stop: stop.clone(),
            sampled_outputs,
            wal_full: self.wal_full,
        });
        intake.run().await;
        unless_forced(&stop, keeper.sync()).await;
        self.intakes_running.end_one();
        delivering.all_ended().await;
        unless_forced(&stop, clerk.close()).await;
        keeper.close().await;
        services.end().await;
        tracing::debug!(shard = shard.0, "shard ended");
    }
}

/// Time between attempts to record a new WAL in the manifest of a full disk.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// Makes the content of the WAL durable, and records in the manifest that it has segments: without them, it counts as lost. If
/// the disk has no space for that, delivery does not wait for it, since that may be what frees space: it is recorded later.
async fn settle<E: Env>(env: &E, keeper: &Keeper<E>, directory: &Arc<DataDirectory<E::Disk>>, stop: &Stop) {
    keeper.sync().await;
    let id = keeper.log().id();
    if directory.is_unwritten(id) {
        let directory = directory.clone();
        if let Err(error) = record(env, &directory, id).await {
            tracing::warn!(%error, "a new write-ahead log cannot be recorded in the manifest; trying again every second");
            let (env, stop) = (env.clone(), stop.clone());
            env.clone().spawn("manifest", async move {
                let recorded = async {
                    while record(&env, &directory, id).await.is_err() {
                        env.sleep(RECORD_INTERVAL).await;
                    }
                };
                // A stop does not wait for space: the next start records it.
                or(recorded, stop.reached(Phase::Draining)).await;
            });
        }
    }
}

async fn record<E: Env>(env: &E, directory: &Arc<DataDirectory<E::Disk>>, id: LogId) -> Result<(), WalError> {
    let directory = directory.clone();
    env.blocking_in(Pool::Log, move || directory.log_has_begun(id)).await
}

/// Runs `work` to its end unless the shutdown is forced, which waits for no disk. Returns whether `work` finished.
async fn unless_forced(stop: &Stop, work: impl Future<Output = ()>) -> bool {
    let done = async {
        work.await;
        true
    };
    let forced = async {
        stop.reached(Phase::Forced).await;
        false
    };
    or(done, forced).await
}

fn open_log<E: Env>(
    env: &E,
    seed: WriterSeed<E::Disk>,
    lanes: &[IntakeLane],
    stop: &Stop,
    counters: &Arc<ShardCounters>,
) -> Result<Rc<Keeper<E>>, WalError> {
    let WriterSeed { disk, options, recovered, state, floor } = seed;
    let writer = Writer::open_on(disk, env.clone(), options.clone(), recovered, state, floor)?;
    writer.recent().show_in(counters.clone());
    Ok(Keeper::new(KeeperParts {
        env: env.clone(),
        writer,
        options,
        acknowledgers: lanes.iter().map(|lane| lane.receiver.acknowledger()).collect(),
        stop: stop.clone(),
        counters: counters.clone(),
    }))
}

fn open_queue<E: Env>(
    env: &E,
    data_dir: &Arc<PathBuf>,
    shards: usize,
    options: dlq::Options,
    counters: &Arc<ShardCounters>,
) -> Rc<Clerk<E>> {
    let (env, data_dir, counters) = (env.clone(), data_dir.clone(), counters.clone());
    Clerk::start(ClerkParts { env, data_dir, shards, options, counters })
}

/// Running deliveries of a shard.
struct Delivering {
    left: Cell<usize>,
    ended: Signal,
}

impl Delivering {
    async fn all_ended(&self) {
        while self.left.get() > 0 {
            self.ended.wait().await;
        }
    }
}

struct OutputStarter<'a, E: Env> {
    env: &'a E,
    keeper: &'a Rc<Keeper<E>>,
    clerk: &'a Rc<Clerk<E>>,
    board: &'a Arc<LogBoard<E::Disk>>,
    intakes: &'a Arc<Countdown>,
    data_dir: &'a Arc<PathBuf>,
    stop: &'a Stop,
}

impl<E: Env> OutputStarter<'_, E> {
    fn start(&self, output: ShardOutput<E>, delivering: &Rc<Delivering>) {
        let context = OutputContext {
            env: self.env.clone(),
            name: output.name.clone(),
            number: output.number,
            data_dir: self.data_dir.clone(),
            state_bytes_max: self.keeper.with_writer(|writer| writer.state_bytes_max(output.logs.len())),
            stop: self.stop.clone(),
            counters: output.counters.clone(),
        };
        let (keeper, board, intakes) = (self.keeper.clone(), self.board.clone(), self.intakes.clone());
        let clerk = self.clerk.clone();
        let (stop, delivering) = (self.stop.clone(), delivering.clone());
        self.env.spawn("delivery", async move {
            let forced = async {
                stop.reached(Phase::Forced).await;
                None
            };
            let opened = async { Some(open_readers(&output, &board).await) };
            if let Some((readers, news)) = or(opened, forced).await {
                let ShardOutput { spec, options, resume, again_bytes, gate, .. } = output;
                let instance = (spec.placement() == Placement::Every).then(|| keeper.log().id());
                let parts = DeliveryParts {
                    spec,
                    context,
                    options,
                    readers,
                    keeper,
                    clerk,
                    instance,
                    resume,
                    again_bytes,
                    news,
                    intakes,
                    gate,
                };
                Deliverer::new(parts).run().await;
            }
            delivering.left.set(delivering.left.get() - 1);
            delivering.ended.notify();
        });
    }
}

async fn open_readers<E: Env>(
    output: &ShardOutput<E>,
    board: &LogBoard<E::Disk>,
) -> (Vec<LogReader<E::Disk>>, Arc<Signal>) {
    let news = Arc::new(Signal::new());
    let mut readers = Vec::new();
    for (from, position) in &output.logs {
        let (log, claim) = match from {
            ReadLog::Active(shard) => {
                let log = board.wait_for(*shard).await;
                let claim = log.register_as(&output.name, *position, news.clone());
                (log, claim)
            }
            ReadLog::Adopted(log, claim) => (log.clone(), claim.clone()),
        };
        let reader = LogReader::new(log.clone(), claim, output.number, *position);
        match from {
            ReadLog::Active(_) => {
                board.recycle_if_complete(&log);
                readers.push(reader);
            }
            ReadLog::Adopted(..) => readers.push(reader.of_adopted()),
        }
    }
    (readers, news)
}

/// Removes adopted WALs that every output has passed: by then their positions are in the snapshots of the active WALs.
fn retire_adopted<E: Env>(
    env: &E,
    mut adopted: Vec<Arc<Log<E::Disk>>>,
    board: &Arc<LogBoard<E::Disk>>,
    directory: &Arc<DataDirectory<E::Disk>>,
    stop: &Stop,
) {
    if adopted.is_empty() {
        return;
    }
    let (world, directory, stop) = (env.clone(), directory.clone(), stop.clone());
    let board = board.clone();
    env.spawn("adopted logs", async move {
        // The first shard's log takes over their positions. It is published when that is durable.
        or(board.wait_for_all(1), stop.reached(Phase::Forced)).await;
        while !adopted.is_empty() && stop.phase() < Phase::Forced {
            world.sleep(RETIRE_INTERVAL).await;
            for log in adopted.extract_if(.., |log| log.is_passed() || E::Disk::sabotaged(Sabotage::RetireEarly)) {
                let (directory, id) = (directory.clone(), log.id());
                match world.blocking_in(Pool::Log, move || directory.remove_log(id)).await {
                    Ok(()) => tracing::info!(log = id.0, "a write-ahead log without a shard has been delivered and is removed"),
                    Err(error) => tracing::warn!(%error, "a write-ahead log without a shard has been delivered but cannot be removed"),
                }
            }
        }
    });
}

struct InputStarter<'a, E: Env> {
    env: &'a E,
    shards: usize,
    keeper: &'a Rc<Keeper<E>>,
    board: &'a Arc<LogBoard<E::Disk>>,
    stop: &'a Stop,
    running: &'a Arc<Countdown>,
}

impl<E: Env> InputStarter<'_, E> {
    fn start(
        &self,
        inputs: &Arc<Vec<ShardInput<E>>>,
        ends: InputEnds,
        shard: &Arc<ShardCounters>,
        data_dir: &Arc<PathBuf>,
    ) {
        let InputEnds { input, lanes, spread_ranges, peers, counters } = ends;
        let resume = inputs[input].resume.clone();
        let lanes = Lanes::over_logs(self.env.clone(), lanes, resume, spread_ranges);
        let context = InputContext {
            env: self.env.clone(),
            name: inputs[input].name.clone(),
            shards: match inputs[input].spec.placement() {
                Placement::One => 1,
                Placement::Every => self.shards,
            },
            deliverers: inputs[input].deliverers.clone(),
            resume: inputs[input].resume.clone(),
            orphans: inputs[input].orphans.clone(),
            data_dir: data_dir.clone(),
            lanes: lanes.clone(),
            peers: Rc::new(peers.open(self.env.shard())),
            stop: self.stop.clone(),
            counters: counters.clone(),
        };
        let (inputs, keeper, running) = (inputs.clone(), self.keeper.clone(), self.running.clone());
        let (stop, shard) = (self.stop.clone(), shard.clone());
        let (board, shards) = (self.board.clone(), self.shards);
        self.env.spawn("input", async move {
            // The positions from which an input continues may be in another shard's log, which makes them durable when it
            // opens. If reading continued before that, a power loss could leave a gap before what this shard has recorded.
            or(board.wait_for_all(shards), stop.reached(Phase::Forced)).await;
            run_input(&inputs[input], context, &keeper, &shard).await;
            lanes.settle().await;
            lanes.finish();
            if running.end_one() {
                // Nothing is left to read: the process ends after everything has been delivered.
                stop.enter(Phase::Draining);
            }
        });
    }
}

fn sources_of(state: &LogState, input: &str) -> Vec<SourceState> {
    state.sources.iter().filter(|state| *state.source.input == *input).cloned().collect()
}

/// Runs an input until it ends. After a failure or a panic, it is restarted from what this shard has recorded.
async fn run_input<E: Env>(
    input: &ShardInput<E>,
    mut context: InputContext<E>,
    keeper: &Rc<Keeper<E>>,
    shard: &ShardCounters,
) {
    let mut backoff = Backoff::new(INPUT_RETRY);
    loop {
        let message = match AssertUnwindSafe(input.spec.run(context.clone())).catch_unwind().await {
            Ok(Ok(())) => return,
            Ok(Err(PluginError::Fatal(message))) => {
                return context.stop.fail(format!("input {}: {message}", input.name));
            }
            Ok(Err(PluginError::Retry(message))) => message,
            Err(_) if context.shards > 1 => {
                // Its instances on other shards depend on its state, which only a restart of the process restores from the logs.
                return context.stop.fail(format!("input {} panicked on shard {}", input.name, context.env.shard().0));
            }
            Err(_) => {
                shard.plugin_panics.add(1);
                "the input panicked and is restarted".to_owned()
            }
        };
        context.error(&message);
        let pause = context.env.sleep(backoff.next(context.env.random(), None));
        or(pause, context.stop.reached(Phase::Draining)).await;
        if context.stop.is_asked() {
            return;
        }
        // The positions do not contain a batch that the intake still holds: it would be read twice.
        or(context.lanes.settled(), context.stop.reached(Phase::Forced)).await;
        if context.stop.phase() < Phase::Forced {
            context.lanes.recount();
        }
        // Both are needed: an earlier start may have recorded positions of a source in another shard's log.
        let mut known = SourceTable::new();
        input.resume.iter().for_each(|state| known.absorb(state.clone()));
        keeper
            .with_writer(|writer| sources_of(writer.state(), &input.name))
            .into_iter()
            .for_each(|state| known.absorb(state));
        known.merge(context.lanes.spread_positions());
        let resume = known.into_states().collect();
        context.resume = Arc::new(resume);
    }
}
