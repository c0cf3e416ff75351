//! The table of all metrics: each is declared here once, with its name, kind, unit, labels and help.
//!
//! Guarantees: the scrape and `docs/metrics.md` are made from these rows. A name contains its unit and a counter's name ends
//! with `_total`, as the naming rules of Prometheus require. Does not read counters.

use tailwater_shards::counters::{DeadLettered, Discard, Interference, Lost};

/// How a metric behaves over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

impl Kind {
    /// The kind as Prometheus spells it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// One metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// What it counts.
    pub unit: &'static str,
    /// Its labels, in the order in which values are given.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const COMPONENT: &[&str] = &["component_id", "component_kind", "component_type", "shard"];
const COMPONENT_REASON: &[&str] = &["component_id", "component_kind", "component_type", "shard", "reason"];
const OUTPUT: &[&str] = &["component_id", "component_kind", "component_type"];
const SHARD: &[&str] = &["shard"];

const fn counter(
    name: &'static str,
    unit: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, unit, labels, help }
}

const fn gauge(name: &'static str, unit: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, unit, labels, help }
}

/// Declares constants, and the list of all of them in the order of the page.
macro_rules! metrics {
    ($($constant:ident = $kind:ident($name:literal, $unit:literal, $labels:ident, $help:literal);)*) => {
        $(#[doc = $help] pub const $constant: Metric = $kind(concat!("tailwater_", $name), $unit, $labels, $help);)*
        /// All metrics.
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

const NONE: &[&str] = &[];
const VERSION: &[&str] = &["version"];

metrics! {
    RECEIVED = counter("component_received_events_total", "events", COMPONENT,
        "Events that an input cut from its source, or that arrived at a pipeline.");
    RECEIVED_BYTES = counter("component_received_bytes_total", "bytes", COMPONENT,
        "Bytes that an input read from its source, newlines included.");
    SENT = counter("component_sent_events_total", "events", COMPONENT,
        "Events that a component passed on: inputs and pipelines to the next stage, outputs to their destination, repeats included.");
    SENT_BYTES = counter("component_sent_bytes_total", "bytes", COMPONENT,
        "Bytes of events that an output delivered, before compression.");
    DISCARDED = counter("component_discarded_events_total", "events", COMPONENT_REASON,
        "Events that a component discarded, by reason.");
    DEAD_LETTERED = counter("component_dead_lettered_events_total", "events", COMPONENT_REASON,
        "Events that a component sent to the dead letter queue, by reason.");
    ERRORS = counter("component_errors_total", "errors", COMPONENT,
        "Errors that a component reported.");
    RECOVERED = counter("output_recovered_events_total", "events", COMPONENT,
        "Events that waited in the write-ahead log for an output at the start, or wait again after it went back to its last commit.");
    RETRIES = counter("output_retries_total", "retries", COMPONENT,
        "Deliveries that failed and were tried again.");
    FILE_CHANGES = counter("output_file_changes_total", "changes", COMPONENT_REASON,
        "Times that something else changed a file that an output writes, by reason.");
    HELD_FILES = counter("output_held_files_total", "times", COMPONENT,
        "Times that an output could not open a file because another output or process has it open for writing.");
    UNUSABLE_FILES = gauge("output_unusable_files", "files", COMPONENT,
        "Files that an output cannot write because of what others did to them, so that their events become dead letters.");
    UNNAMED = counter("output_unnamed_events_total", "events", COMPONENT,
        "Events without a field that `path` or `index` names and that has no default: the name contains `unknown` instead.");
    EXCESS_PATHS = counter("output_excess_path_events_total", "events", COMPONENT,
        "Events that became dead letters because they led to more paths than `max_paths` allows.");
    EXCESS_INDEXES = counter("output_excess_index_events_total", "events", COMPONENT,
        "Events that became dead letters because they led to more indexes than `max_indexes` allows.");
    COMMITS = counter("output_commits_total", "commits", COMPONENT,
        "Commits of an output's cursor.");
    OLDEST_UNACKED = gauge("output_oldest_unacked_age_seconds", "seconds", COMPONENT,
        "Time that the oldest undelivered event has been in the write-ahead log; zero if none waits.");
    BUFFERED = gauge("output_buffered_events", "events", OUTPUT,
        "Events in the write-ahead log that wait for an output.");
    PIPELINE_FAILURES = counter("pipeline_failures_total", "failures", COMPONENT,
        "Times that a transform or a condition failed on an event.");
    PIPELINE_MADE = counter("pipeline_made_events_total", "events", COMPONENT,
        "Events that transforms created from others.");
    PIPELINE_HELD = gauge("pipeline_held_events", "events", COMPONENT,
        "Events that open windows of `aggregate` have counted.");
    RING_FILL = gauge("ring_fill_bytes", "bytes", COMPONENT,
        "Bytes of events on their way from an input to the write-ahead log.");
    RING_EVENTS = gauge("ring_events", "events", COMPONENT,
        "Events on their way from an input to the write-ahead log.");
    RING_FULL = counter("ring_full_total", "times", COMPONENT,
        "Times that an input found its ring full and waited or dropped.");
    TRUNCATED = counter("input_truncated_events_total", "events", COMPONENT,
        "Events that were cut because their line was longer than `max_line_bytes`.");
    REPLACED = counter("input_replaced_events_total", "events", COMPONENT,
        "Events in which invalid UTF-8 was replaced by U+FFFD.");
    UNPARSED = counter("input_unparsed_events_total", "events", COMPONENT,
        "Events that a parser could not parse, whether they were kept or dropped.");
    FILES = gauge("files", "files", COMPONENT,
        "Files that an input follows.");
    FILE_UNREAD = gauge("file_unread_bytes", "bytes", COMPONENT,
        "Bytes in followed files that are not read yet.");
    FILE_UNREAD_DELETED = gauge("file_unread_deleted_bytes", "bytes", COMPONENT,
        "Bytes that are not read yet in followed files that were deleted, or renamed to a name that no pattern matches.");
    LINKS_SKIPPED = gauge("file_links_skipped", "links", COMPONENT,
        "Names that an input would read if they were not symbolic links, or hard links that a stranger may have made.");
    FILES_WAITING = gauge("files_waiting", "files", COMPONENT,
        "Files and directories that an input does not follow yet, because there is no room for their positions.");
    FILES_HANGING = gauge("files_hanging", "files", COMPONENT,
        "Files and directories that an input has set aside because a call on them hangs, for example on a dead network file system.");
    LOST = counter("lost_bytes_total", "bytes", COMPONENT_REASON,
        "Bytes that disappeared from a source before they were read, by reason.");
    SYNCS = counter("wal_syncs_total", "syncs", SHARD,
        "Successful syncs of the write-ahead log.");
    SYNC_SECONDS = counter("wal_sync_seconds_total", "seconds", SHARD,
        "Time spent in syncs of the write-ahead log.");
    WAL_FULL = counter("wal_full_total", "times", SHARD,
        "Times that events waited because the write-ahead log was full.");
    WAL_DISK = gauge("wal_disk_bytes", "bytes", SHARD,
        "Bytes on disk of the write-ahead log, prepared segments included.");
    WAL_SEGMENTS = gauge("wal_segments", "segments", SHARD,
        "Segments of the write-ahead log that hold frames.");
    WAL_BYTES = counter("wal_appended_bytes_total", "bytes", SHARD,
        "Bytes of frames appended to the write-ahead log.");
    WAL_FRAMES = counter("wal_appended_frames_total", "frames", SHARD,
        "Frames appended to the write-ahead log.");
    WAL_EVENTS = counter("wal_appended_events_total", "events", SHARD,
        "Events appended to the write-ahead log, each once for all outputs.");
    WAL_POSITIONS_DROPPED = counter("wal_positions_dropped_total", "positions", SHARD,
        "Positions of existing sources, such as followed files, that the write-ahead log had no space for. After a restart these sources are read again.");
    LETTERS = counter("dlq_letters_total", "letters", SHARD,
        "Dead letters stored.");
    LETTERS_DROPPED = counter("dlq_dropped_letters_total", "letters", SHARD,
        "Dead letters dropped because the queue was full, new or old as `when_full` says.");
    LETTERS_LOST = counter("dlq_lost_letters_total", "letters", SHARD,
        "Dead letters that another program removed with the file to which they were being written.");
    LETTERS_FULL = counter("dlq_full_total", "times", SHARD,
        "Times that a dead letter waited because the queue was full.");
    LETTERS_DISK = gauge("dlq_bytes", "bytes", SHARD,
        "Bytes on disk of the dead letter queue.");
    LETTERS_HELD = gauge("dlq_component_bytes", "bytes", COMPONENT,
        "Bytes of a component's dead letters in the dead letter queue.");
    LETTERS_WAIT = gauge("dlq_waiting_seconds", "seconds", COMPONENT,
        "Time that dead letters of a component have waited for space in the dead letter queue; zero if none waits.");
    PANICS = counter("plugin_panics_total", "panics", SHARD,
        "Inputs and outputs that were restarted after a panic.");
    STALLS = counter("shard_stalls_total", "stalls", SHARD,
        "Times that a shard made no progress for longer than it should.");
    LOG_LINES_DROPPED = counter("log_lines_dropped_total", "lines", NONE,
        "Lines of the application log that were dropped because standard error was too slow.");
    BUILD_INFO = gauge("build_info", "info", VERSION,
        "Always 1; the label is the version that runs.");
}

/// What each value of `reason` means, by the metric that has it.
pub fn reasons() -> [(&'static Metric, Vec<(&'static str, &'static str)>); 4] {
    let inputs_and_pipelines = [
        ("parse", "A parser could not parse the event, and `on_error` says to dead-letter it."),
        ("transform", "A transform or an assertion failed, and `on_error` says to dead-letter the event."),
    ];
    let of_outputs = DeadLettered::ALL.map(|reason| (reason.name(), reason.meaning()));
    [
        (&DISCARDED, Discard::ALL.map(|reason| (reason.name(), reason.meaning())).to_vec()),
        (&DEAD_LETTERED, of_outputs.into_iter().chain(inputs_and_pipelines).collect()),
        (&FILE_CHANGES, Interference::ALL.map(|reason| (reason.name(), reason.meaning())).to_vec()),
        (&LOST, Lost::ALL.map(|reason| (reason.name(), reason.meaning())).to_vec()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_follow_the_naming_rules() {
        let mut names = HashSet::new();
        for metric in ALL {
            assert!(names.insert(metric.name), "{} is declared twice", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            let says_unit = metric.name.split('_').any(|word| word == metric.unit);
            assert!(says_unit || metric.unit == "times", "{} does not say its unit {}", metric.name, metric.unit);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
