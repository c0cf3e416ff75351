//! The end of the shards, and of the process if a shard does not end.
//!
//! Guarantees: once everything is to stop at once, the wait for the shards ends, whatever they do. A shard that does not take
//! part keeps its thread, its files and the lock of the data directory until the process ends, so that no other process uses
//! them meanwhile. What it has acknowledged is in the write-ahead log, as if the process had been killed.

use super::RunError;
use futures_lite::future::{block_on, or};
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tailwater_shards::glommio_env::Drivers;
use tailwater_shards::signal::Signal;
use tailwater_shards::stop::{Phase, Stop};

/// How long shards may take to end after they were told to stop at once. They wait for no disk and no server then.
pub const FORCED_END: Duration = Duration::from_secs(3);

/// Waits until all shards have ended, and then drops what they need until then. Returns whether they have: false if one still
/// runs `forced_end` after all were told to stop at once.
pub fn outlast(
    drivers: Drivers,
    needed: impl Send + 'static,
    stop: &Stop,
    forced_end: Duration,
) -> Result<bool, RunError> {
    let ended = Arc::new(Signal::new());
    let (last, end) = mpsc::channel::<()>();
    let tell = ended.clone();
    let wait = move || {
        drivers.wait();
        drop(needed);
        drop(last);
        tell.notify();
    };
    let thread = std::thread::Builder::new().name("shards end".to_owned()).spawn(wait);
    thread.map_err(|error| RunError::Failed(format!("a thread for the shutdown cannot be started: {error}")))?;
    block_on(or(ended.wait(), stop.reached(Phase::Forced)));
    match end.recv_timeout(forced_end) {
        Err(mpsc::RecvTimeoutError::Timeout) => {
            tracing::error!(
                "a shard did not stop; the process ends without it, and the rest waits in the write-ahead log for the next \
                 start"
            );
            Ok(false)
        }
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tailwater_shards::glommio_env::launch;

    #[test]
    fn shard_that_does_not_return_does_not_hold_the_process() {
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().expect("no panic");
        let inside = gate.clone();
        let drivers = launch(&[None, None], move |env| {
            use tailwater_shards::env::Env;
            let gate = (env.shard().0 == 1).then(|| inside.clone());
            // Blocks the thread of the second shard, as a loop without end would.
            async move { drop(gate.as_ref().map(|gate| gate.lock())) }
        });
        let (needed, kept) = mpsc::channel::<()>();
        let stop = Stop::new();
        stop.enter(Phase::Forced);
        let ended = outlast(drivers.expect("shards"), needed, &stop, Duration::from_millis(50));
        assert!(!ended.expect("a thread"));
        assert_eq!(kept.try_recv(), Err(mpsc::TryRecvError::Empty), "the shard still needs it");
        drop(closed);
        assert!(kept.recv().is_err(), "dropped after the last shard");
    }

    #[test]
    fn shards_that_end_are_waited_for() {
        let drivers = launch(&[None], |_| async {}).expect("a shard");
        assert!(outlast(drivers, (), &Stop::new(), Duration::ZERO).expect("a thread"));
    }
}
