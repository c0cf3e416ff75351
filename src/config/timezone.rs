//! The key `timezone`: the time zone of times that have none.

use crate::codec::zone::Zone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;

/// A time zone that exists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timezone(pub Zone);

impl<'de> Deserialize<'de> for Timezone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timezone, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Timezone;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time zone: a name such as Europe/Berlin, an offset such as \"+02:00\", UTC or local")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Timezone, E> {
                let help =
                    "use a name of the tz database such as Europe/Berlin, an offset such as \"+02:00\", UTC or local";
                Zone::parse(text).map(Timezone).map_err(|what| E::custom(format!("{what}: {help}")))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Timezone {
    fn schema_name() -> Cow<'static, str> {
        "Timezone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "examples": ["UTC", "local", "Europe/Berlin", "+02:00"]})
    }
}
