//! What an intake says of a log that fills up: who is behind, and what is dropped for it.
//!
//! Guarantees: bounded, however long it lasts. Drops nothing itself.

use super::Intake;
use crate::counters::Discard;
use crate::env::Env;
use crate::spell::News;

impl<E: Env> Intake<E> {
    /// Says that the log is full and which outputs hold its oldest segment.
    pub(super) fn tell_of_full_log(&self) {
        let log = self.keeper.log();
        let behind = names(log.holders().iter().map(|name| &**name));
        tracing::warn!(
            log = log.id().0,
            outputs = %behind,
            "the write-ahead log is full of what these outputs have not delivered: intake waits and inputs are not read; see why they are \
             behind, or raise wal.max_bytes"
        );
    }

    /// Says when outputs with the policy `sample` begin to lose events, and each minute and at its end how many it were.
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
                    "the write-ahead log is three quarters full: of ten frames of events for these outputs nine are dropped; see why the \
                     outputs that are behind are, or raise wal.max_bytes"
                );
            }
            News::Lasts(events) => {
                tracing::info!(log, events, "events were dropped for a log that fills up, and more may be")
            }
            News::Over(events) => {
                tracing::info!(log, events, "no event was dropped for a log that fills up for a minute")
            }
        }
    }
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
