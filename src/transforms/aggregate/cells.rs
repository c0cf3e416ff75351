//! Cells: the state of one field of the aggregate, for one group.
//!
//! Guarantees: sums of whole numbers are exact as long as they fit into 128 bits. The smallest and the largest number keep
//! their value, but not necessarily their spelling. A value that is not a number is skipped, and the caller is told.

use super::sketch::Sketch;
use crate::codec::path::Path;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Unexpected, Visitor};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::fmt;
use tailwater_shards::record::Value;

/// A function of the values of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Of {
    /// Their sum.
    Sum,
    /// The smallest.
    Min,
    /// The largest.
    Max,
    /// Their mean.
    Avg,
    /// The number below which this fraction of them is.
    Quantile(f64),
}

/// The definition of a field of the aggregate.
#[derive(Clone, Debug, PartialEq)]
pub enum Function {
    /// The number of events.
    Count,
    /// A function of the values of a field.
    Values(Of, Path),
}

impl Of {
    fn named(name: &str) -> Option<Of> {
        Some(match name {
            "sum" => Of::Sum,
            "min" => Of::Min,
            "max" => Of::Max,
            "avg" => Of::Avg,
            "median" => Of::Quantile(0.5),
            _ => {
                let digits = name.strip_prefix('p').filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?;
                let percent: f64 = digits.parse().ok()?;
                (0.0..=100.0).contains(&percent).then_some(Of::Quantile(percent / 100.0))?
            }
        })
    }
}

