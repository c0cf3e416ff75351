//! Parses times with strftime formats without allocating.
//!
//! Guarantees: a specifier has the same meaning whatever is next to it. A text is accepted only if its time agrees with all of
//! it: a weekday, day of the year or `PM` that contradicts the rest is rejected, as is leftover text. Only the digits of a
//! fraction behind the ninth are dropped. A format that would require guessing (no date, `%I` without `%p`, minutes without an
//! hour) is rejected as a whole.
//!
//! | Specifier | Parses |
//! |---|---|
//! | `%Y` `%G` | a year, four digits (`%G`: of ISO weeks) |
//! | `%y` `%g` | the last two digits of the year: 69 to 99 mean 1969 to 1999, others 2000 to 2068 |
//! | `%C` | the first two digits of the year, used with `%y` |
//! | `%m` `%d` `%e` `%H` `%k` `%I` `%l` `%M` `%S` | one or two digits; `%e`, `%k` and `%l` after optional white space |
//! | `%j` | the day of the year, one to three digits |
//! | `%b` `%B` `%h` | a month's name or its first three letters, in any case |
//! | `%a` `%A` | a weekday's name or its first three letters, in any case |
//! | `%u` `%w` | a weekday's number: 1 to 7 from Monday, 0 to 6 from Sunday |
//! | `%U` `%W` `%V` | the week of the year: from Sunday, from Monday, of ISO 8601 |
//! | `%p` `%P` | `AM` or `PM` in any case |
//! | `%f` `%N` `%L` | the digits of a fraction, whatever width is given (`%3f`); those behind the ninth are dropped |
//! | `%.f` | a point and a fraction, or nothing |
//! | `%s` | seconds since 1970 |
//! | `%z` `%:z` | `Z`, `+01`, `+0100` or `+01:00` |
//! | `%Z` | an abbreviation of a zone; any abbreviation if there is also `%z` |
//! | `%Q` | a name of the tz database, or what `%z` parses |
//! | `%F` `%D` `%T` `%R` | `%Y-%m-%d`, `%m/%d/%y`, `%H:%M:%S`, `%H:%M` |
//! | `%n` `%t`, white space | optional white space |
//! | `%%` | `%` |
//!
//! The flags `-`, `_`, `0`, `^` and `#` are allowed; only `_` has an effect: it allows white space in front.

mod said;
#[cfg(test)]
mod tests;

use super::moment::Moment;
use super::zone::Zone;
use said::Said;
use tailwater_shards::env::Timestamp;

/// A parsed format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout(Vec<Part>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Literal(u8),
    /// Optional white space.
    Space,
    /// A number with a minimum and a maximum of digits.
    Number(Field, u8, u8),
    MonthName,
    WeekdayName,
    /// A point and digits, or nothing.
    PointFraction,
    /// The digits of a fraction.
    Fraction,
    Meridiem,
    /// Seconds since 1970.
    Unix,
    Offset,
    Abbreviation,
    /// Any abbreviation: the offset next to it decides.
    AnyAbbreviation,
    ZoneName,
}

/// What a number, or a name that means one, stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Year,
    Century,
    ShortYear,
    Month,
    Day,
    DayOfYear,
    /// From Sunday, 0.
    Weekday,
    /// From Monday, 1.
    IsoWeekday,
    IsoYear,
    ShortIsoYear,
    IsoWeek,
    SundayWeek,
    MondayWeek,
    Hour,
    /// On the 12-hour clock.
    HalfHour,
    /// Whether it is PM.
    Afternoon,
    Minute,
    Second,
}

const FIELDS: usize = Field::Second as usize + 1;

impl Layout {
    /// Parses a format; an error says what is wrong with it.
    pub fn parse(format: &str) -> Result<Layout, String> {
        let mut parts = Vec::new();
        let mut rest = format.as_bytes();
        while let [byte, behind @ ..] = rest {
            rest = behind;
            match byte {
                b'%' => rest = specifier(rest, &mut parts)?,
                byte if byte.is_ascii_whitespace() => parts.push(Part::Space),
                byte => parts.push(Part::Literal(*byte)),
            }
        }
        if parts.contains(&Part::Offset) {
            let names = parts.iter_mut().filter(|part| **part == Part::Abbreviation);
            names.for_each(|part| *part = Part::AnyAbbreviation);
        }
        let layout = Layout(parts);
        layout.says_a_moment()?;
        Ok(layout)
    }

