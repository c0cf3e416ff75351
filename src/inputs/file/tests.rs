//! The whole input in the simulator: writers rotate, truncate, delete and come late; the process dies and goes on.
//!
//! Each case runs on several seeds. What is read is kept as the log would keep it, so a restart resumes from what an engine
//! would hand it.

use super::{LineTooLong, Settings, StartAt};
use crate::config::component::{Component, Facts, InputSettings};
use crate::config::types::{ByteSize, Period};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tailwater_shards::batch::{Batch, Source, SourceKey};
use tailwater_shards::counters::{Discard, InputCounters, Lost};
use tailwater_shards::env::{Env, ShardId};
use tailwater_shards::lane::{LaneOptions, LaneReceiver, lane};
use tailwater_shards::plugin::{InputContext, InputSpec, Lanes, peers};
use tailwater_shards::signal::Signal;
use tailwater_shards::sim::{Outside, SimEnv, Simulation};
use tailwater_shards::stop::{Phase, Stop};
use tailwater_shards::wal::SourceState;

const SEEDS: u64 = 12;
const LONG: Duration = Duration::from_secs(60);

/// What a log would have.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
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
        let source = batch.source.clone();
        let new = Kept { source, intervals: Vec::new(), marker: 0, gone: false, lines: Vec::new() };
        let kept = self.sources.entry(batch.source.key).or_insert(new);
        kept.source = batch.source.clone();
        kept.gone = batch.gone;
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
            let (start, end) = (batch.chunk_offset + u64::from(span.start), batch.chunk_offset + u64::from(span.end));
            assert!(start >= range.from && end <= range.to, "an event outside of {range:?}");
            let line = String::from_utf8_lossy(batch.event(index)).into_owned();
            kept.lines.push(line.clone());
            self.lines.push(line);
        }
    }

    fn states(&self) -> Vec<SourceState> {
        let state = |kept: &Kept| SourceState {
            source: kept.source.clone(),
            intervals: kept.intervals.clone(),
            marker: kept.marker,
            gone: None,
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
    settings: Settings,
    shards: u16,
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
            settings: settings(include),
            shards: 1 + (seed % 3) as u16,
            stop: Stop::new(),
            counters: Vec::new(),
            ended: Rc::default(),
            blocked: Rc::default(),
        }
    }

    fn start(&mut self) {
        let facts = Facts { host: "host".into() };
        let spec: Arc<dyn InputSpec<SimEnv>> = InputSettings::<SimEnv>::spec(&self.settings, &facts);
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
                resume: resume.clone(),
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

    /// Waits until as many lines were read.
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
        while let Some(batch) = receiver.pop() {
            log.borrow_mut().append(&batch);
            let ticket = batch.ticket;
            receiver.give_back(batch);
            receiver.acknowledge(ticket);
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

/// Runs a case on several seeds.
fn check(include: &[&str], case: impl Fn(&mut World)) {
    for seed in 0..SEEDS {
        let mut world = World::new(seed, include);
        case(&mut world);
    }
}

#[test]
fn lines_are_read_once_as_they_come() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 3000);
        world.append("/log/app.log", &text(&lines[..1000]));
        world.start();
        world.wait_for(1000);
        for piece in lines[1000..].chunks(77) {
            world.append("/log/app.log", &text(piece));
            world.simulation.run_for(Duration::from_millis(3));
        }
        world.wait_for(3000);
        world.wait(20);
        assert_eq!(world.log.borrow().lines, lines);
        assert_eq!(world.sum(|counters| counters.unread_bytes.get()), 0);
        assert_eq!(world.sum(|counters| counters.files.get()), 1);
        world.drain();
    });
}

