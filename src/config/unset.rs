//! Variables that are not set, and the parts of a configuration that need them.
//!
//! Guarantees: a command that uses a part of the configuration needs the values of that part only. Everything else that is wrong is
//! refused as always. Does not know which command needs what.

use super::node::{Node, Value};
use super::problem::Problem;

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
    let (unset, others) = std::mem::take(problems).into_iter().partition(|problem| problem.unset);
    *problems = others;
    unset
}

/// The paths of the values that these problems are about, each with the number of the problem.
pub(super) fn places(root: Option<&Node>, problems: &[Problem]) -> Vec<(Vec<String>, usize)> {
    let start = |(number, problem): (usize, &Problem)| (problem.span.unwrap_or_default().start, number);
    let mut starts: Vec<(usize, usize)> = problems.iter().enumerate().map(start).collect();
    starts.sort_unstable();
    let mut found = Vec::new();
    if let Some(root) = root.filter(|_| !starts.is_empty()) {
        walk(root, &mut Vec::new(), &starts, &mut found);
    }
    found
}

/// As deep as the tree, which is bounded. `starts` has where each problem begins, in order: inside the value that names the variable.
fn walk(node: &Node, path: &mut Vec<String>, starts: &[(usize, usize)], found: &mut Vec<(Vec<String>, usize)>) {
    match &node.value {
        Value::Scalar(scalar) if scalar.unresolved => {
            let first = starts.partition_point(|(start, _)| *start < node.span.start);
            let inside = starts[first..].iter().take_while(|(start, _)| *start < node.span.end);
            found.extend(inside.map(|(_, number)| (path.clone(), *number)));
        }
        Value::Scalar(_) => {}
        Value::List(items) => {
            for (number, item) in items.iter().enumerate() {
                path.push(number.to_string());
                walk(item, path, starts, found);
                path.pop();
            }
        }
        Value::Map(entries) => {
            for (key, node) in entries {
                path.push(key.text.clone());
                walk(node, path, starts, found);
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
