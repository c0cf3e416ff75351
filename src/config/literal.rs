//! Literal values that the configuration sets in events.
//!
//! Guarantees: integers of up to 128 bits keep all their digits.

use crate::codec::marked;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Literal {
    /// A string, with the values of variables marked.
    Text(String),
    /// Any other value, as JSON.
    Json(String),
}

impl Literal {
    /// The value as JSON.
    pub fn json(&self) -> String {
        match self {
            Literal::Text(text) => Json::from(&*marked::plain(text)).to_string(),
            Literal::Json(json) => json.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for Literal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Literal, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Literal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, number, boolean, null, list or map")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Literal, E> {
                Ok(Literal::Text(text.to_owned()))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<Literal, E> {
                Ok(Literal::Json(value.to_string()))
            }
            fn visit_u64<E: Error>(self, value: u64) -> Result<Literal, E> {
                Ok(Literal::Json(value.to_string()))
            }
            fn visit_i64<E: Error>(self, value: i64) -> Result<Literal, E> {
                Ok(Literal::Json(value.to_string()))
            }
            fn visit_u128<E: Error>(self, value: u128) -> Result<Literal, E> {
                Ok(Literal::Json(value.to_string()))
            }
            fn visit_i128<E: Error>(self, value: i128) -> Result<Literal, E> {
                Ok(Literal::Json(value.to_string()))
            }
            fn visit_f64<E: Error>(self, value: f64) -> Result<Literal, E> {
                Ok(Literal::Json(Json::from(value).to_string()))
            }
            fn visit_unit<E: Error>(self) -> Result<Literal, E> {
                Ok(Literal::Json("null".to_owned()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Literal, A::Error> {
                let mut all = Vec::new();
                while let Some(item) = items.next_element::<Literal>()? {
                    all.push(item.json());
                }
                Ok(Literal::Json(format!("[{}]", all.join(","))))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Literal, A::Error> {
                let mut all = Vec::new();
                while let Some((key, value)) = entries.next_entry::<String, Literal>()? {
                    all.push(format!("{}:{}", Json::from(key), value.json()));
                }
                Ok(Literal::Json(format!("{{{}}}", all.join(","))))
            }
            fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<Literal, D::Error> {
                deserializer.deserialize_any(self)
            }
        }
        deserializer.deserialize_newtype_struct(marked::NEWTYPE, Form)
    }
}

impl JsonSchema for Literal {
    fn schema_name() -> Cow<'static, str> {
        "Literal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!(true)
    }
}
