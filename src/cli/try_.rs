//! `try`: shows what a configuration does to lines of a file or of standard input, transform by transform.
//!
//! Guarantees: runs the same pipelines as `run`, on lines cut as the input cuts them. Starts nothing, delivers nothing, and
//! does not touch the data directory.

use super::configuration;
use super::output::Paint;
use super::show::{self, Names};
use super::{Exit, output};
use crate::app::{host_name, load_tables};
use crate::codec::framing::{Ending, Place, Rules, cut, finish, place_at};
use crate::config::Plan;
use crate::config::facts::Facts;
use crate::process::trace::{MadeTrace, Tracer};
use crate::transforms::Now;
use anyhow::Context;
use clap::Args;
use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tailwater_shards::batch::{Batch, Source, SourceKey};
use tailwater_shards::env::Timestamp;
use tailwater_shards::glommio_env::GlommioEnv;
use tailwater_shards::limits::{BATCH_EVENTS_MAX, CHUNK_BYTES};

/// The number of events to show without `--all`.
const EVENTS_MAX: u64 = 10_000;

/// Show what the pipelines do to sample lines, transform by transform, without delivering anything
///
/// Reads the lines from standard input, or from FILE. For each line, it prints the event as it was read, what each transform changed (- removed, + added, ~ changed), which branch
/// of an `if` ran, why a condition failed, and which outputs accept the event.
#[derive(Args)]
pub struct Arguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    config: PathBuf,
    /// Read the lines from this file instead of standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Read the lines as this input does; required if there are several inputs
    #[arg(long, value_name = "NAME")]
    input: Option<String>,
    /// Show only this pipeline
    #[arg(long, value_name = "NAME")]
    pipeline: Option<String>,
    /// Print one JSON object per event
    #[arg(long)]
    json: bool,
    /// Continue after 10,000 events
    #[arg(long)]
    all: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(loaded) = configuration::load_without_outputs(arguments.config.clone()) else {
        return Ok(Exit::Configuration);
    };
    let plan = loaded.plan;
    let (input, pipelines) = match choose(&plan, arguments) {
        Ok(chosen) => chosen,
        Err(what) => {
            output::complain(&format!("error: {what}\n"));
            return Ok(Exit::Usage);
        }
    };
    let mut lines = match Lines::open(arguments.file.as_deref()) {
        Ok(lines) => lines,
        Err(what) => {
            output::complain(&format!("error: {what}\n"));
            return Ok(Exit::Failed);
        }
    };
    if let Err(error) = load_tables(&plan) {
        output::complain(&format!("error: {error}\n"));
        return Ok(Exit::Failed);
    }
    let settings = &plan.inputs[input].settings;
    let chains: Vec<_> = pipelines.iter().map(|&pipeline| plan.pipelines[pipeline].chain.clone()).collect();
    let facts = Facts { timezone: plan.timezone.clone(), ..Facts::of(host_name()) };
    let mut trial = Trial {
        tracer: Tracer::new(&settings.events::<GlommioEnv>(), &chains, &facts),
        names: pipelines.iter().map(|&pipeline| names(&plan, pipeline)).collect(),
        json: arguments.json,
        left: if arguments.all { u64::MAX } else { EVENTS_MAX },
        shown: 0,
        made: 0,
    };
    let mut sample = Sample::new(&plan.inputs[input].name, lines.name, settings.rules::<GlommioEnv>());
    while sample.read(&mut lines.stream)? {
        if !trial.batch(&sample.batch)? {
            output::complain(&format!("stopped after {EVENTS_MAX} events; use --all to continue\n"));
            break;
        }
    }
    trial.made(Now { time: now(), last: true })?;
    Ok(Exit::Done)
}

/// What to show, and how.
struct Trial<'a> {
    tracer: Tracer,
    names: Vec<Names<'a>>,
    json: bool,
    /// The number of events that may still be shown.
    left: u64,
    shown: u64,
    made: u64,
}

