//! Telemetry: what the process reports about itself.

pub mod admin;
pub mod log;
pub mod metrics;
pub mod scrapes;
pub mod table;
