//! Templates: strings that contain values of an event.
//!
//! ```text
//! {{ service }}-{{ http.status }}   {{ hostname }}   {{ origin().file }}   {{ %Y-%m-%d }}
//! ```
//!
//! Between `{{` and `}}` is one of: a path, which is replaced by its value (a string without quotes, any other value as JSON, a
//! missing field as nothing); `hostname`, which is the name of the host (with `on_conflict: theirs` only if the event has no field
//! of that name; `["hostname"]` is always the field); a part of the origin; or a strftime format, which is filled with the time of
//! the event in UTC. The value of a variable is a string, whatever it holds.

use super::Opening;
use super::condition::meta_of;
use super::place::Place;
use crate::codec::marked;
use crate::codec::path::Path;
use crate::expr::{FUNCTION, Origin};
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use std::sync::Arc;
use tailwater_shards::record::{Record, Value};
use tailwater_shards::scan::escape_json_into;
use tailwater_shards::shape::Meta;

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Field(Path),
    /// The name of the host.
    Host,
    Origin(Origin),
    Time(String),
}

/// A template as written in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

impl Template {
    /// Parses a template, or says all that is wrong with it.
    pub fn parse(text: &str) -> Result<Template, Vec<String>> {
        let (mut parts, mut wrong) = (Vec::new(), Vec::new());
        let (mut rest, mut literal) = (text, String::new());
        while let Some(character) = rest.chars().next() {
            if let Some((value, behind)) = marked::value(rest) {
                literal.push_str(value);
                rest = behind;
                continue;
            }
            let Some(behind) = rest.strip_prefix("{{") else {
                literal.push(character);
                rest = &rest[character.len_utf8()..];
                continue;
            };
            let Some(close) = marked::find(behind, "}}") else {
                wrong.push(format!("`{}` is not closed by `}}}}`", marked::shown(rest)));
                break;
            };
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            match part_of(&behind[..close]) {
                Ok(part) => parts.push(part),
                Err(what) => wrong.push(what),
            }
            rest = &behind[close + 2..];
        }
        if !literal.is_empty() || parts.is_empty() {
            parts.push(Part::Literal(literal));
        }
        if wrong.is_empty() { Ok(Template(parts)) } else { Err(wrong) }
    }

    /// The string, if it is the same for every event.
    pub fn constant(&self) -> Option<&str> {
        match &self.0[..] {
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The parts of the origin that are probably meant by `{{ origin.file }}`, which is a field that events can set.
    pub fn claimed_origins(text: &str) -> Vec<Origin> {
        let inside =
            text.split("{{").skip(1).filter_map(|behind| behind.split_once("}}")).map(|(inside, _)| inside.trim());
        inside.filter_map(|inside| Origin::named(inside.strip_prefix(FUNCTION)?.strip_prefix('.')?).ok()).collect()
    }

    /// Opens it on one shard.
    pub fn open(&self, opening: &mut Opening<'_>) -> OpenTemplate {
        let host = opening.facts.host.clone();
        let parts = self.0.iter().map(|part| match part {
            Part::Literal(text) => {
                let mut escaped = Vec::new();
                escape_json_into(text.as_bytes(), &mut escaped);
                OpenPart::Literal(escaped)
            }
            Part::Field(path) => OpenPart::Field(Place::new(path, opening), None),
            Part::Host if opening.shapes.has_guard() => OpenPart::Origin(Meta::Host),
            Part::Host => OpenPart::Field(Place::new(&Path::field(HOST), opening), Some(host.clone())),
            Part::Origin(part) => {
                if *part == Origin::Offset {
                    opening.shapes.need_offset();
                }
                OpenPart::Origin(meta_of(*part))
            }
            Part::Time(format) => OpenPart::Time { format: format.clone(), second: i64::MIN, text: String::new() },
        });
        OpenTemplate(parts.collect())
    }
}

/// What the name of the host is called.
const HOST: &str = "hostname";

/// What stands between `{{` and `}}`.
fn part_of(written: &str) -> Result<Part, String> {
    let is_time = marked::written(written).trim_start().starts_with('%');
    let inside = marked::plain(written);
    let inside = inside.trim();
    match is_time {
        true => format_of(inside).map(Part::Time),
        false if inside == HOST => Ok(Part::Host),
        false if let Some(name) = inside.strip_prefix("origin()") => {
            let part = Origin::named(name.strip_prefix('.').unwrap_or_default().trim());
            part.map(Part::Origin).map_err(|help| format!("`{inside}` is not known: {help}"))
        }
        false => inside.parse().map(Part::Field).map_err(|error| format!("`{inside}` is not a path: {error}")),
    }
}

fn format_of(format: &str) -> Result<String, String> {
    let noon = jiff::Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC);
    match BrokenDownTime::from(&noon).to_string(format) {
        Ok(_) => Ok(format.to_owned()),
        Err(error) => Err(format!("`{format}` is not a time format: {error}")),
    }
}

enum OpenPart {
    Literal(Vec<u8>),
    /// The field, and its replacement if it is missing.
    Field(Place, Option<Arc<str>>),
    Origin(Meta),
    Time {
        format: String,
        /// The second that `text` was made for.
        second: i64,
        text: String,
    },
}

/// A template of one shard.
pub struct OpenTemplate(Vec<OpenPart>);

impl OpenTemplate {
    /// Appends the result for an event as a JSON string.
    pub fn push(&mut self, record: &Record<'_>, out: &mut Vec<u8>) {
        out.push(b'"');
        for part in &mut self.0 {
            match part {
                OpenPart::Literal(escaped) => out.extend_from_slice(escaped),
                OpenPart::Field(place, instead) => match (place.get(record), instead) {
                    (Some(value), _) => push_inside(value, out),
                    (None, Some(host)) => drop(escape_json_into(host.as_bytes(), out)),
                    (None, None) => {}
                },
                OpenPart::Origin(meta) => {
                    if let Some(json) = record.origin(*meta) {
                        push_inside(Value::Json(json), out);
                    }
                }
                OpenPart::Time { format, second, text } => {
                    let now = record.timestamp.0.div_euclid(1_000_000_000);
                    if now != *second {
                        *second = now;
                        *text = formatted(format, now);
                    }
                    escape_json_into(text.as_bytes(), out);
                }
            }
        }
        out.push(b'"');
    }
}

/// Appends a value to the inside of a JSON string.
fn push_inside(value: Value<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Json([b'"', body @ .., b'"']) => out.extend_from_slice(body),
        Value::Json(bytes) | Value::Text(bytes) => drop(escape_json_into(bytes, out)),
    }
}

fn formatted(format: &str, second: i64) -> String {
    let time = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC);
    BrokenDownTime::from(&time).to_string(format).unwrap_or_default()
}
