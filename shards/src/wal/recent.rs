//! The frames that were appended last, kept as they were built, for readers on the shard that wrote them.
//!
//! Guarantees: a frame found here is byte for byte what was written at that place. At most [`RECENT_FRAMES_MAX`] frames are
//! kept, in buffers of at most [`RECENT_FRAME_BYTES_MAX`] bytes. A reader that keeps up with the writer therefore touches no
//! page of the mapping, which would have to be mapped and released again. Does not cross shards and does not outlive the log's
//! writer: all other readers, and readers that lag behind, read the mapping.

use super::log::Place;
use crate::counters::ShardCounters;
use crate::limits::{RECENT_FRAME_BYTES_MAX, RECENT_FRAMES_MAX};
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

/// See the module.
#[derive(Default)]
pub struct Recent {
    inner: RefCell<Inner>,
    counters: OnceCell<Arc<ShardCounters>>,
}

#[derive(Default)]
struct Inner {
    frames: VecDeque<(Place, Rc<Vec<u8>>)>,
    /// Buffers of frames that no reader uses any more, for reuse as a whole: nothing is allocated per frame.
    free: Vec<Rc<Vec<u8>>>,
}

impl Recent {
    /// From now on, publishes in `counters` what is kept.
    pub(crate) fn show_in(&self, counters: Arc<ShardCounters>) {
        // The first caller is the shard that writes the log.
        let _ = self.counters.set(counters);
    }

    /// The whole frame at `place`.
    pub fn find(&self, place: Place) -> Option<Rc<Vec<u8>>> {
        let inner = self.inner.borrow();
        let found = inner.frames.iter().find(|(at, _)| *at == place);
        found.map(|(_, bytes)| bytes.clone())
    }

    /// Keeps the frame in `buffer`, which will be at `place`, and leaves another buffer with meaningless content. The frame has
    /// at most [`RECENT_FRAME_BYTES_MAX`] bytes.
    pub(crate) fn keep(&self, place: Place, buffer: &mut Vec<u8>) -> Rc<Vec<u8>> {
        let mut frame = self.buffer();
        if let Some(bytes) = Rc::get_mut(&mut frame) {
            std::mem::swap(bytes, buffer);
            if bytes.capacity() > RECENT_FRAME_BYTES_MAX {
                // The buffer has contained a frame that was too large to be kept.
                bytes.shrink_to(RECENT_FRAME_BYTES_MAX);
            }
        }
        let inner = &mut *self.inner.borrow_mut();
        if inner.frames.len() >= RECENT_FRAMES_MAX {
            let oldest = inner.frames.pop_front().map(|(_, bytes)| bytes);
            inner.take_back(oldest);
        }
        inner.frames.push_back((place, frame.clone()));
        if let Some(counters) = self.counters.get() {
            let buffers = inner.frames.iter().map(|(_, bytes)| bytes).chain(&inner.free);
            counters.kept_frames.set(inner.frames.len() as u64);
            counters.kept_bytes.set(buffers.map(|bytes| bytes.capacity() as u64).sum());
        }
        frame
    }

    /// A buffer with no other owner. Its content is meaningless.
    pub(crate) fn buffer(&self) -> Rc<Vec<u8>> {
        self.inner.borrow_mut().free.pop().unwrap_or_default()
    }

    /// Takes back a buffer that is no longer needed, for reuse if it has no other owner.
    pub(crate) fn take_back(&self, buffer: Option<Rc<Vec<u8>>>) {
        self.inner.borrow_mut().take_back(buffer);
    }
}

impl Inner {
    fn take_back(&mut self, buffer: Option<Rc<Vec<u8>>>) {
        if let Some(mut buffer) = buffer
            && self.free.len() < RECENT_FRAMES_MAX
            && Rc::get_mut(&mut buffer).is_some_and(|bytes| bytes.capacity() <= RECENT_FRAME_BYTES_MAX)
        {
            self.free.push(buffer);
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
        for offset in 0..20 {
            buffer.clear();
            buffer.push(offset as u8);
            recent.keep(place(offset), &mut buffer);
        }
        let found = |offset| recent.find(place(offset)).map(|bytes| bytes[0]);
        assert_eq!([found(11), found(12), found(18), found(19)], [None, Some(12), Some(18), Some(19)]);
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
    fn only_buffers_that_nobody_has_and_that_are_not_large_go_round() {
        let recent = Recent::default();
        let held = Rc::new(vec![7]);
        recent.take_back(Some(held.clone()));
        recent.take_back(Some(Rc::new(Vec::with_capacity(RECENT_FRAME_BYTES_MAX + 1))));
        assert_eq!(recent.buffer().capacity(), 0);
        recent.take_back(Some(held));
        assert_eq!(recent.buffer().capacity(), 1);
    }

    #[test]
    fn buffers_that_have_held_a_large_frame_are_kept_within_the_bound() {
        let recent = Recent::default();
        let counters = Arc::new(ShardCounters::default());
        recent.show_in(counters.clone());
        let mut buffer = Vec::new();
        for offset in 0..20 {
            buffer.clear();
            buffer.reserve(4 * RECENT_FRAME_BYTES_MAX);
            buffer.push(0);
            recent.keep(place(offset), &mut buffer);
            assert!(counters.kept_frames.get() <= RECENT_FRAMES_MAX as u64);
            assert!(
                counters.kept_bytes.get() <= ((RECENT_FRAMES_MAX + RECENT_FRAMES_MAX) * RECENT_FRAME_BYTES_MAX) as u64,
                "{}",
                counters.kept_bytes.get()
            );
        }
    }
}
