//! The latest commits of outputs, as known by one log or by all logs together.
//!
//! Guarantees: for each instance of an output, the commit with the highest number counts, whatever the order in which commits
//! are added. A cursor is the furthest that any commit states, because cursors only move forward. The state of one instance
//! never becomes another's. Commits of an earlier owner of the number do not count after a new one has begun.
//!
//! An output with one instance has commits without an instance. An output that runs on every shard has commits under the log of
//! each shard, and in addition the commit that the start wrote for all instances, without an instance and without state.
//!
//! Numbers increase over all instances of an output. Their upper bits increase with each owner of the output's number.

use super::{Commit, LogId, OutputNumber, Position};
use std::collections::BTreeMap;

/// Bits of a commit's number that count the commits of one owner: at a hundred per second, enough for three centuries.
const OWNER_SHIFT: u32 = 40;

type Key = (OutputNumber, Option<LogId>);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commits {
    latest: BTreeMap<Key, Commit>,
}

fn owner(number: u64) -> u64 {
    number >> OWNER_SHIFT
}

impl Commits {
    /// Adds a commit, unless a later one of the same instance is known.
    pub fn take(&mut self, commit: Commit) {
        let key = (commit.output, commit.instance);
        if self.latest.get(&key).is_none_or(|known| known.number <= commit.number) {
            self.latest.insert(key, commit);
        }
    }

    /// Adds what another log knows.
    pub fn merge(&mut self, other: &Commits) {
        for (key, commit) in &other.latest {
            match self.latest.get_mut(key) {
                Some(known) if owner(known.number) == owner(commit.number) => {
                    commit.cursors.iter().for_each(|cursor| advance(&mut known.cursors, *cursor));
                    if commit.number > known.number {
                        known.number = commit.number;
                        known.state.clone_from(&commit.state);
                    }
                }
                Some(known) if owner(known.number) > owner(commit.number) => {}
                _ => drop(self.latest.insert(*key, commit.clone())),
            }
        }
    }

    /// All of them.
    pub fn values(&self) -> impl ExactSizeIterator<Item = &Commit> {
        self.latest.values()
    }

    /// The latest commit of an instance.
    pub fn get(&self, output: OutputNumber, instance: Option<LogId>) -> Option<&Commit> {
        let commit = self.latest.get(&(output, instance))?;
        (owner(commit.number) == owner(self.highest(output)?)).then_some(commit)
    }

    /// Highest commit number of an output. None if it has no commits.
    pub fn highest(&self, output: OutputNumber) -> Option<u64> {
        self.of(output).map(|commit| commit.number).max()
    }

    /// The first event of a log that an output has not delivered. None if no commit states it.
    pub fn position(&self, output: OutputNumber, log: LogId) -> Option<Position> {
        let cursors = self.present(output).flat_map(|commit| &commit.cursors);
        cursors.filter(|(of, _)| *of == log).map(|(_, position)| *position).max()
    }

    /// The same for each log in the commits.
    pub fn cursors(&self, output: OutputNumber) -> Vec<(LogId, Position)> {
        let mut cursors = Vec::new();
        self.present(output).flat_map(|commit| &commit.cursors).for_each(|cursor| advance(&mut cursors, *cursor));
        cursors
    }

    /// Starts over with a new owner of a number, at `cursors`. The number may have belonged to an earlier output.
    pub(crate) fn begin(&mut self, output: OutputNumber, cursors: Vec<(LogId, Position)>) {
        let number = self.highest(output).map_or(0, |highest| (owner(highest) + 1) << OWNER_SHIFT) + 1;
        self.latest.retain(|(of, _), _| *of != output);
        self.take(Commit { output, instance: None, number, cursors, state: Some(Vec::new()) });
    }

