//! `aggregate`: combines events into one event per group and time window.
//!
//! Guarantees: every event of a window is counted in one group. Each group is emitted as one event when its window ends, even
//! if no further event arrives, and when the engine stops. The memory is bounded by `max_groups`: events beyond it are counted
//! in one additional group that is marked as such, and as failures of the pipeline. Windows follow each other without a gap, by
//! the clock of the host: an event counts in the window in which it is processed. Each input and shard has its own windows.
//!
//! A crash during an open window has two possible outcomes, chosen in the configuration: its events are read again, as far as
//! their source can repeat them, or they are lost. A shutdown that drains avoids both: it ends every window.

pub mod cells;
mod origins;
pub mod sketch;
#[cfg(test)]
mod tests;

use super::dedupe::OfKey;
use super::key::{KeyPart, push_unescaped};
use super::pairs::Pairs;
use super::place::{Place, push_json};
use super::reasons::{Before, joined};
use super::template::OpenTemplate;
use super::{Now, Opening, Origin, Transform, Verb, Verdict};
use crate::codec::calendar::rfc3339_micros;
use crate::codec::marked;
use crate::codec::path::Path;
use crate::config::component::Mistake;
use crate::config::types::Period;
use cells::{Cell, Function, Number};
use origins::Origins;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasherDefault;
use std::time::Duration;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Record, Value};
use xxhash_rust::xxh3::xxh3_128;

/// At the end of each window, `aggregate` emits one event per group, with the fields of `by` and `fields`, and with the fields for
/// time and host that the input adds to its events. If a group has no number in a field, its `sum` is 0, and `min`, `max`, `avg`,
/// `median` and percentiles are left out.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The length of a window, from 100 ms to 1 day. Windows begin at whole multiples of it, in UTC.
    pub every: Period,
    /// The fields that define a group: a list of fields, or a map from fields of the aggregate to fields or templates. By
    /// default, all events are in one group.
    #[serde(default)]
    pub by: By,
    /// The fields of the aggregate: `count`, or `{sum: FIELD}`, `{min: FIELD}`, `{max: FIELD}`, `{avg: FIELD}`, `{median:
    /// FIELD}`, or a percentile such as `{p99: FIELD}`. Percentiles are within 1 % of the exact value. Values that are not
    /// numbers are skipped. Sums of whole numbers beyond 64 bits are rounded to a double. A sum or mean beyond the range of a
    /// double is null.
    pub fields: Pairs<Function>,
    /// The largest number of groups in a window, per input and shard. Events of further groups are counted in one group that
    /// has `other_groups: true` instead of the fields of `by`.
    #[serde(default = "max_groups")]
    pub max_groups: usize,
    /// Whether the events continue too. By default, only the aggregates continue.
    #[serde(default)]
    pub keep_events: bool,
    /// What happens to the events of an open window if the process crashes.
    #[serde(default)]
    pub on_crash: OnCrash,
    /// A field for the window, as `{start: ..., end: ...}`.
    #[serde(default)]
    pub window_field: Option<Path>,
}

/// What happens to the events of an open window if the process crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// The events are read again and counted in a later window. To make this possible, the position in a file does not move
    /// past the first event of an open window until that window has ended. After a crash, all outputs of the input receive the
    /// events from there again: at most as many as arrived during the longest open window.
    #[default]
    Repeat,
    /// The events are not counted. Nothing is read again.
    Lose,
}

fn max_groups() -> usize {
    1000
}

/// The largest possible `max_groups`.
const GROUPS_MAX: usize = 1_000_000;

/// The largest total size of the values of `by`, as JSON: events with longer values do not get a group of their own.
const KEY_BYTES_MAX: usize = 16 * 1024;

/// The largest number of fields in `by`.
const PARTS_MAX: usize = 16;

/// The field that marks the group for events beyond `max_groups`.
const OTHER: &str = "other_groups";

/// The fields that define groups, and their sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By(pub Vec<(Path, KeyPart)>);

impl<'de> Deserialize<'de> for By {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<By, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = By;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field, a list of fields, or a map from fields to fields or templates")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<By, E> {
                let ListedField(path) = ListedField::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(By(vec![(path.clone(), KeyPart::Field(path))]))
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<By, D::Error> {
                deserializer.deserialize_any(self)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<By, A::Error> {
                let mut parts = Vec::new();
                while let Some(ListedField(path)) = list.next_element()? {
                    parts.push((path.clone(), KeyPart::Field(path)));
                }
                Ok(By(parts))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<By, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = map.next_entry()? {
                    parts.push(part);
                }
                Ok(By(parts))
            }
        }
        deserializer.deserialize_newtype_struct(marked::NEWTYPE, Form)
    }
}

