//! Which keys are secret, as the schema of the configuration marks them.
//!
//! Guarantees: every setting of a type with a mark is known, at every place where the schema allows it, without a list of them. Names that
//! sound like secrets count where no schema says what a key is. Knows nothing about files.

use super::super::nearest::nearest;
use super::super::schema_of_values;
use crate::codec::secret::{MARK, URL, WHOLE};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// The marks of the schema, which never change.
pub static MARKS: LazyLock<Marks> = LazyLock::new(Marks::new);

/// References that are followed from one place of the schema; it is ours, so this only ends mistakes.
const REFERENCES_MAX: usize = 32;

/// Parts of names of secret keys, here and in other programs, as they are without separators.
const PARTS: [&str; 11] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "apikey",
    "bearer",
    "credential",
    "authorization",
    "privatekey",
    "cookie",
    "hmac",
];

/// The schema, and the names of the keys that it marks.
pub struct Marks {
    schema: Value,
    /// Keys whose value is secret as a whole, or a URL.
    names: BTreeSet<String>,
    /// Keys of maps in which a key is secret.
    holders: BTreeSet<String>,
    /// All keys.
    known: BTreeSet<String>,
}

/// What a schema says of one value: every form that it may have.
#[derive(Clone, Default)]
pub struct Forms<'a> {
    leaves: Vec<&'a Map<String, Value>>,
    /// Whether anything fits.
    open: bool,
}

/// What the schema says of a key of a map.
pub enum Child<'a> {
    /// It has these forms.
    Known(Forms<'a>),
    /// It is the user's own, and not secret.
    Open,
    /// There is no such key.
    Unknown,
}

impl Marks {
    fn new() -> Marks {
        let mut marks = Marks {
            schema: schema_of_values().to_value(),
            names: BTreeSet::new(),
            holders: BTreeSet::new(),
            known: BTreeSet::new(),
        };
        let (mut names, mut holders, mut known) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        marks.visit(&marks.schema, &mut |name, forms| {
            known.insert(name.to_owned());
            let items = marks.items(forms);
            if [forms, &items]
                .iter()
                .any(|forms| forms.is_secret() || forms.is_url() || marks.others(forms).is_secret())
            {
                names.insert(name.to_owned());
            } else if marks.holds_secrets(forms) {
                holders.insert(name.to_owned());
            }
        });
        (marks.names, marks.holders, marks.known) = (names, holders, known);
        marks
    }

