//! Traces events through pipelines: what each transform changed, which outputs accept an event, and why.
//!
//! Guarantees: the trace shows what really runs. Events become records, transforms run and outputs are chosen by the same code
//! as in normal processing. Only the fusion of adjacent transforms is left out, and the branches of `if` are entered here, so
//! that the transforms inside are visible too. To get the reason of a failure, the condition or transform is asked again about
//! the fields of the event. Not for normal processing: it allocates for each field.

#[cfg(test)]
pub(super) mod tests;

use super::arrivals::{Arrival, Arrivals};
use super::changes::{Change, EventFields, changes};
use super::{Chain, OpenRoutes, Route, line_bytes_max};
use crate::codec::path::Path;
use crate::config::facts::Facts;
use crate::parsers::Events;
use crate::transforms::condition::{Condition, KnownOrigin, OpenCondition};
use crate::transforms::reasons::Before;
use crate::transforms::{Now, Opening, Step, Transform, Verdict};
use std::sync::Arc;
use tailwater_shards::batch::Batch;
use tailwater_shards::record::Record;

/// The traced pipelines of one input.
pub struct Tracer {
    arrivals: Arrivals,
    chains: Vec<Traced>,
}

/// The trace of an event.
pub struct EventTrace {
    /// The original bytes.
    pub original: Vec<u8>,
    /// Why it could not be parsed.
    pub fault: Option<String>,
    /// Whether it therefore goes to the dead letter queue.
    pub given_up: bool,
    /// Its fields before any transform; none if no pipeline receives it, because it could not be parsed.
    pub fields: Option<EventFields>,
    /// The trace in each pipeline, in their order; empty if it has no fields.
    pub pipelines: Vec<PipelineTrace>,
}

/// The trace of an event that a transform made.
pub struct MadeTrace {
    /// The index of the pipeline.
    pub pipeline: usize,
    /// The trace from there on.
    pub trace: PipelineTrace,
}

/// The trace of an event in one pipeline.
pub struct PipelineTrace {
    /// The transforms that ran on it.
    pub steps: Vec<StepTrace>,
    /// How it ended.
    pub end: End,
    /// The decision of each output of the pipeline, in their order; empty if the event does not get that far.
    pub routes: Vec<RouteTrace>,
    /// Where the event came from.
    pub origin: KnownOrigin,
}

/// How an event ends in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last step dropped it.
    Dropped,
    /// The last step counted it in an event that it makes later.
    Aggregated,
    /// The last step sent it to the dead letter queue, with this reason.
    DeadLetter(String),
    /// No output accepts it.
    Untaken,
    /// It becomes a dead letter: its line has this many bytes, which exceeds the limit for an event.
    Oversized(usize),
    /// It goes to outputs, as this line.
    Line(String),
}

/// What a transform did to an event.
pub struct StepTrace {
    /// Its place in the list of transforms, from 1: `2`, or `2.then.1` inside an `if`.
    pub place: String,
    /// The number of `if`s around it.
    pub depth: usize,
    /// The name of the transform.
    pub transform: &'static str,
    /// Its condition, if it has one.
    pub condition: Option<String>,
    /// For an `if`, whether its condition is true.
    pub side: Option<bool>,
    /// What happened to the event then.
    pub verdict: Verdict,
    /// Whether it made the event.
    pub made: bool,
    /// What it changed.
    pub changes: Vec<Change>,
    /// Why it or its condition failed, or why it dropped the event if that is not its purpose.
    pub failure: Option<String>,
}

/// The decision of an output about an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTrace {
    /// Whether it accepts the event.
    pub taken: bool,
    /// Why, or why not.
    pub why: String,
}

impl Tracer {
    /// Traces events of an input in pipelines with these chains.
    pub fn new(events: &Events, chains: &[Arc<Chain>], facts: &Facts) -> Tracer {
        let line_bytes_max = line_bytes_max(events);
        let (arrivals, chains) = Arrivals::open(events, facts, |opening| {
            let open = |chain: &Arc<Chain>, opening: &mut Opening<'_>| Traced {
                chain: chain.clone(),
                verbs: open_verbs(&chain.steps, opening),
                routes: chain.open_routes(opening),
                line_bytes_max,
            };
            chains.iter().map(|chain| open(chain, opening)).collect()
        });
        Tracer { arrivals, chains }
    }

    /// Starts a batch. Each of its events must be traced once and in order, because transforms have state.
    pub fn begin(&mut self, batch: &Batch) {
        self.arrivals.begin(batch);
    }

    /// Traces the event at `index` of the current batch.
    pub fn event(&mut self, batch: &Batch, index: usize) -> EventTrace {
        let mut trace = EventTrace {
            original: batch.event(index).to_vec(),
            fault: self.arrivals.fault(batch, index),
            given_up: false,
            fields: None,
            pipelines: Vec::new(),
        };
        match self.arrivals.event(batch, index) {
            Arrival::Record(record) => trace.fields = Some(EventFields::of(&record)),
            Arrival::Dropped => {}
            Arrival::DeadLetter => trace.given_up = true,
        }
        for chain in &mut self.chains {
            if let Arrival::Record(record) = self.arrivals.event(batch, index) {
                trace.pipelines.push(chain.run(record));
            }
        }
        trace
    }

    /// Events that transforms make at this time; with `last`, all that they can still make. A batch must be started again
    /// afterwards.
    pub fn made(&mut self, now: Now) -> Vec<MadeTrace> {
        self.arrivals.begin_made(now.time);
        let mut all = Vec::new();
        for (pipeline, chain) in self.chains.iter_mut().enumerate() {
            while let Some(trace) = chain.make(self.arrivals.made(now.time), now) {
                all.push(MadeTrace { pipeline, trace });
            }
        }
        all
    }
}

