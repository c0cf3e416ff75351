//! Compares formats pair by pair with a full implementation of strftime, and lists what is deliberately parsed differently.

use super::*;
use crate::codec::moment::{Format, TimeForm};
use crate::codec::rfc3339::MOMENTS;
use jiff::Timestamp as Jiff;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::{Offset, TimeZone};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_795_429_230_123_456_789);

/// Specifiers that the reference can write; all of them can be parsed here.
const SPECIFIERS: [&str; 41] = [
    "%Y", "%C%y", "%y", "%m", "%-m", "%b", "%B", "%h", "%d", "%e", "%_d", "%j", "%a", "%A", "%u", "%w", "%G", "%g",
    "%V", "%U", "%W", "%H", "%k", "%I", "%l", "%M", "%S", "%p", "%P", "%f", "%.f", "%3f", "%N", "%s", "%z", "%:z",
    "%Z", "%F", "%D", "%T", "%R",
];

fn read(format: &str, text: &str) -> Option<Moment> {
    let layout = Layout::parse(format).unwrap_or_else(|what| panic!("{format}: {what}"));
    layout.read(text.as_bytes(), NOW, &Zone::UTC)
}

/// What the reference parses, as UTC if there is no offset.
fn reference(format: &str, text: &str) -> Option<i128> {
    let parts = BrokenDownTime::parse(format, text).ok()?;
    let moment = match parts.offset().is_some() || parts.timestamp().is_some() {
        true => parts.to_timestamp().ok()?,
        false => parts.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
    };
    Some(moment.as_nanosecond())
}

/// Times at the edges of years, weeks, days and half days.
fn moments() -> Vec<jiff::Zoned> {
    let texts = [
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59.999999999Z",
        "2000-02-29T12:00:00.5Z",
        "2016-01-03T00:30:00Z",
        "2020-12-31T11:59:59.120Z",
        "2024-12-30T12:34:56.000001Z",
        "2026-01-01T01:02:03Z",
        "2026-11-23T10:20:30.123Z",
        "2068-12-31T21:09:08Z",
    ];
    texts.iter().map(|text| text.parse::<Jiff>().expect("a moment").to_zoned(TimeZone::UTC)).collect()
}

#[test]
fn each_pair_of_specifiers_reads_what_it_says() {
    let (mut alone, mut beside, moments) = (0, 0, moments());
    for first in SPECIFIERS {
        for second in SPECIFIERS {
            for (format, whole) in
                [(format!("{first} {second}"), false), (format!("{first};{second} {}", "%F %T"), true)]
            {
                // A fraction that occurs twice, once with fewer digits, contradicts itself.
                let is_fraction = |specifier: &str| specifier.ends_with(['f', 'N']);
                if Layout::parse(&format).is_err() || is_fraction(first) && is_fraction(second) {
                    continue;
                }
                for moment in &moments {
                    let text = BrokenDownTime::from(moment).to_string(&format).expect("it is written");
                    let got = read(&format, &text).map(|moment| moment.nanos);
                    let full = moment.timestamp().as_nanosecond();
                    if whole {
                        beside += 1;
                        let nanos = got.unwrap_or_else(|| panic!("{format}: {text}"));
                        let to_the_second = nanos.div_euclid(1_000_000_000) == full.div_euclid(1_000_000_000);
                        assert!(to_the_second, "{format}: {text} is {nanos}");
                    } else if let Some(expected) = reference(&format, &text) {
                        alone += 1;
                        // The reference ignores a fraction next to `%s`.
                        let is_of_unix = format.contains("%s") && (is_fraction(first) || is_fraction(second));
                        let got = got.map(|got| if is_of_unix { got - got.rem_euclid(1_000_000_000) } else { got });
                        assert_eq!(got, Some(expected), "{format}: {text}");
                    } else {
                        // Without a year, the result is near now and may differ from the text.
                        let dated = ["%Y", "%y", "%F", "%D", "%s"].iter().any(|year| format.contains(year));
                        assert!(got.is_some() || !dated, "{format}: {text}");
                    }
                }
            }
        }
    }
    // Nearly all pairs are a valid format once a complete date is added.
    assert!(beside > 30 * 30 * moments.len() && alone > 30 * moments.len(), "{beside} and {alone}");
}

