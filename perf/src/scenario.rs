//! The rounds: every contender in every scenario, one after the other, again and again.
//!
//! Guarantees: contenders are interleaved, so that a change of the machine's mood hits all of them; a run counts only if each
//! event arrived exactly once; the input lies in the page cache for everybody. One run at a time, each in an empty folder, on
//! one processor: the figure is the price of work on a core. On two, rsyslog's threads hand its queue back and forth and
//! mostly need twice the CPU time.

use crate::contender::{self, Contender, Place};
use crate::measure::{self, Metered, Usage};
use crate::{check, generate};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be measured.
pub struct Plan {
    /// The product's binary.
    pub tailwater: PathBuf,
    /// Folder of the scenarios.
    pub scenarios: PathBuf,
    /// Events of one run.
    pub lines: u64,
    /// How often everything is run.
    pub rounds: usize,
    /// Seed of the input.
    pub seed: u64,
    /// The only scenario to run.
    pub only: Option<String>,
}

/// One contender in one scenario: what each round cost.
pub struct Series {
    /// Name of the scenario.
    pub scenario: String,
    /// Who ran.
    pub contender: Contender,
    /// Round by round.
    pub usages: Vec<Usage>,
}

/// The longest a run may take.
const RUN_WITHIN: Duration = Duration::from_secs(600);

/// How many times the input the page cache is filled before the first run: more than any run writes.
const FILLER_TIMES: u64 = 6;

/// Runs everything and returns a series for each pair of scenario and contender.
pub fn run(plan: &Plan) -> Result<Vec<Series>, String> {
    let work = std::env::temp_dir().join(format!("tailwater-perf-{}", std::process::id()));
    measure::clear_directory(&work)?;
    let outcome = run_in(plan, &work);
    // What is left in the temporary directory is of no use to anybody, and no result depends on its removal.
    let _ = std::fs::remove_dir_all(&work);
    outcome
}

fn run_in(plan: &Plan, work: &Path) -> Result<Vec<Series>, String> {
    let input = work.join("in.log");
    let bytes = generate::write(&input, plan.lines, plan.seed)?;
    eprintln!("input: {} lines, {bytes} bytes", plan.lines);
    let mut all = series(plan)?;
    touch_memory(&work.join("filler"), bytes * FILLER_TIMES)?;
    for round in 1..=plan.rounds {
        for series in &mut all {
            let name = series.contender.name();
            let usage = run_once(plan, series, work, &input)
                .map_err(|error| format!("{} in {}, round {round}: {error}", name, series.scenario))?;
            let rate = plan.lines as f64 / usage.cpu_seconds;
            eprintln!("round {round}  {:<20} {name:<10} {:>9.0} events per CPU-second", series.scenario, rate);
            series.usages.push(usage);
        }
    }
    Ok(all)
}

/// Fills the page cache once and lets go of it. A virtual machine pays for each page that it touches for the first time, up to
/// ten times the price of the work itself: the first contenders would pay it for all that follow.
fn touch_memory(path: &Path, bytes: u64) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(path).map_err(fail)?;
    let block = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        file.write_all(&block).map_err(fail)?;
    }
    std::fs::remove_file(path).map_err(fail)
}

/// The scenarios in the folder, each with the contenders that have a configuration there.
fn series(plan: &Plan) -> Result<Vec<Series>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", plan.scenarios.display());
    let entries = std::fs::read_dir(&plan.scenarios).map_err(fail)?.collect::<Result<Vec<_>, _>>().map_err(fail)?;
    let mut names: Vec<String> = entries.into_iter().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| plan.only.as_ref().is_none_or(|only| name == only));
    names.sort();
    let mut all = Vec::new();
    for scenario in names {
        for contender in Contender::all(&plan.tailwater) {
            if contender.configuration(&plan.scenarios.join(&scenario)).is_file() {
                all.push(Series { scenario: scenario.clone(), contender, usages: Vec::new() });
            }
        }
    }
    if all.is_empty() { Err(format!("no scenario in {}", plan.scenarios.display())) } else { Ok(all) }
}

fn run_once(plan: &Plan, series: &Series, work: &Path, input: &Path) -> Result<Usage, String> {
    let directory = work.join("run");
    measure::clear_directory(&directory)?;
    let scenario = plan.scenarios.join(&series.scenario);
    let (admin, cpu) = (contender::free_address()?, contender::last_cpu()?);
    let place = Place { scenario, input: input.to_owned(), directory, admin, cpu };
    let metered = Metered::start(&mut series.contender.command(&place)?)?;
    let mut events = 0;
    let done = || {
        events = series.contender.events_out(&place);
        Ok(events >= plan.lines)
    };
    let usage = metered.finish(RUN_WITHIN, done).map_err(|error| format!("{error}\n{}", Contender::own_log(&place)))?;
    if events != plan.lines {
        return Err(format!("it counts {events} events out of {}", plan.lines));
    }
    let kept = place.directory.join("out.log");
    if kept.is_file() {
        check::read(&[kept], plan.lines)?.verdict()?;
    }
    Ok(usage)
}
