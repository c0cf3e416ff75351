//! Events on their way through pipelines, watched: what each verb changed, which outputs take an event, and why.
//!
//! Guarantees: what is shown is what runs. Events become records, verbs work on them and outputs are chosen by the code that the
//! processor of the input runs; only the fusion of neighbours is left out, and the branches of `if` are entered here so that the
//! verbs inside show too. Reasons of failures come from asking the condition or the verb once more about the fields of the event. Not for the
//! way of events: it allocates for each field.

#[cfg(test)]
pub(super) mod tests;

use super::arrivals::{Arrival, Arrivals};
use super::changes::{Change, EventFields, changes};
use super::{Chain, OpenRoutes, Route, line_bytes_max};
use crate::config::facts::Facts;
use crate::parsers::Events;
use crate::transforms::condition::{Condition, OpenCondition};
use crate::transforms::reasons::Before;
use crate::transforms::{Now, Opening, Step, Transform, Verdict};
use std::sync::Arc;
use tailwater_shards::batch::Batch;
use tailwater_shards::record::Record;

/// The pipelines of one input, watched.
pub struct Tracer {
    arrivals: Arrivals,
    chains: Vec<Traced>,
}

/// What became of an event.
pub struct EventTrace {
    /// As it came.
    pub original: Vec<u8>,
    /// Why it could not be parsed.
    pub fault: Option<String>,
    /// Whether it goes to the dead letter queue for that.
    pub given_up: bool,
    /// Its fields before any verb; none if no pipeline has it, because it could not be parsed.
    pub fields: Option<EventFields>,
    /// In each pipeline, in their order; none in any if it has no fields.
    pub pipelines: Vec<PipelineTrace>,
}

/// An event that a verb made.
pub struct MadeTrace {
    /// The place of the pipeline.
    pub pipeline: usize,
    /// What became of it from there.
    pub trace: PipelineTrace,
}

/// What became of an event in one pipeline.
pub struct PipelineTrace {
    /// The verbs that worked on it.
    pub steps: Vec<StepTrace>,
    /// How it ended.
    pub end: End,
    /// What each output of the pipeline says to it, in their order; none if it does not get that far.
    pub routes: Vec<RouteTrace>,
}

/// How an event ends in a pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last of the steps dropped it.
    Dropped,
    /// The last of the steps counted it in an event that it makes later.
    Aggregated,
    /// The last of the steps gave it up to the dead letter queue, for this reason.
    DeadLetter(String),
    /// No output takes it.
    Untaken,
    /// It goes to the dead letter queue: its line has so many bytes, more than the log takes.
    Oversized(usize),
    /// It goes to outputs, as this line.
    Line(String),
}

/// What a verb did to an event.
pub struct StepTrace {
    /// Its place among the verbs, from 1: `2`, or `2.then.1` inside of an `if`.
    pub place: String,
    /// Inside of how many `if`s it is.
    pub depth: usize,
    /// The verb.
    pub verb: &'static str,
    /// Its condition, for verbs that have one.
    pub condition: Option<String>,
    /// For an `if`, whether its condition holds.
    pub side: Option<bool>,
    /// What became of the event then.
    pub verdict: Verdict,
    /// Whether it made the event.
    pub made: bool,
    /// What it changed.
    pub changes: Vec<Change>,
    /// Why it, or its condition, could not do its work, or why it let the event go, where that is not what it is for.
    pub failure: Option<String>,
}

/// What an output says to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTrace {
    /// Whether it takes the event.
    pub taken: bool,
    /// Why, or why not.
    pub why: String,
}

impl Tracer {
    /// Watches events of an input in pipelines with these chains.
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

    /// What becomes of the events of a batch, which must be asked for once each and in their order: verbs remember.
    pub fn begin(&mut self, batch: &Batch) {
        self.arrivals.begin(batch);
    }

    /// What becomes of the event at `index` of the batch that was begun.
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

    /// Events that verbs make by themselves at this moment; with `last` all that they still can. A batch is begun behind it.
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

/// A verb as it is configured and as it runs.
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

