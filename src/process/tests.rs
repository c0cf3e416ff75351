//! Events that claim to come from elsewhere: what they say of the input's fields is kept under `event`, and nowhere else.

use super::trace::tests::{batch, chain, events, when};
use super::trace::{End, Tracer};
use super::*;
use crate::config::types::{FieldName, OnConflict};
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};
use tailwater_shards::limits::TRIE_NODES_MAX;

/// The fields that the input adds, with their values.
fn ours() -> Map<String, Json> {
    let Json::Object(ours) =
        json!({"timestamp": "2026-11-23T10:20:30.123456Z", "host": "web-03", "file": "/var/log/a.log"})
    else {
        unreachable!("it is an object")
    };
    ours
}

/// What becomes of lines, the offset and the input's own fields aside.
fn made(events: &Events, verbs: &str, lines: &[&str]) -> Vec<Json> {
    let mut tracer = Tracer::new(events, &[chain(verbs, false, &[Route::Always])], &Facts::of("web-03"));
    let batch = batch(lines);
    tracer.begin(&batch);
    let mut made = |(index, line): (usize, &&str)| match tracer.event(&batch, index).pipelines.remove(0).end {
        End::Line(made) => serde_json::from_str(&made).expect("JSON"),
        other => panic!("{line}: {other:?}"),
    };
    lines.iter().enumerate().map(&mut made).collect()
}

/// The same for one line, if every field of the input has its own value.
fn one(verbs: &str, line: &str) -> Json {
    // A shape that was seen before makes the same of it.
    let mut all = made(&events(), verbs, &[line, line]);
    let (mut json, first) = (all.remove(1), all.remove(0));
    for (name, value) in ours() {
        for json in [&first, &json] {
            assert_eq!(json[&name], value, "{line}: {json}");
        }
    }
    let fields = json.as_object_mut().expect("an object");
    assert_eq!(fields.remove("offset"), Some(json!(line.len())), "{line}");
    ours().keys().for_each(|name| drop(fields.remove(name)));
    json
}

