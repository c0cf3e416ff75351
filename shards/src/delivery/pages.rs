//! Pages of a WAL that a delivery is about to read.
//!
//! Guarantees: pages that are not in memory are loaded where blocking is allowed, before a frame in them is read. The cursor
//! decides which pages those are.

use super::Deliverer;
use crate::env::{Env, Pool};

impl<E: Env> Deliverer<E> {
    /// Loads the pages that a reader needs next, where blocking is allowed. Returns false if it needs none, or if the shutdown
    /// is forced in the meantime.
    pub(super) async fn brings_in(&self, index: usize) -> bool {
        let reader = &self.readers[index];
        let Some(pages) = reader.cold_pages() else { return false };
        if !pages.are_resident() {
            let reading = self.context.env.blocking_in(Pool::Log, move || pages.read_in());
            if self.unless_forced(reading).await.is_err() {
                return false;
            }
        }
        reader.pages_are_in();
        true
    }
}
