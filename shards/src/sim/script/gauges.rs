//! Measures every queue of the engine that has a limit, while a life runs.
//!
//! Guarantees: the limits are derived here from the settings of the life as [`crate::limits`] defines, not read from the
//! engine.

use super::Holding;
use super::cluster::Life;
use super::setup::{LONG_LINE_BYTES, Setup};
use crate::env::ShardId;
use crate::intake::OWED_MAX;
use crate::keeper::WAITING_MAX;
use crate::limits::{
    CHUNK_BYTES, PARKED_BATCHES_MAX, PARKED_BYTES_MAX, REFUSED_BATCHES_MAX, REFUSED_BYTES_MAX, SEGMENTS_MIN,
    SPREAD_RANGES_FREE, WITHHELD_MAX, lane_aside_max, lane_batches, spread_ranges_max,
};
use crate::route::ShardBy;
use crate::sim::oracle::Oracle;

/// Files that a log may have in addition to its allowed segments: the standby files.
const STANDBYS: u64 = 2;

/// Frames that are kept for readers: the four that a delivery combines, and one more.
const FRAMES_KEPT: u64 = 8;

/// Maximum bytes of a scripted frame in addition to the lines of its batch: what its encoder adds to each line, index and
/// positions.
const AROUND_LINES: u64 = 8 * 1024;

/// Lanes and shards. Cheap enough for every few polls.
pub(super) fn queues(life: &Life, setup: &Setup, oracle: &mut Oracle) {
    let lanes: u64 = life.meters.inputs.iter().map(|input| input.lanes.len() as u64).sum();
    // An empty lane accepts a batch of any size.
    let largest = if setup.long_lines { LONG_LINE_BYTES + 1024 } else { CHUNK_BYTES };
    for meter in &life.meters.inputs {
        let allowed = life.inputs[meter.input];
        let bytes = setup.inputs[allowed].lane.bytes.max(largest) as u64;
        for lane in &meter.lanes {
            let counters = lane.counters();
            // Returned bytes are read before sent bytes, so the difference is never smaller than what is in transit.
            let home = counters.taken_bytes.get();
            oracle.measured("bytes in a lane", counters.sent_bytes.get() - home, bytes);
            let (made, aside) = (counters.made_batches.get(), counters.aside_batches.get());
            let lane_bytes = setup.inputs[allowed].lane.bytes;
            oracle.measured("batches of a lane", made, lane_batches(lane_bytes) as u64);
            oracle.measured("batches that stepped aside", aside, lane_aside_max(lane_bytes) as u64);
        }
    }
    let frame = largest as u64 + AROUND_LINES;
    for meter in &life.meters.outputs {
        // Whole frames are held: the first of each log may be partly delivered, and the last may begin just below the limit.
        let limit = setup.outputs[life.outputs[meter.output]].options.batch.bytes_max + (life.logs as u64 + 1) * frame;
        oracle.measured("bytes held by a delivery", meter.counters.held_bytes.get(), limit);
    }
    let sources: u64 = setup.inputs.iter().map(|input| input.sources as u64).sum();
    for shard in &life.meters.shards {
        oracle.measured("frames kept for readers", shard.kept_frames.get(), FRAMES_KEPT);
        // A growing buffer doubles its size.
        oracle.measured("bytes kept for readers", shard.kept_bytes.get(), (FRAMES_KEPT + 8) * 2 * frame);
        oracle.measured(
            "batches that wait for letters",
            shard.parked_batches.get(),
            lanes * ((PARKED_BATCHES_MAX + REFUSED_BATCHES_MAX) as u64 + 1),
        );
        oracle.measured(
            "bytes that wait for letters",
            shard.parked_bytes.get(),
            lanes * ((PARKED_BYTES_MAX + REFUSED_BYTES_MAX) as u64 + frame),
        );
        oracle.measured("withheld runs", shard.withheld_runs.get(), lanes * WITHHELD_MAX as u64);
        let waiting = shard.waiting_acknowledgements.get();
        oracle.measured("waiting acknowledgements", waiting, WAITING_MAX as u64 + lanes);
        // Each source has one run of bytes to record, and one more after each gap that a power loss left. Batches of a spread
        // source are never adjacent on a shard.
        let spread = setup.inputs.iter().any(|input| input.shard_by == ShardBy::Spread);
        let runs = if spread { OWED_MAX as u64 } else { sources * (2 + life.holes) };
        oracle.measured("ranges owed", shard.owed_ranges.get(), runs);
    }
    let allowed = segments_allowed(setup);
    for shard in 0..life.shards {
        if let Some(log) = life.meters.board.get(ShardId(shard as u16)) {
            // A log from an earlier life keeps its segments; its snapshot and commits use the standby files.
            let limit = allowed.max(life.files_before.0 + STANDBYS).min(life.segments_allowed_max + STANDBYS);
            oracle.measured("segments of a log", log.counters.segments.get(), limit);
            oracle.measured("ranges in a snapshot", log.counters.snapshot_ranges.get(), ranges_allowed(life, setup));
        }
    }
}

/// Number of source ranges that a snapshot may contain. What several instances read one after the other is one range, and one
/// more after each gap that a power loss or rot left. A spread source has additional separate ranges, as many as an instance
/// allows.
fn ranges_allowed(life: &Life, setup: &Setup) -> u64 {
    let sources: u64 = setup.inputs.iter().map(|input| input.sources as u64).sum();
    let spread = setup.inputs.iter().filter(|input| input.shard_by == ShardBy::Spread).count() as u64;
    // Instances share them: apart from the free ones, together they have no more than a single instance.
    let apart = spread_ranges_max(life.segment_bytes_max, 1) + life.shards * SPREAD_RANGES_FREE;
    let free = if spread > 0 { SPREAD_RANGES_FREE as u64 } else { 0 };
    // Ranges that a lane drops are recorded, although windows may hold earlier ones.
    let held = if setup.holding == Holding::None { 0 } else { sources };
    (sources * (1 + free) + held + spread * apart as u64) * (1 + life.holes)
}

/// Number of segments that a log may have with these settings.
pub(super) fn segments_allowed(setup: &Setup) -> u64 {
    (setup.wal.log_bytes / setup.wal.segment_bytes).max(SEGMENTS_MIN)
}

/// The files of each log: their number and size.
pub(super) fn files(life: &Life, setup: &Setup, logs: &[(usize, u64)], oracle: &mut Oracle) {
    let allowed = segments_allowed(setup) + STANDBYS;
    for &(files, size) in logs {
        // A log keeps its earlier files and may add standby files. That alone would let it grow from life to life.
        let limit = allowed.max(life.files_before.0 + STANDBYS).min(life.segments_allowed_max + STANDBYS);
        oracle.measured("files of a log", files as u64, limit);
        // Segments of an earlier life keep their size.
        let before = allowed * setup.wal.segment_bytes + life.files_before.1;
        oracle.measured("bytes of a log", size, before.min(files as u64 * life.segment_bytes_max));
    }
}
