//! `demo`: shows the whole pipeline on live input, without setup.
//!
//! Writes a JSON log to a new temporary directory that only its owner can enter, and rotates it, follows it through the
//! write-ahead log, transforms its events, and writes them to an archive in the same directory, and to a server if one is
//! given. At the end it checks in the archive what happened to every line that was written. A server that does not respond
//! delays the end, but never prevents it.

mod place;
mod writer;

use super::{Exit, output};
use crate::app::{self, RunError, RunOptions, Running};
use crate::codec::secret::shown_url;
use crate::config::{self, Circumstances};
use crate::net::endpoint::Endpoint;
use crate::telemetry::log::{self, LogOptions};
use anyhow::Context;
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::stop::{Phase, Stop};
use writer::{WRITE_INTERVAL, Writer, is_kept, line};

/// How long the end waits for the last lines to be delivered, and then for the engine to end.
const CATCH_UP: Duration = Duration::from_secs(10);
/// Characters of an event that fit on two lines of the terminal.
const SHOWN_CHARACTERS: usize = 240;

/// Show Tailwater at work on a live, rotating JSON log; Ctrl-C stops it and prints a summary
#[derive(Args)]
pub struct Arguments {
    /// Stop after N seconds instead of waiting for Ctrl-C
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// Keep the temporary directory
    #[arg(long)]
    keep: bool,
    /// Also send the events to a server: `elasticsearch=http://127.0.0.1:9200` (also OpenSearch) or
    /// `http=http://127.0.0.1:8080/`
    #[arg(long, value_name = "KIND=URL")]
    to: Option<String>,
}

/// A server that receives the events.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: Kind,
    url: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Elasticsearch,
    Http,
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let (kind, url) = text.split_once('=').ok_or("write elasticsearch=URL or http=URL")?;
        let kind = match kind {
            "elasticsearch" | "opensearch" => Kind::Elasticsearch,
            "http" => Kind::Http,
            _ => return Err("what comes before `=` is neither `elasticsearch` nor `http`".to_owned()),
        };
        if url.contains('@') {
            return Err(
                "the demo sends no user and no password; to send them, write a configuration with `auth`".to_owned()
            );
        }
        Endpoint::parse(url).map(|_| Target { kind, url: url.to_owned() })
    }
}

