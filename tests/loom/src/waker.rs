//! A waker cell like that of the `atomic-waker` crate: the same states, exchanges and orderings, with loom's atomics.
//!
//! Guarantees: synchronises no more than the crate does, so the model of a signal that needs more fails. The waker itself is
//! in a mutex of std that is never contended: the states give it to one side at a time, and the model fails if they do not.

use loom::sync::atomic::AtomicUsize;
use std::sync::Mutex;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::task::Waker;

const WAITING: usize = 0;
const REGISTERING: usize = 1;
const WAKING: usize = 2;

/// See the module.
pub struct AtomicWaker {
    state: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl Default for AtomicWaker {
    fn default() -> AtomicWaker {
        AtomicWaker { state: AtomicUsize::new(WAITING), waker: Mutex::new(None) }
    }
}

impl AtomicWaker {
    fn replace(&self, with: Option<Waker>) -> Option<Waker> {
        let mut waker = self.waker.try_lock().expect("the states give the waker to one side at a time");
        std::mem::replace(&mut *waker, with)
    }

    /// Keeps the waker for the next [`AtomicWaker::wake`].
    pub fn register(&self, waker: &Waker) {
        match self.state.compare_exchange(WAITING, REGISTERING, Acquire, Acquire) {
            Ok(_) => {
                drop(self.replace(Some(waker.clone())));
                if self.state.compare_exchange(REGISTERING, WAITING, AcqRel, Acquire).is_err() {
                    // The other side is waking and leaves the wake to this side.
                    let kept = self.replace(None);
                    self.state.swap(WAITING, AcqRel);
                    kept.into_iter().for_each(Waker::wake);
                }
            }
            Err(WAKING) => {
                waker.wake_by_ref();
                // The other side must be able to run, or loom would follow the case in which it does not without end.
                loom::thread::yield_now();
            }
            Err(state) => panic!("two tasks register at a time: state {state}"),
        }
    }

    /// Wakes the last registered waker.
    pub fn wake(&self) {
        if self.state.fetch_or(WAKING, AcqRel) == WAITING {
            let kept = self.replace(None);
            self.state.fetch_and(!WAKING, Release);
            kept.into_iter().for_each(Waker::wake);
        }
    }
}
