//! `encode: text`: writes an event's message and a newline.
//!
//! Guarantees: a message that is valid UTF-8 without newlines is written byte for byte; one with newlines becomes one line,
//! unless they are kept. A field that is not a string is written as JSON. An event that has no such field, or whose line cannot
//! be parsed, is rejected or written as configured.

use super::json::{find_field, string_body, unescape_json};
use crate::config::types::{Newlines, TextForm, WithoutMessage};
use tailwater_shards::scan::escape_json_into;

/// Writes one field of event lines.
#[derive(Clone, Debug)]
pub struct TextEncoder {
    name: String,
    name_escaped: Vec<u8>,
    newlines: Newlines,
    without: WithoutMessage,
}

impl TextEncoder {
    /// An encoder for this form.
    pub fn new(form: &TextForm<'_>) -> TextEncoder {
        let mut name_escaped = Vec::new();
        escape_json_into(form.field.as_bytes(), &mut name_escaped);
        let (name, newlines, without) = (form.field.to_owned(), form.newlines, form.without);
        TextEncoder { name, name_escaped, newlines, without }
    }

    /// Appends the text of an event's line and a newline. If it has none, returns false and appends nothing.
    pub fn push(&self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let text = find_field(line, &self.name_escaped).map(|value| (value, string_body(value)));
        match text {
            Some((value, None)) if value != b"null" => out.extend_from_slice(value),
            Some((_, Some(body))) if unescape_json(body, out).is_ok() => self.join_lines(start, out),
            _ => {
                out.truncate(start);
                match self.without {
                    WithoutMessage::DeadLetter => return false,
                    WithoutMessage::Json => out.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line)),
                    WithoutMessage::Empty => {}
                }
            }
        }
        out.push(b'\n');
        true
    }

    /// Why an event was not appended.
    pub fn refusal(&self) -> String {
        format!("it has no `{}` to write as text", self.name)
    }

    /// Joins the lines that were appended from `start` on.
    fn join_lines(&self, start: usize, out: &mut Vec<u8>) {
        if self.newlines == Newlines::Keep || memchr::memchr(b'\n', &out[start..]).is_none() {
            return;
        }
        let text = out.split_off(start);
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else {
                out.extend_from_slice(line);
                break;
            };
            let (line, returned) = line.strip_suffix(b"\r").map_or((line, false), |line| (line, true));
            out.extend_from_slice(line);
            out.extend_from_slice(match (self.newlines, returned) {
                (Newlines::Escape, true) => b"\\r\\n",
                (Newlines::Escape, false) => b"\\n",
                _ => b" ",
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(newlines: Newlines, without: WithoutMessage, line: &str) -> Option<String> {
        let mut out = b"before".to_vec();
        let written =
            TextEncoder::new(&TextForm { field: "message", newlines, without }).push(line.as_bytes(), &mut out);
        let out = String::from_utf8(out).expect("UTF-8");
        let out = out.strip_prefix("before").expect("what was there stays").to_owned();
        assert!(written || out.is_empty());
        written.then_some(out)
    }

    #[test]
    fn a_message_leaves_as_it_came() {
        let plain = |line| text(Newlines::default(), WithoutMessage::default(), line);
        for (line, expected) in [
            ("{\"a\":1,\"message\":\"x \\\"y\\\" \\u0001ü\"}\n", "x \"y\" \u{1}ü\n"),
            ("{\"message\":\"\"}\n", "\n"),
            ("{\"message\":{\"a\":\"\\n\"}}\n", "{\"a\":\"\\n\"}\n"),
            ("{\"message\":7}\n", "7\n"),
            ("{\"message\":\"C:\\\\new\"}\n", "C:\\new\n"),
        ] {
            assert_eq!(plain(line).as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn newlines_inside_do_not_make_two_lines_of_an_event() {
        let line = "{\"message\":\"GET /\\r\\nERROR forged\\n\\nend\"}\n";
        for (newlines, expected) in [
            (Newlines::Escape, "GET /\\r\\nERROR forged\\n\\nend\n"),
            (Newlines::Space, "GET / ERROR forged  end\n"),
            (Newlines::Keep, "GET /\r\nERROR forged\n\nend\n"),
        ] {
            assert_eq!(text(newlines, WithoutMessage::default(), line).as_deref(), Some(expected));
        }
        let alone = "{\"message\":\"a\\rb\\n\"}\n";
        assert_eq!(text(Newlines::Escape, WithoutMessage::Json, alone).as_deref(), Some("a\rb\\n\n"));
    }

    #[test]
    fn an_event_without_a_message_is_what_is_asked_for() {
        for line in ["{\"a\":1}\n", "{\"message\":null}\n", "{\"message\":\"\\x\"}\n", "garbage\n"] {
            for (without, expected) in [
                (WithoutMessage::DeadLetter, None),
                (WithoutMessage::Json, Some(line)),
                (WithoutMessage::Empty, Some("\n")),
            ] {
                assert_eq!(text(Newlines::Escape, without, line).as_deref(), expected, "{line}");
            }
        }
    }
}
