//! Disks and paths that fail: the data directory, damaged segments, an output that cannot be written.

use crate::case::Case;
use crate::disks::not_checked;
use crate::lines::{LineCount, arrived, block};
use crate::metrics;
use crate::product::{NOBODY, Product, binary, give_away, is_root, text, unprivileged};
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::{PipeReader, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long a start may take that must fail; a start that goes on is killed then.
const REFUSED_WAIT: Duration = Duration::from_secs(60);

/// A start that must fail with exit code 1 and a message that names the data directory.
fn refused(command: &mut Command, config: &Path, words: &[&str]) {
    command.arg("run").arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the product starts");
    let end = Instant::now() + REFUSED_WAIT;
    while child.try_wait().expect("its state").is_none() {
        if Instant::now() >= end {
            child.kill().expect("it can be killed");
        }
        pause(Duration::from_millis(20));
    }
    let output: Output = child.wait_with_output().expect("it has ended");
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    for word in words {
        assert!(message.to_lowercase().contains(&word.to_lowercase()), "no {word:?} in:\n{message}");
    }
    assert!(!message.contains("panicked"), "{message}");
}

#[test]
fn missing_data_directory_is_created() {
    let case = Case::new("no-data");
    let config = case.files_to_file("logs/*.log");
    fs::remove_dir(case.path("data")).expect("a removal");
    case.write("logs/app.log", &block(1, 1_000));
    let product = Product::start(&case, &config);
    product.finish(&case.output(), 1_000);
}

#[test]
fn data_directory_that_cannot_be_created_is_named() {
    let case = Case::new("data-is-file");
    let config = case.files_to_file("logs/*.log");
    fs::remove_dir(case.path("data")).expect("a removal");
    case.write("data", b"a file, not a folder");
    let data = case.path("data");
    refused(&mut Command::new(binary()), &config, &[data.to_str().expect("UTF-8")]);
    assert_eq!(fs::read(data).expect("the file"), b"a file, not a folder");
}

#[test]
fn read_only_data_directory_is_named() {
    let case = Case::new("read-only");
    let config = case.files_to_file("logs/*.log");
    let data = case.path("data");
    if !is_root() {
        fs::set_permissions(&data, fs::Permissions::from_mode(0o555)).expect("permissions");
    }
    refused(&mut unprivileged(&case), &config, &[data.to_str().expect("UTF-8"), "cannot write to it", "chown -r"]);
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// Another user has made the directory first, may write to it, or has put a link there.
#[test]
fn data_directory_that_a_stranger_can_change_is_refused() {
    use std::os::unix::fs::{lchown, symlink};
    let case = Case::new("strange-data");
    let config = case.files_to_file("logs/*.log");
    let data = case.path("data");
    // Who made it sticky shares it on purpose.
    for (mode, help) in [(0o1777, "set `data_dir` to a directory"), (0o777, "chmod o-w")] {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).expect("permissions");
        refused(&mut Command::new(binary()), &config, &["every user can write", help]);
    }
    assert_eq!(fs::read_dir(&data).expect("it is there").count(), 0, "nothing is begun");
    if !is_root() {
        return not_checked("a data directory of another user", "it needs root");
    }
    fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).expect("permissions");
    give_away(&data);
    refused(&mut Command::new(binary()), &config, &["belongs to the user 65534"]);
    fs::remove_dir(&data).expect("it is still empty");
    let elsewhere = case.path("elsewhere");
    fs::create_dir(&elsewhere).expect("a folder");
    symlink(&elsewhere, &data).expect("a link");
    lchown(&data, Some(NOBODY), Some(NOBODY)).expect("a new owner");
    refused(&mut Command::new(binary()), &config, &["symbolic link of the user 65534"]);
    assert_eq!(fs::read_dir(&elsewhere).expect("it is there").count(), 0, "nothing follows the link");
}

#[test]
fn directories_are_made_for_owner_and_group_whatever_the_mask() {
    let case = Case::new("modes");
    let config = case.files_to_file("logs/*.log");
    fs::remove_dir(case.path("data")).expect("a removal");
    case.write("logs/app.log", &block(1, 100));
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$0\" run -c \"$1\""]).arg(binary()).arg(&config).stdin(Stdio::null());
    let product = Product::start_with(&case, &mut command);
    product.finish(&case.output(), 100);
    for below in ["data", "data/wal", "data/outputs"] {
        let mode = fs::metadata(case.path(below)).expect(below).permissions().mode() & 0o7777;
        assert_eq!(mode, 0o750, "{below}: {mode:o}");
    }
}

