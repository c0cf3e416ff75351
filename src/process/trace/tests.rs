//! Compares traced pipelines with the processor that normally runs them.

use super::*;
use crate::codec::envelope::EnvelopeKind;
use crate::config::de::read;
use crate::config::node::parse;
use crate::parsers::Parse;
use tailwater_shards::batch::{EventSpan, Source, SourceKey};
use tailwater_shards::dlq::Letters;
use tailwater_shards::env::{ShardId, Timestamp};
use tailwater_shards::plugin::Frames;
use tailwater_shards::wal::builder::Group;

const LINES: [&str; 7] = [
    r#"{"level":"error","msg":"a","http":{"status":503}}"#,
    r#"{"level":"debug"}"#,
    "no json",
    r#"{"level":"info","http":{"status":200},"password":"x"}"#,
    r#"{"level":"error","n":1e400,"password":"x"}"#,
    r#"{"level":"warn","http":{"status":"x"}}"#,
    r#"{"msg":"a","msg":"b","level":"error"}"#,
];

const VERBS: &str = "[{drop: level == \"debug\"}, {remove: [password]}, {rename: {msg: message}}, \
    {if: http.status >= 500, then: [{add: {alert: true}}, {filter: \"has(message)\"}], else: [{add: {a: 1}}]}]";

