//! Target `configuration`: bytes as a user's configuration file.
//!
//! Promises: an accepted file is accepted again with the same plan and the same warnings. A rejected one has an error. Every
//! problem has a position in the text, unless the file as a whole is empty or too large, and is shown with the file's name,
//! line and column. The value of a variable is never shown.

use crate::Verdict;
use tailwater::config::problem::Severity;
use tailwater::config::{self, Circumstances, FILE_BYTES_MAX, Report};
use tailwater_shards::sim::SimEnv;

const FILE: &str = "fuzz.yaml";
const SECRET: &str = "hunter2: }{ [";

fn variable(name: &str) -> Option<String> {
    match name {
        "DIR" => Some("/var/log/app".to_owned()),
        "EMPTY" => Some(String::new()),
        "NUMBER" => Some("2".to_owned()),
        "SECRET" => Some(SECRET.to_owned()),
        _ => None,
    }
}

/// The result for a file: a plan and warnings, or errors.
fn told(data: &[u8]) -> (Report, Option<String>) {
    let here = Circumstances { data_dir: None, cpus: 2 };
    match config::load::<SimEnv>(FILE, data.to_vec(), &variable, &here) {
        Ok(loaded) => (loaded.warnings, Some(loaded.plan.summary::<SimEnv>())),
        Err(refused) => (refused.report, None),
    }
}

/// See the module.
pub fn check(data: &[u8]) -> Verdict {
    let (report, plan) = told(data);
    let shown = report.render(false);
    let (again, same_plan) = told(data);
    assert_eq!(plan, same_plan, "the same file makes two plans");
    assert_eq!(shown, again.render(false), "the same file is told of in two ways");
    assert_ne!(report.has_errors(), plan.is_some(), "errors and a plan: {shown}");
    for problem in &report.problems {
        assert!(!problem.what.is_empty());
        let Some(span) = problem.span else {
            assert_eq!(problem.severity, Severity::Error);
            assert!(plan.is_none() && shown.contains(FILE), "{shown}");
            let has_place = !report.text.trim().is_empty() && data.len() <= FILE_BYTES_MAX;
            assert!(!has_place || problem.what.contains("empty"), "a problem without a place: {shown}");
            continue;
        };
        assert!(span.start <= span.end && span.end <= report.text.len(), "{span:?} of {} bytes", report.text.len());
        let (line, column) = report.line_and_column(span.start);
        assert!(shown.contains(&format!("{FILE}:{line}:{column}")), "no {line}:{column} in {shown}");
    }
    let said = String::from_utf8_lossy(data);
    assert!(!shown.contains(SECRET) || said.contains(SECRET), "a secret is shown: {shown}");
    Verdict::accepted(plan.is_some())
}
