//! The same work on events by programs that build a tree of each: three kinds of trees.
//!
//! The tree is what is measured: parsers reuse their buffers from event to event, and lines are written into a reused vector.

use super::{Input, MIXED, ODD, clocked};
use crate::Outcome;
use simd_json::prelude::*;
use simd_json::{BorrowedValue, Buffers};
use std::collections::BTreeMap;
use tailwater_shards::batch::Batch;

/// A representation of an event.
pub trait Model {
    /// An owned event.
    type Event;

    fn parse(line: &[u8]) -> Self::Event;
    fn edit(event: &mut Self::Event);
    fn encode(event: &Self::Event, out: &mut Vec<u8>);
}

/// The transforms on the fields of any of these trees, which have no trait in common.
macro_rules! edit_fields {
    ($fields:expr) => {{
        let fields = $fields;
        fields.remove("region");
        fields.remove("pod");
        if let Some(message) = fields.remove("message") {
            fields.insert("msg".into(), message);
        }
        fields.insert("env".into(), "production".into());
        fields.insert("collector".into(), "perf".into());
        if fields.get("status").and_then(|status| status.as_u64()).is_some_and(|status| status >= 220) {
            fields.insert("alert".into(), true.into());
        }
    }};
}

/// A map of values, which most collectors use.
pub struct Map;

impl Model for Map {
    type Event = BTreeMap<String, serde_json::Value>;

    fn parse(line: &[u8]) -> Self::Event {
        serde_json::from_slice(line).expect("a line of JSON")
    }

    fn edit(event: &mut Self::Event) {
        edit_fields!(event);
    }

    fn encode(event: &Self::Event, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, event).expect("a vector takes all");
        out.push(b'\n');
    }
}

/// `serde_json`'s own value.
pub struct SerdeJson;

impl Model for SerdeJson {
    type Event = serde_json::Value;

    fn parse(line: &[u8]) -> Self::Event {
        serde_json::from_slice(line).expect("a line of JSON")
    }

    fn edit(event: &mut Self::Event) {
        edit_fields!(event.as_object_mut().expect("an object"));
    }

    fn encode(event: &Self::Event, out: &mut Vec<u8>) {
        serde_json::to_writer(&mut *out, event).expect("a vector takes all");
        out.push(b'\n');
    }
}

/// The tree of `simd-json` that borrows from the line where it can.
pub struct SimdJson;

impl Model for SimdJson {
    type Event = BorrowedValue<'static>;

    fn parse(line: &[u8]) -> Self::Event {
        simd_json::to_borrowed_value(&mut line.to_vec()).expect("a line of JSON").into_static()
    }

    fn edit(event: &mut Self::Event) {
        edit_borrowed(event);
    }

    fn encode(event: &Self::Event, out: &mut Vec<u8>) {
        encode_borrowed(event, out);
    }
}

fn edit_borrowed(event: &mut BorrowedValue<'_>) {
    edit_fields!(event.as_object_mut().expect("an object"));
}

fn encode_borrowed(event: &BorrowedValue<'_>, out: &mut Vec<u8>) {
    event.write(out).expect("a vector takes all");
    out.push(b'\n');
}

/// Only the transforms.
pub fn edit<M: Model>(events: u64) -> Option<Outcome> {
    let prepare = |state: &mut Vec<M::Event>, batch: &Batch| {
        *state = (0..batch.events.len()).map(|index| M::parse(batch.event(index))).collect();
    };
    let work = |state: &mut Vec<M::Event>, _: &Batch, (): ()| state.iter_mut().for_each(M::edit);
    let lines = |state: &mut Vec<M::Event>, _: &Batch| {
        let mut out = Vec::new();
        state.iter().for_each(|event| M::encode(event, &mut out));
        out
    };
    clocked(events, MIXED, &mut Vec::new(), prepare, work, lines)
}

/// Only the lines, from edited events.
pub fn encode<M: Model>(events: u64) -> Option<Outcome> {
    type State<M> = (Vec<<M as Model>::Event>, Vec<u8>);
    let prepare = |(trees, _): &mut State<M>, batch: &Batch| {
        *trees = (0..batch.events.len()).map(|index| M::parse(batch.event(index))).collect();
        trees.iter_mut().for_each(M::edit);
    };
    let work = |(trees, out): &mut State<M>, _: &Batch, (): ()| {
        out.clear();
        trees.iter().for_each(|event| M::encode(event, out));
    };
    clocked(events, MIXED, &mut (Vec::new(), Vec::new()), prepare, work, |(_, out), _| out.clone())
}

/// The complete work.
pub fn whole<M: Model>(events: u64) -> Option<Outcome> {
    whole_of::<M>(events, MIXED)
}

/// The same if no two events have the same keys.
pub fn odd<M: Model>(events: u64) -> Option<Outcome> {
    whole_of::<M>(events, ODD)
}

fn whole_of<M: Model>(events: u64, input: Input) -> Option<Outcome> {
    let work = |out: &mut Vec<u8>, batch: &Batch, (): ()| {
        out.clear();
        for index in 0..batch.events.len() {
            let mut event = M::parse(batch.event(index));
            M::edit(&mut event);
            M::encode(&event, out);
        }
    };
    clocked(events, input, &mut Vec::new(), |_, _| (), work, |out, _| out.clone())
}

/// The complete work with the tree of `simd-json` that borrows from the line. It writes into its text, so it needs a copy.
pub fn whole_borrowed(events: u64) -> Option<Outcome> {
    let (mut buffers, mut copy) = (Buffers::default(), Vec::new());
    let work = |out: &mut Vec<u8>, batch: &Batch, (): ()| {
        out.clear();
        for index in 0..batch.events.len() {
            copy.clear();
            copy.extend_from_slice(batch.event(index));
            let mut event = simd_json::to_borrowed_value_with_buffers(&mut copy, &mut buffers).expect("a line of JSON");
            edit_borrowed(&mut event);
            encode_borrowed(&event, out);
        }
    };
    clocked(events, MIXED, &mut Vec::new(), |_, _| (), work, |out, _| out.clone())
}
