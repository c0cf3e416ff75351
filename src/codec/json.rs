//! Finds one field of a JSON object, or iterates over all of them, without building a tree.
//!
//! Guarantees: never panics and never reads beyond the line, whatever its bytes are. In valid JSON, the field that is found
//! belongs to the object itself: names inside nested values and strings do not match. Does not validate: in anything else it may
//! find nothing or a part of the line.

use memchr::{memchr, memchr2};

/// A JSON string with an invalid escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a JSON string contains an invalid escape after a backslash")]
pub struct BadEscape;

/// The value of the field `name_escaped` (escaped as in the line) of the object in `line`: a slice of the line; strings include
/// their quotes.
pub fn find_field<'a>(line: &'a [u8], name_escaped: &[u8]) -> Option<&'a [u8]> {
    let found = Fields::of(line)?.find(|(name, _)| *name == name_escaped)?;
    Some(found.1)
}

/// The value of the last field called `name` (unescaped) of the object in `line`.
pub fn find_last_field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    Fields::of(line)?.filter(|(body, _)| body_is(body, name)).last().map(|(_, value)| value)
}

/// The fields of an object in order: each name without its quotes and each value, both still escaped.
pub struct Fields<'a> {
    line: &'a [u8],
    /// Where the next name starts; `None` after the last one, or where the line stops being JSON.
    next: Option<usize>,
}

impl<'a> Fields<'a> {
    /// The fields of the object that `line` begins with, if it begins with one.
    pub fn of(line: &'a [u8]) -> Option<Fields<'a>> {
        let at = skip_space(line, 0);
        (line.get(at) == Some(&b'{')).then_some(Fields { line, next: Some(at + 1) })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, at) = (self.line, skip_space(self.line, self.next.take()?));
        if line.get(at) != Some(&b'"') {
            return None;
        }
        let name_end = string_end(line, at)?;
        let colon = skip_space(line, name_end);
        if line.get(colon) != Some(&b':') {
            return None;
        }
        let value = skip_space(line, colon + 1);
        let end = value_end(line, value)?;
        self.next = behind_comma(line, end);
        Some((&line[at + 1..name_end - 1], &line[value..end]))
    }
}

/// The values of an array in order, still escaped.
pub struct Elements<'a> {
    line: &'a [u8],
    next: Option<usize>,
}

impl<'a> Elements<'a> {
    /// The elements of the array that `line` begins with, if it begins with one.
    pub fn of(line: &'a [u8]) -> Option<Elements<'a>> {
        let at = skip_space(line, 0);
        (line.get(at) == Some(&b'[')).then_some(Elements { line, next: Some(at + 1) })
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<Self::Item> {
        let (line, at) = (self.line, skip_space(self.line, self.next.take()?));
        let end = value_end(line, at)?;
        self.next = behind_comma(line, end);
        Some(&line[at..end])
    }
}

/// The bytes between the quotes of a JSON string; `None` if `value` is not a string.
pub fn string_body(value: &[u8]) -> Option<&[u8]> {
    value.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

/// Appends the unescaped body of a JSON string.
pub fn unescape_json(body: &[u8], out: &mut Vec<u8>) -> Result<(), BadEscape> {
    out.reserve(body.len());
    unescape_pieces(body, |piece| {
        out.extend_from_slice(piece);
        true
    })
}

/// Whether the body of a JSON string equals `text` once it is unescaped. Does not allocate.
pub fn body_is(body: &[u8], text: &[u8]) -> bool {
    let mut rest = Some(text);
    let read = unescape_pieces(body, |piece| {
        rest = rest.and_then(|rest| rest.strip_prefix(piece));
        rest.is_some()
    });
    read.is_ok() && rest.is_some_and(<[u8]>::is_empty)
}

/// Passes the unescaped body to `take` in pieces until `take` returns false. A body with an invalid escape ends at the escape.
pub fn pieces(body: &[u8], take: impl FnMut(&[u8]) -> bool) {
    let _ = unescape_pieces(body, take);
}

/// Passes the unescaped body to `take` in pieces until `take` returns false.
fn unescape_pieces(body: &[u8], mut take: impl FnMut(&[u8]) -> bool) -> Result<(), BadEscape> {
    let mut rest = body;
    while let Some(at) = memchr(b'\\', rest) {
        let (before, escape) = rest.split_at(at);
        let (character, behind) = unescape_one(escape)?;
        if !take(before) || !take(character.encode_utf8(&mut [0; 4]).as_bytes()) {
            return Ok(());
        }
        rest = behind;
    }
    take(rest);
    Ok(())
}

/// The character of the escape (or surrogate pair) at the beginning of `text`, and the rest. A lone surrogate becomes U+FFFD.
fn unescape_one(text: &[u8]) -> Result<(char, &[u8]), BadEscape> {
    let plain = match text.get(1).ok_or(BadEscape)? {
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'b' => '\x08',
        b'f' => '\x0c',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'u' => return unescape_unicode(text),
        _ => return Err(BadEscape),
    };
    Ok((plain, &text[2..]))
}

fn unescape_unicode(text: &[u8]) -> Result<(char, &[u8]), BadEscape> {
    let (first, behind) = unit(text).ok_or(BadEscape)?;
    let (code, rest) = match first {
        0xd800..0xdc00 => match unit(behind) {
            Some((second @ 0xdc00..0xe000, behind)) => (0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00), behind),
            _ => (first, behind),
        },
        _ => (first, behind),
    };
    Ok((char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), rest))
}

/// The code unit of an escape `\uXXXX`, and the rest.
fn unit(text: &[u8]) -> Option<(u32, &[u8])> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    let value = digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))?;
    Some((value, &text[6..]))
}

