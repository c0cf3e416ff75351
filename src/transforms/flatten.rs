//! `flatten`: turns nested objects into fields with dotted names.

use super::theirs::EVENT;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::json::{Fields, pieces};
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::shape::{Field, Guarded, KeyId};
use xxhash_rust::xxh3::xxh3_64;

/// Arrays stay unchanged, with the objects inside them, and so do empty objects. If two fields get the same name, the later one
/// wins. A name of a field of the input gets `event` and the separator in front (see `on_conflict` of the input).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Flatten")]
pub struct Settings {
    /// The string between the parts of a name.
    #[serde(default = "dot")]
    pub separator: String,
    /// The top-level fields whose objects are flattened. By default, all.
    #[serde(default)]
    pub fields: Option<Vec<String>>,
}

/// The default separator.
pub fn dot() -> String {
    ".".to_owned()
}

/// An empty separator would make names that cannot be split again.
pub fn check_separator(separator: &str) -> Vec<Mistake> {
    match separator {
        "" => {
            let help = "write `separator: \".\"`, or remove the key";
            vec![Mistake::new("separator", "an empty separator", help)]
        }
        _ => Vec::new(),
    }
}

impl Verb for Settings {
    const NAME: &'static str = "flatten";
    const SUMMARY: &'static str = "turns nested objects into fields with dotted names";
    const EXAMPLE: &'static str = "flatten: {separator: _, fields: [user]}\n";
    const FAILURE: &'static str = "the event would have too many fields, or names that are too long";

    fn check(&self) -> Vec<Mistake> {
        check_separator(&self.separator)
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let keys = |names: &Vec<String>| names.iter().map(|name| opening.shapes.key(name.as_bytes())).collect();
        Box::new(Flatten {
            only: self.fields.as_ref().map(keys),
            fields: Vec::new(),
            separator: self.separator.as_bytes().to_vec(),
            nested: Vec::new(),
            bytes: Vec::new(),
            moved: Vec::new(),
            walk: Walk { separator: self.separator.as_bytes().to_vec(), ..Walk::default() },
            failures: 0,
        })
    }
}

/// The limit for the bytes of all names in one event: a long name above many fields would multiply the size of the event.
const NAMES_BYTES_MAX: usize = 1 << 20;

struct Flatten {
    only: Option<Vec<KeyId>>,
    separator: Vec<u8>,
    fields: Vec<Field>,
    /// Which fields are flattened, and where their JSON is in `bytes`.
    nested: Vec<(usize, Range<usize>)>,
    bytes: Vec<u8>,
    /// A name that gets `event` in front.
    moved: Vec<u8>,
    walk: Walk,
    failures: u64,
}

