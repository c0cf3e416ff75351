//! Yard: where the groups of one lane wait until their dead letters are durable, in the order in which they are to be appended.
//!
//! Guarantees: groups of a source leave in the order in which they arrived (invariant E3). Groups of other sources pass a
//! group whose letters have no space in the dead letter queue, unless lines of them may be in it. The waiting groups are
//! limited by number and by bytes (invariant E4); only the last group may exceed the limit. Groups without space for their
//! letters have a limit of their own, so that they do not use up the space of the others. Says which sources have such
//! groups, and which should not be read for now, so that one source does not use all of the yard. Buffers are reused, so that
//! in steady state none is allocated for a batch. Does not append and does not wait: the intake does.

use crate::batch::SourceKey;
use crate::dlq::Parcel;
use crate::limits::{PARKED_BATCHES_MAX, PARKED_BYTES_MAX, REFUSED_BATCHES_MAX, REFUSED_BYTES_MAX};
use crate::pipeline::Counts;
use crate::wal::builder::Group;
use crate::withheld::Account;
use std::collections::VecDeque;
use std::rc::Rc;

/// The batch from which a group was made.
pub(super) struct Origin {
    /// Which range it covers.
    pub account: Account,
    /// From which position the processor held events of its source when it received the batch.
    pub held: Option<u64>,
    /// Outputs that lose its events because the log fills up.
    pub skipped: u64,
}

/// A group and its letters, on their way to the log.
#[derive(Default)]
pub(super) struct Slot {
    pub group: Group,
    pub parcel: Rc<Parcel>,
    pub counts: Counts,
    /// None if the group contains due lines.
    pub origin: Option<Origin>,
    /// Whether its lines are those of its own batch, and all of them: the processor held nothing before and afterwards.
    pub alone: bool,
    bytes: usize,
    /// How many groups had entered before it.
    entry: u64,
}

impl Slot {
    /// Whether an event is in the group.
    pub fn has_events(&self) -> bool {
        self.group.frames().iter().any(|frame| frame.event_count() > 0)
    }

    /// Empties it; its buffers are kept.
    pub fn reset(&mut self) {
        self.group.clear();
        self.parcel.reset();
        self.origin = None;
        self.alone = false;
    }

    fn source(&self) -> Option<SourceKey> {
        self.origin.as_ref().map(|origin| origin.account.source.key)
    }

    /// Whether the store had no space for its letters.
    fn is_refused(&self) -> bool {
        !self.parcel.is_settled() && self.parcel.is_tried()
    }

    fn capacity(&self) -> usize {
        self.group.capacity() + self.parcel.capacity()
    }
}

/// See the module.
pub(super) struct Yard {
    segment_bytes: u64,
    waiting: VecDeque<Slot>,
    bytes: usize,
    spare: Vec<Slot>,
    spare_bytes: usize,
    /// Total number of groups that entered.
    entered: u64,
    /// How many of the waiting groups are not alone.
    mixed: usize,
    /// Changes with each group that enters or leaves.
    changes: u64,
    /// The changes, and the clerk's attempts, up to which no group can leave, and up to which it is known which sources rest.
    looked: (u64, u64),
    rested: (u64, u64, bool),
    resting: Vec<SourceKey>,
    /// Sources with groups whose letters have no space, and how many groups and bytes these are.
    refused: Vec<SourceKey>,
    refused_holding: (usize, usize),
    /// Sources of groups in front. Reused.
    ahead: Vec<SourceKey>,
}

