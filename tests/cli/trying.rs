//! `try` and `test`: what they show, where, and with which exit code.

use crate::{command, text, written};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

const CONFIG: &str = r#"
data_dir: /nonexistent/data
inputs:
  app: {type: file, include: [/nonexistent/*.log], max_line_bytes: 100B, parse: json}
  other: {type: stdin}
pipelines:
  main:
    inputs: [app]
    transforms:
      - drop: level == "debug"
      - remove: [password]
      - if: status >= 500
        then: [{add: {alert: true}}]
        else: [{rename: {msg: message}}]
    outputs:
      - archive
      - {to: alerts, when: has(alert)}
  raw: {inputs: [app, other], outputs: [archive]}
outputs:
  archive: {type: file, path: /nonexistent/out/archive.log}
  alerts: {type: blackhole}
"#;

const TESTS: &str = r#"
tests:
  server errors raise an alert:
    {pipeline: main, events: [{status: 503, password: x}],
     expect: [{output: [archive, alerts], event: {alert: true, status: 503.0}}]}
  debug events go <nowhere> & are "dropped":
    {pipeline: main, events: [{level: debug}, {level: info}], expect: [{dropped: true}, {output: archive}]}
"#;

const WRONG: &str = r#"
  wrong:
    {pipeline: main, events: [{level: info, msg: hello}],
     expect: [{output: alerts, event: {level: info, message: bye, n: 1}}]}
"#;

fn fed(arguments: &[&str], lines: &str) -> Output {
    let mut child = command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("lines are taken");
    child.wait_with_output().expect("the binary ends")
}

fn tried(directory: &Path, more: &[&str], lines: &str) -> (Option<i32>, String, String) {
    let path = written(directory, "c.yaml", CONFIG);
    let arguments: Vec<&str> = ["try", "-c", &path].into_iter().chain(more.iter().copied()).collect();
    let output = fed(&arguments, lines);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The time zone of the process, of an input and of a transform: the most specific one counts.
#[test]
fn times_without_a_zone_use_the_most_specific_setting() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = r#"
data_dir: /nonexistent/data
timezone: "+01:00"
inputs:
  plain: {type: stdin, parse: json, fields: {timestamp: false, host: false}}
  berlin: {type: file, include: [/nonexistent/*.log], parse: json, timezone: Europe/Berlin}
pipelines:
  main:
    inputs: [plain, berlin]
    transforms:
      - convert: {t: timestamp, u: {to: timestamp, timezone: "-05:00"}}
    outputs: [o]
outputs: {o: {type: blackhole}}
"#;
    let path = written(directory.path(), "c.yaml", config);
    let line = "{\"t\":\"2026-07-29 10:00:00\",\"u\":\"2026-07-29 10:00:00\"}\n";
    for (input, expected) in [("plain", "09"), ("berlin", "08")] {
        let output = fed(&["try", "-c", &path, "--input", input, "--json"], line);
        let shown = text(&output.stdout);
        let whole = format!("\"t\":\"2026-07-29T{expected}:00:00Z\",\"u\":\"2026-07-29T15:00:00Z\"");
        assert!(shown.contains(&whole), "{input}: {shown} {}", text(&output.stderr));
    }
    let path = written(directory.path(), "c.yaml", &config.replace("Europe/Berlin", "Berlin"));
    let output = fed(&["validate", "-c", &path], "");
    assert_eq!(output.status.code(), Some(78));
    let told = text(&output.stderr);
    assert!(told.contains("unknown time zone `Berlin`") && told.contains("c.yaml:6"), "{told}");
}

#[test]
fn try_shows_what_each_transform_changed_and_the_outputs_of_the_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let long = "x".repeat(200);
    let lines = format!("{{\"status\":503,\"password\":\"p\"}}\n{{\"level\":\"debug\"}}\nno json\n{long}");
    let (code, shown, told) = tried(directory.path(), &["--input", "app", "--pipeline", "main"], &lines);
    assert_eq!(code, Some(0), "{told}");
    assert_eq!(told, "");
    assert!(!shown.contains('\u{1b}'), "colours in a pipe: {shown}");
    for part in [
        "event 1\n  received   {\"status\":503,\"password\":\"p\"}\n",
        "    1 drop: level == \"debug\"\n        ! failed: the event has no field `level` (no_such_key)\n",
        "    2 remove\n        - password: \"p\"\n",
        "    3 if: status >= 500 -> then\n      3.then.1 add\n          + alert: true\n",
        "    -> archive: accepts all events\n    -> alerts: has(alert) is true\n",
        "    1 drop: level == \"debug\" -> dropped\n",
        "  not parsed: it is not an object (at byte 0)\n",
        "    x  alerts: has(alert) is false\n",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
    assert!(shown.contains(&format!("event 4\n  received   {}\n", "x".repeat(100))), "cut by the input: {shown}");
    assert!(!shown.contains("pipeline raw"), "another pipeline was asked for: {shown}");
    assert!(!Path::new("/nonexistent").exists());
}

/// The value of a variable stays a value in conditions and templates, whatever it looks like, and no message shows it.
#[test]
fn variables_change_no_condition_and_no_template() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(
        directory.path(),
        "v.yaml",
        r#"
admin: false
inputs:
  app: {type: stdin, parse: json}
pipelines:
  main:
    inputs: [app]
    transforms:
      - drop: level == "${LEVEL}" || '${LEVEL}' == r"${LEVEL}x"
      - drop: status >= ${LEAST} || level == ${LEVEL}
      - add: {text: "${TEMPLATE} {{ level }} ${UNSET:-{{ level }}}"}
    outputs: [files]
outputs:
  files: {type: file, path: "/tmp/${TEMPLATE}/%Y.log"}
"#,
    );
    let (level, template) = (r#"a" || true || 'b' == "b"#, "{{ secret }} %H }} \\d");
    let run = |arguments: &[&str], lines: &str| {
        let mut command = command(arguments);
        command.env("LEVEL", level).env("LEAST", "500").env("TEMPLATE", template);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("lines are taken");
        let output = child.wait_with_output().expect("the binary ends");
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let events = serde_json::json!({"status": 499, "level": "x", "secret": "s"}).to_string()
        + "\n"
        + &serde_json::json!({"status": 500, "level": "x"}).to_string()
        + "\n"
        + &serde_json::json!({"status": 1, "level": level}).to_string();
    let (code, shown, told) = run(&["try", "-c", &path, "--json"], &events);
    assert_eq!((code, told.as_str()), (Some(0), ""), "{shown}");
    let ends: Vec<serde_json::Value> = shown
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["pipelines"][0].clone())
        .collect();
    assert_eq!(ends[0]["event"]["text"], format!("{template} x x"), "{shown}");
    assert_eq!((&ends[1]["dropped"], &ends[2]["dropped"]), (&"transform".into(), &"transform".into()), "{shown}");
    let (code, shown, told) = run(&["try", "-c", &path], "{\"status\":1,\"level\":\"y\"}\n");
    assert!(shown.contains(r#"level == "${LEVEL}" || '${LEVEL}' == r"${LEVEL}x""#), "{shown}");
    assert!(code == Some(0) && !(shown.clone() + &told).contains(level), "{shown}{told}");
    let (code, shown, told) = run(&["validate", "-c", &path], "");
    assert!(code == Some(0) && !(shown.clone() + &told).contains(level), "{shown}{told}");
}

#[test]
fn try_prints_one_json_object_per_event_for_programs() {
    let directory = tempfile::tempdir().expect("a directory");
    let (code, shown, told) = tried(directory.path(), &["--json", "--input=app"], "{\"status\":1e400}\nx\n");
    assert_eq!(code, Some(0), "{told}");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 2, "{shown}");
    // A number that no program can represent is printed as it was written.
    assert!(lines[0].contains("\"status\":1e400"), "{shown}");
    let second: serde_json::Value = serde_json::from_str(lines[1]).expect("JSON");
    assert_eq!(second["original"], "x");
    assert!(second["parse_error"].is_string());
    assert_eq!(second["pipelines"][0]["steps"][2]["holds"], false);
    assert_eq!(second["pipelines"][1]["pipeline"], "raw");
    assert_eq!(second["pipelines"][1]["event"]["message"], "x");
}

#[test]
fn try_asks_which_input_is_meant_and_names_them() {
    let directory = tempfile::tempdir().expect("a directory");
    for (more, parts) in [
        (&[][..], ["several inputs", "app, other"]),
        (&["--input", "app2"], ["no input `app2`", "app, other"]),
        (&["--pipeline", "mine"], ["no pipeline `mine`", "main, raw"]),
        (&["--pipeline", "main", "--input", "other"], ["`main` does not read the input `other`", "app"]),
    ] {
        let (code, shown, told) = tried(directory.path(), more, "");
        assert_eq!((code, shown.as_str()), (Some(64), ""), "{told}");
        assert!(parts.iter().all(|part| told.contains(part)), "{more:?}: {told}");
    }
}

#[test]
fn try_stops_after_ten_thousand_events_by_default() {
    let directory = tempfile::tempdir().expect("a directory");
    let lines = "{}\n".repeat(10_001);
    let count = |shown: &str| shown.lines().filter(|line| line.starts_with("{\"number\":")).count();
    let arguments = ["--json", "--input", "app", "--pipeline", "raw"];
    let (code, shown, told) = tried(directory.path(), &arguments, &lines);
    assert_eq!((code, count(&shown)), (Some(0), 10_000));
    assert!(told.contains("--all"), "{told}");
    let all: Vec<&str> = arguments.into_iter().chain(["--all"]).collect();
    let (_, shown, told) = tried(directory.path(), &all, &lines);
    assert_eq!((count(&shown), told.as_str()), (10_001, ""));
}

#[test]
fn test_ends_with_one_when_a_test_fails_and_shows_the_difference() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = written(directory.path(), "good.yaml", &format!("{CONFIG}{TESTS}"));
    let output = fed(&["test", "-c", &good], "");
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).ends_with("\n2 passed\n"), "{}", text(&output.stdout));
    let bad = written(directory.path(), "bad.yaml", &format!("{CONFIG}{TESTS}{WRONG}"));
    let output = fed(&["test", "-c", &bad], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in [
        "FAILED wrong\n  event 1: {\"level\":\"info\",\"msg\":\"hello\"}\n",
        "goes to archive, expected alerts\n",
        "alerts (not accepted): has(alert) is false\n",
        "- n: 1\n",
        "~ message: \"bye\" -> \"hello\"\n",
        "2 passed, 1 failed\n",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
    let line = format!("{CONFIG}{TESTS}{WRONG}").lines().count();
    assert!(shown.contains(&format!("expected at {bad}:{line}\n")), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours in a pipe: {shown}");
    let output = fed(&["test", "-c", &bad, "--filter", "alert"], "");
    assert_eq!(output.status.code(), Some(0), "the wrong one is left out");
    assert!(text(&output.stdout).ends_with("\n1 passed\n"), "{}", text(&output.stdout));
    let output = fed(&["test", "-c", &bad, "--filter", "no such"], "");
    assert_eq!(output.status.code(), Some(64));
    let broken = written(directory.path(), "broken.yaml", &format!("{CONFIG}{TESTS}  x: {{events: [a]}}\n"));
    assert_eq!(fed(&["test", "-c", &broken], "").status.code(), Some(78));
}

#[test]
fn test_says_why_a_transform_dropped_an_event() {
    let directory = tempfile::tempdir().expect("a directory");
    let verbs = "[{validate: {types: {n: int}, on_fail: drop}}, {convert: {t: {to: bool, on_fail: drop}}}]";
    let config = format!(
        "inputs:\n  app: {{type: stdin, parse: json}}\npipelines:\n  main: {{inputs: [app], transforms: {verbs}, outputs: [none]}}\n\
         outputs:\n  none: {{type: blackhole}}\ntests:\n  wrong:\n    events: [{{n: x}}, {{t: soon}}]\n    \
         expect: [{{output: none}}, {{output: none}}]\n"
    );
    let output = fed(&["test", "-c", &written(directory.path(), "c.yaml", &config)], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}{}", text(&output.stderr));
    for part in [
        "    is dropped by transform 1 (validate): n is not an int: \"x\"\n",
        "    is dropped by transform 2 (convert): t cannot be read as a bool: \"soon\"\n",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
}

#[test]
fn test_without_tests_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", CONFIG);
    let output = fed(&["test", "-c", &path], "");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("{path} has no tests\n"));
}

/// The tags of well-formed XML in order, or what is wrong with it.
fn tags(xml: &str) -> Result<Vec<String>, String> {
    let (mut open, mut all, mut rest) = (Vec::new(), Vec::new(), xml);
    while let Some(at) = rest.find('<') {
        if rest[..at].contains(">") {
            return Err(format!("a bare > in {}", &rest[..at]));
        }
        let end = rest[at..].find('>').ok_or("a tag is not closed")? + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default().to_owned();
        if tag.starts_with('?') {
            continue;
        } else if tag.starts_with('/') {
            if open.pop().as_deref() != Some(name.as_str()) {
                return Err(format!("</{name}> closes another"));
            }
            continue;
        } else if !tag.ends_with('/') {
            open.push(name.clone());
        }
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("quotes of {tag}"));
        }
        all.push(name);
    }
    let named = ["&lt;", "&gt;", "&amp;", "&quot;"];
    let bare = xml.match_indices('&').find(|(at, _)| !named.iter().any(|name| xml[*at..].starts_with(name)));
    match (bare, open.is_empty()) {
        (Some((at, _)), _) => Err(format!("a bare & at {at}")),
        (None, false) => Err(format!("{open:?} are left open")),
        (None, true) => Ok(all),
    }
}

#[test]
fn junit_report_is_well_formed_with_any_names_and_events() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", &format!("{CONFIG}{TESTS}{WRONG}"));
    let report = directory.path().join("report.xml");
    let output = fed(&["test", "-c", &path, "--junit", report.to_str().expect("UTF-8")], "");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let xml = std::fs::read_to_string(&report).expect("the report is written");
    let expected = ["testsuites", "testsuite", "testcase", "testcase", "testcase", "failure"];
    assert_eq!(tags(&xml).expect("well-formed"), expected, "{xml}");
    for part in ["tests=\"3\" failures=\"1\"", "debug events go &lt;nowhere&gt; &amp; are &quot;dropped&quot;"] {
        assert!(xml.contains(part), "{part}: {xml}");
    }
    let nowhere = fed(&["test", "-c", &path, "--junit", "/nonexistent/report.xml"], "");
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(text(&nowhere.stderr).contains("/nonexistent/report.xml"), "{}", text(&nowhere.stderr));
}

const HOSTILE: &str = r#"
inputs:
  app: {type: file, include: [/nonexistent/*.log], parse: json, fields: {timestamp: false, host: false, file: false, offset: false}}
pipelines:
  main:
    inputs: [app]
    transforms:
      - drop: "a == '\e[2J'"
      - if: "a == '\e[2J'"
        then: [{add: {"[\"\e[3J\"]": "\e[4J"}}]
        else: [{parse: {field: a}}]
    outputs:
      - {to: none, when: "b == '\e[5J\x7f'"}
      - {to: rest, when: "c == '\x9b'"}
outputs:
  none: {type: blackhole}
  rest: {type: blackhole}
tests:
  "red \e[31m <\0> \uFFFE":
    events: ["\e[6J", {a: "x", "b\e": "\x9b7J"}, {a: "\e[8J", c: "\x9b"}]
    expect:
      - {output: none, event: {"\e": "\x9b"}}
      - {dead_letter: true}
      - {condition: "a == '\e'", contains: {"[\"\x9b\"]": "\x7f"}}
"#;

/// The first character that a terminal could interpret as a control character.
fn steering(shown: &str) -> Option<char> {
    shown.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'))
}

#[test]
fn names_and_events_cannot_control_a_terminal() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "c.yaml", HOSTILE);
    let report = directory.path().join("report.xml");
    let output = fed(&["test", "-c", &path, "--junit", report.to_str().expect("UTF-8")], "");
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert_eq!(steering(&shown), None, "{shown:?}");
    for part in ["FAILED red \\u{1b}[31m", "\\u{1b}[6J", "\\u{9b}"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let xml = std::fs::read_to_string(&report).expect("the report is written");
    assert!(tags(&xml).expect("well-formed").contains(&"failure".to_owned()));
    let forbidden = |c: &char| *c < ' ' && !matches!(c, '\n' | '\t' | '\r') || matches!(c, '\u{fffe}' | '\u{ffff}');
    assert_eq!(xml.chars().find(forbidden), None, "{xml:?}");
    let output = fed(&["test", "-c", &path, "--filter", "no \u{1b}[2J\u{9b}"], "");
    assert_eq!((output.status.code(), steering(&text(&output.stderr))), (Some(64), None), "{}", text(&output.stderr));
    let line = "{\"a\":\"\\u001b[8J\",\"c\":\"\u{9b}\u{7f}\",\"\u{9b}9J\":1}";
    let lines = format!("\u{1b}[6J \u{9b}\n{line}\n{{\"a\":\"\u{9b}\"}}\n{{\"a\":\u{1b}}}\n");
    let output = fed(&["try", "-c", &path], &lines);
    let shown = text(&output.stdout) + &text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{shown}");
    assert_eq!(steering(&shown), None, "{shown:?}");
    assert!(shown.contains("received   \\u{1b}[6J \\u{9b}\n"), "{shown}");
    let output = fed(&["try", "--json", "-c", &path], &lines);
    assert!(text(&output.stdout).contains(line), "a program gets what was there: {}", text(&output.stdout));
}

#[test]
fn examples_pass_their_tests() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut tested = 0;
    for entry in std::fs::read_dir(directory).expect("the examples") {
        let path = entry.expect("an entry").path();
        let output = fed(&["test", "-c", path.to_str().expect("UTF-8")], "");
        let shown = text(&output.stdout);
        assert_eq!(output.status.code(), Some(0), "{}: {shown}{}", path.display(), text(&output.stderr));
        tested += usize::from(shown.ends_with(" passed\n"));
    }
    assert!(tested >= 2, "only {tested} examples have tests");
}

const COUNTS: &str = r#"
inputs:
  lines: {type: stdin, parse: {json: {on_error: dead_letter}}}
pipelines:
  main:
    inputs: [lines]
    transforms:
      - aggregate: {every: 10s, by: [level], fields: {lines: count}}
      - drop: level == "debug"
    outputs: [none]
outputs:
  none: {type: blackhole}
tests:
  levels are counted:
    every: 6s
    events: [{level: info}, {level: info}, {level: debug}, no json, {level: info}]
    expect: [{dropped: true}, {dropped: true}, {dropped: true}, {dead_letter: true}, {dropped: true}]
    made:
      - {output: none, event: {level: info, lines: 2}}
      - dropped: true
      - contains: {level: info, lines: 1}
"#;

#[test]
fn created_events_and_dead_letters_are_shown_and_tested() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = written(directory.path(), "counts.yaml", COUNTS);
    let output = fed(&["test", "-c", &path], "");
    assert_eq!(text(&output.stdout), "ok     levels are counted\n1 passed\n", "{}", text(&output.stderr));
    let wrong = COUNTS
        .replace("lines: 2}", "lines: 3}")
        .replace("      - contains", "      #")
        .replace("{dead_letter", "{dropped");
    let output = fed(&["test", "-c", &written(directory.path(), "wrong.yaml", &wrong)], "");
    let shown = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    for part in [
        "  event 4: no json\n",
        "goes to the dead letter queue: the input cannot parse it: it is not an object (at byte 0)\n",
        "  made event 1\n",
        "~ lines: 3 -> 2\n",
        "  made event 3\n",
        "was made, but is not expected\n      + timestamp: \"2000-01-01T00:00:30.000000Z\"\n",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
    let output = fed(&["try", "-c", &path], "{\"level\":\"info\"}\n{\"level\":\"info\"}\nx\n");
    let shown = text(&output.stdout);
    for part in [
        "    1 aggregate -> aggregated\n",
        "  goes to the dead letter queue: the input cannot parse it\n",
        "made event 1\n  pipeline main\n    1 aggregate makes\n        + level: \"info\"\n        + lines: 2\n",
        "    -> none: accepts all events\n",
    ] {
        assert!(shown.contains(part), "{part}\nis not in\n{shown}");
    }
}

/// The fenced blocks of a page with the language `kind`.
pub fn blocks<'a>(page: &'a str, kind: &str) -> Vec<&'a str> {
    let fence = format!("```{kind}\n");
    page.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn page_about_trying_shows_the_real_output() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/trying.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let directory = tempfile::tempdir().expect("a directory");
    written(directory.path(), "shop.yaml", blocks(&page, "yaml")[0]);
    let sample = blocks(&page, "text")[0];
    for shown in blocks(&page, "console") {
        let (line, shown) = shown.split_once('\n').expect("a command and what it prints");
        let words = line.strip_prefix("$ tailwater ").expect("a command").trim_end_matches(" < sample.log");
        let arguments: Vec<&str> = words.split(' ').collect();
        let sample = if arguments[0] == "try" { sample } else { "" };
        let mut child = command(&arguments)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        child.stdin.take().expect("a pipe").write_all(sample.as_bytes()).expect("lines are taken");
        let output = child.wait_with_output().expect("the binary ends");
        assert_eq!(text(&output.stdout).trim_end(), shown.trim_end(), "{line}");
    }
}
