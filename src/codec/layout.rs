//! The usual formats of strftime, read without allocating.
//!
//! Guarantees: a text that is read is the moment that the full implementation of such formats finds in it; only offsets are read
//! with and without their colon. Nothing is allocated, whether the text reads or not. Knows years, months, days, their names, times of day, fractions and offsets; a format with
//! anything else is no layout.

use super::calendar::date_of;
use super::moment::{DAY, Moment};
use super::rfc3339::{days_of, month_days};
use tailwater_shards::env::Timestamp;

/// A format, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(u8),
    /// White space, none included.
    Space,
    Year,
    Month,
    MonthName,
    Day,
    Weekday,
    Hour,
    Minute,
    Second,
    /// A point and digits, or nothing.
    PointFraction,
    /// Digits of a fraction.
    Fraction,
    Offset,
}

const MONTHS: [&[u8; 3]; 12] =
    [b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"];

const WEEKDAYS: [&[u8; 3]; 7] = [b"sun", b"mon", b"tue", b"wed", b"thu", b"fri", b"sat"];

/// What a text has said so far.
#[derive(Default)]
struct Said {
    year: Option<i64>,
    month: i64,
    day: i64,
    weekday: Option<i64>,
    seconds: i64,
    nanos: i64,
    digits: u8,
    offset: i64,
}

impl Layout {
    /// Takes a format apart. None if it has parts that are not usual, or does not say month and day.
    pub fn of(format: &str) -> Option<Layout> {
        let mut parts = Vec::new();
        let mut rest = format.as_bytes();
        while let [byte, behind @ ..] = rest {
            rest = behind;
            if byte.is_ascii_whitespace() {
                parts.push(Part::Space);
                continue;
            }
            if *byte != b'%' {
                parts.push(Part::Literal(*byte));
                continue;
            }
            let (letter, behind) = rest.split_first()?;
            rest = behind;
            match letter {
                b'Y' => parts.push(Part::Year),
                b'm' => parts.push(Part::Month),
                b'b' | b'h' => parts.push(Part::MonthName),
                b'd' => parts.push(Part::Day),
                b'e' => parts.extend([Part::Space, Part::Day]),
                b'a' => parts.push(Part::Weekday),
                b'H' => parts.push(Part::Hour),
                b'M' => parts.push(Part::Minute),
                b'S' => parts.push(Part::Second),
                b'f' => parts.push(Part::Fraction),
                b'z' => parts.push(Part::Offset),
                b'%' => parts.push(Part::Literal(b'%')),
                b'.' => {
                    rest = rest.strip_prefix(b"f")?;
                    parts.push(Part::PointFraction);
                }
                b'F' => {
                    let dash = Part::Literal(b'-');
                    parts.extend([Part::Year, dash, Part::Month, dash, Part::Day]);
                }
                b'T' => {
                    let colon = Part::Literal(b':');
                    parts.extend([Part::Hour, colon, Part::Minute, colon, Part::Second]);
                }
                _ => return None,
            }
        }
        let month = parts.contains(&Part::Month) || parts.contains(&Part::MonthName);
        (month && parts.contains(&Part::Day)).then_some(Layout(parts))
    }

    /// Reads a moment. `now` is when the event was met.
    pub fn read(&self, text: &[u8], now: Timestamp) -> Option<Moment> {
        let mut said = Said::default();
        let mut rest = text;
        for part in &self.0 {
            rest = said.take(*part, rest)?;
        }
        if !rest.is_empty() {
            return None;
        }
        if let Some(year) = said.year {
            return said.moment(year);
        }
        let year = i64::from(date_of(now.0.div_euclid(DAY as i64)).0);
        let years = [year + 1, year, year - 1].into_iter();
        years.filter_map(|year| said.moment(year)).find(|moment| moment.nanos <= i128::from(now.0) + DAY)
    }
}

impl Said {
    /// Takes a part from the front of a text.
    fn take<'a>(&mut self, part: Part, text: &'a [u8]) -> Option<&'a [u8]> {
        let (value, rest) = match part {
            Part::Literal(byte) => return text.strip_prefix(&[byte]),
            Part::Space => return Some(text.trim_ascii_start()),
            Part::Year => number(text, 4, 4)?,
            Part::MonthName => named(text, &MONTHS)?,
            Part::Weekday => named(text, &WEEKDAYS)?,
            Part::Fraction => return self.fraction(text),
            Part::PointFraction => match text.strip_prefix(b".") {
                Some(fraction) => return self.fraction(fraction),
                None => return Some(text),
            },
            Part::Offset => return self.offset(text),
            Part::Month | Part::Day | Part::Hour | Part::Minute | Part::Second => number(text, 1, 2)?,
        };
        let range = match part {
            Part::Month => 1..=12,
            Part::Day => 1..=31,
            Part::Hour => 0..=23,
            Part::Minute | Part::Second => 0..=59,
            _ => 0..=9999,
        };
        if !range.contains(&value) {
            return None;
        }
        match part {
            Part::Year => self.year = Some(value),
            Part::Month => self.month = value,
            Part::MonthName => self.month = value + 1,
            Part::Day => self.day = value,
            Part::Weekday => self.weekday = Some(value),
            Part::Hour => self.seconds += value * 3600,
            Part::Minute => self.seconds += value * 60,
            _ => self.seconds += value,
        }
        Some(rest)
    }

    fn fraction<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (value, rest) = number(text, 1, 9)?;
        self.nanos = value * 10i64.pow(9u32.checked_sub(length as u32)?);
        self.digits = length as u8;
        Some(rest)
    }

    /// `+0100`, `+01:00`.
    fn offset<'a>(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let (sign, rest) = text.split_first()?;
        let (hours, rest) = number(rest, 2, 2)?;
        let (minutes, rest) = number(rest.strip_prefix(b":").unwrap_or(rest), 2, 2)?;
        if hours > 23 || minutes > 59 || rest.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b':') {
            return None;
        }
        let seconds = hours * 3600 + minutes * 60;
        self.offset = match sign {
            b'+' => seconds,
            b'-' => -seconds,
            _ => return None,
        };
        Some(rest)
    }

    fn moment(&self, year: i64) -> Option<Moment> {
        if !(1..=month_days(year, self.month)).contains(&self.day) {
            return None;
        }
        let days = days_of(year, self.month, self.day);
        if self.weekday.is_some_and(|weekday| weekday != (days + 4).rem_euclid(7)) {
            return None;
        }
        let seconds = days * 86_400 + self.seconds - self.offset;
        Some(Moment { nanos: i128::from(seconds) * 1_000_000_000 + i128::from(self.nanos), digits: self.digits })
    }
}

