//! Disks that return errors or lose power while the product runs.
//!
//! Promises: if the WAL cannot be written or synced, the engine ends with a message that names the file, and the next start
//! loses and repeats nothing. An input or output that fails is retried until it works.

use crate::case::Case;
use crate::disks::{LoopDisk, Mount, may_administrate, not_checked};
use crate::lines::{LineCount, LineWriter, arrived, block};
use crate::metrics;
use crate::product::{Product, binary, is_root};
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

const ALL: u64 = 40_000;

/// The product, with errors injected into some calls on some files. The tracer detaches into the background, so the child is
/// the product.
fn with_errors(config: &Path, file: &Path, inject: &str) -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "--seccomp-bpf", "-o", "/dev/null", "-P"]).arg(file).args(["-e", inject]);
    command.arg(binary()).arg("run").arg("-c").arg(config).stdin(Stdio::null());
    command
}

/// Whether errors can be injected here. If not, reports that `what` was not checked.
fn may_trace(what: &str) -> bool {
    let traced = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let may = traced.is_ok_and(|output| output.status.success());
    if !may {
        assert!(!is_root(), "strace does not work for root: it is needed for {what}");
        not_checked(what, "strace does not work here");
    }
    may
}

/// The engine ended because of its WAL: exit code 1, and a message with the file and the next step.
fn ended_by_its_log(product: &mut Product) {
    product.expect(" failed: ");
    let status = product.wait();
    let log = product.log();
    assert_eq!(status.code(), Some(1), "{log}");
    for word in [".seg failed:", "check the disk and restart"] {
        assert!(log.contains(word), "no {word:?} in {log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// Starts the product on `lines` lines and one more, which no earlier run can have delivered: when it arrives, everything
/// has.
fn wait_for_all_and_check(case: &Case, config: &Path, output: &Path, lines: u64) {
    let product = Product::start(case, config);
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(lines + 1, lines + 1)).expect("a line");
    product.finish(output, lines + 1);
}

#[test]
fn failed_write_of_the_log_ends_the_engine_and_nothing_is_lost() {
    if !may_trace("a failed write of the log") {
        return;
    }
    let case = Case::new("eio-log");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 1));
    // One line, so that the segment has its name before the errors begin.
    let mut product = Product::start(&case, &config);
    LineCount::of(case.output()).wait(1, &mut product);
    product.kill();
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(2, ALL)).expect("lines");
    let segment = case.path("data/wal/log-00000001/0000000000000001.seg");
    assert!(segment.exists());
    let mut command = with_errors(&config, &segment, "inject=pwrite64,pwritev,pwritev2:error=EIO:when=12+");
    let mut product = Product::start_with(&case, &mut command);
    ended_by_its_log(&mut product);
    assert!(product.log().contains("write of"), "{}", product.log());
    wait_for_all_and_check(&case, &config, &case.output(), ALL);
}

/// A disk that promises more than it has accepts writes and fails the sync: data in its cache is lost.
#[test]
fn failed_sync_of_the_log_ends_the_engine_and_nothing_is_lost() {
    if !may_administrate("a failed sync of the log") {
        return;
    }
    let mut case = Case::new("eio-sync");
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    fs::create_dir(case.path("thin")).expect("a folder");
    let thin = Mount::memory(case.path("thin"), "128m");
    let mut disk = LoopDisk::new(&case, "thin/image", "data", 96);
    case.write("logs/app.log", &block(1, 100));
    let mut product = Product::start(&case, &config);
    LineCount::of(case.output()).wait(100, &mut product);
    metrics::wait_for_sync(case.admin_port, &mut product);
    thin.resize(&format!("{}k", disk.image_kilobytes() + 1024));
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    // Less than a segment, but more than the disk has.
    const LINES: u64 = 8_000;
    log.write_all(&block(101, LINES)).expect("lines");
    product.expect("no new segment");
    ended_by_its_log(&mut product);
    // If the file system's own journal meets the error first, it becomes read-only, and the next write fails.
    let log = product.log();
    assert!(log.contains("sync of") || log.contains("Read-only file system"), "{log}");
    thin.resize("128m");
    disk.restart();
    // The WAL lost delivered events, and the output cannot know that they will be delivered again: it may keep them and get
    // them twice.
    let mut product = Product::start(&case, &config);
    product.expect("not truncated");
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(LINES + 1, LINES + 1)).expect("a line");
    wait_for("all lines", || {
        let lost = arrived(&case.output(), LINES + 1).lost();
        if lost.is_empty() { Ok(()) } else { Err(format!("{} lines are missing; {}", lost.len(), product.state())) }
    });
    product.terminate();
    assert_eq!(arrived(&case.output(), LINES + 1).lost(), Vec::<u64>::new());
}

