//! A cluster: the whole engine on the simulated machine, through many lives.

use super::setup::DATA_DIR;
use super::{Ledger, OutputKind, Setup, decode_line};
use crate::counters::Discard;
use crate::engine::{Meters, prepare};
use crate::env::{Env, ShardId};
use crate::sim::oracle::{Event, OutputIndex};
use crate::sim::{Crash, Outcome, Prng, SimDisk, SimEnv, Simulation};
use crate::stop::{Phase, Stop};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// One life of the process.
pub struct Life {
    /// Its end.
    pub stop: Stop,
    /// What it counts.
    pub meters: Arc<Meters<SimDisk>>,
    /// Its shards.
    pub shards: usize,
    running: Rc<Cell<usize>>,
}

impl Life {
    /// Whether every shard has ended.
    pub fn has_ended(&self) -> bool {
        self.running.get() == 0
    }

    /// Something that says whether every shard has ended, for a condition.
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
    /// What happened.
    pub ledger: Ledger,
    /// What it is made of.
    pub setup: Setup,
    /// The present life.
    pub life: Option<Life>,
    /// Numbers for the test's own decisions.
    pub chance: Prng,
}

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
        Cluster { simulation, ledger: setup.ledger(), setup, life: None, chance }
    }

    /// Starts the process with so many shards. An error is what a person would read.
    pub fn start(&mut self, shards: usize) -> Result<(), String> {
        let stop = Stop::new();
        let disk = self.simulation.env(ShardId(0)).disk().clone();
        let plan = self.setup.plan(shards, &self.ledger);
        let wall = self.simulation.wall();
        let engine = prepare::<SimEnv>(&disk, plan, wall, stop.clone()).map_err(|error| error.to_string())?;
        let running = Rc::new(Cell::new(shards));
        for seed in engine.seeds {
            let env = self.simulation.env(seed.shard);
            let running = running.clone();
            env.clone().spawn("shard", async move {
                seed.run(env).await;
                running.set(running.get() - 1);
            });
        }
        self.life = Some(Life { stop, meters: engine.meters, shards, running });
        Ok(())
    }

    /// The present life.
    pub fn alive(&self) -> &Life {
        self.life.as_ref().expect("the test has started a life")
    }

    /// Gives a source another event.
    pub fn make(&mut self, source: usize, bytes: usize) {
        let input = self.ledger.state().sources[source].input;
        let outputs = self.setup.outputs_of(input);
        self.ledger.make(source, bytes, &outputs);
    }

    /// Gives random sources so many events.
    pub fn make_some(&mut self, events: u64) {
        let sources = self.ledger.state().sources.len();
        for _ in 0..events {
            let source = self.chance.index(sources);
            let bytes = match self.chance.below(400) {
                0 if self.setup.wal.segment_bytes >= 256 * 1024 => 70_000,
                0..=40 => self.chance.between(1000, 4000) as usize,
                _ => self.chance.between(1, 200) as usize,
            };
            self.make(source, bytes);
        }
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, time: Duration) -> Outcome {
        self.simulation.run_for(time)
    }

    /// Ends the present life at once, whatever state it is in.
    pub fn crash(&mut self, kind: Crash) {
        self.settle_counts();
        self.life = None;
        self.simulation.crash(kind);
        self.ledger.restarted(self.simulation.now());
    }

    /// Ends the present life in order, and panics with the seed where it does not end.
    pub fn drain(&mut self, time: Duration) {
        let life = self.alive();
        life.stop.enter(Phase::Draining);
        let end = life.end();
        self.simulation.must("the end of the drain", end, time);
        let failure = self.alive().stop.failure();
        assert!(failure.is_none(), "seed {}: the drain failed: {failure:?}", self.setup.seed);
        self.crash(Crash::Process);
    }

    /// Tells the oracles what this life counted as discarded without naming it.
    fn settle_counts(&mut self) {
        let Some(life) = &self.life else { return };
        let meters = &life.meters;
        let mut state = self.ledger.state();
        for (index, record) in state.outputs.iter_mut().enumerate() {
            let mut tell = |reason: &str, events: u64| {
                if events > 0 {
                    record.oracle.discarded_count(OutputIndex(0), reason, events);
                }
            };
            for meter in meters.outputs.iter().filter(|meter| meter.output == index) {
                for reason in Discard::ALL.into_iter().filter(|reason| *reason != Discard::Rejected) {
                    tell(reason.name(), meter.counters.discarded.get(reason));
                }
            }
            let number = meters.outputs.iter().find(|meter| meter.output == index).map(|meter| meter.number);
            for discarded in
                number.iter().flat_map(|number| meters.wal_full.iter().map(|all| &all[usize::from(number.0)]))
            {
                tell(Discard::WalFull.name(), discarded.total());
            }
            for input in meters.inputs.iter().filter(|input| self.setup.outputs_of(input.input).contains(&index)) {
                let dropped: u64 = input.lanes.iter().map(|lane| lane.counters().dropped_events.get()).sum();
                tell(Discard::RingFull.name(), input.counters.discarded.total() + dropped);
            }
        }
    }

    /// Takes every fault and mood away.
    pub fn heal(&mut self) {
        let disk = self.simulation.disk();
        disk.set_free_bytes(None);
        disk.fail_syncs(0);
        disk.fail_directory_syncs(0);
        disk.fail_writes(0);
        let mut state = self.ledger.state();
        state.inputs = super::Mood::default();
        state.outputs.iter_mut().for_each(|record| record.mood = super::Mood::default());
    }

    /// Whether every event that was made has been read in this life.
    pub fn caught_up(&self) -> impl Fn() -> bool + use<> {
        let ledger = self.ledger.clone();
        move || ledger.state().sources.iter().all(|source| source.next == source.events())
    }

    /// Heals everything, lets all that was made come out, then sends fresh events through, and judges all outputs.
    pub fn finish(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(900);
        self.heal();
        for round in 0..2 {
            let shards = self.chance.between(self.setup.shards.0, self.setup.shards.1) as usize;
            if round == 1 {
                let sources = self.ledger.state().sources.len();
                (0..sources).for_each(|source| self.make(source, 30));
            }
            let started = self.start(shards);
            assert!(started.is_ok(), "seed {}: a healthy start failed: {started:?}", self.setup.seed);
            let caught_up = self.caught_up();
            self.simulation.must("all sources read", caught_up, PATIENCE);
            self.drain(PATIENCE);
        }
        self.read_files();
        for output in 0..self.setup.outputs.len() {
            if let Err(report) = self.ledger.check(output) {
                panic!("seed {}: output {output}: {report}\n{:?}", self.setup.seed, self.setup);
            }
            self.check_fresh(output);
        }
    }

    /// The last event of each source was made when all was well: it has come out.
    fn check_fresh(&self, output: usize) {
        let state = self.ledger.state();
        for (number, source) in state.sources.iter().enumerate() {
            if self.setup.delivers(source.input, output) {
                let record = &state.outputs[output];
                let came = record.rejects || record.oracle.came(OutputIndex(0), number as u64, source.events() - 1);
                assert!(came, "seed {}: a fresh event of {number} never reached output {output}", self.setup.seed);
            }
        }
    }

    /// Tells the oracles what is in the files of exact outputs.
    fn read_files(&mut self) {
        let outside = self.simulation.disk().outside();
        for output in (0..self.setup.outputs.len()).filter(|at| self.setup.outputs[*at].kind == OutputKind::Exact) {
            let bytes = outside.read(self.setup.file(output)).unwrap_or_default();
            let length = self.ledger.state().outputs[output].file_bytes as usize;
            assert!(bytes.len() >= length, "seed {}: a file lost committed bytes", self.setup.seed);
            let events: Vec<Event> = bytes[..length]
                .split_inclusive(|&byte| byte == b'\n')
                .map(|line| decode_line(line).unwrap_or_else(|| panic!("seed {}: a broken line", self.setup.seed)))
                .collect();
            self.ledger.delivered(output, self.simulation.now(), &events);
        }
    }

    /// The segments and standbys of every log on the disk: how many files, and how many bytes.
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
