//! What an output receives: a delivery of pieces, each with the events of one frame that are for this output.
//!
//! Guarantees: bytes are not copied out of the WAL. Events come in the WAL's order. A piece that is a whole frame is one slice.
//! Does not read the WAL: its reader creates the pieces.

use crate::env::Timestamp;
use std::borrow::Cow;

/// A batch of events for one output: pieces of frames, in order.
#[derive(Default)]
pub struct Delivery<'a> {
    /// The pieces; none is empty.
    pub pieces: Vec<Piece<'a>>,
    /// Events in all pieces.
    pub events: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// How often these same events were tried before: zero for a new delivery. An output that delivered a part of them before
    /// it requested another attempt may continue with the rest.
    pub attempt: u32,
}

impl<'a> Delivery<'a> {
    /// An empty delivery with capacity for this many pieces.
    pub fn with_room(pieces: usize) -> Delivery<'a> {
        Delivery { pieces: Vec::with_capacity(pieces), events: 0, bytes: 0, attempt: 0 }
    }

    /// Adds a piece, unless it is empty.
    pub fn push(&mut self, piece: Piece<'a>) {
        if piece.events > 0 {
            self.events += piece.events;
            self.bytes += piece.bytes;
            self.pieces.push(piece);
        }
    }

    /// All events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        self.pieces.iter().flat_map(Piece::iter)
    }
}

/// One event, unchanged as it is in the WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// A JSON object, and its newline at the end.
    pub line: &'a [u8],
    /// When it happened.
    pub timestamp: Timestamp,
}

/// Where a piece's timestamps or masks are.
#[derive(Clone)]
pub enum Column<'a> {
    /// The same for every event.
    Same(u64),
    /// Eight little-endian bytes for each event of the frame.
    Each(Cow<'a, [u8]>),
}

impl Column<'_> {
    fn get(&self, index: usize) -> u64 {
        match self {
            Column::Same(value) => *value,
            Column::Each(bytes) => {
                bytes.get(index * 8..index * 8 + 8).map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap_or_default()))
            }
        }
    }
}

/// The events of one frame that an output gets: a part of the WAL's mapping, not a copy.
pub struct Piece<'a> {
    payload: Cow<'a, [u8]>,
    lengths: Cow<'a, [u8]>,
    timestamps: Column<'a>,
    masks: Column<'a>,
    bit: u64,
    first: usize,
    end: usize,
    events: u64,
    bytes: u64,
}

/// The parts of a frame that form a piece.
pub struct PieceParts<'a> {
    /// All lines of the frame.
    pub payload: Cow<'a, [u8]>,
    /// Four little-endian bytes for each event: the length of its line.
    pub lengths: Cow<'a, [u8]>,
    /// When each event happened, ns since 1970.
    pub timestamps: Column<'a>,
    /// Which outputs get each event.
    pub masks: Column<'a>,
}

impl<'a> Piece<'a> {
    /// The events `first..end` of a frame that the output with mask `bit` gets.
    pub fn new(parts: PieceParts<'a>, bit: u64, first: u32, end: u32) -> Piece<'a> {
        let PieceParts { payload, lengths, timestamps, masks } = parts;
        let (first, end) = (first as usize, (end as usize).min(lengths.len() / 4));
        let mut piece = Piece { payload, lengths, timestamps, masks, bit, first, end, events: 0, bytes: 0 };
        if piece.is_whole_frame() {
            piece.events = piece.end as u64;
            piece.bytes = piece.payload.len() as u64;
        } else {
            let (events, bytes) =
                piece.iter().fold((0, 0), |(events, bytes), event| (events + 1, bytes + event.line.len() as u64));
            piece.events = events;
            piece.bytes = bytes;
        }
        piece
    }

    /// Events in the piece.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Bytes of their lines.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The lines of all its events, if they are contiguous, which is true for nearly every piece.
    pub fn lines(&self) -> Option<&[u8]> {
        self.is_whole_frame().then_some(&self.payload)
    }

    /// Its events in order.
    pub fn iter(&self) -> impl Iterator<Item = Event<'_>> {
        let mut offset = (0..self.first).map(|index| self.length(index)).sum::<usize>();
        (self.first..self.end).filter_map(move |index| {
            let from = offset;
            offset += self.length(index);
            let line = self.payload.get(from..offset)?;
            let wanted = self.masks.get(index) & self.bit != 0;
            wanted.then_some(Event { line, timestamp: Timestamp(self.timestamps.get(index) as i64) })
        })
    }

    /// The last event's time.
    pub fn last_timestamp(&self) -> Timestamp {
        Timestamp(self.timestamps.get(self.end.saturating_sub(1)) as i64)
    }

    fn length(&self, index: usize) -> usize {
        let bytes = &self.lengths[index * 4..index * 4 + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }

    fn is_whole_frame(&self) -> bool {
        let every_event = matches!(self.masks, Column::Same(mask) if mask & self.bit != 0);
        every_event && self.first == 0 && self.end == self.lengths.len() / 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(lines: &[&str], masks: Column<'static>) -> PieceParts<'static> {
        PieceParts {
            payload: Cow::Owned(lines.concat().into_bytes()),
            lengths: Cow::Owned(lines.iter().flat_map(|line| (line.len() as u32).to_le_bytes()).collect()),
            timestamps: Column::Same(5),
            masks,
        }
    }

    #[test]
    fn whole_frame_is_one_slice() {
        let piece = Piece::new(parts(&["a\n", "bb\n"], Column::Same(6)), 2, 0, 2);
        assert_eq!(piece.lines(), Some(&b"a\nbb\n"[..]));
        assert_eq!((piece.events(), piece.bytes()), (2, 5));
        assert_eq!(Piece::new(parts(&["a\n"], Column::Same(6)), 1, 0, 1).events(), 0);
    }

    #[test]
    fn part_of_a_frame_starts_at_its_event() {
        let piece = Piece::new(parts(&["a\n", "bb\n", "ccc\n"], Column::Same(1)), 1, 1, 3);
        assert_eq!(piece.lines(), None);
        let lines: Vec<&[u8]> = piece.iter().map(|event| event.line).collect();
        assert_eq!(lines, [&b"bb\n"[..], b"ccc\n"]);
        assert_eq!((piece.events(), piece.bytes()), (2, 7));
    }

    #[test]
    fn masks_choose_events() {
        let masks = [1u64, 2, 3].iter().flat_map(|mask| mask.to_le_bytes()).collect();
        let piece = Piece::new(parts(&["a\n", "b\n", "c\n"], Column::Each(Cow::Owned(masks))), 2, 0, 3);
        let lines: Vec<&[u8]> = piece.iter().map(|event| event.line).collect();
        assert_eq!(lines, [b"b\n", b"c\n"]);
    }
}
