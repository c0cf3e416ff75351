//! Transforms: verbs that change the events of a pipeline, in the order of its configuration.
//!
//! A verb is one file with a `Settings` type (strict serde, schema) that implements [`Verb`], and one line in the table below.
//! Opened on a shard it becomes that shard's own [`Transform`].
//!
//! Guarantees: a verb changes the event it is given and nothing else; one that finds nothing to do leaves the event as it is.

pub mod add;
pub mod aggregate;
pub mod branch;
pub mod case;
pub mod condition;
pub mod convert;
pub mod copy;
pub mod dedupe;
pub mod enrich;
pub mod filter;
pub mod flatten;
pub mod hash;
pub mod keep;
pub mod key;
mod number;
pub mod pairs;
pub mod parse;
pub mod place;
pub mod reasons;
pub mod redact;
pub mod remove;
pub mod rename;
pub mod replace;
pub mod sample;
mod secrets;
pub mod short;
mod table;
pub mod template;
#[cfg(test)]
mod tests;
mod text;
pub mod throttle;
pub mod timestamp;
pub mod unflatten;
pub mod validate;

use crate::config::component::{Facts, Mistake};
use enrich::watched::{Files, Kept};
use reasons::Before;
use std::sync::Arc;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::Timestamp;
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
    /// It is counted in an aggregate, which leaves in its place.
    Aggregate,
    /// It goes to the dead letter queue, for the reason that was given with [`Record::give_up`].
    DeadLetter,
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
    /// When it has events of its own to make, though none comes.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// Makes the next of the events that are due: fills `record`, which has no fields but what the input knows of all events, and
    /// says what becomes of it. None, and the record as it was, if none is left; then it is not called again before more is due.
    fn emit(&mut self, now: Now, record: &mut Record<'_>) -> Option<Verdict> {
        let _ = (now, record);
        None
    }
    /// Says where the events that follow come from: once for each batch.
    fn begin(&mut self, origin: Origin) {
        let _ = origin;
    }
    /// The lowest position of a source from where on events are counted in what it has not made yet and have to be read again if
    /// that is lost; where their batch began is good enough. None if there is no such event.
    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let _ = source;
        None
    }
    /// Events that are counted in what it has not made yet.
    fn held(&self) -> u64 {
        0
    }
}

/// Where the events of a batch come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Their source.
    pub source: SourceKey,
    /// The position in it at which the batch begins.
    pub from: u64,
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
    /// Events, one a line, that show in the docs what the example does; none if it needs more than events.
    const SAMPLE: &'static str = SAMPLE;
    /// What it means when it could not do its work on an event and [`Verb::explain`] knows no more.
    const FAILURE: &'static str = FAILURE;

    /// Checks what types alone cannot: the key in a mistake is relative to the verb's value.
    fn check(&self) -> Result<(), Mistake>;
    /// What it runs with, though it is probably not meant: keys as above.
    fn doubts(&self) -> Vec<Mistake> {
        Vec::new()
    }
    /// One shard's own instance.
    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform>;
    /// Why it could not do its work on an event, or let it go; none where no more can be told. Cold: asked by those who show one
    /// event, after it was done.
    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let _ = before;
        None
    }
    /// All that keeps the files that it looks things up in from being used. May block.
    fn check_files(&self, files: &dyn Files) -> Vec<Mistake> {
        let _ = files;
        Vec::new()
    }
    /// Files that it looks things up in: loaded before it is opened, and kept up to date while it runs.
    fn kept(&self) -> Vec<Arc<dyn Kept>> {
        Vec::new()
    }
}

/// Refuses a verb that names no field: it was meant to have one.
fn refuse_empty<T>(fields: &[T], effect: &str, example: &str) -> Result<(), Mistake> {
    match fields {
        [] => Err(Mistake {
            key: String::new(),
            what: format!("no field is named: {effect}"),
            help: format!("write it like `{example}`, or leave the entry out"),
        }),
        _ => Ok(()),
    }
}

/// What a failure means of which no more is known.
const FAILURE: &str = "something is in the way of a value, or the event has no room for it";

/// The event of the docs for verbs that need no special one.
pub const SAMPLE: &str =
    r#"{"level":"error","msg":"login failed","user":{"id":42,"email":"ann@example.com"},"status":500}"#;

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

/// Makes the next event that one of the verbs has due, and gives it to those behind it: what becomes of it; none if none is left.
pub fn emit_next(transforms: &mut [Box<dyn Transform>], now: Now, record: &mut Record<'_>) -> Option<Verdict> {
    let count = transforms.len();
    let emit = |place: usize| transforms[place].emit(now, record).map(|verdict| (place, verdict));
    match (0..count).find_map(emit)? {
        (place, Verdict::Keep) => Some(run_all(&mut transforms[place + 1..], record)),
        (_, gone) => Some(gone),
    }
}

crate::transforms! {
    /// A verb and its settings: a map with the verb as its only key.
    pub enum Step {
        Add => add::Settings,
        Aggregate => aggregate::Settings,
        Convert => convert::Settings,
        Copy => copy::Settings,
        Dedupe => dedupe::Settings,
        Drop => filter::Drop,
        Enrich => enrich::Settings,
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
        Sample => sample::Settings,
        Throttle => throttle::Settings,
        Timestamp => timestamp::Settings,
        Unflatten => unflatten::Settings,
        Uppercase => case::Upper,
        Validate => validate::Settings,
    }
}
