//! What outputs that write lines share: how an event's line leaves, and what happens when the log is full.
//!
//! Guarantees: events leave in order, each with one newline at its end. Does not compress, batch or write.

use crate::codec::text::TextEncoder;
use crate::config::types::{Encode, WhenFull};
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::plugin::{Delivery, Event, Piece};

/// How events leave.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// The whole event as it lies in the log.
    Json,
    /// One field of it.
    Text(TextEncoder),
}

impl Encoding {
    /// What the keys `encode` and `message_field` ask for.
    pub fn new(encode: Encode, message_field: &str) -> Encoding {
        match encode {
            Encode::Json => Encoding::Json,
            Encode::Text => Encoding::Text(TextEncoder::new(message_field)),
        }
    }

    /// Appends one event.
    pub fn event(&self, event: Event<'_>, out: &mut Vec<u8>) {
        match self {
            Encoding::Json => out.extend_from_slice(event.line),
            Encoding::Text(text) => text.push(event.line, out),
        }
    }

    /// Appends the events of a piece.
    pub fn piece(&self, piece: &Piece<'_>, out: &mut Vec<u8>) {
        match (self, piece.lines()) {
            (Encoding::Json, Some(lines)) => out.extend_from_slice(lines),
            _ => piece.iter().for_each(|event| self.event(event, out)),
        }
    }

    /// Appends the events of a delivery.
    pub fn delivery(&self, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
        out.reserve(usize::try_from(delivery.bytes).unwrap_or(0));
        delivery.pieces.iter().for_each(|piece| self.piece(piece, out));
    }
}

/// What the engine does for the key `when_full`.
pub fn output_full(when_full: WhenFull) -> OutputFull {
    match when_full {
        WhenFull::Block => OutputFull::Block,
        WhenFull::DropOldest => OutputFull::DropOldest,
        WhenFull::Sample => OutputFull::Sample,
    }
}

/// The default of `message_field`.
pub fn message_field() -> String {
    "message".to_owned()
}

/// Deliveries made of plain lines, for the tests of outputs.
#[cfg(test)]
pub mod testing {
    use std::borrow::Cow;
    use tailwater_shards::plugin::{Column, Delivery, Piece, PieceParts};

    /// A frame of `lines` at these times, of which all events go to the output.
    pub fn piece(lines: &[String], timestamps: Column<'static>) -> Piece<'static> {
        let end = lines.len() as u32;
        let parts = PieceParts {
            payload: Cow::Owned(lines.concat().into_bytes()),
            lengths: Cow::Owned(lines.iter().flat_map(|line| (line.len() as u32).to_le_bytes()).collect()),
            timestamps,
            masks: Column::Same(1),
        };
        Piece::new(parts, 1, 0, end)
    }

    /// A delivery of one frame, all events at one time.
    pub fn delivery(lines: &[String], nanos: u64) -> Delivery<'static> {
        let mut delivery = Delivery::default();
        delivery.push(piece(lines, Column::Same(nanos)));
        delivery
    }
}
