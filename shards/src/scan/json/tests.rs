//! The parser compared with serde_json, with `explain`, and with itself on other tiers.
//!
//! This file has the reference. The files below choose the events.

use super::*;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

mod bounds;
mod places;
mod verdicts;

/// serde_json's result for one event, adjusted for the documented differences: the texts of its members, with the last one of
/// those that share a key. None if it is invalid.
pub(super) fn reference(line: &[u8]) -> Option<BTreeMap<String, String>> {
    if line.contains(&b'\n') || std::str::from_utf8(line).is_err() || depth(line) > NESTING_MAX {
        return None;
    }
    // serde_json rejects unpaired surrogates in keys, so they are replaced here.
    let whole = without_halves(line);
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&whole).ok()?;
    Some(members.into_iter().map(|(key, value)| (key, value.get().to_owned())).collect())
}

/// The same text with every `\ud800` to `\udfff` replaced by another escape.
pub(super) fn without_halves(line: &[u8]) -> Vec<u8> {
    let mut whole = line.to_vec();
    let mut at = 0;
    while at < whole.len() {
        if whole[at] != b'\\' {
            at += 1;
            continue;
        }
        if let Some([b'u', b'd' | b'D', second, ..]) = whole.get(at + 1..)
            && matches!(second, b'8' | b'9' | b'a'..=b'f' | b'A'..=b'F')
        {
            whole[at + 2] = b'e';
        }
        at += 2;
    }
    whole
}

/// Nesting depth of brackets outside of strings.
fn depth(line: &[u8]) -> u32 {
    let (mut depth, mut deepest, mut inside, mut escaped) = (0u32, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b'{' | b'[' if !inside => depth += 1,
            b'}' | b']' if !inside => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

pub(super) fn tiers() -> impl Iterator<Item = Tier> {
    Tier::ALL.into_iter().filter(|tier| tier.is_available())
}

pub(super) fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len() + CHUNK_PADDING_BYTES, 0);
    padded
}

/// One event for each line, the last one too if it is not empty.
pub(super) fn split(bytes: &[u8]) -> Vec<EventSpan> {
    let mut start = 0;
    let mut events = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let end = start + line.len() as u32 - u32::from(line.ends_with(b"\n"));
        events.push(EventSpan { start, end });
        start += line.len() as u32;
    }
    events
}

/// Keys of a node, first to last.
fn keys(trie: &Trie, mut node: NodeId) -> Vec<String> {
    let mut keys = Vec::new();
    while node != NodeId::ROOT {
        keys.push(String::from_utf8(trie.key(node).to_vec()).expect("keys are UTF-8"));
        node = trie.parent(node);
    }
    keys.reverse();
    keys
}

/// Parses `events` with each tier and compares every line with the reference. Returns the common result of all tiers.
pub(super) fn check(bytes: &[u8], events: &[EventSpan], nodes_max: usize) -> (Lines, Trie) {
    let padded = padded(bytes);
    let mut all: Option<(Lines, Trie)> = None;
    for tier in tiers() {
        let (mut lines, mut trie) = (Lines::default(), Trie::new(nodes_max));
        Parser::with_tier(tier).parse(&padded, events, &mut trie, &mut lines);
        match &all {
            None => all = Some((lines, trie)),
            Some((first, _)) => {
                assert!(first.lines == lines.lines && first.slots == lines.slots, "{tier:?} differs from plain code");
            }
        }
    }
    let (lines, trie) = all.expect("plain code is always there");
    assert_eq!(lines.lines.len(), events.len());
    let mut next = 0;
    for (line, event) in lines.lines.iter().zip(events) {
        assert_eq!(line.first_slot as usize, next, "slots follow each other");
        next += line.slots as usize;
        check_line(&padded, *event, *line, lines.slots(*line), &trie);
    }
    assert_eq!(next, lines.slots.len());
    (lines, trie)
}

fn check_line(padded: &[u8], event: EventSpan, line: Line, slots: &[Slot], trie: &Trie) {
    let text = &padded[event.range()];
    let shown = || text.escape_ascii().to_string();
    let expected = reference(text).filter(|_| explain(text).is_none_or(|fault| fault.reason != Reason::Fields));
    let fault = explain(text);
    assert_eq!(fault.is_none(), expected.is_some(), "explain says {fault:?} of {}", shown());
    if let Some(fault) = fault {
        assert!(fault.at <= text.len());
    }
    let Some(expected) = expected else {
        assert_eq!(line.node, NodeId::BAD, "serde refuses {}", shown());
        assert_eq!(line.slots, 0);
        return;
    };
    assert_ne!(line.node, NodeId::BAD, "serde accepts {}", shown());
    let names = line.node.is_node().then(|| keys(trie, line.node));
    let mut found = BTreeMap::new();
    let mut before = event.start;
    for (index, slot) in slots.iter().enumerate() {
        assert!(before < slot.key && slot.key < slot.start && slot.start < slot.end && slot.end < event.end);
        assert!(matches!(padded[slot.key as usize - 1], b'{' | b','));
        before = slot.end;
        let mut name = Vec::new();
        let key = slot_key(padded, *slot);
        assert!(unescape_key(&without_halves(key), &mut name), "a key of {}", shown());
        let text = without_halves(&padded[slot.start as usize..slot.end as usize]);
        found.insert(String::from_utf8(name).expect("a key"), String::from_utf8(text).expect("a value"));
        if let Some(names) = &names {
            let mut name = Vec::new();
            assert!(unescape_key(key, &mut name));
            assert_eq!(names[index].as_bytes(), name);
        }
    }
    assert_eq!(found, expected, "{}", shown());
    if let Some(names) = names {
        assert_eq!((names.len(), trie.depth(line.node)), (slots.len(), slots.len()));
    }
}
