//! Setups and moods of a seed: the setup of the first life, and what is different in each later one.
//!
//! Guarantees: functions of the seed. Between two lives, everything may change that a person may change between two starts:
//! shards, sizes, policies, placements, which inputs and outputs exist and how pipelines connect them.

use super::setup::{InputSetup, OutputKind, OutputSetup, Setup};
use super::{Holding, Mood, State};
use crate::delivery::{BatchOptions, DeliveryOptions, OutputFull};
use crate::dlq;
use crate::lane::{LaneOptions, WhenFull};
use crate::plugin::Placement;
use crate::retry::RetryOptions;
use crate::route::ShardBy;
use crate::sim::Prng;
use crate::wal::{SyncPolicy, WalOptions, WalType};
use std::time::Duration;

fn delivery(chance: &mut Prng, kind: OutputKind) -> DeliveryOptions {
    // If an exact output gave events up and then received them anyway, it would not be exact. So it only blocks.
    let when_full = match chance.below(if kind == OutputKind::Exact { 7 } else { 10 }) {
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
            after_max: Duration::ZERO,
            age_max: chance.one_in(8).then(|| Duration::from_millis(chance.between(500, 5000))),
        },
        when_full,
        letters_full: None,
    }
}

fn lane(chance: &mut Prng) -> LaneOptions {
    let when_full = match chance.below(10) {
        0..=6 => WhenFull::Block,
        7 => WhenFull::DropNewest,
        8 => WhenFull::DropOldest,
        _ => WhenFull::Sample,
    };
    LaneOptions { bytes: chance.between(1, 12) as usize * 64 * 1024, when_full }
}

fn input(chance: &mut Prng) -> InputSetup {
    InputSetup {
        placement: if chance.one_in(3) { Placement::One } else { Placement::Every },
        shard_by: if chance.one_in(5) { ShardBy::Spread } else { ShardBy::Source },
        lane: lane(chance),
        sources: chance.between(1, 4) as usize,
        repeatable: chance.one_in(2),
    }
}

fn wal(chance: &mut Prng, seed: u64, long_lines: bool) -> WalOptions {
    // A separate stream, so that other draws stay the same.
    let tight = Prng::new(seed, "tight").one_in(3);
    let sizes: &[u64] = match (long_lines, tight) {
        // A long line fits in no segment of the smaller size.
        (true, true) => &[64, 512],
        (true, false) => &[256, 512],
        (false, _) => &[64, 64, 128, 256],
    };
    let segment_bytes = sizes[chance.index(sizes.len())] * 1024;
    let sync = match chance.below(10) {
        0..=4 => SyncPolicy::Interval(Duration::from_millis(chance.between(5, 300))),
        5..=7 => SyncPolicy::EveryBatch,
        _ => SyncPolicy::Never,
    };
    WalOptions { kind: WalType::Disk, sync, segment_bytes, log_bytes: segment_bytes * chance.between(3, 6) }
}

fn dead_letters(chance: &mut Prng) -> dlq::Options {
    // Some queues are so small that they fill up. A queue that drops its oldest letters does not prove what was in it before.
    let small = chance.one_in(6);
    dlq::Options {
        bytes_max: if small { chance.between(8, 64) * 1024 } else { 256 * 1024 * 1024 },
        segment_bytes: chance.between(4, 128) * 1024,
        when_full: if small { dlq::WhenFull::DropNewest } else { dlq::WhenFull::Block },
    }
}

/// One to three pipelines. Each output belongs to one of them, each input to any, or to none and is then absent. In the `last`
/// life every input is present.
fn pipelines(chance: &mut Prng, inputs: usize, outputs: &[usize], last: bool) -> Vec<(Vec<usize>, Vec<usize>)> {
    let count = chance.between(1, (outputs.len() as u64).min(3)) as usize;
    let mut pipelines: Vec<(Vec<usize>, Vec<usize>)> = vec![(Vec::new(), Vec::new()); count];
    for (at, output) in outputs.iter().enumerate() {
        // Each gets one, the rest anywhere.
        let pipeline = if at < count { at } else { chance.index(count) };
        pipelines[pipeline].1.push(*output);
    }
    let kept = chance.index(inputs);
    for input in 0..inputs {
        let absent = !last && input != kept && chance.one_in(6);
        for pipeline in &mut pipelines {
            if !absent && !chance.one_in(4) {
                pipeline.0.push(input);
            }
        }
        if !absent && pipelines.iter().all(|pipeline| !pipeline.0.contains(&input)) {
            let pipeline = chance.index(count);
            pipelines[pipeline].0.push(input);
        }
    }
    pipelines
}

