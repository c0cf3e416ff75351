//! `redact`: replaces secrets in strings.

use super::place::Place;
use super::secrets::{Finder, Preset};
use super::text::{text, unescaped};
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::json::string_end;
use crate::codec::path::Path;
use crate::codec::pattern::Pattern;
use crate::config::component::Mistake;
use memchr::memchr;
use schemars::JsonSchema;
use serde::Deserialize;
use std::ops::Range;
use tailwater_shards::limits::COMPUTED_BYTES_MAX;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::shape::Field;

/// Searches strings for kinds of secrets (`presets`) and for your own patterns (`patterns`). All matches in a string are found
/// before anything is replaced, and overlapping matches are replaced once. The patterns see strings without escapes. A string
/// without a match stays unchanged, byte for byte. Names of fields are not searched.
///
/// - `email`: addresses with a domain of at least two parts.
/// - `card`: numbers of 13 to 19 digits, also with single spaces or dashes between them, that begin with 2 to 6 (the industries
///   that issue cards, ISO/IEC 7812-1) and have a correct check digit. Dates such as 20261123102030 are excluded. JSON numbers
///   are searched too.
/// - `ipv4` and `ipv6`: IP addresses; of IPv6 in every valid form.
/// - `bearer`: what follows the word `bearer`, unless it is a short word of letters, as in a sentence.
///
/// The searches of a pattern read at most 8 MiB for an event, and 16 more bytes for each byte of its strings. A pattern that looks far
/// ahead for each of many matches, such as `a(.*b)?` in a string full of `a`, may need more: then the whole string is replaced, and a
/// failure is counted. Write `[^ ]*` or `.{0,200}` instead of `.*` in such patterns.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Redact")]
pub struct Settings {
    /// The fields to search, including everything inside them. By default, all fields of the event.
    #[serde(default)]
    pub fields: Option<Vec<Path>>,
    /// Kinds of secrets to look for. At least one of `presets` and `patterns` is needed.
    #[serde(default)]
    pub presets: Vec<Preset>,
    /// Regular expressions to look for. Write them in single quotes: `'tok_\w+'`.
    #[serde(default)]
    pub patterns: Vec<Pattern>,
    /// The replacement for each match.
    #[serde(default = "stars")]
    pub with: String,
}

fn stars() -> String {
    "***".to_owned()
}

impl Verb for Settings {
    const NAME: &'static str = "redact";
    const SUMMARY: &'static str = "replaces secrets in strings with asterisks";
    const EXAMPLE: &'static str = "redact: {presets: [email, card, bearer], patterns: ['tok_\\w+']}\n";
    const SAMPLE: &'static str = r#"{"message":"ann@example.com paid with 4111 1111 1111 1111","auth":["Bearer eyJhbGciOi","tok_8fj2"],"order":4711}"#;
    const FAILURE: &'static str = "the event is too large for a new value, so the field is removed; or a string takes too much work to be \
                                   searched, so all of it is replaced";

    fn check(&self) -> Vec<Mistake> {
        let mut mistakes = Vec::new();
        if self.presets.is_empty() && self.patterns.is_empty() {
            let what = "`presets` and `patterns` are both missing, so there is nothing to look for";
            mistakes.push(
                Mistake::new("presets", what, "write `presets: [email, card]`").needing(&["presets", "patterns"]),
            );
        }
        for (place, _) in self.patterns.iter().enumerate().filter(|(_, pattern)| pattern.is_empty()) {
            let what = "the pattern matches only empty strings, so there is nothing to replace";
            let help = "write a pattern that matches the secret: `'tok_\\w+'`";
            mistakes.push(Mistake::new(format!("patterns.{place}"), what, help));
        }
        mistakes
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let mut with = Vec::new();
        escape_json_into(self.with.as_bytes(), &mut with);
        let patterns = self.patterns.iter().map(Finder::pattern);
        let places = self.fields.iter().flatten();
        Box::new(Redact {
            places: self.fields.is_some().then(|| places.map(|path| Place::new(path, opening)).collect()),
            work: Work {
                finders: self.presets.iter().map(|preset| Finder::Preset(*preset)).chain(patterns).collect(),
                with,
                found: Vec::new(),
                unescaped: Vec::new(),
                card: self.presets.contains(&Preset::Card),
                is_over: false,
            },
            fields: Vec::new(),
            made: Vec::new(),
            out: Vec::new(),
            failures: 0,
        })
    }
}

struct Redact {
    /// None: all fields.
    places: Option<Vec<Place>>,
    work: Work,
    fields: Vec<Field>,
    /// The fields with a new value, by their index in `fields`, and where the value ends in `out`.
    made: Vec<(usize, usize)>,
    /// The new values, one after the other.
    out: Vec<u8>,
    failures: u64,
}

