//! Every limit of the engine, with its derivation.
//!
//! Guarantees: no queue, pool or frame of the engine grows past a number that is defined here or derived here from the
//! configuration. [`sums`] adds up what they use of the machine. Does not contain the limits of a format or a protocol: those
//! are beside their parser or connection.

pub mod sums;

/// Bytes read from a source at once. One chunk and the frame made from it stay in a core's L2 cache. Larger reads do not fit in
/// it and measured slower.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Zero bytes that may be read after the last byte of a chunk. The widest vector code loads 64 bytes at a time.
pub const CHUNK_PADDING_BYTES: usize = 64;

/// Longest line that is kept whole by default, in bytes without its newline.
pub const LINE_BYTES_DEFAULT: usize = 256 * 1024;

/// Largest `max_line_bytes` that a configuration may set.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Maximum events in one batch. A chunk of empty lines would hold 65,536. The encoded envelope of each event is longer than an
/// empty line, so this limit keeps the frames of one batch in proportion to its chunk.
pub const BATCH_EVENTS_MAX: usize = 4096;

/// Bytes of an event's span in its batch.
pub const EVENT_SPAN_BYTES: usize = 8;

/// Payload bytes after which a frame is closed. The rest of its batch goes into the next frame of the group.
pub const FRAME_PAYLOAD_TARGET_BYTES: usize = 256 * 1024;

/// The same for a log with segments of this size: without its last event, a frame uses at most an eighth of a segment.
pub const fn frame_payload_target_bytes(segment_bytes: u64) -> usize {
    let eighth = segment_bytes as usize / 8;
    if eighth < FRAME_PAYLOAD_TARGET_BYTES { eighth } else { FRAME_PAYLOAD_TARGET_BYTES }
}

/// Longest line of an event that always fits in a segment of this size, whatever its snapshot uses: in a frame that is filled
/// to its target, it uses less than half of a segment.
pub const fn line_bytes_fitting(segment_bytes: u64) -> usize {
    segment_bytes as usize / 4
}

/// Worst growth of one byte in JSON: a control byte becomes `\u00XX`.
const JSON_GROWTH_MAX: usize = 6;

/// Space for the envelope of one event: names, times, and the longest path, of which every byte needs escaping.
const ENVELOPE_BYTES_MAX: usize = PATH_BYTES_MAX * JSON_GROWTH_MAX + 4096;

/// Bytes of the longest event that can be made from a line of `max_line_bytes`.
pub const fn event_bytes_max(max_line_bytes: usize) -> usize {
    max_line_bytes * JSON_GROWTH_MAX + ENVELOPE_BYTES_MAX
}

/// Bytes around the payload of a frame: header, index of a full batch, positions, padding.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 96 + BATCH_EVENTS_MAX * 20 + 4096 + 16;

/// Largest frame of an input with lines of `max_line_bytes`, in bytes: a payload just below its target takes one more event of
/// the largest kind.
pub const fn frame_bytes_max(max_line_bytes: usize) -> usize {
    FRAME_PAYLOAD_TARGET_BYTES + event_bytes_max(max_line_bytes) + FRAME_OVERHEAD_BYTES_MAX
}

/// A frame header that claims more than this is damaged. A flipped bit in the length therefore never makes a reader allocate or
/// skip more.
pub const FRAME_BYTES_MAX: usize = frame_bytes_max(LINE_BYTES_MAX);

/// Usual size of a segment, in bytes. The smaller a segment, the sooner it is overwritten while its pages are still in the page
/// cache.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// Smallest segment that a configuration may set, in bytes. Tests use it so that rolling happens often.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest segment: offsets inside one are 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Segments of a log that events never use. They are reserved for cursor commits, so that a log full of events can always be
/// emptied. Commits fill one while the other, whose commits the next snapshot contains, is recycled.
pub const SEGMENTS_RESERVED: u64 = 2;

/// Minimum segments of a log: one being written, one being read, and the reserved ones.
pub const SEGMENTS_MIN: u64 = 2 + SEGMENTS_RESERVED;

