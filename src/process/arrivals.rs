//! The events of one input on one shard, as they become records: parsed once per batch, then passed to each pipeline.
//!
//! Guarantees: each record starts with the event as the input made it, whatever another pipeline did to it. A line that cannot
//! be parsed becomes a record of its text with the reason in `parse_error`, or no record, as the input is configured. With
//! `on_conflict: ours`, no event has a value of its own in a field of the input: it is kept in the object `event`.

use crate::codec::calendar::rfc3339_micros;
use crate::codec::envelope::{EnvelopeKind, push_string};
use crate::config::facts::Facts;
use crate::config::timezone::Timezone;
use crate::config::types::{FieldName, OnConflict};
use crate::parsers::{Events, OnError, Parse};
use crate::transforms::Opening;
use crate::transforms::theirs::Theirs;
use std::io::Write as _;
use tailwater_shards::batch::Batch;
use tailwater_shards::dlq::{ComponentKind, DeadLetter, Letters};
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Place, Record, Workshop};
use tailwater_shards::scan::json::{Lines, NodeId, Parser, explain};
use tailwater_shards::shape::{Edit, EditId, Meta, Shapes};

/// The field for the reason why an event could not be parsed.
const PARSE_ERROR: &str = "parse_error";

/// Events of an input on one shard.
pub(super) struct Arrivals {
    parser: Option<(Parser, OnError)>,
    lines: Lines,
    workshop: Workshop,
    parse_error: EditId,
    /// Says that an event is only the beginning of its line.
    truncated: Option<EditId>,
    /// Reduces an event to the fields that events made by transforms have.
    made: EditId,
    /// Settles events with fields that only the input sets.
    theirs: Theirs,
    /// Whether the source has a name and positions.
    of_file: bool,
    host: Vec<u8>,
    /// Events that could not be parsed and are not counted yet.
    unparsed: u64,
}

/// An event of a batch.
pub(super) enum Arrival<'a> {
    /// A record.
    Record(Record<'a>),
    /// It could not be parsed and is dropped.
    Dropped,
    /// It could not be parsed and is in the dead letter queue.
    DeadLetter,
}

