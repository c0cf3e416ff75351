//! A batch: an owned chunk of raw bytes and the spans of the events in it.
//!
//! Guarantees: no allocation per event. At least [`CHUNK_PADDING_BYTES`] readable zero bytes follow the bytes in use, so that
//! vector code may load past the end. A batch owns everything that it refers to, so it can cross to another core (invariant
//! E5).
//!
//! Does not know formats: a span is bytes. Parsed values are created later, by the parser.

use crate::env::Timestamp;
use crate::limits::{BATCH_EVENTS_MAX, CHUNK_PADDING_BYTES};
use std::ops::Range;
use std::sync::Arc;

/// Raw bytes, followed by padding.
pub struct Chunk {
    /// Capacity plus padding. From `length` on, at least the padding is zero.
    buffer: Box<[u8]>,
    length: usize,
}

impl Chunk {
    /// An empty chunk with a capacity of `capacity` bytes.
    pub fn new(capacity: usize) -> Chunk {
        Chunk { buffer: vec![0; capacity + CHUNK_PADDING_BYTES].into_boxed_slice(), length: 0 }
    }

    /// Its capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.buffer.len() - CHUNK_PADDING_BYTES
    }

    /// The bytes in use.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.length]
    }

    /// The bytes in use and the padding after them.
    pub fn padded(&self) -> &[u8] {
        &self.buffer[..self.length + CHUNK_PADDING_BYTES]
    }

    /// The space after the bytes in use, as a buffer for a read. [`Chunk::set_length`] sets how much of it is in use.
    pub fn spare(&mut self) -> &mut [u8] {
        let capacity = self.capacity();
        &mut self.buffer[self.length..capacity]
    }

    /// Sets the number of bytes in use and zeroes the padding after them.
    ///
    /// # Panics
    /// If `length` exceeds the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a chunk of {} bytes cannot hold {length}", self.capacity());
        self.length = length;
        self.buffer[length..length + CHUNK_PADDING_BYTES].fill(0);
    }
}

/// The range of one event in its chunk: a line without its newline.
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

/// Identifies one source permanently: a file's generation, a stream. A random number, drawn when the source is first seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SourceKey(pub u128);

/// What the engine and the processor know about a source. Immutable: a change (for example a rename) creates a new value with
/// the same key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its permanent identity.
    pub key: SourceKey,
    /// The configured name of the input it belongs to.
    pub input: Arc<str>,
    /// The name for people: a file's path, the peer's address. Empty if there is none.
    pub name: Vec<u8>,
    /// What the input needs to find the source again after a restart. Opaque to the engine, at most
    /// [`crate::limits::DESCRIPTOR_BYTES_MAX`] bytes.
    pub descriptor: Vec<u8>,
    /// Whether the source can be read again from a position. If it cannot, its positions are not kept.
    pub repeatable: bool,
}

/// A range of a source: all bytes of `from..to` are in this batch or were deliberately omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct SourceRange {
    /// First byte covered.
    pub from: u64,
    /// One past the last byte covered.
    pub to: u64,
    /// What the input needs to recognize the bytes just before `to`. Opaque to the engine.
    pub marker: u64,
}

/// Events of one source on their way to the write-ahead log.
pub struct Batch {
    /// The raw bytes.
    pub chunk: Chunk,
    /// The events, in the order of the source.
    pub events: Vec<EventSpan>,
    /// Where they come from.
    pub source: Arc<Source>,
    /// Which bytes of the source the events cover. The first byte of the chunk is byte `chunk_offset` of the source.
    pub range: SourceRange,
    /// What is already durable of the source, in all WALs together. Recorded together with the range. Empty if one lane carries
    /// the whole source, because that WAL knows it.
    pub settled: SourceRange,
    /// Position in the source of the chunk's first byte.
    pub chunk_offset: u64,
    /// Position in the source of each event, where the chunk does not hold the source's own bytes; else empty.
    pub offsets: Vec<u64>,
    /// The events that are only the beginning of their lines, by index.
    pub truncated: Vec<u32>,
    /// When the bytes were read.
    pub received: Timestamp,
    /// Set by the lane: the number of this batch among all batches that went through the lane, starting at one.
    pub ticket: u64,
    /// The source is gone: nothing follows this range, and its position may become a tombstone.
    pub gone: bool,
    /// Events of this range that the lane's policy dropped. They are counted when the range is recorded.
    pub dropped_events: u64,
}

