//! `run`: what the service manager starts.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use crate::config::Loaded;
use crate::telemetry::log::{self, LogError};
use clap::Args;
use tailwater_shards::glommio_env::io_uring_allowed;

/// Run until a signal ends it: SIGTERM and SIGINT drain, a second one forces
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(Loaded { plan, .. }) = configuration::load(&arguments.file) else {
        return Ok(Exit::Configuration);
    };
    if let Err(refusal) = io_uring_allowed() {
        output::complain(&format!("error: io_uring cannot be used here: {}\n", refusal.detail()));
        output::complain(&format!("  fix: {}\n`tailwater doctor` looks at everything else too\n", refusal.fix()));
        return Ok(Exit::Failed);
    }
    let log = match log::start(plan.log_options()) {
        Ok(log) => log,
        Err(error @ LogError::Filter(_)) => {
            output::complain(&format!("error: {error}\n"));
            return Ok(Exit::Usage);
        }
        Err(error) => return Err(error.into()),
    };
    // What the log still holds comes before what the error says.
    let result = crate::app::run(plan, log.counter());
    drop(log);
    result.map(|()| Exit::Done)
}
