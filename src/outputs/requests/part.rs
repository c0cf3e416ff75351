//! Parts of a delivery: which of its events go into one request.
//!
//! Guarantees: the parts of a delivery contain each event once and in order, and none is larger than requested unless it is a
//! single event. Does not copy events.

use std::collections::VecDeque;
use std::ops::Range;
use tailwater_shards::plugin::{Delivery, Event, Piece};

/// Some events of a delivery, by their index in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Ascending, not adjacent, none empty.
    ranges: Vec<Range<u64>>,
    /// How often it failed as a whole in a way that its size may explain.
    setbacks: u32,
    /// How often its result was unclear.
    doubts: u32,
}

/// The content of a part.
pub enum Slice<'a> {
    /// A whole piece, with the index of its first event.
    Piece(&'a Piece<'a>, u64),
    /// One event and its index.
    Event(Event<'a>, u64),
}

impl Part {
    /// The events of a range.
    pub fn of(range: Range<u64>) -> Part {
        Part { ranges: vec![range], setbacks: 0, doubts: 0 }
    }

    /// The events at these ascending indexes.
    pub fn at(indexes: impl Iterator<Item = u64>) -> Part {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for index in indexes {
            match ranges.last_mut() {
                Some(last) if last.end == index => last.end += 1,
                _ => ranges.push(index..index + 1),
            }
        }
        Part { ranges, setbacks: 0, doubts: 0 }
    }

    /// Counts a failure of the whole part that its size may explain. Returns the count.
    pub fn set_back(&mut self) -> u32 {
        self.setbacks += 1;
        self.setbacks
    }

    /// Counts an unclear result. Returns the count.
    pub fn doubt(&mut self) -> u32 {
        self.doubts += 1;
        self.doubts
    }

    /// Some events of this part, in ascending order, with the same counts.
    pub fn only(&self, indexes: impl Iterator<Item = u64>) -> Part {
        Part { setbacks: self.setbacks, doubts: self.doubts, ..Part::at(indexes) }
    }

    /// Number of events.
    pub fn events(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// Their indexes in order.
    pub fn indexes(&self) -> impl Iterator<Item = u64> + '_ {
        self.ranges.iter().flat_map(Clone::clone)
    }

    /// The part without these ascending events.
    pub fn without(self, events: &[u64]) -> Part {
        if events.is_empty() {
            return self;
        }
        self.only(self.indexes().filter(|index| events.binary_search(index).is_err()))
    }

    /// Two parts with half of the events each, with the same counts; none if there is only one event.
    pub fn halves(&self) -> Option<[Part; 2]> {
        let half = self.events() / 2;
        let halves = [self.only(self.indexes().take(half as usize)), self.only(self.indexes().skip(half as usize))];
        (half > 0).then_some(halves)
    }

    /// The distance of its events from an index; 0 if the index is between them.
    pub fn distance(&self, index: u64) -> u64 {
        let (Some(first), Some(last)) = (self.ranges.first(), self.ranges.last()) else { return u64::MAX };
        first.start.saturating_sub(index).max((index + 1).saturating_sub(last.end))
    }

    /// The events before this place, the one at it, and those after it. Parts without events are included.
    pub fn around(&self, place: u64) -> [Part; 3] {
        let before = self.only(self.indexes().take(place as usize));
        let one = self.only(self.indexes().skip(place as usize).take(1));
        let behind = self.only(self.indexes().skip(place as usize + 1));
        [before, one, behind]
    }

    /// Visits the events in order; whole pieces are passed as such.
    pub fn visit(&self, delivery: &Delivery<'_>, mut visitor: impl FnMut(Slice<'_>)) {
        let mut ranges = self.ranges.as_slice();
        let mut start = 0;
        for piece in &delivery.pieces {
            let end = start + piece.events();
            ranges = after(ranges, start);
            match ranges.first() {
                None => return,
                Some(range) if range.start <= start && end <= range.end => visitor(Slice::Piece(piece, start)),
                Some(range) if range.start >= end => {}
                Some(_) => visit_piece(piece, start, ranges, &mut visitor),
            }
            start = end;
        }
    }
}

/// The ranges that end after `index`.
fn after(mut ranges: &[Range<u64>], index: u64) -> &[Range<u64>] {
    while let [first, rest @ ..] = ranges
        && first.end <= index
    {
        ranges = rest;
    }
    ranges
}

fn visit_piece(piece: &Piece<'_>, start: u64, mut ranges: &[Range<u64>], visitor: &mut impl FnMut(Slice<'_>)) {
    for (index, event) in (start..).zip(piece.iter()) {
        ranges = after(ranges, index);
        match ranges.first() {
            None => return,
            Some(range) if range.start <= index => visitor(Slice::Event(event, index)),
            Some(_) => {}
        }
    }
}

