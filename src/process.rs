//! Turns a batch into the lines of its events: parses them once, then transforms and routes them for each pipeline.
//!
//! Guarantees: an event that cannot be parsed never affects another one. A pipeline never sees what another pipeline does to an
//! event. Nothing is allocated per event in steady state. An input whose events are neither parsed nor changed uses the faster
//! [`crate::codec::envelope`], which writes the same lines.

mod arrivals;
pub mod changes;
#[cfg(test)]
mod tests;
mod throttled;
pub mod trace;

use crate::codec::envelope;
use crate::config::facts::Facts;
use crate::parsers::Events;
use crate::transforms::condition::{Condition, OpenCondition};
use crate::transforms::enrich::watched::Kept;
use crate::transforms::{Now, Opening, Origin, Step, Transform, Verdict, emit_next, open_all, run_all};
use arrivals::{Arrival, Arrivals};
use std::sync::Arc;
use tailwater_shards::batch::{Batch, SourceKey};
use tailwater_shards::counters::Tally;
use tailwater_shards::dlq::{ComponentKind, DeadLetter, Letters};
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::limits::{self, BATCH_EVENTS_MAX, FRAME_PAYLOAD_TARGET_BYTES};
use tailwater_shards::plugin::{Frames, Processor, ProcessorSpec};
use tailwater_shards::record::Record;
use throttled::Throttled;

/// What a pipeline does with events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chain {
    /// The pipeline's name.
    pub name: Arc<str>,
    /// Its transforms.
    pub steps: Vec<Step>,
    /// Which events go to each of its outputs, in their order.
    pub routes: Vec<Route>,
    /// Whether an event goes only to the first output that accepts it.
    pub first_only: bool,
}

/// Which events go to an output.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Route {
    /// All events.
    #[default]
    Always,
    /// Events that meet this condition.
    When(Condition),
    /// Events that meet the condition of no other output.
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
    /// The files that its transforms look values up in.
    pub fn kept(&self) -> Vec<Arc<dyn Kept>> {
        self.steps.iter().flat_map(Step::kept).collect()
    }

    fn is_routed(&self) -> bool {
        self.first_only || self.routes.iter().any(|route| *route != Route::Always)
    }

    fn open(&self, opening: &mut Opening<'_>, line_bytes_max: usize) -> OpenChain {
        let transforms = open_all(&self.steps, opening);
        let routes = match self.is_routed() {
            true => self.open_routes(opening),
            false => OpenRoutes { all: Vec::new(), first_only: false },
        };
        OpenChain {
            name: self.name.clone(),
            transforms,
            routes,
            line_bytes_max,
            tally: Tally::default(),
            throttled: Throttled::new(self.name.clone()),
        }
    }

    fn open_routes(&self, opening: &mut Opening<'_>) -> OpenRoutes {
        let route = |route: &Route| match route {
            Route::Always => OpenRoute::Always,
            Route::When(condition) => OpenRoute::When(condition.open(opening)),
            Route::Else => OpenRoute::Else,
        };
        OpenRoutes { all: self.routes.iter().map(route).collect(), first_only: self.first_only }
    }
}

struct Spec {
    events: Events,
    chains: Vec<Arc<Chain>>,
    facts: Facts,
}

impl ProcessorSpec for Spec {
    fn open(&self, _: ShardId) -> Box<dyn Processor> {
        let line_bytes_max = line_bytes_max(&self.events);
        let (arrivals, chains) = Arrivals::open(&self.events, &self.facts, |opening| {
            self.chains.iter().map(|chain| chain.open(opening, line_bytes_max)).collect()
        });
        Box::new(FieldProcessor { arrivals, chains, place: 0 })
    }
}

/// The longest line in bytes that is kept: segments of the WAL are sized for it.
fn line_bytes_max(events: &Events) -> usize {
    limits::event_bytes_max(events.bytes_max)
}

struct OpenChain {
    name: Arc<str>,
    transforms: Vec<Box<dyn Transform>>,
    routes: OpenRoutes,
    /// The longest line, in bytes.
    line_bytes_max: usize,
    tally: Tally,
    throttled: Throttled,
}

impl OpenChain {
    fn run(&mut self, mut record: Record<'_>, source: &[u8], frames: &mut Frames<'_>) {
        let verdict = run_all(&mut self.transforms, &mut record);
        self.settle(verdict, record, source, frames);
    }

    /// Applies the verdict of the transforms to an event.
    fn settle(&mut self, verdict: Verdict, mut record: Record<'_>, source: &[u8], frames: &mut Frames<'_>) {
        match verdict {
            Verdict::Keep => self.end(record, source, frames),
            Verdict::Drop => self.tally.filtered += 1,
            Verdict::Throttle => self.tally.throttled += 1,
            Verdict::Aggregate => self.tally.aggregated += 1,
            Verdict::DeadLetter => {
                // An event that transforms created has no original: its letter contains the line that it would have had.
                let mut made = Vec::new();
                if record.original().is_empty() {
                    record.encode(&mut made);
                }
                let (place, reason) = record.fault();
                frames.dead_letter(&DeadLetter {
                    kind: ComponentKind::Pipeline,
                    component: &self.name,
                    place,
                    source,
                    reason,
                    attempts: 0,
                    timestamp: record.timestamp,
                    original: if made.is_empty() { record.original() } else { &made },
                });
            }
        }
    }

