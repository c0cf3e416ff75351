//! `sample`: keeps a fraction of the events.
//!
//! Guarantees: with a key, either all events of this key are kept or none, with the same result on every shard, in every
//! process and after every restart. Without a key, events are kept at even intervals, beginning with the first, counted per
//! input and shard.

use super::condition::{Condition, OpenCondition};
use super::key::{Key, OpenKey};
use super::place::Place;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::path::Path;
use crate::config::component::{Doubtful, Mistake};
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;

/// Write either `rate` (a fraction) or `one_in` (a whole number) to say how many events to keep. The others are dropped.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The fraction of the events to keep: above 0, at most 1.
    #[serde(default)]
    pub rate: Option<f64>,
    /// Keep one event out of this many.
    #[serde(default)]
    pub one_in: Option<u64>,
    /// A field, a template, or a list of them: of the events with the same key, all are kept or none. Events that have none of
    /// the fields are kept. By default, events are kept at even intervals, beginning with the first.
    #[serde(default)]
    pub key: Option<Key>,
    /// Events that match this condition are always kept, and are not counted among the others.
    #[serde(default)]
    pub unless: Option<Condition>,
    /// A field for the rate at which the event was kept: 1 for events that are always kept.
    #[serde(default)]
    pub rate_field: Option<Path>,
}

/// The number of parts of a rate: a rate is a multiple of one part.
const WHOLE: u128 = 1 << 64;

impl Settings {
    fn step(&self) -> Result<u128, Mistake> {
        let help = "write `rate: 0.1` or `one_in: 10` to keep a tenth of the events, or `drop: true` to drop all";
        let mistake = |key: &str, what: &str| Mistake::new(key, what, help).needing(&["rate", "one_in"]);
        match (self.rate, self.one_in) {
            (Some(_), Some(_)) => Err(mistake("one_in", "`rate` and `one_in` cannot be combined")),
            (None, None) => {
                Err(mistake("", "`rate` and `one_in` are both missing, so it is unknown how many events to keep"))
            }
            (Some(rate), None) if !(rate > 0.0 && rate <= 1.0) => {
                Err(mistake("rate", "`rate` must be above 0 and at most 1"))
            }
            (Some(rate), None) => Ok(((rate * WHOLE as f64).ceil() as u128).min(WHOLE)),
            (None, Some(0)) => Err(mistake("one_in", "`one_in: 0` would keep no event")),
            (None, Some(one_in)) => Ok(WHOLE.div_ceil(u128::from(one_in))),
        }
    }

    fn rate_json(&self) -> String {
        let rate = self.rate.unwrap_or(1.0 / self.one_in.unwrap_or(1) as f64);
        serde_json::Value::from(rate).to_string()
    }
}

impl Verb for Settings {
    const NAME: &'static str = "sample";
    const SUMMARY: &'static str = "keeps a fraction of the events";
    const EXAMPLE: &'static str = "sample: {one_in: 10, key: trace_id, unless: level == \"error\"}\n";
    const SAMPLE: &'static str = concat!(
        "{\"trace_id\":\"a1\",\"level\":\"info\"}\n",
        "{\"trace_id\":\"b2\",\"level\":\"info\"}\n",
        "{\"trace_id\":\"b2\",\"level\":\"error\"}"
    );

    fn check(&self) -> Vec<Mistake> {
        self.step().err().into_iter().collect()
    }

    fn doubts(&self) -> Vec<Doubtful> {
        let doubts = self.unless.as_ref().map(Condition::doubts).unwrap_or_default();
        doubts.into_iter().map(|doubt| doubt.below("unless")).collect()
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let step = self.step().unwrap_or(WHOLE);
        Box::new(Sample {
            step,
            // The first event reaches the threshold.
            sum: (WHOLE - step) as u64,
            key: self.key.as_ref().map(|key| key.open(opening)),
            unless: self.unless.as_ref().map(|condition| condition.open(opening)),
            rate: self.rate_field.as_ref().map(|path| (Place::new(path, opening), self.rate_json().into_bytes())),
        })
    }
}

struct Sample {
    step: u128,
    sum: u64,
    key: Option<OpenKey>,
    unless: Option<OpenCondition>,
    rate: Option<(Place, Vec<u8>)>,
}

impl Sample {
    fn takes(&mut self, record: &Record<'_>) -> bool {
        match &mut self.key {
            // The upper half of the hash, so that tables that use the lower half are not affected.
            Some(key) => key.of(record).is_none_or(|key| key >> 64 < self.step),
            None => {
                let sum = u128::from(self.sum) + self.step;
                self.sum = sum as u64;
                sum >= WHOLE
            }
        }
    }
}

