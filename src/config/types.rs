//! The value types that components share: sizes, durations, and the keys that are spelled the same everywhere.
//!
//! Guarantees: each rejects what it cannot represent, and the message shows the accepted form and the position in the file.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Expected, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

/// A number of bytes: `65536`, `64KiB`, `10MB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Units of sizes, longest spelling first so that `MiB` is not taken for `B`.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl std::str::FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<ByteSize, ()> {
        let text = text.trim();
        let unit = SIZE_UNITS.iter().find(|(unit, _)| text.ends_with(unit));
        let (number, factor) = match unit {
            Some((unit, factor)) => (text[..text.len() - unit.len()].trim_end(), *factor),
            None => (text, 1),
        };
        let number: u64 = number.parse().map_err(|_| ())?;
        number.checked_mul(factor).map(ByteSize).ok_or(())
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A length of time: `500ms`, `10s`, `5m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

const PERIOD_UNITS: [(&str, u64); 6] = [
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

impl std::str::FromStr for Period {
    type Err = ();

    fn from_str(text: &str) -> Result<Period, ()> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(())?;
        let number: u64 = text[..digits].parse().map_err(|_| ())?;
        let unit = text[digits..].trim_start();
        let (_, nanos) = PERIOD_UNITS.iter().find(|(name, _)| *name == unit).ok_or(())?;
        number.checked_mul(*nanos).map(|nanos| Period(Duration::from_nanos(nanos))).ok_or(())
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in PERIOD_UNITS.iter().rev() {
            if nanos.is_multiple_of(u128::from(*factor)) {
                return write!(f, "{}{unit}", nanos / u128::from(*factor));
            }
        }
        write!(f, "{nanos}ns")
    }
}

struct Scalar<T> {
    expected: &'static str,
    numbers: Option<fn(u64) -> T>,
}

impl<T: std::str::FromStr> Visitor<'_> for Scalar<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        match self.numbers {
            Some(make) => Ok(make(number)),
            None => Err(E::invalid_type(Unexpected::Unsigned(number), &self)),
        }
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        let expected = "a size such as 65536, 64KiB or 10MB";
        deserializer.deserialize_any(Scalar { expected, numbers: Some(ByteSize) })
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Period, D::Error> {
        let expected = "a duration with its unit, such as 500ms, 10s, 5m, 1h or 7d";
        deserializer.deserialize_any(Scalar { expected, numbers: None })
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes, as a number or with a unit: 65536, 64KiB, 10MB.",
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+ ?([KMGT]i?B|B)?$"}]
        })
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A duration with its unit: 500ms, 10s, 5m, 1h, 7d.",
            "type": "string", "pattern": "^[0-9]+ ?(us|ms|s|m|h|d)$"
        })
    }
}

/// What happens when a lane is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RingFull {
    /// The source is not read until there is room.
    #[default]
    Block,
    /// New events are dropped and counted.
    DropNewest,
    /// The oldest waiting events are dropped and counted.
    DropOldest,
    /// Above half of the size, one event in ten is kept; the others are dropped and counted.
    Sample,
}

/// The lane: the queue between an input and a shard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ring {
    /// Size of the events in the lane at which `when_full` applies.
    pub bytes: ByteSize,
    /// What happens when the lane is full.
    pub when_full: RingFull,
}

impl Default for Ring {
    fn default() -> Ring {
        Ring { bytes: ByteSize(tailwater_shards::limits::LANE_BYTES_DEFAULT as u64), when_full: RingFull::default() }
    }
}

/// Accepts the `false` of a setting that has a value or is `false`. There is no `true`.
pub(super) fn only_false<E: Error>(on: bool, expected: &dyn Expected) -> Result<(), E> {
    if on { Err(E::invalid_value(Unexpected::Bool(on), expected)) } else { Ok(()) }
}

/// Writes such a setting.
pub(super) fn serialize_or_false<S: Serializer>(
    value: Option<&impl Serialize>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => value.serialize(serializer),
        None => serializer.serialize_bool(false),
    }
}

/// The name of a field, or `false` to leave it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldName {
    /// Added under this name.
    Named(String),
    /// Not added.
    Off,
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<FieldName, D::Error> {
        struct Name;
        impl Visitor<'_> for Name {
            type Value = FieldName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name, or false to leave the field out")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<FieldName, E> {
                match text.is_empty() {
                    true => Err(E::invalid_value(Unexpected::Str(text), &self)),
                    false => Ok(FieldName::Named(text.to_owned())),
                }
            }
            fn visit_bool<E: Error>(self, on: bool) -> Result<FieldName, E> {
                only_false(on, &self).map(|()| FieldName::Off)
            }
        }
        deserializer.deserialize_any(Name)
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = match self {
            FieldName::Named(name) => Some(name),
            FieldName::Off => None,
        };
        serialize_or_false(name, serializer)
    }
}

impl JsonSchema for FieldName {
    fn schema_name() -> Cow<'static, str> {
        "FieldName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A field name, or false to leave the field out.",
            "anyOf": [{"type": "string", "minLength": 1}, {"const": false}]
        })
    }
}

/// The fields that an input adds to each event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FieldNames {
    /// The line itself.
    pub message: FieldName,
    /// When it was read, RFC 3339 with microseconds, UTC.
    pub timestamp: FieldName,
    /// The host name.
    pub host: FieldName,
    /// The path at which the file was found first; it stays the same when the file is renamed. Inputs without files do not
    /// add it.
    pub file: FieldName,
    /// The position in bytes where the line starts in its file. Inputs without files do not add it.
    pub offset: FieldName,
    /// `true` in events that contain only the beginning of their line. Other events do not have the field.
    pub truncated: FieldName,
}

impl Default for FieldNames {
    fn default() -> FieldNames {
        let named = |name: &str| FieldName::Named(name.to_owned());
        FieldNames {
            message: named("message"),
            timestamp: named("timestamp"),
            host: named("host"),
            file: named("file"),
            offset: named("offset"),
            truncated: named("truncated"),
        }
    }
}

/// Whose value a field has if the input adds it and an event has a field of the same name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnConflict {
    /// The input's. The value of the event is kept in the object `event`: `event.host`.
    #[default]
    Ours,
    /// The event's, so that whoever writes events can make them look as if they came from elsewhere.
    Theirs,
}

/// How an output writes an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encode {
    /// The whole event as one JSON object per line.
    #[default]
    Json,
    /// Only the message, one per line; bytes that are not valid UTF-8 become U+FFFD.
    Text,
}

/// What happens to newlines inside a string, so that an event is one line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Newlines {
    /// They are written as `\n`, and carriage returns before them as `\r`.
    #[default]
    Escape,
    /// Each newline becomes a space.
    Space,
    /// They are kept; an event can then span several lines, so the sender of one event can make it look like several.
    Keep,
}

/// What happens to an event without the field to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WithoutMessage {
    /// It goes to the dead letter queue.
    #[default]
    DeadLetter,
    /// It is written as JSON.
    Json,
    /// An empty line is written.
    Empty,
}

/// How an event is written as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextForm<'a> {
    /// The field that is written.
    pub field: &'a str,
    /// What happens to newlines in it.
    pub newlines: Newlines,
    /// What happens to events without the field.
    pub without: WithoutMessage,
}

/// How deliveries are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Batching {
    /// The most bytes in one delivery, at least 1. A larger event is sent alone.
    #[serde(deserialize_with = "some_bytes")]
    pub max_bytes: ByteSize,
    /// The most events in one delivery, at least 1.
    #[serde(deserialize_with = "some_events")]
    #[schemars(range(min = 1))]
    pub max_events: u64,
    /// The longest time that an event waits for others to be delivered with it.
    pub max_age: Period,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching { max_bytes: ByteSize(1 << 20), max_events: 20_000, max_age: Period(Duration::ZERO) }
    }
}

fn some_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
    match ByteSize::deserialize(deserializer)? {
        ByteSize(0) => Err(D::Error::custom("a delivery of at most 0 bytes cannot contain an event")),
        size => Ok(size),
    }
}

fn some_events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    match u64::deserialize(deserializer)? {
        0 => Err(D::Error::custom("a delivery of at most 0 events cannot contain one")),
        events => Ok(events),
    }
}

/// How deliveries are grouped for outputs that send one delivery as several parallel requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RequestBatching {
    /// The most bytes in one delivery, at least 1. A larger event is sent alone.
    #[serde(deserialize_with = "some_bytes")]
    pub max_bytes: ByteSize,
    /// The most events in one delivery, at least 1.
    #[serde(deserialize_with = "some_events")]
    #[schemars(range(min = 1))]
    pub max_events: u64,
    /// The longest time that an event waits for others to be delivered with it.
    pub max_age: Period,
}

impl Default for RequestBatching {
    fn default() -> RequestBatching {
        RequestBatching { max_bytes: ByteSize(4 << 20), max_events: 100_000, max_age: Period(Duration::from_secs(1)) }
    }
}

impl From<RequestBatching> for Batching {
    fn from(batch: RequestBatching) -> Batching {
        Batching { max_bytes: batch.max_bytes, max_events: batch.max_events, max_age: batch.max_age }
    }
}

/// How failed deliveries are retried. The upper bound of each wait doubles from `initial` to `max`; the wait is random below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// The upper bound of the first wait.
    pub initial: Period,
    /// The upper bound of any wait that the server did not ask for.
    pub max: Period,
    /// The upper bound of a wait that the server asks for with `Retry-After`. `0s` ignores `Retry-After`.
    pub max_retry_after: Period,
    /// How long a delivery is retried before its events become dead letters. Default: forever. No attempt starts after this time.
    pub max_age: Option<Period>,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            initial: Period(Duration::from_millis(100)),
            max: Period(Duration::from_secs(30)),
            max_retry_after: Period(Duration::from_secs(300)),
            max_age: None,
        }
    }
}

/// What happens to an output's events when the write-ahead log is full because of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Inputs are not read until the output has delivered.
    #[default]
    Block,
    /// The output's oldest events are dropped and counted.
    DropOldest,
    /// From three quarters full on, one frame of events in ten is kept for the output; the others are dropped and counted. If the
    /// log becomes full anyway, the output's oldest events are dropped and counted too.
    Sample,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_periods_read_their_units() {
        let size = |text: &str| text.parse::<ByteSize>().map(|size| size.0);
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("10 MB"), Ok(10_000_000));
        assert_eq!(size("7"), Ok(7));
        assert_eq!(size("99999999999TiB"), Err(()));
        assert_eq!(size("-1"), Err(()));
        assert_eq!(size("1.5GiB"), Err(()));
        let period = |text: &str| text.parse::<Period>().map(|period| period.0);
        assert_eq!(period("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(period("7d"), Ok(Duration::from_secs(7 * 86400)));
        assert_eq!(period("10"), Err(()));
        assert_eq!(period("s"), Err(()));
    }

    #[test]
    fn sizes_and_periods_print_what_they_read() {
        for text in ["64KiB", "1MiB", "1000B"] {
            assert_eq!(text.parse::<ByteSize>().map(|size| size.to_string()), Ok(text.to_owned()));
        }
        for text in ["1s", "1500ms", "7d"] {
            assert_eq!(text.parse::<Period>().map(|period| period.to_string()), Ok(text.to_owned()));
        }
    }
}
