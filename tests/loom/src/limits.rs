//! The limits for which the log is compiled. Their values do not affect the models.

/// See the engine's own.
pub const SEGMENT_NUMBER_MAX: u64 = (1 << 36) - 1;

/// See the engine's own.
pub const OUTPUTS_MAX: usize = 1;
