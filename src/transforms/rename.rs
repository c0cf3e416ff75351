//! `rename`: renames fields.

use super::pairs::Pairs;
use super::place::{Place, push_json};
use super::reasons::{Before, in_the_way, joined};
use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::codec::path::Path;
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId};

/// A map from old names to new names. A missing field is not renamed. If a field with the new name exists, it is replaced.
/// Fields are renamed in this order, each on the result of the one before: with `{a: b, b: c}`, the value of `a` ends in `c`.
/// If two fields get the same new name, the last one wins. You cannot swap fields: `{a: b, b: a}` keeps the value of `a` in `a`
/// and removes `b`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Pairs<Path>);

impl Verb for Settings {
    const NAME: &'static str = "rename";
    const SUMMARY: &'static str = "renames fields";
    const EXAMPLE: &'static str = "rename: {msg: message, http.status: status}\n";
    const SAMPLE: &'static str = r#"{"msg":"served","http":{"method":"GET","status":200}}"#;

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = refuse_empty(&self.0.0, "nothing would be renamed", "rename: {msg: message}");
        for (from, _) in self.0.0.iter().filter(|(from, to)| from == to) {
            let what = format!("`{from}` is renamed to itself");
            mistakes.push(Mistake::new(from.to_string(), what, "write another name, or remove the entry"));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let moves = self.0.0.iter().map(|(from, to)| match (from.rest(), to.rest()) {
            ([], []) => {
                let from = opening.shapes.key(from.first().as_bytes());
                let to = opening.shapes.key(to.first().as_bytes());
                Move::Shape(opening.shapes.register_edit(Edit::Rename { from, to }))
            }
            _ => Move::Value { from: Place::new(from, opening), to: Place::new(to, opening) },
        });
        Box::new(Rename { moves: moves.collect(), scratch: Vec::new(), failures: 0 })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let there = self.0.0.iter().filter(|(from, _)| before.get(from).is_some());
        joined(there.filter_map(|(_, to)| in_the_way(to, before)))
    }
}

enum Move {
    /// Both are top-level fields.
    Shape(EditId),
    Value {
        from: Place,
        to: Place,
    },
}

struct Rename {
    moves: Vec<Move>,
    scratch: Vec<u8>,
    failures: u64,
}

impl Transform for Rename {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for step in &mut self.moves {
            match step {
                Move::Shape(edit) => record.edit(*edit),
                Move::Value { from, to } => {
                    self.scratch.clear();
                    let Some(value) = from.get(record) else { continue };
                    push_json(value, &mut self.scratch);
                    let before = record.shape();
                    from.remove(record);
                    if !to.put(record, &self.scratch) {
                        // If the value cannot be written to the new path, it stays at the old one.
                        record.set_shape(before);
                        self.failures += 1;
                    }
                }
            }
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn edits(&self) -> Option<Vec<EditId>> {
        let of = |step: &Move| match step {
            Move::Shape(edit) => Some(*edit),
            Move::Value { .. } => None,
        };
        self.moves.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{mistake, one};

    #[test]
    fn fields_are_renamed_one_after_the_other() {
        let event = r#"{"a":1,"b":2,"c":3}"#;
        assert_eq!(one("- rename: {a: b, b: a}", event), r#"{"a":1,"c":3}"#);
        assert_eq!(one("- rename: {a: b, b: c}", event), r#"{"c":1}"#);
        assert_eq!(one("- rename: {b: c, a: b}", event), r#"{"b":1,"c":2}"#);
        assert_eq!(one("- rename: {a: c, b: c}", event), r#"{"c":2}"#);
        assert_eq!(one("- rename: {o.a: o.b, o.b: o.a}", r#"{"o":{"a":1,"b":2}}"#), r#"{"o":{"a":1}}"#);
        assert_eq!(one("- rename: {o.a: b, b: o.a}", r#"{"o":{"a":1},"b":2}"#), r#"{"o":{"a":1}}"#);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- rename: {}").contains("nothing would be renamed"));
        assert!(mistake("- rename: {a: b, c: c}").contains("rename.c: `c` is renamed to itself"));
    }
}
