//! Strings of events, without escapes.
//!
//! Guarantees: the result is UTF-8; bytes that are not UTF-8, and halves of surrogate pairs, become U+FFFD. A string without
//! escapes is not copied.

use crate::codec::json::unescape_json;
use tailwater_shards::record::Value;

/// The unescaped string; none if the value is not a string.
#[inline]
pub fn string<'a>(value: Value<'a>, scratch: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    match value {
        Value::Json([b'"', body @ .., b'"']) => Some(unescaped(body, scratch)),
        Value::Json(_) => None,
        Value::Text(text) => Some(lossy(text, scratch)),
    }
}

/// The unescaped body of a string.
#[inline]
pub fn unescaped<'a>(body: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if memchr::memchr(b'\\', body).is_none() {
        return body;
    }
    scratch.clear();
    let read = unescape_json(body, scratch);
    debug_assert!(read.is_ok(), "the strings of events have been read before");
    scratch
}

/// The text of any value: of a string without escapes, of any other value its JSON.
pub fn text<'a>(value: Value<'a>, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    match value {
        Value::Json([b'"', body @ .., b'"']) => unescaped(body, scratch),
        Value::Json(json) => json,
        Value::Text(text) => lossy(text, scratch),
    }
}

fn lossy<'a>(text: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
    if std::str::from_utf8(text).is_ok() {
        return text;
    }
    scratch.clear();
    for chunk in text.utf8_chunks() {
        scratch.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            scratch.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    scratch
}
