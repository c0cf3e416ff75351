//! `replace`: replaces the matches of a pattern in a string.

use super::place::{Place, push_json};
use super::text::string;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::matches::Matches;
use crate::codec::path::Path;
use crate::codec::pattern::Pattern;
use crate::config::component::Mistake;
use schemars::JsonSchema;
use serde::Deserialize;
use tailwater_shards::limits::COMPUTED_BYTES_MAX;
use tailwater_shards::record::{Record, Value};

/// Replaces all matches of `pattern` in the string of `field` with `with`. The pattern sees the string without escapes. A value
/// that is not a string, or has no match, stays unchanged.
///
/// Finding all matches may read at most 8 MiB for an event, and 16 more bytes for each byte of the string. A pattern that looks far ahead
/// for each of many matches, such as `a(.*b)?` in a string full of `a`, may need more: then the event stays unchanged, and a failure is
/// counted. Write `[^ ]*` or `.{0,200}` instead of `.*` in such patterns.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Replace")]
pub struct Settings {
    /// The field to change.
    pub field: Path,
    /// A regular expression, without lookaround and backreferences. Write it in single quotes: `'\d+'`.
    pub pattern: Pattern,
    /// The replacement for each match: `$1` and `$name` are groups of the pattern, `$0` is the whole match, `$$` is a dollar
    /// sign. If a letter or digit follows a group, write the group in braces, with a second dollar sign because `${` alone
    /// begins an environment variable: `$${1}st`.
    pub with: String,
    /// Whether to replace only the first match.
    #[serde(default)]
    pub first_only: bool,
}

/// A part of the replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Group(usize),
}

impl Settings {
    /// The parts of `with`, or what is wrong with it.
    fn parts(&self) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = self.with.as_str();
        while let Some(at) = rest.find('$') {
            literal.push_str(&rest[..at]);
            let behind = &rest[at + 1..];
            if let Some(behind) = behind.strip_prefix('$') {
                literal.push('$');
                rest = behind;
                continue;
            }
            let (name, after) = match behind.strip_prefix('{') {
                Some(inside) => inside.split_once('}').ok_or_else(|| format!("`${behind}` is not closed by `}}`"))?,
                None => {
                    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
                    behind.split_at(end)
                }
            };
            parts.push(Part::Literal(std::mem::take(&mut literal)));
            parts.push(Part::Group(self.group(name)?));
            rest = after;
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|part| *part != Part::Literal(String::new()));
        Ok(parts)
    }

    fn group(&self, name: &str) -> Result<usize, String> {
        let groups = self.pattern.regex().group_info();
        let pattern = regex_automata::PatternID::ZERO;
        let found = match name.parse::<usize>() {
            Ok(number) => (number < groups.group_len(pattern)).then_some(number),
            Err(_) => groups.to_index(pattern, name),
        };
        found.ok_or_else(|| match name {
            "" => "a `$` without a group".to_owned(),
            _ => format!("the pattern has no group `{name}`"),
        })
    }
}

impl Verb for Settings {
    const NAME: &'static str = "replace";
    const SUMMARY: &'static str = "replaces the matches of a pattern in a string";
    const EXAMPLE: &'static str = "replace: {field: path, pattern: '/users/\\d+(/|$)', with: \"/users/{id}$1\"}\n";
    const SAMPLE: &'static str = r#"{"method":"GET","path":"/users/4711/orders"}"#;
    const FAILURE: &'static str = "the new string would be too long, or it takes too much work to find all matches";

    fn check(&self) -> Vec<Mistake> {
        let help = "write `$${1}x` for a group before letters, and `$$` for a dollar sign";
        self.parts().err().into_iter().map(|what| Mistake::new("with", what, help).needing(&["pattern"])).collect()
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        Box::new(Replace {
            place: Place::new(&self.field, opening),
            matches: Matches::new(&self.pattern),
            parts: self.parts().unwrap_or_default(),
            first_only: self.first_only,
            unescaped: Vec::new(),
            replaced: Vec::new(),
            json: Vec::new(),
            failures: 0,
        })
    }
}

struct Replace {
    place: Place,
    matches: Matches,
    parts: Vec<Part>,
    first_only: bool,
    unescaped: Vec<u8>,
    replaced: Vec<u8>,
    json: Vec<u8>,
    failures: u64,
}

