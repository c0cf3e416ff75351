//! Events that the server will never take: refused with its reason, counted, and no harm to the others of their request.

use crate::case::Case;
use crate::node::steady;
use crate::scene::{Scene, from_file, to_index};
use crate::wait::wait_for;
use serde_json::json;
use std::fs;
use tailwater_services::search::Document;

const EVENTS: u64 = 3_000;

/// The value that a mapping as integer refuses, or none: every seventh event has a text, every eleventh an object.
fn unfit(number: u64) -> Option<&'static str> {
    match number {
        _ if number.is_multiple_of(7) => Some("\"down\""),
        _ if number.is_multiple_of(11) => Some("{\"code\":500}"),
        _ => None,
    }
}

fn event(number: u64) -> String {
    let status = unfit(number).map_or_else(|| (200 + number % 300).to_string(), str::to_owned);
    format!("{{\"number\":{number},\"status\":{status}}}\n")
}

fn numbers(documents: &[Document]) -> Vec<u64> {
    let mut numbers: Vec<u64> =
        documents.iter().map(|document| document.source["number"].as_u64().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn mapping_conflicts_refuse_their_events_and_no_others() {
    let search = steady().search();
    let mappings = json!({"properties": {"status": {"type": "integer"}}});
    search.put_template("typed", &json!({"index_patterns": ["typed-*"], "template": {"mappings": mappings}}));
    let case = Case::new("conflicts");
    let input = from_file(&case, ", parse: json");
    // Without ids, so that an event that is sent twice is there twice.
    let output = to_index(&steady().url(), "typed-events", ", request_bytes: 64KiB");
    let scene = Scene::new(case, &input, &[("out", output)]);
    fs::write(scene.log(), (1..=EVENTS).map(event).collect::<String>()).expect("events");
    let mut product = scene.start_expecting(&["events refused, the first: status 400, mapper_parsing_exception"]);

    let refused = (1..=EVENTS).filter(|number| unfit(*number).is_some()).count() as u64;
    wait_for("events that were sent or refused", || match (scene.sent("out")?, scene.discarded("out", "rejected")?) {
        left if left == (EVENTS - refused, refused) => Ok(()),
        left => Err(format!("{left:?}; {}", product.state())),
    });
    scene.assert_balance(&mut product);
    assert_eq!(scene.retries("out"), Ok(0), "what will never be taken is not tried again");
    product.wait_for_log(&["mapper_parsing_exception", "failed to parse field [status] of type [integer]", "down"]);
    product.terminate();
    let there = numbers(&search.documents("typed-events"));
    assert_eq!(there, (1..=EVENTS).filter(|number| unfit(*number).is_none()).collect::<Vec<_>>());
}
