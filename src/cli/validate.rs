//! `validate`: prints what would run, or every error of the configuration.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use clap::Args;
use tailwater_shards::glommio_env::GlommioEnv;

/// Check a configuration; print what would run, or every error
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Do not read the files that the configuration names (tables of `enrich`, certificates and keys of `tls`)
    #[arg(long)]
    no_files: bool,
}

/// Runs the command.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let load = if arguments.no_files { configuration::load } else { configuration::check };
    match load(&arguments.file) {
        Some(loaded) => output::print(&loaded.plan.summary::<GlommioEnv>()).map(|()| Exit::Done),
        None => Ok(Exit::Configuration),
    }
}
