//! Release: lines that processors still have to produce, and positions that wait for them.
//!
//! Guarantees: a position is recorded with the lines that contain its events or after them, never before. What a processor no
//! longer holds is recorded although other events of the input are still held. The last lines are produced before the shutdown.
//! Does not know which positions wait for which lines: the processor reports it.

use super::yard::Slot;
use super::{Intake, introduces, says_something};
use crate::env::Env;
use crate::pipeline::record;
use crate::wal::builder::Group;
use crate::wal::frame::FrameKind;
use crate::withheld::Account;

/// Maximum number of ranges that are recorded together when they are no longer withheld.
const RANGES_A_GROUP: usize = 16;

/// The state of an input.
#[derive(Default)]
pub(super) struct PathState {
    /// Its lanes.
    pub lanes: Vec<usize>,
    /// Where its due lines wait: with its only lane, whose order they keep, or in a separate yard if there are several lanes,
    /// which have no common order.
    pub yard: Option<usize>,
    /// Its lines are being produced; all of them if true. No batch may be processed in between.
    making: Option<bool>,
    /// What the processor reported at the last check.
    let_go: u64,
    /// For each of its lanes: how many groups must leave the yards before the marked positions can be recorded.
    barriers: Vec<Option<Barrier>>,
    /// The processor may have released something since the waiting positions were marked.
    stale: bool,
}

#[derive(Clone, Copy)]
struct Barrier {
    lane: u64,
    made: u64,
}

impl PathState {
    /// Whether a batch may be processed.
    pub fn is_idle(&self) -> bool {
        self.making.is_none()
    }
}

/// The states of the paths of these lanes, and the number of yards.
pub(super) fn states(lanes: &[usize], paths: usize) -> (Vec<PathState>, usize) {
    let mut yards = lanes.len();
    let state = |path: usize| {
        let lanes: Vec<usize> = (0..lanes.len()).filter(|lane| lanes[*lane] == path).collect();
        let yard = match lanes[..] {
            [] => None,
            [only] => Some(only),
            _ => {
                yards += 1;
                Some(yards - 1)
            }
        };
        PathState { barriers: vec![None; lanes.len()], lanes, yard, ..PathState::default() }
    };
    let states = (0..paths).map(state).collect();
    (states, yards)
}

impl<E: Env> Intake<E> {
    /// The path whose groups wait in a yard.
    pub(super) fn path_of(&self, yard: usize) -> usize {
        let of_lane = self.lanes.get(yard).map(|lane| lane.path);
        of_lane.or_else(|| self.states.iter().position(|state| state.yard == Some(yard))).unwrap_or_default()
    }

    /// Appends the lines that processors have due, or all their lines if it is the last time.
    pub(super) async fn tick(&mut self, last: bool) -> Result<(), ()> {
        for path in 0..self.paths.len() {
            let (due, state) = (self.paths[path].due(), &self.states[path]);
            let holds = due.is_some() || state.lanes.iter().any(|lane| !self.withheld[*lane].is_empty());
            if !holds && state.is_idle() {
                continue;
            }
            let asked = || state.lanes.iter().any(|lane| self.lanes[*lane].receiver.take_settle_asked());
            let last = last || state.making == Some(true) || asked();
            if last || !state.is_idle() || due.is_some_and(|due| due <= self.env.wall()) {
                self.make(path, last).await?;
            } else {
                self.look_if_let_go(path).await?;
            }
        }
        Ok(())
    }

    /// Appends the lines that the processor of a path has due, or all its lines, and records what it no longer holds.
    pub(super) async fn make(&mut self, path: usize, last: bool) -> Result<(), ()> {
        let Some(yard) = self.states[path].yard else { return Ok(()) };
        let now = self.env.wall();
        self.states[path].making = Some(last);
        while self.states[path].making.is_some() && self.yards[yard].has_room() {
            let mut slot = self.yards[yard].slot();
            let Slot { group, parcel, counts, .. } = &mut slot;
            if !self.paths[path].tick(now, last, group, &mut parcel.letters(), counts) {
                self.states[path].making = None;
            }
            let made = self.states[path].making.is_none();
            if parcel.count() > 0 || (!self.yards[yard].is_empty() && slot.has_events()) {
                self.park(yard, slot);
                if made {
                    self.look(path, &mut Group::new()).await?;
                }
                continue;
            }
            let _none = self.paths[path].count(&slot.counts, &[]);
            if made {
                self.look(path, &mut slot.group).await?;
            }
            // Unless the released ranges have already been appended with them.
            if slot.has_events() {
                self.append(&mut slot.group).await?;
            }
            self.yards[yard].put_back(slot);
        }
        if last && self.states[path].making.is_none() {
            self.check_breach(path);
        }
        Ok(())
    }

