//! The fields of an event as they are shown, and the differences between two events.
//!
//! Guarantees: values are the JSON in the event's line, so numbers outside every numeric type are shown unchanged. The cost per
//! field does not grow with the number of fields. Not for normal processing: it allocates for each field.

use crate::codec::json::{Fields, unescape_json};
use crate::codec::path::{Path, Segment, find_path};
use std::collections::{HashMap, HashSet};
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;

/// Names and values in JSON, in the order of the event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFields(pub Vec<(String, String)>);

impl EventFields {
    /// The fields of an event in its current state.
    pub fn of(record: &Record<'_>) -> EventFields {
        let all = record.fields().iter().map(|field| {
            let name = String::from_utf8_lossy(record.name(field.key)).into_owned();
            let json = match record.value(field.source) {
                Value::Json(json) => String::from_utf8_lossy(json).into_owned(),
                Value::Text(text) => quoted(text),
            };
            (name, json)
        });
        EventFields(all.collect())
    }

    /// The fields of a JSON object; none if it is something else. If a key occurs twice, the last one counts.
    pub fn of_json(json: &str) -> Option<EventFields> {
        let mut all: Vec<(String, String)> = Vec::new();
        for (name, value) in Fields::of(json.as_bytes())? {
            let mut text = Vec::new();
            // What cannot be read is shown as it is spelled.
            if unescape_json(name, &mut text).is_err() {
                text = name.to_vec();
            }
            let name = String::from_utf8_lossy(&text).into_owned();
            all.push((name, String::from_utf8_lossy(value).into_owned()));
        }
        let mut behind = HashSet::with_capacity(all.len());
        let counts: Vec<bool> = all.iter().rev().map(|(name, _)| behind.insert(name.as_str())).collect();
        let mut counts = counts.into_iter().rev();
        all.retain(|_| counts.next().unwrap_or(true));
        Some(EventFields(all))
    }

    /// The value of a field. Searches linearly; to look up many fields, use [`EventFields::by_name`].
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, json)| json.as_str())
    }

    /// The values by their names.
    fn by_name(&self) -> HashMap<&str, &str> {
        // Of names that are equal after invalid UTF-8 is replaced, the first one counts, as in `get`.
        self.0.iter().rev().map(|(name, json)| (name.as_str(), json.as_str())).collect()
    }

    /// The value at a path.
    pub fn find(&self, path: &Path) -> Option<&[u8]> {
        let json = self.get(path.first())?.as_bytes();
        if path.rest().is_empty() { Some(json) } else { find_path(json, path.rest()) }
    }

    /// A JSON object with these fields.
    pub fn to_json(&self) -> String {
        let fields: Vec<String> =
            self.0.iter().map(|(name, json)| format!("{}:{json}", quoted(name.as_bytes()))).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// A JSON string.
pub fn quoted(text: &[u8]) -> String {
    let mut out = vec![b'"'];
    escape_json_into(text, &mut out);
    out.push(b'"');
    String::from_utf8_lossy(&out).into_owned()
}

/// One difference: a removed, added or changed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path.
    pub path: Path,
    /// The JSON before.
    pub before: Option<String>,
    /// The JSON after.
    pub after: Option<String>,
}

/// The differences: first removed and changed values, then added ones. Objects that both events have are compared field by
/// field.
pub fn changes(before: &EventFields, after: &EventFields, same: &dyn Fn(&str, &str) -> bool) -> Vec<Change> {
    let mut found = Vec::new();
    compare(None, before, after, same, &mut found);
    found
}

