//! A cluster: the whole engine on the simulated machine, through many starts.

use super::faults;
use super::passing::PATIENCE;
use super::rot::{self, Rotten, Vanished};
use super::setup::{DATA_DIR, LONG_LINE_BYTES, output_named};
use super::{Holding, InputSetup, Ledger, OutputKind, Setup, decode_line, gauges};
use crate::counters::{Discard, ShardCounters};
use crate::engine::{Engine, Meters, StartError, Waiting, prepare};
use crate::env::{Env, ShardId};
use crate::route::ShardBy;
use crate::sim::oracle::{OutputIndex, Report};
use crate::sim::{Crash, Outcome, Prng, SimDisk, SimEnv, Simulation};
use crate::stop::{Phase, Stop};
use crate::wal::SyncPolicy;
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Polls between two measurements of the queues.
const LOOK_EVERY: u32 = 32;

/// One life of the process, from a start to its end.
pub struct Life {
    /// Its shutdown control.
    pub stop: Stop,
    /// Its counters.
    pub meters: Arc<Meters<SimDisk>>,
    /// Its shards.
    pub shards: usize,
    /// Inputs and outputs, in the order of its plan.
    pub(super) inputs: Vec<usize>,
    pub(super) outputs: Vec<usize>,
    /// Maximum number of logs: those that existed when it began, plus one for each shard.
    pub(super) logs: usize,
    /// The maximum number of files of one log when it began, and the maximum number of bytes.
    pub(super) files_before: (u64, u64),
    /// Bytes of the largest segment that any life so far may have created, and the maximum number of segments that one was
    /// allowed.
    pub(super) segment_bytes_max: u64,
    pub(super) segments_allowed_max: u64,
    /// Power losses, kills of windows and rotten frames so far: each may have left a gap in what the logs know about a source.
    pub(super) holes: u64,
    /// A fresh event has been delivered and nothing was created since: everything that was decided is committed.
    pub(super) rests: bool,
    running: Rc<Cell<usize>>,
}

impl Life {
    /// Whether every shard has ended.
    pub fn has_ended(&self) -> bool {
        self.running.get() == 0
    }

    /// What its shards wait for, as numbers for a failure's message.
    fn waits(&self) -> String {
        let of = |(index, shard): (usize, &ShardCounters)| {
            let log = self.meters.board.get(ShardId(index as u16));
            let log =
                log.map(|log| (log.counters.segments.get(), log.counters.standbys.get(), log.last(), log.synced()));
            format!(
                "shard {index}: parked {}, withheld runs {}, owed {}, acknowledgements {}, full {}; segments, standbys, \
                 last, synced {log:?}",
                shard.parked_batches.get(),
                shard.withheld_runs.get(),
                shard.owed_ranges.get(),
                shard.waiting_acknowledgements.get(),
                shard.wal_full.get(),
            )
        };
        self.meters.shards.iter().map(|shard| &**shard).enumerate().map(of).collect::<Vec<_>>().join("; ")
    }

    /// A function that returns whether every shard has ended, for a condition.
    pub fn end(&self) -> impl Fn() -> bool + use<> {
        let running = self.running.clone();
        move || running.get() == 0
    }

    /// Whether every shard has opened its log.
    pub fn is_up(&self) -> bool {
        (0..self.shards).all(|shard| self.meters.board.get(ShardId(shard as u16)).is_some())
    }
}

/// See the module.
pub struct Cluster {
    /// The machine.
    pub simulation: Simulation,
    /// The record of what happened.
    pub ledger: Ledger,
    /// Its setup.
    pub setup: Setup,
    /// The current life.
    pub life: Option<Life>,
    /// Random numbers for the test's own decisions.
    pub chance: Prng,
    /// Random numbers for what happens to outputs that leave, so that other decisions stay the same.
    pub departures: Prng,
    /// What rotted: in total, and since the last start that reported what it found.
    pub(super) rotten: Vec<Rotten>,
    pub(super) unreported: Vec<Rotten>,
    pub(super) vanished: Vec<Vanished>,
    holes_left: u64,
    /// Positions of earlier lives were not recorded, because of a contract violation.
    has_clung: bool,
    segment_bytes_max: u64,
    segments_allowed_max: u64,
    /// The outputs of the last life in which every shard made its knowledge durable.
    settled_outputs: Vec<usize>,
    /// Shards of the last start, and its pipelines.
    last_start: Option<(usize, Connections, Vec<usize>)>,
}

/// Inputs and outputs of each pipeline.
type Connections = Vec<(Vec<usize>, Vec<usize>)>;

