//! Parsers: they turn the bytes of an event into fields.

pub mod json;

use crate::codec::envelope::EnvelopeKind;
use crate::config::timezone::Timezone;
use crate::config::types::{FieldNames, OnConflict};
use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use std::fmt;

/// What an input specifies about its events.
#[derive(Clone, Debug)]
pub struct Events {
    /// The names of the fields that it adds.
    pub fields: FieldNames,
    /// Whose value a field has that both the input and the event have.
    pub on_conflict: OnConflict,
    /// The kind of their source.
    pub kind: EnvelopeKind,
    /// How they are parsed.
    pub parse: Option<Parse>,
    /// The time zone of times that do not name one, if it is not that of the process.
    pub timezone: Option<Timezone>,
    /// The largest size of an event, in bytes.
    pub bytes_max: usize,
}

/// What happens to an event that cannot be parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The event is kept, with its text in the field of the message and the reason in `parse_error`.
    #[default]
    Keep,
    /// The event is dropped.
    Drop,
    /// The line goes to the dead letter queue.
    DeadLetter,
}

/// How events are parsed: the name of a format, or a map from the format to its settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parse {
    /// JSON: one object per event.
    Json(json::Settings),
}

/// The names of all formats.
const FORMATS: &[&str] = &["json"];

impl<'de> Deserialize<'de> for Parse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Parse, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Parse;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a format such as json, or a map such as {json: {on_error: drop}}")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Parse, E> {
                match name {
                    "json" => Ok(Parse::Json(json::Settings::default())),
                    _ => Err(E::unknown_variant(name, FORMATS)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parse, A::Error> {
                let name: String = map
                    .next_key()?
                    .ok_or_else(|| A::Error::invalid_value(serde::de::Unexpected::Other("an empty map"), &self))?;
                let parse = match name.as_str() {
                    "json" => Parse::Json(map.next_value()?),
                    _ => return Err(A::Error::unknown_variant(&name, FORMATS)),
                };
                match map.next_key::<String>()? {
                    None => Ok(parse),
                    Some(second) => {
                        Err(A::Error::custom(format!("`{second}` is a second format, but an event has only one")))
                    }
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Parse {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Parse".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let json = generator.subschema_for::<json::Settings>();
        schemars::json_schema!({
            "anyOf": [
                {"enum": FORMATS},
                {"type": "object", "properties": {"json": json}, "minProperties": 1, "maxProperties": 1,
                 "additionalProperties": false}
            ]
        })
    }
}
