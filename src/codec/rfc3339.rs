//! Parses times in the format of RFC 3339.
//!
//! Guarantees: allocates nothing and needs no time zone database; rejects everything but one time in the years 1 to 9999,
//! including leap seconds. Does not parse similar formats: see [`super::moment`].

const SECOND: i128 = 1_000_000_000;

/// The supported times: from the first nanosecond of year 1 to the last one of year 9999.
pub const MOMENTS: std::ops::RangeInclusive<i128> = -62_135_596_800 * SECOND..=253_402_300_799 * SECOND + 999_999_999;

/// Days from 1970-01-01 to a date.
pub fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years start in March, so that the leap day comes last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The number of days of a month.
pub fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// Parses `2026-11-23T10:20:30.5+01:00`.
pub fn read(text: &[u8]) -> Option<i128> {
    let field = |from: usize, to: usize| text.get(from..to).and_then(number);
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    let marks = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    let marked = marks.iter().all(|(at, mark)| text[*at] == mark[0]) && matches!(text[10], b'T' | b't' | b' ');
    let dated = (1..=12).contains(&month) && (1..=month_days(year, month)).contains(&day);
    if !(marked && dated && hour < 24 && minute < 60 && second < 60) {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0i64;
    if let [b'.', fraction @ ..] = rest {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        // Digits below a nanosecond are dropped.
        let kept = length.min(9);
        nanos = number(&fraction[..kept])? * 10i64.pow(9 - kept as u32);
        rest = &fraction[length..];
    }
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - offset(rest)?;
    let nanos = i128::from(seconds) * SECOND + i128::from(nanos);
    MOMENTS.contains(&nanos).then_some(nanos)
}

/// Parses an offset, `Z` or `+01:00`: seconds that are added to UTC.
fn offset(text: &[u8]) -> Option<i64> {
    match text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), hours @ .., b':', m1, m2] if hours.len() == 2 => {
            let (hours, minutes) = (number(hours)?, number(&[*m1, *m2])?);
            let seconds = (hours < 24 && minutes < 60).then_some(hours * 3600 + minutes * 60)?;
            Some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}
