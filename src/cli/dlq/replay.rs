//! `dlq replay`: sends the dead letters of outputs again.

use super::super::configuration::{self, FileArguments};
use super::super::{Exit, output};
use super::Queue;
use super::choice::Choice;
use super::claim::Claim;
use crate::app::RunError;
use crate::app::replay::{self, Job, Replay, Replayed};
use crate::config::Plan;
use crate::config::component::Table as _;
use crate::config::unset::Unset;
use crate::telemetry::log::{self, LogOptions};
use clap::Args;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeSet;
use std::sync::Arc;
use tailwater_shards::counted::counted;
use tailwater_shards::dlq::{ComponentKind, DeadLetter, shard_folder};
use tailwater_shards::env::ShardId;
use tailwater_shards::stop::{Phase, Stop};

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    #[command(flatten)]
    choice: Choice,
    /// Send all of them to this output instead of the outputs that rejected them
    #[arg(long, value_name = "NAME")]
    output: Option<String>,
}

/// The sections whose values a replay does not need, except those of the outputs that it sends to.
const PARTS: [&str; 4] = ["inputs", "pipelines", "outputs", "tests"];

/// The type of outputs that a running service may be writing to.
const WRITES_FILES: &str = "file";

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let is_needed = |unset: &Unset| !PARTS.iter().any(|part| unset.is_below(&[part]));
    let loaded = configuration::load_part(&arguments.file, |_, unset| is_needed(unset));
    // It sends and writes what the configuration says, with the rights of this process.
    let Some(loaded) = loaded.filter(|loaded| !configuration::refuse_of_others(loaded, &arguments.file)) else {
        return Ok(Exit::Configuration);
    };
    let plan = &loaded.plan;
    let lacks_values = |name: &str| loaded.unset.iter().any(|unset| unset.is_below(&["outputs", name]));
    let index_of = |name: &str| plan.outputs.iter().position(|output| output.name == name);
    let former = |name: &str| plan.outputs.iter().position(|output| output.was.as_deref() == Some(name));
    let is_unknown = |name: &&str| index_of(name).is_none() && !lacks_values(name);
    if let Some(name) = arguments.output.as_deref().filter(is_unknown) {
        let known: Vec<&str> = plan.outputs.iter().map(|output| output.name.as_str()).collect();
        let known = known.join(", ");
        output::complain(&format!("error: the configuration has no output `{name}`; the outputs are {known}\n"));
        return Ok(Exit::Usage);
    }
    let target = |letter: &DeadLetter<'_>| {
        let name = arguments.output.as_deref().unwrap_or(letter.component);
        index_of(name).or_else(|| former(name))
    };
    let queue = Queue::open(plan.data_dir.clone())?;
    let mut targets: Vec<usize> = Vec::new();
    let mut left = Left::default();
    let mut lacking = BTreeSet::new();
    queue.letters(|_, kept| {
        if !arguments.choice.takes(&kept.letter) {
            return Ok(true);
        }
        let to = target(&kept.letter);
        let name = arguments.output.as_deref().unwrap_or(kept.letter.component);
        let name = to.map_or(name, |output| plan.outputs[output].name.as_str());
        if kept.letter.kind == ComponentKind::Output && lacks_values(name) {
            lacking.insert(name.to_owned());
        }
        match to {
            _ if kept.letter.kind != ComponentKind::Output => left.unread += 1,
            Some(output) if !targets.contains(&output) => targets.push(output),
            Some(_) => {}
            None => left.homeless += 1,
        }
        Ok(true)
    })?;
    if configuration::refuse_unset(&loaded, |unset| lacking.iter().any(|name| unset.is_below(&["outputs", name]))) {
        return Ok(Exit::Configuration);
    }
    left.report(&queue);
    if targets.is_empty() {
        arguments.choice.tell_of_unknown(&queue)?;
        output::print("no letters to replay\n")?;
        return Ok(Exit::Done);
    }
    let claim = queue.claim(|kept| {
        let letter = &kept.letter;
        let known = target(letter).is_some_and(|output| targets.contains(&output));
        letter.kind == ComponentKind::Output && arguments.choice.takes(letter) && known
    })?;
    if let Some(name) = writes_files(plan, &targets, claim.engine_runs) {
        let others = others(plan, &targets, claim.engine_runs);
        claim.give_back()?;
        output::complain(&format!(
            "error: the output `{name}` writes files that a running Tailwater or its write-ahead log keeps track of: the next \
             start would cut off what a replay adds; {others}name another output with --output, such as a `file` output that is in no \
             pipeline, while Tailwater is stopped (docs/dead-letters.md, \"Put dead letters into a file\")\n"
        ));
        return Ok(Exit::Failed);
    }
    send(plan, claim, jobs(plan, &targets, arguments.output.is_some()))
}