    /// For outputs with a bit in `outputs`, keeps only what refers to `logs`. For any other output, keeps only its number, from
    /// which the next owner continues.
    pub(crate) fn keep(&mut self, outputs: u64, logs: &[LogId]) {
        let numbers: Vec<(u64, OutputNumber)> = self.outputs().collect();
        self.latest.retain(|(output, instance), _| {
            outputs & output.bit() != 0 && instance.is_none_or(|instance| logs.contains(&instance))
        });
        self.latest.values_mut().for_each(|commit| commit.cursors.retain(|(log, _)| logs.contains(log)));
        for (number, output) in numbers {
            let none = Commit { output, instance: None, number, cursors: Vec::new(), state: Some(Vec::new()) };
            let start = self.latest.entry((output, None)).or_insert(none);
            start.number = start.number.max(number);
        }
    }

    /// Forgets the states of the instances, because they belong to a commit before their last one. A log that does not record
    /// this yet is out of date.
    pub(crate) fn lose_states(&mut self, output: OutputNumber) {
        let number = self.highest(output).unwrap_or(0);
        let none = Commit { output, instance: None, number, cursors: Vec::new(), state: None };
        self.latest.entry((output, None)).or_insert(none);
        self.latest.iter_mut().filter(|((of, _), _)| *of == output).for_each(|(_, commit)| {
            commit.state = None;
            commit.number += 1;
        });
    }

    /// Moves the cursor of an output in a log forward: nothing before `position` exists any more.
    pub(crate) fn pass(&mut self, output: OutputNumber, log: LogId, position: Position) {
        if let Some(commit) = self.latest.get_mut(&(output, None)) {
            advance(&mut commit.cursors, (log, position));
        }
    }

    /// The state in the last commit of an instance: empty if it has made none, none if it is lost.
    pub fn attached(&self, output: OutputNumber, instance: Option<LogId>) -> Option<Vec<u8>> {
        match self.get(output, instance) {
            Some(commit) => commit.state.clone(),
            None => self.get(output, None).is_none_or(|start| start.state.is_some()).then(Vec::new),
        }
    }

    /// The commits for the first snapshot of a log: the cursors of all outputs, the state of outputs with one instance, and for
    /// the outputs selected by `every`, the state of the instance that writes to this log.
    pub(crate) fn for_log(&self, log: LogId, every: impl Fn(OutputNumber) -> bool) -> Commits {
        let mut commits = Commits::default();
        for (number, output) in self.outputs() {
            let cursors = self.cursors(output);
            let all = self.attached(output, None);
            // The state of a single instance does not belong to any of several instances.
            let all = if every(output) { all.map(|_| Vec::new()) } else { all };
            commits.take(Commit { output, instance: None, number, cursors, state: all });
            if let Some(own) = self.get(output, Some(log)).filter(|_| every(output)) {
                let state = own.state.clone();
                commits.take(Commit { output, instance: Some(log), number, cursors: Vec::new(), state });
            }
        }
        commits
    }

    /// Clears the states. Only for proving that tests detect this.
    pub(crate) fn forget_states(&mut self) {
        self.latest.values_mut().for_each(|commit| commit.state = Some(Vec::new()));
    }

    fn of(&self, output: OutputNumber) -> impl Iterator<Item = &Commit> {
        self.latest.range((output, None)..).take_while(move |((of, _), _)| *of == output).map(|(_, commit)| commit)
    }

    /// The commits of the current owner.
    fn present(&self, output: OutputNumber) -> impl Iterator<Item = &Commit> {
        let highest = self.highest(output).map(owner);
        self.of(output).filter(move |commit| Some(owner(commit.number)) == highest)
    }

    fn outputs(&self) -> impl Iterator<Item = (u64, OutputNumber)> {
        let mut outputs: Vec<OutputNumber> = self.latest.keys().map(|(output, _)| *output).collect();
        outputs.dedup();
        outputs.into_iter().filter_map(|output| Some((self.highest(output)?, output)))
    }
}

