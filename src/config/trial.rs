//! The section `tests`: events, and what a pipeline is expected to make of them. Only `tailwater test` runs them; other commands
//! only check them.
//!
//! Guarantees: a test that cannot work (an unknown name, an event without its expectation) is reported with its position, like
//! any other problem of the configuration. Does not run tests.

use super::de::{Fault, FaultKind, read};
use super::node::{Node, Value, kind_of};
use super::plan::PipelinePlan;
use super::problem::{Problem, Span};
use super::raw::{Raw, names, unknown_name_help};
use super::types::Period;
use crate::transforms::condition::Condition;
use crate::transforms::pairs::Pairs;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::borrow::Cow;
use std::time::Duration;
use tailwater_shards::env::Timestamp;

mod forms;

pub use forms::{Line, Moment, OneOrMore};

/// A test: events as the input reads them, and what is expected of each.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Trial {
    /// The name, if the tests are a list.
    #[serde(default)]
    pub name: Option<String>,
    /// The input that reads the events. Can be left out if only one input is possible.
    #[serde(default)]
    pub input: Option<String>,
    /// The pipeline that the events go through. Can be left out if only one pipeline is possible.
    #[serde(default)]
    pub pipeline: Option<String>,
    /// When the first event is read. Default: the start of the year 2000, UTC.
    #[serde(default)]
    pub at: Moment,
    /// The time between reading one event and the next.
    #[serde(default = "at_once")]
    pub every: Period,
    /// Lines as they are in the source, or maps, which are read as a JSON line.
    pub events: Vec<Line>,
    /// What is expected of each event, in the same order.
    pub expect: Vec<Expectation>,
    /// What is expected of events that transforms create from several others, in order: first those that `every` creates, then
    /// those that are left at the end. If this is missing, created events are not checked.
    #[serde(default)]
    pub made: Option<Vec<Expectation>>,
}

fn at_once() -> Period {
    Period(Duration::ZERO)
}

/// What is expected of an event. All of it must hold.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The output or the list of outputs that the event goes to: exactly these.
    #[serde(default)]
    pub output: Option<OneOrMore<String>>,
    /// All its fields. Time, host, file and offset of a test event are fixed and can be left out.
    #[serde(default)]
    pub event: Option<Map<String, Json>>,
    /// Paths and values that it contains; it may have other fields too.
    #[serde(default)]
    pub contains: Option<Pairs<Json>>,
    /// A condition or a list of conditions that it meets.
    #[serde(default)]
    pub condition: Option<OneOrMore<Condition>>,
    /// It goes to no output: a transform or a parser dropped it, an aggregate counted it, or no output matched it.
    #[serde(default)]
    pub dropped: bool,
    /// It goes to the dead letter queue.
    #[serde(default)]
    pub dead_letter: bool,
}

/// The forms that the section can have.
pub struct Trials;

impl JsonSchema for Trials {
    fn schema_name() -> Cow<'static, str> {
        "Tests".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let trial = generator.subschema_for::<Trial>();
        json_schema!({
            "anyOf": [{"type": "object", "additionalProperties": trial}, {"type": "array", "items": trial}]
        })
    }
}

/// A test as written in the file.
pub struct RawTrial {
    /// Its name.
    name: String,
    /// Its path from the root.
    path: [String; 2],
    trial: Trial,
}

/// A test that can be run.
#[derive(Clone, Debug, PartialEq)]
pub struct TrialPlan {
    /// Its name.
    pub name: String,
    /// The input that reads the events: an index into [`super::Plan::inputs`].
    pub input: usize,
    /// The pipeline: an index into [`super::Plan::pipelines`].
    pub pipeline: usize,
    /// When the first event is read.
    pub at: Timestamp,
    /// The time between reading one event and the next.
    pub every: Duration,
    /// The events as the input reads them, and what is expected of each.
    pub cases: Vec<(String, Expected)>,
    /// What is expected of the events that transforms create, if the test says so.
    pub made: Option<Vec<Expected>>,
    /// The position of that expectation, or else of the test.
    pub made_span: Span,
}

/// What is expected of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Expected {
    /// The position of the expectation.
    pub span: Span,
    /// The expected outputs, as indices into those of the pipeline, if the test says so.
    pub outputs: Option<Vec<usize>>,
    /// The other expectations.
    pub expectation: Expectation,
}

