//! `run`: runs the collector; this is what a service manager starts.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use crate::app::{self, RunError, RunOptions};
use crate::config::Plan;
use crate::config::plan::GivenUp;
use crate::config::raw::wrong_name;
use crate::telemetry::log::{self, LogError};
use clap::Args;
use tailwater_shards::stop::Stop;

/// Run the collector; SIGTERM or SIGINT stops it after delivering what was read, a second signal at once
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Discard what is kept for an input or output that was removed from the configuration: the events that wait for the output
    /// are discarded or become dead letters, and the positions of the input are deleted. Without this option, Tailwater does not
    /// start while events wait for a removed output
    #[arg(long, value_name = "NAME[=dead_letters]", value_parser = given_up)]
    discard_removed: Vec<GivenUp>,
}

fn given_up(text: &str) -> Result<GivenUp, String> {
    let (name, fate) = text.split_once('=').unwrap_or((text, ""));
    let dead_letters = match fate {
        "" if !text.contains('=') => false,
        "dead_letters" => true,
        _ => return Err("use NAME or NAME=dead_letters".to_owned()),
    };
    match wrong_name(name) {
        None => Ok(GivenUp { name: name.to_owned(), dead_letters }),
        Some(reason) => Err(format!("invalid name: {reason}")),
    }
}

/// Why the state of a component cannot be discarded: it is still in use.
fn is_still_there(plan: &Plan) -> Option<String> {
    let inputs = plan.inputs.iter().map(|input| ("input", input.used, &input.name, &input.was));
    let outputs = plan.outputs.iter().map(|output| ("output", output.used, &output.name, &output.was));
    let components: Vec<_> = inputs.chain(outputs).collect();
    plan.given_up.iter().find_map(|given_up| {
        let mine = |was: &Option<String>| was.as_ref() == Some(&given_up.name);
        let (kind, _, name, was) =
            components.iter().find(|(_, used, name, was)| (*used && **name == given_up.name) || mine(was))?;
        let how =
            if mine(was) { format!("continues as the {kind} `{name}`") } else { format!("is an {kind} of a pipeline") };
        Some(format!("--discard-removed {0}: `{0}` {how}, so there is nothing to discard", given_up.name))
    })
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // First of all: a signal that arrives while the configuration is loaded must not kill the process.
    app::survive_signals()?;
    let Some(mut loaded) = configuration::load_for_run(&arguments.file) else {
        return Ok(Exit::Configuration);
    };
    let plan = &mut loaded.plan;
    plan.given_up.clone_from(&arguments.discard_removed);
    if let Some(reason) = is_still_there(plan) {
        output::complain(&format!("error: {reason}\n"));
        return Ok(Exit::Usage);
    }
    let log = match log::start(loaded.plan.log_options()) {
        Ok(log) => log,
        Err(error @ LogError::Filter(_)) => {
            output::complain(&format!("error: {error}\n"));
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error.into()),
    };
    loaded.warnings.problems.extend(configuration::of_bases(&loaded.plan));
    configuration::warn(&loaded);
    // Print the buffered log lines before the error.
    let counter = log.counter();
    let options = RunOptions {
        log_dropped: Box::new(move || counter.get().lines_dropped),
        admin_bound: std::sync::Arc::new(|address| tracing::info!(%address, "admin endpoint: /livez /readyz /metrics")),
        stop: Stop::new(),
    };
    let result = app::run(loaded.plan, options);
    drop(log);
    match result {
        Ok(_) => Ok(Exit::Done),
        // The log has already reported this, with the reason.
        Err(RunError::Unfinished) => Ok(Exit::Unfinished),
        Err(error) => {
            output::complain(&format!("error: {error}\n"));
            if matches!(error, RunError::Forbidden(_)) {
                output::complain("run `tailwater doctor` to check everything else\n");
            }
            Ok(if matches!(error, RunError::Configuration(_)) { Exit::Configuration } else { Exit::Failed })
        }
    }
}
