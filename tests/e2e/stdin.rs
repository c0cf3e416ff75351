//! Standard input to a file as text: valid UTF-8 arrives byte for byte.

use crate::case::Case;
use crate::product::{Product, text};
use crate::wait::wait_for;
use std::fs;
use std::io::Write;
use std::path::Path;

/// A small random number generator (xorshift), so that a failure can be reproduced from its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// A character of one of the kinds that break encoders. Never a newline or a carriage return.
fn character(random: &mut Random) -> char {
    let code = match random.below(8) {
        0 => random.below(0x20) as u32,
        1 => u32::from(b"\"\\/\x7f{}[]"[random.below(8) as usize]),
        2 => 0x80 + random.below(0x780) as u32,
        3 => 0x2028 + random.below(2) as u32,
        4 => 0x10000 + random.below(0x100000) as u32,
        5 => 0xd7ff + random.below(2) as u32 * 0x801,
        _ => 0x20 + random.below(0x5f) as u32,
    };
    match char::from_u32(code) {
        Some('\n' | '\r') | None => 'x',
        Some(character) => character,
    }
}

fn lines(random: &mut Random, count: u64) -> Vec<String> {
    let mut lines: Vec<String> = (0..count)
        .map(|_| {
            let length = [0, 1, 20, 200][random.below(4) as usize];
            (0..length).map(|_| character(random)).collect()
        })
        .collect();
    // Longer than a chunk, and as long in bytes as the default allows.
    lines.push("long ".repeat(20_000));
    lines.push("é".repeat(128 << 10));
    lines.push(String::new());
    lines.push(" \t leading and trailing white space \t ".to_owned());
    lines
}

fn config(case: &Case, input: &str) -> std::path::PathBuf {
    let output = format!("{{type: file, path: \"{}\", encode: text}}", case.path("out/lines.log").display());
    case.configure(input, &output)
}

/// Pipes `input` through the product and compares the result with `expected`.
fn pipe(case: &Case, config: &Path, input: &[u8], expected: &[u8]) {
    let output = case.path("out/lines.log");
    let (mut product, mut pipe) = Product::start_piped(case, config);
    // Pieces end anywhere, also inside a character.
    for piece in input.chunks(4_093) {
        pipe.write_all(piece).unwrap_or_else(|error| panic!("{error}: {}", product.state()));
    }
    drop(pipe);
    wait_for("all bytes", || {
        let length = fs::metadata(&output).map_or(0, |metadata| metadata.len());
        if length >= expected.len() as u64 {
            Ok(())
        } else {
            Err(format!("{length} bytes of {}; {}", expected.len(), product.state()))
        }
    });
    // The end of its only input may have ended it already.
    if product.is_running() {
        product.signal("TERM");
    }
    let status = product.wait();
    assert_eq!(status.code(), Some(0), "{}", product.state());
    let arrived = fs::read(&output).expect("the output");
    if arrived != expected {
        let at = arrived.iter().zip(expected).position(|(a, b)| a != b).unwrap_or(arrived.len().min(expected.len()));
        let around = |bytes: &[u8]| text(&bytes[at.saturating_sub(40).min(bytes.len())..(at + 40).min(bytes.len())]);
        panic!("first difference at byte {at}: wrote {:?}, arrived {:?}", around(expected), around(&arrived));
    }
}

#[test]
fn every_valid_line_arrives_byte_for_byte() {
    for seed in [1, 0x5eed_f00d] {
        let case = Case::new("stdin");
        let mut all = Vec::new();
        for line in lines(&mut Random(seed), 20_000) {
            all.extend_from_slice(line.as_bytes());
            all.push(b'\n');
        }
        pipe(&case, &config(&case, "{type: stdin}"), &all, &all);
    }
}

#[test]
fn carriage_return_before_a_newline_is_removed_and_others_stay() {
    let case = Case::new("stdin-cr");
    let all = b"windows\r\nin\rside\r\n\r\nunix\n";
    pipe(&case, &config(&case, "{type: stdin}"), all, b"windows\nin\rside\n\nunix\n");
}

#[test]
fn other_encodings_arrive_as_utf_8_without_mark_and_empty_lines() {
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for (name, settings, all, expected) in [
        ("utf-16", ", skip_empty: true, encoding: utf-16le", utf16("\u{feff}één\r\n\r\n€\nlast"), "één\n€\nlast\n"),
        ("latin1", ", encoding: latin1", b"\xe9\xe9n\n".to_vec(), "één\n"),
        ("mark", ", skip_empty: true", "\u{feff}one\n\ntwo\n".as_bytes().to_vec(), "one\ntwo\n"),
    ] {
        let case = Case::new(&format!("stdin-{name}"));
        pipe(&case, &config(&case, &format!("{{type: stdin{settings}}}")), &all, expected.as_bytes());
    }
}

#[test]
fn carriage_return_stays_when_the_configuration_keeps_it() {
    let case = Case::new("stdin-keep-cr");
    let all = b"windows\r\nin\rside\r\n\r\nunix\n";
    pipe(&case, &config(&case, "{type: stdin, keep_cr: true}"), all, all);
}

#[test]
fn last_line_without_a_newline_arrives() {
    let case = Case::new("stdin-last");
    pipe(&case, &config(&case, "{type: stdin}"), b"first\nlast", b"first\nlast\n");
}
