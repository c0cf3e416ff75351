//! The `stdin` input: lines from standard input.
//!
//! Guarantees: lines are sent in order and as soon as they are read. A last line without a newline is an event. Standard
//! input cannot be read twice, so if the process is killed, bytes that were read and are not in the WAL yet are lost: use it
//! for pipes that can be run again. The input ends when the writer closes the pipe; when all inputs have ended, the process
//! ends.

use crate::codec::encoding::Encoding;
use crate::codec::envelope::EnvelopeKind;
use crate::codec::framing::{Cut, Ending, LineTooLong, Place, Rules, cut, finish, place_at};
use crate::config::component::{Component, Facts, InputSettings, Mistake};
use crate::config::timezone::Timezone;
use crate::config::types::{ByteSize, FieldNames, OnConflict, Ring};
use crate::parsers::{Events, Parse};
use futures_lite::future;
use schemars::JsonSchema;
use serde::Deserialize;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use tailwater_shards::batch::{Batch, Source, SourceRange};
use tailwater_shards::counters::Discard;
use tailwater_shards::env::{Env, Stream};
use tailwater_shards::limits::{BATCH_EVENTS_MAX, CHUNK_BYTES, LINE_BYTES_DEFAULT, LINE_BYTES_MAX};
use tailwater_shards::plugin::{InputContext, InputSpec, LocalFuture, Placement, PluginError};
use tailwater_shards::route::ShardBy;
use tailwater_shards::stop::Phase;

/// Smallest `max_line_bytes`: shorter pieces would cost more than the lines they come from.
const LINE_BYTES_MIN: u64 = 64;

/// The settings of the input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The longest line, without its line ending; 64B to 4MiB.
    pub max_line_bytes: ByteSize,
    /// What happens to longer lines.
    pub line_too_long: LineTooLong,
    /// Keep a carriage return before the newline as part of the line.
    pub keep_cr: bool,
    /// Drop empty lines. The `file` input does so by default; here every line that a program writes is an event.
    pub skip_empty: bool,
    /// The character encoding of the input. A byte order mark is removed.
    pub encoding: Encoding,
    /// How events are parsed. By default, they are plain text.
    pub parse: Option<Parse>,
    /// The time zone for times without one; by default the zone of the process.
    pub timezone: Option<Timezone>,
    /// Names of the fields of each event. This input has no `file` and no `offset`.
    pub fields: FieldNames,
    /// Whose value a field has if both the input and an event have it.
    pub on_conflict: OnConflict,
    /// The lane to the pipeline.
    pub ring: Ring,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            max_line_bytes: ByteSize(LINE_BYTES_DEFAULT as u64),
            line_too_long: LineTooLong::default(),
            keep_cr: false,
            skip_empty: false,
            encoding: Encoding::Utf8,
            parse: None,
            timezone: None,
            fields: FieldNames::default(),
            on_conflict: OnConflict::default(),
            ring: Ring::default(),
        }
    }
}

impl Component for Settings {
    const NAME: &'static str = "stdin";
    const SUMMARY: &'static str = "Reads lines from standard input until it ends.";
    const EXAMPLE: &'static str = "type: stdin\n";

    fn check(&self) -> Vec<Mistake> {
        if (LINE_BYTES_MIN..=LINE_BYTES_MAX as u64).contains(&self.max_line_bytes.0) {
            return Vec::new();
        }
        let (largest, default) = (ByteSize(LINE_BYTES_MAX as u64), ByteSize(LINE_BYTES_DEFAULT as u64));
        let what = format!("{} is not between {LINE_BYTES_MIN}B and {largest}", self.max_line_bytes);
        vec![Mistake::new("max_line_bytes", what, format!("leave it out for {default}"))]
    }
}

impl<E: Env> InputSettings<E> for Settings {
    fn spec(&self, _: &Facts) -> Arc<dyn InputSpec<E>> {
        Arc::new(Spec { rules: InputSettings::<E>::rules(self) })
    }

    fn events(&self) -> Events {
        Events {
            fields: self.fields.clone(),
            on_conflict: self.on_conflict,
            kind: EnvelopeKind::Stream,
            parse: self.parse.clone(),
            timezone: self.timezone.clone(),
            bytes_max: InputSettings::<E>::line_bytes_max(self),
        }
    }

    fn fields(&self) -> &FieldNames {
        &self.fields
    }

    fn ring(&self) -> &Ring {
        &self.ring
    }

    fn shard_by(&self) -> ShardBy {
        ShardBy::Source
    }

