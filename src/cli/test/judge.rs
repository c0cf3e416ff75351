//! Compares what happened to the events of a test with what the test expects.
//!
//! Guarantees: values are compared as JSON, so the order of keys and the spelling of numbers and strings do not matter. Fields
//! that the input adds count in an exact comparison only if the test names them. Messages for people cannot control a terminal.

use crate::cli::output::Paint;
use crate::cli::show::{push_changes, step_name, unparsed};
use crate::codec::calendar::rfc3339_micros;
use crate::codec::envelope::EnvelopeKind;
use crate::config::Plan;
use crate::config::facts::Facts;
use crate::config::problem::Span;
use crate::config::trial::{Expectation, Expected, TrialPlan};
use crate::config::types::FieldName;
use crate::parsers::Events;
use crate::process::changes::{Change, EventFields, changes};
use crate::process::trace::{End, EventTrace, PipelineTrace, Tracer, test};
use crate::transforms::Now;
use serde_json::Value as Json;
use std::fmt::Write as _;
use std::sync::Arc;
use tailwater_shards::batch::{Batch, EventSpan, Source, SourceKey};
use tailwater_shards::env::Timestamp;
use tailwater_shards::glommio_env::GlommioEnv;

/// The host of all tests.
const HOST: &str = "test-host";
/// The file that all tests read.
const FILE: &str = "/var/log/test.log";

/// A difference from the expectation.
pub struct Told {
    /// The difference, on one line.
    pub what: String,
    /// Details, one per line.
    pub more: Vec<String>,
    /// The differences between the expected and the actual fields.
    pub changes: Vec<Change>,
}

impl Told {
    fn new(what: impl Into<String>) -> Told {
        Told { what: what.into(), more: Vec::new(), changes: Vec::new() }
    }

    /// Prints it for people.
    pub fn push(&self, paint: Paint, out: &mut String) {
        let _ = writeln!(out, "    {}", paint.red(&self.what));
        for line in &self.more {
            let _ = writeln!(out, "      {}", paint.red(line));
        }
        push_changes(&self.changes, "      ", paint, out);
    }
}

/// An event that does not meet its expectation.
pub struct Judged {
    /// The event.
    pub what: String,
    /// The place of the expectation.
    pub span: Span,
    /// The differences from the expectation.
    pub told: Vec<Told>,
}

/// Runs a test. Returns the events that do not meet their expectation.
pub fn judge(plan: &Plan, trial: &TrialPlan) -> Vec<Judged> {
    let events = plan.inputs[trial.input].settings.events::<GlommioEnv>();
    let pipeline = &plan.pipelines[trial.pipeline];
    let outputs: Vec<&str> = pipeline.outputs.iter().map(|&index| plan.outputs[index].name.as_str()).collect();
    let facts = Facts { timezone: plan.timezone.clone(), ..Facts::of(HOST) };
    let mut tracer = Tracer::new(&events, std::slice::from_ref(&pipeline.chain), &facts);
    let source = Arc::new(Source {
        key: SourceKey::default(),
        input: plan.inputs[trial.input].name.as_str().into(),
        name: FILE.as_bytes().to_vec(),
        descriptor: Vec::new(),
        repeatable: false,
    });
    let (mut at, mut judged, mut made) = (trial.at, Vec::new(), Vec::new());
    for (number, (event, expected)) in trial.cases.iter().enumerate() {
        made.extend(tracer.made(Now { time: at, last: false }).into_iter().map(|made| (at, made.trace)));
        let batch = batch(event, &source, at);
        tracer.begin(&batch);
        let trace = tracer.event(&batch, 0);
        let told = match trace.pipelines.first() {
            Some(pipeline) => Judge { expected, trace: pipeline, outputs: &outputs, added: added(&events, at) }.told(),
            None => unread(&trace, expected),
        };
        judged.push(Judged { what: format!("event {}: {event}", number + 1), span: expected.span, told });
        at = Timestamp(at.0.saturating_add(i64::try_from(trial.every.as_nanos()).unwrap_or(i64::MAX)));
    }
    made.extend(tracer.made(Now { time: at, last: true }).into_iter().map(|made| (at, made.trace)));
    if let Some(expected) = &trial.made {
        judged.extend(judge_made(&made, expected, trial.made_span, &outputs, &events));
    }
    judged.retain(|judged| !judged.told.is_empty());
    judged
}

fn judge_made(
    made: &[(Timestamp, PipelineTrace)],
    expected: &[Expected],
    span: Span,
    outputs: &[&str],
    events: &Events,
) -> Vec<Judged> {
    let judge = |number: usize| {
        let (span, told) = match (made.get(number), expected.get(number)) {
            (Some((at, trace)), Some(expected)) => {
                (expected.span, Judge { expected, trace, outputs, added: added(events, *at) }.told())
            }
            (None, Some(expected)) => (expected.span, vec![Told::new("was not made")]),
            (Some((_, trace)), None) => {
                let fields = line_of(trace).unwrap_or_default();
                (span, vec![Told { changes: changes_of(&fields), ..Told::new("was made, but is not expected") }])
            }
            (None, None) => (span, Vec::new()),
        };
        Judged { what: format!("made event {}", number + 1), span, told }
    };
    (0..made.len().max(expected.len())).map(judge).collect()
}

