//! `doctor`: checks whether this machine can run Tailwater, and how to fix what prevents it.
//!
//! Changes nothing, except that it creates a file in the data directory and removes it again, to check that it can.

use super::configuration::{circumstances, load_part};
use super::looks::{self, LIMIT, Noted};
use super::{Exit, output};
use crate::app::{advice, data_dir, machine};
use crate::config::Loaded;
use crate::config::plan::OutputPlan;
use crate::config::raw::{DATA_DIR_DEFAULT, Shards};
use crate::config::unset::Unset;
use crate::inputs::InputConfig;
use crate::inputs::file::fixed;
use crate::inputs::file::patterns::Patterns;
use crate::inputs::file::scout::Refusal;
use crate::outputs::OutputConfig;
use crate::outputs::file::paths::{exchanged_by_others, linked_directory, open_to_others};
use crate::outputs::file::template::PathTemplate;
use clap::Args;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tailwater_shards::counted::counted;
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::{Finding, State, allowed_cpus, probe, raise_open_files, resources};
use tailwater_shards::limits;
use tailwater_shards::limits::sums::Sums;
use tailwater_shards::scan::{TIER_VARIABLE, Tier};

/// Check kernel, limits and disk, with a fix for each problem
#[derive(Args)]
pub struct Arguments {
    /// The configuration file with the data directory and shards to check
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    data_dir: super::configuration::DataDirArguments,
}

/// What the configuration needs from the machine.
struct Needs {
    data_dir: PathBuf,
    shards: usize,
    segment_bytes: u64,
    /// For the write-ahead log and the dead letters, as `validate` adds them up.
    disk_bytes: u64,
    /// CPUs that shards are pinned to.
    pinned: Vec<usize>,
    /// The files of outputs.
    files: Vec<PathTemplate>,
    /// Where inputs begin to look for files.
    bases: BTreeSet<PathBuf>,
    /// What cannot be checked.
    unknown: Vec<Finding>,
    /// What the configuration adds up to.
    sums: Option<Sums>,
}

impl Needs {
    fn room(&self) -> Room {
        let least = limits::SEGMENTS_MIN * self.segment_bytes * self.shards as u64;
        Room { least: least.min(self.disk_bytes), wanted: self.disk_bytes }
    }
}

/// Bytes that must be free in the data directory, and that should be.
struct Room {
    least: u64,
    wanted: u64,
}

/// The finding about open files, as the probe calls it.
const OPEN_FILES: &str = "open files";

/// Runs the command: exit code 1 if something prevents Tailwater from running.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(needs) = needs(arguments) else { return Ok(Exit::Configuration) };
    let mut findings = probe(needs.shards).findings;
    raise_open_files();
    if let Some((what, fix)) = needs.sums.as_ref().and_then(|sums| machine::open_files(sums, &resources())) {
        findings.retain(|found| found.name != OPEN_FILES);
        findings.push(finding(OPEN_FILES, State::Warning, what, fix.to_owned()));
    }
    findings.push(processor(Tier::best()));
    findings.extend(pinned(&needs.pinned, &allowed_cpus()));
    findings.extend(of_places(&needs));
    findings.extend(needs.unknown);
    output::print(&report(&findings))?;
    let bad = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

