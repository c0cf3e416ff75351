//! `convert`: changes the type of values.

use super::number::{float, int};
use super::pairs::Pairs;
use super::place::{Place, push_json};
use super::reasons::{Before, joined};
use super::short::{Short, ShortForm};
use super::text::text;
use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::codec::moment::{Format, TimeForm};
use crate::codec::path::Path;
use crate::codec::zone::Zone;
use crate::config::component::Mistake;
use crate::config::timezone::Timezone;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Record, Value};

/// A map from fields to the type that their values should have: `int`, `float`, `bool`, `string`, `timestamp`, or a map with
/// more settings. Missing fields and null values stay unchanged. White space around a string is ignored.
///
/// - `int`: whole numbers from -9223372036854775808 to 18446744073709551615. A fraction is cut off, not rounded: `3.9`, `"3.9"`
///   and `39e-1` become 3. `true` becomes 1 and `false` becomes 0.
/// - `float`: numbers that a double can hold, with all their digits. Whole numbers get `.0`, so that their type is visible.
///   `1e400`, `inf` and `nan` fail.
/// - `bool`: `true`, `t`, `yes`, `y`, `on` and `1`, or `false`, `f`, `no`, `n`, `off` and `0`, in upper or lower case. Of
///   numbers, 0 is false and all others are true.
/// - `string`: a number or boolean as written in the event, an object or array as its JSON.
/// - `timestamp`: RFC 3339 in UTC, with as many fractional digits as the value had. `format` says how a string is read; by
///   default it is RFC 3339, or a number since 1970 in the unit that its size suggests. These values fail: times outside the
///   years 1 to 9999, leap seconds (`:60`), and 29 February without a year if neither last year, nor this year, nor next year
///   is a leap year.
///
/// If a value cannot be converted, the failure is counted, and `on_fail` decides what happens.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Pairs<Short<Conversion>>);

/// The settings of one field.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conversion {
    /// The type to convert to.
    pub to: Kind,
    /// The format of a timestamp: `auto`, `rfc3339`, `rfc2822`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, or a strftime format
    /// such as `"%d/%b/%Y:%H:%M:%S %z"`. Without a year, Tailwater chooses the year that puts the time at most one day after
    /// the time at which the event was read.
    #[serde(default)]
    pub format: Option<String>,
    /// The time zone of timestamps that do not name one: `Europe/Berlin`, `"+02:00"`, `UTC`, `local`. By default, that of the
    /// input or of the process.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    /// What happens to a value that cannot be converted.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// The types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ConversionKind")]
pub enum Kind {
    Int,
    Float,
    Bool,
    String,
    Timestamp,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Int => "an int",
            Kind::Float => "a float",
            Kind::Bool => "a bool",
            Kind::String => "a string",
            Kind::Timestamp => "a timestamp",
        })
    }
}

impl Conversion {
    fn form(&self, zone: &Zone) -> TimeForm {
        let format = self.format.as_deref().and_then(|text| Format::parse(text).ok()).unwrap_or_default();
        TimeForm { format, zone: self.timezone.as_ref().map_or(zone, |Timezone(zone)| zone).clone() }
    }
}

impl ShortForm for Conversion {
    const EXPECTED: &'static str = "a type such as int, or a map such as {to: timestamp, format: unix_ms}";
    type Word = Kind;
    fn of(to: Kind) -> Conversion {
        Conversion { to, format: None, timezone: None, on_fail: OnFail::Keep }
    }
}

/// What happens to a value that cannot be converted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFail {
    /// The value stays unchanged.
    #[default]
    Keep,
    /// The field is removed.
    Remove,
    /// The value becomes null.
    Null,
    /// The event is dropped.
    Drop,
    /// The event goes to the dead letter queue.
    DeadLetter,
}

impl OnFail {
    /// Applies the setting to a field.
    fn settle(self, field: &mut Field, record: &mut Record<'_>) -> Verdict {
        match self {
            OnFail::Keep => {}
            OnFail::Remove => field.place.remove(record),
            OnFail::Null => drop(field.place.put(record, b"null")),
            OnFail::Drop => return Verdict::Drop,
            OnFail::DeadLetter => {
                let Field { path, to, .. } = field;
                record.give_up(Settings::NAME, format_args!("{path} cannot be read as {to}"));
                return Verdict::DeadLetter;
            }
        }
        Verdict::Keep
    }
}

/// The names of the choices.
const ON_FAIL: &[&str] = &["keep", "remove", "null", "drop", "dead_letter"];

