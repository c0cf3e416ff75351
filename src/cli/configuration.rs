//! The file that several verbs read, and how its problems are shown.

use super::output;
use crate::config::raw::DATA_DIR_DEFAULT;
use crate::config::{self, Circumstances, Loaded, Refused};
use clap::Args;
use std::path::PathBuf;
use tailwater_shards::glommio_env::{GlommioEnv, RealDisk, allowed_cpus};

/// Which configuration.
#[derive(Args)]
pub struct FileArguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    pub data_dir: DataDirArguments,
}

/// Where data is kept.
#[derive(Args)]
pub struct DataDirArguments {
    /// The directory of the write-ahead log, instead of the one that the file names
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

/// Which data directory.
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

/// The circumstances of this process.
pub fn circumstances(data_dir: Option<PathBuf>) -> Circumstances {
    let here = Circumstances::here(data_dir);
    match allowed_cpus().len() {
        0 => here,
        cpus => Circumstances { cpus, ..here },
    }
}

/// Reads the file, shows its problems, and gives the plan if there is one.
pub fn load(arguments: &FileArguments) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    shown(config::load_file::<GlommioEnv>(&arguments.config, &here))
}

/// The same, and reads the files that it names.
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
            output::complain(&format!("{}: {errors} {noun}, nothing is started\n", report.file));
            None
        }
    }
}
