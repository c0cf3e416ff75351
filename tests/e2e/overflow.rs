//! The kernel has more directory events than it stores, or gives fewer watches than are needed.

use crate::case::Case;
use crate::lines::block;
use crate::product::{Product, binary};
use crate::running::{Running, append};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Numbered lines for files that are created, deleted and grow.
struct Writer {
    next: u64,
    streams: Vec<usize>,
}

impl Writer {
    fn new() -> Writer {
        Writer { next: 1, streams: vec![0] }
    }

    /// Appends to a file. `stream` is the number of the file's generation.
    fn write(&mut self, path: &Path, stream: usize, lines: u64) {
        append(path, &block(self.next, self.next + lines - 1));
        self.streams.extend((0..lines).map(|_| stream));
        self.next += lines;
    }

    fn written(&self) -> u64 {
        self.next - 1
    }

    fn finish(self, running: Running) {
        let lines = self.written();
        let (_, all) = running.finish(lines);
        all.assert_in_order_within(|line| self.streams[line as usize]);
    }
}

/// More events than the kernel stores for a process that does not read them.
fn flood(directory: &Path) {
    let kept = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("the bound of the queue");
    let kept: usize = kept.trim().parse().expect("a number");
    // In addition to the stored ones, a waiting read may have taken some.
    for number in 0..kept / 2 + 4000 {
        let path = directory.join(format!("noise.{number}"));
        drop(File::create(&path).expect("a file"));
        fs::remove_file(&path).expect("a removal");
    }
}

/// Everything that a watch reports happens while nothing can be reported: growth, rotation, deletion, new files and
/// directories, and a directory that is replaced.
#[test]
fn what_happens_while_the_queue_of_events_overflows_is_found() {
    const QUIET: usize = 50;
    let mut case = Case::new("overflow");
    case.shards = 2;
    let logs = case.path("logs");
    let mut writer = Writer::new();
    let mut streams = 0..;
    let mut stream = || streams.next().expect("numbers without end");
    let quiet: Vec<_> = (0..QUIET).map(|file| (logs.join(format!("quiet-{file}.log")), stream())).collect();
    let (mut app, doomed, renewed) = (stream(), stream(), stream());
    for (path, stream) in &quiet {
        writer.write(path, *stream, 3);
    }
    writer.write(&logs.join("app.log"), app, 10);
    writer.write(&logs.join("doomed.log"), doomed, 10);
    fs::create_dir(logs.join("sub")).expect("a directory");
    writer.write(&logs.join("sub/x.log"), renewed, 10);
    let mut running = Running::start(case, "logs/**/*.log*", "");
    for round in 0..2 {
        running.wait(writer.written());
        running.product.signal("STOP");
        flood(&logs);
        for (path, stream) in &quiet {
            writer.write(path, *stream, 2);
        }
        writer.write(&logs.join("app.log"), app, 10);
        fs::rename(logs.join("app.log"), logs.join(format!("app.log.{round}"))).expect("a rename");
        writer.write(&logs.join(format!("app.log.{round}")), app, 10);
        app = stream();
        writer.write(&logs.join("app.log"), app, 10);
        if round == 0 {
            writer.write(&logs.join("doomed.log"), doomed, 10);
            fs::remove_file(logs.join("doomed.log")).expect("a removal");
        }
        fs::remove_dir_all(logs.join("sub")).expect("a removal");
        fs::create_dir(logs.join("sub")).expect("a directory");
        let renewed = stream();
        writer.write(&logs.join("sub/x.log"), renewed, 10);
        let deep = logs.join(format!("new-{round}/deep/deeper"));
        fs::create_dir_all(&deep).expect("directories");
        let new = stream();
        writer.write(&deep.join("y.log"), new, 10);
        running.product.signal("CONT");
        running.product.wait_for_log(&["watches overflowed"]);
        running.wait(writer.written());
        // And what happens afterwards, in old files and in those that were created meanwhile.
        for (path, stream) in &quiet {
            writer.write(path, *stream, 1);
        }
        writer.write(&logs.join("app.log"), app, 5);
        writer.write(&logs.join("sub/x.log"), renewed, 5);
        writer.write(&deep.join("y.log"), new, 5);
    }
    writer.finish(running);
}

/// Starts the product as a user with these limits of inotify watches and instances.
fn start_with_limits(case: Case, include: &str, watches: u32, instances: u32) -> Running {
    let input = format!("{{type: file, include: [\"{}\"]}}", case.path(include).display());
    let config = case.configure(&input, &case.json_output());
    // A user namespace has its own limits, so nothing else on the machine is affected.
    let script = "echo $0 > /proc/sys/user/max_inotify_watches && echo $1 > /proc/sys/user/max_inotify_instances && \
                  shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "sh", "-c", script, &watches.to_string(), &instances.to_string()]);
    command.arg(binary()).arg("run").arg("-c").arg(&config).stdin(Stdio::null());
    let product = Product::start_with(&case, &mut command);
    Running::of(case, config, product)
}

/// Files in many directories that are created, grow, are rotated and deleted, with few or no watches.
fn everything_without_watches(name: &str, watches: u32, instances: u32, told: &'static str) {
    const DIRECTORIES: usize = 12;
    let mut case = Case::new(name);
    case.shards = 2;
    let logs = case.path("logs");
    let mut writer = Writer::new();
    let directory = |number: usize| logs.join(number.to_string());
    for number in 0..DIRECTORIES {
        fs::create_dir(directory(number)).expect("a directory");
        writer.write(&directory(number).join("app.log"), number, 5);
    }
    let mut running = start_with_limits(case, "logs/*/*.log*", watches, instances);
    running.product.expect(told);
    running.wait(writer.written());
    running.product.wait_for_log(&[told]);
    for round in 1..=2 {
        for number in 0..DIRECTORIES {
            let (live, rotated) =
                (directory(number).join("app.log"), directory(number).join(format!("app.log.{round}")));
            writer.write(&live, (round - 1) * DIRECTORIES + number, 5);
            fs::rename(&live, &rotated).expect("a rename");
            writer.write(&rotated, (round - 1) * DIRECTORIES + number, 5);
            writer.write(&live, round * DIRECTORIES + number, 5);
        }
        running.wait(writer.written());
    }
    let new = directory(DIRECTORIES);
    fs::create_dir(&new).expect("a directory");
    writer.write(&new.join("app.log"), 3 * DIRECTORIES, 5);
    writer.finish(running);
}

#[test]
fn without_enough_watches_everything_is_found_all_the_same() {
    everything_without_watches("few-watches", 4, 100, "raise fs.inotify.max_user_watches");
}

#[test]
fn without_any_inotify_instance_everything_is_found_all_the_same() {
    everything_without_watches("no-instances", 100, 0, "raise fs.inotify.max_user_instances");
}