/// The findings about directories. One that does not answer is a finding too.
fn of_places(needs: &Needs) -> Vec<Finding> {
    type Look = Box<dyn FnOnce(&Noted) -> Vec<Finding> + Send>;
    let (data_dir, free) = (needs.data_dir.clone(), needs.room());
    let data: Look = Box::new(move |disk| {
        disk.note(&data_dir);
        let found = directory(&data_dir).into_iter().chain(others(&data_dir));
        found.chain([free_disk(disk, &data_dir, &free)]).collect()
    });
    let outputs = needs.files.iter().cloned().map(|template| {
        let look: Look = Box::new(move |disk| output_directory(&template, disk));
        ("output directory", look)
    });
    let inputs = needs.bases.iter().cloned().map(|base| {
        let look: Look = Box::new(move |disk| input_directory(&base, disk).into_iter().collect());
        ("input directory", look)
    });
    let (mut findings, mut given_up) = (Vec::new(), 0);
    for (name, look) in [("data directory", data)].into_iter().chain(outputs).chain(inputs) {
        if given_up == looks::GIVEN_UP_MAX {
            let detail = "not checked, because others before it do not answer".to_owned();
            findings.push(finding(name, State::Warning, detail, String::new()));
            continue;
        }
        let found = looks::within(LIMIT, look, drop).unwrap_or_else(|path| {
            given_up += 1;
            let detail = format!("{}: no answer for {}", path.display(), counted(LIMIT.as_secs(), "second"));
            vec![finding(name, State::Problem, detail, looks::HELP.to_owned())]
        });
        // Several outputs may share a directory.
        for one in found {
            if !findings.contains(&one) {
                findings.push(one);
            }
        }
    }
    findings
}

fn needs(arguments: &Arguments) -> Option<Needs> {
    let data_dir = arguments.data_dir.data_dir.clone();
    let Some(config) = arguments.config.clone() else {
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        let shards = circumstances(None).cpus.clamp(1, limits::SHARDS_MAX);
        let segment_bytes = limits::SEGMENT_BYTES_DEFAULT;
        let letter_bytes = limits::dead_letter_bytes_default(shards, limits::LINE_BYTES_DEFAULT);
        let disk_bytes = limits::wal_bytes_default(shards, segment_bytes).saturating_add(letter_bytes);
        return Some(Needs {
            data_dir,
            shards,
            segment_bytes,
            disk_bytes,
            pinned: Vec::new(),
            files: Vec::new(),
            bases: BTreeSet::new(),
            unknown: Vec::new(),
            sums: None,
        });
    };
    let file =
        super::configuration::FileArguments { config, data_dir: super::configuration::DataDirArguments { data_dir } };
    let loaded = load_part(&file, |_, unset| !PARTS.iter().any(|part| unset.is_below(&[part])))?;
    let unknown = unknown(&loaded);
    let plan = loaded.plan;
    let disk_bytes = limits::sums::total(&plan.sums.disk);
    let pinned = match plan.shards {
        Shards::Cpus(cpus) => cpus,
        Shards::Auto | Shards::Count(_) => Vec::new(),
    };
    let segment_bytes = plan.wal.segment_bytes;
    let template = |output: &OutputPlan| match &output.settings {
        OutputConfig::File(settings) if output.used && !is_unknown(&loaded.unset, "outputs", &output.name) => {
            settings.template().ok()
        }
        _ => None,
    };
    let files = plan.outputs.iter().filter_map(template).collect();
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let bases = plan.inputs.iter().filter(|input| input.used).filter_map(|input| match &input.settings {
        InputConfig::File(_) if is_unknown(&loaded.unset, "inputs", &input.name) => None,
        InputConfig::File(settings) => Patterns::new(&settings.include, &settings.exclude, &here).ok(),
        _ => None,
    });
    let bases = bases.flat_map(|patterns| patterns.bases).map(|(_, base)| base).collect();
    let (data_dir, shards, sums) = (plan.data_dir, plan.shard_count, Some(plan.sums));
    Some(Needs { data_dir, shards, segment_bytes, disk_bytes, pinned, files, bases, unknown, sums })
}

/// The sections of which only the directories are checked.
const PARTS: [&str; 4] = ["inputs", "pipelines", "outputs", "tests"];

/// The settings that name directories.
const PLACES: [&str; 3] = ["include", "exclude", "path"];

/// Whether the directories of a component depend on a variable that is not set.
fn is_unknown(unset: &[Unset], section: &str, name: &str) -> bool {
    unset.iter().any(|unset| PLACES.iter().any(|key| unset.is_below(&[section, name, key])))
}

