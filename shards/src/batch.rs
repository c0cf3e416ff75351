//! Batch: an owned chunk of raw bytes and the spans of the events in it.
//!
//! Guarantees: no allocation per event; at least [`CHUNK_PADDING_BYTES`] readable zero bytes behind the bytes in use, so that
//! kernels may load past the end; a batch owns all that it refers to, so it can cross to another core (invariant E5).
//!
//! Does not know formats: a span is bytes. Values parsed out of an event join the batch with the first parser.

use crate::env::Timestamp;
use crate::limits::{BATCH_EVENTS_MAX, CHUNK_PADDING_BYTES};
use std::ops::Range;
use std::sync::Arc;

/// Raw bytes with padding behind them.
pub struct Chunk {
    /// Capacity plus padding; bytes from `length` on are zero for at least the padding.
    buffer: Box<[u8]>,
    length: usize,
}

impl Chunk {
    /// An empty chunk for `capacity` bytes.
    pub fn new(capacity: usize) -> Chunk {
        Chunk { buffer: vec![0; capacity + CHUNK_PADDING_BYTES].into_boxed_slice(), length: 0 }
    }

    /// Bytes it can hold.
    pub fn capacity(&self) -> usize {
        self.buffer.len() - CHUNK_PADDING_BYTES
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The bytes in use and the padding behind them.
    pub fn padded(&self) -> &[u8] {
        &self.buffer[..self.length + CHUNK_PADDING_BYTES]
    }

    /// The part behind the bytes in use, to be read into; [`Chunk::set_length`] says how much of it counts.
    pub fn spare(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        &mut self.buffer[self.length..capacity]
    }

    /// Sets the bytes in use and zeroes the padding behind them.
    ///
    /// # Panics
    /// When `length` is beyond the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a chunk of {} bytes cannot hold {length}", self.capacity());
        self.length = length;
        self.buffer[length..length + CHUNK_PADDING_BYTES].fill(0);
    }
}

/// Where one event lies in its chunk: a line without its newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventSpan {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl EventSpan {
    /// The span as a range of the chunk's bytes.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// Bytes of the event.
    pub fn length(self) -> usize {
        (self.end - self.start) as usize
    }
}

/// Names one source for ever: a file's generation, a stream. Drawn at random when the source is first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SourceKey(pub u128);

/// What the engine and the processor know of a source. Immutable: a change (a rename, say) makes a new one under the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name for ever.
    pub key: SourceKey,
    /// The configured name of the input it belongs to.
    pub input: Arc<str>,
    /// How people name it: a file's path, the peer's address. Empty when there is nothing to say.
    pub name: Vec<u8>,
    /// What the input needs to find the source again after a restart; opaque to the engine, at most
    /// [`crate::limits::DESCRIPTOR_BYTES_MAX`] bytes.
    pub descriptor: Vec<u8>,
    /// Whether the source can be read again from a position. Positions of one that cannot are not kept.
    pub repeatable: bool,
}

/// A position in a source: all bytes of `from..to` are in this batch or were left out on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SourceRange {
    /// First byte covered.
    pub from: u64,
    /// One past the last byte covered.
    pub to: u64,
    /// What the input needs to recognise the bytes just before `to`; opaque to the engine.
    pub marker: u64,
}

/// Events of one source on their way to the log.
pub struct Batch {
    /// The raw bytes.
    pub chunk: Chunk,
    /// The events, in the order of the source.
    pub events: Vec<EventSpan>,
    /// Where they come from.
    pub source: Arc<Source>,
    /// Which bytes of the source they account for. The first byte of the chunk is the byte `chunk_offset` of the source.
    pub range: SourceRange,
    /// What of the source is durable by now, in whichever logs: recorded along with the range. Empty where the lane to one log
    /// takes all of the source, since that log knows.
    pub settled: SourceRange,
    /// Position in the source of the chunk's first byte.
    pub chunk_offset: u64,
    /// When the bytes were read.
    pub received: Timestamp,
    /// Set by the lane: position of this batch among all that went through it, from one.
    pub ticket: u64,
    /// The source is gone: nothing follows this range, and its position may become a tombstone.
    pub gone: bool,
    /// Events left out of this range by the lane's policy; they are counted where the range is recorded.
    pub dropped_events: u64,
}

impl Batch {
    /// An empty batch with room for `chunk_bytes`.
    pub fn new(chunk_bytes: usize, source: Arc<Source>) -> Batch {
        Batch {
            chunk: Chunk::new(chunk_bytes),
            events: Vec::with_capacity(chunk_bytes.div_ceil(64).min(BATCH_EVENTS_MAX)),
            source,
            range: SourceRange::default(),
            settled: SourceRange::default(),
            chunk_offset: 0,
            received: Timestamp::default(),
            ticket: 0,
            gone: false,
            dropped_events: 0,
        }
    }

    /// Makes a used batch empty again, for `source`.
    pub fn reset(&mut self, source: &Arc<Source>) {
        self.chunk.set_length(0);
        self.events.clear();
        if !Arc::ptr_eq(&self.source, source) {
            self.source = source.clone();
        }
        self.range = SourceRange::default();
        self.settled = SourceRange::default();
        self.chunk_offset = 0;
        self.ticket = 0;
        self.gone = false;
        self.dropped_events = 0;
    }

    /// The bytes of an event.
    pub fn event(&self, index: usize) -> &[u8] {
        &self.chunk.bytes()[self.events[index].range()]
    }

    /// Bytes that the batch counts for in a lane: what it holds, since a lane bounds memory.
    pub fn weight(&self) -> usize {
        self.chunk.bytes().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_zero_after_reuse() {
        let mut chunk = Chunk::new(128);
        chunk.spare().fill(b'x');
        chunk.set_length(128);
        assert_eq!(chunk.bytes(), [b'x'; 128]);
        assert_eq!(chunk.padded()[128..], [0; CHUNK_PADDING_BYTES]);
        chunk.set_length(3);
        assert_eq!(chunk.bytes(), b"xxx");
        assert_eq!(chunk.padded()[3..], [0; CHUNK_PADDING_BYTES]);
    }

    #[test]
    fn length_beyond_capacity_is_refused() {
        assert!(std::panic::catch_unwind(|| Chunk::new(8).set_length(9)).is_err());
    }

    #[test]
    fn batch_is_send() {
        fn send<T: Send>() {}
        send::<Batch>();
    }
}
