//! `crowd`: how late the files of one user are read while another user makes, renames and deletes very many files and directories.
//!
//! A line is appended to a followed file 20 times a second, and once a second there is a new file with a line. A line is late by the
//! time from just before it was written to the return of the first read of the output that showed it. If this runs as root, the other
//! user is `nobody`, else the same one, with whom the product shares less fairly.
//!
//! Guarantees: every line arrives, the product runs on, and no position is dropped, or the command fails. Times are printed and never
//! decide. What is printed of memory, descriptors and watches is the most that was seen in the phase, several times a second.

mod probes;
mod stranger;

use crate::contender::{self, Contender, Place, Program};
use crate::count;
use crate::measure::{self, Metered};
use probes::{Late, Probes};
use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How often the process is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long the lines of a phase may take to arrive.
const ARRIVE_WITHIN: Duration = Duration::from_secs(300);
const MIB: u64 = 1 << 20;

/// What is measured.
pub struct Plan<'a> {
    /// The product's binary.
    pub tailwater: &'a Path,
    /// Folder with the configurations.
    pub scenarios: &'a Path,
    /// Number of files, and of directories with a file each.
    pub files: u64,
    /// Number of files that are renamed.
    pub renamed: u64,
    /// Number of shards.
    pub shards: u64,
    /// How long each phase goes on after its work.
    pub settle: Duration,
}

/// What happens in a phase.
#[derive(Clone, Copy)]
enum Work {
    Nothing,
    MakeFiles,
    Rename,
    MakeDirectories,
    Delete,
    Kill,
}

const PHASES: [(&str, Work); 10] = [
    ("quiet", Work::Nothing),
    ("files are made", Work::MakeFiles),
    ("files are there", Work::Nothing),
    ("kill -9 and start", Work::Kill),
    ("files are renamed", Work::Rename),
    ("directories are made", Work::MakeDirectories),
    ("directories are there", Work::Nothing),
    ("kill -9 and start", Work::Kill),
    ("all are deleted", Work::Delete),
    ("quiet", Work::Nothing),
];

/// The most that was seen of each.
#[derive(Default)]
struct Most {
    resident: u64,
    descriptors: usize,
    watches: usize,
}

impl Most {
    fn see(&mut self, metered: &Metered) {
        let (descriptors, watches) = metered.descriptors();
        self.resident = self.resident.max(metered.resident_bytes());
        self.descriptors = self.descriptors.max(descriptors);
        self.watches = self.watches.max(watches);
    }
}

/// Measures, and prints a line of a table for each phase.
pub fn run(plan: &Plan<'_>) -> Result<(), String> {
    let work = std::env::temp_dir().join(format!("tailwater-perf-crowd-{}", std::process::id()));
    let outcome = measure_in(plan, &work);
    // What is left of it matters to nobody.
    let _ = std::fs::remove_dir_all(&work);
    outcome
}

fn measure_in(plan: &Plan<'_>, work: &Path) -> Result<(), String> {
    let logs = work.join("logs");
    for directory in [work, &work.join("run"), &logs.join("app"), &logs.join("crowd")] {
        measure::clear_directory(directory)?;
    }
    let crowd = stranger::give(&logs.join("crowd"))?;
    let place = Place {
        configurations: plan.scenarios.join("crowd"),
        input: logs.join("**/*.log"),
        directory: work.join("run"),
        admin: contender::free_address()?,
        sink: None,
    };
    let probes = Probes::new(&logs.join("app"), &place.output());
    println!("{} files, then {} directories with a file each; shards: {}\n", plan.files, plan.files, plan.shards);
    println!(
        "| phase | work s | followed file, median ms | longest ms | new file, longest ms | MiB | descriptors | watches | followed | waiting |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    std::thread::scope(|scope| {
        scope.spawn(|| probes.write());
        scope.spawn(|| probes.watch());
        let outcome = phases(plan, &crowd, &place, &probes);
        probes.stop.store(true, Ordering::Relaxed);
        outcome.map_err(|error| format!("{error}\n{}", place.own_log()))
    })
}

fn phases(plan: &Plan<'_>, crowd: &File, place: &Place, probes: &Probes) -> Result<(), String> {
    let contender = Contender { program: Program::Tailwater, binary: plan.tailwater.to_owned() };
    let start = || {
        let mut command = contender.command(place)?;
        command.env("PERF_SHARDS", plan.shards.to_string());
        Metered::start(&mut command, &measure::allowed_cpus()?)
    };
    let mut metered = start()?;
    for (number, (name, kind)) in PHASES.iter().enumerate() {
        let begun = probes.begin(number);
        if matches!(kind, Work::Kill) {
            metered.kill()?;
            metered = start()?;
        }
        let (worked, most) = phase(plan, crowd, *kind, &metered, begun)?;
        probes.all_arrived(number, ARRIVE_WITHIN)?;
        report(name, worked, &most, &probes.late(number), place)?;
    }
    let ended = metered.end()?;
    if ended.status.success() { Ok(()) } else { Err(format!("it ended with {}", ended.status)) }
}

/// Does the work of a phase, and looks at the process meanwhile and for some time after it. Returns how long the work took.
fn phase(
    plan: &Plan<'_>,
    crowd: &File,
    kind: Work,
    metered: &Metered,
    begun: Instant,
) -> Result<(Duration, Most), String> {
    let mut most = Most::default();
    let worked = std::thread::scope(|scope| {
        let work = scope.spawn(move || match kind {
            Work::Nothing | Work::Kill => Ok(()),
            Work::MakeFiles => stranger::make_files(crowd, plan.files),
            Work::MakeDirectories => stranger::make_directories(crowd, plan.files),
            Work::Rename => stranger::rename(crowd, plan.renamed),
            Work::Delete => stranger::delete(crowd),
        });
        while !work.is_finished() {
            most.see(metered);
            measure::pause(LOOK);
        }
        let outcome = work.join().map_err(|_| "the stranger failed".to_owned())?;
        outcome.map(|()| begun.elapsed())
    })?;
    let settled = Instant::now();
    while settled.elapsed() < plan.settle {
        most.see(metered);
        measure::pause(LOOK);
    }
    Ok((worked, most))
}

fn report(name: &str, worked: Duration, most: &Most, late: &Late, place: &Place) -> Result<(), String> {
    let metrics = count::get(place.admin, "/metrics");
    let (followed, waiting, dropped) = count::tailwater_crowd(&metrics);
    println!(
        "| {name} | {:.1} | {} | {} | {} | {} | {} | {} | {followed} | {waiting} |",
        worked.as_secs_f64(),
        late.appended_median.as_millis(),
        late.appended_longest.as_millis(),
        late.new_longest.as_millis(),
        most.resident / MIB,
        most.descriptors,
        most.watches,
    );
    match dropped {
        0 => Ok(()),
        dropped => Err(format!("{dropped} positions were dropped")),
    }
}
