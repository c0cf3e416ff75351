//! Places inside events: how transforms read, write and remove the value at a path, at the top level of an event or below.
//!
//! Guarantees: a change at the top level is a step of the shape. A change below it rewrites the JSON of the top-level field and
//! keeps everything else in it byte for byte. Writing below a missing field creates the parent objects. If a part of the path
//! is not an object, nothing changes and the caller is told.

use super::Opening;
use crate::codec::path::{Path, Segment, find_path};
use crate::codec::rewrite::{has_twins, put, remove};
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::shape::{Edit, EditId, Find};

/// A path opened on one shard.
pub struct Place {
    find: Find,
    rest: Vec<Segment>,
    set: EditId,
    remove: EditId,
    scratch: Vec<u8>,
}

impl Place {
    /// Opens a path on one shard.
    pub fn new(path: &Path, opening: &mut Opening<'_>) -> Place {
        let shapes = &mut *opening.shapes;
        let key = shapes.key(path.first().as_bytes());
        Place {
            find: shapes.register_find(path.first().as_bytes()),
            rest: path.rest().to_vec(),
            set: shapes.register_edit(Edit::Computed(key)),
            remove: shapes.register_edit(Edit::Remove(key)),
            scratch: Vec::new(),
        }
    }

    /// The value.
    #[inline]
    pub fn get<'r>(&self, record: &'r Record<'_>) -> Option<Value<'r>> {
        let value = record.get(self.find)?;
        match (self.rest.is_empty(), value) {
            (true, value) => Some(value),
            (false, Value::Json(json)) => find_path(json, &self.rest).map(Value::Json),
            (false, Value::Text(_)) => None,
        }
    }

    /// The bytes that [`Place::get`] searches.
    pub fn searched_bytes(&self, record: &Record<'_>) -> usize {
        match record.get(self.find).filter(|_| !self.rest.is_empty()) {
            Some(Value::Json(json)) => json.len(),
            _ => 0,
        }
    }

    /// Removes the value, if it exists.
    pub fn remove(&mut self, record: &mut Record<'_>) {
        if self.rest.is_empty() {
            return record.edit(self.remove);
        }
        self.scratch.clear();
        let Some(Value::Json(json)) = record.get(self.find) else { return };
        if remove(json, &self.rest, &mut self.scratch)
            && !record.set(self.set, |out| out.extend_from_slice(&self.scratch))
        {
            // The rest does not fit into the event: a value that must not stay is removed together with the field around it.
            record.edit(self.remove);
        }
    }

    /// The edit that removes it, if it is a top-level field.
    pub fn removal(&self) -> Option<EditId> {
        self.rest.is_empty().then_some(self.remove)
    }

    /// If a name on the path occurs twice in its object, keeps only the last one, which counts: a value that is to be hidden
    /// must not stay in the others.
    pub fn leave_last(&mut self, record: &mut Record<'_>) {
        if self.rest.is_empty() {
            return;
        }
        let Some(Value::Json(json)) = record.get(self.find) else { return };
        if !has_twins(json, &self.rest) {
            return;
        }
        self.scratch.clear();
        let changed = match find_path(json, &self.rest) {
            Some(value) => put(json, &self.rest, value, &mut self.scratch),
            None => remove(json, &self.rest, &mut self.scratch),
        };
        if !changed || !record.set(self.set, |out| out.extend_from_slice(&self.scratch)) {
            record.edit(self.remove);
        }
    }

    /// Writes a JSON value. False, and nothing is changed, if a part of the path is not an object or the event would be too
    /// large.
    pub fn put(&mut self, record: &mut Record<'_>, json: &[u8]) -> bool {
        if self.rest.is_empty() {
            return record.set(self.set, |out| out.extend_from_slice(json));
        }
        self.scratch.clear();
        let whole = match record.get(self.find) {
            Some(Value::Json(whole)) => whole,
            Some(Value::Text(_)) => return false,
            None => b"{}",
        };
        put(whole, &self.rest, json, &mut self.scratch)
            && record.set(self.set, |out| out.extend_from_slice(&self.scratch))
    }
}

/// Appends a value as JSON.
pub fn push_json(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Json(json) => out.extend_from_slice(json),
        Value::Text(text) => {
            out.push(b'"');
            escape_json_into(text, out);
            out.push(b'"');
        }
    }
}
