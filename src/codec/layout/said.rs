//! Collects the fields that a text contains and computes the time from them.
//!
//! Guarantees: a field that occurs twice must agree with itself; nothing is ignored. Allocates nothing, apart from the names of
//! zones that a text contains.

use super::{FIELDS, Field, Part};
use crate::codec::calendar::date_of;
use crate::codec::moment::{DAY, Moment};
use crate::codec::rfc3339::{days_of, month_days};
use crate::codec::zone::{Zone, read_offset};
use tailwater_shards::env::Timestamp;

const MONTHS: [&[u8]; 12] = [
    b"january",
    b"february",
    b"march",
    b"april",
    b"may",
    b"june",
    b"july",
    b"august",
    b"september",
    b"october",
    b"november",
    b"december",
];

const WEEKDAYS: [&[u8]; 7] = [b"sunday", b"monday", b"tuesday", b"wednesday", b"thursday", b"friday", b"saturday"];

/// Letters of an abbreviated name.
const SHORT_NAME: usize = 3;

/// The bit that is set in lowercase letters. Setting it makes no other byte a letter.
const CASE: u8 = 0x20;

/// Lengths of the longest abbreviation of a zone and the longest zone name (the database has none over 32 bytes).
const ABBREVIATION_BYTES_MAX: usize = 6;
const ZONE_NAME_BYTES_MAX: usize = 64;

/// The zone that a text names.
#[derive(Default)]
enum Named<'a> {
    #[default]
    None,
    Offset(i64),
    Abbreviation(&'a [u8]),
    Zone(Zone),
}

/// What a text contains so far.
#[derive(Default)]
pub(super) struct Said<'a> {
    values: [i16; FIELDS],
    /// One bit for each known field.
    known: u32,
    /// Whole seconds since 1970 as nanoseconds, and whether the text had a minus sign.
    unix: Option<(i128, bool)>,
    nanos: Option<i64>,
    digits: u8,
    zone: Named<'a>,
}

