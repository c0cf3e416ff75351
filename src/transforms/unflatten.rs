//! `unflatten`: turns fields with dotted names into nested objects.

use super::flatten::{check_separator, dot};
use super::place::push_json;
use super::reasons::{Before, in_the_way, joined};
use super::theirs::Theirs;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::json::{Fields, body_is};
use crate::codec::path::{Path, Segment};
use crate::config::component::Mistake;
use memchr::memmem;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::scan::json::NESTING_MAX;
use tailwater_shards::shape::{Field, Guarded};

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
            groups: Vec::new(),
            used: 0,
            value: Vec::new(),
            next: Vec::new(),
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

/// The limits for the objects in one event, and for the bytes written to make them: each field rewrites its object.
const GROUPS_MAX: usize = 1024;
const WORK_BYTES_MAX: usize = 16 << 20;

/// What happens to a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It is replaced by the object with this number.
    Object(usize),
    /// It moved into an object.
    Inside,
}

/// An object under construction.
#[derive(Default)]
struct Group {
    name: Vec<u8>,
    json: Vec<u8>,
}

struct Unflatten {
    /// The names of the input's fields; none if events may set them.
    theirs: Option<Theirs>,
    separator: Vec<u8>,
    only: Option<Vec<String>>,
    fields: Vec<Field>,
    fates: Vec<Fate>,
    /// The objects in use come first; the others are spare memory for later events.
    groups: Vec<Group>,
    used: usize,
    value: Vec<u8>,
    next: Vec<u8>,
    failures: u64,
}

impl Transform for Unflatten {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.fields.clear();
        self.fields.extend_from_slice(record.fields());
        self.fates.clear();
        self.fates.resize(self.fields.len(), Fate::Stays);
        self.used = 0;
        let mut work = 0;
        for at in 0..self.fields.len() {
            let Some(length) = self.head_of(record.name(self.fields[at].key)) else { continue };
            if !self.put(record, at, length, &mut work) {
                self.failures += 1;
            }
            if work > WORK_BYTES_MAX {
                self.failures += 1;
                return Verdict::Keep;
            }
        }
        if self.used == 0 {
            return Verdict::Keep;
        }
        let mut recast = record.recast();
        for (field, fate) in self.fields.iter().zip(&self.fates) {
            match fate {
                Fate::Stays => recast.keep(*field),
                Fate::Inside => {}
                Fate::Object(number) => {
                    let group = &self.groups[*number];
                    let key = recast.key(&group.name);
                    recast.put(key, |out| out.extend_from_slice(&group.json));
                }
            }
        }
        self.failures += u64::from(!recast.finish());
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

impl Unflatten {
    /// The length of the first part of a name that is split.
    fn head_of(&self, name: &[u8]) -> Option<usize> {
        let length = memmem::find(name, &self.separator)?;
        let wanted = |only: &Vec<String>| only.iter().any(|wanted| wanted.as_bytes() == &name[..length]);
        if !self.only.as_ref().is_none_or(wanted) {
            return None;
        }
        let mut parts = 0;
        let mut rest = Some(name);
        while let Some(name) = rest {
            let (part, behind) = split(name, &self.separator);
            (parts, rest) = (parts + 1, behind);
            if part.is_empty() || parts > NESTING_MAX {
                return None;
            }
        }
        Some(length)
    }

