//! The engine: from a plan and a data directory to shards that are ready to run.
//!
//! Guarantees: nothing is written before every WAL has been read and found usable. What an earlier start left behind, with any
//! number of shards, is continued: positions are merged over all WALs, each output continues from its last durable commit, and
//! WALs without a shard are adopted and read to their end. Starts no thread: an environment runs the returned seeds.
//!
//! Placement: shards take the existing WALs in ascending order of their ids. The remaining WALs are adopted by the shards in
//! turn. Outputs and inputs with one instance are distributed over the shards by their index.

mod cost;
mod leaving;
mod losses;
mod merged;

use crate::counters::{Discard, Discarded, OutputCounters, PipelineCounters, ShardCounters};
use crate::delivery::DeliveryOptions;
use crate::delivery::gate::Gate;
use crate::dlq;
use crate::env::{Disk, Env, Sabotage, ShardId, Timestamp};
use crate::lane::LaneOptions;
use crate::limits::{OUTPUTS_MAX, spread_ranges_max};
use crate::mesh::{InputMeters, MeshInput, mesh};
use crate::pipeline::PipelineRef;
use crate::plugin::{InputSpec, OutputSpec, Placement, ProcessorSpec};
use crate::route::ShardBy;
use crate::service::Service;
use crate::shard::{LogBoard, ReadLog, ShardInput, ShardOutput, ShardSeed, WriterSeed};
use crate::signal::Signal;
use crate::stop::{Countdown, Stop};
use crate::wal::cursor::{Owed, events_after, has_passed};
use crate::wal::log::Log;
use crate::wal::manifest::DataDirectory;
use crate::wal::recovery::{RecoveredLog, scan_log};
use crate::wal::writer::LogState;
use crate::wal::{Commit, Damage, LogId, OutputNumber, Position, Sequence, SourceState, WalError, WalOptions};
use cost::Loss;
pub use leaving::{LeftInput, Renamed, StartError, Waiting};
use leaving::{left_inputs, rename_inputs, rename_outputs, waiting};
pub use losses::lost_logs;
use losses::{Begin, lost_log, lost_log_ids, to_be_known};
use merged::{
    Lack, Merged, Numbers, as_told, assign_numbers, begin_fresh, check_outputs_known, merge, remove_strangers,
    settle_commits,
};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// An input to run.
pub struct InputPlan<E: Env> {
    /// Its name.
    pub name: Arc<str>,
    /// The input's specification.
    pub spec: Arc<dyn InputSpec<E>>,
    /// How its events are converted to lines.
    pub processor: Arc<dyn ProcessorSpec>,
    /// How its batches are assigned to shards.
    pub shard_by: ShardBy,
    /// Size and policy of its lanes.
    pub lane: LaneOptions,
    /// Indices of the pipelines that it feeds; at least one.
    pub pipelines: Vec<usize>,
    /// The name it had before, if the log may know it by that.
    pub was: Option<Arc<str>>,
}

/// A pipeline to run.
pub struct PipelinePlan {
    /// Its name.
    pub name: Arc<str>,
    /// Indices of its outputs.
    pub outputs: Vec<usize>,
}

/// An output to run.
pub struct OutputPlan<E: Env> {
    /// Its name.
    pub name: Arc<str>,
    /// The output's specification.
    pub spec: Arc<dyn OutputSpec<E>>,
    /// Limits and policies.
    pub options: DeliveryOptions,
    /// The name it had before, if the log may know it by that.
    pub was: Option<Arc<str>>,
}

