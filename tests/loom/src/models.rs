//! The models of ring and signal: wrap, full, empty, either side dropped first, and waking in both directions; and what the
//! models of the log share with them.

mod log;
mod recycling;

use crate::ring::{Consumer, Producer, ring};
use crate::signal::Signal;
use loom::future::block_on;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

/// The number of preemptions that a model explores by default. Two find every known bug of a queue with one producer and one
/// consumer; the third is for unknown ones.
pub const PREEMPTIONS: usize = 3;

fn model(run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(PREEMPTIONS));
    builder.max_branches = 10_000;
    builder.check(run);
}

/// Points where a model needs every order. Loom derives the orders from the last access to each word, and may miss that a
/// store comes before a load of another thread if its own thread has loaded in between. Both sides change this word at such a
/// point. It is relaxed, so it synchronises nothing.
#[derive(Clone)]
struct Turns(Arc<AtomicUsize>);

impl Turns {
    fn new() -> Turns {
        Turns(Arc::new(AtomicUsize::new(0)))
    }

    fn turn(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// An item whose memory loom tracks: a lost one is a leak, and one that is read twice is a race or a double free.
type Item = Box<Arc<usize>>;

fn item(number: usize) -> Item {
    Box::new(Arc::new(number))
}

fn push(producer: &mut Producer<Item>, number: usize) {
    let mut next = item(number);
    while let Err(back) = producer.push(next) {
        next = back;
        thread::yield_now();
    }
}

fn pop(consumer: &mut Consumer<Item>) -> usize {
    loop {
        match consumer.pop() {
            Some(item) => return **item,
            None => thread::yield_now(),
        }
    }
}

#[test]
fn order_holds_over_a_wrap() {
    for capacity in [1, 2] {
        model(move || {
            let (mut producer, mut consumer) = ring(capacity);
            let pushing = thread::spawn(move || (0..3).for_each(|number| push(&mut producer, number)));
            for number in 0..3 {
                assert_eq!(pop(&mut consumer), number);
            }
            assert!(consumer.pop().is_none());
            pushing.join().unwrap();
        });
    }
}

#[test]
fn full_ring_returns_the_item() {
    model(|| {
        let (mut producer, mut consumer) = ring(2);
        for number in 0..2 {
            assert!(producer.push(item(number)).is_ok());
        }
        let popping = thread::spawn(move || (pop(&mut consumer), consumer));
        // It is accepted once the other side has made space, not before, and never over an unread item.
        let early = producer.push(item(2));
        let (first, mut consumer) = popping.join().unwrap();
        assert_eq!(first, 0);
        if let Err(back) = early {
            assert_eq!(**back, 2);
            assert!(producer.push(back).is_ok());
        }
        assert!(producer.push(item(3)).is_err(), "it is full again");
        assert_eq!([pop(&mut consumer), pop(&mut consumer)], [1, 2]);
        assert!(consumer.is_empty());
    });
}

#[test]
fn empty_ring_gives_nothing_and_then_everything() {
    model(|| {
        let (mut producer, mut consumer) = ring(2);
        let pushing = thread::spawn(move || {
            assert!(producer.push(item(0)).is_ok());
            assert!(producer.push(item(1)).is_ok());
        });
        let seen = [consumer.pop(), consumer.pop()].map(|item| item.map(|item| **item));
        assert!(matches!(seen, [None, None] | [None, Some(0)] | [Some(0), None] | [Some(0), Some(1)]), "{seen:?}");
        let taken = seen.iter().flatten().count();
        pushing.join().unwrap();
        for number in taken..2 {
            assert!(!consumer.is_empty());
            assert_eq!(pop(&mut consumer), number);
        }
        assert!(consumer.is_empty());
    });
}

/// Counts how often it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn items_outlive_the_producer() {
    model(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let counter = dropped.clone();
        let pushing = thread::spawn(move || {
            assert!(producer.push(Counted(counter.clone())).is_ok());
            assert!(producer.push(Counted(counter)).is_ok());
        });
        let early = usize::from(consumer.pop().is_some());
        pushing.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), early, "what was not popped is still there");
        let late = usize::from(consumer.pop().is_some());
        drop(consumer);
        assert_eq!((late, dropped.load(Ordering::Relaxed)), (1, 2));
    });
}

#[test]
fn remaining_items_are_dropped_once_whichever_side_ends_first() {
    model(|| {
        let dropped = Arc::new(AtomicUsize::new(0));
        let (mut producer, mut consumer) = ring(2);
        let counter = dropped.clone();
        let pushing = thread::spawn(move || {
            let pushed = (0..3).filter(|_| producer.push(Counted(counter.clone())).is_ok()).count();
            assert!(pushed >= 2);
        });
        drop(consumer.pop());
        drop(consumer);
        pushing.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 3, "popped, left behind or given back");
    });
}

/// A minimal lane: items in one direction, space in the other, one signal each.
struct Pair {
    ready: Signal,
    room: Signal,
}

#[test]
fn no_wake_up_is_lost_in_either_direction() {
    model(|| {
        let pair = Arc::new(Pair { ready: Signal::new(), room: Signal::new() });
        let (mut producer, mut consumer) = ring(1);
        let theirs = pair.clone();
        let pushing = thread::spawn(move || {
            block_on(async move {
                for number in 0..2 {
                    let mut next = item(number);
                    while let Err(back) = producer.push(next) {
                        next = back;
                        theirs.room.wait().await;
                    }
                    theirs.ready.notify();
                }
            });
        });
        block_on(async {
            for number in 0..2 {
                let item = loop {
                    match consumer.pop() {
                        Some(item) => break item,
                        None => pair.ready.wait().await,
                    }
                };
                assert_eq!(**item, number);
                pair.room.notify();
            }
        });
        pushing.join().unwrap();
    });
}

#[test]
fn one_signal_serves_two_senders() {
    model(|| {
        let ready = Arc::new(Signal::new());
        let sending = || {
            let (mut producer, consumer) = ring(1);
            let ready = ready.clone();
            let sender = thread::spawn(move || {
                assert!(producer.push(item(7)).is_ok());
                ready.notify();
            });
            (sender, consumer)
        };
        let (first, second) = (sending(), sending());
        let mut lanes = [first.1, second.1];
        block_on(async {
            let mut taken = 0;
            while taken < 2 {
                taken += lanes.iter_mut().filter_map(Consumer::pop).count();
                if taken < 2 {
                    ready.wait().await;
                }
            }
        });
        first.0.join().unwrap();
        second.0.join().unwrap();
    });
}