/// A number of so many digits, and what is behind it.
fn number(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    let length = text.iter().take(most).take_while(|byte| byte.is_ascii_digit()).count();
    if length < least {
        return None;
    }
    let value = text[..length].iter().fold(0, |value, byte| value * 10 + i64::from(byte - b'0'));
    Some((value, &text[length..]))
}

/// The place of the name that a text begins with, and what is behind it.
fn named<'a>(text: &'a [u8], names: &[&[u8; 3]]) -> Option<(i64, &'a [u8])> {
    let (name, rest) = text.split_first_chunk::<3>()?;
    let place = names.iter().position(|known| known.eq_ignore_ascii_case(name))?;
    Some((place as i64, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp as Jiff;
    use jiff::fmt::strtime::BrokenDownTime;
    use jiff::tz::{Offset, TimeZone};
    use proptest::prelude::*;

    const FORMATS: [&str; 7] = [
        "%d/%b/%Y:%H:%M:%S %z",
        "%Y-%m-%d %H:%M:%S%.f",
        "%a %b %e %T %Y",
        "%FT%T.%f%z",
        "%m/%d/%Y %H:%M",
        "%Y%m%d%H%M%S",
        "100%% %h %d, %Y",
    ];

    /// What the full implementation reads, as UTC where there is no offset.
    fn reference(format: &str, text: &str) -> Option<i128> {
        let parts = BrokenDownTime::parse(format, text).ok()?;
        let moment = match parts.offset() {
            Some(_) => parts.to_timestamp().ok()?,
            None => parts.to_datetime().ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp(),
        };
        Some(moment.as_nanosecond())
    }

    #[test]
    fn formats_with_unusual_parts_are_no_layouts() {
        for format in ["%s", "%Y-%j", "%d/%m/%y", "%I:%M %p", "%Y", "%", "%.3f", "%-d"] {
            assert_eq!(Layout::of(format), None, "{format}");
        }
        for format in FORMATS {
            assert!(Layout::of(format).is_some(), "{format}");
        }
    }

    #[test]
    fn fractions_are_read_with_their_precision() {
        let layout = Layout::of("%F %T%.f").expect("a layout");
        let digits = |text: &str| layout.read(text.as_bytes(), Timestamp(0)).map(|moment| moment.digits);
        assert_eq!(digits("2026-11-23 10:20:30.1200"), Some(4));
        assert_eq!(digits("2026-11-23 10:20:30"), Some(0));
        assert_eq!(digits("2026-11-23 10:20:30."), None);
        assert_eq!(digits("2026-11-23 10:20:30.1234567890"), None);
        let nanos =
            |offset: &str| Layout::of("%F %T%z")?.read(offset.as_bytes(), Timestamp(0)).map(|moment| moment.nanos);
        assert_eq!(nanos("1970-01-01 01:00:00+01:00"), Some(0));
        assert_eq!(nanos("1970-01-01 01:00:00+0100"), Some(0));
        assert_eq!(nanos("1970-01-01 01:00:00+01:00:00"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_as_the_reference_reads_it(
            second in -60_000_000_000i64..253_000_000_000, nanos in 0i32..1_000_000_000, minutes in -1439i32..1440, which in 0..FORMATS.len(),
        ) {
            let zone = TimeZone::fixed(Offset::from_seconds(minutes * 60).expect("an offset"));
            let zoned = Jiff::new(second, nanos).expect("a moment").to_zoned(zone);
            let format = FORMATS[which];
            let text = BrokenDownTime::from(&zoned).to_string(format).expect("it is written");
            let layout = Layout::of(format).expect("a layout");
            let read = layout.read(text.as_bytes(), Timestamp(0)).map(|moment| moment.nanos);
            prop_assert_eq!(read, reference(format, &text), "{}", text);
            prop_assert!(read.is_some(), "{}", text);
        }

        #[test]
        fn what_is_read_is_what_the_reference_reads(
            text in "[0-3]?[0-9]/(Nov|feb|JAN|xyz)/[12][0-9]{3}:[0-2]?[0-9]:[0-6]?[0-9]:[0-6][0-9] {0,2}[+-]?[0-2][0-9][0-6][0-9]?|\\PC{0,30}",
        ) {
            let layout = Layout::of(FORMATS[0]).expect("a layout");
            if let Some(read) = layout.read(text.as_bytes(), Timestamp(0)) {
                prop_assert_eq!(Some(read.nanos), reference(FORMATS[0], &text));
            }
        }
    }
}
