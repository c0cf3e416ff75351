//! Files that were followed and are not at their path at the next start, and files that are replaced while they are followed.

use crate::case::Case;
use crate::lines::{LineCount, block};
use crate::metrics;
use crate::product::Product;
use crate::running::{Running, append};
use crate::wait::{pause, wait_for};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

/// Lines of a generation: eight generations are more than the WAL can hold.
const GENERATION_LINES: u64 = 40_000;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// The output is unreachable, the WAL is full, and generations wait under names that the pattern does not match, some of
/// which are compressed while the process is stopped. The next start reads them all.
fn unread_generations(name: &str, end: impl Fn(Product), rotate: impl Fn(&Path)) {
    const GENERATIONS: u64 = 6;
    let mut case = Case::new(name);
    case.extra = "wal: {max_bytes: 16MiB, segment_bytes: 2MiB}\ndrain_timeout: 1s\n".to_owned();
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path("logs/*.log").display());
    let away = case.configure(&input, "{type: http, url: \"http://127.0.0.1:9/\"}");
    let mut product = Product::start(&case, &away);
    for part in ["Connection refused", "nothing to follow", "is full", "waits in the write-ahead log", "similar lines"]
    {
        product.expect(part);
    }
    let path = case.path("logs/app.log");
    let generation = |number: u64| path.with_extension(format!("log.{number}"));
    for number in 0..GENERATIONS {
        fs::write(&path, block(number * GENERATION_LINES + 1, (number + 1) * GENERATION_LINES)).expect("written");
        let files = number + 1;
        wait_for("the file to be followed", || {
            match metrics::sum(case.admin_port, "tailwater_file_unread_bytes", &[]) {
                Ok(bytes) if bytes > 0 || files < 3 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        pause(Duration::from_millis(1500));
        fs::rename(&path, generation(number)).expect("a rename");
    }
    wait_for("notes", || match fs::read_dir(case.path("data/inputs")).map(Iterator::count) {
        Ok(files) if files > 0 => Ok(()),
        other => Err(format!("{other:?}")),
    });
    pause(Duration::from_secs(2));
    end(product);
    (0..GENERATIONS).for_each(|number| rotate(&generation(number)));
    let back = case.configure(&input, &case.json_output());
    let mut product = Product::start(&case, &back);
    product.expect("nothing to follow");
    LineCount::of(case.output()).wait(GENERATIONS * GENERATION_LINES, &mut product);
    assert_eq!(metrics::sum(case.admin_port, "tailwater_lost_bytes_total", &[]), Ok(0));
    product.finish(&case.output(), GENERATIONS * GENERATION_LINES);
}

#[test]
fn renamed_files_with_unread_bytes_are_read_after_a_kill() {
    unread_generations("found-kill", Product::kill, |_| {});
}

#[test]
fn compressed_files_with_unread_bytes_are_read_after_a_kill() {
    unread_generations("found-gzip", Product::kill, |path| {
        let content = fs::read(path).expect("there");
        let (name, bytes) = match path.as_os_str().as_encoded_bytes().last().copied().unwrap_or_default() % 2 {
            0 => ("gz", gzip(&content)),
            _ => ("zst", zstd::encode_all(&content[..], 1).expect("memory")),
        };
        fs::write(path.with_added_extension(name), bytes).expect("written");
        fs::remove_file(path).expect("a removal");
    });
}

#[test]
fn unread_bytes_of_a_deleted_file_are_counted_by_the_next_start() {
    let case = Case::new("found-deleted");
    let path = case.path("logs/app.log");
    append(&path, &block(1, 10));
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(10);
    append(&path, b"unfinished");
    let seen = (block(1, 10).len() as u64 + 10).to_le_bytes();
    wait_for("the note", || match fs::read(running.case.path("data/inputs/app.0")) {
        Ok(notes) if memchr::memmem::find(&notes, &seen).is_some() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let stopped = running.kill();
    fs::remove_file(&path).expect("a removal");
    append(&stopped.case.path("logs/other.log"), &block(11, 20));
    let mut running = stopped.start();
    running.product.expect(": lost ");
    running.wait(20);
    wait_for("the count", || {
        match metrics::sum(running.case.admin_port, "tailwater_lost_bytes_total", &["reason=\"deleted\""]) {
            Ok(10) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    running.finish(20);
}

#[test]
fn file_that_is_mirrored_repeatedly_is_read_once() {
    let case = Case::new("mirrored");
    let (draft, path) = (case.path("logs/draft"), case.path("logs/app.log"));
    fs::write(&path, block(1, 3)).expect("written");
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(3);
    for end in [4, 10, 11, 2_000] {
        fs::write(&draft, block(1, end)).expect("written");
        fs::rename(&draft, &path).expect("a rename");
        running.wait(end);
    }
    let stopped = running.terminate();
    fs::write(&draft, block(1, 3_000)).expect("written");
    fs::rename(&draft, &path).expect("a rename");
    let mut running = stopped.start();
    running.wait(3_000);
    let (_, all) = running.finish(3_000);
    all.assert_in_order();
}

#[test]
fn renamed_input_continues_and_reports_it() {
    let case = Case::new("renamed-input");
    let path = case.path("logs/app.log");
    append(&path, &block(1, 100));
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait(100);
    let stopped = running.terminate();
    let config = stopped.case.path("tailwater.yaml");
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&config, text.replace("  app:", "  other:").replace("inputs: [app]", "inputs: [other]"))
        .expect("written");
    append(&path, &block(101, 200));
    let mut running = stopped.start();
    running.wait(200);
    running.product.wait_for_log(&["continued where the input `app` ended"]);
    let (_, all) = running.finish(200);
    all.assert_in_order();
}

/// What is read again and what is not, after a file was removed and written again while the process was stopped.
#[test]
fn file_that_was_replaced_while_stopped_is_reported() {
    let mut running = Running::start(Case::new("found-again"), "logs/*.log", "");
    let path = running.case.path("logs/job.log");
    fs::write(&path, block(1, 10)).expect("written");
    running.wait(10);
    let mut delivered = 10;
    // The same content once more, then with more behind it.
    for (last, new, report) in [(10, 10, None), (20, 10, Some("count as read"))] {
        let stopped = running.terminate();
        fs::remove_file(&path).expect("a removal");
        fs::write(&path, block(1, last)).expect("written");
        running = stopped.start();
        delivered += new;
        running.wait(delivered);
        if let Some(report) = report {
            running.product.wait_for_log(&["job.log: replaced while this process was stopped", report]);
        }
    }
    running.terminate();
}
