//! `demo`: the whole path on live input, with nothing to set up.
//!
//! Writes a JSON log into a new temporary directory and rotates it, follows it through the write-ahead log into an archive beside
//! it, and at the end counts in the archive what came of every line that was written.

use super::{Exit, output};
use crate::app::{self, RunOptions, Running};
use crate::config::{self, Circumstances};
use crate::telemetry::log::{self, LogOptions};
use crate::telemetry::metrics::Totals;
use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::stop::{Phase, Stop};

/// Lines written every [`WRITE_INTERVAL`].
const LINES_AT_ONCE: u64 = 100;
const WRITE_INTERVAL: Duration = Duration::from_millis(50);
/// Lines after which the log is rotated: every ten seconds.
const ROTATE_LINES: u64 = 20_000;
/// Rotated logs that are kept beside the live one.
const ROTATED_KEPT: u32 = 3;
/// How long the end waits until the last lines have been read.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Characters of an event that fit a line of the terminal.
const SHOWN_CHARACTERS: usize = 150;

/// Follow a live, rotating log for a look around; Ctrl-C ends it with a summary
#[derive(Args)]
pub struct Arguments {
    /// End after so many seconds instead of waiting for Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Keep the temporary directory
    #[arg(long)]
    keep: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let directory = std::env::temp_dir().join(format!("tailwater-demo-{}", std::process::id()));
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let result = demonstrate(&directory, arguments.seconds);
    if arguments.keep {
        output::print(&format!("kept: {}\n", directory.display()))?;
    } else {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    result
}

fn demonstrate(directory: &Path, seconds: Option<u64>) -> anyhow::Result<Exit> {
    let text = configuration(directory);
    let loaded =
        config::load::<GlommioEnv>("demo.yaml", text.clone().into_bytes(), &|_| None, &Circumstances::here(None))
            .map_err(|refused| anyhow::anyhow!("{refused}"))?;
    output::print(&format!("This configuration runs:\n\n{text}\n"))?;
    let log = log::start(LogOptions { level: tracing::Level::WARN, json: Some(false) })?;
    let (bound, address) = mpsc::channel();
    let stop = Stop::new();
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, asked.clone())?;
    }
    let counter = log.counter();
    let running = app::start(
        loaded.plan,
        RunOptions {
            log_dropped: Box::new(move || counter.get().lines_dropped),
            admin_bound: Arc::new(move |address| _ = bound.send(address)),
            stop: stop.clone(),
        },
    )?;
    let address = address.recv_timeout(CATCH_UP).context("the admin endpoint does not come up")?;
    output::print(&format!(
        "The log is written to {}\nMetrics are at http://{address}/metrics\nCtrl-C ends the demo\n\n",
        directory.join("app.log").display()
    ))?;

    let written = Arc::new(AtomicU64::new(0));
    let writer = Writer { path: directory.join("app.log"), written: written.clone(), asked: asked.clone() };
    let writing = std::thread::Builder::new().name("demo log".to_owned()).spawn(move || writer.run())?;
    show(&running, directory, &asked, seconds)?;
    let wrote = writing.join().map_err(|_| anyhow::anyhow!("the writer of the log panicked"))?;
    wrote.context("the log cannot be written")?;
    let deadline = Instant::now() + CATCH_UP;
    while running.totals().received < written.load(Ordering::Acquire) && Instant::now() < deadline {
        pause(WRITE_INTERVAL);
    }
    stop.enter(Phase::Draining);
    let totals = running.wait()?;
    drop(log);
    summarise(directory, written.load(Ordering::Acquire), totals)
}

fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "data_dir: {directory}/data\n\
         admin: {{listen: \"127.0.0.1:0\"}}\n\
         inputs:\n  app:\n    type: file\n    include: [\"{directory}/app.log\"]\n\
         pipelines:\n  main: {{inputs: [app], outputs: [archive]}}\n\
         outputs:\n  archive:\n    type: file\n    path: \"{directory}/archive.log\"\n"
    )
}

/// Writes the log and rotates it, as an application with a size-based rotation does.
struct Writer {
    path: PathBuf,
    written: Arc<AtomicU64>,
    asked: Arc<AtomicBool>,
}

