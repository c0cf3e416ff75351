//! `latency`: lines are written one by one at fixed rates, and the output file is observed.
//!
//! A line's latency is the time from just before the `write` that completed it to the return of the first read of the output
//! file that showed its newline. Writer and observer are one thread on its own processor, which never sleeps: it writes when a
//! line is due, and otherwise reads the end of the output, every few microseconds. Each line carries the time when it was
//! written. Its position in the output tells which read showed it. Both are combined at the end.
//!
//! Guarantees: each line arrived exactly once. The actual rate and the longest time between two reads are reported: while the
//! machine takes the observer's processor away, lines arrive in bursts, and the machine causes the maximum. The first part of
//! each rate, in which the program warms up, does not count.

use super::throughput::MIB;
use super::{Bench, Scenario, WITHIN, ended_well};
use crate::check;
use crate::contender::{Contender, Place};
use crate::data::{Kind, Lines, NUMBER_DIGITS};
use crate::measure::{self, Metered};
use crate::output::Output;
use crate::results::{Figure, Results, percentile};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Lines per second.
const RATES: &[u64] = &[1_000, 10_000, 50_000];
/// Rates with parsing and changing of lines: more than the other programs can process.
const JSON_RATES: &[u64] = &[100_000];
/// The first part of each rate, which does not count.
const WARM_SHARE: f64 = 0.25;
const ARRIVE_WITHIN: Duration = Duration::from_secs(20);
const WRITTEN_KEY: &str = "written_ns";
const WRITTEN_DIGITS: usize = 19;
/// Different lines that are written in turn.
const TEMPLATES: usize = 1000;

/// A read of the output that showed something new: up to which byte, and when it returned.
struct Seen {
    end: u64,
    at_ns: u64,
}

/// Which lines of a rate count, and what the program used during that time.
struct Part {
    rate: u64,
    counts_from: u64,
    ends: u64,
    kept_rate: f64,
    cpu_ms_per_second: f64,
    look_gap_ms: f64,
}

pub(super) fn run(
    bench: &Bench<'_>,
    scenario: Scenario,
    contender: &Contender,
    round: usize,
    results: &mut Results,
) -> Result<(), String> {
    let place = bench.place(scenario.folder(), "run", bench.work.join("run/in.log"))?;
    let (kind, rates) = match scenario {
        Scenario::JsonLatency => (Kind::App, JSON_RATES),
        _ => (Kind::Json, RATES),
    };
    let mut load = Load::new(&place, kind)?;
    let metered = Metered::start(&mut contender.command(&place)?, bench.contender_cpus())?;
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    // The first line shows that the program has found the file.
    load.write()?;
    load.all_arrived(WITHIN).map_err(with_log)?;
    let mut parts = Vec::new();
    for rate in rates {
        parts.push(load.keep(*rate, bench.plan.latency_seconds, &metered).map_err(with_log)?);
        load.all_arrived(ARRIVE_WITHIN).map_err(with_log)?;
    }
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end().map_err(with_log)?;
    ended_well(contender, &ended).map_err(with_log)?;
    check::exactly_once(&[place.output()], load.number)?;
    let latencies = latencies(&place.output(), &load.seen, load.number)?;
    for part in parts {
        let mut sorted = latencies[part.counts_from as usize..part.ends as usize].to_vec();
        sorted.sort_unstable();
        let ms = |share| percentile(&sorted, share) as f64 / 1e6;
        eprintln!(
            "round {round}  {} {:>6}/s  {:<10} p50 {:.3} ms  p99 {:.3} ms  max {:.3} ms",
            scenario.name(),
            part.rate,
            contender.name(),
            ms(0.5),
            ms(0.99),
            ms(1.0)
        );
        let figures = [
            (Figure::EventsPerSecond, part.kept_rate),
            (Figure::CpuMsPerSecond, part.cpu_ms_per_second),
            (Figure::ResidentPeakMib, peak),
            (Figure::LatencyP50Ms, ms(0.5)),
            (Figure::LatencyP99Ms, ms(0.99)),
            (Figure::LatencyMaxMs, ms(1.0)),
            (Figure::LookGapMs, part.look_gap_ms),
        ];
        results.add(round, scenario.name(), &format!("{}/s", part.rate), contender.name(), &figures);
    }
    Ok(())
}

/// The writer and observer.
struct Load {
    input: File,
    output: Output,
    templates: Vec<Vec<u8>>,
    clock: Instant,
    seen: Vec<Seen>,
    /// Lines written so far, which is the number of the next one.
    number: u64,
}

impl Load {
    fn new(place: &Place, kind: Kind) -> Result<Load, String> {
        let input = File::create(&place.input).map_err(|error| format!("{}: {error}", place.input.display()))?;
        Ok(Load {
            input,
            output: Output::new(&place.output()),
            templates: templates(kind),
            clock: Instant::now(),
            seen: Vec::new(),
            number: 0,
        })
    }

    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn write(&mut self) -> Result<(), String> {
        let now = self.now_ns();
        let line = &mut self.templates[self.number as usize % TEMPLATES];
        let (number_at, written_at) = places_of_digits();
        digits(&mut line[number_at..number_at + NUMBER_DIGITS], self.number);
        digits(&mut line[written_at..written_at + WRITTEN_DIGITS], now);
        self.input.write_all(line).map_err(|error| format!("the input: {error}"))?;
        self.number += 1;
        Ok(())
    }

    fn look(&mut self) -> Result<(), String> {
        if self.output.look()? > 0 {
            self.seen.push(Seen { end: self.output.end, at_ns: self.now_ns() });
        }
        Ok(())
    }