impl Target {
    /// Its entry under `outputs`.
    fn output(&self) -> String {
        // A JSON string is a YAML string. A dollar sign must not start a variable here.
        let url = serde_json::Value::from(self.url.replace("${", "$${"));
        match self.kind {
            Kind::Elasticsearch => format!(
                "  server:\n    type: elasticsearch\n    endpoints: [{url}]\n    index: tailwater-demo-%Y.%m.%d\n"
            ),
            Kind::Http => format!("  server:\n    type: http\n    url: {url}\n"),
        }
    }
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // Not read by the parser of the command line, which would repeat what is wrong, with any password in it.
    let to = match arguments.to.as_deref().map(str::parse::<Target>).transpose() {
        Ok(to) => to,
        Err(what) => {
            output::complain(&format!("error: --to: {what}\n"));
            return Ok(Exit::Usage);
        }
    };
    let directory = place::create(&std::env::temp_dir())?;
    let result = demonstrate(&directory, arguments, to.as_ref());
    if arguments.keep {
        output::print(&format!("kept: {}\n", directory.display()))?;
    } else {
        fs::remove_dir_all(&directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    result
}

fn demonstrate(directory: &Path, arguments: &Arguments, to: Option<&Target>) -> anyhow::Result<Exit> {
    let text = configuration(directory, to).into_bytes();
    let loaded = config::load::<GlommioEnv>("demo.yaml", text, &|_| None, &Circumstances::here(None))
        .map_err(|refused| anyhow::anyhow!("{refused}"))?;
    output::print(&format!("This configuration runs:\n\n{}\n", loaded.warnings.text))?;
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
    // Dropped before `running`, which would otherwise wait forever for the engine if printing fails.
    let _ended = Ended { stop: stop.clone(), asked: asked.clone() };
    let address = address.recv_timeout(CATCH_UP).context("the admin endpoint did not start")?;
    output::print(&format!(
        "The log is written to {}\nMetrics are at http://{address}/metrics\nPress Ctrl-C to stop\n\n",
        directory.join("app.log").display()
    ))?;

    let written = Arc::new(AtomicU64::new(0));
    let writer = Writer { path: directory.join("app.log"), written: written.clone(), asked: asked.clone() };
    let writing = std::thread::Builder::new().name("demo log".to_owned()).spawn(move || writer.run())?;
    show(&running, directory, &asked, arguments.seconds)?;
    let wrote = writing.join().map_err(|_| anyhow::anyhow!("the writer of the log panicked"))?;
    wrote.context("cannot write the log")?;
    let written = written.load(Ordering::Acquire);
    let kept = (1..=written).filter(|number| is_kept(*number)).count() as u64;
    let sent = catch_up(&running, written, kept, to.is_some());
    let read = running.totals().received;
    end(running, &stop)?;
    drop(log);
    let archive = summarise(directory, written, read)?;
    let Some(target) = to else { return Ok(archive) };
    output::print(&format!(
        "{} accepted {sent} of {}\n",
        shown_url(&target.url),
        tailwater_shards::counted::counted(kept, "event")
    ))?;
    Ok(if sent >= kept { archive } else { Exit::Failed })
}

/// Stops the engine and the writer when it is dropped, however the demo ended.
struct Ended {
    stop: Stop,
    asked: Arc<AtomicBool>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.asked.store(true, Ordering::Release);
        self.stop.enter(Phase::Forced);
    }
}

/// Waits a limited time until everything written is read and delivered. Returns how much the server has.
fn catch_up(running: &Running, written: u64, kept: u64, to_server: bool) -> u64 {
    let deadline = Instant::now() + CATCH_UP;
    loop {
        let (archived, sent) = (running.delivered("archive"), running.delivered("server"));
        let is_done = running.totals().received >= written && archived >= kept && (!to_server || sent >= kept);
        if is_done || Instant::now() >= deadline {
            return sent;
        }
        pause(WRITE_INTERVAL);
    }
}

/// Stops the engine, and waits only a limited time for outputs that do not accept their events.
fn end(running: Running, stop: &Stop) -> anyhow::Result<()> {
    let (ended, waiting) = mpsc::channel::<()>();
    let forced = stop.clone();
    stop.enter(Phase::Draining);
    let timer = std::thread::Builder::new().name("demo end".to_owned()).spawn(move || {
        if let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(CATCH_UP) {
            forced.enter(Phase::Forced);
        }
    })?;
    let result = running.wait();
    drop(ended);
    timer.join().map_err(|_| anyhow::anyhow!("the timer of the end panicked"))?;
    match result {
        Ok(_) | Err(RunError::Unfinished) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn configuration(directory: &Path, to: Option<&Target>) -> String {
    let (directory, outputs) = (directory.display(), if to.is_some() { "archive, server" } else { "archive" });
    let server = to.map(Target::output).unwrap_or_default();
    format!(
        "data_dir: {directory}/data\n\
         admin: {{listen: \"127.0.0.1:0\"}}\n\
         inputs:\n  app:\n    type: file\n    include: [\"{directory}/app.log\"]\n    parse: json\n\
         pipelines:\n  main:\n    inputs: [app]\n    transforms:\n\
         \x20     - drop: level == \"debug\"\n\
         \x20     - remove: [session]\n\
         \x20     - rename: {{msg: message}}\n\
         \x20     - add: {{service: shop}}\n\
         \x20     - if: status >= 500\n        then: [{{add: {{alert: true}}}}]\n\
         \x20   outputs: [{outputs}]\n\
         outputs:\n  archive:\n    type: file\n    path: \"{directory}/archive.log\"\n{server}"
    )
}

/// Once a second, prints the newest event in the archive, its original line, and the rate.
fn show(running: &Running, directory: &Path, asked: &AtomicBool, seconds: Option<u64>) -> anyhow::Result<()> {
    let (begun, mut before, mut archive) = (Instant::now(), 0, 0);
    let mut second = 0;
    while !asked.load(Ordering::Acquire) {
        second += 1;
        while begun.elapsed() < Duration::from_secs(second) && !asked.load(Ordering::Acquire) {
            pause(WRITE_INTERVAL);
        }
        if let Some(event) = newest(&directory.join("archive.log"), &mut archive)? {
            let number = serde_json::from_str::<serde_json::Value>(&event).ok().and_then(|event| event["n"].as_u64());
            let was = number.map(line).unwrap_or_default();
            let fitting = |text: &str| text.chars().take(SHOWN_CHARACTERS).collect::<String>();
            output::print(&format!("{}\n  -> {}\n", fitting(&was), fitting(&event)))?;
        }
        let totals = running.totals();
        output::print(&format!(
            "  {} read, {} delivered, {} dropped by the pipeline, {} events/s\n",
            totals.received,
            totals.delivered,
            totals.discarded,
            totals.received - before
        ))?;
        before = totals.received;
        if seconds.is_some_and(|seconds| second >= seconds) {
            asked.store(true, Ordering::Release);
        }
    }
    Ok(())
}

/// The last complete line that was added since the last call.
fn newest(path: &Path, from: &mut u64) -> anyhow::Result<Option<String>> {
    let Ok(mut file) = File::open(path) else { return Ok(None) };
    file.seek(SeekFrom::Start(*from))?;
    let mut reader = BufReader::new(file);
    let (mut line, mut last) = (String::new(), None);
    while reader.read_line(&mut line)? > 0 && line.ends_with('\n') {
        *from += line.len() as u64;
        last = Some(line.trim_end().to_owned());
        line.clear();
    }
    Ok(last)
}

/// Checks in the archive what happened to every line that was written.
fn summarise(directory: &Path, written: u64, read: u64) -> anyhow::Result<Exit> {
    let mut seen = vec![0u32; usize::try_from(written)? + 1];
    let archive = File::open(directory.join("archive.log")).context("cannot read the archive")?;
    let mut archived = 0;
    for line in BufReader::new(archive).lines() {
        let event: serde_json::Value =
            serde_json::from_str(&line?).context("the archive contains a line that is not JSON")?;
        archived += 1;
        if let Some(count) = event["n"].as_u64().and_then(|number| seen.get_mut(number as usize)) {
            *count += 1;
        }
    }
    let (mut dropped, mut lost, mut repeated) = (0, 0, 0);
    for number in 1..=written {
        match (is_kept(number), seen[number as usize]) {
            (false, 0) => dropped += 1,
            (true, 0) => lost += 1,
            (true, 1) => {}
            _ => repeated += 1,
        }
    }
    output::print(&format!(
        "\nwritten {written}, read {read}, dropped by the pipeline {dropped}, in the archive {archived}, \
         lost {lost}, repeated {repeated}\n"
    ))?;
    Ok(if lost == 0 && repeated == 0 { Exit::Done } else { Exit::Failed })
}

#[expect(clippy::disallowed_methods, reason = "threads of the demo, beside the shards, keep a pace")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