/// Bytes of a segment that frames cannot use, apart from snapshots: its header, its seal and the padding between them.
pub const SEGMENT_RESERVE_BYTES: u64 = 4096;

/// Smallest segment that holds the largest frame with lines of `max_line_bytes`, whatever else the log knows: the snapshot at
/// its beginning uses up to half of it.
pub const fn segment_bytes_for(max_line_bytes: usize) -> u64 {
    let bytes = 2 * (frame_bytes_max(max_line_bytes) as u64 + SEGMENT_RESERVE_BYTES);
    bytes.next_multiple_of(SEGMENT_BYTES_MIN)
}

/// Size of a segment if none is configured: the usual size; more if the longest line requires it; less if the share of a shard
/// is configured and would hold fewer than [`SEGMENTS_MIN`] segments of the usual size.
pub const fn segment_bytes_default(max_line_bytes: usize, share: Option<u64>) -> u64 {
    let least = segment_bytes_for(max_line_bytes);
    let usual = if least > SEGMENT_BYTES_DEFAULT { least } else { SEGMENT_BYTES_DEFAULT };
    let Some(share) = share else { return usual };
    let fitting = share / SEGMENTS_MIN / SEGMENT_BYTES_MIN * SEGMENT_BYTES_MIN;
    if fitting >= usual {
        usual
    } else if fitting > least {
        fitting
    } else {
        least
    }
}

/// Usual limit of the whole write-ahead log, in bytes.
const WAL_BYTES_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

/// Limit of the whole write-ahead log if none is configured: the usual limit, or more if many shards would have fewer than
/// twice [`SEGMENTS_MIN`] segments each. With only the minimum, an output that is slow for seconds would stop the inputs.
pub const fn wal_bytes_default(shards: usize, segment_bytes: u64) -> u64 {
    let least = segment_bytes.saturating_mul(2 * SEGMENTS_MIN).saturating_mul(shards as u64);
    if least > WAL_BYTES_DEFAULT { least } else { WAL_BYTES_DEFAULT }
}

/// Usual limit of the whole dead letter queue, in bytes.
const DEAD_LETTER_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// Default size of a segment of dead letters, in bytes.
pub const DEAD_LETTER_SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Minimum number of the largest dead letters that a shard's queue must hold. With only one, `drop_oldest` would drop the
/// previous letter.
const DEAD_LETTERS_MIN: u64 = 2;

/// Bytes of the largest dead letter from lines of `max_line_bytes`, with the segment around it: the texts, the bytes of one
/// event, a page for the header.
pub const fn dead_letter_bytes_max(max_line_bytes: usize) -> u64 {
    ((event_bytes_max(max_line_bytes) + DEAD_LETTER_OVERHEAD_BYTES_MAX) as u64).next_multiple_of(4096)
}

/// Bytes around the original of a dead letter: four texts of 4,096 bytes, its header, the header of a segment, padding.
const DEAD_LETTER_OVERHEAD_BYTES_MAX: usize = 4 * 4096 + 4096;

/// Limit of the whole dead letter queue if none is configured: the usual limit, or more if the shares of many shards would not
/// hold [`DEAD_LETTERS_MIN`] of the largest letters.
pub const fn dead_letter_bytes_default(shards: usize, max_line_bytes: usize) -> u64 {
    let least = dead_letter_bytes_max(max_line_bytes) * DEAD_LETTERS_MIN * shards as u64;
    if least > DEAD_LETTER_BYTES_DEFAULT { least } else { DEAD_LETTER_BYTES_DEFAULT }
}

/// Bytes of dead letters that are stored with one sync. The letters of a single batch may be more.
pub const LETTER_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Maximum batches of one lane that wait until their dead letters, or those of an earlier batch, are durable: as many as the
/// lane holds, so that one sync of the letters covers a full lane.
pub const PARKED_BATCHES_MAX: usize = LANE_SLOTS;

/// Maximum bytes of the frames and letters of these batches. Only the last one may exceed it. The same amount is kept for
/// reuse.
pub const PARKED_BYTES_MAX: usize = 2 * LANE_BYTES_DEFAULT;