#[test]
fn half_a_line_waits_for_its_end() {
    check(&["/log/app.log"], |world| {
        world.start();
        world.append("/log/app.log", "one\ntw");
        world.wait_for(1);
        world.wait(20);
        assert_eq!(world.log.borrow().lines, ["one"]);
        assert_eq!(world.sum(|counters| counters.unread_bytes.get()), 2);
        world.append("/log/app.log", "o\n\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["one", "two", ""]);
    });
}

#[test]
fn rotations_in_quick_succession_lose_nothing() {
    for include in ["/log/app.log", "/log/app.log*"] {
        check(&[include], |world| {
            let lines = numbered(0, 500);
            world.start();
            world.wait(2);
            for (round, piece) in lines.chunks(100).enumerate() {
                world.append("/log/app.log", &text(&piece[..99]));
                world.simulation.run_for(Duration::from_millis(15));
                for older in (0..round).rev() {
                    world.rename(&format!("/log/app.log.{older}"), &format!("/log/app.log.{}", older + 1));
                }
                world.rename("/log/app.log", "/log/app.log.0");
                world.append("/log/app.log.0", &text(&piece[99..]));
            }
            world.wait(20);
            world.expect(&lines);
        });
    }
}

#[test]
fn late_writer_is_heard_and_its_last_words_need_no_newline() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.rename("/log/app.log", "/log/old");
        world.append("/log/app.log", "new\n");
        world.wait_for(2);
        world.wait(2);
        world.append("/log/old", "late\nlast words");
        world.wait_for(3);
        world.wait(2);
        assert_eq!(world.log.borrow().lines, ["one", "new", "late"]);
        world.wait_for(4);
        world.wait(10);
        assert_eq!(world.log.borrow().lines, ["one", "new", "late", "last words"]);
        let log = world.log.borrow();
        assert!(log.sources[&log.source_of("one")].gone);
        assert!(!log.sources[&log.source_of("new")].gone);
        drop(log);
        assert_eq!(world.sum(|counters| counters.files.get()), 1);
    });
}

#[test]
fn copytruncate_after_all_was_read_loses_nothing() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 300);
        world.start();
        for piece in lines.chunks(100) {
            world.append("/log/app.log", &text(piece));
            let count = world.log.borrow().lines.len() + 100;
            world.wait_for(count);
            world.simulation.run_for(Duration::from_millis(20));
            world.outside.truncate("/log/app.log", 0).expect("truncated");
            world.wait(2);
        }
        world.expect(&lines);
        assert_eq!(world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get()), 0);
    });
}

#[test]
fn file_that_grew_past_the_old_offset_after_a_truncation_is_read_anew() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", &text(&numbered(0, 10)));
        world.start();
        world.wait_for(10);
        world.wait(15);
        world.outside.write("/log/app.log", text(&numbered(100, 150)).as_bytes()).expect("written");
        world.wait_for(60);
        world.wait(3);
        world.expect(&[numbered(0, 10), numbered(100, 150)].concat());
        let log = world.log.borrow();
        assert_ne!(log.source_of("line 00000000"), log.source_of("line 00000100"));
    });
}

#[test]
fn bytes_lost_to_a_truncation_are_counted() {
    check(&["/log/app.log"], |world| {
        world.append("/log/app.log", "one\nunfinished");
        world.start();
        world.wait_for(1);
        world.wait(3);
        world.outside.write("/log/app.log", b"two\n").expect("written");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
        assert_eq!(world.sum(|counters| counters.lost_bytes[Lost::Truncated as usize].get()), 10);
    });
}

#[test]
fn deleted_file_is_read_to_its_end() {
    check(&["/log/*.log"], |world| {
        let lines = numbered(0, 20_000);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(1);
        world.outside.remove("/log/app.log").expect("removed");
        world.wait_for(20_000);
        world.wait(10);
        assert_eq!(world.log.borrow().lines, lines);
        assert!(world.log.borrow().sources.values().all(|kept| kept.gone));
        assert_eq!(world.sum(|counters| counters.files.get()), 0);
    });
}

#[test]
fn reused_inode_is_a_new_file() {
    check(&["/log/*.log"], |world| {
        world.simulation.disk().set_inode_reuse(true);
        world.append("/log/a.log", "same header\nfirst\n");
        world.start();
        world.wait_for(2);
        let inode = world.outside.stat("/log/a.log").expect("there").inode;
        world.outside.remove("/log/a.log").expect("removed");
        world.wait(20);
        world.append("/log/b.log", "same header\nsecond, and longer\n");
        assert_eq!(world.outside.stat("/log/b.log").expect("there").inode, inode);
        world.wait_for(4);
        world.wait(3);
        assert_eq!(world.log.borrow().lines, ["same header", "first", "same header", "second, and longer"]);
    });
}

