//! Target `log`: a script of appends, syncs, commits, partial reads, recycling, crashes, power losses and damage, compared
//! with a vector of what was written.
//!
//! Promises: each of three readers, which come and go at their own pace, reads what was written, in order, byte for byte.
//! What was acknowledged survives a power loss, everything appended survives the death of the process, and a group is
//! complete or absent. A reader continues at its last durable commit or a later one. Nothing is removed before every reader
//! has released it. From a damaged WAL nothing is read that was not written, and a hole is reported with its position.

use crate::Verdict;
use crate::script::Script;
use std::path::Path;
use std::sync::Arc;
use tailwater_shards::batch::{Source, SourceKey, SourceRange};
use tailwater_shards::env::{Disk, Env, File as _, ShardId, Timestamp};
use tailwater_shards::sim::{Crash, SimDisk, SimEnv, Simulation};
use tailwater_shards::wal::builder::Group;
use tailwater_shards::wal::cursor::{Cursor, Frame};
use tailwater_shards::wal::frame::FrameKind;
use tailwater_shards::wal::log::{Log, Reader};
use tailwater_shards::wal::recovery::{RecoveredLog, scan_log};
use tailwater_shards::wal::segment::segment_name;
use tailwater_shards::wal::writer::Writer;
use tailwater_shards::wal::{
    Commit, LogId, OutputNumber, Position, Sequence, SyncPolicy, WalError, WalOptions, WalType,
};

const SEGMENT_BYTES: u64 = 4096;
const SEGMENTS: u64 = 6;
const DIRECTORY: &str = "/data/wal/log-00000001";
const LOG: LogId = LogId(1);
const KEY: SourceKey = SourceKey(7);
const READERS: usize = 3;
const STEPS: usize = 80;
const LIVES: usize = 6;

/// One event. Its line begins with its index in the vector.
#[derive(Clone, Debug, PartialEq)]
struct Written {
    line: Vec<u8>,
    timestamp: i64,
    mask: u64,
}

/// One reader over all runs.
#[derive(Default)]
struct Reading {
    /// Its commits, each with its index in the vector. The first is its creation.
    commits: Vec<(Commit, usize)>,
    /// How many of them are durable.
    durable: usize,
    /// Events that it has released.
    released: usize,
}

/// The vector, and what else is known about the WAL.
struct Model {
    simulation: Simulation,
    events: Vec<Written>,
    /// What a failed append may have written.
    attempted: Vec<Written>,
    acknowledged: usize,
    readings: [Reading; READERS],
}

/// One run of the process.
struct Life {
    writer: Writer<SimEnv>,
    readers: Vec<(Cursor<SimDisk>, Arc<Reader>, usize)>,
    source: Arc<Source>,
}

/// How a run ended.
#[derive(PartialEq)]
enum End {
    Process,
    Power,
    Damaged,
}

/// See the module.
pub fn check(data: &[u8]) -> Verdict {
    let mut script = Script::new(data);
    let simulation = Simulation::new(1 + u64::from(script.byte()));
    simulation.disk().outside().create_dir_all(DIRECTORY).expect("an empty disk takes a directory");
    simulation.disk().outside().sync_all();
    let mut model =
        Model { simulation, events: Vec::new(), attempted: Vec::new(), acknowledged: 0, readings: Default::default() };
    let mut promised = 0;
    for _ in 0..LIVES {
        let end = model.live(&mut script, promised);
        if end == End::Damaged {
            return Verdict::Accepted;
        }
        if end == End::Power {
            promised = model.acknowledged;
            model.simulation.crash(Crash::Power);
        } else {
            promised = model.events.len();
            model.readings.iter_mut().for_each(|reading| reading.durable = reading.commits.len());
            model.simulation.crash(Crash::Process);
        }
        if script.is_empty() {
            break;
        }
    }
    let writer = model.open().unwrap_or_else(|error| panic!("the log does not open any more: {error}"));
    drop(model.begin(writer, promised));
    Verdict::accepted(!model.events.is_empty())
}

impl Model {
    fn scan(&mut self) -> Result<RecoveredLog<SimDisk>, WalError> {
        let env = self.simulation.env(ShardId(0));
        scan_log(env.disk(), Path::new(DIRECTORY), LOG, Some(Path::new("/data/quarantine")))
    }

