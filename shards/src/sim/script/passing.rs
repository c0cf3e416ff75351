//! After the faults have stopped, a fresh event must be delivered: in the life that had the faults, and in one that begins
//! afterwards.
//!
//! Guarantees: only events count that are created after all faults were removed and when nothing older waits, so that no policy
//! has a reason to drop all of them. A life that does not get this far within [`PATIENCE`] of virtual time is stuck, whatever a
//! restart would do.

use super::{Cluster, Holding, OutputKind, SourceScript};
use crate::delivery::OutputFull;
use crate::dlq;
use crate::env::ShardId;
use crate::lane::WhenFull;
use crate::limits::SEGMENTS_MIN;
use crate::sim::Outcome;
use crate::sim::oracle::OutputIndex;
use std::time::Duration;

/// Virtual time within which everything that waits is delivered after all faults were removed. The longest pause of a failed
/// input is half a minute, that of an output two seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// Virtual time after which outputs have committed what they delivered, and the log has released it.
const REST: Duration = Duration::from_secs(2);

/// Payload bytes of a fresh event.
const FRESH_BYTES: usize = 30;

impl Cluster {
    /// Removes all faults in the middle of a life and continues it until a fresh event of each source has been delivered.
    /// Returns whether it got this far: an earlier fault may still end the life.
    pub fn go_on(&mut self) -> bool {
        self.note("all is well again, and the same life goes on".to_owned());
        self.heal();
        self.simulation.disk().crash_never();
        let caught_up = self.caught_up();
        let (board, shards) = (self.alive().meters.board.clone(), self.alive().shards);
        let up = move || (0..shards).all(|shard| board.get(ShardId(shard as u16)).is_some());
        if !self.wait_for(move || up() && caught_up()) {
            return self.is_stuck(Self::tell_unread);
        }
        if !self.come_to_rest() {
            return self.is_stuck(Self::tell_waiting);
        }
        self.note("a fresh event of each source is made".to_owned());
        let inputs = self.alive().inputs.clone();
        let sources = self.ledger.state().sources.len();
        for source in 0..sources {
            let (input, ended) = {
                let script = &self.ledger.state().sources[source];
                (script.input, script.ended)
            };
            if inputs.contains(&input) && !ended {
                self.make(source, FRESH_BYTES);
            }
        }
        let caught_up = self.caught_up();
        if !self.wait_for(caught_up) || !self.come_to_rest() {
            self.is_stuck(Self::tell_unread);
            return self.is_stuck(Self::tell_waiting);
        }
        if !self.has_not_failed() {
            return false;
        }
        self.read_letters();
        if self.setup.holding != Holding::Joins {
            self.check_fresh();
        }
        self.life.iter_mut().for_each(|life| life.rests = true);
        true
    }

    /// Waits until nothing waits for an output any more and commits are made: without the pressure, no output is thinned out.
    /// Does so twice if windows are open, which produce their lines in the meantime. Returns whether it got this far.
    fn come_to_rest(&mut self) -> bool {
        let rounds = if self.setup.holding == Holding::None { 1 } else { 2 };
        for _ in 0..rounds {
            let waiting = self.waiting();
            if !self.wait_for(move || waiting().iter().all(|&(_, events)| events == 0)) {
                return false;
            }
            self.rest();
        }
        true
    }

    fn rest(&mut self) {
        self.ledger.state().rests = true;
        self.run_for(REST);
        self.ledger.state().rests = false;
    }

    fn has_not_failed(&self) -> bool {
        self.alive().stop.failure().is_none() && !self.simulation.disk().crashed()
    }

    /// Runs until `condition` is true or the engine fails. Returns whether it is true.
    fn wait_for(&mut self, condition: impl Fn() -> bool) -> bool {
        let stop = self.alive().stop.clone();
        let outcome = self.run_until(|| condition() || stop.failure().is_some(), PATIENCE);
        outcome == Outcome::Reached && stop.failure().is_none()
    }

    /// Reports to the oracle what `tell` finds, unless the engine has failed because of an earlier fault.
    fn is_stuck(&self, tell: fn(&Cluster)) -> bool {
        if self.has_not_failed() {
            tell(self);
        }
        false
    }

    fn tell_unread(&self) {
        let mut state = self.ledger.state();
        for source in 0..state.sources.len() {
            let SourceScript { input, next, .. } = state.sources[source];
            if self.alive().inputs.contains(&input) && next < state.sources[source].events() {
                for output in self.setup.outputs_of(input) {
                    state.oracle.stuck(OutputIndex(output as u8), source as u64, next);
                }
            }
        }
    }