    /// Rejects a format that does not determine a time.
    fn says_a_moment(&self) -> Result<(), String> {
        let fraction = self.0.contains(&Part::Fraction) || self.0.contains(&Part::PointFraction);
        let has = |field| {
            self.0.iter().any(|part| match part {
                Part::Number(known, ..) => *known == field,
                Part::MonthName => field == Field::Month,
                Part::WeekdayName => field == Field::Weekday,
                Part::Meridiem => field == Field::Afternoon,
                _ => false,
            })
        };
        if self.0.contains(&Part::Unix) {
            let alone = |part: &Part| {
                matches!(
                    part,
                    Part::Literal(_) | Part::Space | Part::Unix | Part::Fraction | Part::PointFraction | Part::Offset
                )
            };
            return match self.0.iter().all(alone) {
                true => Ok(()),
                false => Err("`%s` is the complete time: only a fraction and an offset can be used with it".to_owned()),
            };
        }
        let zones = [Part::Offset, Part::Abbreviation, Part::ZoneName];
        if self.0.iter().filter(|part| zones.contains(part)).count() > 1 {
            return Err("it has more than one time zone".to_owned());
        }
        if has(Field::Century) && !has(Field::ShortYear) && !has(Field::Year) {
            return Err("`%C` needs `%y`".to_owned());
        }
        let year = has(Field::Year) || has(Field::ShortYear);
        let weekday = has(Field::Weekday) || has(Field::IsoWeekday);
        let iso_year = has(Field::IsoYear) || has(Field::ShortIsoYear);
        let dated = has(Field::Month) && has(Field::Day)
            || has(Field::DayOfYear)
            || iso_year && has(Field::IsoWeek) && weekday
            || year && (has(Field::SundayWeek) || has(Field::MondayWeek)) && weekday;
        if !dated {
            return Err("it does not determine a time: the date is missing".to_owned());
        }
        let needs = [
            (has(Field::HalfHour) && !has(Field::Afternoon) && !has(Field::Hour), "`%I` needs `%p`"),
            (has(Field::Afternoon) && !has(Field::HalfHour) && !has(Field::Hour), "`%p` needs `%I`"),
            (has(Field::Minute) && !has(Field::Hour) && !has(Field::HalfHour), "`%M` needs an hour"),
            (has(Field::Second) && !has(Field::Minute), "`%S` needs `%M`"),
            (fraction && !has(Field::Second), "`%f` needs `%S`"),
        ];
        match needs.iter().find(|(missing, _)| *missing) {
            Some((_, what)) => Err(format!("it does not determine a time: {what}")),
            None => Ok(()),
        }
    }

    /// Parses a time. `now` is when the event was read; `zone` applies to texts without a zone.
    pub fn read(&self, text: &[u8], now: Timestamp, zone: &Zone) -> Option<Moment> {
        let mut said = Said::default();
        let mut rest = text;
        for part in &self.0 {
            // Nearly all parts are one of these two, which need no call.
            rest = match *part {
                Part::Literal(byte) => rest.strip_prefix(&[byte])?,
                Part::Number(field, least, most) => said.number(field, least, most, rest)?,
                part => said.take(part, rest)?,
            };
        }
        if !rest.is_empty() {
            return None;
        }
        said.moment(now, zone)
    }
}

/// Parses a specifier after its `%`; returns the rest of the format.
fn specifier<'a>(format: &'a [u8], parts: &mut Vec<Part>) -> Result<&'a [u8], String> {
    let (flags, rest) = format.split_at(format.iter().take_while(|byte| b"-_0^#".contains(byte)).count());
    let colons = rest.iter().take_while(|byte| **byte == b':').count();
    let (point, rest) = match &rest[colons..] {
        [b'.', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let width = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = &rest[width..];
    let Some((letter, behind)) = rest.split_first() else {
        return Err("a `%` at the end; for the character `%`, write `%%`".to_owned());
    };
    if flags.contains(&b'_') {
        parts.push(Part::Space);
    }
    let dash = Part::Literal(b'-');
    let (slash, colon) = (Part::Literal(b'/'), Part::Literal(b':'));
    let number = |field, most| Part::Number(field, 1, most);
    let exact = |field, digits| Part::Number(field, digits, digits);
    let (year, short_year) = (exact(Field::Year, 4), exact(Field::ShortYear, 2));
    let (month, day) = (number(Field::Month, 2), number(Field::Day, 2));
    let (hour, minute, second) = (number(Field::Hour, 2), number(Field::Minute, 2), number(Field::Second, 2));
    let plain = colons == 0 && !point;
    let read: &[Part] = match letter {
        b'f' | b'N' | b'L' if point && colons == 0 => &[Part::PointFraction],
        b'f' | b'N' | b'L' if plain => &[Part::Fraction],
        b'z' if !point && colons <= 2 => &[Part::Offset],
        b'Q' if !point && colons <= 1 => &[Part::ZoneName],
        _ if !plain || width > 1 => &[],
        b'Y' => &[year],
        b'C' => &[exact(Field::Century, 2)],
        b'y' => &[short_year],
        b'm' => &[month],
        b'b' | b'B' | b'h' => &[Part::MonthName],
        b'd' => &[day],
        b'e' => &[Part::Space, day],
        b'j' => &[number(Field::DayOfYear, 3)],
        b'a' | b'A' => &[Part::WeekdayName],
        b'u' => &[exact(Field::IsoWeekday, 1)],
        b'w' => &[exact(Field::Weekday, 1)],
        b'G' => &[exact(Field::IsoYear, 4)],
        b'g' => &[exact(Field::ShortIsoYear, 2)],
        b'V' => &[number(Field::IsoWeek, 2)],
        b'U' => &[number(Field::SundayWeek, 2)],
        b'W' => &[number(Field::MondayWeek, 2)],
        b'H' => &[hour],
        b'k' => &[Part::Space, hour],
        b'I' => &[number(Field::HalfHour, 2)],
        b'l' => &[Part::Space, number(Field::HalfHour, 2)],
        b'M' => &[minute],
        b'S' => &[second],
        b'p' | b'P' => &[Part::Meridiem],
        b's' => &[Part::Unix],
        b'Z' => &[Part::Abbreviation],
        b'n' | b't' => &[Part::Space],
        b'%' => &[Part::Literal(b'%')],
        b'F' => &[year, dash, month, dash, day],
        b'D' => &[month, slash, day, slash, short_year],
        b'T' => &[hour, colon, minute, colon, second],
        b'R' => &[hour, colon, minute],
        _ => &[],
    };
    if read.is_empty() {
        let end = format.len() - behind.len();
        let text = String::from_utf8_lossy(&format[..end]);
        return Err(format!("`%{text}` is not a supported specifier"));
    }
    parts.extend(read);
    Ok(behind)
}
