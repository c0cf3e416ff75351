//! Live truncation: unread bytes that are destroyed are reported, nothing else is missing, and nothing is repeated.
//!
//! What is exact: each truncation ends a *generation* of the file. A beginning of each generation is delivered, in whole
//! lines. The rest vanished with the truncation: the unfinished last line, and what was written after the last read.
//! `lost_bytes` is what was missing when the product last checked the file before the truncation. So:
//!
//! - written = delivered + `lost_bytes` + unseen, where unseen is what was written between the last check and the truncation;
//! - `lost_bytes` is never more than what is missing;
//! - if the file did not grow between the last check and the truncation, `lost_bytes` is exact.

use crate::case::Case;
use crate::lines::{LineCount, arrived, block, line};
use crate::metrics;
use crate::running::Running;
use crate::wait::{pause, wait_for};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

const TRUNCATED: &str = "truncated; ";

fn lost_bytes(running: &Running) -> Result<u64, String> {
    metrics::sum(running.case.admin_port, "tailwater_lost_bytes_total", &["reason=\"truncated\""])
}

fn open(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).expect("a log")
}

fn messages(output: &Path) -> VecDeque<String> {
    let text = fs::read_to_string(output).expect("the output");
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["message"].clone();
    text.lines().map(|line| message(line).as_str().expect("a message").to_owned()).collect()
}

/// Takes the events of one generation: whole lines of its content, from the first on. Returns their bytes.
fn take_generation(events: &mut VecDeque<String>, content: &[u8]) -> u64 {
    let mut delivered = 0;
    for line in content.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        if events.front().map(String::as_bytes) != Some(&line[..line.len() - 1]) {
            break;
        }
        events.pop_front();
        delivered += line.len() as u64;
    }
    delivered
}

/// A line with its number in every part: the rest of one line is never the rest of another one.
fn marked_line(n: u64) -> Vec<u8> {
    let mut line = format!("{n:06}.").repeat(15 + (n * 7 % 30) as usize).into_bytes();
    line.push(b'\n');
    line
}

/// A writer at full pace whose file is copied and truncated repeatedly, anywhere in a line.
#[test]
fn live_copytruncate_reports_what_it_destroyed_and_loses_nothing_else() {
    const TURNS: u64 = 40;
    let case = Case::new("live");
    let path = case.path("logs/app.log");
    let mut file = open(&path);
    let mut running = Running::start(case, "logs/*.log", "");
    running.product.expect(TRUNCATED);
    running.product.expect("suppressed");
    let (mut generations, mut next) = (Vec::new(), 1);
    for turn in 0..TURNS {
        let mut content = Vec::new();
        for piece in 0..20 {
            let lines = 10 + (turn * 13 + piece * 7) % 40;
            let bytes: Vec<u8> = (next..next + lines).flat_map(marked_line).collect();
            next += lines;
            // The generation ends inside a line, and the next one begins with the rest of it.
            let cut = bytes.len() - (14 + turn * 31 % 60) as usize * usize::from(piece == 19);
            file.write_all(&bytes[..cut]).expect("lines");
            content.extend_from_slice(&bytes[..cut]);
            if piece % 4 == 0 {
                pause(Duration::from_millis(2));
            }
            if piece == 19 {
                fs::copy(&path, running.case.path("logs/app.log.1")).expect("a copy");
                file.set_len(0).expect("a truncation");
                generations.push(std::mem::take(&mut content));
                file.write_all(&bytes[cut..]).expect("lines");
                content.extend_from_slice(&bytes[cut..]);
                generations.push(content);
                content = Vec::new();
            }
        }
    }
    // Each generation except the first begins with the rest of a line.
    let generations = joined(generations);
    let last = "the end";
    file.write_all(format!("{last}\n").as_bytes()).expect("the last line");
    let output = running.case.output();
    wait_for("the last line", || match fs::read_to_string(&output) {
        Ok(text) if text.contains(last) => Ok(()),
        _ => Err(running.product.state()),
    });
    let lost = lost_bytes(&running).expect("the metric");
    let told = told_bytes(&running.product.log());
    let stopped = running.terminate();
    // The application log omits similar lines.
    assert!(told <= lost && (told > 0) == (lost > 0), "the metric says {lost}, the log {told}");
    let mut events = messages(&stopped.case.output());
    assert_eq!(events.pop_back().as_deref(), Some(last));
    let (mut missing, mut delivered) = (0, 0);
    for content in &generations {
        let bytes = take_generation(&mut events, content);
        delivered += bytes;
        missing += content.len() as u64 - bytes;
    }
    assert_eq!(events.front(), None, "an event that no generation accounts for");
    assert!(delivered > 0);
    assert!(lost <= missing, "{lost} bytes reported as lost, {missing} missing");
    eprintln!("{delivered} bytes delivered, {missing} missing, {lost} reported as lost");
}

