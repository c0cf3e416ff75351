//! The yardstick that needs no other program: the time that `serde_json` needs to parse a line into a value.
//!
//! Guarantees: it parses the lines that the scenarios read, each once, on the same processor. The figure is the CPU time of the
//! parsing thread, including dropping the values, without reading the file.

use crate::measure;
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use serde_json::Value;
use std::fs::File;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::path::Path;

/// The maximum number of parsed lines: enough for a steady figure, and few enough to be quick.
const LINES_MAX: usize = 200_000;

/// CPU nanoseconds of `serde_json::from_slice::<Value>` for a line of `input`.
pub fn cpu_ns_per_line(input: &Path, cpus: &[usize], own_cpus: &[usize]) -> Result<f64, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", input.display());
    let reader = BufReader::new(File::open(input).map_err(fail)?);
    let lines = reader.split(b'\n').take(LINES_MAX).collect::<Result<Vec<_>, _>>().map_err(fail)?;
    measure::pin(cpus)?;
    // Warms up the allocator and the caches, as in a program that runs for long.
    let mut warm = lines.iter().take(lines.len() / 10 + 1);
    let outcome = warm.try_for_each(|line| parse(line)).and_then(|()| {
        let begun = thread_cpu_ns()?;
        lines.iter().try_for_each(|line| parse(line))?;
        Ok((thread_cpu_ns()? - begun) as f64 / lines.len() as f64)
    });
    measure::pin(own_cpus)?;
    outcome
}

fn parse(line: &[u8]) -> Result<(), String> {
    let value = serde_json::from_slice::<Value>(black_box(line));
    black_box(value).map(drop).map_err(|error| format!("a line of the input is not JSON: {error}"))
}

fn thread_cpu_ns() -> Result<i64, String> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(|error| format!("clock_gettime: {error}"))?;
    Ok(time.num_nanoseconds())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{self, Kind};

    #[test]
    fn parsing_a_line_takes_nanoseconds_and_not_none() {
        let directory = tempfile::tempdir().unwrap();
        let input = directory.path().join("in.log");
        data::write(&input, Kind::Json, 0, 2000, 1).unwrap();
        let cpus = measure::allowed_cpus().unwrap();
        let cost = cpu_ns_per_line(&input, &cpus, &cpus).unwrap();
        assert!((50.0..1e6).contains(&cost), "{cost}");
        data::write(&input, Kind::Nginx, 0, 10, 1).unwrap();
        assert!(cpu_ns_per_line(&input, &cpus, &cpus).unwrap_err().contains("not JSON"));
    }
}
