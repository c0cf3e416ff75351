//! The whole input in the simulator: writers rotate, truncate, delete and write late, and the process is killed and
//! restarted.
//!
//! Each case runs with several seeds. Everything that is read is stored as the WAL would store it, so a restart resumes from
//! the state that an engine would pass to it.

mod crowd;
mod encodings;
mod found;
mod hanging;
mod links;
mod nul;
mod reading;
mod replaced;
mod restart;
mod rotation;
pub mod sparse;
mod trees;
mod truncation;

use super::{LineTooLong, Settings, StartAt};
use crate::config::component::{Component, Facts, InputSettings};
use crate::config::room::Room;
use crate::config::types::{ByteSize, Period};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::{Batch, Source, SourceKey};
use tailwater_shards::counters::{Discard, InputCounters, Lost};
use tailwater_shards::env::{Env, ShardId, Timestamp};
use tailwater_shards::lane::{LaneOptions, LaneReceiver, lane};
use tailwater_shards::limits::FOLLOWED_POSITION_BYTES_MIN;
use tailwater_shards::plugin::{InputContext, InputSpec, Lanes, peers};
use tailwater_shards::signal::Signal;
use tailwater_shards::sim::{Outside, SimEnv, Simulation};
use tailwater_shards::stop::{Phase, Stop};
use tailwater_shards::wal::SourceState;

const SEEDS: u64 = 12;
const LONG: Duration = Duration::from_secs(60);

/// What a WAL would contain.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    /// The events that are beginnings of longer lines.
    truncated: Vec<String>,
    batches: usize,
    /// Bytes of positions for which there is room.
    room: u64,
    sources: BTreeMap<SourceKey, Kept>,
}

struct Kept {
    source: Arc<Source>,
    intervals: Vec<(u64, u64)>,
    marker: u64,
    gone: bool,
    lines: Vec<String>,
}

impl Log {
    fn append(&mut self, batch: &Batch) {
        self.batches += 1;
        let source = batch.source.clone();
        let new = Kept { source, intervals: Vec::new(), marker: 0, gone: false, lines: Vec::new() };
        let kept = self.sources.entry(batch.source.key).or_insert(new);
        kept.source = batch.source.clone();
        kept.gone = batch.gone;
        let existing = self.sources.values().filter(|kept| !kept.gone).count() as u64;
        let bytes = existing * FOLLOWED_POSITION_BYTES_MIN as u64;
        assert!(bytes <= self.room, "{existing} positions have no room");
        let kept = self.sources.get_mut(&batch.source.key).expect("it is there");
        let range = batch.range;
        if range.to > range.from {
            for &(from, to) in &kept.intervals {
                assert!(range.to <= from || range.from >= to, "{range:?} repeats {from}..{to}");
            }
            if kept.intervals.iter().all(|one| one.1 <= range.from) {
                kept.marker = range.marker;
            }
            kept.intervals.push((range.from, range.to));
            kept.intervals.sort_unstable();
            let mut merged: Vec<(u64, u64)> = Vec::new();
            for &(from, to) in &kept.intervals {
                match merged.last_mut() {
                    Some(last) if last.1 == from => last.1 = to,
                    _ => merged.push((from, to)),
                }
            }
            kept.intervals = merged;
        }
        for (index, span) in batch.events.iter().enumerate() {
            let start = batch.offset_of(index);
            let end = if batch.offsets.is_empty() { start + span.length() as u64 } else { start };
            assert!(start >= range.from && end <= range.to, "an event outside of {range:?}");
            let line = String::from_utf8_lossy(batch.event(index)).into_owned();
            kept.lines.push(line.clone());
            if batch.is_truncated(index) {
                self.truncated.push(line.clone());
            }
            self.lines.push(line);
        }
    }

    fn states(&self) -> Vec<SourceState> {
        let state = |kept: &Kept| SourceState {
            source: kept.source.clone(),
            intervals: kept.intervals.clone(),
            marker: kept.marker,
            gone: kept.gone.then_some(Timestamp(1)),
            told: 0,
            recorded: Timestamp(0),
        };
        self.sources.values().map(state).collect()
    }

