//! Settings of one delivery. Reads no configuration: the product makes these.

use crate::retry::RetryOptions;
use std::time::Duration;

/// What happens to an output's events when the log is full because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputFull {
    /// Intake stops until the output has delivered.
    #[default]
    Block,
    /// The output's oldest events are dropped and counted.
    DropOldest,
    /// From three quarters full on, one frame in ten is kept for the output, the others are dropped and counted; what fills the log all
    /// the same is dropped like that of `DropOldest`.
    Sample,
}

impl OutputFull {
    /// Whether its oldest events are dropped when the log is full of them.
    pub fn gives_way(self) -> bool {
        self != OutputFull::Block
    }
}

/// How deliveries are grouped: a delivery ends at the first bound it meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// Bytes of lines. A single frame may be larger.
    pub bytes_max: u64,
    /// Events.
    pub events_max: u64,
    /// Longest wait for more events while neither bound is met.
    pub age_max: Duration,
}

/// Settings of one delivery.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryOptions {
    /// How deliveries are grouped.
    pub batch: BatchOptions,
    /// How failed ones are tried again.
    pub retry: RetryOptions,
    /// What happens when the log is full because of this output.
    pub when_full: OutputFull,
}
