//! What the file says about a pipeline: its inputs, transforms and outputs.
//!
//! Does not know which names exist: [`super::plan`] does.

use super::problem::Problem;
use super::recover::Recovered;
use crate::process::Route;
use crate::transforms::Step;
use crate::transforms::condition::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Cow;
use std::fmt;

/// A path from inputs to outputs.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pipeline {
    /// Names of inputs.
    pub inputs: Vec<String>,
    /// The transforms, applied to each event in this order.
    #[serde(default)]
    pub transforms: Vec<Step>,
    /// Whether an event goes to every output whose condition it meets, or only to the first of them.
    #[serde(default, rename = "match")]
    pub matching: Match,
    /// Names of outputs, or maps `{to: NAME, when: CONDITION}` and `{to: NAME, else: true}`.
    pub outputs: Vec<Target>,
}

/// How many of the matching outputs an event goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// To all of them.
    #[default]
    All,
    /// Only to the first, in the order of the list.
    First,
}

/// An output of a pipeline, and which events go to it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The output.
    pub to: String,
    /// Which events.
    pub route: Route,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TargetMap {
    /// The output.
    to: String,
    /// Only events that meet this condition go to the output.
    #[serde(default)]
    when: Option<Condition>,
    /// Only events that meet no condition of the pipeline's other outputs go to the output.
    #[serde(default, rename = "else")]
    otherwise: bool,
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Target, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Target;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of an output, or a map {to: NAME, when: CONDITION}")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Target, E> {
                Ok(Target { to: name.to_owned(), route: Route::Always })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
                let map = TargetMap::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                let route = match (map.when, map.otherwise) {
                    (Some(_), true) => return Err(A::Error::custom("`when` and `else` cannot be used together")),
                    (Some(condition), false) => Route::When(condition),
                    (None, true) => Route::Else,
                    (None, false) => Route::Always,
                };
                Ok(Target { to: map.to, route })
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = TargetMap::json_schema(generator);
        json_schema!({ "anyOf": [{"type": "string"}, map] })
    }
}

/// Reports mistakes in a parsed pipeline that only its transforms and conditions can detect.
pub fn check_pipeline(recovered: &Recovered<Pipeline>, problems: &mut Vec<Problem>) {
    let Some(pipeline) = &recovered.value else { return };
    let node = &recovered.node;
    for (number, step) in pipeline.transforms.iter().enumerate() {
        let above = ["transforms", &number.to_string()];
        for doubt in step.doubts().into_iter().filter(|doubt| !recovered.explains(&doubt.mistake, &above)) {
            problems.push(doubt.problem(node, &above));
        }
        let mistakes = step.check().into_iter().filter(|mistake| !recovered.explains(mistake, &above));
        problems.extend(mistakes.map(|mistake| mistake.problem(node, &above)));
    }
    for (number, target) in pipeline.outputs.iter().enumerate() {
        let Route::When(condition) = &target.route else { continue };
        let path = ["outputs", &number.to_string(), "when"];
        let doubts = condition.doubts().into_iter().filter(|_| !recovered.follows(&path, &[]));
        problems.extend(doubts.map(|doubt| doubt.problem(node, &path)));
    }
    let conditions = pipeline.outputs.iter().any(|target| matches!(target.route, Route::When(_)));
    if let Some(place) = pipeline.outputs.iter().position(|target| target.route == Route::Else)
        && !conditions
        && !recovered.follows(&["outputs"], &[])
    {
        let span = node.span_at(&["outputs", &place.to_string(), "else"]);
        problems.push(
            Problem::error(span, "`else` without a `when`")
                .label("no output of this pipeline has a `when`")
                .help("add a `when` to another output, or remove `else`"),
        );
    }
}