    fn source_of(&self, line: &str) -> SourceKey {
        let found = self.sources.iter().find(|one| one.1.lines.iter().any(|have| have == line));
        *found.unwrap_or_else(|| panic!("no source has the line {line}")).0
    }
}

struct World {
    simulation: Simulation,
    outside: Outside,
    log: Rc<RefCell<Log>>,
    /// The states of inputs that are no longer configured.
    orphans: Arc<Vec<SourceState>>,
    settings: Settings,
    /// Bytes of positions for which there is room.
    room: u64,
    shards: u16,
    deliverers: Vec<u64>,
    stop: Stop,
    counters: Vec<Arc<InputCounters>>,
    ended: Rc<Cell<u16>>,
    blocked: Rc<Cell<bool>>,
}

fn settings(include: &[&str]) -> Settings {
    let globs: Vec<String> = include.iter().map(|glob| format!("\"{glob}\"")).collect();
    let text = format!("include: [{}]\n", globs.join(", "));
    serde_saphyr::from_str(&text).expect("valid settings")
}

impl World {
    fn new(seed: u64, include: &[&str]) -> World {
        let simulation = Simulation::new(seed);
        let outside = simulation.disk().outside();
        outside.create_dir_all("/log").expect("a new directory");
        World {
            outside,
            simulation,
            log: Rc::default(),
            orphans: Arc::default(),
            settings: settings(include),
            room: u64::MAX / 8,
            shards: 1 + (seed % 3) as u16,
            deliverers: Vec::new(),
            stop: Stop::new(),
            counters: Vec::new(),
            ended: Rc::default(),
            blocked: Rc::default(),
        }
    }

    fn start(&mut self) {
        let facts = Facts { room: Arc::new(Room::of(self.room)), ..Facts::of("host") };
        let spec: Arc<dyn InputSpec<SimEnv>> = InputSettings::<SimEnv>::spec(&self.settings, &facts);
        self.log.borrow_mut().room = self.room;
        let resume = Arc::new(self.log.borrow().states());
        self.stop = Stop::new();
        self.ended.set(0);
        self.counters.clear();
        for (number, seed) in peers(usize::from(self.shards)).into_iter().enumerate() {
            let shard = ShardId(number as u16);
            let env = self.simulation.env(shard);
            let counters = Arc::new(InputCounters::default());
            self.counters.push(counters.clone());
            let ready = Arc::new(Signal::new());
            let (sender, receiver, _) = lane(LaneOptions::default(), ready.clone(), counters.clone());
            let context = InputContext {
                env: env.clone(),
                name: "app".into(),
                shards: usize::from(self.shards),
                deliverers: self.deliverers.clone().into(),
                resume: resume.clone(),
                orphans: self.orphans.clone(),
                data_dir: Arc::new("/data".into()),
                lanes: Rc::new(Lanes::new(env.clone(), vec![sender])),
                peers: Rc::new(seed.open(shard)),
                stop: self.stop.clone(),
                counters,
            };
            env.spawn("intake", collect(env.clone(), receiver, ready, self.log.clone(), self.blocked.clone()));
            let (run, ended) = (spec.run(context), self.ended.clone());
            env.spawn("input", async move {
                run.await.expect("the input ends well");
                ended.set(ended.get() + 1);
            });
        }
    }

    /// Starts with the [`quiet_files`], one line in each, and waits until they were read and closed because they are quiet.
    fn start_over_quiet_files(&mut self) {
        for path in quiet_files() {
            self.append(&path, "first\n");
        }
        self.start();
        self.wait_for(quiet_files().count());
        self.wait(20);
    }

    fn follow_links_to(&mut self, targets: &[&str]) {
        self.settings.follow_links = true;
        self.settings.link_targets = targets.iter().map(|&target| target.to_owned()).collect();
    }

    fn kill(&mut self) {
        self.simulation.crash_shards();
    }

