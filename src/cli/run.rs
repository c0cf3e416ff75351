//! `run`: runs the collector; this is what a service manager starts.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use crate::app::{self, RunError, RunOptions};
use crate::config::Loaded;
use crate::telemetry::log::{self, LogError};
use clap::Args;
use tailwater_shards::stop::Stop;

/// Run the collector; SIGTERM or SIGINT stops it after delivering what was read, a second signal at once
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // From the beginning: a signal during the loading of the configuration must not kill the process.
    app::survive_signals()?;
    let Some(Loaded { plan, .. }) = configuration::load(&arguments.file) else {
        return Ok(Exit::Configuration);
    };
    let log = match log::start(plan.log_options()) {
        Ok(log) => log,
        Err(error @ LogError::Filter(_)) => {
            output::complain(&format!("error: {error}\n"));
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error.into()),
    };
    // Print the buffered log lines before the error.
    let counter = log.counter();
    let options = RunOptions {
        log_dropped: Box::new(move || counter.get().lines_dropped),
        admin_bound: std::sync::Arc::new(|address| tracing::info!(%address, "admin endpoint: /livez /readyz /metrics")),
        stop: Stop::new(),
    };
    let result = app::run(plan, options);
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
            Ok(Exit::Failed)
        }
    }
}
