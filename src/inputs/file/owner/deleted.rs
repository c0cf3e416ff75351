//! Unread bytes of files that no path leads to: their disk space is free only when they were read and are closed.
//!
//! Guarantees: the log warns once when they are many, and again only after they were few. Closes no file because of them: they would
//! be lost.

use super::Owner;
use tailwater_shards::env::Env;

/// Number of such bytes on a shard of which the log warns.
const MANY_BYTES: u64 = if cfg!(test) { 100_000 } else { 1 << 30 };

impl<E: Env> Owner<E> {
    /// Counts them. Called once per tick.
    pub(super) fn count_deleted(&self) {
        let slots = self.slots.borrow();
        let bytes = self.away.borrow().iter().filter_map(|id| slots.get(id)).map(|slot| slot.unread).sum();
        self.counters.unread_deleted_bytes.set(bytes);
        if bytes < MANY_BYTES / 2 {
            self.told_of_deleted.set(false);
        } else if bytes >= MANY_BYTES && !self.told_of_deleted.replace(true) {
            tracing::warn!(
                component_id = %self.input, component_kind = "input",
                "deleted or renamed files hold {} MiB that are not read yet, and keep their disk space: see which output is behind \
                 (tailwater_output_retries_total, tailwater_file_unread_deleted_bytes). A restart frees the space of deleted files, but \
                 loses what is unread", bytes >> 20
            );
        }
    }
}
