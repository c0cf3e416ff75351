//! Files that are shared: by two outputs, by two processes, with other programs, and by an input that would read its own
//! events.

use crate::case::Case;
use crate::lines::block;
use crate::metrics;
use crate::output_holders::Holder;
use crate::product::{Product, binary, run_to_end, text};
use crate::running::append;
use crate::wait::wait_for;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A configuration with these inputs and outputs, each in one line, all of them in one pipeline.
fn configure(case: &Case, data: &str, inputs: &[&str], outputs: &[&str]) -> PathBuf {
    let name = |line: &&str| line.split(':').next().unwrap_or_default().to_owned();
    let names = |lines: &[&str]| lines.iter().map(name).collect::<Vec<_>>().join(", ");
    let lines = |lines: &[&str]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let config = format!(
        "data_dir: \"{}\"\nshards: 1\nadmin: {{listen: \"127.0.0.1:{}\"}}\ndrain_timeout: 20s\ninputs:\n{}pipelines:\n  \
         main: {{inputs: [{}], outputs: [{}]}}\noutputs:\n{}",
        case.path(data).display(),
        if data == "data" { case.admin_port } else { 0 },
        lines(inputs),
        names(inputs),
        names(outputs),
        lines(outputs),
    );
    let folder = case.path("").display().to_string();
    case.write(&format!("{data}.yaml"), config.replace("FOLDER/", &folder).as_bytes())
}

const RETRY: &str = "retry: {initial: 20ms, max: 200ms}";

fn lines_of(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn wait_for_lines(path: &Path, lines: usize, product: &mut Product) {
    wait_for(&format!("{lines} lines in {}", path.display()), || match lines_of(path).len() {
        now if now >= lines => Ok(()),
        now => Err(format!("{now}; {}", product.state())),
    });
}

#[test]
fn two_outputs_with_the_same_path_write_whole_lines_in_turn() {
    let case = Case::new("meeting");
    let one = format!("one: {{type: file, path: \"FOLDER/out/{{{{ a }}}}.log\", {RETRY}}}");
    let all = format!("all: {{type: file, path: \"FOLDER/out/all.log\", {RETRY}}}");
    let input = "in: {type: file, include: [\"FOLDER/logs/*.log\"], parse: json}";
    let config = configure(&case, "data", &[input], &[&one, &all]);
    let mut product = Product::start(&case, &config);
    product.expect("has it open for writing");
    let mut written = 0;
    for _ in 0..20 {
        let lines: String = (0..20)
            .map(|n| format!("{{\"a\":\"{}\",\"i\":{}}}\n", if n % 2 == 0 { "all" } else { "b" }, written + n))
            .collect();
        written += 20;
        append(&case.path("logs/a.log"), lines.as_bytes());
        wait_for_lines(&case.path("out/all.log"), written * 3 / 2, &mut product);
    }
    let metric = metrics::get(case.admin_port, "/metrics").expect("the metrics").1;
    assert!(metric.contains("tailwater_output_held_files_total{"), "{metric}");
    product.terminate();
    let values = lines_of(&case.path("out/all.log"));
    let numbers: Vec<i64> = values
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).expect("a whole line")["i"].as_i64().expect("its number")
        })
        .collect();
    for number in 0..written as i64 {
        let times = numbers.iter().filter(|other| **other == number).count();
        assert_eq!(times, if number % 2 == 0 { 2 } else { 1 }, "line {number}");
    }
}

#[test]
fn equal_paths_of_two_outputs_are_rejected_also_through_a_link() {
    let case = Case::new("equal");
    fs::create_dir(case.path("out/real")).expect("a folder");
    std::os::unix::fs::symlink(case.path("out/real"), case.path("out/link")).expect("a link");
    let input = "in: {type: stdin}";
    let output = |name: &str, path: &str| format!("{name}: {{type: file, path: \"FOLDER/out/{path}\"}}");
    for (one, other) in [
        ("real/x.log", "real/x.log"),
        ("real/x.log", "link/x.log"),
        ("real/new/x.log", "link/new/x.log"),
        ("real/{{ host }}.log", "link/{{ host }}.log"),
        ("real/%F.log", "link/%F.log"),
    ] {
        let config = configure(&case, "data", &[input], &[&output("one", one), &output("other", other)]);
        let refused = run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]);
        let said = text(&refused.stderr);
        assert!(!refused.status.success(), "{one} {other}: {said}");
        assert!(said.contains("the outputs `one` and `other` write to the same file"), "{one} {other}: {said}");
    }
    let rotated = output("other", "real/x.log").replace('}', ", rotate: {bytes: 1MiB, keep: 3}}");
    let config = configure(&case, "data", &[input], &[&output("one", "real/x.log.3"), &rotated]);
    let said = text(&run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]).stderr);
    assert!(said.contains("is a name that a rotated file gets"), "{said}");
}

