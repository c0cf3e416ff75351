//! Converts strings to numbers, for `convert`.
//!
//! Guarantees: it writes a JSON number with every digit of the string, or nothing. It allocates nothing.

use std::io::Write as _;

/// A JSON number or a similar spelling (`+1`, `.5`, `007`), split into its parts.
struct Parts<'a> {
    negative: bool,
    whole: &'a [u8],
    fraction: Option<&'a [u8]>,
    exponent: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a [u8]) -> Option<Parts<'a>> {
        let (negative, rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            [b'+', rest @ ..] => (false, rest),
            rest => (false, rest),
        };
        let (whole, rest) = digits(rest);
        let (fraction, rest) = match rest {
            [b'.', rest @ ..] => {
                let (fraction, rest) = digits(rest);
                (Some(fraction), rest)
            }
            rest => (None, rest),
        };
        let (exponent, rest) = match rest {
            [b'e' | b'E', rest @ ..] => {
                let sign = usize::from(matches!(rest, [b'+' | b'-', ..]));
                let (count, behind) = digits(&rest[sign..]);
                if count.is_empty() {
                    return None;
                }
                (Some(&rest[..sign + count.len()]), behind)
            }
            rest => (None, rest),
        };
        let some = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
        (some && rest.is_empty()).then_some(Parts { negative, whole, fraction, exponent })
    }
}

