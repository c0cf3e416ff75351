//! Files whose lines go to all shards in turn: no WAL has all lines of one, and none keeps a range for each batch.

use crate::case::Case;
use crate::lines::{LineCount, line};
use crate::product::{Product, run_to_end, text};
use crate::wait::pause;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

const FILES: u64 = 4;
const KILLS: usize = 5;
/// A WAL may have a few ranges of each file at any time: those of the last two syncs.
const RANGES_MAX: u64 = 400;

/// Files that get one line at a time.
struct Trickle {
    files: Vec<File>,
    next: u64,
}

impl Trickle {
    fn new(case: &Case) -> Trickle {
        let open = |number| {
            let path = case.path(&format!("logs/{number}.log"));
            OpenOptions::new().append(true).create(true).open(path).expect("a new file")
        };
        Trickle { files: (0..FILES).map(open).collect(), next: 1 }
    }

    /// Writes a line to one file after the other for this long. Each is read separately.
    fn run_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            let mut bytes = line(self.next).into_bytes();
            bytes.push(b'\n');
            self.files[(self.next % FILES) as usize].write_all(&bytes).expect("a line");
            self.next += 1;
            pause(Duration::from_millis(1));
        }
    }

    fn lines(&self) -> u64 {
        self.next - 1
    }
}

/// What `wal ls` says about each log: its segments, and ranges of sources.
fn logs(config: &std::path::Path) -> Vec<(u64, u64)> {
    let listed = run_to_end(&["wal", "ls", "-c", config.to_str().expect("UTF-8")]);
    let listed = text(&listed.stdout);
    let number = |line: &str, what: &str| {
        let before = line.split(what).next().unwrap_or_default();
        before.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {what}: {line}"))
    };
    let logs = listed.lines().filter(|line| line.starts_with("log "));
    logs.map(|line| (number(line, " segment"), number(line, " range"))).collect()
}

/// Four files for some seconds, then five kills and starts. `TAILWATER_SPREAD_SECONDS=600` makes it ten minutes before the
/// first kill; even then no WAL may have more ranges of the files than after a few seconds.
#[test]
fn kills_lose_nothing_of_spread_files_and_the_wal_stays_small() {
    let seconds: u64 = std::env::var("TAILWATER_SPREAD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let mut case = Case::new("spread");
    case.shards = 2;
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    let include = case.path("logs/*.log");
    let input = format!("{{type: file, include: [\"{}\"], shard_by: spread}}", include.display());
    let config = case.configure(&input, &case.json_output());
    let mut trickle = Trickle::new(&case);
    let mut product = Product::start(&case, &config);
    let mut arrived = LineCount::of(case.output());
    for kill in 0..=KILLS {
        trickle.run_for(Duration::from_secs(if kill == 0 { seconds } else { 1 }));
        arrived.wait(trickle.lines() / 2, &mut product);
        product.kill();
        let logs = logs(&config);
        println!("kill {kill}: {} lines, segments and ranges of the logs: {logs:?}", trickle.lines());
        assert_eq!(logs.len(), 2);
        for (_, ranges) in &logs {
            assert!((1..=RANGES_MAX).contains(ranges), "{} lines and {logs:?}", trickle.lines());
        }
        product = Product::start(&case, &config);
    }
    // Lines that no earlier start can have delivered: when they arrive, everything has.
    trickle.run_for(Duration::from_secs(1));
    product.finish(&case.output(), trickle.lines());
}