#[test]
fn file_that_another_process_holds_is_waited_for_and_its_holder_is_named() {
    let case = Case::new("held");
    let path = case.path("out/x.log");
    File::create(&path).expect("a file");
    let held = Holder::of(&path);
    let output = format!("out: {{type: file, path: \"FOLDER/out/x.log\", {RETRY}}}");
    let input = "in: {type: file, include: [\"FOLDER/logs/*.log\"]}";
    let config = configure(&case, "data", &[input], &[&output]);
    append(&case.path("logs/a.log"), &block(1, 10));
    let mut product = Product::start(&case, &config);
    product.expect("has it open for writing");
    let process = format!("process {} (perl)", held.id());
    product.wait_for_log(&["cannot open", &process]);
    assert_eq!(lines_of(&path).len(), 0);
    drop(held);
    wait_for_lines(&path, 10, &mut product);
    // Another Tailwater with the same configuration waits, and takes over new lines when this one has ended.
    let second = configure(&case, "second", &[&input.replace("logs", "others")], &[&output]);
    fs::create_dir(case.path("others")).expect("a folder");
    append(&case.path("others/b.log"), &block(11, 20));
    let mut other = Product::start(&case, &second);
    other.expect("has it open for writing");
    other.wait_for_log(&["cannot open", &format!("process {}", product.id())]);
    product.terminate();
    wait_for_lines(&path, 20, &mut other);
    other.terminate();
    assert_eq!(lines_of(&path).len(), 20);
}

/// The kernel releases the lock of a killed process a moment after its end; the test holds it in its place.
#[test]
fn file_that_is_still_locked_at_a_start_is_waited_for_without_a_warning() {
    let case = Case::new("late");
    let path = case.path("out/x.log");
    let output = format!("out: {{type: file, path: \"FOLDER/out/x.log\", {RETRY}}}");
    let input = "in: {type: file, include: [\"FOLDER/logs/*.log\"]}";
    let config = configure(&case, "data", &[input], &[&output]);
    append(&case.path("logs/a.log"), &block(1, 10));
    let mut product = Product::start(&case, &config);
    wait_for_lines(&path, 10, &mut product);
    product.kill();
    let held = Holder::of(&path);
    append(&case.path("logs/a.log"), &block(11, 20));
    let mut product = Product::start(&case, &config);
    product.wait_for_log(&["has it open for writing; waiting for up to 5s"]);
    drop(held);
    wait_for_lines(&path, 20, &mut product);
    product.terminate();
    assert_eq!(lines_of(&path).len(), 20);
}

#[test]
fn other_programs_may_append_to_and_truncate_a_file_while_it_is_written() {
    let case = Case::new("foreign");
    let path = case.path("out/x.log");
    let output = format!("out: {{type: file, path: \"FOLDER/out/x.log\", encode: text, {RETRY}}}");
    let config = configure(&case, "data", &["in: {type: file, include: [\"FOLDER/logs/*.log\"]}"], &[&output]);
    let mut product = Product::start(&case, &config);
    product.expect("another program wrote");
    product.expect("by another program");
    append(&case.path("logs/a.log"), &block(1, 1000));
    wait_for_lines(&path, 1000, &mut product);
    // Both at once: neither overwrites the other.
    let mut theirs = OpenOptions::new().append(true).open(&path).expect("it is there");
    for round in 0..100u64 {
        append(&case.path("logs/a.log"), &block(1001 + round * 50, 1050 + round * 50));
        for _ in 0..20 {
            theirs.write_all(b"theirs\n").expect("it writes");
        }
    }
    wait_for_lines(&path, 6000 + 2000, &mut product);
    let lines = lines_of(&path);
    assert_eq!(lines.iter().filter(|line| *line == "theirs").count(), 2000);
    assert_eq!(lines.len(), 8000);
    assert!(lines.iter().all(|line| line == "theirs" || crate::lines::number(line).is_some()), "a line is torn");
    File::create(&path).expect("it is cut");
    append(&case.path("logs/a.log"), &block(6001, 6100));
    wait_for_lines(&path, 100, &mut product);
    assert!(!fs::read(&path).expect("it is there").contains(&0), "there is a hole");
    let reasons = metrics::get(case.admin_port, "/metrics").expect("the metrics").1;
    for reason in ["written", "truncated"] {
        let of = |line: &&str| line.starts_with("tailwater_output_file_changes_total") && line.contains(reason);
        assert!(reasons.lines().find(of).is_some_and(|line| !line.ends_with(" 0")), "{reason}: {reasons}");
    }
    product.terminate();
}

