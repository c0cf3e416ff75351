//! `validate`: checks events against rules.
//!
//! Guarantees: an event that breaks a rule is changed in at most one field, which lists all the rules that it breaks, in the
//! order required, types, enum, range, pattern. Except for `required`, a missing field breaks no rule.

use super::key::push_unescaped;
use super::pairs::Pairs;
use super::place::Place;
use super::reasons::{Before, joined};
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::json::{body_is, string_body};
use crate::codec::path::Path;
use crate::codec::pattern::compile;
use crate::config::component::Mistake;
use regex_automata::meta::Regex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;
use std::fmt;
use tailwater_shards::record::{Record, Value};

/// A rule names fields and what they must contain. Except for `required`, a missing field breaks no rule. At least one rule is
/// needed.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Fields that must exist and must not be null.
    #[serde(default)]
    pub required: Vec<Path>,
    /// Fields and their required types.
    #[serde(default)]
    pub types: Option<Pairs<Type>>,
    /// Fields and their allowed values: strings, numbers, booleans or null. The spelling of numbers does not matter.
    #[serde(default, rename = "enum")]
    pub choices: Option<Pairs<Vec<Json>>>,
    /// Fields and their smallest and largest allowed number. Write null for no limit.
    #[serde(default)]
    pub range: Option<Pairs<(Option<f64>, Option<f64>)>>,
    /// Fields and a regular expression that must match somewhere in their string. Use `^` and `$` to match the whole string.
    #[serde(default)]
    pub pattern: Option<Pairs<String>>,
    /// What happens to events that break a rule. By default, `tag`.
    #[serde(default)]
    pub on_fail: OnFail,
    /// The field for the list of broken rules, with `on_fail: tag`.
    #[serde(default = "errors_field")]
    pub errors_field: Path,
}

fn errors_field() -> Path {
    Path::field("validation_errors")
}

/// What happens to events that break a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The event continues, with the broken rules in `errors_field`.
    #[default]
    Tag,
    /// The event is dropped.
    Drop,
    /// The event goes to the dead letter queue.
    DeadLetter,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Type {
    /// A number without fraction and exponent.
    Int,
    /// Any number.
    #[serde(alias = "float")]
    Number,
    /// A string.
    String,
    /// `true` or `false`.
    Bool,
    /// An object.
    Object,
    /// An array.
    Array,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Int => "an int",
            Type::Number => "a number",
            Type::String => "a string",
            Type::Bool => "a bool",
            Type::Object => "an object",
            Type::Array => "an array",
        })
    }
}

impl Type {
    fn is_of(self, value: Value<'_>) -> bool {
        let json = match value {
            Value::Text(_) => return self == Type::String,
            Value::Json(json) => json,
        };
        let numeric = matches!(json.first(), Some(b'-' | b'0'..=b'9'));
        match self {
            Type::Int => numeric && !json.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E')),
            Type::Number => numeric,
            Type::String => json.first() == Some(&b'"'),
            Type::Bool => matches!(json.first(), Some(b't' | b'f')),
            Type::Object => json.first() == Some(&b'{'),
            Type::Array => json.first() == Some(&b'['),
        }
    }
}

fn is_null(value: Value<'_>) -> bool {
    value == Value::Json(b"null")
}

fn number(json: &[u8]) -> Option<f64> {
    std::str::from_utf8(json)
        .ok()
        .filter(|text| text.starts_with(|c: char| c == '-' || c.is_ascii_digit()))?
        .parse()
        .ok()
}