/// Maximum batches of one lane whose letters have no space in the dead letter queue, in addition to [`PARKED_BATCHES_MAX`]: what
/// the first sources without space leave, and then a batch each of as many further ones.
pub const REFUSED_BATCHES_MAX: usize = 4 * PARKED_BATCHES_MAX;

/// The same for their bytes, in addition to [`PARKED_BYTES_MAX`].
pub const REFUSED_BYTES_MAX: usize = 4 * PARKED_BYTES_MAX;

/// Maximum runs that are tracked separately for one source while a processor holds its events. After a crash, reading may
/// restart at the end of each run. Beyond the maximum, two adjacent runs are merged.
pub const WITHHELD_OF_SOURCE_MAX: usize = 64;

/// Maximum withheld runs of all sources of one lane. Runs of a spread source are never adjacent, so there is one for each of
/// its batches.
pub const WITHHELD_MAX: usize = 16 * 1024;

/// Bytes of a run, in the queue of its source and in the index of the sources.
pub const WITHHELD_RUN_BYTES: usize = 192;

/// The highest sequence of a frame, number of a commit, start of a log and number of a segment. A log never reaches them in
/// practice. Higher values are damage, so arithmetic on numbers that were read cannot overflow, and every position in a log
/// fits the word that readers share.
pub const SEQUENCE_MAX: u64 = 1 << 60;
/// See [`SEQUENCE_MAX`].
pub const EPOCH_MAX: u32 = 1 << 30;
/// See [`SEQUENCE_MAX`].
pub const SEGMENT_NUMBER_MAX: u64 = (1 << 36) - 1;

/// Outputs that a frame can refer to: its mask has 64 bits.
pub const OUTPUTS_MAX: usize = 64;

/// Maximum shards of a process. A spread input has a lane for each ordered pair of shards.
pub const SHARDS_MAX: usize = 256;

/// Bytes a lane holds by default before its policy applies.
pub const LANE_BYTES_DEFAULT: usize = 1024 * 1024;

/// Maximum batches in a lane, whatever their size. A power of two.
pub const LANE_SLOTS: usize = 64;

/// Batches of one lane: those in it, the one being filled and the one being encoded.
const LANE_BATCHES: usize = LANE_SLOTS + 2;

/// Maximum batches for lines that fit in no ordinary chunk, for one lane at a time, without those that stepped aside.
pub const LANE_LARGE_BATCHES: usize = 2;

/// Maximum batches for such lines that step aside, because their source waits for space for its letters.
pub const LANE_LARGE_ASIDE_MAX: usize = 2 * LANE_LARGE_BATCHES;

/// Batches of a lane of `bytes` that may be in it at once.
const fn lane_slots(bytes: usize) -> usize {
    let slots = bytes / CHUNK_BYTES;
    if slots < LANE_SLOTS { slots + 1 } else { LANE_SLOTS }
}

/// Batches of a lane of `bytes`: [`LANE_BATCHES`], which is enough for a lane of [`LANE_BYTES_DEFAULT`] and for more than twice
/// as many batches beside it. A larger lane has more batches, so that what one source has in it can step aside.
pub const fn lane_batches(bytes: usize) -> usize {
    let batches = 3 * lane_slots(bytes) + 2;
    if batches > LANE_BATCHES { batches } else { LANE_BATCHES }
}

/// Maximum batches of a lane of `bytes` that step aside: all others but those of a full lane.
pub const fn lane_aside_max(bytes: usize) -> usize {
    lane_batches(bytes) - lane_slots(bytes) - 2
}

