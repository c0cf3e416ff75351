//! Counters of what a shard's components have done: plain numbers with one writer each.
//!
//! Guarantees: counting costs a load and a store, without a lock or a read-modify-write. Any thread may read at any time. A
//! reader that adds up several counters first reads those that are counted later in an event's life, so that the sum of
//! outgoing events never exceeds the sum of incoming ones. Does not name metrics: the product's table of metrics does.

use crate::env::Timestamp;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// A number that one thread writes and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Only its one writer may call this.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed) + amount, Ordering::Release);
    }

    /// Sets it. Only its one writer may call this.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Release);
    }

    /// Its value.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Why events were discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discard {
    /// The lane was full and its policy is to drop.
    RingFull,
    /// The WAL was full and the output's policy is to drop.
    WalFull,
    /// The line was longer than allowed and the input's policy is to discard.
    LineTooLong,
    /// The event should have become a dead letter, but the dead letter queue was full.
    DeadLettersFull,
    /// The output was removed from the configuration while events waited for it.
    OutputRemoved,
    /// The bytes in the WAL were damaged.
    Damaged,
    /// A transform dropped the event, or it matched no output of the pipeline.
    Filtered,
    /// The event could not be parsed and its parser's policy is to drop.
    Unparsed,
    /// A transform combined the event into another one, which is sent instead.
    Aggregated,
    /// The event exceeded the rate of a transform.
    Throttled,
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
        Discard::Aggregated,
        Discard::Throttled,
    ];

    /// The reason, as spelled in metrics and logs.
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
            Discard::Aggregated => "aggregated",
            Discard::Throttled => "throttled",
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
            Discard::Aggregated => {
                "`aggregate` combined the event with others; the combined event continues in its place."
            }
            Discard::Throttled => "The event exceeded the rate of a `throttle`.",
        }
    }
}

/// Discarded events by reason.
#[derive(Default)]
pub struct Discarded([Counter; Discard::ALL.len()]);

impl Discarded {
    /// Adds events to a reason. Only the one writer may call this.
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
    /// The destination rejected the event permanently.
    Rejected,
    /// It was not delivered within the retry time.
    RetriesExhausted,
}

impl DeadLettered {
    /// All reasons, in the order of their counters.
    pub const ALL: [DeadLettered; 2] = [DeadLettered::Rejected, DeadLettered::RetriesExhausted];

    /// The reason, as spelled in metrics, logs and letters.
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

/// Why bytes of a source were lost before they could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The file was truncated before its end was read.
    Truncated,
    /// The file was deleted before its end was read, while no descriptor held it, or it was not found at a start.
    Deleted,
    /// What was not read is in an archive that is damaged or of a format that is not read.
    Compressed,
}

impl Lost {
    /// All reasons, in the order of their counters.
    pub const ALL: [Lost; 3] = [Lost::Truncated, Lost::Deleted, Lost::Compressed];

    /// The reason, as spelled in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Lost::Truncated => "truncated",
            Lost::Deleted => "deleted",
            Lost::Compressed => "compressed",
        }
    }

    /// The reason in one sentence, for documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Lost::Truncated => "The file was truncated before its end was read.",
            Lost::Deleted => {
                "The file was deleted before its end was read, while no descriptor was open, or was not found at a start."
            }
            Lost::Compressed => "The unread part is in an archive that is damaged, or in a format that is not read.",
        }
    }
}

/// One input on one shard.
#[derive(Default)]
pub struct InputCounters {
    /// Events read from the source.
    pub received_events: Counter,
    /// Bytes read from the source, newlines included.
    pub received_bytes: Counter,
    /// Events discarded before the WAL.
    pub discarded: Discarded,
    /// Events truncated because their line was too long.
    pub truncated_events: Counter,
    /// Errors of the source: reads that failed, files that could not be opened.
    pub errors: Counter,
    /// Bytes that were lost before they could be read.
    pub lost_bytes: [Counter; Lost::ALL.len()],
    /// Files being followed.
    pub files: Counter,
    /// Bytes in followed files that have not been read yet.
    pub unread_bytes: Counter,
    /// Those among them in files that no path leads to.
    pub unread_deleted_bytes: Counter,
    /// Names that are not read because of where links lead.
    pub links_skipped: Counter,
    /// Files and directories that are not followed yet, because there is no room for them.
    pub files_waiting: Counter,
    /// Files and directories from which no answer comes, and which are left alone for that.
    pub files_hanging: Counter,
}

