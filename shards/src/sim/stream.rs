//! Standard input of a simulated process: a pipe that a test writes.
//!
//! Guarantees: bytes arrive in order, in pieces whose sizes depend on the seed. A closed pipe ends after its last byte. Bytes
//! that a dead process had read are gone, as with a real pipe.

use super::prng::Prng;
use crate::env::Stream;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// Both ends of the pipe.
#[derive(Default)]
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    closed: bool,
    reader: Option<Waker>,
}

impl Pipe {
    pub(super) fn write(&mut self, bytes: &[u8]) {
        assert!(!self.closed, "the standard input was closed before");
        self.bytes.extend(bytes);
        self.wake();
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
        self.wake();
    }

    pub(super) fn forget_reader(&mut self) {
        self.reader = None;
    }

    fn wake(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }
}

/// The reading end.
pub struct SimStream {
    pipe: Rc<RefCell<Pipe>>,
    sizes: Prng,
}

impl SimStream {
    pub(super) fn new(pipe: Rc<RefCell<Pipe>>, sizes: Prng) -> SimStream {
        SimStream { pipe, sizes }
    }
}

impl Stream for SimStream {
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| {
            let mut pipe = self.pipe.borrow_mut();
            let available = pipe.bytes.len().min(buffer.len());
            if available == 0 && !pipe.closed && !buffer.is_empty() {
                pipe.reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            if available == 0 {
                return Poll::Ready(Ok(0));
            }
            // Half of the reads return everything available, the others a part.
            let length =
                if self.sizes.one_in(2) { available } else { self.sizes.between(1, available as u64) as usize };
            for (slot, byte) in buffer.iter_mut().zip(pipe.bytes.drain(..length)) {
                *slot = byte;
            }
            Poll::Ready(Ok(length))
        })
        .await
    }
}
