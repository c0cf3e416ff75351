//! Finds valid expressions that are probably mistakes: `level == debug` compares with the field `debug`, `status > "500"`
//! compares strings.
//!
//! Guarantees: only words that are unlikely names of fields are reported. The caller decides what to do with a finding.

use super::ast::{Binary, Comparison, Expr, Kind};
use super::value::Value;

/// Values that people often write without quotes.
const WORDS: [&str; 28] = [
    "trace",
    "debug",
    "info",
    "notice",
    "warn",
    "warning",
    "error",
    "err",
    "fatal",
    "critical",
    "crit",
    "alert",
    "emerg",
    "panic",
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "PATCH",
    "OPTIONS",
    "prod",
    "production",
    "staging",
    "dev",
    "yes",
    "no",
    "none",
];

/// A probable mistake, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The problem.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

/// The first one.
pub(super) fn first_doubt(expr: &Expr) -> Option<Doubt> {
    of(expr).or_else(|| children(expr).into_iter().find_map(first_doubt))
}

fn of(expr: &Expr) -> Option<Doubt> {
    let Kind::Binary(Binary::Compare(comparison), left, right) = &expr.kind else { return None };
    let sides = [(&left.kind, &right.kind), (&right.kind, &left.kind)];
    let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    sides.into_iter().find_map(|(one, other)| match (one, other) {
        (Kind::Name(word), Kind::Name(_) | Kind::Select(..) | Kind::Index(..))
            if is_equality && WORDS.contains(&word.as_str()) =>
        {
            Some(Doubt {
                what: format!("`{word}` is the name of a field here"),
                help: format!("for a string, write quotes: \"{word}\"; if you mean a field with this name, write backquotes: `{word}`"),
            })
        }
        (Kind::Literal(Value::String(text)), Kind::Name(_) | Kind::Select(..) | Kind::Index(..)) if !is_equality => {
            let mut buffer = Vec::new();
            let text = str::from_utf8(text.read(&mut buffer)).unwrap_or_default();
            let is_number = text.parse::<f64>().is_ok_and(f64::is_finite);
            is_number.then(|| Doubt {
                what: format!("\"{text}\" is a string: it is compared letter by letter, not as a number"),
                help: format!(
                    "for a number, write no quotes: {text}; to convert a string field to a number, write double(field)"
                ),
            })
        }
        _ => None,
    })
}

fn children(expr: &Expr) -> Vec<&Expr> {
    match &expr.kind {
        Kind::Literal(_) | Kind::Name(_) => Vec::new(),
        Kind::Select(inner, _) | Kind::Not(inner) | Kind::Negate(inner) => vec![inner],
        Kind::Index(one, other) | Kind::Binary(_, one, other) => vec![one, other],
        Kind::And(all) | Kind::Or(all) | Kind::List(all) => all.iter().collect(),
        Kind::Choose(all) => all.iter().collect(),
        Kind::Map(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        Kind::Call(call) => call.receiver.as_deref().into_iter().chain(&call.arguments).collect(),
    }
}

#[cfg(test)]
mod tests {
    use crate::expr::Program;

    #[test]
    fn what_is_hardly_meant_is_told() {
        for (source, what) in [
            ("level == debug", Some("`debug` is the name of a field")),
            ("GET != http.method", Some("`GET` is the name of a field")),
            ("a && !(log.level == error)", Some("`error`")),
            ("status >= \"500\"", Some("letter by letter")),
            ("level == \"debug\"", None),
            ("level == other", None),
            ("debug == 1", None),
            ("has(error) && error != \"\"", None),
            ("status == \"500\"", None),
            ("version >= \"v1\"", None),
        ] {
            let program = Program::compile(source).expect(source);
            let told = program.doubt().map(|doubt| doubt.what.clone());
            assert_eq!(told.is_some(), what.is_some(), "{source}: {told:?}");
            assert!(told.unwrap_or_default().contains(what.unwrap_or_default()), "{source}");
        }
    }
}
