//! Measures the whole product. `generate` creates numbered lines, `run` sends them through Tailwater and its peers and measures
//! the cost, `check` proves that each line arrived exactly once, `sinks` measures the capacity of the servers that the
//! network scenarios send to, and `crowd` how late a user's files are read while another user makes very many.
//!
//! Users call `perf/run.sh`, which first builds everything in release mode. This crate shares no code with what it measures.
#![forbid(unsafe_code)]

mod aims;
mod check;
mod contender;
mod count;
mod crowd;
mod data;
mod measure;
mod options;
mod output;
mod report;
mod results;
mod scenario;
mod sink;
mod work;
mod yardstick;

use options::{Options, USAGE};
use report::Report;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let outcome = Options::parse(words).and_then(|options| match verb.as_str() {
        "generate" => generate(&options),
        "check" => check(&options),
        "sinks" => sinks(),
        "crowd" => crowd(&options),
        "run" => run(&options),
        _ => Err(format!("unknown command `{verb}`\n{USAGE}")),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tailwater-perf: {message}");
            ExitCode::FAILURE
        }
    }
}

fn generate(options: &Options) -> Result<(), String> {
    let [path] = options.files.as_slice() else { return Err(format!("`generate` needs exactly one FILE\n{USAGE}")) };
    let kind = options.plan.data.first().copied().unwrap_or(data::Kind::Json);
    let bytes = data::write(path, kind, 0, options.plan.lines, options.plan.seed)?;
    println!("{}: {} lines, {bytes} bytes", path.display(), options.plan.lines);
    Ok(())
}

fn check(options: &Options) -> Result<(), String> {
    check::exactly_once(&options.files, options.plan.lines)?;
    println!("each of {} events arrived exactly once", options.plan.lines);
    Ok(())
}

fn sinks() -> Result<(), String> {
    for service in sink::Service::ALL {
        println!("{}", sink::capacity(service, Duration::from_secs(2))?.text());
    }
    Ok(())
}

fn crowd(options: &Options) -> Result<(), String> {
    let plan = &options.plan;
    is_there(plan)?;
    crowd::run(&crowd::Plan {
        tailwater: &plan.tailwater,
        scenarios: &plan.scenarios,
        files: options.crowd.files,
        renamed: options.crowd.files / 5,
        shards: options.crowd.shards,
        settle: Duration::from_secs(options.crowd.settle_seconds),
    })
}

fn is_there(plan: &scenario::Plan) -> Result<(), String> {
    if !plan.tailwater.is_file() || !plan.scenarios.is_dir() {
        return Err(format!("`--tailwater` must be an existing binary and `--scenarios` an existing folder\n{USAGE}"));
    }
    Ok(())
}

fn run(options: &Options) -> Result<(), String> {
    let plan = &options.plan;
    is_there(plan)?;
    let outcome = scenario::run(plan)?;
    let report = Report { plan, outcome: &outcome, commit: &options.commit, note: &options.note };
    print!("{}", report.text());
    if let Some(path) = &options.keep {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let page = format!("# Figures of {name}\n\n{}", report.text());
        for (ending, content) in [("json", report.json()), ("md", page)] {
            let path = path.with_extension(ending);
            std::fs::write(&path, content).map_err(|error| format!("{}: {error}", path.display()))?;
            println!("\nkept as {}", path.display());
        }
    }
    match outcome.results.failures.iter().find(|failure| failure.ours) {
        Some(failure) => Err(format!("{}: {}", failure.place, failure.message)),
        None => Ok(()),
    }
}
