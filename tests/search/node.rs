//! The servers: a healthy shared one, and one that is killed, stopped and overloaded by one test at a time.

use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tailwater_services::opensearch::OpenSearch;

/// Makes the server reject single items, because each part of a request waits for one of two slots; requests that exceed its
/// limits together or alone; and requests that are too large to be read.
pub const BUSY: [&str; 4] = [
    "thread_pool.write.size=1",
    "thread_pool.write.queue_size=1",
    "indexing_pressure.memory.limit=600kb",
    "http.max_content_length=1500kb",
];

static FRAGILE: Mutex<Option<(OpenSearch, bool)>> = Mutex::new(None);

/// The server that all share: the names of indexes differ between tests.
pub fn steady() -> &'static OpenSearch {
    OpenSearch::shared()
}

/// Exclusive use of the server that is killed and overloaded.
pub struct Fragile(MutexGuard<'static, Option<(OpenSearch, bool)>>);

impl Fragile {
    /// Waits for the server. It is running and responds, with the settings of [`BUSY`] or without them.
    pub fn take(busy: bool) -> Fragile {
        // A failed test left it in an unknown state; it is restarted below.
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

/// A server that is stopped by a signal: it accepts connections and requests as far as the kernel does, and answers nothing.
/// It continues when this is dropped.
pub struct Stopped(u32);

impl Stopped {
    pub fn stop(node: &OpenSearch) -> Stopped {
        let stopped = Stopped(node.process_id().expect("it runs"));
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.to_string()]).status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}
