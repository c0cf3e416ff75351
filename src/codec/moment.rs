//! Parses the times that logs contain, as text or numbers, and writes them as RFC 3339 in UTC.
//!
//! Guarantees: what a format does not say is rejected, never guessed, with two exceptions: a text without a zone uses the
//! configured zone, and a text without a year is in the year that puts it at most one day after the event. A time is written with
//! as many fractional digits as it was parsed with. Leap seconds are rejected. Parsing allocates nothing, except for mail dates
//! and names of zones.

use super::calendar::{date_of, digits};
use super::layout::Layout;
use super::rfc3339::{MOMENTS, read as read_rfc3339};
use super::zone::Zone;
use jiff::fmt::rfc2822;
use tailwater_shards::env::Timestamp;

const SECOND: i128 = 1_000_000_000;
pub(super) const DAY: i128 = 86_400 * SECOND;

/// A time and its precision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since 1970.
    pub nanos: i128,
    /// Fractional digits, at most 9.
    pub digits: u8,
}

/// How times are written in events, and the zone of those that have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeForm {
    /// The format.
    pub format: Format,
    /// The zone.
    pub zone: Zone,
}

/// How times are written in events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// RFC 3339, or a number since 1970 in the unit that its size suggests.
    #[default]
    Auto,
    /// RFC 3339 and small variations: a space instead of `T`, slashes, a comma, a zone without a colon or no zone.
    Rfc3339,
    /// Dates of mail and HTTP.
    Rfc2822,
    /// A number since 1970 with this many decimal digits of a second: 0 means seconds, 3 milliseconds.
    Unix(u8),
    /// A strftime format.
    Strftime(Layout),
}

/// The formats that have a name.
pub const FORMATS: [&str; 7] = ["auto", "rfc3339", "rfc2822", "unix", "unix_ms", "unix_us", "unix_ns"];

impl Format {
    /// Parses a format as the configuration writes it; an error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Format, String> {
        Ok(match text {
            "auto" => Format::Auto,
            "rfc3339" => Format::Rfc3339,
            "rfc2822" => Format::Rfc2822,
            "unix" => Format::Unix(0),
            "unix_ms" => Format::Unix(3),
            "unix_us" => Format::Unix(6),
            "unix_ns" => Format::Unix(9),
            _ if text.contains('%') => match Layout::parse(text) {
                Ok(layout) => Format::Strftime(layout),
                Err(what) => return Err(format!("`{text}` is not a time format: {what}")),
            },
            _ => {
                return Err(format!(
                    "`{text}` is not a time format: use one of {}, or a strftime format with `%`",
                    FORMATS.join(", ")
                ));
            }
        })
    }
}

impl TimeForm {
    /// Parses a time. `now` is when the event was read. White space around the text is ignored.
    pub fn read(&self, text: &[u8], now: Timestamp) -> Option<Moment> {
        let text = text.trim_ascii();
        let moment = match &self.format {
            Format::Auto => rfc3339(text, &self.zone).or_else(|| unix(text, None))?,
            Format::Rfc3339 => rfc3339(text, &self.zone)?,
            Format::Rfc2822 => mail(text)?,
            Format::Unix(digits) => unix(text, Some(*digits))?,
            Format::Strftime(layout) => layout.read(text, now, &self.zone)?,
        };
        MOMENTS.contains(&moment.nanos).then_some(moment)
    }
}

impl Moment {
    /// The time as the engine represents it: the years 1678 to 2261.
    pub fn timestamp(self) -> Option<Timestamp> {
        i64::try_from(self.nanos).ok().map(Timestamp)
    }

    /// Appends the time as RFC 3339 in UTC.
    pub fn push_rfc3339(self, out: &mut Vec<u8>) {
        let seconds = self.nanos.div_euclid(SECOND) as i64;
        let (year, month, day) = date_of(seconds.div_euclid(86_400));
        let of_day = seconds.rem_euclid(86_400) as u32;
        let mut text = *b"0000-00-00T00:00:00.000000000";
        digits(&mut text[0..4], year as u32);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], of_day / 3600);
        digits(&mut text[14..16], of_day / 60 % 60);
        digits(&mut text[17..19], of_day % 60);
        digits(&mut text[20..29], self.nanos.rem_euclid(SECOND) as u32);
        let length = if self.digits == 0 { 19 } else { 20 + usize::from(self.digits.min(9)) };
        out.extend_from_slice(&text[..length]);
        out.push(b'Z');
    }
}

