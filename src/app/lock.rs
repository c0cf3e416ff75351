//! Waits at a start for the lock of the data directory.
//!
//! Guarantees: a lock that a killed process still has is waited for. It belongs to a process that is gone: the kernel releases it only
//! after it has ended what the process had begun with io_uring, which may be after the process was reaped. Waits at most
//! [`LOCK_WAIT`], and not if a stop is requested. Does not take the lock: the engine does, and refuses the start if it cannot.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tailwater_shards::env::Disk;
use tailwater_shards::stop::Stop;
use tailwater_shards::wal::manifest::lock_path;

/// How long to wait for it, and how often to look.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// Returns when no other process has the lock, or when it was waited for long enough. Blocks: call it before any shard runs.
pub fn wait_for_lock<D: Disk>(disk: &D, data_dir: &Path, stop: &Stop) {
    let (path, begun) = (lock_path(data_dir), Instant::now());
    let mut told = false;
    while matches!(disk.lock(&path), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        && begun.elapsed() < LOCK_WAIT
        && !stop.is_asked()
    {
        if !std::mem::replace(&mut told, true) {
            tracing::info!(
                data_dir = %data_dir.display(),
                "another process has the lock of the data directory; waiting for up to {LOCK_WAIT:?}"
            );
        }
        pause(LOCK_INTERVAL);
    }
}

#[expect(clippy::disallowed_methods, reason = "a start waits for another process, before any shard runs")]
fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