/// Everything that an engine runs.
pub struct Plan<E: Env> {
    /// Where the WALs are.
    pub data_dir: PathBuf,
    /// Number of shards.
    pub shards: usize,
    /// Settings of each shard's WAL.
    pub wal: WalOptions,
    /// Settings of each shard's dead letter queue.
    pub dead_letters: dlq::Options,
    /// The inputs.
    pub inputs: Vec<InputPlan<E>>,
    /// The pipelines.
    pub pipelines: Vec<PipelinePlan>,
    /// The outputs.
    pub outputs: Vec<OutputPlan<E>>,
    /// Additional tasks on the first shard.
    pub services: Vec<Arc<dyn Service<E>>>,
    /// Outputs whose waiting events are discarded, and inputs whose positions are forgotten, if they are not in the plan. Without its name
    /// here, an output for which events wait lets no engine start.
    pub given_up: Vec<Arc<str>>,
}

/// The counters of one instance of an output, for readers.
pub struct OutputMeter {
    /// Index of the output in the plan.
    pub output: usize,
    /// Its number in the WAL.
    pub number: OutputNumber,
    /// Its shard.
    pub shard: usize,
    /// Its counters.
    pub counters: Arc<OutputCounters>,
}

/// Read access to all counters of an engine.
pub struct Meters<D: Disk> {
    /// Instances of inputs.
    pub inputs: Vec<InputMeters>,
    /// Instances of outputs.
    pub outputs: Vec<OutputMeter>,
    /// Shards.
    pub shards: Vec<Arc<ShardCounters>>,
    /// Events that outputs with the policy `sample` lost, by shard and output number.
    pub wal_full: Vec<Arc<[Discarded]>>,
    /// Counters of pipelines, by shard and in the order of the plan.
    pub pipelines: Vec<Arc<[PipelineCounters]>>,
    /// The WALs of the shards, as they are opened.
    pub board: Arc<LogBoard<D>>,
    /// WALs without a shard.
    pub adopted: Vec<Arc<Log<D>>>,
}

/// The end of a WAL that was truncated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The WAL.
    pub log: LogId,
    /// Sequences that were removed.
    pub sequences: u64,
    /// How many of them come after the first frame that was not intact. If none, a group was not completely appended.
    pub behind: u64,
}

impl Cut {
    fn of<D: Disk>(log: &RecoveredLog<D>) -> Cut {
        let behind = log.highest_seen.0.saturating_sub(log.reached.0);
        Cut { log: log.id, sequences: log.highest_seen.0 - log.last.0, behind }
    }
}

/// An engine that is ready to run.
pub struct Engine<E: Env> {
    /// One for each shard, in order.
    pub seeds: Vec<ShardSeed<E>>,
    /// Its counters.
    pub meters: Arc<Meters<E::Disk>>,
    /// Its shutdown control.
    pub stop: Stop,
    /// The damage that recovery found.
    pub damage: Vec<Damage>,
    /// WALs whose last frames were not intact or not durable.
    pub cut: Vec<Cut>,
    /// Outputs that were removed from the configuration, with the number of waiting events of each, which are now discarded.
    pub removed: Vec<Waiting>,
    /// Inputs that were removed and whose positions are known.
    pub left_inputs: Vec<LeftInput>,
    /// Outputs, then inputs, that continue under another name.
    pub renamed: Vec<Renamed>,
}

