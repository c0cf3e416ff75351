//! Values that events have for the fields of the input: they are kept in the object `event`.
//!
//! ```text
//! {"host":"x","a":1}                   host: ours, a: 1, event: {"host":"x"}
//! {"host":"x","event":{"kind":"y"}}    host: ours, event: {"kind":"y","host":"x"}
//! {"host":"x","event":{"host":"y"}}    host: ours, event: {"host":"x","event":{"host":"y"}}
//! ```
//!
//! Guarantees: no field of the input gets a value from an event, and no value of an event is lost. If the event has a field
//! `event` that is no object, or is one with a name that is to be added, it is kept whole, one level deeper. A name with dots,
//! such as `file.path`, is also guarded inside the object `file`. Does nothing if no name is guarded (`on_conflict: theirs`).

use super::Opening;
use super::place::push_json;
use crate::codec::json::{Fields, body_is};
use std::ops::Range;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::shape::{Edit, EditId, Find, Guarded, KeyId};

/// The field that holds the values of events.
pub const EVENT: &str = "event";

/// Moves values of one event to the object. Reused for each event.
pub struct Theirs {
    /// The guarded names.
    names: Vec<Vec<u8>>,
    find: Find,
    set: EditId,
    /// The removal of each beginning of a name with dots.
    heads: Vec<(KeyId, EditId)>,
    /// The names and values to move, one after the other, and where each is.
    bytes: Vec<u8>,
    moved: Vec<(Range<usize>, Range<usize>)>,
    object: Vec<u8>,
}

impl Theirs {
    /// Opens it on one shard.
    pub fn open(opening: &mut Opening<'_>) -> Theirs {
        let shapes = &mut *opening.shapes;
        let names: Vec<Vec<u8>> = shapes.guarded_names().map(<[u8]>::to_vec).collect();
        let mut heads = Vec::new();
        for name in &names {
            for dot in memchr::memchr_iter(b'.', name) {
                let key = shapes.key(&name[..dot]);
                if shapes.guarded(key) == Some(Guarded::Head) {
                    heads.push((key, shapes.register_edit(Edit::Remove(key))));
                }
            }
        }
        let key = shapes.key(EVENT.as_bytes());
        Theirs {
            names,
            find: shapes.register_find(EVENT.as_bytes()),
            set: shapes.register_edit(Edit::Computed(key)),
            heads,
            bytes: Vec::new(),
            moved: Vec::new(),
            object: Vec::new(),
        }
    }

    /// Settles the contested fields of a line. Hot if many lines have such a field: nothing is allocated in steady state.
    #[inline(never)]
    pub fn settle(&mut self, record: &mut Record<'_>) {
        self.begin();
        let mut removed = 0u64;
        for field in record.contested() {
            let Value::Json(json) = record.value(field.source) else { continue };
            let took = record.guarded(field.key).is_some_and(|why| self.take(why, record.name(field.key), json));
            let head = self.heads.iter().position(|(key, _)| *key == field.key).filter(|_| took);
            removed |= head.map_or(0, |head| 1 << head.min(63));
        }
        for (number, (_, removal)) in self.heads.iter().enumerate() {
            if removed & 1 << number.min(63) != 0 {
                record.edit(*removal);
            }
        }
        // All of it was in one line, so there is room.
        let fits = self.finish(record);
        debug_assert!(fits, "the values of a line fit into its event");
    }

    /// Begins an event.
    pub fn begin(&mut self) {
        self.bytes.clear();
        self.moved.clear();
    }

    /// Takes a value that the event has for a guarded key, unless it is harmless. If it is taken, it must not become a field.
    pub fn take(&mut self, why: Guarded, name: &[u8], json: &[u8]) -> bool {
        if why == Guarded::Head && !self.holds_name(name, json) {
            return false;
        }
        // A name can come twice from one string. The last one counts.
        self.moved.retain(|(known, _)| &self.bytes[known.clone()] != name);
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        let middle = self.bytes.len();
        self.bytes.extend_from_slice(json);
        self.moved.push((start..middle, middle..self.bytes.len()));
        true
    }

