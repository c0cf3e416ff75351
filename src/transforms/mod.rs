//! Transforms: verbs that change the events of a pipeline, in the order of its configuration.
//!
//! A verb is one file with a `Settings` type (strict serde, schema) that implements [`Verb`], and one line in the table below.
//! Opened on a shard it becomes that shard's own [`Transform`].
//!
//! Guarantees: a verb changes the event it is given and nothing else; one that finds nothing to do leaves the event as it is.

pub mod add;
pub mod branch;
pub mod condition;
pub mod copy;
pub mod filter;
pub mod keep;
pub mod pairs;
pub mod place;
pub mod remove;
pub mod rename;
mod table;
pub mod template;
#[cfg(test)]
mod tests;

use crate::config::component::{Facts, Mistake};
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId, Shapes};

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
    /// All that it does, if that is the same for all events of a shape.
    fn edits(&self) -> Option<Vec<EditId>> {
        None
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

    /// Checks what types alone cannot: the key in a mistake is relative to the verb's value.
    fn check(&self) -> Result<(), Mistake>;
    /// One shard's own instance.
    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform>;
}

/// Opens verbs in their order. Neighbours that depend on the shape alone become one step.
pub fn open_all(steps: &[Step], opening: &mut Opening<'_>) -> Vec<Box<dyn Transform>> {
    let mut opened: Vec<Box<dyn Transform>> = Vec::with_capacity(steps.len());
    let mut together = Vec::new();
    for step in steps {
        let transform = step.open(opening);
        match transform.edits() {
            Some(mut edits) => together.append(&mut edits),
            None => {
                opened.extend(joined(&mut together, opening));
                opened.push(transform);
            }
        }
    }
    opened.extend(joined(&mut together, opening));
    opened
}

/// One step that makes all these edits.
fn joined(edits: &mut Vec<EditId>, opening: &mut Opening<'_>) -> Option<Box<dyn Transform>> {
    let edits = std::mem::take(edits);
    match edits[..] {
        [] => None,
        [edit] => Some(Box::new(Edits(edit))),
        _ => Some(Box::new(Edits(opening.shapes.register_edit(Edit::All(edits))))),
    }
}

struct Edits(EditId);

impl Transform for Edits {
    #[inline]
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        record.edit(self.0);
        Verdict::Keep
    }
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
        Copy => copy::Settings,
        Drop => filter::Drop,
        Filter => filter::Filter,
        Keep => keep::Settings,
        Remove => remove::Settings,
        Rename => rename::Settings,
    }
}
