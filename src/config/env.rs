//! Variables in scalars: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`; `$${NAME}` becomes a literal `${NAME}`.
//!
//! Guarantees: substitution works on single scalars after the file is parsed, so no value can change the structure of the file. A
//! value is not searched for variables again. Languages inside scalars (conditions, templates) receive the position of each
//! value. A `$` without a brace is an ordinary character: patterns and prices need it.

use crate::codec::marked;

/// Why a reference is wrong. Contains names only, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableError {
    /// Has no default and is not set.
    Unset(String),
    /// Has a message of the file's author and is not set or empty.
    Required {
        /// The variable.
        name: String,
        /// What the author wrote.
        message: String,
    },
    /// Not a reference in one of the three forms.
    Malformed(String),
}

/// How many levels of defaults inside defaults are resolved.
const DEPTH_MAX: usize = 8;

/// The text with its variables replaced; `None` if there is nothing to replace.
pub fn substitute(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Option<Substituted>, VariableError> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut marked = String::with_capacity(text.len());
    let (mut variables, mut values) = (false, Vec::new());
    let mut keep = |variable: Option<Variable>| {
        variables = true;
        values.extend(variable);
    };
    expand(text, lookup, 0, &mut marked, &mut keep)?;
    Ok(Some(Substituted { text: marked::plain(&marked).into_owned(), marked, variables, values }))
}

/// A scalar after substitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Substituted {
    /// The text.
    pub text: String,
    /// The text with the values of variables marked.
    pub marked: String,
    /// Whether there was a variable. `false` if only `$${` was replaced.
    pub variables: bool,
    /// The variables whose values it contains.
    pub values: Vec<Variable>,
}

/// A variable and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

fn expand(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut String,
    keep: &mut dyn FnMut(Option<Variable>),
) -> Result<(), VariableError> {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push_str(&rest[..at - 1]);
            out.push_str("${");
            rest = &rest[at + 2..];
            continue;
        }
        out.push_str(&rest[..at]);
        let body_and_rest = &rest[at + 2..];
        let end = closing(body_and_rest).ok_or_else(|| VariableError::Malformed(clip(&rest[at..])))?;
        reference(&body_and_rest[..end], lookup, depth, out, keep)?;
        rest = &body_and_rest[end + 1..];
    }
    out.push_str(rest);
    Ok(())
}

/// Finds the brace that ends a reference, past references inside its default.
fn closing(body: &str) -> Option<usize> {
    let (mut depth, mut previous) = (0usize, b' ');
    for (at, byte) in body.bytes().enumerate() {
        match byte {
            b'{' if previous == b'$' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
        previous = byte;
    }
    None
}

fn reference(
    body: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    out: &mut String,
    keep: &mut dyn FnMut(Option<Variable>),
) -> Result<(), VariableError> {
    let malformed = || VariableError::Malformed(clip(&format!("${{{body}}}")));
    let name_end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
    let (name, form) = body.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || depth >= DEPTH_MAX {
        return Err(malformed());
    }
    let value = lookup(name);
    keep(None);
    match (form.get(..2), value) {
        (None, Some(value)) if form.is_empty() => put(name, value, out, keep),
        (None, None) if form.is_empty() => return Err(VariableError::Unset(name.to_owned())),
        (Some(":-" | ":?"), Some(value)) if !value.is_empty() => put(name, value, out, keep),
        (Some(":-"), _) => expand(&form[2..], lookup, depth + 1, out, keep)?,
        (Some(":?"), _) => {
            return Err(VariableError::Required { name: name.to_owned(), message: form[2..].trim().to_owned() });
        }
        _ => return Err(malformed()),
    }
    Ok(())
}

fn put(name: &str, value: String, out: &mut String, keep: &mut dyn FnMut(Option<Variable>)) {
    marked::push(&format!("${{{name}}}"), &value, out);
    keep(Some(Variable { name: name.to_owned(), value }));
}

fn clip(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sub(text: &str) -> Result<String, VariableError> {
        let lookup = |name: &str| match name {
            "HOME" => Some("/root".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${HOME}".to_owned()),
            _ => None,
        };
        substitute(text, &lookup).map(|done| done.map_or_else(|| text.to_owned(), |done| done.text))
    }

    #[test]
    fn the_three_forms_and_the_escape() {
        for (text, expected) in [
            ("plain", "plain"),
            ("${HOME}/logs", "/root/logs"),
            ("a${EMPTY}b", "ab"),
            ("${NOT:-x}", "x"),
            ("${EMPTY:-x}", "x"),
            ("${HOME:-x}", "/root"),
            ("${NOT:-}", ""),
            ("${NOT:-${HOME}/y}!", "/root/y!"),
            ("${HOME:?say it}", "/root"),
            ("$${HOME}", "${HOME}"),
            ("$$${HOME}", "$${HOME}"),
            ("cost: $5 ^x$", "cost: $5 ^x$"),
            ("${TRICK}", "${HOME}"),
        ] {
            assert_eq!(sub(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_named() {
        assert_eq!(sub("${NOT}"), Err(VariableError::Unset("NOT".into())));
        let required = VariableError::Required { name: "EMPTY".into(), message: "set it".into() };
        assert_eq!(sub("x${EMPTY:? set it}"), Err(required));
        for text in ["${", "${}", "${1A}", "${A B}", "${A-b}", "${HOME:}", "${HOME:+x}", "${é}"] {
            assert!(matches!(sub(text), Err(VariableError::Malformed(_))), "{text}: {:?}", sub(text));
        }
        assert!(matches!(sub(&"${A:-".repeat(9)), Err(VariableError::Malformed(_))));
        let nested = "${A:-".repeat(9) + "x" + &"}".repeat(9);
        assert!(matches!(sub(&nested), Err(VariableError::Malformed(_))));
    }
}
