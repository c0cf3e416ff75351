//! Limits of the parser and of the trie, and reads at the end of memory.

use super::verdicts::{Numbers, mutate, samples};
use super::*;

/// Nested objects and arrays, `levels` in total if `open` is one bracket.
fn nested(levels: usize, open: &str, close: &str) -> Vec<u8> {
    format!("{{\"a\":{}1{}}}", open.repeat(levels - 1), close.repeat(levels - 1)).into_bytes()
}

#[test]
fn nesting_is_good_up_to_its_limit() {
    for (open, close) in [("[", "]"), ("{\"b\":", "}"), ("[[{\"x\" : [ {\"y\":[", "]}]}]]"), ("[ ", " ]")] {
        for levels in 1..140 {
            let text = nested(levels, open, close);
            check(&text, &split(&text), 100);
        }
    }
    for levels in [63, 64, 65] {
        let text = nested(levels, "[", "]");
        let (lines, _) = check(&text, &split(&text), 100);
        assert_eq!(lines.lines[0].node != NodeId::BAD, levels <= 64, "{levels} levels");
    }
}

fn wide(fields: usize) -> Vec<u8> {
    let fields: Vec<String> = (0..fields).map(|field| format!("\"{field}\":{field}")).collect();
    format!("{{{}}}", fields.join(",")).into_bytes()
}

#[test]
fn fields_are_good_up_to_their_limit() {
    for (fields, good) in [(10_000, true), (FIELDS_MAX, true), (FIELDS_MAX + 1, false)] {
        let chunk = [&wide(fields)[..], b"\n{\"a\":1}"].concat();
        let (lines, trie) = check(&chunk, &split(&chunk), 20_000);
        let slots = lines.lines[0].slots as usize;
        assert_eq!(slots, if good { fields } else { 0 });
        assert_eq!(lines.lines[0].node.is_node(), good && fields < 20_000);
        assert_eq!(lines.lines[1].slots, 1);
        assert!(trie.len() <= 20_000);
    }
}

#[test]
fn long_keys_are_good_without_a_node() {
    for length in (1..=300).chain([LABEL_BYTES_MAX - 2, LABEL_BYTES_MAX - 1, 65_536]) {
        let key = "k".repeat(length);
        let line = format!("{{\"a\":1,\"{key}\":2,\"b\":3}}\n");
        let chunk = line.repeat(3).into_bytes();
        let (lines, trie) = check(&chunk, &split(&chunk), 100);
        let nodes: Vec<NodeId> = lines.lines.iter().map(|line| line.node).collect();
        assert_eq!(nodes, [nodes[0]; 3]);
        assert_eq!(nodes[0].is_node(), length + 2 <= LABEL_BYTES_MAX, "{length}");
        assert!(!trie.is_full(), "a key that is too long fills nothing");
        let bad = format!("{{\"a\":1,{key}:2}}\n{{\"a\":1,\"{key}\" 3:2}}\n{{\"{key}\\x\":1}}");
        check(bad.as_bytes(), &split(bad.as_bytes()), 100);
    }
}

#[test]
fn spellings_of_a_key_come_to_one_node() {
    let chunk = b"{\"a\":1,\"key\":2}\n{ \"a\" : 1 , \"\\u006bey\":2}\n{\"\\u0061\":1,\"ke\\u0079\" :2}\n{\"key\":2,\"a\":1}\n{\"a\":1}";
    let (lines, trie) = check(chunk, &split(chunk), 100);
    let nodes: Vec<NodeId> = lines.lines.iter().map(|line| line.node).collect();
    assert_eq!(nodes[..3], [nodes[0]; 3]);
    assert_ne!(nodes[3], nodes[0]);
    assert_eq!(trie.parent(nodes[0]), nodes[4]);
    assert_eq!((trie.key(nodes[0]), trie.key(NodeId::ROOT)), (&b"key"[..], &b""[..]));
    assert_eq!(trie.parent(nodes[4]), NodeId::ROOT);
    assert_eq!(trie.len(), 5);
}

#[test]
fn keys_that_occur_twice_are_steps_of_their_own() {
    let chunk = b"{\"a\":1,\"a\":2,\"a\":3}\n{\"a\":1,\"a\":2}";
    let (lines, trie) = check(chunk, &split(chunk), 100);
    assert_eq!((lines.lines[0].slots, lines.lines[1].slots), (3, 2));
    assert_eq!(trie.parent(lines.lines[0].node), lines.lines[1].node);
}

