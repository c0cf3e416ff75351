//! Commands of an operator who is not the service: without its values, as another user, and on directories that others can change.

use crate::{bytes_below, command, tailwater, text, written};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// An ordinary user.
pub const STRANGER: u32 = 65534;

/// One path may be written to, so the second line becomes a dead letter of `out`.
pub fn configuration(directory: &Path) -> String {
    let base = directory.display();
    format!(
        "data_dir: {base}/data\nadmin: false\nshards: 1\nwal: {{max_bytes: 32MiB}}\n\
         inputs:\n  lines: {{type: stdin, parse: json, fields: {{timestamp: false, host: false}}}}\n\
         pipelines:\n  main: {{inputs: [lines], outputs: [out]}}\n\
         outputs:\n  out: {{type: file, path: \"{base}/out/{{{{ name | default('none') }}}}.log\", max_paths: 1}}\n"
    )
}

/// Outputs that a part of the commands does not use, with values that are not set.
const SECRETS: &str = "  search:\n    type: elasticsearch\n    endpoints: [\"${NOT_SET_URL}\"]\n    index: logs\n\
                       \x20   auth: {basic: {user: u, password: \"${NOT_SET_PASSWORD}\"}}\n    concurrency: ${NOT_SET_NUMBER}\n";

pub fn recovered(directory: &Path) -> String {
    format!("  recovered: {{type: file, path: \"{}/recovered.json\"}}\n", directory.display())
}

