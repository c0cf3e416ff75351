//! Every bound of the engine, with its derivation.
//!
//! Guarantees: no queue, pool or frame of the engine grows past a number that is stated here or derived here from the
//! configuration. Does not hold the bounds of a format or a protocol: those live beside their parser or connection.

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

/// Payload bytes after which a frame is closed and the rest of its batch goes into the next frame of the group.
pub const FRAME_PAYLOAD_TARGET_BYTES: usize = 256 * 1024;

/// Worst growth of one byte of text in JSON: a control byte becomes `\u00XX`.
pub const JSON_GROWTH_MAX: usize = 6;

/// Room for the envelope of one event: names, times, a path of 4,096 bytes where every byte needs escaping.
pub const ENVELOPE_BYTES_MAX: usize = 4096 * JSON_GROWTH_MAX + 4096;

/// Bytes around the payload of a frame: header, index of a full batch, positions, padding.
pub const FRAME_OVERHEAD_BYTES_MAX: usize = 96 + BATCH_EVENTS_MAX * 20 + 4096 + 16;

/// Largest frame that an input with lines of `max_line_bytes` can make, in bytes: a payload just below its target takes
/// one more event of the worst kind.
pub const fn frame_bytes_max(max_line_bytes: usize) -> usize {
    FRAME_PAYLOAD_TARGET_BYTES + max_line_bytes * JSON_GROWTH_MAX + ENVELOPE_BYTES_MAX + FRAME_OVERHEAD_BYTES_MAX
}

/// A frame header that claims more than this is damage: a flipped length never makes a reader allocate or skip more.
pub const FRAME_BYTES_MAX: usize = frame_bytes_max(LINE_BYTES_MAX);

/// Default size of a segment, in bytes: holds the largest frame that a configuration can ask for. The smaller a segment, the
/// sooner it is written over while its pages are still in the page cache.
pub const SEGMENT_BYTES_DEFAULT: u64 = 32 * 1024 * 1024;

/// Smallest segment a configuration may ask for, in bytes. Tests use it so that rolling happens often.
pub const SEGMENT_BYTES_MIN: u64 = 64 * 1024;

/// Largest segment: offsets inside one are 32 bits.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Fewest segments a log may be held to: one being written, one being read, one being made ready.
pub const SEGMENTS_MIN: u64 = 3;

/// Default bound of the whole write-ahead log, in bytes.
pub const WAL_BYTES_DEFAULT: u64 = 4 * 1024 * 1024 * 1024;

/// Default bound of the whole dead letter queue, in bytes.
pub const DEAD_LETTER_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// Default size of a segment of dead letters, in bytes.
pub const DEAD_LETTER_SEGMENT_BYTES_DEFAULT: u64 = 16 * 1024 * 1024;

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
/// for each batch of it. A run takes about 64 bytes.
pub const WITHHELD_MAX: usize = 16 * 1024;

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

/// Sources (files, streams) whose positions one process keeps, tombstones included.
pub const SOURCES_MAX: usize = 1_000_000;

/// Descriptor bytes one source may keep in the log.
pub const DESCRIPTOR_BYTES_MAX: usize = 16 * 1024;

/// State bytes an output may attach to a cursor commit.
pub const COMMIT_STATE_BYTES_MAX: usize = 64 * 1024;

/// Seconds the position of a source that is gone is kept, in case it comes back (a restored disk, a late mount).
pub const TOMBSTONE_SECONDS: i64 = 7 * 24 * 3600;

/// Positions kept of sources that are gone, whatever their number: as many as there were sources at once, so that a disk that
/// is away for a while brings all of its files back, but at least this many.
pub const TOMBSTONES_MIN: usize = 1024;

/// A task that has worked this long gives the reactor its turn. A turn costs about 30 microseconds.
pub const SLICE_MICROS: u64 = 500;

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
const _: () = assert!((FRAME_BYTES_MAX as u64) < SEGMENT_BYTES_DEFAULT);