/// Judges an event that no pipeline receives, because it cannot be parsed.
fn unread(trace: &EventTrace, expected: &Expected) -> Vec<Told> {
    let Expectation { dropped, dead_letter, .. } = expected.expectation;
    let is_expected = if trace.given_up { dead_letter } else { dropped };
    match is_expected {
        true => Vec::new(),
        false => vec![Told::new(format!("{}: {}", unparsed(trace), trace.fault.as_deref().unwrap_or_default()))],
    }
}

/// The fields of the event that the outputs receive.
fn line_of(trace: &PipelineTrace) -> Option<EventFields> {
    match &trace.end {
        End::Line(line) => EventFields::of_json(line),
        _ => None,
    }
}

fn batch(line: &str, source: &Arc<Source>, at: Timestamp) -> Batch {
    let mut batch = Batch::new(line.len(), source.clone());
    batch.chunk.spare()[..line.len()].copy_from_slice(line.as_bytes());
    batch.chunk.set_length(line.len());
    batch.events.push(EventSpan { start: 0, end: line.len() as u32 });
    batch.received = at;
    batch
}

/// The fields that the input adds to an event, as JSON.
fn added(events: &Events, at: Timestamp) -> Vec<(String, String)> {
    let fields = &events.fields;
    let of_file = events.kind == EnvelopeKind::File;
    let time = String::from_utf8_lossy(&rfc3339_micros(at)).into_owned();
    let all = [
        (&fields.timestamp, true, format!("\"{time}\"")),
        (&fields.host, true, format!("\"{HOST}\"")),
        (&fields.file, of_file, format!("\"{FILE}\"")),
        (&fields.offset, of_file, "0".to_owned()),
    ];
    let named = all.into_iter().filter_map(|(name, exists, json)| match name {
        FieldName::Named(name) if exists => Some((name.clone(), json)),
        _ => None,
    });
    named.collect()
}

struct Judge<'a> {
    expected: &'a Expected,
    trace: &'a PipelineTrace,
    /// The names of the pipeline's outputs.
    outputs: &'a [&'a str],
    /// The fields that the input adds.
    added: Vec<(String, String)>,
}

impl Judge<'_> {
    fn told(&self) -> Vec<Told> {
        let Expectation { dropped, dead_letter, .. } = self.expected.expectation;
        let Some(fields) = line_of(self.trace) else {
            let is_expected =
                if matches!(self.trace.end, End::DeadLetter(_) | End::Oversized(_)) { dead_letter } else { dropped };
            return if is_expected { Vec::new() } else { vec![self.why_gone()] };
        };
        let taken: Vec<usize> = (0..self.outputs.len()).filter(|&place| self.trace.routes[place].taken).collect();
        if dropped || dead_letter {
            let not = if dropped { "is not dropped" } else { "is not a dead letter" };
            let what = format!("{not}: it goes to {} as", self.names(&taken));
            return vec![Told { changes: changes_of(&fields), ..Told::new(what) }];
        }
        self.compare(&fields, &taken)
    }

    fn compare(&self, fields: &EventFields, taken: &[usize]) -> Vec<Told> {
        let Expectation { event, contains, condition, .. } = &self.expected.expectation;
        let mut told = Vec::new();
        if let Some(expected) = &self.expected.outputs {
            let mut expected = expected.clone();
            expected.sort_unstable();
            if expected != taken {
                told.push(self.other_outputs(&expected, taken));
            }
        }
        if let Some(event) = event {
            let expected = EventFields(event.iter().map(|(name, value)| (name.clone(), value.to_string())).collect());
            let is_added = |field: &&(String, String)| self.added.contains(field) && expected.get(&field.0).is_none();
            let came = EventFields(fields.0.iter().filter(|field| !is_added(field)).cloned().collect());
            let changes = changes(&expected, &came, &same);
            if !changes.is_empty() {
                told.push(Told { changes, ..Told::new("the event differs (- expected, + actual)") });
            }
        }
        let wanted = contains.iter().flat_map(|pairs| &pairs.0).flat_map(|(path, value)| {
            let expected = value.to_string();
            let came = fields.find(path).map(|json| String::from_utf8_lossy(json).into_owned());
            let good = came.as_deref().is_some_and(|came| holds(&read(&expected), &read(came)));
            (!good).then(|| Change { path: path.clone(), before: Some(expected), after: came })
        });
        let changes: Vec<Change> = wanted.collect();
        if !changes.is_empty() {
            told.push(Told { changes, ..Told::new("fields are missing or differ (- expected, + actual)") });
        }
        for condition in condition.iter().flat_map(|conditions| &conditions.0) {
            let why = match test(condition, fields, &self.trace.origin) {
                Ok(true) => continue,
                Ok(false) => String::new(),
                Err(why) => format!(": {why}"),
            };
            let what = format!("the condition is false: {}{why}; the event is", condition.source());
            told.push(Told { changes: changes_of(fields), ..Told::new(what) });
        }
        told
    }

    fn other_outputs(&self, expected: &[usize], taken: &[usize]) -> Told {
        let mut told = Told::new(format!("goes to {}, expected {}", self.names(taken), self.names(expected)));
        let routes = &self.trace.routes;
        let wrong = (0..routes.len()).filter(|place| expected.contains(place) != taken.contains(place));
        for place in wrong {
            let answer = if routes[place].taken { "accepted" } else { "not accepted" };
            told.more.push(format!("{} ({answer}): {}", self.outputs[place], routes[place].why));
        }
        told
    }

    /// Why no output receives it.
    fn why_gone(&self) -> Told {
        let by = self.trace.steps.last().map(|step| format!("by transform {} ({})", step.place, step_name(step)));
        let by = by.unwrap_or_default();
        let why = self.trace.steps.last().and_then(|step| step.failure.as_ref());
        let why = why.map_or_else(String::new, |why| format!(": {why}"));
        Told::new(match &self.trace.end {
            End::Dropped => format!("is dropped {by}{why}"),
            End::Aggregated => format!("is aggregated {by}"),
            End::DeadLetter(reason) => format!("becomes a dead letter {by}: {reason}"),
            End::Oversized(bytes) => format!("becomes a dead letter: its {bytes} bytes exceed the limit for an event"),
            End::Untaken | End::Line(_) => {
                let why = self.trace.routes.iter().zip(self.outputs);
                let more = why.map(|(route, name)| format!("{name}: {}", route.why)).collect();
                return Told { more, ..Told::new("is dropped: no output accepts it") };
            }
        })
    }

    fn names(&self, places: &[usize]) -> String {
        let names: Vec<&str> = places.iter().map(|&place| self.outputs[place]).collect();
        names.join(", ")
    }
}

