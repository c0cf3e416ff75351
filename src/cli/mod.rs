//! The command line: one file per command.
//!
//! Guarantees: the exit code is 0, 1 (it failed while running), 64 (usage), 75 (stopped before everything was delivered) or 78
//! (configuration). Results go to standard output, everything else to standard error. If the reader of standard output goes
//! away, the program exits normally.

mod configuration;
mod demo;
mod dlq;
mod doctor;
mod looks;
mod output;
mod run;
mod schema;
mod show;
mod test;
mod try_;
mod validate;
mod wal;

use crate::codec::visible::steers;
use clap::error::{ContextKind, ErrorKind};
use clap::{Parser, Subcommand};
use output::ReaderGone;
use std::ffi::OsString;
use tailwater_shards::glommio_env::keep_memory_private;
use tailwater_shards::scan::Tier;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Success.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// The command line is invalid.
    Usage = 64,
    /// It was stopped before everything was delivered; the rest waits for the next start.
    Unfinished = 75,
    /// The configuration cannot be used.
    Configuration = 78,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> std::process::ExitCode {
        std::process::ExitCode::from(exit as u8)
    }
}

/// Collects logs from inputs, stores them in a write-ahead log, and delivers them to outputs without losing events
#[derive(Parser)]
#[command(name = "tailwater", version, max_term_width = 100, disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Demo(demo::Arguments),
    Run(run::Arguments),
    Validate(validate::Arguments),
    Try(try_::Arguments),
    Test(test::Arguments),
    Schema(schema::Arguments),
    Doctor(doctor::Arguments),
    Wal(wal::Arguments),
    Dlq(dlq::Arguments),
}

/// The variable that allows core files and debuggers of the same user, if it is `1`.
const CORE_DUMPS_VARIABLE: &str = "TAILWATER_CORE_DUMPS";

/// What to write for a configuration that is named without its option, or before the command.
fn misplaced_configuration(error: &clap::Error) -> Option<&'static str> {
    let unknown =
        error.get(ContextKind::InvalidArg).filter(|_| error.kind() == ErrorKind::UnknownArgument)?.to_string();
    let is_file = [".yaml", ".yml"].iter().any(|ending| unknown.ends_with(ending));
    let is_option = ["-c", "--config"].contains(&unknown.as_str());
    (is_file || is_option).then_some("\nThe configuration is named behind the command: tailwater run -c FILE\n")
}

/// Runs the program with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    // Before anything secret is read: a configuration holds passwords, and buffers hold events.
    if std::env::var_os(CORE_DUMPS_VARIABLE).is_none_or(|value| value != "1")
        && let Err(error) = keep_memory_private()
    {
        output::complain(&format!("warning: others may read the memory of this process: {error}\n"));
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not errors: clap prints them to standard output.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
            let plain = error.to_string();
            let hint = misplaced_configuration(&error);
            match plain.chars().any(|c| steers(c) && !matches!(c, '\n' | '\t')) {
                // It repeats an argument, which a pattern of the shell may have made of a stranger's file name.
                true => output::complain(&plain),
                false => _ = error.print(),
            }
            output::complain(hint.unwrap_or_default());
            return exit;
        }
    };
    if let Err(error) = Tier::highest() {
        output::complain(&format!("error: {error}\n"));
        return Exit::Usage;
    }
    let result = match arguments.verb {
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Validate(arguments) => validate::run(&arguments),
        Verb::Try(arguments) => try_::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Schema(arguments) => schema::run(&arguments),
        Verb::Doctor(arguments) => doctor::run(&arguments),
        Verb::Wal(arguments) => wal::run(&arguments),
        Verb::Dlq(arguments) => dlq::run(&arguments),
    };
    match result {
        Ok(exit) => exit,
        Err(error) if error.is::<ReaderGone>() => Exit::Done,
        Err(error) => {
            output::complain(&format!("error: {error:#}\n"));
            Exit::Failed
        }
    }
}
