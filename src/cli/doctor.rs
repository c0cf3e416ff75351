//! `doctor`: what this machine allows, and what helps where it does not.
//!
//! Changes nothing, except that it makes a file in the data directory and removes it again, to know that it may.

use super::configuration::{circumstances, load};
use super::{Exit, output};
use crate::config::raw::{DATA_DIR_DEFAULT, Shards};
use clap::Args;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use tailwater_shards::env::Disk;
use tailwater_shards::glommio_env::{Finding, RealDisk, State, allowed_cpus, probe};
use tailwater_shards::limits;
use tailwater_shards::scan::{TIER_VARIABLE, Tier};

/// Check kernel, limits and disk, with a fix for each problem
#[derive(Args)]
pub struct Arguments {
    /// The configuration file whose data directory and shards are looked at
    #[arg(short, long, value_name = "FILE", env = "TAILWATER_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    data_dir: super::configuration::DataDirArguments,
}

/// What the configuration asks of the machine.
struct Needs {
    data_dir: PathBuf,
    shards: usize,
    segment_bytes: u64,
    /// Of the log and the dead letters, as `validate` adds them up.
    disk_bytes: u64,
    /// Cpus that shards are pinned to.
    pinned: Vec<usize>,
}

/// Runs the verb: exit 1 if something keeps Tailwater from running.
pub fn run(arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(needs) = needs(arguments) else { return Ok(Exit::Configuration) };
    let mut findings = probe(needs.shards).findings;
    findings.push(processor(Tier::best()));
    findings.extend(pinned(&needs.pinned, &allowed_cpus()));
    findings.push(directory(&needs.data_dir));
    findings.push(free_disk(&RealDisk::new(), &needs));
    output::print(&report(&findings))?;
    let bad = findings.iter().any(|finding| finding.state == State::Problem);
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

fn needs(arguments: &Arguments) -> Option<Needs> {
    let data_dir = arguments.data_dir.data_dir.clone();
    let Some(config) = arguments.config.clone() else {
        let data_dir = data_dir.unwrap_or_else(|| PathBuf::from(DATA_DIR_DEFAULT));
        let shards = circumstances(None).cpus.clamp(1, limits::SHARDS_MAX);
        let segment_bytes = limits::SEGMENT_BYTES_DEFAULT;
        let letter_bytes = limits::dead_letter_bytes_default(shards, limits::LINE_BYTES_DEFAULT);
        let disk_bytes = limits::wal_bytes_default(shards, segment_bytes).saturating_add(letter_bytes);
        return Some(Needs { data_dir, shards, segment_bytes, disk_bytes, pinned: Vec::new() });
    };
    let file =
        super::configuration::FileArguments { config, data_dir: super::configuration::DataDirArguments { data_dir } };
    let plan = load(&file)?.plan;
    let disk_bytes = limits::sums::total(&plan.sums.disk);
    let pinned = match plan.shards {
        Shards::Cpus(cpus) => cpus,
        Shards::Auto | Shards::Count(_) => Vec::new(),
    };
    let segment_bytes = plan.wal.segment_bytes;
    Some(Needs { data_dir: plan.data_dir, shards: plan.shard_count, segment_bytes, disk_bytes, pinned })
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

/// What the bytes of events are looked at with.
fn processor(tier: Tier) -> Finding {
    let detail = format!("bytes are looked at with {}", tier.name());
    if tier >= Tier::Avx2 {
        return finding("processor", State::Ok, detail, String::new());
    }
    let fix = match std::env::var_os(TIER_VARIABLE) {
        Some(_) => format!("leave out the variable {TIER_VARIABLE}"),
        None => "a processor with AVX2 parses JSON several times as fast".to_owned(),
    };
    finding("processor", State::Warning, detail, fix)
}

/// What is wrong with the cpus that the configuration names, if anything is.
fn pinned(pinned: &[usize], allowed: &[usize]) -> Option<Finding> {
    let strange: Vec<&usize> = pinned.iter().filter(|cpu| !allowed.contains(cpu)).collect();
    if strange.is_empty() {
        return None;
    }
    let detail = format!("`shards` names {strange:?}, this process may use {allowed:?}");
    let fix = "name others, or use `shards: auto`".to_owned();
    Some(finding("pinned cpus", State::Problem, detail, fix))
}

fn directory(path: &Path) -> Finding {
    const NAME: &str = "data directory";
    let shown = path.display();
    let existing = existing(path);
    if existing != path {
        let detail = format!("{shown} does not exist yet; a start makes it");
        return match writable(existing) {
            Ok(()) => finding(NAME, State::Ok, detail, String::new()),
            Err(error) => {
                let detail = format!("{shown} does not exist, and {} cannot be written: {error}", existing.display());
                let fix = format!("make {shown} and give it to the user that runs Tailwater");
                finding(NAME, State::Problem, detail, fix)
            }
        };
    }
    match writable(path) {
        Ok(()) => finding(NAME, State::Ok, format!("{shown} can be written"), String::new()),
        Err(error) => {
            let fix = "give the directory to the user that runs Tailwater, or name another with `data_dir`".to_owned();
            finding(NAME, State::Problem, format!("{shown} cannot be written: {error}"), fix)
        }
    }
}

/// The directory itself, or the nearest one above it that exists.
fn existing(path: &Path) -> &Path {
    let all = path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty());
    all.into_iter().find(|ancestor| ancestor.exists()).unwrap_or_else(|| Path::new("."))
}

fn writable(directory: &Path) -> std::io::Result<()> {
    let path = directory.join(format!(".tailwater-doctor-{}", std::process::id()));
    std::fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)
}

fn free_disk(disk: &impl Disk, needs: &Needs) -> Finding {
    const NAME: &str = "free disk";
    let directory = existing(&needs.data_dir);
    let free = match disk.free_bytes(directory) {
        Ok(free) => free,
        Err(error) => {
            let fix = "see that the file system is mounted".to_owned();
            return finding(NAME, State::Problem, format!("{} cannot be asked: {error}", directory.display()), fix);
        }
    };
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    let least = limits::SEGMENTS_MIN * needs.segment_bytes * needs.shards as u64;
    let wanted = mib(needs.disk_bytes);
    let detail = format!("{} free under {}, log and dead letters may take {wanted}", mib(free), directory.display());
    let fix = "free disk space, move `data_dir`, or lower `wal.max_bytes` or `dlq.max_bytes`".to_owned();
    match free {
        _ if free < least.min(needs.disk_bytes) => finding(NAME, State::Problem, detail, fix),
        _ if free < needs.disk_bytes => finding(NAME, State::Warning, detail, fix),
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
