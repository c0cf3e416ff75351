//! The gate: if an output runs on every shard, events of earlier starts of the engine are delivered first, on whichever shard
//! they are.
//!
//! After a start, another shard may read a source, so the source's new events are in another WAL. The instance that reads the
//! new WAL does not know what the instance of the old WAL still has to deliver. Each instance therefore reports which start
//! wrote its oldest undelivered frame (its front), and no instance delivers a frame of a start that is later than the front of
//! another instance.
//!
//! Guarantees: the gate opens when every instance has delivered the events of earlier starts, and never closes again. It does
//! not delay an output with one instance. An instance that ends early abandons the gate: instances that wait at it then end
//! too.

use crate::signal::Signal;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. Shared by the instances of one output.
pub struct Gate {
    /// The current start of the engine.
    epoch: u32,
    fronts: Box<[AtomicU32]>,
    abandoned: AtomicBool,
    waiting: Mutex<Vec<Arc<Signal>>>,
}

/// One instance at the gate.
pub struct Gatekeeper {
    gate: Arc<Gate>,
    instance: usize,
}

impl Gate {
    /// A gate for this many instances, in the start of the engine that writes `epoch`.
    pub fn new(instances: usize, epoch: u32) -> Arc<Gate> {
        let fronts = (0..instances).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Gate { epoch, fronts, abandoned: AtomicBool::new(false), waiting: Mutex::default() })
    }

    /// The handle of one instance.
    pub fn keeper(self: &Arc<Self>, instance: usize) -> Gatekeeper {
        assert!(instance < self.fronts.len(), "a gate has a place for each instance");
        Gatekeeper { gate: self.clone(), instance }
    }

    fn remind(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|signal| signal.notify());
    }
}

impl Gatekeeper {
    /// Whether frames of the start `epoch` must wait for another instance.
    pub fn holds(&self, epoch: u32) -> bool {
        let others = self.gate.fronts.iter().enumerate().filter(|(instance, _)| *instance != self.instance);
        others.into_iter().any(|(_, front)| front.load(Ordering::Acquire) < epoch)
    }

    /// Whether this instance has delivered the events of earlier starts.
    pub fn is_past(&self) -> bool {
        self.gate.fronts[self.instance].load(Ordering::Relaxed) >= self.gate.epoch
    }

    /// Whether an instance ended before it had delivered them. What is held back then stays undelivered.
    pub fn is_abandoned(&self) -> bool {
        self.gate.abandoned.load(Ordering::Acquire)
    }

    /// Raises `news` when a front moves or the gate is abandoned.
    pub fn tell(&self, news: Arc<Signal>) {
        self.gate.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(news);
    }

    /// Reports which start wrote the oldest frame that this instance has not delivered, or none if there is no such frame.
    /// Returns whether that moved the front. A front only moves forward: an instance that goes back repeats what it had
    /// delivered.
    pub fn advance(&self, oldest: Option<u32>) -> bool {
        let front = oldest.map_or(self.gate.epoch, |oldest| oldest.min(self.gate.epoch));
        let moved = self.gate.fronts[self.instance].fetch_max(front, Ordering::AcqRel) < front;
        if moved {
            self.gate.remind();
        }
        moved
    }

    /// Reports that this instance ends.
    pub fn leave(&self) {
        if !self.is_past() {
            self.gate.abandoned.store(true, Ordering::Release);
            self.gate.remind();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_later_start_wait_for_the_oldest_of_all_instances() {
        let gate = Gate::new(2, 5);
        let (left, right) = (gate.keeper(0), gate.keeper(1));
        assert!(left.holds(3) && right.holds(3), "nobody has said anything yet");
        assert!(left.advance(Some(3)) && right.advance(Some(4)));
        assert!(!left.holds(3) && !left.holds(4) && left.holds(5));
        assert!(right.holds(4));
        assert!(left.advance(None) && left.is_past());
        assert!(!right.holds(4) && !right.advance(Some(4)));
        assert!(right.advance(Some(5)) && !left.holds(5) && !right.holds(5));
        assert!(!right.advance(Some(3)) && !left.holds(5), "who goes back closes nothing");
    }

    #[test]
    fn one_instance_is_never_held() {
        assert!(!Gate::new(1, 5).keeper(0).holds(5));
    }

    #[test]
    fn who_ends_early_abandons_the_gate() {
        let gate = Gate::new(2, 5);
        let (left, right) = (gate.keeper(0), gate.keeper(1));
        let news = Arc::new(Signal::new());
        left.tell(news.clone());
        right.advance(Some(4));
        assert!(news.take());
        right.leave();
        assert!(news.take() && left.is_abandoned() && left.holds(5));
    }
}
