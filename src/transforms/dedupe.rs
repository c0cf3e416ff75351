//! `dedupe`: drops events that repeat within a window.
//!
//! Guarantees: an event is dropped only if an equal event was kept less than a window before it. The memory is bounded; the
//! oldest event is forgotten first. Each input and shard remembers its own events: events of the same source are compared with
//! each other, events of two sources need not be. The time is that of the events, which is when they were read. A restart
//! forgets everything.

use super::key::{Key, OpenKey, of_event};
use super::{Opening, Transform, Verb, Verdict};
use crate::config::component::Mistake;
use crate::config::types::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Duration;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Record;

/// Of equal events within a window, the first is kept and the others are dropped.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Fields or templates: two events are equal if all of these are equal. Events that have none of the fields are kept. By
    /// default, all fields of the event except those that the input adds, in their order.
    #[serde(default)]
    pub fields: Option<Key>,
    /// How long equal events are dropped after an event was kept.
    #[serde(default = "window")]
    pub window: Period,
    /// The number of events to remember, per input and shard. Each takes 80 bytes. When the limit is reached, the oldest is
    /// forgotten, and its repetitions are kept.
    #[serde(default = "max")]
    pub max: usize,
}

fn window() -> Period {
    Period(Duration::from_secs(30))
}

fn max() -> usize {
    10_000
}

/// The largest number of events that can be remembered.
const MAX: usize = 10_000_000;

impl Verb for Settings {
    const NAME: &'static str = "dedupe";
    const SUMMARY: &'static str = "drops events that repeat within a time window";
    const EXAMPLE: &'static str = "dedupe: {fields: [request_id, message], window: 30s}\n";
    const SAMPLE: &'static str = concat!(
        "{\"request_id\":\"r1\",\"message\":\"slow\"}\n",
        "{\"request_id\":\"r1\",\"message\":\"slow\",\"took\":3}\n",
        "{\"request_id\":\"r2\",\"message\":\"slow\"}"
    );

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.window.0.is_zero() {
            mistakes.push(Mistake::new("window", "no event repeats within 0s", "write a window such as `30s`"));
        }
        if !(1..=MAX).contains(&self.max) {
            let what = format!("{} events cannot be remembered", self.max);
            mistakes.push(Mistake::new("max", what, "write a number from 1 to 10000000"));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Dedupe {
            key: self.fields.as_ref().map(|key| key.open(opening)),
            text: Vec::new(),
            seen: Seen::new(u64::try_from(self.window.0.as_nanos()).unwrap_or(u64::MAX), self.max),
        })
    }
}

struct Dedupe {
    key: Option<OpenKey>,
    text: Vec<u8>,
    seen: Seen,
}

impl Transform for Dedupe {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let key = match &mut self.key {
            Some(key) => key.of(record),
            None => Some(of_event(record, &mut self.text)),
        };
        match key {
            Some(key) if self.seen.repeats(key, record.arrived()) => Verdict::Drop,
            _ => Verdict::Keep,
        }
    }
}

/// The keys of the events that were kept most recently.
struct Seen {
    window_nanos: u64,
    max: usize,
    /// When the event with this key was kept.
    times: HashMap<u128, Timestamp, BuildHasherDefault<OfKey>>,
    /// The same in the order in which they were kept. A key that was kept again occurs twice, with both times.
    order: VecDeque<(u128, Timestamp)>,
}

impl Seen {
    fn new(window_nanos: u64, max: usize) -> Seen {
        Seen { window_nanos, max, times: HashMap::default(), order: VecDeque::new() }
    }

    /// Whether an event with this key was kept within the window. If not, this one is.
    fn repeats(&mut self, key: u128, now: Timestamp) -> bool {
        while self.order.front().is_some_and(|(_, time)| self.is_over(*time, now)) {
            self.forget_oldest();
        }
        if self.times.get(&key).is_some_and(|time| !self.is_over(*time, now)) {
            return true;
        }
        if self.order.len() >= self.max {
            self.forget_oldest();
        }
        self.times.insert(key, now);
        self.order.push_back((key, now));
        false
    }

    /// If the clock was set back far, events from later times count as old too.
    fn is_over(&self, time: Timestamp, now: Timestamp) -> bool {
        now.0.abs_diff(time.0) >= self.window_nanos
    }

