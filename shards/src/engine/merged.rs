//! What all WALs together say at a start: sources, commits, and which output has which number.
//!
//! Guarantees: a new owner of a number gets nothing from an earlier owner. What damage has destroyed is never guessed, but
//! repeated. Writes nothing, except in [`remove_strangers`].

use super::OutputPlan;
use super::losses::{Before, Begin, lost_head};
use crate::env::{Disk, Env};
use crate::limits::OUTPUTS_MAX;
use crate::wal::commits::Commits;
use crate::wal::manifest::DataDirectory;
use crate::wal::positions::SourceTable;
use crate::wal::recovery::RecoveredLog;
use crate::wal::{Damage, LogId, OutputNumber, Position, RegistryEntry, WalError};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What all WALs together say.
pub(super) struct Merged {
    pub(super) sources: SourceTable,
    pub(super) commits: Commits,
    pub(super) registry: Vec<RegistryEntry>,
    pub(super) masks: u64,
}

pub(super) fn merge<D: Disk>(outputs: &[RegistryEntry], logs: &[RecoveredLog<D>], lack: &Lack) -> Merged {
    let mut merged =
        Merged { sources: SourceTable::new(), commits: Commits::default(), registry: Vec::new(), masks: 0 };
    for log in logs {
        merged.sources.merge(log.state.sources.clone());
        merged.masks |= log.outputs_used;
        merged.commits.merge(&log.state.commits);
    }
    // A log that stopped being written earlier knows neither that an output was removed, nor that it has come back or has another
    // name: the latest start knows best. A number that it does not name and no event has was let go of: its output would come back
    // with what it or a later owner of the number had committed. What the latest start said may be in the damage, or in a log that
    // is missing. The manifest had it first.
    let newest = logs.iter().map(|log| log.epoch).max().unwrap_or(0);
    let is_latest = |log: &&RecoveredLog<D>| log.named_in == newest && !lack.logs;
    let (latest, mut earlier): (Vec<_>, Vec<_>) = logs.iter().partition(is_latest);
    earlier.sort_by_key(|log| std::cmp::Reverse(log.named_in));
    let named_by =
        |logs: Vec<&RecoveredLog<D>>| logs.into_iter().flat_map(|log| log.state.registry.clone()).collect::<Vec<_>>();
    let add = |registry: &mut Vec<RegistryEntry>, entry: RegistryEntry| {
        if registry.iter().all(|known| known.number != entry.number) {
            registry.push(entry);
        }
    };
    let has_latest = !latest.is_empty();
    named_by(latest).into_iter().for_each(|entry| add(&mut merged.registry, entry));
    let mark_removed = |registry: &mut Vec<RegistryEntry>, entry: &RegistryEntry| {
        let known = registry.iter_mut().find(|known| known.number == entry.number && known.name == entry.name);
        known.into_iter().for_each(|known| known.removed |= entry.removed);
    };
    outputs.iter().for_each(|entry| mark_removed(&mut merged.registry, entry));
    // What has events in a log was named in it first: where no name is left, damage has taken it, and the manifest says it as it was
    // last. Of another number that only the manifest knows no start was completed, unless that is in the damage.
    let remaining = earlier.first().map_or(0, |log| log.named_in);
    let last = named_by(earlier.iter().copied().filter(|log| log.named_in == remaining).collect());
    for entry in outputs.iter().cloned().chain(named_by(earlier)) {
        if lack.damage || merged.masks & entry.number.bit() != 0 {
            add(&mut merged.registry, entry);
        }
    }
    // The manifest says that an output left one start later than the logs.
    if !has_latest {
        last.iter().for_each(|entry| mark_removed(&mut merged.registry, entry));
    }
    merged
}

/// The registry as it is until the waiting events of outputs that are being removed have been reported. A start that gets
/// further reports them.
pub(super) fn as_told(registry: &[RegistryEntry], leaving: &[RegistryEntry]) -> Vec<RegistryEntry> {
    let is_leaving = |entry: &RegistryEntry| leaving.iter().any(|other| other.number == entry.number);
    let told = |entry: &RegistryEntry| RegistryEntry { removed: entry.removed && !is_leaving(entry), ..entry.clone() };
    registry.iter().map(told).collect()
}

/// Refuses WALs with events for unknown outputs: these events would be skipped silently.
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

/// The output numbers of a plan's outputs.
pub(super) struct Numbers {
    /// By index in the plan.
    pub(super) numbers: Vec<OutputNumber>,
    /// Outputs that were removed from the configuration.
    pub(super) removed: Vec<RegistryEntry>,
    /// New outputs.
    pub(super) fresh: Vec<OutputNumber>,
}

