//! Variables in the JSON Schema: `"${N}"` is valid wherever the reader accepts a number, a boolean or one of several words.
//!
//! Guarantees: what selects the kind of a component (`type`) stays a constant, so a mistake is still reported for that component
//! alone. Does not say which value a variable may have: only the reader knows it.

use serde_json::{Map, Value, json};

const NAME: &str = "Variable";

/// Allows values from the environment in the schema.
pub(super) fn accept(schema: &mut Value) {
    let definitions = schema.get("$defs").and_then(Value::as_object).cloned().unwrap_or_default();
    visit(schema, &definitions);
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        let variable = json!({
            "description": "A value that contains a variable of the environment.",
            "type": "string",
            "pattern": "\\$\\{"
        });
        definitions.insert(NAME.to_owned(), variable);
    }
}

fn visit(schema: &mut Value, definitions: &Map<String, Value>) {
    match schema {
        Value::Object(map) => {
            map.values_mut().for_each(|inner| visit(inner, definitions));
            let properties = map.get_mut("properties").and_then(Value::as_object_mut);
            properties.into_iter().flat_map(Map::values_mut).for_each(|value| wrap(value, definitions));
            for keyword in ["additionalProperties", "items"] {
                map.get_mut(keyword).into_iter().for_each(|value| wrap(value, definitions));
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|inner| visit(inner, definitions)),
        _ => {}
    }
}

fn wrap(value: &mut Value, definitions: &Map<String, Value>) {
    let Some(map) = value.as_object_mut() else { return };
    if map.contains_key("const") || map.contains_key("properties") || !refuses_variables(map, definitions) {
        return;
    }
    let mut whole = Map::new();
    for keyword in ["description", "default"] {
        map.remove(keyword).into_iter().for_each(|said| drop(whole.insert(keyword.to_owned(), said)));
    }
    let reference = json!({ "$ref": format!("#/$defs/{NAME}") });
    whole.insert("anyOf".to_owned(), json!([map, reference]));
    *value = Value::Object(whole);
}

/// Whether the schema accepts scalars but not every string.
fn refuses_variables(schema: &Map<String, Value>, definitions: &Map<String, Value>) -> bool {
    let parts = leaves(schema, definitions);
    let is_free = |part: &&Map<String, Value>| {
        has_type(part, "string") && !["pattern", "enum", "const", "format"].iter().any(|word| part.contains_key(*word))
    };
    let is_scalar = |part: &&Map<String, Value>| {
        ["const", "enum"].iter().any(|word| part.contains_key(*word))
            || ["integer", "number", "boolean", "string"].iter().any(|name| has_type(part, name))
    };
    parts.iter().any(is_scalar) && !parts.iter().any(is_free)
}

fn has_type(schema: &Map<String, Value>, name: &str) -> bool {
    schema.get("type").is_some_and(|kind| kind == name || kind.as_array().is_some_and(|all| all.contains(&name.into())))
}

/// The alternatives, with references followed.
fn leaves<'a>(schema: &'a Map<String, Value>, definitions: &'a Map<String, Value>) -> Vec<&'a Map<String, Value>> {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
    let target = name.and_then(|name| definitions.get(name)).and_then(Value::as_object);
    let choices = ["anyOf", "oneOf"].iter().filter_map(|word| schema.get(*word)?.as_array()).flatten();
    let inner: Vec<_> = target.into_iter().chain(choices.filter_map(Value::as_object)).collect();
    if inner.is_empty() { vec![schema] } else { inner.into_iter().flat_map(|one| leaves(one, definitions)).collect() }
}
