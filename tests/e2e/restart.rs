//! Stops and starts: on request, by force, and with another number of shards. Each line arrives once.

use crate::case::Case;
use crate::lines::{LINES, LineCount, LineWriter, block};
use crate::metrics;
use crate::product::Product;
use crate::wait::wait_for;
use std::fs;
use std::thread::{self, JoinHandle};

/// Writes all lines in parallel to the case; the file is renamed after line `rotated_at`.
fn write_and_rotate(case: &Case, rotated_at: u64) -> JoinHandle<()> {
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let rotated = case.path("logs/app.log.1");
    thread::spawn(move || {
        writer.write_to(rotated_at);
        writer.rename(&rotated);
        writer.reopen();
        writer.write_to(LINES);
    })
}

#[test]
fn terminate_and_restart_loses_and_repeats_nothing() {
    let mut case = Case::new("terminate");
    case.shards = 2;
    let config = case.files_to_file("logs/app.log*");
    let writing = write_and_rotate(&case, 50_000);
    let mut count = LineCount::of(case.output());
    for lines in [15_000, 45_000, 75_000] {
        let mut product = Product::start(&case, &config);
        count.wait(lines, &mut product);
        product.terminate();
    }
    writing.join().expect("the writer");
    let product = Product::start(&case, &config);
    product.finish(&case.output(), LINES);
}

#[test]
fn kill_nine_under_load_loses_and_repeats_nothing() {
    let mut case = Case::new("kill");
    case.shards = 2;
    let config = case.files_to_file("logs/app.log*");
    let writing = write_and_rotate(&case, 60_000);
    let mut count = LineCount::of(case.output());
    for kill in 1..=5 {
        let mut product = Product::start(&case, &config);
        count.wait(kill * 15_000, &mut product);
        product.kill();
    }
    let product = Product::start(&case, &config);
    writing.join().expect("the writer");
    product.finish(&case.output(), LINES);
}

#[test]
fn restart_without_new_lines_writes_nothing() {
    let case = Case::new("quiet");
    let config = case.files_to_file("logs/*.log");
    case.write("logs/app.log", &block(1, 5_000));
    let mut count = LineCount::of(case.output());
    let mut product = Product::start(&case, &config);
    count.wait(5_000, &mut product);
    product.terminate();
    let before = fs::read(case.output()).expect("the output");
    let product = Product::start(&case, &config);
    metrics::wait_for_ready(case.admin_port);
    product.terminate();
    assert!(fs::read(case.output()).expect("the output") == before, "a restart changed the output");
}

/// From two shards to one and back, each time with undelivered events in the WAL.
#[test]
fn shard_count_changes_with_data_in_the_wal() {
    let mut case = Case::new("shards");
    // A directory at the path of the file: nothing can be delivered until it is removed.
    fs::create_dir(case.output()).expect("a folder");
    let parts: [(usize, u64); 2] = [(2, 40_000), (1, 70_000)];
    let mut from = 1;
    for (shards, to) in parts {
        case.shards = shards;
        let config = case.files_to_file("logs/*.log");
        let mut product = Product::start(&case, &config);
        product.expect("events.json");
        write_files(&case, from, to);
        // Each start counts from zero: the lines that are new since the last one.
        let news = to - from + 1;
        wait_for("the lines in the log", || match metrics::logged_events(case.admin_port)? {
            logged if logged >= news => Ok(()),
            logged => Err(format!("logged {logged} of {news}; {}", product.state())),
        });
        product.kill();
        from = to + 1;
    }
    case.shards = 2;
    let config = case.files_to_file("logs/*.log");
    fs::remove_dir(case.output()).expect("the folder goes");
    let product = Product::start(&case, &config);
    write_files(&case, from, LINES);
    product.finish(&case.output(), LINES);
}

/// Spreads lines over eight files, so that every shard has some.
fn write_files(case: &Case, from: u64, to: u64) {
    let step = (to - from + 1).div_ceil(8);
    for part in 0..8 {
        let first = from + part * step;
        let mut writer = LineWriter::create(case.path(&format!("logs/app-{part}.log"))).starting_at(first);
        writer.write_to((first + step - 1).min(to));
    }
}
