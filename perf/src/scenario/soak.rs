//! `soak`: full speed for minutes, sampling the resident memory every second.
//!
//! If checks find no work left, or if the CPU time is far below the wall time, this was not full speed: the machine was busy.
//! The CPU time covers the whole life of the process.
//!
//! Files with the same lines, each after a different first line, are put into a folder as fast as they are read. A file that
//! was read is deleted. Before that, so many small files come and go that the memory for deleted files is at its limit. The
//! growth is the slope of a straight line through all samples except those of the first tenth, and for each half, what such a
//! line gains in it. Flat memory gains nothing in the second half, whatever it needed to warm up.
//!
//! Guarantees: all events of all files were delivered, by the program's own count.

use super::throughput::MIB;
use super::{Bench, Scenario, count_at_rest, ended_well};
use crate::contender::Contender;
use crate::data::{Kind, Lines};
use crate::measure::{self, Metered};
use crate::results::{Figure, Results, slope};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where the files are: in memory, so that creating them uses nothing of the disk that the write-ahead log needs.
const MEMORY: &str = "/dev/shm";
/// Files that wait to be read.
const AHEAD: u64 = 3;
/// Maximum number of lines per file.
const FILE_LINES_MAX: u64 = 1_000_000;
/// Files created per check: more than are read until the next check, and few enough that checks stay regular on a busy disk.
const FILES_A_LOOK: u64 = 1;
/// Small files that come and go first: more than a program remembers by default.
const HISTORY: u64 = 17_000;
const HISTORY_AT_ONCE: u64 = 1_000;
/// How often files are created and the count is requested.
const LOOK: Duration = Duration::from_millis(100);
const SAMPLE_SECONDS: f64 = 1.0;

pub(super) fn run(bench: &Bench<'_>, contender: &Contender, round: usize, results: &mut Results) -> Result<(), String> {
    let folder = folder(bench)?;
    let place = bench.place(Scenario::Soak.folder(), "run", folder.0.join("*.log"))?;
    let mut feed = Feed::new(folder.0.clone(), bench.plan.lines.min(FILE_LINES_MAX), bench.plan.seed);
    let with_log = |error: String| format!("{error}\n{}", place.own_log());
    let metered = Metered::start(&mut contender.command(&place)?, bench.contender_cpus())?;
    while feed.events < HISTORY {
        feed.come_and_go(|events| {
            let gone = || Ok(contender.events_out(&place) >= events);
            let within = metered.begun().elapsed() + bench.within(events);
            metered.until(within, Duration::from_millis(100), gone).map(drop).map_err(with_log)
        })?;
    }
    feed.keep_ahead(feed.events)?;
    let begun = Instant::now();
    let mut samples: Vec<(f64, f64)> = Vec::new();
    let (mut looks, mut dry) = (0_u64, 0_u64);
    let seconds = bench.plan.soak_seconds as f64;
    loop {
        let elapsed = begun.elapsed().as_secs_f64();
        if elapsed >= seconds {
            break;
        }
        if elapsed >= samples.len() as f64 * SAMPLE_SECONDS {
            samples.push((elapsed / 60.0, metered.resident_bytes() as f64 / 1024.0));
        }
        let delivered = contender.events_out(&place);
        (looks, dry) = (looks + 1, dry + u64::from(delivered >= feed.events));
        feed.keep_ahead(delivered)?;
        measure::pause(LOOK);
    }
    let done = || Ok(contender.events_out(&place) >= feed.events);
    let within = metered.begun().elapsed() + bench.within(feed.lines * AHEAD);
    metered.until(within, Duration::from_millis(500), done).map_err(with_log)?;
    let events = count_at_rest(contender, &place, measure::pause);
    let wall = begun.elapsed().as_secs_f64();
    let peak = metered.resident_peak_bytes() as f64 / MIB;
    let ended = metered.end().map_err(with_log)?;
    ended_well(contender, &ended).map_err(with_log)?;
    if events != feed.events {
        return Err(format!("it counts {events} events out of {}", feed.events));
    }
    let warm = &samples[samples.len() / 10..];
    let growth = slope(warm);
    let halves = warm.split_at(warm.len() / 2);
    let (first, second) = (gain(halves.0), gain(halves.1));
    let at = |tenth: usize| samples.get(samples.len() * tenth / 10).map_or(0.0, |sample| sample.1 / 1024.0);
    let resident = [at(1), at(5), at(9)].map(|mib| format!("{mib:.1}")).join(", ");
    eprintln!(
        "round {round}  soak of {wall:.0} s  {}: {events} events, memory grows by {growth:.1} KiB a minute ({resident} MiB after 1, 5 and 9 tenths; \
         {first:.0} KiB in the first half, {second:.0} in the second); {dry} of {looks} checks found no work left",
        contender.name()
    );
    let figures = [
        (Figure::EventsPerSecond, events as f64 / wall),
        (Figure::CpuSeconds, ended.cpu_seconds),
        (Figure::EventsPerCpuSecond, events as f64 / ended.cpu_seconds),
        (Figure::CpuMsPerSecond, ended.cpu_seconds * 1000.0 / wall),
        (Figure::ResidentPeakMib, peak),
        (Figure::ResidentGrowthKibPerMinute, growth),
        (Figure::ResidentGrowthFirstHalfKib, first),
        (Figure::ResidentGrowthSecondHalfKib, second),
    ];
    results.add(round, Scenario::Soak.name(), "", contender.name(), &figures);
    Ok(())
}

