//! Events of every kind: valid, invalid and mutated.

use super::*;
use proptest::prelude::*;

/// Each text alone and all in one chunk.
fn check_all(texts: &[&[u8]]) {
    for text in texts {
        check(text, &[EventSpan { start: 0, end: text.len() as u32 }], 100);
    }
    let chunk = texts.join(&b'\n');
    let events = split(&chunk);
    check(&chunk, &events, 1000);
}

#[test]
fn objects_are_good_whatever_their_values_and_white_space() {
    let texts: &[&[u8]] = &[
        b"{}",
        b" \t{ \t } \r",
        br#"{"a":1}"#,
        br#"{"a": 1, "b": "x", "c": null}"#,
        b"{  \"a\"  :  1  ,\t\t\"b\" :\t[ 1 , 2 ,  {  } ] , \"c\" : { \"d\" :  { } }  }",
        br#"{"":"","a":[],"b":{},"c":[[]],"d":[{}],"e":{"f":[]}}"#,
        br#"{"a":-0,"b":0,"c":-0.0,"d":1e400,"e":18446744073709551617,"f":1E+2,"g":0.5e-7,"h":1234567890123.25}"#,
        br#"{"a":"\"","b":"\\","c":"\\\"\\","d":"\/\b\f\n\r\t\u0041\uD83D\uDE00","\u0061":2}"#,
        br#"{"a":true,"b":false,"c":null,"d":[true,false,null,1,"x",[],{}]}"#,
        br#"{"a":1,"a":2,"\u0061":3}"#,
        "{\"grün\":\"€ 𝄞\"}".as_bytes(),
        br#"{"a":"{[,:]}","{[,:]}":"a"}"#,
        br#"{"a":"\ud800","b":"\ude00x","\ud800":1,"\udc00\ud800":2}"#,
        b"{\"a\":\"\x7f\"}",
        b"{}\r",
    ];
    for text in texts {
        assert!(reference(text).is_some(), "{}", text.escape_ascii());
    }
    check_all(texts);
}

#[test]
fn wrong_order_of_tokens_is_bad() {
    check_all(&[
        b"",
        b" ",
        b"\r",
        b"{",
        b"}",
        b"[]",
        b"1",
        b"\"a\"",
        b"null",
        b"{}{}",
        b"{},",
        b"{}x",
        b"{}\"\"",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\": }",
        b"{\"a\":,}",
        b"{\"a\":1,}",
        b"{,\"a\":1}",
        b"{\"a\":1,,\"b\":2}",
        b"{\"a\":1 \"b\":2}",
        b"{\"a\":1 2}",
        b"{\"a\":\"x\"\"y\"}",
        b"{\"a\":\"x\" \"y\"}",
        b"{\"a\":\"x\"  \"y\"}",
        b"{\"a\":x\"y\"}",
        b"{\"a\":\"x\"y}",
        b"{\"a\":1\"y\"}",
        b"{\"a\" \"b\":1}",
        b"{\"a\" x:1}",
        b"{x \"a\":1}",
        b"{x\"a\":1}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\"::1}",
        b"{\"a\":1:2}",
        b"{:1}",
    ]);
}

#[test]
fn wrong_arrays_and_inner_objects_are_bad() {
    check_all(&[
        b"{\"a\":[1,]}",
        b"{\"a\":[,1]}",
        b"{\"a\":[1 2]}",
        b"{\"a\":[1:2]}",
        b"{\"a\":[1}",
        b"{\"a\":{\"b\":1]",
        b"{\"a\":{\"b\":1,}}",
        b"{\"a\":{\"b\"}}",
        b"{\"a\":{1:2}}",
        b"{\"a\":{,}}",
        b"{\"a\":[}]}",
        b"{\"a\":[[1] [2]]}",
        b"{\"a\":[1]x}",
        b"{\"a\":{}\"x\"}",
        b"{\"a\":x{}}",
        b"{\"a\":[x[]]}",
    ]);
}

#[test]
fn wrong_numbers_and_words_are_bad() {
    check_all(&[
        b"{\"a\":01,\"b\":1}",
        b"{\"a\":-}",
        b"{\"a\":+1}",
        b"{\"a\":1.}",
        b"{\"a\":.5}",
        b"{\"a\":1e}",
        b"{\"a\":1e+}",
        b"{\"a\":1.2.3}",
        b"{\"a\":0x10}",
        b"{\"a\":00}",
        b"{\"a\":00000000}",
        b"{\"a\":-01}",
        b"{\"a\":1234567a}",
        b"{\"a\":12345678901234567890123456789012345a}",
        b"{\"a\":NaN}",
        b"{\"a\":tru}",
        b"{\"a\":truex}",
        b"{\"a\":fals}",
        b"{\"a\":falsf}",
        b"{\"a\":nul}",
        b"{\"a\":True}",
    ]);
}

