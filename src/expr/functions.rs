//! The functions of the language: one table of names, operands, results and implementations.
//!
//! Guarantees: `size` and the string tests allocate nothing for an event's own values. Parts of timestamps are in UTC.

use super::check::Type;
use super::error::EvalError;
use super::eval::Scratch;
use super::time::{self, Parts};
use super::value::{Text, Value};
use memchr::memmem;

/// A function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    Size,
    StartsWith,
    EndsWith,
    Contains,
    Matches,
    Int,
    Uint,
    Double,
    String,
    Bool,
    Timestamp,
    Duration,
    Part(Part),
}

/// A part of a timestamp, or the unit in which a duration is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    Month,
    Date,
    DayOfMonth,
    DayOfWeek,
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// `f(x)`.
    Global,
    /// `x.f()`.
    Method,
    /// Either.
    Both,
}

/// A row of the table.
pub(super) struct Row {
    pub name: &'static str,
    pub style: Style,
    /// The types that each operand may have; the receiver of a method is the first.
    pub operands: &'static [&'static [Type]],
    pub result: Type,
    pub example: &'static str,
    pub function: Function,
}

const TEXT: &[Type] = &[Type::String];
const NUMBERS: &[Type] = &[Type::Int, Type::Uint, Type::Double, Type::String];
const MOMENT: &[&[Type]] = &[&[Type::Timestamp]];
const CLOCK: &[&[Type]] = &[&[Type::Timestamp, Type::Duration]];

const fn row(
    name: &'static str,
    style: Style,
    operands: &'static [&'static [Type]],
    result: Type,
    example: &'static str,
    function: Function,
) -> Row {
    Row { name, style, operands, result, example, function }
}

