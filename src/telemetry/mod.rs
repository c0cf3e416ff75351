//! Telemetry: what the process says of itself.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod table;