impl Transform for Flatten {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Flatten { only, separator, fields, nested, bytes, moved, walk, failures } = self;
        fields.clear();
        nested.clear();
        bytes.clear();
        fields.extend_from_slice(record.fields());
        for (at, field) in fields.iter().enumerate() {
            let Value::Json(json) = record.value(field.source) else { continue };
            if is_filled(json) && only.as_ref().is_none_or(|only| only.contains(&field.key)) {
                let start = bytes.len();
                bytes.extend_from_slice(json);
                nested.push((at, start..bytes.len()));
            }
        }
        if nested.is_empty() {
            return Verdict::Keep;
        }
        walk.room = NAMES_BYTES_MAX;
        // Names come first: they borrow from the fields, which are taken afterwards.
        walk.heads.clear();
        walk.head_ends.clear();
        for (at, _) in &*nested {
            walk.heads.extend_from_slice(record.name(fields[*at].key));
            walk.head_ends.push(walk.heads.len());
        }
        let mut recast = record.recast();
        let mut nested = nested.iter().enumerate().peekable();
        for (at, field) in fields.iter().enumerate() {
            let Some((number, (_, range))) = nested.next_if(|(_, (of, _))| *of == at) else {
                recast.keep(*field);
                continue;
            };
            walk.begin(number);
            walk.object(&bytes[range.clone()], &mut |name, value| {
                let mut key = recast.key(name);
                // A guarded name with dots belongs to the input even if it was turned into an object, unless it is there already.
                let is_ours = |key| separator == b"." && !fields.iter().any(|field| field.key == key);
                if recast.guarded(key) == Some(Guarded::Name) && !is_ours(key) {
                    moved.clear();
                    [EVENT.as_bytes(), separator, name].into_iter().for_each(|part| moved.extend_from_slice(part));
                    key = recast.key(moved);
                }
                recast.put(key, |out| out.extend_from_slice(value));
            });
        }
        if walk.room == 0 || !recast.finish() {
            *failures += 1;
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

/// Whether it is an object with at least one field.
fn is_filled(json: &[u8]) -> bool {
    json.starts_with(b"{") && json[1..].trim_ascii_start().first() != Some(&b'}')
}

/// The state of a walk through an object.
#[derive(Default)]
struct Walk {
    separator: Vec<u8>,
    /// The names of the flattened fields, one after the other, and where each ends.
    heads: Vec<u8>,
    head_ends: Vec<usize>,
    /// The name of the current value.
    name: Vec<u8>,
    /// The bytes left for further names; none once a name did not fit.
    room: usize,
    seen: Vec<(u64, usize)>,
    /// For each enclosing object, the fields that a later field of the same name hides.
    hidden: Vec<usize>,
}

impl Walk {
    fn begin(&mut self, number: usize) {
        let start = number.checked_sub(1).map_or(0, |before| self.head_ends[before]);
        self.name.clear();
        self.name.extend_from_slice(&self.heads[start..self.head_ends[number]]);
    }

    fn object(&mut self, json: &[u8], take: &mut impl FnMut(&[u8], &[u8])) {
        let Some(fields) = Fields::of(json) else { return };
        let (base, length) = (self.hidden.len(), self.name.len());
        self.hide(json);
        for (number, (body, value)) in fields.enumerate() {
            if self.hidden[base..].binary_search(&number).is_ok() {
                continue;
            }
            self.name.truncate(length);
            self.name.extend_from_slice(&self.separator);
            pieces(body, |piece| {
                self.name.extend_from_slice(piece);
                true
            });
            if is_filled(value) {
                self.object(value, take);
                continue;
            }
            self.room = self.room.saturating_sub(self.name.len());
            if self.room == 0 {
                break;
            }
            take(&self.name, value);
        }
        self.hidden.truncate(base);
        self.name.truncate(length);
    }

    /// Records the fields of an object that a later field of the same name hides.
    fn hide(&mut self, json: &[u8]) {
        self.seen.clear();
        let (base, length) = (self.hidden.len(), self.name.len());
        for (number, (body, _)) in Fields::of(json).into_iter().flatten().enumerate() {
            self.name.truncate(length);
            pieces(body, |piece| {
                self.name.extend_from_slice(piece);
                true
            });
            self.seen.push((xxh3_64(&self.name[length..]), number));
        }
        self.name.truncate(length);
        self.seen.sort_unstable();
        for pair in self.seen.windows(2) {
            if pair[0].0 == pair[1].0 {
                self.hidden.push(pair[0].1);
            }
        }
        self.hidden[base..].sort_unstable();
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, events, mistake, one};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    #[test]
    fn objects_become_dotted_names() {
        let event = r#"{"a":{"b":1,"c":{"d":"\u00e9","e":{}}},"f":[{"g":1}],"h":2,"i":{}}"#;
        assert_eq!(one("- flatten: {}", event), r#"{"a.b":1,"a.c.d":"\u00e9","a.c.e":{},"f":[{"g":1}],"h":2,"i":{}}"#);
        let event = r#"{"a":{"b":{"c":1}},"d":{"e":2}}"#;
        assert_eq!(one("- flatten: {fields: [d, x], separator: __}", event), r#"{"a":{"b":{"c":1}},"d__e":2}"#);
        assert_eq!(one("- flatten: {}", "text"), r#"{"message":"text"}"#);
    }

    #[test]
    fn of_fields_that_come_to_one_name_the_later_counts() {
        assert_eq!(one("- flatten: {}", r#"{"a.b":1,"a":{"b":2}}"#), r#"{"a.b":2}"#);
        assert_eq!(one("- flatten: {}", r#"{"a":{"b":2},"a.b":1}"#), r#"{"a.b":1}"#);
        assert_eq!(one("- flatten: {}", r#"{"a":{"b":{"c":1},"b":2}}"#), r#"{"a.b":2}"#);
        assert_eq!(one("- flatten: {}", r#"{"a":{"b":1,"\u0062":{"c":2}}}"#), r#"{"a.b.c":2}"#);
        assert_eq!(one("- flatten: {}", r#"{"a":{"b":1},"a":{"c":1}}"#), r#"{"a.c":1}"#);
        assert_eq!(one("- flatten: {}", r#"{"":{"":{"\"":1}}}"#), r#"{"..\"":1}"#);
    }

    #[test]
    fn objects_made_of_data_are_flattened_in_one_step() {
        let mut bench = Bench::try_new("- remove: [file]\n- flatten: {}").expect("valid");
        for round in 0..5 {
            let inner: Map<String, Value> =
                (0..6000).map(|number| (format!("{round}-{number}"), json!(number))).collect();
            let out = bench.event(&json!({"a": inner}).to_string()).expect("kept");
            let out: Map<String, Value> = serde_json::from_str(&out).expect("an object");
            assert!(out.len() == 6000 && out[&format!("a.{round}-5999")] == json!(5999));
        }
    }

    #[test]
    fn names_do_not_grow_without_bound() {
        let inner: Map<String, Value> = (0..4000).map(|number| (number.to_string(), json!(number))).collect();
        let event = Value::Object(Map::from_iter([("k".repeat(2000), Value::Object(inner))])).to_string();
        let mut bench = Bench::try_new("- remove: [file]\n- flatten: {}").expect("valid");
        assert_eq!(bench.event(&event), Some(event));
        assert_eq!(bench.failures(), 1);
        assert!(mistake("- flatten: {separator: ''}").contains("an empty separator"));
    }

    fn model(name: String, value: &Value, out: &mut Map<String, Value>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| model(format!("{name}.{key}"), value, out));
            }
            value => drop(out.insert(name, value.clone())),
        }
    }

    proptest! {
        #[test]
        fn flat_events_agree_with_the_model(event in events("[ab\"\\\\é.]{0,3}")) {
            let mut expected = Map::new();
            event.as_object().into_iter().flatten().for_each(|(name, value)| model(name.clone(), value, &mut expected));
            let mut bench = Bench::try_new("- remove: [file]\n- flatten: {}").expect("valid");
            let out: Value = serde_json::from_str(&bench.event(&event.to_string()).expect("kept")).expect("JSON");
            prop_assert_eq!(out, Value::Object(expected));
        }
    }
}
