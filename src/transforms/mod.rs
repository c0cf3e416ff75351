//! Transforms: verbs that change the events of a pipeline, in the order of its configuration.
//!
//! A verb is one file with a `Settings` type (strict serde, schema) that implements [`Verb`], and one line in the table below.
//! Opened on a shard it becomes that shard's own [`Transform`].
//!
//! Guarantees: a verb changes the event it is given and nothing else; one that finds nothing to do leaves the event as it is.

pub mod add;
pub mod aggregate;
pub mod branch;
pub mod condition;
pub mod copy;
pub mod dedupe;
pub mod enrich;
pub mod filter;
pub mod keep;
pub mod key;
pub mod pairs;
pub mod place;
pub mod remove;
pub mod rename;
pub mod sample;
mod table;
pub mod template;
#[cfg(test)]
mod tests;
pub mod throttle;
pub mod validate;

use crate::config::component::{Facts, Mistake};
use enrich::watched::Kept;
use std::sync::Arc;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Record;
use tailwater_shards::shape::Shapes;

pub use table::{Row, verb_schema};

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next verb has it.
    Keep,
    /// It is not kept in this pipeline.
    Drop,
    /// It is counted in an aggregate, which leaves in its place.
    Aggregate,
}

/// One shard's own instance of a verb. Hot: called for each event, allocates nothing in steady state.
pub trait Transform {
    /// Changes the event.
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict;
    /// Events on which it could not do its work since the last call.
    fn take_failures(&mut self) -> u64 {
        0
    }
    /// When it has events of its own to make, though none comes.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// Makes the next of the events that are due: fills `record`, which has no fields but what the input knows of all events.
    /// False, and the record as it was, if none is left; then it is not called again before more is due.
    fn emit(&mut self, now: Now, record: &mut Record<'_>) -> bool {
        let _ = (now, record);
        false
    }
    /// Whether events are counted in what it has not made yet that have to be read again if that is lost.
    fn holds(&self) -> bool {
        false
    }
    /// Events that are counted in what it has not made yet.
    fn held(&self) -> u64 {
        0
    }
}

/// The moment at which verbs make events of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clock of the host.
    pub time: Timestamp,
    /// It is the last one: everything is due.
    pub last: bool,
}

/// What a verb is opened with.
pub struct Opening<'a> {
    /// The shapes of the events: names and edits are prepared here.
    pub shapes: &'a mut Shapes,
    /// Facts of the host.
    pub facts: &'a Facts,
}

/// What every verb's settings say about themselves.
pub trait Verb {
    /// The verb.
    const NAME: &'static str;
    /// One line.
    const SUMMARY: &'static str;
    /// Its entry in `transforms`, which `validate` accepts as it is.
    const EXAMPLE: &'static str;

    /// Checks what types alone cannot: the key in a mistake is relative to the verb's value.
    fn check(&self) -> Result<(), Mistake>;
    /// One shard's own instance.
    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform>;
    /// Files that it looks things up in: loaded before it is opened, and kept up to date while it runs.
    fn kept(&self) -> Vec<Arc<dyn Kept>> {
        Vec::new()
    }
}

/// Opens verbs in their order.
pub fn open_all(steps: &[Step], opening: &mut Opening<'_>) -> Vec<Box<dyn Transform>> {
    steps.iter().map(|step| step.open(opening)).collect()
}

/// Gives an event to verbs in their order, until one does not keep it.
pub fn run_all(transforms: &mut [Box<dyn Transform>], record: &mut Record<'_>) -> Verdict {
    for transform in transforms {
        match transform.apply(record) {
            Verdict::Keep => {}
            gone => return gone,
        }
    }
    Verdict::Keep
}

/// Makes the next event that one of the verbs has due, and gives it to those behind it; false if none is left.
pub fn emit_all(transforms: &mut [Box<dyn Transform>], now: Now, record: &mut Record<'_>) -> bool {
    let empty = record.shape();
    for place in 0..transforms.len() {
        while transforms[place].emit(now, record) {
            if run_all(&mut transforms[place + 1..], record) == Verdict::Keep {
                return true;
            }
            record.set_shape(empty);
        }
    }
    false
}

crate::transforms! {
    /// A verb and its settings: a map with the verb as its only key.
    pub enum Step {
        Add => add::Settings,
        Aggregate => aggregate::Settings,
        Copy => copy::Settings,
        Dedupe => dedupe::Settings,
        Drop => filter::Drop,
        Enrich => enrich::Settings,
        Filter => filter::Filter,
        Keep => keep::Settings,
        Remove => remove::Settings,
        Rename => rename::Settings,
        Sample => sample::Settings,
        Throttle => throttle::Settings,
        Validate => validate::Settings,
    }
}
