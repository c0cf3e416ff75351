//! Templates that are filled with an event's fields: `logs-{{ service }}-%Y.%m.%d`.
//!
//! Guarantees: dates are those of the event, in the configured zone. A field's value is its string, number or boolean; a name
//! with dots is looked up as one name first, then as a path through nested objects. If an event lacks a field, or the field is not
//! a string, number or boolean, its default is used (`{{ service | default('none') }}`), or else `unknown`. Nothing is escaped or
//! limited: the caller knows which values are valid.

use super::calendar::{Civil, digits};
use super::json::{find_field, string_body, unescape_json};
use super::marked;
use super::zone::Zone;
use std::collections::BTreeMap;
use std::ops::Range;
use tailwater_shards::env::Timestamp;
use tailwater_shards::plugin::Event;
use tailwater_shards::scan::escape_json_into;

/// The parts of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    Literal(Vec<u8>),
    /// A strftime specifier.
    Date(u8),
    /// The name of a field, escaped as in an event's line.
    Field(Vec<u8>),
}

/// What replaces a field that an event does not have.
pub const UNKNOWN: &[u8] = b"unknown";

/// What replaces fields that an event does not have, by their names as in [`Part::Field`].
pub type Defaults = BTreeMap<Vec<u8>, Vec<u8>>;

/// A text with dates and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    dates: Dates,
    defaults: Defaults,
}

/// The dates of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dates {
    /// The shortest time after which they can change, in nanoseconds; zero without dates.
    step_nanos: i64,
    zone: Zone,
}

/// Zone offsets change at times that are a multiple of this since 1970.
const CHANGE_NANOS: i64 = 900 * 1_000_000_000;

impl Dates {
    /// The dates of a template, in UTC.
    pub fn of<'a>(parts: impl Iterator<Item = &'a Part>) -> Dates {
        let steps = parts.filter_map(|part| match part {
            Part::Date(b'S' | b's') => Some(1),
            Part::Date(b'M') => Some(60),
            Part::Date(b'H') => Some(3600),
            Part::Date(_) => Some(86_400),
            _ => None,
        });
        Dates { step_nanos: steps.min().unwrap_or(0) * 1_000_000_000, zone: Zone::UTC }
    }

    /// The same in another zone.
    pub fn in_zone(self, zone: &Zone) -> Dates {
        Dates { zone: zone.clone(), ..self }
    }

    /// Whether there are no dates.
    pub fn none(&self) -> bool {
        self.step_nanos == 0
    }

    /// The local date and time at a moment.
    pub fn civil(&self, moment: Timestamp) -> Civil {
        match self.zone {
            Zone::Fixed(0) => Civil::of(moment),
            _ => Civil::of(Timestamp(moment.0.saturating_add(self.offset_nanos(moment)))),
        }
    }

    fn offset_nanos(&self, moment: Timestamp) -> i64 {
        self.zone.offset_at(moment.0.div_euclid(1_000_000_000)) * 1_000_000_000
    }

    /// The range of times around `moment` that have the same dates.
    pub fn same(&self, moment: Timestamp) -> Range<i64> {
        if self.none() {
            return i64::MIN..i64::MAX;
        }
        let (mut step, offset) = (self.step_nanos, self.offset_nanos(moment));
        if let Zone::Named(_) = self.zone {
            // Before standard time, offsets changed at any second.
            step = if offset % CHANGE_NANOS == 0 { step.min(CHANGE_NANOS) } else { step.min(1_000_000_000) };
        }
        let start = moment.0 - moment.0.saturating_add(offset).rem_euclid(step);
        start..start.saturating_add(step)
    }
}