/// Reads the data directory on `disk` and lays out the shards. Blocks: call it before any executor runs. The caller must hold
/// the lock of the data directory.
pub fn prepare<E: Env>(disk: &E::Disk, plan: Plan<E>, now: Timestamp, stop: Stop) -> Result<Engine<E>, StartError> {
    assert!(plan.shards > 0, "a plan without shards");
    let mut directory = DataDirectory::open(disk.clone(), &plan.data_dir)?;
    let quarantine = directory.quarantine();
    let scan = |directory: &DataDirectory<E::Disk>, id| scan_log(disk, &directory.log_path(id), id, Some(&quarantine));
    let mut logs = Vec::new();
    for id in directory.logs()? {
        logs.push(scan(&directory, id)?);
    }
    let cut = logs.iter().filter(|log| log.highest_seen > log.last).map(Cut::of).collect();
    let mut damage: Vec<Damage> = logs.iter_mut().flat_map(|log| std::mem::take(&mut log.damage)).collect();
    let known = directory.known_logs().clone();
    let lost = lost_log_ids(&known, &logs);
    damage.extend(lost.iter().copied().map(lost_log));
    let lack = Lack { damage: !damage.is_empty(), logs: !lost.is_empty() };
    let mut merged = merge(directory.outputs(), &logs, &lack);
    check_outputs_known(&directory, &merged)?;
    merged.sources.expire(now);
    let epoch = logs.iter().map(|log| log.epoch).max().unwrap_or(0);
    let mut renamed = rename_outputs(&plan.outputs, &mut merged);
    let has_new_names = !renamed.is_empty();
    renamed.extend(rename_inputs(&plan.inputs, &mut merged, epoch + 1));
    let Numbers { numbers, removed, fresh } = assign_numbers(&plan.outputs, &mut merged)?;
    let left_outputs = waiting(disk, &removed, &plan.given_up, &logs, &merged, &damage)?;
    let left_inputs = left_inputs(&plan.inputs, &plan.given_up, &mut merged);
    while logs.len() < plan.shards {
        let id = directory.new_log()?;
        logs.push(scan(&directory, id)?);
    }
    // The first shard's log takes over what all of them say. Were that durable before they are, a loss of power could take
    // the events of a position that is kept.
    logs.iter_mut().try_for_each(|log| log.harden(disk))?;
    // One that an earlier start could not name was not written either.
    let is_new = |log: &RecoveredLog<E::Disk>| {
        log.segments.is_empty() && ![&known.written, &known.begun, &known.lost].iter().any(|all| all.contains(&log.id))
    };
    // After damage the manifest is asked first, so it has the names before any log.
    let optional = fresh.is_empty() && !has_new_names && !logs.iter().take(plan.shards).any(is_new);
    match directory.set_contents(&as_told(&merged.registry, &removed), to_be_known(&known, &lost, &logs)) {
        // The logs say it too, and what they hold can be delivered all the same.
        Err(error) if error.is_no_room() && optional => {
            tracing::warn!(%error, "no space to write the manifest; the write-ahead logs contain the same information, so the start continues");
        }
        noted => noted?,
    }
    let adopted = logs.split_off(plan.shards);
    for number in &fresh {
        remove_strangers(disk, &plan.data_dir, *number)?;
    }
    begin_fresh(&fresh, &mut merged, logs.iter().chain(&adopted));
    let there: Vec<_> = logs.iter().chain(&adopted).map(Begin::of).collect();
    let doubts = settle_commits(&mut merged, numbers.iter().filter(|number| !fresh.contains(number)), &there, &lack);
    damage.extend(doubts.missing);
    // The starts of the engine have one count for all logs, so that deliveries can tell what was written earlier in another.
    logs.iter_mut().for_each(|log| log.epoch = epoch);
    let gates = gates(&plan, epoch + 1);
    let losses = Loss::all(&damage);
    let doubtful = doubts.outputs;
    let directory = Arc::new(directory);
    let layout = Layout { plan, merged, numbers, fresh, losses, gates, stop, damage, doubtful, directory };
    let engine = layout.lay_out(disk, logs, adopted)?;
    Ok(Engine { cut, removed: left_outputs, left_inputs, renamed, ..engine })
}

/// For each output, the gate at which its instances wait for each other, in the start that writes `epoch`.
fn gates<E: Env>(plan: &Plan<E>, epoch: u32) -> Vec<Arc<Gate>> {
    let instances = |output: &OutputPlan<E>| match output.spec.placement() {
        Placement::One => 1,
        Placement::Every => plan.shards,
    };
    plan.outputs.iter().map(|output| Gate::new(instances(output), epoch)).collect()
}

struct Layout<E: Env> {
    gates: Vec<Arc<Gate>>,
    directory: Arc<DataDirectory<E::Disk>>,
    plan: Plan<E>,
    merged: Merged,
    numbers: Vec<OutputNumber>,
    /// The numbers of new outputs.
    fresh: Vec<OutputNumber>,
    losses: Vec<Loss>,
    stop: Stop,
    damage: Vec<Damage>,
    /// Bits of outputs to which not everything may be delivered again.
    doubtful: u64,
}