impl Settings {
    fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.types.is_none()
            && self.choices.is_none()
            && self.range.is_none()
            && self.pattern.is_none()
    }

    /// The rules in their order: the field, the test, and the message if it is broken.
    fn rules(&self) -> Vec<(&Path, Test, String)> {
        let mut rules: Vec<(&Path, Test, String)> = Vec::new();
        rules.extend(self.required.iter().map(|path| (path, Test::Required, format!("{path} is missing"))));
        for (path, kind) in pairs(&self.types) {
            rules.push((path, Test::Type(*kind), format!("{path} is not {kind}")));
        }
        for (path, choices) in pairs(&self.choices) {
            let said = format!("{path} is not one of the allowed values");
            rules.push((path, Test::Enum(choices.iter().map(Choice::new).collect()), said));
        }
        for (path, (least, greatest)) in pairs(&self.range) {
            let said = match (least, greatest) {
                (Some(least), Some(greatest)) => format!("{path} is not from {least} to {greatest}"),
                (Some(least), None) => format!("{path} is not {least} or more"),
                (None, Some(greatest)) => format!("{path} is not {greatest} or less"),
                (None, None) => format!("{path} is not a number"),
            };
            rules.push((path, Test::Range(least.unwrap_or(f64::MIN), greatest.unwrap_or(f64::MAX)), said));
        }
        for (path, pattern) in pairs(&self.pattern) {
            // A pattern that cannot be compiled is rejected before anything is opened.
            let Ok(regex) = compile(pattern, true) else { continue };
            rules.push((path, Test::Pattern(Box::new(regex), Vec::new()), format!("{path} does not match {pattern}")));
        }
        rules
    }
}

fn pairs<V>(pairs: &Option<Pairs<V>>) -> &[(Path, V)] {
    pairs.as_ref().map_or(&[], |pairs| &pairs.0)
}

impl Verb for Settings {
    const NAME: &'static str = "validate";
    const SUMMARY: &'static str = "checks events against rules, and tags, drops or dead-letters those that break one";
    const EXAMPLE: &'static str = "validate:\n  required: [level, http.status]\n  types: {http.status: int}\n  \
        enum: {level: [debug, info, warn, error]}\n  range: {http.status: [100, 599]}\n  \
        pattern: {trace_id: \"^[0-9a-f]{32}$\"}\n  on_fail: tag\n";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.is_empty() {
            let help = "write at least one of `required`, `types`, `enum`, `range`, `pattern`";
            mistakes.push(Mistake::new("", "no rule is given", help));
        }
        for (path, choices) in pairs(&self.choices) {
            let key = format!("enum.{path}");
            let help = "write a list of strings, numbers, booleans or null";
            if choices.is_empty() {
                mistakes.push(Mistake::new(&*key, format!("no value of {path} can equal this"), help));
            }
            for (place, _) in choices.iter().enumerate().filter(|(_, choice)| choice.is_object() || choice.is_array()) {
                let what = format!("no value of {path} can equal this");
                mistakes.push(Mistake::new(format!("{key}.{place}"), what, help));
            }
        }
        for (path, (least, greatest)) in pairs(&self.range) {
            if let (Some(least), Some(greatest)) = (least, greatest)
                && least > greatest
            {
                let what = format!("no number is at least {least} and at most {greatest}");
                mistakes.push(Mistake::new(format!("range.{path}"), what, "write the smaller number first"));
            }
        }
        for (path, pattern) in pairs(&self.pattern) {
            if let Err(what) = compile(pattern, true) {
                let help = "see https://docs.rs/regex/#syntax for the syntax";
                mistakes.push(Mistake::new(format!("pattern.{path}"), what, help));
            }
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let rules = self.rules().into_iter().map(|(path, test, said)| Rule {
            place: Place::new(path, opening),
            test,
            said: match self.on_fail {
                OnFail::Tag => Json::from(said).to_string().into_bytes(),
                OnFail::Drop | OnFail::DeadLetter => said.into_bytes(),
            },
        });
        Box::new(Validate {
            rules: rules.collect(),
            on_fail: self.on_fail,
            errors: Place::new(&self.errors_field, opening),
            scratch: Vec::new(),
        })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let broken = self.rules().into_iter().filter_map(|(path, mut test, said)| {
            let value = before.get(path);
            match value {
                value if test.passes(value) => None,
                None => Some(said),
                Some(_) => Some(format!("{said}: {}", before.shown(path))),
            }
        });
        joined(broken)
    }
}

