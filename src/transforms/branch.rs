//! `if`: runs transforms on events that match a condition, and other transforms on the rest.

use super::condition::{Condition, OpenCondition};
use super::enrich::watched::{Files, Kept};
use super::{Now, Opening, Origin, Step, Transform, Verdict, emit_next, open_all, run_all};
use crate::config::component::{Doubtful, Mistake};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess};
use std::borrow::Cow;
use std::sync::Arc;
use tailwater_shards::batch::SourceKey;
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::Record;

/// A condition and the transforms of its two branches.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The condition.
    pub condition: Condition,
    /// Transforms for events that match the condition.
    pub then: Vec<Step>,
    /// Transforms for the other events.
    pub otherwise: Vec<Step>,
}

/// A key beside `if`. One that does not exist is refused as a key, so that the mistake is at this key.
enum Beside {
    Then,
    Else,
}

impl<'de> Deserialize<'de> for Beside {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Beside, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "then" => Ok(Beside::Then),
            "else" => Ok(Beside::Else),
            other => Err(D::Error::unknown_field(other, &["if", "then", "else"])),
        }
    }
}

impl Settings {
    /// The name of the transform.
    pub const NAME: &'static str = "if";
    /// What it does, in one line.
    pub const SUMMARY: &'static str =
        "runs transforms on the events that match a condition, and other transforms on the rest";
    /// Its entry in `transforms`.
    pub const EXAMPLE: &'static str = "if: status >= 500\nthen: [{add: {alert: true}}]\nelse: [{remove: [stack]}]\n";

    /// Reads what follows the key `if`.
    pub fn read<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Settings, A::Error> {
        let condition = map.next_value()?;
        let (mut then, mut otherwise) = (None, None);
        while let Some(key) = map.next_key()? {
            match key {
                Beside::Then => then = Some(map.next_value()?),
                Beside::Else => otherwise = Some(map.next_value()?),
            }
        }
        let then = then.ok_or_else(|| A::Error::missing_field("then"))?;
        Ok(Settings { condition, then, otherwise: otherwise.unwrap_or_default() })
    }

    /// Checks the transforms of both branches.
    pub fn check(&self) -> Vec<Mistake> {
        let of = |(place, step): (String, &Step)| {
            step.check().into_iter().map(|mistake| mistake.below(&place)).collect::<Vec<_>>()
        };
        self.places().flat_map(of).collect()
    }

    /// What is valid but probably a mistake, in the condition and in the transforms of both branches.
    pub fn doubts(&self) -> Vec<Doubtful> {
        let own = self.condition.doubts().into_iter().map(|doubt| doubt.below(Settings::NAME));
        let of = |(place, step): (String, &Step)| {
            step.doubts().into_iter().map(|doubt| doubt.below(&place)).collect::<Vec<_>>()
        };
        own.chain(self.places().flat_map(of)).collect()
    }

    /// Every reason why a lookup file of a transform in either branch cannot be used.
    pub fn check_files(&self, files: &dyn Files) -> Vec<Mistake> {
        let of = |(place, step): (String, &Step)| {
            step.check_files(files).into_iter().map(|mistake| mistake.below(&place)).collect::<Vec<_>>()
        };
        self.places().flat_map(of).collect()
    }

    /// The transforms of both branches, and their places.
    fn places(&self) -> impl Iterator<Item = (String, &Step)> {
        let sides = [("then", &self.then), ("else", &self.otherwise)].into_iter();
        sides.flat_map(|(side, steps)| {
            steps.iter().enumerate().map(move |(number, step)| (format!("{side}.{number}"), step))
        })
    }

    /// Lookup files of the transforms in both branches.
    pub fn kept(&self) -> Vec<Arc<dyn Kept>> {
        self.then.iter().chain(&self.otherwise).flat_map(Step::kept).collect()
    }

    /// The instance of one shard.
    pub fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Branch {
            condition: self.condition.open(opening),
            then: open_all(&self.then, opening),
            otherwise: open_all(&self.otherwise, opening),
        })
    }
}

impl JsonSchema for Settings {
    fn schema_name() -> Cow<'static, str> {
        "If".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let described = |mut schema: Schema, text: &str| {
            schema.insert("description".to_owned(), text.into());
            schema
        };
        let condition = described(generator.subschema_for::<Condition>(), "The condition.");
        let then = described(generator.subschema_for::<Vec<Step>>(), "Transforms for events that match the condition.");
        let otherwise =
            described(generator.subschema_for::<Vec<Step>>(), "Transforms for the other events. By default none.");
        json_schema!({
            "type": "object",
            "description": "A condition, the transforms for events that match it (`then`), and the transforms for all other events \
                            (`else`). If the condition fails, for example because a field is missing, it counts as false and \
                            `else` runs. The failure is counted.",
            "properties": {"if": condition, "then": then, "else": otherwise},
            "required": ["if", "then"],
            "additionalProperties": false
        })
    }
}

struct Branch {
    condition: OpenCondition,
    then: Vec<Box<dyn Transform>>,
    otherwise: Vec<Box<dyn Transform>>,
}

impl Transform for Branch {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let side = if self.condition.holds(record) { &mut self.then } else { &mut self.otherwise };
        run_all(side, record)
    }

    fn take_failures(&mut self) -> u64 {
        let verbs = self.then.iter_mut().chain(&mut self.otherwise).map(|verb| verb.take_failures());
        self.condition.take_failures() + verbs.sum::<u64>()
    }

    fn due(&self) -> Option<Timestamp> {
        self.then.iter().chain(&self.otherwise).filter_map(|verb| verb.due()).min()
    }

    fn emit(&mut self, now: Now, record: &mut Record<'_>) -> Option<Verdict> {
        emit_next(&mut self.then, now, record).or_else(|| emit_next(&mut self.otherwise, now, record))
    }

    fn begin(&mut self, origin: Origin) {
        self.then.iter_mut().chain(&mut self.otherwise).for_each(|verb| verb.begin(origin));
    }

    fn held_from(&self, source: SourceKey) -> Option<u64> {
        self.then.iter().chain(&self.otherwise).filter_map(|verb| verb.held_from(source)).min()
    }

    fn held(&self) -> u64 {
        self.then.iter().chain(&self.otherwise).map(|verb| verb.held()).sum()
    }
}
