//! Disks that become full and have space again: under the WAL, under the output, under both.
//!
//! Promises: nothing is lost or repeated, no restart is needed, and a start on a full disk works as long as the WAL is on it.

use crate::case::Case;
use crate::disks::{LoopDisk, Mount, fill, may_administrate, run};
use crate::lines::{LineCount, block};
use crate::metrics;
use crate::product::{Product, binary, text};
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const ALL: u64 = 60_000;

/// The message when the WAL gets no new segment.
const NO_SEGMENT: &str = "no new segment for the write-ahead log";

/// A case whose WAL is on a disk of 40 MiB with too little space for [`ALL`] lines, and whose output cannot accept anything
/// yet.
struct FullLog {
    config: PathBuf,
    filler: PathBuf,
    _disk: Mount,
    case: Case,
}

impl FullLog {
    fn new(name: &str) -> FullLog {
        let mut case = Case::new(name);
        case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 256MiB}\n".to_owned();
        let config = case.files_to_file("logs/*.log");
        let disk = Mount::memory(case.path("data"), "40m");
        let filler = fill(&case.path("data"), 18 << 20);
        fs::create_dir(case.output()).expect("a folder where the file should be");
        FullLog { config, filler, _disk: disk, case }
    }

    /// Starts the product and waits until its WAL is full.
    fn start_and_fill(&self) -> Product {
        self.case.write("logs/app.log", &block(1, ALL));
        let mut product = Product::start(&self.case, &self.config);
        product.expect("events.json");
        product.expect("similar lines");
        product.expect("the next start will not find files with unread bytes");
        product.expect(NO_SEGMENT);
        product.wait_for_log(&[NO_SEGMENT, "no space left", "free space on that disk"]);
        wait_for("an intake that waits", || {
            match metrics::sum(self.case.admin_port, "tailwater_wal_full_total", &[])? {
                0 => Err(product.state()),
                _ => Ok(()),
            }
        });
        let logged = metrics::logged_events(self.case.admin_port).expect("metrics");
        assert!((1..ALL).contains(&logged), "{logged} of {ALL} are in the log of a full disk");
        product
    }
}

#[test]
fn full_disk_of_the_wal_pauses_the_intake_until_space_is_freed() {
    if !may_administrate("a full disk under the log") {
        return;
    }
    let full = FullLog::new("full-log");
    let mut product = full.start_and_fill();
    fs::remove_file(&full.filler).expect("room");
    wait_for("all lines in the log", || match metrics::logged_events(full.case.admin_port)? {
        ALL => Ok(()),
        logged => Err(format!("logged {logged}; {}", product.state())),
    });
    fs::remove_dir(full.case.output()).expect("the folder goes");
    product.finish(&full.case.output(), ALL);
}

#[test]
fn full_disk_of_the_wal_drains_through_the_output_without_more_space() {
    if !may_administrate("a full disk under the log that is drained") {
        return;
    }
    let full = FullLog::new("full-drain");
    let product = full.start_and_fill();
    fs::remove_dir(full.case.output()).expect("the folder goes");
    product.finish(&full.case.output(), ALL);
}

/// Killed and started while the disk is full to the last byte: the start delivers what is in the WAL.
#[test]
fn start_on_a_full_disk_delivers_what_is_in_the_wal() {
    if !may_administrate("a start on a full disk") {
        return;
    }
    let full = FullLog::new("full-start");
    full.start_and_fill().kill();
    let rest = full.case.path("data/rest");
    fs::rename(fill(&full.case.path("data"), 0), &rest).expect("no room at all");
    fs::remove_dir(full.case.output()).expect("the folder goes");
    for _ in 0..2 {
        let mut product = start_again(&full.case, &full.config);
        LineCount::of(full.case.output()).wait(1, &mut product);
        product.kill();
    }
    let product = start_again(&full.case, &full.config);
    // A line that no earlier run can have delivered: when it arrives, everything has.
    let mut log = fs::File::options().append(true).open(full.case.path("logs/app.log")).expect("the log");
    log.write_all(&block(ALL + 1, ALL + 1)).expect("a line");
    product.finish(&full.case.output(), ALL + 1);
}