struct Traced {
    chain: Arc<Chain>,
    verbs: Vec<TracedVerb>,
    routes: OpenRoutes,
    line_bytes_max: usize,
}

/// A transform, its configuration and its instance.
enum TracedVerb {
    Verb { step: Step, transform: Box<dyn Transform> },
    If { condition: Condition, open: OpenCondition, then: Vec<TracedVerb>, otherwise: Vec<TracedVerb> },
}

fn open_verbs(steps: &[Step], opening: &mut Opening<'_>) -> Vec<TracedVerb> {
    let open = |step: &Step| match step {
        Step::If(settings) => TracedVerb::If {
            condition: settings.condition.clone(),
            open: settings.condition.open(opening),
            then: open_verbs(&settings.then, opening),
            otherwise: open_verbs(&settings.otherwise, opening),
        },
        step => TracedVerb::Verb { step: step.clone(), transform: step.open(opening) },
    };
    steps.iter().map(open).collect()
}

impl Traced {
    fn run(&mut self, mut record: Record<'_>) -> PipelineTrace {
        let mut steps = Vec::new();
        let verdict = Way { above: "", depth: 0 }.run(&mut self.verbs, 0, &mut record, &mut steps);
        self.end(verdict, record, steps)
    }

    /// The next event that a transform makes.
    fn make(&mut self, mut record: Record<'_>, now: Now) -> Option<PipelineTrace> {
        let mut steps = Vec::new();
        let verdict = Way { above: "", depth: 0 }.make(&mut self.verbs, now, &mut record, &mut steps)?;
        Some(self.end(verdict, record, steps))
    }

    fn end(&mut self, verdict: Verdict, mut record: Record<'_>, steps: Vec<StepTrace>) -> PipelineTrace {
        let origin = KnownOrigin::of(&record);
        let gone = match verdict {
            Verdict::Keep => None,
            Verdict::Drop | Verdict::Throttle => Some(End::Dropped),
            Verdict::Aggregate => Some(End::Aggregated),
            Verdict::DeadLetter => Some(End::DeadLetter(record.fault().1.to_owned())),
        };
        if let Some(end) = gone {
            return PipelineTrace { steps, end, routes: Vec::new(), origin };
        }
        let mask = self.routes.choose(&record, |place| 1 << place);
        self.routes.take_failures();
        let routes = explain_routes(&self.chain, mask, &EventFields::of(&record), &origin);
        let mut line = Vec::new();
        record.encode(&mut line);
        let end = match line.len() {
            _ if mask == 0 => End::Untaken,
            bytes if bytes > self.line_bytes_max => End::Oversized(bytes),
            _ => End::Line(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()),
        };
        PipelineTrace { steps, end, routes, origin }
    }
}

/// The place of a list of transforms: at the top level, or in a branch of an `if`.
struct Way<'a> {
    above: &'a str,
    depth: usize,
}