    fn open(&mut self) -> Result<Writer<SimEnv>, WalError> {
        let recovered = self.scan()?;
        let log_bytes = SEGMENT_BYTES * SEGMENTS;
        let sync = SyncPolicy::EveryBatch;
        let options = WalOptions { kind: WalType::Disk, sync, segment_bytes: SEGMENT_BYTES, log_bytes };
        let state = recovered.state.clone();
        Writer::open(self.simulation.env(ShardId(0)), options, recovered, state, Sequence(0))
    }

    /// One run, and how it ended.
    fn live(&mut self, script: &mut Script<'_>, promised: usize) -> End {
        let writer = self.open().unwrap_or_else(|error| panic!("the log does not open any more: {error}"));
        let mut life = self.begin(writer, promised);
        for _ in 0..STEPS {
            if script.is_empty() {
                break;
            }
            match self.step(&mut life, script) {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(error) => {
                    let crashed = self.simulation.disk().crashed();
                    assert!(crashed, "a step failed on a disk that works: {error}");
                    return End::Power;
                }
            }
        }
        End::Process
    }

    /// Compares the recovered WAL with the vector, adjusts the vector to it, and lets the readers continue.
    fn begin(&mut self, writer: Writer<SimEnv>, promised: usize) -> Life {
        let state = writer.state().sources.get(KEY);
        let end = state.map_or(0, |state| state.end()) as usize;
        assert!(state.is_none_or(|state| end == 0 || state.intervals == [(0, end as u64)]), "a hole in {state:?}");
        assert!(end >= promised, "{promised} events were promised, {end} are left");
        let attempted = std::mem::take(&mut self.attempted);
        if end > self.events.len() {
            assert_eq!(end, self.events.len() + attempted.len(), "a group is whole or not there");
            self.events.extend(attempted);
        }
        self.events.truncate(end);
        self.acknowledged = end;
        let log = writer.log().clone();
        let mut all = Cursor::open(log.clone(), Position::default());
        let mut next = None;
        while let Some(frame) = all.next().expect("nothing is damaged") {
            next = Some(self.compare(&frame, next));
        }
        let released = self.readings.iter().map(|reading| reading.released).min().unwrap_or(0);
        assert!(next.map_or(released >= end, |next| next == end), "events end at {next:?}, positions at {end}");
        let readers = (0..READERS).map(|number| self.resume(&log, &writer, number)).collect();
        log.allow_recycling();
        let source = Source {
            key: KEY,
            input: "app".into(),
            name: b"/var/log/app.log".to_vec(),
            descriptor: vec![1, 2, 3],
            repeatable: true,
        };
        Life { writer, readers, source: Arc::new(source) }
    }

    /// The reader at its commit: the last durable one or a later one.
    fn resume(
        &mut self,
        log: &Arc<Log<SimDisk>>,
        writer: &Writer<SimEnv>,
        number: usize,
    ) -> (Cursor<SimDisk>, Arc<Reader>, usize) {
        let reading = &mut self.readings[number];
        let found = writer.state().commits.get(OutputNumber(number as u8), None);
        let kept = found.map_or(0, |found| found.number as usize);
        assert!(kept >= reading.durable, "commit {} was durable, {kept} is found", reading.durable);
        assert!(kept <= reading.commits.len(), "commit {kept} was never made");
        reading.commits.truncate(kept);
        reading.durable = kept;
        let (position, next) = match reading.commits.last() {
            Some((commit, next)) => {
                assert_eq!(found, Some(commit), "a commit comes back as it was made");
                (commit.cursors[0].1, *next)
            }
            None => (Position::default(), 0),
        };
        reading.released = reading.released.max(next);
        let reader = log.register(position, Arc::default());
        (Cursor::open(log.clone(), position), reader, next)
    }

