//! The world around the simulated process: programs that write logs, people who rotate them, and the source of standard input.
//!
//! Guarantees: tasks of the world are scheduled like all others, from the same seed, and continue when the process dies. Their
//! changes to the disk go through [`Outside`]. Sees nothing of the process except the disk and its outputs.

use super::core::Core;
use super::disk::Outside;
use super::prng::Prng;
use crate::env::{Monotonic, Timestamp};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub struct World {
    core: Rc<Core>,
}

impl World {
    pub(super) fn new(core: Rc<Core>) -> World {
        World { core }
    }

    /// Runs `future` until it ends, whatever happens to the process.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + 'static) {
        self.core.spawn(None, name, Box::pin(future));
    }

    /// Completes after `duration` of virtual time.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = ()> + 'static {
        self.core.sleep(duration)
    }

    /// The virtual time.
    pub fn now(&self) -> Monotonic {
        self.core.now()
    }

    /// The wall clock.
    pub fn wall(&self) -> Timestamp {
        self.core.disk.wall()
    }

    /// The disk as other programs see it.
    pub fn disk(&self) -> Outside {
        self.core.disk.outside()
    }

    /// A stream of random numbers from the seed, for one purpose.
    pub fn prng(&self, salt: &str) -> Prng {
        Prng::new(self.core.seed, salt)
    }

    /// Writes to the standard input of the process.
    pub fn stdin_write(&self, bytes: &[u8]) {
        self.core.pipe.borrow_mut().write(bytes);
    }

    /// Closes the writing end of the standard input.
    pub fn stdin_close(&self) {
        self.core.pipe.borrow_mut().close();
    }
}
