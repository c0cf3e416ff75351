//! `two_shards`: the same files on one shard and on two, each shard on a processor of its own.
//!
//! The figure is events per second of wall time, start included. On a machine with one processor there is nothing to measure.
//!
//! Guarantees: all events were delivered, by the program's own count.

use super::throughput::MIB;
use super::{Bench, Scenario, ended_well};
use crate::contender::Contender;
use crate::data::{self, Kind};
use crate::measure::{self, Metered};
use crate::results::{Figure, Results};
use std::time::Duration;

/// Files of one run; an even number, so that both shards can have the same.
const FILES: u64 = 4;

pub(super) fn run(bench: &Bench<'_>, contender: &Contender, round: usize, results: &mut Results) -> Result<(), String> {
    if bench.cpus.len() < 2 {
        eprintln!("two_shards: there is only one processor");
        return Ok(());
    }
    let inputs = bench.work.join("shards");
    let lines = bench.plan.lines;
    if !inputs.exists() {
        measure::clear_directory(&inputs)?;
        for file in 0..FILES {
            data::write(&inputs.join(format!("{file}.log")), Kind::Json, file * lines, lines, bench.plan.seed)?;
        }
    }
    let two = &bench.cpus[bench.cpus.len() - 2..];
    for (case, cpus) in [("1 shard", &two[1..]), ("2 shards", two)] {
        let place = bench.place(Scenario::TwoShards, "run", inputs.join("*.log"))?;
        let with_log = |error: String| format!("{error}\n{}", place.own_log());
        let metered = Metered::start(&mut contender.command(&place)?, cpus)?;
        let mut events = 0;
        let done = || {
            events = contender.events_out(&place);
            Ok(events >= lines * FILES)
        };
        let wall = metered.until(bench.within(lines * FILES), Duration::from_secs(2), done).map_err(with_log)?;
        let peak = metered.resident_peak_bytes() as f64 / MIB;
        let ended = metered.end().map_err(with_log)?;
        ended_well(contender, &ended).map_err(with_log)?;
        if events != lines * FILES {
            return Err(format!("it counts {events} events out of {}", lines * FILES));
        }
        let rate = events as f64 / wall;
        eprintln!("round {round}  two_shards {case:<8}  {:<10} {rate:>9.0} events per second", contender.name());
        let figures = [
            (Figure::EventsPerSecond, rate),
            (Figure::CpuSeconds, ended.cpu_seconds),
            (Figure::EventsPerCpuSecond, events as f64 / ended.cpu_seconds),
            (Figure::ResidentPeakMib, peak),
        ];
        results.add(round, Scenario::TwoShards.name(), case, contender.name(), &figures);
    }
    Ok(())
}
