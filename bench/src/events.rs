//! Whole events and their stages: parsed, edited by the same transforms, and written as JSON again, by Tailwater. [`trees`] has
//! the same for programs that build a tree of each event.
//!
//! The work: drop `region` and `pod`, rename `message` to `msg`, add `env` and `collector`, and add `alert` if `status` is at
//! least 220. The results are compared as JSON, which proves that all programs did the same work.

pub mod trees;

use crate::Outcome;
use crate::data::{batches, fold, fold_bytes, mixed_line, odd_line};
use crate::text::WARM_EVENTS;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailwater::codec::envelope::EnvelopeKind;
use tailwater::config::component::Facts;
use tailwater::config::de::read;
use tailwater::config::node::parse;
use tailwater::config::types::{FieldName, FieldNames, OnConflict};
use tailwater::parsers::{Events, Parse};
use tailwater::process::{self, Chain};
use tailwater::transforms::{Opening, Step, Transform, open_all, run_all};
use tailwater_shards::batch::Batch;
use tailwater_shards::dlq::Letters;
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::limits::LINE_BYTES_DEFAULT;
use tailwater_shards::plugin::{Frames, Processor};
use tailwater_shards::record::{Place, Record, Workshop};
use tailwater_shards::scan::json::{Lines, Parser};
use tailwater_shards::shape::{ShapeId, Shapes};
use tailwater_shards::wal::builder::Group;

/// The transforms, as in a configuration.
const VERBS: &str = "
- remove: [region, pod]
- rename: {message: msg}
- add: {env: production, collector: perf}
- if: status >= 220
  then: [{add: {alert: true}}]
";

/// Lines, and how many different lines there are.
type Input = (fn(u64) -> String, u64);

const MIXED: Input = (mixed_line, WARM_EVENTS);
/// More than fit in the cache of keys.
const ODD: Input = (odd_line, 20 * WARM_EVENTS);

fn steps() -> Vec<Step> {
    let (root, problems) = parse(VERBS, &|_| None);
    let root = root.unwrap_or_else(|| panic!("{problems:?}"));
    read(&root).expect("the transforms are valid")
}

fn facts() -> Facts {
    Facts::of("web-03")
}

fn processor() -> Box<dyn Processor> {
    let off = || FieldName::Off;
    let fields = FieldNames { timestamp: off(), host: off(), file: off(), offset: off(), ..FieldNames::default() };
    let parse = Some(Parse::Json(Default::default()));
    let on_conflict = OnConflict::Ours;
    let kind = EnvelopeKind::File;
    let events = Events { fields, on_conflict, kind, parse, timezone: None, bytes_max: LINE_BYTES_DEFAULT };
    let chain = Chain { steps: steps(), ..Chain::default() };
    process::spec(&events, vec![Arc::new(chain)], &facts()).open(ShardId(0))
}

/// Runs `work` on the values that `prepare` makes of each batch of these lines, with the clock running only for `work`. Then
/// hashes the meaning of the lines that `lines` makes of the state.
fn clocked<P, S>(
    events: u64,
    (line, different): Input,
    state: &mut S,
    mut prepare: impl FnMut(&mut S, &Batch) -> P,
    mut work: impl FnMut(&mut S, &Batch, P),
    lines: impl Fn(&mut S, &Batch) -> Vec<u8>,
) -> Option<Outcome> {
    let batches = batches(events.min(different), line);
    let (mut elapsed, mut hash, mut done) = (Duration::ZERO, 0, 0);
    while done < events {
        for batch in &batches {
            let prepared = prepare(state, batch);
            let begun = Instant::now();
            work(state, batch, prepared);
            elapsed += begun.elapsed();
            if done < WARM_EVENTS {
                hash = fold(hash, meaning(&lines(state, batch)));
            }
            done += batch.events.len() as u64;
        }
    }
    Some(Outcome { elapsed, hash })
}

/// A hash of lines that depends only on their meaning.
fn meaning(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').fold(0, |hash, line| {
        let event: BTreeMap<String, serde_json::Value> = serde_json::from_slice(line).expect("a line of JSON");
        fold_bytes(hash, format!("{event:?}").as_bytes())
    })
}