impl Way<'_> {
    /// Runs the transforms on an event, from the one at `first` on, until one does not keep it.
    fn run(
        &self,
        verbs: &mut [TracedVerb],
        first: usize,
        record: &mut Record<'_>,
        done: &mut Vec<StepTrace>,
    ) -> Verdict {
        for (number, verb) in verbs.iter_mut().enumerate().skip(first) {
            let verdict = match verb {
                TracedVerb::Verb { step, transform } => {
                    let (before, timestamp) = (EventFields::of(record), record.timestamp);
                    let origin = &KnownOrigin::of(record);
                    let verdict = transform.apply(record);
                    let failed = transform.take_failures() > 0;
                    let names = || before.0.iter().map(|(name, _)| name.clone()).collect();
                    let find = |path: &Path| before.find(path);
                    let described = Before { find: &find, names: &names, timestamp, origin };
                    let why = || why(step, &described);
                    let failure = match (verdict, failed) {
                        (Verdict::DeadLetter, _) => Some(why().unwrap_or_else(|| record.fault().1.to_owned())),
                        (_, true) => Some(why().unwrap_or_else(|| step.failure().to_owned())),
                        (Verdict::Drop | Verdict::Throttle, false) => step.explain(&described),
                        (Verdict::Keep | Verdict::Aggregate, false) => None,
                    };
                    let changes = changes(&before, &EventFields::of(record), &|was, is| was == is);
                    let condition = condition_of(step).map(|condition| condition.source().to_owned());
                    done.push(StepTrace { condition, changes, failure, ..self.step(number, step.name(), verdict) });
                    verdict
                }
                TracedVerb::If { condition, open, then, otherwise } => {
                    let holds = open.holds(record);
                    let failed = open.take_failures() > 0;
                    let step = StepTrace {
                        condition: Some(condition.source().to_owned()),
                        side: Some(holds),
                        failure: failed
                            .then(|| test(condition, &EventFields::of(record), &KnownOrigin::of(record)).err())
                            .flatten(),
                        ..self.step(number, "if", Verdict::Keep)
                    };
                    let (side, name) = if holds { (then, "then") } else { (otherwise, "else") };
                    let above = format!("{}.{name}.", step.place);
                    done.push(step);
                    Way { above: &above, depth: self.depth + 1 }.run(side, 0, record, done)
                }
            };
            if verdict != Verdict::Keep {
                return verdict;
            }
        }
        Verdict::Keep
    }

    /// Makes the next event that is due in one of the transforms, and runs the transforms after it on this event.
    fn make(
        &self,
        verbs: &mut [TracedVerb],
        now: Now,
        record: &mut Record<'_>,
        done: &mut Vec<StepTrace>,
    ) -> Option<Verdict> {
        for number in 0..verbs.len() {
            let made = match &mut verbs[number] {
                TracedVerb::Verb { step, transform } => {
                    let before = EventFields::of(record);
                    transform.emit(now, record).inspect(|verdict| {
                        let changes = changes(&before, &EventFields::of(record), &|was, is| was == is);
                        done.push(StepTrace { made: true, changes, ..self.step(number, step.name(), *verdict) });
                    })
                }
                TracedVerb::If { then, otherwise, .. } => {
                    let place = self.step(number, "if", Verdict::Keep).place;
                    let above = |side: &str| format!("{place}.{side}.");
                    let mut of = |side: &mut [TracedVerb], name: &str| {
                        Way { above: &above(name), depth: self.depth }.make(side, now, record, done)
                    };
                    of(then, "then").or_else(|| of(otherwise, "else"))
                }
            };
            match made {
                None => {}
                Some(Verdict::Keep) => return Some(self.run(verbs, number + 1, record, done)),
                gone => return gone,
            }
        }
        None
    }

    fn step(&self, number: usize, transform: &'static str, verdict: Verdict) -> StepTrace {
        StepTrace {
            place: format!("{}{}", self.above, number + 1),
            depth: self.depth,
            transform,
            condition: None,
            side: None,
            verdict,
            made: false,
            changes: Vec::new(),
            failure: None,
        }
    }
}

/// Why a transform failed on an event.
fn why<'a>(step: &'a Step, before: &Before<'a>) -> Option<String> {
    match condition_of(step) {
        Some(condition) => condition.test(before.find, before.origin).err(),
        None => step.explain(before),
    }
}

fn condition_of(step: &Step) -> Option<&Condition> {
    match step {
        Step::Drop(settings) => Some(&settings.0),
        Step::Filter(settings) => Some(&settings.0),
        _ => None,
    }
}

/// Whether a condition is true for an event with these fields that comes from there; on failure, why.
pub fn test(condition: &Condition, fields: &EventFields, origin: &KnownOrigin) -> Result<bool, String> {
    condition.test(&|path| fields.find(path), origin)
}

/// Why each output accepts an event or not; `mask` says which do.
fn explain_routes(chain: &Chain, mask: u64, fields: &EventFields, origin: &KnownOrigin) -> Vec<RouteTrace> {
    let first = chain.first_only.then(|| mask.trailing_zeros() as usize);
    let explain = |(place, route): (usize, &Route)| {
        let taken = mask & 1 << place != 0;
        let why = match route {
            _ if !taken && first.is_some_and(|first| place > first) => {
                "an earlier output accepted the event".to_owned()
            }
            Route::Always => "accepts all events".to_owned(),
            Route::When(condition) => match test(condition, fields, origin) {
                Ok(_) if taken => format!("{} is true", condition.source()),
                Ok(_) => format!("{} is false", condition.source()),
                Err(why) => format!("{} fails: {why}", condition.source()),
            },
            Route::Else if taken => "the conditions of all other outputs are false".to_owned(),
            Route::Else => "the condition of another output is true".to_owned(),
        };
        RouteTrace { taken, why }
    };
    chain.routes.iter().enumerate().map(explain).collect()
}