impl Transform for Redact {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        self.work.begin();
        match &self.places {
            Some(_) => self.apply_to_places(record),
            None => self.apply_to_all(record),
        }
        self.failures += u64::from(self.work.is_over);
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

impl Redact {
    fn apply_to_places(&mut self, record: &mut Record<'_>) {
        let Redact { places, work, out, failures, .. } = self;
        for place in places.iter_mut().flatten() {
            out.clear();
            place.leave_last(record);
            let Some(value) = place.get(record) else { continue };
            if work.value(value, out) && !place.put(record, out) {
                // The new value does not fit, and the old one must not leave.
                place.remove(record);
                *failures += 1;
            }
        }
    }

    fn apply_to_all(&mut self, record: &mut Record<'_>) {
        let Redact { work, fields, made, out, .. } = self;
        out.clear();
        made.clear();
        fields.clear();
        fields.extend_from_slice(record.fields());
        for (at, field) in fields.iter().enumerate() {
            if work.value(record.value(field.source), out) {
                made.push((at, out.len()));
            }
        }
        if made.is_empty() {
            return;
        }
        if !recast(record, fields, made, Some(out)) {
            recast(record, fields, made, None);
            self.failures += 1;
        }
    }
}

/// Writes the new values to the event, or removes the fields if they do not fit.
fn recast(record: &mut Record<'_>, fields: &[Field], made: &[(usize, usize)], values: Option<&[u8]>) -> bool {
    let mut recast = record.recast();
    let (mut start, mut made) = (0, made.iter().peekable());
    for (at, field) in fields.iter().enumerate() {
        match (made.next_if(|(of, _)| *of == at), values) {
            (None, _) => recast.keep(*field),
            (Some(_), None) => {}
            (Some((_, end)), Some(values)) => {
                recast.put(field.key, |arena| arena.extend_from_slice(&values[start..*end]));
                start = *end;
            }
        }
    }
    recast.finish()
}

struct Work {
    finders: Vec<Finder>,
    /// The replacement, escaped.
    with: Vec<u8>,
    found: Vec<Range<usize>>,
    unescaped: Vec<u8>,
    /// Whether numbers are searched.
    card: bool,
    /// Whether a string of the event took too much work.
    is_over: bool,
}

impl Work {
    /// Begins an event.
    fn begin(&mut self) {
        self.is_over = false;
        self.finders.iter_mut().for_each(Finder::begin);
    }

    /// Appends the value without its secrets. False, and nothing is appended, if it has none.
    fn value(&mut self, value: Value<'_>, out: &mut Vec<u8>) -> bool {
        match value {
            Value::Json(json) if !json.starts_with(b"\"") => self.nested(json, out),
            value => {
                let mut scratch = std::mem::take(&mut self.unescaped);
                let text = text(value, &mut scratch);
                let found = self.find(text);
                if found {
                    self.write(text, out);
                }
                self.unescaped = scratch;
                found
            }
        }
    }

    /// Finds the secrets of a string. One that takes too much work is a secret as a whole.
    fn find(&mut self, text: &[u8]) -> bool {
        self.found.clear();
        for finder in &mut self.finders {
            if finder.find(text, &mut self.found).is_err() {
                self.is_over = true;
                self.found.push(0..text.len());
                break;
            }
        }
        !self.found.is_empty()
    }

    /// Appends a string without the secrets that were found in it.
    fn write(&mut self, text: &[u8], out: &mut Vec<u8>) {
        self.found.sort_unstable_by_key(|range| range.start);
        out.push(b'"');
        let mut clean = 0;
        let mut ranges = self.found.iter().cloned().peekable();
        // A value beyond the limit for an event does not fit anyway, so the loop stops.
        while let Some(mut range) = ranges.next().filter(|_| out.len() <= COMPUTED_BYTES_MAX) {
            while let Some(next) = ranges.next_if(|next| next.start < range.end) {
                range.end = range.end.max(next.end);
            }
            escape_json_into(&text[clean..range.start], out);
            out.extend_from_slice(&self.with);
            clean = range.end;
        }
        escape_json_into(&text[clean..], out);
        out.push(b'"');
    }