#[test]
fn what_events_say_of_their_origin_is_kept_aside() {
    for (line, expected) in [
        (r#"{"host":"x","a":1}"#, json!({"a": 1, "event": {"host": "x"}})),
        (r#"{"h\u006fst":{"name":"x"}}"#, json!({"event": {"host": {"name": "x"}}})),
        (
            r#"{"timestamp":1,"host":2,"file":[3],"offset":null,"truncated":true,"parse_error":"x"}"#,
            json!({"event": {"timestamp": 1, "host": 2, "file": [3], "offset": null, "truncated": true, "parse_error": "x"}}),
        ),
        (r#"{"host":1,"host":2}"#, json!({"event": {"host": 2}})),
        (r#"{"event":{"kind":"y"},"host":"x"}"#, json!({"event": {"kind": "y", "host": "x"}})),
        (r#"{"event": {} ,"host":"x"}"#, json!({"event": {"host": "x"}})),
        (r#"{"event":{"host":"y","a":1},"host":"x"}"#, json!({"event": {"host": "x", "event": {"host": "y", "a": 1}}})),
        (r#"{"event":{"\u0068ost":"y"},"host":"x"}"#, json!({"event": {"host": "x", "event": {"host": "y"}}})),
        (r#"{"event":"y","host":"x"}"#, json!({"event": {"host": "x", "event": "y"}})),
        (r#"{"event":null,"host":"x"}"#, json!({"event": {"host": "x", "event": null}})),
        (r#"{"event":[1],"file":"x"}"#, json!({"event": {"file": "x", "event": [1]}})),
        (r#"{"event":{"host":"y"}}"#, json!({"event": {"host": "y"}})),
        (r#"{"event.host":"y","Host":"z","host ":1}"#, json!({"event.host": "y", "Host": "z", "host ": 1})),
        (r#"{"file.path":"x","host.name":"y"}"#, json!({"file.path": "x", "host.name": "y"})),
    ] {
        assert_eq!(one("[]", line), expected, "{line}");
    }
}

#[test]
fn a_line_that_was_cut_says_so_and_no_other_line_can() {
    let mut tracer = Tracer::new(&events(), &[chain("[]", false, &[Route::Always])], &Facts::of("web-03"));
    let mut batch = batch(&[r#"{"truncated":false}"#, r#"{"truncated":true}"#]);
    batch.truncated.push(0);
    tracer.begin(&batch);
    let mut line = |index| match tracer.event(&batch, index).pipelines.remove(0).end {
        End::Line(line) => serde_json::from_str::<Json>(&line).expect("JSON"),
        other => panic!("{other:?}"),
    };
    let (cut, whole) = (line(0), line(1));
    assert_eq!((&cut["truncated"], &cut["event"]), (&json!(true), &json!({"truncated": false})));
    assert_eq!((whole.get("truncated"), &whole["event"]), (None, &json!({"truncated": true})));
}

#[test]
fn events_may_set_the_fields_if_the_input_says_so() {
    let theirs = Events { on_conflict: OnConflict::Theirs, ..events() };
    let made = made(&theirs, "[]", &[r#"{"host":"x","truncated":true,"event":1}"#]).remove(0);
    assert_eq!((&made["host"], &made["truncated"], &made["event"]), (&json!("x"), &json!(true), &json!(1)));
}

/// An input whose fields have names with dots, as in the Elastic Common Schema.
fn dotted() -> Events {
    let mut events = events();
    events.fields.file = FieldName::Named("log.file.path".to_owned());
    events.fields.host = FieldName::Named("host.name".to_owned());
    events
}

#[test]
fn names_with_dots_are_guarded_inside_objects_too() {
    for line in [
        r#"{"host.name":"x"}"#,
        r#"{"host":{"name":"x"}}"#,
        r#"{"host":{"n\u0061me":{"x":1}}}"#,
        r#"{"log":{"file":{"path":"x"}}}"#,
        r#"{"log.file":{"path":"x"}}"#,
        r#"{"log":{"file.path":"x"}}"#,
        r#"{"log.file.path":"x","log":{"file":{"path":"y"}}}"#,
    ] {
        for verbs in [
            "[]",
            "[{unflatten: {}}]",
            "[{flatten: {}}]",
            "[{unflatten: {}}, {flatten: {}}]",
            "[{flatten: {}}, {unflatten: {}}]",
        ] {
            let json = made(&dotted(), verbs, &[line, line]).remove(1);
            let own = [("/host.name", "/host/name", "web-03"), ("/log.file.path", "/log/file/path", "/var/log/a.log")];
            for (flat, nested, expected) in own {
                let found: Vec<&Json> = [flat, nested].iter().filter_map(|path| json.pointer(path)).collect();
                assert_eq!(found, [&json!(expected)], "{line} {verbs}: {json}");
            }
        }
    }
    let beside = made(&dotted(), "[{unflatten: {}}]", &[r#"{"log":{"level":"info"},"host":{"ip":"::1"}}"#]).remove(0);
    assert_eq!(beside["log"], json!({"level": "info", "file": {"path": "/var/log/a.log"}}));
    assert_eq!(beside["host"], json!({"ip": "::1", "name": "web-03"}));
}

#[test]
fn transforms_bring_no_value_of_an_event_into_the_fields_of_the_input() {
    let inner = |json: Json| json!({ "log": json.to_string() }).to_string();
    let parse = "[{parse: {field: log}}]";
    let parsed = |json: Json| one(parse, &inner(json));
    assert_eq!(parsed(json!({"host": "x", "a": 1})), json!({"a": 1, "event": {"host": "x"}}));
    assert_eq!(parsed(json!({"truncated": true, "offset": 0})), json!({"event": {"truncated": true, "offset": 0}}));
    assert_eq!(parsed(json!({"event": {"a": 1}, "file": "x"})), json!({"event": {"a": 1, "file": "x"}}));
    let both = json!({"log": json!({"host": "x"}).to_string(), "host": "y"}).to_string();
    assert_eq!(one(parse, &both), json!({"event": {"host": "x", "event": {"host": "y"}}}));
    let twice = r#"{"log":"{\"host\":1,\"host\":2}"}"#;
    assert_eq!(one(parse, twice), json!({"event": {"host": 2}}));
    // What the administrator writes is his choice.
    assert_eq!(one("[{parse: {field: log, into: up}}]", &inner(json!({"host": "x"}))), json!({"up": {"host": "x"}}));
    let chosen = made(&events(), "[{rename: {h: host}}, {add: {file: mine}}]", &[r#"{"h":"x"}"#]).remove(0);
    assert_eq!((&chosen["host"], &chosen["file"]), (&json!("x"), &json!("mine")));

    assert_eq!(one("[{unflatten: {}}]", r#"{"truncated.x":1}"#), json!({"truncated.x": 1}));
    assert_eq!(one("[{unflatten: {separator: _}}]", r#"{"host_x":1,"a_b":2}"#), json!({"host_x": 1, "a": {"b": 2}}));
    assert_eq!(one("[{flatten: {separator: at}}]", r#"{"trunc":{"ed":1}}"#), json!({"eventattruncated": 1}));
}

#[test]
fn other_separators_lead_nowhere_either() {
    let json = made(&dotted(), "[{unflatten: {separator: __}}]", &[r#"{"host__name":"x","host__ip":"y"}"#]).remove(0);
    assert_eq!((&json["host__name"], &json["host"]), (&json!("x"), &json!({"ip": "y"})));
    let json = made(&dotted(), "[{unflatten: {separator: __}}]", &[r#"{"log__file":{"path":"x"}}"#]).remove(0);
    assert_eq!((&json["log__file"], json.get("log")), (&json!({"path": "x"}), None));
    let mut events = events();
    events.fields.file = FieldName::Named("log_file".to_owned());
    let json = made(&events, "[{flatten: {separator: _}}]", &[r#"{"log":{"file":"x"}}"#]).remove(0);
    assert_eq!((&json["log_file"], &json["event_log_file"]), (&json!("/var/log/a.log"), &json!("x")));
}

#[test]
fn more_keys_than_are_remembered_change_nothing() {
    let odd: Vec<String> =
        (0..=TRIE_NODES_MAX).map(|number| format!("{{\"k{number}\":1,\"host\":{number}}}")).collect();
    let mut tracer = Tracer::new(&events(), &[chain("[]", false, &[Route::Always])], &Facts::of("web-03"));
    for lines in odd.chunks(512) {
        let batch = batch(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        tracer.begin(&batch);
        for (index, line) in lines.iter().enumerate() {
            let fields = tracer.event(&batch, index).fields.expect("fields");
            assert_eq!(fields.get("host"), Some("\"web-03\""), "{line}");
            assert!(fields.get("event").is_some_and(|event| event.starts_with("{\"host\":")), "{line}");
        }
    }
}

#[test]
fn the_origin_is_known_whatever_the_fields_say() {
    let line = r#"{"host":"x","file":"y","offset":9,"hostname":"z","origin":{"host":"q"}}"#;
    let verbs = r#"[{add: {o: "{{ origin().host }} {{ origin().file }} {{ origin().offset }} {{ origin().input }}",
        h: "{{ hostname }}", f: '{{ ["hostname"] }}'}}, {remove: [host, file, offset]},
        {filter: 'origin().host == "web-03" && origin().file == "/var/log/a.log" && origin().input == "a"'},
        {filter: 'timestamp(origin().timestamp) == timestamp("2026-11-23T10:20:30.123456Z")'}]"#;
    for (on_conflict, hostname) in [(OnConflict::Ours, "web-03"), (OnConflict::Theirs, "z")] {
        let mut events = Events { on_conflict, ..events() };
        // Whatever fields the input adds.
        for _ in 0..2 {
            let last = made(&events, verbs, &[line, line]).remove(1);
            assert_eq!(last["o"], format!("web-03 /var/log/a.log {} a", line.len()));
            assert_eq!((&last["h"], &last["f"]), (&json!(hostname), &json!("z")));
            let off = FieldName::Off;
            (events.fields.host, events.fields.file, events.fields.offset) = (off.clone(), off.clone(), off);
        }
    }
    let stream = Events { kind: crate::codec::envelope::EnvelopeKind::Stream, ..events() };
    let verbs = "[{if: has(origin().file) || has(origin().offset), then: [{add: {bad: true}}]}]";
    assert_eq!(made(&stream, verbs, &["{}"]).remove(0).get("bad"), None);
}

#[test]
fn a_condition_on_the_origin_is_explained_as_it_ran() {
    let routes = [when("origin().offset > 5"), when("origin().input == \"a\""), Route::Else];
    let mut tracer = Tracer::new(&events(), &[chain("[]", false, &routes)], &Facts::of("web-03"));
    let batch = batch(&["{}"]);
    tracer.begin(&batch);
    let trace = tracer.event(&batch, 0).pipelines.remove(0);
    let told: Vec<(bool, &str)> = trace.routes.iter().map(|route| (route.taken, route.why.as_str())).collect();
    assert_eq!(told[..2], [(false, "origin().offset > 5 is false"), (true, "origin().input == \"a\" is true")]);
}

fn value() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![Just(json!(null)), any::<u8>().prop_map(Json::from), "[a\"{}]{0,3}".prop_map(Json::from)];
    leaf.prop_recursive(2, 12, 3, object)
}

fn object(inner: impl Strategy<Value = Json>) -> impl Strategy<Value = Json> {
    let names = "host|file|offset|timestamp|truncated|event|a|b\\.c|host\\.a";
    proptest::collection::btree_map(names, inner, 0..6).prop_map(|map| Json::Object(map.into_iter().collect()))
}

proptest! {
    /// Nothing is lost, and no field of the input has a value of the event.
    #[test]
    fn every_value_is_where_the_model_says(event in object(value()), inner in object(value())) {
        let reserved = ["timestamp", "host", "file", "offset", "truncated"];
        let keep = |into: &mut Map<String, Json>, from: Map<String, Json>| {
            let (theirs, free): (Map<_, _>, Map<_, _>) = from.into_iter().partition(|(name, _)| reserved.contains(&name.as_str()));
            into.extend(free);
            if theirs.is_empty() {
                return;
            }
            let merged = match into.remove("event") {
                None => theirs,
                Some(Json::Object(own)) if !theirs.keys().any(|name| own.contains_key(name)) => own.into_iter().chain(theirs).collect(),
                Some(own) => theirs.into_iter().chain([("event".to_owned(), own)]).collect(),
            };
            into.insert("event".to_owned(), Json::Object(merged));
        };
        let mut expected = Map::new();
        keep(&mut expected, event.as_object().cloned().expect("an object"));
        prop_assert_eq!(one("[]", &event.to_string()), Json::Object(expected.clone()));
        let mut outer = event.clone();
        outer["log"] = Json::String(inner.to_string());
        keep(&mut expected, inner.as_object().cloned().expect("an object"));
        prop_assert_eq!(one("[{parse: {field: log}}]", &outer.to_string()), Json::Object(expected));
    }
}
