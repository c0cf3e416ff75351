//! Compiles the syntax tree to the tree that runs: names become numbers, constants are computed, patterns are compiled.
//!
//! Guarantees: every path has one number, in the order of the source. An expression whose types exclude any value is rejected
//! with its place. Nothing is reordered: operands are evaluated in the order of the source.

use super::PathIndex;
use super::ast::{Binary, Call, Comparison, Expr, Kind};
use super::check::{Type, advice, computed, ordered};
use super::error::{EvalError, ExprError};
use super::eval::{Machine, NoFields, Scratch};
use super::functions::{FUNCTIONS, Function, Row, Style};
use super::macros;
use super::node::{Node, Set};
use super::origin::{self, Origin};
use super::value::{List, Value};
use crate::codec::path::{Path, Segment};
use crate::codec::pattern::compile as compile_pattern;
use crate::config::nearest::nearest;
use regex_automata::meta::Regex;
use std::collections::HashMap;
use std::ops::Range;

/// The largest number of patterns in an expression.
const PATTERNS_MAX: usize = 64;

/// A compiled subtree, and the type of its values.
pub(super) type Typed = (Node, Type);

#[derive(Default)]
pub(super) struct Compiler {
    pub paths: Vec<Path>,
    pub origins: Vec<Origin>,
    numbers: HashMap<Path, PathIndex>,
    pub patterns: Vec<Regex>,
    /// The variables of the enclosing macros with their types, the innermost last.
    pub variables: Vec<(String, Type)>,
}

impl Compiler {
    pub fn node(&mut self, expr: &Expr) -> Result<Typed, ExprError> {
        match &expr.kind {
            Kind::Literal(value) => Ok((Node::Constant(value.clone()), Type::of(value))),
            Kind::Name(_) | Kind::Select(..) | Kind::Index(..) => self.reference(expr),
            Kind::Not(inner) => {
                let (node, inner_type) = self.node(inner)?;
                refuse_unless(inner_type.may_be(&[Type::Bool]), expr, || format!("`!` does not accept {inner_type}"))?;
                Ok(fold(Node::Not(Box::new(node)), Type::Bool))
            }
            Kind::Negate(inner) => {
                let (node, inner_type) = self.node(inner)?;
                let fits = inner_type.may_be(&[Type::Int, Type::Double]);
                refuse_unless(fits, expr, || format!("`-` does not accept {inner_type}"))?;
                Ok(fold(Node::Negate(Box::new(node)), inner_type))
            }
            Kind::Binary(Binary::In, needle, range) => self.membership(needle, range),
            Kind::Binary(operator, left, right) => self.binary(*operator, left, right, &expr.span),
            Kind::And(operands) => Ok(fold(Node::And(self.conditions(operands, "&&")?), Type::Bool)),
            Kind::Or(operands) => Ok(fold(Node::Or(self.conditions(operands, "||")?), Type::Bool)),
            Kind::Choose(branches) => {
                let condition = self.condition(&branches[0], "the condition of `?`")?;
                let (yes, yes_type) = self.node(&branches[1])?;
                let (no, no_type) = self.node(&branches[2])?;
                Ok(fold(Node::Choose(Box::new([condition, yes, no])), yes_type.or(no_type)))
            }
            Kind::List(elements) => {
                let nodes = elements.iter().map(|element| Ok(self.node(element)?.0));
                Ok(fold(Node::List(nodes.collect::<Result<_, ExprError>>()?), Type::List))
            }
            Kind::Map(entries) => self.map(entries),
            Kind::Call(call) => self.call(call, expr),
        }
    }

    /// An operand that must be a condition.
    pub fn condition(&mut self, expr: &Expr, of: &str) -> Result<Node, ExprError> {
        let (node, found) = self.node(expr)?;
        refuse_unless(found.may_be(&[Type::Bool]), expr, || format!("{of} needs a condition, not {found}"))?;
        Ok(node)
    }

    fn conditions(&mut self, operands: &[Expr], symbol: &str) -> Result<Box<[Node]>, ExprError> {
        operands.iter().map(|operand| self.condition(operand, &format!("`{symbol}`"))).collect()
    }

