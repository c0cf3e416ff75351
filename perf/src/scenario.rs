//! The rounds: every program in every scenario, one after the other, repeatedly.
//!
//! Guarantees: programs are interleaved, and each round begins with a different one, so that a change of the machine affects
//! all of them. A run counts only if each event arrived exactly once. The input is in the page cache for every program. One run
//! at a time, each in an empty folder. A peer that fails is reported and the rest continues.

mod idle;
mod json;
mod latency;
mod recovery;
mod soak;
mod start;
mod throughput;
mod two_shards;

use crate::contender::{self, Contender, Place};
use crate::data::{self, Kind};
use crate::measure::{self, Ended};
use crate::results::{Failure, Figure, Results};
use crate::yardstick;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What is to be measured.
pub struct Plan {
    /// The product's binary.
    pub tailwater: PathBuf,
    /// Folder of the configurations.
    pub scenarios: PathBuf,
    /// Events of one run.
    pub lines: u64,
    /// How often everything is run.
    pub rounds: usize,
    /// Seed of the input.
    pub seed: u64,
    /// The scenarios to run; empty for all but `soak`.
    pub only: Vec<String>,
    /// The programs to run; empty for all that are installed.
    pub programs: Vec<String>,
    /// Kinds of lines for the throughput scenarios.
    pub data: Vec<Kind>,
    /// How long each rate of `latency` is measured.
    pub latency_seconds: f64,
    /// How many times `start` starts the program.
    pub start_runs: usize,
    /// How long `idle` measures.
    pub idle_seconds: u64,
    /// How long it waits before that, until the work that follows a start or a delivery is over.
    pub idle_settle_seconds: u64,
    /// How long `soak` runs.
    pub soak_seconds: u64,
    /// Bytes of events that wait in the write-ahead log in `recovery`.
    pub recovery_bytes: u64,
}

/// The scenarios.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scenario {
    FileToBlackhole,
    FileToFile,
    JsonToFile,
    JsonToHttp,
    JsonToElasticsearch,
    TwoShards,
    Latency,
    JsonLatency,
    Start,
    Recovery,
    Idle,
    Soak,
}

impl Scenario {
    /// All of them, in the order in which they run.
    pub const ALL: [Scenario; 12] = [
        Scenario::FileToBlackhole,
        Scenario::FileToFile,
        Scenario::JsonToFile,
        Scenario::JsonToHttp,
        Scenario::JsonToElasticsearch,
        Scenario::TwoShards,
        Scenario::Latency,
        Scenario::JsonLatency,
        Scenario::Start,
        Scenario::Recovery,
        Scenario::Idle,
        Scenario::Soak,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::FileToBlackhole => "file_to_blackhole",
            Scenario::FileToFile => "file_to_file",
            Scenario::JsonToFile => "json_to_file",
            Scenario::JsonToHttp => "json_to_http",
            Scenario::JsonToElasticsearch => "json_to_elasticsearch",
            Scenario::TwoShards => "two_shards",
            Scenario::Latency => "latency",
            Scenario::JsonLatency => "json_latency",
            Scenario::Start => "start",
            Scenario::Recovery => "recovery",
            Scenario::Idle => "idle",
            Scenario::Soak => "soak",
        }
    }

    /// The folder of its configurations.
    fn folder(self) -> &'static str {
        match self {
            Scenario::TwoShards => "file_to_blackhole",
            Scenario::Start => "file_to_file",
            Scenario::JsonLatency => "json_to_file",
            _ => self.name(),
        }
    }

    /// Whether lines are parsed and changed in it.
    fn is_json(self) -> bool {
        matches!(self, Scenario::JsonToFile | Scenario::JsonToHttp | Scenario::JsonToElasticsearch)
    }

    /// Whether it runs if no scenarios are named. A soak takes too long.
    fn by_default(self) -> bool {
        self != Scenario::Soak
    }

    /// Whether peers take part.
    fn has_peers(self) -> bool {
        !matches!(self, Scenario::TwoShards | Scenario::JsonLatency | Scenario::Recovery | Scenario::Soak)
    }

    /// Whether it runs in every round. The others repeat themselves internally, or take long.
    fn in_every_round(self) -> bool {
        !matches!(self, Scenario::Start | Scenario::Soak)
    }
}

/// The longest time for anything that does not depend on the number of lines.
const WITHIN: Duration = Duration::from_secs(60);
/// The lowest accepted throughput: far below that of any program.
const LINES_PER_SECOND_MIN: u64 = 20_000;

/// How many times the size of the input the page cache is filled before the first run: more than any run writes, but never more
/// than a part of the available memory.
const FILLER_TIMES: u64 = 6;
const FILLER_SHARE_OF_MEMORY: u64 = 4;

