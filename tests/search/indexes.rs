//! Where events are stored: indexes named by dates and fields, templates of the server, data streams; and what arrives there.

use crate::case::Case;
use crate::lines::{self, block};
use crate::node::steady;
use crate::product::Product;
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use tailwater_services::search::Document;

const LINES: u64 = 5_000;

/// The date of an event, from its own timestamp.
fn date(document: &Document) -> String {
    document.source["timestamp"].as_str().expect("a time")[..10].replace('-', ".")
}

#[test]
fn events_go_to_the_index_of_their_day_and_service_under_their_own_id() {
    let search = steady().search();
    let case = Case::new("days");
    let more = ", id: \"{{ trace.id }}\", allow_replace: true, compression: gzip";
    let output = to_index(&steady().url(), "days-{{ service }}-%Y.%m.%d", more);
    let scene = Scene::new(case, "{type: stdin, parse: json}", &[("out", output)]);
    let (mut product, mut input) = Product::start_piped(&scene.case, &scene.config);
    product.expect("the index name `days-no name-");
    // The second is converted to lowercase, the third is missing, the fourth is not a valid index name.
    let services = ["\"service\":\"web\",", "\"service\":\"API\",", "", "\"service\":\"no name\","];
    let indexes = ["web", "api", "unknown"];
    // Each event twice.
    for number in (0..400).chain(0..400) {
        writeln!(input, "{{{}\"trace\":{{\"id\":\"t-{number}\"}},\"ü\":\"\\u00fc\"}}", services[number % 4])
            .expect("a line");
    }
    wait_for("all that is sent or refused", || match (scene.sent("out")?, scene.dead_letters("out", "rejected")?) {
        (600, 200) => Ok(()),
        other => Err(format!("{other:?}; {}", product.state())),
    });
    scene.assert_balance(&mut product);
    drop(input);
    assert_eq!(product.wait().code(), Some(0));
    let found = search.documents("days-*");
    assert_eq!(found.len(), 300);
    for document in &found {
        let number: usize = document.id.strip_prefix("t-").and_then(|number| number.parse().ok()).expect("an id");
        assert_eq!(document.index, format!("days-{}-{}", indexes[number % 4], date(document)));
        assert_eq!((&document.source["trace"]["id"], &document.source["ü"]), (&json!(document.id), &json!("ü")));
    }
}

#[test]
fn templates_of_the_server_are_applied() {
    let search = steady().search();
    let properties =
        json!({"message": {"type": "keyword"}, "host": {"type": "keyword"}, "timestamp": {"type": "date"}});
    let template = json!({"index_patterns": ["mapped-*"], "template": {"mappings": {"properties": properties}}});
    search.put_template("mapped", &template);
    let case = Case::new("templates");
    let input = from_file(&case, "");
    let scene = Scene::new(case, &input, &[("out", to_index(&steady().url(), "mapped-%Y", ""))]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start();
    scene.wait_for_documents(&mut product, &search, "mapped-*", LINES);
    scene.assert_balance(&mut product);
    product.terminate();
    documents(&search, "mapped-*", LINES).assert_exactly_once();
    // A whole line is one term only if the template was applied.
    let counted =
        |query: Value| search.ask("POST", "/mapped-*/_count", Some(&json!({ "query": query })))["count"].clone();
    assert_eq!(counted(json!({"term": {"message": lines::line(7)}})), 1);
    assert_eq!(counted(json!({"range": {"timestamp": {"gte": "now-1h", "lte": "now+1h"}}})), LINES);
}

#[test]
fn data_stream_stores_each_event_once() {
    let search = steady().search();
    search.put_template("stream", &json!({"index_patterns": ["stream-*"], "data_stream": {}}));
    let case = Case::new("stream");
    let input = from_file(&case, ", fields: {timestamp: \"@timestamp\"}");
    let with_id = to_index(&steady().url(), "stream-once", ", op: create, id: hash");
    let without = to_index(&steady().url(), "stream-plain", ", op: create");
    let scene = Scene::new(case, &input, &[("once", with_id), ("plain", without)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start();
    for index in ["stream-once", "stream-plain"] {
        scene.wait_for_documents(&mut product, &search, index, LINES);
    }
    scene.assert_balance(&mut product);
    product.terminate();
    for index in ["stream-once", "stream-plain"] {
        documents(&search, index, LINES).assert_exactly_once();
        let found = search.documents(index);
        assert!(found.iter().all(|document| document.index.starts_with(&format!(".ds-{index}-"))), "{:?}", found[0]);
    }
}

#[test]
fn output_http_posts_documents_one_by_one() {
    let search = steady().search();
    let case = Case::new("posts");
    let input = from_file(&case, "");
    let output = format!(
        "{{type: http, url: \"{}/posted/_doc\", headers: {{content-type: application/json}}, request_bytes: 1}}",
        steady().url()
    );
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, 300)).expect("lines");
    let mut product = scene.start();
    scene.wait_for_documents(&mut product, &search, "posted", 300);
    scene.assert_balance(&mut product);
    product.terminate();
    documents(&search, "posted", 300).assert_exactly_once();
}
