//! Strings of the configuration in which the values of variables are marked.
//!
//! ```text
//! U+FDD0 reference U+FDD1 value U+FDD2
//! ```
//!
//! Guarantees: code that parses a language (a condition, a template) from such a string sees where a value begins and ends,
//! whatever the value contains. Messages show the reference instead of the value. The three characters are noncharacters, which
//! have no meaning in text, and are removed from values. Most settings are not a language: they get the plain string from
//! [`plain`].

use serde::de::{Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

const OPEN: char = '\u{fdd0}';
const MIDDLE: char = '\u{fdd1}';
const CLOSE: char = '\u{fdd2}';

/// The name of a newtype that the deserializer of the configuration fills with marks.
pub const NEWTYPE: &str = "$marked";

/// Appends a value and its reference, with marks.
pub fn push(reference: &str, value: &str, out: &mut String) {
    let clean = |text: &str| text.replace([OPEN, MIDDLE, CLOSE], "\u{fffd}");
    out.extend([OPEN.to_string(), clean(reference), MIDDLE.to_string(), clean(value), CLOSE.to_string()]);
}

/// The value at the beginning of a text, and the rest.
pub fn value(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix(OPEN)?;
    let (inside, behind) = inside.split_once(CLOSE)?;
    inside.split_once(MIDDLE).map(|(_, value)| (value, behind))
}

/// Finds `pattern` outside the values of variables.
pub fn find(text: &str, pattern: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let found = from + text[from..].find(pattern)?;
        // If the last mark before it is OPEN or MIDDLE, it is inside a reference or value.
        match text[..found].rfind([OPEN, MIDDLE, CLOSE]) {
            Some(mark) if !text[mark..].starts_with(CLOSE) => from = found + text[found..].find(CLOSE)?,
            _ => return Some(found),
        }
    }
}

/// Whether a text contains a value of a variable.
pub fn has_values(text: &str) -> bool {
    text.contains(OPEN)
}

/// The text with the values of variables.
pub fn plain(text: &str) -> Cow<'_, str> {
    replaced(text, |_, value| value)
}

/// The text to show: with references instead of values.
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, |reference, _| reference)
}

/// The text without the values: only what the file contains.
pub fn written(text: &str) -> Cow<'_, str> {
    replaced(text, |_, _| "")
}

/// The text with each value replaced by a harmless one of the same kind: an error that remains is a mistake in the file.
pub fn neutral(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(open) = rest.find(OPEN) {
        out.push_str(&rest[..open]);
        let Some((inside, behind)) = rest[open + OPEN.len_utf8()..].split_once(CLOSE) else { break };
        let (reference, value) = inside.split_once(MIDDLE).unwrap_or((inside, ""));
        let instead = match value.trim() {
            number if number.parse::<i64>().is_ok() => "1",
            number if number.parse::<f64>().is_ok() => "1.5",
            "true" | "false" => "true",
            _ => "x",
        };
        push(reference, instead, &mut out);
        rest = behind;
    }
    out + rest
}

fn replaced<'a>(text: &'a str, choose: impl Fn(&'a str, &'a str) -> &'a str) -> Cow<'a, str> {
    let Some(first) = text.find(OPEN) else { return Cow::Borrowed(text) };
    let (mut out, mut rest) = (text[..first].to_owned(), &text[first..]);
    while let Some(inside) = rest.strip_prefix(OPEN) {
        let Some((inside, behind)) = inside.split_once(CLOSE) else { break };
        let (reference, value) = inside.split_once(MIDDLE).unwrap_or((inside, ""));
        out.push_str(choose(reference, value));
        let next = behind.find(OPEN).unwrap_or(behind.len());
        out.push_str(&behind[..next]);
        rest = &behind[next..];
    }
    Cow::Owned(out)
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

/// Deserializes a text with marks.
pub fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    deserializer.deserialize_newtype_struct(NEWTYPE, Text)
}

/// Deserializes an optional text with marks.
pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Optional;
    impl<'de> Visitor<'de> for Optional {
        type Value = Option<String>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }
        fn visit_none<E: Error>(self) -> Result<Option<String>, E> {
            Ok(None)
        }
        fn visit_unit<E: Error>(self) -> Result<Option<String>, E> {
            Ok(None)
        }
        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
            text(deserializer).map(Some)
        }
    }
    deserializer.deserialize_option(Optional)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_told_from_what_the_file_says() {
        let mut text = "a ".to_owned();
        push("${X}", "1\u{fdd2}2", &mut text);
        text.push_str(" b ");
        push("${Y}", "", &mut text);
        assert_eq!((plain(&text).as_ref(), shown(&text).as_ref()), ("a 1\u{fffd}2 b ", "a ${X} b ${Y}"));
        assert_eq!(written(&text), "a  b ");
        assert_eq!(
            value(&text[2..]).map(|(value, behind)| (value, plain(behind).into_owned())),
            Some(("1\u{fffd}2", " b ".to_owned()))
        );
        let braces = |text: &str| find(text, "}}");
        let mut text = "{{ a".to_owned();
        push("${X}", "b }} c", &mut text);
        text.push_str(" }}");
        assert_eq!((braces(&text), braces("}}"), braces("} }")), (Some(text.len() - 2), Some(0), None));
        assert!(has_values(&text) && !has_values("a ${X}") && value("a").is_none());
    }
}
