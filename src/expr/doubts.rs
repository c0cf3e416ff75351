//! Finds valid expressions that are probably mistakes: `level == debug` compares with the field `debug`, `status > "500"`
//! compares strings, `level` alone is not a comparison.
//!
//! Guarantees: all of one expression are reported, each with its place. Of bare words, only unlikely names of fields are, and
//! none in backquotes. The caller decides what to do with a finding.

use super::ast::{Binary, Call, Comparison, Expr, Kind};
use super::dashes::dashed_name;
use super::origin::{FUNCTION, Origin};
use super::value::Value;
use crate::codec::marked;
use std::ops::Range;

/// Values that people often write without quotes, in any case.
const WORDS: [&str; 26] = [
    "trace",
    "debug",
    "verbose",
    "info",
    "notice",
    "warn",
    "warning",
    "error",
    "err",
    "severe",
    "fatal",
    "critical",
    "crit",
    "alert",
    "emerg",
    "emergency",
    "panic",
    "prod",
    "production",
    "staging",
    "dev",
    "development",
    "yes",
    "no",
    "on",
    "off",
];

/// The same, of which only this case is an unlikely name of a field.
const METHODS: [&str; 9] = ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"];

/// What other languages call the literals, in any case, and what they are called here.
const LITERALS: [(&str, &str); 6] =
    [("true", "true"), ("false", "false"), ("null", "null"), ("none", "null"), ("nil", "null"), ("undefined", "null")];

/// Functions that search in their receiver for their argument.
const SEARCHES: [&str; 4] = ["contains", "startsWith", "endsWith", "matches"];

/// Calls whose first argument is a variable of their own.
const WALKS: [&str; 6] = ["all", "exists", "exists_one", "existsOne", "filter", "map"];

/// A probable mistake, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// The bytes of the source that it is about.
    pub span: Range<usize>,
    /// The problem.
    pub what: String,
    /// What to write instead.
    pub help: String,
}

/// All of a condition, in the order of the source. What the value of a variable is a part of is left out, because the message
/// would show it.
pub(super) fn doubts(expr: &Expr, source: &str) -> Vec<Doubt> {
    let mut search = Search { source, bound: Vec::new(), found: Vec::new() };
    search.visit(expr, true);
    search.found.retain(|doubt| source.get(doubt.span.clone()).is_some_and(|written| !marked::has_values(written)));
    search.found.sort_by_key(|doubt| doubt.span.start);
    search.found
}

struct Search<'a> {
    source: &'a str,
    /// The variables of the walks around.
    bound: Vec<&'a str>,
    found: Vec<Doubt>,
}

impl<'a> Search<'a> {
    /// `tested`: the value has to be true or false.
    fn visit(&mut self, expr: &'a Expr, tested: bool) {
        if let Some((written, field)) = dashed_name(expr, self.source) {
            let help = format!(
                "to name the field, write it in backquotes, {field}, and put the condition in quotes; to subtract, put spaces \
                 around the dash"
            );
            return self.add(expr, format!("`{written}` is a subtraction"), help);
        }
        if let Some(part) = self.claimed_origin(expr) {
            let help = format!(
                "did you mean {FUNCTION}().{part}, which no event can set? If you mean the field, write backquotes: `{FUNCTION}`.{part}"
            );
            return self.add(
                expr,
                format!("`{}` is a field that whoever writes the event can set", self.written(expr)),
                help,
            );
        }
        match &expr.kind {
            Kind::Literal(_) => {}
            Kind::Name(_) => self.field_alone(expr, tested),
            Kind::Select(inner, _) => {
                self.field_alone(expr, tested);
                self.visit(inner, false);
            }
            Kind::Index(one, other) => {
                if !self.bracketed(expr) {
                    self.field_alone(expr, tested);
                    self.visit(one, false);
                    self.visit(other, false);
                }
            }
            Kind::Not(inner) => self.visit(inner, true),
            Kind::Negate(inner) => self.visit(inner, false),
            Kind::Binary(Binary::Compare(comparison), left, right) => self.compared(*comparison, left, right),
            Kind::Binary(Binary::In, left, right) => self.among(left, right),
            Kind::Binary(_, one, other) => [one, other].into_iter().for_each(|side| self.visit(side, false)),
            Kind::And(all) | Kind::Or(all) => all.iter().for_each(|one| self.visit(one, true)),
            Kind::List(all) => all.iter().for_each(|one| self.visit(one, false)),
            Kind::Choose(all) => {
                let [condition, yes, no] = &**all;
                self.visit(condition, true);
                self.visit(yes, tested);
                self.visit(no, tested);
            }
            Kind::Map(pairs) => pairs.iter().for_each(|(key, value)| {
                self.visit(key, false);
                self.visit(value, false);
            }),
            Kind::Call(call) => self.call(call),
        }
    }