#[test]
fn input_that_would_read_its_own_events_is_rejected_if_that_is_certain() {
    let case = Case::new("loop");
    std::os::unix::fs::symlink(case.path("logs"), case.path("link")).expect("a link");
    let refused = |include: &str, path: &str, more: &str| {
        let input = format!("in: {{type: file, include: [\"FOLDER/{include}\"]{more}}}");
        let output = format!("out: {{type: file, path: \"FOLDER/{path}\", rotate: {{bytes: 1MiB}}}}");
        let config = configure(&case, "data", &[&input], &[&output]);
        let ended = run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]);
        (!ended.status.success(), text(&ended.stderr))
    };
    for (include, path) in [
        ("logs/*.log", "logs/out.log"),
        ("logs/**", "logs/deep/out.log"),
        ("logs/*.log", "logs/%F.log"),
        ("logs/*.1", "logs/out.log"),
        ("link/*.log", "logs/out.log"),
        ("logs/*.log", "link/out.log"),
    ] {
        let (is_refused, said) = refused(include, path, "");
        assert!(is_refused && said.contains("an endless loop"), "{include} {path}: {said}");
    }
    let (is_refused, said) = refused("logs/*.log", "logs/out.log", ", exclude: [\"FOLDER/logs/out.*\"]");
    assert!(!is_refused, "{said}");
    let (is_refused, said) = refused("logs/*.log", "logs/{{ host }}.log", "");
    assert!(!is_refused && said.contains("may find files of the output `out`"), "{said}");
}

#[test]
fn input_skips_the_files_that_its_output_writes() {
    let case = Case::new("own");
    let input = "in: {type: file, include: [\"FOLDER/logs/*\"], parse: json}";
    let output = format!(
        "out: {{type: file, path: \"FOLDER/logs/{{{{ a }}}}.log\", {RETRY}, rotate: {{bytes: 2000, keep: 100}}}}"
    );
    let config = configure(&case, "data", &[input], &[&output]);
    let lines: String = (0..100).map(|i| format!("{{\"a\":\"out\",\"i\":{i}}}\n")).collect();
    append(&case.path("logs/source"), lines.as_bytes());
    let mut product = Product::start(&case, &config);
    product.expect("it is skipped");
    product.expect("it is no longer read");
    product.expect("similar lines");
    product.wait_for_log(&["out.log", "the output `out` writes it"]);
    append(&case.path("logs/source"), b"{\"a\":\"last\"}\n");
    wait_for_lines(&case.path("logs/last.log"), 1, &mut product);
    let sent = metrics::sum(case.admin_port, "tailwater_component_sent_events_total", &["component_id=\"out\""]);
    product.terminate();
    let written: usize = fs::read_dir(case.path("logs"))
        .expect("logs/")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.ends_with("source"))
        .map(|path| lines_of(&path).len())
        .sum();
    assert_eq!(written, 101, "{sent:?} events sent");
}

