//! From JSON lines to spans: which fields an object has, and where each one is. No value is decoded and nothing is copied.
//!
//! Guarantees: an event is valid exactly when it is one JSON object in UTF-8 with only white space around it. The result is the
//! same on every tier. One event never affects another. Memory is limited by the chunk and by the trie. In addition to the
//! grammar of RFC 8259:
//! - an object nested deeper than [`NESTING_MAX`] levels is invalid, and so is one with more than [`FIELDS_MAX`] fields;
//! - an event with a newline in it is invalid, even where JSON allows white space;
//! - numbers are treated as text only: `1e400` and `-0` are valid and stay unchanged;
//! - unpaired surrogates (`\ud800`) are valid, also in keys, where they become U+FFFD when the key is decoded;
//! - a key that occurs twice is two fields: the consumer decides what that means.
//!
//! There are two passes over the bytes, for about 64 KiB of events at a time: [`index`] finds the operators outside of strings
//! in blocks of 64 bytes, and [`walk`] goes from one to the next. Reads nothing beyond the padding of a chunk.

mod explain;
mod index;
mod kernel;
mod text;
mod trie;
mod walk;
#[cfg(all(target_arch = "x86_64", not(miri)))]
mod x86;

pub use explain::{Fault, Reason, explain, explain_value};
pub use text::{unescape, unescape_key};
pub use trie::{KEY_BYTES_MAX, LABEL_BYTES_MAX, NodeId, Trie};

use super::Tier;
use crate::batch::EventSpan;
use crate::limits::CHUNK_PADDING_BYTES;
use index::Index;
use kernel::{Kernel, Portable};
use walk::Walk;

/// Maximum levels of objects and arrays in a line, including the object that is the line.
pub const NESTING_MAX: u32 = 64;
/// Maximum fields of a line.
pub const FIELDS_MAX: usize = 65_535;

/// Number of bytes whose operators are found before they are walked: they stay in a core's cache. A longer event is one
/// stretch.
const STRETCH_BYTES: usize = 64 * 1024;

/// One field of an object, as positions in the chunk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// First byte after the `{` or `,` before the key. White space may precede the key.
    pub key: u32,
    /// First byte of the value.
    pub start: u32,
    /// One past the last byte of the value.
    pub end: u32,
}

/// The key of a slot as it is spelled, including quotes.
///
/// # Panics
/// If `slot` is not a slot of this chunk.
pub fn slot_key(padded: &[u8], slot: Slot) -> &[u8] {
    let label = text::trim(&padded[slot.key as usize..slot.start as usize]);
    text::trim(label.strip_suffix(b":").unwrap_or(label))
}

/// The result for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Which keys it has in which order, or why that is unknown.
    pub node: NodeId,
    /// Its first slot.
    pub first_slot: u32,
    /// Its number of slots. Zero if it is invalid.
    pub slots: u32,
}

/// The results for a chunk's events.
#[derive(Debug, Default)]
pub struct Lines {
    /// One for each event, in order.
    pub lines: Vec<Line>,
    /// The fields of all valid lines, in order.
    pub slots: Vec<Slot>,
}

impl Lines {
    /// The fields of a line.
    ///
    /// # Panics
    /// If `line` belongs to another chunk.
    pub fn slots(&self, line: Line) -> &[Slot] {
        &self.slots[line.first_slot as usize..][..line.slots as usize]
    }
}

/// Finds the fields of events. Keeps its buffers from one chunk to the next.
pub struct Parser {
    tier: Tier,
    index: Index,
    /// A copy of an event with padding, if the chunk has none after it.
    copy: Vec<u8>,
}

impl Parser {
    /// Uses the best tier of this processor.
    pub fn new() -> Parser {
        Parser::with_tier(Tier::best())
    }

    /// Uses a chosen tier.
    ///
    /// # Panics
    /// If this processor does not support it.
    pub fn with_tier(tier: Tier) -> Parser {
        assert!(tier.is_available(), "the processor has no {tier:?}");
        Parser { tier, index: Index::default(), copy: Vec::new() }
    }

