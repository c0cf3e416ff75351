//! Prints what happened to an event, for people and for programs.
//!
//! Guarantees: in the output for people, no content of an event or a configuration can control the terminal; in the output for
//! programs, values are the original JSON.

use super::output::Paint;
use crate::codec::visible::visible;
use crate::process::changes::{Change, EventFields, quoted};
use crate::process::trace::{End, EventTrace, PipelineTrace, StepTrace};
use crate::transforms::Verdict;
use std::fmt::Write as _;

/// The names of a pipeline and its outputs.
pub struct Names<'a> {
    /// The pipeline.
    pub pipeline: &'a str,
    /// Its outputs, in their order.
    pub outputs: Vec<&'a str>,
}

/// Prints an event for people.
pub fn event(number: u64, trace: &EventTrace, names: &[Names<'_>], paint: Paint) -> String {
    let mut out = format!("{}\n", paint.bold(&format!("event {number}")));
    let _ = writeln!(out, "  received   {}", visible(&trace.original));
    if let Some(fault) = &trace.fault {
        let _ = writeln!(out, "  {}", paint.red(&format!("not parsed: {fault}")));
    }
    match &trace.fields {
        Some(fields) => _ = writeln!(out, "  event      {}", visible(fields.to_json())),
        None => _ = writeln!(out, "  {}", paint.red(unparsed(trace))),
    }
    for (pipeline, names) in trace.pipelines.iter().zip(names) {
        push_pipeline(pipeline, names, paint, &mut out);
    }
    out.push('\n');
    out
}

/// What the input does with a line that it cannot parse.
pub fn unparsed(trace: &EventTrace) -> &'static str {
    match trace.given_up {
        true => "goes to the dead letter queue: the input cannot parse it",
        false => "dropped: the input drops lines that it cannot parse",
    }
}

/// Prints an event that a transform made, for people.
pub fn made(number: u64, trace: &PipelineTrace, names: &Names<'_>, paint: Paint) -> String {
    let mut out = format!("{}\n", paint.bold(&format!("made event {number}")));
    push_pipeline(trace, names, paint, &mut out);
    out.push('\n');
    out
}

fn push_pipeline(trace: &PipelineTrace, names: &Names<'_>, paint: Paint, out: &mut String) {
    let _ = writeln!(out, "  pipeline {}", paint.bold(names.pipeline));
    for step in &trace.steps {
        push_step(step, paint, out);
    }
    match &trace.end {
        End::Dropped | End::Aggregated | End::DeadLetter(_) => {}
        End::Untaken => _ = writeln!(out, "    {}", paint.red("dropped: no output accepts it")),
        End::Oversized(bytes) => {
            let _ = writeln!(
                out,
                "    {}",
                paint.red(&format!("dead letter: {bytes} bytes exceed the limit for an event"))
            );
        }
        End::Line(line) => _ = writeln!(out, "    {} {}", paint.green("="), visible(line)),
    }
    for (route, name) in trace.routes.iter().zip(&names.outputs) {
        let (sign, name) = match route.taken {
            true => (paint.green("->"), paint.green(name)),
            false => (paint.dim("x "), paint.dim(name)),
        };
        let _ = writeln!(out, "    {sign} {name}: {}", paint.dim(&route.why));
    }
}

fn push_step(step: &StepTrace, paint: Paint, out: &mut String) {
    let indent = "  ".repeat(2 + step.depth);
    let side = match step.side {
        Some(true) => format!(" {}", paint.green("-> then")),
        Some(false) => format!(" {}", paint.yellow("-> else")),
        None => String::new(),
    };
    let gone = match step.verdict {
        Verdict::Keep if step.made => format!(" {}", paint.green("makes")),
        Verdict::Keep => String::new(),
        Verdict::Drop | Verdict::Throttle => format!(" {}", paint.red("-> dropped")),
        Verdict::Aggregate => format!(" {}", paint.yellow("-> aggregated")),
        Verdict::DeadLetter => format!(" {}", paint.red("-> dead letter")),
    };
    let _ = writeln!(out, "{indent}{} {}{side}{gone}", paint.dim(&step.place), visible(step_name(step)));
    if let Some(failure) = &step.failure {
        let _ = writeln!(out, "{indent}    {}", paint.red(&format!("! failed: {failure}")));
    }
    push_changes(&step.changes, &format!("{indent}    "), paint, out);
}