impl Cluster {
    /// A machine with an empty data directory.
    pub fn new(setup: Setup) -> Cluster {
        let simulation = Simulation::new(setup.seed);
        let outside = simulation.disk().outside();
        for directory in [DATA_DIR, "/out"] {
            outside.create_dir_all(directory).expect("an empty disk takes a directory");
        }
        outside.sync_all();
        let chance = simulation.prng("cluster");
        let departures = simulation.prng("departures");
        let ledger = setup.ledger();
        Cluster {
            simulation,
            ledger,
            setup,
            life: None,
            chance,
            departures,
            rotten: Vec::new(),
            unreported: Vec::new(),
            vanished: Vec::new(),
            holes_left: 0,
            has_clung: false,
            segment_bytes_max: 0,
            segments_allowed_max: 0,
            settled_outputs: Vec::new(),
            last_start: None,
        }
    }

    /// Adds a line to the story.
    pub(super) fn note(&self, line: String) {
        self.ledger.tell(self.simulation.now(), line);
    }

    /// Starts the process with this many shards. An error is what a person would read.
    pub fn start(&mut self, shards: usize) -> Result<(), String> {
        let stop = Stop::new();
        let disk = self.simulation.env(ShardId(0)).disk().clone();
        self.tell_of_the_plan(shards);
        let files = self.log_files();
        self.read_letters();
        let engine = self.prepare(&disk, shards, &stop)?;
        rot::judge(self, &engine.damage);
        self.settle_removed(&engine.removed);
        self.ledger.state().told.renamed += engine.renamed.len() as u64;
        self.compare_with_last_start(shards);
        let running = Rc::new(Cell::new(shards));
        for seed in engine.seeds {
            let env = self.simulation.env(seed.shard);
            let running = running.clone();
            env.clone().spawn("shard", async move {
                seed.run(env).await;
                running.set(running.get() - 1);
            });
        }
        let most = |count: &dyn Fn(&(usize, u64)) -> u64| files.iter().map(count).max().unwrap_or(0);
        self.segment_bytes_max = self.segment_bytes_max.max(self.setup.wal.segment_bytes);
        self.segments_allowed_max = self.segments_allowed_max.max(gauges::segments_allowed(&self.setup));
        self.life = Some(Life {
            stop,
            meters: engine.meters,
            shards,
            inputs: self.setup.present_inputs(),
            outputs: self.setup.present_outputs(),
            logs: files.len() + shards,
            files_before: (most(&|files| files.0 as u64), most(&|files| files.1)),
            segment_bytes_max: self.segment_bytes_max,
            segments_allowed_max: self.segments_allowed_max,
            holes: self.holes_left + (self.rotten.len() + self.vanished.len()) as u64,
            rests: false,
            running,
        });
        Ok(())
    }

    /// What a person does who may not know that an output with waiting events has left: some starts are refused first, which
    /// changes nothing, and what waits is given up in the next.
    fn prepare(&mut self, disk: &SimDisk, shards: usize, stop: &Stop) -> Result<Engine<SimEnv>, String> {
        let mut plan = self.setup.plan(shards, &self.ledger);
        let wall = self.simulation.wall();
        if !plan.given_up.is_empty() && self.departures.one_in(2) {
            plan.given_up.clear();
            let manifest = Path::new(DATA_DIR).join("manifest");
            let before = self.simulation.disk().outside().read(&manifest).ok();
            match prepare(disk, plan, wall, stop.clone()) {
                Err(StartError::Waiting(waiting, damage)) => {
                    rot::judge(self, &damage);
                    self.refused(&waiting);
                    assert_eq!(
                        self.simulation.disk().outside().read(&manifest).ok(),
                        before,
                        "a refused start changes nothing"
                    );
                }
                Ok(engine) => {
                    assert!(engine.removed.iter().all(|left| left.events == 0), "nobody gave up {:?}", engine.removed);
                    return Ok(engine);
                }
                Err(error) => return Err(error.to_string()),
            }
            plan = self.setup.plan(shards, &self.ledger);
        }
        prepare(disk, plan, wall, stop.clone()).map_err(|error| error.to_string())
    }

    fn refused(&self, waiting: &[Waiting]) {
        for Waiting { output, events } in waiting {
            let left = output_named(output).is_some_and(|output| !self.setup.outputs[output].present);
            assert!(left && *events > 0, "{events} events wait for {output}");
        }
        self.note(format!("the start is refused: {waiting:?}"));
        self.ledger.state().told.refused_for_waiting += 1;
    }