/// Reads the section.
pub fn read_trials(root: &Node, problems: &mut Vec<Problem>) -> Vec<RawTrial> {
    let Some((_, node)) = root.entry("tests") else { return Vec::new() };
    let all: Vec<(String, Option<&str>, Span, &Node)> = match &node.value {
        Value::Map(entries) => {
            entries.iter().map(|(key, node)| (key.text.clone(), Some(key.text.as_str()), key.span, node)).collect()
        }
        Value::List(items) => {
            items.iter().enumerate().map(|(number, node)| (number.to_string(), None, node.span, node)).collect()
        }
        Value::Scalar(scalar) if scalar.plain && scalar.text.is_empty() => Vec::new(),
        Value::Scalar(_) => {
            let problem = Problem::error(node.span, "expected a map from names to tests, or a list of tests");
            problems.push(problem.label(format!("this is {}", kind_of(node))));
            return Vec::new();
        }
    };
    let mut trials = Vec::with_capacity(all.len());
    for (number, (step, name, span, node)) in all.into_iter().enumerate() {
        match read::<Trial>(node) {
            Ok(trial) => {
                let named = name.map(str::to_owned).or_else(|| trial.name.clone());
                let name = named.unwrap_or_else(|| format!("test {}", number + 1));
                trials.push(RawTrial { name, path: ["tests".to_owned(), step], trial });
            }
            Err(fault) => {
                // A missing key is a problem of the whole test, so its name is underlined instead of its first key.
                let whole =
                    matches!(fault.kind, FaultKind::Missing(_)) && fault.span.is_none_or(|span| span == node.span);
                let span = if whole { Some(span) } else { fault.span.or(Some(node.span)) };
                problems.push(Fault { span, ..fault }.problem());
            }
        }
    }
    trials
}

/// Resolves the names in tests and reports what is wrong with them.
pub fn plan_trials(raw: &Raw, pipelines: &[PipelinePlan], root: &Node, problems: &mut Vec<Problem>) -> Vec<TrialPlan> {
    let mut planner = Planner { raw, pipelines, root, problems };
    raw.tests.iter().filter_map(|raw| planner.plan(raw)).collect()
}