#[test]
fn file_at_the_path_of_the_outputs_directory_is_named() {
    let case = Case::new("outputs-is-file");
    let config = case.files_to_file("logs/*.log");
    case.write("data/outputs", b"a file, not a folder");
    let outputs = case.path("data/outputs");
    let words = [outputs.to_str().expect("UTF-8"), "not a directory", "move away what is there"];
    refused(&mut Command::new(binary()), &config, &words);
    assert_eq!(fs::read(outputs).expect("the file"), b"a file, not a folder");
}

#[test]
fn second_instance_fails_and_the_first_continues() {
    let mut case = Case::new("second");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 10_000));
    let mut count = LineCount::of(case.output());
    let mut product = Product::start(&case, &config);
    count.wait(10_000, &mut product);
    // Its own port, so that the data directory is the reason for the failure.
    case.admin_port = 0;
    let second = case.files_to_file("logs/*.log");
    let data = case.path("data");
    refused(&mut Command::new(binary()), &second, &[data.to_str().expect("UTF-8"), "another"]);
    case.write("logs/more.log", &block(10_001, 20_000));
    product.finish(&case.output(), 20_000);
}

/// The kernel releases the lock of a killed process a moment after its end; the test holds it in its place.
#[test]
fn data_directory_that_is_still_locked_at_a_start_is_waited_for() {
    let case = Case::new("late-lock");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 10));
    let held = fs::File::create(case.path("data/lock")).expect("the lock file");
    held.lock().expect("nobody has it");
    let mut product = Product::start(&case, &config);
    product.wait_for_log(&["has the lock of the data directory; waiting for up to 5s"]);
    drop(held);
    product.finish(&case.output(), 10);
}

/// Segment files of the log, oldest first.
fn segments(case: &Case) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![case.path("data/wal")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the log's folder") {
            let path = entry.expect("an entry").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if name.ends_with(".seg") && name.starts_with(|first: char| first.is_ascii_digit()) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Flips the bits of some bytes.
fn damage(segment: &Path, offset: u64, length: usize) {
    let file = fs::OpenOptions::new().read(true).write(true).open(segment).expect("a segment");
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset).expect("bytes");
    bytes.iter_mut().for_each(|byte| *byte = !*byte);
    file.write_all_at(&bytes, offset).expect("bytes");
}

/// Where the written part of a segment ends.
fn written(segment: &Path) -> u64 {
    let bytes = fs::read(segment).expect("a segment");
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1)
}

/// A case that was killed with `lines` in its WAL, in several segments, none of them delivered.
fn killed_with_a_full_log(name: &str, lines: u64) -> (Case, PathBuf) {
    let mut case = Case::new(name);
    // Synced batches, and a last line that shows this: damage in frames that may not be durable counts as a torn tail.
    case.extra = "wal: {sync: every_batch, segment_bytes: 4MiB, max_bytes: 256MiB}\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    fs::create_dir(case.output()).expect("a folder where the file should be");
    case.write("logs/app.log", &block(1, lines - 1));
    let mut product = Product::start(&case, &config);
    product.expect("events.json");
    let logged = |least: u64, product: &mut Product| {
        wait_for("the lines in the log", || match metrics::logged_events(case.admin_port)? {
            logged if logged >= least => Ok(()),
            logged => Err(format!("logged {logged}; {}", product.state())),
        });
    };
    logged(lines - 1, &mut product);
    wait_for("the last sync", || {
        let syncs = || metrics::sum(case.admin_port, "tailwater_wal_syncs_total", &[]);
        let before = syncs()?;
        crate::wait::pause(std::time::Duration::from_millis(300));
        if syncs()? == before { Ok(()) } else { Err(product.state()) }
    });
    let mut log = fs::File::options().append(true).open(case.path("logs/app.log")).expect("the log");
    log.write_all(&block(lines, lines)).expect("a line");
    logged(lines, &mut product);
    product.kill();
    fs::remove_dir(case.output()).expect("the folder goes");
    (case, config)
}

#[test]
fn several_undelivered_segments_survive_a_kill() {
    const ALL: u64 = 60_000;
    let (case, config) = killed_with_a_full_log("segments", ALL);
    assert!(segments(&case).len() >= 3);
    // Only the WAL has them now.
    fs::remove_file(case.path("logs/app.log")).expect("a removal");
    let mut product = Product::start(&case, &config);
    product.expect("nothing to follow yet");
    product.finish(&case.output(), ALL);
}