const fn part(name: &'static str, operands: &'static [&'static [Type]], part: Part) -> Row {
    let example = "timestamp(time).getHours() >= 22";
    row(name, Style::Method, operands, Type::Int, example, Function::Part(part))
}

/// Every function but `has` and the macros, which are part of the grammar.
pub(super) const FUNCTIONS: [Row; 22] = [
    row("size", Style::Both, &[&[Type::String, Type::List, Type::Map]], Type::Int, "size(tags) > 3", Function::Size),
    row("startsWith", Style::Method, &[TEXT, TEXT], Type::Bool, "message.startsWith(\"GET\")", Function::StartsWith),
    row("endsWith", Style::Method, &[TEXT, TEXT], Type::Bool, "path.endsWith(\".png\")", Function::EndsWith),
    row("contains", Style::Method, &[TEXT, TEXT], Type::Bool, "message.contains(\"timeout\")", Function::Contains),
    row("matches", Style::Both, &[TEXT, TEXT], Type::Bool, "message.matches(\"^GET /[0-9]+\")", Function::Matches),
    row(
        "int",
        Style::Global,
        &[&[Type::Int, Type::Uint, Type::Double, Type::String, Type::Timestamp]],
        Type::Int,
        "int(status) >= 500",
        Function::Int,
    ),
    row("uint", Style::Global, &[NUMBERS], Type::Uint, "uint(bytes) > 10u", Function::Uint),
    row("double", Style::Global, &[NUMBERS], Type::Double, "double(took) > 0.5", Function::Double),
    row(
        "string",
        Style::Global,
        &[&[Type::String, Type::Int, Type::Uint, Type::Double, Type::Bool, Type::Timestamp, Type::Duration]],
        Type::String,
        "string(status).startsWith(\"5\")",
        Function::String,
    ),
    row("bool", Style::Global, &[&[Type::Bool, Type::String]], Type::Bool, "bool(cached)", Function::Bool),
    row(
        "timestamp",
        Style::Global,
        &[&[Type::String, Type::Int, Type::Timestamp]],
        Type::Timestamp,
        "timestamp(time) > timestamp(\"2026-01-01T00:00:00Z\")",
        Function::Timestamp,
    ),
    row(
        "duration",
        Style::Global,
        &[&[Type::String, Type::Duration]],
        Type::Duration,
        "duration(took) > duration(\"1m30s\")",
        Function::Duration,
    ),
    part("getFullYear", MOMENT, Part::FullYear),
    part("getMonth", MOMENT, Part::Month),
    part("getDate", MOMENT, Part::Date),
    part("getDayOfMonth", MOMENT, Part::DayOfMonth),
    part("getDayOfWeek", MOMENT, Part::DayOfWeek),
    part("getDayOfYear", MOMENT, Part::DayOfYear),
    part("getHours", CLOCK, Part::Hours),
    part("getMinutes", CLOCK, Part::Minutes),
    part("getSeconds", CLOCK, Part::Seconds),
    part("getMilliseconds", CLOCK, Part::Milliseconds),
];

impl Function {
    /// The name for messages.
    pub fn name(self) -> &'static str {
        FUNCTIONS.iter().find(|row| row.function == self).map_or("a function", |row| row.name)
    }

    /// The result for one operand.
    pub fn call_one<'a>(self, value: Value<'a>) -> Result<Value<'a>, EvalError> {
        let wrong = || Err(EvalError::NoSuchOverload(self.name()));
        match self {
            Function::Size => Ok(Value::Int(match &value {
                Value::String(text) => text.characters() as i64,
                Value::List(list) => list.len() as i64,
                Value::Map(map) => map.len() as i64,
                _ => return wrong(),
            })),
            Function::Int => to_int(value).map(Value::Int),
            Function::Uint => to_uint(value).map(Value::Uint),
            Function::Double => to_double(value).map(Value::Double),
            Function::String => to_string(value),
            Function::Bool => to_bool(value).map(Value::Bool),
            Function::Timestamp => to_timestamp(value).map(Value::Timestamp),
            Function::Duration => match value {
                Value::Duration(_) => Ok(value),
                Value::String(text) => {
                    let nanos = std::str::from_utf8(&text.decoded()).ok().and_then(time::read_duration);
                    nanos.map(Value::Duration).ok_or(EvalError::Conversion("a duration"))
                }
                _ => wrong(),
            },
            Function::Part(part) => match value {
                Value::Timestamp(nanos) => Ok(Value::Int(part.of_moment(&Parts::of(nanos)))),
                Value::Duration(nanos) => part.of_duration(nanos).map(Value::Int),
                _ => wrong(),
            },
            Function::StartsWith | Function::EndsWith | Function::Contains | Function::Matches => wrong(),
        }
    }

    /// The result of a string test.
    pub fn test(self, text: &Value<'_>, other: &Value<'_>, scratch: &mut Scratch) -> Result<bool, EvalError> {
        let (Value::String(text), Value::String(other)) = (text, other) else {
            return Err(EvalError::NoSuchOverload(self.name()));
        };
        let Scratch { left, right, .. } = scratch;
        let other = other.read(right);
        Ok(match self {
            Function::StartsWith => text.starts_with(other),
            Function::EndsWith => text.read(left).ends_with(other),
            Function::Contains => memmem::find(text.read(left), other).is_some(),
            _ => return Err(EvalError::NoSuchOverload(self.name())),
        })
    }
}

impl Part {
    fn of_moment(self, parts: &Parts) -> i64 {
        match self {
            Part::FullYear => i64::from(parts.year),
            Part::Month => i64::from(parts.month) - 1,
            Part::Date => i64::from(parts.day),
            Part::DayOfMonth => i64::from(parts.day) - 1,
            Part::DayOfWeek => parts.weekday(),
            Part::DayOfYear => parts.day_of_year(),
            Part::Hours => i64::from(parts.hour),
            Part::Minutes => i64::from(parts.minute),
            Part::Seconds => i64::from(parts.second),
            Part::Milliseconds => i64::from(parts.nanos / 1_000_000),
        }
    }

    /// The whole duration in the given unit, except milliseconds, which are those of its last second.
    fn of_duration(self, nanos: i128) -> Result<i64, EvalError> {
        let unit = match self {
            Part::Hours => 3_600_000_000_000,
            Part::Minutes => 60_000_000_000,
            Part::Seconds => 1_000_000_000,
            Part::Milliseconds => return Ok((nanos % 1_000_000_000 / 1_000_000) as i64),
            _ => return Err(EvalError::NoSuchOverload("a part of a timestamp")),
        };
        i64::try_from(nanos / unit).map_err(|_| EvalError::Overflow)
    }
}

