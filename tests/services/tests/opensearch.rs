//! OpenSearch as the tests use it: a real node keeps acknowledged documents over a kill, and rejects requests as the product
//! expects.

use serde_json::{Value, json};
use tailwater_services::opensearch::OpenSearch;

#[test]
fn killed_node_keeps_its_documents_and_rejects_according_to_its_settings() {
    let mut node = OpenSearch::start();
    let search = node.search();
    let source = |number: usize| json!({"number": number, "message": format!("line {number}")});
    let ids: Vec<String> = (0..100).map(|number| format!("{number:03}")).collect();
    let documents: Vec<(&str, Value)> = ids.iter().enumerate().map(|(n, id)| (id.as_str(), source(n))).collect();
    assert_eq!(search.index("kept", &documents), [201; 100]);
    assert_eq!(search.count("kept"), 100);

    node.kill();
    assert!(search.try_count("kept").is_err(), "a killed node answers");
    node.start_again_with(&["http.max_content_length=1mb", "indexing_pressure.memory.limit=512kb"]);
    assert_eq!(search.count("kept"), 100);
    for (number, document) in search.documents("kept").into_iter().enumerate() {
        assert_eq!((document.id, document.source), (ids[number].clone(), source(number)));
    }
    let body = |kibibytes: usize| {
        format!("{{\"index\":{{\"_index\":\"large\"}}}}\n{{\"text\":\"{}\"}}\n", "x".repeat(kibibytes << 10))
    };
    assert_eq!(search.bulk(body(10).as_bytes()).status, 200);
    assert_eq!(search.bulk(body(900).as_bytes()).status, 429);
    assert_eq!(search.bulk(body(1100).as_bytes()).status, 413);
    assert_eq!(search.count("large"), 1);
    node.stop();
    assert!(search.try_count("kept").is_err(), "a stopped node answers");
}

#[test]
fn a_mapping_conflict_is_the_items_own_400() {
    let search = OpenSearch::shared().search();
    search.create_index("typed", &json!({"mappings": {"properties": {"status": {"type": "integer"}}}}));
    let documents = [("a", json!({"status": 200})), ("b", json!({"status": "down"})), ("c", json!({"status": 404}))];
    assert_eq!(search.index("typed", &documents), [201, 400, 201]);
    assert_eq!(search.count("typed"), 2);
}

#[test]
fn blocks_make_items_403_and_429_until_they_are_removed() {
    let search = OpenSearch::shared().search();
    search.create_index("blocked", &json!({}));
    for (block, status) in [("write", 403), ("read_only_allow_delete", 429)] {
        search.block("blocked", block, true);
        assert_eq!(search.index("blocked", &[("a", json!({"n": 1}))]), [status], "{block}");
        search.block("blocked", block, false);
    }
    assert_eq!(search.index("blocked", &[("a", json!({"n": 1}))]), [201]);
    assert_eq!(search.count("blocked"), 1);
    search.delete_index("blocked");
    assert_eq!(search.count("blocked"), 0);
}

#[test]
fn data_stream_from_a_template_accepts_only_create_with_a_timestamp() {
    let search = OpenSearch::shared().search();
    search.put_template("streams", &json!({"index_patterns": ["stream-*"], "data_stream": {}}));
    let event = json!({"@timestamp": "2026-01-02T03:04:05.678Z", "n": 1});
    let body = format!(
        "{{\"create\":{{\"_index\":\"stream-a\",\"_id\":\"1\"}}}}\n{event}\n{{\"create\":{{\"_index\":\"stream-a\",\"_id\":\"1\"}}}}\n{event}\n\
         {{\"index\":{{\"_index\":\"stream-a\"}}}}\n{event}\n{{\"create\":{{\"_index\":\"stream-a\"}}}}\n{{\"n\":2}}\n"
    );
    let answer = search.bulk(body.as_bytes()).success().expect("the request as a whole is taken");
    let items = answer["items"].as_array().expect("items");
    let statuses: Vec<u64> =
        items.iter().filter_map(|item| item.as_object()?.values().next()?["status"].as_u64()).collect();
    assert_eq!(statuses, [201, 409, 400, 400]);
    assert_eq!(search.count("stream-a"), 1);
}
