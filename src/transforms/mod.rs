//! Transforms: they change the events of a pipeline, in the order of its configuration. The code calls them verbs.
//!
//! A verb is one file with a `Settings` type (strict serde, schema) that implements [`Verb`], and one line in the table below.
//! Opened on a shard, it becomes a [`Transform`] that belongs to this shard.
//!
//! Guarantees: a verb changes only the event that it is given. If it has nothing to do, the event stays unchanged.

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
pub mod theirs;
pub mod throttle;
pub mod timestamp;
pub mod unflatten;
pub mod validate;

use crate::config::component::{Doubtful, Facts, Mistake};
use enrich::watched::{Files, Kept};
use reasons::Before;
use std::sync::Arc;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId, Shapes};

pub use table::{Row, verb_schema};

/// What happens to an event next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the next verb.
    Keep,
    /// It is dropped from this pipeline.
    Drop,
    /// The same, because it exceeds a rate: nobody chose this event, so it is told.
    Throttle,
    /// It is counted in an aggregate, which replaces it.
    Aggregate,
    /// It goes to the dead letter queue, with the reason passed to [`Record::give_up`].
    DeadLetter,
}

/// The instance of a verb on one shard. Hot: called for each event; allocates nothing in steady state.
pub trait Transform {
    /// Changes the event.
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict;
    /// The number of events on which it failed since the last call.
    fn take_failures(&mut self) -> u64 {
        0
    }
    /// Everything that it does, if this is the same for all events of a shape.
    fn edits(&self) -> Option<Vec<EditId>> {
        None
    }
    /// The time at which it makes events of its own, even if no event arrives.
    fn due(&self) -> Option<Timestamp> {
        None
    }
    /// Makes the next event that is due: fills `record`, which has only the fields that the input adds, and returns what
    /// happens to it. Returns none, and leaves the record unchanged, if no event is left; it is then not called again until the
    /// next one is due.
    fn emit(&mut self, now: Now, record: &mut Record<'_>) -> Option<Verdict> {
        let _ = (now, record);
        None
    }
    /// Announces the origin of the next events, once per batch.
    fn begin(&mut self, origin: Origin) {
        let _ = origin;
    }
    /// The lowest position of a source from which events must be read again if what it holds is lost, because they are counted
    /// in events that it has not made yet. The start of their batch is precise enough. None if there is no such event.
    fn held_from(&self, source: SourceKey) -> Option<u64> {
        let _ = source;
        None
    }
    /// The number of events that are counted in events that it has not made yet.
    fn held(&self) -> u64 {
        0
    }
}

/// The origin of the events of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Their source.
    pub source: SourceKey,
    /// The position in the source at which the batch begins.
    pub from: u64,
}

/// The time at which verbs make events of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clock of the host.
    pub time: Timestamp,
    /// This is the last call: everything is due.
    pub last: bool,
}

/// The context in which a verb is opened.
pub struct Opening<'a> {
    /// The shapes of the events: names and edits are prepared here.
    pub shapes: &'a mut Shapes,
    /// Facts about the host.
    pub facts: &'a Facts,
}

/// Implemented by the settings of every verb.
pub trait Verb {
    /// The name.
    const NAME: &'static str;
    /// What it does, in one line.
    const SUMMARY: &'static str;
    /// An example of its entry in `transforms`, which `validate` accepts unchanged.
    const EXAMPLE: &'static str;
    /// Events, one per line, on which the documentation shows the effect of the example; empty if it needs more than events.
    const SAMPLE: &'static str = SAMPLE;
    /// Why it failed on an event, if [`Verb::explain`] knows no details.
    const FAILURE: &'static str = FAILURE;

    /// Checks what types cannot express: returns all that is wrong. The key in a mistake is relative to the value of the verb.
    fn check(&self) -> Vec<Mistake> {
        Vec::new()
    }
    /// What is valid but probably a mistake. Keys as above.
    fn doubts(&self) -> Vec<Doubtful> {
        Vec::new()
    }
    /// Opens an instance on one shard.
    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform>;
    /// Why it failed on an event, or dropped it; none if no details are known. Cold: called only to show a single event to
    /// people, after the event was processed.
    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let _ = before;
        None
    }
    /// Every reason why its lookup files cannot be used. May block.
    fn check_files(&self, files: &dyn Files) -> Vec<Mistake> {
        let _ = files;
        Vec::new()
    }
    /// Its lookup files: loaded before it is opened, and reloaded when they change.
    fn kept(&self) -> Vec<Arc<dyn Kept>> {
        Vec::new()
    }
}

/// Rejects a verb that names no field.
fn refuse_empty<T>(fields: &[T], effect: &str, example: &str) -> Vec<Mistake> {
    match fields {
        [] => {
            let help = format!("write for example `{example}`, or remove the entry");
            vec![Mistake::new("", format!("no field is named, so {effect}"), help)]
        }
        _ => Vec::new(),
    }
}

/// The reason for a failure without details.
const FAILURE: &str = "a value cannot be written: a part of its path is not an object, or the event is too large";

/// The sample event for verbs that do not need a special one.
pub const SAMPLE: &str =
    r#"{"level":"error","msg":"login failed","user":{"id":42,"email":"ann@example.com"},"status":500}"#;

/// Opens verbs in their order. Adjacent verbs that depend only on the shape become one step.
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

/// Runs verbs on an event in their order, until one does not keep it.
pub fn run_all(transforms: &mut [Box<dyn Transform>], record: &mut Record<'_>) -> Verdict {
    for transform in transforms {
        match transform.apply(record) {
            Verdict::Keep => {}
            gone => return gone,
        }
    }
    Verdict::Keep
}

/// Makes the next event that is due in one of the verbs, and runs the verbs behind it on this event. Returns what happens to
/// it, or none if no event is left.
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
