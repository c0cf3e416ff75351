//! Engine: from a plan and a data directory to shards that are ready to run.
//!
//! Guarantees: nothing is written before every log has been read and found usable; what an earlier life left (with any number
//! of shards) is carried on: positions merged over all logs, each output from its last durable commit, logs without a shard
//! adopted and read to their end. Starts no thread: an environment runs the seeds that come out.
//!
//! Placement: the existing logs with the lowest ids go to the shards in order, the rest is adopted by shard number modulo the
//! shards. Outputs and inputs with one instance are spread over the shards by their index.

use crate::counters::{Discarded, OutputCounters, PipelineCounters, ShardCounters};
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
use crate::shard::{LogBoard, ReadLog, Service, ShardInput, ShardOutput, ShardSeed, WriterSeed};
use crate::signal::Signal;
use crate::stop::{Countdown, Stop};
use crate::wal::commits::Commits;
use crate::wal::cursor::events_after;
use crate::wal::log::Log;
use crate::wal::manifest::DataDirectory;
use crate::wal::positions::SourceTable;
use crate::wal::recovery::{RecoveredLog, scan_log};
use crate::wal::writer::LogState;
use crate::wal::{
    Commit, Damage, LogId, OutputNumber, Position, RegistryEntry, Sequence, SourceState, WalError, WalOptions,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An input to run.
pub struct InputPlan<E: Env> {
    /// Its name.
    pub name: Arc<str>,
    /// What runs.
    pub spec: Arc<dyn InputSpec<E>>,
    /// How its events become lines.
    pub processor: Arc<dyn ProcessorSpec>,
    /// Where its batches go.
    pub shard_by: ShardBy,
    /// Bytes and policy of its lanes.
    pub lane: LaneOptions,
    /// Indices of the pipelines it feeds; at least one.
    pub pipelines: Vec<usize>,
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
    /// What runs.
    pub spec: Arc<dyn OutputSpec<E>>,
    /// Bounds and policies.
    pub options: DeliveryOptions,
}

/// All that an engine runs.
pub struct Plan<E: Env> {
    /// Where the logs are.
    pub data_dir: PathBuf,
    /// Number of shards.
    pub shards: usize,
    /// Settings of each shard's log.
    pub wal: WalOptions,
    /// Settings of each shard's dead letter queue.
    pub dead_letters: dlq::Options,
    /// The inputs.
    pub inputs: Vec<InputPlan<E>>,
    /// The pipelines.
    pub pipelines: Vec<PipelinePlan>,
    /// The outputs.
    pub outputs: Vec<OutputPlan<E>>,
    /// Tasks that run beside them on the first shard.
    pub services: Vec<Arc<dyn Service<E>>>,
}

/// One instance of an output, for those who only read.
pub struct OutputMeter {
    /// Index of the output in the plan.
    pub output: usize,
    /// Its number in the log.
    pub number: OutputNumber,
    /// Its shard.
    pub shard: usize,
    /// What it counts.
    pub counters: Arc<OutputCounters>,
}

/// Read access to all that an engine counts.
pub struct Meters<D: Disk> {
    /// Instances of inputs.
    pub inputs: Vec<InputMeters>,
    /// Instances of outputs.
    pub outputs: Vec<OutputMeter>,
    /// Shards.
    pub shards: Vec<Arc<ShardCounters>>,
    /// Events that outputs with the policy `sample` lost, by shard and output number.
    pub wal_full: Vec<Arc<[Discarded]>>,
    /// What pipelines count, by shard and their order in the plan.
    pub pipelines: Vec<Arc<[PipelineCounters]>>,
    /// The logs of the shards, as they are opened.
    pub board: Arc<LogBoard<D>>,
    /// Logs without a shard.
    pub adopted: Vec<Arc<Log<D>>>,
}

/// An engine that is ready to run.
pub struct Engine<E: Env> {
    /// One for each shard, in order.
    pub seeds: Vec<ShardSeed<E>>,
    /// What it counts.
    pub meters: Arc<Meters<E::Disk>>,
    /// Its end.
    pub stop: Stop,
    /// What recovery set aside.
    pub damage: Vec<Damage>,
    /// Logs whose last frames were not whole or not durable, and how many sequences were let go with them.
    pub cut: Vec<(LogId, u64)>,
    /// Outputs that left the configuration, and the events that waited for each: discarded now.
    pub removed: Vec<(String, u64)>,
}

/// What all logs together say.
struct Merged {
    sources: SourceTable,
    commits: Commits,
    registry: Vec<RegistryEntry>,
    masks: u64,
}

/// Reads what is in the data directory on `disk` and lays out the shards. Blocks: it is called before any executor runs. The caller holds
/// the lock of the data directory.
pub fn prepare<E: Env>(disk: &E::Disk, plan: Plan<E>, now: Timestamp, stop: Stop) -> Result<Engine<E>, WalError> {
    assert!(plan.shards > 0, "a plan without shards");
    let mut directory = DataDirectory::open(disk.clone(), &plan.data_dir)?;
    let quarantine = directory.quarantine();
    let scan = |directory: &DataDirectory<E::Disk>, id| scan_log(disk, &directory.log_path(id), id, Some(&quarantine));
    let mut logs = Vec::new();
    for id in directory.logs()? {
        logs.push(scan(&directory, id)?);
    }
    let cut =
        logs.iter().filter(|log| log.highest_seen > log.last).map(|log| (log.id, log.highest_seen.0 - log.last.0));
    let cut = cut.collect();
    let damage = logs.iter_mut().flat_map(|log| std::mem::take(&mut log.damage)).collect();
    let mut merged = merge(directory.outputs(), &logs);
    check_outputs_known(&directory, &merged)?;
    merged.sources.expire(now);
    let Numbers { numbers, removed, fresh } = assign_numbers(&plan.outputs, &mut merged)?;
    match directory.set_outputs(&to_note(&merged.registry, &removed)) {
        // The logs say it too, and what they hold can be delivered all the same.
        Err(error) if error.is_no_room() && fresh.is_empty() => {
            tracing::warn!(%error, "no room to note the numbers of the outputs beside the logs");
        }
        noted => noted?,
    }
    while logs.len() < plan.shards {
        let id = directory.new_log()?;
        logs.push(scan(&directory, id)?);
    }
    // The first shard's log takes over what all of them say. Were that durable before they are, a loss of power could take
    // the events of a position that is kept.
    logs.iter_mut().try_for_each(|log| log.harden(disk))?;
    let adopted = logs.split_off(plan.shards);
    for number in &fresh {
        remove_strangers(disk, &plan.data_dir, *number)?;
    }
    begin_fresh(&fresh, &mut merged, logs.iter().chain(&adopted));
    // The starts of the engine have one count for all logs, so that deliveries can tell what was written earlier in another.
    let epoch = logs.iter().chain(&adopted).map(|log| log.epoch).max().unwrap_or(0);
    logs.iter_mut().for_each(|log| log.epoch = epoch);
    let gates = gates(&plan, epoch + 1);
    let layout = Layout { plan, merged, numbers, gates, stop, directory: Arc::new(directory) };
    let mut engine = layout.lay_out(disk, logs, adopted, damage, removed)?;
    engine.cut = cut;
    Ok(engine)
}

fn merge<D: Disk>(outputs: &[RegistryEntry], logs: &[RecoveredLog<D>]) -> Merged {
    // The manifest says it before any log does.
    let (sources, commits) = (SourceTable::new(), Commits::default());
    let outputs = if D::sabotaged(Sabotage::ForgetOutputs) { &[] } else { outputs };
    let mut merged = Merged { sources, commits, registry: outputs.to_vec(), masks: 0 };
    for log in logs {
        merged.sources.merge(log.state.sources.clone());
        merged.masks |= log.outputs_used;
        merged.commits.merge(&log.state.commits);
    }
    // A log that stopped being written earlier knows neither that an output was removed nor that it has come back: the latest
    // start knows best.
    let mut latest: Vec<&RecoveredLog<D>> = logs.iter().collect();
    latest.sort_by_key(|log| std::cmp::Reverse(log.epoch));
    let newest = latest.first().map_or(0, |log| log.epoch);
    for (epoch, entry) in latest.iter().flat_map(|log| log.state.registry.iter().map(|entry| (log.epoch, entry))) {
        match merged.registry.iter_mut().find(|known| known.number == entry.number) {
            None => merged.registry.push(entry.clone()),
            // The manifest learns it from them: see [`to_note`].
            Some(known) => known.removed |= entry.removed && epoch == newest && known.name == entry.name,
        }
    }
    merged
}

/// What the manifest says of the outputs once this start has given them their numbers. That one has left the logs say first, and
/// the manifest one start later: a start that fails before they do leaves it to the next one to count what waited for it, or to go
/// on with it where it is configured again.
fn to_note(registry: &[RegistryEntry], leaving: &[RegistryEntry]) -> Vec<RegistryEntry> {
    let leaves = |entry: &RegistryEntry| leaving.iter().any(|leaving| leaving.number == entry.number);
    let note = |entry: &RegistryEntry| RegistryEntry { removed: entry.removed && !leaves(entry), ..entry.clone() };
    registry.iter().map(note).collect()
}

/// Refuses logs with events for outputs that nobody knows: they would be passed over without a word.
fn check_outputs_known<D: Disk>(directory: &DataDirectory<D>, merged: &Merged) -> Result<(), WalError> {
    let known = merged.registry.iter().fold(0, |known, entry| known | entry.number.bit());
    let unknown: Vec<String> =
        (0..OUTPUTS_MAX).filter(|number| merged.masks & !known & 1 << number != 0).map(|n| n.to_string()).collect();
    if unknown.is_empty() || D::sabotaged(Sabotage::ForgetOutputs) {
        return Ok(());
    }
    let reason = format!(
        "the logs hold events for the outputs number {}, but neither the manifest nor what is left of the logs says which these \
         are: add a line `output N present NAME` for each, write `tailwater-data 1` in the first line, and start again",
        unknown.join(", ")
    );
    Err(WalError::Unusable { path: directory.manifest_path(), reason })
}

/// What the outputs of a plan are in the log.
struct Numbers {
    /// By index in the plan.
    numbers: Vec<OutputNumber>,
    /// Outputs that left the configuration.
    removed: Vec<RegistryEntry>,
    /// New ones.
    fresh: Vec<OutputNumber>,
}

/// A new output starts at the end of all logs. Its first commit says so in the first snapshot, beside its name: without it a
/// crash before its delivery runs would start it behind events that were acknowledged meanwhile.
fn begin_fresh<'a, D: Disk>(
    fresh: &[OutputNumber],
    merged: &mut Merged,
    logs: impl Iterator<Item = &'a RecoveredLog<D>>,
) {
    let cursors: Vec<(LogId, Position)> = logs.map(|log| (log.id, log.end())).collect();
    fresh.iter().for_each(|output| merged.commits.begin(*output, cursors.clone()));
}