/// Joins the beginnings of generations, which were stored separately, with the rest.
fn joined(parts: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let mut generations: Vec<Vec<u8>> = vec![Vec::new()];
    for (index, part) in parts.into_iter().enumerate() {
        if index % 2 == 1 {
            generations.push(part);
        } else if let Some(last) = generations.last_mut() {
            last.extend(part);
        }
    }
    generations
}

/// The sum of the bytes that the log reports for truncations.
fn told_bytes(log: &str) -> u64 {
    let number = |line: &str| line.split_once(TRUNCATED)?.1.split_whitespace().next()?.parse::<u64>().ok();
    log.lines().filter_map(number).sum()
}

/// While the output is blocked, a file grows and is truncated: growth that was seen is reported.
#[test]
fn growth_that_was_seen_and_not_read_is_reported_when_it_is_truncated() {
    let mut case = Case::new("exact");
    case.extra = "wal: {max_bytes: 16MiB, segment_bytes: 4MiB}\n".to_owned();
    // A directory at the path of the file: nothing can be delivered until it is removed.
    fs::create_dir(case.output()).expect("a folder");
    let path = case.path("logs/app.log");
    let mut file = open(&path);
    let mut running = Running::start(case, "logs/*.log", "");
    running.product.expect(TRUNCATED);
    running.product.expect("events.json");
    running.product.expect("suppressed");
    // More than the WAL and the lanes can hold: the reader stops somewhere in it.
    let mut content = block(1, 300_000);
    file.write_all(&content).expect("lines");
    let more = block(300_001, 310_000);
    let port = running.case.admin_port;
    let wait_for_a_look = |written: usize| {
        wait_for("a look at the end of the file", || {
            let unread = metrics::sum(port, "tailwater_file_unread_bytes", &[])?;
            let received =
                metrics::sum(port, "tailwater_component_received_bytes_total", &["component_kind=\"input\""])?;
            // The bytes that the reader holds are in both.
            match unread + received >= written as u64 {
                true => Ok(()),
                false => Err(format!("{unread} unread, {received} received of {written}")),
            }
        });
    };
    wait_for_a_look(content.len());
    file.write_all(&more).expect("lines");
    content.extend_from_slice(&more);
    wait_for_a_look(content.len());
    file.set_len(0).expect("a truncation");
    let second = block(400_000, 400_100);
    file.write_all(&second).expect("lines");
    fs::remove_dir(running.case.output()).expect("the folder goes");
    let output = running.case.output();
    wait_for("the second generation", || match LineCount::of(output.clone()).now() {
        _ if text_ends_with(&output, &line(400_100)) => Ok(()),
        lines => Err(format!("{lines} lines; {}", running.product.state())),
    });
    let lost = lost_bytes(&running).expect("the metric");
    let stopped = running.terminate();
    let mut events = messages(&stopped.case.output());
    let delivered = take_generation(&mut events, &content);
    assert_eq!(take_generation(&mut events, &second), second.len() as u64);
    assert_eq!(events.front(), None, "an event that nobody wrote");
    let missing = content.len() as u64 - delivered;
    assert!(missing > more.len() as u64, "everything was read before the truncation");
    // The check came at most this many bytes before the end.
    let seen = missing - more.len() as u64 / 2;
    assert!((seen..=missing).contains(&lost), "{lost} bytes reported as lost, {missing} missing");
}