#[test]
fn first_start_on_a_full_disk_fails_and_names_it() {
    if !may_administrate("a first start on a full disk") {
        return;
    }
    let case = Case::new("full-first");
    let config = case.files_to_file("logs/*.log");
    let _disk = Mount::memory(case.path("data"), "8m");
    for spared in [0, 1 << 20] {
        fill(&case.path("data"), spared);
        let mut command = Command::new(binary());
        let output =
            command.arg("run").arg("-c").arg(&config).stdin(Stdio::null()).output().expect("the product starts");
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        for word in [case.path("data").to_str().expect("UTF-8"), "No space left", "free"] {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
    }
}

/// Starts the product on a disk that is already full.
fn start_again(case: &Case, config: &Path) -> Product {
    let mut product = Product::start(case, config);
    product.expect(NO_SEGMENT);
    product.expect("no disk space for another segment");
    product.expect("similar lines");
    product.expect("the next start will not find files with unread bytes");
    product
}

/// Waits until the product has found its output disk full and writes nothing more.
fn wait_for_full_output(case: &Case, product: &mut Product) -> u64 {
    product.expect("No space left");
    product.expect("similar lines");
    product.wait_for_log(&["no space left", "events.json", "free space there"]);
    let length = || fs::metadata(case.output()).expect("the output").len();
    wait_for("an output that stands still", || {
        let before = length();
        pause(Duration::from_millis(200));
        if length() == before { Ok(before) } else { Err(product.state()) }
    })
}

#[test]
fn full_disk_of_the_output_is_waited_for_over_kills() {
    if !may_administrate("a full disk under the output") {
        return;
    }
    let case = Case::new("full-out");
    let config = case.files_to_file("logs/*.log");
    let disk = Mount::memory(case.path("out"), "4m");
    case.write("logs/app.log", &block(1, ALL));
    let mut product = Product::start(&case, &config);
    let first = wait_for_full_output(&case, &mut product);
    disk.resize("8m");
    wait_for("more than fitted before", || match fs::metadata(case.output()).expect("the output").len() {
        now if now > first => Ok(()),
        _ => Err(product.state()),
    });
    wait_for_full_output(&case, &mut product);
    product.kill();
    let mut product = Product::start(&case, &config);
    wait_for_full_output(&case, &mut product);
    disk.resize("64m");
    product.finish(&case.output(), ALL);
}

/// WAL and output on one disk, on a real file system with delayed allocation: the output uses the space that the WAL needs.
#[test]
fn one_full_disk_for_wal_and_output_is_waited_for_over_kills() {
    if !may_administrate("a full disk under log and output") {
        return;
    }
    let mut case = Case::new("full-both");
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    let _disk = LoopDisk::new(&case, "image", "out", 64);
    let config = case.files_to_file_with("logs/*.log", &[("data", "out/data")]);
    let filler = fill(&case.path("out"), 20 << 20);
    case.write("logs/app.log", &block(1, ALL));
    let mut product = Product::start(&case, &config);
    product.expect(NO_SEGMENT);
    wait_for_full_output(&case, &mut product);
    product.kill();
    let mut product = start_again(&case, &config);
    wait_for_full_output(&case, &mut product);
    fs::remove_file(filler).expect("room");
    product.finish(&case.output(), ALL);
}

/// A file at the size limit is handled like a full disk: no signal ends the process.
#[test]
fn output_at_the_limit_of_file_sizes_waits_until_it_is_raised() {
    let mut case = Case::new("file-sizes");
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 256MiB}\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 1));
    let mut product = Product::start(&case, &config);
    product.expect("cannot write");
    product.expect("similar lines");
    let id = product.id().to_string();
    let limit = |bytes: &str| run("prlimit", &["--pid", &id, &format!("--fsize={bytes}:")]);
    limit("4194304");
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(2, ALL)).expect("lines");
    product.wait_for_log(&["raise the limit of file sizes"]);
    limit("unlimited");
    product.finish(&case.output(), ALL);
}