#[test]
fn inode_reused_while_the_process_was_down_is_a_new_file() {
    check(&["/log/*.log"], |world| {
        world.simulation.disk().set_inode_reuse(true);
        world.append("/log/a.log", "same header\nfirst\n");
        world.start();
        world.wait_for(2);
        world.kill();
        world.outside.remove("/log/a.log").expect("removed");
        world.append("/log/a.log", "same header\nsecond, and longer\n");
        world.start();
        world.wait_for(4);
        world.wait(3);
        assert_eq!(world.log.borrow().lines, ["same header", "first", "same header", "second, and longer"]);
    });
}

#[test]
fn switched_link_leads_to_the_new_file_and_the_old_is_finished() {
    check(&["/log/current"], |world| {
        world.outside.create_dir_all("/data").expect("made");
        world.append("/data/1", "one\n");
        world.outside.symlink("/data/1", "/log/current").expect("linked");
        world.start();
        world.wait_for(1);
        world.append("/data/1", "two\n");
        world.append("/data/2", "three\n");
        world.outside.symlink("/data/2", "/log/current").expect("linked");
        world.wait_for(3);
        world.append("/data/1", "four\n");
        world.append("/data/2", "five\n");
        world.wait_for(5);
        world.wait(10);
        world.append("/data/1", "nobody listens\n");
        world.append("/data/2", "six\n");
        world.wait_for(6);
        world.wait(5);
        world.expect(&["one", "two", "three", "four", "five", "six"].map(str::to_owned));
    });
}

#[test]
fn target_of_a_link_that_is_rotated_is_noticed() {
    check(&["/log/current"], |world| {
        world.outside.create_dir_all("/data").expect("made");
        world.append("/data/app", "one\n");
        world.outside.symlink("/data/app", "/log/current").expect("linked");
        world.start();
        world.wait_for(1);
        world.rename("/data/app", "/data/app.1");
        world.append("/data/app", "two\n");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
    });
}

#[test]
fn identical_headers_are_told_apart_over_a_restart() {
    check(&["/log/*.csv"], |world| {
        let header = "time,level,message\n".repeat(100);
        for file in 0..10 {
            world.append(&format!("/log/{file}.csv"), &header);
        }
        world.start();
        world.wait_for(1000);
        world.kill();
        for file in 0..10 {
            world.append(&format!("/log/{file}.csv"), &format!("{file}\n"));
        }
        world.start();
        world.wait_for(1010);
        world.wait(3);
        assert_eq!(world.log.borrow().lines.len(), 1010);
        assert_eq!(world.log.borrow().sources.len(), 10);
        assert!(world.log.borrow().sources.values().all(|kept| kept.lines.len() == 101));
    });
}

#[test]
fn file_that_grows_out_of_the_head_window_stays_itself() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 200);
        for (round, piece) in lines.chunks(20).enumerate() {
            world.append("/log/app.log", &text(piece));
            if round % 2 == 0 {
                world.start();
            }
            world.wait_for((round + 1) * 20);
            if round % 2 == 1 {
                world.kill();
            }
        }
        assert_eq!(world.log.borrow().lines, lines);
        assert_eq!(world.log.borrow().sources.len(), 1);
    });
}

