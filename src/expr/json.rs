//! Conversion between JSON and values.
//!
//! Guarantees: an integer that fits an int is an int, one that fits only a uint is a uint, and every other number is a double.
//! Of fields with the same name, the last one counts. Bytes that are not JSON give an error or some value, never a panic.

use super::error::EvalError;
use super::time;
use super::value::{List, Map, Text, Value};
use crate::codec::json::Fields;
use memchr::memchr;
use tailwater_shards::scan::escape_json_into;

/// The value of JSON text.
pub(super) fn value_of(json: &[u8]) -> Result<Value<'_>, EvalError> {
    Ok(match json {
        [b'"', body @ .., b'"'] => Value::String(text_of(body)),
        [b'{', ..] => Value::Map(Map::Json(json)),
        [b'[', ..] => Value::List(List::Json(json)),
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        b"null" => Value::Null,
        _ => return number_of(json).ok_or(EvalError::Malformed),
    })
}

/// The string in the body of a JSON string.
pub(super) fn text_of(body: &[u8]) -> Text<'_> {
    match memchr(b'\\', body) {
        Some(_) => Text::Escaped(body),
        None => Text::Plain(body),
    }
}

fn number_of(json: &[u8]) -> Option<Value<'_>> {
    let (negative, digits) = match json {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !digits.first()?.is_ascii_digit() {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        let step = match digit {
            b'0'..=b'9' => value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit - b'0'))),
            _ => None,
        };
        match step {
            Some(next) => value = next,
            None => return double_of(json),
        }
    }
    match (negative, i64::try_from(value)) {
        (false, Ok(int)) => Some(Value::Int(int)),
        (false, Err(_)) => Some(Value::Uint(value)),
        (true, _) => 0i64.checked_sub_unsigned(value).map(Value::Int).or_else(|| double_of(json)),
    }
}

fn double_of(json: &[u8]) -> Option<Value<'_>> {
    let number = json.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    let text = std::str::from_utf8(json).ok().filter(|_| number)?;
    text.parse().ok().map(Value::Double)
}

/// The fields of an object, sorted by name; of equal names, the last one.
pub(super) fn distinct(json: &[u8]) -> Vec<(Text<'_>, &[u8])> {
    let mut fields: Vec<_> =
        Fields::of(json).into_iter().flatten().map(|(name, value)| (text_of(name), value)).collect();
    // The sort is stable: after reversing, the last of equal names comes first.
    fields.reverse();
    fields.sort_by(|(left, _), (right, _)| left.compare(right));
    fields.dedup_by(|(later, _), (kept, _)| later.equals(kept));
    fields
}

/// The same as values.
pub(super) fn entries(json: &[u8]) -> Result<Vec<(Value<'_>, Value<'_>)>, EvalError> {
    distinct(json).into_iter().map(|(name, value)| Ok((Value::String(name), value_of(value)?))).collect()
}

impl Value<'_> {
    /// Appends the value as JSON: timestamps and durations as strings, NaN and infinities as null.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Int(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Value::Uint(value) => out.extend_from_slice(value.to_string().as_bytes()),
            Value::Double(value) if value.is_finite() => out.extend_from_slice(format!("{value:?}").as_bytes()),
            Value::Double(_) => out.extend_from_slice(b"null"),
            Value::String(text) => write_text(text, out),
            Value::Timestamp(nanos) => write_text(&Text::Owned(time::write_timestamp(*nanos).into_bytes()), out),
            Value::Duration(nanos) => write_text(&Text::Owned(time::write_duration(*nanos).into_bytes()), out),
            Value::List(List::Json(json)) | Value::Map(Map::Json(json)) => out.extend_from_slice(json),
            Value::List(List::Shared(values)) => write_list(values, out),
            Value::List(List::Built(values)) => write_list(values, out),
            Value::Map(Map::Shared(entries)) => write_map(entries, out),
            Value::Map(Map::Built(entries)) => write_map(entries, out),
        }
    }
}

fn write_text(text: &Text<'_>, out: &mut Vec<u8>) {
    out.push(b'"');
    match text {
        Text::Escaped(body) => out.extend_from_slice(body),
        Text::Plain(bytes) => write_lossy(bytes, out),
        Text::Owned(bytes) => write_lossy(bytes, out),
    }
    out.push(b'"');
}

/// JSON must be UTF-8, so invalid bytes become U+FFFD.
fn write_lossy(bytes: &[u8], out: &mut Vec<u8>) {
    for chunk in bytes.utf8_chunks() {
        escape_json_into(chunk.valid().as_bytes(), out);
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
}

fn write_list(values: &[Value<'_>], out: &mut Vec<u8>) {
    out.push(b'[');
    for (number, value) in values.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        value.write_json(out);
    }
    out.push(b']');
}

fn write_map(entries: &[(Value<'_>, Value<'_>)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (number, (key, value)) in entries.iter().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        match key {
            Value::String(name) => write_text(name, out),
            other => {
                out.push(b'"');
                other.write_json(out);
                out.push(b'"');
            }
        }
        out.push(b':');
        value.write_json(out);
    }
    out.push(b'}');
}
