//! The identity of files: reused inodes, links, equal beginnings, and files that grow in unusual ways.

use crate::case::Case;
use crate::disks::LoopDisk;
use crate::lines::{LineWriter, block};
use crate::running::{Running, append, inode};
use crate::wait::pause;
use std::fs;
use std::path::Path;
use std::time::Duration;

const FIRST: &[u8] = b"started\nready\n";
/// The content of the next file with the same inode: the same length, longer, the same beginning, a different one.
const SECOND: [&[u8]; 4] = [FIRST, b"started\nready\nand more\n", b"started\n", b"begun\nready\nand more\n"];

fn lines_of(content: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(content).lines().map(str::to_owned).collect()
}

/// Creates a file with this inode number if the file system reuses it soon, otherwise with another one. Returns whether it is
/// the same.
fn create_with_inode(path: &Path, wanted: u64, content: &[u8]) -> bool {
    // Under a name that the product does not follow until it is the right one.
    let draft = path.with_extension("draft");
    for _ in 0..500 {
        append(&draft, content);
        if inode(&draft) == wanted {
            break;
        }
        fs::remove_file(&draft).expect("a removal");
        // The old file may be about to be closed.
        pause(Duration::from_millis(2));
    }
    append(&draft, b"");
    if inode(&draft) != wanted {
        fs::write(&draft, content).expect("a draft");
    }
    fs::rename(&draft, path).expect("a rename");
    inode(path) == wanted
}

/// The messages in order of arrival.
fn messages(output: &Path) -> Vec<String> {
    let text = fs::read_to_string(output).unwrap_or_else(|error| panic!("{}: {error}", output.display()));
    let message = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["message"].clone();
    text.lines().map(|line| message(line).as_str().expect("a message").to_owned()).collect()
}

/// How often a file is replaced.
const REPLACED: u32 = 6;

/// The file is deleted repeatedly, and `replace` creates the next one with this content and, if possible, with the old inode
/// number. It returns the product that follows the new file and whether the number was reused. Each content is read once.
fn read_each_once(name: &str, replace: impl Fn(Running, usize, &Path, &[u8]) -> (Running, bool)) {
    let case = Case::new(name);
    let disk = LoopDisk::for_inodes(&case, "logs");
    let path = case.path("logs/app.log");
    let mut running = Running::start(case, "logs/*.log", ", rotate_wait: 100ms");
    append(&path, FIRST);
    let mut expected = lines_of(FIRST);
    let mut reused = 0;
    for round in 0..REPLACED as usize {
        running.wait(expected.len() as u64);
        let next = SECOND[round % SECOND.len()];
        let same;
        (running, same) = replace(running, round, &path, next);
        reused += u32::from(same);
        expected.extend(lines_of(next));
    }
    running.wait(expected.len() as u64);
    let stopped = running.terminate();
    assert_eq!(messages(&stopped.case.output()), expected);
    LoopDisk::assert_reused(disk, "a file with the inode number of one that went", reused, REPLACED);
}

/// The inode number of a deleted file is reused by a file that begins with the same lines: it is a different file.
#[test]
fn reused_inode_with_the_same_first_lines_is_a_new_file() {
    read_each_once("inode", |mut running, _, path, next| {
        let wanted = inode(path);
        fs::remove_file(path).expect("a removal");
        // The number is free when the product has closed the old file.
        running.wait_for_files(0);
        (running, create_with_inode(path, wanted, next))
    });
}

/// The same, with the product stopped when the number is reused.
#[test]
fn inode_reused_while_the_product_is_down_is_a_new_file() {
    read_each_once("inode-down", |running, round, path, next| {
        let stopped = if round % 2 == 0 { running.terminate() } else { running.kill() };
        let wanted = inode(path);
        fs::remove_file(path).expect("a removal");
        let same = create_with_inode(path, wanted, next);
        (stopped.start(), same)
    });
}

/// `current` points to one file after the other, with nothing at its end in between. The glob matches the targets too.
#[test]
fn switched_link_whose_targets_are_matched_too_is_read_once() {
    switch_links("link-covered", "logs/*");
}

#[test]
fn switched_link_is_followed_from_file_to_file() {
    switch_links("link", "logs/current");
}

fn switch_links(name: &str, include: &str) {
    const TURNS: u64 = 12;
    let mut case = Case::new(name);
    case.shards = 2;
    let target = |case: &Case, turn: u64| case.path(&format!("logs/app.{turn}.log"));
    let mut writer = LineWriter::create(target(&case, 0));
    let link = case.path("logs/current");
    symlink("app.0.log", &link);
    let mut running = Running::start(case, include, ", follow_links: true, rotate_wait: 500ms");
    let mut generations = Vec::new();
    for turn in 1..=TURNS {
        writer.burst_to(writer.next() + 300);
        running.wait(writer.next() - 1);
        let next = format!("app.{turn}.log");
        match turn % 3 {
            // It is dangling for a while, and then points to a file that is created later.
            0 => {
                symlink(&next, &link);
                pause(Duration::from_millis(30));
            }
            1 => {
                append(&target(&running.case, turn), b"");
                symlink(&next, &link);
            }
            // No link at all for a while.
            _ => {
                fs::remove_file(&link).expect("a removal");
                pause(Duration::from_millis(30));
                append(&target(&running.case, turn), b"");
                symlink(&next, &link);
            }
        }
        // The writer notices late: the old target gets its last lines now.
        writer.burst_to(writer.next() + 20);
        writer = LineWriter::create(target(&running.case, turn)).starting_at(writer.next());
        generations.push(writer.next());
        writer.burst_to(writer.next() + 10);
    }
    let (_, all) = running.finish(writer.next() - 1);
    all.assert_in_order_within(|line| generations.partition_point(|first| *first <= line));
}

