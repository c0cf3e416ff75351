//! The limits that the log is compiled with. Their values change nothing that a model looks at.

/// See the engine's own.
pub const SEGMENT_NUMBER_MAX: u64 = (1 << 36) - 1;

/// See the engine's own.
pub const OUTPUTS_MAX: usize = 1;
