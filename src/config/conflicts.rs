//! Detects transforms that take a field of the input for the field of the same name that events may have.
//!
//! Guarantees: only warnings, and only where nothing before the transform writes to fields.

use super::node::Node;
use super::plan::{PipelinePlan, Plan};
use super::problem::Problem;
use super::types::{FieldName, OnConflict};
use crate::codec::path::{Path, Segment};
use crate::transforms::Step;
use crate::transforms::theirs::EVENT;
use tailwater_shards::env::Env;

/// Checks the transforms of all pipelines.
pub fn check<E: Env>(plan: &Plan, root: &Node, problems: &mut Vec<Problem>) {
    problems.extend(plan.pipelines.iter().filter_map(|pipeline| read_time::<E>(plan, pipeline, root)));
}

/// A `timestamp` that gets the time of reading, which the event has anyway.
fn read_time<E: Env>(plan: &Plan, pipeline: &PipelinePlan, root: &Node) -> Option<Problem> {
    let steps = &pipeline.chain.steps;
    let (number, field) = steps.iter().enumerate().find_map(|(number, step)| match step {
        Step::Timestamp(settings) => Some((number, &settings.0.0.field)),
        _ => None,
    })?;
    let may_write =
        |step: &Step| !matches!(step, Step::Drop(_) | Step::Filter(_) | Step::Sample(_) | Step::Throttle(_));
    if !field.rest().is_empty() || steps[..number].iter().any(may_write) {
        return None;
    }
    let is_ours = |input: &usize| {
        let events = plan.inputs[*input].settings.events::<E>();
        let is_named = matches!(&events.fields.timestamp, FieldName::Named(name) if name == field.first());
        is_named && events.parse.is_some() && events.on_conflict == OnConflict::Ours
    };
    let input = &plan.inputs[*pipeline.inputs.iter().find(|input| is_ours(input))?].name;
    let span = root.span_at(&["pipelines", &pipeline.name, "transforms", &number.to_string()]);
    let theirs = Path::field(EVENT).then(Segment::Field(field.first().to_owned()));
    Some(
        Problem::warning(span, format!("`{field}` is the time at which the input `{input}` read the event"))
            .label("so this changes nothing")
            .help(format!("for the value of the event, write `{theirs}`, or set `on_conflict: theirs` for the input")),
    )
}
