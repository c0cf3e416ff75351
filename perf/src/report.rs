//! The printed and stored report: a table for people with the targets below it, and a JSON document for later comparisons.
//!
//! Cells are medians over the rounds, followed by minimum and maximum if they differ by more than a tenth.

use crate::aims;
use crate::results::{Figure, Results, Series, Spread, ratios, spread};
use crate::scenario::{Outcome, Plan};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;

const OURS: &str = "tailwater";

/// The results, with everything needed to judge them.
pub struct Report<'a> {
    pub plan: &'a Plan,
    pub outcome: &'a Outcome,
    /// The commit of the sources.
    pub commit: &'a str,
    /// A remark from the command line.
    pub note: &'a str,
}

impl Report<'_> {
    /// The table and its context, as Markdown.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{} lines, {} rounds, interleaved; load average before the run {}\n{}\n",
            self.plan.lines,
            self.plan.rounds,
            self.outcome.load,
            machine()
        );
        // Writing to a string cannot fail.
        let _ = writeln!(text, "commit {}; {}", self.commit, self.outcome.versions.join("; "));
        if !self.outcome.missing.is_empty() {
            let _ = writeln!(text, "not installed, so not measured: {}", self.outcome.missing.join(", "));
        }
        for note in &self.outcome.notes {
            let _ = writeln!(text, "{note}");
        }
        text.push('\n');
        text.push_str(&self.table());
        let aims = aims::all(&self.outcome.results);
        if !aims.is_empty() {
            text.push_str("\n| target | measured | |\n|---|---|---|\n");
        }
        for aim in aims {
            let met = if aim.met { "met" } else { "not met" };
            let _ = writeln!(text, "| {} | {} | {met} |", aim.wanted, aim.measured);
        }
        for failure in &self.outcome.results.failures {
            let _ = writeln!(
                text,
                "\nFailed run, not counted: {}: {}",
                failure.place,
                failure.message.replace('\n', "\n    ")
            );
        }
        text
    }

    fn table(&self) -> String {
        let results = &self.outcome.results;
        let figures: BTreeSet<Figure> =
            results.series.iter().flat_map(|series| series.samples.keys().copied()).collect();
        let mut text = "| scenario | program |".to_owned();
        let mut line = "|---|---|".to_owned();
        for figure in &figures {
            let _ = write!(text, " {} |", figure.heading());
            line.push_str("--:|");
        }
        text.push_str(" ratio: tailwater's events per CPU-s to this program's |\n");
        text.push_str(&line);
        text.push_str("--:|\n");
        for series in &results.series {
            let _ = write!(text, "| {} | {} |", series.title(), series.program);
            for figure in &figures {
                let cell = spread(&series.values(*figure)).map(|spread| cell(spread, figure.decimals()));
                let _ = write!(text, " {} |", cell.unwrap_or_default());
            }
            let times = self.ours_against(series).map(|spread| cell(spread, 2)).unwrap_or_default();
            let _ = writeln!(text, " {times} |");
        }
        text
    }

    /// How many times as many events per CPU-second the product processes as a peer in the same scenario.
    fn ours_against(&self, series: &Series) -> Option<Spread> {
        let ours = self.outcome.results.find(&series.scenario, &series.case, OURS)?;
        let rate = Figure::EventsPerCpuSecond;
        if series.program == OURS { None } else { ratios((ours, rate), (series, rate)) }
    }

    /// Everything, round by round.
    pub fn json(&self) -> String {
        let results = &self.outcome.results;
        let aims = aims::all(results);
        let document = json!({
            "machine": machine(),
            "load_average_before": self.outcome.load,
            "commit": self.commit,
            "versions": self.outcome.versions,
            "missing": self.outcome.missing,
            "note": self.note,
            "notes": self.outcome.notes,
            "lines": self.plan.lines,
            "rounds": self.plan.rounds,
            "seed": self.plan.seed,
            "series": results.series.iter().map(|series| self.series_json(series)).collect::<Vec<_>>(),
            "aims": aims.iter().map(|aim| json!({"wanted": aim.wanted, "measured": aim.measured, "met": aim.met})).collect::<Vec<_>>(),
            "failures": failures(results),
        });
        let mut text = String::new();
        write_json(&document, 0, &mut text);
        text.push('\n');
        text
    }

    fn series_json(&self, series: &Series) -> Value {
        let mut samples = Map::new();
        for (figure, values) in &series.samples {
            let values: Vec<Value> =
                values.iter().map(|(round, value)| json!({"round": round, "value": value})).collect();
            samples.insert(figure.key().to_owned(), values.into());
        }
        let times = self.ours_against(series).map(|spread| json!([spread.min, spread.median, spread.max]));
        json!({
            "scenario": series.scenario, "case": series.case, "program": series.program, "samples": samples,
            "tailwater_times_min_median_max": times,
        })
    }
}