/// A specifier means the same whatever is next to it, also where the reference disagrees.
#[test]
fn what_a_specifier_reads_does_not_depend_on_its_neighbours() {
    let probes = [
        ("%z", "Z", true),
        ("%z", "+00", true),
        ("%z", "+0000", true),
        ("%z", "+00:00", true),
        ("%z", "+0:00", false),
        ("%:z", "+0000", true),
        ("%f", "12", true),
        ("%f", "1234567890", true),
        ("%.f", ".000", true),
        ("%.f", "", true),
        ("%.f", ".", false),
        ("%b", "November", true),
        ("%B", "nov", true),
        ("%B", "no", false),
        ("%a", "MONDAY", true),
        ("%A", "Mon", true),
        ("%A", "Tuesday", false),
        ("%p", "am", true),
        ("%P", "AM", true),
        ("%p", "pm", false),
        ("%j", "327", true),
        ("%j", "328", false),
        ("%V", "48", true),
        ("%V", "47", false),
        ("%U", "47", true),
        ("%W", "47", true),
        ("%u", "1", true),
        ("%w", "1", true),
        ("%w", "7", false),
        ("%y", "26", true),
        ("%y", "6", false),
        ("%Y", "26", false),
        ("%m", "11", true),
        ("%H", "11", false),
        ("%I", "10", true),
        ("%l", " 10", true),
        ("%S", "60", false),
    ];
    let base = "%Y-%m-%d %H:%M:%S";
    let moment: Jiff = "2026-11-23T10:20:30Z".parse().expect("a moment");
    let moment = moment.to_zoned(TimeZone::UTC);
    let mut tried = 0;
    for (specifier, text, is_read) in probes {
        for other in SPECIFIERS {
            let format = format!("{base} {other};{specifier}");
            if Layout::parse(&format).is_err() || other.ends_with(['f', 'N']) && specifier.ends_with('f') {
                continue;
            }
            tried += 1;
            let front = BrokenDownTime::from(&moment).to_string(format!("{base} {other};")).expect("it is written");
            let text = format!("{front}{text}");
            assert_eq!(read(&format, &text).is_some(), is_read, "{format}: {text}");
        }
    }
    assert!(tried > 30 * probes.len(), "{tried}");
}

#[test]
fn fractions_keep_their_digits() {
    for (format, text, nanos, digits) in [
        ("%s.%f", "1700000000.987", 1_700_000_000_987_000_000, 3),
        ("%s%.f", "1700000000.987", 1_700_000_000_987_000_000, 3),
        ("%s.%3f", "1700000000.987", 1_700_000_000_987_000_000, 3),
        ("%s%.f", "-0.5", -500_000_000, 1),
        ("%s", "-1", -1_000_000_000, 0),
        ("%s %z", "1700000000 +0100", 1_700_000_000_000_000_000, 0),
        ("%d %B %Y %T.%f", "01 January 1970 00:00:00.12", 120_000_000, 2),
        ("%d %B %Y %T.%f", "01 January 1970 00:00:00.000", 0, 3),
        ("%F %T,%L", "1970-01-01 00:00:01,5", 1_500_000_000, 1),
        ("%F %T%.f", "1970-01-01 00:00:00.1200", 120_000_000, 4),
        ("%F %T%.f", "1970-01-01 00:00:00", 0, 0),
    ] {
        assert_eq!(read(format, text), Some(Moment { nanos, digits }), "{format} {text}");
    }
}

