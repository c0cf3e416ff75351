//! `recovery`: a killed process left a large write-ahead log that no output has read, and the next start recovers it.
//!
//! At first a file takes the place of the output's folder, so nothing can be delivered and everything waits in the log. When
//! all lines are in the log, the process is killed. Then the folder can be created, and the next start is measured until
//! `/readyz` and until the first event in the output file. The log is in the page cache, as after the death of a process.
//! (After a power loss, it would have to be read from the disk.)
//!
//! Guarantees: at the end each event is in the output exactly once.

use super::throughput::MIB;
use super::{Bench, Scenario, WITHIN, ended_well};
use crate::contender::{Contender, Place};
use crate::data::{self, Kind};
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Figure, Results};
use crate::{check, count};
use std::time::Duration;

const LOOK: Duration = Duration::from_millis(1);
/// Bytes per line, to compute the number of lines.
const LINE_BYTES: u64 = 335;

pub(super) fn run(bench: &Bench<'_>, contender: &Contender, round: usize, results: &mut Results) -> Result<(), String> {
    let lines = bench.plan.recovery_bytes.div_ceil(LINE_BYTES);
    let input = bench.work.join("recovery.log");
    if !input.exists() {
        data::write(&input, Kind::Json, 0, lines, bench.plan.seed)?;
    }
    let place = bench.place(Scenario::Recovery.folder(), "run", input)?;
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    let log_bytes = fill(bench, contender, &place, lines).map_err(with_log)?;
    let gate = place.directory.join("gate");
    std::fs::remove_file(&gate).map_err(|error| format!("{}: {error}", gate.display()))?;

    let metered = Metered::start(&mut contender.command(&place)?, bench.contender_cpus())?;
    let is_ready = || Ok(count::get(place.admin, "/readyz").starts_with("HTTP/1.1 200"));
    measure::wait_for("ready", WITHIN, LOOK, is_ready).map_err(with_log)?;
    let ready_ms = metered.begun().elapsed().as_secs_f64() * 1000.0;
    let ready_cpu_ms = metered.threads_cpu_ns()? as f64 / 1e6;
    let mut output = Output::new(&gate.join("out.log"));
    measure::wait_for("the first event", WITHIN, LOOK, || Ok(output.look()? > 0)).map_err(with_log)?;
    let first_ms = metered.begun().elapsed().as_secs_f64() * 1000.0;
    metered.until(bench.within(lines), Duration::from_secs(5), || Ok(output.count()? >= lines)).map_err(with_log)?;
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    ended_well(contender, &metered.end()?).map_err(with_log)?;
    check::exactly_once(&[gate.join("out.log")], lines)?;
    eprintln!(
        "round {round}  recovery of {log_bytes} bytes  {} ready {ready_ms:.0} ms, first event {first_ms:.0} ms, CPU {ready_cpu_ms:.0} ms",
        contender.name()
    );
    let figures = [
        (Figure::LogMegabytes, log_bytes as f64 / 1e6),
        (Figure::ReadyMs, ready_ms),
        (Figure::FirstEventMs, first_ms),
        (Figure::CpuSeconds, ready_cpu_ms / 1e3),
        (Figure::ResidentPeakMib, peak),
    ];
    results.add(round, Scenario::Recovery.name(), "", contender.name(), &figures);
    Ok(())
}

/// Waits until all lines are in the program's log and kills it. Returns the bytes of the events in the log.
fn fill(bench: &Bench<'_>, contender: &Contender, place: &Place, lines: u64) -> Result<u64, String> {
    let gate = place.directory.join("gate");
    std::fs::write(&gate, "a file where a folder has to be\n")
        .map_err(|error| format!("{}: {error}", gate.display()))?;
    let metered = Metered::start(&mut contender.command(place)?, bench.contender_cpus())?;
    let mut bytes = 0;
    let all_in = || {
        let metrics = count::get(place.admin, "/metrics");
        bytes = count::tailwater_log_bytes(&metrics);
        Ok(count::tailwater_log_events(&metrics) >= lines)
    };
    metered.until(bench.within(lines), Duration::from_millis(500), all_in)?;
    metered.kill()?;
    Ok(bytes)
}
