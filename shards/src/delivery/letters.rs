//! Events that the destination rejects, or that could not be delivered in time, on their way to the dead letter queue.
//!
//! Guarantees: each event is in the queue, or counted as discarded with a reason, before the cursor passes it. A crash in
//! between creates its letter once more. An output whose policy is to drop when the log is full also drops while the queue has
//! no space, and one whose policy is to drop letters waits for no space.

use super::source::Taken;
use super::{Deliverer, End};
use crate::counted::counted;
use crate::counters::{DeadLettered, Discard};
use crate::dlq::{ComponentKind, DeadLetter, Letters};
use crate::env::{Disk as _, Env, Monotonic, Sabotage};
use crate::plugin::{Delivery, Event, Output, Untaken};

/// Why a delivery is not retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The maximum time for attempts has passed.
    TooOld,
    /// The log is full, and the output's policy is to drop.
    LogFull,
}

impl<E: Env> Deliverer<E> {
    /// Counts a delivery without the rejected events, and stores these in the queue.
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
            let events = counted(events, "event");
            self.report(&format!("{events} moved to the dead letter queue; the first: {reason}"));
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

    /// Why a delivery that has just failed is not retried. None if it is retried.
    pub(super) fn ends_attempts(&self, begun: Monotonic, taken: &[Taken<E::Disk>]) -> Option<Ended> {
        let age = self.context.env.now().since(begun);
        let gives_way = || self.options.when_full.gives_way() && self.blocks_a_full_log(taken);
        match self.options.retry.age_max {
            Some(age_max) if age >= age_max => Some(Ended::TooOld),
            _ => gives_way().then_some(Ended::LogFull),
        }
    }

    /// Ends the attempts. Events that the output did not accept are stored in the queue, or dropped if the log is full. Events
    /// that it accepted count as sent.
    pub(super) async fn give_up(
        &self,
        output: &mut dyn Output,
        delivery: &Delivery<'_>,
        error: &str,
        taken: &[Taken<E::Disk>],
        ended: Ended,
    ) -> Result<(), End> {
        let all = || Untaken { left: (0..delivery.events).collect(), refused: Vec::new() };
        let Untaken { mut left, mut refused } = output.give_up().unwrap_or_else(all);
        left.sort_unstable();
        refused.sort_by_key(|(index, _)| *index);
        refused.dedup_by_key(|(index, _)| *index);
        let reason = format!("not delivered within retry.max_age: {error}");
        let (mut exhausted, mut rejected) = (self.letters(), self.letters());
        let (mut left, mut refused) = (left.iter().peekable(), refused.iter().peekable());
        let (mut sent, mut sent_bytes, mut let_go) = (0, 0, 0);
        for (index, event) in (0..).zip(delivery.iter()) {
            let is_left = std::iter::from_fn(|| left.next_if(|left| **left <= index)).last() == Some(&index);
            if let Some((_, reason)) = refused.next_if(|(refused, _)| *refused == index) {
                self.add(&mut rejected, &event, DeadLettered::Rejected, reason, delivery.attempt);
            } else if !is_left {
                sent += 1;
                sent_bytes += event.line.len() as u64;
            } else if ended == Ended::TooOld {
                self.add(&mut exhausted, &event, DeadLettered::RetriesExhausted, &reason, delivery.attempt);
            } else {
                let_go += 1;
            }
        }
        let counters = &self.context.counters;
        counters.sent_events.add(sent);
        counters.sent_bytes.add(sent_bytes);
        counters.discarded.add(Discard::WalFull, let_go);
        self.dropped_from.set(taken.first().map(|part| self.readers[part.reader].log_id()));
        if exhausted.count() + rejected.count() > 0 {
            let (given_up, refused) = (exhausted.count(), rejected.count());
            self.report(&format!(
                "{} not delivered and {refused} rejected, now dead letters: {reason}",
                counted(given_up, "event")
            ));
        }
        self.keep(rejected, DeadLettered::Rejected, taken).await?;
        self.keep(exhausted, DeadLettered::RetriesExhausted, taken).await
    }

    fn letters(&self) -> Letters {
        let mut letters = Letters::new();
        letters.begin(self.context.env.wall());
        letters
    }

    fn add(&self, letters: &mut Letters, event: &Event<'_>, why: DeadLettered, reason: &str, attempt: u32) {
        let mut owner = Vec::new();
        self.spec.owner_of(event, &mut owner);
        letters.push(&DeadLetter {
            kind: ComponentKind::Output,
            component: &self.context.name,
            place: why.name(),
            source: &owner,
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
        let kept = self.clerk.keep(&mut letters, self.options.letters_full, gives_way);
        let kept = self.unless_forced(kept).await?;
        counters.dead_lettered[why as usize].add(kept.stored);
        counters.discarded.add(Discard::DeadLettersFull, kept.dropped);
        counters.discarded.add(Discard::WalFull, kept.left);
        Ok(())
    }
}
