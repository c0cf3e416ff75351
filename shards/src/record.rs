//! A record: one event while it is processed. Its shape says which fields exist, the record has their bytes.
//!
//! Guarantees: nothing is decoded before it is requested, and unchanged fields are written byte for byte. Values created for an
//! event are in an arena that is reused for the next one, so that nothing is allocated per event in steady state. The values of
//! one event are limited. If a requested name occurs twice, the last field is returned.

#[cfg(test)]
mod tests;

use crate::env::Timestamp;
use crate::limits::{COMPUTED_BYTES_MAX, COMPUTED_VALUES_MAX};
use crate::scan::escape_json_into;
use crate::scan::json::{Line, Slot, unescape_key};
use crate::shape::{Cast, EditId, Field, Find, From, Guarded, KeyId, Meta, Segment, ShapeId, Shapes, Source};
use std::fmt::{self, Write as _};
use std::ops::Range;

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// JSON without surrounding white space.
    Json(&'a [u8]),
    /// Plain bytes. They need not be UTF-8.
    Text(&'a [u8]),
}

/// The metadata that the input has about the events of a batch, as JSON.
#[derive(Default)]
pub struct Metas {
    bytes: Vec<u8>,
    values: [Range<usize>; 5],
}

impl Metas {
    /// Removes everything.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.values = Default::default();
    }

    /// Sets one of them, except for the offset, which is different for each event. `push` appends JSON.
    pub fn set(&mut self, meta: Meta, push: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        push(&mut self.bytes);
        self.values[meta as usize] = start..self.bytes.len();
    }

    fn get(&self, meta: Meta) -> &[u8] {
        &self.bytes[self.values[meta as usize].clone()]
    }
}

/// Values created for the current event.
#[derive(Default)]
struct Made {
    arena: Vec<u8>,
    values: Vec<Range<u32>>,
    /// Its position in the source, as JSON.
    offset: Vec<u8>,
    /// Number of replacement characters for bytes that were not UTF-8.
    replaced: u64,
    cast: Cast,
    /// Why the event cannot be processed further, and which part reported it.
    fault: String,
    fault_place: &'static str,
}

/// Everything that records of one input need on one shard, reused for each.
pub struct Workshop {
    /// The shapes.
    pub shapes: Shapes,
    /// The metadata of the batch.
    pub metas: Metas,
    made: Made,
}

impl Workshop {
    /// A workshop for events of these shapes.
    pub fn new(shapes: Shapes) -> Workshop {
        Workshop { shapes, metas: Metas::default(), made: Made::default() }
    }

    /// The event `text` of a chunk, unparsed.
    pub fn text<'a>(&'a mut self, text: &'a [u8], place: Place) -> Record<'a> {
        let shape = self.shapes.of_text();
        self.record(text, text, &[], shape, place)
    }

    /// The event `text` of a chunk, parsed: `line` with its `slots`.
    pub fn line<'a>(
        &'a mut self,
        chunk: &'a [u8],
        text: &'a [u8],
        line: &Line,
        slots: &'a [Slot],
        place: Place,
    ) -> Record<'a> {
        let shape = self.shapes.of_line(line, |slot, name| push_name(chunk, &slots[usize::from(slot)], name));
        self.record(chunk, text, slots, shape, place)
    }

    fn record<'a>(
        &'a mut self,
        chunk: &'a [u8],
        text: &'a [u8],
        slots: &'a [Slot],
        shape: ShapeId,
        place: Place,
    ) -> Record<'a> {
        self.made.arena.clear();
        self.made.values.clear();
        self.made.offset.clear();
        if self.shapes.has_offset() {
            push_number(place.offset, &mut self.made.offset);
        }
        let Workshop { shapes, metas, made } = self;
        Record { shapes, metas, made, chunk, text, slots, shape, timestamp: place.timestamp, arrived: place.timestamp }
    }

    /// Number of replaced bytes of events since the last call.
    pub fn take_replaced(&mut self) -> u64 {
        std::mem::take(&mut self.made.replaced)
    }
}

/// Where and when an event was read.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// When it was read.
    pub timestamp: Timestamp,
    /// Position of its first byte in the source.
    pub offset: u64,
}

