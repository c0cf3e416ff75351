//! The real binary as a user runs it: exit codes, output streams, and what the commands on a data directory show.

#[path = "cli/advice.rs"]
mod advice;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/first_steps.rs"]
mod first_steps;
#[path = "cli/letters.rs"]
mod letters;
#[path = "cli/missing.rs"]
mod missing;
#[path = "cli/others.rs"]
mod others;
#[path = "cli/sample.rs"]
mod sample;
#[path = "cli/secrets.rs"]
mod secrets;
#[path = "cli/shipped.rs"]
mod shipped;
#[path = "cli/terminal.rs"]
mod terminal;
#[path = "cli/throttled.rs"]
mod throttled;
#[path = "cli/trusted.rs"]
mod trusted;
#[path = "cli/trying.rs"]
mod trying;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tailwater_shards::batch::{Source, SourceKey, SourceRange};
use tailwater_shards::env::{Env, File, Timestamp};
use tailwater_shards::glommio_env::{GlommioEnv, RealDisk, launch};
use tailwater_shards::wal::builder::Group;
use tailwater_shards::wal::frame::FrameKind;
use tailwater_shards::wal::manifest::DataDirectory;
use tailwater_shards::wal::recovery::scan_log;
use tailwater_shards::wal::writer::{LogState, Writer};
use tailwater_shards::wal::{Commit, OutputNumber, Position, RegistryEntry, Sequence, SyncPolicy, WalOptions, WalType};

const GOOD: &str = "inputs:\n  app: {type: file, include: [/nonexistent/*.log]}\npipelines:\n  main: {inputs: [app], outputs: [none]}\noutputs:\n  none: {type: blackhole}\n";

fn tailwater(arguments: &[&str]) -> Output {
    command(arguments).output().expect("the binary runs")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tailwater"));
    command.args(arguments).env_remove("TAILWATER_CONFIG").env_remove("TAILWATER_LOG").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn written(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).expect("a file can be written");
    path.to_str().expect("temporary paths are UTF-8").to_owned()
}

#[test]
fn exit_codes_distinguish_usage_configuration_and_success() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = written(directory.path(), "good.yaml", GOOD);
    let bad = written(directory.path(), "bad.yaml", &GOOD.replace("[none]", "[nine]"));
    let enrich = "transforms: [{enrich: {file: /nonexistent/hosts.csv, key: {name: host}}}], outputs: [none]";
    let tableless = written(directory.path(), "tableless.yaml", &GOOD.replace("outputs: [none]", enrich));
    for (arguments, code) in [
        (&["validate", "-c", &good][..], 0),
        (&["validate", "-c", &bad], 78),
        (&["run", "-c", &bad], 78),
        (&["validate", "-c", "/nonexistent.yaml"], 78),
        (&["validate", "-c", &tableless], 78),
        (&["validate", "--no-files", "-c", &tableless], 0),
        (&["validate"], 64),
        (&["fly"], 64),
        (&[], 64),
        (&["--version"], 0),
        (&["--help"], 0),
        (&["schema"], 0),
        (&["wal", "ls", "--data-dir", "/nonexistent"], 1),
    ] {
        let output = tailwater(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
        if code != 0 {
            assert!(output.stdout.is_empty(), "{arguments:?} wrote a result: {}", text(&output.stdout));
            assert!(!output.stderr.is_empty(), "{arguments:?} said nothing");
        }
    }
}

#[test]
fn configuration_without_its_option_is_told_what_to_write() {
    for arguments in [&["run", "c.yaml"][..], &["validate", "c.yml"], &["--config", "c.yaml"], &["-c", "c.yaml", "run"]]
    {
        let said = text(&tailwater(arguments).stderr);
        assert!(said.contains("tailwater run -c FILE"), "{arguments:?}: {said}");
    }
    assert!(!text(&tailwater(&["run", "--fast"]).stderr).contains("run -c FILE"));
}

