//! Macros: they look like calls, but their arguments are not evaluated directly. These are `has` and the walks over lists and
//! maps.
//!
//! Guarantees: `has` only checks whether a field exists. The variable of a walk is visible only in its own arguments, and hides
//! a field of the same name there.

use super::ast::{Call, Expr, Kind};
use super::check::Type;
use super::compile::{Compiler, Typed, fold};
use super::error::ExprError;
use super::node::{Node, Walk, WalkKind};
use super::origin;
use super::value::Value;

/// The names, for suggestions.
pub(super) const NAMES: [&str; 6] = ["has", "all", "exists", "exists_one", "filter", "map"];

/// The macro of a call, or none if it is a function.
pub(super) fn compile(compiler: &mut Compiler, call: &Call, expr: &Expr) -> Option<Result<Typed, ExprError>> {
    match (call.name.as_str(), &call.receiver) {
        ("has", None) => Some(has(compiler, call, expr)),
        ("all", Some(range)) => Some(walk(compiler, WalkKind::All, range, call, expr)),
        ("exists", Some(range)) => Some(walk(compiler, WalkKind::Exists, range, call, expr)),
        ("exists_one" | "existsOne", Some(range)) => Some(walk(compiler, WalkKind::ExistsOne, range, call, expr)),
        ("filter", Some(range)) => Some(walk(compiler, WalkKind::Filter, range, call, expr)),
        ("map", Some(range)) => Some(walk(compiler, WalkKind::Map, range, call, expr)),
        (name, None) if NAMES.contains(&name) => {
            let error = ExprError::new(call.name_span.clone(), format!("`{name}` must be called on a list or a map"));
            if name == "exists" && call.receiver.is_none() && call.arguments.len() == 1 {
                return Some(Err(error.help("to check whether a field exists, write `has(field)`")));
            }
            Some(Err(error.help(format!("for example `tags.{name}(tag, tag.startsWith(\"a\"))`"))))
        }
        _ => None,
    }
}

fn has(compiler: &mut Compiler, call: &Call, expr: &Expr) -> Result<Typed, ExprError> {
    let example = "for example `has(user.id)` or `has(labels[\"a.b\"])`";
    let [argument] = &call.arguments[..] else {
        let message = format!("`has` needs 1 argument, found {}", call.arguments.len());
        return Err(ExprError::new(expr.span.clone(), message).help(example));
    };
    if let Some(path) = compiler.path_of(argument) {
        return Ok((Node::HasField(compiler.number(path)), Type::Bool));
    }
    if let Kind::Select(of, name) = &argument.kind
        && let Some(part) = origin::part(of, name, argument)
    {
        return Ok((Node::HasOrigin(compiler.origin(part?)), Type::Bool));
    }
    let (of, name) = match &argument.kind {
        Kind::Select(of, name) => (of, name.clone()),
        Kind::Index(of, index) => match &index.kind {
            Kind::Literal(Value::String(text)) => (of, String::from_utf8_lossy(&text.decoded()).into_owned()),
            _ => return Err(ExprError::new(argument.span.clone(), "`has` needs a field").help(example)),
        },
        _ => return Err(ExprError::new(argument.span.clone(), "`has` needs a field").help(example)),
    };
    let (node, found) = compiler.node(of)?;
    if !found.may_be(&[Type::Map]) {
        return Err(ExprError::new(of.span.clone(), format!("{found} has no fields")).help(example));
    }
    Ok(fold(Node::Has(Box::new(node), name.into()), Type::Bool))
}

fn walk(compiler: &mut Compiler, kind: WalkKind, range: &Expr, call: &Call, expr: &Expr) -> Result<Typed, ExprError> {
    let name = &call.name;
    let example = format!("for example `tags.{name}(tag, tag.startsWith(\"a\"))`");
    let most = if kind == WalkKind::Map { 3 } else { 2 };
    if !(2..=most).contains(&call.arguments.len()) {
        let message = format!("`{name}` needs a variable and an expression");
        return Err(ExprError::new(expr.span.clone(), message).help(example));
    }
    let Kind::Name(variable) = &call.arguments[0].kind else {
        let message = format!("the first argument of `{name}` must be the name of a variable");
        return Err(ExprError::new(call.arguments[0].span.clone(), message).help(example));
    };
    let (range_node, found) = compiler.node(range)?;
    if !found.may_be(&[Type::List, Type::Map]) {
        return Err(ExprError::new(range.span.clone(), format!("`{name}` needs a list or a map, not {found}")));
    }
    compiler.variables.push((variable.clone(), Type::Any));
    let parts = arguments(compiler, kind, call);
    compiler.variables.pop();
    let (condition, result) = parts?;
    let result_type = match kind {
        WalkKind::Filter | WalkKind::Map => Type::List,
        _ => Type::Bool,
    };
    Ok((Node::Walk(Box::new(Walk { kind, range: range_node, condition, result })), result_type))
}

fn arguments(compiler: &mut Compiler, kind: WalkKind, call: &Call) -> Result<(Option<Node>, Option<Node>), ExprError> {
    let of = format!("`{}`", call.name);
    match (kind, &call.arguments[1..]) {
        (WalkKind::Map, [result]) => Ok((None, Some(compiler.node(result)?.0))),
        (WalkKind::Map, [condition, result]) => {
            let condition = compiler.condition(condition, &of)?;
            Ok((Some(condition), Some(compiler.node(result)?.0)))
        }
        (_, [condition, ..]) => Ok((Some(compiler.condition(condition, &of)?), None)),
        (_, []) => Ok((None, None)),
    }
}
