//! From a batch to the lines of its events: parsed once, then transformed and routed for each pipeline.
//!
//! Guarantees: an event that cannot be parsed never harms another; what one pipeline does to an event no other sees; nothing is
//! allocated per event in steady state. An input whose events are neither parsed nor changed takes the shorter way of
//! [`crate::codec::envelope`], with the same lines.

use crate::codec::calendar::rfc3339_micros;
use crate::codec::envelope::{self, EnvelopeKind};
use crate::config::facts::Facts;
use crate::config::types::FieldName;
use crate::parsers::{Events, OnError, Parse};
use crate::transforms::condition::{Condition, OpenCondition};
use crate::transforms::enrich::watched::Kept;
use crate::transforms::{Now, Opening, Step, Transform, Verdict, emit_next, open_all, run_all};
use std::io::Write as _;
use std::sync::Arc;
use tailwater_shards::batch::Batch;
use tailwater_shards::counters::Tally;
use tailwater_shards::dlq::{ComponentKind, DeadLetter, Letters};
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::limits::{ENVELOPE_BYTES_MAX, FRAME_PAYLOAD_TARGET_BYTES, JSON_GROWTH_MAX};
use tailwater_shards::plugin::{Frames, Processor, ProcessorSpec};
use tailwater_shards::record::{Place, Record, Workshop};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::scan::json::{Lines, NodeId, Parser, explain};
use tailwater_shards::shape::{Edit, EditId, Meta, Shapes};

/// What a pipeline does with events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// Its verbs.
    pub steps: Vec<Step>,
    /// For each of its outputs, in their order, which events go there.
    pub routes: Vec<Route>,
    /// An event goes to the first output that takes it, and to no other.
    pub first_only: bool,
}

/// Which events go to an output.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Route {
    /// All.
    #[default]
    Always,
    /// Those for which this holds.
    When(Condition),
    /// Those that no condition of another output took.
    Else,
}

/// The processor of an input that feeds pipelines with these chains, in their order.
pub fn spec(events: &Events, chains: Vec<Arc<Chain>>, facts: &Facts) -> Arc<dyn ProcessorSpec> {
    let plain = |chain: &Arc<Chain>| chain.steps.is_empty() && !chain.is_routed();
    if events.parse.is_none() && chains.iter().all(plain) {
        return envelope::spec(&events.fields, facts, events.kind);
    }
    Arc::new(Spec { events: events.clone(), chains, facts: facts.clone() })
}

impl Chain {
    /// Files that its verbs look things up in.
    pub fn kept(&self) -> Vec<Arc<dyn Kept>> {
        self.steps.iter().flat_map(Step::kept).collect()
    }

    fn is_routed(&self) -> bool {
        self.first_only || self.routes.iter().any(|route| *route != Route::Always)
    }

    fn open(&self, opening: &mut Opening<'_>, line_bytes_max: usize) -> OpenChain {
        let route = |route: &Route, opening: &mut Opening<'_>| match route {
            Route::Always => OpenRoute::Always,
            Route::When(condition) => OpenRoute::When(condition.open(opening)),
            Route::Else => OpenRoute::Else,
        };
        OpenChain {
            name: self.name.clone(),
            transforms: open_all(&self.steps, opening),
            routes: match self.is_routed() {
                true => self.routes.iter().map(|one| route(one, opening)).collect(),
                false => Vec::new(),
            },
            first_only: self.first_only,
            line_bytes_max,
            tally: Tally::default(),
        }
    }
}

struct Spec {
    events: Events,
    chains: Vec<Arc<Chain>>,
    facts: Facts,
}

/// The field that says why an event could not be parsed.
const PARSE_ERROR: &str = "parse_error";

impl ProcessorSpec for Spec {
    fn open(&self, _: ShardId) -> Box<dyn Processor> {
        let fields = &self.events.fields;
        let of_file = self.events.kind == EnvelopeKind::File;
        let metas = [
            (Meta::Timestamp, &fields.timestamp, true),
            (Meta::Host, &fields.host, true),
            (Meta::File, &fields.file, of_file),
            (Meta::Offset, &fields.offset, of_file),
        ];
        let named = metas.into_iter().filter_map(|(meta, name, exists)| match name {
            FieldName::Named(name) if exists => Some((meta, name.as_str())),
            _ => None,
        });
        let named: Vec<(Meta, &str)> = named.collect();
        let text = match &fields.message {
            FieldName::Named(name) => Some(name.as_str()),
            // What cannot be parsed has to be somewhere.
            FieldName::Off => self.events.parse.is_some().then_some("message"),
        };
        let mut shapes = Shapes::new(&named, text);
        let key = shapes.key(PARSE_ERROR.as_bytes());
        let parse_error = shapes.register_edit(Edit::Computed(key));
        // What the log's segments are made for.
        let line_bytes_max = self.events.bytes_max * JSON_GROWTH_MAX + ENVELOPE_BYTES_MAX;
        let kept = named.iter().filter(|(meta, _)| matches!(meta, Meta::Timestamp | Meta::Host));
        let kept = kept.map(|(_, name)| shapes.key(name.as_bytes())).collect();
        let made = shapes.register_edit(Edit::Keep(kept));
        let mut opening = Opening { shapes: &mut shapes, facts: &self.facts };
        let chains = self.chains.iter().map(|chain| chain.open(&mut opening, line_bytes_max)).collect();
        let mut host = Vec::new();
        push_string(self.facts.host.as_bytes(), &mut host);
        Box::new(FieldProcessor {
            parser: self.events.parse.as_ref().map(|Parse::Json(settings)| (Parser::new(), settings.on_error)),
            lines: Lines::default(),
            workshop: Workshop::new(shapes),
            chains,
            parse_error,
            made,
            host,
            unparsed: 0,
            place: 0,
        })
    }
}

