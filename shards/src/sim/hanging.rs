//! Jobs that wait for a part of the disk that hangs, on threads of their own.
//!
//! Guarantees: the simulation and such a job never run at the same time: each gives the other its turn and waits. So a run is still
//! a function of its seed. A job goes on where it hung as soon as that answers. One that nobody needs any more gets an error from
//! every call that hangs, and ends. Used only while something hangs.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

thread_local! {
    /// Of the job that this thread runs.
    static GATE: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Turn {
    Job,
    Simulation,
    Ended,
    /// Nobody waits for the job any more.
    Abandoned,
}

struct Gate {
    turn: Mutex<Turn>,
    changed: Condvar,
}

impl Gate {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, turn: Turn) {
        let mut now = self.turn();
        if *now != Turn::Abandoned || turn == Turn::Ended {
            *now = turn;
        }
        self.changed.notify_all();
    }

    /// Waits as long as it is the turn of the other.
    fn wait_while(&self, other: Turn) -> Turn {
        let now = self.changed.wait_while(self.turn(), |turn| *turn == other);
        *now.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits in a job until its next turn, because `path` hangs. An error if nobody waits for the job any more.
pub(super) fn wait(path: &Path) -> io::Result<()> {
    let gate = GATE.with(|gate| gate.borrow().clone());
    let Some(gate) = gate else { panic!("{} hangs, and a task waits for it", path.display()) };
    gate.give(Turn::Simulation);
    match gate.wait_while(Turn::Simulation) {
        Turn::Job => Ok(()),
        _ => Err(io::Error::other("the process is gone")),
    }
}

/// A job that may hang.
pub(super) struct HangingJob {
    gate: Arc<Gate>,
    thread: Option<JoinHandle<()>>,
}

impl HangingJob {
    /// A job that has not begun.
    pub(super) fn new(work: impl FnOnce() + Send + 'static) -> HangingJob {
        let gate = Arc::new(Gate { turn: Mutex::new(Turn::Simulation), changed: Condvar::new() });
        let own = gate.clone();
        let thread = std::thread::spawn(move || {
            own.wait_while(Turn::Simulation);
            GATE.with(|gate| gate.replace(Some(own.clone())));
            let _ = catch_unwind(AssertUnwindSafe(work));
            own.give(Turn::Ended);
        });
        HangingJob { gate, thread: Some(thread) }
    }

    /// Gives it its turn until it ends or hangs. Returns whether it has ended.
    pub(super) fn run(&self) -> bool {
        self.gate.give(Turn::Job);
        self.gate.wait_while(Turn::Job) == Turn::Ended
    }
}

impl Drop for HangingJob {
    fn drop(&mut self) {
        let is_over = *self.gate.turn() == Turn::Ended;
        if !is_over {
            self.gate.give(Turn::Abandoned);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
