//! Gate: where an output runs on every shard, what earlier starts of the engine left goes first, on whichever shard it lies.
//!
//! A source may be read on another shard after a start, and then its log is another one. The instance that reads the new log
//! knows nothing of what the instance of the old log has still to deliver. So each instance says which start wrote the oldest
//! frame that it has not delivered, its front, and none delivers a frame of a start that is later than the front of another.
//!
//! Guarantees: open once every instance has delivered what earlier starts left; never closes again. Does not hold up an output
//! with one instance, and does not outlive an instance that ends early: it is then abandoned, and whoever waits at it ends too.

use crate::signal::Signal;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// See the module. Shared by the instances of one output.
pub struct Gate {
    /// The present start of the engine.
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
    /// A gate for so many instances in the start of the engine that writes `epoch`.
    pub fn new(instances: usize, epoch: u32) -> Arc<Gate> {
        let fronts = (0..instances).map(|_| AtomicU32::new(0)).collect();
        Arc::new(Gate { epoch, fronts, abandoned: AtomicBool::new(false), waiting: Mutex::default() })
    }

    /// The place of an instance.
    pub fn keeper(self: &Arc<Self>, instance: usize) -> Gatekeeper {
        assert!(instance < self.fronts.len(), "a gate has a place for each instance");
        Gatekeeper { gate: self.clone(), instance }
    }

    fn remind(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|signal| signal.notify());
    }
}

impl Gatekeeper {
    /// Whether frames of the start `epoch` wait for another instance.
    pub fn holds(&self, epoch: u32) -> bool {
        let others = self.gate.fronts.iter().enumerate().filter(|(instance, _)| *instance != self.instance);
        others.into_iter().any(|(_, front)| front.load(Ordering::Acquire) < epoch)
    }

    /// Whether this instance has delivered what earlier starts left.
    pub fn is_past(&self) -> bool {
        self.gate.fronts[self.instance].load(Ordering::Relaxed) >= self.gate.epoch
    }

    /// Whether an instance ended before it had: what is held now stays so.
    pub fn is_abandoned(&self) -> bool {
        self.gate.abandoned.load(Ordering::Acquire)
    }

    /// Raises `news` when a front moves or the gate is abandoned.
    pub fn tell(&self, news: Arc<Signal>) {
        self.gate.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(news);
    }

    /// Says which start wrote the oldest frame that this instance has not delivered; none when there is no such frame. Whether
    /// that was news. A front only moves forward: an instance that goes back repeats what it had delivered.
    pub fn advance(&self, oldest: Option<u32>) -> bool {
        let front = oldest.map_or(self.gate.epoch, |oldest| oldest.min(self.gate.epoch));
        let moved = self.gate.fronts[self.instance].fetch_max(front, Ordering::AcqRel) < front;
        if moved {
            self.gate.remind();
        }
        moved
    }

    /// Says that this instance ends.
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
