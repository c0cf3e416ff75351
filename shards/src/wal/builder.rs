//! Building frames: a processor appends lines, and the writer completes and writes the result with one call.
//!
//! Guarantees: header and payload are in one buffer, so that a frame is one write. Buffers are reused, so that nothing is
//! allocated per event after they have grown. An event costs 4 bytes of index while all timestamps and masks are equal. Does
//! not know logs or segments: the writer fills in what only it knows.

use super::bytes::{pad, padded, u32_length};
use super::frame::{
    FLAG_EPOCH, FLAG_MASKS, FLAG_MORE, FLAG_TIMESTAMPS, FRAME_HEADER_BYTES, FrameHeader, FrameKind, checksum,
    frame_bytes,
};
use super::record::encode_position;
use super::{LogId, Sequence};
use crate::batch::{Source, SourceRange};
use crate::env::Timestamp;
use crate::limits::{FRAME_PAYLOAD_TARGET_BYTES, frame_payload_target_bytes};
use std::sync::Arc;

/// A position recorded by a frame, kept for the writer's own table.
pub(crate) struct RecordedRange {
    pub(crate) source: Arc<Source>,
    pub(crate) range: SourceRange,
    pub(crate) gone: bool,
}

/// What only the writer knows about a frame.
pub(crate) struct Stamp {
    pub(crate) log: LogId,
    pub(crate) epoch: u32,
    pub(crate) shard: u32,
    pub(crate) sequence: Sequence,
    pub(crate) synced: Sequence,
    pub(crate) more: bool,
    pub(crate) starts_epoch: bool,
}

/// One frame under construction.
pub struct FrameBuilder {
    kind: FrameKind,
    pipeline: u32,
    /// Header, payload, then what [`FrameBuilder::finish`] appends.
    buffer: Vec<u8>,
    /// Where the current event began.
    event_start: usize,
    lengths: Vec<u32>,
    /// The outputs of the pipeline: the mask of an event that specifies none.
    outputs: u64,
    /// Mask of every event so far, while `masks` is empty.
    mask: u64,
    masks: Vec<u64>,
    /// Timestamp of every event so far, while `timestamps` is empty.
    timestamp: Timestamp,
    timestamps: Vec<i64>,
    positions: Vec<u8>,
    recorded: Vec<RecordedRange>,
    discarded: u64,
    finished: bool,
}

impl Default for FrameBuilder {
    fn default() -> FrameBuilder {
        FrameBuilder::new()
    }
}

impl FrameBuilder {
    /// An empty events frame.
    pub fn new() -> FrameBuilder {
        FrameBuilder {
            kind: FrameKind::Events,
            pipeline: 0,
            buffer: vec![0; FRAME_HEADER_BYTES],
            event_start: FRAME_HEADER_BYTES,
            lengths: Vec::new(),
            outputs: 0,
            mask: 0,
            masks: Vec::new(),
            timestamp: Timestamp(0),
            timestamps: Vec::new(),
            positions: Vec::new(),
            recorded: Vec::new(),
            discarded: 0,
            finished: false,
        }
    }