    fn line_bytes_max(&self) -> usize {
        usize::try_from(self.max_line_bytes.0).map_or(LINE_BYTES_MAX, |bytes| bytes.min(LINE_BYTES_MAX))
    }

    fn rules(&self) -> Rules {
        let line_bytes_max = InputSettings::<E>::line_bytes_max(self);
        Rules {
            line_bytes_max,
            too_long: self.line_too_long,
            keep_cr: self.keep_cr,
            skip_nuls: false,
            skip_empty: self.skip_empty,
            encoding: self.encoding,
        }
    }

    fn exclusive(&self) -> Option<&'static str> {
        Some("standard input")
    }

    fn descriptors_max(&self) -> u64 {
        // Standard input is one of the three descriptors that every process has.
        0
    }
}

struct Spec {
    rules: Rules,
}

impl<E: Env> InputSpec<E> for Spec {
    fn placement(&self) -> Placement {
        Placement::One
    }

    fn run(&self, context: InputContext<E>) -> LocalFuture<'static, Result<(), PluginError>> {
        let rules = self.rules;
        Box::pin(async move {
            let stream = context.env.stdin().map_err(|error| PluginError::Fatal(unreadable(&context.name, &error)))?;
            Reader::new(context, rules).run(stream).await
        })
    }
}

fn unreadable(name: &str, error: &io::Error) -> String {
    format!(
        "input {name}: standard input cannot be read: {error}; start the program with a pipe or a file as standard input"
    )
}

/// The result of one read of the stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Bytes(usize),
    Ended,
}

struct Reader<E: Env> {
    context: InputContext<E>,
    rules: Rules,
    source: Arc<Source>,
    /// Bytes that were read but are in no batch yet: an unfinished line, or lines that did not fit in the last batch.
    carry: Vec<u8>,
    place: Place,
    /// Position in the stream of the first byte of `carry`.
    position: u64,
    /// Whether the probable encoding of the stream was reported.
    told: bool,
}

