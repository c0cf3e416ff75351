//! The frames that were appended last, kept as they were built, for readers on the shard that wrote them.
//!
//! Guarantees: what is found here is byte for byte what was written at that place; at most [`FRAMES_MAX`] frames in buffers of at
//! most [`FRAME_BYTES_KEPT`] bytes are kept. A reader that keeps up with the writer then touches no page of the mapping, which would
//! have to be mapped and given back again. Does not cross shards and does not outlive the log's writer: everybody else, and a
//! reader that lags behind, reads the mapping.

use super::log::Place;
use crate::counters::ShardCounters;
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// Frames kept: those that a delivery takes together and one more. Few, because their buffers go round, and more of them would
/// push each other out of the core's cache.
const FRAMES_MAX: usize = 5;

/// Larger frames are not kept: they are rare, and their buffers are better given back.
const FRAME_BYTES_KEPT: usize = 512 * 1024;

/// See the module.
#[derive(Default)]
pub struct Recent {
    inner: RefCell<Inner>,
    counters: OnceCell<Arc<ShardCounters>>,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<(Place, Rc<Vec<u8>>)>,
    /// Of frames that nobody reads any more, to be used again whole: nothing is allocated per frame.
    free: Vec<Rc<Vec<u8>>>,
}

impl Recent {
    /// Shows in `counters` what is kept from now on.
    pub(crate) fn show_in(&self, counters: Arc<ShardCounters>) {
        // Whoever asked first is the shard that writes the log.
        let _ = self.counters.set(counters);
    }

    /// The whole frame that lies at `place`.
    pub fn find(&self, place: Place) -> Option<Rc<Vec<u8>>> {
        let inner = self.inner.borrow();
        let found = inner.frames.iter().find(|(at, _)| *at == place);
        found.map(|(_, bytes)| bytes.clone())
    }

    /// Keeps the frame in `buffer`, which was written to `place`, and leaves another buffer, whose content means nothing.
    pub(crate) fn keep(&self, place: Place, buffer: &mut Vec<u8>) {
        if buffer.len() > FRAME_BYTES_KEPT {
            return;
        }
        let inner = &mut *self.inner.borrow_mut();
        if inner.frames.len() >= FRAMES_MAX
            && let Some((_, mut oldest)) = inner.frames.pop_front()
            && Rc::get_mut(&mut oldest).is_some()
        {
            inner.free.push(oldest);
        }
        let mut frame = inner.free.pop().unwrap_or_default();
        if let Some(bytes) = Rc::get_mut(&mut frame) {
            std::mem::swap(bytes, buffer);
            if bytes.capacity() > FRAME_BYTES_KEPT {
                // It has held a frame that was too large to be kept.
                bytes.shrink_to(FRAME_BYTES_KEPT);
            }
        }
        inner.frames.push_back((place, frame));
        if let Some(counters) = self.counters.get() {
            let buffers = inner.frames.iter().map(|(_, bytes)| bytes).chain(&inner.free);
            counters.kept_frames.set(inner.frames.len() as u64);
            counters.kept_bytes.set(buffers.map(|bytes| bytes.capacity() as u64).sum());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: u64) -> Place {
        Place { segment: 1, offset }
    }

    #[test]
    fn the_latest_frames_are_found_and_buffers_go_round() {
        let recent = Recent::default();
        let mut buffer = Vec::new();
        for offset in 0..10 {
            buffer.clear();
            buffer.push(offset as u8);
            recent.keep(place(offset), &mut buffer);
        }
        let found = |offset| recent.find(place(offset)).map(|bytes| bytes[0]);
        assert_eq!([found(4), found(5), found(8), found(9)], [None, Some(5), Some(8), Some(9)]);
        assert!(buffer.capacity() > 0, "the buffer of an earlier frame came back");
    }

    #[test]
    fn a_frame_that_is_read_stays_whole() {
        let recent = Recent::default();
        let mut buffer = vec![7];
        recent.keep(place(0), &mut buffer);
        let held = recent.find(place(0)).expect("kept");
        for offset in 1..10 {
            buffer.clear();
            buffer.push(0);
            recent.keep(place(offset), &mut buffer);
        }
        assert_eq!(*held, [7]);
    }

    #[test]
    fn large_frames_are_not_kept() {
        let recent = Recent::default();
        let mut buffer = vec![1; FRAME_BYTES_KEPT + 1];
        recent.keep(place(0), &mut buffer);
        assert!(recent.find(place(0)).is_none() && !buffer.is_empty());
    }

    #[test]
    fn buffers_that_have_held_a_large_frame_are_kept_within_the_bound() {
        let recent = Recent::default();
        let counters = Arc::new(ShardCounters::default());
        recent.show_in(counters.clone());
        let mut buffer = Vec::new();
        for offset in 0..20 {
            buffer.clear();
            buffer.reserve(4 * FRAME_BYTES_KEPT);
            buffer.push(0);
            recent.keep(place(offset), &mut buffer);
            assert!(counters.kept_frames.get() <= FRAMES_MAX as u64);
            assert!(
                counters.kept_bytes.get() <= (FRAMES_MAX * FRAME_BYTES_KEPT) as u64,
                "{}",
                counters.kept_bytes.get()
            );
        }
    }
}
