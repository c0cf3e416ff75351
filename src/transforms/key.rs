//! Keys: the part of an event by which transforms such as `dedupe` compare events.
//!
//! Guarantees: strings are equal however they are escaped in JSON. Values of different types are never equal, nor are different
//! lists of values. All values other than strings are compared as written. Keys are stored as 128 bits of xxh3; an accidental
//! collision is not to be expected while a process runs.

use super::Opening;
use super::place::Place;
use super::template::{OpenTemplate, Template};
use crate::codec::json::{pieces, string_body};
use crate::codec::marked;
use crate::codec::path::Path;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::shape::Source;
use xxhash_rust::xxh3::xxh3_128;

/// A part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The value of a field.
    Field(Path),
    /// A string made from several fields.
    Template(Template),
}

impl<'de> Deserialize<'de> for KeyPart {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<KeyPart, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = KeyPart;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field such as user.id, or a template such as \"{{ host }}-{{ user.id }}\"")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<KeyPart, E> {
                match marked::written(text).contains("{{") {
                    true => Template::parse(text).map(KeyPart::Template).map_err(|wrong| E::custom(wrong.join("; "))),
                    false => marked::plain(text).parse().map(KeyPart::Field).map_err(E::custom),
                }
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<KeyPart, D::Error> {
                deserializer.deserialize_str(self)
            }
        }
        deserializer.deserialize_newtype_struct(marked::NEWTYPE, Form)
    }
}

impl JsonSchema for KeyPart {
    fn schema_name() -> Cow<'static, str> {
        "KeyPart".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

/// One part, or a list of parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<KeyPart>);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Key;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field, a template, or a list of them")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Key, E> {
                KeyPart::deserialize(serde::de::value::StrDeserializer::new(text)).map(|part| Key(vec![part]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Key, A::Error> {
                let mut parts = Vec::new();
                while let Some(part) = list.next_element()? {
                    parts.push(part);
                }
                match parts.is_empty() {
                    true => Err(A::Error::invalid_length(0, &self)),
                    false => Ok(Key(parts)),
                }
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Key, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        deserializer.deserialize_newtype_struct(marked::NEWTYPE, Form)
    }
}

impl JsonSchema for Key {
    fn schema_name() -> Cow<'static, str> {
        "Key".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let part = generator.subschema_for::<KeyPart>();
        json_schema!({"anyOf": [part.clone(), {"type": "array", "items": part, "minItems": 1}]})
    }
}

impl Key {
    /// Opens it on one shard.
    pub fn open(&self, opening: &mut Opening<'_>) -> OpenKey {
        let parts = self.0.iter().map(|part| match part {
            KeyPart::Field(path) => OpenPart::Field(Place::new(path, opening)),
            KeyPart::Template(template) => OpenPart::Template(template.open(opening)),
        });
        OpenKey { parts: parts.collect(), text: Vec::new() }
    }
}

enum OpenPart {
    Field(Place),
    Template(OpenTemplate),
}

/// A key of one shard.
pub struct OpenKey {
    parts: Vec<OpenPart>,
    text: Vec<u8>,
}

impl OpenKey {
    /// The key of an event; none if the event has none of the fields.
    pub fn of(&mut self, record: &Record<'_>) -> Option<u128> {
        self.text.clear();
        let mut found = false;
        for part in &mut self.parts {
            match part {
                OpenPart::Field(place) => match place.get(record) {
                    Some(value) => {
                        push_part(value, &mut self.text);
                        found = true;
                    }
                    None => self.text.push(b'-'),
                },
                OpenPart::Template(template) => {
                    framed(b't', &mut self.text, |out| template.push(record, out));
                    found = true;
                }
            }
        }
        found.then(|| xxh3_128(&self.text))
    }
}

/// The key of all fields of the event, without those that the input adds (time, host, file, offset).
pub fn of_event(record: &Record<'_>, text: &mut Vec<u8>) -> u128 {
    text.clear();
    for field in record.fields() {
        if let Source::Meta(_) = field.source {
            continue;
        }
        framed(b'n', text, |out| out.extend_from_slice(record.name(field.key)));
        push_part(record.value(field.source), text);
    }
    xxh3_128(text)
}

fn push_part(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => framed(b's', out, |out| out.extend_from_slice(text)),
        Value::Json(json) => match string_body(json) {
            Some(body) => framed(b's', out, |out| push_unescaped(body, out)),
            None => framed(b'j', out, |out| out.extend_from_slice(json)),
        },
    }
}

/// Appends the unescaped body of a JSON string.
pub fn push_unescaped(body: &[u8], out: &mut Vec<u8>) {
    pieces(body, |piece| {
        out.extend_from_slice(piece);
        true
    });
}

/// Appends a part, after its type and its length.
fn framed(kind: u8, out: &mut Vec<u8>, push: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    push(out);
    // No event is that long. If one were, its key would differ from all others, so it would not be dropped by mistake.
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}