/// The letters for each target. If all go to one, it takes those of others too.
fn jobs(plan: &Plan, targets: &[usize], to_one: bool) -> Vec<Job> {
    let job = |&output: &usize| {
        let (name, was) = (plan.outputs[output].name.clone(), plan.outputs[output].was.clone());
        let is_mine = move |component: &str| component == name || was.as_deref() == Some(component);
        Job { output, choice: Arc::new(move |letter: &DeadLetter<'_>| to_one || is_mine(letter.component)) }
    };
    targets.iter().map(job).collect()
}

/// Dead letters that cannot be sent.
#[derive(Default)]
struct Left {
    unread: u64,
    homeless: u64,
}

impl Left {
    fn report(&self, queue: &Queue) {
        let path = queue.path();
        if self.unread > 0 {
            output::complain(&format!(
                "note: {} of inputs and pipelines stay in {}, because they never reached an output; use `tailwater dlq cat` to \
                 print their bytes\n",
                counted(self.unread, "letter"),
                path.display()
            ));
        }
        if self.homeless > 0 {
            output::complain(&format!(
                "note: {} of outputs that are not in the configuration stay in {}: choose an output with --output\n",
                counted(self.homeless, "letter"),
                path.display()
            ));
        }
    }
}

/// Whether the replay must not write the files of an output.
fn is_kept_track_of(plan: &Plan, output: usize, engine_runs: bool) -> bool {
    let output = &plan.outputs[output];
    output.settings.type_name() == WRITES_FILES && (engine_runs || output.used)
}

/// A target whose files the replay must not write.
fn writes_files<'a>(plan: &'a Plan, targets: &[usize], engine_runs: bool) -> Option<&'a str> {
    let found = targets.iter().find(|output| is_kept_track_of(plan, **output, engine_runs));
    found.map(|&output| plan.outputs[output].name.as_str())
}

/// How to replay the letters of the other targets, as the beginning of a list of choices; empty if there are none.
fn others(plan: &Plan, targets: &[usize], engine_runs: bool) -> String {
    let others = targets.iter().filter(|output| !is_kept_track_of(plan, **output, engine_runs));
    let all: Vec<String> = others.map(|&output| format!("`--component {}`", plan.outputs[output].name)).collect();
    match all.is_empty() {
        true => String::new(),
        false => format!("replay the letters of the other outputs with {}, or ", all.join(" and then ")),
    }
}

fn send(plan: &Plan, claim: Claim, jobs: Vec<Job>) -> anyhow::Result<Exit> {
    let log = log::start(LogOptions { level: tracing::Level::WARN, json: Some(false) })?;
    let stop = Stop::new();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (closer, ended) = (signals.handle(), stop.clone());
    let heeding = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if signals.forever().next().is_some() {
            ended.enter(Phase::Forced);
        }
    })?;
    let (letters, directory) = (claim.letters, claim.folder.join("run"));
    let segments = claim.segments.clone();
    let result = replay::replay(
        plan,
        Replay { segments, letters, jobs, longest: claim.longest, directory: directory.clone() },
        stop,
    );
    closer.close();
    let _ = heeding.join();
    drop(log);
    match result {
        Ok(Replayed { delivered, refused, whole: true }) => {
            claim.hand_over(&shard_folder(&directory, ShardId(0)))?;
            claim.finish()?;
            output::print(&format!(
                "{} replayed: {delivered} delivered, {refused} rejected again\n",
                counted(letters, "letter")
            ))?;
            if refused == 0 {
                return Ok(Exit::Done);
            }
            output::complain("note: the rejected letters are back in the queue with the new reason\n");
            Ok(Exit::Failed)
        }
        Ok(Replayed { delivered, .. }) => {
            claim.give_back()?;
            output::complain(&format!(
                "stopped before everything was delivered: {} back in the queue, of which {delivered} already delivered, to be \
                 delivered again\n",
                counted(letters, "letter")
            ));
            Ok(Exit::Unfinished)
        }
        Err(error) => {
            claim.give_back()?;
            output::complain(&format!("error: {error}\n{} back in the queue\n", counted(letters, "letter")));
            Ok(if matches!(error, RunError::Unfinished) { Exit::Unfinished } else { Exit::Failed })
        }
    }
}