    fn tell_waiting(&self) {
        let waiting = self.waiting()();
        let mut state = self.ledger.state();
        for (output, events) in waiting.into_iter().filter(|(_, events)| *events != 0) {
            state.oracle.left_waiting(OutputIndex(output as u8), events);
        }
    }

    /// Whether every event of the inputs that run has been read in this life.
    pub fn caught_up(&self) -> impl Fn() -> bool + use<> {
        let (ledger, inputs) = (self.ledger.clone(), self.alive().inputs.clone());
        move || {
            let state = ledger.state();
            state.sources.iter().all(|source| source.next == source.events() || !inputs.contains(&source.input))
        }
    }

    /// How many events the engine still has for each output, according to its counters: arrived minus left. They are in lanes,
    /// in a log, or in an output.
    pub(super) fn waiting(&self) -> impl Fn() -> Vec<(usize, i64)> + use<> {
        let life = self.alive();
        let (meters, outputs, shards) = (life.meters.clone(), life.outputs.clone(), life.shards);
        move || {
            let logs: Vec<_> = (0..shards).filter_map(|shard| meters.board.get(ShardId(shard as u16))).collect();
            let in_lanes: u64 = meters
                .inputs
                .iter()
                .flat_map(|input| &input.lanes)
                .map(|lane| {
                    let taken = lane.counters().taken_events.get();
                    lane.counters().sent_events.get() - taken
                })
                .sum();
            let of = |at: usize| {
                let instances = || meters.outputs.iter().filter(move |meter| meter.output == at);
                let number = instances().next().map(|meter| meter.number);
                let appended: u64 = number.map_or(0, |number| logs.iter().map(|log| log.appended(number)).sum());
                let came = |counters: &crate::counters::OutputCounters| counters.recovered_events.get() as i64;
                let went = |counters: &crate::counters::OutputCounters| {
                    (counters.sent_events.get() + counters.dead_lettered_total() + counters.discarded.total()) as i64
                };
                let open: i64 = instances().map(|meter| came(&meter.counters) - went(&meter.counters)).sum();
                open + (appended + in_lanes) as i64
            };
            outputs.iter().enumerate().map(|(at, &output)| (output, of(at))).collect()
        }
    }

    /// Checks that the last event of each source, created after all faults were removed, was delivered. Of events that meet in
    /// a lane that may drop, or in a log that an output keeps from filling up by dropping, at least one was delivered.
    pub(super) fn check_fresh(&self) {
        if self.setup.dead_letters.when_full != dlq::WhenFull::Block || self.setup.holding == Holding::Clings {
            // Any of them may have been a dead letter without space, and events that are never recorded are read again with it.
            return;
        }
        let mut state = self.ledger.state();
        let mut fresh: Vec<(usize, u64, u64)> = Vec::new();
        let living = |script: &SourceScript| script.events() > 0 && !script.ended;
        for (source, script) in state.sources.iter().enumerate().filter(|(_, script)| living(script)) {
            fresh.push((script.input, source as u64, script.events() - 1));
        }
        for output in self.setup.present_outputs() {
            let exact = self.setup.outputs[output].kind == OutputKind::Exact;
            let written = state.outputs[output].written.clone();
            // The content of a file is reported at the end.
            let seen = |source, ordinal| exact && written.get(&source).is_some_and(|&highest| highest >= ordinal);
            let sampled = self.setup.outputs[output].options.when_full != OutputFull::Block;
            let mut all = Vec::new();
            for (number, input) in self.setup.inputs.iter().enumerate() {
                let blocks = input.lane.when_full == WhenFull::Block;
                // A notice that a source is gone may occupy the only place in a small lane.
                let ends = state.sources.iter().any(|script| script.input == number && script.ended);
                if !self.setup.outputs_of(number).contains(&output) || (ends && !blocks) {
                    continue;
                }
                let mine = fresh.iter().filter(|(of, ..)| *of == number).map(|&(_, source, last)| (source, last));
                let mine: Vec<(u64, u64)> = mine.collect();
                if !sampled {
                    state.oracle.fresh(OutputIndex(output as u8), &mine, blocks, seen);
                }
                all.extend(mine);
            }
            // Two segments are half of the smallest log.
            let tiny = super::gauges::segments_allowed(&self.setup) <= SEGMENTS_MIN;
            if sampled && !all.is_empty() && !tiny {
                state.oracle.fresh(OutputIndex(output as u8), &all, false, seen);
            }
        }
    }
}
