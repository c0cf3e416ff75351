//! Transforms that depend on the clock or on files: windows that end by themselves, and tables that change.

use crate::case::Case;
use crate::metrics::{sum, wait_for_sync};
use crate::product::{Product, run_to_end, text};
use crate::wait::wait_for;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// A configuration from `logs/app.log`, parsed as JSON, through these transforms to the output.
fn configure(case: &Case, verbs: &str) -> PathBuf {
    let input = format!("{{type: file, include: [\"{}\"], parse: json}}", case.path("logs/app.log").display());
    let config = case.configure(&input, &case.json_output());
    let written = fs::read_to_string(&config).expect("the configuration");
    let verbs = written.replace("{inputs: [app],", &format!("{{inputs: [app], transforms: {verbs},"));
    case.write("tailwater.yaml", verbs.as_bytes())
}

fn append(case: &Case, lines: &str) {
    let log = fs::OpenOptions::new().create(true).append(true).open(case.path("logs/app.log"));
    log.expect("the log").write_all(lines.as_bytes()).expect("written");
}

fn events(output: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(output).unwrap_or_default();
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

fn counted(events: &[serde_json::Value]) -> u64 {
    events.iter().filter_map(|event| event["n"].as_u64()).sum()
}

#[test]
fn windows_end_without_new_events_and_at_the_stop() {
    let case = Case::new("windows");
    let config = configure(&case, "[{aggregate: {every: 1s, by: [svc], fields: {n: count, total: {sum: v}}}}]");
    append(&case, "{\"svc\":\"a\",\"v\":1}\n{\"svc\":\"b\",\"v\":2}\n{\"svc\":\"a\",\"v\":3}\n");
    let mut product = Product::start(&case, &config);
    wait_for("the first window", || match counted(&events(&case.output())) {
        3 => Ok(()),
        other => Err(format!("{other} events counted; {}", product.state())),
    });
    let first = events(&case.output());
    assert!(first.iter().all(|event| event.get("file").is_none() && event["host"].is_string()), "{first:?}");
    assert!(first.iter().all(|event| event["timestamp"].is_string()), "{first:?}");
    let of_b: Vec<_> = first.iter().filter(|event| event["svc"] == "b").collect();
    assert_eq!((of_b.len(), &of_b[0]["total"]), (1, &2.into()));

    let config = configure(&case, "[{aggregate: {every: 1d, by: [svc], fields: {n: count}}}]");
    product.terminate();
    let mut product = Product::start(&case, &config);
    append(&case, &"{\"svc\":\"c\"}\n".repeat(100));
    wait_for("events in the open window", || match sum(case.admin_port, "tailwater_pipeline_held_events", &[])? {
        100 => Ok(()),
        other => Err(format!("{other}; {}", product.state())),
    });
    let gone = sum(case.admin_port, "tailwater_component_discarded_events_total", &["reason=\"aggregated\""]);
    assert_eq!(gone, Ok(100));
    assert_eq!(events(&case.output()).len(), first.len(), "a day is not over");
    product.terminate();
    let all = events(&case.output());
    assert_eq!((all.len(), &all[first.len()]["n"]), (first.len() + 1, &100.into()));
}

#[test]
fn events_beyond_a_rate_have_a_reason_of_their_own() {
    let case = Case::new("throttled");
    let config = configure(&case, "[{throttle: {rate: 1, per: 1d, burst: 3}}]");
    append(&case, &"{\"svc\":\"a\"}\n".repeat(100));
    let mut product = Product::start(&case, &config);
    product.expect("throttle dropped events");
    let of = |reason: &str| sum(case.admin_port, "tailwater_component_discarded_events_total", &[reason]);
    wait_for("the events", || match (of("reason=\"throttled\"")?, of("reason=\"filtered\"")?) {
        (97, 0) => Ok(()),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    product.terminate();
    assert_eq!(events(&case.output()).len(), 3);
}

#[test]
fn tables_are_read_again_when_they_change() {
    let case = Case::new("tables");
    let table = case.write("hosts.csv", b"name,team\na,one\n");
    let enrich = format!("[{{enrich: {{file: \"{}\", key: {{name: svc}}}}}}]", table.display());
    let config = configure(&case, &enrich);
    append(&case, "{\"svc\":\"a\"}\n");
    let mut product = Product::start(&case, &config);
    wait_for("the first event", || events(&case.output()).pop().ok_or_else(|| product.state()));
    assert_eq!(events(&case.output())[0]["team"], "one");

    product.expect("a lookup file has changed but cannot be read");
    case.write("hosts.csv", b"name,team\na\n");
    product.wait_for_log(&["a lookup file has changed but cannot be read"]);
    case.write("new.csv", b"name,team\na,two\n");
    fs::rename(case.path("new.csv"), &table).expect("renamed");
    product.wait_for_log(&["a lookup file has changed and was read again"]);
    append(&case, "{\"svc\":\"a\"}\n");
    wait_for("the second event", || match events(&case.output()) {
        events if events.len() == 2 => Ok(()),
        events => Err(format!("{events:?}; {}", product.state())),
    });
    assert_eq!(events(&case.output())[1]["team"], "two");
    product.terminate();
}

#[test]
fn start_without_a_table_fails() {
    let case = Case::new("no-table");
    let config = configure(&case, "[{enrich: {file: /nowhere/hosts.csv, key: {name: svc}}}]");
    let output = run_to_end(&["run", "-c", config.to_str().expect("UTF-8")]);
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "as `validate` ends: {message}");
    assert!(message.contains("pipelines.main: enrich: /nowhere/hosts.csv"), "{message}");
}

/// Kills the product while 100 events are in a window of one day, and restarts it with windows of one second. Returns the
/// count of these and of one more event.
fn counted_after_a_kill(name: &str, on_crash: &str) -> u64 {
    let case = Case::new(name);
    let verbs = |every: &str| {
        format!("[{{aggregate: {{every: {every}, by: [svc], fields: {{n: count}}, on_crash: {on_crash}}}}}]")
    };
    append(&case, &"{\"svc\":\"a\"}\n".repeat(100));
    let mut product = Product::start(&case, &configure(&case, &verbs("1d")));
    wait_for("events in the open window", || match sum(case.admin_port, "tailwater_pipeline_held_events", &[])? {
        100 => Ok(()),
        other => Err(format!("{other}; {}", product.state())),
    });
    if on_crash == "lose" {
        // Lines that are recorded as read must be on their way; otherwise nothing is.
        wait_for_sync(case.admin_port, &mut product);
    }
    product.kill();
    assert!(events(&case.output()).is_empty());

    append(&case, "{\"svc\":\"b\"}\n");
    let mut product = Product::start(&case, &configure(&case, &verbs("1s")));
    wait_for("the last event", || match events(&case.output()).iter().any(|event| event["svc"] == "b") {
        true => Ok(()),
        false => Err(product.state()),
    });
    product.terminate();
    counted(&events(&case.output()))
}

#[test]
fn events_of_an_open_window_are_counted_again_after_a_kill() {
    assert_eq!(counted_after_a_kill("window-repeat", "repeat"), 101);
}

#[test]
fn events_of_an_open_window_are_lost_after_a_kill_if_configured() {
    assert_eq!(counted_after_a_kill("window-lose", "lose"), 1);
}

/// Six times the longest line of the input, plus the other fields of an event, is all that the WAL has space for.
#[test]
fn event_that_grows_beyond_its_limit_is_a_dead_letter() {
    let case = Case::new("grown");
    let config = configure(&case, &format!("[{{add: {{text: \"{}\"}}}}]", "x".repeat(40_000)));
    let text = fs::read_to_string(&config).expect("the configuration");
    case.write("tailwater.yaml", text.replace("parse: json", "parse: json, max_line_bytes: 1KiB").as_bytes());
    append(&case, "{\"n\":1}\n");
    let mut product = Product::start(&case, &config);
    product.expect("has grown beyond six times max_line_bytes");
    let told = ["\"component_id\":\"main\"", "app.log", "\"bytes\":4", "\"bytes_max\":", "raise max_line_bytes"];
    product.wait_for_log(&told);
    let pipeline = ["component_kind=\"pipeline\""];
    wait_for("the letter", || {
        match sum(case.admin_port, "tailwater_component_dead_lettered_events_total", &pipeline)? {
            1 => Ok(()),
            other => Err(format!("{other}; {}", product.state())),
        }
    });
    assert!(events(&case.output()).is_empty());
    product.terminate();
}