/// Appends the name of a slot's key.
fn push_name(chunk: &[u8], slot: &Slot, name: &mut Vec<u8>) {
    let before_value = &chunk[slot.key as usize..slot.start as usize];
    let label = before_value.trim_ascii_end().strip_suffix(b":").unwrap_or_default();
    let read = unescape_key(label, name);
    debug_assert!(read, "the parser has read this key before");
}

/// One event.
pub struct Record<'a> {
    shapes: &'a mut Shapes,
    metas: &'a Metas,
    made: &'a mut Made,
    chunk: &'a [u8],
    text: &'a [u8],
    slots: &'a [Slot],
    shape: ShapeId,
    /// When it happened.
    pub timestamp: Timestamp,
    arrived: Timestamp,
}

impl Record<'_> {
    /// When it was read, whatever its own time is.
    pub fn arrived(&self) -> Timestamp {
        self.arrived
    }

    /// What the input knows about the event, as JSON, whatever its fields are. None if it does not know this.
    #[inline]
    pub fn origin(&self, meta: Meta) -> Option<&[u8]> {
        let known = match meta {
            Meta::Offset => &self.made.offset,
            meta => self.metas.get(meta),
        };
        (!known.is_empty()).then_some(known)
    }

    /// Says that it has no position in a source.
    pub fn forget_offset(&mut self) {
        self.made.offset.clear();
    }

    /// Whether it is a line with contested fields that is not settled.
    #[inline]
    pub fn is_contested(&self) -> bool {
        self.shapes.is_contested(self.shape)
    }

    /// Its contested fields, as long as it has not been edited.
    pub fn contested(&self) -> &[Field] {
        self.shapes.contested(self.shape)
    }

    /// Why a key is guarded, if it is.
    #[inline]
    pub fn guarded(&self, key: KeyId) -> Option<Guarded> {
        self.shapes.guarded(key)
    }

    /// The original event.
    pub fn original(&self) -> &[u8] {
        self.text
    }

    /// Its shape.
    pub fn shape(&self) -> ShapeId {
        self.shape
    }

    /// Its shapes, for names and for edits with names from events.
    pub fn shapes(&mut self) -> &mut Shapes {
        self.shapes
    }

    /// Returns to a shape that it had before.
    pub fn set_shape(&mut self, shape: ShapeId) {
        self.shape = shape;
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, find: Find) -> Option<Value<'_>> {
        let source = self.shapes.find(find, self.shape)?;
        Some(self.value(source))
    }

    /// The value of a source.
    pub fn value(&self, source: Source) -> Value<'_> {
        match source {
            Source::Slot(slot) | Source::Value(slot) => {
                let slot = self.slots[usize::from(slot)];
                Value::Json(&self.chunk[slot.start as usize..slot.end as usize])
            }
            Source::Text => Value::Text(self.text),
            Source::Computed(number) => Value::Json(computed(self.made, number)),
            Source::Constant(constant) => Value::Json(self.shapes.constant_json(constant)),
            Source::Meta(Meta::Offset) => Value::Json(&self.made.offset),
            Source::Meta(meta) => Value::Json(self.metas.get(meta)),
        }
    }

    /// All fields in order. [`Record::name`] and [`Record::value`] return their names and values.
    pub fn fields(&self) -> &[Field] {
        self.shapes.fields(self.shape)
    }

    /// The name of a field.
    pub fn name(&self, key: KeyId) -> &[u8] {
        self.shapes.name(key)
    }

    /// Records why the event cannot be processed further, for its dead letter. `place` is the part that reports it.
    pub fn give_up(&mut self, place: &'static str, reason: fmt::Arguments<'_>) {
        self.made.fault_place = place;
        self.made.fault.clear();
        let written = self.made.fault.write_fmt(reason);
        debug_assert!(written.is_ok(), "a string takes all");
    }

    /// Which part reported last that the event cannot be processed further, and why.
    pub fn fault(&self) -> (&'static str, &str) {
        (self.made.fault_place, &self.made.fault)
    }

    /// Changes its fields.
    #[inline]
    pub fn edit(&mut self, edit: EditId) {
        self.shape = self.shapes.edit(edit, self.shape);
    }

    /// Sets a field to a value created for this event: `edit` is an [`Edit::Computed`], `push` appends JSON. Returns false and
    /// changes nothing if the event has too many or too large created values.
    pub fn set(&mut self, edit: EditId, push: impl FnOnce(&mut Vec<u8>)) -> bool {
        let made = self.make(push);
        if made {
            self.shape = self.shapes.edit(edit, self.shape);
        }
        made
    }

    /// Begins to replace all fields of the event by those that are added to the [`Recast`].
    pub fn recast(&mut self) -> Recast<'_> {
        let computed = self.shapes.computed(self.shape);
        let Record { shapes, made, shape, .. } = self;
        made.values.truncate(usize::from(computed));
        made.cast.begin(computed);
        let start = made.arena.len();
        Recast { shapes, made, shape, start, fits: true }
    }

    fn make(&mut self, push: impl FnOnce(&mut Vec<u8>)) -> bool {
        // Abandoned branches may have created values that the shape does not have.
        self.made.values.truncate(usize::from(self.shapes.computed(self.shape)));
        let start = self.made.arena.len();
        push(&mut self.made.arena);
        let end = self.made.arena.len();
        if end > COMPUTED_BYTES_MAX || self.made.values.len() >= COMPUTED_VALUES_MAX {
            self.made.arena.truncate(start);
            return false;
        }
        debug_assert!(end > start, "a value is not empty");
        self.made.values.push(start as u32..end as u32);
        true
    }

    /// Appends the event's line, newline included.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        let plan = self.shapes.plan(self.shape);
        for segment in &plan.segments {
            match *segment {
                Segment::Literal { start, end } => {
                    out.extend_from_slice(&plan.literals[start as usize..end as usize]);
                }
                Segment::Run { first, last, from } => {
                    let (first, last) = (self.slots[usize::from(first)], self.slots[usize::from(last)]);
                    let start = match from {
                        From::Comma => first.key - 1,
                        From::Key => first.key,
                        From::Value => first.start,
                    };
                    out.extend_from_slice(&self.chunk[start as usize..last.end as usize]);
                }
                Segment::Text => {
                    out.push(b'"');
                    self.made.replaced += u64::from(escape_json_into(self.text, out) > 0);
                    out.push(b'"');
                }
                Segment::Computed(number) => out.extend_from_slice(computed(self.made, number)),
                Segment::Meta(Meta::Offset) => out.extend_from_slice(&self.made.offset),
                Segment::Meta(meta) => out.extend_from_slice(self.metas.get(meta)),
            }
        }
    }
}

