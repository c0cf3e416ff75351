//! Files that applications write and log rotation moves: each line arrives once.

use crate::case::Case;
use crate::disks::{LoopDisk, may_administrate};
use crate::lines::{LINES, LineCount, LineWriter, arrived, block};
use crate::metrics;
use crate::product::Product;
use crate::running::{Running, append};
use crate::wait::wait_for;
use std::collections::BTreeSet;
use tailwater::telemetry::table;

/// Runs the product on `logs/` while `write` writes all lines, then ends it and checks that each line arrived once.
fn follow(name: &str, shards: usize, include: &str, write: impl FnOnce(&Case, &mut LineWriter, &mut Seen)) -> Case {
    let mut case = Case::new(name);
    case.shards = shards;
    let config = case.files_to_file(include);
    let mut writer = LineWriter::create(case.path("logs/app.log"));
    let mut seen = Seen { count: LineCount::of(case.output()), product: Product::start(&case, &config) };
    write(&case, &mut writer, &mut seen);
    seen.wait(LINES);
    let Seen { product, .. } = seen;
    product.terminate();
    arrived(&case.output(), LINES).assert_exactly_once();
    case
}

/// The lines in the output so far.
struct Seen {
    count: LineCount,
    product: Product,
}

impl Seen {
    fn wait(&mut self, lines: u64) {
        self.count.wait(lines, &mut self.product);
    }
}

#[test]
fn plain_lines_arrive_once_and_in_order() {
    let case = follow("plain", 1, "logs/*.log", |case, writer, seen| {
        writer.write_to(LINES);
        seen.wait(LINES);
        check_metrics(case);
    });
    let all = arrived(&case.output(), LINES);
    all.assert_in_order();
    check_fields(&case);
}

/// When everything is delivered, the counters agree with what was written.
fn check_metrics(case: &Case) {
    let (status, _) = metrics::get(case.admin_port, "/livez").expect("/livez");
    assert_eq!(status, 200);
    let (status, _) = metrics::get(case.admin_port, "/readyz").expect("/readyz");
    assert_eq!(status, 200);
    wait_for("received = sent = all lines", || {
        let received = metrics::received_events(case.admin_port)?;
        let sent =
            metrics::sum(case.admin_port, "tailwater_component_sent_events_total", &["component_kind=\"output\""])?;
        if (received, sent) == (LINES, LINES) { Ok(()) } else { Err(format!("received {received}, sent {sent}")) }
    });
    check_declared(&metrics::get(case.admin_port, "/metrics").expect("/metrics").1);
}

/// A scrape has each declared metric, and no other.
fn check_declared(scrape: &str) {
    let kinds = scrape.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = kinds.map(ToOwned::to_owned).collect();
    let all = table::ALL.iter().map(|metric| format!("{} {}", metric.name, metric.kind.name()));
    assert_eq!(served, all.collect::<BTreeSet<String>>());
}

/// Each event contains its source; the offsets are those of its line.
fn check_fields(case: &Case) {
    let log = std::fs::read(case.path("logs/app.log")).expect("the log");
    let output = std::fs::read_to_string(case.output()).expect("the output");
    for line in output.lines().step_by(997) {
        let event: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let offset = event["offset"].as_u64().expect("an offset") as usize;
        let message = event["message"].as_str().expect("a message").as_bytes();
        assert_eq!(&log[offset..offset + message.len()], message, "the offset is another line's");
        assert_eq!(event["file"].as_str(), case.path("logs/app.log").to_str());
        assert!(event["host"].as_str().is_some_and(|host| !host.is_empty()), "{line}");
        assert!(event["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
    }
}

fn rename_three_times(case: &Case, writer: &mut LineWriter, _: &mut Seen) {
    for turn in 1..=3 {
        writer.write_to(turn * 25_000);
        writer.rename(&case.path(&format!("logs/app.log.{turn}")));
        writer.reopen();
    }
    writer.write_to(LINES);
}

#[test]
fn rename_with_a_new_file_loses_and_repeats_nothing() {
    follow("rename", 2, "logs/app.log*", rename_three_times);
}

#[test]
fn rename_out_of_the_pattern_is_read_to_its_end() {
    follow("rename-out", 1, "logs/*.log", rename_three_times);
}

#[test]
fn rename_with_the_writer_late_loses_and_repeats_nothing() {
    follow("late", 2, "logs/*.log", |case, writer, _| {
        for turn in 1..=2 {
            writer.write_to(turn * 40_000 - 10_000);
            writer.rename(&case.path(&format!("logs/app.log.{turn}")));
            drop(writer.create_next());
            // The writer still writes half a second of lines to the renamed file.
            writer.write_to(turn * 40_000);
            writer.reopen();
        }
        writer.write_to(LINES);
    });
}

#[test]
fn copytruncate_after_all_was_read_loses_and_repeats_nothing() {
    follow("copytruncate", 1, "logs/*.log", |case, writer, seen| {
        for turn in 1..=3 {
            writer.write_to(turn * 25_000);
            seen.wait(turn * 25_000);
            writer.copy_and_truncate(&case.path(&format!("logs/app.log.{turn}")));
            writer.resume();
        }
        writer.write_to(LINES);
    });
}

#[test]
fn truncation_is_detected_after_the_file_outgrew_the_old_offset() {
    follow("regrow", 1, "logs/*.log", |_, writer, seen| {
        writer.write_to(20_000);
        seen.wait(20_000);
        writer.truncate();
        // At once longer than before: the length alone does not show it.
        writer.burst_to(45_000);
        seen.wait(45_000);
        writer.truncate();
        writer.burst_to(75_000);
        writer.write_to(LINES);
    });
}

#[test]
fn deleted_file_is_read_to_its_end() {
    follow("delete", 2, "logs/*.log", |_, writer, seen| {
        writer.write_to(30_000);
        // It was opened; unread bytes must still arrive after it is deleted.
        seen.wait(1);
        writer.burst_to(40_000);
        writer.delete();
        writer.reopen();
        writer.write_to(70_000);
        writer.delete();
        writer.reopen();
        writer.write_to(LINES);
    });
}

/// If blocks are smaller than pages, only a part of the end of a file is in the page cache. A read that may not block then
/// ends at the page before each time, although the file has more.
#[test]
fn line_across_pages_is_read_from_a_disk_with_small_blocks() {
    if !may_administrate("a disk with blocks smaller than pages") {
        return;
    }
    const LINES: u64 = 200;
    let case = Case::new("small-blocks");
    // Such a small disk has blocks of 1 KiB.
    let disk = LoopDisk::new(&case, "image", "logs", 16);
    let path = case.path("logs/app.log");
    append(&path, &block(1, 1));
    let mut running = Running::start(case, "logs/*.log", "");
    for line in 2..=LINES {
        running.wait(line - 1);
        append(&path, &block(line, line));
    }
    let (_case, all) = running.finish(LINES);
    all.assert_in_order();
    drop(disk);
}
