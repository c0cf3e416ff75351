//! What all logs together say at a start: sources, commits, and which output has which number.
//!
//! Guarantees: nothing of an earlier owner of a number comes to a later one; what damage has taken is never guessed, but repeated.
//! Writes nothing but for [`remove_strangers`].

use super::OutputPlan;
use crate::env::{Disk, Env};
use crate::limits::OUTPUTS_MAX;
use crate::wal::commits::Commits;
use crate::wal::manifest::DataDirectory;
use crate::wal::positions::SourceTable;
use crate::wal::recovery::RecoveredLog;
use crate::wal::{Damage, LogId, OutputNumber, Position, RegistryEntry, Sequence, WalError};
use std::path::{Path, PathBuf};

/// What all logs together say.
pub(super) struct Merged {
    pub(super) sources: SourceTable,
    pub(super) commits: Commits,
    pub(super) registry: Vec<RegistryEntry>,
    pub(super) masks: u64,
}

pub(super) fn merge<D: Disk>(outputs: &[RegistryEntry], logs: &[RecoveredLog<D>], has_damage: bool) -> Merged {
    let mut merged =
        Merged { sources: SourceTable::new(), commits: Commits::default(), registry: Vec::new(), masks: 0 };
    for log in logs {
        merged.sources.merge(log.state.sources.clone());
        merged.masks |= log.outputs_used;
        merged.commits.merge(&log.state.commits);
    }
    // A log that stopped being written earlier knows neither that an output was removed nor that it has come back: the latest
    // start knows best.
    let mut latest: Vec<&RecoveredLog<D>> = logs.iter().collect();
    latest.sort_by_key(|log| std::cmp::Reverse(log.epoch));
    for entry in latest.iter().flat_map(|log| &log.state.registry) {
        if merged.registry.iter().all(|known| known.number != entry.number) {
            merged.registry.push(entry.clone());
        }
    }
    // What has events in a log was named in it first: where no name is left, damage has taken it. Of another number that only the
    // manifest knows no start was completed, unless that is in the damage.
    for entry in outputs {
        match merged.registry.iter_mut().find(|known| known.number == entry.number) {
            Some(known) => known.removed |= entry.removed && known.name == entry.name,
            None if has_damage || merged.masks & entry.number.bit() != 0 => merged.registry.push(entry.clone()),
            None => {}
        }
    }
    merged
}

/// The logs that an earlier start wrote and that have no files any more.
pub fn lost_logs<D: Disk>(written: &[LogId], logs: &[RecoveredLog<D>]) -> Vec<Damage> {
    let is_there = |id: &LogId| logs.iter().any(|log| log.id == *id && !log.segments.is_empty());
    let lost = |log: LogId| Damage {
        log,
        segment: 0,
        offset: 0,
        bytes: 0,
        quarantined: None,
        uncopied: None,
        between: None,
        known: false,
        finding: "the log or all of its segments are missing".to_owned(),
    };
    written.iter().copied().filter(|id| !is_there(id)).map(lost).collect()
}

/// The registry as it is until the events that waited for outputs which leave now are told of, which a start does that gets further.
pub(super) fn as_told(registry: &[RegistryEntry], leaving: &[RegistryEntry]) -> Vec<RegistryEntry> {
    let is_leaving = |entry: &RegistryEntry| leaving.iter().any(|other| other.number == entry.number);
    let told = |entry: &RegistryEntry| RegistryEntry { removed: entry.removed && !is_leaving(entry), ..entry.clone() };
    registry.iter().map(told).collect()
}

/// Refuses logs with events for outputs that nobody knows: they would be passed over without a word.
pub(super) fn check_outputs_known<D: Disk>(directory: &DataDirectory<D>, merged: &Merged) -> Result<(), WalError> {
    let known = merged.registry.iter().fold(0, |known, entry| known | entry.number.bit());
    let unknown: Vec<String> =
        (0..OUTPUTS_MAX).filter(|number| merged.masks & !known & 1 << number != 0).map(|n| n.to_string()).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let reason = format!(
        "the logs hold events for the outputs number {}, but neither the manifest nor what is left of the logs says which these \
         are: add a line `output N present NAME` for each, write `tailwater-data 1` in the first line, and start again",
        unknown.join(", ")
    );
    Err(WalError::Unusable { path: directory.manifest_path(), reason })
}

/// What the outputs of a plan are in the log.
pub(super) struct Numbers {
    /// By index in the plan.
    pub(super) numbers: Vec<OutputNumber>,
    /// Outputs that left the configuration.
    pub(super) removed: Vec<RegistryEntry>,
    /// New ones.
    pub(super) fresh: Vec<OutputNumber>,
}

