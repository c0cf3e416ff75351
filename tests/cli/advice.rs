//! Advice that is followed as it is written: it must lead to a start, and not to the next error.

use crate::others::{STRANGER, as_stranger, assert_code, configuration, give_away, is_root, with_a_letter};
use crate::{command, tailwater, text, written};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn told(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

/// A directory that everybody can enter.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("its owner may");
    directory
}

#[test]
fn misspelt_component_is_told_who_has_dead_letters() {
    let directory = open_directory();
    with_a_letter(directory.path());
    let path = written(directory.path(), "c.yaml", &configuration(directory.path()));
    for verb in [&["cat"][..], &["purge"], &["purge", "--yes"], &["replay"]] {
        let with = |component: &str| {
            let own = ["-c", &path, "--component", component];
            told(&tailwater(&["dlq"].iter().chain(verb).chain(&own).copied().collect::<Vec<_>>()))
        };
        let said = with("uot");
        assert!(said.contains("no dead letter is of `uot`; there are some of: out"), "{verb:?}: {said}");
    }
    let found = told(&tailwater(&["dlq", "cat", "-c", &path, "--component", "out"]));
    assert!(found.contains("\"component\":\"out\"") && !found.contains("no dead letter is of"), "{found}");
}

#[test]
fn replay_that_is_refused_for_one_output_says_how_to_replay_the_others() {
    let directory = open_directory();
    let base = directory.path().display();
    let config = configuration(directory.path()).replace("outputs: [out]", "outputs: [out, second]");
    let second = format!(
        "  second: {{type: file, path: \"{base}/out/2/{{{{ name | default('none') }}}}.log\", max_paths: 1}}\n"
    );
    let first = written(directory.path(), "first.yaml", &(config.clone() + &second));
    let lines = written(directory.path(), "lines", "{\"name\":\"a\"}\n{\"name\":\"b\"}\n");
    let mut run = command(&["run", "-c", &first]);
    let output = run.stdin(fs::File::open(lines).expect("the lines")).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let path = written(directory.path(), "c.yaml", &(config + "  second: {type: blackhole}\n"));
    let refused = assert_code(&tailwater(&["dlq", "replay", "-c", &path]), 1, "`out` writes files");
    assert!(refused.contains("the output `out` writes files"), "{refused}");
    assert!(refused.contains("replay the letters of the other outputs with `--component second`, or"), "{refused}");
    let replayed = tailwater(&["dlq", "replay", "-c", &path, "--component", "second"]);
    assert!(assert_code(&replayed, 0, "it is as advised").contains("1 letter replayed: 1 delivered"));
    let alone = assert_code(&tailwater(&["dlq", "replay", "-c", &path]), 1, "`out` is left");
    assert!(!alone.contains("the other outputs"), "{alone}");
}

#[test]
fn missing_directory_of_an_output_is_to_be_made() {
    if !is_root() {
        return eprintln!("not checked: directories of root, which need root");
    }
    let directory = open_directory();
    let config = configuration(directory.path()).replace("/out/", "/srv/logs/");
    let path = written(directory.path(), "c.yaml", &config);
    let missing = directory.path().join("srv");
    let said = told(&as_stranger(&["validate", "-c", &path]));
    assert!(said.contains(&format!("{} does not exist, and this user cannot create it", missing.display())), "{said}");
    assert!(said.contains(&format!("install -d -o USER -g GROUP -m 750 {}", missing.display())), "{said}");
    fs::create_dir(&missing).expect("root may");
    give_away(&missing, STRANGER);
    let said = told(&as_stranger(&["validate", "-c", &path]));
    assert!(!said.contains("does not exist"), "{said}");
}

/// Root looks at what the service's user owns.
#[test]
fn doctor_of_root_says_once_how_to_check_a_directory_of_the_service() {
    if !is_root() {
        return eprintln!("not checked: directories of another user, which need root");
    }
    let directory = open_directory();
    fs::create_dir(directory.path().join("out")).expect("root may");
    give_away(&directory.path().join("out"), STRANGER);
    let again = format!("  more: {{type: file, path: {}/out/more.log}}\n", directory.path().display());
    let config = configuration(directory.path()).replace("outputs: [out]", "outputs: [out, more]") + &again;
    let path = written(directory.path(), "c.yaml", &config);
    let said = text(&tailwater(&["doctor", "-c", &path]).stdout);
    let found = said.matches("belongs to the user with the number 65534, who can replace").count();
    assert_eq!(found, 1, "{said}");
    assert!(said.contains("fix: if that user runs Tailwater, check as that user: "), "{said}");
}

#[test]
fn port_that_needs_a_capability_is_told_so() {
    let first = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if !is_root() || first.trim().parse().is_ok_and(|first: u16| first <= 960) {
        return eprintln!("not checked: a port that needs a capability, which needs root, and a host with such ports");
    }
    let directory = open_directory();
    for name in ["data", "out"].map(|name| directory.path().join(name)) {
        fs::create_dir(&name).expect("root may");
        give_away(&name, STRANGER);
    }
    let idle = format!("inputs: {{lines: {{type: file, include: [\"{}/*.log\"]}}}}\n", directory.path().display());
    let config = configuration(directory.path()).replace("admin: false", "admin: {listen: \"127.0.0.1:960\"}");
    let inputs = config.lines().skip_while(|line| *line != "inputs:").take(2).collect::<Vec<_>>().join("\n") + "\n";
    let path = written(directory.path(), "c.yaml", &config.replace(&inputs, &idle));
    let said = assert_code(&as_stranger(&["run", "-c", &path]), 1, "it cannot listen");
    assert!(said.contains("CAP_NET_BIND_SERVICE") && said.contains("127.0.0.1:960"), "{said}");
}

#[test]
fn doctor_compares_the_limit_of_open_files_with_the_configuration() {
    let directory = open_directory();
    let names = ["b", "c", "d", "e", "f", "g"];
    let more = names.map(|name| {
        let base = directory.path().display();
        format!("  {name}: {{type: file, path: \"{base}/{name}/{{{{ name | default('none') }}}}.log\", max_paths: 2000, max_open_files: 1024}}\n")
    });
    let all = format!("outputs: [out, {}]", names.join(", "));
    let many = configuration(directory.path()).replace("outputs: [out]", &all) + &more.concat();
    let path = written(directory.path(), "c.yaml", &many);
    let of = |path: &str| -> String {
        let script = format!("ulimit -n 5000 && exec {} doctor -c {path}", env!("CARGO_BIN_EXE_tailwater"));
        let output = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).output().expect("a shell");
        let said = text(&output.stdout);
        let of_files = |line: &&str| line.contains(" open files ") && !line.starts_with(' ');
        said.lines().filter(of_files).collect::<Vec<_>>().join("\n")
    };
    let said = of(&path);
    assert!(
        said.starts_with("warning ") && said.contains("files may be open") && said.contains("limit is 5000"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    let few = written(Path::new(directory.path()), "few.yaml", &configuration(directory.path()));
    assert!(of(&few).starts_with("ok "), "{}", of(&few));
}