#[test]
fn endless_line_is_cut_and_the_next_one_is_read() {
    for policy in [LineTooLong::Truncate, LineTooLong::Discard, LineTooLong::Split] {
        for seed in 0..3 {
            let mut world = World::new(seed, &["/log/app.log"]);
            world.settings.line_too_long = policy;
            world.append("/log/app.log", "before\n");
            world.append("/log/app.log", &"x".repeat(50 << 20));
            world.append("/log/app.log", "\nafter\n");
            world.start();
            let lines = match policy {
                LineTooLong::Truncate => 3,
                LineTooLong::Discard => 2,
                LineTooLong::Split => 202,
            };
            world.wait_for(lines);
            let log = world.log.borrow();
            assert_eq!(log.lines.len(), lines);
            assert_eq!((&*log.lines[0], &*log.lines[lines - 1]), ("before", "after"));
            assert!(log.lines[1..lines - 1].iter().all(|line| line.len() == 256 << 10));
            drop(log);
            let truncated = world.sum(|counters| counters.truncated_events.get());
            let discarded = world.sum(|counters| counters.discarded.get(Discard::LineTooLong));
            assert_eq!(
                (truncated, discarded),
                match policy {
                    LineTooLong::Truncate => (1, 0),
                    LineTooLong::Discard => (0, 1),
                    LineTooLong::Split => (0, 0),
                }
            );
        }
    }
}

#[test]
fn line_longer_than_a_chunk_is_whole() {
    check(&["/log/app.log"], |world| {
        let long = "y".repeat(200_000);
        world.start();
        world.append("/log/app.log", "a\n");
        for piece in long.as_bytes().chunks(30_000) {
            world.outside.append("/log/app.log", piece).expect("appended");
            world.simulation.run_for(Duration::from_millis(2));
        }
        world.append("/log/app.log", "\nb\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["a", &*long, "b"]);
    });
}

#[test]
fn restart_inside_a_skipped_line_goes_on_skipping() {
    check(&["/log/app.log"], |world| {
        world.settings.max_line_bytes = ByteSize(100);
        world.append("/log/app.log", &"z".repeat(300_000));
        world.start();
        world.wait_for(1);
        world.wait(2);
        world.kill();
        world.append("/log/app.log", &format!("{}\nnext\n", "z".repeat(1000)));
        world.start();
        world.wait_for(2);
        world.wait(2);
        assert_eq!(world.log.borrow().lines, ["z".repeat(100), "next".to_owned()]);
    });
}

#[test]
fn kill_at_any_moment_repeats_and_loses_nothing() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 30_000);
        let mut prng = world.simulation.prng("kills");
        world.start();
        for (round, piece) in lines.chunks(3000).enumerate() {
            world.append("/log/app.log", &text(piece));
            world.simulation.run_for(Duration::from_micros(prng.between(0, 30_000)));
            if round % 3 == 2 {
                world.rename("/log/app.log", &format!("/log/app.log.{round}"));
            }
            if prng.percent(60) {
                world.kill();
                world.shards = prng.between(1, 3) as u16;
                world.start();
            }
        }
        world.wait_for(30_000);
        world.wait(10);
        world.expect(&lines);
    });
}

#[test]
fn holes_are_filled_after_a_restart() {
    check(&["/log/app.log"], |world| {
        let lines = numbered(0, 9000);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(9000);
        world.kill();
        {
            // As if another shard's log with the middle third had been lost with an unsynced page.
            let mut log = world.log.borrow_mut();
            let length = text(&lines[..3000]).len() as u64;
            let kept = log.sources.values_mut().next().expect("one source");
            kept.intervals = vec![(0, length), (2 * length, 3 * length)];
            log.lines.drain(3000..6000);
        }
        world.start();
        world.wait_for(9000);
        world.wait(3);
        world.expect(&lines);
    });
}

#[test]
fn renamed_while_down_is_recognised() {
    check(&["/log/app.log*"], |world| {
        world.append("/log/app.log", "one\n");
        world.start();
        world.wait_for(1);
        world.kill();
        world.append("/log/app.log", "two\n");
        world.rename("/log/app.log", "/log/app.log.1");
        world.append("/log/app.log", "three\n");
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.expect(&["one", "two", "three"].map(str::to_owned));
        assert_eq!(world.log.borrow().source_of("one"), world.log.borrow().source_of("two"));
    });
}

#[test]
fn compressed_copies_are_not_read() {
    use std::io::Write;
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 500);
        world.append("/log/app.log", &text(&lines));
        world.start();
        world.wait_for(500);
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text(&lines).as_bytes()).expect("into memory");
        let compressed = encoder.finish().expect("into memory");
        world.rename("/log/app.log", "/log/app.log.1");
        world.outside.write("/log/app.log.1.gz", &compressed).expect("written");
        world.outside.remove("/log/app.log.1").expect("removed");
        world.outside.write("/log/app.log.7.gz", b"\x1f\x8bnot really").expect("written");
        world.append("/log/app.log", "new\n");
        world.wait_for(501);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 501);
        assert_eq!(world.sum(|counters| counters.errors.get()), 0);
    });
}

