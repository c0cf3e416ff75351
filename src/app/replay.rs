//! Replay: sends dead letters of outputs to outputs again, through a separate engine.
//!
//! Guarantees: a letter counts as delivered once its delivery is committed. A letter that is rejected again is in the dead letter
//! queue of the replay's own directory with the new reason. No policy drops letters, so delivered and rejected letters add up to
//! those that were sent. The WAL of the replay is in memory: the segments that it reads stay unchanged until the caller knows the
//! result. Does not select letters and removes none.

use super::{RunError, data_dir, delivery_options, ending, host_name, log_disk};
use crate::config;
use crate::config::component::Facts;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tailwater_shards::batch::{Batch, EventSpan, Source, SourceKey, SourceRange};
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::dlq::segment::{Position, Segment, WINDOW_BYTES};
use tailwater_shards::dlq::{self, DeadLetter};
use tailwater_shards::engine::{self, InputPlan, OutputPlan, PipelinePlan};
use tailwater_shards::env::{Env, File, ShardId, Timestamp};
use tailwater_shards::glommio_env::{GlommioEnv, allowed_cpus, install_map_fault_handler, io_uring_allowed, launch};
use tailwater_shards::lane::{LaneOptions, WhenFull};
use tailwater_shards::limits;
use tailwater_shards::plugin::{
    Frames, InputContext, InputSpec, LocalFuture, Placement, PluginError, Processor, ProcessorSpec,
};
use tailwater_shards::route::ShardBy;
use tailwater_shards::shard::ShardSeed;
use tailwater_shards::stop::{Phase, Stop};
use tailwater_shards::wal::{SyncPolicy, WalOptions, WalType};

/// Selects letters.
pub type Choice = Arc<dyn Fn(&DeadLetter<'_>) -> bool + Send + Sync>;

/// The letters for one output.
pub struct Job {
    /// Index of the output in the configuration's plan.
    pub output: usize,
    /// Selects the letters for it from all that are in the segments.
    pub choice: Choice,
}

/// The input of a replay.
pub struct Replay {
    /// Segments to read.
    pub segments: Vec<PathBuf>,
    /// The number of letters in them that are to be sent.
    pub letters: u64,
    /// Which letters go to which output.
    pub jobs: Vec<Job>,
    /// The length of the longest line among them, in bytes.
    pub longest: usize,
    /// A directory for this replay only; letters that are rejected again are in its `dlq`.
    pub directory: PathBuf,
}

/// The result of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Letters that an output delivered.
    pub delivered: u64,
    /// Letters that became dead letters again.
    pub refused: u64,
    /// Whether it completed, so that every letter is in one of the two counts.
    pub whole: bool,
}

/// Runs a replay until it is complete. Forcing `stop` ends it early.
pub fn replay(plan: &config::Plan, replay: Replay, stop: Stop) -> Result<Replayed, RunError> {
    io_uring_allowed().map_err(|refusal| RunError::Forbidden(format!("{}\n{}", refusal.detail(), refusal.fix())))?;
    let letters = replay.letters;
    install_map_fault_handler()
        .map_err(|error| RunError::Failed(format!("cannot install the handler for faults in mapped files: {error}")))?;
    let engine_plan = engine_plan(plan, replay);
    // It lies in the data directory, whose start reports who could replace that.
    data_dir::prepare(&engine_plan.data_dir)?;
    let (disk, directory) = log_disk(&engine_plan)?;
    let engine = engine::prepare::<GlommioEnv>(&disk, engine_plan, super::now(), stop.clone())
        .map_err(|error| super::refused(error, &[], &[]))?;
    let meters = engine.meters.clone();
    let seeds: Arc<Mutex<Vec<Option<ShardSeed<GlommioEnv>>>>> =
        Arc::new(Mutex::new(engine.seeds.into_iter().map(Some).collect()));
    let drivers = launch(&[allowed_cpus().first().copied()], move |env: GlommioEnv| {
        let seed = seeds.lock().unwrap_or_else(PoisonError::into_inner)[env.shard().index()].take();
        async move {
            if let Some(seed) = seed {
                seed.run(env).await;
            }
        }
    })
    .map_err(|error| RunError::Failed(error.to_string()))?;
    let ended = ending::outlast(drivers, directory, &stop, ending::FORCED_END)?;
    if let Some(failure) = stop.failure() {
        return Err(RunError::Failed(failure));
    }
    let sum = |of: fn(&engine::OutputMeter) -> u64| meters.outputs.iter().map(of).sum::<u64>();
    let received: u64 = meters.inputs.iter().map(|input| input.counters.received_events.get()).sum();
    // Events that an output sent before it went back to its last commit are sent again and counted twice.
    let again = sum(|meter| meter.counters.recovered_events.get());
    let refused = sum(|meter| meter.counters.dead_lettered_total());
    let passed = (sum(|meter| meter.counters.sent_events.get()) + refused).saturating_sub(again);
    let whole = ended && stop.phase() < Phase::Forced && passed >= received && received >= letters;
    Ok(Replayed { delivered: passed.saturating_sub(refused), refused, whole })
}