    /// The path of a field, if the whole expression is one.
    pub fn path_of(&self, expr: &Expr) -> Option<Path> {
        match &expr.kind {
            Kind::Name(name) if self.variable(name).is_none() => Some(Path::field(name)),
            Kind::Select(of, name) => Some(self.path_of(of)?.then(Segment::Field(name.clone()))),
            Kind::Index(of, index) => {
                let segment = match &index.kind {
                    Kind::Literal(Value::String(text)) => {
                        Segment::Field(String::from_utf8(text.decoded().into_owned()).ok()?)
                    }
                    Kind::Literal(literal) => Segment::Index(usize::try_from(literal.integer()?).ok()?),
                    _ => return None,
                };
                Some(self.path_of(of)?.then(segment))
            }
            _ => None,
        }
    }

    pub fn number(&mut self, path: Path) -> PathIndex {
        if let Some(number) = self.numbers.get(&path) {
            return *number;
        }
        // A source has fewer bytes than there are numbers.
        let number = PathIndex(self.paths.len() as u32);
        self.numbers.insert(path.clone(), number);
        self.paths.push(path);
        number
    }

    /// Notes that a part of the origin is read.
    pub fn origin(&mut self, part: Origin) -> Origin {
        if !self.origins.contains(&part) {
            self.origins.push(part);
        }
        part
    }

    fn variable(&self, name: &str) -> Option<(usize, Type)> {
        self.variables.iter().rev().enumerate().find(|(_, (own, _))| own == name).map(|(out, (_, kind))| (out, *kind))
    }

    fn reference(&mut self, expr: &Expr) -> Result<Typed, ExprError> {
        if let Some(path) = self.path_of(expr) {
            return Ok((Node::Field(self.number(path)), Type::Any));
        }
        match &expr.kind {
            Kind::Select(of, name) if let Some(part) = origin::part(of, name, expr) => {
                let part = self.origin(part?);
                let found = if part == Origin::Offset { Type::Int } else { Type::String };
                Ok((Node::Origin(part), found))
            }
            Kind::Name(name) => {
                let (out, found) = self.variable(name).unwrap_or((0, Type::Any));
                Ok((Node::Variable(out), found))
            }
            Kind::Select(of, name) => {
                let (node, found) = self.node(of)?;
                refuse_unless(found.may_be(&[Type::Map]), expr, || format!("{found} has no fields"))?;
                Ok(fold(Node::Select(Box::new(node), name.as_str().into()), Type::Any))
            }
            Kind::Index(of, index) => {
                let (of_node, of_type) = self.node(of)?;
                let (index_node, index_type) = self.node(index)?;
                let fits = of_type.may_be(&[Type::Map, Type::List]);
                refuse_unless(fits, of, || format!("{of_type} has no elements"))?;
                let keys = [Type::Int, Type::Uint, Type::Double, Type::String, Type::Bool];
                let fits = index_type.may_be(&keys)
                    && (of_type != Type::List || !matches!(index_type, Type::String | Type::Bool));
                refuse_unless(fits, index, || format!("{index_type} cannot be an index of {of_type}"))?;
                Ok(fold(Node::Index(Box::new([of_node, index_node])), Type::Any))
            }
            _ => Err(ExprError::new(expr.span.clone(), "not a reference")),
        }
    }

    fn membership(&mut self, needle: &Expr, range: &Expr) -> Result<Typed, ExprError> {
        let (needle_node, _) = self.node(needle)?;
        let (range_node, found) = self.node(range)?;
        if !found.may_be(&[Type::List, Type::Map]) {
            let message = format!("the right side of `in` must be a list or a map, not {found}");
            let help = match found {
                Type::String => "to look for a part of a string, write `field.contains(\"part\")`",
                _ => "write a list: `level in [\"warn\", \"error\"]`",
            };
            return Err(ExprError::new(range.span.clone(), message).help(help));
        }
        if needle_node.constant().is_none()
            && let Some(Value::List(List::Built(values))) = range_node.constant()
        {
            return Ok((Node::InSet(Box::new(needle_node), Set::new(values)), Type::Bool));
        }
        Ok(fold(Node::In(Box::new([needle_node, range_node])), Type::Bool))
    }

    fn binary(&mut self, operator: Binary, left: &Expr, right: &Expr, span: &Range<usize>) -> Result<Typed, ExprError> {
        let (left, left_type) = self.node(left)?;
        let (right, right_type) = self.node(right)?;
        let wrong = |symbol: &str| {
            let message = format!("`{symbol}` does not accept {left_type} and {right_type}");
            Err(ExprError::new(span.clone(), message).help(advice(left_type, right_type)))
        };
        let operands = Box::new([left, right]);
        match operator {
            Binary::Compare(comparison) => {
                let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
                if !equality && !ordered(left_type, right_type) {
                    return wrong(comparison.symbol());
                }
                Ok(fold(Node::Compare(comparison, operands), Type::Bool))
            }
            Binary::Arithmetic(arithmetic) => match computed(arithmetic, left_type, right_type) {
                Some(result) => Ok(fold(Node::Compute(arithmetic, operands), result)),
                None => wrong(arithmetic.symbol()),
            },
            Binary::In => Ok(fold(Node::In(operands), Type::Bool)),
        }
    }

