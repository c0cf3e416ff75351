//! Lane: the queue of batches from an input to a shard's intake, on the same core or another.
//!
//! ```text
//!          ring of batches ────────────────>
//!  sender                                     receiver ──> batches that stepped aside
//!          <──────────── ring of used batches
//!          <──────────── acknowledged ticket (a watermark)
//! ```
//!
//! Guarantees: the memory of a lane is bounded (invariant E4): chunks of at most its configured bytes, plus one chunk, are in
//! transit. Beyond that, its policy applies. A full lane with the policy `block` stops its reader. What a policy drops is
//! counted, and its range is still recorded, so that a restart does not read it again. Only owned batches cross a lane
//! (invariant E5). Tickets are counted from one per lane and acknowledged in order. With the policy `block`, batches of a source
//! that waits at the receiver step aside for those of other sources. Their bytes no longer count as in transit, and there are
//! at most [`lane_aside_max`] of them. Does not know where the batches go after the receiver.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use receiver::{Dropped, LaneAcknowledger, LaneReceiver};
pub use sender::{LaneSender, Sent};

use crate::batch::{EventSpan, SourceKey};
use crate::counters::{InputCounters, LaneCounters};
use crate::limits::{
    EVENT_SPAN_BYTES, LANE_BYTES_DEFAULT, LANE_LARGE_ASIDE_MAX, LANE_LARGE_BATCHES, LANE_SLOTS, PARKED_BATCHES_MAX,
    REFUSED_BATCHES_MAX, lane_aside_max, lane_batches,
};
use crate::ring::ring;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// What happens to a batch when the lane is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The sender waits, so reading of the source stops.
    #[default]
    Block,
    /// The batch's events are dropped.
    DropNewest,
    /// The oldest waiting events are dropped to make space.
    DropOldest,
    /// While the lane is more than half full, one event in [`SAMPLE_KEEPS_ONE_IN`] is kept. A full lane drops the batch.
    Sample,
}

/// Out of this many events, `sample` keeps one.
pub const SAMPLE_KEEPS_ONE_IN: usize = 10;

/// Size and policy of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Bytes of chunks in transit before the policy applies.
    pub bytes: usize,
    /// The policy.
    pub when_full: WhenFull,
}

impl Default for LaneOptions {
    fn default() -> LaneOptions {
        LaneOptions { bytes: LANE_BYTES_DEFAULT, when_full: WhenFull::Block }
    }
}

// The size that the sums of memory use.
const _: () = assert!(size_of::<EventSpan>() == EVENT_SPAN_BYTES);

struct Shared {
    /// The highest acknowledged ticket.
    acknowledged: AtomicU64,
    /// Whether tickets are acknowledged before they would survive a power loss, and the highest ticket that would survive one.
    early: AtomicBool,
    hardened: AtomicU64,
    /// Total bytes that the sender has asked the receiver to drop.
    drop_asked: AtomicU64,
    /// The sender has ended.
    finished: AtomicBool,
    /// The sender waits until everything is durable, and sends nothing before that.
    settle_asked: AtomicBool,
    /// Sources that should not be read for now.
    resting: Resting,
    /// Something came back: space, a used batch or an acknowledgement.
    returned: Signal,
    /// Something was sent or requested. One signal serves all lanes of a receiver.
    ready: Arc<Signal>,
    counters: LaneCounters,
}

/// Sources that should not be read for now, because their batches would only wait at the receiver. Advice: a reader that sees an
/// old or a half-written list reads too much or too little for a moment.
struct Resting {
    count: AtomicUsize,
    /// A part of each key.
    sources: [AtomicU64; RESTING_MAX],
}

/// Each of them has a batch that waits.
const RESTING_MAX: usize = PARKED_BATCHES_MAX + REFUSED_BATCHES_MAX;

impl Default for Resting {
    fn default() -> Resting {
        Resting { count: AtomicUsize::new(0), sources: [const { AtomicU64::new(0) }; RESTING_MAX] }
    }
}

impl Resting {
    fn set(&self, sources: &[SourceKey]) {
        for (place, source) in self.sources.iter().zip(sources) {
            place.store(source.0 as u64, Ordering::Relaxed);
        }
        self.count.store(sources.len().min(self.sources.len()), Ordering::Release);
    }

    fn has(&self, source: SourceKey) -> bool {
        let count = self.count.load(Ordering::Acquire);
        self.sources[..count].iter().any(|place| place.load(Ordering::Relaxed) == source.0 as u64)
    }
}

/// Read access to a lane's counters from any thread.
#[derive(Clone)]
pub struct LaneMeter(Arc<Shared>);

impl LaneMeter {
    /// The lane's counters.
    pub fn counters(&self) -> &LaneCounters {
        &self.0.counters
    }
}

/// Creates a lane that counts in `counters` and raises `ready` when the receiver has work.
pub fn lane(
    options: LaneOptions,
    ready: Arc<Signal>,
    counters: Arc<InputCounters>,
) -> (LaneSender, LaneReceiver, LaneMeter) {
    let (forward, forward_out) = ring(LANE_SLOTS);
    // The return ring has space for every batch that can exist, so returning one never fails.
    let batches = lane_batches(options.bytes) + LANE_LARGE_BATCHES + LANE_LARGE_ASIDE_MAX;
    let (home_in, home) = ring(batches.next_power_of_two());
    let shared = Arc::new(Shared {
        acknowledged: AtomicU64::new(0),
        early: AtomicBool::new(false),
        hardened: AtomicU64::new(0),
        drop_asked: AtomicU64::new(0),
        finished: AtomicBool::new(false),
        settle_asked: AtomicBool::new(false),
        resting: Resting::default(),
        returned: Signal::new(),
        ready,
        counters: LaneCounters::default(),
    });
    let sender = LaneSender::new(forward, home, options, shared.clone(), counters);
    let meter = LaneMeter(shared.clone());
    let aside_max = if options.when_full == WhenFull::Block { lane_aside_max(options.bytes) } else { 0 };
    (sender, LaneReceiver::new(forward_out, home_in, shared, aside_max), meter)
}