struct Planner<'a> {
    raw: &'a Raw,
    pipelines: &'a [PipelinePlan],
    root: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Planner<'_> {
    fn plan(&mut self, raw: &RawTrial) -> Option<TrialPlan> {
        let trial = &raw.trial;
        let way = self.way(raw);
        if trial.events.len() != trial.expect.len() {
            let (events, expected) = (trial.events.len(), trial.expect.len());
            let problem =
                Problem::error(self.span(raw, &["expect"]), format!("events: {events}, expectations: {expected}"));
            let problem = problem.label("each event needs one expectation, in the same order");
            self.problems.push(problem.help("if an event goes to no output, expect `dropped: true`"));
        }
        let (input, pipeline) = way?;
        let mut expected = |section: &str, all: &[Expectation]| -> Vec<Expected> {
            let one = |(place, one): (usize, &Expectation)| self.expected(raw, section, place, one, pipeline);
            all.iter().enumerate().map(one).collect()
        };
        let cases = trial.events.iter().map(|Line(event)| event.clone());
        let cases = cases.zip(expected("expect", &trial.expect)).collect();
        let made = trial.made.as_ref().map(|made| expected("made", made));
        let made_span = self.span(raw, &["made"]);
        let (name, Moment(at)) = (raw.name.clone(), trial.at);
        Some(TrialPlan { name, input, pipeline, at, every: trial.every.0, cases, made, made_span })
    }

    fn expected(
        &mut self,
        raw: &RawTrial,
        section: &str,
        place: usize,
        expectation: &Expectation,
        pipeline: usize,
    ) -> Expected {
        let place = place.to_string();
        self.check(raw, section, &place, expectation);
        let names = expectation.output.as_ref();
        let outputs = names.map(|names| self.outputs(raw, section, &place, &names.0, pipeline));
        let span = self.span(raw, &[section, &place]);
        Expected { span, outputs, expectation: expectation.clone() }
    }

    /// The indices of the input and the pipeline.
    fn way(&mut self, raw: &RawTrial) -> Option<(usize, usize)> {
        let inputs: Vec<&str> = self.raw.inputs.iter().map(|(name, _)| name.as_str()).collect();
        let input = match &raw.trial.input {
            Some(name) => Some(self.named(raw, "input", name, &inputs)?),
            None => None,
        };
        let all: Vec<&str> = self.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
        let feeds = |pipeline: usize| input.is_none_or(|input| self.pipelines[pipeline].inputs.contains(&input));
        let possible: Vec<usize> = (0..all.len()).filter(|&pipeline| feeds(pipeline)).collect();
        let pipeline = match &raw.trial.pipeline {
            Some(name) => self.named(raw, "pipeline", name, &all)?,
            None => match possible[..] {
                [only] => only,
                _ => {
                    let names: Vec<&str> = possible.iter().map(|&pipeline| all[pipeline]).collect();
                    self.unclear(raw, "pipeline", &names);
                    return None;
                }
            },
        };
        let plan = &self.pipelines[pipeline];
        match (input, &plan.inputs[..]) {
            (Some(input), inputs) if inputs.contains(&input) => Some((input, pipeline)),
            (Some(input), _) => {
                let what = format!("the pipeline `{}` does not read the input `{}`", plan.name, inputs[input]);
                let problem = Problem::error(self.span(raw, &["input"]), what).label("not in its `inputs`");
                self.problems.push(problem.help("name an input of the pipeline"));
                None
            }
            (None, [only]) => Some((*only, pipeline)),
            (None, several) => {
                let names: Vec<&str> = several.iter().map(|&input| inputs[input]).collect();
                self.unclear(raw, "input", &names);
                None
            }
        }
    }

    /// The index of the component that a test names.
    fn named(&mut self, raw: &RawTrial, kind: &str, name: &str, known: &[&str]) -> Option<usize> {
        let found = known.iter().position(|candidate| *candidate == name);
        let section = format!("{kind}s");
        let written = names(self.root, &section);
        if found.is_none() && !written.contains(&name) {
            let help = unknown_name_help(name, &section, &written);
            let problem = Problem::error(self.span(raw, &[kind]), format!("unknown {kind} `{name}`"));
            self.problems.push(problem.label(format!("no {kind} has this name")).help(help));
        }
        found
    }

    fn unclear(&mut self, raw: &RawTrial, kind: &str, possible: &[&str]) {
        // If there is none at all, that is reported elsewhere.
        if !possible.is_empty() {
            let help = format!("add `{kind}:` with one of {}", possible.join(", "));
            let what = format!("the test does not say which {kind} it uses");
            let problem = Problem::error(self.span(raw, &[]), what).label(format!("there are {}", possible.len()));
            self.problems.push(problem.help(help));
        }
    }

    fn check(&mut self, raw: &RawTrial, section: &str, place: &str, expectation: &Expectation) {
        let Expectation { output, event, contains, condition, dropped, dead_letter } = expectation;
        for (number, condition) in condition.iter().flat_map(|all| all.0.iter().enumerate()) {
            let number = number.to_string();
            for doubt in condition.doubts() {
                let path: Vec<&str> =
                    raw.path.iter().map(String::as_str).chain([section, place, "condition"]).collect();
                let in_list: Vec<&str> = path.iter().copied().chain([number.as_str()]).collect();
                let is_list = self.root.at(&in_list).is_some();
                self.problems.push(doubt.problem(self.root, if is_list { &in_list } else { &path }));
            }
        }
        let more = output.is_some() || event.is_some() || contains.is_some() || condition.is_some();
        let at = |path: &[&str]| self.span(raw, path);
        let problem = match (dropped | dead_letter, more || *dropped && *dead_letter) {
            (true, true) => {
                Problem::error(at(&[section, place]), "an event that goes to no output cannot have other expectations")
                    .label("has other expectations")
                    .help("remove `dropped` and `dead_letter`, or the other keys")
            }
            (false, false) => Problem::error(at(&[section, place]), "the expectation is empty")
                .label("every event would meet it")
                .help("add one of `output`, `event`, `contains`, `condition`, `dropped: true` or `dead_letter: true`"),
            _ => return,
        };
        self.problems.push(problem);
    }

    /// The indices of outputs among those of a pipeline.
    fn outputs(&mut self, raw: &RawTrial, section: &str, place: &str, named: &[String], pipeline: usize) -> Vec<usize> {
        let plan = &self.pipelines[pipeline];
        let known: Vec<&str> = plan.outputs.iter().map(|&index| self.raw.outputs[index].0.as_str()).collect();
        let written = names(self.root, "outputs");
        let mut places = Vec::with_capacity(named.len());
        for (number, name) in named.iter().enumerate() {
            if let Some(place) = known.iter().position(|candidate| candidate == name) {
                places.push(place);
                continue;
            }
            let number = number.to_string();
            let at = self.span(raw, &[section, place, "output", &number]);
            if !written.contains(&name.as_str()) {
                let problem = Problem::error(at, format!("unknown output `{name}`")).label("no output has this name");
                self.problems.push(problem.help(unknown_name_help(name, "outputs", &known)));
            } else if self.raw.outputs.iter().any(|(known, _)| known == name) {
                let what = format!("the pipeline `{}` does not write to the output `{name}`", plan.name);
                let problem = Problem::error(at, what).label("none of its events go there");
                self.problems.push(problem.help(format!("its outputs are {}", known.join(", "))));
            }
        }
        places
    }

    fn span(&self, raw: &RawTrial, path: &[&str]) -> Span {
        let whole: Vec<&str> = raw.path.iter().map(String::as_str).chain(path.iter().copied()).collect();
        self.root.span_at(&whole)
    }
}