/// Whether the last event has this message.
fn text_ends_with(output: &Path, message: &str) -> bool {
    let text = fs::read_to_string(output).unwrap_or_default();
    let last = text.lines().last().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    last.is_some_and(|event| event["message"] == message)
}

/// A writer that keeps its own offset, like a program that opened its log without `O_APPEND`.
struct KeepingOffset {
    file: File,
    offset: u64,
}

impl KeepingOffset {
    fn write(&mut self, bytes: &[u8]) {
        self.file.write_all_at(bytes, self.offset).expect("lines");
        self.offset += bytes.len() as u64;
    }

    fn truncate(&self) {
        self.file.set_len(0).expect("a truncation");
    }
}

fn bytes_of(numbers: impl IntoIterator<Item = u64>) -> u64 {
    numbers.into_iter().map(|n| line(n).len() as u64 + 1).sum()
}

/// Each truncation leaves a hole before the next line, far larger than a line may be.
#[test]
fn holes_of_a_writer_that_keeps_its_offset_hide_no_line() {
    const HOLE: u64 = 3 << 30;
    let case = Case::new("hole");
    let path = case.path("logs/app.log");
    let file = File::create(&path).expect("a log");
    let mut writer = KeepingOffset { file, offset: HOLE };
    let mut running = Running::start(case, "logs/*.log", ", max_line_bytes: 1KiB");
    running.product.expect(TRUNCATED);
    writer.write(&block(1, 1000));
    running.wait(1000);
    // While the lines are being read.
    writer.write(&block(1001, 3000));
    writer.truncate();
    writer.write(&block(3001, 4000));
    let output = running.case.output();
    let wait_for_line = |running: &mut Running, number: u64| {
        wait_for("the last line", || match text_ends_with(&output, &line(number)) {
            true => Ok(()),
            false => Err(running.product.state()),
        });
    };
    wait_for_line(&mut running, 4000);
    let missing = bytes_of(arrived(&output, 4000).lost());
    let lost = lost_bytes(&running).expect("the metric");
    assert!(lost <= missing, "{lost} bytes reported as lost, {missing} missing");
    // After the hole there is an unfinished line that was seen: the next truncation destroys exactly that.
    writer.write(b"begun");
    let port = running.case.admin_port;
    wait_for("a look at the end of the file", || match metrics::sum(port, "tailwater_file_unread_bytes", &[])? {
        5 => Ok(()),
        unread => Err(format!("{unread} unread")),
    });
    writer.truncate();
    writer.write(&block(4001, 4500));
    wait_for_line(&mut running, 4500);
    assert_eq!(lost_bytes(&running), Ok(lost + 5));
    // One start after a hole, and one before it.
    let stopped = running.kill();
    writer.write(&block(4501, 5000));
    let mut running = stopped.start();
    wait_for_line(&mut running, 5000);
    let stopped = running.terminate();
    writer.truncate();
    writer.write(&block(5001, 6000));
    let mut running = stopped.start();
    running.product.expect(TRUNCATED);
    wait_for_line(&mut running, 6000);
    writer.truncate();
    writer.write(&block(6001, 7000));
    wait_for_line(&mut running, 7000);
    assert_eq!(lost_bytes(&running), Ok(0));
    let case = running.terminate().case;
    let all = arrived(&case.output(), 7000);
    assert_eq!((all.repeated(), all.others.len()), (vec![], 0));
    assert!(all.lost().iter().all(|n| (1001..=3000).contains(n)), "lost {:?}", all.lost());
    all.assert_in_order();
}
