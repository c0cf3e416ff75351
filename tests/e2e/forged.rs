//! Whoever can write to one log tries to make events look as if they came from another host, file or time.

use crate::case::Case;
use crate::product::{NOBODY, Product, give_away, is_root};
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// What a user without any rights writes to the only log that is his.
const FORGED: [&str; 8] = [
    r#"{"n":0,"host":"db-1","file":"/var/log/auth.log","offset":0,"timestamp":"2001-01-01T00:00:00Z","truncated":true}"#,
    r#"{"n":1,"h\u006fst":"db-1","\u0066ile":"/var/log/auth.log"}"#,
    r#"{"n":2,"host":"web","host":"db-1","event":{"host":"db-2"}}"#,
    r#"{"n":3,"log":"{\"host\":\"db-1\",\"file\":\"/var/log/auth.log\",\"truncated\":true}"}"#,
    r#"{"n":4,"truncated.x":1,"host.name":"db-1"}"#,
    r#"{"n":5,"origin":{"file":"/var/log/auth.log"},"origin()":{"file":"/var/log/auth.log"}}"#,
    r#"{"n":6,"hostname":"db-1","parse_error":"x"}"#,
    r#"{"n":7,"file":{"path":"/var/log/auth.log"},"event":"/var/log/auth.log"}"#,
];

/// Writes lines as a user who owns nothing but this file.
fn write_as_nobody(path: &Path, lines: &str) {
    fs::write(path, b"").expect("an empty log");
    give_away(path);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "printf %s \"$0\"", lines]).stdout(fs::File::options().append(true).open(path).expect("the log"));
    if is_root() {
        shell.uid(NOBODY).gid(NOBODY);
    }
    assert!(shell.status().expect("a shell").success());
}

#[test]
fn no_line_makes_its_event_come_from_elsewhere() {
    let case = Case::new("forged");
    let lines: String = FORGED.iter().map(|line| format!("{line}\n")).collect();
    write_as_nobody(&case.path("logs/app.log"), &lines);
    let own = case.path("logs/app.log").display().to_string();
    let input = format!("{{type: file, include: [\"{own}\"], parse: json}}");
    let config = case.configure(&input, &case.json_output());
    let written = fs::read_to_string(&config).expect("the configuration");
    let verbs = "[{parse: {field: log}}, {unflatten: {}}, {add: {from: \"{{ origin().file }}\", on: \"{{ hostname }}\"}}, \
                 {if: 'origin().file.endsWith(\"auth.log\") || file.endsWith(\"auth.log\") || has(truncated) || has(parse_error)', \
                 then: [{add: {fooled: true}}]}]";
    let text = written.replace("{inputs: [app],", &format!("{{inputs: [app], transforms: {verbs},"));
    case.write("tailwater.yaml", text.as_bytes());
    let mut product = Product::start(&case, &config);
    let events = || -> Vec<Value> {
        let text = fs::read_to_string(case.output()).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    wait_for("all events", || match events().len() {
        8 => Ok(()),
        other => Err(format!("{other} events; {}", product.state())),
    });
    product.terminate();
    let mut offset = 0;
    for (number, event) in events().iter().enumerate() {
        assert_eq!(event["n"], number, "{event}");
        assert_eq!(
            (&event["file"], &event["from"], &event["offset"]),
            (&json!(own), &json!(own), &json!(offset)),
            "{event}"
        );
        assert_eq!(event["host"], event["on"], "{event}");
        assert!(event["host"].as_str().is_some_and(|host| !host.starts_with("db-")), "{event}");
        assert!(event["timestamp"].as_str().is_some_and(|time| time > "2026"), "{event}");
        assert_eq!(event.get("fooled"), None, "{event}");
        offset += FORGED[number].len() + 1;
    }
    let all = events();
    assert_eq!(all[0]["event"]["timestamp"], "2001-01-01T00:00:00Z");
    assert_eq!(all[2]["event"], json!({"host": "db-1", "event": {"host": "db-2"}}));
    assert_eq!(all[3]["event"]["file"], "/var/log/auth.log");
    assert_eq!(all[7]["event"], json!({"file": {"path": "/var/log/auth.log"}, "event": "/var/log/auth.log"}));
}