/// Three power losses under the WAL and the output while lines are written; the sources are on another disk.
#[test]
fn power_cuts_lose_and_repeat_nothing() {
    if !may_administrate("a power cut") {
        return;
    }
    const LINES: u64 = 60_000;
    let mut case = Case::new("power");
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    fs::create_dir(case.path("disk")).expect("a folder");
    let mut disk = LoopDisk::new(&case, "image", "disk", 256);
    fs::create_dir(case.path("disk/out")).expect("a folder");
    let output = case.path("disk/out/events.json");
    let config = case.files_to_file_with("logs/*.log", &[("data", "disk/data"), ("out/", "disk/out/")]);
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let writing = thread::spawn(move || writer.write_to(LINES));
    let mut count = LineCount::of(output.clone());
    for lines in [8_000, 24_000, 40_000] {
        let mut product = Product::start(&case, &config);
        ["cannot", "failed", "checked", "Input/output error", "similar lines"]
            .iter()
            .for_each(|part| product.expect(part));
        count.wait(lines, &mut product);
        disk.cut_power();
        ended_by_its_log(&mut product);
        disk.restart();
    }
    writing.join().expect("the writer");
    wait_for_all_and_check(&case, &config, &output, LINES);
}

#[test]
fn input_that_cannot_be_read_is_retried() {
    if !may_trace("an input that cannot be read") {
        return;
    }
    let case = Case::new("eio-input");
    let config = case.files_to_file("logs/*.log");
    let log = case.write("logs/app.log", &block(1, ALL));
    let mut command = with_errors(&config, &log, "inject=preadv2,pread64:error=EIO:when=5..7");
    let mut product = Product::start_with(&case, &mut command);
    product.expect("reading it failed");
    product.wait_for_log(&["app.log", "reading it failed", "input/output error", "retrying"]);
    product.finish(&case.output(), ALL);
}

#[test]
fn output_that_fails_to_write_loses_and_repeats_nothing() {
    if !may_trace("an output that fails to write") {
        return;
    }
    let case = Case::new("eio-output");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, ALL));
    let mut command = with_errors(&config, &case.output(), "inject=pwrite64,pwritev,pwritev2:error=EIO:when=3..6");
    let mut product = Product::start_with(&case, &mut command);
    ["events.json", "similar lines"].iter().for_each(|part| product.expect(part));
    product.wait_for_log(&["events.json", "input/output error", "check the disk"]);
    product.finish(&case.output(), ALL);
}

/// The output's disk dies and is mounted again at the same place: events that were accepted but are not durable are written
/// again, to the file that is there now.
#[test]
fn output_whose_disk_dies_continues_when_it_is_mounted_again() {
    if !may_administrate("an output whose disk dies") {
        return;
    }
    let case = Case::new("dead-output");
    let config = case.files_to_file("logs/*.log");
    let mut disk = LoopDisk::new(&case, "image", "out", 64);
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let mut product = Product::start(&case, &config);
    ["events.json", "cannot be", "similar lines"].iter().for_each(|part| product.expect(part));
    let mut last = 0;
    for quiet in [true, false] {
        last += 10_000;
        writer.resume();
        writer.write_to(last);
        LineCount::of(case.output()).wait(last, &mut product);
        let commits = || metrics::sum(case.admin_port, "tailwater_output_commits_total", &[]);
        let before = commits().expect("metrics");
        if quiet {
            // Everything is committed: only the next write shows that the disk is gone.
            wait_for("a commit", || if commits()? > before { Ok(()) } else { Err(product.state()) });
        }
        disk.cut_power();
        last += 5_000;
        writer.burst_to(last);
        wait_for("lines in the log", || match metrics::logged_events(case.admin_port)? {
            logged if logged >= last => Ok(()),
            logged => Err(format!("{logged} logged")),
        });
        pause(Duration::from_millis(300));
        disk.replace();
        LineCount::of(case.output()).wait(last, &mut product);
    }
    product.terminate();
    arrived(&case.output(), last).assert_exactly_once();
}
