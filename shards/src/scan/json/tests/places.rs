//! Positions of events in a chunk, and in blocks of 64 bytes.

use super::verdicts::{Numbers, mutate, samples};
use super::*;

#[test]
fn place_in_a_block_does_not_matter() {
    let mut numbers = Numbers(3);
    let mut lines: Vec<Vec<u8>> = samples(false);
    lines.truncate(12);
    for index in 0..24 {
        let mut line = lines[index].clone();
        mutate(&mut line, &mut numbers);
        lines.push(line);
    }
    lines.push(
        br#"{"a":"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"}"#
            .to_vec(),
    );
    lines.push(
        br#"{"a":"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\""}"#
            .to_vec(),
    );
    lines.push([&b"{\"a\":1"[..], &[b' '; 150], b"}"].concat());
    lines.push([&b"{\"a\":1"[..], &[b' '; 150], b"2}"].concat());
    lines.push([&b"{\"a\":\"\\u00"[..], b"41", &[b'x'; 70], b"\\uD83D\\uDE00\"}"].concat());
    for shift in 0..64 {
        let mut chunk = vec![b' '; shift];
        for line in &lines {
            chunk.extend_from_slice(line);
            chunk.push(b'\n');
        }
        check(&chunk, &split(&chunk), 4096);
    }
}

#[test]
fn string_that_is_not_closed_harms_no_other_line() {
    for shift in 0..70 {
        let open = format!("{{\"a\":\"{}", "x".repeat(shift));
        let chunk = format!("{open}\n{{\"b\":1}}\n{open}\\\n{{\"b\":2}}\n{{\"b\":\"\n\"\n\"}}\n{{\"b\":3}}");
        let (lines, _) = check(chunk.as_bytes(), &split(chunk.as_bytes()), 100);
        let good = lines.lines.iter().filter(|line| line.node != NodeId::BAD).count();
        assert_eq!(good, 3, "{chunk}");
    }
}

#[test]
fn event_that_is_cut_off_is_what_its_own_bytes_are() {
    let text = br#"{"a":"b\"\\","c":[1,{"d":null}],"e":12}  {"f":"g"}"#;
    for start in 0..text.len() {
        for end in start..=text.len() {
            for tail in [&b""[..], b"\n", b"\r\n", b" \n", b"}\n", b"\"}\n"] {
                let chunk = [text, tail, br#"{"z":1}"#].concat();
                let span = EventSpan { start: start as u32, end: end as u32 };
                let last = EventSpan { start: (chunk.len() - 7) as u32, end: chunk.len() as u32 };
                let (lines, _) = check(&chunk, &[span, last], 100);
                assert_eq!(lines.lines[1].slots, 1);
            }
        }
    }
}

#[test]
fn what_lies_between_events_does_not_matter() {
    let mut numbers = Numbers(5);
    let garbage = b"\"\\{}[]:,\n \xff\0x1";
    for _ in 0..400 {
        let (mut chunk, mut events) = (Vec::new(), Vec::new());
        for mut line in samples(numbers.below(2) == 1).into_iter().take(8) {
            if numbers.below(3) == 0 {
                mutate(&mut line, &mut numbers);
            }
            for _ in 0..numbers.below(90) {
                chunk.push(garbage[numbers.below(garbage.len())]);
            }
            if numbers.below(2) == 0 {
                chunk.push(b'\n');
            }
            let start = chunk.len() as u32;
            chunk.extend_from_slice(&line);
            events.push(EventSpan { start, end: chunk.len() as u32 });
            chunk.extend_from_slice([&b"\n"[..], b"\r\n", b"", b"\\\n"][numbers.below(4)]);
        }
        check(&chunk, &events, 4096);
    }
}

#[test]
fn invalid_utf8_is_of_the_line_it_is_in() {
    for shift in 0..64 {
        let pad = " ".repeat(shift);
        let mut chunk = format!("{pad}{{\"a\":\"ü\"}}\n{{\"b\":\"").into_bytes();
        chunk.extend_from_slice(b"\xff\"}\n{\"c\":\"");
        chunk.extend_from_slice("ü\"}\n{}\n".as_bytes());
        let (lines, _) = check(&chunk, &split(&chunk), 100);
        let good: Vec<bool> = lines.lines.iter().map(|line| line.node != NodeId::BAD).collect();
        assert_eq!(good, [true, false, true, true]);
    }
}

#[test]
fn chunks_of_many_stretches_are_whole() {
    let mut chunk = Vec::new();
    while chunk.len() < 400_000 {
        for sample in samples(chunk.len() % 2 == 0) {
            chunk.extend_from_slice(&sample);
            chunk.extend_from_slice(b"\r\n");
        }
        chunk.extend_from_slice(&[b'"'; 200]);
        chunk.push(b'\n');
    }
    let mut events = split(&chunk);
    for event in &mut events {
        event.end -= u32::from(chunk[event.end as usize - 1] == b'\r');
    }
    check(&chunk, &events, 4096);
}

#[test]
fn slots_of_the_chunk_before_are_gone() {
    let (mut parser, mut trie, mut lines) = (Parser::new(), Trie::new(10), Lines::default());
    let first = padded(b"{\"a\":1,\"b\":2}\n{\"a\":3}");
    parser.parse(&first, &split(&first[..first.len() - 64]), &mut trie, &mut lines);
    assert_eq!((lines.lines.len(), lines.slots.len()), (2, 3));
    let node = lines.lines[1].node;
    let second = padded(b" {\"a\":3}");
    parser.parse(&second, &split(&second[..second.len() - 64]), &mut trie, &mut lines);
    assert_eq!(lines.lines, [Line { node, first_slot: 0, slots: 1 }]);
    assert_eq!(lines.slots, [Slot { key: 2, start: 6, end: 7 }]);
    parser.parse(&second, &[], &mut trie, &mut lines);
    assert!(lines.lines.is_empty() && lines.slots.is_empty());
}

#[test]
fn bytes_like_operators_leave_the_same_keys_on_every_tier() {
    for byte in 0..=u8::MAX {
        for event in [&b"{\"a\":\"x\"? \"b\":2}"[..], b"{\"a\"? 1}", b"? \"a\":1}", b"{\"a\":\"\"?,\"b\":"] {
            let mut padded: Vec<u8> = event.iter().map(|other| if *other == b'?' { byte } else { *other }).collect();
            let first = EventSpan { start: 0, end: padded.len() as u32 };
            padded.extend_from_slice(b"\n{\"b\":3}");
            let second = EventSpan { start: first.end + 1, end: padded.len() as u32 };
            padded.resize(padded.len() + CHUNK_PADDING_BYTES, 0);
            let parse = |tier| {
                let mut lines = Lines::default();
                Parser::with_tier(tier).parse(&padded, &[first, second], &mut Trie::new(8), &mut lines);
                (lines.lines, lines.slots)
            };
            let expected = parse(Tier::Portable);
            for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
                assert_eq!(parse(tier), expected, "{tier:?}, byte {byte:#04x} in {}", event.escape_ascii());
            }
        }
    }
}