    /// The tier it runs on.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Finds the fields of `events`, which are in `padded`, in order and separate from each other. `padded` ends with the
    /// padding of a chunk. The bytes between events do not matter. Fast if an event follows a newline and ends before one.
    ///
    /// # Panics
    /// If the padding is missing, or an event is at an invalid position.
    pub fn parse(&mut self, padded: &[u8], events: &[EventSpan], trie: &mut Trie, out: &mut Lines) {
        out.lines.clear();
        out.slots.clear();
        let work = Work { chunk: Chunk::new(padded), events, trie, out };
        match self.tier {
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: there is no parser of a tier that the processor does not have.
            Tier::Avx512 => unsafe { on_avx512(self, work) },
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: as above.
            Tier::Avx2 => unsafe { on_avx2(self, work) },
            #[cfg(all(target_arch = "x86_64", not(miri)))]
            // SAFETY: every x86-64 has SSE2.
            Tier::Sse2 => unsafe { on::<x86::Sse2>(self, work) },
            // SAFETY: plain code needs nothing.
            _ => unsafe { on::<Portable>(self, work) },
        }
    }
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::new()
    }
}

/// Bytes with padding, checked.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    padded: &'a [u8],
    length: usize,
}

impl<'a> Chunk<'a> {
    fn new(padded: &'a [u8]) -> Chunk<'a> {
        let length = padded.len().checked_sub(CHUNK_PADDING_BYTES);
        let length = length.filter(|length| padded[*length] == 0 && padded.len() <= u32::MAX as usize);
        let Some(length) = length else { panic!("a chunk of {} bytes does not end with its padding", padded.len()) };
        Chunk { padded, length }
    }

    /// The position of the newline that ends the event, or the end of the chunk if the event ends there. None if the event is
    /// cut off earlier.
    #[inline(always)]
    fn stop(self, event: EventSpan) -> Option<usize> {
        let end = event.end as usize;
        match self.padded[end] {
            b'\n' => Some(end),
            b'\r' if self.padded[end + 1] == b'\n' => Some(end + 1),
            _ => (end == self.length).then_some(end),
        }
    }
}

struct Work<'a> {
    chunk: Chunk<'a>,
    events: &'a [EventSpan],
    trie: &'a mut Trie,
    out: &'a mut Lines,
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vbmi2,avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
fn on_avx512(parser: &mut Parser, work: Work<'_>) {
    // SAFETY: the features of this function are those of the tier.
    unsafe { on::<x86::Avx512>(parser, work) }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx2,bmi1,bmi2,lzcnt,popcnt,pclmulqdq")]
fn on_avx2(parser: &mut Parser, work: Work<'_>) {
    // SAFETY: the features of this function are those of the tier.
    unsafe { on::<x86::Avx2>(parser, work) }
}

/// Everything from here to the kernel is inlined into one function that enables the tier's features.
///
/// # Safety
/// The processor supports the tier.
#[inline(always)]
unsafe fn on<K: Kernel>(parser: &mut Parser, work: Work<'_>) {
    let Work { chunk, mut events, trie, out } = work;
    let mut from = 0;
    while let Some(event) = events.first() {
        assert!(from <= event.start && event.start <= event.end, "events are out of order");
        assert!(event.end as usize <= chunk.length, "an event is beyond the chunk");
        let (these, to) = stretch(chunk, events);
        if these.is_empty() {
            // SAFETY: the caller speaks for the processor.
            unsafe { copied::<K>(parser, chunk, *event, trie, out) };
        } else {
            // SAFETY: the caller speaks for the processor; a stretch is as it has to be.
            unsafe { lines::<K>(&mut parser.index, chunk, these, to, trie, out) };
        }
        from = events[these.len().max(1) - 1].end;
        events = &events[these.len().max(1)..];
    }
}

/// Events to process together, and the end of the last one: all but the first follow a newline, and none is cut off. Empty if
/// the first one is cut off.
#[inline(always)]
fn stretch<'a>(chunk: Chunk<'_>, events: &'a [EventSpan]) -> (&'a [EventSpan], usize) {
    let from = events[0].start as usize;
    let (mut count, mut to) = (0, from);
    for event in events {
        let follows = count == 0 || event.start as usize > to && chunk.padded[event.start as usize - 1] == b'\n';
        let fits = count == 0 || event.end as usize - from <= STRETCH_BYTES;
        if !follows || event.start > event.end || !fits || event.end as usize > chunk.length {
            break;
        }
        let Some(stop) = chunk.stop(*event) else { break };
        (count, to) = (count + 1, stop);
    }
    (&events[..count], to)
}

/// Finds the fields of the events of a stretch that ends at `to`.
///
/// # Safety
/// The processor supports the tier; `events` and `to` are as returned by [`stretch`], and there is at least one event.
#[inline(always)]
unsafe fn lines<K: Kernel>(
    index: &mut Index,
    chunk: Chunk<'_>,
    events: &[EventSpan],
    to: usize,
    trie: &mut Trie,
    out: &mut Lines,
) {
    // SAFETY: the stretch begins with its first event and ends before the padding; the caller speaks for the processor.
    unsafe { index.build::<K>(chunk.padded, events[0].start as usize, to) };
    let operators = index.operators();
    let base = out.slots.len();
    out.slots.reserve(operators.len() / 2 + 1);
    out.lines.reserve(events.len());
    // SAFETY: room for a slot for every second operator has just been made.
    let mut walk = unsafe { Walk::new(chunk.padded, operators, out.slots.as_mut_ptr().add(base)) };
    let mut faults = index.faults().iter().copied().peekable();
    let mut high_blocks = index.high_blocks().iter().copied().peekable();
    for &event in events {
        walk.skip_to(event.start);
        let first = walk.slots();
        // SAFETY: the caller speaks for the processor; the events of a stretch are in it and each stops as it should.
        let mut node = NodeId(unsafe { walk.object::<K>(event, trie) });
        while let Some(fault) = faults.next_if(|fault| *fault < event.end) {
            if fault >= event.start {
                node = NodeId::BAD;
            }
        }
        while high_blocks.next_if(|block| block + kernel::BLOCK as u32 <= event.start).is_some() {}
        if high_blocks.peek().is_some_and(|block| *block < event.end)
            && std::str::from_utf8(&chunk.padded[event.range()]).is_err()
        {
            node = NodeId::BAD;
        }
        if node == NodeId::BAD || walk.slots() - first > FIELDS_MAX {
            node = NodeId::BAD;
            walk.take_back(first);
        }
        let slots = (walk.slots() - first) as u32;
        out.lines.push(Line { node, first_slot: (base + first) as u32, slots });
    }
    let slots = base + walk.slots();
    // SAFETY: the walk has written all slots up to there, in the space after `base`.
    unsafe { out.slots.set_len(slots) };
}

/// Finds the fields of an event that is cut off: the bytes after its end must not be read as part of it.
///
/// # Safety
/// The processor supports the tier.
#[cold]
#[inline(always)]
unsafe fn copied<K: Kernel>(parser: &mut Parser, chunk: Chunk<'_>, event: EventSpan, trie: &mut Trie, out: &mut Lines) {
    let length = event.length();
    parser.copy.clear();
    parser.copy.shrink_to(STRETCH_BYTES);
    parser.copy.extend_from_slice(&chunk.padded[event.range()]);
    parser.copy.resize(length + CHUNK_PADDING_BYTES, 0);
    let copy = Chunk::new(&parser.copy);
    let whole = [EventSpan { start: 0, end: length as u32 }];
    let first = out.slots.len();
    // SAFETY: the caller speaks for the processor; a copy stops where its chunk does.
    unsafe { lines::<K>(&mut parser.index, copy, &whole, length, trie, out) };
    for slot in &mut out.slots[first..] {
        slot.key += event.start;
        slot.start += event.start;
        slot.end += event.start;
    }
}

#[cfg(test)]
mod tests;
