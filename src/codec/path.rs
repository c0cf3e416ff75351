//! Paths to values inside an event, as the configuration writes them, and how to follow them in raw JSON.
//!
//! ```text
//! http.status   labels["a.b"]   items[0].name   ["@timestamp"]   @timestamp   user-agent
//! ```
//!
//! An unquoted name contains letters, digits, `_`, `-` and `@`; any other name is written in brackets and quotes. A displayed
//! path parses as the same path. [`find_path`] never panics, whatever the bytes are, and allocates nothing; it does not validate
//! JSON.

use super::json::{Elements, find_last_field};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// The most steps of a path; the parser rejects JSON that is nested more deeply.
pub const SEGMENTS_MAX: usize = 64;

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Into an object: the field with this unescaped name.
    Field(String),
    /// Into an array: the element at this index, from 0.
    Index(usize),
}

/// A path from an event to a value inside it. It has at least one segment and begins with a name, since an event is an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path {
    segments: Vec<Segment>,
}

/// A string that is not a valid path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}: {help}")]
pub struct PathError {
    /// The byte where the error is; the length of the string if something is missing at its end.
    pub at: usize,
    /// What is wrong.
    pub what: String,
    /// The likely cause and what to write instead.
    pub help: String,
}

impl Path {
    /// The path to one field of the event, whatever its name is.
    pub fn field(name: impl Into<String>) -> Path {
        Path { segments: vec![Segment::Field(name.into())] }
    }

    /// The path with one more step.
    pub fn then(mut self, segment: Segment) -> Path {
        self.segments.push(segment);
        self
    }

    /// Parses a path as the configuration writes it.
    pub fn parse(text: &str) -> Result<Path, PathError> {
        let mut reader = Reader { text, at: 0 };
        let mut segments = vec![reader.first()?];
        while let Some(segment) = reader.next()? {
            segments.push(segment);
            if segments.len() > SEGMENTS_MAX {
                let what = format!("a path of more than {SEGMENTS_MAX} steps");
                return Err(PathError { at: reader.at, what, help: "no event is nested that deeply".to_owned() });
            }
        }
        Ok(Path { segments })
    }

    /// All steps.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The top-level field that the path begins with.
    pub fn first(&self) -> &str {
        match &self.segments[0] {
            Segment::Field(name) => name,
            Segment::Index(_) => unreachable!("a path begins with a name"),
        }
    }

    /// The steps below the top-level field; empty if the path is that field.
    pub fn rest(&self) -> &[Segment] {
        &self.segments[1..]
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Path, PathError> {
        Path::parse(text)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, segment) in self.segments.iter().enumerate() {
            match segment {
                Segment::Index(index) => write!(f, "[{index}]")?,
                Segment::Field(name) if !name.is_empty() && name.chars().all(is_bare) => {
                    f.write_str(if number == 0 { "" } else { "." })?;
                    f.write_str(name)?;
                }
                Segment::Field(name) => write_quoted(f, name)?,
            }
        }
        Ok(())
    }
}

struct PathVisitor;

impl Visitor<'_> for PathVisitor {
    type Value = Path;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a path such as message, http.status or labels[\"a.b\"]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Path, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Path, D::Error> {
        deserializer.deserialize_str(PathVisitor)
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Path {
    fn schema_name() -> Cow<'static, str> {
        "Path".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 1})
    }
}

/// Whether an unquoted name may contain this character.
pub fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '@')
}

