//! Regular expressions in the configuration.
//!
//! Guarantees: compiled once, when the configuration is read, into bounded memory. The time of a single search is proportional to
//! the length of the text, whatever the pattern and the text are. For all matches in a text, see [`super::matches`].

use regex_automata::meta::Regex;
use regex_automata::util::syntax::{Config, parse_with};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

/// The most bytes of one compiled pattern, and again of its cache while searching.
pub const PATTERN_BYTES_MAX: usize = 4 << 20;

/// The most nested groups of a pattern.
const NEST_MAX: u32 = 100;

/// A regular expression: its source and the compiled form.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// The source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Compiles a pattern for texts that are UTF-8; an error says what is wrong with it.
    pub fn new(source: &str) -> Result<Pattern, String> {
        Ok(Pattern { source: source.to_owned(), regex: compile(source, true)? })
    }

    /// Whether it matches only the empty string, such as `` or `^`.
    pub fn is_empty(&self) -> bool {
        parse_with(&self.source, &syntax()).is_ok_and(|parsed| parsed.properties().maximum_len() == Some(0))
    }

    /// The compiled form, for texts that are UTF-8.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

/// How patterns are read.
pub fn syntax() -> Config {
    Config::new().nest_limit(NEST_MAX)
}

/// Compiles a pattern; an error says what is wrong with it. `utf8`: only UTF-8 is searched, so that an empty match is never
/// inside a character.
pub fn compile(pattern: &str, utf8: bool) -> Result<Regex, String> {
    let limits = Regex::config()
        .nfa_size_limit(Some(PATTERN_BYTES_MAX))
        .onepass_size_limit(Some(PATTERN_BYTES_MAX))
        .hybrid_cache_capacity(PATTERN_BYTES_MAX)
        .utf8_empty(utf8);
    let regex = Regex::builder().configure(limits).syntax(syntax()).build(pattern);
    regex.map_err(|refused| match (refused.syntax_error(), refused.size_limit()) {
        (Some(syntax), _) => {
            format!("the pattern is not a valid regular expression: {}", last_line(&syntax.to_string()))
        }
        (_, Some(limit)) => format!("the compiled pattern is larger than {limit} bytes"),
        _ => format!("the pattern cannot be compiled: {refused}"),
    })
}

/// The last line of the message: the reason, without the drawing above it.
fn last_line(text: &str) -> &str {
    let line = text.lines().next_back().unwrap_or(text);
    line.strip_prefix("error: ").unwrap_or(line)
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pattern, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Pattern;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a regular expression such as '^GET /(\\w+)'")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Pattern, E> {
                Pattern::new(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Form)
    }
}

impl JsonSchema for Pattern {
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "regex"})
    }
}