impl InputCounters {
    /// Adds lost bytes. Only the one writer may call this.
    pub fn lose(&self, reason: Lost, bytes: u64) {
        self.lost_bytes[reason as usize].add(bytes);
    }
}

/// One lane.
#[derive(Default)]
pub struct LaneCounters {
    /// Events sent into it. Written by the sender.
    pub sent_events: Counter,
    /// Bytes of chunks sent into it. Written by the sender.
    pub sent_bytes: Counter,
    /// Events received from it and being written to the WAL. Written by the receiver.
    pub taken_events: Counter,
    /// Batches received from it. Written by the receiver.
    pub taken_batches: Counter,
    /// Events in which bytes that are not UTF-8 were replaced. Written by the receiver.
    pub replaced_events: Counter,
    /// Events that could not be parsed, whether kept or not. Written by the receiver.
    pub unparsed_events: Counter,
    /// Events that became dead letters of the input before any pipeline received them. Written by the receiver.
    pub dead_lettered_events: Counter,
    /// The part of these for which the dead letter queue had no space. Written by the receiver.
    pub dlq_full_events: Counter,
    /// Times a processor kept holding events although it had to produce all its lines. Written by the receiver.
    pub breaches: Counter,
    /// Events dropped at the sender's request. Written by the receiver.
    pub dropped_events: Counter,
    /// Bytes of chunks dropped at the sender's request. Written by the receiver.
    pub dropped_bytes: Counter,
    /// Bytes of chunks that were received. Written by the receiver.
    pub taken_bytes: Counter,
    /// Batches that were received and stepped aside unread, because their source waits. Written by the receiver.
    pub aside_batches: Counter,
    /// The part of these that are larger than an ordinary one. Written by the receiver.
    pub aside_large_batches: Counter,
    /// Existing batches of ordinary size. Written by the sender.
    pub made_batches: Counter,
    /// Times the sender found it full. Written by the sender.
    pub full: Counter,
}

/// What a processor did to events besides producing their lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that contained bytes which are invalid in a string, and now contain a replacement character instead.
    pub replaced: u64,
    /// Events that could not be parsed, whether kept or not.
    pub unparsed: u64,
    /// The part of these that the pipeline dropped.
    pub unparsed_dropped: u64,
    /// Events that the pipeline dropped on purpose.
    pub filtered: u64,
    /// Times that a transform or a condition failed.
    pub failures: u64,
    /// Events that it dropped because they were combined into another one.
    pub aggregated: u64,
    /// Events that it dropped because they exceeded a rate.
    pub throttled: u64,
    /// Events that transforms created.
    pub made: u64,
    /// Events that are counted in lines which transforms have not produced yet: the current number, not the change since the
    /// last tally.
    pub held: u64,
}

/// One pipeline on one shard.
#[derive(Default)]
pub struct PipelineCounters {
    /// Events that it received.
    pub received_events: Counter,
    /// Events that it discarded.
    pub discarded: Discarded,
    /// Events that it could not process and that are in the dead letter queue.
    pub dead_lettered_events: Counter,
    /// Times that a transform or a condition failed on an event.
    pub failures: Counter,
    /// Events that its transforms created and that it did not receive.
    pub made_events: Counter,
    /// Events that are counted in lines which its transforms have not produced yet.
    pub held_events: Counter,
}

/// What somebody else did to a file that an output writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interference {
    /// Wrote to it.
    Written,
    /// Cut it.
    Truncated,
    /// Moved or removed it.
    Moved,
}

impl Interference {
    /// All kinds, in the order of their counters.
    pub const ALL: [Interference; 3] = [Interference::Written, Interference::Truncated, Interference::Moved];

    /// The value of the label `reason`.
    pub fn name(self) -> &'static str {
        match self {
            Interference::Written => "written",
            Interference::Truncated => "truncated",
            Interference::Moved => "moved",
        }
    }

    /// What it says, for the page of the metrics.
    pub fn meaning(self) -> &'static str {
        match self {
            Interference::Written => {
                "Another program wrote to the file. Its bytes stay, and the output continues behind them."
            }
            Interference::Truncated => "Another program truncated the file. The output continues at its new end.",
            Interference::Moved => {
                "The file was renamed, replaced or removed. The output continues in a file at its path."
            }
        }
    }
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