impl Trial<'_> {
    /// Shows the events of a batch. False if there are more than may be shown.
    fn batch(&mut self, batch: &Batch) -> anyhow::Result<bool> {
        self.made(Now { time: batch.received, last: false })?;
        self.tracer.begin(batch);
        for index in 0..batch.events.len() {
            if self.left == 0 {
                return Ok(false);
            }
            (self.left, self.shown) = (self.left - 1, self.shown + 1);
            let trace = self.tracer.event(batch, index);
            match self.json {
                true => output::print_json(&show::event_json(self.shown, &trace, &self.names))?,
                false => output::print_painted(&show::event(self.shown, &trace, &self.names, paint()))?,
            }
        }
        Ok(true)
    }

    /// Shows events that transforms make.
    fn made(&mut self, now: Now) -> anyhow::Result<()> {
        for MadeTrace { pipeline, trace } in self.tracer.made(now) {
            self.made += 1;
            match self.json {
                true => output::print_json(&show::made_json(self.made, &trace, &self.names[pipeline]))?,
                false => output::print_painted(&show::made(self.made, &trace, &self.names[pipeline], paint()))?,
            }
        }
        Ok(())
    }
}

fn paint() -> Paint {
    Paint { on: output::stdout_colors() }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}

fn names(plan: &Plan, pipeline: usize) -> Names<'_> {
    let pipeline = &plan.pipelines[pipeline];
    let outputs = pipeline.outputs.iter().map(|&index| plan.outputs[index].name.as_str()).collect();
    Names { pipeline: &pipeline.name, outputs }
}

/// The input, and the pipelines to show.
fn choose(plan: &Plan, arguments: &Arguments) -> Result<(usize, Vec<usize>), String> {
    let pipeline = match &arguments.pipeline {
        Some(name) => Some(
            plan.pipelines
                .iter()
                .position(|pipeline| pipeline.name == *name)
                .ok_or_else(|| format!("there is no pipeline `{name}`; {}", pipelines_of(plan)))?,
        ),
        None => None,
    };
    let feeds = |input: usize| match pipeline {
        Some(pipeline) => plan.pipelines[pipeline].inputs.contains(&input),
        None => plan.inputs[input].used,
    };
    let possible: Vec<usize> = (0..plan.inputs.len()).filter(|&input| feeds(input)).collect();
    let names: Vec<&str> = possible.iter().map(|&input| plan.inputs[input].name.as_str()).collect();
    let names = names.join(", ");
    let input = match (&arguments.input, &possible[..]) {
        (Some(name), possible) => match possible.iter().find(|&&input| plan.inputs[input].name == *name) {
            Some(input) => *input,
            None if plan.inputs.iter().any(|input| input.name == *name) => {
                let who = arguments.pipeline.as_ref().map_or("no pipeline reads".to_owned(), |pipeline| {
                    format!("the pipeline `{pipeline}` does not read")
                });
                return Err(format!("{who} the input `{name}`; choose one of {names}"));
            }
            None => return Err(format!("there is no input `{name}`; the inputs are {names}")),
        },
        (None, [only]) => *only,
        (None, _) => return Err(format!("there are several inputs; choose one of {names} with --input")),
    };
    let all = (0..plan.pipelines.len()).filter(|&number| plan.pipelines[number].inputs.contains(&input));
    Ok((input, all.filter(|&number| pipeline.is_none_or(|only| only == number)).collect()))
}

fn pipelines_of(plan: &Plan) -> String {
    let names: Vec<&str> = plan.pipelines.iter().map(|pipeline| pipeline.name.as_str()).collect();
    format!("the pipelines are {}", names.join(", "))
}

/// Where the lines come from.
struct Lines {
    stream: Box<dyn Read>,
    /// The path of the file, as an input would know it.
    name: Vec<u8>,
}

impl Lines {
    fn open(file: Option<&Path>) -> Result<Lines, String> {
        let Some(path) = file.filter(|path| *path != Path::new("-")) else {
            if std::io::stdin().is_terminal() {
                output::complain(
                    "reading lines from the terminal; press Ctrl-D to end the input, or use --file FILE to read a file\n",
                );
            }
            return Ok(Lines { stream: Box::new(std::io::stdin().lock()), name: b"/dev/stdin".to_vec() });
        };
        let failed = |error: std::io::Error| format!("--file {}: {error}", path.display());
        let stream = File::open(path).map_err(failed)?;
        if stream.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(format!("--file {}: it is a directory; name one of the files in it", path.display()));
        }
        let whole = std::path::absolute(path).map_err(failed)?;
        Ok(Lines { stream: Box::new(stream), name: whole.into_os_string().into_vec() })
    }
}

