//! Numbered lines of four kinds, as services would log them: flat JSON of about 330 bytes, nginx's combined format and RFC 5424
//! of about 200, and the JSON of applications (see [`app`]), which is not one of the default kinds and is used only by its own
//! scenarios.
//!
//! Guarantees: the same seed gives the same bytes on every machine. Each line carries its number after [`NUMBER_KEY`], so that
//! its arrival can be proved whatever was wrapped around it. Values differ from line to line, so that these lines are not
//! easier for a compressor or a branch predictor than real logs.

mod app;

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The key of a line's number. No other part of a line contains it.
pub const NUMBER_KEY: &str = "event_number";
/// Digits of a number, leading zeros included.
pub const NUMBER_DIGITS: usize = 12;

/// What the lines look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// One JSON object per line.
    Json,
    /// nginx's combined format.
    Nginx,
    /// Syslog with structured data.
    Rfc5424,
    /// One JSON object per line, in two orders of keys, nested, with optional fields.
    App,
}

impl Kind {
    /// The kinds for scenarios that do not parse lines.
    pub const ALL: [Kind; 3] = [Kind::Json, Kind::Nginx, Kind::Rfc5424];

    /// Its name on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Json => "json",
            Kind::Nginx => "nginx",
            Kind::Rfc5424 => "rfc5424",
            Kind::App => "app",
        }
    }
}

const LEVELS: [&str; 8] = ["info", "info", "info", "info", "debug", "debug", "warn", "error"];
const SERVICES: [&str; 5] = ["checkout", "catalog", "session", "search", "payments"];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const PATHS: [&str; 5] = ["/api/v1/orders/", "/api/v1/items/", "/static/image/", "/login/", "/api/v2/search/"];
const AGENTS: [&str; 3] = ["Firefox/140.0 (X11; Linux x86_64)", "curl/8.14.1", "Safari/605.1 (iPhone; OS 18_5)"];
const MESSAGES: [&str; 4] = [
    "request served from cache",
    "upstream answered slowly, tried again",
    "user said \\\"thanks\\\" and left",
    "payment authorised, receipt queued for delivery",
];

/// Xorshift: small, fast, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len() as u64) as usize]
    }

    fn address(&mut self) -> String {
        format!("10.{}.{}.{}", self.below(256), self.below(256), self.below(256))
    }
}

/// Lines in order, starting at any number.
pub struct Lines {
    kind: Kind,
    random: Random,
    number: u64,
}

impl Lines {
    /// Lines that begin with number `first`.
    pub fn new(kind: Kind, seed: u64, first: u64) -> Lines {
        let random = Random((seed ^ first).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        Lines { kind, random, number: first }
    }

    /// Appends the next line with its newline.
    pub fn append(&mut self, line: &mut String) {
        let (number, random) = (self.number, &mut self.random);
        // Writing to a string cannot fail.
        let _ = match self.kind {
            Kind::Json => json(line, number, random),
            Kind::Nginx => nginx(line, number, random),
            Kind::Rfc5424 => rfc5424(line, number, random),
            Kind::App => app::append(line, number, random),
        };
        self.number += 1;
    }
}

/// Writes lines number `first` to `first + lines - 1`; returns the bytes of the file.
pub fn write(path: &Path, kind: Kind, first: u64, lines: u64, seed: u64) -> Result<u64, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
    let mut source = Lines::new(kind, seed, first);
    let mut bytes = 0;
    let mut line = String::new();
    for _ in 0..lines {
        line.clear();
        source.append(&mut line);
        bytes += line.len() as u64;
        out.write_all(line.as_bytes()).map_err(fail)?;
    }
    out.into_inner().map_err(|error| fail(error.into_error()))?.sync_all().map_err(fail)?;
    Ok(bytes)
}

/// Hour, minute, second and microsecond at 50,000 lines a second.
fn clock(number: u64) -> (u64, u64, u64, u64) {
    let second = number / 50_000;
    (second / 3600 % 24, second / 60 % 60, second % 60, number % 50_000 * 20)
}

