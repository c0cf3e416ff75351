//! Loads the configuration file for several commands, and prints its problems.

use super::output;
use crate::app::{data_dir, exposed};
use crate::config::problem::{Problem, Severity};
use crate::config::raw::DATA_DIR_DEFAULT;
use crate::config::{self, Circumstances, Loaded, Refused};
use crate::telemetry::log;
use clap::Args;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use tailwater_shards::counted::counted;
use tailwater_shards::glommio_env::{GlommioEnv, RealDisk, allowed_cpus};

/// The options that name the configuration.
#[derive(Args)]
pub struct FileArguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    pub data_dir: DataDirArguments,
}

/// The option that names the data directory.
#[derive(Args)]
pub struct DataDirArguments {
    /// The data directory (write-ahead log, positions, dead letters); overrides `data_dir` of the file
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// The options that name a data directory.
#[derive(Args)]
pub struct Place {
    /// The configuration file that names the data directory
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub data_dir: DataDirArguments,
}

impl Place {
    /// The data directory; none if the configuration cannot be used.
    pub fn root(&self) -> Option<PathBuf> {
        if let Some(data_dir) = &self.data_dir.data_dir {
            return Some(data_dir.clone());
        }
        let Some(config) = self.config.clone() else { return Some(PathBuf::from(DATA_DIR_DEFAULT)) };
        load(&FileArguments { config, data_dir: DataDirArguments { data_dir: None } })
            .map(|loaded| loaded.plan.data_dir)
    }
}

/// The environment of this process.
pub fn circumstances(data_dir: Option<PathBuf>) -> Circumstances {
    let here = Circumstances::here(data_dir);
    match allowed_cpus().len() {
        0 => here,
        cpus => Circumstances { cpus, ..here },
    }
}

/// Loads the file and prints its problems. Returns the plan if there is one.
pub fn load(arguments: &FileArguments) -> Option<Loaded> {
    let loaded = load_for_run(arguments)?;
    show_warnings(&loaded);
    Some(loaded)
}

/// The same, but leaves warnings to the caller: see [`warn`].
pub fn load_for_run(arguments: &FileArguments) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    let mut loaded = accepted(config::load_file::<GlommioEnv>(&arguments.config, &here, &RealDisk::new()))?;
    loaded.warnings.problems.extend(exposed::warnings(&loaded, &arguments.config));
    Some(loaded)
}

/// Loads the file, prints its problems, and also reads the files that the configuration names.
pub fn check(arguments: &FileArguments) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    let mut loaded = accepted(config::check_file::<GlommioEnv>(&arguments.config, &here, &RealDisk::new()))?;
    loaded.warnings.problems.extend(exposed::warnings(&loaded, &arguments.config));
    loaded.warnings.problems.extend(of_data_dir(&loaded));
    show_warnings(&loaded);
    Some(loaded)
}

/// Who could change the data directory. The user of this process may be another one than that of the service.
fn of_data_dir(loaded: &Loaded) -> Vec<Problem> {
    let path = &loaded.plan.data_dir;
    let shown = path.display();
    let refused = data_dir::objection(path).map(|data_dir::Objection { what, help }| {
        let label = "a start by this user refuses it";
        Problem { severity: Severity::Warning, ..Problem::whole(format!("the data directory {shown}: {what}")) }
            .label(label)
            .help(help)
    });
    let doubted = data_dir::doubt(path).map(|data_dir::Objection { what, help }| {
        Problem { severity: Severity::Warning, ..Problem::whole(what) }.help(help)
    });
    refused.into_iter().chain(doubted).collect()
}

/// Tells the warnings of a configuration that runs: as text on a terminal, otherwise as lines of the application log.
pub fn warn(loaded: &Loaded) {
    if std::io::stderr().is_terminal() {
        return show_warnings(loaded);
    }
    let report = &loaded.warnings;
    for problem in &report.problems {
        let place = problem.span.map(|span| report.line_and_column(span.start));
        tracing::warn!(
            target: log::SAID_ONCE,
            file = report.file,
            line = place.map(|(line, _)| line as u64),
            column = place.map(|(_, column)| column as u64),
            help = problem.help,
            "{}", problem.what
        );
    }
}

fn show_warnings(loaded: &Loaded) {
    output::complain_painted(&loaded.warnings.render(output::stderr_colors()));
}

fn accepted(result: Result<Loaded, Refused>) -> Option<Loaded> {
    match result {
        Ok(loaded) => Some(loaded),
        Err(Refused { report }) => {
            output::complain_painted(&report.render(output::stderr_colors()));
            let errors = report.problems.iter().filter(|p| p.severity == Severity::Error).count();
            output::complain(&format!("{}: {}\n", report.file, counted(errors, "error")));
            None
        }
    }
}