/// A component with dead letters: in the queue, or on their way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LetterHolder {
    /// The kind of component: `input`, `pipeline` or `output`.
    pub kind: &'static str,
    /// Its configured name.
    pub name: String,
    /// Bytes of its letters in the queue.
    pub bytes: u64,
    /// Its letters that wait for space. None if none waits.
    pub waits: Option<Waits>,
    /// Since when letters of it are dropped because they have no space. None if none was for a while.
    pub drops_since: Option<Timestamp>,
}

/// Letters of a component that wait for space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waits {
    /// Since when.
    pub since: Timestamp,
    /// The beginning of the source's name, of the first that waits; empty if its letters have none.
    pub source: String,
}

/// The components with dead letters. Touched when the queue changes, and by readers.
#[derive(Default)]
pub struct LetterHolders(Mutex<Vec<LetterHolder>>);

impl LetterHolders {
    /// All of them.
    pub fn get(&self) -> Vec<LetterHolder> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them.
    pub fn set(&self, holders: Vec<LetterHolder>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = holders;
    }
}

/// One output on one shard.
#[derive(Default)]
pub struct OutputCounters {
    /// Events that waited in the WAL when the process started, or again after the output returned to its last commit.
    pub recovered_events: Counter,
    /// Events delivered.
    pub sent_events: Counter,
    /// Bytes of event lines delivered.
    pub sent_bytes: Counter,
    /// Events discarded after the WAL.
    pub discarded: Discarded,
    /// Events in the dead letter queue, by reason.
    pub dead_lettered: [Counter; DeadLettered::ALL.len()],
    /// Deliveries that failed and were retried.
    pub retries: Counter,
    /// Errors of the output.
    pub errors: Counter,
    /// Times that others changed a file of the output, by kind.
    pub interferences: [Counter; Interference::ALL.len()],
    /// Times that a file could not be opened since another output or process had it.
    pub held_files: Counter,
    /// Files that cannot be used, so that their events become dead letters.
    pub unusable_files: Gauge,
    /// Events that lacked a field which names their destination, and that went to where `unknown` leads.
    pub unnamed_events: Counter,
    /// Events that led to one destination more than the output may make.
    pub excess_path_events: Counter,
    /// The same for indexes.
    pub excess_index_events: Counter,
    /// Cursor commits.
    pub commits: Counter,
    /// Payload bytes of the frames that are being delivered.
    pub held_bytes: Counter,
    /// When the oldest undelivered event was written to the WAL, in ns since 1970. Zero if nothing waits.
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

    /// Events in the dead letter queue, for any reason.
    pub fn dead_lettered_total(&self) -> u64 {
        self.dead_lettered.iter().map(Counter::get).sum()
    }
}

/// A signed number that one thread writes and any thread reads.
#[derive(Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Sets it. Only its one writer may call this.
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
    /// Successful syncs of the WAL.
    pub syncs: Counter,
    /// Total duration of these syncs, in nanoseconds.
    pub sync_nanos: Counter,
    /// Times the intake waited because the WAL was full.
    pub wal_full: Counter,
    /// Frames appended.
    pub frames: Counter,
    /// Acknowledgements that currently wait for a sync.
    pub waiting_acknowledgements: Counter,
    /// Batches that currently wait for dead letters to become durable, and the bytes of their frames and letters.
    pub parked_batches: Counter,
    /// See [`ShardCounters::parked_batches`].
    pub parked_bytes: Counter,
    /// Runs of positions that currently wait for lines which processors still have to produce.
    pub withheld_runs: Counter,
    /// Ranges of dropped batches that currently wait for space in the WAL.
    pub owed_ranges: Counter,
    /// Frames that are currently kept in memory for readers, and the bytes of their buffers.
    pub kept_frames: Counter,
    /// See [`ShardCounters::kept_frames`].
    pub kept_bytes: Counter,
    /// Plugins restarted after a panic.
    pub plugin_panics: Counter,
    /// Dead letters that were stored.
    pub dead_letters: Counter,
    /// Dead letters for which the queue had no space, and those that were removed to make space.
    pub dead_letters_dropped: Counter,
    /// Dead letters in a segment that another program removed or renamed while it was written.
    pub dead_letters_lost: Counter,
    /// Times letters were stored. One sync may store those of many batches.
    pub dead_letter_syncs: Counter,
    /// Times a letter waited for space in the queue.
    pub dead_letters_full: Counter,
    /// The components with dead letters.
    pub letter_holders: LetterHolders,
    /// Bytes of the segments of dead letters, and how many segments are open.
    pub dead_letter_bytes: Counter,
    /// See [`ShardCounters::dead_letter_bytes`].
    pub dead_letters_open: Counter,
}
