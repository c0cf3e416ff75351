//! The programs that are measured: how each one is found, started and asked for its version.
//!
//! vlagent is not among them: it follows only Kubernetes files and writes none.
//!
//! A program takes part in a scenario if the scenario's folder has a configuration file with its name. Configurations get their
//! paths from the environment: `PERF_INPUT` (a file or a glob), `PERF_DIRECTORY` (an empty folder), `PERF_ADMIN`
//! (`address:port` where the program may listen) and `PERF_ADMIN_PORT`. If events are sent over the network, also `PERF_SINK`
//! (`address:port` of the destination) and `PERF_SINK_PORT`; in `crowd`, `PERF_SHARDS`.

use crate::count;
use crate::work::Fidelity;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The known programs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Program {
    Tailwater,
    Rsyslog,
    SyslogNg,
    Telegraf,
    Vector,
    FluentBit,
    Otelcol,
}

impl Program {
    /// All of them, the product first.
    pub const ALL: [Program; 7] = [
        Program::Tailwater,
        Program::Rsyslog,
        Program::SyslogNg,
        Program::Telegraf,
        Program::Vector,
        Program::FluentBit,
        Program::Otelcol,
    ];

    /// Its name in reports and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Program::Tailwater => "tailwater",
            Program::Rsyslog => "rsyslog",
            Program::SyslogNg => "syslog-ng",
            Program::Telegraf => "telegraf",
            Program::Vector => "vector",
            Program::FluentBit => "fluent-bit",
            Program::Otelcol => "otelcol",
        }
    }

    /// Possible names of its binary, best first.
    fn binaries(self) -> &'static [&'static str] {
        match self {
            Program::Tailwater => &["tailwater"],
            Program::Rsyslog => &["rsyslogd"],
            Program::SyslogNg => &["syslog-ng"],
            Program::Telegraf => &["telegraf"],
            Program::Vector => &["vector"],
            Program::FluentBit => &["fluent-bit"],
            Program::Otelcol => &["otelcol-contrib", "otelcol"],
        }
    }

    /// Its configuration in a scenario's folder.
    fn configuration(self) -> &'static str {
        match self {
            Program::Tailwater => "tailwater.yaml",
            Program::Rsyslog => "rsyslog.conf",
            Program::SyslogNg => "syslog-ng.conf",
            Program::Telegraf => "telegraf.toml",
            Program::Vector => "vector.yaml",
            Program::FluentBit => "fluent-bit.conf",
            Program::Otelcol => "otelcol.yaml",
        }
    }

    /// What it preserves of an event when it writes it as JSON.
    pub fn fidelity(self) -> Fidelity {
        match self {
            // It does not keep types of values.
            Program::SyslogNg => Fidelity::Texts,
            // They write the event inside their own record format.
            Program::Telegraf | Program::Otelcol => Fidelity::Presence,
            Program::Tailwater | Program::Rsyslog | Program::Vector | Program::FluentBit => Fidelity::Values,
        }
    }

    fn version_argument(self) -> &'static str {
        match self {
            Program::Rsyslog => "-v",
            _ => "--version",
        }
    }
}

/// A program with the path of its binary.
#[derive(Clone, Debug)]
pub struct Contender {
    /// Which program.
    pub program: Program,
    /// Its binary.
    pub binary: PathBuf,
}

/// The paths and addresses of one run.
pub struct Place {
    /// Folder with the configurations.
    pub configurations: PathBuf,
    /// The input: a file or a glob.
    pub input: PathBuf,
    /// An empty folder for everything that the run creates. Events that are kept go to `out.log` in it.
    pub directory: PathBuf,
    /// Where the program may listen.
    pub admin: SocketAddr,
    /// Where events are to be sent, in scenarios with a network.
    pub sink: Option<SocketAddr>,
}

impl Place {
    /// Where events that are kept go.
    pub fn output(&self) -> PathBuf {
        self.directory.join("out.log")
    }

