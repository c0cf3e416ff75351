//! JSON from a file: parsed, changed and routed over kills, compared with what `serde_json` makes of the same lines; and
//! hostile lines.

use crate::case::Case;
use crate::metrics;
use crate::product::Product;
use crate::wait::wait_for;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

const EVENTS: usize = 30_000;

/// Line number `n`: several shapes, some that are dropped, some that are not JSON.
fn line(n: usize) -> String {
    let level = ["debug", "info", "warn", "error"][n % 7 % 4];
    match n % 11 {
        0 => format!("plain text {n} \"quoted\""),
        1 => format!("{{\"n\":{n},\"unfinished\":"),
        2 => format!(
            "{{\"level\":\"{level}\",\"n\":{n},\"msg\":\"J\\u00fcrgen\\n{n}\",\"http\":{{\"status\":{},\"cookie\":\"x\"}}}}",
            400 + n % 200
        ),
        3 => format!(
            "{{ \"n\" : {n} , \"msg\" : null, \"big\": 12345678901234567890123.50e+3, \"level\":\"{level}\", \"n\":{n} }}"
        ),
        _ => format!(
            "{{\"n\":{n},\"level\":\"{level}\",\"msg\":\"request {n}\",\"http\":{{\"status\":{}}},\"secret\":{n}}}",
            200 + n % 400
        ),
    }
}

/// Which output gets the event of a line, and the event there.
fn expected(line: &str) -> Option<(&'static str, Value)> {
    let mut event: Map<String, Value> = match serde_json::from_str(line) {
        Ok(event) => event,
        Err(_) => return Some(("rest", json!({"message": line}))),
    };
    let level = event.get("level").cloned();
    if level == Some("debug".into()) {
        return None;
    }
    event.remove("secret");
    if let Some(Value::Object(http)) = event.get_mut("http") {
        http.remove("cookie");
    }
    if let Some(message) = event.remove("msg") {
        event.insert("text".into(), message);
    }
    event.insert("env".into(), "test".into());
    let status = event.get("http").and_then(|http| http.get("status")).and_then(Value::as_u64);
    if status.is_some_and(|status| status >= 500) {
        event.insert("alert".into(), true.into());
    }
    let errors = level == Some("error".into());
    Some((if errors { "errors" } else { "rest" }, event.into()))
}

