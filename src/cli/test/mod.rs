//! `test`: runs the tests in a configuration.
//!
//! Guarantees: events go through the same code as with `run`. Time, host and source of an event are fixed, so that a test has
//! the same result everywhere. Starts nothing, delivers nothing, and does not touch the data directory.

mod judge;
mod junit;

use super::configuration;
use super::output::Paint;
use super::{Exit, output};
use crate::app::load_tables;
use crate::codec::visible::visible;
use crate::config::{Loaded, Report};
use anyhow::Context;
use clap::Args;
use judge::{Judged, Told, judge};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Run the tests in the configuration (`tests`); the exit code is 1 if a test fails
#[derive(Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    config: PathBuf,
    /// Also write the results as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Run only tests whose names contain this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
}

/// A test that was run.
pub struct Result {
    /// Its name.
    pub name: String,
    /// The pipeline that it tests.
    pub pipeline: String,
    /// How long it took.
    pub took: Duration,
    /// The events that do not meet their expectations.
    pub failures: Vec<Failure>,
}

/// An event that does not meet its expectation.
pub struct Failure {
    /// The line of its expectation in the file.
    pub line: usize,
    /// The event.
    pub what: String,
    /// The differences from the expectation.
    pub told: Vec<Told>,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(loaded) = configuration::load_without_outputs(arguments.config.clone()) else {
        return Ok(Exit::Configuration);
    };
    let wanted = |name: &str| arguments.filter.as_deref().is_none_or(|part| name.contains(part));
    let count = loaded.plan.tests.iter().filter(|test| wanted(&test.name)).count();
    if let (0, Some(part)) = (count, &arguments.filter) {
        output::complain(&format!("error: no test name contains `{part}`\n"));
        return Ok(Exit::Usage);
    }
    if let Err(error) = load_tables(&loaded.plan) {
        output::complain(&format!("error: {error}\n"));
        return Ok(Exit::Failed);
    }
    let paint = Paint { on: output::stdout_colors() };
    let mut results = Vec::with_capacity(count);
    for number in 0..loaded.plan.tests.len() {
        if wanted(&loaded.plan.tests[number].name) {
            let result = run_one(&loaded, number);
            output::print_painted(&shown(&result, &loaded.warnings, paint))?;
            results.push(result);
        }
    }
    let failed = results.iter().filter(|result| !result.failures.is_empty()).count();
    if let Some(path) = &arguments.junit {
        let text = junit::report(&loaded.warnings.file, &results, |result| {
            shown(result, &loaded.warnings, Paint { on: false })
        });
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let passed = results.len() - failed;
    output::print_painted(&match (count, failed) {
        (0, _) => format!("{} has no tests\n", visible(&loaded.warnings.file)),
        (_, 0) => format!("{}\n", paint.green(&format!("{passed} passed"))),
        _ => format!("{passed} passed, {}\n", paint.red(&format!("{failed} failed"))),
    })?;
    Ok(if failed == 0 { Exit::Done } else { Exit::Failed })
}

fn run_one(loaded: &Loaded, number: usize) -> Result {
    let (plan, begun) = (&loaded.plan, Instant::now());
    let test = &plan.tests[number];
    let failures = judge(plan, test).into_iter().map(|Judged { what, span, told }| {
        let (line, _) = loaded.warnings.line_and_column(span.start);
        Failure { line, what, told }
    });
    Result {
        name: test.name.clone(),
        pipeline: plan.pipelines[test.pipeline].name.clone(),
        failures: failures.collect(),
        took: begun.elapsed(),
    }
}

/// Prints a result for people.
fn shown(result: &Result, report: &Report, paint: Paint) -> String {
    if result.failures.is_empty() {
        return format!("{}     {}\n", paint.green("ok"), visible(&result.name));
    }
    let mut out = format!("{} {}\n", paint.red("FAILED"), paint.bold(&result.name));
    for Failure { line, what, told } in &result.failures {
        let _ = writeln!(out, "  {}", visible(what));
        let _ = writeln!(out, "  {}", paint.dim(&format!("expected at {}:{line}", report.file)));
        for told in told {
            told.push(paint, &mut out);
        }
    }
    out
}