fn engine_plan(plan: &config::Plan, replay: Replay) -> engine::Plan<GlommioEnv> {
    let Replay { segments, jobs, longest, directory, letters: _ } = replay;
    let facts = Facts { timezone: plan.timezone.clone(), ..Facts::of(host_name()) };
    let segments: Arc<[PathBuf]> = segments.into();
    let inputs = jobs.iter().enumerate().map(|(index, job)| InputPlan::<GlommioEnv> {
        name: format!("letters of {}", plan.outputs[job.output].name).into(),
        spec: Arc::new(LetterInput { segments: segments.clone(), choice: job.choice.clone() }),
        processor: Arc::new(AsTheyWere),
        shard_by: ShardBy::Source,
        lane: LaneOptions { bytes: limits::LANE_BYTES_DEFAULT, when_full: WhenFull::Block },
        pipelines: vec![index],
        was: None,
    });
    let outputs = jobs.iter().map(|job| {
        let output = &plan.outputs[job.output];
        OutputPlan {
            name: output.name.as_str().into(),
            spec: output.settings.spec::<GlommioEnv>(&facts, &output.name),
            // The WAL of a replay is small: an output that may drop its oldest events would drop letters.
            options: tailwater_shards::delivery::DeliveryOptions {
                when_full: OutputFull::Block,
                letters_full: None,
                ..delivery_options(&output.settings)
            },
            was: None,
        }
    });
    let pipelines = jobs
        .iter()
        .enumerate()
        .map(|(index, job)| PipelinePlan { name: plan.outputs[job.output].name.as_str().into(), outputs: vec![index] });
    let frame = limits::frame_bytes_max(0) + longest + limits::FRAME_OVERHEAD_BYTES_MAX;
    let segment_bytes = (2 * frame as u64).next_multiple_of(limits::SEGMENT_BYTES_MIN);
    engine::Plan {
        data_dir: directory,
        shards: 1,
        wal: WalOptions {
            kind: WalType::Memory,
            sync: SyncPolicy::Interval(Duration::from_millis(100)),
            segment_bytes,
            log_bytes: 4 * segment_bytes,
        },
        dead_letters: dlq::Options {
            bytes_max: u64::MAX / 2,
            segment_bytes: plan.dead_letters.segment_bytes,
            when_full: dlq::WhenFull::Block,
        },
        inputs: inputs.collect(),
        pipelines: pipelines.collect(),
        outputs: outputs.collect(),
        services: Vec::new(),
        given_up: Vec::new(),
    }
}

/// Bytes in front of an event inside the replay: its timestamp.
const STAMP_BYTES: usize = 8;

/// Reads the selected letters from segments.
struct LetterInput {
    segments: Arc<[PathBuf]>,
    choice: Choice,
}

impl<E: Env> InputSpec<E> for LetterInput {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>> {
        let (segments, choice) = (self.segments.clone(), self.choice.clone());
        Box::pin(async move {
            let mut sender = Sender::new(context);
            for path in segments.iter() {
                let (disk, file) = (sender.context.env.disk().clone(), path.clone());
                let opened = sender.context.env.blocking(move || Segment::open(&disk, &file)).await;
                let segment = Arc::new(opened.map_err(|error| unreadable(path, &error))?);
                let mut chosen = Chosen::default();
                while chosen.more {
                    let (segment, choice) = (segment.clone(), choice.clone());
                    let read = sender.context.env.blocking(move || chosen.read(&segment, &choice)).await;
                    chosen = read.map_err(|error| unreadable(path, &error))?;
                    for (timestamp, line) in chosen.lines() {
                        sender.send(timestamp, line).await;
                        if sender.context.stop.is_asked() {
                            return Ok(());
                        }
                    }
                }
            }
            sender.flush().await;
            Ok(())
        })
    }
}