    /// Calls `note` with every key of the schema and its forms.
    fn visit<'a>(&'a self, schema: &'a Value, note: &mut impl FnMut(&str, &Forms<'a>)) {
        match schema {
            Value::Object(map) => {
                for (name, inner) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
                    note(name, &self.forms([inner]));
                }
                map.values().for_each(|inner| self.visit(inner, note));
            }
            Value::Array(list) => list.iter().for_each(|inner| self.visit(inner, note)),
            _ => {}
        }
    }

    /// The forms of the whole file.
    pub fn root(&self) -> Forms<'_> {
        self.forms([&self.schema])
    }

    fn forms<'a>(&'a self, schemas: impl IntoIterator<Item = &'a Value>) -> Forms<'a> {
        let mut forms = Forms::default();
        schemas.into_iter().for_each(|schema| self.collect(schema, REFERENCES_MAX, &mut forms));
        forms
    }

    fn collect<'a>(&'a self, schema: &'a Value, references: usize, forms: &mut Forms<'a>) {
        let Some(map) = schema.as_object() else {
            forms.open |= schema == &Value::Bool(true);
            return;
        };
        let name = map.get("$ref").and_then(Value::as_str).and_then(|name| name.strip_prefix("#/$defs/"));
        let target = name.and_then(|name| self.schema.get("$defs")?.get(name));
        let choices = ["anyOf", "oneOf", "allOf"].iter().filter_map(|word| map.get(*word)?.as_array()).flatten();
        let inner: Vec<&Value> = target.into_iter().chain(choices).collect();
        if references > 0 {
            inner.iter().for_each(|inner| self.collect(inner, references - 1, forms));
        }
        let says = ["type", "properties", "additionalProperties", "items", "enum", "const", MARK];
        match says.iter().any(|word| map.contains_key(*word)) {
            true if !forms.leaves.iter().any(|leaf| std::ptr::eq(*leaf, map)) => forms.leaves.push(map),
            true => {}
            false => forms.open |= inner.is_empty(),
        }
    }

    /// What the schema says of a key of a value with these forms.
    pub fn child<'a>(&'a self, forms: &Forms<'a>, key: &str) -> Child<'a> {
        let (mut found, mut open) = (Vec::new(), forms.open);
        for leaf in forms.leaves.iter().filter(|leaf| has_type(leaf, "object")) {
            match (leaf.get("properties").and_then(|all| all.get(key)), leaf.get("additionalProperties")) {
                (Some(inner), _) => found.push(inner),
                (None, Some(Value::Bool(false))) => open |= leaf.contains_key("patternProperties"),
                (None, Some(inner @ Value::Object(_))) => found.push(inner),
                (None, _) => open = true,
            }
        }
        match found.is_empty() {
            false => Child::Known(self.forms(found)),
            true if open => Child::Open,
            true => Child::Unknown,
        }
    }

    /// The items of a list with these forms.
    pub fn items<'a>(&'a self, forms: &Forms<'a>) -> Forms<'a> {
        Forms { open: forms.open, ..self.forms(forms.leaves.iter().filter_map(|leaf| leaf.get("items"))) }
    }

    /// The values of the keys that have no names in the schema.
    fn others<'a>(&'a self, forms: &Forms<'a>) -> Forms<'a> {
        self.forms(
            forms.leaves.iter().filter_map(|leaf| leaf.get("additionalProperties")).filter(|inner| inner.is_object()),
        )
    }

    /// Whether a map with these forms has a key whose value is secret.
    pub fn holds_secrets(&self, forms: &Forms<'_>) -> bool {
        let named = forms.leaves.iter().filter_map(|leaf| leaf.get("properties")?.as_object()).flatten();
        named.into_iter().any(|(_, inner)| self.forms([inner]).is_secret()) || self.others(forms).is_secret()
    }

    /// Whether a key sounds like that of a secret, or is nearly the name of one.
    pub fn is_secret_name(&self, name: &str) -> bool {
        let plain: String = name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
        PARTS.iter().any(|part| plain.contains(part))
            || self.names.contains(name)
            || !self.known.contains(name) && nearest(name, self.names.iter().map(String::as_str)).is_some()
    }

    /// Whether a key is that of a map in which a key is secret, or nearly.
    pub fn is_holder(&self, name: &str) -> bool {
        self.holders.contains(name)
            || !self.known.contains(name) && nearest(name, self.holders.iter().map(String::as_str)).is_some()
    }

    /// Whether a key is one of the configuration.
    pub fn is_known(&self, name: &str) -> bool {
        self.known.contains(name)
    }
}

impl<'a> Forms<'a> {
    /// Whether anything fits, so that it is the user's own.
    pub fn is_open(&self) -> bool {
        self.open && self.leaves.is_empty()
    }

    /// Whether no part of the value is shown.
    pub fn is_secret(&self) -> bool {
        self.is_marked(WHOLE)
    }

    /// Whether the value is a URL.
    pub fn is_url(&self) -> bool {
        self.is_marked(URL)
    }

    fn is_marked(&self, what: &str) -> bool {
        self.leaves.iter().any(|leaf| leaf.get(MARK).is_some_and(|mark| mark == what))
    }
}

fn has_type(leaf: &Map<String, Value>, name: &str) -> bool {
    let kind = leaf.get("type");
    kind.is_some_and(|kind| kind == name || kind.as_array().is_some_and(|kinds| kinds.contains(&name.into())))
        || kind.is_none() && (leaf.contains_key("properties") || leaf.contains_key("additionalProperties"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_types_make_secret_keys() {
        let names: Vec<&str> = MARKS.names.iter().map(String::as_str).collect();
        assert_eq!(names, ["api_key", "bearer", "endpoints", "headers", "key", "password", "proxy", "url"]);
        let holders: Vec<&str> = MARKS.holders.iter().map(String::as_str).collect();
        assert_eq!(holders, ["auth", "basic", "hash"]);
    }

    #[test]
    fn names_that_sound_like_secrets_count() {
        for name in ["Pass-Word", "pasword", "API_KEY", "api.key", "http_passwd", "sasl.password", "ur1", "endponts"] {
            assert!(MARKS.is_secret_name(name), "{name}");
        }
        for name in ["user", "inputs", "keep", "type", "index", "timeout", "key_file", "fields"] {
            assert!(!MARKS.is_secret_name(name), "{name}");
        }
    }
}