/// The test of a value.
enum Test {
    Required,
    Type(Type),
    Enum(Vec<Choice>),
    Range(f64, f64),
    Pattern(Box<Regex>, Vec<u8>),
}

enum Choice {
    Text(String),
    Number(f64, String),
    Word(String),
}

impl Choice {
    fn new(json: &Json) -> Choice {
        match json {
            Json::String(text) => Choice::Text(text.clone()),
            Json::Number(number) => Choice::Number(number.as_f64().unwrap_or(f64::NAN), number.to_string()),
            other => Choice::Word(other.to_string()),
        }
    }

    fn is(&self, value: Value<'_>) -> bool {
        match (self, value) {
            (Choice::Text(text), Value::Text(bytes)) => text.as_bytes() == bytes,
            (Choice::Text(text), Value::Json(json)) => string_body(json).is_some_and(|b| body_is(b, text.as_bytes())),
            (Choice::Number(known, text), Value::Json(json)) => {
                json == text.as_bytes() || number(json).is_some_and(|number| number == *known)
            }
            (Choice::Word(word), Value::Json(json)) => json == word.as_bytes(),
            (_, Value::Text(_)) => false,
        }
    }
}

impl Test {
    fn passes(&mut self, value: Option<Value<'_>>) -> bool {
        let Some(value) = value else { return !matches!(self, Test::Required) };
        match self {
            Test::Required => !is_null(value),
            Test::Type(kind) => kind.is_of(value),
            Test::Enum(choices) => choices.iter().any(|choice| choice.is(value)),
            Test::Range(least, greatest) => match value {
                Value::Json(json) => number(json).is_some_and(|number| (*least..=*greatest).contains(&number)),
                Value::Text(_) => false,
            },
            Test::Pattern(regex, text) => match value {
                Value::Text(text) => regex.is_match(text),
                Value::Json(json) => string_body(json).is_some_and(|body| {
                    text.clear();
                    push_unescaped(body, text);
                    regex.is_match(&text[..])
                }),
            },
        }
    }
}

struct Rule {
    place: Place,
    test: Test,
    /// The message if it is broken: a JSON string, or plain text if it becomes a reason.
    said: Vec<u8>,
}

struct Validate {
    rules: Vec<Rule>,
    on_fail: OnFail,
    errors: Place,
    scratch: Vec<u8>,
}

