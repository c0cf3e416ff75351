//! `keep`: only these fields.

use super::{Opening, Transform, Verb, Verdict};
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId};

/// Names of the fields that stay; all others go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Vec<String>);

impl Verb for Settings {
    const NAME: &'static str = "keep";
    const SUMMARY: &'static str = "keeps only these fields";
    const EXAMPLE: &'static str = "keep: [timestamp, level, message]\n";
    const SAMPLE: &'static str = r#"{"timestamp":"2026-11-23T10:20:30Z","pid":4711,"level":"info","message":"ready"}"#;

    fn check(&self) -> Result<(), Mistake> {
        Ok(())
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let keys = self.0.iter().map(|name| opening.shapes.key(name.as_bytes())).collect();
        Box::new(Keep(opening.shapes.register_edit(Edit::Keep(keys))))
    }
}

struct Keep(EditId);

impl Transform for Keep {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        record.edit(self.0);
        Verdict::Keep
    }
}
