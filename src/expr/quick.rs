//! Fast path for the most common comparisons, a field with a constant, directly on the bytes of the field.
//!
//! Guarantees: returns the same result as the evaluator, or none, and then the evaluator decides. Makes no values.

use super::ast::Comparison;
use super::eval::FieldValue;
use super::value::{Text, Value};
use memchr::memchr;
use std::cmp::Ordering;

/// The largest number of digits of an integer that is handled here; longer ones may not fit.
const DIGITS_MAX: usize = 18;

/// The result of `field comparison constant`, if it can be decided on the bytes.
#[inline]
pub(super) fn compare(comparison: Comparison, field: FieldValue<'_>, constant: &Value<'_>) -> Option<bool> {
    let FieldValue::Json(json) = field else { return None };
    match constant {
        Value::Int(constant) => Some(holds(comparison, integer(json)?.cmp(constant))),
        Value::String(Text::Plain(constant)) => match (comparison, json) {
            (Comparison::Equal | Comparison::NotEqual, [b'"', body @ .., b'"']) if memchr(b'\\', body).is_none() => {
                Some((body == *constant) == (comparison == Comparison::Equal))
            }
            _ => None,
        },
        _ => None,
    }
}

/// A plain integer of few digits.
fn integer(json: &[u8]) -> Option<i64> {
    let digits = json.strip_prefix(b"-").unwrap_or(json);
    if digits.is_empty() || digits.len() > DIGITS_MAX {
        return None;
    }
    let mut value = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + i64::from(digit);
    }
    Some(if digits.len() == json.len() { value } else { -value })
}

fn holds(comparison: Comparison, order: Ordering) -> bool {
    match comparison {
        Comparison::Equal => order.is_eq(),
        Comparison::NotEqual => order.is_ne(),
        Comparison::Less => order.is_lt(),
        Comparison::LessOrEqual => order.is_le(),
        Comparison::Greater => order.is_gt(),
        Comparison::GreaterOrEqual => order.is_ge(),
    }
}

#[cfg(test)]
mod tests {
    use crate::expr::{FieldValue, Fields, PathIndex, Program};

    struct One<'a>(FieldValue<'a>);

    impl Fields for One<'_> {
        fn get(&self, _: PathIndex) -> Option<FieldValue<'_>> {
            Some(self.0)
        }
    }

    #[test]
    fn short_way_and_long_way_agree() {
        let values = [
            "0",
            "-0",
            "7",
            "-7",
            "500",
            "5e2",
            "500.0",
            "999999999999999999",
            "1000000000000000000",
            "-1e400",
            "true",
            "null",
            r#""""#,
            r#""a""#,
            r#""ab""#,
            r#""\u0061""#,
            r#""a\"""#,
            r#""é""#,
            "[1]",
            r#"{"a":1}"#,
            "18446744073709551615",
        ];
        let constants = ["0", "-7", "500", "999999999999999999", "''", "'a'", "'a\"'", "'é'", "500.0", "null", "true"];
        let mut held = 0;
        for operator in ["==", "!=", "<", "<=", ">", ">="] {
            for constant in constants {
                let short = Program::compile(&format!("x {operator} {constant}"));
                let long = Program::compile(&format!("(has(x) ? x : x) {operator} {constant}"));
                let (Ok(short), Ok(long)) = (short, long) else { continue };
                for value in
                    values.iter().flat_map(|value| [FieldValue::Json(value.as_bytes()), FieldValue::Text(b"a")])
                {
                    let told = short.test(&One(value), &mut short.scratch()).map_err(|error| error.reason());
                    let expected = long.test(&One(value), &mut long.scratch()).map_err(|error| error.reason());
                    assert_eq!(told, expected, "{value:?} {operator} {constant}");
                    held += u32::from(told == Ok(true));
                }
            }
        }
        assert!(held > 100, "only {held} comparisons held");
    }
}
