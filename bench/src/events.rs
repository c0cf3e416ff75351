//! Whole events and their stages: parsed, edited by the same verbs, and written as JSON again, by Tailwater and as programs do
//! that make a tree of each event.
//!
//! The work: drop `region` and `pod`, rename `message` to `msg`, add `env` and `collector`, and add `alert` where `status` is at
//! least 220. What comes out is compared as JSON, so that whoever is faster has done the same.

use crate::Outcome;
use crate::data::{batches, fold, fold_bytes, mixed_line};
use crate::text::WARM_EVENTS;
use simd_json::prelude::*;
use simd_json::{BorrowedValue, Buffers};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailwater::codec::envelope::EnvelopeKind;
use tailwater::config::component::Facts;
use tailwater::config::de::read;
use tailwater::config::node::parse;
use tailwater::config::types::{FieldName, FieldNames};
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

/// The verbs, as a configuration has them.
const VERBS: &str = "
- remove: [region, pod]
- rename: {message: msg}
- add: {env: production, collector: perf}
- if: status >= 220
  then: [{add: {alert: true}}]
";

type Tree = BTreeMap<String, serde_json::Value>;

fn steps() -> Vec<Step> {
    let (root, problems) = parse(VERBS, &|_| None);
    let root = root.unwrap_or_else(|| panic!("{problems:?}"));
    read(&root).expect("the verbs are valid")
}

fn facts() -> Facts {
    Facts { host: "web-03".into() }
}

fn processor() -> Box<dyn Processor> {
    let off = || FieldName::Off;
    let fields = FieldNames { timestamp: off(), host: off(), file: off(), offset: off(), ..FieldNames::default() };
    let parse = Some(Parse::Json(Default::default()));
    let events = Events { fields, kind: EnvelopeKind::File, parse, bytes_max: LINE_BYTES_DEFAULT };
    let chain = Chain { steps: steps(), ..Chain::default() };
    process::spec(&events, vec![Arc::new(chain)], &facts()).open(ShardId(0))
}

/// Does `work` on what `prepare` makes of each batch, with the clock on for the work alone, and folds what the lines mean that
/// `lines` makes of the state then.
fn clocked<P, S>(
    events: u64,
    state: &mut S,
    mut prepare: impl FnMut(&mut S, &Batch) -> P,
    mut work: impl FnMut(&mut S, &Batch, P),
    lines: impl Fn(&mut S, &Batch) -> Vec<u8>,
) -> Option<Outcome> {
    let batches = batches(events.min(WARM_EVENTS), mixed_line);
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

/// A hash of lines that depends on what they say only.
fn meaning(lines: &[u8]) -> u64 {
    lines.split_inclusive(|byte| *byte == b'\n').fold(0, |hash, line| {
        let event: Tree = serde_json::from_slice(line).expect("a line of JSON");
        fold_bytes(hash, format!("{event:?}").as_bytes())
    })
}

/// All of it with spans, shapes and plans, up to the frames of a log.
pub fn whole_tailwater(events: u64) -> Option<Outcome> {
    let (mut processor, mut letters) = (processor(), Letters::new());
    let work = |group: &mut Group, batch: &Batch, (): ()| {
        group.clear();
        processor.begin(batch);
        processor.process(batch, 0, &mut Frames::new(group, 0, 1, &[1], &mut letters));
    };
    let lines = |group: &mut Group, _: &Batch| group.frames().iter().flat_map(|frame| frame.lines()).copied().collect();
    clocked(events, &mut Group::new(), |_, _| (), work, lines)
}

fn tree_of(line: &[u8]) -> Tree {
    serde_json::from_slice(line).expect("a line of JSON")
}

fn edit_tree(event: &mut Tree) {
    event.remove("region");
    event.remove("pod");
    if let Some(message) = event.remove("message") {
        event.insert("msg".into(), message);
    }
    event.insert("env".into(), "production".into());
    event.insert("collector".into(), "perf".into());
    if event.get("status").and_then(serde_json::Value::as_u64).is_some_and(|status| status >= 220) {
        event.insert("alert".into(), true.into());
    }
}

fn encode_tree(event: &Tree, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, event).expect("a vector takes all");
    out.push(b'\n');
}