impl Writer {
    fn run(self) -> std::io::Result<()> {
        let mut file = File::options().create(true).append(true).open(&self.path)?;
        let mut number = 0;
        let mut lines = String::new();
        while !self.asked.load(Ordering::Acquire) {
            lines.clear();
            for _ in 0..LINES_AT_ONCE {
                number += 1;
                lines.push_str(&line(number));
            }
            file.write_all(lines.as_bytes())?;
            self.written.store(number, Ordering::Release);
            if number % ROTATE_LINES == 0 {
                file = self.rotate()?;
            }
            pause(WRITE_INTERVAL);
        }
        Ok(())
    }

    fn rotate(&self) -> std::io::Result<File> {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..ROTATED_KEPT).rev() {
            if numbered(number).exists() {
                fs::rename(numbered(number), numbered(number + 1))?;
            }
        }
        fs::rename(&self.path, numbered(1))?;
        File::options().create(true).append(true).open(&self.path)
    }
}

/// A line with its number, from which everything in it follows.
fn line(number: u64) -> String {
    let level = ["info", "info", "info", "debug", "warn", "error"][(number % 6) as usize];
    let path = ["/cart", "/checkout", "/items", "/login"][(number % 4) as usize];
    let status = [200, 200, 200, 201, 404, 500][(number * 7 % 6) as usize];
    let millis = number * 37 % 900;
    format!("{{\"n\":{number},\"level\":\"{level}\",\"path\":\"{path}\",\"status\":{status},\"took_ms\":{millis}}}\n")
}

/// Once a second: the newest event in the archive and the rate.
fn show(running: &Running, directory: &Path, asked: &AtomicBool, seconds: Option<u64>) -> anyhow::Result<()> {
    let (begun, mut before, mut archive) = (Instant::now(), Totals::default(), 0);
    let mut second = 0;
    while !asked.load(Ordering::Acquire) {
        second += 1;
        while begun.elapsed() < Duration::from_secs(second) && !asked.load(Ordering::Acquire) {
            pause(WRITE_INTERVAL);
        }
        if let Some(event) = newest(&directory.join("archive.log"), &mut archive)? {
            output::print(&format!("{event}\n"))?;
        }
        let totals = running.totals();
        output::print(&format!(
            "  {} read, {} delivered, {} events/s\n",
            totals.received,
            totals.delivered,
            totals.delivered - before.delivered
        ))?;
        before = totals;
        if seconds.is_some_and(|seconds| second >= seconds) {
            asked.store(true, Ordering::Release);
        }
    }
    Ok(())
}

/// The last whole line that was added since the last look, cut to the width of a terminal.
fn newest(path: &Path, from: &mut u64) -> anyhow::Result<Option<String>> {
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    file.seek(SeekFrom::Start(*from))?;
    let mut reader = BufReader::new(file);
    let (mut line, mut last) = (String::new(), None);
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        *from += line.len() as u64;
        last = Some(line.chars().take(SHOWN_CHARACTERS).filter(|c| *c != '\n').collect());
        line.clear();
    }
    Ok(last)
}

/// Counts in the archive what came of every line that was written.
fn summarise(directory: &Path, written: u64, totals: Totals) -> anyhow::Result<Exit> {
    let mut seen = vec![0u32; usize::try_from(written)? + 1];
    let archive = File::open(directory.join("archive.log")).context("the archive cannot be read")?;
    for line in BufReader::new(archive).lines() {
        let event: serde_json::Value =
            serde_json::from_str(&line?).context("the archive holds a line that is no JSON")?;
        let message = event["message"].as_str().unwrap_or_default();
        let number = serde_json::from_str::<serde_json::Value>(message).ok().and_then(|inner| inner["n"].as_u64());
        if let Some(count) = number.and_then(|number| seen.get_mut(number as usize)) {
            *count += 1;
        }
    }
    let lost = seen[1..].iter().filter(|count| **count == 0).count();
    let repeated = seen[1..].iter().filter(|count| **count > 1).count();
    output::print(&format!(
        "\nwritten {written}, read {}, delivered {}, lost {lost}, repeated {repeated}\n",
        totals.received, totals.delivered
    ))?;
    Ok(if lost == 0 && repeated == 0 { Exit::Done } else { Exit::Failed })
}

#[expect(clippy::disallowed_methods, reason = "threads of the demo, beside the shards, keep a pace")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
