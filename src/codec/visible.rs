//! Makes untrusted text safe for a terminal: names, events and reasons may contain bytes that control it.
//!
//! Guarantees: the result contains no control characters except tabs (and newlines where documented), and nothing that changes
//! the direction of text. Other text is unchanged. Bytes that are not UTF-8 become U+FFFD.

use std::fmt::Write as _;

/// Escapes text to one line: control characters, including newlines, are spelled out.
pub fn visible(text: impl AsRef<[u8]>) -> String {
    spelled(text.as_ref(), |c| c == '\t')
}

/// Escapes text and keeps its newlines.
pub fn visible_lines(text: &str) -> String {
    spelled(text.as_bytes(), |c| matches!(c, '\t' | '\n'))
}

/// Escapes lines of JSON to equivalent JSON: only its strings can contain anything to escape.
pub fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\t' | '\n' => out.push(c),
            // In JSON it occurs only between values, where a space means the same.
            '\r' => out.push(' '),
            c if steers(c) => {
                let written = write!(out, "\\u{:04x}", u32::from(c));
                debug_assert!(written.is_ok(), "a string takes all");
            }
            c => out.push(c),
        }
    }
    out
}

fn spelled(text: &[u8], stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in String::from_utf8_lossy(text).chars() {
        match steers(c) && !stays(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    out
}

/// Control characters, and characters that change the direction of text or end a line without being a newline.
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_steer_a_terminal_is_spelled_out() {
        assert_eq!(
            visible(b"a\tb \x1b[31m\x07\x7f\xc2\x9b\n \xff"),
            "a\tb \\u{1b}[31m\\u{7}\\u{7f}\\u{9b}\\n \u{fffd}"
        );
        assert_eq!(visible("admin\u{202e}nimda \"é\\\""), "admin\\u{202e}nimda \"é\\\"");
        assert_eq!(visible_lines("a\r\u{1b}\nb"), "a\\r\\u{1b}\nb");
    }

    proptest! {
        #[test]
        fn json_stays_the_same_json(text in "[a\"\\\\\u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}-\u{202e}é😀]{0,12}") {
            let json = serde_json::json!({text.clone(): [text]}).to_string();
            let shown = visible_json(&json);
            prop_assert!(!shown.chars().any(steers), "{shown:?}");
            let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).expect("JSON");
            prop_assert_eq!(read(&shown), read(&json));
        }
    }
}