impl<E: Env> Reader<E> {
    fn new(context: InputContext<E>, rules: Rules) -> Reader<E> {
        let source = Arc::new(Source {
            key: context.new_key(),
            input: context.name.clone(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: false,
        });
        Reader { context, rules, source, carry: Vec::new(), place: Place::LineStart, position: 0, told: false }
    }

    async fn run(mut self, mut stream: E::Stream) -> Result<(), PluginError> {
        let mut ending = Ending::Open;
        let mut full = false;
        while ending == Ending::Open || full {
            let mut batch = self.batch().await;
            batch.chunk.spare()[..self.carry.len()].copy_from_slice(&self.carry);
            batch.chunk.set_length(self.carry.len());
            if !full && ending == Ending::Open {
                match self.read(&mut stream, &mut batch).await {
                    Ok(Read::Bytes(count)) => batch.chunk.set_length(self.carry.len() + count),
                    Ok(Read::Ended) => ending = Ending::Final,
                    Err(error) => {
                        self.context.error(&unreadable(&self.context.name, &error));
                        ending = Ending::Final;
                    }
                }
            }
            full = self.cut_and_send(batch, ending).await;
            if self.context.env.slice_used() {
                self.context.env.turn().await;
            }
        }
        self.context.lanes.settle().await;
        Ok(())
    }

    /// A batch with room for the carried bytes and more.
    async fn batch(&self) -> Box<Batch> {
        if self.carry.len() < CHUNK_BYTES {
            return self.context.lanes.batch(&self.source).await;
        }
        // Room for a line of the maximum length, and for a carriage return and newline that show that it is complete.
        let line = self.rules.encoding.line_bytes_max(self.rules.line_bytes_max);
        let most = line.max(self.carry.len()) + 4;
        self.context.lanes.large_batch(&self.source, most).await
    }

    /// Waits for bytes or for the end. At the end, bytes that are still in the pipe are not read.
    async fn read(&self, stream: &mut E::Stream, batch: &mut Batch) -> io::Result<Read> {
        loop {
            let drain = async {
                self.context.stop.reached(Phase::Draining).await;
                Ok::<Read, io::Error>(Read::Ended)
            };
            let bytes = async {
                let count = stream.read(batch.chunk.spare()).await?;
                Ok(if count == 0 { Read::Ended } else { Read::Bytes(count) })
            };
            // The next line may take long to arrive. Until then, settle the ranges of dropped events.
            let settled = async {
                self.context.lanes.settle().await;
                future::pending().await
            };
            match future::or(drain, future::or(bytes, settled)).await {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    /// Reports once that the stream seems to have another encoding than the configured one.
    fn tell_of_encoding(&mut self, batch: &Batch) {
        if self.position > 0 || self.told {
            return;
        }
        if let Some(seen) = Encoding::seen_in(batch.chunk.bytes()).filter(|seen| *seen != self.rules.encoding) {
            self.told = true;
            let (read, seen) = (self.rules.encoding.name(), seen.name());
            self.context.error(&format!(
                "standard input seems to be encoded in {seen} but is read as {read}; set `encoding: {seen}`"
            ));
        }
    }

    /// Sends the events of the batch and keeps the rest. Returns whether complete lines may be in the rest.
    async fn cut_and_send(&mut self, mut batch: Box<Batch>, ending: Ending) -> bool {
        self.tell_of_encoding(&batch);
        let mut events = std::mem::take(&mut batch.events);
        let bytes = batch.chunk.bytes();
        let result: Cut = cut(bytes, 0, self.place, self.rules, ending, &mut events);
        batch.events = events;
        batch.chunk_offset = self.position;
        let full = batch.events.len() >= BATCH_EVENTS_MAX;
        self.carry.clear();
        self.carry.extend_from_slice(batch.chunk.bytes());
        let made = finish(&mut batch, self.rules, result.truncated);
        let (consumed, place) = match made.left {
            Some(left) => (left, place_at(&self.carry, left, self.place, self.rules)),
            None => (result.consumed, result.place),
        };
        self.carry.drain(..consumed);
        self.place = place;
        let full = (full || made.left.is_some()) && !self.carry.is_empty();
        let counters = &self.context.counters;
        counters.truncated_events.add(made.truncated);
        let discarded = result.discarded + made.discarded;
        if discarded > 0 {
            counters.received_events.add(discarded);
            counters.discarded.add(Discard::LineTooLong, discarded);
        }
        batch.range = SourceRange { from: self.position, to: self.position + consumed as u64, marker: 0 };
        self.position = batch.range.to;
        if consumed == 0 {
            self.context.lanes.put_back(batch);
        } else {
            if self.rules.encoding == Encoding::Utf8 {
                batch.chunk.set_length(consumed);
            }
            batch.received = self.context.env.wall();
            self.context.lanes.send(batch).await;
        }
        full
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::time::Duration;
    use tailwater_shards::counters::InputCounters;
    use tailwater_shards::env::ShardId;
    use tailwater_shards::lane::{LaneOptions, WhenFull, lane};
    use tailwater_shards::plugin::{Lanes, peers};
    use tailwater_shards::sim::{SimEnv, Simulation};
    use tailwater_shards::stop::Stop;

    struct Run {
        simulation: Simulation,
        lines: Rc<RefCell<Vec<Vec<u8>>>>,
        ended: Rc<RefCell<bool>>,
        stop: Stop,
        counters: Arc<InputCounters>,
        /// Whether nothing is taken out of the lane.
        stalled: Rc<Cell<bool>>,
    }

    fn start(seed: u64, settings: &Settings) -> Run {
        start_on(LaneOptions::default(), seed, settings)
    }

    fn start_on(options: LaneOptions, seed: u64, settings: &Settings) -> Run {
        let mut simulation = Simulation::new(seed);
        let env = simulation.env(ShardId(0));
        let counters = Arc::new(InputCounters::default());
        let (sender, mut receiver, _) = lane(options, Default::default(), counters.clone());
        let stop = Stop::new();
        let context = InputContext {
            env: env.clone(),
            name: "in".into(),
            shards: 1,
            deliverers: Arc::default(),
            resume: Default::default(),
            orphans: Default::default(),
            data_dir: Default::default(),
            lanes: Rc::new(Lanes::new(env.clone(), vec![sender])),
            peers: Rc::new(peers(1).remove(0).open(ShardId(0))),
            stop: stop.clone(),
            counters: counters.clone(),
        };
        let spec = InputSettings::<SimEnv>::spec(settings, &Facts::of("h"));
        let (lines, ended) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(false)));
        let done = ended.clone();
        env.spawn("input", async move {
            spec.run(context).await.expect("it reads to the end");
            *done.borrow_mut() = true;
        });
        let stalled = Rc::new(Cell::new(false));
        let (taken, clock, wait) = (lines.clone(), env.clone(), stalled.clone());
        env.spawn("intake", async move {
            let mut position = 0;
            loop {
                while let Some(batch) = (!wait.get()).then(|| receiver.pop(|_| false)).flatten() {
                    assert_eq!((batch.range.from, batch.chunk_offset), (position, position), "no byte is skipped");
                    position = batch.range.to;
                    taken.borrow_mut().extend((0..batch.events.len()).map(|index| batch.event(index).to_vec()));
                    receiver.give_back(batch);
                }
                clock.sleep(Duration::from_millis(1)).await;
            }
        });
        Run { simulation, lines, ended, stop, counters, stalled }
    }

    fn read(seed: u64, settings: &Settings, text: &[u8]) -> (Vec<Vec<u8>>, Arc<InputCounters>) {
        let mut run = start(seed, settings);
        let world = run.simulation.world();
        for part in text.chunks(50_000) {
            world.stdin_write(part);
            run.simulation.run_for(Duration::from_millis(1));
        }
        world.stdin_close();
        let ended = run.ended.clone();
        run.simulation.must("the input ends with its stream", || *ended.borrow(), Duration::from_secs(60));
        run.simulation.run_for(Duration::from_millis(10));
        (run.lines.take(), run.counters)
    }

    #[test]
    fn dropped_lines_do_not_delay_later_ones() {
        let one_batch = LaneOptions { bytes: CHUNK_BYTES, when_full: WhenFull::DropNewest };
        let mut run = start_on(one_batch, 5, &Settings::default());
        let world = run.simulation.world();
        let mut send = |line: &str, stalled| {
            run.stalled.set(stalled);
            world.stdin_write(line.as_bytes());
            run.simulation.run_for(Duration::from_millis(100));
        };
        send("fills the lane\n", true);
        send("is dropped\n", true);
        send("", false);
        send("comes\n", false);
        send("comes too\n", false);
        let came: Vec<String> =
            run.lines.borrow().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        assert_eq!(came, ["fills the lane", "comes", "comes too"]);
        assert_eq!(run.counters.discarded.get(Discard::RingFull), 1);
    }

    #[test]
    fn every_line_arrives_once_with_any_split_of_the_pipe() {
        let mut text = Vec::new();
        let mut expected = Vec::new();
        for number in 0..20_000u32 {
            let line = match number % 1000 {
                0 => vec![b'x'; 150_000],
                _ => format!("{number} \\u \"quoted\" {}", "y".repeat(number as usize % 70)).into_bytes(),
            };
            text.extend_from_slice(&line);
            text.push(b'\n');
            expected.push(line);
        }
        text.extend_from_slice(&vec![b'\n'; 30_000]);
        expected.resize(expected.len() + 30_000, Vec::new());
        text.extend_from_slice(b"last");
        expected.push(b"last".to_vec());
        for seed in 0..3 {
            let (lines, counters) = read(seed, &Settings::default(), &text);
            assert!(lines == expected, "seed {seed}: {} lines of {}", lines.len(), expected.len());
            assert_eq!(counters.received_events.get(), expected.len() as u64);
            assert_eq!(counters.received_bytes.get(), text.len() as u64);
        }
    }

    #[test]
    fn too_long_lines_are_counted() {
        let text = [vec![b'a'; 300_000], b"\nb\n".to_vec(), vec![b'c'; 300_000]].concat();
        let (lines, counters) = read(1, &Settings::default(), &text);
        assert_eq!(lines.iter().map(Vec::len).collect::<Vec<_>>(), [262_144, 1, 262_144]);
        assert_eq!(counters.truncated_events.get(), 2);
        let discard = Settings { line_too_long: LineTooLong::Discard, ..Settings::default() };
        let (lines, counters) = read(1, &discard, &text);
        assert_eq!(lines, [b"b"]);
        assert_eq!(counters.received_events.get(), 3);
        assert_eq!(counters.discarded.get(Discard::LineTooLong), 2);
    }

    #[test]
    fn drain_ends_the_input_with_the_lines_that_were_read() {
        let mut run = start(1, &Settings::default());
        run.simulation.world().stdin_write(b"whole\nhalf");
        let lines = run.lines.clone();
        run.simulation.must("a line arrives", || !lines.borrow().is_empty(), Duration::from_secs(1));
        run.simulation.run_for(Duration::from_secs(1));
        assert!(!*run.ended.borrow(), "the pipe is open");
        run.stop.enter(Phase::Draining);
        let ended = run.ended.clone();
        run.simulation.must("the input ends", || *ended.borrow(), Duration::from_secs(1));
        run.simulation.run_for(Duration::from_millis(10));
        assert_eq!(*run.lines.borrow(), [&b"whole"[..], b"half"]);
    }

    #[test]
    fn line_limit_out_of_range_is_rejected() {
        let settings = Settings { max_line_bytes: ByteSize(1 << 40), ..Settings::default() };
        assert_eq!(settings.check()[0].key, "max_line_bytes");
        assert!(Settings::default().check().is_empty());
    }
}
