//! Counters: what a shard's components have done, as plain numbers with one writer each.
//!
//! Guarantees: counting costs a load and a store, no lock and no read-modify-write; any thread may read at any time. A reader
//! that sums several counters reads those that are counted later in an event's life first, so that a sum of what left is
//! never larger than the sum of what came. Does not name metrics: the product's metric table does.

use crate::env::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A number that one thread writes and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it; only from its one writer.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Release);
    }

    /// Replaces it; only from its one writer.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Why events were let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// The lane was full and its policy says drop.
    RingFull,
    /// The log was full and the output's policy says drop.
    WalFull,
    /// The line was longer than allowed and the input's policy says discard.
    LineTooLong,
    /// It was to be a dead letter, and the queue of these was full.
    DeadLettersFull,
    /// The output left the configuration with events waiting.
    OutputRemoved,
    /// The bytes in the log were damaged.
    Damaged,
    /// A transform dropped the event, or no output of the pipeline takes it.
    Filtered,
    /// The event could not be parsed and its parser's policy says drop.
    Unparsed,
    /// What transforms made of the event is longer than an event may be.
    Oversized,
    /// A transform has counted the event in another one, which leaves in its place.
    Aggregated,
}

impl Discard {
    /// All reasons, in the order of their counters.
    pub const ALL: [Discard; 10] = [
        Discard::RingFull,
        Discard::WalFull,
        Discard::LineTooLong,
        Discard::DeadLettersFull,
        Discard::OutputRemoved,
        Discard::Damaged,
        Discard::Filtered,
        Discard::Unparsed,
        Discard::Oversized,
        Discard::Aggregated,
    ];

    /// The reason as metrics and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Discard::RingFull => "ring_full",
            Discard::WalFull => "wal_full",
            Discard::LineTooLong => "line_too_long",
            Discard::DeadLettersFull => "dlq_full",
            Discard::OutputRemoved => "output_removed",
            Discard::Damaged => "damaged",
            Discard::Filtered => "filtered",
            Discard::Unparsed => "unparsed",
            Discard::Oversized => "oversized",
            Discard::Aggregated => "aggregated",
        }
    }

    /// The reason in one sentence, for documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Discard::RingFull => "The ring of the input was full, and `ring.when_full` says to drop.",
            Discard::WalFull => "The write-ahead log was full, and the output's `when_full` says to drop.",
            Discard::LineTooLong => {
                "The line was longer than `max_line_bytes`, and `line_too_long` says to discard it."
            }
            Discard::DeadLettersFull => "The event should have become a dead letter, and the queue was full.",
            Discard::OutputRemoved => "The output was removed from the configuration while events waited for it.",
            Discard::Damaged => "The bytes of the event in the write-ahead log were damaged.",
            Discard::Filtered => "A transform dropped the event, or no output of the pipeline accepts it.",
            Discard::Unparsed => "A parser could not parse the event, and `on_error` says to drop it.",
            Discard::Oversized => "Transforms made the event longer than an event may be.",
            Discard::Aggregated => {
                "`aggregate` combined the event with others; the combined event continues in its place."
            }
        }
    }
}

/// Discarded events by reason.
#[derive(Default)]
pub struct Discarded([Counter; Discard::ALL.len()]);

impl Discarded {
    /// Adds events to a reason; only from its one writer.
    pub fn add(&self, reason: Discard, events: u64) {
        self.0[reason as usize].add(events);
    }

    /// Events discarded for a reason.
    pub fn get(&self, reason: Discard) -> u64 {
        self.0[reason as usize].get()
    }

    /// Events discarded for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// Why events of an output went to the dead letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLettered {
    /// The destination refused the event for good.
    Rejected,
    /// It was not delivered within the retry time.
    RetriesExhausted,
}

impl DeadLettered {
    /// All reasons, in the order of their counters.
    pub const ALL: [DeadLettered; 2] = [DeadLettered::Rejected, DeadLettered::RetriesExhausted];

    /// The reason as metrics, logs and letters spell it.
    pub fn name(self) -> &'static str {
        match self {
            DeadLettered::Rejected => "rejected",
            DeadLettered::RetriesExhausted => "retries_exhausted",
        }
    }

    /// The reason in one sentence, for documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            DeadLettered::Rejected => "The destination refused the event permanently.",
            DeadLettered::RetriesExhausted => "The event was not delivered within `retry.max_age`.",
        }
    }
}

