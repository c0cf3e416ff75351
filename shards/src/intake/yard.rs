//! Yard: where the groups of one lane wait until their dead letters are durable, in the order in which they are to be appended.
//!
//! Guarantees: groups leave in the order in which they arrived (invariant E3). The waiting groups are limited by number and by
//! bytes (invariant E4); only the last group may exceed the limit. Buffers are reused, so that in steady state none is
//! allocated for a batch. Does not append and does not wait: the intake does.

use crate::dlq::Parcel;
use crate::limits::{PARKED_BATCHES_MAX, PARKED_BYTES_MAX};
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
    bytes: usize,
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
    /// Total number of groups that entered and that left.
    entered: u64,
    left: u64,
}

impl Yard {
    /// An empty yard, for a log with segments of this size.
    pub fn for_segments(segment_bytes: u64) -> Yard {
        let (waiting, spare) = (VecDeque::new(), Vec::new());
        Yard { segment_bytes, waiting, bytes: 0, spare, spare_bytes: 0, entered: 0, left: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub fn has_room(&self) -> bool {
        self.waiting.len() < PARKED_BATCHES_MAX && self.bytes < PARKED_BYTES_MAX
    }

    /// Number of waiting groups, and their bytes.
    pub fn holding(&self) -> (usize, usize) {
        (self.waiting.len(), self.bytes)
    }

    /// Total number of groups that entered. Together with [`Yard::left`], it tells when all current groups have left.
    pub fn entered(&self) -> u64 {
        self.entered
    }

    pub fn left(&self) -> u64 {
        self.left
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
        self.bytes += slot.bytes;
        self.entered += 1;
        self.waiting.push_back(slot);
    }

    /// Removes and returns the first group, if it no longer has to wait.
    pub fn leave(&mut self) -> Option<Slot> {
        let slot = self.waiting.pop_front_if(|slot| slot.parcel.is_settled())?;
        self.bytes -= slot.bytes;
        self.left += 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
            while let Some(slot) = yard.leave() {
                yard.put_back(slot);
            }
            assert_eq!((yard.holding(), yard.left()), ((0, 0), yard.entered()));
        }
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