struct OpenChain {
    name: Arc<str>,
    transforms: Vec<Box<dyn Transform>>,
    /// Empty when every event goes to every output.
    routes: Vec<OpenRoute>,
    first_only: bool,
    /// Bytes of the longest line.
    line_bytes_max: usize,
    tally: Tally,
}

enum OpenRoute {
    Always,
    When(OpenCondition),
    Else,
}

impl OpenChain {
    fn run(&mut self, mut record: Record<'_>, source: &[u8], frames: &mut Frames<'_>) {
        let verdict = run_all(&mut self.transforms, &mut record);
        self.settle(verdict, record, source, frames);
    }

    /// Does to an event what its verbs decided.
    fn settle(&mut self, verdict: Verdict, record: Record<'_>, source: &[u8], frames: &mut Frames<'_>) {
        match verdict {
            Verdict::Keep => self.end(record, frames),
            Verdict::Drop => self.tally.filtered += 1,
            Verdict::Aggregate => self.tally.aggregated += 1,
            Verdict::DeadLetter => {
                let (place, reason) = record.fault();
                frames.dead_letter(&DeadLetter {
                    kind: ComponentKind::Pipeline,
                    component: &self.name,
                    place,
                    source,
                    reason,
                    attempts: 0,
                    timestamp: record.timestamp,
                    original: record.original(),
                });
            }
        }
    }

    /// Makes the line of an event that has passed all verbs.
    fn end(&mut self, mut record: Record<'_>, frames: &mut Frames<'_>) {
        let mask = match self.routes.is_empty() {
            true => None,
            false => match self.route(&record, frames) {
                0 => {
                    self.tally.filtered += 1;
                    return;
                }
                mask => Some(mask),
            },
        };
        let timestamp = record.timestamp;
        let line = frames.line();
        let start = line.len();
        record.encode(line);
        if line.len() - start > self.line_bytes_max {
            self.tally.oversized += 1;
            return frames.abandon_event();
        }
        match mask {
            None => frames.end_event(timestamp),
            Some(mask) => frames.end_event_for(timestamp, mask),
        }
    }

    /// The outputs that take the event.
    fn route(&mut self, record: &Record<'_>, frames: &Frames<'_>) -> u64 {
        let (mut mask, mut otherwise, mut taken) = (0, 0, false);
        for (place, route) in self.routes.iter_mut().enumerate() {
            let holds = match route {
                OpenRoute::Always => true,
                OpenRoute::When(condition) => {
                    let holds = condition.holds(record);
                    taken |= holds;
                    holds
                }
                OpenRoute::Else => {
                    otherwise |= frames.target(place);
                    false
                }
            };
            if holds {
                mask |= frames.target(place);
                if self.first_only {
                    return mask;
                }
            }
        }
        if taken { mask } else { mask | otherwise }
    }

    fn take_tally(&mut self) -> Tally {
        let verbs = self.transforms.iter_mut().map(|transform| transform.take_failures());
        let routes = self.routes.iter_mut().map(|route| match route {
            OpenRoute::When(condition) => condition.take_failures(),
            OpenRoute::Always | OpenRoute::Else => 0,
        });
        let failures = verbs.sum::<u64>() + routes.sum::<u64>();
        let held = self.transforms.iter().map(|transform| transform.held()).sum();
        Tally { failures, held, ..std::mem::take(&mut self.tally) }
    }
}

struct FieldProcessor {
    parser: Option<(Parser, OnError)>,
    lines: Lines,
    workshop: Workshop,
    chains: Vec<OpenChain>,
    parse_error: EditId,
    /// Leaves of an event what those have that verbs make.
    made: EditId,
    host: Vec<u8>,
    /// Events that could not be parsed and are in no tally yet.
    unparsed: u64,
    /// The pipeline that was worked for last.
    place: usize,
}

