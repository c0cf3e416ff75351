//! Settings of one delivery. The product creates them; this module reads no configuration.

use crate::dlq;
use crate::retry::RetryOptions;
use std::time::Duration;

/// What happens to an output's events if the log is full because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputFull {
    /// The intake stops until the output has delivered.
    #[default]
    Block,
    /// The output's oldest events are dropped and counted.
    DropOldest,
    /// When the log is at least three quarters full, one frame in ten is kept for the output, and the others are dropped and
    /// counted. If the log becomes full anyway, the oldest events are dropped as with `DropOldest`.
    Sample,
}

impl OutputFull {
    /// Whether its oldest events are dropped when the log is full because of them.
    pub fn gives_way(self) -> bool {
        self != OutputFull::Block
    }
}

/// How deliveries are grouped: a delivery ends at the first limit that it reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Bytes of lines. A single frame may be larger.
    pub bytes_max: u64,
    /// Events.
    pub events_max: u64,
    /// Maximum wait for more events while neither limit is reached.
    pub age_max: Duration,
}

/// Settings of one delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOptions {
    /// How deliveries are grouped.
    pub batch: BatchOptions,
    /// How failed deliveries are retried.
    pub retry: RetryOptions,
    /// What happens when the log is full because of this output.
    pub when_full: OutputFull,
    /// What happens to a dead letter for which its share of the queue has no space. None if the queue decides.
    pub letters_full: Option<dlq::WhenFull>,
}