/// Selected letters from a part of a segment.
struct Chosen {
    place: Position,
    more: bool,
    bytes: Vec<u8>,
    /// When each happened and where its line ends.
    ends: Vec<(Timestamp, usize)>,
}

impl Default for Chosen {
    fn default() -> Chosen {
        Chosen { place: Position::default(), more: true, bytes: Vec::new(), ends: Vec::new() }
    }
}

impl Chosen {
    /// Reads the letters of the next part.
    fn read<F: File>(mut self, segment: &Segment<F>, choice: &Choice) -> std::io::Result<Chosen> {
        self.bytes.clear();
        self.ends.clear();
        let (bytes, ends) = (&mut self.bytes, &mut self.ends);
        self.more = segment.letters_from(&mut self.place, WINDOW_BYTES as u64, |kept| {
            if choice(&kept.letter) {
                bytes.extend_from_slice(kept.letter.original);
                ends.push((kept.letter.timestamp, bytes.len()));
            }
        })?;
        Ok(self)
    }

    fn lines(&self) -> impl Iterator<Item = (Timestamp, &[u8])> {
        let begins = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        self.ends.iter().zip(begins).map(|((timestamp, end), begin)| (*timestamp, &self.bytes[begin..*end]))
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> PluginError {
    PluginError::Fatal(format!("{}: {error}", path.display()))
}

struct Sender<E: Env> {
    context: InputContext<E>,
    source: Arc<Source>,
    batch: Option<Box<Batch>>,
    sent: u64,
}

impl<E: Env> Sender<E> {
    fn new(context: InputContext<E>) -> Sender<E> {
        let source = Source {
            key: SourceKey(1),
            input: context.name.clone(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: false,
        };
        Sender { context, source: Arc::new(source), batch: None, sent: 0 }
    }

    async fn send(&mut self, timestamp: Timestamp, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let bytes = STAMP_BYTES + line.len();
        let full = |batch: &Batch| {
            batch.events.len() == limits::BATCH_EVENTS_MAX || batch.chunk.bytes().len() + bytes > batch.chunk.capacity()
        };
        if self.batch.as_deref().is_some_and(full) {
            self.flush().await;
        }
        let lanes = self.context.lanes.clone();
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None if bytes > limits::CHUNK_BYTES => lanes.large_batch(&self.source, bytes).await,
            None => lanes.batch(&self.source).await,
        };
        let start = batch.chunk.bytes().len();
        let room = batch.chunk.spare();
        room[..STAMP_BYTES].copy_from_slice(&timestamp.0.to_le_bytes());
        room[STAMP_BYTES..bytes].copy_from_slice(line);
        batch.chunk.set_length(start + bytes);
        batch.events.push(EventSpan { start: start as u32, end: (start + bytes) as u32 });
        self.batch = Some(batch);
    }

    async fn flush(&mut self) {
        let Some(mut batch) = self.batch.take() else { return };
        let from = self.sent;
        self.sent += batch.chunk.bytes().len() as u64;
        batch.range = SourceRange { from, to: self.sent, marker: 0 };
        batch.received = self.context.env.wall();
        // The lane blocks when it is full, so nothing is dropped.
        let _ = self.context.lanes.send(batch).await;
        if self.context.env.slice_used() {
            self.context.env.turn().await;
        }
    }
}

/// Writes events that are already lines without changing them.
struct AsTheyWere;

impl ProcessorSpec for AsTheyWere {
    fn open(&self, _: ShardId) -> Box<dyn Processor> {
        Box::new(AsTheyWere)
    }
}

impl Processor for AsTheyWere {
    fn begin(&mut self, _: &Batch) {}

    fn process(&mut self, batch: &Batch, _: usize, frames: &mut Frames<'_>) {
        for index in 0..batch.events.len() {
            let Some((stamp, line)) = batch.event(index).split_first_chunk::<STAMP_BYTES>() else { continue };
            let out = frames.line();
            out.extend_from_slice(line);
            out.push(b'\n');
            frames.end_event(Timestamp(i64::from_le_bytes(*stamp)));
        }
    }
}
