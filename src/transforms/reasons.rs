//! Reasons: why a transform failed on an event, or dropped it, for people.
//!
//! Guarantees: a reason names the field, its value (shortened), and what was expected. It is computed from the fields that the
//! event had before the transform, and only on request: normal processing neither computes nor stores it.

use super::condition::KnownOrigin;
use crate::codec::json::Elements;
use crate::codec::path::{Path, Segment};
use tailwater_shards::counted::counted;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Value;

/// An event as it was before a transform.
pub struct Before<'a> {
    /// The JSON at a path.
    pub find: &'a dyn Fn(&Path) -> Option<&'a [u8]>,
    /// The names of its fields.
    pub names: &'a dyn Fn() -> Vec<String>,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Where it came from.
    pub origin: &'a KnownOrigin,
}

impl<'a> Before<'a> {
    /// The value at a path.
    pub fn get(&self, path: &Path) -> Option<Value<'a>> {
        (self.find)(path).map(Value::Json)
    }

    /// The value at a path for people, shortened.
    pub fn shown(&self, path: &Path) -> String {
        (self.find)(path).map_or_else(|| "missing".to_owned(), shortened)
    }
}

/// The number of bytes of a value that a reason shows.
const VALUE_BYTES_MAX: usize = 60;

/// The beginning of a value.
fn shortened(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    match text.len() {
        0..=VALUE_BYTES_MAX => text.into_owned(),
        _ => format!("{}...", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]),
    }
}

/// Joins several reasons; none if there are none.
pub fn joined(reasons: impl Iterator<Item = String>) -> Option<String> {
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Why no value can be written to a path; none if it can.
pub fn in_the_way(path: &Path, before: &Before<'_>) -> Option<String> {
    let mut above = Path::field(path.first());
    for (number, step) in path.rest().iter().enumerate() {
        let Some(json) = (before.find)(&above) else {
            // Missing objects are created, missing arrays are not.
            let list = path.rest()[number..].iter().find(|step| matches!(step, Segment::Index(_)));
            return list.map(|_| format!("{path} cannot be written: an array in its path is missing"));
        };
        let found = match step {
            Segment::Field(_) if !json.starts_with(b"{") => "not an object".to_owned(),
            Segment::Index(index) => match Elements::of(json).map(Iterator::count) {
                None => "not an array".to_owned(),
                Some(count) if *index > count => format!("an array with {}", counted(count, "element")),
                Some(_) => String::new(),
            },
            Segment::Field(_) => String::new(),
        };
        if !found.is_empty() {
            return Some(format!("{path} cannot be written: {above} is {found}: {}", shortened(json)));
        }
        above = above.then(step.clone());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::path::find_path;
    use crate::codec::rewrite::put;
    use proptest::prelude::*;

    /// Why nothing can be put at a path below the field `a`, which holds this.
    fn why(json: &str, path: &Path) -> Option<String> {
        in_the_way(
            path,
            &Before {
                find: &|path| find_path(json.as_bytes(), path.rest()),
                names: &Vec::new,
                timestamp: Timestamp(0),
                origin: &KnownOrigin::default(),
            },
        )
    }

    #[test]
    fn values_are_shown_as_far_as_people_read_them() {
        assert_eq!(shortened(b"\"short\""), "\"short\"");
        assert_eq!(shortened(format!("\"{}\"", "é".repeat(60)).as_bytes()), format!("\"{}...", "é".repeat(29)));
        let path = Path::parse("a.b.c").expect("a path");
        assert_eq!(why(r#"{"b":"x"}"#, &path).as_deref(), Some("a.b.c cannot be written: a.b is not an object: \"x\""));
    }

    proptest! {
        #[test]
        fn something_is_in_the_way_exactly_if_nothing_can_be_put(
            json in r#"\{\}|\[\]|7|"x"|\{"b":(1|\[1,\{\}\]|\{"c":\[\]\})\}|\[\{"b":1\},\[2\]\]"#,
            steps in proptest::collection::vec("\\.[bc]|\\[[012]\\]", 1..4),
        ) {
            let path = Path::parse(&format!("a{}", steps.concat())).expect("a path");
            let is_put = put(json.as_bytes(), path.rest(), b"1", &mut Vec::new());
            prop_assert_eq!(why(&json, &path).is_none(), is_put, "{} {}", json, path);
        }
    }
}