const PIPELINE: &str = "
    transforms:
      - drop: level == \"debug\"
      - remove: [secret, http.cookie]
      - rename: {msg: text}
      - if: has(parse_error)
        then: [{remove: [parse_error]}]
        else: [{add: {env: test}}]
      - if: http.status >= 500
        then: [{add: {alert: true}}]
    match: first
    outputs:
      - {to: errors, when: level == \"error\"}
      - {to: rest, else: true}
";

fn configure(case: &Case, name: &str, pipeline: &str) -> PathBuf {
    let folder = |below: &str| case.path(below).display().to_string();
    let text = format!(
        "data_dir: \"{}\"\nshards: {}\nadmin: {{listen: \"127.0.0.1:{}\"}}\ninputs:\n  app:\n    type: file\n    include: \
         [\"{}\"]\n    parse: json\n    max_line_bytes: 2MiB\n    fields: {{timestamp: false, host: false, file: false, offset: \
         false}}\npipelines:\n  main:\n    inputs: [app]{pipeline}\noutputs:\n  errors: {{type: file, path: \"{}\"}}\n  rest: \
         {{type: file, path: \"{}\"}}\n",
        folder("data"),
        case.shards,
        case.admin_port,
        folder(&format!("logs/{name}")),
        folder("out/errors.json"),
        folder("out/rest.json"),
    );
    case.write("tailwater.yaml", text.as_bytes())
}

/// Whole lines of a file that may not exist yet.
fn lines_of(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(str::to_owned).collect()
}

/// The same value with every number as it is written, because `f64` would make different ones equal.
fn event_of(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn delivered(case: &Case) -> usize {
    lines_of(&case.path("out/errors.json")).len() + lines_of(&case.path("out/rest.json")).len()
}

#[test]
fn json_is_parsed_edited_and_routed_once_through_kills() {
    let mut case = Case::new("json");
    case.shards = 2;
    let config = configure(&case, "*.log", PIPELINE);
    let mut wanted: HashMap<String, i64> = HashMap::new();
    let mut text = String::new();
    for n in 0..EVENTS {
        let line = line(n);
        if let Some((output, event)) = expected(&line) {
            *wanted.entry(format!("{output} {event}")).or_default() += 1;
        }
        writeln!(text, "{line}").expect("a string takes all");
    }
    let total: i64 = wanted.values().sum();
    let middle = text[..text.len() / 2].rfind('\n').expect("a line") + 1;
    fs::write(case.path("logs/a.log"), &text[..middle]).expect("the first half");
    let product = Product::start(&case, &config);
    wait_for("some events", || if delivered(&case) > 1000 { Ok(()) } else { Err("few".to_owned()) });
    product.kill();
    let product = Product::start(&case, &config);
    fs::write(case.path("logs/b.log"), &text[middle..]).expect("the second half");
    wait_for("half of the events", || {
        if delivered(&case) as i64 > total / 2 { Ok(()) } else { Err("less than half".to_owned()) }
    });
    product.kill();
    let product = Product::start(&case, &config);
    wait_for("all events", || match delivered(&case) as i64 {
        count if count >= total => Ok(()),
        count => Err(format!("{count} of {total}")),
    });
    product.terminate();
    for output in ["errors", "rest"] {
        for line in lines_of(&case.path(&format!("out/{output}.json"))) {
            let mut event = event_of(&line);
            if line.contains("12345678901234567890123.50e+3") {
                assert_eq!(event["big"], event_of("12345678901234567890123.50e+3"), "a number is written as it came");
            }
            event.sort_all_objects();
            *wanted.entry(format!("{output} {event}")).or_default() -= 1;
        }
    }
    let wrong: Vec<_> = wanted.iter().filter(|(_, count)| **count != 0).take(5).collect();
    assert!(wrong.is_empty(), "missing (+) or too many (-): {wrong:?}");
}

#[test]
fn events_that_a_pipeline_drops_are_counted() {
    let case = Case::new("json-counts");
    let pipeline = "
    transforms:
      - drop: level == \"debug\"
    outputs:
      - {to: errors, when: level == \"error\"}
";
    let config = configure(&case, "a.log", pipeline);
    let text: String =
        ["{\"level\":\"debug\"}", "{\"level\":\"error\"}", "{\"level\":\"info\"}", "{}", "no JSON"].join("\n") + "\n";
    fs::write(case.path("logs/a.log"), text).expect("a log");
    let product = Product::start(&case, &config);
    let of = |name: &str, labels: &[&str]| metrics::sum(case.admin_port, name, labels).unwrap_or(0);
    let (pipeline, filtered) = ("component_kind=\"pipeline\"", "reason=\"filtered\"");
    wait_for("the events", || {
        let seen = [
            of("tailwater_component_received_events_total", &[pipeline]),
            of("tailwater_component_discarded_events_total", &[pipeline, filtered]),
            of("tailwater_component_sent_events_total", &[pipeline]),
            of("tailwater_input_unparsed_events_total", &[]),
            // Two events have no level: neither the transform nor the output's condition can be evaluated for them.
            of("tailwater_pipeline_failures_total", &[]),
        ];
        if seen == [5, 4, 1, 1, 4] { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    product.terminate();
    assert_eq!(lines_of(&case.path("out/errors.json")), ["{\"level\":\"error\"}"]);
}

/// Lines that make a parser, a trie of keys or a table of shapes grow without limit, if there is such a bug.
fn hostile() -> Vec<String> {
    let mut all: Vec<String> =
        (0..40_000).map(|n| format!("{{\"key {n}\":{n},\"again {}\":[{n}]}}", n % 900)).collect();
    let fields: Vec<String> = (0..10_000).map(|n| format!("\"f{n}\":{n}")).collect();
    for n in 0..20 {
        all.push(format!("{{{},\"last\":{n}}}", fields.join(",")));
        all.push(format!("{{\"{}{n}\":1}}", "k".repeat(64 << 10)));
        all.push(format!("{{\"deep\":{}{n}{}}}", "[".repeat(60), "]".repeat(60)));
        all.push(format!("{{\"deeper\":{}{n}{}}}", "[".repeat(5000), "]".repeat(5000)));
        all.push(format!("{{\"long\":\"{}{n}\"}}", "v\\n".repeat(350_000)));
        all.push(format!("{{\"bytes\":\"{n}\\ud800\"}}"));
    }
    all
}

#[test]
fn hostile_json_has_defined_results_in_bounded_memory() {
    let case = Case::new("json-hostile");
    let pipeline = "
    transforms:
      - copy: {last: final}
      - add: {seen: true}
    outputs: [rest]
";
    let config = configure(&case, "a.log", pipeline);
    let lines = hostile();
    fs::write(case.path("logs/a.log"), lines.join("\n") + "\n").expect("a log");
    let product = Product::start(&case, &config);
    wait_for("all events", || match lines_of(&case.path("out/rest.json")).len() {
        count if count == lines.len() => Ok(()),
        count => Err(format!("{count} of {}", lines.len())),
    });
    let status = fs::read_to_string(format!("/proc/{}/status", product.id())).expect("a status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let peak_kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    product.terminate();
    assert!(peak_kib < 150 << 10, "{peak_kib} KiB at the peak");
    for (line, arrived) in lines.iter().zip(lines_of(&case.path("out/rest.json"))) {
        let shown = &line[..line.len().min(60)];
        if line.contains("ud800") {
            // Half of a surrogate pair is valid JSON and is passed unchanged; few parsers accept it.
            assert_eq!(arrived, line.replace('}', ",\"seen\":true}"));
            continue;
        }
        let mut event = event_of(&arrived);
        assert_eq!(event["seen"], json!(true), "{shown}");
        event.as_object_mut().expect("an object").remove("seen");
        if line.contains("deeper") {
            assert_eq!(event["message"].as_str(), Some(&line[..]), "{shown}");
            assert!(event["parse_error"].is_string(), "{shown}");
            continue;
        }
        let mut same = event_of(line);
        if let Some(last) = same.get("last").cloned() {
            same["final"] = last;
        }
        assert_eq!(event, same, "{shown}");
    }
}
