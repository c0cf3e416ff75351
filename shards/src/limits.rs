//! Every bound of the engine, with its derivation.
//!
//! Guarantees: no queue, pool or frame of the engine grows past a number that is stated here or derived here from the
//! configuration; [`sums`] adds up what they take of the machine. Does not hold the bounds of a format or a protocol: those live
//! beside their parser or connection.

pub mod sums;

/// Bytes read from a source at once. One chunk stays in a core's L2 cache together with the frame made of it; larger
/// reads fall out of it and measured slower.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Zero bytes that may be read behind the last byte of a chunk. The widest kernel loads 64 bytes at a time.
pub const CHUNK_PADDING_BYTES: usize = 64;

/// Longest line kept whole by default, in bytes without its newline.
pub const LINE_BYTES_DEFAULT: usize = 256 * 1024;

/// Largest `max_line_bytes` a configuration may ask for.
pub const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most events in one batch. A chunk of empty lines would hold 65,536; the encoded envelope of each is longer than the
/// line, so the cap keeps the frames made of one batch in proportion to its chunk.
pub const BATCH_EVENTS_MAX: usize = 4096;

/// Bytes of the place of one event in its batch.
pub const EVENT_SPAN_BYTES: usize = 8;

/// Payload bytes after which a frame is closed and the rest of its batch goes into the next frame of the group.
pub const FRAME_PAYLOAD_TARGET_BYTES: usize = 256 * 1024;

/// The same in a log with segments of this size: a frame takes no more than an eighth of one beside its last event.
pub const fn frame_payload_target_bytes(segment_bytes: u64) -> usize {
    let eighth = segment_bytes as usize / 8;
    if eighth < FRAME_PAYLOAD_TARGET_BYTES { eighth } else { FRAME_PAYLOAD_TARGET_BYTES }
}

/// Longest line of an event that always fits into a segment of this size, whatever its snapshot takes: with a frame around it
/// that is filled to its target, less than half of a segment.
pub const fn line_bytes_fitting(segment_bytes: u64) -> usize {
    segment_bytes as usize / 4
}

/// Worst growth of one byte of text in JSON: a control byte becomes `\u00XX`.
const JSON_GROWTH_MAX: usize = 6;

/// Room for the envelope of one event: names, times, the longest path where every byte needs escaping.
const ENVELOPE_BYTES_MAX: usize = PATH_BYTES_MAX * JSON_GROWTH_MAX + 4096;

/// Bytes of the longest event that is made of a line of `max_line_bytes`.
pub const fn event_bytes_max(max_line_bytes: usize) -> usize {
    max_line_bytes * JSON_GROWTH_MAX + ENVELOPE_BYTES_MAX
}

/// Bytes around the payload of a frame: header, index of a full batch, positions, padding.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 96 + BATCH_EVENTS_MAX * 20 + 4096 + 16;

/// Largest frame that an input with lines of `max_line_bytes` can make, in bytes: a payload just below its target takes
/// one more event of the worst kind.
pub const fn frame_bytes_max(max_line_bytes: usize) -> usize {
    FRAME_PAYLOAD_TARGET_BYTES + event_bytes_max(max_line_bytes) + FRAME_OVERHEAD_BYTES_MAX
}

/// A frame header that claims more than this is damage: a flipped length never makes a reader allocate or skip more.
pub const FRAME_BYTES_MAX: usize = frame_bytes_max(LINE_BYTES_MAX);

/// Usual size of a segment, in bytes. The smaller a segment, the sooner it is written over while its pages are still in the page
/// cache.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// Smallest segment a configuration may ask for, in bytes. Tests use it so that rolling happens often.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest segment: offsets inside one are 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Segments of a log that events never take: they are for cursor commits, so that a log full of events can always be emptied.
/// Commits fill one while the other, whose commits the next snapshot has, is given back.
pub const SEGMENTS_RESERVED: u64 = 2;

/// Fewest segments a log may be held to: one being written, one being read, and those that events never take.
pub const SEGMENTS_MIN: u64 = 2 + SEGMENTS_RESERVED;

/// Bytes of a segment that frames cannot have, snapshots aside: its header, its seal and the padding between them.
pub const SEGMENT_RESERVE_BYTES: u64 = 4096;