    fn compare_with_last_start(&mut self, shards: usize) {
        let (pipelines, outputs) = (self.setup.pipelines.clone(), self.setup.present_outputs());
        if let Some((last_shards, last_pipelines, last_outputs)) = &self.last_start {
            let told = &mut self.ledger.state().told;
            told.resharded += u64::from(*last_shards != shards);
            told.replanned += u64::from(*last_pipelines != pipelines || *last_outputs != outputs);
        }
        self.last_start = Some((shards, pipelines, outputs));
    }

    fn tell_of_the_plan(&self, shards: usize) {
        let setup = &self.setup;
        let mut state = self.ledger.state();
        state.never_syncs = setup.wal.sync == SyncPolicy::Never;
        let windows = matches!(&setup.holding, Holding::Windows(lengths) if lengths.len() > 1);
        let unordered =
            |input: &InputSetup| windows || setup.holding == Holding::Clings || input.shard_by == ShardBy::Spread;
        for (number, input) in setup.inputs.iter().enumerate().filter(|(_, input)| unordered(input)) {
            debug_assert!(input.sources > 0, "an input has sources");
            let mine: Vec<u64> =
                (0..state.sources.len()).filter(|at| state.sources[*at].input == number).map(|at| at as u64).collect();
            mine.into_iter().for_each(|source| state.oracle.unordered(source));
        }
        // Batches that are not recorded because of a window or a joined line contained other events too.
        let reads_again = match &setup.holding {
            Holding::None => false,
            Holding::Windows(lengths) => lengths.len() > 1,
            Holding::Joins | Holding::Clings => true,
        };
        state.reads_again = reads_again;
        if reads_again {
            (0..state.sources.len() as u64).for_each(|source| state.oracle.read_again(source));
        }
        for output in setup.present_outputs().into_iter().filter(|output| !self.settled_outputs.contains(output)) {
            state.outputs[output].joined = state.oracle.deliveries(OutputIndex(output as u8));
        }
        let (life, sync) = (state.life, setup.wal.sync);
        let (segment, log) = (setup.wal.segment_bytes / 1024, setup.wal.log_bytes / 1024);
        let line = format!(
            "life {life}: {shards} shards, {sync:?}, segments of {segment} KiB, logs of {log} KiB, pipelines {:?}, holding {:?}",
            setup.pipelines, setup.holding
        );
        state.story.tell(self.simulation.now(), line);
    }

    /// Records events that waited for removed outputs.
    fn settle_removed(&self, removed: &[Waiting]) {
        let mut state = self.ledger.state();
        for Waiting { output: name, events } in removed {
            let Some(output) = output_named(name) else {
                panic!("an output is removed that nobody configured: {name}")
            };
            state.oracle.removed(OutputIndex(output as u8), *events);
            state.story.tell(self.simulation.now(), format!("{name} is removed: {events} events waited for it"));
        }
    }

    /// The current life.
    pub fn alive(&self) -> &Life {
        self.life.as_ref().expect("the test has started a life")
    }

    /// Gives a source another event.
    pub fn make(&mut self, source: usize, bytes: usize) {
        self.ledger.make(source, bytes);
    }

    /// Ends a source: nothing more comes from it.
    pub fn end(&mut self, source: usize) {
        self.ledger.state().sources[source].ended = true;
    }

    /// Creates this many events in random sources.
    pub fn make_some(&mut self, events: u64) {
        let sources = self.ledger.state().sources.len();
        for _ in 0..events {
            let source = self.chance.index(sources);
            if self.ledger.state().sources[source].ended {
                continue;
            }
            let bytes = match self.chance.below(400) {
                0..=2 if self.setup.long_lines => LONG_LINE_BYTES,
                0..=40 => self.chance.between(1000, 4000) as usize,
                _ => self.chance.between(1, 200) as usize,
            };
            self.make(source, bytes);
        }
    }

    /// Runs for this virtual time, and measures every queue in the meantime.
    pub fn run_for(&mut self, time: Duration) -> Outcome {
        self.run_until(|| false, time)
    }

    /// The same until `condition` is true. It is checked as often as the queues are measured.
    pub(super) fn run_until(&mut self, mut condition: impl FnMut() -> bool, time: Duration) -> Outcome {
        let Cluster { simulation, ledger, setup, life, .. } = self;
        let mut polls = 0_u32;
        let outcome = simulation.run_until(
            || {
                polls += 1;
                if !polls.is_multiple_of(LOOK_EVERY) {
                    return false;
                }
                if let Some(life) = life {
                    gauges::queues(life, setup, &mut ledger.state().oracle);
                }
                condition()
            },
            time,
        );
        if let Some(life) = &self.life {
            let mut state = self.ledger.state();
            gauges::queues(life, &self.setup, &mut state.oracle);
            gauges::files(life, &self.setup, &self.log_files(), &mut state.oracle);
        }
        outcome
    }

