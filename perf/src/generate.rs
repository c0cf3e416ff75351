//! Numbered JSON lines of about 330 bytes, as a web service would log them.
//!
//! Guarantees: the same seed gives the same bytes on every machine; each line carries its number under
//! [`NUMBER_KEY`], so that its arrival can be proved whatever was wrapped around it. Values differ from line to line, so
//! that neither a compressor nor a branch predictor has it easier than with real logs.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// The key of a line's number. No other part of a line contains it.
pub const NUMBER_KEY: &str = "event_number";
/// Digits of a number, leading zeros included.
pub const NUMBER_DIGITS: usize = 12;

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
}

/// Writes lines number 0 to `lines - 1`; returns the bytes of the file.
pub fn write(path: &Path, lines: u64, seed: u64) -> Result<u64, String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path).map_err(fail)?);
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut bytes = 0;
    let mut line = String::new();
    for number in 0..lines {
        line.clear();
        append(&mut line, number, &mut random);
        bytes += line.len() as u64;
        out.write_all(line.as_bytes()).map_err(fail)?;
    }
    out.into_inner().map_err(|error| fail(error.into_error()))?.sync_all().map_err(fail)?;
    Ok(bytes)
}

fn append(line: &mut String, number: u64, random: &mut Random) {
    use std::fmt::Write as _;
    let second = number / 50_000;
    // Writing to a string cannot fail.
    let _ = writeln!(
        line,
        "{{\"{NUMBER_KEY}\":\"{number:0NUMBER_DIGITS$}\",\"time\":\"2026-11-23T{:02}:{:02}:{:02}.{:06}Z\",\"level\":\"{}\",\
         \"service\":\"{}\",\"method\":\"{}\",\"path\":\"{}{}\",\"status\":{},\"duration_us\":{},\"client\":\"10.{}.{}.{}\",\
         \"trace\":\"{:016x}{:016x}\",\"agent\":\"{}\",\"message\":\"{}\"}}",
        second / 3600 % 24,
        second / 60 % 60,
        second % 60,
        number % 50_000 * 20,
        random.pick(&LEVELS),
        random.pick(&SERVICES),
        random.pick(&METHODS),
        random.pick(&PATHS),
        random.below(10_000_000),
        200 + random.below(4) * 100,
        random.below(2_000_000),
        random.below(256),
        random.below(256),
        random.below(256),
        random.next(),
        random.next(),
        random.pick(&AGENTS),
        random.pick(&MESSAGES),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(count: u64, seed: u64) -> Vec<String> {
        let mut random = Random(seed);
        let make = |number| {
            let mut line = String::new();
            append(&mut line, number, &mut random);
            line
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn lines_are_of_the_promised_size() {
        let lines = lines(10_000, 1);
        let average = lines.iter().map(String::len).sum::<usize>() / lines.len();
        assert!((320..=340).contains(&average), "{average} bytes: {}", lines[0]);
    }

    #[test]
    fn seed_decides_all_bytes() {
        assert_eq!(lines(100, 7), lines(100, 7));
        assert_ne!(lines(100, 7), lines(100, 8));
    }
}