    /// Writes at a rate, and observes.
    fn keep(&mut self, rate: u64, seconds: f64, metered: &Metered) -> Result<Part, String> {
        let interval_ns = 1_000_000_000 / rate;
        let warm = (rate as f64 * seconds * WARM_SHARE) as u64;
        let (first, begun_ns) = (self.number, self.now_ns());
        let ends = first + warm + (rate as f64 * seconds) as u64;
        let mut cpu_begun = (metered.cpu_seconds()?, self.now_ns());
        let (mut looked_ns, mut gap_ns) = (begun_ns, 0);
        while self.number < ends {
            let now = self.now_ns();
            (gap_ns, looked_ns) = (gap_ns.max(now - looked_ns), now);
            if now >= begun_ns + (self.number - first) * interval_ns {
                self.write()?;
                if self.number == first + warm {
                    cpu_begun = (metered.cpu_seconds()?, self.now_ns());
                }
            }
            self.look()?;
        }
        let took_ns = self.now_ns() - cpu_begun.1;
        let cpu_ms_per_second = (metered.cpu_seconds()? - cpu_begun.0) * 1e12 / took_ns as f64;
        Ok(Part {
            rate,
            counts_from: first + warm,
            ends,
            kept_rate: (ends - first - warm) as f64 * 1e9 / took_ns as f64,
            cpu_ms_per_second,
            look_gap_ms: gap_ns as f64 / 1e6,
        })
    }

    fn all_arrived(&mut self, within: Duration) -> Result<(), String> {
        let begun = Instant::now();
        while self.output.lines < self.number {
            self.look()?;
            if begun.elapsed() > within {
                let (arrived, written) = (self.output.lines, self.number);
                return Err(format!("{arrived} of {written} lines arrived within {} seconds", within.as_secs()));
            }
        }
        // Commits and other work after a delivery are not part of the next rate.
        measure::pause(Duration::from_millis(100));
        Ok(())
    }
}

/// Where the digits of the number and of the time are in a template.
fn places_of_digits() -> (usize, usize) {
    let number_at = "{\"event_number\":\"".len();
    (number_at, number_at + NUMBER_DIGITS + "\",\"".len() + WRITTEN_KEY.len() + "\":\"".len())
}

/// JSON lines with space for the time of writing after the number.
fn templates(kind: Kind) -> Vec<Vec<u8>> {
    let mut lines = Lines::new(kind, 1, 0);
    let behind_number = places_of_digits().0 + NUMBER_DIGITS + "\",".len();
    let make = |_| {
        let mut line = String::new();
        // Skips lines in which the number is elsewhere. There are enough others.
        while !line.starts_with("{\"event_number\"") {
            line.clear();
            lines.append(&mut line);
        }
        line.insert_str(behind_number, &format!("\"{WRITTEN_KEY}\":\"{:0WRITTEN_DIGITS$}\",", 0));
        line.into_bytes()
    };
    (0..TEMPLATES).map(make).collect()
}

/// Writes `value` with leading zeros.
fn digits(place: &mut [u8], mut value: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Nanoseconds from writing to visibility, by number.
fn latencies(path: &Path, seen: &[Seen], lines: u64) -> Result<Vec<u64>, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(fail)?);
    let (mut latencies, mut line, mut end) = (vec![0; lines as usize], Vec::new(), 0);
    let mut seen = seen.iter().peekable();
    while reader.read_until(b'\n', &mut line).map_err(fail)? > 0 {
        end += line.len() as u64;
        while seen.next_if(|seen| seen.end < end).is_some() {}
        let number = check::number_of(&line).filter(|number| *number < lines);
        let written = check::digits_behind(&line, WRITTEN_KEY, WRITTEN_DIGITS);
        let (Some(number), Some(written), Some(seen)) = (number, written, seen.peek()) else {
            return Err(format!(
                "{}: contains a line that was not written by this test, or that no read showed",
                path.display()
            ));
        };
        latencies[number as usize] = seen.at_ns.saturating_sub(written);
        line.clear();
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_their_digits_where_they_are_written() {
        for kind in [Kind::Json, Kind::App] {
            digits_have_their_place(templates(kind).swap_remove(7));
        }
    }

    fn digits_have_their_place(mut line: Vec<u8>) {
        let (number_at, written_at) = places_of_digits();
        digits(&mut line[number_at..number_at + NUMBER_DIGITS], 42);
        digits(&mut line[written_at..written_at + WRITTEN_DIGITS], 1_234_567_890_123);
        assert_eq!(check::number_of(&line), Some(42));
        assert_eq!(check::digits_behind(&line, WRITTEN_KEY, WRITTEN_DIGITS), Some(1_234_567_890_123));
        assert!(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn latency_ends_with_the_read_that_showed_the_newline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.log");
        let line =
            |number: u64, written: u64| format!("\"event_number\":\"{number:012}\",\"written_ns\":\"{written:019}\"\n");
        std::fs::write(&path, line(1, 100) + &line(0, 200) + &line(2, 300)).unwrap();
        let length = line(0, 0).len() as u64;
        // The second read shows all of the first line and half of the second.
        let seen = [(length - 1, 1000), (length + 5, 2000), (3 * length, 3000)];
        let seen: Vec<Seen> = seen.into_iter().map(|(end, at_ns)| Seen { end, at_ns }).collect();
        assert_eq!(latencies(&path, &seen, 3).unwrap(), [2800, 1900, 2700]);
        assert!(latencies(&path, &seen[..2], 3).unwrap_err().contains("that no read showed"));
    }
}
