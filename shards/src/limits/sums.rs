//! The maximum that a configuration uses of the machine: memory, descriptors and disk space, added up consumer by consumer.
//!
//! Guarantees: everything that grows with the load has a line here, computed from the same constants that limit it, so changing
//! a limit changes the sum. Does not count what is limited elsewhere or not by a number: code, stacks, the tables and windows
//! of transforms and what they add to events, dead letters that are being written, the largest envelopes in the frames of
//! several lanes at once, overhead of the allocator. Does not count the page cache, which the kernel takes back when it needs
//! it.

use super::*;

/// The needs of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputNeeds {
    /// Its longest line, in bytes.
    pub line_bytes_max: usize,
    /// Number of shards on which it runs.
    pub instances: usize,
    /// Number of shards to which each instance has a lane.
    pub targets: usize,
    /// Bytes that each lane may hold before its policy applies.
    pub lane_bytes: usize,
    /// Pipelines that read it.
    pub pipelines: usize,
    /// Descriptors that each instance has open at the same time.
    pub descriptors: u64,
    /// Whether it follows files, in the room that all inputs share for their positions.
    pub follows_files: bool,
}

/// The needs of one output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputNeeds {
    /// Number of shards on which it runs.
    pub instances: usize,
    /// Bytes of one delivery. A larger event is delivered alone.
    pub batch_bytes_max: u64,
    /// Bytes that each instance holds in addition to its delivery: pending requests and their responses.
    pub held_bytes_max: u64,
    /// Descriptors that each instance has open at the same time: files, connections.
    pub descriptors: u64,
}

/// The needs of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Shards of the process.
    pub shards: usize,
    /// Whether the log is in memory.
    pub log_in_memory: bool,
    /// Bytes of a segment of the WAL.
    pub segment_bytes: u64,
    /// Bytes of the WAL of one shard.
    pub log_bytes: u64,
    /// Bytes of the dead letter queue of one shard.
    pub dead_letter_bytes: u64,
    /// The inputs that are started.
    pub inputs: Vec<InputNeeds>,
    /// The outputs that are started.
    pub outputs: Vec<OutputNeeds>,
    /// Connections of the admin endpoint. Zero if there is no endpoint.
    pub admin_connections: u64,
}

/// The consumer whose memory depends on how many files there are, and not on the load.
pub const FOLLOWED_FILES: &str = "followed files";

/// One consumer of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// What uses it.
    pub consumer: &'static str,
    /// Maximum amount.
    pub amount: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Sums {
    /// Bytes of memory.
    pub memory: Vec<Share>,
    /// Open descriptors.
    pub descriptors: Vec<Share>,
    /// Bytes on the file system of the data directory.
    pub disk: Vec<Share>,
    /// Bytes of address space for mapped files.
    pub mapped_bytes: u64,
}

/// The sum of all shares.
pub fn total(shares: &[Share]) -> u64 {
    shares.iter().fold(0, |sum, share| sum.saturating_add(share.amount))
}

/// Bytes of an ordinary batch: its chunk, and the spans of its events.
const BATCH_BYTES: u64 = (CHUNK_BYTES + CHUNK_PADDING_BYTES + BATCH_EVENTS_MAX * EVENT_SPAN_BYTES) as u64;

/// Bytes of what one input learns on one shard: keys, shapes with their fields, plans, names.
const SHAPES_BYTES: u64 =
    (TRIE_NODES_MAX * 64 + SHAPES_MAX * 64 + SHAPE_FIELDS_TOTAL_MAX * 12 + PLAN_BYTES_TOTAL_MAX + SHAPE_NAMES_MAX * 64)
        as u64;

/// Bytes that all that is known of a followed file uses, for each byte that the file counts in the room for positions: 8 KiB for a file
/// that counts the least. Measured were 17 to 23, for paths of 60 to 270 bytes in up to 2,000 directories.
const FOLLOWED_BYTES: u64 = 32;

