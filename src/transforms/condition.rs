//! Conditions: expressions of the configuration that are evaluated on events.
//!
//! Guarantees: a condition is compiled once, when the configuration is loaded. If it fails on an event (a field is missing, or
//! is a string where a number is needed), it counts as false, and the failure is counted.

use super::Opening;
use super::place::Place;
use crate::codec::marked;
use crate::codec::path::Path;
use crate::config::component::{Doubtful, Mistake};
use crate::expr::{Doubt, FieldValue, Fields, Origin, PathIndex, Program, Scratch};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::shape::Meta;

/// A condition as written in the configuration.
#[derive(Clone, Debug)]
pub struct Condition(Arc<Program>);

impl PartialEq for Condition {
    fn eq(&self, other: &Condition) -> bool {
        self.0.is_same(&other.0)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Condition, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Condition;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition such as status >= 500 && level != \"debug\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Condition, E> {
                match Program::compile(text) {
                    Ok(program) => Ok(Condition(Arc::new(program))),
                    Err(error) => match Program::compile(&marked::neutral(text)) {
                        Err(mistake) if marked::has_values(text) => Err(E::custom(mistake.discreet())),
                        _ => Err(E::custom(error)),
                    },
                }
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Condition, E> {
                self.visit_str(if value { "true" } else { "false" })
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Condition, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        deserializer.deserialize_newtype_struct(marked::NEWTYPE, Form)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "boolean"]})
    }
}

impl Condition {
    /// The source.
    pub fn source(&self) -> &str {
        self.0.source()
    }

    /// All that is valid but probably a mistake.
    pub fn doubts(&self) -> Vec<Doubtful> {
        let doubtful = |doubt: &Doubt| Doubtful {
            mistake: Mistake::new("", doubt.what.clone(), doubt.help.clone()),
            place: doubt.span.clone(),
        };
        self.0.doubts().iter().map(doubtful).collect()
    }

    /// Whether it is true for an event whose fields `get` returns as JSON, and which comes from there; on failure, why. For
    /// showing a single event to people: shards use [`Condition::open`].
    pub fn test<'a>(
        &'a self,
        get: &'a dyn Fn(&Path) -> Option<&'a [u8]>,
        origin: &'a KnownOrigin,
    ) -> Result<bool, String> {
        let fields = Lookup { paths: self.0.paths(), get, origin };
        let told = self.0.test(&fields, &mut self.0.scratch());
        told.map_err(|error| format!("{} ({})", self.0.explain_on(error, &fields), error.reason()))
    }

    /// Opens it on one shard.
    pub fn open(&self, opening: &mut Opening<'_>) -> OpenCondition {
        if self.0.origins().contains(&Origin::Offset) {
            opening.shapes.need_offset();
        }
        OpenCondition {
            places: self.0.paths().iter().map(|path| Place::new(path, opening)).collect(),
            scratch: self.0.scratch(),
            program: self.0.clone(),
            failures: 0,
        }
    }
}

/// How the record calls a part of the origin.
pub fn meta_of(part: Origin) -> Meta {
    match part {
        Origin::Timestamp => Meta::Timestamp,
        Origin::Host => Meta::Host,
        Origin::File => Meta::File,
        Origin::Offset => Meta::Offset,
        Origin::Input => Meta::Input,
    }
}

/// What the input knows about a single event, as JSON, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownOrigin(Vec<(Origin, Vec<u8>)>);

impl KnownOrigin {
    /// Of an event.
    pub fn of(record: &Record<'_>) -> KnownOrigin {
        let known = |part| Some((part, record.origin(meta_of(part))?.to_vec()));
        KnownOrigin(Origin::ALL.into_iter().filter_map(known).collect())
    }
}

struct Lookup<'a> {
    paths: &'a [Path],
    get: &'a dyn Fn(&Path) -> Option<&'a [u8]>,
    origin: &'a KnownOrigin,
}

impl Fields for Lookup<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        (self.get)(&self.paths[path.index()]).map(FieldValue::Json)
    }

    fn searched_bytes(&self, path: PathIndex) -> usize {
        let path = &self.paths[path.index()];
        if path.rest().is_empty() { 0 } else { (self.get)(&Path::field(path.first())).map_or(0, <[u8]>::len) }
    }

    fn origin(&self, part: Origin) -> Option<FieldValue<'_>> {
        self.origin.0.iter().find(|(known, _)| *known == part).map(|(_, json)| FieldValue::Json(json))
    }
}

/// A condition of one shard.
pub struct OpenCondition {
    program: Arc<Program>,
    places: Vec<Place>,
    scratch: Scratch,
    /// The number of events on which it failed.
    failures: u64,
}

struct View<'a> {
    record: &'a Record<'a>,
    places: &'a [Place],
}

impl Fields for View<'_> {
    fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
        self.places[path.index()].get(self.record).map(|value| match value {
            Value::Json(json) => FieldValue::Json(json),
            Value::Text(text) => FieldValue::Text(text),
        })
    }

    fn searched_bytes(&self, path: PathIndex) -> usize {
        self.places[path.index()].searched_bytes(self.record)
    }

    fn origin(&self, part: Origin) -> Option<FieldValue<'_>> {
        self.record.origin(meta_of(part)).map(FieldValue::Json)
    }
}

impl OpenCondition {
    /// Whether it is true for the event.
    #[inline]
    pub fn holds(&mut self, record: &Record<'_>) -> bool {
        let view = View { record, places: &self.places };
        self.program.test(&view, &mut self.scratch).unwrap_or_else(|_| {
            self.failures += 1;
            false
        })
    }

    /// The number of events on which it failed since the last call.
    pub fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}
