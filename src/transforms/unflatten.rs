//! `unflatten`: turns fields with dotted names into nested objects.
//!
//! Guarantees: the work is in proportion to the bytes of the event, however many fields share the parts of their names (see
//! [`tree`]). An event that takes more stays as it is.

mod tree;

use super::flatten::{check_separator, dot};
use super::place::push_json;
use super::reasons::{Before, in_the_way, joined};
use super::theirs::Theirs;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::path::{Path, Segment};
use crate::config::component::Mistake;
use memchr::memmem;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::json::NESTING_MAX;
use tailwater_shards::shape::{Field, Guarded};
use tree::{NodeId, Tree, split};

/// Only the names of top-level fields are split. If an object with the first part of the name exists, the value is added to it.
/// If a part of the path exists but is not an object, the field stays unchanged, and the failure is counted. Numbers in names
/// are treated as names: arrays are not created. A field whose value would become a field of the input stays unchanged too (see
/// `on_conflict` of the input).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Unflatten")]
pub struct Settings {
    /// The string between the parts of a name. A name with an empty part stays unchanged.
    #[serde(default = "dot")]
    pub separator: String,
    /// The first parts of the names to split. By default, all.
    #[serde(default)]
    pub fields: Option<Vec<String>>,
}

impl Verb for Settings {
    const NAME: &'static str = "unflatten";
    const SUMMARY: &'static str = "turns fields with dotted names into nested objects";
    const EXAMPLE: &'static str = "unflatten: {}\n";
    const SAMPLE: &'static str = r#"{"message":"ok","http.status":200,"http.request.method":"GET"}"#;
    const FAILURE: &'static str =
        "a part of the path is not an object or is a field of the input, or the event is too large";

    fn check(&self) -> Vec<Mistake> {
        check_separator(&self.separator)
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let names = (before.names)();
        joined(names.iter().filter_map(|name| self.in_the_way(name, &names, before)).take(REASONS_MAX))
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Unflatten {
            theirs: opening.shapes.has_guard().then(|| Theirs::open(opening)),
            separator: self.separator.as_bytes().to_vec(),
            only: self.fields.clone(),
            fields: Vec::new(),
            fates: Vec::new(),
            tree: Tree::default(),
            path: Vec::new(),
            failures: 0,
        })
    }
}

/// Fields that a reason names.
const REASONS_MAX: usize = 3;

impl Settings {
    /// Why a field cannot move into its object, if it is split and that is known.
    fn in_the_way(&self, name: &str, names: &[String], before: &Before<'_>) -> Option<String> {
        let (head, rest) = name.split_once(&self.separator)?;
        if self.fields.as_ref().is_some_and(|only| !only.iter().any(|wanted| wanted == head)) {
            return None;
        }
        let steps = rest.split(&self.separator).map(|part| Segment::Field(part.to_owned()));
        let path = steps.fold(Path::field(head), Path::then);
        let is_above = |other: &&String| {
            let value = (before.find)(&Path::field(other.as_str()));
            name.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with(&self.separator))
                && other.contains(&self.separator)
                && value.is_some_and(|json| !json.starts_with(b"{"))
        };
        let above =
            || names.iter().find(is_above).map(|other| format!("{path} cannot be written: {other} is not an object"));
        in_the_way(&path, before).or_else(above)
    }
}

/// What happens to a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is replaced by this object.
    Object(NodeId),
    /// It moved into an object.
    Inside,
}

struct Unflatten {
    /// The names of the input's fields; none if events may set them.
    theirs: Option<Theirs>,
    separator: Vec<u8>,
    only: Option<Vec<String>>,
    fields: Vec<Field>,
    fates: Vec<Fate>,
    tree: Tree,
    path: Vec<u8>,
    failures: u64,
}

impl Transform for Unflatten {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        if !record.fields().iter().any(|field| self.is_split(record.name(field.key))) {
            return Verdict::Keep;
        }
        self.fields.clear();
        self.fields.extend_from_slice(record.fields());
        self.fates.clear();
        self.fates.resize(self.fields.len(), Fate::Stays);
        let put = self.put_all(record);
        self.failures += put.failures;
        if put.fields > 0 && !self.tree.is_over() {
            self.recast(record);
        }
        self.failures += u64::from(self.tree.is_over());
        self.tree.end();
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

/// How many fields moved into objects, and how many could not.
#[derive(Default)]
struct Put {
    fields: usize,
    failures: u64,
}

impl Unflatten {
    /// Whether a name is split.
    fn is_split(&self, name: &[u8]) -> bool {
        let Some(length) = memmem::find(name, &self.separator) else { return false };
        let wanted = |only: &Vec<String>| only.iter().any(|wanted| wanted.as_bytes() == &name[..length]);
        if !self.only.as_ref().is_none_or(wanted) {
            return false;
        }
        let mut parts = 0;
        let mut rest = Some(name);
        while let Some(name) = rest {
            let (part, behind) = split(name, &self.separator);
            (parts, rest) = (parts + 1, behind);
            if part.is_empty() || parts > NESTING_MAX {
                return false;
            }
        }
        true
    }