/// Bytes that one executor uses for its rings and buffers, most of them locked.
const EXECUTOR_BYTES: u64 = 1024 * 1024;

/// Descriptors of one executor: three rings, their timers and wake-ups, the lock on its data.
const EXECUTOR_DESCRIPTORS: u64 = 16;

/// Descriptors of every process: standard streams, signals, the lock of the data directory, the application log.
const PROCESS_DESCRIPTORS: u64 = 32;

/// Descriptors of the dead letters of one shard: the segment being written, and one being read.
const DEAD_LETTER_DESCRIPTORS: u64 = 2;

impl Needs {
    /// Computes the sums.
    pub fn sums(&self) -> Sums {
        let log = if self.log_in_memory { 0 } else { self.log_total() };
        Sums {
            memory: self.memory(),
            descriptors: self.descriptors(),
            disk: vec![share("log", log), share("dead letters", self.each_shard(self.dead_letter_bytes))],
            mapped_bytes: self.log_total(),
        }
    }

    fn memory(&self) -> Vec<Share> {
        let log = if self.log_in_memory { self.log_total() } else { 0 };
        vec![
            // Each lane has its batches, and a few for lines longer than a chunk.
            share("lanes", self.inputs.iter().map(lanes_bytes).fold(0, u64::saturating_add)),
            // A shard processes one batch at a time. Its frames exist for each pipeline until they are in the log.
            share("frames", self.each_shard(self.inputs.iter().map(group_bytes).max().unwrap_or(0))),
            // For each lane: frames that wait for their dead letters, and positions that wait for events held by a transform.
            share("waiting frames", self.inputs.iter().map(parked_bytes).fold(0, u64::saturating_add)),
            share("held positions", self.inputs.iter().map(withheld_bytes).fold(0, u64::saturating_add)),
            // Frames in memory for readers of the same shard, and the reused buffers.
            share("recent frames", self.each_shard(2 * RECENT_FRAMES_MAX as u64 * RECENT_FRAME_BYTES_MAX as u64)),
            // A snapshot uses at most half of a segment, and its source data about as much.
            share("positions", self.each_shard(self.segment_bytes)),
            share(FOLLOWED_FILES, self.followed_bytes()),
            share("shapes", self.each_shard(SHAPES_BYTES).saturating_mul(self.inputs.len() as u64)),
            // One delivery at a time, and what the output makes from it.
            share("deliveries", self.outputs.iter().map(|o| self.delivery_bytes(o)).fold(0, u64::saturating_add)),
            share("executors", self.each_shard(EXECUTOR_BYTES)),
            share("log", log),
        ]
    }

    fn descriptors(&self) -> Vec<Share> {
        let segments = self.log_bytes.checked_div(self.segment_bytes).unwrap_or(0).max(SEGMENTS_MIN);
        let inputs = self.inputs.iter().map(|input| input.descriptors.saturating_mul(input.instances as u64));
        let outputs = self.outputs.iter().map(|output| output.descriptors.saturating_mul(output.instances as u64));
        vec![
            share("process", PROCESS_DESCRIPTORS),
            share("executors", self.each_shard(EXECUTOR_DESCRIPTORS)),
            // Each segment is open for as long as it exists, including prepared ones.
            share("log", self.each_shard(segments)),
            share("dead letters", self.each_shard(DEAD_LETTER_DESCRIPTORS)),
            share("inputs", inputs.fold(0, u64::saturating_add)),
            share("outputs", outputs.fold(0, u64::saturating_add)),
            share("admin endpoint", self.admin_connections),
        ]
    }

    /// Room for positions bounds the files that are followed, and the bytes of their paths.
    fn followed_bytes(&self) -> u64 {
        let room =
            if self.inputs.iter().any(|input| input.follows_files) { positions_bytes(self.segment_bytes) } else { 0 };
        self.each_shard(room).saturating_mul(FOLLOWED_BYTES)
    }

    /// All logs. Prepared segments are included: a log prepares none beyond its limit.
    fn log_total(&self) -> u64 {
        self.each_shard(self.log_bytes.max(self.segment_bytes.saturating_mul(SEGMENTS_MIN)))
    }

