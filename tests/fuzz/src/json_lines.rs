//! Target `json_lines`: bytes as a chunk of events for the engine's span parser. The parser reads nothing from disk, but sees
//! anything that anyone writes to a log file.
//!
//! Promises: every tier gives the same result. An event is valid exactly if serde_json accepts it, apart from the documented
//! exceptions. The members of a valid event are those that serde_json finds. An error is explained for every invalid event,
//! and only for those.

use crate::Verdict;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tailwater_shards::batch::EventSpan;
use tailwater_shards::limits::CHUNK_PADDING_BYTES;
use tailwater_shards::scan::Tier;
use tailwater_shards::scan::json::{
    Line, Lines, NESTING_MAX, NodeId, Parser, Slot, Trie, explain, slot_key, unescape_key,
};

/// Nodes of the trie: few, so that it fills up.
const NODES_MAX: usize = 12;

/// The first byte says how much is cut off at the ends of the events; the rest is their chunk.
pub fn check(data: &[u8]) -> Verdict {
    let Some((cut, bytes)) = data.split_first() else { return Verdict::Refused };
    let events = events(bytes, u32::from(cut & 7), u32::from(cut >> 3 & 7));
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + CHUNK_PADDING_BYTES, 0);
    let parse = |tier| {
        let (mut trie, mut lines) = (Trie::new(NODES_MAX), Lines::default());
        Parser::with_tier(tier).parse(&padded, &events, &mut trie, &mut lines);
        (trie, lines)
    };
    let (trie, lines) = parse(Tier::Portable);
    assert_eq!(lines.lines.len(), events.len());
    for tier in Tier::ALL.into_iter().filter(|tier| tier.is_available()) {
        let (_, others) = parse(tier);
        assert!(lines.lines == others.lines && lines.slots == others.slots, "{tier:?} differs from plain code");
    }
    let mut good = false;
    for (line, event) in lines.lines.iter().zip(&events) {
        let text = &padded[event.range()];
        let members = reference(text);
        assert_eq!(line.node != NodeId::BAD, members.is_some(), "{}", text.escape_ascii());
        assert_eq!(explain(text).is_none(), members.is_some(), "{}", text.escape_ascii());
        if let Some(members) = members {
            same_members(&padded, lines.slots(*line), &members);
            same_keys(&padded, lines.slots(*line), &trie, *line);
            good = true;
        }
    }
    Verdict::accepted(good)
}

/// The lines of a chunk, without some bytes at their ends.
fn events(bytes: &[u8], cut_start: u32, cut_end: u32) -> Vec<EventSpan> {
    let mut start = 0;
    let mut events = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let length = line.len() as u32;
        if length >= cut_start + cut_end {
            events.push(EventSpan { start: start + cut_start, end: start + length - cut_end });
        }
        start += length + 1;
    }
    events
}

/// The result of serde_json for an event; none if it is invalid.
fn reference(text: &[u8]) -> Option<BTreeMap<String, String>> {
    if std::str::from_utf8(text).is_err() {
        return None;
    }
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&without_halves(text)).ok()?;
    let members = members.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect();
    (depth(text) <= NESTING_MAX).then_some(members)
}

/// Replaces half surrogate pairs by other escapes: serde_json rejects them in keys, the parser does not.
fn without_halves(text: &[u8]) -> Vec<u8> {
    let mut whole = text.to_vec();
    let mut at = 0;
    while at < whole.len() {
        if whole[at] != b'\\' {
            at += 1;
            continue;
        }
        if let Some([b'u', b'd' | b'D', b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F', ..]) = whole.get(at + 1..) {
            whole[at + 2] = b'e';
        }
        at += 2;
    }
    whole
}

/// The nesting depth of the brackets in a valid text.
fn depth(text: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut inside, mut escaped) = (0, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth -= 1,
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

fn same_members(padded: &[u8], slots: &[Slot], members: &BTreeMap<String, String>) {
    let mut found = BTreeMap::new();
    for slot in slots {
        let mut name = Vec::new();
        assert!(unescape_key(&without_halves(slot_key(padded, *slot)), &mut name));
        found.insert(name, without_halves(&padded[slot.start as usize..slot.end as usize]));
    }
    let members = members.iter().map(|(key, value)| (key.clone().into_bytes(), value.clone().into_bytes())).collect();
    assert_eq!(found, members);
}

/// The path to the node spells the keys of the slots.
fn same_keys(padded: &[u8], slots: &[Slot], trie: &Trie, line: Line) {
    if line.node == NodeId::OVERFLOW {
        return;
    }
    let mut node = line.node;
    for slot in slots.iter().rev() {
        let mut name = Vec::new();
        assert!(unescape_key(slot_key(padded, *slot), &mut name));
        assert_eq!(trie.key(node), name);
        node = trie.parent(node);
    }
    assert_eq!(node, NodeId::ROOT);
}
