//! The systemd unit: its directives as systemd judges them, and the service as systemd runs it.
//!
//! Guarantees: nothing of the machine changes. systemd runs in namespaces of its own, on a copy of the file system that exists in
//! memory only. Where a machine cannot do that, the test says so.

use crate::case::Case;
use crate::product::{binary, is_root, text};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Exposure that `systemd-analyze security` may find at most. Zero is a service that may do nothing.
const EXPOSURE_MAX: f64 = 2.0;

const BOOT_MAX: Duration = Duration::from_secs(240);

fn repository(below: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(below)
}

fn not_checked(what: &str, why: &str) {
    let _ = writeln!(io::stderr(), "NOT CHECKED: {what}: {why}");
}

fn has(command: &str) -> bool {
    Command::new(command).arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The directives of a file in `deploy/systemd`, as `Section.Name=value`, in their order.
fn directives(name: &str) -> Vec<String> {
    let text = fs::read_to_string(repository("deploy/systemd").join(name)).expect("a file");
    let mut section = String::new();
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => name.clone_into(&mut section),
            None => {
                assert!(line.split_once('=').is_some_and(|(name, _)| !name.contains(' ')), "{name}: {line:?}");
                found.push(format!("{section}.{line}"));
            }
        }
    }
    found
}

/// What the pages promise, wherever the tests run. systemd takes the last one of a name, or all of a list: each is there once.
#[test]
fn unit_has_what_the_pages_promise() {
    let unit = directives("tailwater.service");
    for promised in [
        "User=tailwater",
        "Group=tailwater",
        "SupplementaryGroups=adm systemd-journal",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "NoNewPrivileges=yes",
        "StateDirectory=tailwater",
        "StateDirectoryMode=0750",
        "LogsDirectory=tailwater",
        "LogsDirectoryMode=0750",
        "UMask=0027",
        "LimitCORE=0",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateDevices=yes",
        "DevicePolicy=closed",
        "ProtectProc=invisible",
        "ProtectClock=yes",
        "ProtectHostname=yes",
        "ProtectKernelLogs=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes",
        "ProtectControlGroups=yes",
        "KeyringMode=private",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
        "SystemCallArchitectures=native",
        "SuccessExitStatus=75",
        "RestartPreventExitStatus=64 78",
        "ExecStartPre=/usr/bin/tailwater validate --no-files -c /etc/tailwater/tailwater.yaml",
    ] {
        let name = promised.split_inclusive('=').next().expect("a name");
        let set: Vec<&String> = unit.iter().filter(|line| line.starts_with(&format!("Service.{name}"))).collect();
        assert_eq!(set, [&format!("Service.{promised}")], "deploy/systemd/tailwater.service");
    }
    let filters: Vec<&str> = unit.iter().filter_map(|line| line.strip_prefix("Service.SystemCallFilter=")).collect();
    assert_eq!(filters[..2], ["@system-service", "~@privileged @resources"], "{filters:?}");
    assert!(
        !unit.iter().any(|line| line.starts_with("Service.ReadWritePaths")),
        "it writes to its two directories only"
    );
    // Reading every file is the only right that the drop-in gives.
    assert_eq!(
        directives("read-everything.conf"),
        ["Service.CapabilityBoundingSet=CAP_DAC_READ_SEARCH", "Service.AmbientCapabilities=CAP_DAC_READ_SEARCH"]
    );
}

#[test]
fn unit_is_hardened_and_has_no_unknown_directive() {
    if !has("systemd-analyze") {
        return not_checked("the unit's directives", "this machine has no systemd-analyze");
    }
    // Alone in its folder: drop-ins beside it would be read too. The command must exist.
    let folder = tempfile::tempdir().expect("a folder");
    let unit = folder.path().join("tailwater.service");
    let shipped = fs::read_to_string(repository("deploy/systemd/tailwater.service")).expect("the unit");
    fs::write(&unit, shipped.replace("/usr/bin/tailwater", "/bin/true")).expect("written");
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().expect("it runs");
    let told = text(&verified.stderr);
    let about_unit: Vec<&str> = told.lines().filter(|line| line.contains("tailwater.service")).collect();
    assert_eq!(about_unit, [""; 0], "systemd objects to the unit");

    let judged = Command::new("systemd-analyze")
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&unit)
        .output()
        .expect("it runs");
    let judged = text(&judged.stdout);
    let Some(exposure) = judged.split("exposure level for tailwater.service: ").nth(1) else {
        return not_checked("the unit's exposure", "systemd-analyze cannot judge a file");
    };
    let exposure: f64 = exposure.split(' ').next().expect("a word").parse().expect("a number");
    assert!(exposure < EXPOSURE_MAX, "{judged}");
}

