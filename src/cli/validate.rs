//! `validate`: prints what would run, or every error of the configuration.

use super::configuration::{self, FileArguments};
use super::looks::{self, LIMIT_OF_CHECK, Noted};
use super::{Exit, output};
use clap::Args;
use tailwater_shards::counted::counted;
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
    let (file, no_files) = (arguments.file.clone(), arguments.no_files);
    let check = move |disk: &Noted| {
        disk.note(&file.config);
        let loaded = if no_files { configuration::load(&file) } else { configuration::check(&file, disk) };
        match loaded {
            Some(loaded) => output::print(&loaded.plan.summary::<GlommioEnv>()).map(|()| Exit::Done),
            None => Ok(Exit::Configuration),
        }
    };
    looks::within(LIMIT_OF_CHECK, check, drop).unwrap_or_else(|path| {
        let (path, seconds) = (path.display(), counted(LIMIT_OF_CHECK.as_secs(), "second"));
        output::complain(&format!(
            "error: {path}: no answer for {seconds}, so the check cannot go on\n{}, or check without files (--no-files)\n",
            looks::HELP
        ));
        Ok(Exit::Failed)
    })
}
