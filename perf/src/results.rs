//! What was measured: figures by scenario, program and round, and the arithmetic over rounds.
//!
//! Guarantees: ratios are computed within a round, because machines drift between rounds. A round that one side lacks counts
//! for neither.

use std::collections::BTreeMap;

/// A measured quantity. The order is that of the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    EventsPerSecond,
    MegabytesPerSecond,
    CpuSeconds,
    EventsPerCpuSecond,
    CpuMsPerSecond,
    ResidentPeakMib,
    ResidentMib,
    ResidentGrowthKibPerMinute,
    ResidentGrowthFirstHalfKib,
    ResidentGrowthSecondHalfKib,
    LatencyP50Ms,
    LatencyP99Ms,
    LatencyMaxMs,
    LookGapMs,
    ReadyMs,
    FirstEventMs,
    LogMegabytes,
    NsPerLine,
    MeasuringMsPerSecond,
    SinkMsPerSecond,
}

impl Figure {
    /// Heading of its column.
    pub fn heading(self) -> &'static str {
        match self {
            Figure::EventsPerSecond => "events/s",
            Figure::MegabytesPerSecond => "MB/s",
            Figure::CpuSeconds => "CPU s",
            Figure::EventsPerCpuSecond => "events per CPU-s",
            Figure::CpuMsPerSecond => "CPU ms per s",
            Figure::ResidentPeakMib => "peak RSS MiB",
            Figure::ResidentMib => "RSS MiB",
            Figure::ResidentGrowthKibPerMinute => "RSS growth KiB/min",
            Figure::ResidentGrowthFirstHalfKib => "RSS growth 1st half KiB",
            Figure::ResidentGrowthSecondHalfKib => "RSS growth 2nd half KiB",
            Figure::LatencyP50Ms => "p50 ms",
            Figure::LatencyP99Ms => "p99 ms",
            Figure::LatencyMaxMs => "max ms",
            Figure::LookGapMs => "longest observer gap ms",
            Figure::ReadyMs => "ready ms",
            Figure::FirstEventMs => "first event ms",
            Figure::LogMegabytes => "log MB",
            Figure::NsPerLine => "CPU ns per line",
            Figure::MeasuringMsPerSecond => "measuring CPU ms per s",
            Figure::SinkMsPerSecond => "sink CPU ms per s",
        }
    }

    /// Its name in the JSON file.
    pub fn key(self) -> &'static str {
        match self {
            Figure::EventsPerSecond => "events_per_second",
            Figure::MegabytesPerSecond => "megabytes_per_second",
            Figure::CpuSeconds => "cpu_seconds",
            Figure::EventsPerCpuSecond => "events_per_cpu_second",
            Figure::CpuMsPerSecond => "cpu_ms_per_second",
            Figure::ResidentPeakMib => "resident_peak_mib",
            Figure::ResidentMib => "resident_mib",
            Figure::ResidentGrowthKibPerMinute => "resident_growth_kib_per_minute",
            Figure::ResidentGrowthFirstHalfKib => "resident_growth_first_half_kib",
            Figure::ResidentGrowthSecondHalfKib => "resident_growth_second_half_kib",
            Figure::LatencyP50Ms => "latency_p50_ms",
            Figure::LatencyP99Ms => "latency_p99_ms",
            Figure::LatencyMaxMs => "latency_max_ms",
            Figure::LookGapMs => "look_gap_ms",
            Figure::ReadyMs => "ready_ms",
            Figure::FirstEventMs => "first_event_ms",
            Figure::LogMegabytes => "log_megabytes",
            Figure::NsPerLine => "cpu_ns_per_line",
            Figure::MeasuringMsPerSecond => "measuring_cpu_ms_per_second",
            Figure::SinkMsPerSecond => "sink_cpu_ms_per_second",
        }
    }

    /// Decimal places.
    pub fn decimals(self) -> usize {
        match self {
            Figure::EventsPerSecond | Figure::EventsPerCpuSecond | Figure::NsPerLine => 0,
            Figure::MegabytesPerSecond | Figure::ReadyMs | Figure::FirstEventMs | Figure::LogMegabytes => 0,
            Figure::ResidentPeakMib | Figure::ResidentMib | Figure::ResidentGrowthKibPerMinute => 1,
            Figure::ResidentGrowthFirstHalfKib | Figure::ResidentGrowthSecondHalfKib => 0,
            Figure::CpuSeconds | Figure::CpuMsPerSecond | Figure::MeasuringMsPerSecond => 2,
            Figure::SinkMsPerSecond => 0,
            Figure::LatencyP50Ms | Figure::LatencyP99Ms | Figure::LatencyMaxMs | Figure::LookGapMs => 2,
        }
    }
}

