//! `json_to_file`, `json_to_http` and `json_to_elasticsearch`: JSON lines are parsed, changed and sent on, as `work.rs`
//! describes.
//!
//! A program sends to a sink in this process, which runs on other processors than the program. A program without an HTTP output
//! takes part in `json_to_http` with lines over TCP, which is less work.
//!
//! Guarantees: a run counts only if every event arrived once, even after a pause, if each event of a sample was changed
//! correctly, and if the sink was not the limit.

use super::throughput::MIB;
use super::{Bench, Scenario, ended_well};
use crate::contender::{Contender, Program};
use crate::data::Kind;
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Figure, Results};
use crate::sink::{self, Service, Sink};
use crate::work::Fidelity;
use crate::{check, work, yardstick};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

/// How often the events of a working program are counted. A sink counts them as they arrive, but a file must be read.
const ASK_SINK: Duration = Duration::from_millis(100);
const ASK_FILE: Duration = Duration::from_secs(5);
/// Repeated events arrive late.
const REST: Duration = Duration::from_millis(500);
/// The share of a processor above which a program may be waiting for the sink.
const SINK_BUSY_MAX: f64 = 0.9;
/// The minimum duration of a run: one check.
const WALL_SECONDS_MIN: f64 = 1e-3;
/// A shorter run says nothing about the sink, because its first events cost more than later ones.
const JUDGED_SECONDS_MIN: f64 = 0.1;
/// How long a sink's capacity is measured.
const CAPACITY: Duration = Duration::from_millis(500);

/// The capacity of the sinks on this machine.
pub(super) fn notes(scenarios: &[Scenario]) -> Result<Vec<String>, String> {
    let services: &[Service] =
        match (scenarios.contains(&Scenario::JsonToHttp), scenarios.contains(&Scenario::JsonToElasticsearch)) {
            (false, false) => &[],
            (true, false) => &[Service::Lines, Service::Http],
            (false, true) => &[Service::Bulk],
            (true, true) => &Service::ALL,
        };
    services.iter().map(|service| Ok(sink::capacity(*service, CAPACITY)?.text())).collect()
}

/// The kind of sink that a program uses in a scenario.
fn service(scenario: Scenario, program: Program) -> Option<Service> {
    match (scenario, program) {
        (Scenario::JsonToElasticsearch, _) => Some(Service::Bulk),
        (Scenario::JsonToHttp, Program::Rsyslog) => Some(Service::Lines),
        (Scenario::JsonToHttp, _) => Some(Service::Http),
        _ => None,
    }
}