/// Smallest segment that holds the largest frame of lines of `max_line_bytes` whatever else the log knows: a snapshot at its
/// beginning takes up to half of it.
pub const fn segment_bytes_for(max_line_bytes: usize) -> u64 {
    let bytes = 2 * (frame_bytes_max(max_line_bytes) as u64 + SEGMENT_RESERVE_BYTES);
    bytes.next_multiple_of(SEGMENT_BYTES_MIN)
}

/// Size of a segment where none is said: the usual one, more where the longest line asks for it, and less where the share of a
/// shard is said and would not be [`SEGMENTS_MIN`] of that size.
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

/// Usual bound of the whole write-ahead log, in bytes.
const WAL_BYTES_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

/// Bound of the whole write-ahead log where none is said: the usual one, more where many shards would have fewer than twice
/// [`SEGMENTS_MIN`] segments each. With just the fewest an output that is slow for seconds would stop the inputs.
pub const fn wal_bytes_default(shards: usize, segment_bytes: u64) -> u64 {
    let least = segment_bytes.saturating_mul(2 * SEGMENTS_MIN).saturating_mul(shards as u64);
    if least > WAL_BYTES_DEFAULT { least } else { WAL_BYTES_DEFAULT }
}

/// Usual bound of the whole dead letter queue, in bytes.
const DEAD_LETTER_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// Default size of a segment of dead letters, in bytes.
pub const DEAD_LETTER_SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

/// Fewest dead letters of the largest kind that a shard's queue must hold: with one alone `drop_oldest` would drop the letter
/// that came just before.
const DEAD_LETTERS_MIN: u64 = 2;

/// Bytes of the largest dead letter of lines of `max_line_bytes`, and of the segment around it: the texts, the bytes of one
/// event, a header of a page.
pub const fn dead_letter_bytes_max(max_line_bytes: usize) -> u64 {
    ((event_bytes_max(max_line_bytes) + DEAD_LETTER_OVERHEAD_BYTES_MAX) as u64).next_multiple_of(4096)
}

/// Bytes around the original of a dead letter: four texts of 4,096 bytes, its header, the header of a segment, padding.
const DEAD_LETTER_OVERHEAD_BYTES_MAX: usize = 4 * 4096 + 4096;

/// Bound of the whole dead letter queue where none is said: the usual one, more where the shares of many shards would not hold
/// [`DEAD_LETTERS_MIN`] of the largest letters.
pub const fn dead_letter_bytes_default(shards: usize, max_line_bytes: usize) -> u64 {
    let least = dead_letter_bytes_max(max_line_bytes) * DEAD_LETTERS_MIN * shards as u64;
    if least > DEAD_LETTER_BYTES_DEFAULT { least } else { DEAD_LETTER_BYTES_DEFAULT }
}

/// Bytes of dead letters that are stored with one sync; those of a single batch may be more.
pub const LETTER_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// Batches of one lane that wait until their dead letters, or those of a batch before them, are durable: as many as the lane
/// holds, so that a sync of the letters is shared by a lane's worth.
pub const PARKED_BATCHES_MAX: usize = LANE_SLOTS;

/// Bytes of the frames and letters of these batches; the last may lie beyond. As many again are kept to be used again.
pub const PARKED_BYTES_MAX: usize = 2 * LANE_BYTES_DEFAULT;

/// Runs of one source that are told apart while a processor holds events of it: where each ends, reading may begin again after a
/// crash. With more, two side by side become one.
pub const WITHHELD_OF_SOURCE_MAX: usize = 64;

/// Runs of all sources of one lane that are withheld. Those of a source that is spread over shards never meet, so there is one
/// for each batch of it.
pub const WITHHELD_MAX: usize = 16 * 1024;

/// Bytes that a run takes, in the queue of its source and in what orders the sources.
pub const WITHHELD_RUN_BYTES: usize = 192;

/// Highest sequence of a frame, number of a commit, start of a log and number of a segment. None is reached in the life of a
/// log; what claims a higher one is damage, so arithmetic on numbers that were read cannot overflow, and every place in a log
/// fits the word that readers share.
pub const SEQUENCE_MAX: u64 = 1 << 60;
/// See [`SEQUENCE_MAX`].
pub const EPOCH_MAX: u32 = 1 << 30;
/// See [`SEQUENCE_MAX`].
pub const SEGMENT_NUMBER_MAX: u64 = (1 << 36) - 1;

