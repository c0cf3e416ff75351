//! A bounded queue with one producer and one consumer, which may run on different cores.
//!
//! Guarantees: first in, first out. `push` and `pop` take no lock, allocate nothing and never wait. An item is owned by exactly
//! one side or by the ring, and items left in it are dropped with the last side. Does not wake anything (a lane pairs it with
//! [`crate::signal::Signal`]s) and knows nothing about bytes or policies.
//!
//! Both sides keep a copy of the other's index and read the shared one only if the copy says full or empty. A busy ring
//! therefore costs each core one shared cache line per refill, not per item.

#![allow(
    unsafe_code,
    reason = "slots are written by one side and read by the other, which no safe type of std can express"
)]

use std::mem::MaybeUninit;

#[cfg(loom)]
use loom::{cell::UnsafeCell, sync::Arc, sync::atomic::AtomicUsize};
#[cfg(not(loom))]
use std::{sync::Arc, sync::atomic::AtomicUsize};

use std::sync::atomic::Ordering;

/// The interface of loom's cell on top of std's, so that the same code works with both.
#[cfg(not(loom))]
struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> UnsafeCell<T> {
    fn new(value: T) -> UnsafeCell<T> {
        UnsafeCell(std::cell::UnsafeCell::new(value))
    }
    fn with<R>(&self, read: impl FnOnce(*const T) -> R) -> R {
        read(self.0.get())
    }
    fn with_mut<R>(&self, write: impl FnOnce(*mut T) -> R) -> R {
        write(self.0.get())
    }
}

/// Keeps the two indices on separate cache lines (two lines each, because x86 fetches lines in pairs).
#[repr(align(128))]
struct Padded<T>(T);

struct Shared<T> {
    /// Number of items ever pushed. Written by the producer.
    head: Padded<AtomicUsize>,
    /// Number of items ever popped. Written by the consumer.
    tail: Padded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: the producer accesses a slot only while it is free, and the consumer only while it is filled. head and tail, stored
// with Release and loaded with Acquire, transfer it. So sharing requires only that items may move between threads.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: the ring owns its items, and they are `Send`.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    fn slot(&self, index: usize) -> &UnsafeCell<MaybeUninit<T>> {
        &self.slots[index & (self.slots.len() - 1)]
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let head = self.head.0.load(Ordering::Relaxed);
        let mut tail = self.tail.0.load(Ordering::Relaxed);
        while tail != head {
            self.slot(tail).with_mut(|slot| {
                // SAFETY: both sides are gone, and the slots between tail and head are filled: pushed and never popped.
                unsafe { (*slot).assume_init_drop() }
            });
            tail = tail.wrapping_add(1);
        }
    }
}

/// The side that pushes.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    /// The consumer's index as last seen.
    tail_seen: usize,
}

/// The side that pops.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// The producer's index as last seen.
    head_seen: usize,
}

/// A ring for `capacity` items.
///
/// # Panics
/// If `capacity` is not a power of two.
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    assert!(capacity.is_power_of_two(), "a ring of {capacity} slots: not a power of two");
    let slots = (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { head: Padded(AtomicUsize::new(0)), tail: Padded(AtomicUsize::new(0)), slots });
    (Producer { shared: shared.clone(), head: 0, tail_seen: 0 }, Consumer { shared, tail: 0, head_seen: 0 })
}

impl<T: Send> Producer<T> {
    /// Puts `item` into the ring, or returns it if the ring is full.
    pub fn push(&mut self, item: T) -> Result<(), T> {
        let capacity = self.shared.slots.len();
        if self.head.wrapping_sub(self.tail_seen) == capacity {
            self.tail_seen = self.shared.tail.0.load(Ordering::Acquire);
            if self.head.wrapping_sub(self.tail_seen) == capacity {
                return Err(item);
            }
        }
        self.shared.slot(self.head).with_mut(|slot| {
            // SAFETY: head - tail < capacity, so the consumer has left this slot (its Release store of tail was loaded with
            // Acquire), and only this producer writes slots: `&mut self`, and producers cannot be cloned.
            unsafe { (*slot).write(item) };
        });
        self.head = self.head.wrapping_add(1);
        self.shared.head.0.store(self.head, Ordering::Release);
        Ok(())
    }
}

impl<T: Send> Consumer<T> {
    /// Removes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let item = self.shared.slot(self.tail).with(|slot| {
            // SAFETY: tail < head, so the producer has filled this slot (its Release store of head was loaded with Acquire),
            // and only this consumer reads slots. Advancing tail below ensures that each item is read once.
            unsafe { (*slot).assume_init_read() }
        });
        self.tail = self.tail.wrapping_add(1);
        self.shared.tail.0.store(self.tail, Ordering::Release);
        Some(item)
    }

    /// Whether the ring is empty.
    pub fn is_empty(&mut self) -> bool {
        if self.tail == self.head_seen {
            self.head_seen = self.shared.head.0.load(Ordering::Acquire);
        }
        self.tail == self.head_seen
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn keeps_order_and_refuses_beyond_its_capacity() {
        let (mut producer, mut consumer) = ring(4);
        for round in 0..10 {
            for i in 0..4 {
                assert_eq!(producer.push(round * 4 + i), Ok(()));
            }
            assert_eq!(producer.push(99), Err(99));
            for i in 0..4 {
                assert_eq!(consumer.pop(), Some(round * 4 + i));
            }
            assert_eq!(consumer.pop(), None);
        }
    }

    #[test]
    fn items_left_behind_are_dropped_once() {
        let counted = Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..6 {
            assert!(producer.push(counted.clone()).is_ok());
        }
        drop(consumer.pop());
        assert_eq!(Arc::strong_count(&counted), 6);
        drop(producer);
        drop(consumer);
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn hands_over_between_threads() {
        let (mut producer, mut consumer) = ring::<Box<u64>>(8);
        const ITEMS: u64 = 100_000;
        let pushing = std::thread::spawn(move || {
            for i in 0..ITEMS {
                let mut item = Box::new(i);
                while let Err(back) = producer.push(item) {
                    item = back;
                    std::thread::yield_now();
                }
            }
        });
        for i in 0..ITEMS {
            loop {
                match consumer.pop() {
                    Some(item) => break assert_eq!(*item, i),
                    None => std::thread::yield_now(),
                }
            }
        }
        assert!(pushing.join().is_ok());
    }
}
