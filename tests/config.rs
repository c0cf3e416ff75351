//! Configurations as users write them, valid and invalid, and the exact messages about them. A case is
//! `tests/config/NAME.yaml` with `NAME.txt` beside it. `TAILWATER_BLESS=1 cargo test --test config` rewrites the text files;
//! review them before you commit.

use std::path::{Path, PathBuf};
use tailwater::config::types::ByteSize;
use tailwater::config::{self, Circumstances};
use tailwater_shards::glommio_env::{GlommioEnv, RealDisk};
use tailwater_shards::limits;

/// The variables that the cases may use.
fn variable(name: &str) -> Option<String> {
    match name {
        "LOG_DIR" => Some("/var/log/app".to_owned()),
        "EMPTY" => Some(String::new()),
        "SHARDS" => Some("2".to_owned()),
        "SECRET" => Some("hunter2: }{ [".to_owned()),
        _ => None,
    }
}

fn here() -> Circumstances {
    Circumstances { data_dir: None, cpus: 2 }
}

fn told(file: &str, bytes: Vec<u8>) -> String {
    match config::load::<GlommioEnv>(file, bytes, &variable, &here()) {
        Err(refused) => format!("refused\n\n{}", refused.report.render(false)),
        Ok(loaded) => format!("accepted\n\n{}{}", loaded.warnings.render(false), loaded.plan.summary::<GlommioEnv>()),
    }
}

fn cases() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config");
    let entries = std::fs::read_dir(directory).expect("tests/config is a directory");
    let paths = entries.map(|entry| entry.expect("an entry of tests/config").path());
    let mut cases: Vec<PathBuf> = paths.filter(|path| path.extension().is_some_and(|end| end == "yaml")).collect();
    cases.sort();
    cases
}

fn check(name: &str, told: &str, expected_path: &Path, wrong: &mut Vec<String>) {
    // The ends of lines have padding, which editors remove.
    let told: String = told.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    let told = format!("{}\n", told.trim_end());
    if std::env::var_os("TAILWATER_BLESS").is_some() {
        std::fs::write(expected_path, &told).expect("the expectation can be written");
    }
    let expected = std::fs::read_to_string(expected_path).unwrap_or_default();
    if told != expected {
        wrong.push(format!("---- {name}: expected\n{expected}---- told\n{told}"));
    }
}

