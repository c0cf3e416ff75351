//! The transforms, each with events that it changes: parsed, changed, encoded.

use crate::steps::count;
use std::hint::black_box;
use tailwater::config::de::read;
use tailwater::config::facts::Facts;
use tailwater::config::node::parse;
use tailwater::transforms::{Opening, Step, open_all, run_all};
use tailwater_shards::batch::{Chunk, EventSpan};
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Place, Workshop};
use tailwater_shards::scan::json::{Lines, NodeId, Parser};
use tailwater_shards::shape::Shapes;

const EVENTS: &str = r#"{"time":"2026-11-23T10:20:30.5+01:00","n":"17","msg":"GET \"/users/4711\" by ann@example.com","d":{"log":"{\"a\":{\"b\":[1]},\"n\":2}","c":{"e":"Z\u00c9"}},"a.b.c":1,"f":{"g":true}}
{"n":3.5,"msg":"Bearer abcdefgh12 4111 1111 1111 1111 from 10.0.0.1","d":{"log":"[1,\n2]"},"list":["x@y.org",{"k":"x@y.org"}]}
{"time":1795429230123,"n":"no number","msg":"nothing to see","a.b":{"c":1},"a.c":"x"}
a line of text, no object, of ann@example.com
"#;

const VERBS: [&str; 18] = [
    "{convert: {n: int, time: timestamp, d.c.e: string}}",
    "{convert: {n: {to: float, on_fail: null}, msg: {to: bool, on_fail: remove}}}",
    "{timestamp: time}",
    "{timestamp: {field: time, remove: true}}",
    "{lowercase: [msg, d.c.e, message]}",
    "{uppercase: [msg, d.c.e, message]}",
    "{replace: {field: msg, pattern: '/(users)/\\d+|\\bto\\b', with: \"<$1>\"}}",
    "{replace: {field: message, pattern: 'o', with: \"0\"}}",
    "{redact: {presets: [email, card, ipv4, ipv6, bearer], patterns: ['a[bc]+']}}",
    "{redact: {presets: [email], fields: [msg, list, message]}}",
    "{hash: {fields: [msg, n, d.c.e], key: 0123456789abcdef}}",
    "{hash: {fields: [msg, n], algorithm: xxh3, to: id.hash}}",
    "{parse: {field: d.log}}",
    "{parse: {field: d.log, into: d.log}}",
    "{flatten: {}}",
    "{unflatten: {}}",
    "{add: {x: 1, y: \"{{ n }} {{ msg }}\", z.y: 2}}",
    "{if: has(time), then: [{rename: {msg: message}}, {remove: [n, d.log]}], else: [{copy: {msg: text}}, {drop: n == 3.5}]}",
];

/// Each transform alone, and all of them in a row.
pub fn verbs(wrong: &mut Vec<String>) {
    for verb in VERBS {
        run(verb, &format!("- {verb}"), wrong);
    }
    run("all verbs", &VERBS.map(|verb| format!("- {verb}\n")).concat(), wrong);
}

fn run(name: &str, list: &str, wrong: &mut Vec<String>) {
    let (root, problems) = parse(list, &|_| None);
    assert!(problems.is_empty(), "{list}: {problems:?}");
    let steps: Vec<Step> = read(&root.expect("a list")).unwrap_or_else(|fault| panic!("{list}: {fault:?}"));
    let mut shapes = Shapes::new(&[], Some("message"));
    let facts = Facts::of("web-03");
    let mut verbs = open_all(&steps, &mut Opening { shapes: &mut shapes, facts: &facts });
    let mut workshop = Workshop::new(shapes);
    let mut chunk = Chunk::new(EVENTS.len());
    chunk.spare()[..EVENTS.len()].copy_from_slice(EVENTS.as_bytes());
    chunk.set_length(EVENTS.len());
    let mut events = Vec::new();
    let mut start = 0;
    for line in EVENTS.split_inclusive('\n') {
        events.push(EventSpan { start, end: start + line.len() as u32 - 1 });
        start += line.len() as u32;
    }
    let (mut parser, mut lines, mut out) = (Parser::new(), Lines::default(), Vec::new());
    let place = Place { timestamp: Timestamp(1_795_392_754_567_890_123), offset: 0 };
    count(name, wrong, || {
        out.clear();
        parser.parse(chunk.padded(), &events, &mut workshop.shapes.trie, &mut lines);
        for (line, event) in lines.lines.iter().zip(&events) {
            let text = &chunk.bytes()[event.range()];
            let mut record = match line.node {
                NodeId::BAD => workshop.text(text, place),
                _ => workshop.line(chunk.bytes(), text, line, lines.slots(*line), place),
            };
            black_box(run_all(&mut verbs, &mut record));
            record.encode(&mut out);
        }
    });
}