impl Transform for Validate {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let (open, between): (&[u8], &[u8]) = match self.on_fail {
            OnFail::Tag => (b"[", b","),
            OnFail::Drop | OnFail::DeadLetter => (b"", b"; "),
        };
        self.scratch.clear();
        for rule in &mut self.rules {
            if !rule.test.passes(rule.place.get(record)) {
                self.scratch.extend_from_slice(if self.scratch.is_empty() { open } else { between });
                self.scratch.extend_from_slice(&rule.said);
            }
        }
        if self.scratch.is_empty() {
            return Verdict::Keep;
        }
        match self.on_fail {
            OnFail::Tag => {
                self.scratch.push(b']');
                self.errors.put(record, &self.scratch);
                Verdict::Keep
            }
            OnFail::Drop => Verdict::Drop,
            OnFail::DeadLetter => {
                record.give_up(Settings::NAME, format_args!("{}", String::from_utf8_lossy(&self.scratch)));
                Verdict::DeadLetter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{mistake, one};

    fn errors(rules: &str, event: &str) -> Vec<String> {
        let out: serde_json::Value = serde_json::from_str(&one(&format!("- validate: {rules}"), event)).expect("JSON");
        match out.get("validation_errors") {
            None => Vec::new(),
            Some(errors) => serde_json::from_value(errors.clone()).expect("a list of texts"),
        }
    }

    #[test]
    fn required_fields_are_there_and_not_null() {
        let rules = "{required: [a, b.c]}";
        assert!(errors(rules, r#"{"a":0,"b":{"c":""}}"#).is_empty());
        assert_eq!(errors(rules, r#"{"a":null,"b":{}}"#), ["a is missing", "b.c is missing"]);
    }

    #[test]
    fn types_are_told_apart() {
        for (kind, good, bad) in [
            ("int", "-12", "1.0"),
            ("number", "1e3", "\"1\""),
            ("float", "2", "true"),
            ("string", "\"\"", "1"),
            ("bool", "false", "null"),
            ("object", "{}", "[]"),
            ("array", "[]", "{}"),
        ] {
            let rules = format!("{{types: {{f: {kind}}}}}");
            assert!(errors(&rules, &format!("{{\"f\":{good}}}")).is_empty(), "{kind}");
            assert_eq!(errors(&rules, &format!("{{\"f\":{bad}}}")).len(), 1, "{kind}");
            assert!(errors(&rules, "{}").is_empty(), "{kind}: what is missing has no wrong type");
        }
        assert!(errors("{types: {message: string}}", "text").is_empty());
    }

    #[test]
    fn choices_compare_values_and_not_spellings() {
        let rules = "{enum: {f: [warn, 10, true, null]}}";
        for good in ["\"warn\"", "\"w\\u0061rn\"", "10", "1e1", "true", "null"] {
            assert!(errors(rules, &format!("{{\"f\":{good}}}")).is_empty(), "{good}");
        }
        for bad in ["\"10\"", "\"Warn\"", "11", "false", "[10]", "\"true\""] {
            assert_eq!(errors(rules, &format!("{{\"f\":{bad}}}")), ["f is not one of the allowed values"], "{bad}");
        }
    }

    #[test]
    fn ranges_include_their_ends() {
        let rules = "{range: {s: [100, 599], t: [null, 0.5], u: [3, null]}}";
        assert!(errors(rules, r#"{"s":100,"t":-7,"u":1e300}"#).is_empty());
        assert!(errors(rules, r#"{"s":599,"t":0.5,"u":3}"#).is_empty());
        assert_eq!(
            errors(rules, r#"{"s":99.9,"t":0.51,"u":"4"}"#),
            ["s is not from 100 to 599", "t is not 0.5 or less", "u is not 3 or more"]
        );
    }

    #[test]
    fn patterns_see_what_strings_stand_for() {
        let rules = r#"{pattern: {id: "^[a-f]{3}$"}}"#;
        assert!(errors(rules, r#"{"id":"a\u0062c"}"#).is_empty());
        assert_eq!(errors(rules, r#"{"id":"abcd"}"#), ["id does not match ^[a-f]{3}$"]);
        assert_eq!(errors(rules, r#"{"id":123}"#).len(), 1, "a number is not a string");
        assert_eq!(one("- validate: {pattern: {message: x}, on_fail: drop}", "axb"), r#"{"message":"axb"}"#);
    }

    #[test]
    fn events_that_break_rules_are_marked_or_dropped() {
        let (good, bad) = (r#"{"a":1}"#, r#"{"b":1}"#);
        assert_eq!(one("- validate: {required: [a], on_fail: drop}", good), good);
        assert_eq!(one("- validate: {required: [a], on_fail: drop}", bad), "dropped");
        let list = "- validate: {required: [a], errors_field: meta.errors}";
        assert_eq!(one(list, bad), r#"{"b":1,"meta":{"errors":["a is missing"]}}"#);
    }

    #[test]
    fn rules_that_nothing_can_keep_are_refused() {
        assert!(mistake("- validate: {}").contains("no rule"));
        assert!(mistake("- validate: {enum: {a: []}}").contains("enum.a"));
        assert!(mistake("- validate: {enum: {a: [{}]}}").contains("enum.a"));
        assert!(mistake("- validate: {range: {a: [2, 1]}}").contains("range.a"));
        assert!(mistake("- validate: {pattern: {a: \"(\"}}").contains("pattern.a"));
        assert!(mistake("- validate: {required: [a], on_fail: explode}").contains("explode"));
    }
}
