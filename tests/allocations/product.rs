//! The product in this process: a file that grows, its log on disk, an output.

use crate::allocations;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tailwater::app::{self, RunOptions, Running};
use tailwater::config::{self, Circumstances};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::stop::{Phase, Stop};

/// Events of a round, in lines so short that a chunk holds more than a thousand of them.
const EVENTS: u64 = 100_000;
const LINE_BYTES: usize = 40;
/// What nothing but a mistake takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Allocations that a round may make: none for an event, a few for a chunk (a thousand events), a delivery, a segment; and for
/// time that passes: a timer each time that a busy shard lets its reactor have a turn, twice a millisecond.
fn allocations_max(elapsed: Duration) -> usize {
    EVENTS as usize / 100 + elapsed.as_millis() as usize * 4
}

struct Case {
    running: Running,
    stop: Stop,
    input: File,
    lines: Vec<u8>,
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
        let line = format!("{{\"message\":\"{}\"}}\n", "x".repeat(LINE_BYTES - 15));
        assert_eq!(line.len(), LINE_BYTES);
        let lines = line.repeat(2_000).into_bytes();
        Case { running, stop, input, lines, sent: 0, _directory: directory }
    }

    /// Appends the events of a round and waits until they are delivered, without an allocation of its own.
    #[expect(clippy::disallowed_methods, reason = "polls a counter that says nothing by itself")]
    fn round(&mut self) {
        for _ in 0..EVENTS / 2_000 {
            self.input.write_all(&self.lines).expect("the file takes lines");
        }
        self.sent += EVENTS;
        let begun = Instant::now();
        while self.running.totals().delivered < self.sent {
            assert!(begun.elapsed() < PATIENCE, "{:?} of {} events", self.running.totals(), self.sent);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn check(mut self, name: &str) {
        for _ in 0..2 {
            self.round();
        }
        let rounds: Vec<(usize, Duration)> = (0..3)
            .map(|_| {
                let begun = Instant::now();
                let count = allocations(|| self.round());
                (count, begun.elapsed())
            })
            .collect();
        println!("{name}: {rounds:?} for {EVENTS} events each");
        self.stop.enter(Phase::Draining);
        let totals = self.running.wait().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((totals.received, totals.delivered, totals.discarded), (self.sent, self.sent, 0));
        let kept = rounds.iter().any(|(count, elapsed)| *count <= allocations_max(*elapsed));
        assert!(kept, "{name}: {rounds:?} allocations in rounds of {EVENTS} events");
    }
}

/// A file to nothing, through the log.
pub fn blackhole_takes_events_without_allocations() {
    Case::start(|_| "type: blackhole".to_owned()).check("file to blackhole");
}

/// A file to files, as JSON.
pub fn files_take_events_without_allocations() {
    Case::start(|path| format!("type: file, path: '{}/out.json'", path.display())).check("file to file");
}