/// The components whose directories are not known.
fn unknown(loaded: &Loaded) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for unset in &loaded.unset {
        let (Some(section), Some(name)) = (unset.path.first(), unset.path.get(1)) else { continue };
        let (title, kind, is_read) = match section.as_str() {
            "inputs" => ("input directory", "input", loaded.plan.inputs.iter().any(|input| input.name == *name)),
            "outputs" => ("output directory", "output", loaded.plan.outputs.iter().any(|output| output.name == *name)),
            _ => continue,
        };
        if is_read && !is_unknown(&loaded.unset, section, name) {
            continue;
        }
        let detail = format!("the {kind} `{name}` is not checked: {}", unset.problem.what);
        if !findings.iter().any(|finding| finding.detail == detail) {
            findings.push(finding(title, State::Warning, detail, unset.problem.help.clone().unwrap_or_default()));
        }
    }
    findings
}

fn report(findings: &[Finding]) -> String {
    let mut out = String::new();
    for finding in findings {
        let state = match finding.state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Problem => "problem",
        };
        let _ = writeln!(out, "{state:<8} {:<22} {}", finding.name, finding.detail);
        if !finding.fix.is_empty() {
            let _ = writeln!(out, "{:<31} fix: {}", "", finding.fix);
        }
    }
    out
}

fn finding(name: &'static str, state: State, detail: String, fix: String) -> Finding {
    Finding { name, state, detail, fix }
}

/// The instruction set that parses events.
fn processor(tier: Tier) -> Finding {
    let detail = format!("events are parsed with {}", tier.name());
    if tier >= Tier::Avx2 {
        return finding("processor", State::Ok, detail, String::new());
    }
    let fix = match std::env::var_os(TIER_VARIABLE) {
        Some(_) => format!("unset the environment variable {TIER_VARIABLE}"),
        None => "use a processor with AVX2, which parses JSON several times as fast".to_owned(),
    };
    finding("processor", State::Warning, detail, fix)
}

/// The problem with the CPUs in the configuration, if there is one.
fn pinned(pinned: &[usize], allowed: &[usize]) -> Option<Finding> {
    let strange: Vec<&usize> = pinned.iter().filter(|cpu| !allowed.contains(cpu)).collect();
    if strange.is_empty() {
        return None;
    }
    let detail = format!("`shards` names the CPUs {strange:?}, but this process may use only {allowed:?}");
    let fix = "name other CPUs, or use `shards: auto`".to_owned();
    Some(finding("pinned CPUs", State::Problem, detail, fix))
}

/// Whether the data directory can be written. Nothing if a start refuses it, which is a problem of its own: root can write to
/// another user's, and that says nothing of a start.
fn directory(path: &Path) -> Option<Finding> {
    const NAME: &str = "data directory";
    if data_dir::keeper(path).is_some() || data_dir::objection(path).is_some() {
        return None;
    }
    let shown = path.display();
    let existing = existing(path);
    if existing != path {
        let detail = format!("{shown} does not exist yet; it is created at the first start");
        return Some(match writable(existing) {
            Ok(()) => finding(NAME, State::Ok, detail, String::new()),
            Err(error) => {
                let detail = format!("{shown} does not exist, and {} cannot be written: {error}", existing.display());
                let fix = format!("create {shown} and make it writable for the user that runs Tailwater");
                finding(NAME, State::Problem, detail, fix)
            }
        });
    }
    Some(match writable(path) {
        Ok(()) => finding(NAME, State::Ok, format!("{shown} can be written"), String::new()),
        Err(error) => {
            let fix =
                "make the directory writable for the user that runs Tailwater, or set another `data_dir`".to_owned();
            finding(NAME, State::Problem, format!("{shown} cannot be written: {error}"), fix)
        }
    })
}