/// Replaces all fields of an event. The event keeps its old fields if this is dropped.
pub struct Recast<'r> {
    shapes: &'r mut Shapes,
    made: &'r mut Made,
    shape: &'r mut ShapeId,
    /// Where the values of the new fields begin.
    start: usize,
    fits: bool,
}

impl Recast<'_> {
    /// Keeps an existing field of the event.
    pub fn keep(&mut self, field: Field) {
        self.made.cast.put(field.key, field.source);
    }

    /// The key for a name from the event.
    pub fn key(&mut self, name: &[u8]) -> KeyId {
        self.shapes.key_of_event(name)
    }

    /// Why a key is guarded, if it is.
    #[inline]
    pub fn guarded(&self, key: KeyId) -> Option<Guarded> {
        self.shapes.guarded(key)
    }

    /// Adds a field; `push` appends JSON.
    pub fn put(&mut self, key: KeyId, push: impl FnOnce(&mut Vec<u8>)) {
        if !self.fits {
            return;
        }
        let start = self.made.arena.len();
        push(&mut self.made.arena);
        let end = self.made.arena.len();
        self.fits = end <= COMPUTED_BYTES_MAX && self.made.values.len() < COMPUTED_VALUES_MAX;
        if self.fits {
            debug_assert!(end > start, "a value is not empty");
            self.made.values.push(start as u32..end as u32);
            self.made.cast.put_computed(key);
        }
    }

    /// Gives the event the new fields. Returns false, and the event keeps its old fields, if it has too many or too large
    /// created values.
    pub fn finish(self) -> bool {
        let Recast { shapes, made, shape, start, fits } = self;
        match fits {
            true => *shape = shapes.cast(&made.cast),
            false => made.arena.truncate(start),
        }
        fits
    }
}

fn computed(made: &Made, number: u16) -> &[u8] {
    let range = &made.values[usize::from(number)];
    &made.arena[range.start as usize..range.end as usize]
}

/// Appends a number in decimal.
#[inline]
pub fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}
