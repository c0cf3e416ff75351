//! Transforms: verbs that change the events of a pipeline, in the order of its configuration.
//!
//! A verb is one file with a `Settings` type (strict serde, schema) that implements [`Verb`], and one line in the table below.
//! Opened on a shard it becomes that shard's own [`Transform`].
//!
//! Guarantees: a verb changes the event it is given and nothing else; one that finds nothing to do leaves the event as it is.

pub mod add;
pub mod branch;
pub mod case;
pub mod condition;
pub mod convert;
pub mod copy;
pub mod filter;
pub mod flatten;
pub mod hash;
pub mod keep;
mod number;
pub mod pairs;
pub mod parse;
pub mod place;
pub mod redact;
pub mod remove;
pub mod rename;
pub mod replace;
mod secrets;
pub mod short;
mod table;
pub mod template;
#[cfg(test)]
mod tests;
mod text;
pub mod timestamp;
pub mod unflatten;

use crate::config::component::{Facts, Mistake};
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
}

/// One shard's own instance of a verb. Hot: called for each event, allocates nothing in steady state.
pub trait Transform {
    /// Changes the event.
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict;
    /// Events on which it could not do its work since the last call.
    fn take_failures(&mut self) -> u64 {
        0
    }
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
    /// Events, one a line, that show in the docs what the example does.
    const SAMPLE: &'static str = SAMPLE;

    /// Checks what types alone cannot: the key in a mistake is relative to the verb's value.
    fn check(&self) -> Result<(), Mistake>;
    /// One shard's own instance.
    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform>;
}

/// The event of the docs for verbs that need no special one.
pub const SAMPLE: &str =
    r#"{"level":"error","msg":"login failed","user":{"id":42,"email":"ann@example.com"},"status":500}"#;

/// Opens verbs in their order.
pub fn open_all(steps: &[Step], opening: &mut Opening<'_>) -> Vec<Box<dyn Transform>> {
    steps.iter().map(|step| step.open(opening)).collect()
}

/// Gives an event to verbs in their order, until one drops it.
pub fn run_all(transforms: &mut [Box<dyn Transform>], record: &mut Record<'_>) -> Verdict {
    for transform in transforms {
        if transform.apply(record) == Verdict::Drop {
            return Verdict::Drop;
        }
    }
    Verdict::Keep
}

crate::transforms! {
    /// A verb and its settings: a map with the verb as its only key.
    pub enum Step {
        Add => add::Settings,
        Convert => convert::Settings,
        Copy => copy::Settings,
        Drop => filter::Drop,
        Filter => filter::Filter,
        Flatten => flatten::Settings,
        Hash => hash::Settings,
        Keep => keep::Settings,
        Lowercase => case::Lower,
        Parse => parse::Settings,
        Redact => redact::Settings,
        Remove => remove::Settings,
        Rename => rename::Settings,
        Replace => replace::Settings,
        Timestamp => timestamp::Settings,
        Unflatten => unflatten::Settings,
        Uppercase => case::Upper,
    }
}
