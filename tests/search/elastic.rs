//! The same with Elasticsearch itself: its rejections, its order of a response, its data streams.

use crate::case::Case;
use crate::lines::block;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use serde_json::json;
use std::fs;
use tailwater_services::elasticsearch::Elasticsearch;

const LINES: u64 = 3_000;

#[test]
fn elasticsearch_has_every_event_once_under_its_id_and_in_a_data_stream() {
    let node = Elasticsearch::shared();
    let search = node.search();
    search.put_template("stream", &json!({"index_patterns": ["stream-*"], "data_stream": {}}));
    let case = Case::new("elastic");
    let input = from_file(&case, ", fields: {timestamp: \"@timestamp\"}");
    let outputs = [
        ("ids", to_index(&node.url(), "ids-%Y.%m", ", id: hash, compression: gzip, request_bytes: 64KiB")),
        ("stream", to_index(&node.url(), "stream-app", ", op: create, id: hash")),
        ("plain", to_index(&node.url(), "plain", "")),
    ];
    let scene = Scene::new(case, &input, &outputs);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start();
    let indexes = ["ids-*", "stream-app", "plain"];
    for index in indexes {
        scene.wait_for_documents(&mut product, &search, index, LINES);
    }
    scene.assert_balance(&mut product);
    product.terminate();
    for index in indexes {
        documents(&search, index, LINES).assert_exactly_once();
    }
}

#[test]
fn elasticsearch_rejects_unfit_events_and_accepts_the_rest() {
    let node = Elasticsearch::shared();
    let search = node.search();
    search.create_index("typed", &json!({"mappings": {"properties": {"status": {"type": "integer"}}}}));
    let case = Case::new("elastic-typed");
    let input = from_file(&case, ", parse: json");
    let scene = Scene::new(case, &input, &[("out", to_index(&node.url(), "typed", ""))]);
    let event = |number: u64| match number % 7 {
        0 => format!("{{\"number\":{number},\"status\":\"down\"}}\n"),
        _ => format!("{{\"number\":{number},\"status\":{number}}}\n"),
    };
    fs::write(scene.log(), (1..=LINES).map(event).collect::<String>()).expect("events");
    let mut product =
        scene.start_expecting(&["moved to the dead letter queue; the first: status 400, document_parsing_exception"]);
    let refused = LINES / 7;
    wait_for("events that were sent or refused", || {
        match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
            left if left == (LINES - refused, refused) => Ok(()),
            left => Err(format!("{left:?}; {}\n{}", product.state(), node.log_tail())),
        }
    });
    scene.assert_balance(&mut product);
    product.terminate();
    let mut numbers: Vec<u64> = search
        .documents("typed")
        .iter()
        .map(|document| document.source["number"].as_u64().expect("a number"))
        .collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=LINES).filter(|number| number % 7 != 0).collect::<Vec<_>>());
}