    fn forget_oldest(&mut self) {
        if let Some((key, time)) = self.order.pop_front()
            && self.times.get(&key) == Some(&time)
        {
            self.times.remove(&key);
        }
    }
}

/// Keys are hashes already.
#[derive(Default)]
pub struct OfKey(u64);

impl Hasher for OfKey {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        debug_assert!(bytes.is_empty(), "keys are numbers of 128 bits");
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests::Bench;
    use crate::transforms::tests::{TIME, mistake};
    use proptest::prelude::*;

    fn after(milliseconds: i64) -> Timestamp {
        Timestamp(TIME.0 + milliseconds * 1_000_000)
    }

    #[test]
    fn repeats_go_until_the_window_of_the_first_is_over() {
        let mut bench = Bench::try_new("- dedupe: {fields: [id], window: 1s}").expect("valid");
        let mut kept = |line: &str, at| bench.event_at(line, after(at)).is_some();
        assert!(kept(r#"{"id":1,"n":1}"#, 0));
        assert!(!kept(r#"{"id":1,"n":2}"#, 600), "other fields do not count");
        assert!(kept(r#"{"id":"1"}"#, 600), "a string is no number");
        assert!(!kept(r#"{"id":1}"#, 999));
        assert!(kept(r#"{"id":1}"#, 1000), "repeats do not make the window longer");
        assert!(!kept(r#"{"id":1}"#, 1999));
        assert!(kept(r#"{"n":1}"#, 2000));
        assert!(kept(r#"{"n":1}"#, 2000), "an event without the field repeats nothing");
    }

    #[test]
    fn whole_events_are_compared_without_what_the_input_adds() {
        let mut bench = Bench::try_new("- dedupe: {}").expect("valid");
        assert!(bench.event(r#"{"a":"x","b":[1]}"#).is_some());
        assert!(bench.event_at(r#"{"a":"\u0078","b":[1]}"#, after(5)).is_none());
        assert!(bench.event(r#"{"a":"x","b":[2]}"#).is_some());
        assert!(bench.event(r#"{"a":"x"}"#).is_some());
        assert!(bench.event("text").is_some());
        assert!(bench.event("text").is_none());
    }

    #[test]
    fn the_oldest_is_forgotten_when_memory_is_full() {
        let mut seen = Seen::new(u64::MAX, 2);
        assert!(![1, 2, 3].iter().any(|key| seen.repeats(*key, after(0))));
        assert!(seen.repeats(3, after(1)) && seen.repeats(2, after(1)));
        assert!(!seen.repeats(1, after(1)), "it was forgotten for 3");
        assert_eq!((seen.times.len(), seen.order.len()), (2, 2));
    }

    #[test]
    fn clock_that_is_set_back_neither_drops_for_long_nor_grows() {
        let mut seen = Seen::new(1_000_000_000, 3);
        assert!(!seen.repeats(1, after(0)));
        assert!(!seen.repeats(2, after(500)));
        assert!(!seen.repeats(2, after(-3_600_000)), "an hour earlier it was not seen");
        assert!(seen.repeats(2, after(-3_600_000)));
        assert!(!seen.repeats(1, after(-3_600_000)));
        assert!(seen.order.len() <= 3);
    }

    #[test]
    fn windows_and_bounds_of_nothing_are_refused() {
        assert!(mistake("- dedupe: {window: 0s}").contains("0s"));
        assert!(mistake("- dedupe: {max: 0}").contains("0 events"));
        assert!(mistake("- dedupe: {fields: []}").contains("expected"));
    }

    proptest! {
        /// The model looks at all events that were kept.
        #[test]
        fn model_agrees(events in proptest::collection::vec((0u128..6, 0i64..400), 0..200), max in 1usize..8) {
            let mut seen = Seen::new(1_000_000_000, max);
            let mut kept: Vec<(u128, i64)> = Vec::new();
            let mut now = 0;
            for (key, step) in events {
                now += step;
                let from = kept.len().saturating_sub(max);
                let expected = kept[from..].iter().any(|(other, at)| *other == key && now - at < 1000);
                prop_assert_eq!(seen.repeats(key, after(now)), expected);
                if !expected {
                    kept.push((key, now));
                }
                prop_assert!(seen.order.len() <= max && seen.times.len() <= seen.order.len());
            }
        }
    }
}
