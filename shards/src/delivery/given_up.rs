//! Deliveries that are given up after some of their events were taken.
//!
//! Guarantees: an event that the destination took counts as sent, one that it refused as rejected, and only the others as discarded
//! for the reason that ended the attempts; outputs that take all or nothing need not do anything for that.

use super::source::Taken;
use super::{Deliverer, OutputFull};
use crate::counters::Discard;
use crate::env::{Env, Monotonic};
use crate::plugin::{Delivery, Output, Untaken};

impl<E: Env> Deliverer<E> {
    /// Why a delivery that has just failed is not tried again; none as long as it is.
    pub(super) fn ends_attempts(&self, begun: Monotonic, taken: &[Taken<E::Disk>]) -> Option<Discard> {
        let age = self.context.env.now().since(begun);
        let gives_way = || self.options.when_full == OutputFull::DropOldest && self.blocks_a_full_log(taken);
        match self.options.retry.age_max {
            Some(age_max) if age >= age_max => Some(Discard::RetriesExhausted),
            _ => gives_way().then_some(Discard::WalFull),
        }
    }

    /// Counts the events of a delivery that is not tried again, for this reason.
    pub(super) fn count_given_up(&self, output: &mut dyn Output, delivery: &Delivery<'_>, why: Discard) {
        let counters = &self.context.counters;
        let Some(Untaken { left, refused }) = output.give_up() else {
            return counters.discarded.add(why, delivery.events);
        };
        let mut untaken: Vec<u64> = left.iter().copied().chain(refused.iter().map(|(index, _)| *index)).collect();
        untaken.sort_unstable();
        untaken.dedup();
        let mut next = untaken.iter().peekable();
        let (mut events, mut bytes) = (0, 0);
        for (index, event) in (0..).zip(delivery.pieces.iter().flat_map(|piece| piece.iter())) {
            if next.next_if(|untaken| **untaken == index).is_none() {
                events += 1;
                bytes += event.line.len() as u64;
            }
        }
        let rejected = (refused.len() as u64).min(delivery.events - events);
        counters.sent_events.add(events);
        counters.sent_bytes.add(bytes);
        counters.discarded.add(Discard::Rejected, rejected);
        counters.discarded.add(why, delivery.events - events - rejected);
        if let Some((_, reason)) = refused.first() {
            self.report(&format!("{rejected} events refused, the first: {reason}"));
        }
    }
}
