//! `start`: from the start of the process to the first event in the output file.
//!
//! In the first case the data directory is empty. In the second the program restarts on what it left, and finds one new line.
//! All processors may be used. The output is checked every 0.2 ms, which is the precision of the figure.

use super::throughput::MIB;
use super::{Bench, Scenario, WITHIN, ended_well};
use crate::check;
use crate::contender::{Contender, Place};
use crate::data::{self, Kind};
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Figure, Results};
use std::fs::File;
use std::io::Write;
use std::time::Duration;

const LINES: u64 = 100;
const LOOK: Duration = Duration::from_micros(200);

pub(super) fn run(bench: &Bench<'_>, contender: &Contender, _: usize, results: &mut Results) -> Result<(), String> {
    for run in 1..=bench.plan.start_runs {
        let input = bench.work.join("run/in.log");
        let place = bench.place(Scenario::Start.folder(), "run", input.clone())?;
        data::write(&input, Kind::Json, 0, LINES, 1)?;
        let fresh = once(bench, contender, &place, 0, LINES)?;
        let mut line = String::new();
        data::Lines::new(Kind::Json, 1, LINES).append(&mut line);
        let added = File::options().append(true).open(&input).and_then(|mut file| file.write_all(line.as_bytes()));
        added.map_err(|error| format!("{}: {error}", input.display()))?;
        let again = once(bench, contender, &place, LINES, LINES + 1)?;
        check::exactly_once(&[place.output()], LINES + 1)?;
        for (case, figures) in [("fresh", fresh), ("again", again)] {
            eprintln!("run {run}    start {case}  {:<10} {:.1} ms", contender.name(), figures[0].1);
            results.add(run, Scenario::Start.name(), case, contender.name(), &figures);
        }
    }
    Ok(())
}

/// Starts the program with an output of `had` lines and waits for `wanted`.
fn once(
    bench: &Bench<'_>,
    contender: &Contender,
    place: &Place,
    had: u64,
    wanted: u64,
) -> Result<[(Figure, f64); 3], String> {
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    let mut output = Output::new(&place.output());
    output.count()?;
    let metered = Metered::start(&mut contender.command(place)?, &bench.cpus)?;
    measure::wait_for("the first event", WITHIN, LOOK, || Ok(output.count()? > had)).map_err(with_log)?;
    let first_ms = metered.begun().elapsed().as_secs_f64() * 1000.0;
    measure::wait_for("all events", WITHIN, LOOK, || Ok(output.count()? >= wanted)).map_err(with_log)?;
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end().map_err(with_log)?;
    ended_well(contender, &ended).map_err(with_log)?;
    Ok([(Figure::FirstEventMs, first_ms), (Figure::CpuSeconds, ended.cpu_seconds), (Figure::ResidentPeakMib, peak)])
}