impl<'de> Deserialize<'de> for Function {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Function, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Function;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("count, or one of {sum: FIELD}, {min: FIELD}, {max: FIELD}, {avg: FIELD}, {p99: FIELD}")
            }
            fn visit_str<E: Error>(self, name: &str) -> Result<Function, E> {
                match name {
                    "count" => Ok(Function::Count),
                    _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Function, A::Error> {
                let Some(name) = map.next_key::<String>()? else {
                    return Err(A::Error::invalid_value(Unexpected::Other("an empty map"), &self));
                };
                let of = Of::named(&name).ok_or_else(|| {
                    let what = "sum, min, max, avg, median, or a percentile such as p50, p99 or p99.9";
                    A::Error::custom(format!("`{name}` is not {what}"))
                })?;
                let path = map.next_value()?;
                match map.next_key::<String>()? {
                    None => Ok(Function::Values(of, path)),
                    Some(second) => Err(A::Error::custom(format!("`{second}` is a second function for one field"))),
                }
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Function {
    fn schema_name() -> Cow<'static, str> {
        "AggregateFunction".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let path = json_schema!({"type": "string", "minLength": 1});
        json_schema!({"anyOf": [
            {"const": "count"},
            {
                "type": "object",
                "properties": {"sum": path, "min": path, "max": path, "avg": path, "median": path},
                "patternProperties": {"^p[0-9]+(\\.[0-9]+)?$": path},
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": false
            }
        ]})
    }
}

/// A number of an event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Without fraction and exponent.
    Whole(i64),
    /// Any other number.
    Real(f64),
}

impl Number {
    /// The value as a number, if it is one.
    pub fn of(value: Value<'_>) -> Option<Number> {
        let Value::Json(json) = value else { return None };
        if !matches!(json.first(), Some(b'-' | b'0'..=b'9')) {
            return None;
        }
        let text = std::str::from_utf8(json).ok()?;
        match text.parse() {
            Ok(whole) => Some(Number::Whole(whole)),
            Err(_) => text.parse().ok().filter(|real: &f64| real.is_finite()).map(Number::Real),
        }
    }

    fn real(self) -> f64 {
        match self {
            Number::Whole(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }

    fn json(self) -> Json {
        match self {
            Number::Whole(whole) => whole.into(),
            Number::Real(real) => real.into(),
        }
    }
}

/// The state of one field.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Events.
    Count(u64),
    /// The sum of whole numbers, the sum of other numbers, and their count.
    Sum { whole: i128, real: f64, count: u64, mean: bool },
    /// The smallest or the largest so far.
    Extreme { number: Option<Number>, greatest: bool },
    /// The approximate distribution of all numbers.
    Quantile(Sketch, f64),
}

impl Cell {
    /// An empty cell.
    pub fn new(function: &Function) -> Cell {
        match function {
            Function::Count => Cell::Count(0),
            Function::Values(Of::Sum, _) => Cell::Sum { whole: 0, real: 0.0, count: 0, mean: false },
            Function::Values(Of::Avg, _) => Cell::Sum { whole: 0, real: 0.0, count: 0, mean: true },
            Function::Values(Of::Min, _) => Cell::Extreme { number: None, greatest: false },
            Function::Values(Of::Max, _) => Cell::Extreme { number: None, greatest: true },
            Function::Values(Of::Quantile(part), _) => Cell::Quantile(Sketch::default(), *part),
        }
    }

    /// Empties it, and keeps its memory.
    pub fn clear(&mut self) {
        match self {
            Cell::Count(events) => *events = 0,
            Cell::Sum { whole, real, count, .. } => (*whole, *real, *count) = (0, 0.0, 0),
            Cell::Extreme { number, .. } => *number = None,
            Cell::Quantile(sketch, _) => sketch.clear(),
        }
    }

    /// Counts an event. False if its value exists but is not a number.
    pub fn add(&mut self, value: Option<Value<'_>>) -> bool {
        if let Cell::Count(events) = self {
            *events += 1;
            return true;
        }
        let Some(value) = value.filter(|value| *value != Value::Json(b"null")) else { return true };
        let Some(number) = Number::of(value) else { return false };
        match self {
            Cell::Count(_) => {}
            Cell::Sum { whole, real, count, .. } => {
                *count += 1;
                match number {
                    Number::Whole(number) => *whole += i128::from(number),
                    Number::Real(number) => *real += number,
                }
            }
            Cell::Extreme { number: best, greatest } => {
                let better = best.is_none_or(|best| match *greatest {
                    true => is_less(best, number),
                    false => is_less(number, best),
                });
                if better {
                    *best = Some(number);
                }
            }
            Cell::Quantile(sketch, _) => sketch.add(number.real()),
        }
        true
    }

    /// Its value: none if there was no number, except for counts and sums.
    pub fn value(&self) -> Option<Json> {
        match self {
            Cell::Count(events) => Some((*events).into()),
            Cell::Sum { count: 0, mean: true, .. } => None,
            Cell::Sum { whole, real, count, mean: true } => Some(((*whole as f64 + real) / *count as f64).into()),
            Cell::Sum { whole, real: 0.0, .. } => match i64::try_from(*whole) {
                Ok(whole) => Some(whole.into()),
                Err(_) => Some((*whole as f64).into()),
            },
            Cell::Sum { whole, real, .. } => Some((*whole as f64 + real).into()),
            Cell::Extreme { number, .. } => number.map(Number::json),
            Cell::Quantile(sketch, part) => sketch.quantile(*part).map(Json::from),
        }
    }
}

fn is_less(one: Number, other: Number) -> bool {
    match (one, other) {
        (Number::Whole(one), Number::Whole(other)) => one < other,
        _ => one.real() < other.real(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(of: Of, values: &[&str]) -> (Option<String>, usize) {
        let mut cell = Cell::new(&Function::Values(of, Path::field("x")));
        let bad = values.iter().filter(|value| !cell.add(Some(Value::Json(value.as_bytes())))).count();
        let value = cell.value().map(|value| value.to_string());
        cell.clear();
        assert_eq!(cell.value(), Cell::new(&Function::Values(of, Path::field("x"))).value());
        (value, bad)
    }

    #[test]
    fn whole_numbers_stay_whole_and_exact() {
        let large = ["9007199254740993", "9007199254740993"];
        assert_eq!(made(Of::Sum, &large).0.as_deref(), Some("18014398509481986"));
        assert_eq!(made(Of::Max, &large).0.as_deref(), Some("9007199254740993"));
        assert_eq!(made(Of::Min, &["9007199254740993", "9007199254740992"]).0.as_deref(), Some("9007199254740992"));
        assert_eq!(made(Of::Sum, &["1", "-3"]).0.as_deref(), Some("-2"));
        assert_eq!(made(Of::Avg, &["1", "2"]).0.as_deref(), Some("1.5"));
        assert_eq!(made(Of::Sum, &["1", "0.5"]).0.as_deref(), Some("1.5"));
        assert_eq!(made(Of::Max, &["1", "0.5", "1e1"]).0.as_deref(), Some("10.0"));
        assert_eq!(made(Of::Sum, &["9223372036854775807", "1"]).0.as_deref(), Some("9.223372036854776e+18"));
    }

    #[test]
    fn what_no_double_can_hold_is_null() {
        for values in [&["1e308", "1e308"][..], &["-1e308", "-1e308", "1"]] {
            assert_eq!(made(Of::Sum, values), (Some("null".to_owned()), 0));
            assert_eq!(made(Of::Avg, values), (Some("null".to_owned()), 0));
        }
        assert_eq!(made(Of::Max, &["1e308", "1e308"]).0.as_deref(), Some("1e+308"));
    }

    #[test]
    fn what_is_no_number_is_left_out() {
        assert_eq!(made(Of::Sum, &["\"1\"", "null", "{}", "1e999", "2"]), (Some("2".to_owned()), 3));
        assert_eq!(made(Of::Sum, &["null"]), (Some("0".to_owned()), 0));
        for of in [Of::Avg, Of::Min, Of::Max, Of::Quantile(0.5)] {
            assert_eq!(made(of, &["null"]).0, None);
        }
    }

    #[test]
    fn percentiles_are_named_by_their_number() {
        assert_eq!(Of::named("p99.9"), Some(Of::Quantile(0.9990000000000001)));
        assert_eq!(Of::named("median"), Some(Of::Quantile(0.5)));
        for none in ["p101", "p", "px", "p-1", "count", "p1e999"] {
            assert_eq!(Of::named(none), None, "{none}");
        }
    }
}
