//! The JSON Schema agrees with the parser: what the parser accepts is valid, and the most common mistakes are not.
//!
//! The checker below supports the keywords that the schema uses, and fails for any other keyword.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use tailwater::config::{de, node, schema};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(root().join(directory)) else { return Vec::new() };
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect()
}

/// The file as JSON, with its variables replaced by a text that is valid anywhere.
fn value(text: &str) -> Value {
    // Integers beyond 64 bits have no value here.
    let text = &text.replace("18446744073709551616", "18446744073709551615");
    let (root, problems) = node::parse(text, &|_| Some("2".to_owned()));
    assert!(problems.is_empty(), "{problems:?}");
    de::read(&root.expect("the file is not empty")).expect("any YAML is a value")
}

struct Checker<'a> {
    definitions: &'a Map<String, Value>,
}

impl Checker<'_> {
    fn fits(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let map = match schema {
            Value::Bool(true) => return Ok(()),
            Value::Object(map) => map,
            other => return Err(format!("a schema that is {other}")),
        };
        for (keyword, argument) in map {
            self.keyword(keyword, argument, map, value).map_err(|why| format!("{why} ({keyword})"))?;
        }
        Ok(())
    }

    fn keyword(&self, keyword: &str, argument: &Value, map: &Map<String, Value>, value: &Value) -> Result<(), String> {
        let ok = |good: bool| if good { Ok(()) } else { Err(format!("{value} does not fit {argument}")) };
        let list = argument.as_array().map(Vec::as_slice).unwrap_or_default();
        let number = || argument.as_f64().unwrap_or(f64::NAN);
        match keyword {
            "$schema" | "title" | "description" | "$defs" | "default" | "format" | "x-secret" => Ok(()),
            "pattern" => {
                let pattern = regex_automata::meta::Regex::new(argument.as_str().unwrap_or_default())
                    .map_err(|e| e.to_string())?;
                ok(value.as_str().is_none_or(|v| pattern.is_match(v)))
            }
            "$ref" => {
                let name = argument.as_str().and_then(|name| name.strip_prefix("#/$defs/")).unwrap_or_default();
                self.fits(self.definitions.get(name).ok_or(format!("no definition {name}"))?, value)
            }
            "type" if argument.is_array() => ok(list.iter().any(|kind| is(kind, value))),
            "type" => ok(is(argument, value)),
            "const" => ok(value == argument),
            "enum" => ok(list.contains(value)),
            "minimum" => ok(value.as_f64().is_none_or(|v| v >= number())),
            "maximum" => ok(value.as_f64().is_none_or(|v| v <= number())),
            "minLength" => ok(value.as_str().is_none_or(|v| v.len() as f64 >= number())),
            "minItems" => ok(value.as_array().is_none_or(|v| v.len() as f64 >= number())),
            "minProperties" => ok(value.as_object().is_none_or(|v| v.len() as f64 >= number())),
            "maxProperties" => ok(value.as_object().is_none_or(|v| v.len() as f64 <= number())),
            "uniqueItems" => {
                ok(value.as_array().is_none_or(|v| v.iter().enumerate().all(|(i, a)| !v[..i].contains(a))))
            }
            "items" => value.as_array().into_iter().flatten().try_for_each(|item| self.fits(argument, item)),
            "oneOf" => ok(list.iter().filter(|one| self.fits(one, value).is_ok()).count() == 1),
            "anyOf" => ok(list.iter().any(|one| self.fits(one, value).is_ok())),
            "required" => ok(value
                .as_object()
                .is_none_or(|v| list.iter().all(|key| v.contains_key(key.as_str().unwrap_or_default())))),
            "properties" => {
                let Some(object) = value.as_object() else { return Ok(()) };
                let known = argument.as_object().ok_or("properties is no map")?;
                known
                    .iter()
                    .filter_map(|(key, schema)| object.get(key).map(|value| (schema, value)))
                    .try_for_each(|(schema, value)| self.fits(schema, value))
            }
            "additionalProperties" => {
                let Some(object) = value.as_object() else { return Ok(()) };
                let known = map.get("properties").and_then(Value::as_object);
                let others = object.iter().filter(|(key, _)| known.is_none_or(|known| !known.contains_key(*key)));
                match argument {
                    Value::Bool(false) => others.into_iter().try_for_each(|(key, _)| Err(format!("unknown key {key}"))),
                    schema => others.into_iter().try_for_each(|(_, value)| self.fits(schema, value)),
                }
            }
            unknown => Err(format!("the checker does not know `{unknown}`")),
        }
    }
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        // A plain number is accepted as a string if a string is expected.
        Some("string") => value.is_string() || value.is_number(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        _ => false,
    }
}

fn check(text: &str) -> Result<(), String> {
    check_value(&value(text))
}

fn check_value(value: &Value) -> Result<(), String> {
    let schema = schema().to_value();
    let none = Map::new();
    let definitions = schema.get("$defs").and_then(Value::as_object).unwrap_or(&none);
    Checker { definitions }.fits(&schema, value)
}

fn accepted_cases() -> impl Iterator<Item = PathBuf> {
    yaml_files("tests/config").into_iter().filter(|path| {
        let told = std::fs::read_to_string(path.with_extension("txt")).unwrap_or_default();
        told.starts_with("accepted")
    })
}

/// The places of all values that are no maps and no lists, but for the types of components.
fn scalars(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter().filter(|(key, inner)| *key != "type" || !inner.is_string()) {
                scalars(inner, &format!("{at}/{}", key.replace('~', "~0").replace('/', "~1")), found);
            }
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| scalars(inner, &format!("{at}/{index}"), found));
        }
        _ => found.push(at.to_owned()),
    }
}

#[test]
fn accepted_files_match_the_schema() {
    let mut checked = 0;
    for path in accepted_cases().chain(yaml_files("deploy/examples")) {
        let text = std::fs::read_to_string(&path).expect("an example can be read");
        assert_eq!(check(&text), Ok(()), "{}", path.display());
        checked += 1;
    }
    assert!(checked >= 4, "only {checked} files were checked");
}

#[test]
fn variables_match_the_schema_where_any_value_is_expected() {
    let mut checked = 0;
    for path in accepted_cases().chain(yaml_files("deploy/examples")) {
        let whole = value(&std::fs::read_to_string(&path).expect("an example can be read"));
        let mut places = Vec::new();
        scalars(&whole, "", &mut places);
        for place in places {
            let mut changed = whole.clone();
            *changed.pointer_mut(&place).expect("it was found there") = "${N}".into();
            assert_eq!(check_value(&changed), Ok(()), "{}: {place}", path.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} values were checked");
}

#[test]
fn common_mistakes_do_not_match_the_schema() {
    for case in
        ["unknown_key", "unknown_key_deep", "wrong_type", "unknown_type", "type_missing", "key_missing", "unknown_verb"]
    {
        let text = std::fs::read_to_string(root().join(format!("tests/config/{case}.yaml"))).expect("a case");
        assert!(check(&text).is_err(), "{case}");
    }
}
