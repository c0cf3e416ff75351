//! The performance targets, each with the measured figure. A missed target is reported but is not a failure, because the speed
//! of the machine today is not a property of the program.

use crate::results::{Figure, Results, Spread, pairs, ratios, spread};

/// One target: what is wanted, what was measured, whether the target is met.
#[derive(Debug)]
pub struct Aim {
    pub wanted: String,
    pub measured: String,
    pub met: bool,
}

const OURS: &str = "tailwater";
/// How much resident memory may grow in half a soak. Samples differ by this much even if nothing grows.
const FLAT_KIB: f64 = 256.0;

/// The targets for which the results contain a measurement.
pub fn all(results: &Results) -> Vec<Aim> {
    let mut aims = Vec::new();
    for (scenario, times) in [("file_to_blackhole", 6.5), ("file_to_file", 2.6)] {
        aims.extend(against_rsyslog(results, scenario, times));
    }
    for (scenario, share) in [("file_to_blackhole", 0.22), ("file_to_file", 0.55)] {
        aims.extend(against_serde(results, (scenario, "json"), share));
    }
    for (scenario, times) in [("json_to_file", 15.0), ("json_to_http", 17.0), ("json_to_elasticsearch", 26.0)] {
        aims.extend(same_work_as_rsyslog(results, scenario, times));
        aims.extend(against_serde(results, (scenario, "app"), 0.55));
    }
    for folder in ["file_to_blackhole", "file_to_file"] {
        aims.extend(scaling(results, folder));
    }
    let below =
        |scenario: &str, case: &str, figure: Figure, bound: f64| Below { scenario, case, figure, bound }.aim(results);
    aims.extend(below("latency", "50000/s", Figure::LatencyP50Ms, 1.0));
    aims.extend(below("latency", "50000/s", Figure::LatencyP99Ms, 10.0));
    aims.extend(below("json_latency", "100000/s", Figure::LatencyP99Ms, 20.0));
    for case in ["bare", "1000 files"] {
        aims.extend(below("idle", case, Figure::CpuMsPerSecond, 0.5));
        aims.extend(below("idle", case, Figure::ResidentMib, 20.0));
    }
    for scenario in ["file_to_blackhole", "file_to_file"] {
        aims.extend(below(scenario, "json", Figure::ResidentPeakMib, 60.0));
    }
    for scenario in ["json_to_file", "json_to_http", "json_to_elasticsearch"] {
        aims.extend(below(scenario, "app", Figure::ResidentPeakMib, 150.0));
    }
    for case in ["file_to_blackhole, 2 shards", "file_to_file, 2 shards"] {
        aims.extend(below("two_shards", case, Figure::ResidentPeakMib, 60.0));
    }
    for case in ["fresh", "again"] {
        aims.extend(below("start", case, Figure::FirstEventMs, 100.0));
    }
    aims.extend(recovery(results));
    aims.extend(below("soak", "", Figure::ResidentPeakMib, 60.0));
    aims.extend(below("soak", "", Figure::ResidentGrowthKibPerMinute, 100.0));
    aims.extend(flat(results));
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
        measured: format!("{}, best against best {best:.2}", said(ratio, pairs((ours, rate), (theirs, rate)).len(), 2)),
        met: ratio.median >= times,
    })
}

fn same_work_as_rsyslog(results: &Results, scenario: &str, times: f64) -> Option<Aim> {
    let rate = |program| Some((results.find(scenario, "app", program)?, Figure::EventsPerCpuSecond));
    let (ours, theirs) = (rate(OURS)?, rate("rsyslog")?);
    let ratio = ratios(ours, theirs)?;
    Some(Aim {
        wanted: format!("{scenario}: at least {times} times the events per CPU-second of rsyslog at the same work"),
        measured: said(ratio, pairs(ours, theirs).len(), 2),
        met: ratio.median >= times,
    })
}

fn against_serde(results: &Results, (scenario, case): (&str, &str), share: f64) -> Option<Aim> {
    let ours = results.find(scenario, case, OURS)?;
    let theirs = results.find(scenario, case, "serde_json")?;
    let pairs = pairs((ours, Figure::EventsPerCpuSecond), (theirs, Figure::NsPerLine));
    let (costs, lines): (Vec<f64>, Vec<f64>) = pairs.into_iter().map(|(rate, line)| (1e9 / rate, line)).unzip();
    let shares: Vec<f64> = costs.iter().zip(&lines).map(|(cost, line)| cost / line).collect();
    let (cost, line, measured) = (spread(&costs)?, spread(&lines)?, spread(&shares)?);
    Some(Aim {
        wanted: format!("{scenario}: an event costs at most {share} of serde_json's parsing of the line"),
        measured: format!(
            "{}; median costs {:.0} and {:.0} ns, best against best {:.3}",
            said(measured, shares.len(), 3),
            cost.median,
            line.median,
            cost.min / line.min
        ),
        met: measured.median <= share,
    })
}