#[test]
fn unreadable_file_is_told_once_and_read_when_it_can_be() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "good\n");
        world.append("/log/b.log", "locked\n");
        world.simulation.disk().deny(Path::new("/log/b.log"), true).expect("denied");
        world.start();
        world.wait_for(1);
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1);
        world.simulation.disk().deny(Path::new("/log/b.log"), false).expect("allowed");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["good", "locked"]);
    });
}

#[test]
fn failing_reads_are_told_once_and_tried_again() {
    check(&["/log/*.log"], |world| {
        world.append("/log/a.log", "one\n");
        world.start();
        world.wait_for(1);
        world.simulation.disk().fail_reads(Path::new("/log/a.log"), true).expect("there");
        world.append("/log/a.log", "two\n");
        world.wait(5);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1);
        world.simulation.disk().fail_reads(Path::new("/log/a.log"), false).expect("there");
        world.wait_for(2);
        assert_eq!(world.log.borrow().lines, ["one", "two"]);
    });
}

#[test]
fn directory_may_come_later_go_and_come_again() {
    check(&["/srv/app/*/x.log"], |world| {
        world.start();
        world.wait(3);
        assert_eq!(world.sum(|counters| counters.errors.get()), 1, "an include without a file is told once");
        world.outside.create_dir_all("/srv/app/one").expect("made");
        world.append("/srv/app/one/x.log", "first\n");
        world.wait_for(1);
        world.append("/srv/app/one/x.log", "second\n");
        world.outside.remove_dir_all("/srv/app").expect("removed");
        world.wait_for(2);
        world.outside.create_dir_all("/srv/app/one").expect("made");
        world.append("/srv/app/one/x.log", "third\n");
        world.wait_for(3);
        assert_eq!(world.log.borrow().lines, ["first", "second", "third"]);
    });
}

#[test]
fn without_watches_everything_is_found_all_the_same() {
    check(&["/log/**/*.log"], |world| {
        world.simulation.disk().set_watch_silent(true);
        world.start();
        world.outside.create_dir_all("/log/a/b").expect("made");
        world.append("/log/a/b/c.log", "one\n");
        world.wait_for(1);
        world.append("/log/a/b/c.log", "two\n");
        world.wait_for(2);
        world.rename("/log/a/b/c.log", "/log/a/b/c.old");
        world.append("/log/a/b/c.old", "three\n");
        world.append("/log/a/b/c.log", "four\n");
        world.wait_for(4);
        world.wait(40);
        world.append("/log/a/b/c.log", "five\n");
        world.wait_for(5);
        world.expect(&["one", "two", "three", "four", "five"].map(str::to_owned));
    });
}

#[test]
fn overflowing_watches_lose_nothing() {
    check(&["/log/*.log*"], |world| {
        world.simulation.disk().set_watch_overflow(3);
        let lines = numbered(0, 200);
        world.start();
        for (round, piece) in lines.chunks(10).enumerate() {
            world.append("/log/a.log", &text(piece));
            world.simulation.run_for(Duration::from_millis(20));
            world.rename("/log/a.log", &format!("/log/a.log.{round}"));
        }
        world.wait_for(200);
        world.wait(10);
        world.expect(&lines);
    });
}

#[test]
fn start_at_end_leaves_out_what_was_there_for_good() {
    check(&["/log/*.log"], |world| {
        world.settings.start_at = StartAt::End;
        world.append("/log/old.log", "old\nunfi");
        world.start();
        world.wait(2);
        world.append("/log/old.log", "nished\n");
        world.append("/log/new.log", "new\n");
        world.wait_for(2);
        world.wait(2);
        world.kill();
        world.append("/log/old.log", "more\n");
        world.start();
        world.wait_for(3);
        world.wait(3);
        world.expect(&["unfinished", "new", "more"].map(str::to_owned));
    });
}

