//! `file_to_blackhole` and `file_to_file`: an existing file is processed as fast as possible.
//!
//! Guarantees: a run counts only if every event arrived once. Without an output file, the program's own count must be exact,
//! and still be exact after a pause. With an output file, the file contains each number once.

use super::{Bench, Scenario, count_at_rest, ended_well};
use crate::check;
use crate::contender::Contender;
use crate::data::Kind;
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Figure, Results};
use std::path::Path;
use std::time::Duration;

/// How often the count of a working program is requested. Counting from the output file costs the program only memory
/// bandwidth, but for the whole file.
const ASK_PROGRAM: Duration = Duration::from_millis(500);
const ASK_OUTPUT: Duration = Duration::from_secs(5);

pub(super) const MIB: f64 = 1024.0 * 1024.0;

pub(super) fn run(
    bench: &Bench<'_>,
    scenario: Scenario,
    (kind, input, bytes): (Kind, &Path, u64),
    contender: &Contender,
    round: usize,
    results: &mut Results,
) -> Result<(), String> {
    let lines = bench.plan.lines;
    let place = bench.place(scenario.folder(), "run", input.to_owned())?;
    let metered = Metered::start(&mut contender.command(&place)?, bench.contender_cpus())?;
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    let (mut events, mut output) = (0, Output::new(&place.output()));
    let wall = if scenario == Scenario::FileToFile {
        let done = || {
            events = output.count()?;
            Ok(events >= lines)
        };
        let done = metered.until(bench.within(lines), ASK_OUTPUT, done);
        done.and_then(|_| metered.until_change_of(&place.output()))
    } else {
        let done = || {
            events = contender.events_out(&place);
            Ok(events >= lines)
        };
        metered.until(bench.within(lines), ASK_PROGRAM, done)
    };
    let wall = wall.map_err(with_log)?;
    if scenario == Scenario::FileToBlackhole {
        events = count_at_rest(contender, &place, measure::pause);
    }
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end().map_err(with_log)?;
    ended_well(contender, &ended).map_err(with_log)?;
    if events != lines {
        return Err(format!("it counts {events} events out of {lines}"));
    }
    if scenario == Scenario::FileToFile {
        check::exactly_once(&[place.output()], lines)?;
    }
    let rate = lines as f64 / ended.cpu_seconds;
    eprintln!(
        "round {round}  {:<18} {:<8} {:<10} {rate:>9.0} events per CPU-second",
        scenario.name(),
        kind.name(),
        contender.name()
    );
    let figures = [
        (Figure::EventsPerSecond, lines as f64 / wall),
        (Figure::MegabytesPerSecond, bytes as f64 / 1e6 / wall),
        (Figure::CpuSeconds, ended.cpu_seconds),
        (Figure::EventsPerCpuSecond, rate),
        (Figure::ResidentPeakMib, peak),
    ];
    results.add(round, scenario.name(), kind.name(), contender.name(), &figures);
    Ok(())
}
