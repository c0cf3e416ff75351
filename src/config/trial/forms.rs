//! The forms of values in tests: a line as a string or map, a point in time, one value or a list.
//!
//! Guarantees: a line that is written as a map keeps the order of its keys.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{DeserializeOwned, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use tailwater_shards::env::Timestamp;

/// A line as the input reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(pub String);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Line, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Line;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a line in quotes, or a map, which is read as a line of JSON")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Line, E> {
                match text.contains('\n') {
                    true => Err(E::custom("a line cannot contain a newline: write each line as a separate event")),
                    false => Ok(Line(text.to_owned())),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Line, A::Error> {
                Written.visit_map(map).map(|Text(json)| Line(json))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Line {
    fn schema_name() -> Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "object"]})
    }
}

/// A value as JSON.
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

fn json(value: impl Into<serde_json::Value>) -> Text {
    Text(value.into().to_string())
}

impl<'de> Visitor<'de> for Written {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Text, E> {
        Ok(json(()))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Text, E> {
        Ok(json(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Text, E> {
        Ok(json(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Text, E> {
        Ok(json(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Text, E> {
        Ok(json(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Text, E> {
        Ok(json(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Text, A::Error> {
        let mut all: Vec<String> = Vec::new();
        while let Some(Text(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Text(format!("[{}]", all.join(","))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        let mut all: Vec<String> = Vec::new();
        while let Some((key, Text(value))) = map.next_entry::<String, Text>()? {
            all.push(format!("{}:{value}", json(key).0));
        }
        Ok(Text(format!("{{{}}}", all.join(","))))
    }
}

/// A point in time, RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment(pub Timestamp);

impl Default for Moment {
    /// The start of the year 2000, UTC.
    fn default() -> Moment {
        Moment(Timestamp(946_684_800_000_000_000))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Moment, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Moment;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time such as 2026-11-23T10:20:30Z")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Moment, E> {
                let moment = text.parse::<jiff::Timestamp>().ok();
                let nanos = moment.and_then(|moment| i64::try_from(moment.as_nanosecond()).ok());
                let refused = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                nanos.map(|nanos| Moment(Timestamp(nanos))).ok_or_else(refused)
            }
        }
        deserializer.deserialize_str(Form)
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// One value, or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub struct OneOrMore<T>(pub Vec<T>);

impl<'de, T: DeserializeOwned> Deserialize<'de> for OneOrMore<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OneOrMore<T>, D::Error> {
        struct Form<T>(PhantomData<T>);
        impl<'de, T: DeserializeOwned> Visitor<'de> for Form<T> {
            type Value = OneOrMore<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of strings")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<OneOrMore<T>, E> {
                let text = serde::de::value::StrDeserializer::<E>::new(text);
                T::deserialize(text).map(|one| OneOrMore(vec![one]))
            }
            fn visit_bool<E: Error>(self, value: bool) -> Result<OneOrMore<T>, E> {
                let value = serde::de::value::BoolDeserializer::<E>::new(value);
                T::deserialize(value).map(|one| OneOrMore(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMore<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = items.next_element()? {
                    all.push(one);
                }
                match all.is_empty() {
                    true => Err(A::Error::invalid_length(0, &self)),
                    false => Ok(OneOrMore(all)),
                }
            }
        }
        deserializer.deserialize_any(Form(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for OneOrMore<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("OneOrMore_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<T>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]})
    }
}
