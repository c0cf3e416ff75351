//! Measures the whole product: `generate` makes numbered lines, `run` sends them through Tailwater and its peers and prices
//! that in CPU seconds, `check` proves that each line arrived exactly once.
//!
//! Users call `perf/run.sh`, which builds everything in release mode first. Depends on nothing but the standard library, so
//! that a measurement never waits for, or shares code with, what it measures.
#![forbid(unsafe_code)]

mod check;
mod contender;
mod generate;
mod measure;
mod report;
mod scenario;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
tailwater-perf generate --lines N [--seed N] FILE
tailwater-perf check --lines N FILE...
tailwater-perf run --tailwater BINARY --scenarios DIR [--lines N] [--rounds N] [--only SCENARIO] [--json FILE] [--note TEXT]";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    let outcome = Options::parse(words).and_then(|options| match verb.as_str() {
        "generate" => generate(&options),
        "check" => check(&options),
        "run" => run(&options),
        _ => Err(format!("unknown verb `{verb}`\n{USAGE}")),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("tailwater-perf: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What the command line says; which of it a verb needs, the verb knows.
struct Options {
    lines: u64,
    rounds: usize,
    seed: u64,
    tailwater: Option<PathBuf>,
    scenarios: Option<PathBuf>,
    only: Option<String>,
    json: Option<PathBuf>,
    note: String,
    files: Vec<PathBuf>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            lines: 1_000_000,
            rounds: 3,
            seed: 1,
            tailwater: None,
            scenarios: None,
            only: None,
            json: None,
            note: String::new(),
            files: Vec::new(),
        };
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                options.files.push(word.into());
                continue;
            }
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value\n{USAGE}"))?;
            match word.as_str() {
                "--lines" => options.lines = number(&word, &value)?,
                "--rounds" => options.rounds = number(&word, &value)? as usize,
                "--seed" => options.seed = number(&word, &value)?,
                "--tailwater" => options.tailwater = Some(value.into()),
                "--scenarios" => options.scenarios = Some(value.into()),
                "--only" => options.only = Some(value),
                "--json" => options.json = Some(value.into()),
                "--note" => options.note = value,
                _ => return Err(format!("unknown option `{word}`\n{USAGE}")),
            }
        }
        if options.lines == 0 || options.rounds == 0 {
            return Err("`--lines` and `--rounds` are at least 1".into());
        }
        Ok(options)
    }
}

fn number(option: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{option} {value}`: not a number"))
}

fn generate(options: &Options) -> Result<(), String> {
    let [path] = options.files.as_slice() else { return Err(format!("one FILE is needed\n{USAGE}")) };
    let bytes = generate::write(path, options.lines, options.seed)?;
    println!("{}: {} lines, {bytes} bytes", path.display(), options.lines);
    Ok(())
}

fn check(options: &Options) -> Result<(), String> {
    let arrival = check::read(&options.files, options.lines)?;
    arrival.verdict()?;
    println!("each of {} events exactly once", options.lines);
    Ok(())
}

fn run(options: &Options) -> Result<(), String> {
    let need = |path: &Option<PathBuf>, name: &str| path.clone().ok_or_else(|| format!("`{name}` is needed\n{USAGE}"));
    let plan = scenario::Plan {
        tailwater: need(&options.tailwater, "--tailwater")?,
        scenarios: need(&options.scenarios, "--scenarios")?,
        lines: options.lines,
        rounds: options.rounds,
        seed: options.seed,
        only: options.only.clone(),
    };
    let results = scenario::run(&plan)?;
    let report = report::Report::new(&plan, &results, &options.note);
    print!("{}", report.table());
    if let Some(path) = &options.json {
        std::fs::write(path, report.json()).map_err(|error| format!("{}: {error}", path.display()))?;
        println!("kept as {}", path.display());
    }
    Ok(())
}
