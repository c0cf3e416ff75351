//! Pages of a log that a delivery is about to read.
//!
//! Guarantees: what is not in memory is read where that may block, before a frame of it is looked at. Does not decide which pages
//! those are: the cursor does.

use super::Deliverer;
use crate::env::{Env, Pool};

impl<E: Env> Deliverer<E> {
    /// Brings in the pages that a reader stands before, where it may block. False where it stands before none, or the end is
    /// forced meanwhile.
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