/// What all runs share.
pub struct Bench<'a> {
    /// What is to be measured.
    pub plan: &'a Plan,
    /// Everything on disk is below it.
    work: PathBuf,
    /// Processors that may be used. The last one is for the measured programs.
    cpus: Vec<usize>,
    /// The inputs that were made, by kind.
    inputs: Vec<(Kind, PathBuf, u64)>,
}

/// What was measured, and who was missing.
pub struct Outcome {
    pub results: Results,
    /// Known peers that are not installed.
    pub missing: Vec<&'static str>,
    /// The versions that the programs report.
    pub versions: Vec<String>,
    /// The load average of the last minute before the run.
    pub load: String,
    /// Further remarks on the results.
    pub notes: Vec<String>,
}

/// Runs everything.
pub fn run(plan: &Plan) -> Result<Outcome, String> {
    let work = std::env::temp_dir().join(format!("tailwater-perf-{}", std::process::id()));
    measure::clear_directory(&work)?;
    let outcome = run_in(plan, &work);
    // The rest in the temporary directory is not needed, and no result depends on its removal.
    let _ = std::fs::remove_dir_all(&work);
    outcome
}

fn run_in(plan: &Plan, work: &Path) -> Result<Outcome, String> {
    let chosen = |scenario: &Scenario| {
        if plan.only.is_empty() { scenario.by_default() } else { plan.only.iter().any(|o| o == scenario.name()) }
    };
    let scenarios: Vec<Scenario> = Scenario::ALL.into_iter().filter(chosen).collect();
    if let Some(unknown) = plan.only.iter().find(|only| !Scenario::ALL.iter().any(|s| s.name() == only.as_str())) {
        return Err(format!("unknown scenario `{unknown}`"));
    }
    let (mut contenders, missing) = contender::all(&plan.tailwater);
    contenders.retain(|c| plan.programs.is_empty() || plan.programs.iter().any(|name| name == c.name()));
    let mut bench = Bench { plan, work: work.to_owned(), cpus: measure::allowed_cpus()?, inputs: Vec::new() };
    measure::pin(bench.own_cpus())?;
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split_whitespace().next().unwrap_or("unknown").to_owned();
    bench.make_inputs(&scenarios)?;
    let mut results = Results::default();
    for round in 1..=plan.rounds {
        for scenario in scenarios.iter().filter(|scenario| round == 1 || scenario.in_every_round()) {
            bench.one_round(*scenario, &contenders, round, &mut results)?;
        }
    }
    results.sort();
    let versions = contenders.iter().map(Contender::version).collect();
    let mut notes: Vec<String> = json::notes(&scenarios)?;
    notes.extend(scenarios.contains(&Scenario::TwoShards).then(|| two_shards::note(bench.cpus.len())).flatten());
    Ok(Outcome { results, missing, versions, load, notes })
}

