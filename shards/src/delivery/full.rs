//! What a delivery does when a WAL is full because of its output.
//!
//! Guarantees: what the policies `drop_oldest` and `sample` drop is counted, and they drop only whole segments. `block` drops
//! nothing here. An output that hangs, that cannot be opened or that waits at its gate drops events like one that fails.

use super::source::{LogReader, Taken};
use super::{Deliverer, OutputFull};
use crate::counters::Discard;
use crate::env::Env;
use crate::plugin::Outcome;
use crate::spell::News;
use std::time::Duration;

/// How often to check whether a hanging output is the reason why a log is full.
pub(super) const GIVE_WAY_INTERVAL: Duration = Duration::from_secs(1);

impl<E: Env> Deliverer<E> {
    /// Completes when a delivery that does not end keeps a log full, and the output's policy is to drop its oldest events.
    pub(super) async fn held_up(&self, taken: &[Taken<E::Disk>]) -> std::thread::Result<Option<Outcome>> {
        loop {
            self.context.env.sleep(GIVE_WAY_INTERVAL).await;
            if self.options.when_full.gives_way() && self.blocks_a_full_log(taken) {
                return Ok(None);
            }
        }
    }

    /// Drops the oldest segment's events of an output that is not open, if its policy says so, from each log that is full.
    pub(super) async fn give_way(&mut self) {
        if self.options.when_full.gives_way() && self.a_log_is_full() {
            if self.drop_oldest().await > 0 {
                self.again_bytes = None;
            }
            // A refused commit is retried with the next one.
            let _ = self.record(self.committed_state.clone());
        }
        self.tell_of_drops();
    }

    /// As [`Deliverer::give_way`], without the commit, because an open output has its own state to commit with. Returns how
    /// many events were dropped.
    pub(super) async fn drop_oldest(&mut self) -> u64 {
        if !self.options.when_full.gives_way() {
            return 0;
        }
        let bit = self.context.number.bit();
        let mut dropped = 0;
        for index in 0..self.readers.len() {
            while self.readers[index].log_is_full() && !self.readers[index].has_left_a_segment() {
                match self.readers[index].next_epoch() {
                    Ok(None) if self.brings_in(index).await => continue,
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(damage) => {
                        self.context.counters.discarded.add(Discard::Damaged, damage.frames);
                        continue;
                    }
                }
                let reader = &mut self.readers[index];
                let Some(part) = reader.take(index, u64::MAX) else { break };
                dropped += part.piece(bit).events();
                reader.delivered(&part);
                self.dropped_from.set(Some(reader.log_id()));
            }
        }
        self.context.counters.discarded.add(Discard::WalFull, dropped);
        self.passed += dropped;
        dropped
    }

    /// Reports when dropping begins, every minute how much was dropped, and when it ends.
    pub(super) fn tell_of_drops(&mut self) {
        if !self.options.when_full.gives_way() {
            return;
        }
        let dropped = self.context.counters.discarded.get(Discard::WalFull);
        let Some(news) = self.dropping.look(dropped, self.context.env.now()) else { return };
        let (name, log) = (&self.context.name, self.dropped_from.get().map(|log| log.0));
        let policy = if self.options.when_full == OutputFull::Sample { "sample" } else { "drop_oldest" };
        match news {
            News::Begins => tracing::warn!(
                component_id = %name,
                component_kind = "output",
                log,
                when_full = policy,
                "the write-ahead log is full of events that this output has not delivered, and its oldest events are dropped: find out \
                 why it is behind, or raise wal.max_bytes"
            ),
            News::Lasts(events) => {
                tracing::info!(component_id = %name, component_kind = "output", log, events, "events were dropped because the write-ahead log is full, and more may follow");
            }
            News::Over(events) => {
                tracing::info!(component_id = %name, component_kind = "output", log, events, "no events have been dropped because of a full write-ahead log for a minute");
            }
        }
    }

    pub(super) fn a_log_is_full(&self) -> bool {
        self.readers.iter().any(LogReader::log_is_full)
    }

    pub(super) fn holds_a_full_log(&self) -> bool {
        self.readers.iter().any(|reader| reader.log_is_full() && reader.has_left_a_segment())
    }

    pub(super) fn blocks_a_full_log(&self, taken: &[Taken<E::Disk>]) -> bool {
        taken.iter().any(|part| self.readers[part.reader].log_is_full())
    }
}
