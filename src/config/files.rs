//! Checks the files that a configuration names, as a start does.
//!
//! Guarantees: each file that would make the start, or an output, fail is a problem at the key that names it. Checks only what
//! would run. Does not check directories, addresses and the files that inputs follow: those may appear later.

use super::component::{Mistake, Table};
use super::node::{Node, Value};
use super::plan::Plan;
use super::problem::Problem;
use super::raw::names;
use tailwater_shards::env::Disk;

/// Checks the files. `root` is the tree that the plan was read from, `written` the one of the file. May block.
pub fn check<D: Disk>(plan: &Plan, root: &Node, written: &Node, disk: &D, problems: &mut Vec<Problem>) {
    let mut push = |above: &[&str], mistake: Mistake| {
        if !root.is_assumed(&mistake.path(above)) {
            problems.push(mistake.problem(root, above));
        }
    };
    for pipeline in &plan.pipelines {
        for (number, step) in pipeline.chain.steps.iter().enumerate() {
            let path = ["pipelines", pipeline.name.as_str(), "transforms", &number.to_string()];
            step.check_files(disk).into_iter().for_each(|mistake| push(&path, mistake));
        }
    }
    // A pipeline that could not be read may use the components that the others do not.
    let are_all_read = names(root, "pipelines").len() == plan.pipelines.len()
        && plan.pipelines.iter().all(|pipeline| {
            let is_read = |section| {
                let path = ["pipelines", &pipeline.name, section];
                root.at(&path).map(length) == written.at(&path).map(length)
            };
            is_read("inputs") && is_read("outputs")
        });
    for input in plan.inputs.iter().filter(|input| input.used || !are_all_read) {
        input.settings.check_files(disk).into_iter().for_each(|mistake| push(&["inputs", &input.name], mistake));
    }
    for output in plan.outputs.iter().filter(|output| output.used || !are_all_read) {
        output.settings.check_files(disk).into_iter().for_each(|mistake| push(&["outputs", &output.name], mistake));
    }
}

/// How many names a list has.
fn length(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => items.len(),
        Value::Scalar(_) | Value::Map(_) => 1,
    }
}
