//! Events on their way through pipelines, watched: what each verb changed, which outputs take an event, and why.
//!
//! Guarantees: what is shown is what runs. Events become records, verbs work on them and outputs are chosen by the code that the
//! processor of the input runs; only the fusion of neighbours is left out, and the branches of `if` are entered here so that the
//! verbs inside show too. Reasons of failures come from testing the condition once more on the fields of the event. Not for the
//! way of events: it allocates for each field.

use super::arrivals::Arrivals;
use super::changes::{Change, EventFields, changes};
use super::{Chain, OpenRoutes, Route, line_bytes_max};
use crate::config::facts::Facts;
use crate::parsers::Events;
use crate::transforms::condition::{Condition, OpenCondition};
use crate::transforms::{Opening, Step, Transform, Verdict};
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
    /// Its fields before any verb; none if it is dropped because it could not be parsed.
    pub fields: Option<EventFields>,
    /// In each pipeline, in their order; none in any if it has no fields.
    pub pipelines: Vec<PipelineTrace>,
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
    /// No output takes it.
    Untaken,
    /// Its line has so many bytes, more than the log takes.
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
    /// Whether it dropped the event.
    pub dropped: bool,
    /// What it changed.
    pub changes: Vec<Change>,
    /// Why it, or its condition, could not do its work.
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
        let fields = self.arrivals.record(batch, index).map(|record| EventFields::of(&record));
        let mut pipelines = Vec::new();
        for chain in &mut self.chains {
            let Some(record) = self.arrivals.record(batch, index) else { break };
            pipelines.push(chain.run(record));
        }
        let fault = self.arrivals.fault(batch, index);
        EventTrace { original: batch.event(index).to_vec(), fault, fields, pipelines }
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
        if run_verbs(&mut self.verbs, &mut record, "", 0, &mut steps) == Verdict::Drop {
            return PipelineTrace { steps, end: End::Dropped, routes: Vec::new() };
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

fn run_verbs(
    verbs: &mut [TracedVerb],
    record: &mut Record<'_>,
    above: &str,
    depth: usize,
    done: &mut Vec<StepTrace>,
) -> Verdict {
    for (number, verb) in verbs.iter_mut().enumerate() {
        let place = format!("{above}{}", number + 1);
        let verdict = match verb {
            TracedVerb::Verb { step, transform } => {
                let before = EventFields::of(record);
                let verdict = transform.apply(record);
                let failed = transform.take_failures() > 0;
                let condition = condition_of(step);
                let failure = failed.then(|| match condition.map(|condition| test(condition, &before)) {
                    Some(Err(why)) => why,
                    _ => "it could not do its work on this event".to_owned(),
                });
                done.push(StepTrace {
                    place,
                    depth,
                    verb: step.name(),
                    condition: condition.map(|condition| condition.source().to_owned()),
                    side: None,
                    dropped: verdict == Verdict::Drop,
                    changes: changes(&before, &EventFields::of(record), &|was, is| was == is),
                    failure,
                });
                verdict
            }
            TracedVerb::If { condition, open, then, otherwise } => {
                let holds = open.holds(record);
                let failed = open.take_failures() > 0;
                done.push(StepTrace {
                    place: place.clone(),
                    depth,
                    verb: "if",
                    condition: Some(condition.source().to_owned()),
                    side: Some(holds),
                    dropped: false,
                    changes: Vec::new(),
                    failure: failed.then(|| test(condition, &EventFields::of(record)).err()).flatten(),
                });
                let (side, name) = if holds { (then, "then") } else { (otherwise, "else") };
                run_verbs(side, record, &format!("{place}.{name}."), depth + 1, done)
            }
        };
        if verdict == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    Verdict::Keep
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::envelope::EnvelopeKind;
    use crate::config::de::read;
    use crate::config::node::parse;
    use crate::config::pipeline::Pipeline;
    use crate::parsers::Parse;
    use tailwater_shards::batch::{EventSpan, Source, SourceKey};
    use tailwater_shards::env::{ShardId, Timestamp};
    use tailwater_shards::plugin::Frames;
    use tailwater_shards::wal::builder::Group;

    const LINES: [&str; 7] = [
        r#"{"level":"error","msg":"a","http":{"status":503}}"#,
        r#"{"level":"debug"}"#,
        "no json",
        r#"{"level":"info","http":{"status":200},"password":"x"}"#,
        r#"{"level":"error","n":1e400,"password":"x"}"#,
        r#"{"level":"warn","http":{"status":"x"}}"#,
        r#"{"msg":"a","msg":"b","level":"error"}"#,
    ];

    const VERBS: &str = "[{drop: level == \"debug\"}, {remove: [password]}, {rename: {msg: message}}, \
        {if: http.status >= 500, then: [{add: {alert: true}}, {filter: \"has(message)\"}], else: [{add: {a: 1}}]}]";

    fn chain(matching: &str, outputs: &str) -> Arc<Chain> {
        let text = format!("{{inputs: [a], match: {matching}, transforms: {VERBS}, outputs: {outputs}}}");
        let root = parse(&text, &|_| None).0.expect("the pipeline is valid YAML");
        let pipeline: Pipeline = read(&root).unwrap_or_else(|fault| panic!("{fault}"));
        Arc::new(Chain {
            steps: pipeline.transforms,
            routes: pipeline.outputs.into_iter().map(|target| target.route).collect(),
            first_only: matching == "first",
        })
    }

    fn events() -> Events {
        let parse = Some(Parse::Json(Default::default()));
        Events { fields: Default::default(), kind: EnvelopeKind::File, parse, bytes_max: 1 << 16 }
    }

    fn batch(lines: &[&str]) -> Batch {
        let source = Source {
            key: SourceKey(1),
            input: "a".into(),
            name: b"/var/log/a.log".to_vec(),
            descriptor: Vec::new(),
            repeatable: false,
        };
        let mut batch = Batch::new(1 << 16, Arc::new(source));
        let mut start = 0;
        for line in lines {
            batch.chunk.spare()[..line.len()].copy_from_slice(line.as_bytes());
            batch.chunk.set_length(start + line.len());
            batch.events.push(EventSpan { start: start as u32, end: (start + line.len()) as u32 });
            start += line.len();
        }
        batch.received = Timestamp(1_795_429_230_123_456_789);
        batch
    }

    #[test]
    fn what_is_shown_is_what_runs() {
        let facts = Facts { host: "web-03".into() };
        let targets = [1, 2, 4];
        for (matching, outputs) in [
            ("all", "[a]"),
            ("all", "[a, {to: b, when: has(alert)}, {to: c, else: true}]"),
            ("first", "[{to: a, when: has(alert)}, {to: b, when: n > 1}, {to: c, else: true}]"),
            ("all", "[{to: a, when: level == \"warn\"}]"),
        ] {
            let chain = chain(matching, outputs);
            let batch = batch(&LINES);
            let mut processor = super::super::spec(&events(), vec![chain.clone()], &facts).open(ShardId(0));
            processor.begin(&batch);
            let mut ran = Vec::new();
            // A group for each output, which gets nothing else.
            for place in 0..chain.routes.len() {
                let mut group = Group::new();
                let mut frames = Frames::new(&mut group, 0, 1 << place, &targets);
                processor.process(&batch, 0, &mut frames);
                ran.push(String::from_utf8_lossy(group.last().expect("a frame").lines()).into_owned());
            }
            let mut tracer = Tracer::new(&events(), std::slice::from_ref(&chain), &facts);
            tracer.begin(&batch);
            let mut shown = vec![String::new(); chain.routes.len()];
            for index in 0..batch.events.len() {
                let trace = tracer.event(&batch, index);
                let End::Line(line) = &trace.pipelines[0].end else { continue };
                for (place, route) in trace.pipelines[0].routes.iter().enumerate().filter(|(_, route)| route.taken) {
                    assert!(!route.why.is_empty());
                    shown[place] += &format!("{line}\n");
                }
            }
            assert_eq!(shown, ran, "{matching} {outputs}");
            assert!(ran.iter().any(|lines| !lines.is_empty()), "{matching} {outputs}");
        }
    }

    #[test]
    fn each_verb_shows_what_it_changed() {
        let mut tracer = Tracer::new(&events(), &[chain("all", "[{to: a, when: alert}]")], &Facts { host: "h".into() });
        let mut trace = |line: &str| {
            let batch = batch(&[line]);
            tracer.begin(&batch);
            tracer.event(&batch, 0)
        };
        let first = trace(r#"{"level":"error","password":"x","http":{"status":503}}"#);
        let steps = &first.pipelines[0].steps;
        let places: Vec<&str> = steps.iter().map(|step| step.place.as_str()).collect();
        assert_eq!(places, ["1", "2", "3", "4", "4.then.1", "4.then.2"]);
        assert_eq!(steps[1].changes.len(), 1);
        assert_eq!(steps[1].changes[0].before.as_deref(), Some("\"x\""));
        assert_eq!((steps[3].side, steps[5].dropped), (Some(true), true));
        assert_eq!(first.pipelines[0].end, End::Dropped);
        let second = trace(r#"{"level":"warn"}"#);
        let pipeline = &second.pipelines[0];
        let failure = pipeline.steps[3].failure.as_deref();
        assert_eq!(failure, Some("no such key: the event has no `http.status` (no_such_key)"));
        assert_eq!(pipeline.end, End::Untaken);
        assert_eq!(pipeline.routes[0].why, "alert fails: no such key: the event has no `alert` (no_such_key)");
        let third = trace("{");
        assert!(third.fault.is_some() && third.fields.is_some_and(|fields| fields.get("parse_error").is_some()));
    }
}