impl Transform for Replace {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Replace { place, matches, parts, first_only, unescaped, replaced, json, failures } = self;
        let Some(value) = place.get(record) else { return Verdict::Keep };
        let Some(text) = string(value, unescaped) else { return Verdict::Keep };
        let has_groups = parts.iter().any(|part| matches!(part, Part::Group(_)));
        let (mut clean, mut found, mut is_too_long) = (0, false, false);
        replaced.clear();
        matches.begin();
        let searched = matches.each(text, has_groups, |hit, captures| {
            found = true;
            replaced.extend_from_slice(&text[clean..hit.start()]);
            for part in &*parts {
                match part {
                    Part::Literal(literal) => replaced.extend_from_slice(literal.as_bytes()),
                    Part::Group(group) => captures
                        .get_group(*group)
                        .into_iter()
                        .for_each(|at| replaced.extend_from_slice(&text[at.range()])),
                }
            }
            clean = hit.end();
            is_too_long = replaced.len() > COMPUTED_BYTES_MAX;
            !*first_only && !is_too_long
        });
        if searched.is_err() || is_too_long {
            *failures += 1;
            return Verdict::Keep;
        }
        if !found {
            return Verdict::Keep;
        }
        replaced.extend_from_slice(&text[clean..]);
        json.clear();
        push_json(Value::Text(replaced), json);
        *failures += u64::from(!place.put(record, json));
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, mistake, one};

    fn replaced(pattern: &str, with: &str, json: &str) -> String {
        let list = format!("- replace: {{field: a, pattern: '{pattern}', with: \"{with}\"}}");
        let out = one(&list, &format!("{{\"a\":{json}}}"));
        out.strip_prefix("{\"a\":").and_then(|out| out.strip_suffix('}')).expect("one field").to_owned()
    }

    #[test]
    fn every_place_is_replaced_by_groups_and_text() {
        for (pattern, with, json, expected) in [
            (r"\d+", "N", r#""a1b22c""#, r#""aNbNc""#),
            (r"(\w+)@(?<host>\w+)", "$host at $${1}s", r#""ann@web, bob@db""#, r#""web at anns, db at bobs""#),
            (r"\d", "$$$0", r#""1 2""#, r#""$1 $2""#),
            ("b*", "-", r#""aéb""#, r#""-a-é-""#),
            ("(a)|(b)", "[$1$2]", r#""ab""#, r#""[a][b]""#),
            ("^", "> ", r#""x""#, r#""> x""#),
            (".", "", r#""abc""#, r#""""#),
            (r"\n", r"\\n\\t", r#""a\nb""#, r#""a\\n\\tb""#),
            ("\"", "'", r#""say \"x\"""#, r#""say 'x'""#),
            ("é", "e", r#""caf\u00e9""#, r#""cafe""#),
            ("x", "y", "7", "7"),
        ] {
            assert_eq!(replaced(pattern, with, json), expected, "{pattern} {with}");
        }
    }

    #[test]
    fn only_the_first_is_replaced_when_that_is_said() {
        let list = r#"- replace: {field: a.b, pattern: '\d', with: "", first_only: true}"#;
        assert_eq!(one(list, r#"{"a":{"b":"1-2"}}"#), r#"{"a":{"b":"-2"}}"#);
    }

    #[test]
    fn what_has_no_match_stays_byte_for_byte() {
        let json = r#""\u00e9\/x""#;
        assert_eq!(replaced("z", "y", json), json);
        assert_eq!(replaced("y", "z", "[\"y\"]"), "[\"y\"]", "an array is not a string");
    }

    #[test]
    fn texts_do_not_grow_without_bound() {
        let list = format!("- replace: {{field: a, pattern: '.', with: \"{}\"}}", "x".repeat(1 << 20));
        let event = format!("{{\"file\":\"f\",\"a\":\"{}\"}}", "y".repeat(1 << 20));
        let mut bench = Bench::try_new(&list).expect("valid");
        assert_eq!(bench.event(&event), Some(event));
        assert_eq!(bench.failures(), 1);
    }

    /// Each match looks for a `b` up to the end.
    #[test]
    fn matches_that_take_too_much_work_leave_the_event_as_it_is() {
        for with in ["x", "$0"] {
            let list = format!("- replace: {{field: a, pattern: 'a(.*b)?', with: \"{with}\"}}");
            let mut bench = Bench::try_new(&list).expect("valid");
            let event = |count: usize| format!("{{\"file\":\"f\",\"a\":\"{}\"}}", "a".repeat(count));
            assert_eq!(bench.event(&event(99)), Some(event(99).replace("aaa", &with.replace("$0", "a").repeat(3))));
            assert_eq!(bench.failures(), 0);
            assert_eq!(bench.event(&event(10_000)), Some(event(10_000)));
            assert_eq!(bench.failures(), 1);
            bench.event(&event(100));
            assert_eq!(bench.failures(), 0, "each event has its own work");
        }
    }

    #[test]
    fn text_events_are_replaced_in_too() {
        assert_eq!(one("- replace: {field: message, pattern: '\"', with: q}", "a \"b\""), r#"{"message":"a qbq"}"#);
    }

    #[test]
    fn mistakes_are_told() {
        let list = |pattern: &str, with: &str| {
            mistake(&format!("- replace: {{field: a, pattern: '{pattern}', with: \"{with}\"}}"))
        };
        assert!(list("(", "").contains("unclosed group"));
        assert!(list("x{1000}{1000}", "").contains("the compiled pattern"));
        assert!(list("(?=x)", "").contains("look-around"));
        assert!(list("(a)", "$2").contains("with: the pattern has no group `2`"));
        assert!(list("(a)", "$1x").contains("no group `1x`"));
        assert!(list("a", "$${0").contains("not closed"));
        assert!(list("a", "5 $").contains("without a group"));
    }
}
