//! Regular expressions of the configuration.
//!
//! Guarantees: compiled once, when the configuration is read, into bounded memory; a search takes time in proportion to the text,
//! whatever the pattern and the text.

use regex_automata::meta::Regex;
use regex_automata::util::syntax;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Bytes that one pattern may take once compiled, and again for what is found out while searching.
pub const PATTERN_BYTES_MAX: usize = 4 << 20;

/// Groups inside of groups that a pattern may have.
const NEST_MAX: u32 = 100;

/// A regular expression as it is written, and compiled.
#[derive(Clone, Debug)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// As it is written.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether it finds nothing but empty places, such as `` or `^`.
    pub fn is_empty(&self) -> bool {
        let config = syntax::Config::new().nest_limit(NEST_MAX);
        syntax::parse_with(&self.source, &config).is_ok_and(|parsed| parsed.properties().maximum_len() == Some(0))
    }

    /// As it is searched for, in texts that are UTF-8.
    pub fn regex(&self) -> &Regex {
        &self.regex
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Pattern) -> bool {
        self.source == other.source
    }
}

/// Compiles a pattern; says what is wrong with it. `utf8`: only texts in UTF-8 are searched, so that no match is empty inside of
/// a character.
pub fn compile(pattern: &str, utf8: bool) -> Result<Regex, String> {
    let limits = Regex::config()
        .nfa_size_limit(Some(PATTERN_BYTES_MAX))
        .onepass_size_limit(Some(PATTERN_BYTES_MAX))
        .hybrid_cache_capacity(PATTERN_BYTES_MAX)
        .utf8_empty(utf8);
    let regex = Regex::builder().configure(limits).syntax(syntax::Config::new().nest_limit(NEST_MAX)).build(pattern);
    regex.map_err(|refused| match (refused.syntax_error(), refused.size_limit()) {
        (Some(syntax), _) => {
            format!("the pattern is not a valid regular expression: {}", last_line(&syntax.to_string()))
        }
        (_, Some(limit)) => format!("the pattern takes more than {limit} bytes once compiled"),
        _ => format!("the pattern cannot be compiled: {refused}"),
    })
}

/// The reason, without the drawing of the pattern above it.
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
                let regex = compile(text, true).map_err(E::custom)?;
                Ok(Pattern { source: text.to_owned(), regex })
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
