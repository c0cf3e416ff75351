//! What seeds did, in numbers, so that a test can see that all of it happened in some.
//!
//! Guarantees: counts what struck, not what was drawn: a fault or a mood that has stopped acting is seen as a zero. Judges
//! nothing.

use crate::sim::disk::Struck;
use crate::sim::oracle::Summary;

macro_rules! told {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// See the module.
        #[derive(Clone, Copy, Debug, Default)]
        pub struct Told {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Told {
            /// Adds what another seed did.
            pub fn add(&mut self, other: &Told) {
                $(self.$name += other.$name;)*
            }

            /// Each by its name.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

told! {
    /// Lives of the process.
    lives,
    /// Of these, ended by a crash of the process.
    crashes,
    /// Ended by a loss of power.
    power_losses,
    /// Stopped by the disk between two changes of it.
    cut_short,
    /// Ended by the engine itself, after a failed sync say.
    failures,
    /// That went on when all was well again, until a fresh event had passed.
    went_on,
    /// Ended in order.
    drains,
    /// Of these, forced since it took too long.
    forced,
    /// Starts that were refused, on a full disk say.
    refused,
    /// Starts that were refused since events waited for an output which had left.
    refused_for_waiting,
    /// Outputs that went on under another name.
    renamed,
    /// Starts with another number of shards than the one before.
    resharded,
    /// Starts with other pipelines or outputs.
    replanned,
    /// Frames of events or positions that rotted.
    rotten,
    /// Snapshots that rotted.
    rotten_snapshots,
    /// Commits that rotted.
    rotten_commits,
    /// Seals that rotted.
    rotten_seals,
    /// Headers of segments that rotted.
    rotten_headers,
    /// Logs that vanished, or all of their segments.
    lost_logs,
    /// First segments of a log that vanished.
    lost_segments,
    /// Outputs that left the configuration with events waiting.
    removed,
    /// Events made.
    events,
    /// Deliveries beyond the first of an event and an output.
    repeats,
    /// Events that a lane dropped.
    ring_full,
    /// Events that were dropped since the log was full.
    wal_full,
    /// Events that were given up after their retry time.
    retries_exhausted,
    /// Of all that were dropped or given up, those that no later life can decide again.
    final_discards,
    /// Events that an output refused, which are dead letters.
    rejected,
    /// Events that became dead letters before they were in a log.
    unreadable,
    /// Events for which the dead letter queue had no room.
    dlq_full,
    /// Deliveries that were to be tried again.
    retries,
    /// Of these, those of which a part had gone out.
    parts,
    /// Deliveries that took long.
    slow,
    /// Deliveries that took long because of one source.
    slow_sources,
    /// Deliveries that hung.
    hangs,
    /// Panics of an output.
    output_panics,
    /// Outputs that refused to open.
    closed,
    /// Commits that took long.
    late_commits,
    /// Commits that failed.
    unsure_commits,
    /// Deliveries that were answered with what no output may say.
    wild_answers,
    /// Commits that attached more than they may.
    large_states,
    /// Inputs that ended with an error.
    input_failures,
    /// Panics of an input.
    input_panics,
    /// Changes of the disk that had no room.
    disk_full,
    /// Syncs of files that failed.
    failed_syncs,
    /// Syncs of directories that failed.
    failed_directory_syncs,
    /// Writes that failed.
    failed_writes,
    /// Renames for which there was no room.
    refused_renames,
    /// Sources that ended.
    ended_sources,
    /// Polls of the executor.
    steps,
}

impl Told {
    /// Adds what the judge made of one output.
    pub(super) fn add_summary(&mut self, summary: &Summary) {
        let of = |reason: &str| summary.discarded.get(reason).copied().unwrap_or(0);
        self.repeats += summary.repeats;
        self.final_discards += summary.final_discards;
        self.ring_full += of("ring_full");
        self.wal_full += of("wal_full");
        self.retries_exhausted += of("retries_exhausted");
        self.rejected += of("rejected");
        self.unreadable += of("script");
        self.dlq_full += of("dlq_full");
        self.removed += u64::from(of("output_removed") > 0);
    }

    /// Adds what the disk did wrong.
    pub(super) fn add_struck(&mut self, struck: Struck) {
        self.disk_full += struck.full;
        self.failed_syncs += struck.syncs;
        self.failed_directory_syncs += struck.directory_syncs;
        self.failed_writes += struck.writes;
        self.refused_renames += struck.renames;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_hold_every_count() {
        let mut sum = Told { lives: 1, steps: 2, ..Told::default() };
        sum.add(&Told { lives: 3, hangs: 4, ..Told::default() });
        let counts = sum.counts();
        let some: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(some, [("lives", 4), ("hangs", 4), ("steps", 2)]);
    }
}
