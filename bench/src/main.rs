//! Measures single functions: `cargo run --release -p tailwater-bench [--keep FOLDER] [part of a name]`.
//!
//! Prints for each benchmark the nanoseconds per event, the best of several runs, and a hash of the computed result. With
//! `--keep perf/results` it also writes the raw results of all runs to a new file there. The tests run each benchmark with a
//! few events and compare the hash with the one listed here, so that nothing gets faster by computing something else. If a
//! result changes on purpose, the same commit changes the listed hash.
//!
//! `TAILWATER_TIER=avx2` measures what a processor without AVX-512 would do.
//!
//! Says nothing about the whole product. `perf/run.sh` measures that.
#![forbid(unsafe_code)]

mod data;
mod events;
mod json;
mod kernel;
mod lanes;
mod results;
mod text;
mod wal;

use events::trees::{self, Map, SerdeJson, SimdJson};
use results::Runs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tailwater_shards::scan::Tier;

/// The result of one run.
struct Outcome {
    elapsed: Duration,
    /// Hash of the result, the same for each run with as many events.
    hash: u64,
}

/// A benchmarked function.
struct Bench {
    name: &'static str,
    /// Runs it with this many events. Returns none if this machine cannot run it.
    run: fn(u64) -> Option<Outcome>,
    /// Hash of the result with [`TINY`] events.
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests compare it"))]
    tiny_hash: u64,
}

/// Events per run in the tests.
#[cfg(test)]
const TINY: u64 = 500;
/// Events per run on the command line.
const LARGE: u64 = 200_000;
const RUNS: usize = 7;

/// All tiers of the escape compute the same.
const ESCAPED: u64 = 0xe124_7500_8025_b7c7;

/// All tiers of the span parser compute the same.
const SPANS: u64 = 0x920f_7924_d77b_e3f3;

/// All parsers that build trees find the same number of members.
const TREES: u64 = 0xe8b0_3cb9_9734_5a24;

/// All programs that process whole events produce the same events.
const EVENTS: u64 = 0x6ac8_4a5b_18dd_3dc0;

/// The same for events of which each has a unique key.
const ODD: u64 = 0xca32_1164_07ea_bf46;