/// Outputs a frame can name: its mask has 64 bits.
pub const OUTPUTS_MAX: usize = 64;

/// Shards of one process. A lane exists for each ordered pair of shards of an input that spreads.
pub const SHARDS_MAX: usize = 256;

/// Bytes a lane holds by default before its policy applies.
pub const LANE_BYTES_DEFAULT: usize = 1024 * 1024;

/// Batches a lane holds at most, whatever their size. A power of two.
pub const LANE_SLOTS: usize = 64;

/// Batches that exist for one lane: those in it, the one being filled and the one being encoded.
pub const LANE_BATCHES: usize = LANE_SLOTS + 2;

/// Batches for lines that no ordinary chunk holds, of one lane at a time.
pub const LANE_LARGE_BATCHES: usize = 2;

/// Ranges of one source that may lie apart in a log for as long as nothing more comes of it: 256 bytes, about what the source
/// itself takes.
///
/// What a snapshot holds, and so what must not grow with time. It has half of a segment:
///
/// | what | how many | bytes of each |
/// |---|---|---|
/// | outputs | [`OUTPUTS_MAX`] | 4 and the name |
/// | commits | two for each output | [`COMMIT_HEAD_BYTES`], [`COMMIT_CURSOR_BYTES`] for each log, [`commit_state_bytes_max`] |
/// | sources that exist | as many as are followed; the start or the log that has no room for them says so | 48, 16 for each range, names, [`DESCRIPTOR_BYTES_MAX`] |
/// | sources that are gone | twice as many as existed at once, at least twice [`TOMBSTONES_MIN`], for [`TOMBSTONE_SECONDS`]; fewer where there is no room | the same |
/// | ranges of a source | one; one more behind each hole that a loss of power left, until it is filled | 16 |
/// | ranges of a source that is spread over shards | [`SPREAD_RANGES_FREE`] more | 16 |
/// | beyond these, of all sources that are spread | [`spread_ranges_max`] | 16 |
///
/// A source is gone in every log that knows it: in the ones it was spread over at once, in others from the next start on.
pub const SPREAD_RANGES_FREE: usize = 16;

/// Most ranges that one of `instances` of inputs that spread their sources over shards lets lie apart in the logs, beyond
/// [`SPREAD_RANGES_FREE`] of each source. A range takes 16 bytes in a snapshot, which has half of a segment: all instances
/// together may fill an eighth of that. More than 16,384 are of no use: so many batches of 64 KiB are a second of a fast disk.
pub const fn spread_ranges_max(segment_bytes: u64, instances: usize) -> usize {
    let all = (segment_bytes / 2 / 8 / 16) as usize;
    let each = all / if instances == 0 { 1 } else { instances };
    let most = if each < SPREAD_RANGES_TOTAL_MAX { each } else { SPREAD_RANGES_TOTAL_MAX };
    if most > SPREAD_RANGES_FREE { most } else { SPREAD_RANGES_FREE }
}

/// See [`spread_ranges_max`].
const SPREAD_RANGES_TOTAL_MAX: usize = 16 * 1024;

/// Frames that readers of the shard that wrote them find again: those that are published together, and those that wait for it
/// meanwhile. Few, because their buffers go round, and more of them would push each other out of the core's cache. As many
/// buffers wait to be used again.
pub const RECENT_FRAMES_MAX: usize = 8;

/// Larger frames are not kept for them: they are rare, and their buffers are better given back.
pub const RECENT_FRAME_BYTES_MAX: usize = 512 * 1024;

/// Bytes of the longest path of a file, as the kernel bounds them.
pub const PATH_BYTES_MAX: usize = 4096;

/// Descriptor bytes one source may keep in the log: its path, and what tells its files apart.
pub const DESCRIPTOR_BYTES_MAX: usize = 16 * 1024;

/// State bytes an output may attach to a cursor commit, however large segments are.
pub const COMMIT_STATE_BYTES_MAX: usize = 64 * 1024;

/// State bytes that every output may attach at least: a path, and what is known of its file.
pub const COMMIT_STATE_BYTES_MIN: usize = PATH_BYTES_MAX + 128;