impl<'a> Said<'a> {
    /// Parses a number at the beginning of a text; returns the rest. Nearly every part of nearly every format is one.
    #[inline]
    pub(super) fn number(&mut self, field: Field, least: u8, most: u8, text: &'a [u8]) -> Option<&'a [u8]> {
        let (value, rest) = number(text, usize::from(least), usize::from(most))?;
        self.say(field, value)?;
        Some(rest)
    }

    /// Parses a part at the beginning of a text; returns the rest.
    pub(super) fn take(&mut self, part: Part, text: &'a [u8]) -> Option<&'a [u8]> {
        match part {
            Part::Literal(byte) => text.strip_prefix(&[byte]),
            Part::Space => Some(text.trim_ascii_start()),
            Part::Number(field, least, most) => self.number(field, least, most, text),
            Part::MonthName => {
                let (place, rest) = named(text, &MONTHS)?;
                self.say(Field::Month, place + 1)?;
                Some(rest)
            }
            Part::WeekdayName => {
                let (place, rest) = named(text, &WEEKDAYS)?;
                self.say(Field::Weekday, place)?;
                Some(rest)
            }
            Part::Meridiem => {
                let (name, rest) = text.split_first_chunk::<2>()?;
                let afternoon = name.eq_ignore_ascii_case(b"pm");
                if !afternoon && !name.eq_ignore_ascii_case(b"am") {
                    return None;
                }
                self.say(Field::Afternoon, i64::from(afternoon))?;
                Some(rest)
            }
            Part::Fraction => self.fraction(text),
            Part::PointFraction => match text.strip_prefix(b".") {
                Some(fraction) => self.fraction(fraction),
                None => Some(text),
            },
            Part::Unix => {
                let (before, digits) = match text {
                    [b'-', digits @ ..] => (true, digits),
                    digits => (false, digits),
                };
                // Twelve digits cover the seconds of every time up to the year 9999.
                let (value, rest) = number(digits, 1, 12)?;
                self.unix = Some((i128::from(value) * SECOND, before));
                Some(rest)
            }
            Part::Offset => {
                let (seconds, rest) = read_offset(text)?;
                self.zone = Named::Offset(seconds);
                Some(rest)
            }
            Part::Abbreviation | Part::AnyAbbreviation => {
                let length = text.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
                let (name, rest) = text.split_at(length);
                if !(1..=ABBREVIATION_BYTES_MAX).contains(&length) {
                    return None;
                }
                if part == Part::Abbreviation {
                    self.zone = Named::Abbreviation(name);
                }
                Some(rest)
            }
            Part::ZoneName => self.zone_name(text),
        }
    }

    /// Records a field; `None` if the value is out of range or contradicts an earlier one.
    #[inline]
    fn say(&mut self, field: Field, value: i64) -> Option<()> {
        let (place, bit) = (field as usize, 1 << field as u32);
        let (least, most) = RANGES[place];
        let contradicts = self.known & bit != 0 && i64::from(self.values[place]) != value;
        if value < i64::from(least) || value > i64::from(most) || contradicts {
            return None;
        }
        self.values[place] = value as i16;
        self.known |= bit;
        Some(())
    }

    fn fraction(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        // Digits below a nanosecond are dropped.
        let kept = length.min(9);
        let (value, _) = number(&text[..kept], 1, 9)?;
        let nanos = value * POWERS[9 - kept];
        if self.nanos.is_some_and(|known| known != nanos) {
            return None;
        }
        self.nanos = Some(nanos);
        self.digits = self.digits.max(kept as u8);
        Some(&text[length..])
    }

    fn zone_name(&mut self, text: &'a [u8]) -> Option<&'a [u8]> {
        if let Some((seconds, rest)) = read_offset(text).filter(|_| !text[0].is_ascii_alphabetic()) {
            self.zone = Named::Offset(seconds);
            return Some(rest);
        }
        let is_of_name = |byte: &&u8| byte.is_ascii_alphanumeric() || b"_/+-".contains(byte);
        let length = text.iter().take_while(is_of_name).count();
        let (name, rest) = text.split_at(length);
        if length > ZONE_NAME_BYTES_MAX || name == b"local" {
            return None;
        }
        self.zone = Named::Zone(Zone::parse(std::str::from_utf8(name).ok()?).ok()?);
        Some(rest)
    }

    fn get(&self, field: Field) -> Option<i64> {
        (self.known & 1 << field as u32 != 0).then(|| i64::from(self.values[field as usize]))
    }

    /// The time. Without a year, it is in the year that puts it at most one day after `now`.
    pub(super) fn moment(&self, now: Timestamp, zone: &Zone) -> Option<Moment> {
        if let Some((seconds, before)) = self.unix {
            let nanos = seconds + i128::from(self.nanos.unwrap_or(0));
            return Some(self.at(if before { -nanos } else { nanos }));
        }
        let iso = self.get(Field::IsoYear).or(self.get(Field::ShortIsoYear)).is_some();
        if let Some(year) = self.year() {
            return self.on(self.day_of(Some(year))?, zone);
        }
        if iso && let Some(day) = self.day_of(None) {
            return self.on(day, zone);
        }
        // A log of December may be read in January, and one of January on a host whose clock is slow.
        let today = now.0.div_euclid(DAY as i64);
        let year_of = |day| i64::from(date_of(day).0);
        // No zone is more than a day from UTC, so no later year can begin within a day.
        let years = year_of(today) - 1..=year_of(today + 3);
        let mut moments = years.rev().filter_map(|year| self.on(self.day_of(Some(year))?, zone));
        moments.find(|moment| moment.nanos <= i128::from(now.0) + DAY)
    }

    fn year(&self) -> Option<i64> {
        if let Some(year) = self.get(Field::Year) {
            return Some(year);
        }
        let short = self.get(Field::ShortYear)?;
        Some(self.get(Field::Century).map_or_else(|| pivoted(short), |century| century * 100 + short))
    }

    /// The day since 1970, if all fields agree on it.
    fn day_of(&self, year: Option<i64>) -> Option<i64> {
        let day = year.and_then(|year| self.day_of_year(year)).or_else(|| self.day_of_week(year))?;
        self.agrees(day, year).then_some(day)
    }

    /// The day from month and day, or from the day of the year.
    fn day_of_year(&self, year: i64) -> Option<i64> {
        match (self.get(Field::Month), self.get(Field::Day)) {
            (Some(month), Some(day)) => (day <= month_days(year, month)).then(|| days_of(year, month, day)),
            _ => Some(days_of(year, 1, 1) + self.get(Field::DayOfYear)? - 1),
        }
    }

    /// The day from week and weekday.
    fn day_of_week(&self, year: Option<i64>) -> Option<i64> {
        let sunday_based = self.get(Field::Weekday).or(self.get(Field::IsoWeekday).map(|day| day % 7))?;
        let monday_based = (sunday_based + 6) % 7;
        let iso_year = self.get(Field::IsoYear).or(self.get(Field::ShortIsoYear).map(pivoted));
        if let (Some(year), Some(week)) = (iso_year, self.get(Field::IsoWeek)) {
            return Some(first_iso_monday(year) + (week - 1) * 7 + monday_based);
        }
        let new_year = days_of(year?, 1, 1);
        match self.get(Field::SundayWeek) {
            Some(week) => Some(next(new_year, 0) + (week - 1) * 7 + sunday_based),
            None => Some(next(new_year, 1) + (self.get(Field::MondayWeek)? - 1) * 7 + monday_based),
        }
    }

    /// Whether this day agrees with all fields of the date.
    fn agrees(&self, day: i64, year: Option<i64>) -> bool {
        if self.known & DATE & !PLAIN_DATE == 0 {
            return true;
        }
        let (its_year, month, of_month) = date_of(day);
        let its_year = i64::from(its_year);
        let weekday = weekday_of(day);
        let new_year = days_of(its_year, 1, 1);
        let thursday = day - (weekday + 6) % 7 + 3;
        let iso_year = i64::from(date_of(thursday).0);
        let week_from = |first: i64| (day - next(new_year, first) + 7).div_euclid(7);
        let facts = [
            (Field::Year, its_year),
            (Field::Century, its_year / 100),
            (Field::ShortYear, its_year % 100),
            (Field::Month, i64::from(month)),
            (Field::Day, i64::from(of_month)),
            (Field::DayOfYear, day - new_year + 1),
            (Field::Weekday, weekday),
            (Field::IsoWeekday, (weekday + 6) % 7 + 1),
            (Field::IsoYear, iso_year),
            (Field::ShortIsoYear, iso_year % 100),
            (Field::IsoWeek, (thursday - days_of(iso_year, 1, 1)) / 7 + 1),
            (Field::SundayWeek, week_from(0)),
            (Field::MondayWeek, week_from(1)),
        ];
        year.is_none_or(|year| year == its_year)
            && facts.iter().all(|(field, fact)| self.get(*field).is_none_or(|said| said == *fact))
    }

    fn on(&self, day: i64, zone: &Zone) -> Option<Moment> {
        let (half, afternoon) = (self.get(Field::HalfHour), self.get(Field::Afternoon));
        let hour = match self.get(Field::Hour) {
            Some(hour) => {
                let agrees = half.is_none_or(|half| half % 12 == hour % 12)
                    && afternoon.is_none_or(|afternoon| afternoon == hour / 12);
                agrees.then_some(hour)?
            }
            None => half.map_or(0, |half| half % 12) + afternoon.unwrap_or(0) * 12,
        };
        let of_day = hour * 3600 + self.get(Field::Minute).unwrap_or(0) * 60 + self.get(Field::Second).unwrap_or(0);
        let local = day * 86_400 + of_day;
        let offset = match &self.zone {
            Named::None => zone.offset(local)?,
            Named::Offset(seconds) => *seconds,
            Named::Abbreviation(name) => zone.named_offset(name, local)?,
            Named::Zone(zone) => zone.offset(local)?,
        };
        Some(self.at(i128::from(local - offset) * SECOND + i128::from(self.nanos.unwrap_or(0))))
    }

    fn at(&self, nanos: i128) -> Moment {
        Moment { nanos, digits: self.digits }
    }
}

/// The least and the largest value of each field.
const RANGES: [(i16, i16); FIELDS] = {
    let mut ranges = [(0, 9999); FIELDS];
    ranges[Field::Month as usize] = (1, 12);
    ranges[Field::Day as usize] = (1, 31);
    ranges[Field::DayOfYear as usize] = (1, 366);
    ranges[Field::Weekday as usize] = (0, 6);
    ranges[Field::IsoWeekday as usize] = (1, 7);
    ranges[Field::IsoWeek as usize] = (1, 53);
    ranges[Field::SundayWeek as usize] = (0, 53);
    ranges[Field::MondayWeek as usize] = (0, 53);
    ranges[Field::Hour as usize] = (0, 23);
    ranges[Field::HalfHour as usize] = (1, 12);
    ranges[Field::Minute as usize] = (0, 59);
    ranges[Field::Second as usize] = (0, 59);
    ranges
};

const POWERS: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The fields of a date, and those of them that cannot contradict each other.
const DATE: u32 = (1 << Field::Hour as u32) - 1;
const PLAIN_DATE: u32 = 1 << Field::Year as u32 | 1 << Field::Month as u32 | 1 << Field::Day as u32;

const SECOND: i128 = 1_000_000_000;

/// The year that two digits mean (POSIX, strptime).
fn pivoted(short: i64) -> i64 {
    if short >= 69 { 1900 + short } else { 2000 + short }
}

/// The weekday as days since Sunday.
fn weekday_of(day: i64) -> i64 {
    (day + 4).rem_euclid(7)
}

/// The first day at or after `day` with this weekday.
fn next(day: i64, weekday: i64) -> i64 {
    day + (weekday - weekday_of(day)).rem_euclid(7)
}

/// The Monday of the first week of a year: the week that contains January 4 (ISO 8601).
fn first_iso_monday(year: i64) -> i64 {
    let fourth = days_of(year, 1, 4);
    fourth - (weekday_of(fourth) + 6) % 7
}

/// A number of `least` to `most` digits, and the rest.
#[inline]
fn number(text: &[u8], least: usize, most: usize) -> Option<(i64, &[u8])> {
    if let (2, [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..]) = (most, text) {
        return Some((i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), rest));
    }
    let (mut value, mut length) = (0, 0);
    while length < most
        && let Some(digit) = text.get(length).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10)
    {
        value = value * 10 + i64::from(digit);
        length += 1;
    }
    (length >= least).then(|| (value, &text[length..]))
}

/// The index of the name that a text begins with, complete or abbreviated, and the rest.
fn named<'a>(text: &'a [u8], names: &[&[u8]]) -> Option<(i64, &'a [u8])> {
    let short = text.first_chunk::<SHORT_NAME>()?.map(|byte| byte | CASE);
    let place = names.iter().position(|known| known[..SHORT_NAME] == short)?;
    let name = names[place];
    let whole = text.get(..name.len()).is_some_and(|text| text.eq_ignore_ascii_case(name));
    Some((place as i64, &text[if whole { name.len() } else { SHORT_NAME }..]))
}