/// One program in one case of a scenario.
#[derive(Debug)]
pub struct Series {
    /// Name of the scenario, such as `latency`.
    pub scenario: String,
    /// What distinguishes it within the scenario, such as `50000/s`. May be empty.
    pub case: String,
    /// The program.
    pub program: String,
    /// Round by round, for each figure.
    pub samples: BTreeMap<Figure, Vec<(usize, f64)>>,
}

impl Series {
    /// All values of a figure.
    pub fn values(&self, figure: Figure) -> Vec<f64> {
        self.samples.get(&figure).map_or(Vec::new(), |samples| samples.iter().map(|(_, value)| *value).collect())
    }

    /// Scenario and case in one.
    pub fn title(&self) -> String {
        if self.case.is_empty() { self.scenario.clone() } else { format!("{} {}", self.scenario, self.case) }
    }
}

/// A run that did not count.
#[derive(Debug)]
pub struct Failure {
    /// Which scenario, program and round.
    pub place: String,
    /// Whether it was the product.
    pub ours: bool,
    /// What went wrong.
    pub message: String,
}

/// Everything that was measured.
#[derive(Debug, Default)]
pub struct Results {
    /// In the order of their first run.
    pub series: Vec<Series>,
    /// Runs that did not count.
    pub failures: Vec<Failure>,
}

/// Minimum, median and maximum of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub min: f64,
    pub median: f64,
    pub max: f64,
}

impl Results {
    /// Adds the figures of one run.
    pub fn add(&mut self, round: usize, scenario: &str, case: &str, program: &str, figures: &[(Figure, f64)]) {
        let same = |series: &Series| series.scenario == scenario && series.case == case && series.program == program;
        let at = self.series.iter().position(same).unwrap_or_else(|| {
            let (scenario, case, program) = (scenario.to_owned(), case.to_owned(), program.to_owned());
            self.series.push(Series { scenario, case, program, samples: BTreeMap::new() });
            self.series.len() - 1
        });
        for (figure, value) in figures {
            self.series[at].samples.entry(*figure).or_default().push((round, *value));
        }
    }

    /// Puts the series of a case together, whichever program ran first.
    pub fn sort(&mut self) {
        let mut titles: Vec<String> = Vec::new();
        let mut scenarios: Vec<String> = Vec::new();
        for series in &self.series {
            if !titles.contains(&series.title()) {
                titles.push(series.title());
            }
            if !scenarios.contains(&series.scenario) {
                scenarios.push(series.scenario.clone());
            }
        }
        let place = |all: &[String], one: &str| all.iter().position(|title| title == one);
        self.series.sort_by_key(|series| (place(&scenarios, &series.scenario), place(&titles, &series.title())));
    }

    /// A series by its names.
    pub fn find(&self, scenario: &str, case: &str, program: &str) -> Option<&Series> {
        self.series
            .iter()
            .find(|series| series.scenario == scenario && series.case == case && series.program == program)
    }
}