/// State bytes that each of `outputs` may attach to a commit with a cursor for each of `logs`. A snapshot, which may take half
/// of a segment, has two commits of an output: what the start wrote for all its instances, and the latest of the own one, of
/// which only one has state. Together they get a quarter, so that as much is left for sources.
pub const fn commit_state_bytes_max(segment_bytes: u64, outputs: usize, logs: usize) -> usize {
    let outputs = if outputs == 0 { 1 } else { outputs };
    let share = segment_bytes as usize / 4 / outputs;
    let left = share.saturating_sub(commit_bytes(logs));
    if left < COMMIT_STATE_BYTES_MAX { left } else { COMMIT_STATE_BYTES_MAX }
}

/// Bytes of the two commits of an output with a cursor for each of `logs`, their state aside.
pub const fn commit_bytes(logs: usize) -> usize {
    2 * (COMMIT_HEAD_BYTES + logs * COMMIT_CURSOR_BYTES)
}

/// Bytes of a commit in a snapshot, its cursors and state aside.
pub const COMMIT_HEAD_BYTES: usize = 36;

/// Bytes of a cursor in a commit.
pub const COMMIT_CURSOR_BYTES: usize = 24;

/// Seconds the position of a source that is gone is kept, in case it comes back (a restored disk, a late mount).
pub const TOMBSTONE_SECONDS: i64 = 7 * 24 * 3600;

/// Positions kept of sources that are gone, whatever their number: as many as there were sources at once, so that a disk that
/// is away for a while brings all of its files back, but at least this many.
pub const TOMBSTONES_MIN: usize = 1024;

/// A task that has worked this long gives the reactor its turn. A turn costs about 30 microseconds.
pub const SLICE_MICROS: u64 = 500;

/// Threads of one shard for what its log has to do where it may block: one makes a segment ready, one syncs a directory, one
/// writes dead letters, and one is left for cold pages and logs that are given up.
pub const LOG_THREADS: usize = 4;

/// Threads of one shard for what its plugins do where it may block. A terminal that is stopped or a file server that hangs
/// keeps one for as long as it likes.
pub const PLUGIN_THREADS: usize = 8;

/// Jobs of one pool of threads, those that run included; what comes beyond them waits with its caller. An output has at most
/// four under way: a delivery, a sync, a look around, and one that nobody waits for any more.
pub const JOBS_MAX: usize = OUTPUTS_MAX * 4;

/// Key sequences that one input keeps on one shard. Lines of a program have a few dozen; what has more are keys made of data.
pub const TRIE_NODES_MAX: usize = 4096;

/// Shapes that one input keeps on one shard: those of its lines and what edits make of them.
pub const SHAPES_MAX: usize = 16 * 1024;

/// Fields of all these shapes together, 12 bytes each.
pub const SHAPE_FIELDS_TOTAL_MAX: usize = 1024 * 1024;

/// Events for whose keys one input on one shard had no room, after which it forgets what earlier events had brought. Many times
/// as many as there are shapes to be learnt anew.
pub const SHAPES_RENEWAL_EVENTS: u32 = 64 * 1024;

/// Bytes of the plans that one input keeps on one shard: each holds a copy of the constants that its shape has.
pub const PLAN_BYTES_TOTAL_MAX: usize = 16 * 1024 * 1024;

/// Names of fields that one input keeps on one shard, those that the configuration says aside.
pub const SHAPE_NAMES_MAX: usize = 16 * 1024;

/// Values that may be made for one event.
pub const COMPUTED_VALUES_MAX: usize = u16::MAX as usize;

/// Bytes of values that may be made for one event.
pub const COMPUTED_BYTES_MAX: usize = 4 * LINE_BYTES_MAX;

const _: () = assert!(LANE_SLOTS.is_power_of_two());
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);
const _: () = assert!(SEGMENT_BYTES_MAX <= u32::MAX as u64);
const _: () = assert!(CHUNK_BYTES <= LINE_BYTES_DEFAULT);
const _: () = assert!(segment_bytes_for(LINE_BYTES_DEFAULT) < SEGMENT_BYTES_DEFAULT);
const _: () = assert!(segment_bytes_for(LINE_BYTES_MAX) < SEGMENT_BYTES_MAX);