/// Ranges of one source that may stay unmerged in a log while nothing more comes from it: 256 bytes, about as much as the
/// source itself uses.
///
/// What a snapshot contains, and what must therefore not grow with time. It may use half of a segment:
///
/// | what | how many | bytes of each |
/// |---|---|---|
/// | outputs | [`OUTPUTS_MAX`] | 4 and the name |
/// | commits | two for each output | [`COMMIT_HEAD_BYTES`], [`COMMIT_CURSOR_BYTES`] for each log, [`commit_state_bytes_max`] |
/// | sources that exist | as many as are followed; if there is no space, those recorded least recently are dropped | 68, 16 for each range, names, [`DESCRIPTOR_BYTES_MAX`] |
/// | missing sources | twice as many as existed at once, at least twice [`TOMBSTONES_MIN`], for [`TOMBSTONE_SECONDS`]; fewer if there is no space | the same |
/// | ranges of a source | one; one more after each gap that a power loss left, until the gap is filled | 16 |
/// | ranges of a source that is spread over shards | [`SPREAD_RANGES_FREE`] more | 16 |
/// | beyond these, of all sources that are spread | [`spread_ranges_max`] | 16 |
///
/// A missing source is marked as gone in every log that knows it: at once in the logs over which it was spread, in others at
/// the next start.
pub const SPREAD_RANGES_FREE: usize = 16;

/// Maximum ranges that each of `instances` of spread inputs may leave unmerged in the logs, beyond [`SPREAD_RANGES_FREE`] of
/// each source. A range uses 16 bytes in a snapshot, which has half of a segment. All instances together may fill an eighth of
/// that. More than 16,384 are useless: that many batches of 64 KiB are a second of a fast disk.
pub const fn spread_ranges_max(segment_bytes: u64, instances: usize) -> usize {
    let all = (segment_bytes / 2 / 8 / 16) as usize;
    let each = all / if instances == 0 { 1 } else { instances };
    let most = if each < SPREAD_RANGES_TOTAL_MAX { each } else { SPREAD_RANGES_TOTAL_MAX };
    if most > SPREAD_RANGES_FREE { most } else { SPREAD_RANGES_FREE }
}

/// See [`spread_ranges_max`].
const SPREAD_RANGES_TOTAL_MAX: usize = 16 * 1024;

/// Frames that readers of the writing shard can still find in memory: those that are published together, and those that wait to
/// be published. There are few, because their buffers are reused in turn, and more of them would evict each other from the
/// core's cache. The same number of buffers is kept for reuse.
pub const RECENT_FRAMES_MAX: usize = 8;

/// Larger frames are not kept in memory for readers: they are rare, and it is better to release their buffers.
pub const RECENT_FRAME_BYTES_MAX: usize = 512 * 1024;

/// Bytes of positions of sources that exist which the log of one shard can hold: seven eighths of what its snapshots have. The rest is
/// for sources that are gone, for the outputs and for their cursors.
pub const fn positions_bytes(segment_bytes: u64) -> u64 {
    segment_bytes / 2 / 8 * 7
}

/// The least that an input counts for a file that it follows, of [`positions_bytes`]. It bounds the number of followed files, and with
/// them their memory.
pub const FOLLOWED_POSITION_BYTES_MIN: usize = 256;

/// Bytes of the longest file path, as limited by the kernel.
pub const PATH_BYTES_MAX: usize = 4096;

/// Maximum descriptor bytes of one source in the log: its path, and what identifies its file.
pub const DESCRIPTOR_BYTES_MAX: usize = 16 * 1024;

/// Maximum state bytes of an output in a cursor commit, however large segments are.
pub const COMMIT_STATE_BYTES_MAX: usize = 64 * 1024;

/// State bytes that every output may use at least: a path, and what is known about its file.
pub const COMMIT_STATE_BYTES_MIN: usize = PATH_BYTES_MAX + 128;

/// State bytes that each of `outputs` may put into a commit with a cursor for each of `logs`. A snapshot, which may use half of
/// a segment, has two commits of an output: the one that the start wrote for all its instances, and the latest of this shard's
/// instance. Only one of them has state. Together they get a quarter of the segment, so that as much is left for sources.
pub const fn commit_state_bytes_max(segment_bytes: u64, outputs: usize, logs: usize) -> usize {
    let outputs = if outputs == 0 { 1 } else { outputs };
    let share = segment_bytes as usize / 4 / outputs;
    let left = share.saturating_sub(commit_bytes(logs));
    if left < COMMIT_STATE_BYTES_MAX { left } else { COMMIT_STATE_BYTES_MAX }
}

/// Bytes of the two commits of an output with a cursor for each of `logs`, without their state.
pub const fn commit_bytes(logs: usize) -> usize {
    2 * (COMMIT_HEAD_BYTES + logs * COMMIT_CURSOR_BYTES)
}

