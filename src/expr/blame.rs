//! Says why an expression has no value for an event: which field, what it holds, and what does not accept it.
//!
//! Guarantees: shows only values of the event, shortened; of a constant, which a variable may hold, only the type. Cold: it
//! evaluates the expression again, for a single event that is shown to people, each part of it at most twice as often as parts are above
//! it. An expression that ended because of its work is not evaluated again: each part could take as much work as the whole.

use super::check::Type;
use super::error::EvalError;
use super::eval::{FieldValue, Fields, Machine, Scratch};
use super::node::Node;
use super::value::Value;
use super::work::Work;
use super::{PathIndex, Program};

/// The number of bytes of a value that is shown.
const VALUE_BYTES_MAX: usize = 60;

/// Why `program` has no value, or none that is true or false.
pub(super) fn explain<F: Fields + ?Sized>(program: &Program, error: EvalError, fields: &F) -> String {
    if error == EvalError::TooMuchWork {
        return program.explain(error);
    }
    let mut scratch = Scratch::default();
    scratch.fit(&program.patterns);
    let machine = Machine::new(&program.patterns, fields, &mut scratch);
    Search { program, machine }.find(&program.root, true).unwrap_or_else(|| program.explain(error))
}

struct Search<'a, 's, F: ?Sized> {
    program: &'a Program,
    machine: Machine<'a, 's, F>,
}

