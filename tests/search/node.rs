//! The servers: one that is always well and shared, one that is killed, stopped and made busy by one test at a time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tailwater_services::opensearch::OpenSearch;

/// Makes the server refuse single items, since each part of a request waits for one of two places; requests that are too much
/// together or alone; and those that are too large to be read.
pub const BUSY: [&str; 4] = [
    "thread_pool.write.size=1",
    "thread_pool.write.queue_size=1",
    "indexing_pressure.memory.limit=600kb",
    "http.max_content_length=1500kb",
];

static FRAGILE: Mutex<Option<(OpenSearch, bool)>> = Mutex::new(None);

/// The server that all share: names of indexes differ between tests.
pub fn steady() -> &'static OpenSearch {
    OpenSearch::shared()
}

/// A turn with the server that suffers.
pub struct Fragile(MutexGuard<'static, Option<(OpenSearch, bool)>>);

impl Fragile {
    /// Waits for a turn; the server is up and answers, with the settings of [`BUSY`] or without.
    pub fn take(busy: bool) -> Fragile {
        // A test that failed left it in whatever state; it is started again below.
        let mut slot = FRAGILE.lock().unwrap_or_else(PoisonError::into_inner);
        let settings: &[&str] = if busy { &BUSY } else { &[] };
        match slot.as_mut() {
            None => *slot = Some((OpenSearch::start_with(settings), busy)),
            Some((node, was_busy)) => {
                if node.process_id().is_some() && *was_busy != busy {
                    node.kill();
                }
                if node.process_id().is_none() {
                    node.start_again_with(settings);
                }
                *was_busy = busy;
            }
        }
        Fragile(slot)
    }

    pub fn node(&mut self) -> &mut OpenSearch {
        &mut self.0.as_mut().expect("it was started").0
    }
}
