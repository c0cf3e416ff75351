//! Look-ups of names, on threads of their own that all shards share.
//!
//! Guarantees: a name occupies one thread at most, however many tasks on however many shards ask for it: they share a look-up
//! and its result. A name that hangs therefore delays no other name, up to [`NAME_THREADS`] names that hang at the same time,
//! and never a job of a plugin or of the WAL. Names and their waiting tasks are bounded; what is beyond gets an error. A look-up
//! for which nothing waits any more when its turn comes is skipped.
//!
//! Does not limit how long a look-up takes, because the system's resolver cannot be cancelled: callers stop waiting. Keeps no
//! result for later.

use super::super::system::lock;
use super::{Answers, Threads};
use crate::limits::{NAME_ADDRESSES_MAX, NAME_THREADS, NAME_WAITERS_MAX, NAMES_MAX};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

/// The addresses of a name, with port 0; or the kind and the text of an error, which several callers get.
type Found = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

/// Asks the system. May block for as long as it wants.
pub(super) type Resolver = dyn Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// See the module.
pub(in super::super) struct Names {
    threads: Arc<Threads>,
    resolver: Box<Resolver>,
    asked: Mutex<HashMap<String, Vec<Waiter>>>,
}

/// Where a caller finds the result.
pub(super) type Slot = Arc<Mutex<Option<Found>>>;

/// A caller: the number of its ticket, and where its shard receives numbers.
pub(super) struct Waiter {
    pub(super) answers: Arc<Answers>,
    pub(super) number: u64,
    pub(super) slot: Slot,
}

impl Waiter {
    /// Whether the caller still waits: it holds its slot too.
    fn is_waiting(&self) -> bool {
        Arc::strong_count(&self.slot) > 1
    }

    fn tell(self, found: Found) {
        *lock(&self.slot) = Some(found);
        self.answers.push(self.number);
    }
}

impl Names {
    /// Starts the first thread. Names are looked up by the system.
    pub(in super::super) fn start() -> io::Result<Arc<Names>> {
        Names::with(|name| Ok((name, 0).to_socket_addrs()?.take(NAME_ADDRESSES_MAX).collect()))
    }

    pub(super) fn with(
        resolver: impl Fn(&str) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> io::Result<Arc<Names>> {
        // Jobs of this pool have no number: each passes its result to many.
        let threads = Threads::start("names".to_owned(), NAME_THREADS, NAMES_MAX, &Arc::default())?;
        Ok(Arc::new(Names { threads, resolver: Box::new(resolver), asked: Mutex::default() }))
    }

    /// Adds a caller to the look-up of this name, which is begun if there is none.
    pub(super) fn ask(self: &Arc<Self>, name: &str, waiter: Waiter) -> io::Result<()> {
        let mut asked = lock(&self.asked);
        if let Some(waiters) = asked.get_mut(name) {
            waiters.retain(Waiter::is_waiting);
            if waiters.len() >= NAME_WAITERS_MAX {
                return Err(io::Error::other(format!("{NAME_WAITERS_MAX} look-ups of the name `{name}` wait already")));
            }
            waiters.push(waiter);
            return Ok(());
        }
        let (names, own) = (self.clone(), name.to_owned());
        if self.threads.push((None, Box::new(move || names.answer(&own)))).is_err() {
            return Err(io::Error::other(format!("the look-ups of {NAMES_MAX} names wait already")));
        }
        asked.insert(name.to_owned(), vec![waiter]);
        Ok(())
    }

    /// Looks a name up and tells everyone who waits for it.
    fn answer(&self, name: &str) {
        {
            let mut asked = lock(&self.asked);
            if !asked.get(name).is_some_and(|waiters| waiters.iter().any(Waiter::is_waiting)) {
                asked.remove(name);
                return;
            }
        }
        let found = catch_unwind(AssertUnwindSafe(|| (self.resolver)(name)));
        let found = found.unwrap_or_else(|_| Err(io::Error::other("the look-up panicked")));
        let found = found.map_err(|error| (error.kind(), error.to_string()));
        let waiters = lock(&self.asked).remove(name).unwrap_or_default();
        waiters.into_iter().for_each(|waiter| waiter.tell(found.clone()));
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.threads.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn waiter() -> (Waiter, Slot) {
        let slot = Slot::default();
        (Waiter { answers: Arc::default(), number: 0, slot: slot.clone() }, slot)
    }

    /// Names that begin with `hang` hang until the sender is dropped. Every look-up is reported.
    fn names() -> (Arc<Names>, mpsc::Receiver<String>, mpsc::Sender<()>) {
        let (begun, begins) = mpsc::channel();
        let (end, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let names = Names::with(move |name| {
            begun.send(name.to_owned()).expect("the test looks");
            if name.starts_with("hang") {
                let _ = lock(&held).recv();
            }
            Ok(Vec::new())
        });
        (names.expect("a thread"), begins, end)
    }

    #[test]
    fn name_that_hangs_occupies_one_thread_and_delays_no_other() {
        let (names, begins, end) = names();
        let mut slots = Vec::new();
        for number in 0..NAME_THREADS - 1 {
            for _ in 0..100 {
                let (waiter, slot) = waiter();
                names.ask(&format!("hang{number}"), waiter).expect("there is room");
                slots.push(slot);
            }
            assert_eq!(begins.recv().expect("it begins"), format!("hang{number}"));
        }
        let (waiter, slot) = waiter();
        names.ask("quick", waiter).expect("there is room");
        assert_eq!(begins.recv().expect("it begins"), "quick");
        drop(end);
        // Everyone gets the result of the one look-up of the name.
        for slot in slots.into_iter().chain([slot]) {
            while lock(&slot).is_none() {
                std::thread::yield_now();
            }
        }
        assert!(begins.try_recv().is_err(), "a name was looked up twice");
    }

    #[test]
    fn callers_of_a_name_are_bounded_and_those_that_are_gone_make_room() {
        let (names, begins, end) = names();
        let slots: Vec<Slot> = (0..NAME_WAITERS_MAX)
            .map(|_| {
                let (waiter, slot) = waiter();
                names.ask("hang", waiter).expect("there is room");
                slot
            })
            .collect();
        begins.recv().expect("it begins");
        let error = names.ask("hang", waiter().0).expect_err("too many");
        assert!(error.to_string().contains("`hang` wait already"), "{error}");
        drop(slots);
        let (waiter, _slot) = waiter();
        names.ask("hang", waiter).expect("there is room again");
        assert_eq!(lock(&names.asked)["hang"].len(), 1);
        drop(end);
    }

    #[test]
    fn look_up_for_which_nobody_waits_any_more_is_skipped() {
        let (names, begins, end) = names();
        let mut held = Vec::new();
        for number in 0..NAME_THREADS {
            let (waiter, slot) = waiter();
            names.ask(&format!("hang{number}"), waiter).expect("there is room");
            begins.recv().expect("it begins");
            held.push(slot);
        }
        let (gone, _) = waiter();
        names.ask("gone", gone).expect("there is room in the queue");
        let (waiter, slot) = waiter();
        names.ask("wanted", waiter).expect("there is room in the queue");
        drop(end);
        assert_eq!(begins.recv().expect("it begins"), "wanted");
        drop((slot, held));
    }
}