#[test]
fn every_case_gets_exactly_the_expected_messages() {
    let cases = cases();
    assert!(cases.len() >= 20, "only {} cases were found", cases.len());
    let mut wrong = Vec::new();
    for path in &cases {
        let name = path.file_name().and_then(|name| name.to_str()).expect("case names are UTF-8");
        let bytes = std::fs::read(path).expect("a case can be read");
        check(name, &told(name, bytes), &path.with_extension("txt"), &mut wrong);
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn the_value_of_a_variable_is_never_shown() {
    for path in cases() {
        let told = told("case.yaml", std::fs::read(&path).expect("a case can be read"));
        assert!(!told.contains("hunter2"), "{}: {told}", path.display());
    }
}

/// Without quotes, a reference in `{}` is not YAML.
#[test]
fn a_variable_in_quotes_is_a_number_or_a_bool_where_one_is_expected() {
    let text = |reference: &str| {
        format!(
            "shards: \"{reference}\"\nwal: {{max_bytes: \"${{BYTES}}\", sync: \"{reference}s\"}}\ninputs: {{app: {{type: stdin}}}}\n\
             pipelines: {{main: {{inputs: [app], outputs: [out]}}}}\n\
             outputs: {{out: {{type: http, url: \"http://a/\", batch: {{max_events: \"{reference}\"}}}}}}\n"
        )
    };
    let lookup = |name: &str| match name {
        "BYTES" => Some("4294967296".to_owned()),
        name => variable(name),
    };
    let load = |text: String| config::load::<GlommioEnv>("case.yaml", text.into_bytes(), &lookup, &here());
    let loaded = load(text("${SHARDS}")).map_err(|refused| refused.report.render(false)).expect("accepted");
    assert_eq!(loaded.plan.shard_count, 2);
    let refused = load(text("${SECRET}")).err().expect("no number").report.render(false);
    assert!(refused.contains("case.yaml:5:") && !refused.contains("hunter2"), "{refused}");
    let refused = load(text("2")).err().expect("a text").report.render(false);
    assert!(refused.contains("this is the string `2`"), "what the file itself says stays strict: {refused}");
}

/// The messages about a configuration, including the files that it names.
fn told_with_files(text: &str) -> Result<(), String> {
    let disk = RealDisk::new();
    let checked = config::check::<GlommioEnv>("case.yaml", text.as_bytes().to_vec(), &variable, &here(), &disk);
    checked.map(drop).map_err(|refused| refused.report.render(false))
}

#[test]
fn every_file_that_a_start_would_read_is_checked_in_one_run() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().display();
    let table = directory.path().join("hosts.csv");
    std::fs::write(&table, "name,team\na,x\n").expect("written");
    std::fs::write(directory.path().join("no.pem"), "nothing").expect("written");
    let text = format!(
        r#"
inputs:
  app: {{type: file, include: [/var/log/*.log]}}
pipelines:
  main:
    inputs: [app]
    transforms:
      - enrich: {{file: {path}/hosts.csv, key: {{name: host}}}}
      - enrich: {{file: {path}/hosts.csv, key: {{address: host}}}}
      - if: has(a)
        then: [{{remove: [b]}}, {{enrich: {{file: {path}/none.csv, key: {{name: host}}}}}}]
        else: [{{enrich: {{geoip: {path}/no.pem, field: ip, to: geo}}}}]
    outputs: [web, search, plain]
outputs:
  web:
    type: http
    url: https://127.0.0.1/
    tls: {{ca_file: {path}/ca.pem, cert_file: {path}/cert.pem, key_file: {path}/no.pem}}
  search: {{type: elasticsearch, endpoints: ["https://127.0.0.1"], index: a, tls: {{ca_file: {path}/no.pem}}}}
  plain: {{type: http, url: "http://127.0.0.1/"}}
  spare: {{type: http, url: "https://127.0.0.1/", tls: {{ca_file: {path}/spare.pem}}}}
"#
    );
    let told = told_with_files(&text).expect_err("refused");
    for (place, what) in [
        ("case.yaml:9:", "its first line has no column `address`, but 2 other columns"),
        ("case.yaml:11:", "none.csv: No such file"),
        ("case.yaml:12:", "it is not a MaxMind file"),
        ("case.yaml:18:", "ca.pem cannot be read: No such file"),
        ("case.yaml:18:", "cert.pem cannot be read: No such file"),
        ("case.yaml:18:", "no.pem contains no valid private key"),
        ("case.yaml:19:", "no.pem contains no certificate in PEM format"),
    ] {
        assert!(told.contains(place) && told.contains(what), "{place} {what}\n{told}");
    }
    assert_eq!(told.matches("error: ").count(), 7, "{told}");
    // What can be read and is not right needs other help than what cannot be read.
    for help in ["as its first line does", "download the file again", "PEM files", "the user that runs Tailwater"] {
        assert!(told.contains(help), "{help}\n{told}");
    }
    assert!(!told.contains("spare.pem cannot"), "no start opens what nothing uses\n{told}");
    // None of this prevents the file itself from being parsed.
    let loaded = config::load::<GlommioEnv>("case.yaml", text.into_bytes(), &variable, &here());
    assert!(loaded.is_ok(), "{:?}", loaded.err());
}

#[test]
fn a_missing_file_is_told_at_its_transform_whatever_else_is_wrong() {
    let text = r#"
inputs:
  app: {type: stdin}
pipelines:
  main:
    inputs: [app]
    transforms:
      - throttle: {key: a}
      - dorp: x
      - grok: {match: x}
      - if: has(
        do: []
        then:
          - mutate: {}
          - enrich: {file: /nonexistent/1.csv, key: {name: host}}
      - remove: [x]
      - keep: [a.b]
      - enrich: {file: /nonexistent/2.csv, key: {name: host}, add: {x: "a..b"}}
      - enrich: {file: /nonexistent/3.csv, key: {name: host}}
  more:
    transforms:
      - enrich: {file: /nonexistent/4.csv, key: {name: host}}
outputs:
  out: {type: console}
  es: {type: elasticsearch, endpoints: ["https://a", "b"], tls: {ca_file: /nonexistent/5.pem}}
"#;
    let told = told_with_files(text).expect_err("refused");
    for (file, line) in [("1.csv", 15), ("2.csv", 18), ("3.csv", 19), ("4.csv", 22), ("5.pem", 25)] {
        let finding = told.split("\n\n").find(|one| one.lines().next().is_some_and(|first| first.contains(file)));
        let finding = finding.unwrap_or_else(|| panic!("{file} is not told about:\n{told}"));
        assert!(finding.contains(&format!("case.yaml:{line}:")), "{file}:\n{finding}");
    }
}

#[test]
fn mistakes_in_the_file_do_not_hide_those_in_files_that_it_names() {
    let told = told_with_files(
        "inputs:\n  app: {type: stdin}\npipelines:\n  main: {inputs: [app], outputs: 7}\noutputs:\n  \
         web: {type: http, url: \"https://127.0.0.1/\", concurrency: 0, tls: {ca_file: /nonexistent/ca.pem}}\n",
    );
    let told = told.expect_err("refused");
    for what in ["a list, such as [a, b]", "0 is not between 1 and 64", "/nonexistent/ca.pem cannot be read"] {
        assert!(told.contains(what), "{what}\n{told}");
    }
}

#[test]
fn certificates_and_keys_must_match() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let made = || rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let (own, other) = (made(), made());
    let certificate = written("cert.pem", own.cert.pem());
    let key = written("key.pem", own.signing_key.serialize_pem());
    let other_key = written("other.pem", other.signing_key.serialize_pem());
    let told = |key: &str| {
        told_with_files(&format!(
            "inputs:\n  app: {{type: stdin}}\npipelines:\n  main: {{inputs: [app], outputs: [web]}}\noutputs:\n  \
             web: {{type: http, url: \"https://127.0.0.1/\", tls: {{ca_file: {certificate}, cert_file: {certificate}, \
             key_file: {key}}}}}\n"
        ))
    };
    assert_eq!(told(&key), Ok(()));
    let refused = told(&other_key).expect_err("another key");
    assert!(refused.contains(&format!("{certificate} and {other_key}: ")), "{refused}");
}

#[test]
fn huge_file_is_rejected_without_being_read_completely() {
    let path = std::env::temp_dir().join(format!("tailwater-huge-{}.yaml", std::process::id()));
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file can be made");
    let result = config::load_file::<GlommioEnv>(&path, &here(), &RealDisk::new());
    std::fs::remove_file(&path).expect("the file can be removed");
    let text = result.err().map(|refused| refused.report.render(false)).unwrap_or_default();
    assert!(text.contains("larger than 1048576 bytes"), "{text}");
}

#[test]
fn missing_file_or_directory_is_rejected() {
    for (path, part) in [("/nonexistent/tailwater.yaml", "check the path given with `-c`"), ("/tmp", "cannot be read")]
    {
        let result = config::load_file::<GlommioEnv>(Path::new(path), &here(), &RealDisk::new());
        let text = result.err().map(|refused| refused.report.render(false)).unwrap_or_default();
        assert!(text.contains(part) && text.contains(path), "{text}");
    }
}

#[test]
fn aliases_that_multiply_the_content_are_rejected() {
    let mut text = String::from("a: &a [x, x, x, x, x, x, x, x, x, x]\n");
    for (name, inner) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        text.push_str(&format!("{name}: &{name} [{}]\n", vec![format!("*{inner}"); 10].join(", ")));
    }
    let told = told("bomb.yaml", text.into_bytes());
    assert!(told.contains("more than 200000 values"), "{told}");
}

#[test]
fn any_prefix_of_a_valid_file_is_handled_without_a_panic() {
    let good = include_bytes!("config/good_full.yaml");
    for end in 0..good.len() {
        let _ = told("cut.yaml", good[..end].to_vec());
        let mut flipped = good.to_vec();
        flipped[end] ^= 0x15;
        let _ = told("flipped.yaml", flipped);
    }
}

/// The plan on a machine with this many cores, or the errors.
fn planned(text: &str, cpus: usize) -> Result<config::Plan, String> {
    let here = Circumstances { data_dir: None, cpus };
    let loaded = config::load::<GlommioEnv>("case.yaml", text.as_bytes().to_vec(), &variable, &here);
    loaded.map(|loaded| loaded.plan).map_err(|refused| format!("{cpus} cores: {}", refused.report.render(false)))
}

#[test]
fn default_sizes_are_accepted_on_any_machine() {
    let rest = "pipelines: {main: {inputs: [app], outputs: [none]}}\noutputs: {none: {type: blackhole}}\n";
    // Machines may have more cores than a process may have shards.
    for cpus in 1..=limits::SHARDS_MAX + 44 {
        for line in ["256KiB", "1KiB", "4MiB"] {
            let input =
                format!("inputs: {{app: {{type: file, include: [/a], max_line_bytes: {line}, shard_by: spread}}}}\n");
            for sizes in ["", "wal: {type: memory}\n", "wal: {segment_bytes: 64MiB}\n", "dlq: {segment_bytes: 1GiB}\n"]
            {
                let plan = planned(&format!("{sizes}{input}{rest}"), cpus).expect(sizes);
                let (shards, wal) = (plan.shard_count as u64, plan.wal);
                assert_eq!(shards, cpus.min(limits::SHARDS_MAX) as u64);
                assert!(
                    wal.log_bytes / wal.segment_bytes >= 2 * limits::SEGMENTS_MIN,
                    "{cpus} cores, {sizes}: {wal:?}"
                );
                assert!(wal.log_bytes * shards <= limits::wal_bytes_default(plan.shard_count, wal.segment_bytes));
                assert!(plan.dead_letters.segment_bytes * 2 <= plan.dead_letters.bytes_max, "{cpus} cores, {sizes}");
            }
        }
    }
}

#[test]
fn default_sizes_are_unchanged_on_usual_machines() {
    let text = "inputs: {app: {type: file, include: [/a]}}\npipelines: {main: {inputs: [app], outputs: [none]}}\n\
        outputs: {none: {type: blackhole}}\n";
    let (segment_bytes, log_bytes, letters) = (32u64 << 20, 4u64 << 30, 1u64 << 30);
    for cpus in 1..=log_bytes / segment_bytes / (2 * limits::SEGMENTS_MIN) {
        let plan = planned(text, cpus as usize).expect("accepted");
        assert_eq!(plan.wal.segment_bytes, segment_bytes);
        assert_eq!(plan.wal.log_bytes, log_bytes / cpus / segment_bytes * segment_bytes);
        assert_eq!(plan.dead_letters.bytes_max, letters / cpus);
    }
}

#[test]
fn segments_shrink_to_the_reported_size_unless_the_longest_line_prevents_it() {
    let text = |bound: u64| {
        format!(
            "wal: {{max_bytes: {bound}}}\ninputs: {{app: {{type: file, include: [/a]}}}}\n\
            pipelines: {{main: {{inputs: [app], outputs: [none]}}}}\noutputs: {{none: {{type: blackhole}}}}\n"
        )
    };
    let least = limits::segment_bytes_for(limits::LINE_BYTES_DEFAULT);
    for cpus in [1, 2, 42, 43, 256] {
        let needed = least * limits::SEGMENTS_MIN * cpus as u64;
        let plan = planned(&text(needed), cpus).expect("the least is enough");
        assert_eq!(plan.wal.segment_bytes, least);
        let told = planned(&text(needed - 1), cpus).err().expect("refused");
        assert!(told.contains("`wal.max_bytes` is too small"), "{told}");
        assert!(told.contains(&format!("use at least {}", ByteSize(needed))), "{told}");
    }
}

/// Files that are shipped as examples work on every machine.
#[test]
fn the_examples_are_accepted_on_any_machine() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(examples).expect("deploy/examples is a directory") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|end| end != "yaml") {
            continue;
        }
        seen += 1;
        let text = std::fs::read_to_string(&path).expect("an example can be read");
        for cpus in [1, 2, 16, 22, 43, 64, 128, 256, 300] {
            let told = planned(&text, cpus).err().unwrap_or_default();
            assert!(told.is_empty(), "{}: {told}", path.display());
        }
    }
    assert!(seen > 2, "{seen} examples");
}

/// A test of a pipe hangs where it is opened like a file.
#[test]
fn a_pipe_a_device_and_a_directory_are_refused_at_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo is there");
    assert!(made.success());
    for (path, what) in [
        (pipe.as_path(), "it is a pipe, a device or a socket, not a regular file"),
        (Path::new("/dev/zero"), "it is a pipe, a device or a socket, not a regular file"),
        (directory.path(), "it is a directory, not a regular file"),
    ] {
        let refused = config::load_file::<GlommioEnv>(path, &here(), &RealDisk::new()).err();
        let told = refused.map(|refused| refused.report.render(false)).unwrap_or_default();
        assert!(told.contains(what) && told.contains("name a regular file"), "{}: {told}", path.display());
        let path = path.display();
        let text = format!(
            "inputs:\n  app: {{type: stdin}}\npipelines:\n  main:\n    inputs: [app]\n    transforms:\n      \
             - enrich: {{file: {path}, key: {{name: host}}}}\n    outputs: [web]\noutputs:\n  \
             web: {{type: http, url: \"https://127.0.0.1/\", tls: {{ca_file: {path}, cert_file: {path}, key_file: {path}}}}}\n"
        );
        let told = told_with_files(&text).expect_err("refused");
        assert_eq!(told.matches(what).count(), 4, "{path}: {told}");
    }
}

#[test]
fn what_aliases_and_variables_repeat_is_bounded_by_bytes() {
    let long = "x".repeat(100_000);
    let aliases = format!("a: &a {long}\nb: [{}]\n", ["*a"; 100].join(", "));
    let lists = format!("a: &a [[{long}]]\nb: [{}]\n", ["*a"; 100].join(", "));
    // Every level keeps a copy of all levels below it.
    let anchors: String = (0..30).map(|level| format!("&a{level} [")).collect();
    let levels = format!("a: {anchors}{}{}\n", "x".repeat(500_000), "]".repeat(30));
    let variables = format!("a: \"{}\"\n", "${LONG}".repeat(1_000));
    let lookup = |name: &str| (name == "LONG").then(|| long.clone());
    for (name, text) in [("aliases", aliases), ("lists", lists), ("levels", levels), ("variables", variables)] {
        let refused = config::load::<GlommioEnv>("case.yaml", text.into_bytes(), &lookup, &here()).err();
        let told = refused.map(|refused| refused.report.render(false)).unwrap_or_default();
        assert!(
            told.contains("more than 8388608 bytes of text") && told.contains("help: "),
            "{name}: {}",
            &told[..told.len().min(400)]
        );
    }
}
