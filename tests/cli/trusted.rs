//! Files that decide what the process does, and that others can change: the configuration, and what it names.

use crate::others::{STRANGER, as_stranger, configuration as letters, is_root, recovered, with_a_letter};
use crate::{command, tailwater, text, written};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Output};

fn configuration(directory: &Path) -> String {
    format!(
        "data_dir: {0}/data\nadmin: false\nshards: 1\nwal: {{max_bytes: 32MiB}}\ninputs: {{lines: {{type: stdin}}}}\n\
         pipelines: {{main: {{inputs: [lines], outputs: [out]}}}}\noutputs: {{out: {{type: file, path: {0}/out.log}}}}\n",
        directory.display()
    )
}

/// A directory that everybody can enter.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    set_mode(directory.path(), 0o755);
    directory
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its owner may");
}

/// Runs with one line on standard input.
fn run(path: &str) -> Output {
    let lines = format!("{path}.lines");
    fs::write(&lines, "a line\n").expect("written");
    let mut run = command(&["run", "-c", path]);
    run.stdin(fs::File::open(lines).expect("the lines")).output().expect("the binary runs")
}

fn told(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

#[test]
fn root_runs_no_configuration_that_every_user_can_write_to() {
    if !is_root() {
        eprintln!("not checked: a start of root with a configuration of everybody, which needs root");
        return;
    }
    let directory = open_directory();
    let path = written(directory.path(), "c.yaml", &configuration(directory.path()));
    set_mode(Path::new(&path), 0o666);
    let script = format!(
        "sed 's/out.log/theirs.log/' {path} > /tmp/theirs.$$ && cat /tmp/theirs.$$ > {path}; rm /tmp/theirs.$$"
    );
    let mut stranger = Command::new("setpriv");
    stranger.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--", "sh", "-ec", &script]);
    assert!(stranger.status().expect("a shell").success(), "an ordinary user can change it");
    let refused = run(&path);
    let said = told(&refused);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    for part in ["error: ", "every user can write to it (its mode is 0666)", "check what it says", "chmod o-w"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        !directory.path().join("theirs.log").exists() && !directory.path().join("data").exists(),
        "nothing was begun"
    );
    for checked in [&["validate", "-c", &path][..], &["validate", "--no-files", "-c", &path], &["doctor", "-c", &path]]
    {
        let said = told(&tailwater(checked));
        assert!(said.contains("warning: ") && said.contains("every user can write to it"), "{checked:?}: {said}");
    }
    set_mode(Path::new(&path), 0o644);
    let started = run(&path);
    assert_eq!(started.status.code(), Some(0), "{}", told(&started));
    assert!(!told(&started).contains("can write to it"), "{}", told(&started));
}

/// A replay sends and writes what the configuration says too.
#[test]
fn root_replays_nothing_with_a_configuration_that_every_user_can_write_to() {
    if !is_root() {
        eprintln!("not checked: a replay of root with a configuration of everybody, which needs root");
        return;
    }
    let directory = open_directory();
    with_a_letter(directory.path());
    let path = written(directory.path(), "c.yaml", &(letters(directory.path()) + &recovered(directory.path())));
    let replay = || tailwater(&["dlq", "replay", "--output", "recovered", "-c", &path]);
    set_mode(Path::new(&path), 0o666);
    let refused = replay();
    let said = told(&refused);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("every user can write to it (its mode is 0666)") && said.contains("chmod o-w"), "{said}");
    assert!(!directory.path().join("recovered.json").exists(), "nothing was sent");
    set_mode(Path::new(&path), 0o644);
    // Nor from a data directory that everybody can change.
    let data = directory.path().join("data");
    set_mode(&data, 0o777);
    for changing in [replay(), tailwater(&["dlq", "purge", "--yes", "-c", &path])] {
        let said = told(&changing);
        assert_eq!(changing.status.code(), Some(1), "{said}");
        assert!(said.contains("every user can write to it") && said.contains("nothing was changed"), "{said}");
    }
    set_mode(&data, 0o755);
    let done = replay();
    assert!(told(&done).contains("1 letter replayed: 1 delivered"), "{}", told(&done));
}