impl Batch {
    /// An empty batch with space for `chunk_bytes`.
    pub fn new(chunk_bytes: usize, source: Arc<Source>) -> Batch {
        Batch {
            chunk: Chunk::new(chunk_bytes),
            events: Vec::with_capacity(chunk_bytes.div_ceil(64).min(BATCH_EVENTS_MAX)),
            source,
            range: SourceRange::default(),
            settled: SourceRange::default(),
            chunk_offset: 0,
            offsets: Vec::new(),
            truncated: Vec::new(),
            received: Timestamp::default(),
            ticket: 0,
            gone: false,
            dropped_events: 0,
        }
    }

    /// Resets a used batch for reuse with `source`.
    pub fn reset(&mut self, source: &Arc<Source>) {
        self.chunk.set_length(0);
        self.events.clear();
        if !Arc::ptr_eq(&self.source, source) {
            self.source = source.clone();
        }
        self.range = SourceRange::default();
        self.settled = SourceRange::default();
        self.chunk_offset = 0;
        self.offsets.clear();
        self.truncated.clear();
        self.ticket = 0;
        self.gone = false;
        self.dropped_events = 0;
    }

    /// The bytes of an event.
    pub fn event(&self, index: usize) -> &[u8] {
        &self.chunk.bytes()[self.events[index].range()]
    }

    /// The position of an event in the source.
    #[inline]
    pub fn offset_of(&self, index: usize) -> u64 {
        match self.offsets.get(index) {
            Some(offset) => *offset,
            None => self.chunk_offset + u64::from(self.events[index].start),
        }
    }

    /// Keeps the events for which `keep` says so, which is asked for each in its order.
    pub fn retain_events(&mut self, mut keep: impl FnMut() -> bool) {
        if self.offsets.is_empty() && self.truncated.is_empty() {
            return self.events.retain(|_| keep());
        }
        let kept: Vec<bool> = self.events.iter().map(|_| keep()).collect();
        let is_kept = |index: u32| kept[index as usize];
        let mut truncated = std::mem::take(&mut self.truncated);
        truncated.retain(|index| is_kept(*index));
        for index in &mut truncated {
            *index = kept[..*index as usize].iter().filter(|kept| **kept).count() as u32;
        }
        self.truncated = truncated;
        let (mut of_events, mut of_offsets) = (kept.iter(), kept.iter());
        self.events.retain(|_| of_events.next().copied().unwrap_or(true));
        self.offsets.retain(|_| of_offsets.next().copied().unwrap_or(true));
    }

    /// Whether an event is only the beginning of its line.
    #[inline]
    pub fn is_truncated(&self, index: usize) -> bool {
        !self.truncated.is_empty() && self.truncated.binary_search(&(index as u32)).is_ok()
    }

    /// The number of bytes that the batch counts for in a lane: its capacity, because a lane limits memory.
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
    fn what_is_known_of_events_stays_with_those_that_are_kept() {
        let source = Source {
            key: SourceKey(1),
            input: "in".into(),
            name: Vec::new(),
            descriptor: Vec::new(),
            repeatable: true,
        };
        for encoded in [false, true] {
            let mut batch = Batch::new(64, Arc::new(source.clone()));
            batch.chunk_offset = 100;
            batch.events = (0..6).map(|start| EventSpan { start, end: start + 1 }).collect();
            batch.offsets = if encoded { (0..6).map(|event| 100 + event * 2).collect() } else { Vec::new() };
            batch.truncated = vec![1, 2, 5];
            let mut number = 0;
            batch.retain_events(|| {
                number += 1;
                number % 2 == 0
            });
            let unit = if encoded { 2 } else { 1 };
            let offsets: Vec<u64> = (0..3).map(|index| batch.offset_of(index)).collect();
            assert_eq!(offsets, [100 + unit, 100 + 3 * unit, 100 + 5 * unit]);
            assert_eq!([0, 1, 2].map(|index| batch.is_truncated(index)), [true, false, true]);
        }
    }

    #[test]
    fn batch_is_send() {
        fn send<T: Send>() {}
        send::<Batch>();
    }
}