    /// Moves the fields into their objects, in their order.
    fn put_all(&mut self, record: &Record<'_>) -> Put {
        self.tree.begin();
        for (at, field) in self.fields.iter().enumerate() {
            let name = record.name(field.key);
            if memmem::find(name, &self.separator).is_none() {
                self.tree.add_field(name, at);
            }
        }
        let mut put = Put::default();
        for at in 0..self.fields.len() {
            if !self.is_split(record.name(self.fields[at].key)) {
                continue;
            }
            match self.put(record, at) {
                true => put.fields += 1,
                false => put.failures += 1,
            }
            if self.tree.is_over() {
                return put;
            }
        }
        put
    }

    /// Moves the field at `at` into its object. False, and nothing is changed, if a part of the path is not an object.
    fn put(&mut self, record: &Record<'_>, at: usize) -> bool {
        if self.would_forge(record, at) {
            return false;
        }
        let Unflatten { separator, fields, fates, tree, .. } = self;
        let name = record.name(fields[at].key);
        let load = |field: usize, out: &mut Vec<u8>| push_json(record.value(fields[field].source), out);
        let Some((head, place)) = tree.put(name, separator, at, load) else { return false };
        fates[place] = Fate::Object(head);
        if fates[at] == Fate::Stays {
            fates[at] = Fate::Inside;
        }
        true
    }

    /// Gives the event its objects, each in the place of the first of its fields.
    fn recast(&mut self, record: &mut Record<'_>) {
        let mut recast = record.recast();
        for (field, fate) in self.fields.iter().zip(&self.fates) {
            match fate {
                Fate::Stays => recast.keep(*field),
                Fate::Inside => {}
                Fate::Object(node) => {
                    let key = recast.key(self.tree.name(*node));
                    recast.put(key, |out| self.tree.write(*node, out));
                }
            }
        }
        self.failures += u64::from(!recast.finish());
    }

