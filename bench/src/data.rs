//! The data of the benchmarks: JSON lines of about 330 bytes in batches of 64 KiB, and hashes of results.

use std::sync::Arc;
use tailwater_shards::batch::{Batch, EventSpan, Source, SourceKey, SourceRange};
use tailwater_shards::env::Timestamp;
use tailwater_shards::limits::CHUNK_BYTES;
use xxhash_rust::xxh3::xxh3_64;

/// Appends the result of one step to a hash.
pub fn fold(hash: u64, value: u64) -> u64 {
    (hash ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

/// Appends bytes to a hash.
pub fn fold_bytes(hash: u64, bytes: &[u8]) -> u64 {
    fold(hash, xxh3_64(bytes))
}

/// One line, including its newline: quotes to escape, and sometimes a non-ASCII letter.
pub fn line(number: u64) -> String {
    let mixed = number.wrapping_mul(0xd134_2543_de82_ef95);
    let name = if number.is_multiple_of(50) { "Jürgen" } else { "Juergen" };
    format!(
        "{{\"event_number\":\"{number:012}\",\"time\":\"2026-11-23T00:12:34.{:06}Z\",\"level\":\"info\",\"service\":\"checkout\",\
         \"user\":\"{name}\",\"path\":\"/api/v1/orders/{}\",\"status\":200,\"duration_us\":{},\"client\":\"10.{}.7.1\",\
         \"trace\":\"{mixed:016x}{number:016x}\",\"agent\":\"Mozilla/5.0 (X11; Linux x86_64)\",\"message\":\"request served from cache\"}}\n",
        number % 1_000_000,
        mixed >> 44,
        mixed >> 50,
        mixed >> 56,
    )
}

/// One line as several programs write it, including its newline: two orders of keys, optional fields, sometimes escapes, and a
/// nested object.
pub fn mixed_line(number: u64) -> String {
    let mixed = number.wrapping_mul(0xd134_2543_de82_ef95);
    let time = format!("\"time\":\"2026-11-23T00:12:34.{:06}Z\"", number % 1_000_000);
    let message = match number % 6 {
        0 => "order \\\"spring\\\" failed\\n\\tat Foo.java:42",
        1 => "payment of 12,50 € was retried",
        _ => "request served from cache after a retry of the upstream",
    };
    let level = ["info", "info", "debug", "warn"][(mixed >> 40) as usize % 4];
    let http = format!("{{\"method\":\"GET\",\"path\":\"/api/v1/orders/{}\"}}", mixed >> 44);
    let trace = format!("\"trace\":\"{mixed:016x}{number:016x}\"");
    let user = if mixed >> 33 & 3 == 0 { String::new() } else { format!("\"user\":{},", mixed >> 41) };
    let tags = if mixed >> 35 & 3 == 0 { "\"tags\":[\"eu\",\"web\"]," } else { "" };
    let rest = format!("{user}{tags}\"region\":\"eu-west-{}\",\"ok\":true}}\n", mixed >> 62);
    let status = 200 + (mixed >> 59);
    let took = mixed >> 50;
    if number % 3 < 2 {
        format!(
            "{{{time},\"level\":\"{level}\",\"service\":\"checkout\",\"message\":\"{message}\",{trace},\"status\":{status},\
             \"duration_ms\":{took}.25,\"http\":{http},\"client\":\"10.{}.7.1\",{rest}",
            mixed >> 56,
        )
    } else {
        format!(
            "{{\"level\":\"{level}\",{time},\"logger\":\"http.access\",\"message\":\"{message}\",\"service\":\"auth\",\
             \"request\":{http},\"status\":{status},\"took_us\":{took},{trace},\"pod\":\"auth-7f9c4d-{:05x}\",{rest}",
            mixed >> 44,
        )
    }
}

/// The same with a first key that no other line has.
pub fn odd_line(number: u64) -> String {
    format!("{{\"id-{number}\":{number},{}", &mixed_line(number)[1..])
}

/// The source of all batches.
pub fn source() -> Arc<Source> {
    Arc::new(Source {
        key: SourceKey(1),
        input: "in".into(),
        name: b"/var/log/app/current.log".to_vec(),
        descriptor: vec![7; 40],
        repeatable: true,
    })
}

/// Full batches with `events` lines in all, cut into events.
pub fn batches(events: u64, line: fn(u64) -> String) -> Vec<Batch> {
    let source = source();
    let mut all = Vec::new();
    let mut bytes: Vec<u8> = Vec::new();
    let mut spans: Vec<EventSpan> = Vec::new();
    let mut offset = 0;
    for number in 0..events {
        let line = line(number);
        if bytes.len() + line.len() > CHUNK_BYTES {
            offset = flush(&mut all, &source, &mut bytes, &mut spans, offset);
        }
        let start = bytes.len() as u32;
        bytes.extend_from_slice(line.as_bytes());
        spans.push(EventSpan { start, end: bytes.len() as u32 - 1 });
    }
    flush(&mut all, &source, &mut bytes, &mut spans, offset);
    all
}

fn flush(
    all: &mut Vec<Batch>,
    source: &Arc<Source>,
    bytes: &mut Vec<u8>,
    spans: &mut Vec<EventSpan>,
    offset: u64,
) -> u64 {
    let end = offset + bytes.len() as u64;
    let mut batch = Batch::new(CHUNK_BYTES, source.clone());
    batch.chunk.spare()[..bytes.len()].copy_from_slice(bytes);
    batch.chunk.set_length(bytes.len());
    batch.events.append(spans);
    batch.chunk_offset = offset;
    batch.range = SourceRange { from: offset, to: end, marker: end };
    batch.received = Timestamp(1_795_392_754_567_890_123);
    all.push(batch);
    bytes.clear();
    end
}
