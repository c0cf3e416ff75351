//! From JSON lines to fields: spans, and for comparison the trees that other programs build from the same lines.

use crate::Outcome;
use crate::data::{batches, fold, fold_bytes, mixed_line};
use crate::text::{WARM_EVENTS, clocked_over};
use std::collections::BTreeMap;
use tailwater_shards::batch::Batch;
use tailwater_shards::scan::Tier;
use tailwater_shards::scan::json::{Lines, Parser, Trie};

/// Nodes of the trie: more than these lines need.
const NODES_MAX: usize = 4096;

fn clocked<T>(
    events: u64,
    state: &mut T,
    work: impl FnMut(&mut T, &mut Batch),
    result: impl Fn(&T, &Batch) -> u64,
) -> Outcome {
    clocked_over(batches(events.min(WARM_EVENTS), mixed_line), events, state, work, result)
}

fn spans(events: u64, tier: Tier) -> Option<Outcome> {
    if !tier.is_available() {
        return None;
    }
    let mut state = (Parser::with_tier(tier), Trie::new(NODES_MAX), Lines::default());
    let work = |(parser, trie, lines): &mut (Parser, Trie, Lines), batch: &mut Batch| {
        parser.parse(batch.chunk.padded(), &batch.events, trie, lines);
    };
    let result = |(_, _, lines): &(Parser, Trie, Lines), batch: &Batch| {
        let hash = lines.lines.iter().fold(0, |hash, line| fold(hash, line.node.index() as u64));
        let bytes = batch.chunk.bytes();
        lines.slots.iter().fold(hash, |hash, slot| fold_bytes(hash, &bytes[slot.start as usize..slot.end as usize]))
    };
    Some(clocked(events, &mut state, work, result))
}

/// All fields of each line, plain code.
pub fn spans_portable(events: u64) -> Option<Outcome> {
    spans(events, Tier::Portable)
}

/// The same, 16 bytes at a time.
pub fn spans_sse2(events: u64) -> Option<Outcome> {
    spans(events, Tier::Sse2)
}

/// The same, 32 bytes at a time.
pub fn spans_avx2(events: u64) -> Option<Outcome> {
    spans(events, Tier::Avx2)
}

/// The same, 64 bytes at a time.
pub fn spans_avx512(events: u64) -> Option<Outcome> {
    spans(events, Tier::Avx512)
}

/// A tree of each line that borrows from it. The parser writes into its text, so it needs a copy.
pub fn tree_simd_json(events: u64) -> Option<Outcome> {
    let mut state = (simd_json::Buffers::default(), Vec::new(), 0);
    let work = |(buffers, copy, members): &mut (simd_json::Buffers, Vec<u8>, u64), batch: &mut Batch| {
        *members = 0;
        for index in 0..batch.events.len() {
            copy.clear();
            copy.extend_from_slice(batch.event(index));
            if let Ok(simd_json::BorrowedValue::Object(object)) =
                simd_json::to_borrowed_value_with_buffers(copy, buffers)
            {
                *members += object.len() as u64;
            }
        }
    };
    Some(clocked(events, &mut state, work, |(_, _, members), _| *members))
}

/// A map of each line that owns all of it.
pub fn tree_map(events: u64) -> Option<Outcome> {
    let work = |members: &mut u64, batch: &mut Batch| {
        *members = 0;
        for index in 0..batch.events.len() {
            let map: Result<BTreeMap<String, serde_json::Value>, _> = serde_json::from_slice(batch.event(index));
            *members += map.map_or(0, |map| map.len() as u64);
        }
    };
    Some(clocked(events, &mut 0, work, |members, _| *members))
}

/// A tree of each line that owns all of it.
pub fn tree_serde_json(events: u64) -> Option<Outcome> {
    let work = |members: &mut u64, batch: &mut Batch| {
        *members = 0;
        for index in 0..batch.events.len() {
            if let Ok(serde_json::Value::Object(object)) = serde_json::from_slice(batch.event(index)) {
                *members += object.len() as u64;
            }
        }
    };
    Some(clocked(events, &mut 0, work, |members, _| *members))
}
