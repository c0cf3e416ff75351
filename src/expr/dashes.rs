//! Finds names with dashes, which are subtractions: `user-id == 5` subtracts `id` from `user`.
//!
//! Guarantees: reports only a dash without spaces around it and with plain names on both sides. The expression stays valid; the
//! caller decides what to do with a finding.

use super::ast::{Arithmetic, Binary, Expr, Kind};

/// A subtraction that looks like the name of a field: its source, and how to write that field.
pub(super) fn dashed_name(expr: &Expr, source: &str) -> Option<(String, String)> {
    if let Kind::Binary(Binary::Arithmetic(Arithmetic::Subtract), ..) = expr.kind
        && let Some(steps) = steps(expr, source)
        // Parentheses and backquotes say that it is meant.
        && let Some(written) = source.get(expr.span.clone()).filter(|written| **written == steps.join("."))
    {
        let quoted = steps.iter().map(|step| if step.contains('-') { format!("`{step}`") } else { step.clone() });
        return Some((written.to_owned(), quoted.collect::<Vec<_>>().join(".")));
    }
    None
}

/// The segments of the path that the names, dots and dashes look like.
fn steps(expr: &Expr, source: &str) -> Option<Vec<String>> {
    match &expr.kind {
        Kind::Name(name) => Some(vec![name.clone()]),
        Kind::Select(inner, name) => {
            let mut all = steps(inner, source)?;
            all.push(name.clone());
            Some(all)
        }
        Kind::Binary(Binary::Arithmetic(Arithmetic::Subtract), left, right) => {
            if source.get(left.span.end..right.span.start)? != "-" {
                return None;
            }
            let (mut all, right) = (steps(left, source)?, steps(right, source)?);
            let (first, rest) = right.split_first()?;
            *all.last_mut()? += &format!("-{first}");
            all.extend_from_slice(rest);
            Some(all)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::expr::Program;

    #[test]
    fn names_with_dashes_are_found_and_subtractions_are_not() {
        for (source, name) in [
            ("user-id == 5", "`user-id`"),
            ("x-request-id != \"a\"", "`x-request-id`"),
            ("status > 1 && !(http.user-id == 5)", "http.`user-id`"),
            ("http-info.user.id == 5", "`http-info`.user.id"),
            ("5 in [a-b]", "`a-b`"),
            ("size(string(a-b)) > 1", "`a-b`"),
        ] {
            let program = Program::compile(source).expect(source);
            let doubt = program.doubts().first().unwrap_or_else(|| panic!("{source}"));
            assert_eq!(source[doubt.span.clone()], name.replace('`', ""), "{source}");
            assert!(doubt.help.contains(&format!("in backquotes, {name}, ")), "{source}: {doubt:?}");
        }
        for source in [
            "a - b > 5",
            "a -b > 5",
            "a-1 > 5",
            "end-int(start) > 5",
            "`a-b` == 5",
            "(a)-(b) > 5",
            "\"a-b\" == c",
            "a.b > -c",
        ] {
            assert_eq!(Program::compile(source).expect(source).doubts(), [], "{source}");
        }
    }
}