/// A service sees the file system read-only (`ProtectSystem`), and others do not. A volume of a container is another matter.
#[test]
fn what_only_this_process_cannot_write_to_is_not_safe() {
    let can = |command: &mut Command| command.status().is_ok_and(|status| status.success());
    if !is_root() || !can(Command::new("unshare").args(["-m", "mount", "--make-rprivate", "/"])) {
        eprintln!("not checked: file systems that only a service cannot write to, which need root and mounts");
        return;
    }
    let directory = open_directory();
    for below in ["etc", "data", "out"] {
        fs::create_dir(directory.path().join(below)).expect("a directory");
    }
    let base = directory.path().display();
    let config = configuration(directory.path()).replace("/out.log", "/out/out.log");
    let path = written(&directory.path().join("etc"), "c.yaml", &config);
    set_mode(Path::new(&path), 0o666);
    let read_only = |place: &str| format!("mount --bind {place} {place}; mount -o remount,bind,ro {place}; ");
    let writable = |place: &str| format!("mount --bind {place} {place}; ");
    let run = |mounts: &str| {
        let script =
            format!("mount --make-rprivate /; {mounts} exec {} run -c {path}", env!("CARGO_BIN_EXE_tailwater"));
        let lines = written(directory.path(), "lines", "a line\n");
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-ec", &script]).stdin(fs::File::open(lines).expect("the lines"));
        unshare.output().expect("unshare is there")
    };
    // Mounts below one that becomes read-only stay as they are.
    let service = format!(
        "mount --bind {base} {base}; cd {base}; {}{}mount -o remount,bind,ro {base};",
        writable(&format!("{base}/data")),
        writable(&format!("{base}/out"))
    );
    let refused = run(&service);
    let said = told(&refused);
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(said.contains("every user can write to it (its mode is 0666)"), "{said}");
    let volume = run(&read_only(&format!("{base}/etc")));
    assert_eq!(volume.status.code(), Some(0), "{}", told(&volume));
    assert!(!told(&volume).contains("can write to it"), "{}", told(&volume));
}

/// A service reads by its groups, sends with secrets of its environment, and has neither root's number nor a capability.
#[test]
fn ordinary_user_runs_no_configuration_that_every_user_can_write_to() {
    let directory = open_directory();
    let path = written(directory.path(), "c.yaml", &configuration(directory.path()));
    set_mode(Path::new(&path), 0o666);
    let output = match is_root() {
        true => {
            set_mode(directory.path(), 0o777);
            let own = written(directory.path(), "own.yaml", &configuration(directory.path()));
            chown(&own, Some(STRANGER), None).expect("root may");
            set_mode(Path::new(&own), 0o666);
            as_stranger(&["run", "-c", &own])
        }
        false => run(&path),
    };
    let said = told(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("every user can write to it") && said.contains("chmod o-w"), "{said}");
    assert!(!directory.path().join("data").exists(), "nothing was begun");
}

#[test]
fn others_who_own_or_can_replace_the_configuration_are_told() {
    let directory = open_directory();
    let place = directory.path().join("etc");
    fs::create_dir(&place).expect("a directory");
    let path = written(&place, "c.yaml", &configuration(directory.path()));
    let said = |checked: &str| told(&tailwater(&["validate", "-c", checked]));
    for (mode, is_told) in [(0o755, false), (0o777, true), (0o1777, false)] {
        set_mode(&place, mode);
        let said = said(&path);
        let expected = format!("{} can be written by every user, who can put another file", place.display());
        assert_eq!(said.contains(&expected), is_told, "{mode:o}: {said}");
        assert_eq!(said.contains("warning"), is_told, "{mode:o}: {said}");
    }
    if !is_root() {
        return eprintln!("not checked: a configuration of another user, which needs root");
    }
    set_mode(&place, 0o755);
    chown(&path, Some(STRANGER), None).expect("root may");
    assert!(said(&path).contains("it belongs to the user 65534"), "{}", said(&path));
    let started = run(&path);
    assert_eq!(started.status.code(), Some(0), "{}", told(&started));
    assert!(told(&started).contains("it belongs to the user 65534"), "{}", told(&started));
}

#[test]
fn others_who_can_change_certificates_and_tables_are_told() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path().display();
    for name in ["ca.pem", "cert.pem", "key.pem", "hosts.csv"] {
        written(directory.path(), name, "name,site\na,b\n");
    }
    let config = configuration(directory.path())
        .replace("outputs: [out]", &format!("transforms: [{{enrich: {{file: {base}/hosts.csv, key: {{name: message}}}}}}], outputs: [out, web]"))
        .replace("outputs: {out:", &format!("outputs: {{web: {{type: http, url: \"https://a/\", tls: {{ca_file: {base}/ca.pem, cert_file: {base}/cert.pem, key_file: {base}/key.pem}}}}, out:"));
    let path = written(directory.path(), "c.yaml", &config);
    for (name, what) in [
        ("ca.pem", "output `web`: the certificate "),
        ("cert.pem", "output `web`: the certificate "),
        ("key.pem", "output `web`: the private key "),
        ("hosts.csv", "pipeline `main`: the table of `enrich` "),
    ] {
        let file = directory.path().join(name);
        for (mode, is_told) in [(0o600, false), (0o602, true)] {
            set_mode(&file, mode);
            let output = tailwater(&["validate", "--no-files", "-c", &path]);
            let said = told(&output);
            assert_eq!(output.status.code(), Some(0), "{said}");
            assert_eq!(
                said.contains(&format!("{what}{}: every user can write to it", file.display())),
                is_told,
                "{mode:o}: {said}"
            );
        }
        set_mode(&file, 0o600);
    }
}
