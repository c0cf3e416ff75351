//! Warns about shares of an output that are given by a field whose value events choose: then nobody has a share of his own.
//!
//! Guarantees: only warnings. A field counts as chosen by events if an input whose events reach the output does not set it itself, and no
//! transform of the pipeline names it. What a transform that names it does is the operator's choice.

use super::node::{Node, Value};
use super::plan::{OutputPlan, PipelinePlan, Plan};
use super::problem::Problem;
use super::types::{FieldName, OnConflict};
use crate::codec::envelope::EnvelopeKind;
use crate::codec::template::Template;
use crate::inputs::InputConfig;
use tailwater_shards::env::Env;

/// Checks the outputs that run.
pub fn check<E: Env>(plan: &Plan, root: &Node, problems: &mut Vec<Problem>) {
    let used = plan.outputs.iter().enumerate().filter(|(_, output)| output.used);
    problems.extend(used.filter_map(|(index, output)| chosen::<E>(plan, index, output, root)));
}

/// An output with shares by a field that events choose.
fn chosen<E: Env>(plan: &Plan, index: usize, output: &OutputPlan, root: &Node) -> Option<Problem> {
    let at = ["outputs", &output.name, "dead_letters", "share_by"];
    let Value::Scalar(scalar) = &root.at(&at)?.value else { return None };
    let template = Template::parse(scalar.marked.as_deref().unwrap_or(&scalar.text)).ok()?;
    let feeds = || plan.pipelines.iter().filter(|pipeline| pipeline.outputs.contains(&index));
    let (field, input) = template.fields().find_map(|field| {
        let field = std::str::from_utf8(field).ok()?;
        let pipelines = feeds().filter(|pipeline| !is_named(pipeline, field, root));
        let mut inputs = pipelines.flat_map(|pipeline| &pipeline.inputs).map(|&input| &plan.inputs[input]);
        Some((field, &inputs.find(|input| !is_own::<E>(&input.settings, field))?.name))
    })?;
    let what = format!("the input `{input}` lets events set `{field}`, so whoever writes them chooses a share");
    let help = format!(
        "write a field of the input, such as `{{{{ file }}}}` of an input `file` with `on_conflict: ours`, or set it before: \
         `add: {{{field}: \"{{{{ origin().file }}}}\"}}`"
    );
    Some(Problem::warning(root.span_at(&at), what).label("his dead letters use up the shares of others").help(help))
}

/// Whether no event has a value of its own in this field.
fn is_own<E: Env>(input: &InputConfig, field: &str) -> bool {
    let events = input.events::<E>();
    let of_file = events.kind == EnvelopeKind::File;
    let names = [(&events.fields.host, true), (&events.fields.file, of_file)];
    let is_set = |(name, exists): (&FieldName, bool)| exists && matches!(name, FieldName::Named(name) if name == field);
    names.into_iter().any(is_set) && events.on_conflict == OnConflict::Ours
}

/// Whether the transforms of a pipeline name a field, as a key or as a value.
fn is_named(pipeline: &PipelinePlan, field: &str, root: &Node) -> bool {
    root.at(&["pipelines", &pipeline.name, "transforms"]).is_some_and(|node| names(node, field))
}

fn names(node: &Node, field: &str) -> bool {
    match &node.value {
        Value::Scalar(scalar) => scalar.text == field,
        Value::List(all) => all.iter().any(|node| names(node, field)),
        Value::Map(all) => all.iter().any(|(key, node)| key.text == field || names(node, field)),
    }
}