/// Delivers one event, and makes a dead letter of another one.
pub fn with_a_letter(directory: &Path) {
    let config = written(directory, "first.yaml", &configuration(directory));
    let lines = written(directory, "lines", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
    let mut run = command(&["run", "-c", &config]);
    let output = run.stdin(fs::File::open(lines).expect("the lines")).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

pub fn assert_code(output: &Output, code: i32, what: &str) -> String {
    let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{what}: {told}");
    told
}

#[test]
fn commands_need_only_the_values_that_they_use() {
    let directory = tempfile::tempdir().expect("a directory");
    with_a_letter(directory.path());
    let config = format!("{}{SECRETS}", configuration(directory.path()));
    let path = written(directory.path(), "secrets.yaml", &config);
    for refused in [&["validate", "-c", &path][..], &["run", "-c", &path]] {
        let told = assert_code(&tailwater(refused), 78, "it uses all values");
        assert!(
            told.contains("the variable `NOT_SET_PASSWORD` is not set") && told.contains("docs/service.md"),
            "{told}"
        );
    }
    for used in
        [&["wal", "ls"][..], &["wal", "check"], &["wal", "cat"], &["dlq", "ls"], &["dlq", "cat"], &["try"], &["test"]]
    {
        let all: Vec<&str> = used.iter().copied().chain(["-c", &path]).collect();
        let told = assert_code(&tailwater(&all), 0, used[0]);
        assert!(!told.contains("NOT_SET"), "{told}");
    }
    // What a machine lacks does not matter here.
    let doctor = tailwater(&["doctor", "-c", &path]);
    let told = text(&doctor.stdout);
    assert!(
        told.contains("free disk") && told.contains("/out can be changed by nobody else"),
        "{told}{}",
        text(&doctor.stderr)
    );
    let purged = tailwater(&["dlq", "purge", "--yes", "-c", &path]);
    assert!(assert_code(&purged, 0, "purge").contains("1 letter removed"));
}

#[test]
fn values_that_a_command_uses_are_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path().display().to_string();
    let config = configuration(directory.path());
    let placed =
        written(directory.path(), "placed.yaml", &config.replace(&format!("data_dir: {base}"), "data_dir: ${NOT_SET}"));
    for used in [&["wal", "ls"][..], &["dlq", "ls"], &["dlq", "purge"], &["dlq", "replay"], &["doctor"]] {
        let all: Vec<&str> = used.iter().copied().chain(["-c", &placed]).collect();
        let told = assert_code(&tailwater(&all), 78, used[0]);
        assert!(told.contains("the variable `NOT_SET` is not set") && told.contains("1 error"), "{told}");
    }
    // A key that is wrong may be the one that names the directory.
    let typed =
        written(directory.path(), "typed.yaml", &format!("{}{SECRETS}", config.replace("data_dir:", "dta_dir:")));
    let told = assert_code(&tailwater(&["dlq", "purge", "--yes", "-c", &typed]), 78, "a typing error");
    assert!(told.contains("did you mean `data_dir`?"), "{told}");
    let sized = written(directory.path(), "sized.yaml", &config.replace("32MiB", "\"${NOT_SET}\""));
    let told = assert_code(&tailwater(&["doctor", "-c", &sized]), 78, "it checks the space");
    assert!(told.contains("`NOT_SET`"), "{told}");
    let led = config.replace(&format!("{base}/out"), "${NOT_SET}/out");
    let led = written(directory.path(), "led.yaml", &led);
    let told = text(&tailwater(&["doctor", "-c", &led]).stdout);
    assert!(told.contains("the output `out` is not checked: the variable `NOT_SET` is not set"), "{told}");
    assert!(!told.contains("can be changed by nobody"), "{told}");
}

#[test]
fn replay_needs_the_values_of_the_outputs_that_it_sends_to() {
    let directory = tempfile::tempdir().expect("a directory");
    with_a_letter(directory.path());
    let config = format!("{}{SECRETS}{}", configuration(directory.path()), recovered(directory.path()));
    let path = written(directory.path(), "secrets.yaml", &config);
    let told = assert_code(&tailwater(&["dlq", "replay", "--output", "search", "-c", &path]), 78, "it sends there");
    for name in ["NOT_SET_URL", "NOT_SET_PASSWORD", "NOT_SET_NUMBER"] {
        assert!(told.contains(&format!("the variable `{name}` is not set")), "{told}");
    }
    let told = assert_code(&tailwater(&["dlq", "replay", "--output", "recovered", "-c", &path]), 0, "a file");
    assert!(told.contains("1 letter replayed: 1 delivered"), "{told}");
    let lines = fs::read_to_string(directory.path().join("recovered.json")).expect("the file");
    assert_eq!(lines, "{\"name\":\"b\"}\n");
}

/// Gives everything below to a user.
pub fn give_away(path: &Path, user: u32) {
    if path.is_dir() {
        fs::read_dir(path).expect("a directory").for_each(|entry| give_away(&entry.expect("an entry").path(), user));
    }
    chown(path, Some(user), Some(user)).expect("root may");
}

fn owners_below(path: &Path) -> Vec<u32> {
    let mut all = vec![fs::symlink_metadata(path).expect("it is there").uid()];
    if path.is_dir() {
        all.extend(
            fs::read_dir(path).expect("a directory").flat_map(|entry| owners_below(&entry.expect("an entry").path())),
        );
    }
    all
}

pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A directory that others can enter, with the data directory of a service that is another user.
fn of_a_service() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    with_a_letter(directory.path());
    for below in ["data", "out"] {
        give_away(&directory.path().join(below), STRANGER);
    }
    directory
}

pub fn as_stranger(arguments: &[&str]) -> Output {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", env!("CARGO_BIN_EXE_tailwater")]);
    setpriv.args(arguments).stdin(Stdio::null()).output().expect("setpriv is there")
}