fn advance(cursors: &mut Vec<(LogId, Position)>, (log, position): (LogId, Position)) {
    match cursors.iter_mut().find(|(of, _)| *of == log) {
        Some((_, at)) => *at = position.max(*at),
        None => cursors.push((log, position)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::Sequence;

    const OUTPUT: OutputNumber = OutputNumber(3);

    fn commit(instance: Option<u64>, number: u64, cursors: &[(u64, u64)], state: &str) -> Commit {
        let position = |sequence| Position { sequence: Sequence(sequence), event: 0 };
        Commit {
            output: OUTPUT,
            instance: instance.map(LogId),
            number,
            cursors: cursors.iter().map(|(log, sequence)| (LogId(*log), position(*sequence))).collect(),
            state: Some(state.as_bytes().to_vec()),
        }
    }

    fn of(commits: &[Commit]) -> Commits {
        let mut all = Commits::default();
        commits.iter().for_each(|commit| all.take(commit.clone()));
        all
    }

    fn state(commits: &Commits, instance: Option<u64>) -> Option<String> {
        let commit = commits.get(OUTPUT, instance.map(LogId))?;
        Some(String::from_utf8_lossy(commit.state.as_ref()?).into_owned())
    }

    fn sequence(commits: &Commits, log: u64) -> Option<u64> {
        commits.position(OUTPUT, LogId(log)).map(|position| position.sequence.0)
    }

    #[test]
    fn each_instance_keeps_its_own_state_and_the_furthest_cursors_count() {
        let start = commit(None, 5, &[(1, 10), (2, 20)], "");
        let first = of(&[start.clone(), commit(Some(1), 9, &[(1, 90)], "of one")]);
        let second = of(&[start, commit(Some(2), 7, &[(2, 70)], "of two")]);
        for (one, other) in [(&first, &second), (&second, &first)] {
            let mut merged = one.clone();
            merged.merge(other);
            assert_eq!(
                (state(&merged, Some(1)), state(&merged, Some(2))),
                (Some("of one".into()), Some("of two".into()))
            );
            assert_eq!((sequence(&merged, 1), sequence(&merged, 2), sequence(&merged, 3)), (Some(90), Some(70), None));
            let written = merged.for_log(LogId(2), |_| true);
            assert_eq!((state(&written, Some(1)), state(&written, Some(2))), (None, Some("of two".into())));
            assert_eq!((state(&written, None), written.highest(OUTPUT)), (Some(String::new()), Some(9)));
            assert_eq!((sequence(&written, 1), sequence(&written, 2)), (Some(90), Some(70)));
        }
    }

    #[test]
    fn what_is_of_logs_or_outputs_that_are_gone_does_not_stay() {
        let start = commit(None, 5, &[(1, 10), (2, 20)], "");
        let mut kept =
            of(&[start, commit(Some(1), 9, &[(1, 90)], "of one"), commit(Some(2), 11, &[(2, 70)], "of two")]);
        let mut left = kept.clone();
        kept.keep(OUTPUT.bit(), &[LogId(1)]);
        assert_eq!((sequence(&kept, 1), sequence(&kept, 2), kept.highest(OUTPUT)), (Some(90), None, Some(11)));
        assert_eq!((state(&kept, Some(1)), state(&kept, Some(2))), (Some("of one".into()), None));
        left.keep(0, &[LogId(1), LogId(2)]);
        assert_eq!((left.values().len(), left.cursors(OUTPUT).len(), left.highest(OUTPUT)), (1, 0, Some(11)));
        let old = kept;
        left.begin(OUTPUT, vec![(LogId(1), Position { sequence: Sequence(95), event: 0 })]);
        left.merge(&old);
        assert_eq!(
            (sequence(&left, 1), state(&left, None), state(&left, Some(1))),
            (Some(95), Some(String::new()), None)
        );
    }

    #[test]
    fn new_owner_of_a_number_gets_nothing_of_the_one_before() {
        let old = of(&[commit(None, 5, &[(1, 10)], "old"), commit(Some(1), 99, &[(1, 90)], "old instance")]);
        let mut new = old.clone();
        new.begin(OUTPUT, commit(None, 0, &[(1, 95)], "").cursors);
        for (one, other) in [(&old, &new), (&new, &old)] {
            let mut merged = one.clone();
            merged.merge(other);
            assert_eq!((state(&merged, None), state(&merged, Some(1))), (Some(String::new()), None));
            assert_eq!(sequence(&merged, 1), Some(95));
        }
    }
}