const BENCHES: [Bench; 35] = [
    Bench { name: "ring push and pop", run: lanes::ring, tiny_hash: 0xe1de_dac5_96c2_93d3 },
    Bench { name: "lane send and receive", run: lanes::lane, tiny_hash: 0x8792_c5d4_5b10_1fc7 },
    Bench { name: "line split", run: text::split, tiny_hash: 0x8d69_b82f_0159_5067 },
    Bench { name: "envelope encode", run: text::envelope, tiny_hash: 0xc442_4319_838e_3ad3 },
    Bench { name: "JSON escape, portable", run: text::escape_portable, tiny_hash: ESCAPED },
    Bench { name: "JSON escape, SSE2", run: text::escape_sse2, tiny_hash: ESCAPED },
    Bench { name: "JSON escape, AVX2", run: text::escape_avx2, tiny_hash: ESCAPED },
    Bench { name: "JSON escape, AVX-512", run: text::escape_avx512, tiny_hash: ESCAPED },
    Bench { name: "JSON spans, portable", run: json::spans_portable, tiny_hash: SPANS },
    Bench { name: "JSON spans, SSE2", run: json::spans_sse2, tiny_hash: SPANS },
    Bench { name: "JSON spans, AVX2", run: json::spans_avx2, tiny_hash: SPANS },
    Bench { name: "JSON spans, AVX-512", run: json::spans_avx512, tiny_hash: SPANS },
    Bench { name: "JSON tree, simd-json", run: json::tree_simd_json, tiny_hash: TREES },
    Bench { name: "JSON tree, serde_json", run: json::tree_serde_json, tiny_hash: TREES },
    Bench { name: "JSON tree, map", run: json::tree_map, tiny_hash: TREES },
    Bench { name: "event edited, Tailwater", run: events::edit_tailwater, tiny_hash: EVENTS },
    Bench { name: "event edited, simd-json", run: trees::edit::<SimdJson>, tiny_hash: EVENTS },
    Bench { name: "event edited, serde_json", run: trees::edit::<SerdeJson>, tiny_hash: EVENTS },
    Bench { name: "event edited, map", run: trees::edit::<Map>, tiny_hash: EVENTS },
    Bench { name: "event encoded, Tailwater", run: events::encode_tailwater, tiny_hash: EVENTS },
    Bench { name: "event encoded, simd-json", run: trees::encode::<SimdJson>, tiny_hash: EVENTS },
    Bench { name: "event encoded, serde_json", run: trees::encode::<SerdeJson>, tiny_hash: EVENTS },
    Bench { name: "event encoded, map", run: trees::encode::<Map>, tiny_hash: EVENTS },
    Bench { name: "event parsed, edited, encoded, Tailwater", run: events::whole_tailwater, tiny_hash: EVENTS },
    Bench { name: "event parsed, edited, encoded, simd-json", run: trees::whole_borrowed, tiny_hash: EVENTS },
    Bench { name: "event parsed, edited, encoded, serde_json", run: trees::whole::<SerdeJson>, tiny_hash: EVENTS },
    Bench { name: "event parsed, edited, encoded, map", run: trees::whole::<Map>, tiny_hash: EVENTS },
    Bench { name: "event of keys of its own, Tailwater", run: events::odd_tailwater, tiny_hash: ODD },
    Bench { name: "event of keys of its own, map", run: trees::odd::<Map>, tiny_hash: ODD },
    Bench { name: "frame checksum", run: wal::checksum, tiny_hash: 0x1302_cd6b_a7a7_8929 },
    Bench { name: "frame build and append", run: wal::append, tiny_hash: 0x1064_3e98_49a7_509d },
    Bench { name: "cursor read", run: wal::read, tiny_hash: 0x8842_bcc4_dc5d_6f48 },
    Bench { name: "kernel: read", run: kernel::read, tiny_hash: 0x678d_795b_0d47_efb8 },
    Bench { name: "kernel: log by the frame", run: kernel::write_frames, tiny_hash: 0x59a2_84ee_0bee_971a },
    Bench { name: "kernel: log in blocks", run: kernel::write_blocks, tiny_hash: 0x518c_0f1e_4f14_e540 },
];

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = match arguments.first().map(String::as_str) {
        Some("--keep") if arguments.len() > 1 => {
            arguments.remove(0);
            Some(PathBuf::from(arguments.remove(0)))
        }
        _ => None,
    };
    let wanted = arguments.first().cloned().unwrap_or_default();
    let chosen: Vec<&Bench> = BENCHES.iter().filter(|bench| bench.name.contains(&wanted)).collect();
    if chosen.is_empty() {
        eprintln!("no benchmark name contains `{wanted}`");
        return ExitCode::FAILURE;
    }
    match Tier::highest() {
        Ok(_) => println!("tier {}", Tier::best().name()),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let all = measure(&chosen);
    match folder.map(|folder| results::keep(&folder, LARGE, &all)) {
        Some(Ok(path)) => println!("kept in {}", path.display()),
        Some(Err(error)) => {
            eprintln!("the results could not be stored: {error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    ExitCode::SUCCESS
}

/// Runs the benchmarks in turn, so that other load on the machine affects all of them, and prints the best run of each.
/// Benchmarks that this machine cannot run are skipped.
fn measure(chosen: &[&Bench]) -> Vec<Runs> {
    let mut outcomes: Vec<Vec<Outcome>> = chosen.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for (bench, outcomes) in chosen.iter().zip(&mut outcomes) {
            outcomes.extend((bench.run)(LARGE));
        }
    }
    let runs = |(bench, outcomes): (&&Bench, Vec<Outcome>)| {
        let Some(first) = outcomes.first() else {
            println!("{:<24} not supported by this machine", bench.name);
            return None;
        };
        let per_event = |outcome: &Outcome| outcome.elapsed.as_secs_f64() * 1e9 / LARGE as f64;
        let nanoseconds: Vec<f64> = outcomes.iter().map(per_event).collect();
        let best = nanoseconds.iter().copied().fold(f64::INFINITY, f64::min);
        println!("{:<24} {best:>8.1} ns per event   {:016x}", bench.name, first.hash);
        Some(Runs { name: bench.name, hash: first.hash, nanoseconds })
    };
    chosen.iter().zip(outcomes).filter_map(runs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_benchmark_computes_what_is_listed() {
        let mut wrong = Vec::new();
        let mut ran = 0;
        for bench in &BENCHES {
            let Some(outcome) = (bench.run)(TINY) else { continue };
            ran += 1;
            if outcome.hash != bench.tiny_hash {
                wrong.push(format!("{}: {:#018x}", bench.name, outcome.hash));
            }
        }
        assert!(ran >= 5, "only {ran} benchmarks can run here");
        assert!(wrong.is_empty(), "results have changed:\n{}", wrong.join("\n"));
    }
}