#[test]
fn wrong_strings_and_bytes_are_bad() {
    check_all(&[
        b"{\"a\":\"\\x\"}",
        b"{\"a\":\"\\u12\"}",
        b"{\"a\":\"\\u12g4\"}",
        b"{\"\\x\":1}",
        b"{\"a\":\"x}",
        b"{\"a\":\"x\\\"}",
        b"{\"a\":\"x\ty\"}",
        b"{\"a\":\"x\0y\"}",
        b"{\"a\ty\":1}",
        b"{\"a\":\"\xff\"}",
        b"{\"\xc3\":1}",
        b"{\"a\":\"\xed\xa0\x80\"}",
        b"{\"a\":1}\xff",
        b"\xef\xbb\xbf{}",
        b"{\"a\"\x0c:1}",
        b"{\"a\":\x0c1}",
        b"{\x0c}",
        b"{\x0c\"a\":1}",
        b"{\"a\":1\x0c\"b\":2}",
        b"{\"a\"\x1a1}",
        b"{\"a\":1\0}",
        b"\0{}",
        b"{\\\"a\":1}",
        b"{\"a\"\\:1}",
        b"{\"a\":1}\\",
        b"{\"a\":1}\\\"",
        b"{\"a\":[\\]}",
    ]);
}

#[test]
fn newline_inside_of_an_event_is_bad() {
    for text in
        [&b"{\n}"[..], b"{}\n", b"\n{}", b"{\"a\":\n1}", b"{\"a\":[1,\n2]}", b"{\"a\":1}\n{\"b\":2}", b"{\"a\":\"\n\"}"]
    {
        check(text, &[EventSpan { start: 0, end: text.len() as u32 }], 100);
        let longer = [text, b"\n{}"].concat();
        check(&longer, &[EventSpan { start: 0, end: text.len() as u32 }], 100);
    }
}

/// Lines as programs write them, compact and as Python does it.
pub(super) fn samples(python: bool) -> Vec<Vec<u8>> {
    let (comma, colon) = if python { (", ", ": ") } else { (",", ":") };
    let mut samples = Vec::new();
    for number in 0..60u32 {
        let mut fields = vec![
            format!("\"time\"{colon}\"2026-11-23T00:12:34.{number:06}Z\""),
            format!("\"level\"{colon}\"{}\"", ["info", "warn", "error"][number as usize % 3]),
            format!("\"status\"{colon}{}", 200 + number),
            format!("\"duration\"{colon}{}.{number}", number * 77),
            format!(
                "\"message\"{colon}\"a \\\"quoted\\\" word\\n and \\u00{:02x} {}\"",
                number + 32,
                "x".repeat(number as usize)
            ),
            format!("\"http\"{colon}{{\"method\"{colon}\"GET\"{comma}\"sizes\"{colon}[1{comma}-2.5e3{comma}null]}}"),
        ];
        if number % 2 == 1 {
            fields.swap(1, 3);
        }
        if number % 5 == 0 {
            fields.push(format!("\"trace\"{colon}true"));
        }
        if number % 7 == 0 {
            fields.insert(2, format!("\"user\"{colon}\"Jürgen {number}\""));
        }
        samples.push(format!("{{{}}}", fields.join(comma)).into_bytes());
    }
    samples
}

/// A generator that gives the same numbers everywhere.
pub(super) struct Numbers(pub u64);

impl Numbers {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 33) as usize) % limit
    }
}

/// Bytes that matter to the parser, and some that do not.
const LETTERS: &[u8] = b"\"\"\\\\{}[],,::  \t\r\0\x0c\x1f0123456789.eE+-truefalsn u\xc3\xa4\xff\x80ax/";

pub(super) fn mutate(line: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(line.len().max(1));
        let letter = LETTERS[numbers.below(LETTERS.len())];
        match numbers.below(5) {
            0 if at < line.len() => line[at] = letter,
            1 => line.insert(at, letter),
            2 if at < line.len() => {
                line.remove(at);
            }
            3 => line.truncate(at),
            _ => {
                let to = (at + numbers.below(20)).min(line.len());
                let part = line[at.min(to)..to].to_vec();
                let at = numbers.below(line.len() + 1);
                line.splice(at..at, part);
            }
        }
    }
}

fn check_mutated(python: bool, rounds: usize) {
    let mut numbers = Numbers(17);
    let mut good = 0;
    for _ in 0..rounds {
        let mut chunk = Vec::new();
        for sample in samples(python) {
            let mut line = sample;
            mutate(&mut line, &mut numbers);
            chunk.extend_from_slice(&line);
            chunk.push(b'\n');
        }
        let (lines, _) = check(&chunk, &split(&chunk), 4096);
        good += lines.lines.iter().filter(|line| line.node != NodeId::BAD).count();
    }
    assert!(good > rounds && good < rounds * 55, "{good} of {} lines are good: too few or too many", rounds * 60);
}

#[test]
fn mutated_lines_are_what_serde_says() {
    check_mutated(false, 60);
}

#[test]
fn mutated_lines_of_python_are_what_serde_says() {
    check_mutated(true, 60);
}

proptest! {
    #[test]
    fn any_bytes_are_what_serde_says(text in proptest::collection::vec(proptest::sample::select(LETTERS), 0..90)) {
        check(&text, &split(&text), 100);
    }

    #[test]
    fn tokens_in_any_order_are_what_serde_says(
        tokens in proptest::collection::vec(proptest::sample::select(&[
            "{", "}", "[", "]", ":", ",", " ", "\t", "\"a\"", "\"b\\\"\"", "\"\\\\\"", "1", "-0.5", "true", "null", "x", "\n", "  ",
            "\"a\":1", "{\"a\":", "\"b\":[", "]}", "}}", "\r", "\\", "\"",
        ][..]), 0..60)
    ) {
        let text = tokens.concat().into_bytes();
        check(&text, &split(&text), 100);
    }
}
