//! When everything has started.
//!
//! Guarantees: this is logged once, by whichever part is last, and never if one of them fails.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Logs that everything has started once the shards run and the admin endpoint listens.
pub(super) struct Started {
    missing: AtomicUsize,
    shards: usize,
}

impl Started {
    /// Waits for so many parts.
    pub(super) fn when(missing: usize, shards: usize) -> Self {
        Self { missing: AtomicUsize::new(missing), shards }
    }

    /// One more part has started.
    pub(super) fn and_one_more(&self) {
        if self.missing.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::info!(shards = self.shards, "started");
        }
    }
}
