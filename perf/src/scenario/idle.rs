//! `idle`: what programs use when they have no work, with nothing to watch and with a thousand files to which nobody writes.
//!
//! All programs idle at the same time, each in both cases. Processor time is that of the threads in nanoseconds, between two
//! moments, so start and exit are not included.
//!
//! Guarantees: the one line of each quiet file was delivered, exactly once, before the measurement began.

use super::throughput::MIB;
use super::{Bench, Scenario, WITHIN};
use crate::check;
use crate::contender::{Contender, Place};
use crate::data::{self, Kind};
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Failure, Figure, Results};
use std::time::{Duration, Instant};

const CASES: [(&str, u64); 2] = [("bare", 0), ("1000 files", 1000)];

struct Idler<'a> {
    contender: &'a Contender,
    case: &'static str,
    files: u64,
    place: Place,
    metered: Metered,
    begun: (u64, Instant),
}

pub(super) fn run(bench: &Bench<'_>, all: &[&Contender], round: usize, results: &mut Results) -> Result<(), String> {
    let mut idlers = Vec::new();
    for contender in all {
        for (case, files) in CASES {
            match start(bench, contender, case, files) {
                Ok(idler) => idlers.push(idler),
                Err(message) => fail(results, contender, case, message),
            }
        }
    }
    measure::pause(Duration::from_secs(bench.plan.idle_settle_seconds));
    idlers.retain_mut(|idler| match idler.metered.threads_cpu_ns() {
        Ok(used) => {
            idler.begun = (used, Instant::now());
            true
        }
        Err(message) => {
            fail(results, idler.contender, idler.case, message);
            false
        }
    });
    measure::pause(Duration::from_secs(bench.plan.idle_seconds));
    for idler in idlers {
        let (contender, case) = (idler.contender, idler.case);
        match finish(idler) {
            Ok((cpu_ms, resident)) => {
                eprintln!("idle {case:<10}  {:<10} {cpu_ms:.3} ms per s, {resident:.1} MiB", contender.name());
                let figures = [(Figure::CpuMsPerSecond, cpu_ms), (Figure::ResidentMib, resident)];
                results.add(round, Scenario::Idle.name(), case, contender.name(), &figures);
            }
            Err(message) => fail(results, contender, case, message),
        }
    }
    Ok(())
}

fn start<'a>(bench: &Bench<'_>, contender: &'a Contender, case: &'static str, files: u64) -> Result<Idler<'a>, String> {
    let name = format!("idle-{}-{files}", contender.name());
    let place = bench.place(Scenario::Idle.folder(), &name, bench.work.join(&name).join("in/*.log"))?;
    measure::clear_directory(&place.directory.join("in"))?;
    for number in 0..files {
        data::write(&place.directory.join(format!("in/{number}.log")), Kind::Json, number, 1, bench.plan.seed)?;
    }
    let metered = Metered::start(&mut contender.command(&place)?, &bench.cpus)?;
    let mut output = Output::new(&place.output());
    let delivered = || Ok(output.count()? >= files);
    measure::wait_for("the lines of the quiet files", WITHIN, Duration::from_millis(20), delivered)
        .map_err(|error| format!("{error}\n{}", place.own_log()))?;
    Ok(Idler { contender, case, files, place, metered, begun: (0, Instant::now()) })
}

fn finish(idler: Idler<'_>) -> Result<(f64, f64), String> {
    let used = idler.metered.threads_cpu_ns()?.saturating_sub(idler.begun.0);
    let cpu_ms = used as f64 / 1e6 / idler.begun.1.elapsed().as_secs_f64();
    let resident = idler.metered.resident_bytes() as f64 / MIB;
    idler.metered.end()?;
    if idler.files > 0 {
        check::exactly_once(&[idler.place.output()], idler.files)?;
    }
    Ok((cpu_ms, resident))
}

fn fail(results: &mut Results, contender: &Contender, case: &str, message: String) {
    let place = format!("{} in idle, {case}", contender.name());
    eprintln!("FAILED: {place}: {message}");
    results.failures.push(Failure { place, ours: contender.is_ours(), message });
}
