//! `remove`: removes fields.

use super::place::Place;
use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::codec::path::Path;
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;
use tailwater_shards::shape::EditId;

/// A list of fields to remove. Missing fields are ignored.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(#[schemars(length(min = 1))] pub Vec<Path>);

impl Verb for Settings {
    const NAME: &'static str = "remove";
    const SUMMARY: &'static str = "removes fields";
    const EXAMPLE: &'static str = "remove: [password, http.headers.cookie]\n";
    const SAMPLE: &'static str =
        r#"{"user":"ann","password":"secret","http":{"headers":{"cookie":"sid=1","host":"example.com"}}}"#;

    fn check(&self) -> Vec<Mistake> {
        refuse_empty(&self.0, "nothing would be removed", "remove: [password]")
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Remove(self.0.iter().map(|path| Place::new(path, opening)).collect()))
    }
}

struct Remove(Vec<Place>);

impl Transform for Remove {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.0.iter_mut().for_each(|place| place.remove(record));
        Verdict::Keep
    }

    fn edits(&self) -> Option<Vec<EditId>> {
        self.0.iter().map(Place::removal).collect()
    }
}