    /// The same for an object, an array, or any value that is not a string.
    fn nested(&mut self, json: &[u8], out: &mut Vec<u8>) -> bool {
        let start = out.len();
        let (mut at, mut clean) = (0, 0);
        let mut scratch = std::mem::take(&mut self.unescaped);
        while let Some(quote) = memchr(b'"', &json[at..]).map(|length| at + length) {
            self.numbers(json, at..quote, &mut clean, out);
            let Some(end) = string_end(json, quote) else { break };
            at = end;
            let behind = json[end..].iter().find(|byte| !byte.is_ascii_whitespace());
            // Names are not searched.
            if behind == Some(&b':') {
                continue;
            }
            let text = unescaped(&json[quote + 1..end - 1], &mut scratch);
            if self.find(text) {
                // Only now: a value with many strings would be copied once for each of them.
                out.extend_from_slice(&json[clean..quote]);
                self.write(text, out);
                clean = end;
            }
        }
        self.numbers(json, at..json.len(), &mut clean, out);
        self.unescaped = scratch;
        if clean > 0 {
            out.extend_from_slice(&json[clean..]);
        }
        debug_assert!(clean > 0 || out.len() == start, "nothing is appended where nothing is found");
        clean > 0
    }

    /// Looks for card numbers among the JSON numbers between two strings.
    fn numbers(&mut self, json: &[u8], between: Range<usize>, clean: &mut usize, out: &mut Vec<u8>) {
        if !self.card || between.len() < 13 {
            return;
        }
        self.found.clear();
        Preset::Card.find(&json[between.clone()], &mut self.found);
        for range in &self.found {
            let (start, end) = (between.start + range.start, between.start + range.end);
            // Spaces and dashes between digits are not part of a JSON number, and a part of a number cannot become a string.
            let apart = |byte: Option<&u8>| {
                byte.is_none_or(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'[' | b']' | b'}' | b',' | b':'))
            };
            let whole = json[start..end].iter().all(u8::is_ascii_digit)
                && apart(start.checked_sub(1).map(|before| &json[before]))
                && apart(json.get(end));
            if !whole {
                continue;
            }
            out.extend_from_slice(&json[*clean..start]);
            out.push(b'"');
            out.extend_from_slice(&self.with);
            out.push(b'"');
            *clean = end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::secrets::{Finder, Preset};
    use crate::transforms::tests::{Bench, mistake, one};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn part_of_a_number_stays_one() {
        for event in [r#"{"a":0e+4111111111111111}"#, r#"{"a":-4111111111111111}"#, r#"{"a":4111111111111111.5}"#] {
            assert_eq!(one("- redact: {presets: [card]}", event), event);
        }
        assert_eq!(one("- redact: {presets: [card]}", r#"{"a":[4111111111111111 ]}"#), r#"{"a":["***" ]}"#);
    }

    #[test]
    fn value_without_secrets_is_not_copied() {
        let mut work = super::Work {
            finders: vec![Finder::Preset(Preset::Email)],
            with: b"***".to_vec(),
            found: Vec::new(),
            unescaped: Vec::new(),
            card: false,
            is_over: false,
        };
        let mut out = Vec::new();
        assert!(!work.nested(br#"{"a":["","x",{"b":"y"}],"c":[1,"z"]}"#, &mut out));
        assert_eq!(out.capacity(), 0, "not even a part of it");
    }

    #[test]
    fn all_texts_of_an_event_are_looked_at() {
        let event =
            r#"{"a":"mail ann@example.com","b":{"c":["x",{"ann@example.com":"bob@example.org"}],"n":1},"d":"none"}"#;
        assert_eq!(
            one("- redact: {presets: [email]}", event),
            r#"{"a":"mail ***","b":{"c":["x",{"ann@example.com":"***"}],"n":1},"d":"none"}"#
        );
        assert_eq!(
            one("- redact: {presets: [email], fields: [b.c, d, x], with: \"<\\\"mail\\\">\"}", event),
            r#"{"a":"mail ann@example.com","b":{"c":["x",{"ann@example.com":"<\"mail\">"}],"n":1},"d":"none"}"#
        );
        assert_eq!(one("- redact: {presets: [email]}", "from ann@example.com"), r#"{"message":"from ***"}"#);
    }

    #[test]
    fn what_is_escaped_is_found_and_the_rest_stays_byte_for_byte() {
        let event =
            r#"{"a":"\u0061nn\u0040example.com\n\"","b":"\u00e9","c":{ "d" : "\u00e9" , "e":["ann@example.com" ] }}"#;
        assert_eq!(
            one("- redact: {presets: [email]}", event),
            r#"{"a":"***\n\"","b":"\u00e9","c":{ "d" : "\u00e9" , "e":["***" ] }}"#
        );
    }

    #[test]
    fn what_overlaps_is_replaced_once() {
        let list = "- redact: {patterns: ['b+', 'abbc', 'x*'], with: \"-\"}";
        assert_eq!(one(list, r#"{"a":"abbc bb"}"#), r#"{"a":"- -"}"#);
        assert_eq!(one("- redact: {patterns: ['x']}", r#"{"a":"xx"}"#), r#"{"a":"******"}"#, "neighbours are two");
    }

    /// Each match looks for a `b` up to the end.
    #[test]
    fn string_that_takes_too_much_work_does_not_leave_and_the_others_are_searched() {
        let event =
            |count: usize| format!(r#"{{"file":"f","a":["{}","x"],"c":"b a@b.de","d":"ccab"}}"#, "a".repeat(count));
        let out = r#"{"file":"f","a":["***","x"],"c":"b ***","d":"cc***"}"#;
        for fields in ["", ", fields: [a, c, d]"] {
            let list = format!("- redact: {{patterns: ['a(.*b)?'], presets: [email]{fields}}}");
            let mut bench = Bench::try_new(&list).expect("valid");
            assert_eq!(bench.event(&event(3)), Some(out.replacen("***", &"***".repeat(3), 1)));
            assert_eq!(bench.failures(), 0);
            assert_eq!(bench.event(&event(10_000)).as_deref(), Some(out));
            assert_eq!(bench.failures(), 1);
        }
    }

    #[test]
    fn cards_are_found_as_numbers_too() {
        let event = r#"{"a":4111111111111111,"b":[1, 4111111111111111,-4111111111111111],"c":4111111111111112,"d":{"e":4111111111111111.5}}"#;
        assert_eq!(
            one("- redact: {presets: [card]}", event),
            r#"{"a":"***","b":[1, "***",-4111111111111111],"c":4111111111111112,"d":{"e":4111111111111111.5}}"#
        );
        assert_eq!(one("- redact: {presets: [email]}", event), event);
    }

    #[test]
    fn a_secret_does_not_leave_for_want_of_room() {
        let list = format!("- redact: {{presets: [email], with: \"{}\"}}", "x".repeat(5 << 20));
        let mut bench = Bench::try_new(&list).expect("valid");
        let event = r#"{"a":"ann@example.com bob@example.com","b":1,"c":["bob@example.com ann@example.com"]}"#;
        assert_eq!(bench.event(event).as_deref(), Some(r#"{"file":"a.log","b":1}"#));
        assert_eq!(bench.failures(), 1);
    }

    #[test]
    fn very_many_fields_are_looked_at_and_kept_in_one_step() {
        let fields: serde_json::Map<String, Value> =
            (0..9000).map(|number| (format!("k{number}"), json!("a@b.de"))).collect();
        let mut bench = Bench::try_new("- remove: [file]\n- redact: {presets: [email]}").expect("valid");
        for _ in 0..3 {
            let out = bench.event(&Value::Object(fields.clone()).to_string()).expect("kept");
            assert_eq!(out.matches("\"***\"").count(), 9000);
            assert!(!out.contains('@'));
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- redact: {fields: [a]}").contains("`presets` and `patterns` are both missing"));
        assert!(mistake("- redact: {presets: [phone]}").contains("phone"));
        assert!(mistake("- redact: {patterns: ['(']}").contains("unclosed group"));
        for empty in ["", "^", "$|^", "\\b", "()*"] {
            let list = format!("- redact: {{patterns: [a, '{empty}']}}");
            assert!(mistake(&list).contains("patterns.1: the pattern matches only empty strings"), "{empty}");
        }
        for (pattern, out) in [("b*", "a***c"), ("(b)?", "a******c"), ("c?|", "abb***")] {
            let list = format!("- redact: {{patterns: ['{pattern}']}}");
            assert_eq!(one(&list, r#"{"a":"abbc"}"#), format!("{{\"a\":\"{out}\"}}"), "{pattern}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<i32>().prop_map(Value::from),
            "[ab\"\\\\é{}:,\n]{0,5}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("[ab\"]{0,2}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn model(value: &mut Value) {
        match value {
            Value::String(text) => *text = text.replace('a', "<\">"),
            Value::Array(list) => list.iter_mut().for_each(model),
            Value::Object(map) => map.values_mut().for_each(model),
            _ => {}
        }
    }

    proptest! {
        #[test]
        fn texts_at_any_depth_agree_with_the_model(fields in proptest::collection::btree_map("[a-e]", value(), 0..5), pretty in any::<bool>()) {
            let event = Value::Object(fields.into_iter().collect());
            let line = if pretty { serde_json::to_string_pretty(&event).map(|text| text.replace('\n', " ")) } else { serde_json::to_string(&event) };
            let mut bench = Bench::try_new("- remove: [file]\n- redact: {patterns: [a], with: '<\">'}").expect("valid");
            let out: Value = serde_json::from_str(&bench.event(&line.expect("JSON")).expect("kept")).expect("JSON");
            let mut expected = event;
            model(&mut expected);
            prop_assert_eq!(out, expected);
        }
    }
}