    /// Compares a frame with the vector and returns the index after it. `expected` is where it must begin, if that is known.
    fn compare(&self, frame: &Frame<SimDisk>, expected: Option<usize>) -> usize {
        let view = frame.view().expect("a frame that a cursor gives has parts that add up");
        let lines = view.lines(frame.first_event()).expect("a frame that a cursor gives has whole lines");
        let mut next = expected;
        for line in lines {
            let place = place_of(line.bytes);
            assert!(next.is_none_or(|next| next == place), "event {place} where {next:?} is due");
            let written = &self.events[place];
            let read = Written { line: line.bytes.to_vec(), timestamp: line.timestamp.0, mask: line.mask };
            assert_eq!(read, *written, "event {place} is not what was written");
            next = Some(place + 1);
        }
        next.unwrap_or(0)
    }

    fn step(&mut self, life: &mut Life, script: &mut Script<'_>) -> Result<Option<End>, WalError> {
        match script.below(16) {
            0..=4 => self.append(life, script)?,
            5 | 6 => self.sync(life)?,
            7..=9 => self.read(life, script),
            10 => self.commit(life, script)?,
            11 | 12 => {
                if let Some(work) = life.writer.take_maintenance() {
                    life.writer.maintained(work.run())?;
                }
            }
            13 => return Ok(Some(if script.byte() & 1 == 0 { End::Process } else { End::Power })),
            14 => self.simulation.disk().crash_after(1 + script.byte() as u64 % 40),
            _ if script.byte() < 64 => {
                self.damage(life, script);
                return Ok(Some(End::Damaged));
            }
            _ => {}
        }
        Ok(None)
    }