impl<'a, F: Fields + ?Sized> Search<'a, '_, F> {
    /// The value of a part, with as much work as if it were the whole expression.
    fn value(&mut self, node: &'a Node) -> Result<Value<'a>, EvalError> {
        self.machine.work = Work::new();
        self.machine.value(node, None)
    }

    /// What is wrong with the innermost part that has no value; `tested` if it has to be true or false.
    fn find(&mut self, node: &'a Node, tested: bool) -> Option<String> {
        let error = match self.value(node) {
            Ok(Value::Bool(_)) => return None,
            Ok(value) => return tested.then(|| format!("wrong type: {} is not a bool", self.described(node, &value))),
            Err(error) => error,
        };
        if let Node::Choose(branches) = node {
            let [condition, yes, no] = &**branches;
            let chosen = matches!(self.value(condition), Ok(Value::Bool(true)));
            return self.find(condition, true).or_else(|| self.find(if chosen { yes } else { no }, tested));
        }
        let tests = matches!(node, Node::And(_) | Node::Or(_) | Node::Not(_));
        let operands = operands(node);
        let inner = operands.iter().find_map(|operand| self.find(operand, tests));
        Some(inner.unwrap_or_else(|| self.own(node, &operands, error)))
    }

    fn own(&mut self, node: &Node, operands: &[&'a Node], error: EvalError) -> String {
        let mut described = Vec::new();
        for operand in operands {
            match self.value(operand) {
                Ok(value) => described.push(self.described(operand, &value)),
                Err(_) => return self.program.explain(error),
            }
        }
        let all = described.join(" and ");
        match (error, node) {
            (EvalError::NoSuchField(_) | EvalError::NotBool, _) => self.program.explain(error),
            (EvalError::NoSuchKey, Node::Origin(part)) => format!("the input does not know `origin().{}`", part.name()),
            (_, _) if described.is_empty() => self.program.explain(error),
            (EvalError::NoSuchKey, Node::Select(_, name)) => format!("{all} has no field `{name}`"),
            (EvalError::NoSuchKey, _) => format!("the map has no such key: {all}"),
            (EvalError::NoSuchOverload(operator), _) => {
                format!("wrong type: {} does not accept {all}", quoted(operator))
            }
            (EvalError::Conversion(to), _) => format!("{all} cannot be converted to {to}"),
            _ => format!("{error}: {all}"),
        }
    }

    /// A field with its value, or the type of anything else.
    fn described(&self, node: &Node, value: &Value<'_>) -> String {
        match node {
            Node::Field(index) => match self.program.paths.get(index.index()) {
                Some(path) => format!("`{path}` ({})", self.shown(*index, value)),
                None => with_article(Type::of(value)),
            },
            Node::Constant(_) => with_article(Type::of(value)),
            Node::Origin(part) => format!("`origin().{}`, {}", part.name(), with_article(Type::of(value))),
            _ => format!("{} that is computed", with_article(Type::of(value))),
        }
    }

    fn shown(&self, index: PathIndex, value: &Value<'_>) -> String {
        let kind = Type::of(value);
        let text = match self.machine.fields.get(index) {
            Some(FieldValue::Json(json)) => String::from_utf8_lossy(json).into_owned(),
            Some(FieldValue::Text(text)) => format!("\"{}\"", String::from_utf8_lossy(text).escape_debug()),
            None => String::new(),
        };
        match text.len() {
            _ if kind == Type::Null => "null".to_owned(),
            0..=VALUE_BYTES_MAX => format!("the {kind} {text}"),
            _ => format!("the {kind} {}...", &text[..text.floor_char_boundary(VALUE_BYTES_MAX)]),
        }
    }
}

/// An operator or function in backquotes; a description as it is.
fn quoted(operator: &str) -> String {
    if operator.contains(' ') { operator.to_owned() } else { format!("`{operator}`") }
}

fn with_article(kind: Type) -> String {
    match kind {
        Type::Null => "null".to_owned(),
        Type::Int => "an int".to_owned(),
        kind => format!("a {kind}"),
    }
}

/// The parts that are evaluated for a node, without those that see the variable of a macro.
fn operands(node: &Node) -> Vec<&Node> {
    match node {
        Node::Constant(_) | Node::Field(_) | Node::HasField(_) | Node::Variable(_) => Vec::new(),
        Node::Origin(_) | Node::HasOrigin(_) => Vec::new(),
        Node::Select(of, _) | Node::Has(of, _) | Node::Not(of) | Node::Negate(of) => vec![of],
        Node::InSet(of, _) | Node::Call(_, of) | Node::Matches(of, _) => vec![of],
        Node::And(all) | Node::Or(all) | Node::List(all) => all.iter().collect(),
        Node::Index(pair) | Node::Compare(_, pair) | Node::Compute(_, pair) => pair.iter().collect(),
        Node::In(pair) | Node::Test(_, pair) => pair.iter().collect(),
        Node::Choose(branches) => branches.iter().collect(),
        Node::Map(entries) => entries.iter().flat_map(|(key, value)| [key, value]).collect(),
        Node::Walk(walk) => vec![&walk.range],
    }
}

#[cfg(test)]
mod tests {
    use crate::codec::path::Path;
    use crate::expr::{FieldValue, Fields, PathIndex, Program, Scratch};

    struct Event<'a>(&'a [Path], &'a [(&'a str, &'a str)]);

    impl Fields for Event<'_> {
        fn get(&self, path: PathIndex) -> Option<FieldValue<'_>> {
            let name = self.0[path.index()].to_string();
            let found = self.1.iter().find(|(known, _)| *known == name);
            found.map(|(_, json)| FieldValue::Json(json.as_bytes()))
        }
    }

    #[test]
    fn a_failed_condition_names_the_field_its_value_and_what_does_not_accept_it() {
        let fields = [("took", "\"12ms\""), ("n", "0"), ("level", "\"info\""), ("tags", "[\"a\"]"), ("o", "{\"a\":1}")];
        for (source, why) in [
            ("took > duration(\"1s\")", "wrong type: `>` does not accept `took` (the string \"12ms\") and a duration"),
            ("int(took) > 5", "`took` (the string \"12ms\") cannot be converted to an int"),
            (
                "!(n == 1) && timestamp(level) > timestamp(took)",
                "`level` (the string \"info\") cannot be converted to a timestamp",
            ),
            ("level", "wrong type: `level` (the string \"info\") is not a bool"),
            ("n == 0 && level", "wrong type: `level` (the string \"info\") is not a bool"),
            ("level ? true : false", "wrong type: `level` (the string \"info\") is not a bool"),
            ("n.startsWith(\"a\")", "wrong type: `startsWith` does not accept `n` (the int 0) and a string"),
            ("n.matches(\"a\")", "wrong type: `matches` does not accept `n` (the int 0)"),
            ("5 / n > 1", "division by zero: an int and `n` (the int 0)"),
            ("size(n) > 1", "wrong type: `size` does not accept `n` (the int 0)"),
            ("level + n == level", "wrong type: `+` does not accept `level` (the string \"info\") and `n` (the int 0)"),
            ("\"x\" in level", "wrong type: `in` does not accept a string and `level` (the string \"info\")"),
            (
                "tags[level] == 1",
                "wrong type: an index does not accept `tags` (the list [\"a\"]) and `level` (the string \"info\")",
            ),
            ("n.exists(x, x == 1)", "wrong type: a macro does not accept `n` (the int 0)"),
            ("absent == 1 || level < 3", "the event has no field `absent`"),
            ("level < 3", "wrong type: `<` does not accept `level` (the string \"info\") and an int"),
        ] {
            let program = Program::compile(source).unwrap_or_else(|error| panic!("{source}: {error:?}"));
            let event = Event(program.paths(), &fields);
            let error = program.test(&event, &mut Scratch::default()).expect_err(source);
            assert!(
                program.explain_on(error, &event).starts_with(why),
                "{source}: {}",
                program.explain_on(error, &event)
            );
        }
        let long = format!("\"{}\"", "x".repeat(500));
        let program = Program::compile("level > 5").expect("valid");
        let fields = [("level", long.as_str())];
        let event = Event(program.paths(), &fields);
        let error = program.test(&event, &mut Scratch::default()).expect_err("a string");
        assert!(program.explain_on(error, &event).len() < 200);
    }
}