impl Transform for Sample {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let always = self.unless.as_mut().is_some_and(|condition| condition.holds(record));
        if !always && !self.takes(record) {
            return Verdict::Drop;
        }
        if let Some((place, rate)) = &mut self.rate {
            place.put(record, if always { b"1" } else { rate });
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        self.unless.as_mut().map_or(0, OpenCondition::take_failures)
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, mistake};

    fn kept(list: &str, events: impl Iterator<Item = String>) -> Vec<usize> {
        let mut bench = Bench::try_new(list).expect("valid");
        events.enumerate().filter_map(|(number, event)| bench.event(&event).map(|_| number)).collect()
    }

    fn plain() -> impl Iterator<Item = String> {
        (0..).map(|number| format!("{{\"n\":{number}}}"))
    }

    #[test]
    fn kept_events_are_at_even_distances() {
        assert_eq!(kept("- sample: {one_in: 3}", plain().take(10)), [0, 3, 6, 9]);
        assert_eq!(kept("- sample: {rate: 0.5}", plain().take(6)), [0, 2, 4]);
        assert_eq!(kept("- sample: {rate: 1}", plain().take(3)), [0, 1, 2]);
        assert_eq!(kept("- sample: {one_in: 1}", plain().take(3)), [0, 1, 2]);
        assert_eq!(kept("- sample: {rate: 0.1}", plain().take(10_000)).len(), 1000);
        assert_eq!(kept("- sample: {rate: 0.3}", plain().take(10_000)).len(), 3000);
    }

    #[test]
    fn events_of_one_key_share_their_fate() {
        let events = (0..6000).map(|number| format!("{{\"user\":{{\"id\":\"u{}\"}},\"n\":{number}}}", number % 1000));
        let kept = kept("- sample: {rate: 0.25, key: user.id}", events);
        let first: Vec<usize> = kept.iter().copied().filter(|number| *number < 1000).collect();
        assert!((200..300).contains(&first.len()), "{}", first.len());
        let all: Vec<usize> = (0..6).flat_map(|round| first.iter().map(move |number| number + round * 1000)).collect();
        assert_eq!(kept, all);
    }

    #[test]
    fn keys_do_not_depend_on_the_spelling_and_missing_ones_are_kept() {
        let mut bench = Bench::try_new("- sample: {one_in: 2, key: [a, b]}").expect("valid");
        let fates: Vec<bool> = (0..50).map(|n| bench.event(&format!("{{\"a\":\"x{n}\"}}")).is_some()).collect();
        let again: Vec<bool> = (0..50).map(|n| bench.event(&format!("{{\"a\":\"\\u0078{n}\"}}")).is_some()).collect();
        assert_eq!(fates, again);
        assert!(fates.contains(&true) && fates.contains(&false));
        let mut template = Bench::try_new("- sample: {one_in: 1000000, key: \"{{ a }}\"}").expect("valid");
        assert!(template.event("{\"a\":1}").is_none(), "a template is a key whatever the event has");
        assert!((0..100).all(|n| bench.event(&format!("{{\"n\":{n}}}")).is_some()));
    }

    #[test]
    fn rate_is_told_and_exceptions_do_not_count() {
        let list = "- sample: {one_in: 4, unless: level == \"error\", rate_field: sample.rate}";
        let mut bench = Bench::try_new(list).expect("valid");
        let fields = |text: Option<String>| text.map(|text| text.replacen(r#"{"file":"a.log","#, "{", 1));
        let (info, error) = (r#"{"level":"info"}"#, r#"{"level":"error"}"#);
        assert_eq!(fields(bench.event(info)).as_deref(), Some(r#"{"level":"info","sample":{"rate":0.25}}"#));
        for _ in 0..3 {
            assert_eq!(fields(bench.event(error)).as_deref(), Some(r#"{"level":"error","sample":{"rate":1}}"#));
            assert_eq!(bench.event(info), None);
        }
        assert!(bench.event(info).is_some());
        assert!(bench.event("{\"x\":1}").is_none());
        assert_eq!(bench.failures(), 1, "a condition without its field does not hold");
    }

    #[test]
    fn rates_that_keep_nothing_or_mean_nothing_are_refused() {
        assert!(mistake("- sample: {rate: 0}").contains("above 0"));
        assert!(mistake("- sample: {rate: 1.5}").contains("at most 1"));
        assert!(mistake("- sample: {one_in: 0}").contains("would keep no event"));
        assert!(mistake("- sample: {}").contains("are both missing"));
        assert!(mistake("- sample: {rate: 0.5, one_in: 2}").contains("cannot be combined"));
        assert!(mistake("- sample: {rate: 0.5, key: \"{{ a\"}").contains("not closed"));
    }
}
