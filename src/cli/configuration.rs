//! Loads the configuration file for several commands, and prints its problems.

use super::output;
use crate::config::raw::DATA_DIR_DEFAULT;
use crate::config::{self, Circumstances, Loaded, Refused};
use clap::Args;
use std::path::PathBuf;
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
    let here = circumstances(arguments.data_dir.data_dir.clone());
    shown(config::load_file::<GlommioEnv>(&arguments.config, &here))
}

/// The same, and also reads the files that the configuration names.
pub fn check(arguments: &FileArguments) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    shown(config::check_file::<GlommioEnv>(&arguments.config, &here, &RealDisk::new()))
}

fn shown(result: Result<Loaded, Refused>) -> Option<Loaded> {
    match result {
        Ok(loaded) => {
            output::complain_painted(&loaded.warnings.render(output::stderr_colors()));
            Some(loaded)
        }
        Err(Refused { report }) => {
            output::complain_painted(&report.render(output::stderr_colors()));
            let errors = report.problems.iter().filter(|p| p.severity == config::problem::Severity::Error).count();
            let noun = if errors == 1 { "error" } else { "errors" };
            output::complain(&format!("{}: {errors} {noun}, not started\n", report.file));
            None
        }
    }
}