/// Removes what an earlier output of this number kept beside the log, before the log says that the number is another's.
fn remove_strangers<D: Disk>(disk: &D, data_dir: &Path, number: OutputNumber) -> Result<(), WalError> {
    let directory = data_dir.join("outputs");
    let failed = |source: std::io::Error| {
        let reason = format!(
            "what an earlier output kept there cannot be removed: {source}; it has to be a directory that the user who runs \
             this may read and write: move away what is there, or give it the rights"
        );
        WalError::Unusable { path: directory.clone(), reason }
    };
    let entries = match disk.list(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    let prefix = format!("{}.", number.0);
    for entry in entries {
        if entry.name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            disk.remove(&directory.join(&entry.name)).map_err(failed)?;
        }
    }
    disk.sync_dir(&directory).map_err(failed)
}

/// Finds each output's number: the one it had, or a free one.
fn assign_numbers<E: Env>(outputs: &[OutputPlan<E>], merged: &mut Merged) -> Result<Numbers, WalError> {
    // A number that no frame on disk names can be given again.
    let wanted = |entry: &RegistryEntry| outputs.iter().any(|output| *output.name == *entry.name);
    let masks = merged.masks;
    merged.registry.retain(|entry| wanted(entry) || masks & entry.number.bit() != 0);
    let mut removed = Vec::new();
    for entry in &mut merged.registry {
        let gone = !wanted(entry);
        if gone && !entry.removed {
            removed.push(entry.clone());
        }
        // One that comes back after its events were discarded starts at the tail, under a number of its own.
        entry.removed |= gone;
    }
    let mut numbers = Vec::new();
    let mut fresh = Vec::new();
    for output in outputs {
        let known = merged.registry.iter().find(|entry| *entry.name == *output.name && !entry.removed);
        let number = match known {
            Some(entry) => entry.number,
            None => {
                let taken = merged.registry.iter().fold(0u64, |mask, entry| mask | entry.number.bit());
                let free = (!taken).trailing_zeros() as usize;
                if free >= OUTPUTS_MAX {
                    return Err(WalError::Unusable {
                        path: PathBuf::from("outputs"),
                        reason: format!(
                            "{OUTPUTS_MAX} outputs, removed ones with events in the log included, are all that fit: \
                             let the log drain before more are added"
                        ),
                    });
                }
                let number = OutputNumber(free as u8);
                fresh.push(number);
                merged.registry.push(RegistryEntry { number, name: output.name.to_string(), removed: false });
                number
            }
        };
        numbers.push(number);
    }
    Ok(Numbers { numbers, removed, fresh })
}

