//! `was`: the previous names of inputs and outputs.
//!
//! Guarantees: a previous name is given to one component only, and never to a second one while its owner still exists. Whether
//! the WAL knows the name shows only at the start.

use super::node::{Node, Value, kind_of};
use super::problem::Problem;
use super::raw::{NAME_RULE, names, wrong_name};

/// The previous name of each component in `section`; `all` are their current names.
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
            problems.push(wrong(format!("expected the previous name of this {kind}"), label, NAME_RULE.to_owned()));
            continue;
        };
        // The value of a variable is not shown.
        let shown = if was.variables { "it".to_owned() } else { format!("`{}`", was.text) };
        let text = was.text.as_str();
        if let Some(reason) = wrong_name(text) {
            problems.push(wrong(format!("`was` cannot be a name: {reason}"), "here".to_owned(), NAME_RULE.to_owned()));
        } else if written.contains(&text) {
            problems.push(wrong(
                format!("`was` names an {kind} that still exists"),
                format!("{shown} is under `{section}`"),
                format!(
                    "remove `was`, or remove {shown} from `{section}`; to swap names, rename one component per start"
                ),
            ));
        } else if seen.contains(&text) {
            problems.push(wrong(
                format!("two {section} have the same previous name"),
                "the second one".to_owned(),
                format!("the waiting events and the positions of {shown} go to one component only: remove `was` here"),
            ));
        } else {
            seen.push(text);
            earlier.pop();
            earlier.push(Some(text.to_owned()));
        }
    }
    earlier
}