#[test]
fn full_lane_stops_the_reader_and_nothing_is_missed_meanwhile() {
    check(&["/log/app.log*"], |world| {
        let lines = numbered(0, 200_000);
        world.blocked.set(true);
        world.start();
        for (round, piece) in lines.chunks(40_000).enumerate() {
            world.append("/log/app.log", &text(piece));
            world.wait(1);
            world.rename("/log/app.log", &format!("/log/app.log.{round}"));
            world.wait(1);
        }
        assert!(world.log.borrow().lines.is_empty());
        world.blocked.set(false);
        world.wait_for(200_000);
        world.expect(&lines);
    });
}

#[test]
fn hot_file_starves_no_other() {
    check(&["/log/*.log"], |world| {
        world.shards = 1;
        let hot = text(&numbered(0, 200_000));
        world.append("/log/a.log", &hot);
        world.append("/log/b.log", "quiet\n");
        world.start();
        let log = world.log.clone();
        world.simulation.must("the quiet file is read", || log.borrow().lines.iter().any(|line| line == "quiet"), LONG);
        assert!(world.log.borrow().lines.len() < 50_000);
    });
}

#[test]
fn rotation_every_second_and_quiet_files_beside() {
    for seed in 0..3 {
        let mut world = World::new(seed, &["/log/*.log*"]);
        for file in 0..300 {
            world.append(&format!("/log/quiet{file}.log"), &format!("quiet {file}\n"));
        }
        world.start();
        world.wait_for(300);
        let lines = numbered(0, 3000);
        for (round, piece) in lines.chunks(100).enumerate() {
            world.append("/log/hot.log", &text(piece));
            world.wait(1);
            world.rename("/log/hot.log", &format!("/log/hot.log.{round}"));
        }
        world.wait_for(3300);
        world.append("/log/quiet7.log", "awake\n");
        world.wait_for(3301);
        world.wait(3);
        assert_eq!(world.log.borrow().lines.len(), 3301);
    }
}

#[test]
fn quiet_files_are_closed_and_read_when_they_grow() {
    for seed in 0..4 {
        let mut world = World::new(seed, &["/log/*.log"]);
        for file in 0..200 {
            world.append(&format!("/log/{file:03}.log"), "first\n");
        }
        world.start();
        world.wait_for(200);
        world.wait(20);
        for file in 0..200 {
            world.append(&format!("/log/{file:03}.log"), "second\n");
        }
        world.wait_for(400);
        world.wait(20);
        assert_eq!(world.log.borrow().lines.len(), 400);
        for file in 0..200 {
            // Truncated while closed: the descriptor that is opened then finds other bytes before the position.
            world.outside.write(format!("/log/{file:03}.log"), b"third, and a longer one\n").expect("written");
        }
        world.wait_for(600);
        assert_eq!(world.sum(|counters| counters.files.get()), 200);
        assert_eq!(world.sum(|counters| counters.errors.get()), 0);
    }
}

#[test]
fn settings_are_checked() {
    let good = settings(&["/var/log/*.log"]);
    assert_eq!(good.check(), Ok(()));
    assert_eq!(good.rotate_wait, Period(Duration::from_secs(5)));
    let key = |settings: Settings| settings.check().expect_err("a mistake").key;
    assert_eq!(key(Settings { include: Vec::new(), ..good.clone() }), "include");
    assert_eq!(key(Settings { exclude: vec!["[".to_owned()], ..good.clone() }), "exclude");
    assert_eq!(key(Settings { max_line_bytes: ByteSize(1), ..good.clone() }), "max_line_bytes");
    assert_eq!(key(Settings { max_line_bytes: ByteSize(1 << 40), ..good }), "max_line_bytes");
    let example: Result<serde_json::Value, _> = serde_saphyr::from_str(Settings::EXAMPLE);
    assert!(example.is_ok_and(|example| example["type"] == Settings::NAME));
    assert!(serde_saphyr::from_str::<Settings>("include: [a]\ninclud: [b]\n").is_err());
}
