//! Delivery: what takes events from the logs to one output.

/// What happens to an output's events when the log is full because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OutputFull {
    /// Intake stops until the output has delivered.
    #[default]
    Block,
    /// The output's oldest events are dropped and counted.
    DropOldest,
    /// From three quarters full on, one frame in ten is kept for the output, the others are dropped and counted.
    Sample,
}