    fn add(&mut self, expr: &Expr, what: String, help: String) {
        self.found.push(Doubt { span: expr.span.clone(), what, help });
    }

    fn written(&self, expr: &Expr) -> &'a str {
        self.source.get(expr.span.clone()).unwrap_or_default()
    }

    /// A name that is neither in backquotes nor the variable of a walk.
    fn bare(&self, expr: &'a Expr) -> Option<&'a str> {
        match &expr.kind {
            Kind::Name(name) if self.written(expr) == name && !self.bound.contains(&name.as_str()) => Some(name),
            _ => None,
        }
    }

    /// The part of the origin that is probably meant by `origin.file`.
    fn claimed_origin(&self, expr: &'a Expr) -> Option<&'static str> {
        let (of, part) = match &expr.kind {
            Kind::Select(of, name) => (of, name.clone()),
            Kind::Index(of, index) => match &index.kind {
                Kind::Literal(Value::String(text)) => (of, String::from_utf8(text.decoded().into_owned()).ok()?),
                _ => return None,
            },
            _ => return None,
        };
        self.bare(of).filter(|name| *name == FUNCTION)?;
        Origin::named(&part).ok().map(Origin::name)
    }

    /// A path of an event.
    fn is_field(&self, expr: &Expr) -> bool {
        match &expr.kind {
            Kind::Name(name) => !self.bound.contains(&name.as_str()),
            Kind::Select(inner, _) => self.is_field(inner),
            Kind::Index(inner, index) => matches!(index.kind, Kind::Literal(_)) && self.is_field(inner),
            _ => false,
        }
    }

    fn field_alone(&mut self, expr: &'a Expr, tested: bool) {
        if tested && self.is_field(expr) {
            let field = self.written(expr);
            let help = format!(
                "to compare it, write {field} == \"text\"; to know whether the event has it, write has({field}); if it is a boolean, \
                 write {field} == true"
            );
            self.add(expr, format!("`{field}` alone is true only if the field is the boolean `true`"), help);
        }
    }

    /// `[level]` and `[http][status]`, as Logstash writes fields.
    fn bracketed(&mut self, expr: &'a Expr) -> bool {
        let mut names = Vec::new();
        let is_bracketed = self.steps(expr, &mut names);
        if is_bracketed {
            let (field, written) = (names.join("."), self.written(expr));
            let help = format!("write the field without brackets: {field}");
            self.add(expr, format!("`{written}` is a list, not a field"), help);
        }
        is_bracketed
    }

    fn steps(&self, expr: &'a Expr, names: &mut Vec<&'a str>) -> bool {
        let name = match &expr.kind {
            Kind::List(all) => match &all[..] {
                [only] => self.bare(only),
                _ => None,
            },
            Kind::Index(of, index) if self.steps(of, names) => self.bare(index),
            _ => None,
        };
        names.extend(name);
        name.is_some()
    }

    /// Reports a bare word that is probably a value.
    fn word(&mut self, expr: &'a Expr) -> bool {
        let Some(word) = self.bare(expr) else { return false };
        let is_same = |known: &&str| word.eq_ignore_ascii_case(known);
        let literal = LITERALS.iter().find(|(foreign, _)| is_same(foreign)).map(|(_, here)| *here);
        let is_value = WORDS.iter().any(is_same) || METHODS.contains(&word);
        if literal.is_some() || is_value {
            self.name_for_value(expr, word, literal);
        }
        literal.is_some() || is_value
    }

    fn name_for_value(&mut self, expr: &Expr, word: &str, literal: Option<&str>) {
        let literal = literal.map_or(String::new(), |here| format!("for the value {here}, write {here}; "));
        let help = format!(
            "{literal}for a string, write quotes: \"{word}\"; if you mean a field with this name, write backquotes: `{word}`"
        );
        self.add(expr, format!("`{word}` is the name of a field here"), help);
    }

    fn compared(&mut self, comparison: Comparison, left: &'a Expr, right: &'a Expr) {
        let is_equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
        for (one, other) in [(right, left), (left, right)] {
            match &one.kind {
                // A word that is compared with a literal is a field.
                Kind::Name(_) if !matches!(other.kind, Kind::Literal(_)) && self.word(one) => {
                    return self.visit(other, false);
                }
                Kind::List(_) if !matches!(other.kind, Kind::List(_)) && self.bracketed(one) => {
                    return self.visit(other, false);
                }
                Kind::Literal(Value::String(text)) if !is_equality && self.is_field(other) => {
                    let mut buffer = Vec::new();
                    let text = str::from_utf8(text.read(&mut buffer)).unwrap_or_default();
                    if text.parse::<f64>().is_ok_and(f64::is_finite) {
                        let what = format!("\"{text}\" is a string: it is compared letter by letter, not as a number");
                        let help = format!(
                            "for a number, write no quotes: {text}; to convert a string field to a number, write double(field)"
                        );
                        self.add(one, what, help);
                    }
                }
                _ => {}
            }
        }
        self.visit(left, false);
        self.visit(right, false);
    }

    fn among(&mut self, left: &'a Expr, right: &'a Expr) {
        match &right.kind {
            Kind::List(_) if matches!(left.kind, Kind::Literal(_)) && self.bracketed(right) => {}
            Kind::List(all) => {
                // In a list that is searched for a literal, a word may be a field.
                let searched = !matches!(left.kind, Kind::Literal(_));
                all.iter().for_each(|one| {
                    if !(searched && self.word(one)) {
                        self.visit(one, false);
                    }
                });
            }
            _ => self.visit(right, false),
        }
        if !(matches!(left.kind, Kind::List(_)) && self.bracketed(left)) {
            self.visit(left, false);
        }
    }

    fn call(&mut self, call: &'a Call) {
        if let Some(receiver) = call.receiver.as_deref() {
            self.visit(receiver, false);
        }
        let is_method = call.receiver.is_some();
        let variable = call.arguments.first().filter(|_| is_method && WALKS.contains(&call.name.as_str()));
        let rest = match variable.map(|variable| &variable.kind) {
            Some(Kind::Name(name)) => {
                self.bound.push(name);
                &call.arguments[1..]
            }
            _ => &call.arguments[..],
        };
        for argument in rest {
            match self.bare(argument) {
                Some(word) if is_method && SEARCHES.contains(&call.name.as_str()) => {
                    self.name_for_value(argument, word, None);
                }
                _ => self.visit(argument, variable.is_some() && call.name != "map"),
            }
        }
        if rest.len() < call.arguments.len() {
            self.bound.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::expr::Program;

    #[test]
    fn what_is_hardly_meant_is_told() {
        for (source, whats) in [
            ("level == debug", &["`debug` is the name of a field"][..]),
            ("GET != http.method", &["`GET` is the name of a field"]),
            ("level == ERROR", &["`ERROR`"]),
            ("level >= warn", &["`warn`"]),
            ("user == None", &["`None`"]),
            ("ok == True", &["`True`"]),
            ("lower == string(level) || string(level) == error", &["`error`"]),
            ("level in [error, \"x\", Warn]", &["`error`", "`Warn`"]),
            ("message.contains(timeout)", &["`timeout` is the name of a field"]),
            ("a.b.startsWith(x) && level == info", &["`x`", "`info`"]),
            ("level", &["`level` alone is true only"]),
            ("!log.level || labels[\"a.b\"]", &["`log.level` alone", "`labels[\"a.b\"]` alone"]),
            ("tags.exists(t, level)", &["`level` alone"]),
            ("has(a) ? b : a == 1", &["`b` alone"]),
            ("[level] == 'x'", &["`[level]` is a list, not a field"]),
            ("[http][status] >= 500", &["`[http][status]` is a list"]),
            ("\"x\" in [tags]", &["`[tags]` is a list"]),
            ("user-id == error", &["`user-id` is a subtraction", "`error`"]),
            ("a && !(log.level == error)", &["`a` alone", "`error`"]),
            ("status >= \"500\"", &["letter by letter"]),
            ("origin.file == \"/a\"", &["`origin.file` is a field that whoever writes"]),
            ("origin[\"host\"] in [\"a\"] && origin.offset > 1", &["`origin[\"host\"]`", "`origin.offset`"]),
            ("has(origin.input) || origin.file.startsWith(\"/var\")", &["`origin.input`", "`origin.file`"]),
            ("origin().file == \"/a\" && origin.country == \"de\"", &[]),
            ("`origin`.file == \"/a\" && a.origin.file == \"/a\"", &[]),
            ("items.exists(origin, origin.file == \"/a\")", &[]),
            ("level == \"debug\"", &[]),
            ("level == other", &[]),
            ("level == `error`", &[]),
            ("level in [`error`, other]", &[]),
            ("\"error\" in [level, error]", &[]),
            ("message.contains(`timeout`)", &[]),
            ("tags.exists(error, error == level) && words.all(t, message.contains(t))", &[]),
            ("debug == 1", &[]),
            ("has(error) && error != \"\"", &[]),
            ("enabled == true && has(a.b)", &[]),
            ("status == \"500\"", &[]),
            ("version >= \"v1\"", &[]),
            ("[level] == [other]", &[]),
        ] {
            let program = Program::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
            let told: Vec<&str> = program.doubts().iter().map(|doubt| doubt.what.as_str()).collect();
            assert_eq!(told.len(), whats.len(), "{source}: {told:?}");
            for (doubt, what) in program.doubts().iter().zip(whats) {
                assert!(doubt.what.contains(what), "{source}: {told:?}");
                let place = &source[doubt.span.clone()];
                assert!(doubt.what.contains(place.trim_matches('"')), "{source}: {place}");
            }
        }
    }
}