/// The complete work with spans, shapes and plans, up to the frames of a write-ahead log.
pub fn whole_tailwater(events: u64) -> Option<Outcome> {
    whole_of(events, MIXED)
}

/// The same if no two events have the same keys.
pub fn odd_tailwater(events: u64) -> Option<Outcome> {
    whole_of(events, ODD)
}

fn whole_of(events: u64, input: Input) -> Option<Outcome> {
    let (mut processor, mut letters) = (processor(), Letters::new());
    let work = |group: &mut Group, batch: &Batch, (): ()| {
        group.clear();
        processor.begin(batch);
        processor.process(batch, 0, &mut Frames::new(group, 0, 1, &[1], &mut letters));
    };
    let lines = |group: &mut Group, _: &Batch| group.frames().iter().flat_map(|frame| frame.lines()).copied().collect();
    clocked(events, input, &mut Group::new(), |_, _| (), work, lines)
}

/// A shard's transforms and the data that they work on.
struct Bench {
    workshop: Workshop,
    verbs: Vec<Box<dyn Transform>>,
    parser: Parser,
    lines: Lines,
    shapes: Vec<ShapeId>,
    out: Vec<u8>,
}

impl Bench {
    fn new() -> Bench {
        let mut shapes = Shapes::new(&[], None);
        let verbs = open_all(&steps(), &mut Opening { shapes: &mut shapes, facts: &facts() });
        let (parser, lines) = (Parser::new(), Lines::default());
        Bench { workshop: Workshop::new(shapes), verbs, parser, lines, shapes: Vec::new(), out: Vec::new() }
    }

    fn each(
        &mut self,
        batch: &Batch,
        mut work: impl FnMut(&mut Record<'_>, &mut [Box<dyn Transform>], &mut Vec<u8>, &mut ShapeId),
    ) {
        let chunk = batch.chunk.bytes();
        let at = Place { timestamp: Timestamp(0), offset: 0 };
        self.out.clear();
        for (index, line) in self.lines.lines.iter().enumerate() {
            let slots = &self.lines.slots[line.first_slot as usize..][..line.slots as usize];
            let mut record = self.workshop.line(chunk, batch.event(index), line, slots, at);
            work(&mut record, &mut self.verbs, &mut self.out, &mut self.shapes[index]);
        }
    }

    fn encoded(&mut self, batch: &Batch) -> Vec<u8> {
        self.each(batch, |record, _, out, shape| {
            record.set_shape(*shape);
            record.encode(out);
        });
        self.out.clone()
    }

    fn parse(&mut self, batch: &Batch) {
        self.parser.parse(batch.chunk.padded(), &batch.events, &mut self.workshop.shapes.trie, &mut self.lines);
        let text = self.workshop.shapes.of_text();
        self.shapes.clear();
        self.shapes.resize(batch.events.len(), text);
    }
}

/// Only the transforms, on parsed lines.
pub fn edit_tailwater(events: u64) -> Option<Outcome> {
    let work = |bench: &mut Bench, batch: &Batch, (): ()| {
        bench.each(batch, |record, verbs, _, shape| {
            run_all(verbs, record);
            *shape = record.shape();
        });
    };
    clocked(events, MIXED, &mut Bench::new(), Bench::parse, work, Bench::encoded)
}

/// Only the lines, from edited events.
pub fn encode_tailwater(events: u64) -> Option<Outcome> {
    let prepare = |bench: &mut Bench, batch: &Batch| {
        bench.parse(batch);
        bench.each(batch, |record, verbs, _, shape| {
            run_all(verbs, record);
            *shape = record.shape();
        });
    };
    let work = |bench: &mut Bench, batch: &Batch, (): ()| {
        bench.each(batch, |record, _, out, shape| {
            record.set_shape(*shape);
            record.encode(out);
        });
    };
    clocked(events, MIXED, &mut Bench::new(), prepare, work, |bench, _| bench.out.clone())
}
