//! Timestamps and durations as strings: RFC 3339, and durations such as `1h30m`.
//!
//! Guarantees: needs no time zone table. A timestamp is within the years 1 to 9999, and a duration within ten thousand years;
//! everything beyond is rejected. Leap seconds are rejected, as in the reference implementation.

use crate::codec::calendar::date_of;
pub(super) use crate::codec::rfc3339::read as read_timestamp;
use crate::codec::rfc3339::{MOMENTS, days_of};

const SECOND: i128 = 1_000_000_000;

const DURATION_MAX: i128 = 315_576_000_000 * SECOND;

/// The timestamp, if it is in range.
pub(super) fn timestamp(nanos: i128) -> Option<i128> {
    MOMENTS.contains(&nanos).then_some(nanos)
}

/// The duration, if it is in range.
pub(super) fn duration(nanos: i128) -> Option<i128> {
    (-DURATION_MAX..=DURATION_MAX).contains(&nanos).then_some(nanos)
}

/// Writes a timestamp as RFC 3339 in UTC, with as many fractional digits as needed.
pub(super) fn write_timestamp(nanos: i128) -> String {
    let parts = Parts::of(nanos);
    let Parts { year, month, day, hour, minute, second, .. } = parts;
    let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    format!("{text}{}Z", fraction(parts.nanos))
}

fn fraction(nanos: u32) -> String {
    match nanos {
        0 => String::new(),
        _ => format!(".{}", format!("{nanos:09}").trim_end_matches('0')),
    }
}

/// The parts of a timestamp, in UTC.
pub(super) struct Parts {
    pub year: i32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub nanos: u32,
    /// Days since 1970-01-01.
    pub days: i64,
}

impl Parts {
    pub fn of(nanos: i128) -> Parts {
        let seconds = nanos.div_euclid(SECOND) as i64;
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400) as u32;
        let (year, month, day) = date_of(days);
        Parts {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            nanos: nanos.rem_euclid(SECOND) as u32,
            days,
        }
    }

    /// From 0.
    pub fn day_of_year(&self) -> i64 {
        self.days - days_of(i64::from(self.year), 1, 1)
    }

    /// 0 is Sunday.
    pub fn weekday(&self) -> i64 {
        (self.days + 4).rem_euclid(7)
    }
}

/// Units of durations; a longer spelling comes before one that it starts or ends with.
const UNITS: [(&str, i128); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
];

/// Reads `1h30m`, `-1.5s`, `250ms`, `0`.
pub(super) fn read_duration(text: &str) -> Option<i128> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0i128;
    let mut parts = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
        let (number, behind) = rest.split_at(digits);
        let (unit, factor) =
            UNITS.iter().filter(|(unit, _)| behind.starts_with(unit)).max_by_key(|(unit, _)| unit.len())?;
        total = total.checked_add(scaled(number, *factor)?)?;
        rest = &behind[unit.len()..];
        parts += 1;
    }
    if parts == 0 {
        return None;
    }
    duration(if negative { -total } else { total })
}

/// A decimal number of units, in nanoseconds, rounded down.
fn scaled(number: &str, factor: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let valid = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 20 || !valid(whole) || !valid(fraction) {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than that are below a nanosecond even for hours.
    let kept = &fraction[..fraction.len().min(18)];
    let part: i128 = if kept.is_empty() { 0 } else { kept.parse().ok()? };
    whole.checked_mul(factor)?.checked_add(part.checked_mul(factor)? / 10i128.pow(kept.len() as u32))
}

/// Writes a duration as seconds: `5400s`, `-0.25s`.
pub(super) fn write_duration(nanos: i128) -> String {
    let magnitude = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let second = SECOND.unsigned_abs();
    format!("{sign}{}{}s", magnitude / second, fraction((magnitude % second) as u32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_that_are_none_are_refused() {
        for text in [
            "",
            "2026",
            "2026-11-23",
            "2026-11-23T10:20:30",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:20:60Z",
            "2026-11-23T10:20:30.Z",
            "2026-11-23T10:20:30+1:00",
            "2026-11-23T10:20:30+24:00",
            "0000-01-01T00:00:00Z",
            "0001-01-01T00:00:00+00:01",
            "9999-12-31T23:59:59-00:01",
            "2026-11-23T10:20:30Zx",
            "2026-11-2\u{e9}T10:20:30Z",
        ] {
            assert_eq!(read_timestamp(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn durations_read_as_they_are_spelled() {
        for (text, nanos) in [
            ("0", Some(0)),
            ("1h30m", Some(5_400 * SECOND)),
            ("-1.5s", Some(-3 * SECOND / 2)),
            ("+2ms3us4ns", Some(2_003_004)),
            (".5s", Some(SECOND / 2)),
            ("1.s", Some(SECOND)),
            ("1.5\u{b5}s", Some(1_500)),
            ("0.0000000001s", Some(0)),
            ("", None),
            ("-", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("1.2.3s", None),
            ("1 h", None),
            ("1d", None),
            ("99999999h", None),
            ("99999999999999999999999999h", None),
        ] {
            assert_eq!(read_duration(text), nanos, "{text}");
        }
    }

    proptest! {
        #[test]
        fn moments_agree_with_the_reference(seconds in -62_135_596_800i64..253_402_207_200, nanos in 0i32..1_000_000_000) {
            let moment = i128::from(seconds) * SECOND + i128::from(nanos);
            let text = write_timestamp(moment);
            let reference: jiff::Timestamp = text.parse().expect("a moment");
            prop_assert_eq!(reference.as_nanosecond(), moment);
            prop_assert_eq!(read_timestamp(text.as_bytes()), Some(moment));
            let parts = Parts::of(moment);
            let date = reference.to_zoned(jiff::tz::TimeZone::UTC).date();
            prop_assert_eq!(parts.day_of_year(), i64::from(date.day_of_year()) - 1);
            prop_assert_eq!(parts.weekday(), i64::from(date.weekday().to_sunday_zero_offset()));
        }

        #[test]
        fn durations_read_back(nanos in -DURATION_MAX..=DURATION_MAX) {
            prop_assert_eq!(read_duration(&write_duration(nanos)), Some(nanos));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+.0-9hmsnu\u{b5}:TZ ]{0,30}") {
            let _ = read_duration(&text);
            let _ = read_timestamp(text.as_bytes());
        }
    }
}
