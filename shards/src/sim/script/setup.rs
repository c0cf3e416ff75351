//! What a cluster is made of, drawn from a seed: sizes, limits, policies, placements.

use super::{ExactOutput, Ledger, ScriptEncoder, ScriptInput, ScriptOutput};
use crate::delivery::{BatchOptions, DeliveryOptions, OutputFull};
use crate::engine::{InputPlan, OutputPlan, PipelinePlan, Plan};
use crate::lane::{LaneOptions, WhenFull};
use crate::plugin::{OutputSpec, Placement};
use crate::retry::RetryOptions;
use crate::route::ShardBy;
use crate::sim::{Prng, SimEnv};
use crate::wal::{SyncPolicy, WalOptions, WalType};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What kind of script an output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputKind {
    /// Counts deliveries, one instance.
    One,
    /// Counts deliveries, an instance on every shard.
    Every,
    /// Writes a file, exactly once.
    Exact,
}

/// One input.
#[derive(Clone, Copy, Debug)]
pub struct InputSetup {
    /// On which shards it runs.
    pub placement: Placement,
    /// Where its batches go.
    pub shard_by: ShardBy,
    /// Its lanes.
    pub lane: LaneOptions,
    /// Its sources.
    pub sources: usize,
    /// Whether they can be read again.
    pub repeatable: bool,
}

/// One output.
#[derive(Clone, Copy, Debug)]
pub struct OutputSetup {
    /// Its kind.
    pub kind: OutputKind,
    /// Bounds and policies.
    pub options: DeliveryOptions,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Shards of each life: at least, at most.
    pub shards: (u64, u64),
    /// The log.
    pub wal: WalOptions,
    /// Inputs.
    pub inputs: Vec<InputSetup>,
    /// Outputs.
    pub outputs: Vec<OutputSetup>,
    /// Inputs and outputs of each pipeline.
    pub pipelines: Vec<(Vec<usize>, Vec<usize>)>,
    /// Most events of a batch.
    pub batch_events_max: u64,
    /// Whether power may go.
    pub power: bool,
}

/// Where the data directory of a cluster is.
pub const DATA_DIR: &str = "/data";

fn delivery(chance: &mut Prng, policy: bool) -> DeliveryOptions {
    let when_full = match chance.below(if policy { 10 } else { 7 }) {
        0..=6 => OutputFull::Block,
        7 | 8 => OutputFull::DropOldest,
        _ => OutputFull::Sample,
    };
    DeliveryOptions {
        batch: BatchOptions {
            bytes_max: chance.between(500, 60_000),
            events_max: chance.between(1, 300),
            age_max: Duration::from_millis([0, 0, 5, 200, 2000][chance.index(5)]),
        },
        retry: RetryOptions {
            initial: Duration::from_millis(chance.between(1, 200)),
            max: Duration::from_millis(chance.between(200, 2000)),
            age_max: chance.one_in(8).then(|| Duration::from_millis(chance.between(500, 5000))),
        },
        when_full,
    }
}

fn input(chance: &mut Prng) -> InputSetup {
    let when_full = match chance.below(10) {
        0..=6 => WhenFull::Block,
        7 => WhenFull::DropNewest,
        8 => WhenFull::DropOldest,
        _ => WhenFull::Sample,
    };
    InputSetup {
        placement: if chance.one_in(3) { Placement::One } else { Placement::Every },
        shard_by: if chance.one_in(6) { ShardBy::Spread } else { ShardBy::Source },
        lane: LaneOptions { bytes: chance.between(1, 12) as usize * 64 * 1024, when_full },
        sources: chance.between(1, 4) as usize,
        repeatable: chance.one_in(2),
    }
}

impl Setup {
    /// A setup of one shard where nothing is dropped: what tests of one promise start from.
    pub fn plain(seed: u64) -> Setup {
        let second = Duration::from_secs(1);
        let options = DeliveryOptions {
            batch: BatchOptions { bytes_max: 32 * 1024, events_max: 200, age_max: Duration::ZERO },
            retry: RetryOptions { initial: second / 20, max: second / 2, age_max: None },
            when_full: OutputFull::Block,
        };
        Setup {
            seed,
            shards: (1, 1),
            wal: WalOptions {
                kind: WalType::Disk,
                sync: SyncPolicy::Interval(second / 10),
                segment_bytes: 64 * 1024,
                log_bytes: 4 * 64 * 1024,
            },
            inputs: vec![InputSetup {
                placement: Placement::One,
                shard_by: ShardBy::Source,
                lane: LaneOptions { bytes: 256 * 1024, when_full: WhenFull::Block },
                sources: 3,
                repeatable: true,
            }],
            outputs: vec![OutputSetup { kind: OutputKind::One, options }],
            pipelines: vec![(vec![0], vec![0])],
            batch_events_max: 40,
            power: true,
        }
    }