    fn each_shard(&self, amount: u64) -> u64 {
        amount.saturating_mul(self.shards as u64)
    }

    fn delivery_bytes(&self, output: &OutputNeeds) -> u64 {
        let longest = self.inputs.iter().map(|input| event_bytes_max(input.line_bytes_max)).max().unwrap_or(0);
        let each = output.batch_bytes_max.max(longest as u64).saturating_add(output.held_bytes_max);
        each.saturating_mul(output.instances as u64)
    }
}

fn share(consumer: &'static str, amount: u64) -> Share {
    Share { consumer, amount }
}

fn lanes_bytes(input: &InputNeeds) -> u64 {
    let large = match input.line_bytes_max > CHUNK_BYTES {
        true => ((LANE_LARGE_BATCHES + LANE_LARGE_ASIDE_MAX) * (input.line_bytes_max + CHUNK_BYTES)) as u64,
        false => 0,
    };
    let each = lane_batches(input.lane_bytes) as u64 * BATCH_BYTES + large;
    each.saturating_mul(lanes(input))
}

fn lanes(input: &InputNeeds) -> u64 {
    (input.instances as u64).saturating_mul(input.targets as u64)
}

fn parked_bytes(input: &InputNeeds) -> u64 {
    // As many buffers are kept for reuse, and the last batch may exceed the limit.
    let last = input.line_bytes_max.max(CHUNK_BYTES) * JSON_GROWTH_MAX;
    ((2 * PARKED_BYTES_MAX + REFUSED_BYTES_MAX + last) as u64).saturating_mul(lanes(input))
}

fn withheld_bytes(input: &InputNeeds) -> u64 {
    ((WITHHELD_MAX * WITHHELD_RUN_BYTES) as u64).saturating_mul(lanes(input))
}

