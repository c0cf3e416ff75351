//! `timestamp`: sets the time of an event from one of its fields.

use super::place::Place;
use super::reasons::Before;
use super::short::{Short, ShortForm};
use super::text::text;
use super::{Opening, Transform, Verb, Verdict};
use crate::codec::moment::{Format, TimeForm};
use crate::codec::path::Path;
use crate::codec::zone::Zone;
use crate::config::component::Mistake;
use crate::config::timezone::Timezone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tailwater_shards::env::Timestamp;
use tailwater_shards::record::{Record, Value};

/// The field that contains the time of the event, or a map with more settings. Dates in the names that outputs make
/// (`%Y.%m.%d`) and in templates (`{{ %Y-%m-%d }}`) use this time. Without `timestamp`, they use the time at which the event
/// was read. The field itself stays unchanged, unless `remove` is set; use `convert` to rewrite a time in a field.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Settings(pub Short<Source>);

/// Where the time of an event is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TimestampSource")]
pub struct Source {
    /// The field.
    pub field: Path,
    /// The format: `auto`, `rfc3339`, `rfc2822`, `unix`, `unix_ms`, `unix_us`, `unix_ns`, or a strftime format such as
    /// `"%d/%b/%Y:%H:%M:%S %z"`. Without a year, Tailwater chooses the year that puts the time at most one day after the time
    /// at which the event was read. These values fail: a leap second (`:60`), a date that does not exist, and a number outside
    /// the years 1678 to 2261.
    #[serde(default)]
    pub format: Option<String>,
    /// The time zone of times that do not name one: `Europe/Berlin`, `"+02:00"`, `UTC`, `local`. By default, that of the input
    /// or of the process.
    #[serde(default)]
    pub timezone: Option<Timezone>,
    /// Whether to remove the field after its time was read.
    #[serde(default)]
    pub remove: bool,
    /// What happens to an event whose field cannot be read as a time. A missing field is not a failure.
    #[serde(default)]
    pub on_fail: OnFail,
}

/// What happens to an event whose time cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "TimestampOnFail")]
pub enum OnFail {
    /// The event keeps the time at which it was read.
    #[default]
    Keep,
    /// The event is dropped.
    Drop,
    /// The event goes to the dead letter queue.
    DeadLetter,
}

impl ShortForm for Source {
    const EXPECTED: &'static str = "a field such as time, or a map such as {field: time, format: unix_ms}";
    type Word = Path;
    fn of(field: Path) -> Source {
        Source { field, format: None, timezone: None, remove: false, on_fail: OnFail::Keep }
    }
}

impl Verb for Settings {
    const NAME: &'static str = "timestamp";
    const SUMMARY: &'static str = "sets the time of the event from a field";
    const EXAMPLE: &'static str = "timestamp: {field: time, format: \"%d/%b/%Y:%H:%M:%S %z\", remove: true}\n";
    const SAMPLE: &'static str = r#"{"time":"23/Nov/2026:11:20:30 +0100","message":"GET / 200"}"#;
    const FAILURE: &'static str = "the field cannot be read as a time";

    fn check(&self) -> Vec<Mistake> {
        match self.0.0.format.as_deref().map(Format::parse) {
            Some(Err(what)) => {
                let help = "write a format such as `unix_ms` or \"%d/%b/%Y:%H:%M:%S %z\"";
                vec![Mistake::new("format", what, help)]
            }
            _ => Vec::new(),
        }
    }

    fn open(&self, opening: &mut Opening<'_>) -> Box<dyn Transform> {
        let Source { field, format, timezone, remove, on_fail } = &self.0.0;
        Box::new(Open {
            path: field.clone(),
            place: Place::new(field, opening),
            form: opened(format, timezone.as_ref().map_or(&opening.facts.timezone, |Timezone(zone)| zone)),
            remove: *remove,
            on_fail: *on_fail,
            unescaped: Vec::new(),
            failures: 0,
        })
    }

    fn explain(&self, before: &Before<'_>) -> Option<String> {
        let Source { field, format, timezone, .. } = &self.0.0;
        let zone = timezone.clone().unwrap_or_default().0;
        if read(&opened(format, &zone), before.get(field)?, before.timestamp, &mut Vec::new()).is_some() {
            return None;
        }
        let format = format.as_ref().map_or_else(String::new, |format| format!(" in the format `{format}`"));
        Some(format!("{field} cannot be read as a time{format}: {}", before.shown(field)))
    }
}

fn opened(format: &Option<String>, zone: &Zone) -> TimeForm {
    let format = format.as_deref().and_then(|text| Format::parse(text).ok()).unwrap_or_default();
    TimeForm { format, zone: zone.clone() }
}