    /// The program's own log, for the message of a failure.
    pub fn own_log(&self) -> String {
        let text = fs::read_to_string(self.directory.join("own.log")).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(10).collect();
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Contender {
    /// Its name in reports.
    pub fn name(&self) -> &'static str {
        self.program.name()
    }

    /// Whether it is the product.
    pub fn is_ours(&self) -> bool {
        self.program == Program::Tailwater
    }

    /// Whether it takes part in a scenario.
    pub fn takes_part(&self, configurations: &Path) -> bool {
        configurations.join(self.program.configuration()).is_file()
    }

    /// What it says about its version.
    pub fn version(&self) -> String {
        let output = Command::new(&self.binary).arg(self.program.version_argument()).stdin(Stdio::null()).output();
        let output = output.map(|output| output.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&output).into_owned();
        let line = text.lines().next().unwrap_or("unknown").split("(aka").next().unwrap_or("").trim();
        let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.contains(self.name()) { line } else { format!("{}: {line}", self.name()) }
    }

    /// The command that runs it in the foreground.
    pub fn command(&self, place: &Place) -> Result<Command, String> {
        let configuration = place.configurations.join(self.program.configuration());
        let own = |name: &str| place.directory.join(name);
        let mut command = Command::new(&self.binary);
        match self.program {
            Program::Tailwater => command.args(["run", "-c"]).arg(configuration),
            Program::Rsyslog => command.args(["-n", "-f"]).arg(configuration).arg("-i").arg(own("pid")),
            Program::SyslogNg => {
                command.args(["-F", "--no-caps", "-f"]).arg(configuration).arg("-R").arg(own("persist"));
                command.arg("-p").arg(own("pid")).arg("-c").arg(own("control"))
            }
            Program::FluentBit => command.arg("-c").arg(configuration),
            Program::Telegraf | Program::Vector | Program::Otelcol => command.arg("--config").arg(configuration),
        };
        let log_path = place.directory.join("own.log");
        let log = File::options().create(true).append(true).open(&log_path);
        let log = log.map_err(|error| format!("{}: {error}", log_path.display()))?;
        command.env("PERF_INPUT", &place.input).env("PERF_DIRECTORY", &place.directory);
        command.env("PERF_ADMIN", place.admin.to_string()).env("PERF_ADMIN_PORT", place.admin.port().to_string());
        if let Some(sink) = place.sink {
            command.env("PERF_SINK", sink.to_string()).env("PERF_SINK_PORT", sink.port().to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    /// How far its own count may lag behind its work. Most programs update it once per second.
    pub fn count_lag(&self) -> Duration {
        match self.program {
            Program::Tailwater | Program::SyslogNg => Duration::from_millis(250),
            _ => Duration::from_millis(1200),
        }
    }

    /// Events that have left it so far, by its own count.
    pub fn events_out(&self, place: &Place) -> u64 {
        let statistics = || fs::read_to_string(place.directory.join("statistics.log")).unwrap_or_default();
        match self.program {
            Program::Tailwater => count::tailwater(&count::get(place.admin, "/metrics")),
            Program::Rsyslog => count::rsyslog(&statistics()),
            Program::SyslogNg => count::syslog_ng(&count::ask_socket(&place.directory.join("control"), "STATS\n")),
            Program::Telegraf => count::telegraf(&statistics()),
            Program::Vector => count::vector(&count::get(place.admin, "/metrics")),
            Program::FluentBit => count::fluent_bit(&count::get(place.admin, "/api/v1/metrics/prometheus")),
            Program::Otelcol => count::otelcol(&count::get(place.admin, "/metrics")),
        }
    }
}

/// The programs on this machine: the product and each installed peer, followed by the names of those that are not installed.
pub fn all(tailwater: &Path) -> (Vec<Contender>, Vec<&'static str>) {
    let mut contenders = vec![Contender { program: Program::Tailwater, binary: tailwater.to_owned() }];
    let mut missing = Vec::new();
    for program in &Program::ALL[1..] {
        match program.binaries().iter().find_map(|name| find(name)) {
            Some(binary) => contenders.push(Contender { program: *program, binary }),
            None => missing.push(program.name()),
        }
    }
    (contenders, missing)
}

/// A program on the PATH or in the system's own folder.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(name)).find(|program| program.is_file())
}

/// An address of this machine on which nothing listens.
pub fn free_address() -> Result<SocketAddr, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|error| format!("no free port: {error}"))?;
    listener.local_addr().map_err(|error| format!("no free port: {error}"))
}