fn compare(
    above: Option<&Path>,
    before: &EventFields,
    after: &EventFields,
    same: &dyn Fn(&str, &str) -> bool,
    found: &mut Vec<Change>,
) {
    let path = |name: &str| match above {
        Some(above) => above.clone().then(Segment::Field(name.to_owned())),
        None => Path::field(name),
    };
    let (known, now) = (before.by_name(), after.by_name());
    for (name, was) in &before.0 {
        let Some(is) = now.get(name.as_str()).copied() else {
            found.push(Change { path: path(name), before: Some(was.clone()), after: None });
            continue;
        };
        if same(was, is) {
            continue;
        }
        match (EventFields::of_json(was), EventFields::of_json(is)) {
            (Some(was), Some(is)) => compare(Some(&path(name)), &was, &is, same, found),
            _ => found.push(Change { path: path(name), before: Some(was.clone()), after: Some(is.to_owned()) }),
        }
    }
    for (name, is) in after.0.iter().filter(|(name, _)| !known.contains_key(name.as_str())) {
        found.push(Change { path: path(name), before: None, after: Some(is.clone()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn shown(before: &str, after: &str) -> Vec<String> {
        let [before, after] = [before, after].map(|json| EventFields::of_json(json).expect("an object"));
        let all = changes(&before, &after, &|a, b| a == b);
        let side = |json: &Option<String>| json.clone().unwrap_or_default();
        all.iter().map(|change| format!("{} {}>{}", change.path, side(&change.before), side(&change.after))).collect()
    }

    #[test]
    fn only_what_is_different_is_found() {
        assert_eq!(shown(r#"{"a":1,"b":2}"#, r#"{"b":2,"a":1}"#), [""; 0]);
        assert_eq!(shown(r#"{"a":1,"b":2,"c":3}"#, r#"{"b":"2","c":3,"d":4}"#), ["a 1>", "b 2>\"2\"", "d >4"]);
        assert_eq!(shown(r#"{"n":1e400}"#, r#"{"n":1e401}"#), ["n 1e400>1e401"]);
    }

    #[test]
    fn objects_are_compared_inside() {
        assert_eq!(
            shown(r#"{"http":{"status":200,"x.y":{"z":1}}}"#, r#"{"http":{"status":"200","x.y":{}}}"#),
            ["http.status 200>\"200\"", "http[\"x.y\"].z 1>"]
        );
        assert_eq!(shown(r#"{"a":{"b":1}}"#, r#"{"a":[1]}"#), ["a {\"b\":1}>[1]"]);
    }

    #[test]
    fn the_last_of_two_keys_counts() {
        assert_eq!(shown(r#"{"a":1,"\u0061":2}"#, r#"{"a":2}"#), [""; 0]);
        let fields = EventFields::of_json(r#"{"a":1,"b":2,"a":3,"c":4,"b":5}"#).expect("an object");
        assert_eq!(fields.to_json(), r#"{"a":3,"c":4,"b":5}"#);
    }

    #[test]
    fn as_many_fields_as_an_event_can_have_are_compared() {
        let object = |value: &str| {
            let fields: Vec<String> = (0..65_535).map(|number| format!("\"k{number}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let before = EventFields::of_json(&object("1")).expect("an object");
        let mut after = before.clone();
        after.0.rotate_left(1);
        let mut compared = std::cell::Cell::new(0u64);
        let same = |was: &str, is: &str| {
            compared.set(compared.get() + 1);
            was == is
        };
        assert_eq!(changes(&before, &after, &same).len(), 0);
        assert_eq!(*compared.get_mut(), 65_535);
    }

    /// A simple model of the differences: looks up every name among all fields.
    fn model(above: &str, before: &Json, after: &Json, found: &mut (Vec<String>, Vec<String>)) {
        let fields = |json: &Json| json.as_object().cloned().unwrap_or_default();
        for (name, was) in fields(before) {
            let path = format!("{above}{name}");
            match after.get(&name) {
                None => found.0.push(format!("{path} {was}>")),
                Some(is) if was.is_object() && is.is_object() => model(&format!("{path}."), &was, is, found),
                Some(is) if *is != was => found.0.push(format!("{path} {was}>{is}")),
                Some(_) => {}
            }
        }
        let new = fields(after).into_iter().filter(|(name, _)| before.get(name).is_none());
        found.1.extend(new.map(|(name, is)| format!("{above}{name} >{is}")));
    }

    fn object() -> impl Strategy<Value = String> {
        let leaf = "[0-3]|true|null|\"[ab]\"";
        leaf.prop_recursive(3, 24, 6, |inner| {
            let fields = proptest::collection::vec(("[a-e]", inner), 0..7);
            fields.prop_map(|fields| {
                let fields: Vec<String> = fields.iter().map(|(name, json)| format!("\"{name}\":{json}")).collect();
                format!("{{{}}}", fields.join(","))
            })
        })
        .prop_filter("an event is an object", |json| json.starts_with('{'))
    }

    proptest! {
        #[test]
        fn differences_agree_with_the_model(before in object(), after in object()) {
            let json = |text: &str| serde_json::from_str::<Json>(text).expect("JSON");
            let mut found = (Vec::new(), Vec::new());
            model("", &json(&before), &json(&after), &mut found);
            let mut expected = [found.0, found.1].concat();
            let mut came: Vec<String> = shown(&before, &after).iter().map(|line| plain(line)).collect();
            expected.sort_unstable();
            came.sort_unstable();
            prop_assert_eq!(came, expected);
        }
    }

    /// A line of `shown` with its values written as the model writes them.
    fn plain(line: &str) -> String {
        let (path, values) = line.split_once(' ').expect("a path");
        let (was, is) = values.split_once('>').expect("two sides");
        let side = |json: &str| match json {
            "" => String::new(),
            json => serde_json::from_str::<Json>(json).expect("JSON").to_string(),
        };
        format!("{path} {}>{}", side(was), side(is))
    }
}
