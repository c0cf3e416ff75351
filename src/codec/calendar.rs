//! Converts timestamps to calendar dates in UTC.
//!
//! Guarantees: does not allocate and needs no time zone database; correct for every time that a [`Timestamp`] can hold. Does not
//! parse dates and supports no zone but UTC.

use tailwater_shards::env::Timestamp;

/// Length of a time as [`rfc3339_micros`] writes it, in bytes.
pub const RFC3339_BYTES: usize = 27;

/// A time as date and time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i32,
    /// From 1.
    pub month: u32,
    /// Of the month, from 1.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    pub micros: u32,
    /// Days since 1970-01-01.
    pub days: i64,
}

impl Civil {
    /// The time in UTC.
    pub fn of(moment: Timestamp) -> Civil {
        let seconds = moment.0.div_euclid(1_000_000_000);
        let nanos = moment.0.rem_euclid(1_000_000_000);
        let days = seconds.div_euclid(86_400);
        let of_day = seconds.rem_euclid(86_400) as u32;
        let (year, month, day) = date_of(days);
        Civil {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            micros: (nanos / 1000) as u32,
            days,
        }
    }

    /// The day of the year, from 1.
    pub fn day_of_year(&self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        BEFORE[self.month as usize - 1] + self.day + u32::from(leap && self.month > 2)
    }

    /// The day of the week: 0 is Sunday.
    pub fn weekday(&self) -> u32 {
        (self.days + 4).rem_euclid(7) as u32
    }

    /// Year and week as ISO 8601 counts them.
    pub fn iso_week(&self) -> (i32, u32) {
        // A week belongs to the year of its Thursday.
        let from_monday = i64::from((self.weekday() + 6) % 7);
        let thursday = self.days - from_monday + 3;
        let (year, month, day) = date_of(thursday);
        let of_year = Civil { year, month, day, days: thursday, ..*self }.day_of_year();
        (year, (of_year - 1) / 7 + 1)
    }
}

/// Year, month and day of a day since 1970-01-01. Uses 400-year eras whose years start in March, so that the leap day comes last.
pub fn date_of(days: i64) -> (i32, u32, u32) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = (of_year - (153 * from_march + 2) / 5 + 1) as u32;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 } as u32;
    let year = (year_of_era + era * 400 + i64::from(month <= 2)) as i32;
    (year, month, day)
}

/// Fills `target` with `value` and leading zeros.
pub fn digits(target: &mut [u8], mut value: u32) {
    for digit in target.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// A time as `2026-11-23T00:12:34.567890Z`.
pub fn rfc3339_micros(moment: Timestamp) -> [u8; RFC3339_BYTES] {
    let civil = Civil::of(moment);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], civil.year as u32);
    digits(&mut text[5..7], civil.month);
    digits(&mut text[8..10], civil.day);
    digits(&mut text[11..13], civil.hour);
    digits(&mut text[14..16], civil.minute);
    digits(&mut text[17..19], civil.second);
    digits(&mut text[20..26], civil.micros);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(nanos: i64) {
        let moment =
            jiff::Timestamp::from_nanosecond(i128::from(nanos)).expect("in range").to_zoned(jiff::tz::TimeZone::UTC);
        let text = rfc3339_micros(Timestamp(nanos));
        // Rounded down, also before 1970; the reference rounds toward 1970.
        let micros = moment.subsec_nanosecond() / 1000;
        let expected = format!("{}.{micros:06}Z", moment.strftime("%Y-%m-%dT%H:%M:%S"));
        assert_eq!(String::from_utf8_lossy(&text), expected);
        let civil = Civil::of(Timestamp(nanos));
        let week = moment.date().iso_week_date();
        assert_eq!(civil.iso_week(), (i32::from(week.year()), week.week() as u32));
        assert_eq!(civil.day_of_year(), moment.day_of_year() as u32);
        assert_eq!(civil.weekday(), moment.weekday().to_sunday_zero_offset() as u32);
    }

    #[test]
    fn edges_of_the_calendar_are_right() {
        for seconds in [0, -1, 951_782_400, 951_868_799, 951_868_800, 4_107_542_400, 1_798_761_600, 1_167_609_600] {
            check(seconds * 1_000_000_000);
            check(seconds * 1_000_000_000 - 1);
        }
        check(i64::MIN);
        check(i64::MAX);
    }

    proptest! {
        #[test]
        fn dates_agree_with_the_reference(nanos in any::<i64>()) {
            check(nanos);
        }
    }
}
