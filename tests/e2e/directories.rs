//! Directories that vanish and come back, with files in them at each step.

use crate::case::Case;
use crate::disks::LoopDisk;
use crate::lines::block;
use crate::product::Product;
use crate::running::{Running, append, inode};
use crate::wait::pause;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FILES: u64 = 4;

/// Writes lines to each file of a directory, and creates the directory if it does not exist.
struct Writer {
    next: u64,
    /// For each line, the file that it was written to, by the number of the file's generation.
    streams: Vec<usize>,
    lives: usize,
}

impl Writer {
    fn new() -> Writer {
        Writer { next: 1, streams: vec![0], lives: 0 }
    }

    /// The files are new.
    fn begin(&mut self) {
        self.lives += 1;
    }

    fn write(&mut self, directory: &Path, lines: u64) {
        fs::create_dir_all(directory).expect("a directory");
        for file in 0..FILES {
            append(&directory.join(format!("{file}.log")), &block(self.next, self.next + lines - 1));
            self.streams.extend((0..lines).map(|_| self.lives * FILES as usize + file as usize));
            self.next += lines;
        }
    }

    fn written(&self) -> u64 {
        self.next - 1
    }
}

/// Deletes and recreates `victim` repeatedly; the files are in `directory`, at or below it.
fn delete_and_create(name: &str, include: &str, victim: &str, directory: &str) {
    let mut case = Case::new(name);
    case.shards = 2;
    let (victim, directory) = (case.path(victim), case.path(directory));
    let mut writer = Writer::new();
    writer.write(&directory, 20);
    let mut running = Running::start(case, include, ", rotate_wait: 300ms");
    for turn in 0..10 {
        running.wait(writer.written());
        // The files are open now; unread bytes of deleted files must still arrive.
        writer.write(&directory, 30);
        fs::remove_dir_all(&victim).expect("a removal");
        if turn % 3 == 0 {
            pause(Duration::from_millis(50));
        }
        writer.begin();
        writer.write(&directory, 10);
        writer.write(&directory, 5);
    }
    let streams = std::mem::take(&mut writer.streams);
    let (_, all) = running.finish(writer.written());
    all.assert_in_order_within(|line| streams[line as usize]);
}

#[test]
fn directory_that_is_deleted_and_recreated() {
    delete_and_create("directory", "logs/app/*.log", "logs/app", "logs/app");
}

#[test]
fn directory_whose_parent_is_deleted_and_recreated() {
    delete_and_create("parent", "logs/*/app/*.log", "logs/a", "logs/a/app");
}

#[test]
fn directory_tree_that_is_deleted_and_recreated() {
    delete_and_create("tree", "logs/**/*.log", "logs/a", "logs/a/b/c/d");
}

/// The directory comes back with the same inode number, as ext4 reuses it at once.
#[test]
fn directory_that_comes_back_with_the_same_inode() {
    const TURNS: u32 = 5;
    let mut case = Case::new("same-inode");
    case.shards = 2;
    let disk = LoopDisk::for_inodes(&case, "logs");
    let directory = case.path("logs/app");
    let mut writer = Writer::new();
    writer.write(&directory, 20);
    let mut running = Running::start(case, "logs/app/*.log", ", rotate_wait: 300ms");
    let mut same = 0;
    for _ in 0..TURNS {
        running.wait(writer.written());
        let before = inode(&directory);
        writer.write(&directory, 10);
        fs::remove_dir_all(&directory).expect("a removal");
        // An open deleted file keeps its directory's inode in use.
        running.wait_for_files(0);
        for _ in 0..200 {
            fs::create_dir(&directory).expect("a directory");
            if inode(&directory) == before {
                same += 1;
                break;
            }
            fs::remove_dir(&directory).expect("a removal");
            // The process that holds the old one may be about to close it.
            pause(Duration::from_millis(2));
        }
        writer.begin();
        writer.write(&directory, 10);
    }
    let streams = std::mem::take(&mut writer.streams);
    let (_case, all) = running.finish(writer.written());
    all.assert_in_order_within(|line| streams[line as usize]);
    LoopDisk::assert_reused(disk, "a directory with the inode number of one that went", same, TURNS);
}

/// A directory is renamed away with its files and replaced by another one; then they are swapped.
#[test]
fn directory_that_is_exchanged_for_another() {
    let mut case = Case::new("exchange");
    case.shards = 2;
    let names: Vec<PathBuf> = ["app", "next", "old"].iter().map(|name| case.path(&format!("logs/{name}"))).collect();
    let (app, next, old) = (&names[0], &names[1], &names[2]);
    let mut writer = Writer::new();
    writer.write(app, 20);
    let mut running = Running::start(case, "logs/app/*.log", ", rotate_wait: 300ms");
    for _ in 0..8 {
        running.wait(writer.written());
        writer.write(app, 10);
        let streams_here = writer.lives;
        writer.lives += 1;
        writer.write(next, 10);
        fs::rename(app, old).expect("a rename");
        fs::rename(next, app).expect("a rename");
        writer.write(app, 10);
        running.wait(writer.written());
        // Back again: the files are known.
        fs::rename(app, next).expect("a rename");
        fs::rename(old, app).expect("a rename");
        let streams_there = std::mem::replace(&mut writer.lives, streams_here);
        writer.write(app, 10);
        running.wait(writer.written());
        fs::remove_dir_all(next).expect("a removal");
        writer.lives = streams_there.max(writer.lives);
    }
    let streams = std::mem::take(&mut writer.streams);
    let (_, all) = running.finish(writer.written());
    all.assert_in_order_within(|line| streams[line as usize]);
}

/// Patterns that cannot mean what was written are reported with the next step.
#[test]
fn patterns_that_match_nothing_are_reported() {
    let case = Case::new("patterns");
    let logs = case.path("logs");
    fs::write(logs.join("a.log"), b"1\n").expect("written");
    fs::write(logs.join("b.txt"), block(1, 1)).expect("written");
    let (shown, all) = (logs.display(), logs.join("*").display().to_string());
    let input = format!("{{type: file, include: [\"{shown}\", \"{all}\"], exclude: [\"*.log\", \"x/*.gz\"]}}");
    let config = case.configure(&input, &case.json_output());
    let mut product = Product::start(&case, &config);
    product.expect("it is a directory");
    product.expect("it can match nothing");
    let directory = format!("include {shown}: nothing to follow: it is a directory; write {shown}/*");
    product.wait_for_log(&[&directory]);
    product.wait_for_log(&["exclude x/*.gz: it can match nothing that `include` matches"]);
    // The file that a name excludes everywhere is not among what arrived.
    product.finish(&case.output(), 1);
}