#[test]
fn damage_in_a_sealed_segment_is_reported_and_costs_only_its_frame() {
    const ALL: u64 = 60_000;
    let (case, config) = killed_with_a_full_log("sealed", ALL);
    let segments = segments(&case);
    assert!(segments.len() >= 3, "{segments:?}");
    damage(&segments[1], 2 << 20, 16);
    // Lines that the WAL lost must not come back from the source: then nothing would be proved.
    fs::remove_file(case.path("logs/app.log")).expect("a removal");
    case.write("logs/new.log", b"a fresh line\n");
    let mut product = Product::start(&case, &config);
    product.expect("amage");
    product.expect("quarantine");
    product.wait_for_log(&["damage", "quarantine", "\"segment\":2"]);
    wait_for("the fresh line", || {
        let text = fs::read_to_string(case.output()).unwrap_or_default();
        if text.contains("a fresh line") { Ok(()) } else { Err(product.state()) }
    });
    product.terminate();
    let seen = arrived(&case.output(), ALL);
    assert_eq!(seen.repeated(), Vec::<u64>::new());
    let lost = seen.lost();
    assert!(!lost.is_empty() && lost.len() < 5_000, "lost {} lines to 16 damaged bytes", lost.len());
    assert!(lost.windows(2).all(|pair| pair[1] == pair[0] + 1), "one frame's lines, not others'");
    let quarantined = fs::read_dir(case.path("data/quarantine")).expect("a quarantine").count();
    assert!(quarantined >= 1, "the damaged bytes are kept aside");
}

#[test]
fn damage_at_the_tail_is_cut_and_read_again() {
    const ALL: u64 = 20_000;
    let (case, config) = killed_with_a_full_log("tail", ALL);
    let segments = segments(&case);
    let last = segments.last().expect("a segment");
    let end = written(last);
    assert!(end > 1_000, "{end}");
    damage(last, end - 24, 8);
    let mut product = Product::start(&case, &config);
    product.expect(".seg");
    product.expect("torn");
    product.finish(&case.output(), ALL);
}

#[test]
fn output_that_cannot_be_written_waits_and_loses_nothing() {
    let case = Case::new("blocked");
    let config = case.files_to_file("logs/*.log");
    // A directory at the path of the file fails for root too.
    fs::create_dir(case.output()).expect("a folder");
    case.write("logs/app.log", &block(1, 10_000));
    let mut product = Product::start(&case, &config);
    product.expect("events.json");
    product.wait_for_log(&["events.json", "directory"]);
    case.write("logs/more.log", &block(10_001, 20_000));
    wait_for("the lines in the log", || match metrics::logged_events(case.admin_port)? {
        20_000 => Ok(()),
        logged => Err(format!("logged {logged}; {}", product.state())),
    });
    fs::remove_dir(case.output()).expect("the folder goes");
    product.finish(&case.output(), 20_000);
}

#[test]
fn output_that_cannot_be_opened_shows_how_long_its_events_wait() {
    let case = Case::new("unopened");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 1_000));
    let mut product = Product::start(&case, &config);
    LineCount::of(case.output()).wait(1_000, &mut product);
    product.terminate();
    // A directory at the path of the journal fails for root too.
    let files = fs::read_dir(case.path("data/outputs")).expect("a folder").map(|entry| entry.expect("an entry").path());
    let journal = { files }.find(|path| path.extension().is_some_and(|end| end == "journal")).expect("a journal");
    fs::rename(&journal, case.path("journal")).expect("a rename");
    fs::create_dir(&journal).expect("a folder");
    case.write("logs/more.log", &block(1_001, 2_000));
    let mut product = Product::start(&case, &config);
    product.expect("its files cannot be restored");
    product.expect("similar lines");
    wait_for("an age of a second", || {
        match metrics::sum(case.admin_port, "tailwater_output_oldest_unacked_age_seconds", &[])? {
            0 => Err(product.state()),
            _ => Ok(()),
        }
    });
    fs::remove_dir(&journal).expect("the folder goes");
    fs::rename(case.path("journal"), &journal).expect("a rename");
    product.finish(&case.output(), 2_000);
}

