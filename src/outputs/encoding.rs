//! Shared by outputs that write lines: how an event is encoded, and what happens when the WAL is full.
//!
//! Guarantees: events are written in order, each with one newline at its end, or are rejected. Does not compress, batch or
//! write.

use crate::codec::text::TextEncoder;
use crate::config::types::{Encode, TextForm, WhenFull};
use tailwater_shards::delivery::OutputFull;
use tailwater_shards::plugin::{Delivery, Event, Piece};

/// How events are encoded.
#[derive(Clone, Debug)]
pub enum Encoding {
    /// The whole event as it is in the WAL.
    Json,
    /// One field of it.
    Text(TextEncoder),
}

impl Encoding {
    /// The encoding that the settings of an output ask for.
    pub fn new(encode: Encode, form: &TextForm<'_>) -> Encoding {
        match encode {
            Encode::Json => Encoding::Json,
            Encode::Text => Encoding::Text(TextEncoder::new(form)),
        }
    }

    /// Appends the event at `index`, or adds it to `refused` with the reason.
    pub fn event(&self, event: Event<'_>, index: u64, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        match self {
            Encoding::Json => out.extend_from_slice(event.line),
            Encoding::Text(text) => {
                if !text.push(event.line, out) {
                    refused.push((index, text.refusal()));
                }
            }
        }
    }

    /// Appends the events of a piece; the first one is at index `first`.
    pub fn piece(&self, piece: &Piece<'_>, first: u64, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        match (self, piece.lines()) {
            (Encoding::Json, Some(lines)) => out.extend_from_slice(lines),
            _ => (first..).zip(piece.iter()).for_each(|(index, event)| self.event(event, index, out, refused)),
        }
    }

    /// Appends the events of a delivery.
    pub fn delivery(&self, delivery: &Delivery<'_>, out: &mut Vec<u8>, refused: &mut Vec<(u64, String)>) {
        out.reserve(usize::try_from(delivery.bytes).unwrap_or(0));
        let mut first = 0;
        for piece in &delivery.pieces {
            self.piece(piece, first, out, refused);
            first += piece.events();
        }
    }
}

/// The engine's policy for a value of `when_full`.
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

/// Deliveries from plain lines, for the tests of outputs.
#[cfg(test)]
pub mod testing {
    use std::borrow::Cow;
    use tailwater_shards::plugin::{Column, Delivery, Piece, PieceParts};

    /// A frame of `lines` with these timestamps, in which all events go to the output.
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

    /// A delivery of one frame in which all events have the same timestamp.
    pub fn delivery(lines: &[String], nanos: u64) -> Delivery<'static> {
        let mut delivery = Delivery::default();
        delivery.push(piece(lines, Column::Same(nanos)));
        delivery
    }
}