impl<E: Env> Layout<E> {
    fn lay_out(
        self,
        disk: &E::Disk,
        active: Vec<RecoveredLog<E::Disk>>,
        adopted: Vec<RecoveredLog<E::Disk>>,
    ) -> Result<Engine<E>, WalError> {
        let shards = self.plan.shards;
        let ids = |logs: &[RecoveredLog<E::Disk>]| -> Vec<LogId> { logs.iter().map(|log| log.id).collect() };
        let (active_ids, adopted_ids) = (ids(&active), ids(&adopted));
        let readable: Vec<Arc<Log<E::Disk>>> = active.iter().map(|log| log.reader(disk.clone())).collect();
        let adopted = adopted.into_iter().map(|log| log.into_log(disk.clone())).collect::<Result<Vec<_>, _>>()?;

        let (mesh_ends, input_meters) = mesh(&self.mesh_inputs(), shards);
        let board = Arc::new(LogBoard::new(shards, self.plan.outputs.len()));
        let inputs = Arc::new(self.shard_inputs());
        let inputs_running = Arc::new(Countdown::new(mesh_ends.iter().map(|ends| ends.inputs.len()).sum()));
        let intakes_running = Arc::new(Countdown::new(shards));
        let mut meters = Meters {
            inputs: input_meters,
            outputs: Vec::new(),
            shards: (0..shards).map(|_| Arc::default()).collect(),
            wal_full: (0..shards).map(|_| (0..OUTPUTS_MAX).map(|_| Discarded::default()).collect()).collect(),
            pipelines: (0..shards).map(|_| self.plan.pipelines.iter().map(|_| Default::default()).collect()).collect(),
            board: board.clone(),
            adopted: adopted.clone(),
        };
        let mut seeds = Vec::new();
        for (index, (recovered, ends)) in active.into_iter().zip(mesh_ends).enumerate() {
            let outputs = self.outputs_of(index, &active_ids, &adopted_ids, &readable, &adopted, &mut meters);
            seeds.push(ShardSeed {
                shard: shard_id(index),
                shards,
                writer: self.writer_seed(disk, index, recovered),
                board: board.clone(),
                inputs: inputs.clone(),
                ends,
                outputs,
                directory: self.directory.clone(),
                adopted: adopted.iter().skip(index).step_by(shards).cloned().collect(),
                services: if index == 0 { self.plan.services.clone() } else { Vec::new() },
                inputs_running: inputs_running.clone(),
                intakes_running: intakes_running.clone(),
                wal_full: meters.wal_full[index].clone(),
                pipelines: meters.pipelines[index].clone(),
                counters: meters.shards[index].clone(),
                data_dir: Arc::new(self.plan.data_dir.clone()),
                dead_letters: self.plan.dead_letters,
                stop: self.stop.clone(),
            });
        }
        Ok(Engine {
            seeds,
            meters: Arc::new(meters),
            stop: self.stop,
            damage: self.damage,
            cut: Vec::new(),
            removed: Vec::new(),
            left_inputs: Vec::new(),
            renamed: Vec::new(),
        })
    }

    fn mesh_inputs(&self) -> Vec<MeshInput> {
        let instances = |input: &InputPlan<E>| match input.spec.placement() {
            Placement::One => 1,
            Placement::Every => self.plan.shards,
        };
        let spreading = self.plan.inputs.iter().filter(|input| input.shard_by == ShardBy::Spread);
        let spread_ranges = spread_ranges_max(self.plan.wal.segment_bytes, spreading.map(instances).sum());
        let of = |(index, input): (usize, &InputPlan<E>)| MeshInput {
            placement: input.spec.placement(),
            home: index % self.plan.shards,
            shard_by: input.shard_by,
            lane: input.lane,
            spread_ranges,
        };
        self.plan.inputs.iter().enumerate().map(of).collect()
    }