/// The values of two figures in the rounds that have both.
pub fn pairs(one: (&Series, Figure), other: (&Series, Figure)) -> Vec<(f64, f64)> {
    let none = Vec::new();
    let of = |(series, figure): (&Series, Figure)| series.samples.get(&figure).unwrap_or(&none).clone();
    let others = of(other);
    let pair = |(round, value): (usize, f64)| {
        let (_, other) = others.iter().find(|(other, _)| *other == round)?;
        Some((value, *other))
    };
    of(one).into_iter().filter_map(pair).collect()
}

/// `above / below` of two figures, round by round.
pub fn ratios(above: (&Series, Figure), below: (&Series, Figure)) -> Option<Spread> {
    spread(&pairs(above, below).into_iter().map(|(above, below)| above / below).collect::<Vec<_>>())
}

/// Minimum, median (the mean of the two middle values if their number is even) and maximum.
pub fn spread(values: &[f64]) -> Option<Spread> {
    let mut sorted: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let max = *sorted.last()?;
    let median =
        if sorted.len().is_multiple_of(2) { (sorted[middle - 1] + sorted[middle]) / 2.0 } else { sorted[middle] };
    Some(Spread { min: sorted[0], median, max })
}

/// The value that `share` of `sorted` do not exceed.
pub fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(0)
}

/// Slope of the least-squares line through points.
pub fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (mean_x, mean_y) =
        points.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0 / count, sum.1 + point.1 / count));
    let (above, below) = points
        .iter()
        .fold((0.0, 0.0), |sum, (x, y)| (sum.0 + (x - mean_x) * (y - mean_y), sum.1 + (x - mean_x) * (x - mean_x)));
    if below == 0.0 { 0.0 } else { above / below }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_is_the_middle() {
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), Some(Spread { min: 1.0, median: 2.5, max: 4.0 }));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn cases_stay_together() {
        let mut results = Results::default();
        for (case, program) in [("x", "a"), ("y", "a"), ("x", "b"), ("y", "b")] {
            results.add(1, "s", case, program, &[(Figure::NsPerLine, 1.0)]);
        }
        results.add(1, "t", "", "a", &[(Figure::NsPerLine, 1.0)]);
        results.add(1, "s", "z", "a", &[(Figure::NsPerLine, 1.0)]);
        results.sort();
        let order: Vec<String> =
            results.series.iter().map(|one| format!("{}{}{}", one.scenario, one.case, one.program)).collect();
        assert_eq!(order, ["sxa", "sxb", "sya", "syb", "sza", "ta"]);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let sorted: Vec<u64> = (1..=200).collect();
        assert_eq!((percentile(&sorted, 0.5), percentile(&sorted, 0.99), percentile(&sorted, 1.0)), (100, 198, 200));
        assert_eq!((percentile(&[7], 0.5), percentile(&[], 0.5)), (7, 0));
    }

    #[test]
    fn slope_of_a_line() {
        let points: Vec<(f64, f64)> = (0..10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 1.0)).collect();
        assert!((slope(&points) - 3.0).abs() < 1e-9);
        assert_eq!(slope(&[(1.0, 5.0)]), 0.0);
    }

    #[test]
    fn ratio_compares_inside_rounds() {
        let mut results = Results::default();
        for (round, ours, theirs) in [(1, 6.0, 1.0), (2, 10.0, 2.0), (3, 20.0, 5.0)] {
            results.add(round, "s", "", "a", &[(Figure::EventsPerCpuSecond, ours)]);
            if round != 2 {
                results.add(round, "s", "", "b", &[(Figure::EventsPerCpuSecond, theirs)]);
            }
        }
        let of = |program| (results.find("s", "", program).unwrap(), Figure::EventsPerCpuSecond);
        assert_eq!(ratios(of("a"), of("b")), Some(Spread { min: 4.0, median: 5.0, max: 6.0 }));
        assert_eq!(ratios(of("a"), (of("b").0, Figure::NsPerLine)), None);
    }
}