/// A string as UTF-8 for a conversion; an event's own value is not copied.
fn with_text<T>(text: &Text<'_>, read: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    std::str::from_utf8(&text.decoded()).ok().and_then(read)
}

fn to_int(value: Value<'_>) -> Result<i64, EvalError> {
    match value {
        Value::Int(value) => Ok(value),
        Value::Uint(value) => i64::try_from(value).map_err(|_| EvalError::Overflow),
        // The limits are those of the reference: neither end of the range converts.
        Value::Double(value) if value > i64::MIN as f64 && value < i64::MAX as f64 => Ok(value as i64),
        Value::Double(_) => Err(EvalError::Overflow),
        Value::String(text) => with_text(&text, |text| text.parse().ok()).ok_or(EvalError::Conversion("an int")),
        Value::Timestamp(nanos) => Ok(nanos.div_euclid(1_000_000_000) as i64),
        _ => Err(EvalError::NoSuchOverload("int")),
    }
}

fn to_uint(value: Value<'_>) -> Result<u64, EvalError> {
    match value {
        Value::Uint(value) => Ok(value),
        Value::Int(value) => u64::try_from(value).map_err(|_| EvalError::Overflow),
        Value::Double(value) if value >= 0.0 && value < u64::MAX as f64 => Ok(value as u64),
        Value::Double(_) => Err(EvalError::Overflow),
        Value::String(text) => with_text(&text, |text| text.parse().ok()).ok_or(EvalError::Conversion("a uint")),
        _ => Err(EvalError::NoSuchOverload("uint")),
    }
}

fn to_double(value: Value<'_>) -> Result<f64, EvalError> {
    match value {
        Value::Double(value) => Ok(value),
        Value::Int(value) => Ok(value as f64),
        Value::Uint(value) => Ok(value as f64),
        Value::String(text) => with_text(&text, |text| text.parse().ok()).ok_or(EvalError::Conversion("a double")),
        _ => Err(EvalError::NoSuchOverload("double")),
    }
}

fn to_string(value: Value<'_>) -> Result<Value<'_>, EvalError> {
    let text = match value {
        Value::String(_) => return Ok(value),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        // Very long numbers are written with an exponent.
        Value::Double(value) if value != 0.0 && !(1e-5..1e21).contains(&value.abs()) && value.is_finite() => {
            format!("{value:e}")
        }
        Value::Double(value) => value.to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Timestamp(nanos) => time::write_timestamp(nanos),
        Value::Duration(nanos) => time::write_duration(nanos),
        _ => return Err(EvalError::NoSuchOverload("string")),
    };
    Ok(Value::String(Text::Owned(text.into_bytes())))
}

fn to_bool(value: Value<'_>) -> Result<bool, EvalError> {
    match value {
        Value::Bool(value) => Ok(value),
        Value::String(text) => with_text(&text, |text| match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        })
        .ok_or(EvalError::Conversion("a bool")),
        _ => Err(EvalError::NoSuchOverload("bool")),
    }
}

fn to_timestamp(value: Value<'_>) -> Result<i128, EvalError> {
    match value {
        Value::Timestamp(nanos) => Ok(nanos),
        Value::Int(seconds) => time::timestamp(i128::from(seconds) * 1_000_000_000).ok_or(EvalError::Overflow),
        Value::String(text) => {
            time::read_timestamp(&text.decoded()).ok_or(EvalError::Conversion("a timestamp (RFC 3339)"))
        }
        _ => Err(EvalError::NoSuchOverload("timestamp")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::Program;

    #[test]
    fn every_example_calls_its_function() {
        for row in &FUNCTIONS {
            let compiled = Program::compile(row.example);
            assert!(compiled.is_ok(), "{}: {:?}", row.example, compiled.err());
            let part = matches!(row.function, Function::Part(_));
            assert!(part || row.example.contains(&format!("{}(", row.name)), "{}", row.example);
            assert_eq!(row.function.name(), row.name);
        }
    }
}
