//! `was`: the previous names of inputs and outputs.
//!
//! Guarantees: a previous name is given to one component, and never taken from one that still has it. Only the start shows whether
//! the log knows the name.

use super::node::{Node, Value, kind_of};
use super::problem::Problem;
use super::raw::{NAME_RULE, names, wrong_name};

/// The earlier name of each of `section`'s components that are called `all`.
pub fn earlier_names(section: &str, all: &[&str], root: &Node, problems: &mut Vec<Problem>) -> Vec<Option<String>> {
    let kind = section.trim_end_matches('s');
    let written = names(root, section);
    let mut seen: Vec<&str> = Vec::new();
    let mut earlier = Vec::with_capacity(all.len());
    for name in all {
        let path = [section, name, "was"];
        let Some(node) = root.at(&path) else {
            earlier.push(None);
            continue;
        };
        let wrong = |what: String, label: String, help: String| {
            Problem::error(root.span_at(&path), what).label(label).help(help)
        };
        earlier.push(None);
        let Value::Scalar(was) = &node.value else {
            let label = format!("this is {}", kind_of(node));
            problems.push(wrong(format!("expected the earlier name of this {kind}"), label, NAME_RULE.to_owned()));
            continue;
        };
        // What comes from a variable is not shown.
        let shown = if was.variables { "it".to_owned() } else { format!("`{}`", was.text) };
        let text = was.text.as_str();
        if let Some(reason) = wrong_name(text) {
            problems.push(wrong(format!("`was` cannot be a name: {reason}"), "here".to_owned(), NAME_RULE.to_owned()));
        } else if written.contains(&text) {
            problems.push(wrong(
                format!("`was` names an {kind} that is still there"),
                format!("{shown} is under `{section}`"),
                format!("remove `was`, or remove {shown} from `{section}`; names that change in a ring take a start for each step"),
            ));
        } else if seen.contains(&text) {
            problems.push(wrong(
                format!("two {section} say that they were the same one"),
                "the second one".to_owned(),
                format!("what waits for {shown}, and where it was, goes to one of them only: remove `was` here"),
            ));
        } else {
            seen.push(text);
            earlier.pop();
            earlier.push(Some(text.to_owned()));
        }
    }
    earlier
}
