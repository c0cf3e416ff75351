//! One function for each of the two languages, and the differences between the crate and the specification.

use cel::{Context, Value as Theirs};
use std::collections::HashMap;
use std::sync::Arc;
use tailwater::codec::path::{Path, find_path};
use tailwater::expr::{FieldValue, Fields, List, Map, PathIndex, Program, Value};

/// The result of an expression, written so that types are visible.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    Value(String),
    Error(String),
}

impl Outcome {
    /// The same value, or an error in both: the messages may differ.
    pub fn agrees(&self, other: &Outcome) -> bool {
        match (self, other) {
            (Outcome::Value(left), Outcome::Value(right)) => left == right,
            (Outcome::Error(_), Outcome::Error(_)) => true,
            _ => false,
        }
    }
}

/// A construct that the crate handles differently from the specification.
pub struct Difference {
    pub example: &'static str,
    /// The result in this project.
    pub ours: &'static str,
    /// Why that is right.
    #[allow(dead_code, reason = "for who reads the table")]
    pub why: &'static str,
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        example: "9007199254740993 == 9007199254740992.0",
        ours: "false",
        why: "numbers compare on one continuous line; the crate rounds the int to a double first",
    },
    Difference {
        example: "0.0 / (d - d) < 1.0",
        ours: "false",
        why: "an order that NaN takes part in is false; the crate gives an error",
    },
    Difference {
        example: "string(1e-300)",
        ours: "\"1e-300\"",
        why: "the specification leaves the digits open; the crate writes all three hundred",
    },
    Difference {
        example: "!has(missing.a.b)",
        ours: "true",
        why: "names are fields of the event, so one that is not there is no undeclared variable",
    },
];

struct Event<'a> {
    json: &'a str,
    paths: &'a [Path],
}

impl Fields for Event<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        find_path(self.json.as_bytes(), self.paths[path.index()].segments()).map(FieldValue::Json)
    }
}

/// The result of the product's language.
pub fn ours(source: &str, event: &str) -> Outcome {
    let program = match Program::compile_value(source) {
        Ok(program) => program,
        Err(error) => return Outcome::Error(error.to_string()),
    };
    let event = Event { json: event, paths: program.paths() };
    match program.evaluate(&event, &mut program.scratch()) {
        Ok(value) => Outcome::Value(spell(&value)),
        Err(error) => Outcome::Error(program.explain(error)),
    }
}

fn spell(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => format!("{value}"),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("{value:?}"),
        Value::String(text) => format!("{:?}", String::from_utf8_lossy(&text.decoded())),
        Value::Timestamp(nanos) => format!("moment {nanos}"),
        Value::Duration(nanos) => format!("duration {nanos}"),
        Value::List(list) => spell_list(list),
        Value::Map(map) => spell_map(map),
    }
}

fn spell_list(list: &List<'_>) -> String {
    let mut parts = Vec::new();
    list.each(|value| {
        parts.push(spell(&value));
        Ok(true)
    })
    .expect("values of valid JSON");
    format!("[{}]", parts.join(", "))
}

fn spell_map(map: &Map<'_>) -> String {
    let entries = map.entries().expect("values of valid JSON");
    let mut parts: Vec<String> =
        entries.iter().map(|(key, value)| format!("{}: {}", spell(key), spell(value))).collect();
    parts.sort();
    format!("{{{}}}", parts.join(", "))
}

/// The result of the crate. Its parser may panic, which counts as a rejection.
pub fn theirs(source: &str, event: &serde_json::Value) -> Outcome {
    let run = || {
        let program = cel::Program::compile(source).map_err(|error| error.to_string())?;
        let mut context = Context::default();
        for (name, value) in event.as_object().expect("an event") {
            context.add_variable_from_value(name.as_str(), convert(value));
        }
        program.execute(&context).map(|value| spell_theirs(&value)).map_err(|error| error.to_string())
    };
    match std::panic::catch_unwind(run) {
        Ok(Ok(value)) => Outcome::Value(value),
        Ok(Err(error)) => Outcome::Error(error),
        Err(_) => Outcome::Error("it panicked".to_owned()),
    }
}

fn convert(json: &serde_json::Value) -> Theirs {
    match json {
        serde_json::Value::Null => Theirs::Null,
        serde_json::Value::Bool(value) => Theirs::Bool(*value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => Theirs::Int(value),
            (None, Some(value)) => Theirs::UInt(value),
            _ => Theirs::Float(number.as_f64().expect("a number")),
        },
        serde_json::Value::String(text) => Theirs::String(Arc::new(text.clone())),
        serde_json::Value::Array(list) => Theirs::List(Arc::new(list.iter().map(convert).collect())),
        serde_json::Value::Object(map) => {
            let map: HashMap<String, Theirs> = map.iter().map(|(name, value)| (name.clone(), convert(value))).collect();
            Theirs::Map(map.into())
        }
    }
}

fn spell_theirs(value: &Theirs) -> String {
    match value {
        Theirs::Null => "null".to_owned(),
        Theirs::Bool(value) => value.to_string(),
        Theirs::Int(value) => format!("{value}"),
        Theirs::UInt(value) => format!("{value}u"),
        Theirs::Float(value) => format!("{value:?}"),
        Theirs::String(text) => format!("{text:?}"),
        Theirs::Timestamp(moment) => {
            let nanos = i128::from(moment.timestamp()) * 1_000_000_000 + i128::from(moment.timestamp_subsec_nanos());
            format!("moment {nanos}")
        }
        Theirs::Duration(length) => {
            let nanos = i128::from(length.num_seconds()) * 1_000_000_000 + i128::from(length.subsec_nanos());
            format!("duration {nanos}")
        }
        Theirs::List(list) => format!("[{}]", list.iter().map(spell_theirs).collect::<Vec<_>>().join(", ")),
        Theirs::Map(map) => {
            let key = |key: &cel::objects::Key| match key {
                cel::objects::Key::Int(value) => format!("{value}"),
                cel::objects::Key::Uint(value) => format!("{value}u"),
                cel::objects::Key::Bool(value) => value.to_string(),
                cel::objects::Key::String(text) => format!("{text:?}"),
            };
            let mut parts: Vec<String> =
                map.map.iter().map(|(name, value)| format!("{}: {}", key(name), spell_theirs(value))).collect();
            parts.sort();
            format!("{{{}}}", parts.join(", "))
        }
        other => format!("{other:?}"),
    }
}
