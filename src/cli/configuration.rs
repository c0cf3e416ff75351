//! Loads the configuration file for several commands, and prints its problems.

use super::looks::{self, LIMIT_OF_START, Noted};
use super::output;
use crate::app::{data_dir, exposed, trusted};
use crate::config::links::{bases, exchangeable};
use crate::config::plan::Plan;
use crate::config::problem::{Problem, Severity};
use crate::config::raw::DATA_DIR_DEFAULT;
use crate::config::unset::Unset;
use crate::config::{self, Circumstances, Loaded, Refused, Report};
use crate::telemetry::log;
use clap::Args;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use tailwater_shards::counted::counted;
use tailwater_shards::glommio_env::{GlommioEnv, RealDisk, allowed_cpus};

/// The options that name the configuration.
#[derive(Args, Clone)]
pub struct FileArguments {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    pub config: PathBuf,
    #[command(flatten)]
    pub data_dir: DataDirArguments,
}

/// The option that names the data directory.
#[derive(Args, Clone)]
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
        let file = FileArguments { config, data_dir: DataDirArguments { data_dir: None } };
        load_part(&file, |_, unset| unset.is_below(&["data_dir"])).map(|loaded| loaded.plan.data_dir)
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
    let loaded = load_file(arguments)?;
    show_warnings(&loaded);
    Some(loaded)
}

/// The same for a start: refuses a configuration that others can change, and leaves warnings to the caller: see [`warn`].
pub fn load_for_run(arguments: &FileArguments) -> Option<Loaded> {
    load_file(arguments).filter(|loaded| !refuse_of_others(loaded, arguments))
}

/// Prints that others can change the configuration, if this process must not do what it says. False if it may.
pub fn refuse_of_others(loaded: &Loaded, arguments: &FileArguments) -> bool {
    let refusal = trusted::refusal(loaded, &arguments.config);
    let is_refused = refusal.is_some();
    refusal.into_iter().for_each(|problem| refuse(&Report { problems: vec![problem], ..loaded.warnings.clone() }));
    is_refused
}

fn load_file(arguments: &FileArguments) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    let mut loaded = accepted(config::load_file::<GlommioEnv>(&arguments.config, &here, &RealDisk::new()))?;
    loaded.warnings.problems.extend(of_files(&loaded, &arguments.config));
    Some(loaded)
}

/// Loads the file for a command that uses only a part of it, and prints its problems: only variables that `needs` selects must be set.
pub fn load_part(arguments: &FileArguments, needs: impl Fn(&Loaded, &Unset) -> bool) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    let mut loaded = accepted(config::load_file_in_part::<GlommioEnv>(&arguments.config, &here, &RealDisk::new()))?;
    if refuse_unset(&loaded, |unset| needs(&loaded, unset)) {
        return None;
    }
    loaded.warnings.problems.extend(of_files(&loaded, &arguments.config));
    show_warnings(&loaded);
    Some(loaded)
}

/// Prints the variables that must be set and are not. False if there are none.
pub fn refuse_unset(loaded: &Loaded, needs: impl Fn(&Unset) -> bool) -> bool {
    let needed = loaded.unset.iter().filter(|unset| needs(unset)).map(|unset| unset.problem.clone());
    let mut problems: Vec<Problem> = needed.collect();
    // A value that an alias repeats is needed at several places.
    problems.sort_by_key(|problem| problem.span);
    problems.dedup();
    let is_refused = !problems.is_empty();
    if is_refused {
        refuse(&Report { problems, ..loaded.warnings.clone() });
    }
    is_refused
}

/// The same for a command that shows what happens to events: what outputs are set to does not matter as long as it is known which there are.
pub fn load_without_outputs(config: PathBuf) -> Option<Loaded> {
    let file = FileArguments { config, data_dir: DataDirArguments { data_dir: None } };
    load_part(&file, |loaded, unset| {
        let is_known = |name: &String| loaded.plan.outputs.iter().any(|output| output.name == *name);
        !(unset.is_below(&["outputs"]) && unset.path.get(1).is_some_and(is_known))
    })
}