    /// Ends the current life at once, in whatever state it is.
    pub fn crash(&mut self, kind: Crash) {
        self.settle_counts();
        let up = self.life.as_ref().is_some_and(Life::is_up);
        if up {
            self.settled_outputs = self.setup.present_outputs();
            for output in self.setup.outputs.iter_mut().filter(|output| output.present) {
                output.was = Some(output.name);
            }
            let oracle = &mut self.ledger.state().oracle;
            let absent = (0..self.setup.outputs.len()).filter(|output| !self.settled_outputs.contains(output));
            absent.for_each(|output| oracle.gone(OutputIndex(output as u8)));
        }
        // A kill leaves one where windows held lines before a range that a lane had dropped.
        self.holes_left += u64::from(kind == Crash::Power || self.setup.holding != Holding::None);
        self.life = None;
        self.simulation.crash(kind);
        self.ledger.restarted(self.simulation.now(), kind == Crash::Power, up);
    }

    /// Ends the current life in order, and panics with the seed if it does not end.
    pub fn drain(&mut self, time: Duration) {
        let life = self.alive();
        life.stop.enter(Phase::Draining);
        let end = life.end();
        if self.simulation.run_until(&end, time) != Outcome::Reached {
            let waits = self.alive().waits();
            self.note(format!("the drain does not end: {waits}"));
        }
        assert!(
            end(),
            "seed {}: not reached: the end of the drain; tasks: {:?}",
            self.setup.seed,
            self.simulation.tasks()
        );
        let failure = self.alive().stop.failure();
        assert!(failure.is_none(), "seed {}: the drain failed: {failure:?}", self.setup.seed);
        self.crash(Crash::Process);
    }

    /// Tells the oracle how many events this life counted as discarded without naming them.
    fn settle_counts(&mut self) {
        let Some(life) = &self.life else { return };
        let in_order = life.has_ended() && life.stop.failure().is_none() && life.stop.phase() == Phase::Draining;
        let in_order = in_order && !self.simulation.disk().crashed();
        let waiting = self.waiting()();
        for (at, &output) in life.outputs.iter().enumerate() {
            let index = OutputIndex(output as u8);
            let counts = self.counts(life, at);
            let mut state = self.ledger.state();
            for &(reason, events) in counts.iter().filter(|(_, events)| *events > 0) {
                state.oracle.discarded_count(index, reason.name(), events);
                let line = format!("output {output}: {events} events were discarded: {}", reason.name());
                state.story.tell(self.simulation.now(), line);
            }
            let instances = life.meters.outputs.iter().filter(|meter| meter.output == at).count();
            let once = state.outputs[output].decides_once(instances);
            drop(state);
            if in_order || life.rests {
                // Damage is counted in frames, not events. What windows hold back is read again, together with what was dropped
                // beside it.
                let again = self.setup.holding != Holding::None || self.has_clung;
                let settled = |reason| reason != Discard::Damaged && !again && (once || reason == Discard::RingFull);
                let counted = counts.iter().filter(|(reason, _)| settled(*reason)).map(|(_, events)| events).sum();
                self.ledger.discards(index, counted, in_order);
            }
            if in_order && waiting[at].1 == 0 {
                self.ledger.state().oracle.nothing_in_flight(index);
            }
        }
    }

    /// How many events a life has counted as discarded for the output at index `at` of its plan, without naming them.
    fn counts(&self, life: &Life, at: usize) -> Vec<(Discard, u64)> {
        let (meters, output) = (&life.meters, life.outputs[at]);
        let mut counts = Vec::new();
        for meter in meters.outputs.iter().filter(|meter| meter.output == at) {
            counts.extend(Discard::ALL.map(|reason| (reason, meter.counters.discarded.get(reason))));
        }
        let number = meters.outputs.iter().find(|meter| meter.output == at).map(|meter| meter.number);
        if let Some(number) = number {
            let sampled = meters.wal_full.iter().map(|all| all[usize::from(number.0)].total());
            counts.extend(sampled.map(|events| (Discard::WalFull, events)));
        }
        let feeds = |input: usize| self.setup.outputs_of(life.inputs[input]).contains(&output);
        for input in meters.inputs.iter().filter(|input| feeds(input.input)) {
            let dropped: u64 = input.lanes.iter().map(|lane| lane.counters().dropped_events.get()).sum();
            counts.push((Discard::RingFull, input.counters.discarded.total() + dropped));
            let undelivered = input.lanes.iter().map(|lane| lane.counters().dlq_full_events.get());
            counts.push((Discard::DeadLettersFull, undelivered.sum()));
        }
        let fed = (0..self.setup.pipelines.len()).filter(|at| self.setup.pipelines[*at].1.contains(&output));
        for pipeline in fed {
            let lost = meters.pipelines.iter().map(|all| all[pipeline].discarded.get(Discard::DeadLettersFull));
            counts.push((Discard::DeadLettersFull, lost.sum()));
        }
        counts
    }