fn scaling(results: &Results, folder: &str) -> Option<Aim> {
    let of = |shards| {
        let series = results.find("two_shards", &format!("{folder}, {shards}"), OURS)?;
        Some((series, Figure::EventsPerSecond))
    };
    let (two, one) = (of("2 shards")?, of("1 shard")?);
    let ratio = ratios(two, one)?;
    Some(Aim {
        wanted: format!("two_shards {folder}: at least 1.8 times the events per second of one shard"),
        measured: said(ratio, pairs(two, one).len(), 2),
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
        measured: format!("{per_gigabyte:.2} s per GB ({:.0} ms for {gigabytes:.2} GB)", first.median),
        met: per_gigabyte < 2.0,
    })
}

/// Whether the resident memory of the second half stays at the level of the first half. A leak grows in both.
fn flat(results: &Results) -> Option<Aim> {
    let series = results.find("soak", "", OURS)?;
    let first = spread(&series.values(Figure::ResidentGrowthFirstHalfKib))?;
    let values = series.values(Figure::ResidentGrowthSecondHalfKib);
    let second = spread(&values)?;
    Some(Aim {
        wanted: format!("soak: memory is flat, so the second half grows by less than {FLAT_KIB:.0} KiB"),
        measured: format!("{}; the first half {:.0}", said(second, values.len(), 0), first.median),
        met: second.median < FLAT_KIB,
    })
}

/// A spread as text. A single sample has no spread.
fn said(spread: Spread, samples: usize, decimals: usize) -> String {
    let Spread { min, median, max } = spread;
    if samples == 1 {
        format!("{median:.decimals$}, one sample")
    } else {
        format!("median {median:.decimals$} ({min:.decimals$} to {max:.decimals$})")
    }
}

/// A figure whose median must be below a limit.
struct Below<'a> {
    scenario: &'a str,
    case: &'a str,
    figure: Figure,
    bound: f64,
}

impl Below<'_> {
    fn aim(&self, results: &Results) -> Option<Aim> {
        let series = results.find(self.scenario, self.case, OURS)?;
        let values = series.values(self.figure);
        let spread = spread(&values)?;
        Some(Aim {
            wanted: format!("{}: {} below {}", series.title(), self.figure.heading(), self.bound),
            measured: said(spread, values.len(), 2),
            met: spread.median < self.bound,
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
        assert!(aims[0].measured.starts_with("8.00, one sample"), "{aims:?}");
        assert!(aims[1].measured.starts_with("0.250, one sample; median costs 250 and 1000 ns"), "{aims:?}");
        assert_eq!(aims[2].measured, "0.70, one sample", "{aims:?}");
    }

    #[test]
    fn cost_of_a_line_is_compared_inside_a_round() {
        let mut results = Results::default();
        // In each of these rounds an event costs a fifth of a line. The medians of a drifting machine would give a quarter.
        for (round, cost, line) in [(1, 100.0, 500.0), (2, 200.0, 1000.0), (3, 250.0, 1250.0)] {
            results.add(round, "file_to_file", "json", OURS, &[(Figure::EventsPerCpuSecond, 1e9 / cost)]);
            results.add(round, "file_to_file", "json", "serde_json", &[(Figure::NsPerLine, line)]);
        }
        results.add(4, "file_to_file", "json", OURS, &[(Figure::EventsPerCpuSecond, 1e9 / 1000.0)]);
        results.add(5, "file_to_file", "json", OURS, &[(Figure::EventsPerCpuSecond, 1e9 / 1000.0)]);
        let aims = all(&results);
        assert_eq!(aims.len(), 1, "{aims:?}");
        assert!(aims[0].met && aims[0].measured.starts_with("median 0.200 (0.200 to 0.200);"), "{aims:?}");
    }

    #[test]
    fn soak_that_leaks_or_needs_much_falls_short() {
        let met = |peak, first, second| {
            let mut results = Results::default();
            let figures = [
                (Figure::ResidentPeakMib, peak),
                (Figure::ResidentGrowthKibPerMinute, 90.0),
                (Figure::ResidentGrowthFirstHalfKib, first),
                (Figure::ResidentGrowthSecondHalfKib, second),
            ];
            results.add(1, "soak", "", OURS, &figures);
            all(&results).iter().map(|aim| aim.met).collect::<Vec<_>>()
        };
        assert_eq!(met(30.0, 800.0, 20.0), [true, true, true]);
        assert_eq!(met(61.0, 800.0, 20.0), [false, true, true]);
        assert_eq!(met(30.0, 405.0, 405.0), [true, true, false], "a leak that each minute hides");
    }
}