/// Writes a document that people compare line by line: each figure, target or failure is on one line.
fn write_json(value: &Value, depth: usize, text: &mut String) {
    let broken = depth < 2 || levels(value) > 2;
    let (brackets, items): (_, Vec<(String, &Value)>) = match value {
        Value::Array(values) if broken && !values.is_empty() => {
            (['[', ']'], values.iter().map(|value| (String::new(), value)).collect())
        }
        Value::Object(values) if broken && !values.is_empty() => {
            (['{', '}'], values.iter().map(|(key, value)| (format!("{}: ", json!(key)), value)).collect())
        }
        _ => {
            // Writing to a string cannot fail.
            let _ = write!(text, "{value}");
            return;
        }
    };
    for (index, (key, value)) in items.into_iter().enumerate() {
        text.push(if index == 0 { brackets[0] } else { ',' });
        let _ = write!(text, "\n{:1$}{key}", "", 2 * depth + 2);
        write_json(value, depth + 1, text);
    }
    let _ = write!(text, "\n{:1$}{2}", "", 2 * depth, brackets[1]);
}

/// The nesting depth of a value.
fn levels(value: &Value) -> usize {
    match value {
        Value::Array(values) => 1 + values.iter().map(levels).max().unwrap_or(0),
        Value::Object(values) => 1 + values.values().map(levels).max().unwrap_or(0),
        _ => 0,
    }
}

fn failures(results: &Results) -> Vec<Value> {
    results.failures.iter().map(|failure| json!({"place": failure.place, "message": failure.message})).collect()
}

fn cell(spread: Spread, decimals: usize) -> String {
    let Spread { min, median, max } = spread;
    if max - min > 0.1 * median.abs() {
        format!("{median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    } else {
        format!("{median:.decimals$}")
    }
}

/// Processor, cores and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let value = |key: &str| {
        let line = processors.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(": ")).map_or("unknown".to_owned(), |(_, value)| value.to_owned())
    };
    let cores = processors.lines().filter(|line| line.starts_with("processor")).count();
    let memory = read("/proc/meminfo");
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!(
        "{} (family {}, model {}), {cores} cores, {} GiB, Linux {}",
        value("model name"),
        value("cpu family"),
        value("model\t"),
        kib >> 20,
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Plan;

    #[test]
    fn report_shows_medians_spread_and_ratios() {
        let mut results = Results::default();
        for (round, ours, theirs) in [(1, 6.0, 1.0), (2, 10.0, 2.0), (3, 20.0, 5.0)] {
            results.add(round, "file_to_blackhole", "json", OURS, &[(Figure::EventsPerCpuSecond, ours)]);
            results.add(round, "file_to_blackhole", "json", "rsyslog", &[(Figure::EventsPerCpuSecond, theirs)]);
        }
        let outcome = Outcome {
            results,
            missing: vec!["vector"],
            versions: vec!["tailwater 1".into()],
            load: "0.1".into(),
            notes: vec!["shared".into()],
        };
        let plan = Plan { lines: 100, ..Plan::default() };
        let report = Report { plan: &plan, outcome: &outcome, commit: "abc", note: "a \"note\"" };
        let text = report.text();
        assert!(text.contains("| file_to_blackhole json | tailwater | 10 (6 to 20) |  |"), "{text}");
        assert!(text.contains("| file_to_blackhole json | rsyslog | 2 (1 to 5) | 5.00 (4.00 to 6.00) |"), "{text}");
        assert!(
            text.contains("| not met |") && text.contains("not installed, so not measured: vector\nshared\n"),
            "{text}"
        );
        let document: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(document["note"], "a \"note\"");
        let rounds = r#"[{"round":1,"value":6.0},{"round":2,"value":10.0},{"round":3,"value":20.0}]"#;
        let line = format!("\n        \"events_per_cpu_second\": {rounds}\n");
        assert!(report.json().contains(&line), "{}", report.json());
        assert_eq!(document["series"][1]["tailwater_times_min_median_max"], json!([4.0, 5.0, 6.0]));
    }
}