    /// Removes all faults and moods.
    pub fn heal(&mut self) {
        faults::end(self);
        let mut state = self.ledger.state();
        state.inputs = super::Mood::default();
        state.outputs.iter_mut().for_each(|record| record.mood = super::Mood::default());
    }

    /// Ends like [`Cluster::conclude`], and panics if the oracle finds a violation.
    pub fn finish(&mut self) {
        if let Err(report) = self.conclude() {
            panic!("{report}\n{:?}", self.setup);
        }
    }

    /// Removes all faults, waits until all events are delivered, then sends fresh events, and checks everything.
    pub(super) fn conclude(&mut self) -> Result<(), Report> {
        self.heal();
        if self.setup.holding == Holding::Clings {
            // With it, inputs may wait forever.
            self.setup.holding = Holding::None;
            self.has_clung = true;
        }
        for round in 0..2 {
            let shards = self.chance.between(self.setup.shards.0, self.setup.shards.1) as usize;
            let sources = self.ledger.state().sources.len();
            if round == 1 {
                let ended = |source: &usize| self.ledger.state().sources[*source].ended;
                let living: Vec<usize> = (0..sources).filter(|source| !ended(source)).collect();
                living.into_iter().for_each(|source| self.make(source, 30));
            }
            let started = self.start(shards);
            assert!(started.is_ok(), "a healthy start failed: {started:?}");
            let caught_up = self.caught_up();
            self.simulation.must("all sources read", caught_up, PATIENCE);
            self.drain(PATIENCE);
        }
        self.read_files();
        self.read_letters();
        self.vouch();
        self.check_fresh();
        self.ledger.check().map(|_| ())
    }

    /// Records that every source was read to its end by a life that ended in order: the logs cover all of it.
    fn vouch(&self) {
        let mut state = self.ledger.state();
        for source in (0..state.sources.len()).filter(|source| state.sources[*source].repeatable).collect::<Vec<_>>() {
            state.oracle.vouched(source as u64);
        }
    }

    /// Tells the oracle what is in the files of exact outputs. It is unknown where in them a life ended, so each event begins a
    /// run, and only the order over all of them is checked.
    fn read_files(&mut self) {
        let outside = self.simulation.disk().outside();
        for output in (0..self.setup.outputs.len()).filter(|at| self.setup.outputs[*at].kind == OutputKind::Exact) {
            let bytes = outside.read(self.setup.file(output)).unwrap_or_default();
            let mut state = self.ledger.state();
            let (index, length) = (OutputIndex(output as u8), state.outputs[output].file_bytes as usize);
            if bytes.len() < length {
                state.oracle.garbled(index, &format!("a file of {} bytes, {length} were committed", bytes.len()));
            }
            for line in bytes[..length.min(bytes.len())].split_inclusive(|&byte| byte == b'\n') {
                let Some(event) = decode_line(line) else {
                    state.oracle.garbled(index, "a broken line in its file");
                    continue;
                };
                state.oracle.goes_back(index, 0, u64::MAX);
                state.oracle.delivered(index, 0, event);
                state.outputs[output].kept.retain(|kept| *kept != event);
            }
            let undone = state.outputs[output].kept.len();
            if undone > 0 {
                state
                    .oracle
                    .garbled(index, &format!("{undone} events are not in its file any more, and did not come again"));
            }
        }
    }

    /// The segments and standby files of every log on the disk: number of files, and bytes.
    pub fn log_files(&self) -> Vec<(usize, u64)> {
        let outside = self.simulation.disk().outside();
        let wal = Path::new(DATA_DIR).join("wal");
        let logs = outside.list(&wal).unwrap_or_default();
        let files = |log: &std::ffi::OsString| {
            let directory = wal.join(log);
            let names = outside.list(&directory).unwrap_or_default();
            let bytes = names.iter().filter_map(|name| outside.stat(directory.join(name)).ok());
            (names.len(), bytes.map(|stat| stat.length).sum())
        };
        logs.iter().map(files).collect()
    }
}