/// Why bytes of a source could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The file was truncated before its end was read.
    Truncated,
    /// The file was deleted before its end was read, while no descriptor held it.
    Deleted,
}

impl Lost {
    /// All reasons, in the order of their counters.
    pub const ALL: [Lost; 2] = [Lost::Truncated, Lost::Deleted];

    /// The reason as metrics and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Lost::Truncated => "truncated",
            Lost::Deleted => "deleted",
        }
    }

    /// The reason in one sentence, for documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Lost::Truncated => "The file was truncated before its end was read.",
            Lost::Deleted => "The file was deleted before its end was read, while no descriptor was open.",
        }
    }
}

/// One input on one shard.
#[derive(Default)]
pub struct InputCounters {
    /// Events cut from the source.
    pub received_events: Counter,
    /// Bytes read from the source, newlines included.
    pub received_bytes: Counter,
    /// Events let go before the log.
    pub discarded: Discarded,
    /// Events cut short because their line was too long.
    pub truncated_events: Counter,
    /// Errors of the source: reads that failed, files that could not be opened.
    pub errors: Counter,
    /// Bytes that vanished before they could be read.
    pub lost_bytes: [Counter; Lost::ALL.len()],
    /// Files being followed.
    pub files: Counter,
    /// Bytes that are in followed files and not yet read.
    pub unread_bytes: Counter,
}

impl InputCounters {
    /// Adds lost bytes; only from the one writer.
    pub fn lose(&self, reason: Lost, bytes: u64) {
        self.lost_bytes[reason as usize].add(bytes);
    }
}

/// One lane.
#[derive(Default)]
pub struct LaneCounters {
    /// Events sent into it; written by the sender.
    pub sent_events: Counter,
    /// Bytes of chunks sent into it; written by the sender.
    pub sent_bytes: Counter,
    /// Events taken out of it and on their way into the log; written by the receiver.
    pub taken_events: Counter,
    /// Batches taken out of it; written by the receiver.
    pub taken_batches: Counter,
    /// Events in which bytes that are no UTF-8 were replaced; written by the receiver.
    pub replaced_events: Counter,
    /// Events that could not be parsed, kept or not; written by the receiver.
    pub unparsed_events: Counter,
    /// Events that became dead letters of the input before any pipeline had them; written by the receiver.
    pub dead_lettered_events: Counter,
    /// Those of them that the queue of dead letters had no room for; written by the receiver.
    pub dlq_full_events: Counter,
    /// Times a processor held on to events although it was to make all lines; written by the receiver.
    pub breaches: Counter,
    /// Events dropped on the sender's request; written by the receiver.
    pub dropped_events: Counter,
    /// Bytes of chunks dropped on the sender's request; written by the receiver.
    pub dropped_bytes: Counter,
    /// Bytes of chunks that came home; written by the receiver.
    pub taken_bytes: Counter,
    /// Batches of ordinary size that exist; written by the sender.
    pub made_batches: Counter,
    /// Times the sender found it full; written by the sender.
    pub full: Counter,
}

/// What a processor did to events besides making their lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that held bytes which no string can, and hold a replacement character instead.
    pub replaced: u64,
    /// Events that could not be parsed, kept or not.
    pub unparsed: u64,
    /// Of these, the ones that the pipeline let go.
    pub unparsed_dropped: u64,
    /// Events that the pipeline let go on purpose.
    pub filtered: u64,
    /// Events that it let go because they had grown too long.
    pub oversized: u64,
    /// Times that a transform or a condition could not do its work.
    pub failures: u64,
    /// Events that it let go because they are counted in another one.
    pub aggregated: u64,
    /// Events that transforms made.
    pub made: u64,
    /// Events that are counted in what transforms have not made yet: not since the last tally, but now.
    pub held: u64,
}

/// One pipeline on one shard.
#[derive(Default)]
pub struct PipelineCounters {
    /// Events that came to it.
    pub received_events: Counter,
    /// Events that it let go.
    pub discarded: Discarded,
    /// Events that it gave up and that are in the dead letter queue.
    pub dead_lettered_events: Counter,
    /// Times that a transform or a condition could not do its work on an event.
    pub failures: Counter,
    /// Events that its transforms made, which did not come to it.
    pub made_events: Counter,
    /// Events that are counted in what its transforms have not made yet.
    pub held_events: Counter,
}

