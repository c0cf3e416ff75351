//! `add`: adds fields with values from the configuration.

use super::pairs::Pairs;
use super::place::Place;
use super::reasons::{Before, in_the_way, joined};
use super::template::{OpenTemplate, Template};
use super::{Opening, Transform, Verb, Verdict, refuse_empty};
use crate::config::component::{Doubtful, Mistake};
use crate::config::literal::Literal;
use crate::expr::FUNCTION;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::record::Record;
use tailwater_shards::shape::{Edit, EditId};

/// A map from fields to values. A value is a string, number, boolean, null, list or map. If the field already exists, its value
/// is replaced. In a string, templates are filled in: `{{ field }}`, `{{ hostname }}`, `{{ %Y-%m-%d }}`, and what Tailwater
/// knows of the origin: `{{ origin().file }}`. Strings inside lists and maps are not templates: they are added as written. To
/// fill in a template inside an object, name the path: `add: {place.rack: "{{ rack }}"}`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Pairs<Literal>);

impl Verb for Settings {
    const NAME: &'static str = "add";
    const SUMMARY: &'static str = "adds fields to events, or replaces the values of existing fields";
    const EXAMPLE: &'static str = "add: {env: prod, host: \"{{ hostname }}\", place.rack: 7}\n";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = refuse_empty(&self.0.0, "nothing would be added", "add: {env: prod}");
        for (path, value) in &self.0.0 {
            let Literal::Text(text) = value else { continue };
            let help = "write a template such as \"{{ service }}-{{ %Y-%m-%d }}\"";
            let wrong = Template::parse(text).err().unwrap_or_default();
            mistakes.extend(wrong.into_iter().map(|what| Mistake::new(path.to_string(), what, help)));
        }
        mistakes
    }

    fn doubts(&self) -> Vec<Doubtful> {
        let mut doubts = Vec::new();
        for (path, value) in &self.0.0 {
            let Literal::Text(text) = value else { continue };
            for part in Template::claimed_origins(text) {
                let part = part.name();
                let what = format!("`{FUNCTION}.{part}` is a field that whoever writes the event can set");
                let help = format!(
                    "did you mean {{{{ {FUNCTION}().{part} }}}}, which no event can set? If you mean the field, write \
                     {{{{ [\"{FUNCTION}\"].{part} }}}}"
                );
                doubts.push(Doubtful { mistake: Mistake::new(path.to_string(), what, help), place: 0..text.len() });
            }
        }
        doubts
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let fields = self.0.0.iter().map(|(path, value)| {
            let template = match value {
                Literal::Text(text) => Template::parse(text).ok().filter(|template| template.constant().is_none()),
                _ => None,
            };
            match template {
                Some(template) => Field::Template(Place::new(path, opening), template.open(opening)),
                None if path.rest().is_empty() => {
                    let key = opening.shapes.key(path.first().as_bytes());
                    let constant = opening.shapes.constant(value.json().as_bytes());
                    Field::Shape(opening.shapes.register_edit(Edit::Constant(key, constant)))
                }
                None => Field::Value(Place::new(path, opening), value.json().into_bytes()),
            }
        });
        Box::new(Add { fields: fields.collect(), failures: 0, scratch: Vec::new() })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        joined(self.0.0.iter().filter_map(|(path, _)| in_the_way(path, before)))
    }
}

enum Field {
    /// A constant value in a top-level field.
    Shape(EditId),
    Value(Place, Vec<u8>),
    Template(Place, OpenTemplate),
}

struct Add {
    fields: Vec<Field>,
    failures: u64,
    scratch: Vec<u8>,
}

impl Transform for Add {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        for field in &mut self.fields {
            match field {
                Field::Shape(edit) => record.edit(*edit),
                Field::Value(place, json) => self.failures += u64::from(!place.put(record, json)),
                Field::Template(place, template) => {
                    self.scratch.clear();
                    template.push(record, &mut self.scratch);
                    self.failures += u64::from(!place.put(record, &self.scratch));
                }
            }
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }

    fn edits(&self) -> Option<Vec<EditId>> {
        let of = |field: &Field| match field {
            Field::Shape(edit) => Some(*edit),
            Field::Value(..) | Field::Template(..) => None,
        };
        self.fields.iter().map(of).collect()
    }
}