/// For each output, where its instances wait for each other in the start that writes `epoch`.
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
    stop: Stop,
}

impl<E: Env> Layout<E> {
    fn lay_out(
        self,
        disk: &E::Disk,
        active: Vec<RecoveredLog<E::Disk>>,
        adopted: Vec<RecoveredLog<E::Disk>>,
        damage: Vec<Damage>,
        removed: Vec<RegistryEntry>,
    ) -> Result<Engine<E>, WalError> {
        let shards = self.plan.shards;
        let ids = |logs: &[RecoveredLog<E::Disk>]| -> Vec<LogId> { logs.iter().map(|log| log.id).collect() };
        let (active_ids, adopted_ids) = (ids(&active), ids(&adopted));
        let readable: Vec<Arc<Log<E::Disk>>> = active.iter().map(|log| log.reader(disk.clone())).collect();
        let adopted = adopted.into_iter().map(|log| log.into_log(disk.clone())).collect::<Result<Vec<_>, _>>()?;
        let removed = removed
            .iter()
            .map(|entry| {
                let owed = |log: &Arc<Log<E::Disk>>| self.events_owed(log, entry.number);
                (entry.name.clone(), readable.iter().chain(&adopted).map(owed).sum())
            })
            .collect();

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
        Ok(Engine { seeds, meters: Arc::new(meters), stop: self.stop, damage, cut: Vec::new(), removed })
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

    /// Where the one instance of an output runs.
    fn shard_of_one(&self, output: usize) -> usize {
        output % self.plan.shards
    }

    fn sources_of(&self, input: &str) -> Vec<SourceState> {
        self.merged.sources.iter().filter(|state| *state.source.input == *input).cloned().collect()
    }

    /// The first shard's log takes over what all logs know, so that adopted logs can go once they are delivered. Of the sources
    /// that another one knows it takes over what all together say: that one is gone, say, or read further. So do all logs of
    /// sources that are spread over them, because what is settled of these is counted from there.
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

    /// Where an output goes on in a log: at its cursor, or at the beginning, if the log is new or nothing is left of what said
    /// where the cursor is. An output that is new has a cursor at the end of each log.
    fn position(&self, number: OutputNumber, log: &Log<E::Disk>) -> Position {
        let none = if E::Disk::sabotaged(Sabotage::StartAtEnd) { log.end() } else { Position::default() };
        self.merged.commits.position(number, log.id()).unwrap_or(none)
    }

    /// Where an instance of an output goes on: behind the highest commit of all, with its own state.
    fn resume(&self, output: OutputNumber, instance: Option<LogId>) -> Option<Commit> {
        let number = self.merged.commits.highest(output)?;
        let of = |instance| self.merged.commits.get(output, instance).map(|commit| commit.state.clone());
        let mixed = || self.merged.commits.values().filter(|commit| commit.output == output).max_by_key(|c| c.number);
        let state = match E::Disk::sabotaged(Sabotage::MixInstances) {
            true => mixed().map(|commit| commit.state.clone()),
            false => of(instance),
        };
        let state = state.unwrap_or_default();
        Some(Commit { output, instance, number, cursors: Vec::new(), state })
    }

    fn events_owed(&self, log: &Arc<Log<E::Disk>>, number: OutputNumber) -> u64 {
        events_after(log, self.position(number, log), number)
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
            for at in (0..adopted.len()).filter(|at| mine(*at)) {
                let (log, position) = (&adopted_logs[at], self.position(number, &adopted_logs[at]));
                let claim = log.register(position, Arc::new(Signal::new()));
                logs.push((ReadLog::Adopted(log.clone(), claim), position));
                counters.recovered_events.add(self.events_owed(&adopted_logs[at], number));
            }
            for at in (0..active.len()).filter(|at| mine(*at)) {
                logs.push((ReadLog::Active(shard_id(at)), self.position(number, &readable[at])));
                counters.recovered_events.add(self.events_owed(&readable[at], number));
            }
            meters.outputs.push(OutputMeter { output: index, number, shard, counters: counters.clone() });
            outputs.push(ShardOutput {
                name: output.name.clone(),
                number,
                spec: output.spec.clone(),
                options: output.options,
                logs,
                resume: self.resume(number, (!one).then(|| active[shard])),
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
