//! Tests of the whole log, on the simulated disk.
//!
//! One event is a line with its ordinal, and one byte of the only source stands for one event. The content of a log and its
//! positions can therefore be compared.

mod fixtures;
mod frames;
mod full;
mod model;
mod positions;
mod recovery;
mod rolling;
mod space;

use super::builder::Group;
use super::cursor::Cursor;
use super::frame::FrameKind;
use super::log::Log;
use super::recovery::{RecoveredLog, scan_log};
use super::writer::{LogState, Writer};
use super::*;
use crate::batch::SourceRange;
use crate::env::{Disk, Env, File as _, ShardId};
use crate::sim::{Crash, SimDisk, SimEnv, Simulation};
use std::path::Path;

const DIRECTORY: &str = "/data/wal/log-00000001";
const QUARANTINE: &str = "/data/quarantine";
const LOG: LogId = LogId(1);
const ALL: u64 = 0b11;

type TestWriter = Writer<SimEnv>;

struct Machine {
    simulation: Simulation,
    options: WalOptions,
}

impl Machine {
    fn new(seed: u64, segment_bytes: u64, segments: u64) -> Machine {
        let simulation = Simulation::new(seed);
        simulation.disk().outside().create_dir_all(DIRECTORY).unwrap();
        simulation.disk().outside().sync_all();
        let log_bytes = segment_bytes * segments;
        let options = WalOptions { kind: WalType::Disk, sync: SyncPolicy::EveryBatch, segment_bytes, log_bytes };
        Machine { simulation, options }
    }

    fn disk(&self) -> SimDisk {
        self.simulation.disk().clone()
    }

    fn scan(&mut self) -> Result<RecoveredLog<SimDisk>, WalError> {
        let env = self.simulation.env(ShardId(0));
        scan_log(env.disk(), Path::new(DIRECTORY), LOG, Some(Path::new(QUARANTINE)))
    }

    fn try_open(&mut self) -> Result<TestWriter, WalError> {
        let recovered = self.scan()?;
        let env = self.simulation.env(ShardId(0));
        let state = recovered.state.clone();
        Writer::open(env, self.options.clone(), recovered, state, Sequence(0))
    }

    fn open(&mut self) -> TestWriter {
        self.try_open().unwrap()
    }

    fn segment_path(number: u64) -> String {
        format!("{DIRECTORY}/{}", super::segment::segment_name(number))
    }
}

fn source() -> Arc<Source> {
    Arc::new(Source {
        key: SourceKey(7),
        input: "app".into(),
        name: b"/var/log/app.log".to_vec(),
        descriptor: vec![1, 2, 3],
        repeatable: true,
    })
}

fn line(ordinal: u64, padding: usize) -> String {
    format!("{{\"n\":{ordinal},\"p\":\"{}\"}}\n", "x".repeat(padding))
}

fn ordinal_of(line: &[u8]) -> u64 {
    let text = str::from_utf8(line).unwrap();
    text.strip_prefix("{\"n\":").unwrap().split(',').next().unwrap().parse().unwrap()
}

/// A group of frames with consecutive events from `first` on. The numbers are the events per frame.
fn group(writer: &TestWriter, source: &Arc<Source>, first: u64, frames: &[u64], padding: usize) -> Group {
    let mut group = Group::new();
    let mut next = first;
    for &events in frames {
        let frame = group.frame(FrameKind::Events, 0, ALL);
        for _ in 0..events {
            frame.payload().extend_from_slice(line(next, padding).as_bytes());
            frame.end_event(Timestamp(5), None);
            next += 1;
        }
    }
    let range = SourceRange { from: first, to: next, marker: next * 10 };
    let known = writer.knows(source);
    group.last().unwrap().position(&range, source, !known, false);
    group.frames_mut().iter_mut().for_each(|frame| frame.finish());
    group
}

fn sync(writer: &mut TestWriter, disk: &impl Disk) -> Result<(), WalError> {
    let Some(target) = writer.sync_target() else { return Ok(()) };
    let directory = target.directory.as_ref().map_or(Ok(()), |directory| disk.sync_dir(directory));
    let synced = directory.and_then(|()| target.files.iter().try_for_each(|file| file.sync()));
    match synced {
        Ok(()) => {
            writer.synced(&target);
            Ok(())
        }
        Err(error) => Err(writer.sync_failed(error)),
    }
}

fn maintain(writer: &mut TestWriter) -> Result<bool, WalError> {
    let Some(work) = writer.take_maintenance() else { return Ok(false) };
    writer.maintained(work.run()).map(|()| true)
}

/// Ordinals of all events from `from` on.
fn read(log: &Arc<Log<SimDisk>>, from: Position) -> Vec<u64> {
    let mut cursor = Cursor::open(log.clone(), from);
    let mut ordinals = Vec::new();
    while let Some(frame) = cursor.next().unwrap() {
        let view = frame.view().unwrap();
        ordinals.extend(view.lines(frame.first_event()).unwrap().map(|line| ordinal_of(line.bytes)));
    }
    ordinals
}

fn commit_of(number: u64, position: Position) -> Commit {
    Commit { output: OutputNumber(0), instance: None, number, cursors: vec![(LOG, position)], state: Some(vec![9; 5]) }
}
