//! Time zones: the UTC offset of a local time.
//!
//! Guarantees: allocates nothing once a zone is known. A local time that occurs twice, because clocks were set back, means the
//! first of the two. One that does not occur, because clocks were set forward, is moved later by the length of the jump (RFC
//! 5545, section 3.3.5). Abbreviations that more than one country uses are accepted only if the zone uses them.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};

/// A time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Zone {
    /// A fixed offset: seconds that are added to UTC.
    Fixed(i64),
    /// The rules of a region.
    Named(TimeZone),
}

impl Default for Zone {
    fn default() -> Zone {
        Zone::UTC
    }
}

/// Abbreviations with one meaning, in hours: those of RFC 5322, section 4.3, without `CST` and `CDT`, which China and Cuba use
/// too, and those that only one region of the tz database has used since 1990.
const ABBREVIATIONS: [(&str, i64); 26] = [
    ("UTC", 0),
    ("GMT", 0),
    ("UT", 0),
    ("Z", 0),
    ("EST", -5),
    ("EDT", -4),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
    ("AKST", -9),
    ("AKDT", -8),
    ("HST", -10),
    ("WET", 0),
    ("WEST", 1),
    ("CET", 1),
    ("CEST", 2),
    ("EET", 2),
    ("EEST", 3),
    ("CAT", 2),
    ("EAT", 3),
    ("SAST", 2),
    ("JST", 9),
    ("AEST", 10),
    ("AEDT", 11),
    ("NZDT", 13),
];

impl Zone {
    /// Coordinated Universal Time.
    pub const UTC: Zone = Zone::Fixed(0);

    /// Parses a zone as the configuration writes it: `UTC`, `local`, an offset such as `+02:00`, or a name of the tz database.
    pub fn parse(text: &str) -> Result<Zone, String> {
        match text.as_bytes() {
            b"UTC" | b"utc" | b"Z" => return Ok(Zone::UTC),
            b"local" => {
                let zone =
                    TimeZone::try_system().map_err(|error| format!("the zone of this machine is unknown: {error}"))?;
                return Ok(Zone::Named(zone));
            }
            offset @ [b'+' | b'-', ..] => {
                return match read_offset(offset) {
                    Some((seconds, [])) => Ok(Zone::Fixed(seconds)),
                    _ => Err(format!("`{text}` is not an offset such as +02:00")),
                };
            }
            _ => {}
        }
        match TimeZone::get(text) {
            Ok(zone) => Ok(Zone::Named(zone)),
            Err(_) => Err(format!("unknown time zone `{text}`")),
        }
    }

    /// The offset in seconds for a local time, given as seconds since 1970 in local time.
    pub fn offset(&self, local: i64) -> Option<i64> {
        match self {
            Zone::Fixed(seconds) => Some(*seconds),
            Zone::Named(zone) => {
                let moment = zone.to_ambiguous_timestamp(civil_of(local)?).compatible().ok()?;
                Some(local - moment.as_second())
            }
        }
    }

    /// The offset in seconds at a time, given as seconds since 1970 in UTC.
    pub fn offset_at(&self, seconds: i64) -> i64 {
        match self {
            Zone::Fixed(offset) => *offset,
            Zone::Named(zone) => {
                let moment = jiff::Timestamp::from_second(seconds);
                moment.map_or(0, |moment| i64::from(zone.to_offset(moment).seconds()))
            }
        }
    }

    /// The offset in seconds for a local time with this abbreviation.
    pub fn named_offset(&self, name: &[u8], local: i64) -> Option<i64> {
        if let Zone::Named(zone) = self {
            let both = zone.to_ambiguous_timestamp(civil_of(local)?);
            let moments = [both.earlier(), both.later()].into_iter().flatten();
            let mut infos = moments.map(|moment| zone.to_offset_info(moment));
            if let Some(info) = infos.find(|info| info.abbreviation().as_bytes().eq_ignore_ascii_case(name)) {
                return Some(i64::from(info.offset().seconds()));
            }
        }
        let known = ABBREVIATIONS.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(name));
        known.map(|(_, hours)| hours * 3600)
    }
}

fn civil_of(local: i64) -> Option<civil::DateTime> {
    Some(Offset::UTC.to_datetime(jiff::Timestamp::from_second(local).ok()?))
}