fn write_quoted(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    f.write_str("[\"")?;
    for c in name.chars() {
        match c {
            '"' | '\\' => write!(f, "\\{c}")?,
            '\n' => f.write_str("\\n")?,
            '\t' => f.write_str("\\t")?,
            '\r' => f.write_str("\\r")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"]")
}

/// Parses the text of a path.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn wrong<T>(&self, what: impl Into<String>, help: impl Into<String>) -> Result<T, PathError> {
        Err(PathError { at: self.at, what: what.into(), help: help.into() })
    }

    fn first(&mut self) -> Result<Segment, PathError> {
        match self.rest().chars().next() {
            None => self.wrong("an empty path", "write the name of a field, such as `message` or `http.status`"),
            Some('.') => self.wrong("a path that begins with a dot", "write the name without the dot: `http.status`"),
            Some('[') => match self.bracket()? {
                field @ Segment::Field(_) => Ok(field),
                Segment::Index(_) => {
                    self.at = 0;
                    self.wrong(
                        "a path that begins with an index",
                        "an event is an object: begin with the name of a field",
                    )
                }
            },
            Some(_) => self.bare(),
        }
    }

    fn next(&mut self) -> Result<Option<Segment>, PathError> {
        match self.rest().chars().next() {
            None => Ok(None),
            Some('[') => self.bracket().map(Some),
            Some('.') => {
                self.at += 1;
                self.bare().map(Some)
            }
            Some(c) => self.wrong(
                format!("`{}` in a name", c.escape_default()),
                "put names with characters other than letters, digits, `_`, `-`, `@` in brackets: `labels[\"a b\"]`",
            ),
        }
    }

    fn bare(&mut self) -> Result<Segment, PathError> {
        let length = self.rest().find(|c| !is_bare(c)).unwrap_or(self.rest().len());
        if length == 0 {
            return self.wrong(
                "a name is missing",
                "write a name between two dots; put a name with dots or spaces in brackets: `labels[\"a.b\"]`",
            );
        }
        let name = self.rest()[..length].to_owned();
        self.at += length;
        Ok(Segment::Field(name))
    }

    fn bracket(&mut self) -> Result<Segment, PathError> {
        self.at += 1;
        let segment = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.quoted(quote)?,
            Some('0'..='9') => self.index()?,
            _ => return self.wrong("neither a quoted name nor an index", "write `labels[\"a.b\"]` or `items[0]`"),
        };
        if !self.rest().starts_with(']') {
            return self.wrong("`]` is missing", "close the bracket");
        }
        self.at += 1;
        Ok(segment)
    }

    fn index(&mut self) -> Result<Segment, PathError> {
        let length = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
        match self.rest()[..length].parse() {
            Ok(index) => {
                self.at += length;
                Ok(Segment::Index(index))
            }
            Err(_) => self.wrong("an index that is too large", "write a smaller number"),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Segment, PathError> {
        let begun = self.at;
        self.at += 1;
        let mut name = String::new();
        loop {
            let Some(c) = self.rest().chars().next() else {
                self.at = begun;
                return self.wrong("a quote that is not closed", format!("write `{quote}` and `]` after the name"));
            };
            if c == '\\' {
                name.push(self.escape()?);
                continue;
            }
            self.at += c.len_utf8();
            if c == quote {
                return Ok(Segment::Field(name));
            }
            name.push(c);
        }
    }

    fn escape(&mut self) -> Result<char, PathError> {
        let (character, length) = match self.rest().as_bytes().get(1) {
            Some(b'n') => ('\n', 2),
            Some(b't') => ('\t', 2),
            Some(b'r') => ('\r', 2),
            Some(byte @ (b'"' | b'\'' | b'\\')) => (char::from(*byte), 2),
            Some(b'u') => {
                let digits = self.rest().get(2..6).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
                match digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).and_then(char::from_u32) {
                    Some(character) => (character, 6),
                    None => return self.wrong("an invalid `\\u` escape", "write four hexadecimal digits after `\\u`"),
                }
            }
            _ => return self.wrong("an unknown escape", "to write a backslash, write it twice"),
        };
        self.at += length;
        Ok(character)
    }
}

