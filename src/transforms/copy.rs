//! `copy`: copies the values of fields to other fields.

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

/// A map from existing fields to new fields. A missing field is not copied. If the target exists, it is replaced. Copies are
/// made in this order, each on the result of the one before.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Pairs<Path>);

impl Verb for Settings {
    const NAME: &'static str = "copy";
    const SUMMARY: &'static str = "copies the values of fields to other fields";
    const EXAMPLE: &'static str = "copy: {user.id: user_id}\n";

    fn check(&self) -> Vec<Mistake> {
        let pairs = &self.0.0;
        let mut mistakes = refuse_empty(pairs, "nothing would be copied", "copy: {user.id: user_id}");
        for (place, (from, to)) in pairs.iter().enumerate() {
            let (what, help) = match pairs[..place].iter().find(|(_, earlier)| earlier == to) {
                _ if from == to => {
                    (format!("`{from}` would be copied onto itself"), "name another field, or remove the entry")
                }
                None => continue,
                Some((earlier, _)) => (
                    format!("`{earlier}` and `{from}` are both copied to `{to}`, which can hold only one of them"),
                    "if an event has only one of them, write two `copy` entries: the later one wins",
                ),
            };
            mistakes.push(Mistake::new(from.to_string(), what, help));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let copies = self.0.0.iter().map(|(from, to)| match (from.rest(), to.rest()) {
            ([], []) => {
                let from = opening.shapes.key(from.first().as_bytes());
                let to = opening.shapes.key(to.first().as_bytes());
                One::Shape(opening.shapes.register_edit(Edit::Copy { from, to }))
            }
            _ => One::Value { from: Place::new(from, opening), to: Place::new(to, opening) },
        });
        Box::new(Copy { copies: copies.collect(), scratch: Vec::new(), failures: 0 })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let there = self.0.0.iter().filter(|(from, _)| before.get(from).is_some());
        joined(there.filter_map(|(_, to)| in_the_way(to, before)))
    }
}

enum One {
    /// Both are top-level fields.
    Shape(EditId),
    Value {
        from: Place,
        to: Place,
    },
}

struct Copy {
    copies: Vec<One>,
    scratch: Vec<u8>,
    failures: u64,
}

impl Transform for Copy {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for one in &mut self.copies {
            match one {
                One::Shape(edit) => record.edit(*edit),
                One::Value { from, to } => {
                    self.scratch.clear();
                    let Some(value) = from.get(record) else { continue };
                    push_json(value, &mut self.scratch);
                    self.failures += u64::from(!to.put(record, &self.scratch));
                }
            }
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn edits(&self) -> Option<Vec<EditId>> {
        let of = |one: &One| match one {
            One::Shape(edit) => Some(*edit),
            One::Value { .. } => None,
        };
        self.copies.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{mistake, one};

    #[test]
    fn values_are_copied_one_after_the_other() {
        assert_eq!(one("- copy: {a: b, b: c}", r#"{"a":1,"b":2}"#), r#"{"a":1,"b":1,"c":1}"#);
        assert_eq!(one("- copy: {a: c}\n- copy: {b: c}", r#"{"a":1,"b":2}"#), r#"{"a":1,"b":2,"c":2}"#);
        assert_eq!(one("- copy: {a: c}\n- copy: {b: c}", r#"{"a":1}"#), r#"{"a":1,"c":1}"#);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- copy: {}").contains("nothing would be copied"));
        assert!(mistake("- copy: {a: b, c: b}").contains("copy.c: `a` and `c` are both copied to `b`"));
        assert!(mistake("- copy: {a: b, c: c}").contains("copy.c: `c` would be copied onto itself"));
    }
}