impl Template {
    /// Parses a template; an error says everything that is wrong with it. The value of a variable (see [`marked`]) is literal text.
    pub fn parse(text: &str) -> Result<Template, Vec<String>> {
        let (mut parts, mut defaults, mut wrong) = (Vec::new(), Defaults::new(), Vec::new());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let pushed = if let Some((value, behind)) = marked::value(rest) {
                push_literal(value.as_bytes(), &mut parts);
                Ok(behind)
            } else if let Some(behind) = rest.strip_prefix("{{") {
                push_name(behind, &mut parts, &mut defaults).map_err(|what| (what, behind_name(behind)))
            } else if let Some(behind) = rest.strip_prefix('%') {
                push_date(behind, &mut parts).map_err(|what| (what, behind_date(behind)))
            } else {
                push_literal(&rest.as_bytes()[..character.len_utf8()], &mut parts);
                Ok(&rest[character.len_utf8()..])
            };
            rest = pushed.unwrap_or_else(|(what, behind)| {
                wrong.push(what);
                behind
            });
        }
        let dates = Dates::of(parts.iter());
        if wrong.is_empty() { Ok(Template { parts, dates, defaults }) } else { Err(wrong) }
    }

    /// The same with the dates of another zone.
    pub fn in_zone(self, zone: &Zone) -> Template {
        Template { dates: self.dates.in_zone(zone), ..self }
    }

    /// Whether the text depends on the fields of an event.
    pub fn has_fields(&self) -> bool {
        self.fields().next().is_some()
    }

    /// Whether the text depends on the date of an event.
    pub fn has_dates(&self) -> bool {
        !self.dates.none()
    }

    /// The names of the fields that it contains, as they are written in an event's line.
    pub fn fields(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().filter_map(|part| match part {
            Part::Field(name) => Some(name.as_slice()),
            _ => None,
        })
    }

    /// Whether a letter, a digit or a date comes before the first field. Then no value decides how the text begins.
    pub fn begins_fixed(&self) -> bool {
        self.before_fields().any(|part| match part {
            Part::Literal(text) => String::from_utf8_lossy(text).contains(char::is_alphanumeric),
            Part::Date(_) | Part::Field(_) => true,
        })
    }

    /// Whether the text begins with a field.
    pub fn begins_with_field(&self) -> bool {
        self.has_fields() && self.before_fields().next().is_none()
    }

    /// The parts before the first field.
    fn before_fields(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().take_while(|part| !matches!(part, Part::Field(_)))
    }

    /// The number of bytes that it has only because an event without fields has none of its fields.
    pub fn missing_bytes(&self) -> usize {
        self.fields().map(|name| self.missing(name).len()).sum()
    }

    /// Whether a field has a default.
    pub fn has_defaults(&self) -> bool {
        !self.defaults.is_empty()
    }

    /// The first field that has no default and is not `added` to each event, as it is written in an event's line.
    pub fn without_default(&self, added: impl Fn(&[u8]) -> bool) -> Option<&[u8]> {
        self.fields().find(|name| !self.defaults.contains_key(*name) && !added(name))
    }

    /// What replaces a field that an event does not have.
    fn missing(&self, name: &[u8]) -> &[u8] {
        self.defaults.get(name).map_or(UNKNOWN, Vec::as_slice)
    }

    /// The range of times around `moment` that have the same dates.
    pub fn same_dates(&self, moment: Timestamp) -> Range<i64> {
        self.dates.same(moment)
    }

    /// Appends the text for an event. A field that is missing, or that is not a string, number or boolean, becomes its default
    /// or `unknown`. Returns whether each field without a default was present.
    pub fn render(&self, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        let civil = self.dates.civil(event.timestamp);
        let mut all_known = true;
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Date(letter) => push_civil(&civil, event.timestamp, *letter, out),
                Part::Field(name) if push_field(event.line, name, out) => {}
                Part::Field(name) => {
                    out.extend_from_slice(self.missing(name));
                    all_known &= self.defaults.contains_key(name);
                }
            }
        }
        all_known
    }
}

/// Whether a string looks like a template. For settings that are sent as they are.
pub fn is_template(text: &str) -> bool {
    text.find("{{").is_some_and(|open| text[open..].contains("}}"))
}

/// What is behind the name of a field that is wrong: nothing, if it does not end.
pub fn behind_name(text: &str) -> &str {
    marked::find(text, "}}").map_or("", |close| &text[close + 2..])
}