#[test]
fn environment_lowers_the_tier_of_the_processor() {
    let doctor = |tier| command(&["doctor"]).env("TAILWATER_TIER", tier).output().expect("the binary runs");
    let output = doctor("portable");
    assert!(text(&output.stdout).contains("events are parsed with portable"), "{}", text(&output.stdout));
    let output = doctor("sse9");
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("TAILWATER_TIER is \"sse9\""), "{}", text(&output.stderr));
}

#[test]
fn validate_prints_the_plan_and_problems_go_to_standard_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", &format!("{GOOD}  spare: {{type: blackhole}}\n"));
    let output = tailwater(&["validate", "-c", &path, "--data-dir", "/srv/tw"]);
    assert!(text(&output.stdout).contains("data_dir   /srv/tw\n"), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("pipeline   main: app -> none\n"));
    assert!(text(&output.stderr).contains("the output `spare` is in no pipeline"), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains('\u{1b}'), "colours without a terminal");
}

#[test]
fn validate_and_doctor_name_a_data_directory_that_others_can_change() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", GOOD);
    let data = directory.path().join("data");
    std::fs::create_dir(&data).expect("made");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o777)).expect("its mode");
    let place = data.to_str().expect("UTF-8");
    let validate = |more: &[&str]| {
        let output = tailwater(&[&["validate", "-c", &path, "--data-dir", place], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = validate(&[]);
    assert!(said.contains("every user can write to it") && said.contains("chmod o-w"), "{said}");
    assert!(!validate(&["--no-files"]).contains("every user"));
    let doctor = text(&tailwater(&["doctor", "--data-dir", place]).stdout);
    let line = doctor.lines().find(|line| line.contains("every user can write to it")).unwrap_or_default();
    assert!(line.starts_with("problem"), "{doctor}");
}

/// What reads the application log reads JSON: the warnings of a configuration are no exception.
#[test]
fn warnings_of_a_run_are_lines_of_the_log_unless_a_terminal_shows_them() {
    let directory = tempfile::tempdir().expect("a directory");
    let spares: String = (0..9).map(|number| format!("  spare{number}: {{type: blackhole}}\n")).collect();
    let config = "admin: false\ninputs: {app: {type: stdin}}\npipelines:\n  main: {inputs: [app], outputs: [none]}\noutputs:\n  none: {type: blackhole}\n";
    let path = written(directory.path(), "c.yaml", &format!("{config}{spares}"));
    let data_dir = directory.path().join("data");
    let run = |path: &str| tailwater(&["run", "-c", path, "--data-dir", data_dir.to_str().expect("UTF-8")]);
    let told = text(&run(&path).stderr);
    let lines: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let warnings: Vec<_> = lines.iter().filter(|line| line["target"] == "tailwater::configuration").collect();
    assert_eq!(warnings.len(), 9, "none is suppressed as a repetition: {told}");
    assert_eq!(warnings[0]["level"], "warn");
    assert_eq!(warnings[0]["message"], "the output `spare0` is in no pipeline");
    assert_eq!((&warnings[0]["line"], &warnings[0]["column"]), (&7.into(), &3.into()));
    assert_eq!(warnings[0]["file"], path.as_str());
    assert!(warnings[0]["help"].as_str().is_some_and(|help| help.contains("remove it")), "{told}");
    let plain = written(directory.path(), "t.yaml", &format!("log: {{format: text}}\n{config}{spares}"));
    let told = text(&run(&plain).stderr);
    let line = told.lines().find(|line| line.contains("`spare0` is in no pipeline")).unwrap_or_default();
    assert!(line.contains("WARN") && line.contains("line=8"), "{told}");
}

#[test]
fn reader_that_goes_away_is_not_a_failure() {
    let mut child =
        command(&["schema"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("the binary ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn doctor_names_each_finding_and_its_fix() {
    let directory = tempfile::tempdir().expect("a directory");
    let data_dir = directory.path().join("data");
    let output = tailwater(&["doctor", "--data-dir", data_dir.to_str().expect("UTF-8")]);
    let told = text(&output.stdout);
    for name in ["kernel", "io_uring", "open files", "data directory", "free disk"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    let problems = told.lines().filter(|line| line.starts_with("problem")).count();
    assert_eq!(output.status.code(), Some(i32::from(problems > 0)), "{told}");
    assert!(!data_dir.exists(), "doctor made the data directory");
    let file = written(directory.path(), "file", "");
    let output = tailwater(&["doctor", "--data-dir", &file]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("fix: "), "{}", text(&output.stdout));
}

/// Both report the same sizes, with a configuration and with the defaults.
#[test]
fn doctor_and_validate_agree_on_the_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = written(directory.path(), "good.yaml", &format!("shards: 2\n{GOOD}"));
    let validated = text(&tailwater(&["validate", "-c", &good]).stdout);
    assert!(validated.contains("at most 5GiB: log 4GiB, dead letters 1GiB"), "{validated}");
    for arguments in [&["doctor", "-c", &good][..], &["doctor"]] {
        let told = text(&tailwater(arguments).stdout);
        assert!(told.contains("log and dead letters may take 5120 MiB"), "{told}");
    }
}

/// A WAL with three groups of two events each from one source, and a commit of one output.
fn write_log(root: &Path) {
    let root = root.to_path_buf();
    let drivers = launch(&[None], move |env| {
        let root = root.clone();
        async move { write_groups(&env, &root) }
    });
    drivers.expect("a shard starts").wait();
}

fn write_groups(env: &GlommioEnv, root: &Path) {
    let mut directory = DataDirectory::open(RealDisk::new(), root).expect("the data directory opens");
    let id = directory.new_log().expect("a log is made");
    let recovered = scan_log(env.disk(), &directory.log_path(id), id, None).expect("an empty log is scanned");
    let options =
        WalOptions { kind: WalType::Disk, sync: SyncPolicy::EveryBatch, segment_bytes: 1 << 20, log_bytes: 4 << 20 };
    let mut writer = Writer::open(env.clone(), options, recovered, LogState::default(), Sequence(0)).expect("it opens");
    let entry = RegistryEntry { number: OutputNumber(0), name: "archive".to_owned(), removed: false };
    writer.set_registry(vec![entry]).expect("the registry is written");
    let source = Arc::new(Source {
        key: SourceKey(7),
        input: "app".into(),
        name: b"/var/log/app.log".to_vec(),
        descriptor: Vec::new(),
        repeatable: true,
    });
    let mut last = Sequence(0);
    for group_number in 0..3u64 {
        let mut group = Group::new();
        let frame = group.frame(FrameKind::Events, 0, 1);
        for event in 0..2 {
            frame.payload().extend_from_slice(format!("{{\"n\":{}}}\n", group_number * 2 + event).as_bytes());
            frame.end_event(Timestamp(1), None);
        }
        let range = SourceRange { from: group_number * 10, to: group_number * 10 + 10, marker: 0 };
        frame.position(&range, &source, group_number == 0, false);
        frame.finish();
        last = writer.append(&mut group).expect("a group is appended");
        // The next frame says that this one was durable, so its loss counts as damage.
        let target = writer.sync_target().expect("there is something to sync");
        target.files.iter().for_each(|file| file.sync().expect("a file is synced"));
        writer.synced(&target);
    }
    let position = Position { sequence: last, event: 1 };
    let commit = Commit {
        output: OutputNumber(0),
        instance: None,
        number: 1,
        cursors: vec![(id, position)],
        state: Some(Vec::new()),
    };
    writer.commit(&commit).expect("a commit is written");
}

fn bytes_below(directory: &Path) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => all.extend(bytes_below(&path)),
            false => all.push((path.clone(), std::fs::read(&path).expect("a file"))),
        }
    }
    all.sort();
    all
}

#[test]
fn wal_commands_show_the_contents_and_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    write_log(directory.path());
    let before = bytes_below(directory.path());
    let root = directory.path().to_str().expect("UTF-8");
    let cat = tailwater(&["wal", "cat", "--data-dir", root]);
    assert_eq!(
        text(&cat.stdout),
        (0..6).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>(),
        "{}",
        text(&cat.stderr)
    );
    let ls = tailwater(&["wal", "ls", "--data-dir", root]);
    let listed = text(&ls.stdout);
    for part in ["log 1: 1 segment,", "6 events", "output archive (number 0)", "cursor in log 1: sequence", "event 1"] {
        assert!(listed.contains(part), "{part}: {listed}{}", text(&ls.stderr));
    }
    assert!(listed.contains("source /var/log/app.log of input app: bytes 0..30"), "{listed}");
    let check = tailwater(&["wal", "check", "--data-dir", root]);
    assert_eq!(check.status.code(), Some(0), "{}{}", text(&check.stdout), text(&check.stderr));
    assert!(text(&check.stdout).ends_with("1 log, 6 events, 0 damaged places\n"), "{}", text(&check.stdout));
    let wrong = tailwater(&["wal", "cat", "--data-dir", root, "--log", "9"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(bytes_below(directory.path()) == before, "a read-only command has written");
}

#[test]
fn wal_check_reports_a_damaged_segment_and_does_not_change_it() {
    let directory = tempfile::tempdir().expect("a directory");
    write_log(directory.path());
    let segment = directory.path().join("wal/log-00000001/0000000000000001.seg");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    let line = b"{\"n\":0}\n";
    let at = bytes.windows(line.len()).position(|window| window == line).expect("the first event");
    bytes[at + 5] = b'7';
    std::fs::write(&segment, &bytes).expect("the segment is damaged");
    let before = bytes_below(directory.path());
    let root = directory.path().to_str().expect("UTF-8");
    let check = tailwater(&["wal", "check", "--data-dir", root]);
    assert_eq!(check.status.code(), Some(1), "{}{}", text(&check.stdout), text(&check.stderr));
    assert!(text(&check.stdout).contains("damaged: segment 1"), "{}", text(&check.stdout));
    let cat = tailwater(&["wal", "cat", "--data-dir", root]);
    assert_eq!(text(&cat.stdout), (2..6).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>());
    assert!(text(&cat.stderr).contains("skipped 1 damaged place;"), "{}", text(&cat.stderr));
    assert!(bytes_below(directory.path()) == before, "a read-only command has written");
}

#[test]
fn wal_commands_report_a_running_engine() {
    let directory = tempfile::tempdir().expect("a directory");
    let held = DataDirectory::open(RealDisk::new(), directory.path()).expect("the data directory opens");
    let output = tailwater(&["wal", "ls", "--data-dir", directory.path().to_str().expect("UTF-8")]);
    drop(held);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("Tailwater is running here"), "{}", text(&output.stderr));
}

#[test]
fn forbidden_io_uring_is_diagnosed_without_a_panic() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = written(directory.path(), "good.yaml", GOOD);
    let data = directory.path().join("data");
    let binary = env!("CARGO_BIN_EXE_tailwater");
    let run = |arguments: &[&str]| {
        let injected =
            ["-f", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e", "inject=io_uring_setup:error=EPERM"];
        let strace = Command::new("strace").args(injected).arg(binary).args(arguments).stdin(Stdio::null()).output();
        strace.expect("strace is there: tests/run.sh installs it")
    };
    let output = run(&["run", "-c", &good, "--data-dir", data.to_str().expect("UTF-8")]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("io_uring") && said.contains("doctor") && !said.contains("panicked"), "{said}");
    assert!(!data.exists(), "nothing was begun");
    let output = run(&["doctor"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stdout).contains("io_uring"), "{}", text(&output.stdout));
}
