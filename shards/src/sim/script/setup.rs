//! The setup of a cluster in one life: sizes, limits, policies, placements, and the plan made from them.
//!
//! Guarantees: inputs and outputs keep their index permanently, whether present or not; inputs keep their name too. Draws nothing:
//! see [`super::draw`].

use super::{ExactOutput, Holding, Ledger, ScriptEncoder, ScriptInput, ScriptOutput};
use crate::delivery::{BatchOptions, DeliveryOptions, OutputFull};
use crate::dlq;
use crate::engine::{InputPlan, OutputPlan, PipelinePlan, Plan};
use crate::lane::{LaneOptions, WhenFull};
use crate::plugin::{OutputSpec, Placement};
use crate::retry::RetryOptions;
use crate::route::ShardBy;
use crate::sim::SimEnv;
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

/// One input. It runs if a pipeline refers to it.
#[derive(Clone, Copy, Debug)]
pub struct InputSetup {
    /// On which shards it runs.
    pub placement: Placement,
    /// How its batches are assigned to shards.
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
    /// Limits and policies.
    pub options: DeliveryOptions,
    /// Whether it is in the configuration.
    pub present: bool,
    /// How often it was given another name.
    pub name: u32,
    /// The same at the last start in which every shard made durable what it knew: none before there was one.
    pub was: Option<u32>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// Minimum and maximum shards of a life.
    pub shards: (u64, u64),
    /// The log.
    pub wal: WalOptions,
    /// Inputs.
    pub inputs: Vec<InputSetup>,
    /// Outputs.
    pub outputs: Vec<OutputSetup>,
    /// Inputs and outputs of each pipeline.
    pub pipelines: Vec<(Vec<usize>, Vec<usize>)>,
    /// Maximum events of a batch.
    pub batch_events_max: u64,
    /// Which lines are held back by the processor.
    pub holding: Holding,
    /// Whether inputs wait at their end until everything that they sent is acknowledged.
    pub inputs_answer: bool,
    /// Whether some lines are longer than a chunk, so that small segments cannot hold them.
    pub long_lines: bool,
    /// The dead letter queue of each shard.
    pub dead_letters: dlq::Options,
    /// Whether some events are dead letters before they are in the log.
    pub unreadable: bool,
    /// The only input to which that applies, if not to all, and the only source.
    pub unreadable_input: Option<usize>,
    /// See [`Setup::unreadable_input`].
    pub unreadable_source: Option<usize>,
}

/// Where the data directory of a cluster is.
pub const DATA_DIR: &str = "/data";

/// Maximum bytes of the lines in one scripted batch, not counting a long line.
pub(super) const BATCH_BYTES_MAX: usize = 8 * 1024;
/// Payload bytes of a long line.
pub(super) const LONG_LINE_BYTES: usize = 70_000;

impl Setup {
    /// A setup with one shard that drops nothing: the starting point for tests of a single guarantee.
    pub fn plain(seed: u64) -> Setup {
        let second = Duration::from_secs(1);
        let options = DeliveryOptions {
            batch: BatchOptions { bytes_max: 32 * 1024, events_max: 200, age_max: Duration::ZERO },
            retry: RetryOptions { initial: second / 20, max: second / 2, after_max: second * 60, age_max: None },
            when_full: OutputFull::Block,
            letters_full: None,
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
            outputs: vec![OutputSetup { kind: OutputKind::One, options, present: true, name: 0, was: None }],
            pipelines: vec![(vec![0], vec![0])],
            batch_events_max: 40,
            holding: Holding::None,
            inputs_answer: true,
            long_lines: false,
            dead_letters: dlq::Options {
                bytes_max: 64 * 1024 * 1024,
                segment_bytes: 64 * 1024,
                when_full: dlq::WhenFull::Block,
            },
            unreadable: false,
            unreadable_input: None,
            unreadable_source: None,
        }
    }

    /// The outputs of an input's events.
    pub fn outputs_of(&self, input: usize) -> Vec<usize> {
        let feeds = |pipeline: &&(Vec<usize>, Vec<usize>)| pipeline.0.contains(&input);
        self.pipelines.iter().filter(feeds).flat_map(|pipeline| pipeline.1.iter().copied()).collect()
    }