    /// A processor that keeps holding events although it had to produce all lines violates its contract: these positions stay
    /// unrecorded.
    fn check_breach(&mut self, path: usize) {
        let processor = &self.paths[path];
        for lane in &self.states[path].lanes {
            let Some(source) = self.withheld[*lane].break_off(|key| processor.held_from(key)) else { continue };
            self.lanes[*lane].receiver.count_breach();
            tracing::error!(
                component_id = %source.input, component_kind = "input", source = %String::from_utf8_lossy(&source.name),
                "a processor keeps holding events although it had to produce all of its lines: they are not recorded as read, and \
                 are read again after a restart"
            );
        }
    }

    /// Decides whether the position of a batch is recorded with its group, which is about to be appended. If not, the position
    /// waits, and what can be released of its source is added to the ranges to be recorded.
    pub(super) fn withhold(&mut self, lane: usize, account: &Account, held: Option<u64>) -> bool {
        let (withheld, key) = (&mut self.withheld[lane], account.source.key);
        if held.is_none_or(|held| held >= account.range.to) && !withheld.has(key) {
            withheld.pass(account.ticket);
            return true;
        }
        withheld.add(account);
        let state = &mut self.states[self.lanes[lane].path];
        // Due lines of its source may still wait in another yard.
        if state.yard.is_none_or(|yard| yard == lane || self.yards[yard].is_empty()) {
            state.stale |= withheld.take_of(key, held, RANGES_A_GROUP, &mut self.ranges);
        }
        false
    }

    /// Checks the waiting positions again if the processor reports that it has released something.
    pub(super) async fn look_if_let_go(&mut self, path: usize) -> Result<(), ()> {
        let (let_go, state) = (self.paths[path].let_go(), &mut self.states[path]);
        let changed = std::mem::replace(&mut state.let_go, let_go) != let_go;
        if changed || state.stale { self.look(path, &mut Group::new()).await } else { Ok(()) }
    }

    /// Asks the processor what it still holds of everything that waits, and records the rest together with `group`, which
    /// contains its latest lines: at once, or when the groups that now wait for dead letters have been appended.
    pub(super) async fn look(&mut self, path: usize, group: &mut Group) -> Result<(), ()> {
        self.states[path].stale = false;
        let Some(made) = self.states[path].yard else { return Ok(()) };
        for at in 0..self.states[path].lanes.len() {
            let lane = self.states[path].lanes[at];
            if self.withheld[lane].is_empty() {
                self.states[path].barriers[at] = None;
                continue;
            }
            loop {
                let passed = |barrier: Barrier| {
                    self.yards[lane].left() >= barrier.lane && self.yards[made].left() >= barrier.made
                };
                let marked = self.states[path].barriers[at];
                if marked.is_some_and(|barrier| !passed(barrier)) {
                    break;
                }
                if marked.is_some() {
                    self.states[path].barriers[at] = None;
                    self.release(lane, group).await?;
                }
                // Checks again: the marks are old, and more may be free now.
                let processor = &self.paths[path];
                if !self.withheld[lane].mark(|key| processor.held_from(key)) {
                    break;
                }
                let (entered, made) = (self.yards[lane].entered(), self.yards[made].entered());
                self.states[path].barriers[at] = Some(Barrier { lane: entered, made });
            }
        }
        Ok(())
    }

    /// Appends the group together with the ranges that are free. If there are more, they follow in further groups.
    async fn release(&mut self, lane: usize, group: &mut Group) -> Result<(), ()> {
        loop {
            let more = self.withheld[lane].take_free(RANGES_A_GROUP, &mut self.ranges);
            self.add_ranges(group);
            if says_something(group) {
                self.append(group).await?;
            }
            group.clear();
            if !more {
                break;
            }
        }
        self.acknowledge(lane);
        self.count_waiting();
        Ok(())
    }

    /// Adds frames with the ranges to be recorded to a group.
    pub(super) fn add_ranges(&mut self, group: &mut Group) {
        let now = self.env.wall();
        for range in self.ranges.drain(..) {
            let introduce = introduces(&self.keeper, &range.source);
            let frame = group.frame(FrameKind::Events, 0, 0);
            record(frame, &range.source, &range.settled, &range.range, introduce, range.gone);
            frame.discard(range.discarded);
            frame.set_timestamp(now);
            frame.finish();
        }
    }

    /// Returns the tickets of a lane whose batches are all appended, as soon as that is durable.
    pub(super) fn acknowledge(&mut self, lane: usize) {
        // Batches that others have passed are not appended yet.
        let aside = self.lanes[lane].receiver.first_aside();
        let before = self.yards[lane].first_ticket().into_iter().chain(aside).min();
        if let Some(ticket) = self.withheld[lane].take_ticket(before) {
            self.keeper.acknowledge_later(self.appended, lane, ticket);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_due_keep_the_order_of_an_only_lane() {
        let (states, yards) = states(&[0, 2, 2, 0, 1], 4);
        let of: Vec<_> = states.iter().map(|state| (state.lanes.clone(), state.yard)).collect();
        let expected = [(vec![0, 3], Some(5)), (vec![4], Some(4)), (vec![1, 2], Some(6)), (vec![], None)];
        assert_eq!((of, yards), (expected.to_vec(), 7));
    }
}
