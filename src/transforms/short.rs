//! Settings that can be written as a single value instead of a map.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// Settings with a short form.
pub trait ShortForm: Sized {
    /// What is expected, for people.
    const EXPECTED: &'static str;
    /// The type of the short form.
    type Word;
    /// The settings that the short form stands for.
    fn of(word: Self::Word) -> Self;
}

/// Settings in the short form or as a map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Short<T>(pub T);

impl<'de, T> Deserialize<'de> for Short<T>
where
    T: ShortForm + Deserialize<'de>,
    T::Word: Deserialize<'de>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Short<T>, D::Error> {
        struct Form<T>(PhantomData<T>);
        impl<'de, T> Visitor<'de> for Form<T>
        where
            T: ShortForm + Deserialize<'de>,
            T::Word: Deserialize<'de>,
        {
            type Value = T;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                T::Word::deserialize(StrDeserializer::new(text)).map(T::of)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_any(Form(PhantomData)).map(Short)
    }
}

impl<T> JsonSchema for Short<T>
where
    T: ShortForm + JsonSchema,
    T::Word: JsonSchema,
{
    fn schema_name() -> Cow<'static, str> {
        format!("Short_{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = generator.subschema_for::<T::Word>();
        let map = generator.subschema_for::<T>();
        json_schema!({"anyOf": [word, map]})
    }
}