    /// Inputs that run, in the order of the plan.
    pub fn present_inputs(&self) -> Vec<usize> {
        (0..self.inputs.len())
            .filter(|input| self.pipelines.iter().any(|pipeline| pipeline.0.contains(input)))
            .collect()
    }

    /// Outputs that run, in the order of the plan.
    pub fn present_outputs(&self) -> Vec<usize> {
        (0..self.outputs.len()).filter(|output| self.outputs[*output].present).collect()
    }

    /// A ledger for this setup.
    pub fn ledger(&self) -> Ledger {
        let sources: Vec<(usize, bool)> = self
            .inputs
            .iter()
            .enumerate()
            .flat_map(|(index, input)| std::iter::repeat_n((index, input.repeatable), input.sources))
            .collect();
        Ledger::new(&sources, self.outputs.len())
    }

    /// The plan for a life with this many shards.
    pub fn plan(&self, shards: usize, ledger: &Ledger) -> Plan<SimEnv> {
        let present = self.present_outputs();
        let inputs = self.present_inputs().into_iter().map(|index| self.input(index, ledger)).collect();
        let output = |&index: &usize| OutputPlan {
            name: output_name(index, self.outputs[index].name).into(),
            spec: self.output(index, ledger),
            options: self.outputs[index].options,
            was: self.outputs[index].was.map(|was| output_name(index, was).into()),
        };
        let place = |output: &usize| present.iter().position(|index| index == output);
        let pipeline = |(index, pipeline): (usize, &(Vec<usize>, Vec<usize>))| PipelinePlan {
            name: format!("pipeline {index}").into(),
            outputs: pipeline.1.iter().filter_map(place).collect(),
        };
        Plan {
            data_dir: PathBuf::from(DATA_DIR),
            shards,
            wal: self.wal.clone(),
            dead_letters: self.dead_letters,
            inputs,
            pipelines: self.pipelines.iter().enumerate().map(pipeline).collect(),
            outputs: present.iter().map(output).collect(),
            services: Vec::new(),
            given_up: self.names_of_absent_outputs(),
        }
    }

    /// Each name that an output which is not in the configuration may have in a log.
    fn names_of_absent_outputs(&self) -> Vec<Arc<str>> {
        let absent = (0..self.outputs.len()).filter(|output| !self.outputs[*output].present);
        let names = |output: usize| {
            let OutputSetup { name, was, .. } = self.outputs[output];
            [Some(name), was].into_iter().flatten().map(move |name| output_name(output, name).into())
        };
        absent.flat_map(names).collect()
    }

    fn input(&self, index: usize, ledger: &Ledger) -> InputPlan<SimEnv> {
        let input = &self.inputs[index];
        let dead_letters = self.unreadable && self.unreadable_input.is_none_or(|only| only == index);
        InputPlan {
            name: format!("input {index}").into(),
            spec: Arc::new(ScriptInput {
                index,
                placement: input.placement,
                ledger: ledger.clone(),
                outputs: self.outputs_of(index),
                batch_events_max: self.batch_events_max,
                batch_bytes_max: BATCH_BYTES_MAX,
                pipelines: self.pipelines.iter().filter(|pipeline| pipeline.0.contains(&index)).count(),
                // Half a segment holds a whole group. A third accounts for what surrounds the lines.
                parted_from_bytes: self.wal.segment_bytes as usize / 3,
                answers: self.inputs_answer,
            }),
            processor: Arc::new(ScriptEncoder {
                holding: self.holding.clone(),
                dead_letters,
                dead_letters_of: self.unreadable_source.map(|source| source.to_string().into_bytes()),
            }),
            shard_by: input.shard_by,
            lane: input.lane,
            pipelines: (0..self.pipelines.len()).filter(|at| self.pipelines[*at].0.contains(&index)).collect(),
            was: None,
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

/// The configured name of an output that was given another so often.
pub fn output_name(output: usize, renamed: u32) -> String {
    match renamed {
        0 => format!("output {output}"),
        renamed => format!("output {output} with name {renamed}"),
    }
}

/// The output that has a name, or had it.
pub fn output_named(name: &str) -> Option<usize> {
    name.strip_prefix("output ")?.split(' ').next()?.parse().ok()
}