/// What others can do where an output writes.
fn output_directory(template: &PathTemplate, disk: &impl Disk) -> Vec<Finding> {
    const NAME: &str = "output directory";
    let fixed = template.fixed_path();
    let mut findings = Vec::new();
    if let Some((directory, what)) = open_to_others(template, disk) {
        let detail = format!("{} {what}, who can replace and block the files of an output there", directory.display());
        let elsewhere =
            "set `path` to a directory that only root and the user that runs Tailwater can change, up to `/`";
        let fix = match data_dir::keeper_alone(&directory) {
            Some(owner) if directory == fixed => format!(
                "if that user runs Tailwater, check as that user: {}; otherwise, {elsewhere}",
                advice::again_as(owner, &directory)
            ),
            _ => advice::or_closing(elsewhere, &directory, &fixed),
        };
        findings.push(finding(NAME, State::Warning, detail, fix));
    }
    if let Some(link) = linked_directory(template, disk) {
        let detail =
            format!("{} is a symbolic link, which an output follows only up to {}", link.display(), fixed.display());
        let fix = "mount its target there (mount --bind), or name its target in `path`".to_owned();
        findings.push(finding(NAME, State::Warning, detail, fix));
    }
    if findings.is_empty() {
        findings.push(finding(
            NAME,
            State::Ok,
            format!("{} can be changed by nobody else", fixed.display()),
            String::new(),
        ));
    }
    findings
}

/// What others can do to a directory where an input begins to look.
fn input_directory(base: &Path, disk: &impl Disk) -> Option<Finding> {
    const NAME: &str = "input directory";
    if let Err(error) = fixed::resolve(disk, base)
        && let Some(refusal) = Refusal::of(&error)
    {
        let detail = format!("nothing is read in {}: {refusal}", base.display());
        return Some(finding(NAME, State::Warning, detail, refusal.help().to_owned()));
    }
    let (directory, what) = exchanged_by_others(base, disk)?;
    let detail =
        format!("{} {what}, who can put another directory in the place of {}", directory.display(), base.display());
    let elsewhere = "set `include` to a directory below ones that belong to root or to the user that runs Tailwater";
    Some(finding(NAME, State::Warning, detail, advice::or_closing(elsewhere, &directory, base)))
}

/// Who else could change the data directory or put another one in its place.
fn others(path: &Path) -> Vec<Finding> {
    let shown =
        |objection: data_dir::Objection, state| finding("data directory", state, objection.what, objection.help);
    let refused = data_dir::objection_to_check(path).map(|objection| shown(objection, State::Problem));
    let doubted = data_dir::doubt(path).map(|objection| shown(objection, State::Warning));
    refused.into_iter().chain(doubted).collect()
}

/// The directory itself, or its nearest existing parent.
fn existing(path: &Path) -> &Path {
    let all = path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
    all.into_iter().find(|ancestor| ancestor.exists()).unwrap_or_else(|| Path::new("."))
}

fn writable(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".tailwater-doctor-{}", std::process::id()));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)
}

fn free_disk(disk: &impl Disk, data_dir: &Path, room: &Room) -> Finding {
    const NAME: &str = "free disk";
    let directory = existing(data_dir);
    let free = match disk.free_bytes(directory) {
        Ok(free) => free,
        Err(error) => {
            let fix = "check that the file system is mounted".to_owned();
            return finding(
                NAME,
                State::Problem,
                format!("the free space of {} cannot be read: {error}", directory.display()),
                fix,
            );
        }
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let wanted = mib(room.wanted);
    let detail = format!(
        "{} free in {}; the write-ahead log and dead letters may take {wanted}",
        mib(free),
        directory.display()
    );
    let fix = "free disk space, move `data_dir`, or lower `wal.max_bytes` or `dlq.max_bytes`".to_owned();
    match free {
        _ if free < room.least => finding(NAME, State::Problem, detail, fix),
        _ if free < room.wanted => finding(NAME, State::Warning, detail, fix),
        _ => finding(NAME, State::Ok, detail, String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_that_may_not_be_used_are_named() {
        assert!(pinned(&[0, 1], &[0, 1]).is_none());
        let found = pinned(&[1, 99], &[0, 1]).expect("99 is not allowed");
        assert_eq!(found.state, State::Problem);
        assert!(found.detail.contains("[99]"), "{}", found.detail);
    }
}