    /// Moves the field at `at` into its object. False, and nothing is changed, if a part of the path is not an object.
    fn put(&mut self, record: &Record<'_>, at: usize, length: usize, work: &mut usize) -> bool {
        if self.would_forge(record, at) {
            return false;
        }
        let name = record.name(self.fields[at].key);
        let (head, rest) = (&name[..length], &name[length + self.separator.len()..]);
        let known = self.groups[..self.used].iter().position(|group| group.name == head);
        let Some(number) = known.or_else(|| self.begin(record, head)) else { return false };
        *work += self.groups[number].json.len() + self.used;
        self.value.clear();
        self.next.clear();
        push_json(record.value(self.fields[at].source), &mut self.value);
        if !put_split(&self.groups[number].json, rest, &self.separator, &self.value, &mut self.next) {
            // A group that is still empty has no place, so the next field starts it again.
            if known.is_none() {
                self.used -= 1;
            }
            return false;
        }
        std::mem::swap(&mut self.groups[number].json, &mut self.next);
        if known.is_none() {
            let own = self.fields.iter().position(|field| record.name(field.key) == head);
            self.fates[own.unwrap_or(at)] = Fate::Object(number);
            *work += self.fields.len();
        }
        if self.fates[at] == Fate::Stays {
            self.fates[at] = Fate::Inside;
        }
        true
    }

    /// Whether the value would be read as one of the input's fields. Names with dots that the input itself has are split.
    fn would_forge(&mut self, record: &Record<'_>, at: usize) -> bool {
        let Unflatten { theirs: Some(theirs), separator, next, fields, .. } = self else { return false };
        let Field { key, source } = fields[at];
        if record.guarded(key) == Some(Guarded::Name) {
            return false;
        }
        next.clear();
        let mut rest = Some(record.name(key));
        while let Some(name) = rest {
            let (part, behind) = split(name, separator);
            if !next.is_empty() {
                next.push(b'.');
            }
            next.extend_from_slice(part);
            rest = behind;
        }
        let json = match record.value(source) {
            Value::Json(json) => json,
            Value::Text(_) => b"",
        };
        theirs.would_forge(next, json)
    }

    /// Starts an object with the existing value of its name. None if that value is not an object.
    fn begin(&mut self, record: &Record<'_>, head: &[u8]) -> Option<usize> {
        let number = self.used;
        if number == GROUPS_MAX {
            return None;
        }
        if self.groups.len() == number {
            self.groups.push(Group::default());
        }
        let group = &mut self.groups[number];
        group.name.clear();
        group.json.clear();
        group.name.extend_from_slice(head);
        match self.fields.iter().find(|field| record.name(field.key) == head) {
            Some(own) => push_json(record.value(own.source), &mut group.json),
            None => group.json.extend_from_slice(b"{}"),
        }
        if !group.json.starts_with(b"{") {
            return None;
        }
        self.used += 1;
        Some(number)
    }
}

/// The first part of a name, and the rest after the separator.
fn split<'a>(name: &'a [u8], separator: &[u8]) -> (&'a [u8], Option<&'a [u8]>) {
    match memmem::find(name, separator) {
        Some(at) => (&name[..at], Some(&name[at + separator.len()..])),
        None => (name, None),
    }
}

/// Appends the object `json` with `value` under the parts of `name`. False, with partial output appended, if a part of the path
/// is not an object, or the value would replace an object.
fn put_split(json: &[u8], name: &[u8], separator: &[u8], value: &[u8], out: &mut Vec<u8>) -> bool {
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
    fn work_is_bounded() {
        let large = "v".repeat(100_000);
        let mut event: Map<String, Value> = (0..400).map(|number| (format!("a.k{number}"), json!(number))).collect();
        event.insert("a.a".to_owned(), json!(large));
        let event = Value::Object(event).to_string();
        let mut bench = Bench::try_new("- remove: [file]\n- unflatten: {}").expect("valid");
        assert_eq!(bench.event(&event), Some(event), "it stays as it is");
        assert_eq!(bench.failures(), 1);
        let wide: Map<String, Value> = (0..3000).map(|number| (format!("k{number}.a"), json!(number))).collect();
        let out: Value =
            serde_json::from_str(&bench.event(&Value::Object(wide).to_string()).expect("kept")).expect("JSON");
        assert_eq!(out.as_object().map(Map::len), Some(3000));
        assert_eq!(bench.failures(), 3000 - super::GROUPS_MAX as u64);
    }

    proptest! {
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
