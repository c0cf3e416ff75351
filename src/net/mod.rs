//! Network: listeners and protocols on the shards' own executors.

pub mod http;
