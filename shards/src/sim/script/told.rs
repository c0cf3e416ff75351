//! Statistics of seeds, so that a test can check that everything happened in some seed.
//!
//! Guarantees: counts what occurred, not what was drawn: a fault or a mood that has no effect any more shows as zero. Checks
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
            /// Adds the statistics of another seed.
            pub fn add(&mut self, other: &Told) {
                $(self.$name += other.$name;)*
            }

            /// All counts with their names.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

told! {
    /// Lives of the process.
    lives,
    /// Lives ended by a crash of the process.
    crashes,
    /// Lives ended by a power loss.
    power_losses,
    /// Lives stopped by the disk between two of its changes.
    cut_short,
    /// Lives ended by the engine itself, for example after a failed sync.
    failures,
    /// Lives that continued after all faults were removed, until a fresh event was delivered.
    went_on,
    /// Lives that ended in order.
    drains,
    /// How many of these were forced because they took too long.
    forced,
    /// Starts that were refused, for example on a full disk.
    refused,
    /// Starts with a different number of shards than the previous one.
    resharded,
    /// Starts with different pipelines or outputs.
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
    /// Logs that disappeared, or all of their segments.
    lost_logs,
    /// First segments of a log that disappeared.
    lost_segments,
    /// Outputs that were removed while events waited for them.
    removed,
    /// Events made.
    events,
    /// Deliveries beyond the first of an event and an output.
    repeats,
    /// Events that a lane dropped.
    ring_full,
    /// Events that were dropped because the log was full.
    wal_full,
    /// Events that were given up after their retry time.
    retries_exhausted,
    /// How many of all dropped or abandoned events no later life can decide again.
    final_discards,
    /// Events that an output rejected and that are dead letters.
    rejected,
    /// Events that became dead letters before they were in a log.
    unreadable,
    /// Events for which the dead letter queue had no space.
    dlq_full,
    /// Deliveries that requested a retry.
    retries,
    /// How many of these were partly delivered.
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
    /// Deliveries with an invalid answer.
    wild_answers,
    /// Commits that returned more state than allowed.
    large_states,
    /// Inputs that ended with an error.
    input_failures,
    /// Panics of an input.
    input_panics,
    /// Changes of the disk for which there was no space.
    disk_full,
    /// Syncs of files that failed.
    failed_syncs,
    /// Syncs of directories that failed.
    failed_directory_syncs,
    /// Writes that failed.
    failed_writes,
    /// Renames for which there was no space.
    refused_renames,
    /// Sources that ended.
    ended_sources,
    /// Polls of the executor.
    steps,
}

impl Told {
    /// Adds the oracle's summary of one output.
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

    /// Adds the disk faults that occurred.
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