    fn append(&mut self, life: &mut Life, script: &mut Script<'_>) -> Result<(), WalError> {
        let mut group = Group::new();
        let first = self.events.len();
        let mut written = Vec::new();
        for _ in 0..=script.below(3) {
            let outputs = 0b111;
            let frame = group.frame(FrameKind::Events, u32::from(script.byte()), outputs);
            for _ in 0..script.below(5) {
                let event = event(script, first + written.len(), outputs);
                frame.payload().extend_from_slice(&event.line);
                frame.end_event(Timestamp(event.timestamp), (event.mask != outputs).then_some(event.mask));
                written.push(event);
            }
        }
        let range = SourceRange { from: first as u64, to: (first + written.len()) as u64, marker: first as u64 };
        let known = life.writer.knows(&life.source);
        if let Some(last) = group.last() {
            last.position(&range, &life.source, !known, false);
        }
        group.finish();
        self.attempted = written;
        match life.writer.append(&mut group) {
            Ok(_) => self.events.append(&mut self.attempted),
            Err(WalError::Full | WalError::TooLarge { .. }) => self.attempted.clear(),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn sync(&mut self, life: &mut Life) -> Result<(), WalError> {
        let disk = self.simulation.disk().of_this_process();
        let Some(target) = life.writer.sync_target() else { return Ok(()) };
        let directory = target.directory.as_ref().map_or(Ok(()), |directory| disk.sync_dir(directory));
        let synced = directory.and_then(|()| target.files.iter().try_for_each(|file| file.sync()));
        synced.map_err(|error| life.writer.sync_failed(error))?;
        life.writer.synced(&target);
        self.acknowledged = self.events.len();
        for (reading, (_, reader, _)) in self.readings.iter_mut().zip(&life.readers) {
            reading.durable = reading.commits.len();
            if let Some((commit, next)) = reading.commits.last() {
                reading.released = *next;
                life.writer.log().release(reader, commit.cursors[0].1);
            }
        }
        Ok(())
    }

    /// Reads some frames with one of the readers, the last one partially.
    fn read(&self, life: &mut Life, script: &mut Script<'_>) {
        let (cursor, _, next) = &mut life.readers[script.below(READERS)];
        for _ in 0..=script.below(4) {
            let Some(frame) = cursor.next().expect("nothing is damaged") else {
                return assert_eq!(*next, self.events.len(), "a reader at the tail has had everything");
            };
            let behind = self.compare(&frame, Some(*next)).max(*next);
            let left = behind - *next;
            let wanted = if script.byte() & 3 == 0 { script.below(8) } else { left };
            if wanted < left {
                cursor.skip_to(Position { event: frame.first_event() + wanted as u32, ..frame.before() });
                *next += wanted;
                return;
            }
            *next = behind;
        }
    }

    fn commit(&mut self, life: &mut Life, script: &mut Script<'_>) -> Result<(), WalError> {
        let number = script.below(READERS);
        let (cursor, _, next) = &life.readers[number];
        let reading = &mut self.readings[number];
        let length = script.below(20);
        let commit = Commit {
            output: OutputNumber(number as u8),
            instance: None,
            number: reading.commits.len() as u64 + 1,
            cursors: vec![(LOG, cursor.position())],
            state: Some(script.bytes(length).to_vec()),
        };
        reading.commits.push((commit.clone(), *next));
        match life.writer.commit(&commit) {
            Ok(_) => {}
            Err(WalError::Full) => drop(reading.commits.pop()),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Changes one byte of a segment, during a run or before a start, and checks what is left.
    fn damage(&mut self, life: &mut Life, script: &mut Script<'_>) {
        let segments = life.writer.log().segments();
        let is_running = script.byte() & 1 == 0;
        // Bytes that are being written are not read back: readers trust the memory of this process.
        let candidates = if is_running { segments.len() - 1 } else { segments.len() };
        if candidates == 0 {
            return;
        }
        let segment = &segments[script.below(candidates)];
        let path = Path::new(DIRECTORY).join(segment_name(segment.number));
        let offset = script.short() as u64 % SEGMENT_BYTES;
        let outside = self.simulation.disk().outside();
        let byte = outside.read(&path).expect("a segment can be read")[offset as usize];
        outside.overwrite(&path, offset, &[byte ^ script.byte().max(1)]).expect("a segment can be written");
        if is_running {
            let holes = self.held(life.writer.log());
            return assert!(holes.silent == 0, "a reader passed over {} events without a word", holes.silent);
        }
        drop(segments);
        self.simulation.crash(Crash::Process);
        let found = self.scan().unwrap_or_else(|error| panic!("one byte keeps the log from being read: {error}"));
        let is_reported = !found.damage.is_empty();
        let writer = self.open().unwrap_or_else(|error| panic!("one byte keeps the log from opening: {error}"));
        let holes = self.held(writer.log());
        assert!(is_reported || holes.silent + holes.told == 0, "a hole, and no report");
    }

    /// Reads everything from the beginning, compares it, and counts what is missing in between.
    fn held(&self, log: &Arc<Log<SimDisk>>) -> Holes {
        let mut cursor = Cursor::open(log.clone(), Position::default());
        let mut holes = Holes { silent: 0, told: 0 };
        let (mut next, mut is_told) = (None, false);
        loop {
            match cursor.next() {
                Ok(Some(frame)) => {
                    let first =
                        frame.view().ok().and_then(|view| view.lines(0).ok()?.next().map(|l| place_of(l.bytes)));
                    let Some(first) = first else { continue };
                    let missing = first.checked_sub(next.unwrap_or(first)).expect("events are in order");
                    if is_told {
                        holes.told += missing
                    } else {
                        holes.silent += missing
                    }
                    is_told = false;
                    next = Some(self.compare(&frame, None));
                }
                Ok(None) => return holes,
                Err(WalError::Damaged { path, offset, finding }) => {
                    assert!(path.starts_with(DIRECTORY) && offset < SEGMENT_BYTES && !finding.is_empty());
                    is_told = true;
                    if let Some(lost) = cursor.skip_damage() {
                        assert!(lost.after < lost.before, "{lost:?}");
                    }
                }
                Err(error) => panic!("reading fails with the wrong error: {error}"),
            }
        }
    }
}

/// Events missing between others: reported and unreported.
struct Holes {
    silent: usize,
    told: usize,
}

fn event(script: &mut Script<'_>, place: usize, outputs: u64) -> Written {
    let length = script.below(100);
    let mut line = format!("{place:06x}").into_bytes();
    line.extend(script.bytes(length).iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte }));
    line.push(b'\n');
    let decision = script.byte();
    let timestamp = if decision & 1 == 0 { 5 } else { script.long() as i64 };
    let mask = if decision & 6 == 0 { u64::from(decision >> 3) & outputs } else { outputs };
    Written { line, timestamp, mask }
}

fn place_of(line: &[u8]) -> usize {
    let digits = line.get(..6).and_then(|digits| str::from_utf8(digits).ok());
    let place = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    place.unwrap_or_else(|| panic!("not a line that was written: {line:?}"))
}
