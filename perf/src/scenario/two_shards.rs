//! `two_shards`: the same files on one shard and on two, each shard on its own processor.
//!
//! The figure is events per second of wall time, start included. With one processor there is nothing to measure. With two, the
//! measuring process shares one with a shard. It sleeps between checks, and what it used is a separate figure.
//!
//! Guarantees: all events were delivered, by the program's own count, which is still the same after a pause. If a file is
//! written, it contains each event once.

use super::throughput::MIB;
use super::{Bench, Scenario, count_at_rest, ended_well};
use crate::check;
use crate::contender::{Contender, Place};
use crate::data::{self, Kind};
use crate::measure::{self, Metered};
use crate::results::{Figure, Results};
use std::time::Duration;

/// Files per run: an even number, so that both shards can have the same number.
const FILES: u64 = 4;
/// Maximum number of lines per file.
const FILE_LINES_MAX: u64 = 1_000_000;

/// The remark on results of a machine with this many processors.
pub(super) fn note(cpus: usize) -> Option<String> {
    (cpus == 2).then(|| "two_shards: only two processors, so the measuring process shares one with a shard".to_owned())
}

pub(super) fn run(bench: &Bench<'_>, contender: &Contender, round: usize, results: &mut Results) -> Result<(), String> {
    if bench.cpus.len() < 2 {
        eprintln!("two_shards: skipped, because there is only one processor");
        return Ok(());
    }
    let inputs = bench.work.join("shards");
    let lines = bench.plan.lines.min(FILE_LINES_MAX);
    if !inputs.exists() {
        measure::clear_directory(&inputs)?;
        for file in 0..FILES {
            data::write(&inputs.join(format!("{file}.log")), Kind::Json, file * lines, lines, bench.plan.seed)?;
        }
    }
    let two = &bench.cpus[bench.cpus.len() - 2..];
    for folder in [Scenario::FileToBlackhole.folder(), Scenario::FileToFile.folder()] {
        for (shards, cpus) in [("1 shard", &two[1..]), ("2 shards", two)] {
            let place = bench.place(folder, "run", inputs.join("*.log"))?;
            once(bench, contender, &place, (&format!("{folder}, {shards}"), cpus), round, results)
                .map_err(|error| format!("{folder}, {shards}: {error}\n{}", place.own_log()))?;
        }
    }
    Ok(())
}

fn once(
    bench: &Bench<'_>,
    contender: &Contender,
    place: &Place,
    (case, cpus): (&str, &[usize]),
    round: usize,
    results: &mut Results,
) -> Result<(), String> {
    let lines = bench.plan.lines.min(FILE_LINES_MAX);
    let metered = Metered::start(&mut contender.command(place)?, cpus)?;
    let own_begun = measure::own_cpu_seconds()?;
    let done = || Ok(contender.events_out(place) >= lines * FILES);
    let mut wall = metered.until(bench.within(lines * FILES), Duration::from_secs(2), done)?;
    let measuring = (measure::own_cpu_seconds()? - own_begun) / metered.begun().elapsed().as_secs_f64();
    let events = count_at_rest(contender, place, measure::pause);
    if place.output().is_file() {
        wall = metered.until_change_of(&place.output())?;
    }
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end()?;
    ended_well(contender, &ended)?;
    if events != lines * FILES {
        return Err(format!("it counts {events} events out of {}", lines * FILES));
    }
    if place.output().is_file() {
        check::exactly_once(&[place.output()], events)?;
    }
    let rate = events as f64 / wall;
    let measuring_ms = measuring * 1000.0;
    eprintln!(
        "round {round}  two_shards {case:<28}  {rate:>9.0} events per second; measuring took {measuring_ms:.1} ms per s"
    );
    let figures = [
        (Figure::EventsPerSecond, rate),
        (Figure::CpuSeconds, ended.cpu_seconds),
        (Figure::EventsPerCpuSecond, events as f64 / ended.cpu_seconds),
        (Figure::ResidentPeakMib, peak),
        (Figure::MeasuringMsPerSecond, measuring_ms),
    ];
    results.add(round, Scenario::TwoShards.name(), case, contender.name(), &figures);
    Ok(())
}
