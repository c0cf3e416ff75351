//! The command line: from arguments to a plan.

use crate::data::Kind;
use crate::scenario::Plan;
use std::path::PathBuf;

/// Printed when the arguments are invalid.
pub const USAGE: &str = "\
tailwater-perf generate [--lines N] [--data KIND] [--seed N] FILE
tailwater-perf check [--lines N] FILE...
tailwater-perf sinks                    measures the capacity of the servers that the network scenarios send to
tailwater-perf crowd --tailwater BINARY --scenarios DIR [options]
  --crowd-files N       files that a user makes, and then directories; a fifth of the files is renamed (100000)
  --crowd-settle-seconds N   how long each phase goes on after its work (15)
  --shards N            (1)
tailwater-perf run --tailwater BINARY --scenarios DIR [options]
  --lines N             events of one run (1000000)
  --rounds N            how many times everything is run (3)
  --only A,B            scenarios: file_to_blackhole file_to_file json_to_file json_to_http json_to_elasticsearch two_shards latency
                        json_latency start recovery idle soak; default: all but soak
  --programs A,B        tailwater rsyslog syslog-ng telegraf vector fluent-bit otelcol; default: all that are installed
  --data A,B            kinds of lines for the file_to scenarios: json nginx rfc5424 app; default: all but app, which
                        the json_to scenarios always use
  --latency-seconds N   how long latency measures each rate (3)
  --start-runs N        how many times start starts the program (10)
  --idle-seconds N      how long idle measures (20)
  --idle-settle-seconds N   how long idle waits before that (8)
  --soak-seconds N      how long soak runs (600)
  --recovery-bytes N    bytes of lines that wait in the write-ahead log in recovery (1000000000)
  --keep FILE           write FILE.json and FILE.md
  --commit TEXT --note TEXT   stored with the results";

/// The parsed command line. Each command checks which parts it needs.
pub struct Options {
    pub plan: Plan,
    pub crowd: Crowd,
    pub keep: Option<PathBuf>,
    pub commit: String,
    pub note: String,
    pub files: Vec<PathBuf>,
}

/// The size of `crowd`.
pub struct Crowd {
    pub files: u64,
    pub settle_seconds: u64,
    pub shards: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            tailwater: PathBuf::new(),
            scenarios: PathBuf::new(),
            lines: 1_000_000,
            rounds: 3,
            seed: 1,
            only: Vec::new(),
            programs: Vec::new(),
            data: Kind::ALL.to_vec(),
            latency_seconds: 3.0,
            start_runs: 10,
            idle_seconds: 20,
            idle_settle_seconds: 8,
            soak_seconds: 600,
            recovery_bytes: 1_000_000_000,
        }
    }
}

impl Options {
    /// Parses the arguments after the command.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (keep, commit) = (None, "unknown".to_owned());
        let crowd = Crowd { files: 100_000, settle_seconds: 15, shards: 1 };
        let (plan, note, files) = (Plan::default(), String::new(), Vec::new());
        let mut options = Options { plan, crowd, keep, commit, note, files };
        while let Some(word) = words.next() {
            if !word.starts_with("--") {
                options.files.push(word.into());
                continue;
            }
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value\n{USAGE}"))?;
            options.set(&word, value)?;
        }
        if options.plan.lines == 0 || options.plan.rounds == 0 {
            return Err("`--lines` and `--rounds` must be at least 1".into());
        }
        Ok(options)
    }

    fn set(&mut self, word: &str, value: String) -> Result<(), String> {
        let plan = &mut self.plan;
        match word {
            "--lines" => plan.lines = number(word, &value)?,
            "--rounds" => plan.rounds = number(word, &value)?,
            "--seed" => plan.seed = number(word, &value)?,
            "--tailwater" => plan.tailwater = value.into(),
            "--scenarios" => plan.scenarios = value.into(),
            "--only" => plan.only = list(&value),
            "--programs" => plan.programs = list(&value),
            "--data" => plan.data = kinds(&value)?,
            "--latency-seconds" => plan.latency_seconds = number(word, &value)?,
            "--idle-seconds" => plan.idle_seconds = number(word, &value)?,
            "--start-runs" => plan.start_runs = number(word, &value)?,
            "--idle-settle-seconds" => plan.idle_settle_seconds = number(word, &value)?,
            "--soak-seconds" => plan.soak_seconds = number(word, &value)?,
            "--recovery-bytes" => plan.recovery_bytes = number(word, &value)?,
            "--crowd-files" => self.crowd.files = number(word, &value)?,
            "--crowd-settle-seconds" => self.crowd.settle_seconds = number(word, &value)?,
            "--shards" => self.crowd.shards = number(word, &value)?,
            "--keep" => self.keep = Some(value.into()),
            "--commit" => self.commit = value,
            "--note" => self.note = value,
            _ => return Err(format!("unknown option `{word}`\n{USAGE}")),
        }
        Ok(())
    }
}

fn number<N: std::str::FromStr>(option: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("`{option} {value}`: expected a number"))
}

fn list(value: &str) -> Vec<String> {
    value.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn kinds(value: &str) -> Result<Vec<Kind>, String> {
    if value == "all" {
        return Ok(Kind::ALL.to_vec());
    }
    let kind = |name: String| {
        let known = Kind::ALL.into_iter().chain([Kind::App]).find(|kind| kind.name() == name);
        known.ok_or_else(|| format!("`--data {name}`: expected json, nginx, rfc5424, app or all"))
    };
    list(value).into_iter().map(kind).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(words.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn words_become_a_plan() {
        let options = parse("--lines 7 --only latency,idle --data all --keep x file").unwrap();
        assert_eq!((options.plan.lines, options.plan.only.len(), options.plan.data.len()), (7, 2, 3));
        assert_eq!((options.keep, options.files.len()), (Some("x".into()), 1));
    }

    #[test]
    fn words_without_sense_are_refused() {
        for words in ["--lines", "--lines x", "--lines 0", "--data cobol", "--speed 9"] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}