/// Parses a mail or HTTP date unless it has a leap second: the parser reads second 60 as 59, so a text that means the same with
/// 59 instead of 60 is rejected.
fn mail(text: &[u8]) -> Option<Moment> {
    let read = |text: &[u8]| rfc2822::DateTimeParser::new().parse_timestamp(text).ok();
    let moment = read(text)?;
    let is_leap = memchr::memmem::find_iter(text, b"60").any(|at| {
        let mut other = text.to_vec();
        other[at..at + 2].copy_from_slice(b"59");
        read(&other) == Some(moment)
    });
    (!is_leap).then_some(Moment { nanos: moment.as_nanosecond(), digits: 0 })
}

/// Parses RFC 3339 and its variations.
fn rfc3339(text: &[u8], zone: &Zone) -> Option<Moment> {
    let mut plain = Plain { bytes: [0; 40], length: 0 };
    let date = text.get(..10)?;
    plain.push(date)?;
    if (date[4], date[7]) == (b'/', b'/') {
        (plain.bytes[4], plain.bytes[7]) = (b'-', b'-');
    }
    let Some(time) = text.get(10..19) else {
        plain.push(b"T00:00:00Z")?;
        let nanos = read_rfc3339(plain.text()).filter(|_| text.len() == 10)?;
        return Some(Moment { nanos: from_local(nanos, zone)?, digits: 0 });
    };
    plain.push(time)?;
    let mut rest = &text[19..];
    let mut digits = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        plain.push(b".")?;
        plain.push(&fraction[..digits.min(9)])?;
        rest = &fraction[digits..];
    }
    let zone_text = rest.trim_ascii_start();
    match zone_text {
        b"" | b"Z" | b"z" | b"UTC" | b"GMT" => plain.push(b"Z")?,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            plain.push(&[*sign])?;
            match zone {
                [h1, h2] => plain.push(&[*h1, *h2, b':', b'0', b'0'])?,
                [h1, h2, m1, m2] => plain.push(&[*h1, *h2, b':', *m1, *m2])?,
                _ => plain.push(zone)?,
            }
        }
        _ => return None,
    }
    let mut nanos = read_rfc3339(plain.text())?;
    if zone_text.is_empty() {
        nanos = from_local(nanos, zone)?;
    }
    Some(Moment { nanos, digits: digits.min(9) as u8 })
}

/// The time at which clocks in the zone show what UTC clocks show at `nanos`.
fn from_local(nanos: i128, zone: &Zone) -> Option<i128> {
    match zone {
        Zone::Fixed(0) => Some(nanos),
        zone => Some(nanos - i128::from(zone.offset(nanos.div_euclid(SECOND) as i64)?) * SECOND),
    }
}

/// A text that is being rewritten as RFC 3339.
struct Plain {
    bytes: [u8; 40],
    length: usize,
}

impl Plain {
    fn push(&mut self, text: &[u8]) -> Option<()> {
        self.bytes.get_mut(self.length..self.length + text.len())?.copy_from_slice(text);
        self.length += text.len();
        Some(())
    }

