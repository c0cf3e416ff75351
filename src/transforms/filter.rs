//! `filter` and `drop`: keep or drop events by a condition.

use super::condition::{Condition, OpenCondition};
use super::{Opening, Transform, Verb, Verdict};
use crate::config::component::Doubtful;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;

/// The value is a condition. An event for which it is false is dropped. If the condition fails, for example because a field is
/// missing, the event is dropped too, and the failure is counted.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Filter(pub Condition);

/// The value is a condition. If it fails, for example because a field is missing, the event is kept, and the failure is
/// counted.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Drop(pub Condition);

impl Verb for Filter {
    const NAME: &'static str = "filter";
    const SUMMARY: &'static str = "keeps only the events that match a condition";
    const EXAMPLE: &'static str = "filter: level in [\"warn\", \"error\"]\n";
    const SAMPLE: &'static str = "{\"level\":\"info\",\"n\":1}\n{\"level\":\"warn\",\"n\":2}\n{\"n\":3}";

    fn doubts(&self) -> Vec<Doubtful> {
        self.0.doubts()
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Open { condition: self.0.open(opening), dropped_if: false })
    }
}

impl Verb for Drop {
    const NAME: &'static str = "drop";
    const SUMMARY: &'static str = "drops the events that match a condition";
    const EXAMPLE: &'static str = "drop: level == \"debug\"\n";
    const SAMPLE: &'static str = "{\"level\":\"debug\",\"n\":1}\n{\"level\":\"warn\",\"n\":2}\n{\"n\":3}";

    fn doubts(&self) -> Vec<Doubtful> {
        self.0.doubts()
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Open { condition: self.0.open(opening), dropped_if: true })
    }
}

struct Open {
    condition: OpenCondition,
    dropped_if: bool,
}

impl Transform for Open {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        if self.condition.holds(record) == self.dropped_if { Verdict::Drop } else { Verdict::Keep }
    }

    fn take_failures(&mut self) -> u64 {
        self.condition.take_failures()
    }
}
