//! Variables in scalars: `${NAME}`, `${NAME:-default}`, `${NAME:?message}`; `$${NAME}` becomes a literal `${NAME}`.
//!
//! Guarantees: substitution works on single scalars after the file is parsed, so no value can change the structure of the file. A
//! value is not searched for variables again. Languages inside scalars (conditions, templates) receive the position of each
//! value. A `$` without a brace is an ordinary character: patterns and prices need it.

use crate::codec::marked;
use std::fmt;
use std::ops::Range;

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

/// A reference that cannot be replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongReference {
    /// What is wrong with it.
    pub error: VariableError,
    /// Where it is in the text.
    pub place: Range<usize>,
}

/// The most bytes of text in one file, including those that aliases repeat and variables insert.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

/// Defaults inside defaults that are followed.
const DEPTH_MAX: usize = 8;

/// The text with its variables replaced, or none if it has none; every reference that cannot be replaced otherwise.
pub fn substitute(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Substituted>, Vec<WrongReference>> {
    if !text.contains("${") {
        return Ok(None);
    }
    let mut expansion = Expansion {
        text,
        lookup,
        out: String::with_capacity(text.len()),
        variables: false,
        values: Vec::new(),
        wrong: Vec::new(),
    };
    expansion.expand(0..text.len(), 0);
    let Expansion { out: marked, variables, values, wrong, .. } = expansion;
    match wrong.is_empty() {
        true => Ok(Some(Substituted { text: marked::plain(&marked).into_owned(), marked, variables, values })),
        false => Err(wrong),
    }
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
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${{{}}}", self.name)
    }
}

struct Expansion<'a> {
    text: &'a str,
    lookup: &'a dyn Fn(&str) -> Option<String>,
    /// What the text becomes, with the values of variables marked.
    out: String,
    variables: bool,
    values: Vec<Variable>,
    wrong: Vec<WrongReference>,
}

impl Expansion<'_> {
    /// Replaces the references of a part of the text, and goes on behind those that are wrong.
    fn expand(&mut self, part: Range<usize>, depth: usize) {
        let text = &self.text[..part.end];
        let mut from = part.start;
        while let Some(at) = text[from..].find("${").map(|at| from + at) {
            if text[from..at].ends_with('$') {
                self.out.push_str(&text[from..at - 1]);
                self.out.push_str("${");
                from = at + 2;
                continue;
            }
            self.out.push_str(&text[from..at]);
            let Some(end) = closing(&text[at + 2..]).map(|end| at + 2 + end) else {
                // Behind an open brace nothing is certain.
                return self.refuse(VariableError::Malformed(clip(&text[at..])), at..text.len());
            };
            self.reference(at..end + 1, depth);
            from = end + 1;
        }
        self.out.push_str(&text[from..]);
    }

    fn reference(&mut self, place: Range<usize>, depth: usize) {
        let text = self.text;
        let body = &text[place.start + 2..place.end - 1];
        let malformed = VariableError::Malformed(clip(&text[place.clone()]));
        let name_end = body.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(body.len());
        let (name, form) = body.split_at(name_end);
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || depth >= DEPTH_MAX {
            return self.refuse(malformed, place);
        }
        self.variables = true;
        match (form.get(..2), (self.lookup)(name)) {
            (None, Some(value)) if form.is_empty() => self.put(name, value),
            (None, None) if form.is_empty() => self.refuse(VariableError::Unset(name.to_owned()), place),
            (Some(":-" | ":?"), Some(value)) if !value.is_empty() => self.put(name, value),
            (Some(":-"), _) => self.expand(place.start + 2 + name_end + 2..place.end - 1, depth + 1),
            (Some(":?"), _) => {
                let message = form[2..].trim().to_owned();
                self.refuse(VariableError::Required { name: name.to_owned(), message }, place);
            }
            _ => self.refuse(malformed, place),
        }
    }

    fn put(&mut self, name: &str, value: String) {
        // The text is refused anyway.
        if self.out.len() > TEXT_BYTES_MAX {
            return;
        }
        marked::push(&format!("${{{name}}}"), &value, &mut self.out);
        self.values.push(Variable { name: name.to_owned(), value });
    }

    fn refuse(&mut self, error: VariableError, place: Range<usize>) {
        self.wrong.push(WrongReference { error, place });
    }
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
        let done = substitute(text, &lookup).map_err(|mut wrong| wrong.remove(0).error)?;
        Ok(done.map_or_else(|| text.to_owned(), |done| done.text))
    }

    /// The whole text is refused later, but until then it must fit into memory.
    #[test]
    fn what_variables_insert_is_bounded_while_it_is_inserted() {
        let long = "x".repeat(100_000);
        let done = substitute(&"${LONG}".repeat(1_000), &|_| Some(long.clone())).expect("valid").expect("replaced");
        assert!(done.text.len() > TEXT_BYTES_MAX, "enough to be refused");
        assert!(done.text.len() <= TEXT_BYTES_MAX + long.len() && done.values.len() < 100, "{}", done.text.len());
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
    fn every_wrong_reference_of_a_text_is_named_with_its_place() {
        let text = "${A}/${HOME}/${B:?set it}/${C:-${D}}/${E F}";
        let wrong = substitute(text, &|name| (name == "HOME").then(|| "/root".to_owned())).expect_err("refused");
        let places: Vec<&str> = wrong.iter().map(|wrong| &text[wrong.place.clone()]).collect();
        assert_eq!(places, ["${A}", "${B:?set it}", "${D}", "${E F}"]);
        assert!(matches!(&wrong[2].error, VariableError::Unset(name) if name == "D"), "{wrong:?}");
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