#[test]
fn halves_of_pairs_in_keys_become_replacement_characters() {
    let cases = [
        (r#"{"\ud800":1}"#, "\u{fffd}"),
        (r#"{"\ud800\ud800x":1}"#, "\u{fffd}\u{fffd}x"),
        (r#"{"\udc00\u0041":1}"#, "\u{fffd}A"),
        (r#"{"\ud83d\ude00":1}"#, "\u{1f600}"),
        (r#"{"\ud83d\n\ude00":1}"#, "\u{fffd}\n\u{fffd}"),
    ];
    for (text, key) in cases {
        let (lines, trie) = check(text.as_bytes(), &split(text.as_bytes()), 10);
        assert_eq!(trie.key(lines.lines[0].node), key.as_bytes(), "{text}");
    }
}

#[test]
fn new_key_in_each_line_leaves_the_trie_at_its_bound() {
    const NODES: usize = 500;
    for tier in tiers() {
        let (mut parser, mut trie, mut lines) = (Parser::with_tier(tier), Trie::new(NODES), Lines::default());
        for first in (0..100_000).step_by(1000) {
            let texts: Vec<String> =
                (first..first + 1000).map(|number| format!("{{\"a\":{number},\"key-{number}\":\"x\"}}")).collect();
            let chunk = padded(texts.join("\n").as_bytes());
            parser.parse(&chunk, &split(&chunk[..chunk.len() - 64]), &mut trie, &mut lines);
            for (number, line) in (first..).zip(&lines.lines) {
                let slots = lines.slots(*line);
                assert_eq!(slot_key(&chunk, slots[1]), format!("\"key-{number}\"").as_bytes());
                assert_eq!(&chunk[slots[0].start as usize..slots[0].end as usize], number.to_string().as_bytes());
                assert_eq!(line.node == NodeId::OVERFLOW, number >= NODES - 2);
            }
        }
        assert_eq!(trie.len(), NODES);
        assert!(trie.is_full());
        trie.clear();
        assert!(!trie.is_full() && trie.len() == 1);
        let chunk = padded(b"{\"new\":1}");
        parser.parse(&chunk, &split(b"{\"new\":1}"), &mut trie, &mut lines);
        assert_eq!(trie.key(lines.lines[0].node), b"new");
    }
}

#[test]
fn long_keys_fill_the_trie_by_their_bytes() {
    let chunk: String = (0..600).map(|number| format!("{{\"{}{number}\":1}}\n", "k".repeat(4000))).collect();
    let (lines, trie) = check(chunk.as_bytes(), &split(chunk.as_bytes()), 4096);
    let kept = lines.lines.iter().filter(|line| line.node.is_node()).count();
    assert!((100..KEY_BYTES_MAX / 4000).contains(&kept), "{kept} keys are kept");
    assert!(trie.is_full());
}

/// Spellings beyond those that a trie stores are found by their names.
#[test]
fn spellings_without_end_add_no_nodes() {
    let chunk: String = (0..3000).map(|number| format!("{{{}\"a\":1}}\n", " ".repeat(number % 300))).collect();
    let (lines, trie) = check(chunk.as_bytes(), &split(chunk.as_bytes()), 2);
    assert!(lines.lines.iter().all(|line| line.node == lines.lines[0].node && line.node.is_node()));
    assert_eq!(trie.len(), 2);
    assert!(!trie.is_full());
}

/// Memory whose last page cannot be read.
struct Guarded {
    start: *mut u8,
    length: usize,
}

impl Guarded {
    fn new(length: usize) -> Guarded {
        let length = length.next_multiple_of(4096);
        // SAFETY: a new mapping, whose last page is then forbidden.
        let start = unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                length + 4096,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            assert_eq!(libc::mprotect(start.cast::<u8>().add(length).cast(), 4096, libc::PROT_NONE), 0);
            start.cast()
        };
        Guarded { start, length }
    }

    /// The last `length` readable bytes.
    fn last(&mut self, length: usize) -> &mut [u8] {
        assert!(length <= self.length);
        // SAFETY: inside of the mapping, which lives as long as this does.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(self.length - length), length) }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // SAFETY: the mapping that was made, which nobody uses any more.
        unsafe { libc::munmap(self.start.cast(), self.length + 4096) };
    }
}

#[test]
fn nothing_is_read_behind_the_padding() {
    let mut memory = Guarded::new(8192);
    let mut numbers = Numbers(11);
    let mut texts = samples(false);
    texts.extend(
        [
            &b"{"[..],
            b"{\"",
            b"{\"a\":",
            b"{\"a\":\"\\",
            b"{\"a\":\"\\u",
            b"{\"a\":1 ",
            b"{\"a\":t",
            b"{} ",
            b"\r",
            b"",
            b"{\"a\":[",
            b"{\"a\"",
        ]
        .map(Vec::from),
    );
    for round in 0..600 {
        let mut text = texts[round % texts.len()].clone();
        if round >= texts.len() {
            mutate(&mut text, &mut numbers);
        }
        let chunk = memory.last(text.len() + CHUNK_PADDING_BYTES);
        chunk[..text.len()].copy_from_slice(&text);
        chunk[text.len()..].fill(0);
        for tier in tiers() {
            let (mut trie, mut lines) = (Trie::new(100), Lines::default());
            // Its end may be cut off, and it may begin in the middle.
            for (start, end) in [(0, text.len()), (text.len() / 2, text.len()), (0, text.len().saturating_sub(1))] {
                let event = EventSpan { start: start as u32, end: end as u32 };
                Parser::with_tier(tier).parse(chunk, &[event], &mut trie, &mut lines);
                let good = reference(&text[start..end]).is_some();
                assert_eq!(lines.lines[0].node != NodeId::BAD, good, "{tier:?} {}", text.escape_ascii());
            }
        }
    }
}

#[test]
fn chunk_without_padding_and_events_out_of_order_are_refused() {
    let refused = |padded: &[u8], events: &[(u32, u32)]| {
        let events: Vec<EventSpan> = events.iter().map(|(start, end)| EventSpan { start: *start, end: *end }).collect();
        let (mut trie, mut lines) = (Trie::new(10), Lines::default());
        let parsed = || Parser::new().parse(padded, &events, &mut trie, &mut lines);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(parsed)).is_err()
    };
    let chunk = padded(b"{}\n{}\n");
    assert!(!refused(&chunk, &[(0, 2), (3, 5)]));
    assert!(refused(&chunk, &[(3, 5), (0, 2)]));
    assert!(refused(&chunk, &[(0, 2), (1, 5)]));
    assert!(refused(&chunk, &[(0, 7)]));
    assert!(refused(&chunk, &[(0, 200)]));
    assert!(refused(&chunk, &[(200, 201)]));
    assert!(refused(&chunk, &[(2, 1)]));
    assert!(refused(&chunk, &[(0, 2), (4, 3)]));
    assert!(refused(&chunk[..chunk.len() - 1], &[(0, 2)]));
    assert!(refused(b"{}", &[(0, 2)]));
}

#[test]
fn faults_say_what_and_where() {
    let cases = [
        ("", Reason::Empty, 0),
        ("  [1]", Reason::NoObject, 2),
        ("{\"a\":1", Reason::Unfinished, 6),
        ("{\"a\":\"b", Reason::OpenString, 5),
        ("{\"a\":\"b\tc\"}", Reason::ControlByte, 7),
        ("{\"a\":\"\\x\"}", Reason::Escape, 6),
        ("{a:1}", Reason::Key, 1),
        ("{\"a\" 1}", Reason::Colon, 5),
        ("{\"a\":}", Reason::Value, 5),
        ("{\"a\":012}", Reason::Number, 6),
        ("{\"a\":1 \"b\":2}", Reason::Comma, 7),
        ("{} {}", Reason::Trailing, 3),
    ];
    for (text, reason, at) in cases {
        assert_eq!(explain(text.as_bytes()), Some(Fault { reason, at }), "{text}");
    }
    assert_eq!(explain(b"{\"a\":\"\xff\"}"), Some(Fault { reason: Reason::Utf8, at: 6 }));
    assert_eq!(explain(&nested(65, "[", "]")).map(|fault| fault.reason), Some(Reason::Depth));
    assert_eq!(explain(br#"{"a":[1,{"b":null}]}"#), None);
    assert_eq!(Reason::OpenString.to_string(), "a string is not closed");
}