/// The lines of a stream, cut as an input cuts them.
struct Sample {
    rules: Rules,
    place: Place,
    /// The lines that were read last.
    batch: Batch,
    /// The bytes of the batch that were processed.
    consumed: usize,
    /// The bytes after them.
    rest: Vec<u8>,
    ended: bool,
}

impl Sample {
    fn new(input: &str, name: Vec<u8>, rules: Rules) -> Sample {
        let source =
            Source { key: SourceKey::default(), input: input.into(), name, descriptor: Vec::new(), repeatable: false };
        let batch = Batch::new(rules.encoding.line_bytes_max(rules.line_bytes_max) + 2 * CHUNK_BYTES, Arc::new(source));
        Sample { rules, place: Place::LineStart, batch, consumed: 0, rest: Vec::new(), ended: false }
    }

    /// Reads the next lines. False if there are none.
    fn read(&mut self, stream: &mut impl Read) -> anyhow::Result<bool> {
        let batch = &mut self.batch;
        loop {
            let full = batch.events.len() >= BATCH_EVENTS_MAX;
            if self.ended && !full {
                return Ok(false);
            }
            let rest = std::mem::take(&mut self.rest);
            batch.chunk_offset += self.consumed as u64;
            batch.events.clear();
            batch.offsets.clear();
            batch.truncated.clear();
            batch.chunk.set_length(0);
            batch.chunk.spare()[..rest.len()].copy_from_slice(&rest);
            batch.chunk.set_length(rest.len());
            if !full {
                let read = stream.read(batch.chunk.spare()).context("cannot read the lines")?;
                batch.chunk.set_length(rest.len() + read);
                self.ended = read == 0;
            }
            batch.received = now();
            // Bytes from a stream cannot be overwritten later, so NULs need not wait.
            let ending = if self.ended { Ending::Closed } else { Ending::Followed };
            let cut = cut(batch.chunk.bytes(), 0, self.place, self.rules, ending, &mut batch.events);
            let bytes = batch.chunk.bytes().to_vec();
            let made = finish(batch, self.rules, cut.truncated);
            (self.place, self.consumed) = match made.left {
                Some(left) => (place_at(&bytes, left, self.place, self.rules), left),
                None => (cut.place, cut.consumed),
            };
            self.rest = bytes[self.consumed..].to_vec();
            if !batch.events.is_empty() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encoding::Encoding;
    use crate::codec::framing::LineTooLong;

    /// Hands out a few bytes at a time.
    struct Slow<'a>(&'a [u8]);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(3).min(buffer.len());
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    fn lines(stream: &mut impl Read, rules: Rules) -> Vec<String> {
        let (mut sample, mut lines) = (Sample::new("app", Vec::new(), rules), Vec::new());
        while sample.read(stream).expect("bytes can be read") {
            let all = (0..sample.batch.events.len()).map(|index| sample.batch.event(index));
            lines.extend(all.map(|line| String::from_utf8_lossy(line).into_owned()));
        }
        lines
    }

    #[test]
    fn lines_are_cut_as_the_input_cuts_them() {
        let rules = Rules {
            line_bytes_max: 8,
            too_long: LineTooLong::Truncate,
            keep_cr: false,
            skip_nuls: true,
            skip_empty: false,
            encoding: Encoding::Utf8,
        };
        let text = b"one\r\n\ntoo long for it\n\0\0two\nlast";
        let expected = ["one", "", "too long", "two", "last"];
        assert_eq!(lines(&mut Slow(text), rules), expected);
        assert_eq!(lines(&mut &text[..], rules), expected);
        let split = Rules { too_long: LineTooLong::Split, ..rules };
        assert_eq!(lines(&mut Slow(b"0123456789\n"), split), ["01234567", "89"]);
    }

    #[test]
    fn more_lines_than_a_batch_holds_all_come() {
        let rules = Rules {
            line_bytes_max: 100,
            too_long: LineTooLong::Truncate,
            keep_cr: false,
            skip_nuls: false,
            skip_empty: false,
            encoding: Encoding::Utf8,
        };
        let text = vec![b'\n'; BATCH_EVENTS_MAX * 2 + 7];
        assert_eq!(lines(&mut &text[..], rules).len(), text.len());
    }
}