    /// Adds what was taken to the object. False if the event is too large for it.
    pub fn finish(&mut self, record: &mut Record<'_>) -> bool {
        if self.moved.is_empty() {
            return true;
        }
        self.make_object(record.get(self.find));
        record.set(self.set, |out| out.extend_from_slice(&self.object))
    }

    fn make_object(&mut self, existing: Option<Value<'_>>) {
        let Theirs { bytes, moved, object, .. } = self;
        let clashes = |json: &[u8]| {
            let is_moved = |body: &[u8]| moved.iter().any(|(name, _)| body_is(body, &bytes[name.clone()]));
            Fields::of(json).is_none_or(|mut fields| fields.any(|(body, _)| is_moved(body)))
        };
        object.clear();
        let whole = match existing {
            Some(Value::Json(json)) if !clashes(json) => {
                object.extend_from_slice(json.strip_suffix(b"}").unwrap_or(json).trim_ascii_end());
                None
            }
            existing => {
                object.push(b'{');
                existing
            }
        };
        let next = |name: &[u8], object: &mut Vec<u8>| {
            object.extend_from_slice(if object.ends_with(b"{") { b"\"" } else { b",\"" });
            escape_json_into(name, object);
            object.extend_from_slice(b"\":");
        };
        for (name, value) in moved.iter() {
            next(&bytes[name.clone()], object);
            object.extend_from_slice(&bytes[value.clone()]);
        }
        if let Some(whole) = whole {
            next(EVENT.as_bytes(), object);
            push_json(whole, object);
        }
        object.push(b'}');
    }

    /// Whether the value of a field called `head` holds a value, or a part of one, at the path of a guarded name.
    fn holds_name(&self, head: &[u8], json: &[u8]) -> bool {
        self.names.iter().filter_map(|name| below(name, head)).any(|rest| holds(json, rest))
    }

    /// Whether a value at this dotted path would be at, above or below a guarded name.
    pub fn would_forge(&self, path: &[u8], json: &[u8]) -> bool {
        let is_below =
            |name: &Vec<u8>| path.strip_prefix(&name[..]).is_some_and(|rest| matches!(rest, [] | [b'.', ..]));
        self.names.iter().any(is_below) || self.holds_name(path, json)
    }
}

/// What is behind the dot of a name that begins with `head`.
fn below<'n>(name: &'n [u8], head: &[u8]) -> Option<&'n [u8]> {
    name.strip_prefix(head)?.strip_prefix(b".")
}

/// Whether an object has a value at a dotted path: each dot may separate two objects, or be a part of a name.
fn holds(object: &[u8], path: &[u8]) -> bool {
    let Some(fields) = Fields::of(object) else { return false };
    let holds = |(body, value): (&[u8], &[u8])| {
        let is_end = body_is(body, path);
        is_end
            || memchr::memchr_iter(b'.', path).any(|dot| body_is(body, &path[..dot]) && holds(value, &path[dot + 1..]))
    };
    fields.into_iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_however_its_dots_are_spread() {
        for inside in [
            r#"{"b.c":1}"#,
            r#"{"b":{"c":1}}"#,
            r#"{"b":1,"b":{"x":0,"c":{}}}"#,
            r#"{"\u0062":{"c":null}}"#,
            r#"{"b":{"c":1},"b":2}"#,
            r#"{"b\u002ec":[]}"#,
        ] {
            assert!(holds(inside.as_bytes(), b"b.c"), "{inside}");
        }
        for beside in [
            "{}",
            "7",
            "\"b.c\"",
            r#"{"b":7}"#,
            r#"{"b":{"d":1}}"#,
            r#"{"b":{"b":{"c":1}}}"#,
            r#"{"b":[{"c":1}]}"#,
            r#"{"c":1}"#,
        ] {
            assert!(!holds(beside.as_bytes(), b"b.c"), "{beside}");
        }
    }
}
