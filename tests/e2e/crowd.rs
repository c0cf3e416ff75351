//! More files of an ordinary user than half a segment of the write-ahead log has positions for. The product goes on, over kills
//! too, and reads the file of somebody else; no position is dropped. When files are deleted, others are followed in their place.
//!
//! `TAILWATER_CROWD` sets the number of files that the user makes in each of two folders.

use crate::case::Case;
use crate::metrics;
use crate::product::{Product, give_away, is_root, run_to_end, text};
use crate::running::append;
use crate::wait::wait_for;
use std::fs;
use std::process::Command;

/// Number of files in each folder.
fn files() -> u64 {
    std::env::var("TAILWATER_CROWD").ok().and_then(|files| files.parse().ok()).unwrap_or(1_500)
}

/// Makes files with names of 200 bytes and a line each, as an ordinary user; without root as this one.
fn crowd(case: &Case, folder: &str) {
    let folder = case.path(folder);
    fs::create_dir(&folder).expect("a folder");
    give_away(&folder);
    let (name, files) = ("n".repeat(190), files());
    let script = format!("i=0; while [ $i -lt {files} ]; do echo line $i of {name} > {name}$i.log; i=$((i+1)); done");
    let mut command = Command::new(if is_root() { "setpriv" } else { "sh" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh"]);
    }
    let status = command.arg("-ec").arg(script).current_dir(folder).status().expect("a shell");
    assert!(status.success());
}

fn wait_for_line(case: &Case, product: &mut Product, line: &str) {
    wait_for(&format!("the line {line}"), || {
        let output = fs::read_to_string(case.output()).unwrap_or_default();
        if output.contains(line) { Ok(()) } else { Err(product.state()) }
    });
}

#[test]
fn a_crowd_of_files_ends_neither_the_process_nor_a_later_start() {
    let mut case = Case::new("crowd");
    case.extra = "wal: {segment_bytes: 1MiB, max_bytes: 16MiB}\n".to_owned();
    fs::create_dir(case.path("logs/app")).expect("a folder");
    let neighbour = case.write("logs/app/app.log", b"before the crowd\n");
    crowd(&case, "logs/early");
    let include = case.path("logs/*/*.log").display().to_string();
    let input = format!("{{type: file, max_line_bytes: 4KiB, include: [\"{include}\"]}}");
    let config = case.configure(&input, &case.json_output());
    let mut product = Product::start(&case, &config);
    product.expect("not followed yet");
    wait_for_line(&case, &mut product, "before the crowd");
    crowd(&case, "logs/late");
    append(&neighbour, b"after the crowd\n");
    wait_for_line(&case, &mut product, "after the crowd");
    for start in 1..=2 {
        product.kill();
        product = Product::start(&case, &config);
        product.expect("not followed yet");
        append(&neighbour, format!("after start {start}\n").as_bytes());
        wait_for_line(&case, &mut product, &format!("after start {start}"));
    }
    wait_for_waiting(&case, &mut product, |waiting| waiting > files() / 2);
    wait_for("all files that have room", || {
        let sum = |name| metrics::sum(case.admin_port, name, &[]);
        let known = sum("tailwater_files")? + sum("tailwater_files_waiting")?;
        if known > 2 * files() { Ok(()) } else { Err(format!("{known} are known\n{}", product.state())) }
    });
    let dropped = metrics::sum(case.admin_port, "tailwater_wal_positions_dropped_total", &[]);
    assert_eq!(dropped, Ok(0), "what is followed fits into the log");
    fs::remove_dir_all(case.path("logs/early")).expect("a removal");
    wait_for_waiting(&case, &mut product, |waiting| waiting < files() / 2 || files() > 1_500);
    fs::remove_dir_all(case.path("logs/late")).expect("a removal");
    wait_for_waiting(&case, &mut product, |waiting| waiting == 0);
    assert!(product.is_running(), "{}", product.state());
    product.terminate();
}

fn wait_for_waiting(case: &Case, product: &mut Product, is_right: impl Fn(u64) -> bool) {
    wait_for("the number of files that wait", || {
        match metrics::sum(case.admin_port, "tailwater_files_waiting", &[])? {
            waiting if is_right(waiting) => Ok(()),
            waiting => Err(format!("{waiting} wait\n{}", product.state())),
        }
    });
}

/// Number of directories with files that fill the room, and bytes of their paths: with these, a file counts the least.
const TREES: usize = 10;
const PATH_BYTES: usize = 128;

/// Bytes of memory that belong to no file.
fn anonymous_bytes(product: &Product) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", product.id())).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("the memory");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// What `validate` says of a consumer of memory.
fn memory_of(config: &str, consumer: &str) -> u64 {
    let said = run_to_end(&["validate", "-c", config]);
    let said = text(&said.stdout);
    let line = said.lines().find(|line| line.starts_with("memory ")).expect("the sum");
    let share = line.split(&format!("{consumer} ")).nth(1).expect("the consumer");
    let mib: u64 = share.split("MiB").next().expect("a size").parse().expect("a number");
    mib << 20
}

#[test]
fn memory_for_all_files_that_have_room_is_in_the_sum() {
    let mut case = Case::new("room");
    case.shards = 1;
    case.extra = "wal: {segment_bytes: 4MiB, max_bytes: 64MiB}\n".to_owned();
    let include = case.path("logs/*/*.log").display().to_string();
    let input = format!("{{type: file, max_line_bytes: 4KiB, include: [\"{include}\"]}}");
    let config = case.configure(&input, "{type: blackhole}");
    fs::create_dir(case.path("logs/first")).expect("a folder");
    case.write("logs/first/app.log", b"before the others\n");
    let mut product = Product::start(&case, &config);
    product.expect("not followed yet");
    metrics::wait_for_ready(case.admin_port);
    let before = anonymous_bytes(&product);
    // A user may have eight ninths of the room for 7,168 files.
    for file in 0..8_000 {
        let tree = case.path(&format!("logs/{}", file % TREES));
        fs::create_dir_all(&tree).expect("a directory");
        let start = format!("{}/{file}", tree.display());
        let name = format!("{start}{}.log", "n".repeat(PATH_BYTES.saturating_sub(start.len() + 4)));
        fs::write(name, format!("line {file}\n")).expect("a file");
    }
    wait_for("all files that have room", || {
        let sum = |name| metrics::sum(case.admin_port, name, &[]);
        let (followed, read) = (sum("tailwater_files")?, metrics::received_events(case.admin_port)?);
        if followed > 6_300 && read >= followed { Ok(()) } else { Err(format!("{followed}\n{}", product.state())) }
    });
    let (grown, most) = (
        anonymous_bytes(&product).saturating_sub(before),
        memory_of(config.to_str().expect("UTF-8"), "followed files"),
    );
    eprintln!("{} KiB more for all files, of at most {} KiB", grown >> 10, most >> 10);
    assert!(grown <= most, "{grown} bytes more, of at most {most}");
    product.terminate();
}
