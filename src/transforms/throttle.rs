//! `throttle`: drops events that exceed a rate, separately for each key.
//!
//! Guarantees: of one key, at most `burst` events pass at once, and at most `rate` in each `per` after that. The limit is
//! exact: a token bucket in whole numbers. The number of remembered keys is bounded: a new key replaces one whose bucket is
//! full, or else the fullest of a few, which starts again when its key returns. Each input and shard has its own buckets. The
//! time is that of the events, which is when they were read.

use super::dedupe::OfKey;
use super::key::{Key, OpenKey};
use super::{Opening, Transform, Verb, Verdict};
use crate::config::component::Mistake;
use crate::config::types::Period;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::Duration;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Record;

/// At most `rate` events pass in each `per`. The others are dropped, counted as `throttled`, and reported in the application log.
/// The time is that at which events are read, not that at which they were written: of the lines that gathered while Tailwater was
/// stopped, or before its first start, little more than `burst` pass. Set `burst` to the largest backlog of a key that must not be lost.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A field, a template, or a list of them: the limit applies to each key separately. Events that have none of the fields
    /// share one limit. By default, all events share one limit.
    #[serde(default)]
    pub key: Option<Key>,
    /// The number of events that pass in each `per`.
    pub rate: u64,
    /// The period of `rate`.
    #[serde(default = "per")]
    pub per: Period,
    /// The number of events that pass at once after a pause. By default, the value of `rate`.
    #[serde(default)]
    pub burst: Option<u64>,
    /// The number of keys to remember, per input and shard. Each takes 100 bytes. When the limit is reached, a key is
    /// forgotten, and its limit starts again.
    #[serde(default = "max_keys")]
    pub max_keys: usize,
}

fn per() -> Period {
    Period(Duration::from_secs(1))
}

fn max_keys() -> usize {
    10_000
}

/// The largest rate and burst: with them, times in fractions of a nanosecond easily fit 128 bits.
const EVENTS_MAX: u64 = 1_000_000_000;

/// The largest number of keys that can be remembered.
const KEYS_MAX: usize = 10_000_000;

impl Verb for Settings {
    const NAME: &'static str = "throttle";
    const SUMMARY: &'static str = "drops events that exceed a rate";
    const EXAMPLE: &'static str = "throttle: {key: service, rate: 1, per: 1s, burst: 2}\n";
    const SAMPLE: &'static str = concat!(
        "{\"service\":\"api\",\"n\":1}\n{\"service\":\"api\",\"n\":2}\n",
        "{\"service\":\"api\",\"n\":3}\n{\"service\":\"web\",\"n\":4}"
    );

    fn check(&self) -> Vec<Mistake> {
        let range = format!("write a number from 1 to {EVENTS_MAX}");
        let bad = |events: u64| !(1..=EVENTS_MAX).contains(&events);
        let mut mistakes = Vec::new();
        if bad(self.rate) {
            mistakes.push(Mistake::new("rate", format!("a rate of {} events", self.rate), &*range));
        }
        if self.burst.is_some_and(bad) {
            mistakes.push(Mistake::new("burst", "`burst` is too small or too large", &*range));
        }
        if self.per.0.is_zero() || self.per.0 > Duration::from_secs(366 * 86_400) {
            let help = "write a time such as `1s` or `1h`, at most a year";
            mistakes.push(Mistake::new("per", format!("a rate per {}", self.per), help));
        }
        if !(1..=KEYS_MAX).contains(&self.max_keys) {
            let what = format!("{} keys cannot be remembered", self.max_keys);
            mistakes.push(Mistake::new("max_keys", what, format!("write a number from 1 to {KEYS_MAX}")));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let rule = Rule {
            rate: i128::from(self.rate),
            per: self.per.0.as_nanos() as i128,
            burst: i128::from(self.burst.unwrap_or(self.rate)),
        };
        Box::new(Throttle {
            key: self.key.as_ref().map(|key| key.open(opening)),
            buckets: Buckets { rule, max: self.max_keys, places: HashMap::default(), buckets: Vec::new(), hand: 0 },
        })
    }
}