fn value<T: serde::de::DeserializeOwned>(text: &str) -> T {
    let root = parse(text, &|_| None).0.expect("valid YAML");
    read(&root).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

pub(in crate::process) fn when(condition: &str) -> Route {
    Route::When(value(&format!("{condition:?}")))
}

pub(in crate::process) fn chain(verbs: &str, first_only: bool, routes: &[Route]) -> Arc<Chain> {
    Arc::new(Chain { steps: value(verbs), routes: routes.to_vec(), first_only, ..Chain::default() })
}

pub(in crate::process) fn events() -> Events {
    let parse = Some(Parse::Json(Default::default()));
    Events {
        fields: Default::default(),
        on_conflict: Default::default(),
        kind: EnvelopeKind::File,
        parse,
        timezone: None,
        bytes_max: 1 << 16,
    }
}

pub(in crate::process) fn batch(lines: &[&str]) -> Batch {
    let source = Source {
        key: SourceKey(1),
        input: "a".into(),
        name: b"/var/log/a.log".to_vec(),
        descriptor: Vec::new(),
        repeatable: false,
    };
    let mut batch = Batch::new(1 << 16, Arc::new(source));
    let mut start = 0;
    for line in lines {
        batch.chunk.spare()[..line.len()].copy_from_slice(line.as_bytes());
        batch.chunk.set_length(start + line.len());
        batch.events.push(EventSpan { start: start as u32, end: (start + line.len()) as u32 });
        start += line.len();
    }
    batch.received = Timestamp(1_795_429_230_123_456_789);
    batch
}

#[test]
fn what_is_shown_is_what_runs() {
    let facts = Facts::of("web-03");
    let targets = [1, 2, 4];
    for (first_only, routes) in [
        (false, &[Route::Always][..]),
        (false, &[Route::Always, when("has(alert)"), Route::Else]),
        (true, &[when("has(alert)"), when("n > 1"), Route::Else]),
        (false, &[when("level == \"warn\"")]),
    ] {
        let chain = chain(VERBS, first_only, routes);
        let batch = batch(&LINES);
        let mut processor = crate::process::spec(&events(), vec![chain.clone()], &facts).open(ShardId(0));
        processor.begin(&batch);
        let mut ran = Vec::new();
        // One group per output, which receives nothing else.
        for place in 0..chain.routes.len() {
            let mut group = Group::new();
            let mut letters = Letters::new();
            let mut frames = Frames::new(&mut group, 0, 1 << place, &targets, &mut letters);
            processor.process(&batch, 0, &mut frames);
            ran.push(String::from_utf8_lossy(group.last().expect("a frame").lines()).into_owned());
        }
        let mut tracer = Tracer::new(&events(), std::slice::from_ref(&chain), &facts);
        tracer.begin(&batch);
        let mut shown = vec![String::new(); chain.routes.len()];
        for index in 0..batch.events.len() {
            let trace = tracer.event(&batch, index);
            let End::Line(line) = &trace.pipelines[0].end else { continue };
            for (place, route) in trace.pipelines[0].routes.iter().enumerate().filter(|(_, route)| route.taken) {
                assert!(!route.why.is_empty());
                shown[place] += &format!("{line}\n");
            }
        }
        assert_eq!(shown, ran, "{routes:?}");
        assert!(ran.iter().any(|lines| !lines.is_empty()), "{routes:?}");
    }
}

#[test]
fn each_verb_shows_what_it_changed() {
    let mut tracer = Tracer::new(&events(), &[chain(VERBS, false, &[when("alert")])], &Facts::of("h"));
    let mut trace = |line: &str| {
        let batch = batch(&[line]);
        tracer.begin(&batch);
        tracer.event(&batch, 0)
    };
    let first = trace(r#"{"level":"error","password":"x","http":{"status":503}}"#);
    let steps = &first.pipelines[0].steps;
    let places: Vec<&str> = steps.iter().map(|step| step.place.as_str()).collect();
    assert_eq!(places, ["1", "2", "3", "4", "4.then.1", "4.then.2"]);
    assert_eq!(steps[1].changes.len(), 1);
    assert_eq!(steps[1].changes[0].before.as_deref(), Some("\"x\""));
    assert_eq!((steps[3].side, steps[5].verdict), (Some(true), Verdict::Drop));
    assert_eq!(first.pipelines[0].end, End::Dropped);
    let second = trace(r#"{"level":"warn"}"#);
    let pipeline = &second.pipelines[0];
    let failure = pipeline.steps[3].failure.as_deref();
    assert_eq!(failure, Some("the event has no field `http.status` (no_such_key)"));
    assert_eq!(pipeline.end, End::Untaken);
    assert_eq!(pipeline.routes[0].why, "alert fails: the event has no field `alert` (no_such_key)");
    let third = trace("{");
    assert!(third.fault.is_some() && third.fields.is_some_and(|fields| fields.get("parse_error").is_some()));
}

#[test]
fn a_verb_that_fails_says_why() {
    let chain = chain("[{convert: {n: int}}, {drop: m > 1}]", false, &[Route::Always]);
    let mut tracer = Tracer::new(&events(), &[chain], &Facts::of("h"));
    let batch = batch(&[r#"{"n":"x"}"#]);
    tracer.begin(&batch);
    let trace = tracer.event(&batch, 0);
    let why: Vec<_> = trace.pipelines[0].steps.iter().map(|step| step.failure.as_deref().unwrap_or("")).collect();
    let conditions = "the event has no field `m` (no_such_key)";
    assert_eq!(why, ["n cannot be read as an int: \"x\"", conditions]);
}

#[test]
fn reasons_name_the_field_its_value_and_what_was_expected() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100));
    let cut = format!("\"{}...", "x".repeat(59));
    for (verb, event, expected) in [
        ("convert: {n: {to: float, on_fail: drop}}", r#"{"n":[1]}"#, "n cannot be read as a float: [1]"),
        ("convert: {a: bool}", long.as_str(), &format!("a cannot be read as a bool: {cut}")),
        (
            "convert: {a: int, b: {to: timestamp, format: \"%Y\"}}",
            r#"{"a":"1","b":"x"}"#,
            "b cannot be read as a timestamp in the format `%Y`: \"x\"",
        ),
        (
            "convert: {a: int, b: int}",
            r#"{"a":"","b":{}}"#,
            "a cannot be read as an int: \"\"; b cannot be read as an int: {}",
        ),
        ("convert: {a: {to: int, on_fail: dead_letter}}", r#"{"a":"x"}"#, "a cannot be read as an int: \"x\""),
        (
            "timestamp: {field: t, format: unix}",
            r#"{"t":"soon"}"#,
            "t cannot be read as a time in the format `unix`: \"soon\"",
        ),
        ("parse: {field: a.b}", r#"{"a":{"b":"x"}}"#, "a.b: it is not an object (at byte 0): \"x\""),
        ("parse: {field: a, into: c}", r#"{"a":"x"}"#, "a: it is not a JSON value (at byte 0): \"x\""),
        ("parse: {field: a, on_error: dead_letter}", r#"{"a":7}"#, "a: it is not a string: 7"),
        (
            "validate: {required: [b], types: {a: int}, on_fail: drop}",
            r#"{"a":"x"}"#,
            "b is missing; a is not an int: \"x\"",
        ),
        (
            "validate: {enum: {a: [b]}, on_fail: dead_letter}",
            r#"{"a":"x"}"#,
            "a is not one of the allowed values: \"x\"",
        ),
        ("add: {a.b: 1, c: 2}", r#"{"a":"x"}"#, "a.b cannot be written: a is not an object: \"x\""),
        (
            "copy: {a: \"l[3]\", x: a.y}",
            r#"{"a":"x","l":[1]}"#,
            "l[3] cannot be written: l is an array with 1 element: [1]",
        ),
        ("rename: {a: \"n[0]\"}", r#"{"a":"x"}"#, "n[0] cannot be written: an array in its path is missing"),
        (
            "aggregate: {every: 1s, fields: {s: {sum: a}, n: {sum: n}}}",
            r#"{"a":"x","n":1}"#,
            "a is not a number: \"x\"",
        ),
        ("hash: {fields: [a], to: a.b}", r#"{"a":"x"}"#, "a.b cannot be written: a is not an object: \"x\""),
    ] {
        let mut tracer =
            Tracer::new(&events(), &[chain(&format!("[{{{verb}}}]"), false, &[Route::Always])], &Facts::of("h"));
        let batch = batch(&[event]);
        tracer.begin(&batch);
        let trace = tracer.event(&batch, 0);
        assert_eq!(trace.pipelines[0].steps[0].failure.as_deref(), Some(expected), "{verb}");
    }
}

#[test]
fn an_event_that_is_let_go_for_want_of_a_row_says_so() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("hosts.csv");
    std::fs::write(&file, "name,team\nweb-1,a\n").expect("a table");
    let list =
        format!("[{{enrich: {{file: {:?}, key: {{name: server}}, on_miss: drop}}}}]", file.display().to_string());
    let chain = chain(&list, false, &[Route::Always]);
    for kept in chain.steps.iter().flat_map(Step::kept) {
        kept.load(&tailwater_shards::glommio_env::RealDisk::new()).expect("a good table");
    }
    let mut tracer = Tracer::new(&events(), &[chain], &Facts::of("h"));
    for (event, expected) in [
        (r#"{"server":"web-1"}"#, None),
        (r#"{"server":"web-2"}"#, Some("the table has no row with name \"web-2\"")),
        (r#"{"host":1}"#, Some("server is missing")),
    ] {
        let batch = batch(&[event]);
        tracer.begin(&batch);
        assert_eq!(tracer.event(&batch, 0).pipelines[0].steps[0].failure.as_deref(), expected, "{event}");
    }
}

#[test]
fn events_that_verbs_make_show_what_becomes_of_them() {
    let verbs = "[{if: has(s), then: [{aggregate: {every: 1s, by: [s], fields: {n: count}}}, {add: {a: 1}}]}, \
        {drop: n > 1}]";
    let chain = chain(verbs, false, &[Route::Always]);
    let mut tracer = Tracer::new(&events(), &[chain], &Facts::of("h"));
    let batch = batch(&[r#"{"s":"x"}"#, r#"{"s":"x"}"#, r#"{"s":"y"}"#]);
    tracer.begin(&batch);
    for index in 0..3 {
        assert_eq!(tracer.event(&batch, index).pipelines[0].end, End::Aggregated);
    }
    assert_eq!(tracer.made(Now { time: batch.received, last: false }).len(), 0, "the window is open");
    let made = tracer.made(Now { time: batch.received, last: true });
    assert_eq!(made.len(), 2);
    let first: Vec<&str> = made[0].trace.steps.iter().map(|step| step.place.as_str()).collect();
    assert_eq!(first, ["1.then.1", "1.then.2", "2"]);
    assert!(made[0].trace.steps[0].made);
    assert_eq!(made[0].trace.end, End::Dropped);
    let End::Line(line) = &made[1].trace.end else { panic!("it is kept") };
    assert!(line.ends_with(r#""s":"y","n":1,"a":1}"#), "{line}");
}