    fn map(&mut self, entries: &[(Expr, Expr)]) -> Result<Typed, ExprError> {
        let mut nodes: Vec<(Node, Node)> = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let (key_node, key_type) = self.node(key)?;
            let keys = [Type::Bool, Type::Int, Type::Uint, Type::String];
            refuse_unless(key_type.may_be(&keys), key, || format!("{key_type} cannot be the key of a map"))?;
            nodes.push((key_node, self.node(value)?.0));
        }
        let mut constants = Vec::with_capacity(nodes.len());
        for ((key, _), (written, _)) in nodes.iter().zip(entries) {
            let Some(key) = key.constant() else { continue };
            // Sorting would need an order over all types, and lists in a source are short.
            if constants.iter().any(|other: &&Value<'static>| other.equals(key) == Ok(true)) {
                return Err(ExprError::new(written.span.clone(), "a duplicate key in a map"));
            }
            constants.push(key);
        }
        Ok(fold(Node::Map(nodes.into()), Type::Map))
    }

    fn call(&mut self, call: &Call, expr: &Expr) -> Result<Typed, ExprError> {
        if let Some(result) = macros::compile(self, call, expr) {
            return result;
        }
        if call.name == origin::FUNCTION && call.receiver.is_none() {
            let what = "`origin()` is no value of its own and takes no arguments: it needs the name of a part";
            return Err(ExprError::new(expr.span.clone(), what).help(origin::help()));
        }
        let row = find_function(call)?;
        let operands: Vec<&Expr> = call.receiver.as_deref().into_iter().chain(&call.arguments).collect();
        if operands.len() != row.operands.len() {
            let wanted = row.operands.len() - usize::from(call.receiver.is_some());
            let message = format!("`{}` needs {wanted} argument(s), found {}", row.name, call.arguments.len());
            return Err(ExprError::new(expr.span.clone(), message).help(format!("for example `{}`", row.example)));
        }
        let mut nodes = Vec::with_capacity(operands.len());
        for (operand, types) in operands.iter().zip(row.operands) {
            let (node, found) = self.node(operand)?;
            if !found.may_be(types) {
                let wanted: Vec<String> = types.iter().map(Type::to_string).collect();
                let message = format!("`{}` accepts {}, not {found}", row.name, wanted.join(" or "));
                let help = format!("for example `{}`", row.example);
                return Err(ExprError::new(operand.span.clone(), message).help(help));
            }
            nodes.push(node);
        }
        let second = nodes.pop();
        let (node, result) = match (row.function, nodes.pop(), second) {
            (Function::Matches, Some(text), Some(pattern)) => (self.matches(text, &pattern, operands[1])?, row.result),
            (function, Some(first), Some(second)) => fold(Node::Test(function, Box::new([first, second])), row.result),
            (function, _, Some(only)) => fold(Node::Call(function, Box::new(only)), row.result),
            _ => return Err(ExprError::new(expr.span.clone(), format!("`{}` needs a value", row.name))),
        };
        // A timestamp or duration of a constant is effectively a literal, so an invalid one is a mistake in the source.
        if let (Node::Call(function @ (Function::Timestamp | Function::Duration), operand), Some(Value::String(_))) =
            (&node, operand_constant(&node))
            && let Err(EvalError::Conversion(what)) = run(operand).and_then(|value| function.call_one(value))
        {
            let error = ExprError::new(operands[0].span.clone(), format!("this is not {what}"));
            return Err(error.help(format!("for example `{}`", row.example)));
        }
        Ok((node, result))
    }

    fn matches(&mut self, text: Node, pattern: &Node, written: &Expr) -> Result<Node, ExprError> {
        let error = |message: String| ExprError::new(written.span.clone(), message);
        let Some(Value::String(pattern)) = pattern.constant() else {
            let error = error("the pattern of `matches` must be a literal string".to_owned());
            return Err(
                error.help("patterns are compiled once, when the configuration is loaded: message.matches(\"^GET\")")
            );
        };
        if self.patterns.len() == PATTERNS_MAX {
            return Err(error(format!("more than {PATTERNS_MAX} patterns")).help("combine them into one with `|`"));
        }
        let decoded = pattern.decoded();
        let pattern = String::from_utf8_lossy(&decoded);
        // Strings of events may contain bytes that are not UTF-8.
        let regex = compile_pattern(&pattern, false).map_err(|what| {
            error(what)
                .help("write patterns as raw strings: r\"^\\d+$\"; backreferences and lookaround are not supported")
        })?;
        self.patterns.push(regex);
        Ok(Node::Matches(Box::new(text), self.patterns.len() - 1))
    }
}