fn json(line: &mut String, number: u64, random: &mut Random) -> std::fmt::Result {
    let (hour, minute, second, microsecond) = clock(number);
    writeln!(
        line,
        "{{\"{NUMBER_KEY}\":\"{number:0NUMBER_DIGITS$}\",\"time\":\"2026-11-23T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z\",\
         \"level\":\"{}\",\"service\":\"{}\",\"method\":\"{}\",\"path\":\"{}{}\",\"status\":{},\"duration_us\":{},\
         \"client\":\"{}\",\"trace\":\"{:016x}{:016x}\",\"agent\":\"{}\",\"message\":\"{}\"}}",
        random.pick(&LEVELS),
        random.pick(&SERVICES),
        random.pick(&METHODS),
        random.pick(&PATHS),
        random.below(10_000_000),
        200 + random.below(4) * 100,
        random.below(2_000_000),
        random.address(),
        random.next(),
        random.next(),
        random.pick(&AGENTS),
        random.pick(&MESSAGES),
    )
}

fn nginx(line: &mut String, number: u64, random: &mut Random) -> std::fmt::Result {
    let (hour, minute, second, _) = clock(number);
    writeln!(
        line,
        "{} - - [23/Nov/2026:{hour:02}:{minute:02}:{second:02} +0000] \
         \"{} {}{}?{NUMBER_KEY}={number:0NUMBER_DIGITS$} HTTP/1.1\" {} {} \"https://shop.example/{}/{}\" \"Mozilla/5.0 {}\"",
        random.address(),
        random.pick(&METHODS),
        random.pick(&PATHS),
        random.below(10_000_000),
        200 + random.below(4) * 100,
        random.below(100_000),
        random.pick(&SERVICES),
        random.below(100_000_000),
        random.pick(&AGENTS),
    )
}

fn rfc5424(line: &mut String, number: u64, random: &mut Random) -> std::fmt::Result {
    let (hour, minute, second, microsecond) = clock(number);
    let message = random.pick(&MESSAGES).replace('\\', "");
    writeln!(
        line,
        "<{}>1 2026-11-23T{hour:02}:{minute:02}:{second:02}.{microsecond:06}Z web-{} {} {} ID{} \
         [request@32473 {NUMBER_KEY}=\"{number:0NUMBER_DIGITS$}\" client=\"{}\" status=\"{}\" microseconds=\"{}\"] {message}",
        128 + random.below(8),
        random.below(40),
        random.pick(&SERVICES),
        1000 + random.below(30_000),
        random.below(1000),
        random.address(),
        200 + random.below(4) * 100,
        random.below(2_000_000),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    fn lines(kind: Kind, count: u64, seed: u64) -> Vec<String> {
        let mut source = Lines::new(kind, seed, 0);
        let make = |_| {
            let mut line = String::new();
            source.append(&mut line);
            line
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn lines_are_of_the_promised_size() {
        for (kind, promised) in
            [(Kind::Json, 320..=340), (Kind::Nginx, 190..=215), (Kind::Rfc5424, 185..=215), (Kind::App, 320..=340)]
        {
            let lines = lines(kind, 10_000, 1);
            let average = lines.iter().map(String::len).sum::<usize>() / lines.len();
            assert!(promised.contains(&average), "{average} bytes: {}", lines[0]);
        }
    }

    #[test]
    fn json_lines_are_json() {
        for line in lines(Kind::Json, 1000, 3) {
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value.as_object().map(serde_json::Map::len), Some(12), "{line}");
        }
    }

    #[test]
    fn every_kind_carries_its_number() {
        for kind in Kind::ALL.into_iter().chain([Kind::App]) {
            let found: Vec<_> = lines(kind, 50, 9).iter().map(|line| check::number_of(line.as_bytes())).collect();
            assert_eq!(found, (0..50).map(Some).collect::<Vec<_>>(), "{kind:?}");
        }
    }

    #[test]
    fn seed_decides_all_bytes() {
        for kind in [Kind::Json, Kind::App] {
            assert_eq!(lines(kind, 100, 7), lines(kind, 100, 7));
            assert_ne!(lines(kind, 100, 7), lines(kind, 100, 8));
        }
    }
}