/// Parses `Z`, `+01`, `+0100`, `+01:00` at the beginning of a text: the seconds that are added to UTC, and the rest.
pub fn read_offset(text: &[u8]) -> Option<(i64, &[u8])> {
    let (sign, rest) = match text.split_first()? {
        (b'Z' | b'z', rest) => return Some((0, rest)),
        (b'+', rest) => (1, rest),
        (b'-', rest) => (-1, rest),
        _ => return None,
    };
    let (hours, rest) = two_digits(rest)?;
    let (colon, behind) = match rest {
        [b':', behind @ ..] => (true, behind),
        _ => (false, rest),
    };
    let (minutes, rest) = match two_digits(behind) {
        Some(read) => read,
        None if colon => return None,
        None => (0, rest),
    };
    if hours > 23 || minutes > 59 || rest.first().is_some_and(|byte| byte.is_ascii_digit() || *byte == b':') {
        return None;
    }
    Some((sign * (hours * 3600 + minutes * 60), rest))
}

fn two_digits(text: &[u8]) -> Option<(i64, &[u8])> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] => {
            Some((i64::from(tens - b'0') * 10 + i64::from(ones - b'0'), rest))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The local time as seconds since 1970.
    fn local(text: &str) -> i64 {
        let civil: civil::DateTime = text.parse().expect("a local time");
        Offset::UTC.to_timestamp(civil).expect("in range").as_second()
    }

    #[test]
    fn zones_are_named_as_in_the_tz_database_or_by_their_offset() {
        for (text, winter, summer) in
            [("UTC", 0, 0), ("+05:30", 19_800, 19_800), ("-03", -10_800, -10_800), ("Europe/Berlin", 3600, 7200)]
        {
            let zone = Zone::parse(text).unwrap_or_else(|what| panic!("{what}"));
            assert_eq!(zone.offset(local("2026-01-15T12:00:00")), Some(winter), "{text}");
            assert_eq!(zone.offset(local("2026-07-15T12:00:00")), Some(summer), "{text}");
            assert_eq!(zone.offset_at(local("2026-07-15T12:00:00") - summer), summer, "{text}");
        }
        assert!(Zone::parse("local").is_ok());
        for text in ["", "Berlin", "CET+1", "+1", "+24:00", "+01:00:00", "Europe/Nowhere"] {
            assert!(Zone::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_moments_the_first_counts_and_a_gap_is_skipped() {
        let zone = Zone::parse("Europe/Berlin").expect("a zone");
        assert_eq!(zone.offset(local("2026-10-25T02:30:00")), Some(7200), "it occurs twice");
        assert_eq!(zone.offset(local("2026-03-29T02:30:00")), Some(3600), "it does not occur: 03:30 summer time");
        let quarter = Zone::parse("Australia/Lord_Howe").expect("a zone");
        assert_eq!(quarter.offset(local("2026-04-05T01:45:00")), Some(11 * 3600));
    }

    #[test]
    fn abbreviations_are_those_of_the_zone_or_mean_one_offset() {
        let berlin = Zone::parse("Europe/Berlin").expect("a zone");
        let twice = local("2026-10-25T02:30:00");
        assert_eq!(berlin.named_offset(b"CEST", twice), Some(7200));
        assert_eq!(berlin.named_offset(b"cet", twice), Some(3600), "the abbreviation decides which of the two it is");
        let summer = local("2026-07-15T12:00:00");
        assert_eq!(Zone::UTC.named_offset(b"PDT", summer), Some(-7 * 3600));
        for ambiguous in ["CST", "IST", "BST"] {
            assert_eq!(Zone::UTC.named_offset(ambiguous.as_bytes(), summer), None, "{ambiguous}");
        }
        let chicago = Zone::parse("America/Chicago").expect("a zone");
        assert_eq!(chicago.named_offset(b"CDT", summer), Some(-5 * 3600));
        assert_eq!(chicago.named_offset(b"CST", summer), None, "not used there in summer");
        let shanghai = Zone::parse("Asia/Shanghai").expect("a zone");
        assert_eq!(shanghai.named_offset(b"CST", summer), Some(8 * 3600));
    }

    #[test]
    fn offsets_are_read_with_and_without_colon() {
        for (text, expected) in [
            ("Z", Some((0, ""))),
            ("+0100 x", Some((3600, " x"))),
            ("-01:30", Some((-5400, ""))),
            ("+02", Some((7200, ""))),
            ("+02]", Some((7200, "]"))),
            ("+2", None),
            ("+02:", None),
            ("+02:3", None),
            ("+023", None),
            ("+01000", None),
            ("+01:00:00", None),
            ("+2400", None),
            ("0100", None),
        ] {
            let read = read_offset(text.as_bytes());
            assert_eq!(read, expected.map(|(seconds, rest)| (seconds, rest.as_bytes())), "{text}");
        }
    }
}
