//! What the product wants to reach, each beside what was measured. A figure that falls short is said, and fails nothing: how fast
//! a machine is today is no property of the program.

use crate::results::{Figure, Results, ratios, spread};

/// One line: what is wanted, what was measured, whether that is enough.
#[derive(Debug)]
pub struct Aim {
    pub wanted: String,
    pub measured: String,
    pub met: bool,
}

const OURS: &str = "tailwater";

/// The aims that something was measured for.
pub fn all(results: &Results) -> Vec<Aim> {
    let mut aims = Vec::new();
    for (scenario, times) in [("file_to_blackhole", 6.5), ("file_to_file", 2.6)] {
        aims.extend(against_rsyslog(results, scenario, times));
    }
    for (scenario, share) in [("file_to_blackhole", 0.22), ("file_to_file", 0.55)] {
        aims.extend(against_serde(results, scenario, share));
    }
    for folder in ["file_to_blackhole", "file_to_file"] {
        aims.extend(scaling(results, folder));
    }
    let below =
        |scenario: &str, case: &str, figure: Figure, bound: f64| Below { scenario, case, figure, bound }.aim(results);
    aims.extend(below("latency", "50000/s", Figure::LatencyP50Ms, 1.0));
    aims.extend(below("latency", "50000/s", Figure::LatencyP99Ms, 10.0));
    for case in ["bare", "1000 files"] {
        aims.extend(below("idle", case, Figure::CpuMsPerSecond, 0.5));
        aims.extend(below("idle", case, Figure::ResidentMib, 20.0));
    }
    for scenario in ["file_to_blackhole", "file_to_file"] {
        aims.extend(below(scenario, "json", Figure::ResidentPeakMib, 60.0));
    }
    for case in ["file_to_blackhole, 2 shards", "file_to_file, 2 shards"] {
        aims.extend(below("two_shards", case, Figure::ResidentPeakMib, 60.0));
    }
    for case in ["fresh", "again"] {
        aims.extend(below("start", case, Figure::FirstEventMs, 100.0));
    }
    aims.extend(recovery(results));
    aims.extend(below("soak", "", Figure::ResidentGrowthKibPerMinute, 100.0));
    aims
}

fn against_rsyslog(results: &Results, scenario: &str, times: f64) -> Option<Aim> {
    let ours = results.find(scenario, "json", OURS)?;
    let theirs = results.find("file_to_blackhole", "json", "rsyslog")?;
    let rate = Figure::EventsPerCpuSecond;
    let ratio = ratios((ours, rate), (theirs, rate))?;
    let best = spread(&ours.values(rate))?.max / spread(&theirs.values(rate))?.max;
    Some(Aim {
        wanted: format!(
            "{scenario}: at least {times} times the events per CPU-second of rsyslog from a file to /dev/null"
        ),
        measured: format!(
            "median {:.2} ({:.2} to {:.2}), best against best {best:.2}",
            ratio.median, ratio.min, ratio.max
        ),
        met: ratio.median >= times,
    })
}

fn against_serde(results: &Results, scenario: &str, share: f64) -> Option<Aim> {
    let ours = results.find(scenario, "json", OURS)?;
    let line = spread(&results.find(scenario, "json", "serde_json")?.values(Figure::NsPerLine))?;
    let costs: Vec<f64> = ours.values(Figure::EventsPerCpuSecond).iter().map(|rate| 1e9 / rate).collect();
    let cost = spread(&costs)?;
    let measured = cost.median / line.median;
    let best = cost.min / line.min;
    Some(Aim {
        wanted: format!("{scenario}: an event costs at most {share} of serde_json's parsing of the line"),
        measured: format!(
            "median {measured:.3} ({:.0} of {:.0} ns), best against best {best:.3}",
            cost.median, line.median
        ),
        met: measured <= share,
    })
}

fn scaling(results: &Results, folder: &str) -> Option<Aim> {
    let of = |shards| {
        let series = results.find("two_shards", &format!("{folder}, {shards}"), OURS)?;
        Some((series, Figure::EventsPerSecond))
    };
    let ratio = ratios(of("2 shards")?, of("1 shard")?)?;
    Some(Aim {
        wanted: format!("two_shards {folder}: at least 1.8 times the events per second of one shard"),
        measured: format!("median {:.2} ({:.2} to {:.2})", ratio.median, ratio.min, ratio.max),
        met: ratio.median >= 1.8,
    })
}

fn recovery(results: &Results) -> Option<Aim> {
    let series = results.find("recovery", "", OURS)?;
    let first = spread(&series.values(Figure::FirstEventMs))?;
    let gigabytes = spread(&series.values(Figure::LogMegabytes))?.median / 1000.0;
    let per_gigabyte = first.median / 1000.0 / gigabytes;
    Some(Aim {
        wanted: "recovery: below 2 s for 1 GB of log, to the first event".to_owned(),
        measured: format!("{per_gigabyte:.2} s a GB ({:.0} ms for {gigabytes:.2} GB)", first.median),
        met: per_gigabyte < 2.0,
    })
}

/// A figure whose median has to be below a bound.
struct Below<'a> {
    scenario: &'a str,
    case: &'a str,
    figure: Figure,
    bound: f64,
}

impl Below<'_> {
    fn aim(&self, results: &Results) -> Option<Aim> {
        let values = spread(&results.find(self.scenario, self.case, OURS)?.values(self.figure))?;
        let heading = self.figure.heading();
        Some(Aim {
            wanted: format!("{} {}: {heading} below {}", self.scenario, self.case, self.bound),
            measured: format!("median {:.2} ({:.2} to {:.2})", values.median, values.min, values.max),
            met: values.median < self.bound,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aims_say_what_falls_short() {
        let mut results = Results::default();
        let add = |results: &mut Results, program: &str, figure, value| {
            results.add(1, "file_to_blackhole", "json", program, &[(figure, value)]);
        };
        add(&mut results, OURS, Figure::EventsPerCpuSecond, 4e6);
        add(&mut results, "rsyslog", Figure::EventsPerCpuSecond, 5e5);
        add(&mut results, "serde_json", Figure::NsPerLine, 1000.0);
        results.add(1, "idle", "bare", OURS, &[(Figure::CpuMsPerSecond, 0.7)]);
        let aims = all(&results);
        let met: Vec<bool> = aims.iter().map(|aim| aim.met).collect();
        assert_eq!(met, [true, false, false], "{aims:?}");
        assert!(aims[0].measured.starts_with("median 8.00"), "{aims:?}");
        assert!(aims[1].measured.starts_with("median 0.250 (250 of 1000 ns)"), "{aims:?}");
    }
}