/// Two inputs and two outputs whose paths depend on events, so that only the files show the ring. A chain goes on.
#[test]
fn ring_through_several_files_is_broken_where_it_would_close() {
    let case = Case::new("ring");
    let folder = case.path("").display().to_string();
    let config = case.write(
        "ring.yaml",
        format!(
            "data_dir: {folder}data\nshards: 1\nadmin: {{listen: \"127.0.0.1:{}\"}}\ninputs:\n  \
             a: {{type: file, include: [{folder}logs/y-*.log], parse: json}}\n  \
             b: {{type: file, include: [{folder}logs/x-*.log], parse: json}}\n  \
             c: {{type: file, include: [{folder}logs/z-*.log], parse: json}}\npipelines:\n  \
             ab: {{inputs: [a], outputs: [x]}}\n  ba: {{inputs: [b], outputs: [y, z]}}\n  cd: {{inputs: [c], outputs: [end]}}\n\
             outputs:\n  x: {{type: file, path: \"{folder}logs/{{{{ v }}}}-1.log\"}}\n  \
             y: {{type: file, path: \"{folder}logs/{{{{ w }}}}-1.log\"}}\n  \
             z: {{type: file, path: \"{folder}logs/z-1.log\"}}\n  end: {{type: file, path: {folder}out/end.log}}\n",
            case.admin_port
        )
        .as_bytes(),
    );
    append(&case.path("logs/y-0.log"), b"{\"v\":\"x\",\"w\":\"y\"}\n");
    let mut product = Product::start(&case, &config);
    product.expect("");
    product.wait_for_log(&["y-1.log", "the output `y` writes it", "through files that other inputs read"]);
    wait_for_lines(&case.path("out/end.log"), 1, &mut product);
    product.terminate();
    for file in ["logs/x-1.log", "logs/y-1.log", "logs/z-1.log", "out/end.log"] {
        assert_eq!(lines_of(&case.path(file)).len(), 1, "{file}");
    }
}

#[test]
fn pipe_at_the_path_of_a_file_is_a_mistake_and_blocks_nothing() {
    let case = Case::new("pipe");
    let made = Command::new("mkfifo").arg(case.path("out/p")).status().expect("mkfifo");
    assert!(made.success());
    let input = "in: {type: file, include: [\"FOLDER/logs/*.log\"], parse: json}";
    let config = configure(&case, "data", &[input], &["out: {type: file, path: \"FOLDER/out/{{ a }}\"}"]);
    append(&case.path("logs/a.log"), b"{\"a\":\"p\"}\n{\"a\":\"fine\"}\n");
    let mut product = Product::start(&case, &config);
    product.expect("dead letter");
    product.expect("cannot create a file at");
    wait_for_lines(&case.path("out/fine"), 1, &mut product);
    product.terminate();
    for (path, what) in [("out/p", "a named pipe"), ("out", "is a directory"), ("logs/a.log/x", "is not a directory")] {
        let config = configure(
            &case,
            "data",
            &["in: {type: stdin}"],
            &[&format!("out: {{type: file, path: \"FOLDER/{path}\"}}")],
        );
        let ended = run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]);
        let said = text(&ended.stderr);
        assert!(!ended.status.success() && said.contains(what), "{path}: {said}");
    }
    let config = configure(&case, "data", &["in: {type: stdin}"], &["out: {type: file, path: /dev/null}"]);
    let ended = Command::new(binary()).args(["validate", "-c"]).arg(config).output().expect("it runs");
    assert!(text(&ended.stderr).contains("`console`, `blackhole`"), "{}", text(&ended.stderr));
}

#[test]
fn files_are_created_with_the_configured_mode() {
    use std::os::unix::fs::PermissionsExt;
    let case = Case::new("mode");
    let input = "in: {type: file, include: [\"FOLDER/logs/*.log\"]}";
    let config = configure(&case, "data", &[input], &["out: {type: file, path: \"FOLDER/out/x\", mode: \"0666\"}"]);
    append(&case.path("logs/a.log"), &block(1, 1));
    let mut product = Product::start(&case, &config);
    wait_for_lines(&case.path("out/x"), 1, &mut product);
    product.terminate();
    assert_eq!(fs::metadata(case.path("out/x")).expect("it is there").permissions().mode() & 0o7777, 0o666);
    for (settings, what) in [
        ("mode: \"0999\"", "is not a mode"),
        ("mode: \"0040\"", "keeps the owner"),
        ("group: no-such-group-here", "there is no group"),
    ] {
        let output = format!("out: {{type: file, path: \"FOLDER/out/x\", {settings}}}");
        let config = configure(&case, "data", &["in: {type: stdin}"], &[&output]);
        let said = text(&run_to_end(&["validate", "-c", config.to_str().expect("UTF-8")]).stderr);
        assert!(said.contains(what), "{settings}: {said}");
    }
}