/// An item of the list. A template is refused as an item, so that the mistake is at this item.
struct ListedField(Path);

impl<'de> Deserialize<'de> for ListedField {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ListedField, D::Error> {
        match KeyPart::deserialize(deserializer)? {
            KeyPart::Field(path) => Ok(ListedField(path)),
            KeyPart::Template(_) => {
                Err(D::Error::custom("a template needs a field: write `by: {FIELD: \"{{ ... }}\"}`"))
            }
        }
    }
}

impl JsonSchema for By {
    fn schema_name() -> Cow<'static, str> {
        "By".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<KeyPart>();
        json_schema!({"anyOf": [{"type": "array", "items": part.clone()}, {"type": "object", "additionalProperties": part}]})
    }
}

impl Settings {
    /// Fields of the aggregate that conflict with an earlier one: the key of the later one, and the problem.
    fn clashes(&self) -> Vec<(String, String)> {
        let by = self.by.0.iter().enumerate().map(|(place, (path, from))| match from {
            // Of a list, an item; of a map, an entry.
            KeyPart::Field(field) if field == path => (format!("by.{place}"), path),
            _ => (format!("by.{path}"), path),
        });
        let fields = self.fields.0.iter().map(|(path, _)| (format!("fields.{path}"), path));
        let window = self.window_field.iter().map(|path| ("window_field".to_owned(), path));
        let all: Vec<(String, &Path)> = by.chain(fields).chain(window).collect();
        let mut clashes = Vec::new();
        for (place, (key, path)) in all.iter().enumerate() {
            let is_within = |one: &Path, other: &Path| other.segments().starts_with(one.segments());
            let mut earlier = all[..place].iter().map(|(_, earlier)| *earlier);
            let Some(other) = earlier.find(|other| is_within(other, path) || is_within(path, other)) else { continue };
            let what = match other == *path {
                true => format!("the aggregate would have two fields `{path}`"),
                false => {
                    format!("the aggregate would have `{other}` and `{path}`, one inside the other")
                }
            };
            clashes.push((key.clone(), what));
        }
        clashes
    }
}

impl Verb for Settings {
    const NAME: &'static str = "aggregate";
    const SUMMARY: &'static str = "combines events into one per group and time window: counts, sums, percentiles";
    const EXAMPLE: &'static str = "aggregate:\n  every: 60s\n  by: [service, http.status]\n  \
        fields: {requests: count, bytes: {sum: bytes}, latency_p99: {p99: latency_ms}}\n";
    const SAMPLE: &'static str = concat!(
        "{\"service\":\"api\",\"http\":{\"status\":200},\"bytes\":512,\"latency_ms\":4.5}\n",
        "{\"service\":\"api\",\"http\":{\"status\":200},\"bytes\":256,\"latency_ms\":9}\n",
        "{\"service\":\"api\",\"http\":{\"status\":500},\"latency_ms\":700}"
    );
    const FAILURE: &'static str =
        "there are more groups than `max_groups`, so the event is counted under `other_groups`";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.every.0 < Duration::from_millis(100) || self.every.0 > Duration::from_secs(86_400) {
            let what = format!("a window of {} is too short or too long", self.every);
            mistakes.push(Mistake::new("every", what, "write a time from 100ms to 1d, such as `60s`"));
        }
        if !(1..=GROUPS_MAX).contains(&self.max_groups) {
            let what = format!("`max_groups` cannot be {}", self.max_groups);
            mistakes.push(Mistake::new("max_groups", what, "write a number from 1 to 1000000"));
        }
        if self.by.0.len() > PARTS_MAX {
            mistakes.push(Mistake::new("by", format!("`by` has {} fields", self.by.0.len()), "write at most 16"));
        }
        if self.fields.0.is_empty() {
            mistakes.push(Mistake::new("fields", "the aggregate has no fields", "write `fields: {count: count}`"));
        }
        let clashes = self.clashes().into_iter();
        mistakes.extend(clashes.map(|(key, what)| Mistake::new(key, what, "give one of them another name")));
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let by = self.by.0.iter().map(|(to, part)| {
            let from = match part {
                KeyPart::Field(path) => From::Field(Place::new(path, opening)),
                KeyPart::Template(template) => From::Template(template.open(opening)),
            };
            Part { from, to: Place::new(to, opening) }
        });
        let by: Vec<Part> = by.collect();
        let columns = self.fields.0.iter().map(|(to, function)| Column {
            from: match function {
                Function::Count => None,
                Function::Values(_, path) => Some(Place::new(path, opening)),
            },
            to: Place::new(to, opening),
        });
        let columns = columns.collect();
        Box::new(Aggregate {
            every_nanos: self.every.0.as_nanos() as i64,
            by,
            columns,
            other: Place::new(&Path::field(OTHER), opening),
            window_field: self.window_field.as_ref().map(|path| Place::new(path, opening)),
            verdict: if self.keep_events { Verdict::Keep } else { Verdict::Aggregate },
            on_crash: self.on_crash,
            window: Window {
                groups_max: self.max_groups,
                empty: self.fields.0.iter().map(|(_, function)| Cell::new(function)).collect(),
                ..Window::default()
            },
            emitting: None,
            values: Vec::new(),
            ends: Vec::new(),
            scratch: Vec::new(),
            failures: 0,
        })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let left_out = self.fields.0.iter().filter_map(|(_, function)| {
            let Function::Values(_, path) = function else { return None };
            let value = before.get(path).filter(|value| *value != Value::Json(b"null"))?;
            let is_number = Number::of(value).is_some();
            (!is_number).then(|| format!("{path} is not a number: {}", before.shown(path)))
        });
        joined(left_out)
    }
}