impl Arrivals {
    /// Opens the events of an input. `open` opens what processes them: names and edits are known before events arrive.
    pub fn open<T>(events: &Events, facts: &Facts, open: impl FnOnce(&mut Opening<'_>) -> T) -> (Arrivals, T) {
        let text = match &events.fields.message {
            FieldName::Named(name) => Some(name.as_str()),
            // What cannot be parsed has to be somewhere.
            FieldName::Off => events.parse.is_some().then_some("message"),
        };
        let metas = metas(events);
        let mut shapes = Shapes::guarding(&guarded(events, &metas), &metas, text);
        let of_file = events.kind == EnvelopeKind::File;
        if of_file {
            shapes.know_offset();
        }
        let key = shapes.key(PARSE_ERROR.as_bytes());
        let parse_error = shapes.register_edit(Edit::Computed(key));
        let truncated = match &events.fields.truncated {
            FieldName::Named(name) => {
                let key = shapes.key(name.as_bytes());
                Some(shapes.register_edit(Edit::Computed(key)))
            }
            FieldName::Off => None,
        };
        let kept = metas.iter().filter(|(meta, _)| matches!(meta, Meta::Timestamp | Meta::Host));
        let kept = kept.map(|(_, name)| shapes.key(name.as_bytes())).collect();
        let made = shapes.register_edit(Edit::Keep(kept));
        let timezone = events.timezone.as_ref().map_or(&facts.timezone, |Timezone(zone)| zone);
        let facts = &Facts { timezone: timezone.clone(), ..facts.clone() };
        let theirs = Theirs::open(&mut Opening { shapes: &mut shapes, facts });
        let opened = open(&mut Opening { shapes: &mut shapes, facts });
        let mut host = Vec::new();
        push_string(facts.host.as_bytes(), &mut host);
        let arrivals = Arrivals {
            parser: events.parse.as_ref().map(|Parse::Json(settings)| (Parser::new(), settings.on_error)),
            lines: Lines::default(),
            workshop: Workshop::new(shapes),
            parse_error,
            truncated,
            made,
            theirs,
            of_file,
            host,
            unparsed: 0,
        };
        (arrivals, opened)
    }

    /// Prepares for the events of a batch.
    pub fn begin(&mut self, batch: &Batch) {
        let metas = &mut self.workshop.metas;
        metas.clear();
        metas.set(Meta::Timestamp, |out| push_timestamp(batch.received, out));
        metas.set(Meta::Host, |out| out.extend_from_slice(&self.host));
        metas.set(Meta::Input, |out| push_string(batch.source.input.as_bytes(), out));
        if self.of_file {
            metas.set(Meta::File, |out| push_string(&batch.source.name, out));
        }
        self.workshop.shapes.renew_if_due();
        if let Some((parser, _)) = &mut self.parser {
            parser.parse(batch.chunk.padded(), &batch.events, &mut self.workshop.shapes.trie, &mut self.lines);
            self.unparsed += self.lines.lines.iter().filter(|line| line.node == NodeId::BAD).count() as u64;
        }
    }

    /// Dead-letters the events of the current batch that cannot be parsed, if the input is configured to.
    pub fn dead_letters(&mut self, batch: &Batch, letters: &mut Letters) {
        if !matches!(self.parser, Some((_, OnError::DeadLetter))) {
            return;
        }
        for (index, _) in self.lines.lines.iter().enumerate().filter(|(_, line)| line.node == NodeId::BAD) {
            let original = batch.event(index);
            letters.push(&DeadLetter {
                kind: ComponentKind::Input,
                component: &batch.source.input,
                place: "parse",
                source: &batch.source.name,
                reason: &fault(original),
                attempts: 0,
                timestamp: batch.received,
                original,
            });
        }
    }

    /// The event at `index` of the current batch.
    #[inline]
    pub fn event<'a>(&'a mut self, batch: &'a Batch, index: usize) -> Arrival<'a> {
        let truncated = self.truncated.filter(|_| batch.is_truncated(index));
        let mut arrival = self.arrival(batch, index);
        if let (Some(truncated), Arrival::Record(record)) = (truncated, &mut arrival) {
            record.set(truncated, |out| out.extend_from_slice(b"true"));
        }
        arrival
    }

    #[inline]
    fn arrival<'a>(&'a mut self, batch: &'a Batch, index: usize) -> Arrival<'a> {
        let (chunk, event) = (batch.chunk.bytes(), batch.events[index]);
        let text = &chunk[event.range()];
        let at = Place { timestamp: batch.received, offset: batch.offset_of(index) };
        let Some((_, on_error)) = &self.parser else { return Arrival::Record(self.workshop.text(text, at)) };
        let line = &self.lines.lines[index];
        if line.node != NodeId::BAD {
            let slots = &self.lines.slots[line.first_slot as usize..][..line.slots as usize];
            let mut record = self.workshop.line(chunk, text, line, slots, at);
            if record.is_contested() {
                self.theirs.settle(&mut record);
            }
            return Arrival::Record(record);
        }
        match on_error {
            OnError::Drop => Arrival::Dropped,
            OnError::DeadLetter => Arrival::DeadLetter,
            OnError::Keep => {
                let mut record = self.workshop.text(text, at);
                record.set(self.parse_error, |out| push_fault(text, out));
                Arrival::Record(record)
            }
        }
    }

    /// Prepares for events that transforms make.
    pub fn begin_made(&mut self, now: Timestamp) {
        let metas = &mut self.workshop.metas;
        metas.clear();
        metas.set(Meta::Timestamp, |out| push_timestamp(now, out));
        metas.set(Meta::Host, |out| out.extend_from_slice(&self.host));
    }

    /// An event for a transform to fill.
    pub fn made(&mut self, now: Timestamp) -> Record<'_> {
        let mut record = self.workshop.text(b"", Place { timestamp: now, offset: 0 });
        record.edit(self.made);
        record.forget_offset();
        record
    }

