//! Plans: how the line of an event is assembled from its parts.
//!
//! Guarantees: unchanged fields that are adjacent in the event are copied at once, including keys, commas and white space.
//! Everything that is the same for all events of the shape is one literal between two copies.

use super::{ConstantId, Field, KeyId, Source};
use crate::shape::Meta;

/// Where a run of unchanged bytes begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// At the comma before the key.
    Comma,
    /// At the key.
    Key,
    /// At the value.
    Value,
}

/// A part of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Bytes of [`Plan::literals`].
    Literal { start: u32, end: u32 },
    /// The bytes of the event from one slot to the end of another slot.
    Run { first: u16, last: u16, from: From },
    /// The event as a JSON string.
    Text,
    /// A value created for this event.
    Computed(u16),
    /// Metadata of the input.
    Meta(Meta),
}

/// Capacity of a plan that is reused for another one.
const LITERALS_KEPT: usize = 64 * 1024;
const SEGMENTS_KEPT: usize = 4096;

/// How the lines of one shape are assembled.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) segments: Vec<Segment>,
    pub(crate) literals: Vec<u8>,
}

impl Plan {
    /// Makes this the plan of these fields. `push_key` appends a key with its quotes and colon, `push_constant` a constant.
    pub(crate) fn fill(
        &mut self,
        fields: &[Field],
        push_key: impl Fn(KeyId, &mut Vec<u8>),
        push_constant: impl Fn(ConstantId, &mut Vec<u8>),
    ) {
        if self.literals.capacity() > LITERALS_KEPT || self.segments.capacity() > SEGMENTS_KEPT {
            *self = Plan::default();
        }
        self.segments.clear();
        self.literals.clear();
        let mut closed = 0;
        for (place, field) in fields.iter().enumerate() {
            if !self.extend_run(field, closed) {
                self.push(field, place == 0, &mut closed, &push_key, &push_constant);
            }
        }
        self.literals.extend_from_slice(if fields.is_empty() { b"{}\n" } else { b"}\n" });
        self.close(&mut closed);
    }

    /// The same in minimal memory, for long-term storage.
    pub(crate) fn fitted(mut self) -> Plan {
        self.literals.shrink_to_fit();
        self.segments.shrink_to_fit();
        self
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Plan>() + self.literals.len() + self.segments.len() * size_of::<Segment>()
    }

    /// Whether the field follows the last one in the event, with nothing between them in the line.
    fn extend_run(&mut self, field: &Field, closed: usize) -> bool {
        match (field.source, self.segments.last_mut()) {
            (Source::Slot(slot), Some(Segment::Run { last, .. }))
                if closed == self.literals.len() && *last + 1 == slot =>
            {
                *last = slot;
                true
            }
            _ => false,
        }
    }

    fn push(
        &mut self,
        field: &Field,
        first: bool,
        closed: &mut usize,
        push_key: &impl Fn(KeyId, &mut Vec<u8>),
        push_constant: &impl Fn(ConstantId, &mut Vec<u8>),
    ) {
        if let Source::Slot(slot) = field.source {
            // Only the first slot has no comma before it.
            let from = if slot > 0 && !first { From::Comma } else { From::Key };
            if from == From::Key {
                self.literals.push(if first { b'{' } else { b',' });
            }
            self.close(closed);
            self.segments.push(Segment::Run { first: slot, last: slot, from });
            return;
        }
        self.literals.push(if first { b'{' } else { b',' });
        push_key(field.key, &mut self.literals);
        let segment = match field.source {
            Source::Constant(constant) => return push_constant(constant, &mut self.literals),
            Source::Slot(slot) | Source::Value(slot) => Segment::Run { first: slot, last: slot, from: From::Value },
            Source::Text => Segment::Text,
            Source::Computed(number) => Segment::Computed(number),
            Source::Meta(meta) => Segment::Meta(meta),
        };
        self.close(closed);
        self.segments.push(segment);
    }

    /// Ends the open literal, if it is not empty.
    fn close(&mut self, closed: &mut usize) {
        if self.literals.len() > *closed {
            self.segments.push(Segment::Literal { start: *closed as u32, end: self.literals.len() as u32 });
            *closed = self.literals.len();
        }
    }
}
