//! Too few descriptors: at the start, and suddenly while the product runs.

use crate::case::Case;
use crate::disks::run;
use crate::lines::{LineCount, block};
use crate::product::{Product, binary};
use crate::wait::pause;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

const FILES: u64 = 200;
const LINES_PER_FILE: u64 = 50;

fn write_files(case: &Case, from: u64, to: u64) {
    for file in from..to {
        let first = file * LINES_PER_FILE + 1;
        case.write(&format!("logs/{file}.log"), &block(first, first + LINES_PER_FILE - 1));
    }
}

/// Number of descriptors that a running product has open.
fn open_descriptors(product: &Product) -> usize {
    fs::read_dir(format!("/proc/{}/fd", product.id())).expect("its descriptors").count()
}

fn limit(product: &Product, descriptors: usize) {
    run("prlimit", &["--pid", &product.id().to_string(), &format!("--nofile={descriptors}:")]);
}

/// A product that follows all files, with a small WAL, which may report that descriptors run out.
fn started(name: &str) -> (Case, Product) {
    let mut case = Case::new(name);
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    let config = case.files_to_file("logs/*.log");
    write_files(&case, 0, FILES);
    let mut product = Product::start(&case, &config);
    ["descriptor", "Too many open files", "similar lines", "no new segment"]
        .iter()
        .for_each(|part| product.expect(part));
    (case, product)
}

#[test]
fn more_files_than_descriptors_are_all_read() {
    let mut case = Case::new("few");
    case.shards = 2;
    let config = case.files_to_file("logs/*.log");
    write_files(&case, 0, FILES);
    let mut command = Command::new("prlimit");
    command.args(["--nofile=128:128", "--"]).arg(binary()).arg("run").arg("-c").arg(&config).stdin(Stdio::null());
    let mut product = Product::start_with(&case, &mut command);
    product.expect("Too many open files");
    product.expect("similar lines");
    LineCount::of(case.output()).wait(FILES * LINES_PER_FILE, &mut product);
    assert!(product.log().contains("raise the limit of open files"), "{}", product.log());
    // Before any file is opened, with the number that would be needed.
    let told = "files may be open (most of it inputs, ";
    assert!(product.log().contains(told) && product.log().contains("the limit is 128"), "{}", product.log());
    // Again, with files that were closed in between.
    for file in 0..FILES {
        let first = (FILES + file) * LINES_PER_FILE + 1;
        let mut log = fs::File::options().append(true).open(case.path(&format!("logs/{file}.log"))).expect("a file");
        std::io::Write::write_all(&mut log, &block(first, first + LINES_PER_FILE - 1)).expect("lines");
    }
    product.finish(&case.output(), 2 * FILES * LINES_PER_FILE);
}

/// The limit falls below the number of open descriptors: WAL, inputs and outputs get no new ones until it is raised again.
#[test]
fn exhausted_descriptors_at_runtime_are_waited_for() {
    let (case, mut product) = started("exhausted");
    let mut count = LineCount::of(case.output());
    let mut last = FILES * LINES_PER_FILE;
    count.wait(last, &mut product);
    let open = open_descriptors(&product);
    limit(&product, open - 10);
    // Old files and new ones, and more data than the prepared segments of the WAL can hold.
    let mut log = fs::File::options().append(true).open(case.path("logs/0.log")).expect("a file");
    std::io::Write::write_all(&mut log, &block(last + 1, last + 40_000)).expect("lines");
    last += 40_000;
    case.write("logs/new.log", &block(last + 1, last + 1_000));
    last += 1_000;
    product.wait_for_log(&["too many open files"]);
    pause(Duration::from_secs(2));
    assert!(product.is_running(), "{}", product.state());
    limit(&product, 1024);
    product.finish(&case.output(), last);
}

/// No input needs a descriptor any more, but the WAL does: quiet files give theirs up.
#[test]
fn quiet_files_give_up_their_descriptors_for_the_log() {
    let (case, mut product) = started("quiet");
    let mut last = FILES * LINES_PER_FILE;
    LineCount::of(case.output()).wait(last, &mut product);
    let open = open_descriptors(&product);
    limit(&product, open - 10);
    let mut log = fs::File::options().append(true).open(case.path("logs/0.log")).expect("a file");
    std::io::Write::write_all(&mut log, &block(last + 1, last + 80_000)).expect("lines");
    last += 80_000;
    product.wait_for_log(&["too many open files"]);
    product.finish(&case.output(), last);
}

/// The limit is not raised; deleted files free their descriptors.
#[test]
fn descriptors_of_deleted_files_are_used_for_new_ones() {
    let case = Case::new("go");
    let config = case.configure(
        &format!("{{type: file, include: [\"{}\"], rotate_wait: 1s}}", case.path("logs/*.log").display()),
        &case.json_output(),
    );
    write_files(&case, 0, FILES);
    let mut product = Product::start(&case, &config);
    ["descriptor", "Too many open files", "similar lines"].iter().for_each(|part| product.expect(part));
    let mut count = LineCount::of(case.output());
    count.wait(FILES * LINES_PER_FILE, &mut product);
    let open = open_descriptors(&product);
    limit(&product, open);
    // New files beside the old ones, so that none gets the inode number of a deleted one.
    fs::rename(case.path("logs"), case.path("old")).expect("a rename");
    fs::create_dir(case.path("logs")).expect("a folder");
    write_files(&case, FILES, 2 * FILES);
    fs::remove_dir_all(case.path("old")).expect("a removal");
    product.finish(&case.output(), 2 * FILES * LINES_PER_FILE);
}