#[test]
fn root_leaves_nothing_in_the_data_directory_of_a_service() {
    if !is_root() {
        eprintln!("not checked: commands of root on the data directory of another user, which needs root");
        return;
    }
    let directory = of_a_service();
    let data = directory.path().join("data");
    let config = configuration(directory.path()) + &recovered(directory.path());
    let path = written(directory.path(), "c.yaml", &config);
    let before = bytes_below(&data);
    let replay = ["dlq", "replay", "--output", "recovered", "-c", &path];
    for changing in [&replay[..], &["dlq", "purge", "--yes", "-c", &path]] {
        let told = assert_code(&tailwater(changing), 1, "root is not the service");
        assert!(told.contains("belongs to the user 65534") && told.contains("nothing was changed"), "{told}");
        let again = ["runuser -u ", "setpriv --reuid 65534"].iter().any(|start| told.contains(start));
        assert!(again && told.contains(&changing[..2].join(" ")) && told.contains(&path), "{told}");
    }
    for reading in [
        &["dlq", "ls"][..],
        &["dlq", "cat"],
        &["dlq", "purge"],
        &["wal", "ls"],
        &["wal", "check"],
        &["wal", "cat"],
        &["validate"],
        &["doctor"],
    ] {
        let all: Vec<&str> = reading.iter().copied().chain(["-c", &path]).collect();
        let output = tailwater(&all);
        if ["validate", "doctor"].contains(&reading[0]) {
            let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
            let again = told.split("check as that user: ").nth(1).unwrap_or_default();
            assert!(again.starts_with("runuser -u ") || again.starts_with("setpriv --reuid 65534"), "{told}");
            assert!(again.contains(&format!(" {} -c {path}", reading[0])), "{told}");
        }
    }
    assert!(bytes_below(&data) == before, "something was changed");
    assert!(owners_below(&data).iter().all(|owner| *owner == STRANGER), "root made something");
    // The service itself may, and finds everything as it left it.
    fs::create_dir(directory.path().join("own")).expect("a directory");
    give_away(&directory.path().join("own"), STRANGER);
    let own = config.replace("/recovered.json", "/own/recovered.json");
    let own = written(directory.path(), "own.yaml", &own);
    let told = assert_code(&as_stranger(&["dlq", "replay", "--output", "recovered", "-c", &own]), 0, "the service");
    assert!(told.contains("1 letter replayed: 1 delivered"), "{told}");
    assert!(owners_below(&data).iter().all(|owner| *owner == STRANGER));
}

