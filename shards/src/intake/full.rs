//! Log messages of an intake about a WAL that fills up: which outputs are behind, and what is dropped because of it.
//!
//! Guarantees: the number of messages is bounded, however long it lasts. Drops nothing itself.

use super::Intake;
use crate::counters::Discard;
use crate::env::Env;
use crate::spell::News;

impl<E: Env> Intake<E> {
    /// Reports that the log is full and which outputs hold its oldest segment.
    pub(super) fn tell_of_full_log(&self) {
        let log = self.keeper.log();
        let behind = names(log.holders().iter().map(|name| &**name));
        tracing::warn!(
            log = log.id().0,
            outputs = %behind,
            "the write-ahead log is full of events that these outputs have not delivered: the intake waits and inputs are not read; \
             find out why the outputs are behind, or raise wal.max_bytes"
        );
    }

    /// Reports when outputs with the policy `sample` begin to lose events, every minute how many were lost, and when it ends.
    pub(super) fn tell_of_sampling(&mut self) {
        if self.sampled_outputs == 0 {
            return;
        }
        let dropped = self.wal_full.iter().map(|discarded| discarded.get(Discard::WalFull)).sum();
        let Some(news) = self.sampling.look(dropped, self.env.now()) else { return };
        let log = self.keeper.log().id().0;
        match news {
            News::Begins => {
                let sampled = self.keeper.with_writer(|writer| {
                    let registry = writer.state().registry.iter();
                    names(registry.filter(|of| of.number.bit() & self.sampled_outputs != 0).map(|of| &*of.name))
                });
                let behind = names(self.keeper.log().holders().iter().map(|name| &**name));
                tracing::warn!(
                    log,
                    outputs = %sampled,
                    behind = %behind,
                    when_full = "sample",
                    "the write-ahead log is three quarters full: nine of ten frames of events for these outputs are dropped; find out why \
                     outputs are behind, or raise wal.max_bytes"
                );
            }
            News::Lasts(events) => {
                tracing::info!(
                    log,
                    events,
                    "events were dropped because the write-ahead log fills up, and more may follow"
                )
            }
            News::Over(events) => {
                tracing::info!(
                    log,
                    events,
                    "no events have been dropped because of a write-ahead log that fills up for a minute"
                )
            }
        }
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
