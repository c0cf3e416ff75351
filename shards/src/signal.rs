//! A signal: one side reports that something changed, one task waits for it.
//!
//! Guarantees: a notification before the wait is not lost. Several notifications before one wait count as one. The sides may be
//! on different cores, and notifying an already raised signal costs one atomic swap. Carries no data, and serves one waiting
//! task at a time.

#[cfg(loom)]
use crate::waker::AtomicWaker;
#[cfg(not(loom))]
use atomic_waker::AtomicWaker;
#[cfg(loom)]
use loom::sync::atomic::AtomicBool;
use std::future::poll_fn;
#[cfg(not(loom))]
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::task::Poll;

/// See the module. Shared by `Arc` or `Rc`.
#[derive(Default)]
pub struct Signal {
    set: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// A signal that is not raised.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Raises the signal and wakes the task that waits for it.
    pub fn notify(&self) {
        // The swap is unconditional: it publishes what the caller wrote before, even if the signal is already raised. Waking
        // another core costs a system call, so only the first of several notifications does it.
        if !self.set.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until the signal is raised, and lowers it.
    pub async fn wait(&self) {
        poll_fn(|context| {
            if self.take() {
                return Poll::Ready(());
            }
            self.waker.register(context.waker());
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Lowers the signal. Returns whether it was raised.
    pub fn take(&self) -> bool {
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::AcqRel)
    }
}