/// The time in a value.
fn read(form: &TimeForm, value: Value<'_>, now: Timestamp, unescaped: &mut Vec<u8>) -> Option<Timestamp> {
    match value {
        Value::Json([b'{' | b'[' | b't' | b'f' | b'n', ..]) => None,
        value => form.read(text(value, unescaped), now)?.timestamp(),
    }
}

struct Open {
    path: Path,
    place: Place,
    form: TimeForm,
    remove: bool,
    on_fail: OnFail,
    unescaped: Vec<u8>,
    failures: u64,
}

impl Transform for Open {
    fn apply(&mut self, record: &mut Record<'_>) -> Verdict {
        let Some(value) = self.place.get(record) else { return Verdict::Keep };
        match read(&self.form, value, record.timestamp, &mut self.unescaped) {
            Some(timestamp) => {
                record.timestamp = timestamp;
                if self.remove {
                    self.place.remove(record);
                }
            }
            None => {
                self.failures += 1;
                match self.on_fail {
                    OnFail::Keep => {}
                    OnFail::Drop => return Verdict::Drop,
                    OnFail::DeadLetter => {
                        record.give_up(Settings::NAME, format_args!("{} cannot be read as a time", self.path));
                        return Verdict::DeadLetter;
                    }
                }
            }
        }
        Verdict::Keep
    }

    fn take_failures(&mut self) -> u64 {
        std::mem::take(&mut self.failures)
    }
}

#[cfg(test)]
mod tests {
    use crate::transforms::tests::{Bench, mistake, one};

    const SHOWN: &str = "\n- add: {at: \"{{ %Y-%m-%dT%H:%M:%S }}\"}";

    #[test]
    fn dates_are_those_of_the_event() {
        let at = |list: &str, event: &str| one(&format!("- timestamp: {list}{SHOWN}"), event);
        assert_eq!(
            at("t", r#"{"t":"2020-01-02T03:04:05Z"}"#),
            r#"{"t":"2020-01-02T03:04:05Z","at":"2020-01-02T03:04:05"}"#
        );
        assert_eq!(
            at("a.t", r#"{"a":{"t":1577934245123}}"#),
            r#"{"a":{"t":1577934245123},"at":"2020-01-02T03:04:05"}"#
        );
        assert_eq!(
            at("{field: t, remove: true}", r#"{"t":"1577934245","b":1}"#),
            r#"{"b":1,"at":"2020-01-02T03:04:05"}"#
        );
        let list = "{field: message, format: \"%d/%b/%Y:%T %z\"}";
        assert_eq!(
            at(list, "02/Jan/2020:04:04:05 +0100").split_once("at").expect("added").1,
            r#"":"2020-01-02T03:04:05"}"#
        );
    }

    #[test]
    fn an_event_whose_time_cannot_be_read_keeps_the_one_it_has() {
        let list = format!("- timestamp: {{field: t, remove: true}}{SHOWN}");
        let mut bench = Bench::try_new(&list).expect("valid");
        for bad in [r#""soon""#, "{}", "true", "null", r#""0001-01-01""#, "99999999999999999999"] {
            let out = bench.event(&format!("{{\"t\":{bad}}}")).expect("kept");
            assert!(out.ends_with(&format!("\"t\":{bad},\"at\":\"2026-11-23T10:20:30\"}}")), "{out}");
            assert_eq!(bench.failures(), 1, "{bad}");
        }
        assert!(bench.event("{}").expect("kept").contains("2026-11-23T10:20:30"));
        assert_eq!(bench.failures(), 0, "no field, no failure");
        assert_eq!(one("- timestamp: {field: t, on_fail: drop}", r#"{"t":"soon"}"#), "dropped");
    }

    #[test]
    fn times_without_a_zone_are_of_the_one_that_is_said() {
        for (zone, text, expected) in [
            ("Europe/Berlin", "2026-07-29 10:00:00", "2026-07-29T08:00:00"),
            ("\"-05:00\"", "2026-07-29 10:00:00", "2026-07-29T15:00:00"),
            ("Europe/Berlin", "2026-07-29T10:00:00Z", "2026-07-29T10:00:00"),
            ("Europe/Berlin", "1785319200", "2026-07-29T10:00:00"),
        ] {
            let list = format!("- timestamp: {{field: t, timezone: {zone}, remove: true}}{SHOWN}");
            assert_eq!(
                one(&list, &format!("{{\"t\":\"{text}\"}}")),
                format!("{{\"at\":\"{expected}\"}}"),
                "{zone} {text}"
            );
        }
    }

    #[test]
    fn mistakes_are_told() {
        assert!(mistake("- timestamp: {field: t, timezone: Berlin}").contains("unknown time zone `Berlin`"));
        assert!(mistake("- timestamp: {field: t, format: iso}").contains("format: `iso` is not a time format"));
        assert!(mistake("- timestamp: {format: unix}").contains("field"));
        assert!(mistake("- timestamp: [t]").contains("a field such as time"));
    }
}
