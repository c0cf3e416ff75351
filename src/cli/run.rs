//! `run`: what the service manager starts.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use crate::app::{self, RunError, RunOptions};
use crate::config::Loaded;
use crate::telemetry::log::{self, LogError};
use clap::Args;
use tailwater_shards::stop::Stop;

/// Run until a signal ends it: SIGTERM and SIGINT drain, a second one forces
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    // From the first moment: a signal that comes while the configuration is read means no end either.
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
    // What the log still holds comes before what the error says.
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
        // The log has said so, with the reason.
        Err(RunError::Unfinished) => Ok(Exit::Unfinished),
        Err(error) => {
            output::complain(&format!("error: {error}\n"));
            if matches!(error, RunError::Forbidden(_)) {
                output::complain("`tailwater doctor` looks at everything else too\n");
            }
            Ok(Exit::Failed)
        }
    }
}
