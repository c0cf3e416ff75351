//! Variables that are not set, and the parts of a configuration that need them.
//!
//! Guarantees: a command that uses a part of the configuration needs the values of that part only. Everything else that is wrong is
//! refused as always. Does not know which command needs what.

use super::node::{Node, Value};
use super::problem::{Problem, Span};
use std::collections::HashMap;

/// A variable that is not set, at one of the places that need it.
#[derive(Clone, Debug)]
pub struct Unset {
    /// The keys on the way to the value that names it. Numbers index lists.
    pub path: Vec<String>,
    /// The error, if this value is needed.
    pub problem: Problem,
}

impl Unset {
    /// Whether the value is at or below these keys.
    pub fn is_below(&self, keys: &[&str]) -> bool {
        self.path.len() >= keys.len() && self.path.iter().zip(keys).all(|(own, key)| own == key)
    }
}

/// Takes the problems with variables that are not set out of those of a file.
pub(super) fn taken(problems: &mut Vec<Problem>) -> Vec<Problem> {
    let (unset, others) = std::mem::take(problems).into_iter().partition(|problem| problem.unset.is_some());
    *problems = others;
    unset
}

/// The paths of the values that these problems are about, each with the number of the problem.
pub(super) fn places(root: Option<&Node>, problems: &[Problem]) -> Vec<(Vec<String>, usize)> {
    let mut by_place: HashMap<Span, Vec<usize>> = HashMap::new();
    for (number, problem) in problems.iter().enumerate() {
        by_place.entry(problem.unset.unwrap_or_default()).or_default().push(number);
    }
    let mut found = Vec::new();
    if let Some(root) = root.filter(|_| !by_place.is_empty()) {
        walk(root, &mut Vec::new(), &by_place, &mut found);
    }
    found
}

/// As deep as the tree, which is bounded.
fn walk(
    node: &Node,
    path: &mut Vec<String>,
    by_place: &HashMap<Span, Vec<usize>>,
    found: &mut Vec<(Vec<String>, usize)>,
) {
    match &node.value {
        Value::Scalar(scalar) if scalar.unresolved => {
            let numbers = by_place.get(&node.span).into_iter().flatten();
            found.extend(numbers.map(|number| (path.clone(), *number)));
        }
        Value::Scalar(_) => {}
        Value::List(items) => {
            for (number, item) in items.iter().enumerate() {
                path.push(number.to_string());
                walk(item, path, by_place, found);
                path.pop();
            }
        }
        Value::Map(entries) => {
            for (key, node) in entries {
                path.push(key.text.clone());
                walk(node, path, by_place, found);
                path.pop();
            }
        }
    }
}

/// The variables with what is to be said of them.
pub(super) fn named(places: Vec<(Vec<String>, usize)>, problems: Vec<Problem>) -> Vec<Unset> {
    let unset = |(path, number): (Vec<String>, usize)| Some(Unset { path, problem: problems.get(number)?.clone() });
    places.into_iter().filter_map(unset).collect()
}
