//! `validate`: says what would run, or everything that is wrong.

use super::configuration::{self, FileArguments};
use super::{Exit, output};
use clap::Args;
use tailwater_shards::glommio_env::GlommioEnv;

/// Check a configuration and print what would run
#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    file: FileArguments,
    /// Do not read the files that it names: tables of `enrich`, certificates and keys of `tls`
    #[arg(long)]
    no_files: bool,
}

/// Runs the verb.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let load = if arguments.no_files { configuration::load } else { configuration::check };
    match load(&arguments.file) {
        Some(loaded) => output::print(&loaded.plan.summary::<GlommioEnv>()).map(|()| Exit::Done),
        None => Ok(Exit::Configuration),
    }
}