    fn drain(&mut self) {
        self.stop.enter(Phase::Draining);
        let (ended, shards) = (self.ended.clone(), self.shards);
        self.simulation.must("the input ends", || ended.get() == shards, LONG);
    }

    fn append(&self, path: &str, text: &str) {
        self.outside.append(path, text.as_bytes()).expect("appended");
    }

    fn rename(&self, from: &str, to: &str) {
        self.outside.rename(from, to).expect("renamed");
    }

    /// Ends the input by a stop or a kill; batches in the lanes are lost.
    fn end(&mut self) {
        if self.simulation.seed().is_multiple_of(2) {
            self.stop.enter(Phase::Draining);
            self.wait(2);
            self.stop.enter(Phase::Forced);
            let (ended, shards) = (self.ended.clone(), self.shards);
            self.simulation.must("the input ends", || ended.get() == shards, LONG);
        }
        self.kill();
        self.blocked.set(false);
    }

    fn lost(&self, reason: Lost) -> u64 {
        self.sum(|counters| counters.lost_bytes[reason as usize].get())
    }

    /// The lines that were read, in order.
    #[track_caller]
    fn assert_order(&self, lines: &[String]) {
        let log = self.log.borrow();
        let at = log.lines.iter().zip(lines).position(|(have, want)| have != want);
        let have = at.map(|at| &log.lines[at..(at + 5).min(log.lines.len())]);
        assert_eq!((log.lines.len(), have), (lines.len(), None), "seed {}: at {at:?}", self.simulation.seed());
    }

    /// Waits until this many lines were read.
    fn wait_for(&mut self, lines: usize) {
        let log = self.log.clone();
        let what = format!("{lines} lines");
        let outcome = self.simulation.run_until(|| log.borrow().lines.len() >= lines, LONG);
        let have = log.borrow().lines.len();
        assert!(have >= lines, "seed {}: {what}: {outcome:?}, {have} came", self.simulation.seed());
    }

    fn wait(&mut self, seconds: u64) {
        self.simulation.run_for(Duration::from_secs(seconds));
    }

    /// Every line was read once.
    fn expect(&self, lines: &[String]) {
        let mut have = self.log.borrow().lines.clone();
        let mut want = lines.to_vec();
        have.sort_unstable();
        want.sort_unstable();
        assert_eq!(have.len(), want.len(), "seed {}: {:?}", self.simulation.seed(), tail(&have));
        assert_eq!(have, want, "seed {}", self.simulation.seed());
    }

    fn sum(&self, counter: impl Fn(&InputCounters) -> u64) -> u64 {
        self.counters.iter().map(|counters| counter(counters)).sum()
    }
}

fn tail(lines: &[String]) -> &[String] {
    &lines[lines.len().saturating_sub(5)..]
}

async fn collect(
    env: SimEnv,
    mut receiver: LaneReceiver,
    ready: Arc<Signal>,
    log: Rc<RefCell<Log>>,
    blocked: Rc<Cell<bool>>,
) {
    loop {
        while blocked.get() {
            env.sleep(Duration::from_millis(10)).await;
        }
        while let Some(batch) = receiver.pop(|_| false) {
            log.borrow_mut().append(&batch);
            let ticket = batch.ticket;
            receiver.give_back(batch);
            receiver.acknowledger().acknowledge(ticket);
        }
        if receiver.is_finished() {
            return;
        }
        ready.wait().await;
    }
}

fn numbered(from: usize, to: usize) -> Vec<String> {
    (from..to).map(|number| format!("line {number:08}")).collect()
}

fn text(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// More files than stay open.
fn quiet_files() -> impl Iterator<Item = String> {
    (0..200).map(|file| format!("/log/{file:03}.log"))
}

/// Runs a case with several seeds.
fn check(include: &[&str], case: impl Fn(&mut World)) {
    check_some(SEEDS, include, case);
}

/// The same with fewer seeds, for cases that take long.
fn check_some(seeds: u64, include: &[&str], case: impl Fn(&mut World)) {
    for seed in 0..seeds {
        let mut world = World::new(seed, include);
        case(&mut world);
    }
}