enum From {
    Field(Place),
    Template(OpenTemplate),
}

/// A value that defines groups.
struct Part {
    from: From,
    to: Place,
}

/// A field of the aggregate, and the source of its values.
struct Column {
    from: Option<Place>,
    to: Place,
}

/// A group of the window.
struct Group {
    /// The values of `by` as JSON, one after the other.
    values: Vec<u8>,
    /// Where each value ends; a missing value is empty.
    ends: Vec<u32>,
    cells: Vec<Cell>,
}

/// The groups of the open window.
#[derive(Default)]
struct Window {
    start: Option<Timestamp>,
    groups_max: usize,
    empty: Vec<Cell>,
    places: HashMap<u128, u32, BuildHasherDefault<OfKey>>,
    /// The groups in use, followed by those of earlier windows, whose memory is reused.
    groups: Vec<Group>,
    used: usize,
    /// The group for events beyond `max_groups`.
    other: Option<usize>,
    events: u64,
    origins: Origins,
}

impl Window {
    /// The group of a key with these values; none if there are too many.
    fn place(&mut self, key: u128, values: &[u8], ends: &[u32]) -> Option<usize> {
        if let Some(at) = self.places.get(&key) {
            return Some(*at as usize);
        }
        if self.places.len() >= self.groups_max || values.len() > KEY_BYTES_MAX {
            return None;
        }
        let at = self.begin_group(values, ends);
        self.places.insert(key, at as u32);
        Some(at)
    }

    /// The group for events beyond `max_groups`.
    fn place_of_others(&mut self) -> usize {
        let at = self.other.unwrap_or_else(|| self.begin_group(&[], &[]));
        self.other = Some(at);
        at
    }

    fn begin_group(&mut self, values: &[u8], ends: &[u32]) -> usize {
        if self.used == self.groups.len() {
            self.groups.push(Group { values: Vec::new(), ends: Vec::new(), cells: self.empty.clone() });
        }
        let group = &mut self.groups[self.used];
        group.values.clear();
        group.values.extend_from_slice(values);
        group.ends.clear();
        group.ends.extend_from_slice(ends);
        group.cells.iter_mut().for_each(Cell::clear);
        self.used += 1;
        self.used - 1
    }

    fn close(&mut self) {
        self.places.clear();
        (self.used, self.events) = (0, 0);
        (self.start, self.other) = (None, None);
        self.origins.clear();
    }
}

struct Aggregate {
    every_nanos: i64,
    by: Vec<Part>,
    columns: Vec<Column>,
    other: Place,
    window_field: Option<Place>,
    verdict: Verdict,
    on_crash: OnCrash,
    window: Window,
    /// The next group to emit, while the window is being emptied, and when that began.
    emitting: Option<(usize, Timestamp)>,
    /// The values of `by` of the current event, and where each ends.
    values: Vec<u8>,
    ends: Vec<u32>,
    scratch: Vec<u8>,
    failures: u64,
}