/// What is behind the letter of a date that is wrong.
pub fn behind_date(text: &str) -> &str {
    let mut letters = text.chars();
    letters.next();
    letters.as_str()
}

/// Parses the name of a field, and its default if it has one, up to `}}`; returns the rest.
pub fn push_name<'a>(text: &'a str, parts: &mut Vec<Part>, defaults: &mut Defaults) -> Result<&'a str, String> {
    let close = marked::find(text, "}}").ok_or("`{{` without `}}`")?;
    let (name, default) = name_and_default(&text[..close])?;
    let mut escaped = Vec::new();
    escape_json_into(name.as_bytes(), &mut escaped);
    if let Some(default) = default {
        let before = defaults.insert(escaped.clone(), default.clone().into_bytes());
        if before.is_some_and(|before| before != default.as_bytes()) {
            return Err(format!("`{}`: the field has two defaults", marked::shown(&text[..close]).trim()));
        }
    }
    parts.push(Part::Field(escaped));
    Ok(&text[close + 2..])
}

/// The field in `{{ }}` and its optional default: `host | default('none')`.
fn name_and_default(inside: &str) -> Result<(String, Option<String>), String> {
    let bar = marked::find(inside, "|");
    let written = &inside[..bar.unwrap_or(inside.len())];
    let (name, shown) = (marked::plain(written).trim().to_owned(), marked::shown(written));
    let shown = shown.trim();
    if name.is_empty() {
        return Err("`{{ }}` has no field name".to_owned());
    }
    if name.starts_with("origin()") {
        let help =
            "write for example `add: {source: \"{{ origin().file }}\"}` in `transforms`, and use that field here";
        return Err(format!("`{shown}` is known only in conditions and in `add`: {help}"));
    }
    let Some(filter) = bar.map(|bar| inside[bar + 1..].trim()) else { return Ok((name, None)) };
    let plain = marked::plain(filter);
    let quoted = plain.strip_prefix("default(").and_then(|rest| rest.strip_suffix(')')).map(str::trim);
    let is_quoted = |text: &str, quote: char| text.len() > 1 && text.starts_with(quote) && text.ends_with(quote);
    let is_text = |text: &&str| is_quoted(text, '\'') || is_quoted(text, '"');
    match quoted.filter(is_text).map(|text| &text[1..text.len() - 1]) {
        Some(default) if default.is_empty() || default.contains(['/', '\'', '"', '\0']) => {
            Err(format!("the default of `{shown}` is empty, or contains a quotation mark or a `/`"))
        }
        Some(default) => Ok((name, Some(default.to_owned()))),
        None => {
            let filter = marked::shown(filter);
            Err(format!("`| {filter}` is not known here: write `{{{{ {shown} | default('none') }}}}`"))
        }
    }
}

/// Appends the value of a field. If there is none that can be written, returns false and appends nothing.
fn push_field(line: &[u8], name: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    match find_path(line, name) {
        Some([b'{' | b'[', ..] | b"null") | None => false,
        Some(value) => match string_body(value) {
            Some(body) if unescape_json(body, out).is_ok() => true,
            Some(_) => {
                out.truncate(start);
                false
            }
            None => {
                out.extend_from_slice(value);
                true
            }
        },
    }
}

/// The value of the field with this name, or else at this path through nested objects.
fn find_path<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    if let Some(value) = find_field(object, name) {
        return Some(value);
    }
    let dots = memchr::memchr_iter(b'.', name);
    let mut inner = dots.filter_map(|dot| find_path(find_field(object, &name[..dot])?, &name[dot + 1..]));
    inner.next()
}

/// Appends to the literal at the end, or starts one.
pub fn push_literal(text: &[u8], parts: &mut Vec<Part>) {
    match parts.last_mut() {
        Some(Part::Literal(literal)) => literal.extend_from_slice(text),
        _ => parts.push(Part::Literal(text.to_vec())),
    }
}

