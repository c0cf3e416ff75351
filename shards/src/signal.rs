//! Signal: one side says that something changed, one task waits for it.
//!
//! Guarantees: a notification that comes before the wait is not lost; many notifications before one wait count as one; the
//! sides may live on different cores, and a notification that finds the signal raised costs one atomic swap. Does not carry data, and serves
//! one waiting task at a time.

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
    /// A signal that nobody has raised.
    pub fn new() -> Signal {
        Signal::default()
    }

    /// Raises the signal and wakes the task that waits for it.
    pub fn notify(&self) {
        // The swap is unconditional: it publishes what the caller wrote before it, even when the signal is already raised.
        // Waking another core costs a system call, so only the first of many notifications does it.
        if !self.set.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until the signal is raised and lowers it.
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

    /// Lowers the signal; whether it was raised.
    pub fn take(&self) -> bool {
        self.set.load(Ordering::Relaxed) && self.set.swap(false, Ordering::AcqRel)
    }
}
