//! Reasons: what a verb tells people about an event on which it could not do its work, or which it let go.
//!
//! Guarantees: a reason says which field, what it holds, shortened, and what was expected. It is made anew from the fields that the
//! event had before the verb, and only when somebody asks: the way of events neither makes nor keeps it.

use crate::codec::json::Elements;
use crate::codec::path::{Path, Segment};
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Value;

/// An event as it was before a verb.
pub struct Before<'a> {
    /// The JSON at a path.
    pub find: &'a dyn Fn(&Path) -> Option<&'a [u8]>,
    /// When it happened.
    pub timestamp: Timestamp,
}

impl<'a> Before<'a> {
    /// The value at a path.
    pub fn get(&self, path: &Path) -> Option<Value<'a>> {
        (self.find)(path).map(Value::Json)
    }

    /// The value at a path for people, shortened.
    pub fn shown(&self, path: &Path) -> String {
        (self.find)(path).map_or_else(|| "nothing".to_owned(), shortened)
    }
}

/// Bytes of a value that a reason shows.
const VALUE_BYTES_MAX: usize = 60;

/// The beginning of a value.
fn shortened(json: &[u8]) -> String {
    let text = String::from_utf8_lossy(json);
    match text.len() {
        0..=VALUE_BYTES_MAX => text.into_owned(),
        _ => format!("{}...", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]),
    }
}

/// One text of several reasons; none of none.
pub fn joined(reasons: impl Iterator<Item = String>) -> Option<String> {
    let reasons: Vec<String> = reasons.collect();
    (!reasons.is_empty()).then(|| reasons.join("; "))
}

/// Why no value can be put at a path; none if nothing is in the way.
pub fn in_the_way(path: &Path, before: &Before<'_>) -> Option<String> {
    let mut above = Path::field(path.first());
    for (number, step) in path.rest().iter().enumerate() {
        let Some(json) = (before.find)(&above) else {
            // Objects are made on the way, lists are not.
            let list = path.rest()[number..].iter().find(|step| matches!(step, Segment::Index(_)));
            return list.map(|_| format!("{path} cannot be set: a list on its way is missing"));
        };
        let found = match step {
            Segment::Field(_) if !json.starts_with(b"{") => "no object".to_owned(),
            Segment::Index(index) => match Elements::of(json).map(Iterator::count) {
                None => "no list".to_owned(),
                Some(count) if *index > count => format!("a list of {count}"),
                Some(_) => String::new(),
            },
            Segment::Field(_) => String::new(),
        };
        if !found.is_empty() {
            return Some(format!("{path} cannot be set: {above} is {found}: {}", shortened(json)));
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
        in_the_way(path, &Before { find: &|path| find_path(json.as_bytes(), path.rest()), timestamp: Timestamp(0) })
    }

    #[test]
    fn values_are_shown_as_far_as_people_read_them() {
        assert_eq!(shortened(b"\"short\""), "\"short\"");
        assert_eq!(shortened(format!("\"{}\"", "é".repeat(60)).as_bytes()), format!("\"{}...", "é".repeat(29)));
        let path = Path::parse("a.b.c").expect("a path");
        assert_eq!(why(r#"{"b":"x"}"#, &path).as_deref(), Some("a.b.c cannot be set: a.b is no object: \"x\""));
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
