//! Waits for conditions, with a deadline far beyond what a busy machine needs.

use std::time::{Duration, Instant};

/// The longest wait for anything.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Sleeps for about `duration`. Nothing depends on how long that really was.
pub fn pause(duration: Duration) {
    std::thread::park_timeout(duration);
}

/// Waits until `condition` returns a value; fails with `what` and the last error otherwise.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Result<T, String>) -> T {
    let started = Instant::now();
    loop {
        match condition() {
            Ok(value) => return value,
            Err(state) => assert!(started.elapsed() < DEADLINE, "waited {DEADLINE:?} for {what}; last: {state}"),
        }
        pause(Duration::from_millis(10));
    }
}