fn refuse_unless(fits: bool, expr: &Expr, message: impl FnOnce() -> String) -> Result<(), ExprError> {
    if fits { Ok(()) } else { Err(ExprError::new(expr.span.clone(), message())) }
}

/// The names of functions of other languages in this language.
fn foreign(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "length" | "len" | "count" | "strlen" => "write `size(field)`",
        "match" | "regex" | "regex_match" | "match_regex" => "write `field.matches(\"pattern\")`",
        "is_null" | "isnull" => "write `field == null`",
        "is_defined" | "defined" | "present" | "exists" => "write `has(field)`",
        "downcase" | "lower" | "lowercase" | "tolower" => "use the transform `lowercase` before this condition",
        "upcase" | "upper" | "uppercase" | "toupper" => "use the transform `uppercase` before this condition",
        "to_int" | "toint" | "parse_int" | "tonumber" => "write `int(field)`",
        "to_float" | "tofloat" | "parse_float" => "write `double(field)`",
        "to_string" | "tostring" => "write `string(field)`",
        _ => return None,
    })
}

fn find_function(call: &Call) -> Result<&'static Row, ExprError> {
    let Some(row) = FUNCTIONS.iter().find(|row| row.name == call.name) else {
        let error = ExprError::new(call.name_span.clone(), format!("unknown function `{}`", call.name));
        if let Some(help) = foreign(&call.name) {
            return Err(error.help(help));
        }
        let names = FUNCTIONS.iter().map(|row| row.name).chain(macros::NAMES).chain([origin::FUNCTION]);
        return Err(match nearest(&call.name, names) {
            Some(name) => error.help(format!("did you mean `{name}`?")),
            None => error.help("see docs/expressions.md for a list of the functions"),
        });
    };
    let (message, fits) = match row.style {
        Style::Both => ("", true),
        Style::Method => ("must be called on a value", call.receiver.is_some()),
        Style::Global => ("needs its value in parentheses", call.receiver.is_none()),
    };
    if fits {
        return Ok(row);
    }
    let error = ExprError::new(call.name_span.clone(), format!("`{}` {message}", row.name));
    Err(error.help(format!("for example `{}`", row.example)))
}

/// The constant that a function is called with.
fn operand_constant(node: &Node) -> Option<&Value<'static>> {
    match node {
        Node::Call(_, operand) => operand.constant(),
        _ => None,
    }
}

/// The value of a constant node.
pub(super) fn run(node: &Node) -> Result<Value<'_>, EvalError> {
    Machine::new(&[], &NoFields, &mut Scratch::default()).value(node, None)
}

/// Folds the node to a constant, if everything below it is constant and it has a value. Without a value it stays unchanged,
/// because `||` and `&&` may absorb its error.
pub(super) fn fold(node: Node, result: Type) -> Typed {
    let all = |nodes: &[Node]| nodes.iter().all(|node| node.constant().is_some());
    let constant = match &node {
        Node::Not(of) | Node::Negate(of) | Node::Select(of, _) | Node::Has(of, _) | Node::Call(_, of) => {
            of.constant().is_some()
        }
        Node::And(nodes) | Node::Or(nodes) | Node::List(nodes) => all(nodes),
        Node::Compare(_, nodes) | Node::Compute(_, nodes) | Node::Test(_, nodes) => all(&nodes[..]),
        Node::In(nodes) | Node::Index(nodes) => all(&nodes[..]),
        Node::Choose(nodes) => all(&nodes[..]),
        Node::Map(entries) => entries.iter().all(|(key, value)| key.constant().and(value.constant()).is_some()),
        _ => false,
    };
    if !constant {
        return (node, result);
    }
    let value = run(&node).and_then(Value::into_owned);
    match value {
        Ok(value) => {
            let found = Type::of(&value);
            (Node::Constant(value), found)
        }
        Err(_) => (node, result),
    }
}