#[test]
fn who_may_not_read_a_data_directory_is_told_who_may() {
    if !is_root() {
        eprintln!("not checked: a data directory of root's, which needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    with_a_letter(directory.path());
    let data = directory.path().join("data");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("permissions");
    let place = data.to_str().expect("UTF-8");
    for used in [&["wal", "ls"][..], &["dlq", "ls"], &["dlq", "purge", "--yes"]] {
        let all: Vec<&str> = used.iter().copied().chain(["--data-dir", place]).collect();
        let told = assert_code(&as_stranger(&all), 1, used[0]);
        assert!(
            told.contains("run this as the user that owns the data directory") && told.contains("sudo -u root -- "),
            "{told}"
        );
    }
}

/// Root ran it once, and then the service's own user.
#[test]
fn what_a_start_of_root_left_is_named_by_every_command_until_it_is_given_away() {
    if !is_root() {
        eprintln!("not checked: a data directory that root made, which needs root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
    with_a_letter(directory.path());
    let path = written(directory.path(), "c.yaml", &configuration(directory.path()));
    let data = directory.path().join("data");
    give_away(&directory.path().join("out"), STRANGER);
    let advice = format!("run `chown -R {}: {}` as root", name_of_stranger(), data.display());
    let named = |name: &str| {
        let what = format!("{} belongs to the user 0 (root)", data.join(name).display());
        let what = what.replace("/ belongs", " belongs");
        let before = bytes_below(&data);
        for (command, code) in [("validate", 0), ("doctor", 1), ("run", 1)] {
            let output = as_stranger(&[command, "-c", &path]);
            let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
            assert_eq!(output.status.code(), Some(code), "{command}: {told}");
            assert!(told.contains(&what) && told.contains(&advice), "{command}: {what}, {advice}: {told}");
            assert!(!told.contains("can be written\n"), "{command}: {told}");
        }
        assert!(bytes_below(&data) == before, "something was changed");
    };
    let give = |name: &str| chown(data.join(name), Some(STRANGER), Some(STRANGER)).expect("root may");
    named("");
    give("");
    named("lock");
    give("lock");
    named("manifest");
    give("manifest");
    named("wal");
    give_away(&data.join("wal"), STRANGER);
    named("dlq");
    // A copy that root made is nobody's business.
    fs::write(data.join("manifest.bak"), "").expect("root may");
    fs::set_permissions(data.join("manifest.bak"), fs::Permissions::from_mode(0o600)).expect("permissions");
    for name in ["dlq", "outputs", "inputs"].map(|name| data.join(name)).iter().filter(|path| path.exists()) {
        give_away(name, STRANGER);
    }
    let output = as_stranger(&["run", "-c", &path]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&as_stranger(&["doctor", "-c", &path]).stdout).contains("data can be written\n"));
}

fn name_of_stranger() -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let line = users.lines().find(|line| line.split(':').nth(2) == Some("65534")).unwrap_or("65534:");
    line.split(':').next().unwrap_or_default().to_owned()
}

/// Who is not Tailwater's user is not told first to run it as another one.
#[test]
fn directory_of_somebody_else_is_to_be_left_to_him() {
    if !is_root() {
        eprintln!("not checked: a data directory of another user, which needs root");
        return;
    }
    let directory = of_a_service();
    let path = written(directory.path(), "c.yaml", &configuration(directory.path()));
    let told = text(&tailwater(&["run", "-c", &path]).stderr);
    let (elsewhere, other) = (told.find("set `data_dir` to"), told.find("is the one made for Tailwater, run it as"));
    assert!(elsewhere.is_some() && elsewhere < other, "{told}");
}

/// `chmod go-w /tmp` would break the host.
#[test]
fn doctor_leaves_directories_that_others_need_as_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = configuration(directory.path());
    let shared = config.replace(&format!("{}/out/", directory.path().display()), "/tmp/tailwater-test-");
    let path = written(directory.path(), "c.yaml", &shared);
    for place in ["/tmp", "/tmp/tailwater-test-missing"] {
        let output = tailwater(&["doctor", "-c", &path, "--data-dir", place]);
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(told.contains("/tmp can be written by every user"), "{told}");
        assert!(!told.contains("chmod") && !told.contains("chown"), "{told}");
        assert!(told.contains("fix: set `path` to a directory"), "{told}");
    }
    let told = text(&tailwater(&["validate", "-c", &path, "--data-dir", "/tmp"]).stderr);
    assert!(told.contains("every user can write to it") && !told.contains("chmod"), "{told}");
}

#[test]
fn validate_names_what_its_user_may_not_read() {
    if !is_root() {
        eprintln!("not checked: logs of root, which need root");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    for (below, mode) in [("", 0o755), ("logs", 0o755), ("closed", 0o700), ("passed", 0o711)] {
        let path = directory.path().join(below);
        fs::create_dir_all(&path).expect("a directory");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    }
    for (name, mode) in [
        ("logs/a.log", 0o600),
        ("logs/b.log", 0o600),
        ("logs/c.log", 0o644),
        ("logs/d.gz", 0o600),
        ("closed/e.log", 0o644),
        ("passed/f.log", 0o600),
        ("passed/g.log", 0o644),
    ] {
        written(directory.path(), name, "a line\n");
        fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(mode)).expect("permissions");
    }
    let base = directory.path().display().to_string();
    let told = |include: &str| {
        let config = configuration(directory.path())
            .replace("type: stdin", &format!("type: file, include: [\"{base}/{include}\"], exclude: [\"*.gz\"]"));
        let path = written(directory.path(), "c.yaml", &config);
        let output = as_stranger(&["validate", "-c", &path]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stderr)
    };
    let said = told("logs/*");
    assert!(
        said.contains("cannot be read by this user, like 1 other file there") && said.contains("docs/service.md"),
        "{said}"
    );
    assert!(!said.contains("c.log") && !said.contains("d.gz"), "{said}");
    let said = told("closed/*.log");
    assert!(said.contains(&format!("the directory {base}/closed cannot be read by this user")), "{said}");
    // A file that is named needs no list of its directory.
    for named in ["logs/a.log", "closed/e.log", "passed/f.log"] {
        let said = told(named);
        assert!(said.contains(&format!("{base}/{named} cannot be read by this user")), "{said}");
    }
    for readable in ["logs/c*.log", "logs/c.log", "passed/g.log", "logs/missing.log"] {
        assert!(!told(readable).contains("cannot be read"), "{readable}");
    }
}