    /// Starts over and keeps the buffers.
    pub fn begin(&mut self, kind: FrameKind, pipeline: u32, outputs: u64) {
        self.kind = kind;
        self.pipeline = pipeline;
        self.buffer.clear();
        self.buffer.resize(FRAME_HEADER_BYTES, 0);
        self.event_start = FRAME_HEADER_BYTES;
        self.lengths.clear();
        self.outputs = outputs;
        self.mask = outputs;
        self.masks.clear();
        self.timestamp = Timestamp(0);
        self.timestamps.clear();
        self.positions.clear();
        self.recorded.clear();
        self.discarded = 0;
        self.finished = false;
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> FrameKind {
        self.kind
    }

    /// The buffer to which an event's line (or a record) may be appended. Nothing else may be done with it.
    #[inline]
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// The lines so far, including one that was begun but not ended.
    pub fn lines(&self) -> &[u8] {
        match self.finished {
            false => &self.buffer[FRAME_HEADER_BYTES..],
            true => &self.buffer[FRAME_HEADER_BYTES..self.event_start],
        }
    }

    /// Ends the line appended since the last call. It must end with a newline. Without a mask, the frame's outputs apply.
    #[inline]
    pub fn end_event(&mut self, timestamp: Timestamp, mask: Option<u64>) {
        let end = self.buffer.len();
        debug_assert!(self.buffer[self.event_start..].ends_with(b"\n"), "a line in the log ends with its newline");
        let mask = mask.unwrap_or(self.outputs);
        if self.lengths.is_empty() {
            self.timestamp = timestamp;
            self.mask = mask;
        }
        if timestamp != self.timestamp || !self.timestamps.is_empty() {
            // The first event that differs writes the column of those before it.
            self.timestamps.resize(self.lengths.len(), self.timestamp.0);
            self.timestamps.push(timestamp.0);
        }
        if mask != self.mask || !self.masks.is_empty() {
            self.masks.resize(self.lengths.len(), self.mask);
            self.masks.push(mask);
        }
        // The buffer stays far below 4 GiB; `finish` asserts it for the whole frame.
        self.lengths.push((end - self.event_start) as u32);
        self.event_start = end;
    }

    /// Removes what was appended since the last [`FrameBuilder::end_event`]: the event is not kept.
    pub fn abandon_event(&mut self) {
        self.buffer.truncate(self.event_start);
    }

    /// Bytes of the payload so far.
    #[inline]
    pub fn payload_bytes(&self) -> usize {
        self.buffer.len() - FRAME_HEADER_BYTES
    }

    /// Events so far.
    #[inline]
    pub fn event_count(&self) -> usize {
        self.lengths.len()
    }

    /// Records that `range` of `source` is in this frame's group or was deliberately omitted. Nothing is recorded for a source
    /// that cannot be read again. `with_record` also writes the source's record: see [`super::writer::Writer::knows`].
    pub fn position(&mut self, range: &SourceRange, source: &Arc<Source>, with_record: bool, gone: bool) {
        if !source.repeatable {
            return;
        }
        encode_position(&mut self.positions, range, source, with_record, gone);
        self.recorded.push(RecordedRange { source: source.clone(), range: *range, gone });
    }

    /// Counts events that were discarded before the log for the ranges recorded here.
    pub fn discard(&mut self, events: u64) {
        self.discarded += events;
    }

    /// Whether it has neither events nor positions.
    pub fn is_empty(&self) -> bool {
        self.payload_bytes() == 0 && self.positions.is_empty()
    }

    /// Appends index and positions after the payload and fills in the header, except for what the writer fills in. Call only
    /// once.
    pub fn finish(&mut self) {
        assert!(!self.finished, "a frame is finished once");
        let payload = self.payload_bytes();
        pad(&mut self.buffer, 0);
        for length in &self.lengths {
            self.buffer.extend_from_slice(&length.to_le_bytes());
        }
        pad(&mut self.buffer, 0);
        for timestamp in &self.timestamps {
            self.buffer.extend_from_slice(&timestamp.to_le_bytes());
        }
        for mask in &self.masks {
            self.buffer.extend_from_slice(&mask.to_le_bytes());
        }
        self.buffer.extend_from_slice(&self.positions);
        pad(&mut self.buffer, 0);
        let index = padded(self.lengths.len() * 4) + (self.timestamps.len() + self.masks.len()) * 8;
        debug_assert_eq!(self.buffer.len(), frame_bytes(payload, index, self.positions.len()));
        let flags = if self.timestamps.is_empty() { 0 } else { FLAG_TIMESTAMPS }
            | if self.masks.is_empty() { 0 } else { FLAG_MASKS };
        let header = FrameHeader {
            length: u32_length(self.buffer.len()),
            flags,
            pipeline: self.pipeline,
            events: u32_length(self.lengths.len()),
            outputs: self.masks.iter().fold(self.mask, |union, mask| union | mask),
            timestamp: self.timestamp,
            payload_bytes: u32_length(payload),
            position_bytes: u32_length(self.positions.len()),
            discarded: self.discarded,
            ..FrameHeader::empty(self.kind)
        };
        let head = self.buffer.first_chunk_mut::<FRAME_HEADER_BYTES>().expect("the buffer begins with the header");
        header.encode(head);
        self.finished = true;
    }

    /// Sets the timestamp of a frame without events. The timestamp of a frame with events is that of its first event.
    pub(crate) fn set_timestamp(&mut self, timestamp: Timestamp) {
        if self.lengths.is_empty() {
            self.timestamp = timestamp;
        }
    }

    #[cfg(test)]
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// Bytes of the finished frame.
    pub fn length(&self) -> usize {
        assert!(self.finished, "the length is known once the frame is finished");
        self.buffer.len()
    }

    /// The frame's bytes, after they were written. Its events and positions can still be queried.
    pub(crate) fn written(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Removes the events with lines longer than `bytes` from the finished frame. `each` receives their lines and timestamps.
    pub(crate) fn shed(&mut self, bytes: usize, mut each: impl FnMut(&[u8], Timestamp)) {
        assert!(self.finished, "a frame that is not finished may still grow");
        let mut rest = FrameBuilder::new();
        rest.begin(self.kind, self.pipeline, self.outputs);
        let mut from = FRAME_HEADER_BYTES;
        for (index, &length) in self.lengths.iter().enumerate() {
            let line = &self.buffer[from..from + length as usize];
            from += length as usize;
            let timestamp = self.timestamps.get(index).map_or(self.timestamp, |timestamp| Timestamp(*timestamp));
            if line.len() > bytes {
                each(line, timestamp);
                continue;
            }
            rest.payload().extend_from_slice(line);
            rest.end_event(timestamp, Some(self.masks.get(index).copied().unwrap_or(self.mask)));
        }
        rest.set_timestamp(self.timestamp);
        (rest.positions, rest.recorded) = (std::mem::take(&mut self.positions), std::mem::take(&mut self.recorded));
        rest.discarded = self.discarded;
        rest.finish();
        *self = rest;
    }

    /// The pipeline that its events came through.
    pub(crate) fn pipeline(&self) -> u32 {
        self.pipeline
    }

    /// Fills in what only the writer knows, and the checksum. The returned bytes are ready to be written. May be repeated.
    pub(crate) fn stamp(&mut self, stamp: &Stamp) -> &[u8] {
        assert!(self.finished, "only a finished frame can be stamped");
        let buffer = &mut self.buffer;
        let mut flags = u16::from_le_bytes([buffer[14], buffer[15]]) & !(FLAG_MORE | FLAG_EPOCH);
        flags |= if stamp.more { FLAG_MORE } else { 0 } | if stamp.starts_epoch { FLAG_EPOCH } else { 0 };
        buffer[14..16].copy_from_slice(&flags.to_le_bytes());
        buffer[16..24].copy_from_slice(&stamp.log.0.to_le_bytes());
        buffer[24..28].copy_from_slice(&stamp.epoch.to_le_bytes());
        buffer[28..32].copy_from_slice(&stamp.shard.to_le_bytes());
        buffer[32..40].copy_from_slice(&stamp.sequence.0.to_le_bytes());
        buffer[40..48].copy_from_slice(&stamp.synced.0.to_le_bytes());
        let checksum = checksum(buffer);
        buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
        buffer
    }

    pub(crate) fn discarded(&self) -> u64 {
        self.discarded
    }

    pub(crate) fn recorded(&self) -> &[RecordedRange] {
        &self.recorded
    }

    /// Calls `add` with each output and the number of events that it gets.
    pub(crate) fn count_outputs(&self, mut add: impl FnMut(u8, u64)) {
        let mut each = |mask: u64, events: u64| {
            let mut rest = mask;
            while rest != 0 {
                add(rest.trailing_zeros() as u8, events);
                rest &= rest - 1;
            }
        };
        if self.masks.is_empty() {
            each(self.mask, self.lengths.len() as u64);
        } else {
            self.masks.iter().for_each(|mask| each(*mask, 1));
        }
    }
}

/// Frames that are appended together or not at all. The last one contains the positions.
pub struct Group {
    frames: Vec<FrameBuilder>,
    used: usize,
    /// How many of them are in the log.
    appended: usize,
    payload_target_bytes: usize,
}

impl Default for Group {
    fn default() -> Group {
        Group { frames: Vec::new(), used: 0, appended: 0, payload_target_bytes: FRAME_PAYLOAD_TARGET_BYTES }
    }
}

impl Group {
    /// An empty group.
    pub fn new() -> Group {
        Group::default()
    }

    /// An empty group for a log with segments of this size.
    pub fn for_segments(segment_bytes: u64) -> Group {
        Group { payload_target_bytes: frame_payload_target_bytes(segment_bytes), ..Group::default() }
    }

    /// Payload bytes after which a frame is closed.
    #[inline]
    pub fn payload_target_bytes(&self) -> usize {
        self.payload_target_bytes
    }

    /// Empties the group and keeps its buffers.
    pub fn clear(&mut self) {
        (self.used, self.appended) = (0, 0);
    }

    /// The next frames to append together: as many as fit in `room` bytes, but at least one. None if all are in the log.
    pub(crate) fn next_run(&self, room: u64) -> Option<std::ops::Range<usize>> {
        let (from, mut bytes) = (self.appended, 0);
        let fits = |frame: &&FrameBuilder| {
            bytes += frame.length() as u64;
            bytes <= room
        };
        let frames = self.frames[from..self.used].iter().take_while(fits).count();
        (from < self.used).then(|| from..from + frames.max(1))
    }

    /// Records that the frames below `end` are in the log.
    pub(crate) fn appended(&mut self, end: usize) {
        self.appended = end;
    }

    /// Bytes of all frames.
    pub(crate) fn frame_bytes(&self) -> u64 {
        self.frames().iter().map(|frame| frame.length() as u64).sum()
    }

    /// Adds a frame, begun with these arguments.
    pub fn frame(&mut self, kind: FrameKind, pipeline: u32, outputs: u64) -> &mut FrameBuilder {
        if self.used == self.frames.len() {
            self.frames.push(FrameBuilder::new());
        }
        self.used += 1;
        let frame = &mut self.frames[self.used - 1];
        frame.begin(kind, pipeline, outputs);
        frame
    }

    /// The frame added last.
    pub fn last(&mut self) -> Option<&mut FrameBuilder> {
        self.frames[..self.used].last_mut()
    }

    /// Finishes every frame: see [`FrameBuilder::finish`].
    pub fn finish(&mut self) {
        self.frames_mut().iter_mut().for_each(FrameBuilder::finish);
    }

    /// Bytes of its frames so far.
    pub fn bytes(&self) -> usize {
        self.frames().iter().map(|frame| frame.buffer.len() + frame.positions.len()).sum()
    }

    /// Capacity of its buffers in bytes.
    pub fn capacity(&self) -> usize {
        self.frames.iter().map(|frame| frame.buffer.capacity()).sum()
    }

    /// The frames, in order.
    pub fn frames(&self) -> &[FrameBuilder] {
        &self.frames[..self.used]
    }

    pub(crate) fn frames_mut(&mut self) -> &mut [FrameBuilder] {
        &mut self.frames[..self.used]
    }

    /// The frames that are not in the log yet. The others have given up their buffers.
    pub(crate) fn rest_mut(&mut self) -> &mut [FrameBuilder] {
        &mut self.frames[self.appended..self.used]
    }

    /// Whether no frame was added.
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }
}