/// Bytes of the frames of one batch: its text if every byte grows, and the largest envelope for each event.
fn group_bytes(input: &InputNeeds) -> u64 {
    let text = input.line_bytes_max.max(CHUNK_BYTES) * JSON_GROWTH_MAX;
    let each = (text + BATCH_EVENTS_MAX * ENVELOPE_BYTES_MAX) as u64;
    each.saturating_mul(input.pipelines as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn amount(shares: &[Share], consumer: &str) -> u64 {
        shares.iter().find(|share| share.consumer == consumer).expect("it has a line").amount
    }

    /// One input that follows files and one output that sends, on two shards.
    fn needs() -> Needs {
        Needs {
            shards: 2,
            log_in_memory: false,
            segment_bytes: 32 * MIB,
            log_bytes: 2048 * MIB,
            dead_letter_bytes: 512 * MIB,
            inputs: vec![InputNeeds {
                line_bytes_max: 256 * 1024,
                instances: 2,
                targets: 1,
                lane_bytes: LANE_BYTES_DEFAULT,
                pipelines: 1,
                descriptors: 1000,
                follows_files: true,
            }],
            outputs: vec![OutputNeeds {
                instances: 2,
                batch_bytes_max: 4 * MIB,
                held_bytes_max: 10 * MIB,
                descriptors: 4,
            }],
            admin_connections: 65,
        }
    }

    #[test]
    fn memory_is_the_sum_of_what_each_consumer_may_hold() {
        let memory = needs().sums().memory;
        // Two lanes of 66 batches of 64 KiB, 64 bytes and 32 KiB each, and six lines of 256 KiB behind a chunk of 64 KiB.
        assert_eq!(amount(&memory, "lanes"), 2 * (66 * (65_536 + 64 + 32_768) + 6 * (262_144 + 65_536)));
        // Two lanes with twice 2 MiB, 8 MiB and a longest line that grew, and 16,384 runs of 192 bytes.
        assert_eq!(amount(&memory, "waiting frames"), 2 * (2 * 2 * MIB + 8 * MIB + 6 * 262_144));
        assert_eq!(amount(&memory, "held positions"), 2 * 16_384 * 192);
        // Six times the longest line, and 4,096 envelopes of 28 KiB.
        assert_eq!(amount(&memory, "frames"), 2 * (6 * 262_144 + 4096 * 28_672));
        assert_eq!(amount(&memory, "recent frames"), 2 * 8 * MIB);
        assert_eq!(amount(&memory, "positions"), 2 * 32 * MIB);
        // Seven eighths of half a segment, in which no file counts less than 256 bytes.
        assert_eq!(amount(&memory, FOLLOWED_FILES), 2 * 14 * MIB * 32);
        assert_eq!(amount(&memory, "deliveries"), 2 * 14 * MIB);
        assert_eq!(amount(&memory, "log"), 0);
        assert_eq!(total(&memory), memory.iter().map(|share| share.amount).sum::<u64>());
    }

    #[test]
    fn files_are_followed_in_one_room_if_any_input_does() {
        let followed = |follow: &[bool]| {
            let inputs = follow.iter().map(|&follows_files| InputNeeds { follows_files, ..needs().inputs[0] });
            amount(&Needs { inputs: inputs.collect(), ..needs() }.sums().memory, FOLLOWED_FILES)
        };
        let once = followed(&[true]);
        assert!(once > 0);
        assert_eq!([&[false, true][..], &[true, true], &[false]].map(followed), [once, once, 0]);
    }

    #[test]
    fn descriptors_are_counted_for_segments_files_and_connections() {
        let descriptors = needs().sums().descriptors;
        // 64 segments for each of two logs.
        assert_eq!(amount(&descriptors, "log"), 128);
        assert_eq!(amount(&descriptors, "inputs"), 2000);
        assert_eq!(amount(&descriptors, "outputs"), 8);
        assert_eq!(total(&descriptors), 32 + 2 * 16 + 128 + 4 + 2000 + 8 + 65);
    }

    #[test]
    fn a_log_in_memory_takes_memory_and_no_disk() {
        let disk = needs().sums().disk;
        assert_eq!(total(&disk), 2 * (2048 + 512) * MIB);
        let sums = Needs { log_in_memory: true, ..needs() }.sums();
        assert_eq!(total(&sums.disk), 2 * 512 * MIB);
        assert_eq!(amount(&sums.memory, "log"), 2 * 2048 * MIB);
        assert_eq!(sums.mapped_bytes, 2 * 2048 * MIB);
    }

    #[test]
    fn lanes_to_every_shard_and_long_lines_cost_what_they_cost() {
        let mut spread = needs();
        spread.shards = 256;
        spread.inputs[0] = InputNeeds { instances: 256, targets: 256, line_bytes_max: 1024, ..spread.inputs[0] };
        // 65,536 lanes, without batches for lines that are longer than a chunk.
        assert_eq!(amount(&spread.sums().memory, "lanes"), 65_536 * 66 * (65_536 + 64 + 32_768));
        let mut large = needs();
        large.inputs[0].lane_bytes = 4 << 20;
        assert_eq!(amount(&large.sums().memory, "lanes"), 2 * (194 * (65_536 + 64 + 32_768) + 6 * (262_144 + 65_536)));
        let mut long = needs();
        long.inputs[0].line_bytes_max = LINE_BYTES_MAX;
        // A larger event than a delivery goes alone.
        let event = 6 * 4 * MIB + 28_672;
        assert_eq!(amount(&long.sums().memory, "deliveries"), 2 * (event + 10 * MIB));
    }

    #[test]
    fn numbers_that_make_no_sense_do_not_wrap() {
        let mut huge = needs();
        (huge.log_bytes, huge.dead_letter_bytes, huge.segment_bytes) = (u64::MAX, u64::MAX, 0);
        huge.outputs[0].held_bytes_max = u64::MAX;
        let sums = huge.sums();
        assert_eq!(total(&sums.disk), u64::MAX);
        assert_eq!(total(&sums.memory), u64::MAX);
    }
}
