//! Templates that are filled with an event's fields: `logs-{{ service }}-%Y.%m.%d`.
//!
//! Guarantees: dates are those of the event, in the configured zone. A field's value is its string, number or boolean; a name
//! with dots is looked up as one name first, then as a path through nested objects. Nothing is escaped or limited: the caller
//! knows which values are valid.

use super::calendar::{Civil, digits};
use super::json::{find_field, string_body, unescape_json};
use super::marked;
use super::zone::Zone;
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

/// A text with dates and fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    dates: Dates,
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
        let (mut parts, mut wrong) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let pushed = if let Some((value, behind)) = marked::value(rest) {
                push_literal(value.as_bytes(), &mut parts);
                Ok(behind)
            } else if let Some(behind) = rest.strip_prefix("{{") {
                push_name(behind, &mut parts).map_err(|what| (what, behind_name(behind)))
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
        if wrong.is_empty() { Ok(Template { parts, dates }) } else { Err(wrong) }
    }

    /// The same with the dates of another zone.
    pub fn in_zone(self, zone: &Zone) -> Template {
        Template { dates: self.dates.in_zone(zone), ..self }
    }

    /// Whether the text depends on the fields of an event.
    pub fn has_fields(&self) -> bool {
        self.fields() > 0
    }

    /// How many fields it contains.
    pub fn fields(&self) -> usize {
        self.parts.iter().filter(|part| matches!(part, Part::Field(_))).count()
    }

    /// The range of times around `moment` that have the same dates.
    pub fn same_dates(&self, moment: Timestamp) -> Range<i64> {
        self.dates.same(moment)
    }

    /// Appends the text for an event. A field that is missing, or that is not a string, number or boolean, becomes `unknown`.
    /// Returns whether there was no such field.
    pub fn render(&self, event: &Event<'_>, out: &mut Vec<u8>) -> bool {
        let civil = self.dates.civil(event.timestamp);
        let mut all_known = true;
        for part in &self.parts {
            match part {
                Part::Literal(text) => out.extend_from_slice(text),
                Part::Date(letter) => push_civil(&civil, event.timestamp, *letter, out),
                Part::Field(name) if push_field(event.line, name, out) => {}
                Part::Field(_) => {
                    out.extend_from_slice(UNKNOWN);
                    all_known = false;
                }
            }
        }
        all_known
    }
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

/// Parses the name of a field up to `}}`; returns the rest.
pub fn push_name<'a>(text: &'a str, parts: &mut Vec<Part>) -> Result<&'a str, String> {
    let close = marked::find(text, "}}").ok_or("`{{` without `}}`")?;
    let name = marked::plain(&text[..close]);
    if name.trim().is_empty() {
        return Err("`{{ }}` names no field".to_owned());
    }
    let mut escaped = Vec::new();
    escape_json_into(name.trim().as_bytes(), &mut escaped);
    parts.push(Part::Field(escaped));
    Ok(&text[close + 2..])
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
    fn bad_templates_say_why() {
        for (text, why) in [("{{x", "}}"), ("{{ }}", "names no field"), ("%Q", "%Q"), ("%", "%%")] {
            assert!(Template::parse(text).expect_err(text).concat().contains(why));
        }
    }
}