/// A new output starts at the end of all WALs. Its first commit records this in the first snapshot, beside its name. Without
/// it, a crash before its delivery runs would start it after events that were acknowledged in the meantime.
pub(super) fn begin_fresh<'a, D: Disk>(
    fresh: &[OutputNumber],
    merged: &mut Merged,
    logs: impl Iterator<Item = &'a RecoveredLog<D>>,
) {
    let cursors: Vec<(LogId, Position)> = logs.map(|log| (log.id, log.end())).collect();
    fresh.iter().for_each(|output| merged.commits.begin(*output, cursors.clone()));
}

/// What the WALs lack at a start.
pub(super) struct Lack {
    /// Something is damaged or missing.
    pub(super) damage: bool,
    /// A whole WAL is missing.
    pub(super) logs: bool,
}

/// Doubts about outputs that existed before.
#[derive(Default)]
pub(super) struct Doubts {
    /// Bits of outputs that may not get everything again that they received after their last commit.
    pub(super) outputs: u64,
    /// Events that no output receives any more.
    pub(super) missing: Vec<Damage>,
}

/// Drops from the commits all WALs and outputs that no longer exist. Also drops the states of those of `outputs` that may not get
/// again everything that came after their last commit: what such an output would undo because of an earlier commit could not be
/// delivered again, neither by this start nor by a later one that no longer sees why.
pub(super) fn settle_commits<'a>(
    merged: &mut Merged,
    outputs: impl Iterator<Item = &'a OutputNumber>,
    there: &[Begin],
    lack: &Lack,
) -> Doubts {
    let (mut doubts, mut doubtful, mut unserved) = (Doubts::default(), Vec::new(), BTreeMap::new());
    let mut passed = Vec::new();
    for output in outputs {
        let cursors = merged.commits.cursors(*output);
        // It may have been in a log that was drained, or be older than that.
        let is_gone = cursors.iter().any(|(log, _)| there.iter().all(|begin| begin.log != *log));
        let is_lost = lack.logs || lack.damage && (is_gone || merged.commits.highest(*output).is_none());
        let of_log = |begin: &Begin| cursors.iter().find(|(log, _)| *log == begin.log).map(|(_, position)| *position);
        let before = passed.len();
        for (at, begin) in there.iter().enumerate() {
            let Some(position) = of_log(begin) else { continue };
            match begin.before(position) {
                Before::Passed => continue,
                // An earlier commit would say the same of damage. Or it was not configured then: nothing was kept for it.
                Before::Lost if !lack.damage && begin.held(*output, position) => {
                    unserved.entry(at).or_insert_with(Vec::new).push(*output);
                }
                Before::Lost | Before::Unknown => {}
            }
            passed.push((*output, begin.log, begin.start()));
        }
        if is_lost || passed.len() > before {
            doubtful.push(*output);
            doubts.outputs |= output.bit();
        }
    }
    for (begin, outputs) in unserved {
        let entries = merged.registry.iter().filter(|entry| outputs.contains(&entry.number));
        doubts.missing.push(lost_head(&there[begin], &entries.collect::<Vec<_>>()));
    }
    let known = merged.registry.iter().fold(0, |mask, entry| mask | entry.number.bit());
    let logs: Vec<LogId> = there.iter().map(|begin| begin.log).collect();
    merged.commits.keep(known, &logs);
    doubtful.into_iter().for_each(|output| merged.commits.lose_states(output));
    // A later start, without this damage, would take what these cursors say for events that nobody has got.
    passed.into_iter().for_each(|(output, log, position)| merged.commits.pass(output, log, position));
    doubts
}

/// Removes the files that an earlier output with this number kept beside the WAL, before the WAL assigns the number to another
/// output.
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

/// Finds each output's number: the number it had, or a free one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Commit;
    use crate::wal::Sequence;

    #[test]
    fn what_cannot_come_again_is_undone_by_no_later_start_either() {
        let (output, log, whole) = (OutputNumber(0), LogId(1), Lack { damage: false, logs: false });
        let at = |sequence| Position { sequence: Sequence(sequence), event: 0 };
        // The segment that went had events, or may have had some, or had none.
        for (previous, is_doubtful) in [(6, true), (4, true), (0, false)] {
            let mut commits = Commits::default();
            let state = Some(b"204698 bytes".to_vec());
            commits.take(Commit {
                output,
                instance: None,
                number: 1,
                cursors: vec![(log, at(50))],
                state: state.clone(),
            });
            let registry = vec![RegistryEntry { number: output, name: "out".to_owned(), removed: false }];
            let mut merged = Merged { sources: SourceTable::new(), commits, registry, masks: 1 };
            let there = [Begin::with_first(log, 7, Sequence(100), previous)];
            let doubts = settle_commits(&mut merged, [output].iter(), &there, &whole);
            assert_eq!(doubts.outputs != 0, is_doubtful, "{previous}");
            assert_eq!(merged.commits.attached(output, None), if is_doubtful { None } else { state }, "{previous}");
            let cursor = merged.commits.position(output, log);
            assert_eq!(cursor, Some(at(if is_doubtful { 100 } else { 50 })), "{previous}");
        }
    }
}
