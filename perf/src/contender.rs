//! What is measured: how each program is started in a scenario, and how it is seen to be done.
//!
//! Guarantees: a contender is done when its own counters say that all events left it, and never earlier. A program that gets
//! a configuration file of its own name in a scenario's folder takes part in that scenario.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// A program that can be measured.
#[derive(Clone, Debug, PartialEq)]
pub enum Contender {
    /// The product.
    Tailwater(PathBuf),
    /// Debian's rsyslog, the yardstick.
    Rsyslog(PathBuf),
}

/// One run's places.
pub struct Place {
    /// Folder of the scenario: the configurations.
    pub scenario: PathBuf,
    /// The input file.
    pub input: PathBuf,
    /// An empty folder for all that the run makes; events that are kept go to `out.log` in it.
    pub directory: PathBuf,
    /// Where the admin endpoint listens.
    pub admin: SocketAddr,
    /// The only processor that the program may use.
    pub cpu: usize,
}

impl Contender {
    /// Contenders on this machine: the product, and each peer that is installed.
    pub fn all(tailwater: &Path) -> Vec<Contender> {
        let rsyslog = find("rsyslogd").map(Contender::Rsyslog);
        std::iter::once(Contender::Tailwater(tailwater.to_owned())).chain(rsyslog).collect()
    }

    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Contender::Tailwater(_) => "tailwater",
            Contender::Rsyslog(_) => "rsyslog",
        }
    }

    /// Its configuration in a scenario.
    pub fn configuration(&self, scenario: &Path) -> PathBuf {
        scenario.join(match self {
            Contender::Tailwater(_) => "tailwater.yaml",
            Contender::Rsyslog(_) => "rsyslog.conf",
        })
    }

    /// What it says about its version.
    pub fn version(&self) -> String {
        let (program, argument) = match self {
            Contender::Tailwater(program) => (program, "--version"),
            Contender::Rsyslog(program) => (program, "-v"),
        };
        let output = Command::new(program).arg(argument).output().map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&output).into_owned();
        text.lines().next().unwrap_or("unknown").split("(aka").next().unwrap_or("").trim().to_owned()
    }

    /// The command that runs it in the foreground.
    pub fn command(&self, place: &Place) -> Result<Command, String> {
        let configuration = self.configuration(&place.scenario);
        // It replaces itself by the program, so the process that is measured is the program.
        let mut command = Command::new("taskset");
        command.args(["-c", &place.cpu.to_string()]);
        match self {
            Contender::Tailwater(program) => command.arg(program).args(["run", "-c"]).arg(configuration),
            Contender::Rsyslog(program) => {
                command.arg(program).args(["-n", "-f"]).arg(configuration).arg("-i").arg(place.directory.join("pid"))
            }
        };
        let log_path = place.directory.join("own.log");
        let log = File::create(&log_path).map_err(|error| format!("{}: {error}", log_path.display()))?;
        command.env("PERF_INPUT", &place.input).env("PERF_DIRECTORY", &place.directory);
        command.env("PERF_ADMIN", place.admin.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// Events that have left it so far, by its own count.
    pub fn events_out(&self, place: &Place) -> u64 {
        match self {
            Contender::Tailwater(_) => scrape(place.admin).map_or(0, |metrics| sent_events(&metrics)),
            Contender::Rsyslog(_) => {
                let statistics = fs::read_to_string(place.directory.join("statistics.log")).unwrap_or_default();
                processed_events(&statistics)
            }
        }
    }

    /// What its own log says, for the message of a failure.
    pub fn own_log(place: &Place) -> String {
        let text = fs::read_to_string(place.directory.join("own.log")).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(10).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A program of the PATH or of the system's own folder.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// The last processor that this process may use: the first ones serve most interrupts.
pub fn last_cpu() -> Result<usize, String> {
    let status = fs::read_to_string("/proc/self/status").map_err(|error| format!("/proc/self/status: {error}"))?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let last = list.and_then(|list| list.trim().rsplit([',', '-']).next()?.parse().ok());
    last.ok_or_else(|| "/proc/self/status: no list of processors".to_owned())
}

/// An address of this machine where nobody listens.
pub fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map_err(|error| format!("no free port: {error}"))
}

/// The text of the admin endpoint's metrics; none while nobody answers.
fn scrape(admin: SocketAddr) -> Option<String> {
    let timeout = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&admin, timeout).ok()?;
    stream.set_read_timeout(Some(timeout)).ok()?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn sent_events(metrics: &str) -> u64 {
    let wanted = |line: &&str| {
        line.starts_with("tailwater_component_sent_events_total{") && line.contains("component_kind=\"output\"")
    };
    let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok()).unwrap_or(0.0);
    metrics.lines().filter(wanted).map(value).sum::<f64>() as u64
}

/// The count in the last statistics of rsyslog's action `out`.
fn processed_events(statistics: &str) -> u64 {
    let line = statistics.lines().rev().find(|line| line.contains("\"name\": \"out\""));
    let rest = line.and_then(|line| line.split_once("\"processed\":")).map_or("", |(_, rest)| rest.trim_start());
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_events_are_those_of_outputs_on_all_shards() {
        let metrics = "# TYPE tailwater_component_sent_events_total counter\n\
            tailwater_component_sent_events_total{component_id=\"out\",component_kind=\"output\",shard=\"0\"} 40\n\
            tailwater_component_sent_events_total{component_id=\"out\",component_kind=\"output\",shard=\"1\"} 2\n\
            tailwater_component_sent_events_total{component_id=\"in\",component_kind=\"input\",shard=\"1\"} 7\n";
        assert_eq!(sent_events(metrics), 42);
    }

    #[test]
    fn last_statistics_count() {
        let statistics = "{ \"name\": \"out\", \"origin\": \"core.action\", \"processed\": 5, \"failed\": 0 }\n\
            { \"name\": \"other\", \"origin\": \"core.action\", \"processed\": 99, \"failed\": 0 }\n\
            { \"name\": \"out\", \"origin\": \"core.action\", \"processed\": 12, \"failed\": 0 }\n\
            { \"name\": \"other\", \"origin\": \"core.action\", \"processed\": 99, \"failed\": 0 }\n";
        assert_eq!(processed_events(statistics), 12);
        assert_eq!(processed_events(""), 0);
    }
}