/// All of it with a map of values for each event.
pub fn whole_tree(events: u64) -> Option<Outcome> {
    let work = |out: &mut Vec<u8>, batch: &Batch, (): ()| {
        out.clear();
        for index in 0..batch.events.len() {
            let mut event = tree_of(batch.event(index));
            edit_tree(&mut event);
            encode_tree(&event, out);
        }
    };
    clocked(events, &mut Vec::new(), |_, _| (), work, |out, _| out.clone())
}

fn edit_borrowed(event: &mut BorrowedValue<'_>) {
    let Some(fields) = event.as_object_mut() else { return };
    fields.remove("region");
    fields.remove("pod");
    if let Some(message) = fields.remove("message") {
        fields.insert("msg".into(), message);
    }
    fields.insert("env".into(), "production".into());
    fields.insert("collector".into(), "perf".into());
    if fields.get("status").and_then(|status| status.as_u64()).is_some_and(|status| status >= 220) {
        fields.insert("alert".into(), true.into());
    }
}

/// All of it with the tree of `simd-json` that borrows from the line. It writes into its text, so that has to be a copy.
pub fn whole_simd_json(events: u64) -> Option<Outcome> {
    let (mut buffers, mut copy) = (Buffers::default(), Vec::new());
    let work = |out: &mut Vec<u8>, batch: &Batch, (): ()| {
        out.clear();
        for index in 0..batch.events.len() {
            copy.clear();
            copy.extend_from_slice(batch.event(index));
            let mut event = simd_json::to_borrowed_value_with_buffers(&mut copy, &mut buffers).expect("a line of JSON");
            edit_borrowed(&mut event);
            event.write(out).expect("a vector takes all");
            out.push(b'\n');
        }
    };
    clocked(events, &mut Vec::new(), |_, _| (), work, |out, _| out.clone())
}

/// A shard's verbs and what they work on.
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

/// The verbs alone, on lines that are parsed.
pub fn edit_tailwater(events: u64) -> Option<Outcome> {
    let work = |bench: &mut Bench, batch: &Batch, (): ()| {
        bench.each(batch, |record, verbs, _, shape| {
            run_all(verbs, record);
            *shape = record.shape();
        });
    };
    clocked(events, &mut Bench::new(), Bench::parse, work, Bench::encoded)
}

/// The same on maps of values.
pub fn edit_trees(events: u64) -> Option<Outcome> {
    let prepare = |state: &mut Vec<Tree>, batch: &Batch| {
        *state = (0..batch.events.len()).map(|index| tree_of(batch.event(index))).collect();
    };
    let work = |state: &mut Vec<Tree>, _: &Batch, (): ()| state.iter_mut().for_each(edit_tree);
    clocked(events, &mut Vec::new(), prepare, work, |state, _| encoded_trees(state))
}

fn encoded_trees(trees: &[Tree]) -> Vec<u8> {
    let mut out = Vec::new();
    trees.iter().for_each(|event| encode_tree(event, &mut out));
    out
}

/// The lines alone, of events that are edited.
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
    clocked(events, &mut Bench::new(), prepare, work, |bench, _| bench.out.clone())
}

/// The same of maps of values.
pub fn encode_trees(events: u64) -> Option<Outcome> {
    let prepare = |(trees, _): &mut (Vec<Tree>, Vec<u8>), batch: &Batch| {
        *trees = (0..batch.events.len()).map(|index| tree_of(batch.event(index))).collect();
        trees.iter_mut().for_each(edit_tree);
    };
    let work = |(trees, out): &mut (Vec<Tree>, Vec<u8>), _: &Batch, (): ()| {
        out.clear();
        trees.iter().for_each(|event| encode_tree(event, out));
    };
    clocked(events, &mut (Vec::new(), Vec::new()), prepare, work, |(_, out), _| out.clone())
}