impl Processor for FieldProcessor {
    fn begin(&mut self, batch: &Batch) {
        let metas = &mut self.workshop.metas;
        metas.clear();
        metas.set(Meta::Timestamp, |out| push_timestamp(batch.received, out));
        metas.set(Meta::Host, |out| out.extend_from_slice(&self.host));
        metas.set(Meta::File, |out| push_string(&batch.source.name, out));
        if let Some((parser, _)) = &mut self.parser {
            parser.parse(batch.chunk.padded(), &batch.events, &mut self.workshop.shapes.trie, &mut self.lines);
            self.unparsed += self.lines.lines.iter().filter(|line| line.node == NodeId::BAD).count() as u64;
        }
    }

    fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        if !matches!(self.parser, Some((_, OnError::DeadLetter))) {
            return;
        }
        for (index, _) in self.lines.lines.iter().enumerate().filter(|(_, line)| line.node == NodeId::BAD) {
            let original = batch.event(index);
            let fault = explain(original).map_or_else(|| UNEXPLAINED.to_owned(), |fault| fault.to_string());
            letters.push(&DeadLetter {
                kind: ComponentKind::Input,
                component: &batch.source.input,
                place: "parse",
                source: &batch.source.name,
                reason: &fault,
                attempts: 0,
                timestamp: batch.received,
                original,
            });
        }
    }

    fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>) {
        self.place = place;
        let FieldProcessor { parser, lines, workshop, chains, parse_error, .. } = self;
        let (chain, chunk, name) = (&mut chains[place], batch.chunk.bytes(), &batch.source.name[..]);
        let on_error = parser.as_ref().map(|(_, on_error)| *on_error);
        for (index, event) in batch.events.iter().enumerate() {
            let text = &chunk[event.range()];
            let at = Place { timestamp: batch.received, offset: batch.chunk_offset + u64::from(event.start) };
            let Some(on_error) = on_error else {
                chain.run(workshop.text(text, at), name, frames);
                continue;
            };
            let line = &lines.lines[index];
            if line.node != NodeId::BAD {
                let slots = &lines.slots[line.first_slot as usize..][..line.slots as usize];
                chain.run(workshop.line(chunk, text, line, slots, at), name, frames);
                continue;
            }
            match on_error {
                OnError::Drop => chain.tally.unparsed_dropped += 1,
                OnError::Keep => {
                    let mut record = workshop.text(text, at);
                    record.set(*parse_error, |out| push_fault(text, out));
                    chain.run(record, name, frames);
                }
                // No pipeline has it.
                OnError::DeadLetter => {}
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        self.chains.iter().flat_map(|chain| &chain.transforms).filter_map(|transform| transform.due()).min()
    }

    fn holds(&self) -> bool {
        self.chains.iter().flat_map(|chain| &chain.transforms).any(|transform| transform.holds())
    }

    fn tick(&mut self, now: Timestamp, last: bool, place: usize, frames: &mut Frames<'_>) -> bool {
        self.place = place;
        let metas = &mut self.workshop.metas;
        metas.clear();
        metas.set(Meta::Timestamp, |out| push_timestamp(now, out));
        metas.set(Meta::Host, |out| out.extend_from_slice(&self.host));
        let (chain, mut bytes) = (&mut self.chains[place], 0);
        while bytes < FRAME_PAYLOAD_TARGET_BYTES {
            let mut record = self.workshop.text(b"", Place { timestamp: now, offset: 0 });
            record.edit(self.made);
            let Some(verdict) = emit_next(&mut chain.transforms, Now { time: now, last }, &mut record) else {
                return false;
            };
            chain.tally.made += 1;
            let start = frames.line().len();
            chain.settle(verdict, record, b"", frames);
            // At least one, so that events that no output takes come to an end too.
            bytes += frames.line().len().saturating_sub(start) + 1;
        }
        true
    }

    fn take_tally(&mut self) -> Tally {
        let (replaced, unparsed) = (self.workshop.take_replaced(), std::mem::take(&mut self.unparsed));
        Tally { replaced, unparsed, ..self.chains[self.place].take_tally() }
    }
}

fn push_timestamp(timestamp: Timestamp, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&rfc3339_micros(timestamp));
    out.push(b'"');
}

fn push_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    escape_json_into(text, out);
    out.push(b'"');
}

/// Said where the parser refuses an event in which nothing wrong is found.
const UNEXPLAINED: &str = "it is not read as JSON";

/// Appends why an event is no object of JSON. The reasons are fixed texts that need no escaping.
fn push_fault(text: &[u8], out: &mut Vec<u8>) {
    let written = match explain(text) {
        Some(fault) => write!(out, "\"{fault}\""),
        None => write!(out, "\"{UNEXPLAINED}\""),
    };
    debug_assert!(written.is_ok(), "a vector takes all");
}