    /// Whether the value would be read as one of the input's fields. Names with dots that the input itself has are split.
    fn would_forge(&mut self, record: &Record<'_>, at: usize) -> bool {
        let Unflatten { theirs: Some(theirs), separator, path, fields, .. } = self else { return false };
        let Field { key, source } = fields[at];
        if record.guarded(key) == Some(Guarded::Name) {
            return false;
        }
        path.clear();
        let mut rest = Some(record.name(key));
        while let Some(name) = rest {
            let (part, behind) = split(name, separator);
            if !path.is_empty() {
                path.push(b'.');
            }
            path.extend_from_slice(part);
            rest = behind;
        }
        let json = match record.value(source) {
            Value::Json(json) => json,
            Value::Text(_) => b"",
        };
        theirs.would_forge(path, json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::path::find_path;
    use crate::transforms::condition::KnownOrigin;
    use crate::transforms::tests::{Bench, events, mistake, one};
    use proptest::prelude::*;
    use serde_json::{Map, Value, json};
    use tailwater_shards::env::Timestamp;

    #[test]
    fn what_is_in_the_way_of_a_field_is_named() {
        let why = |fields: &[(&str, &str)]| {
            let find = |path: &Path| {
                let own = fields.iter().find(|(name, _)| *name == path.first());
                own.and_then(|(_, json)| find_path(json.as_bytes(), path.rest()))
            };
            let names = || fields.iter().map(|(name, _)| (*name).to_owned()).collect();
            let settings = Settings { separator: ".".to_owned(), fields: None };
            let origin = KnownOrigin::default();
            settings.explain(&Before { find: &find, names: &names, timestamp: Timestamp(0), origin: &origin })
        };
        assert_eq!(why(&[("a", "5"), ("a.b", "1")]).as_deref(), Some("a.b cannot be written: a is not an object: 5"));
        let told = why(&[("a.b", "1"), ("a.b.c", "2")]);
        assert_eq!(told.as_deref(), Some("a.b.c cannot be written: a.b is not an object"));
        assert_eq!(why(&[("a", "{}"), ("a.b", "1"), ("c", "2")]), None);
    }

    #[test]
    fn dotted_names_become_objects() {
        let made = |event: &str| one("- unflatten: {}", event);
        assert_eq!(made(r#"{"a.b":1,"c":2,"a.d.e":"x"}"#), r#"{"a":{"b":1,"d":{"e":"x"}},"c":2}"#);
        assert_eq!(made(r#"{"a.b":1,"a":{"b": 0,"c":{}},"a.c.d":2}"#), r#"{"a":{"b":1,"c":{"d":2}}}"#);
        assert_eq!(made(r#"{"a.\"b":1}"#), r#"{"a":{"\"b":1}}"#);
        assert_eq!(made(r#"{"a.0":1,"a.1":{"b.c":2}}"#), r#"{"a":{"0":1,"1":{"b.c":2}}}"#);
        let list = "- unflatten: {separator: __, fields: [a]}";
        assert_eq!(one(list, r#"{"a__b":1,"c__d":2,"a.c":3}"#), r#"{"a":{"b":1},"c__d":2,"a.c":3}"#);
        assert_eq!(one("- rename: {message: \"[\\\"m.t\\\"]\"}\n- unflatten: {}", "x\"y"), r#"{"m":{"t":"x\"y"}}"#);
    }

    #[test]
    fn what_is_in_the_way_stays_and_so_does_what_would_be_in_it() {
        for (event, expected, failures) in [
            (r#"{"a":1,"a.b":2}"#, r#"{"a":1,"a.b":2}"#, 1),
            (r#"{"a.b":1,"a.b.c":2,"a.d":3}"#, r#"{"a":{"b":1,"d":3},"a.b.c":2}"#, 1),
            (r#"{"a":{"b":[]},"a.b.c":2,"x.y":1}"#, r#"{"a":{"b":[]},"a.b.c":2,"x":{"y":1}}"#, 1),
            (r#"{"a..b":1,".a":2,"a.":3,".":4}"#, r#"{"a..b":1,".a":2,"a.":3,".":4}"#, 0),
        ] {
            let mut bench = Bench::try_new("- remove: [file]\n- unflatten: {}").expect("valid");
            assert_eq!(bench.event(event).as_deref(), Some(expected));
            assert_eq!(bench.failures(), failures, "{event}");
        }
        assert!(mistake("- unflatten: {separator: ''}").contains("an empty separator"));
    }

    #[test]
    fn many_fields_fit_into_one_event() {
        let large = "v".repeat(100_000);
        let mut event: Map<String, Value> = (0..400).map(|number| (format!("a.k{number}"), json!(number))).collect();
        event.insert("a.a".to_owned(), json!(large));
        let mut bench = Bench::try_new("- remove: [file]\n- unflatten: {}").expect("valid");
        let mut out = |event: Map<String, Value>| -> Value {
            let made = bench.event(&Value::Object(event).to_string()).expect("kept");
            serde_json::from_str(&made).expect("JSON")
        };
        assert_eq!(out(event)["a"].as_object().map(Map::len), Some(401));
        let wide: Map<String, Value> = (0..3000).map(|number| (format!("k{number}.a"), json!(number))).collect();
        let wide = out(wide);
        assert_eq!(wide.as_object().map(Map::len), Some(3000));
        assert_eq!(wide["k2999"], json!({"a": 2999}));
        assert_eq!(bench.failures(), 0);
    }

    #[test]
    fn event_that_takes_too_much_work_stays_as_it_is() {
        // Each level is parsed once, and all that is below with it.
        let deep = format!("{}[{}0]{}", "{\"a\":".repeat(60), "0,".repeat(300_000), "}".repeat(60));
        let event = format!("{{\"x.y\":2,\"a\":{deep},\"a{}.b\":1}}", ".a".repeat(60));
        let mut bench = Bench::try_new("- remove: [file]\n- unflatten: {}").expect("valid");
        assert!(bench.event(&event).as_ref() == Some(&event), "it stays as it is");
        assert_eq!(bench.failures(), 2, "the field, and the event");
    }

    /// The simple definition of a field that moves: its object is written again with it.
    mod simple {
        use super::super::split;
        use crate::codec::json::{Fields, body_is};
        use tailwater_shards::scan::escape_json_into;

        /// Appends the object `json` with `value` under the parts of `name`. False, with partial output appended, if a part of the path
        /// is not an object, or the value would replace an object.
        pub fn put_split(json: &[u8], name: &[u8], separator: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
            let (part, rest) = split(name, separator);
            let Some(fields) = Fields::of(json) else { return false };
            let same = Fields::of(json).into_iter().flatten().enumerate().filter(|(_, (body, _))| body_is(body, part));
            let last = same.last().map(|(number, _)| number);
            out.push(b'{');
            let mut empty = true;
            for (number, (body, old)) in fields.enumerate() {
                out.extend_from_slice(if empty { b"\"" } else { b",\"" });
                out.extend_from_slice(body);
                out.extend_from_slice(b"\":");
                empty = false;
                match rest {
                    _ if last != Some(number) => out.extend_from_slice(old),
                    None if old.starts_with(b"{") => return false,
                    None => out.extend_from_slice(value),
                    Some(rest) => {
                        if !put_split(old, rest, separator, value, out) {
                            return false;
                        }
                    }
                }
            }
            if last.is_none() {
                out.extend_from_slice(if empty { b"\"" } else { b",\"" });
                escape_json_into(part, out);
                out.extend_from_slice(b"\":");
                match rest {
                    None => out.extend_from_slice(value),
                    Some(rest) => drop(put_split(b"{}", rest, separator, value, out)),
                }
            }
            out.push(b'}');
            true
        }

        /// The fields after the move, and the number of those that could not move.
        pub fn unflatten(fields: &[(String, String)]) -> (Vec<(String, String)>, u64) {
            let mut out: Vec<Option<(String, String)>> = fields.iter().cloned().map(Some).collect();
            let mut failures = 0;
            for (at, (name, value)) in fields.iter().enumerate() {
                let Some((head, rest)) = name.split_once('.') else { continue };
                if name.split('.').any(str::is_empty) {
                    continue;
                }
                let own = out.iter().position(|field| field.as_ref().is_some_and(|(name, _)| name == head));
                let json = own.and_then(|own| out[own].clone()).map_or("{}".to_owned(), |(_, json)| json);
                let mut made = Vec::new();
                if !json.starts_with('{')
                    || !put_split(json.as_bytes(), rest.as_bytes(), b".", value.as_bytes(), &mut made)
                {
                    failures += 1;
                    continue;
                }
                out[at] = None;
                out[own.unwrap_or(at)] = Some((head.to_owned(), String::from_utf8(made).expect("UTF-8")));
            }
            (out.into_iter().flatten().collect(), failures)
        }
    }

    fn line_of(fields: &[(String, String)]) -> String {
        let written = |(name, json): &(String, String)| format!("{}:{json}", json!(name));
        format!("{{{}}}", fields.iter().map(written).collect::<Vec<_>>().join(","))
    }

    /// JSON with equal names, escaped names and spaces.
    fn json_value() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("1".to_owned()),
            Just("\"x\"".to_owned()),
            Just("[{\"a\": 1}]".to_owned()),
            Just("{}".to_owned())
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            let name = prop_oneof!["[ab]", Just("\\u0061".to_owned()), Just("b.a".to_owned())];
            proptest::collection::vec((name, inner, any::<bool>()), 0..4).prop_map(|fields| {
                let written = |(name, json, wide): &(String, String, bool)| match wide {
                    true => format!("\"{name}\" : {json}"),
                    false => format!("\"{name}\":{json}"),
                };
                format!("{{{}}}", fields.iter().map(written).collect::<Vec<_>>().join(" ,"))
            })
        })
    }

    proptest! {
        #[test]
        fn fields_move_as_the_simple_definition_says(
            fields in proptest::collection::vec(("[ab\"]{1,2}([.][abc]{0,1}){0,3}", json_value()), 0..40),
        ) {
            let mut seen = std::collections::HashSet::new();
            let fields: Vec<(String, String)> = fields.into_iter().filter(|(name, _)| seen.insert(name.clone())).collect();
            let mut bench = Bench::try_new("- remove: [file]\n- unflatten: {}").expect("valid");
            let (expected, failures) = simple::unflatten(&fields);
            prop_assert_eq!(bench.event(&line_of(&fields)), Some(line_of(&expected)));
            prop_assert_eq!(bench.failures(), failures);
        }

        #[test]
        fn what_was_flattened_comes_back(event in events("[ab\"\\\\é]{1,2}"), separator in "[.]|__|\"") {
            prop_assume!(separator != "\"" || !event.to_string().contains("\\\""));
            let list = format!("- remove: [file]\n- flatten: {{separator: '{separator}'}}\n- unflatten: {{separator: '{separator}'}}");
            let mut bench = Bench::try_new(&list).expect("valid");
            let out: Value = serde_json::from_str(&bench.event(&event.to_string()).expect("kept")).expect("JSON");
            prop_assert_eq!(out, event);
            prop_assert_eq!(bench.failures(), 0);
        }
    }
}