/// A new output starts at the end of all logs. Its first commit says so in the first snapshot, beside its name: without it a
/// crash before its delivery runs would start it behind events that were acknowledged meanwhile.
pub(super) fn begin_fresh<'a, D: Disk>(
    fresh: &[OutputNumber],
    merged: &mut Merged,
    logs: impl Iterator<Item = &'a RecoveredLog<D>>,
) {
    let cursors: Vec<(LogId, Position)> = logs.map(|log| (log.id, log.end())).collect();
    fresh.iter().for_each(|output| merged.commits.begin(*output, cursors.clone()));
}

/// Where a log begins.
pub(super) struct Begin {
    log: LogId,
    /// None where it has no frame.
    first: Option<Sequence>,
}

impl Begin {
    pub(super) fn of<D: Disk>(log: &RecoveredLog<D>) -> Begin {
        Begin { log: log.id, first: log.segments.first().map(|segment| segment.first_sequence) }
    }
}

/// Lets go of what commits say of logs and outputs that are gone. Where something is damaged, the states of `outputs` whose last commit
/// was in it are lost: what such an output would undo by an earlier one could not be delivered again.
pub(super) fn settle_commits<'a>(
    merged: &mut Merged,
    outputs: impl Iterator<Item = &'a OutputNumber>,
    there: &[Begin],
    has_damage: bool,
) {
    let commits = &merged.commits;
    // An earlier commit points before what a log still has, or into one that went once all was committed.
    let is_earlier = |output: OutputNumber| {
        let gone = commits.cursors(output).iter().any(|(log, _)| there.iter().all(|begin| begin.log != *log));
        gone || there.iter().any(|begin| {
            let position = commits.position(output, begin.log).unwrap_or_default();
            begin.first.is_some_and(|first| position.sequence < first)
        })
    };
    let lost: Vec<OutputNumber> = outputs.copied().filter(|output| has_damage && is_earlier(*output)).collect();
    let known = merged.registry.iter().fold(0, |mask, entry| mask | entry.number.bit());
    let logs: Vec<LogId> = there.iter().map(|begin| begin.log).collect();
    merged.commits.keep(known, &logs);
    lost.into_iter().for_each(|output| merged.commits.lose_states(output));
}

/// Removes what an earlier output of this number kept beside the log, before the log says that the number is another's.
pub(super) fn remove_strangers<D: Disk>(disk: &D, data_dir: &Path, number: OutputNumber) -> Result<(), WalError> {
    let directory = data_dir.join("outputs");
    let failed = |source: std::io::Error| {
        let reason = format!(
            "what an earlier output kept there cannot be removed: {source}; it has to be a directory that the user who runs \
             this may read and write: move away what is there, or give it the rights"
        );
        WalError::Unusable { path: directory.clone(), reason }
    };
    let entries = match disk.list(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    let prefix = format!("{}.", number.0);
    for entry in entries {
        if entry.name.to_str().is_some_and(|name| name.starts_with(&prefix)) {
            disk.remove(&directory.join(&entry.name)).map_err(failed)?;
        }
    }
    disk.sync_dir(&directory).map_err(failed)
}

/// Finds each output's number: the one it had, or a free one.
pub(super) fn assign_numbers<E: Env>(outputs: &[OutputPlan<E>], merged: &mut Merged) -> Result<Numbers, WalError> {
    // A number that no frame on disk names can be given again.
    let wanted = |entry: &RegistryEntry| outputs.iter().any(|output| *output.name == *entry.name);
    let masks = merged.masks;
    merged.registry.retain(|entry| wanted(entry) || masks & entry.number.bit() != 0);
    let mut removed = Vec::new();
    for entry in &mut merged.registry {
        let gone = !wanted(entry);
        if gone && !entry.removed {
            removed.push(entry.clone());
        }
        // One that comes back after its events were discarded starts at the tail, under a number of its own.
        entry.removed |= gone;
    }
    let mut numbers = Vec::new();
    let mut fresh = Vec::new();
    for output in outputs {
        let known = merged.registry.iter().find(|entry| *entry.name == *output.name && !entry.removed);
        let number = match known {
            Some(entry) => entry.number,
            None => {
                let taken = merged.registry.iter().fold(0u64, |mask, entry| mask | entry.number.bit());
                let free = (!taken).trailing_zeros() as usize;
                if free >= OUTPUTS_MAX {
                    return Err(WalError::Unusable {
                        path: PathBuf::from("outputs"),
                        reason: format!(
                            "{OUTPUTS_MAX} outputs are all that fit, and removed ones count as long as a segment of the log names \
                             them, delivered or not: start with the old names, rename a few at a time, and let as much traffic as \
                             the log holds go through before the next ones"
                        ),
                    });
                }
                let number = OutputNumber(free as u8);
                fresh.push(number);
                merged.registry.push(RegistryEntry { number, name: output.name.to_string(), removed: false });
                number
            }
        };
        numbers.push(number);
    }
    Ok(Numbers { numbers, removed, fresh })
}