/// Why systemd cannot be started here.
fn cannot_boot() -> Option<&'static str> {
    match () {
        () if !is_root() => Some("needs root"),
        () if !Path::new("/lib/systemd/systemd").exists() => Some("this machine has no systemd"),
        () if !has("unshare") => Some("this machine has no unshare"),
        () => None,
    }
}

/// Starts systemd with [`check.sh`](service/check.sh) and returns what that printed.
#[expect(clippy::disallowed_methods, reason = "polls for the end of what systemd prints")]
fn boot(case: &Case) -> Result<String, String> {
    let script = repository("tests/e2e/service/boot.sh");
    let log = fs::File::create(case.path("boot.log")).expect("a file");
    let mut child = Command::new("unshare")
        .args(["--pid", "--mount", "--cgroup", "--uts", "--ipc", "--net", "--fork", "--kill-child", "bash"])
        .arg(script)
        .arg(case.path(""))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .expect("unshare starts");
    let (started, said) = (Instant::now(), case.path("said"));
    loop {
        let printed = fs::read_to_string(&said).unwrap_or_default();
        let ended = child.try_wait().expect("its state").is_some();
        if printed.ends_with("end\n") || ended || started.elapsed() > BOOT_MAX {
            let _ = child.kill();
            let _ = child.wait();
            let log = fs::read_to_string(case.path("boot.log")).unwrap_or_default();
            return if printed.is_empty() { Err(log) } else { Ok(printed) };
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn service_runs_as_the_documentation_says() {
    if let Some(why) = cannot_boot() {
        return not_checked("the service under systemd", why);
    }
    let case = Case::new("service");
    for file in
        ["deploy/systemd/tailwater.service", "deploy/systemd/read-everything.conf", "tests/e2e/service/check.sh"]
    {
        let name = Path::new(file).file_name().expect("a name");
        fs::copy(repository(file), case.path("").join(name)).expect("copied");
    }
    fs::copy(binary(), case.path("tailwater")).expect("copied");
    // Pinning, syncs, a group for the output's files, rotation and compression: whatever the filter of system calls could refuse.
    case.write(
        "tailwater.yaml",
        b"data_dir: /var/lib/tailwater\nshards: 2\nadmin: {listen: 127.0.0.1:9600}\ninputs:\n  app: {type: file, include: \
          [/var/log/app/*.log]}\npipelines:\n  main: {inputs: [app], outputs: [plain, packed]}\noutputs:\n  plain: {type: file, \
          path: /var/log/tailwater/events.json, group: adm}\n  packed: {type: file, path: /var/log/tailwater/%Y.gz, \
          compression: gzip}\n",
    );
    let said = match boot(&case) {
        Ok(said) => said,
        Err(why) => return not_checked("the service under systemd", &why),
    };
    let journal = fs::read_to_string(case.path("journal")).unwrap_or_default();
    let line = |begin: &str| said.lines().find(|line| line.starts_with(begin)).unwrap_or_default().to_owned();
    let shown = format!("{said}\n--- journal\n{journal}");
    for expected in [
        "started",
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "data 750 tailwater",
        "output 750 tailwater tailwater",
        "output 640 tailwater adm",
        // A file that only root may read is not delivered before the drop-in.
        "0",
        "started with the drop-in",
        "lines 3",
        "end",
    ] {
        assert!(said.lines().any(|line| line == expected), "{expected:?} is missing in:\n{shown}");
    }
    assert!(line("Max core").split_whitespace().skip(4).take(2).all(|limit| limit == "0"), "{shown}");
    assert!(!said.contains("not seen"), "{shown}");
    let stopped = said.lines().filter(|line| line.contains("ActiveState=inactive") && line.contains("Result=success"));
    assert_eq!(stopped.count(), 2, "{shown}");
    let refused =
        journal.lines().filter(|line| line.contains("Operation not permitted") || line.contains("Bad system call"));
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0], "the unit forbids what the service needs");
}