/// Some programs write picoseconds. `auto`, `rfc3339`, `unix` and all specifiers drop the digits behind the ninth.
#[test]
fn digits_below_a_nanosecond_are_dropped() {
    let nanos = 123_456_789;
    for (format, text) in [
        ("%F %T.%f", "1970-01-01 00:00:00.1234567890"),
        ("%F %T.%3f %z", "1970-01-01 00:00:00.123456789999 +0000"),
        ("%F %T,%L", "1970-01-01 00:00:00,1234567899"),
        ("%F %T.%N", "1970-01-01 00:00:00.12345678999999999999999999"),
        ("%F %T%.f%z", "1970-01-01 00:00:00.123456789999Z"),
        ("%s%.f", "0.1234567899"),
    ] {
        assert_eq!(read(format, text), Some(Moment { nanos, digits: 9 }), "{format} {text}");
    }
    for format in ["auto", "rfc3339"] {
        let form = TimeForm { format: Format::parse(format).expect("a format"), zone: Zone::UTC };
        assert_eq!(form.read(b"1970-01-01T00:00:00.1234567899Z", NOW), Some(Moment { nanos, digits: 9 }));
    }
}

#[test]
fn a_text_that_contradicts_itself_is_refused() {
    for (format, text) in [
        ("%a %F", "Tue 2026-11-23"),
        ("%F %j", "2026-11-23 1"),
        ("%F %F", "2026-11-23 2026-11-24"),
        ("%H:%M %p %F", "11:00 PM 2026-11-23"),
        ("%H %I %p %F", "23 10 PM 2026-11-23"),
        ("%G-W%V-%u", "2026-W54-1"),
        ("%G-W%V-%u", "2025-W53-1"),
        ("%Y %U %w", "2026 53 6"),
        ("%Y-%j", "2026-366"),
        ("%F", "2026-02-29"),
        ("%F %T%.f %f", "2026-02-28 00:00:00.5 4"),
        ("%C%y %Y-%m-%d", "1926 2026-11-23"),
    ] {
        assert_eq!(read(format, text), None, "{format} {text}");
    }
    for (format, text, expected) in [
        ("%G-W%V-%u", "2026-W48-1", "2026-11-23"),
        ("%G-W%V-%u", "2020-W53-7", "2021-01-03"),
        ("%Y %U %w", "2026 00 4", "2026-01-01"),
        ("%Y %W %a", "2026 47 Mon", "2026-11-23"),
        ("%Y-%j", "2024-366", "2024-12-31"),
        ("%C%y-%m-%d", "1875-01-02", "1875-01-02"),
    ] {
        let expected: jiff::civil::Date = expected.parse().expect("a date");
        let nanos = expected.to_zoned(TimeZone::UTC).expect("in range").timestamp().as_nanosecond();
        assert_eq!(read(format, text), Some(Moment { nanos, digits: 0 }), "{format} {text}");
    }
}

#[test]
fn formats_that_leave_something_to_be_guessed_are_refused() {
    for (format, part) in [
        ("%H:%M", "the date is missing"),
        ("%Y-%m", "the date is missing"),
        ("%Y %U", "the date is missing"),
        ("%F %I:%M", "`%I` needs `%p`"),
        ("%F %p", "`%p` needs `%I`"),
        ("%F %M", "`%M` needs an hour"),
        ("%F %H %S", "`%S` needs `%M`"),
        ("%F.%f", "`%f` needs `%S`"),
        ("%s %Y", "only a fraction"),
        ("%F %z %Q", "more than one time zone"),
        ("%C %m %d", "`%C` needs `%y`"),
        ("%F %", "a `%` at the end"),
        ("%F %c", "`%c` is not a supported specifier"),
        ("%F %:T", "`%:T` is not a supported specifier"),
        ("%F %.3", "a `%` at the end"),
        ("%12Y", "`%12Y` is not a supported specifier"),
    ] {
        let what = Layout::parse(format).expect_err(format);
        assert!(what.contains(part), "{format}: {what}");
    }
}

