//! Inputs and outputs that were removed from the configuration, or have another name in it.
//!
//! Guarantees: events that wait for a removed output are given up only if the plan says so, and a start that may not do so changes
//! nothing. An output or input with a new name continues where it was under the previous one. A removed input loses nothing and
//! prevents no start: its positions stay until the plan gives them up. Writes nothing.

use super::merged::Merged;
use super::{InputPlan, OutputPlan};
use crate::env::{Disk, Env};
use crate::wal::cursor::events_after;
use crate::wal::recovery::RecoveredLog;
use crate::wal::{Damage, RegistryEntry, WalError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why no engine could be laid out. No log was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Log(#[from] WalError),
    /// Events wait for outputs that left, and the plan does not say that they may go.
    #[error("events wait for outputs that are not in the configuration: {}", listed(.0))]
    Waiting(Vec<Waiting>, Vec<Damage>),
}

/// An output that left, and the events that wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its name.
    pub output: String,
    /// How many.
    pub events: u64,
}

fn listed(all: &[Waiting]) -> String {
    let one = |Waiting { output, events }: &Waiting| format!("{output} ({events})");
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What has another name than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// Its name in the log.
    pub was: String,
    /// Its name in the configuration.
    pub name: String,
}

/// An input of an earlier configuration whose positions are still known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftInput {
    /// Its name.
    pub name: String,
    /// Sources with a position.
    pub sources: usize,
    /// Whether they are forgotten now.
    pub forgotten: bool,
}

/// Gives outputs that the log knows by an earlier name the name that they have in the plan. One that the log knows by both names stays
/// as it is: the events of the other one are another's.
pub(super) fn rename_outputs<E: Env>(outputs: &[OutputPlan<E>], merged: &mut Merged) -> Vec<Renamed> {
    let mut renamed = Vec::new();
    for output in outputs {
        let Some(was) = &output.was else { continue };
        let named = |name: &str| merged.registry.iter().position(|entry| *entry.name == *name && !entry.removed);
        if named(&output.name).is_none()
            && let Some(at) = named(was)
        {
            merged.registry[at].name = output.name.to_string();
            renamed.push(Renamed { was: was.to_string(), name: output.name.to_string() });
        }
    }
    renamed
}

/// The same for the positions of inputs, as told in the start `epoch`: no log that is only read knows better.
pub(super) fn rename_inputs<E: Env>(inputs: &[InputPlan<E>], merged: &mut Merged, epoch: u32) -> Vec<Renamed> {
    let mut renamed = Vec::new();
    for input in inputs {
        let Some(was) = &input.was else { continue };
        if merged.sources.rename(was, &input.name, epoch) > 0 {
            renamed.push(Renamed { was: was.to_string(), name: input.name.to_string() });
        }
    }
    renamed
}

/// Inputs that the plan does not have, with the sources that are known of them. Forgets those of which `forget` says so.
pub(super) fn left_inputs<E: Env>(inputs: &[InputPlan<E>], forget: &[Arc<str>], merged: &mut Merged) -> Vec<LeftInput> {
    let mut left: BTreeMap<String, usize> = BTreeMap::new();
    for state in merged.sources.iter().filter(|state| state.gone.is_none()) {
        let name = &state.source.input;
        if inputs.iter().all(|input| input.name != *name) {
            *left.entry(name.to_string()).or_default() += 1;
        }
    }
    let settled = |(name, sources): (String, usize)| {
        let forgotten = forget.iter().any(|other| **other == *name);
        if forgotten {
            merged.sources.forget(&name);
        }
        LeftInput { name, sources, forgotten }
    };
    left.into_iter().map(settled).collect()
}

/// The events that wait for outputs which leave, and an error where some do that the plan does not give up.
pub(super) fn waiting<D: Disk>(
    disk: &D,
    leaving: &[RegistryEntry],
    given_up: &[Arc<str>],
    logs: &[RecoveredLog<D>],
    merged: &Merged,
    damage: &[Damage],
) -> Result<Vec<Waiting>, StartError> {
    if leaving.is_empty() {
        return Ok(Vec::new());
    }
    let logs: Vec<_> = logs.iter().map(|log| log.reader(disk.clone())).collect();
    let of = |entry: &RegistryEntry| {
        let position = |log| merged.commits.position(entry.number, log).unwrap_or_default();
        let events = logs.iter().map(|log| events_after(log, position(log.id()), entry.number).events).sum();
        Waiting { output: entry.name.clone(), events }
    };
    let all: Vec<Waiting> = leaving.iter().map(of).collect();
    let is_kept = |waiting: &&Waiting| waiting.events > 0 && !given_up.iter().any(|name| **name == *waiting.output);
    match all.iter().filter(is_kept).cloned().collect::<Vec<_>>() {
        kept if kept.is_empty() => Ok(all),
        kept => Err(StartError::Waiting(kept, damage.to_vec())),
    }
}