/// Splits a delivery into parts of at most `bytes_max`, where an event takes its line and `overhead_bytes`.
pub fn split(delivery: &Delivery<'_>, bytes_max: u64, overhead_bytes: u64) -> VecDeque<Part> {
    let mut cutter = Cutter { parts: VecDeque::new(), start: 0, end: 0, bytes: 0, bytes_max };
    for piece in &delivery.pieces {
        let bytes = piece.bytes() + overhead_bytes * piece.events();
        if bytes <= bytes_max {
            cutter.push(piece.events(), bytes);
        } else {
            piece.iter().for_each(|event| cutter.push(1, event.line.len() as u64 + overhead_bytes));
        }
    }
    cutter.cut();
    cutter.parts
}

struct Cutter {
    parts: VecDeque<Part>,
    start: u64,
    end: u64,
    bytes: u64,
    bytes_max: u64,
}

impl Cutter {
    fn push(&mut self, events: u64, bytes: u64) {
        if self.bytes + bytes > self.bytes_max {
            self.cut();
        }
        self.end += events;
        self.bytes += bytes;
    }

    fn cut(&mut self) {
        if self.end > self.start {
            self.parts.push_back(Part::of(self.start..self.end));
        }
        self.start = self.end;
        self.bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::encoding::testing::piece;
    use super::*;
    use proptest::prelude::*;
    use tailwater_shards::plugin::Column;

    fn delivery(pieces: &[usize]) -> Delivery<'static> {
        let mut delivery = Delivery::default();
        let mut number = 0;
        for events in pieces {
            let lines: Vec<String> = (number..number + events).map(|number| format!("{number}\n")).collect();
            number += events;
            delivery.push(piece(&lines, Column::Same(1)));
        }
        delivery
    }

    fn seen(part: &Part, delivery: &Delivery<'_>) -> Vec<u64> {
        let mut seen = Vec::new();
        let mut see = |event: Event<'_>, index: u64| {
            assert_eq!(event.line, format!("{index}\n").as_bytes());
            seen.push(index);
        };
        part.visit(delivery, |slice| match slice {
            Slice::Piece(piece, first) => (first..).zip(piece.iter()).for_each(|(index, event)| see(event, index)),
            Slice::Event(event, index) => see(event, index),
        });
        seen
    }

    #[test]
    fn whole_pieces_are_visited_as_such() {
        let delivery = delivery(&[3, 2, 4]);
        let mut pieces = Vec::new();
        Part::of(0..8).visit(&delivery, |slice| pieces.push(matches!(slice, Slice::Piece(..))));
        assert_eq!(pieces, [true, true, false, false, false]);
    }

    #[test]
    fn halves_end_at_one_event() {
        assert_eq!(Part::of(4..5).halves(), None);
        assert_eq!(Part::of(4..7).halves(), Some([Part::of(4..5), Part::of(5..7)]));
    }

    #[test]
    fn event_larger_than_a_request_is_sent_alone() {
        let parts = split(&delivery(&[3]), 1, 0);
        assert_eq!(parts, [Part::of(0..1), Part::of(1..2), Part::of(2..3)]);
    }

    proptest! {
        #[test]
        fn parts_hold_each_event_once(pieces in prop::collection::vec(1usize..9, 0..6), bytes_max in 1u64..60, overhead in 0u64..4) {
            let delivery = delivery(&pieces);
            let parts = split(&delivery, bytes_max, overhead);
            let all: Vec<u64> = parts.iter().flat_map(|part| seen(part, &delivery)).collect();
            prop_assert_eq!(all, (0..delivery.events).collect::<Vec<_>>());
            for part in &parts {
                let bytes: u64 = part.indexes().map(|index| format!("{index}\n").len() as u64 + overhead).sum();
                prop_assert!(bytes <= bytes_max || part.events() == 1);
            }
        }

        #[test]
        fn chosen_events_are_visited(pieces in prop::collection::vec(1usize..9, 0..6), chosen in prop::collection::btree_set(0u64..50, 0..30)) {
            let delivery = delivery(&pieces);
            let chosen: Vec<u64> = chosen.into_iter().filter(|index| *index < delivery.events).collect();
            let part = Part::at(chosen.iter().copied());
            prop_assert_eq!(seen(&part, &delivery), chosen.clone());
            let rest = Part::of(0..delivery.events).without(&chosen);
            prop_assert_eq!(rest.events() + part.events(), delivery.events);
        }
    }
}