/// What keeps an output from delivering now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// When the first attempt failed.
    pub since: Timestamp,
    /// Attempts that failed since then.
    pub attempts: u64,
    /// What the last one failed with.
    pub error: String,
}

/// The present trouble of an output, if there is one. Touched when an attempt fails, when one succeeds after that, and by readers.
#[derive(Default)]
pub struct TroubleCell(Mutex<Option<Trouble>>);

impl TroubleCell {
    /// What it is.
    pub fn get(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another attempt failed.
    pub fn add(&self, now: Timestamp, error: &str) {
        let mut cell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, attempts) = cell.as_ref().map_or((now, 0), |trouble| (trouble.since, trouble.attempts));
        *cell = Some(Trouble { since, attempts: attempts + 1, error: error.to_owned() });
    }

    /// It is over.
    pub fn take(&self) -> Option<Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One output on one shard.
#[derive(Default)]
pub struct OutputCounters {
    /// Events that waited in the log when the process started, or again after the output went back to its last commit.
    pub recovered_events: Counter,
    /// Events delivered.
    pub sent_events: Counter,
    /// Bytes of event lines delivered.
    pub sent_bytes: Counter,
    /// Events let go after the log.
    pub discarded: Discarded,
    /// Events in the dead letter queue, by reason.
    pub dead_lettered: [Counter; DeadLettered::ALL.len()],
    /// Deliveries that failed and were tried again.
    pub retries: Counter,
    /// Errors of the output.
    pub errors: Counter,
    /// Cursor commits.
    pub commits: Counter,
    /// Payload bytes of the frames that are being delivered now.
    pub held_bytes: Counter,
    /// When the oldest undelivered event was received, ns since 1970; zero when nothing waits.
    pub oldest_unacked: Gauge,
    /// What keeps it from delivering.
    pub trouble: TroubleCell,
}

impl OutputCounters {
    /// Events that have left the log, those that came back into it not counted again.
    pub fn left(&self) -> i128 {
        let left = self.sent_events.get() + self.dead_lettered_total() + self.discarded.total();
        i128::from(left) - i128::from(self.recovered_events.get())
    }

    /// Events in the dead letter queue, for whatever reason.
    pub fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.iter().map(Counter::get).sum()
    }
}

/// A signed number that one thread writes and any thread reads.
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces it; only from its one writer.
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Release);
    }

    /// Its value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// One shard.
#[derive(Default)]
pub struct ShardCounters {
    /// Syncs of the log that ended well.
    pub syncs: Counter,
    /// Nanoseconds from the begin to the end of these syncs, summed.
    pub sync_nanos: Counter,
    /// Times the intake waited because the log was full.
    pub wal_full: Counter,
    /// Frames appended.
    pub frames: Counter,
    /// Acknowledgements that wait for a sync now.
    pub waiting_acknowledgements: Counter,
    /// Batches that wait for dead letters to be durable now, and the bytes of their frames and letters.
    pub parked_batches: Counter,
    /// See [`ShardCounters::parked_batches`].
    pub parked_bytes: Counter,
    /// Runs of positions that wait now for lines which processors have yet to make.
    pub withheld_runs: Counter,
    /// Ranges of dropped batches that wait for room in the log now.
    pub owed_ranges: Counter,
    /// Frames that are kept for readers now, and the bytes of their buffers.
    pub kept_frames: Counter,
    /// See [`ShardCounters::kept_frames`].
    pub kept_bytes: Counter,
    /// Plugins restarted after a panic.
    pub plugin_panics: Counter,
    /// Dead letters that were stored.
    pub dead_letters: Counter,
    /// Dead letters that the queue had no room for, and those that went to make room.
    pub dead_letters_dropped: Counter,
    /// Times letters were stored, those of many batches with one sync.
    pub dead_letter_syncs: Counter,
    /// Times a letter waited for room in the queue.
    pub dead_letters_full: Counter,
    /// Bytes of the segments of dead letters, and how many of these are open.
    pub dead_letter_bytes: Counter,
    /// See [`ShardCounters::dead_letter_bytes`].
    pub dead_letters_open: Counter,
}
