//! Numbered lines: a writer with the pace of an application, and the check that each line arrived exactly once.

use crate::product::Product;
use crate::wait::{pause, wait_for};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Number of lines in a case.
pub const LINES: u64 = 100_000;
/// Lines per second of the writer.
pub const LINES_PER_SECOND: u64 = 20_000;

/// Line number `n`, without its newline. Its length and content are derived from its number.
pub fn line(n: u64) -> String {
    let letter = char::from(b'a' + (n % 26) as u8);
    let pad: String = std::iter::repeat_n(letter, 20 + (n * 7 % 300) as usize).collect();
    format!("{{\"n\":{n:06},\"pad\":\"{pad}\"}}")
}

/// Lines `from..=to`, each with its newline.
pub fn block(from: u64, to: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in from..=to {
        bytes.extend_from_slice(line(n).as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// Writes numbered lines to a file, and does to the file what log rotation does.
pub struct LineWriter {
    path: PathBuf,
    file: File,
    next: u64,
    lines_per_second: u64,
    pace: (Instant, u64),
}

impl LineWriter {
    /// A writer to a new file.
    pub fn create(path: PathBuf) -> LineWriter {
        let file = open(&path);
        LineWriter { path, file, next: 1, lines_per_second: LINES_PER_SECOND, pace: (Instant::now(), 1) }
    }

    /// Sets another pace.
    pub fn with_pace(mut self, lines_per_second: u64) -> LineWriter {
        self.lines_per_second = lines_per_second;
        self
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Sets the number of the next line.
    pub fn starting_at(mut self, number: u64) -> LineWriter {
        self.next = number;
        self.pace.1 = number;
        self
    }

    /// Writes up to line `last` at the pace. Writes end anywhere, so a reader sees half lines.
    pub fn write_to(&mut self, last: u64) {
        let mut half: Vec<u8> = Vec::new();
        while self.next <= last {
            let (started, first) = self.pace;
            let due = first + (started.elapsed().as_micros() as u64) * self.lines_per_second / 1_000_000;
            let until = due.min(last);
            if until < self.next {
                pause(Duration::from_millis(2));
                continue;
            }
            half.extend(block(self.next, until));
            self.next = until + 1;
            let cut = if self.next > last { half.len() } else { half.len() - half.len() % 97 };
            self.file.write_all(&half[..cut]).expect("a line");
            half.drain(..cut);
        }
    }

    /// Writes up to line `last` in one step.
    pub fn burst_to(&mut self, last: u64) {
        self.file.write_all(&block(self.next, last)).expect("lines");
        self.next = last + 1;
        self.pace = (Instant::now(), self.next);
    }

    /// Restarts the pace: the time that the case waited is not caught up.
    pub fn resume(&mut self) {
        self.pace = (Instant::now(), self.next);
    }

    /// Renames the file. The writer continues in it until [`LineWriter::reopen`].
    pub fn rename(&mut self, to: &Path) {
        fs::rename(&self.path, to).expect("a rename");
    }

    /// Creates a new file under the old name, while the old one is still being written.
    pub fn create_next(&self) -> File {
        open(&self.path)
    }

    pub fn reopen(&mut self) {
        self.file = open(&self.path);
    }

    pub fn delete(&mut self) {
        fs::remove_file(&self.path).expect("a removal");
    }

    /// What `copytruncate` does.
    pub fn copy_and_truncate(&mut self, to: &Path) {
        fs::copy(&self.path, to).expect("a copy");
        self.truncate();
    }

    pub fn truncate(&mut self) {
        self.file.set_len(0).expect("a truncation");
    }
}

fn open(path: &Path) -> File {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Counts the lines of a growing file. Starts over if the bytes that were counted last are gone: the file was truncated, even
/// if it is as long again.
pub struct LineCount {
    path: PathBuf,
    offset: u64,
    lines: u64,
    /// The last bytes before the offset.
    last: Vec<u8>,
}

impl LineCount {
    /// Number of bytes that are compared: the page that a power loss leaves half written, and the line before it.
    const COMPARED: usize = 8192;

    pub fn of(path: PathBuf) -> LineCount {
        LineCount { path, offset: 0, lines: 0, last: Vec::new() }
    }

    pub fn now(&mut self) -> u64 {
        let Ok(mut file) = File::open(&self.path) else { return 0 };
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(self.offset - self.last.len() as u64)).expect("a position");
        file.read_to_end(&mut bytes).expect("the output");
        let mut new = self.last.len();
        if !bytes.starts_with(&self.last) {
            (self.offset, self.lines, new) = (0, 0, 0);
            file.rewind().expect("a position");
            bytes.clear();
            file.read_to_end(&mut bytes).expect("the output");
        }
        self.offset += (bytes.len() - new) as u64;
        self.lines += memchr::memchr_iter(b'\n', &bytes[new..]).count() as u64;
        self.last = bytes.split_off(bytes.len().saturating_sub(LineCount::COMPARED));
        self.lines
    }

    /// Waits until there are at least `lines`.
    pub fn wait(&mut self, lines: u64, product: &mut Product) {
        wait_for(&format!("{lines} lines in {}", self.path.display()), || {
            let now = self.now();
            match () {
                () if now >= lines => Ok(()),
                () if !product.is_running() => panic!("the product ended: {}", product.state()),
                () => Err(format!("{now} lines; {}", product.state())),
            }
        });
    }
}

/// What arrived: how often each number did, and events that are not numbered lines.
pub struct Arrived {
    times: Vec<u32>,
    order: Vec<u64>,
    pub others: Vec<serde_json::Value>,
}

/// Reads an output of JSON lines. Fails at once for a line that is not JSON, and for a numbered line that was changed.
pub fn arrived(output: &Path, lines: u64) -> Arrived {
    let bytes = fs::read(output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    assert!(bytes.is_empty() || bytes.ends_with(b"\n"), "the output ends in half a line");
    let texts = bytes.split(|byte| *byte == b'\n').filter(|text| !text.is_empty());
    Arrived::of(lines, texts.enumerate().map(|(index, text)| event(index, text)))
}

fn event(index: usize, text: &[u8]) -> serde_json::Value {
    serde_json::from_slice(text)
        .unwrap_or_else(|error| panic!("line {} of the output: {error}: {}", index + 1, String::from_utf8_lossy(text)))
}

/// The number of a numbered line.
pub fn number(message: &str) -> Option<u64> {
    let (number, _) = message.strip_prefix("{\"n\":")?.split_once(',')?;
    number.parse().ok()
}

impl Arrived {
    /// Counts events; they are in order of arrival.
    pub fn of(lines: u64, events: impl Iterator<Item = serde_json::Value>) -> Arrived {
        let mut arrived = Arrived { times: vec![0; lines as usize + 1], order: Vec::new(), others: Vec::new() };
        for event in events {
            match event["message"].as_str().and_then(number).filter(|n| (1..=lines).contains(n)) {
                Some(n) => {
                    assert_eq!(event["message"].as_str(), Some(line(n).as_str()), "line {n} was changed on its way");
                    arrived.times[n as usize] += 1;
                    arrived.order.push(n);
                }
                None => arrived.others.push(event),
            }
        }
        arrived
    }

    pub fn lost(&self) -> Vec<u64> {
        (1..self.times.len() as u64).filter(|n| self.times[*n as usize] == 0).collect()
    }

    pub fn repeated(&self) -> Vec<u64> {
        (1..self.times.len() as u64).filter(|n| self.times[*n as usize] > 1).collect()
    }

    /// Every line once, and nothing else.
    pub fn assert_exactly_once(&self) {
        self.assert_none_lost_none_repeated();
        let others: Vec<_> = self.others.iter().take(3).collect();
        assert!(others.is_empty(), "{} events that nobody wrote, the first: {others:?}", self.others.len());
    }

    pub fn assert_none_lost_none_repeated(&self) {
        let (lost, repeated) = (self.lost(), self.repeated());
        let first = |numbers: &[u64]| numbers.iter().take(10).copied().collect::<Vec<_>>();
        assert!(
            lost.is_empty() && repeated.is_empty(),
            "lost {} (first {:?}), repeated {} (first {:?})",
            lost.len(),
            first(&lost),
            repeated.len(),
            first(&repeated)
        );
    }

    pub fn assert_in_order(&self) {
        self.assert_in_order_within(|_| 0);
    }

    /// Lines for which `stream` returns the same number, for example those of one file, arrived in the order in which they
    /// were written.
    pub fn assert_in_order_within(&self, stream: impl Fn(u64) -> usize) {
        let mut last: HashMap<usize, u64> = HashMap::new();
        for &n in &self.order {
            if let Some(before) = last.insert(stream(n), n) {
                assert!(before < n, "out of order: line {n} came after line {before}");
            }
        }
    }
}

#[test]
fn check_detects_lost_repeated_and_changed_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = folder.path().join("out.json");
    let write = |numbers: &[u64]| {
        let event = |n: &u64| format!("{}\n", serde_json::json!({ "message": line(*n) }));
        fs::write(&output, numbers.iter().map(event).collect::<String>()).expect("the output");
    };
    write(&[1, 2, 3]);
    arrived(&output, 3).assert_exactly_once();
    write(&[1, 3, 3]);
    let seen = arrived(&output, 3);
    assert_eq!((seen.lost(), seen.repeated()), (vec![2], vec![3]));
    fs::write(&output, "{\"message\":\"{\\\"n\\\":000001,\\\"pad\\\":\\\"x\\\"}\"}\n").expect("the output");
    assert!(std::panic::catch_unwind(|| arrived(&output, 3)).is_err(), "a changed line went unseen");
}

#[test]
fn count_detects_that_a_file_was_truncated_and_rewritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("out.json");
    let mut count = LineCount::of(path.clone());
    assert_eq!(count.now(), 0);
    let steps: [(&[u8], u64); 6] =
        [(b"a\nb\n", 2), (b"a\nb\nc\nd", 3), (b"a\nb\n", 2), (b"a\n\0\0", 1), (b"a\nb\nc\n", 3), (b"", 0)];
    for (bytes, lines) in steps {
        fs::write(&path, bytes).expect("the output");
        assert_eq!(count.now(), lines, "{bytes:?}");
    }
}
