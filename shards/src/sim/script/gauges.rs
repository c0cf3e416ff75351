//! Gauges: every queue of the engine that has a limit, looked at while a life runs.
//!
//! Guarantees: the limits are derived here from the settings of the life as [`crate::limits`] says, not read from the engine.

use super::Holding;
use super::cluster::Life;
use super::setup::{LONG_LINE_BYTES, Setup};
use crate::env::ShardId;
use crate::intake::OWED_MAX;
use crate::keeper::WAITING_MAX;
use crate::limits::{
    CHUNK_BYTES, LANE_BATCHES, PARKED_BATCHES_MAX, PARKED_BYTES_MAX, SEGMENTS_MIN, SPREAD_RANGES_FREE, WITHHELD_MAX,
    spread_ranges_max,
};
use crate::route::ShardBy;
use crate::sim::oracle::Oracle;

/// Files that a log may have beside the segments it is allowed: the standbys.
const STANDBYS: u64 = 2;

/// Frames that are kept for readers: the four that a delivery takes together, and one more.
const FRAMES_KEPT: u64 = 8;

/// Bytes that a scripted frame has at most beside the lines of its batch: what its encoder puts around each, index and positions.
const AROUND_LINES: u64 = 8 * 1024;

/// Lanes and shards: cheap, for every few polls.
pub(super) fn queues(life: &Life, setup: &Setup, oracle: &mut Oracle) {
    let lanes: u64 = life.meters.inputs.iter().map(|input| input.lanes.len() as u64).sum();
    // A batch of any size may go into an empty lane.
    let largest = if setup.long_lines { LONG_LINE_BYTES + 1024 } else { CHUNK_BYTES };
    for meter in &life.meters.inputs {
        let allowed = life.inputs[meter.input];
        let bytes = setup.inputs[allowed].lane.bytes.max(largest) as u64;
        for lane in &meter.lanes {
            let counters = lane.counters();
            // What went home is read before what was sent: the difference is never smaller than what is out.
            let home = counters.taken_bytes.get();
            oracle.measured("bytes in a lane", counters.sent_bytes.get() - home, bytes);
            oracle.measured("batches of a lane", counters.made_batches.get(), LANE_BATCHES as u64);
        }
    }
    let frame = largest as u64 + AROUND_LINES;
    for meter in &life.meters.outputs {
        // Whole frames are held: of the first of each log a part may be delivered, and the last may begin just below the bound.
        let limit = setup.outputs[life.outputs[meter.output]].options.batch.bytes_max + (life.logs as u64 + 1) * frame;
        oracle.measured("bytes held by a delivery", meter.counters.held_bytes.get(), limit);
    }
    let sources: u64 = setup.inputs.iter().map(|input| input.sources as u64).sum();
    for shard in &life.meters.shards {
        oracle.measured("frames kept for readers", shard.kept_frames.get(), FRAMES_KEPT);
        // A buffer that grows doubles.
        oracle.measured("bytes kept for readers", shard.kept_bytes.get(), (FRAMES_KEPT + 8) * 2 * frame);
        oracle.measured(
            "batches that wait for letters",
            shard.parked_batches.get(),
            lanes * (PARKED_BATCHES_MAX as u64 + 1),
        );
        oracle.measured(
            "bytes that wait for letters",
            shard.parked_bytes.get(),
            lanes * (PARKED_BYTES_MAX as u64 + frame),
        );
        oracle.measured("withheld runs", shard.withheld_runs.get(), lanes * WITHHELD_MAX as u64);
        let waiting = shard.waiting_acknowledgements.get();
        oracle.measured("waiting acknowledgements", waiting, WAITING_MAX as u64 + lanes);
        // Each source has one run of bytes to record, and one more behind each hole that a loss of power left it. Of one that is
        // spread no two batches on a shard meet.
        let spread = setup.inputs.iter().any(|input| input.shard_by == ShardBy::Spread);
        let runs = if spread { OWED_MAX as u64 } else { sources * (2 + life.holes) };
        oracle.measured("ranges owed", shard.owed_ranges.get(), runs);
    }
    let allowed = segments_allowed(setup);
    for shard in 0..life.shards {
        if let Some(log) = life.meters.board.get(ShardId(shard as u16)) {
            // A log that comes from an earlier life keeps what it has; its snapshot and commits take the standbys.
            let limit = allowed.max(life.files_before.0 + STANDBYS).min(life.segments_allowed_max + STANDBYS);
            oracle.measured("segments of a log", log.counters.segments.get(), limit);
            oracle.measured("ranges in a snapshot", log.counters.snapshot_ranges.get(), ranges_allowed(life, setup));
        }
    }
}

/// Ranges of sources that a snapshot may hold. What one instance after the other reads is one range, and one more behind each hole
/// that a loss of power or rot left it. Of a source that is spread some lie apart beside it, as many as an instance lets.
fn ranges_allowed(life: &Life, setup: &Setup) -> u64 {
    let sources: u64 = setup.inputs.iter().map(|input| input.sources as u64).sum();
    let spread = setup.inputs.iter().filter(|input| input.shard_by == ShardBy::Spread).count() as u64;
    // Instances share them: together they have no more than one alone, but for those that are free.
    let apart = spread_ranges_max(life.segment_bytes_max, 1) + life.shards * SPREAD_RANGES_FREE;
    let free = if spread > 0 { SPREAD_RANGES_FREE as u64 } else { 0 };
    // What a lane drops is recorded, though windows may hold what was before it.
    let held = if setup.holding == Holding::None { 0 } else { sources };
    (sources * (1 + free) + held + spread * apart as u64) * (1 + life.holes)
}

/// Segments that a log may have as its settings are.
pub(super) fn segments_allowed(setup: &Setup) -> u64 {
    (setup.wal.log_bytes / setup.wal.segment_bytes).max(SEGMENTS_MIN)
}

/// The files of each log, as many and as large.
pub(super) fn files(life: &Life, setup: &Setup, logs: &[(usize, u64)], oracle: &mut Oracle) {
    let allowed = segments_allowed(setup) + STANDBYS;
    for &(files, size) in logs {
        // What a log has before a life it keeps, and may add standbys. That alone would let it grow from life to life.
        let limit = allowed.max(life.files_before.0 + STANDBYS).min(life.segments_allowed_max + STANDBYS);
        oracle.measured("files of a log", files as u64, limit);
        // Segments of an earlier life keep their size beside those of the present one.
        let before = allowed * setup.wal.segment_bytes + life.files_before.1;
        oracle.measured("bytes of a log", size, before.min(files as u64 * life.segment_bytes_max));
    }
}