/// Changes the link in one step.
fn symlink(target: &str, link: &Path) {
    let draft = link.with_extension("link");
    // A path that no case here matches.
    let draft = draft.parent().and_then(Path::parent).expect("a folder").join("draft-link");
    std::os::unix::fs::symlink(target, &draft).expect("a link");
    fs::rename(&draft, link).expect("a rename");
}

/// Moved out of the glob and released, then back after a restart.
#[test]
fn file_that_comes_back_after_a_restart_is_not_read_again() {
    let case = Case::new("back");
    let (path, elsewhere) = (case.path("logs/app.log"), case.path("app.kept"));
    append(&path, &block(1, 100));
    let mut running = Running::start(case, "logs/*.log", ", rotate_wait: 100ms");
    for turn in 1..=3 {
        running.wait(turn * 100);
        fs::rename(&path, &elsewhere).expect("a rename");
        running.wait_for_files(0);
        let stopped = if turn == 2 { running.kill() } else { running.terminate() };
        append(&elsewhere, &block(turn * 100 + 1, turn * 100 + 100));
        fs::rename(&elsewhere, &path).expect("a rename");
        running = stopped.start();
    }
    let (_, all) = running.finish(400);
    all.assert_in_order();
}

/// Short files with the same content, and files that differ only after the bytes that identify them: all are read.
#[test]
fn files_with_equal_content_are_all_read_and_distinguished_over_a_restart() {
    const FILES: usize = 40;
    let mut case = Case::new("equal");
    case.shards = 2;
    let path = |case: &Case, file: usize| case.path(&format!("logs/{file:02}.log"));
    let header = "time,level,message\n".repeat(120);
    for file in 0..FILES {
        append(&path(&case, file), if file % 2 == 0 { "started\n".as_bytes() } else { header.as_bytes() });
    }
    let mut running = Running::start(case, "logs/*.log", "");
    let mut lines = FILES / 2 + FILES / 2 * 120;
    running.wait(lines as u64);
    for round in 0..3 {
        let stopped = if round % 2 == 0 { running.kill() } else { running.terminate() };
        for file in 0..FILES {
            append(&path(&stopped.case, file), format!("round {round} of {file}\n").as_bytes());
        }
        lines += FILES;
        running = stopped.start();
        running.wait(lines as u64);
    }
    let stopped = running.terminate();
    let all = messages(&stopped.case.output());
    assert_eq!(all.len(), lines);
    for file in 0..FILES {
        for round in 0..3 {
            let wanted = format!("round {round} of {file}");
            assert_eq!(all.iter().filter(|message| **message == wanted).count(), 1, "{wanted}");
        }
    }
}

/// A file that is empty for a long time, then grows byte by byte, pauses in the middle of a line over a restart, and
/// continues.
/// `mv app.log app.log~; cp app.log~ app.log`, as editors do, while the product runs and while it is stopped. The copy of the
/// first round is written slowly, and whoever wrote the old file goes on writing it.
#[test]
fn file_replaced_by_a_copy_of_its_backup_is_not_read_again() {
    let case = Case::new("backup");
    let (log, backup) = (case.path("logs/app.log"), case.path("logs/app.log~"));
    append(&log, &block(1, 20));
    let mut running = Running::start(case, "logs/app.log", "");
    running.wait(20);
    fs::rename(&log, &backup).expect("a rename");
    for piece in fs::read(&backup).expect("the backup").chunks(200) {
        append(&log, piece);
        pause(Duration::from_millis(200));
    }
    append(&backup, &block(21, 25));
    append(&log, &block(26, 30));
    running.wait(30);
    fs::rename(&log, &backup).expect("a rename");
    fs::copy(&backup, &log).expect("a copy");
    append(&log, &block(31, 40));
    running.wait(40);
    running.product.wait_for_log(&["begins with the same content as its backup"]);
    let stopped = running.terminate();
    fs::rename(&log, &backup).expect("a rename");
    fs::copy(&backup, &log).expect("a copy");
    append(&log, &block(41, 50));
    stopped.start().finish(50);
}

#[test]
fn file_that_grows_byte_by_byte_is_split_into_its_lines() {
    const BYTES_LINES: u64 = 12;
    let mut case = Case::new("bytes");
    case.shards = 2;
    let path = case.path("logs/app.log");
    append(&path, b"");
    append(&case.path("logs/empty.log"), b"");
    let mut running = Running::start(case, "logs/*.log", "");
    running.wait_for_files(2);
    let bytes = block(1, BYTES_LINES);
    let half = bytes.len() / 2;
    for byte in bytes[..half].chunks(1) {
        append(&path, byte);
    }
    running.wait(memchr::memchr_iter(b'\n', &bytes[..half]).count() as u64);
    let mut running = running.kill().start();
    for byte in bytes[half..bytes.len() - 1].chunks(1) {
        append(&path, byte);
    }
    running.wait(BYTES_LINES - 1);
    let mut running = running.terminate().start();
    append(&path, b"\n");
    running.wait(BYTES_LINES);
    let (_, all) = running.finish(BYTES_LINES);
    all.assert_in_order();
}
