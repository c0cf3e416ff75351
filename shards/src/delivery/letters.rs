//! Events that the destination refuses, or that could not be delivered in time: on their way to the dead letter queue.
//!
//! Guarantees: each is in the queue, or counted as discarded for a named reason, before the cursor passes it; a crash in between
//! makes its letter once more. An output that gives way in a full log does so too while the queue has no room.

use super::source::Taken;
use super::{Deliverer, End};
use crate::counters::{DeadLettered, Discard};
use crate::dlq::{ComponentKind, DeadLetter, Letters};
use crate::env::{Disk as _, Env, Sabotage};
use crate::plugin::{Delivery, Event};

impl<E: Env> Deliverer<E> {
    /// Counts a delivery without the events that were refused, and keeps these.
    pub(super) async fn reject(
        &self,
        delivery: &Delivery<'_>,
        mut refused: Vec<(u64, String)>,
        taken: &[Taken<E::Disk>],
    ) -> Result<(), End> {
        refused.sort_by_key(|(index, _)| *index);
        refused.dedup_by_key(|(index, _)| *index);
        refused.retain(|(index, _)| *index < delivery.events);
        let (events, counters) = (refused.len() as u64, &self.context.counters);
        counters.sent_events.add(delivery.events - events);
        if let Some((_, reason)) = refused.first() {
            self.report(&format!("{events} events refused, now dead letters; the first: {reason}"));
        }
        let mut letters = self.letters();
        let (mut left, mut bytes) = (refused.iter().peekable(), delivery.bytes);
        for (index, event) in delivery.iter().enumerate() {
            if let Some((_, reason)) = left.next_if(|(refused, _)| *refused == index as u64) {
                bytes -= event.line.len() as u64;
                self.add(&mut letters, &event, DeadLettered::Rejected, reason, delivery.attempt);
            }
        }
        counters.sent_bytes.add(bytes);
        self.keep(letters, DeadLettered::Rejected, taken).await
    }

    /// Keeps a delivery that was tried for as long as it may be.
    pub(super) async fn give_up(
        &self,
        delivery: &Delivery<'_>,
        error: &str,
        taken: &[Taken<E::Disk>],
    ) -> Result<(), End> {
        let reason = format!("not delivered within retry.max_age: {error}");
        self.report(&format!("{} events are given up, now dead letters: {reason}", delivery.events));
        let mut letters = self.letters();
        for event in delivery.iter() {
            self.add(&mut letters, &event, DeadLettered::RetriesExhausted, &reason, delivery.attempt);
        }
        self.keep(letters, DeadLettered::RetriesExhausted, taken).await
    }

    fn letters(&self) -> Letters {
        let mut letters = Letters::new();
        letters.begin(self.context.env.wall());
        letters
    }

    fn add(&self, letters: &mut Letters, event: &Event<'_>, why: DeadLettered, reason: &str, attempt: u32) {
        letters.push(&DeadLetter {
            kind: ComponentKind::Output,
            component: &self.context.name,
            place: why.name(),
            source: b"",
            reason,
            attempts: attempt.saturating_add(1),
            timestamp: event.timestamp,
            original: event.line,
        });
    }

    async fn keep(&self, mut letters: Letters, why: DeadLettered, taken: &[Taken<E::Disk>]) -> Result<(), End> {
        let (all, counters) = (letters.count(), &self.context.counters);
        if all == 0 {
            return Ok(());
        }
        if E::Disk::sabotaged(Sabotage::ForgetLetters) {
            counters.dead_lettered[why as usize].add(all);
            return Ok(());
        }
        let gives_way = async {
            let _ = self.held_up(taken).await;
        };
        let kept = self.unless_forced(self.clerk.keep(&mut letters, gives_way)).await?;
        counters.dead_lettered[why as usize].add(kept.stored);
        counters.discarded.add(Discard::DeadLettersFull, kept.dropped);
        counters.discarded.add(Discard::WalFull, kept.left);
        Ok(())
    }
}