impl<'de> Deserialize<'de> for OnFail {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<OnFail, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = OnFail;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one of keep, remove, null, drop, dead_letter")
            }
            fn visit_str<E: Error>(self, word: &str) -> Result<OnFail, E> {
                match word {
                    "keep" => Ok(OnFail::Keep),
                    "remove" => Ok(OnFail::Remove),
                    "null" => Ok(OnFail::Null),
                    "drop" => Ok(OnFail::Drop),
                    "dead_letter" => Ok(OnFail::DeadLetter),
                    _ => Err(E::unknown_variant(word, ON_FAIL)),
                }
            }
            // The word without quotes is YAML's null.
            fn visit_unit<E: Error>(self) -> Result<OnFail, E> {
                Ok(OnFail::Null)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl Serialize for OnFail {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(ON_FAIL[*self as usize])
    }
}

impl JsonSchema for OnFail {
    fn schema_name() -> Cow<'static, str> {
        "ConversionOnFail".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"enum": ["keep", "remove", "null", "drop", "dead_letter", null]})
    }
}

impl Verb for Settings {
    const NAME: &'static str = "convert";
    const SUMMARY: &'static str = "converts values to another type";
    const EXAMPLE: &'static str = "convert:\n  status: int\n  took: {to: float, on_fail: remove}\n  \
                                   time: {to: timestamp, format: \"%d/%b/%Y:%H:%M:%S %z\"}\n";
    const SAMPLE: &'static str =
        r#"{"time":"23/Nov/2026:11:20:30 +0100","status":"200","took":"n/a","path":"/index.html"}"#;
    const FAILURE: &'static str = "the event is too large for a new value";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = refuse_empty(&self.0.0, "nothing would be converted", "convert: {status: int}");
        for (path, Short(conversion)) in &self.0.0 {
            let to = format!("{path}.to");
            if conversion.timezone.is_some() && conversion.to != Kind::Timestamp {
                let help = "remove it, or write `to: timestamp`";
                let what = "`timezone` applies only to timestamps";
                mistakes.push(Mistake::new(format!("{path}.timezone"), what, help).needing(&[&to]));
            }
            let Some(format) = &conversion.format else { continue };
            let key = format!("{path}.format");
            let help = "write a format such as `unix_ms` or \"%d/%b/%Y:%H:%M:%S %z\", together with `to: timestamp`";
            match Format::parse(format) {
                Err(what) => mistakes.push(Mistake::new(key, what, help)),
                Ok(_) if conversion.to == Kind::Timestamp => {}
                Ok(_) => {
                    let what = "`format` applies only to timestamps";
                    mistakes.push(Mistake::new(key, what, help).needing(&[&to]));
                }
            }
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let fields = self.0.0.iter().map(|(path, Short(conversion))| Field {
            path: path.clone(),
            place: Place::new(path, opening),
            to: conversion.to,
            form: conversion.form(&opening.facts.timezone),
            on_fail: conversion.on_fail,
        });
        Box::new(Convert { fields: fields.collect(), unescaped: Vec::new(), out: Vec::new(), failures: 0 })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let wrong = self.0.0.iter().filter_map(|(path, Short(conversion))| {
            let Conversion { to, format, .. } = conversion;
            let (value, unescaped, out) = (before.get(path)?, &mut Vec::new(), &mut Vec::new());
            match convert(*to, &conversion.form(&Zone::UTC), value, before.timestamp, unescaped, out) {
                Outcome::Same | Outcome::New => None,
                Outcome::Fail => {
                    let format =
                        format.as_ref().map_or_else(String::new, |format| format!(" in the format `{format}`"));
                    Some(format!("{path} cannot be read as {to}{format}: {}", before.shown(path)))
                }
            }
        });
        joined(wrong)
    }
}

struct Field {
    path: Path,
    place: Place,
    to: Kind,
    form: TimeForm,
    on_fail: OnFail,
}

struct Convert {
    fields: Vec<Field>,
    unescaped: Vec<u8>,
    /// The new value.
    out: Vec<u8>,
    failures: u64,
}

/// The result of a conversion.
enum Outcome {
    /// It already has the type.
    Same,
    /// It has a new value.
    New,
    Fail,
}

