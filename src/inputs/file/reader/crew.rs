//! Several readers on a shard: one takes the files whose turn it is, and the others wait for calls that take long.
//!
//! Guarantees: a reader that waits long keeps its file and gets the answer whenever that comes, while another one takes the next files.
//! One reader at a time has an empty batch or waits for one, and it never waits for a call meanwhile. A new reader is only made when one
//! steps aside, so reading at full speed allocates nothing.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use tailwater_shards::batch::Batch;
use tailwater_shards::signal::Signal;

/// A reader at work.
pub(super) type Member<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// What the readers share.
#[derive(Default)]
pub(super) struct Crew {
    /// Whether one of them takes files.
    is_led: Cell<bool>,
    /// Whether one of them has the right to a batch, and who waits for it.
    has_batch: Cell<bool>,
    waits: Cell<Option<Waker>>,
    /// For reads that block.
    pub(super) buffer: RefCell<Vec<u8>>,
}

impl Crew {
    /// Runs readers until the last one ends. `next` makes one that takes files, unless `is_over`.
    pub(super) async fn work<'a>(&self, next: impl Fn() -> Member<'a>, is_over: impl Fn() -> bool) {
        let mut members: Vec<Member<'a>> = Vec::new();
        poll_fn(|context| {
            loop {
                if !is_over() && !self.is_led.replace(true) {
                    members.push(next());
                }
                members.retain_mut(|member| member.as_mut().poll(context).is_pending());
                if self.is_led.get() || is_over() {
                    return if members.is_empty() { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        })
        .await;
    }

    /// The one that takes files does so no more.
    pub(super) fn needs_another(&self) {
        self.is_led.set(false);
    }

    /// The right to one batch. All readers are polled by one task, so the last waker wakes whoever waits.
    pub(super) async fn turn(&self) -> Turn<'_> {
        poll_fn(|context| {
            if self.has_batch.replace(true) {
                self.waits.set(Some(context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(())
        })
        .await;
        Turn(self)
    }
}

/// See [`Crew::turn`].
pub(super) struct Turn<'a>(&'a Crew);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.has_batch.set(false);
        self.0.waits.take().into_iter().for_each(Waker::wake);
    }
}

/// A batch, and the right to it.
pub(super) struct Held<'a> {
    pub(super) batch: Box<Batch>,
    pub(super) turn: Turn<'a>,
}

impl Deref for Held<'_> {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        &self.batch
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Batch {
        &mut self.batch
    }
}

/// What a call answers that takes long.
pub(super) struct Replies<T>(Rc<(RefCell<VecDeque<T>>, Signal)>);

impl<T> Clone for Replies<T> {
    fn clone(&self) -> Replies<T> {
        Replies(self.0.clone())
    }
}

impl<T> Replies<T> {
    pub(super) fn new() -> Replies<T> {
        Replies(Rc::new((RefCell::default(), Signal::new())))
    }

    /// Passes a reply on. Returns it if nobody waits any more.
    pub(super) fn push(&self, reply: T) -> Option<T> {
        if Rc::strong_count(&self.0) == 1 {
            return Some(reply);
        }
        self.0.0.borrow_mut().push_back(reply);
        self.0.1.notify();
        None
    }

    /// The next one.
    pub(super) async fn next(&self) -> T {
        loop {
            if let Some(reply) = self.0.0.borrow_mut().pop_front() {
                return reply;
            }
            self.0.1.wait().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    #[test]
    fn another_reader_takes_over_from_one_that_steps_aside_and_all_end() {
        let (crew, made, late) = (Crew::default(), Cell::new(0), Signal::new());
        let next = || -> Member<'_> {
            made.set(made.get() + 1);
            let number = made.get();
            let (crew, made, late) = (&crew, &made, &late);
            Box::pin(async move {
                drop(crew.turn().await);
                if number < 3 {
                    crew.needs_another();
                    while made.get() < 3 {
                        yield_now().await;
                    }
                } else {
                    late.notify();
                }
            })
        };
        block_on(crew.work(next, || late.take() || made.get() == 3));
        assert_eq!(made.get(), 3);
    }

    #[test]
    fn one_reader_at_a_time_has_a_batch() {
        let crew = Crew::default();
        let most = Cell::new(0);
        let have = Cell::new(0);
        let one = || async {
            for _ in 0..10 {
                let turn = crew.turn().await;
                have.set(have.get() + 1);
                most.set(most.get().max(have.get()));
                yield_now().await;
                have.set(have.get() - 1);
                drop(turn);
                yield_now().await;
            }
        };
        block_on(futures_lite::future::zip(one(), one()));
        assert_eq!(most.get(), 1);
    }
}