/// The leading digits of a string, and the rest.
fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    text.split_at(text.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

/// Appends a whole number of 64 bits, with or without sign.
pub fn int(text: &[u8], out: &mut Vec<u8>) -> bool {
    let text = text.trim_ascii();
    if matches!(text, b"true" | b"false") {
        out.push(if text == b"true" { b'1' } else { b'0' });
        return true;
    }
    let Some(parts) = Parts::of(text) else { return false };
    let value = match parts.exponent {
        None => {
            let add = |value: u64, digit: &u8| value.checked_mul(10)?.checked_add(u64::from(digit - b'0'));
            parts.whole.iter().try_fold(0, add)
        }
        Some(exponent) => scaled(&parts, exponent),
    };
    match value {
        Some(value) if !parts.negative || value <= 1 << 63 => {
            let sign = if parts.negative && value > 0 { "-" } else { "" };
            write!(out, "{sign}{value}").is_ok()
        }
        _ => false,
    }
}

/// The whole part of a number with an exponent, without its sign.
fn scaled(parts: &Parts<'_>, exponent: &[u8]) -> Option<u64> {
    let (down, size) = match exponent {
        [b'-', size @ ..] => (true, size),
        [b'+', size @ ..] | size => (false, size),
    };
    let size = size.iter().fold(0i64, |size, digit| size.saturating_mul(10).saturating_add(i64::from(digit - b'0')));
    let fraction = parts.fraction.unwrap_or_default();
    // The number of digits before the point after it has moved.
    let point = (parts.whole.len() as i64).saturating_add(if down { -size } else { size }).max(0);
    let mut value = 0u64;
    for digit in parts.whole.iter().chain(fraction).take(usize::try_from(point).unwrap_or(usize::MAX)) {
        value = value.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    let written = (parts.whole.len() + fraction.len()) as i64;
    // Zero stays zero; every other number soon leaves its range.
    match value {
        0 => Some(0),
        _ => (written..point).try_fold(value, |value, _| value.checked_mul(10)),
    }
}

/// Appends a number that a double can hold, with a fraction or an exponent.
pub fn float(text: &[u8], out: &mut Vec<u8>) -> bool {
    let text = text.trim_ascii();
    if matches!(text, b"true" | b"false") {
        out.extend_from_slice(if text == b"true" { b"1.0" } else { b"0.0" });
        return true;
    }
    let Some(parts) = Parts::of(text) else { return false };
    // The double only decides whether the number fits; digits beyond its precision are kept.
    let value = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok());
    if !value.is_some_and(f64::is_finite) {
        return false;
    }
    if parts.negative {
        out.push(b'-');
    }
    let zeroes = parts.whole.iter().take_while(|byte| **byte == b'0').count();
    match &parts.whole[zeroes..] {
        [] => out.push(b'0'),
        whole => out.extend_from_slice(whole),
    }
    match parts.fraction {
        Some(fraction) if !fraction.is_empty() => {
            out.push(b'.');
            out.extend_from_slice(fraction);
        }
        _ if parts.exponent.is_none() => out.extend_from_slice(b".0"),
        _ => {}
    }
    if let Some(exponent) = parts.exponent {
        out.push(b'e');
        out.extend_from_slice(exponent);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(make: fn(&[u8], &mut Vec<u8>) -> bool, text: &str) -> Option<String> {
        let mut out = Vec::new();
        let done = make(text.as_bytes(), &mut out);
        assert!(done || out.is_empty(), "{text}");
        done.then(|| String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn whole_numbers_have_64_bits() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("007", "7"),
            (" 12 ", "12"),
            ("+5", "5"),
            ("3.99", "3"),
            ("-3.99", "-3"),
            ("-0.5", "0"),
            (".5", "0"),
            ("5.", "5"),
            ("1e3", "1000"),
            ("1.5E+1", "15"),
            ("true", "1"),
            ("false", "0"),
            ("9223372036854775808", "9223372036854775808"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("9007199254740993.5", "9007199254740993"),
            ("1e-400", "0"),
            ("99999999999999999999e-5", "999999999999999"),
            ("9007199254740993e0", "9007199254740993"),
            ("1.8446744073709551615e19", "18446744073709551615"),
            ("-9223372036854775808.9E0", "-9223372036854775808"),
            ("123456789012345678901234567890e-25", "12345"),
            ("0.000000000000000000012e+21", "12"),
            ("0e99999999999999999999", "0"),
            ("7e-99999999999999999999", "0"),
        ] {
            assert_eq!(made(int, text).as_deref(), Some(expected), "{text}");
        }
        for none in [
            "",
            " ",
            "-",
            "+",
            ".",
            "e5",
            "1e",
            "1e+",
            "0x1f",
            "1_000",
            "1,000",
            "12a",
            "1 2",
            "--1",
            "inf",
            "nan",
            "True",
            "18446744073709551616",
            "-9223372036854775809",
            "1e20",
            "1e99999999999999999999",
            "18446744073709551616e0",
            "1.8446744073709551616e19",
            "1e400",
            "-1e19",
        ] {
            assert_eq!(made(int, none), None, "{none}");
        }
    }

    #[test]
    fn floats_keep_their_digits() {
        for (text, expected) in [
            ("5", "5.0"),
            ("-5", "-5.0"),
            ("0", "0.0"),
            ("00.50", "0.50"),
            (" 12.50 ", "12.50"),
            ("+1.5", "1.5"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("5.e3", "5e3"),
            ("1E-3", "1e-3"),
            ("12345678901234567890123", "12345678901234567890123.0"),
            ("0.1234567890123456789", "0.1234567890123456789"),
            ("true", "1.0"),
            ("false", "0.0"),
            ("1e308", "1e308"),
        ] {
            assert_eq!(made(float, text).as_deref(), Some(expected), "{text}");
        }
        for none in ["", "1e400", "-1e400", "inf", "-infinity", "NaN", "1.2.3", "0x1p3", "e", ".", "1e5.5"] {
            assert_eq!(made(float, none), None, "{none}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_agree_with_the_reference(value in any::<i128>().prop_map(|value| value >> 60)) {
            let expected = i64::try_from(value).map(|value| value.to_string()).ok()
                .or_else(|| u64::try_from(value).map(|value| value.to_string()).ok());
            prop_assert_eq!(made(int, &value.to_string()), expected.clone());
            if value != 0 {
                prop_assert_eq!(made(int, &format!("{value}.75")), expected);
            }
        }

        #[test]
        fn an_exponent_moves_the_point_and_rounds_nothing(value in any::<u64>(), places in 0usize..30, shift in 0usize..30) {
            // The same number with its point moved to the left, and the exponent that moves it back, or beyond.
            let text = format!("{value:0>width$}", width = places + 1);
            let (whole, fraction) = text.split_at(text.len() - places);
            prop_assert_eq!(made(int, &format!("{whole}.{fraction}e{places}")), Some(value.to_string()));
            let zeroes = "0".repeat(shift);
            prop_assert_eq!(made(int, &format!("{value}{zeroes}e-{shift}")), Some(value.to_string()));
            let kept = value.to_string();
            let kept = kept.get(..kept.len().saturating_sub(shift)).filter(|kept| !kept.is_empty()).unwrap_or("0");
            prop_assert_eq!(made(int, &format!("{value}e-{shift}")), Some(kept.to_owned()));
        }

        #[test]
        fn floats_agree_with_the_reference(text in "[+-]?[0-9]{0,4}[.]?[0-9]{0,4}([eE][+-]?[0-9]{0,3})?|\\PC{0,8}") {
            let expected = text.trim_ascii().parse::<f64>().ok().filter(|value| value.is_finite());
            match made(float, &text) {
                Some(made) => {
                    prop_assert_eq!(made.parse().ok(), expected);
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&made).is_ok());
                    prop_assert!(made.contains(['.', 'e']));
                }
                None => prop_assert_eq!(expected.filter(|_| !matches!(text.as_str(), "true" | "false")), None),
            }
        }
    }
}