    /// The next event that a verb makes.
    fn make(&mut self, mut record: Record<'_>, now: Now) -> Option<PipelineTrace> {
        let mut steps = Vec::new();
        let verdict = Way { above: "", depth: 0 }.make(&mut self.verbs, now, &mut record, &mut steps)?;
        Some(self.end(verdict, record, steps))
    }

    fn end(&mut self, verdict: Verdict, mut record: Record<'_>, steps: Vec<StepTrace>) -> PipelineTrace {
        let gone = match verdict {
            Verdict::Keep => None,
            Verdict::Drop => Some(End::Dropped),
            Verdict::Aggregate => Some(End::Aggregated),
            Verdict::DeadLetter => Some(End::DeadLetter(record.fault().1.to_owned())),
        };
        if let Some(end) = gone {
            return PipelineTrace { steps, end, routes: Vec::new() };
        }
        let mask = self.routes.choose(&record, |place| 1 << place);
        self.routes.take_failures();
        let routes = explain_routes(&self.chain, mask, &EventFields::of(&record));
        let mut line = Vec::new();
        record.encode(&mut line);
        let end = match line.len() {
            _ if mask == 0 => End::Untaken,
            bytes if bytes > self.line_bytes_max => End::Oversized(bytes),
            _ => End::Line(String::from_utf8_lossy(line.trim_ascii_end()).into_owned()),
        };
        PipelineTrace { steps, end, routes }
    }
}

/// Where a list of verbs stands: at the top, or on a side of an `if`.
struct Way<'a> {
    above: &'a str,
    depth: usize,
}

impl Way<'_> {
    /// Gives an event to verbs from the one at `first` on, until one does not keep it.
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
                    let verdict = transform.apply(record);
                    let failed = transform.take_failures() > 0;
                    let why = || why(step, &Before { find: &|path| before.find(path), timestamp });
                    let failure = match (verdict, failed) {
                        (Verdict::DeadLetter, _) => Some(why().unwrap_or_else(|| record.fault().1.to_owned())),
                        (_, true) => Some(why().unwrap_or_else(|| step.failure().to_owned())),
                        (Verdict::Drop, false) => step.explain(&Before { find: &|path| before.find(path), timestamp }),
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
                        failure: failed.then(|| test(condition, &EventFields::of(record)).err()).flatten(),
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

    /// Makes the next event that one of the verbs has due, and gives it to those behind it.
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

    fn step(&self, number: usize, verb: &'static str, verdict: Verdict) -> StepTrace {
        StepTrace {
            place: format!("{}{}", self.above, number + 1),
            depth: self.depth,
            verb,
            condition: None,
            side: None,
            verdict,
            made: false,
            changes: Vec::new(),
            failure: None,
        }
    }
}

/// Why a verb failed on an event.
fn why<'a>(step: &'a Step, before: &Before<'a>) -> Option<String> {
    match condition_of(step) {
        Some(condition) => condition.test(before.find).err(),
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

/// Whether a condition holds for these fields; if it fails, why.
pub fn test(condition: &Condition, fields: &EventFields) -> Result<bool, String> {
    condition.test(&|path| fields.find(path))
}

/// Why each output takes an event or does not, where `mask` says which do.
fn explain_routes(chain: &Chain, mask: u64, fields: &EventFields) -> Vec<RouteTrace> {
    let first = chain.first_only.then(|| mask.trailing_zeros() as usize);
    let explain = |(place, route): (usize, &Route)| {
        let taken = mask & 1 << place != 0;
        let why = match route {
            _ if !taken && first.is_some_and(|first| place > first) => "an output before it took it".to_owned(),
            Route::Always => "takes all events".to_owned(),
            Route::When(condition) => match test(condition, fields) {
                Ok(_) if taken => format!("{} holds", condition.source()),
                Ok(_) => format!("{} does not hold", condition.source()),
                Err(why) => format!("{} fails: {why}", condition.source()),
            },
            Route::Else if taken => "no condition of the others holds".to_owned(),
            Route::Else => "a condition of another one holds".to_owned(),
        };
        RouteTrace { taken, why }
    };
    chain.routes.iter().enumerate().map(explain).collect()
}
