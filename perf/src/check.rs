//! Proof of arrival: which numbers the files contain, and how often.
//!
//! Guarantees: detects a line that is missing, repeated, or has no number, whatever was wrapped around the line. Checks only
//! the number of a line, not its other bytes. The end-to-end tests compare those.

use crate::data::{NUMBER_DIGITS, NUMBER_KEY};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;

/// How often each number arrived.
pub struct Arrival {
    seen: Vec<u8>,
    strange: u64,
}

/// Whether each of the numbers below `lines` arrived exactly once in `files`.
pub fn exactly_once(files: &[PathBuf], lines: u64) -> Result<(), String> {
    read(files, lines)?.verdict()
}

/// Reads all lines of `files`.
fn read(files: &[PathBuf], lines: u64) -> Result<Arrival, String> {
    let mut arrival = Arrival { seen: vec![0; lines as usize], strange: 0 };
    for path in files {
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(fail)?);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(fail)? > 0 {
            arrival.note(number_of(&line));
            line.clear();
        }
    }
    Ok(arrival)
}

impl Arrival {
    /// From numbers that were counted elsewhere: how often each number arrived, and how many events had none.
    pub fn of(seen: Vec<u8>, strange: u64) -> Arrival {
        Arrival { seen, strange }
    }

    fn note(&mut self, number: Option<u64>) {
        match number.and_then(|number| self.seen.get_mut(number as usize)) {
            Some(count) => *count = count.saturating_add(1),
            None => self.strange += 1,
        }
    }

    /// Returns an error that says what is wrong, if anything is.
    pub fn verdict(&self) -> Result<(), String> {
        let count = |wrong: fn(u8) -> bool| self.seen.iter().filter(|count| wrong(**count)).count();
        let (missing, repeated) = (count(|count| count == 0), count(|count| count > 1));
        if missing == 0 && repeated == 0 && self.strange == 0 {
            return Ok(());
        }
        let first = self.seen.iter().position(|count| *count != 1);
        let first = first.map_or(String::new(), |number| format!("; the first is number {number}"));
        Err(format!("{missing} events missing, {repeated} repeated, {} lines without a number{first}", self.strange))
    }
}

/// The number of a line.
pub fn number_of(line: &[u8]) -> Option<u64> {
    digits_behind(line, NUMBER_KEY, NUMBER_DIGITS)
}

/// The number with this many digits after a key, with quotes and escapes between them.
pub fn digits_behind(line: &[u8], key: &str, digits: usize) -> Option<u64> {
    let key = key.as_bytes();
    let at = line.windows(key.len()).position(|window| window == key)? + key.len();
    let first = at + line[at..].iter().take(8).position(u8::is_ascii_digit)?;
    let text = line.get(first..first + digits)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(lines: u64, numbers: &[Option<u64>]) -> Arrival {
        let mut arrival = Arrival { seen: vec![0; lines as usize], strange: 0 };
        numbers.iter().for_each(|number| arrival.note(*number));
        arrival
    }

    #[test]
    fn number_is_found_in_whatever_was_wrapped_around_it() {
        assert_eq!(number_of(b"{\"event_number\":\"000000000042\",\"a\":1}\n"), Some(42));
        assert_eq!(number_of(br#"{"message":"{\"event_number\":\"000000000042\",\"a\":1}"}"#), Some(42));
        assert_eq!(number_of(b"2026-11-23 host tag: {\"event_number\":\"000000000000\"}"), Some(0));
        assert_eq!(number_of(b"{\"event_number\":\"0000"), None);
        assert_eq!(number_of(b"something else 123456789012"), None);
    }

    #[test]
    fn missing_repeated_and_strange_lines_are_told_apart() {
        assert_eq!(arrival(3, &[Some(2), Some(0), Some(1)]).verdict(), Ok(()));
        let verdict = |numbers: &[Option<u64>]| arrival(3, numbers).verdict().unwrap_err();
        assert!(verdict(&[Some(0), Some(2)]).starts_with("1 events missing, 0 repeated, 0 lines without"));
        assert!(verdict(&[Some(0), Some(1), Some(1), Some(2)]).starts_with("0 events missing, 1 repeated"));
        assert!(verdict(&[Some(0), Some(1), Some(2), None]).ends_with("1 lines without a number"));
        assert!(verdict(&[Some(0), Some(1), Some(2), Some(3)]).ends_with("1 lines without a number"));
    }
}