fn changes_of(fields: &EventFields) -> Vec<Change> {
    changes(&EventFields::default(), fields, &same)
}

/// A value of an event. A number outside every numeric type is compared as a string.
fn read(json: &str) -> Json {
    serde_json::from_str(json).unwrap_or_else(|_| Json::String(json.to_owned()))
}

fn same(expected: &str, came: &str) -> bool {
    expected == came || equal(&read(expected), &read(came))
}

/// Whether two values are equal; 200 and 200.0 are.
fn equal(expected: &Json, came: &Json) -> bool {
    match (expected, came) {
        (Json::Number(expected), Json::Number(came)) => {
            expected == came
                || expected.as_f64() == came.as_f64() && {
                    // Two different large integers may have the same nearest float.
                    expected.is_f64() || came.is_f64()
                }
        }
        (Json::Array(expected), Json::Array(came)) => {
            expected.len() == came.len() && expected.iter().zip(came).all(|(expected, came)| equal(expected, came))
        }
        (Json::Object(expected), Json::Object(came)) => {
            expected.len() == came.len()
                && expected.iter().all(|(name, value)| came.get(name).is_some_and(|came| equal(value, came)))
        }
        _ => expected == came,
    }
}

/// Whether a value contains at least the expected parts.
fn holds(expected: &Json, came: &Json) -> bool {
    match (expected, came) {
        (Json::Object(expected), Json::Object(came)) => {
            expected.iter().all(|(name, value)| came.get(name).is_some_and(|came| holds(value, came)))
        }
        _ => equal(expected, came),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_and_not_their_spelling() {
        for (expected, came) in [
            (r#"{"a":1,"b":[2,{"c":3}]}"#, r#"{"b":[2.0,{"c":3}],"a":1}"#),
            ("200", "200.0"),
            (r#""\u0041""#, "\"A\""),
            ("\"1e400\"", "1e400"),
        ] {
            assert!(same(expected, came), "{expected} {came}");
        }
        for (expected, came) in
            [("200", "\"200\""), ("9007199254740993", "9007199254740992"), ("[1,2]", "[2,1]"), ("null", "false")]
        {
            assert!(!same(expected, came), "{expected} {came}");
        }
    }

    #[test]
    fn an_object_is_contained_by_one_with_more() {
        let contained = |expected: &str, came: &str| holds(&read(expected), &read(came));
        assert!(contained(r#"{"a":{"b":1}}"#, r#"{"a":{"b":1,"c":2},"d":3}"#));
        assert!(!contained(r#"{"a":{"b":1}}"#, r#"{"a":{"c":1}}"#));
        assert!(!contained("[1]", "[1,2]"));
    }
}