/// Loads the file, prints its problems, and also reads the files that the configuration names.
pub fn check(arguments: &FileArguments, disk: &Noted) -> Option<Loaded> {
    let here = circumstances(arguments.data_dir.data_dir.clone());
    let mut loaded = accepted(config::check_file::<GlommioEnv>(&arguments.config, &here, disk))?;
    disk.note(&arguments.config);
    loaded.warnings.problems.extend(of_files(&loaded, &arguments.config));
    disk.note(&loaded.plan.data_dir);
    loaded.warnings.problems.extend(of_data_dir(&loaded));
    show_warnings(&loaded);
    Some(loaded)
}

/// Who can read secrets, or change what the process does.
fn of_files(loaded: &Loaded, file: &Path) -> Vec<Problem> {
    exposed::warnings(loaded, file).into_iter().chain(trusted::warnings(loaded, file)).collect()
}

/// Who could change the data directory. The user of this process may be another one than that of the service.
fn of_data_dir(loaded: &Loaded) -> Vec<Problem> {
    let path = &loaded.plan.data_dir;
    let shown = path.display();
    let refused = data_dir::objection_to_check(path).map(|data_dir::Objection { what, help }| {
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

/// Warns of each directory where a pattern begins that others can exchange. A directory that does not answer is told, and the start goes
/// on: the input looks at it by itself. When it answers later, its warning is a line of the application log.
pub fn of_bases(plan: &Plan) -> Vec<Problem> {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let (mut problems, mut given_up) = (Vec::new(), 0);
    for base in bases(plan, &here) {
        if given_up == looks::GIVEN_UP_MAX {
            let what = format!(
                "{}: not checked for who can exchange it, because others before it do not answer",
                base.display()
            );
            problems.push(Problem { severity: Severity::Warning, ..Problem::whole(what) });
            continue;
        }
        let (own, late) = (base.clone(), base.clone());
        let look = move |disk: &Noted| exchangeable(&own, disk);
        let answers = move |problem: Option<Problem>| {
            tracing::info!("{}: it answers", late.display());
            problem.iter().for_each(|problem| tell(problem, "", None));
        };
        match looks::within(LIMIT_OF_START, look, answers) {
            Ok(problem) => problems.extend(problem),
            Err(path) => {
                given_up += 1;
                let seconds = counted(LIMIT_OF_START.as_secs(), "second");
                let what = format!("{}: no answer for {seconds}: the start goes on without it", path.display());
                problems.push(Problem { severity: Severity::Warning, ..Problem::whole(what) }.help(looks::HELP));
            }
        }
    }
    problems
}

/// Tells the warnings of a configuration that runs: as text on a terminal, otherwise as lines of the application log.
pub fn warn(loaded: &Loaded) {
    if std::io::stderr().is_terminal() {
        return show_warnings(loaded);
    }
    let report = &loaded.warnings;
    for problem in &report.problems {
        tell(problem, &report.file, problem.span.map(|span| report.line_and_column(span.start)));
    }
}

fn tell(problem: &Problem, file: &str, place: Option<(usize, usize)>) {
    tracing::warn!(
        target: log::SAID_ONCE,
        file,
        line = place.map(|(line, _)| line as u64),
        column = place.map(|(_, column)| column as u64),
        help = problem.help,
        "{}", problem.what
    );
}

fn show_warnings(loaded: &Loaded) {
    output::complain_painted(&loaded.warnings.render(output::stderr_colors()));
}

fn accepted(result: Result<Loaded, Refused>) -> Option<Loaded> {
    match result {
        Ok(loaded) => Some(loaded),
        Err(Refused { report }) => {
            refuse(&report);
            None
        }
    }
}

/// Prints why a configuration cannot be used.
fn refuse(report: &Report) {
    output::complain_painted(&report.render(output::stderr_colors()));
    let errors = report.problems.iter().filter(|p| p.severity == Severity::Error).count();
    output::complain(&format!("{}: {}\n", report.file, counted(errors, "error")));
}