impl Aggregate {
    /// Appends the values of `by`, and where each ends to `ends`.
    fn push_values(&mut self, record: &Record<'_>) {
        self.values.clear();
        self.ends.clear();
        for part in &mut self.by {
            match &mut part.from {
                From::Field(place) => {
                    if let Some(value) = place.get(record) {
                        push_value(value, &mut self.scratch, &mut self.values);
                    }
                }
                From::Template(template) => template.push(record, &mut self.values),
            }
            self.ends.push(self.values.len() as u32);
        }
    }

    fn key(&mut self) -> u128 {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.values);
        // The ends distinguish lists of values whose concatenation is the same.
        self.ends.iter().for_each(|end| self.scratch.extend_from_slice(&end.to_le_bytes()));
        xxh3_128(&self.scratch)
    }

    /// The end of the window, if there is a window to emit.
    fn end(&self) -> Option<i64> {
        self.window.start.map(|start| start.0.saturating_add(self.every_nanos))
    }

    fn fill(&mut self, at: usize, until: Timestamp, record: &mut Record<'_>) {
        let (group, start) = (&self.window.groups[at], self.window.start.unwrap_or(until));
        let mut from = 0;
        for (part, end) in self.by.iter_mut().zip(&group.ends) {
            let value = &group.values[from..*end as usize];
            if !value.is_empty() {
                part.to.put(record, value);
            }
            from = *end as usize;
        }
        if self.window.other == Some(at) {
            self.other.put(record, b"true");
        }
        for (cell, column) in group.cells.iter().zip(&mut self.columns) {
            if let Some(value) = cell.value() {
                column.to.put(record, value.to_string().as_bytes());
            }
        }
        if let Some(place) = &mut self.window_field {
            let text = |time: Timestamp| String::from_utf8_lossy(&rfc3339_micros(time)).into_owned();
            let window = serde_json::json!({"start": text(start), "end": text(until)});
            place.put(record, window.to_string().as_bytes());
        }
    }
}

/// Appends a value as JSON, a string in its canonical spelling.
fn push_value(value: Value<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) {
    match value {
        Value::Json(json) if json.contains(&b'\\') && json.first() == Some(&b'"') => {
            scratch.clear();
            push_unescaped(&json[1..json.len() - 1], scratch);
            push_json(Value::Text(scratch), out);
        }
        value => push_json(value, out),
    }
}

impl Transform for Aggregate {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.push_values(record);
        let key = self.key();
        let now = record.arrived().0;
        let start = Timestamp(now.saturating_sub(now.rem_euclid(self.every_nanos)));
        let window = &mut self.window;
        // If the clock was set back, the window becomes longer, but not by the whole amount.
        window.start = Some(window.start.map_or(start, |open| open.min(start)));
        window.events += 1;
        window.origins.count();
        let at = window.place(key, &self.values, &self.ends).unwrap_or_else(|| {
            self.failures += 1;
            window.place_of_others()
        });
        for (cell, column) in window.groups[at].cells.iter_mut().zip(&self.columns) {
            let value = column.from.as_ref().and_then(|place| place.get(record));
            self.failures += u64::from(!cell.add(value));
        }
        self.verdict
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn due(&self) -> Option<Timestamp> {
        self.end().map(Timestamp)
    }

    fn emit(&mut self, now: Now, record: &mut Record<'_>) -> Option<Verdict> {
        let end = self.end()?;
        let (at, until) = match self.emitting {
            Some(emitting) => emitting,
            None if now.last || now.time.0 >= end => (0, Timestamp(now.time.0.min(end))),
            None => return None,
        };
        if at == self.window.used {
            self.window.close();
            self.emitting = None;
            return None;
        }
        self.fill(at, until, record);
        self.emitting = Some((at + 1, until));
        Some(Verdict::Keep)
    }

    fn begin(&mut self, origin: Origin) {
        self.window.origins.begin(origin);
    }

    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let repeats = self.on_crash == OnCrash::Repeat && self.window.events > 0;
        if repeats { self.window.origins.of(source) } else { None }
    }

    fn held(&self) -> u64 {
        self.window.events
    }
}