struct Throttle {
    key: Option<OpenKey>,
    buckets: Buckets,
}

impl Transform for Throttle {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let key = self.key.as_mut().and_then(|key| key.of(record)).unwrap_or(0);
        match self.buckets.passes(key, record.arrived()) {
            true => Verdict::Keep,
            false => Verdict::Throttle,
        }
    }
}

/// Times are in nanoseconds times `rate`, so that an event costs `per`, which is a whole number.
#[derive(Clone, Copy)]
struct Rule {
    rate: i128,
    per: i128,
    burst: i128,
}

impl Rule {
    /// Whether an event passes at `now` through a bucket that is full at `full_at`. If it does, `full_at` moves.
    fn passes(self, full_at: &mut i128, now: i128) -> bool {
        // More than empty: the clock was set back, and nobody knows how much time went by. Nothing is dropped for that.
        let is_set_back = *full_at > now + self.burst * self.per;
        let at = if is_set_back { now } else { now.max(*full_at) };
        *full_at = at;
        let passes = at - now <= (self.burst - 1) * self.per;
        if passes {
            *full_at += self.per;
        }
        passes
    }
}

/// The buckets of the most recent keys.
struct Buckets {
    rule: Rule,
    max: usize,
    places: HashMap<u128, u32, BuildHasherDefault<OfKey>>,
    /// Keys, and the time at which their buckets are full.
    buckets: Vec<(u128, i128)>,
    /// Where the search for a bucket to replace continues.
    hand: usize,
}

/// The number of buckets that are examined to find one to replace.
const LOOKED_AT: usize = 8;

impl Buckets {
    fn passes(&mut self, key: u128, now: Timestamp) -> bool {
        let now = i128::from(now.0) * self.rule.rate;
        let place = match self.places.get(&key) {
            Some(place) => *place as usize,
            None => self.place_for(key, now),
        };
        self.rule.passes(&mut self.buckets[place].1, now)
    }

    fn place_for(&mut self, key: u128, now: i128) -> usize {
        let place = match self.buckets.len() < self.max {
            true => {
                self.buckets.push((key, now));
                self.buckets.len() - 1
            }
            false => {
                let place = self.fullest(now);
                self.places.remove(&self.buckets[place].0);
                self.buckets[place] = (key, now);
                place
            }
        };
        self.places.insert(key, place as u32);
        place
    }