/// The value at `rest` in the JSON value `json`: a slice of it; strings include their quotes. If several fields have the same
/// name, the last one counts.
pub fn find_path<'a>(json: &'a [u8], rest: &[Segment]) -> Option<&'a [u8]> {
    rest.iter().try_fold(json, |value, segment| match segment {
        Segment::Field(name) => find_last_field(value, name.as_bytes()),
        Segment::Index(index) => Elements::of(value)?.nth(*index),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn field(name: &str) -> Segment {
        Segment::Field(name.to_owned())
    }

    #[test]
    fn paths_read_as_they_are_spelled() {
        for (text, segments) in [
            ("message", vec![field("message")]),
            ("http.status", vec![field("http"), field("status")]),
            ("labels[\"a.b\"].c", vec![field("labels"), field("a.b"), field("c")]),
            ("items[0][12]", vec![field("items"), Segment::Index(0), Segment::Index(12)]),
            ("[\"@timestamp\"]", vec![field("@timestamp")]),
            ("@timestamp.user-agent", vec![field("@timestamp"), field("user-agent")]),
            ("a['b\"c']", vec![field("a"), field("b\"c")]),
            (r#"a["\u00e9\n\"\\"]"#, vec![field("a"), field("é\n\"\\")]),
            ("[\"\"]", vec![field("")]),
            ("größe.0", vec![field("größe"), field("0")]),
        ] {
            let path = Path::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(path.segments(), segments, "{text}");
            assert_eq!(Path::parse(&path.to_string()).as_ref(), Ok(&path), "{text}");
        }
        assert_eq!(Path::parse("a.b[0]").expect("a path").first(), "a");
        assert_eq!(Path::parse("a.b[0]").expect("a path").rest(), [field("b"), Segment::Index(0)]);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        for (text, at, what) in [
            ("", 0, "an empty path"),
            (".a", 0, "a path that begins with a dot"),
            ("a.", 2, "a name is missing"),
            ("a..b", 2, "a name is missing"),
            ("a b", 1, "` ` in a name"),
            ("a[", 2, "neither a quoted name nor an index"),
            ("a[b]", 2, "neither a quoted name nor an index"),
            ("a[0", 3, "`]` is missing"),
            ("a[-1]", 2, "neither a quoted name nor an index"),
            ("a[99999999999999999999]", 2, "an index that is too large"),
            ("a[\"b]", 2, "a quote that is not closed"),
            ("a[\"\\x\"]", 3, "an unknown escape"),
            ("a[\"\\ud800\"]", 3, "an invalid `\\u` escape"),
            ("a[\"\\u+0ff\"]", 3, "an invalid `\\u` escape"),
            ("[0].a", 0, "a path that begins with an index"),
        ] {
            let error = Path::parse(text).expect_err(text);
            assert_eq!((error.at, error.what.as_str()), (at, what), "{text}");
        }
        assert!(Path::parse(&"a.".repeat(SEGMENTS_MAX + 1)).is_err());
    }

    #[test]
    fn settings_read_paths_and_refuse_what_is_none() {
        let read = |text: &str| serde_json::from_str::<Path>(text);
        let path = read(r#""labels[\"a.b\"]""#).expect("a path");
        assert_eq!(serde_json::to_string(&path).expect("text"), r#""labels[\"a.b\"]""#);
        let error = read(r#""a..b""#).expect_err("no path").to_string();
        assert!(error.starts_with("a name is missing at byte 2"), "{error}");
    }

    #[test]
    fn last_of_equal_names_is_found_whatever_its_spelling() {
        let json = br#"{"a":{"b":1,"\u0062":[0,{"c":"x\"]"}],"z":{}},"d":[]}"#;
        let found = |text: &str| {
            let path = Path::parse(text).expect("a path");
            find_path(json, path.segments()).map(|value| std::str::from_utf8(value).expect("text"))
        };
        assert_eq!(found("a.b[1].c"), Some(r#""x\"]""#));
        assert_eq!(found("a.b[0]"), Some("0"));
        assert_eq!(found("a.z"), Some("{}"));
        for none in ["a.b.c", "a.b[2]", "d[0]", "d.x", "a[0]", "a.b[0].x", "x"] {
            assert_eq!(found(none), None, "{none}");
        }
        assert_eq!(find_path(b"17", &[]), Some(&b"17"[..]));
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\{}\\[\\],: \né]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map("[ab\"]{0,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn segment() -> impl Strategy<Value = Segment> {
        prop_oneof!["[ab\"]{0,2}".prop_map(Segment::Field), (0usize..4).prop_map(Segment::Index)]
    }

    /// Every value of the tree with its path.
    fn all(value: &serde_json::Value, way: &mut Vec<Segment>, out: &mut Vec<(Vec<Segment>, serde_json::Value)>) {
        out.push((way.clone(), value.clone()));
        let mut below = |segment, inner: &serde_json::Value| {
            way.push(segment);
            all(inner, way, out);
            way.pop();
        };
        match value {
            serde_json::Value::Object(map) => {
                map.iter().for_each(|(name, inner)| below(Segment::Field(name.clone()), inner));
            }
            serde_json::Value::Array(list) => {
                list.iter().enumerate().for_each(|(index, inner)| below(Segment::Index(index), inner));
            }
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn every_value_is_found_where_the_reference_has_it(tree in value(), pretty in any::<bool>()) {
            let json = if pretty { serde_json::to_vec_pretty(&tree) } else { serde_json::to_vec(&tree) }.expect("JSON");
            let mut values = Vec::new();
            all(&tree, &mut Vec::new(), &mut values);
            for (way, expected) in values {
                let found = find_path(&json, &way).expect("it is there");
                prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(found).expect("a value"), expected);
            }
        }

        #[test]
        fn what_the_reference_lacks_is_not_found(tree in value(), way in proptest::collection::vec(segment(), 1..4)) {
            let json = serde_json::to_vec(&tree).expect("JSON");
            let expected = way.iter().try_fold(&tree, |value, segment| match segment {
                Segment::Field(name) => value.as_object()?.get(name),
                Segment::Index(index) => value.as_array()?.get(*index),
            });
            let found = find_path(&json, &way).map(|found| serde_json::from_slice::<serde_json::Value>(found).expect("a value"));
            prop_assert_eq!(found.as_ref(), expected);
        }

        #[test]
        fn any_bytes_are_safe(bytes in "[{}\\[\\]\",:\\\\mu0 x\u{ff}]{0,60}", cut in 0usize..60,
            way in proptest::collection::vec(segment(), 0..4)) {
            let bytes = &bytes.as_bytes()[..cut.min(bytes.len())];
            let _ = find_path(bytes, &way);
        }

        #[test]
        fn any_path_reads_back(names in proptest::collection::vec(("\\PC{0,6}|[\\x00-\\x20\"\\\\'.\\[\\]]{0,4}", any::<Option<u16>>()), 1..5)) {
            let mut path = Path::field(names[0].0.clone());
            for (name, index) in &names[1..] {
                let segment = index.map_or(Segment::Field(name.clone()), |index| Segment::Index(usize::from(index)));
                path = path.then(segment);
            }
            prop_assert_eq!(Path::parse(&path.to_string()), Ok(path));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-b.\\[\\]\"'\\\\u0-9é -]{0,30}") {
            if let Err(error) = Path::parse(&text) {
                prop_assert!(error.at <= text.len());
            }
        }
    }
}
