//! `keep`: keeps only the listed fields.

use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::codec::path::Path;
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId};

/// A list of the top-level fields to keep. All other fields are removed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(#[schemars(length(min = 1))] pub Vec<Path>);

impl Verb for Settings {
    const NAME: &'static str = "keep";
    const SUMMARY: &'static str = "keeps only the listed fields";
    const EXAMPLE: &'static str = "keep: [timestamp, level, message]\n";
    const SAMPLE: &'static str = r#"{"timestamp":"2026-11-23T10:20:30Z","pid":4711,"level":"info","message":"ready"}"#;

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = refuse_empty(&self.0, "every field would be removed", "keep: [level, message]");
        for (place, path) in self.0.iter().enumerate().filter(|(_, path)| !path.rest().is_empty()) {
            let what = format!("`{path}` is inside a field, and `keep` keeps whole fields");
            let help = "name the whole field, or first `copy` the value to a field of its own";
            mistakes.push(Mistake::new(place.to_string(), what, help));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let keys = self.0.iter().map(|path| opening.shapes.key(path.first().as_bytes())).collect();
        Box::new(Keep(opening.shapes.register_edit(Edit::Keep(keys))))
    }
}

struct Keep(EditId);

impl Transform for Keep {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        record.edit(self.0);
        Verdict::Keep
    }

    fn edits(&self) -> Option<Vec<EditId>> {
        Some(vec![self.0])
    }
}