    /// A full bucket near the hand, or else the fullest one there.
    fn fullest(&mut self, now: i128) -> usize {
        let mut best = self.hand;
        for _ in 0..LOOKED_AT.min(self.buckets.len()) {
            let at = self.hand;
            self.hand = (at + 1) % self.buckets.len();
            if self.buckets[at].1 < self.buckets[best].1 {
                best = at;
            }
            if self.buckets[at].1 <= now {
                return at;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transforms::tests::{Bench, TIME, mistake};
    use proptest::prelude::*;

    fn after(milliseconds: i64) -> Timestamp {
        Timestamp(TIME.0 + milliseconds * 1_000_000)
    }

    #[test]
    fn burst_passes_and_then_the_rate() {
        let mut bench = Bench::try_new("- throttle: {rate: 10, burst: 3}").expect("valid");
        let mut passes = |at| bench.event_at("{\"a\":1}", after(at)).is_some();
        assert_eq!([0; 5].map(&mut passes), [true, true, true, false, false]);
        assert_eq!([99, 100, 101, 199, 200].map(&mut passes), [false, true, false, false, true]);
        assert_eq!([5000; 4].map(&mut passes), [true, true, true, false]);
    }

    #[test]
    fn keys_do_not_take_from_each_other() {
        let mut bench = Bench::try_new("- throttle: {key: svc, rate: 1, per: 1m}").expect("valid");
        let mut passes = |line: &str| bench.event(line).is_some();
        assert!(passes(r#"{"svc":"a"}"#) && passes(r#"{"svc":"b"}"#));
        assert!(!passes(r#"{"svc":"a"}"#) && !passes(r#"{"svc":"b"}"#));
        assert!(passes(r#"{"x":1}"#));
        assert!(!passes(r#"{"y":1}"#), "those without a key share a bucket");
    }

    fn buckets(rate: i128, per: i128, burst: i128, max: usize) -> Buckets {
        Buckets { rule: Rule { rate, per, burst }, max, places: HashMap::default(), buckets: Vec::new(), hand: 0 }
    }

    #[test]
    fn memory_is_bounded_and_full_buckets_go_first() {
        let mut buckets = buckets(1, 1_000_000_000, 1, 4);
        assert!((1..=4).all(|key| buckets.passes(key, after(0))));
        assert!(buckets.passes(1, after(1500)), "the others are full again");
        assert!(buckets.passes(5, after(1500)) && buckets.passes(6, after(1500)) && buckets.passes(7, after(1500)));
        assert!(!buckets.passes(1, after(1500)), "it is remembered");
        assert!((10..1000).all(|key| buckets.passes(key, after(1500))), "new keys pass");
        assert_eq!((buckets.buckets.len(), buckets.places.len()), (4, 4));
    }

    #[test]
    fn clock_that_is_set_back_drops_no_events() {
        let mut buckets = buckets(1, 1_000_000_000, 2, 4);
        assert!(buckets.passes(1, after(0)) && buckets.passes(1, after(0)) && !buckets.passes(1, after(0)));
        assert!(buckets.passes(1, after(-3_600_000)) && buckets.passes(1, after(-3_600_000)));
        assert!(!buckets.passes(1, after(-3_600_000)), "the limit holds from then on");
        assert!(buckets.passes(1, after(-3_600_000 + 1000)) && !buckets.passes(1, after(-3_600_000 + 1000)));
    }

    #[test]
    fn rates_of_nothing_are_refused() {
        assert!(mistake("- throttle: {rate: 0}").contains("rate of 0"));
        assert!(mistake("- throttle: {rate: 1, burst: 0}").contains("burst"));
        assert!(mistake("- throttle: {rate: 1, per: 0s}").contains("per 0s"));
        assert!(mistake("- throttle: {rate: 1, max_keys: 0}").contains("0 keys"));
        assert!(mistake("- throttle: {}").contains("rate"));
    }

    proptest! {
        /// The model is a bucket that is filled drop by drop.
        #[test]
        fn model_agrees(rate in 1i128..50, per in 1i128..2000, burst in 1i128..20,
            steps in proptest::collection::vec((0u128..3, 0i64..300), 0..300)) {
            let mut buckets = buckets(rate, per, burst, 3);
            let mut models = [(burst * per, TIME.0); 3];
            let mut now = TIME.0;
            for (key, step) in steps {
                now += step;
                let (level, last) = &mut models[key as usize];
                *level = (*level + i128::from(now - *last) * rate).min(burst * per);
                *last = now;
                let expected = *level >= per;
                *level -= if expected { per } else { 0 };
                prop_assert_eq!(buckets.passes(key, Timestamp(now)), expected);
            }
        }

        /// In no stretch of time pass more events than the burst and what the rate allows in it.
        #[test]
        fn rate_is_kept_in_every_stretch(rate in 1i128..20, burst in 1i128..10,
            steps in proptest::collection::vec(0i64..200_000_000, 1..200)) {
            let mut buckets = buckets(rate, 1_000_000_000, burst, 1);
            let mut passed = Vec::new();
            let mut now = 0;
            for step in steps {
                now += step;
                if buckets.passes(0, Timestamp(now)) {
                    passed.push(now);
                }
            }
            for (first, from) in passed.iter().enumerate() {
                for (last, to) in passed.iter().enumerate().skip(first) {
                    let allowed = burst + i128::from(to - from) * rate / 1_000_000_000;
                    prop_assert!((last - first + 1) as i128 <= allowed);
                }
            }
        }
    }
}