impl Bench<'_> {
    /// Where the programs run: one processor, the last one. The first ones serve most interrupts.
    fn contender_cpus(&self) -> &[usize] {
        &self.cpus[self.cpus.len() - 1..]
    }

    /// Where the measuring process runs: on all other processors, if there are any.
    fn own_cpus(&self) -> &[usize] {
        if self.cpus.len() > 1 { &self.cpus[..self.cpus.len() - 1] } else { &self.cpus }
    }

    /// The longest time that a run of this many lines may take.
    fn within(&self, lines: u64) -> Duration {
        WITHIN + Duration::from_secs(lines / LINES_PER_SECOND_MIN)
    }

    fn make_inputs(&mut self, scenarios: &[Scenario]) -> Result<(), String> {
        let mut kinds = Vec::new();
        if scenarios.iter().any(|s| matches!(s, Scenario::FileToBlackhole | Scenario::FileToFile)) {
            kinds.clone_from(&self.plan.data);
        }
        if scenarios.iter().any(|scenario| scenario.is_json()) && !kinds.contains(&Kind::App) {
            kinds.push(Kind::App);
        }
        if kinds.is_empty() {
            return Ok(());
        }
        for kind in &kinds {
            let path = self.work.join(format!("{}.log", kind.name()));
            let bytes = data::write(&path, *kind, 0, self.plan.lines, self.plan.seed)?;
            eprintln!("input {}: {} lines, {bytes} bytes", kind.name(), self.plan.lines);
            self.inputs.push((*kind, path, bytes));
        }
        let largest = self.inputs.iter().map(|(_, _, bytes)| *bytes).max().unwrap_or(0);
        let most = measure::available_memory_bytes() / FILLER_SHARE_OF_MEMORY;
        touch_memory(&self.work.join("filler"), most.min(largest * FILLER_TIMES))
    }

    fn one_round(
        &self,
        scenario: Scenario,
        all: &[Contender],
        round: usize,
        results: &mut Results,
    ) -> Result<(), String> {
        let folder = self.plan.scenarios.join(scenario.folder());
        let takes_part = |c: &&Contender| c.takes_part(&folder) && (c.is_ours() || scenario.has_peers());
        let mut contenders: Vec<&Contender> = all.iter().filter(takes_part).collect();
        if contenders.is_empty() {
            return Err(format!("{}: no program has a configuration for {}", folder.display(), scenario.name()));
        }
        let turns = (round - 1) % contenders.len();
        contenders.rotate_left(turns);
        if scenario == Scenario::Idle {
            // No program works, so they do not disturb each other.
            return idle::run(self, &contenders, round, results);
        }
        for contender in contenders {
            if let Err(message) = self.one_run(scenario, contender, round, results) {
                let place = format!("{} in {}, round {round}", contender.name(), scenario.name());
                eprintln!("FAILED: {place}: {message}");
                results.failures.push(Failure { place, ours: contender.is_ours(), message });
            }
        }
        Ok(())
    }

    fn one_run(&self, scenario: Scenario, who: &Contender, round: usize, results: &mut Results) -> Result<(), String> {
        match scenario {
            Scenario::FileToBlackhole | Scenario::FileToFile => {
                let chosen = |(kind, _, _): &&(Kind, PathBuf, u64)| self.plan.data.contains(kind);
                for (kind, input, bytes) in self.inputs.iter().filter(chosen) {
                    if who.is_ours() && *kind == Kind::Json {
                        let cost = yardstick::cpu_ns_per_line(input, self.contender_cpus(), self.own_cpus())?;
                        results.add(round, scenario.name(), "json", "serde_json", &[(Figure::NsPerLine, cost)]);
                    }
                    throughput::run(self, scenario, (*kind, input, *bytes), who, round, results)?;
                }
                Ok(())
            }
            Scenario::JsonToFile | Scenario::JsonToHttp | Scenario::JsonToElasticsearch => {
                json::run(self, scenario, who, round, results)
            }
            Scenario::TwoShards => two_shards::run(self, who, round, results),
            Scenario::Latency | Scenario::JsonLatency => latency::run(self, scenario, who, round, results),
            Scenario::Start => start::run(self, who, round, results),
            Scenario::Recovery => recovery::run(self, who, round, results),
            Scenario::Soak => soak::run(self, who, round, results),
            Scenario::Idle => Ok(()),
        }
    }

    /// An empty folder called `name`, and the rest of a place with the configurations of `folder`.
    fn place(&self, folder: &str, name: &str, input: PathBuf) -> Result<Place, String> {
        let directory = self.work.join(name);
        measure::clear_directory(&directory)?;
        let configurations = self.plan.scenarios.join(folder);
        Ok(Place { configurations, input, directory, admin: contender::free_address()?, sink: None })
    }
}

/// The product must exit successfully. How peers react to a signal does not matter.
fn ended_well(contender: &Contender, ended: &Ended) -> Result<(), String> {
    if contender.is_ours() && !ended.status.success() { Err(format!("it ended with {}", ended.status)) } else { Ok(()) }
}

/// The program's own count of events that left it, after a pause, because repeated events arrive late. `pause` waits.
fn count_at_rest(contender: &Contender, place: &Place, pause: impl FnOnce(Duration)) -> u64 {
    pause(contender.count_lag());
    contender.events_out(place)
}

/// Fills the page cache once and releases it. A virtual machine pays for each page that it touches for the first time, up to
/// ten times the price of the work itself: without this, the first programs would pay it for all others.
fn touch_memory(path: &Path, bytes: u64) -> Result<(), String> {
    let fail = |error: std::io::Error| format!("{}: {error}", path.display());
    let mut file = File::create(path).map_err(fail)?;
    let block = vec![0; 1 << 20];
    for _ in 0..bytes.div_ceil(block.len() as u64) {
        file.write_all(&block).map_err(fail)?;
    }
    std::fs::remove_file(path).map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Program;

    #[test]
    fn late_repeat_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let (configurations, input, directory) = (PathBuf::new(), PathBuf::new(), folder.path().to_owned());
        let place = Place { configurations, input, directory, admin: contender::free_address().unwrap(), sink: None };
        let contender = Contender { program: Program::Rsyslog, binary: PathBuf::new() };
        let say = |count: u64| {
            let line = format!("{{ \"name\": \"out\", \"processed\": {count} }}\n");
            std::fs::write(place.directory.join("statistics.log"), line).unwrap();
        };
        say(7);
        assert_eq!(contender.events_out(&place), 7);
        let repeat = |rest| {
            assert!(rest > Duration::from_secs(1), "rsyslog makes its statistics once a second");
            say(8);
        };
        assert_eq!(count_at_rest(&contender, &place, repeat), 8);
    }

    #[test]
    fn shared_processor_is_said() {
        assert!(two_shards::note(2).is_some_and(|note| note.contains("shares one with a shard")));
        assert_eq!(two_shards::note(3), None);
    }
}
