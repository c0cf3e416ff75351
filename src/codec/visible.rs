//! Makes untrusted text safe for a terminal: names, events and reasons may contain bytes that control it.
//!
//! Guarantees: the result contains no control characters except tabs (and newlines where documented), and nothing that changes
//! the direction of text. Other text is unchanged. Bytes that are not UTF-8 become U+FFFD.

use std::fmt::Write as _;
use std::io;

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
    json.chars().for_each(|c| push_json(c, &mut out));
    out
}

fn push_json(c: char, out: &mut String) {
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

fn spelled(text: &[u8], stays: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    String::from_utf8_lossy(text).chars().for_each(|c| push_spelled(c, &stays, &mut out));
    out
}

fn push_spelled(c: char, stays: impl Fn(char) -> bool, out: &mut String) {
    match steers(c) && !stays(c) {
        true => out.extend(c.escape_default()),
        false => out.push(c),
    }
}

/// Escapes lines of JSON or of text for a terminal, and passes them to `put` in pieces of a limited size.
pub fn visible_in_pieces(lines: &[u8], json: bool, mut put: impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
    let mut out = String::with_capacity(PIECE_BYTES + 16);
    for chunk in lines.utf8_chunks() {
        let invalid = Some(char::REPLACEMENT_CHARACTER).filter(|_| !chunk.invalid().is_empty());
        for c in chunk.valid().chars().chain(invalid) {
            match json {
                true => push_json(c, &mut out),
                false => push_spelled(c, |c| matches!(c, '\t' | '\n'), &mut out),
            }
            if out.len() >= PIECE_BYTES {
                put(&out)?;
                out.clear();
            }
        }
    }
    if out.is_empty() { Ok(()) } else { put(&out) }
}

/// About the size of a piece of [`visible_in_pieces`].
const PIECE_BYTES: usize = 64 * 1024;

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

    #[test]
    fn pieces_are_the_whole_and_bounded() {
        let hostile = "é\u{1b}]0;x\u{7}\u{9b}2J\u{202e}\n\t".repeat(20_000);
        let bytes = [hostile.as_bytes(), b"\xff\xfe tail"].concat();
        let pieces = |json| {
            let mut pieces = Vec::new();
            visible_in_pieces(&bytes, json, |piece| {
                pieces.push(piece.to_owned());
                Ok(())
            })
            .expect("all are taken");
            assert!(pieces.len() > 1 && pieces.iter().all(|piece| piece.len() <= PIECE_BYTES + 16));
            pieces.concat()
        };
        assert_eq!(pieces(false), visible_lines(&String::from_utf8_lossy(&bytes)));
        assert_eq!(pieces(true), visible_json(&String::from_utf8_lossy(&bytes)));
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