impl Yard {
    /// An empty yard, for a log with segments of this size.
    pub fn for_segments(segment_bytes: u64) -> Yard {
        Yard {
            segment_bytes,
            waiting: VecDeque::new(),
            bytes: 0,
            spare: Vec::new(),
            spare_bytes: 0,
            entered: 0,
            mixed: 0,
            changes: 0,
            looked: (0, 0),
            rested: (0, 0, false),
            resting: Vec::new(),
            refused: Vec::new(),
            refused_holding: (0, 0),
            ahead: Vec::new(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn has_room(&self) -> bool {
        let (groups, bytes) = self.refused_holding;
        self.waiting.len() < PARKED_BATCHES_MAX + groups.min(REFUSED_BATCHES_MAX)
            && self.bytes < PARKED_BYTES_MAX + bytes.min(REFUSED_BYTES_MAX)
    }

    /// Whether a group of a source had no space for its letters when [`Yard::take_resting`] was called last.
    pub fn refuses(&self, source: SourceKey) -> bool {
        self.refused.contains(&source)
    }

    /// Number of waiting groups, and their bytes.
    pub fn holding(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    /// Total number of groups that entered. Together with [`Yard::left`], it tells when all current groups have left.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    /// So many of the groups that entered first have left.
    pub fn left(&self) -> u64 {
        self.waiting.front().map_or(self.entered, |slot| slot.entry)
    }

    /// Whether every waiting group has only lines of its own batch.
    pub fn is_plain(&self) -> bool {
        self.mixed == 0
    }

    /// The first ticket of the waiting batches.
    pub fn first_ticket(&self) -> Option<u64> {
        // A batch that stepped aside may enter after those that passed it.
        self.waiting.iter().filter_map(|slot| slot.origin.as_ref()).map(|origin| origin.account.ticket).min()
    }

    /// An empty slot.
    pub fn slot(&mut self) -> Slot {
        let Some(slot) = self.spare.pop() else {
            return Slot { group: Group::for_segments(self.segment_bytes), ..Slot::default() };
        };
        self.spare_bytes -= slot.bytes;
        slot
    }

    /// Returns a slot that is no longer needed.
    pub fn put_back(&mut self, mut slot: Slot) {
        slot.reset();
        slot.bytes = slot.capacity();
        if self.spare_bytes + slot.bytes <= PARKED_BYTES_MAX || self.spare.is_empty() {
            self.spare_bytes += slot.bytes;
            self.spare.push(slot);
        }
    }

    /// Adds a group that must wait.
    pub fn enter(&mut self, mut slot: Slot) {
        slot.bytes = slot.group.bytes() + slot.parcel.weight();
        slot.entry = self.entered;
        self.bytes += slot.bytes;
        self.entered += 1;
        self.mixed += usize::from(!slot.alone);
        self.changes += 1;
        self.waiting.push_back(slot);
    }

    /// Removes and returns the next group that no longer has to wait. `attempts` are those of the clerk.
    pub fn leave(&mut self, attempts: u64) -> Option<Slot> {
        let at = self.next(attempts)?;
        let slot = self.waiting.remove(at)?;
        self.bytes -= slot.bytes;
        self.mixed -= usize::from(!slot.alone);
        self.changes += 1;
        Some(slot)
    }

    fn next(&mut self, attempts: u64) -> Option<usize> {
        if self.waiting.front()?.parcel.is_settled() {
            return Some(0);
        }
        let now = (self.changes, attempts);
        if self.looked == now {
            return None;
        }
        let found = self.passing();
        if found.is_none() {
            self.looked = now;
        }
        found
    }

    /// The first group that may pass all those in front of it.
    fn passing(&mut self) -> Option<usize> {
        self.ahead.clear();
        for (at, slot) in self.waiting.iter().enumerate() {
            let source = slot.source().filter(|_| slot.alone)?;
            let is_first = !self.ahead.contains(&source);
            if is_first && slot.parcel.is_settled() {
                return Some(at);
            }
            if !slot.parcel.is_settled() && !slot.parcel.is_tried() {
                return None;
            }
            if is_first {
                self.ahead.push(source);
            }
        }
        None
    }

    /// The sources that should not be read for now, if these are others than at the last call: those with letters for which there
    /// is no space, and if they use half of their space, or `is_tight` is set, all with letters that wait.
    pub fn take_resting(&mut self, attempts: u64, is_tight: bool) -> Option<&[SourceKey]> {
        let now = (self.changes, attempts, is_tight);
        if std::mem::replace(&mut self.rested, now) == now || self.waiting.is_empty() && self.resting.is_empty() {
            return None;
        }
        self.look_who_is_refused();
        let (groups, bytes) = self.refused_holding;
        let is_tight = is_tight || groups > REFUSED_BATCHES_MAX / 2 || bytes > REFUSED_BYTES_MAX / 2;
        self.ahead.clear();
        self.ahead.extend_from_slice(&self.refused);
        if is_tight && !self.refused.is_empty() {
            let unsettled = self.waiting.iter().filter(|slot| !slot.parcel.is_settled());
            add_new(&mut self.ahead, unsettled.filter_map(Slot::source));
        }
        if self.ahead == self.resting {
            return None;
        }
        std::mem::swap(&mut self.ahead, &mut self.resting);
        Some(&self.resting)
    }

    fn look_who_is_refused(&mut self) {
        self.refused.clear();
        let refused = self.waiting.iter().filter(|slot| slot.is_refused());
        self.refused_holding = refused.clone().fold((0, 0), |(groups, bytes), slot| (groups + 1, bytes + slot.bytes));
        add_new(&mut self.refused, refused.filter_map(Slot::source));
    }
}

/// Adds those sources that are not in the list yet.
fn add_new(list: &mut Vec<SourceKey>, sources: impl Iterator<Item = SourceKey>) {
    for source in sources {
        if !list.contains(&source) {
            list.push(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dlq::{ComponentKind, DeadLetter};
    use crate::env::Timestamp;
    use crate::limits::SEGMENT_BYTES_DEFAULT;
    use crate::wal::frame::FrameKind;

    fn slot(yard: &mut Yard, bytes: usize) -> Slot {
        let mut slot = yard.slot();
        slot.group.frame(FrameKind::Events, 0, 1).payload().resize(bytes, b'x');
        slot
    }

    #[test]
    fn what_waits_is_bounded_by_count_and_by_bytes() {
        for (bytes, most) in [(10, PARKED_BATCHES_MAX), (PARKED_BYTES_MAX / 4, 4)] {
            let mut yard = Yard::for_segments(SEGMENT_BYTES_DEFAULT);
            let mut count = 0;
            while yard.has_room() {
                let slot = slot(&mut yard, bytes);
                yard.enter(slot);
                count += 1;
            }
            assert_eq!(count, most);
            while let Some(slot) = yard.leave(0) {
                yard.put_back(slot);
            }
            assert_eq!((yard.holding(), yard.left()), ((0, 0), yard.entered()));
        }
    }

    /// A group with a letter. The clerk has tried to store it, and there was no space.
    fn refused(yard: &mut Yard, bytes: usize) -> Slot {
        let slot = slot(yard, bytes);
        slot.parcel.letters().push(&DeadLetter {
            kind: ComponentKind::Input,
            component: "app",
            place: "parse",
            source: b"",
            reason: "scripted",
            attempts: 0,
            timestamp: Timestamp(0),
            original: b"x",
        });
        slot.parcel.hand_in();
        slot.parcel.end_attempt();
        slot
    }

    #[test]
    fn groups_without_space_for_their_letters_leave_space_for_others() {
        for bytes in [10, PARKED_BYTES_MAX / 4] {
            let mut yard = Yard::for_segments(SEGMENT_BYTES_DEFAULT);
            let enter = |yard: &mut Yard, make: fn(&mut Yard, usize) -> Slot| {
                let mut entered = 0;
                while yard.has_room() {
                    let slot = make(yard, bytes);
                    yard.enter(slot);
                    yard.take_resting(0, false);
                    entered += 1;
                }
                entered
            };
            let refused = enter(&mut yard, refused);
            assert!(refused > 4 && yard.holding().0 <= PARKED_BATCHES_MAX + REFUSED_BATCHES_MAX, "{refused}");
            assert!(yard.holding().1 < PARKED_BYTES_MAX + REFUSED_BYTES_MAX + bytes + 1000);
            assert_eq!(enter(&mut yard, slot), 0, "the yard is full");
        }
        let mut yard = Yard::for_segments(SEGMENT_BYTES_DEFAULT);
        for _ in 0..PARKED_BATCHES_MAX {
            let slot = refused(&mut yard, 10);
            yard.enter(slot);
        }
        assert!(!yard.has_room(), "it is not known yet that there is no space for them");
        yard.take_resting(1, false);
        assert!(yard.has_room());
    }

    #[test]
    fn slots_are_used_again_but_for_those_beyond_the_bound() {
        let mut yard = Yard::for_segments(SEGMENT_BYTES_DEFAULT);
        for bytes in [100, 200, 3 * PARKED_BYTES_MAX] {
            let mut slot = Slot::default();
            slot.group.frame(FrameKind::Events, 0, 1).payload().resize(bytes, b'x');
            yard.put_back(slot);
        }
        assert_eq!(yard.spare.len(), 2);
        let again = yard.slot();
        assert!(again.group.is_empty() && again.group.capacity() >= 200);
    }
}
