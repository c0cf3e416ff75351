//! From bytes to events, and from events to JSON lines.

use crate::Outcome;
use crate::data::{batches, fold, fold_bytes, line};
use std::time::{Duration, Instant};
use tailwater::codec::encoding::Encoding;
use tailwater::codec::envelope::{EnvelopeKind, spec};
use tailwater::codec::framing::{Ending, LineTooLong, Place, Rules, cut};
use tailwater::config::component::Facts;
use tailwater::config::types::FieldNames;
use tailwater_shards::batch::Batch;
use tailwater_shards::dlq::Letters;
use tailwater_shards::env::ShardId;
use tailwater_shards::limits::LINE_BYTES_DEFAULT;
use tailwater_shards::plugin::Frames;
use tailwater_shards::scan::{Tier, escape::escape_json_with};
use tailwater_shards::wal::builder::Group;

/// Number of events in the batches that are processed in turn: a shard's chunks stay in its L2 cache, a hundred thousand lines
/// would not.
pub const WARM_EVENTS: u64 = 1000;

/// Runs `work` over batches until `events` events are processed, with the clock running, and hashes what `result` makes of each
/// batch, with the clock stopped.
fn clocked<T>(
    events: u64,
    state: &mut T,
    work: impl FnMut(&mut T, &mut Batch),
    result: impl Fn(&T, &Batch) -> u64,
) -> Outcome {
    clocked_over(batches(events.min(WARM_EVENTS), line), events, state, work, result)
}

/// The same over given batches.
pub fn clocked_over<T>(
    mut batches: Vec<Batch>,
    events: u64,
    state: &mut T,
    mut work: impl FnMut(&mut T, &mut Batch),
    result: impl Fn(&T, &Batch) -> u64,
) -> Outcome {
    let (mut elapsed, mut hash, mut done) = (Duration::ZERO, 0, 0);
    while done < events {
        for batch in &mut batches {
            done += batch.events.len() as u64;
            let begun = Instant::now();
            work(state, batch);
            elapsed += begun.elapsed();
            hash = fold(hash, result(state, batch));
        }
    }
    Outcome { elapsed, hash }
}

/// Newlines of a chunk to spans.
pub fn split(events: u64) -> Option<Outcome> {
    let too_long = LineTooLong::Truncate;
    let rules = Rules {
        line_bytes_max: LINE_BYTES_DEFAULT,
        too_long,
        keep_cr: false,
        skip_nuls: true,
        skip_empty: true,
        encoding: Encoding::Utf8,
    };
    let work = |(): &mut (), batch: &mut Batch| {
        batch.events.clear();
        cut(batch.chunk.bytes(), 0, Place::LineStart, rules, Ending::Open, &mut batch.events);
    };
    let result = |(): &(), batch: &Batch| {
        batch.events.iter().fold(0, |hash, span| fold(hash, u64::from(span.start) << 32 | u64::from(span.end)))
    };
    Some(clocked(events, &mut (), work, result))
}

/// From events to the lines that go into the write-ahead log.
pub fn envelope(events: u64) -> Option<Outcome> {
    let facts = Facts::of("web-03");
    let mut processor = spec(&FieldNames::default(), &facts, EnvelopeKind::File).open(ShardId(0));
    let work = |group: &mut Group, batch: &mut Batch| {
        group.clear();
        processor.begin(batch);
        processor.process(batch, 0, &mut Frames::new(group, 0, 1, &[1], &mut Letters::new()));
    };
    let result =
        |group: &Group, _: &Batch| group.frames().iter().fold(0, |hash, frame| fold_bytes(hash, frame.lines()));
    Some(clocked(events, &mut Group::new(), work, result))
}

fn escape(events: u64, tier: Tier) -> Option<Outcome> {
    let work = |out: &mut Vec<u8>, batch: &mut Batch| {
        out.clear();
        for index in 0..batch.events.len() {
            escape_json_with(tier, batch.event(index), out);
        }
    };
    tier.is_available().then(|| clocked(events, &mut Vec::new(), work, |out, _| fold_bytes(0, out)))
}

/// The content of a JSON string, plain code.
pub fn escape_portable(events: u64) -> Option<Outcome> {
    escape(events, Tier::Portable)
}

/// The same, 16 bytes at a time.
pub fn escape_sse2(events: u64) -> Option<Outcome> {
    escape(events, Tier::Sse2)
}

/// The same, 32 bytes at a time.
pub fn escape_avx2(events: u64) -> Option<Outcome> {
    escape(events, Tier::Avx2)
}

/// The same, with byte compression.
pub fn escape_avx512(events: u64) -> Option<Outcome> {
    escape(events, Tier::Avx512)
}