/// Two adjacent windows in some seeds, joined lines and a contract violation in some others. A separate stream, so that other
/// draws stay the same.
fn holding(seed: u64) -> Holding {
    let mut chance = Prng::new(seed, "holding");
    match chance.below(24) {
        0..=2 => {}
        3 => return Holding::Joins,
        4 => return Holding::Clings,
        _ => return Holding::None,
    }
    let length = |chance: &mut Prng| Duration::from_millis(chance.between(5, 1_200));
    Holding::Windows(vec![length(&mut chance), length(&mut chance)])
}

impl Setup {
    /// The setup of the first life of a seed.
    pub fn draw(seed: u64) -> Setup {
        let mut chance = Prng::new(seed, "setup");
        let long_lines = chance.one_in(5);
        let inputs: Vec<InputSetup> = (0..chance.between(1, 3)).map(|_| input(&mut chance)).collect();
        let outputs: Vec<OutputSetup> = (0..chance.between(1, 3))
            .map(|_| {
                let kind = [OutputKind::One, OutputKind::One, OutputKind::Every, OutputKind::Exact][chance.index(4)];
                OutputSetup { kind, options: delivery(&mut chance, kind), present: true, name: 0, was: None }
            })
            .collect();
        let present: Vec<usize> = (0..outputs.len()).collect();
        let fixed = chance.one_in(3).then(|| chance.between(1, 4));
        Setup {
            seed,
            shards: fixed.map_or((1, chance.between(2, 5)), |shards| (shards, shards)),
            wal: wal(&mut chance, seed, long_lines),
            pipelines: pipelines(&mut chance, inputs.len(), &present, false),
            inputs,
            outputs,
            batch_events_max: chance.between(1, 60),
            holding: holding(seed),
            // Events that are claimed to be held forever are never acknowledged.
            inputs_answer: holding(seed) != Holding::Clings,
            long_lines,
            dead_letters: dead_letters(&mut chance),
            unreadable: chance.one_in(4),
            unreadable_input: None,
            unreadable_source: None,
        }
    }

    /// Gives some outputs another name. An output whose last name may not be in the logs yet keeps it, as a person would who
    /// reads that events wait for the previous name.
    pub fn rename(&mut self, chance: &mut Prng) {
        for output in self.outputs.iter_mut().filter(|output| output.present && output.was == Some(output.name)) {
            output.name += u32::from(chance.one_in(8));
        }
    }

    /// What a person changes before the next start. In the `last` life every input runs, because otherwise its events would
    /// never be delivered.
    pub fn redraw(&mut self, chance: &mut Prng, last: bool) {
        if chance.one_in(3) {
            self.wal = wal(chance, self.seed, self.long_lines);
        }
        if chance.one_in(3) {
            self.dead_letters = dead_letters(chance);
        }
        if chance.one_in(3) {
            self.unreadable = chance.one_in(4);
        }
        for input in &mut self.inputs {
            if chance.one_in(4) {
                input.lane = lane(chance);
                input.placement = if chance.one_in(3) { Placement::One } else { Placement::Every };
            }
        }
        for output in &mut self.outputs {
            if chance.one_in(4) {
                output.options = delivery(chance, output.kind);
            }
            // An exact output that is added again finds a file that it no longer knows. So exact outputs stay.
            let leaves = output.kind != OutputKind::Exact && chance.one_in(8);
            output.present = if output.present { !leaves } else { chance.one_in(2) };
        }
        if self.present_outputs().is_empty() {
            let output = chance.index(self.outputs.len());
            self.outputs[output].present = true;
        }
        let connected =
            |setup: &Setup| setup.pipelines.iter().flat_map(|pipeline| pipeline.1.clone()).collect::<Vec<_>>();
        let mut before = connected(self);
        before.sort_unstable();
        if before != self.present_outputs() || chance.one_in(4) || last {
            self.pipelines = pipelines(chance, self.inputs.len(), &self.present_outputs(), last);
        }
        self.batch_events_max = chance.between(1, 60);
    }
}

fn some(chance: &mut Prng, one_in: u64, most: u64) -> u64 {
    if chance.one_in(one_in) { chance.between(1, most) } else { 0 }
}

/// How inputs and outputs behave in the next life.
pub fn moods(chance: &mut Prng, state: &mut State) {
    state.inputs = Mood { retry: some(chance, 6, 20), panic: some(chance, 6, 8), ..Mood::default() };
    let sources = state.sources.len() as u64;
    for record in &mut state.outputs {
        record.mood = Mood {
            retry: if chance.one_in(6) { 1000 } else { some(chance, 3, 300) },
            slow: some(chance, 3, 200),
            hang: some(chance, 10, 20),
            panic: some(chance, 8, 30),
            late: some(chance, 5, 500),
            unsure: some(chance, 8, 200),
            wild: some(chance, 10, 100),
            large: some(chance, 12, 300),
            slow_source: chance.one_in(6).then(|| chance.below(sources)),
            after: None,
        };
    }
}
