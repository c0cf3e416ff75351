//! An overloaded server: it rejects items of a request, or whole requests, and accepts them later.

use crate::case::Case;
use crate::lines::block;
use crate::metrics;
use crate::node::{Fragile, Stopped};
use crate::scene::{Scene, documents, from_file, to_index};
use crate::wait::wait_for;
use serde_json::json;
use std::fs;

const LINES: u64 = 10_000;

#[test]
fn only_rejected_items_are_sent_again() {
    let mut turn = Fragile::take(true);
    let (url, search) = (turn.node().url(), turn.node().search());
    // A request has a part for each shard of its index, and there is space for two of them.
    search.create_index("busy-items", &json!({"settings": {"number_of_shards": 4, "number_of_replicas": 0}}));
    let case = Case::new("busy-items");
    let input = from_file(&case, "");
    let output = to_index(&url, "busy-items", ", op: create, request_bytes: 256KiB");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    let mut product = scene.start_expecting(&["status 429", "HTTP 429"]);
    scene.wait_for_documents(&mut product, &search, "busy-items", LINES);
    scene.assert_balance(&mut product);
    let retries = scene.retries("out").expect("a scrape");
    assert!(retries > 0, "the server was never too busy");
    let log = product.log();
    assert!(log.contains("status 429") && log.contains("rejected_execution"), "{log}");
    product.terminate();
    // Without an id, an event that was accepted and sent again with others would be stored twice.
    documents(&search, "busy-items", LINES).assert_exactly_once();
}

#[test]
fn rejected_requests_are_retried_and_made_smaller_if_size_is_the_reason() {
    let mut turn = Fragile::take(true);
    let (url, search) = (turn.node().url(), turn.node().search());
    let indexes = ["busy-requests", "busy-large-requests"];
    for index in indexes {
        search.create_index(index, &json!({"settings": {"number_of_shards": 1, "number_of_replicas": 0}}));
    }
    let case = Case::new("busy-requests");
    let input = from_file(&case, "");
    // Two of these together exceed the server's limit.
    let medium = to_index(&url, indexes[0], ", request_bytes: 450KiB, concurrency: 8");
    // One of these exceeds its read limit, and half of one exceeds its limit in any case.
    let large = to_index(&url, indexes[1], ", request_bytes: 2MiB, batch: {max_age: 500ms}");
    let scene = Scene::new(case, &input, &[("medium", medium), ("large", large)]);
    fs::write(scene.log(), block(1, LINES)).expect("lines");
    // Until all lines are in the log, the server answers nothing: then requests are as large as they may be, and arrive together,
    // however slow this machine is.
    let stopped = Stopped::stop(turn.node());
    // Requests that are accepted together may still find no slot for the part of a shard.
    let mut product = scene.start_expecting(&["HTTP 429", "HTTP 413", "status 429"]);
    wait_for("all lines in the log", || match metrics::received_events(scene.case.admin_port)? {
        LINES => Ok(()),
        received => Err(format!("{received}; {}", product.state())),
    });
    drop(stopped);
    for index in indexes {
        scene.wait_for_documents(&mut product, &search, index, LINES);
    }
    scene.assert_balance(&mut product);
    for output in ["medium", "large"] {
        assert!(scene.retries(output).expect("a scrape") > 0, "the server was never too busy for {output}");
    }
    let log = product.log();
    assert!(log.contains("HTTP 429") && log.contains("HTTP 413"), "{log}");
    product.terminate();
    // Without an id: a request that is rejected as a whole was not accepted in part.
    for index in indexes {
        documents(&search, index, LINES).assert_exactly_once();
    }
}