    fn text(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// Parses a number since 1970 with `unit` fractional digits, or in the unit that its size suggests.
fn unix(text: &[u8], unit: Option<u8>) -> Option<Moment> {
    let (negative, number) = match text {
        [b'-', number @ ..] => (true, number),
        number => (false, number),
    };
    let whole = number.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = number.split_at(whole);
    // Twenty digits cover the nanoseconds of every time up to the year 9999.
    if whole.is_empty() || whole.len() > 20 {
        return None;
    }
    let fraction = match rest {
        [] => rest,
        [b'.', fraction @ ..] if !fraction.is_empty() && fraction.iter().all(u8::is_ascii_digit) => fraction,
        _ => return scientific(text, unit),
    };
    let number = |text: &[u8]| text.iter().fold(0i128, |value, byte| value * 10 + i128::from(byte - b'0'));
    let count = number(whole);
    let unit = unit.unwrap_or_else(|| unit_of(count));
    let length = 10i128.pow(9 - u32::from(unit));
    let kept = &fraction[..fraction.len().min(9)];
    let nanos = count * length + number(kept) * length / 10i128.pow(kept.len() as u32);
    let digits = (usize::from(unit) + fraction.len()).min(9) as u8;
    Some(Moment { nanos: if negative { -nanos } else { nanos }, digits })
}

/// The unit of a number: seconds up to the year 5138, then milliseconds, microseconds, nanoseconds.
fn unit_of(count: i128) -> u8 {
    match count {
        ..100_000_000_000 => 0,
        100_000_000_000..100_000_000_000_000 => 3,
        100_000_000_000_000..100_000_000_000_000_000 => 6,
        _ => 9,
    }
}

/// A number with an exponent, as some encoders write large ones.
fn scientific(text: &[u8], unit: Option<u8>) -> Option<Moment> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    if !number.is_finite() || number.abs() > 1e20 || !text.iter().any(|byte| matches!(byte, b'e' | b'E')) {
        return None;
    }
    let unit = unit.unwrap_or_else(|| unit_of(number.abs() as i128));
    let length = 10i128.pow(9 - u32::from(unit));
    let nanos = number.trunc() as i128 * length + (number.fract() * length as f64) as i128;
    let digits = if number.fract() == 0.0 { unit } else { 9 };
    Some(Moment { nanos, digits })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2026-11-23T10:20:30.123456789Z.
    const NOW: Timestamp = Timestamp(1_795_429_230_123_456_789);

    fn utc(format: Format) -> TimeForm {
        TimeForm { format, zone: Zone::UTC }
    }

    fn read(format: &str, text: &str) -> Option<String> {
        let format = Format::parse(format).unwrap_or_else(|what| panic!("{what}"));
        utc(format).read(text.as_bytes(), NOW).map(|moment| {
            let mut out = Vec::new();
            moment.push_rfc3339(&mut out);
            String::from_utf8(out).expect("ASCII")
        })
    }

    #[test]
    fn relatives_of_rfc_3339_are_read_with_their_precision() {
        for (text, expected) in [
            ("2026-11-23T10:20:30Z", "2026-11-23T10:20:30Z"),
            ("2026-11-23T10:20:30.120Z", "2026-11-23T10:20:30.120Z"),
            ("2026-11-23t11:20:30.5+01:00", "2026-11-23T10:20:30.5Z"),
            (" 2026-11-23 10:20:30,123 ", "2026-11-23T10:20:30.123Z"),
            ("2026/11/23 10:20:30", "2026-11-23T10:20:30Z"),
            ("2026-11-23 10:20:30 -0130", "2026-11-23T11:50:30Z"),
            ("2026-11-23T10:20:30+02", "2026-11-23T08:20:30Z"),
            ("2026-11-23 10:20:30 UTC", "2026-11-23T10:20:30Z"),
            ("2026-11-23T10:20:30.1234567891Z", "2026-11-23T10:20:30.123456789Z"),
            ("2024-02-29", "2024-02-29T00:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(read("rfc3339", text).as_deref(), Some(expected), "{text}");
            assert_eq!(read("auto", text).as_deref(), Some(expected), "{text}");
        }
        for none in [
            "",
            "2026",
            "2026-11-23T",
            "2026-13-01",
            "2026-02-29",
            "2026-11-23T24:00:00Z",
            "2026-11-23T10:20:60Z",
            "2026-11-23T10:20:30.Z",
            "2026-11-23T10:20:30 CET",
            "2026-11-23T10:20:30+1:00",
            "2026-11-23x10:20:30",
            "2026-11-23T10:20:30Zx",
            "2026/11-23",
            "9999-12-31T23:59:59-01:00",
            "\u{661}\u{662}\u{663}\u{664}-01-01",
        ] {
            assert_eq!(read("rfc3339", none), None, "{none}");
            assert_eq!(read("auto", none), if none == "2026" { Some("1970-01-01T00:33:46Z".to_owned()) } else { None });
        }
    }

    #[test]
    fn numbers_are_read_in_the_unit_they_suggest_or_that_is_said() {
        for (format, text, expected) in [
            ("auto", "1795429230", "2026-11-23T10:20:30Z"),
            ("auto", "1795429230.25", "2026-11-23T10:20:30.25Z"),
            ("auto", "1795429230123", "2026-11-23T10:20:30.123Z"),
            ("auto", "1795429230123.5", "2026-11-23T10:20:30.1235Z"),
            ("auto", "1795429230123456", "2026-11-23T10:20:30.123456Z"),
            ("auto", "1795429230123456789", "2026-11-23T10:20:30.123456789Z"),
            ("auto", "1.79542923e9", "2026-11-23T10:20:30Z"),
            ("auto", "-1", "1969-12-31T23:59:59Z"),
            ("auto", "-0.5", "1969-12-31T23:59:59.5Z"),
            ("unix", "0", "1970-01-01T00:00:00Z"),
            ("unix", "100000000000", "5138-11-16T09:46:40Z"),
            ("unix_ms", "1500", "1970-01-01T00:00:01.500Z"),
            ("unix_us", "1500000", "1970-01-01T00:00:01.500000Z"),
            ("unix_ns", "1500000000", "1970-01-01T00:00:01.500000000Z"),
            ("unix_ns", "1.9999999999999999999999", "1970-01-01T00:00:00.000000001Z"),
        ] {
            assert_eq!(read(format, text).as_deref(), Some(expected), "{format} {text}");
        }
        for none in ["", "-", "1.", ".5", "1e400", "1e", "0x10", "1 2", "999999999999999999999", "inf", "1,5"] {
            assert_eq!(read("auto", none), None, "{none}");
        }
        assert_eq!(read("unix", "99999999999999999999"), None, "beyond the year 9999");
    }

    #[test]
    fn formats_of_strftime_read_what_they_write() {
        for (format, text, expected) in [
            ("%d/%b/%Y:%H:%M:%S %z", "23/Nov/2026:11:20:30 +0100", Some("2026-11-23T10:20:30Z")),
            ("%Y-%m-%d %H:%M:%S%.f", "2026-11-23 10:20:30.120", Some("2026-11-23T10:20:30.120Z")),
            ("%Y-%m-%d", "2026-11-23", Some("2026-11-23T00:00:00Z")),
            ("%b %d %H:%M:%S", "Nov 23 10:20:29", Some("2026-11-23T10:20:29Z")),
            ("%b %d %H:%M:%S", "Dec 31 23:59:59", Some("2025-12-31T23:59:59Z")),
            ("%b %d %H:%M:%S", "Nov 24 09:00:00", Some("2026-11-24T09:00:00Z")),
            ("%b %e %H:%M:%S", "Nov  3 10:20:29", Some("2026-11-03T10:20:29Z")),
            ("%s", "1795429230", Some("2026-11-23T10:20:30Z")),
            ("%d/%b/%Y:%H:%M:%S %z", "yesterday", None),
            ("%Y-%m-%d", "2026-11-23T10", None),
        ] {
            assert_eq!(read(format, text).as_deref(), expected, "{format} {text}");
        }
        assert_eq!(read("rfc2822", "Mon, 23 Nov 2026 10:20:30 GMT").as_deref(), Some("2026-11-23T10:20:30Z"));
        for (format, part) in
            [("%H:%M", "the date is missing"), ("%!", "`%!` is not a supported specifier"), ("iso", "use one of")]
        {
            let what = Format::parse(format).expect_err(format);
            assert!(what.contains(part), "{what}");
        }
    }

    #[test]
    fn leap_seconds_are_refused_in_every_format() {
        for (format, leap) in [
            ("auto", "2016-12-31T23:59:60Z"),
            ("rfc3339", "2016-12-31 23:59:60.5Z"),
            ("rfc2822", "Sat, 31 Dec 2016 23:59:60 GMT"),
            ("%d/%b/%Y:%H:%M:%S %z", "31/Dec/2016:23:59:60 +0000"),
            ("%I:%M:%S %p %d/%m/%y", "11:59:60 PM 31/12/16"),
            ("%j %Y %H%M%S", "366 2016 235960"),
        ] {
            assert_eq!(read(format, leap), None, "{format} {leap}");
            let before = leap.replace("60", "59");
            assert!(read(format, &before).is_some_and(|at| at.starts_with("2016-12-31T23:59:59")), "{format} {before}");
        }
        let long = format!("{}%S", "long ".repeat(20));
        assert_eq!(read(&format!("%F %H:%M {long}"), &format!("2016-12-31 23:59 {}60", "long ".repeat(20))), None);
        // 60 in another position is not a second.
        assert_eq!(read("%j %Y %H%M%S", "060 1960 235959").as_deref(), Some("1960-02-29T23:59:59Z"));
        assert_eq!(read("%s", "1795429260").as_deref(), Some("2026-11-23T10:21:00Z"));
    }

    #[test]
    fn numbers_that_are_no_moment_are_refused() {
        for none in ["1e30", "-1e30", "1e308", "99999999999999999999e9", "1e21", "-99999999999"] {
            assert_eq!(read("auto", none), None, "{none}");
        }
        assert_eq!(read("auto", "-1e15").as_deref(), Some("1938-04-24T22:13:20.000000Z"));
        assert_eq!(read("auto", "1e-30").as_deref(), Some("1970-01-01T00:00:00.000000000Z"));
        assert_eq!(read("unix", "253402300799").as_deref(), Some("9999-12-31T23:59:59Z"));
        for none in ["253402300800", "1e12", "-62135596801", "-1e12"] {
            assert_eq!(read("unix", none), None, "{none}");
        }
    }

    #[test]
    fn a_text_without_year_is_of_the_year_it_is_not_ahead_of() {
        let format = utc(Format::parse("%b %d %H:%M:%S").expect("a format"));
        // 2027-01-01T00:00:10Z and 2026-12-31T23:59:50Z.
        let (january, december) = (Timestamp(1_798_761_610_000_000_000), Timestamp(1_798_761_590_000_000_000));
        let year = |text: &[u8], now| format.read(text, now).map(|at| date_of(at.nanos.div_euclid(DAY) as i64).0);
        assert_eq!(year(b"Dec 31 23:59:59", january), Some(2026));
        assert_eq!(year(b"Jan 01 00:00:20", december), Some(2027), "the writer's clock is ahead");
        assert_eq!(year(b"Feb 29 00:00:00", january), None, "no such day in these years");
        // 2028-01-01, 2028-03-01, 2029-03-01 and 2030-03-01, as full days since 1970.
        for (days, expected) in [(21_184, None), (21_244, Some(2028)), (21_609, Some(2028)), (21_974, None)] {
            assert_eq!(year(b"Feb 29 00:00:00", Timestamp(days * DAY as i64)), expected, "{days}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(nanos in MOMENTS, digits in 0u8..=9) {
            let unit = 10i128.pow(9 - u32::from(digits));
            let moment = Moment { nanos: nanos.div_euclid(unit) * unit, digits };
            let mut text = Vec::new();
            moment.push_rfc3339(&mut text);
            if MOMENTS.contains(&moment.nanos) {
                prop_assert_eq!(utc(Format::Rfc3339).read(&text, NOW), Some(moment));
                let jiff: Option<jiff::Timestamp> = String::from_utf8_lossy(&text).parse().ok();
                if let Some(jiff) = jiff {
                    prop_assert_eq!(jiff.as_nanosecond(), moment.nanos);
                }
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9TZ:.,+/ eE-]{0,40}|\\PC{0,30}") {
            for format in FORMATS.into_iter().chain(["%Y-%m-%dT%H:%M:%S%z", "%b %d %T"]) {
                let _ = utc(Format::parse(format).expect("a format")).read(text.as_bytes(), NOW);
            }
        }
    }
}