    /// Writes the line of an event that has passed all transforms.
    fn end(&mut self, mut record: Record<'_>, source: &[u8], frames: &mut Frames<'_>) {
        let mask = match self.routes.all.is_empty() {
            true => None,
            false => match self.routes.choose(&record, |place| frames.target(place)) {
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
        let bytes = line.len() - start;
        if bytes > self.line_bytes_max {
            self.tell_of_oversized(bytes, source);
            // An event that transforms created has no original.
            let made = line[start..start + if record.original().is_empty() { self.line_bytes_max } else { 0 }].to_vec();
            frames.abandon_event();
            return frames.dead_letter(&DeadLetter {
                kind: ComponentKind::Pipeline,
                component: &self.name,
                place: "size",
                source,
                reason: &format!("the event has grown to {bytes} bytes; the maximum is {}", self.line_bytes_max),
                attempts: 0,
                timestamp,
                original: if made.is_empty() { record.original() } else { &made },
            });
        }
        match mask {
            None => frames.end_event(timestamp),
            Some(mask) => frames.end_event_for(timestamp, mask),
        }
    }

    #[cold]
    fn tell_of_oversized(&self, bytes: usize, source: &[u8]) {
        let max = self.line_bytes_max;
        tracing::warn!(
            component_id = %self.name,
            component_kind = "pipeline",
            source = %String::from_utf8_lossy(source),
            bytes,
            bytes_max = max,
            "an event has grown beyond six times max_line_bytes of its input and becomes a dead letter: raise max_line_bytes of \
             the input, or reduce the size of the event"
        );
    }

    fn take_tally(&mut self) -> Tally {
        let verbs = self.transforms.iter_mut().map(|transform| transform.take_failures());
        let failures = verbs.sum::<u64>() + self.routes.take_failures();
        let held = self.transforms.iter().map(|transform| transform.held()).sum();
        Tally { failures, held, ..std::mem::take(&mut self.tally) }
    }
}

/// Decides which outputs accept an event.
struct OpenRoutes {
    /// Empty when every event goes to every output.
    all: Vec<OpenRoute>,
    first_only: bool,
}

enum OpenRoute {
    Always,
    When(OpenCondition),
    Else,
}

impl OpenRoutes {
    /// The outputs that accept the event, combined from the masks that `target` returns for their indices.
    fn choose(&mut self, record: &Record<'_>, target: impl Fn(usize) -> u64) -> u64 {
        let (mut mask, mut otherwise, mut taken) = (0, 0, false);
        for (place, route) in self.all.iter_mut().enumerate() {
            let holds = match route {
                OpenRoute::Always => true,
                OpenRoute::When(condition) => {
                    let holds = condition.holds(record);
                    taken |= holds;
                    holds
                }
                OpenRoute::Else => {
                    otherwise |= target(place);
                    false
                }
            };
            if holds {
                mask |= target(place);
                if self.first_only {
                    return mask;
                }
            }
        }
        if taken { mask } else { mask | otherwise }
    }

    fn take_failures(&mut self) -> u64 {
        let of = |route: &mut OpenRoute| match route {
            OpenRoute::When(condition) => condition.take_failures(),
            OpenRoute::Always | OpenRoute::Else => 0,
        };
        self.all.iter_mut().map(of).sum()
    }
}

struct FieldProcessor {
    arrivals: Arrivals,
    chains: Vec<OpenChain>,
    /// The index of the pipeline that was processed last.
    place: usize,
}

impl Processor for FieldProcessor {
    fn begin(&mut self, batch: &Batch) {
        self.arrivals.begin(batch);
    }

    fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        self.arrivals.dead_letters(batch, letters);
    }

    fn process(&mut self, batch: &Batch, place: usize, frames: &mut Frames<'_>) {
        self.place = place;
        let (chain, name) = (&mut self.chains[place], &batch.source.name[..]);
        let origin = Origin { source: batch.source.key, from: batch.range.from };
        chain.transforms.iter_mut().for_each(|verb| verb.begin(origin));
        for index in 0..batch.events.len() {
            match self.arrivals.event(batch, index) {
                Arrival::Record(record) => chain.run(record, name, frames),
                Arrival::Dropped => chain.tally.unparsed_dropped += 1,
                // No pipeline receives it.
                Arrival::DeadLetter => {}
            }
        }
        chain.throttled.tell(chain.tally.throttled, batch.received);
    }

    fn due(&self) -> Option<Timestamp> {
        self.chains.iter().flat_map(|chain| &chain.transforms).filter_map(|transform| transform.due()).min()
    }

    fn held_from(&self, source: SourceKey) -> Option<u64> {
        self.chains.iter().flat_map(|chain| &chain.transforms).filter_map(|verb| verb.held_from(source)).min()
    }

    fn tick(&mut self, now: Timestamp, last: bool, place: usize, frames: &mut Frames<'_>) -> bool {
        self.place = place;
        let is_more = self.make(now, last, frames);
        let chain = &mut self.chains[place];
        chain.throttled.tell(chain.tally.throttled, now);
        is_more
    }

    fn take_tally(&mut self) -> Tally {
        let (replaced, unparsed) = self.arrivals.take_counts();
        Tally { replaced, unparsed, ..self.chains[self.place].take_tally() }
    }
}

impl FieldProcessor {
    /// Makes some of the events that are due. Returns true if there are more.
    fn make(&mut self, now: Timestamp, last: bool, frames: &mut Frames<'_>) -> bool {
        self.arrivals.begin_made(now);
        let (chain, mut bytes) = (&mut self.chains[self.place], 0);
        for _ in 0..BATCH_EVENTS_MAX {
            if bytes >= FRAME_PAYLOAD_TARGET_BYTES {
                break;
            }
            let mut record = self.arrivals.made(now);
            let Some(verdict) = emit_next(&mut chain.transforms, Now { time: now, last }, &mut record) else {
                return false;
            };
            chain.tally.made += 1;
            let start = frames.line().len();
            chain.settle(verdict, record, b"", frames);
            // At least one byte per event, so that the loop also ends if no output accepts the events.
            bytes += frames.line().len().saturating_sub(start) + 1;
        }
        true
    }
}
