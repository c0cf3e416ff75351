//! What is printed and kept: one table for people, one JSON document for later comparisons.
//!
//! The figure is events per CPU-second: `lines / (user + system)`. Ratios are medians of the ratios inside each round, since
//! machines drift between rounds; beside them stands best against best. The yardstick is rsyslog in the scenario
//! [`YARDSTICK`]: file to nothing.

use crate::measure::Usage;
use crate::scenario::{Plan, Series};
use std::fmt::Write as _;
use std::fs;

const YARDSTICK: (&str, &str) = ("file_to_blackhole", "rsyslog");
const MIB: f64 = 1024.0 * 1024.0;

/// The results with all that is needed to judge them.
pub struct Report<'a> {
    plan: &'a Plan,
    results: &'a [Series],
    note: &'a str,
}

impl<'a> Report<'a> {
    /// A report over complete series.
    pub fn new(plan: &'a Plan, results: &'a [Series], note: &'a str) -> Report<'a> {
        Report { plan, results, note }
    }

    /// The table, as Markdown.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} lines, {} rounds, interleaved; {}", self.plan.lines, self.plan.rounds, machine());
        for version in self.versions() {
            let _ = writeln!(text, "{version}");
        }
        text.push_str(
            "\n| scenario | program | events per CPU-second, best | median | CPU s, median | wall s, median ",
        );
        text.push_str("| peak RSS MiB, highest | times the yardstick, best / median | times rsyslog here, best / median |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n");
        for series in self.results {
            let column = |of: fn(&Usage) -> f64| series.usages.iter().map(of).collect::<Vec<f64>>();
            let cpu = cpu_seconds(series);
            let rate = |seconds: f64| self.plan.lines as f64 / seconds;
            let resident = column(|usage| usage.resident_peak_bytes as f64 / MIB);
            let _ = writeln!(
                text,
                "| {} | {} | {:.0} | {:.0} | {:.2} | {:.2} | {:.1} | {} | {} |",
                series.scenario,
                series.contender.name(),
                rate(minimum(&cpu)),
                rate(median(&cpu)),
                median(&cpu),
                median(&column(|usage| usage.wall_seconds)),
                resident.iter().copied().fold(0.0, f64::max),
                times(self.ratios(series, YARDSTICK.0)),
                times(self.ratios(series, &series.scenario)),
            );
        }
        text
    }

    /// Everything, round by round.
    pub fn json(&self) -> String {
        let versions: Vec<String> = self.versions().iter().map(|version| quoted(version)).collect();
        let mut text = format!(
            "{{\n  \"machine\": {},\n  \"versions\": [{}],\n  \"note\": {},\n  \"lines\": {},\n  \"rounds\": {},\n  \"series\": [\n",
            quoted(&machine()),
            versions.join(", "),
            quoted(self.note),
            self.plan.lines,
            self.plan.rounds
        );
        let rows: Vec<String> = self.results.iter().map(|series| self.row(series)).collect();
        text.push_str(&rows.join(",\n"));
        text.push_str("\n  ]\n}\n");
        text
    }

    fn row(&self, series: &Series) -> String {
        let list = |of: &dyn Fn(&Usage) -> String| series.usages.iter().map(of).collect::<Vec<_>>().join(", ");
        let number = |ratios: Option<(f64, f64)>| ratios.map_or("null".to_owned(), |(_, ratio)| format!("{ratio:.3}"));
        format!(
            "    {{\"scenario\": {}, \"program\": {}, \"cpu_seconds\": [{}], \"wall_seconds\": [{}], \
             \"resident_peak_bytes\": [{}], \"times_yardstick\": {}, \"times_rsyslog\": {}}}",
            quoted(&series.scenario),
            quoted(series.contender.name()),
            list(&|usage| format!("{:.2}", usage.cpu_seconds)),
            list(&|usage| format!("{:.3}", usage.wall_seconds)),
            list(&|usage| usage.resident_peak_bytes.to_string()),
            number(self.ratios(series, YARDSTICK.0)),
            number(self.ratios(series, &series.scenario)),
        )
    }

    /// How many times the events per CPU-second of rsyslog in `scenario`: best against best, and the median over the rounds.
    fn ratios(&self, series: &Series, scenario: &str) -> Option<(f64, f64)> {
        let same = |other: &&Series| other.scenario == scenario && other.contender.name() == YARDSTICK.1;
        let theirs = cpu_seconds(self.results.iter().find(same)?);
        let ours = cpu_seconds(series);
        let rounds: Vec<f64> = theirs.iter().zip(&ours).map(|(theirs, ours)| theirs / ours).collect();
        Some((minimum(&theirs) / minimum(&ours), median(&rounds)))
    }

    fn versions(&self) -> Vec<String> {
        let mut versions = Vec::new();
        for series in self.results {
            let version = series.contender.version();
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        versions
    }
}

fn times(ratios: Option<(f64, f64)>) -> String {
    ratios.map_or("-".to_owned(), |(best, median)| format!("{best:.2} / {median:.2}"))
}

fn cpu_seconds(series: &Series) -> Vec<f64> {
    series.usages.iter().map(|usage| usage.cpu_seconds).collect()
}

fn minimum(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The middle value; of two middle ones the mean.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] }
}

/// Processor, cores and kernel.
fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let processors = read("/proc/cpuinfo");
    let model = processors.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |(_, model)| model);
    let family = processors.lines().find(|line| line.starts_with("cpu family"));
    let family = family.and_then(|line| line.split_once(": ")).map_or("?", |(_, family)| family);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{model} (family {family}), {cores} cores, Linux {}", kernel.trim())
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter < ' ' => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{:04x}", letter as u32);
            }
            letter => out.push(letter),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Contender;
    use std::path::PathBuf;

    fn series(scenario: &str, contender: Contender, cpu: &[f64]) -> Series {
        let usage = |cpu: &f64| Usage { cpu_seconds: *cpu, wall_seconds: 1.0, resident_peak_bytes: 1 << 20 };
        Series { scenario: scenario.into(), contender, usages: cpu.iter().map(usage).collect() }
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
    }

    #[test]
    fn ratio_compares_inside_rounds() {
        let plan = Plan { tailwater: "/x".into(), scenarios: "/y".into(), lines: 100, rounds: 3, seed: 1, only: None };
        let (ours, theirs) = (Contender::Tailwater(PathBuf::from("/x")), Contender::Rsyslog(PathBuf::from("/z")));
        let results = [
            series("file_to_blackhole", ours.clone(), &[1.0, 2.0, 4.0]),
            series("file_to_blackhole", theirs, &[6.0, 10.0, 20.0]),
            series("file_to_file", ours, &[2.0, 2.0, 2.0]),
        ];
        let report = Report::new(&plan, &results, "a \"note\"");
        assert_eq!(report.ratios(&results[0], "file_to_blackhole"), Some((6.0, 5.0)));
        assert_eq!(report.ratios(&results[2], "file_to_blackhole"), Some((3.0, 5.0)));
        assert_eq!(report.ratios(&results[2], "file_to_file"), None);
        assert!(report.table().contains("| file_to_blackhole | tailwater | 100 | 50 | 2.00 |"), "{}", report.table());
        assert!(report.json().contains("\"note\": \"a \\\"note\\\"\""), "{}", report.json());
    }
}