    /// A setup of the seed.
    pub fn draw(seed: u64) -> Setup {
        let mut chance = Prng::new(seed, "setup");
        let segment_bytes = [64, 64, 128, 256][chance.index(4)] * 1024;
        let sync = match chance.below(10) {
            0..=4 => SyncPolicy::Interval(Duration::from_millis(chance.between(5, 300))),
            5..=7 => SyncPolicy::EveryBatch,
            _ => SyncPolicy::Never,
        };
        let inputs: Vec<InputSetup> = (0..chance.between(1, 2)).map(|_| input(&mut chance)).collect();
        let outputs: Vec<OutputSetup> = (0..chance.between(1, 3))
            .map(|_| {
                let kind = [OutputKind::One, OutputKind::One, OutputKind::Every, OutputKind::Exact][chance.index(4)];
                OutputSetup { kind, options: delivery(&mut chance, kind != OutputKind::Exact) }
            })
            .collect();
        let all_inputs: Vec<usize> = (0..inputs.len()).collect();
        let all_outputs: Vec<usize> = (0..outputs.len()).collect();
        let pipelines = match chance.below(3) {
            // Two pipelines of all inputs, with the outputs divided between them.
            0 if outputs.len() > 1 => {
                vec![(all_inputs.clone(), all_outputs[..1].to_vec()), (all_inputs, all_outputs[1..].to_vec())]
            }
            _ => vec![(all_inputs, all_outputs)],
        };
        let fixed = chance.one_in(3).then(|| chance.between(1, 3));
        Setup {
            seed,
            shards: fixed.map_or((1, 3), |shards| (shards, shards)),
            wal: WalOptions {
                kind: WalType::Disk,
                sync,
                segment_bytes,
                log_bytes: segment_bytes * chance.between(3, 6),
            },
            inputs,
            outputs,
            pipelines,
            batch_events_max: chance.between(1, 60),
            power: sync != SyncPolicy::Never || chance.one_in(3),
        }
    }

    /// Whether order is promised for an output: not across shards that change places, not for what is spread, and not where
    /// an event that was given up may come after all, since the process died, or the power went, before that was durable.
    pub fn ordered(&self, output: usize) -> bool {
        let every = self.outputs[output].kind == OutputKind::Every;
        let spread = self.inputs.iter().any(|input| input.shard_by == ShardBy::Spread);
        let options = &self.outputs[output].options;
        let gives_up = options.when_full == OutputFull::DropOldest || options.retry.age_max.is_some();
        let drops = self.inputs.iter().any(|input| input.lane.when_full != WhenFull::Block);
        !(spread || gives_up || drops && self.power || every && self.shards.1 != 1)
    }

    /// Whether an event of an input that is made when all is well must reach an output.
    pub fn delivers(&self, input: usize, output: usize) -> bool {
        let blocks = self.inputs[input].lane.when_full == WhenFull::Block;
        let keeps = self.outputs[output].options.when_full == OutputFull::Block;
        blocks && keeps && self.outputs_of(input).contains(&output)
    }

    /// The outputs that the events of an input go to.
    pub fn outputs_of(&self, input: usize) -> Vec<usize> {
        let feeds = |pipeline: &&(Vec<usize>, Vec<usize>)| pipeline.0.contains(&input);
        self.pipelines.iter().filter(feeds).flat_map(|pipeline| pipeline.1.iter().copied()).collect()
    }

    /// The ledger of it.
    pub fn ledger(&self) -> Ledger {
        let sources: Vec<(usize, bool)> = self
            .inputs
            .iter()
            .enumerate()
            .flat_map(|(index, input)| std::iter::repeat_n((index, input.repeatable), input.sources))
            .collect();
        // Across a loss of power one log may keep a cursor into another log that lost events: they come again.
        let repeats_max = |output: &OutputSetup| match output.kind {
            OutputKind::Exact => Some(if self.shards.1 == 1 || !self.power { 0 } else { u64::MAX }),
            OutputKind::One | OutputKind::Every => None,
        };
        let outputs: Vec<Option<u64>> = self.outputs.iter().map(repeats_max).collect();
        let ledger = Ledger::new(&sources, &outputs, self.wal.sync != SyncPolicy::Never || !self.power);
        for output in (0..self.outputs.len()).filter(|output| !self.ordered(*output)) {
            ledger.state().outputs[output].oracle.unordered();
        }
        ledger
    }

    /// The plan for a life with so many shards.
    pub fn plan(&self, shards: usize, ledger: &Ledger) -> Plan<SimEnv> {
        let inputs = self.inputs.iter().enumerate().map(|(index, input)| InputPlan {
            name: format!("input {index}").into(),
            spec: Arc::new(ScriptInput {
                index,
                placement: input.placement,
                ledger: ledger.clone(),
                outputs: self.outputs_of(index),
                batch_events_max: self.batch_events_max,
                batch_bytes_max: 8 * 1024,
            }),
            encoder: Arc::new(ScriptEncoder),
            shard_by: input.shard_by,
            lane: input.lane,
            pipelines: (0..self.pipelines.len()).filter(|at| self.pipelines[*at].0.contains(&index)).collect(),
        });
        let outputs = self.outputs.iter().enumerate().map(|(index, output)| OutputPlan {
            name: format!("output {index}").into(),
            spec: self.output(index, ledger),
            options: output.options,
        });
        let pipelines = self.pipelines.iter().enumerate().map(|(index, pipeline)| PipelinePlan {
            name: format!("pipeline {index}").into(),
            outputs: pipeline.1.clone(),
        });
        Plan {
            data_dir: PathBuf::from(DATA_DIR),
            shards,
            wal: self.wal.clone(),
            inputs: inputs.collect(),
            pipelines: pipelines.collect(),
            outputs: outputs.collect(),
            services: Vec::new(),
        }
    }

    fn output(&self, index: usize, ledger: &Ledger) -> Arc<dyn OutputSpec<SimEnv>> {
        let ledger = ledger.clone();
        match self.outputs[index].kind {
            OutputKind::One => Arc::new(ScriptOutput { index, placement: Placement::One, ledger }),
            OutputKind::Every => Arc::new(ScriptOutput { index, placement: Placement::Every, ledger }),
            OutputKind::Exact => Arc::new(ExactOutput { index, ledger, path: self.file(index) }),
        }
    }

    /// The file of an exact output.
    pub fn file(&self, output: usize) -> PathBuf {
        PathBuf::from(format!("/out/{output}.log"))
    }
}
