//! The product in this process: a growing file, its WAL on disk, an output.
//!
//! The same bytes pass as many short lines and as few long lines. Chunks, deliveries and segments are the same for both, and
//! may allocate. The difference is due to the events, which must not allocate, and to their work: a busy shard yields to its
//! reactor every half millisecond, which takes a timer.

use crate::allocations;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailwater::app::{self, RunOptions, Running};
use tailwater::config::{self, Circumstances};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::stop::{Phase, Stop};

/// Bytes per round.
const ROUND_BYTES: u64 = 20_000_000;
const SHORT_BYTES: u64 = 40;
const LONG_BYTES: u64 = 400;
/// Bytes per write, in whole lines of either length.
const WRITE_BYTES: u64 = 80_000;
/// Number of events per allowed allocation.
const EVENTS_PER_ALLOCATION: u64 = 1000;
/// Allowed allocations per additional millisecond of CPU time: two yields, and half as many for early ones on a busy machine,
/// which interrupts the process in the middle of a slice.
const TURNS_PER_MS: u64 = 3;
/// Number of rounds, and how many must stay within the limits: on a busy machine, time passes in one of them.
const ROUNDS: usize = 3;
const ROUNDS_KEPT: usize = 2;
/// Longest wait; only a bug takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// CPU time of all threads of this process.
fn cpu_ms() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("threads").flatten();
    // A thread that ends between two calls has no file any more.
    let texts = tasks.filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok());
    texts.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum::<u64>() / 1_000_000
}

/// Lines of one length.
struct Lines {
    bytes: u64,
    block: Vec<u8>,
}

impl Lines {
    fn new(bytes: u64) -> Lines {
        let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(bytes as usize - 15));
        assert_eq!((line.len() as u64, WRITE_BYTES % bytes, ROUND_BYTES % WRITE_BYTES), (bytes, 0, 0));
        Lines { bytes, block: line.repeat((WRITE_BYTES / bytes) as usize).into_bytes() }
    }

    /// Number of events per round.
    fn events(&self) -> u64 {
        ROUND_BYTES / self.bytes
    }
}

struct Case {
    running: Running,
    stop: Stop,
    input: File,
    sent: u64,
    _directory: tempfile::TempDir,
}

impl Case {
    fn start(output: impl Fn(&Path) -> String) -> Case {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path();
        let input = OpenOptions::new().create(true).append(true).open(path.join("in.log")).expect("a file to follow");
        let text = format!(
            "data_dir: {0}/data\nshards: 1\nadmin: false\nwal: {{segment_bytes: 16MiB, max_bytes: 128MiB}}\n\
             inputs:\n  in: {{type: file, include: ['{0}/in.log']}}\n\
             pipelines:\n  main: {{inputs: [in], outputs: [out]}}\noutputs:\n  out: {{{1}}}\n",
            path.display(),
            output(path)
        );
        let here = Circumstances { data_dir: None, cpus: 1 };
        let loaded = config::load::<GlommioEnv>("case.yaml", text.into_bytes(), &|_| None, &here);
        let plan = loaded.unwrap_or_else(|refused| panic!("{refused}")).plan;
        let stop = Stop::new();
        let options = RunOptions { log_dropped: Box::new(|| 0), admin_bound: Arc::new(|_| {}), stop: stop.clone() };
        let running = app::start(plan, options).unwrap_or_else(|error| panic!("{error}"));
        Case { running, stop, input, sent: 0, _directory: directory }
    }

    /// Appends the events of a round and waits until they are delivered, without allocating.
    #[expect(clippy::disallowed_methods, reason = "polls a counter that says nothing by itself")]
    fn round(&mut self, lines: &Lines) {
        for _ in 0..ROUND_BYTES / WRITE_BYTES {
            self.input.write_all(&lines.block).expect("the file takes lines");
        }
        self.sent += lines.events();
        let begun = Instant::now();
        while self.running.totals().delivered < self.sent {
            assert!(begun.elapsed() < PATIENCE, "{:?} of {} events", self.running.totals(), self.sent);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn check(mut self, name: &str) {
        let (short, long) = (Lines::new(SHORT_BYTES), Lines::new(LONG_BYTES));
        let mut counted = |lines: &Lines| {
            let begun_ms = cpu_ms();
            let count = allocations(|| self.round(lines)) as u64;
            (count, cpu_ms() - begun_ms)
        };
        // Buffers grow to their final size.
        counted(&short);
        counted(&long);
        let rounds: Vec<_> = (0..ROUNDS).map(|_| (counted(&short), counted(&long))).collect();
        let events = short.events() - long.events();
        let said = format!(
            "{name}: {rounds:?} (allocations, CPU ms) for {} short and {} long lines",
            short.events(),
            long.events()
        );
        println!("{said}");
        self.stop.enter(Phase::Draining);
        let totals = self.running.wait().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((totals.received, totals.delivered, totals.discarded), (self.sent, self.sent, 0));
        let keeps = |((short, short_ms), (long, long_ms)): &&((u64, u64), (u64, u64))| {
            let more = short.saturating_sub(*long);
            more <= events / EVENTS_PER_ALLOCATION + short_ms.saturating_sub(*long_ms) * TURNS_PER_MS
        };
        let kept = rounds.iter().filter(keeps);
        assert!(kept.count() >= ROUNDS_KEPT, "{said}");
    }
}

/// From a file to `blackhole`, through the WAL.
pub fn blackhole_takes_events_without_allocations() {
    Case::start(|_| "type: blackhole".to_owned()).check("file to blackhole");
}

/// From a file to files, as JSON.
pub fn files_take_events_without_allocations() {
    Case::start(|path| format!("type: file, path: '{}/out.json'", path.display())).check("file to file");
}