    /// Why the event at `index` could not be parsed; none if it could.
    pub fn fault(&self, batch: &Batch, index: usize) -> Option<String> {
        let bad = self.parser.is_some() && self.lines.lines[index].node == NodeId::BAD;
        bad.then(|| fault(&batch.chunk.bytes()[batch.events[index].range()]))
    }

    /// The numbers of events whose bytes were replaced, and of events that could not be parsed, since the last call.
    pub fn take_counts(&mut self) -> (u64, u64) {
        (self.workshop.take_replaced(), std::mem::take(&mut self.unparsed))
    }
}

/// The fields that the input adds to its events, and their names.
fn metas(events: &Events) -> Vec<(Meta, &str)> {
    let fields = &events.fields;
    let of_file = events.kind == EnvelopeKind::File;
    let all = [
        (Meta::Timestamp, &fields.timestamp, true),
        (Meta::Host, &fields.host, true),
        (Meta::File, &fields.file, of_file),
        (Meta::Offset, &fields.offset, of_file),
    ];
    let named = all.into_iter().filter_map(|(meta, name, exists)| match name {
        FieldName::Named(name) if exists => Some((meta, name.as_str())),
        _ => None,
    });
    named.collect()
}

/// The names that only the input sets.
fn guarded<'a>(events: &'a Events, metas: &[(Meta, &'a str)]) -> Vec<&'a str> {
    if events.on_conflict == OnConflict::Theirs {
        return Vec::new();
    }
    let truncated = match &events.fields.truncated {
        FieldName::Named(name) => Some(name.as_str()),
        FieldName::Off => None,
    };
    metas.iter().map(|(_, name)| *name).chain(truncated).chain([PARSE_ERROR]).collect()
}

fn push_timestamp(timestamp: Timestamp, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&rfc3339_micros(timestamp));
    out.push(b'"');
}

/// The reason if the parser rejects an event but no fault is found in it.
const UNEXPLAINED: &str = "it is not read as JSON";

/// Why an event is not a JSON object.
fn fault(text: &[u8]) -> String {
    explain(text).map_or_else(|| UNEXPLAINED.to_owned(), |fault| fault.to_string())
}

/// Appends why an event is not a JSON object. The reasons are constants that need no escaping.
fn push_fault(text: &[u8], out: &mut Vec<u8>) {
    let written = match explain(text) {
        Some(fault) => write!(out, "\"{fault}\""),
        None => write!(out, "\"{UNEXPLAINED}\""),
    };
    debug_assert!(written.is_ok(), "a vector takes all");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::trace::tests::{batch, events};
    use tailwater_shards::limits::{SHAPES_RENEWAL_EVENTS, TRIE_NODES_MAX};

    #[test]
    fn odd_keys_do_not_keep_their_room_for_good() {
        let (mut arrivals, ()) = Arrivals::open(&events(), &Facts::of("web-03"), |_| ());
        let mut pass = |batch: &Batch| {
            arrivals.begin(batch);
            for index in 0..batch.events.len() {
                assert!(matches!(arrivals.event(batch, index), Arrival::Record(_)));
            }
            arrivals.workshop.shapes.trie.len()
        };
        let odd: Vec<String> = (0..=TRIE_NODES_MAX).map(|number| format!("{{\"{number}\":1}}")).collect();
        assert_eq!(pass(&batch(&odd.iter().map(String::as_str).collect::<Vec<_>>())), TRIE_NODES_MAX);
        let usual = batch(&[r#"{"level":"info"}"#; 1024]);
        let rounds = SHAPES_RENEWAL_EVENTS as usize / 1024 + 1;
        assert_eq!((0..rounds).map(|_| pass(&usual)).last(), Some(2), "the empty object, and the usual key");
    }
}
