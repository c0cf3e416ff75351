//! Lane: the way of batches from an input to a shard's intake, on the same core or another.
//!
//! ```text
//!          ring of batches ────────────────>
//!  sender                                     receiver
//!          <──────────── ring of used batches
//!          <──────────── acknowledged ticket (a watermark)
//! ```
//!
//! Guarantees: the memory of a lane is bounded (invariant E4): at most its bytes of chunks plus one are on their way, beyond
//! them its policy applies; a full lane with the policy `block` stops its reader; what a policy drops is counted, and its
//! range travels on, so that a restart does not read it again; only owned batches cross (invariant E5). Tickets are counted
//! from one per lane and acknowledged in order. Does not know where the batches go after the receiver.

mod receiver;
mod sender;
#[cfg(test)]
mod tests;

pub use receiver::{Dropped, LaneAcknowledger, LaneReceiver};
pub use sender::{LaneSender, Sent};

use crate::batch::EventSpan;
use crate::counters::{InputCounters, LaneCounters};
use crate::limits::{EVENT_SPAN_BYTES, LANE_BATCHES, LANE_BYTES_DEFAULT, LANE_LARGE_BATCHES, LANE_SLOTS};
use crate::ring::ring;
use crate::signal::Signal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

/// What happens to a batch that meets a full lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WhenFull {
    /// The sender waits, so the source is not read on.
    #[default]
    Block,
    /// The batch's events are dropped.
    DropNewest,
    /// Events that wait longest are dropped to make room.
    DropOldest,
    /// One event of [`SAMPLE_KEEPS_ONE_IN`] is kept above half of the bytes; a full lane drops the batch.
    Sample,
}

/// How many events `sample` drops for each one it keeps, plus one.
pub const SAMPLE_KEEPS_ONE_IN: usize = 10;

/// Bytes and policy of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneOptions {
    /// Bytes of chunks on their way before the policy applies.
    pub bytes: usize,
    /// The policy.
    pub when_full: WhenFull,
}

impl Default for LaneOptions {
    fn default() -> LaneOptions {
        LaneOptions { bytes: LANE_BYTES_DEFAULT, when_full: WhenFull::Block }
    }
}

// What the sums of memory count.
const _: () = assert!(size_of::<EventSpan>() == EVENT_SPAN_BYTES);

struct Shared {
    /// The highest acknowledged ticket.
    acknowledged: AtomicU64,
    /// Tickets are acknowledged before they would survive a loss of power; and the highest that would.
    early: AtomicBool,
    hardened: AtomicU64,
    /// Bytes the sender asks the receiver to drop, ever.
    drop_asked: AtomicU64,
    /// The sender has ended.
    finished: AtomicBool,
    /// The sender waits until everything is durable, and nothing more comes before that.
    settle_asked: AtomicBool,
    /// Something came back: room, a used batch or an acknowledgement.
    returned: Signal,
    /// Something was sent or asked; one signal serves all lanes of a receiver.
    ready: Arc<Signal>,
    counters: LaneCounters,
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

/// A lane that reports to `counters` and raises `ready` when the receiver has something to do.
pub fn lane(
    options: LaneOptions,
    ready: Arc<Signal>,
    counters: Arc<InputCounters>,
) -> (LaneSender, LaneReceiver, LaneMeter) {
    let (forward, forward_out) = ring(LANE_SLOTS);
    // Every batch that can be out fits the way home, so returning one never fails.
    let (home_in, home) = ring((LANE_BATCHES + LANE_LARGE_BATCHES).next_power_of_two());
    let shared = Arc::new(Shared {
        acknowledged: AtomicU64::new(0),
        early: AtomicBool::new(false),
        hardened: AtomicU64::new(0),
        drop_asked: AtomicU64::new(0),
        finished: AtomicBool::new(false),
        settle_asked: AtomicBool::new(false),
        returned: Signal::new(),
        ready,
        counters: LaneCounters::default(),
    });
    let sender = LaneSender::new(forward, home, options, shared.clone(), counters);
    let meter = LaneMeter(shared.clone());
    (sender, LaneReceiver::new(forward_out, home_in, shared), meter)
}