/// A transform with its condition.
pub fn step_name(step: &StepTrace) -> String {
    match &step.condition {
        Some(condition) => format!("{}: {condition}", step.transform),
        None => step.transform.to_owned(),
    }
}

/// Prints differences, one per line: `-` a removed field, `+` a new field, `~` a changed value.
pub fn push_changes(changes: &[Change], indent: &str, paint: Paint, out: &mut String) {
    for Change { path, before, after } in changes {
        let line = match (before, after) {
            (Some(before), None) => paint.red(&format!("- {path}: {before}")),
            (None, Some(after)) => paint.green(&format!("+ {path}: {after}")),
            (Some(before), Some(after)) => {
                format!("{} {} -> {}", paint.yellow(&format!("~ {path}:")), paint.red(before), paint.green(after))
            }
            (None, None) => continue,
        };
        let _ = writeln!(out, "{indent}{line}");
    }
}

/// An event as a JSON object on one line.
pub fn event_json(number: u64, trace: &EventTrace, names: &[Names<'_>]) -> String {
    let pipelines = trace.pipelines.iter().zip(names).map(|(pipeline, names)| pipeline_json(pipeline, names));
    let mut all = Object::default();
    all.push("number", number.to_string());
    all.push("original", quoted(&trace.original));
    all.push_text("parse_error", trace.fault.as_deref());
    all.push_some("dead_letter", trace.given_up.then(|| "true".to_owned()));
    all.push_some("fields", trace.fields.as_ref().map(EventFields::to_json));
    all.push("pipelines", list(pipelines));
    format!("{}\n", all.end())
}

/// An event that a transform made, as a JSON object on one line.
pub fn made_json(number: u64, trace: &PipelineTrace, names: &Names<'_>) -> String {
    let mut all = Object::default();
    all.push("made", number.to_string());
    all.push("pipelines", format!("[{}]", pipeline_json(trace, names)));
    format!("{}\n", all.end())
}

fn pipeline_json(trace: &PipelineTrace, names: &Names<'_>) -> String {
    let routes = trace.routes.iter().zip(&names.outputs).map(|(route, name)| {
        let mut all = Object::default();
        all.push("output", quoted(name.as_bytes()));
        all.push("taken", route.taken.to_string());
        all.push("why", quoted(route.why.as_bytes()));
        all.end()
    });
    let mut all = Object::default();
    all.push("pipeline", quoted(names.pipeline.as_bytes()));
    all.push("steps", list(trace.steps.iter().map(step_json)));
    all.push("outputs", list(routes));
    match &trace.end {
        End::Line(line) => all.push("event", line.clone()),
        End::Dropped => all.push_text("dropped", Some("transform")),
        End::Aggregated => all.push_text("dropped", Some("aggregated")),
        End::DeadLetter(reason) => all.push_text("dead_letter", Some(reason)),
        End::Untaken => all.push_text("dropped", Some("no_output")),
        End::Oversized(_) => all.push_text("dead_letter", Some("too_large")),
    }
    all.end()
}

fn step_json(step: &StepTrace) -> String {
    let changes = step.changes.iter().map(|change| {
        let mut all = Object::default();
        all.push("path", quoted(change.path.to_string().as_bytes()));
        all.push_some("before", change.before.clone());
        all.push_some("after", change.after.clone());
        all.end()
    });
    let mut all = Object::default();
    all.push("place", quoted(step.place.as_bytes()));
    all.push("transform", quoted(step.transform.as_bytes()));
    all.push_text("condition", step.condition.as_deref());
    all.push_some("holds", step.side.map(|holds| holds.to_string()));
    all.push_some("dropped", matches!(step.verdict, Verdict::Drop | Verdict::Throttle).then(|| "true".to_owned()));
    all.push_text("failed", step.failure.as_deref());
    all.push("changes", list(changes));
    all.end()
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON object whose values are already JSON: values of events are kept unchanged.
#[derive(Default)]
struct Object(Vec<String>);

impl Object {
    fn push(&mut self, name: &str, json: String) {
        self.0.push(format!("\"{name}\":{json}"));
    }

    fn push_some(&mut self, name: &str, json: Option<String>) {
        if let Some(json) = json {
            self.push(name, json);
        }
    }

    fn push_text(&mut self, name: &str, text: Option<&str>) {
        self.push_some(name, text.map(|text| quoted(text.as_bytes())));
    }

    fn end(self) -> String {
        format!("{{{}}}", self.0.join(","))
    }
}
