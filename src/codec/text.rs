//! `encode: text`: an event's message as it came, and a newline.
//!
//! Guarantees: a message that was valid UTF-8 leaves byte for byte. An event without the field, or whose line cannot be read,
//! leaves as its whole JSON line: nothing is lost silently. A field that is not a string leaves as its JSON.

use super::json::{find_field, string_body, unescape_json};
use tailwater_shards::scan::escape_json_into;

/// Writes the field of one name out of event lines.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    name_escaped: Vec<u8>,
}

impl TextEncoder {
    /// For the field `name`.
    pub fn new(name: &str) -> TextEncoder {
        let mut name_escaped = Vec::new();
        escape_json_into(name.as_bytes(), &mut name_escaped);
        TextEncoder { name_escaped }
    }

    /// Appends the text of an event's line, with its newline.
    pub fn push(&self, line: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        let Some(value) = find_field(line, &self.name_escaped) else {
            out.extend_from_slice(line);
            return;
        };
        let Some(body) = string_body(value) else {
            out.extend_from_slice(value);
            out.push(b'\n');
            return;
        };
        if unescape_json(body, out).is_ok() {
            out.push(b'\n');
        } else {
            out.truncate(start);
            out.extend_from_slice(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_leaves_as_it_came_and_nothing_is_lost() {
        let text = |line: &str| {
            let mut out = Vec::new();
            TextEncoder::new("message").push(line.as_bytes(), &mut out);
            String::from_utf8(out).expect("UTF-8")
        };
        assert_eq!(text("{\"a\":1,\"message\":\"x \\\"y\\\" \\u0001ü\"}\n"), "x \"y\" \u{1}ü\n");
        assert_eq!(text("{\"message\":\"\"}\n"), "\n");
        assert_eq!(text("{\"message\":{\"a\":1}}\n"), "{\"a\":1}\n");
        for whole in ["{\"a\":1}\n", "{\"message\":\"\\x\"}\n", "garbage\n"] {
            assert_eq!(text(whole), whole);
        }
    }
}