    fn shard_inputs(&self) -> Vec<ShardInput<E>> {
        let orphans = Arc::new(self.orphans());
        let targets = |outputs: &[usize]| outputs.iter().map(|&output| self.numbers[output].bit()).collect();
        let of = |input: &InputPlan<E>| ShardInput {
            name: input.name.clone(),
            spec: input.spec.clone(),
            processor: input.processor.clone(),
            pipelines: input
                .pipelines
                .iter()
                .map(|&index| PipelineRef {
                    number: index as u32,
                    name: self.plan.pipelines[index].name.clone(),
                    targets: targets(&self.plan.pipelines[index].outputs),
                })
                .collect(),
            deliverers: self.deliverers(input),
            resume: Arc::new(self.sources_of(&input.name)),
            orphans: orphans.clone(),
        };
        self.plan.inputs.iter().map(of).collect()
    }

    fn deliverers(&self, input: &InputPlan<E>) -> Arc<[u64]> {
        let outputs = input.pipelines.iter().flat_map(|&index| &self.plan.pipelines[index].outputs);
        let ones = outputs.filter(|&&output| self.plan.outputs[output].spec.placement() == Placement::One);
        let mut deliverers = vec![0; self.plan.shards];
        for output in ones.collect::<BTreeSet<_>>() {
            deliverers[self.shard_of_one(*output)] += 1;
        }
        deliverers.into()
    }

    /// The shard that runs the only instance of an output.
    fn shard_of_one(&self, output: usize) -> usize {
        output % self.plan.shards
    }

    fn sources_of(&self, input: &str) -> Vec<SourceState> {
        self.merged.sources.iter().filter(|state| *state.source.input == *input).cloned().collect()
    }

    /// Sources of inputs that are not configured any more.
    fn orphans(&self) -> Vec<SourceState> {
        let is_orphan = |state: &&SourceState| !self.plan.inputs.iter().any(|input| input.name == state.source.input);
        self.merged.sources.iter().filter(is_orphan).cloned().collect()
    }

    /// The first shard's WAL takes over what all WALs know, so that adopted WALs can be removed when they are delivered.
    /// Another WAL takes over the merged knowledge about the sources that it already knows: that a source is gone, for example,
    /// or has been read further. All WALs take over the sources that are spread, because their settled ranges are counted from
    /// there.
    fn writer_seed(&self, disk: &E::Disk, index: usize, recovered: RecoveredLog<E::Disk>) -> WriterSeed<E::Disk> {
        let spread = self.plan.inputs.iter().filter(|input| input.shard_by == ShardBy::Spread);
        let spread: Vec<&str> = spread.map(|input| &*input.name).collect();
        let known = &recovered.state.sources;
        let sources = match index {
            0 => self.merged.sources.clone(),
            _ => self
                .merged
                .sources
                .only(|state| known.get(state.key()).is_some() || spread.contains(&&*state.source.input)),
        };
        let every = |number| {
            let output = self.numbers.iter().position(|of| *of == number);
            output.is_some_and(|output| self.plan.outputs[output].spec.placement() == Placement::Every)
        };
        let commits = self.merged.commits.for_log(recovered.id, every);
        let state = LogState { sources, registry: self.merged.registry.clone(), commits };
        let cursors = self.merged.commits.values().flat_map(|commit| &commit.cursors);
        let floor = cursors.filter(|(log, _)| *log == recovered.id).map(|(_, position)| position.sequence).max();
        WriterSeed {
            disk: disk.clone(),
            options: self.plan.wal.clone(),
            recovered,
            state,
            floor: floor.unwrap_or(Sequence(0)),
        }
    }