pub(super) fn run(
    bench: &Bench<'_>,
    scenario: Scenario,
    contender: &Contender,
    round: usize,
    results: &mut Results,
) -> Result<(), String> {
    let app = bench.inputs.iter().find(|(kind, _, _)| *kind == Kind::App);
    let (_, input, bytes) = app.ok_or("its input was not made")?;
    let lines = bench.plan.lines;
    if contender.is_ours() {
        let cost = yardstick::cpu_ns_per_line(input, bench.contender_cpus(), bench.own_cpus())?;
        results.add(round, scenario.name(), "app", "serde_json", &[(Figure::NsPerLine, cost)]);
    }
    let mut place = bench.place(scenario.folder(), "run", input.clone())?;
    let sink = service(scenario, contender.program).map(|service| Sink::start(service, lines)).transpose()?;
    place.sink = sink.as_ref().map(Sink::address);
    let metered = Metered::start(&mut contender.command(&place)?, bench.contender_cpus())?;
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    let mut output = Output::new(&place.output());
    let mut arrived = || match &sink {
        Some(sink) => Ok(sink.events()),
        None => output.count(),
    };
    let ask = if sink.is_some() { ASK_SINK } else { ASK_FILE };
    let wall = metered.until(bench.within(lines), ask, || Ok(arrived()? >= lines));
    let wall = wall.map_err(|error| {
        let count = arrived().unwrap_or(0);
        with_log(format!("{error}; {count} of {lines} events arrived"))
    })?;
    let wall = if sink.is_none() { metered.until_change_of(&place.output())? } else { wall };
    // Everything may have arrived at the first check.
    let wall = wall.max(WALL_SECONDS_MIN);
    let busy = sink.as_ref().map(|sink| sink.busy_seconds() / wall);
    measure::pause(REST);
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end().map_err(with_log)?;
    ended_well(contender, &ended).map_err(with_log)?;
    let samples = match &sink {
        Some(sink) => sink.verdict().map(|()| sink.samples()),
        None => check::exactly_once(&[place.output()], lines).and_then(|()| every_so_many(&place.output(), lines)),
    };
    verify(input, &samples.map_err(with_log)?, contender.program, lines)?;
    if let Some(busy) = busy.filter(|busy| *busy > SINK_BUSY_MAX && wall >= JUDGED_SECONDS_MIN) {
        return Err(format!("the sink was the limit: it worked {busy:.2} of the time"));
    }
    let rate = lines as f64 / ended.cpu_seconds;
    let (name, who) = (scenario.name(), contender.name());
    eprintln!("round {round}  {name:<21} {who:<10} {rate:>9.0} events per CPU-second");
    let mut figures = vec![
        (Figure::EventsPerSecond, lines as f64 / wall),
        (Figure::MegabytesPerSecond, *bytes as f64 / 1e6 / wall),
        (Figure::CpuSeconds, ended.cpu_seconds),
        (Figure::EventsPerCpuSecond, rate),
        (Figure::ResidentPeakMib, peak),
    ];
    figures.extend(busy.map(|busy| (Figure::SinkMsPerSecond, busy * 1000.0)));
    results.add(round, name, "app", who, &figures);
    Ok(())
}

/// The lines of a file that belong to the sample, by number.
fn every_so_many(path: &Path, all: u64) -> Result<BTreeMap<u64, Vec<u8>>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(fail)?);
    let (mut lines, mut line) = (BTreeMap::new(), Vec::new());
    while reader.read_until(b'\n', &mut line).map_err(fail)? > 0 {
        if let Some(number) = check::number_of(&line).filter(|number| number % sink::sample_each(all) == 0) {
            lines.insert(number, line.clone());
        }
        line.clear();
    }
    Ok(lines)
}

/// Whether each event of a sample was changed correctly, and whether the sample has the expected size.
fn verify(input: &Path, samples: &BTreeMap<u64, Vec<u8>>, program: Program, lines: u64) -> Result<(), String> {
    if program.fidelity() == Fidelity::Presence {
        // They may put many events into one line, in their own format.
        return Ok(());
    }
    let wanted = lines.div_ceil(sink::sample_each(lines));
    if samples.len() as u64 != wanted {
        return Err(format!("the sample has {} of {wanted} events", samples.len()));
    }
    let sources = every_so_many(input, lines)?;
    samples.iter().try_for_each(|(number, event)| {
        let line = sources.get(number).ok_or_else(|| format!("the input has no number {number}"))?;
        work::verify(line, event, program.fidelity()).map_err(|error| format!("event {number} came out wrong: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data;

    const LINES: u64 = 30_000;

    #[test]
    fn sample_that_is_wrong_or_too_small_does_not_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("in.log");
        data::write(&input, Kind::App, 0, LINES, 1).expect("an input");
        let done = |(number, line): (u64, Vec<u8>)| {
            let event = work::expected(&line).expect("a line of the input is JSON");
            (number, serde_json::Value::Object(event).to_string().into_bytes())
        };
        let mut samples: BTreeMap<u64, Vec<u8>> =
            every_so_many(&input, LINES).expect("lines").into_iter().map(done).collect();
        assert_eq!(samples.len(), 31);
        assert_eq!(verify(&input, &samples, Program::Tailwater, LINES), Ok(()));
        let untouched = every_so_many(&input, LINES).expect("lines");
        assert!(verify(&input, &untouched, Program::Tailwater, LINES).is_err());
        samples.remove(&0);
        assert!(verify(&input, &samples, Program::Tailwater, LINES).is_err_and(|error| error.contains("30 of 31")));
    }
}