/// A product with a second output `screen` that blocks forever: a console whose reader reads nothing.
struct Hanging {
    product: Product,
    case: Case,
    _unread: PipeReader,
}

impl Hanging {
    /// Starts it with `lines` lines. `settings` are further settings of the console, as `, key: value`.
    fn start(name: &str, log_bytes_max: &str, settings: &str, lines: u64) -> Hanging {
        let mut case = Case::new(name);
        case.extra = format!("wal: {{segment_bytes: 4MiB, max_bytes: {log_bytes_max}}}\n");
        let config = case.files_to_file("logs/*.log");
        let text = fs::read_to_string(&config).expect("the configuration");
        let text = text.replace("outputs: [out]", "outputs: [out, screen]")
            + &format!("  screen: {{type: console{settings}}}\n");
        case.write("tailwater.yaml", text.as_bytes());
        case.write("logs/app.log", &block(1, lines));
        let (unread, full) = std::io::pipe().expect("a pipe");
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(&config).stdin(Stdio::null());
        let mut product = Product::start_writing_to(&case, &mut command, full.into());
        product.expect("stopping at once");
        Hanging { product, case, _unread: unread }
    }

    /// Ends it with two signals, because the first waits for the console. The other output has each of its lines once.
    fn end_at_once(mut self, lines: u64) {
        self.force();
        arrived(&self.case.output(), lines).assert_exactly_once();
    }

    fn force(&mut self) {
        self.product.signal("TERM");
        self.product.wait_for_log(&["draining"]);
        // Signals within a moment of the first count as the same request.
        crate::wait::pause(std::time::Duration::from_millis(200));
        self.product.signal("TERM");
        assert_eq!(self.product.wait().code(), Some(75), "stopped before everything was delivered");
    }
}

#[test]
fn console_without_a_reader_delays_nothing_else() {
    const ALL: u64 = 60_000;
    let mut hanging = Hanging::start("console", "256MiB", "", ALL);
    LineCount::of(hanging.case.output()).wait(ALL, &mut hanging.product);
    metrics::wait_for_sync(hanging.case.admin_port, &mut hanging.product);
    hanging.end_at_once(ALL);
}

/// An output that blocks forever and drops its oldest events lets the others continue when the WAL is full.
#[test]
fn blocked_output_that_drops_its_oldest_events_does_not_block_others() {
    const ALL: u64 = 200_000;
    let mut hanging = Hanging::start("way", "32MiB", ", when_full: drop_oldest", ALL);
    hanging.product.expect("the output hangs while the write-ahead log is full");
    hanging.product.expect("its oldest events are dropped");
    LineCount::of(hanging.case.output()).wait(ALL, &mut hanging.product);
    let dropped = ["component_id=\"screen\"", "reason=\"wal_full\""];
    let events = metrics::sum(hanging.case.admin_port, "tailwater_component_discarded_events_total", &dropped);
    assert!(events.is_ok_and(|events| events > 0), "dropped events are counted");
    hanging.product.wait_for_log(&[
        "its oldest events are dropped",
        "screen",
        "\"log\":1",
        "drop_oldest",
        "wal.max_bytes",
    ]);
    let told = hanging.product.log().lines().filter(|line| line.contains("its oldest events are dropped")).count();
    assert_eq!(told, 1, "it begins once");
    hanging.end_at_once(ALL);
}

#[test]
fn output_that_samples_because_the_wal_fills_up_is_reported() {
    const ALL: u64 = 200_000;
    let mut hanging = Hanging::start("sampled", "32MiB", ", when_full: sample", ALL);
    for told in [
        "the output hangs while the write-ahead log is full",
        "its oldest events are dropped",
        "the write-ahead log is three quarters full",
    ] {
        hanging.product.expect(told);
    }
    LineCount::of(hanging.case.output()).wait(ALL, &mut hanging.product);
    hanging.product.wait_for_log(&["three quarters full", "\"log\":1", "\"outputs\":\"screen\"", "wal.max_bytes"]);
    hanging.end_at_once(ALL);
}

#[test]
fn warning_about_a_full_wal_names_the_output_that_is_behind() {
    let mut hanging = Hanging::start("behind", "32MiB", "", 200_000);
    hanging.product.expect("the write-ahead log is full");
    hanging.product.wait_for_log(&[
        "the write-ahead log is full",
        "\"log\":1",
        "\"outputs\":\"screen\"",
        "wal.max_bytes",
    ]);
    hanging.force();
}