/// Parses a specifier after its `%`; returns the rest.
pub fn push_date<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, String> {
    let letter = *text.as_bytes().first().ok_or("a `%` at the end; write `%%` for a percent sign")?;
    match letter {
        b'%' => push_literal(b"%", parts),
        b'F' => {
            for (index, letter) in [b'Y', b'm', b'd'].into_iter().enumerate() {
                if index > 0 {
                    push_literal(b"-", parts);
                }
                parts.push(Part::Date(letter));
            }
        }
        b'Y' | b'y' | b'm' | b'd' | b'H' | b'M' | b'S' | b'j' | b'G' | b'V' | b'u' | b's' => {
            parts.push(Part::Date(letter))
        }
        _ => {
            let letter = text.chars().next().unwrap_or('?');
            return Err(format!("`%{letter}` is not one of %Y %y %m %d %F %H %M %S %j %G %V %u %s %%"));
        }
    }
    Ok(&text[1..])
}

/// Appends the value of a strftime specifier.
pub fn push_civil(civil: &Civil, moment: Timestamp, letter: u8, path: &mut Vec<u8>) {
    let (value, width) = match letter {
        b'Y' => (civil.year as u32, 4),
        b'y' => (civil.year as u32 % 100, 2),
        b'm' => (civil.month, 2),
        b'd' => (civil.day, 2),
        b'H' => (civil.hour, 2),
        b'M' => (civil.minute, 2),
        b'S' => (civil.second, 2),
        b'j' => (civil.day_of_year(), 3),
        b'G' => (civil.iso_week().0 as u32, 4),
        b'V' => (civil.iso_week().1, 2),
        b'u' => ((civil.weekday() + 6) % 7 + 1, 1),
        _ => {
            path.extend_from_slice(moment.0.div_euclid(1_000_000_000).to_string().as_bytes());
            return;
        }
    };
    let mut text = [0; 4];
    digits(&mut text[..width], value);
    path.extend_from_slice(&text[..width]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T00:12:34Z.
    const MOMENT: Timestamp = Timestamp(1_795_392_754_000_000_000);

    fn render(template: &str, line: &str) -> (String, bool) {
        let mut out = Vec::new();
        let template = Template::parse(template).expect("a template");
        let all_known = template.render(&Event { line: line.as_bytes(), timestamp: MOMENT }, &mut out);
        (String::from_utf8(out).expect("text"), all_known)
    }

    #[test]
    fn dates_and_fields_are_the_events() {
        let line = r#"{"a":"x/\u00fc","n":7,"k.p":true,"k":{"q":{"r":"deep"}},"o":{}}"#;
        assert_eq!(render("l-%Y.%m.%d-{{ a }}-{{n}}", line), ("l-2026.11.23-x/ü-7".to_owned(), true));
        assert_eq!(render("{{k.p}} {{k.q.r}}", line), ("true deep".to_owned(), true));
        for missing in ["{{z}}", "{{o}}", "{{k.q}}", "{{k.q.r.s}}", "{{.}}"] {
            assert_eq!(render(missing, line), ("unknown".to_owned(), false), "{missing}");
        }
        assert_eq!(render("{{a}}", r#"{"a":"\x"}"#), ("unknown".to_owned(), false));
    }

    #[test]
    fn it_is_known_whether_a_value_decides_the_beginning() {
        let begins = |text: &str| {
            let template = Template::parse(text).expect("a template");
            (template.begins_fixed(), template.begins_with_field())
        };
        for fixed in ["logs", "l{{ a }}", ".l{{ a }}", "%Y{{ a }}", "ü-{{ a }}"] {
            assert_eq!(begins(fixed), (true, false), "{fixed}");
        }
        for open in ["{{ a }}", "{{ a }}-logs", "{{ a | default('x') }}"] {
            assert_eq!(begins(open), (false, true), "{open}");
        }
        assert_eq!(begins(".{{ a }}logs"), (false, false));
    }

    #[test]
    fn origin_is_not_taken_for_a_field() {
        let told = Template::parse("x-{{ origin().file }}").expect_err("not a field");
        assert!(told[0].contains("add: {source:"), "{told:?}");
        assert!(is_template("a {{ b }}") && !is_template("a }} {{ b") && !is_template("{b}"));
    }

    #[test]
    fn same_dates_cover_the_moment_and_no_other_date() {
        let dates = |text: &str, at: i64| Template::parse(text).expect("a template").same_dates(Timestamp(at));
        assert_eq!(dates("x", 5), i64::MIN..i64::MAX);
        assert_eq!(dates("%H", 3_600_000_000_001), 3_600_000_000_000..7_200_000_000_000);
        assert_eq!(dates("%F", -1), -86_400_000_000_000..0);
    }

    /// In half-hour steps over all offset changes of two years: dates match local clocks, and stay the same in the range given.
    #[test]
    fn dates_are_those_of_the_zone() {
        for name in ["Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"] {
            let zone = Zone::parse(name).expect("a zone");
            let jiff = jiff::tz::TimeZone::get(name).expect("a zone");
            let text = |template: &Template, moment| {
                let mut out = Vec::new();
                template.render(&Event { line: b"{}", timestamp: Timestamp(moment) }, &mut out);
                String::from_utf8(out).expect("text")
            };
            let templates = ["%F", "%F %H", "%G-%V %H:%M"].map(|text| {
                let template = Template::parse(text).expect("a template").in_zone(&zone);
                (text, template)
            });
            for half_hour in 0..2 * 24 * 730 {
                let moment = 1_293_840_000_000_000_000 + half_hour * 1_800_000_000_000 + 7_000_000_001;
                let local = jiff::Timestamp::from_nanosecond(moment.into()).expect("in range").to_zoned(jiff.clone());
                for (format, template) in &templates {
                    let shown = text(template, moment);
                    assert_eq!(shown, local.strftime(*format).to_string(), "{name} {moment}");
                    let same = template.same_dates(Timestamp(moment));
                    assert!(same.contains(&moment));
                    assert_eq!((text(template, same.start), text(template, same.end - 1)), (shown.clone(), shown));
                }
            }
        }
        let old =
            Template::parse("%H:%M").expect("a template").in_zone(&Zone::parse("Europe/Amsterdam").expect("a zone"));
        assert!(old.same_dates(Timestamp(-2_000_000_000_000_000_000)).contains(&-2_000_000_000_000_000_000));
    }

    #[test]
    fn missing_field_becomes_its_default() {
        let template = "l-{{ a | default('none') }}-{{a}}-{{ k.b|default( \"x\" ) }}";
        assert_eq!(render(template, "{}"), ("l-none-none-x".to_owned(), true));
        assert_eq!(render(template, r#"{"a":{},"k":{"b":null}}"#), ("l-none-none-x".to_owned(), true));
        assert_eq!(render(template, r#"{"a":"s","k":{"b":1}}"#), ("l-s-s-1".to_owned(), true));
        assert_eq!(render("{{ a | default('d') }}{{ b }}", "{}"), ("dunknown".to_owned(), false));
        let parsed = |text: &str| Template::parse(text).expect("a template");
        assert_eq!(parsed(template).without_default(|_| false), None);
        assert_eq!(parsed("{{ a | default('d') }}{{ b }}").without_default(|_| false), Some(&b"b"[..]));
        assert_eq!(parsed("{{ b }}").without_default(|name| name == b"b"), None);
        assert!(parsed(template).has_defaults() && !parsed("{{ b }}").has_defaults());
    }

    #[test]
    fn bad_templates_say_why() {
        for (text, why) in [
            ("{{x", "}}"),
            ("{{ }}", "has no field name"),
            ("%Q", "%Q"),
            ("%", "%%"),
            ("{{ a | upper }}", "default('none')"),
            ("{{ a | default(none) }}", "default('none')"),
            ("{{ a | default('') }}", "empty"),
            ("{{ a | default('x') }}{{ a | default('y') }}", "two defaults"),
        ] {
            assert!(Template::parse(text).expect_err(text).concat().contains(why));
        }
    }
}