fn skip_space(line: &[u8], mut at: usize) -> usize {
    while matches!(line.get(at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// The position after the comma that follows the value ending at `end`, if there is a comma.
fn behind_comma(line: &[u8], end: usize) -> Option<usize> {
    let at = skip_space(line, end);
    (line.get(at) == Some(&b',')).then_some(at + 1)
}

/// One past the closing quote of the string whose opening quote is at `at`.
pub(crate) fn string_end(line: &[u8], at: usize) -> Option<usize> {
    let mut from = at + 1;
    loop {
        let found = from + memchr2(b'"', b'\\', line.get(from..)?)?;
        if line[found] == b'"' {
            return Some(found + 1);
        }
        from = found + 2;
    }
}

/// One past the last byte of the value that starts at `at`.
fn value_end(line: &[u8], at: usize) -> Option<usize> {
    match line.get(at)? {
        b'"' => string_end(line, at),
        b'{' | b'[' => nested_end(line, at),
        _ => {
            let length =
                line[at..].iter().position(|byte| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n'))?;
            (length > 0).then_some(at + length)
        }
    }
}

fn nested_end(line: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match line.get(at)? {
            b'"' => at = string_end(line, at)? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' if depth == 1 => return Some(at + 1),
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tailwater_shards::scan::escape_json_into;

    #[test]
    fn field_is_the_objects_own() {
        let line = br#" { "a" : {"m":"inner","x":["}\"",{"m":2}]}, "b":"\"m\":1", "n":-1.5e3, "t":true ,"m":"it","m":"later"}"#;
        let found =
            |name: &str| find_field(line, name.as_bytes()).map(|value| std::str::from_utf8(value).expect("text"));
        assert_eq!(found("m"), Some("\"it\""));
        assert_eq!(found("n"), Some("-1.5e3"));
        assert_eq!(found("t"), Some("true"));
        assert_eq!(found("a"), Some(r#"{"m":"inner","x":["}\"",{"m":2}]}"#));
        assert_eq!(found("b"), Some(r#""\"m\":1""#));
        assert_eq!(found("x"), None);
    }

    #[test]
    fn escapes_read_as_json_reads_them() {
        let text = |body: &str| {
            let mut out = Vec::new();
            unescape_json(body.as_bytes(), &mut out).map(|()| String::from_utf8(out).expect("UTF-8"))
        };
        assert_eq!(text(r#"\"\\\/\b\f\n\r\t\u00e9\ud834\udd1e."#), Ok("\"\\/\u{8}\u{c}\n\r\té𝄞.".to_owned()));
        assert_eq!(text(r"\ud834x\udd1e"), Ok("\u{FFFD}x\u{FFFD}".to_owned()));
        for bad in [r"\", r"\x", r"\u12", r"\u12g4"] {
            assert_eq!(text(bad), Err(BadEscape), "{bad}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            "[a-c\"\\\\{}\\[\\],: \n]{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map("[a-c]{0,2}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn fields_agree_with_the_reference(
            object in proptest::collection::btree_map("[a-c\"]{0,2}", value(), 0..6),
            pretty in any::<bool>(),
        ) {
            let object: serde_json::Map<_, _> = object.into_iter().collect();
            let line = if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.expect("JSON");
            for name in ["", "a", "b", "ab", "\"", "a\"", "z"] {
                let mut escaped = Vec::new();
                escape_json_into(name.as_bytes(), &mut escaped);
                let found = find_field(&line, &escaped).map(|value| serde_json::from_slice(value).expect("a value"));
                prop_assert_eq!(found.as_ref(), object.get(name));
            }
        }

        #[test]
        fn any_bytes_are_safe(line in "[{}\\[\\]\",:\\\\mu0 x\u{ff}]{0,40}", cut in 0usize..40) {
            let line = line.as_bytes();
            let line = &line[..cut.min(line.len())];
            let _ = find_field(line, b"m");
            let _ = unescape_json(line, &mut Vec::new());
        }

        #[test]
        fn escaped_text_comes_back(text in "([ -~]|[\"\\\\]|[\\x00-\\x1f]|ü|€|𝄞){0,80}") {
            let mut body = Vec::new();
            escape_json_into(text.as_bytes(), &mut body);
            let mut back = Vec::new();
            prop_assert_eq!(unescape_json(&body, &mut back), Ok(()));
            prop_assert_eq!(&back, text.as_bytes());
            prop_assert!(body_is(&body, text.as_bytes()));
            back.push(b'x');
            prop_assert!(!body_is(&body, &back));
            prop_assert!(text.is_empty() || !body_is(&body, &back[1..back.len() - 1]));
        }
    }
}