/// What a straight line through samples gains from the first to the last sample.
fn gain(samples: &[(f64, f64)]) -> f64 {
    let (Some(first), Some(last)) = (samples.first(), samples.last()) else { return 0.0 };
    slope(samples) * (last.0 - first.0)
}

/// A folder that is removed when it is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // It is no longer needed, and no result depends on its removal.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An empty folder in memory, or on disk if there is no such folder.
fn folder(bench: &Bench<'_>) -> Result<Folder, String> {
    let in_memory = Path::new(MEMORY).join(format!("tailwater-perf-{}", std::process::id()));
    if measure::clear_directory(&in_memory).is_ok() {
        return Ok(Folder(in_memory));
    }
    let on_disk = bench.work.join("soak");
    measure::clear_directory(&on_disk)?;
    Ok(Folder(on_disk))
}

/// The waiting files.
struct Feed {
    folder: PathBuf,
    body: String,
    lines: u64,
    made: u64,
    deleted: u64,
    /// Events in all files so far, and in those before the first counted file.
    events: u64,
    history: u64,
}

impl Feed {
    fn new(folder: PathBuf, lines: u64, seed: u64) -> Feed {
        let (mut body, mut source) = (String::new(), Lines::new(Kind::Json, seed, 0));
        (0..lines).for_each(|_| source.append(&mut body));
        Feed { folder, body, lines: lines + 1, made: 0, deleted: 0, events: 0, history: 0 }
    }

    /// Creates small files, waits until they were read, and deletes them.
    fn come_and_go(&mut self, taken: impl FnOnce(u64) -> Result<(), String>) -> Result<(), String> {
        let small: Vec<PathBuf> =
            (0..HISTORY_AT_ONCE).map(|file| self.folder.join(format!("{}.log", self.history + file))).collect();
        for path in &small {
            let line = format!("{{\"small\":\"{}\"}}\n", path.display());
            std::fs::write(path, line).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        self.events += HISTORY_AT_ONCE;
        taken(self.events)?;
        for path in &small {
            std::fs::remove_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        (self.history, self.made, self.deleted) = (self.events, self.events, self.events);
        Ok(())
    }

    /// Deletes files that were certainly read, and creates new ones.
    fn keep_ahead(&mut self, delivered: u64) -> Result<(), String> {
        // Files may be read concurrently. This many whole files have passed, and two are kept for the reader's own bookkeeping.
        let taken = self.history + (delivered - self.history) / self.lines;
        while self.deleted + AHEAD + 2 < taken {
            let path = self.path(self.deleted);
            std::fs::remove_file(&path).map_err(|error| format!("{}: {error}", path.display()))?;
            self.deleted += 1;
        }
        for _ in 0..FILES_A_LOOK.min((taken + AHEAD).saturating_sub(self.made)) {
            let path = self.path(self.made);
            let head = format!("{{\"file\":\"{:020}\"}}\n", self.made);
            let written = File::create(&path).and_then(|mut file| {
                file.write_all(head.as_bytes())?;
                file.write_all(self.body.as_bytes())
            });
            written.map_err(|error| format!("{}: {error}", path.display()))?;
            self.made += 1;
            self.events += self.lines;
        }
        Ok(())
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number}.log"))
    }
}