impl Transform for Convert {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for field in &mut self.fields {
            let Some(value) = field.place.get(record) else { continue };
            self.out.clear();
            let converted =
                match convert(field.to, &field.form, value, record.timestamp, &mut self.unescaped, &mut self.out) {
                    Outcome::Same => true,
                    Outcome::New => field.place.put(record, &self.out),
                    Outcome::Fail => false,
                };
            if !converted {
                self.failures += 1;
                match field.on_fail.settle(field, record) {
                    Verdict::Keep => {}
                    gone => return gone,
                }
            }
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

fn convert(
    to: Kind,
    form: &TimeForm,
    value: Value<'_>,
    now: Timestamp,
    unescaped: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Outcome {
    let (is_text, nested) = match value {
        Value::Text(_) | Value::Json([b'"', ..]) => (true, false),
        Value::Json(json) => (false, matches!(json, [b'{' | b'[', ..])),
    };
    if value == Value::Json(b"null") || is_text && to == Kind::String {
        return Outcome::Same;
    }
    if to == Kind::String {
        push_json(Value::Text(text(value, unescaped)), out);
        return Outcome::New;
    }
    if nested {
        return Outcome::Fail;
    }
    let text = text(value, unescaped);
    let done = match to {
        Kind::Int => int(text, out),
        Kind::Float => float(text, out),
        Kind::Bool => bool(text, is_text, out),
        Kind::String => true,
        Kind::Timestamp => match form.read(text, now) {
            Some(moment) => {
                out.push(b'"');
                moment.push_rfc3339(out);
                out.push(b'"');
                true
            }
            None => false,
        },
    };
    match done {
        false => Outcome::Fail,
        true if value == Value::Json(out) => Outcome::Same,
        true => Outcome::New,
    }
}

fn bool(text: &[u8], is_text: bool, out: &mut Vec<u8>) -> bool {
    const TRUE: [&[u8]; 6] = [b"true", b"t", b"yes", b"y", b"on", b"1"];
    const FALSE: [&[u8]; 6] = [b"false", b"f", b"no", b"n", b"off", b"0"];
    let text = text.trim_ascii();
    let is = |words: [&[u8]; 6]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    let value = match (is(TRUE), is(FALSE)) {
        (true, _) => true,
        (_, true) => false,
        _ if is_text => return false,
        // Of a number only the digits before the exponent say whether it is zero.
        _ => text.iter().take_while(|byte| !matches!(byte, b'e' | b'E')).any(|byte| matches!(byte, b'1'..=b'9')),
    };
    out.extend_from_slice(if value { b"true" } else { b"false" });
    true
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, mistake, one};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn to(kind: &str, value: &str) -> String {
        let out = one(&format!("- convert: {{a: {kind}}}"), &format!("{{\"a\":{value}}}"));
        out.strip_prefix("{\"a\":").and_then(|out| out.strip_suffix('}')).unwrap_or(&out).to_owned()
    }

    #[test]
    fn values_get_the_type_that_is_said() {
        for (kind, value, expected) in [
            ("int", r#"" 12 ""#, "12"),
            ("int", "3.9", "3"),
            ("int", "18446744073709551615", "18446744073709551615"),
            ("int", "true", "1"),
            ("int", r#""\u0031\u0032""#, "12"),
            ("float", "7", "7.0"),
            ("float", r#""1.5e3""#, "1.5e3"),
            ("bool", r#""Yes""#, "true"),
            ("bool", r#""1""#, "true"),
            ("bool", r#""off""#, "false"),
            ("bool", "0.0e5", "false"),
            ("bool", "-2", "true"),
            ("string", "1.50", r#""1.50""#),
            ("string", "true", r#""true""#),
            ("string", r#"{"b": "c"}"#, r#""{\"b\": \"c\"}""#),
            ("timestamp", r#""2026-11-23 10:20:30,5 +0100""#, r#""2026-11-23T09:20:30.5Z""#),
            ("timestamp", "1795429230123", r#""2026-11-23T10:20:30.123Z""#),
            ("{to: timestamp, format: unix}", r#""0""#, r#""1970-01-01T00:00:00Z""#),
            (
                "{to: timestamp, format: \"%d/%b/%Y:%T %z\"}",
                r#""23/Nov/2026:11:20:30 +0100""#,
                r#""2026-11-23T10:20:30Z""#,
            ),
        ] {
            assert_eq!(to(kind, value), expected, "{kind} {value}");
        }
    }

    #[test]
    fn what_is_of_the_type_stays_byte_for_byte() {
        for (kind, value) in [
            ("int", "-42"),
            ("float", "1.50"),
            ("bool", "true"),
            ("string", r#""\u00e9\/""#),
            ("timestamp", r#""2026-11-23T10:20:30.1200Z""#),
            ("int", "null"),
            ("string", "null"),
        ] {
            assert_eq!(to(kind, value), value, "{kind}");
        }
        assert_eq!(one("- convert: {x: int, a.b: int}", r#"{"a":1}"#), r#"{"a":1}"#, "what is missing is not made");
    }

    #[test]
    fn a_failure_is_what_the_configuration_chooses() {
        for (kind, value) in [
            ("int", r#""12a""#),
            ("int", r#""""#),
            ("int", "18446744073709551616"),
            ("float", r#""1e400""#),
            ("bool", r#""maybe""#),
            ("bool", r#""2""#),
            ("timestamp", r#""soon""#),
            ("int", "[1]"),
            ("timestamp", "{}"),
        ] {
            assert_eq!(to(kind, value), value);
            assert_eq!(to(&format!("{{to: {kind}, on_fail: null}}"), value), "null");
            assert_eq!(to(&format!("{{to: {kind}, on_fail: remove}}"), value), r#"{"file":"a.log"}"#);
            assert_eq!(to(&format!("{{to: {kind}, on_fail: drop}}"), value), "dropped");
            let mut bench = Bench::try_new(&format!("- convert: {{a: {kind}}}")).expect("valid");
            bench.event(&format!("{{\"a\":{value}}}"));
            assert_eq!(bench.failures(), 1, "{kind} {value}");
        }
    }

    #[test]
    fn text_events_and_inner_fields_are_converted() {
        assert_eq!(one("- convert: {message: int}", " 17 "), r#"{"message":17}"#);
        assert_eq!(one("- convert: {a.b: int}", r#"{"a":{"b":"1","c":"2"}}"#), r#"{"a":{"b":1,"c":"2"}}"#);
        assert_eq!(one("- convert: {\"a[1]\": int}", r#"{"a":["1","2"]}"#), r#"{"a":["1",2]}"#);
        assert_eq!(one("- convert: {a: {to: int, on_fail: remove}}\n- add: {b: 1}", r#"{"a":"x"}"#), r#"{"b":1}"#);
    }

    #[test]
    fn timestamps_without_a_zone_are_of_the_one_that_is_said() {
        let berlin = "{to: timestamp, timezone: Europe/Berlin, format: \"%F %T\"}";
        assert_eq!(to(berlin, r#""2026-07-29 10:00:00""#), r#""2026-07-29T08:00:00Z""#);
        assert_eq!(to(berlin, r#""2026-10-25 02:30:00""#), r#""2026-10-25T00:30:00Z""#, "it occurs twice");
        assert_eq!(to(berlin, r#""2026-03-29 02:30:00""#), r#""2026-03-29T01:30:00Z""#, "it does not occur");
        assert!(mistake("- convert: {a: {to: int, timezone: UTC}}").contains("`timezone` applies only to timestamps"));
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- convert: {a: integer}").contains("integer"));
        assert!(mistake("- convert: {a: 7}").contains("a type such as int"));
        assert!(mistake("- convert: {a: {to: int, fail: drop}}").contains("fail"));
        assert!(mistake("- convert: {a: {to: int, on_fail: explode}}").contains("explode"));
        assert!(mistake("- convert: {a: {to: timestamp, format: \"%H\"}}").contains("the date is missing"));
        assert!(mistake("- convert: {a: {to: int, format: unix}}").contains("`format` applies only to timestamps"));
    }

    fn leaf() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i32>().prop_map(|value| Value::from(f64::from(value) / 4.0)),
            "[0-9+.e -]{0,6}|true|no|\\PC{0,5}|[\"\\\\é\n]{0,3}".prop_map(Value::from),
        ]
    }

    /// What a conversion is, in other words; none where it fails.
    fn model(kind: &str, value: &Value) -> Option<Value> {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let plain = text.trim_ascii();
        match kind {
            _ if value.is_null() => Some(Value::Null),
            "string" => Some(Value::String(text)),
            "int" if value.is_boolean() || matches!(plain, "true" | "false") => Some(json!(i32::from(plain == "true"))),
            "int" => {
                let whole: i128 = match plain.parse::<i128>() {
                    Ok(whole) => whole,
                    Err(_) => plain.parse::<f64>().ok().filter(|number| number.is_finite())?.trunc() as i128,
                };
                let signed = i64::try_from(whole).map(Value::from);
                signed.or_else(|_| u64::try_from(whole).map(Value::from)).ok()
            }
            _ => {
                let word = plain.to_ascii_lowercase();
                match word.as_str() {
                    "true" | "t" | "yes" | "y" | "on" | "1" => Some(json!(true)),
                    "false" | "f" | "no" | "n" | "off" | "0" => Some(json!(false)),
                    _ => value.as_f64().map(|number| json!(number != 0.0)),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn conversions_agree_with_the_model(value in leaf(), other in leaf(), kind in "int|bool|string") {
            let event = json!({"a": value, "b": {"a": other}});
            let mut bench = Bench::try_new(&format!("- convert: {{a: {kind}}}\n- remove: [file]")).expect("valid");
            let out: Value = serde_json::from_str(&bench.event(&event.to_string()).expect("kept")).expect("JSON");
            let expected = model(&kind, &value);
            prop_assert_eq!(bench.failures(), u64::from(expected.is_none()));
            prop_assert_eq!(out, json!({"a": expected.unwrap_or(value), "b": {"a": other}}));
        }
    }
}