    /// Where an output continues in a WAL: at its cursor, or at the beginning if the WAL is new or nothing is left that says
    /// where the cursor was. A new output has a cursor at the end of each WAL.
    fn position(&self, number: OutputNumber, log: &Log<E::Disk>) -> Position {
        let none = if E::Disk::sabotaged(Sabotage::StartAtEnd) { log.end() } else { Position::default() };
        self.merged.commits.position(number, log.id()).unwrap_or(none)
    }

    /// Where an instance of an output continues: after the highest commit of all instances, with its own state.
    fn resume(&self, output: OutputNumber, instance: Option<LogId>) -> Commit {
        let commits = &self.merged.commits;
        let number = commits.highest(output).unwrap_or(0);
        let mixed = || commits.values().filter(|commit| commit.output == output).max_by_key(|commit| commit.number);
        let state = match E::Disk::sabotaged(Sabotage::MixInstances) {
            true => mixed().and_then(|commit| commit.state.clone()),
            false => commits.attached(output, instance),
        };
        Commit { output, instance, number, cursors: Vec::new(), state }
    }

    fn owed(&self, log: &Arc<Log<E::Disk>>, number: OutputNumber) -> Owed {
        events_after(log, self.position(number, log), number)
    }

    /// Whether everything that was delivered from a WAL but not committed is delivered again.
    fn is_whole(&self, log: &Arc<Log<E::Disk>>, number: OutputNumber) -> bool {
        let position = self.position(number, log);
        self.damage.iter().filter(|damage| damage.log == log.id()).all(|damage| has_passed(log, position, damage))
    }

    fn outputs_of(
        &self,
        shard: usize,
        active: &[LogId],
        adopted: &[LogId],
        readable: &[Arc<Log<E::Disk>>],
        adopted_logs: &[Arc<Log<E::Disk>>],
        meters: &mut Meters<E::Disk>,
    ) -> Vec<ShardOutput<E>> {
        let shards = self.plan.shards;
        let mut outputs = Vec::new();
        for (index, output) in self.plan.outputs.iter().enumerate() {
            let one = output.spec.placement() == Placement::One;
            if one && self.shard_of_one(index) != shard {
                continue;
            }
            let number = self.numbers[index];
            let mine = |log: usize| one || log % shards == shard;
            let counters = Arc::new(OutputCounters::default());
            let mut logs = Vec::new();
            let mut lost = 0;
            let (mut bytes, mut whole) = (0, self.doubtful & number.bit() == 0);
            let mut owe = |log: &Arc<Log<E::Disk>>| {
                let owed = self.owed(log, number);
                counters.recovered_events.add(owed.events);
                bytes += owed.bytes;
                whole &= self.is_whole(log, number);
                lost += self.frames_lost(number, log.id());
            };
            for at in (0..adopted.len()).filter(|at| mine(*at)) {
                let (log, position) = (&adopted_logs[at], self.position(number, &adopted_logs[at]));
                let claim = log.register(position, Arc::new(Signal::new()));
                logs.push((ReadLog::Adopted(log.clone(), claim), position));
                owe(log);
            }
            for at in (0..active.len()).filter(|at| mine(*at)) {
                logs.push((ReadLog::Active(shard_id(at)), self.position(number, &readable[at])));
                owe(&readable[at]);
            }
            if one || shard == 0 {
                lost += self.frames_lost_with_logs(number, &[active, adopted].concat());
            }
            // They waited here, and they are gone: both are counted, or what waits would come out wrong.
            counters.recovered_events.add(lost);
            counters.discarded.add(Discard::Damaged, lost);
            meters.outputs.push(OutputMeter { output: index, number, shard, counters: counters.clone() });
            let resume = self.resume(number, (!one).then(|| active[shard]));
            outputs.push(ShardOutput {
                name: output.name.clone(),
                number,
                spec: output.spec.clone(),
                options: output.options,
                logs,
                again_bytes: (whole && resume.state.is_some()).then_some(bytes),
                resume,
                counters,
                gate: self.gates[index].keeper(if one { 0 } else { shard }),
            });
        }
        outputs
    }
}

fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).expect("the number of shards is capped"))
}