/// Bytes of a commit in a snapshot, without its cursors and state.
pub const COMMIT_HEAD_BYTES: usize = 36;

/// Bytes of a cursor in a commit.
pub const COMMIT_CURSOR_BYTES: usize = 24;

/// Seconds for which the position of a missing source is kept, in case it comes back (a restored disk, a late mount).
pub const TOMBSTONE_SECONDS: i64 = 7 * 24 * 3600;

/// Minimum number of positions that are kept for missing sources. The maximum is the number of sources that existed at once, so
/// that a disk which is away for a while brings all of its files back.
pub const TOMBSTONES_MIN: usize = 1024;

/// A task that has worked this long gives the reactor a turn. A turn costs about 30 microseconds.
pub const SLICE_MICROS: u64 = 500;

/// Threads of one shard for blocking work of its log: one prepares a segment, one syncs a directory, one writes dead letters,
/// and one is left for cold pages and for removing adopted logs.
pub const LOG_THREADS: usize = 4;

/// Threads of one shard for blocking work of its plugins. A stopped terminal or a hanging file server may occupy one for an
/// unlimited time.
pub const PLUGIN_THREADS: usize = 8;

/// Threads of one shard for looks at files and directories of others. An input leaves a few of them to each path that hangs, and at most
/// 32 in total, so this is enough for many inputs with dead file servers. Threads exist only while they have work.
pub const FILE_THREADS: usize = 192;
const _: () = assert!(FILE_THREADS < JOBS_MAX);

/// Threads of the process that look names up, one for each name. A name server that does not answer may occupy one for a minute
/// or more. Configurations have fewer names of servers and proxies than this.
pub const NAME_THREADS: usize = 32;

/// Maximum names that are looked up or wait for a thread. Each is in the configuration.
pub const NAMES_MAX: usize = 1024;

/// Maximum tasks that wait for one name: each is a request of an output on one of the shards.
pub const NAME_WAITERS_MAX: usize = 4096;

/// Maximum addresses of a name that are kept, however many its server sends.
pub const NAME_ADDRESSES_MAX: usize = 64;

/// Maximum jobs of one pool of threads, including the running ones. Further jobs wait with their caller. An output has at most
/// four at a time: a delivery, a sync, a directory scan, and an abandoned one.
pub const JOBS_MAX: usize = OUTPUTS_MAX * 4;

/// Maximum key sequences that one input keeps on one shard. Lines of a program have a few dozen. If there are more, the keys
/// are made from data.
pub const TRIE_NODES_MAX: usize = 4096;

/// Maximum shapes that one input keeps on one shard: those of its lines and those that edits produce.
pub const SHAPES_MAX: usize = 16 * 1024;

/// Fields of all these shapes together, 12 bytes each.
pub const SHAPE_FIELDS_TOTAL_MAX: usize = 1024 * 1024;

/// After this many events for whose keys one input on one shard had no space, it forgets what it has learned from earlier
/// events. This is many times the number of shapes that must then be learned again.
pub const SHAPES_RENEWAL_EVENTS: u32 = 64 * 1024;

/// Maximum bytes of the plans that one input keeps on one shard. Each holds a copy of the constants of its shape.
pub const PLAN_BYTES_TOTAL_MAX: usize = 16 * 1024 * 1024;

/// Maximum field names that one input keeps on one shard, not counting those in the configuration.
pub const SHAPE_NAMES_MAX: usize = 16 * 1024;

/// Maximum values that can be created for one event.
pub const COMPUTED_VALUES_MAX: usize = u16::MAX as usize;

/// Maximum bytes of the values created for one event.
pub const COMPUTED_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

const _: () = assert!(LANE_SLOTS.is_power_of_two());
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
const _: () = assert!(CHUNK_BYTES <= LINE_BYTES_DEFAULT);
const _: () = assert!(segment_bytes_for(LINE_BYTES_DEFAULT) < SEGMENT_BYTES_DEFAULT);
const _: () = assert!(segment_bytes_for(LINE_BYTES_MAX) < SEGMENT_BYTES_MAX);