#[test]
fn zones_are_those_of_the_text_or_the_one_that_is_configured() {
    let berlin = Zone::parse("Europe/Berlin").expect("a zone");
    for (format, text, expected) in [
        ("%F %T", "2026-07-29 10:00:00", "2026-07-29T08:00:00Z"),
        ("%F %T %z", "2026-07-29 10:00:00 -0500", "2026-07-29T15:00:00Z"),
        ("%F %T %Z", "2026-07-29 10:00:00 CEST", "2026-07-29T08:00:00Z"),
        ("%F %T %Z", "2026-10-25 02:30:00 CET", "2026-10-25T01:30:00Z"),
        ("%F %T %Z", "2026-07-29 10:00:00 PDT", "2026-07-29T17:00:00Z"),
        ("%F %T GMT%z (%Z)", "2026-07-29 10:00:00 GMT+0200 (CEST)", "2026-07-29T08:00:00Z"),
        ("%F %T %Q", "2026-07-29 10:00:00 America/New_York", "2026-07-29T14:00:00Z"),
        ("%F %T %Q", "2026-07-29 10:00:00 +05:30", "2026-07-29T04:30:00Z"),
        ("%b %e %T", "Nov 23 11:20:00", "2026-11-23T10:20:00Z"),
    ] {
        let expected: Jiff = expected.parse().expect("a moment");
        let layout = Layout::parse(format).expect("a layout");
        let read = layout.read(text.as_bytes(), NOW, &berlin).map(|moment| moment.nanos);
        assert_eq!(read, Some(expected.as_nanosecond()), "{format} {text}");
    }
    for none in ["2026-07-29 10:00:00 CST", "2026-07-29 10:00:00 ", "2026-07-29 10:00:00 LONGNAME"] {
        assert_eq!(read("%F %T %Z", none), None, "{none}");
    }
    for none in ["2026-07-29 10:00:00 Europe/Nowhere", "2026-07-29 10:00:00 local", "2026-07-29 10:00:00 ../etc"] {
        assert_eq!(read("%F %T %Q", none), None, "{none}");
    }
}

const FORMATS: [&str; 8] = [
    "%d/%b/%Y:%H:%M:%S %z",
    "%Y-%m-%d %H:%M:%S%.f",
    "%a %b %e %T %Y",
    "%FT%T.%f%z",
    "%m/%d/%Y %I:%M:%S %p",
    "%Y%m%d%H%M%S",
    "100%% %h %d, %Y",
    "%G-W%V-%u %R",
];

proptest! {
    #[test]
    fn what_is_written_is_read_as_the_reference_reads_it(
        second in -60_000_000_000i64..253_000_000_000, nanos in 0i32..1_000_000_000, minutes in -1439i32..1440, which in 0..FORMATS.len(),
    ) {
        let zone = TimeZone::fixed(Offset::from_seconds(minutes * 60).expect("an offset"));
        let zoned = Jiff::new(second, nanos).expect("a moment").to_zoned(zone);
        let format = FORMATS[which];
        let text = BrokenDownTime::from(&zoned).to_string(format).expect("it is written");
        let read = read(format, &text).map(|moment| moment.nanos);
        prop_assert_eq!(read, reference(format, &text), "{}", text);
        prop_assert!(read.is_some(), "{}", text);
    }

    #[test]
    fn what_is_read_is_what_the_reference_reads(
        text in "[0-3]?[0-9]/(Nov|feb|JAN|xyz)/[12][0-9]{3}:[0-2]?[0-9]:[0-6]?[0-9]:[0-5][0-9] {0,2}[+-]?[0-2][0-9][0-6][0-9]?|\\PC{0,30}",
    ) {
        if let Some(read) = read(FORMATS[0], &text) && let Some(expected) = reference(FORMATS[0], &text) {
            prop_assert_eq!(read.nanos, expected);
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,40}", which in 0..SPECIFIERS.len()) {
        if let Ok(layout) = Layout::parse(&format!("{} %F", SPECIFIERS[which]))
            && let Some(moment) = layout.read(text.as_bytes(), NOW, &Zone::UTC)
        {
            prop_assert!(MOMENTS.contains(&moment.nanos) || moment.nanos < 0);
        }
        let _ = Layout::parse(&text);
    }
}
