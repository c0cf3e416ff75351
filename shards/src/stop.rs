//! How a running engine is asked to shut down, and how far the shutdown has progressed.
//!
//! Guarantees: a phase never goes back. Every waiting task on every shard sees each phase. Does not stop anything itself:
//! inputs return when the drain begins, and the rest follows in the order that the shard decides.

use crate::signal::Signal;
use event_listener::{Event, listener};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// How far the shutdown has progressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Everything runs.
    Running = 0,
    /// Inputs stop reading. What was read is kept, and outputs deliver what they can.
    Draining = 1,
    /// Nothing more is waited for. What is in the WAL stays there for the next start.
    Forced = 2,
}

#[derive(Default)]
struct Shared {
    phase: AtomicU8,
    changed: Event,
    told: Mutex<Vec<Arc<Signal>>>,
    failure: Mutex<Option<String>>,
}

/// The shutdown control of an engine. Clones share it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Shared>);

impl Stop {
    /// The control of a running engine.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Enters `phase` unless it or a later one has been entered.
    pub fn enter(&self, phase: Phase) {
        if self.0.phase.fetch_max(phase as u8, Ordering::AcqRel) < phase as u8 {
            self.0.changed.notify(usize::MAX);
            self.0.told.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|signal| signal.notify());
        }
    }

    /// Raises `signal` at each later phase. For tasks that often wait for something else, because it costs nothing then.
    pub fn tell(&self, signal: Arc<Signal>) {
        self.0.told.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
    }

    /// Ends the engine at once because it cannot keep its guarantees. The first reason is kept.
    pub fn fail(&self, reason: String) {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
        self.enter(Phase::Forced);
    }

    /// Why the engine failed, if it did.
    pub fn failure(&self) -> Option<String> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The current phase.
    pub fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Running,
            1 => Phase::Draining,
            _ => Phase::Forced,
        }
    }

    /// Whether the shutdown has been requested.
    pub fn is_asked(&self) -> bool {
        self.phase() > Phase::Running
    }

    /// Waits until `phase` has been entered.
    pub async fn reached(&self, phase: Phase) {
        while self.phase() < phase {
            // Allocated on the stack, because inputs and outputs wait here for every batch.
            listener!(self.0.changed => listener);
            if self.phase() >= phase {
                return;
            }
            listener.await;
        }
    }
}

/// Counts down what still runs on all shards, and notifies tasks that wait for its end.
pub struct Countdown {
    running: AtomicUsize,
    waiting: Mutex<Vec<Arc<Signal>>>,
}

impl Countdown {
    /// A countdown for `running` parts.
    pub fn new(running: usize) -> Countdown {
        Countdown { running: AtomicUsize::new(running), waiting: Mutex::default() }
    }

    /// Raises `signal` when the last part has ended.
    pub fn tell(&self, signal: Arc<Signal>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(signal);
    }

    /// Records that one part has ended. Returns whether it was the last.
    pub fn end_one(&self) -> bool {
        let last = self.running.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|signal| signal.notify());
        }
        last
    }

    /// Whether all parts have ended.
    pub fn all_ended(&self) -> bool {
        self.running.load(Ordering::Acquire) == 0
    }
}
